//! Failures that programs end for: what was not there, not allowed, or not possible, and was the last that they met.

use super::attempts::{
    EACCES, EADDRINUSE, EBUSY, EEXIST, EFBIG, EISDIR, ELOOP, EMFILE, ENAMETOOLONG, ENFILE, ENODEV, ENOENT,
    ENOMEM, ENOSPC, ENOTDIR, ENOTEMPTY, EPERM, EROFS, ETXTBSY, EXDEV, attempted, errno_text, meaning, path,
};
use super::ends::is_searched;
use super::people::ProcessId;
use super::places::{Place, Places};
use super::{Dictionary, Kind, Seen};
use ctrace_format::syscalls::{About, Call, Failing, Family, failing_on};
use ctrace_format::{Object, SyscallFlags};
use rustc_hash::{FxHashMap, FxHashSet};

/// Calls that a process makes between the lack of a file and its end: it says so, cleans up, and goes.
const SOON: u64 = 600;
/// The same for failures that many programs meet in passing: only one that was nearly the last thing tells.
const NEAR: u64 = 100;
/// Failures that are kept of a process.
const KEPT: usize = 32;
const MAX_PROCESSES: usize = 65_536;
const MAX_OPENED: usize = 65_536;
/// `SOCK_STREAM`, include/linux/net.h.
const SOCK_STREAM: u32 = 1;

const ENXIO: u16 = 6;
const EINVAL: u16 = 22;

/// A failure that a program may have ended for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Missed {
    pub(super) place: Place,
    pub(super) call: Call,
    pub(super) errno: u16,
    pub(super) t_ns: u64,
    pub(super) tid: u32,
    /// Its number among the calls of the process.
    number: u64,
    /// A filter answered.
    pub(super) filtered: bool,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Lacks {
    missed: FxHashMap<ProcessId, Vec<Missed>>,
    /// When a process met something that programs end for, and that another finding tells.
    hit: FxHashMap<ProcessId, u64>,
    /// Files that were opened, by whoever did it.
    opened: FxHashSet<Place>,
}

impl Lacks {
    pub(super) fn call(&mut self, seen: &Seen<'_>, places: &mut Places, words: &(impl Dictionary + ?Sized)) {
        let family = seen.call.row().family;
        let about_files = matches!(family, Family::Open | Family::Exec | Family::Path);
        let flags = seen.s.flags;
        let filtered = flags.contains(SyscallFlags::FILTERED) && !flags.contains(SyscallFlags::INJECTED);
        let Some(errno) = seen.s.errno().map(|e| e as u16) else {
            if about_files {
                self.found(seen, places, words);
            } else if is_answer(seen, words) {
                self.answered(seen.actor.process);
            }
            return;
        };
        let asked = match errno {
            ENOENT => about_files,
            EACCES | EPERM => about_files || family == Family::Bind,
            _ => false,
        };
        if asked {
            let place = path(seen, places, words).unwrap_or_else(|| places.of(seen, words));
            self.miss(seen, place, errno, filtered, places);
        } else if filtered || errno == EADDRINUSE && matches!(family, Family::Bind | Family::Listen) {
            let place = places.of(seen, words);
            self.miss(seen, place, errno, filtered, places);
        } else if matches!(errno, ENOSPC | ENOMEM | EMFILE | ENFILE | EROFS) {
            self.hit(seen.actor.process, seen.end_ns());
        } else if is_refusal(seen.call, errno) {
            let place = path(seen, places, words).unwrap_or_else(|| places.of(seen, words));
            self.miss(seen, place, errno, false, places);
        }
    }

    /// A process met something that programs end for, which another finding tells.
    pub(super) fn hit(&mut self, process: ProcessId, t_ns: u64) {
        if self.hit.len() < MAX_PROCESSES || self.hit.contains_key(&process) {
            self.hit.insert(process, t_ns);
        }
    }

    /// A process executes a program: the failures of the one before are over.
    pub(super) fn exec(&mut self, process: ProcessId) {
        self.missed.remove(&process);
    }

    /// A process that had made so many calls ended: the failure that it ended for, if there is one.
    pub(super) fn last_of(&mut self, process: ProcessId, calls: u64) -> Option<Missed> {
        let hit = self.hit.remove(&process).unwrap_or(0);
        let missed = self.missed.remove(&process)?;
        // It ends for the last one that it met.
        let soon = |m: &&Missed| calls.saturating_sub(m.number) <= m.reach() && m.t_ns >= hit;
        // An open says that the program needs the file; other calls may ask in passing.
        let needed = |m: &&Missed| {
            m.filtered
                || matches!(m.call.row().family, Family::Open | Family::Exec | Family::Bind | Family::Connect)
        };
        let last = missed.iter().rev().filter(soon);
        last.clone().find(needed).or_else(|| last.clone().next()).copied()
    }

