//! Findings say what happened, from the trace alone: each kind, and what looks like it and is healthy.
#![allow(clippy::unwrap_used, reason = "a test")]
#![allow(missing_docs, reason = "a test")]

mod common;

use common::{MS, Run, Task};
use ctrace_analysis::{Finding, Kind, Level, account};
use ctrace_format::{
    Abi, ClockAnchor, Detail, Dns, Event, Fault, Injection, Metric, Object, ProcessKind, Resource, Signal,
    SockAddr, SockCookie, Syscall, SyscallFlags, Usage, WaitKind, syscalls,
};

fn findings(r: Run) -> Vec<Finding> {
    account(&r.finish()).unwrap().findings
}

/// What is worth somebody's night.
fn telling(r: Run) -> Vec<Finding> {
    findings(r).into_iter().filter(|f| f.level > Level::Note).collect()
}

/// A run with one task.
fn one(comm: &str) -> (Run, Task) {
    let mut r = Run::new(1);
    let t = r.task(1, 1, comm);
    (r, t)
}

/// A call of this length.
fn took(r: &mut Run, t: Task, name: &str, args: [u64; 6], object: Option<ctrace_format::ObjectId>, ns: u64) {
    let event = Event::Syscall(Syscall {
        t_ns: r.now,
        duration_ns: ns,
        task: r.id(t),
        sysno: syscalls::number(Abi::X86_64, name).unwrap(),
        ret: 0,
        flags: SyscallFlags::default(),
        args,
        args_mask: 0x3f,
        object,
        details: Vec::new(),
        wait_cpu_ns: 0,
        blocked_ns: 0,
    });
    r.push(&event);
    r.now += ns;
}

fn sample(r: &mut Run, subject: u32, metric: Metric, value: u64) {
    let sample = Resource { t_ns: r.now, subject, metric, value };
    r.push(&Event::Resource(sample));
}

#[test]
fn a_peer_that_begins_to_refuse_is_the_first_thing_said() {
    let (mut r, t) = one("checkout");
    for i in 0..41 {
        r.request(t, i + 1, "127.0.0.1:7003", (10, 10));
    }
    r.open(t, "/etc/missing", -2);
    r.now = 3200 * MS;
    for i in 0..23 {
        let socket = r.connect(t, 5, 1000 + i, "127.0.0.1:7003", -111);
        r.close(t, 5, socket);
        r.now += 100 * MS;
    }
    let found = findings(r);
    assert_eq!(found.len(), 1, "{found:#?}");
    assert_eq!(
        found[0].sentence,
        "checkout (pid 2): connect to 127.0.0.1:7003 failed with ECONNREFUSED 23 times from +3.200 s to +5.406 s \
         (nobody listened there); before that it succeeded 41 times, after that never again"
    );
    assert_eq!((found[0].kind, found[0].level, found[0].count), (Kind::Refused, Level::Cause, 23));
    assert_eq!(
        (found[0].role.as_deref(), found[0].object.as_deref()),
        (Some("checkout"), Some("127.0.0.1:7003"))
    );
    assert_eq!(found[0].errno.as_deref(), Some("ECONNREFUSED"));
    assert_eq!((found[0].evidence.events[0].tid, found[0].evidence.events[0].end_ns / MS), (2, 3200));
}

#[test]
fn a_service_that_comes_up_late_or_refuses_once_is_a_note() {
    let (mut r, t) = one("app");
    for i in 0..50 {
        let ret = if i < 4 { -111 } else { 0 };
        let socket = r.connect(t, 5, i + 1, "127.0.0.1:7003", ret);
        r.close(t, 5, socket);
        r.now += 100 * MS;
    }
    r.connect(t, 5, 99, "127.0.0.1:7004", -111);
    let found = findings(r);
    assert!(found.iter().all(|f| f.level == Level::Note), "{found:#?}");
    assert_eq!(found.len(), 2, "{found:#?}");
}

#[test]
fn tries_without_a_pause_are_a_storm_and_tries_with_one_are_none() {
    for (pause, kind) in [(MS, Kind::RetryStorm), (100 * MS, Kind::Refused)] {
        let (mut r, t) = one("app");
        for i in 0..60 {
            let socket = r.connect(t, 5, i + 1, "127.0.0.1:7003", -111);
            r.close(t, 5, socket);
            r.now += pause;
        }
        let found = telling(r);
        assert_eq!((found[0].kind, found[0].level), (kind, Level::Cause), "{found:#?}");
        assert_eq!(found.iter().any(|f| f.kind == Kind::RetryStorm), kind == Kind::RetryStorm);
    }
}

