# SPDX-License-Identifier: MIT
"""The tests of a row of the matrix: its two guests, started when the first test wants them."""
import json
import os

import board
from devices import Failure
from guest import GuestPair, NotStarted, qemu_of
from matrix import KERNELS, PROGRAMS

# More than the program itself asks for: there all goes slower.
SETTLE_S = {"waits:apart": 15}
BOOTS = 3
READY_S, RESULT_S, SEND_S = 120, 180, 240


class RowTests:
    nr = 0

    def __init__(self, row, images_of, folder):
        """images_of: gives (kernel image, initramfs) of a kernel's name."""
        self.row, self.images_of, self.folder = row, images_of, folder
        self.pair, self.moved, self.refused = None, [], 0

    @property
    def name(self):
        return f"{self.row.source.name} to {self.row.target.name}"

    def guests(self):
        """The pair, a new one when the last test has left no good one."""
        if self.pair and not self.pair.usable:
            self.close()
        if not self.pair:
            for m in (self.row.source, self.row.target):
                qemu_of(KERNELS[m.kernel].arch)
            ends = []
            for m in (self.row.source, self.row.target):
                kernel, initramfs = self.images_of(m.kernel)
                ends.append((kernel, m.cpu, initramfs))
            self.pair = self.start(ends)
        return self.pair

    def start(self, ends):
        """An emulated kernel now and then panics while it starts, long before there is a baton."""
        for left in reversed(range(BOOTS)):
            RowTests.nr += 1
            try:
                return GuestPair(*ends, self.folder, RowTests.nr)
            except NotStarted as why:
                print(f"# {self.name}: {str(why)[:300]}", flush=True)
                if not left:
                    raise

    def close(self):
        if self.pair:
            self.pair.close()
        self.pair = None

    def summary(self):
        text = f"# {self.name}: {len(self.moved)} moved"
        if self.moved:
            times = sorted(self.moved)
            text += f", downtime_us {times[0]} to {times[-1]}, median {times[len(times) // 2]}"
        return text + (f"; {self.refused} refused" if self.refused else "")


def prepared(pair, binary, arg, settle=0):
    """Starts a program on a, and gives b the same files. Returns its pid."""
    code, text = pair.a.run(f"start {READY_S} {binary} {arg}", READY_S + 20)
    if code:
        raise Failure(f"before the move: {text}")
    if settle:
        pair.a.must(f"sleep {settle}")
    pair.b.must("receive_files")
    pair.a.must(f"send_files {pair.b.address}")
    pair.b.must("have_files")
    return int(text.split()[-1])


def logs(pair):
    return "; ".join(f"{g.name}: {' / '.join(g.run(f'tail -n 4 /log/{log}')[1].splitlines())}"
                     for g, log in ((pair.a, "send"), (pair.b, "receive")))


def settled(pair, pid):
    """Both state folders are empty, no baton is left, nor the old copy."""
    pair.b.must("stop_receive")
    for guest, what in ((pair.a, f"gone {pid}"), (pair.a, "no_move"), (pair.b, "no_move"),
                        (pair.a, "no_baton"), (pair.b, "no_baton")):
        if guest.run(f"wait_for 10 {what}")[0]:
            raise Failure(f"{guest.name}: not {what.replace('_', ' ')} after the move; {logs(pair)}")


def clean_up(pair, pid):
    """After a failure: the next test finds no process of this one. Guests that do not manage are left."""
    try:
        for guest in (pair.a, pair.b):
            guest.must(f"clean_up {pid or ''}")
    except Failure:
        pair.a.dead = pair.a.dead or "a test left something behind"


def run_moved(tests, binary, arg, settle, options=""):
    """One move; returns what to say of it."""
    pair, pid = tests.guests(), 0
    try:
        pid = prepared(pair, binary, arg, settle)
        pair.b.must("receive")
        code, text = pair.a.run(f"baton send --json {options} {pid} {pair.b.address} 2>/log/send", SEND_S)
        if tests.row.refused:
            return expect_refused(tests, pair, pid, code, text)
        if code:
            raise Failure(f"send: exit {code}; {logs(pair)}")
        code, result = pair.b.run(f"finish {RESULT_S} {pid}", RESULT_S + 20)
        if code:
            raise Failure(f"program: {result}; {logs(pair)}")
        settled(pair, pid)
        downtime = json.loads(text.splitlines()[-1])["downtime_us"]
        tests.moved.append(downtime)
        return f"downtime_us {downtime}"
    except Failure:
        clean_up(pair, pid)
        raise


def run_kernel_tls(tests):
    """A move in which the kernels of both guests encrypt and decrypt."""
    pair, pid = tests.guests(), 0
    guests = (pair.a, pair.b)
    try:
        for guest in guests:  # the program that can hand it to them
            guest.must("mount -o bind /bin/baton-full /bin/baton")
        pid = prepared(pair, *FAULTS_WITH)
        pair.b.must("receive --verbose")
        code, _ = pair.a.run(f"baton send --verbose {pid} {pair.b.address} 2>/log/send", SEND_S)
        if code:
            raise Failure(f"send: exit {code}; {logs(pair)}")
        code, result = pair.b.run(f"finish {RESULT_S} {pid}", RESULT_S + 20)
        if code:
            raise Failure(f"program: {result}; {logs(pair)}")
        said = [g.run(f"grep 'kernel does.* TLS with' /log/{log}")[1] for g, log in
                ((pair.a, "send"), (pair.b, "receive"))]
        settled(pair, pid)
    except Failure:
        clean_up(pair, pid)
        raise
    finally:
        for guest in guests:
            guest.run("umount -l /bin/baton")
    # Each side says it of both lanes.
    if any(text.count("the kernel does the TLS with") < 2 or "does not" in text for text in said):
        raise Failure(f"not by the kernel: {said}")
    return ""


