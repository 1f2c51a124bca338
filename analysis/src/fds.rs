//! File descriptor tables, followed through a trace.
//!
//! A descriptor number means nothing by itself: it is opened, duplicated, inherited, closed and used again for something
//! else. [`FdTracker`] gives every open file description a *generation* and tells, for each completed call, what it
//! opened and closed. It needs no dictionaries, so whoever reads events can drive it: the model does, and the compiler
//! of replay plans can.

use crate::shared::{Marked, SharedMap};
use ctrace_format::syscalls::{Call, Family, Makes};
use ctrace_format::{Detail, ObjectId, Snapshot, Syscall, SyscallFlags, Tgid};
use rustc_hash::FxHashMap;
use std::collections::{BTreeMap, VecDeque};

/// `O_CLOEXEC`, `SOCK_CLOEXEC`, `EFD_CLOEXEC`, … on every architecture ctrace records.
const CLOEXEC: u64 = 0o2_000_000;
const F_DUPFD: u64 = 0;
const F_SETFD: u64 = 2;
const F_DUPFD_CLOEXEC: u64 = 1030;
const CLOSE_RANGE_CLOEXEC: u64 = 4;
const CLONE_FILES: u64 = 0x400;
/// Descriptors that a call on a range, or an exec, closes or marks without further ado; programs that start others have
/// fewer to close.
const BULK_FREE: u64 = 256;
/// How many more they may close or mark in all before what they close is no longer told. A table comes with a fork for
/// nothing, and forks that close large ones would cost their size each.
const BULK_MAX: u64 = 1 << 19;

/// Closes of one number that return after others took it, at a time.
const BEING_CLOSED: usize = 4;

/// An open file description, from its open to its last close. Unique in a trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Generation(pub u32);

/// Where a description came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Origin {
    /// Opened by a call of the trace.
    Opened,
    /// Open when recording began, according to the snapshot.
    Snapshot,
    /// First seen in use: inherited from outside the trace, received over a socket, or its opening was not recorded.
    Found,
}

/// An entry of a descriptor table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Descriptor {
    /// The description it refers to.
    pub generation: Generation,
    /// What is behind it, when known.
    pub object: Option<ObjectId>,
    /// Where the description came from.
    pub origin: Origin,
    /// The number it had where it first appeared.
    pub first_fd: i32,
    /// Closed by exec.
    pub cloexec: bool,
    /// Whatever the driver of the tracker wants to remember about the description, carried along by dup and fork; see
    /// [`FdTracker::set_tag`].
    pub tag: u32,
}

/// A change of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// A number refers to something now.
    Opened {
        /// The number.
        fd: i32,
        /// What it refers to.
        descriptor: Descriptor,
    },
    /// A number refers to nothing any more.
    Closed {
        /// The number.
        fd: i32,
        /// What it referred to.
        descriptor: Descriptor,
        /// Whether no other number of the same table refers to the description.
        last_in_table: bool,
    },
}

impl Marked for Descriptor {
    fn is_marked(&self) -> bool {
        self.cloexec
    }
}

/// A table, in what it has in common with those that it was copied from.
#[derive(Debug, Default)]
struct Table {
    fds: SharedMap<i32, Descriptor>,
    /// Its descriptors, by description.
    uses: SharedMap<(Generation, i32), ()>,
    users: u32,
    /// The earlier descriptors of numbers that others were given, and when: a close frees the number first and returns
    /// later (`file_close_fd`, fs/file.c), and what takes the number meanwhile may be told of before.
    being_closed: BTreeMap<i32, VecDeque<(Descriptor, u64)>>,
}

impl Table {
    fn set(&mut self, fd: i32, descriptor: Descriptor) {
        if let Some(old) = self.fds.insert(fd, descriptor) {
            self.uses.remove(&(old.generation, fd));
        }
        self.uses.insert((descriptor.generation, fd), ());
    }

    fn has(&self, generation: Generation) -> bool {
        self.uses.from(&(generation, i32::MIN)).next().is_some_and(|((other, _), ())| *other == generation)
    }
}

/// The descriptor tables of all processes of a trace.
#[derive(Debug, Default)]
pub struct FdTracker {
    tables: Vec<Table>,
    of_process: FxHashMap<Tgid, usize>,
    free: Vec<usize>,
    generations: u32,
    /// Descriptors closed or marked many at a time.
    bulk: u64,
}

