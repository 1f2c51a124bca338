//! The red button of a replay: conditions on the live replay, Ctrl-C and time end it; it is frozen, killed and gone, and told
//! in full.

use crate::host::{
    Belongings, Guarded, Ran, Recording, Redis, alone, can_record, ctrace, expect_nothing_left, has, run,
    shared, wait_for,
};
use nix::sys::signal::Signal;
use serde_json::Value;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Refused connections, twenty a second for four seconds.
const REFUSED: &str = "import socket, time\n\
    for i in range(80):\n\
    \x20 s = socket.socket()\n\
    \x20 try: s.connect(('127.0.0.1', 9))\n\
    \x20 except OSError: pass\n\
    \x20 s.close()\n\
    \x20 time.sleep(0.05)\n";
/// Descriptors that are never closed, fifty a second, and then two seconds of computing.
const BUSY: &str = "import os, time\n\
    for i in range(60):\n\
    \x20 os.open('/', os.O_RDONLY)\n\
    \x20 time.sleep(0.02)\n\
    end = time.monotonic() + 2\n\
    while time.monotonic() < end: pass\n";
/// Some calls, and then none for five seconds.
const FALLS_SILENT: &str = "import os, time\n\
    for i in range(20): os.stat('/'); time.sleep(0.01)\n\
    time.sleep(5)\n";

struct Lab {
    dir: tempfile::TempDir,
}

impl Lab {
    /// `None`, and it says so: this host lacks something.
    fn new(programs: &[&str]) -> Option<Self> {
        (can_record() && has(programs)).then(|| Self { dir: tempfile::tempdir().unwrap() })
    }

    fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn record(&self, command: &[&str]) -> PathBuf {
        let trace = self.at("x.ctr");
        run(["record", "-q", "-o", trace.to_str().unwrap(), "--"].into_iter().chain(command.iter().copied()));
        assert!(trace.exists());
        trace
    }

    /// Replays with these arguments.
    fn replay(&self, trace: &Path, args: &[&str]) -> Ran {
        let replayed = self.at("replayed.ctr");
        let head = ["replay", trace.to_str().unwrap(), "-o", replayed.to_str().unwrap(), "--json", "--force"];
        run(head.iter().chain(args))
    }

    /// The whole story of a replay that was aborted: what the object, the trace and the host say.
    #[track_caller]
    fn expect_aborted(ran: Ran, code: i32, by: &str) -> Value {
        let said = ran.expect(code).json();
        let aborted = &said["aborted"];
        assert_eq!(aborted["by"], by, "{aborted:#}");
        assert_eq!(said["diff"]["verdict"], "inconclusive", "{:#}", said["diff"]);
        let reason = said["diff"]["reasons"][0].as_str().unwrap();
        assert!(reason.starts_with("aborted: "), "{reason}");
        assert_eq!(said["leftovers"], serde_json::json!([]));
        for time in ["held_to_frozen_ns", "detected_to_frozen_ns", "frozen_to_gone_ns"] {
            assert!(aborted[time].is_u64(), "{time}: {aborted:#}");
        }
        println!("{by}: {aborted}");
        let Some(trace) = said["replay_trace"].as_str() else { return said };
        let info = run(["info", "--json", trace]).expect(0).json();
        assert_eq!(info["complete"], true, "{info:#}");
        let markers = run(["events", "--json", "--class", "marker", trace]).expect(0).stdout;
        assert!(markers.contains(&reason[..reason.len().min(40)]), "{reason}: {markers}");
        // It was cut short: the recorded processes did not come to their ends, and nothing tells that they did.
        let ends = run(["events", "--json", "--class", "process", trace]).expect(0).stdout;
        assert!(!ends.contains("\"signal\":\"SIGKILL\""), "the kill is ours: {ends}");
        said
    }
}

