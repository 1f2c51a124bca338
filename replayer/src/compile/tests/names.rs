//! Names: what was there at the start, and what the workload's own renames and links make of them.

use super::*;

const CREATED: u64 = 0o102;
const DIRECTORY: u64 = 0o200_000;

/// A call whose only argument of weight is a path.
fn about(t: &mut Mem, task: TaskId, name: &str, path: &[u8], ret: i64) {
    let value = t.text(path);
    t.call(task, name, [0; 6], ret).details.push(Detail::Str { arg: 0, value });
}

/// A call about two paths.
fn between(t: &mut Mem, task: TaskId, name: &str, from: &[u8], to: &[u8]) {
    let (from, to) = (t.text(from), t.text(to));
    let call = t.call(task, name, [0; 6], 0);
    call.details.extend([Detail::Str { arg: 0, value: from }, Detail::Str { arg: 1, value: to }]);
}

fn directory(t: &mut Mem, path: &[u8]) -> ObjectId {
    let path = t.text(path);
    t.add_object(Object::File { path, dev: 1, ino: 1, mode: 0o040_755, rdev: 0, size: 4096 })
}

/// Paths that are there when the replay begins.
fn there(plan: &Plan) -> Vec<&str> {
    plan.environment.files.iter().map(|file| std::str::from_utf8(&file.path).unwrap()).collect()
}

#[test]
fn what_was_made_under_another_name_was_not_there() {
    let mut t = Mem::new();
    let a = t.add_task(10, 10);
    about(&mut t, a, "mkdir", b"/w/d", 0);
    let made = t.file(b"/w/d/x", 0);
    t.open(a, b"/w/d/x", CREATED, 3, Some(made));
    if let Some(Event::Syscall(call)) = t.events.last_mut() {
        call.details.push(Detail::Created);
    }
    between(&mut t, a, "rename", b"/w/d", b"/w/e");
    between(&mut t, a, "symlink", b"e", b"/w/f");
    let found = directory(&mut t, b"/w/e");
    t.open(a, b"/w/f/", DIRECTORY, 4, Some(found));
    about(&mut t, a, "lstat", b"/w/f/x", 0);
    about(&mut t, a, "mkdir", b"/w/f/sub", 0);
    between(&mut t, a, "rename", b"/w/e", b"/w/g");
    about(&mut t, a, "mkdir", b"/w/g/sub/sub", 0);
    about(&mut t, a, "unlink", b"/w/g/x", 0);
    about(&mut t, a, "rmdir", b"/w/g", 0);
    let plan = t.plan();
    assert_eq!(there(&plan), ["/w"]);
    assert_eq!(plan.summary.emulated.len(), 0, "{:?}", plan.summary);
}

#[test]
fn what_was_in_a_directory_at_the_start_was_there_under_its_name_then() {
    let mut t = Mem::new();
    let a = t.add_task(10, 10);
    about(&mut t, a, "lstat", b"/w/d", 0);
    between(&mut t, a, "rename", b"/w/d", b"/w/e");
    let old = t.file(b"/w/e/old", 7);
    t.open(a, b"/w/e/old", 0, 3, Some(old));
    let paths = t.plan();
    let there = there(&paths);
    assert!(there.contains(&"/w/d/old") && !there.iter().any(|path| path.starts_with("/w/e")), "{there:?}");
}

#[test]
fn a_working_directory_goes_where_its_directory_goes() {
    let mut t = Mem::new();
    let a = t.add_task(10, 10);
    about(&mut t, a, "mkdir", b"/w/d", 0);
    about(&mut t, a, "chdir", b"/w/d", 0);
    let dir = directory(&mut t, b"/w/d");
    t.open(a, b"/w/d", DIRECTORY, 3, Some(dir));
    between(&mut t, a, "rename", b"/w/d", b"/w/e");
    about(&mut t, a, "mkdir", b"sub", 0);
    // By the descriptor of the directory, which has another name by now.
    let value = t.text(b"sub");
    t.call(a, "newfstatat", [3, 0, 0, 0, 0, 0], 0).details.push(Detail::Str { arg: 1, value });
    about(&mut t, a, "rmdir", b"/w/e/sub", 0);
    assert_eq!(there(&t.plan()), ["/w"]);
}

