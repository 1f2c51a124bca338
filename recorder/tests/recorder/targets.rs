//! Processes and cgroups that run already.

use crate::support::{Recorded, calls, config, start};
use ctrace_format::{Event, Metric, ProcessKind, SyscallFlags};
use ctrace_recorder::{Ended, RecordError, Recorder, Target};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::Duration;

fn waiting(folder: &Path, n: u64) -> (Child, PathBuf) {
    let go = folder.join("go");
    let child = Command::new(calls()).arg("wait-file").arg(&go).arg(n.to_string()).spawn().unwrap();
    (child, go)
}

fn check_child(r: &Recorded, n: usize) {
    assert_eq!(r.lost(), 0);
    assert_eq!(r.named("getppid").len(), 2 * n);
    let exits: Vec<u32> = r
        .processes()
        .iter()
        .filter_map(|p| if let ProcessKind::Exit { status, .. } = p.kind { Some(status) } else { None })
        .collect();
    assert_eq!(exits, [3 << 8, 0]);
}

#[test]
fn a_running_process_and_its_future_children_are_recorded_until_none_is_left() {
    let folder = tempfile::tempdir().unwrap();
    let (mut child, go) = waiting(folder.path(), 100);
    std::thread::sleep(Duration::from_millis(50));
    let Some(mut recording) = start(config(Target::Pid(child.id()), &folder.path().join("t.ctr"))) else {
        let _ = child.kill();
        return;
    };
    std::fs::write(&go, "").unwrap();
    assert_eq!(recording.wait(Duration::from_secs(20)), Some(Ended::TargetExited));
    let outcome = recording.stop(Ended::TargetExited.text()).unwrap();
    child.wait().unwrap();
    let r = Recorded::new(outcome, folder);
    check_child(&r, 100);
    let snapshot = r.trace.snapshot();
    assert_eq!(snapshot.processes.len(), 1);
    assert_eq!(snapshot.processes[0].tgid.0, child.id());
    assert!(!snapshot.processes[0].fds.is_empty() && !snapshot.processes[0].maps.is_empty());
    // It slept when recording began.
    let first = &r.calls()[0];
    assert!(first.flags == SyscallFlags::NO_ENTER || first.t_ns > 0);
}

#[test]
fn samples_and_clock_readings_are_on_the_timeline() {
    let folder = tempfile::tempdir().unwrap();
    let (mut child, _) = waiting(folder.path(), 1);
    let Some(mut recording) = start(config(Target::Pid(child.id()), &folder.path().join("t.ctr"))) else {
        let _ = child.kill();
        return;
    };
    assert_eq!(recording.wait(Duration::from_millis(1300)), None);
    let outcome = recording.stop("interrupted").unwrap();
    let _ = child.kill();
    let _ = child.wait();
    let r = Recorded::new(outcome, folder);
    assert_eq!(r.outcome.summary.ended, "interrupted");
    let events = r.events();
    let anchors = events.iter().filter(|e| matches!(e, Event::Anchor(_))).count();
    assert!((1..=3).contains(&anchors), "{anchors}");
    let rss = events.iter().filter(
        |e| matches!(e, Event::Resource(s) if s.subject == 1 && s.metric == Metric::RssBytes && s.value > 0),
    );
    assert!(rss.count() >= 3);
}

fn in_cgroup(group: &Path) {
    if std::fs::create_dir(group).is_err() {
        eprintln!("skipped: cannot make {}", group.display());
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (mut inside, go) = waiting(folder.path(), 50);
    let other = tempfile::tempdir().unwrap();
    let (mut outside, _) = waiting(other.path(), 50);
    // v1 cpusets need their CPUs first; the controllers used here need nothing.
    std::fs::write(group.join("cgroup.procs"), inside.id().to_string()).unwrap();
    let recording = start(config(Target::Cgroup(group.to_owned()), &folder.path().join("t.ctr")));
    if let Some(recording) = recording {
        // One that joins while the recording runs.
        let late_folder = tempfile::tempdir().unwrap();
        let (mut late, late_go) = waiting(late_folder.path(), 50);
        std::fs::write(group.join("cgroup.procs"), late.id().to_string()).unwrap();
        std::fs::write(&go, "").unwrap();
        std::fs::write(&late_go, "").unwrap();
        inside.wait().unwrap();
        late.wait().unwrap();
        let outcome = recording.stop("interrupted").unwrap();
        let r = Recorded::new(outcome, folder);
        assert_eq!(r.lost(), 0);
        assert_eq!(r.named("getppid").len(), 200);
        assert!(r.calls().iter().all(|c| r.tid(c) != outside.id()));
        assert_eq!(r.trace.snapshot().processes.len(), 1);
    }
    let _ = inside.kill();
    let _ = inside.wait();
    let _ = outside.kill();
    let _ = outside.wait();
    let _ = std::fs::remove_dir(group);
}

fn mount(kind: &str, option: &str) -> Option<PathBuf> {
    let mounts = std::fs::read_to_string("/proc/self/mounts").ok()?;
    mounts.lines().find_map(|l| {
        let f: Vec<&str> = l.split(' ').collect();
        (f[2] == kind && (option.is_empty() || f[3].split(',').any(|o| o == option)))
            .then(|| PathBuf::from(f[1]))
    })
}

#[test]
fn a_v2_cgroup_is_recorded_with_what_joins_it() {
    match mount("cgroup2", "") {
        Some(at) => in_cgroup(&at.join(format!("ctrace-test-{}", std::process::id()))),
        None => eprintln!("skipped: no cgroup v2 is mounted"),
    }
}

#[test]
fn a_v1_cgroup_is_recorded_with_what_joins_it() {
    match mount("cgroup", "pids").or_else(|| mount("cgroup", "memory")) {
        Some(at) => in_cgroup(&at.join(format!("ctrace-test-{}", std::process::id()))),
        None => eprintln!("skipped: no cgroup v1 is mounted"),
    }
}

#[test]
fn a_target_that_is_not_there_is_named() {
    let out = tempfile::tempdir().unwrap();
    let missing = Recorder::start(config(Target::Pid(4_000_000), &out.path().join("t.ctr")));
    assert!(matches!(missing, Err(RecordError::TargetNotFound { .. })));
    let missing = Recorder::start(config(Target::Cgroup("no/such/group".into()), &out.path().join("t.ctr")));
    assert!(matches!(missing, Err(RecordError::TargetNotFound { .. })));
    assert_eq!(std::fs::read_dir(out.path()).unwrap().count(), 0);
}

#[test]
fn a_zombie_has_ended_before_the_recording() {
    let out = tempfile::tempdir().unwrap();
    let mut child = Command::new("true").spawn().unwrap();
    std::thread::sleep(Duration::from_millis(200));
    let result = Recorder::start(config(Target::Pid(child.id()), &out.path().join("t.ctr")));
    assert!(matches!(result, Err(RecordError::TargetExited { .. })));
    child.wait().unwrap();
}
