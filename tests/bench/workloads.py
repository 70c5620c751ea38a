# SPDX-License-Identifier: MIT
"""What is moved, and what it has to say about it afterwards."""
import json
import os
import time

import demo
from devices import Failure, read, wait_for
from redis_client import RedisClient

# Standard streams that were opened in the device itself: to the peer others are of an unknown mount.
OWN_STREAMS = ("sh", "-c", 'exec "$@" </dev/null >/dev/null 2>&1', "sh")

# What toucher.c can be asked to be.
TOUCHERS = {
    "idle": ("idle", {"touch": "none", "period_us": 1000}),
    "touch": ("a touch each 100 us", {}),
    "busy": ("touches back to back", {"period_us": 0}),
    "reader": ("reads from first to last", {"touch": "sequential", "period_us": 0}),
    "vmas": ("10,000 mappings", {"vmas": 10000}),
    "sparse": ("64 GiB mapped, in pieces", {"span_mib": 65536}),
    "zeros": ("90 % of its pages zeros", {"zero": 90}),
}


class Toucher:
    """One run of tests/bench/toucher.c."""

    def __init__(self, kind, mib, **more):
        self.kind, self.mib, self.options = kind, mib, {**TOUCHERS[kind][1], **more}

    def start(self, ctx, pair):
        self.folder = f"{pair.folder}/d"
        os.mkdir(self.folder)
        words = [f"{key}={value}" for key, value in {"mib": self.mib, **self.options}.items()]
        out = pair.a.start([*OWN_STREAMS, f"{ctx.tools}/toucher", self.folder, *words], name="toucher")
        text = wait_for(lambda: read(f"{self.folder}/ready") or out.code is not None, 120, "toucher is ready")
        if text is True:
            raise Failure(f"toucher ended: exit {out.code}: {read(self.folder + '/result')}")
        time.sleep(0.2)
        return int(text)

    def during(self, pair, began):
        """Nothing: it knows by itself."""

    def finish(self, pair):
        del pair
        touch(f"{self.folder}/go")
        text = wait_for(lambda: read(f"{self.folder}/result"), 120, "toucher reports")
        touch(f"{self.folder}/end")
        if text.startswith("FAIL"):
            raise Failure(text)
        seen = json.loads(text)
        figures = {"gap_ms": seen["gap_us"] / 1e3}
        if seen["faults"]:
            hundredths = seen["fault_hundredths_us"]
            figures.update(seen_faults=seen["faults"], seen_p50_us=hundredths[49],
                           seen_p99_us=hundredths[98], seen_max_us=hundredths[99],
                           hundredths=hundredths)
        if self.kind == "reader":
            figures["sweep_s"] = seen["sweep_us"] / 1e6
        return figures


class Redis:
    """redis-server with its threads and 200 MB. redis-benchmark asks it until the move, and again from the
    first answer on the other device on: an established connection cannot be moved."""

    kind, mib = "redis", 0
    KEY = "key:{:012}"  # as redis-benchmark writes them
    FILL = ("for i = 0, ARGV[1] - 1 do local v = 'value:' .. i; redis.call('set', string.format("
            "'key:%012d', i), v .. string.rep('\\0', ARGV[2] - #v)) end")

    # As a service has them: half is text that all have, half (two digests) is of each its own.
    RECORDS = ("for i = 0, ARGV[1] - 1 do redis.call('set', string.format('key:%012d', i), "
               "'value:' .. i .. '\\0{\"session\": \"' .. redis.sha1hex(i) .. '\", \"address\": "
               "\"10.0.0.1\", \"state\": \"logged in\", \"last\": \"' .. redis.sha1hex(-i) .. "
               "'\", \"language\": \"en\"}') end")

    def __init__(self, keys=demo.NR_KEYS, requests=40000, records=False):
        self.keys, self.requests, self.fill = keys, requests, self.RECORDS if records else self.FILL

    def start(self, ctx, pair):
        del ctx
        pid = demo.start_redis(pair, nr_keys=0, through=OWN_STREAMS)
        demo.cli(pair.a, "EVAL", self.fill, 0, self.keys, demo.VALUE_BYTES)
        demo.cli(pair.a, "SCRIPT", "FLUSH")
        self.digest = demo.cli(pair.a, "DEBUG", "DIGEST")
        self.mib = demo.megabytes(pair.a) * 1e6 / (1 << 20)
        self.before = self.load(pair.b, pair.a.address)
        wait_for(lambda: "connected_clients:1\r" in demo.cli(pair.a, "INFO", "clients"), 5,
                 "redis-benchmark is gone")
        return pid

    def load(self, device, address):
        """Requests a second, and the latencies that redis-benchmark saw, in microseconds."""
        out = device.run(["redis-benchmark", "-h", address, "-c", "5", "-n", self.requests, "-r",
                          self.keys, "--csv", "GET", "key:__rand_int__"], timeout=120)
        words = [w.strip('"') for w in out.stdout.strip().splitlines()[-1].split(",")]
        if out.code or len(words) < 8:
            raise Failure(f"redis-benchmark: exit {out.code}: {out.tail()} {out.stdout[-200:]}")
        return {"requests_s": float(words[-7]), "p50": float(words[-4]) * 1e3,
                "p99": float(words[-2]) * 1e3, "max": float(words[-1]) * 1e3}

    def during(self, pair, began):
        """The gap begins with the (first) command, not with the stop: no client can know that moment."""
        client = RedisClient(pair.b, pair.b.address, self.keys, key=self.KEY)
        client.start()
        wait_for(lambda: client.first_answer, 60, "redis answers on the other device", 0.001)
        self.first_answer_s = client.first_answer - began
        client.stop()
        if client.wrong:
            raise Failure("redis: a wrong answer")
        self.after = self.load(pair.b, pair.b.address)

    def finish(self, pair):
        if demo.cli(pair.b, "DEBUG", "DIGEST") != self.digest:
            raise Failure("redis: the data differs")
        return {"first_answer_ms": self.first_answer_s * 1e3,
                "requests_before_s": self.before["requests_s"],
                "requests_after_s": self.after["requests_s"], "answer_before_p99_us": self.before["p99"],
                "answer_after_p50_us": self.after["p50"], "answer_after_p99_us": self.after["p99"],
                "answer_after_max_us": self.after["max"]}


def touch(path):
    with open(path, "w"):
        pass
