//! Bytes inside events and objects that are no strings of the dictionary: addresses, socket options, small structures.

use super::{Gate, Policy, Text};
use crate::{Connection, Detail, Dns, Event, Object, ProcessKind, SockAddr, Socket, Syscall, syscalls};
use std::borrow::Cow;

/// Levels of socket options, include/linux/socket.h and include/uapi/linux/in.h.
mod level {
    pub(super) const IP: u64 = 0;
    pub(super) const SOCKET: u64 = 1;
    pub(super) const TCP: u64 = 6;
    pub(super) const UDP: u64 = 17;
    pub(super) const IPV6: u64 = 41;
    pub(super) const UDPLITE: u64 = 136;
    pub(super) const PACKET: u64 = 263;
    pub(super) const NETLINK: u64 = 270;
}

/// Options of TCP whose value is a key or has one in it: `TCP_MD5SIG`, `TCP_MD5SIG_EXT`, `TCP_FASTOPEN_KEY`,
/// `TCP_AO_ADD_KEY` and its relatives (include/uapi/linux/tcp.h).
const TCP_KEYS: [u64; 7] = [14, 32, 33, 38, 39, 40, 41];
/// Options of TCP whose value is a word of the kernel: `TCP_CONGESTION`, `TCP_ULP`.
const TCP_WORDS: [u64; 2] = [13, 31];
/// `SO_BINDTODEVICE`.
const BIND_TO_DEVICE: u64 = 25;
/// `IP_MULTICAST_IF`: an address, as long as a number.
const IP_MULTICAST_IF: u64 = 32;

/// `AF_*` whose addresses are numbers of this machine: netlink, vsock.
const NUMBERED_FAMILIES: [u16; 2] = [16, 40];