#[test]
fn where_a_process_began_is_told_by_one_that_never_went_elsewhere() {
    let mut t = Mem::new();
    let (a, b) = (t.add_task(10, 10), t.add_task(11, 11));
    t.fork(a, b);
    t.call(a, "clone", [17, 0, 0, 0, 0, 0], 11);
    // Whoever has gone elsewhere tells nothing.
    about(&mut t, a, "chdir", b"/usr/share", 0);
    let other = t.file(b"/usr/share/x", 3);
    t.open(a, b"x", 0, 3, Some(other));
    about(&mut t, b, "mkdir", b"one", 0);
    let made = t.file(b"/w/one/y", 3);
    t.open(b, b"one/y", CREATED, 3, Some(made));
    let value = t.text(b"/w/one");
    t.call(b, "rmdir", [0; 6], 0).details.push(Detail::Str { arg: 0, value });
    let plan = t.plan();
    assert_eq!(plan.environment.cwd, b"/w");
    assert!(!there(&plan).iter().any(|path| path.contains("one")), "{:?}", there(&plan));
}

#[test]
fn what_is_above_an_absent_name_is_a_directory() {
    let mut t = Mem::new();
    let a = t.add_task(10, 10);
    about(&mut t, a, "access", b"/usr/share/tool", 0);
    t.open(a, b"/usr/share/tool/auto/load", 0, -2, None);
    let plan = t.plan();
    let tool = plan.environment.files.iter().find(|file| file.path == b"/usr/share/tool").unwrap();
    assert!(matches!(tool.kind, FileKind::Directory { .. }), "{tool:?}");
}

#[test]
fn what_may_be_executed_can_be() {
    const X_OK: u64 = 1;
    let mut t = Mem::new();
    let a = t.add_task(10, 10);
    let value = t.text(b"/usr/sbin/tool");
    t.call(a, "access", [0, X_OK, 0, 0, 0, 0], 0).details.push(Detail::Str { arg: 0, value });
    // A task that may not search the directory is refused, whatever is there.
    about(&mut t, a, "execve", b"/root/bin/tool", -13);
    let plan = t.plan();
    let mode = |path: &[u8]| plan.environment.files.iter().find(|f| f.path == path).map(|f| f.mode);
    assert_eq!(mode(b"/usr/sbin/tool"), Some(0o755));
    assert_eq!(mode(b"/root/bin/tool"), None);
}

#[test]
fn a_file_that_somebody_else_made_has_its_size_and_its_directory() {
    let mut t = Mem::new();
    let a = t.add_task(10, 10);
    about(&mut t, a, "mkdir", b"/w/d", 0);
    let theirs = t.file(b"/w/d/sub/x", 100);
    t.open(a, b"/w/d/sub/x", 0, 3, Some(theirs));
    let plan = t.plan();
    assert_eq!(there(&plan), ["/w"]);
    let engine: Vec<u32> =
        steps(&plan, 0).iter().filter(|s| s.flags & flags::ENGINE != 0).map(|s| s.nr).collect();
    assert_eq!(engine, [named("mkdirat"), named("mknodat"), named("truncate")]);
}

#[test]
fn a_process_that_is_gone_is_answered_as_that() {
    let mut t = Mem::new();
    let a = t.add_task(10, 10);
    t.open(a, b"/proc/2/environ", 0, -3, None);
    let steps = steps(&t.plan(), 0);
    let open = steps.iter().find(|s| s.nr == named("openat")).unwrap();
    assert_eq!((open.flags & flags::FAULT, open.expect), (flags::FAULT, -3));
}

#[test]
fn a_name_that_cannot_be_made_in_proc_is_not_made() {
    let mut t = Mem::new();
    let a = t.add_task(10, 10);
    about(&mut t, a, "mkdir", b"/proc/x", -2);
    about(&mut t, a, "mkdir", b"/nowhere/x", -2);
    let steps = steps(&t.plan(), 0);
    let emulated: Vec<bool> =
        steps.iter().filter(|s| s.nr == named("mkdir")).map(|s| s.flags & flags::FAULT != 0).collect();
    assert_eq!(emulated, [true, false]);
}

#[test]
fn a_socket_that_somebody_had_bound_is_there() {
    const SOCKET: u32 = 0o140_777;
    let mut t = Mem::new();
    let a = t.add_task(10, 10);
    let value = t.text(b"/run/s");
    let call = t.call(a, "lstat", [0; 6], 0);
    call.details.push(Detail::Str { arg: 0, value });
    call.details.push(Detail::Stat { arg: 1, mode: SOCKET, size: 0, ino: 1 });
    let plan = t.plan();
    let socket = plan.environment.files.iter().find(|file| file.path == b"/run/s");
    assert!(socket.is_some_and(|file| file.kind == FileKind::Socket), "{:?}", plan.environment.files);
}

