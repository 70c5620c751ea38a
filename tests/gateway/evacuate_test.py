# SPDX-License-Identifier: MIT
"""Evacuations: all, in order, in time; back; against each other; over a link that flaps; into a full peer."""
import os
import resource
import signal
import subprocess
import time

from devices import PORT, Failure, read, wait_for
from fleet import allow_recall, evacuate, expect_on, fleet, host_pid, moves, protect, run, stages
from victim import Receiver, Victim


def test_there_and_back(ctx):
    with fleet(ctx) as (pair, victims):
        out = evacuate(pair)
        if out.stdout.count("runs there\n") != 3:
            raise Failure(f"evacuate says {out.stdout}")
        expect_on(pair.b, pair.a, *victims)
        again = evacuate(pair)
        if again.stdout.count("does not run here") != 3:
            raise Failure(f"a second time it says {again.stdout}")
        run(pair, pair.a, "evacuate", "--back")
        expect_on(pair.a, pair.b, *victims)
        run(pair, pair.a, "evacuate", "--back", f"{pair.b.address}:{PORT}")
        # And once more: what came back is sent like anything else.
        evacuate(pair)
        expect_on(pair.b, pair.a, *victims)
        for v in victims:
            v.check_after_move(pair.b)


def test_order(ctx):
    with ctx.pair() as pair:
        Receiver(pair)
        protect(ctx, pair, "low", "nothing", "--priority", "-3")
        protect(ctx, pair, "app", "nothing", "--priority", "9", "--after", "base")
        protect(ctx, pair, "high", "nothing", "--priority", "7")
        base = protect(ctx, pair, "base", "nothing", "--priority", "1")
        evacuate(pair)
        began = [line.split("(pid ")[1].split(")")[0] for line in
                 subprocess.run(["cat"] + [r for r in [f"{pair.folder}/{n}" for n in os.listdir(pair.folder)]
                                           if "baton-receive" in r and r.endswith(".err")],
                                capture_output=True, text=True).stdout.splitlines() if " offers " in line]
        names = {str(protect_pid(pair, n)): n for n in ("low", "app", "high", "base")}
        order = [names.get(pid, pid) for pid in began]
        if order != ["high", "base", "app", "low"]:
            raise Failure(f"they went in the order {order} ({base.pid})")


def protect_pid(pair, name):
    with open(f"{pair.folder}/{name}.pid") as f:
        return int(f.read())


def test_deadline(ctx):
    """What can never be there in time stays and runs; the others are there."""
    with fleet(ctx, kinds=("nothing", "shared 16384")) as (pair, victims):
        small, large = victims
        run(pair, pair.a, "protect", "add", "v0", "--pidfile", small.pidfile, "--priority", "1", state=False)
        subprocess.run(["nsenter", "-t", str(pair.a.init), "-n", "tc", "qdisc", "add", "dev", "veth0", "root",
                        "tbf", "rate", "4mbit", "burst", "20kb", "latency", "100ms"], check=True)
        out = evacuate(pair, "--deadline", "4000", code=None)
        if out.code not in (1, 4) or "v1" not in out.stdout or "stays and runs here" not in out.stdout:
            raise Failure(f"exit {out.code}: {out.stdout}")
        expect_on(pair.a, pair.b, large)
        if moves(pair.a):
            wait_for(lambda: not moves(pair.a), 20, "nothing is left half-way")
        expect_on(pair.b, pair.a, small)


def came_from_elsewhere(device, victim):
    """As if this process had been sent by a third device: the record of another one, with its numbers and
    another certificate."""
    name = next(n for n in os.listdir(device.state) if n.endswith(".came"))
    lines = dict(line.split(" ", 1) for line in read(f"{device.state}/{name}").splitlines() if " " in line)
    # As the device sees it, whose clocks are its own.
    start = device.run(["cat", f"/proc/{victim.pid}/stat"]).stdout.rsplit(")", 1)[1].split()[19]
    lines.update({"id": "0123456789abcdef", "pid": str(victim.pid), "pid-start": start,
                  "fingerprint": lines["fingerprint"][::-1]})
    with open(f"{device.state}/0123456789abcdef-target.came", "w") as f:
        f.write("".join(f"{key} {value}\n" for key, value in lines.items()) + "end\n")


