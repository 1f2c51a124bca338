//! The disk, behind a process of its own ([`Aside`]): a file system that does not answer must not keep the recorder.
//!
//! Whoever writes waits for the answers, but in a call that any signal ends; whoever ends the recording looks at
//! [`Disk::progress`], and gives up when it stands still. Then the process that writes is left behind: what it was told to
//! write is written if the disk ever answers.
//!
//! Room for the end of a trace is kept by `fallocate` behind its last byte, so that a disk which others fill does not
//! cost more than what comes after.

use crate::aside::Aside;
use crate::caps::{self, Cap};
use crate::look::words;
use crate::pipeline::go_first;
use ctrace_format::{OutFile, Sink, Taken, WriteError};
use nix::fcntl::{FallocateFlags, fallocate};
use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit};
use std::ffi::OsString;
use std::io::{self, Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Written at once: so that a slow disk is seen to be no dead one.
const PIECE: usize = 64 << 10;
/// A disk that makes so many bytes of a file durable in a second is slow, not dead.
const SLOWEST: u64 = 8 << 20;
/// How long a disk may take for anything before the recording has begun.
const START_PATIENCE: Duration = Duration::from_secs(5);
/// Bytes that are reserved beyond those that are needed now.
const STEP: u64 = 256 << 10;

/// What is asked of the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u64)]
enum Op {
    /// Can files of this name, and those after it, be made?
    Check,
    /// Begin this file.
    Create,
    /// Begin the file of this name, or the first free one after it, whatever has the others.
    CreateFree,
    Write,
    Reserve,
    Cut,
    Sync,
    Publish,
    /// Leave the file as it is.
    Close,
    /// Remove what was begun.
    Discard,
    /// How much room is there in the file system of this file?
    Room,
    /// Is there a file of this name (1), and may it be executed (2)?
    IsProgram,
}

impl Op {
    const ALL: [Self; 12] = [
        Self::Check,
        Self::Create,
        Self::CreateFree,
        Self::Write,
        Self::Reserve,
        Self::Cut,
        Self::Sync,
        Self::Publish,
        Self::Close,
        Self::Discard,
        Self::Room,
        Self::IsProgram,
    ];
}

/// The process, seen from here.
pub(crate) struct Disk {
    aside: Mutex<Aside>,
    progress: AtomicU64,
    /// An answer is waited for.
    waits: AtomicBool,
    /// How long the call that goes on may take longer than another, ms.
    allowance_ms: AtomicU64,
}

/// An error with what was attempted, on which file.
struct Refused {
    action: String,
    path: PathBuf,
    source: io::Error,
}

/// What is attempted of a file, as its errors say it.
const ACTIONS: [&str; 9] = [
    "creating",
    "opening",
    "locking",
    "removing",
    "moving aside",
    "renaming",
    "syncing",
    "dumping to",
    "writing",
];

impl From<Refused> for WriteError {
    fn from(refused: Refused) -> Self {
        let Refused { action, path, source } = refused;
        let action = ACTIONS.into_iter().find(|known| *known == action).unwrap_or("writing");
        Self::Io { action, path, source }
    }
}

impl Disk {
    /// Starts the process. `directory`: where files will be written; `taken`: what to do where a name is.
    pub(crate) fn start(directory: &Path, taken: Taken) -> io::Result<Self> {
        let aside = Aside::start(c"ctrace-disk", move |stream| serve(stream, directory, &taken))?;
        aside.stream().set_read_timeout(Some(START_PATIENCE))?;
        Ok(Self {
            aside: Mutex::new(aside),
            progress: AtomicU64::new(0),
            waits: AtomicBool::new(false),
            allowance_ms: AtomicU64::new(0),
        })
    }

    /// The recording goes on from here: whoever ends it looks at [`Disk::progress`], and nobody else minds a slow disk.
    pub(crate) fn started(&self) {
        let aside = self.aside.lock().unwrap_or_else(PoisonError::into_inner);
        // It takes any time limit but 0.
        let _ = aside.stream().set_read_timeout(None);
    }

    /// Grows with every answer.
    pub(crate) fn progress(&self) -> u64 {
        self.progress.load(Ordering::Acquire)
    }

    /// Whether an answer is waited for now.
    pub(crate) fn is_asked(&self) -> bool {
        self.waits.load(Ordering::Acquire)
    }

    /// How long what goes on may take longer than a call usually does.
    pub(crate) fn allowance(&self) -> Duration {
        Duration::from_millis(self.allowance_ms.load(Ordering::Acquire))
    }

    /// Something is waited for that is no disk, until the answer is dropped.
    pub(crate) fn waiting(&self) -> Waiting<'_> {
        self.waits.store(true, Ordering::Release);
        Waiting(self)
    }

    fn ask(&self, op: Op, number: u64, payload: &[u8]) -> Result<(u64, Vec<u8>), Refused> {
        let aside = self.aside.lock().unwrap_or_else(PoisonError::into_inner);
        self.waits.store(true, Ordering::Release);
        let answer = (|| {
            let mut stream = aside.stream();
            let mut head = Vec::with_capacity(24);
            for word in [op as u64, number, payload.len() as u64] {
                head.extend_from_slice(&word.to_ne_bytes());
            }
            stream.write_all(&head)?;
            stream.write_all(payload)?;
            read_answer(stream)
        })();
        self.waits.store(false, Ordering::Release);
        self.progress.fetch_add(1, Ordering::AcqRel);
        answer.unwrap_or_else(|source| {
            let (kind, what) = match source.kind() {
                kind @ (io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                    (kind, "the disk does not answer")
                }
                // Not that of its pipe: a broken pipe is a reader of the output who has read enough.
                _ => (io::ErrorKind::Other, "the process that writes has ended"),
            };
            let source = io::Error::new(kind, what);
            let named = matches!(op, Op::Check | Op::Create | Op::CreateFree);
            let path =
                if named { PathBuf::from(OsString::from_vec(payload.to_vec())) } else { PathBuf::new() };
            Err(Refused { action: "creating".into(), path, source })
        })
    }

    /// Whether a file of this name can be made, or one of those after it.
    pub(crate) fn check(&self, path: &Path) -> Result<(), WriteError> {
        self.ask(Op::Check, 0, path.as_os_str().as_bytes())?;
        Ok(())
    }

    /// Bytes that are free in the file system of this file; `None`: it does not tell.
    pub(crate) fn room(&self, path: &Path) -> Option<u64> {
        self.ask(Op::Room, 0, path.as_os_str().as_bytes()).ok().map(|(free, _)| free)
    }

    /// Whether what has this name can be executed; `None`: nothing has it. A directory of `PATH` may not answer either.
    pub(crate) fn is_program(&self, path: &Path) -> Option<bool> {
        let (found, _) = self.ask(Op::IsProgram, 0, path.as_os_str().as_bytes()).ok()?;
        (found > 0).then_some(found == 2)
    }

    /// Begins a file, as [`OutFile::create`] as [`Disk::start`] was told. `free`: under the next free name, if this one is taken.
    pub(crate) fn create(self: &Arc<Self>, path: &Path, free: bool) -> Result<DiskFile, WriteError> {
        let op = if free { Op::CreateFree } else { Op::Create };
        let (_, answer) = self.ask(op, 0, path.as_os_str().as_bytes())?;
        let mut parts = answer.splitn(2, |byte| *byte == 0);
        let path = PathBuf::from(OsString::from_vec(parts.next().unwrap_or_default().to_vec()));
        let remark = parts.next().map(|text| String::from_utf8_lossy(text).into_owned());
        Ok(DiskFile { disk: Arc::clone(self), path, remark, unsynced: 0 })
    }

    /// Removes the unfinished file.
    pub(crate) fn discard(&self) {
        // What is left is an empty trace, which says so.
        let _ = self.ask(Op::Discard, 0, &[]);
    }
}

