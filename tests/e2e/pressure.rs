//! Recorded pressure comes back in a replay: throttling by a quota, memory, and a slow disk. Nothing of it stays.

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

/// An ext4 of a test's own on a loop device: a limit on that device is nobody else's.
struct SlowDisk {
    device: String,
    at: PathBuf,
    numbers: String,
}

impl SlowDisk {
    /// `None`, said: this host makes none.
    fn make(directory: &Path) -> Option<Self> {
        let told = |program: &str, args: &[&str]| {
            let output = std::process::Command::new(program).args(args).output().ok()?;
            output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
        };
        let (image, at) = (directory.join("image"), directory.join("slow"));
        fs::File::create(&image).unwrap().set_len(64 << 20).unwrap();
        fs::create_dir(&at).unwrap();
        let image = image.to_str().unwrap();
        // A journal's thread would wait in place of the program.
        let made = told("/sbin/mkfs.ext4", &["-q", "-O", "^has_journal", image])
            .and_then(|_| told("/sbin/losetup", &["-f", "--show", image]));
        let Some(device) = made else {
            println!("skipped: no ext4 on a loop device");
            return None;
        };
        let mut disk = Self { numbers: String::new(), at, device };
        told("/bin/mount", &[&disk.device, disk.at.to_str().unwrap()]).unwrap();
        let name = disk.device.rsplit('/').next().unwrap();
        let numbers = fs::read_to_string(format!("/sys/block/{name}/dev")).unwrap();
        numbers.trim().clone_into(&mut disk.numbers);
        Some(disk)
    }
}

impl Drop for SlowDisk {
    fn drop(&mut self) {
        let run = |program: &str, arg: &[&str]| std::process::Command::new(program).args(arg).output();
        let _ = run("/bin/umount", &[self.at.to_str().unwrap()]);
        let _ = run("/sbin/losetup", &["-d", &self.device]);
    }
}

#[test]
fn who_waited_for_a_slow_disk_waits_again() {
    if !can_record() {
        return;
    }
    let _host = alone();
    let dir = tempfile::tempdir().unwrap();
    let Some(disk) = SlowDisk::make(dir.path()) else { return };
    let limit = format!("{} 300000", disk.numbers);
    let Some(group) = Group::make("blkio", &[("blkio.throttle.write_bps_device", &limit)]) else { return };
    // A short sync before each long one, another thread that syncs at the same time, and a file that came from elsewhere.
    let program = "
import os, threading, time
D = 'DIR/data'; os.makedirs(D); os.makedirs('DIR/new')
def write(name, times):
    f = os.open(D + '/' + name, os.O_CREAT | os.O_WRONLY)
    for i in range(times):
        os.fsync(f); os.write(f, b'x' * 24000); os.fsync(f); time.sleep(0.02)
t = threading.Thread(target=write, args=('a', 3)); t.start()
write('b', 5); t.join()
f = os.open('DIR/new/c', os.O_CREAT | os.O_WRONLY); os.write(f, b'x' * 30000); os.fdatasync(f)
os.rename('DIR/new/c', D + '/c')
";
    let trace = group.record(dir.path(), &program.replace("DIR", disk.at.to_str().unwrap()));
    let waits = |of: &Path| {
        let told = run(["events", of.to_str().unwrap(), "-e", "fsync,fdatasync", "--json"]).expect(0).stdout;
        let rows = told.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        let mut waits: Vec<(u64, u64)> = rows
            .filter(|row| row["name"] == "fsync" || row["name"] == "fdatasync")
            .map(|row| (row["t_ns"].as_u64().unwrap(), row["duration_ns"].as_u64().unwrap()))
            .collect();
        waits.sort_unstable();
        waits.into_iter().map(|(_, ns)| ns).collect::<Vec<u64>>()
    };
    let recorded: Vec<u64> = waits(&trace);
    let sum = |of: &[u64]| of.iter().sum::<u64>();
    assert!(sum(&recorded) > 500_000_000, "{recorded:?}");
    let outcome = replayed(&trace, "disk");
    let reached = outcome["pressure"]["by_kind"]["disk"]["reached"].as_u64().unwrap();
    assert!(reached > 200_000_000, "{outcome:#}");
    let again = waits(Path::new(outcome["replay_trace"].as_str().unwrap()));
    assert_eq!(recorded.len(), again.len());
    assert!(sum(&again) > sum(&recorded) / 2, "{recorded:?}, {again:?}");
    // Nobody waits for what others wait for: the short ones stay short in most cases, however busy the machine is.
    let long = |of: &[u64]| of.iter().filter(|ns| **ns > 30_000_000).count();
    assert!(long(&again) <= long(&recorded) + 2, "{recorded:?}, {again:?}");
    assert!(left().is_empty(), "{:?}", left());
    let loops = fs::read_dir("/sys/block").unwrap().flatten();
    let files = loops.filter_map(|at| fs::read_to_string(at.path().join("loop/backing_file")).ok());
    assert_eq!(files.filter(|file| file.contains("ctrace-disk")).count(), 0);
    // Without, nothing waits, which deviates.
    let outcome = run(["replay", trace.to_str().unwrap(), "--json", "--pressure", "off"]).json();
    let again = waits(Path::new(outcome["replay_trace"].as_str().unwrap()));
    assert!(sum(&again) < sum(&recorded) / 2, "{recorded:?}, {again:?}");
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
