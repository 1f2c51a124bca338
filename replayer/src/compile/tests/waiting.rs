//! Who waits for whom: futexes, calls that were interrupted, calls that were under way when the recording began or ended.

use super::{Mem, named, steps};
use ctrace_format::{
    Detail, Event, FdTarget, ProcessSnapshot, Signal, SyscallFlags, TaskId, Tgid, ThreadSnapshot, Tid,
};
use ctrace_program::{Expect, Kind, Program, Sel, Step, Wait, flags};

const WAIT: u64 = 0x80;
const WAKE: u64 = 0x81;
const CMP_REQUEUE: u64 = 0x84;
const WORD: u64 = 0x1000;
const OTHER: u64 = 0x2000;
const SIGSTOP: u32 = 19;
const SIGUSR1: u32 = 10;

/// A process of a first thread and others. Task numbers of the program are those of the trace.
fn threads(count: u32) -> (Mem, Vec<TaskId>) {
    let mut t = Mem::new();
    let mut tasks = vec![t.add_task(10, 10)];
    t.call(tasks[0], "getuid", [0; 6], 0);
    for tid in 11..10 + count {
        let thread = t.add_task(tid, 10);
        t.fork(tasks[0], thread);
        t.call(tasks[0], "clone", [0x5_0f00, 0, 0, 0, 0, 0], i64::from(tid));
        tasks.push(thread);
    }
    for task in &tasks[1..] {
        t.call(*task, "getuid", [0; 6], 0);
    }
    (t, tasks)
}

fn at(t: &mut Mem, task: TaskId, args: [u64; 6], ret: i64, (from, to): (u64, u64)) {
    let call = t.call(task, "futex", args, ret);
    (call.t_ns, call.duration_ns) = (from, to - from);
}

fn futexes(steps: &[Step]) -> Vec<Step> {
    steps.iter().filter(|s| s.nr == named("futex")).copied().collect()
}

/// What the steps of a task wait for.
fn waits(t: &Mem, task: u32) -> Vec<(Step, Vec<Wait>)> {
    let plan = t.plan();
    let program = super::Program::open(plan.program.try_clone().unwrap()).unwrap();
    (0..program.tasks[task as usize].steps)
        .map(|i| {
            let step = program.step(task, i).unwrap();
            let waits = program.waits(&step).unwrap();
            (step, waits)
        })
        .collect()
}

#[test]
fn a_wake_reaches_whom_it_reached_and_nobody_else() {
    let (mut t, tasks) = threads(3);
    let now = t.now;
    // Both wait on one word. The first wake ends the wait that returned first.
    at(&mut t, tasks[1], [WORD, WAIT, 0, 0, 0, 0], 0, (now, now + 60_000));
    at(&mut t, tasks[2], [WORD, WAIT, 0, 0, 0, 0], 0, (now + 1_000, now + 30_000));
    at(&mut t, tasks[0], [WORD, WAKE, 1, 0, 0, 0], 1, (now + 20_000, now + 21_000));
    at(&mut t, tasks[0], [WORD, WAKE, 1, 0, 0, 0], 1, (now + 50_000, now + 51_000));
    let plan = t.plan();
    let slot = |task: u32| futexes(&steps(&plan, task))[0].args[0];
    let woken = futexes(&steps(&plan, 0));
    assert_eq!(woken.iter().map(|s| s.args[0]).collect::<Vec<_>>(), [slot(2), slot(1)]);
    assert!(woken.iter().all(|s| s.kind == Kind::FutexWake as u8 && s.expect == 1));
    // Each comes when the one it is for is in the call that it ended.
    let of: Vec<Vec<Wait>> = waits(&t, 0)
        .into_iter()
        .filter(|(step, _)| step.kind == Kind::FutexWake as u8)
        .map(|(_, waits)| waits)
        .collect();
    assert_eq!(of, [vec![Wait::entered(2, 1)], vec![Wait::entered(1, 1)]]);
}

