# SPDX-License-Identifier: MIT
"""What must be refused: the right exit code, a message that names the thing, and no harm done."""
import os
import re
import shutil
import subprocess

from devices import PORT, Failure, read, wait_for
from victim import Receiver, Victim, send

# What a process holds that cannot be moved: (name, kind and argument of the holder, words).
HELD = (
    ("an io_uring", "io_uring", r"fd \d+.*io_uring"),
    ("a userfaultfd of its own", "userfaultfd", r"fd \d+.*userfaultfd"),
    ("huge pages", "hugetlb", r"[0-9a-f]{6,}.*huge"),
    ("a packet socket", "socket packet", r"fd \d+.*AF_PACKET"),
    ("a raw socket", "socket raw", r"fd \d+.*raw"),
    ("a netlink socket", "socket netlink", r"fd \d+.*netlink"),
    ("a child", "child", r"child"),
    ("an established TCP connection", "tcp", r"fd \d+.*127\.0\.0\.1"),
    ("a namespace of its own", "namespace", r"(uts|namespace)"),
    ("a pidfd", "pidfd", r"fd \d+.*pidfd"),
    ("a device", "open /dev/kmsg", r"fd \d+.*/dev/kmsg"),
    ("a deleted file", "deleted", r"fd \d+.*deleted"),
    ("System V shared memory", "shm", r"(SYSV|System V|shm)"),
    ("a System V semaphore", "semaphore plain", r"semaphore set \d+"),
    ("what a System V semaphore would undo", "semaphore undo", r"SEM_UNDO"),
    ("a System V message queue", "queue", r"message queue \d+"),
    ("a POSIX message queue", "mq named", r"fd \d+.*message queue"),
    ("a POSIX message queue without a name", "mq unlinked", r"fd \d+.*message queue"),
    ("a memory policy of a mapping", "mbind", r"[0-9a-f]{6,}.*mbind"),
    ("a namespace for children", "namespace children", r"pid_for_children"),
    ("a thread with descriptors of its own", "apart files", r"thread \d+.*descriptors"),
    ("a thread with a namespace of its own", "apart namespace", r"task/\d+/ns/uts"),
    ("too many descriptors", "fds 1200", r"(descriptor|1024|1200)"),
    ("too many threads", "threads 1200", r"(thread|1024|1200)"),
)

# The same, but only the process itself can tell: it stands still for that moment.
HELD_INSIDE = (
    ("a Landlock domain", "landlock", r"thread \d+.*Landlock"),
    ("a thread keyring", "key thread", r"thread \d+.*keyring"),
    ("a process keyring", "key process", r"process keyring"),
    ("a key of its session", "key session", r"a key.*keyctl unlink"),
    ("a seccomp listener", "listened", r"USER_NOTIF"),
)


def expect(out, code, words):
    """One line of what must hold of a refused command."""
    if out.code != code:
        raise Failure(f"exit {out.code}, not {code}: {out.tail()}")
    if words and not re.search(words, out.stderr, re.I | re.S):
        raise Failure(f"the message does not say {words!r}: {out.tail()}")


def refuse_held(ctx, kind, words, code=3):
    with ctx.pair() as pair:
        victim = Victim(ctx, pair, kind)
        try:
            receiver = Receiver(pair)
            out = send(pair, victim.pid)
        finally:
            if os.path.exists(f"{victim.folder}/ipc"):
                subprocess.run(["ipcrm"] + read(f"{victim.folder}/ipc").split(), check=True)
        expect(out, code, words)
        victim.check_unharmed()
        receiver.check_alive()
        wait_for(lambda: not pair.a.batons(pair.binary), 3, "nothing of baton is left at the source")


def refuse_traced(ctx):
    with ctx.pair() as pair:
        victim = Victim(ctx, pair)
        tracer = Victim(ctx, pair, "tracee", victim.pid)
        Receiver(pair)
        out = send(pair, victim.pid)
        expect(out, 3, rf"(trace|debug).*|{tracer.pid}")
        wait_for(lambda: victim.beat()[0] > 5, 5, "the heartbeat goes on")