def test_rights(ctx):
    """Only with a right, and only what came from the device that asks."""
    with fleet(ctx, kinds=("nothing",), recall=False) as (pair, victims):
        evacuate(pair)
        out = run(pair, pair.a, "evacuate", "--back", code=3)
        if "allow-recall device-a" not in out.stderr:
            raise Failure(f"what is missing is not said: {out.stderr}")
        expect_on(pair.b, pair.a, *victims)
        own = protect(ctx, pair, "own", device=pair.b)
        came_from_elsewhere(pair.b, own)
        allow_recall(pair.b, "device-a")
        run(pair, pair.a, "evacuate", "--back")
        expect_on(pair.a, pair.b, *victims)
        expect_on(pair.b, pair.a, own)
        own.check_unharmed(60000)


def test_against_each_other(ctx):
    with fleet(ctx, kinds=("memory 8", "nothing")) as (pair, victims):
        theirs = [protect(ctx, pair, f"w{i}", kind, device=pair.b)
                  for i, kind in enumerate(("memory 8", "nothing"))]
        one = pair.baton(pair.a, "evacuate", f"{pair.b.address}:{PORT}")
        two = pair.baton(pair.b, "evacuate", f"{pair.a.address}:{PORT}")
        for out in (one, two):
            out.wait(60)
            if out.code:
                raise Failure(f"exit {out.code}: {out.stdout} {out.tail()}")
        # Each was somewhere when it was looked at, and is in one place now.
        for v in victims + theirs:
            wait_for(lambda v=v: pair.a.alive(v.pid) != pair.b.alive(v.pid), 20, f"{v.name} is in one place")
        expect_on(pair.b, pair.a, *victims)
        expect_on(pair.a, pair.b, *theirs)
        for device in (pair.a, pair.b):
            wait_for(lambda d=device: not moves(d), 10, "nothing is left half-way")


def test_interrupted(ctx):
    """The evacuation is killed half-way: its moves go on, and another one goes on with the rest."""
    with fleet(ctx, kinds=("memory 48", "nothing", "nothing")) as (pair, victims):
        subprocess.run(["nsenter", "-t", str(pair.a.init), "-n", "tc", "qdisc", "add", "dev", "veth0", "root",
                        "tbf", "rate", "80mbit", "burst", "64kb", "latency", "100ms"], check=True)
        out = pair.baton(pair.a, "evacuate", f"{pair.b.address}:{PORT}")
        wait_for(lambda: stages(pair.a), 20, "it has begun")
        host = int(open(f"/proc/{out.popen.pid}/task/{out.popen.pid}/children").read().split()[0])
        os.kill(host, signal.SIGKILL)
        out.wait(10)
        evacuate(pair, timeout=90)
        expect_on(pair.b, pair.a, *victims)


def test_flapping(ctx):
    """The link goes down and up all the time."""
    with fleet(ctx, kinds=("memory 24", "nothing", "memory 8"), receive=("--keepalive", "2")) as (pair, victims):
        out = pair.baton(pair.a, "evacuate", f"{pair.b.address}:{PORT}")
        for _ in range(4):
            for state, seconds in (("down", 0.4), ("up", 1.2)):
                subprocess.run(["nsenter", "-t", str(pair.a.init), "-n", "ip", "link", "set", "veth0", state],
                               check=True)
                try:
                    out.popen.wait(seconds)
                except subprocess.TimeoutExpired:
                    pass
        out.wait(90)
        if out.code not in (0, 1, 5):
            raise Failure(f"exit {out.code}: {out.stdout} {out.tail()}")
        evacuate(pair, timeout=90)
        expect_on(pair.b, pair.a, *victims)
        for device in (pair.a, pair.b):
            wait_for(lambda d=device: not moves(d), 20, "nothing is left half-way")


