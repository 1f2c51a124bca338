//! Operations: into the sequence of their thread or of their stream.

use super::order::Use;
use super::targets::is_fifo;
use super::{AF_INET, AF_INET6, AF_UNIX, Builder, Call, Identity, SOCK_SEQPACKET, SOCK_STREAM, Target};
use crate::conn::{Conn, ConnKind, Side};
use crate::fds::Change;
use crate::names::NameId;
use crate::order::Place;
use crate::symbol::{self, Kind, OpClass, Outcome, Symbol, size_class};
use ctrace_format::syscalls::Call as Sc;
use ctrace_format::{Object, Syscall, Tgid};

/// The most that one call transfers (`include/linux/fs.h`).
const MAX_RW_COUNT: u64 = 0x7fff_f000;
/// Processes of one socket that are told what becomes of it. A server has as many as it has workers.
const MAX_USERS: usize = 1024;
/// Sockets that are remembered after the last process that used them has closed them.
const MAX_UNUSED: usize = 4096;

/// Whether a path is that of a terminal. A thread of the kernel hands on what is written to one, in parts that depend on when it
/// comes to that (`flush_to_ldisc`, `drivers/tty/tty_buffer.c`).
fn is_terminal(path: &str) -> bool {
    path.starts_with("/dev/pts/") || matches!(path, "/dev/ptmx" | "/dev/tty")
}

