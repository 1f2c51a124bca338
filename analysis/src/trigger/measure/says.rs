//! What one event says: whether something failed, and how something ended.

use super::super::about::About;
use super::{Calls, Sight};
use crate::connects::Connected;
use ctrace_format::syscalls::{self, Call, Failing};
use ctrace_format::{Detail, Event, Known, Object, SockAddr, Syscall};

const ENOENT: u16 = 2;
const ECONNREFUSED: u16 = 111;
/// `SOCK_DGRAM`.
const DATAGRAM: u16 = 2;

pub(super) fn is_meant(calls: &Calls, about: Option<&About>, call: &Syscall, sight: &Sight<'_>) -> bool {
    calls.has(call.sysno) && about.is_none_or(|about| about.fits(call, sight.peers, sight.known))
}

/// Whether a call other than connect failed: with that error, or, when none is named, in a way that says something.
pub(super) fn failed(call: &Syscall, wanted: Option<u32>, known: &dyn Known) -> bool {
    let Some(errno) = call.errno() else { return false };
    if let Some(wanted) = wanted {
        return wanted == errno && Call::of(call.sysno) != Call::Connect;
    }
    let kind = Call::of(call.sysno);
    if kind == Call::Connect {
        return false;
    }
    let object = call.object.and_then(|object| known.object_def(object));
    let named = call.details.iter().find_map(|detail| match detail {
        Detail::Str { value, .. } => Some(*value),
        _ => None,
    });
    let name = match (named, object) {
        (Some(name), _) => known.string(name),
        (None, Some(Object::File { path, .. })) => known.string(*path),
        _ => None,
    };
    let about = syscalls::About { name: name.unwrap_or_default(), datagram: false };
    u16::try_from(errno).is_ok_and(|errno| syscalls::failing_on(kind, errno, about) == Failing::Failure)
}

/// Whether an attempt to connect came to nothing: with that error, or, when none is named, in a way that says something.
pub(super) fn failed_to_connect(connected: &Connected, wanted: Option<u32>, sight: &Sight<'_>) -> bool {
    let Some(errno) = connected.error else { return false };
    if let Some(wanted) = wanted {
        return wanted == u32::from(errno);
    }
    let object = match sight.event {
        Event::Syscall(call) => call.object.and_then(|object| sight.known.object_def(object)),
        _ => None,
    };
    let datagram = matches!(object, Some(Object::Socket { kind: DATAGRAM, family: 2 | 10, .. }));
    let name = match &connected.peer {
        Some(SockAddr::Unix(path)) => path.as_slice(),
        _ => &[],
    };
    syscalls::failing_on(Call::Connect, errno, syscalls::About { name, datagram }) == Failing::Failure
}

pub(super) fn is_refusal(connected: &Connected) -> bool {
    match connected.error {
        Some(ECONNREFUSED) => true,
        // The socket's file is not there.
        Some(ENOENT) => matches!(connected.peer, Some(SockAddr::Unix(_))),
        _ => false,
    }
}

/// As a shell tells it.
pub(super) fn exit_code(status: u32) -> u32 {
    match status & 0x7f {
        0 => status >> 8 & 0xff,
        signal => 128 + signal,
    }
}

pub(super) fn end_text(status: u32) -> String {
    let code = exit_code(status);
    match status & 0x7f {
        0 => format!("ended with status {code}"),
        signal => format!("was killed by signal {signal} (status {code})"),
    }
}
