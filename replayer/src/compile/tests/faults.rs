//! Plans of recordings as they would have been with faults.

use super::{AT_FDCWD, Mem, named, steps};
use crate::compile::{CompileError, Source, compile};
use crate::plan::{CompileOptions, Plan};
use ctrace_analysis::edits::{Edits, Injection, Told};
use ctrace_format::{Container, Fault, InjectionNote, Known, Object, ObjectId, StrId, TaskDef, TaskId};
use ctrace_program::{Kind, flags};
use std::sync::Arc;

const EACCES: i64 = -13;

impl Known for Mem {
    fn string(&self, id: StrId) -> Option<&[u8]> {
        Some(self.str(id))
    }
    fn task_def(&self, id: TaskId) -> Option<&TaskDef> {
        Some(self.task(id))
    }
    fn object_def(&self, id: ObjectId) -> Option<&Object> {
        Some(self.object(id))
    }
    fn all_containers(&self) -> &[Container] {
        &[]
    }
}

/// A plan with this done to the events with these numbers.
fn plan_with(t: &Mem, injections: Vec<Injection>) -> Plan {
    let edits = Edits::of::<CompileError>(t.snapshot(), t, injections, |each| t.for_each(each)).unwrap();
    let options = CompileOptions { edits: Some(Arc::new(edits)), ..CompileOptions::default() };
    compile(t, &options).unwrap()
}

fn opened_read_closed() -> Mem {
    let mut t = Mem::new();
    let a = t.add_task(10, 10);
    t.call(a, "getuid", [0; 6], 0);
    let file = t.file(b"/etc/conf", 100);
    t.open(a, b"/etc/conf", 0, 3, Some(file));
    t.call(a, "read", [3, 0, 100, 0, 0, 0], 100).object = Some(file);
    t.call(a, "close", [3, 0, 0, 0, 0, 0], 0).object = Some(file);
    t.call(a, "getgid", [0; 6], 0);
    t
}

#[test]
fn a_call_that_fails_is_answered_and_what_needs_it_is_not_made() {
    let t = opened_read_closed();
    let fault = Injection { ordinal: 1, result: Some(EACCES), ..Injection::default() };
    let plan = plan_with(&t, vec![fault]);
    let steps = steps(&plan, 0);
    let made: Vec<u32> = steps.iter().filter(|s| s.kind == Kind::Call as u8).map(|s| s.nr).collect();
    assert_eq!(made, ["getuid", "openat", "getgid"].map(named));
    let open = steps.iter().find(|s| s.nr == named("openat")).unwrap();
    assert_eq!(open.flags & (flags::FAULT | flags::INJECTED), flags::FAULT | flags::INJECTED);
    assert_eq!((open.expect, open.args[0]), (EACCES, AT_FDCWD));
    assert_eq!(plan.summary.injected.get("openat EACCES"), Some(&1));
    assert_eq!(plan.summary.emulated.len(), 0);
    let prevented: Vec<(&str, u64)> = plan.summary.prevented.iter().map(|(k, n)| (k.as_str(), *n)).collect();
    assert_eq!(prevented, [("close", 1), ("read", 1)]);
}

#[test]
fn a_call_that_is_delayed_is_made_and_its_task_is_later_from_then_on() {
    let t = opened_read_closed();
    let delay = Injection { ordinal: 2, enter_ns: 5_000_000, exit_ns: 7_000_000, ..Injection::default() };
    let plan = plan_with(&t, vec![delay]);
    let steps = steps(&plan, 0);
    let read = steps.iter().position(|s| s.nr == named("read") && s.kind == Kind::Call as u8).unwrap();
    let stands: Vec<(usize, u64)> = (0..steps.len())
        .filter(|at| steps[*at].kind == Kind::Delay as u8)
        .map(|at| (at, steps[at].aux))
        .collect();
    assert_eq!(stands, [(read - 1, 5_000_000), (read + 1, 7_000_000)]);
    assert_eq!(steps[read].flags & flags::FAULT, 0);
    assert!(plan.summary.injected.is_empty() && plan.summary.prevented.is_empty());
}