def refuse_no_process(ctx):
    with ctx.pair() as pair:
        Receiver(pair)
        expect(send(pair, 29999), 3, r"29999")


def refuse_kernel_thread(ctx):
    """Kernel threads are seen from the machine's own pid namespace only."""
    with ctx.pair() as pair:
        receiver = Receiver(pair)
        done = subprocess.run(["nsenter", "-t", str(pair.a.init), "-n", pair.binary, "send", "--keys",
                               pair.a.keys, "--state", pair.a.state, "2",
                               f"{pair.b.address}:{PORT}"], capture_output=True, text=True,
                              stdin=subprocess.DEVNULL, timeout=20)
        if done.returncode != 3 or "kernel" not in done.stderr:
            raise Failure(f"exit {done.returncode}: {done.stderr.strip()[-300:]}")
        receiver.check_alive()


def refuse_itself(ctx):
    with ctx.pair() as pair:
        Receiver(pair)
        script = (f"exec {pair.binary} send --keys {pair.a.keys} --state {pair.a.state} $$ "
                  f"{pair.b.address}:{PORT}")
        expect(pair.a.run(["sh", "-c", script]), 3, r"baton|itself")


def refuse_other_baton(ctx):
    with ctx.pair() as pair:
        Receiver(pair)
        other = Receiver(pair, device=pair.a)
        pid = pair.a.pid_of(other.output)
        expect(send(pair, pid), 3, r"baton")
        other.check_alive()


def refuse_moving(ctx):
    with ctx.pair() as pair:
        victim = Victim(ctx, pair, "memory", 64)
        receiver = Receiver(pair)
        first = pair.baton(pair.a, "send", "--eager", "--max-rate", "4", victim.pid,
                           f"{pair.b.address}:{PORT}")
        wait_for(lambda: pair.a.status(victim.pid, "TracerPid") not in ("0", None), 10,
                 "the first move begins")
        expect(send(pair, victim.pid), 3, rf"{victim.pid}|moved|moving")
        if first.code is not None:
            raise Failure(f"the first move ended too, exit {first.code}: {first.tail()}")
        receiver.check_alive()


def port_taken(ctx):
    """What the target finds only when it builds: it has said so, and is not told what it knows."""
    with ctx.pair() as pair:
        listeners = [device.start(["busybox", "nc", "-l", "-p", "7999"]) for device in (pair.a, pair.b)]
        wait_for(lambda: pair.a.listens(7999) and pair.b.listens(7999), 10, "both listen")
        receiver = Receiver(pair)
        pid = pair.a.pid_of(listeners[0])
        out = send(pair, pid)
        expect(out, 1, r"7999 is in use on this device")
        if "trying again" in out.stderr:
            raise Failure(f"it was looked for again: {out.stderr}")
        receiver.check_alive()
        if pair.a.status(pid, "TracerPid") != "0" or pair.a.status(pid, "State")[0] in "Tt":
            raise Failure("the process does not run on")


def refuse_filled(ctx):
    """What came here, and whose memory still comes: one line says so, and what to wait for."""
    with ctx.pair() as pair:
        victim = Victim(ctx, pair, "memory", 48)
        Receiver(pair)
        first = pair.baton(pair.a, "send", "--max-rate", "4", victim.pid, f"{pair.b.address}:{PORT}")
        wait_for(lambda: "stage started" in "".join(read(f"{pair.b.state}/{name}") for name in os.listdir(pair.b.state)
                                                    if name.endswith(".move")), 20, "it runs there")
        out = pair.baton(pair.b, "send", victim.pid, f"{pair.a.address}:{PORT}")
        out.wait(20)
        expect(out, 3, rf"pid {victim.pid} \(holder\S*\): move \w{{16}} still fills it; wait until")
        if len(out.stderr.splitlines()) != 1:
            raise Failure(f"more than a line: {out.stderr}")
        first.wait(60)
        victim.check_after_move(pair.b)


