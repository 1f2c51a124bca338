//! Descriptors, limits, full file systems, and what the kernel was told behind pointers.

use super::*;

const CREATED: u64 = 0o102;

fn of<'a>(steps: &'a [Step], name: &str) -> Vec<&'a Step> {
    let nr = named(name);
    steps.iter().filter(|step| step.nr == nr && step.flags & flags::ENGINE == 0).collect()
}

fn is_emulated(step: &Step) -> bool {
    step.flags & flags::FAULT != 0
}

/// `struct rlimit64` of a limit of descriptors.
fn limit(t: &mut Mem, task: TaskId, soft: u64, hard: u64) {
    let data = [soft.to_le_bytes(), hard.to_le_bytes()].concat();
    t.call(task, "prlimit64", [0, 7, 0, 0, 0, 0], 0).details.push(Detail::Bytes { arg: 2, data });
}

/// Makes a file, which is open as `fd`.
fn make(t: &mut Mem, task: TaskId, path: &[u8], fd: i64) {
    let file = t.file(path, 0);
    t.open(task, path, CREATED, fd, Some(file));
    if let Some(Event::Syscall(call)) = t.events.last_mut() {
        call.details.push(Detail::Created);
    }
}

#[test]
fn a_descriptor_is_refused_by_the_limit_where_the_limit_is_met() {
    let mut t = Mem::new();
    let a = t.add_task(10, 10);
    limit(&mut t, a, 5, 64);
    for fd in 0..5 {
        t.call(a, "epoll_create1", [0; 6], fd);
    }
    t.call(a, "epoll_create1", [0; 6], -24);
    t.call(a, "close", [3, 0, 0, 0, 0, 0], 0);
    // One is left, where two are needed.
    t.call(a, "pipe2", [0; 6], -24);
    // By another limit than that of descriptors.
    t.call(a, "epoll_create1", [0; 6], -24);
    let plan = t.plan();
    let steps = steps(&plan, 0);
    let set = of(&steps, "prlimit64")[0];
    // The hard limit stays, so that the soft one can be raised again.
    assert_eq!((set.sel[2], set.args[2]), (Sel::SoftLimit as u8, ctrace_program::soft_limit(7, 5)));
    let made = of(&steps, "epoll_create1");
    assert_eq!([made[4], made[5], made[6]].map(is_emulated), [false, false, true]);
    assert!(!is_emulated(of(&steps, "pipe2")[0]));
}

#[test]
fn a_limit_that_nobody_set_is_told_by_the_first_refusal() {
    let mut t = Mem::new();
    let a = t.add_task(10, 10);
    for fd in 0..7 {
        t.call(a, "eventfd2", [0; 6], fd);
    }
    t.call(a, "eventfd2", [0; 6], -24);
    let steps = steps(&t.plan(), 0);
    let gate = steps.iter().position(|step| step.kind == Kind::Gate as u8).unwrap();
    let set = steps[..gate].iter().find(|step| step.nr == named("prlimit64")).unwrap();
    assert_eq!(set.args[2], ctrace_program::soft_limit(7, 7));
    assert!(!is_emulated(of(&steps, "eventfd2")[7]));
}

#[test]
fn a_table_of_descriptors_of_ones_own_is_that() {
    // CLONE_VM, CLONE_FILES, SIGCHLD.
    const SHARED: u64 = 0x100 | 0x400 | 0x11;
    const UNSHARE: u64 = 2;
    for own in [false, true] {
        let mut t = Mem::new();
        let (a, b) = (t.add_task(10, 10), t.add_task(11, 11));
        make(&mut t, a, b"/tmp/x", 3);
        t.fork(a, b);
        t.call(a, "clone", [SHARED, 0, 0, 0, 0, 0], 11);
        if own {
            t.call(b, "unshare", [0x400, 0, 0, 0, 0, 0], 0);
        }
        t.call(b, "close_range", [3, 3, if own { 0 } else { UNSHARE }, 0, 0, 0], 0);
        t.call(a, "write", [3, 0, 5, 0, 0, 0], 5);
        let plan = t.plan();
        let steps = steps(&plan, 0);
        // It is known as the file that it is.
        assert_eq!((of(&steps, "write")[0].kind, of(&steps, "write")[0].expect), (Kind::Call as u8, 5));
        assert_eq!(plan.summary.missing.len(), 0, "{:?}", plan.summary);
    }
}

