# SPDX-License-Identifier: MIT
"""Real programs: redis, python3, busybox httpd, sqlite3, mosquitto, nginx."""
import os
import shutil
import socket
import struct
import time

from devices import Failure, Skip, read, wait_for
from moves import MODES, Move
from programs_test import check_result, touch
from strangers_test import enter_netns

HERE = os.path.dirname(os.path.abspath(__file__))


def need(*programs):
    paths = [shutil.which(p, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin") for p in programs]
    for program, path in zip(programs, paths):
        if not path:
            raise Skip(f"{program} is not installed")
    return paths


def finish(m, mode, end):
    """on-demand is complete when the process ends: end() ends it."""
    if mode == "on-demand":
        end()
        m.wait_complete()
        m.check_reports()
        m.check_gone()
        m.check_idle()


def begin(pair, pid, mode, **kw):
    m = Move(pair, pid, mode, **kw).begin()
    m.wait_started()
    return m


def settle(m, mode):
    if mode != "on-demand":
        m.wait_complete()
        m.check_all()


def python_program(ctx, script, mode):
    need("python3")
    with ctx.pair() as pair:
        folder = f"{pair.folder}/d"
        os.mkdir(folder)
        output = pair.a.start(["/usr/bin/python3", "-I", "-B", f"{HERE}/{script}", folder])

        def ready():
            if output.code is not None:
                raise Failure(f"does not start: {output.tail()}")
            return read(f"{folder}/ready")
        pid = int(wait_for(ready, 20, "the program is ready"))
        time.sleep(0.1)
        folder = pair.separate(folder)
        m = begin(pair, pid, mode)
        settle(m, mode)
        touch(f"{folder}/go")
        check_result(pair, folder, output)
        touch(f"{folder}/end")
        wait_for(lambda: not pair.b.alive(pid), 5, "the program ends")
        finish(m, mode, lambda: None)


def cli(device, *args, timeout=30):
    out = device.run(["redis-cli"] + list(args), timeout=timeout)
    if out.code:
        raise Failure(f"redis-cli {' '.join(args)}: exit {out.code}: {out.tail()} {out.stdout[:100]}")
    return out.stdout.strip()


def redis_load(device):
    cli(device, "DEBUG", "POPULATE", "60000", "key", "200")
    script = ("for i = 1, 2000 do redis.call('hset', 'hash', 'field' .. i, 'value' .. i * 7); "
              "redis.call('zadd', 'zset', i * 3 % 1009, 'member' .. i); "
              "redis.call('rpush', 'list', string.rep('x', i % 300) .. i); "
              "redis.call('sadd', 'set', i * i) end; return 'loaded'")
    if cli(device, "EVAL", script, "0") != "loaded":
        raise Failure("redis does not load")
    cli(device, "SET", "expires", "later", "EX", "1000")


def redis(ctx, mode, **kw):
    server = need("redis-server", "redis-cli")[0]
    with ctx.pair(**kw) as pair:
        a, b = pair.a, pair.b
        out = a.start([server, "--port", "6379", "--bind", "0.0.0.0", "--protected-mode", "no", "--save",
                       "", "--enable-debug-command", "yes", "--dir", pair.folder])
        pid = a.pid_of(out)
        wait_for(lambda: a.listens(6379), 10, "redis-server listens")
        redis_load(a)
        digest = cli(a, "DEBUG", "DIGEST")
        wait_for(lambda: "connected_clients:1\r" in cli(a, "INFO", "clients"), 5, "clients are gone")
        time.sleep(0.1)
        m = begin(pair, pid, mode)
        if not cli(b, "GET", "key:77").startswith("value:77"):
            raise Failure("GET of a key gives another value while filling")
        settle(m, mode)
        if cli(b, "DEBUG", "DIGEST") != digest:
            raise Failure("DEBUG DIGEST differs")
        cli(b, "SET", "after", "the move")
        if cli(b, "GET", "after") != "the move" or int(cli(b, "TTL", "expires")) > 1000:
            raise Failure("redis does not work on")
        finish(m, mode, lambda: b.run(["redis-cli", "SHUTDOWN", "NOSAVE"]))


def http_get(device, address, port, path):
    out = device.run(["curl", "-sS", "--max-time", "5", f"http://{address}:{port}/{path}"])
    return out.stdout if out.code == 0 else f"curl: exit {out.code}: {out.tail()}"


def web_server(ctx, mode, argv, port, prepare):
    """A server of files: the same page from both devices, before and after."""
    need("curl")
    with ctx.pair() as pair:
        a, b = pair.a, pair.b
        root = f"{pair.folder}/www"
        os.mkdir(root)
        os.chmod(root, 0o755)
        page = "".join(f"line {i} of the page\n" for i in range(3000))
        with open(f"{root}/page.txt", "w") as f:
            f.write(page)
        out = a.start(prepare(pair, root, argv))
        wait_for(lambda: a.listens(port) or out.code is not None, 10, "the server listens")
        pid = a.pid_of(out)
        if http_get(b, a.address, port, "page.txt") != page:
            raise Failure("the page is wrong before the move")
        time.sleep(0.3)
        m = begin(pair, pid, mode)
        settle(m, mode)
        for device in (a, b):
            got = http_get(device, b.address, port, "page.txt")
            if got != page:
                raise Failure(f"the page is wrong after the move, seen from {device.name}: {got[:100]}")
        finish(m, mode, lambda: b.run(["kill", "-9", pid]))


def httpd(ctx, mode):
    program = need("busybox")[0]
    web_server(ctx, mode, program, 8080,
               lambda pair, root, argv: [argv, "httpd", "-f", "-p", "8080", "-h", root])


def nginx_config(pair, root, argv):
    conf = f"{pair.folder}/nginx.conf"
    with open(conf, "w") as f:
        f.write(f"daemon off; master_process off; pid {pair.folder}/nginx.pid;\n"
                f"error_log {pair.folder}/nginx.err;\n"
                "events { worker_connections 64; }\n"
                f"http {{ access_log {pair.folder}/nginx.log;\n")
        for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"):
            f.write(f"{kind}_temp_path {pair.folder}/nginx.{kind};\n")
        f.write(f"server {{ listen 8081; keepalive_timeout 0; root {root}; }} }}\n")
    return [argv, "-c", conf, "-e", f"{pair.folder}/nginx.err"]


def nginx(ctx, mode):
    web_server(ctx, mode, need("nginx")[0], 8081, nginx_config)


def sqlite_shell(ctx, mode):
    """The sqlite3 program itself, fed through a FIFO that it holds open."""
    program = need("sqlite3")[0]
    with ctx.pair() as pair:
        folder = f"{pair.folder}/d"
        os.mkdir(folder)
        base, fifo, done = (f"{folder}/{n}" for n in ("base.db", "fifo", "done"))
        os.mkfifo(fifo)
        # It has both ends itself: no one else needs to keep it open.
        out = pair.a.start(["sh", "-c", f"exec {program} {base} 0<>{fifo}"])
        pid = pair.a.pid_of(out)

        def tell(text, folder=folder):
            fd = os.open(f"{folder}/fifo", os.O_WRONLY | os.O_NONBLOCK)
            os.write(fd, text.encode())
            os.close(fd)
        wait_for(lambda: read(f"/proc/{pair.a.init}/root/proc/{pid}/comm").strip() == "sqlite3", 5,
                 "sqlite3 starts")
        tell("create table t(n integer);\nbegin immediate;\n"
             "with recursive c(n) as (select 1 union all select n+1 from c where n<50000) "
             f"insert into t select n from c;\n.once {done}1\nselect sum(n) from t;\n")
        wait_for(lambda: read(done + "1").strip() == "1250025000", 10, "the transaction is open")
        time.sleep(0.1)
        own = pair.separate(folder)
        m = begin(pair, pid, mode)
        settle(m, mode)
        tell(f"insert into t values(1);\n.once {done}2\nselect sum(n) from t;\ncommit;\n.exit\n", own)
        wait_for(lambda: read(own + "/done2").strip() == "1250025001", 10, "sqlite3 goes on")
        wait_for(lambda: not pair.b.alive(pid), 5, "sqlite3 ends when told")
        check = pair.b.run([program, base, "select sum(n), count(*) from t; pragma integrity_check;"])
        if check.stdout.split() != ["1250025001|50001", "ok"]:
            raise Failure(f"the database: {check.stdout!r} {check.tail()}")
        finish(m, mode, lambda: None)


def mqtt(sock, kind, body):
    sock.sendall(bytes([kind, len(body)]) + body)


def mqtt_text(text):
    return struct.pack(">H", len(text)) + text.encode()


def mqtt_open(device, address):
    """A session with the broker, from inside a device."""
    sock = enter_netns(device, lambda: socket.create_connection((address, 1883), 5))
    sock.settimeout(5)
    mqtt(sock, 0x10, mqtt_text("MQTT") + b"\x04\x02\x00\x3c" + mqtt_text(f"client-{device.name}"))
    if sock.recv(4)[:1] != b"\x20":
        raise Failure("the broker does not answer CONNECT")
    return sock


def mqtt_retain(device):
    """Leaves a message with the broker of a device for whoever asks."""
    sock = mqtt_open(device, device.address)
    mqtt(sock, 0x31, mqtt_text("state/door") + b"open since 7")
    mqtt(sock, 0xE0, b"")
    sock.close()


def mqtt_retained(device):
    """The broker has it."""
    sock = mqtt_open(device, device.address)
    mqtt(sock, 0x82, b"\x00\x01" + mqtt_text("state/#") + b"\x00")
    got = b""
    while b"open since 7" not in got:
        data = sock.recv(200)
        if not data:
            raise Failure(f"mosquitto has lost its retained message: {got!r}")
        got += data
    mqtt(sock, 0xE0, b"")
    sock.close()


def mosquitto(ctx, mode):
    program = need("mosquitto")[0]
    with ctx.pair() as pair:
        a, b = pair.a, pair.b
        with open(f"{pair.folder}/conf", "w") as f:
            f.write("listener 1883 0.0.0.0\nallow_anonymous true\npersistence false\nuser root\n")
        out = a.start([program, "-c", f"{pair.folder}/conf"])
        wait_for(lambda: a.listens(1883) or out.code is not None, 10, "mosquitto listens")
        pid = a.pid_of(out)
        mqtt_retain(a)
        time.sleep(0.5)
        m = begin(pair, pid, mode)
        settle(m, mode)
        mqtt_retained(b)
        time.sleep(0.1)
        finish(m, mode, lambda: b.run(["kill", "-9", pid]))


def tests(ctx):
    kinds = [("redis-server", lambda m: redis(ctx, m), MODES),
             ("python3 with threads and files", lambda m: python_program(ctx, "real_threads.py", m), MODES),
             ("sqlite in a transaction (python3)", lambda m: python_program(ctx, "real_sqlite.py", m),
              MODES),
             ("sqlite3 in a transaction (shell)", lambda m: sqlite_shell(ctx, m), ("lazy", "eager", "pull")),
             ("busybox httpd", lambda m: httpd(ctx, m), MODES),
             ("nginx", lambda m: nginx(ctx, m), ("lazy", "eager", "pull")),
             ("mosquitto", lambda m: mosquitto(ctx, m), ("lazy", "eager", "pull"))]
    return [(f"{name} ({mode})", lambda f=function, m=mode: f(m))
            for name, function, modes in kinds for mode in modes]
