//! What became of each attempt to connect, however the program learnt it.
//!
//! A blocking connect returns its outcome. One that does not wait returns `EINPROGRESS`; the kernel then changes the
//! socket's state from `SYN_SENT` to `ESTABLISHED` or `CLOSE`, and that is the outcome, whether the program asks for it by
//! `SO_ERROR`, by another connect, or not at all. On loopback the change comes before the call returns. Each attempt
//! is told once.

use ctrace_format::syscalls::Call;
use ctrace_format::{
    Connection, ConnectionKind, Detail, Event, ObjectId, SockAddr, SockCookie, Syscall, SyscallFlags, TaskId,
    TcpState, Uring,
};
use rustc_hash::FxHashMap;

/// Attempts that are followed at a time. Of more the oldest ones are forgotten.
const MAX_FOLLOWED: usize = 65_536;
const EINTR: u16 = 4;
const EISCONN: u16 = 106;
const ETIMEDOUT: u16 = 110;
const EALREADY: u16 = 114;
const EINPROGRESS: u16 = 115;
/// include/linux/errno.h: what a call that will be made again returns to the kernel's own code.
const ERESTARTSYS: u16 = 512;
const ERESTARTNOHAND: u16 = 514;
const ERESTART_RESTARTBLOCK: u16 = 516;
/// `SOL_SOCKET`, `SO_ERROR`, include/uapi/asm-generic/socket.h.
const SOL_SOCKET: u64 = 1;
const SO_ERROR: u64 = 4;
/// `IORING_OP_CONNECT`, `include/uapi/linux/io_uring.h`.
const IORING_OP_CONNECT: u8 = 16;

/// The outcome of one attempt to connect, however the program learnt it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Connected {
    /// When the attempt began.
    pub t_ns: u64,
    /// Until the outcome. 0 when the attempt began before the recording.
    pub took_ns: u64,
    /// The task that connects. `None`: an attempt that began before the recording, of a socket whose owner is not known.
    pub task: Option<TaskId>,
    /// The socket, when it is known.
    pub cookie: Option<SockCookie>,
    /// The other end, when it is known.
    pub peer: Option<SockAddr>,
    /// The errno; `None`: it succeeded. Of an attempt that the program gave up: `ETIMEDOUT`.
    pub error: Option<u16>,
    /// The call did not wait: the program learnt the outcome later, or not at all.
    pub waited: bool,
    /// The program closed the socket before there was an answer. Programs that try several addresses at once do so too.
    pub gave_up: bool,
    /// It failed by a fault that ctrace injected.
    pub injected: bool,
}

impl Connected {
    /// When there was the outcome.
    pub const fn end_ns(&self) -> u64 {
        self.t_ns.saturating_add(self.took_ns)
    }
}

/// An attempt without an outcome.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pending {
    /// When it began.
    pub t_ns: u64,
    /// The task that connects, when it is known.
    pub task: Option<TaskId>,
    /// The socket.
    pub cookie: SockCookie,
    /// The other end, when it is known.
    pub peer: Option<SockAddr>,
    /// The call did not wait.
    pub waited: bool,
    /// The kernel told that it asked, and would have told the answer.
    pub is_told: bool,
}

#[derive(Debug, Clone, Copy)]
enum Answer {
    Yes,
    No(u16),
    /// The program did not wait for it.
    GaveUp,
}

#[derive(Debug, Clone)]
struct Attempt {
    t_ns: u64,
    task: Option<TaskId>,
    peer: Option<SockAddr>,
    /// The kernel told that it asked: it will tell the answer, too.
    is_told: bool,
    /// The call has returned, or was interrupted, without the answer.
    waited: bool,
    /// The answer, of an attempt whose call has not returned, and when.
    answer: Option<(Answer, u64)>,
}

impl Attempt {
    const fn new(t_ns: u64) -> Self {
        Self { t_ns, task: None, peer: None, is_told: false, waited: false, answer: None }
    }
}

/// Follows attempts to connect through a stream of events in order of their ends, in bounded memory.
#[derive(Debug, Clone, Default)]
pub struct Connects {
    attempts: FxHashMap<SockCookie, Attempt>,
    /// Sockets whose outcome was told, and when: a call that learns of it is no attempt.
    told: FxHashMap<SockCookie, u64>,
}