#[test]
fn namespaces_are_answered_and_tables_unshared() {
    let mut t = Mem::new();
    let a = t.add_task(10, 10);
    t.call(a, "unshare", [0x400 | 0x200, 0, 0, 0, 0, 0], 0);
    t.call(a, "unshare", [0x2_0000, 0, 0, 0, 0, 0], 0);
    t.call(a, "mount", [0; 6], 0);
    let plan = t.plan();
    let steps = steps(&plan, 0);
    let unshared = of(&steps, "unshare");
    assert_eq!([unshared[0], unshared[1]].map(is_emulated), [false, true]);
    assert_eq!((is_emulated(of(&steps, "mount")[0]), of(&steps, "mount")[0].expect), (true, 0));
    let refused: Vec<_> = plan.summary.refused.keys().map(String::as_str).collect();
    assert_eq!(refused, ["mount", "unshare"]);
}

#[test]
fn who_finds_a_descriptor_closed_comes_after_who_closed_it() {
    let mut t = Mem::new();
    let (a, b) = (t.add_task(10, 10), t.add_task(11, 10));
    t.call(a, "eventfd2", [0; 6], 3);
    t.fork(a, b);
    t.call(a, "clone", [0x5_0f00, 0, 0, 0, 0, 0], 11);
    t.call(b, "close", [3, 0, 0, 0, 0, 0], 0);
    t.call(a, "close", [3, 0, 0, 0, 0, 0], -9);
    t.call(b, "eventfd2", [0; 6], 3);
    let plan = t.plan();
    let program = Program::open(plan.program.try_clone().unwrap()).unwrap();
    let waits_of = |task: u32, name: &str, nth: usize| {
        let step = of(&steps(&plan, task), name)[nth].to_owned();
        program.waits(&step).unwrap().into_iter().map(|wait| wait.task).collect::<Vec<_>>()
    };
    assert_eq!(waits_of(0, "close", 0), [1]);
    // And the number is not given out before.
    assert_eq!(waits_of(1, "eventfd2", 0), [0]);
}

#[test]
fn a_file_system_is_as_full_as_it_was() {
    let mut t = Mem::new();
    let a = t.add_task(10, 10);
    make(&mut t, a, b"/srv/log/a", 3);
    t.call(a, "write", [3, 0, 8192, 0, 0, 0], 8192);
    t.call(a, "write", [3, 0, 4096, 0, 0, 0], -28);
    t.call(a, "ftruncate", [3, 0, 0, 0, 0, 0], 0);
    // Somebody else had filled it.
    t.call(a, "pwrite64", [3, 0, 4096, 0, 0, 0], -28);
    let plan = t.plan();
    let volumes: Vec<_> = plan.environment.volumes.iter().map(|v| (v.path.as_slice(), v.bytes)).collect();
    assert_eq!(volumes, [(&b"/srv/log"[..], 8192)]);
    let steps = steps(&plan, 0);
    assert!(!is_emulated(of(&steps, "write")[1]));
    assert!(is_emulated(of(&steps, "pwrite64")[0]));
}

#[test]
fn an_eventfd_is_given_what_is_taken_from_it() {
    const SEMAPHORE: u64 = 1;
    let mut t = Mem::new();
    let a = t.add_task(10, 10);
    t.call(a, "eventfd2", [1, SEMAPHORE, 0, 0, 0, 0], 3);
    t.call(a, "write", [3, 0, 8, 0, 0, 0], 8);
    for _ in 0..4 {
        t.call(a, "read", [3, 0, 8, 0, 0, 0], 8);
    }
    t.call(a, "write", [3, 0, 8, 0, 0, 0], 8);
    t.call(a, "read", [3, 0, 8, 0, 0, 0], 8);
    let plan = t.plan();
    let program = Program::open(plan.program.try_clone().unwrap()).unwrap();
    let steps = steps(&plan, 0);
    let added = of(&steps, "write").into_iter().map(|step| program.blob(step.args[1]).unwrap());
    let added: Vec<u64> = added.map(|bytes| u64::from_ne_bytes(bytes.try_into().unwrap())).collect();
    assert_eq!(added, [3, 1]);
}

