//! Calls one by one: what is made there, answered or refused.

use super::*;

#[test]
fn a_file_that_was_read_exists_with_its_size_and_one_that_was_made_does_not() {
    let mut t = Mem::new();
    let a = t.add_task(10, 10);
    let (old, new) = (t.file(b"/etc/old", 100), t.file(b"/tmp/new", 0));
    t.open(a, b"/etc/old", 0, 3, Some(old));
    t.call(a, "read", [3, 0, 4096, 0, 0, 0], 100);
    t.open(a, b"/tmp/new", 0o102, 4, Some(new));
    if let Some(Event::Syscall(call)) = t.events.last_mut() {
        call.details.push(Detail::Created);
    }
    let plan = t.plan();
    let files: Vec<_> = plan.environment.files.iter().map(|f| (f.path.clone(), f.kind.clone())).collect();
    assert!(files.contains(&(b"/etc/old".to_vec(), FileKind::Regular { size: 100 })));
    assert!(!files.iter().any(|(path, _)| path == b"/tmp/new"));
    let steps = steps(&plan, 0);
    assert_eq!(steps[0].kind, Kind::Gate as u8);
    // The file ends where the recorded one did, so the read is asked as it was.
    assert_eq!((steps[2].nr, steps[2].args[2], steps[2].expect), (named("read"), 4096, 100));
}

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

#[test]
fn think_time_is_split_into_computing_and_idle() {
    let mut t = Mem::new();
    let a = t.add_task(10, 10);
    t.call(a, "getuid", [0; 6], 0);
    t.now += 10_000;
    let call = t.call(a, "getuid", [0; 6], 0);
    (call.wait_cpu_ns, call.blocked_ns) = (3_000, 1_000);
    let steps = steps(&t.plan(), 0);
    assert_eq!((steps[2].think_cpu_ns, steps[2].think_sleep_ns), (7_000, 4_000));
}

#[test]
fn a_sleep_until_a_moment_waits_as_long_as_that_was_away() {
    const MONOTONIC: u64 = 1;
    const TIMER_ABSTIME: u64 = 1;
    let mut t = Mem::new();
    t.header.start_boottime_ns = 5_000_000;
    let a = t.add_task(10, 10);
    // 800 ns after it is called; the timer is 200 ns late.
    let moment = t.header.start_boottime_ns + t.now + 800;
    let sleep = t.call(a, "clock_nanosleep", [MONOTONIC, TIMER_ABSTIME, 0, 0, 0, 0], 0);
    sleep.details.push(Detail::Time { arg: 2, ns: moment });
    // Its clock is another: a time namespace, or one that was set.
    let sleep = t.call(a, "clock_nanosleep", [MONOTONIC, TIMER_ABSTIME, 0, 0, 0, 0], 0);
    sleep.details.push(Detail::Time { arg: 2, ns: moment + 1_000_000_000_000 });
    let steps = steps(&t.plan(), 0);
    let left = |step: &Step| (step.sel[2], clock_parts(step.args[2]));
    let absolute = Sel::AbsTimespec as u8;
    assert_eq!([left(&steps[1]), left(&steps[2])], [(absolute, (1, 800)), (absolute, (1, 1_000))]);
}

#[test]
fn a_call_that_is_taken_for_granted_is_answered_as_it_was() {
    let mut t = Mem::new();
    let a = t.add_task(10, 10);
    t.call(a, "setuid", [33, 0, 0, 0, 0, 0], 0);
    t.call(a, "personality", [0xffff_ffff, 0, 0, 0, 0, 0], 0x4_0000);
    let plan = t.plan();
    let steps = steps(&plan, 0);
    let asked = steps.iter().find(|s| s.nr == named("setuid")).unwrap();
    assert_eq!((asked.kind, asked.flags & flags::FAULT, asked.expect), (Kind::Call as u8, flags::FAULT, 0));
    assert_eq!((asked.flags & flags::SURROGATE, asked.args[0]), (flags::SURROGATE, 33));
    // The filter answers with 0 or an error only; the recorder is told the rest.
    let told = steps.iter().find(|s| s.nr == named("personality")).unwrap();
    assert_eq!(
        (told.kind, told.flags & flags::FAULT, told.expect),
        (Kind::Call as u8, flags::FAULT, 0x4_0000)
    );
    assert_eq!(plan.summary.surrogate.values().sum::<u64>(), 2);
}

#[test]
fn shared_memory_of_system_v_is_made_attached_and_removed() {
    let mut t = Mem::new();
    let a = t.add_task(10, 10);
    t.call(a, "shmget", [0, 4096, 0o1600, 0, 0, 0], 77);
    t.call(a, "shmat", [77, 0, 0, 0, 0, 0], 0x7f00_0000_0000);
    t.call(a, "shmctl", [77, 0, 0, 0, 0, 0], 0);
    t.call(a, "shmdt", [0x7f00_0000_0000, 0, 0, 0, 0, 0], 0);
    t.call(a, "shmdt", [0x7e00_0000_0000, 0, 0, 0, 0, 0], 0);
    let plan = t.plan();
    let steps = steps(&plan, 0);
    let of = |name: &str| steps.iter().filter(move |s| s.nr == named(name)).collect::<Vec<_>>();
    assert_eq!((of("shmget")[0].flags & flags::FAULT, of("shmat")[0].sel[0]), (0, Sel::Value as u8));
    assert_eq!(of("shmctl")[0].args[0], of("shmat")[0].args[0]);
    let detached = of("shmdt");
    assert_eq!((detached[0].sel[0], detached[0].args[0] >> 40), (Sel::Value as u8, of("shmat")[0].post_arg));
    // One that was attached before the recording.
    assert_eq!(detached[1].flags & flags::FAULT, flags::FAULT);
    assert_eq!(plan.summary.surrogate.get("shmdt"), Some(&1));
}

