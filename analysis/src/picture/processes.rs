//! Processes as a tree, and how they ended.

use super::{ProcessRow, Ranked};
use crate::findings::containers;
use crate::findings::ends::signal_name;
use crate::findings::people::{Actor, People, ProcessId};
use crate::findings::words;
use crate::roles;
use ctrace_format::{Container, Snapshot, StrId, Trace, Usage};
use rustc_hash::{FxHashMap, FxHashSet};

/// Rows that are shown.
const SHOWN: usize = 400;
/// Up to so many processes, siblings that are alike have rows of their own.
const FEW: usize = 200;
/// Words of a command line that are kept, and their bytes in all.
const MAX_WORDS: usize = 64;
const MAX_WORD_BYTES: usize = 4_096;
/// Processes whose command lines are kept.
const MAX_ARGVS: usize = 65_536;
const MAX_THREADS: usize = 1 << 20;

/// What a process did.
#[derive(Debug, Clone, Copy, Default)]
struct Deeds {
    threads: u64,
    calls: u64,
    failed: u64,
    cpu_ns: Option<u64>,
}

/// A command line: words of the trace, or those of the snapshot.
#[derive(Debug)]
enum Argv {
    Ids(Box<[StrId]>),
    Snapshot(usize),
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Processes {
    deeds: Vec<Deeds>,
    argvs: FxHashMap<ProcessId, Argv>,
    threads: FxHashSet<(ProcessId, u32)>,
    /// Processes that somebody will look for: those of findings.
    wanted: FxHashSet<ProcessId>,
}

impl Processes {
    /// Those who were there when recording began: [`People::snapshot`] numbers them in order.
    pub(super) fn snapshot(&mut self, snapshot: &Snapshot) {
        for (at, process) in snapshot.processes.iter().enumerate() {
            let id = ProcessId(at as u32);
            if self.argvs.len() < MAX_ARGVS {
                self.argvs.insert(id, Argv::Snapshot(at));
            }
            for thread in &process.threads {
                self.thread(id, thread.tid.0);
            }
        }
    }

    fn of(&mut self, process: ProcessId) -> &mut Deeds {
        let at = process.0 as usize;
        if self.deeds.len() <= at {
            self.deeds.resize(at + 1, Deeds::default());
        }
        &mut self.deeds[at]
    }

    fn thread(&mut self, process: ProcessId, tid: u32) {
        if self.threads.len() < MAX_THREADS && self.threads.insert((process, tid)) {
            self.of(process).threads += 1;
        }
    }

    /// A task is met for the first time.
    pub(super) fn met(&mut self, actor: Actor) {
        self.thread(actor.process, actor.tid);
    }

    pub(super) fn call(&mut self, process: ProcessId, n: u64) {
        let calls = &mut self.of(process).calls;
        *calls = calls.saturating_add(n);
    }

    pub(super) fn failure(&mut self, process: ProcessId, n: u64) {
        let failed = &mut self.of(process).failed;
        *failed = failed.saturating_add(n);
    }

    pub(super) fn usage(&mut self, process: ProcessId, usage: &Usage) {
        let cpu_ns = self.of(process).cpu_ns.get_or_insert(0);
        *cpu_ns = cpu_ns.saturating_add(usage.cpu_ns);
    }

    pub(super) fn exec(&mut self, process: ProcessId, argv: &[StrId]) {
        if self.argvs.len() < MAX_ARGVS || self.argvs.contains_key(&process) {
            let words = argv.iter().take(MAX_WORDS).copied().collect();
            self.argvs.insert(process, Argv::Ids(words));
        }
    }

    pub(super) fn want(&mut self, process: ProcessId) {
        self.wanted.insert(process);
    }

    fn argv(&self, process: ProcessId, trace: &Trace) -> Vec<String> {
        let mut left = MAX_WORD_BYTES;
        let mut out = Vec::new();
        let mut add = |word: &[u8]| {
            let word = words::text(&word[..word.len().min(left)]);
            left = left.saturating_sub(word.len().max(1));
            out.push(word);
            left > 0
        };
        match self.argvs.get(&process) {
            Some(Argv::Ids(ids)) => {
                let _ = ids.iter().all(|id| add(trace.str(*id)));
            }
            Some(Argv::Snapshot(at)) => {
                let argv = &trace.snapshot().processes[*at].argv;
                let _ = argv.iter().take(MAX_WORDS).all(|word| add(word));
            }
            None => {}
        }
        out
    }

