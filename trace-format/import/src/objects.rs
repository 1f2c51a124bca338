//! What lies behind descriptors: as strace decorates them (`-y`, `-yy`), else as the log's own calls made them.

use crate::address;
use crate::text::unescape;
use ctrace_format::linux::{S_IFBLK, S_IFCHR};
use ctrace_format::{Object, ObjectId, SockAddr, SockCookie, TraceWriter};
use rustc_hash::{FxHashMap, FxHasher};
use std::cell::{Cell, RefCell};
use std::hash::{Hash, Hasher};
use std::rc::Rc;

/// Identities of sockets and pipes that the log does not number: counted, in a range that the kernel's do not reach.
const BY_COUNT: u64 = 1 << 62;
/// Descriptors of all processes that are followed. The kernel lets one have as many at most (`fs.nr_open`).
const MAX_DESCRIPTORS: usize = 1 << 20;
/// Descriptors that forks may copy altogether; a log in which more are copied is no log.
const MAX_COPIED: usize = 64 << 20;
/// Decorations whose object is remembered.
const MAX_REMEMBERED: usize = 1 << 16;

/// What a descriptor refers to.
#[derive(Debug, Clone)]
pub(crate) struct Descriptor {
    object: ObjectId,
    cloexec: bool,
    /// How strace decorated it last.
    about: About,
}

/// A decoration: as much of it as tells it from another one.
#[derive(Debug, Clone, PartialEq, Eq)]
enum About {
    /// There was none.
    None,
    /// Of a socket, whose decoration changes with its addresses.
    Socket(Rc<[u8]>),
    /// Of something else.
    Other(u64),
}

impl About {
    fn of(about: Option<&[u8]>) -> Self {
        /// Sockets are decorated with two addresses or a name at most.
        const LONGEST: usize = 512;
        match about {
            None => Self::None,
            Some(about) if about.len() <= LONGEST && address::of_decoration(about).is_some() => {
                Self::Socket(about.into())
            }
            Some(about) => {
                let mut hasher = FxHasher::default();
                about.hash(&mut hasher);
                Self::Other(hasher.finish())
            }
        }
    }
}

/// The descriptors of a process.
#[derive(Debug)]
struct Entries {
    by_fd: FxHashMap<i32, Descriptor>,
    /// Descriptors of all processes.
    total: Rc<Cell<usize>>,
}

impl Clone for Entries {
    fn clone(&self) -> Self {
        self.total.set(self.total.get() + self.by_fd.len());
        Self { by_fd: self.by_fd.clone(), total: Rc::clone(&self.total) }
    }
}

impl Drop for Entries {
    fn drop(&mut self) {
        self.total.set(self.total.get().saturating_sub(self.by_fd.len()));
    }
}

/// The descriptors of a process. A fork shares them until one of both changes something.
#[derive(Debug, Clone)]
pub(crate) struct Table(Rc<RefCell<Rc<Entries>>>);

impl Table {
    fn get(&self, fd: i32) -> Option<Descriptor> {
        self.0.borrow().by_fd.get(&fd).cloned()
    }

    fn change(&self, change: impl FnOnce(&mut FxHashMap<i32, Descriptor>)) {
        let mut shared = self.0.borrow_mut();
        let entries = Rc::make_mut(&mut shared);
        let before = entries.by_fd.len();
        change(&mut entries.by_fd);
        let total = entries.total.get() + entries.by_fd.len();
        entries.total.set(total.saturating_sub(before));
    }

    pub(crate) fn set(&self, fd: i32, descriptor: Descriptor) {
        let is_full = self.0.borrow().total.get() >= MAX_DESCRIPTORS;
        self.change(|entries| {
            if !is_full || entries.contains_key(&fd) {
                entries.insert(fd, descriptor);
            }
        });
    }

    pub(crate) fn close(&self, fd: i32) {
        if self.0.borrow().by_fd.contains_key(&fd) {
            self.change(|entries| {
                entries.remove(&fd);
            });
        }
    }

