# SPDX-License-Identifier: MIT
"""Whoever else connects to a receiver: never touches a process, never blocks an honest move."""
import ctypes
import os
import socket
import ssl
import struct
import threading
import time

from devices import PORT, Failure, wait_for
from victim import Receiver, Victim, send

PREAMBLE = b"BATON\x01\x00\x00" + b"0123456789abcdef"
NR_SILENT = 40


def enter_netns(device, function):
    """Runs function() in a thread of its own that is inside the device's network."""
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


def connect(device, to):
    return enter_netns(device, lambda: socket.create_connection((to, PORT), timeout=5))


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
        ("sends garbage", lambda s: shut(s, os.urandom(4096))),
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


def source_side(ctx):
    """The same at a `dump --serve`: the process it offers stays untouched."""
    with ctx.pair() as pair:
        victim = Victim(ctx, pair)
        source = pair.baton(pair.a, "dump", "--serve", f"{pair.a.address}:{PORT}", victim.pid)
        wait_for(lambda: pair.a.listens(PORT) or source.code is not None, 10, "dump --serve listens")
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
        ("strangers at the source", lambda: source_side(ctx)),
    ]
