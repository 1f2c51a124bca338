//! Who waits for whom: which task has what a thread waits for in its call.
//!
//! What the kernel tells of locks and descriptors is taken as it is. Of a mutex only its memory tells, which is another
//! program's: its owner is believed when it is a thread of the same process and the word says that somebody waits.
//!
//! A pipe or a connection may be open in several processes: a wait ends when one of them does something.

use crate::look::{self, Look, Looker};
use crate::proc;
use crate::snapshot::{self, bracketed};
use crate::unix_diag;
use ctrace_format::{FdTarget, SockAddr, WaitKind};
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

/// A thread that sleeps in a call.
pub(crate) struct Waiting {
    pub(crate) tid: u32,
    pub(crate) tgid: u32,
    pub(crate) name: &'static str,
    pub(crate) args: [u64; 6],
}

/// A thread and its process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Who {
    pub(crate) tid: u32,
    pub(crate) tgid: u32,
}

/// The name of what is waited for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Name {
    /// A path.
    Path(Vec<u8>),
    /// A number with a word in front.
    Number(String),
}

/// A thread waits for what another has.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Wait {
    pub(crate) waiter: Who,
    pub(crate) what: WaitKind,
    pub(crate) holder: Who,
    pub(crate) object: Name,
}

/// Finds all that is known of these threads; `scope`: process and id of every thread.
pub(crate) fn find(waiting: &[Waiting], scope: &[(u32, u32)], looker: &Looker, step: &dyn Fn()) -> Vec<Wait> {
    let mut finder = Finder::new(scope, looker);
    for one in waiting {
        step();
        finder.one(one);
    }
    finder.waits.into_iter().collect()
}

/// Mutexes.
mod futex {
    /// Operations (include/uapi/linux/futex.h).
    pub(super) const WAIT: u64 = 0;
    pub(super) const LOCK_PI: u64 = 6;
    pub(super) const WAIT_BITSET: u64 = 9;
    pub(super) const LOCK_PI2: u64 = 13;
    /// `FUTEX_PRIVATE_FLAG` and `FUTEX_CLOCK_REALTIME`.
    pub(super) const MODIFIERS: u64 = 128 | 256;
    /// `FUTEX_WAITERS` and `FUTEX_TID_MASK`.
    pub(super) const WAITERS: u32 = 0x8000_0000;
    pub(super) const TID_MASK: u32 = 0x3fff_ffff;
    /// In a word of musl's, a mutex that keeps no owner (`EBUSY`, `pthread_mutex_trylock`).
    pub(super) const NO_OWNER: u32 = 16;
    /// In a word of glibc's, a mutex that somebody waits for (nptl/lowlevellock.h).
    pub(super) const CONTENDED: u32 = 2;
    /// Bits of `__kind` that glibc uses (nptl/pthreadP.h).
    pub(super) const KINDS: u32 = 0xfff;
}

/// The owner of a mutex as its memory tells it, an id in the process's own namespace. `words`: five from the word on, as
/// many as can be read.
fn owner(op: u64, expected: u32, words: &[u32]) -> Option<u32> {
    let word = *words.first()?;
    let in_word = (word & futex::WAITERS != 0).then_some(word & futex::TID_MASK);
    if matches!(op, futex::LOCK_PI | futex::LOCK_PI2) {
        return in_word;
    }
    if word != expected {
        return None;
    }
    if word == futex::CONTENDED {
        // `struct __pthread_mutex_s` of 64 bits: __lock, __count, __owner, __nusers, __kind.
        let [_, _, owner, users, kind] = *words.first_chunk()?;
        return (users > 0 && kind & !futex::KINDS == 0).then_some(owner);
    }
    in_word.filter(|tid| *tid != futex::NO_OWNER)
}

/// A line of `/proc/locks`.
#[derive(Debug, PartialEq, Eq)]
struct Lock {
    /// Locks that wait have the number of the one that they wait for.
    number: u64,
    waits: bool,
    kind: LockKind,
    /// 0 and less: nobody's in particular, or not to be told here.
    pid: i64,
    ino: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LockKind {
    Flock,
    Posix,
    /// Of an open file description.
    Description,
}

impl LockKind {
    fn of(name: &str) -> Option<Self> {
        Some(match name {
            "FLOCK" => Self::Flock,
            "POSIX" => Self::Posix,
            "OFDLCK" => Self::Description,
            _ => return None,
        })
    }

