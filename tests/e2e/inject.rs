//! Faults on top of replays: they hit what `plan check` says, the rest is done as recorded, and what was planned is no
//! deviation.

use crate::host::{can_record, run, shared};
use crate::judged::{PYTHON, all_but_time_matches, has_python};
use serde_json::Value;
use std::path::{Path, PathBuf};

/// Records a command in a directory.
pub(crate) fn recorded(directory: &Path, command: &[&str]) -> PathBuf {
    let trace = directory.join("x.ctr");
    let args = ["record", "-o", trace.to_str().unwrap(), "--"].into_iter().chain(command.iter().copied());
    run(args).expect(0);
    trace
}

pub(crate) fn checked(trace: &Path, faults: &[&str]) -> Value {
    let args = ["plan", "check", trace.to_str().unwrap(), "--json", "--seed", "7"].into_iter();
    run(args.chain(faults.iter().flat_map(|fault| ["--inject", fault]))).expect(0).json()
}

/// Replays with faults. They took place as planned, nothing else deviated; a comparison of the files says so, too.
#[track_caller]
pub(crate) fn replayed(trace: &Path, faults: &[&str]) -> (Value, PathBuf) {
    let plan = checked(trace, faults);
    let output = trace.with_extension("faulty.ctr");
    let args = [
        "replay",
        trace.to_str().unwrap(),
        "-o",
        output.to_str().unwrap(),
        "--force",
        "--json",
        "--seed",
        "7",
    ];
    let args = args.into_iter().chain(faults.iter().flat_map(|fault| ["--inject", fault]));
    let outcome = run(args).json();
    all_but_time_matches(&outcome["diff"]);
    assert_eq!(outcome["injections"]["planned"], plan["planned"], "{faults:?}");
    assert_eq!(outcome["injections"]["fired"], plan["planned"], "{faults:?}: {outcome:#}");
    assert_eq!(outcome["injections"]["prevented"], plan["prevented"], "{faults:?}");
    journaled(&outcome, &output, faults);
    all_but_time_matches(&run(["diff", trace.to_str().unwrap(), output.to_str().unwrap(), "--json"]).json());
    (outcome, output)
}

/// The replay's trace tells of every hit, as an event of its own.
#[track_caller]
fn journaled(outcome: &Value, output: &Path, faults: &[&str]) {
    let (hits, journaled) = (&outcome["injections"]["hits"], &outcome["injections"]["journaled"]);
    assert_eq!(hits, journaled, "{faults:?}: {outcome:#}");
    let hits = hits.as_u64().unwrap();
    assert!(hits >= outcome["injections"]["planned"].as_u64().unwrap(), "{faults:?}");
    let info = run(["info", output.to_str().unwrap(), "--json"]).expect(0).json();
    let by_rule = info["injections"].as_array().unwrap();
    let told: u64 = by_rule.iter().map(|rule| rule["count"].as_u64().unwrap()).sum();
    assert_eq!((told, info["events"]["injection"].as_u64()), (hits, Some(hits)), "{faults:?}");
    for rule in by_rule {
        let index = rule["rule"].as_u64().unwrap() as usize;
        assert_eq!(rule["name"].as_str(), faults.get(index).copied(), "{faults:?}");
    }
    let events =
        run(["events", output.to_str().unwrap(), "--class", "injection", "--json"]).expect(0).json_lines();
    let events: Vec<&Value> = events.iter().filter(|event| event["type"] == "injection").collect();
    assert_eq!(events.len() as u64, hits);
    assert!(events.iter().all(|event| event["nth"].as_u64() >= Some(1)), "{events:#?}");
}

pub(crate) const CLIENTS: &str = r"
import socket, threading, time
s = socket.socket(); s.bind(('127.0.0.1', 0)); s.listen(16)
def serve():
    for _ in range(20):
        c, _ = s.accept(); d = c.recv(100); c.sendall(d * 2); c.close()
t = threading.Thread(target=serve); t.start()
for i in range(20):
    c = socket.create_connection(s.getsockname()); c.sendall(b'hello'); c.recv(100); c.close()
    open('/etc/hostname').read()
    time.sleep(0.005)
t.join()
";

