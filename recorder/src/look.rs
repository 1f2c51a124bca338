//! Looks at the target that may never end: what a process of its own ([`Aside`]) asks the kernel for, with a deadline.
//!
//! | look | waits for |
//! |---|---|
//! | `stat` of what is behind a descriptor | the file system's server: `d_weak_revalidate`, and `getattr` of one that does not keep to `AT_STATX_DONT_SYNC` |
//! | `/proc/PID/cmdline`, memory | pages that lie in a file (fs/proc/base.c: `get_mm_cmdline`; `process_vm_readv`) |
//! | `/proc/PID/maps`, memory | `mmap_lock`, which an `mmap` or page fault of the target's may hold while it waits for a file system |
//! | `/proc/PID/syscall`, `/proc/PID/io`, sockets, memory | `exec_update_lock`, which an `execve` holds while it closes files |
//! | `/proc/PID/fdinfo/N` of an epoll | its mutex, held while files that it watches are polled |
//! | socket options | the socket's lock, held while a sender's buffer is copied from such a page |
//!
//! All else that the recorder asks of `/proc` takes spin locks only, and does not come near a file system: `stat`,
//! `status`, `comm`, `limits`, `cgroup`, `task`, names of descriptors (`d_path`), `net/*`.
//!
//! A process that hangs is given up. What it hung in is not asked about again: one dead server has many files. There are
//! [`LOOKERS`] of them, so at most as many are left behind, and at most so often [`PATIENCE`] passes.

use crate::aside::Aside;
use crate::caps;
use crate::pipeline::go_first;
use crate::sockets;
use nix::sys::uio::{RemoteIoVec, process_vm_readv};
use nix::unistd::Pid;
use std::collections::BTreeSet;
use std::io::{self, IoSliceMut, Read as _, Write as _};
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::net::UnixStream;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Processes that look: one for each thread that may want one, and some that may hang.
const LOOKERS: usize = 5;
/// How long an answer may take, without a CPU for the process that looks included.
const PATIENCE: Duration = Duration::from_millis(400);
/// Asked at once: the questions fit into a socket's buffer, so that asking never waits.
const AT_ONCE: usize = 64;
/// Longest answer.
const MAX_ANSWER: usize = 64 << 20;

/// A question about a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Look {
    /// The contents of `/proc/TGID/cmdline`.
    Arguments { tgid: u32 },
    /// The contents of `/proc/TGID/maps`.
    Mappings { tgid: u32 },
    /// The contents of `/proc/TGID/io`.
    Io { tgid: u32 },
    /// The contents of `/proc/TGID/task/TID/syscall`.
    Call { tgid: u32, tid: u32 },
    /// The contents of `/proc/TGID/fdinfo/FD`.
    Descriptor { tgid: u32, fd: u32 },
    /// What `stat` says of the file behind a descriptor: [`File`]. `mount`: where it lies, by its number.
    File { tgid: u32, fd: u32, mount: u64 },
    /// See [`sockets::ask`].
    Socket { tgid: u32, fd: u32 },
    /// Memory of a thread: all of it or nothing.
    Memory { tid: u32, base: u64, len: u32 },
    /// The contents of `stat`, `wchan` and `sched` in `/proc/TGID/task/TID`: [`Thread`].
    Thread { tgid: u32, tid: u32 },
    /// The name of what is behind a descriptor.
    Name { tgid: u32, fd: u32 },
    /// The names of what is behind all descriptors: [`names`].
    Names { tgid: u32 },
}

/// What a look may hang in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    /// The memory or the state of a process.
    Process(u32),
    /// One descriptor.
    Descriptor(u32, u32),
    /// A mounted file system.
    Mount(u64),
}

/// The answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Seen {
    /// This is it.
    Is(Vec<u8>),
    /// There is nothing (any more), or it is not for us.
    Nothing,
    /// None came: whatever it is, it is not known.
    Unanswered,
}

impl Seen {
    /// What is known; `None` otherwise.
    pub(crate) fn known(self) -> Option<Vec<u8>> {
        if let Self::Is(bytes) = self { Some(bytes) } else { None }
    }
}

/// What `stat` says of a file.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct File {
    pub(crate) mode: u32,
    pub(crate) dev: u64,
    pub(crate) ino: u64,
    pub(crate) size: u64,
    pub(crate) rdev: u64,
}

impl File {
    /// From the answer to [`Look::File`].
    pub(crate) fn read(bytes: &[u8]) -> Option<Self> {
        let [mode, dev, ino, size, rdev] = words(bytes)?;
        Some(Self { mode: mode as u32, dev, ino, size, rdev })
    }
}

/// What `/proc` says of a thread.
pub(crate) struct Thread<'a> {
    pub(crate) stat: &'a [u8],
    pub(crate) wchan: &'a [u8],
    pub(crate) sched: &'a [u8],
}

