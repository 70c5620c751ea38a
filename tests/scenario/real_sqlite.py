# SPDX-License-Identifier: MIT
"""A python3 program inside a transaction on an open sqlite database while it moves.

Follows the convention of scenario.h: argument DIR; DIR/ready, DIR/go, DIR/result, DIR/end.
"""
import os
import sqlite3
import sys
import time

folder = sys.argv[1]
base = os.path.join(folder, "base.db")


def say(name, text):
    with open(os.path.join(folder, name + ".tmp"), "w") as f:
        f.write(text)
    os.rename(os.path.join(folder, name + ".tmp"), os.path.join(folder, name))


def locked():
    """True when another one is kept out of the database."""
    pid = os.fork()
    if pid:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
    try:
        other = sqlite3.connect(base, timeout=0)
        other.execute("insert into t values (-1, 'intruder')")
        os._exit(0)
    except sqlite3.OperationalError:
        os._exit(7)


db = sqlite3.connect(base, isolation_level=None)
db.execute("pragma cache_size = 20")  # so that changed pages are spilled, and the journal is real
db.execute("create table t (n integer primary key, s text)")
db.execute("begin")
db.executemany("insert into t values (?, ?)", ((i, f"committed {i}") for i in range(2000)))
db.execute("commit")
db.execute("begin immediate")
db.executemany("insert into t values (?, ?)", ((i, f"pending {i}") for i in range(2000, 6000)))
db.execute("update t set s = 'changed' where n % 7 = 0")
cursor = db.execute("select n from t order by n")
first = [cursor.fetchone()[0] for _ in range(100)]
say("ready", str(os.getpid()))
while not os.path.exists(os.path.join(folder, "go")):
    time.sleep(0.002)
problems = []
if not locked():
    problems.append("the transaction's lock is gone")
if first + [row[0] for row in cursor] != list(range(6000)):
    problems.append("the open cursor")
db.execute("insert into t values (6000, 'after')")
db.execute("commit")
db.close()
again = sqlite3.connect(base)
if again.execute("pragma integrity_check").fetchone()[0] != "ok":
    problems.append("integrity")
count, changed = again.execute("select count(*), sum(s = 'changed') from t").fetchone()
if (count, changed) != (6001, len(range(0, 6000, 7))):
    problems.append(f"{count} rows, {changed} changed")
again.close()
say("result", "FAIL " + ", ".join(problems) if problems
    else f"ok netns {os.stat('/proc/self/ns/net').st_ino}")
while not os.path.exists(os.path.join(folder, "end")):
    time.sleep(0.002)
