//! Recording real programs through the command.

use crate::host::{Guarded, Recording, Redis, can_record, run, shared};
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

#[test]
fn the_commands_own_status_is_passed_through() {
    if !can_record() {
        return;
    }
    let _host = shared();
    let dir = tempfile::tempdir().unwrap();
    let output = dir.path().join("x.ctr");
    let output = output.to_str().unwrap();
    run(["record", "-o", output, "--", "true"]).expect(0);
    run(["record", "-o", output, "--", "sh", "-c", "exit 7"]).expect(7);
    run(["record", "-o", output, "--", "sh", "-c", "kill -TERM $$"]).expect(143);
    run(["record", "-o", output, "--", "/no/such/program"]).expect(127);
}

#[test]
fn the_first_execve_and_everything_after_it_is_caught() {
    if !can_record() {
        return;
    }
    let _host = shared();
    let dir = tempfile::tempdir().unwrap();
    let output = dir.path().join("x.ctr");
    run(["record", "-o", output.to_str().unwrap(), "--", "sh", "-c", "cat /etc/passwd >/dev/null; exit 3"])
        .expect(3);
    let events = run(["events", "--json", output.to_str().unwrap()]).expect(0).json_lines();
    let calls: Vec<_> = events.iter().filter(|e| e["type"] == "syscall").collect();
    assert_eq!(calls[0]["name"], "execve", "{}", calls[0]);
    assert!(calls.iter().any(|c| c["name"] == "openat" && c.to_string().contains("/etc/passwd")));
    assert!(calls.iter().any(|c| c["name"] == "exit_group"));
    let summary = events.last().unwrap();
    assert_eq!(summary["type"], "summary");
    let info = run(["info", "--json", output.to_str().unwrap()]).expect(0).json();
    assert_eq!(info["complete"], true);
    assert_eq!(info["lost"]["total"], 0);
    assert_eq!(info["events"]["syscalls"].as_u64().unwrap(), calls.len() as u64);
    assert!(info["processes"].as_u64().unwrap() >= 2, "sh and cat: {info}");
}

