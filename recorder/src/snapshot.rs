//! The state of the scope at the start: what `/proc` says about its processes.

use crate::look::{self, Look, Looker, Seen};
use crate::proc;
use crate::sockets;
use crate::unix_diag;
use ctrace_format::{
    FdSnapshot, FdTarget, MapSnapshot, ProcessSnapshot, Snapshot, Tgid, ThreadSnapshot, Tid,
};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

/// A snapshot, and what could not be learnt for it.
pub(crate) struct Taken {
    pub(crate) snapshot: Snapshot,
    /// Sentences without names: which process, and what of it.
    pub(crate) unlearnt: Vec<String>,
}

/// Reads the state of these processes. What disappears meanwhile is left out.
pub(crate) fn take(tgids: &[u32], looker: &Looker) -> Taken {
    let peers = unix_diag::peers();
    let mut unlearnt = Vec::new();
    let mut processes: Vec<ProcessSnapshot> =
        tgids.iter().filter_map(|tgid| process(*tgid, &peers, looker, &mut unlearnt)).collect();
    parents_first(&mut processes);
    Taken { snapshot: Snapshot { processes }, unlearnt }
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

fn process(
    tgid: u32,
    peers: &BTreeMap<u64, u64>,
    looker: &Looker,
    unlearnt: &mut Vec<String>,
) -> Option<ProcessSnapshot> {
    let base = format!("/proc/{tgid}");
    let stat = proc::process_stat(tgid)?;
    let status = Status::read(&format!("{base}/status"));
    let tids = proc::threads(tgid);
    let mut looks = vec![Look::Arguments { tgid }, Look::Mappings { tgid }];
    looks.extend(tids.iter().map(|tid| Look::Call { tgid, tid: *tid }));
    let mut seen = looker.look_at(&looks).into_iter();
    let mut missing = Missing::default();
    let mut learn = |what: &'static str| {
        let seen = seen.next().unwrap_or(Seen::Unanswered);
        if seen == Seen::Unanswered {
            missing.parts.insert(what);
        }
        seen.known().unwrap_or_default()
    };
    let mut argv: Vec<Vec<u8>> = learn("its arguments").split(|b| *b == 0).map(<[u8]>::to_vec).collect();
    argv.pop();
    let maps = maps(&learn("its mappings"));
    let mut threads: Vec<ThreadSnapshot> =
        tids.into_iter().filter_map(|tid| thread(tgid, tid, &learn("the calls that it was in"))).collect();
    threads.sort_by_key(|t| (t.tid != Tid(tgid), t.tid));
    let fds = fds(tgid, peers, looker, &mut missing);
    unlearnt.extend(missing.text(tgid));
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
        fds,
        maps,
        limits: fs::read_to_string(format!("{base}/limits")).map(|t| limits(&t)).unwrap_or_default(),
        sig_ignored: status.hex("SigIgn"),
        sig_caught: status.hex("SigCgt"),
        uid: status.list("Uid").get(1).copied().unwrap_or(0),
        gid: status.list("Gid").get(1).copied().unwrap_or(0),
        umask: u32::from_str_radix(status.get("Umask"), 8).unwrap_or(0),
    })
}

/// What the kernel did not tell of a process in time.
#[derive(Default)]
struct Missing {
    parts: BTreeSet<&'static str>,
    /// Descriptors whose flags and offset are not known.
    descriptors: Vec<u32>,
    /// Descriptors of which it is not known what they refer to, beyond a name.
    targets: Vec<u32>,
}

impl Missing {
    fn text(&self, tgid: u32) -> Option<String> {
        let mut parts: Vec<String> = self.parts.iter().map(|part| (*part).to_owned()).collect();
        for (what, fds) in [
            ("flags and offset of descriptor", &self.descriptors),
            ("what is behind descriptor, beyond its name,", &self.targets),
        ] {
            if !fds.is_empty() {
                let some: Vec<String> = fds.iter().take(8).map(u32::to_string).collect();
                let more = if fds.len() > 8 { format!(" and {} more", fds.len() - 8) } else { String::new() };
                parts.push(format!("{what} {}{more}", some.join(", ")));
            }
        }
        (!parts.is_empty()).then(|| format!("process {tgid}: {}", parts.join("; ")))
    }
}

/// `/proc/…/status`.
struct Status(String);

impl Status {
    fn read(path: &str) -> Self {
        // The name in it need not be text.
        Self(String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned())
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

fn thread(tgid: u32, tid: u32, call: &[u8]) -> Option<ThreadSnapshot> {
    let stat = proc::stat(tgid, tid)?;
    Some(ThreadSnapshot {
        tid: Tid(tid),
        comm: stat.comm,
        sig_blocked: Status::read(&format!("/proc/{tgid}/task/{tid}/status")).hex("SigBlk"),
        syscall: under_way(call).map(|under_way| (under_way.nr, under_way.args)),
    })
}

/// A call that a thread is in.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct UnderWay {
    pub(crate) nr: u32,
    pub(crate) args: [u64; 6],
    /// The stack pointer.
    pub(crate) stack: u64,
}

/// From `/proc/TID/syscall`: `NR A0 … A5 SP PC`, or `running`, or `-1 SP PC`.
pub(crate) fn under_way(text: &[u8]) -> Option<UnderWay> {
    let mut words = std::str::from_utf8(text).ok()?.split_ascii_whitespace();
    let nr = words.next()?.parse::<u32>().ok()?;
    let mut number = || u64::from_str_radix(words.next()?.trim_start_matches("0x"), 16).ok();
    let mut args = [0; 6];
    for arg in &mut args {
        *arg = number()?;
    }
    Some(UnderWay { nr, args, stack: number()? })
}

/// A line of a descriptor's `/proc/PID/fdinfo`.
pub(crate) fn field<'a>(info: &'a str, name: &str) -> &'a str {
    info.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(':')).map(str::trim).unwrap_or_default()
}

