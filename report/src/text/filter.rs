//! The choice of events that are shown: it reads a person's wishes and decides.

use super::Events;
use super::decode::Call;
pub use ctrace_analysis::Calls;
use ctrace_analysis::connects::Connected;
use ctrace_analysis::{Containers, Pattern};
use ctrace_format::syscalls::{self, Failing};
use ctrace_format::{Class, Event, ProcessKind, SyscallFlags, TaskDef, TaskId, Trace, errno};
use std::collections::HashSet;

/// The classes of events that can be asked for.
pub const CLASSES: [Class; 14] = [
    Class::Syscall,
    Class::Process,
    Class::Connection,
    Class::Signal,
    Class::Resource,
    Class::Loss,
    Class::Marker,
    Class::Usage,
    Class::Socket,
    Class::Dns,
    Class::Block,
    Class::Uring,
    Class::Injection,
    Class::Aggregate,
];

/// The class of this name.
pub fn class(name: &str) -> Option<Class> {
    CLASSES.into_iter().find(|class| class.name() == name)
}

/// Which tasks: a tid, a tgid, or a pattern for the name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Task {
    /// The thread of this id, or every thread of this process.
    Id(u32),
    /// Tasks so named.
    Comm(Pattern),
}

impl Task {
    /// Whether a task is one of them.
    pub fn has(&self, trace: &Trace, task: &TaskDef) -> bool {
        match self {
            Self::Id(id) => task.tid.0 == *id || task.tgid.0 == *id,
            Self::Comm(pattern) => pattern.fits(trace.str(task.comm)),
        }
    }
}

/// `1234`, or a name with `*` and `?`.
///
/// # Errors
/// Never: any text is one or the other.
pub fn parse_task(text: &str) -> Result<Task, String> {
    Ok(text.parse().map_or_else(|_| Task::Comm(Pattern::whole(text)), Task::Id))
}

/// `ENOENT` or `2`.
///
/// # Errors
/// A sentence for what is no error.
pub fn parse_errno(text: &str) -> Result<u32, String> {
    text.parse()
        .ok()
        .or_else(|| errno::number(&text.to_uppercase()))
        .ok_or_else(|| format!("no error is named {text:?}; write ENOENT or a number"))
}

/// The wish of a person.
#[derive(Debug, Clone, Default)]
pub struct Wish {
    /// Only these tasks; empty: all. So it is with every list here.
    pub tasks: Vec<Task>,
    /// Only tasks of the containers of these numbers.
    pub containers: Option<Vec<u32>>,
    /// Only these calls.
    pub calls: Calls,
    /// Only what failed with these errors, or tells of them.
    pub errnos: Vec<u32>,
    /// Only what failed.
    pub failed: bool,
    /// Only calls on these paths.
    pub paths: Vec<Pattern>,
    /// Only what took at least so long, ns.
    pub slower_ns: u64,
    /// The calls of a replay engine, too.
    pub engine: bool,
}

/// A wish made ready for one trace.
pub struct Selection {
    wish: Wish,
    tasks: Option<HashSet<TaskId>>,
    only_calls: bool,
}

impl Selection {
    /// Makes it ready.
    pub fn new(wish: Wish, trace: &Trace, containers: &Containers) -> Self {
        let is_wanted = |id: TaskId, task: &TaskDef| {
            (wish.tasks.is_empty() || wish.tasks.iter().any(|w| w.has(trace, task)))
                && wish
                    .containers
                    .as_ref()
                    .is_none_or(|wanted| containers.number(id).is_some_and(|n| wanted.contains(&n)))
        };
        let tasks = (!wish.tasks.is_empty() || wish.containers.is_some()).then(|| {
            let all = trace.tasks().iter().enumerate().map(|(i, task)| (TaskId(i as u32), task));
            all.filter(|(id, task)| is_wanted(*id, task)).map(|(id, _)| id).collect()
        });
        let only_calls = wish.calls != Calls::default()
            || !wish.errnos.is_empty()
            || wish.failed
            || !wish.paths.is_empty()
            || wish.slower_ns > 0;
        Self { wish, tasks, only_calls }
    }

    /// The classes that can pass at all; empty for all of them.
    pub fn classes(&self) -> Vec<Class> {
        match self.only_calls {
            false => Vec::new(),
            // What became of a connect may be told by the kernel alone.
            true if self.asks_for_failures() => vec![Class::Syscall, Class::Connection],
            true => vec![Class::Syscall],
        }
    }

    fn asks_for_failures(&self) -> bool {
        self.wish.failed || !self.wish.errnos.is_empty()
    }

    /// Whether an attempt to connect failed as it is wished.
    fn is_wished(&self, connected: Option<&Connected>) -> bool {
        let errnos = &self.wish.errnos;
        let error = connected.and_then(|connected| connected.error);
        error.is_some_and(|errno| errnos.is_empty() || errnos.contains(&u32::from(errno)))
    }

    fn task(&self, id: TaskId) -> bool {
        self.tasks.as_ref().is_none_or(|t| t.contains(&id))
    }

    /// Whether an event passes. `connected`: what became of an attempt to connect, known by it.
    pub fn passes(&self, events: &Events, event: &Event, connected: Option<&Connected>) -> bool {
        match event {
            Event::Syscall(call) => self.call(&events.call(call), connected),
            other => self.other(other, connected),
        }
    }

    fn other(&self, event: &Event, connected: Option<&Connected>) -> bool {
        if self.only_calls {
            let wish = &self.wish;
            return matches!(event, Event::Connection(_))
                && self.asks_for_failures()
                && self.is_wished(connected)
                && connected.is_some_and(|connected| {
                    connected.took_ns >= wish.slower_ns
                        && connected.task.map_or(self.tasks.is_none(), |task| self.task(task))
                })
                && wish.calls.has(syscalls::Call::Connect.name())
                && wish.paths.is_empty();
        }
        match event {
            Event::Process(e) => {
                self.task(e.task)
                    || matches!(e.kind, ProcessKind::Fork { child } if self.tasks.is_some() && self.task(child))
            }
            Event::Connection(e) => e.task.map_or(self.tasks.is_none(), |t| self.task(t)),
            Event::Signal(e) => self.task(e.task),
            // What concerns the whole timeline concerns every task on it.
            Event::Marker(_) | Event::Loss(_) | Event::Fidelity(_) => true,
            other => other.task().map_or(self.tasks.is_none(), |t| self.task(t)),
        }
    }

    fn call(&self, call: &Call, connected: Option<&Connected>) -> bool {
        let event = call.event;
        let wish = &self.wish;
        let errnos = [event.errno(), call.told_error()];
        (wish.engine || !event.flags.contains(SyscallFlags::ENGINE))
            && self.task(event.task)
            && event.duration_ns >= wish.slower_ns
            && (!wish.failed
                || call.failing().is_some_and(|says| says != Failing::Benign)
                || self.is_wished(connected))
            && (wish.errnos.is_empty()
                || errnos.iter().flatten().any(|errno| wish.errnos.contains(errno))
                || self.is_wished(connected))
            && wish.calls.has(call.name)
            && (wish.paths.is_empty() || call.paths().any(|path| wish.paths.iter().any(|p| p.fits(path))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_named_or_numbered() {
        assert_eq!(parse_errno("enoent"), Ok(2));
        assert_eq!(parse_errno("111"), Ok(111));
        assert!(parse_errno("EWHAT").is_err());
    }
}