#[test]
fn traces_are_private() {
    if !can_record() {
        return;
    }
    let _host = shared();
    let dir = tempfile::tempdir().unwrap();
    let output = dir.path().join("x.ctr");
    run(["record", "-o", output.to_str().unwrap(), "--", "true"]).expect(0);
    assert_eq!(std::fs::metadata(&output).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(!output.with_extension("ctr.partial").exists());
}

#[test]
fn a_running_server_is_recorded_until_ctrl_c() {
    if !can_record() {
        return;
    }
    let _host = shared();
    let Some(redis) = Redis::start() else { return };
    let dir = tempfile::tempdir().unwrap();
    let output = dir.path().join("redis.ctr");
    let recording = Recording::start(&["-p", &redis.pid()], &output);
    assert!(redis.load(&["-t", "set,get", "-c", "10", "-n", "20000"]).status().unwrap().success());
    recording.end();
    let info = run(["info", "--json", output.to_str().unwrap()]).expect(0).json();
    assert_eq!(info["lost"]["total"], 0, "{info}");
    // 40,000 requests: at least as many reads and writes.
    assert!(info["events"]["syscalls"].as_u64().unwrap() > 80_000, "{info}");
    assert!(info["connections"].as_u64().unwrap() >= 20, "{info}");
    let per_syscall = info["bytes"]["per_syscall"].as_f64().unwrap();
    println!("redis: {per_syscall:.2} bytes per syscall on disk");
    assert!(per_syscall <= 8.0, "{per_syscall}");
}

#[test]
fn a_target_that_ends_ends_the_recording_with_success() {
    if !can_record() {
        return;
    }
    let _host = shared();
    let dir = tempfile::tempdir().unwrap();
    let mut target = Guarded::spawn(Command::new("sleep").arg("1000"));
    let recording = Recording::start(&["-p", &target.0.id().to_string()], &dir.path().join("x.ctr"));
    target.0.kill().unwrap();
    target.0.wait().unwrap();
    let output = recording.output.clone();
    let (code, said) = recording.finish();
    assert_eq!(code, Some(0), "{said}");
    run(["verify", output.to_str().unwrap()]).expect(0);
}

#[test]
fn a_duration_ends_the_recording() {
    if !can_record() {
        return;
    }
    let _host = shared();
    let dir = tempfile::tempdir().unwrap();
    let target = Guarded::spawn(Command::new("sleep").arg("1000"));
    let output = dir.path().join("x.ctr");
    let pid = target.0.id().to_string();
    run(["record", "-p", &pid, "--duration", "1s", "-o", output.to_str().unwrap()]).expect(0);
    let info = run(["info", "--json", output.to_str().unwrap()]).expect(0).json();
    assert!(info["duration_ns"].as_u64().unwrap() >= 1_000_000_000, "{info}");
}

#[test]
fn secrets_in_arguments_do_not_reach_the_disk() {
    if !can_record() {
        return;
    }
    let _host = shared();
    let dir = tempfile::tempdir().unwrap();
    let output = dir.path().join("x.ctr");
    let output = output.to_str().unwrap();
    run([
        "record",
        "-o",
        output,
        "--",
        "sh",
        "-c",
        "exit 0",
        "x",
        "--password=hunter2horse",
        "--api-token",
        "s3cr3tcanary99",
    ])
    .expect(0);
    let events = run(["events", "--json", output]).expect(0).stdout
        + &run(["info", "--json", output]).expect(0).stdout;
    for secret in ["hunter2horse", "s3cr3tcanary99"] {
        let line = events.lines().find(|l| l.contains(secret));
        assert!(line.is_none(), "{line:?}");
    }
}

/// A shell's loop that makes more short processes than the kernel keeps for a recorder that gets no CPU meanwhile.
pub(crate) const FORKS: &str = "i=0; while [ $i -lt 12000 ]; do (:); i=$((i+1)); done";

/// That processes were lost, and are told of.
fn assert_processes_lost(said: &str, trace: &std::path::Path) {
    assert!(said.contains("were lost"), "{said}");
    let info = run(["info", "--json", trace.to_str().unwrap()]).expect(0).json();
    assert!(info["lost"]["by_class"]["process"].as_u64().unwrap() > 0, "{info}");
    assert!(info["lost"]["by_cause"]["ring_full"].as_u64().unwrap() > 0, "{info}");
}

#[test]
fn more_loss_than_is_allowed_has_a_status_of_its_own() {
    if !can_record() {
        return;
    }
    let _host = shared();
    let dir = tempfile::tempdir().unwrap();
    for (allowed, status) in [("0.01%", 6), ("100%", 0)] {
        let script = format!("read go; {FORKS}");
        let mut target = Guarded::spawn(Command::new("sh").args(["-c", &script]).stdin(Stdio::piped()));
        let pid = target.0.id().to_string();
        let recording = Recording::start(&["-p", &pid, "--max-loss", allowed], &dir.path().join("x.ctr"));
        recording.process.signal(nix::sys::signal::Signal::SIGSTOP);
        // Its input ends, and so the wait for it.
        drop(target.0.stdin.take());
        target.0.wait().unwrap();
        recording.process.signal(nix::sys::signal::Signal::SIGCONT);
        let output = recording.output.clone();
        let (code, said) = recording.finish();
        assert_eq!(code, Some(status), "{said}");
        assert_processes_lost(&said, &output);
    }
}

#[test]
fn a_command_that_succeeds_does_not_hide_loss_and_one_that_fails_is_not_hidden_by_it() {
    if !can_record() {
        return;
    }
    let _host = shared();
    let dir = tempfile::tempdir().unwrap();
    let output = dir.path().join("x.ctr");
    for (command, status) in [(0, 6), (3, 3)] {
        let script = format!("kill -STOP $PPID; {FORKS}; kill -CONT $PPID; exit {command}");
        let path = output.to_str().unwrap();
        let recorded =
            run(["record", "--json", "--max-loss", "0.01%", "-o", path, "--", "sh", "-c", &script])
                .expect(status);
        assert_processes_lost(&recorded.stderr, &output);
        assert!(recorded.stderr.contains("more than --max-loss allows (0.01 %)"), "{}", recorded.stderr);
        let summary = recorded.json();
        assert_eq!(
            (&summary["loss_ok"], &summary["command_status"]),
            (&false.into(), &(command << 8).into())
        );
    }
}
