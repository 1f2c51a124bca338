"""Incidents of the network, and their healthy twins.

`network.py NAME MODE PORT` is the program that is recorded, `network.py serve NAME MODE` who answers it. MODE is `bad` or
`well`.
"""
import os
import select
import socket
import struct
import sys
import threading
import time

NAME, MODE = (sys.argv[2], sys.argv[3]) if sys.argv[1] == "serve" else (sys.argv[1], sys.argv[2])
BAD = MODE == "bad"
HOST = "127.0.0.1"


def ask(port, timeout=5.0, host=HOST):
    """One request on a connection of its own; whether there was an answer."""
    try:
        with socket.create_connection((host, port), timeout) as peer:
            peer.sendall(b"x" * 100)
            return bool(peer.recv(100))
    except OSError:
        return False


def ask_often(port, times, pause, timeout=5.0, host=HOST):
    for _ in range(times):
        ask(port, timeout, host)
        time.sleep(pause)


def listen(backlog=16):
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((HOST, 0))
    listener.listen(backlog)
    return listener


def answer(number, peer):
    """Answers one request, or does what the incident wants."""
    request = peer.recv(100)
    if not request:
        return
    if NAME == "slow-peer" and BAD and number >= 20:
        time.sleep(0.12)
    if NAME == "some-slow" and BAD and number % 6 == 5:
        time.sleep(0.35)
    if NAME == "no-answer" and BAD and number >= 8:
        time.sleep(1.0)
    if NAME.startswith("silent") and BAD and number >= 8:
        time.sleep(60)
    if NAME == "reset" and BAD and number >= 8:
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        return
    peer.sendall(b"y" * 50)


def serve():
    if NAME.startswith("name"):
        return serve_names()
    full = NAME == "no-accept" and BAD
    listener = listen(0 if full else 16)
    if full:
        # The queue holds one; further ones are not answered.
        kept = [socket.create_connection(listener.getsockname())]
        for _ in range(3):
            more = socket.socket()
            more.setblocking(False)
            more.connect_ex(listener.getsockname())
            kept.append(more)
    print(listener.getsockname()[1], flush=True)
    if full:
        time.sleep(60)
    for number in range(1_000_000):
        if NAME == "refused" and BAD and number == 12:
            return
        peer, _ = listener.accept()

        def one(number=number, peer=peer):
            with peer:
                try:
                    answer(number, peer)
                except OSError:
                    pass

        threading.Thread(target=one, daemon=True).start()


def wait_in(how, port):
    """Requests whose answers are waited for as event loops do."""
    for _ in range(12):
        with socket.create_connection((HOST, port)) as peer:
            peer.sendall(b"x" * 100)
            if how == "poll":
                poll = select.poll()
                poll.register(peer, select.POLLIN)
                poll.poll()
            elif how == "epoll":
                with select.epoll() as epoll:
                    epoll.register(peer, select.EPOLLIN)
                    epoll.poll()
            else:
                select.select([peer], [], [])
            peer.recv(100)
        time.sleep(0.02)


def serve_names():
    """A name server: `ok` has an address, what it does with other names is the incident."""
    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.bind(("127.0.53.1", 53))
    print(53, flush=True)
    while True:
        query, who = server.recvfrom(512)
        end = 12
        while query[end]:
            end += query[end] + 1
        name, question = query[12:end], query[12 : end + 5]
        bad = BAD and b"db" in name
        code = 0
        if bad and NAME == "name-silent":
            continue
        if bad and NAME == "name-slow":
            time.sleep(0.3)
        if bad and NAME == "name-fails":
            code = 2
        if bad and NAME == "name-missing":
            code = 3
        is_a = query[end + 1 : end + 3] == b"\0\1"
        answers = 1 if code == 0 and is_a else 0
        reply = query[:2] + struct.pack(">HHHHH", 0x8180 | code, 1, answers, 0, 0) + question
        if answers:
            reply += b"\xc0\x0c" + struct.pack(">HHIH", 1, 1, 1, 4) + bytes([127, 0, 0, 9])
        server.sendto(reply, who)


def ask_names():
    for number in range(6):
        for name in ["www.test", "db.test"]:
            try:
                socket.gethostbyname(name)
            except OSError:
                pass
        time.sleep(0.02)


def leak_connections(port):
    for _ in range(60):
        peer = socket.create_connection((HOST, port))
        if BAD:
            peer.detach()
        else:
            peer.close()
        time.sleep(0.02)


def use_up_ports():
    listener = listen(64)
    kept = []
    for _ in range(30):
        try:
            peer = socket.create_connection(listener.getsockname())
            if BAD:
                kept.append(peer)
            else:
                # The peer closes first: no port of ours stays in TIME_WAIT.
                other = listener.accept()[0]
                other.close()
                peer.recv(1)
                peer.close()
        except OSError:
            pass
        time.sleep(0.02)


def slow_acceptor():
    """A server whose queue is short; those who connect are not recorded."""
    listener = listen(2 if BAD else 128)
    with open(sys.argv[3], "w") as out:
        out.write(str(listener.getsockname()[1]))
    end = time.monotonic() + 2.5
    listener.settimeout(0.2)
    while time.monotonic() < end:
        try:
            peer, _ = listener.accept()
            peer.close()
        except TimeoutError:
            pass
        if BAD:
            time.sleep(0.1)


def unix_queue():
    path = sys.argv[3]
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen(1 if BAD else 64)
    kept = []
    for _ in range(20):
        peer = socket.socket(socket.AF_UNIX)
        peer.setblocking(False)
        try:
            peer.connect(path)
            kept.append(peer)
        except OSError:
            peer.close()
        time.sleep(0.01)


def main():
    port = int(sys.argv[3]) if len(sys.argv) > 3 and sys.argv[3].isdigit() else 0
    if NAME in ("refused", "slow-peer", "some-slow", "reset"):
        ask_often(port, 40, 0.02)
    elif NAME == "no-answer":
        ask_often(port, 12, 0.01, 0.3)
    elif NAME == "no-accept":
        ask_often(port, 4, 0.01, 0.3)
    elif NAME == "storm":
        if BAD:
            ask_often(port, 300, 0)
        else:
            ask_often(port, 20, 0.01)
    elif NAME == "unreachable":
        own = listen()
        threading.Thread(target=lambda: [own.accept()[0].sendall(b"y") for _ in range(8)], daemon=True).start()
        ask_often(own.getsockname()[1], 8, 0.02, 1.0, "10.9.9.9" if BAD else HOST)
    elif NAME.startswith("silent"):
        wait_in(NAME.removeprefix("silent-"), port)
    elif NAME.startswith("name"):
        ask_names()
    elif NAME == "leak":
        leak_connections(port)
    elif NAME == "ports":
        use_up_ports()
    elif NAME == "backlog":
        slow_acceptor()
    elif NAME == "unix-queue":
        unix_queue()
    else:
        sys.exit(f"no such incident: {NAME}")


if sys.argv[1] == "serve":
    serve()
else:
    main()
