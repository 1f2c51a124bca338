//! Where the time went: what is compared, what explains a difference, and what is noise.
#![allow(clippy::unwrap_used, reason = "a test")]
#![allow(missing_docs, reason = "a test")]

mod common;

use common::{MS, Run, Task, compare, replay, value};
use ctrace_analysis::{Gates, Journal, Profile, Verdict, judge_journal};
use ctrace_format::{Abi, Detail, Dns, Event, SockAddr, SockCookie, Syscall, SyscallFlags, syscalls::number};

/// A call that takes so long, of which it waited for a CPU for so long.
fn call(r: &mut Run, task: Task, name: &str, args: [u64; 6], took: u64, waited: u64) {
    let details = if waited > 0 { vec![Detail::CpuWait { ns: waited }] } else { Vec::new() };
    let event = Event::Syscall(Syscall {
        t_ns: r.now,
        duration_ns: took,
        task: r.id(task),
        sysno: number(Abi::X86_64, name).unwrap(),
        ret: 0,
        flags: SyscallFlags::default(),
        args,
        args_mask: 0x3f,
        object: None,
        details,
        wait_cpu_ns: 0,
        blocked_ns: 0,
    });
    r.push(&event);
    r.now += took;
}

/// A client whose every third answer takes so long.
fn client(slow_ms: u64) -> Run {
    client_of(slow_ms, 2)
}

/// A client all of whose answers are slow.
fn slow_client() -> Run {
    client_of(400, 400)
}

fn client_of(slow_ms: u64, else_ms: u64) -> Run {
    let mut r = Run::new(1);
    let t = r.task(1, 1, "client");
    for i in 0..60 {
        let socket = r.connect(t, 5, i + 1, "10.0.0.7:80", 0);
        r.io(t, "sendto", 5, socket, 100);
        let took = if i % 3 == 0 { slow_ms } else { else_ms } * MS;
        let event = Event::Syscall(Syscall {
            t_ns: r.now,
            duration_ns: took,
            task: r.id(t),
            sysno: number(Abi::X86_64, "recvfrom").unwrap(),
            ret: 500,
            flags: SyscallFlags::default(),
            args: [5, 0, 4096, 0, 0, 0],
            args_mask: 0x3f,
            object: Some(socket),
            details: Vec::new(),
            wait_cpu_ns: 0,
            blocked_ns: 0,
        });
        r.push(&event);
        r.now += took;
        r.close(t, 5, socket);
    }
    r.exit(t, 0);
    r
}

#[test]
fn answers_of_which_a_third_is_slow_are_the_cause() {
    let report = compare(client(2), client(400));
    assert_eq!(report.verdict, Verdict::Deviated, "{report:#?}");
    let cause = &report.causes[0];
    assert_eq!((cause.kind, cause.object.as_deref()), ("answer", Some("tcp to 10.0.0.7:80")), "{report:#?}");
    assert!(cause.share.unwrap() > 0.9, "{cause:#?}");
    assert_eq!((cause.before.count, cause.after.count), (60, 60));
    assert!(report.reasons[0].starts_with("10.0.0.7:80 answers client "), "{:#?}", report.reasons);
    // Most answers are as they were: it is no shift of what is typical.
    assert!(value(&report, "latency_shift").unwrap() < 1.1);
    assert!(value(&report, "added_time").unwrap() > 1.0);
    assert_eq!(compare(client(2), client(2)).verdict, Verdict::Match);
}

#[test]
fn a_few_answers_that_are_very_late_are_told_as_such() {
    let run = |late: bool| {
        let mut r = Run::new(1);
        let t = r.task(1, 1, "app");
        for i in 0..20_u64 {
            r.call(t, "getppid", [0; 6], 1);
            // All take longer; what is typical explains a hundredth of it.
            let took = match (late, i % 3) {
                (false, _) => 1_500_000 + i * 70_000,
                (true, 2) => 1200 * MS,
                (true, _) => 2 * MS + i * 150_000,
            };
            let name = r.str("db.test");
            let event = Event::Dns(Dns {
                t_ns: r.now,
                duration_ns: took,
                task: r.id(t),
                cookie: SockCookie(7),
                server: SockAddr::Inet("10.0.0.2:53".parse().unwrap()),
                name,
                qtype: 1,
                answer: Some((0, 1)),
            });
            r.push(&event);
            r.now += took;
        }
        r.exit(t, 0);
        r
    };
    let report = compare(run(false), run(true));
    let text = &report.causes[0].text;
    assert!(text.contains("(6 of 20 take 1."), "{text}");
    assert!(text.contains(", before at most 2.8 ms)"), "{text}");
    assert!(text.starts_with("the name server 10.0.0.2:53 answers app 1."), "{text}");
    // Where most take longer, that is told.
    let text = &compare(client(2), slow_client()).causes[0].text;
    assert!(text.contains("(p50 2.1 ms → "), "{text}");
}

