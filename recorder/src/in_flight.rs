//! What a call that never returned was waiting for: what was copied at its entry lies in its task's slot. Descriptor
//! sets are copied at the exit of a call, which these did not reach. Their tasks still sit in the call, so their memory
//! is as they passed it.

use crate::arch::HOST;
use crate::look::{Look, Looker, Seen};
use ctrace_abi::{COPIES, Call, MAX_ITEMS, Slot, Tlv, abi, op};

/// Each call with the tail that the kernel half would have made; empty for most calls, and when the task is gone. What
/// could not be read in time is said to be cut.
pub(crate) fn copied(slots: Vec<Slot>, looker: &Looker) -> Vec<(Slot, Vec<u8>)> {
    let looks: Vec<Look> = slots.iter().filter_map(|slot| look(&slot.call)).collect();
    let mut answers = looker.look_at(&looks).into_iter();
    let with_tail = |slot: Slot| {
        let kept = slot.copies.iter().flat_map(|word| word.to_ne_bytes());
        let mut tail: Vec<u8> = kept.take((slot.copied as usize).min(COPIES)).collect();
        if look(&slot.call).is_some() {
            tail.extend(descriptors(&slot.call, answers.next().unwrap_or(Seen::Unanswered)));
        }
        (slot, tail)
    };
    slots.into_iter().map(with_tail).collect()
}

/// Where the descriptors of a `poll` are.
pub(crate) fn look(call: &Call) -> Option<Look> {
    let is = |name| call.nr == HOST.number(name);
    let len = (call.args[1] as usize).min(MAX_ITEMS) as u32 * 8;
    let polls = call.abi == abi::NATIVE && (is("poll") || is("ppoll")) && len > 0;
    polls.then_some(Look::Memory { tid: call.tid, base: call.args[0], len })
}

pub(crate) fn descriptors(call: &Call, seen: Seen) -> Vec<u8> {
    let asked = call.args[1] as usize;
    let mut data = match seen {
        Seen::Is(data) => data,
        Seen::Nothing => return Vec::new(),
        Seen::Unanswered => return item(op::POLL, 0, UNREAD, EXIT, &[]),
    };
    // What an earlier call answered is no answer to this one.
    for entry in data.chunks_exact_mut(8) {
        entry[6..8].fill(0);
    }
    item(op::POLL, 0, if asked > MAX_ITEMS { CUT } else { 0 }, EXIT, &data)
}

/// [`Tlv::fault`]: there is more than was copied; nothing could be copied.
pub(crate) const CUT: u16 = 1;
pub(crate) const UNREAD: u16 = 2;
/// [`Tlv::aux`]: it was copied at the exit of the call, as the kernel half does.
const EXIT: u16 = 1;

/// An item of a tail.
pub(crate) fn item(op: u8, arg: u8, fault: u16, aux: u16, data: &[u8]) -> Vec<u8> {
    let head = Tlv { op, arg, len: data.len() as u16, fault, aux };
    let mut out = vec![head.op, head.arg];
    out.extend(head.len.to_ne_bytes());
    out.extend(head.fault.to_ne_bytes());
    out.extend(head.aux.to_ne_bytes());
    out.extend_from_slice(data);
    out.resize(out.len().next_multiple_of(8), 0);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_poll_in_flight_tells_its_descriptors() {
        let fds = [libc::pollfd { fd: 7, events: 1, revents: 9 }];
        let call = Call {
            nr: HOST.number("ppoll"),
            // SAFETY: no preconditions.
            tid: unsafe { libc::gettid() } as u32,
            args: [fds.as_ptr() as u64, 1, 0, 0, 0, 0],
            ..Call::default()
        };
        let looker = Looker::start().unwrap();
        let seen = looker.look_at(&[look(&call).unwrap()]).remove(0);
        let tail = descriptors(&call, seen);
        let items = crate::details::items(&tail);
        assert_eq!((items[0].head.op, items[0].data), (op::POLL, [7, 0, 0, 0, 1, 0, 0, 0].as_slice()));
        assert!(look(&Call { nr: HOST.number("read"), ..call }).is_none());
        let unknown = descriptors(&call, Seen::Unanswered);
        assert_eq!(crate::details::items(&unknown)[0].head.fault, UNREAD);
    }
}
