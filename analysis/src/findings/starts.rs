//! Programs that cannot start: a command, an interpreter, a library or a module that is not there, a file that may not
//! be executed or is for another machine.
//!
//! A shell asks for a command in every place of its path and complains; a loader asks for a library, complains and exits
//! with 127; a program that was to become another one exits soon after its `execve` failed. What is asked for in
//! passing is not complained about, and the one who asked goes on.

use super::attempts::{EACCES, ENOENT, EPERM, errno_text, path};
use super::people::{Actor, People, ProcessId};
use super::places::{Place, Places};
use super::words::{count, plural, span, when};
use super::{Dictionary, EventId, Facts, Finding, Kind, Level, Seen};
use ctrace_format::Object;
use ctrace_format::syscalls::Family;
use rustc_hash::FxHashMap;

const MAX_PROCESSES: usize = 65_536;
const MAX_COMPLAINTS: usize = 4096;
/// include/uapi/asm-generic/errno-base.h, errno.h.
const ENOEXEC: u16 = 8;
const ENOTDIR: u16 = 20;
const ELIBBAD: u16 = 80;
/// Statuses by which shells and loaders say that there was no such program, or none that can be executed (POSIX, 2.8.2
/// Exit Status for Commands; elf/dl-minimal.c, `_dl_fatal_printf`).
const NOT_FOUND: u32 = 127;
/// A module whose name no call tells.
const A_MODULE: &str = "a module";
const STANDARD_ERROR: u64 = 2;
/// Calls that a shell or an interpreter makes between its last look for something and its complaint.
const AT_ONCE: u64 = 3;
/// Calls that a program makes between a start that failed and its own end: it says so, and cleans up.
const SOON: u64 = 80;
/// As many of one that has a trace of its own calls to print first.
const AFTER_A_TRACE: u64 = 400;

/// The thing that is missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum What {
    /// A command that is in no place of the path.
    Command,
    /// A program that is not there, or whose interpreter or loader is not.
    Program,
    /// A program that is there, while its interpreter or loader is not.
    Interpreter,
    /// A file that may not be executed.
    Denied,
    /// A file that is no program of this machine.
    Format,
    /// A library.
    Library,
    /// A module of an interpreter.
    Module,
}

/// A start that failed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Failure {
    pub(super) what: What,
    /// The name that was asked for.
    pub(super) object: Place,
    /// The first and the last place where it was looked for, and how many there were.
    first: Place,
    last: Place,
    places: u64,
    errno: u16,
    pub(super) t_ns: u64,
    tid: u32,
    /// Somebody may have read of it.
    complained: bool,
}

/// Looks for one name, one after the other, that found nothing.
#[derive(Debug, Clone, Copy)]
struct Search {
    name: Place,
    first: Place,
    last: Place,
    places: u64,
    errno: u16,
    t_ns: u64,
    tid: u32,
    /// The number of its last call among those of the process.
    number: u64,
    complained: bool,
}

/// The directories that Python looks for a module in, one after the other.
#[derive(Debug, Clone, Copy, Default)]
struct Walk {
    /// The directory of the program, or the working directory: not looked at before the program itself begins.
    head: Option<Place>,
    last: Option<Place>,
    directories: u64,
    t_ns: u64,
    tid: u32,
    number: u64,
    complained: bool,
}