#[test]
fn huge_pages_are_not_taken() {
    let mut t = Mem::new();
    let a = t.add_task(10, 10);
    t.call(a, "memfd_create", [0, 1 | 4 | 21 << 26, 0, 0, 0, 0], 5);
    t.call(a, "mmap", [0, 2 << 20, 3, 0x4_0022 | 21 << 26, u64::MAX, 0], 0x7f00_0000_0000);
    t.call(a, "shmget", [0, 2 << 20, 0o5600 | 21 << 26, 0, 0, 0], 77);
    // Normal pages would be had where huge ones were not.
    t.call(a, "memfd_create", [0, 1 | 4 | 30 << 26, 0, 0, 0, 0], -2);
    t.call(a, "shmget", [0, 2 << 20, 0o5600, 0, 0, 0], -2);
    let steps = steps(&t.plan(), 0);
    let of = |name: &str| steps.iter().filter(move |s| s.nr == named(name)).collect::<Vec<_>>();
    let (memfds, segments) = (of("memfd_create"), of("shmget"));
    assert_eq!(memfds[0].args[1], 1);
    assert_eq!(of("mmap")[0].args[3], 0x22);
    assert_eq!(segments[0].args[2], 0o1600);
    assert_eq!([memfds[1], segments[1]].map(|s| s.flags & flags::FAULT), [flags::FAULT; 2]);
}

#[test]
fn a_program_that_is_reached_through_links_leaves_them_links() {
    let mut t = Mem::new();
    let a = t.add_task(10, 10);
    let path = t.text(b"/d/a");
    t.call(a, "execve", [0; 6], 0).details.push(Detail::Str { arg: 0, value: path });
    let exec = ProcessKind::Exec { path, old_tid: Tid(10), argv: Vec::new(), argc: 0 };
    t.events.push(Event::Process(Process { t_ns: t.now, task: a, kind: exec }));
    for (name, ret) in [("/d/a", 1), ("/d/b", 3), ("/d/ccc", -22), ("/d/x", 1), ("/d/y", 1)] {
        let value = t.text(name.as_bytes());
        t.call(a, "readlink", [0; 6], ret).details.push(Detail::Str { arg: 0, value });
    }
    let environment = t.plan().environment;
    let target = |path: &str| {
        environment.files.iter().find(|f| f.path == path.as_bytes()).and_then(|f| match &f.kind {
            FileKind::Link { target } => Some([b"/d/", target.as_slice()].concat()),
            _ => None,
        })
    };
    for (link, len) in [("/d/a", 4), ("/d/b", 6), ("/d/x", 4), ("/d/y", 4)] {
        assert_eq!(target(link).map(|text| text.len()), Some(len), "{link} {environment:?}");
        // None leads back to where it began.
        let mut at = link.to_owned();
        for step in 0.. {
            let Some(next) = target(&at) else { break };
            assert!(step < 5, "{link} {environment:?}");
            at = String::from_utf8(next).unwrap();
        }
    }
    assert!(!environment.executables.is_empty());
}

#[test]
fn who_is_told_of_input_is_the_task_of_the_replay() {
    let mut t = Mem::new();
    let a = t.add_task(10, 10);
    let socket = t.add_object(Object::Pipe { ino: 7 });
    t.call(a, "fcntl", [0, 8, 10, 0, 0, 0], 0).object = Some(socket);
    let plan = t.plan();
    let steps = steps(&plan, 0);
    let own = steps.iter().find(|s| s.nr == named("fcntl") && s.args[1] == 8).unwrap();
    assert_eq!((own.sel[2], own.args[2], own.flags & flags::FAULT), (Sel::Pid as u8, 0, 0));
}

#[test]
fn dangerous_and_unknown_calls_are_refused_by_name() {
    let mut t = Mem::new();
    let a = t.add_task(10, 10);
    t.call(a, "mount", [0; 6], 0);
    t.call(a, "bpf", [0; 6], 3);
    t.call(a, "getuid", [0; 6], 0).sysno = Sysno { abi: Abi::X86_64, nr: 9999 };
    let plan = t.plan();
    let refused: Vec<_> = plan.summary.refused.keys().map(String::as_str).collect();
    assert_eq!(refused, ["bpf", "mount", "unknown call 9999"]);
    let steps = steps(&plan, 0);
    // None of them is carried out: the filter answers, or, where there is no such call here, nobody.
    let made = |s: &&ctrace_program::Step| s.flags & flags::REFUSED != 0 && s.kind == Kind::Call as u8;
    let answers: Vec<_> =
        steps.iter().filter(made).map(|s| (s.nr, s.expect, s.flags & flags::FAULT)).collect();
    assert_eq!(answers, [(named("mount"), 0, flags::FAULT), (named("bpf"), 3, flags::FAULT)]);
    assert_eq!(steps.iter().filter(|s| s.kind == Kind::Skip as u8).count(), 1);
}
