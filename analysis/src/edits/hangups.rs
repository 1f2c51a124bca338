//! Ends of pipes and connections that are gone before their time, and what those at the other ends find.

use super::contents::Stream;
use super::seen::Seen;
use crate::fds::{Descriptor, Generation, open_flags};
use ctrace_format::syscalls::{Call, Family};
use ctrace_format::{Detail, Known, Object, SockAddr, SockCookie, Syscall};
use rustc_hash::{FxHashMap, FxHashSet};

// asm-generic/errno-base.h, asm-generic/errno.h
const EAGAIN: i64 = -11;
const EPIPE: i64 = -32;
const ECONNRESET: i64 = -104;
// include/uapi/asm-generic/fcntl.h
const O_ACCMODE: u64 = 3;
const O_RDONLY: u64 = 0;
const O_WRONLY: u64 = 1;
/// include/linux/socket.h.
const MSG_NOSIGNAL: u64 = 0x4000;

/// The kind of an open file description.
#[derive(Debug, Clone, Copy)]
enum End {
    Reads(u64),
    Writes(u64),
    Socket(SockCookie),
}

/// The way in which bytes go through an end of a pipe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    In,
    Out,
    Both,
}

/// The result that a call gets when its other end is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Finds {
    /// Nothing but what it found.
    Same,
    /// That as well, and what it sends is answered with a reset.
    First,
    /// This result.
    Result(i64),
    /// The same, with the signal that a write gets.
    Broken(i64),
    /// It knows already.
    Known,
}

/// One end whose other end is gone.
#[derive(Debug, Clone, Copy, Default)]
struct Left {
    /// Bytes were lost with it.
    reset: bool,
    /// It knows.
    told: bool,
    /// It has written into it.
    wrote: bool,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Hangups {
    known: FxHashMap<Generation, End>,
    /// Bytes that were sent and not read, where some were.
    under_way: FxHashMap<Stream, i64>,
    /// Connections of which the other end is gone, by the address of the one that is left, and of the other.
    left: FxHashMap<(SockAddr, SockAddr), Left>,
    /// Open ends of pipes that were made in the recording, so that all of them are known.
    pipes: FxHashMap<u64, Vec<(Generation, Way)>>,
    /// Pipes that nobody writes to; whether their reader knows, and did not in the recording.
    ended: FxHashMap<u64, bool>,
    /// Pipes that nobody reads from.
    broken: FxHashSet<u64>,
}

impl Hangups {
    /// A call that took place: what it tells of the description that it is about.
    pub(super) fn note(&mut self, seen: &Seen<'_, impl Known + ?Sized>) {
        let Seen { tgid, sc, call, fds, words } = *seen;
        for detail in &call.details {
            if let Detail::NewFds { fds: [reads, writes], objects: [Some(object), _], .. } = detail
                && sc.row().family == Family::Pipe
                && let Some(Object::Pipe { ino }) = words.object_def(*object)
            {
                let ends = [(*reads, End::Reads(*ino)), (*writes, End::Writes(*ino))];
                for (fd, end) in ends {
                    self.known.extend(fds.get(tgid, fd).map(|it| (it.generation, end)));
                }
                let ways = [(*reads, Way::Out), (*writes, Way::In)];
                let open =
                    ways.into_iter().filter_map(|(fd, way)| Some((fds.get(tgid, fd)?.generation, way)));
                self.pipes.insert(*ino, open.collect());
                self.ended.remove(ino);
                self.broken.remove(ino);
            }
        }
        if let Some(flags) = open_flags(sc, call)
            && let Some(Object::Pipe { ino }) = call.object.and_then(|object| words.object_def(object))
            && let Some(it) = fds.get(tgid, call.ret as i32)
            && let Some(open) = self.pipes.get_mut(ino)
        {
            let (way, end) = match flags & O_ACCMODE {
                O_RDONLY => (Way::Out, End::Reads(*ino)),
                O_WRONLY => (Way::In, End::Writes(*ino)),
                _ => (Way::Both, End::Writes(*ino)),
            };
            open.push((it.generation, way));
            self.known.insert(it.generation, end);
            return;
        }
        let (Some(object), Some(it)) = (call.object, fds.get(tgid, call.args[0] as i32)) else { return };
        let row = sc.row();
        if row.family == Family::Accept {
            return;
        }
        let end = match words.object_def(object) {
            Some(Object::Pipe { ino }) if row.reads & 1 != 0 => End::Reads(*ino),
            Some(Object::Pipe { ino }) if row.writes & 1 != 0 => End::Writes(*ino),
            Some(Object::Socket { cookie, .. }) => End::Socket(*cookie),
            _ => return,
        };
        self.known.insert(it.generation, end);
    }

