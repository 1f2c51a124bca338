//! What the diff says of real programs that went wrong: that they differ, and the cause first.

use crate::host::{Guarded, Ran, can_record, free_port, has, run, shared, wait_for};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Python as Debian has it: what is first in the path may be a wrapper.
pub(crate) const PYTHON: &str = "/usr/bin/python3";

pub(crate) fn has_python() -> bool {
    let there = Path::new(PYTHON).exists();
    if !there {
        println!("skipped: {PYTHON} is not installed");
    }
    there
}

/// Every metric of a comparison is as the recording has it, but for those of time, which depend on what else the machine
/// does: when episodes of failure begin is one of them, and how many calls failed is not.
#[track_caller]
pub(crate) fn all_but_time_matches(diff: &Value) {
    assert_ne!(diff["verdict"], "inconclusive", "{diff:#}");
    let metrics = diff["metrics"].as_object().unwrap();
    let is_timed = |name: &str| matches!(name, "drift" | "makespan" | "incident_recall");
    let failed: Vec<&String> = metrics
        .iter()
        .filter(|(name, m)| !is_timed(name) && m["pass"] == false)
        .map(|(name, _)| name)
        .collect();
    assert!(failed.is_empty(), "{failed:?}: {diff:#}");
}

/// A place for the programs of a test and their recordings.
pub(crate) struct Lab {
    dir: tempfile::TempDir,
}

impl Lab {
    pub(crate) fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn file(&self, name: &str, text: &str) -> String {
        std::fs::write(self.path(name), text).unwrap();
        self.path(name).to_str().unwrap().to_owned()
    }

    /// Records a command, however it ends.
    pub(crate) fn record(&self, name: &str, command: &[&str]) -> PathBuf {
        let output = self.path(name);
        let ran =
            run(["record", "-o", output.to_str().unwrap(), "--"].into_iter().chain(command.iter().copied()));
        assert!(output.exists(), "no recording:\n{}{}", ran.stdout, ran.stderr);
        output
    }

    /// A Python program of both kinds, by its first argument.
    pub(crate) fn python(&self, program: &str) -> (PathBuf, PathBuf) {
        let program = self.file("program.py", program);
        let healthy = self.record("healthy.ctr", &[PYTHON, &program, "good"]);
        let bad = self.record("bad.ctr", &[PYTHON, &program, "bad"]);
        (healthy, bad)
    }
}

/// A Python program beside what is recorded.
pub(crate) fn beside(program: &str, args: &[&str]) -> Guarded {
    Guarded::spawn(
        Command::new(PYTHON).arg("-c").arg(program).args(args).stdout(Stdio::null()).stderr(Stdio::null()),
    )
}

pub(crate) fn diff(a: &Path, b: &Path) -> Ran {
    run(["diff".as_ref(), "--json".as_ref(), a.as_os_str(), b.as_os_str()])
}

/// The bad run deviates from the healthy one, and what is said first is of this kind and has these words.
#[track_caller]
pub(crate) fn expect_first((healthy, bad): &(PathBuf, PathBuf), kind: &str, words: &[&str]) -> Value {
    let report = diff(healthy, bad).expect(1).json();
    let first = &report["causes"][0];
    assert_eq!(first["kind"], kind, "{:#}\n{:#}", report["causes"], report["reasons"]);
    let sentence = report["reasons"][0].as_str().unwrap();
    assert_eq!(first["text"], sentence);
    for word in words {
        assert!(sentence.contains(word), "{word:?} is not in {sentence:?}\n{:#}", report["reasons"]);
    }
    report
}

/// A server that answers each connection with one line, after so many milliseconds.
const SERVER: &str = "
import socket, sys, threading, time
s = socket.socket(); s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
s.bind(('127.0.0.1', int(sys.argv[1]))); s.listen(64)
def answer(c):
    c.recv(1000); time.sleep(float(sys.argv[2])); c.sendall(b'hello'); c.close()