#[test]
fn a_device_that_no_sandbox_has_is_read_as_it_was() {
    let mut t = Mem::new();
    let a = t.add_task(10, 10);
    for (path, minor, fd) in [(&b"/dev/kmsg"[..], 11, 3), (b"/dev/zero", 5, 4)] {
        let name = t.text(path);
        let device =
            Object::File { path: name, dev: 1, ino: 1, mode: 0o020_644, rdev: 1 << 8 | minor, size: 0 };
        let device = t.add_object(device);
        t.open(a, path, 0, fd, Some(device));
        t.call(a, "read", [fd as u64, 0, 100, 0, 0, 0], 72);
    }
    let steps = steps(&t.plan(), 0);
    let emulated: Vec<bool> = steps
        .iter()
        .filter(|s| s.kind == Kind::Call as u8 && s.nr == named("read"))
        .map(|s| s.flags & flags::FAULT != 0)
        .collect();
    assert_eq!(emulated, [true, false]);
}

/// Links that are made when the replay begins, and where they lead.
fn links(plan: &Plan) -> Vec<(&str, &str)> {
    let text = |bytes| std::str::from_utf8(bytes).unwrap();
    plan.environment
        .files
        .iter()
        .filter_map(|file| match &file.kind {
            FileKind::Link { target } => Some((text(file.path.as_slice()), text(target.as_slice()))),
            _ => None,
        })
        .collect()
}

#[test]
fn a_relative_path_tells_of_links_once_it_is_known_where_the_recording_began() {
    let mut t = Mem::new();
    let a = t.add_task(10, 10);
    let plain = t.file(b"/w/plain", 1);
    t.open(a, b"plain", 0, 3, Some(plain));
    about(&mut t, a, "access", b"t/e", 0);
    let there = directory(&mut t, b"/w/t/a");
    t.open(a, b"t/l", DIRECTORY, 4, Some(there));
    // Whatever the workload makes of the name later.
    about(&mut t, a, "unlink", b"t/l", 0);
    about(&mut t, a, "mkdir", b"t/l", 0);
    let own = directory(&mut t, b"/w/t/l/own");
    about(&mut t, a, "mkdir", b"t/l/own", 0);
    t.open(a, b"t/l/own", DIRECTORY, 5, Some(own));
    assert_eq!(links(&t.plan()), [("/w/t/l", "a")]);
}

#[test]
fn a_link_in_a_directory_that_got_another_name_is_where_it_was_at_the_start() {
    let mut t = Mem::new();
    let a = t.add_task(10, 10);
    between(&mut t, a, "rename", b"/w/d", b"/w/e");
    let there = directory(&mut t, b"/w/e/x");
    t.open(a, b"/w/e/l", DIRECTORY, 3, Some(there));
    let plan = t.plan();
    assert_eq!(links(&plan), [("/w/d/l", "x")]);
    assert!(!there_is(&plan, "/w/e"));
}

fn there_is(plan: &Plan, name: &str) -> bool {
    there(plan).iter().any(|path| path.starts_with(name))
}

#[test]
fn a_relative_name_of_a_program_is_below_the_working_directory() {
    let mut t = Mem::new();
    let a = t.add_task(10, 10);
    about(&mut t, a, "chdir", b"/w", 0);
    let script = t.file(b"/w/run", 49);
    let path = t.text(b"./run");
    let kind = ProcessKind::Exec { path, old_tid: Tid(10), argv: Vec::new(), argc: 0 };
    t.events.push(Event::Process(Process { t_ns: t.now, task: a, kind }));
    t.open(a, b"/w/run", 0, 3, Some(script));
    let plan = t.plan();
    assert_eq!(plan.environment.executables, [b"/w/run".to_vec()]);
    assert_eq!(plan.environment.executable_sizes.get(&b"/w/run"[..]).map(|size| size.bytes), Some(49));
}

#[test]
fn a_link_whose_text_is_not_known_fills_no_directory_of_the_workloads() {
    let mut t = Mem::new();
    let a = t.add_task(10, 10);
    about(&mut t, a, "readlink", b"/w/d/l", 7);
    about(&mut t, a, "unlink", b"/w/d/l", 0);
    about(&mut t, a, "rmdir", b"/w/d", 0);
    let plan = t.plan();
    assert_eq!(links(&plan), [("/w/d/l", "/xxxxxx")]);
    assert_eq!(there(&plan), ["/w/d", "/w/d/l", "/xxxxxx"]);
}

