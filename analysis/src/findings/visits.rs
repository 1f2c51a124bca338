//! Whoever comes into a container from outside (`kubectl exec`), and what they did to what runs in there.

use super::containers;
use super::ends::signal_name;
use super::machine::Killed;
use super::people::{People, ProcessId};
use super::places::{Place, Places};
use super::words::{at, bytes, count, plural, when};
use super::{Dictionary, Facts, Finding, Kind, Level, Seen};
use ctrace_format::syscalls::Family;
use ctrace_format::{Object, Signal};
use rustc_hash::FxHashMap;
use std::collections::BTreeMap;
use std::fmt::Write as _;

const EDQUOT: u16 = 122;
const ENOENT: u16 = 2;
const EACCES: u16 = 13;
const ENOSPC: u16 = 28;

/// Bytes that fill a disk rather than being among the last that it took.
const MUCH: u64 = 1 << 20;
/// Deeds of each kind that are kept of visitors.
const MOST: usize = 256;

/// A signal that a visitor sent to a process that is none.
#[derive(Debug)]
struct Sent {
    visitor: ProcessId,
    sender: ProcessId,
    to: ProcessId,
    signo: u32,
    t_ns: u64,
}

/// A file that a visitor took away or changed.
#[derive(Debug)]
struct Changed {
    visitor: ProcessId,
    what: &'static str,
    t_ns: u64,
    /// A process that is none of the visitors failed on it later.
    missed_by: Option<(ProcessId, u64)>,
}

/// Bytes that a visitor wrote into files.
#[derive(Debug, Default)]
struct Written {
    bytes: u64,
    most: BTreeMap<Place, u64>,
    full_ns: Option<u64>,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Visits {
    sent: Vec<Sent>,
    changed: FxHashMap<Place, Changed>,
    written: FxHashMap<ProcessId, Written>,
    /// Others whose disk was full: how often, and when first.
    full: Option<(u64, ProcessId, u64)>,
}

impl Visits {
    pub(super) fn call(
        &mut self,
        seen: &Seen<'_>,
        people: &People,
        places: &mut Places,
        words: &(impl Dictionary + ?Sized),
    ) {
        let errno = seen.s.errno().map(|e| e as u16);
        if people.is_outside(seen.actor.process) {
            self.visitors(seen, errno, people, places, words);
            return;
        }
        match errno {
            Some(ENOSPC | EDQUOT) => {
                let full = self.full.get_or_insert((0, seen.actor.process, seen.end_ns()));
                full.0 += 1;
            }
            Some(ENOENT | EACCES) if !self.changed.is_empty() => {
                let Some(place) = super::attempts::path(seen, places, words) else { return };
                if let Some(changed) = self.changed.get_mut(&place) {
                    changed.missed_by.get_or_insert((seen.actor.process, seen.end_ns()));
                }
            }
            _ => {}
        }
    }

    /// Takes in a call of a visitor.
    fn visitors(
        &mut self,
        seen: &Seen<'_>,
        errno: Option<u16>,
        people: &People,
        places: &mut Places,
        words: &(impl Dictionary + ?Sized),
    ) {
        let family = seen.call.row().family;
        let writes = matches!(family, Family::Send | Family::Transfer);
        if !writes && family != Family::Path && !matches!(errno, Some(ENOSPC | EDQUOT)) {
            return;
        }
        let Some(visitor) = people.visitor(seen.actor.process) else { return };
        if matches!(errno, Some(ENOSPC | EDQUOT)) {
            self.written.entry(visitor).or_default().full_ns.get_or_insert(seen.end_ns());
        }
        if errno.is_some() {
            return;
        }
        if writes {
            let is_file = |id| matches!(words.object(id), Object::File { .. });
            if let Some(id) = seen.s.object.filter(|id| is_file(*id)) {
                let place = places.object(id, words);
                let written = self.written.entry(visitor).or_default();
                let n = u64::try_from(seen.s.ret).unwrap_or(0);
                written.bytes = written.bytes.saturating_add(n);
                if written.most.len() < MOST || written.most.contains_key(&place) {
                    let sum = written.most.entry(place).or_default();
                    *sum = sum.saturating_add(n);
                }
            }
            return;
        }
        let what = match seen.call.name() {
            "unlink" | "unlinkat" | "rmdir" => "removed",
            "rename" | "renameat" | "renameat2" => "renamed",
            "truncate" => "truncated",
            "chmod" | "fchmodat" | "fchmodat2" | "chown" | "lchown" | "fchownat" => "changed the rights of",
            _ => return,
        };
        let Some(place) = super::attempts::path(seen, places, words) else { return };
        if self.changed.len() < MOST {
            let changed = Changed { visitor, what, t_ns: seen.end_ns(), missed_by: None };
            self.changed.entry(place).or_insert(changed);
        }
    }

