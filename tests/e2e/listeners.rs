//! Servers whose workers share a listening socket, or an address: each takes in the replay what it took in the recording.

use crate::host::{Guarded, Recording, can_record, free_port, has, run, shared, wait_for};
use crate::replay::expect_match;
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Stdio};

/// Workers that are told together of every connection: each with a `poll` of its own, of one socket or of one each.
const WORKERS: &str = r"
import ctypes, os, select, socket, sys
how, port = sys.argv[1], int(sys.argv[2])
def listener():
    s = socket.socket()
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if how == 'address': s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    s.bind(('127.0.0.1', port)); s.listen(64); s.setblocking(False)
    return s
one = listener() if how != 'address' else None
for _ in range(2):
    if not os.fork():
        ctypes.CDLL(None).prctl(1, 9)  # ends with the first one
        break
s = one or listener()
watch = select.epoll() if how == 'epoll' else select.poll()
watch.register(s, select.EPOLLIN)
while True:
    watch.poll()
    try: c, _ = s.accept()
    except BlockingIOError: continue
    c.setblocking(True)
    asked = c.recv(100)
    if asked: c.sendall(asked * 3)
    c.close()
";

/// Three clients at a time.
const CLIENTS: &str = r"
import socket, sys, threading
def client(k):
    for i in range(30):
        c = socket.create_connection(('127.0.0.1', int(sys.argv[1])))
        c.sendall(b'x' * (1 + i % 7 + k))
        while c.recv(1000): pass
        c.close()
all = [threading.Thread(target=client, args=(k,)) for k in range(3)]
for t in all: t.start()
for t in all: t.join()
";

fn clients(port: &str) {
    assert!(Command::new("python3").args(["-c", CLIENTS, port]).status().unwrap().success());
}

#[track_caller]
fn every_connection(what: &str, trace: &Path) {
    let outcome = expect_match(what, trace);
    let network = &outcome["diff"]["metrics"]["network"];
    assert_eq!(network["value"], 1.0, "{what}: {network}");
    assert!(network["n"].as_u64().unwrap() >= 90, "{what}: {network}");
}

#[test]
fn workers_that_share_a_listener_or_an_address_replay() {
    if !can_record() || !has(&["python3"]) {
        return;
    }
    let _host = shared();
    let dir = tempfile::tempdir().unwrap();
    for how in ["poll", "epoll", "address"] {
        let port = free_port().to_string();
        let mut server = Command::new("python3");
        server.args(["-c", WORKERS, how, &port]).stdout(Stdio::null()).stderr(Stdio::null());
        let server = Guarded::spawn(&mut server);
        wait_for("the workers answer", || TcpStream::connect(format!("127.0.0.1:{port}")).is_ok());
        let trace = dir.path().join(format!("{how}.ctr"));
        let recording = Recording::start(&["-p", &server.0.id().to_string()], &trace);
        clients(&port);
        recording.end();
        drop(server);
        every_connection(how, &trace);
    }
}

#[test]
fn clients_of_the_same_recording_reach_the_listener_that_had_them() {
    if !can_record() || !has(&["python3"]) {
        return;
    }
    let _host = shared();
    let dir = tempfile::tempdir().unwrap();
    let trace = dir.path().join("x.ctr");
    let program = r"
import os, select, socket
def listener(port=0):
    s = socket.socket(); s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    s.bind(('127.0.0.1', port)); s.listen(64)
    return s
first = listener(); at = first.getsockname(); all = [first, listener(at[1])]
if not os.fork():
    for i in range(45):
        c = socket.create_connection(at); c.send(b'hi'); c.recv(2); c.close()
    os._exit(0)
for _ in range(45):
    s = select.select(all, [], [])[0][0]
    c, _ = s.accept(); c.send(c.recv(2)); c.close()
os.wait()
";
    run(["record", "-o", trace.to_str().unwrap(), "--", "python3", "-c", program]).expect(0);
    every_connection("two listeners at one address", &trace);
}

/// Threads accept, and threads of the same process connect: who gets which number is all that orders many of their calls.
const BOTH: &str = r"
import os, socket, sys, tempfile, threading
how, acceptors, clients, each = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), 10
family = {'6': socket.AF_INET6, '4': socket.AF_INET, 'unix': socket.AF_UNIX}[how]
s = socket.socket(family)
s.bind({'6': ('::1', 0), '4': ('127.0.0.1', 0), 'unix': os.path.join(tempfile.mkdtemp(), 's')}[how]); s.listen(32)
def handle(c):
    again = os.dup(c.fileno()); asked = c.recv(100); c.close(); os.write(again, asked * 2); os.close(again)
def serve(n):
    handlers = []
    for _ in range(n):
        c, _ = s.accept()
        if acceptors == 1: handle(c); continue
        handlers.append(threading.Thread(target=handle, args=(c,))); handlers[-1].start()
    for t in handlers: t.join()
def forever():
    while True: s.accept()[0].close()
def client():
    for i in range(each):
        c = socket.socket(family); c.connect(s.getsockname()); r, w = os.pipe()
        c.send(b'hello'); c.recv(100); os.close(r); c.close(); os.close(w)
all = [threading.Thread(target=serve, args=(clients * each // acceptors,)) for _ in range(acceptors)]
all += [threading.Thread(target=client) for _ in range(clients)]
for t in all: t.start()
for t in all: t.join()
# The program ends while this one waits.
threading.Thread(target=forever, daemon=True).start()
socket.create_connection(s.getsockname()[:2]).recv(1) if how != 'unix' else None
";

#[test]
fn threads_that_accept_and_threads_that_connect_replay_in_one_process() {
    if !can_record() || !has(&["python3"]) {
        return;
    }
    let _host = shared();
    let dir = tempfile::tempdir().unwrap();
    for (how, acceptors, clients) in [("6", "1", "2"), ("4", "2", "4"), ("unix", "3", "3")] {
        let trace = dir.path().join(how).with_extension("ctr");
        let program = ["python3", "-S", "-E", "-c", BOTH, how, acceptors, clients];
        run(["record", "-o", trace.to_str().unwrap(), "--"].into_iter().chain(program)).expect(0);
        for _ in 0..3 {
            let outcome = expect_match(how, &trace);
            assert_eq!(outcome["forced"]["total"], 0, "{how}: {outcome:#}");
        }
    }
}
