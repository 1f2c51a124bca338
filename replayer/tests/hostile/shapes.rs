//! Attacks on one kind of cost each, of at most 100 KB.

use crate::make::Make;
use ctrace_format::{
    Connection, ConnectionKind, Detail, EpollEntry, Event, PollEntry, SockAddr, SockCookie, Syscall, TcpState,
};
use std::path::Path;

type Shape = fn(&Path);

/// By name.
pub(crate) const ALL: [(&str, Shape); 21] = [
    ("forks-with-a-large-table", forks),
    ("execs", execs),
    ("epoll-adds", epoll_adds),
    ("epoll-instances", epoll_instances),
    ("poll-sets", poll_sets),
    ("argument-lists", arguments),
    ("mappings-and-forks", mappings),
    ("futex-words", futex_words),
    ("long-paths", long_paths),
    ("deep-paths", deep_paths),
    ("accepted-connections", connections),
    ("numbers-of-descriptors", huge_numbers),
    ("signals", signals),
    ("parts", parts),
    ("renames", renames),
    ("a-bomb", bomb),
    ("bytes-to-a-peer", peer_bytes),
    ("names-of-tasks", task_names),
    ("a-chain-of-forks", chain),
    ("siblings-that-are-waited-for", siblings),
    ("failures-of-all-kinds", failures),
];

fn forks(path: &Path) {
    let mut m = Make::new(path);
    let root = m.task(1, 1);
    let file = m.file(b"/f", 3);
    for fd in 3..20_000 {
        m.on(root, "openat", [0; 6], fd, file);
    }
    for tid in 2..6000 {
        let child = m.fork(root, tid);
        m.call(child, "close", [7, 0, 0, 0, 0, 0], 0, vec![]);
        m.call(child, "close_range", [10, u64::from(u32::MAX), 0, 0, 0, 0], 0, vec![]);
        m.exit(child);
    }
    m.finish();
}

fn execs(path: &Path) {
    let mut m = Make::new(path);
    let root = m.task(1, 1);
    let file = m.file(b"/f", 3);
    for fd in 3..5000 {
        m.on(root, "openat", [0; 6], fd, file);
    }
    let name = m.path(0, b"/bin/x");
    for _ in 0..200_000 {
        m.call(root, "execve", [0; 6], 0, name.clone());
    }
    m.finish();
}

fn epoll_adds(path: &Path) {
    let mut m = Make::new(path);
    let root = m.task(1, 1);
    m.call(root, "epoll_create1", [0; 6], 3, vec![]);
    for fd in 4..40_000_u64 {
        m.call(root, "eventfd2", [0; 6], fd as i64, vec![]);
        let entries = vec![EpollEntry { data: fd, events: 1 | 1 << 31 }];
        m.call(root, "epoll_ctl", [3, 1, fd, 0, 0, 0], 0, vec![Detail::Epoll { arg: 3, entries }]);
    }
    for _ in 0..100_000 {
        let entries = vec![EpollEntry { data: 9, events: 1 }];
        m.call(root, "epoll_wait", [3, 0, 16, 0, 0, 0], 1, vec![Detail::Epoll { arg: 1, entries }]);
    }
    m.finish();
}

fn epoll_instances(path: &Path) {
    let mut m = Make::new(path);
    let root = m.task(1, 1);
    m.call(root, "eventfd2", [0; 6], 3, vec![]);
    for ep in 4..20_000_u64 {
        m.call(root, "epoll_create1", [0; 6], ep as i64, vec![]);
        let entries = vec![EpollEntry { data: 3, events: 1 }];
        m.call(root, "epoll_ctl", [ep, 1, 3, 0, 0, 0], 0, vec![Detail::Epoll { arg: 3, entries }]);
        m.call(root, "epoll_wait", [ep, 0, 16, 0, 0, 0], 0, vec![]);
    }
    for _ in 0..100_000 {
        m.call(root, "write", [3, 0, 8, 0, 0, 0], 8, vec![]);
    }
    m.finish();
}

fn poll_sets(path: &Path) {
    let mut m = Make::new(path);
    let root = m.task(1, 1);
    for n in 0..60_000 {
        let entries = (0..20).map(|fd| PollEntry { fd: fd + n % 5000, events: 1, revents: 0 }).collect();
        m.call(root, "poll", [0, 4096, 0, 0, 0, 0], 0, vec![Detail::Poll { arg: 0, entries }]);
    }
    m.finish();
}

