# SPDX-License-Identifier: MIT
"""What starts an evacuation: a signal, a watchdog, a power-fail line, a shutdown."""
import os
import shutil
import signal
import subprocess
import time

from devices import PORT, TOP, Failure, Skip, read, wait_for
from fleet import expect_on, fleet, run

HOOKS = f"{TOP}/board/failover"


def environment(pair, **more):
    """Of a trigger on device a: its settings, and what stands for the hardware."""
    path = f"{pair.folder}/failover"
    with open(path, "w") as f:
        f.write(f"PEER={pair.b.address}:{PORT}\nBATON={pair.binary}\nKEYS={pair.a.keys}\nSTATE={pair.a.state}\n")
    return {**os.environ, "BATON_FAILOVER": path, **more}


def host_pid(output):
    enter = output.popen.pid
    return int(wait_for(lambda: read(f"/proc/{enter}/task/{enter}/children").split(), 5, "it starts")[0])


def test_by_hand(ctx):
    with fleet(ctx) as (pair, victims):
        for what, here, there in (("out", pair.b, pair.a), ("back", pair.a, pair.b)):
            out = pair.a.run([f"{HOOKS}/baton-failover", what], env=environment(pair), timeout=60)
            if out.code or f"{what} " not in out.stderr or "ended with 0" not in out.stderr:
                raise Failure(f"baton-failover {what}: exit {out.code}: {out.stderr}")
            expect_on(here, there, *victims)
        out = pair.a.run([f"{HOOKS}/baton-failover", "out"], env={**os.environ, "BATON_FAILOVER": "/nosuch"})
        if out.code != 2 or "/nosuch" not in out.stderr:
            raise Failure(f"without settings: exit {out.code}: {out.stderr}")


def test_signal(ctx):
    with fleet(ctx) as (pair, victims):
        pidfile = f"{pair.folder}/on-signal.pid"
        out = pair.a.start([f"{HOOKS}/on-signal"], env=environment(pair, PIDFILE=pidfile))
        wait_for(lambda: read(pidfile).strip(), 10, "on-signal is ready")
        host = host_pid(out)
        for signum, here, there in ((signal.SIGPWR, pair.b, pair.a), (signal.SIGUSR2, pair.a, pair.b),
                                    (signal.SIGUSR1, pair.b, pair.a)):
            nr = out.stderr.count("ended with")
            os.kill(host, signum)
            expect_on(here, there, *victims)
            wait_for(lambda n=nr: out.stderr.count("ended with") > n, 40, "it has ended")
        os.kill(host, signal.SIGTERM)
        out.wait(10)


def test_watchdog(ctx):
    """Fed while it is healthy; evacuated, and not fed any more, when it is not."""
    with fleet(ctx) as (pair, victims):
        device, ill = f"{pair.folder}/watchdog", f"{pair.folder}/ill"
        out = pair.a.start([f"{HOOKS}/watchdog", device],
                           env=environment(pair, EVERY="1", PRETIMEOUT="2", HEALTH=f"test ! -e {ill}"))
        wait_for(lambda: len(read(device)) > 2, 20, "the watchdog is fed")
        expect_on(pair.a, pair.b, *victims)
        with open(ill, "w"):
            pass
        expect_on(pair.b, pair.a, *victims)
        wait_for(lambda: "ended with" in out.stderr, 30, "it has ended")
        fed = len(read(device))
        time.sleep(2.5)
        if len(read(device)) > fed:
            raise Failure("the watchdog is fed though the device is ill")
        os.unlink(ill)
        wait_for(lambda: len(read(device)) > fed, 20, "the watchdog is fed again")
        os.kill(host_pid(out), signal.SIGTERM)
        out.wait(10)
        if not read(device).endswith("V"):
            raise Failure("the watchdog is not stopped by its magic character")


def test_power_fail(ctx):
    """A reader of the line that returns when there is an edge, as gpiomon does."""
    with fleet(ctx) as (pair, victims):
        edge, gpiomon = f"{pair.folder}/edge", f"{pair.folder}/gpiomon"
        with open(gpiomon, "w") as f:
            f.write(f"#!/bin/sh\necho \"$@\" >>{edge}.args\nwhile [ ! -e {edge} ]; do sleep 0.1; done\nrm {edge}\n")
        os.chmod(gpiomon, 0o755)
        out = pair.a.start([f"{HOOKS}/power-fail", "gpiochip0", "17"],
                           env=environment(pair, GPIOMON=gpiomon))
        wait_for(lambda: read(f"{edge}.args"), 10, "the line is watched")
        if read(f"{edge}.args") != "--num-events=1 --falling-edge gpiochip0 17\n":
            raise Failure(f"gpiomon is called with {read(edge + '.args')}")
        with open(edge, "w"):
            pass
        expect_on(pair.b, pair.a, *victims)
        os.kill(host_pid(out), signal.SIGKILL)
        out.wait(10)


