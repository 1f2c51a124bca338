//! Descriptors and sockets, followed through a trace: the one model of them.
//!
//! A descriptor number means nothing by itself: it is opened, duplicated, inherited, closed and used again for something
//! else. Three parts make sense of it, and each piece of knowledge is in one of them:
//!
//! - [`effects`] and [`socket_effect`] say what a completed call does: to the table of its task, and to the socket that it is
//!   about. Nobody else reads that out of an event.
//! - [`Tables`] is what a kernel keeps: which number stands for what in which process. Copies that a fork makes share what
//!   they have in common; a table may be shared, become somebody's own, be closed in ranges and by exec. A number may be
//!   given out again before the close that freed it has returned, and [`Table::closing`] tells which of the two a close means.
//!   What a number stands for is up to whoever follows the trace ([`Stands`]).
//! - [`Held`] counts references to descriptions across tables and messages, and tells when the last one goes.
//!
//! Three drive them. [`FdTracker`], below, gives every open file description a *generation* and keeps what the comparison of
//! two runs needs in a few words. The compiler of replays keeps an open file with offset, flags and watchers. The findings
//! count what is opened and closed. None of this needs dictionaries: whoever reads events can drive it.

mod effects;
mod held;
mod table;

pub use effects::{
    CLOEXEC, CLONE_FILES, Effect, Said, SocketEffect, asks_for_number, clone_flags, effects, lowest_taken,
    open_flags, received_cloexec, socket_effect,
};
pub use held::{Description, Held, Registry};
pub use table::{Closing, Slot, Stands, Table, TableId, Tables};

use ctrace_format::syscalls::Call;
use ctrace_format::{ObjectId, Snapshot, Syscall, Tgid};
use rustc_hash::FxHashMap;

/// Descriptors that a call on a range, or an exec, closes or marks without further ado; programs that start others have
/// fewer to close.
const BULK_FREE: u64 = 256;
/// How many more they may close or mark in all before what they close is no longer told.
const BULK_MAX: u64 = 1 << 19;

/// Closes of one number that return after others took it, at a time.
const BEING_CLOSED: usize = 4;

/// An open file description, from its open to its last close. Unique in a trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Generation(pub u32);

/// The origin of a description.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Origin {
    /// Opened by a call of the trace.
    Opened,
    /// Open when recording began, according to the snapshot.
    Snapshot,
    /// First seen in use: inherited from outside the trace, received over a socket, or its opening was not recorded.
    Found,
}

/// The description that a descriptor stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Descriptor {
    /// The description it refers to.
    pub generation: Generation,
    /// The object behind it, when known.
    pub object: Option<ObjectId>,
    /// The origin of the description.
    pub origin: Origin,
    /// The number it had where it first appeared.
    pub first_fd: i32,
    /// Whatever the driver of the tracker wants to remember about the description, carried along by dup and fork; see
    /// [`FdTracker::set_tag`].
    pub tag: u32,
}

impl Stands for Descriptor {
    type Key = Generation;
    type Past = Self;

    fn key(&self) -> Option<Generation> {
        Some(self.generation)
    }

    fn past(self) -> Self {
        self
    }
}

/// A change of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// A number refers to something now.
    Opened {
        /// The number.
        fd: i32,
        /// The description that it refers to.
        descriptor: Descriptor,
        /// It is another number of what was open before.
        copied: bool,
    },
    /// A number refers to nothing any more.
    Closed {
        /// The number.
        fd: i32,
        /// The description that it referred to.
        descriptor: Descriptor,
        /// Whether no other number of the same table refers to the description.
        last_in_table: bool,
    },
}

/// The descriptor tables of all processes of a trace.
#[derive(Debug, Default)]
pub struct FdTracker {
    tables: Tables<Descriptor>,
    of_process: FxHashMap<Tgid, TableId>,
    generations: u32,
}

impl FdTracker {
    /// Tables as the start snapshot has them.
    pub fn new(snapshot: &Snapshot) -> Self {
        let mut tracker = Self::default();
        for process in &snapshot.processes {
            for fd in &process.fds {
                let what = tracker.new_descriptor(fd.fd, None, Origin::Snapshot);
                let cloexec = u64::from(fd.flags) & CLOEXEC != 0;
                tracker.table(process.tgid).put(fd.fd, Slot { what, cloexec, since_ns: 0 });
            }
        }
        tracker
    }

