//! Brings the compiled trace, a file without a name, into the sandbox without a copy.
//!
//! The kernel makes a mount of a file that has no name, and attaches none (`d_set_mounted` in fs/dcache.c answers
//! ENOENT). So the file has a name for the few microseconds in which it is attached, in a process that nothing but a
//! signal to itself can stop meanwhile: it leads a session of its own, so a signal to ctrace's process group does not reach
//! it, and it does not end with ctrace before the name is gone. It is attached to a small file system, the carrier: of that
//! and what is attached to it a copy can be made that is attached wherever it is wanted.

use super::mounts;
use rustix::fs::{AtFlags, CWD, Mode, OFlags, linkat, openat, unlinkat};
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// The name of the program in the carrier.
pub(crate) const FILE: &str = "program";

/// The program's directory as it is reached outside of the new mount namespace.
#[derive(Debug)]
pub(crate) struct Outside {
    path: PathBuf,
    directory: OwnedFd,
}

/// A carrier.
#[derive(Debug)]
pub(crate) struct Carrier(OwnedFd);

/// An empty one. Whoever makes it must be known in the user namespace at hand.
///
/// # Errors
/// When the caller may not mount.
pub(crate) fn make() -> io::Result<Carrier> {
    let carrier = mounts::tmpfs(&[("mode", "755"), ("size", "64k"), ("nr_inodes", "16")])?;
    openat(&carrier, FILE, OFlags::CREATE | OFlags::WRONLY | OFlags::CLOEXEC, Mode::from_raw_mode(0o644))?;
    Ok(Carrier(carrier))
}

/// Remembers where `program`, an unnamed file of our own, was made.
///
/// # Errors
/// When its directory is gone.
pub(crate) fn look(program: &File) -> io::Result<Outside> {
    let known_as = fs::read_link(format!("/proc/self/fd/{}", program.as_raw_fd()))?;
    let path = known_as.parent().ok_or_else(|| io::Error::from_raw_os_error(libc::ENOENT))?.to_owned();
    let directory = open_directory(&path)?;
    Ok(Outside { path, directory })
}

fn open_directory(path: &Path) -> io::Result<OwnedFd> {
    Ok(openat(CWD, path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?)
}

/// Loads the program onto `carrier`, read-only: two mounts, attached nowhere. `place` is a directory over which something
/// can be mounted meanwhile. To be called in the new mount namespace, as the file's owner, by the leader of a session that is
/// not to be killed with its parent while this runs.
///
/// # Errors
/// When the file cannot have a name (it had one before, or the file system has no unnamed files), when files cannot be
/// executed in its file system, or when the kernel refuses a mount.
pub(crate) fn load(
    carrier: &Carrier,
    place: &Path,
    program: &File,
    outside: &Outside,
) -> io::Result<OwnedFd> {
    // Before something lies above it.
    let inside = open_directory(&outside.path)?;
    if nix::sys::statvfs::fstatvfs(&inside)?.flags().contains(nix::sys::statvfs::FsFlags::ST_NOEXEC) {
        return Err(io::Error::other("files cannot be executed in the directory for temporary files"));
    }
    let mut random = [0; 16];
    File::open("/dev/urandom")?.read_exact(&mut random)?;
    let name = format!(".ctrace-{:032x}", u128::from_ne_bytes(random));
    let anonymous = format!("/proc/self/fd/{}", program.as_raw_fd());
    mounts::attach(&carrier.0, place)?;
    let at = place.join(FILE);

    linkat(CWD, &anonymous, &outside.directory, &name, AtFlags::SYMLINK_FOLLOW)?;
    let attached = attach(&inside, &name, program, &at);
    unlinkat(&outside.directory, &name, AtFlags::empty())?;

    let attributes = libc::MOUNT_ATTR_RDONLY | libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV;
    mounts::restrict(&attached?, attributes)?;
    let loaded = mounts::tree_of(&carrier.0)?;
    mounts::restrict(&loaded, attributes)?;
    nix::mount::umount2(place, nix::mount::MntFlags::MNT_DETACH)?;
    // Nobody but the owner could read it while it had a name.
    program.set_permissions(fs::Permissions::from_mode(0o755))?;
    Ok(loaded)
}

fn attach(inside: &OwnedFd, name: &str, program: &File, at: &Path) -> io::Result<OwnedFd> {
    let file = openat(inside, name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
    let (found, wanted) = (rustix::fs::fstat(&file)?, program.metadata()?);
    if (found.st_dev, found.st_ino) != (wanted.dev(), wanted.ino()) {
        return Err(io::Error::other("the file was replaced"));
    }
    let mount = mounts::mount_of(file)?;
    mounts::attach(&mount, at)?;
    Ok(mount)
}
