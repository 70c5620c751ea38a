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
        with open(f"{self.folder}/redis", "w") as f:
            f.write(f"COMMAND='{server} {self.folder}/redis.conf'\nPIDFILE={self.pidfile}\nIMAGE={self.image}\n"
                    f"BATON={pair.binary} KEYS={self.a.keys} STATE={self.a.state}\n")

    def do(self, action, code=0):
        done = self.a.run(["busybox", "env", f"INSTANT={self.folder}", "busybox", "sh", SCRIPT, "redis", action],
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


def tests(ctx):
    return [("a service out of its image, by the init script", lambda: start(ctx))]