def unreachable(ctx, to, words):
    with ctx.pair() as pair:
        victim = Victim(ctx, pair)
        expect(send(pair, victim.pid, to=to), 5, words)
        victim.check_unharmed()


def forget_peers(keys):
    for name in os.listdir(f"{keys}/peers"):
        os.unlink(f"{keys}/peers/{name}")


def untrusted(ctx, forgets):
    """Device `forgets` does not know the other one."""
    with ctx.pair() as pair:
        victim = Victim(ctx, pair)
        forget_peers(getattr(pair, forgets).keys)
        receiver = Receiver(pair)
        expect(send(pair, victim.pid), 5, r"trust")
        victim.check_unharmed()
        receiver.check_alive()


def own_keys(ctx, spoil, words):
    """Something is wrong with the sender's own keys: there is no trust without them."""
    with ctx.pair() as pair:
        victim = Victim(ctx, pair)
        Receiver(pair)
        spoil(pair)
        expect(send(pair, victim.pid), 5, words)
        victim.check_unharmed()


def spoil_mismatch(pair):
    os.rename(f"{pair.a.keys}/key.pem", f"{pair.a.keys}/key.old")
    with open(f"{pair.b.keys}/key.pem", "rb") as f, open(f"{pair.a.keys}/key.pem", "wb") as g:
        os.fchmod(g.fileno(), 0o600)
        g.write(f.read())


def spoil_readable(pair):
    os.chmod(f"{pair.a.keys}/key.pem", 0o644)


def spoil_missing(pair):
    os.unlink(f"{pair.a.keys}/key.pem")


def spoil_garbage(pair):
    with open(f"{pair.a.keys}/key.pem", "w") as f:
        f.write("this is no key\n")


def receiver_readable_key(ctx):
    with ctx.pair() as pair:
        os.chmod(f"{pair.b.keys}/key.pem", 0o640)
        out = pair.baton(pair.b, "receive", "--listen", f"{pair.b.address}:{PORT}")
        out.wait(10)
        expect(out, 5, r"key\.pem.*chmod")


def fill_state(device):
    expect(device.run(["mount", "-t", "tmpfs", "-o", "size=4k,mode=700", "tmpfs", device.state]), 0, None)
    expect(device.run(["dd", "if=/dev/zero", f"of={device.state}/filler", "bs=4k", "count=4"]), 1,
           r"space")


def full_state_pulled(ctx):
    """Here the target is a command of its own, and its system cannot."""
    with ctx.pair() as pair:
        fill_state(pair.b)
        victim = Victim(ctx, pair)
        source = pair.baton(pair.a, "dump", "--serve", f"{pair.a.address}:{PORT}", victim.pid)
        wait_for(lambda: source.listens, 10, "dump --serve listens")
        target = pair.baton(pair.b, "restore", "--from", f"{pair.a.address}:{PORT}")
        target.wait(20)
        expect(target, 6, r"state folder.*space")
        wait_for(lambda: re.search(r"refused by.*space", source.stderr), 5, "the source is told")
        if source.code is not None:
            raise Failure(f"the source does not wait for another target: exit {source.code}")
        victim.check_unharmed()


def full_state(ctx, side, code):
    """At the source this system cannot; at the target the source is refused."""
    with ctx.pair() as pair:
        fill_state(getattr(pair, side))
        victim = Victim(ctx, pair)
        receiver = Receiver(pair)
        expect(send(pair, victim.pid), code, r"state folder.*space")
        victim.check_unharmed()
        receiver.check_alive()
        leftovers(pair, victim)


def shared_state(ctx):
    """A state folder that others can write to is no system to move anything on."""
    with ctx.pair() as pair:
        victim = Victim(ctx, pair)
        Receiver(pair)
        os.chmod(pair.a.state, 0o777)
        expect(send(pair, victim.pid), 6, r"state folder.*chmod 700")
        victim.check_unharmed()


def leftovers(pair, victim):
    """Nothing of a failed move runs on the target."""
    wait_for(lambda: not pair.b.alive(victim.pid), 3, "what the target had built is gone")


