//! Descriptors that go with messages (`SCM_RIGHTS`): what they refer to lives while it is on its way, and the receiver has
//! the same description under a number of its own.

use super::super::CompileError;
use super::super::calls::Sc;
use super::super::source::Source;
use super::{Inherited, OfdIx, OfdRef, SockIx, TaskIx, World, detail_addr, detail_messages, details_passed};
use ctrace_analysis::fds::received_cloexec;
use ctrace_format::{ObjectId, PassedFd, SockAddr, Syscall};
use rustc_hash::FxHashMap;
use std::collections::VecDeque;
use std::rc::Rc;

/// Messages with descriptors that are on their way at a time. The kernel allows as many descriptors as a process may have
/// open (`too_many_unix_fds`, net/unix/scm.c).
const MAX_MESSAGES: usize = 4096;
const MSG_PEEK: u64 = 2;

/// The way that a message takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Way {
    /// From this end of a pair of sockets.
    From(SockIx),
    /// To this socket, which has an address.
    To(SockIx),
}

/// What a message took along.
#[derive(Debug)]
struct Message {
    objects: Vec<Option<ObjectId>>,
    of: Vec<Option<Rc<OfdRef>>>,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Passing {
    on_their_way: FxHashMap<Way, VecDeque<Message>>,
    /// Received before the call that sent them was told of, since it returned later.
    early: FxHashMap<Way, VecDeque<Vec<Option<ObjectId>>>>,
    messages: usize,
    /// The last description that was made of an object.
    by_object: FxHashMap<ObjectId, OfdIx>,
}

impl Passing {
    pub(super) fn made(&mut self, object: ObjectId, ofd: OfdIx) {
        self.by_object.insert(object, ofd);
    }

    /// A socket is gone, and with it what nobody received.
    pub(super) fn gone(&mut self, sock: SockIx, partner: Option<SockIx>) {
        for way in [Some(Way::To(sock)), partner.map(Way::From)].into_iter().flatten() {
            self.messages -= self.on_their_way.remove(&way).map_or(0, |queue| queue.len());
            self.early.remove(&way);
        }
    }
}

fn objects(fds: &[PassedFd]) -> Vec<Option<ObjectId>> {
    fds.iter().map(|passed| passed.object).collect()
}

impl World {
    /// The socket inside that a datagram with this destination reaches.
    pub(crate) fn receiver_of(&self, task: TaskIx, sock: SockIx, to: Option<&SockAddr>) -> Option<SockIx> {
        let state = &self.socks[sock as usize];
        if let Some(partner) = state.partner {
            return Some(partner);
        }
        if state.kind & 0xf != super::SOCK_DGRAM {
            return None;
        }
        let to = to.or(state.peer.as_ref())?.clone();
        let to = self.absolute(task, &to);
        self.receiver(&to)
    }

    /// Where the messages of a call go: as the call says, by message.
    pub(crate) fn destinations(call: &Syscall, sc: Sc) -> Vec<Option<SockAddr>> {
        match sc {
            Sc::Sendto => vec![detail_addr(call, 4).cloned()],
            Sc::Sendmsg => vec![detail_addr(call, 1).cloned()],
            Sc::Sendmmsg => match detail_messages(call) {
                Some(entries) => {
                    let moved = usize::try_from(call.ret).unwrap_or(0).min(entries.len());
                    entries[..moved].iter().map(|message| message.addr.clone()).collect()
                }
                None => vec![None],
            },
            Sc::Write | Sc::Writev => vec![None],
            _ => Vec::new(),
        }
    }

