# SPDX-License-Identifier: MIT
"""A user at a terminal: types, and reads what comes."""
import fcntl
import os
import pty
import select
import struct
import termios
import threading
import time

from devices import Failure

PROMPT = "baton> "


class Terminal:
    """A pseudo terminal with a console on it. `device`: where it runs; `prefix`: what starts it."""

    def __init__(self, ctx, device, *options, prompt=True, before=None, prefix=()):
        self.ctx, self.device, self.machine = ctx, device, "--machine" in options
        self.master, self.slave = pty.openpty()
        fcntl.ioctl(self.slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        if before:
            before(self.slave)
        self.line = os.ttyname(self.slave)
        self.attributes = termios.tcgetattr(self.slave)
        self.seen, self.reading, self.lock = "", True, threading.Lock()
        self.step, self.pause = 4096, 0
        self.output = device.start([*prefix, ctx.binary, "console", "--tty", self.line, "--keys", device.keys,
                                    "--state", device.state] + list(options), name="console")
        self.over = False
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.reader.start()
        self.mark = 0
        if prompt:
            self.expect("! baton console\r\n" if self.machine else PROMPT)

    def read(self):
        while not self.over:
            try:
                if not self.reading:
                    time.sleep(0.01)
                elif select.select([self.master], [], [], 0.05)[0]:
                    got = os.read(self.master, self.step).decode("utf-8", "replace")
                    with self.lock:
                        self.seen += got
                    time.sleep(self.pause)
            except (OSError, ValueError):
                return

    def type(self, text):
        data = text if isinstance(text, bytes) else text.encode()
        while data:
            data = data[os.write(self.master, data[:200]):]

    def expect(self, text, timeout=15):
        """Waits for a text behind what was expected last; all up to its end."""
        deadline = time.monotonic() + timeout
        while True:
            with self.lock:
                at = self.seen.find(text, self.mark)
                if at >= 0:
                    got = self.seen[self.mark:at + len(text)]
                    self.mark = at + len(text)
                    return got
                rest = self.seen[self.mark:]
            if time.monotonic() > deadline or (self.output.code is not None and not self.reading):
                raise Failure(f"the console does not say {text!r}, but {rest[-300:]!r}; "
                              f"exit {self.output.code}; {self.output.tail()}")
            time.sleep(0.005)

    def run(self, command, timeout=15):
        """A command and what comes of it: (code, output). With --machine only."""
        self.type(command + "\r")
        lines, name = [], (command.split() or ["-"])[0]
        while True:
            line = self.expect("\n", timeout).rstrip("\r\n")
            if line.startswith("= "):
                _, code, what = line.split(" ", 2)
                if what not in (name, "-"):
                    raise Failure(f"{command!r} was answered by {line!r}")
                return int(code) if code != "&" else "&", "\n".join(lines)
            if line.startswith(". "):
                lines.append(line[2:])
            elif not line.startswith("! "):
                raise Failure(f"{command!r} says {line!r}, which is none of its kinds of lines")

    def ends(self, code=0, timeout=10):
        self.output.wait(timeout)
        if self.output.code != code:
            raise Failure(f"the console ended with {self.output.code}, not {code}: {self.output.tail()}")

    def hang_up(self):
        if not self.over:
            self.over = True
            self.reader.join()
            os.close(self.slave)
            os.close(self.master)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.hang_up()
