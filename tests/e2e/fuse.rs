//! A file system that stops answering, as a dead network file system does: the kernel's FUSE protocol
//! (include/uapi/linux/fuse.h), in a mount namespace of the test's own thread and what it starts.

use nix::fcntl::{OFlag, open};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::{CloneFlags, unshare};
use nix::sys::stat::Mode;
use std::collections::BTreeMap;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

const HEADER: usize = 40;
const ROOT: u64 = 1;
/// Longest write, and room for its header.
const MAX_WRITE: usize = 64 << 10;
const BUFFER: usize = MAX_WRITE + (16 << 10);

/// One flat directory of files.
pub(crate) struct Fuse {
    at: PathBuf,
    hangs: Arc<AtomicBool>,
    ends: Arc<AtomicBool>,
    server: Option<std::thread::JoinHandle<()>>,
}

impl Fuse {
    /// Mounts one with these files at a directory. `None`, and it says so: this host cannot.
    pub(crate) fn mount(at: &Path, files: &[(&str, &[u8])]) -> Option<Self> {
        let skipped = |what: &str, error: nix::Error| {
            println!("skipped: {what}: {error}");
            None
        };
        let fuse =
            match open("/dev/fuse", OFlag::O_RDWR | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC, Mode::empty()) {
                Ok(fuse) => fuse,
                Err(error) => return skipped("no FUSE", error),
            };
        if let Err(error) = unshare(CloneFlags::CLONE_NEWNS) {
            return skipped("no mount namespace", error);
        }
        let private = MsFlags::MS_PRIVATE | MsFlags::MS_REC;
        mount(None::<&str>, "/", None::<&str>, private, None::<&str>).unwrap();
        let options = format!("fd={},rootmode=40000,user_id=0,group_id=0,allow_other", fuse.as_raw_fd());
        let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
        if let Err(error) = mount(Some("slow"), at, Some("fuse"), flags, Some(options.as_str())) {
            return skipped("cannot mount a FUSE file system", error);
        }
        let (hangs, ends) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let mut server = Server { fuse, files: BTreeMap::new(), next: ROOT + 1 };
        for (name, bytes) in files {
            server.add(name.as_bytes().to_vec(), 0o100_755, bytes.to_vec());
        }
        let (told_hang, told_end) = (Arc::clone(&hangs), Arc::clone(&ends));
        let server = std::thread::spawn(move || server.run(&told_hang, &told_end));
        Some(Self { at: at.to_owned(), hangs, ends, server: Some(server) })
    }

    /// From now on nothing is answered.
    pub(crate) fn hang(&self) {
        self.hangs.store(true, Ordering::Release);
    }

    /// From now on what is asked then is answered again.
    pub(crate) fn answer_again(&self) {
        self.hangs.store(false, Ordering::Release);
    }
}

impl Drop for Fuse {
    /// Whoever waits for an answer gets an error: nothing stays in an uninterruptible call.
    fn drop(&mut self) {
        let _ = umount2(&self.at, MntFlags::MNT_FORCE | MntFlags::MNT_DETACH);
        self.ends.store(true, Ordering::Release);
        // With its descriptor the connection ends, whoever still uses the mount.
        let _ = self.server.take().map(std::thread::JoinHandle::join);
    }
}

struct File {
    ino: u64,
    mode: u32,
    bytes: Vec<u8>,
}

struct Server {
    fuse: OwnedFd,
    files: BTreeMap<Vec<u8>, File>,
    next: u64,
}

type Answer = Result<Vec<u8>, i32>;

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_ne_bytes(bytes[at..at + 4].try_into().unwrap())
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_ne_bytes(bytes[at..at + 8].try_into().unwrap())
}

fn words(words: &[u64]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_ne_bytes()).collect()
}

/// Up to a NUL.
fn name(bytes: &[u8]) -> Vec<u8> {
    bytes.split(|b| *b == 0).next().unwrap_or_default().to_vec()
}

/// `struct fuse_attr`.
fn attr(ino: u64, mode: u32, size: u64) -> Vec<u8> {
    let mut out = words(&[ino, size, size.div_ceil(512), 0, 0, 0]);
    for word in [0, 0, 0, mode, 1, 0, 0, 0, 4096, 0_u32] {
        out.extend(word.to_ne_bytes());
    }
    out
}

fn entry(file: &File) -> Vec<u8> {
    let mut out = words(&[file.ino, 1, 0, 0, 0]);
    out.extend(attr(file.ino, file.mode, file.bytes.len() as u64));
    out
}

impl Server {
    fn add(&mut self, name: Vec<u8>, mode: u32, bytes: Vec<u8>) {
        self.files.insert(name, File { ino: self.next, mode, bytes });
        self.next += 1;
    }