#[test]
fn ports_that_are_used_up_and_peers_out_of_reach_have_their_own_words() {
    for (errno, kind, words) in [
        (-99, Kind::PortsExhausted, "no local port was left"),
        (-113, Kind::Unreachable, "EHOSTUNREACH"),
        (-110, Kind::TimedOut, "no answer in time"),
        (-104, Kind::Reset, "ECONNRESET"),
    ] {
        let (mut r, t) = one("app");
        for i in 0..5 {
            r.request(t, i + 1, "10.0.0.7:80", (10, 10));
        }
        for i in 0..5 {
            let socket = r.connect(t, 5, 100 + i, "10.0.0.7:80", errno);
            r.close(t, 5, socket);
            r.now += 100 * MS;
        }
        let found = telling(r);
        assert_eq!((found[0].kind, found[0].level), (kind, Level::Cause), "{found:#?}");
        assert!(found[0].sentence.contains(words), "{found:#?}");
    }
}

#[test]
fn a_full_disk_is_said_with_the_file() {
    let (mut r, t) = one("checkout");
    r.open(t, "/data/orders", 3);
    let f = r.file("/data/orders");
    for _ in 0..5 {
        r.io(t, "write", 3, f, 100);
    }
    for _ in 0..3 {
        r.io(t, "write", 3, f, -28);
    }
    let found = telling(r);
    assert_eq!((found.len(), found[0].kind, found[0].count), (1, Kind::DiskFull, 3), "{found:#?}");
    assert!(found[0].sentence.contains("write to /data/orders failed with ENOSPC 3 times"), "{found:#?}");
    assert!(found[0].sentence.contains("the disk was full"), "{found:#?}");
}

#[test]
fn a_leak_up_to_the_limit_is_the_cause_and_the_limit_follows() {
    let (mut r, t) = one("checkout");
    for fd in 3..200 {
        r.open(t, "/data/leaked", fd);
        r.now += 10 * MS;
    }
    for _ in 0..4 {
        r.open(t, "/data/leaked", -24);
    }
    let found = telling(r);
    assert_eq!(
        (found[0].kind, found[0].level, found[0].count),
        (Kind::FdLeak, Level::Cause, 197),
        "{found:#?}"
    );
    assert_eq!(found[0].object.as_deref(), Some("/data/leaked"));
    assert!(found[0].sentence.contains("closed none"), "{found:#?}");
    assert_eq!(
        (found[1].kind, found[1].level, found[1].count),
        (Kind::FdLimit, Level::Warning, 4),
        "{found:#?}"
    );
}

#[test]
fn descriptors_that_are_opened_at_the_start_or_closed_again_are_no_leak() {
    // In one go, as a server opens its files.
    let (mut r, t) = one("server");
    for fd in 3..200 {
        r.open(t, "/data/table", fd);
    }
    r.now += 5000 * MS;
    r.call(t, "getppid", [0; 6], 1);
    // Opened and closed all along.
    let f = r.file("/data/table");
    for _ in 0..200 {
        r.open(t, "/data/table", 300);
        r.close(t, 300, f);
        r.now += 10 * MS;
    }
    assert_eq!(findings(r), []);
}

#[test]
fn a_peer_that_becomes_slow_is_said_with_the_time() {
    let (mut r, t) = one("checkout");
    for i in 0..60_u64 {
        let socket = r.connect(t, 5, i + 1, "127.0.0.1:7003", 0);
        r.io(t, "sendto", 5, socket, 100);
        r.now += if i < 40 { 2 * MS } else { 300 * MS };
        r.io(t, "recvfrom", 5, socket, 50);
        r.close(t, 5, socket);
    }
    let found = telling(r);
    assert_eq!(
        (found[0].kind, found[0].level, found[0].count),
        (Kind::SlowPeer, Level::Cause, 20),
        "{found:#?}"
    );
    let words = &found[0].sentence;
    assert!(words.contains("answers of 127.0.0.1:7003 took 300.1 ms from +1."), "{words}");
    assert!(words.contains("(median of 20); before that 2.1 ms (of 40)"), "{words}");
    assert_eq!(found[0].evidence.before.unwrap().count, 40);
    assert_eq!(found[0].evidence.during.unwrap().p50_ns.unwrap() / MS, 300);
}

/// A rule delays the next call of a task.
fn delays(r: &mut Run, t: Task, name: &str, (enter_ns, exit_ns): (u64, u64)) {
    let event = Event::Injection(Injection {
        t_ns: r.now,
        task: r.id(t),
        rule: 0,
        name: r.str("slow"),
        sysno: syscalls::number(Abi::X86_64, name).unwrap(),
        nth: 1,
        fault: Fault { enter_ns, exit_ns, ..Fault::default() },
    });
    r.push(&event);
    r.now += enter_ns;
}

