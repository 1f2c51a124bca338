//! Root directories: where the absolute paths of a process begin.

use super::*;

fn about(t: &mut Mem, task: TaskId, name: &str, path: &[u8]) {
    let value = t.text(path);
    t.call(task, name, [0; 6], 0).details.push(Detail::Str { arg: 0, value });
}

fn there(plan: &Plan) -> Vec<&str> {
    plan.environment.files.iter().map(|file| std::str::from_utf8(&file.path).unwrap()).collect()
}

#[test]
fn a_path_is_looked_for_from_the_root_directory_of_who_names_it() {
    let mut t = Mem::new();
    let (a, child) = (t.add_task(10, 10), t.add_task(11, 11));
    about(&mut t, a, "lstat", b"/etc/before");
    t.fork(a, child);
    t.call(a, "clone", [17, 0, 0, 0, 0, 0], 11);
    about(&mut t, child, "chroot", b"/srv/jail");
    about(&mut t, child, "chdir", b"/etc");
    about(&mut t, child, "lstat", b"../../lib/x");
    about(&mut t, a, "lstat", b"/etc/after");
    let plan = t.plan();
    let there = there(&plan);
    for path in ["/etc/before", "/etc/after", "/srv/jail/etc", "/srv/jail/lib/x"] {
        assert!(there.contains(&path), "{path}: {there:?}");
    }
    assert!(!there.iter().any(|path| path.starts_with("/lib")), "{there:?}");
    assert_eq!(plan.environment.roots.iter().collect::<Vec<_>>(), [b"/srv/jail"]);
    let steps = steps(&plan, 1);
    let chroot = steps.iter().find(|s| s.nr == named("chroot")).unwrap();
    assert_eq!((chroot.kind, chroot.flags & flags::FAULT), (Kind::Call as u8, 0));
}

#[test]
fn a_program_is_executed_in_the_root_directory() {
    let mut t = Mem::new();
    let a = t.add_task(10, 10);
    about(&mut t, a, "chroot", b"/srv/jail");
    let path = t.text(b"/bin/tool");
    let (t_ns, task) = (t.now, a);
    t.now += 1_000;
    t.events.push(Event::Process(Process {
        t_ns,
        task,
        kind: ProcessKind::Exec { old_tid: Tid(10), path, argv: Vec::new(), argc: 0 },
    }));
    t.call(a, "execve", [0; 6], 0).details.push(Detail::Str { arg: 0, value: path });
    assert_eq!(t.plan().environment.executables, [b"/srv/jail/bin/tool"]);
}

#[test]
fn the_name_of_a_socket_is_looked_for_from_the_root_directory() {
    let mut t = Mem::new();
    let (a, child) = (t.add_task(10, 10), t.add_task(11, 11));
    let name = |path: &[u8]| Detail::Addr { arg: 1, addr: SockAddr::Unix(path.to_vec()) };
    t.call(a, "socket", [1, 1, 0, 0, 0, 0], 3);
    t.call(a, "bind", [3, 0, 20, 0, 0, 0], 0).details.push(name(b"/srv/jail/run/s"));
    t.call(a, "listen", [3, 8, 0, 0, 0, 0], 0);
    t.fork(a, child);
    t.call(a, "clone", [17, 0, 0, 0, 0, 0], 11);
    about(&mut t, child, "chroot", b"/srv/jail");
    t.call(child, "socket", [1, 1, 0, 0, 0, 0], 4);
    t.call(child, "connect", [4, 0, 20, 0, 0, 0], 0).details.push(name(b"/run/s"));
    t.call(a, "accept4", [3, 0, 0, 0, 0, 0], 4);
    let plan = t.plan();
    // Both are inside: nobody else plays either end.
    assert_eq!((plan.summary.peers_served, plan.summary.peer_tasks), (0, 0), "{:?}", plan.summary);
}
