# SPDX-License-Identifier: MIT
"""baton check: this system, a process, a pair of devices; as lines and as JSON."""
import json
import os
import re

from devices import PORT, Failure, read, wait_for
from victim import Receiver, Victim, send

# The names that scripts may rely on; docs/operations.md lists them.
NEEDED = ("rights", "userfaultfd", "userfaultfd-events", "userfaultfd-fill", "proc",
          "proc-children", "proc-timers", "proc-smaps", "set-tid", "pidfd", "pidfd-getfd", "kcmp",
          "map-files", "process-vm", "pagemap", "seccomp-suspend", "ptrace", "registers",
          "signal-mask", "rseq", "checkpoint-restore", "mm-map")
PEER_KEYS = ("address", "items", "name", "software", "kernel", "architecture", "page_size", "files",
             "round_trip_us", "rate_kib_s", "refused")


def check(pair, *options, device=None, code=0, timeout=20, **kw):
    out = pair.baton(device or pair.a, "check", *options, **kw)
    out.wait(timeout)
    if out.code != code:
        raise Failure(f"exit {out.code}, not {code}: {out.tail()}; {out.stdout[-600:]}")
    return out


def stages(device):
    """Of the moves in its state folder."""
    return [line.split()[1] for name in os.listdir(device.state) if name.endswith(".move")
            for line in read(f"{device.state}/{name}").splitlines() if line.startswith("stage ")]


def expect_line(out, pattern):
    if not re.search(pattern, out.stdout, re.M):
        raise Failure(f"no line {pattern!r} in: {out.stdout[-900:]}")


def parsed(out):
    try:
        return json.loads(out.stdout)
    except ValueError as why:
        raise Failure(f"--json printed no JSON object ({why}): {out.stdout[:300]!r}")


def states(items):
    return {item["name"]: item["state"] for item in items}


def this_system(ctx):
    with ctx.pair() as pair:
        out = check(pair)
        for name in NEEDED:
            expect_line(out, rf"^ok +{name} ")
        expect_line(out, r"^ok +keys .*1 trusted peer")
        expect_line(out, r"^yes")
        report = parsed(check(pair, "--json"))
        found = states(report["system"])
        lacking = [name for name in NEEDED if found.get(name) != "ok"]
        if lacking or report["result"] != "done":
            raise Failure(f"JSON lacks {lacking}, result {report['result']}")
        if pair.a.batons(pair.binary):
            raise Failure("a process of baton is left behind")


def without_rights(ctx):
    with ctx.pair() as pair:
        out = pair.a.run(["setpriv", "--bounding-set", "-sys_ptrace,-sys_admin,-checkpoint_restore",
                          "--inh-caps", "-all", pair.binary, "check", "--keys", pair.a.keys, "--json"])
        if out.code != 6 or parsed(out)["result"] != "system":
            raise Failure(f"exit {out.code}: {out.stdout[-300:]} {out.tail()}")
        found = states(parsed(out)["system"])
        if found["rights"] != "missing" or found["userfaultfd"] != "missing":
            raise Failure(f"{found}")


def without_keys(ctx):
    """Nothing was set up yet: said, and no failure; unusable keys are one."""
    with ctx.pair() as pair:
        out = check(pair, "--keys", f"{pair.folder}/none", keys=False)
        expect_line(out, r"^optional +keys .*keygen")
        os.chmod(f"{pair.a.keys}/key.pem", 0o644)
        expect_line(check(pair, code=5), r"^missing +keys .*key\.pem")


def bad_policy(ctx):
    """What lets nothing in stands against each move: on the device itself, and at a peer."""
    with ctx.pair() as pair:
        to = ["--peer", f"{pair.b.address}:{PORT}"]
        expect_line(check(pair), r"^ok +policy +none")
        for device in (pair.a, pair.b):
            with open(f"{device.keys}/policy", "w") as f:
                f.write("allow-peer device-a\nallow-peer device-b\nallow-uid 12345\n")
        Receiver(pair)
        # Users are not asked for without a process.
        expect_line(check(pair, *to), r"^ok +policy .*/policy$")
        with open(f"{pair.b.keys}/policy", "w") as f:
            f.write("allow-peer device-c\n")
        expect_line(check(pair, *to, code=3), r"^refused +peer +policy: peer device-a")
        with open(f"{pair.b.keys}/policy", "w") as f:
            f.write("allow everybody\n")
        expect_line(check(pair, *to, code=3), r"^refused +peer .*policy, line 1: ")
        out = check(pair, device=pair.b, code=6)
        expect_line(out, r"^missing +policy .*policy, line 1: ")
        expect_line(out, r"^no: ")
        if parsed(check(pair, "--json", device=pair.b, code=6))["result"] != "system":
            raise Failure("the result is not that of the policy")