/// Forty answers, of which the second half is delayed by a rule that hits this call.
fn delayed_answers(call: &str, delay: (u64, u64)) -> Run {
    let (mut r, t) = one("checkout");
    for i in 0..40_u64 {
        let socket = r.connect(t, 5, i + 1, "127.0.0.1:7003", 0);
        let is_delayed = |name| i >= 20 && name == call;
        if is_delayed("sendto") {
            delays(&mut r, t, "sendto", delay);
        }
        r.io(t, "sendto", 5, socket, 100);
        if is_delayed("sendto") {
            r.now += delay.1;
        }
        r.now += 2 * MS;
        if is_delayed("recvfrom") {
            delays(&mut r, t, "recvfrom", delay);
        }
        r.io(t, "recvfrom", 5, socket, 50);
        if is_delayed("recvfrom") {
            r.now += delay.1;
        }
        r.close(t, 5, socket);
    }
    r
}

#[test]
fn a_delay_that_a_plan_injects_is_latency_of_the_peer_and_said_to_be_injected() {
    for (call, delay) in [("recvfrom", (0, 300 * MS)), ("recvfrom", (300 * MS, 0)), ("sendto", (0, 300 * MS))]
    {
        let found = telling(delayed_answers(call, delay));
        assert_eq!((found[0].kind, found[0].count), (Kind::SlowPeer, 20), "{call} {delay:?} {found:#?}");
        let words = &found[0].sentence;
        assert!(words.contains("answers of 127.0.0.1:7003 took 302."), "{call} {delay:?}: {words}");
        assert!(words.ends_with("; a fault plan injected it"), "{call} {delay:?}: {words}");
    }
    // A request that is late makes no answer late.
    assert_eq!(telling(delayed_answers("sendto", (300 * MS, 0))), []);
    // Nor does a delay of another call.
    assert_eq!(telling(delayed_answers("connect", (0, 300 * MS))), []);
}

#[test]
fn a_peer_that_is_slow_all_along_or_once_is_no_incident() {
    for slow in [|_| true, |i: u64| i == 30] {
        let (mut r, t) = one("checkout");
        for i in 0..60_u64 {
            let socket = r.connect(t, 5, i + 1, "127.0.0.1:7003", 0);
            r.io(t, "sendto", 5, socket, 100);
            r.now += if slow(i) { 300 * MS } else { 2 * MS };
            r.io(t, "recvfrom", 5, socket, 50);
            r.close(t, 5, socket);
        }
        assert_eq!(telling(r), []);
    }
}

#[test]
fn an_answer_that_the_program_gives_up_is_a_timeout() {
    let (mut r, t) = one("client");
    for i in 0..10 {
        r.request(t, i + 1, "10.0.0.9:80", (10, 10));
    }
    for i in 0..3 {
        let socket = r.connect(t, 5, 100 + i, "10.0.0.9:80", 0);
        r.io(t, "sendto", 5, socket, 100);
        took(&mut r, t, "poll", [0, 1, 500, 0, 0, 0], None, 500 * MS);
        r.close(t, 5, socket);
    }
    let found = telling(r);
    assert_eq!(
        (found[0].kind, found[0].level, found[0].count),
        (Kind::TimedOut, Level::Cause, 3),
        "{found:#?}"
    );
    assert!(found[0].sentence.contains("10.0.0.9:80 did not answer 3 requests"), "{found:#?}");
}

/// Ends: status as wait(2) has it, what came before, and what is said.
#[test]
fn ends_are_told_by_how_they_came() {
    let end = |status: u32, before: &dyn Fn(&mut Run, Task)| {
        let (mut r, t) = one("app");
        r.call(t, "getppid", [0; 6], 1);
        before(&mut r, t);
        r.exit(t, status);
        findings(r)
    };
    let nothing = |_: &mut Run, _: Task| {};
    assert_eq!(end(0, &nothing), []);
    let found = end(1 << 8, &nothing);
    assert_eq!((found[0].kind, found[0].level), (Kind::Exit, Level::Warning), "{found:#?}");
    let found = end(0x0b | 0x80, &nothing);
    assert_eq!((found[0].kind, found[0].level), (Kind::Crash, Level::Cause), "{found:#?}");
    assert!(found[0].sentence.contains("crashed with SIGSEGV") && found[0].sentence.contains("core dump"));
    let missing = |r: &mut Run, t: Task| r.open(t, "/etc/app/app.conf", -2);
    let found = end(1 << 8, &missing);
    assert_eq!((found[0].kind, found[0].level), (Kind::MissingFile, Level::Cause), "{found:#?}");
    assert_eq!(found[0].object.as_deref(), Some("/etc/app/app.conf"));
    // Looked for in two places, found in the second.
    let elsewhere = |r: &mut Run, t: Task| {
        r.open(t, "/etc/app/app.conf", -2);
        r.open(t, "/usr/etc/app.conf", 3);
    };
    assert_eq!(end(1 << 8, &elsewhere)[0].kind, Kind::Exit);
    // What interpreters and loaders look for is nobody's lack.
    let probing = |r: &mut Run, t: Task| {
        r.open(t, "/usr/lib/python3/json.so", -2);
        r.open(t, "/app/__pycache__/x.pyc", -2);
    };
    assert_eq!(end(1 << 8, &probing)[0].kind, Kind::Exit);
    let denied = |r: &mut Run, t: Task| r.open(t, "/srv/data/db", -13);
    let found = end(1 << 8, &denied);
    assert_eq!((found[0].kind, found[0].level), (Kind::Permission, Level::Cause), "{found:#?}");
    // Killed: by somebody outside, and by somebody who asked it to end.
    let sent = |signo| {
        move |r: &mut Run, t: Task| {
            let signal = Signal {
                t_ns: r.now,
                task: r.id(t),
                signo,
                code: 0,
                sender: None,
                outside: None,
                delivered: false,
            };
            r.push(&Event::Signal(signal));
        }
    };
    let found = end(9, &sent(9));
    assert_eq!((found[0].kind, found[0].level), (Kind::SignalEnded, Level::Warning), "{found:#?}");
    assert!(found[0].sentence.contains("sent from outside of what was recorded"), "{found:#?}");
    assert_eq!(end(15, &sent(15))[0].level, Level::Note);
}