    /// A name was found: the program had looked for it in several places.
    fn found(&mut self, seen: &Seen<'_>, places: &mut Places, words: &(impl Dictionary + ?Sized)) {
        if seen.call.row().family == Family::Open
            && self.opened.len() < MAX_OPENED
            && let Some(place) = path(seen, places, words)
        {
            self.opened.insert(place);
        }
        if let Some(missed) = self.missed.get_mut(&seen.actor.process)
            && !missed.is_empty()
            && let Some(place) = path(seen, places, words)
        {
            let found = base(places.name(place)).to_owned();
            missed.retain(|m| base(places.name(m.place)) != found);
        }
    }

    /// A peer answered: the program did without the files that were missing before.
    fn answered(&mut self, process: ProcessId) {
        if let Some(missed) = self.missed.get_mut(&process) {
            missed.retain(|m| m.errno != ENOENT || m.filtered);
        }
    }

    /// Whether a file that may lie beside another one is asked for: `a.db-journal` beside `a.db`.
    fn is_companion(&self, name: &str, places: &Places) -> bool {
        let beside = |(at, _)| places.find(&name[..at]).is_some_and(|place| self.opened.contains(&place));
        let dir = name.rfind('/').map_or(0, |slash| slash + 1);
        name.match_indices(['-', '.', '~']).filter(|(at, _)| *at > dir).any(beside)
    }

    fn miss(&mut self, seen: &Seen<'_>, place: Place, errno: u16, filtered: bool, places: &Places) {
        let name = places.name(place);
        let optional = errno == ENOENT && (is_searched(name) || self.is_companion(name, places));
        if optional || place == Place::NOWHERE && !filtered {
            return;
        }
        if self.missed.len() >= MAX_PROCESSES && !self.missed.contains_key(&seen.actor.process) {
            return;
        }
        let missed = self.missed.entry(seen.actor.process).or_default();
        if missed.len() >= KEPT {
            missed.remove(0);
        }
        let (t_ns, tid, number) = (seen.end_ns(), seen.actor.tid, seen.number);
        missed.push(Missed { place, call: seen.call, errno, t_ns, tid, number, filtered });
    }
}

impl Missed {
    /// How many calls before the end it may lie.
    fn reach(self) -> u64 {
        match self.errno {
            _ if self.filtered => SOON,
            ENOENT | EACCES | EPERM | EADDRINUSE => SOON,
            _ => NEAR,
        }
    }

    /// The kind of a finding about it, and a clause: `after it did not find /etc/app.conf`.
    pub(super) fn told(self, object: &str) -> (Kind, String) {
        let attempt = attempted(self.call, object);
        if self.filtered {
            return (Kind::SeccompDenied, format!("after a seccomp filter refused {attempt}"));
        }
        match self.errno {
            ENOENT => (Kind::MissingFile, format!("after it did not find {object}")),
            EACCES | EPERM => {
                let what = match self.call.row().family {
                    Family::Open => format!("open {object}"),
                    Family::Exec => format!("execute {object}"),
                    Family::Bind => format!("bind a socket to {object}"),
                    _ => format!("{} {object}", self.call.name()),
                };
                (Kind::Permission, format!("after it was not allowed to {what}"))
            }
            errno => (Kind::Failing, format!("after {attempt} failed{}", because(errno))),
        }
    }

    /// The error, and how long before the end: `ENOENT, 1.2 ms before`.
    pub(super) fn when(self, end_ns: u64) -> String {
        let before = super::words::span(end_ns.saturating_sub(self.t_ns));
        format!("{}, {before} before", errno_text(self.errno))
    }

    /// Whether a program ends for this whatever else it is for: a server without its address serves nobody.
    pub(super) const fn is_final(self) -> bool {
        self.errno == EADDRINUSE
    }
}

fn because(errno: u16) -> String {
    meaning(errno).map_or_else(String::new, |meaning| format!(" because {meaning}"))
}

/// Whether a call was refused for a reason that lies in its arguments, or in the state of what it was about.
fn is_refusal(call: Call, errno: u16) -> bool {
    let says = failing_on(call, errno, About::default());
    match errno {
        EEXIST | EXDEV | ENOTDIR | EISDIR | ETXTBSY | ENAMETOOLONG | ENOTEMPTY | ELOOP => {
            says != Failing::Benign
        }
        ENXIO | EBUSY | ENODEV | EINVAL | EFBIG => says == Failing::Failure,
        _ => false,
    }
}

/// Whether a peer's bytes came.
fn is_answer(seen: &Seen<'_>, words: &(impl Dictionary + ?Sized)) -> bool {
    seen.call.row().family == Family::Receive
        && seen.s.ret > 0
        && seen.s.object.is_some_and(
            |id| matches!(words.object(id), Object::Socket { kind, .. } if u32::from(*kind) == SOCK_STREAM),
        )
}

fn base(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}
