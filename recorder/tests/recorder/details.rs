//! Decoded arguments and results.

use crate::support::{Recorded, calls, record};
use ctrace_format::{Detail, Object, SockAddr, Syscall, SyscallFlags};

fn only(calls: &[Syscall], pick: impl Fn(&&Syscall) -> bool) -> &Syscall {
    let found: Vec<&Syscall> = calls.iter().filter(pick).collect();
    assert_eq!(found.len(), 1, "{found:?}");
    found[0]
}

fn details() -> Option<(Recorded, String)> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_str().unwrap().to_owned();
    Some((record(&[calls().as_os_str(), "details".as_ref(), path.as_ref()])?, path))
}

/// Few bytes wait in the task's slot for the end of the call, many go ahead, and both limits lie in between.
#[test]
fn copies_of_every_size_arrive_whole() {
    let Some(r) = record(&[calls().as_os_str(), "sizes".as_ref()]) else { return };
    let asked = [r.named("access"), r.named("faccessat")].concat();
    let names = asked.iter().filter_map(|c| {
        c.details
            .iter()
            .find_map(|d| if let Detail::Str { value, .. } = d { Some(r.text(*value)) } else { None })
    });
    let lengths: Vec<usize> = names.filter(|n| n.bytes().all(|b| b == b'x')).map(|n| n.len()).collect();
    assert_eq!(lengths, (1..=600).collect::<Vec<_>>());
    let selects = [r.named("select"), r.named("pselect6")].concat();
    let select = only(&selects, |c| c.args[0] == 1001);
    let polled = select
        .details
        .iter()
        .find_map(|d| if let Detail::Poll { entries, .. } = d { Some(entries) } else { None });
    let polled: Vec<_> = polled.unwrap().iter().map(|e| (e.events, e.revents)).collect();
    assert_eq!((polled, select.ret), (vec![(4, 4); 2], 2));
    assert!([asked, selects].concat().iter().all(|c| !c.flags.contains(SyscallFlags::TRUNCATED)));
}

/// The kernel tells how long an address is, and writes no more of it than there is room for.
#[test]
fn what_is_behind_the_room_for_an_address_is_not_the_address() {
    let folder = tempfile::tempdir().unwrap();
    let Some(r) = record(&[calls().as_os_str(), "room".as_ref(), folder.path().as_os_str()]) else { return };
    let call = &r.named("getsockname")[0];
    let told = call.details.iter().find_map(|d| match d {
        Detail::Addr { addr: SockAddr::Unix(path), .. } => Some(path.clone()),
        _ => None,
    });
    let name = folder.path().as_os_str().as_encoded_bytes();
    assert_eq!(told.as_deref(), Some(&name[..10]), "{call:?}");
}

#[test]
fn what_is_behind_pointers_and_descriptors_is_decoded() {
    let Some((r, folder)) = details() else { return };
    let path = format!("{folder}/file");
    let opens = [r.named("open"), r.named("openat")].concat();
    let open = only(&opens, |c| c.details.contains(&Detail::Created));
    let Object::File { path: found, mode, .. } = r.trace.object(open.object.unwrap()) else {
        panic!("no file")
    };
    assert_eq!((r.text(*found), mode & 0o7777), (path.clone(), 0o640 & !umask()));
    let writev = &r.named("writev")[0];
    assert_eq!((writev.ret, writev.object), (7, open.object));
    assert!(writev.details.contains(&Detail::Iov { arg: 1, bytes: 7, count: 2 }));

    let pipe = &r.named("pipe2")[0];
    let Some(Detail::NewFds { fds, objects, .. }) = pipe.details.first() else { panic!("{pipe:?}") };
    assert!(matches!(r.trace.object(objects[0].unwrap()), Object::Pipe { .. }));
    assert_eq!(objects[0], objects[1]);
    let pair = &r.named("socketpair")[0];
    let Some(Detail::NewFds { fds: pair_fds, objects: ends, .. }) = pair.details.first() else { panic!() };
    assert!(matches!(r.trace.object(ends[0].unwrap()), Object::Socket { family: 1, .. }));
    assert_ne!(ends[0], ends[1]);

    let ppoll = r.named("ppoll").into_iter().find(|c| c.args[1] == 1).unwrap();
    assert!(ppoll.details.contains(&Detail::Time { arg: 2, ns: 3_000_000_005 }));
    let Some(Detail::Poll { entries, .. }) = ppoll.details.first() else { panic!("{ppoll:?}") };
    assert_eq!((entries[0].fd, entries[0].events, entries[0].revents), (fds[1], 4, 4));

    let ctl = &r.named("epoll_ctl")[0];
    assert!(
        ctl.details
            .iter()
            .any(|d| matches!(d, Detail::Object { arg: 2, object } if Some(*object) == ends[0]))
    );
    assert!(
        ctl.details.iter().any(|d| matches!(d, Detail::Epoll { entries, .. } if entries[0].data == 0xfeed))
    );
    assert_eq!(ctl.args[2] as i32, pair_fds[0]);
    let wait = &r.named("epoll_wait")[0];
    assert_eq!(wait.ret, 1);
    let Some(Detail::Epoll { entries, .. }) = wait.details.first() else { panic!("{wait:?}") };
    assert_eq!((entries[0].data, entries[0].events), (0xfeed, 4));
    let Object::Anon { kind, .. } = r.trace.object(wait.object.unwrap()) else { panic!() };
    assert_eq!(r.text(*kind), "eventpoll");

    let selects = [r.named("select"), r.named("pselect6")].concat();
    let Some(Detail::Poll { entries, .. }) = selects[0].details.first() else { panic!("{:?}", selects[0]) };
    assert_eq!((entries[0].fd, entries[0].events, entries[0].revents), (fds[1], 4, 4));

    let ignored = r.named("rt_sigaction").into_iter().any(|c| {
        c.args[0] == 10 && c.details.iter().any(|d| matches!(d, Detail::SigAction { handler: 1, .. }))
    });
    assert!(ignored);
    let unlinks = [r.named("unlink"), r.named("unlinkat")].concat();
    assert!(
        unlinks
            .iter()
            .any(|c| matches!(c.details.first(), Some(Detail::Str { value, .. }) if r.text(*value) == path))
    );
    let close = r.named("close").into_iter().rev().find(|c| c.object == open.object);
    assert!(close.is_some());
}

