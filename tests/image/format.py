# SPDX-License-Identifier: MIT
"""Image files, read and written anew by docs/image.md alone: what the product's code is judged by."""
import hashlib
import struct

PREAMBLE, HEADER, ENTRY, END, FRONT = 24, 16, 56, 16, 96
MEMORY = 1 << 63
HELLO, OFFER, FILE, CHECK, STATE, PAGES, DESCRIBED, PACKED, INDEX, SEAL = 1, 2, 3, 4, 6, 7, 9, 21, 24, 25
NODE_ENTRIES = 73
LZ4 = 1


def header(data, at):
    """(type, flags, space, length, address) of a frame."""
    return struct.unpack_from("<BBHIQ", data, at)


def frame(kind, body=b"", space=0, addr=0):
    return struct.pack("<BBHIQ", kind, 0, space, len(body), addr) + body


def unpack(body):
    """The pages of a PACKED: one block of LZ4 (literals, then copies of what is behind) of a length told before it."""
    out, at, (length,) = bytearray(), 4, struct.unpack_from("<I", body)

    def more(n):
        nonlocal at
        while n >= 15:
            at += 1
            n += body[at - 1]
            if body[at - 1] != 255:
                break
        return n

    while at < len(body):
        token = body[at]
        at += 1
        literals = more(token >> 4)
        out += body[at:at + literals]
        at += literals
        if at >= len(body):
            break
        (back,) = struct.unpack_from("<H", body, at)
        at += 2
        for _ in range(more(token & 15) + 4):
            out.append(out[-back])
    assert at == len(body) and len(out) == length, "a packed body"
    return bytes(out)


class Entry:
    def __init__(self, key, at, length, span, digest):
        self.key, self.at, self.length, self.span, self.digest = key, at, length, span, digest

    @classmethod
    def read(cls, data, at):
        return cls(*struct.unpack_from("<QQII32s", data, at))

    def bytes(self):
        return struct.pack("<QQII32s", self.key, self.at, self.length, self.span, self.digest)


class Image:
    """A file as it lies there; every checksum is checked."""

    def __init__(self, data):
        self.data = data
        assert data[:5] == b"BATON" and data[5] == 1 and data[6:8] == b"F\0", "preamble"
        self.seal_at, word = struct.unpack_from("<Q8s", data, len(data) - END)
        assert word == b"BATONEND", "end"
        kind, flags, space, length, addr = header(data, self.seal_at)
        assert (kind, flags, space, addr) == (SEAL, 0, 0, self.seal_at), "seal"
        assert self.seal_at + HEADER + length + END == len(data), "seal"
        at = self.seal_at + HEADER
        self.major, self.minor = struct.unpack_from("<HH", data, at)
        self.root = Entry.read(data, at + 4)
        self.nr_head, self.head_bytes, self.memory_bytes, self.time, self.packing, cert = struct.unpack_from(
            "<QQQqHH", data, at + 60)
        self.cert = data[at + FRONT:at + FRONT + cert]
        front = data[at:at + FRONT + cert]
        at += FRONT + cert
        assert hashlib.sha256(data[:PREAMBLE] + front).digest() == data[at:at + 32], "seal's checksum"
        (length,) = struct.unpack_from("<H", data, at + 32)
        self.signature = data[at + 34:at + 34 + length]
        self.index_bytes = 0
        self.entries = list(self.walk(self.root, header(data, self.root.at)[2]))

    def walk(self, entry, level):
        raw = self.data[entry.at:entry.at + entry.length]
        assert hashlib.sha256(raw).digest() == entry.digest, f"checksum at {entry.at}"
        kind, flags, space, length, addr = header(raw, 0)
        assert (kind, flags, space, addr) == (INDEX, 0, level, entry.key) and length % ENTRY == 0
        assert 0 < length // ENTRY <= NODE_ENTRIES
        self.index_bytes += len(raw)
        for at in range(HEADER, HEADER + length, ENTRY):
            child = Entry.read(raw, at)
            if level:
                yield from self.walk(child, level - 1)
                continue
            leaf = self.data[child.at:child.at + child.length]
            assert hashlib.sha256(leaf).digest() == child.digest, f"checksum at {child.at}"
            yield child

    def raw(self, entry):
        return self.data[entry.at:entry.at + entry.length]

    def head(self):
        return [self.raw(e) for e in self.entries if not e.key & MEMORY]

    def memory(self):
        """{address: bytes}, unpacked"""
        found = {}
        for e in self.entries:
            if e.key & MEMORY:
                body = self.raw(e)[HEADER:]
                found[e.key ^ MEMORY] = unpack(body) if self.is_packed(e) else body
        return found

    def is_packed(self, entry):
        return self.data[entry.at] == PACKED

    def check(self):
        keys = [e.key for e in self.entries]
        assert keys == sorted(set(keys)), "the index is not in order"
        assert keys[:self.nr_head] == list(range(self.nr_head)), "numbers of the head"
        kinds = [raw[0] for raw in self.head()]
        assert kinds[0] == HELLO and kinds[1] == OFFER and kinds[-1] == DESCRIBED
        assert sum(e.span for e in self.entries) == self.memory_bytes
        assert sum(len(raw) - HEADER for raw in self.head() if raw[0] == PAGES) == self.head_bytes
        assert all(e.span == len(m) for e, m in zip((e for e in self.entries if e.key & MEMORY), self.memory().values()))
        assert self.packing == (LZ4 if any(map(self.is_packed, self.entries)) else 0)
        # Nothing lies in the file that the index does not name.
        total = PREAMBLE + sum(e.length for e in self.entries) + self.index_bytes
        assert total == self.seal_at, f"{self.seal_at - total} bytes that nobody names"


def build(head, memory, preamble, major=1, packing=0):
    """An image of raw frames and {address: bytes}, which nobody signed, and nobody packed."""
    out = bytearray(preamble)
    levels = [[] for _ in range(5)]

    def put(raw, key, span):
        levels_entry = Entry(key, len(out), len(raw), span, hashlib.sha256(raw).digest())
        out.extend(raw)
        return levels_entry

    def flush(level):
        entries = levels[level]
        levels[level] = []
        return put(frame(INDEX, b"".join(e.bytes() for e in entries), level, entries[0].key), entries[0].key, 0)

    def add(entry, level=0):
        if len(levels[level]) == NODE_ENTRIES:
            add(flush(level), level + 1)
        levels[level].append(entry)

    for nr, raw in enumerate(head):
        add(put(raw, nr, 0))
    for addr in sorted(memory):
        add(put(frame(PAGES, memory[addr], 0, addr), MEMORY | addr, len(memory[addr])))
    level = 0
    while True:
        root = flush(level)
        if level == 4 or not levels[level + 1]:
            break
        level += 1
        add(root, level)
    front = struct.pack("<HH", major, 0) + root.bytes() + struct.pack(
        "<QQQqHH", len(head), sum(len(raw) - HEADER for raw in head if raw[0] == PAGES),
        sum(len(m) for m in memory.values()), 0, packing, 0)
    body = front + hashlib.sha256(bytes(preamble) + front).digest() + struct.pack("<H", 0)
    at = len(out)
    return bytes(out) + frame(SEAL, body, 0, at) + struct.pack("<Q", at) + b"BATONEND"
