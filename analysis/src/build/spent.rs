//! On what the time of threads goes: calls and waits, by what they are for.

use super::{Builder, Call, Identity, Target};
use crate::conn::{ConnKind, Side};
use crate::costs::{Cost, Key, Spent};
use crate::names::NameId;
use crate::symbol::{Kind, Outcome};
use ctrace_format::syscalls::{Call as Sc, On};
use ctrace_format::{Detail, Dns, Syscall, SyscallFlags, Tgid};
use rustc_hash::FxHashSet;

/// The operations and flags of futex(2).
const FUTEX_WAIT: u64 = 0;
const FUTEX_LOCK_PI: u64 = 6;
const FUTEX_WAIT_BITSET: u64 = 9;
const FUTEX_LOCK_PI2: u64 = 13;
const FUTEX_PRIVATE: u64 = 128;
const FUTEX_CLOCK_REALTIME: u64 = 256;
/// The word of a lock that is held and waited for, in the C libraries, Rust and Go.
const CONTENDED: u64 = 2;
/// Addresses keep their last digits from run to run: the kernel moves mappings by pages.
const PAGE: u64 = 4096;

const F_SETLKW: u64 = 7;
const F_OFD_SETLKW: u64 = 38;
/// Ancestors that a role is told by.
const DEPTH: usize = 16;

/// What a task waited for a CPU in a call.
fn cpu_wait(s: &Syscall) -> u64 {
    s.details.iter().map(|d| if let Detail::CpuWait { ns } = d { *ns } else { 0 }).sum()
}

/// How long a call took, without waiting for a CPU.
fn own_ns(s: &Syscall) -> u64 {
    s.duration_ns.saturating_sub(cpu_wait(s))
}

