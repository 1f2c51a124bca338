//! What a call that never returned was waiting for: what was copied at its entry lies in its task's slot. Descriptor
//! sets are copied at the exit of a call, which these did not reach. Their tasks still sit in the call, so their memory
//! is as they passed it.

use crate::arch::HOST;
use ctrace_abi::{COPIES, Call, MAX_ITEMS, Slot, Tlv, abi, op};
use nix::sys::uio::{RemoteIoVec, process_vm_readv};
use nix::unistd::Pid;
use std::io::IoSliceMut;

/// The tail that the kernel half would have made; empty for other calls, and when the task is gone.
pub(crate) fn copies(slot: &Slot) -> Vec<u8> {
    let kept = slot.copies.iter().flat_map(|word| word.to_ne_bytes());
    let mut tail: Vec<u8> = kept.take((slot.copied as usize).min(COPIES)).collect();
    tail.extend(descriptors(&slot.call));
    tail
}

fn descriptors(call: &Call) -> Vec<u8> {
    let is = |name| call.nr == HOST.number(name);
    if call.abi != abi::NATIVE || !(is("poll") || is("ppoll")) {
        return Vec::new();
    }
    let asked = call.args[1] as usize;
    let mut data = vec![0_u8; asked.min(MAX_ITEMS) * 8];
    let remote = RemoteIoVec { base: call.args[0] as usize, len: data.len() };
    let read = process_vm_readv(Pid::from_raw(call.tid as i32), &mut [IoSliceMut::new(&mut data)], &[remote]);
    if read.ok() != Some(data.len()) || data.is_empty() {
        return Vec::new();
    }
    // What an earlier call answered is no answer to this one.
    for entry in data.chunks_exact_mut(8) {
        entry[6..8].fill(0);
    }
    item(op::POLL, 0, asked > MAX_ITEMS, &data)
}

fn item(op: u8, arg: u8, cut: bool, data: &[u8]) -> Vec<u8> {
    let head = Tlv { op, arg, len: data.len() as u16, fault: u16::from(cut), aux: 1 };
    let mut out = vec![head.op, head.arg];
    out.extend(head.len.to_ne_bytes());
    out.extend(head.fault.to_ne_bytes());
    out.extend(head.aux.to_ne_bytes());
    out.extend_from_slice(data);
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
        let tail = descriptors(&call);
        let items = crate::details::items(&tail);
        assert_eq!((items[0].head.op, items[0].data), (op::POLL, [7, 0, 0, 0, 1, 0, 0, 0].as_slice()));
        assert!(descriptors(&Call { nr: HOST.number("read"), ..call }).is_empty());
    }
}
