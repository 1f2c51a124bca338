//! What comes before what, what was answered by whom, and what is too little to tell.
#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use common::{MS, Run, Task, replay, value};
use ctrace_analysis::{
    DivergenceKind, Gates, Kind, Model, Profile, Starved, Told, Verdict, account, diff_replay,
};
use ctrace_format::{Detail, Event, ProcessKind, Syscall, SyscallFlags, syscalls::number};

/// A call at a time of its own. Nothing after it is later by it.
fn at(r: &mut Run, t_ns: u64, task: Task, name: &str, args: [u64; 6], ret: i64, path: Option<&str>) {
    let details = path.map(|p| Detail::Str { arg: 1, value: r.str(p) });
    let created = (name == "openat" && args[2] & 0o100 != 0 && ret >= 0).then_some(Detail::Created);
    let object = path.filter(|_| ret >= 0).map(|p| r.file(p));
    let call = Syscall {
        t_ns,
        duration_ns: 5_000,
        task: r.id(task),
        sysno: number(ctrace_format::Abi::X86_64, name).unwrap(),
        ret,
        flags: SyscallFlags::default(),
        args,
        args_mask: 0x3f,
        object,
        details: details.into_iter().chain(created).collect(),
        wait_cpu_ns: 0,
        blocked_ns: 0,
    };
    r.push(&Event::Syscall(call));
}

const CREATE: [u64; 6] = [0, 0, 0o101, 0o644, 0, 0];
const OPEN: [u64; 6] = [0; 6];

/// Two processes and one name: the second looks for it before it is there, and again after that.
fn lock(missed_at: u64, made_at: u64, found_at: u64) -> Run {
    let mut r = Run::new(1);
    let (owner, other) = (r.task(1, 1, "owner"), r.task(2, 2, "other"));
    let mut calls = [(missed_at, 0), (made_at, 1), (found_at, 2)];
    calls.sort_unstable();
    for (when, what) in calls {
        let t_ns = 1000 * MS + when;
        match what {
            0 => at(&mut r, t_ns, other, "openat", OPEN, -2, Some("/run/lock")),
            1 => at(&mut r, t_ns, owner, "openat", CREATE, 3, Some("/run/lock")),
            _ => at(&mut r, t_ns, other, "openat", OPEN, 4, Some("/run/lock")),
        }
    }
    r
}

#[test]
fn a_name_that_is_found_before_it_is_made_violates_the_order() {
    let recorded = || lock(MS, 2 * MS, 3 * MS);
    let report = replay(recorded(), recorded());
    assert_eq!((value(&report, "order"), report.metric("order").unwrap().n), (Some(0.0), 2));
    // The same calls with the same results: only their order tells.
    let report = replay(recorded(), lock(MS, 3 * MS, 2 * MS));
    assert_eq!(value(&report, "order"), Some(0.5), "{:?}", report.metric("order"));
    assert_eq!((report.verdict, report.worst), (Verdict::Deviated, Some("order")));
    let shown = report.first_divergence.unwrap();
    assert_eq!((shown.kind, shown.operation.as_str()), (DivergenceKind::Order, "openat(/run/lock)"));
    let report = replay(recorded(), lock(2 * MS, MS, 3 * MS));
    assert_eq!(value(&report, "order"), Some(0.5), "{:?}", report.metric("order"));
    assert!(report.metric("order").unwrap().note.contains("made before it was missed"));
}

#[test]
fn a_wait_that_returns_before_the_end_violates_the_order_whichever_child_it_is() {
    // Two children that do the same: which is which is a guess.
    let run = |ends: [u64; 2], waits: [u64; 2], reaped: [u32; 2]| {
        let mut r = Run::new(0);
        let parent = r.task(1, 1, "sh");
        let children = [r.task(2, 2, "job"), r.task(3, 3, "job")];
        for child in children {
            r.fork(parent, child);
            r.call(parent, "clone", [0; 6], child.0 as i64 + 1);
            r.call(child, "getppid", [0; 6], 1);
        }
        let mut events: Vec<(u64, usize, bool)> = Vec::new();
        for i in 0..2 {
            events.push((ends[i], i, false));
            events.push((waits[i], i, true));
        }
        events.sort_unstable();
        for (when, i, wait) in events {
            if wait {
                let child = reaped[i];
                at(&mut r, 2000 * MS + when, parent, "wait4", [u64::MAX, 0, 0, 0, 0, 0], child.into(), None);
            } else {
                r.now = 2000 * MS + when;
                r.life(children[i], ProcessKind::Exit { status: 0, group_dead: true });
            }
        }
        r
    };
    let recorded = || run([MS, 2 * MS], [3 * MS, 4 * MS], [2, 3]);
    let swapped = run([2 * MS, MS], [3 * MS, 4 * MS], [3, 2]);
    let report = replay(recorded(), swapped);
    assert_eq!(value(&report, "order"), Some(0.0), "{:?}", report.metric("order"));
    assert!(report.metric("order").unwrap().n >= 4);
    let early = run([MS, 6 * MS], [3 * MS, 4 * MS], [2, 3]);
    let report = replay(recorded(), early);
    assert!(value(&report, "order").unwrap() > 0.0, "{:?}", report.metric("order"));
}

