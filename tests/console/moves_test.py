# SPDX-License-Identifier: MIT
"""Moves that are begun, ended and seen from the console."""
import os

from devices import PORT, Failure, read, wait_for
from terminal import PROMPT, Terminal
from victim import Receiver, Victim


def stages(device):
    """{stage} of the moves in a state folder."""
    return {line.split()[1] for name in os.listdir(device.state) if name.endswith(".move")
            for line in read(f"{device.state}/{name}").splitlines() if line.startswith("stage ")}


def test_undone(ctx, hang_up=False):
    """Ctrl-C, or a hang-up, before COMMITTED."""
    with ctx.pair() as pair:
        victim = Victim(ctx, pair, "memory", "64")
        Receiver(pair)
        with Terminal(ctx, pair.a) as user:
            user.type(f"send --eager --max-rate 1 {victim.pid} {pair.b.address}:{PORT}\r")
            wait_for(lambda: "offered" in stages(pair.a) and
                     pair.a.status(victim.pid, "TracerPid") != "0", 10, "the move is under way")
            if hang_up:
                user.hang_up()
                user.ends()
            else:
                user.type("\x03")
                user.expect("[code 1: failed]")
                user.expect(PROMPT)
            wait_for(lambda: not stages(pair.a), 10, "the move is undone")
        victim.check_unharmed(60000)


def test_let_go(ctx):
    """Ctrl-C after COMMITTED changes nothing; another one gives the prompt back, and the move goes on."""
    with ctx.pair() as pair:
        victim = Victim(ctx, pair, "memory", "48")
        Receiver(pair)
        with Terminal(ctx, pair.a, "--machine") as user, Terminal(ctx, pair.b, "--machine") as other:
            user.type(f"send --max-rate 8 {victim.pid} {pair.b.address}:{PORT}\r")
            wait_for(lambda: "serving" in stages(pair.a), 20, "the process runs there")
            user.type("\x03")
            user.expect("! it is asked to end")
            user.type("\x03")
            user.expect("= & send\r\n")
            if user.run("status")[0]:
                raise Failure("the prompt is not back")
            user.expect(f"(pid {victim.pid}) to {pair.b.address}:{PORT} ends: it is not here", 40)
            other.expect(" begins", 5)
            other.expect("ends: it runs here", 20)
        victim.check_after_move(pair.b)


def test_held(ctx):
    """All that work on a move on the source are killed: it is held, and goes on with resume."""
    with ctx.pair() as pair:
        victim = Victim(ctx, pair, "memory", "48")
        Receiver(pair)
        with Terminal(ctx, pair.a, "--machine") as user:
            console = pair.a.pid_of(user.output)
            user.type(f"send --max-rate 4 {victim.pid} {pair.b.address}:{PORT}\r")
            user.expect(" begins\r\n")
            wait_for(lambda: "serving" in stages(pair.a), 20, "the process runs there")

            def killed():
                """A twin that was left by the first kill has made another one meanwhile."""
                twins = [str(p) for p in pair.a.batons(ctx.binary) if p != console]
                if twins:
                    pair.a.run(["kill", "-9"] + twins)
                return not twins
            wait_for(killed, 10, "all that work on the move are killed")
            user.expect("= 137 send\r\n")
            user.expect(" is held", 20)
            user.expect("\n")
            code, text = user.run("status")
            move = text.split()[0]
            if "held" not in text:
                raise Failure(f"status says {text}")
            code, text = user.run(f"resume {move}", 60)
            if code:
                raise Failure(f"resume ended with {code}: {text}")
            wait_for(lambda: "ends: it is not here" in user.seen, 10, "the end is told")
        victim.check_after_move(pair.b)


def test_not_known_yet(ctx):
    """Of a move whose process is not known yet there is no name in the news, and no number."""
    with ctx.pair() as pair, Terminal(ctx, pair.b, "--machine") as user:
        for nr, (lines, words) in enumerate((
                ("pid 0\n", ""), ("pid 0\ncomm redis-server\n", ": redis-server"), ("pid 4000\n", ": pid 4000"),
                ("pid 4000\ncomm redis-server\n", ": redis-server (pid 4000)"))):
            move = f"{nr:016x}"
            path = f"{pair.b.state}/{move}-target.move"
            with open(f"{pair.b.state}/new", "w") as f:
                f.write(f"id {move}\nrole target\nstage building\n{lines}peer 10.0.0.9:7117\nend\n")
            os.rename(f"{pair.b.state}/new", path)
            user.expect(f"! move {move}{words} from 10.0.0.9:7117 begins\r\n", 5)
            os.unlink(path)
            user.expect(f"! move {move}{words} from 10.0.0.9:7117 ends: it is not here\r\n", 5)


def test_stuck_line(ctx):
    """A move whose console nobody reads goes through."""
    with ctx.pair() as pair:
        victim = Victim(ctx, pair, "memory", "16")
        Receiver(pair)
        with Terminal(ctx, pair.a) as user:
            user.reading = False
            user.type(f"send --verbose {victim.pid} {pair.b.address}:{PORT}\r")
            wait_for(lambda: not pair.a.alive(victim.pid) and not stages(pair.a), 30, "it is moved")
            user.hang_up()
            user.ends()
        victim.check_after_move(pair.b)


def tests(ctx):
    return [(f"moves: {name}", lambda f=function: f(ctx)) for name, function in (
        ("Ctrl-C before it is committed", test_undone),
        ("hang-up before it is committed", lambda c: test_undone(c, True)),
        ("Ctrl-C after it is committed", test_let_go), ("held and resumed", test_held),
        ("a process that is not known yet", test_not_known_yet), ("a line that nobody reads", test_stuck_line))]
