# SPDX-License-Identifier: MIT
"""A python3 program with threads, open files, a subprocess module loaded and much on its heap.

Follows the convention of scenario.h: argument DIR; DIR/ready, DIR/go, DIR/result, DIR/end.
"""
import hashlib
import os
import queue
import random
import sys
import threading
import time

folder = sys.argv[1]
NR_THREADS, NR_ITEMS = 6, 20000


def path(name):
    return os.path.join(folder, name)


class Worker(threading.Thread):
    """Hashes on and on; the digest after N rounds is known."""

    def __init__(self, nr):
        super().__init__(daemon=True)
        self.nr, self.rounds, self.digest = nr, 0, hashlib.sha256(b"%d" % nr).digest()
        self.stop = threading.Event()

    def run(self):
        while not self.stop.is_set():
            for _ in range(100):
                self.digest = hashlib.sha256(self.digest).digest()
                self.rounds += 1
            time.sleep(0.001)

    def right(self):
        digest = hashlib.sha256(b"%d" % self.nr).digest()
        for _ in range(self.rounds):
            digest = hashlib.sha256(digest).digest()
        return digest == self.digest


def say(name, text):
    with open(path(name + ".tmp"), "w") as f:
        f.write(text)
    os.rename(path(name + ".tmp"), path(name))


def main():
    rng = random.Random(42)
    data = {i: rng.random() for i in range(NR_ITEMS)}
    blob = bytearray(hashlib.shake_256(b"blob").digest(8 << 20))
    lines = [f"line {i}\n" for i in range(1000)]
    with open(path("text"), "w") as f:
        f.writelines(lines)
    reader, log = open(path("text")), open(path("log"), "a", buffering=1)
    for _ in range(100):
        reader.readline()
    workers = [Worker(i) for i in range(NR_THREADS)]
    for w in workers:
        w.start()
    blocked, answers = queue.Queue(), queue.Queue()
    threading.Thread(target=lambda: answers.put(blocked.get() * 2), daemon=True).start()
    log.write("before\n")
    say("ready", str(os.getpid()))
    while not os.path.exists(path("go")):
        time.sleep(0.002)
    log.write("after\n")
    blocked.put(21)
    problems = []
    before = [w.rounds for w in workers]
    time.sleep(0.3)
    if any(w.rounds <= b for w, b in zip(workers, before)):
        problems.append("a thread stands still")
    for w in workers:
        w.stop.set()
        w.join()
    if not all(w.right() for w in workers):
        problems.append("a digest is wrong")
    if answers.get(timeout=5) != 42:
        problems.append("queue")
    rng = random.Random(42)
    if data != {i: rng.random() for i in range(NR_ITEMS)}:
        problems.append("the dictionary changed")
    if blob != hashlib.shake_256(b"blob").digest(8 << 20):
        problems.append("the blob changed")
    if reader.readlines() != lines[100:]:
        problems.append("the open file is at another place")
    if open(path("log")).read() != "before\nafter\n":
        problems.append("the log is wrong")
    netns = os.stat("/proc/self/ns/net").st_ino
    say("result", "FAIL " + ", ".join(problems) if problems else f"ok netns {netns}")
    while not os.path.exists(path("end")):
        time.sleep(0.002)


main()
