//! Several sockets that listen at one address (`SO_REUSEPORT`): which of them gets a connection.
//!
//! The kernel chooses by a hash of the addresses, or by a filter that one of the sockets brings along. Here a filter
//! chooses by the time to live of the first packet, which whoever connects sets to the place of the recorded socket among
//! them. A connection of anybody else, who has the usual time to live, gets what the hash says.

use super::CompileError;
use super::arrivals::Place;
use super::calls::nr;
use super::emit::Emit;
use super::world::World;
use ctrace_program::{PROGRAM_BASE, Sel, Step};

const SOL_SOCKET: u64 = 1;
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
pub(crate) fn share_address(emit: &mut Emit, fd: u64) -> Result<Step, CompileError> {
    let one = emit.data(&1_u32.to_ne_bytes())?;
    Ok(setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, one, 4))
}

/// The step that makes a listening socket, and those that listen with it, chosen by place. Not before it listens: one that
/// has a filter already is refused the address of others (`inet_bind_conflict`, `net/ipv4/inet_connection_sock.c`).
pub(crate) fn choose_by_place(emit: &mut Emit, fd: u64) -> Result<Step, CompileError> {
    let mut filter = Vec::new();
    for (code, if_true, if_false, operand) in BY_TIME_TO_LIVE {
        filter.extend_from_slice(&code.to_ne_bytes());
        filter.extend_from_slice(&[if_true, if_false]);
        filter.extend_from_slice(&operand.to_ne_bytes());
    }
    let filter = emit.data(&filter)?;
    // struct sock_fprog
    let program = emit.words(&[BY_TIME_TO_LIVE.len() as u64, PROGRAM_BASE + filter])?;
    Ok(setsockopt(fd, SOL_SOCKET, SO_ATTACH_REUSEPORT_CBPF, program, 16))
}

/// The steps that make the connection of a socket go to one of those that listen at its address together.
pub(crate) fn name_place(
    emit: &mut Emit,
    world: &World,
    place: Place,
    fd: u64,
    family: u16,
) -> Result<Vec<Step>, CompileError> {
    const AF_INET6: u16 = 10;
    let group = world.group_of(place.listener);
    let Some(at) = group.iter().position(|member| *member == place.listener).filter(|_| group.len() > 1)
    else {
        return Ok(Vec::new());
    };
    let value = emit.data(&(at as u32 + 1).to_ne_bytes())?;
    let mut steps = vec![setsockopt(fd, IPPROTO_IP, IP_TTL, value, 4)];
    if family == AF_INET6 {
        steps.push(setsockopt(fd, IPPROTO_IPV6, IPV6_UNICAST_HOPS, value, 4));
    }
    Ok(steps)
}
