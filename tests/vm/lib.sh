# SPDX-License-Identifier: MIT
# shellcheck shell=sh
# What the tests have done in a guest.

# wait_for SECONDS COMMAND...: polls. Waiting costs the emulated processor, which the guest needs.
wait_for() {
	wait_left=$(($1 * 10))
	shift
	until "$@"; do
		[ $((wait_left -= 1)) -gt 0 ] || return 1
		usleep 100000
	done
}

# start SECONDS PROGRAM [ARG]: starts a scenario program, prints its pid when it may be moved.
start() {
	start_s=$1
	shift
	rm -rf /d && mkdir -m 777 /d && cd /d || return 1
	program=$1
	shift
	setsid "/programs/$program" /d "$@" </dev/null >/dev/null 2>&1 &
	echo $! >/run/program.pid
	wait_for "$start_s" ready_or_over || { echo "$program does not get ready"; return 1; }
	[ ! -e /d/result ] || { cat /d/result; return 1; }
	cat /d/ready
}
ready_or_over() { [ -e /d/ready ] || [ -e /d/result ]; }

# Both guests have the same files: all of /d goes from here to there. tar talks to the socket itself: nc
# ends its side when either of its inputs ends.
receive_files() {
	rm -rf /d /run/files && mkdir -m 777 /d && cd /d || return 1
	{
		setsid nc -l -p 7001 -e tar x
		echo $? >/run/files.part
		mv /run/files.part /run/files
	} </dev/null 2>/dev/null &
	wait_for 10 listens 7001
}
have_files() { wait_for 60 test -e /run/files && [ "$(cat /run/files)" = 0 ]; }
send_files() { timeout 60 nc "$1" 7001 -e tar c -C /d .; }

listens() { netstat -ltn 2>/dev/null | grep -q ":$1 "; }

# receive [OPTION...]: a baton that takes processes, until stop_receive.
receive() {
	setsid baton receive "$@" --json </dev/null >/log/receive.out 2>/log/receive &
	echo $! >/run/receive.pid
	wait_for 30 listens 7117 || { cat /log/receive; return 1; }
}
stop_receive() {
	kill "$(cat /run/receive.pid)"
	wait_for 20 no_baton
}

# A move whose end is seen by what is left.
begin_send() {
	setsid baton send "$@" </dev/null >/log/send 2>&1 &
}
# The process runs here, though its memory may be still to come.
started() { alive "$1" && grep -q '^TracerPid:.0$' "/proc/$1/status"; }

# The processes of baton, the eldest first; but for the one that listens.
workers() { batons | sort -n | grep -vx "$(cat /run/receive.pid 2>/dev/null)"; }
batons() {
	for exe in /proc/[0-9]*/exe; do
		[ "$(readlink "$exe")" != /bin/baton ] || { exe=${exe#/proc/}; echo "${exe%/exe}"; }
	done
}
no_baton() { [ -z "$(batons)" ]; }

alive() { [ -d "/proc/$1" ] && ! grep -q '^State:.[ZX]' "/proc/$1/status" 2>/dev/null; }
gone() { ! alive "$1"; }

no_move() { set -- /run/baton/*.move; [ ! -e "$1" ]; }

# finish SECONDS PID [partly]: the program, moved here, checks itself; nothing of baton is in it. partly: on
# demand, what it never touches does not come.
finish() {
	touch /d/go
	wait_for "$1" has_result || { echo "no result; $(grep State "/proc/$2/status")"; return 1; }
	cat /d/result
	grep -q ^ok /d/result || return 1
	[ ! -e /d/result.twice ] || { echo "two copies ran"; return 1; }
	grep -q "netns $(stat -L -c %i /proc/self/ns/net)" /d/result || { echo "ran to its end, but not here"; return 1; }
	grep -q '^TracerPid:.0$' "/proc/$2/status" || { echo "still traced"; return 1; }
	[ -n "$3" ] || wait_for 60 no_move || { echo "its memory does not all come"; return 1; }
	[ -n "$3" ] || ! grep -q '^VmFlags:.* um' "/proc/$2/smaps" || { echo "memory still waits for pages"; return 1; }
	! ls -l "/proc/$2/fd" | grep userfaultfd || return 1
	touch /d/end
	wait_for 10 gone "$2" || { echo "does not end when told"; return 1; }
}

# clean_up [PID]: nothing of a move is left, however it stands.
clean_up() {
	set -- "$@" $(batons)
	rm -rf /run/baton/*
	[ -e /run/program.pid ] && set -- "$@" "$(cat /run/program.pid)"
	for pid; do
		kill -9 "$pid" 2>/dev/null
	done
	rm -f /run/program.pid
	for group in /sys/fs/cgroup/baton-*/cgroup.freeze; do
		[ ! -e "$group" ] || echo 0 >"$group"
	done
	for pid; do
		wait_for 5 gone "$pid" || return 1
	done
	no_baton
}
# A process waits for an edge of a GPIO line.
watches_line() { ls -l /proc/[0-9]*/fd 2>/dev/null | grep -q 'anon_inode:gpio'; }

# load_modules LIST PARAMETER: what is in a list of /modules; the parameter is that of the last, the others ignore it.
load_modules() {
	while read -r module; do
		insmod "/modules/$module" "$2" || return 1
	done <"/modules/$1"
}

has_result() { [ -e /d/result ]; }
