//! Requests that go through an `io_uring`: no call tells of them.

use crate::{
    kernel::read_or_zero,
    maps::{URINGS, global, lost, send_bulk},
    scope::{arg, slot_number},
};
use aya_ebpf::{
    helpers::{bpf_get_current_pid_tgid, generated::bpf_ktime_get_boot_ns},
    macros::raw_tracepoint,
    programs::RawTracePointContext,
};
use ctrace_abi::{UringEvent, kind, loss};

/// `IORING_CQE_F_MORE`, include/uapi/linux/io_uring.h.
const MORE: u32 = 2;

/// `TP_PROTO(struct io_kiocb *req)`; before Linux 6.3 it is `io_uring_submit_sqe`, with a flag behind the request.
#[raw_tracepoint(tracepoint = "io_uring_submit_req")]
pub fn io_uring_submit_req(ctx: RawTracePointContext) -> i32 {
    let req = arg(&ctx, 0);
    let pid_tgid = bpf_get_current_pid_tgid();
    let mut tid = pid_tgid as u32;
    if slot_number(tid) == 0 {
        // A kernel thread that polls the ring is a thread of the process that nobody saw begin.
        tid = (pid_tgid >> 32) as u32;
        if slot_number(tid) == 0 {
            // The memory of a request that never told its end may be somebody else's now.
            let _ = URINGS.remove(&req);
            return 0;
        }
    }
    let request = UringEvent {
        kind: kind::URING,
        opcode: read_or_zero(req, global!(uring_opcode)),
        tid,
        // SAFETY: no preconditions.
        from_ns: unsafe { bpf_ktime_get_boot_ns() },
        ..UringEvent::default()
    };
    if URINGS.insert(&req, &request, 0).is_err() {
        lost(loss::URING_MAP);
    }
    0
}

/// `TP_PROTO(struct io_ring_ctx *ctx, void *req, struct io_uring_cqe *cqe)`; before Linux 6.10 the fields of the
/// completion: `u64 user_data, int res, unsigned cflags, …`.
#[raw_tracepoint(tracepoint = "io_uring_complete")]
pub fn io_uring_complete(ctx: RawTracePointContext) -> i32 {
    let req = arg(&ctx, 1);
    let Some(request) = URINGS.get_ptr_mut(&req) else { return 0 };
    // SAFETY: a value of the map; a request completes in one place at a time.
    let request = unsafe { &mut *request };
    let flags: u32;
    if global!(uring_flat) == 0 {
        let cqe = arg(&ctx, 2);
        request.ret = read_or_zero(cqe, global!(cqe_res));
        flags = read_or_zero(cqe, global!(cqe_flags));
    } else {
        request.ret = arg(&ctx, 3) as i32;
        flags = arg(&ctx, 4) as u32;
    }
    // The file is looked up after the submission. Not every operation has one: the field then holds something else,
    // which is no file that user space knows.
    request.file = read_or_zero(req, global!(uring_file));
    // SAFETY: no preconditions.
    request.t_ns = unsafe { bpf_ktime_get_boot_ns() };
    send_bulk(request, loss::URING_RING);
    if flags & MORE != 0 {
        request.from_ns = request.t_ns;
    } else {
        let _ = URINGS.remove(&req);
    }
    0
}
