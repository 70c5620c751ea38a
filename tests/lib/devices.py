# SPDX-License-Identifier: MIT
"""Two devices on one machine: network, pid and mount namespaces, joined by a veth pair.

Each device has its own pids, its own /proc, a keys folder and a state folder; files are shared.
Everything in a device ends with the device's first process, which ends when this program does.
"""
import os
import shutil
import subprocess
import tempfile
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
TOP = os.path.dirname(os.path.dirname(HERE))
PORT = 7117


class Failure(Exception):
    """What a test says when it fails."""


class Skip(Exception):
    """Why a test cannot be run here."""


def wait_for(condition, timeout, what, step=0.005):
    """Polls until condition() gives something true, and returns that."""
    deadline = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise Failure(f"{what}: not within {timeout:g} s")
        time.sleep(step)


def read(path, default=""):
    try:
        with open(path, "rb") as f:
            return f.read().decode("utf-8", "replace")
    except OSError:
        return default


class Output:
    """A running command with its output in files, so that nothing ever blocks on a pipe."""

    def __init__(self, popen, out, err, name, cost):
        self.popen, self.out, self.err, self.name, self.cost_file = popen, out, err, name, cost

    @property
    def stdout(self):
        return read(self.out)

    @property
    def stderr(self):
        return read(self.err)

    @property
    def code(self):
        """The exit code, or None while it runs."""
        return self.popen.poll()

    @property
    def cost(self):
        """(microseconds of the processor, KiB of the largest process), of the command and its children,
        once it has ended."""
        return tuple(int(word) for word in read(self.cost_file).split())

    @property
    def listens(self):
        """True when a baton has said that it does. (/proc/net/tcp costs 8 ms of the processor: on a
        busy machine a test that polls it waits for itself.)"""
        return "baton: listening on" in self.stderr

    def wait(self, timeout):
        try:
            return self.popen.wait(timeout)
        except subprocess.TimeoutExpired:
            raise Failure(f"{self.name} did not end within {timeout:g} s; stderr: {self.tail()}")

    def tail(self, nr=4):
        return " / ".join(self.stderr.strip().splitlines()[-nr:])


class Device:
    def __init__(self, name, address, first_pid, folder, tools, ahead=0):
        self.name, self.address, self.folder, self.tools = name, address, folder, tools
        self.keys, self.state = f"{folder}/{name}.keys", f"{folder}/{name}.state"
        self.count = 0
        os.makedirs(self.state, exist_ok=True)
        self.popen = subprocess.Popen([f"{tools}/device_init", str(first_pid)]
                                      + ([str(ahead)] if ahead else []),
                                      stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                      stderr=subprocess.DEVNULL)
        if self.popen.stdout.readline() != b"ready\n":
            raise Failure(f"device {name} does not start")
        self.init = int(read(f"/proc/{self.popen.pid}/task/{self.popen.pid}/children").split()[0])
        self.netns = os.stat(f"/proc/{self.init}/ns/net").st_ino

    def enter(self, args, wd=None):
        return ([f"{self.tools}/device_enter", str(self.init), wd or self.folder]
                + [str(a) for a in args])

    def start(self, args, name=None, wd=None, env=None, stdin=subprocess.DEVNULL, out=None):
        """Starts a command in the device as the leader of a session of its own."""
        self.count += 1
        base = f"{self.folder}/{self.name}.{self.count}.{name or os.path.basename(str(args[0]))}"
        with open(out or base + ".out", "wb") as o, open(base + ".err", "wb") as e:
            popen = subprocess.Popen(self.enter(["setsid"] + list(args), wd), stdin=stdin, stdout=o,
                                     stderr=e, env={**(env or os.environ), "DEVICE_COST": base + ".cost"})
        return Output(popen, out or base + ".out", base + ".err", name or str(args[0]), base + ".cost")

    def run(self, args, timeout=20, **kw):
        out = self.start(args, **kw)
        out.wait(timeout)
        return out

    def pid_of(self, output, timeout=5):
        """The pid inside the device of what start() started."""
        enter = output.popen.pid
        children = f"/proc/{enter}/task/{enter}/children"
        host = wait_for(lambda: read(children).split(), timeout, f"{output.name} starts")[0]

        def execed():
            comm = read(f"/proc/{host}/comm").strip()
            return comm not in ("device_enter", "setsid") or output.code is not None
        wait_for(execed, timeout, f"{output.name} starts")
        for line in read(f"/proc/{host}/status").splitlines():
            if line.startswith("NSpid:"):
                return int(line.split()[-1])
        raise Failure(f"{output.name} ended at once: {output.tail()}")

    def proc(self, pid, name=""):
        """A path into the device's own /proc."""
        return f"/proc/{self.init}/root/proc/{pid}/{name}"

    def status(self, pid, key):
        for line in read(self.proc(pid, "status")).splitlines():
            if line.startswith(key + ":"):
                return line.split(":", 1)[1].strip()
        return None

    def threads(self, pid):
        """Where each thread of a process is, for the story of a failure."""
        try:
            tids = os.listdir(self.proc(pid, "task"))
        except OSError:
            return []
        return [f"{tid}: {read(self.proc(pid, f'task/{tid}/stat')).rsplit(')', 1)[-1][1:2]} "
                f"{read(self.proc(pid, f'task/{tid}/wchan'))} "
                f"{read(self.proc(pid, f'task/{tid}/syscall')).strip()}" for tid in tids]

    def alive(self, pid):
        """True when the process exists and is no zombie."""
        state = self.status(pid, "State")
        return state is not None and state[0] not in "ZX"

    def listens(self, port):
        text = read(f"/proc/{self.init}/net/tcp") + read(f"/proc/{self.init}/net/tcp6")
        return any(f":{port:04X} " in line and " 0A " in line for line in text.splitlines())

    def pids(self):
        names = os.listdir(f"/proc/{self.init}/root/proc")
        return [int(n) for n in names if n.isdigit() and n != "1"]

    def batons(self, binary):
        """The pids of baton in this device."""
        found = []
        for pid in self.pids():
            try:
                if os.readlink(self.proc(pid, "exe")) == binary:
                    found.append(pid)
            except OSError:
                pass
        return found

    def thaw(self):
        """What baton has frozen does not die before it thaws."""
        for pid in self.pids():
            for line in read(self.proc(pid, "cgroup")).splitlines():
                path = line.split(":", 2)[2]
                state = f"/sys/fs/cgroup/freezer{path}/freezer.state"
                if "/baton-" in path and os.path.exists(state):
                    with open(state, "w") as f:
                        f.write("THAWED")

    def close(self):
        try:
            self.thaw()
        except OSError:
            pass
        self.popen.stdin.close()
        try:
            self.popen.wait(10)
        except subprocess.TimeoutExpired:
            os.kill(self.init, 9)
            self.popen.wait(10)
        self.popen.stdout.close()