/// `readlink`, which found a text of this length.
fn read_link(t: &mut Mem, task: TaskId, path: &[u8], len: i64) {
    about(t, task, "readlink", path, len);
}

#[test]
fn one_path_through_a_link_tells_where_it_leads_before_it_is_known_where_the_recording_began() {
    let mut t = Mem::new();
    let a = t.add_task(10, 10);
    let (first, second) = (t.file(b"/w/rel.1/v", 2), t.file(b"/w/rel.2/v", 2));
    t.open(a, b"current/v", 0, 3, Some(first));
    read_link(&mut t, a, b"current", 5);
    about(&mut t, a, "unlink", b"current", 0);
    between(&mut t, a, "symlink", b"rel.2", b"current");
    t.open(a, b"current/v", 0, 4, Some(second));
    t.open(a, b"rel.2/v", 0, 5, Some(second));
    let plan = t.plan();
    assert_eq!(links(&plan), [("/w/current", "rel.1")]);
    assert_eq!(there(&plan), ["/w", "/w/current", "/w/rel.1/v", "/w/rel.2/v"]);
}

#[test]
fn a_link_is_followed_where_its_directory_went() {
    let mut t = Mem::new();
    let a = t.add_task(10, 10);
    read_link(&mut t, a, b"/w/d/l", 2);
    let there_first = t.file(b"/w/d/xx/f", 2);
    t.open(a, b"/w/d/l/f", 0, 3, Some(there_first));
    between(&mut t, a, "rename", b"/w/d", b"/w/e");
    let new = t.file(b"/w/e/xx/g", 2);
    t.open(a, b"/w/e/l/g", 0, 4, Some(new));
    // The copy of the link is none that was there.
    about(&mut t, a, "mkdir", b"/w/d", 0);
    between(&mut t, a, "symlink", b"xx", b"/w/d/l");
    let plan = t.plan();
    assert_eq!(links(&plan), [("/w/d/l", "xx")]);
    assert_eq!(there(&plan), ["/w", "/w/d", "/w/d/l", "/w/d/xx/f", "/w/d/xx/g"]);
}

#[test]
fn a_link_that_leads_nowhere_is_neither_a_file_nor_a_directory() {
    let mut t = Mem::new();
    let a = t.add_task(10, 10);
    t.open(a, b"/w/l/f", 0, -2, None);
    about(&mut t, a, "unlink", b"/w/l", 0);
    assert_eq!(links(&t.plan()), [("/w/l", "/nowhere")]);
}

#[test]
fn a_program_is_there_under_its_name_at_the_start() {
    let mut t = Mem::new();
    let a = t.add_task(10, 10);
    between(&mut t, a, "rename", b"/w/d", b"/w/e");
    about(&mut t, a, "execve", b"/w/e/run", 0);
    let path = t.text(b"/w/e/run");
    let kind = ProcessKind::Exec { path, old_tid: Tid(10), argv: Vec::new(), argc: 0 };
    t.events.push(Event::Process(Process { t_ns: t.now, task: a, kind }));
    assert_eq!(t.plan().environment.executables, [b"/w/d/run".to_vec()]);
}

/// A call about one path, from `t_ns` on for so long.
fn at(t: &mut Mem, task: TaskId, name: &str, path: &[u8], ret: i64, (t_ns, duration_ns): (u64, u64)) {
    about(t, task, name, path, ret);
    if let Some(Event::Syscall(call)) = t.events.last_mut() {
        (call.t_ns, call.duration_ns) = (t_ns, duration_ns);
    }
}

/// The program of a task: its calls by name, and for whom each of them waits.
fn waits(plan: &Plan, task: u32) -> Vec<(u32, Vec<Wait>)> {
    let program = Program::open(plan.program.try_clone().unwrap()).unwrap();
    let of = |i| {
        let step = program.step(task, i).unwrap();
        (step.nr, program.waits(&step).unwrap())
    };
    (0..program.tasks[task as usize].steps).map(of).collect()
}

/// Two processes.
fn two(t: &mut Mem) -> (TaskId, TaskId) {
    let (a, b) = (t.add_task(10, 10), t.add_task(11, 11));
    t.fork(a, b);
    t.call(a, "clone", [17, 0, 0, 0, 0, 0], 11);
    (a, b)
}