def test_shutdown(ctx):
    """busybox init goes down: its first shutdown line evacuates before anything is killed."""
    busybox = shutil.which("busybox")
    if not busybox:
        raise Skip("busybox is not there")
    with fleet(ctx, kinds=()) as (pair, _):
        lines = [line for line in read(f"{HOOKS}/inittab").splitlines() if ":shutdown:" in line]
        if len(lines) != 1 or "baton-failover out" not in lines[0]:
            raise Failure(f"the inittab has {lines}")
        action = lines[0].rsplit(":", 1)[1].replace("/usr/local/lib/baton", HOOKS)
        etc, work = f"{pair.folder}/etc", f"{pair.folder}/work"
        os.mkdir(etc)
        os.mkdir(work)
        with open(f"{etc}/inittab", "w") as f:
            f.write(f"::shutdown:{action}\n::shutdown:/bin/sh -c 'echo down >{work}/down'\n"
                    f"::once:{ctx.helpers['holder']} {work} nothing\n")
        run(pair, pair.a, "protect", "add", "holder", "--pidfile", f"{work}/ready", state=False)
        # An init of its own below the device's: reboot(2) in a pid namespace ends only that. The numbers
        # of its processes are low ones, and free on device b.
        out = pair.a.start(["unshare", "--pid", "--mount-proc", "--fork", "sh", "-c",
                            f"mount --bind {etc} /etc && exec {busybox} init"], env=environment(pair))
        pid = int(wait_for(lambda: read(f"{work}/ready") or out.code, 20, "init and its process are up"))
        if out.code is not None:
            raise Failure(f"init ended: {out.tail()}")
        init = host_pid(out)
        while read(f"/proc/{init}/comm").strip() not in ("init", "busybox"):
            children = read(f"/proc/{init}/task/{init}/children").split()
            if not children:
                raise Failure("init is not found")
            init = int(children[0])
        os.kill(init, signal.SIGUSR2)  # poweroff
        wait_for(lambda: pair.b.alive(pid) and os.path.exists(f"{work}/down"), 40,
                 "it is on device b when the second line comes")
        beat = os.stat(f"{work}/beat").st_size
        wait_for(lambda: out.code is not None, 40, "init has ended")
        wait_for(lambda: os.stat(f"{work}/beat").st_size > beat + 5, 10, "its heart beats")


def test_units(ctx):
    """The units make sense to systemd, and the order is as they say; the scripts to a shell."""
    for name in sorted(os.listdir(HOOKS)):
        head = read(f"{HOOKS}/{name}").splitlines()
        if not any("SPDX-License-Identifier: MIT" in line for line in head[:2]):
            raise Failure(f"{name} has no licence line")
        if "sh" in head[0]:
            done = subprocess.run(["sh", "-n", f"{HOOKS}/{name}"], capture_output=True, text=True)
            if done.returncode:
                raise Failure(f"{name}: {done.stderr}")
    if not shutil.which("systemd-analyze"):
        raise Skip("systemd-analyze is not there")
    folder = f"{ctx.root}/units"
    os.makedirs(folder, exist_ok=True)
    for name in ("baton-evacuate.service", "baton-receive.service"):
        text = read(f"{HOOKS}/{name}").replace("/usr/local/sbin/baton ", f"{ctx.binary} ")
        with open(f"{folder}/{name}", "w") as f:
            f.write(text.replace("/usr/local/lib/baton", HOOKS))
    done = subprocess.run(["systemd-analyze", "verify", "--man=no"] + [f"{folder}/{n}" for n in os.listdir(folder)],
                          capture_output=True, text=True, timeout=60)
    bad = [line for line in done.stderr.splitlines() if "baton" in line]
    if bad:
        raise Failure(" / ".join(bad))


def tests(ctx):
    return [(f"trigger: {name}", lambda f=function: f(ctx)) for name, function in (
        ("by hand", test_by_hand), ("a signal", test_signal), ("a watchdog", test_watchdog),
        ("a power-fail line", test_power_fail), ("shutdown under busybox init", test_shutdown),
        ("units and scripts", test_units))]