#[test]
fn a_worker_that_is_started_again_and_again_is_one_finding() {
    let mut r = Run::new(1);
    let main = r.task(1, 1, "supervisor");
    for i in 0..6 {
        let child = r.task(10 + i, 10 + i, "worker");
        r.fork(main, child);
        r.open(child, "/etc/app/worker.conf", -2);
        r.exit(child, 1 << 8);
        r.now += 100 * MS;
    }
    let found = telling(r);
    assert_eq!((found.len(), found[0].kind, found[0].count), (1, Kind::MissingFile, 6), "{found:#?}");
    assert_eq!(found[0].role.as_deref(), Some("worker"));
}

#[test]
fn a_call_that_does_not_return_and_one_that_waits_for_work() {
    let (mut r, t) = one("app");
    r.flagged(t, "fsync", SyscallFlags::NO_EXIT, 2000 * MS);
    let found = telling(r);
    assert_eq!((found[0].kind, found[0].level), (Kind::Hang, Level::Cause), "{found:#?}");
    assert!(found[0].sentence.contains("fsync"), "{found:#?}");
    // The call does not say what is behind its descriptor; who opened it did.
    let (mut r, t) = one("app");
    r.open(t, "/srv/data", 3);
    r.flagged(t, "fsync", SyscallFlags::NO_EXIT, 2000 * MS);
    assert_eq!(telling(r)[0].object.as_deref(), Some("/srv/data"));
    let (mut r, t) = one("app");
    for _ in 0..10 {
        r.call(t, "getppid", [0; 6], 1);
    }
    r.flagged(t, "epoll_wait", SyscallFlags::NO_EXIT, 2000 * MS);
    assert_eq!(findings(r), []);
}

#[test]
fn threads_that_hold_what_the_other_wants_are_a_deadlock_with_both_locks() {
    let mut r = Run::new(1);
    let (a, b) = (r.task(1, 1, "bank"), r.task(2, 1, "bank"));
    for (waiter, holder, lock) in [(a, b, "0x1000"), (b, a, "0x2000")] {
        let object = r.str(lock);
        let holder = r.id(holder);
        r.flagged(waiter, "futex", SyscallFlags::NO_EXIT, 1000 * MS);
        r.life(waiter, ProcessKind::WaitsFor { what: WaitKind::Futex, holder, object });
    }
    let found = telling(r);
    assert_eq!((found.len(), found[0].kind), (1, Kind::Deadlock), "{found:#?}");
    for part in ["deadlock", "0x1000, held by bank (tid 3)", "0x2000, held by bank (tid 2)"] {
        assert!(found[0].sentence.contains(part), "{part}: {}", found[0].sentence);
    }
}

#[test]
fn a_convoy_for_a_lock_is_told_and_a_thread_that_is_parked_is_not() {
    // futex(FUTEX_WAIT | FUTEX_PRIVATE_FLAG) for a word that says "contended".
    let wait = |address| [address, 128, 2, 0, 0, 0];
    let mut r = Run::new(1);
    let threads: Vec<Task> = (1..=4).map(|tid| r.task(tid, 1, "bank")).collect();
    for _ in 0..50 {
        for t in &threads {
            took(&mut r, *t, "futex", wait(0x1000), None, 10 * MS);
            r.now -= 8 * MS;
        }
    }
    let found = telling(r);
    assert_eq!((found[0].kind, found[0].level), (Kind::LockWait, Level::Cause), "{found:#?}");
    assert_eq!(found[0].object.as_deref(), Some("0x1000"));
    let (mut r, t) = one("parked");
    for _ in 0..50 {
        took(&mut r, t, "futex", wait(0x1000), None, 10 * MS);
    }
    assert_eq!(findings(r), []);
}