    const fn what(self) -> WaitKind {
        match self {
            Self::Flock => WaitKind::Flock,
            Self::Posix | Self::Description => WaitKind::PosixLock,
        }
    }
}

/// `1: -> FLOCK  ADVISORY  WRITE 11947 fe:00:5785840 0 EOF`, the arrow of one that waits (fs/locks.c).
fn lock(line: &str) -> Option<Lock> {
    let mut words = line.split_ascii_whitespace();
    let number = words.next()?.strip_suffix(':')?.parse().ok()?;
    let mut kind = words.next()?;
    let waits = kind.starts_with("->");
    if waits {
        kind = words.next()?;
    }
    let kind = LockKind::of(kind)?;
    let (_, _) = (words.next()?, words.next()?);
    let pid = words.next()?.parse().ok()?;
    let ino = words.next()?.rsplit(':').next()?.parse().ok()?;
    Some(Lock { number, waits, kind, pid, ino })
}

/// Whether a call takes from its first descriptor, or gives to it.
fn takes(name: &str) -> Option<bool> {
    Some(match name {
        "read" | "readv" | "recvfrom" | "recvmsg" | "recvmmsg" | "splice" => true,
        "write" | "writev" | "sendto" | "sendmsg" | "sendmmsg" | "sendfile" | "vmsplice" => false,
        _ => return None,
    })
}

/// An address of IPv4 in one of IPv6 is the same.
fn plain(address: &SockAddr) -> SockAddr {
    match address {
        SockAddr::Inet(inet) => SockAddr::Inet(SocketAddr::new(inet.ip().to_canonical(), inet.port())),
        other => other.clone(),
    }
}

/// A descriptor and the name of what is behind it.
type Named = (u32, Vec<u8>);

struct Finder<'a> {
    looker: &'a Looker,
    /// Threads by process.
    scope: BTreeMap<u32, Vec<u32>>,
    waits: BTreeSet<Wait>,
    locks: Option<Vec<Lock>>,
    peers: Option<BTreeMap<u64, u64>>,
    /// By process: descriptors and the names of what is behind them.
    names: Option<BTreeMap<u32, Vec<Named>>>,
    /// By process: the threads by the id that they have in the namespace of their own.
    own_ids: BTreeMap<u32, BTreeMap<u32, u32>>,
    /// Ends of connections and who has them.
    connected: Option<Vec<(u32, SockAddr, SockAddr)>>,
}

impl<'a> Finder<'a> {
    fn new(threads: &[(u32, u32)], looker: &'a Looker) -> Self {
        let mut scope: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
        for (tgid, tid) in threads {
            scope.entry(*tgid).or_default().push(*tid);
        }
        Self {
            looker,
            scope,
            waits: BTreeSet::new(),
            locks: None,
            peers: None,
            names: None,
            own_ids: BTreeMap::new(),
            connected: None,
        }
    }

    fn one(&mut self, w: &Waiting) -> Option<()> {
        match w.name {
            "futex" => self.mutex(w),
            "flock" | "fcntl" => self.file_lock(w),
            "wait4" | "waitid" => self.children(w),
            name => self.other_end(w, takes(name)?),
        }
    }

    fn add(&mut self, w: &Waiting, what: WaitKind, holder: Who, object: Name) {
        let waiter = Who { tid: w.tid, tgid: w.tgid };
        self.waits.insert(Wait { waiter, what, holder, object });
    }

    /// The thread that stands for a process that has something: the first one, if that still lives.
    fn leader(&self, tgid: u32) -> Who {
        let first = self.scope.get(&tgid).and_then(|tids| tids.iter().min());
        let leads = self.scope.get(&tgid).is_none_or(|tids| tids.contains(&tgid));
        Who { tid: if leads { tgid } else { first.copied().unwrap_or(tgid) }, tgid }
    }

    fn mutex(&mut self, w: &Waiting) -> Option<()> {
        let op = w.args[1] & !futex::MODIFIERS;
        if !matches!(op, futex::WAIT | futex::WAIT_BITSET | futex::LOCK_PI | futex::LOCK_PI2) {
            return None;
        }
        let base = w.args[0];
        let read = |len| self.looker.look_at(&[Look::Memory { tid: w.tid, base, len }]).pop()?.known();
        // What follows the word need not be there.
        let bytes = read(20).or_else(|| read(4))?;
        let words: Vec<u32> =
            bytes.chunks_exact(4).map(|b| u32::from_ne_bytes([b[0], b[1], b[2], b[3]])).collect();
        let owner = owner(op, w.args[2] as u32, &words)?;
        let tid = *self.own_ids(w.tgid).get(&owner)?;
        self.add(w, WaitKind::Futex, Who { tid, tgid: w.tgid }, Name::Number(format!("{base:#x}")));
        Some(())
    }