    /// The descriptor of a number.
    pub fn get(&self, process: Tgid, fd: i32) -> Option<&Descriptor> {
        self.tables[*self.of_process.get(&process)?].get(fd).map(|slot| &slot.what)
    }

    /// The descriptor that a call means by a number: a close means the one that was there when it began, though another call
    /// has taken the number. `None`: nobody saw it.
    pub fn meant(&self, process: Tgid, call: Call, fd: i32, s: &Syscall) -> Option<&Descriptor> {
        if call != Call::Close {
            return self.get(process, fd);
        }
        match self.tables[*self.of_process.get(&process)?].closing(fd, s.t_ns)? {
            Closing::Present(slot) => Some(&slot.what),
            Closing::Past(past) => Some(past),
            Closing::Unseen => None,
        }
    }

    /// Sets the tag of what a number refers to.
    pub fn set_tag(&mut self, process: Tgid, fd: i32, tag: u32) {
        self.table(process).change(fd, |descriptor| descriptor.tag = tag);
    }

    /// The descriptors of a process, by number.
    pub fn descriptors(&self, process: Tgid) -> impl Iterator<Item = (i32, &Descriptor)> {
        let table = self.of_process.get(&process).map(|id| &self.tables[*id]);
        table.into_iter().flat_map(|table| table.slots().iter()).map(|(fd, slot)| (*fd, &slot.what))
    }

    /// The descriptions that a process has and no other one.
    pub fn only_of(&self, process: Tgid) -> Vec<Descriptor> {
        let Some(own) = self.of_process.get(&process) else { return Vec::new() };
        let others: Vec<TableId> = self.of_process.values().filter(|id| *id != own).copied().collect();
        if self.of_process.iter().any(|(other, id)| id == own && *other != process) {
            return Vec::new();
        }
        let is_kept = |what: &Descriptor| others.iter().any(|id| self.tables[*id].has(&what.generation));
        self.descriptors(process).map(|(_, what)| *what).filter(|what| !is_kept(what)).collect()
    }

    /// Whether any process has a description.
    pub fn is_open(&self, generation: Generation) -> bool {
        self.of_process.values().any(|id| self.tables[*id].has(&generation))
    }

    /// Number of descriptors of a process.
    pub fn open_count(&self, process: Tgid) -> usize {
        self.of_process.get(&process).map_or(0, |id| self.tables[*id].slots().len())
    }

    /// Makes sure that a number in use is in the table; an object seen in use corrects what was assumed.
    pub fn observe(&mut self, process: Tgid, fd: i32, object: Option<ObjectId>) -> Descriptor {
        if let Some(known) = self.get(process, fd).copied() {
            match (known.object, object) {
                (None, Some(_)) => {
                    self.table(process).change(fd, |descriptor| descriptor.object = object);
                    return Descriptor { object, ..known };
                }
                // Its opening was missed: the number means something else than assumed.
                (Some(a), Some(b)) if a != b => {}
                _ => return known,
            }
        }
        let what = self.new_descriptor(fd, object, Origin::Found);
        self.table(process).put(fd, Slot { what, cloexec: false, since_ns: 0 });
        what
    }

    /// A process was made, with a copy of its parent's table.
    pub fn fork(&mut self, parent: Tgid, child: Tgid) {
        if parent == child {
            return;
        }
        let from = self.id(parent);
        let copy = self.tables.copy(from);
        self.exit(child);
        self.of_process.insert(child, copy);
    }

    /// A process was made with `CLONE_FILES`: it uses its parent's table.
    pub fn share(&mut self, parent: Tgid, child: Tgid) {
        let id = self.id(parent);
        if parent == child || self.of_process.get(&child) == Some(&id) {
            return;
        }
        self.exit(child);
        self.tables.share(id);
        self.of_process.insert(child, id);
    }

    /// A process has its table for its own from now on.
    pub fn unshare(&mut self, process: Tgid) {
        let id = self.id(process);
        let own = self.tables.own(id);
        self.of_process.insert(process, own);
    }

    /// A process executed a new program: what is close-on-exec is closed, and a shared table becomes its own.
    pub fn exec(&mut self, process: Tgid) -> Vec<Change> {
        self.unshare(process);
        let id = self.id(process);
        let closed = self.tables.exec(id);
        self.all_closed(id, &closed)
    }

    /// A process ended. Returns how many descriptors it still had, 0 when others use its table.
    pub fn exit(&mut self, process: Tgid) -> usize {
        self.of_process.remove(&process).map_or(0, |id| self.tables.leave(id))
    }