fn arguments(path: &Path) {
    let mut m = Make::new(path);
    let root = m.task(1, 1);
    let words: Vec<_> = (0..64).map(|i| m.str(format!("word{i}").as_bytes())).collect();
    for n in 0..20_000_u32 {
        let mut details = m.path(0, b"/bin/x");
        let words = words[..(n % 64) as usize].to_vec();
        details.push(Detail::Argv { arg: 1, words, count: 4096 - n % 9 });
        m.call(root, "execve", [0; 6], 0, details);
    }
    m.finish();
}

fn mappings(path: &Path) {
    let mut m = Make::new(path);
    let root = m.task(1, 1);
    for n in 0..60_000_u64 {
        m.call(root, "mmap", [0, 4096, 3, 0x22, u64::MAX, 0], (0x7000_0000_0000 + n * 8192) as i64, vec![]);
    }
    for tid in 2..10_000 {
        let child = m.fork(root, tid);
        m.call(child, "munmap", [0x7000_0000_0000, 4096, 0, 0, 0, 0], 0, vec![]);
    }
    m.finish();
}

fn futex_words(path: &Path) {
    let mut m = Make::new(path);
    let root = m.task(1, 1);
    for n in 0..200_000_u64 {
        m.call(root, "futex", [n * 4, 1, 1, 0, 0, 0], 1, vec![]);
    }
    for _ in 0..200_000 {
        m.call(root, "futex", [8, 0, 0, 0, 0, 0], 0, vec![]);
    }
    m.finish();
}

fn long_paths(path: &Path) {
    let mut m = Make::new(path);
    let root = m.task(1, 1);
    let deep = m.path(0, "/long-name-of-a-directory".repeat(150).as_bytes());
    m.call(root, "chdir", [0; 6], 0, deep);
    for n in 0..40_000 {
        let name = m.path(0, format!("n{n}").as_bytes());
        m.call(root, "mkdir", [0; 6], 0, name);
    }
    m.finish();
}

fn deep_paths(path: &Path) {
    let mut m = Make::new(path);
    let root = m.task(1, 1);
    let file = m.file(b"/real/x", 3);
    for n in 0..4000 {
        let details = m.path(1, format!("/d{n}{}", "/a".repeat(2000)).as_bytes());
        let open = Syscall { object: Some(file), details, ..m.of(root, "openat", [0; 6], 3) };
        m.event(&Event::Syscall(open));
    }
    m.finish();
}

fn connections(path: &Path) {
    let mut m = Make::new(path);
    let root = m.task(1, 1);
    let at = |port: u16| SockAddr::Inet(format!("10.0.0.1:{port}").parse().unwrap());
    m.call(root, "socket", [2, 1, 0, 0, 0, 0], 3, vec![]);
    m.call(root, "bind", [3, 0, 16, 0, 0, 0], 0, vec![Detail::Addr { arg: 1, addr: at(80) }]);
    m.call(root, "listen", [3, 128, 0, 0, 0, 0], 0, vec![]);
    for n in 0..25_000_u64 {
        let socket = m.socket(100 + n, Some(at(80)), Some(at(n as u16)));
        m.on(root, "accept4", [3, 0, 0, 0, 0, 0], 4 + n as i64, socket);
        m.call(root, "read", [4 + n, 0, 100, 0, 0, 0], 100, vec![]);
    }
    for _ in 0..50_000 {
        let kind = ConnectionKind::State { old: TcpState::SynSent, new: TcpState::Established, error: 0 };
        let event = Connection {
            t_ns: m.t_ns,
            cookie: SockCookie(101),
            task: None,
            local: at(80),
            peer: at(1),
            kind,
        };
        m.event(&Event::Connection(event));
    }
    m.finish();
}

fn huge_numbers(path: &Path) {
    let mut m = Make::new(path);
    let root = m.task(1, 1);
    for n in 0..100_000 {
        m.call(root, "dup2", [0; 6], i64::from(i32::MAX) - n * 1000, vec![]);
        m.call(root, "dup3", [1, 0, 0, 0, 0, 0], i64::MAX - n, vec![]);
        m.call(root, "eventfd2", [0; 6], n * 20_000, vec![]);
    }
    m.call(root, "close_range", [0, u64::MAX, 4, 0, 0, 0], 0, vec![]);
    m.finish();
}

