"""Locks of Python and of SQLite: `handed.py lock|sqlite bad|well [DATABASE]`."""
import multiprocessing
import sqlite3
import sys
import threading
import time

NAME, BAD = sys.argv[1], sys.argv[2] == "bad"


def use_lock(lock):
    for _ in range(30):
        if not BAD:
            time.sleep(0.005)
        with lock:
            if BAD:
                time.sleep(0.005)


def write(path):
    database = sqlite3.connect(path, timeout=30, isolation_level=None)
    database.execute("pragma synchronous=off")
    for number in range(10):
        if not BAD:
            time.sleep(0.04)
        database.execute("begin immediate")
        database.execute("insert into t values(?)", (number,))
        if BAD:
            time.sleep(0.04)
        database.execute("commit")


if __name__ == "__main__":
    if NAME == "lock":
        lock = threading.Lock()
        tasks = [threading.Thread(target=use_lock, args=(lock,)) for _ in range(6)]
    else:
        path = sys.argv[3]
        with sqlite3.connect(path) as database:
            database.execute("create table t(a)")
        tasks = [multiprocessing.Process(target=write, args=(path,)) for _ in range(4)]
    for task in tasks:
        task.start()
    for task in tasks:
        task.join()
