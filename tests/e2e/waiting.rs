//! Programs whose tasks wait for each other, are stopped, are interrupted or die of a fault: a replay waits for causes, and
//! nothing in it is given up.

use crate::host::{can_record, has, run, shared};
use crate::replay::expect_match;

/// Records a Python program and replays it: everything as recorded, and nothing of it by giving up.
#[track_caller]
fn replays(what: &str, program: &str) {
    if !can_record() || !has(&["python3"]) {
        return;
    }
    let _host = shared();
    let dir = tempfile::tempdir().unwrap();
    let trace = dir.path().join("x.ctr");
    run(["record", "-o", trace.to_str().unwrap(), "--", "python3", "-S", "-E", "-c", program]).expect(0);
    let outcome = expect_match(what, &trace);
    assert_eq!(
        outcome["divergences"].as_array().map(Vec::len),
        Some(0),
        "{what}: {}",
        outcome["divergences"]
    );
    let alignment = &outcome["diff"]["metrics"]["alignment"];
    assert_ne!(alignment["pass"], false, "{what}: {alignment}");
}

/// Raw futex calls of threads of one process.
const FUTEXES: &str = "
import ctypes, os, signal, threading, time
libc = ctypes.CDLL(None, use_errno=True)
words = (ctypes.c_uint32 * 8)()
at = lambda i: ctypes.byref(words, 4 * i)
def futex(i, op, value, other=None, j=0, mask=0):
    return libc.syscall(ctypes.c_long(202 if os.uname().machine == 'x86_64' else 98), at(i), op | 128, value, other, at(j), mask)
WAIT, WAKE, CMP_REQUEUE, WAKE_OP, WAIT_BITSET, WAKE_BITSET = 0, 1, 4, 5, 9, 10
def started(*functions):
    threads = [threading.Thread(target=f) for f in functions]
    [t.start() for t in threads]
    time.sleep(0.02)
    return threads
def ended(threads):
    [t.join() for t in threads]
";

#[test]
fn wakes_of_several_and_requeues_replay() {
    replays(
        "wakes and requeues",
        &format!(
            "{FUTEXES}
for turn in range(3):
    t = started(*[lambda: futex(0, WAIT, 0)] * 4)
    futex(0, CMP_REQUEUE, 1, ctypes.c_long(9), 1)
    time.sleep(0.002)
    futex(1, WAKE, 1)
    time.sleep(0.002)
    futex(2, WAKE_OP, 1, ctypes.c_long(9), 1, 1 << 28)
    ended(t)
    t = started(lambda: futex(3, WAIT_BITSET, 0, mask=1), lambda: futex(3, WAIT_BITSET, 0, mask=2))
    futex(3, WAKE_BITSET, 1, mask=2)
    time.sleep(0.002)
    futex(3, WAKE_BITSET, 1, mask=1)
    ended(t)
    t = started(*[lambda: futex(4, WAIT, 0)] * 3)
    futex(4, WAKE, 99)
    ended(t)
"
        ),
    );
}

#[test]
fn a_wait_that_a_handler_interrupts_replays() {
    replays(
        "an interrupted wait",
        &format!(
            "{FUTEXES}
signal.signal(signal.SIGUSR1, lambda *_: None)
signal.siginterrupt(signal.SIGUSR1, False)
for turn in range(4):
    t = started(lambda: futex(0, WAIT, 0))
    signal.pthread_kill(t[0].ident, signal.SIGUSR1)
    time.sleep(0.005)
    futex(0, WAKE, 1)
    ended(t)
"
        ),
    );
}

#[test]
fn additions_to_an_eventfd_between_its_reads_replay() {
    replays(
        "an eventfd",
        "
import os, select, threading, time
if hasattr(os, 'eventfd'):
    e, n = os.eventfd(0, os.EFD_NONBLOCK), 0
    def adds():
        for _ in range(30):
            os.eventfd_write(e, 1)
            time.sleep(0.0003)
    threads = [threading.Thread(target=adds) for _ in range(3)]
    [t.start() for t in threads]
    p = select.epoll()
    p.register(e, 1)
    while n < 90:
        p.poll()
        n += os.eventfd_read(e)
    [t.join() for t in threads]
",
    );
}

