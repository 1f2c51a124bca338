//! What goes with messages: their addresses, the descriptors that are passed along, and the address that a socket gets
//! when it sends without one.

use crate::{
    capture::{
        CUT, FAULT, LAST, POSITION, UNBOUND, bounded, head, iovec, read_user, read_user_u32, read_user_u64,
        sized,
    },
    files::{fix_now, known_file, open_file},
    kernel::{current_of, read_or_zero},
    maps::{WALK, global, scratch},
    scope::slot,
    socks::{AF_INET, AF_INET6, AF_UNIX},
};
use aya_ebpf::helpers::generated::bpf_probe_read_kernel;
use ctrace_abi::{MAX_ITEMS, MAX_PASSED, MISSING, Slot, Spec, data, op};

/// Size of `struct mmsghdr` and place of its `msg_len`, of 64-bit programs (include/linux/socket.h). It begins with a
/// `struct msghdr`, of 56 bytes.
const MMSGHDR: u64 = 64;
const MSG_LEN: u64 = 56;
const MSGHDR: u64 = 56;
/// Where a `struct msghdr` has its control data, and then their length.
const CONTROL_AT: u64 = 32;
/// Set in a result of [`message_items`]: there are control data that may pass descriptors along.
pub const CONTROL: u32 = 1 << 28;
/// Set in a result of [`message_items`]: the message names an address.
pub const NAMED: u32 = 1 << 27;
/// Set in a result of [`control_step`]: there are no more.
const DONE: u32 = 1 << 26;
/// `struct cmsghdr`: a length that includes it, and in the second word its level and its type.
const CMSGHDR: u64 = 16;
/// `SOL_SOCKET` and `SCM_RIGHTS` (include/linux/socket.h), as that word.
const PASSED: u64 = 1 | 1 << 32;
/// Where a header is kept while its items are written: behind all that an I/O vector takes.
const ASIDE: usize = 2048;
/// The walk through control data.
const WALK_CONTROL: u32 = 3;
/// Steps of that walk: descriptors, messages, and the heads of what else there is.
const STEPS: usize = MAX_PASSED + MAX_ITEMS + 32;
/// Most bytes of a unix socket's address (`struct sockaddr_un`).
const SOCKADDR_UN: u32 = 110;

/// What a message is told as.
pub mod how {
    /// At the call's exit.
    pub const EXIT: u32 = 1;
    /// One of several: bits 8 and up say which.
    pub const ONE_OF_SEVERAL: u32 = 1 << 1;
}

/// The `aux` of the items of a message: the phase, and which of several it is.
#[inline(always)]
fn aux_of(what: u32) -> u16 {
    (what & how::EXIT | (what >> 8 & 0xff) << 1) as u16
}

/// Appends items of the message with this header: its parts, its address. Returns the new position as
/// [`crate::capture::run_op`] does, with [`CONTROL`] and [`NAMED`]. A global function, see there.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn message_items(header: u64, what: u32, pos: u32) -> u32 {
    let Some(buffer) = scratch(what & how::EXIT) else { return pos };
    if pos > LAST {
        return pos | CUT;
    }
    let pos = bounded::<0x1ff8>(u64::from(pos));
    // SAFETY: `pos` ≤ 0x1ff8, and the buffer has 16 KiB.
    let (at, data) = unsafe { (buffer.add(pos as usize), buffer.add(pos as usize + 8)) };
    let aux = aux_of(what);
    // A message is always the second argument.
    let arg = 1;
    // SAFETY: as above.
    let aside = unsafe { data.add(ASIDE) };
    let kind = if what & how::ONE_OF_SEVERAL == 0 { op::IOV } else { op::MESSAGE };
    if !read_user(aside, MSGHDR, header) {
        return head(at, pos, kind, arg, 0, 2, aux);
    }
    // SAFETY: read above.
    let [name, name_len, vector, parts, control, control_len] = unsafe { *aside.cast::<[u64; 6]>() };
    let mut result = iovec(at, data, pos, arg, vector, parts, aux);
    if kind == op::MESSAGE {
        let fault = if result & FAULT != 0 { 2 } else { u16::from(result & CUT != 0) };
        let moved = read_user_u32(header + MSG_LEN).unwrap_or(0);
        // SAFETY: inside the buffer.
        unsafe { *data.add(16).cast::<u64>() = u64::from(moved) };
        result = head(at, pos, kind, arg, if fault == 2 { 0 } else { 24 }, fault, aux);
    }
    let mut flags = result & !POSITION;
    let name_len = name_len & 0xffff_ffff;
    if name != 0 && name_len != 0 {
        let pos = bounded::<0x1ff8>(u64::from(result & POSITION));
        // SAFETY: as above.
        let (at, data) = unsafe { (buffer.add(pos as usize), buffer.add(pos as usize + 8)) };
        result = sized(at, data, pos, [op::ADDR, arg], name_len, 128, name, aux);
        flags |= result & !POSITION;
        flags |= NAMED;
    }
    if control != 0 && control_len >= CMSGHDR + 4 {
        flags |= CONTROL;
    }
    result & POSITION | flags
}

