//! Where `ctrace mark` meets running recordings: a unix socket of each recorder, named by its pid, in a directory that
//! belongs to its user alone. Nobody else can put a socket there, or take a name in advance.
//!
//! | user | directory |
//! |---|---|
//! | root | `/run/ctrace` |
//! | others | `$XDG_RUNTIME_DIR/ctrace`; without that, `/tmp/ctrace-UID` |
//!
//! A directory counts when it is none of a link, belongs to the user and is closed to all others (0700). It is opened
//! once, and all names are looked up below what was opened: what is swapped for it afterwards does not matter. Both ends
//! also ask the kernel who the other is (`SO_PEERCRED`, unix(7)).

use nix::fcntl::{OFlag, open};
use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use nix::sys::stat::{Mode, fstat};
use std::collections::BTreeSet;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

/// The last part of a directory's name.
const NAME: &str = "ctrace";

/// A directory of sockets.
pub(crate) struct Directory {
    opened: OwnedFd,
    owner: u32,
}

/// Places of this user, the better one first.
fn places() -> Vec<PathBuf> {
    let uid = nix::unistd::geteuid();
    if uid.is_root() {
        return vec![Path::new("/run").join(NAME)];
    }
    let runtime = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|p| p.is_absolute());
    // Not $TMPDIR: both ends must find it.
    runtime.map(|p| p.join(NAME)).into_iter().chain([PathBuf::from(format!("/tmp/{NAME}-{uid}"))]).collect()
}

impl Directory {
    /// One that is there, and belongs to one user alone.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let opened = open(path, flags, Mode::empty())?;
        let found = fstat(&opened)?;
        if found.st_mode & 0o077 != 0 {
            let why = format!("{} is open to other users", path.display());
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, why));
        }
        Ok(Self { opened, owner: found.st_uid })
    }

    fn open_own(path: &Path) -> io::Result<Self> {
        let this = Self::open(path)?;
        if this.owner != nix::unistd::geteuid().as_raw() {
            let why = format!("{} belongs to user {}", path.display(), this.owner);
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, why));
        }
        Ok(this)
    }

    /// This user's directories that are there.
    pub(crate) fn own() -> Vec<Self> {
        places().iter().filter_map(|path| Self::open_own(path).ok()).collect()
    }

    /// This user's directory, which is made when there is none.
    ///
    /// # Errors
    /// When no place will do: why the last one does not.
    pub(crate) fn make() -> io::Result<Self> {
        let mut last = io::Error::from(io::ErrorKind::NotFound);
        for path in places() {
            let made = std::fs::DirBuilder::new().mode(0o700).create(&path);
            match made.or_else(|e| if e.kind() == io::ErrorKind::AlreadyExists { Ok(()) } else { Err(e) }) {
                Ok(()) => match Self::open_own(&path) {
                    Ok(this) => return Ok(this),
                    Err(error) => last = error,
                },
                Err(error) => {
                    last = io::Error::new(error.kind(), format!("{}: {error}", path.display()));
                }
            }
        }
        Err(last)
    }

    /// Sockets that the kernel knows under the names of recorders: directory and pid. One that was bound below an open
    /// directory has the name of the descriptor: whose it is, its process tells.
    fn all_recorders() -> BTreeSet<(PathBuf, u32)> {
        let Ok(sockets) = std::fs::read("/proc/net/unix") else { return BTreeSet::new() };
        String::from_utf8_lossy(&sockets)
            .lines()
            // Num RefCount Protocol Flags Type St Inode Path
            .filter_map(|line| Some(Path::new(line.splitn(8, ' ').nth(7)?.trim_start())))
            .filter_map(|path| Some((path.parent()?.to_owned(), path.file_name()?.to_str()?.parse().ok()?)))
            .filter(|(path, _)| {
                path.is_absolute() && path.file_name().is_some_and(is_place)
                    || path.starts_with("/proc/self/fd")
            })
            .collect()
    }

    /// Recorders of other users, which a mark of this one does not reach.
    pub(crate) fn out_of_reach() -> BTreeSet<u32> {
        let own = nix::unistd::geteuid().as_raw();
        let is_recorder = |pid: &u32| {
            std::fs::read(format!("/proc/{pid}/comm"))
                .is_ok_and(|comm| comm.trim_ascii_end() == NAME.as_bytes())
        };
        let all = Self::all_recorders().into_iter().map(|(_, pid)| pid);
        all.filter(|pid| user_of(*pid).is_some_and(|user| user != own) && is_recorder(pid)).collect()
    }

    /// Directories of other users where the kernel knows sockets, for root.
    pub(crate) fn of_others() -> Vec<Self> {
        let of_user =
            |uid| [format!("/run/user/{uid}/{NAME}"), format!("/tmp/{NAME}-{uid}")].map(PathBuf::from);
        let places: BTreeSet<PathBuf> = Self::all_recorders()
            .into_iter()
            .flat_map(|(path, pid)| match user_of(pid) {
                _ if path.file_name().is_some_and(is_place) => vec![path],
                Some(uid) => of_user(uid).to_vec(),
                None => Vec::new(),
            })
            .collect();
        let own = nix::unistd::geteuid().as_raw();
        places.iter().filter_map(|path| Self::open(path).ok()).filter(|dir| dir.owner != own).collect()
    }

    /// Whose it is.
    pub(crate) const fn owner(&self) -> u32 {
        self.owner
    }

    /// Below what was opened, whatever is called so now.
    fn at(&self, pid: u32) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}/{pid}", self.opened.as_raw_fd()))
    }

    /// Pids of recorders that have, or had, a socket here.
    pub(crate) fn recorders(&self) -> BTreeSet<u32> {
        let entries = std::fs::read_dir(format!("/proc/self/fd/{}", self.opened.as_raw_fd()));
        entries.into_iter().flatten().flatten().filter_map(|e| e.file_name().to_str()?.parse().ok()).collect()
    }

    /// Connects to a recorder of the directory's owner. A socket that nobody listens at any more is removed, and is
    /// `None`.
    pub(crate) fn connect(&self, pid: u32) -> io::Result<Option<UnixStream>> {
        let stream = match UnixStream::connect(self.at(pid)) {
            Ok(stream) => stream,
            Err(e) if e.kind() == io::ErrorKind::ConnectionRefused => {
                if self.owner == nix::unistd::geteuid().as_raw() {
                    // Another may be faster.
                    let _ = std::fs::remove_file(self.at(pid));
                }
                return Ok(None);
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(e),
        };
        let peer = getsockopt(&stream, PeerCredentials)?;
        if peer.uid() != self.owner || peer.pid() as u32 != pid {
            let why = format!("process {} of user {} has taken its name", peer.pid(), peer.uid());
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, why));
        }
        Ok(Some(stream))
    }

    /// Listens under this process's name, and removes what dead recorders left.
    pub(crate) fn listen(&self) -> io::Result<UnixListener> {
        let own = std::process::id();
        for pid in self.recorders() {
            if pid != own {
                let _ = self.connect(pid);
            }
        }
        match std::fs::remove_file(self.at(own)) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            // A dead recorder of the same pid left it.
            _ => {}
        }
        UnixListener::bind(self.at(own))
    }

    /// Takes this process's name away.
    pub(crate) fn leave(&self) {
        // When it is gone already, all the better.
        let _ = std::fs::remove_file(self.at(std::process::id()));
    }
}

