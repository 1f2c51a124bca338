//! What faults can do in replays beside failing a call before it begins, and delaying it: each does on a real kernel what
//! `plan check` says, and nothing else deviates.

use crate::host::{can_record, free_port, has, run, shared};
use crate::inject::{CLIENTS, recorded, replayed};
use crate::judged::{PYTHON, has_python};
use serde_json::Value;
use std::path::Path;

/// Replays with faults, which take place as planned, with nothing forced.
#[track_caller]
fn performed(trace: &Path, faults: &[&str]) -> (Value, Vec<Value>) {
    let (outcome, output) = replayed(trace, faults);
    assert!(outcome["injections"]["fired"].as_u64().unwrap() > 0, "{faults:?}");
    assert_eq!(outcome["forced"]["total"], 0, "{faults:?}: {outcome:#}");
    let events = run(["events", output.to_str().unwrap(), "--json"]).expect(0).stdout;
    let events = events.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    (outcome, events)
}

/// The results of the calls of this name; with the injected ones only, or all.
fn results(events: &[Value], name: &str, injected: bool) -> Vec<i64> {
    let is_injected =
        |event: &Value| event["flags"].as_array().is_some_and(|flags| flags.contains(&"injected".into()));
    let of_name = events.iter().filter(|event| event["name"] == name && (!injected || is_injected(event)));
    of_name.filter_map(|event| event["ret"].as_i64()).collect()
}

fn clients(directory: &Path) -> std::path::PathBuf {
    recorded(directory, &[PYTHON, "-S", "-E", "-c", CLIENTS])
}

#[test]
fn a_close_that_fails_does_not_keep_its_number() {
    if !can_record() || !has_python() {
        return;
    }
    let _host = shared();
    let dir = tempfile::tempdir().unwrap();
    let trace = clients(dir.path());
    let (_, events) = performed(&trace, &["close:error=EIO:prob=0.3"]);
    assert!(results(&events, "close", true).iter().all(|result| *result == -5));
    let script = "for i in 1 2 3 4 5 6; do cat /etc/hostname | tr a-z A-Z | cat > /dev/null; done";
    let dir = tempfile::tempdir().unwrap();
    let trace = recorded(dir.path(), &["sh", "-c", script]);
    performed(&trace, &["close:error=EINTR:prob=0.3"]);
}

#[test]
fn a_call_does_its_work_and_fails() {
    if !can_record() || !has_python() {
        return;
    }
    let _host = shared();
    let dir = tempfile::tempdir().unwrap();
    let trace = clients(dir.path());
    let (_, events) = performed(&trace, &["sendto:error=EIO:phase=after:when=4+4"]);
    let failed = results(&events, "sendto", true);
    assert!(!failed.is_empty() && failed.iter().all(|result| *result == -5), "{failed:?}");
    performed(&trace, &["openat:error=EIO:phase=after:path=/etc/hostname:max=3"]);
    let dir = tempfile::tempdir().unwrap();
    let script = format!("cd {}; for i in 1 2 3; do mkdir d$i; rmdir d$i; done", dir.path().display());
    let trace = recorded(dir.path(), &["sh", "-c", &script]);
    performed(&trace, &["mkdir:error=EINTR:phase=after:max=2"]);
}

#[test]
fn a_call_returns_what_is_asked_and_moves_a_part() {
    if !can_record() || !has_python() {
        return;
    }
    let _host = shared();
    let dir = tempfile::tempdir().unwrap();
    let program = "import os\nfor i in range(20): os.getppid()";
    let trace = recorded(dir.path(), &[PYTHON, "-S", "-E", "-c", program]);
    let (_, events) = performed(&trace, &["getppid:retval=77:when=3+5"]);
    assert_eq!(results(&events, "getppid", true), [77; 4]);
    let dir = tempfile::tempdir().unwrap();
    let script =
        format!("cd {}; for i in 1 2 3 4; do echo some words > out$i; cat out$i; done", dir.path().display());
    let trace = recorded(dir.path(), &["sh", "-c", &script]);
    // Nobody reads at the same time: who does may be done first.
    performed(&trace, &["write:short=0.5:role=sh"]);
    performed(&trace, &["read:retval=7:prob=0.1"]);
}

#[test]
fn a_connection_stays_in_the_queue_or_is_dropped() {
    if !can_record() || !has_python() {
        return;
    }
    let _host = shared();
    let dir = tempfile::tempdir().unwrap();
    let trace = clients(dir.path());
    let (_, events) = performed(&trace, &["accept4:error=EMFILE:when=3+4"]);
    assert_eq!(results(&events, "accept4", true), [-24; 5]);
    assert_eq!(results(&events, "accept4", false).len(), 25);
    let dir = tempfile::tempdir().unwrap();
    let trace = recorded(dir.path(), &[PYTHON, "-S", "-E", "-c", SERVER]);
    let (_, events) = performed(&trace, &["accept4:error=ECONNABORTED:when=3+4"]);
    assert_eq!(results(&events, "accept4", true), [-103; 2]);
}