#[test]
fn two_threads_take_turns_at_an_offset_and_use_what_the_other_opened() {
    let run = |read_at: u64| {
        let mut r = Run::new(1);
        let (a, b) = (r.task(1, 1, "app"), r.task(2, 1, "app"));
        let path = Some("/srv/data");
        let mut calls = [(MS, 0), (2 * MS, 1), (read_at, 2)];
        calls.sort_unstable();
        for (when, what) in calls {
            let t = 1000 * MS + when;
            match what {
                0 => at(&mut r, t, a, "openat", OPEN, 7, path),
                1 => at(&mut r, t, a, "lseek", [7, 0, 0, 0, 0, 0], 0, None),
                _ => at(&mut r, t, b, "read", [7, 0, 100, 0, 0, 0], 100, None),
            }
        }
        r
    };
    let report = replay(run(3 * MS), run(3 * MS));
    assert_eq!((value(&report, "order"), report.metric("order").unwrap().n), (Some(0.0), 1));
    let report = replay(run(3 * MS), run(MS + MS / 2));
    assert_eq!(value(&report, "order"), Some(1.0), "{:?}", report.metric("order"));
}

#[test]
fn who_closes_a_descriptor_need_not_come_after_what_other_processes_do_with_theirs() {
    // A child has the parent's description; the parent closes its own after the child has read, or before.
    let run = |closed_at: u64| {
        let mut r = Run::new(1);
        let (parent, child) = (r.task(1, 1, "sh"), r.task(2, 2, "sort"));
        at(&mut r, 1000 * MS, parent, "openat", OPEN, 7, Some("/srv/data"));
        r.now = 1001 * MS;
        r.fork(parent, child);
        r.call(parent, "clone", [0; 6], 2);
        let mut calls = [(1005 * MS, false), (closed_at, true)];
        calls.sort_unstable();
        for (t_ns, is_close) in calls {
            if is_close {
                at(&mut r, t_ns, parent, "close", [7, 0, 0, 0, 0, 0], 0, None);
            } else {
                at(&mut r, t_ns, child, "read", [7, 0, 100, 0, 0, 0], 100, None);
            }
        }
        r
    };
    let report = replay(run(1010 * MS), run(1003 * MS));
    assert_eq!(value(&report, "order"), Some(0.0), "{:?}", report.metric("order"));
}

#[test]
fn who_appends_to_a_file_need_not_come_after_who_appended_before() {
    const WRITE: [u64; 6] = [0, 0, 0o1, 0, 0, 0];
    const APPEND: [u64; 6] = [0, 0, 0o2001, 0, 0, 0];
    let run = |open: [u64; 6], second_at: u64| {
        let mut r = Run::new(1);
        let (a, b) = (r.task(1, 1, "app"), r.task(2, 1, "app"));
        at(&mut r, 1000 * MS, a, "openat", open, 7, Some("/var/log/x"));
        let mut writes = [(1005 * MS, a), (second_at, b)];
        writes.sort_unstable_by_key(|(t_ns, _)| *t_ns);
        for (t_ns, task) in writes {
            at(&mut r, t_ns, task, "write", [7, 0, 100, 0, 0, 0], 100, None);
        }
        r
    };
    for (open, is_violated) in [(WRITE, true), (APPEND, false)] {
        let report = replay(run(open, 1010 * MS), run(open, 1003 * MS));
        let order = value(&report, "order").unwrap();
        assert_eq!(order > 0.0, is_violated, "{:?}", report.metric("order"));
    }
}

