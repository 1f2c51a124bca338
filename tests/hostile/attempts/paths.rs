//! Names that lead out of the sandbox.

use super::Attempt;
use crate::bait::Bait;
use crate::story::{CWD, Story};
use ctrace_format::{ProcessSnapshot, Snapshot, Tgid, ThreadSnapshot, Tid};
use libc::{AT_EMPTY_PATH, O_CREAT, O_DIRECTORY, O_PATH, O_RDONLY, O_RDWR, O_TRUNC, O_WRONLY};
use std::os::unix::ffi::OsStrExt as _;

fn file(bait: &Bait) -> Vec<u8> {
    bait.file.as_os_str().as_bytes().to_vec()
}

/// The path behind a prefix.
fn behind(prefix: &str, bait: &Bait) -> Vec<u8> {
    [prefix.as_bytes(), &file(bait)].concat()
}

/// Opens, reads and overwrites.
fn overwrite(t: &mut Story, path: &[u8]) {
    let fd = t.open(path, O_RDONLY);
    t.call("read", [fd, 0, 100]).ret(20);
    let fd = t.open(path, O_WRONLY | O_TRUNC);
    t.call("write", [fd, 0, 100]).ret(100);
}

/// Every call that changes what a path names.
fn change(t: &mut Story, path: &[u8]) {
    t.call("truncate", [0, 1]).path(0, path);
    t.call("chmod", [0, 0o777]).path(0, path);
    t.call("fchmodat", [CWD, 0, 0o777]).path(1, path);
    t.call("chown", [0, 0, 0]).path(0, path);
    t.call("utimensat", [CWD, 0, 0, 0]).path(1, path);
    t.call("setxattr", [0, 0, 0, 1, 0]).path(0, path).path(1, "user.hostile");
    t.call("link", [0, 0]).path(0, path).path(1, [path, b"-link"].concat());
    t.call("rename", [0, 0]).path(0, path).path(1, [path, b"-moved"].concat());
    t.call("unlink", [0]).path(0, path);
    t.call("mkdir", [0, 0o777]).path(0, [path, b"-made"].concat());
    t.call("symlink", [0, 0]).path(0, "/etc/shadow").path(1, [path, b"-symlink"].concat());
    t.call("mknod", [0, i64::from(libc::S_IFIFO | 0o666), 0]).path(0, [path, b"-fifo"].concat());
}