    fn own_ids(&mut self, tgid: u32) -> &BTreeMap<u32, u32> {
        let tids = self.scope.get(&tgid);
        self.own_ids.entry(tgid).or_insert_with(|| {
            let own = |tid: u32| Some((*ids_of(tgid, tid).last()?, tid));
            tids.into_iter().flatten().filter_map(|tid| own(*tid)).collect()
        })
    }

    fn file_lock(&mut self, w: &Waiting) -> Option<()> {
        let fd = u32::try_from(w.args[0] as i32).ok()?;
        let kinds: &[LockKind] = match (w.name, w.args[1] as i32) {
            ("flock", _) => &[LockKind::Flock],
            // A lock of one kind waits for locks of the other, too.
            (_, libc::F_SETLKW | libc::F_OFD_SETLKW) => &[LockKind::Posix, LockKind::Description],
            _ => return None,
        };
        let FdTarget::File { path, ino, .. } = self.target(w.tgid, fd)? else { return None };
        let locks = self.locks.get_or_insert_with(|| {
            let text = std::fs::read_to_string("/proc/locks").unwrap_or_default();
            text.lines().filter_map(lock).collect()
        });
        let of_file = |lock: &&Lock| lock.ino == ino && kinds.contains(&lock.kind);
        let mine = |lock: &&Lock| lock.waits && (lock.pid == i64::from(w.tgid) || lock.pid <= 0);
        let numbers: BTreeSet<u64> = locks.iter().filter(of_file).filter(mine).map(|l| l.number).collect();
        let held: Vec<(LockKind, i64)> = locks
            .iter()
            .filter(of_file)
            .filter(|lock| !lock.waits && numbers.contains(&lock.number))
            .map(|lock| (lock.kind, lock.pid))
            .collect();
        for (kind, pid) in held {
            for holder in self.lock_holders(kind, pid, ino, &path) {
                self.add(w, kind.what(), holder, Name::Path(path.clone()));
            }
        }
        Some(())
    }

    /// The process that took a lock, or those that have the open file that it belongs to.
    fn lock_holders(&mut self, kind: LockKind, pid: i64, ino: u64, path: &[u8]) -> Vec<Who> {
        if let Some(tgid) = u32::try_from(pid).ok().filter(|pid| *pid > 0)
            && proc::process_stat(tgid).is_some_and(|stat| !stat.exiting)
        {
            return vec![self.leader(tgid)];
        }
        if kind == LockKind::Posix {
            return Vec::new();
        }
        // Whoever took it is gone, or it belongs to a description: descriptors tell of the locks that theirs has.
        let looks: Vec<(u32, Look)> = self
            .names()
            .iter()
            .flat_map(|(tgid, names)| names.iter().map(move |(fd, name)| (*tgid, *fd, name)))
            .filter(|(_, _, name)| name.as_slice() == path)
            .map(|(tgid, fd, _)| (tgid, Look::Descriptor { tgid, fd }))
            .collect();
        let questions: Vec<Look> = looks.iter().map(|(_, look)| *look).collect();
        let answers = self.looker.look_at(&questions);
        let has = |info: Vec<u8>| {
            String::from_utf8_lossy(&info)
                .lines()
                .filter_map(|line| lock(line.strip_prefix("lock:")?.trim_start()))
                .any(|lock| lock.kind == kind && lock.ino == ino)
        };
        let holders = looks.iter().zip(answers).filter(|(_, seen)| seen.clone().known().is_some_and(has));
        let tgids: BTreeSet<u32> = holders.map(|((tgid, _), _)| *tgid).collect();
        tgids.into_iter().map(|tgid| self.leader(tgid)).collect()
    }

    fn target(&mut self, tgid: u32, fd: u32) -> Option<FdTarget> {
        let peers = self.peers.get_or_insert_with(unix_diag::peers);
        Some(snapshot::descriptor(tgid, fd, peers, self.looker)?.target)
    }

    fn names(&mut self) -> &BTreeMap<u32, Vec<Named>> {
        self.names.get_or_insert_with(|| {
            let looks: Vec<Look> = self.scope.keys().map(|tgid| Look::Names { tgid: *tgid }).collect();
            let seen = self.looker.look_at(&looks).into_iter();
            let names = seen.map(|seen| look::names(&seen.known().unwrap_or_default()));
            self.scope.keys().copied().zip(names).collect()
        })
    }

