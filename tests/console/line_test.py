# SPDX-License-Identifier: MIT
"""The line itself: editing, garbage, rates, hang-ups, a line that nobody reads."""
import os
import signal
import termios
import time

from devices import Failure, read, wait_for
from terminal import PROMPT, Terminal


def test_editing(ctx):
    with ctx.pair() as pair, Terminal(ctx, pair.a) as user:
        user.type("statusx\x7f\r")
        if "no move is under way" not in user.expect(PROMPT):
            raise Failure("a backspace does not take back")
        user.type("send 1 nowhere\x15version\r")
        if "commands " not in user.expect("\n" + PROMPT):
            raise Failure("Ctrl-U does not take the line back")
        user.type("send 1 nowhere\x03")
        user.expect("^C\r\n" + PROMPT)
        user.type("\x1b[A\x1bOAstatus\r\n")
        user.expect("no move is under way\r\n" + PROMPT)
        user.type("send 'a b' \"\r")
        user.expect("a quote is open")
        user.expect("[code 2: usage]\r\n" + PROMPT)
        user.type("  baton   status  \r")
        user.expect("no move is under way\r\n" + PROMPT)
        user.type("\x04")
        user.ends()


def test_help(ctx):
    with ctx.pair() as pair, Terminal(ctx, pair.a) as user:
        user.type("help\r")
        text = user.expect("Exit codes")
        for command in ("send", "receive", "status", "resume", "console"):
            if f"\n  {command} " not in text.replace("\r", ""):
                raise Failure(f"help does not list {command}")
        user.expect(PROMPT)
        user.type("help send\r")
        user.expect("--max-rate MIB_S")
        user.expect(PROMPT)
        user.type("exit\r")
        user.ends()


def test_codes(ctx):
    with ctx.pair() as pair, Terminal(ctx, pair.a, "--machine") as user:
        for command, wanted in (("status", 0), ("nosuch", 2), ("send 1", 2), ("send 1 10.77.0.2", 3),
                                ("abort 12", 3), ("", 0), ("console", 2), ("send 'x", 2)):
            code, text = user.run(command)
            if code != wanted:
                raise Failure(f"{command!r} ended with {code}, not {wanted}: {text}")
        # Each line of a longer answer is marked, however it arrives in pieces.
        code, text = user.run("version")
        if "page size" not in text or len(text.splitlines()) < 15:
            raise Failure(f"version says {text!r}")
        # The console's own folders hold for its commands, and can be told otherwise.
        code, text = user.run("check")
        if pair.a.state not in text or "keys" not in text:
            raise Failure(f"check does not look at the console's folders: {text[-400:]}")
        if user.seen.count("nosuch") != 2:
            raise Failure("--machine echoes what is typed")


def test_garbage(ctx):
    with ctx.pair() as pair, Terminal(ctx, pair.a) as user:
        user.type(b"\xff\x00\x00\x80\x00\r")  # as when a plug is put in
        user.expect("\r\n" + PROMPT)
        user.type(b"nosuch\xff\x00\x07x\r")
        if "no such command" in user.expect("nothing was done"):
            raise Failure("a garbled line was executed")
        user.expect("[code 2: usage]\r\n" + PROMPT)
        user.type("x" * 3000 + "\r")
        user.expect("too long; nothing was done")
        user.expect(PROMPT)
        user.type("a " * 200 + "\r")
        user.expect("too many words")
        user.expect(PROMPT)
        user.type(bytes(b for b in range(256) if b not in (3, 4, 10, 13, 0x15, 0x1b)) * 20 + b"\r")
        user.expect("nothing was done")
        user.expect(PROMPT)
        user.type("status\r")
        user.expect("no move is under way\r\n" + PROMPT)


def test_rates(ctx):
    with ctx.pair() as pair:
        for rate in (9600, 38400, 115200):
            with Terminal(ctx, pair.a, "--baud", str(rate)) as user:
                if termios.tcgetattr(user.slave)[5] != getattr(termios, f"B{rate}"):
                    raise Failure(f"--baud {rate} does not set the line")
                user.type("exit\r")
                user.ends()
                if termios.tcgetattr(user.slave) != user.attributes:
                    raise Failure("the line is not left as it was")
        for args, code, words in ((["--baud", "12345"], 2, "12345"), (["x"], 2, "x"),
                                  (["--tty", "/dev/null"], 6, "/dev/null"),
                                  (["--tty", "/dev/nosuch"], 6, "/dev/nosuch"), ([], 6, "--tty")):
            out = pair.baton(pair.a, "console", *args)
            out.wait(10)
            if out.code != code or words not in out.stderr:
                raise Failure(f"console {args}: exit {out.code}, says {out.stderr!r}")