while True:
    c, _ = s.accept(); threading.Thread(target=answer, args=(c,), daemon=True).start()
";

pub(crate) fn server(port: u16, wait: &str) -> Guarded {
    let server = beside(SERVER, &[&port.to_string(), wait]);
    wait_for("a server", || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok());
    server
}

#[test]
fn a_slow_name_server_is_named_with_the_name() {
    const SERVER: &str = "
import socket, sys, threading, time
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind(('127.0.0.78', 53)); n = 0
def answer(q, a, wait):
    time.sleep(wait)
    end = q.index(b'\\0', 12) + 5
    found = q[end - 4:end - 2] == b'\\0\\1'
    r = q[:2] + b'\\x81\\x80' + q[4:6] + (b'\\0\\1' if found else b'\\0\\0') + b'\\0\\0\\0\\0' + q[12:end]
    s.sendto(r + (b'\\xc0\\x0c\\0\\1\\0\\1\\0\\0\\0\\1\\0\\4\\x7f\\0\\0\\1' if found else b''), a)
while True:
    q, a = s.recvfrom(512); n += 1
    slow = sys.argv[1] == 'bad' and n % 3 == 0
    threading.Thread(target=answer, args=(q, a, 0.8 if slow else 0.001), daemon=True).start()
";
    if !can_record() || !has_python() || !has(&["unshare", "mount"]) {
        return;
    }
    let _host = shared();
    let lab = Lab::new();
    let resolv = lab.file("resolv.conf", "nameserver 127.0.0.78\n");
    let client = lab.file(
        "client.py",
        "import socket\nfor i in range(12): socket.getaddrinfo('payments.shop.svc', 80, socket.AF_INET)\n",
    );
    let script = format!("mount --bind {resolv} /etc/resolv.conf && exec {PYTHON} {client}");
    let record = |kind: &str| {
        let mut server = Guarded::spawn(Command::new(PYTHON).args(["-c", SERVER, kind]));
        std::thread::sleep(std::time::Duration::from_millis(400));
        if server.0.try_wait().unwrap().is_some() {
            return None;
        }
        Some(lab.record(&format!("{kind}.ctr"), &["unshare", "-m", "sh", "-c", &script]))
    };
    let (Some(healthy), Some(bad)) = (record("good"), record("bad")) else {
        println!("skipped: a name server cannot listen on 127.0.0.78");
        return;
    };
    let report = expect_first(
        &(healthy, bad),
        "lookup",
        &["127.0.0.78:53", "payments.shop.svc", "later", "of the added time"],
    );
    assert!(report["causes"][0]["share"].as_f64().unwrap() > 0.8, "{:#}", report["causes"]);
}

#[test]
fn a_convoy_before_a_lock_is_named() {
    const CONVOY: &str = "
#include <pthread.h>
#include <unistd.h>
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int inside;
static void *work(void *unused) {
    for (int i = 0; i < 40; i++) {
        if (inside) { pthread_mutex_lock(&lock); usleep(5000); pthread_mutex_unlock(&lock); }
        else { usleep(5000); pthread_mutex_lock(&lock); pthread_mutex_unlock(&lock); }
    }
    return unused;
}
int main(int argc, char **argv) {
    pthread_t threads[8];
    inside = argv[1][0] == 'b';
    for (int i = 0; i < 8; i++) pthread_create(threads + i, 0, work, 0);
    for (int i = 0; i < 8; i++) pthread_join(threads[i], 0);
    return argc > 9;
}
";
    if !can_record() || !has(&["gcc"]) {
        return;
    }
    let _host = shared();
    let lab = Lab::new();
    let source = lab.file("convoy.c", CONVOY);
    let program = lab.path("convoy");
    assert!(
        Command::new("gcc")
            .args(["-O2", "-pthread", "-o"])
            .arg(&program)
            .arg(source)
            .status()
            .unwrap()
            .success()
    );
    let program = program.to_str().unwrap();
    let pair = (lab.record("healthy.ctr", &[program, "good"]), lab.record("bad.ctr", &[program, "bad"]));
    expect_first(&pair, "lock", &["convoy waits", "longer", "the lock at …"]);
}

