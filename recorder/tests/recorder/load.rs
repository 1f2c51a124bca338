//! Overload, many threads, many processes: whatever happens, recorded + counted + lost is what was made.

use crate::support::{Recorded, calls, config, record, start};
use ctrace_format::{Abi, Class, Event, FidelityLevel, Filter, ProcessKind, State, Trace, syscalls};
use ctrace_recorder::{Config, Ended, Target};
use std::collections::BTreeMap;
use std::io::{BufRead as _, Write as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A recorder in a process of its own, which can be stopped, once it has begun to write. `None`, and a line that says
/// why, where that is not possible.
fn recorder_of(mode: &[&str], out: &Path) -> Option<Child> {
    let program = calls().with_file_name("record");
    if !program.exists() {
        eprintln!("skipped: {} is not built", program.display());
        return None;
    }
    let mut recorder = Command::new(program);
    recorder.arg(out).arg(calls()).args(mode).env("QUIET", "1").stderr(Stdio::null());
    let recorder = recorder.spawn().unwrap();
    let partial = out.with_extension("ctr.partial");
    let began = Instant::now();
    while !partial.exists() && !out.exists() && began.elapsed() < Duration::from_secs(20) {
        std::thread::sleep(Duration::from_millis(5));
    }
    Some(recorder)
}

fn signal(child: &Child, signo: i32) {
    // SAFETY: a child that has not been waited for.
    unsafe { libc::kill(child.id() as i32, signo) };
}

/// The reader does not run for two seconds while two processes call as fast as they can: many times more than the
/// rings hold.
#[test]
fn while_the_reader_is_stopped_calls_are_counted_exactly_and_that_is_declared() {
    let n = 4_000_000_u64;
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("t.ctr");
    let Some(mut recorder) = recorder_of(&["pair", &n.to_string()], &out) else { return };
    std::thread::sleep(Duration::from_millis(200));
    signal(&recorder, libc::SIGSTOP);
    std::thread::sleep(Duration::from_secs(2));
    signal(&recorder, libc::SIGCONT);
    if !recorder.wait().unwrap().success() {
        eprintln!("skipped: recording is not possible here");
        return;
    }
    let getppid = syscalls::number(Abi::X86_64, "getppid").unwrap();
    let (mut recorded, mut counted, mut lost) = (0, 0, 0);
    let mut levels: BTreeMap<u32, FidelityLevel> = BTreeMap::new();
    let mut reached = FidelityLevel::Full;
    for event in Trace::open(&out).unwrap().events(&Filter::default()) {
        match event.unwrap() {
            Event::Syscall(c) if c.sysno == getppid => recorded += 1,
            Event::Aggregate(a) => {
                assert_eq!(a.histogram.iter().sum::<u64>(), a.count);
                assert!(a.t_ns - a.from_ns <= 100_000_000 && a.duration_ns >= a.count);
                if a.sysno == getppid {
                    assert_eq!((a.errno, a.fd, a.object), (0, None, None));
                    counted += a.count;
                }
            }
            Event::Fidelity(f) => {
                // Each change begins where the last one ended.
                assert_eq!(levels.insert(f.cpu, f.to).unwrap_or(FidelityLevel::Full), f.from);
                reached = reached.max(f.to);
            }
            Event::Loss(l) => lost += l.count,
            _ => {}
        }
    }
    println!("{recorded} recorded, {counted} counted, {lost} lost of {}", 2 * n);
    assert_eq!((recorded + counted, lost), (2 * n, 0));
    assert!(counted > 0 && recorded > 0);
    assert_eq!(reached, FidelityLevel::Aggregated);
}

#[test]
fn two_producers_at_full_rate_lose_nothing() {
    let n = 1_000_000_u64;
    let argv = [calls().into_os_string(), "pair".into(), n.to_string().into()];
    let Some(r) = record(&argv) else { return };
    let (recorded, counted) = (r.named("getppid").len() as u64, r.aggregated("getppid"));
    println!("{recorded} recorded, {counted} counted of {}", 2 * n);
    assert_eq!((recorded + counted, r.lost()), (2 * n, 0));
}

/// Ten calls of each of so many threads.
fn assert_complete(r: &Recorded, threads: usize) {
    assert_eq!(r.lost(), 0);
    let mut by_thread: BTreeMap<u32, u32> = BTreeMap::new();
    for call in r.named("getppid") {
        *by_thread.entry(call.task.0).or_default() += 1;
    }
    assert_eq!(r.aggregated("getppid"), 0);
    assert_eq!(by_thread.len(), threads);
    assert!(by_thread.values().all(|n| *n == 10));
}

#[test]
fn more_than_4096_threads_are_all_recorded_those_that_were_there_and_those_that_come() {
    let threads = 4_200_usize;
    let mut target = Command::new(calls())
        .args(["threads", &threads.to_string(), "10", "wait"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    std::io::BufReader::new(target.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "ready\n");
    let folder = tempfile::tempdir().unwrap();
    let started = start(config(Target::Pid(target.id()), &folder.path().join("t.ctr")));
    target.stdin.take().unwrap().write_all(b"go\n").unwrap();
    let outcome = started.map(|mut recording| {
        let ended = recording.wait(Duration::from_secs(60));
        (ended, recording.stop("target exited").unwrap())
    });
    assert!(target.wait().unwrap().success());
    let Some((ended, outcome)) = outcome else { return };
    assert_eq!(ended, Some(Ended::TargetExited));
    assert_complete(&Recorded::new(outcome, folder), 2 * threads);
}

#[test]
fn of_20_000_short_processes_each_begin_and_end_is_recorded() {
    let n = 20_000_usize;
    let Some(r) = record(&[calls().as_os_str(), "storm".as_ref(), n.to_string().as_ref()]) else { return };
    assert_eq!(r.lost(), 0);
    let (mut execs, mut exits) = (0, 0);
    for process in r.processes() {
        match process.kind {
            ProcessKind::Exec { path, .. } if r.trace.str(path) == b"/bin/true" => execs += 1,
            ProcessKind::Exit { group_dead: true, .. } => exits += 1,
            _ => {}
        }
    }
    assert_eq!((execs, exits), (n, n + 1));
}

/// Whether a process has ended, and nobody has waited for it.
fn is_zombie(pid: &str) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The name, in parentheses, may hold anything.
    stat.rsplit_once(')').is_none_or(|(_, rest)| rest.trim_start().starts_with('Z'))
}

/// Events of processes in a recording of `forks`, and how many it says were lost. With `stopped`, the reader does not
/// run until all is over, and there are more of them than their ring holds.
fn process_events(n: u64, stopped: bool) -> Option<(u64, u64)> {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("t.ctr");
    let mut recorder = recorder_of(&["forks", &n.to_string()], &out)?;
    if stopped {
        let children = format!("/proc/{0}/task/{0}/children", recorder.id());
        // The target runs from when it has executed its program; before that the recorder holds it.
        let runs = |id: &&str| {
            std::fs::read_link(format!("/proc/{id}/exe"))
                .is_ok_and(|exe| exe.file_name() == calls().file_name())
        };
        let began = Instant::now();
        let target = loop {
            let of_recorder = std::fs::read_to_string(&children).unwrap_or_default();
            if let Some(target) = of_recorder.split_whitespace().find(runs) {
                break target.to_owned();
            }
            if recorder.try_wait().unwrap().is_some() || began.elapsed() > Duration::from_secs(60) {
                break String::new();
            }
            std::thread::sleep(Duration::from_millis(1));
        };
        signal(&recorder, libc::SIGSTOP);
        let began = Instant::now();
        while !target.is_empty() && !is_zombie(&target) && began.elapsed() < Duration::from_secs(180) {
            std::thread::sleep(Duration::from_millis(5));
        }
        signal(&recorder, libc::SIGCONT);
    }
    if !recorder.wait().unwrap().success() {
        eprintln!("skipped: recording is not possible here");
        return None;
    }
    let (mut recorded, mut lost) = (0, 0);
    for event in Trace::open(&out).unwrap().events(&Filter::default()) {
        match event.unwrap() {
            Event::Process(_) => recorded += 1,
            Event::Loss(l) if l.class == Class::Process => {
                assert!(l.count > 0 && l.from_ns < l.t_ns && l.cpu != u32::MAX);
                lost += l.count;
            }
            _ => {}
        }
    }
    Some((recorded, lost))
}

#[test]
fn events_of_processes_that_do_not_fit_are_declared_one_by_one() {
    let n = 16_000;
    let Some((all, none)) = process_events(n, false) else { return };
    // Each is made, and ends.
    assert!(all >= 2 * n, "{all}");
    assert_eq!(none, 0);
    let Some((recorded, lost)) = process_events(n, true) else { return };
    println!("{recorded} recorded and {lost} lost, of {all}");
    assert!(lost > 0);
    // A few depend on the moment: faults that blocked.
    assert!((recorded + lost).abs_diff(all) <= all / 200, "{recorded} + {lost} are not {all}");
}

#[test]
fn a_recording_ends_at_the_size_it_may_have_and_is_complete() {
    let max = 300_000;
    let folder = tempfile::tempdir().unwrap();
    let argv = [calls().into_os_string(), "mix".into(), "1".into(), "2".into(), "100000000".into()];
    let target = Target::Command(ctrace_recorder::Command::new(argv));
    let config = Config { max_size: Some(max), ..config(target, &folder.path().join("t.ctr")) };
    let Some(mut recording) = start(config) else { return };
    let ended = recording.wait(Duration::from_secs(60));
    let pid = recording.command_pid().unwrap();
    let outcome = recording.stop("size reached");
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
    for pid in children.split_whitespace().map(|child| child.parse().unwrap()).chain([pid as i32]) {
        // SAFETY: the command of this recording and its children, which nobody has waited for.
        unsafe { libc::kill(pid, libc::SIGKILL) };
    }
    let outcome = outcome.unwrap();
    assert_eq!(ended, Some(Ended::Size));
    println!("{} bytes of {max}", outcome.file.bytes);
    // Chunks are written whole, as many as fit.
    assert!((max / 2..=max).contains(&outcome.file.bytes), "{}", outcome.file.bytes);
    assert_eq!(Trace::open(&outcome.file.path).unwrap().state(), State::Complete);
}