    fn other_end(&mut self, w: &Waiting, takes: bool) -> Option<()> {
        const S_IFMT: u32 = libc::S_IFMT;
        let fd = u32::try_from(w.args[0] as i32).ok()?;
        match self.target(w.tgid, fd)? {
            FdTarget::Pipe { ino } => {
                let link = format!("pipe:[{ino}]").into_bytes();
                self.pipe(w, takes, &link, &Name::Number(format!("pipe:{ino}")));
            }
            FdTarget::File { path, mode, .. } if mode & S_IFMT == libc::S_IFIFO => {
                self.pipe(w, takes, &path, &Name::Path(path.clone()));
            }
            FdTarget::Socket { ino, family: 1, peer_ino, .. } if peer_ino != 0 => {
                let link = format!("socket:[{peer_ino}]").into_bytes();
                let having = self.having(&link).into_iter().map(|(tgid, _)| tgid).collect();
                self.ends(w, WaitKind::Socket, &having, &Name::Number(format!("socket:{ino}")));
            }
            FdTarget::Socket { ino, local: Some(local), peer: Some(peer), .. } => {
                let (local, peer) = (plain(&local), plain(&peer));
                let connected = self.connected();
                let other = connected.iter().filter(|(_, l, p)| (l, p) == (&peer, &local));
                let having = other.map(|(tgid, _, _)| *tgid).collect();
                self.ends(w, WaitKind::Socket, &having, &Name::Number(format!("socket:{ino}")));
            }
            _ => {}
        }
        Some(())
    }

    /// Processes and descriptors of this name.
    fn having(&mut self, link: &[u8]) -> Vec<(u32, u32)> {
        let all = self.names().iter().flat_map(|(tgid, names)| names.iter().map(move |name| (*tgid, name)));
        all.filter(|(_, (_, name))| name == link).map(|(tgid, (fd, _))| (tgid, *fd)).collect()
    }

    fn pipe(&mut self, w: &Waiting, takes: bool, link: &[u8], object: &Name) {
        let having = self.having(link);
        let looks: Vec<Look> =
            having.iter().map(|(tgid, fd)| Look::Descriptor { tgid: *tgid, fd: *fd }).collect();
        let other = if takes { libc::O_RDONLY } else { libc::O_WRONLY };
        let is_other = |info: Vec<u8>| {
            let flags = snapshot::field(&String::from_utf8_lossy(&info), "flags").to_owned();
            i32::from_str_radix(&flags, 8).is_ok_and(|flags| flags & libc::O_ACCMODE != other)
        };
        let ends = having.iter().zip(self.looker.look_at(&looks));
        let ends = ends.filter(|(_, seen)| seen.clone().known().is_some_and(is_other));
        let tgids = ends.map(|((tgid, _), _)| *tgid).collect();
        self.ends(w, WaitKind::Pipe, &tgids, object);
    }

    /// Each of these processes may end the wait. The waiter's own may if another of its threads does; where it has no
    /// other, it has to be a thread of another process.
    fn ends(&mut self, w: &Waiting, what: WaitKind, having: &BTreeSet<u32>, object: &Name) {
        for tgid in having {
            let mut holder = self.leader(*tgid);
            if *tgid == w.tgid {
                let others = self.scope.get(tgid).into_iter().flatten().filter(|tid| **tid != w.tid);
                match others.min() {
                    Some(other) => holder.tid = *other,
                    None if having.len() > 1 => continue,
                    None => {}
                }
            }
            self.add(w, what, holder, object.clone());
        }
    }

    /// Every connected socket of the scope.
    fn connected(&mut self) -> &[(u32, SockAddr, SockAddr)] {
        if self.connected.is_none() {
            let is_socket =
                |name: &[u8]| name.starts_with(b"socket:[") && bracketed(&String::from_utf8_lossy(name)) > 0;
            let sockets: Vec<(u32, u32)> = self
                .names()
                .iter()
                .flat_map(|(tgid, names)| names.iter().map(move |name| (*tgid, name)))
                .filter(|(_, (_, name))| is_socket(name))
                .map(|(tgid, (fd, _))| (tgid, *fd))
                .collect();
            let looks: Vec<Look> =
                sockets.iter().map(|(tgid, fd)| Look::Socket { tgid: *tgid, fd: *fd }).collect();
            let answers = self.looker.look_at(&looks);
            let ends =
                sockets.into_iter().zip(answers).filter_map(
                    |((tgid, _), seen)| match crate::sockets::describe(seen.known().as_deref(), 0, 0) {
                        FdTarget::Socket { local: Some(local), peer: Some(peer), .. } => {
                            Some((tgid, plain(&local), plain(&peer)))
                        }
                        _ => None,
                    },
                );
            self.connected = Some(ends.collect());
        }
        self.connected.as_deref().unwrap_or_default()
    }