fn umask() -> u32 {
    // SAFETY: no preconditions; set back at once.
    let mask = unsafe { libc::umask(0o022) };
    // SAFETY: as above.
    unsafe { libc::umask(mask) };
    mask
}

#[test]
fn paths_of_files_are_those_that_the_task_sees() {
    let Some(r) = record(&["cat", "/proc/self/comm", "/etc/../etc/hostname"]) else { return };
    let paths: Vec<String> = r
        .named("openat")
        .iter()
        .filter_map(|c| match r.trace.object(c.object?) {
            Object::File { path, .. } => Some(r.text(*path)),
            _ => None,
        })
        .collect();
    assert!(paths.contains(&"/etc/hostname".to_owned()), "{paths:?}");
    assert!(paths.iter().any(|p| p.starts_with("/proc/") && p.ends_with("/comm")), "{paths:?}");
}

/// A file that is opened over and over gets the same `struct file` back: its path is not looked up each time.
#[test]
fn a_file_that_moved_since_it_was_opened_has_its_new_path() {
    let folder = tempfile::tempdir().unwrap();
    let top = folder.path().to_str().unwrap();
    let script = "import os, sys
os.chdir(sys.argv[1])
os.mkdir('a'); open('a/f', 'w').write('text')
def look(path): os.close(os.open(path, os.O_RDONLY))
look('a/f'); look('a/f')
os.rename('a/f', 'a/g'); look('a/g')
os.rename('a', 'b'); look('b/g')
os.mkdir('c'); os.rename('b/g', 'c/g'); look('c/g'); look('c/g')";
    let Some(r) = record(&["python3", "-c", script, top]) else { return };
    let found: Vec<String> = r
        .named("openat")
        .iter()
        .filter(|c| c.args[2] & 3 == libc::O_RDONLY as u64)
        .filter_map(|c| match r.trace.object(c.object?) {
            Object::File { path, .. } => r.text(*path).strip_prefix(top).map(str::to_owned),
            _ => None,
        })
        .collect();
    assert_eq!(found, ["/a/f", "/a/f", "/a/g", "/b/g", "/c/g", "/c/g"]);
}

/// The kernel soon uses the memory of a file and of its inode again. A terminal that an `ioctl` opens is not what a call opens.
#[test]
fn a_terminal_in_the_place_of_a_pipe_is_a_terminal() {
    let script = "import os, time
for i in range(60):
    pipes = [os.pipe() for _ in range(8)]
    for r, w in pipes: os.write(w, b'x')
    for r, w in pipes: os.close(r); os.close(w)
    time.sleep(.03)
    terminals = [os.openpty() for _ in range(4)]
    for m, s in terminals: os.write(s, b'abc')
    for m, s in terminals: os.close(m); os.close(s)";
    let Some(r) = record(&["python3", "-S", "-c", script]) else { return };
    let written: Vec<String> = r
        .named("write")
        .iter()
        .filter(|c| c.args[2] == 3)
        .map(|c| match c.object.map(|object| r.trace.object(object)) {
            Some(Object::File { path, .. }) => r.text(*path),
            other => format!("{other:?}"),
        })
        .collect();
    assert_eq!(written.len(), 240);
    let others: Vec<&String> = written.iter().filter(|path| !path.starts_with("/dev/pts/")).collect();
    assert!(others.is_empty(), "{} of 240: {:?}", others.len(), others.first());
}