    /// Whether a description is an end of a pipe.
    pub(super) fn is_pipe(&self, generation: Generation) -> bool {
        matches!(self.known.get(&generation), Some(End::Reads(_) | End::Writes(_)))
    }

    /// A description of an end of a pipe is closed for good.
    pub(super) fn close_pipe(&mut self, generation: Generation) {
        let Some(End::Reads(ino) | End::Writes(ino)) = self.known.remove(&generation) else { return };
        let Some(open) = self.pipes.get_mut(&ino) else { return };
        open.retain(|(it, _)| *it != generation);
        if open.iter().all(|(_, way)| *way == Way::Out) {
            self.ended.entry(ino).or_default();
        }
        if open.iter().all(|(_, way)| *way == Way::In) {
            self.broken.insert(ino);
        }
    }

    /// Bytes that were sent, or read.
    pub(super) fn moved(&mut self, stream: Stream, bytes: i64) {
        *self.under_way.entry(stream).or_default() += bytes;
    }

    /// Whether anything was sent on a stream.
    pub(super) fn has_sent(&self, stream: &Stream) -> bool {
        self.under_way.contains_key(stream)
    }

    /// Descriptions are closed for good. `ends` says both ends of a connection. Returns those of connections that are reset by it.
    pub(super) fn close(
        &mut self,
        gone: &[Descriptor],
        ends: impl Fn(SockCookie) -> Option<(SockAddr, SockAddr)>,
    ) -> Vec<(SockAddr, SockAddr)> {
        let mut resets = Vec::new();
        for it in gone {
            match self.known.get(&it.generation) {
                // One that was there before the recording began, or that other processes have, may have more ends than are known.
                Some(End::Writes(ino)) if !self.pipes.contains_key(ino) => {
                    self.ended.entry(*ino).or_default();
                }
                Some(End::Reads(ino)) if !self.pipes.contains_key(ino) => {
                    self.broken.insert(*ino);
                }
                Some(End::Socket(cookie)) => {
                    let Some((own, other)) = ends(*cookie) else { continue };
                    let to_it = Stream::Socket(other.clone(), own.clone());
                    let reset = self.under_way.get(&to_it).is_some_and(|left| *left > 0);
                    if reset {
                        resets.push((own.clone(), other.clone()));
                    }
                    self.left.insert((other, own), Left { reset, ..Left::default() });
                }
                _ => {}
            }
        }
        resets
    }

    /// Whether all ends are where they were.
    pub(super) fn is_empty(&self) -> bool {
        self.left.is_empty() && self.ended.is_empty() && self.broken.is_empty()
    }

    /// A read of a stream: `gets` bytes are left for it. `had`: what it got in the recording.
    pub(super) fn reads(&mut self, stream: &Stream, had: i64, gets: u64) -> Finds {
        let nothing = gets == 0 && had >= 0;
        match stream {
            Stream::Pipe(ino) => match self.ended.get_mut(ino) {
                // It read the end in the recording, too.
                Some(false) if had == 0 => Finds::Same,
                Some(told) if nothing || gets == 0 && had == EAGAIN => found(told, 0),
                _ => Finds::Same,
            },
            Stream::Pair(_) => Finds::Same,
            Stream::Socket(from, to) => match self.left.get_mut(&(to.clone(), from.clone())) {
                Some(left) if nothing => found(&mut left.told, if left.reset { ECONNRESET } else { 0 }),
                _ => Finds::Same,
            },
        }
    }

    /// A write into a stream.
    pub(super) fn writes(&mut self, sc: Call, call: &Syscall, stream: &Stream) -> Finds {
        match stream {
            Stream::Pipe(ino) if self.broken.contains(ino) => Finds::Broken(EPIPE),
            Stream::Pipe(_) | Stream::Pair(_) => Finds::Same,
            Stream::Socket(from, to) => {
                let Some(left) = self.left.get_mut(&(from.clone(), to.clone())) else { return Finds::Same };
                if left.told {
                    return Finds::Known;
                }
                if left.reset {
                    left.told = true;
                    return Finds::Result(ECONNRESET);
                }
                // The first one is sent, and answered with a reset (`tcp_rcv_state_process`, net/ipv4/tcp_input.c).
                if !std::mem::replace(&mut left.wrote, true) {
                    return Finds::First;
                }
                left.told = true;
                let flags = match sc {
                    Call::Sendto => call.args[3],
                    Call::Sendmsg => call.args[2],
                    _ => 0,
                };
                let is_quiet = flags & MSG_NOSIGNAL != 0;
                if is_quiet { Finds::Result(EPIPE) } else { Finds::Broken(EPIPE) }
            }
        }
    }
}

/// The first to ask is told.
fn found(told: &mut bool, result: i64) -> Finds {
    if std::mem::replace(told, true) { Finds::Known } else { Finds::Result(result) }
}
