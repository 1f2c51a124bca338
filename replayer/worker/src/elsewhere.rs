//! Connections of peers that cannot come from their recorded port.
//!
//! A port that the recording has twice may still be taken: when both ends close at the same moment, the kernel can lose the
//! second FIN (`tcp_rcv_state_process`, net/ipv4/tcp_input.c, says so), and the end that sent it stays until it is sent again, after 200
//! ms. In the recording somebody chose ports that were free; here another one is chosen by the kernel.

use crate::arch::nr;
use crate::engine::marked;
use crate::state::{Task, count};

pub const EADDRNOTAVAIL: i64 = -99;
const SOCK_STREAM: u64 = 1;
const SOL_SOCKET: u64 = 1;
const SO_REUSEADDR: u64 = 2;
const IPPROTO_TCP: u64 = 6;
const TCP_NODELAY: u64 = 1;
/// `struct sockaddr_storage`; the port of an internet address is at 2.
const ADDRESS_BYTES: usize = 128;
const PORT: core::ops::Range<usize> = 2..4;

/// Puts a socket that is bound to the same address and another port in the place of the socket `fd`.
pub fn move_socket(task: &Task, fd: u64) {
    let (mut address, mut len) = ([0_u8; ADDRESS_BYTES], ADDRESS_BYTES as u32);
    let name = address.as_mut_ptr();
    if marked(nr::GETSOCKNAME, [fd, name as u64, &raw mut len as u64, 0, 0]) < 0 {
        return;
    }
    if let Some(port) = address.get_mut(PORT) {
        port.fill(0);
    }
    let family = u64::from(u16::from_ne_bytes([address[0], address[1]]));
    let socket = marked(nr::SOCKET, [family, SOCK_STREAM, 0, 0, 0]);
    let Ok(new) = u64::try_from(socket) else { return };
    let one = 1_u32;
    for (level, option) in [(IPPROTO_TCP, TCP_NODELAY), (SOL_SOCKET, SO_REUSEADDR)] {
        let _ = marked(nr::SETSOCKOPT, [new, level, option, &raw const one as u64, 4]);
    }
    let _ = marked(nr::BIND, [new, address.as_ptr() as u64, u64::from(len), 0, 0]);
    let _ = marked(nr::DUP3, [new, fd, 0, 0, 0]);
    let _ = marked(nr::CLOSE, [new, 0, 0, 0, 0]);
    count(&task.slot.counters.engine_calls, 7);
}
