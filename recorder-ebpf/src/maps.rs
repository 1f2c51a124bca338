//! The maps, and how records leave the kernel.

use aya_ebpf::{
    helpers::{bpf_get_smp_processor_id, generated::bpf_ringbuf_output},
    macros::map,
    maps::{Array, HashMap, LruHashMap, PerCpuArray, Queue, RingBuf},
};
use core::arch::asm;
use ctrace_abi::{
    AGGREGATES, Aggregate, AggregateKey, BlockEvent, CapKey, Globals, Group, Head, OpenedFile, Pending,
    SCRATCH, SEGMENT, SLOTS, SPECS, Shared, Slot, Spec, Traffic, UringEvent, loss,
};

/// `BPF_F_MMAPABLE`, include/uapi/linux/bpf.h: user space fills these arrays through a mapping.
const MMAPABLE: u32 = 1 << 10;
/// `BPF_F_NO_PREALLOC`: memory for what is there, not for what could be.
const NO_PREALLOC: u32 = 1;
/// `BPF_RB_NO_WAKEUP`: a wake-up costs 1.4 µs; the reader looks by itself every few milliseconds.
const NO_WAKEUP: u64 = 1;

/// Offsets and switches; read-only after load, so that the verifier sees constants and prunes what is missing.
#[unsafe(no_mangle)]
static GLOBALS: Globals = Globals::unknown();

/// Four slot numbers per entry, indexed by thread id: 0 means "not recorded". Rejecting a task costs one load.
/// User space sizes it by `pid_max`.
#[map]
pub static TASKS: Array<[u16; 4]> = Array::with_max_entries(1 << 20, MMAPABLE);
/// State of the recorded tasks.
#[map]
pub static SLOT: Array<Slot> = Array::with_max_entries(SLOTS, MMAPABLE);
/// Free slot numbers.
#[map]
pub static FREE: Queue<u32> = Queue::with_max_entries(SLOTS, 0);
/// What to do per call number.
#[map]
pub static SPEC: Array<Spec> = Array::with_max_entries(SPECS, MMAPABLE);
/// Events that did not reach a ring, by [`loss`].
#[map]
pub static LOST: PerCpuArray<u64> = PerCpuArray::with_max_entries(loss::COUNT, 0);
/// Positions of the bulk rings, by CPU. User space sizes it, and [`BULK`].
#[map]
pub static HEADS: Array<Head> = Array::with_max_entries(1, MMAPABLE);
/// The segments of the bulk rings: `segments` of [`GLOBALS`] for each CPU.
#[map]
pub static BULK: Array<[u8; SEGMENT]> = Array::with_max_entries(4, MMAPABLE);
/// Calls that are counted instead of recorded.
#[map]
pub static AGGREGATE: HashMap<AggregateKey, Aggregate> = HashMap::with_max_entries(AGGREGATES, NO_PREALLOC);
/// The first value of an entry of [`AGGREGATE`].
#[map]
pub static NOTHING: Array<Aggregate> = Array::with_max_entries(1, 0);
/// What tells tasks of the scope from others before any helper call.
#[map]
pub static SHARED: Array<Shared> = Array::with_max_entries(1, MMAPABLE);
/// Records under construction: 0 at entry, 1 at exit, 2 objects, 3 life, 4 messages and traffic. A program cannot be entered twice on a CPU
/// (`bpf_prog.active`), and different programs use different entries.
#[map]
pub static SCRATCHES: PerCpuArray<[u8; SCRATCH]> = PerCpuArray::with_max_entries(5, 0);
/// A walk in progress, by pathname or argument vector. Its state is in a map, so that the verifier does not tell the
/// steps apart.
#[repr(C)]
pub struct Walk {
    /// Where it is.
    pub dentry: u64,
    /// In which mount.
    pub mnt: u64,
    /// Where it ends.
    pub root_dentry: u64,
    /// In which mount.
    pub root_mnt: u64,
    /// Bytes written so far.
    pub used: u64,
    /// Words seen so far.
    pub count: u64,
    /// Address of the next pointer.
    pub next: u64,
    /// Where the bytes go in the scratch buffer.
    pub base: u64,
    /// What went wrong.
    pub fault: u64,
    /// Not 0: the time that descriptions of objects get. At a call's exit this is the call's end, so that a
    /// description never comes after the call that it belongs to.
    pub now: u64,
}