    /// A call sent descriptors along.
    pub(crate) fn pass(
        &mut self,
        source: &dyn Source,
        task: TaskIx,
        call: &Syscall,
        sc: Sc,
    ) -> Result<(), CompileError> {
        let passed: Vec<(u32, Vec<PassedFd>)> =
            details_passed(call).map(|(i, fds)| (i, fds.to_vec())).collect();
        for (index, fds) in passed {
            let Some(sock) = self.sock_of(task, call.args[0] as i32) else { return Ok(()) };
            let to = Self::destinations(call, sc).into_iter().nth(index as usize).flatten();
            let mut of = Vec::new();
            for one in &fds {
                let ofd = self.ensure_fd(source, task, one.fd, one.object, false)?;
                of.push(ofd.and_then(|ofd| self.ofds[ofd as usize].handle.upgrade()));
            }
            // A stream's other end may not have been accepted yet.
            let way = if self.socks[sock as usize].kind & 0xf == super::SOCK_DGRAM
                && self.socks[sock as usize].partner.is_none()
            {
                match self.receiver_of(task, sock, to.as_ref()) {
                    Some(receiver) => Way::To(receiver),
                    None => continue,
                }
            } else {
                Way::From(sock)
            };
            let objects = objects(&fds);
            let early = self.passing.early.get_mut(&way);
            if let Some(early) = early
                && let Some(at) = early.iter().position(|taken| *taken == objects)
            {
                early.remove(at);
            } else if self.passing.messages < MAX_MESSAGES {
                self.passing.messages += 1;
                self.passing.on_their_way.entry(way).or_default().push_back(Message { objects, of });
            }
        }
        Ok(())
    }

    /// The ways by which something may have come to a socket.
    fn ways_to(&self, sock: SockIx) -> Way {
        match self.socks[sock as usize].partner {
            Some(partner) => Way::From(partner),
            None => Way::To(sock),
        }
    }

    /// What the descriptors that a call received refer to, as far as somebody inside has it.
    pub(crate) fn received(&self, task: TaskIx, fd: i32, fds: &[PassedFd]) -> Vec<Option<OfdIx>> {
        let objects = objects(fds);
        let queue =
            self.sock_of(task, fd).and_then(|sock| self.passing.on_their_way.get(&self.ways_to(sock)));
        if let Some(message) = queue.into_iter().flatten().find(|message| message.objects == objects) {
            return message.of.iter().map(|of| of.as_ref().map(|of| of.id())).collect();
        }
        // Who sends has it still.
        let known = |object: &Option<ObjectId>| {
            let ofd = *self.passing.by_object.get(object.as_ref()?)?;
            let state = &self.ofds[ofd as usize];
            (state.object == *object && state.handle.strong_count() > 0).then_some(ofd)
        };
        objects.iter().map(known).collect()
    }

    /// A call received descriptors.
    pub(crate) fn receive(
        &mut self,
        source: &dyn Source,
        task: TaskIx,
        call: &Syscall,
        sc: Sc,
        end_ns: u64,
    ) -> Result<(), CompileError> {
        let flags = call.args[if sc == Sc::Recvmmsg { 3 } else { 2 }];
        let cloexec = received_cloexec(sc, &call.args);
        let proc = self.tasks[task as usize].proc;
        let passed: Vec<Vec<PassedFd>> = details_passed(call).map(|(_, fds)| fds.to_vec()).collect();
        for fds in passed {
            let found = self.received(task, call.args[0] as i32, &fds);
            // They live from here on by the numbers that they get.
            let message =
                if flags & MSG_PEEK == 0 { self.take(task, call.args[0] as i32, &fds) } else { None };
            for (one, ofd) in fds.iter().zip(found) {
                if one.fd < 0 {
                    continue;
                }
                let ofd = match ofd {
                    Some(ofd) => ofd,
                    None => self.inherited_ofd(
                        source,
                        &Inherited {
                            tid: 0,
                            start_ns: 0,
                            fd: one.fd,
                            object: one.object,
                            written: false,
                            nonblock: false,
                            append: false,
                        },
                    ),
                };
                self.take_fd(proc, one.fd, ofd, cloexec, end_ns)?;
            }
            drop(message);
            self.bury();
        }
        Ok(())
    }

    /// Takes a message off its way, or remembers that it is to come.
    fn take(&mut self, task: TaskIx, fd: i32, fds: &[PassedFd]) -> Option<Message> {
        let way = self.ways_to(self.sock_of(task, fd)?);
        let objects = objects(fds);
        let queue = self.passing.on_their_way.get_mut(&way);
        if let Some(queue) = queue
            && let Some(at) = queue.iter().position(|message| message.objects == objects)
        {
            self.passing.messages -= 1;
            return queue.remove(at);
        }
        let early = self.passing.early.entry(way).or_default();
        if early.len() < 64 {
            early.push_back(objects);
        }
        None
    }
}