/// The user of a process.
fn user_of(pid: u32) -> Option<u32> {
    Some(std::os::unix::fs::MetadataExt::uid(&std::fs::metadata(format!("/proc/{pid}")).ok()?))
}

/// Whether a directory is called as those of [`places`] are.
fn is_place(name: &std::ffi::OsStr) -> bool {
    let Some(rest) = name.to_str().and_then(|n| n.strip_prefix(NAME)) else { return false };
    rest.is_empty() || rest.strip_prefix('-').is_some_and(|uid| uid.parse::<u32>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    fn mode(path: &Path, mode: u32) {
        std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
    }

    #[test]
    fn only_a_closed_directory_of_the_user_counts() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let error = |path: &Path| Directory::open_own(path).err().unwrap();
        std::fs::create_dir(at("good")).unwrap();
        mode(&at("good"), 0o700);
        assert!(Directory::open_own(&at("good")).is_ok());
        symlink(at("good"), at("link")).unwrap();
        assert_eq!(error(&at("link")).raw_os_error(), Some(libc::ENOTDIR));
        std::fs::create_dir(at("open")).unwrap();
        for open in [0o755, 0o701, 0o710] {
            mode(&at("open"), open);
            assert!(error(&at("open")).to_string().contains("open to other users"));
        }
        if nix::unistd::geteuid().is_root() {
            std::os::unix::fs::chown(at("good"), Some(65534), None).unwrap();
            assert!(error(&at("good")).to_string().contains("belongs to user 65534"));
        } else {
            println!("skipped: only root can give a directory away");
        }
    }

    #[test]
    fn a_dead_recorders_socket_is_removed_and_another_process_is_not_spoken_to() {
        let dir = tempfile::tempdir().unwrap();
        mode(dir.path(), 0o700);
        let here = Directory::open_own(dir.path()).unwrap();
        drop(UnixListener::bind(dir.path().join("4194300")).unwrap());
        let listener = here.listen().unwrap();
        assert_eq!(here.recorders(), BTreeSet::from([std::process::id()]), "the dead one's is gone");
        assert!(here.connect(std::process::id()).unwrap().is_some());
        let _squatter = UnixListener::bind(dir.path().join("4194301")).unwrap();
        let error = here.connect(4_194_301).unwrap_err().to_string();
        assert!(error.contains("has taken its name"), "{error}");
        drop(listener);
        here.leave();
        assert_eq!(here.recorders(), BTreeSet::from([4_194_301]));
    }

    #[test]
    fn names_of_places_are_told_from_others() {
        for (name, yes) in
            [("ctrace", true), ("ctrace-1000", true), ("ctrace-x", false), ("ctracer", false), ("x", false)]
        {
            assert_eq!(is_place(name.as_ref()), yes, "{name}");
        }
    }
}