/// 0: a path; 1: an argument vector; 2: the threads of a process; 3: control data of messages.
#[map]
pub static WALK: PerCpuArray<Walk> = PerCpuArray::with_max_entries(4, 0);
/// Files whose description was already sent, by `struct file *`.
#[map]
pub static ANNOUNCED: LruHashMap<u64, OpenedFile> = LruHashMap::with_max_entries(32_768, 0);

/// The next entry of [`ANNOUNCED`], which has no room on the stack (see `read_to`).
#[map]
pub static NEXT: PerCpuArray<OpenedFile> = PerCpuArray::with_max_entries(1, 0);

/// A TCP socket of the scope.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Followed {
    /// The thread that met it first.
    pub tid: u32,
    /// When it was last sampled, in timer ticks; the count wraps.
    pub sampled: u32,
}

/// TCP sockets of the scope, by `struct sock *`.
#[map]
pub static SOCKS: HashMap<u64, Followed> = HashMap::with_max_entries(65_536, NO_PREALLOC);

/// Listening sockets of the scope: network namespace and port → the thread that met it first. User space puts
/// those in that were there before the recording.
#[map]
pub static LISTENERS: HashMap<[u64; 2], u32> = HashMap::with_max_entries(4096, NO_PREALLOC);

/// Traffic of the scope's other sockets, by `struct sock *`.
#[map]
pub static TRAFFIC: HashMap<u64, Traffic> = HashMap::with_max_entries(65_536, NO_PREALLOC);
/// Messages that the `sendmmsg` or `recvmmsg` in flight of a thread has moved: entry time of the call, and number.
#[map]
pub static MESSAGES: LruHashMap<u32, [u64; 2]> = LruHashMap::with_max_entries(1024, 0);
/// Capability checks that were not reported yet.
#[map]
pub static CAPS: HashMap<CapKey, u64> = HashMap::with_max_entries(65_536, NO_PREALLOC);
/// What tasks are in the middle of, by the number of their slot. User space gives it room where kprobes are used.
#[map]
pub static PENDING: Array<Pending> = Array::with_max_entries(1, 0);
/// Block requests of the scope, by `struct request *`.
#[map]
pub static BLOCKS: HashMap<u64, BlockEvent> = HashMap::with_max_entries(16_384, NO_PREALLOC);
/// Requests of the scope's rings, by `struct io_kiocb *`.
#[map]
pub static URINGS: HashMap<u64, UringEvent> = HashMap::with_max_entries(65_536, NO_PREALLOC);
/// The recorded cgroups: identity (`kernfs_node.id`) → the number that user space gave it. Only user space writes.
#[map]
pub static GROUPS: HashMap<u64, u32> = HashMap::with_max_entries(4096, NO_PREALLOC);
/// Cgroups made and removed. They are few, and who waits for one wants it before a container's first process runs:
/// this ring wakes its reader.
#[map]
static GROUP_EVENTS: RingBuf = RingBuf::with_byte_size(1 << 18, 0);

/// Tells user space of a cgroup. What does not fit is found by its next look at the runtime.
#[inline(always)]
pub fn send_group(record: &Group) {
    // SAFETY: the verifier checks that `record` is readable for its size.
    let _ = unsafe {
        bpf_ringbuf_output(
            (&raw const GROUP_EVENTS).cast_mut().cast(),
            core::ptr::from_ref(record).cast_mut().cast(),
            size_of::<Group>() as u64,
            0,
        )
    };
}

