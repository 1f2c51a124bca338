//! The state of the scope at the start: what `/proc` says about its processes.

use crate::proc;
use crate::sockets;
use crate::unix_diag;
use ctrace_format::{
    FdSnapshot, FdTarget, MapSnapshot, ProcessSnapshot, Snapshot, Tgid, ThreadSnapshot, Tid,
};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

/// Reads the state of these processes. What disappears meanwhile is left out.
pub(crate) fn take(tgids: &[u32]) -> Snapshot {
    let peers = unix_diag::peers();
    let mut processes: Vec<ProcessSnapshot> =
        tgids.iter().filter_map(|tgid| process(*tgid, &peers)).collect();
    parents_first(&mut processes);
    Snapshot { processes }
}

/// Orders processes so that a parent in the list comes before its children.
fn parents_first(processes: &mut [ProcessSnapshot]) {
    let parents: BTreeMap<Tgid, Tgid> = processes.iter().map(|p| (p.tgid, p.parent)).collect();
    let depth = |mut tgid: Tgid| {
        let mut depth = 0;
        while let Some(parent) = parents.get(&tgid)
            && depth < parents.len()
        {
            depth += 1;
            tgid = *parent;
        }
        depth
    };
    processes.sort_by_key(|p| (depth(p.tgid), p.tgid));
}

fn link(path: impl AsRef<Path>) -> Vec<u8> {
    fs::read_link(path).map(|p| p.as_os_str().as_bytes().to_vec()).unwrap_or_default()
}

fn process(tgid: u32, peers: &BTreeMap<u64, u64>) -> Option<ProcessSnapshot> {
    let base = format!("/proc/{tgid}");
    let stat = proc::process_stat(tgid)?;
    let status = Status::read(&format!("{base}/status"));
    let mut argv: Vec<Vec<u8>> = fs::read(format!("{base}/cmdline"))
        .unwrap_or_default()
        .split(|b| *b == 0)
        .map(<[u8]>::to_vec)
        .collect();
    argv.pop();
    let mut threads: Vec<ThreadSnapshot> =
        proc::threads(tgid).into_iter().filter_map(|tid| thread(tgid, tid)).collect();
    threads.sort_by_key(|t| (t.tid != Tid(tgid), t.tid));
    Some(ProcessSnapshot {
        tgid: Tgid(tgid),
        parent: Tgid(stat.parent),
        ns_pids: status.list("NSpid").into_iter().skip(1).collect(),
        pgid: stat.pgid,
        sid: stat.sid,
        exe: link(format!("{base}/exe")),
        cwd: link(format!("{base}/cwd")),
        root: link(format!("{base}/root")),
        argv,
        threads,
        fds: fds(tgid, peers),
        maps: fs::read(format!("{base}/maps")).map(|t| maps(&t)).unwrap_or_default(),
        limits: fs::read_to_string(format!("{base}/limits")).map(|t| limits(&t)).unwrap_or_default(),
        sig_ignored: status.hex("SigIgn"),
        sig_caught: status.hex("SigCgt"),
        uid: status.list("Uid").get(1).copied().unwrap_or(0),
        gid: status.list("Gid").get(1).copied().unwrap_or(0),
        umask: u32::from_str_radix(status.get("Umask"), 8).unwrap_or(0),
    })
}

/// `/proc/…/status`.
struct Status(String);

impl Status {
    fn read(path: &str) -> Self {
        Self(fs::read_to_string(path).unwrap_or_default())
    }
    fn get(&self, name: &str) -> &str {
        self.0.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(':')).unwrap_or_default().trim()
    }
    fn list(&self, name: &str) -> Vec<u32> {
        self.get(name).split_ascii_whitespace().filter_map(|v| v.parse().ok()).collect()
    }
    fn hex(&self, name: &str) -> u64 {
        u64::from_str_radix(self.get(name), 16).unwrap_or(0)
    }
}

