//! Recorded pressure comes back in a replay: throttling by a quota, and memory. Nothing of it stays.

use crate::host::{alone, can_record, run, shared};
use crate::judged::{PYTHON, all_but_time_matches};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// A cgroup of version 1 of a test's own.
struct Group(PathBuf);

impl Group {
    /// `None`, said: this host has no such hierarchy, or lets nobody make a group in it.
    fn make(controller: &str, settings: &[(&str, &str)]) -> Option<Self> {
        let at = PathBuf::from(format!("/sys/fs/cgroup/{controller}/e2e-pressure-{}", std::process::id()));
        let made = fs::create_dir_all(&at)
            .and_then(|()| settings.iter().try_for_each(|(file, value)| fs::write(at.join(file), value)));
        match made {
            Ok(()) => Some(Self(at)),
            Err(error) => {
                println!("skipped: no cgroup of version 1 for {controller}: {error}");
                None
            }
        }
    }

    /// Records a Python program in it.
    fn record(&self, directory: &Path, program: &str) -> PathBuf {
        let trace = directory.join("x.ctr");
        let script = format!("echo $$ > {}/cgroup.procs && exec {PYTHON} -S -E -c \"$0\"", self.0.display());
        run(["record", "-o", trace.to_str().unwrap(), "--", "sh", "-c", &script, program]).expect(0);
        trace
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let deadline = Instant::now() + Duration::from_secs(5);
        while fs::remove_dir(&self.0).is_err() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

fn replayed(trace: &Path, pressure: &str) -> Value {
    let outcome = run(["replay", trace.to_str().unwrap(), "--json", "--pressure", pressure]).json();
    all_but_time_matches(&outcome["diff"]);
    assert_eq!(outcome["leftovers"], Value::Array(Vec::new()));
    outcome
}

/// Directories of replays that no longer run.
fn left() -> Vec<PathBuf> {
    let hierarchies = fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten();
    let all = hierarchies.flat_map(|at| fs::read_dir(at.path()).into_iter().flatten().flatten());
    // `ctrace-NAMESPACE-PID-START-ORDINAL` is of the process PID; others' replays may be under way.
    let is_over = |at: &PathBuf| {
        let name = at.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let parts: Vec<&str> = name.split('-').collect();
        matches!(parts.as_slice(), ["ctrace", _, pid, start, _]
            if start.parse::<u64>().is_ok() && !Path::new("/proc").join(pid).exists())
    };
    all.map(|entry| entry.path()).filter(is_over).collect()
}

/// The last value of a counter of the scope.
fn last(trace: &Path, metric: &str) -> Option<u64> {
    let events = run(["events", trace.to_str().unwrap(), "--class", "resource", "--json"]).expect(0);
    let rows = events.stdout.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    rows.filter(|row| row["metric"] == metric && row["subject"] == "scope")
        .filter_map(|row| row["value"].as_u64())
        .next_back()
}

#[test]
fn who_was_throttled_is_throttled_again() {
    if !can_record() {
        return;
    }
    let _host = alone();
    let settings = [("cpu.cfs_period_us", "100000"), ("cpu.cfs_quota_us", "20000")];
    let Some(group) = Group::make("cpu", &settings) else { return };
    let dir = tempfile::tempdir().unwrap();
    let trace = group.record(
        dir.path(),
        "import os, time\nend = time.monotonic() + 3\nwhile time.monotonic() < end: sum(range(20000)); os.stat('/')",
    );
    let told = run(["replay", trace.to_str().unwrap(), "--dry-run"]).expect(0).stdout;
    assert!(told.contains("CPU quota 20.0 of 100 ms"), "{told}");
    let outcome = replayed(&trace, "recorded");
    let cpu = &outcome["pressure"]["by_kind"]["cpu_throttled"];
    let (target, reached) = (cpu["target"].as_f64().unwrap(), cpu["reached"].as_f64().unwrap());
    assert!(target > 1e9, "{outcome:#}");
    assert!((reached - target).abs() < 0.25 * target, "{cpu}");
    let used = &outcome["pressure"]["by_kind"]["cpu"];
    let (wanted, had) = (used["target"].as_f64().unwrap(), used["reached"].as_f64().unwrap());
    assert!(wanted > 3e8 && (had - wanted).abs() < 0.4 * wanted, "{used}");
    // The recorder of the replay counts it as well.
    let replay = PathBuf::from(outcome["replay_trace"].as_str().unwrap());
    let counted = last(&replay, "cpu_throttled_ns").unwrap() as f64;
    assert!((counted - target).abs() < 0.3 * target, "{counted} of {target}");
    assert!(left().is_empty(), "{:?}", left());
    // Without, nobody is throttled.
    let outcome = replayed(&trace, "off");
    assert_eq!(outcome["pressure"]["by_kind"], serde_json::json!({}));
    assert_eq!(last(&replay, "cpu_throttled_ns"), None);
}

#[test]
fn memory_grows_again_and_holding_it_takes_no_time() {
    if !can_record() {
        return;
    }
    let _host = alone();
    let Some(group) = Group::make("memory", &[("memory.limit_in_bytes", "268435456")]) else { return };
    let dir = tempfile::tempdir().unwrap();
    let trace = group.record(
        dir.path(),
        "import time\nheld = []\nfor _ in range(20):\n  held.append(b'x' * (4 << 20)); time.sleep(0.1)",
    );
    let outcome = replayed(&trace, "memory");
    let memory = &outcome["pressure"]["by_kind"]["memory"];
    assert!(memory["target"].as_u64().unwrap() > 20 << 20, "{outcome:#}");
    assert!(memory["error"].as_f64().unwrap() < 0.25, "{memory}");
    assert!(outcome["pressure"]["by_kind"].get("cpu").is_none());
    let took = outcome["pressure"]["ballast_cpu_ns"].as_f64().unwrap();
    assert!(took < 0.2 * outcome["makespan_ns"].as_f64().unwrap(), "{took} ns");
    let replay = PathBuf::from(outcome["replay_trace"].as_str().unwrap());
    assert!(last(&replay, "rss_bytes").unwrap() > 40 << 20);
    assert!(left().is_empty(), "{:?}", left());
}

#[test]
fn a_replay_whose_presser_dies_says_so() {
    if !can_record() {
        return;
    }
    let _host = shared();
    let dir = tempfile::tempdir().unwrap();
    let trace = dir.path().join("x.ctr");
    let program = "import time\nfor _ in range(40): time.sleep(0.1)";
    run(["record", "-o", trace.to_str().unwrap(), "--", PYTHON, "-S", "-E", "-c", program]).expect(0);
    let replay = std::thread::spawn({
        let trace = trace.clone();
        move || run(["replay", trace.to_str().unwrap(), "--json"])
    });
    // The one whose recording ends when this trace's does: no other replay is under way in this test's directory.
    let deadline = Instant::now() + Duration::from_secs(60);
    let mut killed = false;
    while !killed && Instant::now() < deadline && !replay.is_finished() {
        for entry in fs::read_dir("/proc").unwrap().flatten() {
            let comm = fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
            let cmdline = fs::read(entry.path().join("cmdline")).unwrap_or_default();
            let is_ours = cmdline.windows(5).any(|w| w == b"x.ctr")
                && String::from_utf8_lossy(&cmdline).contains(trace.to_str().unwrap());
            if comm.trim() == "ctrace-press" && is_ours {
                // The gate has to be open for what is pressed to have begun.
                std::thread::sleep(Duration::from_secs(1));
                let pid = entry.file_name().to_str().unwrap().parse().unwrap();
                nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL)
                    .unwrap();
                killed = true;
            }
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let ran = replay.join().unwrap();
    if !killed {
        return println!("skipped: nothing presses here: {}", ran.stderr);
    }
    let outcome = ran.expect(3).json();
    assert_eq!(outcome["diff"]["verdict"], "inconclusive");
    assert_eq!(outcome["pressure"]["died"], true);
    assert!(outcome["diff"]["reasons"][0].as_str().unwrap().contains("presses"), "{outcome:#}");
    assert_eq!(outcome["leftovers"], Value::Array(Vec::new()));
}

#[test]
fn a_workload_that_computed_keeps_the_machine_busy_again() {
    if !can_record() {
        return;
    }
    let _host = alone();
    let dir = tempfile::tempdir().unwrap();
    let trace = dir.path().join("x.ctr");
    let program = "import os, time\nfor _ in range(10):\n  end = time.thread_time() + 0.08\n  while time.thread_time() < end: sum(range(5000))\n  os.stat('/'); time.sleep(0.1)";
    run(["record", "-o", trace.to_str().unwrap(), "--", PYTHON, "-S", "-E", "-c", program]).expect(0);
    let outcome = replayed(&trace, "cpu");
    let used = &outcome["pressure"]["by_kind"]["cpu"];
    let (target, reached) = (used["target"].as_f64().unwrap(), used["reached"].as_f64().unwrap());
    assert!(target > 7e8 && reached > 0.7 * target && reached < 1.3 * target, "{outcome:#}");
    // So does the diff, from the recording of the replay.
    let compared = outcome["diff"]["resources"].as_array().unwrap();
    let cpu = compared.iter().find(|one| one["name"] == "CPU").unwrap();
    assert!(cpu["warped_error"].as_f64().unwrap() < 0.5, "{cpu}");
}

#[test]
fn a_plan_presses_to_its_levels_or_says_why_not() {
    if !can_record() {
        return;
    }
    let _host = shared();
    let dir = tempfile::tempdir().unwrap();
    let (trace, plan) = (dir.path().join("x.ctr"), dir.path().join("plan.yaml"));
    let (trace, plan) = (trace.to_str().unwrap(), plan.to_str().unwrap());
    let program = "import os, time\nfor _ in range(20): os.stat('/'); time.sleep(0.1)";
    run(["record", "-o", trace, "--", PYTHON, "-S", "-E", "-c", program]).expect(0);
    let write = |pressure: &str| {
        fs::write(
            plan,
            format!("version: ctrace.faults/v1\nwindow: 500ms..1500ms\nfaults:\n- pressure: {pressure}\n"),
        )
        .unwrap();
    };
    write("{cpu: {throttled: 60%}, memory: {target: 48MiB}}");
    let checked = run(["plan", "check", trace, "--plan", plan]).expect(0).stdout;
    assert!(checked.starts_with("presses: "), "{checked}");
    assert!(checked.contains("throttled for 0.6 s of CPU time in 10 periods"), "{checked}");
    assert!(checked.contains("memory up to 48.0 MiB"), "{checked}");
    let outcome = run(["replay", trace, "--json", "--plan", plan]).json();
    all_but_time_matches(&outcome["diff"]);
    let by_kind = &outcome["pressure"]["by_kind"];
    assert_eq!(by_kind["cpu_throttled"]["target"], 600_000_000, "{by_kind}");
    assert!(by_kind["cpu_throttled"]["reached"].as_u64().unwrap() > 300_000_000, "{by_kind}");
    assert!(by_kind["memory"]["error"].as_f64().unwrap() < 0.25, "{by_kind}");
    // Neighbours take what is asked for, and the workload goes on.
    write("{cpu: {load: 50%}}");
    let outcome = run(["replay", trace, "--json", "--plan", plan]).json();
    all_but_time_matches(&outcome["diff"]);
    let neighbours = &outcome["pressure"]["by_kind"]["neighbours"];
    let (target, reached) = (neighbours["target"].as_f64().unwrap(), neighbours["reached"].as_f64().unwrap());
    assert!(target > 4e8 && reached > 0.3 * target && reached < 1.3 * target, "{neighbours}");
    for (pressure, why) in [
        ("{disk: {full: 99%}}", "in memory"),
        ("{fds: 8}", "inject EMFILE"),
        ("{memory: {target: 95% of limit}}", "has no memory limit"),
        ("{cpu: {quota: 2}}", "say throttled"),
    ] {
        write(pressure);
        let refused = run(["replay", trace, "--plan", plan]).expect(3);
        assert!(refused.stderr.contains(why), "{}", refused.stderr);
        let checked = run(["plan", "check", trace, "--plan", plan]).expect(3);
        assert!(format!("{}{}", checked.stdout, checked.stderr).contains(why), "{}", checked.stdout);
    }
}

#[test]
fn a_kind_that_there_is_not_is_refused() {
    let ran = run(["replay", "x.ctr", "--pressure", "cpu,disks"]);
    let ran = ran.expect(2);
    assert!(ran.stderr.contains("recorded, off, cpu, contention, memory, disk, pids"), "{}", ran.stderr);
}

#[test]
fn a_plan_for_whose_memory_there_is_no_room_is_refused() {
    if !can_record() {
        return;
    }
    let _host = shared();
    let dir = tempfile::tempdir().unwrap();
    let trace = dir.path().join("x.ctr");
    run(["record", "-o", trace.to_str().unwrap(), "--", "true"]).expect(0);
    let plan = dir.path().join("plan.yaml");
    for (memory, code, said) in [
        ("{target: 64GiB}", 2, "--max-memory 65536M"),
        ("{limit: 1KiB}", 3, "raise the limit of the plan"),
        ("{target: 90% of limit}", 3, "no memory limit to take a share of"),
    ] {
        let text = format!("version: ctrace.faults/v1\nfaults:\n- pressure: {{memory: {memory}}}\n");
        fs::write(&plan, text).unwrap();
        let refused = run(["replay", trace.to_str().unwrap(), "--plan", plan.to_str().unwrap()]).expect(code);
        assert!(refused.stderr.contains(said), "{memory}: {}", refused.stderr);
        assert!(!dir.path().join("x.replay.ctr").exists(), "{memory}");
    }
    assert!(left().is_empty(), "{:?}", left());
}
