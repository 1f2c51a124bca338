//! What goes with messages, recorded and replayed: descriptors, addresses that the kernel chose, several at a time.

use crate::host::{can_record, has, run, shared};
use crate::replay::expect_match;

/// Python's socket functions, and what they lack.
const PRELUDE: &str = "
import ctypes, os, socket, threading
class Iov(ctypes.Structure): _fields_ = [('base', ctypes.c_void_p), ('len', ctypes.c_size_t)]
class Msg(ctypes.Structure): _fields_ = [('name', ctypes.c_void_p), ('namelen', ctypes.c_uint32), ('iov', ctypes.c_void_p),
    ('iovlen', ctypes.c_size_t), ('control', ctypes.c_void_p), ('controllen', ctypes.c_size_t), ('flags', ctypes.c_int),
    ('pad', ctypes.c_uint32), ('len', ctypes.c_uint32)]
libc = ctypes.CDLL(None)
def many(call, sock, sizes, flags=0):
    buffer = ctypes.create_string_buffer(2000)
    iov = (Iov * len(sizes))(*[Iov(ctypes.addressof(buffer), n) for n in sizes])
    msgs = (Msg * len(sizes))(*[Msg(0, 0, ctypes.addressof(iov) + 16 * i, 1) for i in range(len(sizes))])
    args = [sock.fileno(), ctypes.byref(msgs), len(sizes), flags] + ([None] if call == 'recvmmsg' else [])
    n = getattr(libc, call)(*args)
    return [msgs[i].len for i in range(n)]
def child(do):
    if os.fork() == 0:
        do(); os._exit(0)
";

/// Records a program and replays it twice: each matches, and no call has another result.
fn replays(programs: &[(&str, &str)]) {
    if !can_record() || !has(&["/usr/bin/python3"]) {
        return;
    }
    let _host = shared();
    let dir = tempfile::tempdir().unwrap();
    for (name, program) in programs {
        let trace = dir.path().join(name.replace(' ', "-")).with_extension("ctr");
        let program = [PRELUDE, program].concat();
        let command =
            ["record", "-o", trace.to_str().unwrap(), "--", "/usr/bin/python3", "-I", "-c", &program];
        run(command).expect(0);
        for _ in 0..2 {
            let outcome = expect_match(name, &trace);
            let metrics = &outcome["diff"]["metrics"];
            assert_eq!(metrics["semantic"]["value"], 1.0, "{name}: {outcome:#}");
        }
    }
}

#[test]
fn descriptors_that_are_passed_replay() {
    replays(&[
        ("to a child, several, in another order", "
a, b = socket.socketpair()
def do():
    os.close(0)
    for n in (5, 1, 20):
        fds = socket.recv_fds(b, 9, 30)[1]
        for fd in fds[::2]: os.read(fd, 3)
        for fd in fds[1::2]: os.close(fd)
child(do)
fds = [os.open('/etc/passwd', 0) for i in range(20)]
for some in (fds[:5][::-1], [fds[7]], fds[::-1]): socket.send_fds(a, [b'm'], some)
os.wait()
"),
        ("to a parent, which shares the offset", "
a, b = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
def do():
    fd = os.open('/etc/passwd', 0); os.read(fd, 10); socket.send_fds(b, [b'm'], [fd])
child(do)
fd = socket.recv_fds(a, 9, 1)[1][0]
os.wait(); os.read(fd, 10); assert os.lseek(fd, 0, 1) == 20
"),
        ("pipes and a memfd, by datagrams", "
a, b = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
def do():
    for i in range(3):
        r, w, m = socket.recv_fds(b, 9, 3)[1]
        os.read(r, 3); os.pread(m, 5, 0); os.write(w, b'back'); os.close(r); os.close(w); os.close(m)
child(do)
for i in range(3):
    r, w = os.pipe(); r2, w2 = os.pipe(); m = os.memfd_create('x'); os.write(m, b'hello')
    os.write(w, b'abc'); socket.send_fds(a, [b'x' * (i + 1)], [r, w2, m]); os.close(r); os.close(w2); os.close(m)
    os.read(r2, 9); os.close(w); os.close(r2)
os.wait()
"),
        ("a listener, and pipes to strangers", "
l = socket.socket(); l.bind(('127.0.0.1', 0)); l.listen(5); at = l.getsockname()
u = socket.socket(socket.AF_UNIX); u.bind('\\0ctrace-e2e-passing'); u.listen(5)
def serve():
    c = socket.socket(socket.AF_UNIX); c.connect('\\0ctrace-e2e-passing')
    s = socket.socket(fileno=socket.recv_fds(c, 9, 1)[1][0])
    for i in range(3): x, _ = s.accept(); x.recv(9); x.sendall(b'ok'); x.close()
child(serve)
c, _ = u.accept(); socket.send_fds(c, [b'm'], [l.fileno()]); l.close()
for i in range(3): x = socket.create_connection(at); x.sendall(b'hi'); x.recv(9); x.close()
def take():
    c = socket.socket(socket.AF_UNIX); c.connect('\\0ctrace-e2e-passing')
    os.write(socket.recv_fds(c, 9, 1)[1][0], b'hey')
for i in range(3): child(take)
for i in range(3):
    c, _ = u.accept(); r, w = os.pipe(); socket.send_fds(c, [b'm'], [w]); os.close(w); os.read(r, 9); os.close(r); c.close()
for i in range(4): os.wait()
"),
    ]);
}

#[test]
fn datagrams_between_addresses_that_the_kernel_chose_replay() {
    replays(&[
        ("sockets of one process to one server, mapped addresses too", "
d = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM); d.bind(('::', 0)); port = d.getsockname()[1]
def do():
    for r in range(3):
        for q, a in reversed([d.recvfrom(512) for i in range(7)]): d.sendto(q + b'!', a)
child(do)
cs = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for i in range(6)] + [socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)]
for r in range(3):
    for i, c in enumerate(cs):
        to = ('::ffff:127.0.0.1' if i == 6 else '127.0.0.1', port)
        if i % 2: c.sendto(b'z' * (i + 1 + r), to)
        else:
            if r == 0: c.connect(to)
            c.send(b'z' * (i + 1 + r))
    for c in cs: c.recv(99)
os.wait()
"),
        ("to itself", "
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind(('127.0.0.1', 0))
for i in range(5): s.sendto(b'x' * (i + 1), s.getsockname()); s.recvfrom(100)
"),
        ("unix, by automatic names and without any", "
u = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM); u.bind('\\0ctrace-e2e-datagrams')
def do():
    for i in range(3):
        q, a = u.recvfrom(512); u.sendto(q * 2, a)
    for i in range(3): u.recv(512)
child(do)
c = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM); c.bind('')
for i in range(3): c.sendto(b'x' * (10 + i), '\\0ctrace-e2e-datagrams'); c.recv(99)
n = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM); n.connect('\\0ctrace-e2e-datagrams')
for i in range(3): n.send(b'y' * (i + 1))
os.wait()
"),
        ("several at a time", "
d = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); d.bind(('127.0.0.1', 0)); at = d.getsockname()
c = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); c.connect(at)
def do():
    got = []
    while len(got) < 40: got += many('recvmmsg', d, [2000] * 16, 0x10000)
child(do)
for i in range(5): assert many('sendmmsg', c, [50 + i, 20, 7, 300, 1, 2, 3, 4]) == [50 + i, 20, 7, 300, 1, 2, 3, 4]
os.wait()
"),
    ]);
}