/// See [`Disk::waiting`].
pub(crate) struct Waiting<'a>(&'a Disk);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waits.store(false, Ordering::Release);
        self.0.progress.fetch_add(1, Ordering::AcqRel);
    }
}

fn read_answer(mut stream: &UnixStream) -> io::Result<Result<(u64, Vec<u8>), Refused>> {
    let mut head = [0; 40];
    stream.read_exact(&mut head)?;
    let [refused, number, first, second, third] = words(&head).ok_or(io::ErrorKind::InvalidData)?;
    let mut part = |len: u64| {
        let mut bytes = vec![0; (len as usize).min(1 << 20)];
        stream.read_exact(&mut bytes).map(|()| bytes)
    };
    let (first, second, third) = (part(first)?, part(second)?, part(third)?);
    if refused == 0 {
        return Ok(Ok((number, first)));
    }
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    let source = match i32::try_from(number) {
        Ok(errno) if errno != 0 => io::Error::from_raw_os_error(errno),
        _ => io::Error::other(text(third)),
    };
    let path = PathBuf::from(OsString::from_vec(second));
    Ok(Err(Refused { action: text(first), path, source }))
}

/// A file that the process writes.
pub(crate) struct DiskFile {
    disk: Arc<Disk>,
    /// The name that it will have.
    path: PathBuf,
    /// Why it is not the one that was asked for.
    remark: Option<String>,
    unsynced: u64,
}

