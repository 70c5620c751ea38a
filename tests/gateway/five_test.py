# SPDX-License-Identifier: MIT
"""Five real services that leave together and come home; their clients find what they left.

ROUNDS=5 tests/gateway/run --group five: so often to and fro, with medians."""
import os
import re
import statistics
import time

from devices import PORT, TOP, Failure, read, wait_for
from fleet import allow_recall, moves, run
from real_test import cli, http_get, mqtt_retain, mqtt_retained, need
from victim import Receiver

ROUNDS = int(os.environ.get("ROUNDS", "1"))
REDIS, NGINX, COUNTER = 6379, 8081, 8082
KEYS, PAGE = 200000, "".join(f"line {i} of the page\n" for i in range(3000))


class Service:
    """One that is started on device a and asked on whichever it is. `pid` is known to the list by a pid file."""
    name, priority, after = "", 0, ""

    def __init__(self, pair):
        self.folder = f"{pair.folder}/{self.name}"
        os.mkdir(self.folder)
        os.chmod(self.folder, 0o755)
        self.output = pair.a.start(self.command(), name=self.name)
        self.pid = int(pair.a.pid_of(self.output))
        wait_for(lambda: self.output.code is not None or self.is_up(pair.a), 20, f"{self.name} is up")
        if self.output.code is not None:
            raise Failure(f"{self.name} does not start: {self.output.tail()}")
        self.fill(pair.a)
        with open(f"{self.folder}/pid", "w") as f:
            f.write(f"{self.pid}\n")
        options = ["--priority", str(self.priority)] + (["--after", self.after] if self.after else [])
        run(pair, pair.a, "protect", "add", self.name, "--pidfile", f"{self.folder}/pid", *options, state=False)

    def fill(self, device):
        pass

    def expect(self, got, wanted):
        if got != wanted:
            raise Failure(f"{self.name} answers {str(got)[:200]!r} where {str(wanted)[:60]!r} is due")


class Redis(Service):
    name, priority = "redis", 10

    def command(self):
        return [need("redis-server", "redis-cli")[0], "--port", str(REDIS), "--bind", "0.0.0.0", "--protected-mode",
                "no", "--save", "", "--enable-debug-command", "yes", "--dir", self.folder]

    def is_up(self, device):
        return device.listens(REDIS)

    def fill(self, device):
        cli(device, "DEBUG", "POPULATE", str(KEYS), "key", "200")
        self.digest = cli(device, "DEBUG", "DIGEST")

    def check(self, device):
        self.expect(cli(device, "DBSIZE"), str(KEYS))
        self.expect(cli(device, "DEBUG", "DIGEST"), self.digest)


class Mosquitto(Service):
    name, priority = "mosquitto", 5

    def command(self):
        with open(f"{self.folder}/conf", "w") as f:
            f.write("listener 1883 0.0.0.0\nallow_anonymous true\npersistence false\nuser root\n")
        return [need("mosquitto")[0], "-c", f"{self.folder}/conf"]

    def is_up(self, device):
        return device.listens(1883)

    def fill(self, device):
        mqtt_retain(device)

    def check(self, device):
        mqtt_retained(device)


