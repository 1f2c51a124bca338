//! Device nodes: of the host's, times, modes, locks and contents may not change.

use super::Attempt;
use crate::story::{CWD, Story};
use libc::{LOCK_EX, LOCK_NB, O_RDWR};

/// Nodes that nearly every workload has open, with their numbers (Documentation/admin-guide/devices.txt).
const NODES: [(&str, u32, u32); 6] = [
    ("/dev/null", 1, 3),
    ("/dev/zero", 1, 5),
    ("/dev/full", 1, 7),
    ("/dev/random", 1, 8),
    ("/dev/urandom", 1, 9),
    ("/dev/tty", 5, 0),
];
/// Nodes that no workload needs.
const FORBIDDEN: [(&str, u32, u32); 9] = [
    ("/dev/mem", 1, 1),
    ("/dev/port", 1, 4),
    ("/dev/kmsg", 1, 11),
    ("/dev/console", 5, 1),
    ("/dev/tty0", 4, 0),
    ("/dev/net/tun", 10, 200),
    ("/dev/fuse", 10, 229),
    ("/dev/kvm", 10, 232),
    ("/dev/loop-control", 10, 237),
];

/// Holds what it has for long enough to be seen.
fn linger(t: &mut Story) {
    t.call("nanosleep", [0, 0]).takes(300_000_000);
}

pub(super) const ATTEMPTS: &[Attempt] = &[
    Attempt::new("set the times of device nodes", |t, _| {
        for (path, major, minor) in NODES {
            let fd = t.open_device(path, major, minor);
            t.call("utimensat", [CWD, 0, 0, 0]).path(1, path);
            t.call("utimensat", [fd, 0, 0, 0]);
            t.call("utime", [0, 0]).path(0, path);
        }
    }),
    Attempt::new("change modes and owners of device nodes", |t, _| {
        for (path, major, minor) in NODES {
            let fd = t.open_device(path, major, minor);
            t.call("chmod", [0, 0]).path(0, path);
            t.call("fchmod", [fd, 0o777]);
            t.call("fchown", [fd, 0, 0]);
            t.call("chown", [0, 12, 12]).path(0, path);
            t.call("fsetxattr", [fd, 0, 0, 1, 0]).path(1, "user.hostile");
        }
    }),
    Attempt::new("lock device nodes", |t, _| {
        for (path, major, minor) in NODES {
            let fd = t.open_device(path, major, minor);
            t.call("flock", [fd, i64::from(LOCK_EX | LOCK_NB)]);
            t.call("fcntl", [fd, i64::from(libc::F_SETLK), 0]);
            t.call("fcntl", [fd, i64::from(libc::F_OFD_SETLK), 0]);
            t.call("fcntl", [fd, i64::from(libc::F_SETLEASE), i64::from(libc::F_WRLCK)]);
        }
        linger(t);
    }),
    Attempt::new("watch device nodes", |t, _| {
        let watcher = t.anon("inotify_init1", [0], "inotify");
        for (path, ..) in NODES {
            t.call("inotify_add_watch", [watcher, 0, 0xfff]).path(1, path).ret(1);
        }
        t.call("inotify_add_watch", [watcher, 0, 0xfff]).path(1, "/dev").ret(1);
        t.call("inotify_add_watch", [watcher, 0, 0xfff]).path(1, "/dev/pts").ret(1);
        linger(t);
        t.call("read", [watcher, 0, 4096]).ret(64);
    }),
    Attempt::new("replace and remove device nodes", |t, _| {
        for (path, ..) in NODES {
            t.call("truncate", [0, 0]).path(0, path);
            t.call("rename", [0, 0]).path(0, path).path(1, "/moved");
            t.call("unlink", [0]).path(0, path);
            t.call("symlink", [0, 0]).path(0, "/etc/shadow").path(1, path);
        }
    }),
    Attempt::new("make nodes of memory, kernel log and disks, and write to them", |t, _| {
        for (path, major, minor) in FORBIDDEN {
            let rdev = libc::makedev(major, minor) as i64;
            t.call("mknod", [0, i64::from(libc::S_IFCHR | 0o666), rdev]).path(0, path);
            let fd = t.open_device(path, major, minor);
            t.call("write", [fd, 0, 64]).ret(64);
        }
        for minor in 0..16 {
            let rdev = libc::makedev(254, minor);
            let path = format!("/disk{minor}");
            t.call("mknodat", [CWD, 0, i64::from(libc::S_IFBLK | 0o666), rdev as i64]).path(1, &path);
            let node = t.node(&path, libc::S_IFBLK | 0o666, rdev, 1 << 30);
            let fd = t.open_as(&path, O_RDWR, node);
            t.call("write", [fd, 0, 512]).ret(512);
            t.call("ioctl", [fd, 0x1260, 0]);
        }
    }),
    Attempt::new("speak to the terminal it was started from", |t, _| {
        let tty = t.open_device("/dev/tty", 5, 0);
        for fd in [0, 1, 2, tty] {
            t.call("write", [fd, 0, 20]).ret(20);
            for command in [
                libc::TIOCSTI,
                libc::TIOCSCTTY,
                libc::TIOCNOTTY,
                libc::TIOCSPGRP,
                libc::TIOCLINUX,
                libc::TIOCSWINSZ,
                libc::TCSETS,
            ] {
                t.call("ioctl", [fd, command as i64, 0]).value(2, u64::from(b'x'));
            }
            t.call("ioctl", [fd, libc::TIOCCONS as i64, 0]);
        }
        t.call("vhangup", []);
    }),
    Attempt::new("take all pseudo terminals", |t, _| {
        for _ in 0..600 {
            t.open_device("/dev/ptmx", 5, 2);
        }
        linger(t);
    })
    .demanding(),
    Attempt::new("drain the pool of random numbers and fill /dev/full", |t, _| {
        for (path, minor) in [("/dev/random", 8), ("/dev/full", 7), ("/dev/zero", 5)] {
            let fd = t.open_device(path, 1, minor);
            t.call("write", [fd, 0, 1 << 20]).ret(1 << 20).times(16);
            t.call("read", [fd, 0, 1 << 20]).ret(1 << 20).times(16);
            t.call("ioctl", [fd, 0x5206, 0]);
        }
    }),
];