impl<'a> Thread<'a> {
    /// From the answer to [`Look::Thread`].
    pub(crate) fn read(bytes: &'a [u8]) -> Option<Self> {
        let [stat, wchan] = words(bytes)?;
        let (stat, rest) = bytes.get(16..)?.split_at_checked(stat as usize)?;
        let (wchan, sched) = rest.split_at_checked(wchan as usize)?;
        Some(Self { stat, wchan, sched })
    }
}

/// Descriptors and names, from the answer to [`Look::Names`].
pub(crate) fn names(mut bytes: &[u8]) -> Vec<(u32, Vec<u8>)> {
    let mut names = Vec::new();
    while let Some([fd, len]) = words(bytes)
        && let Some(name) = bytes.get(16..).and_then(|rest| rest.get(..len as usize))
    {
        names.push((fd as u32, name.to_vec()));
        bytes = &bytes[16 + name.len()..];
    }
    names
}

/// The first words of an answer.
pub(crate) fn words<const N: usize>(bytes: &[u8]) -> Option<[u64; N]> {
    let mut words = [0; N];
    for (word, bytes) in words.iter_mut().zip(bytes.get(..N * 8)?.chunks_exact(8)) {
        *word = u64::from_ne_bytes(bytes.try_into().ok()?);
    }
    Some(words)
}

/// A question as bytes: which, and its numbers.
type Asked = [u64; 4];
const ASKED: usize = size_of::<Asked>();

impl Look {
    const fn numbers(self) -> Asked {
        match self {
            Self::Arguments { tgid } => [0, tgid as u64, 0, 0],
            Self::Mappings { tgid } => [1, tgid as u64, 0, 0],
            Self::Io { tgid } => [2, tgid as u64, 0, 0],
            Self::Call { tgid, tid } => [3, tgid as u64, tid as u64, 0],
            Self::Descriptor { tgid, fd } => [4, tgid as u64, fd as u64, 0],
            Self::File { tgid, fd, mount } => [5, tgid as u64, fd as u64, mount],
            Self::Socket { tgid, fd } => [6, tgid as u64, fd as u64, 0],
            Self::Memory { tid, base, len } => [7, tid as u64, base, len as u64],
            Self::Thread { tgid, tid } => [8, tgid as u64, tid as u64, 0],
            Self::Name { tgid, fd } => [9, tgid as u64, fd as u64, 0],
            Self::Names { tgid } => [10, tgid as u64, 0, 0],
        }
    }

    const fn of_numbers(numbers: Asked) -> Option<Self> {
        let [which, a, b, c] = numbers;
        let (tgid, fd) = (a as u32, b as u32);
        Some(match which {
            0 => Self::Arguments { tgid },
            1 => Self::Mappings { tgid },
            2 => Self::Io { tgid },
            3 => Self::Call { tgid, tid: b as u32 },
            4 => Self::Descriptor { tgid, fd },
            5 => Self::File { tgid, fd, mount: c },
            6 => Self::Socket { tgid, fd },
            7 => Self::Memory { tid: tgid, base: b, len: c as u32 },
            8 => Self::Thread { tgid, tid: b as u32 },
            9 => Self::Name { tgid, fd },
            10 => Self::Names { tgid },
            _ => return None,
        })
    }

    const fn place(self) -> Place {
        match self {
            Self::Arguments { tgid }
            | Self::Mappings { tgid }
            | Self::Io { tgid }
            | Self::Thread { tgid, .. }
            | Self::Names { tgid }
            | Self::Call { tgid, .. } => Place::Process(tgid),
            Self::Memory { tid, .. } => Place::Process(tid),
            Self::Descriptor { tgid, fd } | Self::Socket { tgid, fd } | Self::Name { tgid, fd } => {
                Place::Descriptor(tgid, fd)
            }
            Self::File { mount, .. } => Place::Mount(mount),
        }
    }

    /// Makes the call. This is what may hang.
    fn make(self) -> io::Result<Vec<u8>> {
        match self {
            Self::Arguments { tgid } => contents(&format!("/proc/{tgid}/cmdline")),
            Self::Mappings { tgid } => contents(&format!("/proc/{tgid}/maps")),
            Self::Io { tgid } => contents(&format!("/proc/{tgid}/io")),
            Self::Call { tgid, tid } => contents(&format!("/proc/{tgid}/task/{tid}/syscall")),
            Self::Descriptor { tgid, fd } => contents(&format!("/proc/{tgid}/fdinfo/{fd}")),
            Self::File { tgid, fd, .. } => stat(&format!("/proc/{tgid}/fd/{fd}\0")),
            Self::Socket { tgid, fd } => sockets::ask(tgid, fd),
            Self::Memory { tid, base, len } => memory(tid, base, len),
            Self::Thread { tgid, tid } => thread(&format!("/proc/{tgid}/task/{tid}")),
            Self::Name { tgid, fd } => name(&format!("/proc/{tgid}/fd/{fd}")),
            Self::Names { tgid } => all_names(tgid),
        }
    }
}

