"""Hands things from one task to another in every way that an export draws, and fails at some."""

import os
import queue
import signal
import socket
import sys
import threading
import time

os.chdir(sys.argv[1])


def child(work):
    pid = os.fork()
    if pid == 0:
        work()
        os._exit(0)
    return pid


def exactly(stream, count):
    while count:
        count -= len(stream.recv(min(count, 30)))


listener = socket.create_server(("127.0.0.1", 0))
local = socket.socket(socket.AF_UNIX)
local.bind("local")
local.listen(4)


def client():
    stream = socket.create_connection(listener.getsockname())
    for _ in range(10):
        stream.sendall(b"x" * 100)
        exactly(stream, 50)
    stream.close()
    socket.socket(socket.AF_UNIX).connect("local")


pid = child(client)
stream, _ = listener.accept()
for _ in range(10):
    exactly(stream, 100)
    stream.sendall(b"y" * 50)
stream.close()
local.accept()[0].close()
os.waitpid(pid, 0)

reader, writer = os.pipe()
left, right = socket.socketpair()


def feed():
    for _ in range(5):
        os.write(writer, b"z" * 10)
    for _ in range(5):
        right.send(b"z" * 10)


pid = child(feed)
for _ in range(5):
    os.read(reader, 10)
for _ in range(5):
    left.recv(10)
os.waitpid(pid, 0)

got = []
signal.signal(signal.SIGUSR1, lambda *_: got.append(1))
parent = os.getpid()
for _ in range(3):
    os.waitpid(child(lambda: os.kill(parent, signal.SIGUSR1)), 0)

work = queue.Queue()
thread = threading.Thread(target=lambda: [work.get() for _ in range(20)])
thread.start()
for n in range(20):
    work.put(n)
    # The other one has to wait for each.
    time.sleep(0.002)
thread.join()

for n in range(12):
    try:
        open(f"missing-{n}")
    except OSError:
        pass