fn thread(tgid: u32, tid: u32) -> Option<ThreadSnapshot> {
    let base = format!("/proc/{tgid}/task/{tid}");
    let stat = proc::stat(tgid, tid)?;
    let syscall = fs::read_to_string(format!("{base}/syscall")).ok().and_then(|t| syscall(&t));
    Some(ThreadSnapshot {
        tid: Tid(tid),
        comm: stat.comm,
        sig_blocked: Status::read(&format!("{base}/status")).hex("SigBlk"),
        syscall,
    })
}

/// `/proc/TID/syscall`: `NR A0 … A5 SP PC`, or `running`, or `-1 SP PC`.
fn syscall(text: &str) -> Option<(u32, [u64; 6])> {
    let mut words = text.split_ascii_whitespace();
    let nr = words.next()?.parse::<u32>().ok()?;
    let mut args = [0; 6];
    for arg in &mut args {
        *arg = u64::from_str_radix(words.next()?.trim_start_matches("0x"), 16).ok()?;
    }
    Some((nr, args))
}

fn fds(tgid: u32, peers: &BTreeMap<u64, u64>) -> Vec<FdSnapshot> {
    let pidfd = sockets::PidFd::open(tgid);
    proc::numbers(&format!("/proc/{tgid}/fd"))
        .into_iter()
        .filter_map(|fd| {
            let info = fs::read_to_string(format!("/proc/{tgid}/fdinfo/{fd}")).ok()?;
            let field = |name: &str| {
                info.lines().find_map(|l| l.strip_prefix(name)).map(str::trim).unwrap_or_default()
            };
            Some(FdSnapshot {
                fd: fd as i32,
                flags: u32::from_str_radix(field("flags:"), 8).unwrap_or(0),
                offset: field("pos:").parse().unwrap_or(0),
                target: target(tgid, fd, &info, pidfd.as_ref(), peers),
            })
        })
        .collect()
}

/// The number in `name:[123]`.
fn bracketed(text: &str) -> u64 {
    text.split(['[', ']']).nth(1).and_then(|n| n.parse().ok()).unwrap_or(0)
}

fn target(
    tgid: u32,
    fd: u32,
    info: &str,
    pidfd: Option<&sockets::PidFd>,
    peers: &BTreeMap<u64, u64>,
) -> FdTarget {
    let path = format!("/proc/{tgid}/fd/{fd}");
    let name = link(&path);
    let text = String::from_utf8_lossy(&name);
    if text.starts_with("pipe:[") {
        return FdTarget::Pipe { ino: bracketed(&text) };
    }
    if text.starts_with("socket:[") {
        let ino = bracketed(&text);
        return sockets::describe(pidfd, fd as i32, ino, peers.get(&ino).copied().unwrap_or(0));
    }
    if let Some(kind) = text.strip_prefix("anon_inode:") {
        let kind = kind.trim_start_matches('[').trim_end_matches(']');
        if kind == "eventpoll" {
            return FdTarget::Epoll { watches: info.lines().filter_map(watch).collect() };
        }
        return FdTarget::Anon { kind: kind.as_bytes().to_vec(), info: info.as_bytes().to_vec() };
    }
    if text.starts_with("/memfd:") {
        let kind = text.trim_start_matches('/').trim_end_matches(" (deleted)");
        return FdTarget::Anon { kind: kind.as_bytes().to_vec(), info: info.as_bytes().to_vec() };
    }
    match fs::metadata(&path) {
        Ok(m) => FdTarget::File {
            path: name,
            mode: m.mode(),
            dev: m.dev(),
            ino: m.ino(),
            size: m.size(),
            rdev: m.rdev(),
        },
        Err(_) => FdTarget::File { path: name, mode: 0, dev: 0, ino: 0, size: 0, rdev: 0 },
    }
}