def test_full(ctx):
    """A peer that has no room: the number is taken there. It stays and runs, the others go."""
    with fleet(ctx) as (pair, victims):
        taken = victims[1]
        pair.b.run(["sh", "-c", f"echo {taken.pid - 1} > /proc/sys/kernel/ns_last_pid; exec true"])
        other = None
        for _ in range(20):
            pair.b.run(["sh", "-c", f"echo {taken.pid - 2} > /proc/sys/kernel/ns_last_pid"])
            other = Victim(ctx, pair, device=pair.b)
            if pair.b.alive(taken.pid):
                break
        else:
            raise Failure("the number cannot be taken on the other device")
        out = evacuate(pair, code=3)
        if out.stdout.count("stays and runs here (code 3)") != 1 or "is taken on this device" not in out.stderr:
            raise Failure(f"evacuate says {out.stdout} {out.stderr}")
        before = taken.beat()[0]
        wait_for(lambda: taken.beat()[0] > before, 10, "the one that stays runs")
        expect_on(pair.b, pair.a, victims[0], victims[2])
        return f"{other.pid}"


def test_nobody_there(ctx):
    with ctx.pair() as pair:
        victim = protect(ctx, pair, "v0")
        out = evacuate(pair, code=5)
        if "stays and runs here (code 5)" not in out.stdout:
            raise Failure(f"evacuate says {out.stdout}")
        victim.check_unharmed(60000)
        # A name that nobody has is said once, and nothing is tried.
        out = run(pair, pair.a, "evacuate", "nohost", code=5)
        if out.stderr.count("nobody is known as 'nohost'") != 1 or len(out.stderr.splitlines()) != 1 or out.stdout:
            raise Failure(f"evacuate nohost says {out.stdout} {out.stderr}")
        # Nothing has gone there, so that is not where anything is.
        run(pair, pair.a, "evacuate", "--back", code=2)
        run(pair, pair.a, "evacuate", "--back", f"{pair.b.address}:{PORT}", code=5)
        with ctx.pair() as other:
            out = run(other, other.a, "evacuate", f"{other.b.address}:{PORT}")
            if "nothing is to be moved" not in out.stdout:
                raise Failure(f"evacuate says {out.stdout}")


def slow(device, rate):
    """What the device sends takes its time."""
    subprocess.run(["nsenter", "-t", str(device.init), "-n", "tc", "qdisc", "replace", "dev", "veth0", "root",
                    "tbf", "rate", rate, "burst", "20kb", "latency", "100ms"], check=True)


def fast(device):
    subprocess.run(["nsenter", "-t", str(device.init), "-n", "tc", "qdisc", "del", "dev", "veth0", "root"],
                   check=True)


def test_still_coming(ctx):
    """What is asked back, or evacuated, before all its memory has come is waited for."""
    with fleet(ctx, kinds=("memory 8",)) as (pair, victims):
        slow(pair.a, "16mbit")
        out = evacuate(pair, "--deadline", "1", code=None)
        # One way or the other: a deadline of a millisecond may be met by a move that was just committed.
        if out.code == 1:
            out = pair.baton(pair.a, "send", victims[0].pid, f"{pair.b.address}:{PORT}")
        wait_for(lambda: "started" in stages(pair.b), 20, "it runs there, and its memory is coming")
        run(pair, pair.a, "evacuate", "--back", f"{pair.b.address}:{PORT}")
        expect_on(pair.a, pair.b, *victims)
        out = pair.baton(pair.a, "send", victims[0].pid, f"{pair.b.address}:{PORT}")
        wait_for(lambda: "started" in stages(pair.b), 20, "it runs there, and its memory is coming")
        there = evacuate(pair, device=pair.b)
        if there.stdout.count("runs there\n") != 1:
            raise Failure(f"evacuate says {there.stdout}")
        expect_on(pair.a, pair.b, *victims)


def test_back_deadline(ctx):
    """A device that does not answer is waited for until the deadline, not for as long as one may dial."""
    with ctx.pair() as pair:
        receiver = Receiver(pair)
        os.kill(host_pid(receiver.output), signal.SIGSTOP)
        try:
            patient = pair.baton(pair.a, "evacuate", "--back", f"{pair.b.address}:{PORT}", state=False,
                                 *("--state", f"{pair.folder}/other"))
            run(pair, pair.a, "evacuate", "--back", "--deadline", "300", f"{pair.b.address}:{PORT}", code=5)
            if patient.code is not None:
                raise Failure("the one without a deadline was not slower")
        finally:
            os.kill(host_pid(receiver.output), signal.SIGCONT)
        patient.wait(60)


