//! The kernel half from user space: load, attach, shared tables, counters.

use crate::btf::{self, Kernel, Offsets};
use crate::clock;
use crate::error::RecordError;
use crate::ring::{BulkRing, Mapping, Ring, SharedRing};
use crate::verifier::Cost;
use aya::maps::{Map, MapData};
use aya::programs::{ProgramError, RawTracePoint};
use aya::{Ebpf, EbpfError, EbpfLoader};
use ctrace_abi::{
    Aggregate, AggregateKey, AggregateRecord, Globals, HELD, Head, NO_SLOT, RINGS, SEGMENT, SLOTS, SPECS,
    Shared, Slot, Spec, WINDOW_NS, kind, loss,
};
use std::collections::BTreeMap;
use std::mem::offset_of;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::sync::atomic::{AtomicU16, AtomicU64, Ordering, fence};
use std::sync::{Arc, Mutex, PoisonError};

/// The object that `cargo xtask bpf` built. Its sources' hash is beside it.
pub(crate) static OBJECT: &[u8] = aya::include_bytes_aligned!("../bpf/ctrace.bpf.o");

/// A program of the object: the raw tracepoint has the same name.
pub(crate) struct Hook {
    /// Of the program and of the tracepoint.
    pub(crate) name: &'static str,
    /// Nothing can be recorded without it.
    pub(crate) required: bool,
    /// What the trace lacks without it.
    pub(crate) loses: &'static str,
}

/// Every program, in the order of attachment: what keeps the task table first.
pub(crate) static HOOKS: &[Hook] = &[
    Hook { name: "sched_process_fork", required: true, loses: "child processes" },
    Hook { name: "sched_process_exec", required: true, loses: "executed programs" },
    Hook { name: "sched_process_exit", required: true, loses: "ends of processes" },
    Hook { name: "task_rename", required: false, loses: "changes of thread names" },
    Hook { name: "cgroup_attach_task", required: false, loses: "tasks that move into the cgroup" },
    Hook { name: "inet_sock_set_state", required: false, loses: "TCP connections" },
    Hook { name: "tcp_retransmit_skb", required: false, loses: "TCP retransmissions" },
    Hook { name: "tcp_send_reset", required: false, loses: "TCP resets sent" },
    Hook { name: "tcp_receive_reset", required: false, loses: "TCP resets received" },
    Hook { name: "tcp_destroy_sock", required: false, loses: "totals of TCP connections" },
    Hook { name: "signal_generate", required: false, loses: "signals generated" },
    Hook { name: "signal_deliver", required: false, loses: "signals delivered" },
    Hook { name: "sched_switch", required: false, loses: "time off the CPU between calls" },
    Hook { name: "sched_wakeup", required: false, loses: "time off the CPU between calls" },
    Hook { name: "sys_enter", required: true, loses: "system calls" },
    Hook { name: "sys_exit", required: true, loses: "system calls" },
];

/// An interval's aggregates are taken this long after its end: no call that ended in it is still being counted.
const SETTLED_NS: u64 = 100_000_000;

#[repr(transparent)]
#[derive(Clone, Copy)]
struct PodKey(AggregateKey);
// SAFETY: integers only, repr(C), no padding (ctrace-abi checks sizes).
unsafe impl aya::Pod for PodKey {}

#[repr(transparent)]
#[derive(Clone, Copy)]
struct PodAggregate(Aggregate);
// SAFETY: as above.
unsafe impl aya::Pod for PodAggregate {}

#[repr(transparent)]
#[derive(Clone, Copy)]
struct PodGlobals(Globals);
// SAFETY: integers only, repr(C), no padding (ctrace-abi checks sizes).
unsafe impl aya::Pod for PodGlobals {}

/// Sizes of the rings, bytes.
#[derive(Clone, Copy)]
pub(crate) struct RingSizes {
    /// Of each of the kernel's rings.
    pub(crate) bulk: u32,
    pub(crate) rings: u32,
    pub(crate) life: u32,
    /// CPUs that have a bulk ring of their own; calls on those that come later are aggregated.
    pub(crate) cpus: u32,
    /// CPUs that there can be.
    pub(crate) heads: u32,
    /// Segments of a CPU's bulk ring.
    pub(crate) segments: u32,
}

