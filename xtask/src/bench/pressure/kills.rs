//! Replays that press and inject, killed at random moments.

use super::group::{Group, Limit};
use super::{Bench, PATIENCE, PYTHON};
use crate::bench::figure::{Goal, Line, Unit, progress};
use crate::bench::process::Owned;
use anyhow::Result;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// How long the process that cleans up after a killed ctrace may take.
const CLEAN: Duration = Duration::from_secs(15);
/// Moments are within a replay's whole life, ms.
const WITHIN_MS: u64 = 2500;

const PROGRAM: &str = "import os, time\n\
    held = []\n\
    for i in range(20):\n\
    \x20 held.append(b'x' * (2 << 20))\n\
    \x20 end = time.monotonic() + 0.1\n\
    \x20 while time.monotonic() < end: sum(range(20000)); os.stat('/')\n";

/// What a replay has on the host: cgroups, processes of its engine, loop devices and mounts.
fn of_replays() -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut directories = vec![(Path::new("/sys/fs/cgroup").to_owned(), 0)];
    while let Some((at, depth)) = directories.pop() {
        for entry in fs::read_dir(&at).into_iter().flatten().flatten() {
            if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                continue;
            }
            if entry.file_name().to_string_lossy().starts_with("ctrace-") {
                found.insert(format!("cgroup {}", entry.path().display()));
            } else if depth < 4 {
                directories.push((entry.path(), depth + 1));
            }
        }
    }
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let comm = fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
        if comm.starts_with("ctrace") {
            found.insert(format!("process {} {}", entry.file_name().display(), comm.trim()));
        }
    }
    for entry in fs::read_dir("/sys/block").into_iter().flatten().flatten() {
        if entry.path().join("loop/backing_file").exists() {
            found.insert(format!("loop device {}", entry.file_name().display()));
        }
    }
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    found.extend(mounts.lines().filter(|line| line.contains("ctrace")).map(|line| format!("mount {line}")));
    found
}

pub(super) fn measure(bench: &Bench<'_>) -> Result<Line> {
    let began = Instant::now();
    let trace = bench.file("kill.ctr");
    let limits = [Limit::CpuQuota(40_000), Limit::Memory(256 << 20)];
    let group = Group::make(&limits, "")?;
    let script = format!("{}exec {PYTHON} -S -E -c \"$0\"", group.enter());
    bench.record(&trace, &["sh", "-c", &script, PROGRAM])?;
    drop(group);
    let before = of_replays();
    let mut left = Vec::new();
    let mut word = bench.args.seed | 1 << 63;
    for _ in 0..bench.args.kills {
        // Xorshift (Marsaglia 2003).
        word ^= word << 13;
        word ^= word >> 7;
        word ^= word << 17;
        let mut command = Command::new(&bench.ctrace);
        command.args(["replay", "--force", "-o"]).arg(bench.file("kill.replay.ctr")).arg(&trace);
        command.args(["--inject", "%%stat:error=EIO:prob=0.1", "--inject", "%%stat:delay_exit=1ms:prob=0.1"]);
        let replay = Owned::spawn(command.stdout(Stdio::null()).stderr(Stdio::null()))?;
        std::thread::sleep(Duration::from_millis(word % WITHIN_MS));
        replay.signal(libc::SIGKILL);
        replay.wait_for(PATIENCE, "a killed replay")?;
        let until = Instant::now() + CLEAN;
        let mut now = of_replays();
        while now.difference(&before).next().is_some() && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(20));
            now = of_replays();
        }
        left.extend(now.difference(&before).cloned());
    }
    progress("kills", began);
    let name = "leftovers of replays that are killed while they press and inject";
    let mut beside = format!(
        "{} replays, killed within {WITHIN_MS} ms; cgroups, processes, loop devices, mounts",
        bench.args.kills
    );
    if let Some(first) = left.first() {
        beside = format!("{beside}; the first: {first}");
    }
    Ok(Line::new(name, Unit::Count, Goal::AtMost(0.0), left.len() as f64).beside(beside))
}
