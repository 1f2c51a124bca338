//! The sandbox's device nodes: its own where ctrace may make some, else the host's, through mounts that let nobody change
//! them.
//!
//! An own node is another inode of the same driver: times, modes, locks and watches of it are nobody else's. Of the
//! host's nodes a read-only mount keeps times, modes, owners and attributes, not locks and watches, which change no file
//! system: the worker asks what a descriptor or path is before it makes such a call (`flock`, `inotify_add_watch`).

use super::{SandboxError, mounts, namespaces};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use rustix::fs::{
    AtFlags, CWD, FileType, Gid, Mode, OFlags, Uid, chmodat, chownat, makedev, mknodat, openat,
};
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

/// Devices that affect nobody when they are read or written (Documentation/admin-guide/devices.txt): name, major, minor.
/// The terminal is that of a session; the sandbox's has none.
const DEVICES: [(&str, u32, u32); 6] =
    [("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)];
/// Where the file system of the own nodes lies while they are placed, below the private root.
const PLACE: &str = ".devices";

/// A file system with nodes of its own, owned by the sandbox's root. To be made outside of the sandbox's user namespace:
/// a node that was made in one opens nothing.
///
/// # Errors
/// When the caller may not mount or make nodes.
pub(crate) fn make() -> io::Result<OwnedFd> {
    let own = mounts::tmpfs(&[("mode", "755"), ("size", "64k"), ("nr_inodes", "16")])?;
    let (uid, gid) = (Uid::from_raw(namespaces::HOST_IDS), Gid::from_raw(namespaces::HOST_IDS));
    for (name, major, minor) in DEVICES {
        mknodat(&own, name, FileType::CharacterDevice, Mode::empty(), makedev(major, minor))?;
        chownat(&own, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
        chmodat(&own, name, Mode::from_raw_mode(0o666), AtFlags::empty())?;
        // A host may let nodes be made and not be opened (the device controller of cgroups).
        openat(&own, name, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
    }
    openat(&own, "null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
    Ok(own)
}

/// Places all nodes in `base`/dev: those of `own`, or the host's.
///
/// # Errors
/// When there is no `null`, or the host's nodes cannot be protected.
pub(crate) fn place(base: &Path, own: Option<&OwnedFd>) -> Result<(), SandboxError> {
    let fail = |what: &'static str, at: &Path, error: io::Error| {
        SandboxError::build(what, at.display().to_string(), error)
    };
    let none: Option<&str> = None;
    let nodes = base.join(PLACE);
    if let Some(own) = own {
        fs::create_dir(&nodes).map_err(|error| fail("make a directory", &nodes, error))?;
        mounts::attach(own, &nodes).map_err(|error| fail("attach the device nodes", &nodes, error))?;
    }
    for (name, ..) in DEVICES {
        let from = if own.is_some() { nodes.join(name) } else { Path::new("/dev").join(name) };
        let to = base.join("dev").join(name);
        File::create(&to).map_err(|error| fail("make a device", &to, error))?;
        let bound = mount(Some(&from), &to, none, MsFlags::MS_BIND, none);
        if bound.is_err() && name != "null" {
            // An empty file stands for it; nearly nothing needs it.
            continue;
        }
        bound.map_err(|errno| fail("bind a device", &from, errno.into()))?;
        if own.is_none() {
            protect(&to).map_err(|error| fail("make a device node of the host read-only", &to, error))?;
        }
    }
    if own.is_some() {
        umount2(&nodes, MntFlags::MNT_DETACH)
            .map_err(|errno| fail("detach the device nodes", &nodes, errno.into()))?;
        fs::remove_dir(&nodes).map_err(|error| fail("remove a directory", &nodes, error))?;
    }
    Ok(())
}

fn protect(at: &Path) -> io::Result<()> {
    let node = openat(CWD, at, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
    let all = libc::MOUNT_ATTR_RDONLY | libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NOEXEC;
    mounts::restrict(node.as_fd(), all)
}

/// Names in `/dev` of the private root: of all nodes.
pub(crate) fn nodes() -> impl Iterator<Item = &'static str> {
    DEVICES.iter().map(|(name, ..)| *name)
}

/// The node in `/dev` of the private root for a device number, if there is one.
pub(crate) fn node_of(rdev: u64) -> Option<&'static str> {
    let number = (libc::major(rdev), libc::minor(rdev));
    DEVICES.iter().find(|(_, major, minor)| (*major, *minor) == number).map(|(name, ..)| *name)
}