#[test]
fn an_epoll_instance_takes_no_plain_file_and_still_reports_it() {
    let mut t = Mem::new();
    let a = t.add_task(10, 10);
    let mounts = t.file(b"/proc/self/mounts", 0);
    t.open(a, b"/proc/self/mounts", 0, 3, Some(mounts));
    t.call(a, "epoll_create1", [0; 6], 4);
    let entries = vec![EpollEntry { data: 3, events: 1 }];
    t.call(a, "epoll_ctl", [4, 1, 3, 0, 0, 0], 0)
        .details
        .push(Detail::Epoll { arg: 3, entries: entries.clone() });
    t.call(a, "epoll_wait", [4, 0, 8, u64::MAX, 0, 0], 1).details.push(Detail::Epoll { arg: 1, entries });
    let steps = steps(&t.plan(), 0);
    assert!(is_emulated(of(&steps, "epoll_ctl")[0]));
    let wait = steps.iter().position(|step| step.nr == named("epoll_wait")).unwrap();
    let around: Vec<u32> = [wait - 2, wait - 1, wait + 1].map(|at| steps[at].nr).into();
    assert_eq!(around, ["eventfd2", "epoll_ctl", "close"].map(named));
    assert!([wait - 2, wait - 1, wait + 1].iter().all(|at| steps[*at].flags & flags::ENGINE != 0));
}

#[test]
fn a_terminal_is_written_the_lines_that_were_read_from_it() {
    let mut t = Mem::new();
    let a = t.add_task(10, 10);
    let device = |t: &mut Mem, path: &[u8], rdev: u64| {
        let path = t.text(path);
        t.add_object(Object::File { path, dev: 5, ino: 2, mode: 0o020_620, rdev, size: 0 })
    };
    let (master, slave) = (device(&mut t, b"/dev/ptmx", 0x502), device(&mut t, b"/dev/pts/4", 0x8804));
    t.open(a, b"/dev/ptmx", 2, 3, Some(master));
    t.call(a, "ioctl", [3, 0x8004_5430, 0, 0, 0, 0], 0).details.push(Detail::Value { arg: 2, value: 4 });
    t.call(a, "ioctl", [3, 0x4004_5431, 0, 0, 0, 0], 0).details.push(Detail::Value { arg: 2, value: 0 });
    t.call(a, "ioctl", [3, 0x5441, 2, 0, 0, 0], 4);
    t.call(a, "write", [4, 0, 10, 0, 0, 0], 10).object = Some(slave);
    t.call(a, "read", [3, 0, 100, 0, 0, 0], 4).object = Some(master);
    t.call(a, "readv", [3, 0, 1, 0, 0, 0], 8).object = Some(master);
    let plan = t.plan();
    assert_eq!(plan.environment.terminals, [4]);
    let program = Program::open(plan.program.try_clone().unwrap()).unwrap();
    let steps = steps(&plan, 0);
    assert_eq!(program.blob(of(&steps, "write")[0].args[1]).unwrap(), b"xxxxxxxx\n\n");
    // All of it comes, in whatever parts.
    let reads = ["read", "readv"].map(|name| *of(&steps, name).last().unwrap());
    assert!(reads.iter().all(|read| read.flags & flags::STREAM != 0), "{reads:?}");
    let peer = of(&steps, "ioctl")[2];
    assert_eq!((peer.post, peer.post_arg), (Post::Fd as u8, 4));
}

#[test]
fn what_a_terminal_did_not_echo_is_written_while_it_does_not() {
    let mut t = Mem::new();
    let a = t.add_task(10, 10);
    let path = t.text(b"/dev/ptmx");
    let master = Object::File { path, dev: 5, ino: 2, mode: 0o020_620, rdev: 0x502, size: 0 };
    let master = t.add_object(master);
    t.open(a, b"/dev/ptmx", 2, 3, Some(master));
    t.call(a, "ioctl", [3, 0x8004_5430, 0, 0, 0, 0], 0).details.push(Detail::Value { arg: 2, value: 4 });
    t.call(a, "ioctl", [3, 0x4004_5431, 0, 0, 0, 0], 0).details.push(Detail::Value { arg: 2, value: 0 });
    for (bytes, echo) in [(5, 6), (2, 2), (1, 0), (1, 0), (3, 4)] {
        t.call(a, "write", [3, 0, bytes, 0, 0, 0], bytes as i64).object = Some(master);
        if echo > 0 {
            t.call(a, "read", [3, 0, 100, 0, 0, 0], echo).object = Some(master);
        }
    }
    // `TCSETS` of the engine: for how the terminal begins, for what it does not echo, for what it does.
    let steps = steps(&t.plan(), 0);
    let set = |step: &Step| step.nr == named("ioctl") && step.flags & flags::ENGINE != 0;
    let is_read = |step: &Step| step.nr == named("read") && step.kind == Kind::Call as u8;
    let at: Vec<char> = steps
        .iter()
        .filter_map(|step| match step.nr {
            _ if set(step) => Some('s'),
            _ if is_read(step) => Some('r'),
            nr if nr == named("write") => Some('w'),
            _ => None,
        })
        .collect();
    assert_eq!(at.iter().collect::<String>(), "swrwrswwswr");
}

