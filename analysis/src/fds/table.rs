//! Tables of descriptors: numbers, and what each of them stands for.

use super::{BEING_CLOSED, BULK_FREE, BULK_MAX};
use crate::shared::{Marked, SharedMap};
use std::collections::{BTreeMap, VecDeque};
use std::ops::{Index, IndexMut};

/// The thing that a descriptor stands for, as the driver of the table keeps it.
pub trait Stands: Clone {
    /// Tells descriptors of one description from others.
    type Key: Clone + Ord + std::fmt::Debug;
    /// The remainder of one whose number was given away before its close has returned.
    type Past: std::fmt::Debug;

    /// The key of its description. `None`: nobody will ask for other numbers of the description.
    fn key(&self) -> Option<Self::Key>;

    /// The remainder of it, which does not hold the description any more.
    fn past(self) -> Self::Past;
}

/// A descriptor.
#[derive(Debug, Clone)]
pub struct Slot<S> {
    /// The thing that it stands for.
    pub what: S,
    /// Closed by exec.
    pub cloexec: bool,
    /// When the call that made it returned; 0: it was there before.
    pub since_ns: u64,
}

impl<S> Marked for Slot<S> {
    fn is_marked(&self) -> bool {
        self.cloexec
    }
}

/// The descriptor that a close closes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Closing<N, P> {
    /// The descriptor that has the number.
    Present(N),
    /// The descriptor that had the number before another call was given it; the close had not returned yet.
    Past(P),
    /// Something that nobody saw, before what has the number.
    Unseen,
}

/// A table, in what it has in common with those that it was copied from.
#[derive(Debug)]
pub struct Table<S: Stands> {
    slots: SharedMap<i32, Slot<S>>,
    /// Its descriptors, by description.
    uses: SharedMap<(S::Key, i32), ()>,
    users: u32,
    /// The earlier descriptors of numbers that others were given, and when: a close frees the number first and returns
    /// later (`file_close_fd`, fs/file.c), and what takes the number meanwhile may be told of before.
    being_closed: BTreeMap<i32, VecDeque<(S::Past, u64)>>,
    /// The two lowest numbers that are free, if somebody asked since the last change.
    free: Option<[i32; 2]>,
}

impl<S: Stands> Default for Table<S> {
    fn default() -> Self {
        Self::new(SharedMap::default(), SharedMap::default())
    }
}

impl<S: Stands> Table<S> {
    fn new(slots: SharedMap<i32, Slot<S>>, uses: SharedMap<(S::Key, i32), ()>) -> Self {
        Self { slots, uses, users: 1, being_closed: BTreeMap::new(), free: None }
    }

    /// Its descriptors.
    pub const fn slots(&self) -> &SharedMap<i32, Slot<S>> {
        &self.slots
    }

    /// The descriptor of a number.
    pub fn get(&self, fd: i32) -> Option<&Slot<S>> {
        self.slots.get(&fd)
    }

    /// Processes that have it.
    pub const fn users(&self) -> u32 {
        self.users
    }

    /// Whether a number of it refers to a description.
    pub fn has(&self, key: &S::Key) -> bool {
        let first = (key.clone(), i32::MIN);
        self.uses.from(&first).next().is_some_and(|((other, _), ())| other == key)
    }

    /// Gives a number to a descriptor, whatever had it. Returns that.
    pub fn put(&mut self, fd: i32, slot: Slot<S>) -> Option<Slot<S>> {
        self.free = None;
        let key = slot.what.key();
        let old = self.slots.insert(fd, slot);
        if let Some(key) = old.as_ref().and_then(|old| old.what.key()) {
            self.uses.remove(&(key, fd));
        }
        if let Some(key) = key {
            self.uses.insert((key, fd), ());
        }
        old
    }

    /// Gives a number to a descriptor that a call made which was given a free one: what has it is being closed. Returns what
    /// was so before, when too many are: their closes were not recorded.
    pub fn take(&mut self, fd: i32, slot: Slot<S>) -> Option<S::Past> {
        let taken_ns = slot.since_ns;
        let old = self.put(fd, slot)?;
        let earlier = self.being_closed.entry(fd).or_default();
        earlier.push_back((old.what.past(), taken_ns));
        if earlier.len() <= BEING_CLOSED {
            return None;
        }
        earlier.pop_front().map(|(past, _)| past)
    }

