//! Processes that somebody stops for a while.

use super::*;
use nix::sys::signal::Signal;
use std::os::unix::process::CommandExt as _;
use std::time::Duration;

/// A server that does something all the time, recorded while `what` is done to it. What `info` says.
#[track_caller]
fn of_a_busy_program(place: &Place, code: &str, what: impl FnOnce(&Guarded)) -> Value {
    let ready = place.text("ready");
    let busy =
        format!("{code}\nimport time, sys\nopen(sys.argv[1], 'w').close()\nwhile True: time.sleep(0.01)");
    // Without a process group of its own it would be in an orphaned one where nobody has a terminal, and those ignore
    // SIGTSTP (`is_current_pgrp_orphaned`, kernel/exit.c).
    let target = Guarded::spawn(Command::new(PYTHON).args(["-c", &busy, &ready]).process_group(0));
    wait_for("the program runs", || Path::new(&ready).exists());
    let trace = place.at("x.ctr");
    let recording = Recording::start(&["-p", &target.0.id().to_string()], &trace);
    what(&target);
    std::thread::sleep(Duration::from_millis(300));
    recording.end();
    run([OsStr::new("info"), OsStr::new("--json"), trace.as_os_str()]).expect(0).json()
}

/// Stops it by this signal for 600 ms.
fn stop_for_a_while(target: &Guarded, signal: Signal) {
    target.signal(signal);
    std::thread::sleep(Duration::from_millis(600));
    target.signal(Signal::SIGCONT);
}

#[test]
fn a_server_that_is_stopped_for_a_while() {
    if !can_record() || !Path::new(PYTHON).exists() {
        return;
    }
    let _host = alone();
    let by = format!("(pid {}), which is not recorded", std::process::id());
    for (signal, name) in [(Signal::SIGSTOP, "SIGSTOP"), (Signal::SIGTSTP, "SIGTSTP")] {
        let place = Place::new();
        let info = of_a_busy_program(&place, "", |target| stop_for_a_while(target, signal));
        let words = ["was stopped for", name, &by, "and continued by SIGCONT"];
        let expected = Expected {
            kind: "stopped",
            level: "cause",
            role: "python3",
            object: "",
            count: 1..=1,
            words: &words,
        };
        expect_first(&info, &expected);
        let id = info["findings"][0]["evidence"]["events"][0].as_str().unwrap();
        let shown = run(["events", place.at("x.ctr").to_str().unwrap(), "--at", id]).expect(0).stdout;
        assert!(shown.contains(name), "{shown}");
    }
}

#[test]
fn a_signal_that_stops_nobody() {
    if !can_record() || !Path::new(PYTHON).exists() {
        return;
    }
    let _host = alone();
    // SIGTSTP has a handler; SIGCONT comes to one that runs.
    let handler = "import signal\nsignal.signal(signal.SIGTSTP, lambda *a: None)";
    for (code, signal) in [(handler, Signal::SIGTSTP), ("", Signal::SIGCONT)] {
        let place = Place::new();
        let info = of_a_busy_program(&place, code, |target| stop_for_a_while(target, signal));
        expect_silence(&info);
        assert!(!info["findings"].as_array().unwrap().iter().any(|f| f["kind"] == "stopped"), "{info:#}");
    }
    // A shell that stops its own job, and goes on with it.
    let script = "sleep 0.8 & kill -STOP $!; sleep 0.3; kill -CONT $!; wait";
    expect_silence(&record(&Place::new(), &[], &["sh", "-c", script]));
}