/// `mkdir`, `rmdir`, `unlink` of a path.
fn change(t: &mut Mem, task: TaskId, name: &str, path: &[u8]) {
    let value = t.text(path);
    t.call(task, name, [0; 6], 0).details.push(Detail::Str { arg: 0, value });
}

#[test]
fn a_name_is_made_in_a_directory_that_is_there_and_a_directory_goes_when_it_is_empty() {
    let mut t = Mem::new();
    let (a, b) = (t.add_task(10, 10), t.add_task(11, 11));
    t.fork(a, b);
    t.call(a, "clone", [17, 0, 0, 0, 0, 0], 11);
    change(&mut t, a, "mkdir", b"/tmp/set");
    make(&mut t, b, b"/tmp/set/0", 3);
    change(&mut t, b, "unlink", b"/tmp/set/0");
    change(&mut t, a, "rmdir", b"/tmp/set");
    let plan = t.plan();
    let program = Program::open(plan.program.try_clone().unwrap()).unwrap();
    let at = |task: u32, name: &str| {
        let all = steps(&plan, task);
        let at =
            all.iter().rposition(|step| step.nr == named(name) && step.kind == Kind::Call as u8).unwrap();
        (at as u32, program.waits(&all[at]).unwrap())
    };
    let ((made, _), (opened, after)) = (at(0, "mkdir"), at(1, "openat"));
    assert_eq!(after, [Wait::completed(0, made)], "step {opened}");
    let ((removed, _), (_, after)) = (at(1, "unlink"), at(0, "rmdir"));
    assert_eq!(after, [Wait::completed(1, removed)]);
}

/// The last call of a task with this name: its place, and what it waits for.
fn last(plan: &Plan, task: u32, name: &str) -> (Wait, Vec<Wait>) {
    let program = Program::open(plan.program.try_clone().unwrap()).unwrap();
    let all = steps(plan, task);
    let at = all.iter().rposition(|step| step.nr == named(name) && step.kind == Kind::Call as u8).unwrap();
    (Wait::completed(task, at as u32), program.waits(&all[at]).unwrap())
}

#[test]
fn a_directory_is_made_after_a_name_below_it_was_found_absent() {
    let mut t = Mem::new();
    let (a, b) = (t.add_task(10, 10), t.add_task(11, 11));
    t.fork(a, b);
    t.call(a, "clone", [17, 0, 0, 0, 0, 0], 11);
    let value = t.text(b"/tmp/set/sub/0");
    t.call(b, "lstat", [0; 6], -2).details.push(Detail::Str { arg: 0, value });
    change(&mut t, a, "mkdir", b"/tmp/set");
    let plan = t.plan();
    let (found, _) = last(&plan, 1, "lstat");
    let (_, after) = last(&plan, 0, "mkdir");
    assert!(after.contains(&found), "{after:?}");
}

#[test]
fn who_finds_a_name_absent_while_another_makes_it_comes_before_that() {
    let mut t = Mem::new();
    let (a, b) = (t.add_task(10, 10), t.add_task(11, 11));
    t.fork(a, b);
    t.call(a, "clone", [17, 0, 0, 0, 0, 0], 11);
    t.now += 2_000;
    let value = t.text(b"/tmp/set/0");
    t.call(b, "mkdir", [0; 6], -2).details.push(Detail::Str { arg: 0, value });
    change(&mut t, a, "mkdir", b"/tmp/set");
    if let Some(Event::Syscall(call)) = t.events.last_mut() {
        // It was under way all the time.
        call.t_ns -= 3_000;
        call.duration_ns += 3_000;
    }
    let plan = t.plan();
    let ((absent, _), (_, after)) = (last(&plan, 1, "mkdir"), last(&plan, 0, "mkdir"));
    assert!(after.contains(&absent), "{after:?}");
}

