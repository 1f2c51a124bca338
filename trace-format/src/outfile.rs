//! Where outputs are opened, all of them: traces, and what is written about them. And the life of a file, as it can be
//! seen from outside.
//!
//! | name | lock | state |
//! |---|---|---|
//! | `NAME.partial` | held | live: its writer is running |
//! | `NAME.partial` | free | dead: its writer died, or was refused the end (disk full) |
//! | `NAME` | – | complete |
//!
//! The lock is an exclusive `flock(2)`, which the kernel drops with the process.
//!
//! Others may write to the directory, as in `/tmp`. So a file is only ever made new (`O_EXCL`, which follows no link and
//! opens no FIFO), for its owner alone, and gets its name at the end by a call that replaces nothing
//! unless that was asked for. What others have put in the way, whatever it is, makes the file take another name: nobody
//! can keep a recording from being made. Directories on the way may be links: whoever names them means them. In a
//! directory where others may rename what is not theirs (no sticky bit) they can still take the file away; that the file
//! that has the name at the end is the one that was written is checked.

use crate::WriteError;
use crate::writer::Sink;
use std::fmt;
use std::fs::{File, Metadata, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// Behind the name of an unfinished file.
const SUFFIX: &str = ".partial";
/// A reader that asks whether a file is live holds a shared lock for an instant.
const LOCK_TRIES: u32 = 50;
/// A recorder's lock is held by the process that writes for it, which sees a moment later that the recorder is gone.
const LIVE_TRIES: u32 = 15;
const LOCK_PAUSE: Duration = Duration::from_millis(2);
/// Names that are counted; those after them are drawn by lot, so that nobody can take them all.
const COUNTED: u32 = 999;
const DRAWN: u32 = 16;
/// Bytes that are written at a time.
const BUFFER: usize = 256 << 10;
/// Unfinished files of one name that are kept.
const KEPT: u32 = 999;

/// What to do where the name of an output is taken.
#[derive(Clone, Default)]
pub enum Taken {
    /// Take the next free one: `x-2.ctr`, `x-3.ctr`, …
    #[default]
    Next,
    /// The same, whatever it is that has the name: for what is written long after [`OutFile::check`], and must not be lost.
    Any,
    /// Replace the regular file that has it, if this says so of its content; else take the next free one.
    ReplaceIf(Arc<dyn Fn(File) -> bool + Send + Sync>),
    /// Replace any regular file of the caller's own.
    Replace,
}

impl fmt::Debug for Taken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Next => "Next",
            Self::Any => "Any",
            Self::ReplaceIf(_) => "ReplaceIf",
            Self::Replace => "Replace",
        })
    }
}

impl Taken {
    /// Replaces what begins like an earlier output of the same kind.
    pub fn replace_if_begins(with: &'static str) -> Self {
        Self::ReplaceIf(Arc::new(move |mut file| {
            let mut start = vec![0; with.len()];
            io::Read::read_exact(&mut file, &mut start).is_ok() && start == with.as_bytes()
        }))
    }
}

/// Bytes of a file's name at most (`NAME_MAX`, include/uapi/linux/limits.h).
#[cfg(unix)]
const NAME_MAX: usize = 255;
/// Room for the number of an unfinished file that is moved aside.
#[cfg(unix)]
const NUMBER: usize = 4;

/// The name of the unfinished file. A name that is too long for what is added to it is cut.
pub(crate) fn partial_path(path: &Path) -> PathBuf {
    #[cfg(unix)]
    if let Some(name) = path.file_name() {
        use std::os::unix::ffi::{OsStrExt, OsStringExt};
        let mut name = name.as_bytes().to_vec();
        name.truncate(NAME_MAX - SUFFIX.len() - NUMBER);
        name.extend_from_slice(SUFFIX.as_bytes());
        return path.with_file_name(std::ffi::OsString::from_vec(name));
    }
    let mut name = path.as_os_str().to_owned();
    name.push(SUFFIX);
    name.into()
}

/// An unfinished file, locked. Dropped with nothing in it, it is removed; else it stays, under its unfinished name.
#[derive(Debug)]
pub struct OutFile {
    path: PathBuf,
    partial: PathBuf,
    file: File,
    /// Whether a regular file that has the name at the end is replaced.
    replaces: bool,
    remark: Option<String>,
    published: bool,
}

