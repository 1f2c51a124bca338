//! Rows of `syscalls`: there are millions, so that nothing goes through JSON.

use crate::file::{Cell, Texts, once};
use ctrace_format::syscalls::{Call, Family};
use ctrace_format::{Detail, Object, ObjectId, StrId, Syscall, SyscallFlags, Sysno, Trace};
use ctrace_report::text::{Events, containers, errno, name_in_json};
use parquet::data_type::ByteArray;
use rustc_hash::FxHashMap;

/// Bits of how a call was observed, by name.
const FLAGS: [(SyscallFlags, &str); 7] = [
    (SyscallFlags::NO_ENTER, "no_enter"),
    (SyscallFlags::NO_EXIT, "no_exit"),
    (SyscallFlags::ENGINE, "engine"),
    (SyscallFlags::TRUNCATED, "truncated"),
    (SyscallFlags::INJECTED, "injected"),
    (SyscallFlags::FILTERED, "filtered"),
    (SyscallFlags::EMULATED, "emulated"),
];

/// Texts that calls share, as far as they are the same whenever they are asked for.
#[derive(Default)]
pub(crate) struct Calls {
    names: FxHashMap<Sysno, ByteArray>,
    comms: FxHashMap<StrId, ByteArray>,
    errnos: FxHashMap<u32, ByteArray>,
    flags: FxHashMap<u16, Option<ByteArray>>,
    objects: FxHashMap<ObjectId, ByteArray>,
    texts: Texts,
    args: Texts,
}

/// Objects of files that are kept by number; there may be a million.
const OBJECTS: usize = 1 << 14;

impl Calls {
    /// The columns of the table in their order.
    pub(crate) fn row(
        &mut self,
        trace: &Trace,
        show: &Events<'_>,
        call: &Syscall,
        failed: bool,
    ) -> [Cell; 22] {
        let row = show.row(call);
        let task = trace.task(call.task);
        let text = |bytes: &[u8]| once(name_in_json(bytes));
        let comm = self.comms.entry(task.comm).or_insert_with(|| text(trace.str(task.comm))).clone();
        let container = show.containers().number(call.task);
        let container = container.and_then(|number| containers::called(show.containers(), number));
        let name = self.names.entry(call.sysno).or_insert_with(|| once(row.name().into_owned())).clone();
        let unfinished = call.flags.contains(SyscallFlags::NO_EXIT);
        let foreign = call.sysno.abi != trace.header().abi;
        let failure = call.errno().map(|e| self.errnos.entry(e).or_insert_with(|| once(errno(e))).clone());
        let flags = self.flags.entry(call.flags.0).or_insert_with(|| {
            let set = FLAGS.iter().filter(|(flag, _)| call.flags.contains(*flag));
            let names: Vec<&str> = set.map(|(_, name)| *name).collect();
            (!names.is_empty()).then(|| once(names.join(",")))
        });
        let flags = flags.clone();
        let object = call.object.map(|id| self.object(trace, id, || row.object().unwrap_or_default()));
        let within_ns = call.details.iter().find_map(|detail| match detail {
            Detail::CpuWait { ns } => Some(*ns),
            _ => None,
        });
        let moves = moves_bytes(Call::of(call.sysno), &name)
            .then(|| call.moved())
            .filter(|_| call.ret >= 0 && !unfinished);
        [
            Cell::from(call.t_ns),
            Cell::from(trace.header().start_realtime_ns.saturating_add(call.t_ns)),
            Cell::from(task.tid.0),
            Cell::from(task.tgid.0),
            Cell::from((!trace.str(task.comm).is_empty()).then_some(comm)),
            Cell::from(container.map(|name| self.texts.often(&name))),
            Cell::from(name),
            Cell::from(foreign.then(|| self.texts.often(call.sysno.abi.name()))),
            Cell::from(self.args.often(&row.args())),
            Cell::from((!unfinished).then_some(call.ret)),
            Cell::from(failure),
            Cell::from(call.duration_ns),
            Cell::from(row.fd()),
            Cell::from(object),
            Cell::from(row.path().map(|path| self.texts.often(&path))),
            Cell::from(row.peer().map(|peer| self.texts.often(&peer))),
            Cell::from(moves),
            Cell::from(failed),
            Cell::from(within_ns.unwrap_or(0)),
            Cell::from(call.wait_cpu_ns),
            Cell::from(call.blocked_ns),
            Cell::from(flags),
        ]
    }

    /// What lies behind a descriptor. The ends of a socket may be learnt later.
    fn object(&mut self, trace: &Trace, id: ObjectId, text: impl FnOnce() -> String) -> ByteArray {
        if matches!(trace.object(id), Object::Socket { .. }) {
            return self.texts.often(&text());
        }
        if self.objects.len() >= OBJECTS {
            self.objects.clear();
        }
        self.objects.entry(id).or_insert_with(|| once(text())).clone()
    }
}

/// Calls whose result is a number of bytes, or which tell the bytes of their messages.
fn moves_bytes(call: Call, name: &ByteArray) -> bool {
    matches!(call.row().family, Family::Receive | Family::Send | Family::Transfer)
        || matches!(call, Call::Getrandom | Call::Getdents | Call::Getdents64)
        // A call of 32-bit programs alone, which the table does not have.
        || name.data() == b"sendfile64"
}