#[test]
fn who_wakes_several_gathers_them_first() {
    let (mut t, tasks) = threads(4);
    let now = t.now;
    at(&mut t, tasks[1], [WORD, WAIT, 0, 0, 0, 0], 0, (now, now + 30_000));
    at(&mut t, tasks[2], [WORD, WAIT, 0, 0, 0, 0], 0, (now, now + 31_000));
    at(&mut t, tasks[3], [WORD, WAIT, 0, 0, 0, 0], 0, (now + 40_000, now + 60_000));
    at(&mut t, tasks[0], [WORD, WAKE, i32::MAX as u64, 0, 0, 0], 2, (now + 20_000, now + 21_000));
    at(&mut t, tasks[0], [WORD, WAKE, 1, 0, 0, 0], 1, (now + 50_000, now + 51_000));
    let plan = t.plan();
    let slot = |task: u32| futexes(&steps(&plan, task))[0].args[0];
    let made = futexes(&steps(&plan, 0));
    let [first, second, wake, last] = made[..] else { panic!("{made:?}") };
    assert_eq!((first.args[0], second.args[0], last.args[0]), (slot(1), slot(2), slot(3)));
    assert!([first, second].iter().all(|s| s.flags & flags::ENGINE != 0 && s.args[4] == wake.args[0]));
    assert_eq!((wake.args[2], wake.expect, wake.flags & flags::ENGINE), (2, 2, 0));
}

#[test]
fn a_requeue_moves_those_whom_a_wake_of_the_other_word_ends() {
    let (mut t, tasks) = threads(4);
    let now = t.now;
    for (i, end) in [30_000, 60_000, 61_000].into_iter().enumerate() {
        at(&mut t, tasks[i + 1], [WORD, WAIT, 0, 0, 0, 0], 0, (now + i as u64, now + end));
    }
    at(&mut t, tasks[0], [WORD, CMP_REQUEUE, 1, 9, OTHER, 0], 3, (now + 20_000, now + 21_000));
    at(&mut t, tasks[0], [OTHER, WAKE, 2, 0, 0, 0], 2, (now + 50_000, now + 51_000));
    let plan = t.plan();
    let made = steps(&plan, 0);
    let requeue = made.iter().find(|s| s.args[1] == CMP_REQUEUE && s.flags & flags::ENGINE == 0).unwrap();
    assert_eq!((requeue.args[2], requeue.args[3], requeue.expect), (1, 2, 3));
    assert_ne!(requeue.args[0], requeue.args[4]);
    // The moved are moved back to where they wait.
    let back = made.iter().filter(|s| s.flags & flags::ENGINE != 0 && s.args[0] == requeue.args[4]);
    assert_eq!(back.count(), 2);
    assert!(plan.summary.surrogate.is_empty(), "{:?}", plan.summary.surrogate);
}

#[test]
fn a_wait_that_a_handler_interrupts_goes_on_at_the_same_word() {
    let (mut t, tasks) = threads(2);
    t.call(tasks[1], "rt_sigaction", [u64::from(SIGUSR1), 1, 0, 8, 0, 0], 0)
        .details
        .push(Detail::SigAction { arg: 1, handler: 2, flags: 0x1000_0000, mask: 0 });
    let now = t.now;
    at(&mut t, tasks[1], [WORD, WAIT, 0, 0, 0, 0], -512, (now, now + 10_000));
    deliver(&mut t, tasks[1], SIGUSR1, now + 11_000);
    t.now = now + 12_000;
    t.call(tasks[1], "rt_sigreturn", [0; 6], 202);
    at(&mut t, tasks[1], [WORD, WAIT, 0, 0, 0, 0], 0, (now + 14_000, now + 30_000));
    at(&mut t, tasks[0], [WORD, WAKE, 1, 0, 0, 0], 1, (now + 20_000, now + 21_000));
    let plan = t.plan();
    let made = futexes(&steps(&plan, 1));
    let [interrupted, again] = made[..] else { panic!("{made:?}") };
    assert_eq!(interrupted.args[0], again.args[0]);
    assert_eq!((again.expect_kind, again.expect), (Expect::Exact as u8, 0));
    assert_eq!(futexes(&steps(&plan, 0))[0].args[0], again.args[0]);
}