    fn children(&mut self, w: &Waiting) -> Option<()> {
        let depth = ids_of(w.tgid, w.tid).len().checked_sub(1)?;
        let first = w.args[0] as i32;
        let (any, group, id) = match (w.name, first.unsigned_abs()) {
            ("waitid", libc::P_ALL) => (true, false, 0),
            ("waitid", libc::P_PID) => (false, false, w.args[1] as u32),
            ("waitid", libc::P_PGID) => (false, true, w.args[1] as u32),
            ("waitid", _) => return None,
            _ if first == -1 => (true, false, 0),
            (_, 0) => (false, true, proc::process_stat(w.tgid)?.pgid),
            (_, id) => (false, first < 0, id),
        };
        let tgids: Vec<u32> = self.scope.keys().copied().collect();
        for tgid in tgids {
            let Some(stat) = proc::process_stat(tgid) else { continue };
            let is_meant =
                any || group && stat.pgid == id || !group && ids_of(tgid, tgid).get(depth) == Some(&id);
            if stat.parent == w.tgid && !stat.exiting && is_meant {
                let holder = self.leader(tgid);
                self.add(w, WaitKind::Child, holder, Name::Number(format!("process:{tgid}")));
            }
        }
        Some(())
    }
}

/// The ids of a thread, from the recorder's namespace to its own.
fn ids_of(tgid: u32, tid: u32) -> Vec<u32> {
    let status = std::fs::read(format!("/proc/{tgid}/task/{tid}/status")).unwrap_or_default();
    let text = String::from_utf8_lossy(&status);
    let ids = text.lines().find_map(|line| line.strip_prefix("NSpid:")).unwrap_or_default();
    let ids: Vec<u32> = ids.split_ascii_whitespace().filter_map(|id| id.parse().ok()).collect();
    if ids.is_empty() { vec![tid] } else { ids }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_owner_of_a_mutex_is_told_by_memory_that_looks_like_one() {
        let glibc = [2, 0, 700, 1, 0];
        assert_eq!(owner(futex::WAIT, 2, &glibc), Some(700));
        assert_eq!(owner(futex::WAIT, 1, &glibc), None, "the word has changed");
        assert_eq!(owner(futex::WAIT, 2, &[2, 0, 700, 0, 0]), None, "nobody uses it");
        assert_eq!(owner(futex::WAIT, 2, &[2, 0, 700, 1, 0x7fff_1234]), None, "no mutex has this kind");
        assert_eq!(owner(futex::WAIT, 2, &[2]), None);
        assert_eq!(owner(futex::WAIT, 0, &[0, 0, 700, 1, 0]), None, "nobody waits for it");
        let musl = [futex::WAITERS + 700, 1];
        assert_eq!(owner(futex::WAIT, musl[0], &musl), Some(700));
        let no_owner = [futex::WAITERS + futex::NO_OWNER, 1];
        assert_eq!(owner(futex::WAIT, no_owner[0], &no_owner), None);
        assert_eq!(owner(futex::LOCK_PI, 0, &musl), Some(700));
        assert_eq!(owner(futex::LOCK_PI, 0, &[700]), None, "it is not contended");
    }

    #[test]
    fn locks_that_wait_have_the_number_of_the_lock_that_they_wait_for() {
        let held = lock("12: FLOCK  ADVISORY  WRITE 11947 fe:00:5785840 0 EOF").unwrap();
        assert_eq!(
            held,
            Lock { number: 12, waits: false, kind: LockKind::Flock, pid: 11947, ino: 5_785_840 }
        );
        let waits = lock("12: -> OFDLCK ADVISORY  READ  -1 fe:00:7 0 EOF").unwrap();
        assert_eq!(waits, Lock { number: 12, waits: true, kind: LockKind::Description, pid: -1, ino: 7 });
        assert_eq!(lock("3: LEASE  ACTIVE    READ  9 fe:00:7 0 EOF"), None);
        assert_eq!(lock(""), None);
    }
}
