# SPDX-License-Identifier: MIT
"""Evacuations: all, in order, in time; back; against each other; over a link that flaps; into a full peer."""
import os
import signal
import subprocess

from devices import PORT, Failure, read, wait_for
from fleet import allow_recall, evacuate, expect_on, fleet, moves, protect, run, stages
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
        run(pair, pair.a, "evacuate", "--back", state=False)
        expect_on(pair.a, pair.b, *victims)
        run(pair, pair.a, "evacuate", "--back", f"{pair.b.address}:{PORT}", state=False)
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
        out = run(pair, pair.a, "evacuate", "--back", code=1, state=False, timeout=90)
        if "allow-recall device-a" not in out.stderr:
            raise Failure(f"what is missing is not said: {out.stderr}")
        expect_on(pair.b, pair.a, *victims)
        own = protect(ctx, pair, "own", device=pair.b)
        came_from_elsewhere(pair.b, own)
        allow_recall(pair.b, "device-a")
        run(pair, pair.a, "evacuate", "--back", state=False)
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
        out = run(pair, pair.a, "evacuate", "--back", code=5, state=False)
        with ctx.pair() as other:
            run(other, other.a, "evacuate", "--back", code=2, state=False)
            out = run(other, other.a, "evacuate", f"{other.b.address}:{PORT}")
            if "nothing is to be moved" not in out.stdout:
                raise Failure(f"evacuate says {out.stdout}")


def tests(ctx):
    return [(f"evacuate: {name}", lambda f=function: f(ctx)) for name, function in (
        ("there and back", test_there_and_back), ("order", test_order), ("deadline", test_deadline),
        ("rights", test_rights), ("against each other", test_against_each_other),
        ("killed half-way", test_interrupted), ("a link that flaps", test_flapping),
        ("a peer that is full", test_full), ("nobody there", test_nobody_there))]
