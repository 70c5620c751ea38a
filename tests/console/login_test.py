# SPDX-License-Identifier: MIT
"""The password of the console."""
import os
import pty
import stat
import subprocess

from devices import Failure, read
from terminal import PROMPT, Terminal

ASK = "password: "
SECRET = "correct horse"


def set_password(ctx, device, text):
    return subprocess.run([ctx.binary, "console", "--set-password", "--keys", device.keys],
                          input=text.encode(), capture_output=True, timeout=20)


def test_login(ctx):
    with ctx.pair() as pair:
        done = set_password(ctx, pair.a, SECRET + "\n")
        if done.returncode:
            raise Failure(f"--set-password: exit {done.returncode}: {done.stderr}")
        path = f"{pair.a.keys}/console"
        if stat.S_IMODE(os.stat(path).st_mode) != 0o600 or SECRET in read(path):
            raise Failure(f"the password is not kept well: {read(path)}")
        with Terminal(ctx, pair.a, prompt=False) as user:
            if user.expect(ASK) != ASK:
                raise Failure("something is said before the password")
            user.type("status\r")
            user.expect("wrong; wait a moment")
            # What comes before the question comes again is not looked at, the right one neither.
            user.type(SECRET + "\r")
            if PROMPT in user.expect(ASK):
                raise Failure("the delay can be typed over")
            user.type("x" * 2000 + "\r")
            user.expect(ASK)
            user.type(SECRET[:-1] + "\x7f" + SECRET[-2:] + "\r")
            user.expect("\r\n" + PROMPT)
            if SECRET in user.seen or SECRET[:5] in user.seen:
                raise Failure("the password is shown")
            user.type("status\r")
            user.expect("no move is under way\r\n" + PROMPT)
            user.type("\x04")
            user.ends()
        with Terminal(ctx, pair.a, "--machine", prompt=False) as user:
            user.expect("? password\r\n")
            user.type("wrong one\r")
            user.expect("= 5 password\r\n")
            user.expect("? password\r\n")
            user.type(SECRET + "\r")
            user.expect("= 0 password\r\n")
            if user.run("status")[0]:
                raise Failure("a script is not let in")


def test_set_later(ctx):
    """A console that is open asks for a password that is set now, before anything else is done on it."""
    with ctx.pair() as pair:
        with Terminal(ctx, pair.a) as user, Terminal(ctx, pair.a, "--machine") as script:
            script.type("status --watch\r")
            script.expect("no move is under way\r\n")
            if set_password(ctx, pair.a, SECRET + "\n").returncode:
                raise Failure("the password cannot be set")
            user.type("version\r")
            user.expect(ASK)
            if "architecture" in user.seen:
                raise Failure("a command is done without the password")
            user.type(SECRET + "\r")
            user.expect("\r\n" + PROMPT)
            user.type("version\r")
            user.expect("architecture")
            # A command that runs is not disturbed; it can be ended, and nothing more.
            script.type("\x03")
            script.expect("= ")
            script.expect("? password\r\n")
            script.type("version\r")
            script.expect("= 5 password\r\n")


def test_bad_file(ctx):
    with ctx.pair() as pair:
        with open(f"{pair.a.keys}/console", "w") as f:
            f.write("secret\n")
        os.chmod(f"{pair.a.keys}/console", 0o600)
        with Terminal(ctx, pair.a, prompt=False) as user:
            user.expect(ASK)
            user.type("secret\r")
            user.expect("wrong")
            if "--set-password" not in user.output.stderr:
                raise Failure(f"what to do is not said: {user.output.stderr}")


def test_set(ctx):
    with ctx.pair() as pair:
        for text in ("short\n", "", "\n", "with\xffgarbage in it\n"):
            done = set_password(ctx, pair.a, text)
            if done.returncode != 1 or os.path.exists(f"{pair.a.keys}/console"):
                raise Failure(f"--set-password takes {text!r}")

        def typed(first, second):
            pid, fd = pty.fork()
            if pid == 0:
                os.execv(ctx.binary, ["baton", "console", "--set-password", "--keys", pair.a.keys])
            seen = b""
            for question, answer in ((b"new password: ", first), (b"once more: ", second)):
                while question not in seen:
                    seen += os.read(fd, 100)
                os.write(fd, answer)
            while True:
                try:
                    got = os.read(fd, 1000)
                except OSError:
                    break
                if not got:
                    break
                seen += got
            os.close(fd)
            return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), seen

        code, seen = typed(b"long enough\r", b"long enougH\r")
        if code != 1 or b"differ" not in seen:
            raise Failure(f"two that differ: exit {code}: {seen}")
        code, seen = typed(b"long enough\r", b"long enough\r")
        if code or not os.path.exists(f"{pair.a.keys}/console") or b"long" in seen:
            raise Failure(f"set at a terminal: exit {code}: {seen}")


def tests(ctx):
    return [(f"login: {name}", lambda f=function: f(ctx)) for name, function in (
        ("password", test_login), ("set later", test_set_later), ("a file that makes no sense", test_bad_file),
        ("setting it", test_set))]