#[test]
fn a_directory_that_another_finds_before_its_maker_returns_was_not_there() {
    let mut t = Mem::new();
    let (a, b) = two(&mut t);
    at(&mut t, a, "mkdir", b"/w/d", 0, (10_000, 9_000));
    at(&mut t, b, "mkdir", b"/w/d", -17, (12_000, 1_000));
    at(&mut t, b, "chdir", b"/w/d", 0, (14_000, 1_000));
    let plan = t.plan();
    assert_eq!(there(&plan), ["/w"]);
    let mkdir = waits(&plan, 1).into_iter().find(|(nr, _)| *nr == named("mkdir")).unwrap();
    let made = waits(&plan, 0).iter().position(|(nr, _)| *nr == named("mkdir")).unwrap();
    assert_eq!(mkdir.1, [Wait::completed(0, made as u32)]);
    assert_eq!((plan.summary.emulated.len(), plan.summary.cut.len()), (0, 0));
}

#[test]
fn a_directory_is_made_anew_after_who_removes_it_and_returns_later() {
    let mut t = Mem::new();
    let (a, b) = two(&mut t);
    at(&mut t, a, "mkdir", b"/w/d", 0, (10_000, 1_000));
    at(&mut t, a, "rmdir", b"/w/d", 0, (12_000, 9_000));
    // A directory above may be the one that is missing.
    at(&mut t, b, "mkdir", b"/w/d/e", -2, (13_000, 1_000));
    at(&mut t, b, "mkdir", b"/w/d", 0, (15_000, 1_000));
    at(&mut t, b, "mkdir", b"/w/d/e", 0, (17_000, 1_000));
    let plan = t.plan();
    assert_eq!(there(&plan), ["/w"]);
    let calls = waits(&plan, 1);
    let first = calls.iter().find(|(nr, _)| *nr == named("mkdir")).unwrap();
    let removed = waits(&plan, 0).iter().position(|(nr, _)| *nr == named("rmdir")).unwrap();
    assert_eq!(first.1, [Wait::completed(0, removed as u32)]);
    let unmade = waits(&plan, 0).into_iter().find(|(nr, _)| *nr == named("rmdir")).unwrap();
    assert_eq!((unmade.1.len(), plan.summary.emulated.len(), plan.summary.cut.len()), (0, 0, 0));
}

#[test]
fn in_a_directory_that_was_removed_nothing_has_a_name() {
    let mut t = Mem::new();
    let (a, b) = two(&mut t);
    about(&mut t, a, "mkdir", b"/w/d", 0);
    about(&mut t, a, "chdir", b"/w/d", 0);
    about(&mut t, b, "rmdir", b"/w/d", 0);
    about(&mut t, b, "mkdir", b"/w/d", 0);
    about(&mut t, b, "mkdir", b"/w/d/e", 0);
    about(&mut t, a, "lstat", b"e", -2);
    about(&mut t, a, "lstat", b"f", -2);
    about(&mut t, b, "mkdir", b"/w/d/f", 0);
    let plan = t.plan();
    assert_eq!(there(&plan), ["/w"]);
    assert!(plan.summary.emulated.is_empty(), "{:?}", plan.summary.emulated);
    // Nobody waits for who looked in the other directory.
    let last = waits(&plan, 1).pop().unwrap();
    assert_eq!(last, (named("mkdir"), Vec::new()));
}

/// The place of the only call of a name in the program of a task.
fn place(plan: &Plan, task: u32, name: &str) -> u32 {
    waits(plan, task).iter().position(|(nr, _)| *nr == named(name)).unwrap() as u32
}

/// The waits of the last call of this name in the program of a task.
fn waited_for(plan: &Plan, task: u32, name: &str) -> Vec<Wait> {
    waits(plan, task).into_iter().rfind(|(nr, _)| *nr == named(name)).unwrap().1
}

#[test]
fn a_directory_goes_after_who_found_it_there_while_that_was_under_way() {
    let mut t = Mem::new();
    let (a, b) = two(&mut t);
    at(&mut t, a, "mkdir", b"/w/d", 0, (10_000, 1_000));
    at(&mut t, a, "rmdir", b"/w/d", 0, (12_000, 9_000));
    at(&mut t, b, "access", b"/w/d", 0, (14_000, 1_000));
    let plan = t.plan();
    assert_eq!(waited_for(&plan, 0, "rmdir"), [Wait::completed(1, place(&plan, 1, "access"))]);
}