#[test]
fn each_hit_is_told_once_before_anything_is_done_to_its_call() {
    const SIGKILL: u32 = 9;
    let slow = Fault { exit_ns: 7, enter_ns: 5, ..Fault::default() };
    let fails = Fault { result: Some(EACCES as i32), ..Fault::default() };
    let killed = Fault { signal: Some(SIGKILL as u8), ..Fault::default() };
    let of = |ordinal| Injection { ordinal, ..Injection::default() };
    let read = named("read");
    for (injection, told, expected) in [
        (Injection { enter_ns: 5, exit_ns: 7, ..of(2) }, vec![slow], Some(read)),
        (Injection { result: Some(EACCES), ..of(2) }, vec![fails], Some(read)),
        (
            Injection { result: Some(EACCES), done: true, ..of(2) },
            vec![Fault { after: true, ..fails }],
            Some(read),
        ),
        (Injection { result: Some(EACCES), exit_ns: 7, ..of(2) }, vec![fails, slow], Some(read)),
        (Injection { signal: Some(SIGKILL), ..of(2) }, vec![killed], Some(named("tgkill"))),
        // The open that fails leaves nothing to read.
        (Injection { result: Some(EACCES), ..of(1) }, vec![], None),
    ] {
        let t = opened_read_closed();
        let edits =
            Edits::of::<CompileError>(t.snapshot(), &t, [injection], |each| t.for_each(each)).unwrap();
        let rules = (0..).zip(&told).map(|(rule, fault)| Told { rule, nth: 3, fault: *fault });
        let edits = edits.telling(rules.map(|told| (2, told)));
        assert_eq!(edits.planned_hits(), told.len() as u64);
        let options = CompileOptions { edits: Some(Arc::new(edits)), ..CompileOptions::default() };
        let plan = compile(&t, &options).unwrap();
        let steps = steps(&plan, 0);
        let notes: Vec<usize> = (0..steps.len()).filter(|at| steps[*at].kind == Kind::Note as u8).collect();
        let said: Vec<InjectionNote> = notes
            .iter()
            .map(|at| {
                let [which, nth, done, enter_ns, exit_ns, _] = steps[*at].args;
                InjectionNote::of_arguments([which, nth, done, enter_ns, exit_ns])
            })
            .collect();
        let wanted =
            (0..).zip(&told).map(|(rule, fault)| InjectionNote { rule, nr: read, nth: 3, fault: *fault });
        assert_eq!(said, wanted.collect::<Vec<_>>());
        if let (Some(last), Some(nr)) = (notes.last(), expected) {
            let next = steps[last + 1..].iter().find(|step| step.kind == Kind::Call as u8).unwrap();
            assert_eq!(next.nr, nr);
            assert!(notes.windows(2).all(|two| two[1] == two[0] + 1));
        }
    }
}

#[test]
fn a_call_that_fails_after_its_work_is_the_engines_and_its_caller_sees_another() {
    let t = opened_read_closed();
    let fault = Injection { ordinal: 2, result: Some(EACCES), done: true, ..Injection::default() };
    let plan = plan_with(&t, vec![fault]);
    let steps = steps(&plan, 0);
    let reads: Vec<(u32, i64)> = steps
        .iter()
        .filter(|s| s.kind == Kind::Call as u8 && s.nr == named("read"))
        .map(|s| (s.flags & (flags::ENGINE | flags::FAULT | flags::INJECTED), s.expect))
        .collect();
    assert_eq!(reads, [(flags::ENGINE, 100), (flags::FAULT | flags::INJECTED, EACCES)]);
}

#[test]
fn a_part_of_the_bytes_is_counted_by_its_step() {
    let t = opened_read_closed();
    let fault = Injection { ordinal: 2, keeps_millionths: Some(250_000), ..Injection::default() };
    let plan = plan_with(&t, vec![fault]);
    let steps = steps(&plan, 0);
    let read = steps.iter().find(|s| s.nr == named("read") && s.kind == Kind::Call as u8).unwrap();
    assert_eq!((read.flags & (flags::FAULT | flags::INJECTED), read.expect), (flags::INJECTED, 25));
}

#[test]
fn a_task_sends_itself_the_signal_that_ends_it() {
    const SIGKILL: u32 = 9;
    let t = opened_read_closed();
    let fault = Injection { ordinal: 2, signal: Some(SIGKILL), ..Injection::default() };
    let plan = plan_with(&t, vec![fault]);
    let steps = steps(&plan, 0);
    let last = steps.iter().rfind(|s| s.kind == Kind::Call as u8).unwrap();
    assert_eq!((last.nr, last.args[2]), (named("tgkill"), u64::from(SIGKILL)));
    assert_eq!(last.flags & (flags::ENGINE | flags::INJECTED), flags::ENGINE | flags::INJECTED);
    assert!(!steps.iter().any(|s| s.kind == Kind::Call as u8 && s.nr == named("read")));
}