impl RingSizes {
    /// Rings for this many CPUs within a memory budget; every mapped page counts as the recorder's.
    pub(crate) fn within(budget: u64, cpus: u32) -> Self {
        let rings = cpus.clamp(1, RINGS).next_power_of_two();
        // Half for calls with a tail and for objects, half for the other calls.
        let each = (budget / 2 / u64::from(cpus.clamp(1, RINGS))).clamp(1 << 18, 1 << 26);
        // Round down to powers of two.
        let bulk = 1_u32 << each.ilog2();
        let segments = (budget / 2 / u64::from(cpus.max(1)) / SEGMENT as u64).clamp(4, 1 << 10);
        let heads = aya::util::nr_cpus().map_or(cpus, |n| n as u32);
        Self {
            bulk,
            rings,
            life: 1 << 20,
            cpus: cpus.max(1),
            heads: heads.max(cpus.max(1)),
            segments: 1 << segments.ilog2(),
        }
    }
}

/// Loaded and attached programs. Dropping it detaches them: nothing is pinned.
pub(crate) struct Programs {
    bpf: Ebpf,
    tasks: Mapping,
    slots: Mapping,
    shared: Mapping,
    heads: Arc<Mapping>,
    bulk: Arc<Mapping>,
    /// What [`Head::aggregated`] came to when the map of aggregates was last empty.
    settled: u64,
    pid_max: u32,
    rings: RingSizes,
    /// Programs that could not be attached, with the reason.
    pub(crate) absent: Vec<String>,
}

impl Programs {
    /// Loads the object. Nothing is attached yet.
    pub(crate) fn load(
        object: &[u8],
        offsets: &Offsets,
        rings: RingSizes,
        specs: &[Spec],
    ) -> Result<Self, RecordError> {
        let pid_max = pid_max();
        let names: Vec<String> = (0..RINGS).map(ring_name).collect();
        let globals = PodGlobals(Globals { segments: rings.segments, ..offsets.globals });
        let mut loader = EbpfLoader::new();
        loader.override_global("GLOBALS", &globals, true).map_max_entries("TASKS", pid_max.div_ceil(4) + 1);
        for name in names.iter().take(rings.rings as usize) {
            loader.map_max_entries(name, rings.bulk);
        }
        loader.map_max_entries("LIFE", rings.life);
        loader.map_max_entries("HEADS", rings.heads).map_max_entries("BULK", rings.cpus * rings.segments);
        let bpf = loader.load(object).map_err(|e| denied_or("loading the eBPF maps", &e))?;
        let tasks = map_array(&bpf, "TASKS", (pid_max as usize).div_ceil(4) * 8 + 8)?;
        let slots = map_array(&bpf, "SLOT", SLOTS as usize * size_of::<Slot>())?;
        let shared = map_array(&bpf, "SHARED", size_of::<Shared>())?;
        let heads = Arc::new(map_array(&bpf, "HEADS", rings.heads as usize * size_of::<Head>())?);
        let bulk = Arc::new(map_array(&bpf, "BULK", (rings.cpus * rings.segments) as usize * SEGMENT)?);
        let this =
            Self { bpf, tasks, slots, shared, heads, bulk, settled: 0, pid_max, rings, absent: Vec::new() };
        this.set_boot_offset();
        let table = map_array(&this.bpf, "SPEC", SPECS as usize * size_of::<Spec>())?;
        for (i, spec) in specs.iter().enumerate() {
            if let Some(at) = table.element::<Spec>(i * size_of::<Spec>()) {
                // SAFETY: inside the mapping; no program runs yet.
                unsafe { at.write(*spec) };
            }
        }
        Ok(this)
    }

    /// Loads and attaches every program. What is not required and not there is listed in `absent`.
    pub(crate) fn attach(&mut self, kernel: &Kernel) -> Result<(), RecordError> {
        let mut refused = self.verify_all();
        for hook in HOOKS {
            let result = match refused.remove(hook.name) {
                Some(error) => Err(denied_or_program(&format!("attaching to {}", hook.name), &error)),
                None => self.attach_one(hook.name),
            };
            match result {
                Ok(()) => {}
                Err(e) if hook.required => return Err(e),
                Err(e) => {
                    tracing::debug!(hook = hook.name, error = %e, "not attached");
                    let why = if kernel.has_tracepoint(hook.name) {
                        e.to_string()
                    } else {
                        "no such tracepoint".to_owned()
                    };
                    self.absent.push(format!("{}: {} ({why})", hook.loses, hook.name));
                }
            }
        }
        Ok(())
    }