    /// A signal was generated.
    pub(super) fn signal(
        &mut self,
        signal: &Signal,
        people: &mut People,
        words: &(impl Dictionary + ?Sized),
    ) {
        let Some(sender) = signal.sender.filter(|_| !signal.delivered && self.sent.len() < MOST) else {
            return;
        };
        let (sender, to) = (people.of(sender, words).process, people.of(signal.task, words).process);
        if let Some(visitor) = people.visitor(sender).filter(|_| !people.is_outside(to)) {
            self.sent.push(Sent { visitor, sender, to, signo: signal.signo, t_ns: signal.t_ns });
        }
    }

    pub(super) fn findings(&self, facts: &Facts<'_>, killed: &[Killed], out: &mut Vec<Finding>) {
        // Visitors that did nothing to others, by their program and container.
        let mut harmless: BTreeMap<_, Vec<(ProcessId, u64)>> = BTreeMap::new();
        for (visitor, t_ns) in facts.people.outsiders() {
            let done = self.done(facts, visitor, killed);
            if done.is_empty() {
                let command = facts.people.process(visitor).command.clone();
                let place = containers::label(facts, visitor);
                harmless.entry((place, command)).or_default().push((visitor, t_ns));
                continue;
            }
            let sentence = format!("{}; {}", came(facts, visitor, t_ns, t_ns, 1), done_text(&done));
            let to_ns = done.iter().map(|d| d.1).max().unwrap_or(t_ns);
            out.push(finding(facts, visitor, Level::Cause, sentence).over(t_ns, to_ns, 1));
        }
        for all in harmless.values() {
            let (first, from_ns) = all[0];
            let to_ns = all[all.len() - 1].1;
            let n = all.len() as u64;
            let sentence = format!(
                "{}: nothing that runs in there started it (an exec into the container){}",
                came(facts, first, from_ns, to_ns, n),
                self.in_passing(facts, first)
            );
            out.push(finding(facts, first, Level::Note, sentence).over(from_ns, to_ns, n));
        }
    }

    /// The deeds of a visitor against the processes in there, each with its time.
    fn done(&self, facts: &Facts<'_>, visitor: ProcessId, killed: &[Killed]) -> Vec<(String, u64)> {
        let mut done = Vec::new();
        let named = |id| facts.people.named_process(id, &[]);
        for sent in self.sent.iter().filter(|s| s.visitor == visitor) {
            let process = facts.people.process(sent.to);
            let Some((end_ns, status)) = process.exit.filter(|e| e.0 >= sent.t_ns) else { continue };
            let by =
                if sent.sender == visitor { "it".to_owned() } else { format!("its {}", named(sent.sender)) };
            let is_main = process.container.and_then(|c| facts.people.main_of(c)) == Some(sent.to);
            let whom = if is_main {
                format!("{}, the process of the container,", named(sent.to))
            } else {
                named(sent.to)
            };
            let signal = signal_name(sent.signo);
            if status & 0x7f == sent.signo {
                done.push((format!("{by} ended {whom} by {signal} at {}", at(sent.t_ns)), end_ns));
            } else if matches!(sent.signo, 1 | 2 | 3 | 15) && status.trailing_zeros() >= 7 {
                done.push((
                    format!(
                        "{by} sent {signal} to {whom} at {}, which exited with status {} at {}",
                        at(sent.t_ns),
                        status >> 8 & 0xff,
                        at(end_ns)
                    ),
                    end_ns,
                ));
            }
        }
        for (place, changed) in self.changed.iter().filter(|c| c.1.visitor == visitor) {
            let Some((by, t_ns)) = changed.missed_by.filter(|m| m.1 >= changed.t_ns) else { continue };
            let path = facts.places.name(*place);
            done.push((
                format!(
                    "it {} {path} at {}, which {} lacked at {}",
                    changed.what,
                    at(changed.t_ns),
                    named(by),
                    at(t_ns)
                ),
                t_ns,
            ));
        }
        if let Some(written) = self.written.get(&visitor)
            && let Some(full_ns) =
                written.full_ns.or_else(|| self.full.filter(|_| written.bytes >= MUCH).map(|f| f.2))
        {
            let most = written.most.iter().max_by_key(|m| *m.1).map_or("", |m| facts.places.name(*m.0));
            let mut text = format!(
                "it wrote {} to {most} until the disk was full at {}",
                bytes(written.bytes),
                at(full_ns)
            );
            if let Some((n, who, _)) = self.full {
                let _ = write!(text, ", for which {} of {} failed", plural(n, "call"), named(who));
            }
            done.push((text, full_ns));
        }
        for kill in killed.iter().filter(|k| !facts.people.is_outside(k.victim)) {
            let set_off = kill.by.and_then(|by| facts.people.visitor(by)) == Some(visitor);
            if set_off {
                done.push((
                    format!(
                        "memory that it took made the kernel kill {} at {}",
                        named(kill.victim),
                        at(kill.t_ns)
                    ),
                    kill.t_ns,
                ));
            }
        }
        done.sort_by_key(|d| d.1);
        done
    }