impl Gate {
    /// An event, with the bytes in it redacted. Its dictionary entries were when they were made.
    pub(crate) fn event<'a>(&mut self, event: &'a Event) -> Cow<'a, Event> {
        if self.is_open() {
            return Cow::Borrowed(event);
        }
        match event {
            Event::Syscall(call) if call.details.iter().any(has_bytes) => {
                let mut call = call.clone();
                self.call(&mut call);
                Cow::Owned(Event::Syscall(call))
            }
            Event::Connection(Connection { local, peer, t_ns: _, cookie: _, task: _, kind: _ }) => {
                match (self.address(local), self.address(peer), event) {
                    (None, None, _) => Cow::Borrowed(event),
                    (local, peer, Event::Connection(connection)) => {
                        let mut connection = connection.clone();
                        connection.local = local.unwrap_or(connection.local);
                        connection.peer = peer.unwrap_or(connection.peer);
                        Cow::Owned(Event::Connection(connection))
                    }
                    _ => Cow::Borrowed(event),
                }
            }
            Event::Socket(socket) => {
                let mut new = socket.clone();
                let Socket {
                    t_ns: _,
                    from_ns: _,
                    task: _,
                    cookie: _,
                    family: _,
                    kind: _,
                    protocol: _,
                    local,
                    peer,
                    sent: _,
                    bytes_sent: _,
                    received: _,
                    bytes_received: _,
                } = &mut new;
                for end in [local, peer].into_iter().flatten() {
                    if let Some(new) = self.address(end) {
                        *end = new;
                    }
                }
                Cow::Owned(Event::Socket(new))
            }
            Event::Dns(query) => {
                let mut new = query.clone();
                // The name is a string of the dictionary: `TraceWriter::host`.
                let Dns { t_ns: _, duration_ns: _, task: _, cookie: _, server, name: _, qtype: _, answer: _ } =
                    &mut new;
                if let Some(new) = self.address(server) {
                    *server = new;
                }
                Cow::Owned(Event::Dns(new))
            }
            Event::Process(process) => match &process.kind {
                // Ids and numbers. A kind that holds bytes of its own belongs above.
                ProcessKind::Fork { child: _ }
                | ProcessKind::Exec { path: _, old_tid: _, argv: _, argc: _ }
                | ProcessKind::Exit { status: _, group_dead: _ }
                | ProcessKind::Load { path: _ }
                | ProcessKind::Identity { old: _, new: _ }
                | ProcessKind::Capability { capability: _, granted: _, count: _, call: _ }
                | ProcessKind::OomKill { by: _, rss_bytes: _, limit: _ }
                | ProcessKind::Origin { origin: _ }
                | ProcessKind::Fault { address: _, blocked_ns: _ }
                | ProcessKind::Placed { container: _ }
                | ProcessKind::State { state: _, wchan: _, since_ns: _ }
                | ProcessKind::WaitsFor { what: _, holder: _, object: _ } => Cow::Borrowed(event),
            },
            // Ids and numbers. A class that holds bytes of its own belongs above.
            Event::Syscall(_)
            | Event::Signal(_)
            | Event::Resource(_)
            | Event::Loss(_)
            | Event::Marker(_)
            | Event::Anchor(_)
            | Event::Usage(_)
            | Event::Block(_)
            | Event::Uring(_)
            | Event::Injection(_)
            | Event::Aggregate(_)
            | Event::Fidelity(_) => Cow::Borrowed(event),
        }
    }

    fn call(&mut self, call: &mut Syscall) {
        let name = syscalls::name(call.sysno).unwrap_or_default();
        let (args, mask) = (call.args, call.args_mask);
        for detail in &mut call.details {
            match detail {
                Detail::Addr { arg: _, addr } | Detail::Local { addr } => {
                    if let Some(new) = self.address(addr) {
                        *addr = new;
                    }
                }
                Detail::Messages { arg: _, entries } => {
                    for addr in entries.iter_mut().filter_map(|message| message.addr.as_mut()) {
                        if let Some(new) = self.address(addr) {
                            *addr = new;
                        }
                    }
                }
                Detail::Bytes { arg: _, data } => {
                    let keeps = match name {
                        "setsockopt" | "getsockopt" => {
                            let option = (mask & 0b110 == 0b110).then_some((args[1], args[2]));
                            option.is_some_and(|(level, name)| self.keeps_option(level, name, data.len()))
                        }
                        // Structures of numbers (`syscalls::Kind`).
                        _ => syscalls::args(name).is_some(),
                    };
                    if !keeps && data.iter().any(|b| *b != 0) {
                        data.fill(0);
                        self.count("value of a socket option");
                    }
                }
                _ => {}
            }
        }
    }

    /// Whether the value of a socket option may be told. Its length always is.
    fn keeps_option(&self, level: u64, name: u64, len: usize) -> bool {
        let strict = self.policy == Some(Policy::Strict);
        match level {
            level::TCP => !TCP_KEYS.contains(&name) && (!strict || len <= 4 || TCP_WORDS.contains(&name)),
            level::SOCKET => !strict || name != BIND_TO_DEVICE && len <= 16,
            level::IP => !strict || name != IP_MULTICAST_IF && len <= 4,
            level::UDP | level::UDPLITE | level::IPV6 | level::PACKET | level::NETLINK => !strict || len <= 4,
            // TLS, kernel crypto, SCTP, RxRPC and others have keys in theirs.
            _ => false,
        }
    }

    /// An address; `None`: it stays.
    pub(super) fn address(&mut self, addr: &SockAddr) -> Option<SockAddr> {
        if self.is_open() {
            return None;
        }
        let strict = self.policy == Some(Policy::Strict);
        match addr {
            SockAddr::Inet(inet) if strict => {
                let new = self.key.inet(inet);
                if new == *inet {
                    return None;
                }
                self.count("strict: internet address");
                Some(SockAddr::Inet(new))
            }
            SockAddr::Inet(_) => None,
            SockAddr::Unix(name) if strict => {
                let new = self.key.unix(name);
                if new == *name {
                    return None;
                }
                self.count("strict: unix socket");
                Some(SockAddr::Unix(new))
            }
            SockAddr::Unix(name) => match self.text(Text::Any, name) {
                Cow::Borrowed(_) => None,
                Cow::Owned(new) => Some(SockAddr::Unix(new)),
            },
            SockAddr::Other { family, data } => {
                if !strict || NUMBERED_FAMILIES.contains(family) || data.iter().all(|b| *b == 0) {
                    return None;
                }
                self.count("strict: other address");
                Some(SockAddr::Other { family: *family, data: vec![0; data.len()] })
            }
        }
    }

    /// An object of the dictionary. Its strings were redacted when they were made.
    pub(crate) fn object<'a>(&mut self, object: &'a Object) -> Cow<'a, Object> {
        match object {
            Object::Socket { family: _, kind: _, protocol: _, cookie: _, local, peer } => {
                let new_local = local.as_ref().and_then(|addr| self.address(addr));
                let new_peer = peer.as_ref().and_then(|addr| self.address(addr));
                if new_local.is_none() && new_peer.is_none() {
                    return Cow::Borrowed(object);
                }
                let mut object = object.clone();
                if let Object::Socket { local, peer, .. } = &mut object {
                    *local = new_local.or(local.take());
                    *peer = new_peer.or(peer.take());
                }
                Cow::Owned(object)
            }
            Object::File { path: _, dev: _, ino: _, mode: _, rdev: _, size: _ }
            | Object::Pipe { ino: _ }
            | Object::Anon { kind: _, id: _ } => Cow::Borrowed(object),
        }
    }
}