impl Drop for DiskFile {
    /// One that was not finished is let go of, for whoever wants to read it.
    fn drop(&mut self) {
        let _ = self.disk.ask(Op::Close, 0, &[]);
    }
}

impl DiskFile {
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// See [`OutFile::remark`].
    pub(crate) fn remark(&self) -> Option<&str> {
        self.remark.as_deref()
    }

    fn ask(&self, op: Op, number: u64, payload: &[u8]) -> io::Result<u64> {
        self.disk.ask(op, number, payload).map(|(number, _)| number).map_err(|refused| refused.source)
    }
}

impl io::Write for DiskFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = self.ask(Op::Write, 0, &bytes[..bytes.len().min(PIECE)])?;
        self.unsynced += taken;
        Ok(taken as usize)
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Sink for DiskFile {
    fn sync(&mut self) -> io::Result<()> {
        let allowance_ms = self.unsynced.saturating_mul(1000) / SLOWEST;
        self.disk.allowance_ms.store(allowance_ms, Ordering::Release);
        let synced = self.ask(Op::Sync, 0, &[]);
        self.disk.allowance_ms.store(0, Ordering::Release);
        self.unsynced = 0;
        synced.map(drop)
    }

    fn reserve(&mut self, bytes: u64) -> io::Result<()> {
        self.ask(Op::Reserve, bytes, &[]).map(drop)
    }

    fn cut(&mut self, len: u64) -> io::Result<()> {
        self.ask(Op::Cut, len, &[]).map(drop)
    }

    fn publish(&mut self) -> Result<Option<PathBuf>, WriteError> {
        let (_, path) = self.disk.ask(Op::Publish, 0, &[])?;
        Ok(Some(PathBuf::from(OsString::from_vec(path))))
    }
}

/// In the process: the file that is written, if one is.
struct Open {
    file: OutFile,
    written: u64,
    /// Up to where room is reserved.
    reserved: u64,
    /// The file system cannot reserve any.
    cannot_reserve: bool,
}

/// What an operation answers: a number and a name.
type Answer = Result<(u64, Vec<u8>), Refused>;

