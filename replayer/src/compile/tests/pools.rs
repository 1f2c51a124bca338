//! Threads that share descriptors, and wait for the same.

use super::{Mem, named, steps};
use ctrace_format::{Detail, EpollEntry, SockAddr, TaskId};
use ctrace_program::{Kind, PARKED, Post, Step, flags, other_ready};

const IN: u32 = 1;
const OUT: u32 = 4;
const EDGE: u32 = 1 << 31;
const THREAD: u64 = 0x5_0f00;

/// A process of two threads, and a third that was made.
fn threads(t: &mut Mem) -> (TaskId, TaskId) {
    let (a, b) = (t.add_task(10, 10), t.add_task(11, 10));
    t.call(a, "getuid", [0; 6], 0);
    t.call(a, "eventfd2", [0; 6], 3);
    t.fork(a, b);
    t.call(a, "clone", [THREAD, 0, 0, 0, 0, 0], 11);
    (a, b)
}

fn of(steps: &[Step], name: &str) -> Vec<Step> {
    steps.iter().filter(|s| s.nr == named(name) && s.kind == Kind::Call as u8).copied().collect()
}

/// The number of the instance that a wait asks, and the descriptors that it is to report.
fn asks(steps: &[Step], wait: usize) -> (u64, Vec<u64>) {
    let waits: Vec<usize> = (0..steps.len()).filter(|i| steps[*i].nr == named("epoll_wait")).collect();
    let own = steps[waits[wait]].args[0];
    let before = steps[..waits[wait]].iter().rev().take_while(|s| s.flags & flags::ENGINE != 0);
    let asks = before.filter(|s| s.nr == named("epoll_ctl") && s.args[0] == own);
    (own, asks.map(|s| s.args[2]).collect())
}

#[test]
fn each_task_that_waits_on_a_shared_instance_is_told_what_it_was_told() {
    let mut t = Mem::new();
    let (a, b) = threads(&mut t);
    t.call(a, "epoll_create1", [0; 6], 4);
    for fd in [5, 6] {
        t.call(a, "eventfd2", [0; 6], fd as i64);
        let add = t.call(a, "epoll_ctl", [4, 1, fd, 0, 0, 0], 0);
        let entries = vec![EpollEntry { data: 70 + fd, events: IN | OUT | EDGE }];
        add.details.push(Detail::Epoll { arg: 3, entries });
    }
    let mut wait = |task, timeout: u64, told: &[u64]| {
        let wait = t.call(task, "epoll_wait", [4, 0, 8, timeout, 0, 0], told.len() as i64);
        let entries = told.iter().map(|fd| EpollEntry { data: 70 + fd, events: IN | OUT }).collect();
        wait.details.push(Detail::Epoll { arg: 1, entries });
    };
    wait(a, u64::MAX, &[6]);
    wait(b, u64::MAX, &[5]);
    wait(b, 0, &[]);
    let plan = t.plan();
    let (of_a, of_b) = (steps(&plan, 0), steps(&plan, 1));
    let (own, fds) = asks(&of_a, 0);
    assert_eq!(fds, [6]);
    assert_eq!(asks(&of_b, 0).1, [5]);
    assert_eq!(asks(&of_b, 1), (asks(&of_b, 0).0, vec![]));
    assert_ne!(own, asks(&of_b, 0).0);
    assert!(own > PARKED);
    let made = of(&of_b, "epoll_create1");
    assert_eq!((made.len(), made[0].post), (1, Post::Fd as u8));
}

#[test]
fn an_instance_that_one_task_waits_on_is_the_recorded_one() {
    let mut t = Mem::new();
    let (a, _) = threads(&mut t);
    t.call(a, "epoll_create1", [0; 6], 4);
    t.call(a, "epoll_wait", [4, 0, 8, 0, 0, 0], 0);
    assert_eq!(asks(&steps(&t.plan(), 0), 0), (4, vec![]));
}

