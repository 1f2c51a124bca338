//! A program is as small as it can be, and is refused where it is too large.

use super::*;

/// Counts how large the program of a trace is: as many steps as calls, and no data per call.
fn program_bytes(t: &Mem) -> u64 {
    t.plan().program.metadata().unwrap().len()
}

/// 4,096 arguments, executed 2,000 times: the list is there once.
#[test]
fn an_argument_list_is_stored_once() {
    let bytes = |times: u32| {
        let mut t = Mem::new();
        let root = t.add_task(10, 10);
        let (path, word) = (t.text(b"/bin/x"), t.text(b"word"));
        for _ in 0..times {
            let call = t.call(root, "execve", [0; 6], 0);
            call.details.push(Detail::Str { arg: 0, value: path });
            call.details.push(Detail::Argv { arg: 1, words: vec![word], count: 4096 });
        }
        program_bytes(&t)
    };
    let (once, often) = (bytes(1), bytes(2000));
    assert!(often < once + (1 << 20), "{once} bytes for one, {often} for 2,000");
}

/// The parts of I/O vectors, messages and poll sets of the same shape are there once.
#[test]
fn data_of_one_shape_is_stored_once() {
    let bytes = |times: u32| {
        let mut t = Mem::new();
        let root = t.add_task(10, 10);
        let fds = Detail::NewFds { arg: 0, fds: [3, 4], objects: [None, None] };
        t.call(root, "pipe2", [0; 6], 0).details.push(fds);
        for _ in 0..times {
            let iov = Detail::Iov { arg: 1, bytes: 5000, count: 1024 };
            t.call(root, "writev", [4, 0, 1024, 0, 0, 0], 5000).details.push(iov);
            let entries = vec![PollEntry { fd: 3, events: 1, revents: 0 }];
            t.call(root, "ppoll", [0, 4096, 0, 0, 0, 0], 0).details.push(Detail::Poll { arg: 0, entries });
        }
        program_bytes(&t)
    };
    let (once, often) = (bytes(1), bytes(2000));
    assert!(often < once + (1 << 20), "{once} bytes for one, {often} for 2,000");
}

/// A trace that says more than its length can hold is refused with the figure.
#[test]
fn what_is_kept_is_bounded_by_the_length_of_the_trace() {
    let mut t = Mem::new();
    let root = t.add_task(10, 10);
    t.bytes = 1000;
    for n in 0..(1 << 18) + 1010 {
        t.call(root, "futex", [n * 4, 1, 1, 0, 0, 0], 1);
    }
    let error = compile(&t, &CompileOptions::default()).unwrap_err();
    assert!(matches!(error, CompileError::TooMany { what: "futex words", .. }), "{error}");
}

/// The program ends where the caller says, and the error says how.
#[test]
fn a_program_that_becomes_too_large_is_refused() {
    let mut t = Mem::new();
    let root = t.add_task(10, 10);
    for _ in 0..50_000 {
        t.call(root, "getppid", [0; 6], 1);
    }
    let options = CompileOptions { max_program: Some(600_000), ..CompileOptions::default() };
    let error = compile(&t, &options).unwrap_err();
    assert!(matches!(error, CompileError::TooLarge { max: 600_000, .. }), "{error}");
    assert!(error.to_string().contains("--max-program"), "{error}");
}

/// Sixty descriptors in a thousand instances: what a wait reports costs what it reports, and those who are not told
/// take the descriptor out once, not with every wait.
#[test]
fn a_watch_that_others_have_is_taken_out_once() {
    let mut t = Mem::new();
    let root = t.add_task(10, 10);
    t.call(root, "eventfd2", [0; 6], 3);
    for ep in [4, 5] {
        t.call(root, "epoll_create1", [0; 6], ep);
        let entries = vec![EpollEntry { data: 3, events: 1 }];
        t.call(root, "epoll_ctl", [ep as u64, 1, 3, 0, 0, 0], 0)
            .details
            .push(Detail::Epoll { arg: 3, entries });
    }
    for _ in 0..50 {
        t.call(root, "epoll_wait", [4, 0, 16, 0, 0, 0], 0);
    }
    let taken_out = |plan: &Plan| {
        let all = steps(plan, 0);
        all.iter().filter(|s| s.nr == named("epoll_ctl") && s.flags & flags::ENGINE != 0).count()
    };
    assert_eq!(taken_out(&t.plan()), 1);
    // Reported once, it is put back for that, and taken out again by the next wait that does not report it.
    let entries = vec![EpollEntry { data: 3, events: 1 }];
    t.call(root, "epoll_wait", [4, 0, 16, 0, 0, 0], 1).details.push(Detail::Epoll { arg: 1, entries });
    for _ in 0..50 {
        t.call(root, "epoll_wait", [4, 0, 16, 0, 0, 0], 0);
    }
    assert_eq!(taken_out(&t.plan()), 3);
}

/// A child ends with what it has by the fork: its parent's descriptors are not looked at.
#[test]
fn forks_of_a_large_table_share_it() {
    let mut t = Mem::new();
    let root = t.add_task(10, 10);
    for fd in 3..3000 {
        t.call(root, "eventfd2", [0; 6], fd);
    }
    let children: Vec<TaskId> = (0..500).map(|i| t.add_task(100 + i, 100 + i)).collect();
    for (i, child) in children.iter().enumerate() {
        t.fork(root, *child);
        t.call(root, "clone", [17, 0, 0, 0, 0, 0], 100 + i as i64);
        t.call(*child, "close", [7, 0, 0, 0, 0, 0], 0);
    }
    let mut world = crate::compile::world::World::new(
        crate::compile::budget::Budget::of(&t),
        crate::compile::world::Seed::default(),
        crate::compile::paths::Paths::default(),
        crate::compile::fsmodel::FsModel::default(),
    );
    for event in &t.events {
        match event {
            Event::Syscall(call) => {
                let task = world.task_of(&t, call.task).unwrap();
                let known = world.calls.get(call.sysno);
                world.apply_call(&t, task, call, &known).unwrap();
            }
            other => world.apply_other(&t, other).unwrap(),
        }
    }
    let slots = world.slots();
    assert!(slots < 3000 + 500 * 40, "{slots} descriptors for 501 tables of 3,000");
}
