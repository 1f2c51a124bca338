//! Being late because no CPU was free is told apart from being late.
#![allow(clippy::unwrap_used, reason = "a test")]
#![allow(missing_docs, reason = "a test")]

mod common;

use common::{MS, Run, Task, replay, value};
use ctrace_analysis::Verdict;
use ctrace_format::{Abi, Detail, Event, Syscall, SyscallFlags, syscalls::number};

/// A call that takes `duration_ns`, before which and in which its task waited for a CPU.
fn call(r: &mut Run, task: Task, duration_ns: u64, wait_before: u64, wait_within: u64, flags: SyscallFlags) {
    let details = if wait_within > 0 { vec![Detail::CpuWait { ns: wait_within }] } else { Vec::new() };
    let event = Event::Syscall(Syscall {
        t_ns: r.now,
        duration_ns,
        task: r.id(task),
        sysno: number(Abi::X86_64, "getuid").unwrap(),
        ret: 0,
        flags,
        args: [0; 6],
        args_mask: 0,
        object: None,
        details,
        wait_cpu_ns: wait_before,
        blocked_ns: 0,
    });
    r.push(&event);
    r.now += duration_ns;
}

/// 200 calls; before every tenth call the task is late by `late`, of which `waited` was for a CPU.
fn run(pid: u32, late: u64, waited: u64) -> Run {
    let mut r = Run::new(pid);
    let t = r.task(1, 1, "job");
    for i in 0..200 {
        let (late, waited) = if i % 10 == 5 { (late, waited) } else { (0, 0) };
        r.now += MS + late;
        call(&mut r, t, 10_000, waited, 0, SyscallFlags::default());
    }
    r
}

#[test]
fn waiting_for_a_cpu_is_no_drift() {
    let report = replay(run(1, 0, 0), run(2, 3 * MS, 3 * MS));
    assert_eq!(report.verdict, Verdict::Match, "{:?}", report.reasons);
    assert!(value(&report, "drift").unwrap() < 0.1, "{:?}", report.metric("drift"));
    assert!(value(&report, "makespan").unwrap() < 0.01, "{:?}", report.metric("makespan"));
    let note = &report.metric("drift").unwrap().note;
    assert!(note.contains("waiting for a CPU"), "{note}");
    // The other way round the recording waited, and the other run is early.
    let report = replay(run(1, 3 * MS, 3 * MS), run(2, 0, 0));
    assert!(value(&report, "drift").unwrap() < 0.1, "{:?}", report.metric("drift"));
}

#[test]
fn only_what_was_waited_is_discounted() {
    let report = replay(run(1, 0, 0), run(2, 3 * MS, MS));
    assert_eq!(report.verdict, Verdict::Deviated);
    // 20 times 2 ms.
    let drift = value(&report, "drift").unwrap();
    assert!((drift - 40.0).abs() < 2.0, "{drift}");
    let report = replay(run(1, 0, 0), run(2, 3 * MS, 0));
    assert!((value(&report, "drift").unwrap() - 60.0).abs() < 2.0);
}

#[test]
fn what_was_made_up_for_explains_nothing_any_more() {
    // Early on 50 ms of waiting, made up for at once; later 50 ms late for no reason.
    let other = |waited: u64, late: u64| {
        let mut r = Run::new(7);
        let t = r.task(1, 1, "job");
        for i in 0..200 {
            r.now += MS;
            if i == 100 {
                r.now += late;
            }
            call(&mut r, t, 10_000, if i == 5 { waited } else { 0 }, 0, SyscallFlags::default());
        }
        r
    };
    let report = replay(other(0, 0), other(50 * MS, 50 * MS));
    assert!((value(&report, "drift").unwrap() - 50.0).abs() < 2.0, "{:?}", report.metric("drift"));
    assert_eq!(report.verdict, Verdict::Deviated);
}

#[test]
fn waiting_within_calls_of_the_engine_counts_too() {
    let run = |late: u64| {
        let mut r = Run::new(3);
        let t = r.task(1, 1, "job");
        for _ in 0..100 {
            call(&mut r, t, MS + late, 0, late, SyscallFlags::ENGINE);
            call(&mut r, t, 10_000, 0, 0, SyscallFlags::default());
        }
        r
    };
    let report = replay(run(0), run(MS));
    assert!(value(&report, "drift").unwrap() < 0.1, "{:?}", report.metric("drift"));
}

#[test]
fn who_waits_for_a_task_that_waited_is_excused_as_well() {
    // The parent's wait takes as long as its child, which had to wait for a CPU; or was just slow.
    let run = |late: u64, waited: u64| {
        let mut r = Run::new(9);
        let (parent, child) = (r.task(1, 1, "sh"), r.task(2, 2, "child"));
        r.fork(parent, child);
        for _ in 0..50 {
            let begin = r.now;
            r.now += MS + late;
            call(&mut r, child, 10_000, waited, 0, SyscallFlags::default());
            let end = r.now;
            r.now = begin;
            call(&mut r, parent, end - begin, 0, 0, SyscallFlags::default());
            call(&mut r, parent, 10_000, 0, 0, SyscallFlags::default());
        }
        r
    };
    let report = replay(run(0, 0), run(MS, MS));
    assert!(value(&report, "drift").unwrap() < 1.5, "{:?}", report.metric("drift"));
    let report = replay(run(0, 0), run(MS, 0));
    assert!(value(&report, "drift").unwrap() > 40.0, "{:?}", report.metric("drift"));
}

#[test]
fn who_begins_to_wait_at_another_moment_is_late_only_when_the_wait_ends_at_another() {
    // A wait every 10 ms, and a call after it; in the other run every fourth wait begins, or ends, 2 ms later.
    let run = |begins: u64, ends: u64| {
        let mut r = Run::new(4);
        let t = r.task(1, 1, "worker");
        let first = r.now;
        for i in 1..=100 {
            let (begins, ends) = if i % 4 == 0 { (begins, ends) } else { (0, 0) };
            let end = first + i * 10 * MS;
            r.now = end - 6 * MS + begins;
            let lasts = end + ends - r.now;
            call(&mut r, t, lasts, 0, 0, SyscallFlags::default());
            call(&mut r, t, 10_000, 0, 0, SyscallFlags::default());
        }
        r
    };
    let drift = |begins, ends| value(&replay(run(0, 0), run(begins, ends)), "drift").unwrap();
    assert!(drift(2 * MS, 0) < 0.1);
    assert!((drift(0, 2 * MS) - 2.0).abs() < 0.1);
    assert!((drift(2 * MS, 2 * MS) - 2.0).abs() < 0.1);
}