/// The process that writes.
fn serve(mut stream: UnixStream, directory: &Path, taken: &Taken) {
    go_first();
    let _ = caps::keep_only(&[Cap::DacOverride]);
    caps::drop_unless_needed(Cap::DacOverride, || caps::can_write_to(directory));
    let mut open: Option<Open> = None;
    let mut head = [0; 24];
    while stream.read_exact(&mut head).is_ok() {
        let Some([op, number, len]) = words(&head) else { return };
        let mut payload = vec![0; (len as usize).min(1 << 20)];
        // Cut off: whoever asked is gone.
        if stream.read_exact(&mut payload).is_err() {
            return;
        }
        let Some(op) = Op::ALL.into_iter().find(|known| *known as u64 == op) else { return };
        let (refused, number, parts) = match carry_out(op, number, payload, taken, &mut open) {
            Ok((number, name)) => (0, number, [name, Vec::new(), Vec::new()]),
            Err(Refused { action, path, source }) => {
                let errno = source.raw_os_error().unwrap_or(0) as u64;
                let path = path.into_os_string().into_vec();
                (1, errno, [action.into_bytes(), path, source.to_string().into_bytes()])
            }
        };
        let mut answer = Vec::new();
        for word in [refused, number].into_iter().chain(parts.iter().map(|part| part.len() as u64)) {
            answer.extend_from_slice(&word.to_ne_bytes());
        }
        answer.extend(parts.concat());
        if stream.write_all(&answer).is_err() {
            return;
        }
    }
}

fn carry_out(op: Op, number: u64, payload: Vec<u8>, taken: &Taken, open: &mut Option<Open>) -> Answer {
    let path_of = |bytes: Vec<u8>| PathBuf::from(OsString::from_vec(bytes));
    match op {
        Op::Check => {
            let path = path_of(payload);
            OutFile::check(&path)?;
            writable(&path).map_err(|source| Refused { action: "dumping to".into(), path, source })?;
            return Ok((0, Vec::new()));
        }
        Op::IsProgram => {
            let path = path_of(payload);
            let runs = || nix::unistd::access(&path, nix::unistd::AccessFlags::X_OK).is_ok();
            return Ok((
                path.metadata().map_or(0, |found| 1 + u64::from(found.is_file() && runs())),
                Vec::new(),
            ));
        }
        Op::Room => {
            let path = path_of(payload);
            let room = nix::sys::statvfs::statvfs(&parent(&path));
            let room = room.map_err(|e| Refused { action: "writing".into(), path, source: e.into() })?;
            return Ok((room.blocks_available().saturating_mul(room.fragment_size()), Vec::new()));
        }
        Op::Create | Op::CreateFree => {
            let path = path_of(payload);
            let taken = if op == Op::CreateFree { &Taken::Any } else { taken };
            let file = OutFile::create(&path, taken).map_err(Refused::from)?;
            // Its name and what is to be said of it; no name has a NUL.
            let mut answer = file.path().as_os_str().as_bytes().to_vec();
            if let Some(remark) = file.remark() {
                answer.push(0);
                answer.extend_from_slice(remark.as_bytes());
            }
            *open = Some(Open { file, written: 0, reserved: 0, cannot_reserve: false });
            return Ok((0, answer));
        }
        Op::Close => {
            *open = None;
            return Ok((0, Vec::new()));
        }
        _ => {}
    }
    let Some(file) = open else {
        let source = io::Error::from_raw_os_error(libc::EBADF);
        return Err(Refused { action: "writing".into(), path: PathBuf::new(), source });
    };
    let done = match op {
        Op::Write => file.write(&payload),
        Op::Reserve => file.reserve(number).map(|()| 0),
        Op::Cut => file.cut(number).map(|()| 0),
        Op::Sync => file.sync().map(|()| 0),
        Op::Discard => std::fs::remove_file(file.file.partial_path()).map(|()| 0),
        _ => {
            let path = file.file.publish().map_err(Refused::from)?.unwrap_or_default();
            *open = None;
            return Ok((0, path.into_os_string().into_vec()));
        }
    };
    let refused =
        |source| Refused { action: "writing".into(), path: file.file.partial_path().into(), source };
    done.map(|number| (number, Vec::new())).map_err(refused)
}

impl From<WriteError> for Refused {
    fn from(error: WriteError) -> Self {
        match error {
            WriteError::Io { action, path, source } => Self { action: action.into(), path, source },
            other => Self {
                action: "writing".into(),
                path: PathBuf::new(),
                source: io::Error::other(other.to_string()),
            },
        }
    }
}