/// Appends the items of the messages of a call that takes several.
#[inline(always)]
pub fn all_messages(first: u64, count: u64, pos: u32) -> u32 {
    let (mut pos, mut flags) = (pos, 0);
    for i in 0..MAX_ITEMS as u32 {
        if u64::from(i) >= count {
            break;
        }
        let what = how::EXIT | how::ONE_OF_SEVERAL | i << 8;
        let result = message_items(first + u64::from(i) * MMSGHDR, what, pos);
        flags |= result & !POSITION;
        pos = result & POSITION;
    }
    if count > MAX_ITEMS as u64 {
        flags |= CUT;
    }
    pos | flags
}

/// Appends the descriptors that went with the messages of a call, one item each. Inlined into what is called by few others:
/// what it calls describes files, and the frames of a chain of calls share 512 bytes (see [`crate::kernel::read_to`]).
#[inline(always)]
pub fn passed(number: u32, slot: &Slot, spec: &Spec, phase: u32, pos: u32) -> u32 {
    let Some(walk) = WALK.get_ptr_mut(WALK_CONTROL) else { return pos };
    // SAFETY: this CPU's memory.
    let walk = unsafe { &mut *walk };
    // A message is always the second argument.
    walk.base = slot.call.args[1];
    walk.used = if spec.data == data::MESSAGES { slot.call.ret.max(0) as u64 } else { 1 };
    walk.fault = u64::MAX;
    walk.next = 0;
    walk.root_mnt = 0;
    walk.count = 0;
    let mut result = pos;
    for _ in 0..STEPS {
        result = result & !POSITION | control_step(number, phase, result & POSITION);
        if result & DONE != 0 {
            break;
        }
    }
    result & !DONE
}

/// One step of the walk through control data: the next descriptor, the next head, or the next message. Returns the new
/// position, with [`DONE`] behind the last. A global function.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn control_step(number: u32, phase: u32, pos: u32) -> u32 {
    let Some(slot) = slot(number as u16) else { return pos | DONE };
    let Some(walk) = WALK.get_ptr_mut(WALK_CONTROL) else { return pos | DONE };
    // SAFETY: this CPU's memory.
    let walk = unsafe { &mut *walk };
    if walk.count == 0 {
        let left = walk.root_mnt.wrapping_sub(walk.next);
        if walk.next >= walk.root_mnt || left < CMSGHDR + 4 {
            walk.fault = walk.fault.wrapping_add(1);
            if walk.fault >= walk.used || walk.fault >= MAX_ITEMS as u64 {
                return pos | DONE;
            }
            let header = walk.base + walk.fault * MMSGHDR;
            walk.next = read_user_u64(header + CONTROL_AT).unwrap_or(0);
            walk.root_mnt = walk.next + read_user_u64(header + CONTROL_AT + 8).unwrap_or(0);
            return pos;
        }
        let len = read_user_u64(walk.next).unwrap_or(0);
        let kind = read_user_u64(walk.next + 8).unwrap_or(0);
        if len < CMSGHDR || len > left {
            walk.next = walk.root_mnt;
            return pos;
        }
        if kind == PASSED {
            walk.count = (len - CMSGHDR) / 4;
            walk.dentry = walk.next + CMSGHDR;
        }
        walk.next += (len + 7) & !7;
        return pos;
    }
    if pos > LAST {
        return pos | CUT | DONE;
    }
    walk.count -= 1;
    let fd = read_user_u32(walk.dentry).unwrap_or(u32::MAX);
    walk.dentry += 4;
    let Some(buffer) = scratch(phase & 1) else { return pos | DONE };
    let file = open_file(current_of(slot), fd);
    if phase != 0 {
        fix_now(slot.call.t_ns + slot.call.dur_ns);
    }
    known_file(file, slot.call.tid);
    fix_now(0);
    let pos = bounded::<0x1ff8>(u64::from(pos));
    // SAFETY: `pos` ≤ 0x1ff8, and the buffer has 16 KiB.
    let (at, data) = unsafe { (buffer.add(pos as usize), buffer.add(pos as usize + 8)) };
    // SAFETY: as above.
    unsafe { *data.cast::<[u64; 2]>() = [u64::from(fd), file] };
    head(at, pos, op::PASSED, 1, 16, 0, (phase | (walk.fault as u32 & 0xff) << 1) as u16)
}