impl FdTracker {
    /// Tables as the start snapshot has them.
    pub fn new(snapshot: &Snapshot) -> Self {
        let mut tracker = Self::default();
        for process in &snapshot.processes {
            for fd in &process.fds {
                let generation = tracker.next_generation();
                let descriptor = Descriptor {
                    generation,
                    object: None,
                    origin: Origin::Snapshot,
                    first_fd: fd.fd,
                    cloexec: u64::from(fd.flags) & CLOEXEC != 0,
                    tag: 0,
                };
                tracker.table(process.tgid).set(fd.fd, descriptor);
            }
        }
        tracker
    }

    /// What a number refers to.
    pub fn get(&self, process: Tgid, fd: i32) -> Option<&Descriptor> {
        self.tables.get(*self.of_process.get(&process)?)?.fds.get(&fd)
    }

    /// The descriptor that a call means by a number: a close means the one that was there before another call took the number.
    pub fn meant(&self, process: Tgid, call: Call, fd: i32, s: &Syscall) -> Option<&Descriptor> {
        let table = self.tables.get(*self.of_process.get(&process)?)?;
        let before = if call == Call::Close { table.being_closed.get(&fd) } else { None };
        let taken = before.into_iter().flatten().find(|(_, taken_ns)| s.t_ns < *taken_ns);
        taken.map(|(descriptor, _)| descriptor).or_else(|| table.fds.get(&fd))
    }

    /// Sets the tag of what a number refers to.
    pub fn set_tag(&mut self, process: Tgid, fd: i32, tag: u32) {
        self.table(process).fds.change(&fd, |descriptor| descriptor.tag = tag);
    }

    /// The descriptors of a process, by number.
    pub fn descriptors(&self, process: Tgid) -> impl Iterator<Item = (i32, &Descriptor)> {
        let table = self.of_process.get(&process).and_then(|table| self.tables.get(*table));
        table.into_iter().flat_map(|table| table.fds.iter()).map(|(fd, descriptor)| (*fd, descriptor))
    }

    /// Number of descriptors of a process.
    pub fn open_count(&self, process: Tgid) -> usize {
        self.of_process.get(&process).map_or(0, |t| self.tables[*t].fds.len())
    }

    /// Makes sure that a number in use is in the table; an object seen in use corrects what was assumed.
    pub fn observe(&mut self, process: Tgid, fd: i32, object: Option<ObjectId>) -> Descriptor {
        if let Some(known) = self.table(process).fds.get(&fd).copied() {
            match (known.object, object) {
                (None, Some(_)) => {
                    self.table(process).fds.change(&fd, |descriptor| descriptor.object = object);
                    return Descriptor { object, ..known };
                }
                // Its opening was missed: the number means something else than assumed.
                (Some(a), Some(b)) if a != b => {}
                _ => return known,
            }
        }
        let descriptor = Descriptor {
            generation: self.next_generation(),
            object,
            origin: Origin::Found,
            first_fd: fd,
            cloexec: false,
            tag: 0,
        };
        self.table(process).set(fd, descriptor);
        descriptor
    }

    /// A process was made, with a copy of its parent's table.
    pub fn fork(&mut self, parent: Tgid, child: Tgid) {
        if parent == child {
            return;
        }
        let Table { fds, uses, .. } = self.table(parent);
        let copy = Table { fds: fds.clone(), uses: uses.clone(), users: 1, ..Table::default() };
        self.exit(child);
        let index = self.fresh();
        self.tables[index] = copy;
        self.of_process.insert(child, index);
    }

    /// A process was made with `CLONE_FILES`: it uses its parent's table.
    pub fn share(&mut self, parent: Tgid, child: Tgid) {
        if parent == child {
            return;
        }
        self.table(parent);
        let index = self.of_process[&parent];
        if self.of_process.get(&child) == Some(&index) {
            return;
        }
        self.exit(child);
        self.tables[index].users += 1;
        self.of_process.insert(child, index);
    }

