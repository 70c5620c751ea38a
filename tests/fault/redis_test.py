# SPDX-License-Identifier: MIT
"""A redis-server goes to and fro between two devices while baton is killed, once in each move. A client
writes all the time; whatever was acknowledged to it must be there in the end."""
import ctypes
import os
import random
import shutil
import socket
import threading
import time

from devices import Failure, Skip, read, wait_for
from faults import kill
from moving import STAGES, Arenas, Moving
from plan import Fault, Plan
from rounds import Strike
from strangers_test import enter_netns

PORT = 6379
NR_MOVES = 20
RATE = 40
LISTEN, TIME_WAIT = "0A", "06"


class Client(threading.Thread):
    """Writes numbered keys and counts, one after the other. It asks the device that it was told of: a
    frozen copy still takes connections, and answers none."""

    def __init__(self, device, address):
        super().__init__(daemon=True)
        self.device, self.address = device, address
        self.quiet, self.idle, self.over = (threading.Event() for _ in range(3))
        self.sock = self.file = None
        self.nr_set = self.nr_counted = self.nr_tried = 0
        self.wrong, self.connects = "", 0
        self.rng = random.Random(1)

    def run(self):
        libc = ctypes.CDLL(None, use_errno=True)
        fd = os.open(f"/proc/{self.device.init}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        libc.setns(fd, 0x40000000)
        os.close(fd)
        while not self.over.is_set():
            if self.quiet.is_set():
                self.close()
                self.idle.set()
                time.sleep(0.001)
                continue
            try:
                if self.sock is None:
                    self.connect()
                self.step()
            except OSError:
                self.close()
                time.sleep(0.002)
        self.close()

    def connect(self):
        self.sock = socket.create_connection((self.address, PORT), 1)
        self.sock.settimeout(20)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.file = self.sock.makefile("rb")
        self.connects += 1

    def close(self):
        for thing in (self.file, self.sock):
            if thing:
                thing.close()
        self.sock = self.file = None

    def ask(self, *words):
        data = [f"*{len(words)}\r\n".encode()]
        data += [b"$%d\r\n%s\r\n" % (len(w), w) for w in (str(w).encode() for w in words)]
        self.sock.sendall(b"".join(data))
        line = self.file.readline()
        if not line.endswith(b"\r\n"):
            raise ConnectionError("the server closed the connection")
        if line[:1] == b"$" and line != b"$-1\r\n":
            body = self.file.read(int(line[1:]) + 2)
            if len(body) < int(line[1:]) + 2:
                raise ConnectionError("the server closed the connection")
            return body[:-2]
        return line[:-2]

    def step(self):
        """A write counts when its answer is here. One whose answer is lost is made once more."""
        if self.ask("SET", f"n:{self.nr_set}", value(self.nr_set)) != b"+OK":
            self.wrong = f"SET n:{self.nr_set} is refused"
        self.nr_set += 1
        self.nr_tried += 1
        self.ask("INCR", "counter")
        self.nr_counted += 1
        self.check(self.rng.randrange(self.nr_set))

    def check(self, n):
        got = self.ask("GET", f"n:{n}")
        if got != value(n).encode():
            self.wrong = self.wrong or f"n:{n} was acknowledged, and is {got[:80]!r}"

    def pause(self):
        """Closes the connection; returns when that is done."""
        self.idle.clear()
        self.quiet.set()
        if not self.idle.wait(30):
            raise Failure("the client waits for an answer that does not come")

    def go_on(self, device):
        self.address = device.address
        self.quiet.clear()

    def check_all(self):
        """Every acknowledged write, after the thread's end."""
        over, tries = False, 0
        while not over:
            try:
                self.connect()
                for n in range(self.nr_set):
                    self.check(n)
                counter = int(self.ask("GET", "counter"))
                over = True
            except OSError:
                self.close()
                tries += 1
                if tries > 5:
                    raise Failure("the server does not answer any more")
        self.close()
        if not self.nr_counted <= counter <= self.nr_tried:
            self.wrong = self.wrong or (f"the counter is {counter}, with {self.nr_counted} "
                                        f"acknowledged of {self.nr_tried}")


def value(n):
    return f"value {n} " + "x" * (n * 37 % 300)


def expect_closed(device):
    """The server has seen that its client is gone: such a connection would be refused."""
    def closed():
        for line in read(f"/proc/{device.init}/net/tcp").splitlines()[1:]:
            words = line.split()
            if words[1].endswith(f":{PORT:04X}") and words[3] not in (LISTEN, TIME_WAIT):
                return False
        return True
    wait_for(closed, 5, "the server closes its connections", 0.001)


def move_once(arena, source, target, pid, client, rng):
    """To the target, with a kill on the way; the side on which it is then."""
    client.pause()
    expect_closed(source)
    moving = Moving(arena, source, target, pid, rate=RATE)
    fault = Fault(rng.choice(("kill source", "kill target", "kill target", "kill receiver")),
                  after_s=rng.uniform(0, 0.6), which=rng.random())
    strike = Strike(moving, Plan("redis", 0, faults=[fault]))

    def each():
        strike.step()
        if moving.stage("target") >= STAGES["target"].index("started"):
            client.go_on(target)
        if client.wrong:
            raise Failure(client.wrong)
    try:
        moving.begin()
        moving.wait(moving.over, "the move's end", each=each)
        there = [s for s, d in moving.devices.items() if d.alive(pid)]
        if len(there) != 1:
            raise Failure(f"redis-server is on {there or 'no device'}")
        moving.expect_words(there[0])
        moving.expect_tidy(there[0])
        client.go_on(moving.devices[there[0]])
        asked = client.nr_counted
        wait_for(lambda: client.nr_counted > asked + 3 or client.wrong, 10, "the client is answered")
    except Failure as why:
        raise Failure(f"{why}\n" + "\n".join(moving.story()))
    return there[0], len(strike.done)


def to_and_fro(arenas):
    server = shutil.which("redis-server", path="/usr/bin:/usr/sbin:/usr/local/bin")
    if not server:
        raise Skip("redis-server is not installed")
    rng = random.Random(7)
    with arenas.use() as arena:
        a, b = arena.pair.a, arena.pair.b
        out = a.start([server, "--port", PORT, "--bind", "0.0.0.0", "--protected-mode", "no",
                       "--save", "", "--enable-debug-command", "yes", "--dir", arena.pair.folder])
        pid = a.pid_of(out)
        wait_for(lambda: a.listens(PORT), 10, "redis-server listens")
        a.run(["redis-cli", "DEBUG", "POPULATE", "60000", "key", "150"])
        client = Client(a, a.address)
        client.start()
        here, moved, killed, tries = [a, b], 0, 0, 0
        try:
            while moved < NR_MOVES:
                side, nr = move_once(arena, *here, pid, client, rng)
                moved += side == "target"
                killed += nr
                tries += 1
                if side == "target":
                    here.reverse()
                if tries > 3 * NR_MOVES:
                    raise Failure(f"only {moved} of {tries} moves came to their end")
        finally:
            client.over.set()
            client.join(30)
        enter_netns(a, client.check_all)
        if client.wrong:
            raise Failure(client.wrong)
        if killed < NR_MOVES / 2 or client.nr_set < 50 * NR_MOVES:
            raise Failure(f"too little was tried: {killed} kills, {client.nr_set} writes")
        kill(here[0], pid)
        wait_for(lambda: not here[0].alive(pid), 5, "redis-server ends")


def tests(ctx):
    arenas = Arenas(ctx)
    ctx.at_end.append(arenas.close)
    return [("redis-server to and fro, no acknowledged write is lost", lambda: to_and_fro(arenas))]
