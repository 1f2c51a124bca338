//! Brings an unnamed file into a new mount namespace without a copy.
//!
//! A mount can be made of files that are reached through the namespace's own mounts only, so the file needs a name for a
//! moment. The name is given and taken by a helper process that blocks all signals and depends on nobody: it takes the
//! name away when it is told to, and when those who could tell it are gone. Whoever is killed, no file stays behind.

use std::ffi::CString;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// `struct mount_attr` of linux/mount.h.
#[repr(C)]
struct MountAttr {
    attr_set: u64,
    attr_clr: u64,
    propagation: u64,
    userns_fd: u64,
}

const OPEN_TREE_CLONE: libc::c_uint = 1;
const MOVE_MOUNT_F_EMPTY_PATH: libc::c_uint = 4;
const MOUNT_ATTR_RDONLY: u64 = 1;
const MOUNT_ATTR_NOSUID: u64 = 2;
const MOUNT_ATTR_NODEV: u64 = 4;

/// A file that has a name as long as this lives.
#[derive(Debug)]
pub(crate) struct Loan {
    path: PathBuf,
    identity: (u64, u64),
    /// Its end tells the helper to take the name away.
    hold: Option<OwnedFd>,
    /// Ends with the helper.
    answer: File,
    helper: nix::unistd::Pid,
}

fn c_path(path: &Path) -> io::Result<CString> {
    CString::new(path.as_os_str().as_bytes()).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))
}

/// Gives `file`, an unnamed one of our own, a name in the directory where it was made. To be called by a single-threaded
/// process, which must be the file's owner.
///
/// # Errors
/// When it cannot have a name: it had one before, or the file system has no unnamed files.
pub(crate) fn lend(file: &File) -> io::Result<Loan> {
    let known_as = fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd()))?;
    let directory = known_as.parent().ok_or_else(|| io::Error::from_raw_os_error(libc::ENOENT))?;
    let mut random = [0; 16];
    File::open("/dev/urandom")?.read_exact(&mut random)?;
    let path = directory.join(format!(".ctrace-{:032x}", u128::from_ne_bytes(random)));
    let metadata = file.metadata()?;
    let (told, hold) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC)?;
    let (answer, answers) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC)?;
    // SAFETY: the child makes system calls and ends; the caller is single-threaded.
    let helper = match unsafe { nix::unistd::fork() }? {
        nix::unistd::ForkResult::Child => {
            drop((hold, answer));
            let status = help(file, &path, File::from(told), File::from(answers));
            // SAFETY: ends the process without the destructors of the forked parent.
            unsafe { libc::_exit(status) }
        }
        nix::unistd::ForkResult::Parent { child } => child,
    };
    drop((told, answers));
    let identity = (metadata.dev(), metadata.ino());
    let mut loan = Loan { path, identity, hold: Some(hold), answer: File::from(answer), helper };
    let mut errno = [0; 4];
    loan.answer.read_exact(&mut errno)?;
    match i32::from_ne_bytes(errno) {
        0 => Ok(loan),
        errno => Err(io::Error::from_raw_os_error(errno)),
    }
}

/// The helper's life. The name is hard to guess, and while it is there nobody else may read the file.
fn help(file: &File, path: &Path, mut told: File, mut answers: File) -> i32 {
    let all = nix::sys::signal::SigSet::all();
    let blocked = all.thread_block();
    let named = blocked.map_err(io::Error::from).and_then(|()| {
        file.set_permissions(fs::Permissions::from_mode(0o711))?;
        let from = CString::new(format!("/proc/self/fd/{}", file.as_raw_fd()))?;
        let to = c_path(path)?;
        let (here, follow) = (libc::AT_FDCWD, libc::AT_SYMLINK_FOLLOW);
        // SAFETY: two NUL-terminated strings that live across the call.
        let ret = unsafe { libc::linkat(here, from.as_ptr(), here, to.as_ptr(), follow) };
        if ret == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    });
    let errno = named.as_ref().err().map_or(0, |error| error.raw_os_error().unwrap_or(libc::EIO));
    // The other side may be gone; the name goes in any case.
    let _ = answers.write_all(&errno.to_ne_bytes());
    let _ = told.read(&mut [0]);
    if named.is_err() {
        return 1;
    }
    let removed = fs::remove_file(path).is_ok();
    i32::from(!(removed && file.set_permissions(fs::Permissions::from_mode(0o755)).is_ok()))
}

impl Loan {
    /// A mount of the file alone, attached nowhere, read-only. To be called in the new mount namespace.
    ///
    /// # Errors
    /// When the kernel has no such mounts, or files cannot be executed there.
    pub(crate) fn mount(&self) -> io::Result<OwnedFd> {
        let file = fs::OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_PATH | libc::O_NOFOLLOW | libc::O_CLOEXEC)
            .open(&self.path)?;
        let metadata = file.metadata()?;
        if (metadata.dev(), metadata.ino()) != self.identity {
            return Err(io::Error::other("the file was replaced"));
        }
        if nix::sys::statvfs::fstatvfs(&file)?.flags().contains(nix::sys::statvfs::FsFlags::ST_NOEXEC) {
            return Err(io::Error::other("files cannot be executed in the directory for temporary files"));
        }
        let flags = OPEN_TREE_CLONE | libc::O_CLOEXEC as libc::c_uint | libc::AT_EMPTY_PATH as libc::c_uint;
        // SAFETY: a descriptor, an empty string, flags.
        let tree = unsafe { libc::syscall(libc::SYS_open_tree, file.as_raw_fd(), c"".as_ptr(), flags) };
        let tree = nix::errno::Errno::result(tree)?;
        // SAFETY: a fresh descriptor that nobody else owns.
        let tree = unsafe { OwnedFd::from_raw_fd(tree as i32) };
        let attributes = MountAttr {
            attr_set: MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV,
            attr_clr: 0,
            propagation: 0,
            userns_fd: 0,
        };
        // SAFETY: reads one structure of the size given.
        let set = unsafe {
            libc::syscall(
                libc::SYS_mount_setattr,
                tree.as_raw_fd(),
                c"".as_ptr(),
                libc::AT_EMPTY_PATH,
                &raw const attributes,
                size_of::<MountAttr>(),
            )
        };
        nix::errno::Errno::result(set)?;
        Ok(tree)
    }
}

impl Drop for Loan {
    fn drop(&mut self) {
        drop(self.hold.take());
        // Of a copy of this in a forked process the helper is no child.
        let _ = self.answer.read(&mut [0]);
        let _ = nix::sys::wait::waitpid(self.helper, None);
    }
}

/// Attaches a mount of a single file at `at`, a file. The file must still have its name.
///
/// # Errors
/// When the kernel refuses.
pub(crate) fn attach(tree: &OwnedFd, at: &Path) -> io::Result<()> {
    let at = c_path(at)?;
    // SAFETY: two descriptors, two NUL-terminated strings, flags.
    let moved = unsafe {
        libc::syscall(
            libc::SYS_move_mount,
            tree.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_FDCWD,
            at.as_ptr(),
            MOVE_MOUNT_F_EMPTY_PATH,
        )
    };
    nix::errno::Errno::result(moved)?;
    Ok(())
}