    pub(crate) fn close_range(&self, first: u64, last: u64, only_mark: bool) {
        let is_in = |fd: i32| u64::try_from(fd).is_ok_and(|fd| (first..=last).contains(&fd));
        self.change(|entries| {
            if only_mark {
                entries.iter_mut().filter(|(fd, _)| is_in(**fd)).for_each(|(_, d)| d.cloexec = true);
            } else {
                entries.retain(|fd, _| !is_in(*fd));
            }
        });
    }

    pub(crate) fn mark(&self, fd: i32, cloexec: bool) {
        if self.0.borrow().by_fd.get(&fd).is_some_and(|d| d.cloexec != cloexec) {
            self.change(|entries| {
                if let Some(descriptor) = entries.get_mut(&fd) {
                    descriptor.cloexec = cloexec;
                }
            });
        }
    }

    /// A program begins: its own table, without what exec closes.
    pub(crate) fn exec(&mut self) {
        if Rc::strong_count(&self.0) > 1 {
            let entries = Rc::clone(&self.0.borrow());
            self.0 = Rc::new(RefCell::new(entries));
        }
        if self.0.borrow().by_fd.values().any(|d| d.cloexec) {
            self.change(|entries| entries.retain(|_, d| !d.cloexec));
        }
    }
}

/// The objects of a log.
#[derive(Debug, Default)]
pub(crate) struct Objects {
    count: u64,
    /// Descriptors of all processes.
    total: Rc<Cell<usize>>,
    copied: usize,
    /// Sockets and anonymous files that are told by a decoration alone.
    decorated: FxHashMap<Box<[u8]>, ObjectId>,
}

impl Objects {
    fn next(&mut self) -> u64 {
        self.count += 1;
        self.count
    }

    /// An empty table.
    pub(crate) fn table(&self) -> Table {
        let entries = Entries { by_fd: FxHashMap::default(), total: Rc::clone(&self.total) };
        Table(Rc::new(RefCell::new(Rc::new(entries))))
    }

    /// The table of a child that has its own.
    pub(crate) fn fork(&mut self, parent: &Table) -> Table {
        let entries = Rc::clone(&parent.0.borrow());
        self.copied = self.copied.saturating_add(entries.by_fd.len());
        if self.copied > MAX_COPIED || self.total.get() + entries.by_fd.len() > MAX_DESCRIPTORS {
            return self.table();
        }
        Table(Rc::new(RefCell::new(entries)))
    }

    /// The object behind a descriptor that a call was given.
    pub(crate) fn behind(
        &mut self,
        w: &mut TraceWriter,
        table: &Table,
        fd: i32,
        about: Option<&[u8]>,
    ) -> Option<ObjectId> {
        let known = table.get(fd);
        let Some(about) = about else { return known.map(|d| d.object) };
        let now = About::of(Some(about));
        if let Some(known) = known {
            let is_same = match (&known.about, &now) {
                (About::None, _) => true,
                (About::Socket(was), About::Socket(now)) => was == now || is_same_socket(was, now),
                (was, now) => was == now,
            };
            if is_same {
                let object = known.object;
                if known.about != now {
                    table.set(fd, Descriptor { about: now, ..known });
                }
                return Some(object);
            }
        }
        // It was there before the log, or something in the log that is not followed changed it.
        let object = self.decorated(w, about)?;
        if fd >= 0 {
            table.set(fd, Descriptor { object, cloexec: false, about: now });
        }
        Some(object)
    }

