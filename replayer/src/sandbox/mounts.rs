//! Mounts that are attached nowhere yet: made or taken where that is allowed, attached where they are wanted.
//! All of this is there since Linux 5.12, which is the oldest kernel that ctrace runs on.

use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags, fsconfig_create,
    fsconfig_set_string, fsmount, fsopen, move_mount, open_tree,
};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;

/// A new tmpfs with mount options, attached nowhere.
///
/// # Errors
/// When the caller may not mount.
pub(crate) fn tmpfs(options: &[(&str, &str)]) -> io::Result<OwnedFd> {
    let context = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    for (key, value) in options {
        fsconfig_set_string(context.as_fd(), *key, *value)?;
    }
    fsconfig_create(context.as_fd())?;
    let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    Ok(fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes)?)
}

/// A mount of what `file` is open on, attached nowhere. `file` must have been reached through this mount namespace.
///
/// # Errors
/// When the kernel refuses.
pub(crate) fn mount_of(file: impl AsFd) -> io::Result<OwnedFd> {
    let flags =
        OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
    Ok(open_tree(file, "", flags)?)
}

/// A mount of what `mount` is, with copies of all that is attached to it, attached nowhere.
///
/// # Errors
/// When the kernel refuses.
pub(crate) fn tree_of(mount: impl AsFd) -> io::Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_EMPTY_PATH
        | OpenTreeFlags::AT_RECURSIVE;
    Ok(open_tree(mount, "", flags)?)
}

/// Attaches a mount at `at`, with what is attached to it. The kernel attaches no mount of a file or directory that has no
/// name (`d_set_mounted` in fs/dcache.c); among those below the one that is attached there may be some.
///
/// # Errors
/// When the kernel refuses.
pub(crate) fn attach(mount: impl AsFd, at: &Path) -> io::Result<()> {
    Ok(move_mount(mount, "", rustix::fs::CWD, at, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?)
}

/// Adds restrictions to a mount, and takes none away.
///
/// # Errors
/// When the kernel refuses.
pub(crate) fn restrict(mount: impl AsFd, attributes: u64) -> io::Result<()> {
    let attributes = libc::mount_attr { attr_set: attributes, attr_clr: 0, propagation: 0, userns_fd: 0 };
    // SAFETY: reads one structure of the size given; the path is an empty string.
    let set = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_fd().as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            &raw const attributes,
            size_of::<libc::mount_attr>(),
        )
    };
    nix::errno::Errno::result(set)?;
    Ok(())
}
