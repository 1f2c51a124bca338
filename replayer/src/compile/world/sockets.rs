//! Sockets: addresses, listeners, which two are the ends of one connection.

use super::super::CompileError;
use super::super::calls::Sc;
use super::super::fsmodel::NodeKind;
use super::super::paths::{PathId, parent_of};
use super::super::source::Source;
use super::{
    AF_UNIX, OfdIx, OfdKind, SOCK_DGRAM, Sock, SockIx, SockState, TaskIx, World, canonical, detail_addr,
    detail_epoll, groups, new_sock,
};
use ctrace_format::{Connection, ConnectionKind, Detail, Object, ObjectId, SockAddr, Syscall, TcpState};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Connections to one port that wait to be accepted; a listener's own limit is 4,096, mostly (`somaxconn`).
const WAITING_MAX: usize = 4096;
/// Longest address that the kernel takes (`struct sockaddr_storage`).
const ADDRESS_MAX: usize = 128;

fn length(addr: &SockAddr) -> usize {
    match addr {
        SockAddr::Unix(data) | SockAddr::Other { data, .. } => data.len(),
        _ => 0,
    }
}

/// Makes an address no longer than one can be.
fn cut(addr: &mut SockAddr) {
    match addr {
        SockAddr::Unix(data) if data.first() == Some(&b'/') => data.truncate(super::super::paths::PATH_MAX),
        SockAddr::Unix(data) | SockAddr::Other { data, .. } => data.truncate(ADDRESS_MAX),
        _ => {}
    }
}

