# SPDX-License-Identifier: MIT
"""docs/stories.md, typed as it stands: two devices with folders of their own where the stories write."""
import os
import re
import shutil
import signal
import sys

from devices import TOP, Failure, read, wait_for
from real_test import need

sys.path.append(f"{TOP}/tests/console")
from terminal import Terminal  # noqa: E402

PROMPT = re.compile(r"(a|b|new|build|laptop)[#$] (.*)|(baton>|Password:) (.*)")
# What a device has for itself, and how; the rest of the machine's files is shared.
OWN = (("/etc", "copy"), ("/var/lib", "tmpfs"), ("/run", "tmpfs"))


def stories():
    """[(title, [[prompt, what is typed, lines shown]])]"""
    found = []
    for line in read(f"{TOP}/docs/stories.md").splitlines():
        typed = PROMPT.fullmatch(line[4:]) if line.startswith("    ") else None
        if line.startswith("## "):
            found.append((line[3:], []))
        elif typed:
            found[-1][1].append([typed.group(1) or typed.group(3), typed.group(2) or typed.group(4), []])
        elif line.startswith("    ") and found[-1][1] and not line.startswith("    ttyS0::"):
            found[-1][1][-1][2].append(line.strip())
    return found


class Devices:
    def __init__(self, ctx, pair):
        self.ctx, self.pair, self.terminal = ctx, pair, None
        self.local = f"{pair.folder}/local"
        os.makedirs(f"{self.local}/sbin")
        os.makedirs(f"{self.local}/lib/baton")
        shutil.copy(ctx.binary, f"{self.local}/sbin/baton")
        for folder in ("failover", "image"):
            shutil.copytree(f"{TOP}/board/{folder}", f"{self.local}/lib/baton", dirs_exist_ok=True)
        self.by_name = {"a": pair.a, "b": pair.b, "new": pair.a}
        for device in (pair.a, pair.b):
            self.furnish(device)

    def mount(self, device, *args):
        done = device.run(["mount", *args])
        if done.code:
            raise Failure(f"mount {' '.join(args)}: {done.tail()}")

    def furnish(self, device):
        device.keys, device.state = "/etc/baton", "/run/baton"
        self.mount(device, "--bind", self.local, "/usr/local")
        for path, how in OWN:
            own = f"{self.pair.folder}/{device.name}{path.replace('/', '.')}"
            if how == "copy":
                shutil.rmtree(own, ignore_errors=True)
                shutil.copytree(path, own, symlinks=True)
                shutil.rmtree(f"{own}/baton", ignore_errors=True)
                with open(f"{own}/hosts", "w") as f:
                    f.write(f"127.0.0.1 localhost\n{self.pair.a.address} a\n{self.pair.b.address} b\n")
                self.mount(device, "--bind", own, path)
            else:
                self.mount(device, "-t", how, how, path)

    def kill_all(self, device):
        for pid in device.pids():
            device.run(["kill", "-9", pid])
        wait_for(lambda: not [p for p in device.pids() if device.alive(p)], 10, "all of it ends")

    def carry(self, device, source, where, dest):
        inside = "/proc/{}/root{}".format
        shutil.copy(inside(device.init, source), inside(self.by_name[where].init, dest))

    def type(self, prompt, text):
        """What is shown."""
        if prompt in ("build", "laptop"):
            return None
        if prompt in ("Password:", "baton>"):
            return self.at_console(prompt, text)
        device = self.by_name[prompt]
        carried = re.fullmatch(r"scp (\S+) (\w+):(\S+)", text)
        if carried:
            self.carry(device, *carried.groups())
        elif text in ("reboot", "poweroff"):
            self.kill_all(device)
            self.mount(device, "-t", "tmpfs", "tmpfs", "/run")
            if text == "poweroff":  # and another box in its place
                self.mount(device, "-t", "tmpfs", "tmpfs", "/var/lib")
                shutil.rmtree(f"/proc/{device.init}/root/etc/baton")
        else:
            return self.shell(device, text)
        return ""

    def shell(self, device, text):
        out = device.start(["sh", "-c", text], wd="/", name="story")
        out.wait(60)
        if out.code:
            raise Failure(f"{device.name}# {text}: exit {out.code}: {out.stdout[-300:]} {out.tail()}")
        if text.endswith("&"):
            wait_for(lambda: device.listens(7117), 10, f"{text} listens")
        return out.stdout + out.stderr

    def at_console(self, prompt, text):
        if prompt == "Password:":
            self.terminal = Terminal(self.ctx, self.pair.a, prompt=False)
            self.terminal.expect("assword")
        self.terminal.type(text + "\r")
        if text == "exit":
            self.terminal.output.wait(10)
            self.terminal.over = True
            return ""
        return self.terminal.expect("baton> ")


def shown(line, said):
    """All between the dots, in that order."""
    return re.search(".*".join(map(re.escape, (part.strip() for part in line.split("…")))), said, re.S)


def told(ctx):
    need("redis-server", "redis-cli", "pidof")
    with ctx.pair(keys=False) as pair:
        devices, nr = Devices(ctx, pair), 0
        for title, lines in stories():
            for prompt, text, expected in lines:
                said = devices.type(prompt, text)
                nr += said is not None
                for line in expected:
                    if not shown(line, said or ""):
                        raise Failure(f"{title}: {prompt} {text}: no '{line}' in {said!r}")
        return f"{nr} lines in {len(stories())} stories"


def tests(ctx):
    return [("the stories, as they are written", lambda: told(ctx))]
