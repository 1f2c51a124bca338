//! The needs of a step, before it is known which steps meet them.

use super::super::arrivals::CallId;
use super::super::world::{Mark, TaskIx};
use super::{EdgeKind, Emit};
use ctrace_program::Wait;

/// How far another task has to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Until {
    /// A call is complete, whatever the recorded times say.
    Done(Mark),
    /// A call has begun, whatever the recorded times say.
    Begun(Mark),
    /// The next step of a task, or one that is as many behind it, is entered.
    Entered(TaskIx, u32),
    /// The next step of a task, or one that is as many behind it, is complete.
    Passed(TaskIx, u32),
    /// A step of anybody's.
    Step(Wait),
}

/// The needs of the next step of a task: first what is certain, then what the recorded times have to allow.
#[derive(Debug, Default)]
pub(crate) struct Needs {
    certain: Vec<(EdgeKind, Until)>,
    recorded: Vec<(EdgeKind, Mark)>,
}

impl Needs {
    /// Calls, as far as the recorded times allow it: until one is complete that was complete before the call that waits
    /// began, until one is issued that was under way by then.
    pub(crate) fn recorded<'a>(&mut self, kind: EdgeKind, marks: impl IntoIterator<Item = &'a Mark>) {
        self.recorded.extend(marks.into_iter().map(|mark| (kind, *mark)));
    }

    /// Calls, whatever the recorded times say.
    pub(crate) fn done<'a>(&mut self, kind: EdgeKind, marks: impl IntoIterator<Item = &'a Mark>) {
        self.certain.extend(marks.into_iter().map(|mark| (kind, Until::Done(*mark))));
    }

    /// None of a kind for these calls: they come later.
    pub(crate) fn spare(&mut self, kind: EdgeKind, calls: &[CallId]) {
        if calls.is_empty() {
            return;
        }
        let is_later = |mark: &Mark| calls.contains(&(mark.task, mark.seq));
        self.recorded.retain(|(of, mark)| *of != kind || !is_later(mark));
        self.certain
            .retain(|(of, until)| *of != kind || !matches!(until, Until::Done(mark) if is_later(mark)));
    }

    /// A call that has begun, whatever the recorded times say.
    pub(crate) fn begun(&mut self, kind: EdgeKind, mark: Mark) {
        self.certain.push((kind, Until::Begun(mark)));
    }

    /// A task is in the step that it gets next.
    pub(crate) fn entered(&mut self, kind: EdgeKind, task: TaskIx) {
        self.entered_behind(kind, task, 0);
    }

    /// A task is in the step that is so many behind the one that it gets next.
    pub(crate) fn entered_behind(&mut self, kind: EdgeKind, task: TaskIx, more: u32) {
        self.certain.push((kind, Until::Entered(task, more)));
    }

    /// A task is past the step that it gets next, and `more` behind that.
    pub(crate) fn passed(&mut self, kind: EdgeKind, task: TaskIx, more: u32) {
        self.certain.push((kind, Until::Passed(task, more)));
    }

    /// A step of anybody's.
    pub(crate) fn step(&mut self, kind: EdgeKind, wait: Wait) {
        self.certain.push((kind, Until::Step(wait)));
    }
}

impl Emit {
    /// Adds what the next step of a recorded task, of a call that began at `start_ns`, waits for.
    pub(crate) fn wait_for(&mut self, task: TaskIx, start_ns: u64, needs: Needs, waits: &mut Vec<Wait>) {
        let me = self.prog(task);
        for (kind, until) in needs.certain {
            let wait = match until {
                Until::Done(mark) => self.done(&mark),
                Until::Begun(mark) => Wait::entered(self.prog(mark.task), mark.step),
                Until::Entered(task, more) => {
                    Wait::entered(self.prog(task), self.next_step(self.prog(task)) + more)
                }
                Until::Passed(task, more) => {
                    Wait::completed(self.prog(task), self.next_step(self.prog(task)) + more)
                }
                Until::Step(wait) => wait,
            };
            self.wait(me, kind, wait, waits);
        }
        for (kind, mark) in needs.recorded {
            if mark.task != task
                && let Some(wait) = as_recorded(self.prog(mark.task), &mark, start_ns)
            {
                self.wait(me, kind, wait, waits);
            }
        }
    }
}

/// The wait for a call of a task of the program that the recorded times allow to a call that began at `start_ns`.
fn as_recorded(on: u32, mark: &Mark, start_ns: u64) -> Option<Wait> {
    if mark.end_ns <= start_ns {
        Some(Wait::completed(on, mark.step))
    } else {
        (mark.start_ns < start_ns).then(|| Wait::entered(on, mark.step))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_that_began_later_is_never_waited_for() {
        let mark = Mark { task: 0, seq: 0, step: 4, start_ns: 50, end_ns: 90 };
        assert_eq!(as_recorded(0, &mark, 40), None);
        assert_eq!(as_recorded(0, &mark, 60), Some(Wait::entered(0, 4)));
        assert_eq!(as_recorded(0, &mark, 90), Some(Wait::completed(0, 4)));
    }
}
