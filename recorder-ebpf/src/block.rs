//! Requests of block devices that tasks of the scope make.

use crate::{
    kernel::read_or_zero,
    maps::{BLOCKS, global, lost, send_bulk},
    scope::{arg, slot_number},
};
use aya_ebpf::{
    helpers::{bpf_get_current_pid_tgid, generated::bpf_ktime_get_boot_ns},
    macros::raw_tracepoint,
    programs::RawTracePointContext,
};
use ctrace_abi::{BlockEvent, kind, loss};

#[inline(always)]
fn now() -> u64 {
    // SAFETY: no preconditions.
    unsafe { bpf_ktime_get_boot_ns() }
}

/// The device of a request: its partition's, or else its disk's.
#[inline(always)]
fn device(rq: u64) -> u32 {
    let part: u64 = read_or_zero(rq, global!(rq_part));
    if part != 0 {
        return read_or_zero(part, global!(part_dev));
    }
    let disk: u64 = read_or_zero(read_or_zero(rq, global!(rq_queue)), global!(queue_disk));
    read_or_zero::<u32>(disk, global!(disk_major)) << 20 | read_or_zero::<u32>(disk, global!(disk_minor))
}

#[inline(always)]
fn begin(rq: u64, tid: u32, issued_ns: u64) {
    let request = BlockEvent {
        kind: kind::BLOCK,
        tid,
        from_ns: now(),
        issued_ns,
        sector: read_or_zero(rq, global!(rq_sector)),
        dev: device(rq),
        flags: read_or_zero(rq, global!(rq_flags)),
        ..BlockEvent::default()
    };
    if BLOCKS.insert(&rq, &request, 0).is_err() {
        lost(loss::BLOCK_MAP);
    }
}

/// `TP_PROTO(struct request *rq)`, since Linux 6.5: in the task that asks.
#[raw_tracepoint(tracepoint = "block_io_start")]
pub fn block_io_start(ctx: RawTracePointContext) -> i32 {
    let rq = arg(&ctx, 0);
    let tid = bpf_get_current_pid_tgid() as u32;
    if slot_number(tid) == 0 {
        // A request of ours that was merged into another one never ended; its memory is somebody else's now.
        let _ = BLOCKS.remove(&rq);
        return 0;
    }
    begin(rq, tid, 0);
    0
}

/// `TP_PROTO(struct request *rq)`, where there is no `block_io_start`: it goes into a queue, from which another task may
/// take it. What does not is issued by the task that asks.
#[raw_tracepoint(tracepoint = "block_rq_insert")]
pub fn block_rq_insert(ctx: RawTracePointContext) -> i32 {
    let rq = arg(&ctx, 0);
    if let Some(request) = BLOCKS.get_ptr_mut(&rq) {
        // SAFETY: a value of the map; a request is at one place at a time.
        if unsafe { (*request).sector } == read_or_zero::<u64>(rq, global!(rq_sector)) {
            // The device was busy, and somebody puts it back.
            return 0;
        }
        // As above, of one that was merged.
        let _ = BLOCKS.remove(&rq);
    }
    let tid = bpf_get_current_pid_tgid() as u32;
    if slot_number(tid) != 0 {
        begin(rq, tid, 0);
    }
    0
}

/// `TP_PROTO(struct request *rq)`: the device gets it, often from another task.
#[raw_tracepoint(tracepoint = "block_rq_issue")]
pub fn block_rq_issue(ctx: RawTracePointContext) -> i32 {
    let rq = arg(&ctx, 0);
    if let Some(request) = BLOCKS.get_ptr_mut(&rq) {
        // SAFETY: a value of the map; a request is at one place at a time.
        let request = unsafe { &mut *request };
        request.issued_ns = now();
        request.sector = read_or_zero(rq, global!(rq_sector));
        // Its partition is set after it was asked for.
        request.dev = device(rq);
        return 0;
    }
    let tid = bpf_get_current_pid_tgid() as u32;
    if slot_number(tid) != 0 {
        begin(rq, tid, now());
    }
    0
}

/// `TP_PROTO(struct request *rq, blk_status_t error, unsigned int nr_bytes)`: in an interrupt.
#[raw_tracepoint(tracepoint = "block_rq_complete")]
pub fn block_rq_complete(ctx: RawTracePointContext) -> i32 {
    let rq = arg(&ctx, 0);
    let Some(request) = BLOCKS.get_ptr_mut(&rq) else { return 0 };
    // SAFETY: a value of the map; a request is at one place at a time.
    let request = unsafe { &mut *request };
    let done = arg(&ctx, 2) as u32;
    request.bytes += u64::from(done);
    request.status = arg(&ctx, 1) as u8;
    if done < read_or_zero::<u32>(rq, global!(rq_data_len)) {
        return 0;
    }
    request.t_ns = now();
    send_bulk(request, loss::BLOCK_RING);
    let _ = BLOCKS.remove(&rq);
    0
}
