//! The kernel half from user space: load, attach, shared tables, counters.

use crate::btf::{self, Kernel, Offsets};
use crate::error::RecordError;
use crate::ring::{Mapping, Ring};
use crate::verifier::Cost;
use aya::maps::{Map, MapData};
use aya::programs::{ProgramError, RawTracePoint};
use aya::{Ebpf, EbpfError, EbpfLoader};
use ctrace_abi::{Globals, HELD, NO_SLOT, RINGS, SLOTS, SPECS, Slot, Spec, loss};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicU32, Ordering, fence};

/// The object that `cargo xtask bpf` built. Its sources' hash is beside it.
pub(crate) static OBJECT: &[u8] = aya::include_bytes_aligned!("../bpf/ctrace.bpf.o");

/// Size of the ring of cgroups that are made and removed, as the kernel half declares it.
const GROUP_EVENTS: u32 = 1 << 18;

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
    Hook { name: "cgroup_mkdir", required: false, loses: "first calls of containers that appear" },
    Hook { name: "cgroup_rmdir", required: false, loses: "ends of containers" },
    Hook { name: "inet_sock_set_state", required: false, loses: "TCP connections" },
    Hook { name: "tcp_retransmit_skb", required: false, loses: "TCP retransmissions" },
    Hook { name: "tcp_send_reset", required: false, loses: "TCP resets sent" },
    Hook { name: "tcp_receive_reset", required: false, loses: "TCP resets received" },
    Hook { name: "tcp_destroy_sock", required: false, loses: "totals of TCP connections" },
    Hook { name: "signal_generate", required: false, loses: "signals generated" },
    Hook { name: "signal_deliver", required: false, loses: "signals delivered" },
    Hook { name: "tcp_probe", required: false, loses: "round-trip times and windows of TCP connections" },
    Hook { name: "sock_send_length", required: false, loses: "traffic of UDP and unix sockets, DNS queries" },
    Hook { name: "sock_recv_length", required: false, loses: "traffic of UDP and unix sockets, DNS answers" },
    Hook { name: "mark_victim", required: false, loses: "victims of the OOM killer" },
    Hook { name: "page_fault_user", required: false, loses: "page faults that block" },
    Hook { name: "cap_capable", required: false, loses: "capability checks" },
    Hook { name: "block_io_start", required: false, loses: "block requests that another task issues" },
    Hook { name: "block_rq_issue", required: false, loses: "block requests" },
    Hook { name: "block_rq_complete", required: false, loses: "block requests" },
    Hook { name: "io_uring_submit_req", required: false, loses: "requests through io_uring" },
    Hook { name: "io_uring_complete", required: false, loses: "requests through io_uring" },
    Hook { name: "sched_switch", required: false, loses: "time off the CPU between calls" },
    Hook { name: "sched_wakeup", required: false, loses: "time off the CPU between calls" },
    Hook { name: "sys_enter", required: true, loses: "system calls" },
    Hook { name: "sys_exit", required: true, loses: "system calls" },
];

/// Fields without which a program would tell nonsense: it is not attached then.
static NEEDS: &[(&str, &[&str])] = &[
    ("sock_send_length", &["socket_alloc.vfs_inode", "sock.sk_socket"]),
    ("sock_recv_length", &["socket_alloc.vfs_inode", "sock.sk_socket"]),
    ("block_io_start", &["request.__data_len", "request.cmd_flags"]),
    ("block_rq_issue", &["request.__data_len", "request.cmd_flags"]),
    ("block_rq_complete", &["request.__data_len", "request.cmd_flags"]),
    ("io_uring_submit_req", &["io_kiocb.opcode", "io_uring_cqe.res", "io_uring_cqe.flags"]),
    ("io_uring_complete", &["io_kiocb.opcode", "io_uring_cqe.res", "io_uring_cqe.flags"]),
];
/// What a tracepoint was called before.
static OLDER: &[(&str, &str)] = &[("io_uring_submit_req", "io_uring_submit_sqe")];

#[repr(transparent)]
#[derive(Clone, Copy)]
struct PodGlobals(Globals);
// SAFETY: integers only, repr(C), no padding (ctrace-abi checks sizes).
unsafe impl aya::Pod for PodGlobals {}

/// Sizes of the rings, bytes.
#[derive(Clone, Copy)]
pub(crate) struct RingSizes {
    pub(crate) bulk: u32,
    pub(crate) rings: u32,
    pub(crate) life: u32,
}

impl RingSizes {
    /// Rings for this many CPUs within a memory budget; every mapped page counts as the recorder's.
    pub(crate) fn within(budget: u64, cpus: u32) -> Self {
        let rings = cpus.clamp(1, RINGS).next_power_of_two();
        let each = (budget / u64::from(cpus.clamp(1, RINGS))).clamp(1 << 18, 1 << 26);
        // Round down to a power of two.
        let bulk = 1_u32 << each.ilog2();
        Self { bulk, rings, life: 1 << 20 }
    }
}