fn deliver(t: &mut Mem, task: TaskId, signo: u32, t_ns: u64) {
    t.events.push(Event::Signal(Signal {
        t_ns,
        task,
        signo,
        code: 0,
        sender: None,
        delivered: true,
        outside: None,
    }));
}

/// A sleep of 50 µs that a stop cut in two.
fn stopped() -> (Mem, TaskId) {
    let mut t = Mem::new();
    let a = t.add_task(10, 10);
    t.call(a, "getuid", [0; 6], 0);
    let now = t.now;
    let sleep = t.call(a, "nanosleep", [WORD, 0, 0, 0, 0, 0], -516);
    sleep.duration_ns = 10_000;
    sleep.details.push(Detail::Time { arg: 0, ns: 50_000 });
    deliver(&mut t, a, SIGSTOP, now + 11_000);
    t.now = now + 30_000;
    t.call(a, "restart_syscall", [0; 6], 0).duration_ns = 20_000;
    t.now = now + 60_000;
    t.call(a, "getuid", [0; 6], 0);
    (t, a)
}

#[test]
fn a_call_that_a_stop_interrupted_is_one_call() {
    let (t, _) = stopped();
    let plan = t.plan();
    let made: Vec<Step> = steps(&plan, 0)
        .into_iter()
        .filter(|s| s.nr == named("nanosleep") || s.nr == named("restart_syscall"))
        .collect();
    let [sleep] = made[..] else { panic!("{made:?}") };
    assert_eq!((sleep.args[0], sleep.duration_ns, sleep.flags & flags::INTERRUPTED), (50_000, 50_000, 0));
    assert_eq!((sleep.expect_kind, sleep.expect), (Expect::Exact as u8, 0));
}

#[test]
fn who_was_stopped_from_outside_is_continued_when_it_was() {
    let (mut t, _) = stopped();
    let sent = |t: &Mem| t.plan().environment.signals.iter().map(|s| (s.signo, s.t_ns)).collect::<Vec<_>>();
    let begun = t.events.iter().find_map(|e| match e {
        Event::Syscall(call) if call.sysno.nr == named("restart_syscall") => Some(call.t_ns),
        _ => None,
    });
    assert_eq!(sent(&t), [(18, begun.unwrap())]);
    // Somebody inside let it go on.
    let b = t.add_task(11, 11);
    t.call(b, "kill", [10, 18, 0, 0, 0, 0], 0).t_ns = begun.unwrap() - 2_000;
    assert_eq!(sent(&t), []);
}

#[test]
fn what_is_added_to_an_eventfd_after_a_read_is_added_after_it() {
    let (mut t, tasks) = threads(2);
    t.call(tasks[0], "eventfd2", [0, 0o4000, 0, 0, 0, 0], 5);
    t.call(tasks[1], "write", [5, 0, 8, 0, 0, 0], 8);
    t.call(tasks[0], "read", [5, 0, 8, 0, 0, 0], 8);
    t.call(tasks[1], "write", [5, 0, 8, 0, 0, 0], 8);
    t.call(tasks[0], "read", [5, 0, 8, 0, 0, 0], 8);
    let is_read = |s: &Step| s.kind == Kind::Call as u8 && s.nr == named("read");
    let read = steps(&t.plan(), 0).iter().position(is_read).unwrap() as u32;
    let written = waits(&t, 1).into_iter().filter(|(step, _)| step.nr == named("write")).nth(1).unwrap();
    assert_eq!(written.1, [Wait::completed(0, read)]);
}

#[test]
fn a_call_that_never_returned_has_no_limit_that_passes() {
    let mut t = Mem::new();
    let a = t.add_task(10, 10);
    t.call(a, "getuid", [0; 6], 0);
    let sleep = t.call(a, "nanosleep", [WORD, 0, 0, 0, 0, 0], 0);
    sleep.flags = SyscallFlags::NO_EXIT;
    sleep.details.push(Detail::Time { arg: 0, ns: 30_000_000 });
    let plan = t.plan();
    let sleep = steps(&plan, 0).into_iter().find(|s| s.nr == named("nanosleep")).unwrap();
    assert_eq!((sleep.sel[0], sleep.expect_kind), (Sel::Timespec as u8, Expect::Never as u8));
    // More than any replay lasts.
    assert!(sleep.args[0] > 86_400_000_000_000, "{}", sleep.args[0]);
}

