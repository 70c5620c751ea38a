# SPDX-License-Identifier: MIT
"""A slow service that comes out of an image, against a fresh start of it: the time to the first answer, by which it knows
what it had loaded; and the size of the image. Files lie on a disk, and are not in memory when they are read."""
import os
import shutil
import tempfile
import time

from devices import Failure, wait_for

# Started before the service: asks until it is answered right, and says when that was.
PROBE = r"""
import socket, sys, time
kind, port = sys.argv[1], int(sys.argv[2])
def need(s, data, wanted):
    s.sendall(data)
    got = b""
    while wanted not in got:
        more = s.recv(1000)
        if not more: raise OSError
        got += more
        if got.startswith(b"-"): raise OSError
def ask(s):
    if kind == "redis": need(s, b"GET key:77\r\n", b"value:77")
    elif kind == "python": need(s, b"?\n", b"ok")
    else:
        need(s, b"\x10\x0f\0\4MQTT\4\2\0\x3c\0\3ask", b"\x20\2\0\0")
        need(s, b"\x82\x09\0\1\0\4t/77\0", b"value 77 ")
        s.sendall(b"\xe0\0")
print("asks", flush=True)
while True:
    with socket.socket() as s:
        try:
            s.settimeout(5)
            s.connect(("127.0.0.1", port))
            ask(s)
            break
        except OSError:
            time.sleep(0.0005)
print(time.time(), flush=True)
"""

# What it imports is there with every python3.
PYTHON = r"""
import socket
for name in ("asyncio concurrent.futures csv ctypes curses dbm decimal difflib doctest email.mime.text ensurepip fractions "
             "ftplib http.server http.cookiejar imaplib inspect json lib2to3.main logging.config mailbox multiprocessing.pool "
             "netrc optparse pdb pickle plistlib poplib pydoc random shelve smtplib sqlite3 ssl statistics tarfile tempfile "
             "tracemalloc turtledemo typing unittest.mock urllib.request uuid venv wave xml.dom.minidom xml.sax "
             "xmlrpc.server zipapp zipfile zoneinfo").split():
    try:
        __import__(name)
    except ImportError:
        pass
table = {n: str(n) for n in range(400000)}
server = socket.create_server(("127.0.0.1", 7000))
while True:
    one = server.accept()[0]
    with one:
        if one.recv(10):
            one.sendall(b"ok")
"""

PUBLISH = r"""
import socket, sys
s = socket.create_connection(("127.0.0.1", 1883))
s.sendall(b"\x10\x10\0\4MQTT\4\2\0\x3c\0\4fill")
assert s.recv(4) == b"\x20\2\0\0"
for n in range(int(sys.argv[1])):
    topic = b"t/%d" % n
    body = len(topic).to_bytes(2, "big") + topic + b"value %d " % n + b"of a sensor " * 12
    s.sendall(b"\x31" + bytes([len(body) & 127 | 128, len(body) >> 7]) + body)
s.sendall(b"\xc0\0")
while s.recv(100) != b"\xd0\0": pass
s.sendall(b"\xe0\0")
"""


