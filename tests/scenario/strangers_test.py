# SPDX-License-Identifier: MIT
"""Whoever else connects to a receiver: never touches a process, never blocks an honest move."""
import contextlib
import ctypes
import os
import socket
import ssl
import struct
import threading
import time

from devices import PORT, Failure, Skip, wait_for
from victim import Receiver, Victim, send

PREAMBLE = b"BATON\x01\x00\x00" + b"0123456789abcdef"
NR_SILENT = 40


def enter_netns(device, function):
    """Runs function() in a thread of its own that is inside the device's network; its result."""
    made = []

    def enter():
        libc = ctypes.CDLL(None, use_errno=True)
        fd = os.open(f"/proc/{device.init}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            if libc.setns(fd, 0x40000000):
                raise OSError(ctypes.get_errno(), "setns")
            made.append(function())
        except OSError as why:
            made.append(why)
        finally:
            os.close(fd)
    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    if isinstance(made[0], OSError):
        raise Failure(f"cannot connect from device {device.name}: {made[0]}")
    return made[0]


def connect(device, to, origin=None):
    source = (origin, 0) if origin else None
    return enter_netns(device, lambda: socket.create_connection((to, PORT), 5, source))


def tls(sock, cert=None, newest=None, first=PREAMBLE):
    sock.sendall(first)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    if newest:
        context.maximum_version = newest
    if cert:
        context.load_cert_chain(f"{cert}/cert.pem", f"{cert}/key.pem")
    try:
        with context.wrap_socket(sock) as s:
            s.sendall(b"hello, I am the other device")
            s.recv(100)
    except OSError:
        pass


def shut(sock, data=b"", reset=False):
    if data:
        sock.sendall(data)
    if reset:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def kinds(pair):
    """(name, what it does with its connection)"""
    wrong = f"{pair.folder}/stranger"
    pair.baton_once(["keygen", "--keys", wrong, "--name", "stranger"])
    return (
        ("closes at once", shut),
        ("resets at once", lambda s: shut(s, reset=True)),
        ("sends garbage", lambda s: shut(s, os.urandom(5000))),
        ("sends half a preamble", lambda s: shut(s, PREAMBLE[:11])),
        ("sends another version", lambda s: shut(s, b"BATON\x09" + PREAMBLE[6:])),
        ("sends a lane that is none", lambda s: shut(s, b"BATON\x01\x63" + PREAMBLE[7:])),
        ("sends a preamble only", lambda s: shut(s, PREAMBLE)),
        ("sends garbage after the preamble", lambda s: shut(s, PREAMBLE + os.urandom(70000))),
        ("speaks HTTP", lambda s: shut(s, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" + bytes(40))),
        ("has no certificate", tls),
        ("has a certificate nobody trusts", lambda s: tls(s, wrong)),
        ("speaks TLS 1.2", lambda s: tls(s, newest=ssl.TLSVersion.TLSv1_2)),
    )


def logged(receiver, address):
    return f"{address[0]}:{address[1]}" in receiver.output.stderr


def one_after_another(ctx):
    """Each stranger alone is logged with its address and a reason; then an honest move."""
    with ctx.pair() as pair:
        victim = Victim(ctx, pair)
        receiver = Receiver(pair)
        for name, act in kinds(pair):
            sock = connect(pair.a, pair.b.address)
            address = sock.getsockname()
            try:
                act(sock)
            except OSError:
                pass
            sock.close()
            wait_for(lambda: logged(receiver, address), 8,
                     f"one who {name} is logged with its address {address[0]}:{address[1]}")
            receiver.check_alive()
        out = send(pair, victim.pid)
        if out.code:
            raise Failure(f"afterwards an honest move fails, exit {out.code}: {out.tail()}; receiver: "
                          f"{receiver.output.tail()}")
        victim.check_after_move(pair.b)
        receiver.check_alive()


def silent(ctx, first):
    """Connections that stay open and say nothing more, more than there are slots."""
    with ctx.pair() as pair:
        victim = Victim(ctx, pair)
        receiver = Receiver(pair)
        socks = []
        for _ in range(NR_SILENT):
            sock = connect(pair.a, pair.b.address)
            sock.sendall(first)
            socks.append(sock)
        began = time.monotonic()
        out = send(pair, victim.pid)
        took = time.monotonic() - began
        if out.code:
            raise Failure(f"an honest move fails meanwhile, exit {out.code}: {out.tail()}; receiver: "
                          f"{receiver.output.tail()}")
        if took > 4:
            raise Failure(f"an honest move waits for strangers: {took:.1f} s")
        victim.check_after_move(pair.b)
        addresses = [s.getsockname() for s in socks]
        wait_for(lambda: all(logged(receiver, a) for a in addresses), 10, "each of them is logged")
        receiver.check_alive()
        for sock in socks:
            sock.close()


def storm(ctx):
    """Strangers without pause while a move is under way."""
    with ctx.pair() as pair:
        victim = Victim(ctx, pair, "memory", 64)
        receiver = Receiver(pair)
        over = threading.Event()
        acts = kinds(pair)

        def keep_on():
            n = 0
            while not over.is_set():
                try:
                    sock = connect(pair.a, pair.b.address)
                    acts[n % len(acts)][1](sock)
                    sock.close()
                except (OSError, Failure):
                    pass
                n += 1
                time.sleep(0.02)
        thread = threading.Thread(target=keep_on)
        thread.start()
        try:
            out = send(pair, victim.pid, "--max-rate", "50", timeout=30)
        finally:
            over.set()
            thread.join()
        if out.code:
            raise Failure(f"exit {out.code}: {out.tail()}; receiver: {receiver.output.tail()}")
        victim.check_after_move(pair.b)
        receiver.check_alive()


def client_hello():
    """The first bytes of a TLS client."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    try:
        context.wrap_bio(incoming, outgoing).do_handshake()
    except ssl.SSLWantReadError:
        pass
    return outgoing.read()


class Loris(threading.Thread):
    """Always about to say more: the preamble byte by byte, or (`whole`) what follows it."""

    def __init__(self, sock, whole, every_s):
        super().__init__(daemon=True)
        self.sock, self.address = sock, sock.getsockname()
        self.data, self.every_s = PREAMBLE + client_hello(), every_s
        self.first = len(PREAMBLE) if whole else 1
        self.start()

    def run(self):
        try:
            self.sock.sendall(self.data[:self.first])
            for i in range(self.first, len(self.data)):
                self.sock.sendall(self.data[i:i + 1])
                time.sleep(self.every_s)
        except OSError:
            pass


def slow_loris(ctx):
    """More of them than there are slots, before and during a move; each is sent away in the end."""
    with ctx.pair() as pair:
        victim = Victim(ctx, pair, "memory", 64)
        receiver = Receiver(pair)
        slow = [Loris(connect(pair.a, pair.b.address), i % 2 == 0, 0.2) for i in range(12)]
        send_out = pair.baton(pair.a, "send", "--max-rate", "50", victim.pid,
                              f"{pair.b.address}:{PORT}")
        while send_out.code is None and len(slow) < 40:
            slow.append(Loris(connect(pair.a, pair.b.address), len(slow) % 2 == 0, 0.2))
            time.sleep(0.05)
        if send_out.wait(20):
            raise Failure(f"exit {send_out.code}: {send_out.tail()}; receiver: "
                          f"{receiver.output.tail()}")
        victim.check_after_move(pair.b)
        wait_for(lambda: all(logged(receiver, s.address) for s in slow), 15,
                 "each of them is logged")
        receiver.check_alive()
        for s in slow:
            s.sock.close()
            s.join(10)


class Flood:
    """Connections without end from an address of its own, kept open or not, until it is stopped."""

    ORIGIN = "10.77.0.99"

    def __init__(self, device, to, threads=3):
        self.device, self.to, self.over = device, to, threading.Event()
        self.made = self.refused = 0
        done = device.run(["ip", "addr", "replace", f"{self.ORIGIN}/24", "dev", "veth0"])
        if done.code:
            raise Failure(f"no second address: {done.tail()}")
        self.threads = [threading.Thread(target=self.pour, args=(n,), daemon=True)
                        for n in range(threads)]
        for t in self.threads:
            t.start()

    def pour(self, n):
        enter_netns(self.device, lambda: self.pour_inside(n))

    def pour_inside(self, n):
        firsts = (b"", PREAMBLE, PREAMBLE[:7], PREAMBLE + client_hello(), os.urandom(200))
        kept = []
        while not self.over.is_set():
            try:
                sock = socket.create_connection((self.to, PORT), 1, (self.ORIGIN, 0))
                sock.sendall(firsts[(self.made + n) % len(firsts)])
                kept.append(sock)
                self.made += 1
            except OSError:
                self.refused += 1
            while len(kept) > 30:
                kept.pop(0).close()
        for sock in kept:
            sock.close()

    def stop(self):
        self.over.set()
        for t in self.threads:
            t.join(10)


def flooded(ctx):
    """Hundreds of connections a second while a move is under way."""
    with ctx.pair() as pair:
        victim = Victim(ctx, pair, "memory", 64)
        receiver = Receiver(pair)
        flood = Flood(pair.a, pair.b.address)
        try:
            wait_for(lambda: flood.made > 100, 10, "the flood begins")
            out = send(pair, victim.pid, "--max-rate", "50", timeout=40)
        finally:
            flood.stop()
        if out.code:
            raise Failure(f"exit {out.code}: {out.tail()}; receiver: {receiver.output.tail()}")
        victim.check_after_move(pair.b)
        receiver.check_alive()
        if f"{flood.ORIGIN}:" not in receiver.output.stderr:
            raise Failure("nobody of the flood is logged")


class Crowd(threading.Thread):
    """So many connections a second from a device, of all kinds that cost a listener something; each
    stays open until there are too many or it is over."""

    RATE, MOST, KEPT = 200, 4000, 400

    def __init__(self, device, to):
        super().__init__(daemon=True)
        self.device, self.to, self.over = device, to, threading.Event()
        self.nr, self.socks, self.hello = 0, [], client_hello()

    def one(self):
        sock = socket.socket()
        sock.setblocking(False)
        sock.connect_ex((self.to, PORT))
        self.socks.append(sock)
        if len(self.socks) > self.KEPT:
            self.socks.pop(0).close()
        # What the one before has to say: it is connected by now.
        preamble = PREAMBLE[:8] + os.urandom(16)
        if len(self.socks) > 1:
            with contextlib.suppress(OSError):
                self.socks[-2].send((b"", preamble, os.urandom(200), preamble + self.hello)[self.nr % 4])
        self.nr += 1

    def flood(self):
        began = time.monotonic()
        while not self.over.wait(max(0, began + self.nr / self.RATE - time.monotonic())):
            if self.nr >= self.MOST:
                break
            self.one()
        self.seconds = time.monotonic() - began
        for sock in self.socks:
            sock.close()

    def run(self):
        enter_netns(self.device, self.flood)

    def __enter__(self):
        self.start()
        wait_for(lambda: self.nr > 100, 10, "the flood begins")
        return self

    def __exit__(self, *exc):
        self.over.set()
        self.join()


class LongWay(threading.Thread):
    """A way from a device to a port of another one that takes longer than the cable."""

    PORT, SECONDS = 7118, 0.04

    def __init__(self, device, to):
        super().__init__(daemon=True)
        self.device, self.to = device, to
        self.listener = enter_netns(device, lambda: socket.create_server((device.address, self.PORT)))

    def carry(self, source, sink):
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                time.sleep(self.SECONDS)
                sink.sendall(data)
        for sock in (source, sink):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    def serve(self):
        with contextlib.suppress(OSError):
            while True:
                here = self.listener.accept()[0]
                there = socket.create_connection((self.to, PORT))
                for pair in ((here, there), (there, here)):
                    threading.Thread(target=self.carry, args=pair, daemon=True).start()

    def run(self):
        enter_netns(self.device, self.serve)

    def __enter__(self):
        self.start()
        return f"{self.device.address}:{self.PORT}"

    def __exit__(self, *exc):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.join()


def crowd_at_home(ctx):
    """A crowd at the honest sender's own address does not keep it out, though it has a long way."""
    with ctx.pair() as pair:
        receiver = Receiver(pair)
        with Crowd(pair.a, pair.b.address) as crowd, LongWay(pair.a, pair.b.address) as way:
            for _ in range(3):
                victim = Victim(ctx, pair)
                out = send(pair, victim.pid, to=way)
                if out.code:
                    raise Failure(f"an honest move fails, exit {out.code}: {out.tail()}; receiver: "
                                  f"{receiver.output.tail()}")
                victim.check_after_move(pair.b)
        receiver.check_alive()
        if crowd.nr < 0.8 * crowd.RATE * crowd.seconds and crowd.nr < crowd.MOST:
            raise Skip(f"this machine makes {crowd.nr / crowd.seconds:.0f} connections a second only")
        lines = len(receiver.output.stderr.splitlines())
        if lines > 100 + 8 * crowd.seconds:
            raise Failure(f"{lines} lines in the log of {crowd.seconds:.0f} s")


def source_side(ctx):
    """The same at a `dump --serve`: the process it offers stays untouched."""
    with ctx.pair() as pair:
        victim = Victim(ctx, pair)
        source = pair.baton(pair.a, "dump", "--serve", f"{pair.a.address}:{PORT}", victim.pid)
        wait_for(lambda: source.listens or source.code is not None, 10, "dump --serve listens")
        for _, act in kinds(pair):
            sock = connect(pair.b, pair.a.address)
            try:
                act(sock)
            except OSError:
                pass
            sock.close()
        time.sleep(0.3)
        victim.check_unharmed()
        if source.code is not None:
            raise Failure(f"dump --serve ended, exit {source.code}: {source.tail()}")
        target = pair.baton(pair.b, "restore", "--from", f"{pair.a.address}:{PORT}")
        target.wait(20)
        source.wait(10)
        if target.code or source.code:
            raise Failure(f"afterwards an honest move fails: {target.code}: {target.tail()}; "
                          f"{source.code}: {source.tail()}")
        victim.check_after_move(pair.b)


def tests(ctx):
    return [
        ("strangers one after another", lambda: one_after_another(ctx)),
        ("strangers who say nothing", lambda: silent(ctx, b"")),
        ("strangers who stop after the preamble", lambda: silent(ctx, PREAMBLE)),
        ("strangers during a move", lambda: storm(ctx)),
        ("strangers who are slow (slow loris)", lambda: slow_loris(ctx)),
        ("strangers in a flood", lambda: flooded(ctx)),
        ("strangers at the sender's own address, 200 a second", lambda: crowd_at_home(ctx)),
        ("strangers at the source", lambda: source_side(ctx)),
    ]