#[test]
fn who_is_stopped_and_continued_replays() {
    replays(
        "stops",
        "
import os, signal, socket, time
def stop(how, child, target=lambda c: c, turns=1):
    r, w = os.pipe()
    c = os.fork()
    if c == 0:
        child(r)
        os._exit(0)
    for _ in range(turns):
        time.sleep(0.03)
        os.kill(target(c), how)
        os.waitpid(c, os.WUNTRACED)
        time.sleep(0.03)
        os.kill(target(c), signal.SIGCONT)
        os.waitpid(c, os.WCONTINUED)
    time.sleep(0.03)
    os.write(w, b'x')
    os.waitpid(c, 0)
stop(signal.SIGSTOP, lambda r: time.sleep(0.15), turns=2)
stop(signal.SIGSTOP, lambda r: os.read(r, 1))
def alone(r):
    # A signal of a terminal stops nobody whose whole group is orphaned, as that of a service may be.
    os.setpgid(0, 0)
    os.read(r, 1)
stop(signal.SIGTSTP, alone)
def group(r):
    os.setpgid(0, 0)
    if os.fork() == 0:
        os.read(r, 1)
        os._exit(0)
    os.wait()
stop(signal.SIGSTOP, group, lambda c: -c)
s = socket.socket()
s.bind(('127.0.0.1', 0))
s.listen()
def accepts(r):
    c, _ = s.accept()
    c.recv(10)
c = os.fork()
if c == 0:
    accepts(None)
    os._exit(0)
time.sleep(0.03)
os.kill(c, signal.SIGSTOP)
os.waitpid(c, os.WUNTRACED)
time.sleep(0.03)
os.kill(c, signal.SIGCONT)
time.sleep(0.03)
k = socket.create_connection(s.getsockname())
k.send(b'hello')
os.waitpid(c, 0)
",
    );
}

#[test]
fn faults_replay() {
    replays(
        "faults",
        "
import ctypes, mmap, os, resource, signal, tempfile
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
libc = ctypes.CDLL(None)
f = tempfile.TemporaryFile()
f.truncate(4096)
m = mmap.mmap(f.fileno(), 4096)
def cut():
    f.truncate(0)
    m[0]
leaves = ctypes.CFUNCTYPE(None, ctypes.c_int)(lambda n: os._exit(9))
for fault, signo in [(lambda: ctypes.string_at(8), signal.SIGSEGV), (os.abort, signal.SIGABRT), (cut, signal.SIGBUS)]:
    for handled in [False, True]:
        if os.fork() == 0:
            if handled:
                libc.signal(ctypes.c_int(signo), leaves)
            fault()
            os._exit(0)
        os.wait()
",
    );
}

#[test]
fn who_is_left_behind_goes_on_to_the_end() {
    replays(
        "a daemon",
        "
import os, time
r, w = os.pipe()
if os.fork() == 0:
    os.setsid()
    if os.fork():
        os._exit(0)
    os.write(w, b'r')
    for _ in range(20):
        time.sleep(0.03)
    os._exit(0)
os.read(r, 1)
os.wait()
time.sleep(0.02)
",
    );
}

#[test]
fn threads_that_take_turns_to_watch_a_descriptor_replay() {
    replays(
        "watches of several threads",
        "
import queue, select, socket, threading, time
watch, jobs, rounds = select.epoll(), queue.Queue(), 60
pairs = [socket.socketpair() for _ in range(4)]
near = {a.fileno(): a for a, _ in pairs}
def worker():
    while (fd := jobs.get()) is not None:
        near[fd].recv(1)
        watch.register(fd, select.EPOLLIN)
def feed():
    for _ in range(rounds):
        for _, b in pairs: b.send(b'x')
        time.sleep(0.001)
for fd in near: watch.register(fd, select.EPOLLIN)
threads = [threading.Thread(target=f) for f in (worker, worker, feed)]
for t in threads: t.start()
seen = 0
while seen < 4 * rounds:
    for fd, _ in watch.poll():
        watch.unregister(fd); jobs.put(fd); seen += 1
for _ in threads: jobs.put(None)
for t in threads: t.join()
",
    );
}

#[test]
fn a_table_of_descriptors_has_room_for_the_engine_before_threads_share_it() {
    if !can_record() || !has(&["python3"]) {
        return;
    }
    let _host = shared();
    let dir = tempfile::tempdir().unwrap();
    let (trace, again) = (dir.path().join("x.ctr"), dir.path().join("y.ctr"));
    let (trace, again) = (trace.to_str().unwrap(), again.to_str().unwrap());
    let program = "
import os, threading
def use():
    for _ in range(20): os.close(os.open('/dev/null', 0))
t = [threading.Thread(target=use) for _ in range(3)]
[x.start() for x in t]; [x.join() for x in t]
";
    run(["record", "-o", trace, "--", "python3", "-S", "-E", "-c", program]).expect(0);
    run(["replay", trace, "-o", again]);
    let events = run(["events", "--engine", again]).stdout;
    let at = |what: &[&str]| events.lines().position(|line| what.iter().all(|word| line.contains(word)));
    let (room, thread) = (at(&["F_DUPFD_CLOEXEC, 700", "replay engine"]), at(&["--- new thread "]));
    assert!(room.is_some() && thread.is_some(), "{room:?} {thread:?}");
    assert!(room < thread, "line {room:?} is the room, line {thread:?} the first thread");
}
