# SPDX-License-Identifier: MIT
"""The init script of docs/stories.md: a service that comes out of its image, and as usual when it cannot."""
import os

from devices import TOP, Failure, read, wait_for
from images import gone
from real_test import cli, need, redis_load

SCRIPT = f"{TOP}/board/image/instant-start"


class Service:
    """redis-server, managed by the script with busybox's shell."""

    def __init__(self, pair, server):
        self.pair, self.a, self.folder = pair, pair.a, pair.folder
        self.image, self.pidfile = f"{self.folder}/deep/redis.image", f"{self.folder}/redis.pid"
        with open(f"{self.folder}/redis.conf", "w") as f:
            f.write(f'port 6379\nbind 127.0.0.1\nsave ""\nenable-debug-command yes\ndir {self.folder}\n')
        self.settings = f"{self.folder}/instant"
        os.mkdir(self.settings)
        self.set("redis", f"COMMAND='{server} {self.folder}/redis.conf'\nPIDFILE={self.pidfile}\nIMAGE={self.image}\n")

    def set(self, name, text, binary=None):
        with open(f"{self.settings}/{name}", "w") as f:
            f.write(f"{text}BATON={binary or self.pair.binary} KEYS={self.a.keys} STATE={self.a.state}\n")

    def do(self, action, code=0, name="redis"):
        done = self.a.run(["busybox", "env", f"INSTANT={self.settings}", "busybox", "sh", SCRIPT, name, action],
                          timeout=60)
        if done.code != code:
            raise Failure(f"{action}: exit {done.code}: {done.tail()}")
        return done

    def up(self):
        wait_for(lambda: self.a.listens(6379), 20, "redis-server listens")
        self.do("status")
        return int(read(self.pidfile))

    def stop(self):
        pid = int(read(self.pidfile))
        self.do("stop")
        gone(self.a, pid)
        self.do("status", 1)


def as_usual(begun, why):
    """What the script says after it has let go of its caller."""
    wait_for(lambda: "as usual" in begun.stderr, 20, "it is started as usual")
    if why not in begun.stderr:
        raise Failure(f"it says {begun.stderr}")


def start(ctx):
    server = need("redis-server", "redis-cli", "busybox")[0]
    with ctx.pair() as pair:
        service, a = Service(pair, server), pair.a
        service.do("warm", 1)
        service.do("start")
        pid = service.up()
        redis_load(a)
        digest = cli(a, "DEBUG", "DIGEST")
        wait_for(lambda: "connected_clients:1\r" in cli(a, "INFO", "clients"), 5, "clients are gone")
        service.do("warm")
        cli(a, "SET", "later", "than the image")
        for _ in range(2):
            service.stop()
            begun = service.do("start")
            if service.up() != pid or cli(a, "DEBUG", "DIGEST") != digest:
                raise Failure(f"it did not come out of its image: {begun.stderr}")
            if "runs already" not in service.do("start").stderr:
                raise Failure("it was started twice")
        # An image that is of no use: as usual.
        service.stop()
        with open(service.image, "r+b") as f:
            f.truncate(os.path.getsize(service.image) - 1)
        as_usual(service.do("start"), "cut off")
        service.up()
        if cli(a, "DBSIZE").strip() != "0":
            raise Failure("where does it have that from?")
        # Somebody else has its number by then.
        service.do("warm")
        service.stop()
        a.run(["busybox", "sh", "-c", "echo 29999 >/proc/sys/kernel/ns_last_pid; sleep 60 >/dev/null 2>&1 &"])
        as_usual(service.do("start"), "is taken")
        if service.up() == pid:
            raise Failure("two have one pid")
        service.do("warm", 1)
        service.stop()


def one_number(ctx):
    """Two services have one pid in their settings: the second is told whose it is, and what to do."""
    need("busybox")
    with ctx.pair() as pair:
        service = Service(pair, "sleep")
        pids = {}
        for name, number in (("one", ""), ("two", ""), ("two", "PID=30100\n")):
            service.set(name, f"COMMAND='sleep 1000'\nPIDFILE={pair.folder}/{name}.pid\n"
                              f"IMAGE={pair.folder}/{name}.image\n{number}")
            begun = service.do("start", name=name)
            pids[name] = read(f"{pair.folder}/{name}.pid").strip()
            wait_for(lambda n=name: read(pair.a.proc(pids[n], "cmdline")).startswith("sleep"), 10, f"{name} runs")
            if name == "two" and not number:
                if "that of one, too" not in begun.stderr or "PID=30100" not in begun.stderr:
                    raise Failure(f"start says {begun.stderr}")
                refused = service.do("warm", 2, name)
                if "that of one, too" not in refused.stderr or os.path.exists(f"{pair.folder}/two.image"):
                    raise Failure(f"warm says {refused.stderr}")
                service.do("stop", name=name)
            else:
                service.do("warm", name=name)
        if pids != {"one": "30000", "two": "30100"}:
            raise Failure(f"their pids are {pids}")
        for name in pids:
            service.do("stop", name=name)
            service.do("start", name=name)
            wait_for(lambda n=name: pair.a.alive(int(pids[n])), 10, f"{name} is back with its pid")
            service.do("stop", name=name)


def stopped_early(ctx):
    """Stopped while it is still coming out of its image: nothing of it is there afterwards."""
    server = need("redis-server", "redis-cli", "busybox")[0]
    with ctx.pair() as pair:
        service, a = Service(pair, server), pair.a
        service.do("start")
        pid = service.up()
        service.do("warm")
        service.stop()
        late = f"{pair.folder}/late"
        with open(late, "w") as f:
            f.write(f"#!/bin/sh\nsleep $(cat {late}.seconds)\nexec {pair.binary} \"$@\"\n")
        os.chmod(late, 0o755)
        settings = read(f"{service.settings}/redis").rpartition("BATON=")[0]
        service.set("redis", settings, late)
        # Before baton is there, while it builds the process, when the process runs.
        for seconds in (0.6, 0.02, 0.05, 0):
            with open(f"{late}.seconds", "w") as f:
                f.write(f"{seconds}\n")
            service.do("start")
            if seconds > 0.5 and "runs already" not in service.do("start").stderr:
                raise Failure("it was started twice")
            service.do("stop")
            if a.alive(pid) or a.listens(6379) or a.batons(pair.binary):
                raise Failure(f"after {seconds} s something of it is left: {a.batons(pair.binary)}")
            service.do("status", 1)
            left = [n for n in os.listdir(a.state) if n.endswith(".move")]
            if left:
                raise Failure(f"after {seconds} s a move is left: {left}")
        service.do("start")
        if service.up() != pid:
            raise Failure("it does not come out of its image any more")
        service.stop()


def tests(ctx):
    return [("a service out of its image, by the init script", lambda: start(ctx)),
            ("two services that want one pid", lambda: one_number(ctx)),
            ("a service that is stopped while it comes out of its image", lambda: stopped_early(ctx))]