fn thread(folder: &str) -> io::Result<Vec<u8>> {
    let stat = contents(&format!("{folder}/stat"))?;
    // Kernels are built without these, or keep them to themselves.
    let wchan = contents(&format!("{folder}/wchan")).unwrap_or_default();
    let sched = contents(&format!("{folder}/sched")).unwrap_or_default();
    let lengths = [stat.len() as u64, wchan.len() as u64];
    let lengths = lengths.iter().flat_map(|len| len.to_ne_bytes());
    Ok(lengths.chain(stat).chain(wchan).chain(sched).collect())
}

fn name(path: &str) -> io::Result<Vec<u8>> {
    Ok(std::fs::read_link(path)?.into_os_string().into_vec())
}

fn all_names(tgid: u32) -> io::Result<Vec<u8>> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(format!("/proc/{tgid}/fd"))? {
        let Some(fd) = entry?.file_name().to_str().and_then(|fd| fd.parse::<u64>().ok()) else { continue };
        // It may have been closed in between.
        let Ok(name) = name(&format!("/proc/{tgid}/fd/{fd}")) else { continue };
        if all.len() + name.len() + 16 > MAX_ANSWER {
            break;
        }
        all.extend_from_slice(&fd.to_ne_bytes());
        all.extend_from_slice(&(name.len() as u64).to_ne_bytes());
        all.extend_from_slice(&name);
    }
    Ok(all)
}

fn contents(path: &str) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    std::fs::File::open(path)?.take(MAX_ANSWER as u64).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// What the kernel knows of a file, without a question to the file system's server where it can be helped.
fn stat(path: &str) -> io::Result<Vec<u8>> {
    // SAFETY: all zeros is a valid statx.
    let mut found: libc::statx = unsafe { std::mem::zeroed() };
    // SAFETY: a NUL-terminated path, and a structure to write to.
    let r = unsafe {
        libc::statx(
            libc::AT_FDCWD,
            path.as_ptr().cast(),
            libc::AT_STATX_DONT_SYNC,
            libc::STATX_BASIC_STATS,
            &raw mut found,
        )
    };
    if r != 0 {
        return Err(io::Error::last_os_error());
    }
    let words = [
        u64::from(found.stx_mode),
        libc::makedev(found.stx_dev_major, found.stx_dev_minor),
        found.stx_ino,
        found.stx_size,
        libc::makedev(found.stx_rdev_major, found.stx_rdev_minor),
    ];
    Ok(words.iter().flat_map(|word| word.to_ne_bytes()).collect())
}