    /// The descriptor that a close closes which began at this time, if there is one.
    pub fn closing(&self, fd: i32, began_ns: u64) -> Option<Closing<&Slot<S>, &S::Past>> {
        let mut earlier = self.being_closed.get(&fd).into_iter().flatten();
        if let Some((past, _)) = earlier.find(|(_, taken_ns)| began_ns < *taken_ns) {
            return Some(Closing::Past(past));
        }
        let slot = self.slots.get(&fd)?;
        Some(if slot.since_ns <= began_ns { Closing::Present(slot) } else { Closing::Unseen })
    }

    /// A close that began at a time has returned. Returns what it closed.
    pub fn close(&mut self, fd: i32, began_ns: u64) -> Option<Closing<Slot<S>, S::Past>> {
        match self.closing(fd, began_ns)? {
            Closing::Unseen => Some(Closing::Unseen),
            Closing::Present(_) => self.remove(fd).map(Closing::Present),
            Closing::Past(_) => {
                let earlier = self.being_closed.get_mut(&fd)?;
                let at = earlier.iter().position(|(_, taken_ns)| began_ns < *taken_ns)?;
                let past = earlier.remove(at);
                if earlier.is_empty() {
                    self.being_closed.remove(&fd);
                }
                past.map(|(past, _)| Closing::Past(past))
            }
        }
    }

    /// Frees a number.
    pub fn remove(&mut self, fd: i32) -> Option<Slot<S>> {
        self.free = None;
        let slot = self.slots.remove(&fd)?;
        if let Some(key) = slot.what.key() {
            self.uses.remove(&(key, fd));
        }
        Some(slot)
    }

    /// The numbers of a range that refer to something, both ends included.
    pub fn inside(&self, first: i32, last: i32) -> impl Iterator<Item = (i32, &Slot<S>)> {
        self.slots.from(&first).map(|(fd, slot)| (*fd, slot)).take_while(move |(fd, _)| *fd <= last)
    }

    /// Frees all numbers of a range, in no more than the time that it takes to find it.
    pub fn remove_range(&mut self, first: i32, last: i32) {
        self.free = None;
        self.slots.remove_range(&first, &last);
    }

    /// An exec closes a number, or does not any more.
    pub fn mark(&mut self, fd: i32, cloexec: bool) {
        self.slots.change(&fd, |slot| slot.cloexec = cloexec);
    }

    /// Changes what a number stands for; its description stays the same.
    pub fn change(&mut self, fd: i32, change: impl FnOnce(&mut S)) {
        self.slots.change(&fd, |slot| change(&mut slot.what));
    }

    /// The lowest number that an exec closes.
    pub fn first_marked(&self) -> Option<i32> {
        self.slots.first_marked().copied()
    }

    /// The two lowest numbers that are free; `looked_at` counts what was passed by.
    pub fn lowest_free(&mut self, looked_at: &mut u64) -> [i32; 2] {
        if let Some(known) = self.free {
            return known;
        }
        let mut free = [0, 0];
        let mut found = 0;
        let mut next = 0;
        for (fd, _) in &self.slots {
            while next < *fd && found < 2 {
                free[found] = next;
                (found, next) = (found + 1, next + 1);
            }
            if found == 2 {
                break;
            }
            *looked_at += 1;
            next = fd.saturating_add(1);
        }
        for place in free.iter_mut().skip(found) {
            *place = next;
            next = next.saturating_add(1);
        }
        self.free = Some(free);
        free
    }
}

/// A table of [`Tables`]. None is used again for another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TableId(pub u32);

/// The tables of all processes.
#[derive(Debug)]
pub struct Tables<S: Stands> {
    all: Vec<Table<S>>,
    bulk: Bulk,
}

impl<S: Stands> Default for Tables<S> {
    fn default() -> Self {
        Self { all: Vec::new(), bulk: Bulk::default() }
    }
}

impl<S: Stands> Index<TableId> for Tables<S> {
    type Output = Table<S>;
    fn index(&self, id: TableId) -> &Table<S> {
        &self.all[id.0 as usize]
    }
}

impl<S: Stands> IndexMut<TableId> for Tables<S> {
    fn index_mut(&mut self, id: TableId) -> &mut Table<S> {
        &mut self.all[id.0 as usize]
    }
}

