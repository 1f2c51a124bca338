//! Where the compiler reads from: a trace on disk, or one made in memory by a test.

use super::CompileError;
use super::calls::Sc;
use ctrace_analysis::edits::{Edits, Injection, Told};
use ctrace_format::{
    Detail, Event, Filter, Header, Object, ObjectId, Snapshot, StrId, Syscall, SyscallFlags, Sysno, TaskDef,
    TaskId, Trace,
};
use rustc_hash::{FxHashMap, FxHashSet};

/// A trace as the compiler needs it: dictionaries at random, events as a stream that can be restarted.
pub(crate) trait Source {
    fn header(&self) -> &Header;
    fn snapshot(&self) -> &Snapshot;
    fn str(&self, id: StrId) -> &[u8];
    fn task(&self, id: TaskId) -> &TaskDef;
    fn tasks(&self) -> &[TaskDef];
    fn object(&self, id: ObjectId) -> &Object;
    fn end_ns(&self) -> u64;
    /// Length of the file: what the trace may make the compiler keep is in proportion to it.
    fn file_bytes(&self) -> u64;
    /// Passes every event to `each`, in order of completion.
    fn for_each(&self, each: &mut dyn FnMut(&Event) -> Result<(), CompileError>) -> Result<(), CompileError>;
    /// The directory that a recorded command began in, where that is known before its calls are looked at.
    fn began_in(&self) -> Option<Vec<u8>> {
        None
    }
    /// How a fault changes a call that is made.
    fn delay(&self, _: &Syscall) -> Option<Delay> {
        None
    }
    /// The hits of rules of a plan at the call of a task that has this moment.
    fn hits(&self, _: TaskId, _: Moment) -> Option<Hits> {
        None
    }
}

/// A moment of a call, ns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Moment {
    Begin(u64),
    End(u64),
}

/// The hits of rules at one call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Hits {
    /// The number of its event.
    pub(crate) ordinal: u64,
    /// The call that is hit.
    pub(crate) sysno: Sysno,
    pub(crate) told: Vec<Told>,
}

/// The change of a call that is made: delays, ns, and whether it moves fewer bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Delay {
    /// It moves fewer bytes, or descriptors, than it did.
    pub(crate) is_short: bool,
    /// Before it is made.
    pub(crate) enter_ns: u64,
    /// After it returned.
    pub(crate) exit_ns: u64,
}

/// A recording as it would have been with faults.
pub(crate) struct Edited<'a> {
    inner: &'a dyn Source,
    edits: &'a Edits,
    /// By task and end of a call.
    delays: FxHashMap<(TaskId, u64), Delay>,
    /// The numbers of events with hits.
    hits: FxHashMap<(TaskId, Moment), (u64, Sysno)>,
}

impl<'a> Edited<'a> {
    pub(crate) fn new(inner: &'a dyn Source, edits: &'a Edits) -> Result<Self, CompileError> {
        let mut delays = FxHashMap::default();
        let mut hits = FxHashMap::default();
        let mut ordinal = 0;
        inner.for_each(&mut |event| {
            if let Some(injection) = edits.injection(ordinal)
                && let Event::Syscall(call) = event
            {
                let is_short = edits.shortens(ordinal, event);
                let Injection { enter_ns, exit_ns, .. } = *injection;
                if is_short || enter_ns > 0 || exit_ns > 0 {
                    delays.insert((call.task, event.end_ns()), Delay { is_short, enter_ns, exit_ns });
                }
            }
            if !edits.told(ordinal).is_empty()
                && let Event::Syscall(call) = event
            {
                hits.insert((call.task, Moment::Begin(call.t_ns)), (ordinal, call.sysno));
                hits.insert((call.task, Moment::End(event.end_ns())), (ordinal, call.sysno));
            }
            ordinal += 1;
            Ok(())
        })?;
        Ok(Self { inner, edits, delays, hits })
    }
}

impl Source for Edited<'_> {
    fn header(&self) -> &Header {
        self.inner.header()
    }
    fn snapshot(&self) -> &Snapshot {
        self.inner.snapshot()
    }
    fn str(&self, id: StrId) -> &[u8] {
        self.inner.str(id)
    }
    fn task(&self, id: TaskId) -> &TaskDef {
        self.inner.task(id)
    }
    fn tasks(&self) -> &[TaskDef] {
        self.inner.tasks()
    }
    fn object(&self, id: ObjectId) -> &Object {
        self.inner.object(id)
    }
    fn end_ns(&self) -> u64 {
        self.inner.end_ns()
    }
    fn file_bytes(&self) -> u64 {
        self.inner.file_bytes()
    }
    fn for_each(&self, each: &mut dyn FnMut(&Event) -> Result<(), CompileError>) -> Result<(), CompileError> {
        let mut ordinal = 0;
        self.inner.for_each(&mut |event| {
            let mut edited = self.edits.apply(ordinal, event);
            ordinal += 1;
            edited.try_for_each(|event| each(&event))
        })
    }
    fn began_in(&self) -> Option<Vec<u8>> {
        self.edits.began_in().map(<[u8]>::to_vec)
    }
    fn delay(&self, call: &Syscall) -> Option<Delay> {
        self.delays.get(&(call.task, call.t_ns.saturating_add(call.duration_ns))).copied()
    }
    fn hits(&self, task: TaskId, at: Moment) -> Option<Hits> {
        let (ordinal, sysno) = *self.hits.get(&(task, at))?;
        Some(Hits { ordinal, sysno, told: self.edits.told(ordinal).to_vec() })
    }
}