impl Builder<'_> {
    fn spend(&mut self, thread: usize, spent: Spent, call: NameId, object: NameId, ns: u64) {
        let key = Key { spent, call, object, thread: self.costs.label(thread) };
        self.costs.add(self.threads[thread].process, key, ns);
    }

    /// Time between the call before and this one, and waiting for a CPU in it.
    pub(super) fn spent_between(&mut self, s: &Syscall, thread: usize) {
        let gap = self.costs.between(thread, s.t_ns, s.t_ns.saturating_add(s.duration_ns));
        let busy = gap.saturating_sub(s.wait_cpu_ns).saturating_sub(s.blocked_ns);
        let cpu_wait = s.wait_cpu_ns.saturating_add(cpu_wait(s));
        let nothing = NameId::default();
        for (spent, ns) in [(Spent::Cpu, busy), (Spent::CpuWait, cpu_wait), (Spent::Fault, s.blocked_ns)] {
            if ns > 0 {
                self.spend(thread, spent, nothing, nothing, ns);
            }
        }
    }

    /// Time in a call that is no operation on a stream.
    pub(super) fn spent_in(
        &mut self,
        call: &Call,
        s: &Syscall,
        thread: usize,
        target: Target,
        outcome: Outcome,
    ) {
        if s.flags.contains(SyscallFlags::NO_ENTER) {
            return;
        }
        let nothing = NameId::default();
        let ns = own_ns(s);
        let path = target.stream.is_none() && self.names.exact(target.name).starts_with('/');
        let (spent, object) = match call.sc.row().waits {
            Some(On::Readiness) if outcome == Outcome::Timeout => match self.unanswered(s, thread) {
                Some(peer) => (Spent::Answer, peer),
                None => (Spent::Sleep, nothing),
            },
            Some(On::Readiness) => {
                let before = self.costs.waited(thread, ns);
                if before > 0 {
                    self.spend(thread, Spent::Event, nothing, nothing, before);
                }
                return;
            }
            Some(On::Time) => (Spent::Sleep, nothing),
            Some(On::Signal) => (Spent::Signal, nothing),
            Some(On::Child) if call.kind == Kind::Wait => (Spent::Child, nothing),
            Some(On::Lock) if matches!(call.sc, Sc::Futex | Sc::FutexWait) => {
                self.futex(call.sc, s).unwrap_or((Spent::Call, nothing))
            }
            Some(On::Lock) => (Spent::Lock, target.name),
            _ if call.sc == Sc::Fcntl && matches!(s.args[1], F_SETLKW | F_OFD_SETLKW) => {
                (Spent::Lock, target.name)
            }
            _ if path => (Spent::File, target.name),
            _ => (Spent::Call, target.name),
        };
        // However somebody waits for an answer, it is the answer of that peer.
        let call = if spent == Spent::Answer { self.names.fixed("receive") } else { call.name };
        self.spend(thread, spent, call, object, ns);
    }

    /// The peer that a wait which ran out was for: the only one that was waited for, which had been asked something.
    fn unanswered(&mut self, s: &Syscall, thread: usize) -> Option<NameId> {
        let entries = s.details.iter().find_map(|d| match d {
            Detail::Poll { entries, .. } => Some(entries),
            _ => None,
        })?;
        let [one] = entries[..] else { return None };
        let process = self.threads[thread].process;
        let tgid = Tgid(self.processes[process].tgid);
        self.fds.get(tgid, one.fd)?;
        let identity = self.fd_target(tgid, one.fd, None).stream?;
        self.asked(process, identity)
    }

    /// The name of a stream on which this process asked something.
    fn asked(&self, process: usize, identity: Identity) -> Option<NameId> {
        let conn = &self.conns[*self.conn_index.get(&(process, identity))?];
        let socket = !matches!(conn.kind, ConnKind::Pipe | ConnKind::Stdio);
        (socket && conn.side != Side::Server && conn.sent > 0).then_some(conn.name)
    }

    /// Time in a call that had not returned when the recording, or its task, ended.
    pub(super) fn spent_unended(&mut self, call: &Call, s: &Syscall, thread: usize, target: Target) {
        let process = self.threads[thread].process;
        match target.stream {
            Some(identity) if call.kind == Kind::Receive => {
                if let Some(peer) = self.asked(process, identity) {
                    let receive = self.names.fixed("receive");
                    self.spend(thread, Spent::Answer, receive, peer, own_ns(s));
                }
            }
            Some(_) if call.kind == Kind::Accept => {}
            _ => self.spent_in(call, s, thread, target, Outcome::InFlight),
        }
    }

    /// What a wait on a futex is for.
    fn futex(&mut self, sc: Sc, s: &Syscall) -> Option<(Spent, NameId)> {
        let (op, value) = match sc {
            Sc::Futex => (s.args[1], s.args[2] & 0xffff_ffff),
            _ => (FUTEX_WAIT_BITSET | FUTEX_PRIVATE, s.args[1]),
        };
        let private = op & FUTEX_PRIVATE != 0;
        let joins = !private
            && (op & FUTEX_CLOCK_REALTIME != 0 || u32::try_from(value).is_ok_and(|v| self.pids.contains(&v)));
        match op & !(FUTEX_PRIVATE | FUTEX_CLOCK_REALTIME) {
            FUTEX_LOCK_PI | FUTEX_LOCK_PI2 => Some((Spent::Lock, self.lock(s))),
            FUTEX_WAIT | FUTEX_WAIT_BITSET if joins => Some((Spent::Thread, NameId::default())),
            FUTEX_WAIT | FUTEX_WAIT_BITSET if value == CONTENDED => Some((Spent::Lock, self.lock(s))),
            FUTEX_WAIT | FUTEX_WAIT_BITSET => Some((Spent::Condition, NameId::default())),
            _ => None,
        }
    }

    fn lock(&mut self, s: &Syscall) -> NameId {
        self.names.fixed(&format!("the lock at …{:03x}", s.args[0] % PAGE))
    }

    /// Time in a call on a stream. `answered`: since the question that this is the first part of the answer to.
    pub(super) fn spent_on_stream(
        &mut self,
        call: &Call,
        s: &Syscall,
        thread: usize,
        conn: usize,
        answered: Option<u64>,
    ) {
        if s.flags.contains(SyscallFlags::NO_ENTER) {
            return;
        }
        let c = &self.conns[conn];
        let (name, side, kind) = (c.name, c.side, c.kind);
        // Of two that exchange datagrams, the one who spoke first asks.
        let is_asked =
            side == Side::Unknown && kind == ConnKind::Datagram && c.turn_count().is_multiple_of(2);
        // What was waited for is what is done then; a call that only asks about the stream goes before that.
        let moves =
            matches!(call.kind, Kind::Receive | Kind::Send | Kind::Transfer | Kind::Accept | Kind::Connect);
        let pending = if moves { self.costs.waited(thread, 0) } else { 0 };
        let ns = own_ns(s).saturating_add(pending);
        match (call.kind, answered) {
            (Kind::Receive, Some(gap)) if side != Side::Server && !is_asked => {
                let receive = self.names.fixed("receive");
                let spent = match kind {
                    ConnKind::Pipe | ConnKind::Stdio => Spent::Input,
                    _ => Spent::Answer,
                };
                self.spend(thread, spent, receive, name, gap);
            }
            (Kind::Send, Some(gap)) if side == Side::Server => {
                let send = self.names.fixed("send");
                self.spend(thread, Spent::Service, send, name, gap);
                self.spend(thread, Spent::Room, call.name, name, ns);
            }
            (Kind::Accept, _) => self.spend(thread, Spent::Request, call.name, name, ns),
            (Kind::Receive, _) if is_asked || matches!(side, Side::Server | Side::Listener) => {
                self.spend(thread, Spent::Request, call.name, name, ns);
            }
            (Kind::Receive, _) => self.spend(thread, Spent::Input, call.name, name, ns),
            (Kind::Send | Kind::Transfer, _) => self.spend(thread, Spent::Room, call.name, name, ns),
            (Kind::Connect, _) => self.spend(thread, Spent::Connect, call.name, name, ns),
            _ => self.spend(thread, Spent::Call, call.name, name, ns),
        }
    }

    /// A connect that did not wait came to its end.
    pub(super) fn spent_connecting(&mut self, conn: usize, ns: u64) {
        let c = &self.conns[conn];
        let (process, object) = (c.process, c.name);
        let call = self.names.fixed("connect");
        let key = Key { spent: Spent::Connect, call, object, thread: NameId::default() };
        self.costs.add(process, key, ns);
    }

    /// A name server answered, or did not.
    pub(super) fn spent_on_name(&mut self, d: &Dns) {
        let name = String::from_utf8_lossy(self.trace.str(d.name)).into_owned();
        let server = crate::names::endpoint(&d.server);
        let object = self.names.fixed(&format!("{name} at {server}"));
        let Some(thread) = self.known_thread(d.task) else { return };
        self.asked_names = true;
        self.looked_up(d, thread, object);
        self.spend(thread, Spent::Lookup, NameId::default(), object, d.duration_ns);
    }

    /// A process is over.
    pub(super) fn spent_by(&mut self, process: usize) {
        let mut words = Vec::new();
        let mut next = Some(process);
        while let Some(at) = next.filter(|_| words.len() < DEPTH) {
            words.push(crate::roles::label(&self.processes[at]));
            next = self.processes[at].parent;
        }
        self.costs.fold(process, words.join("/"));
    }

    /// All time, by role. Where questions for names were seen as such, their answers are not told twice; what the run itself
    /// is at the other end of is told as that.
    pub(super) fn costs_by_role(&mut self) -> Vec<Cost> {
        let mut costs = std::mem::take(&mut self.costs).finish();
        let served: FxHashSet<&str> = self
            .conns
            .iter()
            .filter(|c| matches!(c.side, Side::Server | Side::Listener))
            .filter_map(|c| self.names.exact(c.name).rsplit_once(" at ").map(|(_, address)| address))
            .collect();
        let is_inside = |object: &str| match object.split_once(" to ") {
            Some((_, peer)) => {
                let port = peer.rsplit_once(':').map(|(_, port)| port);
                let any =
                    |host: &str| port.is_some_and(|port| served.contains(format!("{host}:{port}").as_str()));
                let loopback = peer.starts_with("127.") || peer.starts_with("[::1]");
                served.contains(peer) || loopback && (any("0.0.0.0") || any("[::]"))
            }
            // What has no name is known to those who were given it.
            None => matches!(object, "pipe" | "unix"),
        };
        for cost in &mut costs {
            let waits = matches!(cost.key.spent, Spent::Answer | Spent::Connect | Spent::Input | Spent::Room);
            if waits && is_inside(self.names.exact(cost.key.object)) {
                cost.key.spent = Spent::Inside;
            }
        }
        if self.asked_names {
            let names = &self.names;
            costs.retain(|c| c.key.spent != Spent::Answer || !names.exact(c.key.object).ends_with(":53"));
        }
        costs
    }
}