def taken_pid(ctx, pidns):
    with ctx.pair() as pair:
        victim = Victim(ctx, pair)
        with open(f"{pair.folder}/take", "w") as f:
            f.write(f"echo {victim.pid - 1} >/proc/sys/kernel/ns_last_pid; sleep 300 & wait\n")
        pair.b.start(["sh", f"{pair.folder}/take"])
        wait_for(lambda: pair.b.alive(victim.pid), 5, "the pid is taken")
        if not pidns:
            receiver = Receiver(pair)
            expect(send(pair, victim.pid), 3, rf"{victim.pid}")
            victim.check_unharmed()
            receiver.check_alive()
            return
        Receiver(pair, "--pidns")
        out = send(pair, victim.pid)
        expect(out, 0, None)
        before, _ = victim.beat()
        wait_for(lambda: victim.beat()[0] > before + 5, 5, "the heartbeat goes on")
        if "sleep" not in open(pair.b.proc(victim.pid, "comm")).read():
            raise Failure("the process that had the pid is gone")


def other_file(ctx, kind, change, words):
    """A file the process holds is missing, or another one, on device b."""
    with ctx.pair() as pair:
        folder = f"{pair.folder}/files"
        os.mkdir(folder)
        for name in ("file", "other"):
            with open(f"{folder}/{name}", "w") as f:
                f.write(f"this is {name}\n" * 1000)
        with open(f"{folder}/short", "w") as f:
            f.write("short\n")
        victim = Victim(ctx, pair, kind, f"{folder}/file")
        script = {"missing": f"mount -t tmpfs tmpfs {folder}",
                  "different": f"mount --bind {folder}/other {folder}/file",
                  "shorter": f"mount --bind {folder}/short {folder}/file"}[change]
        expect(pair.b.run(["sh", "-c", script]), 0, None)
        receiver = Receiver(pair)
        expect(send(pair, victim.pid), 3, rf"{folder}/file.*{words}|{words}.*{folder}/file")
        victim.check_unharmed()
        receiver.check_alive()
        leftovers(pair, victim)