fn memory(tid: u32, base: u64, len: u32) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; (len as usize).min(MAX_ANSWER)];
    let remote = RemoteIoVec { base: base as usize, len: bytes.len() };
    let read = process_vm_readv(Pid::from_raw(tid as i32), &mut [IoSliceMut::new(&mut bytes)], &[remote])?;
    if read == bytes.len() { Ok(bytes) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

/// The process that looks.
fn serve(mut stream: UnixStream) {
    go_first();
    // What it lacks then it would have lacked before.
    let _ = caps::keep_only(&caps::SNAPSHOT);
    let mut asked = [0; ASKED];
    while stream.read_exact(&mut asked).is_ok() {
        let Some(look) = words(&asked).and_then(Look::of_numbers) else { return };
        let (found, bytes) = match look.make() {
            Ok(bytes) => (1_u64, bytes),
            Err(_) => (0, Vec::new()),
        };
        let mut answer = Vec::with_capacity(16 + bytes.len());
        answer.extend_from_slice(&found.to_ne_bytes());
        answer.extend_from_slice(&(bytes.len() as u64).to_ne_bytes());
        answer.extend_from_slice(&bytes);
        if stream.write_all(&answer).is_err() {
            return;
        }
    }
}

/// See the module.
pub(crate) struct Looker {
    idle: Mutex<Vec<Aside>>,
    /// What does not answer.
    dead: Mutex<BTreeSet<Place>>,
}

impl Looker {
    /// Starts the processes: before anything of the recording is there that they would share.
    pub(crate) fn start() -> io::Result<Self> {
        let idle = (0..LOOKERS).map(|_| Aside::start(c"ctrace-look", serve)).collect::<io::Result<_>>()?;
        Ok(Self { idle: Mutex::new(idle), dead: Mutex::default() })
    }

    /// Looks at all of these; an answer for each.
    pub(crate) fn look_at(&self, looks: &[Look]) -> Vec<Seen> {
        let mut seen = Vec::with_capacity(looks.len());
        while seen.len() < looks.len() {
            let one = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
            let Some(one) = one else {
                seen.resize(looks.len(), Seen::Unanswered);
                break;
            };
            if self.ask(&one, looks, &mut seen).is_ok() {
                self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(one);
                continue;
            }
            one.give_up();
            // It hung in the first of those that it has not answered.
            if let Some(look) = looks.get(seen.len()) {
                tracing::warn!(?look, "no answer");
                self.dead.lock().unwrap_or_else(PoisonError::into_inner).insert(look.place());
                seen.push(Seen::Unanswered);
            }
        }
        seen
    }

    fn is_dead(&self, look: Look) -> bool {
        self.dead.lock().unwrap_or_else(PoisonError::into_inner).contains(&look.place())
    }

    /// Gets the next answers, as far as they come.
    fn ask(&self, one: &Aside, looks: &[Look], seen: &mut Vec<Seen>) -> io::Result<()> {
        let mut stream = one.stream();
        stream.set_read_timeout(Some(PATIENCE))?;
        while seen.len() < looks.len() {
            let mut wanted = Vec::with_capacity(AT_ONCE);
            let mut bytes = Vec::with_capacity(AT_ONCE * ASKED);
            for look in looks[seen.len()..].iter().take(AT_ONCE) {
                let dead = self.is_dead(*look);
                wanted.push(!dead);
                if !dead {
                    bytes.extend(look.numbers().iter().flat_map(|number| number.to_ne_bytes()));
                }
            }
            stream.write_all(&bytes)?;
            for wanted in wanted {
                seen.push(if wanted { answer(stream)? } else { Seen::Unanswered });
            }
        }
        Ok(())
    }
}

fn answer(mut stream: &UnixStream) -> io::Result<Seen> {
    let mut head = [0; 16];
    stream.read_exact(&mut head)?;
    let [found, len] = words(&head).ok_or(io::ErrorKind::InvalidData)?;
    let mut bytes = vec![0; usize::try_from(len).unwrap_or(usize::MAX).min(MAX_ANSWER)];
    stream.read_exact(&mut bytes)?;
    Ok(if found == 1 { Seen::Is(bytes) } else { Seen::Nothing })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsRawFd as _;
    use std::os::unix::fs::MetadataExt as _;

    #[test]
    fn questions_survive_the_way() {
        for look in [
            Look::Arguments { tgid: 1 },
            Look::Mappings { tgid: 2 },
            Look::Io { tgid: 3 },
            Look::Call { tgid: 4, tid: 5 },
            Look::Descriptor { tgid: 6, fd: 7 },
            Look::File { tgid: 8, fd: 9, mount: 10 },
            Look::Socket { tgid: 11, fd: 12 },
            Look::Memory { tid: 13, base: u64::MAX, len: u32::MAX },
            Look::Thread { tgid: 14, tid: 15 },
            Look::Name { tgid: 16, fd: 17 },
            Look::Names { tgid: 18 },
        ] {
            assert_eq!(Look::of_numbers(look.numbers()), Some(look));
        }
        assert_eq!(Look::of_numbers([11, 0, 0, 0]), None);
    }

    #[test]
    fn answers_come_in_the_order_of_the_questions_and_are_right() {
        let looker = Looker::start().unwrap();
        let tgid = std::process::id();
        let file = std::fs::File::open(std::env::current_exe().unwrap()).unwrap();
        let fd = file.as_raw_fd() as u32;
        let word = 0x1234_5678_9abc_def0_u64;
        let mut looks = vec![
            Look::Arguments { tgid },
            Look::File { tgid, fd, mount: 0 },
            Look::Descriptor { tgid, fd: 9999 },
            Look::Memory { tid: tgid, base: (&raw const word) as u64, len: 8 },
        ];
        // More than are asked at once.
        looks.extend(std::iter::repeat_n(Look::Descriptor { tgid, fd }, 3 * AT_ONCE));
        let seen = looker.look_at(&looks);
        assert_eq!(seen.len(), looks.len());
        assert_eq!(seen[0], Seen::Is(std::fs::read("/proc/self/cmdline").unwrap()));
        let found = file.metadata().unwrap();
        let expected = File {
            mode: found.mode(),
            dev: found.dev(),
            ino: found.ino(),
            size: found.size(),
            rdev: found.rdev(),
        };
        let Seen::Is(stat) = &seen[1] else { panic!("{:?}", seen[1]) };
        assert_eq!(File::read(stat), Some(expected));
        assert_eq!(seen[2], Seen::Nothing);
        assert_eq!(seen[3], Seen::Is(word.to_ne_bytes().to_vec()));
        for seen in &seen[4..] {
            let Seen::Is(info) = seen else { panic!("{seen:?}") };
            assert!(String::from_utf8_lossy(info).contains("pos:"));
        }
    }
}