/// Done by the kernel's freezer where there is one; a host without says so.
#[track_caller]
fn expect_frozen(said: &Value) {
    let how = said["aborted"]["how"].as_str().unwrap();
    if said["sandbox"]["enforcement"]["by"] == "cgroup" {
        assert!(how == "freezer_v1" || how == "freezer_v2", "{how}");
    } else {
        println!("skipped: no cgroup, so it was {how}");
    }
}

#[test]
fn a_rate_of_errors_ends_a_replay() {
    let Some(lab) = Lab::new(&["python3"]) else { return };
    let _host = alone();
    let trace = lab.record(&["python3", "-c", REFUSED]);
    let before = Belongings::now();
    // The second holds sooner, and is the one that is named.
    let ran = lab.replay(
        &trace,
        &[
            "--abort-on",
            "silent>1h",
            "--abort-on",
            "errno(connect)>9/s",
            "--abort-on",
            "errno(connect,ECONNREFUSED)>5/s",
        ],
    );
    let said = Lab::expect_aborted(ran, 9, "condition");
    expect_frozen(&said);
    let aborted = &said["aborted"];
    assert_eq!(aborted["expr"], "errno(connect,ECONNREFUSED)>5/s");
    let text = aborted["text"].as_str().unwrap();
    assert!(text.contains("held at") && text.contains("6 in 1s by python3"), "{text}");
    let held_ns = aborted["t_ns"].as_u64().unwrap();
    assert!(held_ns < said["recorded_ns"].as_u64().unwrap(), "{said:#}");
    assert_eq!(said["ended"], "aborted");
    // Only the attempts until then took place, of eighty.
    let trace = said["replay_trace"].as_str().unwrap();
    let connects = run(["events", "--json", "-e", "connect", trace]).expect(0);
    let connects = connects.json_lines().iter().filter(|one| one["type"] == "syscall").count();
    assert!((6..40).contains(&connects), "{connects} of 80 attempts to connect");
    expect_nothing_left(&before);
}

#[test]
fn a_resource_ends_a_replay() {
    let Some(lab) = Lab::new(&["python3"]) else { return };
    let _host = alone();
    let trace = lab.record(&["python3", "-c", BUSY]);
    let before = Belongings::now();
    for (expr, figure) in [("fds>40", "fds>40 held"), ("cpu>60%", " %")] {
        let said = Lab::expect_aborted(lab.replay(&trace, &["--abort-on", expr]), 9, "condition");
        expect_frozen(&said);
        assert!(said["aborted"]["text"].as_str().unwrap().contains(figure), "{:#}", said["aborted"]);
    }
    expect_nothing_left(&before);
}

#[test]
fn silence_ends_a_replay() {
    let Some(lab) = Lab::new(&["python3"]) else { return };
    let _host = alone();
    let trace = lab.record(&["python3", "-c", FALLS_SILENT]);
    let before = Belongings::now();
    let ran = lab.replay(&trace, &["--abort-on", "errno(openat,EIO)>5/s", "--abort-on", "silent>1s"]);
    let said = Lab::expect_aborted(ran, 9, "silence");
    expect_frozen(&said);
    assert_eq!(said["aborted"]["expr"], "silent>1s");
    expect_nothing_left(&before);
}

#[test]
fn a_server_under_load_is_stopped_in_the_middle() {
    let Some(lab) = Lab::new(&["redis-server", "redis-benchmark"]) else { return };
    let _host = alone();
    let Some(redis) = Redis::start() else { return };
    let trace = lab.at("x.ctr");
    let recording = Recording::start(&["-p", &redis.pid()], &trace);
    assert!(redis.load(&["-t", "set,get", "-c", "10", "-n", "20000"]).status().unwrap().success());
    std::thread::sleep(std::time::Duration::from_secs(2));
    recording.end();
    drop(redis);
    let before = Belongings::now();
    // The load is over, and nobody asks the server for anything.
    let said = Lab::expect_aborted(lab.replay(&trace, &["--abort-on", "count(read)>200/s"]), 9, "condition");
    expect_frozen(&said);
    expect_nothing_left(&before);
}

