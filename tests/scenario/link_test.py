# SPDX-License-Identifier: MIT
"""The link under stress: slow, cut, deaf on one side, killed; in each stage of a move."""
import contextlib
import os
import signal
import threading

from cable import Drop, Unplug, on_net, shape
from devices import Failure, wait_for
from moves import Move
from victim import Victim

SLOW = "64kbit"
# Link speed and memory are such that the process is stopped, or filled, for several seconds.
MIDDLE = "8mbit"
SHARED_KIB = 6 * 1024


@contextlib.contextmanager
def ends(pair, which, kind=Drop):
    """A cut between the devices that is not made yet; it is over at the end in any case."""
    yield kind(*{"both": (pair.a, pair.b), "to the target": (pair.b,),
                 "to the source": (pair.a,)}[which])


def reconnects(m):
    return m.report(m.source)["reconnects"], m.report(m.target)["reconnects"]


def begin(ctx, pair, kind="memory 12", mode="lazy", rate="2", options=(), **kw):
    """A move that takes some seconds. (victim, move)"""
    victim = Victim(ctx, pair, kind)
    return victim, Move(pair, victim.pid, mode, rate=rate, timeout=80, send_options=options,
                        receive_options=options, **kw).begin()


def finish(victim, m):
    m.wait_complete()
    m.check_all()
    victim.check_after_move(m.pair.b)


# ---- slow ----

def slow_fill(ctx):
    """Runs on at once, faults are answered beside the push, and nobody takes the link for dead."""
    with ctx.pair() as pair:
        shape(pair, SLOW)
        victim, m = begin(ctx, pair, "kib 64", rate=None)
        m.wait_started()
        # It reads all of its memory now, while that is on its way.
        with open(f"{victim.folder}/go", "w"):
            pass
        finish(victim, m)
        if reconnects(m) != (0, 0):
            raise Failure(f"reconnected {reconnects(m)} times: {m.source.tail()}; {m.target.tail()}")
        if not m.report(m.target)["faults"]:
            raise Failure("the process touched nothing that was still to come")


def slow_description(ctx):
    """What is sent while it is stopped takes longer than a silent link is put up with."""
    with ctx.pair() as pair:
        shape(pair, SLOW)
        victim, m = begin(ctx, pair, "shared 48", rate=None)
        m.wait_started()
        finish(victim, m)
        stopped_ms = m.report(m.source)["downtime_us"] // 1000
        if stopped_ms < 4000:
            raise Failure(f"it was stopped for {stopped_ms} ms only: this tests nothing")


# ---- while memory follows ----

def wait_filling(m):
    m.wait_started()
    wait_for(lambda: any(name.endswith(".stat") for name in os.listdir(m.pair.b.state)), 10,
             "pages arrive")


def said(output, words):
    return sum(words in line for line in output.stderr.splitlines())


def urgent(ctx):
    """The connection that faults go over is marked, for the device's queues and for networks; the push is not."""
    with ctx.pair() as pair:
        victim, m = begin(ctx, pair)
        wait_filling(m)
        for device in (pair.a, pair.b):
            found = device.run(["ss", "-tnH", "--tos", "state", "established"]).stdout.splitlines()
            marked = [line for line in found if "tos:0x48" in line]
            if (len(marked), len(found)) != (1, 2):
                raise Failure(f"{device.name}: of two connections one is to be marked: {found}")
        finish(victim, m)


def short_cut(ctx):
    """One that TCP rides out: no new connection is needed."""
    with ctx.pair() as pair:
        victim, m = begin(ctx, pair)
        wait_filling(m)
        with ends(pair, "both") as cut:
            cut.on()
            wait_seconds(1)
            cut.off()
        finish(victim, m)
        if reconnects(m) != (0, 0):
            raise Failure(f"reconnected {reconnects(m)} times: {m.source.tail()}; {m.target.tail()}")


def wait_seconds(seconds):
    """How long a cut lasts is what is tested: the one fixed pause that there is."""
    threading.Event().wait(seconds)


def long_cut(ctx, seconds, kind, mode="lazy", options=()):
    """One that both sides notice. They meet again by themselves, and say so in a few lines."""
    with ctx.pair() as pair:
        victim, m = begin(ctx, pair, mode=mode, options=options)
        wait_filling(m)
        with ends(pair, "both", kind) as cut:
            cut.on()
            wait_seconds(seconds)
            cut.off()
        finish(victim, m)
        if 0 in reconnects(m):
            raise Failure(f"reconnected {reconnects(m)} times in a cut of {seconds} s")
        for side in (m.source, m.target):
            lines = [line for line in side.stderr.splitlines()
                     if "lost in stage" in line or "is away" in line or "again after" in line]
            if len(lines) != 2:
                raise Failure(f"{side.name} said of the cut: {' / '.join(lines)}")


def deaf(ctx, which):
    """Packets get through in one direction only, until both have noticed."""
    with ctx.pair() as pair:
        victim, m = begin(ctx, pair, options=("--keepalive", "2"))
        wait_filling(m)
        with ends(pair, which) as cut:
            cut.on()
            wait_for(lambda: said(m.source, "lost in stage") and said(m.target, "lost in stage"), 30,
                     "both sides notice")
            cut.off()
        finish(victim, m)