#[test]
fn a_table_of_descriptors_grows_before_threads_share_it() {
    let mut t = Mem::new();
    let (a, b) = threads(&mut t);
    t.call(b, "getuid", [0; 6], 0);
    let c = t.add_task(12, 10);
    t.fork(a, c);
    t.call(a, "clone", [THREAD, 0, 0, 0, 0, 0], 12);
    t.call(c, "getuid", [0; 6], 0);
    let steps = steps(&t.plan(), 0);
    let grows = |s: &&Step| s.nr == named("fcntl") && s.flags & flags::ENGINE != 0 && s.args[2] >= PARKED;
    let first = steps.iter().position(|s| s.kind == Kind::Clone as u8).unwrap();
    assert_eq!(steps[..first].iter().filter(grows).count(), 1);
    assert_eq!(steps[first..].iter().filter(grows).count(), 0, "once is enough");
}

#[test]
fn a_thread_uses_a_socket_only_after_another_connected_it() {
    let mut t = Mem::new();
    let (a, b) = threads(&mut t);
    t.call(a, "socket", [2, 1, 0, 0, 0, 0], 4);
    let to = SockAddr::Inet(([127, 0, 0, 1], 80).into());
    t.call(a, "connect", [4, 0, 16, 0, 0, 0], -115).details.push(Detail::Addr { arg: 1, addr: to });
    t.call(b, "getpeername", [4, 0, 0, 0, 0, 0], 0);
    let plan = t.plan();
    let connect = steps(&plan, 0).iter().position(|s| s.nr == named("connect")).unwrap() as u32;
    let program = ctrace_program::Program::open(plan.program.try_clone().unwrap()).unwrap();
    let asks = steps(&plan, 1).iter().position(|s| s.nr == named("getpeername")).unwrap() as u32;
    let waits = program.waits(&program.step(1, asks).unwrap()).unwrap();
    assert!(waits.iter().any(|w| w.task == 0 && w.seq == connect * 2 + 2), "{waits:?}");
}

#[test]
fn a_splice_that_has_nothing_to_move_waits_for_both_ends() {
    let mut t = Mem::new();
    let a = t.add_task(10, 10);
    for fds in [[3, 4], [5, 6]] {
        t.call(a, "pipe2", [0; 6], 0).details.push(Detail::NewFds { arg: 0, fds, objects: [None; 2] });
    }
    t.call(a, "splice", [3, 0, 6, 0, 8, 2], 8);
    let splice = of(&steps(&t.plan(), 0), "splice")[0];
    assert_eq!((splice.fd_arg, splice.aux as u16, other_ready(splice.aux)), (0, 1, Some((2, 4))));
}

/// A wait that was going on when another thread registered what it was told of.
#[test]
fn who_registers_what_others_wait_for_tells_them() {
    let mut t = Mem::new();
    let (a, b) = threads(&mut t);
    t.call(a, "epoll_create1", [0; 6], 4);
    t.call(b, "epoll_wait", [4, 0, 8, 0, 0, 0], 0);
    t.call(a, "epoll_wait", [4, 0, 8, 0, 0, 0], 0);
    let start_ns = t.now;
    t.call(a, "eventfd2", [0; 6], 5);
    for how in [1, 3] {
        let add = t.call(a, "epoll_ctl", [4, how, 5, 0, 0, 0], 0);
        add.details.push(Detail::Epoll { arg: 3, entries: vec![EpollEntry { data: 75, events: IN | EDGE }] });
    }
    let now = t.now;
    let wait = t.call(b, "epoll_wait", [4, 0, 8, u64::MAX, 0, 0], 1);
    (wait.t_ns, wait.duration_ns) = (start_ns, now - start_ns);
    wait.details.push(Detail::Epoll { arg: 1, entries: vec![EpollEntry { data: 75, events: IN }] });
    let plan = t.plan();
    let (of_a, of_b) = (steps(&plan, 0), steps(&plan, 1));
    let wait = of_b.iter().rposition(|s| s.nr == named("epoll_wait")).unwrap();
    let own = of_b[wait].args[0];
    let adds = |steps: &[Step]| -> Vec<usize> {
        let add = |s: &Step| s.nr == named("epoll_ctl") && (s.args[0], s.args[1], s.args[2]) == (own, 1, 5);
        (0..steps.len()).filter(|i| add(&steps[*i])).collect()
    };
    assert_eq!(adds(&of_b), [0_usize; 0], "it is not there yet");
    let [add] = adds(&of_a)[..] else { panic!("{:?}", adds(&of_a)) };
    // After the last change, which comes when the other waits.
    assert_eq!((of_a[add - 1].nr, of_a[add - 1].args[1]), (named("epoll_ctl"), 3));
    let program = ctrace_program::Program::open(plan.program.try_clone().unwrap()).unwrap();
    let waits = program.waits(&program.step(0, add as u32 - 1).unwrap()).unwrap();
    assert!(waits.contains(&ctrace_program::Wait::entered(1, wait as u32)), "{waits:?} {wait}");
}