impl Source for Trace {
    fn header(&self) -> &Header {
        Self::header(self)
    }
    fn snapshot(&self) -> &Snapshot {
        Self::snapshot(self)
    }
    fn str(&self, id: StrId) -> &[u8] {
        Self::str(self, id)
    }
    fn task(&self, id: TaskId) -> &TaskDef {
        Self::task(self, id)
    }
    fn tasks(&self) -> &[TaskDef] {
        Self::tasks(self)
    }
    fn object(&self, id: ObjectId) -> &Object {
        Self::object(self, id)
    }
    fn end_ns(&self) -> u64 {
        Self::end_ns(self)
    }
    fn file_bytes(&self) -> u64 {
        Self::file_bytes(self)
    }
    fn for_each(&self, each: &mut dyn FnMut(&Event) -> Result<(), CompileError>) -> Result<(), CompileError> {
        for event in self.events(&Filter::default()) {
            each(&event?)?;
        }
        Ok(())
    }
}

/// A source whose first calls are complete: of a thread that was in a call when the recording began, only the return
/// was seen, but the start snapshot knows which call it was in, and its arguments.
pub(crate) struct Completed<'a> {
    inner: &'a dyn Source,
    entered: FxHashMap<u32, (u32, [u64; 6])>,
}

impl<'a> Completed<'a> {
    /// Completes the calls whose arguments are all in registers. Reads are left as they are: of which stream they were is
    /// not in the record, and one more of them would set the streams of the two runs apart.
    pub(crate) fn new(inner: &'a dyn Source) -> Self {
        let abi = inner.header().abi;
        let plain = |nr: u32| {
            matches!(
                Sc::of(ctrace_format::Sysno { abi, nr }),
                Sc::ClockNanosleep
                    | Sc::Nanosleep
                    | Sc::EpollWait
                    | Sc::EpollPwait
                    | Sc::Accept
                    | Sc::Accept4
                    | Sc::Futex
                    | Sc::Wait4
                    | Sc::Pause
            )
        };
        let entered = inner
            .snapshot()
            .processes
            .iter()
            .flat_map(|p| &p.threads)
            .filter_map(|t| t.syscall.filter(|(nr, _)| plain(*nr)).map(|s| (t.tid.0, s)))
            .collect();
        Self { inner, entered }
    }
}

impl Source for Completed<'_> {
    fn header(&self) -> &Header {
        self.inner.header()
    }
    fn snapshot(&self) -> &Snapshot {
        self.inner.snapshot()
    }
    fn str(&self, id: StrId) -> &[u8] {
        self.inner.str(id)
    }
    fn task(&self, id: TaskId) -> &TaskDef {
        self.inner.task(id)
    }
    fn tasks(&self) -> &[TaskDef] {
        self.inner.tasks()
    }
    fn object(&self, id: ObjectId) -> &Object {
        self.inner.object(id)
    }
    fn end_ns(&self) -> u64 {
        self.inner.end_ns()
    }
    fn file_bytes(&self) -> u64 {
        self.inner.file_bytes()
    }
    fn began_in(&self) -> Option<Vec<u8>> {
        self.inner.began_in()
    }
    fn delay(&self, call: &Syscall) -> Option<Delay> {
        self.inner.delay(call)
    }
    fn hits(&self, task: TaskId, at: Moment) -> Option<Hits> {
        self.inner.hits(task, at)
    }
    fn for_each(&self, each: &mut dyn FnMut(&Event) -> Result<(), CompileError>) -> Result<(), CompileError> {
        let mut entered = self.entered.clone();
        let mut begun: FxHashSet<u32> = FxHashSet::default();
        self.inner.for_each(&mut |event| {
            if let Event::Syscall(call) = event
                && !call.flags.contains(SyscallFlags::ENGINE)
            {
                let tid = self.inner.task(call.task).tid.0;
                let first = begun.insert(tid);
                let known = entered.remove(&tid).filter(|(nr, _)| *nr == call.sysno.nr).map(|(_, args)| args);
                // The registers at the return are those of the entry, where the recorder kept them. Of a call that did not
                // return it knows all there are.
                let lasts = call.flags.contains(SyscallFlags::NO_EXIT);
                let args = if call.args_mask != 0 || lasts { Some(call.args) } else { known };
                if call.flags.contains(SyscallFlags::NO_ENTER)
                    && let Some(args) = args
                {
                    let t_ns = if first && !lasts { 0 } else { call.t_ns };
                    let duration_ns = event.end_ns() - t_ns;
                    let mut args = args;
                    // It had been waiting before: what was left of its time limit passes here.
                    let limit = super::calls::milliseconds_arg(call.sysno);
                    if let (0, Some(limit)) = (call.ret, limit.filter(|_| !lasts)) {
                        args[limit] = (duration_ns + 500_000) / 1_000_000;
                    }
                    let mut whole = Syscall {
                        t_ns,
                        duration_ns,
                        flags: SyscallFlags(call.flags.0 & !SyscallFlags::NO_ENTER.0),
                        args,
                        ..call.clone()
                    };
                    if let (false, 0, Some(arg)) = (lasts, call.ret, super::calls::limit_arg(call.sysno))
                        && !whole.details.iter().any(|d| matches!(d, Detail::Time { .. }))
                    {
                        whole.details.push(Detail::Time { arg, ns: duration_ns });
                    }
                    return each(&Event::Syscall(whole));
                }
            }
            each(event)
        })
    }
}