#[test]
fn who_misses_a_name_in_a_directory_comes_after_its_removal_however_late_that_began() {
    let mut t = Mem::new();
    let (a, b) = two(&mut t);
    at(&mut t, a, "mkdir", b"/w/d", 0, (10_000, 1_000));
    at(&mut t, b, "chdir", b"/w/d", 0, (12_000, 1_000));
    at(&mut t, b, "mkdir", b"e", -2, (14_000, 9_000));
    at(&mut t, a, "rmdir", b"/w/d", 0, (16_000, 1_000));
    let plan = t.plan();
    assert_eq!(waited_for(&plan, 1, "mkdir"), [Wait::completed(0, place(&plan, 0, "rmdir"))]);
    assert!(plan.summary.cut.is_empty() && there(&plan) == ["/w"]);
}

#[test]
fn a_listing_comes_after_the_changes_that_its_length_tells_of() {
    let mut t = Mem::new();
    let (a, b) = two(&mut t);
    at(&mut t, a, "mkdir", b"/w/d", 0, (10_000, 1_000));
    at(&mut t, a, "mkdir", b"/w/d/e", 0, (12_000, 1_000));
    let dir = directory(&mut t, b"/w/d");
    t.now = 14_000;
    t.open(b, b"/w/d", DIRECTORY, 3, Some(dir));
    // Nothing is left but the directory itself and the one above; then a name of one byte is there again.
    for (t_ns, bytes) in [(16_000, 48), (30_000, 72)] {
        let call = t.call(b, "getdents64", [3, 0, 32_768, 0, 0, 0], bytes);
        (call.t_ns, call.duration_ns, call.object) = (t_ns, 9_000, Some(dir));
    }
    at(&mut t, a, "rmdir", b"/w/d/e", 0, (18_000, 1_000));
    at(&mut t, a, "mkdir", b"/w/d/f", 0, (26_000, 1_000));
    at(&mut t, a, "mkdir", b"/w/d/g", 0, (32_000, 9_000));
    let plan = t.plan();
    let listings: Vec<_> = waits(&plan, 1).into_iter().filter(|(nr, _)| *nr == named("getdents64")).collect();
    assert_eq!(listings[0].1, [Wait::completed(0, place(&plan, 0, "rmdir"))]);
    let second = waits(&plan, 1).iter().rposition(|(nr, _)| *nr == named("getdents64")).unwrap() as u32;
    assert_eq!(waited_for(&plan, 0, "mkdir"), [Wait::completed(1, second)]);
}

#[test]
fn a_socket_loses_its_name_after_who_connected_by_it() {
    let mut t = Mem::new();
    let (a, b) = two(&mut t);
    let socket = |cookie| Object::Socket {
        family: 1,
        kind: 1,
        protocol: 0,
        cookie: SockCookie(cookie),
        local: None,
        peer: None,
    };
    let addr = SockAddr::Unix(b"/run/s".to_vec());
    for (task, cookie, name) in [(a, 1, "bind"), (b, 2, "connect")] {
        let object = t.add_object(socket(cookie));
        t.call(task, "socket", [1, 1, 0, 0, 0, 0], 3).object = Some(object);
        let call = t.call(task, name, [3, 0, 110, 0, 0, 0], 0);
        call.object = Some(object);
        call.details.push(Detail::Addr { arg: 1, addr: addr.clone() });
        if name == "bind" {
            t.call(a, "listen", [3, 9, 0, 0, 0, 0], 0).object = Some(object);
        }
    }
    about(&mut t, a, "unlink", b"/run/s", 0);
    let plan = t.plan();
    assert_eq!(waited_for(&plan, 0, "unlink"), [Wait::completed(1, place(&plan, 1, "connect"))]);
}

#[test]
fn a_directory_is_not_empty_after_who_fills_it_while_it_is_to_be_removed() {
    let mut t = Mem::new();
    let (a, b) = two(&mut t);
    at(&mut t, a, "mkdir", b"/w/d", 0, (10_000, 1_000));
    at(&mut t, a, "rmdir", b"/w/d", -39, (12_000, 9_000));
    at(&mut t, b, "mkdir", b"/w/d/e", 0, (14_000, 1_000));
    let plan = t.plan();
    assert_eq!(waited_for(&plan, 0, "rmdir"), [Wait::completed(1, place(&plan, 1, "mkdir"))]);
}
