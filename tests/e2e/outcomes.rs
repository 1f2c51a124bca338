//! Replays of programs whose calls end as somebody outside, or the state of things inside, makes them.

use crate::host::{can_record, has, run, shared};
use crate::replay::expect_match;
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsRawFd as _;

/// Asks the kernel for its links, waits, and reads; sends datagrams to nobody, connected and with errors queued; connects
/// where nobody answers; does to an epoll instance what it refuses; and executes what it cannot.
const PROGRAM: &str = r"
import errno, os, select, socket, struct, sys, time
silent, closed = int(sys.argv[1]), int(sys.argv[2])
def fails(what, *args):
    try: what(*args); return 0
    except OSError as e: return e.errno or 1
n = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)
n.bind((0, 0))
n.send(struct.pack('=IHHIIBxHiII', 32, 18, 0x301, 1, 0, 0, 0, 0, 0, 0))
p = select.poll(); p.register(n, select.POLLIN)
assert p.poll(1000); assert len(n.recv(65536)) > 100
u = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
u.connect(('127.0.0.1', closed))
assert [fails(u.send, b'a:1|c') for _ in range(10)].count(errno.ECONNREFUSED) == 5
e = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
e.setsockopt(socket.IPPROTO_IP, 11, 1)
for _ in range(3):
    e.sendto(b'hello', ('127.0.0.1', closed))
    assert fails(e.recv, 10) == errno.ECONNREFUSED
    assert e.recvmsg(100, 500, socket.MSG_ERRQUEUE)[0] == b'hello'
for _ in range(3):
    s = socket.socket(); s.settimeout(0.1)
    assert fails(s.connect, ('127.0.0.1', silent)); s.close()
w = select.epoll(); w.register(u, 1)
assert [fails(w.register, u, 1) for _ in range(20)] == [errno.EEXIST] * 20
assert fails(w.modify, e, 1) == errno.ENOENT
f = os.open('/etc/passwd', os.O_RDONLY); assert fails(w.register, f, 1) == errno.EPERM
assert fails(os.execv, '/bin/true', ['x' * 140000]) == errno.E2BIG
assert fails(os.execv, '/etc/passwd', ['x']) == errno.EACCES
";

#[test]
fn what_others_and_the_state_of_things_made_of_calls_is_made_of_them_again() {
    if !can_record() || !has(&["python3"]) {
        return;
    }
    let _host = shared();
    let dir = tempfile::tempdir().unwrap();
    let trace = dir.path().join("x.ctr");
    // Who comes to a queue that is full is not answered.
    let full = TcpListener::bind("127.0.0.1:0").unwrap();
    // SAFETY: makes the queue of a listener shorter.
    assert_eq!(unsafe { libc::listen(full.as_raw_fd(), 0) }, 0);
    let silent = full.local_addr().unwrap();
    let filler = TcpStream::connect(silent).unwrap();
    let closed = std::net::UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (silent, closed) = (silent.port().to_string(), closed.port().to_string());
    run([
        "record",
        "-o",
        trace.to_str().unwrap(),
        "--",
        "python3",
        "-S",
        "-E",
        "-c",
        PROGRAM,
        &silent,
        &closed,
    ])
    .expect(0);
    drop((full, filler));
    let outcome = expect_match("outcomes", &trace);
    let metrics = &outcome["diff"]["metrics"];
    // When they begin is a matter of what else the machine does.
    assert_eq!(metrics["errors"]["pass"], true, "{outcome:#}");
    assert_eq!(outcome["errors"]["emulated"], 0, "{outcome:#}");
}