/// A line of an epoll descriptor's fdinfo: `tfd: 5 events: 19 data: 5 …`, the last two hexadecimal (fs/eventpoll.c).
fn watch(line: &str) -> Option<(i32, u32, u64)> {
    let mut words = line.strip_prefix("tfd:")?.split_ascii_whitespace();
    let fd = words.next()?.parse().ok()?;
    let (mut events, mut data) = (0, 0);
    while let Some(word) = words.next() {
        match word {
            "events:" => events = u32::from_str_radix(words.next()?, 16).ok()?,
            "data:" => data = u64::from_str_radix(words.next()?, 16).ok()?,
            _ => {}
        }
    }
    Some((fd, events, data))
}

/// `/proc/PID/maps`.
fn maps(text: &[u8]) -> Vec<MapSnapshot> {
    text.split(|b| *b == b'\n').filter_map(map).collect()
}

fn map(line: &[u8]) -> Option<MapSnapshot> {
    let mut fields = line.splitn(6, |b| *b == b' ');
    let mut next = || std::str::from_utf8(fields.next()?).ok();
    let (from, to) = next()?.split_once('-')?;
    let start = u64::from_str_radix(from, 16).ok()?;
    let end = u64::from_str_radix(to, 16).ok()?;
    let flags = next()?.as_bytes();
    let offset = u64::from_str_radix(next()?, 16).ok()?;
    let _device = next()?;
    let _inode = next()?;
    let bit = |i: usize, c: u8, value: u8| if flags.get(i) == Some(&c) { value } else { 0 };
    Some(MapSnapshot {
        start,
        len: end.checked_sub(start)?,
        prot: bit(0, b'r', 1) | bit(1, b'w', 2) | bit(2, b'x', 4) | bit(3, b's', 8),
        offset,
        path: fields.next().map(|p| p.trim_ascii_start().to_vec()).unwrap_or_default(),
    })
}

/// `/proc/PID/limits`: names contain spaces, values are in columns of two.
fn limits(text: &str) -> BTreeMap<String, (u64, u64)> {
    let value = |v: &str| if v == "unlimited" { Some(u64::MAX) } else { v.parse().ok() };
    text.lines()
        .skip(1)
        .filter_map(|line| {
            let (name, rest) = line.split_at_checked(26)?;
            let mut values = rest.split_ascii_whitespace();
            Some((name.trim().to_owned(), (value(values.next()?)?, value(values.next()?)?)))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_state_is_read() {
        let snapshot = take(&[std::process::id()]);
        let me = &snapshot.processes[0];
        assert!(!me.threads.is_empty() && !me.maps.is_empty() && !me.fds.is_empty());
        assert_eq!(me.threads[0].tid.0, std::process::id());
        assert!(me.limits.contains_key("Max open files"));
        assert!(!me.exe.is_empty() && me.root == b"/");
    }

    #[test]
    fn lines_of_proc_are_read() {
        assert_eq!(
            watch("tfd:        5 events:       19 data:             abc  pos:0"),
            Some((5, 0x19, 0xabc))
        );
        assert_eq!(syscall("0 0x3 0x1 0x2 0x0 0x0 0x0 0x7ffc 0x7f"), Some((0, [3, 1, 2, 0, 0, 0])));
        assert_eq!(syscall("running"), None);
        let m = map(b"7f00-8f00 rw-s 00001000 fe:00 12   /a file").unwrap();
        assert_eq!((m.start, m.len, m.prot, m.offset), (0x7f00, 0x1000, 0b1011, 0x1000));
        assert_eq!(m.path, b"/a file");
    }

    #[test]
    fn parents_come_before_their_children() {
        let p = |tgid, parent| ProcessSnapshot {
            tgid: Tgid(tgid),
            parent: Tgid(parent),
            ..ProcessSnapshot::default()
        };
        let mut list = vec![p(5, 9), p(9, 1), p(7, 5)];
        parents_first(&mut list);
        assert_eq!(list.iter().map(|p| p.tgid.0).collect::<Vec<_>>(), [9, 5, 7]);
    }
}
