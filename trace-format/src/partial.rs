//! The life of a trace file, as it can be seen from outside.
//!
//! | name | lock | state |
//! |---|---|---|
//! | `NAME.partial` | held | live: its recorder is running |
//! | `NAME.partial` | free | dead: its recorder died, or was refused the end (disk full) |
//! | `NAME` | – | complete |
//!
//! The lock is an exclusive `flock(2)`, which the kernel drops with the process.

use crate::WriteError;
use crate::layout::MAGIC;
use crate::writer::Sink;
use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Behind the name of an unfinished file.
const SUFFIX: &str = ".partial";
/// A reader that asks whether a file is live holds a shared lock for an instant.
const LOCK_TRIES: u32 = 50;
/// A recorder's lock is held by the process that writes for it, which sees a moment later that the recorder is gone.
const LIVE_TRIES: u32 = 15;
const LOCK_PAUSE: Duration = Duration::from_millis(2);

/// The name of the unfinished file.
pub(crate) fn partial_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(SUFFIX);
    name.into()
}

/// An unfinished file, locked, that is appended to.
#[derive(Debug)]
pub struct PartialFile {
    path: PathBuf,
    partial: PathBuf,
    file: File,
}

impl io::Write for PartialFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }
    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Sink for PartialFile {
    fn sync(&mut self) -> io::Result<()> {
        self.file.sync_all()
    }

    fn cut(&mut self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn publish(&mut self) -> Result<Option<PathBuf>, WriteError> {
        std::fs::rename(&self.partial, &self.path).map_err(failed("renaming", &self.partial))?;
        if cfg!(unix) {
            let parent = self.path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
            File::open(parent).and_then(|dir| dir.sync_all()).map_err(failed("syncing", parent))?;
        }
        Ok(Some(self.path.clone()))
    }
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> WriteError {
    move |source| WriteError::Io { action, path: path.into(), source }
}

impl PartialFile {
    /// Creates `path.partial` (mode 0600), see [`crate::TraceWriter::create`].
    ///
    /// # Errors
    /// When it cannot be created, or another writer is at it.
    pub fn create(path: &Path) -> Result<Self, WriteError> {
        check_replaceable(path)?;
        let partial = partial_path(path);
        let mut options = OpenOptions::new();
        options.append(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let file = match options.open(&partial) {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
                move_aside(&partial)?;
                options.open(&partial)
            }
            opened => opened,
        };
        let file = file.map_err(failed("creating", &partial))?;
        lock(&file, &partial)?;
        Ok(Self { path: path.into(), partial, file })
    }

    /// Its name until it is finished.
    pub fn partial_path(&self) -> &Path {
        &self.partial
    }

    /// The file itself.
    pub fn file(&self) -> &File {
        &self.file
    }
}

/// Whether what has the final name may be replaced by the finished trace: nothing, an empty file or another trace. A
/// slip of the fingers must not cost a device, a link or somebody's document; and it is better to hear it now than after
/// the recording.
fn check_replaceable(path: &Path) -> Result<(), WriteError> {
    let refused = |kind: io::ErrorKind, why: &str| Err(failed("creating", path)(io::Error::new(kind, why)));
    let found = match std::fs::symlink_metadata(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(failed("creating", path)(e)),
        Ok(found) => found,
    };
    if found.is_dir() {
        return refused(io::ErrorKind::IsADirectory, "it is a directory");
    }
    if found.is_symlink() {
        return refused(
            io::ErrorKind::AlreadyExists,
            "it is a symbolic link; name the file that it points to",
        );
    }
    if !found.is_file() {
        return refused(io::ErrorKind::AlreadyExists, "it is no regular file");
    }
    if found.len() == 0 {
        return Ok(());
    }
    let mut start = [0; MAGIC.len()];
    let mut options = OpenOptions::new();
    options.read(true);
    no_follow(&mut options);
    let read = options.open(path).and_then(|mut file| io::Read::read_exact(&mut file, &mut start));
    match read {
        Ok(()) if start == MAGIC => Ok(()),
        Ok(()) => refused(io::ErrorKind::AlreadyExists, "it exists and is no trace; it is not replaced"),
        Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => {
            refused(io::ErrorKind::AlreadyExists, "it exists and is no trace; it is not replaced")
        }
        Err(e) => Err(failed("creating", path)(e)),
    }
}

/// Neither follows a link nor waits for the other end of a FIFO that was put there meanwhile.
fn no_follow(options: &mut OpenOptions) {
    // O_NOFOLLOW | O_NONBLOCK, include/uapi/asm-generic/fcntl.h; O_NOFOLLOW differs on aarch64.
    #[cfg(target_os = "linux")]
    std::os::unix::fs::OpenOptionsExt::custom_flags(
        options,
        0o4000 | if cfg!(target_arch = "aarch64") { 0o100_000 } else { 0o400_000 },
    );
    #[cfg(not(target_os = "linux"))]
    let _ = options;
}

fn lock(file: &File, path: &Path) -> Result<(), WriteError> {
    for _ in 0..LOCK_TRIES {
        match file.try_lock() {
            Ok(()) => return Ok(()),
            Err(TryLockError::WouldBlock) => std::thread::sleep(LOCK_PAUSE),
            Err(TryLockError::Error(source)) => return Err(failed("locking", path)(source)),
        }
    }
    Err(WriteError::Busy { path: path.into() })
}

/// Keeps what a dead recorder left: it may be the only evidence.
fn move_aside(partial: &Path) -> Result<(), WriteError> {
    // Neither wait for the other end of a FIFO nor follow a link that somebody left here.
    let found = std::fs::symlink_metadata(partial).map_err(failed("creating", partial))?;
    if !found.is_file() {
        return Err(failed("creating", partial)(io::ErrorKind::AlreadyExists.into()));
    }
    let mut options = OpenOptions::new();
    options.read(true);
    no_follow(&mut options);
    let old = options.open(partial).map_err(failed("opening", partial))?;
    // Held until it is gone: a recorder that has just created it must not lose it.
    lock(&old, partial)?;
    if found.len() == 0 {
        return std::fs::remove_file(partial).map_err(failed("removing", partial));
    }
    for n in 1..1000 {
        let mut name = partial.as_os_str().to_owned();
        name.push(format!(".{n}"));
        let free = PathBuf::from(name);
        if !free.exists() {
            return std::fs::rename(partial, &free).map_err(failed("moving aside", partial));
        }
    }
    Err(failed("moving aside", partial)(io::ErrorKind::AlreadyExists.into()))
}

/// Whether a writer holds the file.
pub(crate) fn is_live(file: &File) -> bool {
    for _ in 0..LIVE_TRIES {
        match file.try_lock_shared() {
            Ok(()) => {
                // The lock goes with the handle at the latest.
                let _ = file.unlock();
                return false;
            }
            Err(TryLockError::WouldBlock) => std::thread::sleep(LOCK_PAUSE),
            Err(TryLockError::Error(_)) => return false,
        }
    }
    true
}
