//! A disk of the sandbox's own, for the files whose writes are to wait as the recorded ones did: an ext4 in memory behind a
//! loop device, so that the kernel's limits on a device hold for it and for nobody else.
//!
//! It has no journal: the thread that commits one would wait in place of the task that syncs. The device goes with the last
//! mount of it (`LO_FLAGS_AUTOCLEAR`, drivers/block/loop.c), and the memory with the device. In version 2 of cgroups that is
//! charged to whoever writes (`loop_queue_work`), in version 1 to nobody: the disk is as small as the replay's limit on files
//! allows.

use super::namespaces;
use rustix::fs::{Gid, MemfdFlags, Mode, Uid, fchmod, fchown, memfd_create};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_flag, fsconfig_set_string,
    fsmount, fsopen,
};
use std::fmt;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Command, Stdio};

/// Makes file systems; where Debian and others have it.
const MKFS: [&str; 4] =
    ["/usr/sbin/mkfs.ext4", "/sbin/mkfs.ext4", "/usr/bin/mkfs.ext4", "/usr/local/sbin/mkfs.ext4"];
/// Less is not enough for a file system with what ext4 itself needs.
const LEAST_BYTES: u64 = 16 << 20;
/// A file system has at least this many names, and at most.
const INODES: (u64, u64) = (1024, 1 << 20);
/// Somebody else may take the device that was free a moment ago.
const TRIES: u32 = 16;

const LOOP_CTL_GET_FREE: libc::c_ulong = 0x4C82;
const LOOP_CONFIGURE: libc::c_ulong = 0x4C0A;
const LO_FLAGS_AUTOCLEAR: u32 = 4;
const LO_NAME_SIZE: usize = 64;
const LO_KEY_SIZE: usize = 32;

/// `struct loop_info64` (include/uapi/linux/loop.h).
#[repr(C)]
struct LoopInfo {
    device: u64,
    inode: u64,
    rdevice: u64,
    offset: u64,
    size_limit: u64,
    number: u32,
    encrypt_type: u32,
    encrypt_key_size: u32,
    flags: u32,
    file_name: [u8; LO_NAME_SIZE],
    crypt_name: [u8; LO_NAME_SIZE],
    encrypt_key: [u8; LO_KEY_SIZE],
    init: [u64; 2],
}

/// `struct loop_config`.
#[repr(C)]
struct LoopConfig {
    fd: u32,
    block_size: u32,
    info: LoopInfo,
    reserved: [u64; 8],
}

/// A mounted file system that is attached nowhere yet, and its device.
#[derive(Debug)]
pub(crate) struct Disk {
    pub(crate) mount: OwnedFd,
    pub(crate) device: Device,
}

/// Numbers of a block device, as cgroups name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Device {
    pub(crate) major: u32,
    pub(crate) minor: u32,
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.major, self.minor)
    }
}

/// Makes a disk of so many bytes and names. To be called by root outside of the sandbox's user namespace: the kernel mounts
/// block devices for nobody else.
///
/// # Errors
/// A clause that says why this host, or this user, has none.
pub(crate) fn make(bytes: u64, names: u64) -> Result<Disk, String> {
    let fail = |what: &str, error: io::Error| format!("{what}: {error}");
    let memory = memfd_create("ctrace-disk", MemfdFlags::CLOEXEC)
        .map_err(|errno| fail("memory for a disk", errno.into()))?;
    let memory = File::from(memory);
    memory.set_len(bytes.max(LEAST_BYTES)).map_err(|error| fail("memory for a disk", error))?;
    format(&memory, names.clamp(INODES.0, INODES.1))?;
    let (path, device, node) = attach(&memory).map_err(|error| fail("a loop device", error))?;
    let mount = mount(&path).map_err(|error| fail("mounting an ext4", error))?;
    drop(node);
    Ok(Disk { mount, device })
}

/// Makes the file system.
fn format(memory: &File, names: u64) -> Result<(), String> {
    let Some(mkfs) = MKFS.iter().find(|path| Path::new(path).exists()) else {
        return Err("there is no mkfs.ext4 here (Debian: e2fsprogs)".to_owned());
    };
    // It opens the file by the descriptor that it is given as standard input.
    let input = memory.try_clone().map_err(|error| error.to_string())?;
    let made = Command::new(mkfs)
        .env_clear()
        .args(["-q", "-F", "-m", "0", "-b", "4096", "-O", "^has_journal,^resize_inode"])
        .args(["-E", "nodiscard,lazy_itable_init=1", "-N", &names.to_string(), "/proc/self/fd/0"])
        .stdin(input)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .output()
        .map_err(|error| format!("{mkfs}: {error}"))?;
    if made.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&made.stderr);
    Err(format!("{mkfs}: {}", said.lines().next().unwrap_or("it failed")))
}