#[test]
fn what_lasted_all_the_time_hangs_again_though_its_cause_is_not_there() {
    let mut t = Mem::new();
    let names = ["flock", "connect", "openat", "fsync", "wait4", "pause"];
    let tasks: Vec<TaskId> = (0..names.len() as u32).map(|i| t.add_task(10 + i, 10)).collect();
    for (task, name) in tasks.iter().zip(names) {
        let args = if name == "flock" { [3, 2, 0, 0, 0, 0] } else { [3, 0, 0, 0, 0, 0] };
        let call = t.call(*task, name, args, 0);
        (call.t_ns, call.duration_ns) = (0, 1_000_000_000);
        call.flags = SyscallFlags::NO_ENTER.union(SyscallFlags::NO_EXIT);
    }
    let plan = t.plan();
    for (index, name) in names.into_iter().enumerate() {
        let steps = steps(&plan, index as u32);
        let hang = steps.iter().find(|s| s.expect_kind == Expect::Never as u8).unwrap();
        let stands_in = hang.flags & flags::SURROGATE != 0;
        // There is no child that it could wait for.
        assert_eq!(stands_in, name != "pause", "{name}: {hang:?}");
        assert_eq!(hang.nr, named(if stands_in { "ppoll" } else { name }), "{hang:?}");
    }
    assert_eq!(plan.summary.surrogate.get("flock"), Some(&1), "{:?}", plan.summary);
}

/// A process that was there, with a listening socket, and threads that were in calls when the recording began.
fn attached(in_calls: &[(&str, [u64; 6])]) -> (Mem, Vec<TaskId>) {
    let mut t = Mem::new();
    let thread = |tid: u32, call: Option<(u32, [u64; 6])>| ThreadSnapshot {
        tid: Tid(tid),
        syscall: call,
        ..ThreadSnapshot::default()
    };
    let mut all = vec![thread(10, None)];
    for (i, (name, args)) in in_calls.iter().enumerate() {
        all.push(thread(11 + i as u32, Some((named(name), *args))));
    }
    let mut fds = Vec::new();
    for fd in 0..4 {
        let target = FdTarget::Pipe { ino: fd as u64 + 1 };
        fds.push(ctrace_format::FdSnapshot { fd, flags: 0, offset: 0, target });
    }
    t.snapshot.processes =
        vec![ProcessSnapshot { tgid: Tgid(10), parent: Tgid(1), threads: all, fds, ..Default::default() }];
    let tasks = (0..=in_calls.len() as u32).map(|i| t.add_task(10 + i, 10)).collect();
    t.now = 500_000;
    (t, tasks)
}

fn returned(t: &mut Mem, task: TaskId, name: &str, ret: i64) {
    let call = t.call(task, name, [0; 6], ret);
    (call.flags, call.duration_ns, call.args_mask) = (SyscallFlags::NO_ENTER, 0, 0);
}

#[test]
fn a_wait_under_way_at_the_start_times_out_when_it_did() {
    let (mut t, tasks) = attached(&[("futex", [WORD, WAIT, 0, 0, 0, 0])]);
    returned(&mut t, tasks[1], "futex", -110);
    let ended = t.now - 2_000;
    let plan = t.plan();
    let wait = futexes(&steps(&plan, 1)).into_iter().find(|s| s.args[1] == WAIT).unwrap();
    assert_eq!((wait.flags & flags::FAULT, wait.sel[3], wait.args[3]), (0, Sel::Timespec as u8, ended));
}

