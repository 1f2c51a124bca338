//! The object behind a descriptor: found through the task's own table, described once.

use crate::{
    capture::bounded,
    kernel::{add, copy_words, current, follow, read_or, read_or_zero, ticks},
    maps::{ANNOUNCED, NEXT, SHARED, WALK, global, lost, scratch, send},
};
use aya_ebpf::helpers::generated::bpf_probe_read_kernel_str;
use ctrace_abi::{
    DESCRIBED, FileObject, KNOWN, KnownFile, MAX_COMPONENTS, MISSING, OpenedFile, Shared, kind, known_at,
    loss,
};

// include/uapi/linux/stat.h.
const S_IFMT: u16 = 0o170_000;
const S_IFREG: u16 = 0o100_000;
const S_IFSOCK: u16 = 0o140_000;

/// The `struct file` behind a descriptor of the calling task ([`crate::kernel::current_of`]), or 0.
#[inline(always)]
pub fn open_file(task: *const u8, fd: u32) -> u64 {
    let (files, fdt, table, max) =
        (global!(task_files), global!(files_fdt), global!(fdt_fd), global!(fdt_max));
    if files == MISSING || fdt == MISSING || table == MISSING || max == MISSING {
        return 0;
    }
    // SAFETY: typed pointers plus offsets of their fields; the verifier checks each access, the kernel catches faults.
    unsafe {
        let files = core::ptr::read_volatile(task.add(files as usize).cast::<*const u8>());
        if files.is_null() {
            return 0;
        }
        let fdt = core::ptr::read_volatile(follow(files).add(fdt as usize).cast::<*const u8>());
        if fdt.is_null() {
            return 0;
        }
        let fdt = follow(fdt);
        let max = core::ptr::read_volatile(fdt.add(max as usize).cast::<u32>());
        if fd >= max {
            return 0;
        }
        let table = core::ptr::read_volatile(fdt.add(table as usize).cast::<u64>());
        read_or_zero::<u64>(table + u64::from(fd) * 8, 0)
    }
}

/// Makes sure that user space knows a file. False: it does not, and the next call that meets the file tries again.
#[inline(always)]
pub fn known_file(file: u64, tid: u32) -> bool {
    if file == 0 {
        return true;
    }
    // SAFETY: the value is copied out; a racing update can only make it announced again.
    if let Some(announced) = unsafe { ANNOUNCED.get(&file) } {
        // The address may belong to another file by now.
        if announced.inode == identity(read_or_zero(file, global!(file_inode))) {
            return true;
        }
    }
    announce(file, tid, 0) != 0
}

/// Describes a file that the call at hand opened, unless it is the one that the same thread had at this address a
/// moment ago: a server that opens one file for each request gets the same `struct file` back, and describing it costs
/// as much as all else that is recorded of the call. That it was renamed shows; that a directory above was, only where
/// the scope did it, hence no longer than a moment. An empty file may be a new one, whose size at first matters.
///
/// `last` is what the thread remembers of what it opened last, and asked before the table of all files.
#[inline(always)]
pub fn opened(last: &mut OpenedFile, file: u64, tid: u32) {
    let described = describes(file);
    if last.file == file && last.described == described && stands(last, file) {
        return;
    }
    // SAFETY: as in `known_file`.
    let found = match unsafe { ANNOUNCED.get(&file) } {
        Some(announced) if announced.tid == tid && stands(announced, file) => core::ptr::from_ref(announced),
        _ if announce(file, tid, 1) == 0 => return,
        _ => match NEXT.get_ptr(0) {
            Some(next) => next,
            None => return,
        },
    };
    // SAFETY: a value of a map. One that is written meanwhile does not stand next time.
    unsafe { copy_words(last, found) };
    last.described = describes(file);
}

/// Whether a file that is opened again is what it was when it was described.
#[inline(always)]
fn stands(then: &OpenedFile, file: u64) -> bool {
    let inode: u64 = read_or_zero(file, global!(file_inode));
    ticks().wrapping_sub(then.at) < global!(sample_ticks)
        && then.dentry != 0
        && then.moves == moves()
        && identity(inode) == then.inode
        && read_or_zero::<u64>(file, global!(file_dentry)) == then.dentry
        && read_or_zero::<u64>(then.dentry, global!(dentry_parent)) == then.parent
        && read_or_zero::<u64>(then.dentry, global!(dentry_hash)) == then.name
        && read_or_zero::<u64>(inode, global!(inode_size)) != 0
}

/// An inode, by its address and its number (`i_ino`): addresses are used again at once, for an inode of another file system
/// just as well. Inodes at one address with other numbers are different for certain, since an odd factor keeps them apart.
#[inline(always)]
fn identity(inode: u64) -> u64 {
    const ODD: u64 = 0x9e37_79b9_7f4a_7c15;
    inode.wrapping_add(read_or_zero::<u64>(inode, global!(inode_ino)).wrapping_mul(ODD))
}