impl<S: Stands> Tables<S> {
    /// None so far. What is closed many at a time is told of however many there are: the one who follows bounds it.
    pub fn unbounded() -> Self {
        Self { all: Vec::new(), bulk: Bulk { spent: 0, most: u64::MAX } }
    }

    /// An empty table, which one process has.
    pub fn fresh(&mut self) -> TableId {
        self.add(Table::default())
    }

    fn add(&mut self, table: Table<S>) -> TableId {
        self.all.push(table);
        TableId(self.all.len() as u32 - 1)
    }

    /// A copy of a table, as a fork makes it.
    pub fn copy(&mut self, of: TableId) -> TableId {
        let Table { slots, uses, .. } = &self[of];
        let copy = Table::new(slots.clone(), uses.clone());
        self.add(copy)
    }

    /// One process more has a table (`CLONE_FILES`).
    pub fn share(&mut self, id: TableId) {
        self[id].users += 1;
    }

    /// The table that one of those who have `id` has for its own from now on: the same, if nobody else has it.
    pub fn own(&mut self, id: TableId) -> TableId {
        if self[id].users <= 1 {
            return id;
        }
        self[id].users -= 1;
        self.copy(id)
    }

    /// A process that has a table is gone. Returns how many descriptors go with it: none, if others have it, too.
    pub fn leave(&mut self, id: TableId) -> usize {
        let table = &mut self[id];
        table.users = table.users.saturating_sub(1);
        if table.users > 0 {
            return 0;
        }
        let left = table.slots.len();
        *table = Table { users: 0, ..Table::default() };
        left
    }

    /// As if so many had been closed many at a time.
    #[cfg(test)]
    pub(super) fn spend(&mut self, count: u64) {
        self.bulk.spent += count;
    }

    /// All tables.
    pub fn all(&self) -> impl Iterator<Item = &Table<S>> {
        self.all.iter()
    }

    /// Frees all numbers of a range. Returns what had them, as far as that is bounded; the rest is free without a word.
    pub fn close_range(&mut self, id: TableId, first: i32, last: i32) -> Vec<(i32, Slot<S>)> {
        let table = &mut self.all[id.0 as usize];
        let left = self.bulk.left();
        let numbers: Vec<i32> = table.inside(first, last).take(left).map(|(fd, _)| fd).collect();
        self.bulk.add(numbers.len());
        let closed = numbers.into_iter().filter_map(|fd| Some((fd, table.remove(fd)?))).collect();
        table.remove_range(first, last);
        closed
    }

    /// An exec closes all of a range, as far as that is bounded. Returns how many it did not close before.
    pub fn mark_range(&mut self, id: TableId, first: i32, last: i32) -> usize {
        let table = &mut self.all[id.0 as usize];
        let unmarked = table.inside(first, last).filter(|(_, slot)| !slot.cloexec);
        let numbers: Vec<i32> = unmarked.take(self.bulk.left()).map(|(fd, _)| fd).collect();
        self.bulk.add(numbers.len());
        for fd in &numbers {
            table.mark(*fd, true);
        }
        numbers.len()
    }

    /// A program is executed: what is close-on-exec is closed. Returns that, as far as it is bounded.
    pub fn exec(&mut self, id: TableId) -> Vec<(i32, Slot<S>)> {
        let table = &mut self.all[id.0 as usize];
        let mut closed = Vec::new();
        while closed.len() < self.bulk.left()
            && let Some(fd) = table.first_marked()
            && let Some(slot) = table.remove(fd)
        {
            closed.push((fd, slot));
        }
        self.bulk.add(closed.len());
        closed
    }
}

/// Descriptors that were closed or marked many at a time. A table comes with a fork for nothing, and forks that close large
/// ones would cost their size each.
#[derive(Debug)]
struct Bulk {
    spent: u64,
    most: u64,
}

impl Default for Bulk {
    fn default() -> Self {
        Self { spent: 0, most: BULK_MAX }
    }
}

impl Bulk {
    fn left(&self) -> usize {
        BULK_FREE.saturating_add(self.most.saturating_sub(self.spent)) as usize
    }

    fn add(&mut self, count: usize) {
        self.spent += (count as u64).saturating_sub(BULK_FREE);
    }
}
