//! The kernel half from user space: load, attach, shared tables, counters.

mod direct;
mod failures;
mod groups;
mod syscall;

use crate::btf::{self, Kernel, Offsets};
use crate::clock;
use crate::error::RecordError;
use crate::hooks::{self, At, HOOKS, Instead, Substitute};
use crate::mapped::{Mapping, Windows, page_size};
use crate::ring::{BulkRing, Ring, SharedRing};
use crate::table::Table;
use crate::verifier::Cost;
use aya::maps::{Map, MapData};
use aya::programs::{KProbe, Program, ProgramError, RawTracePoint};
use aya::{Ebpf, EbpfLoader};
use ctrace_abi::{
    Aggregate, AggregateKey, AggregateRecord, Globals, Head, RINGS, SEGMENT, SLOTS, SPECS, Shared, Slot,
    Spec, WINDOW_NS, kind, loss,
};
use failures::{attaching, chain, denied_or, denied_or_program, no_map, no_program};
pub(crate) use groups::GroupMap;
use std::collections::BTreeMap;
use std::fmt;
use std::mem::offset_of;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use syscall::misses;

/// The object that `cargo xtask bpf` built. Its sources' hash is beside it.
pub(crate) static OBJECT: &[u8] = aya::include_bytes_aligned!("../bpf/ctrace.bpf.o");

/// Size of the ring of cgroups that are made and removed, as the kernel half declares it.
const GROUP_EVENTS: u32 = 1 << 18;
/// A connection is looked at this often at most.
const CONNECTION_SAMPLES: Duration = Duration::from_millis(100);

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
            life: 1 << (budget / 16).clamp(1 << 20, 1 << 26).ilog2(),
            cpus: cpus.max(1),
            heads: heads.max(cpus.max(1)),
            segments: 1 << segments.ilog2(),
        }
    }
}

impl GroupMap {}