#[test]
fn a_lock_that_is_handed_on_is_told_and_workers_that_wait_for_work_are_not() {
    // FUTEX_WAKE of one, and FUTEX_WAIT for a word that is 0, both private: a semaphore.
    let (wake, wait) = ([0x1000, 129, 1, 0, 0, 0], [0x1000, 128, 0, 0, 0, 0]);
    for by_those_who_wait in [true, false] {
        let mut r = Run::new(1);
        let threads: Vec<Task> = (1..=5).map(|tid| r.task(tid, 1, "app")).collect();
        r.now = 100 * MS;
        for i in 0..60 {
            let waker = if by_those_who_wait { threads[i % 4] } else { threads[4] };
            r.call(waker, "futex", wake, 1);
            r.now -= 15 * MS;
            took(&mut r, threads[(i + 1) % 4], "futex", wait, None, 15 * MS + 10_000);
            r.now += 5 * MS;
        }
        let found = telling(r);
        assert_eq!(found.len(), usize::from(by_those_who_wait), "{found:#?}");
        if let Some(found) = found.first() {
            assert_eq!((found.kind, found.level), (Kind::LockWait, Level::Cause), "{found:#?}");
            assert!(found.sentence.contains("each had it for 5.1 ms (median)"), "{found:#?}");
        }
    }
}

#[test]
fn a_disk_that_becomes_slow_is_told_and_a_single_slow_write_is_not() {
    for (from, expected) in [(20, 1), (39, 0)] {
        let (mut r, t) = one("db");
        let f = r.file("/data/wal");
        for i in 0..40 {
            took(&mut r, t, "fsync", [3, 0, 0, 0, 0, 0], Some(f), if i < from { 2 * MS } else { 150 * MS });
            r.now += 10 * MS;
        }
        let found = telling(r);
        assert_eq!(found.len(), expected, "{found:#?}");
        if let Some(found) = found.first() {
            assert_eq!((found.kind, found.level), (Kind::SlowDisk, Level::Cause), "{found:#?}");
            assert!(found.sentence.contains("fsync of /data/wal took 150.0 ms (median) from"), "{found:#?}");
        }
    }
}

#[test]
fn a_disk_that_a_plan_makes_slow_is_told_so() {
    let (mut r, t) = one("db");
    let f = r.file("/data/wal");
    for i in 0..40 {
        if i >= 20 {
            delays(&mut r, t, "fsync", (50 * MS, 100 * MS));
        }
        took(&mut r, t, "fsync", [3, 0, 0, 0, 0, 0], Some(f), 2 * MS);
        r.now += if i < 20 { 10 * MS } else { 110 * MS };
    }
    let found = telling(r);
    let words = &found[0].sentence;
    assert!(words.contains("fsync of /data/wal took 152.0 ms (median) from"), "{found:#?}");
    assert!(words.ends_with("; a fault plan delayed 20"), "{words}");
}

#[test]
fn waiting_for_a_cpu_is_told_when_others_have_them() {
    for (others, level) in [(true, Level::Cause), (false, Level::Note)] {
        let (mut r, t) = one("app");
        let task = r.id(t);
        for i in 0..30_u64 {
            r.now = i * 100 * MS;
            let busy = if others { i * 100 * MS } else { i * 5 * MS };
            sample(&mut r, 0, Metric::CpuNs, busy);
            let usage = Usage {
                t_ns: r.now + 100 * MS,
                from_ns: r.now,
                task,
                cpu_ns: 5 * MS,
                wait_ns: 90 * MS,
                minor_faults: 0,
                major_faults: 0,
                yields: 0,
                preemptions: 0,
            };
            r.push(&Event::Usage(usage));
        }
        let found = findings(r);
        assert_eq!((found[0].kind, found[0].level), (Kind::CpuStarved, level), "{found:#?}");
    }
}

#[test]
fn what_counters_say_of_limits() {
    let (mut r, t) = one("app");
    for i in 0..20 {
        r.now = (200 + 100 * i) * MS;
        r.call(t, "getppid", [0; 6], 1);
        for (metric, value) in [
            (Metric::CpuThrottledNs, i * 40 * MS),
            (Metric::CpuThrottledPeriods, i),
            (Metric::CpuPeriods, i),
            (Metric::ListenOverflows, i * 2),
            (Metric::Pids, i + 1),
            (Metric::PidsLimit, 20),
        ] {
            sample(&mut r, 1, metric, value);
        }
    }
    let found = telling(r);
    let kinds: Vec<(Kind, Level)> = found.iter().map(|f| (f.kind, f.level)).collect();
    assert_eq!(
        kinds,
        [
            (Kind::BacklogFull, Level::Cause),
            (Kind::Throttled, Level::Cause),
            (Kind::PidsLimit, Level::Warning)
        ],
        "{found:#?}"
    );
    assert!(found[0].sentence.contains("full 38 times"), "{found:#?}");
    assert!(found[1].sentence.contains("held its tasks back for 760.0 ms"), "{found:#?}");
}

