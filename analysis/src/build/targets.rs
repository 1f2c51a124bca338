//! What a call works on: the run-independent name behind a descriptor, a path, a socket.

use super::{AF_INET, AF_INET6, AF_UNIX, Builder, Call, Identity, SOCK_STREAM, Sock, Target};
use crate::conn::Side;
use crate::fds::{Descriptor, Generation, Origin, SocketEffect, socket_effect};
use crate::names::{self, NameId, lossy};
use crate::symbol::Kind;
use ctrace_format::syscalls::Family;
use ctrace_format::{Detail, Object, ObjectId, SockAddr, StrId, Syscall, Tgid, syscalls};
use rustc_hash::FxHashSet;
use std::collections::hash_map::Entry;

const EBADF: i64 = -9;
const S_IFMT: u32 = 0o170_000;
const S_IFIFO: u32 = 0o010_000;
/// The end of a pipe that a call is about, where its descriptor is not known.
const UNKNOWN_END: Generation = Generation(0);

pub(super) const fn is_fifo(mode: u32) -> bool {
    mode & S_IFMT == S_IFIFO
}

impl Builder<'_> {
    /// What a call works on.
    pub(super) fn target(&mut self, call: &Call, s: &Syscall, tgid: Tgid) -> Target {
        let nothing = Target { name: NameId::default(), stream: None };
        match call.kind {
            Kind::Open | Kind::Path | Kind::Exec => {
                // An empty path means the descriptor itself.
                let itself = s
                    .details
                    .iter()
                    .any(|d| matches!(d, Detail::Str { value, .. } if self.trace.str(*value).is_empty()));
                if itself && call.kind == Kind::Path && s.args_mask & 1 != 0 {
                    return Target { stream: None, ..self.fd_target(tgid, s.args[0] as i32, s.object) };
                }
                if let Some(object) = self.behind_named_descriptor(tgid, s) {
                    return Target { stream: None, ..self.object_target(object) };
                }
                if let Some(name) = self.path_of(s) {
                    return Target { name, stream: None };
                }
                return s.object.map_or(nothing, |o| self.object_target(o));
            }
            // The watched descriptor, not the watcher.
            Kind::EpollCtl => {
                let watched = s.details.iter().find_map(|d| match d {
                    Detail::Object { arg: 2, object } => Some(*object),
                    _ => None,
                });
                return self.fd_target(tgid, s.args[2] as i32, watched);
            }
            Kind::Socket => return s.object.map_or(nothing, |o| self.object_target(o)),
            // It makes two ends, and is no use of either.
            Kind::Pipe => {
                return s.object.map_or(nothing, |o| Target { stream: None, ..self.object_target(o) });
            }
            Kind::Noise | Kind::Memory | Kind::Readiness => return nothing,
            _ => {}
        }
        match call.fd {
            // There is no such descriptor, whatever had the number.
            Some(_) if s.ret == EBADF && s.object.is_none() => {
                Target { name: self.names.fixed("?"), stream: None }
            }
            Some(_) if s.arguments_unknown() => s.object.map_or(nothing, |o| self.object_target(o)),
            // It tells of the connection that it made, which is not behind the number that it names.
            Some(_) if call.sc.row().family == Family::Accept && s.ret >= 0 && s.object.is_some() => {
                s.object.map_or(nothing, |o| self.object_target(o))
            }
            Some(i) if call.kind == Kind::Mmap && s.args[i] as u32 > i32::MAX as u32 => nothing,
            Some(i) => {
                let fd = s.args[i] as i32;
                match self.fds.meant(tgid, call.sc, fd, s).copied() {
                    // Nobody saw what it closes, and what has the number is something else.
                    None if self.fds.get(tgid, fd).is_some() => match s.object {
                        Some(object) => self.object_target(object),
                        None => Target { name: self.names.fixed("?"), stream: None },
                    },
                    // Another call was given the number before this one returned.
                    Some(meant) if self.fds.get(tgid, fd) != Some(&meant) => {
                        let object = s.object.or(meant.object);
                        self.descriptor_target(Descriptor { object, ..meant })
                    }
                    _ => self.fd_target(tgid, fd, s.object),
                }
            }
            None => self.path_of(s).map_or(nothing, |name| Target { name, stream: None }),
        }
    }

    /// The object behind the descriptor that a path names: `/dev/stdout` and `/proc/self/fd/3` are such paths.
    fn behind_named_descriptor(&self, tgid: Tgid, s: &Syscall) -> Option<ObjectId> {
        let mut paths = s.details.iter().filter_map(|d| match d {
            Detail::Str { value, .. } => Some(self.trace.str(*value)),
            _ => None,
        });
        let fd = syscalls::descriptor_named(paths.next()?)?;
        self.fds.get(tgid, fd)?.object
    }

    pub(super) fn fd_target(&mut self, tgid: Tgid, fd: i32, object: Option<ObjectId>) -> Target {
        if fd < 0 || object.is_none() && self.fds.get(tgid, fd).is_none() {
            return Target { name: self.names.fixed("?"), stream: None };
        }
        let descriptor = self.fds.observe(tgid, fd, object);
        self.descriptor_target(descriptor)
    }

    pub(super) fn descriptor_target(&mut self, descriptor: Descriptor) -> Target {
        let inherited = descriptor.origin != Origin::Opened && (0..=2).contains(&descriptor.first_fd);
        if inherited {
            let name = self.names.fixed(["stdin", "stdout", "stderr"][descriptor.first_fd as usize]);
            return Target { name, stream: Some(Identity::Stdio(descriptor.first_fd as u8)) };
        }
        match descriptor.object {
            Some(object) => {
                let mut target = self.object_target(object);
                if let Some(Identity::Pipe(_, end)) = &mut target.stream {
                    *end = descriptor.generation;
                }
                let opened_as = NameId(descriptor.tag);
                if descriptor.tag != 0 && target.stream.is_none() {
                    Target { name: opened_as, ..target }
                } else {
                    target
                }
            }
            None if descriptor.tag != 0 => Target { name: NameId(descriptor.tag), stream: None },
            None => Target { name: self.names.fixed("?"), stream: None },
        }
    }

    pub(super) fn object_target(&mut self, object: ObjectId) -> Target {
        let trace = self.trace;
        match trace.object(object) {
            Object::File { path, ino, mode, .. } => {
                let name = self.path_name(*path);
                let stream = is_fifo(*mode).then_some(Identity::Pipe(*ino, UNKNOWN_END));
                Target { name, stream }
            }
            Object::Socket { family, kind, cookie, local, peer, .. } => {
                if let Entry::Vacant(new) = self.socks.entry(cookie.0) {
                    new.insert(Sock {
                        family: *family,
                        kind: *kind,
                        side: Side::Unknown,
                        local: local.clone(),
                        peer: peer.clone(),
                        name: NameId::default(),
                        reset: false,
                    });
                    self.rename(cookie.0);
                }
                Target { name: self.socks[&cookie.0].name, stream: Some(Identity::Socket(cookie.0)) }
            }
            Object::Pipe { ino } => {
                Target { name: self.names.fixed("pipe"), stream: Some(Identity::Pipe(*ino, UNKNOWN_END)) }
            }
            Object::Anon { kind, .. } => {
                let name = if let Some(name) = self.file_names.get(&object) {
                    *name
                } else {
                    let text = lossy(trace.str(*kind)).trim_matches(['[', ']']).to_owned();
                    let pids = &self.pids;
                    let name = self.names.insert(&text, |n| names::blank_path(n, pids));
                    self.file_names.insert(object, name);
                    name
                };
                Target { name, stream: None }
            }
            _ => Target { name: NameId::default(), stream: None },
        }
    }

    fn path_name(&mut self, path: StrId) -> NameId {
        if let Some(name) = self.paths.get(&path) {
            return *name;
        }
        let text = lossy(super::clipped(self.trace.str(path), super::PATH_MAX));
        let pids = &self.pids;
        let name = self.names.insert(&text, |n| names::blank_path(n, pids));
        self.paths.insert(path, name);
        name
    }

    fn path_of(&mut self, s: &Syscall) -> Option<NameId> {
        let mut strings = s.details.iter().filter_map(|d| match d {
            Detail::Str { value, .. } => Some(*value),
            _ => None,
        });
        let first = strings.next()?;
        if self.trace.str(first).is_empty() {
            // An empty path means the descriptor itself.
            return s.object.map(|o| self.object_target(o).name);
        }
        match strings.next() {
            None => Some(self.path_name(first)),
            Some(second) => {
                let text = format!("{} → {}", lossy(self.trace.str(first)), lossy(self.trace.str(second)));
                let pids = &self.pids;
                Some(self.names.insert(&text, |n| {
                    let (from, to) = n.split_once(" → ")?;
                    let blanked = (names::blank_path(from, pids), names::blank_path(to, pids));
                    (blanked.0.is_some() || blanked.1.is_some()).then(|| {
                        let (from, to) =
                            (blanked.0.as_deref().unwrap_or(from), blanked.1.as_deref().unwrap_or(to));
                        format!("{from} → {to}")
                    })
                }))
            }
        }
    }

    /// What a call tells about a socket.
    pub(super) fn learn(&mut self, call: &Call, s: &Syscall, target: &Target) {
        let Some(Identity::Socket(cookie)) = target.stream else { return };
        let Some(sock) = self.socks.get_mut(&cookie) else { return };
        match socket_effect(call.sc, s) {
            Some(SocketEffect::Connects { to, .. }) => {
                sock.side = Side::Client;
                if to.is_some() {
                    sock.peer = to.cloned();
                }
            }
            Some(SocketEffect::Listens) => sock.side = Side::Listener,
            Some(SocketEffect::Bound { asked, .. }) => sock.local = Some(asked.clone()),
            Some(SocketEffect::Named(addr)) => sock.local = Some(addr.clone()),
            None => return,
        }
        self.rename(cookie);
    }

    /// Of a connection that was there before the recording, whoever speaks first is the client.
    pub(super) fn first_words(&mut self, call: &Call, target: Target) -> Target {
        let (Some(Identity::Socket(cookie)), Kind::Send | Kind::Receive) = (target.stream, call.kind) else {
            return target;
        };
        let Some(sock) = self.socks.get_mut(&cookie) else { return target };
        let connected = |a: &Option<SockAddr>| a.as_ref().is_some_and(is_set);
        if sock.side != Side::Unknown
            || sock.kind != SOCK_STREAM
            || !connected(&sock.local)
            || !connected(&sock.peer)
        {
            return target;
        }
        sock.side = if call.kind == Kind::Send { Side::Client } else { Side::Server };
        self.rename(cookie);
        self.retarget(target)
    }

    /// The target of a connect, now that its address is known.
    pub(super) fn retarget(&self, target: Target) -> Target {
        match target.stream {
            Some(Identity::Socket(cookie)) => {
                Target { name: self.socks.get(&cookie).map_or(target.name, |s| s.name), ..target }
            }
            _ => target,
        }
    }

    /// Names a socket after what is known about it.
    pub(super) fn rename(&mut self, cookie: u64) {
        let Some(sock) = self.socks.get(&cookie) else { return };
        let proto = match (sock.family, sock.kind) {
            (AF_UNIX, _) => "unix",
            (AF_INET | AF_INET6, SOCK_STREAM) => "tcp",
            (AF_INET | AF_INET6, 2) => "udp",
            (16, _) => "netlink",
            _ => "socket",
        };
        let local = sock.local.as_ref().filter(|a| is_set(a));
        if let (Side::Listener, Some(SockAddr::Inet(addr))) = (sock.side, local) {
            self.listening.insert(addr.port());
        }
        let peer = sock.peer.as_ref().filter(|a| is_set(a));
        let side =
            if sock.side == Side::Unknown { guess_side(local, peer, &self.listening) } else { sock.side };
        let text = match (side, local, peer) {
            (Side::Client, _, Some(peer)) => format!("{proto} to {}", names::endpoint(peer)),
            (Side::Server, Some(local), _) => format!("{proto} at {}", names::endpoint(local)),
            (Side::Listener, Some(local), _) => format!("{proto} listening at {}", names::endpoint(local)),
            _ => proto.to_owned(),
        };
        let unix = sock.family == AF_UNIX;
        let pids = &self.pids;
        let name = self
            .names
            .insert(&text, |n| if unix { names::blank_unix(n, pids) } else { names::blank_port(n) });
        let (local, peer) = (sock.local.clone(), sock.peer.clone());
        if let Some(sock) = self.socks.get_mut(&cookie) {
            sock.name = name;
            sock.side = side;
        }
        for conn in self.of_socket.get(&cookie).into_iter().flatten() {
            let conn = &mut self.conns[*conn];
            conn.name = name;
            conn.side = side;
            conn.local.clone_from(&local);
            conn.peer.clone_from(&peer);
        }
    }
}

/// Whether an address says anything.
pub(super) fn is_set(addr: &SockAddr) -> bool {
    match addr {
        SockAddr::Inet(a) => a.port() != 0,
        SockAddr::Unix(path) => !path.is_empty(),
        _ => false,
    }
}

/// Who opened a connection of which only the addresses are known. Of two ephemeral ports nothing can be told.
fn guess_side(local: Option<&SockAddr>, peer: Option<&SockAddr>, listening: &FxHashSet<u16>) -> Side {
    match (local, peer) {
        (Some(SockAddr::Inet(ours)), Some(SockAddr::Inet(theirs))) => {
            let ephemeral = |port: u16| port >= names::EPHEMERAL_FIRST;
            match (ephemeral(ours.port()), ephemeral(theirs.port())) {
                _ if listening.contains(&ours.port()) => Side::Server,
                (true, true) => Side::Unknown,
                (true, false) => Side::Client,
                (false, false) if ours.port() > theirs.port() => Side::Client,
                (false, _) => Side::Server,
            }
        }
        (Some(SockAddr::Unix(_)), None) => Side::Server,
        (None, Some(SockAddr::Unix(_))) => Side::Client,
        _ => Side::Unknown,
    }
}
