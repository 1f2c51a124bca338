//! Cgroups of the scope, and moves between them.

/// Number of a group of which only this is known: its tasks are recorded. Smaller numbers are containers'.
pub const UNNAMED_GROUP: u32 = 0x4000_0000;
/// Longest path of a cgroup that is reported, the NUL included (`TRACE_CGROUP_PATH_LEN`, kernel/cgroup/cgroup-internal.h).
pub const MAX_GROUP_PATH: usize = 1024;

/// A task that entered or left the scope by moving between cgroups.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct Join {
    /// [`crate::kind::JOIN`] or [`crate::kind::LEAVE`].
    pub kind: u8,
    /// Must be 0.
    pub reserved: [u8; 3],
    /// The task.
    pub tid: u32,
    /// When.
    pub t_ns: u64,
    /// Its process.
    pub tgid: u32,
    /// The group that it is in, as user space numbered it.
    pub group: u32,
    /// Its start.
    pub start_ns: u64,
    /// Its name.
    pub comm: [u8; 16],
}

/// A cgroup of the watched hierarchy that was made or is removed.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Group {
    /// [`crate::kind::GROUP`].
    pub kind: u8,
    /// 1: removed, 0: made.
    pub removed: u8,
    /// Must be 0.
    pub reserved: u16,
    /// The recorded group that it is or is below, as user space numbered it; 0: none.
    pub group: u32,
    /// When.
    pub t_ns: u64,
    /// Its identity (`kernfs_node.id`).
    pub id: u64,
    /// Its path below the root of its hierarchy, NUL-terminated.
    pub path: [u8; MAX_GROUP_PATH],
}

const _: () = {
    assert!(size_of::<Join>() == 48);
    assert!(size_of::<Group>() == 24 + MAX_GROUP_PATH);
};
