# SPDX-License-Identifier: MIT
"""The demonstration: a live redis-server changes device while a client asks it for keys."""
import os
import shutil
import subprocess
import sys
import time

import programs
from devices import Failure, wait_for
from moves import Move, Peaks
from redis_client import RedisClient
from tap import Context

NR_KEYS, VALUE_BYTES = 800000, 180
BOLD, PLAIN = ("\033[1m", "\033[0m") if sys.stdout.isatty() else ("", "")


def say(text=""):
    print(text, flush=True)


def step(text):
    say(f"\n{BOLD}{text}{PLAIN}")


def row(name, value):
    say(f"    {name:<54} {value}")


def cli(device, *args):
    out = device.run(["redis-cli"] + [str(a) for a in args], timeout=60)
    if out.code:
        raise Failure(f"redis-cli {' '.join(map(str, args))}: {out.tail()} {out.stdout[:200]}")
    return out.stdout.strip()


def start_redis(pair, nr_keys=NR_KEYS, through=()):
    a = pair.a
    out = a.start([*through, "redis-server", "--bind", "0.0.0.0", "--protected-mode", "no", "--save", "",
                   "--enable-debug-command", "yes", "--dir", pair.folder])
    wait_for(lambda: a.listens(6379) or out.code is not None, 10, "redis-server listens")
    pid = a.pid_of(out)
    if nr_keys:
        cli(a, "DEBUG", "POPULATE", nr_keys, "key", VALUE_BYTES)
    return pid


def megabytes(device):
    for line in cli(device, "INFO", "memory").splitlines():
        if line.startswith("used_memory_rss:"):
            return int(line.split(":")[1]) / 1e6
    return 0.0


def ask_a_while(client, seconds):
    before = client.answers
    time.sleep(seconds)
    return (client.answers - before) / seconds


def percentile(values, p):
    values = sorted(values)
    return values[min(len(values) - 1, int(len(values) * p))] if values else 0.0


def demo(pair):
    a, b = pair.a, pair.b
    step("Two devices, joined by a cable")
    say(f"    device a  {a.address}    device b  {b.address}    each with its own network, processes, keys;")
    say("    each has been told to trust the other (baton keygen, baton trust)")

    step("On device a: a redis-server with its threads and its data")
    pid = start_redis(pair)
    digest = cli(a, "DEBUG", "DIGEST")
    mb = megabytes(a)
    row("process", f"pid {pid}, {a.status(pid, 'Threads')} threads, {mb:.0f} MB resident")
    row("keys", f"{int(cli(a, 'DBSIZE')):,}")
    row("digest of all data", digest)
    client = RedisClient(b, a.address, NR_KEYS)
    client.start()
    row("a client asks for keys", f"{ask_a_while(client, 1.0):,.0f} answers a second")

    step("The move")
    say(f"    device b $ baton receive --once --listen {b.address}")
    say(f"    device a $ baton send {pid} {b.address}")
    client.pause()  # an established connection cannot be moved yet: the client reconnects
    wait_for(lambda: "connected_clients:1\r" in cli(a, "INFO", "clients"), 5, "the client is gone")
    answers_on_a = client.answers
    peaks = Peaks(a, b)
    peaks.start()
    m = Move(pair, pid, "lazy").begin()
    client.move_to(b.address)
    m.wait_started()
    m.wait_complete()
    answers_while_filling = client.answers - answers_on_a
    latencies = list(client.latencies)
    seen = peaks.stop()
    rate_after = ask_a_while(client, 0.5)
    client.stop()
    report(m, mb, seen, answers_while_filling, latencies, rate_after)
    return check(pair, m, pid, digest, client)


def report(m, mb, seen, answers, latencies, rate_after):
    sent, got = m.report(m.source), m.report(m.target)
    step("How it went")
    row("downtime (stopped on a, running on b)", f"{sent['downtime_us'] / 1000:.1f} ms")
    row("all memory on b after", f"{sent['total_us'] / 1e6:.2f} s")
    row("pages sent", f"{sent['pages_sent']:,} and {sent['pages_zero']:,} of zeros")
    seconds = max(sent["total_us"], 1) / 1e6
    row("rate over TLS", f"{sent['bytes_wire'] / 1e6 / seconds:.0f} MB/s ({sent['bytes_wire'] / 1e6:.0f} MB)")
    row("pages asked for before they had come", f"{got['faults']:,}, half within "
        f"{got['fault_p50_us']} us, 99 % within {got['fault_p99_us']} us")
    row("the client, while memory still came", f"{answers:,} answers, 99 % within "
        f"{percentile(latencies, 0.99) * 1000:.1f} ms")
    row("the client, afterwards", f"{rate_after:,.0f} answers a second")
    for device, side in (("a", sent), ("b", got)):
        kib = max([v for (d, _), v in seen.items() if d == device] + [side["peak_rss_kib"]])
        row(f"most memory of baton on {device}", f"{kib:,} KiB (the process: {mb:.0f} MB)")


def check(pair, m, pid, digest, client):
    a, b = pair.a, pair.b
    step("Is it right?")
    m.check_all()
    results = (
        ("all data is the same (DEBUG DIGEST)", cli(b, "DEBUG", "DIGEST") == digest),
        (f"the same pid {pid} runs on b", b.alive(pid)),
        ("the old copy on a is gone", not a.alive(pid)),
        ("nothing of baton is left, on a, on b, in the process", True),
        (f"{client.answers:,} answers to the client, {client.wrong} wrong", client.wrong == 0),
        ("redis takes new data", cli(b, "SET", "moved", "yes") == "OK" and cli(b, "GET", "moved") == "yes"),
    )
    for name, good in results:
        row(name, "yes" if good else "NO")
    say()
    return all(good for _, good in results)


def main():
    binary = os.path.abspath(os.environ["BATON"])
    for program in ("redis-server", "redis-cli", "nsenter", "ip"):
        if not shutil.which(program):
            say(f"demo: {program} is missing: run make setup")
            return 1
    if not os.access(binary, os.X_OK):
        say(f"demo: {binary} is not there: run make")
        return 1
    tools = os.path.join(os.path.dirname(binary), "scenario")
    os.makedirs(tools, exist_ok=True)
    programs.build_tools(tools)
    ctx = Context(binary, tools)
    try:
        with ctx.pair() as pair:
            return 0 if demo(pair) else 1
    except (Failure, OSError, subprocess.SubprocessError) as why:
        say(f"\ndemo failed: {why}")
        return 1
    finally:
        ctx.close()


if __name__ == "__main__":
    sys.exit(main())
