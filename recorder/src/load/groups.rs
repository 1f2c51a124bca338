//! The map of groups that are in the scope, written while the recording runs.

use super::syscall::bpf;
use std::os::fd::{AsRawFd, OwnedFd};

/// The recorded cgroups: see `GROUPS` of the kernel half.
pub(crate) struct GroupMap {
    pub(super) fd: OwnedFd,
}

/// The part of `union bpf_attr` for commands on elements of maps.
#[repr(C)]
pub(super) struct MapAttr {
    map_fd: u32,
    pad: u32,
    key: u64,
    value: u64,
    flags: u64,
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

    /// Whether it can be changed with what the calling thread has.
    pub(crate) fn is_open(&self) -> bool {
        // No cgroup has the number 0.
        let absent = bpf(3, &self.attr(&0, std::ptr::null()));
        absent.err().is_none_or(|e| e.kind() != std::io::ErrorKind::PermissionDenied)
    }

    pub(super) fn attr(&self, id: &u64, number: *const u32) -> MapAttr {
        MapAttr {
            map_fd: self.fd.as_raw_fd() as u32,
            pad: 0,
            key: std::ptr::from_ref(id) as u64,
            value: number as u64,
            flags: 0,
        }
    }
}