    /// Loads every program, as many at a time as there are CPUs: the verifier takes most of the time until a recording
    /// is armed. Gives those that the kernel refused.
    fn verify_all(&mut self) -> BTreeMap<String, ProgramError> {
        let workers = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let programs: Vec<(String, &mut RawTracePoint)> = self
            .bpf
            .programs_mut()
            .filter(|(name, _)| HOOKS.iter().any(|hook| hook.name == *name))
            .filter_map(|(name, program)| Some((name.to_owned(), program.try_into().ok()?)))
            .collect();
        let (left, refused) = (Mutex::new(programs), Mutex::new(BTreeMap::new()));
        std::thread::scope(|scope| {
            for _ in 0..workers {
                scope.spawn(|| {
                    loop {
                        let next = left.lock().unwrap_or_else(PoisonError::into_inner).pop();
                        let Some((name, program)) = next else { break };
                        if let Err(error) = program.load() {
                            refused.lock().unwrap_or_else(PoisonError::into_inner).insert(name, error);
                        }
                    }
                });
            }
        });
        refused.into_inner().unwrap_or_else(PoisonError::into_inner)
    }

    /// Loads and attaches one program.
    pub(crate) fn attach_one(&mut self, name: &str) -> Result<(), RecordError> {
        let what = format!("attaching to {name}");
        let program = self.bpf.program_mut(name).ok_or_else(|| RecordError::KernelLacks {
            what: format!("the program {name} in the eBPF object"),
            fix: "rebuild it with `cargo xtask bpf`".into(),
        })?;
        let program: &mut RawTracePoint = program.try_into().map_err(|e| denied_or_program(&what, &e))?;
        match program.load() {
            Ok(()) | Err(ProgramError::AlreadyLoaded) => {}
            Err(error) => return Err(denied_or_program(&what, &error)),
        }
        program.attach(name).map_err(|e| denied_or_program(&what, &e))?;
        Ok(())
    }

    /// Stops every program. Maps stay readable.
    pub(crate) fn detach(&mut self) {
        for hook in HOOKS {
            if let Some(program) = self.bpf.program_mut(hook.name)
                && let Ok(program) = <&mut RawTracePoint>::try_from(program)
            {
                let _ = program.unload();
            }
        }
    }

    /// The rings in use, the lifecycle ring first.
    pub(crate) fn rings(&self) -> Result<Vec<Ring>, RecordError> {
        let mut rings = vec![Ring::Shared(SharedRing::open(map_fd(&self.bpf, "LIFE")?, self.rings.life)?)];
        for i in 0..self.rings.rings {
            rings.push(Ring::Shared(SharedRing::open(map_fd(&self.bpf, &ring_name(i))?, self.rings.bulk)?));
        }
        for cpu in 0..self.rings.cpus as usize {
            let (heads, bulk) = (Arc::clone(&self.heads), Arc::clone(&self.bulk));
            rings.push(Ring::Bulk(BulkRing::new(heads, bulk, cpu, self.rings.segments)));
        }
        Ok(rings)
    }

    /// Makes connections that arrive at a listener part of the scope. `netns` is the namespace's inode number.
    pub(crate) fn listens(&mut self, netns: u64, port: u16, tid: u32) {
        if let Some(map) = self.bpf.map_mut("LISTENERS")
            && let Ok(mut listeners) = aya::maps::HashMap::<&mut MapData, [u64; 2], u32>::try_from(map)
            && let Err(error) = listeners.insert([netns, u64::from(port)], tid, 0)
        {
            tracing::warn!(%error, port, "connections that arrive before the first accept are not followed");
        }
    }

    fn entry(&self, tid: u32) -> Option<&AtomicU16> {
        if tid > self.pid_max {
            return None;
        }
        // SAFETY: inside the mapping (checked by `element`); the kernel writes whole halfwords.
        self.tasks.element::<AtomicU16>(tid as usize * 2).map(|p| unsafe { p.as_ref() })
    }