/// Loaded and attached programs. Dropping it detaches them: nothing is pinned.
pub(crate) struct Programs {
    bpf: Ebpf,
    table: Arc<Table>,
    heads: Arc<Mapping>,
    bulk: Arc<Mapping>,
    /// What [`Head::aggregated`] came to when the map of aggregates was last empty.
    settled: u64,
    rings: RingSizes,
    /// Fields that this kernel does not have.
    missing: Vec<String>,
    /// Programs that could not be attached, with the reason.
    pub(crate) absent: Vec<String>,
    /// Tracepoints that the kernel does not have, and what took their place.
    pub(crate) replaced: Vec<(&'static str, Vec<String>)>,
    /// What is not seen there.
    pub(crate) unseen: Vec<&'static str>,
}

/// Where a hook's events are seen.
pub(crate) enum Place {
    /// At its tracepoint.
    Tracepoint,
    /// At these other places; and what is not seen there.
    Instead(Vec<String>, Option<&'static str>),
}

/// Why they are not.
pub(crate) enum Absent {
    /// The kernel has no such tracepoint; and what stands in the way of what would take its place.
    NoTracepoint(Option<String>),
    /// It has it, and does not take the program.
    Refused(RecordError),
}

impl fmt::Display for Absent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoTracepoint(None) => f.write_str("no such tracepoint"),
            Self::NoTracepoint(Some(why)) => write!(f, "no such tracepoint; {why}"),
            Self::Refused(error) => error.fmt(f),
        }
    }
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
        let direct = offsets.rdonly_cast.and_then(|function| direct::object(object, function));
        let globals = PodGlobals(Globals {
            direct: u32::from(direct.is_some()),
            segments: rings.segments,
            sample_ticks: clock::ticks(CONNECTION_SAMPLES),
            ..offsets.globals
        });
        let mut loader = EbpfLoader::new();
        // Nothing in the object is relocated by it: the kernel's offsets come in `globals`. Parsing it takes time and memory.
        loader.btf(None);
        loader.override_global("GLOBALS", &globals, true).map_max_entries("TASKS", pid_max.div_ceil(4) + 1);
        for name in names.iter().take(rings.rings as usize) {
            loader.map_max_entries(name, rings.bulk);
        }
        loader.map_max_entries("LIFE", rings.life);
        loader.map_max_entries("PENDING", if offsets.kprobes { SLOTS } else { 1 });
        loader.map_max_entries("HEADS", rings.heads).map_max_entries("BULK", rings.cpus * rings.segments);
        let bpf = loader
            .load(direct.as_deref().unwrap_or(object))
            .map_err(|e| denied_or("loading the eBPF maps", &e))?;
        let tasks = windows(&bpf, "TASKS", 8, (pid_max as usize).div_ceil(4) + 1)?;
        let slots = windows(&bpf, "SLOT", size_of::<Slot>(), SLOTS as usize)?;
        let shared = map_array(&bpf, "SHARED", size_of::<Shared>())?;
        let table = Arc::new(Table::new(tasks, slots, shared, pid_max));
        let heads = Arc::new(map_array(&bpf, "HEADS", rings.heads as usize * size_of::<Head>())?);
        let bulk = Arc::new(map_array(&bpf, "BULK", (rings.cpus * rings.segments) as usize * SEGMENT)?);
        let missing = offsets.missing.clone();
        let this = Self {
            bpf,
            table,
            heads,
            bulk,
            settled: 0,
            rings,
            missing,
            absent: Vec::new(),
            replaced: Vec::new(),
            unseen: Vec::new(),
        };
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
        let mut refused = self.verify(|program| hooks::is_wanted(kernel, program));
        for hook in HOOKS {
            let result = match refused.remove(hook.name) {
                Some(error) => Err(Absent::Refused(denied_or_program(&attaching(hook.name), &error))),
                None => self.place(kernel, hook.name),
            };
            match result {
                Ok(Place::Tracepoint) => {}
                Ok(Place::Instead(places, unseen)) => {
                    tracing::debug!(hook = hook.name, ?places, "replaced");
                    self.replaced.push((hook.name, places));
                    if let Some(unseen) = unseen.filter(|u| !self.unseen.contains(u)) {
                        self.unseen.push(unseen);
                    }
                }
                Err(Absent::Refused(error)) if hook.required => return Err(error),
                Err(absent) => {
                    tracing::debug!(hook = hook.name, why = %absent, "not attached");
                    self.absent.push(format!("{}: {} ({absent})", hook.loses, hook.name));
                }
            }
        }
        Ok(())
    }

    /// What a recording lacks, in words.
    pub(crate) fn blind(&self) -> Vec<String> {
        self.absent.iter().cloned().chain(self.unseen.iter().map(|u| (*u).to_owned())).collect()
    }

    /// Loads every program, also those that this kernel would not need.
    pub(crate) fn verify_all(&mut self) -> Result<(), RecordError> {
        let refused = self.verify(|_| true);
        let required = HOOKS.iter().filter(|h| h.required).find_map(|h| Some((h.name, refused.get(h.name)?)));
        match required {
            Some((name, error)) => Err(denied_or_program(&attaching(name), error)),
            None => Ok(()),
        }
    }

    /// Loads programs, as many at a time as there are CPUs: the verifier takes most of the time until a recording is
    /// armed. Gives those that the kernel refused.
    fn verify(&mut self, wanted: impl Fn(&str) -> bool) -> BTreeMap<String, ProgramError> {
        let workers = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let programs: Vec<(String, &mut Program)> = self
            .bpf
            .programs_mut()
            .filter(|(name, _)| wanted(name))
            .map(|(name, program)| (name.to_owned(), program))
            .collect();
        let (left, refused) = (Mutex::new(programs), Mutex::new(BTreeMap::new()));
        std::thread::scope(|scope| {
            for _ in 0..workers {
                scope.spawn(|| {
                    loop {
                        let next = left.lock().unwrap_or_else(PoisonError::into_inner).pop();
                        let Some((name, program)) = next else { break };
                        if let Err(error) = load_program(program) {
                            refused.lock().unwrap_or_else(PoisonError::into_inner).insert(name, error);
                        }
                    }
                });
            }
        });
        refused.into_inner().unwrap_or_else(PoisonError::into_inner)
    }

    /// Loads and attaches the program of a hook, or what takes its place where the kernel lacks the tracepoint.
    pub(crate) fn place(&mut self, kernel: &Kernel, name: &str) -> Result<Place, Absent> {
        if let Some(field) = hooks::needs(name).iter().find(|f| self.missing.iter().any(|m| m == *f)) {
            return Err(Absent::Refused(RecordError::KernelLacks {
                what: format!("the field {field}, which {name} needs"),
                fix: "run `ctrace doctor`".into(),
            }));
        }
        match hooks::instead(kernel, name) {
            Some(instead) => match self.attach_instead(kernel, instead) {
                Ok(places) => Ok(Place::Instead(places, instead.unseen)),
                Err(why) => Err(Absent::NoTracepoint(Some(why))),
            },
            None => match self.attach_tracepoint(name) {
                Ok(()) => Ok(Place::Tracepoint),
                Err(_) if !kernel.has_tracepoint(name) => Err(Absent::NoTracepoint(None)),
                Err(error) => Err(Absent::Refused(error)),
            },
        }
    }

    fn attach_tracepoint(&mut self, name: &str) -> Result<(), RecordError> {
        let what = attaching(name);
        let program = self.bpf.program_mut(name).ok_or_else(|| no_program(name))?;
        let program: &mut RawTracePoint = program.try_into().map_err(|e| denied_or_program(&what, &e))?;
        match program.load() {
            Ok(()) | Err(ProgramError::AlreadyLoaded) => {}
            Err(error) => return Err(denied_or_program(&what, &error)),
        }
        let attached = match (program.attach(name), hooks::older(name)) {
            (Err(_), Some(older)) => program.attach(older),
            (result, _) => result,
        };
        attached.map_err(|e| denied_or_program(&what, &e))?;
        Ok(())
    }

    /// Attaches what takes a tracepoint's place: all of it, or nothing. Where that is, or what stands in the way.
    fn attach_instead(&mut self, kernel: &Kernel, instead: &Instead) -> Result<Vec<String>, String> {
        let attached: Result<Vec<_>, String> =
            instead.programs.iter().map(|substitute| self.attach_substitute(kernel, substitute)).collect();
        if attached.is_err() {
            for substitute in instead.programs {
                if let Some(program) = self.bpf.program_mut(substitute.program) {
                    unload(program);
                }
            }
        }
        attached.map(|mut places| {
            places.dedup();
            places
        })
    }

    fn attach_substitute(&mut self, kernel: &Kernel, substitute: &Substitute) -> Result<String, String> {
        let name = substitute.program;
        let At::Function(function, parameters) = substitute.at else {
            return match self.attach_tracepoint(name) {
                Ok(()) => Ok(format!("tracepoint {name}")),
                Err(_) if !kernel.has_tracepoint(name) => Err(format!("no tracepoint {name}")),
                Err(error) => Err(error.to_string()),
            };
        };
        if !hooks::has_kprobes() {
            return Err("no kprobes".to_owned());
        }
        if !kernel.has_function(function, parameters) {
            return Err(format!("no function {function} as it is known"));
        }
        let refused = |error: ProgramError| format!("kprobe {function}: {}", chain(&error));
        let program = self.bpf.program_mut(name).ok_or_else(|| no_program(name).to_string())?;
        let program: &mut KProbe = program.try_into().map_err(refused)?;
        match program.load() {
            Ok(()) | Err(ProgramError::AlreadyLoaded) => {}
            Err(error) => return Err(refused(error)),
        }
        program.attach(function, 0).map_err(refused)?;
        Ok(format!("kprobe {function}"))
    }

    /// Stops every program. Maps stay readable.
    pub(crate) fn detach(&mut self) {
        for name in hooks::programs() {
            if let Some(program) = self.bpf.program_mut(name) {
                unload(program);
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
        let ring = Ring::Shared(SharedRing::open(fd, GROUP_EVENTS)?);
        let fd = fd.try_clone_to_owned().map_err(RecordError::system("keeping the ring of cgroups"))?;
        Ok((ring, fd))
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

    /// Loss counters: `[class][cpu]`.
    pub(crate) fn lost(&self) -> Vec<Vec<u64>> {
        let Some(map) = self.bpf.map("LOST") else { return Vec::new() };
        let Ok(array) = aya::maps::PerCpuArray::<&MapData, u64>::try_from(map) else { return Vec::new() };
        (0..loss::COUNT).map(|i| array.get(&i, 0).map(|v| v.to_vec()).unwrap_or_default()).collect()
    }

    /// Whether the loss counters can be read with what the calling thread has.
    pub(crate) fn counters_are_readable(&self) -> bool {
        self.lost().iter().all(|per_cpu| !per_cpu.is_empty())
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

fn load_program(program: &mut Program) -> Result<(), ProgramError> {
    match program {
        Program::RawTracePoint(program) => program.load(),
        Program::KProbe(program) => program.load(),
        // The object has no others.
        _ => Err(ProgramError::UnexpectedProgramType),
    }
}

fn unload(program: &mut Program) {
    // Not loaded, it does nothing.
    let _ = match program {
        Program::RawTracePoint(program) => program.unload(),
        Program::KProbe(program) => program.unload(),
        _ => Ok(()),
    };
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
    Mapping::new(map_fd(bpf, name)?, bytes.next_multiple_of(page_size()), 0, true)
        .map_err(RecordError::system(format!("mapping {name}")))
}

fn windows(bpf: &Ebpf, name: &str, size: usize, count: usize) -> Result<Windows, RecordError> {
    Windows::new(map_fd(bpf, name)?, size, count).map_err(RecordError::system(format!("keeping {name}")))
}

/// Highest process id of this machine.
fn pid_max() -> u32 {
    std::fs::read_to_string("/proc/sys/kernel/pid_max")
        .ok()
        .and_then(|t| t.trim().parse().ok())
        // PID_MAX_LIMIT, include/linux/threads.h.
        .unwrap_or(4 << 20)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_larger_budget_gives_every_ring_more() {
        let (small, large) = (RingSizes::within(16 << 20, 2), RingSizes::within(64 << 20, 2));
        assert_eq!(small.life, 1 << 20);
        assert!(large.life > small.life && large.bulk > small.bulk && large.segments > small.segments);
    }

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
        // What this kernel has is attached; what it has not, as the kernel lists it, is said.
        let events = ["/sys/kernel/tracing", "/sys/kernel/debug/tracing"]
            .iter()
            .find_map(|at| std::fs::read_to_string(format!("{at}/available_events")).ok());
        let listed = |name: &str| {
            events.as_ref().is_some_and(|e| e.lines().any(|l| l.split(':').nth(1) == Some(name)))
        };
        for absent in &programs.absent {
            let hook = HOOKS.iter().find(|h| absent.starts_with(&format!("{}: {} (", h.loses, h.name)));
            let hook = hook.unwrap_or_else(|| panic!("{absent}"));
            assert!(!listed(hook.name) && absent.contains("(no such tracepoint"), "{absent}");
            // What can be seen elsewhere is.
            assert!(hooks::instead(&kernel, hook.name).is_none() || !hooks::has_kprobes(), "{absent}");
            println!("not on this kernel: {absent}");
        }
        assert_eq!(programs.skipped(), 0);
        assert!(programs.lost().iter().flatten().all(|n| *n == 0));
    }

    #[test]
    fn substitutes_load_everywhere_and_say_why_they_are_not_attached() {
        if !crate::caps::can_load() {
            eprintln!("skipped: needs CAP_BPF and CAP_PERFMON");
            return;
        }
        let (kernel, offsets) = offsets().unwrap();
        let specs = crate::specs::table(crate::arch::HOST);
        let mut programs = Programs::load(OBJECT, &offsets, RingSizes::within(1 << 20, 2), &specs).unwrap();
        programs.verify_all().unwrap();
        for instead in hooks::INSTEAD {
            let function = matches!(instead.programs[0].at, At::Function(..));
            match programs.attach_instead(&kernel, instead) {
                Ok(places) => assert!(!places.is_empty() && (!function || hooks::has_kprobes())),
                Err(why) => {
                    assert!(function && !hooks::has_kprobes(), "{why}");
                    assert_eq!(why, "no kprobes");
                }
            }
        }
        programs.detach();
        if hooks::has_kprobes() {
            for (function, parameters) in [
                ("no_such_function", &[][..]),
                ("cap_capable", &[("cap", 0)]),
                ("cap_capable", &[("cap", 9)]),
            ] {
                let none = Substitute { program: "cap_asked", at: At::Function(function, parameters) };
                let why = programs.attach_substitute(&kernel, &none).unwrap_err();
                assert_eq!(why, format!("no function {function} as it is known"));
            }
        }
    }
}