#[test]
fn an_accept_under_way_at_the_start_takes_the_number_it_had() {
    let (mut t, tasks) = attached(&[("accept", [3, 0, 0, 0, 0, 0])]);
    // It had taken 6 when 4 and 5 were in use: these are taken now.
    let file = t.file(b"/etc/x", 10);
    t.open(tasks[0], b"/etc/x", 0, 4, Some(file));
    returned(&mut t, tasks[1], "accept", 6);
    let plan = t.plan();
    let first = steps(&plan, 0);
    let gate = first.iter().position(|s| s.kind == Kind::Gate as u8).unwrap();
    let held: Vec<u64> =
        first[..gate].iter().filter(|s| s.nr == named("eventfd2")).map(|s| s.post_arg & 0xffff).collect();
    assert_eq!(held, [4, 5]);
    let closed: Vec<u64> = first[gate..]
        .iter()
        .filter(|s| s.nr == named("close") && s.flags & flags::ENGINE != 0)
        .map(|s| s.args[0])
        .collect();
    assert_eq!(closed, [4, 5]);
    // Once it is under way.
    let accept = steps(&plan, 1).iter().position(|s| s.nr == named("accept")).unwrap() as u32;
    assert!(
        waits(&t, 0)
            .iter()
            .any(|(step, waits)| { step.nr == named("close") && waits.contains(&Wait::entered(1, accept)) })
    );
}

/// Who has waited longest is given a connection first, whatever its number.
#[test]
fn accepts_under_way_at_the_start_begin_in_the_order_in_which_they_return() {
    let accept = ("accept", [3, 0, 0, 0, 0, 0]);
    let (mut t, tasks) = attached(&[accept, accept]);
    t.call(tasks[0], "getuid", [0; 6], 0);
    // When it began, 4 was in use; the other took that later.
    returned(&mut t, tasks[1], "accept", 5);
    returned(&mut t, tasks[2], "accept", 4);
    let plan = t.plan();
    let first = steps(&plan, 0);
    let gate = first.iter().position(|s| s.kind == Kind::Gate as u8).unwrap();
    let held: Vec<u64> =
        first[..gate].iter().filter(|s| s.nr == named("eventfd2")).map(|s| s.post_arg & 0xffff).collect();
    assert_eq!(held, [4]);
    let place = |task| steps(&plan, task).iter().position(|s| s.nr == named("accept")).unwrap() as u32;
    let freed = steps(&plan, 2)[place(2) as usize - 1];
    assert_eq!((freed.nr, freed.args[0]), (named("close"), 4));
    let program = Program::open(plan.program.try_clone().unwrap()).unwrap();
    assert_eq!(program.waits(&freed).unwrap(), [Wait::entered(1, place(1))]);
    assert!(program.waits(&steps(&plan, 1)[place(1) as usize]).unwrap().is_empty());
}

#[test]
fn a_wait_that_a_signal_ended_lets_signals_through() {
    let mut t = Mem::new();
    let a = t.add_task(10, 10);
    t.call(a, "getuid", [0; 6], 0);
    t.call(a, "pselect6", [0; 6], -514);
    t.call(a, "rt_sigreturn", [0; 6], -4);
    t.call(a, "pselect6", [0; 6], 0);
    let plan = t.plan();
    let waits: Vec<u8> =
        steps(&plan, 0).iter().filter(|s| s.nr == named("pselect6")).map(|s| s.sel[5]).collect();
    assert_eq!(waits, [Sel::Data as u8, Sel::Imm as u8]);
}

#[test]
fn a_sleep_until_a_moment_ends_then_and_not_as_late_again() {
    let mut t = Mem::new();
    let a = t.add_task(10, 10);
    let call = t.call(a, "clock_nanosleep", [1, 1, 0, 0, 0, 0], 0);
    let until = call.t_ns + 900_000;
    call.duration_ns = 1_000_000;
    call.details.push(Detail::Time { arg: 2, ns: until });
    let plan = t.plan();
    let sleep = steps(&plan, 0).into_iter().find(|s| s.nr == named("clock_nanosleep")).unwrap();
    assert_eq!(ctrace_program::clock_parts(sleep.args[2]), (1, 900_000));
}

