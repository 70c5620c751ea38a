# SPDX-License-Identifier: MIT
"""Clocks: a process that is moved more than once, one that had a namespace of its own, and a target that
cannot make one. What the clocks say is told by clocks.c, as in the group programs."""
import copy
import os
import re

from devices import PORT, Failure, Skip, read, wait_for
from moves import MODES, Move, move
from programs_test import touch
from victim import Receiver, Victim, send

# A device on which no time namespace can be made, told by the kernel's own limit.
FORBIDDEN = ["unshare", "--user", "--map-root-user", "sh", "-c",
             'echo 0 > /proc/sys/user/max_time_namespaces && exec "$@"', "sh"]
# One that has not the right to set its clocks; the program must not have more than it can get there.
WITHOUT_RIGHT = ["setpriv", "--bounding-set", "-sys_time", "--inh-caps", "-all"]
# What a wait that is continued looks like, and how many of clocks.c are: arm64 has no poll(2).
RESTART_SYSCALL, CONTINUED = ("219", 6) if os.uname().machine == "x86_64" else ("128", 5)
WAIT_S = 15


def turned(pair):
    """The same pair, for a move from b to a."""
    other = copy.copy(pair)
    other.a, other.b = pair.b, pair.a
    return other


def start(ctx, pair, before=(), args=("points",)):
    """clocks.c on device a. Returns (pid, folder)."""
    if not os.path.exists("/proc/self/ns/time"):
        raise Skip("this kernel has no time namespaces")
    folder = f"{pair.folder}/d"
    os.mkdir(folder)
    output = pair.a.start([*before, f"{ctx.tools}/clocks.musl-static", folder, *args], name="clocks")

    def ready():
        if output.code is not None:
            raise Failure(f"clocks does not start: {read(folder + '/result')} {output.tail()}")
        return read(f"{folder}/ready")
    return int(wait_for(ready, 20, "clocks is ready")), folder


def finish(folder, words=r"^ok"):
    touch(f"{folder}/go")
    wait_for(lambda: read(f"{folder}/result"), 40, "the program says how it went")
    touch(f"{folder}/end")
    if not re.search(words, read(f"{folder}/result")):
        raise Failure(f"the program does not say {words!r}: {read(folder + '/result')}")


def time_ns(device, pid):
    return os.readlink(device.proc(pid, "ns/time"))


def expect_own(device, pid, own):
    """Whether the process has a time namespace of its own, or is in that of the device."""
    if (time_ns(device, pid) != time_ns(device, 1)) != own:
        raise Failure(f"on device {device.name} it is in {time_ns(device, pid)}, "
                      f"device {time_ns(device, 1)}")


def there_and_back(ctx, ahead, mode):
    """At home it needs no namespace any more."""
    with ctx.pair(ahead=ahead) as pair:
        pid, folder = start(ctx, pair)
        for _ in range(2):
            move(pair, pid, mode)
            expect_own(pair.b, pid, True)
            move(turned(pair), pid, mode)
            expect_own(pair.a, pid, False)
        finish(folder)


def sleeping(device, pid):
    """How many of its threads sleep in a wait that was continued: in restart_syscall."""
    tasks = device.proc(pid, "task")
    calls = [read(f"{tasks}/{t}/syscall").split()[:1] for t in os.listdir(tasks)]
    return calls.count([RESTART_SYSCALL])


def wait_asleep(device, pid):
    """Until all of clocks.c's threads whose wait the kernel continues by a restart block are in it."""
    wait_for(lambda: sleeping(device, pid) >= CONTINUED, 10, "its waits go on")


def continued(ctx, moves, stop=False):
    """Waits for a while that are continued for the second time: no error, and not an instant too early."""
    with ctx.pair(ahead=(100000, 5000)) as pair:
        pid, folder = start(ctx, pair, args=(str(WAIT_S), *(["stopped"] if stop else [])))
        if stop:
            pair.a.run(["kill", "-STOP", str(pid)])
            wait_for(lambda: pair.a.status(pid, "State")[0] == "T", 10, "it stands")
            pair.a.run(["kill", "-CONT", str(pid)])
        for i in range(moves):
            there = turned(pair) if i % 2 else pair
            if i or stop:
                wait_asleep(there.a, pid)
            move(there, pid)
        finish(folder)


def from_a_namespace(ctx, options=()):
    """Clocks of its own, from whoever started it: they go on, too."""
    with ctx.pair() as pair:
        pid, folder = start(ctx, pair, ["unshare", "--time", "--monotonic", "-500",
                                                "--boottime", "7000", "--fork"])
        expect_own(pair.a, pid, True)
        m = Move(pair, pid, receive_options=options).begin()
        m.target.wait(40), m.source.wait(40)
        m.expect_no_failure()
        finish(folder)