    /// A process executed a new program: what is close-on-exec is closed, and a shared table becomes its own.
    pub fn exec(&mut self, process: Tgid) -> Vec<Change> {
        let index = self.index(process);
        if self.tables[index].users > 1 {
            self.tables[index].users -= 1;
            let Table { fds, uses, .. } = &self.tables[index];
            let copy = Table { fds: fds.clone(), uses: uses.clone(), users: 1, ..Table::default() };
            let own = self.fresh();
            self.tables[own] = copy;
            self.of_process.insert(process, own);
        }
        let mut changes = Vec::new();
        let most = BULK_FREE + BULK_MAX.saturating_sub(self.bulk);
        let mut count = 0;
        while count < most
            && let Some(fd) = self.table(process).fds.first_marked().copied()
        {
            count += 1;
            changes.extend(self.remove(process, fd));
        }
        self.bulk += count.saturating_sub(BULK_FREE);
        changes
    }

    /// A process ended. Returns how many descriptors it still had, 0 when others use its table.
    pub fn exit(&mut self, process: Tgid) -> usize {
        let Some(index) = self.of_process.remove(&process) else { return 0 };
        let table = &mut self.tables[index];
        table.users = table.users.saturating_sub(1);
        if table.users > 0 {
            return 0;
        }
        let left = table.fds.len();
        table.fds = SharedMap::default();
        table.uses = SharedMap::default();
        table.being_closed.clear();
        self.free.push(index);
        left
    }

    /// Applies a completed call.
    pub fn syscall(&mut self, process: Tgid, call: Call, s: &Syscall) -> Vec<Change> {
        if s.flags.contains(SyscallFlags::NO_EXIT) {
            return Vec::new();
        }
        // Linux releases the number even when close reports EINTR or EIO.
        let closes = call == Call::Close && s.ret != -9;
        if s.ret < 0 && !closes || s.arguments_unknown() {
            return Vec::new();
        }
        let arg = |i: usize| s.args[i];
        let fd_arg = |i: usize| s.args[i] as i32;
        let made = s.ret as i32;
        let end_ns = s.t_ns.saturating_add(s.duration_ns);
        match call {
            Call::Close => {
                let closed = self.was_closed(process, fd_arg(0), |taken_ns| s.t_ns < taken_ns);
                closed.or_else(|| self.remove(process, fd_arg(0))).into_iter().collect()
            }
            Call::CloseRange if arg(2) & CLOSE_RANGE_CLOEXEC != 0 => {
                let Some((first, last)) = range(arg(0), arg(1)) else { return Vec::new() };
                for fd in self.numbers(process, first, last) {
                    self.table(process).fds.change(&fd, |descriptor| descriptor.cloexec = true);
                }
                Vec::new()
            }
            Call::CloseRange => {
                let Some((first, last)) = range(arg(0), arg(1)) else { return Vec::new() };
                let numbers = self.numbers(process, first, last);
                let changes = numbers.into_iter().filter_map(|fd| self.remove(process, fd)).collect();
                // The rest is closed, and nothing tells of it.
                self.table(process).fds.remove_range(&first, &last);
                changes
            }
            Call::Dup => self.duplicate(process, fd_arg(0), made, false, s),
            Call::Dup2 => self.replace(process, fd_arg(0), made, false, s.object),
            Call::Dup3 => self.replace(process, fd_arg(0), made, arg(2) & CLOEXEC != 0, s.object),
            Call::Fcntl => match arg(1) {
                F_DUPFD => self.duplicate(process, fd_arg(0), made, false, s),
                F_DUPFD_CLOEXEC => self.duplicate(process, fd_arg(0), made, true, s),
                F_SETFD => {
                    self.table(process).fds.change(&fd_arg(0), |d| d.cloexec = arg(2) & 1 != 0);
                    Vec::new()
                }
                _ => Vec::new(),
            },
            Call::Pipe | Call::Pipe2 | Call::Socketpair => {
                let cloexec = call != Call::Pipe && arg(1) & CLOEXEC != 0;
                let mut changes = Vec::new();
                for detail in &s.details {
                    if let Detail::NewFds { fds, objects, .. } = detail {
                        for (fd, object) in fds.iter().zip(objects) {
                            self.open(process, *fd, *object, cloexec, end_ns, &mut changes);
                        }
                    }
                }
                changes
            }
            Call::Recvmsg | Call::Recvmmsg => {
                const MSG_CMSG_CLOEXEC: u64 = 0x4000_0000;
                let cloexec = arg(if call == Call::Recvmsg { 2 } else { 3 }) & MSG_CMSG_CLOEXEC != 0;
                let mut changes = Vec::new();
                for detail in &s.details {
                    if let Detail::Passed { fds, .. } = detail {
                        for passed in fds {
                            self.open(process, passed.fd, passed.object, cloexec, end_ns, &mut changes);
                        }
                    }
                }
                changes
            }
            Call::Clone | Call::Clone3 | Call::Fork | Call::Vfork => {
                let flags = if call == Call::Clone { arg(0) } else { clone3_flags(s) };
                let child = Tgid(made as u32);
                if flags & CLONE_FILES != 0 && self.of_process.contains_key(&child) {
                    self.share(process, child);
                }
                Vec::new()
            }
            _ => {
                let row = call.row();
                let Makes::Result(cloexec) = row.makes else { return Vec::new() };
                let cloexec = cloexec.is_set(&s.args);
                let mut changes = Vec::new();
                // signalfd on an existing descriptor only changes its mask.
                let again = matches!(call, Call::Signalfd | Call::Signalfd4) && fd_arg(0) == made;
                if !again {
                    // accept's object may be the listener's; what the new number refers to is learned when it is used.
                    let object = if row.family == Family::Accept { None } else { s.object };
                    self.open(process, made, object, cloexec, end_ns, &mut changes);
                }
                changes
            }
        }
    }