fn signals(path: &Path) {
    let mut m = Make::new(path);
    let root = m.task(1, 1);
    for signo in 0..100 {
        m.call(
            root,
            "rt_sigaction",
            [signo, 0, 0, 8, 0, 0],
            0,
            vec![Detail::SigAction { arg: 1, handler: 2, flags: 0, mask: 0 }],
        );
    }
    for tid in 2..7000_u32 {
        let child = m.fork(root, tid);
        m.call(child, "kill", [1, 10, 0, 0, 0, 0], 0, vec![]);
        m.call(root, "kill", [u64::from(tid), 10, 0, 0, 0, 0], 0, vec![]);
    }
    m.finish();
}

fn parts(path: &Path) {
    let mut m = Make::new(path);
    let root = m.task(1, 1);
    m.call(root, "pipe2", [0; 6], 0, vec![Detail::NewFds { arg: 0, fds: [3, 4], objects: [None, None] }]);
    for n in 0..100_000_u64 {
        let iov = vec![Detail::Iov { arg: 1, bytes: n % 3000, count: 1024 }];
        m.call(root, "writev", [4, 0, 1024, 0, 0, 0], (n % 3000) as i64, iov);
    }
    m.finish();
}

fn renames(path: &Path) {
    let mut m = Make::new(path);
    let root = m.task(1, 1);
    for n in 0..20_000 {
        let mut details = m.path(0, format!("/t/{n}").as_bytes());
        details.extend(m.path(1, format!("/t/{}", n + 1).as_bytes()));
        m.call(root, "rename", [0; 6], 0, details);
        let details = m.path(0, format!("/t/{n}/x").as_bytes());
        m.call(root, "readlink", [0; 6], 4000, details);
    }
    m.finish();
}

fn bomb(path: &Path) {
    let mut m = Make::new(path);
    let root = m.task(1, 1);
    for _ in 0..6_000_000 {
        m.call(root, "getppid", [0; 6], 1, vec![]);
    }
    m.finish();
}

fn peer_bytes(path: &Path) {
    let mut m = Make::new(path);
    let root = m.task(1, 1);
    let addr = SockAddr::Inet("10.0.0.9:80".parse().unwrap());
    m.call(root, "socket", [2, 1, 0, 0, 0, 0], 3, vec![]);
    m.call(root, "connect", [3, 0, 16, 0, 0, 0], 0, vec![Detail::Addr { arg: 1, addr }]);
    for _ in 0..1000 {
        m.call(root, "sendto", [3, 0, 1 << 60, 0, 0, 0], 1 << 60, vec![]);
        m.call(root, "recvfrom", [3, 0, 1 << 60, 0, 0, 0], 1 << 60, vec![]);
    }
    m.finish();
}

fn task_names(path: &Path) {
    let mut m = Make::new(path);
    let root = m.task(1, 1);
    let long = "n".repeat(4000);
    for n in 0..20_000 {
        let comm = m.w.comm(format!("{long}{}", n % 10).as_bytes());
        let def = ctrace_format::TaskDef {
            tid: ctrace_format::Tid(2 + n),
            tgid: ctrace_format::Tgid(1),
            comm,
            start_ns: 0,
        };
        let task = m.w.task(&def);
        m.call(task, "prctl", [15, 0, 0, 0, 0, 0], 0, vec![]);
    }
    m.exit(root);
    m.finish();
}

fn chain(path: &Path) {
    let mut m = Make::new(path);
    let mut task = m.task(1, 1);
    for tid in 2..8000 {
        let child = m.fork(task, tid);
        m.call(child, "wait4", [u64::MAX, 0, 1, 0, 0, 0], 0, vec![]);
        task = child;
    }
    m.finish();
}

fn siblings(path: &Path) {
    let mut m = Make::new(path);
    let root = m.task(1, 1);
    let children: Vec<_> = (2..7000_u32).map(|tid| (m.fork(root, tid), tid)).collect();
    for (child, _) in &children {
        m.exit(*child);
    }
    for (_, tid) in children.iter().rev() {
        m.call(root, "wait4", [u64::from(*tid), 0, 0, 0, 0, 0], i64::from(*tid), vec![]);
    }
    m.finish();
}

fn failures(path: &Path) {
    let mut m = Make::new(path);
    let root = m.task(1, 1);
    for n in 0..100_000_u64 {
        m.t_ns += (n % 2) * 4_000_000_000;
        m.call(root, "ioctl", [n % 7, n, 0, 0, 0, 0], -5 - (n % 3) as i64, vec![]);
        m.call(root, "setsockopt", [3, n % 50_000, n, 0, 0, 0], (n % 2) as i64 * -12, vec![]);
    }
    m.finish();
}
