//! The first words of somebody who connects, as the whole recording tells them.
//!
//! The compiler meets what a peer sends when the workload takes it, which may be long after it came. A peer that plays many
//! clients in the order of the recording has to know before what the next of them says.

use super::calls::Sc;
use super::world::{BLOCKED_NS, OfdKind, SockIx, TaskIx, World};
use ctrace_format::Syscall;
use rustc_hash::FxHashMap;

const MSG_PEEK: u64 = 2;
const MSG_ERRQUEUE: u64 = 0x2000;

/// The first bytes that the workload took from a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct First {
    /// When they came; none: any time since the connection was made.
    pub(crate) at_ns: Option<u64>,
    pub(crate) bytes: u64,
}

/// By connection, if nothing came before and nobody had looked for it in vain.
#[derive(Debug, Default)]
pub(crate) struct Firsts(FxHashMap<SockIx, First>);

impl Firsts {
    pub(crate) fn of(&self, sock: SockIx) -> Option<First> {
        self.0.get(&sock).copied()
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// A call that has returned, before the world knows of it.
    pub(crate) fn call(&mut self, world: &World, task: TaskIx, call: &Syscall, sc: Sc) {
        let flags = match sc {
            Sc::Read | Sc::Readv => 0,
            Sc::Recvfrom => call.args[3],
            Sc::Recvmsg => call.args[2],
            _ => return,
        };
        if call.ret <= 0 || flags & (MSG_PEEK | MSG_ERRQUEUE) != 0 {
            return;
        }
        let Some(ofd) = world.ofd_of(task, call.args[0] as i32) else { return };
        let state = &world.ofds[ofd as usize];
        let OfdKind::Sock(sock) = state.kind else { return };
        let stream = &world.socks[sock as usize];
        if stream.is_datagram() || stream.received > 0 || stream.sent > 0 {
            return;
        }
        let at_ns = match state.ready {
            Some(ready) => ready.exact.then_some(ready.at_ns),
            None => (call.duration_ns >= BLOCKED_NS).then(|| call.t_ns.saturating_add(call.duration_ns)),
        };
        let watchers = state.watched_by.iter().flat_map(|e| &world.ofds[*e as usize].idle);
        if state.idle.is_empty() && watchers.clone().all(|mark| mark.end_ns <= stream.born_ns) {
            self.0.insert(sock, First { at_ns, bytes: call.ret as u64 });
        }
    }
}
