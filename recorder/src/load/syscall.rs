//! `bpf(2)` where the library has no call for it, or only one that needs more rights.

use std::os::fd::{AsRawFd, BorrowedFd};

pub(super) fn misses(fd: BorrowedFd<'_>) -> u64 {
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

pub(super) fn bpf<T>(command: libc::c_int, attr: &T) -> std::io::Result<i64> {
    // SAFETY: `attr` is the leading part of `union bpf_attr` that the command reads; the kernel takes the rest as 0.
    let r = unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_ref(attr), size_of::<T>()) };
    if r < 0 { Err(std::io::Error::last_os_error()) } else { Ok(r) }
}