#[test]
fn descriptors_that_are_never_closed_are_seen_at_the_limit() {
    if !can_record() || !has_python() {
        return;
    }
    let _host = shared();
    let lab = Lab::new();
    let program = "
import os, resource, sys
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64)); kept = []
for i in range(120):
    try:
        fd = os.open('/etc/hostname', os.O_RDONLY); os.read(fd, 64)
        kept.append(fd) if sys.argv[1] == 'bad' else os.close(fd)
    except OSError: pass
";
    let report = expect_first(
        &lab.python(program),
        "failure",
        &["openat of /etc/hostname", "EMFILE", "never in the recording", "descriptors open at most"],
    );
    assert_eq!(report["causes"][0]["before"]["count"], 0);
    assert!(report["causes"][0]["after"]["count"].as_u64().unwrap() > 50, "{:#}", report["causes"]);
}

#[test]
fn a_full_disk_is_named_by_the_file() {
    if !can_record() || !has_python() {
        return;
    }
    let _host = shared();
    let lab = Lab::new();
    let program = "
import os, sys
f = os.open(sys.argv[2] + '/app.log', os.O_WRONLY | os.O_CREAT | os.O_APPEND)
for i in range(100):
    try: os.write(f, b'x' * 16384); os.fsync(f)
    except OSError: pass
";
    let program = lab.file("logger.py", program);
    let logs = lab.path("logs");
    std::fs::create_dir(&logs).unwrap();
    let script =
        format!("mount -t tmpfs -o size=$1 logs {0} && exec {PYTHON} {program} x {0}", logs.display());
    let record = |name, size| lab.record(name, &["unshare", "-m", "sh", "-c", &script, "sh", size]);
    let pair = (record("healthy.ctr", "16m"), record("bad.ctr", "512k"));
    expect_first(&pair, "failure", &["write of", "app.log", "ENOSPC", "never in the recording"]);
}

#[test]
fn a_storm_of_connects_that_do_not_wait_is_told_by_their_outcome() {
    if !can_record() || !has_python() {
        return;
    }
    let _host = shared();
    let lab = Lab::new();
    let port = free_port();
    let program = format!(
        "
import socket, threading
def work():
    for request in range(5):
        for attempt in range(40):
            try:
                c = socket.create_connection(('127.0.0.1', {port}), 1); c.sendall(b'GET'); c.recv(100); c.close(); break
            except OSError: pass
threads = [threading.Thread(target=work) for _ in range(3)]
[t.start() for t in threads]; [t.join() for t in threads]
"
    );
    let program = lab.file("retry.py", &program);
    let server = server(port, "0");
    let healthy = lab.record("healthy.ctr", &[PYTHON, &program]);
    drop(server);
    let bad = lab.record("bad.ctr", &[PYTHON, &program]);
    let peer = format!("connect to 127.0.0.1:{port} fails with ECONNREFUSED");
    let report =
        expect_first(&(healthy.clone(), bad), "failure", &[&peer, "never in the recording, 600 times"]);
    assert_eq!(report["causes"][0]["after"]["count"], 600);
    // In a healthy one it is no failure that they do not wait.
    let events = run(["events", healthy.to_str().unwrap(), "-e", "connect", "--json"]).expect(0).json_lines();
    assert!(events.iter().any(|e| e["errno"] == "EINPROGRESS"), "its connects wait: {events:#?}");
    assert_eq!(diff(&healthy, &healthy).expect(0).json()["causes"], serde_json::json!([]));
}

/// A memory cgroup with a limit, removed at the end.
struct Limited(PathBuf);

