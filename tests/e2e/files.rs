//! Replays of programs whose outcome hangs on descriptors and files: numbers, limits, full disks, what is polled and executed.

use crate::host::{can_record, has, run, shared};
use std::path::Path;

/// Records a program, replays it, and demands the recorded outcomes. Returns what the replay said.
#[track_caller]
fn replays(what: &str, dir: &Path, command: &[&str]) -> serde_json::Value {
    let (trace, replayed) = (dir.join("x.ctr"), dir.join("x.replay.ctr"));
    run(["record", "-o", trace.to_str().unwrap(), "--"].into_iter().chain(command.iter().copied())).expect(0);
    let words = ["replay", "--json", "-o", replayed.to_str().unwrap(), trace.to_str().unwrap()];
    let ran = run(words);
    assert!(matches!(ran.code, Some(0 | 1)), "{what}: {:?} {}", ran.code, ran.stderr);
    let outcome = ran.json();
    let metrics = &outcome["diff"]["metrics"];
    for metric in ["coverage", "semantic", "alignment", "errors", "incident_recall"] {
        assert_ne!(metrics[metric]["pass"], false, "{what}: {metric} {}\n{outcome:#}", metrics[metric]);
    }
    assert!(metrics["semantic"]["n"].as_u64().unwrap() > 0, "{what} compared nothing");
    outcome
}

/// A Python program, whose paths begin with `DIR` where they are the test's own.
#[track_caller]
fn python(what: &str, program: &str) -> Option<serde_json::Value> {
    if !can_record() {
        return None;
    }
    if !has(&["python3"]) {
        println!("skipped: no python3");
        return None;
    }
    let _host = shared();
    let dir = tempfile::tempdir().unwrap();
    let program = program.replace("DIR", dir.path().to_str().unwrap());
    Some(replays(what, dir.path(), &["python3", "-S", "-E", "-c", &program]))
}

#[test]
fn a_descriptor_that_another_thread_closed_is_closed_in_every_replay() {
    python(
        "late closes",
        r#"
import os, threading, errno
for i in range(20):
    fd = os.open("/etc/hostname", os.O_RDONLY)
    t = threading.Thread(target=os.close, args=(fd,)); t.start(); t.join()
    try: os.close(fd)
    except OSError as e: assert e.errno == errno.EBADF
"#,
    );
}

#[test]
fn programs_are_executed_by_descriptor() {
    python(
        "exec by descriptor",
        r#"
import os
def child(f, *words):
    if os.fork() == 0: os.execve(f, words, {})
    assert os.wait()[1] == 0
f = os.open("/bin/echo", os.O_RDONLY)
child(f, "echo", "a file")
child("/proc/self/fd/%d" % os.open("/bin/echo", os.O_PATH), "echo", "a path")
code = open("/bin/echo", "rb").read()
m = os.memfd_create("prog", 0); os.write(m, code)
child(m, "echo", "a memfd")
open("DIR/gone", "wb").write(code); os.chmod("DIR/gone", 0o755)
g = os.open("DIR/gone", os.O_RDONLY); os.unlink("DIR/gone")
child(g, "echo", "a file without a name")
open("DIR/script", "w").write(chr(35) + "!/bin/sh\nexit 0\n"); os.chmod("DIR/script", 0o755)
s = os.open("DIR/script", os.O_RDONLY); os.set_inheritable(s, True)
child(s, "script")
# What was executed is as long as it was.
r, w = os.pipe()
assert os.sendfile(w, f, 0, 8192) == 8192
assert os.lseek(f, 0, 2) == len(code)
"#,
    );
}

#[test]
fn a_limit_of_descriptors_refuses_them_by_itself() {
    let outcome = python(
        "EMFILE",
        r#"
import os, resource, socket
resource.setrlimit(resource.RLIMIT_NOFILE, (20, 64))
def refused(f, *args):
    try: f(*args)
    except OSError: return 1
    return 0
keep = []; bad = 0
for i in range(40):
    try: keep.append(os.open("/etc/hostname", os.O_RDONLY))
    except OSError: bad += 1
assert bad > 20
assert refused(os.pipe) and refused(os.dup, 0) and refused(os.dup2, 0, 30) and refused(socket.socket)
os.close(keep.pop())
assert refused(os.pipe)
if os.fork() == 0: os._exit(refused(os.pipe))
os.wait()
resource.setrlimit(resource.RLIMIT_NOFILE, (40, 64))
os.pipe()
"#,
    );
    if let Some(outcome) = outcome {
        assert_eq!(outcome["errors"]["emulated"], 0, "{outcome:#}");
    }
}

#[test]
fn more_descriptors_than_usual_keep_their_numbers() {
    python(
        "3000 descriptors",
        r#"
import os, resource
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (4000, hard))
keep = [os.open("/etc/hostname", os.O_RDONLY) for _ in range(3000)]
r, w = os.pipe(); os.write(w, b"x"); os.read(r, 1)
os.dup2(r, 3900)
os.closerange(3, 4000)
"#,
    );
}