impl Connects {
    /// Nothing was seen yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes an event in. `cookie_of` tells which socket an object is, where it is one and that is known.
    pub fn observe(
        &mut self,
        event: &Event,
        cookie_of: impl Fn(ObjectId) -> Option<SockCookie>,
    ) -> Option<Connected> {
        let cookie = |object: Option<ObjectId>| object.and_then(&cookie_of).filter(|cookie| cookie.0 != 0);
        match event {
            Event::Syscall(call) if !call.flags.contains(SyscallFlags::ENGINE) => {
                match Call::of(call.sysno) {
                    Call::Connect => self.called(call, cookie(call.object)),
                    Call::Getsockopt if call.args[1] == SOL_SOCKET && call.args[2] == SO_ERROR => {
                        self.asked(call, cookie(call.object)?)
                    }
                    _ => None,
                }
            }
            Event::Connection(change) if change.cookie.0 != 0 => self.changed(change),
            Event::Uring(request) if request.opcode == IORING_OP_CONNECT => {
                Some(self.requested(request, cookie(request.object)))
            }
            _ => None,
        }
    }

    /// The attempts that have no outcome so far, in no order.
    pub fn pending(&self) -> impl Iterator<Item = Pending> + '_ {
        let open = self.attempts.iter().filter(|(_, attempt)| attempt.answer.is_none());
        open.map(|(cookie, attempt)| Pending {
            t_ns: attempt.t_ns,
            task: attempt.task,
            cookie: *cookie,
            peer: attempt.peer.clone(),
            waited: attempt.waited,
            is_told: attempt.is_told,
        })
    }

    /// A connect returned, or was under way at the end.
    fn called(&mut self, call: &Syscall, cookie: Option<SockCookie>) -> Option<Connected> {
        let peer = call.details.iter().find_map(|detail| match detail {
            Detail::Addr { arg: 1, addr } => Some(addr),
            _ => None,
        });
        let error = call.errno().and_then(|errno| u16::try_from(errno).ok());
        let is_open = call.flags.contains(SyscallFlags::NO_EXIT);
        match (error, cookie) {
            (Some(EISCONN), _) => return None,
            _ if !is_open && !error.is_some_and(comes_later) => {}
            (_, Some(cookie)) => return self.goes_on(call, cookie, peer, is_open),
            (_, None) => return None,
        }
        let mut outcome = Connected {
            t_ns: call.t_ns,
            took_ns: call.duration_ns,
            task: Some(call.task),
            cookie,
            peer: peer.cloned(),
            error,
            waited: false,
            gave_up: false,
            injected: call.flags.contains(SyscallFlags::INJECTED),
        };
        let Some(cookie) = cookie else { return Some(outcome) };
        if self.told.contains_key(&cookie) {
            // It learns what was told. A socket that failed may be used for another attempt.
            if error.is_some() {
                self.told.remove(&cookie);
            }
            return None;
        }
        if let Some(attempt) = self.attempts.remove(&cookie) {
            outcome.peer = outcome.peer.or(attempt.peer);
            // It goes on with what an earlier call began.
            if attempt.waited {
                outcome.took_ns = outcome.end_ns().saturating_sub(attempt.t_ns);
                outcome.t_ns = attempt.t_ns;
                outcome.task = attempt.task.or(outcome.task);
                outcome.waited = true;
            }
        }
        Some(outcome)
    }

    /// A connect returned without the outcome, or has not returned.
    fn goes_on(
        &mut self,
        call: &Syscall,
        cookie: SockCookie,
        peer: Option<&SockAddr>,
        is_open: bool,
    ) -> Option<Connected> {
        if self.told.contains_key(&cookie) {
            return None;
        }
        let attempt = self.attempts.entry(cookie).or_insert_with(|| Attempt::new(call.t_ns));
        attempt.t_ns = attempt.t_ns.min(call.t_ns);
        attempt.task.get_or_insert(call.task);
        attempt.peer = peer.cloned().or(attempt.peer.take());
        if is_open {
            return None;
        }
        attempt.waited = true;
        self.bound();
        self.end(cookie)
    }

    /// A program read `SO_ERROR`. Where the kernel tells the states of the socket, that is no news.
    fn asked(&mut self, call: &Syscall, cookie: SockCookie) -> Option<Connected> {
        let attempt = self.attempts.get_mut(&cookie).filter(|attempt| attempt.waited && !attempt.is_told)?;
        let value = call.details.iter().find_map(|detail| match detail {
            Detail::Value { arg: 3, value } if call.ret == 0 => u16::try_from(*value).ok(),
            _ => None,
        })?;
        let answer = if value == 0 { Answer::Yes } else { Answer::No(value) };
        attempt.answer = Some((answer, call.t_ns.saturating_add(call.duration_ns)));
        self.end(cookie)
    }

    /// A request through an `io_uring` is complete.
    fn requested(&mut self, request: &Uring, cookie: Option<SockCookie>) -> Connected {
        let known = cookie.and_then(|cookie| self.attempts.remove(&cookie));
        let error = request.ret.checked_neg().and_then(|errno| u16::try_from(errno).ok());
        Connected {
            t_ns: request.t_ns,
            took_ns: request.duration_ns,
            task: Some(request.task),
            cookie,
            peer: known.and_then(|attempt| attempt.peer),
            error: error.filter(|errno| *errno > 0),
            waited: true,
            gave_up: false,
            injected: false,
        }
    }

    /// The kernel changed a socket.
    fn changed(&mut self, change: &Connection) -> Option<Connected> {
        let cookie = change.cookie;
        match change.kind {
            ConnectionKind::State { new: TcpState::SynSent, .. } => {
                // What an earlier attempt of this socket came to, if no call has returned it.
                let earlier = self.end(cookie);
                self.told.remove(&cookie);
                let mut attempt = Attempt::new(change.t_ns);
                attempt.is_told = true;
                attempt.peer = Some(change.peer.clone());
                self.attempts.insert(cookie, attempt);
                self.bound();
                earlier
            }
            ConnectionKind::State { old, new, error } => {
                let answer = match (new, error) {
                    _ if !matches!(old, TcpState::SynSent | TcpState::SynRecv) => return None,
                    (TcpState::Established, _) => Answer::Yes,
                    (TcpState::Close, 0) => Answer::GaveUp,
                    (TcpState::Close, errno) => Answer::No(errno),
                    _ => return None,
                };
                if old == TcpState::SynSent && !self.told.contains_key(&cookie) {
                    // One that is not known began before the recording; nobody knows whether its call waits.
                    self.attempts.entry(cookie).or_insert_with(|| Attempt {
                        task: change.task,
                        peer: Some(change.peer.clone()),
                        waited: true,
                        ..Attempt::new(change.t_ns)
                    });
                }
                let attempt = self.attempts.get_mut(&cookie)?;
                attempt.answer.get_or_insert((answer, change.t_ns));
                // A call that waits returns it.
                if attempt.waited { self.end(cookie) } else { None }
            }
            ConnectionKind::Closed { .. } => {
                // No call will return what it came to.
                if let Some(attempt) = self.attempts.get_mut(&cookie) {
                    attempt.answer.get_or_insert((Answer::GaveUp, change.t_ns));
                }
                let outcome = self.end(cookie);
                self.told.remove(&cookie);
                outcome
            }
            _ => None,
        }
    }

    /// Takes out an attempt that has its answer.
    fn end(&mut self, cookie: SockCookie) -> Option<Connected> {
        let (answer, at_ns) = self.attempts.get(&cookie)?.answer?;
        let Attempt { t_ns, task, peer, .. } = self.attempts.remove(&cookie)?;
        self.told.insert(cookie, at_ns);
        Some(Connected {
            t_ns,
            took_ns: at_ns.saturating_sub(t_ns),
            task,
            cookie: Some(cookie),
            peer,
            error: match answer {
                Answer::Yes => None,
                Answer::No(errno) => Some(errno),
                Answer::GaveUp => Some(ETIMEDOUT),
            },
            waited: true,
            gave_up: matches!(answer, Answer::GaveUp),
            injected: false,
        })
    }

    /// Forgets the older half where too much is followed.
    fn bound(&mut self) {
        if self.attempts.len() > MAX_FOLLOWED {
            let from_ns = median(self.attempts.values().map(|attempt| attempt.t_ns));
            self.attempts.retain(|_, attempt| attempt.t_ns > from_ns);
        }
        if self.told.len() > MAX_FOLLOWED {
            let from_ns = median(self.told.values().copied());
            self.told.retain(|_, t_ns| *t_ns > from_ns);
        }
    }
}

/// Whether a connect that returned this goes on: it was begun and its outcome comes later, or a signal interrupted the wait.
fn comes_later(errno: u16) -> bool {
    matches!(errno, EINTR | EALREADY | EINPROGRESS | ERESTARTSYS..=ERESTARTNOHAND | ERESTART_RESTARTBLOCK)
}

fn median(times: impl Iterator<Item = u64>) -> u64 {
    let mut times: Vec<u64> = times.collect();
    let middle = times.len() / 2;
    *times.select_nth_unstable(middle).1
}

#[cfg(test)]
mod tests;