def killed(ctx):
    """ss -K: both connections end as if the kernel had thought of it."""
    with ctx.pair() as pair:
        victim, m = begin(ctx, pair)
        wait_filling(m)
        on_net(pair.a, "ss", "-K", "dst", pair.b.address)
        wait_for(lambda: said(m.source, "lost in stage"), 10, "the source notices")
        finish(victim, m)


def held(ctx):
    """Who has no more patience says so and leaves everything as it is; the move can be gone on with."""
    with ctx.pair() as pair:
        victim = Victim(ctx, pair, "memory 12")
        m = Move(pair, victim.pid, rate="2",
                 send_options=("--keepalive", "2", "--patience", "1")).begin()
        wait_filling(m)
        with ends(pair, "both") as cut:
            cut.on()
            code = m.source.wait(30)
            if code != 4 or "stays stopped here" not in m.source.stderr:
                raise Failure(f"exit {code}: {m.source.tail()}")
            if pair.a.status(victim.pid, "State")[0] not in "TtD":
                raise Failure(f"the copy is {pair.a.status(victim.pid, 'State')}")
            cut.off()
        move_id = m.report(m.source)["id"]
        out = pair.baton(pair.a, "resume", move_id)
        if out.wait(30):
            raise Failure(f"resume: exit {out.code}: {out.tail()}")
        m.target.wait(10)
        m.check_gone()
        m.check_clean()
        victim.check_after_move(pair.b)


# ---- cut while the process is stopped, and nothing is committed ----

def wait_stopped(m, victim):
    """Stopped at the source, and something has been built at the target."""
    wait_for(lambda: m.pair.a.status(victim.pid, "State")[0] in "tT", 20, "the process is stopped")
    wait_for(lambda: m.pair.b.alive(victim.pid), 20, "the target builds")
    m.expect_no_failure()


def check_runs_on(m, victim):
    """It runs again at the source, in the middle of the cut: there is nothing to wait for."""
    before, _ = victim.beat()
    wait_for(lambda: victim.beat()[0] > before + 5, 10, "the process runs on while the link is cut")
    if m.source.wait(40) != 1:
        raise Failure(f"exit {m.source.code}: {m.source.tail()}")


def check_moves_later(m, victim):
    """The target has given up as well, so that the next attempt succeeds."""
    pair = m.pair
    wait_for(lambda: m.target.code is not None, 60, "the target gives up")
    wait_for(lambda: not pair.b.alive(victim.pid), 10, "what was built is gone")
    again = Move(pair, victim.pid, timeout=60).begin()
    again.wait_started()
    finish(victim, again)


def stopped(ctx, mode, which):
    kind, rate = ("memory 24", "2") if mode == "eager" else (f"shared {SHARED_KIB}", None)
    with ctx.pair() as pair:
        if mode == "lazy":
            shape(pair, MIDDLE)
        victim, m = begin(ctx, pair, kind, mode=mode, rate=rate, options=("--keepalive", "2"))
        wait_stopped(m, victim)
        with ends(pair, which) as cut:
            cut.on()
            check_runs_on(m, victim)
            cut.off()
        check_moves_later(m, victim)


def hung_target(ctx):
    """The link stands, but nobody works at its other end."""
    with ctx.pair() as pair:
        shape(pair, MIDDLE)
        victim, m = begin(ctx, pair, f"shared {SHARED_KIB}", rate=None, options=("--keepalive", "2"))
        wait_stopped(m, victim)
        batons = pair.b.batons(pair.binary)
        for pid in batons:
            signal_in(pair.b, pid, signal.SIGSTOP)
        check_runs_on(m, victim)
        for pid in batons:
            signal_in(pair.b, pid, signal.SIGCONT)
        check_moves_later(m, victim)


def signal_in(device, pid, number):
    done = device.run(["kill", f"-{int(number)}", pid])
    if done.code:
        raise Failure(f"kill: {done.tail()}")


def tests(ctx):
    found = [
        ("link of 64 kbit/s while memory follows", lambda: slow_fill(ctx)),
        ("link of 64 kbit/s while it is stopped", lambda: slow_description(ctx)),
        ("link on which faults are urgent", lambda: urgent(ctx)),
        ("link cut for 15 s", lambda: long_cut(ctx, 15, Drop)),
        ("link unplugged for 15 s", lambda: long_cut(ctx, 15, Unplug)),
        ("link unplugged, pull", lambda: long_cut(ctx, 6, Unplug, "pull", ("--keepalive", "2"))),
        ("link cut for 1 s", lambda: short_cut(ctx)),
        ("link killed", lambda: killed(ctx)),
        ("link cut, no more patience", lambda: held(ctx)),
        ("link stands, target hangs while it is stopped", lambda: hung_target(ctx)),
    ]
    for which in ("to the target", "to the source"):
        found.append((f"link deaf {which}", lambda w=which: deaf(ctx, w)))
    for mode, which in (("eager", "both"), ("lazy", "both"), ("lazy", "to the target"),
                        ("lazy", "to the source")):
        found.append((f"link cut while it is stopped, {which}, {mode}",
                      lambda m=mode, w=which: stopped(ctx, m, w)))
    return found
