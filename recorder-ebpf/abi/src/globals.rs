//! What user space knows of the kernel.

/// Values of [`Globals::machine`](crate::Globals::machine).
pub mod machine {
    /// x86-64.
    pub const X86_64: u32 = 1;
    /// aarch64.
    pub const AARCH64: u32 = 2;
}

/// What user space tells the programs before they are loaded: switches, and offsets of kernel structure fields in
/// bytes, [`crate::MISSING`] where this kernel has none.
#[repr(C)]
#[derive(Clone, Copy)]
#[allow(missing_docs, reason = "offset fields are named structure_field as in the kernel")]
pub struct Globals {
    /// The recorder's own process: never recorded.
    pub own_tgid: u32,
    /// 0: process tree, 1: cgroup v1, 2: cgroup v2.
    pub scope: u32,
    /// v1: index of the controller in `css_set.subsys`.
    pub subsys: u32,
    /// v2/v1: number of the hierarchy (`cgroup_root.hierarchy_id`); 0 is v2's.
    pub hierarchy: u32,
    /// 1: report cgroups that are made and removed.
    pub watch_groups: u32,
    pub cgroup_root: u32,
    pub root_hierarchy: u32,
    /// Bits of the word at `task_compat` that say that the running call is a 32-bit one.
    pub compat_mask: u32,
    /// 1: kernel memory can be loaded from directly, see [`crate::RDONLY_CAST`].
    pub direct: u32,
    /// Whose registers these are: [`machine`].
    pub machine: u32,
    /// Bit of a call's number that marks x32 calls; 0 where there are none.
    pub x32_bit: u32,
    /// Size of `struct epoll_event`: packed on x86-64 only (include/uapi/linux/eventpoll.h).
    pub epoll_event_bytes: u32,
    /// Timer ticks (`jiffies`) between two samples of a connection.
    pub sample_ticks: u32,
    /// Offset in `struct pt_regs` of the argument registers: `r10` (x86-64), `regs` (aarch64).
    pub regs_args: u32,
    /// Of what they do not hold: `bp` and `bx`, arguments of i386 calls; `orig_x0`, the first argument after the call.
    pub regs_more: u32,
    /// Of the call's number, 32 bits: `orig_ax`, `syscallno`.
    pub regs_nr: u32,