#[test]
fn a_few_microseconds_more_are_noise_however_many_times_as_long() {
    let run = |took: u64| {
        let mut r = Run::new(1);
        let t = r.task(1, 1, "app");
        for _ in 0..2000 {
            call(&mut r, t, "getuid", [0; 6], took, 0);
            r.now += MS;
        }
        r
    };
    let report = compare(run(3_000), run(15_000));
    assert_eq!(report.verdict, Verdict::Match, "{report:#?}");
    // They are compared, and do not matter.
    assert!(report.metric("latency_shift").unwrap().n >= 2000);
    assert_eq!(value(&report, "tail_shift"), Some(0.0));
    assert_eq!(compare(run(3_000), run(1_000_000)).verdict, Verdict::Deviated);
}

#[test]
fn what_waited_for_a_cpu_took_no_longer() {
    let run = |waited: u64| {
        let mut r = Run::new(1);
        let t = r.task(1, 1, "app");
        for _ in 0..100 {
            r.now += 30 * MS;
            call(&mut r, t, "fsync", [3, 0, 0, 0, 0, 0], MS + waited, waited);
        }
        r
    };
    let report = compare(run(0), run(4 * MS));
    assert_eq!(report.verdict, Verdict::Match, "{report:#?}");
    // A run that is longer by half as much again, all of it waiting, says so and nothing else.
    let report = compare(run(0), run(60 * MS));
    assert_eq!(report.causes[0].kind, "cpu_wait", "{report:#?}");
    assert_eq!(report.causes.len(), 1, "{report:#?}");
}

#[test]
fn the_lock_is_the_cause_and_not_the_wait_for_the_threads_that_wait_for_it() {
    const PRIVATE_WAIT: u64 = 128;
    const JOIN: u64 = 9 | 256;
    let run = |ms: u64| {
        let mut r = Run::new(100);
        let main = r.task(1, 1, "app");
        let worker = r.task(2, 1, "worker");
        r.open(main, "/etc/app.conf", 3);
        for _ in 0..50 {
            // The word of the lock is 2: held, and waited for.
            call(&mut r, worker, "futex", [0x7000_10a0, PRIVATE_WAIT, 2, 0, 0, 0], ms * MS, 0);
        }
        let end = r.now;
        r.now -= 50 * ms * MS;
        let joined = end - r.now + MS;
        call(&mut r, main, "futex", [0x7f00_0990, JOIN, 102, 0, 0, 0], joined, 0);
        r.open(main, "/etc/app.conf", 4);
        r
    };
    let report = compare(run(1), run(40));
    let cause = &report.causes[0];
    assert_eq!((cause.kind, cause.object.as_deref()), ("lock", Some("the lock at …0a0")), "{report:#?}");
    assert!(report.causes.iter().all(|c| c.kind != "thread"), "{:#?}", report.causes);
}

#[test]
fn a_replay_that_keeps_its_pace_is_not_judged_by_what_calls_cost() {
    let run = |took: u64| {
        let mut r = Run::new(1);
        let t = r.task(1, 1, "app");
        for i in 0..400_u64 {
            r.now = (1000 + 10 * i) * MS;
            call(&mut r, t, "fsync", [3, 0, 0, 0, 0, 0], took, 0);
        }
        r
    };
    let report = replay(run(2 * MS), run(20_000));
    assert_eq!(report.metric("latency_shift").unwrap().pass, Some(true), "{report:#?}");
    assert_eq!(report.metric("added_time").unwrap().gate, None);
}

#[test]
fn a_journal_is_judged_by_the_gates_that_are_asked_for() {
    let journal = Journal {
        recorded: 1000,
        done: 940,
        recorded_ns: 2000 * MS,
        makespan_ns: 2010 * MS,
        ..Journal::default()
    };
    let mut gates = Gates::new(Profile::Synthetic);
    let report = judge_journal(&journal, &gates);
    assert_eq!((report.verdict, report.worst), (Verdict::Deviated, Some("coverage")), "{report:#?}");
    gates.fail_on("coverage=0.9").unwrap();
    assert_eq!(judge_journal(&journal, &gates).verdict, Verdict::Match);
    // A gate that nothing answers is said.
    gates.fail_on("alignment=0.9").unwrap();
    let report = judge_journal(&journal, &gates);
    assert!(report.warnings.iter().any(|w| w.starts_with("alignment has a gate of its own")), "{report:#?}");
    assert_eq!(judge_journal(&Journal::default(), &gates).verdict, Verdict::Inconclusive);
}