    /// Whether a thread is in the table.
    pub(crate) fn is_recorded(&self, tid: u32) -> bool {
        self.entry(tid).is_some_and(|e| e.load(Ordering::Relaxed) != 0)
    }

    /// Puts a thread into the table. `held`: nothing is recorded before its first `execve`.
    pub(crate) fn admit(&self, tid: u32, tgid: u32, held: bool) {
        let Some(entry) = self.entry(tid) else { return };
        let used = self.shared_word(offset_of!(Shared, slots_used));
        let number = used.map_or(u64::from(SLOTS), |used| used.fetch_add(1, Ordering::Relaxed) + 1);
        if number >= u64::from(SLOTS) {
            entry.store(NO_SLOT, Ordering::Relaxed);
            self.next_epoch();
            return;
        }
        if let Some(slot) = self.slots.element::<Slot>(number as usize * size_of::<Slot>()) {
            // SAFETY: all zeros is a valid Slot.
            let mut fresh: Slot = unsafe { std::mem::zeroed() };
            fresh.call.tid = tid;
            fresh.call.tgid = tgid;
            fresh.fresh = if held { HELD } else { 0 };
            // SAFETY: inside the mapping; the kernel does not use the slot before the table names it.
            unsafe { slot.write(fresh) };
        }
        fence(Ordering::SeqCst);
        entry.store(number as u16, Ordering::Release);
        self.next_epoch();
    }

    fn shared_word(&self, field: usize) -> Option<&AtomicU64> {
        // SAFETY: inside the mapping, and aligned (checked by `element`).
        self.shared.element::<AtomicU64>(field).map(|p| unsafe { p.as_ref() })
    }