#[test]
fn a_full_file_system_is_full_in_the_replay() {
    if !can_record() {
        return;
    }
    if !has(&["python3", "unshare"]) {
        println!("skipped: no python3, or no unshare");
        return;
    }
    let _host = shared();
    let dir = tempfile::tempdir().unwrap();
    let small = dir.path().join("small");
    std::fs::create_dir(&small).unwrap();
    let program = r#"
import os
f = os.open("app.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
def fill():
    bad = 0
    for i in range(30):
        try: os.write(f, b"x" * 10000)
        except OSError: bad += 1
    return bad
assert fill() > 10
os.ftruncate(f, 100000)
assert fill() > 10
"#;
    let mount = format!(
        "mount -t tmpfs -o size=160k none {0} && cd {0} && exec python3 -S -E -c \"$0\"",
        small.display()
    );
    let outcome = replays("ENOSPC", dir.path(), &["unshare", "-m", "sh", "-c", &mount, program]);
    // The namespace and the mount.
    assert!(outcome["errors"]["emulated"].as_u64().unwrap() < 10, "{outcome:#}");
    assert!(outcome["errors"]["real"].as_u64().unwrap() > 20, "{outcome:#}");
}

#[test]
fn files_are_polled_as_they_were() {
    python(
        "poll of files",
        r#"
import os, select
for path in "/proc/self/mounts", "/proc/self/status", "/etc/hostname":
    f = os.open(path, os.O_RDONLY)
    for events in select.POLLPRI | select.POLLERR, select.POLLIN:
        p = select.poll(); p.register(f, events); p.poll(20)
    select.select([f], [], [f], 0.02)
    e = select.epoll()
    try:
        e.register(f, select.EPOLLPRI); e.poll(0.02); e.modify(f, select.EPOLLIN); e.poll(0.02)
    except PermissionError: pass
    e.close(); os.read(f, 100); os.close(f)
"#,
    );
}

#[test]
fn paths_as_long_as_they_can_be_are_the_same_paths() {
    python(
        "long paths",
        r#"
import os, errno
name = "d" * 199; path = "DIR"
for i in range(18):
    path += "/" + chr(97 + i) + name; os.mkdir(path)
open(path + "/end", "w").write("x"); os.stat(path + "/end"); os.unlink(path + "/end")
at = os.open(path, os.O_RDONLY)
for i in range(10):
    os.mkdir(name, dir_fd=at); at = os.open(name, os.O_RDONLY, dir_fd=at)
f = os.open("end", os.O_WRONLY | os.O_CREAT, dir_fd=at); os.write(f, b"x"); os.close(f)
for long in "y" * 256, "/".join([name] * 30):
    try: os.stat(long)
    except OSError as e: assert e.errno == errno.ENAMETOOLONG
"#,
    );
}

#[test]
fn what_an_eventfd_was_given_is_there_to_be_taken() {
    let outcome = python(
        "eventfd",
        r#"
import os, threading, time
if not hasattr(os, "eventfd"): raise SystemExit
e = os.eventfd(2, os.EFD_SEMAPHORE)
def post():
    time.sleep(0.02); os.eventfd_write(e, 3); os.eventfd_write(e, 1); os.eventfd_write(e, 2)
t = threading.Thread(target=post); t.start()
for i in range(8): os.eventfd_read(e)
t.join()
"#,
    );
    if let Some(outcome) = outcome {
        assert_eq!(outcome["errors"]["missing"], 0, "{outcome:#}");
    }
}

#[test]
fn pages_go_into_a_pipe() {
    python(
        "vmsplice",
        r#"
import ctypes, os
libc = ctypes.CDLL(None); r, w = os.pipe(); b = ctypes.create_string_buffer(9000)
class iov(ctypes.Structure): _fields_ = [("b", ctypes.c_void_p), ("n", ctypes.c_size_t)]
v = (iov * 2)(iov(ctypes.addressof(b), 5000), iov(ctypes.addressof(b), 3000))
assert libc.vmsplice(w, v, 2, 0) == 8000
assert len(os.read(r, 9000)) == 8000
os.write(w, b"x" * 3000)
assert libc.vmsplice(r, v, 1, 0) == 3000
"#,
    );
}

#[test]
fn timers_of_another_clock_go_off_when_they_did() {
    if !can_record() {
        return;
    }
    let supported =
        std::process::Command::new("unshare").args(["-T", "--monotonic", "200000", "true"]).status();
    if !has(&["python3"]) || !supported.is_ok_and(|status| status.success()) {
        println!("skipped: no python3, or no time namespaces");
        return;
    }
    let _host = shared();
    let dir = tempfile::tempdir().unwrap();
    let program = r#"
import ctypes, os, time
libc = ctypes.CDLL(None)
class ts(ctypes.Structure): _fields_ = [("s", ctypes.c_long), ("n", ctypes.c_long)]
class its(ctypes.Structure): _fields_ = [("i", ts), ("v", ts)]
fd = libc.timerfd_create(1, 0); at = time.clock_gettime(1) + 0.05
libc.timerfd_settime(fd, 1, ctypes.byref(its(ts(0, 0), ts(int(at), int(at % 1 * 1e9)))), None)
os.read(fd, 8)
"#;
    let command = ["unshare", "-T", "--monotonic", "200000", "python3", "-S", "-E", "-c", program];
    replays("time namespace", dir.path(), &command);
}
