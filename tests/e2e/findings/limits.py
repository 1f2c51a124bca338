"""Incidents of limits and of waiting, and their healthy twins: `limits.py NAME MODE [ARG]`; MODE is `bad` or `well`."""
import fcntl
import mmap
import os
import signal
import subprocess
import sys
import threading
import time

NAME, MODE = sys.argv[1], sys.argv[2]
ARG = sys.argv[3] if len(sys.argv) > 3 else ""
BAD = MODE == "bad"


def fd_limit():
    """Keeps many files open, all at once; the caller sets the limit."""
    kept = []
    for number in range(60):
        path = os.path.join(ARG, f"table-{number}")
        for _ in range(3):
            try:
                kept.append(open(path, "w"))
                break
            except OSError:
                time.sleep(0.01)


def fd_leak():
    for _ in range(70):
        fd = os.open("/etc/hostname", os.O_RDONLY)
        os.read(fd, 100)
        if not BAD:
            os.close(fd)
        time.sleep(0.015)


def tasks():
    """Starts a few processes; the caller sets the limit."""
    for _ in range(8):
        try:
            pid = os.fork()
        except OSError:
            time.sleep(0.02)
            continue
        if pid == 0:
            time.sleep(0.3)
            os._exit(0)
    try:
        while True:
            os.wait()
    except OSError:
        pass


def disk_full():
    """Appends to a log; the caller makes the file system small."""
    with open(os.path.join(ARG, "orders.log"), "wb", buffering=0) as log:
        for _ in range(40):
            try:
                log.write(b"o" * 4096)
            except OSError:
                pass
            time.sleep(0.005)


def slow_disk():
    """Writes around the page cache; the caller throttles the device."""
    page = mmap.mmap(-1, 4096)
    fd = os.open(os.path.join(ARG, "wal"), os.O_WRONLY | os.O_CREAT | os.O_DIRECT | os.O_DSYNC, 0o600)
    end = time.monotonic() + 2.5
    for _ in range(30):
        os.write(fd, page)
        if time.monotonic() > end:
            break


def flock_convoy():
    """Four processes that keep a file locked while they work, or only for a moment."""
    path = os.path.join(ARG, "lock")
    for _ in range(4):
        if os.fork() == 0:
            with open(path, "w") as lock:
                for _ in range(25):
                    fcntl.flock(lock, fcntl.LOCK_EX)
                    if BAD:
                        time.sleep(0.02)
                    fcntl.flock(lock, fcntl.LOCK_UN)
                    if not BAD:
                        time.sleep(0.02)
            os._exit(0)
    for _ in range(4):
        os.wait()


def burn():
    """Works for a while; the caller takes the CPUs away."""
    end = time.monotonic() + 2.5
    done = 0
    while time.monotonic() < end and (BAD or done < 300_000):
        done += 1


def memory():
    """Takes memory, and reads files through what is left; the caller sets the limit."""
    kept = []
    with open(os.path.join(ARG, "big"), "wb+") as big:
        big.write(b"b" * (24 << 20))
        for _ in range(28):
            if len(kept) < (26 if BAD else 4):
                kept.append(b"m" * (2 << 20))
            big.seek(0)
            while big.read(1 << 20):
                pass
            time.sleep(0.03)


def out_of_memory():
    kept = []
    for _ in range(40 if BAD else 4):
        kept.append(b"m" * (2 << 20))
        time.sleep(0.02)


def address_space():
    """Maps memory; the caller limits the address space."""
    kept = []
    for _ in range(10):
        try:
            kept.append(mmap.mmap(-1, 40 << 20))
        except OSError:
            pass
        time.sleep(0.01)


def config():
    """Wants its configuration."""
    path = os.path.join(ARG, "app.conf")
    if not BAD:
        with open(path, "w") as conf:
            conf.write("[app]\n")
    with open(path) as conf:
        conf.read()


def data():
    """Stores something in its data directory; the caller owns that, or not."""
    with open(os.path.join(ARG, "state"), "w") as state:
        state.write("on")


def poll_data():
    """Goes on although it may not."""
    for _ in range(10):
        try:
            os.mkdir(os.path.join(ARG, "spool"))
            os.rmdir(os.path.join(ARG, "spool"))
        except OSError:
            pass
        time.sleep(0.01)


def supervise():
    """Starts a worker again and again."""
    for _ in range(6):
        subprocess.run([sys.executable, __file__, "config", MODE, ARG], stderr=subprocess.DEVNULL)
        time.sleep(0.02)


def wait_for_signal():
    """Says which process it is, and waits; somebody else ends it, or not."""
    with open(os.path.join(ARG, "pid"), "w") as pid:
        pid.write(str(os.getpid()))
    time.sleep(60 if BAD else 0.5)


def segv():
    if BAD:
        import ctypes

        ctypes.string_at(0)


def abort():
    if BAD:
        os.abort()


def status():
    sys.exit(3 if BAD else 0)


PROGRAMS = {
    "fd-limit": fd_limit,
    "fd-leak": fd_leak,
    "tasks": tasks,
    "disk-full": disk_full,
    "slow-disk": slow_disk,
    "flock": flock_convoy,
    "burn": burn,
    "memory": memory,
    "oom": out_of_memory,
    "address-space": address_space,
    "config": config,
    "data": data,
    "poll-data": poll_data,
    "supervise": supervise,
    "signal": wait_for_signal,
    "segv": segv,
    "abort": abort,
    "status": status,
}

signal.signal(signal.SIGINT, signal.SIG_DFL)
PROGRAMS[NAME]()