#[test]
fn a_quota_that_bites_now_and_then_is_a_note() {
    let (mut r, t) = one("app");
    for i in 0..200 {
        r.now = (200 + 100 * i) * MS;
        r.call(t, "getppid", [0; 6], 1);
        sample(&mut r, 1, Metric::CpuThrottledNs, (i / 40) * 30 * MS);
        sample(&mut r, 1, Metric::CpuThrottledPeriods, i / 40);
        sample(&mut r, 1, Metric::CpuPeriods, i);
    }
    assert_eq!(telling(r), []);
}

#[test]
fn a_clock_that_is_set_is_told_and_one_that_is_slewed_is_not() {
    for (step, expected) in [(3600 * 1000 * MS, 1), (MS / 2, 0)] {
        let (mut r, t) = one("app");
        for i in 0..5_u64 {
            r.now = (1 + i) * 1000 * MS;
            r.call(t, "getppid", [0; 6], 1);
            let realtime_ns = 1_700_000_000_000_000_000 + r.now + if i >= 3 { step } else { 0 };
            r.push(&Event::Anchor(ClockAnchor { t_ns: r.now, monotonic_ns: r.now, realtime_ns }));
        }
        let found = telling(r);
        assert_eq!(found.len(), expected, "{found:#?}");
        if let Some(found) = found.first() {
            assert_eq!((found.kind, found.level), (Kind::ClockJump, Level::Cause));
            assert!(found.sentence.starts_with("the clock was set forward by 3600.00 s"), "{found:#?}");
        }
    }
}

#[test]
fn the_kernel_kills_for_lack_of_memory_and_that_is_the_first_thing_said() {
    let (mut r, t) = one("checkout");
    let other = r.task(9, 9, "batch");
    r.call(t, "getppid", [0; 6], 1);
    sample(&mut r, 1, Metric::MemoryLimitBytes, 32 << 20);
    let by = r.id(t);
    r.life(other, ProcessKind::OomKill { by: Some(by), rss_bytes: 24 << 20, limit: None });
    r.exit(other, 9);
    let found = telling(r);
    assert_eq!((found.len(), found[0].kind), (1, Kind::Oom), "{found:#?}");
    for part in [
        "the kernel killed batch (pid 10) for lack of memory",
        "24.0 MiB resident",
        "its limit of 32.0 MiB",
        "an allocation of checkout (pid 2) set it off",
    ] {
        assert!(found[0].sentence.contains(part), "{part}: {}", found[0].sentence);
    }
}

#[test]
fn names_that_fail_are_told_and_guesses_on_the_way_are_not() {
    let (mut r, t) = one("checkout");
    let task = r.id(t);
    for (name, code, ms) in
        [("db.test", 2, 1), ("db", 0, 150), ("db", 0, 170), ("db.svc.local", 3, 1), ("www", 0, 2)]
    {
        let name = r.str(name);
        r.push(&Event::Dns(Dns {
            t_ns: r.now,
            duration_ns: ms * MS,
            task,
            cookie: SockCookie(4),
            server: SockAddr::Inet("10.0.0.2:53".parse().unwrap()),
            name,
            qtype: 1,
            answer: Some((code, 1)),
        }));
        r.now += 200 * MS;
    }
    let found = telling(r);
    let kinds: Vec<Kind> = found.iter().map(|f| f.kind).collect();
    assert_eq!(kinds, [Kind::NameFailed, Kind::SlowName], "{found:#?}");
    assert!(
        found[0].sentence.contains("asked the name server 10.0.0.2:53 for db.test: it failed (SERVFAIL)")
    );
    assert!(found[1].sentence.contains("10.0.0.2:53 took"), "{found:#?}");
    assert!(!found.iter().any(|f| f.sentence.contains("svc.local")), "{found:#?}");
}