const SIGNALS: &str = r"
import os, signal, time
caught = []
signal.signal(signal.SIGUSR1, lambda *a: caught.append(1))
signal.signal(signal.SIGUSR2, signal.SIG_IGN)
for i in range(20):
    os.stat('/etc/hostname'); time.sleep(0.002)
pids = []
for i in range(3):
    pid = os.fork()
    if pid == 0:
        for j in range(10):
            os.stat('/etc/hosts'); time.sleep(0.002)
        os._exit(0)
    pids.append(pid)
for pid in pids:
    os.waitpid(pid, 0)
";

#[test]
fn a_signal_comes_with_a_call() {
    if !can_record() || !has_python() {
        return;
    }
    let _host = shared();
    let dir = tempfile::tempdir().unwrap();
    let trace = recorded(dir.path(), &[PYTHON, "-S", "-E", "-c", SIGNALS]);
    for signal in ["USR1", "USR2", "WINCH"] {
        let fault = format!("%%stat:signal={signal}:path=/etc/hostname:when=3+5");
        performed(&trace, &[&fault]);
    }
    // Each child, and the parent reaps them.
    let (_, events) = performed(&trace, &["%%stat:signal=KILL:path=/etc/hosts:when=4"]);
    let killed = events.iter().filter(|event| {
        event["type"] == "process" && event["signal"] == "SIGKILL" && event["group_dead"] == true
    });
    assert_eq!(killed.count(), 3, "{:#?}", events.iter().rfind(|event| event["type"] == "process"));
    performed(&trace, &["%%stat:signal=TERM:path=/etc/hosts:when=7:max=1"]);
}

#[test]
fn a_pipeline_goes_on_without_the_process_that_is_killed() {
    if !can_record() {
        return;
    }
    let _host = shared();
    let dir = tempfile::tempdir().unwrap();
    let script = "for i in 1 2 3 4; do echo some words to write | cat | tr a-z A-Z; done > /dev/null";
    let trace = recorded(dir.path(), &["sh", "-c", script]);
    for fault in [
        "write:signal=KILL:role=cat",
        "read:signal=TERM:role=tr:arg=fd=0:max=2",
        "write:signal=KILL:role=sh:max=2",
    ] {
        performed(&trace, &[fault]);
    }
}

/// A client waits before it sends: whether bytes are unread when a server is killed decides how its connection ends.
const SERVER: &str = r"
import os, socket, time
s = socket.socket(); s.bind(('127.0.0.1', 0)); s.listen(16)
pid = os.fork()
if pid == 0:
    for _ in range(10):
        c, _ = s.accept(); d = c.recv(100); c.sendall(d * 2); c.close()
    os._exit(0)
port = s.getsockname()
s.close()
for i in range(10):
    c = socket.create_connection(port); time.sleep(0.03); c.sendall(b'hello'); c.recv(100); c.close()
os.waitpid(pid, 0)
";

#[test]
fn who_asks_a_server_that_is_killed_reads_the_end() {
    if !can_record() || !has_python() {
        return;
    }
    let _host = shared();
    let dir = tempfile::tempdir().unwrap();
    let trace = recorded(dir.path(), &[PYTHON, "-S", "-E", "-c", SERVER]);
    performed(&trace, &["accept4:signal=KILL:when=6"]);
    performed(&trace, &["sendto:signal=KILL:when=6:role=python3:arg=len=10"]);
}

#[test]
fn a_server_under_load_bears_it() {
    if !can_record() || !has(&["redis-server", "redis-benchmark"]) {
        return;
    }
    let _host = shared();
    let dir = tempfile::tempdir().unwrap();
    let port = free_port();
    let script = format!(
        "cd {}; redis-server --port {port} --bind 127.0.0.1 --save '' --appendonly no > /dev/null & pid=$!
        until redis-cli -p {port} ping > /dev/null 2>&1; do sleep 0.1; done
        redis-benchmark -p {port} -q -n 300 -c 5 -t set,get > /dev/null; kill $pid; wait",
        dir.path().display()
    );
    let trace = recorded(dir.path(), &["sh", "-c", &script]);
    for fault in [
        "close:error=EIO:role=redis-server:prob=0.3",
        "accept4:error=EMFILE:role=redis-server:when=2+3",
        "getpid,openat:signal=WINCH:role=redis-server:max=5",
    ] {
        performed(&trace, &[fault]);
    }
}
