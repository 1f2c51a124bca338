//! The choice of events that are shown: it reads a person's wishes and decides.

use super::Events;
use super::decode::Call;
use ctrace_analysis::connects::Connected;
use ctrace_analysis::{Containers, Pattern};
use ctrace_format::syscalls::{self, Failing, Kind, List};
use ctrace_format::{Class, Event, ProcessKind, SyscallFlags, TaskDef, TaskId, Trace, errno};
use std::collections::HashSet;

/// The classes of events that can be asked for.
pub const CLASSES: [Class; 13] = [
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
    Class::Aggregate,
];

/// The class of this name.
pub fn class(name: &str) -> Option<Class> {
    CLASSES.into_iter().find(|class| class.name() == name)
}

/// Which calls, by name or class: `openat,read`, `%net`, `!futex`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Calls {
    include: Vec<Word>,
    exclude: Vec<Word>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Word {
    Name(Pattern),
    Class(CallClass),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum CallClass {
    File,
    Desc,
    Net,
    Process,
    Memory,
    Signal,
    Ipc,
    Poll,
    Time,
}

const CALL_CLASSES: &[(&str, CallClass)] = &[
    ("file", CallClass::File),
    ("desc", CallClass::Desc),
    ("net", CallClass::Net),
    ("network", CallClass::Net),
    ("process", CallClass::Process),
    ("memory", CallClass::Memory),
    ("signal", CallClass::Signal),
    ("ipc", CallClass::Ipc),
    ("poll", CallClass::Poll),
    ("time", CallClass::Time),
];

impl CallClass {
    fn has(self, name: &str) -> bool {
        let row = syscalls::Call::named(name).row();
        let any = |kinds: &[Kind]| row.args.is_some_and(|args| args.iter().any(|(_, k)| kinds.contains(k)));
        match self {
            Self::File => any(&[Kind::Path]),
            Self::Desc => any(&[Kind::Fd, Kind::DirFd, Kind::NewFds, Kind::PollFds]) || row.makes.is_result(),
            Self::Net => {
                any(&[
                    Kind::SockAddr,
                    Kind::SockAddrOut,
                    Kind::MsgFlags,
                    Kind::Domain,
                    Kind::OptVal,
                    Kind::How,
                ]) || matches!(name, "listen" | "getsockopt" | "accept" | "sendfile")
            }
            Self::Process => row.listed == Some(List::Process),
            Self::Memory => row.listed == Some(List::Memory),
            Self::Signal => any(&[Kind::Signal, Kind::SigAction, Kind::SigSet]) || name.starts_with("rt_sig"),
            Self::Ipc => {
                ["shm", "sem", "msg", "mq_"].iter().any(|p| name.starts_with(p)) && !name.starts_with("msync")
                    || name.starts_with("futex")
                    || name.starts_with("pipe")
                    || name.starts_with("eventfd")
            }
            Self::Poll => row.listed == Some(List::Poll),
            Self::Time => {
                name.contains("nanosleep")
                    || name.starts_with("timer")
                    || name.starts_with("clock_")
                    || matches!(
                        name,
                        "alarm" | "setitimer" | "getitimer" | "gettimeofday" | "time" | "times" | "pause"
                    )
            }
        }
    }
}

impl Calls {
    /// Names with `*` and `?`, classes (`%net`), and `!` for what is not to be, with commas between.
    ///
    /// # Errors
    /// A sentence for an unknown class or a name that is no call.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut calls = Self::default();
        for word in text.split(',').map(str::trim).filter(|w| !w.is_empty()) {
            let (negative, word) = word.strip_prefix('!').map_or((false, word), |w| (true, w));
            let parsed = if let Some(class) = word.strip_prefix('%') {
                let known = CALL_CLASSES.iter().find(|(n, _)| *n == class).map(|(_, c)| *c);
                Word::Class(known.ok_or_else(|| {
                    let names: Vec<String> = CALL_CLASSES.iter().map(|(n, _)| format!("%{n}")).collect();
                    format!("no class of calls is named %{class}; there are {}", names.join(", "))
                })?)
            } else {
                let pattern = Pattern::whole(word);
                if !every_name().any(|n| pattern.fits(n.as_bytes())) {
                    return Err(format!("no system call is named {word:?}"));
                }
                Word::Name(pattern)
            };
            if negative { calls.exclude.push(parsed) } else { calls.include.push(parsed) }
        }
        Ok(calls)
    }

    /// Whether the call of this name is one of them.
    pub fn has(&self, name: &str) -> bool {
        let fits = |word: &Word| match word {
            Word::Name(pattern) => pattern.fits(name.as_bytes()),
            Word::Class(class) => class.has(name),
        };
        (self.include.is_empty() || self.include.iter().any(fits)) && !self.exclude.iter().any(fits)
    }
}

fn every_name() -> impl Iterator<Item = &'static str> {
    use ctrace_format::{Abi, Sysno};
    [Abi::X86_64, Abi::Aarch64, Abi::I386]
        .into_iter()
        .flat_map(|abi| (0..600).filter_map(move |nr| syscalls::name(Sysno { abi, nr })))
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
    fn calls_are_chosen_by_name_and_class() {
        let calls = Calls::parse("%file,read,!openat").unwrap();
        assert!(calls.has("read") && calls.has("unlink") && !calls.has("openat") && !calls.has("write"));
        let net = Calls::parse("%net").unwrap();
        assert!(net.has("connect") && net.has("sendto") && net.has("listen") && !net.has("read"));
        assert!(Calls::parse("!futex").unwrap().has("read"));
        assert!(Calls::parse("%coffee").is_err() && Calls::parse("opennat").is_err());
    }

    #[test]
    fn errors_are_named_or_numbered() {
        assert_eq!(parse_errno("enoent"), Ok(2));
        assert_eq!(parse_errno("111"), Ok(111));
        assert!(parse_errno("EWHAT").is_err());
    }
}