#[test]
fn forced_ends_are_judged_when_the_engine_tells_of_them() {
    let run = || {
        let mut r = Run::new(1);
        let t = r.task(1, 1, "app");
        for _ in 0..1000 {
            r.call(t, "getppid", [0; 6], 1);
        }
        r.model()
    };
    let judge = |told: Option<&Told>| diff_replay(&run(), &run(), &Gates::new(Profile::Synthetic), told);
    assert_eq!(value(&judge(None), "forced"), None);
    let mut told = Told::default();
    assert_eq!(
        (value(&judge(Some(&told)), "forced"), judge(Some(&told)).verdict),
        (Some(0.0), Verdict::Match)
    );
    told.forced.by_kind = [("woken".to_owned(), 1), ("interrupted".to_owned(), 1)].into();
    told.forced.first = Some("app: futex at +1.000 s".to_owned());
    let report = judge(Some(&told));
    assert_eq!((value(&report, "forced"), report.worst), (Some(20.0), Some("forced")));
    let note = &report.metric("forced").unwrap().note;
    assert_eq!(note, "2 of 1000 operations: interrupted ×1, woken ×1; first: app: futex at +1.000 s");
}

#[test]
fn a_replay_may_be_late_by_what_its_machine_lacked() {
    // A run's first call comes a second after its beginning, on whose clock is told what was lacked.
    const FIRST: u64 = 1000 * MS;
    let run = |late: u64| {
        let mut r = Run::new(1);
        let t = r.task(1, 1, "app");
        for i in 0..1000 {
            r.now += if i == 500 { MS + late } else { MS };
            r.call(t, "getppid", [0; 6], 1);
        }
        r.model()
    };
    let judge = |late: u64, starved: &[(u64, u64)]| {
        let starved = starved.iter().map(|(at_ns, lacked_ns)| (FIRST + at_ns, *lacked_ns)).collect();
        let told = Told { starved: Starved::new(starved), ..Told::default() };
        diff_replay(&run(0), &run(late), &Gates::new(Profile::Synthetic), Some(&told))
    };
    assert_eq!(judge(300 * MS, &[]).verdict, Verdict::Deviated);
    let lacked = [(551 * MS, 0), (851 * MS, 300 * MS)];
    let report = judge(300 * MS, &lacked);
    assert_eq!(report.verdict, Verdict::Match, "{report:#?}");
    assert!(
        value(&report, "makespan").unwrap() < 0.01 && value(&report, "drift").unwrap() < 1.0,
        "{report:#?}"
    );
    // It was later than that, or lacked something only after it was late.
    assert_eq!(judge(500 * MS, &lacked).verdict, Verdict::Deviated);
    assert_eq!(judge(300 * MS, &[(1200 * MS, 300 * MS)]).verdict, Verdict::Deviated);
}

#[test]
fn a_difference_of_length_that_is_noise_decides_nothing() {
    let run = |last_pause: u64, scale: u64| {
        let mut r = Run::new(1);
        let t = r.task(1, 1, "true");
        for _ in 0..20 * scale {
            r.call(t, "getppid", [0; 6], 1);
        }
        r.now += last_pause;
        r.call(t, "getppid", [0; 6], 1);
        r
    };
    // 2 ms against 2.3 ms: 15 %, which is no more than the tick of a scheduler.
    let report = replay(run(0, 1), run(MS * 3 / 10, 1));
    let makespan = report.metric("makespan").unwrap();
    assert!(makespan.value.unwrap() > 0.1 && makespan.pass == Some(true), "{makespan:?}");
    assert!(makespan.note.contains("noise"), "{makespan:?}");
    assert_eq!(report.verdict, Verdict::Match);
    // 200 ms against 230 ms.
    let report = replay(run(0, 100), run(30 * MS, 100));
    assert_eq!(report.metric("makespan").unwrap().pass, Some(false));
    let shown = report.first_divergence.unwrap();
    assert_eq!((shown.kind, shown.a_ns.unwrap() / MS), (DivergenceKind::Late, 1200));
}

/// A call that a filter answered.
fn answered(r: &mut Run, task: Task, path: &str, ret: i64, flags: SyscallFlags) {
    let value = r.str(path);
    let call = Syscall {
        t_ns: r.now,
        duration_ns: 0,
        task: r.id(task),
        sysno: number(ctrace_format::Abi::X86_64, "openat").unwrap(),
        ret,
        flags,
        args: OPEN,
        args_mask: 0x3f,
        object: None,
        details: vec![Detail::Str { arg: 1, value }],
        wait_cpu_ns: 0,
        blocked_ns: 0,
    };
    r.push(&Event::Syscall(call));
    r.now += 10 * MS;
}

