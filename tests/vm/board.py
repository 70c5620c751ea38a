# SPDX-License-Identifier: MIT
"""What ties baton to a device, with the devices of a guest: its serial line, a GPIO line, a watchdog."""
import subprocess

import rows
from devices import Failure
from matrix import ARCHS, KERNELS

CONSOLE_S, OUT_S, BITE_S = 60, 300, 300


class Line:
    """baton console on the serial line of a guest, which is a real one to it; the user is at the other end."""

    def __init__(self, tests, guest):
        self.guest, self.name = guest, ARCHS[KERNELS[tests.row.source.kernel].arch].console
        self.begun = guest.begin(f"baton-full console --machine --tty /dev/{self.name} --baud 115200")
        self.seen = self.begun[1]
        self.say(b"", r"! baton console\r?\n")

    def say(self, data, answer, timeout=CONSOLE_S):
        self.guest.popen.stdin.write(data)
        self.guest.popen.stdin.flush()
        found = self.guest.until(answer, timeout, f"{answer!r} on the serial line", self.seen)
        self.seen += found.end()
        return found

    def end(self):
        self.guest.popen.stdin.write(b"exit\r")
        self.guest.popen.stdin.flush()
        code, _ = self.guest.finish(self.begun)
        if code:
            raise Failure(f"the console ended with {code}")
        self.guest.must("true")  # the line is as it was


def run_console(tests):
    line = Line(tests, tests.guests().a)
    if "Linux" in line.say(b"version\r", r"architecture (\S+).*= 0 version\r?\n").group(1):
        raise Failure("no architecture")
    line.say(b"sta\xfftus\r", r"garbled.*= 2 -\r?\n")
    line.say(b"x" * 700 + b"\r", r"too long.*= 2 -\r?\n")
    line.say(b"nosuch\x15status\r", r"= 0 status\r?\n")
    line.say(b"status --watch\r", r"no move is under way\r?\n")
    line.say(b"\x03", r"= \d+ status\r?\n")
    line.end()
    return line.name


def protected(tests, away):
    """Has `away(pair, pid)` move a program that matters from a to b, where it ends well."""
    pair, pid = tests.guests(), 0
    try:
        pid = rows.prepared(pair, *rows.FAULTS_WITH)
        pair.b.must("receive")
        pair.a.must(f"printf 'PEER={pair.b.address}\\nBATON=baton-full\\nDEADLINE_MS=240000\\n' >/etc/baton/failover")
        pair.a.must("baton-full protect add it --command 'cat /d/ready'")
        said = away(pair, pid)
        code, result = pair.b.run(f"finish {rows.RESULT_S} {pid}", rows.RESULT_S + 20)
        if code:
            raise Failure(f"program: {result}; b: {pair.b.run('tail -n 4 /log/receive')[1]}")
        if pair.usable:
            pair.a.must("rm -r /etc/baton/protect /etc/baton/failover")
            rows.settled(pair, pid)
        return said
    except Failure:
        rows.clean_up(pair, pid)
        raise


def run_console_evacuate(tests):
    """Everything that matters leaves by a word on the serial line."""
    def away(pair, pid):
        line = Line(tests, pair.a)
        line.say(b"protect list\r", rf"it .*pid {pid}.*= 0 protect\r?\n")
        line.say(f"evacuate {pair.b.address}\r".encode(), rf"it \(pid {pid}\): runs there\r?\n.*= 0 evacuate\r?\n",
                 OUT_S)
        line.end()
        return line.name
    return protected(tests, away)


def start_hook(guest, name, command, variables=""):
    guest.must(f"{{ {variables} setsid /failover/{command} </dev/null >/log/{name} 2>&1 & echo $! >/run/{name}.pid; }}")


def end_of_out(guest, name):
    """Waits until the evacuation that a trigger has begun is over."""
    if guest.run(f"wait_for {OUT_S} grep -q 'out .* ended with' /log/{name}", OUT_S + 60)[0]:
        raise Failure(f"{name} does not evacuate: {guest.run(f'tail -n 5 /log/{name}')[1]}")
    if guest.run(f"grep -q 'out .* ended with 0' /log/{name}")[0]:
        raise Failure(f"{name}: {guest.run(f'tail -n 5 /log/{name}')[1]}")


def run_power_fail(tests):
    """An edge on a line of the guest's GPIO controller, seen by Debian's gpiomon."""
    chip, nr = ARCHS[KERNELS[tests.row.source.kernel].arch].power_line

    def away(pair, pid):
        for words, code in (("nosuchchip 3", 6), (chip, 2)):
            got, text = pair.a.run(f"/failover/power-fail {words}")
            if got != code:
                raise Failure(f"power-fail {words}: exit {got}: {text}")
        start_hook(pair.a, "power-fail", f"power-fail {chip} {nr} rising")
        try:
            pair.a.must("wait_for 30 watches_line")
            if pair.a.run("test -s /run/baton/failover.word")[0] == 0:
                raise Failure("it evacuates before the power fails")
            pair.a.press_power()
            end_of_out(pair.a, "power-fail")
            # And once more, now that nothing is here.
            pair.a.must("wait_for 30 watches_line")
        finally:
            pair.a.run("kill $(cat /run/power-fail.pid) $(pidof gpiomon)")
        return pair.a.must("gpiomon --version").splitlines()[0]
    return protected(tests, away)


def run_watchdog(tests):
    """It is not fed any more when the device is ill; what matters leaves, and then the device is reset by it."""
    module, seconds = ARCHS[KERNELS[tests.row.source.kernel].arch].watchdog

    def away(pair, pid):
        pair.a.must(f"load_modules watchdog {seconds}")
        pair.a.must("touch /run/well")
        start_hook(pair.a, "watchdog", "watchdog", "HEALTH='test -e /run/well' EVERY=1 PRETIMEOUT=3")
        pair.a.must("wait_for 30 test -e /proc/$(cat /run/watchdog.pid)/fd/3")
        pair.a.must("sleep 5")
        if pair.a.run(f"alive {pid}")[0]:
            raise Failure("it evacuates though the device is well")
        pair.a.must("rm /run/well")
        end_of_out(pair.a, "watchdog")
        try:
            pair.a.popen.wait(BITE_S)
        except subprocess.TimeoutExpired:
            raise Failure(f"{module} does not reset the device")
        return module
    return protected(tests, away)


def tests_of(tests):
    found = [("baton console", lambda: run_console(tests)),
             ("evacuate from the console", lambda: run_console_evacuate(tests))]
    if ARCHS[KERNELS[tests.row.source.kernel].arch].power_line:
        found.append(("a power-fail line", lambda: run_power_fail(tests)))
    return found