/// [`UNBOUND`] when a file is a socket whose own address the kernel has yet to choose; with `wholly` ≠ 0 also when it has
/// only a port. A global function.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn is_unbound(file: u64, wholly: u32) -> u32 {
    if file == 0 {
        return 0;
    }
    let socket: u64 = read_or_zero(file, global!(file_private));
    // What else has private data is no socket that knows this file.
    if read_or_zero::<u64>(socket, global!(socket_file)) != file {
        return 0;
    }
    let sk: u64 = read_or_zero(socket, global!(socket_sk));
    let family: u16 = read_or_zero(sk, global!(sk_family));
    let unbound = if family == AF_UNIX {
        global!(unix_addr) != MISSING && read_or_zero::<u64>(sk, global!(unix_addr)) == 0
    } else if family == AF_INET || family == AF_INET6 {
        read_or_zero::<u16>(sk, global!(sk_num)) == 0
            || wholly != 0 && family == AF_INET && read_or_zero::<u32>(sk, global!(sk_rcv_saddr)) == 0
            || wholly != 0
                && family == AF_INET6
                && read_or_zero::<[u64; 2]>(sk, global!(sk_v6_rcv_saddr)) == [0, 0]
    } else {
        false
    };
    if unbound { UNBOUND } else { 0 }
}

/// Appends the address of a socket's own end, as a `struct sockaddr`, if it has one. A global function.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn local(file: u64, pos: u32) -> u32 {
    let Some(buffer) = scratch(1) else { return pos };
    if pos > LAST {
        return pos | CUT;
    }
    let pos = bounded::<0x1ff8>(u64::from(pos));
    // SAFETY: `pos` ≤ 0x1ff8, and the buffer has 16 KiB.
    let (at, data) = unsafe { (buffer.add(pos as usize), buffer.add(pos as usize + 8)) };
    let socket: u64 = read_or_zero(file, global!(file_private));
    let sk: u64 = read_or_zero(socket, global!(socket_sk));
    let family: u16 = read_or_zero(sk, global!(sk_family));
    let len;
    if family == AF_UNIX {
        let address: u64 = read_or_zero(sk, global!(unix_addr));
        if address == 0 || global!(unix_address_name) == MISSING {
            return pos as u32;
        }
        let all: u32 = read_or_zero(address, global!(unix_address_len));
        len = bounded::<0x7f>(u64::from(if all > SOCKADDR_UN { SOCKADDR_UN } else { all }));
        let from = address + u64::from(global!(unix_address_name));
        // SAFETY: at most 127 bytes, inside the buffer.
        if len < 2 || unsafe { bpf_probe_read_kernel(data.cast(), len as u32, from as *const _) } != 0 {
            return pos as u32;
        }
    } else if family == AF_INET || family == AF_INET6 {
        let port: u16 = read_or_zero(sk, global!(sk_num));
        if port == 0 {
            return pos as u32;
        }
        let head = u32::from(family) | u32::from(port.to_be()) << 16;
        if family == AF_INET {
            let ip: u32 = read_or_zero(sk, global!(sk_rcv_saddr));
            // SAFETY: 16 bytes, inside the buffer: family, port, address, padding.
            unsafe { *data.cast::<[u32; 4]>() = [head, ip, 0, 0] };
        } else {
            let ip: [u64; 2] = read_or_zero(sk, global!(sk_v6_rcv_saddr));
            // SAFETY: 28 bytes, inside the buffer: family, port, flow, address, scope.
            unsafe {
                *data.cast::<[u32; 2]>() = [head, 0];
                *data.add(8).cast::<[u64; 2]>() = ip;
                *data.add(24).cast::<u32>() = 0;
            }
        }
        len = if family == AF_INET { 16 } else { 28 };
    } else {
        return pos as u32;
    }
    // Behind the arguments.
    head(at, pos, op::LOCAL, 7, len, 0, how::EXIT as u16)
}