#[test]
fn what_the_sandbox_answered_took_place_and_is_counted_beside() {
    let emulated = SyscallFlags::FILTERED.union(SyscallFlags::EMULATED);
    let run = |flags: SyscallFlags, times: u64| {
        let mut r = Run::new(1);
        let t = r.task(1, 1, "app");
        for i in 0..40 {
            r.call(t, "getppid", [0; 6], 1);
            if i >= 20 && i - 20 < times {
                answered(&mut r, t, "/etc/shadow", -24, flags);
            }
        }
        r
    };
    let report = replay(run(SyscallFlags::default(), 20), run(emulated, 20));
    for metric in ["coverage", "semantic", "alignment", "errors", "incident_recall"] {
        assert_eq!(value(&report, metric), Some(1.0), "{metric}: {:?}", report.metric(metric));
    }
    assert_eq!(report.verdict, Verdict::Match, "{report:#?}");
    assert_eq!((report.failures.recorded, report.failures.other), (20, 20));
    assert_eq!((report.failures.emulated, report.failures.missing, report.b.emulated), (20, 0, 20));
    assert!(report.metric("errors").unwrap().note.contains("20 of 20 emulated"));
    // An answer that was not given is missing.
    let report = replay(run(SyscallFlags::default(), 20), run(emulated, 5));
    assert_eq!((report.failures.missing, report.failures.emulated), (15, 5));
    assert_eq!(value(&report, "incident_recall"), Some(0.0));
    // Who answered is said.
    let first = |flags| account(&run(flags, 20).finish()).unwrap().findings[0].clone();
    let by_kernel = first(SyscallFlags::default());
    assert_eq!(by_kernel.kind, Kind::FdLimit);
    assert!(by_kernel.sentence.contains("got no further descriptor 20 times"), "{by_kernel:#?}");
    let by_filter = first(SyscallFlags::FILTERED);
    assert_eq!(by_filter.kind, Kind::SeccompDenied);
    assert!(by_filter.sentence.contains("a seccomp filter answered"), "{by_filter:#?}");
    assert!(first(emulated).sentence.contains("by the replay's sandbox"));
}

#[test]
fn the_divergence_that_is_shown_is_one_of_the_worst_metrics() {
    // A call that is missing early, and a stream that is another one late.
    let run = |early: bool, bytes: i64| {
        let mut r = Run::new(1);
        let t = r.task(1, 1, "app");
        for i in 0..300 {
            if early || i != 10 {
                r.call(t, "getppid", [0; 6], 1);
            }
        }
        r.request(t, 7, "10.0.0.7:80", (100, bytes));
        r
    };
    let report = replay(run(true, 5000), run(false, 700));
    assert_eq!(report.worst, Some("network"), "{:?}", report.reasons);
    let shown = report.first_divergence.unwrap();
    assert!(shown.role.contains("tcp to 10.0.0.7:80"), "{shown:?}");
    let model: Model = run(true, 5000).model();
    assert_eq!(model.emulated_calls, 0);
}

#[test]
fn siblings_are_told_apart_by_how_often_they_did_the_same() {
    // The first call that there is, and nothing else, in another order of threads.
    let run = |counts: [u32; 3]| {
        let mut r = Run::new(0);
        let leader = r.task(1, 1, "pool");
        let threads = [2, 3, 4].map(|tid| r.task(tid, 1, "worker"));
        for thread in threads {
            r.fork(leader, thread);
        }
        for (i, (thread, count)) in threads.into_iter().zip(counts).enumerate() {
            for n in 0..count {
                let t_ns = 1000 * MS + u64::from(n) * MS + i as u64;
                at(&mut r, t_ns, thread, "getppid", [0; 6], 1, None);
            }
        }
        r
    };
    let report = replay(run([1, 15, 40]), run([15, 40, 1]));
    assert_eq!(value(&report, "alignment"), Some(1.0), "{:?}", report.reasons);
}

/// Nobody reads from a pipe before its first bytes were sent; whose bytes are read after that, the order of calls does not tell.
#[test]
fn bytes_are_read_after_the_first_that_were_sent_whoever_sent_others_meanwhile() {
    let run = |order: [usize; 3]| {
        let mut r = Run::new(0);
        let parent = r.task(1, 1, "pool");
        let (first, second) = (r.task(2, 2, "first"), r.task(3, 3, "second"));
        for child in [first, second] {
            r.fork(parent, child);
        }
        let pipe = r.pipe(77);
        for what in order {
            match what {
                0 => r.io(first, "write", 8, pipe, 8),
                1 => r.io(second, "write", 8, pipe, 8),
                _ => r.io(parent, "read", 4, pipe, 8),
            }
        }
        r
    };
    let order = |x, y| value(&replay(run(x), run(y)), "order");
    assert_eq!(order([0, 1, 2], [0, 2, 1]), Some(0.0));
    assert!(order([0, 1, 2], [2, 0, 1]) > Some(0.0));
}
