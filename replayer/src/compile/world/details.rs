//! Decoded arguments of a call, by argument.

use ctrace_format::{Detail, EpollEntry, Message, ObjectId, PassedFd, SockAddr, Syscall};

pub(crate) fn le_u64(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..at + 8).and_then(|b| b.try_into().ok()).map_or(0, u64::from_le_bytes)
}

pub(crate) fn detail_str(call: &Syscall, arg: u8) -> Option<ctrace_format::StrId> {
    call.details.iter().find_map(|d| match d {
        Detail::Str { arg: a, value } if *a == arg => Some(*value),
        _ => None,
    })
}
pub(crate) fn detail_addr(call: &Syscall, arg: u8) -> Option<&SockAddr> {
    call.details.iter().find_map(|d| match d {
        Detail::Addr { arg: a, addr } if *a == arg => Some(addr),
        _ => None,
    })
}
pub(crate) fn detail_object(call: &Syscall, arg: u8) -> Option<ObjectId> {
    call.details.iter().find_map(|d| match d {
        Detail::Object { arg: a, object } if *a == arg => Some(*object),
        _ => None,
    })
}
pub(crate) fn detail_value(call: &Syscall, arg: u8) -> Option<u64> {
    call.details.iter().find_map(|d| match d {
        Detail::Value { arg: a, value } if *a == arg => Some(*value),
        _ => None,
    })
}
pub(crate) fn detail_time(call: &Syscall, arg: u8) -> Option<u64> {
    call.details.iter().find_map(|d| match d {
        Detail::Time { arg: a, ns } if *a == arg => Some(*ns),
        _ => None,
    })
}
pub(crate) fn detail_iov(call: &Syscall) -> Option<(u64, u32)> {
    call.details.iter().find_map(|d| match d {
        Detail::Iov { bytes, count, .. } => Some((*bytes, *count)),
        _ => None,
    })
}
pub(crate) fn detail_bytes(call: &Syscall, arg: u8) -> Option<&[u8]> {
    call.details.iter().find_map(|d| match d {
        Detail::Bytes { arg: a, data } if *a == arg => Some(data.as_slice()),
        _ => None,
    })
}
pub(crate) fn detail_newfds(call: &Syscall) -> Option<([i32; 2], [Option<ObjectId>; 2])> {
    call.details.iter().find_map(|d| match d {
        Detail::NewFds { fds, objects, .. } => Some((*fds, *objects)),
        _ => None,
    })
}
pub(crate) fn detail_epoll(call: &Syscall) -> Option<&[EpollEntry]> {
    call.details.iter().find_map(|d| match d {
        Detail::Epoll { entries, .. } => Some(entries.as_slice()),
        _ => None,
    })
}
/// The address that the kernel gave the call's socket.
pub(crate) fn detail_local(call: &Syscall) -> Option<&SockAddr> {
    call.details.iter().find_map(|d| match d {
        Detail::Local { addr } => Some(addr),
        _ => None,
    })
}
/// The messages of a call that takes several.
pub(crate) fn detail_messages(call: &Syscall) -> Option<&[Message]> {
    call.details.iter().find_map(|d| match d {
        Detail::Messages { entries, .. } => Some(entries.as_slice()),
        _ => None,
    })
}
/// The descriptors that went with a call's messages, by message.
pub(crate) fn details_passed(call: &Syscall) -> impl Iterator<Item = (u32, &[PassedFd])> {
    call.details.iter().filter_map(|d| match d {
        Detail::Passed { message, fds, .. } => Some((*message, fds.as_slice())),
        _ => None,
    })
}