/// The task table and the slots, which the programs and whoever takes tasks in share.
pub(crate) struct Table {
    tasks: Mapping,
    slots: Mapping,
    pid_max: u32,
    next_free: AtomicU32,
}

/// The recorded cgroups: see `GROUPS` of the kernel half.
pub(crate) struct GroupMap {
    fd: OwnedFd,
}

impl GroupMap {
    /// Tasks that are made in, or move to, the group or one below it belong to the scope from now on.
    pub(crate) fn insert(&self, id: u64, number: u32) -> std::io::Result<()> {
        // BPF_MAP_UPDATE_ELEM
        bpf(2, &self.attr(&id, &raw const number)).map(drop)
    }

    /// They no longer do. It may be gone already.
    pub(crate) fn remove(&self, id: u64) {
        // BPF_MAP_DELETE_ELEM
        let _ = bpf(3, &self.attr(&id, std::ptr::null()));
    }

    fn attr(&self, id: &u64, number: *const u32) -> MapAttr {
        MapAttr {
            map_fd: self.fd.as_raw_fd() as u32,
            pad: 0,
            key: std::ptr::from_ref(id) as u64,
            value: number as u64,
            flags: 0,
        }
    }
}

/// Loaded and attached programs. Dropping it detaches them: nothing is pinned.
pub(crate) struct Programs {
    bpf: Ebpf,
    table: Arc<Table>,
    rings: RingSizes,
    /// Fields that this kernel does not have.
    missing: Vec<String>,
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
        let globals = PodGlobals(offsets.globals);
        let mut loader = EbpfLoader::new();
        // Nothing in the object is relocated by it: the kernel's offsets come in `globals`. Parsing it takes time and memory.
        loader.btf(None);
        loader.override_global("GLOBALS", &globals, true).map_max_entries("TASKS", pid_max.div_ceil(4) + 1);
        for name in names.iter().take(rings.rings as usize) {
            loader.map_max_entries(name, rings.bulk);
        }
        loader.map_max_entries("LIFE", rings.life);
        let bpf = loader.load(object).map_err(|e| denied_or("loading the eBPF maps", &e))?;
        let tasks = map_array(&bpf, "TASKS", (pid_max as usize).div_ceil(4) * 8 + 8)?;
        let slots = map_array(&bpf, "SLOT", SLOTS as usize * size_of::<Slot>())?;
        let table = Arc::new(Table { tasks, slots, pid_max, next_free: AtomicU32::new(1) });
        let this = Self { bpf, table, rings, missing: offsets.missing.clone(), absent: Vec::new() };
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
        for hook in HOOKS {
            let result = self.attach_one(hook.name);
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

    /// Loads and attaches one program.
    pub(crate) fn attach_one(&mut self, name: &str) -> Result<(), RecordError> {
        let what = format!("attaching to {name}");
        let program = self.bpf.program_mut(name).ok_or_else(|| RecordError::KernelLacks {
            what: format!("the program {name} in the eBPF object"),
            fix: "rebuild it with `cargo xtask bpf`".into(),
        })?;
        let program: &mut RawTracePoint = program.try_into().map_err(|e| denied_or_program(&what, &e))?;
        let needed = NEEDS.iter().find(|(hook, _)| *hook == name).map_or(&[][..], |(_, fields)| fields);
        if let Some(field) = needed.iter().find(|f| self.missing.iter().any(|m| m == *f)) {
            return Err(RecordError::KernelLacks {
                what: format!("the field {field}, which {name} needs"),
                fix: "run `ctrace doctor`".into(),
            });
        }
        program.load().map_err(|e| denied_or_program(&what, &e))?;
        let older = OLDER.iter().find(|(hook, _)| *hook == name).map(|(_, older)| *older);
        let attached = match (program.attach(name), older) {
            (Err(_), Some(older)) => program.attach(older),
            (result, _) => result,
        };
        attached.map_err(|e| denied_or_program(&what, &e))?;
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
        let mut rings = vec![Ring::open(map_fd(&self.bpf, "LIFE")?, self.rings.life)?];
        for i in 0..self.rings.rings {
            rings.push(Ring::open(map_fd(&self.bpf, &ring_name(i))?, self.rings.bulk)?);
        }
        Ok(rings)
    }

    /// Puts the free slot numbers where the kernel takes them from, except the first `kept`, which user space gives
    /// to the tasks that exist when recording begins.
    pub(crate) fn fill_free(&self, kept: u32) -> Result<(), RecordError> {
        let map = self.bpf.map("FREE").ok_or_else(|| no_map("FREE"))?;
        let queue = aya::maps::Queue::<&MapData, u32>::try_from(map);
        drop(queue);
        let fd = map_fd(&self.bpf, "FREE")?;
        for number in kept.max(1)..SLOTS {
            push(fd, number).map_err(RecordError::system("filling the slot queue"))?;
        }
        Ok(())
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

    /// The task table.
    pub(crate) fn table(&self) -> Arc<Table> {
        Arc::clone(&self.table)
    }

    /// The recorded cgroups.
    pub(crate) fn groups(&self) -> Result<GroupMap, RecordError> {
        let fd = map_fd(&self.bpf, "GROUPS")?;
        let fd = fd.try_clone_to_owned().map_err(RecordError::system("keeping the map of cgroups"))?;
        Ok(GroupMap { fd })
    }

    /// The ring of cgroups that are made and removed, and what to wait on for it.
    pub(crate) fn group_events(&self) -> Result<(Ring, OwnedFd), RecordError> {
        let fd = map_fd(&self.bpf, "GROUP_EVENTS")?;
        let ring = Ring::open(fd, GROUP_EVENTS)?;
        let fd = fd.try_clone_to_owned().map_err(RecordError::system("keeping the ring of cgroups"))?;
        Ok((ring, fd))
    }

    /// The slots that have a call in flight, after detaching.
    pub(crate) fn in_flight(&self) -> Vec<Slot> {
        self.table.in_flight()
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

    /// A hash map of the object.
    pub(crate) fn hash<K: aya::Pod, V: aya::Pod>(
        &mut self,
        name: &str,
    ) -> Option<aya::maps::HashMap<&mut MapData, K, V>> {
        aya::maps::HashMap::try_from(self.bpf.map_mut(name)?).ok()
    }

    /// How often the kernel skipped the program that records calls because it was already running on that CPU
    /// (`bpf_prog_info.recursion_misses`, Linux 5.12).
    pub(crate) fn skipped(&self) -> u64 {
        self.bpf.program("sys_exit").and_then(|p| p.fd().ok().map(|fd| misses(fd.as_fd()))).unwrap_or(0)
    }
}

impl Table {
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
    ///
    /// `faults` are its counters of minor and major page faults, which are not of this recording.
    pub(crate) fn admit(&self, tid: u32, tgid: u32, start_ns: u64, held: bool, kept: u32, faults: [u64; 2]) {
        let Some(entry) = self.entry(tid) else { return };
        let number = self.next_free.fetch_add(1, Ordering::Relaxed);
        if number >= kept {
            entry.store(NO_SLOT, Ordering::Relaxed);
            return;
        }
        if let Some(slot) = self.slots.element::<Slot>(number as usize * size_of::<Slot>()) {
            // SAFETY: all zeros is a valid Slot.
            let mut fresh: Slot = unsafe { std::mem::zeroed() };
            fresh.call.tid = tid;
            fresh.call.tgid = tgid;
            fresh.start_ns = start_ns;
            fresh.fresh = if held { HELD } else { 0 };
            fresh.usage.from_ns = crate::clock::boottime_ns();
            fresh.usage.faults = faults;
            // SAFETY: inside the mapping; the kernel does not use the slot before the table names it.
            unsafe { slot.write(fresh) };
        }
        fence(Ordering::SeqCst);
        entry.store(number as u16, Ordering::Release);
    }

    /// Takes a thread out of the table.
    pub(crate) fn expel(&self, tid: u32) {
        if let Some(entry) = self.entry(tid) {
            entry.store(0, Ordering::Relaxed);
        }
    }

    /// The slots that have a call in flight, after detaching.
    pub(crate) fn in_flight(&self) -> Vec<Slot> {
        self.members().into_iter().filter(|slot| slot.busy != 0).collect()
    }

    /// Every thread of the table with its slot, after detaching.
    pub(crate) fn members(&self) -> Vec<Slot> {
        let mut out = Vec::new();
        for number in 1..SLOTS as usize {
            if let Some(at) = self.slots.element::<Slot>(number * size_of::<Slot>()) {
                // SAFETY: inside the mapping; the programs are detached.
                let slot = unsafe { at.read() };
                let current = self.entry(slot.call.tid).map_or(0, |e| e.load(Ordering::Relaxed));
                if usize::from(current) == number {
                    out.push(slot);
                }
            }
        }
        out
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

/// `bpf(BPF_MAP_UPDATE_ELEM)` without a key: pushes on a queue.
fn push(fd: BorrowedFd<'_>, value: u32) -> std::io::Result<()> {
    let map_fd = fd.as_raw_fd() as u32;
    bpf(2, &MapAttr { map_fd, pad: 0, key: 0, value: (&raw const value) as u64, flags: 0 }).map(drop)
}

/// The part of `union bpf_attr` for commands on elements of maps.
#[repr(C)]
struct MapAttr {
    map_fd: u32,
    pad: u32,
    key: u64,
    value: u64,
    flags: u64,
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