/// A process that looked for something and did not find it.
#[derive(Debug, Default, Clone)]
struct Looks {
    /// `stat` of a shell.
    command: Option<Search>,
    exec: Option<Search>,
    library: Option<Search>,
    module: Option<Search>,
    walk: Walk,
    /// The last file that was there.
    found: Option<Place>,
    /// The complaint that it went on after.
    told: Option<usize>,
    /// It wrote to standard error since it looked for something, and somebody may have read it.
    heard: bool,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Starts {
    looks: FxHashMap<ProcessId, Looks>,
    /// Commands that shells complained about.
    complaints: Vec<Option<(ProcessId, Failure)>>,
}

fn base(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// Whether a program is a shell.
fn is_shell(people: &People, process: ProcessId) -> bool {
    let process = people.process(process);
    let name = process.exe.as_deref().map_or(process.comm.as_str(), base);
    matches!(name, "sh" | "bash" | "dash" | "ash" | "busybox" | "ksh" | "ksh93" | "mksh" | "zsh")
        || matches!(process.comm.as_str(), "sh" | "bash" | "dash" | "ash")
}

/// A directory that Python keeps modules in.
fn is_of_python(path: &str) -> bool {
    path.contains("/python")
        && (path.ends_with("-packages")
            || path.ends_with("/lib-dynload")
            || base(path).starts_with("python3"))
}

/// Whether a path may be the directory of a program: not a file, nor anything that the interpreter keeps itself.
fn may_be_a_programs_directory(path: &str) -> bool {
    std::path::Path::new(path).extension().is_none()
        && !path.contains("/python")
        && !path.contains("/__pycache__")
}

/// A place that Node looks for modules in.
fn is_of_node(path: &str) -> bool {
    path.contains("/node_modules") || path.ends_with("/.node_libraries") || path.ends_with("/.node_modules")
}

impl Search {
    fn of(seen: &Seen<'_>, name: Place, place: Place, errno: u16) -> Self {
        let (t_ns, tid) = (seen.end_ns(), seen.actor.tid);
        Self {
            name,
            first: place,
            last: place,
            places: 1,
            errno,
            t_ns,
            tid,
            number: seen.number,
            complained: false,
        }
    }

    fn failure(&self, what: What) -> Failure {
        let Self { name, first, last, places, errno, t_ns, tid, complained, .. } = *self;
        Failure { what, object: name, first, last, places, errno, t_ns, tid, complained }
    }
}

/// Goes on with a search, or begins one for another name.
fn look(search: &mut Option<Search>, seen: &Seen<'_>, name: Place, place: Place, errno: u16) {
    match search {
        Some(s) if s.name == name && !s.complained => {
            s.places += u64::from(s.last != place);
            (s.last, s.t_ns, s.tid, s.number) = (place, seen.end_ns(), seen.actor.tid, seen.number);
            // One place of several that has it and does not let it be executed says more than those that lack it.
            if s.errno == ENOENT || s.errno == ENOTDIR {
                s.errno = errno;
            }
        }
        _ => *search = Some(Search::of(seen, name, place, errno)),
    }
}

impl Starts {
    pub(super) fn call(
        &mut self,
        seen: &Seen<'_>,
        people: &People,
        places: &mut Places,
        words: &(impl Dictionary + ?Sized),
    ) {
        let family = seen.call.row().family;
        let errno = seen.s.errno().map(|e| e as u16);
        match family {
            Family::Open | Family::Path | Family::Exec => {
                let Some(place) = path(seen, places, words) else { return };
                match errno {
                    None => self.found(seen, place, places),
                    Some(errno) => self.missed(seen, place, errno, people, places),
                }
            }
            Family::Send if seen.s.args[0] == STANDARD_ERROR && errno.is_none() => {
                // Nobody reads what goes to /dev/null.
                let heard = seen.s.object.is_none_or(
                    |o| !matches!(words.object(o), Object::File { path, .. } if words.str(*path) == b"/dev/null"),
                );
                if heard {
                    self.complained(seen, people);
                }
            }
            _ => {}
        }
    }

    fn found(&mut self, seen: &Seen<'_>, place: Place, places: &Places) {
        let name = places.name(place);
        let python = is_of_python(name);
        // A question about a descriptor is no look for a name.
        if name.is_empty() || !python && !self.looks.contains_key(&seen.actor.process) {
            return;
        }
        if self.looks.len() >= MAX_PROCESSES && !self.looks.contains_key(&seen.actor.process) {
            return;
        }
        let looks = self.looks.entry(seen.actor.process).or_default();
        let walk = &mut looks.walk;
        if python && seen.call.row().family == Family::Path {
            if walk.last.is_none() || walk.complained {
                let head = looks.found.filter(|f| may_be_a_programs_directory(places.name(*f)));
                *walk = Walk { head, ..Walk::default() };
            }
            walk.directories += u64::from(walk.last != Some(place));
            (walk.last, walk.t_ns, walk.tid, walk.number) =
                (Some(place), seen.end_ns(), seen.actor.tid, seen.number);
            return;
        }
        // A module was found, or the next one is looked for.
        if !walk.complained {
            *walk = Walk::default();
        }
        looks.found = Some(place);
        let found = base(name);
        for search in [&mut looks.command, &mut looks.library, &mut looks.module] {
            if search.is_some_and(|s| base(places.name(s.name)) == found) {
                *search = None;
            }
        }
    }

    fn missed(&mut self, seen: &Seen<'_>, place: Place, errno: u16, people: &People, places: &mut Places) {
        let family = seen.call.row().family;
        let executes = family == Family::Exec;
        let counts = match errno {
            ENOENT | ENOTDIR => true,
            EACCES | EPERM | ENOEXEC | ELIBBAD => executes,
            _ => false,
        };
        let name = places.name(place);
        let asked = base(name);
        let library = asked.contains(".so") && family == Family::Open && !asked.starts_with("ld.so");
        let module = is_of_node(name);
        let shell = family == Family::Path
            && is_shell(people, seen.actor.process)
            && name.starts_with('/')
            && asked != "ld.so.preload";
        if !counts || !(executes || library || module || shell) {
            return;
        }
        if self.looks.len() >= MAX_PROCESSES && !self.looks.contains_key(&seen.actor.process) {
            return;
        }
        // The directories in which Node looks are as many places; a file of a module stands for the module.
        let asked = if module {
            let rest = name.rsplit_once("/node_modules/").map_or(A_MODULE, |(_, rest)| rest);
            let parts = if rest.starts_with('@') { 2 } else { 1 };
            let end = rest.match_indices('/').nth(parts - 1).map_or(rest.len(), |(at, _)| at);
            let rest = &rest[..end];
            rest.strip_suffix(".js")
                .or_else(|| rest.strip_suffix(".json"))
                .or_else(|| rest.strip_suffix(".node"))
                .unwrap_or(rest)
                .to_owned()
        } else {
            asked.to_owned()
        };
        let looks = self.looks.entry(seen.actor.process).or_default();
        if executes {
            let asked = places.named(&asked);
            look(&mut looks.exec, seen, asked, place, errno);
        } else if library {
            let asked = places.named(&asked);
            look(&mut looks.library, seen, asked, place, errno);
        } else if module {
            // A directory that is not there belongs to the search of the module that is.
            let asked = match looks.module {
                Some(s) if asked == A_MODULE => s.name,
                _ => places.named(&asked),
            };
            look(&mut looks.module, seen, asked, place, errno);
        } else {
            let asked = places.named(&asked);
            look(&mut looks.command, seen, asked, place, errno);
        }
    }

    /// A message went to standard error.
    fn complained(&mut self, seen: &Seen<'_>, people: &People) {
        let process = seen.actor.process;
        let Some(looks) = self.looks.get_mut(&process) else { return };
        for search in [&mut looks.exec, &mut looks.library, &mut looks.module].into_iter().flatten() {
            search.complained = true;
        }
        looks.heard = true;
        // A program that did without the module does something else before it complains of something else.
        let at_once = seen.number.saturating_sub(looks.walk.number) <= AT_ONCE;
        looks.walk.complained |= looks.walk.directories > 0 && at_once;
        let Some(command) = &mut looks.command else { return };
        if command.complained || seen.number.saturating_sub(command.number) > AT_ONCE {
            return;
        }
        command.complained = true;
        // A path has several places; one file that is not there may have been tested for.
        if command.places > 1 && is_shell(people, process) && self.complaints.len() < MAX_COMPLAINTS {
            looks.told = Some(self.complaints.len());
            self.complaints.push(Some((process, command.failure(What::Command))));
        }
    }

    /// A process makes another: what its shell looked for was for the child.
    pub(super) fn fork(&mut self, parent: ProcessId, child: ProcessId) {
        let Some(looks) = self.looks.get_mut(&parent) else { return };
        if let Some(mut command) = looks.command.take().filter(|c| !c.complained) {
            (command.number, command.complained) = (0, false);
            let found = looks.found;
            self.looks.insert(child, Looks { command: Some(command), found, ..Looks::default() });
        } else if let Some(found) = looks.found.filter(|_| self.looks.len() < MAX_PROCESSES) {
            self.looks.insert(child, Looks { found: Some(found), ..Looks::default() });
        }
    }

    /// A process has become another program.
    pub(super) fn exec(&mut self, process: ProcessId) {
        self.looks.remove(&process);
    }

    /// A process ends. The start that failed, if that is why.
    pub(super) fn exit(
        &mut self,
        actor: Actor,
        status: u32,
        people: &People,
        places: &Places,
    ) -> Option<Failure> {
        let looks = self.looks.remove(&actor.process)?;
        let (code, signo) = (status >> 8 & 0xff, status & 0x7f);
        if code == 0 || signo != 0 {
            return None;
        }
        let calls = people.process(actor.process).calls;
        let soon = |s: &Search, within: u64| calls.saturating_sub(s.number) <= within;
        if let Some(exec) = looks.exec.filter(|e| soon(e, SOON)) {
            let there = looks.found == Some(exec.last);
            let what = match exec.errno {
                EACCES | EPERM => What::Denied,
                ENOEXEC | ELIBBAD => What::Format,
                _ if there => What::Interpreter,
                _ if exec.places > 1 => What::Command,
                _ => What::Program,
            };
            let mut failure = exec.failure(what);
            // A path was given.
            if exec.places == 1 || what == What::Denied {
                failure.object = exec.last;
            }
            return Some(failure);
        }
        if let Some(library) = looks.library.filter(|l| l.complained) {
            let name = places.name(library.name);
            // The C library looks for these by itself, and does without.
            let optional =
                name.starts_with("libnss_") || name.starts_with("gconv") || !name.starts_with("lib");
            let within = if code == NOT_FOUND { SOON } else { AFTER_A_TRACE };
            if soon(&library, within) && (code == NOT_FOUND || library.places > 1 && !optional) {
                return Some(library.failure(What::Library));
            }
        }
        if let Some(command) = looks.command.filter(|c| code == NOT_FOUND && soon(c, SOON)) {
            if let Some(told) = looks.told.and_then(|at| self.complaints.get_mut(at)) {
                *told = None;
            }
            return Some(Failure { complained: looks.heard, ..command.failure(What::Command) });
        }
        let walk = looks.walk;
        if let (Some(head), Some(last)) = (walk.head, walk.last)
            && walk.complained
            && walk.directories > 1
            && calls.saturating_sub(walk.number) <= AFTER_A_TRACE
        {
            let Walk { directories, t_ns, tid, .. } = walk;
            return Some(Failure {
                what: What::Module,
                object: Place::NOWHERE,
                first: head,
                last,
                places: directories + 1,
                errno: ENOENT,
                t_ns,
                tid,
                complained: true,
            });
        }
        looks.module.filter(|m| m.complained && soon(m, AFTER_A_TRACE)).map(|m| m.failure(What::Module))
    }

    /// Commands that were not found, by shells that went on.
    pub(super) fn findings(&self, facts: &Facts<'_>, out: &mut Vec<Finding>) {
        let mut alike: std::collections::BTreeMap<(String, Place), Vec<(ProcessId, Failure)>> =
            std::collections::BTreeMap::new();
        for (process, failure) in self.complaints.iter().flatten() {
            let comm = facts.people.process(*process).comm.clone();
            alike.entry((comm, failure.object)).or_default().push((*process, *failure));
        }
        for ((comm, object), all) in alike {
            let (Some((process, first)), Some((_, last))) = (all.first(), all.last()) else { continue };
            let n = all.len() as u64;
            let sentence = format!(
                "{} did not find the command {} {}{}: it is in none of the {} of the path ({}, …); it said so and went on",
                facts.people.named_process(*process, facts.containers),
                facts.places.name(object),
                if n > 1 { format!("{} ", super::words::times(n)) } else { String::new() },
                when(first.t_ns, last.t_ns),
                plural(first.places, "place"),
                facts.places.name(first.first)
            );
            out.push(
                Finding::new(
                    Kind::MissingFile,
                    Level::Warning,
                    super::rank::score(Kind::MissingFile),
                    sentence,
                )
                .over(first.t_ns, last.t_ns, n)
                .by(comm)
                .against(facts.places.name(object))
                .with_errno(ENOENT)
                .seen(first.t_ns, first.tid),
            );
        }
    }
}

/// The ends that a failed start led to.
pub(super) struct Led<'a> {
    pub(super) who: &'a str,
    pub(super) from_ns: u64,
    pub(super) to_ns: u64,
    pub(super) count: u64,
    pub(super) code: u32,
    /// The command or process that was recorded failed with it.
    pub(super) main: bool,
    /// The first of them.
    pub(super) end: EventId,
}

impl Failure {
    /// The end of a process that could not start, or not be started.
    pub(super) fn finding(&self, facts: &Facts<'_>, led: &Led<'_>) -> Finding {
        let object = facts.places.name(self.object);
        let (first, last) = (facts.places.name(self.first), facts.places.name(self.last));
        let Led { who, code, .. } = led;
        let where_ = match self.places {
            1 => last.to_owned(),
            n => format!("in {} places, from {first} to {last}", count(n)),
        };
        let why = match self.what {
            What::Command => format!("could not start {object}: there is no such command ({where_})"),
            What::Program => format!(
                "could not start {object}: it is not there, or what it needs to start is not (the interpreter of its first line, the loader of a program)"
            ),
            What::Interpreter => format!(
                "could not start {object}: it is there, but the interpreter of its first line, or the loader that it names, is not"
            ),
            What::Denied => format!("could not start {object}: it was not allowed to execute {last}"),
            What::Format => format!(
                "could not start {object}: it is no program that this machine can execute (another architecture, or a script without its first line)"
            ),
            What::Library => {
                format!("could not load the library {object}: it is not there (looked for {where_})")
            }
            What::Module if self.object == Place::NOWHERE => format!(
                "did not find a module: it is in none of the {} directories where it looked ({first} to {last}); the message that it wrote to standard error names it",
                count(self.places)
            ),
            What::Module if object == A_MODULE => format!(
                "did not find a module: there is no directory of modules ({where_}); the message that it wrote to standard error names it"
            ),
            What::Module => format!("did not find the module {object} (looked for {where_})"),
        };
        let sentence = format!(
            "{who} {why}: {}, and it exited with status {code} {} ({} later)",
            errno_text(self.errno),
            when(led.from_ns, led.to_ns),
            span(led.end.end_ns.saturating_sub(self.t_ns))
        );
        let kind = if self.what == What::Denied { Kind::Permission } else { Kind::MissingFile };
        let level = match (led.main, self.complained) {
            (true, _) => Level::Cause,
            (_, true) if led.count >= 3 => Level::Cause,
            (_, true) => Level::Warning,
            _ => Level::Note,
        };
        let mut found = Finding::new(kind, level, super::rank::score(Kind::MissingFile), sentence)
            .over(self.t_ns, led.to_ns, led.count)
            .against(if self.object == Place::NOWHERE { A_MODULE } else { object })
            .with_errno(self.errno)
            .seen(self.t_ns, self.tid);
        found.evidence.events.push(led.end);
        found
    }
}