/// How often files were described whose address is like this one's.
#[inline(always)]
fn describes(file: u64) -> u64 {
    match SHARED.get_ptr(0) {
        // SAFETY: the index is bounded; whole words.
        Some(shared) => unsafe { (*shared).described.as_ptr().add(described_at(file)).read_volatile() },
        None => 0,
    }
}

/// How often the scope has changed what paths lead to.
#[inline(always)]
fn moves() -> u64 {
    match SHARED.get_ptr(0) {
        // SAFETY: the value of the map; whole words.
        Some(shared) => unsafe { (&raw const (*shared).moves).read_volatile() },
        None => 0,
    }
}

/// As [`known_file`], for a task that remembers what it has met: its own memory is asked before the table of all files,
/// which costs five times as much.
#[inline(always)]
pub fn known_to(all: &mut [KnownFile; KNOWN], shared: *const Shared, file: u64, tid: u32) -> bool {
    // SAFETY: the indices are bounded.
    let (known, described) = unsafe {
        (&mut *all.as_mut_ptr().add(known_at(file)), (*shared).described.as_ptr().add(described_at(file)))
    };
    // Read first: what is described meanwhile makes the memory invalid.
    // SAFETY: a whole word of the map's value.
    let described = unsafe { described.read_volatile() };
    let inode = identity(read_or_zero(file, global!(file_inode)));
    if known.file == file && known.inode == inode && known.described == described {
        return true;
    }
    let is_known = known_file(file, tid);
    if is_known {
        *known = KnownFile { file, inode, described };
    }
    is_known
}

#[inline(always)]
fn described_at(file: u64) -> usize {
    bounded::<{ DESCRIBED as i32 - 1 }>(file >> 6 ^ file >> 16) as usize
}

/// Describes a file to user space; `fresh`: the call at hand made it. A global function, see [`crate::capture`].
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn announce(file: u64, tid: u32, fresh: u32) -> u32 {
    if file == 0 {
        return 0;
    }
    let inode: u64 = read_or_zero(file, global!(file_inode));
    if inode == 0 {
        return 0;
    }
    if let Some(shared) = SHARED.get_ptr_mut(0) {
        // SAFETY: the index is bounded.
        let described = unsafe { (*shared).described.as_mut_ptr().add(described_at(file)) };
        add(described, 1);
    }
    let mode: u16 = read_or_zero(inode, global!(inode_mode));
    let sent = if mode & S_IFMT == S_IFSOCK {
        crate::socks::announce_socket(file, inode, tid)
    } else {
        announce_file(file, inode, tid, fresh)
    };
    if sent == 0 {
        lost(loss::DETAIL_RING);
        // Another file may have had this address: the next call that meets it tries again.
        let _ = ANNOUNCED.remove(&file);
        return 0;
    }
    let Some(next) = NEXT.get_ptr_mut(0) else { return 0 };
    // SAFETY: this CPU's memory.
    let next = unsafe { &mut *next };
    next.file = file;
    next.inode = identity(inode);
    next.dentry = read_or_zero(file, global!(file_dentry));
    next.parent = read_or_zero(next.dentry, global!(dentry_parent));
    next.name = read_or_zero(next.dentry, global!(dentry_hash));
    next.tid = tid;
    next.at = ticks();
    next.moves = moves();
    // Pipes and sockets made by a call are new ones, and files without a name may be.
    if mode & S_IFMT != S_IFREG || next.name == 0 {
        next.dentry = 0;
    }
    let _ = ANNOUNCED.insert(&file, next, 0);
    1
}