impl Limited {
    fn new(name: &str, bytes: &str) -> Option<Self> {
        let v1 = Path::new("/sys/fs/cgroup/memory");
        let (base, limit) = if v1.is_dir() {
            (v1.to_owned(), "memory.limit_in_bytes")
        } else {
            (crate::host::cgroup2()?, "memory.max")
        };
        let group = base.join(name);
        std::fs::create_dir(&group).ok()?;
        let this = Self(group);
        std::fs::write(this.0.join(limit), bytes).ok()?;
        Some(this)
    }
}

impl Drop for Limited {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir(&self.0);
    }
}

#[test]
fn who_was_killed_for_lack_of_memory_is_said_first() {
    if !can_record() || !has_python() {
        return;
    }
    let _host = shared();
    let Some(group) = Limited::new(&format!("ctrace-judged-{}", std::process::id()), "25165824") else {
        println!("skipped: no memory cgroup can be made here");
        return;
    };
    let lab = Lab::new();
    let program = "
import sys, time
kept = []
if sys.argv[1] == 'bad': open(sys.argv[2], 'w').write('0')
for i in range(40):
    block = bytearray(b'x') * (1 << 20)
    if sys.argv[1] == 'bad': kept.append(block)
    time.sleep(0.02)
";
    let program = lab.file("leak.py", program);
    let tasks = group.0.join("cgroup.procs");
    let record =
        |kind: &str| lab.record(&format!("{kind}.ctr"), &[PYTHON, &program, kind, tasks.to_str().unwrap()]);
    expect_first(
        &(record("good"), record("bad")),
        "oom",
        &["python3 is killed for lack of memory", "never in the recording, once", "memory at most"],
    );
}

#[test]
fn a_slow_peer_is_named_with_how_much_later_it_answers() {
    if !can_record() || !has_python() {
        return;
    }
    let _host = shared();
    let lab = Lab::new();
    let port = free_port();
    let client = format!(
        "
import socket
for i in range(20):
    c = socket.create_connection(('127.0.0.1', {port}), 5); c.sendall(b'GET'); c.recv(100); c.close()
"
    );
    let client = lab.file("client.py", &client);
    let record = |name: &str, wait: &str| {
        let _server = server(port, wait);
        lab.record(name, &[PYTHON, &client])
    };
    let (healthy, bad) = (record("healthy.ctr", "0.001"), record("bad.ctr", "0.15"));
    let peer = format!("127.0.0.1:{port} answers python3");
    let report =
        expect_first(&(healthy.clone(), bad.clone()), "answer", &[&peer, "later", "p50", "added time"]);
    assert_eq!(report["metrics"]["latency_shift"]["pass"], false, "{:#}", report["metrics"]);
    // The other way round, it answers sooner.
    expect_first(&(bad, healthy), "answer", &[&peer, "sooner", "saved time"]);
}

#[test]
fn a_peer_that_never_answers_is_named() {
    if !can_record() || !has_python() {
        return;
    }
    let _host = shared();
    let lab = Lab::new();
    let port = free_port();
    let client = format!(
        "
import socket
c = socket.create_connection(('127.0.0.1', {port}), 1.5)
c.sendall(b'GET')
try: c.recv(100)
except socket.timeout: pass
"
    );
    let client = lab.file("client.py", &client);
    let record = |name: &str, wait: &str| {
        let _server = server(port, wait);
        lab.record(name, &[PYTHON, &client])
    };
    let pair = (record("healthy.ctr", "0.001"), record("bad.ctr", "60"));
    expect_first(&pair, "answer", &[&format!("127.0.0.1:{port} answers python3"), "later"]);
}