#[test]
fn ctrl_c_and_time_end_a_replay_the_same_way() {
    let Some(lab) = Lab::new(&["sleep"]) else { return };
    let _host = alone();
    let script = "for i in 1 2 3; do sleep 4 & done; wait";
    let trace = lab.record(&["sh", "-c", script]);
    let before = Belongings::now();
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        let mut command = ctrace();
        command.args(["replay", "--json", "--force"]).arg(&trace).arg("-o").arg(lab.at("replayed.ctr"));
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut replay = Guarded::spawn(&mut command);
        // It says nothing on the way: the processes of the workload are there.
        wait_for("the replay runs", || {
            let partial = std::fs::read_dir(lab.dir.path()).unwrap().flatten();
            partial.map(|entry| entry.file_name()).any(|name| name == "replayed.ctr.partial")
        });
        std::thread::sleep(std::time::Duration::from_millis(700));
        replay.signal(signal);
        let (mut stdout, mut stderr) = (String::new(), String::new());
        std::io::Read::read_to_string(&mut replay.0.stdout.take().unwrap(), &mut stdout).unwrap();
        std::io::Read::read_to_string(&mut replay.0.stderr.take().unwrap(), &mut stderr).unwrap();
        let code = replay.0.wait().unwrap().code();
        let said = Lab::expect_aborted(Ran { code, stdout, stderr }, 128 + signal as i32, "signal");
        expect_frozen(&said);
        assert!(said["aborted"]["text"].as_str().unwrap().starts_with(&format!("aborted: {signal} at ")));
    }
    // A limit like the others.
    let said = Lab::expect_aborted(lab.replay(&trace, &["--max-duration", "1s"]), 3, "max-duration");
    expect_frozen(&said);
    let text = said["aborted"]["text"].as_str().unwrap();
    assert!(text.contains("--max-duration was over (1s)") && text.ends_with("allows more"), "{text}");
    expect_nothing_left(&before);
}

#[test]
fn a_condition_that_never_holds_changes_nothing() {
    let Some(lab) = Lab::new(&["python3"]) else { return };
    let _host = shared();
    let trace = lab.record(&["python3", "-c", "import os\nfor i in range(200): os.stat('/')\n"]);
    let ran = lab.replay(
        &trace,
        &[
            "--abort-on",
            "errno(openat,EIO)>5/s or rss>90%",
            "--abort-on",
            "silent>1h",
            "--abort-on",
            "exit=77",
        ],
    );
    assert!(matches!(ran.code, Some(0 | 1)), "{}", ran.stderr);
    let said = ran.json();
    assert_eq!((&said["aborted"], &said["ended"]), (&Value::Null, &Value::from("completed")));
    // A busy machine makes it late, and nothing else.
    for metric in ["coverage", "semantic", "errors"] {
        assert_ne!(said["diff"]["metrics"][metric]["pass"], false, "{:#}", said["diff"]);
    }
    let markers = run(["events", "--class", "marker", said["replay_trace"].as_str().unwrap()]).expect(0);
    assert_eq!(markers.stdout.trim(), "");
}

#[test]
fn a_condition_that_holds_with_the_last_event_is_no_match() {
    let Some(lab) = Lab::new(&["sh"]) else { return };
    let _host = shared();
    let trace = lab.record(&["sh", "-c", "exit 3"]);
    let said = lab.replay(&trace, &["--abort-on", "exit=3"]).expect(9).json();
    assert_eq!((&said["aborted"]["by"], &said["aborted"]["expr"]), (&"condition".into(), &"exit=3".into()));
    assert_eq!(said["diff"]["verdict"], "inconclusive");
    // A condition that cannot hold here is named.
    let ran = lab.replay(&trace, &["--abort-on", "container-exit"]);
    assert_eq!(ran.json()["aborted"], Value::Null);
}

