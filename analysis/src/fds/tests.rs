//! The changes that a tracker tells.

use super::*;
use ctrace_format::{Abi, SyscallFlags, Sysno, TaskId};

const P: Tgid = Tgid(10);

pub(super) fn call(args: [u64; 6], ret: i64) -> Syscall {
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
        let slots = t.tables[t.of_process[&child]].slots();
        let (own, all) = (slots.own().count(), slots.len());
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
    t.tables.spend(BULK_MAX - 1000);
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
    // Descriptors whose closes were not recorded are closed at last.
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

/// A close that began before another call took the number, of something that nobody saw, leaves the other's alone.
#[test]
fn a_close_of_what_nobody_saw_closes_nothing_that_came_later() {
    let mut t = FdTracker::default();
    let at = |mut call: Syscall, t_ns, duration_ns| {
        (call.t_ns, call.duration_ns) = (t_ns, duration_ns);
        call
    };
    t.syscall(P, Call::Accept, &at(call([9, 0, 0, 0, 0, 0], 3), 20, 5));
    let close = at(call([3, 0, 0, 0, 0, 0], 0), 10, 30);
    assert_eq!(t.meant(P, Call::Close, 3, &close), None);
    assert!(t.syscall(P, Call::Close, &close).is_empty());
    assert!(t.get(P, 3).is_some());
}

#[test]
fn a_table_of_ones_own_is_closed_alone() {
    let mut t = FdTracker::default();
    t.syscall(P, Call::Openat, &call([0; 6], 3));
    t.share(P, Tgid(11));
    let closed = t.syscall(Tgid(11), Call::CloseRange, &call([0, 9, 2, 0, 0, 0], 0));
    assert_eq!((closed.len(), t.open_count(P), t.open_count(Tgid(11))), (1, 1, 0));
}

#[test]
fn the_last_of_several_numbers_in_a_range_is_told_to_be_the_last() {
    let mut t = FdTracker::default();
    t.syscall(P, Call::Openat, &call([0; 6], 3));
    t.syscall(P, Call::Dup, &call([3, 0, 0, 0, 0, 0], 4));
    let closed = t.syscall(P, Call::CloseRange, &call([0, 9, 0, 0, 0, 0], 0));
    let last: Vec<bool> =
        closed.iter().map(|c| matches!(c, Change::Closed { last_in_table: true, .. })).collect();
    assert_eq!(last, [false, true]);
}