# Two devices were never started at the same moment. None on a kernel without time namespaces.
AHEAD = (0, 100000) if os.path.exists("/proc/self/ns/time") else (0, 0)


class Pair:
    """Two devices, a and b, that trust each other.

    binaries: another baton than `binary` for some devices, by name.
    ahead: so many seconds the clocks of each that count from its start are ahead of the machine's.
    """

    keys_lock = threading.Lock()
    nr = 0

    def __init__(self, binary, tools, root, keys=True, ahead=AHEAD, binaries=None):
        with Pair.keys_lock:
            Pair.nr += 1
            self.folder = f"{root}/{Pair.nr}"
        os.mkdir(self.folder)
        os.chmod(self.folder, 0o777)
        self.binary, self.root, self.devices = binary, root, []
        self.binaries = binaries or {}
        try:
            self.a = self.add("a", "10.77.0.1", 1000, tools, ahead[0])
            self.b = self.add("b", "10.77.0.2", 20000, tools, ahead[1])
            self.cable()
            if keys:
                self.make_keys()
        except BaseException:
            self.close()
            raise

    def add(self, name, address, first_pid, tools, ahead):
        device = Device(name, address, first_pid, self.folder, tools, ahead)
        device.binary = self.binaries.get(name, self.binary)
        self.devices.append(device)
        return device

    def cable(self):
        a, b = self.a, self.b
        script = (f"ip link add veth0 type veth peer name veth0 netns {b.init} && "
                  f"ip addr add {a.address}/24 dev veth0 && ip link set veth0 up")
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "timeout": 20}
        subprocess.run(["nsenter", "-t", str(a.init), "-n", "sh", "-c", script], check=True, **quiet)
        script = f"ip addr add {b.address}/24 dev veth0 && ip link set veth0 up"
        subprocess.run(["nsenter", "-t", str(b.init), "-n", "sh", "-c", script], check=True, **quiet)

    def make_keys(self):
        """Keys are made once and copied: they say nothing about the move."""
        with Pair.keys_lock:
            store = f"{self.root}/keys"
            if not os.path.isdir(store):
                keys = tempfile.mkdtemp(dir=self.root)
                for n in "ab":
                    self.baton_once(["keygen", "--keys", f"{keys}/{n}", "--name", f"device-{n}"])
                for n, peer in ("ab", "ba"):
                    self.baton_once(["trust", "--keys", f"{keys}/{n}", f"{keys}/{peer}/cert.pem"])
                os.rename(keys, store)
        for device in (self.a, self.b):
            shutil.copytree(f"{store}/{device.name}", device.keys)

    def baton_once(self, args):
        done = subprocess.run([self.binary] + args, stdin=subprocess.DEVNULL, capture_output=True,
                              timeout=20)
        if done.returncode:
            raise Failure(f"baton {args[0]}: exit {done.returncode}: "
                          f"{done.stderr.decode(errors='replace').strip()}")

    def baton(self, device, command, *args, keys=True, state=True, **kw):
        """Starts a baton command in a device, with the device's folders."""
        argv = [device.binary, command]
        argv += ["--keys", device.keys] if keys else []
        argv += ["--state", device.state] if state else []
        return device.start(argv + list(args), name=f"baton-{command}", **kw)

    def separate(self, folder):
        """Gives device b a copy of a folder of its own, as two real devices have. Returns its path."""
        own = folder + ".b"
        subprocess.run(["cp", "-a", folder, own], check=True, timeout=60)
        done = self.b.run(["mount", "--bind", own, folder])
        if done.code:
            raise Failure(f"bind mount: {done.tail()}")
        return own

    def close(self):
        for device in self.devices:
            device.close()

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.close()