/// Whether a detail holds bytes of its own. Exhaustive on purpose.
fn has_bytes(detail: &Detail) -> bool {
    match detail {
        Detail::Addr { .. } | Detail::Bytes { .. } | Detail::Local { .. } => true,
        Detail::Messages { entries, .. } => entries.iter().any(|message| message.addr.is_some()),
        // Ids and numbers.
        Detail::Str { arg: _, value: _ }
        | Detail::Object { arg: _, object: _ }
        | Detail::Value { arg: _, value: _ }
        | Detail::NewFds { arg: _, fds: _, objects: _ }
        | Detail::Iov { arg: _, bytes: _, count: _ }
        | Detail::Time { arg: _, ns: _ }
        | Detail::Poll { arg: _, entries: _ }
        | Detail::Epoll { arg: _, entries: _ }
        | Detail::Stat { arg: _, mode: _, size: _, ino: _ }
        | Detail::SigAction { arg: _, handler: _, flags: _, mask: _ }
        | Detail::Argv { arg: _, words: _, count: _ }
        | Detail::Passed { arg: _, message: _, fds: _ }
        | Detail::Unread { arg: _, word: _ }
        | Detail::Cut { arg: _, word: _ }
        | Detail::Created
        | Detail::CpuWait { ns: _ } => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Abi, SyscallFlags, TaskId};

    fn setsockopt(level: u64, name: u64, data: &[u8]) -> Event {
        Event::Syscall(Syscall {
            t_ns: 0,
            duration_ns: 0,
            task: TaskId(0),
            sysno: syscalls::number(Abi::X86_64, "setsockopt").unwrap(),
            ret: 0,
            flags: SyscallFlags::default(),
            args: [3, level, name, 0, data.len() as u64, 0],
            args_mask: 0b10111,
            object: None,
            details: vec![Detail::Bytes { arg: 3, data: data.to_vec() }],
            wait_cpu_ns: 0,
            blocked_ns: 0,
        })
    }

    fn value(policy: Policy, level: u64, name: u64, data: &[u8]) -> Vec<u8> {
        let mut gate = Gate::new(policy).unwrap();
        let event = setsockopt(level, name, data);
        let Event::Syscall(call) = gate.event(&event).into_owned() else { unreachable!() };
        let Detail::Bytes { data, .. } = &call.details[0] else { unreachable!() };
        data.clone()
    }

    #[test]
    fn keys_in_socket_options_never_pass_and_numbers_do() {
        let key = b"0123456789abcdef";
        // SOL_TLS TLS_TX, SOL_ALG ALG_SET_KEY, TCP_MD5SIG, TCP_FASTOPEN_KEY.
        for (level, name) in [(282, 1), (279, 1), (6, 14), (6, 33)] {
            for policy in [Policy::Default, Policy::Strict] {
                assert_eq!(value(policy, level, name, key), [0; 16], "{level} {name}");
            }
            assert_eq!(value(Policy::Off, level, name, key), key);
        }
        // TCP_NODELAY, SO_RCVTIMEO, TCP_CONGESTION.
        for (level, name, data) in [(6, 1, &b"\x01\0\0\0"[..]), (1, 20, key), (6, 13, b"bbr")] {
            assert_eq!(value(Policy::Strict, level, name, data), data);
        }
        assert_eq!(value(Policy::Default, 1, 25, b"eth0\0"), b"eth0\0");
        assert_eq!(value(Policy::Strict, 1, 25, b"eth0\0"), [0; 5]);
    }

    #[test]
    fn addresses_inside_objects_pass_the_gate() {
        let mut gate = Gate::new(Policy::Strict).unwrap();
        let object = Object::Socket {
            family: 1,
            kind: 1,
            protocol: 0,
            cookie: crate::SockCookie(1),
            local: Some(SockAddr::Unix(b"@acme".to_vec())),
            peer: Some(SockAddr::Inet("10.0.0.1:5".parse().unwrap())),
        };
        let text = format!("{:?}", gate.object(&object));
        assert!(!text.contains("97, 99, 109, 101") && !text.contains("10.0.0.1"), "{text}");
        assert_eq!(gate.counts().len(), 2);
    }
}
