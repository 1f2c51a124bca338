//! Interruptions, full disks and kills leave a readable trace and nothing else.

use crate::host::{
    Belongings, Guarded, Recording, alone, can_record, ctrace, expect_nothing_left, has, run, wait_for,
};
use nix::sys::signal::Signal;
use std::path::Path;
use std::process::{Command, Stdio};

/// A process that makes calls without end.
fn busy() -> Guarded {
    Guarded::spawn(
        Command::new("dd")
            .args(["if=/dev/zero", "of=/dev/null", "bs=1"])
            .stdout(Stdio::null())
            .stderr(Stdio::null()),
    )
}

#[test]
fn a_killed_recorder_leaves_a_trace_that_opens_and_nothing_in_the_kernel() {
    if !can_record() {
        return;
    }
    let _host = alone();
    let before = Belongings::now();
    let dir = tempfile::tempdir().unwrap();
    let target = busy();
    let output = dir.path().join("x.ctr");
    let recording = Recording::start(&["-p", &target.0.id().to_string()], &output);
    let partial = dir.path().join("x.ctr.partial");
    wait_for("chunks on disk", || std::fs::metadata(&partial).is_ok_and(|m| m.len() > 100_000));
    recording.process.signal(Signal::SIGKILL);
    recording.finish();
    drop(target);
    expect_nothing_left(&before);
    assert!(!output.exists());
    let info = run(["info".as_ref(), "--json".as_ref(), partial.as_os_str()]).expect(0).json();
    assert_eq!(info["complete"], false);
    assert!(info["events"]["syscalls"].as_u64().unwrap() > 0, "{info}");
    run(["events".as_ref(), "--limit".as_ref(), "10".as_ref(), partial.as_os_str()]).expect(0);
    let repaired = dir.path().join("repaired.ctr");
    run(["repair".as_ref(), partial.as_os_str(), "-o".as_ref(), repaired.as_os_str()]).expect(0);
    run(["verify".as_ref(), repaired.as_os_str()]).expect(0);
}

/// The process that has a file open.
fn holder(file: &Path) -> Option<i32> {
    let all = std::fs::read_dir("/proc").unwrap().flatten();
    let mut all = all.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    all.find(|pid| {
        let open = std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
        open.filter_map(|fd| std::fs::read_link(fd.path()).ok()).any(|at| at == file)
    })
}

#[test]
fn a_recorder_whose_writer_is_killed_says_so_and_what_was_written_stays() {
    if !can_record() {
        return;
    }
    let _host = alone();
    let before = Belongings::now();
    let dir = tempfile::tempdir().unwrap();
    let target = busy();
    let output = dir.path().join("x.ctr");
    let recording = Recording::start(&["-p", &target.0.id().to_string()], &output);
    let partial = dir.path().join("x.ctr.partial");
    wait_for("chunks on disk", || std::fs::metadata(&partial).is_ok_and(|m| m.len() > 100_000));
    let writer = nix::unistd::Pid::from_raw(holder(&partial).unwrap());
    nix::sys::signal::kill(writer, Signal::SIGKILL).unwrap();
    let (code, said) = recording.finish();
    drop(target);
    assert_eq!(code, Some(74), "{said}");
    assert!(said.contains("the process that writes has ended"), "{said}");
    expect_nothing_left(&before);
    let info = run(["info".as_ref(), "--json".as_ref(), partial.as_os_str()]).expect(0).json();
    assert!(info["events"]["syscalls"].as_u64().unwrap() > 0, "{info}");
}

#[test]
fn a_second_ctrl_c_ends_at_once_with_a_valid_file() {
    if !can_record() {
        return;
    }
    let _host = alone();
    let before = Belongings::now();
    let dir = tempfile::tempdir().unwrap();
    let target = busy();
    let output = dir.path().join("x.ctr");
    let recording = Recording::start(&["-p", &target.0.id().to_string()], &output);
    std::thread::sleep(std::time::Duration::from_millis(500));
    recording.process.signal(Signal::SIGINT);
    recording.process.signal(Signal::SIGINT);
    let (code, said) = recording.finish();
    assert!(matches!(code, Some(0 | 130)), "{code:?}: {said}");
    drop(target);
    expect_nothing_left(&before);
    let left = if output.exists() { output } else { dir.path().join("x.ctr.partial") };
    run(["info".as_ref(), left.as_os_str()]).expect(0);
}

#[test]
fn a_full_disk_finalises_what_is_there_and_says_so() {
    if !can_record() || !has(&["mount", "umount"]) {
        return;
    }
    let _host = alone();
    let before = Belongings::now();
    let dir = tempfile::tempdir().unwrap();
    let mounted = Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=256k", "none"])
        .arg(dir.path())
        .status()
        .unwrap();
    if !mounted.success() {
        println!("skipped: this host cannot mount a tmpfs");
        return;
    }
    let target = busy();
    let output = dir.path().join("x.ctr");
    let recording = Recording::start(&["-p", &target.0.id().to_string()], &output);
    let (code, said) = recording.finish();
    drop(target);
    let left = if output.exists() { output } else { dir.path().join("x.ctr.partial") };
    let info = run(["info".as_ref(), "--json".as_ref(), left.as_os_str()]);
    let unmounted = Command::new("umount").arg(dir.path()).status().unwrap();
    assert!(unmounted.success());
    assert!(code.is_some_and(|c| c != 0), "a full disk is no success: {said}");
    assert!(said.to_lowercase().contains("no space"), "{said}");
    let info = info.expect(0).json();
    assert!(info["events"]["syscalls"].as_u64().unwrap() > 0, "{info}");
    expect_nothing_left(&before);
}

#[test]
fn a_killed_replayer_leaves_nothing() {
    if !can_record() {
        return;
    }
    let _host = alone();
    let dir = tempfile::tempdir().unwrap();
    let trace = dir.path().join("x.ctr");
    let script = "for i in 1 2 3; do sleep 5 & done; wait";
    run(["record", "-o", trace.to_str().unwrap(), "--duration", "20s", "--", "sh", "-c", script]).expect(0);
    let before = Belongings::now();
    let mut command = ctrace();
    command.args(["replay".as_ref(), trace.as_os_str(), "-o".as_ref(), dir.path().join("r.ctr").as_os_str()]);
    let replay = Guarded::spawn(command.stdout(Stdio::null()).stderr(Stdio::null()));
    wait_for("the sandbox", || Belongings::now().network_namespaces.len() > before.network_namespaces.len());
    std::thread::sleep(std::time::Duration::from_secs(1));
    replay.signal(Signal::SIGKILL);
    drop(replay);
    expect_nothing_left(&before);
}