fn fds(tgid: u32, peers: &BTreeMap<u64, u64>, looker: &Looker, missing: &mut Missing) -> Vec<FdSnapshot> {
    let numbers = proc::numbers(&format!("/proc/{tgid}/fd"));
    let looks: Vec<Look> = numbers.iter().map(|fd| Look::Descriptor { tgid, fd: *fd }).collect();
    let mut found = Vec::new();
    for (fd, seen) in numbers.into_iter().zip(looker.look_at(&looks)) {
        let info = match seen {
            Seen::Is(info) => String::from_utf8_lossy(&info).into_owned(),
            Seen::Nothing => continue,
            Seen::Unanswered => {
                missing.descriptors.push(fd);
                String::new()
            }
        };
        let name = link(format!("/proc/{tgid}/fd/{fd}"));
        let look = more(tgid, fd, &name, &info);
        found.push((fd, info, name, look));
    }
    let looks: Vec<Look> = found.iter().filter_map(|(_, _, _, look)| *look).collect();
    let mut answers = looker.look_at(&looks).into_iter();
    found
        .into_iter()
        .map(|(fd, info, name, look)| {
            let answer = look.map(|_| answers.next().unwrap_or(Seen::Unanswered));
            if answer == Some(Seen::Unanswered) {
                missing.targets.push(fd);
            }
            FdSnapshot {
                fd: fd as i32,
                flags: u32::from_str_radix(field(&info, "flags"), 8).unwrap_or(0),
                offset: field(&info, "pos").parse().unwrap_or(0),
                target: target(name, &info, answer.and_then(Seen::known).as_deref(), peers),
            }
        })
        .collect()
}

/// What else is to be asked of a descriptor, which is plain from its name.
fn more(tgid: u32, fd: u32, name: &[u8], info: &str) -> Option<Look> {
    if name.starts_with(b"socket:[") {
        Some(Look::Socket { tgid, fd })
    } else if name.starts_with(b"/") && !name.starts_with(b"/memfd:") {
        // Without the number of its mount it is one of its own.
        let mount = field(info, "mnt_id").parse().unwrap_or(u64::from(fd) << 32 | u64::from(tgid));
        Some(Look::File { tgid, fd, mount })
    } else {
        None
    }
}

/// One descriptor of a process: what a snapshot would tell of it. `None`: there is none, or it is not for us.
pub(crate) fn descriptor(
    tgid: u32,
    fd: u32,
    peers: &BTreeMap<u64, u64>,
    looker: &Looker,
) -> Option<FdSnapshot> {
    let mut seen = looker.look_at(&[Look::Descriptor { tgid, fd }, Look::Name { tgid, fd }]).into_iter();
    let info = String::from_utf8_lossy(&seen.next()?.known().unwrap_or_default()).into_owned();
    let name = seen.next()?.known()?;
    let answer = more(tgid, fd, &name, &info).and_then(|look| looker.look_at(&[look]).pop()?.known());
    Some(FdSnapshot {
        fd: fd as i32,
        flags: u32::from_str_radix(field(&info, "flags"), 8).unwrap_or(0),
        offset: field(&info, "pos").parse().unwrap_or(0),
        target: target(name, &info, answer.as_deref(), peers),
    })
}

/// The number in `name:[123]`.
pub(crate) fn bracketed(text: &str) -> u64 {
    text.split(['[', ']']).nth(1).and_then(|n| n.parse().ok()).unwrap_or(0)
}

/// What a descriptor of this name refers to; `answer` is to the look that its name asks for.
fn target(name: Vec<u8>, info: &str, answer: Option<&[u8]>, peers: &BTreeMap<u64, u64>) -> FdTarget {
    let text = String::from_utf8_lossy(&name);
    if text.starts_with("pipe:[") {
        return FdTarget::Pipe { ino: bracketed(&text) };
    }
    if text.starts_with("socket:[") {
        let ino = bracketed(&text);
        return sockets::describe(answer, ino, peers.get(&ino).copied().unwrap_or(0));
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
    let look::File { mode, dev, ino, size, rdev } = answer.and_then(look::File::read).unwrap_or_else(|| {
        // Linux 5.14.
        look::File { ino: field(info, "ino").parse().unwrap_or(0), ..look::File::default() }
    });
    FdTarget::File { path: name, mode, dev, ino, size, rdev }
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
        let Taken { snapshot, unlearnt } = take(&[std::process::id()], &Looker::start().unwrap());
        assert_eq!(unlearnt, Vec::<String>::new());
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
        let reads = UnderWay { nr: 0, args: [3, 1, 2, 0, 0, 0], stack: 0x7ffc };
        assert_eq!(under_way(b"0 0x3 0x1 0x2 0x0 0x0 0x0 0x7ffc 0x7f\n"), Some(reads));
        assert_eq!(under_way(b"running\n"), None);
        assert_eq!(under_way(b"-1 0x7ffc 0x7f\n"), None);
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
