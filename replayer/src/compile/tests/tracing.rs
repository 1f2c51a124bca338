//! A tracer among the recorded: what it is told of does not happen in a replay, and what it lets go on is not stopped.

use super::*;

const TRACEME: u64 = 0;
const SEIZE: u64 = 0x4206;
const SIGSTOP: u64 = 19;
/// `SIGTRAP | 0x80`: a stop at a call.
const AT_A_CALL: u64 = 0x857f;
const WALL: u64 = 0x4000_0000;
const SIGCHLD: u32 = 17;
const CLD_EXITED: i32 = 1;
const CLD_TRAPPED: i32 = 4;

/// A tracer (10), its child (11), which it traces, and the child of that (12).
fn traced() -> (Mem, [TaskId; 3]) {
    let mut t = Mem::new();
    let all @ [tracer, child, grandchild] = [t.add_task(10, 10), t.add_task(11, 11), t.add_task(12, 12)];
    t.fork(tracer, child);
    t.call(tracer, "clone", [17, 0, 0, 0, 0, 0], 11);
    t.call(child, "ptrace", [TRACEME, 0, 0, 0, 0, 0], 0);
    t.call(child, "kill", [11, SIGSTOP, 0, 0, 0, 0], 0);
    told(&mut t, tracer, u64::MAX, 11, 0x137f);
    t.fork(child, grandchild);
    t.call(child, "clone", [17, 0, 0, 0, 0, 0], 12);
    t.call(tracer, "ptrace", [SEIZE, 12, 0, 0, 0, 0], 0);
    (t, all)
}

fn told(t: &mut Mem, task: TaskId, whom: u64, child: i64, status: u64) {
    let wait = t.call(task, "wait4", [whom, 0, WALL, 0, 0, 0], child);
    wait.details.push(Detail::Value { arg: 1, value: status });
}

fn all(plan: &Plan, task: u32, name: &str) -> Vec<bool> {
    let steps = steps(plan, task);
    steps.iter().filter(|s| s.nr == named(name)).map(|s| s.flags & flags::FAULT != 0).collect()
}

#[test]
fn nobody_who_is_traced_is_stopped() {
    let (mut t, [tracer, ..]) = traced();
    // One whom nobody traces is.
    t.call(tracer, "kill", [10, SIGSTOP, 0, 0, 0, 0], 0);
    let plan = t.plan();
    assert_eq!((all(&plan, 1, "kill"), all(&plan, 0, "kill")), (vec![true], vec![false]));
    assert_eq!(plan.summary.surrogate.get("kill"), Some(&1), "{:?}", plan.summary);
}

#[test]
fn a_tracer_is_told_what_it_was_told() {
    let (mut t, [tracer, child, grandchild]) = traced();
    told(&mut t, tracer, u64::MAX, 12, AT_A_CALL);
    // Nothing has come yet, and there may be no child.
    t.call(tracer, "wait4", [u64::MAX, 0, WALL | 1, 0, 0, 0], 0);
    t.call(grandchild, "exit_group", [0; 6], 0);
    told(&mut t, tracer, u64::MAX, 12, 0);
    told(&mut t, child, u64::MAX, 12, 0);
    t.call(child, "exit_group", [0; 6], 0);
    told(&mut t, tracer, u64::MAX, 11, 0);
    let plan = t.plan();
    // Its own child ended in the replay, too, and the child's own.
    assert_eq!(all(&plan, 0, "wait4"), [true, true, true, true, false]);
    assert_eq!(all(&plan, 1, "wait4"), [false]);
}

#[test]
fn a_tracer_gets_the_signals_that_told_it_of_stops() {
    let (mut t, [tracer, child, grandchild]) = traced();
    for (sender, code) in [(child, CLD_TRAPPED), (child, CLD_EXITED), (grandchild, CLD_EXITED)] {
        let t_ns = t.now;
        let sender = Some(sender);
        let signal =
            Signal { t_ns, task: tracer, signo: SIGCHLD, code, sender, delivered: false, outside: None };
        t.events.push(Event::Signal(signal));
        t.call(tracer, "getuid", [0; 6], 0);
    }
    let signals = t.plan().environment.signals;
    // The kernel tells of its child's end by itself.
    assert_eq!(signals.iter().map(|s| s.signo).collect::<Vec<_>>(), [SIGCHLD; 2]);
    assert_eq!(signals.iter().filter(|s| s.task == 0).count(), 2);
}
