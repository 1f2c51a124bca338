//! Datagrams that nobody took. An answer by ICMP becomes an error of the socket that sent (`__udp4_lib_err`,
//! net/ipv4/udp.c), which the next call on it returns: so the error tells of a send that succeeded, before it.

use super::calls::Sc;
use super::world::{SockIx, TaskIx, World, detail_value};
use ctrace_format::{Detail, Syscall};
use rustc_hash::{FxHashMap, FxHashSet};

const ECONNREFUSED: i64 = -111;
const SOL_SOCKET: u64 = 1;
const SO_ERROR: u64 = 4;
const POLLERR: u16 = 8;
const MSG_ERRQUEUE: u64 = 0x2000;

/// What the recording tells of datagrams that were refused.
#[derive(Debug, Default)]
pub(crate) struct Refusals {
    /// Sends that nobody took: socket, and how many it had made before.
    unheard: FxHashSet<(SockIx, u32)>,
    /// Calls that returned the error without a send that it could be of: task, and number of its call.
    groundless: FxHashSet<(TaskIx, u32)>,
    /// Looks at the queue of errors that found it: task, and number of its call.
    told: FxHashSet<(TaskIx, u32)>,
    last: FxHashMap<SockIx, Last>,
}

/// The last that is known of a socket.
#[derive(Debug, Clone, Copy)]
enum Last {
    /// It sent this one.
    Sent(u32),
    /// What it had sent is known to have been refused.
    Refused,
}

impl Refusals {
    /// Whether nobody took what `sock` sends now, having sent `before` times.
    pub(crate) fn is_unheard(&self, sock: SockIx, before: u32) -> bool {
        self.unheard.contains(&(sock, before))
    }

    /// Whether a call failed, and nothing that it could be about was sent.
    pub(crate) fn is_groundless(&self, task: TaskIx, seq: u32) -> bool {
        self.groundless.contains(&(task, seq))
    }

    /// Whether a call took the error from the queue of them.
    pub(crate) fn is_told(&self, task: TaskIx, seq: u32) -> bool {
        self.told.contains(&(task, seq))
    }

    /// As many as there are.
    pub(crate) fn len(&self) -> usize {
        self.unheard.len().max(self.groundless.len()).max(self.told.len()).max(self.last.len())
    }

    /// A completed call, before it changes the world.
    pub(crate) fn saw(&mut self, world: &World, task: TaskIx, call: &Syscall, sc: Sc) {
        let seq = world.tasks[task as usize].ops;
        if matches!(sc, Sc::Poll | Sc::Ppoll) {
            for detail in &call.details {
                let Detail::Poll { entries, .. } = detail else { continue };
                for entry in entries.iter().filter(|e| e.revents & POLLERR != 0) {
                    if let Some(sock) = talks(world, task, entry.fd) {
                        self.refused(sock);
                    }
                }
            }
            return;
        }
        let sends = matches!(sc, Sc::Write | Sc::Writev | Sc::Sendto | Sc::Sendmsg | Sc::Sendmmsg);
        let takes = matches!(sc, Sc::Read | Sc::Readv | Sc::Recvfrom | Sc::Recvmsg);
        if !(sends || takes || sc == Sc::Getsockopt) {
            return;
        }
        let Some(sock) = talks(world, task, call.args[0] as i32) else { return };
        if (sends || takes) && call.ret == ECONNREFUSED {
            if !self.refused(sock) {
                self.groundless.insert((task, seq));
            }
        } else if sends && call.ret >= 0 {
            self.last.insert(sock, Last::Sent(world.socks[sock as usize].sends));
        } else if takes && call.ret >= 0 && asks_for_errors(call, sc) {
            if self.refused(sock) {
                self.told.insert((task, seq));
            }
        } else if sc == Sc::Getsockopt
            && (call.args[1], call.args[2]) == (SOL_SOCKET, SO_ERROR)
            && detail_value(call, 3) == Some(ECONNREFUSED.unsigned_abs())
        {
            self.refused(sock);
        }
    }

    /// A socket was told that it was refused. Returns whether there is a send that this is about.
    fn refused(&mut self, sock: SockIx) -> bool {
        match self.last.insert(sock, Last::Refused) {
            Some(Last::Sent(before)) => {
                self.unheard.insert((sock, before));
                true
            }
            Some(Last::Refused) => true,
            None => {
                self.last.remove(&sock);
                false
            }
        }
    }
}

/// The datagram socket of the Internet families behind a descriptor.
fn talks(world: &World, task: TaskIx, fd: i32) -> Option<SockIx> {
    let sock = world.sock_of(task, fd)?;
    let state = &world.socks[sock as usize];
    (matches!(state.family, 2 | 10) && state.is_datagram()).then_some(sock)
}

/// Whether a call takes an error from the socket's queue of them, instead of a datagram.
fn asks_for_errors(call: &Syscall, sc: Sc) -> bool {
    match sc {
        Sc::Recvfrom => call.args[3] & MSG_ERRQUEUE != 0,
        Sc::Recvmsg => call.args[2] & MSG_ERRQUEUE != 0,
        _ => false,
    }
}