    fn of_ino(&mut self, ino: u64) -> Result<&mut File, i32> {
        self.files.values_mut().find(|file| file.ino == ino).ok_or(libc::ENOENT)
    }

    fn run(mut self, hangs: &AtomicBool, ends: &AtomicBool) {
        /// However a test goes on, nothing hangs for longer.
        const LONGEST: Duration = Duration::from_secs(120);
        let began = Instant::now();
        let mut buffer = vec![0; BUFFER];
        while !ends.load(Ordering::Acquire) && began.elapsed() < LONGEST {
            let mut fds = [PollFd::new(self.fuse.as_fd(), PollFlags::POLLIN)];
            let _ = poll(&mut fds, PollTimeout::from(20_u16));
            let len = match nix::unistd::read(&self.fuse, &mut buffer) {
                Ok(len) if len >= HEADER => len,
                Err(nix::Error::EAGAIN | nix::Error::EINTR | nix::Error::ENOENT) => continue,
                _ => return,
            };
            if hangs.load(Ordering::Acquire) {
                continue;
            }
            let request = &buffer[..len];
            let (opcode, unique, node) = (u32_at(request, 4), u64_at(request, 8), u64_at(request, 16));
            // FORGET, BATCH_FORGET, INTERRUPT want no answer.
            if matches!(opcode, 2 | 36 | 42) {
                continue;
            }
            let (error, body) = match self.answer(opcode, node, &request[HEADER..]) {
                Ok(body) => (0, body),
                Err(errno) => (-errno, Vec::new()),
            };
            let mut answer = ((16 + body.len()) as u32).to_ne_bytes().to_vec();
            answer.extend(error.to_ne_bytes());
            answer.extend(unique.to_ne_bytes());
            answer.extend(body);
            // ENOENT: whoever asked was interrupted.
            let _ = nix::unistd::write(&self.fuse, &answer);
        }
    }

    fn answer(&mut self, opcode: u32, node: u64, body: &[u8]) -> Answer {
        let opened = || words(&[1, 0]);
        match opcode {
            // LOOKUP
            1 => self.files.get(&name(body)).map(entry).ok_or(libc::ENOENT),
            // GETATTR, SETATTR
            3 | 4 => {
                let attr = if node == ROOT {
                    attr(ROOT, 0o40_755, 0)
                } else {
                    let file = self.of_ino(node)?;
                    // FATTR_SIZE
                    if opcode == 4 && u32_at(body, 0) & 8 != 0 {
                        file.bytes.resize(u64_at(body, 16) as usize, 0);
                    }
                    attr(file.ino, file.mode, file.bytes.len() as u64)
                };
                let mut out = words(&[0, 0]);
                out.extend(attr);
                Ok(out)
            }
            // RENAME, RENAME2
            12 | 45 => {
                let names = &body[if opcode == 12 { 8 } else { 16 }..];
                let old = name(names);
                let file = self.files.remove(&old).ok_or(libc::ENOENT)?;
                self.files.insert(name(&names[old.len() + 1..]), file);
                Ok(Vec::new())
            }
            // OPEN, OPENDIR
            14 | 27 => Ok(opened()),
            // READ
            15 => {
                let bytes = &self.of_ino(node)?.bytes;
                let from = (u64_at(body, 8) as usize).min(bytes.len());
                let to = (from + u32_at(body, 16) as usize).min(bytes.len());
                Ok(bytes[from..to].to_vec())
            }
            // WRITE
            16 => {
                let (at, len) = (u64_at(body, 8) as usize, u32_at(body, 16) as usize);
                let bytes = &mut self.of_ino(node)?.bytes;
                bytes.resize(bytes.len().max(at + len), 0);
                bytes[at..at + len].copy_from_slice(&body[40..40 + len]);
                Ok(words(&[len as u64]))
            }
            // RELEASE, FSYNC, FLUSH, RELEASEDIR, FSYNCDIR
            18 | 20 | 25 | 29 | 30 | 28 => Ok(Vec::new()),
            // INIT: version 7.31, no read-ahead.
            26 => {
                let mut out = Vec::new();
                for word in [7, 31, 0, 0, 0, MAX_WRITE as u32, 1, 0] {
                    out.extend(word.to_ne_bytes());
                }
                out.resize(64, 0);
                Ok(out)
            }
            // CREATE
            35 => {
                let new = name(&body[16..]);
                self.add(new.clone(), 0o100_000 | u32_at(body, 4) & 0o777, Vec::new());
                let mut out = entry(&self.files[&new]);
                out.extend(opened());
                Ok(out)
            }
            // POLL: readable
            40 => Ok(words(&[1])),
            _ => Err(libc::ENOSYS),
        }
    }
}
