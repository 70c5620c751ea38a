# SPDX-License-Identifier: MIT
"""The first boot: an image with a root that is not written to, and what it makes of its keys folder."""
import os
import random
import shutil
import signal
import subprocess
import time

from devices import TOP, Failure, Skip, read
from tiny_test import tiny

# A device boots: its root is the image, read-only or below an overlay of memory, and /data its partition.
BOOT = """set -e
mount --make-rprivate /
mount -t tmpfs memory $R/memory
mkdir $R/memory/upper $R/memory/work
root=$R/root
case $ROOT in
overlay) mount -t overlay -o lowerdir=$R/image,upperdir=$R/memory/upper,workdir=$R/memory/work none $root ;;
ro) mount --bind $R/image $root; mount -o remount,bind,ro $root ;;
esac
[ -z "$DATA" ] || mount --bind $R/data $root/data
mount -t proc proc $root/proc
mount --bind /dev $root/dev
exec chroot $root /bin/busybox sh -c "$RUN"
"""


class Image:
    """The image and the data partition of a device."""

    def __init__(self, ctx, name, binary=None):
        # Where memory is all there is nothing is kept, and the script is right to say so.
        kind = subprocess.run(["stat", "-f", "-c", "%T", ctx.root], capture_output=True, text=True).stdout.strip()
        if kind in ("tmpfs", "ramfs", "overlayfs"):
            raise Skip(f"the build folder lies on {kind}")
        if not shutil.which("busybox"):
            raise Skip("busybox is not there")
        self.top = f"{ctx.root}/{name}"
        self.data, self.image = f"{self.top}/data", f"{self.top}/image"
        for folder in ("root", "memory", "data", "image/bin", "image/proc", "image/data", "image/dev",
                       "image/usr/local/sbin", "image/usr/local/lib/baton", "image/etc/default",
                       "image/etc/baton/peers", "image/var/log", "image/var/run", "image/run"):
            os.makedirs(f"{self.top}/{folder}")
        shutil.copy(shutil.which("busybox"), f"{self.image}/bin/busybox")
        for tool in ("sh", "mkdir", "rmdir", "rm", "cp", "mv", "chmod", "mount", "sync", "sleep", "grep", "start-stop-daemon"):
            os.symlink("busybox", f"{self.image}/bin/{tool}")
        shutil.copy(binary or ctx.binary, f"{self.image}/usr/local/sbin/baton")
        for name in ("first-boot", "baton-receive"):
            shutil.copy(f"{TOP}/board/common/{name}", f"{self.image}/usr/local/lib/baton")
        with open(f"{self.image}/etc/baton/peers/other.pem", "w") as f:
            f.write("of the image\n")

    def settings(self, text):
        with open(f"{self.image}/etc/default/baton", "w") as f:
            f.write(text)

    def begin(self, root, data=True, run="exec /usr/local/lib/baton/first-boot"):
        """`run`: what the device does. Its processes end with it."""
        env = {"PATH": os.environ["PATH"], "R": self.top, "ROOT": root, "DATA": "y" if data else "", "RUN": run}
        return subprocess.Popen(["unshare", "--mount", "--uts", "--net", "--pid", "--fork", "--kill-child",
                                 "sh", "-c", f"hostname gateway\n{BOOT}"], env=env, stdin=subprocess.DEVNULL,
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)

    def boot(self, root, data=True, code=0, says="", **kw):
        process = self.begin(root, data, **kw)
        out, err = process.communicate(timeout=60)
        if process.returncode != code or says not in err:
            raise Failure(f"{root}: exit {process.returncode} instead of {code}: {out} {err}")
        return out


def good_pair(keys):
    """The public key of key.pem and of cert.pem is the same."""
    one = [subprocess.run(["openssl", *args], capture_output=True, text=True) for args in (
        ["pkey", "-in", f"{keys}/key.pem", "-pubout"], ["x509", "-in", f"{keys}/cert.pem", "-noout", "-pubkey"])]
    if any(done.returncode for done in one) or one[0].stdout != one[1].stdout:
        raise Failure(f"{keys} has no key with its certificate: {[done.stderr for done in one]}")


