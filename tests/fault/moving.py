# SPDX-License-Identifier: MIT
"""One move that is looked after as a device's init scripts and its operator would, whatever is done
to it meanwhile; and what must hold when it is over."""
import contextlib
import os
import signal
import threading
import time

from devices import PORT, Failure, Pair, read, wait_for
from faults import Network, Service, engines
from moves import check_clean, executable_maps
from watched import Verifier, check_history

KILLED = -signal.SIGKILL
# Who has ended may have left what the operator has to deal with; a moment, and it is no race.
ALONE_S = 0.3
GIVE_UP_S = 5
# Longer than any patience of the protocol (docs/protocol.md), and than TCP's after a cut of seconds.
LIMIT_S = 75
# A pair's pids count up, and both devices must keep clear of each other's.
MOVES_OF_A_PAIR = 150
STAGES = {"source": ("offered", "frozen", "committed", "serving", "drained"),
          "target": ("offered", "building", "ready", "started", "complete")}


class Arena:
    """A pair of devices, both with a `baton receive` that is kept alive. Used for many moves."""

    def __init__(self, ctx):
        self.pair = Pair(ctx.binary, ctx.tools, ctx.root)
        self.binary = ctx.binary
        self.verifier_program = ctx.verifier
        self.services = {}
        self.nr_moves = 0
        try:
            for device in (self.pair.a, self.pair.b):
                self.services[device.name] = Service(self.pair, device)
            self.wait_ready()
        except BaseException:
            self.close()
            raise

    def tend(self):
        for service in self.services.values():
            service.tend()

    def verifier(self, device, seed=1, mib=4, threads=2, forks=0):
        """Starts one on a device."""
        self.nr_moves += 1
        self.wait_ready()
        return Verifier(self.verifier_program, f"{self.pair.folder}/v{self.nr_moves}", device, seed,
                        mib, threads, forks)

    def wait_ready(self):
        """Both listen."""
        def ready():
            self.tend()
            return all(d.listens(PORT) for d in (self.pair.a, self.pair.b))
        wait_for(ready, 10, "baton receive listens")

    def close(self):
        self.pair.close()

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.close()


class Arenas:
    """Arenas that are used again, by tests that run beside each other."""

    def __init__(self, ctx):
        self.ctx, self.lock, self.idle = ctx, threading.Lock(), []

    @contextlib.contextmanager
    def use(self):
        """An arena for one test; one in which a test failed is used no more."""
        with self.lock:
            arena = self.idle.pop() if self.idle else None
        arena = arena or Arena(self.ctx)
        try:
            yield arena
        except BaseException:
            arena.close()
            raise
        if arena.nr_moves >= MOVES_OF_A_PAIR:
            arena.close()
            return
        with self.lock:
            self.idle.append(arena)

    def close(self):
        while self.idle:
            self.idle.pop().close()


def moves_in(device, role=None):
    """{file name: stage} of the moves in a device's state folder."""
    found = {}
    try:
        names = os.listdir(device.state)
    except OSError:
        names = []
    for name in names:
        if name.endswith(".move") and (not role or name.endswith(f"-{role}.move")):
            for line in read(f"{device.state}/{name}").splitlines():
                if line.startswith("stage "):
                    found[name] = line[6:].strip()
    return found


