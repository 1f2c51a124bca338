//! What the order of steps and the steps themselves are worked out from: one call, and what was there when it was made.

use super::arrivals::{CallId, Place, Told};
use super::calls::{Known, Sc};
use super::emit::RESTARTS;
use super::facts::Facts;
use super::fsmodel::{InodeIx, NodeKind};
use super::paths::PathId;
use super::source::Source;
use super::world::groups::Shared;
use super::world::{
    MAX_WATCHERS, Mark, OfdIx, OfdKind, ProcIx, SOCK_DGRAM, SockIx, StreamKey, TaskIx, World, canonical,
    details_passed, open_flags,
};
use super::world::{O_TRUNC, detail_addr, detail_iov, detail_local};
use ctrace_analysis::fds::{Effect, effects};
use ctrace_format::syscalls::{Family, Kind};
use ctrace_format::{Object, SockAddr, Syscall, SyscallFlags};

/// Descriptors of a range that is closed whose users are waited for.
const RANGE_MAX: usize = 1024;
const EAGAIN: i64 = -11;
const EINTR: i64 = -4;

/// A call being written.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cx<'a> {
    pub(crate) task: TaskIx,
    pub(crate) proc: ProcIx,
    pub(crate) call: &'a Syscall,
    pub(crate) known: Known,
    /// The host's number of the call.
    pub(crate) nr: u32,
    pub(crate) name: &'static str,
    /// Its number among those of its task.
    pub(crate) seq: u32,
    /// The names that it is about.
    pub(crate) paths: &'a [PathId],
}

impl Cx<'_> {
    /// Which call it is.
    pub(crate) fn id(&self) -> CallId {
        (self.task, self.seq)
    }

    /// An argument that is a descriptor.
    pub(crate) fn fd(&self, arg: usize) -> i32 {
        self.call.args[arg] as i32
    }

    /// Whether the recording ended before the call did.
    pub(crate) fn unfinished(&self) -> bool {
        self.call.flags.contains(SyscallFlags::NO_EXIT)
    }

    /// Whether it wrote as much as it was to.
    pub(crate) fn wrote_all(&self) -> bool {
        let asked = match self.known.sc {
            Sc::Write => Some(self.call.args[2]),
            Sc::Writev => detail_iov(self.call).map(|(bytes, _)| bytes),
            _ => None,
        };
        asked.is_some_and(|bytes| i64::try_from(bytes) == Ok(self.call.ret))
    }

    /// When it returned.
    pub(crate) fn end_ns(&self) -> u64 {
        self.call.t_ns.saturating_add(self.call.duration_ns)
    }

    /// The listening descriptor of a successful accept.
    pub(crate) fn accepting(&self) -> Option<i32> {
        self.looking().filter(|_| self.call.ret >= 0)
    }

    /// The listening descriptor of an accept that succeeded, came in vain, or waited in vain until a signal came.
    pub(crate) fn looking(&self) -> Option<i32> {
        let took_none = matches!(self.call.ret, EAGAIN | EINTR) || RESTARTS.contains(&self.call.ret);
        let looks = self.known.row().family == Family::Accept && (self.call.ret >= 0 || took_none);
        looks.then(|| self.fd(0))
    }

    /// Whether an accept got as far as to have a number for what it makes, whatever came of it.
    pub(crate) fn took_number(&self) -> bool {
        const ECONNABORTED: i64 = -103;
        let accepts = self.known.row().family == Family::Accept;
        accepts && (self.unfinished() || self.looking().is_some() || self.call.ret == ECONNABORTED)
    }

    /// Descriptors that it uses.
    pub(crate) fn uses(&self) -> Vec<i32> {
        let Some(args) = self.known.args else { return Vec::new() };
        args.iter()
            .zip(self.call.args)
            .filter(|((_, kind), _)| matches!(kind, Kind::Fd | Kind::DirFd))
            .map(|(_, value)| value as i32)
            .chain(self.passed())
            .filter(|fd| *fd >= 0)
            .collect()
    }

    /// Descriptors that went with the messages of a call that sends.
    fn passed(&self) -> impl Iterator<Item = i32> {
        let call = (self.known.row().family == Family::Send).then_some(self.call);
        call.into_iter().flat_map(details_passed).flat_map(|(_, fds)| fds).map(|passed| passed.fd)
    }

    /// Descriptors that it made, if it succeeded.
    pub(crate) fn makes(&self) -> Vec<i32> {
        effects(self.known.sc, self.call).filter_map(Effect::made).collect()
    }

    /// The numbers among these that the kernel gave out, which were free.
    pub(crate) fn takes(&self) -> impl Iterator<Item = i32> {
        effects(self.known.sc, self.call).filter_map(Effect::taken)
    }

    /// Whether the number that it closes is free now.
    pub(crate) fn frees(&self) -> bool {
        effects(self.known.sc, self.call).any(|effect| matches!(effect, Effect::Closes { .. }))
    }

    /// Descriptors that it reads from.
    pub(crate) fn reads(&self) -> impl Iterator<Item = i32> {
        self.named(self.known.row().reads)
    }

    /// Descriptors that it writes to.
    pub(crate) fn writes(&self) -> impl Iterator<Item = i32> {
        self.named(self.known.row().writes)
    }

    fn named(&self, bits: u8) -> impl Iterator<Item = i32> {
        let args = self.call.args;
        (0..args.len()).filter(move |i| bits & 1 << i != 0).map(move |i| args[i] as i32)
    }

    /// The number of the task that it sends a signal to, and the signal.
    pub(crate) fn kills(&self) -> Option<(u64, u32)> {
        let group = usize::from(self.known.sc == Sc::Tgkill);
        self.known.kills().then(|| (self.call.args[group], self.call.args[group + 1] as u32))
    }
}

