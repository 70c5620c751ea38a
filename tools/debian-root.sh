# SPDX-License-Identifier: MIT
# shellcheck shell=sh
# A private apt root, sourced by debian-source and debian-package: own sources, lists and cache under
# $aptroot, verified with Debian's keyring; /etc/apt and dpkg's state stay as they are.
#
# Set before: $aptroot, $types (deb or deb-src), and fail(), which says what is wrong and ends.
# Afterwards apt-get means this root, and $aptroot/updated is there once its lists were fetched.

keyring=/usr/share/keyrings/debian-archive-keyring.gpg

for tool in apt-get dpkg-source flock; do
	command -v $tool >/dev/null || fail "$tool is missing; run 'make setup' (needs Debian)"
done
[ -r $keyring ] || fail "$keyring is missing; install debian-archive-keyring"

mkdir -p "$aptroot/etc" "$aptroot/none" "$aptroot/lists/partial" "$aptroot/cache/archives/partial"
aptroot=$(cd "$aptroot" && pwd)
exec 9>"$aptroot/lock"
flock 9

# The base of the mirror of Debian itself: not the security archive, no third party.
mirror=$(apt-get indextargets --format '$(ORIGIN) $(REPO_URI) $(COMPONENT)' 'Created-By: Packages' |
	awk '$1 == "Debian" && $3 == "main" && $2 !~ /security/ { print $2; exit }')
if [ -z "$mirror" ]; then # no list was fetched yet: the origin is not known
	mirror=$(apt-get update --print-uris 2>/dev/null |
		sed -n "s,^'\([^']*/debian/\{0\,1\}\)/*dists/[a-z]*/InRelease'.*,\1,p" | head -n 1)
fi
[ -n "$mirror" ] || fail "no Debian mirror in this machine's apt sources"

cat >"$aptroot/etc/debian.sources" <<END
Types: $types
URIs: $mirror
Suites: bookworm trixie
Components: main
Signed-By: $keyring
END
: >"$aptroot/status"
cat >"$aptroot/apt.conf" <<END
APT::Architectures { "amd64"; "arm64"; };
Dir::Etc::sourcelist "$aptroot/etc/debian.sources";
Dir::Etc::sourceparts "$aptroot/none";
Dir::Etc::preferences "-";
Dir::Etc::preferencesparts "$aptroot/none";
Dir::State::status "$aptroot/status";
Dir::State::lists "$aptroot/lists";
Dir::Cache "$aptroot/cache";
APT::Sandbox::User "root";
APT::Get::List-Cleanup "false";
Acquire::Languages "none";
Acquire::Retries "3";
DPkg::Lock::Timeout "60";
END
export APT_CONFIG="$aptroot/apt.conf"

# The lists are fetched once, and again when a package of theirs has vanished meanwhile.
update() {
	echo "  APT     lists of bookworm and trixie ($types)"
	apt-get -qq update </dev/null || fail "apt-get update failed for $mirror"
	touch "$aptroot/updated"
}

# with_lists COMMAND...: runs it with lists, and once more with new ones when it fails.
with_lists() {
	[ -e "$aptroot/updated" ] || { update; "$@"; return; }
	"$@" || { update; "$@"; }
}
