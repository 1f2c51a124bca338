//! Deterministic programs: the same calls, errors and order as `strace -f` reports.

use crate::support::{Recorded, record};
use ctrace_format::{SyscallFlags, syscalls};
use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

/// Per process in order of its first call: (call, errno) in order.
type Sequences = Vec<Vec<(String, Option<String>)>>;

/// Calls whose number depends on timing, addresses or the tracer, not on the program.
/// (`rt_sigreturn`: children that end together make one SIGCHLD or several.)
const LEFT_OUT: &[&str] =
    &["restart_syscall", "rt_sigreturn", "brk", "mprotect", "munmap", "madvise", "futex", "sched_yield"];

fn ours(r: &Recorded) -> Sequences {
    // tid → time of the first call, and (time, name, errno) of each.
    type Task = (u64, Vec<(u64, String, Option<String>)>);
    let mut by_task: BTreeMap<u32, Task> = BTreeMap::new();
    for call in r.calls() {
        let name = syscalls::name(call.sysno).unwrap_or("?").to_owned();
        let errno = call.errno().map(|e| ctrace_format::errno::name(e).unwrap_or("?").to_owned());
        let errno = if call.flags.contains(SyscallFlags::NO_EXIT) { None } else { errno };
        let entry = by_task.entry(r.tid(&call)).or_insert((call.t_ns, Vec::new()));
        entry.1.push((call.t_ns, name, errno));
    }
    let mut tasks: Vec<_> = by_task.into_values().collect();
    tasks.sort_by_key(|t| t.0);
    tasks
        .into_iter()
        .map(|(_, mut calls)| {
            calls.sort_by_key(|c| c.0);
            calls.into_iter().map(|(_, name, errno)| (name, errno)).filter(|c| keep(&c.0)).collect()
        })
        .collect()
}

fn keep(name: &str) -> bool {
    !LEFT_OUT.contains(&name)
}

/// Parses `strace -f -o FILE`: `PID name(…) = RET ERRNO (…)`, with unfinished and resumed halves.
fn theirs(text: &str) -> Sequences {
    let mut order = Vec::new();
    let mut tasks: BTreeMap<String, Vec<(String, Option<String>)>> = BTreeMap::new();
    let errno = |line: &str| {
        let (_, result) = line.rsplit_once(" = ")?;
        let rest = result.strip_prefix("-1 ")?;
        Some(rest.split(' ').next()?.to_owned())
    };
    for line in text.lines() {
        let Some((pid, rest)) = line.split_once(' ') else { continue };
        let rest = rest.trim_start();
        if rest.starts_with("+++") || rest.starts_with("---") {
            continue;
        }
        if !tasks.contains_key(pid) {
            order.push(pid.to_owned());
        }
        let calls = tasks.entry(pid.to_owned()).or_default();
        if let Some(resumed) = rest.strip_prefix("<... ") {
            let name = resumed.split(' ').next().unwrap_or_default();
            if let Some(call) = calls.iter_mut().rev().find(|c| c.0 == name) {
                call.1 = errno(rest);
            }
            continue;
        }
        let Some((name, _)) = rest.split_once('(') else { continue };
        calls.push((name.to_owned(), errno(rest)));
    }
    order
        .into_iter()
        .filter_map(|pid| tasks.remove(&pid))
        .map(|calls| calls.into_iter().filter(|c| keep(&c.0)).collect())
        .collect()
}

fn counts(sequences: &Sequences) -> BTreeMap<(String, Option<String>), usize> {
    let mut counts = BTreeMap::new();
    for call in sequences.iter().flatten() {
        *counts.entry(call.clone()).or_default() += 1;
    }
    counts
}

