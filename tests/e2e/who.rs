//! Who did it: senders of signals, ends of processes, the limit that a kill was for, who came into a cgroup; and what is no
//! doing of the scope's.

use crate::host::{Guarded, Recording, can_record, cgroup2, has, run, shared, wait_for};
use nix::sys::signal::Signal;
use serde_json::Value;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

fn events(output: &Path) -> Vec<Value> {
    run(["events", "--json", output.to_str().unwrap()]).expect(0).json_lines()
}

fn of_type<'a>(events: &'a [Value], kind: &str) -> Vec<&'a Value> {
    events.iter().filter(|e| e["type"] == kind).collect()
}

/// Samples of a metric of the scope.
fn samples(events: &[Value], metric: &str) -> Vec<u64> {
    let of =
        events.iter().filter(|e| e["type"] == "resource" && e["subject"] == "scope" && e["metric"] == metric);
    of.map(|e| e["value"].as_u64().unwrap()).collect()
}

/// A cgroup of the test's own, removed when it ends.
struct Group(Vec<PathBuf>);

impl Group {
    fn new(folders: Vec<PathBuf>) -> Self {
        for folder in &folders {
            std::fs::create_dir(folder).unwrap();
        }
        Self(folders)
    }

    fn take(&self, pid: u32) {
        for folder in &self.0 {
            std::fs::write(folder.join("cgroup.procs"), pid.to_string()).unwrap();
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        for folder in &self.0 {
            for pid in std::fs::read_to_string(folder.join("cgroup.procs")).unwrap_or_default().lines() {
                if let Ok(pid) = pid.parse() {
                    // SAFETY: no pointers.
                    unsafe { libc::kill(pid, libc::SIGKILL) };
                }
            }
            for _ in 0..200 {
                if std::fs::remove_dir(folder).is_ok() {
                    break;
                }
                std::thread::sleep(std::time::Duration::from_millis(10));
            }
        }
    }
}

/// Where a controller's groups are: its v1 hierarchy, or v2's with the controller switched on. Says so when nowhere.
fn controller(name: &str) -> Option<PathBuf> {
    let v1 = Path::new("/sys/fs/cgroup").join(name);
    if v1.join("cgroup.procs").exists() {
        return Some(v1);
    }
    let v2 = cgroup2()?;
    let has = std::fs::read_to_string(v2.join("cgroup.subtree_control")).is_ok_and(|all| all.contains(name));
    if !has {
        println!("skipped: the {name} controller is not there");
    }
    has.then_some(v2)
}

fn unique(name: &str) -> String {
    format!("ctrace-{name}-{}", std::process::id())
}

#[test]
fn the_sender_of_a_signal_is_named_when_it_is_not_recorded() {
    if !can_record() {
        return;
    }
    let _host = shared();
    let dir = tempfile::tempdir().unwrap();
    let target = Guarded::spawn(Command::new("sleep").arg("1000"));
    let recording = Recording::start(&["-p", &target.0.id().to_string()], &dir.path().join("x.ctr"));
    target.signal(Signal::SIGSTOP);
    let stat = format!("/proc/{}/stat", target.0.id());
    wait_for("stopped", || std::fs::read_to_string(&stat).unwrap().contains(") T "));
    target.signal(Signal::SIGCONT);
    wait_for("goes on", || !std::fs::read_to_string(&stat).unwrap().contains(") T "));
    target.signal(Signal::SIGTERM);
    let output = recording.output.clone();
    let (code, said) = recording.finish();
    assert_eq!(code, Some(0), "{said}");
    let all = events(&output);
    let own = std::fs::read_to_string("/proc/thread-self/comm").unwrap();
    for signal in ["SIGSTOP", "SIGCONT", "SIGTERM"] {
        let sent: Vec<_> = of_type(&all, "signal")
            .into_iter()
            .filter(|e| e["signal"] == signal && e["delivered"] == false)
            .collect();
        assert_eq!(sent.len(), 1, "{signal}: {sent:?}");
        assert_eq!(sent[0]["sender_pid"], std::process::id(), "{}", sent[0]);
        assert_eq!(sent[0]["sender_comm"], own.trim_end(), "{}", sent[0]);
        assert_eq!((&sent[0]["sender_outside"], &sent[0]["sender_tid"]), (&true.into(), &Value::Null));
    }
    let text = run(["events", output.to_str().unwrap()]).expect(0).stdout;
    let words = format!("SIGCONT sent from {}[{}] outside", own.trim_end(), std::process::id());
    assert!(text.contains(&words), "{text}");
    let exit = of_type(&all, "process").into_iter().find(|e| e["kind"] == "exit").unwrap();
    assert_eq!((&exit["signal"], &exit["core_dumped"]), (&"SIGTERM".into(), &false.into()), "{exit}");
}

#[test]
fn a_stop_and_its_end_are_told_with_the_task_that_did_it() {
    if !can_record() {
        return;
    }
    let _host = shared();
    let dir = tempfile::tempdir().unwrap();
    let output = dir.path().join("x.ctr");
    let script = "sleep 1000 & kill -STOP $!; kill -CONT $!; kill -KILL $!; wait";
    run(["record", "-o", output.to_str().unwrap(), "--", "sh", "-c", script]);
    let all = events(&output);
    for signal in ["SIGSTOP", "SIGCONT", "SIGKILL"] {
        let sent =
            of_type(&all, "signal").into_iter().find(|e| e["signal"] == signal && e["delivered"] == false);
        let sent = sent.unwrap_or_else(|| panic!("no {signal}"));
        assert_eq!((&sent["sender_comm"], &sent["sender_outside"]), (&"sh".into(), &false.into()), "{sent}");
        assert_eq!(sent["sender_tid"], sent["sender_pid"], "{sent}");
    }
    // The child that ended is recorded, too.
    let child = of_type(&all, "signal").into_iter().find(|e| e["signal"] == "SIGCHLD").expect("no SIGCHLD");
    assert_eq!(child["sender_outside"], false, "{child}");
}

#[test]
fn an_end_says_whether_there_is_a_core() {
    if !can_record() {
        return;
    }
    let _host = shared();
    let dir = tempfile::tempdir().unwrap();
    let script = "ulimit -c unlimited; kill -SEGV $$";
    let alone = Command::new("sh").args(["-c", script]).current_dir(dir.path()).status().unwrap();
    let output = dir.path().join("x.ctr");
    let recorded = crate::host::ctrace()
        .args(["record", "-o", output.to_str().unwrap(), "--", "sh", "-c", script])
        .current_dir(dir.path())
        .output();
    assert_eq!(recorded.unwrap().status.code(), Some(128 + libc::SIGSEGV));
    let all = events(&output);
    let exit = of_type(&all, "process").into_iter().rfind(|e| e["kind"] == "exit").unwrap();
    assert_eq!((&exit["signal"], &exit["exit_code"]), (&"SIGSEGV".into(), &Value::Null), "{exit}");
    assert_eq!(exit["core_dumped"], alone.core_dumped(), "{exit}");
}

#[test]
fn an_oom_kill_is_told_with_the_limit_and_the_growth() {
    if !can_record() || !has(&["tail"]) {
        return;
    }
    let Some(memory) = controller("memory") else { return };
    let _host = shared();
    let dir = tempfile::tempdir().unwrap();
    let name = unique("oom");
    // The innermost group has no limit; the one above it has.
    let folder = memory.join(&name);
    let group = Group::new(vec![folder.clone()]);
    let limit = 24_u64 << 20;
    for file in ["memory.limit_in_bytes", "memory.max"] {
        if folder.join(file).exists() {
            std::fs::write(folder.join(file), limit.to_string()).unwrap();
        }
    }
    let _ = std::fs::write(folder.join("memory.swap.max"), "0");
    let join = format!("echo $$ > {}/cgroup.procs; sleep 0.5; exec tail /dev/zero", folder.display());
    for with_group in [false, true] {
        let output = dir.path().join(format!("{with_group}.ctr"));
        if with_group {
            let recording = Recording::start(&["--cgroup", folder.to_str().unwrap()], &output);
            Command::new("sh").args(["-c", &join]).status().unwrap();
            recording.end();
        } else {
            run(["record", "-o", output.to_str().unwrap(), "--", "sh", "-c", &join]).expect(137);
        }
        let all = events(&output);
        let kills: Vec<_> =
            of_type(&all, "process").into_iter().filter(|e| e["kind"] == "oom_kill").collect();
        assert_eq!(kills.len(), 1, "{with_group}: {kills:?}");
        let kill = kills[0];
        assert_eq!(kill["comm"], "tail", "{kill}");
        assert_eq!(kill["limit"]["cgroup"], format!("/{name}"), "{kill}");
        assert_eq!(kill["limit"]["limit_bytes"], limit, "{kill}");
        let used = kill["limit"]["usage_bytes"].as_u64().unwrap();
        assert!((limit * 9 / 10..=limit).contains(&used), "{kill}");
        assert!(kill["rss_bytes"].as_u64().unwrap() > limit / 2, "{kill}");
        // What there was before it grew.
        let before = samples(&all, if with_group { "memory_bytes" } else { "rss_bytes" });
        assert!(before.iter().any(|bytes| *bytes > 0 && *bytes < limit / 2), "{with_group}: {before:?}");
        assert!(samples(&all, "memory_limit_bytes").contains(&limit), "{with_group}");
    }
    drop(group);
}

#[test]
fn what_the_recorder_is_before_it_becomes_the_command_is_not_sampled() {
    if !can_record() {
        return;
    }
    let _host = shared();
    let dir = tempfile::tempdir().unwrap();
    for (i, command) in ["true", "true", "true", "true", "sleep 0.4"].into_iter().enumerate() {
        let output = dir.path().join(format!("{i}.ctr"));
        let mut args = vec!["record", "-o", output.to_str().unwrap(), "--"];
        args.extend(command.split(' '));
        run(args).expect(0);
        let all = events(&output);
        let (rss, fds) = (samples(&all, "rss_bytes"), samples(&all, "open_fds"));
        assert!(rss.iter().all(|bytes| (1..8 << 20).contains(bytes)), "{command}: {rss:?}");
        assert!(fds.iter().all(|count| (1..=16).contains(count)), "{command}: {fds:?}");
        assert!(samples(&all, "pids").iter().all(|tasks| *tasks == 1));
        assert!(command == "true" || rss.len() >= 2, "{rss:?}");
    }
}

#[test]
fn counters_of_the_hosts_network_are_the_hosts() {
    if !can_record() {
        return;
    }
    let _host = shared();
    let dir = tempfile::tempdir().unwrap();
    let output = dir.path().join("x.ctr");
    run(["record", "-o", output.to_str().unwrap(), "--", "sleep", "0.7"]).expect(0);
    let all = events(&output);
    for metric in ["listen_overflows", "listen_drops", "tcp_retransmits", "net_dropped", "net_received_bytes"]
    {
        assert_eq!(samples(&all, metric), [0; 0], "{metric}");
        let hosts = |e: &&Value| e["subject"] == "host" && e["metric"] == metric;
        assert!(all.iter().any(|e| hosts(&e)), "{metric}");
    }
    // It has no socket, whatever the host has.
    assert!(samples(&all, "tcp_listen").iter().all(|n| *n == 0));
}

#[test]
fn throttling_is_found_where_the_controller_is() {
    if !can_record() {
        return;
    }
    let (Some(cpu), Some(v2)) = (controller("cpu"), cgroup2()) else { return };
    let _host = shared();
    let dir = tempfile::tempdir().unwrap();
    let name = unique("throttled");
    let mut folders = vec![v2.join(&name)];
    if cpu != v2 {
        folders.push(cpu.join(&name));
    }
    let group = Group::new(folders);
    let quota = cpu.join(&name);
    if quota.join("cpu.cfs_quota_us").exists() {
        std::fs::write(quota.join("cpu.cfs_quota_us"), "10000").unwrap();
    } else {
        std::fs::write(quota.join("cpu.max"), "10000 100000").unwrap();
    }
    let busy = Guarded::spawn(Command::new("sh").args(["-c", "while :; do :; done"]));
    group.take(busy.0.id());
    let output = dir.path().join("x.ctr");
    let at = v2.join(&name);
    run(["record", "--cgroup", at.to_str().unwrap(), "--duration", "1500ms", "-o", output.to_str().unwrap()])
        .expect(0);
    let all = events(&output);
    let throttled = samples(&all, "cpu_throttled_ns");
    assert!(throttled.last().is_some_and(|ns| *ns > 0), "{throttled:?}");
    assert!(samples(&all, "cpu_throttled_periods").last().is_some_and(|n| *n > 0));
    assert!(samples(&all, "cpu_periods").last().is_some_and(|n| *n > 0));
}

/// What is told of where a process came from, first and last.
fn origins(events: &[Value], tgid: u32) -> Vec<String> {
    let of = |e: &&Value| e["type"] == "process" && e["kind"] == "origin" && e["tgid"] == tgid;
    events.iter().filter(of).map(|e| e["origin"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn who_came_into_a_cgroup_from_outside_is_told_from_what_runs_in_it() {
    if !can_record() {
        return;
    }
    let Some(v2) = cgroup2() else { return };
    let _host = shared();
    let dir = tempfile::tempdir().unwrap();
    let group = Group::new(vec![v2.join(unique("origin"))]);
    let at = group.0[0].to_str().unwrap().to_owned();
    let output = dir.path().join("x.ctr");
    let recording = Recording::start(&["--cgroup", &at], &output);
    // A runtime prepares: it comes in, works a little, and becomes the application, which has a child.
    let start =
        format!("echo $$ > {at}/cgroup.procs; stat / >/dev/null; exec sh -c 'sleep 1000 & cat; kill $!'");
    let mut application = Guarded::spawn(Command::new("sh").args(["-c", &start]).stdin(Stdio::piped()));
    let in_it = || std::fs::read_to_string(format!("{at}/cgroup.procs")).unwrap_or_default();
    wait_for("the application and its children", || in_it().lines().count() == 3);
    let inside: Vec<u32> = in_it().lines().filter_map(|pid| pid.parse().ok()).collect();
    // Somebody looks in.
    let look = format!("echo $$ > {at}/cgroup.procs; cat /proc/self/status >/dev/null; true");
    let mut visitor = Guarded::spawn(Command::new("sh").args(["-c", &look]));
    visitor.0.wait().unwrap();
    drop(application.0.stdin.take());
    application.0.wait().unwrap();
    recording.end();
    let all = events(&output);
    let (visitor, application) = (visitor.0.id(), application.0.id());
    assert!(!origins(&all, visitor).is_empty() && origins(&all, visitor).iter().all(|o| o == "outside"));
    let child = of_type(&all, "process").into_iter().find(|e| e["kind"] == "fork" && e["tgid"] == visitor);
    let child = child.unwrap()["child_tgid"].as_u64().unwrap() as u32;
    assert!(origins(&all, child).iter().all(|o| o == "outside") && !origins(&all, child).is_empty());
    // The runtime's part ends where its first program begins.
    assert!(origins(&all, application).iter().all(|o| o == "runtime"), "{:?}", origins(&all, application));
    let at = |kind: &str| {
        let of = |e: &&Value| e["type"] == "process" && e["kind"] == kind && e["tgid"] == application;
        all.iter().filter(of).map(|e| e["t_ns"].as_u64().unwrap()).collect::<Vec<_>>()
    };
    assert!(at("origin").iter().max() < at("exec").iter().max(), "{:?} {:?}", at("origin"), at("exec"));
    for pid in inside.into_iter().filter(|pid| *pid != application) {
        assert_eq!(origins(&all, pid), [""; 0], "{pid}");
    }
    let info = run(["info", "--json", output.to_str().unwrap()]).expect(0).json();
    assert!(info["blind"].to_string().contains("nsenter"), "{}", info["blind"]);
}

#[test]
fn a_recorder_that_is_killed_at_once_leaves_what_was_done_first() {
    if !can_record() {
        return;
    }
    let _host = shared();
    let dir = tempfile::tempdir().unwrap();
    let target = Guarded::spawn(Command::new("sh").args(["-c", "while :; do sleep 0.02; done"]));
    let mut recording = Recording::start(&["-p", &target.0.id().to_string()], &dir.path().join("x.ctr"));
    let partial = dir.path().join("x.ctr.partial");
    let calls = || {
        let info = run(["info", "--json", partial.to_str().unwrap()]);
        if info.code == Some(0) { info.json()["events"]["syscalls"].as_u64().unwrap_or(0) } else { 0 }
    };
    wait_for("calls in the file", || calls() > 0);
    recording.process.0.kill().unwrap();
    recording.process.0.wait().unwrap();
    let info = run(["info", "--json", partial.to_str().unwrap()]).expect(0).json();
    assert_eq!(info["complete"], false);
    assert!(info["events"]["syscalls"].as_u64().unwrap() > 0, "{info}");
}