impl Builder<'_> {
    #[allow(clippy::too_many_arguments, reason = "what is known about one call")]
    pub(super) fn operation(
        &mut self,
        call: &Call,
        s: &Syscall,
        thread: usize,
        process: usize,
        target: Target,
        outcome: Outcome,
        end_ns: u64,
    ) {
        let moves = matches!(call.kind, Kind::Receive | Kind::Send);
        let takes = (moves || call.kind == Kind::Transfer) && !is_peek(call.sc, s);
        let bytes = if takes { s.moved().min(MAX_RW_COUNT) } else { 0 };
        let sent = call.kind == Kind::Send;
        let mut symbol = Symbol {
            call: call.name,
            object: target.name,
            outcome,
            qualifier: symbol::qualifier(call.sc, s),
            size: 0,
            class: call.class,
        };
        let Some(identity) = target.stream else {
            if moves || call.kind == Kind::Transfer || matches!(call.sc, Sc::Getdents | Sc::Getdents64) {
                let name = self.names.exact(target.name);
                // Their length is the state of the system, not of the program.
                let varies = name.starts_with("/proc/")
                    || name.starts_with("/sys/")
                    || call.kind == Kind::Receive && is_terminal(name);
                if !varies && s.ret >= 0 {
                    symbol.size = size_class(s.moved());
                }
            }
            let id = self.symbol(symbol);
            self.note_call(id, s, process);
            self.stats[id as usize].bytes = self.stats[id as usize].bytes.saturating_add(bytes);
            self.spent_in(call, s, thread, target, outcome);
            let waited = self.waits.of_thread(thread);
            let at = self.threads[thread].seq.push(id, s.t_ns, s.duration_ns, waited);
            self.ordered(call, s, thread, process, target.name, outcome, Place::of_thread(thread, at));
            return;
        };
        let conn = self.conn(process, identity, target.name, s.t_ns);
        let datagram = self.conns[conn].kind == ConnKind::Datagram;
        if moves && outcome == Outcome::Ok {
            symbol.call = self.names.fixed(if sent { "send" } else { "receive" });
            symbol.class = OpClass::Stream;
            symbol.qualifier = 0;
            let asked = if sent { self.conns[conn].received > 0 } else { self.conns[conn].sent > 0 };
            let begun = self.conns[conn].transfer(sent, bytes, s.t_ns, end_ns);
            self.spent_on_stream(call, s, thread, conn, begun.filter(|_| asked));
            let id = self.symbol(symbol);
            self.note_call(id, s, process);
            if datagram {
                let sized = self.symbol(Symbol { size: size_class(bytes), ..symbol });
                self.conns[conn].seq.push(sized, s.t_ns, s.duration_ns, self.waits.of_run());
            } else if begun.is_some() {
                let at = self.conns[conn].seq.push(id, s.t_ns, s.duration_ns, self.waits.of_run());
                self.order.turns(&self.conns[conn], sent, Place::of_stream(conn, at));
            }
            return;
        }
        if call.kind == Kind::Receive && outcome == Outcome::Eof {
            self.conns[conn].eof();
            symbol.call = self.names.fixed("receive");
            symbol.class = OpClass::Stream;
            symbol.qualifier = 0;
        }
        self.spent_on_stream(call, s, thread, conn, None);
        match (call.kind, outcome) {
            (Kind::Connect, Outcome::Errno(e)) if e != symbol::EAGAIN => self.conns[conn].fail(e),
            (Kind::Receive | Kind::Send, Outcome::Errno(104)) => self.conns[conn].reset(),
            (Kind::Send, Outcome::Errno(symbol::EPIPE)) => self.conns[conn].broken = true,
            _ => {}
        }
        if self.learns_again(call, s, conn, outcome) {
            symbol = symbol.learning();
        }
        let id = self.symbol(symbol);
        self.note_call(id, s, process);
        let at = self.conns[conn].seq.push(id, s.t_ns, s.duration_ns, self.waits.of_run());
        self.last_place = Some(Place::of_stream(conn, at));
        let last = &mut self.conns[conn].last_ns;
        *last = (*last).max(end_ns);
    }

    /// Whether a call, a second connect or a question for `SO_ERROR`, only learns that an attempt failed which is told by an
    /// operation of its own.
    fn learns_again(&self, call: &Call, s: &Syscall, conn: usize, outcome: Outcome) -> bool {
        let Outcome::Errno(errno) = outcome else { return false };
        let of_attempt = match call.sc {
            Sc::Connect => errno != symbol::EISCONN && errno != symbol::EAGAIN,
            Sc::Getsockopt => symbol::a_socket_error(s),
            _ => false,
        };
        of_attempt && self.learns && (self.conns[conn].is_told || self.tells)
    }

    /// Notes the edges from and to an operation that moves no bytes of a stream.
    #[allow(clippy::too_many_arguments, reason = "what is known about one call")]
    fn ordered(
        &mut self,
        call: &Call,
        s: &Syscall,
        thread: usize,
        process: usize,
        name: NameId,
        outcome: Outcome,
        place: Place,
    ) {
        self.last_place = Some(place);
        self.order.call(call, s, thread, outcome, place);
        if matches!(call.kind, Kind::Open | Kind::Path) && !self.names.exact(name).is_empty() {
            self.order.looks_up(call, s, name, outcome, place);
        }
        let Some(arg) = call.fd else { return };
        let tgid = Tgid(self.processes[process].tgid);
        let Some(descriptor) = self.fds.meant(tgid, call.sc, s.args[arg] as i32, s) else { return };
        let name = self.names.exact(name);
        // Tasks share an offset only of a file on a disk.
        let file = name.starts_with('/') && !name.starts_with("/dev/") && !name.starts_with("/proc/");
        let what = match call.sc {
            Sc::Read | Sc::Readv | Sc::Lseek | Sc::Getdents | Sc::Getdents64 if file => Use::Moves,
            Sc::Write | Sc::Writev if file => Use::Writes,
            Sc::Close if file => Use::Closes,
            _ => Use::Other,
        };
        if outcome == Outcome::Ok || outcome == Outcome::Eof {
            self.order.uses(descriptor.generation, tgid, s, what, place);
        }
    }

    /// The stream of a process, made when it is new.
    pub(super) fn conn(&mut self, process: usize, identity: Identity, name: NameId, t_ns: u64) -> usize {
        if let Some(conn) = self.conn_index.get(&(process, identity)) {
            return *conn;
        }
        let (kind, side, id) = match identity {
            Identity::Socket(cookie) => {
                let sock = self.socks.get(&cookie);
                let kind = match sock {
                    Some(s) if s.family == AF_UNIX => ConnKind::Unix,
                    Some(s) if matches!(s.family, AF_INET | AF_INET6) && s.kind == SOCK_STREAM => {
                        ConnKind::Tcp
                    }
                    Some(s) if s.kind != SOCK_STREAM && s.kind != SOCK_SEQPACKET => ConnKind::Datagram,
                    _ => ConnKind::Other,
                };
                (kind, sock.map_or(Side::Unknown, |s| s.side), cookie)
            }
            Identity::Pipe(ino, _) => (ConnKind::Pipe, Side::Unknown, ino),
            Identity::Stdio(fd) => (ConnKind::Stdio, Side::Unknown, u64::from(fd)),
        };
        let mut conn = Conn::new(process, kind, side, name, id, t_ns);
        if let Identity::Socket(cookie) = identity
            && let Some(sock) = self.socks.get(&cookie)
        {
            conn.local.clone_from(&sock.local);
            conn.peer.clone_from(&sock.peer);
            if sock.reset {
                conn.reset();
            }
        }
        if let Identity::Socket(cookie) = identity {
            let users = self.of_socket.entry(cookie).or_default();
            if users.len() < MAX_USERS {
                users.push(self.conns.len());
            }
        }
        self.conns.push(conn);
        self.conn_index.insert((process, identity), self.conns.len() - 1);
        self.conns.len() - 1
    }

    /// A descriptor was closed: the stream ends when it was the last of the process.
    pub(super) fn closed(&mut self, process: usize, change: Change, t_ns: u64) {
        let Change::Closed { descriptor, last_in_table: true, .. } = change else { return };
        let Some(object) = descriptor.object else { return };
        let identity = match self.trace.object(object) {
            Object::Socket { cookie, .. } => Identity::Socket(cookie.0),
            Object::Pipe { ino } => Identity::Pipe(*ino, descriptor.generation),
            Object::File { ino, mode, .. } if is_fifo(*mode) => Identity::Pipe(*ino, descriptor.generation),
            _ => return,
        };
        self.end_conn((process, identity), false, t_ns);
    }

    pub(super) fn end_conn(&mut self, key: (usize, Identity), by_exit: bool, t_ns: u64) {
        let Some(conn) = self.conn_index.remove(&key) else { return };
        self.conns[conn].closed(by_exit, t_ns);
        if let Identity::Socket(cookie) = key.1
            && let Some(users) = self.of_socket.get_mut(&cookie)
        {
            users.retain(|c| *c != conn);
            if users.is_empty() {
                self.of_socket.remove(&cookie);
                self.unused(cookie);
            }
        }
    }

    /// No process that used a socket has it any more. One that inherited or received it may use it only now: what is known
    /// of the last such sockets stays.
    fn unused(&mut self, cookie: u64) {
        self.unused.push_back(cookie);
        if self.unused.len() > MAX_UNUSED
            && let Some(oldest) = self.unused.pop_front()
            && !self.of_socket.contains_key(&oldest)
        {
            self.socks.remove(&oldest);
        }
    }
}

/// Whether a call looks at what has come and leaves it for the next one.
fn is_peek(sc: Sc, s: &Syscall) -> bool {
    const MSG_PEEK: u64 = 2;
    let flags = match sc {
        Sc::Recvfrom | Sc::Recvmmsg => s.args[3],
        Sc::Recvmsg => s.args[2],
        _ => 0,
    };
    flags & MSG_PEEK != 0
}
