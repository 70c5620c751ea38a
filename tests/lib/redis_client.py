# SPDX-License-Identifier: MIT
"""A client that asks a redis-server for keys, over and over, from inside a device."""
import ctypes
import os
import random
import socket
import threading
import time


class RedisClient(threading.Thread):
    """Asks for `key:N` and checks the answer. Where it asks can be changed at any time; it connects
    again as often as it has to. key: how N is written in the name of a key."""

    def __init__(self, device, address, nr_keys, port=6379, key="key:{}"):
        super().__init__(daemon=True)
        self.device, self.address, self.nr_keys, self.port = device, address, nr_keys, port
        self.key = key
        self.over, self.quiet = threading.Event(), threading.Event()
        self.idle = threading.Event()
        self.answers, self.wrong, self.connects = 0, 0, 0
        self.last_answer = self.first_answer = 0.0
        self.slowest, self.latencies = 0.0, []
        self.rng = random.Random(1)

    def run(self):
        libc = ctypes.CDLL(None, use_errno=True)
        fd = os.open(f"/proc/{self.device.init}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        libc.setns(fd, 0x40000000)
        os.close(fd)
        while not self.over.is_set():
            if self.quiet.is_set():
                self.idle.set()
                time.sleep(0.001)
                continue
            try:
                self.session()
            except OSError:
                time.sleep(0.0005)

    def session(self):
        with socket.create_connection((self.address, self.port), 5) as sock:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.connects += 1
            while not self.over.is_set() and not self.quiet.is_set():
                self.ask(sock)

    def ask(self, sock):
        n = self.rng.randrange(self.nr_keys)
        key = self.key.format(n)
        began = time.monotonic()
        sock.sendall(f"*2\r\n$3\r\nGET\r\n${len(key)}\r\n{key}\r\n".encode())
        data = b""
        while not data.endswith(b"\r\n") or data.count(b"\r\n") < 2:
            part = sock.recv(4096)
            if not part:
                raise OSError("the server closed the connection")
            data += part
        now = time.monotonic()
        self.answers += 1
        value = data.split(b"\r\n", 1)[1].rstrip(b"\r\n").split(b"\0")[0]
        self.wrong += value != f"value:{n}".encode()
        self.latencies.append(now - began)
        self.first_answer = self.first_answer or now
        self.last_answer = now

    def pause(self):
        """Closes the connection and asks no more; returns when it is closed."""
        self.idle.clear()
        self.quiet.set()
        self.idle.wait(5)

    def move_to(self, address):
        """Asks there from now on; counts anew."""
        self.address, self.first_answer, self.latencies = address, 0.0, []
        self.quiet.clear()

    def stop(self):
        self.over.set()
        self.join(5)