def test_kept(ctx):
    image = Image(ctx, "kept")
    image.settings("DATA=/data/baton/\nNAME=gateway-7\n")
    for argument, code in (("--help", 0), ("now", 2)):
        said = image.boot("ro", code=code, run=f"exec /usr/local/lib/baton/first-boot {argument}")
        if "usage: first-boot" not in said or os.listdir(image.data):
            raise Failure(f"first-boot {argument} says {said!r}, and has made {os.listdir(image.data)}")
    # As the image of the partition may have it: nothing of the device has begun there.
    os.mkdir(f"{image.data}/baton")
    said = image.boot("ro")
    keys = f"{image.data}/baton"
    if "name        gateway-7\n" not in said or "SHA-256" not in said:
        raise Failure(f"the first boot says {said}")
    for path, mode in (("", 0o700), ("/key.pem", 0o600), ("/peers", 0o700 if os.stat(
            f"{image.image}/etc/baton/peers").st_mode & 0o77 == 0 else 0o755)):
        if os.stat(keys + path).st_mode & 0o7777 != mode:
            raise Failure(f"{keys}{path} has mode {os.stat(keys + path).st_mode:o}")
    good_pair(keys)
    if read(f"{keys}/peers/other.pem") != "of the image\n":
        raise Failure("the peers of the image are not there")
    # Whom the device does not trust any more comes back with no boot, and with no update.
    os.remove(f"{keys}/peers/other.pem")
    key = read(f"{keys}/key.pem")
    for root in ("ro", "overlay"):
        if image.boot(root):
            raise Failure("another key was made")
        if read(f"{keys}/key.pem") != key or os.listdir(f"{keys}/peers"):
            raise Failure("a later boot changed the keys folder")


def test_memory(ctx):
    image = Image(ctx, "memory")
    image.settings("")
    # An overlay whose upper folder is memory; of a root that was changed to, nobody can see it.
    image.boot("overlay", code=1, says="/etc/baton (on overlay) is gone after a reboot")
    image.settings("KEPT=y\n")
    if "SHA-256" not in image.boot("overlay"):
        raise Failure("who says that it is kept gets no key")
    image.settings("DATA=/data/baton\n")
    image.boot("overlay", data=False, code=1, says="is gone after a reboot")
    image.boot("ro", data=False, code=1, says="is its partition mounted")
    if os.path.exists(f"{image.data}/baton"):
        raise Failure("something was written where no partition was")
    image.settings("")
    image.boot("ro", code=1, says="no key could be made in /etc/baton")
    os.remove(f"{image.image}/etc/baton/peers/other.pem")
    os.removedirs(f"{image.image}/etc/baton/peers")
    image.settings("DATA=/data/baton\n")
    image.boot("ro", code=1, says="make the folder in the image")


def test_tiny(ctx):
    image = Image(ctx, "tiny", tiny())
    image.settings("DATA=/data/baton\n")
    image.boot("ro", code=1, says="where the device is made")
    for name in ("key.pem", "cert.pem"):
        with open(f"{image.data}/baton/{name}", "w") as f:
            f.write("from elsewhere\n")
    image.boot("ro")


def test_power(ctx):
    """The power fails at any moment of the first boot; the next one ends with a whole keys folder."""
    image = Image(ctx, "power")
    image.settings("DATA=/data/baton\n")
    keys, early = f"{image.data}/baton", 0
    started = time.monotonic()
    image.boot("ro")
    took = time.monotonic() - started
    for seed in range(20):
        shutil.rmtree(keys)
        process = image.begin("ro")
        time.sleep(random.Random(seed).uniform(0, took))
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate(timeout=20)
        early += not os.path.exists(f"{keys}/key.pem")
        image.boot("ro")
        good_pair(keys)
        if read(f"{keys}/peers/other.pem") != "of the image\n":
            raise Failure(f"seed {seed}: the peers of the image are not there")
    if not early:
        raise Failure("no power cut came before the key was there")


def tests(ctx):
    return [(f"first boot: {name}", lambda f=function: f(ctx)) for name, function in (
        ("a root that is not written to, keys on a partition", test_kept),
        ("no key into memory, and why", test_memory),
        ("a baton that makes no keys", test_tiny),
        ("the power fails at any moment", test_power))]