def test_slow_line(ctx):
    """960 bytes a second; nothing of a longer answer is lost."""
    with ctx.pair() as pair, Terminal(ctx, pair.a, "--machine") as user:
        wanted = user.run("version")
        user.step, user.pause = 96, 0.1
        for _ in range(2):
            if user.run("version", timeout=60) != wanted:
                raise Failure("something is lost on a slow line")
        code, text = user.run("check", timeout=60)
        if code not in (0, 6) or not text.splitlines()[-1].startswith(("yes", "no")):
            raise Failure(f"check ends with {code}: {text[-200:]!r}")


def test_hang_up(ctx):
    with ctx.pair() as pair:
        with Terminal(ctx, pair.a) as user:
            user.hang_up()
            user.ends()
        with Terminal(ctx, pair.a) as user:
            user.type("status --watch\r")
            user.expect("no move is under way")
            user.hang_up()
            user.ends()
            wait_for(lambda: not pair.a.batons(ctx.binary), 10, "its command ends, too")
        for signum in (signal.SIGTERM, signal.SIGHUP):
            with Terminal(ctx, pair.a) as user:
                host = int(read(f"/proc/{user.output.popen.pid}/task/{user.output.popen.pid}/children"))
                os.kill(host, signum)
                user.ends()
                if termios.tcgetattr(user.slave) != user.attributes:
                    raise Failure("the line is not left as it was")


def test_killed_command(ctx):
    with ctx.pair() as pair, Terminal(ctx, pair.a) as user:
        console = pair.a.pid_of(user.output)
        user.type("status --watch\r")
        user.expect("no move is under way")
        command = wait_for(lambda: [p for p in pair.a.batons(ctx.binary) if p != console], 5,
                           "the command is there")[0]
        pair.a.run(["kill", "-SEGV", str(command)])
        user.expect("[status was killed by signal 11]\r\n" + PROMPT)
        user.type("status --watch\r")
        user.expect("no move is under way")
        user.type("what is typed meanwhile counts for nothing\r\x03")
        user.expect("it is asked to end")
        if "no such command" in user.expect(PROMPT):
            raise Failure("what was typed meanwhile was done")


def test_memory(ctx):
    with ctx.pair() as pair, Terminal(ctx, pair.a, "--machine") as user:
        console = pair.a.pid_of(user.output)
        peaks = []
        for _ in range(3):
            for command in ("version", "nosuch", "status", "x" * 2000, "send 1 2 3"):
                user.run(command) if len(command) < 500 else (user.type(command + "\r"),
                                                              user.expect("= 2 -\r\n"))
            peaks.append(int(pair.a.status(console, "VmHWM").split()[0]))
        if peaks[-1] > 1024 + 256 or peaks[-1] - peaks[0] > 16:
            raise Failure(f"its memory is {peaks} KiB")
        return f"{peaks[-1]} KiB"


def test_nobody_reads(ctx):
    """The commands do not wait for a line that takes nothing, and it is there again when it does."""
    with ctx.pair() as pair, Terminal(ctx, pair.a) as user:
        user.reading = False
        time.sleep(0.1)
        mark = f"{pair.folder}/mark"
        user.type(f"keygen --keys {mark}\r")
        wait_for(lambda: os.path.exists(f"{mark}/cert.pem"), 20, "a command ends that nobody hears")
        user.type("status --watch\r")
        time.sleep(0.5)
        user.type("\x03\x03")
        mark += "2"
        time.sleep(0.5)
        user.type(f"keygen --keys {mark}\r")
        wait_for(lambda: os.path.exists(f"{mark}/cert.pem"), 20, "the console goes on unheard")
        user.reading = True
        user.type("\x15status\r")
        user.expect(mark)


def test_at_once(ctx):
    """Ctrl-C that is there before the command has begun."""
    with ctx.pair() as pair, Terminal(ctx, pair.a, "--machine") as user:
        for _ in range(20):
            user.type("status --watch\r\x03")
            user.expect("= ")
            user.expect(" status\r\n")


def test_deaf_parent(ctx):
    """Started by somebody who ignores SIGCHLD, as some respawners do."""
    with ctx.pair() as pair, Terminal(ctx, pair.a, "--machine", prefix=("env", "--ignore-signal=CHLD")) as user:
        if user.run("status")[0]:
            raise Failure("status does not end well")


def tests(ctx):
    return [(f"line: {name}", lambda f=function: f(ctx)) for name, function in (
        ("editing", test_editing), ("help", test_help), ("codes of --machine", test_codes),
        ("garbage and long lines", test_garbage), ("rates", test_rates), ("a slow line", test_slow_line),
        ("hang-up", test_hang_up), ("a command that is killed", test_killed_command),
        ("memory", test_memory), ("nobody reads", test_nobody_reads),
        ("Ctrl-C at once", test_at_once), ("SIGCHLD ignored", test_deaf_parent))]