#[test]
fn a_reply_is_written_after_another_thread_read_the_request() {
    let mut t = Mem::new();
    let (a, b) = threads(&mut t);
    t.call(a, "socketpair", [1, 1, 0, 0, 0, 0], 0).details.push(Detail::NewFds {
        arg: 3,
        fds: [4, 5],
        objects: [None; 2],
    });
    t.call(b, "getuid", [0; 6], 0);
    t.call(a, "read", [4, 0, 8, 0, 0, 0], 8);
    t.call(b, "write", [4, 0, 8, 0, 0, 0], 8);
    let plan = t.plan();
    let reads = |s: &Step| s.kind == Kind::Call as u8 && s.nr == named("read");
    let read = steps(&plan, 0).iter().position(reads).unwrap() as u32;
    let write = steps(&plan, 1).iter().position(|s| s.nr == named("write")).unwrap() as u32;
    let program = ctrace_program::Program::open(plan.program.try_clone().unwrap()).unwrap();
    let waits = program.waits(&program.step(1, write).unwrap()).unwrap();
    assert!(waits.contains(&ctrace_program::Wait::completed(0, read)), "{waits:?}");
}

#[test]
fn memory_is_taken_away_after_another_thread_used_it() {
    const AT: u64 = 0x7f00_0000_0000;
    let mut t = Mem::new();
    let (a, b) = threads(&mut t);
    t.call(a, "mmap", [0, 0x4000, 3, 0x22, u64::MAX, 0], AT as i64);
    t.call(b, "madvise", [AT + 0x1000, 0x1000, 4, 0, 0, 0], 0);
    t.call(b, "getuid", [0; 6], 0);
    t.call(a, "munmap", [AT, 0x4000, 0, 0, 0, 0], 0);
    let plan = t.plan();
    let at = |task: u32, name: &str| {
        let is_it =
            |s: &Step| s.nr == named(name) && s.kind == Kind::Call as u8 && s.flags & flags::ENGINE == 0;
        steps(&plan, task).iter().rposition(is_it).unwrap() as u32
    };
    let program = ctrace_program::Program::open(plan.program.try_clone().unwrap()).unwrap();
    let waits = |task: u32, name: &str| program.waits(&program.step(task, at(task, name)).unwrap()).unwrap();
    assert!(waits(1, "madvise").contains(&ctrace_program::Wait::completed(0, at(0, "mmap"))));
    assert!(waits(0, "munmap").contains(&ctrace_program::Wait::completed(1, at(1, "madvise"))));
}

#[test]
fn the_table_of_those_outside_grows_before_they_share_it() {
    let mut t = Mem::new();
    let a = t.add_task(10, 10);
    t.call(a, "socket", [2, 1, 0, 0, 0, 0], 3);
    let to = SockAddr::Inet(([192, 0, 2, 1], 80).into());
    t.call(a, "connect", [3, 0, 16, 0, 0, 0], 0).details.push(Detail::Addr { arg: 1, addr: to });
    let plan = t.plan();
    let root = steps(&plan, plan.peers[0].task);
    let first = root.iter().position(|s| s.kind == Kind::Clone as u8).unwrap();
    let grows = |s: &&Step| s.post == Post::Fd as u8 && s.post_arg as u32 >= PARKED as u32;
    assert_eq!(root[..first].iter().filter(grows).count(), 1);
}