# On which guest what is done in the middle of a move; what happens there five seconds later; options.
SLOW = "--max-rate 1"
CUT, JOIN = "ip link set eth0 down", "ip link set eth0 up"
KILL_FIRST = "kill -9 $(workers | head -n 1)"
KILL_LAST = "kill -9 $(workers | tail -n 1)"
FAULTS = {
    "memory (--on-demand)": ("a", "true", "", "--on-demand"),
    "the elder baton of the source is killed": ("a", KILL_FIRST, "", SLOW),
    "the younger baton of the source is killed": ("a", KILL_LAST, "", SLOW),
    "the elder worker of the target is killed": ("b", KILL_FIRST, "", SLOW),
    "the younger worker of the target is killed": ("b", KILL_LAST, "", SLOW),
    "the receiver is killed and started again": ("b", "kill -9 $(cat /run/receive.pid)", "receive", SLOW),
    "the link is down at the source": ("a", CUT, JOIN, SLOW),
    "the link is down at the target": ("b", CUT, JOIN, SLOW),
}
FAULTS_WITH = ("memory.musl-static", "")


def run_fault(tests, where, fault, then, options):
    """A move slow enough to be disturbed while memory is still coming; it must end well nevertheless. (One
    on demand ends when everything has been touched.)"""
    pair, pid = tests.guests(), 0
    guest = pair.a if where == "a" else pair.b
    partly = "partly" if options == "--on-demand" else ""
    try:
        pid = prepared(pair, *FAULTS_WITH)
        pair.b.must("receive")
        pair.a.must(f"begin_send {options} {pid} {pair.b.address}")
        pair.b.must(f"wait_for 60 started {pid}")
        guest.must(fault)
        guest.must("sleep 5")
        if pair.a.run("no_move")[0] == 0:
            raise Failure("the move was over before the fault")
        if then:
            guest.must(then)
        code, result = pair.b.run(f"finish {RESULT_S} {pid} {partly}", RESULT_S + 20)
        if code:
            raise Failure(f"program: {result}; {logs(pair)}")
        pair.a.must("wait_for 60 no_baton")
        settled(pair, pid)
        return ""
    except Failure:
        clean_up(pair, pid)
        raise


def expect_refused(tests, pair, pid, code, text):
    """Exit code 3, with a reason that has the words; and the process is as it was."""
    reason = pair.a.must("tail -n 1 /log/send")
    if code != 3 or tests.row.refused not in reason:
        raise Failure(f"exit {code}, not 3 and '{tests.row.refused}': {text} {logs(pair)}")
    pair.b.must("stop_receive")
    code, result = pair.a.run(f"finish {RESULT_S} {pid}", RESULT_S + 20)
    if code:
        raise Failure(f"the program that was refused: {result}")
    tests.refused += 1
    return f"refused: {reason[:160]}"


def run_check(tests):
    """baton check finds on both kernels what it needs."""
    pair = tests.guests()
    for guest in (pair.a, pair.b):
        code, text = guest.run("baton check")
        if code:
            raise Failure(f"{guest.name}: exit {code}: {' / '.join(text.splitlines()[-8:])}")
    return ""


def variants(words, programs):
    """(name of the test, binary, arg, settle) for the words of a row."""
    by_name = {p.name: p for p in programs}
    for word in PROGRAMS[words].split():
        name, _, build = word.partition("/")
        name, _, arg = name.partition(":")
        program = by_name[name]
        for one in [arg] if arg else program.args:
            yield (" ".join(filter(None, (name, one, build))), f"{name}.{build or 'musl-static'}", one,
                   SETTLE_S.get(word, program.settle))


def binaries(row_words, programs, folder):
    """The programs a row needs, as paths."""
    return {os.path.join(folder, binary) for words in row_words
            for _, binary, _, _ in variants(words, programs)}


def tests_of(tests, programs):
    """(name, function) of a row."""
    found = [] if tests.row.refused else [("baton check", lambda: run_check(tests))]
    found += [] if tests.row.refused else board.tests_of(tests)
    found += [(name, lambda b=binary, a=arg, s=settle: run_moved(tests, b, a, s))
             for name, binary, arg, settle in variants(tests.row.programs, programs)]
    if not tests.row.refused:
        found.append(("the kernel does the TLS", lambda: run_kernel_tls(tests)))
    if tests.row.faults:
        found.append(("memory (--eager)", lambda: run_moved(tests, *FAULTS_WITH, 0, "--eager")))
        found += [(name, lambda f=fault: run_fault(tests, *f)) for name, fault in FAULTS.items()]
        found.append(("a watchdog that bites", lambda: board.run_watchdog(tests)))
    return [(f"{tests.name}: {name}", function) for name, function in found]