#[test]
fn counted_faults_hit_the_calls_that_they_name_and_no_others() {
    if !can_record() || !has_python() {
        return;
    }
    let _host = shared();
    let dir = tempfile::tempdir().unwrap();
    let trace = recorded(dir.path(), &[PYTHON, "-S", "-E", "-c", CLIENTS]);
    // The third connection and each fourth after it: 3, 7, 11, 15, 19.
    let fault = "connect:error=ECONNREFUSED:when=3+4";
    let plan = checked(&trace, &[fault]);
    assert_eq!(
        (&plan["rules"][0]["hits"], &plan["rules"][0]["eligible"]),
        (&5.into(), &20.into()),
        "{plan:#}"
    );
    assert_eq!(plan["prevented"]["accept4"], 5, "{plan:#}");
    let (outcome, output) = replayed(&trace, &[fault]);
    assert_eq!((&outcome["injections"]["fired"], &outcome["errors"]["injected"]), (&5.into(), &5.into()));
    let failed =
        run(["events", output.to_str().unwrap(), "-e", "connect", "--errno", "ECONNREFUSED", "--json"]);
    let events: Vec<Value> = failed.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let injected = events
        .iter()
        .filter(|event| event["flags"].as_array().is_some_and(|f| f.contains(&"injected".into())));
    assert_eq!(injected.count(), 5, "{}", failed.stdout);
    let hits =
        run(["events", output.to_str().unwrap(), "--class", "injection", "--json"]).expect(0).json_lines();
    let hits: Vec<&Value> = hits.iter().filter(|event| event["type"] == "injection").collect();
    let nth: Vec<u64> = hits.iter().filter_map(|event| event["nth"].as_u64()).collect();
    assert_eq!(nth, [3, 7, 11, 15, 19]);
    assert!(hits.iter().all(|hit| hit["call"] == "connect" && hit["errno"] == "ECONNREFUSED"), "{hits:#?}");
    let shown = run(["events", output.to_str().unwrap()]).expect(0).stdout;
    assert!(shown.contains("injected: connect 7 fails with ECONNREFUSED (rule 1: connect:error"), "{shown}");
}

#[test]
fn faults_of_many_kinds_leave_the_rest_as_it_was() {
    if !can_record() || !has_python() {
        return;
    }
    let _host = shared();
    let dir = tempfile::tempdir().unwrap();
    let trace = recorded(dir.path(), &[PYTHON, "-S", "-E", "-c", CLIENTS]);
    for faults in [
        &["openat:error=ENOENT:path=/etc/hostname:prob=0.5"][..],
        &["openat:error=EMFILE:path=/etc/hostname:max=4"],
        &["sendto:error=EPIPE:when=4..12+4"],
        &["sendto:delay_enter=20ms:when=5"],
        &["clock_nanosleep,nanosleep:delay_exit=5ms:max=3"],
        &["socket:error=EMFILE:when=4+5"],
        &["mmap:error=ENOMEM:prob=0.1", "connect:error=EADDRNOTAVAIL:max=2"],
    ] {
        let (outcome, _) = replayed(&trace, faults);
        assert!(outcome["injections"]["fired"].as_u64().unwrap() > 0, "{faults:?}");
        assert_eq!(outcome["forced"]["total"], 0, "{faults:?}: {outcome:#}");
    }
}

#[test]
fn processes_that_are_not_made_and_programs_that_are_not_there_are_followed() {
    if !can_record() {
        return;
    }
    let _host = shared();
    let dir = tempfile::tempdir().unwrap();
    let script =
        "for i in 1 2 3 4 5 6; do cat /etc/hostname | tr a-z A-Z > out.$i; rm out.$i; done; mkdir d; rmdir d";
    let script = format!("cd {}; {script}", dir.path().display());
    let trace = recorded(dir.path(), &["sh", "-c", &script]);
    for faults in [
        &["execve:error=ENOENT:path=*/rm:max=2"][..],
        &["write:error=EPIPE:prob=0.3"],
        &["read:error=EIO:prob=0.1"],
        &["openat:error=EMFILE:prob=0.2"],
        &["mkdir:error=EACCES"],
    ] {
        replayed(&trace, faults);
    }
}