    fn open(
        &mut self,
        process: Tgid,
        fd: i32,
        object: Option<ObjectId>,
        cloexec: bool,
        end_ns: u64,
        changes: &mut Vec<Change>,
    ) {
        self.take(process, fd, end_ns, changes);
        let descriptor = Descriptor {
            generation: self.next_generation(),
            object,
            origin: Origin::Opened,
            first_fd: fd,
            cloexec,
            tag: 0,
        };
        self.insert(process, fd, descriptor, changes);
    }

    /// A call that returned at `end_ns` took a number. The kernel gives out free ones only: what had it is being closed.
    fn take(&mut self, process: Tgid, fd: i32, end_ns: u64, changes: &mut Vec<Change>) {
        let table = self.table(process);
        if let Some(before) = table.fds.remove(&fd) {
            table.uses.remove(&(before.generation, fd));
            let earlier = table.being_closed.entry(fd).or_default();
            earlier.push_back((before, end_ns));
            if earlier.len() > BEING_CLOSED {
                // Their closes were not recorded.
                changes.extend(self.was_closed(process, fd, |_| true));
            }
        }
    }

    /// A descriptor has another number, which was free.
    fn duplicate(&mut self, process: Tgid, from: i32, to: i32, cloexec: bool, s: &Syscall) -> Vec<Change> {
        let mut changes = Vec::new();
        if from != to {
            self.take(process, to, s.t_ns.saturating_add(s.duration_ns), &mut changes);
        }
        changes.extend(self.replace(process, from, to, cloexec, s.object));
        changes
    }

    /// A descriptor has another number, whatever had that.
    fn replace(
        &mut self,
        process: Tgid,
        from: i32,
        to: i32,
        cloexec: bool,
        object: Option<ObjectId>,
    ) -> Vec<Change> {
        let mut changes = Vec::new();
        if from != to {
            let source = match self.get(process, from) {
                Some(known) => *known,
                None => self.observe(process, from, object),
            };
            self.insert(process, to, Descriptor { cloexec, ..source }, &mut changes);
        }
        changes
    }

    /// Closes the descriptor that a number had before another call took it, at such a time.
    fn was_closed(&mut self, process: Tgid, fd: i32, taken: impl Fn(u64) -> bool) -> Option<Change> {
        let table = self.table(process);
        let earlier = table.being_closed.get_mut(&fd)?;
        let at = earlier.iter().position(|(_, taken_ns)| taken(*taken_ns))?;
        let (descriptor, _) = earlier.remove(at)?;
        if earlier.is_empty() {
            table.being_closed.remove(&fd);
        }
        let last_in_table = !table.has(descriptor.generation);
        Some(Change::Closed { fd, descriptor, last_in_table })
    }

    fn insert(&mut self, process: Tgid, fd: i32, descriptor: Descriptor, changes: &mut Vec<Change>) {
        changes.extend(self.remove(process, fd));
        self.table(process).set(fd, descriptor);
        changes.push(Change::Opened { fd, descriptor });
    }

    fn remove(&mut self, process: Tgid, fd: i32) -> Option<Change> {
        let table = self.table(process);
        let descriptor = table.fds.remove(&fd)?;
        table.uses.remove(&(descriptor.generation, fd));
        let last_in_table = !table.has(descriptor.generation);
        Some(Change::Closed { fd, descriptor, last_in_table })
    }