#[test]
fn names_come_and_go_in_a_directory_before_and_after_it_is_listed() {
    const DIRECTORY: u64 = 0o200_000;
    let mut t = Mem::new();
    let (a, b) = (t.add_task(10, 10), t.add_task(11, 11));
    let path = t.text(b"/tmp/set");
    let set = t.add_object(Object::File { path, dev: 1, ino: 1, mode: 0o040_755, rdev: 0, size: 40 });
    t.fork(a, b);
    t.call(a, "clone", [17, 0, 0, 0, 0, 0], 11);
    t.open(b, b"/tmp/set", DIRECTORY, 3, Some(set));
    change(&mut t, a, "mkdir", b"/tmp/set/0");
    t.call(b, "getdents64", [3, 0, 4096, 0, 0, 0], 72);
    change(&mut t, a, "rmdir", b"/tmp/set/0");
    let plan = t.plan();
    let ((made, _), (removed, after)) = (last(&plan, 0, "mkdir"), last(&plan, 0, "rmdir"));
    let (listed, later) = last(&plan, 1, "getdents64");
    assert_eq!((later, after), (vec![made], vec![listed]), "{removed:?}");
}

#[test]
fn what_keeps_a_directory_from_being_removed_is_there_until_then() {
    let mut t = Mem::new();
    let (a, b) = (t.add_task(10, 10), t.add_task(11, 11));
    t.fork(a, b);
    t.call(a, "clone", [17, 0, 0, 0, 0, 0], 11);
    let value = t.text(b"/tmp/set");
    t.call(b, "rmdir", [0; 6], -39).details.push(Detail::Str { arg: 0, value });
    change(&mut t, a, "unlink", b"/tmp/set/0");
    let plan = t.plan();
    let (kept, _) = last(&plan, 1, "rmdir");
    let (_, after) = last(&plan, 0, "unlink");
    assert!(after.contains(&kept), "{after:?}");
}

#[test]
fn who_finds_a_name_gone_while_another_removes_it_comes_after_that() {
    let mut t = Mem::new();
    let (a, b) = (t.add_task(10, 10), t.add_task(11, 11));
    t.fork(a, b);
    t.call(a, "clone", [17, 0, 0, 0, 0, 0], 11);
    change(&mut t, a, "unlink", b"/tmp/0");
    let value = t.text(b"/tmp/0");
    t.call(b, "unlink", [0; 6], -2).details.push(Detail::Str { arg: 0, value });
    if let Some(Event::Syscall(call)) = t.events.last_mut() {
        // It began while the other was under way.
        call.t_ns -= 1_500;
        call.duration_ns += 1_500;
    }
    let plan = t.plan();
    let (removed, _) = last(&plan, 0, "unlink");
    let (_, after) = last(&plan, 1, "unlink");
    assert!(after.contains(&removed), "{after:?}");
}

#[test]
fn a_directory_has_no_more_entries_at_the_start_than_are_listed_less_those_made_since() {
    const DIRECTORY: u64 = 0o200_000;
    const NAMES: i64 = 48 + 2 * 32;
    let mut t = Mem::new();
    let a = t.add_task(10, 10);
    let path = t.text(b"/tmp/set");
    let set = t.add_object(Object::File { path, dev: 1, ino: 1, mode: 0o040_755, rdev: 0, size: 40 });
    t.open(a, b"/tmp/set", DIRECTORY, 3, Some(set));
    make(&mut t, a, b"/tmp/set/entry-made", 4);
    t.call(a, "getdents64", [3, 0, 4096, 0, 0, 0], NAMES);
    let plan = t.plan();
    let set = plan.environment.files.iter().find(|file| file.path == b"/tmp/set").unwrap();
    assert_eq!(set.kind, FileKind::Directory { entries: 1 });
}