class Moving:
    """A move of a process from `source` to `target`, both devices of the arena."""

    def __init__(self, arena, source, target, pid, mode="lazy", rate=None, options=(), env=None):
        self.arena, self.source, self.target, self.pid = arena, source, target, pid
        self.devices = {"source": source, "target": target}
        self.mode, self.rate, self.options, self.env = mode, rate, list(options), dict(env or {})
        self.network = Network(source, target)
        self.maps = executable_maps(source, pid)
        self.cgroup = read(source.proc(pid, "cgroup"))
        self.commands, self.alone_since, self.notes = [], None, []
        self.unfetched_since = self.given_up_since = None
        self.began = None
        self.ended = False    # the process was ended by the test
        self.operator = True  # whether a move that nobody works on is picked up here

    # ---- beginning, and what keeps it going ----

    def begin(self):
        pair, source, target = self.arena.pair, self.source, self.target
        rate = ["--max-rate", self.rate] if self.rate else []
        for service in self.arena.services.values():
            service.mark()
        self.began = time.monotonic()
        self.began_ns = time.time_ns()
        if self.env.get("target") and self.mode != "pull":
            self.arena.services[target.name].start_anew(self.env.pop("target"))
        if self.mode == "pull":
            self.serve = ["--serve", f"{source.address}:{PORT + 1}", *rate, *self.options, self.pid]
            self.dump = self.command(source, "dump", *self.serve)
            wait_for(lambda: source.listens(PORT + 1) or self.dump.code is not None, 10,
                     "dump --serve listens", 0.001)
            self.fetch()
        else:
            mode = [] if self.mode == "lazy" else ["--" + self.mode]
            self.command(source, "send", *mode, *rate, *self.options, self.pid,
                         f"{target.address}:{PORT}")
        return self

    def fetch(self):
        self.restore = self.command(self.target, "restore", "--from",
                                    f"{self.source.address}:{PORT + 1}")

    def command(self, device, word, *args):
        side = "source" if device is self.source else "target"
        # A fault is for the first one only: another command is another program.
        env = dict(os.environ, **self.env.pop(side)) if side in self.env else None
        out = self.arena.pair.baton(device, word, *args, env=env,
                                    keys=word not in ("resume", "abort"))
        out.device, out.word = device, word
        self.commands.append(out)
        return out

    def engines(self, side):
        """The processes that work on this move."""
        device = self.devices[side]
        return engines(device, self.arena.binary, self.pid, self.arena.services[device.name].pid)

    def stage(self, side):
        """How far a side has come by its state folder: an index into STAGES, -1: nowhere yet."""
        found = [STAGES[side].index(s) for s in moves_in(self.devices[side], side).values()
                 if s in STAGES[side]]
        return max(found, default=-1)

    def reached(self, side, stage):
        """Whether a side is at a stage of STAGES or beyond it."""
        return self.stage(side) >= STAGES[side].index(stage)

    def note(self, text):
        self.notes.append((time.monotonic() - self.began, text))

    def tend(self):
        """To be called every few milliseconds. A move on the source that has no engine any more is
        picked up again, as the operator would."""
        self.arena.tend()
        self.fetch_again()
        self.give_up()
        left = moves_in(self.source, "source")
        busy = self.engines("source") or any(
            c.device is self.source and c.code is None for c in self.commands)
        if not left or busy or not self.operator:
            self.alone_since = None
        elif self.alone_since is None:
            self.alone_since = time.monotonic()
        elif time.monotonic() - self.alone_since > ALONE_S:
            self.alone_since = None
            self.pick_up(left)

    def fetch_again(self):
        """Whoever fetches it died before anything was handed over: somebody else does."""
        gone = (self.mode == "pull" and self.restore.code not in (None, 0)
                and self.dump.code is None and not self.engines("target")
                and self.source.listens(PORT + 1)
                and self.stage("source") < STAGES["source"].index("committed"))
        if not gone:
            self.unfetched_since = None
        elif self.unfetched_since is None:
            self.unfetched_since = time.monotonic()
        elif time.monotonic() - self.unfetched_since > ALONE_S:
            self.note("restore is gone: again")
            self.fetch()

    def give_up(self):
        """Whoever served it is gone, and what was built never ran, or all of it is there: only the
        operator knows that no source will ever ask for it again."""
        left = moves_in(self.target, "target")
        gone = (left and all(c.code is not None for c in self.commands if c.device is self.source)
                and not moves_in(self.source) and not self.engines("source")
                and not self.engines("target")
                and (not self.target.alive(self.pid) or set(left.values()) == {"complete"}))
        if not gone:
            self.given_up_since = None
        elif self.given_up_since is None:
            self.given_up_since = time.monotonic()
        elif time.monotonic() - self.given_up_since > GIVE_UP_S:
            self.given_up_since = None
            for name, stage in left.items():
                self.note(f"target: {stage} and nobody serves it any more: baton abort")
                self.command(self.target, "abort", name.split("-")[0])

    def pick_up(self, left):
        if len([c for c in self.commands if c.word == "resume"]) >= 5:
            raise Failure("the source's move stays where it is, whatever `baton resume` does")
        for name, stage in left.items():
            self.note(f"source: {stage} and nobody there: baton resume")
            self.command(self.source, "resume", name.split("-")[0])

    # ---- the end ----

    def over(self):
        """Nobody works on it any more, and nothing is left to be worked on."""
        return (all(c.code is not None for c in self.commands)
                and not moves_in(self.source) and not moves_in(self.target)
                and not self.engines("source") and not self.engines("target"))

    def wait(self, condition, what, timeout=LIMIT_S, each=lambda: None):
        """Waits while all is being looked after; each() is called every millisecond."""
        deadline = time.monotonic() + timeout
        while not condition():
            self.tend()
            each()
            if time.monotonic() > deadline:
                raise Failure(f"{what}: not within {timeout:g} s")
            time.sleep(0.001)

    def codes(self):
        return [f"{c.word}: exit {c.code}" for c in self.commands]

    def where(self, verifier):
        """The side on which the process is; exactly one."""
        sides = [s for s in ("source", "target") if verifier.exists(self.devices[s])]
        if len(sides) != 1:
            raise Failure(f"the process is on {' and '.join(sides) or 'no device'}"
                          + (f": killed by {verifier.wrong()}" if verifier.wrong() else ""))
        return sides[0]

    def expect_words(self, side):
        """What the commands said of the end is true."""
        for c in self.commands:
            if c.word == "restore" and c is not self.restore:
                continue  # another one took its place
            if c.code == 0 and c.word in ("send", "restore", "dump") and side != "target":
                raise Failure(f"{c.word} ended with 0, but the process is on the source")
            if c.code in (1, 3, 5, 6) and c.word in ("send", "restore") and side != "source":
                raise Failure(f"{c.word} ended with {c.code} ({c.tail(1)}), but the process is on "
                              "the target")
            if c.code not in (0, 1, 3, 5, 6, KILLED):
                raise Failure(f"{c.word} ended with {c.code}: {c.tail(2)}")

    def expect_over(self, verifier):
        """All that must hold in the end. Returns the side on which the process is."""
        verifier.expect_right()
        side = self.where(verifier)
        device = self.devices[side]
        state = verifier.state(device)
        if state[0] not in "RSD" or not state.endswith("tracer 0"):
            raise Failure(f"the process does not run on the {side}: {state}")
        verifier.expect_beating()
        self.expect_words(side)
        verifier.check_all()
        check_history(verifier.beats(), self.networks())
        check_clean(device, self.pid, self.maps)
        self.expect_tidy(side)
        for name, service in self.arena.services.items():
            if service.ended_badly:
                raise Failure(f"baton receive on device {name} ended by itself: "
                              f"{service.ended_badly[0]}")
        return side

    def expect_tidy(self, side):
        """Both devices are as if nothing had been."""
        for s, device in self.devices.items():
            def left_in(d=device):
                self.arena.tend()
                return [n for n in os.listdir(d.state) if not n.endswith((".sock", ".lock", ".came"))]
            with contextlib.suppress(Failure):  # baton receive sweeps every second
                wait_for(lambda: not left_in(), 3, "tidy")
            left = left_in()
            if left:
                raise Failure(f"the {s}'s state folder still has {' '.join(sorted(left))}")
            if self.engines(s):
                raise Failure(f"processes of baton are left on the {s}")
            if s != side:  # what was built there, or ran
                wait_for(lambda d=device: not os.path.exists(d.proc(self.pid)), 10,
                         f"pid {self.pid} is gone on the {s}")
        now = read(self.devices[side].proc(self.pid, "cgroup"))
        if side == "source" and now != self.cgroup:
            raise Failure(f"it is in another control group than before: {now.split()}")
        if "baton" in now:
            raise Failure(f"it is in a control group of baton: {now.split()}")

    def networks(self):
        return ((self.source.netns, "source"), (self.target.netns, "target"))

    # ---- when it went wrong ----

    @staticmethod
    def open_in(device, pid):
        """What a process has open, in a few words."""
        found = []
        with contextlib.suppress(OSError):
            for fd in sorted(os.listdir(device.proc(pid, "fd")), key=int):
                with contextlib.suppress(OSError):
                    found.append(f"{fd}:{os.readlink(device.proc(pid, 'fd/' + fd))[-30:]}")
        return " ".join(found)

    def story(self):
        """Everything that may explain a failure, as lines."""
        lines = [f"{self.mode}, {self.source.name} to {self.target.name}, pid {self.pid}"]
        lines += [f"  {t:8.3f} s  {text}" for t, text in sorted(self.notes)]
        for c in self.commands:
            lines += [f"  {c.word} on {c.device.name}, exit {c.code}:"]
            lines += [f"    {line}" for line in c.stderr.splitlines()[-40:]]
        for side, device in self.devices.items():
            lines.append(f"  receive on {device.name} ({side}):")
            lines += [f"    {line}"
                      for line in self.arena.services[device.name].log().splitlines()[-40:]]
            lines += [f"  {side}: thread {line}" for line in device.threads(self.pid)]
            for engine in self.engines(side):
                lines += [f"  {side}: engine {line}, child of {engine.ppid}; {self.open_in(device, engine.pid)}"
                          for line in device.threads(engine.pid)]
            lines.append(f"  {side}: moves {moves_in(device)}, the process: "
                         f"{device.status(self.pid, 'State')}, tracer "
                         f"{device.status(self.pid, 'TracerPid')}")
        return lines


@contextlib.contextmanager
def told(moving):
    """A failure in here comes with the move's story."""
    try:
        yield
    except Failure as why:
        raise Failure(f"{why}\n" + "\n".join(moving.story()))


def to_the_end(moving, verifier, side):
    """Waits for a move's end, and expects its process on that side."""
    moving.wait(moving.over, "the move's end", each=verifier.expect_right)
    ended = moving.expect_over(verifier)
    if ended != side:
        raise Failure(f"it is on the {ended}")


def a_while(moving, seconds, each=lambda: None):
    """Time in which nothing is expected but what each() looks at."""
    until = time.monotonic() + seconds
    moving.wait(lambda: time.monotonic() > until, f"{seconds:g} s", seconds + 5, each)
