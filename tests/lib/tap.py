# SPDX-License-Identifier: MIT
"""Runs tests, several at a time, each with a time limit, and prints a line for each."""
import os
import queue
import shutil
import sys
import tempfile
import threading
import time
import traceback

from devices import Failure, Pair, Skip


class Context:
    """What every test gets: the binary, the built programs, a folder."""

    def __init__(self, binary, tools, keep=False, folder="/tmp"):
        self.binary, self.tools, self.keep = os.path.realpath(binary), tools, keep
        self.root = tempfile.mkdtemp(prefix="baton-", dir=folder)
        os.chmod(self.root, 0o755)

    def pair(self, keys=True, **kw):
        return Pair(self.binary, self.tools, self.root, keys, **kw)

    def close(self):
        if not self.keep:
            shutil.rmtree(self.root, ignore_errors=True)


class Runner:
    def __init__(self, jobs, verbose=False):
        self.jobs, self.verbose, self.lock = jobs, verbose, threading.Lock()
        self.counts = {"ok": 0, "not ok": 0, "skip": 0}
        self.todo = queue.Queue()

    def say(self, word, name, text=""):
        with self.lock:
            self.counts[word] += 1
            print(f"{word} - {name}{': ' + text if text else ''}", flush=True)

    def one(self, name, function):
        began = time.monotonic()
        try:
            text = function() or ""
            took = f"{time.monotonic() - began:.1f} s" if self.verbose else ""
            self.say("ok", name, ", ".join(filter(None, (text, took))))
        except Skip as why:
            self.say("skip", name, str(why))
        except Failure as why:
            self.say("not ok", name, str(why).replace("\n", " / "))
        except Exception as why:  # a broken test is a failed test
            where = traceback.extract_tb(sys.exc_info()[2])[-1]
            self.say("not ok", name, f"{type(why).__name__} at {os.path.basename(where.filename)}:"
                                     f"{where.lineno}: {why}".replace("\n", " / "))

    def work(self):
        while True:
            try:
                name, function = self.todo.get_nowait()
            except queue.Empty:
                return
            self.one(name, function)

    def run(self, tests, alone=()):
        """tests: (name, function), jobs at a time; then those that need the machine alone."""
        for test in tests:
            self.todo.put(test)
        threads = [threading.Thread(target=self.work, daemon=True) for _ in range(self.jobs)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        for name, function in alone:
            self.one(name, function)
        return self.counts["not ok"] == 0