#[test]
fn a_file_that_somebody_else_has_locked_is_named() {
    if !can_record() || !has_python() {
        return;
    }
    let _host = shared();
    let lab = Lab::new();
    let locked = lab.file("app.lock", "");
    let program = lab.file(
        "locks.py",
        &format!("import fcntl\nf = open({locked:?}, 'w')\nfcntl.flock(f, fcntl.LOCK_EX)\n"),
    );
    let healthy = lab.record("healthy.ctr", &[PYTHON, &program]);
    let ready = lab.path("ready");
    let holder = format!(
        "import fcntl, time\nf = open({locked:?}, 'w')\nfcntl.flock(f, fcntl.LOCK_EX)\nopen({:?}, 'w')\ntime.sleep(2.5)\n",
        ready.to_str().unwrap()
    );
    let _holder = beside(&holder, &[]);
    wait_for("the lock", || ready.exists());
    let bad = lab.record("bad.ctr", &[PYTHON, &program]);
    expect_first(&(healthy, bad), "lock", &["python3 waits", "longer", "app.lock"]);
}

#[test]
fn time_on_the_cpu_is_told_as_that() {
    if !can_record() || !has_python() {
        return;
    }
    let _host = shared();
    let lab = Lab::new();
    let program = "
import sys
n = 0
for i in range(40_000_000 if sys.argv[1] == 'bad' else 2_000_000): n += i
print(n)
";
    expect_first(&lab.python(program), "cpu", &["python3 computes longer", "added time"]);
}

#[test]
fn longer_sleep_is_told_as_that() {
    if !can_record() || !has_python() {
        return;
    }
    let _host = shared();
    let lab = Lab::new();
    let program = "
import sys, time
for i in range(10): time.sleep(0.2 if sys.argv[1] == 'bad' else 0.01)
";
    expect_first(&lab.python(program), "sleep", &["python3 sleeps", "longer", "p50"]);
}

#[test]
fn slow_input_from_outside_is_told_as_that() {
    if !can_record() || !has_python() {
        return;
    }
    let _host = shared();
    let lab = Lab::new();
    let reader = lab.file("reader.py", "import sys\nfor line in sys.stdin: pass\n");
    let record = |name: &str, wait: &str| {
        let output = lab.path(name);
        let writer =
            "import sys, time\nfor i in range(10): print(i, flush=True); time.sleep(float(sys.argv[1]))";
        let mut writer =
            Guarded::spawn(Command::new(PYTHON).args(["-c", writer, wait]).stdout(Stdio::piped()));
        let input = writer.0.stdout.take().unwrap();
        let mut command = crate::host::ctrace();
        command.args(["record", "-o", output.to_str().unwrap(), "--", PYTHON, &reader]).stdin(input);
        assert!(command.status().unwrap().success());
        output
    };
    expect_first(&(record("healthy.ctr", "0.01"), record("bad.ctr", "0.3")), "input", &["stdin", "longer"]);
}

#[test]
fn a_crash_is_the_first_thing_to_know() {
    if !can_record() || !has_python() {
        return;
    }
    let _host = shared();
    let lab = Lab::new();
    let program = "
import os, signal, sys
for i in range(30): open('/etc/hostname').read()
if sys.argv[1] == 'bad': os.kill(os.getpid(), signal.SIGSEGV)
";
    expect_first(
        &lab.python(program),
        "crash",
        &["python3 is killed by signal 11", "never in the recording, once"],
    );
}

#[test]
fn a_missing_file_is_named_before_the_status_that_it_leads_to() {
    if !can_record() {
        return;
    }
    let _host = shared();
    let lab = Lab::new();
    let config = lab.file("app.conf", "x=1\n");
    let script = lab
        .file("app.sh", &format!(". {config}\nfor i in 1 2 3 4 5 6 7 8 9; do true < /etc/hostname; done\n"));
    let healthy = lab.record("healthy.ctr", &["sh", &script]);
    std::fs::remove_file(&config).unwrap();
    let bad = lab.record("bad.ctr", &["sh", &script]);
    expect_first(&(healthy, bad), "failure", &["app.conf", "ENOENT", "never in the recording"]);
}