    /// The open numbers of a range that are left to be told of.
    fn numbers(&mut self, process: Tgid, first: i32, last: i32) -> Vec<i32> {
        let left = (BULK_FREE + BULK_MAX.saturating_sub(self.bulk)) as usize;
        let fds = &self.table(process).fds;
        let numbers: Vec<i32> =
            fds.from(&first).map(|(fd, _)| *fd).take_while(|fd| *fd <= last).take(left).collect();
        self.bulk += (numbers.len() as u64).saturating_sub(BULK_FREE);
        numbers
    }

    fn next_generation(&mut self) -> Generation {
        self.generations += 1;
        Generation(self.generations)
    }

    fn index(&mut self, process: Tgid) -> usize {
        if let Some(index) = self.of_process.get(&process) {
            return *index;
        }
        let index = self.fresh();
        self.of_process.insert(process, index);
        index
    }

    fn table(&mut self, process: Tgid) -> &mut Table {
        let index = self.index(process);
        &mut self.tables[index]
    }

    fn fresh(&mut self) -> usize {
        let table = Table { users: 1, ..Table::default() };
        if let Some(index) = self.free.pop() {
            self.tables[index] = table;
            index
        } else {
            self.tables.push(table);
            self.tables.len() - 1
        }
    }
}

/// The numbers between two arguments of `close_range`, which are unsigned ints.
fn range(first: u64, last: u64) -> Option<(i32, i32)> {
    let most = i32::MAX as u32;
    let (first, last) = (first as u32, (last as u32).min(most));
    (first <= last).then_some((first as i32, last as i32))
}