def evict(path):
    """Out of the page cache, on to the disk."""
    with open(path, "rb+") as f:
        os.fsync(f.fileno())
        os.posix_fadvise(f.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


class RedisService:
    what, port, data = "redis-server", 6379, "dump.rdb"

    def __init__(self, size):
        self.keys = size * 2500

    def command(self, folder):
        return ["redis-server", "--bind", "127.0.0.1", "--save", "", "--dir", folder]

    def fill(self, device):
        fill = ("for i = 0, ARGV[1] - 1 do redis.call('set', 'key:' .. i, 'value:' .. i .. '{\"session\": \"' .. "
                "redis.sha1hex(i) .. '\", \"address\": \"10.0.0.1\", \"state\": \"logged in\"}') end")
        for words in (["EVAL", fill, 0, self.keys], ["SAVE"]):
            done = device.run(["redis-cli", *words], timeout=300)
            if done.code or "ERR" in done.stdout:
                raise Failure(f"redis-cli {words[0]}: {done.stdout[:200]} {done.tail()}")


class PythonService:
    what, port, data = "python3 with 50 modules and a table", 7000, None

    def __init__(self, size):
        del size

    def command(self, folder):
        with open(f"{folder}/service.py", "w") as f:
            f.write(PYTHON)
        return ["/usr/bin/python3", "-I", f"{folder}/service.py"]

    def fill(self, device):
        """Nothing: it computes what it has."""


class MosquittoService:
    what, port, data = "mosquitto with its retained messages", 1883, "mosquitto.db"

    def __init__(self, size):
        self.messages = size * 1000

    def command(self, folder):
        with open(f"{folder}/mosquitto.conf", "w") as f:
            f.write(f"listener 1883 127.0.0.1\nallow_anonymous true\npersistence true\npersistence_location {folder}/\n"
                    "autosave_interval 0\nlog_dest none\nuser root\nmax_queued_messages 0\n")
        return ["mosquitto", "-c", f"{folder}/mosquitto.conf"]

    def fill(self, device):
        done = device.run(["/usr/bin/python3", "-I", "-c", PUBLISH, self.messages], timeout=300)
        if done.code:
            raise Failure(f"mosquitto is not filled: {done.tail()}")


class ImageJob:
    """A round: started fresh, written, started out of each file in each mode."""

    kind, mib, who, link, on_demand, peer = "image", 0, "baton", None, False, False

    def __init__(self, service, size):
        self.service = service(size)
        self.what = f"image: {service.what}"
        self.name = self.what
        self.probe = {"RedisService": "redis", "PythonService": "python"}.get(service.__name__, "mqtt")

    def round(self, ctx):
        folder = tempfile.mkdtemp(prefix="baton-image-", dir="/var/tmp")
        try:
            with ctx.pair() as pair:
                return self.measure(pair, folder)
        finally:
            shutil.rmtree(folder)

    def answered(self, device, start):
        """Milliseconds from the start to the first right answer, and what was started."""
        probe = device.start(["/usr/bin/python3", "-I", "-c", PROBE, self.probe, self.service.port], name="probe")
        wait_for(lambda: "asks" in probe.stdout, 20, "the probe asks")
        began = time.time()
        out = start()
        while probe.code is None:
            if out.code:
                raise Failure(f"{self.what}: exit {out.code}: {out.tail()}")
            time.sleep(0.01)
        return (float(probe.stdout.split()[-1]) - began) * 1e3, out

    def end(self, device, pid, gently=False):
        device.run(["kill", "-TERM" if gently else "-9", pid])
        wait_for(lambda: not os.path.exists(device.proc(pid)), 60, f"{self.what} ends")

    def start_fresh(self, device, folder):
        took, out = self.answered(device, lambda: device.start(
            ["sh", "-c", 'exec "$@" </dev/null >/dev/null 2>&1', "sh", *self.service.command(folder)], wd="/"))
        return took, device.pid_of(out)

    def dump(self, pair, pid, path, *options):
        """Again while a connection of the probe is still being closed."""
        def done():
            out = pair.baton(pair.a, "dump", *options, pid, path)
            out.wait(120)
            if out.code not in (0, 3):
                raise Failure(f"dump: exit {out.code}: {out.tail()}")
            return out.code == 0
        wait_for(done, 20, "the process can be written", 0.3)

    def measure(self, pair, folder):
        a, found = pair.a, {}
        if self.service.data:
            self.prepare(a, folder)
        found["image_fresh_ms"], pid = self.start_fresh(a, folder)
        found["image_memory_mib"] = int(a.status(pid, "VmRSS").split()[0]) / 1024
        files = {"plain": f"{folder}/plain.image", "lz4": f"{folder}/lz4.image"}
        self.dump(pair, pid, files["plain"], "--leave-running", "--compress", "off")
        self.dump(pair, pid, files["lz4"], "--compress", "on")
        wait_for(lambda: not os.path.exists(a.proc(pid)), 10, "it has ended")
        for sort, path in files.items():
            found[f"image_{sort}_mib"] = os.path.getsize(path) / (1 << 20)
            for mode in ("lazy", "eager"):
                evict(path)
                took, out = self.answered(a, lambda p=path, m=mode: pair.baton(a, "restore", f"--{m}", p))
                out.wait(120)
                if out.code:
                    raise Failure(f"restore --{mode}: exit {out.code}: {out.tail()}")
                found[f"image_{mode}_{sort}_ms"] = took
                self.end(a, pid)
        return found

    def prepare(self, device, folder):
        """The file out of which it loads by itself."""
        out = device.start(["sh", "-c", 'exec "$@" </dev/null >/dev/null 2>&1', "sh", *self.service.command(folder)], wd="/")
        wait_for(lambda: device.listens(self.service.port), 20, f"{self.what} listens")
        self.service.fill(device)
        self.end(device, device.pid_of(out), gently=True)
        evict(f"{folder}/{self.service.data}")


def jobs(quick):
    return [ImageJob(service, 2 if quick else size) for service, size in
            ((RedisService, 320), (PythonService, 1), (MosquittoService, 120))]
