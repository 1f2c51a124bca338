//! What the time of a run went on: for each role of tasks, calls and waits by what they are for.

mod hist;

pub(crate) use hist::Hist;

use crate::names::NameId;
use rustc_hash::FxHashMap;

/// Kinds of time that are told apart, of all processes together; beyond that, objects are not told apart any more.
const MAX_KEYS: usize = 65_536;
/// Beyond that, neither are processes.
const MAX_COARSE: usize = 2 * MAX_KEYS;

/// What time was spent on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Spent {
    /// Until the other end of a connection answered.
    Answer,
    /// Until a name server answered.
    Lookup,
    /// Until a connection was there, or refused.
    Connect,
    /// For a lock that somebody held.
    Lock,
    /// In a call on a file or a path.
    File,
    /// For room to send.
    Room,
    /// For input that nobody was asked for: a pipe, a terminal, the rest of an answer.
    Input,
    /// In another call.
    Call,
    /// Between calls, on a CPU.
    Cpu,
    /// Able to run, without a CPU.
    CpuWait,
    /// Between calls, blocked: page faults.
    Fault,
    /// For another task of the run: at the other end of a pipe or of a connection.
    Inside,
    /// For another thread to say that something has happened.
    Condition,
    /// For an event; what happened then is not known.
    Event,
    /// For the end of a child.
    Child,
    /// For the end of a thread.
    Thread,
    /// For clients: to come, or to ask.
    Request,
    /// From a client's question to the first byte of the answer.
    Service,
    /// For a time.
    Sleep,
    /// For a signal.
    Signal,
}

impl Spent {
    /// Whether who waits so waits for somebody whose own time tells why it took long, or for nobody.
    pub(crate) const fn is_consequence(self) -> bool {
        matches!(
            self,
            Self::Inside
                | Self::Condition
                | Self::Event
                | Self::Child
                | Self::Thread
                | Self::Request
                | Self::Service
                | Self::Sleep
                | Self::Signal
        )
    }

    /// Whether it is spent on a CPU or for want of one: any load of the machine changes it.
    pub(crate) const fn is_of_machine(self) -> bool {
        matches!(self, Self::Cpu | Self::CpuWait | Self::Fault)
    }

    /// Its name in JSON.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Answer => "answer",
            Self::Lookup => "lookup",
            Self::Connect => "connect",
            Self::Lock => "lock",
            Self::File => "file",
            Self::Room => "room",
            Self::Input => "input",
            Self::Call => "call",
            Self::Cpu => "cpu",
            Self::CpuWait => "cpu_wait",
            Self::Fault => "page_fault",
            Self::Inside => "inside",
            Self::Condition => "condition",
            Self::Event => "event",
            Self::Child => "child",
            Self::Thread => "thread",
            Self::Request => "request",
            Self::Service => "service",
            Self::Sleep => "sleep",
            Self::Signal => "signal",
        }
    }
}

/// One kind of time of one process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Key {
    pub(crate) spent: Spent,
    pub(crate) call: NameId,
    /// A peer, a path, a lock.
    pub(crate) object: NameId,
    /// The name of its threads, without numbers; empty: the first thread.
    pub(crate) thread: NameId,
}

impl Key {
    fn coarse(self) -> Self {
        Self { object: NameId::default(), ..self }
    }
}

/// The time of one role, by kind.
#[derive(Debug)]
pub(crate) struct Cost {
    /// A process of the role.
    pub(crate) process: usize,
    pub(crate) key: Key,
    pub(crate) lengths: Hist,
}

/// What is known of a thread between two calls.
#[derive(Debug, Clone, Copy, Default)]
struct Thread {
    label: NameId,
    /// End of its last call; 0: none yet.
    last_ns: u64,
    /// What it waited for events whose cause is not known yet.
    pending_ns: u64,
}

/// Adds up the time of all threads.
#[derive(Debug, Default)]
pub(crate) struct Costs {
    of_process: FxHashMap<usize, FxHashMap<Key, Hist>>,
    keys: usize,
    /// The first process of a role.
    roles: FxHashMap<String, usize>,
    threads: Vec<Thread>,
}

impl Costs {
    fn thread(&mut self, thread: usize) -> &mut Thread {
        if self.threads.len() <= thread {
            self.threads.resize(thread + 1, Thread::default());
        }
        &mut self.threads[thread]
    }

    /// A thread has this name.
    pub(crate) fn name(&mut self, thread: usize, label: NameId) {
        self.thread(thread).label = label;
    }

    /// The name of a thread.
    pub(crate) fn label(&self, thread: usize) -> NameId {
        self.threads.get(thread).map_or(NameId::default(), |t| t.label)
    }

    /// A call of a thread began and ended. Returns the time between it and the call before.
    pub(crate) fn between(&mut self, thread: usize, t_ns: u64, end_ns: u64) -> u64 {
        let thread = self.thread(thread);
        let gap = if thread.last_ns == 0 { 0 } else { t_ns.saturating_sub(thread.last_ns) };
        thread.last_ns = thread.last_ns.max(end_ns);
        gap
    }

    /// A thread waited for events. Returns what it waited before for some that nothing came of.
    pub(crate) fn waited(&mut self, thread: usize, ns: u64) -> u64 {
        std::mem::replace(&mut self.thread(thread).pending_ns, ns)
    }

    pub(crate) fn add(&mut self, process: usize, key: Key, ns: u64) {
        let map = self.of_process.entry(process).or_default();
        if let Some(hist) = map.get_mut(&key) {
            return hist.add(ns);
        }
        if self.keys < MAX_KEYS {
            self.keys += 1;
            return map.entry(key).or_default().add(ns);
        }
        let key = key.coarse();
        if let Some(hist) = map.get_mut(&key) {
            return hist.add(ns);
        }
        if self.keys < MAX_COARSE {
            self.keys += 1;
            return map.entry(key).or_default().add(ns);
        }
        // What is left of kinds, calls and threads is few; processes may be many.
        let first = self.of_process.entry(0).or_default();
        let key = Key { call: NameId::default(), thread: NameId::default(), ..key };
        first.entry(key).or_default().add(ns);
    }

    /// A process is over: its time is that of its role.
    pub(crate) fn fold(&mut self, process: usize, role: String) {
        let first = *self.roles.entry(role).or_insert(process);
        if first == process {
            return;
        }
        let Some(of_it) = self.of_process.remove(&process) else { return };
        let of_first = self.of_process.entry(first).or_default();
        for (key, hist) in of_it {
            match of_first.entry(key) {
                std::collections::hash_map::Entry::Occupied(mut known) => {
                    known.get_mut().merge(&hist);
                    self.keys = self.keys.saturating_sub(1);
                }
                std::collections::hash_map::Entry::Vacant(new) => {
                    new.insert(hist);
                }
            }
        }
    }

    /// All that was added up, in order.
    pub(crate) fn finish(self) -> Vec<Cost> {
        let mut all: Vec<Cost> = self
            .of_process
            .into_iter()
            .flat_map(|(process, of_it)| {
                of_it.into_iter().map(move |(key, lengths)| Cost { process, key, lengths })
            })
            .collect();
        all.sort_unstable_by_key(|cost| (cost.process, cost.key));
        all
    }
}