/// Attaches a loop device; its path, its numbers, and a descriptor without which it would be gone again.
fn attach(memory: &File) -> io::Result<(String, Device, File)> {
    let control = File::options().read(true).write(true).open("/dev/loop-control")?;
    let config = LoopConfig {
        fd: memory.as_raw_fd() as u32,
        block_size: 4096,
        info: LoopInfo {
            device: 0,
            inode: 0,
            rdevice: 0,
            offset: 0,
            size_limit: 0,
            number: 0,
            encrypt_type: 0,
            encrypt_key_size: 0,
            flags: LO_FLAGS_AUTOCLEAR,
            file_name: [0; LO_NAME_SIZE],
            crypt_name: [0; LO_NAME_SIZE],
            encrypt_key: [0; LO_KEY_SIZE],
            init: [0; 2],
        },
        reserved: [0; 8],
    };
    let mut last = io::Error::from_raw_os_error(libc::EBUSY);
    for _ in 0..TRIES {
        // SAFETY: takes no argument.
        let number = unsafe { libc::ioctl(control.as_raw_fd(), LOOP_CTL_GET_FREE) };
        if number < 0 {
            return Err(io::Error::last_os_error());
        }
        let path = format!("/dev/loop{number}");
        let node = File::options().read(true).write(true).open(&path)?;
        // SAFETY: reads one structure of the kernel's layout.
        if unsafe { libc::ioctl(node.as_raw_fd(), LOOP_CONFIGURE, &raw const config) } == 0 {
            let rdev = node.metadata()?.rdev();
            let device = Device { major: libc::major(rdev), minor: libc::minor(rdev) };
            return Ok((path, device, node));
        }
        last = io::Error::last_os_error();
        if last.raw_os_error() != Some(libc::EBUSY) {
            break;
        }
    }
    Err(last)
}

/// Mounts the device, attached nowhere; its root is that of the sandbox's root.
fn mount(device: &str) -> io::Result<OwnedFd> {
    let context = fsopen("ext4", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_set_string(context.as_fd(), "source", device)?;
    // The thread that would initialise the rest of the tables writes to the disk, too.
    fsconfig_set_flag(context.as_fd(), "noinit_itable")?;
    fsconfig_create(context.as_fd())?;
    let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NODEV
        | MountAttrFlags::MOUNT_ATTR_NOATIME;
    let mount = fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes)?;
    let root = rustix::fs::openat(
        &mount,
        ".",
        rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::DIRECTORY | rustix::fs::OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    // Nobody lists it who did not make it.
    let _ = rustix::fs::unlinkat(&root, "lost+found", rustix::fs::AtFlags::REMOVEDIR);
    fchown(&root, Some(Uid::from_raw(namespaces::HOST_IDS)), Some(Gid::from_raw(namespaces::HOST_IDS)))?;
    fchmod(&root, Mode::from_raw_mode(0o1777))?;
    Ok(mount)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::fd::FromRawFd;

    #[test]
    fn the_layouts_are_the_kernels() {
        assert_eq!(size_of::<LoopInfo>(), 232);
        assert_eq!(size_of::<LoopConfig>(), 304);
    }

    #[test]
    fn a_disk_goes_with_its_mount() {
        let disk = match make(64 << 20, 100) {
            Ok(disk) => disk,
            Err(why) => {
                eprintln!("skipped: {why}");
                return;
            }
        };
        let Device { major, minor } = disk.device;
        let backing = format!("/sys/dev/block/{major}:{minor}/loop/backing_file");
        assert!(fs::read_to_string(&backing).unwrap().contains("ctrace-disk"));
        let open = |flags: i32| {
            // SAFETY: opens a name in a directory of ours.
            let fd = unsafe { libc::openat(disk.mount.as_raw_fd(), c"x".as_ptr(), flags, 0o600) };
            assert!(fd >= 0, "{}", io::Error::last_os_error());
            // SAFETY: just opened.
            unsafe { File::from_raw_fd(fd) }
        };
        let file = open(libc::O_CREAT | libc::O_RDWR);
        file.set_len(1 << 20).unwrap();
        file.sync_all().unwrap();
        drop(file);
        drop(disk);
        let gone = || !fs::read_to_string(&backing).is_ok_and(|text| text.contains("ctrace-disk"));
        let since = std::time::Instant::now();
        while !gone() && since.elapsed().as_secs() < 60 {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        assert!(gone());
    }
}