fn clone3_flags(s: &Syscall) -> u64 {
    s.details
        .iter()
        .find_map(|d| match d {
            Detail::Value { arg: 0, value } => Some(*value),
            Detail::Bytes { arg: 0, data } => data.first_chunk().map(|b| u64::from_le_bytes(*b)),
            _ => None,
        })
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ctrace_format::{Abi, Sysno, TaskId};

    const P: Tgid = Tgid(10);

    fn call(args: [u64; 6], ret: i64) -> Syscall {
        Syscall {
            t_ns: 0,
            duration_ns: 0,
            task: TaskId(0),
            sysno: Sysno { abi: Abi::X86_64, nr: 0 },
            ret,
            flags: SyscallFlags::default(),
            args,
            args_mask: 0x3f,
            object: None,
            details: Vec::new(),
            wait_cpu_ns: 0,
            blocked_ns: 0,
        }
    }

    #[test]
    fn a_number_used_again_is_a_new_generation() {
        let mut t = FdTracker::default();
        t.syscall(P, Call::Openat, &call([0; 6], 3));
        let first = t.get(P, 3).unwrap().generation;
        t.syscall(P, Call::Close, &call([3, 0, 0, 0, 0, 0], 0));
        assert_eq!(t.get(P, 3), None);
        t.syscall(P, Call::Openat, &call([0; 6], 3));
        assert_ne!(t.get(P, 3).unwrap().generation, first);
    }

    #[test]
    fn dup_shares_the_generation_and_the_last_close_is_told() {
        let mut t = FdTracker::default();
        t.syscall(P, Call::Socket, &call([0; 6], 3));
        t.syscall(P, Call::Dup2, &call([3, 1, 0, 0, 0, 0], 1));
        let closed = t.syscall(P, Call::Close, &call([3, 0, 0, 0, 0, 0], 0));
        assert!(matches!(closed[..], [Change::Closed { last_in_table: false, .. }]));
        let closed = t.syscall(P, Call::Close, &call([1, 0, 0, 0, 0, 0], 0));
        assert!(matches!(closed[..], [Change::Closed { last_in_table: true, .. }]));
    }

    #[test]
    fn fork_copies_clone_files_shares_and_exec_closes() {
        let mut t = FdTracker::default();
        t.syscall(P, Call::Openat, &call([0, 0, CLOEXEC, 0, 0, 0], 3));
        t.syscall(P, Call::Openat, &call([0; 6], 4));
        t.fork(P, Tgid(11));
        t.share(P, Tgid(12));
        t.syscall(P, Call::Close, &call([4, 0, 0, 0, 0, 0], 0));
        assert!(t.get(Tgid(11), 4).is_some());
        assert!(t.get(Tgid(12), 4).is_none());
        let closed = t.exec(Tgid(12));
        assert_eq!(closed.len(), 1);
        assert!(t.get(P, 3).is_some() && t.get(Tgid(12), 3).is_none());
    }

    /// 100,000 descriptors, 10,000 forks of which each closes one and ends: no table is copied.
    #[test]
    fn a_fork_costs_what_it_changes() {
        let mut t = FdTracker::default();
        for fd in 0..100_000 {
            t.syscall(P, Call::Openat, &call([0; 6], fd));
        }
        for child in 0..10_000 {
            let child = Tgid(100 + child);
            t.fork(P, child);
            let closed = t.syscall(child, Call::Close, &call([7, 0, 0, 0, 0, 0], 0));
            assert!(matches!(closed[..], [Change::Closed { last_in_table: true, .. }]));
            let index = t.of_process[&child];
            let (own, all) = (t.tables[index].fds.own().count(), t.tables[index].fds.len());
            assert!(own < 40 && all == 99_999, "{own} of {all} are its own");
        }
        assert_eq!(t.open_count(P), 100_000);
    }

    /// Closing ranges in forks of a large table is told as far as that is bounded; the tables are right beyond.
    #[test]
    fn ranges_close_everything_however_often() {
        let mut t = FdTracker::default();
        for fd in 0..1000 {
            t.syscall(P, Call::Openat, &call([0; 6], fd));
        }
        t.bulk = BULK_MAX - 1000;
        for (child, told) in [(11, 990), (12, 522), (13, 256)] {
            t.fork(P, Tgid(child));
            let closed = t.syscall(Tgid(child), Call::CloseRange, &call([10, u64::MAX, 0, 0, 0, 0], 0));
            assert_eq!((closed.len(), t.open_count(Tgid(child))), (told, 10));
        }
    }

    /// The close began before, and returns after, the call that was given its number.
    #[test]
    fn a_number_may_be_taken_while_it_is_closed() {
        let mut t = FdTracker::default();
        let at = |mut call: Syscall, t_ns, duration_ns| {
            (call.t_ns, call.duration_ns) = (t_ns, duration_ns);
            call
        };
        t.syscall(P, Call::Openat, &at(call([0; 6], 3), 0, 1));
        let first = *t.get(P, 3).unwrap();
        assert_eq!(t.syscall(P, Call::Accept, &at(call([9, 0, 0, 0, 0, 0], 3), 20, 5)).len(), 1);
        let second = *t.get(P, 3).unwrap();
        let close = at(call([3, 0, 0, 0, 0, 0], 0), 10, 30);
        assert_eq!(t.meant(P, Call::Close, 3, &close), Some(&first));
        let closed = Change::Closed { fd: 3, descriptor: first, last_in_table: true };
        assert_eq!(t.syscall(P, Call::Close, &close), [closed]);
        assert_eq!(t.get(P, 3), Some(&second));
        // The second is closed, and the number taken again, before the close of the first returns.
        let first = second;
        let close = at(call([3, 0, 0, 0, 0, 0], 0), 60, 50);
        t.syscall(P, Call::Accept, &at(call([9, 0, 0, 0, 0, 0], 3), 70, 5));
        let second = *t.get(P, 3).unwrap();
        let closed = |descriptor| [Change::Closed { fd: 3, descriptor, last_in_table: true }];
        assert_eq!(t.syscall(P, Call::Close, &at(call([3, 0, 0, 0, 0, 0], 0), 80, 1)), closed(second));
        assert_eq!(t.syscall(P, Call::Close, &close), closed(first));
        // Those whose closes were not recorded are closed at last.
        let opened = (0..10).map(|n| t.syscall(P, Call::Openat, &at(call([0; 6], 3), 200 + n, 1)).len());
        assert_eq!(opened.sum::<usize>(), 10 + 9 - BEING_CLOSED);
    }

    #[test]
    fn a_close_that_fails_with_eintr_still_closes() {
        let mut t = FdTracker::default();
        t.syscall(P, Call::Openat, &call([0; 6], 3));
        t.syscall(P, Call::Close, &call([3, 0, 0, 0, 0, 0], -4));
        assert_eq!(t.get(P, 3), None);
        assert!(t.syscall(P, Call::Close, &call([3, 0, 0, 0, 0, 0], -9)).is_empty());
    }
}