    /// The object that a call made, as strace decorates it.
    pub(crate) fn made(
        &mut self,
        w: &mut TraceWriter,
        table: &Table,
        fd: i32,
        cloexec: bool,
        about: Option<&[u8]>,
        made: Made<'_>,
    ) -> ObjectId {
        let object = match (made, about) {
            (Made::Socket { family, kind, protocol, ends }, about) => {
                let (local, peer) = match about.and_then(address::of_decoration) {
                    Some(seen) if ends.is_some() => (seen.local, seen.peer),
                    _ => ends.unwrap_or_default(),
                };
                let cookie = SockCookie(BY_COUNT | self.next());
                w.object(&Object::Socket { family, kind, protocol, cookie, local, peer })
            }
            (Made::Anon(kind), _) => {
                let kind = w.kernel_name(kind);
                let id = self.next();
                w.object(&Object::Anon { kind, id })
            }
            (Made::Pipe(pipe), about) => {
                let ino = about.and_then(pipe_inode).unwrap_or(BY_COUNT | pipe);
                w.object(&Object::Pipe { ino })
            }
            (Made::File { .. }, Some(about)) if about.starts_with(b"/") => file(w, about),
            (Made::File { path, mode }, _) => {
                let path = w.str(path);
                w.object(&Object::File { path, dev: 0, ino: 0, mode, rdev: 0, size: 0 })
            }
        };
        table.set(fd, Descriptor { object, cloexec, about: About::of(about) });
        object
    }

    /// A number for a pipe that the log does not number.
    pub(crate) fn new_pipe(&mut self) -> u64 {
        self.next()
    }

    /// A second descriptor of what another one refers to.
    pub(crate) fn duplicated(
        &mut self,
        w: &mut TraceWriter,
        table: &Table,
        (from, about): (i32, Option<&[u8]>),
        to: i32,
        cloexec: bool,
    ) {
        self.behind(w, table, from, about);
        match table.get(from) {
            Some(known) => table.set(to, Descriptor { cloexec, ..known }),
            None => table.close(to),
        }
    }

    fn decorated(&mut self, w: &mut TraceWriter, about: &[u8]) -> Option<ObjectId> {
        if about.starts_with(b"/") {
            return Some(file(w, about));
        }
        if let Some(ino) = pipe_inode(about) {
            return Some(w.object(&Object::Pipe { ino }));
        }
        if let Some(known) = self.decorated.get(about) {
            return Some(*known);
        }
        let object = if let Some(seen) = address::of_decoration(about) {
            let cookie = SockCookie(BY_COUNT | self.next());
            let (family, kind, protocol) = (seen.family as u16, seen.kind as u16, seen.protocol as u16);
            w.object(&Object::Socket { family, kind, protocol, cookie, local: seen.local, peer: seen.peer })
        } else {
            let kind = w.kernel_name(anon_kind(about)?);
            let id = self.next();
            w.object(&Object::Anon { kind, id })
        };
        if self.decorated.len() >= MAX_REMEMBERED {
            self.decorated.clear();
        }
        self.decorated.insert(about.into(), object);
        Some(object)
    }
}