impl io::Write for OutFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }
    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Sink for OutFile {
    fn sync(&mut self) -> io::Result<()> {
        self.file.sync_all()
    }

    fn cut(&mut self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn publish(&mut self) -> Result<Option<PathBuf>, WriteError> {
        self.name().map(Some)
    }
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> WriteError {
    move |source| WriteError::Io { action, path: path.into(), source }
}

/// Why a name cannot be had.
enum Obstacle {
    /// Something else has it; in words.
    InTheWay(String),
    /// Something of the caller's own has it that is no file to be replaced, or a device: who named it should hear.
    NoFile(WriteError),
    /// No other name would do better.
    Failed(WriteError),
}

impl OutFile {
    /// Makes the unfinished file for `path`, or for another name where that is taken: see [`OutFile::remark`].
    ///
    /// # Errors
    /// When the directory takes no file; or, but with [`Taken::Any`], `path` itself is a device, or a directory, link, FIFO
    /// or socket of the caller's own. Under the names after it such things are passed by.
    pub fn create(path: &Path, taken: &Taken) -> Result<Self, WriteError> {
        let mut first = None;
        for name in names(path) {
            // The caller named one file: others that are passed on the way are not to be replaced.
            let is_named = name == path;
            let taken = if is_named || !matches!(taken, Taken::Replace) { taken } else { &Taken::Next };
            match Self::try_create(&name, taken) {
                Ok(mut file) => {
                    file.remark =
                        first.map(|why| format!("{why}; the output is written to {}", name.display()));
                    return Ok(file);
                }
                Err(Obstacle::Failed(error)) => return Err(error),
                Err(Obstacle::NoFile(error)) if is_named && !matches!(taken, Taken::Any) => {
                    return Err(error);
                }
                Err(Obstacle::NoFile(_)) => {
                    first.get_or_insert_with(|| exists(&name));
                }
                Err(Obstacle::InTheWay(why)) => {
                    first.get_or_insert(why);
                }
            }
        }
        let why = first.unwrap_or_default();
        Err(failed("creating", path)(io::Error::new(io::ErrorKind::AlreadyExists, why)))
    }

    /// Whether outputs can be named so, as far as can be seen without making one: as [`Self::create`] with
    /// [`Taken::Next`].
    ///
    /// # Errors
    /// When `path` is what `create` refuses.
    pub fn check(path: &Path) -> Result<(), WriteError> {
        match check_name(path, &Taken::Next) {
            Err(Obstacle::Failed(error) | Obstacle::NoFile(error)) => Err(error),
            Ok(_) | Err(Obstacle::InTheWay(_)) => Ok(()),
        }
    }

    fn try_create(path: &Path, taken: &Taken) -> Result<Self, Obstacle> {
        let replaces = check_name(path, taken)?;
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
        let file = file.map_err(|e| match e.kind() {
            // Somebody was faster.
            io::ErrorKind::AlreadyExists => Obstacle::InTheWay(format!("{} exists", partial.display())),
            _ => Obstacle::Failed(failed("creating", &partial)(e)),
        })?;
        if !lock(&file, &partial)? {
            return Err(busy(&partial));
        }
        Ok(Self { path: path.into(), partial, file, replaces, remark: None, published: false })
    }

    /// The name that it will have.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The name that it has while it is unfinished.
    pub fn partial_path(&self) -> &Path {
        &self.partial
    }

    /// Why it has another name than it was to have, as a sentence.
    pub fn remark(&self) -> Option<&str> {
        self.remark.as_deref()
    }

    /// The file itself.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Writes all of it, and gives it its name. Half of it is of no use: it is removed.
    ///
    /// # Errors
    /// When the file system refuses.
    pub fn write_whole(self, bytes: &[u8]) -> Result<PathBuf, WriteError> {
        self.write_with(|to| io::Write::write_all(to, bytes))
    }

    /// As [`OutFile::write_whole`], of what is written bit by bit.
    ///
    /// # Errors
    /// As `write` fails, or the file system refuses.
    pub fn write_with(
        mut self,
        write: impl FnOnce(&mut io::BufWriter<&File>) -> io::Result<()>,
    ) -> Result<PathBuf, WriteError> {
        let mut to = io::BufWriter::with_capacity(BUFFER, &self.file);
        let written = write(&mut to).and_then(|()| io::Write::flush(&mut to));
        // What is left in the buffer of a failure is not tried again.
        drop(to.into_parts());
        if let Err(error) = written.and_then(|()| self.file.sync_all()) {
            let _ = std::fs::remove_file(&self.partial);
            self.published = true;
            return Err(failed("writing", &self.partial)(error));
        }
        self.name()
    }

    /// Gives the file its final name, durably.
    fn name(&mut self) -> Result<PathBuf, WriteError> {
        let path = if self.replaces {
            std::fs::rename(&self.partial, &self.path).map_err(failed("renaming", &self.partial))?;
            self.path.clone()
        } else {
            self.name_where_free()?
        };
        self.published = true;
        if !is_same(&self.file, &path).map_err(failed("looking at", &path))? {
            let why = "somebody else put another file there while it was written";
            return Err(failed("renaming", &self.partial)(io::Error::new(io::ErrorKind::AlreadyExists, why)));
        }
        if cfg!(unix) {
            let parent = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
            File::open(parent).and_then(|dir| dir.sync_all()).map_err(failed("syncing", parent))?;
        }
        Ok(path)
    }

    /// Gives it the first free name, from its own on.
    fn name_where_free(&self) -> Result<PathBuf, WriteError> {
        for name in names(&self.path) {
            match std::fs::hard_link(&self.partial, &name) {
                Ok(()) => {
                    std::fs::remove_file(&self.partial).map_err(failed("removing", &self.partial))?;
                    return Ok(name);
                }
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
                // A file system without hard links.
                Err(_) if std::fs::symlink_metadata(&name).is_err() => {
                    std::fs::rename(&self.partial, &name).map_err(failed("renaming", &self.partial))?;
                    return Ok(name);
                }
                Err(_) => {}
            }
        }
        Err(failed("renaming", &self.partial)(io::ErrorKind::AlreadyExists.into()))
    }
}

impl Drop for OutFile {
    fn drop(&mut self) {
        if !self.published && self.file.metadata().is_ok_and(|m| m.len() == 0) {
            // What nothing was written to is of no use to anybody.
            let _ = std::fs::remove_file(&self.partial);
        }
    }
}

/// `x.ctr`, `x-2.ctr`, `x-3.ctr`, …, and at last some that cannot be guessed.
fn names(path: &Path) -> impl Iterator<Item = PathBuf> {
    let with = {
        let (path, stem) = (path.to_owned(), path.file_stem().unwrap_or_default().to_owned());
        move |number: String| {
            let mut name = stem.clone();
            name.push(format!("-{number}"));
            if let Some(extension) = path.extension() {
                name.push(".");
                name.push(extension);
            }
            path.with_file_name(name)
        }
    };
    let drawn = |_| {
        let mut bytes = [0; 8];
        // Without randomness the name can be guessed, and is no worse than those before.
        let _ = getrandom::fill(&mut bytes);
        format!("{:016x}", u64::from_ne_bytes(bytes))
    };
    let more = (2..=COUNTED).map(|n| n.to_string()).chain((0..DRAWN).map(drawn)).map(with);
    std::iter::once(path.to_owned()).chain(more)
}

#[cfg(unix)]
fn owner(found: &Metadata) -> u32 {
    std::os::unix::fs::MetadataExt::uid(found)
}

/// Whether a file belongs to somebody else than this process acts as.
#[cfg(unix)]
fn is_foreign(found: &Metadata) -> bool {
    owner(found) != nix::unistd::geteuid().as_raw()
}

#[cfg(not(unix))]
fn is_foreign(_: &Metadata) -> bool {
    false
}

/// What has a name, for a sentence.
fn in_the_way(path: &Path, found: &Metadata) -> Obstacle {
    let name = path.display();
    #[cfg(unix)]
    if is_foreign(found) {
        let uid = owner(found);
        let user = nix::unistd::User::from_uid(uid.into()).ok().flatten();
        let user = user.map_or_else(|| format!("user {uid}"), |u| format!("user {}", u.name));
        return Obstacle::InTheWay(format!("{name} exists and belongs to {user}"));
    }
    let _ = (name, found);
    Obstacle::InTheWay(exists(path))
}

fn exists(path: &Path) -> String {
    format!("{} exists", path.display())
}

#[cfg(unix)]
fn is_device(found: &Metadata) -> bool {
    use std::os::unix::fs::FileTypeExt;
    found.file_type().is_block_device() || found.file_type().is_char_device()
}

#[cfg(not(unix))]
fn is_device(_: &Metadata) -> bool {
    false
}

/// Whether the file that has the name may be replaced (`true`), or none has it (`false`). A slip of the fingers must not
/// cost a device, a link or somebody's document; and it is better to hear it now than after the recording.
fn check_name(path: &Path, taken: &Taken) -> Result<bool, Obstacle> {
    let found = match std::fs::symlink_metadata(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(e) => return Err(Obstacle::Failed(failed("creating", path)(e))),
        Ok(found) => found,
    };
    if !found.is_file() {
        if is_foreign(&found) && !is_device(&found) {
            return Err(in_the_way(path, &found));
        }
        let (kind, why) = if found.is_dir() {
            (io::ErrorKind::IsADirectory, "it is a directory")
        } else if found.is_symlink() {
            (io::ErrorKind::AlreadyExists, "it is a symbolic link; name the file that it points to")
        } else {
            (io::ErrorKind::AlreadyExists, "it is no regular file")
        };
        return Err(Obstacle::NoFile(failed("creating", path)(io::Error::new(kind, why))));
    }
    let replaces = match taken {
        // What is somebody else's may be what a directory with the sticky bit does not let go at the end.
        Taken::Replace => !is_foreign(&found),
        // An empty file of the caller's own, as mktemp(1) makes it, is a place kept free.
        Taken::Next | Taken::Any => found.len() == 0 && !is_foreign(&found),
        Taken::ReplaceIf(is_ours) => {
            !is_foreign(&found) && (found.len() == 0 || open_regular(path).is_ok_and(|file| is_ours(file)))
        }
    };
    if replaces { Ok(true) } else { Err(in_the_way(path, &found)) }
}

/// Whether a name means the open file.
#[cfg(unix)]
fn is_same(file: &File, path: &Path) -> io::Result<bool> {
    use std::os::unix::fs::MetadataExt;
    let (ours, found) = (file.metadata()?, std::fs::symlink_metadata(path)?);
    Ok((ours.dev(), ours.ino()) == (found.dev(), found.ino()))
}

#[cfg(not(unix))]
fn is_same(_: &File, _: &Path) -> io::Result<bool> {
    Ok(true)
}

/// Whether a path leads, through links as well, to this open file.
#[cfg(unix)]
pub(crate) fn is_at(file: &File, _opened: &Path, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let (Ok(ours), Ok(found)) = (file.metadata(), std::fs::metadata(path)) else { return false };
    (ours.dev(), ours.ino()) == (found.dev(), found.ino())
}

/// Whether a path leads to the file that was opened by this name.
#[cfg(not(unix))]
pub(crate) fn is_at(_: &File, opened: &Path, path: &Path) -> bool {
    matches!((opened.canonicalize(), path.canonicalize()), (Ok(a), Ok(b)) if a == b)
}

/// Opens a file for reading that is one: neither a link nor a FIFO that was put there meanwhile, whose other end the
/// opening would wait for.
fn open_regular(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true);
    #[cfg(target_os = "linux")]
    std::os::unix::fs::OpenOptionsExt::custom_flags(
        &mut options,
        (nix::fcntl::OFlag::O_NOFOLLOW | nix::fcntl::OFlag::O_NONBLOCK | nix::fcntl::OFlag::O_NOCTTY).bits(),
    );
    let file = options.open(path)?;
    if file.metadata()?.is_file() { Ok(file) } else { Err(io::ErrorKind::AlreadyExists.into()) }
}

/// Opens a file for reading, through links, and says what it is. No FIFO is waited for.
pub(crate) fn open_to_read(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true);
    #[cfg(target_os = "linux")]
    std::os::unix::fs::OpenOptionsExt::custom_flags(
        &mut options,
        (nix::fcntl::OFlag::O_NONBLOCK | nix::fcntl::OFlag::O_NOCTTY).bits(),
    );
    options.open(path)
}