impl Open {
    fn write(&mut self, bytes: &[u8]) -> io::Result<u64> {
        let taken = self.file.write(bytes)? as u64;
        self.written += taken;
        Ok(taken)
    }

    fn reserve(&mut self, bytes: u64) -> io::Result<()> {
        let end = self.written.saturating_add(bytes);
        if let Ok((limit, _)) = getrlimit(Resource::RLIMIT_FSIZE)
            && limit != RLIM_INFINITY
            && end > limit
        {
            return Err(io::Error::from_raw_os_error(libc::EFBIG));
        }
        if self.cannot_reserve || end <= self.reserved {
            return Ok(());
        }
        // Some more, so that not every write asks; if there is no more, what is needed.
        for end in [end + STEP, end] {
            let (from, len) = (self.written as libc::off_t, (end - self.written) as libc::off_t);
            let keep_size = FallocateFlags::FALLOC_FL_KEEP_SIZE;
            match fallocate(self.file.file().as_fd(), keep_size, from, len) {
                Ok(()) => {
                    self.reserved = end;
                    return Ok(());
                }
                // Room may be there all the same; whoever writes will see.
                Err(
                    nix::errno::Errno::EOPNOTSUPP | nix::errno::Errno::ENOSYS | nix::errno::Errno::EINVAL,
                ) => {
                    self.cannot_reserve = true;
                    return Ok(());
                }
                Err(nix::errno::Errno::EINTR) => return Ok(()),
                Err(_) if end > self.written + bytes => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(())
    }

    fn cut(&mut self, len: u64) -> io::Result<()> {
        self.file.cut(len)?;
        self.written = len;
        self.reserved = len;
        Ok(())
    }

    /// The end: what is reserved and not used is given back.
    fn sync(&mut self) -> io::Result<()> {
        if self.reserved > self.written {
            self.file.cut(self.written)?;
            self.reserved = self.written;
        }
        self.file.sync()
    }
}

/// The directory of a file.
pub(crate) fn parent(path: &Path) -> PathBuf {
    path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new(".")).into()
}

/// Whether dumps can be written: better known now than at the first incident.
fn writable(output: &Path) -> io::Result<()> {
    let folder = parent(output);
    if !folder.is_dir() {
        return Err(io::Error::from_raw_os_error(libc::ENOENT));
    }
    Ok(nix::unistd::access(&folder, nix::unistd::AccessFlags::W_OK)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_process_writes_is_what_it_was_given_and_its_errors_say_where() {
        let dir = tempfile::tempdir().unwrap();
        let disk = Arc::new(Disk::start(dir.path(), Taken::Next).unwrap());
        let path = dir.path().join("x");
        let mut file = disk.create(&path, false).unwrap();
        let bytes: Vec<u8> = (0..200_000_u32).map(|n| n as u8).collect();
        file.reserve(bytes.len() as u64).unwrap();
        file.write_all(&bytes).unwrap();
        file.write_all(b"cut off").unwrap();
        file.cut(bytes.len() as u64).unwrap();
        file.sync().unwrap();
        assert_eq!(file.publish().unwrap(), Some(path.clone()));
        assert_eq!(std::fs::read(&path).unwrap(), bytes);
        let blocks = std::os::unix::fs::MetadataExt::blocks(&std::fs::metadata(&path).unwrap());
        assert!(blocks * 512 < 256 << 10, "what was reserved is given back: {blocks} blocks");
        // The name is taken.
        for free in [false, true] {
            let file = disk.create(&path, free).unwrap();
            assert_eq!(file.path(), dir.path().join("x-2"));
            assert!(file.remark().unwrap().contains("x exists"), "{:?}", file.remark());
        }
        let error = disk.check(&dir.path().join("no/where")).unwrap_err().to_string();
        assert!(error.contains("no/where") && error.contains("No such file"), "{error}");
        assert!(disk.room(&path).unwrap() > 0);
    }
}
