//! How much a plan takes, and how much making one.

use super::*;

#[test]
fn the_need_follows_what_is_there_at_a_time() {
    const MIB: u64 = 1 << 20;
    let mut t = Mem::new();
    let a = t.add_task(10, 10);
    t.call(a, "getuid", [0; 6], 0);
    let before = t.plan().need;
    // One temporary file after the other, written twice at the same place: one at a time.
    for n in 0..10 {
        let path = format!("/tmp/scratch-{n}").into_bytes();
        let file = t.file(&path, 0);
        t.open(a, &path, 0o102, 40, Some(file));
        if let Some(Event::Syscall(call)) = t.events.last_mut() {
            call.details.push(Detail::Created);
        }
        for _ in 0..2 {
            t.call(a, "pwrite64", [40, 0, 8 * MIB, 0, 0, 0], 8 * MIB as i64);
        }
        let value = t.text(&path);
        t.call(a, "unlink", [0; 6], 0).details.push(Detail::Str { arg: 0, value });
        // It is there until nobody has it open.
        t.call(a, "close", [40, 0, 0, 0, 0, 0], 0);
    }
    let files = t.plan().need;
    assert_eq!((files.disk_bytes, files.descriptors), (8 * MIB, 41));
    assert!(files.files <= before.files + 3, "{before:?} {files:?}");
    // A memfd is memory, but not on the disk; what is populated counts until it is unmapped.
    t.call(a, "memfd_create", [0; 6], 40);
    t.call(a, "fallocate", [40, 0, 0, 16 * MIB, 0, 0], 0);
    t.call(a, "fallocate", [40, 1, 32 * MIB, 16 * MIB, 0, 0], 0);
    for n in 0..3 {
        let at = 0x7000_0000_0000_u64 + (n << 30);
        t.call(a, "mmap", [0, 64 * MIB, 3, 0x8022, u64::MAX, 0], at as i64);
        t.call(a, "munmap", [at, 64 * MIB, 0, 0, 0, 0], 0);
    }
    let all = t.plan().need;
    assert_eq!(all.disk_bytes, 8 * MIB);
    let more = all.memory_bytes - before.memory_bytes;
    // 32 of the memfd, 64 of the mapping, 8 of the buffer that is written.
    assert!((104 * MIB..106 * MIB).contains(&more), "{more}");
    // Tasks that live at the same time, and the sandbox's init.
    assert_eq!(all.tasks, 2);
    for tid in 11..16 {
        let child = t.add_task(tid, tid);
        t.fork(a, child);
        t.call(a, "clone", [17, 0, 0, 0, 0, 0], i64::from(tid));
        t.call(child, "exit_group", [0; 6], 0).flags = SyscallFlags::NO_EXIT;
        if tid % 2 == 0 {
            let (t_ns, kind) = (t.now, ProcessKind::Exit { status: 0, group_dead: true });
            t.now += 1_000;
            t.events.push(Event::Process(Process { t_ns, task: child, kind }));
        }
    }
    assert_eq!(t.plan().need.tasks, 5);
}

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
    let mut world = super::super::world::World::new(
        super::super::budget::Budget::of(&t),
        super::super::world::Seed::default(),
        super::super::fsmodel::Paths::default(),
        super::super::fsmodel::FsModel::default(),
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