/// Runs a command under both. `prepare` puts the working folder into its first state before each run.
fn compare(name: &str, argv: &[&str], prepare: impl Fn(&Path), sequences: bool) {
    if Command::new("strace").arg("-V").output().is_err() {
        eprintln!("skipped: strace is not installed");
        return;
    }
    if Command::new("sh")
        .args(["-c", &format!("command -v {}", argv[0])])
        .output()
        .is_ok_and(|o| !o.status.success())
    {
        eprintln!("skipped: {} is not installed", argv[0]);
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let work = folder.path().join("work");
    let fresh = || {
        let _ = std::fs::remove_dir_all(&work);
        std::fs::create_dir(&work).unwrap();
        prepare(&work);
    };
    // Both runs happen in a shell's folder, with the same shell in front, and from the same state.
    let script = format!("cd {} && exec \"$@\" </dev/null >/dev/null 2>&1", work.display());
    let mut command = vec!["/bin/sh", "-c", script.as_str(), "sh"];
    command.extend(argv);
    fresh();
    let log = folder.path().join("strace.txt");
    let status = Command::new("strace").args(["-f", "-o"]).arg(&log).args(&command).output().unwrap();
    let theirs = theirs(&std::fs::read_to_string(&log).unwrap());
    fresh();
    let Some(r) = record(&command) else { return };
    assert_eq!(r.outcome.command_status.map(|s| s >> 8), status.status.code(), "{name}");
    assert_eq!(r.lost(), 0, "{name}");
    let ours = ours(&r);
    let (a, b) = (counts(&ours), counts(&theirs));
    let differ: Vec<_> = a
        .keys()
        .chain(b.keys())
        .filter(|k| a.get(*k) != b.get(*k))
        .map(|k| format!("{k:?}: recorded {:?}, strace {:?}", a.get(k), b.get(k)))
        .collect();
    assert!(differ.is_empty(), "{name}: {differ:#?}");
    if sequences {
        assert_eq!(ours.len(), theirs.len(), "{name}: tasks");
        for (i, (o, t)) in ours.iter().zip(&theirs).enumerate() {
            let at = o.iter().zip(t).position(|(o, t)| o != t);
            assert!(o.len() == t.len() && at.is_none(), "{name}: task {i} differs at {at:?}");
        }
    }
}

fn files(work: &Path) {
    for i in 0..20 {
        std::fs::create_dir_all(work.join(format!("d{}", i % 4))).unwrap();
        std::fs::write(work.join(format!("d{}/f{i}", i % 4)), format!("line {i}\n").repeat(100)).unwrap();
    }
}

#[test]
fn find_makes_the_calls_that_strace_sees() {
    compare("find", &["find", ".", "-type", "f"], files, true);
}

#[test]
fn tar_makes_the_calls_that_strace_sees() {
    compare("tar", &["tar", "--sort=name", "-cf", "out.tar", "d0", "d1"], files, true);
}

#[test]
fn git_makes_the_calls_that_strace_sees() {
    compare(
        "git",
        &["git", "--no-optional-locks", "status", "--porcelain"],
        |work| {
            files(work);
            // Files as new as the index would be read again, or not, by the clock ("racy git").
            let touch = "find . -type f -exec touch -d 2020-01-01 {} +";
            Command::new("sh").args(["-c", touch]).current_dir(work).output().unwrap();
            let git = |args: &[&str]| Command::new("git").args(args).current_dir(work).output().unwrap();
            git(&["init", "-q"]);
            git(&["add", "."]);
        },
        true,
    );
}

#[test]
fn sqlite_makes_the_calls_that_strace_sees() {
    let sql = "create table t(a); begin; insert into t values(1),(2); commit; select sum(a) from t;";
    compare("sqlite3", &["sqlite3", "x.db", sql], |_| {}, false);
}

#[test]
fn python_makes_the_calls_that_strace_sees() {
    // By its path: a shim in PATH would read from pipes, in pieces that vary.
    let code = "import json,os; open('x','w').write(json.dumps(os.listdir('.'))); os.stat('x')";
    compare("python3", &["/usr/bin/python3", "-I", "-c", code], files, false);
}

#[test]
fn a_pipeline_makes_the_calls_that_strace_sees() {
    compare("pipeline", &["sh", "-c", "cat d0/f0 | sort -r | uniq -c > out"], files, false);
}
