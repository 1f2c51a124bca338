//! Several sockets that listen at one address, or take datagrams there (`SO_REUSEPORT`): which of them gets a connection or
//! a datagram.
//!
//! The kernel chooses by a hash of the addresses, or by a filter that one of the sockets brings along. Here a filter
//! chooses by the time to live of the packet, which whoever connects or sends sets to the place of the recorded socket among
//! them. What comes from anybody else, who has the usual time to live, goes where the hash says.

use super::super::CompileError;
use super::super::calls::{Sc, nr};
use super::super::lower::{Cx, Lower, Lowered};
use super::super::world::groups::Shared;
use super::super::world::{SockIx, World, canonical};
use super::SOL_SOCKET;
use ctrace_program::{BuildError, PROGRAM_BASE, ProgramBuilder, Sel, Step, flags};

const SO_REUSEPORT: u64 = 15;
const SO_ATTACH_REUSEPORT_CBPF: u64 = 51;
const IPPROTO_IP: u64 = 0;
const IP_TTL: u64 = 2;
const IPPROTO_IPV6: u64 = 41;
const IPV6_UNICAST_HOPS: u64 = 16;

/// `struct sock_filter`: what to do, where to go on if it is so and if not, operand.
type Instruction = (u16, u8, u8, u32);

// linux/bpf_common.h
const LOAD_BYTE: u16 = 0x30;
const SHIFT_RIGHT: u16 = 0x74;
const JUMP_IF_EQUAL: u16 = 0x15;
const JUMP: u16 = 0x05;
const SUBTRACT: u16 = 0x14;
const RETURN_RESULT: u16 = 0x16;
/// `SKF_NET_OFF`: offsets from here are into the network header.
const NET_OFF: u32 = -0x10_0000_i32 as u32;

/// Returns the time to live of IPv4, or the hop limit of IPv6, less one: the place of a socket in its group. A place that
/// nobody has leaves the choice to the hash.
const BY_TIME_TO_LIVE: [Instruction; 8] = [
    (LOAD_BYTE, 0, 0, NET_OFF),
    (SHIFT_RIGHT, 0, 0, 4),
    (JUMP_IF_EQUAL, 0, 2, 4),
    (LOAD_BYTE, 0, 0, NET_OFF + 8),
    (JUMP, 0, 0, 1),
    (LOAD_BYTE, 0, 0, NET_OFF + 7),
    (SUBTRACT, 0, 0, 1),
    (RETURN_RESULT, 0, 0, 0),
];

fn setsockopt(fd: u64, level: u64, option: u64, value: u64, len: u64) -> Step {
    let step = Step::call(nr::setsockopt);
    step.imm(0, fd).imm(1, level).imm(2, option).arg(3, Sel::Data, value).imm(4, len)
}

/// The step that lets several sockets have one address.
pub(crate) fn share_address(b: &mut ProgramBuilder, fd: u64) -> Result<Step, BuildError> {
    let one = b.data(&1_u32.to_ne_bytes())?;
    Ok(setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, one, 4))
}

/// The step that makes a listening socket, and those that listen with it, chosen by place. Not before it listens: one that
/// has a filter already is refused the address of others (`inet_bind_conflict`, `net/ipv4/inet_connection_sock.c`).
pub(crate) fn choose_by_place(b: &mut ProgramBuilder, fd: u64) -> Result<Step, BuildError> {
    let mut filter = Vec::new();
    for (code, if_true, if_false, operand) in BY_TIME_TO_LIVE {
        filter.extend_from_slice(&code.to_ne_bytes());
        filter.extend_from_slice(&[if_true, if_false]);
        filter.extend_from_slice(&operand.to_ne_bytes());
    }
    let filter = b.data(&filter)?;
    // struct sock_fprog
    let program = b.words(&[BY_TIME_TO_LIVE.len() as u64, PROGRAM_BASE + filter])?;
    Ok(setsockopt(fd, SOL_SOCKET, SO_ATTACH_REUSEPORT_CBPF, program, 16))
}

/// The steps that make what a socket sends go to the recorded one of those that have its address together.
pub(crate) fn name_place(
    b: &mut ProgramBuilder,
    world: &World,
    receiver: SockIx,
    fd: u64,
    family: u16,
) -> Result<Vec<Step>, BuildError> {
    const AF_INET6: u16 = 10;
    let Some(at) = world.place_among(receiver) else { return Ok(Vec::new()) };
    let value = b.data(&(at + 1).to_ne_bytes())?;
    let mut steps = vec![setsockopt(fd, IPPROTO_IP, IP_TTL, value, 4)];
    if family == AF_INET6 {
        steps.push(setsockopt(fd, IPPROTO_IPV6, IPV6_UNICAST_HOPS, value, 4));
    }
    Ok(steps)
}

impl Lower<'_> {
    /// Whether several sockets have the address of one at some time: listen there, or take datagrams.
    pub(crate) fn shares_its_address(&self, sock: SockIx) -> bool {
        let Some(sock) = self.world.socks.get(sock as usize) else { return false };
        let local = sock.local.as_ref().map(canonical);
        local.is_some_and(|local| self.facts.shared_addresses.contains(&(sock.is_datagram(), local)))
    }

    /// The address that a call gives to a datagram socket, if others have it, too.
    pub(crate) fn binds_with_others(&self, cx: &Cx<'_>) -> Option<Shared> {
        let sock = self.world.sock_of(cx.task, cx.call.args[0] as i32)?;
        let datagrams = cx.known.sc == Sc::Bind && self.world.socks[sock as usize].is_datagram();
        let addr = (cx.call.ret == 0 && datagrams).then(|| self.address_of_bind(cx)).flatten()?;
        let at = (true, canonical(&addr));
        self.facts.shared_addresses.contains(&at).then_some(at)
    }

    /// The socket that has come to its address by a call: to listen there, or to take datagrams.
    pub(crate) fn comes_to_address(&self, cx: &Cx<'_>) -> Option<SockIx> {
        let sock = self.world.sock_of(cx.task, cx.call.args[0] as i32)?;
        let datagrams = self.world.socks[sock as usize].is_datagram();
        matches!((cx.known.sc, datagrams), (Sc::Listen, _) | (Sc::Bind, true)).then_some(sock)
    }

    pub(crate) fn listen(&mut self, cx: &Cx<'_>) -> Result<Lowered, CompileError> {
        let mut lowered = Lowered::from(self.plain(cx, &[0, 1]));
        let fd = cx.call.args[0];
        if cx.call.ret == 0
            && let Some(sock) = self.world.sock_of(cx.task, fd as i32)
            && self.shares_its_address(sock)
        {
            lowered.then.push(choose_by_place(&mut self.b, fd)?.with(flags::ENGINE));
        }
        Ok(lowered)
    }
}