    /// Makes the programs look every task up again.
    fn next_epoch(&self) {
        if let Some(epoch) = self.shared_word(offset_of!(Shared, epoch)) {
            epoch.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// Tells the programs how far `CLOCK_BOOTTIME` is ahead of `CLOCK_MONOTONIC`. It changes when the machine was
    /// suspended, and only then; to be called often.
    pub(crate) fn keep_boot_offset(&self) {
        // A suspension is longer than this, and a reading of the clocks is seldom wrong by as much.
        const NOTABLE_NS: u64 = 100_000;
        let Some(offset) = self.shared_word(offset_of!(Shared, boot_offset)) else { return };
        let known = offset.load(Ordering::Relaxed);
        let (read, took) = clock::boot_offset(1);
        if took < NOTABLE_NS && read.wrapping_sub(known).cast_signed().unsigned_abs() > NOTABLE_NS {
            self.set_boot_offset();
        }
    }

    fn set_boot_offset(&self) {
        let (offset, uncertain) = clock::boot_offset(200);
        // Most machines have never been suspended.
        let offset = if offset.cast_signed().unsigned_abs() <= uncertain { 0 } else { offset };
        if let Some(word) = self.shared_word(offset_of!(Shared, boot_offset)) {
            word.store(offset, Ordering::Relaxed);
        }
    }

    /// Takes what was counted in intervals that are over by `now_ns`, in order of time; `u64::MAX`: everything, the
    /// programs are detached.
    pub(crate) fn aggregates(&mut self, now_ns: u64) -> Vec<AggregateRecord> {
        let counted: u64 = (0..self.rings.heads as usize)
            .filter_map(|cpu| {
                let at = cpu * size_of::<Head>() + offset_of!(Head, aggregated);
                // SAFETY: inside the mapping, and aligned (checked by `element`).
                self.heads.element::<AtomicU64>(at).map(|p| unsafe { p.as_ref() }.load(Ordering::Relaxed))
            })
            .sum();
        if counted == self.settled && now_ns != u64::MAX {
            return Vec::new();
        }
        let Some(map) = self.bpf.map_mut("AGGREGATE") else { return Vec::new() };
        let Ok(mut map) = aya::maps::HashMap::<&mut MapData, PodKey, PodAggregate>::try_from(map) else {
            return Vec::new();
        };
        let over = now_ns.saturating_sub(SETTLED_NS) / WINDOW_NS;
        let keys: Vec<PodKey> = map.keys().filter_map(Result::ok).collect();
        let mut records = Vec::new();
        let mut left = 0;
        for key in keys {
            if u64::from(key.0.window) >= over {
                left += 1;
                continue;
            }
            let Ok(value) = map.get(&key, 0) else { continue };
            if map.remove(&key).is_ok() {
                records.push(AggregateRecord {
                    kind: kind::AGGREGATE,
                    reserved: [0; 7],
                    t_ns: (u64::from(key.0.window) + 1) * WINDOW_NS,
                    key: key.0,
                    value: value.0,
                });
            }
        }
        if left == 0 {
            self.settled = counted;
        }
        records.sort_by_key(|r| r.t_ns);
        records
    }

    /// Takes a thread out of the table.
    pub(crate) fn expel(&self, tid: u32) {
        let Some(entry) = self.entry(tid) else { return };
        let number = entry.swap(0, Ordering::Relaxed);
        let stack = usize::from(number) * size_of::<Slot>() + offset_of!(Slot, stack);
        if let Some(stack) = self.slots.element::<AtomicU64>(stack).filter(|_| number != NO_SLOT) {
            // SAFETY: inside the mapping, and aligned (checked by `element`).
            unsafe { stack.as_ref() }.store(0, Ordering::Relaxed);
        }
    }

    /// The slots that have a call in flight, after detaching.
    pub(crate) fn in_flight(&self) -> Vec<Slot> {
        let mut out = Vec::new();
        for number in 1..SLOTS as usize {
            if let Some(at) = self.slots.element::<Slot>(number * size_of::<Slot>()) {
                // SAFETY: inside the mapping; the programs are detached.
                let slot = unsafe { at.read() };
                let current = self.entry(slot.call.tid).map_or(0, |e| e.load(Ordering::Relaxed));
                if slot.busy != 0 && usize::from(current) == number {
                    out.push(slot);
                }
            }
        }
        out
    }

    /// Loss counters: `[class][cpu]`.
    pub(crate) fn lost(&self) -> Vec<Vec<u64>> {
        let Some(map) = self.bpf.map("LOST") else { return Vec::new() };
        let Ok(array) = aya::maps::PerCpuArray::<&MapData, u64>::try_from(map) else { return Vec::new() };
        (0..loss::COUNT).map(|i| array.get(&i, 0).map(|v| v.to_vec()).unwrap_or_default()).collect()
    }

    /// What the verifier made of each loaded program.
    pub(crate) fn costs(&self, kernel: &str) -> Vec<Cost> {
        self.bpf
            .programs()
            .filter_map(|(name, program)| {
                let info = program.info().ok()?;
                Some(Cost {
                    kernel: kernel.to_owned(),
                    program: name.to_owned(),
                    verified_insns: info.verified_instruction_count().unwrap_or(0),
                    translated_bytes: info.size_translated().unwrap_or(0),
                    machine_bytes: info.size_jitted(),
                })
            })
            .collect()
    }

    /// How often the kernel skipped the program that records calls because it was already running on that CPU
    /// (`bpf_prog_info.recursion_misses`, Linux 5.12).
    pub(crate) fn skipped(&self) -> u64 {
        self.bpf.program("sys_exit").and_then(|p| p.fd().ok().map(|fd| misses(fd.as_fd()))).unwrap_or(0)
    }
}

/// Reads the BTF and loads nothing: what `Programs::load` needs.
pub(crate) fn offsets() -> Result<(Kernel, Offsets), RecordError> {
    let kernel = Kernel::open()?;
    let offsets = btf::offsets(&kernel);
    let registers: Vec<&str> =
        offsets.missing.iter().filter(|m| m.starts_with("pt_regs.")).map(String::as_str).collect();
    if !registers.is_empty() {
        return Err(RecordError::KernelLacks {
            what: format!("registers where they are looked for ({})", registers.join(", ")),
            fix: "use a ctrace that knows this kernel".into(),
        });
    }
    Ok((kernel, offsets))
}

fn ring_name(i: u32) -> String {
    format!("RING_{i:02}")
}

fn no_map(name: &str) -> RecordError {
    RecordError::KernelLacks {
        what: format!("the map {name} in the eBPF object"),
        fix: "rebuild it with `cargo xtask bpf`".into(),
    }
}

fn map_data<'a>(bpf: &'a Ebpf, name: &str) -> Result<&'a MapData, RecordError> {
    match bpf.map(name) {
        Some(
            Map::Array(data)
            | Map::RingBuf(data)
            | Map::Queue(data)
            | Map::PerCpuArray(data)
            | Map::LruHashMap(data)
            | Map::HashMap(data),
        ) => Ok(data),
        _ => Err(no_map(name)),
    }
}