def test_two_at_once(ctx):
    """The second says who works on it, and takes nothing for its own."""
    with fleet(ctx, kinds=("memory 16", "nothing")) as (pair, victims):
        slow(pair.a, "32mbit")
        first = pair.baton(pair.a, "evacuate", f"{pair.b.address}:{PORT}")
        wait_for(lambda: stages(pair.a), 20, "it has begun")
        for options in ((), ("--back",)):
            second = run(pair, pair.a, "evacuate", *options, f"{pair.b.address}:{PORT}", code=3)
            if f"pid {pair.a.pid_of(first)} evacuates" not in second.stderr or second.stdout:
                raise Failure(f"the second says {second.stdout} {second.stderr}")
        first.wait(60)
        if first.code or first.stdout.count("runs there\n") != 2:
            raise Failure(f"the first says {first.stdout} {first.tail()}")
        expect_on(pair.b, pair.a, *victims)


def test_restarted(ctx):
    """A service that is started again while others are on their way is found by its new number."""
    with ctx.pair() as pair:
        for device in (pair.a, pair.b):
            Receiver(pair, device=device)
        first = protect(ctx, pair, "first", "shared 4096", "--priority", "5")
        old = protect(ctx, pair, "second")
        slow(pair.a, "8mbit")
        out = pair.baton(pair.a, "evacuate", f"{pair.b.address}:{PORT}")
        wait_for(lambda: stages(pair.a), 20, "the first one is on its way")
        new = Victim(ctx, pair)
        with open(old.pidfile, "w") as f:
            f.write(f"{new.pid}\n")
        pair.a.run(["kill", "-9", str(old.pid)])
        out.wait(60)
        if out.code or f"second (pid {new.pid}): runs there" not in out.stdout:
            raise Failure(f"exit {out.code}: {out.stdout} {out.tail()}")
        new.name = "second"
        expect_on(pair.b, pair.a, first, new)


def test_not_found(ctx):
    """What nobody can tell of is not taken for what does not run."""
    with fleet(ctx, kinds=("nothing", "nothing")) as (pair, victims):
        run(pair, pair.a, "protect", "add", "unit", "--unit", "nosuch.service", state=False)
        run(pair, pair.a, "protect", "add", "fails", "--command", "exit 4", state=False)
        run(pair, pair.a, "protect", "add", "none", "--command", "pgrep -x nosuch", state=False)
        os.unlink(victims[0].pidfile)
        out = evacuate(pair, code=1)
        for line in ("v0: cannot be found (code 1)", "unit: cannot be found (code 1)",
                     "fails: cannot be found (code 1)", "none: does not run here\n",
                     f"v1 (pid {victims[1].pid}): runs there"):
            if line not in out.stdout:
                raise Failure(f"evacuate says {out.stdout}")
        for words in (f"{victims[0].pidfile} is not there; of what came here by a move it stayed",
                      "systemctl does not tell of nosuch.service", "fails with 4", "none: its command says nothing"):
            if words not in out.stderr:
                raise Failure(f"evacuate says {out.stderr}")
        expect_on(pair.a, pair.b, victims[0])
        for name in ("unit", "fails"):
            run(pair, pair.a, "protect", "remove", name, state=False)
        # As at the other device, where it never ran: no pid file, and no process of its program.
        pair.a.run(["kill", "-9", str(victims[0].pid)])
        wait_for(lambda: not pair.a.alive(victims[0].pid), 10, "it has ended")
        out = evacuate(pair)
        if out.stdout.count("does not run here\n") != 3:
            raise Failure(f"evacuate says {out.stdout}")


def test_slow_answer(ctx):
    """Who is asked for a pid has no more time than the deadline leaves; what is not found by then stays."""
    with fleet(ctx, kinds=()) as (pair, _):
        victim = Victim(ctx, pair)
        hangs = f"{pair.folder}/hangs"
        run(pair, pair.a, "protect", "add", "slow", "--command", f"[ ! -e {hangs} ] || sleep 4; echo {victim.pid}",
            state=False)
        open(hangs, "w").close()
        began = time.monotonic()
        out = evacuate(pair, "--deadline", "500", code=1)
        took = time.monotonic() - began
        if "slow: cannot be found (code 1)" not in out.stdout or "does not answer" not in out.stderr or took > 3:
            raise Failure(f"after {took:.1f} s: {out.stdout} {out.stderr}")
        victim.check_unharmed(60000)