    /// Applies a completed call. What one of several threads does to a table of its own, its process is taken to do.
    pub fn syscall(&mut self, process: Tgid, call: Call, s: &Syscall) -> Vec<Change> {
        let mut changes = Vec::new();
        for effect in effects(call, s) {
            self.apply(process, effect, s, &mut changes);
        }
        changes
    }

    fn apply(&mut self, process: Tgid, effect: Effect, s: &Syscall, changes: &mut Vec<Change>) {
        let since_ns = s.t_ns.saturating_add(s.duration_ns);
        match effect {
            Effect::Makes { fd, object, cloexec } | Effect::Receives { fd, object, cloexec } => {
                let what = self.new_descriptor(fd, object, Origin::Opened);
                self.take(process, fd, Slot { what, cloexec, since_ns }, false, changes);
            }
            Effect::Copies { from, to, cloexec, replaces } => {
                if from == to {
                    return;
                }
                let what = match self.get(process, from) {
                    Some(known) => *known,
                    None => self.observe(process, from, s.object),
                };
                let slot = Slot { what, cloexec, since_ns };
                if replaces {
                    if let Some(old) = self.table(process).put(to, slot) {
                        changes.push(self.closed(process, to, old.what));
                    }
                    changes.push(Change::Opened { fd: to, descriptor: what, copied: true });
                } else {
                    self.take(process, to, slot, true, changes);
                }
            }
            Effect::Closes { fd } => {
                let descriptor = match self.table(process).close(fd, s.t_ns) {
                    Some(Closing::Present(slot)) => slot.what,
                    Some(Closing::Past(past)) => past,
                    Some(Closing::Unseen) | None => return,
                };
                changes.push(self.closed(process, fd, descriptor));
            }
            Effect::ClosesRange { first, last } => {
                let id = self.id(process);
                let closed = self.tables.close_range(id, first, last);
                changes.extend(self.all_closed(id, &closed));
            }
            Effect::Marks { fd, cloexec } => self.table(process).mark(fd, cloexec),
            Effect::MarksRange { first, last } => {
                let id = self.id(process);
                self.tables.mark_range(id, first, last);
            }
            Effect::Unshares => self.unshare(process),
            Effect::Shares { child } => {
                let child = Tgid(child as u32);
                if self.of_process.contains_key(&child) {
                    self.share(process, child);
                }
            }
        }
    }

    /// A call took a number. The kernel gives out free ones only: what had it is being closed.
    fn take(
        &mut self,
        process: Tgid,
        fd: i32,
        slot: Slot<Descriptor>,
        copied: bool,
        changes: &mut Vec<Change>,
    ) {
        let descriptor = slot.what;
        if let Some(unrecorded) = self.table(process).take(fd, slot) {
            changes.push(self.closed(process, fd, unrecorded));
        }
        changes.push(Change::Opened { fd, descriptor, copied });
    }

    fn closed(&mut self, process: Tgid, fd: i32, descriptor: Descriptor) -> Change {
        let last_in_table = !self.table(process).has(&descriptor.generation);
        Change::Closed { fd, descriptor, last_in_table }
    }

    fn all_closed(&self, id: TableId, closed: &[(i32, Slot<Descriptor>)]) -> Vec<Change> {
        // The tracker tells which number of a description was its last.
        let mut changes = Vec::with_capacity(closed.len());
        let mut gone: rustc_hash::FxHashSet<Generation> = rustc_hash::FxHashSet::default();
        for (fd, slot) in closed.iter().rev() {
            let descriptor = slot.what;
            let is_last = gone.insert(descriptor.generation);
            let last_in_table = is_last && !self.tables[id].has(&descriptor.generation);
            changes.push(Change::Closed { fd: *fd, descriptor, last_in_table });
        }
        changes.reverse();
        changes
    }

    fn new_descriptor(&mut self, fd: i32, object: Option<ObjectId>, origin: Origin) -> Descriptor {
        self.generations += 1;
        Descriptor { generation: Generation(self.generations), object, origin, first_fd: fd, tag: 0 }
    }

    fn id(&mut self, process: Tgid) -> TableId {
        let tables = &mut self.tables;
        *self.of_process.entry(process).or_insert_with(|| tables.fresh())
    }

    fn table(&mut self, process: Tgid) -> &mut Table<Descriptor> {
        let id = self.id(process);
        &mut self.tables[id]
    }
}

#[cfg(test)]
mod tests;