/// What a call makes a descriptor of.
#[derive(Debug, Clone)]
pub(crate) enum Made<'a> {
    /// A file of this path; type and permissions, as far as the call tells them.
    File { path: &'a [u8], mode: u32 },
    /// `ends`: it was accepted, and has ends from the start.
    Socket { family: u16, kind: u16, protocol: u16, ends: Option<(Option<SockAddr>, Option<SockAddr>)> },
    /// A pipe of this number, where the log has none.
    Pipe(u64),
    /// Something that the kernel names.
    Anon(&'a [u8]),
}

/// A socket changes how it is decorated when it gets addresses.
fn is_same_socket(was: &[u8], about: &[u8]) -> bool {
    let of = |about: &[u8]| address::of_decoration(about);
    let (Some(was), Some(now)) = (of(was), of(about)) else { return false };
    let fits = |a: &Option<SockAddr>, b: &Option<SockAddr>| a.is_none() || b.is_none() || a == b;
    let family = was.family == now.family || was.family == 0 || now.family == 0;
    let inode = was.inode.zip(now.inode).is_none_or(|(a, b)| a == b);
    // A wildcard becomes an address when it is connected.
    let is_wildcard = |a: &Option<SockAddr>| matches!(a, Some(SockAddr::Inet(a)) if a.ip().is_unspecified());
    family && inode && fits(&was.peer, &now.peer) && (fits(&was.local, &now.local) || is_wildcard(&was.local))
}

/// The inode in `pipe:[99]`.
fn pipe_inode(about: &[u8]) -> Option<u64> {
    let inside = about.strip_prefix(b"pipe:[")?.strip_suffix(b"]")?;
    std::str::from_utf8(inside).ok()?.parse().ok()
}

/// The kernel's name of an anonymous file: of `anon_inode:[eventpoll]`, `anon_inode:inotify`, `pid:4711`, `signalfd:[INT]`,
/// `net:[4026531840]`. Names that a program may choose are none.
fn anon_kind(about: &[u8]) -> Option<&[u8]> {
    if let Some(name) = about.strip_prefix(b"anon_inode:") {
        return Some(name.strip_prefix(b"[").and_then(|n| n.strip_suffix(b"]")).unwrap_or(name));
    }
    let len = about.iter().position(|b| *b == b':')?;
    match &about[..len] {
        b"pid" => Some(b"pidfd"),
        b"signalfd" => Some(b"signalfd"),
        b"net" | b"mnt" | b"user" | b"uts" | b"ipc" | b"cgroup" | b"time" => Some(b"ns"),
        _ => None,
    }
}

/// A file decorated with its path, and, if it is a device, with what that is: `/dev/null<char 1:3>`.
fn file(w: &mut TraceWriter, about: &[u8]) -> ObjectId {
    let (path, mode, rdev) = match device(about) {
        Some((path, mode, rdev)) => (path, mode, rdev),
        None => (about, 0, 0),
    };
    let mut path = unescape(path);
    if path.starts_with(b"/memfd:") {
        let name = path.strip_suffix(b" (deleted)").unwrap_or(&path)[1..].to_vec();
        let kind = w.str(&name);
        return w.object(&Object::Anon { kind, id: 0 });
    }
    if let Some(len) = path.strip_suffix(b" (deleted)").map(<[u8]>::len) {
        path.truncate(len);
    }
    let path = w.str(&path);
    w.object(&Object::File { path, dev: 0, ino: 0, mode, rdev, size: 0 })
}

fn device(about: &[u8]) -> Option<(&[u8], u32, u64)> {
    let inner = about.strip_suffix(b">")?;
    let open = inner.iter().rposition(|b| *b == b'<')?;
    let text = std::str::from_utf8(&inner[open + 1..]).ok()?;
    let (kind, numbers) = text.split_once(' ')?;
    let mode = match kind {
        "char" => S_IFCHR,
        "block" => S_IFBLK,
        _ => return None,
    };
    let (major, minor) = numbers.split_once(':')?;
    let (major, minor): (u64, u64) = (major.parse().ok()?, minor.parse().ok()?);
    // gnu_dev_makedev.
    let rdev = (major & 0xfff) << 8 | minor & 0xff | (minor & !0xff) << 12 | (major & !0xfff) << 32;
    Some((&about[..open], mode, rdev))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_is_told_behind_its_path() {
        assert_eq!(device(b"/dev/null<char 1:3>"), Some((&b"/dev/null"[..], S_IFCHR, 0x103)));
        assert_eq!(device(b"/etc/passwd"), None);
    }

    #[test]
    fn a_socket_stays_the_same_when_it_gets_addresses() {
        assert!(is_same_socket(b"TCP:[77]", b"TCP:[1.2.3.4:5->6.7.8.9:1]"));
        assert!(is_same_socket(b"TCP:[0.0.0.0:5]", b"TCP:[1.2.3.4:5->6.7.8.9:1]"));
        assert!(!is_same_socket(b"TCP:[1.2.3.4:5->6.7.8.9:1]", b"TCP:[1.2.3.4:5->6.7.8.9:2]"));
        assert!(!is_same_socket(b"TCP:[77]", b"TCP:[78]"));
        assert!(!is_same_socket(b"/etc/passwd", b"TCP:[78]"));
    }

    #[test]
    fn the_kernel_names_anonymous_files() {
        assert_eq!(anon_kind(b"anon_inode:[eventpoll]"), Some(&b"eventpoll"[..]));
        assert_eq!(anon_kind(b"anon_inode:inotify"), Some(&b"inotify"[..]));
        assert_eq!(anon_kind(b"pid:4711"), Some(&b"pidfd"[..]));
        assert_eq!(anon_kind(b"somebody"), None);
    }
}