impl World {
    /// The listening socket inside that a connect to `addr` would reach.
    pub(crate) fn listener(&self, addr: &SockAddr) -> Option<SockIx> {
        let addr = canonical(addr);
        if let Some(ix) = self.listeners.get(&addr) {
            return Some(*ix);
        }
        let SockAddr::Inet(at) = addr else {
            let listens = |ix: &SockIx| self.socks[*ix as usize].state == SockState::Listening;
            return self.later_names.get(&addr).copied().filter(listens);
        };
        [IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::UNSPECIFIED)]
            .into_iter()
            .find_map(|any| self.listeners.get(&SockAddr::Inet(SocketAddr::new(any, at.port()))).copied())
    }

    /// Pairs of sockets that were found to be the two ends of one connection since the last time.
    pub(crate) fn newly_paired(&mut self) -> Vec<(SockIx, SockIx)> {
        if self.gone_socks.len() > 4096 || self.gone_ofds.len() > 4096 {
            // A pass that does not care.
            self.gone_socks.clear();
            self.gone_ofds.clear();
        }
        std::mem::take(&mut self.pairs)
    }

    /// Whether a datagram to an address reaches a socket inside.
    pub(crate) fn bound(&self, addr: &SockAddr) -> bool {
        self.receiver(addr).is_some()
    }

    /// The datagram socket inside that has an address, or takes what is sent to it since it has the port of all of the host's
    /// addresses.
    pub(crate) fn receiver(&self, addr: &SockAddr) -> Option<SockIx> {
        let open = |ix: &&SockIx| !self.socks[**ix as usize].closed;
        let bound = self.alike(addr).iter().find_map(|addr| self.dgram_bound.get(addr).filter(open)).copied();
        let datagrams = |ix: &&SockIx| open(ix) && self.socks[**ix as usize].is_datagram();
        bound.or_else(|| self.later_names.get(addr).filter(datagrams).copied())
    }

    /// A unix socket has this name: its file may get others.
    pub(super) fn bound_at(&mut self, ix: SockIx, path: PathId) {
        if let Some(inode) = self.fs.lookup(path) {
            self.bound_files.insert(inode, ix);
        }
    }

    /// A file has got a name; a socket is reached by it if the file is its name.
    pub(super) fn socket_named(&mut self, path: PathId) {
        let inode = self.fs.lookup(path);
        let Some(ix) = inode.and_then(|inode| self.bound_files.get(&inode)).copied() else { return };
        let name = SockAddr::Unix(self.paths.get(path).to_vec());
        self.address_bytes.set(self.address_bytes.get() + length(&name));
        self.later_names.insert(name.clone(), ix);
        self.renamed.insert(ix, name);
    }

    /// The name that a unix socket was given after the one that it was bound to.
    pub(crate) fn later_name(&self, ix: SockIx) -> Option<&SockAddr> {
        self.renamed.get(&ix)
    }

    /// The addresses that a socket may have that a datagram to `addr` reaches.
    pub(crate) fn alike(&self, addr: &SockAddr) -> Vec<SockAddr> {
        let addr = canonical(addr);
        let SockAddr::Inet(at) = addr else { return vec![addr] };
        let mut all = vec![addr];
        let ip = at.ip();
        if ip.is_loopback() || ip.is_unspecified() || self.seed.own_ips.contains(&ip) {
            let any = [IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::UNSPECIFIED)];
            all.extend(any.map(|any| SockAddr::Inet(SocketAddr::new(any, at.port()))));
        }
        all
    }

    /// A call gave a socket the address that it has now.
    pub(crate) fn got_address(&mut self, task: TaskIx, fd: i32, addr: &SockAddr) {
        let Some(ix) = self.sock_of(task, fd) else { return };
        if self.seed.tuples.contains_key(&self.socks[ix as usize].cookie) {
            return;
        }
        let local = self.absolute(task, addr);
        self.socks[ix as usize].local = Some(local);
        if self.socks[ix as usize].kind & 0xf == SOCK_DGRAM {
            self.takes_datagrams(ix);
        }
    }

    pub(crate) fn sock(&mut self, mut sock: Sock) -> SockIx {
        for addr in [&mut sock.local, &mut sock.peer].into_iter().flatten() {
            cut(addr);
            self.address_bytes.set(self.address_bytes.get() + length(addr));
        }
        if sock.cookie != 0
            && let Some(ix) = self.sock_by_cookie.get(&sock.cookie)
        {
            return *ix;
        }
        if let Some((local, peer)) = self.seed.tuples.get(&sock.cookie)
            && sock.state == SockState::Connected
        {
            sock.local = Some(local.clone());
            sock.peer = Some(peer.clone());
        }
        let ix = self.socks.len() as SockIx;
        if sock.cookie != 0 {
            self.sock_by_cookie.insert(sock.cookie, ix);
        }
        let listening = sock.state == SockState::Listening;
        let datagrams = sock.kind & 0xf == SOCK_DGRAM;
        self.socks.push(sock);
        if datagrams {
            self.takes_datagrams(ix);
        }
        if listening {
            self.listening(ix);
        }
        self.join_tuple(ix);
        ix
    }

    pub(crate) fn listening(&mut self, ix: SockIx) {
        self.socks[ix as usize].state = SockState::Listening;
        let Some(local) = self.socks[ix as usize].local.as_ref().map(canonical) else { return };
        self.groups.join((false, local.clone()), ix);
        self.listeners.insert(local, ix);
    }

    /// A socket listens no more at its address.
    pub(crate) fn silent(&mut self, ix: SockIx) {
        let Some(local) = self.socks[ix as usize].local.as_ref().map(canonical) else { return };
        let left = self.groups.leave(ix);
        if self.listeners.get(&local) == Some(&ix) {
            match left {
                Some(other) => self.listeners.insert(local, other),
                None => self.listeners.remove(&local),
            };
        }
    }

    /// The sockets that have the address of one together with it, as the kernel numbers them.
    pub(crate) fn group_of(&self, sock: SockIx) -> &[SockIx] {
        self.groups.of(sock)
    }

    /// The place of a socket among several that have its address.
    pub(crate) fn place_among(&self, sock: SockIx) -> Option<u32> {
        let group = self.group_of(sock);
        let at = group.iter().position(|member| *member == sock).filter(|_| group.len() > 1)?;
        Some(at as u32)
    }

    /// Datagrams to its address come to a socket.
    pub(crate) fn takes_datagrams(&mut self, ix: SockIx) {
        let Some(sock) = self.socks.get(ix as usize) else { return };
        if let Some(local) = &sock.local {
            self.dgram_bound.insert(canonical(local), ix);
        }
        if let Some(at) = groups::address(sock) {
            self.groups.join(at, ix);
        }
    }

    /// A socket is gone: datagrams to its address come to others that have it, if any.
    pub(crate) fn takes_no_datagrams(&mut self, ix: SockIx) {
        let left = self.groups.leave(ix);
        let Some(local) = self.socks.get(ix as usize).and_then(|sock| sock.local.as_ref()) else { return };
        let local = canonical(local);
        if self.dgram_bound.get(&local) == Some(&ix) {
            match left {
                Some(other) => self.dgram_bound.insert(local, other),
                None => self.dgram_bound.remove(&local),
            };
        }
    }

    pub(crate) fn pair(&mut self, a: SockIx, b: SockIx) {
        self.socks[a as usize].partner = Some(b);
        self.socks[b as usize].partner = Some(a);
        self.pairs.push((a, b));
    }

    /// Both addresses of a TCP connection, here and there, by its cookie.
    pub(crate) fn tuple(&self, cookie: u64) -> Option<&(SockAddr, SockAddr)> {
        self.seed.tuples.get(&cookie)
    }

    /// The listening sockets of which a readiness call said that something can be accepted, and their descriptors.
    pub(crate) fn told_of_connections(&self, task: TaskIx, call: &Syscall, sc: Sc) -> Vec<(SockIx, i32)> {
        /// `EPOLLIN`, `EPOLLERR`, `EPOLLHUP`; as many of `poll`.
        const READABLE: u32 = 0x19;
        let listening = |ofd: OfdIx| match self.ofds[ofd as usize].kind {
            // Of a socket that was there before, no call may have told that it listens. None for datagrams does.
            OfdKind::Sock(sock) => {
                let state = &self.socks[sock as usize];
                (state.state != SockState::Connected && !state.is_datagram()).then_some(sock)
            }
            _ => None,
        };
        let mut told = Vec::new();
        match sc {
            Sc::EpollWait | Sc::EpollPwait | Sc::EpollPwait2 => {
                let epoll = self.ofd_of(task, call.args[0] as i32).and_then(|ep| self.epoll(ep));
                for entry in detail_epoll(call).unwrap_or_default() {
                    if entry.events & READABLE != 0
                        && let Some(watch) = epoll.and_then(|epoll| epoll.by_data(entry.data))
                    {
                        told.extend(listening(watch.ofd).map(|sock| (sock, watch.fd)));
                    }
                }
            }
            Sc::Poll | Sc::Ppoll | Sc::Select | Sc::Pselect6 => {
                for detail in &call.details {
                    let Detail::Poll { entries, .. } = detail else { continue };
                    for entry in entries.iter().filter(|entry| u32::from(entry.revents) & READABLE != 0) {
                        let ofd = self.ofd_of(task, entry.fd);
                        told.extend(ofd.and_then(listening).map(|sock| (sock, entry.fd)));
                    }
                }
            }
            _ => {}
        }
        told
    }

    /// Finds the other end of a connected TCP socket inside.
    pub(crate) fn join_tuple(&mut self, ix: SockIx) {
        let sock = &self.socks[ix as usize];
        let (Some(local), Some(peer)) = (&sock.local, &sock.peer) else { return };
        if !matches!((local, peer), (SockAddr::Inet(_), SockAddr::Inet(_))) {
            return;
        }
        let (local, peer) = (canonical(local), canonical(peer));
        if let Some(other) = self.by_tuple.get(&(peer.clone(), local.clone())).copied()
            && other != ix
        {
            self.pair(ix, other);
        }
        self.by_tuple.insert((local, peer), ix);
    }

    #[expect(clippy::unused_self, reason = "alike its siblings, which need it")]
    pub(crate) fn cookie_of(&self, source: &dyn Source, object: Option<ObjectId>) -> u64 {
        match object.map(|o| source.object(o)) {
            Some(Object::Socket { cookie, .. }) => cookie.0,
            _ => 0,
        }
    }

    /// The cookie of the socket that an accept made. The description of the socket may come a moment late, and the record
    /// then has the one that was at its address of the kernel's before: so it may not be one that was accepted already.
    /// Instead it is who the call says, or the connection that has been waiting longest.
    pub(crate) fn accepted_cookie(&self, source: &dyn Source, call: &Syscall) -> u64 {
        let (cookie, local, peer) = match call.object.map(|o| source.object(o)) {
            Some(Object::Socket { cookie, local: Some(SockAddr::Inet(local)), peer, .. }) => {
                (cookie.0, Some(local), peer.as_ref().map(canonical))
            }
            Some(Object::Socket { cookie, .. }) => return cookie.0,
            _ => (0, None, None),
        };
        let from = detail_addr(call, 1).filter(|from| matches!(from, SockAddr::Inet(_))).map(canonical);
        if let Some(from) = from.filter(|from| peer.as_ref() != Some(from)) {
            return self.came_from.get(&from).copied().unwrap_or(0);
        }
        if self.waiting.contains(&cookie) || !self.seed.tuples.contains_key(&cookie) {
            return cookie;
        }
        let queue = local.and_then(|local| self.queues.get(&local.port()));
        queue.and_then(|queue| queue.front()).copied().unwrap_or(0)
    }

    /// A connection was accepted, or is gone.
    pub(crate) fn waits_no_more(&mut self, cookie: u64, port: u16) {
        self.waiting.remove(&cookie);
        self.clear_queue(port);
    }

    fn clear_queue(&mut self, port: u16) {
        let Some(queue) = self.queues.get_mut(&port) else { return };
        while queue.front().is_some_and(|first| !self.waiting.contains(first)) {
            queue.pop_front();
        }
    }

    /// What happened to a TCP connection, as far as it matters who accepts it.
    pub(crate) fn connection_changed(&mut self, connection: &Connection) -> Result<(), CompileError> {
        let SockAddr::Inet(local) = &connection.local else { return Ok(()) };
        match connection.kind {
            ConnectionKind::State { old: TcpState::SynRecv, new: TcpState::Established, .. } => {
                self.came_from.insert(canonical(&connection.peer), connection.cookie.0);
                self.waiting.insert(connection.cookie.0);
                let queue = self.queues.entry(local.port()).or_default();
                if queue.len() >= WAITING_MAX {
                    queue.pop_front();
                }
                queue.push_back(connection.cookie.0);
                self.clear_queue(local.port());
                self.budget.things("connections that wait", self.waiting.len())?;
                self.budget.things("addresses connected from", self.came_from.len())
            }
            ConnectionKind::Closed { .. } => {
                self.waits_no_more(connection.cookie.0, local.port());
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// The socket behind a descriptor.
    pub(crate) fn sock_of(&self, task: TaskIx, fd: i32) -> Option<SockIx> {
        match self.ofds[self.ofd_of(task, fd)? as usize].kind {
            OfdKind::Sock(ix) => Some(ix),
            _ => None,
        }
    }

    /// A socket address with a path made absolute.
    pub(crate) fn absolute(&self, task: TaskIx, addr: &SockAddr) -> SockAddr {
        match addr {
            SockAddr::Unix(path) if self.is_relative(task, path) => {
                let path = self.seen(task, path);
                self.address_bytes.set(self.address_bytes.get() + path.len());
                SockAddr::Unix(path)
            }
            other => {
                let mut addr = other.clone();
                cut(&mut addr);
                addr
            }
        }
    }

    /// Whether the name of a unix socket is one of a file that is looked for from the working directory of a task, or from a root
    /// of its own. One that was made absolute is not.
    fn is_relative(&self, task: TaskIx, path: &[u8]) -> bool {
        let root = self.paths.get(self.fs_of(task).root);
        match path.first() {
            None | Some(b'@' | 0) => false,
            Some(b'/') => root != b"/" && !path.starts_with(root),
            Some(_) => true,
        }
    }

    /// The directory of a unix socket's name is there.
    pub(crate) fn directory_of(&mut self, addr: &SockAddr) {
        if let SockAddr::Unix(path) = addr
            && path.first() == Some(&b'/')
        {
            let dir = self.paths.intern(parent_of(path));
            self.fs.present(&mut self.paths, dir, NodeKind::Dir);
        }
    }

    pub(crate) fn accepted(
        &mut self,
        source: &dyn Source,
        call: &Syscall,
        listener: Option<SockIx>,
        end_ns: u64,
    ) -> SockIx {
        let (mut local, mut peer) = (None, detail_addr(call, 1).cloned());
        let (mut family, mut kind, mut protocol, mut cookie) = (2, 1, 0, 0);
        if let Some(l) = listener {
            let l = &self.socks[l as usize];
            (family, kind, protocol) = (l.family, l.kind, l.protocol);
            local.clone_from(&l.local);
        }
        if let Some(Object::Socket { cookie: c, local: l, peer: p, .. }) =
            call.object.map(|o| source.object(o))
        {
            cookie = self.accepted_cookie(source, call);
            if l.is_some() {
                local.clone_from(l);
            }
            if p.is_some() && cookie == c.0 {
                peer.clone_from(p);
            }
        }
        if let Some(SockAddr::Inet(local)) = &local {
            self.waits_no_more(cookie, local.port());
        }
        let ix = self.sock(Sock {
            local,
            peer,
            accepted: true,
            state: SockState::Connected,
            ..new_sock(family, kind, protocol, cookie, end_ns)
        });
        if family == AF_UNIX
            && let Some(l) = listener
        {
            if let Some(other) = self.socks[l as usize].pending.pop_front() {
                self.pair(ix, other);
            } else if self.socks[l as usize].early.len() < 1024 {
                self.socks[l as usize].early.push_back(ix);
            }
        }
        ix
    }

    pub(crate) fn connected(&mut self, task: TaskIx, ix: SockIx, addr: &SockAddr, end_ns: u64) {
        let addr = self.absolute(task, addr);
        self.directory_of(&addr);
        let listener = self.listener(&addr);
        let tuple = self.seed.tuples.get(&self.socks[ix as usize].cookie).cloned();
        let sock = &mut self.socks[ix as usize];
        sock.peer = Some(addr);
        sock.born_ns = end_ns;
        sock.state = SockState::Connected;
        if let Some((local, peer)) = tuple {
            sock.local = Some(local);
            sock.peer = Some(peer);
        }
        if sock.family == AF_UNIX {
            if let Some(l) = listener {
                if let Some(other) = self.socks[l as usize].early.pop_front() {
                    self.pair(ix, other);
                } else if self.socks[l as usize].pending.len() < 65_536 {
                    self.socks[l as usize].pending.push_back(ix);
                }
            }
        } else {
            self.join_tuple(ix);
        }
    }
}