#[test]
fn a_delay_is_one_of_the_task_alone() {
    if !can_record() || !has_python() {
        return;
    }
    let _host = shared();
    let dir = tempfile::tempdir().unwrap();
    // Two processes that have nothing to do with each other: threads would share the interpreter's lock.
    let program = "
import os, time
paths = ('/etc/hostname', '/etc/passwd')
for path in paths:
    if not os.fork():
        for i in range(30):
            os.stat(path); time.sleep(0.002)
        os._exit(0)
for path in paths: os.wait()
";
    let trace = recorded(dir.path(), &[PYTHON, "-S", "-E", "-c", program]);
    let (_, output) = replayed(&trace, &["%%stat:delay_exit=200ms:path=/etc/hostname:when=10:max=1"]);
    let last = |file: &Path, path: &str| {
        let events = run(["events", file.to_str().unwrap(), "--path", path, "--json"]).expect(0).stdout;
        let times =
            events.lines().filter_map(|line| serde_json::from_str::<Value>(line).unwrap()["t_ns"].as_u64());
        times.max().unwrap()
    };
    let later = |path: &str| last(&output, path) as i64 - last(&trace, path) as i64;
    let (delayed, other) = (later("/etc/hostname"), later("/etc/passwd"));
    assert!(delayed - other >= 150_000_000, "by {delayed} ns, the other by {other} ns");
}

#[test]
fn the_same_seed_hits_the_same_calls_and_chance_is_as_likely_as_it_says() {
    if !can_record() || !has_python() {
        return;
    }
    let _host = shared();
    let dir = tempfile::tempdir().unwrap();
    let program = "import os\nfor i in range(2000): os.stat('/etc/hostname')";
    let trace = recorded(dir.path(), &[PYTHON, "-S", "-E", "-c", program]);
    let hits = |seed: &str| {
        let fault = "%%stat:error=EIO:path=/etc/hostname:prob=0.25";
        let plan =
            run(["plan", "check", trace.to_str().unwrap(), "--json", "--seed", seed, "--inject", fault]);
        let plan = plan.expect(0).json();
        let rule = &plan["rules"][0];
        assert_eq!(rule["eligible"], 2000, "{plan:#}");
        (rule["hits"].as_u64().unwrap(), rule["first"].clone())
    };
    let mut firsts = std::collections::BTreeSet::new();
    for seed in ["1", "2", "3", "4"] {
        let (count, first) = hits(seed);
        // 500, and three times the deviation of 2000 draws: 58.
        assert!((442..=558).contains(&count), "{count}");
        assert_eq!(hits(seed), (count, first.clone()));
        firsts.insert(first["event"].to_string());
    }
    assert!(firsts.len() > 1, "{firsts:?}");
}

#[test]
fn faults_that_hit_nothing_or_cannot_be_done_are_said_before_anything_runs() {
    if !can_record() || !has_python() {
        return;
    }
    let _host = shared();
    let dir = tempfile::tempdir().unwrap();
    let trace = recorded(dir.path(), &[PYTHON, "-S", "-E", "-c", CLIENTS]);
    let path = trace.to_str().unwrap();
    for (fault, words) in [
        ("fsync:error=EIO", "the recording has no such call"),
        ("connect:error=EIO:role=pyton3", "did you mean python3?"),
        ("connect:error=EIO:peer=10.9.9.9:1", "they are about 127.0.0.1:"),
        ("openat:error=EIO:path=/nowhere", "they are about /"),
        ("connect:error=EIO:when=500", "20 calls match, and no task makes one of them 500 times"),
        ("connect:error=EIO:arg=fd>100000", "none of 20 such calls has these arguments"),
        ("connect:signal=STOP", "cannot stop a process"),
        ("read:retval=0x40000000", "results from -4095 to 1073741823 only"),
        ("connect:error=EIO:phase=after", "nobody to use it"),
        ("close:short=0.5", "moves no bytes"),
    ] {
        let check = run(["plan", "check", path, "--inject", fault]).expect(3);
        assert!(check.stdout.contains(words), "{fault}: {}", check.stdout);
        let replay = run(["replay", path, "--inject", fault]).expect(3);
        assert!(replay.stderr.contains(words), "{fault}: {}", replay.stderr);
    }
    assert!(!trace.with_extension("replay.ctr").exists());
    for (fault, words) in
        [("conect:error=EIO", "did you mean connect?"), ("connect:error=EIOO", "did you mean EIO?")]
    {
        let refused = run(["replay", path, "--inject", fault]).expect(2);
        assert!(refused.stderr.contains(words), "{fault}: {}", refused.stderr);
    }
    run(["plan", "check", path]).expect(2);
}
