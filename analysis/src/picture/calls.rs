//! Calls by what they are for: the classes of the timeline.

use ctrace_format::syscalls::{self, Call, Family, On, Topic};
use ctrace_format::{Object, ObjectId, Sysno, Trace};
use rustc_hash::FxHashMap;

/// A class of call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Group {
    File,
    Network,
    Wait,
    Memory,
    Process,
    Signal,
    Time,
    Other,
}

impl Group {
    pub(super) const ALL: [Self; 8] = [
        Self::File,
        Self::Network,
        Self::Wait,
        Self::Memory,
        Self::Process,
        Self::Signal,
        Self::Time,
        Self::Other,
    ];

    /// Its name, the same in every run.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Network => "network",
            Self::Wait => "wait",
            Self::Memory => "memory",
            Self::Process => "process",
            Self::Signal => "signal",
            Self::Time => "time",
            Self::Other => "other",
        }
    }
}

/// The facts about a call number.
#[derive(Debug, Clone, Copy)]
pub(super) struct Info {
    /// Its position among those that were seen.
    pub(super) index: u32,
    pub(super) call: Call,
    /// Its name; `unknown` without one.
    pub(super) name: &'static str,
    group: Group,
    /// The object behind its descriptor decides.
    by_object: bool,
}

impl Info {
    /// The class of a call on this object.
    pub(super) fn group(&self, object: Option<ObjectId>, trace: &Trace) -> Group {
        if !self.by_object {
            return self.group;
        }
        match object.map(|id| trace.object(id)) {
            Some(Object::Socket { .. }) => Group::Network,
            Some(Object::Anon { .. }) if self.call.row().family == Family::Receive => Group::Wait,
            Some(Object::Anon { .. }) => Group::Other,
            _ => self.group,
        }
    }
}

/// Calls that were seen.
#[derive(Debug, Default)]
pub(super) struct Calls {
    last: Option<(Sysno, Info)>,
    known: FxHashMap<Sysno, Info>,
    /// By index: how many of each.
    counts: Vec<(&'static str, u64)>,
}

impl Calls {
    pub(super) fn of(&mut self, sysno: Sysno) -> Info {
        if let Some((last, info)) = self.last
            && last == sysno
        {
            return info;
        }
        let counts = &mut self.counts;
        let info = *self.known.entry(sysno).or_insert_with(|| {
            let name = syscalls::name(sysno);
            let call = name.map_or(Call::Unlisted, Call::named);
            let name = name.unwrap_or("unknown");
            let (group, by_object) = classed(call, name);
            // Numbers without a name are one.
            let index = counts.iter().position(|known| known.0 == name).unwrap_or(counts.len());
            if index == counts.len() {
                counts.push((name, 0));
            }
            Info { index: index as u32, call, name, group, by_object }
        });
        self.last = Some((sysno, info));
        info
    }

    pub(super) fn count(&mut self, info: &Info, n: u64) {
        let count = &mut self.counts[info.index as usize].1;
        *count = count.saturating_add(n);
    }

    /// How many calls there were of this name.
    pub(super) fn counted(&self, name: &str) -> u64 {
        self.counts.iter().find(|known| known.0 == name).map_or(0, |known| known.1)
    }
}

/// The class of a call, and whether the object that it is about decides.
fn classed(call: Call, name: &str) -> (Group, bool) {
    let row = call.row();
    if let Some(On::Readiness | On::Lock | On::Child | On::Time | On::Signal) = row.waits {
        return (Group::Wait, false);
    }
    let by_object =
        matches!(row.family, Family::Receive | Family::Send | Family::Transfer | Family::Close | Family::Fd);
    let group = match row.topic {
        Topic::File | Topic::Metadata => Group::File,
        Topic::Network | Topic::Stream => Group::Network,
        Topic::Process => Group::Process,
        Topic::Memory => Group::Memory,
        Topic::Signal => Group::Signal,
        Topic::Readiness => Group::Wait,
        Topic::Noise | Topic::Other => unlisted(name),
    };
    (group, by_object)
}

/// The class of a call by its name.
fn unlisted(name: &str) -> Group {
    let has = |parts: &[&str]| parts.iter().any(|part| name.contains(part));
    if has(&["futex"]) {
        Group::Wait
    } else if has(&["clock", "time", "alarm"]) {
        Group::Time
    } else if has(&["sig"]) {
        Group::Signal
    } else if has(&["sched_", "pid", "prctl", "uid", "gid", "rlimit", "priority", "rusage", "thread", "exit"])
    {
        Group::Process
    } else if has(&["mem", "mlock", "pkey"]) {
        Group::Memory
    } else {
        Group::Other
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_has_the_class_that_people_look_for_it_in() {
        for (name, class) in [
            ("openat", "file"),
            ("fsync", "file"),
            ("connect", "network"),
            ("sendto", "network"),
            ("epoll_wait", "wait"),
            ("futex", "wait"),
            ("clock_nanosleep", "wait"),
            ("wait4", "wait"),
            ("mmap", "memory"),
            ("clone", "process"),
            ("getpid", "process"),
            ("rt_sigaction", "signal"),
            ("clock_gettime", "time"),
            ("bpf", "other"),
        ] {
            assert_eq!(classed(Call::named(name), name).0.name(), class, "{name}");
        }
    }
}
