# SPDX-License-Identifier: MIT
"""What starts an evacuation: a signal, a watchdog, a shutdown. (A power-fail line: tests/vm.)"""
import glob
import os
import shutil
import signal
import subprocess
import time

from devices import PORT, TOP, Failure, Skip, read, wait_for
from fleet import expect_on, fleet, host_pid, run, stages

HOOKS, COMMON, IMAGE = (f"{TOP}/board/{name}" for name in ("failover", "common", "image"))


def environment(pair, **more):
    """Of a trigger on device a: its settings, and what stands for the hardware."""
    path = f"{pair.folder}/failover"
    with open(path, "w") as f:
        f.write(f"PEER={pair.b.address}:{PORT}\nBATON={pair.binary}\nKEYS={pair.a.keys}\nSTATE={pair.a.state}\n")
    return {**os.environ, "BATON_FAILOVER": path, **more}


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
        missing = pair.a.start([f"{HOOKS}/watchdog", device])
        missing.wait(10)
        if missing.code != 6 or "is not there" not in missing.stderr or os.path.exists(device):
            raise Failure(f"without a device: exit {missing.code}: {missing.tail()}")
        open(device, "w").close()
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


def test_newest_word(ctx):
    """Fetched back while it is still being sent away: the evacuation is ended, and everything is at home."""
    with fleet(ctx, kinds=("shared 2048", "nothing")) as (pair, victims):
        # The first one takes seconds, so the second has not begun.
        subprocess.run(["nsenter", "-t", str(pair.a.init), "-n", "tc", "qdisc", "add", "dev", "veth0", "root",
                        "tbf", "rate", "4mbit", "burst", "20kb", "latency", "100ms"], check=True)
        env = environment(pair)
        out = pair.a.start([f"{HOOKS}/baton-failover", "out"], env=env)
        wait_for(lambda: stages(pair.a), 20, "it has begun")
        word = f"{pair.a.state}/failover.word"
        os.unlink(word)
        again = pair.a.start([f"{HOOKS}/baton-failover", "out"], env=env)
        wait_for(lambda: read(word), 10, "another one waits for it")
        back = pair.a.run([f"{HOOKS}/baton-failover", "back"], env=env, timeout=60)
        if back.code:
            raise Failure(f"back: exit {back.code}: {back.stderr}; {out.stderr}")
        for one in (out, again):
            one.wait(30)
        if "the opposite was wanted since" not in again.stderr or not out.code:
            raise Failure(f"out: exit {out.code}, {out.stderr}; {again.stderr}")
        expect_on(pair.a, pair.b, *victims)


def test_turns(ctx):
    """However many come at once, also when the one whose turn it is was killed: one after the other."""
    with ctx.pair() as pair:
        env, log = environment(pair), f"{pair.folder}/log"
        with open(f"{pair.folder}/baton", "w") as f:
            f.write(f"#!/bin/sh\necho begins >>{log}\nsleep 0.3\necho ends >>{log}\n")
        os.chmod(f"{pair.folder}/baton", 0o755)
        with open(f"{pair.folder}/failover", "a") as f:
            f.write(f"BATON={pair.folder}/baton\n")
        for _ in range(3):
            open(log, "w").close()
            first = pair.a.start([f"{HOOKS}/baton-failover", "out"], env=env)
            wait_for(lambda: read(log), 10, "the first one has begun")
            os.kill(host_pid(first), signal.SIGKILL)
            first.wait(10)
            wait_for(lambda: "ends" in read(log), 10, "what it began has ended")
            several = [pair.a.start([f"{HOOKS}/baton-failover", "out"], env=env) for _ in range(4)]
            for one in several:
                one.wait(30)
                if one.code:
                    raise Failure(f"exit {one.code}: {one.stderr}")
            if read(log).split() != ["begins", "ends"] * 5:
                raise Failure(f"two at once: {read(log).split()}")


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