    pub task_pid: u32,
    pub task_tgid: u32,
    pub task_compat: u32,
    pub task_files: u32,
    pub task_fs: u32,
    pub task_start: u32,
    pub task_exit_code: u32,
    pub task_signal: u32,
    pub task_comm: u32,
    pub task_cgroups: u32,
    pub task_thread_node: u32,
    pub signal_live: u32,
    pub signal_thread_head: u32,
    pub css_set_subsys: u32,
    pub css_set_dfl: u32,
    pub css_cgroup: u32,
    pub cgroup_kn: u32,
    pub cgroup_level: u32,
    pub cgroup_ancestors: u32,
    pub cgroup_ancestors_are_ids: u32,
    pub kn_id: u32,
    pub kn_name: u32,
    pub kn_parent: u32,
    pub bprm_filename: u32,
    pub bprm_interp: u32,
    pub bprm_argc: u32,
    pub mm_arg_start: u32,
    pub mm_arg_end: u32,
    /// Index of the memory controller in `css_set.subsys`.
    pub memory_subsys: u32,
    /// Of `mem_cgroup.memory`, from the `struct cgroup_subsys_state` on.
    pub memcg_memory: u32,
    pub counter_usage: u32,
    pub counter_max: u32,
    pub counter_parent: u32,
    pub files_fdt: u32,
    pub fdt_max: u32,
    pub fdt_fd: u32,
    pub file_inode: u32,
    pub file_dentry: u32,
    pub file_mnt: u32,
    pub file_mode: u32,
    pub file_private: u32,
    pub inode_mode: u32,
    pub inode_ino: u32,
    pub inode_size: u32,
    pub inode_rdev: u32,
    pub inode_sb: u32,
    pub sb_dev: u32,
    pub sb_magic: u32,
    pub dentry_parent: u32,
    pub dentry_name: u32,
    pub dentry_hash: u32,
    pub dentry_unhashed: u32,
    pub vfsmount_root: u32,
    pub mount_mnt: u32,
    pub mount_parent: u32,
    pub mount_mountpoint: u32,
    pub fs_root_mnt: u32,
    pub fs_root_dentry: u32,
    pub socket_type: u32,
    pub socket_sk: u32,
    pub socket_file: u32,
    pub sk_family: u32,
    pub sk_state: u32,
    pub sk_cookie: u32,
    pub sk_daddr: u32,
    pub sk_rcv_saddr: u32,
    pub sk_dport: u32,
    pub sk_num: u32,
    pub sk_v6_daddr: u32,
    pub sk_v6_rcv_saddr: u32,
    pub sk_protocol: u32,
    pub sk_type: u32,
    pub sk_err: u32,
    pub sk_socket: u32,
    pub unix_addr: u32,
    pub unix_peer: u32,
    pub unix_address_len: u32,
    pub unix_address_name: u32,
    pub tcp_bytes_sent: u32,
    pub tcp_bytes_retrans: u32,
    pub sk_flags: u32,
    pub tcp_bytes_received: u32,
    pub tcp_srtt: u32,
    pub tcp_total_retrans: u32,
    pub siginfo_code: u32,
    pub sk_net: u32,
    pub net_inum: u32,
    pub tcp_cwnd: u32,
    pub tcp_send_window: u32,
    pub tcp_packets_out: u32,
    pub task_min_flt: u32,
    pub task_maj_flt: u32,
    pub task_mm: u32,
    pub task_cred: u32,
    pub cred_uid: u32,
    pub cred_euid: u32,
    pub cred_gid: u32,
    pub cred_egid: u32,
    /// Of the first counter of resident pages.
    pub mm_rss: u32,
    /// From one counter to the next.
    pub mm_rss_stride: u32,
    /// Of the inode, from the `struct socket` on.
    pub socket_inode: u32,
    pub rq_queue: u32,
    pub rq_flags: u32,
    pub rq_data_len: u32,
    pub rq_sector: u32,
    pub rq_part: u32,
    pub part_dev: u32,
    pub queue_disk: u32,
    pub disk_major: u32,
    pub disk_minor: u32,
    pub uring_opcode: u32,
    pub uring_file: u32,
    pub cqe_res: u32,
    pub cqe_flags: u32,
    /// 1: `io_uring_complete` passes the completion's fields instead of a pointer to it.
    pub uring_flat: u32,
    /// Number of `execve`.
    pub nr_execve: u32,
    /// Segments of a CPU's bulk ring, a power of two.
    pub segments: u32,
    /// Offset in `struct pt_regs` of a function's result, when it returns: `ax`, `regs`.
    pub regs_result: u32,
    /// 1: the end of a call tells what went through a socket, see [`crate::Pending`].
    pub sock_by_call: u32,
    /// Must be 0.
    pub reserved: u32,
}

impl Globals {
    /// Nothing known.
    #[must_use]
    pub const fn unknown() -> Self {
        // SAFETY: every field is an integer; every bit pattern is a value.
        let mut g: Self = unsafe { core::mem::transmute([0xff_u8; size_of::<Self>()]) };
        g.own_tgid = 0;
        g.scope = 0;
        g.subsys = 0;
        g.hierarchy = 0;
        g.watch_groups = 0;
        g.direct = 0;
        g.compat_mask = 0;
        g.machine = 0;
        g.x32_bit = 0;
        g.epoll_event_bytes = 0;
        g.sample_ticks = 100;
        g.cgroup_ancestors_are_ids = 0;
        g.nr_execve = 59;
        g.uring_flat = 0;
        g.segments = 4;
        g.sock_by_call = 0;
        g.reserved = 0;
        g
    }
}

const _: () = {
    assert!(size_of::<Globals>().is_multiple_of(8));
};