def refused(ctx, ahead):
    """By name, before anything is stopped; told by a check as well."""
    with ctx.pair(ahead=ahead) as pair:
        victim = Victim(ctx, pair)
        binary = pair.binary
        pair.b.start(FORBIDDEN + [binary, "receive", "--keys", pair.b.keys, "--state", pair.b.state,
                                  "--port-file", f"{pair.folder}/port"], name="receive")
        wait_for(lambda: read(f"{pair.folder}/port"), 10, "baton receive listens")
        words = r"clocks .*would jump by [-+]\d+\.\d+ s .*time namespace.*--allow-clock-jump"
        out = send(pair, victim.pid)
        if out.code != 3 or not re.search(words, out.stderr):
            raise Failure(f"exit {out.code}: {out.tail()}")
        victim.check_unharmed()
        out = pair.baton(pair.a, "check", "--pid", victim.pid, "--peer", pair.b.address)
        out.wait(20)
        if out.code != 3 or not re.search(rf"(?m)^refused +peer +.*{words}", out.stdout):
            raise Failure(f"check: exit {out.code}: {out.stdout[-1400:]}")
        victim.check_unharmed()


def needs_none(ctx):
    """Devices that were started at the same moment: nothing is refused for what is not needed."""
    with ctx.pair(ahead=(0, 0)) as pair:
        victim = Victim(ctx, pair)
        pair.b.start(WITHOUT_RIGHT + [pair.binary, "receive", "--once", "--keys", pair.b.keys,
                                      "--state", pair.b.state, "--port-file",
                                      f"{pair.folder}/port"], name="receive")
        wait_for(lambda: read(f"{pair.folder}/port"), 10, "baton receive listens")
        out = pair.baton(pair.a, "check", "--pid", victim.pid, "--peer", pair.b.address)
        if out.wait(20):
            raise Failure(f"check: exit {out.code}: {out.stdout[-400:]}")


def allowed(ctx, ahead, mode, at_target=False):
    """It was asked for: both sides say by how much, the process runs on, and sees the jump."""
    jump = ahead[1] - ahead[0]
    option = ["--allow-clock-jump"]
    with ctx.pair(ahead=ahead) as pair:
        pid, folder = start(ctx, pair, WITHOUT_RIGHT)
        listen, name = f"{pair.a.address}:{PORT}", {"keys": pair.b.keys, "state": pair.b.state}
        common = [v for k in ("keys", "state") for v in (f"--{k}", name[k])]
        if mode == "pull":
            source = pair.baton(pair.a, "dump", *([] if at_target else option), "--serve", listen, pid)
            Move.listening(source, pair.a)
            target = pair.b.start(WITHOUT_RIGHT + [pair.binary, "restore", *common, "--from", listen,
                                                   *(option if at_target else [])], name="restore")
        else:
            target = pair.b.start(WITHOUT_RIGHT + [pair.binary, "receive", *common, "--once"],
                                  name="receive")
            Move.listening(target, pair.b)
            source = pair.baton(pair.a, "send", *option, pid, pair.b.address)
        for side in (source, target):
            if side.wait(40):
                raise Failure(f"{side.name}: exit {side.code}: {side.tail()}")
            if not re.search(rf"warning: .*clocks .*jump by \{'+' if jump > 0 else '-'}\d+\.\d+ s",
                             side.stderr):
                raise Failure(f"{side.name} has not warned: {side.stderr}")
        finish(folder, "^FAIL .*has advanced by" if jump > 0 else "^FAIL .*went back")


def tests(ctx):
    found = [(f"clocks there and back, {mode}, from {a} s to {b} s ahead",
              lambda m=mode, a=a, b=b: there_and_back(ctx, (a, b), m))
             for mode in MODES if mode != "on-demand" for a, b in ((100000, 5000), (0, 100000))]
    return found + [
        ("clocks: waits, there and back", lambda: continued(ctx, 2)),
        ("clocks: waits of a process that was stopped, and moved", lambda: continued(ctx, 1, stop=True)),
        ("clocks of a namespace of its own", lambda: from_a_namespace(ctx)),
        ("clocks with --pidns", lambda: from_a_namespace(ctx, ["--pidns"])),
        ("clocks: no time namespaces, back", lambda: refused(ctx, (100000, 0))),
        ("clocks: no time namespaces, forward", lambda: refused(ctx, (0, 100000))),
        ("clocks: no time namespace is needed", lambda: needs_none(ctx)),
        ("clocks: --allow-clock-jump, back", lambda: allowed(ctx, (100000, 0), "lazy")),
        ("clocks: --allow-clock-jump, forward", lambda: allowed(ctx, (0, 100000), "lazy")),
        ("clocks: --allow-clock-jump, dump", lambda: allowed(ctx, (100000, 0), "pull")),
        ("clocks: --allow-clock-jump, restore", lambda: allowed(ctx, (100000, 0), "pull", True)),
    ]