/// Describes a file that is no socket, with its path. A global function, see [`crate::capture`].
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn announce_file(file: u64, inode: u64, tid: u32, fresh: u32) -> u32 {
    let Some(buffer) = scratch(2) else { return 0 };
    // SAFETY: the buffer is larger, aligned to 8, and this CPU's.
    let o = unsafe { &mut *buffer.cast::<FileObject>() };
    let sb: u64 = read_or_zero(inode, global!(inode_sb));
    o.kind = kind::FILE;
    o.tid = tid;
    o.t_ns = now();
    o.file = file;
    o.inode = inode;
    o.ino = read_or_zero(inode, global!(inode_ino));
    o.size = read_or_zero(inode, global!(inode_size));
    o.mode = u32::from(read_or_zero::<u16>(inode, global!(inode_mode)));
    o.rdev = read_or_zero(inode, global!(inode_rdev));
    o.dev = read_or_zero(sb, global!(sb_dev));
    o.magic = read_or_zero::<u64>(sb, global!(sb_magic)) as u32;
    o.f_mode = read_or_zero(file, global!(file_mode));
    o.reserved = 0;

    let dentry: u64 = read_or_zero(file, global!(file_dentry));
    let mnt: u64 = read_or_zero(file, global!(file_mnt));
    o.flags = if read_or(dentry, global!(dentry_unhashed), 1_u64) == 0 { 2 } else { 0 };
    let fs = {
        let offset = global!(task_fs);
        if offset == MISSING {
            0
        } else {
            // SAFETY: a typed pointer plus the offset of its field.
            unsafe { core::ptr::read_volatile(current().add(offset as usize).cast::<u64>()) }
        }
    };
    let Some(walk) = WALK.get_ptr_mut(0) else { return 0 };
    // SAFETY: this CPU's memory.
    let walk = unsafe { &mut *walk };
    walk.dentry = dentry;
    walk.mnt = mnt;
    walk.root_dentry = read_or_zero(fs, global!(fs_root_dentry));
    walk.root_mnt = read_or_zero(fs, global!(fs_root_mnt));
    walk.used = 0;
    let mut done = 0;
    for _ in 0..MAX_COMPONENTS {
        done = path_step(0);
        if done != 0 {
            break;
        }
    }
    match done {
        1 => {}
        3 => o.flags |= 4,
        _ => o.flags |= 1,
    }
    if fresh != 0 {
        o.flags |= 8;
    }
    let used = walk.used;
    o.path_len = used as u16;
    u32::from(send(buffer, size_of::<FileObject>() as u64 + bounded::<0x1fff>(used)))
}

/// One step up the path that `WALK` describes: 0 go on, 1 done, 2 no room, 3 done and a pseudo file. A global function, see
/// [`crate::capture`]: the verifier checks one step instead of every sequence of steps.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn path_step(which: u32) -> u32 {
    let Some(walk) = WALK.get_ptr_mut(which & 1) else { return 1 };
    // SAFETY: this CPU's memory.
    let walk = unsafe { &mut *walk };
    let (dentry, mnt) = (walk.dentry, walk.mnt);
    if dentry == 0 || (dentry == walk.root_dentry && mnt == walk.root_mnt) {
        return 1;
    }
    let parent: u64 = read_or_zero(dentry, global!(dentry_parent));
    let top: u64 = read_or_zero(mnt, global!(vfsmount_root));
    let mount_offset = global!(mount_mnt);
    if dentry == top {
        // The root of a mounted file system: go on at the place where it is mounted (fs/d_path.c).
        if mount_offset == MISSING {
            return 1;
        }
        let mount = mnt - u64::from(mount_offset);
        let up: u64 = read_or_zero(mount, global!(mount_parent));
        if up == 0 || up == mount {
            return 1;
        }
        walk.dentry = read_or_zero(mount, global!(mount_mountpoint));
        walk.mnt = up + u64::from(mount_offset);
        return 0;
    }
    let name: u64 = read_or_zero(dentry, global!(dentry_name));
    let Some(buffer) = scratch(2) else { return 1 };
    let offset = bounded::<0xfff>(walk.used);
    // SAFETY: the offset is below 4 KiB, and a name is at most 255 bytes and its NUL.
    let to = unsafe { buffer.add(size_of::<FileObject>() + offset as usize) };
    // SAFETY: the helper writes at most 256 bytes.
    let n = unsafe { bpf_probe_read_kernel_str(to.cast(), 256, name as *const _) };
    if n <= 0 {
        return 1;
    }
    walk.used = offset + bounded::<0x1ff>(n as u64);
    if dentry == parent {
        // A pseudo file (anon_inode, memfd, pipe): it has a name and no place.
        return 3;
    }
    walk.dentry = parent;
    if walk.used > 0xe00 { 2 } else { 0 }
}

/// `FMODE_CREATED` (include/linux/fs.h, since 4.19): this open made the file.
pub fn was_created(file: u64) -> bool {
    read_or_zero::<u32>(file, global!(file_mode)) & (1 << 20) != 0
}

/// The time for a description, see `Walk::now`.
#[inline(always)]
pub fn now() -> u64 {
    if let Some(walk) = WALK.get_ptr_mut(0) {
        // SAFETY: this CPU's memory.
        let fixed = unsafe { (*walk).now };
        if fixed != 0 {
            return fixed;
        }
    }
    crate::kernel::now()
}

/// Fixes the time for descriptions; 0: lets it run.
#[inline(always)]
pub fn fix_now(t_ns: u64) {
    if let Some(walk) = WALK.get_ptr_mut(0) {
        // SAFETY: this CPU's memory.
        unsafe { (*walk).now = t_ns };
    }
}