fn busy(partial: &Path) -> Obstacle {
    Obstacle::InTheWay(format!("{} is being written by another ctrace", partial.display()))
}

/// Whether the file is locked now, by this handle.
fn lock(file: &File, path: &Path) -> Result<bool, Obstacle> {
    for _ in 0..LOCK_TRIES {
        match file.try_lock() {
            Ok(()) => return Ok(true),
            Err(TryLockError::WouldBlock) => std::thread::sleep(LOCK_PAUSE),
            Err(TryLockError::Error(source)) => {
                return Err(Obstacle::Failed(failed("locking", path)(source)));
            }
        }
    }
    Ok(false)
}

/// Keeps what a dead writer of the caller's own left: it may be the only evidence.
fn move_aside(partial: &Path) -> Result<(), Obstacle> {
    let failing = |action| move |e| Obstacle::Failed(failed(action, partial)(e));
    let found = std::fs::symlink_metadata(partial).map_err(failing("creating"))?;
    if !found.is_file() || is_foreign(&found) {
        return Err(in_the_way(partial, &found));
    }
    // Whoever put a link to it there, or took it away meanwhile, does not get it opened.
    let Ok(old) = open_regular(partial) else { return Err(in_the_way(partial, &found)) };
    // Held until it is gone: a recorder that has just created it must not lose it.
    if !lock(&old, partial)? {
        return Err(busy(partial));
    }
    if found.len() == 0 {
        return std::fs::remove_file(partial).map_err(failing("removing"));
    }
    for n in 1..=KEPT {
        let mut name = partial.as_os_str().to_owned();
        name.push(format!(".{n}"));
        let free = PathBuf::from(name);
        if std::fs::symlink_metadata(&free).is_err() {
            return std::fs::rename(partial, &free).map_err(failing("moving aside"));
        }
    }
    Err(in_the_way(partial, &found))
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