    /// Changes of a visitor that no other process ran into.
    fn in_passing(&self, facts: &Facts<'_>, visitor: ProcessId) -> String {
        let mut changed: Vec<_> = self.changed.iter().filter(|c| c.1.visitor == visitor).collect();
        changed.sort_by_key(|c| (c.1.t_ns, *c.0));
        let Some((place, first)) = changed.first() else { return String::new() };
        let more = match changed.len() {
            1 => String::new(),
            n => format!(" and {}", plural(n as u64 - 1, "further file")),
        };
        format!("; it {} {}{more}", first.what, facts.places.name(**place))
    }
}

fn finding(facts: &Facts<'_>, visitor: ProcessId, level: Level, sentence: String) -> Finding {
    let score = match level {
        // A deed comes before its consequence.
        Level::Cause => super::rank::score(Kind::Oom) + 5,
        _ => super::rank::score(Kind::Entered),
    };
    let process = facts.people.process(visitor);
    Finding::new(Kind::Entered, level, score, sentence)
        .by(process.comm.as_str())
        .against(containers::label(facts, visitor))
        .seen(process.origin.map_or(0, |o| o.1), process.tgid)
}

/// `sh (pid 7) came into container app from outside at +0.100 s to run /bin/sh -c …`.
fn came(facts: &Facts<'_>, visitor: ProcessId, from_ns: u64, to_ns: u64, n: u64) -> String {
    let process = facts.people.process(visitor);
    let place = containers::label(facts, visitor);
    let place = if place.is_empty() { "the recorded group".to_owned() } else { place };
    let more = match n {
        1 => String::new(),
        n => format!(" and {} more like it", count(n - 1)),
    };
    let mut text = format!(
        "{}{more} came into {place} from outside {}",
        facts.people.named_process(visitor, &[]),
        when(from_ns, to_ns)
    );
    if let Some(command) = process.command.as_ref().or(process.exe.as_ref()) {
        let _ = write!(text, " to run {command}");
    }
    if let Some((_, status)) = process.exit.filter(|e| e.1 != 0) {
        let _ = match status & 0x7f {
            0 => write!(text, ", which exited with status {}", status >> 8 & 0xff),
            signo => write!(text, ", which was ended by {}", signal_name(signo)),
        };
    }
    text
}

fn done_text(done: &[(String, u64)]) -> String {
    const SHOWN: usize = 3;
    let mut text: Vec<&str> = done.iter().take(SHOWN).map(|d| d.0.as_str()).collect();
    let more;
    if done.len() > SHOWN {
        more = format!("{} more", count((done.len() - SHOWN) as u64));
        text.push(&more);
    }
    text.join("; ")
}