    /// The tree: parents before their children, siblings in order of their starts.
    pub(super) fn rows(
        mut self,
        people: &People,
        containers: &[Container],
        trace: &Trace,
    ) -> Ranked<ProcessRow> {
        // Where there were too many, the last entry is all of the later ones together: none of them has a row.
        let untold = people.untold;
        let n = people.processes.len() - usize::from(untold > 0);
        self.deeds.resize(people.processes.len(), Deeds::default());
        let parent_of = |at: usize| {
            // A parent was there before: whatever a trace says, the tree has no circles.
            people.processes[at].parent.map(|p| p.0 as usize).filter(|parent| *parent < at)
        };
        let mut children: Vec<u32> = vec![0; n];
        for at in 0..n {
            if let Some(parent) = parent_of(at) {
                children[parent] += 1;
            }
        }
        // Siblings that are alike, have no children and ended alike are one row, where there are many.
        let mut alike = vec![1_u64; n];
        let mut is_folded = vec![false; n];
        if n > FEW {
            let mut first: FxHashMap<(Option<usize>, String, Option<u32>), usize> = FxHashMap::default();
            for at in 0..n {
                if children[at] > 0 || self.wanted.contains(&ProcessId(at as u32)) {
                    continue;
                }
                let process = &people.processes[at];
                let key = (parent_of(at), role(process), process.exit.map(|exit| exit.1));
                let head = *first.entry(key).or_insert(at);
                if head != at {
                    is_folded[at] = true;
                    alike[head] += 1;
                    let deeds = self.deeds[at];
                    self.deeds[head].add(deeds);
                }
            }
        }
        let heads: Vec<usize> = (0..n).filter(|at| !is_folded[*at]).collect();
        let kept = self.chosen(&heads, people, parent_of);
        // Depth first, without recursion: a chain of forks may be long.
        let mut below: FxHashMap<Option<usize>, Vec<usize>> = FxHashMap::default();
        for at in heads.iter().filter(|at| kept.contains(at)) {
            below.entry(parent_of(*at)).or_default().push(*at);
        }
        let mut stack: Vec<usize> = below.remove(&None).unwrap_or_default();
        stack.reverse();
        let mut rows: Vec<ProcessRow> = Vec::with_capacity(kept.len());
        let mut position: FxHashMap<usize, usize> = FxHashMap::default();
        while let Some(at) = stack.pop() {
            let parent = parent_of(at).and_then(|parent| position.get(&parent).copied());
            position.insert(at, rows.len());
            rows.push(self.row(at, parent, alike[at], people, containers, trace));
            let mut next = below.remove(&Some(at)).unwrap_or_default();
            next.reverse();
            stack.extend(next);
        }
        let folded: u64 = heads.iter().filter(|at| !kept.contains(at)).map(|at| alike[*at]).sum();
        Ranked { rows, left_out: folded + untold + u64::from(untold > 0) }
    }

    /// The rows that are shown, each with those above it: the wanted ones, those that failed, those that did most.
    fn chosen(
        &self,
        heads: &[usize],
        people: &People,
        parent_of: impl Fn(usize) -> Option<usize>,
    ) -> FxHashSet<usize> {
        if heads.len() <= SHOWN {
            return heads.iter().copied().collect();
        }
        let mut order: Vec<usize> = heads.to_vec();
        order.sort_by_key(|at| {
            let is_wanted = self.wanted.contains(&ProcessId(*at as u32));
            let is_failed = people.processes[*at].exit.is_some_and(|exit| exit.1 != 0);
            (!is_wanted, !is_failed, std::cmp::Reverse(self.deeds[*at].calls), *at)
        });
        let mut kept = FxHashSet::default();
        // Every try walks up at most as far as there is room.
        for at in order.into_iter().take(4 * SHOWN) {
            let room = SHOWN - kept.len();
            let mut line = Vec::new();
            let mut up = Some(at);
            while let Some(one) = up.filter(|one| !kept.contains(one) && line.len() <= room) {
                line.push(one);
                up = parent_of(one);
            }
            if line.len() <= room {
                kept.extend(line);
            }
        }
        kept
    }

    fn row(
        &self,
        at: usize,
        parent: Option<usize>,
        alike: u64,
        people: &People,
        containers: &[Container],
        trace: &Trace,
    ) -> ProcessRow {
        let process = &people.processes[at];
        let deeds = self.deeds[at];
        let container = process.container.and_then(|number| containers.iter().find(|c| c.number == number));
        ProcessRow {
            tgid: process.tgid,
            parent,
            comm: process.comm.clone(),
            role: role(process),
            exe: process.exe.clone().unwrap_or_default(),
            argv: self.argv(ProcessId(at as u32), trace),
            container: container.map(containers::name),
            from_ns: process.start_ns,
            to_ns: process.exit.map(|exit| exit.0),
            ended: process.exit.map(|exit| ended(exit.1)),
            is_failed: process.exit.is_some_and(|exit| exit.1 != 0),
            threads: deeds.threads.max(1),
            calls: deeds.calls,
            failed: deeds.failed,
            cpu_ns: deeds.cpu_ns,
            alike,
        }
    }
}

impl Deeds {
    fn add(&mut self, other: Self) {
        self.threads += other.threads;
        self.calls = self.calls.saturating_add(other.calls);
        self.failed = self.failed.saturating_add(other.failed);
        if let Some(ns) = other.cpu_ns {
            let cpu_ns = self.cpu_ns.get_or_insert(0);
            *cpu_ns = cpu_ns.saturating_add(ns);
        }
    }
}

/// The role of a process: that of its first thread.
pub(super) fn role(process: &crate::findings::people::Process) -> String {
    roles::of_thread(&process.comm, &process.comm)
}

/// How a process ended, as wait(2) tells it.
pub(super) fn ended(status: u32) -> String {
    match status & 0x7f {
        0 => format!("exit {}", status >> 8 & 0xff),
        signo if status & 0x80 != 0 => format!("{}, core dumped", signal_name(signo)),
        signo => signal_name(signo),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_said_as_people_say_it() {
        assert_eq!([0, 1 << 8, 9, 0x8b].map(ended), ["exit 0", "exit 1", "SIGKILL", "SIGSEGV, core dumped"]);
    }
}