#[test]
fn records_that_come_sooner_are_for_the_next_read() {
    let mut t = Mem::new();
    let a = t.add_task(10, 10);
    t.call(a, "inotify_init1", [0; 6], 7);
    t.call(a, "read", [7, 0, 272, 0, 0, 0], 48);
    let plan = t.plan();
    let is_read = |s: &&Step| s.kind == Kind::Call as u8 && s.nr == named("read");
    assert_eq!(steps(&plan, 0).iter().find(is_read).unwrap().args[2], 48);
}

#[test]
fn a_process_ends_after_the_calls_that_its_threads_had_made() {
    const CLONE_THREAD: u64 = 0x5_0f00;
    let mut t = Mem::new();
    let (a, b) = (t.add_task(10, 10), t.add_task(11, 10));
    t.fork(a, b);
    t.call(a, "clone", [CLONE_THREAD, 0, 0, 0, 0, 0], 11);
    t.call(b, "getuid", [0; 6], 0);
    t.call(a, "exit_group", [0; 6], 0);
    let plan = t.plan();
    let program = Program::open(plan.program.try_clone().unwrap()).unwrap();
    let exit = steps(&plan, 0).into_iter().find(|step| step.nr == named("exit_group")).unwrap();
    let last = steps(&plan, 1).iter().position(|step| step.nr == named("getuid")).unwrap();
    assert_eq!(program.waits(&exit).unwrap(), [Wait::completed(1, last as u32)]);
}

/// A thread that had ended by itself before somebody asked for it is waited for by no call: the word of its id says enough.
#[test]
fn a_process_ends_after_its_threads_that_had_ended() {
    const CLONE_THREAD: u64 = 0x5_0f00;
    let mut t = Mem::new();
    let (a, b) = (t.add_task(10, 10), t.add_task(11, 10));
    t.fork(a, b);
    t.call(a, "clone", [CLONE_THREAD, 0, 0, 0, 0, 0], 11);
    t.call(b, "getuid", [0; 6], 0);
    t.call(b, "exit", [0; 6], 0).flags = SyscallFlags::NO_EXIT;
    let t_ns = t.now;
    t.now += 1_000;
    t.events.push(Event::Process(ctrace_format::Process {
        t_ns,
        task: b,
        kind: ctrace_format::ProcessKind::Exit { status: 0, group_dead: false },
    }));
    t.call(a, "exit_group", [0; 6], 0).flags = SyscallFlags::NO_EXIT;
    let plan = t.plan();
    let program = Program::open(plan.program.try_clone().unwrap()).unwrap();
    let exit = steps(&plan, 0).into_iter().find(|step| step.nr == named("exit_group")).unwrap();
    let last = steps(&plan, 1).iter().position(|step| step.nr == named("exit")).unwrap();
    assert!(program.waits(&exit).unwrap().iter().any(|wait| *wait == Wait::completed(1, last as u32)));
}

/// The C library gives a new thread the stack of one that has ended, and with that the word of its id.
#[test]
fn a_thread_that_is_waited_for_is_the_one_whose_id_the_wait_names() {
    const JOINED: u64 = 0x30_0000 | 0x5_0f00;
    let mut t = Mem::new();
    let a = t.add_task(10, 10);
    t.call(a, "getuid", [0; 6], 0);
    let mut threads = Vec::new();
    for tid in [11, 12] {
        let thread = t.add_task(tid, 10);
        threads.push(thread);
        t.fork(a, thread);
        t.call(a, "clone", [JOINED, 0, 0, WORD, 0, 0], i64::from(tid));
        t.call(thread, "getuid", [0; 6], 0);
        let waiting = t.now;
        t.call(thread, "exit", [0; 6], 0).flags = SyscallFlags::NO_EXIT;
        let (t_ns, kind) = (t.now, ctrace_format::ProcessKind::Exit { status: 0, group_dead: false });
        t.events.push(Event::Process(ctrace_format::Process { t_ns, task: thread, kind }));
        if tid == 12 {
            // The first had ended when it was looked for.
            let now = t.now;
            at(&mut t, a, [WORD, WAIT, 12, 0, 0, 0], 0, (waiting, now + 1_000));
        }
    }
    let wait = futexes(&steps(&t.plan(), 0))[0];
    assert_eq!((wait.sel[2], wait.args[2]), (Sel::Pid as u8, 2));
}