#[test]
fn who_opens_a_fifo_for_writing_makes_no_name_that_its_reader_waits_for() {
    let mut t = Mem::new();
    let (a, b) = (t.add_task(10, 10), t.add_task(11, 11));
    let path = t.text(b"/tmp/p");
    let fifo = t.add_object(Object::File { path, dev: 1, ino: 1, mode: 0o010_644, rdev: 0, size: 0 });
    t.fork(a, b);
    t.call(a, "clone", [17, 0, 0, 0, 0, 0], 11);
    // O_WRONLY, O_CREAT, O_TRUNC, as a shell opens it.
    t.open(b, b"/tmp/p", 0o1101, 3, Some(fifo));
    t.open(a, b"/tmp/p", 0, 3, Some(fifo));
    if let Some(Event::Syscall(call)) = t.events.last_mut() {
        // It waited for the writer.
        call.t_ns -= 2_500;
        call.duration_ns += 2_500;
    }
    let plan = t.plan();
    assert_eq!(last(&plan, 0, "openat").1, []);
}

#[test]
fn who_reads_a_file_comes_after_who_emptied_it_while_opening_it() {
    let mut t = Mem::new();
    let (a, b) = (t.add_task(10, 10), t.add_task(11, 11));
    t.fork(a, b);
    t.call(a, "clone", [17, 0, 0, 0, 0, 0], 11);
    let file = t.file(b"/tmp/log", 9);
    t.open(b, b"/tmp/log", 0, 3, Some(file));
    t.call(b, "read", [3, 0, 9, 0, 0, 0], 9);
    t.open(a, b"/tmp/log", 0o1101, 3, Some(file));
    t.call(b, "pread64", [3, 0, 9, 0, 0, 0], 0);
    let plan = t.plan();
    let ((read, _), (emptied, after)) = (last(&plan, 1, "read"), last(&plan, 0, "openat"));
    assert_eq!(after, [read]);
    assert_eq!(last(&plan, 1, "pread64").1, [emptied]);
}

#[test]
fn who_opens_a_fifo_that_another_still_has_open_does_so_before_that_one_closes_it() {
    let mut t = Mem::new();
    let (a, b) = (t.add_task(10, 10), t.add_task(11, 11));
    let path = t.text(b"/tmp/p");
    let fifo = t.add_object(Object::File { path, dev: 1, ino: 1, mode: 0o010_644, rdev: 0, size: 0 });
    t.fork(a, b);
    t.call(a, "clone", [17, 0, 0, 0, 0, 0], 11);
    t.open(a, b"/tmp/p", 0, 3, Some(fifo));
    t.open(b, b"/tmp/p", 1, 3, Some(fifo));
    t.call(a, "close", [3, 0, 0, 0, 0, 0], 0);
    t.open(a, b"/tmp/p", 0, 3, Some(fifo));
    t.call(b, "close", [3, 0, 0, 0, 0, 0], 0);
    t.call(a, "read", [3, 0, 1, 0, 0, 0], 0);
    t.open(b, b"/tmp/p", 1, 3, Some(fifo));
    let plan = t.plan();
    let (opened, _) = last(&plan, 0, "openat");
    assert!(last(&plan, 1, "close").1.contains(&opened));
    // It was read to its end before somebody could write again.
    assert!(last(&plan, 1, "openat").1.contains(&last(&plan, 0, "read").0));
}

#[test]
fn a_file_without_a_name_is_read_from_its_beginning_when_it_is_opened_once_more() {
    let mut t = Mem::new();
    let a = t.add_task(10, 10);
    let file = t.file(b"/w/x", 0);
    t.open(a, b"/w/x", 0o102, 3, Some(file));
    if let Some(Event::Syscall(call)) = t.events.last_mut() {
        call.details.push(Detail::Created);
    }
    let value = t.text(b"/w/x");
    t.call(a, "unlink", [0; 6], 0).details.push(Detail::Str { arg: 0, value });
    t.call(a, "write", [3, 0, 6, 0, 0, 0], 6).object = Some(file);
    t.open(a, b"/proc/self/fd/3", 0, 4, Some(file));
    t.call(a, "read", [4, 0, 100, 0, 0, 0], 6).object = Some(file);
    t.call(a, "read", [4, 0, 100, 0, 0, 0], 0).object = Some(file);
    t.call(a, "write", [3, 0, 6, 0, 0, 0], 6).object = Some(file);
    let steps = steps(&t.plan(), 0);
    let seeks: Vec<(u64, u64)> =
        steps.iter().filter(|s| s.nr == named("lseek")).map(|s| (s.args[0], s.args[1])).collect();
    assert_eq!(seeks, [(4, 0), (4, 6), (3, 6)]);
}