#[test]
fn a_program_that_does_the_same_at_the_same_pace_has_no_cause() {
    if !can_record() || !has_python() {
        return;
    }
    let _host = shared();
    let lab = Lab::new();
    let program = "
import os, subprocess, time
for i in range(20): open('/etc/hostname').read(); os.stat('/etc'); time.sleep(0.01)
subprocess.run(['true'])
";
    let (a, b) = lab.python(program);
    let report = diff(&a, &b).json();
    assert_eq!(report["verdict"], "match", "{report:#}");
    assert_eq!(report["causes"], serde_json::json!([]));
    assert_eq!(report["warnings"], serde_json::json!([]));
}

#[test]
fn what_makes_a_comparison_worth_less_is_said() {
    if !can_record() || !has(&["true", "sort"]) {
        return;
    }
    let _host = shared();
    let lab = Lab::new();
    let a = lab.record("a.ctr", &["true"]);
    let other = lab.record("other.ctr", &["sort", "/etc/hostname"]);
    let warned = |a: &Path, b: &Path, words: &str| {
        let report = diff(a, b).json();
        let warnings = report["warnings"].as_array().unwrap();
        let said = warnings.iter().filter_map(Value::as_str).any(|w| w.contains(words));
        assert!(said, "{words:?} is not in {warnings:#?}");
    };
    warned(&a, &other, "no program is in both recordings (true in the first, sort in the second)");
    let replay = lab.path("a.replay.ctr");
    run(["replay", a.to_str().unwrap(), "-o", replay.to_str().unwrap()]);
    warned(&replay, &a, "the first trace is of a replay");
    let strict = lab.path("strict.ctr");
    run(["redact", a.to_str().unwrap(), "-o", strict.to_str().unwrap()]).expect(0);
    warned(&a, &strict, "different things are masked in the two (--redact default and strict)");
    // A gate that was asked for and had nothing to judge.
    let asked =
        run(["diff", "--json", "--fail-on", "tail_shift=1", a.to_str().unwrap(), a.to_str().unwrap()]).json();
    assert!(asked["warnings"][0].as_str().unwrap().contains("tail_shift has a gate of its own"), "{asked:#}");
}

#[test]
fn a_replay_that_nobody_records_is_judged_by_the_same_gates_and_names_no_file() {
    use std::os::unix::fs::PermissionsExt;
    if !can_record() || !has(&["setpriv", "true"]) {
        return;
    }
    let _host = shared();
    let lab = Lab::new();
    let trace = lab.record("a.ctr", &["true"]);
    let readable =
        |path: &Path, mode| std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
    readable(&trace, 0o644);
    readable(lab.dir.path(), 0o777);
    let copy = lab.path("ctrace");
    std::fs::copy(crate::host::ctrace().get_program(), &copy).unwrap();
    let replay = |more: &[&str]| -> Ran {
        let output = Command::new("setpriv")
            .args(["--reuid", "65534", "--regid", "65534", "--clear-groups"])
            .arg(&copy)
            .args(["replay", trace.to_str().unwrap(), "-o", lab.path("b.ctr").to_str().unwrap(), "--json"])
            .args(more)
            .current_dir("/")
            .output()
            .unwrap();
        output.into()
    };
    let ran = replay(&[]);
    if ran.code == Some(4) {
        println!("skipped: an ordinary user cannot replay here");
        return;
    }
    let said = ran.expect(0).json();
    let report = &said["diff"];
    assert_eq!(report["verdict"], "match", "{report:#}");
    assert!(report["warnings"][0].as_str().unwrap().starts_with("self-reported"), "{report:#}");
    assert!(report["metrics"]["alignment"]["value"].is_null(), "{report:#}");
    assert!(said["replay_trace"].is_null(), "{said:#}");
    assert!(!lab.path("b.ctr").exists());
    let report = replay(&["--fail-on", "coverage=1.5"]).expect(1).json();
    assert_eq!(report["diff"]["worst"], "coverage", "{report:#}");
    assert_eq!(report["diff"]["metrics"]["coverage"]["gate"], 1.5);
}
