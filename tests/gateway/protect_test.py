# SPDX-License-Identifier: MIT
"""The list of the processes that matter."""
import os

from devices import Failure, read
from fleet import protect, run
from victim import Victim


def listed(pair):
    return run(pair, pair.a, "protect", "list", state=False).stdout


def test_list(ctx):
    with ctx.pair() as pair:
        if listed(pair):
            raise Failure("an empty list is not empty")
        one = protect(ctx, pair, "one", "nothing", "--priority", "5")
        two = Victim(ctx, pair)
        run(pair, pair.a, "protect", "add", "two", "--command", f"echo {two.pid}", "--after", "one", state=False)
        lines = sorted(listed(pair).splitlines())
        if len(lines) != 2 or f"pid {one.pid}" not in lines[0] or "priority 5" not in lines[0] \
                or f"pid {two.pid}" not in lines[1] or "after one" not in lines[1]:
            raise Failure(f"list says {lines}")
        text = read(f"{pair.a.keys}/protect/two")
        if f"exe {ctx.helpers['holder']}" not in text:
            raise Failure(f"the program is not remembered: {text}")
        # What is behind the number is another program now.
        with open(one.pidfile, "w") as f:
            f.write("1\n")
        if "another program" not in listed(pair):
            raise Failure(f"list says {listed(pair)}")
        for text, words in (("", "cannot be found: nothing tells"), ("x\n", "cannot be found: nothing tells"),
                            ("4000000\n", "does not run here: there is no pid 4000000")):
            with open(one.pidfile, "w") as f:
                f.write(text)
            if words not in listed(pair):
                raise Failure(f"a pid file {text!r}: list says {listed(pair)}")
        run(pair, pair.a, "protect", "remove", "one", state=False)
        run(pair, pair.a, "protect", "remove", "one", code=1, state=False)
        if "one " in listed(pair).replace("after one", ""):
            raise Failure("what was removed is still there")


def test_bad(ctx):
    with ctx.pair() as pair:
        for args in (["add", "x"], ["add", "../x", "--command", "c"], ["add", "x", "--command", "a", "--unit", "b"],
                     ["add", "x", "--command", "a" * 300], ["add", "x", "--command", "c", "--priority", "x"],
                     [], ["remove"], ["what"], ["add", ".x", "--pidfile", "/f"]):
            out = run(pair, pair.a, "protect", *args, code=2, state=False)
            if "protect" not in out.stderr:
                raise Failure(f"protect {args} says {out.stderr}")
        run(pair, pair.a, "protect", "add", "x", "--command", "true", state=False)
        os.chmod(f"{pair.a.keys}/protect", 0o777)
        out = run(pair, pair.a, "protect", "list", code=1, state=False)
        if "chmod go-w" not in out.stderr:
            raise Failure(f"a folder that others may write in: {out.stderr}")
        os.chmod(f"{pair.a.keys}/protect", 0o700)
        os.chown(f"{pair.a.keys}/protect", 1000, 0)
        out = run(pair, pair.a, "protect", "list", code=1, state=False)
        if "owner 1000" not in out.stderr:
            raise Failure(f"a folder of somebody else: {out.stderr}")
        os.chown(f"{pair.a.keys}/protect", 0, 0)
        os.chmod(f"{pair.a.keys}/protect/x", 0o666)
        out = run(pair, pair.a, "protect", "list", state=False)
        if "protect/x" not in out.stderr or "can be written by others" not in out.stderr or "x " in out.stdout:
            raise Failure(f"a file that others may write: {out.stdout} {out.stderr}")
        os.chmod(f"{pair.a.keys}/protect/x", 0o600)
        with open(f"{pair.a.keys}/protect/y", "w") as f:
            f.write("nonsense\n")
        out = run(pair, pair.a, "protect", "list", state=False)
        if "protect/y makes no sense" not in out.stderr or "x " not in out.stdout:
            raise Failure(f"list says {out.stdout} {out.stderr}")


def tests(ctx):
    return [(f"protect: {name}", lambda f=function: f(ctx)) for name, function in (
        ("add, list, remove", test_list), ("bad input", test_bad))]
