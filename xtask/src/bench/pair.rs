//! Two BPF programs, at the entry and at the exit of every system call, that do nothing: the least that the technique can
//! cost, and so the yardstick. Or next to nothing: read the time.

use anyhow::{Context, Result};
use std::os::fd::{FromRawFd, OwnedFd};

// include/uapi/linux/bpf.h
const BPF_PROG_LOAD: libc::c_long = 5;
const BPF_RAW_TRACEPOINT_OPEN: libc::c_long = 17;
const BPF_PROG_TYPE_RAW_TRACEPOINT: u32 = 17;

/// `r0 = 0; exit`, as `struct bpf_insn` words: from the right, 8 bits of operation, the registers, 16 bits of offset and
/// 32 of immediate value.
const RETURN_ZERO: [u64; 2] = [0xb7, 0x95];

/// Reads the time if the process is this one: the least that a recorder does which tells how long calls take.
fn clock(pid: u32) -> Vec<u64> {
    // Numbers of helpers, include/uapi/linux/bpf.h.
    const KTIME_GET_NS: u64 = 5;
    const GET_CURRENT_PID_TGID: u64 = 14;
    let call = |helper: u64| 0x85 | helper << 32;
    let right_shift = 0x77 | 32_u64 << 32;
    let skip_unless = 0x55 | 1 << 16 | u64::from(pid) << 32;
    let time = [call(GET_CURRENT_PID_TGID), right_shift, skip_unless, call(KTIME_GET_NS)];
    time.into_iter().chain(RETURN_ZERO).collect()
}

static LICENSE: &std::ffi::CStr = c"Dual MIT/GPL";

/// The head of `union bpf_attr` for `BPF_PROG_LOAD`, as far as it is used; the rest counts as zero.
#[repr(C)]
struct LoadAttr {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buf: u64,
    kern_version: u32,
    prog_flags: u32,
}

/// `union bpf_attr` for `BPF_RAW_TRACEPOINT_OPEN`.
#[repr(C)]
struct OpenAttr {
    name: u64,
    prog_fd: u32,
    _pad: u32,
}

/// The attached pair; detached when dropped.
pub(super) struct Pair {
    _fds: Vec<OwnedFd>,
}

impl Pair {
    /// Programs that do nothing.
    pub(super) fn empty() -> Result<Self> {
        Self::attach(&RETURN_ZERO)
    }

    /// Programs that read the time in calls of this process.
    pub(super) fn clock(pid: u32) -> Result<Self> {
        Self::attach(&clock(pid))
    }

    fn attach(instructions: &[u64]) -> Result<Self> {
        let mut fds = Vec::new();
        for tracepoint in [c"sys_enter", c"sys_exit"] {
            let program = bpf(
                BPF_PROG_LOAD,
                &LoadAttr {
                    prog_type: BPF_PROG_TYPE_RAW_TRACEPOINT,
                    insn_cnt: instructions.len() as u32,
                    insns: instructions.as_ptr() as u64,
                    license: LICENSE.as_ptr() as u64,
                    log_level: 0,
                    log_size: 0,
                    log_buf: 0,
                    kern_version: 0,
                    prog_flags: 0,
                },
            )
            .context("loading a BPF program (needs CAP_BPF and CAP_PERFMON)")?;
            let attr = OpenAttr {
                name: tracepoint.as_ptr() as u64,
                prog_fd: std::os::fd::AsRawFd::as_raw_fd(&program) as u32,
                _pad: 0,
            };
            fds.push(bpf(BPF_RAW_TRACEPOINT_OPEN, &attr).context("attaching a BPF program")?);
            fds.push(program);
        }
        Ok(Self { _fds: fds })
    }
}

fn bpf<T>(command: libc::c_long, attr: &T) -> std::io::Result<OwnedFd> {
    // SAFETY: `attr` is a prefix of `union bpf_attr` for this command, its size is passed, and what it points to is
    // static or outlives the call.
    let fd = unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_ref(attr), size_of::<T>()) };
    if fd < 0 {
        return Err(std::io::Error::last_os_error());
    }
    // SAFETY: the call just returned this descriptor to us alone.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}