#[test]
fn a_filter_that_refuses_is_told_apart_from_the_kernel() {
    for name in ["mkdir", "connect"] {
        let (mut r, t) = one("app");
        for i in 0..5 {
            let detail = match name {
                "mkdir" => Detail::Str { arg: 0, value: r.str("/data/new") },
                _ => Detail::Addr {
                    arg: 1,
                    addr: ctrace_format::SockAddr::Inet("10.0.0.9:80".parse().unwrap()),
                },
            };
            let event = Event::Syscall(Syscall {
                t_ns: r.now,
                duration_ns: 0,
                task: r.id(t),
                sysno: syscalls::number(Abi::X86_64, name).unwrap(),
                ret: -1,
                flags: SyscallFlags::FILTERED,
                args: [0; 6],
                args_mask: 0x3f,
                object: None,
                details: vec![detail],
                wait_cpu_ns: 0,
                blocked_ns: 0,
            });
            r.push(&event);
            r.now += i * MS;
        }
        let found = telling(r);
        assert_eq!((found.len(), found[0].kind), (1, Kind::SeccompDenied), "{found:#?}");
        assert!(found[0].sentence.contains("a seccomp filter answered, not the kernel"), "{found:#?}");
    }
}

#[test]
fn a_healthy_run_has_no_findings() {
    let (mut r, t) = one("app");
    for i in 0..50 {
        r.open(t, "/lib/x86_64/libmissing.so", -2);
        r.request(t, i + 1, "127.0.0.1:80", (10, 10));
    }
    r.call(t, "ioctl", [1, 0x5401, 0, 0, 0, 0], -25);
    // Go asks whether a file can be waited for; it cannot.
    r.call(t, "epoll_ctl", [4, 1, 3, 0, 0, 0], -1);
    r.exit(t, 0);
    assert_eq!(findings(r), []);
}

#[test]
fn a_shell_passes_on_what_its_last_command_failed_for() {
    let mut r = Run::new(1);
    let sh = r.task(1, 1, "sh");
    // Looked for in the path, and found.
    let (wrong, right) = (r.str("/usr/sbin/app"), r.str("/usr/bin/app"));
    r.call_with(sh, "newfstatat", [0; 6], -2, None, vec![Detail::Str { arg: 1, value: wrong }]);
    r.call_with(sh, "newfstatat", [0; 6], 0, None, vec![Detail::Str { arg: 1, value: right }]);
    let app = r.task(2, 2, "app");
    r.fork(sh, app);
    r.exec(app, "/usr/bin/app");
    r.open(app, "/root/.apprc", -2);
    r.connect(app, 5, 1, "127.0.0.1:7003", -111);
    r.exit(app, 7 << 8);
    r.exit(sh, 7 << 8);
    let found = telling(r);
    let kinds: Vec<(Kind, Level)> = found.iter().map(|f| (f.kind, f.level)).collect();
    assert_eq!(kinds, [(Kind::Refused, Level::Cause), (Kind::Exit, Level::Warning)], "{found:#?}");
    assert!(found[1].sentence.starts_with("app (pid 3) exited with status 7"), "{found:#?}");
}

#[test]
fn clients_are_told_by_what_a_server_accepts() {
    let mut r = Run::new(1);
    let t = r.task(1, 1, "server");
    let socket = |r: &mut Run, cookie: u64, peer: &str| {
        r.object(&Object::Socket {
            family: 2,
            kind: 1,
            protocol: 6,
            cookie: SockCookie(cookie),
            local: Some(SockAddr::Inet("127.0.0.1:8080".parse().unwrap())),
            peer: Some(SockAddr::Inet(peer.parse().unwrap())),
        })
    };
    let first = socket(&mut r, 1, "127.0.0.1:40001");
    r.io(t, "accept4", 3, first, 5);
    // Accepted when calls were only counted.
    let later = socket(&mut r, 2, "127.0.0.1:40002");
    for _ in 0..9 {
        r.io(t, "recvfrom", 6, later, -104);
    }
    let found = findings(r);
    assert!(found.iter().all(|f| f.level == Level::Note), "{found:#?}");
    assert_eq!(found[0].object.as_deref(), Some("clients of 127.0.0.1:8080"), "{found:#?}");
}

#[test]
fn a_search_through_the_path_is_no_lack_of_a_permission() {
    let (mut r, t) = one("sh");
    for i in 0..8 {
        let value = r.str(&format!("/root/bin{i}/locale"));
        r.call_with(t, "newfstatat", [0; 6], -13, None, vec![Detail::Str { arg: 1, value }]);
    }
    assert_eq!(telling(r), []);
    let (mut r, t) = one("shipper");
    for _ in 0..8 {
        r.open(t, "/var/log/app.log", -13);
    }
    assert_eq!(telling(r)[0].kind, Kind::Permission);
}

#[test]
fn a_name_that_does_not_exist_is_told_when_it_is_asked_for_again() {
    for (times, expected) in [(1, 0), (3, 1)] {
        let (mut r, t) = one("app");
        let (task, name) = (r.id(t), r.str("db.test"));
        for _ in 0..times {
            r.push(&Event::Dns(Dns {
                t_ns: r.now,
                duration_ns: MS,
                task,
                cookie: SockCookie(4),
                server: SockAddr::Inet("10.0.0.2:53".parse().unwrap()),
                name,
                qtype: 1,
                answer: Some((3, 0)),
            }));
            r.now += 200 * MS;
        }
        assert_eq!(telling(r).len(), expected);
    }
}