#[test]
fn a_signal_from_outside_comes_into_the_call_that_it_found() {
    let mut t = Mem::new();
    let a = t.add_task(10, 10);
    t.call(a, "getuid", [0; 6], 0);
    let sends = |t: &mut Mem, t_ns| {
        let signal =
            Signal { t_ns, task: a, signo: SIGUSR1, code: 0, sender: None, delivered: false, outside: None };
        t.events.push(Event::Signal(signal));
    };
    // It came while the task waited, whose call is told of when it returns.
    let begin_ns = t.now;
    sends(&mut t, begin_ns + 400);
    t.call(a, "pause", [0; 6], -4);
    // It came between two calls.
    let between_ns = t.now;
    sends(&mut t, between_ns);
    t.now += 100;
    t.call(a, "getuid", [0; 6], 0);
    let plan = t.plan();
    let at = |name: &str| steps(&plan, 0).iter().rposition(|s| s.nr == named(name)).unwrap() as u32;
    let after: Vec<u32> = plan.environment.signals.iter().map(|signal| signal.after_seq).collect();
    assert_eq!(after, [Wait::entered(0, at("pause")).seq, Wait::completed(0, at("getuid") - 1).seq]);
}

#[test]
fn a_signal_of_a_timer_that_nobody_saw_sent_is_sent_into_the_call_that_it_ended() {
    const SIGALRM: u32 = libc::SIGALRM as u32;
    let mut t = Mem::new();
    let a = t.add_task(10, 10);
    t.call(a, "rt_sigaction", [u64::from(SIGALRM), 1, 0, 8, 0, 0], 0).details.push(Detail::SigAction {
        arg: 1,
        handler: 2,
        flags: 0,
        mask: 0,
    });
    let tells = |t: &mut Mem, delivered| {
        let signal = Signal {
            t_ns: t.now,
            task: a,
            signo: SIGALRM,
            code: 128,
            sender: None,
            delivered,
            outside: None,
        };
        t.events.push(Event::Signal(signal));
        t.now += 100;
    };
    t.call(a, "pause", [0; 6], -514);
    tells(&mut t, true);
    t.call(a, "rt_sigreturn", [0; 6], -4);
    // The next was seen, and comes once.
    tells(&mut t, false);
    tells(&mut t, true);
    t.call(a, "rt_sigreturn", [0; 6], 0);
    let plan = t.plan();
    let at = |name: &str| steps(&plan, 0).iter().position(|s| s.nr == named(name)).unwrap() as u32;
    let sent: Vec<(u32, u32)> = plan.environment.signals.iter().map(|s| (s.signo, s.after_seq)).collect();
    let returned = Wait::completed(0, at("rt_sigreturn")).seq;
    assert_eq!(sent, [(SIGALRM, Wait::entered(0, at("pause")).seq), (SIGALRM, returned)]);
}

#[test]
fn a_stop_that_only_a_tracer_is_told_of_is_answered() {
    const STOPPED: u64 = 5 << 8 | 0x7f;
    // WUNTRACED asks for stops by signals, which take place here.
    for (options, answered) in [(0, flags::FAULT), (2, 0)] {
        let mut t = Mem::new();
        let (a, b) = (t.add_task(10, 10), t.add_task(11, 11));
        t.fork(a, b);
        t.call(a, "clone", [17, 0, 0, 0, 0, 0], 11);
        let wait = t.call(a, "wait4", [u64::MAX, 0, options, 0, 0, 0], 11);
        wait.details.push(Detail::Value { arg: 1, value: STOPPED });
        let steps = steps(&t.plan(), 0);
        let wait = steps.iter().find(|s| s.nr == named("wait4")).unwrap();
        assert_eq!((wait.flags & flags::FAULT, wait.expect != 0), (answered, true));
    }
}