def openrc():
    """The folder with what Debian's packages of OpenRC have. Nothing is installed."""
    top = f"{TOP}/build/openrc"
    os.makedirs(top, exist_ok=True)
    tree, arch = f"{top}/tree", {"x86_64": "amd64", "aarch64": "arm64"}[os.uname().machine]
    if os.path.isdir(tree):
        return tree
    shutil.rmtree(f"{tree}.part", ignore_errors=True)
    for name in ("openrc", "libeinfo1", "librc1"):
        dest = f"{top}/{name}"
        done = subprocess.run([f"{TOP}/tools/debian-package", f"{TOP}/build/vm/apt", name, arch, "bookworm", dest],
                              stdin=subprocess.DEVNULL, capture_output=True, text=True)
        if done.returncode:
            raise Skip(f"OpenRC is not to be had: {done.stderr.strip()[-200:]}")
        # As on a machine whose /lib is /usr/lib.
        for part, where in (("lib", "usr/lib"), ("bin", "usr/bin"), ("sbin", "usr/sbin"), ("etc", "etc")):
            if os.path.isdir(f"{dest}/{part}"):
                shutil.copytree(f"{dest}/{part}", f"{tree}.part/{where}", symlinks=True, dirs_exist_ok=True)
    os.rename(f"{tree}.part", tree)
    return tree


def test_openrc(ctx):
    """Debian's OpenRC goes up and down: what matters has left when the first service is stopped."""
    tree = openrc()
    with fleet(ctx) as (pair, victims):
        work = f"{pair.folder}/openrc"
        os.makedirs(f"{work}/init.d")
        os.mkdir(f"{work}/root")
        # It runs where the processes are: OpenRC's own files are seen by OpenRC alone.
        hook = f"{pair.folder}/out"
        with open(hook, "w") as f:
            f.write(f"#!/bin/sh\nexec nsenter -t 1 -m env BATON_FAILOVER={pair.folder}/failover {HOOKS}/baton-failover \"$@\"\n")
        pids = " ".join(str(v.pid) for v in victims)
        here = f"for pid in {pids}; do [ ! -d /proc/$pid ] || echo \"$RC_SVCNAME finds $pid\"; done"
        for name, depends in (("cable", "provide net"), ("work", "need net")):
            with open(f"{work}/init.d/{name}", "w") as f:
                f.write(f"#!/sbin/openrc-run\ndepend() {{ {depends}; }}\nstart() {{ echo {name} starts; }}\n"
                        f"stop() {{ {here}; echo {name} stops; }}\n")
        with open(f"{work}/init.d/baton-evacuate", "w") as f:
            f.write(read(f"{HOOKS}/baton-evacuate.openrc").replace("/usr/local/lib/baton/baton-failover", hook))
        for path in [hook] + [f"{work}/init.d/{n}" for n in os.listdir(f"{work}/init.d")]:
            os.chmod(path, 0o755)
        out = pair.a.run(["unshare", "-m", "--propagation", "private", f"{TOP}/tests/gateway/openrc.sh", tree, work],
                         env=environment(pair), timeout=120)
        down = out.stdout.partition("== goes down")[2]
        said = [line for line in down.splitlines() if line.endswith("stops") or " finds " in line]
        if out.code or said != ["work stops", "cable stops"]:
            raise Failure(f"exit {out.code}: {said}; {out.stdout[-600:]} {out.tail()}")
        expect_on(pair.b, pair.a, *victims)


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
    for where in (HOOKS, COMMON, IMAGE):
        for path in glob.glob(f"{where}/*.service"):
            text = read(path).replace("/usr/local/sbin/baton ", f"{ctx.binary} ")
            # That of a service is looked at as it is for one.
            with open(f"{folder}/{os.path.basename(path).replace('@.', '@redis.')}", "w") as f:
                f.write(text.replace("/usr/local/lib/baton", where))
    done = subprocess.run(["systemd-analyze", "verify", "--man=no"] + [f"{folder}/{n}" for n in os.listdir(folder)],
                          capture_output=True, text=True, timeout=60)
    bad = [line for line in done.stderr.splitlines() if "baton" in line]
    if bad:
        raise Failure(" / ".join(bad))


def tests(ctx):
    return [(f"trigger: {name}", lambda f=function: f(ctx)) for name, function in (
        ("by hand", test_by_hand), ("a signal", test_signal), ("a watchdog", test_watchdog),
        ("the newest word counts", test_newest_word), ("one at a time", test_turns), ("shutdown under busybox init", test_shutdown),
        ("shutdown under OpenRC", test_openrc), ("units and scripts", test_units))]