/// The last failure before the end, whatever its error; and failures that something came after.
#[test]
fn a_program_ends_for_the_last_failure_that_it_met() {
    let end = |before: &dyn Fn(&mut Run, Task)| {
        let (mut r, t) = one("app");
        r.call(t, "getppid", [0; 6], 1);
        before(&mut r, t);
        r.exit(t, 1 << 8);
        findings(r)
    };
    let errno = |name| -i64::from(ctrace_format::errno::number(name).unwrap());
    for (name, why) in [
        ("EISDIR", "it is a directory"),
        ("ELOOP", "symbolic links go round"),
        ("ENOTDIR", "a part of the path is no directory"),
    ] {
        let found = end(&|r, t| r.open(t, "/srv/app/state", errno(name)));
        assert_eq!((found[0].kind, found[0].level), (Kind::Failing, Level::Cause), "{found:#?}");
        assert!(found[0].sentence.contains("openat of /srv/app/state failed because"), "{found:#?}");
        assert!(found[0].sentence.contains(why) && found[0].errno.as_deref() == Some(name), "{found:#?}");
    }
    // It went on for long after that.
    let found = end(&|r, t| {
        r.open(t, "/srv/app/state", errno("EISDIR"));
        (0..200).for_each(|_| r.call(t, "getppid", [0; 6], 1));
    });
    assert_eq!(found[0].kind, Kind::Exit, "{found:#?}");
    // A file that may lie beside one that it has.
    let found = end(&|r, t| {
        r.open(t, "/data/app.db", 3);
        r.open(t, "/data/app.db-wal", errno("ENOENT"));
    });
    assert_eq!(found[0].kind, Kind::Exit, "{found:#?}");
    // A file that it did without: a server answered, and then it ended.
    let answered = |kind: u16| {
        end(&move |r: &mut Run, t: Task| {
            r.open(t, "/root/.apprc", errno("ENOENT"));
            let (cookie, peer) = (ctrace_format::SockCookie(7), Some("10.0.0.9:443".parse().unwrap()));
            let peer = peer.map(ctrace_format::SockAddr::Inet);
            let socket =
                r.object(&Object::Socket { family: 2, kind, protocol: 0, cookie, local: None, peer });
            r.io(t, "recvfrom", 3, socket, 40);
        })
    };
    assert_eq!(answered(1)[0].kind, Kind::Exit);
    // The name server's answer tells nothing of that.
    assert_eq!(answered(2)[0].kind, Kind::MissingFile);
}

#[test]
fn a_quota_that_holds_back_for_long_is_a_cause_however_few_periods_were_counted() {
    let quota = |held_ms: u64, each: u64| {
        let (mut r, t) = one("worker");
        for k in 0..20 {
            sample(&mut r, 1, Metric::CpuThrottledNs, held_ms * MS * k / 19);
            sample(&mut r, 1, Metric::CpuThrottledPeriods, k / 10);
            sample(&mut r, 1, Metric::CpuPeriods, k);
            sample(&mut r, 1, Metric::CpuQuotaNs, each);
            sample(&mut r, 1, Metric::CpuPeriodNs, 100 * MS);
            took(&mut r, t, "getpid", [0; 6], None, 100 * MS);
        }
        findings(r).into_iter().find(|finding| finding.kind == Kind::Throttled).unwrap()
    };
    assert_eq!(quota(1500, 20 * MS).level, Level::Cause);
    assert_eq!(quota(300, 20 * MS).level, Level::Note, "a burst");
    // A quota that was let go by the end says nothing of what held tasks back.
    let open = quota(1500, 102_400_000 * MS / 1000);
    assert!(!open.sentence.contains("CPUs)"), "{}", open.sentence);
}

#[test]
fn memory_that_comes_near_its_limit_is_told_where_only_processes_are_sampled() {
    let used = |share: u64| {
        let (mut r, t) = one("worker");
        sample(&mut r, 0, Metric::MemoryLimitBytes, 8 << 30);
        for k in 0..20 {
            sample(&mut r, 1, Metric::MemoryLimitBytes, 100 << 20);
            sample(&mut r, 1, Metric::RssBytes, (share << 20) * k / 19);
            took(&mut r, t, "getpid", [0; 6], None, 100 * MS);
        }
        telling(r)
    };
    let near = used(97);
    assert_eq!(near[0].kind, Kind::MemoryLimit);
    assert!(near[0].sentence.contains("its memory limit of 100.0 MiB"), "{}", near[0].sentence);
    assert!(used(90).is_empty());
}