def other_move(ctx):
    """A process that another move has, or has left: it is named."""
    with ctx.pair() as pair:
        victim = Victim(ctx, pair, "memory", 48)
        with open("/proc/sys/kernel/random/boot_id") as f:
            boot = f.read().strip()
        left = f"{pair.a.state}/0123456789abcdef-source.move"
        with open(left, "w") as f:
            f.write(f"baton-move 2\nid 0123456789abcdef\nrole source\nstage serving\npid {victim.pid}\n"
                    f"comm holder\nboot {boot}\nend\n")
        expect_line(check(pair, "--pid", victim.pid, code=3),
                    rf"^refused +pid {victim.pid} .*copy of move 0123456789abcdef, which is held; see: baton status")
        os.unlink(left)
        Receiver(pair)
        source = pair.baton(pair.a, "send", "--max-rate", "4", victim.pid, f"{pair.b.address}:{PORT}")
        wait_for(lambda: "serving" in stages(pair.a), 20, "it runs there")
        expect_line(check(pair, "--pid", victim.pid, code=3),
                    rf"^refused +pid {victim.pid} .*already being moved \(move \w{{16}}, serving\)")
        expect_line(check(pair, "--pid", victim.pid, device=pair.b, code=3),
                    rf"^refused +pid {victim.pid} .*move \w{{16}} still fills it")
        source.wait(60)
        victim.check_after_move(pair.b)


def clean_process(ctx):
    with ctx.pair() as pair:
        victim = Victim(ctx, pair, "memory", 8)
        out = check(pair, "--pid", victim.pid)
        expect_line(out, r"^carried +fd 0 ")
        expect_line(out, r"^carried +memory .*1 thread, .*MiB resident")
        process = parsed(check(pair, "--pid", victim.pid, "--json"))["process"]
        if process["pid"] != victim.pid or process["refused"] or process["threads"] != 1:
            raise Failure(f"{process}")
        if not 8 * 1024 <= process["lazy_kib"] <= 12 * 1024 or process["mappings"] < 5:
            raise Failure(f"8 MiB, and it says {process['lazy_kib']} KiB, {process['mappings']} mappings")
        victim.check_unharmed()


def refused_process(ctx, kind, words):
    with ctx.pair() as pair:
        victim = Victim(ctx, pair, kind)
        expect_line(check(pair, "--pid", victim.pid, code=3), rf"^refused +{words}")
        report = parsed(check(pair, "--pid", victim.pid, "--json", code=3))
        if not report["process"]["refused"] or report["result"] != "refused":
            raise Failure(f"{report['process']}")
        victim.check_unharmed()


def no_process(ctx):
    with ctx.pair() as pair:
        expect_line(check(pair, "--pid", 29999, code=3), r"^refused +pid 29999 .*no such process")
        report = parsed(check(pair, "--pid", 29999, "--json", code=3))
        if "29999" not in report["process"]["reason"]:
            raise Failure(f"{report['process']}")


def peer(ctx):
    """The devices, then a process; a check counts for nothing at the receiver, a move does."""
    with ctx.pair() as pair:
        victim = Victim(ctx, pair, "map", ctx.helpers["holder"])
        receiver = Receiver(pair, "--once", "--json")
        to = f"{pair.b.address}:{PORT}"
        out = check(pair, "--peer", to)
        expect_line(out, r"^ok +peer +device-b .*Linux .*pages of \d+ bytes")
        expect_line(out, r"^ok +link +round trip \d+\.\d+ ms, \d+\.\d MiB/s")
        expect_line(out, r"^ok +devices ")
        report = parsed(check(pair, "--peer", to, "--pid", victim.pid, "--json"))["peer"]
        missing = [key for key in PEER_KEYS if key not in report]
        if missing or report["refused"] or report["files"] < 1:
            raise Failure(f"missing {missing}: {report}")
        if not 0 < report["round_trip_us"] < 1000000 or report["rate_kib_s"] < 1024:
            raise Failure(f"round trip {report['round_trip_us']} us, {report['rate_kib_s']} KiB/s")
        victim.check_unharmed()
        receiver.check_alive()
        if receiver.output.stdout:
            raise Failure(f"the receiver took the check for a move: {receiver.output.stdout!r}")
        for device in (pair.a, pair.b):
            if any(name.endswith(".move") for name in os.listdir(device.state)):
                raise Failure(f"device {device.name} keeps a move of a check")
        moved = send(pair, victim.pid)
        if moved.code:
            raise Failure(f"afterwards a move fails, exit {moved.code}: {moved.tail()}")
        victim.check_after_move(pair.b)