fn map_fd<'a>(bpf: &'a Ebpf, name: &str) -> Result<BorrowedFd<'a>, RecordError> {
    Ok(map_data(bpf, name)?.fd().as_fd())
}

fn map_array(bpf: &Ebpf, name: &str, bytes: usize) -> Result<Mapping, RecordError> {
    let page = crate::ring::page_size();
    Mapping::new(map_fd(bpf, name)?, bytes.next_multiple_of(page), 0, true)
        .map_err(RecordError::system(format!("mapping {name}")))
}

fn is_denied(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(e) = cause {
        if let Some(io) = e.downcast_ref::<std::io::Error>()
            && matches!(io.raw_os_error(), Some(libc::EPERM | libc::EACCES))
        {
            return true;
        }
        cause = e.source();
    }
    false
}

fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(e) = cause {
        text.push_str(": ");
        text.push_str(&e.to_string());
        cause = e.source();
    }
    text
}

fn denied_or(what: &str, error: &EbpfError) -> RecordError {
    classify(what, error)
}

fn denied_or_program(what: &str, error: &ProgramError) -> RecordError {
    classify(what, error)
}

fn classify(what: &str, error: &(dyn std::error::Error + 'static)) -> RecordError {
    if is_denied(error) && !crate::caps::can_load() {
        RecordError::NoPrivilege { what: what.to_owned(), needs: "CAP_BPF and CAP_PERFMON" }
    } else {
        RecordError::KernelLacks {
            what: format!("what {what} needs ({})", chain(error)),
            fix: "run `ctrace doctor`".into(),
        }
    }
}

/// Highest process id of this machine.
fn pid_max() -> u32 {
    std::fs::read_to_string("/proc/sys/kernel/pid_max")
        .ok()
        .and_then(|t| t.trim().parse().ok())
        // PID_MAX_LIMIT, include/linux/threads.h.
        .unwrap_or(4 << 20)
}

fn misses(fd: BorrowedFd<'_>) -> u64 {
    #[repr(C)]
    struct Attr {
        bpf_fd: u32,
        info_len: u32,
        info: u64,
    }
    // SAFETY: plain integers; zero is valid.
    let mut info: aya_obj_info::Info = unsafe { std::mem::zeroed() };
    let attr = Attr {
        bpf_fd: fd.as_raw_fd() as u32,
        info_len: size_of::<aya_obj_info::Info>() as u32,
        info: (&raw mut info) as u64,
    };
    // BPF_OBJ_GET_INFO_BY_FD
    bpf(15, &attr).map_or(0, |_| info.recursion_misses)
}

/// The part of `struct bpf_prog_info` (include/uapi/linux/bpf.h) up to what is read here.
mod aya_obj_info {
    #[repr(C)]
    pub(super) struct Info {
        head: [u8; 208],
        pub(super) recursion_misses: u64,
    }
}

fn bpf<T>(command: libc::c_int, attr: &T) -> std::io::Result<i64> {
    // SAFETY: `attr` is the leading part of `union bpf_attr` that the command reads; the kernel takes the rest as 0.
    let r = unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_ref(attr), size_of::<T>()) };
    if r < 0 { Err(std::io::Error::last_os_error()) } else { Ok(r) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_program_loads_and_attaches_on_this_kernel() {
        if !crate::caps::can_load() {
            eprintln!("skipped: needs CAP_BPF and CAP_PERFMON");
            return;
        }
        let (kernel, offsets) = offsets().unwrap();
        let specs = crate::specs::table(crate::arch::HOST);
        let mut programs = Programs::load(OBJECT, &offsets, RingSizes::within(1 << 20, 2), &specs).unwrap();
        programs.attach(&kernel).unwrap();
        assert_eq!(programs.absent, Vec::<String>::new());
        assert_eq!(programs.skipped(), 0);
        assert!(programs.lost().iter().flatten().all(|n| *n == 0));
    }
}