/// The state when a call was made, and the findings of the whole recording.
#[derive(Clone, Copy)]
pub(crate) struct Model<'m> {
    pub(crate) source: &'m dyn Source,
    pub(crate) world: &'m World,
    pub(crate) facts: &'m Facts,
}

impl Model<'_> {
    /// The kind of a description.
    pub(crate) fn kind(&self, ofd: OfdIx) -> OfdKind {
        self.world.ofds[ofd as usize].kind
    }

    /// The latest time at which a call may have ended: when it began and how long it took are each rounded down to a tick of
    /// the recording.
    pub(crate) fn ended_by(&self, mark: &Mark) -> u64 {
        mark.end_ns.saturating_add(2 * u64::from(self.source.header().tick_ns))
    }

    /// The last call of a task, if it made one.
    pub(crate) fn last_call(&self, task: TaskIx) -> Option<Mark> {
        let state = self.world.tasks.get(task as usize)?;
        let seq = state.ops.checked_sub(1)?;
        let (start_ns, end_ns) = (state.last_start_ns, state.last_end_ns);
        Some(Mark { task, seq, step: state.label, start_ns, end_ns })
    }

    /// Whether a call is the one that its task makes next.
    pub(crate) fn is_next(&self, (task, seq): CallId) -> bool {
        self.world.tasks.get(task as usize).is_some_and(|state| state.ops == seq)
    }

    /// The number that an accept which may wait takes when it begins, in a table that tasks share: the one that it returned, or
    /// if it returned none, one that nobody else gets.
    pub(crate) fn number_held(&self, cx: &Cx<'_>) -> Option<i32> {
        let highest = *self.facts.held_numbers.get(&self.world.procs[cx.proc as usize].files)?;
        let held = cx.took_number() && self.world.blocks(cx.task, cx.fd(0));
        let returned = !cx.unfinished() && cx.call.ret >= 0;
        held.then_some(if returned { cx.call.ret as i32 } else { highest.saturating_add(1) })
    }

    /// Whether a call changes a table in which accepts hold numbers while they wait, and does so at once.
    pub(crate) fn shares_numbers(&self, cx: &Cx<'_>) -> bool {
        let files = self.world.procs[cx.proc as usize].files;
        let row = cx.known.row();
        let changes = match row.family {
            Family::Close | Family::Clone => true,
            // They wait for others while they do.
            Family::Receive | Family::Accept => false,
            Family::Open => {
                matches!(cx.call.object.map(|o| self.source.object(o)), Some(Object::File { .. }))
            }
            _ => cx.call.ret >= 0 && !cx.makes().is_empty(),
        };
        changes && !cx.unfinished() && self.facts.held_numbers.contains_key(&files)
    }

    /// The socket that a call is about.
    pub(crate) fn sock(&self, cx: &Cx<'_>) -> Option<SockIx> {
        self.world.sock_of(cx.task, cx.fd(0))
    }

    /// Whether a call makes, moves or removes a name, if it succeeds. An `open` does only where the file was not there.
    pub(crate) fn changes_names(&self, cx: &Cx<'_>) -> bool {
        let row = cx.known.row();
        row.renames
            || cx.known.sc == Sc::Bind
            || row.family == Family::Open
                && cx.known.sc != Sc::OpenByHandleAt
                && cx.paths.first().is_some_and(|path| {
                    let (flags, _) = open_flags(cx.call, cx.known.sc);
                    self.world.creates(cx.call, flags, *path)
                })
    }

    /// The file that a call empties while it opens it.
    pub(crate) fn truncates(&self, cx: &Cx<'_>) -> Option<InodeIx> {
        let opens = cx.call.ret >= 0
            && cx.known.row().family == Family::Open
            && open_flags(cx.call, cx.known.sc).0 & O_TRUNC != 0;
        let inode = self.world.fs.lookup(*cx.paths.first().filter(|_| opens)?)?;
        (self.world.fs.node(inode).kind == NodeKind::File).then_some(inode)
    }

    /// Whether a call appends to a file: where its bytes go is up to nobody who appends as well, and what they come to in all
    /// is the same in every order.
    pub(crate) fn appends(&self, cx: &Cx<'_>, ofd: OfdIx) -> bool {
        matches!(cx.known.sc, Sc::Write | Sc::Writev) && self.world.ofds[ofd as usize].append
    }

    /// The stream that carries the bytes that a description reads or writes.
    pub(crate) fn stream(&self, ofd: OfdIx, write: bool) -> Option<StreamKey> {
        match self.kind(ofd) {
            OfdKind::Pipe { pipe, write: end } if end == write => Some(StreamKey::Pipe(pipe)),
            OfdKind::Sock(sock) => Some(StreamKey::Sock(sock)),
            OfdKind::Event => Some(StreamKey::Event(ofd)),
            _ => None,
        }
    }

    /// Descriptions that lose a descriptor by a call.
    pub(crate) fn closing(&self, cx: &Cx<'_>) -> Vec<OfdIx> {
        let table = self.world.files_of(cx.task);
        let at = |arg: usize| table.get(cx.fd(arg)).map(|slot| slot.what.id()).into_iter().collect();
        match cx.known.sc {
            Sc::Close => self.world.closed_by(cx.task, cx.call).into_iter().collect(),
            Sc::Dup2 | Sc::Dup3 => at(1),
            // A description that another process has by the same fork does not lose its last.
            Sc::ExitGroup => table.slots().own().map(|(_, slot)| slot.what.id()).collect(),
            _ => Vec::new(),
        }
    }

    /// The sockets of which a call ends one direction or both: it shuts them down, or takes their last descriptor.
    pub(crate) fn ending(&self, cx: &Cx<'_>) -> Vec<SockIx> {
        let fd = match cx.known.sc {
            Sc::Shutdown => return self.sock(cx).into_iter().collect(),
            Sc::Dup2 | Sc::Dup3 => Some(cx.fd(1)),
            Sc::Close => Some(cx.fd(0)),
            _ => None,
        };
        let mut closing = self.closing(cx);
        closing.retain(|ofd| fd.is_none_or(|fd| !self.world.has_others(cx.proc, fd, *ofd)));
        let of = |ofd: OfdIx| match self.kind(ofd) {
            OfdKind::Sock(sock) => Some(sock),
            _ => None,
        };
        closing.into_iter().filter_map(of).collect()
    }

    /// After a socket went: those, of the two ends of its connection, whose calls no other call waits for any more. The other
    /// end may have been there longer.
    pub(crate) fn nobody_waits_for(&self, gone: SockIx) -> Vec<SockIx> {
        let partner = self.world.socks[gone as usize].partner;
        match partner {
            Some(partner) if !self.world.socks[partner as usize].closed => Vec::new(),
            // Nobody has accepted it yet.
            None if self.is_inside(gone) => Vec::new(),
            partner => [Some(gone), partner].into_iter().flatten().collect(),
        }
    }

    /// Descriptors that a call on a range of them closes, as far as their table is others' as well.
    pub(crate) fn range_closed(&self, cx: &Cx<'_>) -> Vec<i32> {
        // One that unshares the table does that first.
        let Some(Effect::ClosesRange { first, last }) = effects(cx.known.sc, cx.call).next() else {
            return Vec::new();
        };
        if !self.world.has_shared_files(cx.proc) {
            return Vec::new();
        }
        self.world.files_of(cx.task).inside(first, last).map(|(fd, _)| fd).take(RANGE_MAX).collect()
    }

    /// When the one who reads what is written to a description had last found nothing.
    pub(crate) fn idle_of_reader(&self, ofd: OfdIx) -> Vec<Mark> {
        let reader = match self.kind(ofd) {
            OfdKind::Pipe { pipe, .. } => self.world.pipes[pipe as usize].reader,
            OfdKind::Sock(sock) => {
                self.world.socks[sock as usize].partner.and_then(|p| self.world.socks[p as usize].ofd)
            }
            OfdKind::Event => Some(ofd),
            _ => None,
        };
        self.idle(reader)
    }

    /// When those who look at a description had last found nothing.
    pub(crate) fn idle(&self, ofd: Option<OfdIx>) -> Vec<Mark> {
        let Some(ofd) = ofd else { return Vec::new() };
        let state = &self.world.ofds[ofd as usize];
        let mut marks = state.idle.clone();
        let watchers = state.watched_by.iter().take(MAX_WATCHERS);
        marks.extend(watchers.flat_map(|e| &self.world.ofds[*e as usize].idle));
        marks
    }

    /// The sockets inside that what a call sent reaches, when it is a datagram each.
    pub(crate) fn datagram_receivers(&self, cx: &Cx<'_>) -> Vec<SockIx> {
        let Some(sock) = self.sock(cx) else { return Vec::new() };
        if self.world.socks[sock as usize].kind & 0xf != SOCK_DGRAM {
            return Vec::new();
        }
        let mut all: Vec<SockIx> = Vec::new();
        for to in World::destinations(cx.call, cx.known.sc) {
            let receiver = self.world.receiver_of(cx.task, sock, to.as_ref());
            all.extend(receiver.filter(|receiver| !all.contains(receiver)));
        }
        all
    }

    /// The child whose life a wait ends.
    pub(crate) fn reaped_child(&self, cx: &Cx<'_>) -> Option<TaskIx> {
        const P_PID: u64 = 1;
        let pid = match cx.known.sc {
            Sc::Wait4 if cx.call.ret > 0 => cx.call.ret as u64,
            Sc::Waitid if cx.call.ret == 0 && cx.call.args[0] == P_PID => cx.call.args[1],
            _ => return None,
        };
        self.world.numbered(pid)
    }

    /// Whether a call may be the last of its process: an exit, or what brings the signal that ended it.
    pub(crate) fn ends_process(&self, cx: &Cx<'_>) -> bool {
        const EPIPE: i64 = -32;
        let signals = cx.known.kills() || cx.call.ret == EPIPE;
        cx.known.sc == Sc::ExitGroup
            || signals && self.facts.killed.contains(&self.world.procs[cx.proc as usize].first)
    }

    /// The listener and the place in its queue of the connection that an accept takes.
    pub(crate) fn place_taken(&self, cx: &Cx<'_>) -> Option<Place> {
        cx.accepting()?;
        let cookie = self.world.accepted_cookie(self.source, cx.call);
        let arrivals = &self.facts.arrivals;
        // Without a cookie: the next socket that there will be.
        let next = self.world.socks.len() as SockIx;
        if cookie == 0 { arrivals.place(next) } else { arrivals.place_of_cookie(cookie) }
    }

    /// The place of the connection that a connect to somebody inside makes.
    pub(crate) fn place_made(&self, cx: &Cx<'_>) -> Option<Place> {
        self.facts.accepted_as.get(&self.sock(cx)?).and_then(|accepted| self.facts.arrivals.place(*accepted))
    }

    /// The listener that a connect reaches, which gets as far as that.
    pub(crate) fn reached_listener(&self, cx: &Cx<'_>) -> Option<SockIx> {
        const EINPROGRESS: i64 = -115;
        if cx.known.sc != Sc::Connect || cx.call.ret < EINPROGRESS {
            return None;
        }
        let addr = self.world.absolute(cx.task, detail_addr(cx.call, 1)?);
        match self.place_made(cx) {
            Some(place) => Some(place.listener),
            None => self.world.listener(&addr),
        }
    }

    /// The listening descriptors that a readiness call named although somebody took the connection at that moment.
    pub(crate) fn told_in_vain(&self, cx: &Cx<'_>) -> Vec<i32> {
        let told = self.world.told_of_connections(cx.task, cx.call, cx.known.sc);
        let arrivals = &self.facts.arrivals;
        let vain =
            told.into_iter().filter(|(sock, _)| arrivals.told(cx.id(), *sock) == Some(Told::Meanwhile));
        vain.map(|(_, fd)| fd).collect()
    }

    /// A listener, and those that listen at its address with it.
    pub(crate) fn companions(&self, listener: SockIx) -> Vec<SockIx> {
        let group = self.world.group_of(listener);
        if group.contains(&listener) { group.to_vec() } else { vec![listener] }
    }

    /// Whether several sockets have the address of one at some time: listen there, or take datagrams.
    pub(crate) fn shares_its_address(&self, sock: SockIx) -> bool {
        let Some(sock) = self.world.socks.get(sock as usize) else { return false };
        let local = sock.local.as_ref().map(canonical);
        local.is_some_and(|local| self.facts.shared_addresses.contains(&(sock.is_datagram(), local)))
    }

    /// The address that a call gives to a socket, as the kernel completed it.
    pub(crate) fn address_of_bind(&self, cx: &Cx<'_>) -> Option<SockAddr> {
        let mut addr = detail_addr(cx.call, 1).cloned()?;
        if let Some(got) = detail_local(cx.call) {
            // The address that the kernel chose, since others will send to that.
            addr.clone_from(got);
        }
        if let SockAddr::Inet(at) = &mut addr
            && at.port() == 0
            && let Some(sock) = self.sock(cx)
            && let Some(Some(SockAddr::Inet(got))) = self.facts.locals.get(sock as usize)
        {
            // The port that any port came to, since others will connect to that.
            at.set_port(got.port());
        }
        Some(addr)
    }

    /// The address that a call gives to a datagram socket, if others have it, too.
    pub(crate) fn binds_with_others(&self, cx: &Cx<'_>) -> Option<Shared> {
        let datagrams = cx.known.sc == Sc::Bind && self.world.socks[self.sock(cx)? as usize].is_datagram();
        let addr = (cx.call.ret == 0 && datagrams).then(|| self.address_of_bind(cx)).flatten()?;
        let at = (true, canonical(&addr));
        self.facts.shared_addresses.contains(&at).then_some(at)
    }

    /// The socket that has come to its address by a call: to listen there, or to take datagrams.
    pub(crate) fn comes_to_address(&self, cx: &Cx<'_>) -> Option<SockIx> {
        let sock = self.sock(cx)?;
        let datagrams = self.world.socks[sock as usize].is_datagram();
        matches!((cx.known.sc, datagrams), (Sc::Listen, _) | (Sc::Bind, true)).then_some(sock)
    }

    /// The stream of bytes that is read from a description, by who writes it.
    pub(crate) fn stream_into(&self, ofd: OfdIx) -> Option<StreamKey> {
        match self.kind(ofd) {
            OfdKind::Sock(sock) => self.world.socks[sock as usize].partner.map(StreamKey::Sock),
            OfdKind::Pipe { .. } => self.stream(ofd, false),
            _ => None,
        }
    }

    /// The stream of bytes that is written to a description, when somebody inside reads it.
    pub(crate) fn stream_out_of(&self, ofd: OfdIx) -> Option<StreamKey> {
        match self.kind(ofd) {
            OfdKind::Sock(sock) if self.world.socks[sock as usize].partner.is_none() => None,
            OfdKind::Sock(_) | OfdKind::Pipe { .. } => self.stream(ofd, true),
            _ => None,
        }
    }

    /// Whether the other end of a socket is inside, too.
    pub(crate) fn is_inside(&self, sock: SockIx) -> bool {
        self.world.socks.get(sock as usize).is_some_and(|sock| sock.partner.is_some())
            || self.facts.inside.get(sock as usize).copied().unwrap_or(false)
    }
}
