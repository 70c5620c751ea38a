# SPDX-License-Identifier: MIT
"""keepalived: the virtual address moves, and redis-server with it."""
import os
import shutil

from devices import PORT, TOP, Failure, Skip, read, wait_for
from fleet import allow_recall, moves, run
from victim import Receiver

VIP = "10.77.0.100"
REDIS = 6400

CONFIG = """
global_defs {{
	router_id {name}
	script_user root
	enable_script_security
	vrrp_garp_master_delay 0
}}
vrrp_script fit {{
	script "/usr/bin/test ! -e {folder}/{name}.unfit"
	interval 1
	timeout 1
	fall 1
	rise 1
	user root
}}
vrrp_instance gateway {{
	state BACKUP
	interface veth0
	virtual_router_id 77
	priority {priority}
	advert_int 0.2
	virtual_ipaddress {{
		{vip}/24
	}}
	track_script {{
		fit
	}}
	notify "/bin/env LAST={folder}/{name}.last BATON_FAILOVER={folder}/{name}.failover {hooks}/keepalived-notify" root
}}
"""


def has_address(device):
    out = device.run(["ip", "-4", "addr", "show", "dev", "veth0"])
    return VIP in out.stdout


def settings(pair, device, other):
    path = f"{pair.folder}/{device.name}.failover"
    with open(path, "w") as f:
        f.write(f"PEER={other.address}:{PORT}\nBATON={pair.binary}\nKEYS={device.keys}\nSTATE={device.state}\n")
    return path


def start_keepalived(pair, device, other, priority):
    settings(pair, device, other)
    # It wants scripts that nobody else can change, in folders like that.
    hooks = f"{pair.folder}/{device.name}.hooks"
    shutil.copytree(f"{TOP}/board/failover", hooks)
    conf = f"{pair.folder}/{device.name}.keepalived.conf"
    with open(conf, "w") as f:
        f.write(CONFIG.format(name=device.name, folder=pair.folder, vip=VIP, priority=priority, hooks=hooks))
    return device.start(["keepalived", "-n", "-l", "-D", "-P", "-f", conf, "-p", f"{conf}.pid",
                         "-r", f"{conf}.vrrp.pid"], name="keepalived")


def test_redis(ctx):
    for tool in ("keepalived", "redis-server"):
        if not shutil.which(tool, path=os.environ["PATH"] + ":/usr/sbin"):
            raise Skip(f"{tool} is not there (tools/setup check)")
    with ctx.pair() as pair:
        a, b = pair.a, pair.b
        os.chmod(pair.folder, 0o755)
        for device, name in ((a, "device-b"), (b, "device-a")):
            allow_recall(device, name)
            Receiver(pair, device=device)
        data = f"{pair.folder}/redis"
        os.mkdir(data)
        pidfile = f"{data}/pid"
        redis = a.start(["redis-server", "--port", str(REDIS), "--bind", "0.0.0.0", "--protected-mode", "no",
                         "--save", "", "--dir", data, "--pidfile", pidfile, "--daemonize", "no"], name="redis")
        pid = a.pid_of(redis)
        wait_for(lambda: a.listens(REDIS), 20, "redis-server listens")
        with open(pidfile, "w") as f:
            f.write(f"{pid}\n")
        for device in (a, b):  # the same list on both, as two gateways have it
            run(pair, device, "protect", "add", "redis", "--pidfile", pidfile, state=False)
        daemons = [start_keepalived(pair, a, b, 150), start_keepalived(pair, b, a, 100)]
        wait_for(lambda: has_address(a), 30, "device a has the virtual address")

        def ask(device, *words):
            """A client that connects anew, as after a failover."""
            out = device.run(["redis-cli", "-h", VIP, "-p", str(REDIS)] + list(words))
            return out.stdout.strip()

        wait_for(lambda: not has_address(b) and a.alive(pid) and ask(b, "PING") == "PONG", 30,
                 "redis-server answers at the virtual address")
        ask(b, "SET", "greeting", "before")
        ask(b, "EVAL", "for i = 1, 30000 do redis.call('SET', 'k' .. i, string.rep('x', 100) .. i) end", "0")
        if ask(b, "DBSIZE") != "30001":
            raise Failure(f"redis-server does not take data: {ask(b, 'DBSIZE')!r}")

        def together(here, there):
            """Address and process are on `there`, and a client of each device finds what it left."""
            wait_for(lambda: has_address(there) and not has_address(here), 40,
                     f"the virtual address goes to device {there.name}")
            try:
                wait_for(lambda: there.alive(pid) and not here.alive(pid) and not moves(here), 60,
                         f"redis-server goes to device {there.name}")
            except Failure as why:
                raise Failure(f"{why}; {' / '.join(d.tail(12) for d in daemons)}")
            for device in (a, b):
                got = [ask(device, *words) for words in (("GET", "greeting"), ("DBSIZE",), ("GET", "k29999"))]
                if got != ["before", "30001", "x" * 100 + "29999"]:
                    raise Failure(f"a client that comes again finds {str(got)[:200]}")

        unfit = f"{pair.folder}/a.unfit"
        for _ in range(2):
            with open(unfit, "w"):
                pass
            together(a, b)
            os.unlink(unfit)
            together(b, a)
        for d in daemons:
            if d.code is not None:
                raise Failure(f"keepalived ended: {d.tail()}")


def tests(ctx):
    return []


def alone(ctx):
    return [("keepalived: redis-server goes with its address", lambda: test_redis(ctx))]