pub(super) const ATTEMPTS: &[Attempt] = &[
    Attempt::new("open and overwrite a host file by its path", |t, b| overwrite(t, &file(b))),
    Attempt::new("open and overwrite a host file through ..", |t, b| {
        overwrite(t, &behind("/../../../../../../../..", b));
    }),
    Attempt::new("change a host file by every call that takes a path", |t, b| change(t, &file(b))),
    Attempt::new("change a host file through /proc/self/root", |t, b| {
        change(t, &behind("/proc/self/root", b));
    }),
    Attempt::new("open a host file through /proc/1/root and /proc/1/cwd", |t, b| {
        overwrite(t, &behind("/proc/1/root", b));
        overwrite(t, &behind("/proc/1/cwd/../../../../..", b));
    }),
    Attempt::new("open a host file through a host process's root and cwd", |t, b| {
        let pid = b.process;
        overwrite(t, &behind(&format!("/proc/{pid}/root"), b));
        overwrite(t, &behind(&format!("/proc/{pid}/cwd"), b));
        overwrite(t, format!("/proc/{pid}/mem").as_bytes());
        overwrite(t, format!("/proc/{pid}/oom_score_adj").as_bytes());
    }),
    Attempt::new("follow links of its own to the host", |t, b| {
        for (at, to) in
            [("/a", file(b)), ("/b", b"/proc/self/root".to_vec()), ("/tmp", b"/../../..".to_vec())]
        {
            t.call("symlink", [0, 0]).path(0, to).path(1, at);
        }
        overwrite(t, b"/a");
        overwrite(t, &behind("/b", b));
        change(t, &behind("/tmp", b));
    }),
    Attempt::new("follow links that the recording found, in a circle and out", |t, b| {
        for (at, to) in
            [("/x/a", b"/x/b".to_vec()), ("/x/b", b"/x/a".to_vec()), ("/x/c", behind("../../../..", b))]
        {
            t.call("readlink", [0, 0, 4096]).path(0, at).path(1, to.clone()).ret(to.len() as i64);
        }
        overwrite(t, b"/x/a/file");
        overwrite(t, b"/x/c");
    }),
    Attempt::new("start in a host directory by the snapshot's cwd and root", |t, b| {
        let dir = b.dir.as_os_str().as_bytes().to_vec();
        let process = ProcessSnapshot {
            tgid: Tgid(t.root.tid),
            parent: Tgid(1),
            cwd: [b"/../..".to_vec(), dir.clone()].concat(),
            root: dir,
            exe: file(b),
            threads: vec![ThreadSnapshot { tid: Tid(t.root.tid), ..ThreadSnapshot::default() }],
            ..ProcessSnapshot::default()
        };
        t.snapshot(&Snapshot { processes: vec![process] });
        overwrite(t, b"file");
        change(t, b"file");
    }),
    Attempt::new("keep the old directory and leave a chroot", |t, b| {
        let root = t.node("/", libc::S_IFDIR | 0o755, 0, 0);
        let fd = t.open_as("/", O_RDONLY | O_DIRECTORY, root);
        t.call("mkdir", [0, 0o755]).path(0, "/jail");
        t.call("chroot", [0]).path(0, "/jail");
        t.call("fchdir", [fd]);
        for _ in 0..16 {
            t.call("chdir", [0]).path(0, "..");
        }
        t.call("chroot", [0]).path(0, ".");
        overwrite(t, &file(b));
    }),
    Attempt::new("go up from every descriptor that may have been inherited", |t, b| {
        let up = behind("../../../../../../..", b);
        for fd in 0..80_i64 {
            let object = t.file("/", 0);
            t.call("openat", [fd, 0, i64::from(O_RDWR), 0]).path(1, &up).ret(200 + fd).on(object);
        }
    }),
    Attempt::new("link and write what was opened by O_PATH", |t, b| {
        let object = t.file(file(b), 10);
        let fd = t.open_as(file(b), O_PATH, object);
        t.call("linkat", [fd, 0, CWD, 0, i64::from(AT_EMPTY_PATH)]).path(1, "").path(3, "/stolen");
        let stolen = format!("/proc/self/fd/{fd}");
        overwrite(t, stolen.as_bytes());
        overwrite(t, b"/stolen");
    }),
    Attempt::new("open by handle", |t, b| {
        t.call("name_to_handle_at", [CWD, 0, 0, 0, 0]).path(1, file(b));
        let object = t.file(file(b), 10);
        let fd = t.fd();
        t.call("open_by_handle_at", [CWD, 0, i64::from(O_RDWR)]).ret(fd).on(object);
        t.call("write", [fd, 0, 100]).ret(100).on(object);
    }),
    Attempt::new("mount the host's file systems again", |t, b| {
        for (from, kind) in [
            ("/dev/vda", "ext4"),
            ("none", "devtmpfs"),
            ("none", "sysfs"),
            ("none", "proc"),
            ("none", "cgroup2"),
        ] {
            t.call("mkdir", [0, 0o755]).path(0, "/mnt");
            t.call("mount", [0, 0, 0, 0, 0]).path(0, from).path(1, "/mnt").path(2, kind);
            overwrite(t, &behind("/mnt", b));
        }
        t.call("pivot_root", [0, 0]).path(0, "/mnt").path(1, "/mnt");
        t.call("umount2", [0, 2]).path(0, "/");
        t.call("open_tree", [CWD, 0, 1]).path(1, "/").ret(50);
        t.call("move_mount", [50, 0, CWD, 0, 4]).path(1, "").path(3, "/mnt");
    }),
    Attempt::new("write the kernel's settings", |t, _| {
        for name in [
            "kernel/core_pattern",
            "kernel/modprobe",
            "kernel/panic",
            "kernel/hostname",
            "vm/swappiness",
            "kernel/sysrq",
        ] {
            overwrite(t, format!("/proc/sys/{name}").as_bytes());
        }
        overwrite(t, b"/proc/sysrq-trigger");
        overwrite(t, b"/proc/1/oom_score_adj");
        overwrite(t, b"/proc/self/oom_score_adj");
        overwrite(t, b"/proc/self/uid_map");
    }),
    Attempt::new("write to /sys and to the cgroups", |t, _| {
        for name in [
            "/sys/power/state",
            "/sys/kernel/uevent_helper",
            "/sys/kernel/mm/ksm/run",
            "/sys/fs/cgroup/cgroup.procs",
            "/sys/fs/cgroup/memory/release_agent",
            "/sys/fs/cgroup/pids/pids.max",
            "/sys/kernel/debug/tracing/tracing_on",
        ] {
            overwrite(t, name.as_bytes());
        }
    }),
    Attempt::new("execute host programs", |t, b| {
        for path in [b"/bin/sh".to_vec(), file(b), behind("/proc/1/root", b), b"/proc/self/exe".to_vec()] {
            let child = t.fork(t.root);
            let touch: &[&[u8]] = &[b"sh", b"-c", b"touch /tmp/hs-executed; kill -9 -1"];
            t.exec(child, &path, touch, 3);
            t.exit(child, 0);
        }
    }),
    Attempt::new("names with NUL, newlines, escapes and 4,096 bytes", |t, b| {
        let mut long = behind("", b);
        long.extend(std::iter::repeat_n(b'a', 4096));
        for name in
            [&b"/a\0/../../etc/shadow"[..], b"\n/etc/shadow\n", b"/\x1b]0;owned\x07\xff\xfe", &long, b""]
        {
            t.open(name, O_RDWR | O_CREAT);
            t.call("mkdir", [0, 0o777]).path(0, name);
            t.call("unlink", [0]).path(0, name);
        }
    }),
    Attempt::new("leave files in the directory for temporary files", |t, b| {
        let dir = b.dir.parent().map(|d| d.join("tmp/left")).unwrap_or_default();
        let fd = t.open(dir.as_os_str().as_bytes(), O_CREAT | O_RDWR);
        t.call("write", [fd, 0, 4096]).ret(4096);
        let object = t.file("/tmp", 0);
        t.open_as("/tmp", libc::O_TMPFILE | O_RDWR, object);
        t.open(b"/dev/shm/hs-left", O_CREAT | O_RDWR);
        t.open(b.shm_file.as_os_str().as_bytes(), O_RDWR | O_TRUNC);
    }),
];
