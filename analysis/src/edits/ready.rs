//! Waits for readiness: what they report of descriptors that nobody uses after all, or that are not there.

use super::follow::{Decided, Fate};
use ctrace_format::syscalls::{Call, Family};
use ctrace_format::{Detail, Syscall, TaskId};
use rustc_hash::{FxHashMap, FxHashSet};

/// `EAGAIN`, asm-generic/errno-base.h: a use that found nothing.
const EAGAIN: i64 = -11;

/// The last wait of a task that reported something.
#[derive(Debug)]
struct Reported {
    ordinal: u64,
    name: &'static str,
    result: i64,
    /// Each descriptor that it reported, and the word that stands for it in the answer.
    entries: Vec<(i32, u64)>,
    /// Words that it does not report, their descriptors not being there.
    gone: Vec<u64>,
    /// Descriptors that were used afterwards.
    used: FxHashSet<i32>,
    /// Descriptors of which a use does not take place.
    unused: FxHashSet<i32>,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Ready {
    /// By epoll instance, as its task knows it, and data: the descriptor that was registered last.
    watched: FxHashMap<(TaskId, i32, u64), i32>,
    reported: FxHashMap<TaskId, Reported>,
}

impl Ready {
    /// The descriptors that a wait reports, and the words that stand for them.
    fn entries(&self, sc: Call, call: &Syscall) -> Vec<(i32, u64)> {
        if sc.row().family != Family::Readiness || call.ret <= 0 {
            return Vec::new();
        }
        let mut all = Vec::new();
        for detail in &call.details {
            match detail {
                Detail::Epoll { entries, .. } => all.extend(entries.iter().map(|entry| {
                    let known = self.watched.get(&(call.task, call.args[0] as i32, entry.data)).copied();
                    // Most programs keep the descriptor in the data.
                    (known.unwrap_or(entry.data as i32), entry.data)
                })),
                Detail::Poll { entries, .. } => {
                    let reported = entries.iter().filter(|entry| entry.revents != 0);
                    all.extend(reported.map(|entry| (entry.fd, entry.fd as u64)));
                }
                _ => {}
            }
        }
        all
    }

    /// The result of a wait that does not report descriptors that are not there, and what it does not report; `None`: it
    /// reports all that it did.
    pub(super) fn answers(
        &self,
        sc: Call,
        call: &Syscall,
        is_gone: impl Fn(i32) -> bool,
    ) -> Option<(i64, Vec<u64>)> {
        let without: Vec<u64> =
            self.entries(sc, call).into_iter().filter(|(fd, _)| is_gone(*fd)).map(|(_, word)| word).collect();
        (!without.is_empty()).then(|| (call.ret - without.len() as i64, without))
    }

    /// A call, and what becomes of it; one that fails does nothing either. A wait before it that led to nothing else does not report its
    /// descriptor.
    pub(super) fn call(
        &mut self,
        ordinal: u64,
        sc: Call,
        call: &Syscall,
        fate: &Fate,
        revise: &mut dyn FnMut(Decided),
    ) {
        let absent = *fate == Fate::Absent;
        match sc.row().family {
            Family::EpollCtl => {
                for detail in &call.details {
                    if let Detail::Epoll { entries, .. } = detail
                        && let Some(entry) = entries.first()
                    {
                        self.watched
                            .insert((call.task, call.args[0] as i32, entry.data), call.args[2] as i32);
                    }
                }
            }
            Family::Readiness => {
                let entries = self.entries(sc, call);
                if !absent && !entries.is_empty() {
                    let reported = Reported {
                        ordinal,
                        name: sc.name(),
                        result: call.ret,
                        entries,
                        gone: if let Fate::Other { without, .. } = fate {
                            without.clone()
                        } else {
                            Vec::new()
                        },
                        used: FxHashSet::default(),
                        unused: FxHashSet::default(),
                    };
                    self.reported.insert(call.task, reported);
                } else {
                    self.reported.remove(&call.task);
                }
            }
            Family::Receive | Family::Accept | Family::Send | Family::Transfer => {
                if call.ret == EAGAIN {
                    return;
                }
                let fd = call.args[0] as i32;
                let Some(last) = self.reported.get_mut(&call.task) else { return };
                if !last.entries.iter().any(|(of, _)| *of == fd) {
                    return;
                }
                let changed = if absent { last.unused.insert(fd) } else { last.used.insert(fd) };
                if changed && last.unused.contains(&fd) {
                    revise(Decided { ordinal: last.ordinal, name: last.name, fate: last.fate() });
                }
            }
            _ => {}
        }
    }
}

impl Reported {
    /// The fate of the wait.
    fn fate(&self) -> Fate {
        let is_unused = |fd: &i32| self.unused.contains(fd) && !self.used.contains(fd);
        let mut without = self.gone.clone();
        without.extend(
            self.entries
                .iter()
                .filter(|(fd, word)| is_unused(fd) && !self.gone.contains(word))
                .map(|(_, word)| *word),
        );
        let result = self.result - without.len() as i64;
        match result {
            _ if without.is_empty() => Fate::Stays,
            ..=0 => Fate::Absent,
            _ => Fate::Other { result, without },
        }
    }
}