/// Lifecycle, connections, signals: never starved by bulk events.
#[map]
pub static LIFE: RingBuf = RingBuf::with_byte_size(1 << 20, 0);

macro_rules! rings {
    ($($n:literal $name:ident)*) => {
        $(#[map]
        static $name: RingBuf = RingBuf::with_byte_size(4096, 0);)*
        /// Sends `len` bytes through the ring of this CPU. False: the ring is full.
        ///
        /// aya-ebpf has no maps of maps, hence a ring per name. The choice is a tree of compares.
        #[inline(always)]
        pub fn send(data: *const u8, len: u64) -> bool {
            // SAFETY: no preconditions.
            let cpu = unsafe { bpf_get_smp_processor_id() };
            let ring = match cpu & (ctrace_abi::RINGS - 1) {
                $($n => &raw const $name,)*
                _ => return false,
            };
            // SAFETY: `ring` is a map, and the verifier checks `data` and `len`.
            unsafe { bpf_ringbuf_output(ring.cast_mut().cast(), data.cast_mut().cast(), len, NO_WAKEUP) == 0 }
        }
    };
}
rings! { 0 RING_00 1 RING_01 2 RING_02 3 RING_03 4 RING_04 5 RING_05 6 RING_06 7 RING_07
8 RING_08 9 RING_09 10 RING_10 11 RING_11 12 RING_12 13 RING_13 14 RING_14 15 RING_15 }

/// Sends a lifecycle record, or counts its loss.
#[inline(always)]
pub fn send_life<T>(record: &T, class: u32) -> bool {
    send_life_bytes(core::ptr::from_ref(record).cast(), size_of::<T>() as u64, class)
}

/// As [`send_life`], a record of variable length.
#[inline(always)]
pub fn send_life_bytes(record: *const u8, len: u64, class: u32) -> bool {
    // SAFETY: the verifier checks that `record` is readable for its size.
    let ok = unsafe {
        bpf_ringbuf_output((&raw const LIFE).cast_mut().cast(), record.cast_mut().cast(), len, NO_WAKEUP) == 0
    };
    if !ok {
        lost(class);
    }
    ok
}

/// Sends a record through the ring of this CPU, or counts its loss.
#[inline(always)]
pub fn send_bulk<T>(record: &T, class: u32) {
    if !send(core::ptr::from_ref(record).cast(), size_of::<T>() as u64) {
        lost(class);
    }
}

/// Adds to a counter that other CPUs may add to as well. The target's `core` has no atomic types.
///
/// # Safety
/// `to` is a word of a map's value, aligned to 8.
#[inline(always)]
pub unsafe fn add(to: *mut u64, n: u64) {
    // SAFETY: one instruction (Linux 3.18), on the caller's word.
    unsafe { asm!("lock *(u64 *)({to} + 0) += {n}", to = in(reg) to, n = in(reg) n, options(nostack)) };
}

/// Counts one lost event.
#[inline(always)]
pub fn lost(class: u32) {
    if let Some(counter) = LOST.get_ptr_mut(class) {
        // SAFETY: per-CPU memory; an interrupting program can only add to another class or lose one count.
        unsafe { *counter += 1 };
    }
}

/// A field of [`GLOBALS`].
macro_rules! global {
    ($field:ident) => {{
        // SAFETY: a plain load; volatile because the loader replaces the value that the compiler sees.
        unsafe { core::ptr::read_volatile(&raw const (*$crate::maps::globals()).$field) }
    }};
}
pub(crate) use global;

/// Where [`GLOBALS`] is.
#[inline(always)]
pub fn globals() -> *const Globals {
    &raw const GLOBALS
}

/// A buffer to build a record in.
#[inline(always)]
pub fn scratch(which: u32) -> Option<*mut u8> {
    SCRATCHES.get_ptr_mut(which).map(<*mut _>::cast)
}