def peer_refuses(ctx):
    """A taken pid and a file that differs: both are named, not only the first."""
    with ctx.pair() as pair:
        file = f"{pair.folder}/file"
        for path, text in ((file, "one"), (file + ".b", "two")):
            with open(path, "w") as f:
                f.write(text * 1000)
        victim = Victim(ctx, pair, "map", file)
        taker = pair.b.run(["sh", "-c", f"mount --bind {file}.b {file}; "
                                        f"echo {victim.pid - 1} > /proc/sys/kernel/ns_last_pid; "
                                        "sleep 60 & echo $!"])
        if taker.stdout.strip() != str(victim.pid):
            raise Failure(f"pid {victim.pid} could not be taken: {taker.stdout!r} {taker.tail()}")
        receiver = Receiver(pair)
        options = ["--peer", f"{pair.b.address}:{PORT}", "--pid", victim.pid]
        out = check(pair, *options, code=3)
        expect_line(out, rf"^refused +peer +pid {victim.pid} is taken")
        expect_line(out, rf"^refused +peer +file {file} differs")
        report = parsed(check(pair, *options, "--json", code=3))
        if report["peer"]["refused"] != 2 or len(report["peer"]["items"]) != 2:
            raise Failure(f"{report['peer']}")
        victim.check_unharmed()
        receiver.check_alive()


def peer_trouble(ctx):
    with ctx.pair() as pair:
        out = check(pair, "--peer", f"{pair.b.address}:1", code=5)
        expect_line(out, r"^refused +peer .*10\.77\.0\.2")
        report = parsed(check(pair, "--peer", f"{pair.b.address}:1", "--json", code=5))
        if not report["peer"]["reason"] or report["result"] != "peer":
            raise Failure(f"{report['peer']}")
        for name in os.listdir(f"{pair.b.keys}/peers"):
            os.unlink(f"{pair.b.keys}/peers/{name}")
        receiver = Receiver(pair)
        expect_line(check(pair, "--peer", pair.b.address, code=5), r"^refused +peer .*trust")
        receiver.check_alive()


def usage(ctx):
    with ctx.pair(keys=False) as pair:
        for words in (["--pid", "x"], ["--pid", "0"], ["12"], ["--pid"]):
            out = check(pair, *words, code=2, keys=False, state=False)
            if out.stdout or not out.stderr:
                raise Failure(f"{words}: stdout {out.stdout!r}, stderr {out.stderr!r}")


def tests(ctx):
    return [
        ("check this system", lambda: this_system(ctx)),
        ("check without rights", lambda: without_rights(ctx)),
        ("check without keys", lambda: without_keys(ctx)),
        ("check a policy that cannot be understood", lambda: bad_policy(ctx)),
        ("check a process that another move has", lambda: other_move(ctx)),
        ("check a clean process", lambda: clean_process(ctx)),
        ("check a process with a packet socket", lambda: refused_process(ctx, "socket packet",
                                                                         r"fd \d+ .*AF_PACKET")),
        ("check a process with huge pages", lambda: refused_process(ctx, "hugetlb",
                                                                    r"mapping [0-9a-f]{6,}.*huge")),
        ("check a process with a child", lambda: refused_process(ctx, "child", r"child \d+")),
        ("check a process that does not exist", lambda: no_process(ctx)),
        ("check a peer", lambda: peer(ctx)),
        ("check a peer that would refuse", lambda: peer_refuses(ctx)),
        ("check a peer that cannot be reached or does not trust", lambda: peer_trouble(ctx)),
        ("usage: check", lambda: usage(ctx)),
    ]