def test_guest_not_found(ctx):
    """What came here by a move left its pid file where it was: the list says so, and it is moved as a guest."""
    with fleet(ctx, kinds=("nothing",)) as (pair, victims):
        evacuate(pair)
        expect_on(pair.b, pair.a, *victims)
        os.rename(victims[0].pidfile, f"{victims[0].pidfile}.there")
        run(pair, pair.b, "protect", "add", "v0", "--pidfile", victims[0].pidfile, state=False)
        listed = run(pair, pair.b, "protect", "list", state=False).stdout
        if "stayed on the other device: that is moved as a guest, and found with --command" not in listed:
            raise Failure(f"the list says {listed}")
        out = evacuate(pair, device=pair.b, code=1)
        if f"(pid {victims[0].pid}): runs there" not in out.stdout or "moved as a guest" not in out.stderr:
            raise Failure(f"evacuate says {out.stdout} {out.stderr}")
        expect_on(pair.a, pair.b, *victims)


def test_scarce(ctx):
    """A receiver that has no descriptor to look for a process does not forget where it came from."""
    with fleet(ctx, kinds=("nothing",)) as (pair, victims):
        evacuate(pair)
        wait_for(lambda: not moves(pair.b), 10, "the move has ended")
        record = next(n for n in os.listdir(pair.b.state) if n.endswith(".came"))
        host = host_pid(pair.receivers[1].output)
        used = {int(n) for n in os.listdir(f"/proc/{host}/fd")}
        # Two that are free: enough to read the folder and a record in it, too few to look into /proc/PID.
        free = [n for n in range(len(used) + 3) if n not in used]
        before = resource.prlimit(host, resource.RLIMIT_NOFILE)
        resource.prlimit(host, resource.RLIMIT_NOFILE, (free[2], before[1]))
        text = read(f"{pair.b.state}/{record}")
        boot = next(line for line in text.splitlines() if line.startswith("boot "))
        # It has swept when this one, which is of another boot, is gone.
        dead = f"{pair.b.state}/00000000000000aa-target.came"
        with open(dead, "w") as f:
            f.write(text.replace(record[:16], "0" * 14 + "aa").replace(boot, "boot of another time"))
        wait_for(lambda: not os.path.exists(dead), 20, "what is of another boot is swept")
        resource.prlimit(host, resource.RLIMIT_NOFILE, before)
        run(pair, pair.a, "evacuate", "--back")
        expect_on(pair.a, pair.b, *victims)


def test_deaf_parent(ctx):
    """Started by somebody who ignores SIGCHLD: how the moves end is heard nevertheless."""
    with fleet(ctx) as (pair, victims):
        out = pair.a.run(["env", "--ignore-signal=CHLD", ctx.binary, "evacuate", "--keys", pair.a.keys,
                          "--state", pair.a.state, f"{pair.b.address}:{PORT}"], timeout=60)
        if out.code or out.stdout.count("runs there\n") != 3:
            raise Failure(f"exit {out.code}: {out.stdout} {out.tail()}")
        expect_on(pair.b, pair.a, *victims)


def tests(ctx):
    return [(f"evacuate: {name}", lambda f=function: f(ctx)) for name, function in (
        ("there and back", test_there_and_back), ("order", test_order), ("deadline", test_deadline),
        ("rights", test_rights), ("against each other", test_against_each_other),
        ("killed half-way", test_interrupted), ("a link that flaps", test_flapping),
        ("a peer that is full", test_full), ("nobody there", test_nobody_there),
        ("memory that is still coming", test_still_coming), ("back, with a deadline", test_back_deadline),
        ("two at once on one device", test_two_at_once), ("started again meanwhile", test_restarted),
        ("what cannot be found", test_not_found), ("a slow answer", test_slow_answer),
        ("a guest has no pid file", test_guest_not_found), ("SIGCHLD ignored", test_deaf_parent),
        ("no descriptor is left", test_scarce))]