#[test]
fn what_is_no_condition_is_refused_before_anything_runs() {
    for (expr, words) in [
        ("errno(conect)>5/s", &["column 7", "did you mean connect?"][..]),
        ("silent<5s", &["column 7", "> or >="]),
        ("silent", &["column 7", "such as >5s"]),
        ("speed>5", &["column 1", "there is no measure", "silent"]),
        ("rss>90", &["column 7", "90% for a part of the limit"]),
    ] {
        let ran = run(["replay", "/nonexistent.ctr", "--abort-on", expr]).expect(2);
        for word in words {
            assert!(ran.stderr.contains(word), "{expr}: no {word:?} in {}", ran.stderr);
        }
    }
}

#[test]
fn a_recording_can_be_marked_when_its_target_falls_silent() {
    let Some(lab) = Lab::new(&["sleep"]) else { return };
    let _host = shared();
    let trace = lab.at("x.ctr");
    run(["record", "-o", trace.to_str().unwrap(), "--trigger", "silent>1s", "--", "sleep", "4"]).expect(0);
    let markers = run(["events", "--class", "marker", trace.to_str().unwrap()]).expect(0).stdout;
    assert!(markers.contains("trigger: silent>1s: nothing came"), "{markers}");
}

#[test]
fn without_a_recorder_what_is_known_from_outside_ends_a_replay_and_the_rest_is_refused() {
    let Some(lab) = Lab::new(&["python3", "su"]) else { return };
    let _host = alone();
    let readable =
        |path: &Path, mode| std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
    let copy = lab.at("ctrace");
    std::fs::copy(ctrace().get_program(), &copy).unwrap();
    readable(&copy, 0o755);
    readable(lab.dir.path(), 0o777);
    let replay = |trace: &Path, exprs: &[&str]| -> Ran {
        readable(trace, 0o644);
        let exprs: Vec<String> = exprs.iter().map(|expr| format!(" --abort-on '{expr}'")).collect();
        let exprs = exprs.concat();
        let line = format!(
            "{} replay --json {} -o {}{exprs}",
            copy.display(),
            trace.display(),
            lab.at("r.ctr").display()
        );
        let mut command = Command::new("su");
        command.args(["nobody", "-s", "/bin/sh", "-c", &line]).current_dir("/").stdin(Stdio::null());
        command.env("NO_COLOR", "1").env_remove("LD_LIBRARY_PATH");
        command.output().unwrap().into()
    };
    let trace = lab.record(&["python3", "-c", FALLS_SILENT]);
    let ran = replay(&trace, &["exit!=0 or silent>1h", "errno(connect)>5/s", "rss>90%"]).expect(4);
    if ran.stderr.contains("isolation") {
        return println!("skipped: an ordinary user cannot replay here: {}", ran.stderr);
    }
    assert!(ran.stderr.contains("exit!=0, errno(connect)>5/s"), "{}", ran.stderr);
    assert!(ran.stderr.contains("rss, threads, cpu, silent"), "{}", ran.stderr);
    let before = Belongings::now();
    let said = Lab::expect_aborted(replay(&trace, &["silent>1s"]), 9, "silence");
    assert_eq!((&said["replay_trace"], &said["aborted"]["how"]), (&Value::Null, &"killed".into()));
    // Calls are a sign of life: it is not silent before it falls silent.
    assert!(said["replayed_ops"].as_u64().unwrap() > 100, "{said:#}");
    assert!(said["aborted"]["t_ns"].as_u64().unwrap() > 1_200_000_000, "{said:#}");
    std::fs::remove_file(&trace).unwrap();
    let trace = lab.record(&["python3", "-c", BUSY]);
    let ran = replay(&trace, &["rss>90%", "cpu>60%", "threads>500"]);
    let said = Lab::expect_aborted(ran, 9, "condition");
    assert_eq!(said["aborted"]["expr"], "cpu>60%");
    let never = replay(&trace, &["threads>500", "rss>90%", "silent>1h"]);
    assert!(matches!(never.code, Some(0 | 1)), "{}", never.stderr);
    assert_eq!(never.json()["aborted"], Value::Null);
    expect_nothing_left(&before);
}
