# SPDX-License-Identifier: MIT
"""Standard streams that lead outside: a terminal and pipes become the receiver's, or a file."""
import os
import pty
import subprocess

from devices import Failure, read, wait_for
from moves import Move


class Talker:
    """fd_talker on device a, with a terminal or pipes that end here."""

    def __init__(self, ctx, pair, terminal):
        binary = ctx.helpers["fd_talker"]
        self.ours, theirs = pty.openpty()
        if terminal:
            streams = {"stdin": theirs, "stdout": theirs, "stderr": theirs}
        else:
            streams = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        self.popen = subprocess.Popen(pair.a.enter(["setsid", binary]), **streams)
        os.close(theirs)
        self.out = self.ours if terminal else self.popen.stdout.fileno()
        if b"ready" not in os.read(self.out, 100):
            raise Failure("the talker does not start")
        children = f"/proc/{self.popen.pid}/task/{self.popen.pid}/children"
        host = read(children).split()[0]
        status = read(f"/proc/{host}/status")
        self.pid = int([s for s in status.splitlines() if s.startswith("NSpid")][0].split()[-1])

    def close(self):
        os.close(self.ours)
        self.popen.kill()
        self.popen.wait()


def stream_of(device, pid, fd):
    return os.readlink(device.proc(pid, f"fd/{fd}"))


def moved(ctx, terminal, log):
    with ctx.pair() as pair:
        talker = Talker(ctx, pair, terminal)
        try:
            path = f"{pair.folder}/stdio.log"
            m = Move(pair, talker.pid, receive_options=["--stdio", path] if log else []).begin()
            m.wait_started()
            m.wait_complete()
            err = path if log else m.target.err
            wait_for(lambda: read(err).count("count") > 3, 5, f"the talker talks into {err}")
            expected = ["/dev/null", path, path] if log else ["/dev/null", m.target.out, m.target.err]
            for fd in range(3):
                if stream_of(pair.b, talker.pid, fd) != expected[fd]:
                    raise Failure(f"fd {fd} is {stream_of(pair.b, talker.pid, fd)}, not {expected[fd]}")
            nr = len(os.listdir(pair.b.proc(talker.pid, "fd")))
            if nr != 3:
                raise Failure(f"the talker has {nr} descriptors, not 3")
        finally:
            talker.close()


def tests(ctx):
    return [(f"standard streams: {what} become {to}", lambda t=terminal, g=log: moved(ctx, t, g))
            for terminal, what in ((True, "a terminal"), (False, "pipes"))
            for log, to in ((False, "the receiver's"), (True, "a file"))]
