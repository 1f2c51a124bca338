//! Which datagrams come from inside: what has to be known of the whole recording, since who receives one may be told of it
//! before who sent it.

use super::CompileError;
use super::budget::Budget;
use super::calls::Sc;
use super::world::{SOCK_DGRAM, SockIx, TaskIx, World, canonical, detail_local};
use ctrace_format::{SockAddr, Syscall};
use rustc_hash::FxHashMap;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Datagrams {
    /// Addresses that datagram sockets inside had, and since when the first had it.
    had: FxHashMap<SockAddr, u64>,
    /// By receiver, datagrams that are to come from sockets inside.
    to_come: FxHashMap<SockIx, u64>,
}

impl Datagrams {
    /// Notes what a call says, before it is applied.
    pub(crate) fn note(
        &mut self,
        world: &mut World,
        budget: Budget,
        task: TaskIx,
        call: &Syscall,
        sc: Sc,
    ) -> Result<(), CompileError> {
        let local = detail_local(call);
        let addr = local.or_else(|| if sc == Sc::Bind { super::world::detail_addr(call, 1) } else { None });
        if let Some(addr) = addr
            && (local.is_some() || call.ret >= 0)
        {
            budget.things("addresses of sockets", self.had.len())?;
            let addr = canonical(&world.absolute(task, addr));
            self.had.entry(addr).or_insert(call.t_ns);
        }
        if !matches!(sc, Sc::Sendto | Sc::Sendmsg | Sc::Sendmmsg | Sc::Write | Sc::Writev) || call.ret < 0 {
            return Ok(());
        }
        let Some(sock) = world.sock_of(task, call.args[0] as i32) else { return Ok(()) };
        if world.socks[sock as usize].kind & 0xf != SOCK_DGRAM {
            return Ok(());
        }
        for to in World::destinations(call, sc) {
            if let Some(receiver) = world.receiver_of(task, sock, to.as_ref()) {
                budget.things("receivers of datagrams", self.to_come.len())?;
                *self.to_come.entry(receiver).or_default() += 1;
            }
        }
        Ok(())
    }

    /// Whether a socket inside had one of these addresses by then.
    pub(crate) fn had(&self, any: &[SockAddr], at_ns: u64) -> bool {
        any.iter().any(|addr| self.had.get(addr).is_some_and(|since_ns| *since_ns <= at_ns))
    }

    /// A socket took a datagram: whether one from inside was to come to it.
    pub(crate) fn took(&mut self, receiver: SockIx) -> bool {
        match self.to_come.get_mut(&receiver) {
            Some(left) if *left > 0 => {
                *left -= 1;
                true
            }
            _ => false,
        }
    }
}