def other_exe(ctx):
    """The executable itself is another build on device b."""
    with ctx.pair() as pair:
        copy = f"{pair.folder}/program"
        with open(ctx.helpers["holder"], "rb") as f:
            image = f.read()
        for path, data in ((copy, image), (copy + ".new", image[:-64] + bytes(64))):
            with open(path, "wb") as f:
                f.write(data)
            os.chmod(path, 0o755)
        with open(copy + ".new", "r+b") as f:  # a byte in the middle: same size, other contents
            f.seek(len(image) // 2)
            f.write(b"\x5a\xa5\x5a\xa5")
        victim = Victim(ctx, pair, binary=copy)
        expect(pair.b.run(["mount", "--bind", copy + ".new", copy]), 0, None)
        receiver = Receiver(pair)
        expect(send(pair, victim.pid), 3, re.escape(copy))
        victim.check_unharmed()
        receiver.check_alive()


def no_rights(ctx):
    with ctx.pair() as pair:
        victim = Victim(ctx, pair)
        Receiver(pair)
        out = pair.a.run(["setpriv", "--bounding-set", "-sys_ptrace,-sys_admin,-checkpoint_restore",
                          "--inh-caps", "-all", pair.binary, "send", "--keys", pair.a.keys, "--state",
                          pair.a.state, victim.pid, f"{pair.b.address}:{PORT}"])
        expect(out, 6, r"CAP_|right|permission|root|privilege")
        victim.check_unharmed()


def policy(ctx, line, words):
    with ctx.pair() as pair:
        victim = Victim(ctx, pair)
        with open(f"{pair.b.keys}/policy", "w") as f:
            f.write(line + "\n")
        receiver = Receiver(pair)
        expect(send(pair, victim.pid), 3, words)
        victim.check_unharmed()
        receiver.check_alive()


USER = 1234  # of holder.c
LIMITED = f"allow-uid {USER}\nallow-gid {USER}\n"


def limited(ctx, when, thing, mode, code, words, text=LIMITED):
    """A process of a user, and a policy for this user alone: what it may not open, it does not get."""
    with ctx.pair() as pair:
        copy, folder = f"{pair.folder}/holder", f"{pair.folder}/things"
        shutil.copy(ctx.helpers["holder"], copy)  # where the user finds it
        os.mkdir(folder)
        os.chmod(folder, mode["folder"])
        path = f"{folder}/{'file' if thing in ('read', 'write') else thing}"
        if thing in ("read", "write"):
            with open(path, "w") as f:
                f.write("a file\n" * 100)
            os.chmod(path, mode["file"])
        victim = Victim(ctx, pair, f"user {when} {thing}", path, binary=copy)
        with open(f"{pair.b.keys}/policy", "w") as f:
            f.write(text)
        receiver = Receiver(pair, "--stdio", f"{pair.folder}/moved.log")
        inside = f"/proc/{pair.b.init}/root{path}"
        if thing in ("fifo", "socket"):
            pair.b.run(["mount", "-t", "tmpfs", "-o", f"mode={mode['folder']:o}", "tmpfs", folder])
        out = send(pair, victim.pid)
        expect(out, code, words)
        receiver.check_alive()
        if code:
            victim.check_unharmed()
            leftovers(pair, victim)
            if thing in ("fifo", "socket") and os.path.exists(inside):
                raise Failure(f"{path} was made all the same")
            return
        victim.check_after_move(pair.b)
        if thing in ("fifo", "socket") and os.stat(inside).st_uid != USER:
            raise Failure(f"{path} belongs to uid {os.stat(inside).st_uid}")


def limited_tests(ctx):
    everybody, root = {"folder": 0o1777, "file": 0o666}, {"folder": 0o755, "file": 0o600}
    readable = {"folder": 0o755, "file": 0o644}
    hidden = {"folder": 0o700, "file": 0o666}
    denied = rf"{USER}.*may not"
    cases = [
        ("its file", "after", "write", everybody, 0, None),
        ("a file to read", "before", "read", readable, 0, None),
        ("its FIFO", "after", "fifo", everybody, 0, None),
        ("its socket", "after", "socket", everybody, 0, None),
        ("a file of root's", "before", "read", root, 3, rf"/file.*{denied}"),
        ("a file of root's to write", "before", "write", readable, 3, rf"/file.*{denied}"),
        ("a file in a folder of root's", "before", "read", hidden, 3, rf"/file.*{denied}"),
        ("a FIFO in a folder of root's", "before", "fifo", root, 1, rf"/fifo.*{denied}"),
        ("a socket in a folder of root's", "before", "socket", root, 1, rf"/socket.*{denied}"),
        ("a group", "after", "read", everybody, 3, r"gid", f"allow-uid {USER}\n"),
    ]
    return [(f"policy of one user: {name}", lambda c=case: limited(ctx, *c)) for name, *case in cases]


def usage(ctx, args):
    done = subprocess.run([ctx.binary] + args, capture_output=True, text=True, timeout=10,
                          stdin=subprocess.DEVNULL)
    if done.returncode != 2 or not done.stderr.strip() or done.stdout:
        raise Failure(f"exit {done.returncode}, stdout {done.stdout[:80]!r}, stderr "
                      f"{done.stderr.strip()[-200:]!r}")


def refuse_pull(ctx):
    """The same the other way round: found by the source, before it listens to anybody."""
    with ctx.pair() as pair:
        victim = Victim(ctx, pair, "socket packet")
        source = pair.baton(pair.a, "dump", "--serve", f"{pair.a.address}:{PORT}", victim.pid)
        source.wait(20)
        expect(source, 3, r"AF_PACKET")
        victim.check_unharmed()


def usage_cases():
    return (("no command", []), ("an unknown command", ["fly"]), ("help of an unknown command", ["help", "fly"]),
            ("send without arguments", ["send"]),
            ("send without a peer", ["send", "1"]), ("a pid that is no number", ["send", "x", "h:1"]),
            ("a bad port", ["send", "1", "10.0.0.1:99999"]),
            ("an unknown option", ["send", "--fast", "1", "10.0.0.1"]),
            ("eager and on-demand at once", ["send", "--eager", "--on-demand", "1", "10.0.0.1"]),
            ("a bad rate", ["send", "--max-rate", "-3", "1", "10.0.0.1"]),
            ("a bad time to poll", ["send", "--poll-us", "20000", "1", "10.0.0.1"]),
            ("restore from nowhere", ["restore"]), ("receive with an argument", ["receive", "now"]))


def tests(ctx):
    found = [(f"refuse {name}", lambda k=kind, w=words: refuse_held(ctx, k, w))
             for name, kind, words in HELD]
    found += [(f"refuse {name}", lambda k=kind, w=words: refuse_held(ctx, k, w, 1))
              for name, kind, words in HELD_INSIDE]
    found += [
        ("refuse a process with a debugger", lambda: refuse_traced(ctx)),
        ("refuse a process that does not exist", lambda: refuse_no_process(ctx)),
        ("refuse a kernel thread", lambda: refuse_kernel_thread(ctx)),
        ("refuse baton itself", lambda: refuse_itself(ctx)),
        ("refuse another baton", lambda: refuse_other_baton(ctx)),
        ("refuse a process that is being moved", lambda: refuse_moving(ctx)),
        ("refuse what the target finds when it builds", lambda: port_taken(ctx)),
        ("refuse a process that is still filled", lambda: refuse_filled(ctx)),
        ("refuse by the source when pulled", lambda: refuse_pull(ctx)),
        ("peer that does not listen", lambda: unreachable(ctx, "10.77.0.2:1", r"10\.77\.0\.2")),
        ("peer that does not exist", lambda: unreachable(ctx, "10.77.0.99:7117", r"10\.77\.0\.99")),
        ("peer that does not trust us", lambda: untrusted(ctx, "b")),
        ("peer that we do not trust", lambda: untrusted(ctx, "a")),
        ("key of another certificate", lambda: own_keys(ctx, spoil_mismatch, r"key")),
        ("key readable by others", lambda: own_keys(ctx, spoil_readable, r"key\.pem")),
        ("key missing", lambda: own_keys(ctx, spoil_missing, r"key\.pem|keygen")),
        ("key is garbage", lambda: own_keys(ctx, spoil_garbage, r"key\.pem")),
        ("receiver's key readable by others", lambda: receiver_readable_key(ctx)),
        ("full state folder at the source", lambda: full_state(ctx, "a", 6)),
        ("full state folder at the target", lambda: full_state(ctx, "b", 3)),
        ("full state folder at a target that pulls", lambda: full_state_pulled(ctx)),
        ("state folder that others can write to", lambda: shared_state(ctx)),
        ("refuse a taken pid", lambda: taken_pid(ctx, False)),
        ("taken pid with --pidns", lambda: taken_pid(ctx, True)),
        ("refuse a missing mapped file", lambda: other_file(ctx, "map", "missing", "")),
        ("refuse a different mapped file", lambda: other_file(ctx, "map", "different", "")),
        ("refuse a shorter mapped file", lambda: other_file(ctx, "map", "shorter", r"\d+")),
        ("refuse a missing open file", lambda: other_file(ctx, "open", "missing", "")),
        ("refuse a different open file", lambda: other_file(ctx, "open", "different", "")),
        ("refuse another executable", lambda: other_exe(ctx)),
        ("refuse without rights", lambda: no_rights(ctx)),
        ("policy: uid", lambda: policy(ctx, "allow-uid 12345", r"uid|policy")),
        ("policy: executable", lambda: policy(ctx, "allow-exe /bin/true", r"holder|policy")),
        ("policy: peer", lambda: policy(ctx, "allow-peer nobody", r"peer|policy")),
        ("policy: not understood", lambda: policy(ctx, "allow everything", r"policy")),
    ]
    found += limited_tests(ctx)
    found += [(f"usage: {name}", lambda a=args: usage(ctx, a)) for name, args in usage_cases()]
    return found