class Nginx(Service):
    name, after = "nginx", "counter"

    def command(self):
        os.mkdir(f"{self.folder}/www", 0o755)
        with open(f"{self.folder}/www/page.txt", "w") as f:
            f.write(PAGE)
        with open(f"{self.folder}/conf", "w") as f:
            f.write(f"daemon off; master_process off; pid {self.folder}/nginx.pid;\nerror_log {self.folder}/err;\n"
                    f"events {{}}\nhttp {{ access_log off; server {{ listen {NGINX}; root {self.folder}/www;\n"
                    f"location /count/ {{ proxy_pass http://127.0.0.1:{COUNTER}/; }} }}\n")
            f.write("".join(f"{kind}_temp_path {self.folder}/{kind};\n"
                            for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")) + "}\n")
        return [need("nginx", "curl")[0], "-c", f"{self.folder}/conf", "-e", f"{self.folder}/err"]

    def is_up(self, device):
        return device.listens(NGINX)

    def check(self, device):
        self.expect(http_get(device, device.address, NGINX, "page.txt"), PAGE)


class Counter(Service):
    """python3, behind nginx."""
    name, priority, asked = "counter", 3, 0

    def command(self):
        return [need("python3")[0], "-I", "-B", f"{TOP}/tests/gateway/counter.py", str(COUNTER)]

    def is_up(self, device):
        return device.listens(COUNTER)

    def check(self, device):
        self.asked += 1
        self.expect(http_get(device, device.address, NGINX, "count/99999"), f"{self.asked} {99999 * 7919 % 100003:08d}\n")


class Sqlite(Service):
    """The shell with a database in memory, fed through a FIFO that it holds open itself."""
    name, rows = "sqlite", 50000

    def command(self):
        os.mkfifo(f"{self.folder}/fifo")
        return ["sh", "-c", f"exec {need('sqlite3')[0]} :memory: 0<>{self.folder}/fifo"]

    def is_up(self, device):
        return read(f"/proc/{device.init}/root/proc/{self.pid}/comm").strip() == "sqlite3"

    def tell(self, text):
        fd = os.open(f"{self.folder}/fifo", os.O_WRONLY | os.O_NONBLOCK)
        os.write(fd, text.encode())
        os.close(fd)

    def ask(self, wanted):
        self.tell(f".once {self.folder}/answer.part\nselect count(*), sum(n) from t;\n"
                  f".shell mv {self.folder}/answer.part {self.folder}/answer\n")
        got = wait_for(lambda: read(f"{self.folder}/answer").strip(), 20, "sqlite3 answers")
        os.unlink(f"{self.folder}/answer")
        self.expect(got, wanted)

    def fill(self, device):
        self.tell("create table t(n integer);\nwith recursive c(n) as (select 1 union all select n+1 from c "
                  f"where n<{self.rows}) insert into t select n from c;\n")
        self.check(device)

    def check(self, device):
        self.ask(f"{self.rows}|{self.rows * (self.rows + 1) // 2}")


def quiet(device):
    """Clients are gone to the last state of their connections."""
    return not device.run(["ss", "-Htn", "state", "established", "state", "close-wait"]).stdout.strip()


def go(pair, services, here, there, *command):
    """All of them go from `here` to `there`: milliseconds that it took, and of each its downtime."""
    wait_for(lambda: quiet(here), 20, "the clients have closed their connections")
    receiver = pair.receivers[there.name]
    before = len(receiver.output.stdout)
    began = time.monotonic()
    out = run(pair, pair.a, "evacuate", *command, timeout=120)
    took = (time.monotonic() - began) * 1000
    for s in services:
        wait_for(lambda s=s: there.alive(s.pid) and not here.alive(s.pid), 20, f"{s.name} is there alone: {out.stdout}")
        s.check(there)
    said = wait_for(lambda: len(found := re.findall(r"^took \S+ \(pid (\d+)\).*: downtime ([\d.]+) ms",
                                                    receiver.output.stdout[before:], re.M)) == len(services) and found,
                    20, "the receiver has told of each")
    return took, {int(pid): float(ms) for pid, ms in said}


def test_five(ctx):
    with ctx.pair() as pair:
        a, b = pair.a, pair.b
        os.chmod(pair.folder, 0o755)
        allow_recall(b, "device-a")
        pair.receivers = {d.name: Receiver(pair, device=d) for d in (a, b)}
        services = [kind(pair) for kind in (Nginx, Redis, Counter, Mosquitto, Sqlite)]
        for s in services:
            s.check(a)
        out, home, downs = [], [], {s.pid: [] for s in services}
        for _ in range(ROUNDS):
            for times, here, there, command in ((out, a, b, (f"{b.address}:{PORT}",)), (home, b, a, ("--back",))):
                took, down = go(pair, services, here, there, *command)
                times.append(took)
                for pid, ms in down.items():
                    downs[pid].append(ms)
        order = [line.split()[0] for line in re.findall(r"offers (.*)", pair.receivers["b"].output.stderr)][:5]
        if order[:3] != ["redis-server", "mosquitto", "python3"]:
            raise Failure(f"they went in the order {order}")
        for device in (a, b):
            wait_for(lambda d=device: not moves(d), 10, "nothing is left half-way")
        return (f"out {statistics.median(out):.0f} ms, back {statistics.median(home):.0f} ms; downtime ms: "
                + ", ".join(f"{s.name} {statistics.median(downs[s.pid]):.1f}" for s in services))


def tests(ctx):
    return []


def alone(ctx):
    return [("five services: out and back", lambda: test_five(ctx))]
