//! Replays of programs whose outcome hangs on descriptors and files: numbers, limits, full disks, what is polled and executed.

use crate::host::{can_record, has, run, shared};
use crate::judged::all_but_time_matches;
use std::path::Path;
use std::process::Command;

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
    for metric in ["coverage", "semantic", "alignment", "errors"] {
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

#[test]
fn directories_and_descriptors_are_listed_and_opened_as_they_were() {
    if !can_record() || !has(&["bash", "diff"]) {
        return;
    }
    let _host = shared();
    let dir = tempfile::tempdir().unwrap();
    let script =
        "ls / /usr; diff <(ls /) <(ls /usr) | wc -l; echo x | cat /dev/stdin; cat /dev/fd/5 5</etc/hostname";
    let outcome = replays("names", dir.path(), &["bash", "-c", script]);
    assert_eq!(outcome["diff"]["metrics"]["semantic"]["value"], 1.0, "{outcome:#}");
}

#[test]
fn terminals_of_the_workload_are_terminals() {
    python(
        "pseudo terminals",
        r#"
import os, pty
pid, fd = pty.fork()
if pid == 0: os.execvp("cat", ["cat"])
for i in range(5):
    os.write(fd, b"line\n")
    got = b""
    while len(got) < 12: got += os.read(fd, 100)
os.write(fd, b"\x04")
try:
    while os.read(fd, 100): pass
except OSError: pass
os.waitpid(pid, 0)
"#,
    );
}

#[test]
fn a_terminal_gives_all_that_was_written_to_it_in_whatever_parts() {
    if !has(&["script"]) {
        println!("skipped: no script");
        return;
    }
    let outcome = shell(
        "script",
        "",
        "cd DIR; for i in 1 2 3; do script -q -c 'ls /; echo hi; cat /etc/hostname' log < /dev/null > /dev/null; done",
    );
    if let Some(outcome) = outcome {
        all_but_time_matches(&outcome["diff"]);
    }
}

/// A shell script, whose paths begin with `DIR` where they are the test's own. Nothing may come out otherwise, not even a size.
#[track_caller]
fn shell(what: &str, before: &str, script: &str) -> Option<serde_json::Value> {
    if !can_record() {
        return None;
    }
    let _host = shared();
    let dir = tempfile::tempdir().unwrap();
    let own = |text: &str| text.replace("DIR", dir.path().to_str().unwrap());
    assert!(Command::new("sh").args(["-c", &own(before)]).status().unwrap().success());
    let outcome = replays(what, dir.path(), &["sh", "-c", &own(script)]);
    assert_eq!(outcome["divergences"].as_array().map(Vec::len), Some(0), "{what}: {outcome:#}");
    Some(outcome)
}

#[test]
fn what_is_renamed_and_linked_is_found_where_it_is() {
    shell(
        "renames and links",
        "cd DIR; mkdir old; echo x > old/x",
        r"
cd DIR; mkdir d; echo 1 > d/one; mkdir d/sub; mv d e; ln -s e f; cat f/*one; ls f/ e/sub; echo 2 > f/two; cat e/two
mv e g; cat f/one || rm f; ln -s g/sub f; touch f/three; ls g/sub; rm -r g; ls f/ || mkdir e; mv old new; cat new/x; rm -r new
",
    );
}

#[test]
fn a_process_that_has_gone_elsewhere_does_not_tell_where_others_are() {
    shell(
        "working directories",
        "mkdir DIR/a; echo x > DIR/a/x",
        "cd DIR/a; sh -c 'cd /usr/share; ls . > /dev/null'; mkdir one; (cd /; cat etc/hostname); echo 1 > one/x; cat x; rm -r one",
    );
}

#[test]
fn a_script_is_as_long_as_it_was() {
    shell(
        "scripts",
        "printf '#!/bin/sh\nread x < DIR/first; echo $x\n' > DIR/first; chmod 755 DIR/first",
        r"
cd DIR; ./first; wc -c first; cp first second; ./second; echo 'echo more' >> second; ./second; wc -c second; sh ./second
cp second third; mv third second; ./second; cat second first > third; chmod +x third; ./third; cp /bin/true fourth; ./fourth; wc -c fourth
",
    );
}

#[test]
fn a_program_is_executed_whose_name_its_caller_had_not_touched() {
    let outcome = python(
        "an untouched name",
        r#"
import ctypes, mmap, os
open("DIR/text", "wb").write(b"/bin/true".ljust(4096, b"\0") + b"true".ljust(4096, b"\0"))
m = mmap.mmap(os.open("DIR/text", os.O_RDONLY), 8192, flags=mmap.MAP_PRIVATE)
at = ctypes.addressof(ctypes.c_char.from_buffer(m))
argv = (ctypes.c_void_p * 2)(at + 4096, None)
for i in range(5):
    if os.fork() == 0: ctypes.CDLL(None).execv(ctypes.c_void_p(at), argv); os._exit(1)
    assert os.wait()[1] == 0
"#,
    );
    if let Some(outcome) = outcome {
        assert_eq!(outcome["divergences"].as_array().map(Vec::len), Some(0), "{outcome:#}");
    }
}

#[test]
fn processes_that_make_and_remove_the_same_directories_find_what_they_found() {
    shell(
        "directories in dispute",
        "",
        "cd DIR; for w in 1 2 3; do (for i in 1 2 3 4 5 6; do mkdir -p d/x/y/z; echo $i > d/x/y/z/$w; rm -rf d/x; done 2> errors.$w) & done; wait; ls -R d",
    );
}

#[test]
fn a_writer_is_killed_at_the_write_that_found_no_reader() {
    let outcome = shell(
        "pipes without readers",
        "",
        "cd DIR; for i in 1 2 3 4 5 6 7 8 9 10; do find /usr/lib -maxdepth 2 | head -3; done > found",
    );
    if let Some(outcome) = outcome {
        all_but_time_matches(&outcome["diff"]);
    }
}

#[test]
fn a_file_without_a_name_is_opened_by_its_descriptor() {
    let outcome = shell(
        "files without names",
        "",
        "cd DIR; exec 3<> x; rm x; echo hello >&3; cat /proc/self/fd/3; read line < /dev/fd/3; echo $line | tee -a log /dev/stdout > y; cat y log; exec 3>&-",
    );
    if let Some(outcome) = outcome {
        all_but_time_matches(&outcome["diff"]);
    }
}
