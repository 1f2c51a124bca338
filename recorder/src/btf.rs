//! Where the running kernel keeps what the programs read: structure offsets from its BTF.
//!
//! Rust eBPF has no CO-RE relocations, so user space looks the offsets up before the programs are loaded. A field
//! that this kernel does not have disables what needs it, by name: see [`Offsets::missing`].

mod types;

use self::types::{Type, Types, kind};
use crate::arch;
use crate::error::RecordError;
use crate::hooks;
use ctrace_abi::{Globals, MISSING};
use ctrace_format::Block;

/// Where the kernel publishes its types.
pub(crate) const VMLINUX: &str = "/sys/kernel/btf/vmlinux";

/// The kernel's type information.
pub(crate) struct Kernel {
    types: Types,
}

impl Kernel {
    /// Reads the running kernel's BTF.
    pub(crate) fn open() -> Result<Self, RecordError> {
        let lacks = |why: &dyn std::fmt::Display| RecordError::KernelLacks {
            what: format!("readable type information in {VMLINUX} ({why})"),
            fix: "use a kernel built with CONFIG_DEBUG_INFO_BTF=y".into(),
        };
        let bytes = std::fs::read(VMLINUX).map_err(|e| lacks(&e))?;
        Ok(Self { types: Types::new(bytes).map_err(|e| lacks(&e))? })
    }

    /// Byte offset of a field, named as in C: `offset("task_struct", "thread_info.status")`. Members of anonymous
    /// structures and unions belong to their parent.
    pub(crate) fn offset(&self, structure: &str, field: &str) -> Option<u32> {
        let mut ty = self.types.named(structure).find(|t| matches!(t.kind, kind::STRUCT | kind::UNION))?;
        let mut at = 0;
        for part in field.split('.') {
            let (bits, next) = self.member(ty, part, 0)?;
            at += bits;
            ty = next;
        }
        Some(at / 8)
    }

    /// Offset in bits, and type.
    fn member(&self, ty: Type, name: &str, depth: u32) -> Option<(u32, Type)> {
        self.types.members(ty).find_map(|member| {
            if member.name == name.as_bytes() {
                return Some((member.bits, self.types.strip(member.of)?));
            }
            // Structures in structures are few; a file that is not a kernel's could go round in a circle.
            if !member.name.is_empty() || depth > 16 {
                return None;
            }
            let (bits, found) = self.member(self.types.strip(member.of)?, name, depth + 1)?;
            Some((member.bits + bits, found))
        })
    }

    fn tracepoint(&self, name: &str) -> Option<Type> {
        self.types.named(&format!("btf_trace_{name}")).find(|t| t.kind == kind::TYPEDEF)
    }

    /// Whether the kernel has a raw tracepoint of this name (`btf_trace_NAME`, `include/trace/bpf_probe.h`).
    pub(crate) fn has_tracepoint(&self, name: &str) -> bool {
        self.tracepoint(name).is_some()
    }

    /// Size of a structure, bytes.
    fn size(&self, structure: &str) -> Option<u32> {
        self.types.named(structure).find(|t| t.kind == kind::STRUCT).map(|t| t.of)
    }

    /// How many arguments a tracepoint passes.
    fn tracepoint_arguments(&self, name: &str) -> Option<usize> {
        let pointer = self.types.strip(self.tracepoint(name)?.of).filter(|t| t.kind == kind::PTR)?;
        let function = self.types.strip(pointer.of).filter(|t| t.kind == kind::FUNC_PROTO)?;
        // The first parameter is the registration's own data.
        function.len.checked_sub(1)
    }

    /// Whether the kernel has a function with these parameters, by name and place. One that was inlined everywhere has
    /// no type.
    pub(crate) fn has_function(&self, name: &str, parameters: &[(&str, usize)]) -> bool {
        let function = self.types.named(name).find(|t| t.kind == kind::FUNC);
        let Some(prototype) = function.and_then(|f| self.types.get(f.of)) else { return false };
        let names: Vec<&[u8]> = self.types.parameters(prototype).collect();
        parameters.iter().all(|(name, place)| names.get(*place) == Some(&name.as_bytes()))
    }

    /// The number of a function's type, by which programs call it.
    fn function(&self, name: &str) -> Option<u32> {
        self.types.numbered(name).find(|(_, ty)| ty.kind == kind::FUNC).map(|(number, _)| number)
    }

    /// Value of an enumerator, to find a controller's index (`enum cgroup_subsys_id`).
    pub(crate) fn enumerator(&self, enumeration: &str, name: &str) -> Option<u32> {
        self.types
            .named(enumeration)
            .flat_map(|ty| self.types.enumerators(ty))
            .find(|(of, _)| *of == name.as_bytes())
            .map(|(_, value)| value)
    }
}

/// Offsets, and the names of those that the kernel does not have.
pub(crate) struct Offsets {
    /// For the programs.
    pub(crate) globals: Globals,
    /// `structure.field` of every one that is missing.
    pub(crate) missing: Vec<String>,
    /// Programs on functions may take the place of those on tracepoints.
    pub(crate) kprobes: bool,
    /// The function that lets programs load kernel memory directly, if this kernel has it.
    pub(crate) rdonly_cast: Option<u32>,
    /// Bits of a block request's flags, and what a trace calls them.
    pub(crate) block_flags: Vec<(u32, u8)>,
}

/// Looks up every offset.
pub(crate) fn offsets(kernel: &Kernel) -> Offsets {
    let mut globals = Globals::unknown();
    let mut missing = Vec::new();
    macro_rules! find {
        ($($slot:ident = $structure:literal $($field:literal)|+;)*) => {
            $(globals.$slot = [$($field),+].iter().find_map(|f| kernel.offset($structure, f)).unwrap_or_else(|| {
                missing.push(concat!($structure $(, ".", $field)+).to_owned());
                MISSING
            });)*
        };
    }
    find! {
        task_pid = "task_struct" "pid";
        task_tgid = "task_struct" "tgid";
        task_files = "task_struct" "files";
        task_fs = "task_struct" "fs";
        task_start = "task_struct" "start_boottime" | "real_start_time";
        task_exit_code = "task_struct" "exit_code";
        task_signal = "task_struct" "signal";
        task_comm = "task_struct" "comm";
        task_cgroups = "task_struct" "cgroups";
        task_thread_node = "task_struct" "thread_node";
        signal_live = "signal_struct" "live";
        signal_thread_head = "signal_struct" "thread_head";
        css_set_subsys = "css_set" "subsys";
        css_set_dfl = "css_set" "dfl_cgrp";
        css_cgroup = "cgroup_subsys_state" "cgroup";
        cgroup_kn = "cgroup" "kn";
        cgroup_level = "cgroup" "level";
        cgroup_root = "cgroup" "root";
        root_hierarchy = "cgroup_root" "hierarchy_id";
        kn_id = "kernfs_node" "id";
        kn_name = "kernfs_node" "name";
        // `__parent` since Linux 6.15.
        kn_parent = "kernfs_node" "parent" | "__parent";
        bprm_filename = "linux_binprm" "filename";
        bprm_interp = "linux_binprm" "interp";
        bprm_argc = "linux_binprm" "argc";
        mm_arg_start = "mm_struct" "arg_start";
        mm_arg_end = "mm_struct" "arg_end";
        memcg_memory = "mem_cgroup" "memory";
        counter_usage = "page_counter" "usage";
        counter_max = "page_counter" "max";
        counter_parent = "page_counter" "parent";
        files_fdt = "files_struct" "fdt";
        fdt_max = "fdtable" "max_fds";
        fdt_fd = "fdtable" "fd";
        file_inode = "file" "f_inode";
        file_dentry = "file" "f_path.dentry";
        file_mnt = "file" "f_path.mnt";
        file_mode = "file" "f_mode";
        file_private = "file" "private_data";
        inode_mode = "inode" "i_mode";
        inode_ino = "inode" "i_ino";
        inode_size = "inode" "i_size";
        inode_rdev = "inode" "i_rdev";
        inode_sb = "inode" "i_sb";
        sb_dev = "super_block" "s_dev";
        sb_magic = "super_block" "s_magic";
        dentry_parent = "dentry" "d_parent";
        dentry_name = "dentry" "d_name.name";
        dentry_hash = "dentry" "d_name.hash_len";
        dentry_unhashed = "dentry" "d_hash.pprev";
        vfsmount_root = "vfsmount" "mnt_root";
        mount_mnt = "mount" "mnt";
        mount_parent = "mount" "mnt_parent";
        mount_mountpoint = "mount" "mnt_mountpoint";
        fs_root_mnt = "fs_struct" "root.mnt";
        fs_root_dentry = "fs_struct" "root.dentry";
        socket_type = "socket" "type";
        socket_sk = "socket" "sk";
        socket_file = "socket" "file";
        sk_family = "sock" "__sk_common.skc_family";
        sk_state = "sock" "__sk_common.skc_state";
        sk_cookie = "sock" "__sk_common.skc_cookie";
        sk_daddr = "sock" "__sk_common.skc_daddr";
        sk_rcv_saddr = "sock" "__sk_common.skc_rcv_saddr";
        sk_dport = "sock" "__sk_common.skc_dport";
        sk_num = "sock" "__sk_common.skc_num";
        sk_v6_daddr = "sock" "__sk_common.skc_v6_daddr";
        sk_v6_rcv_saddr = "sock" "__sk_common.skc_v6_rcv_saddr";
        sk_protocol = "sock" "sk_protocol";
        sk_type = "sock" "sk_type";
        sk_err = "sock" "sk_err";
        sk_socket = "sock" "sk_socket";
        sk_net = "sock" "__sk_common.skc_net";
        net_inum = "net" "ns.inum";
        unix_addr = "unix_sock" "addr";
        unix_peer = "unix_sock" "peer";
        unix_address_len = "unix_address" "len";
        unix_address_name = "unix_address" "name";
        tcp_bytes_sent = "tcp_sock" "bytes_sent";
        tcp_bytes_retrans = "tcp_sock" "bytes_retrans";
        sk_flags = "sock" "__sk_common.skc_flags" | "sk_flags";
        tcp_bytes_received = "tcp_sock" "bytes_received";
        tcp_srtt = "tcp_sock" "srtt_us";
        tcp_total_retrans = "tcp_sock" "total_retrans";
        siginfo_code = "kernel_siginfo" "si_code";
        tcp_cwnd = "tcp_sock" "snd_cwnd";
        tcp_send_window = "tcp_sock" "snd_wnd";
        tcp_packets_out = "tcp_sock" "packets_out";
        task_min_flt = "task_struct" "min_flt";
        task_maj_flt = "task_struct" "maj_flt";
        task_mm = "task_struct" "mm";
        task_cred = "task_struct" "cred";
        cred_uid = "cred" "uid";
        cred_euid = "cred" "euid";
        cred_gid = "cred" "gid";
        cred_egid = "cred" "egid";
        socket_inode = "socket_alloc" "vfs_inode";
        rq_queue = "request" "q";
        rq_flags = "request" "cmd_flags";
        rq_data_len = "request" "__data_len";
        rq_sector = "request" "__sector";
        rq_part = "request" "part";
        part_dev = "block_device" "bd_dev";
        queue_disk = "request_queue" "disk";
        disk_major = "gendisk" "major";
        disk_minor = "gendisk" "first_minor";
        uring_opcode = "io_kiocb" "opcode";
        uring_file = "io_kiocb" "file";
    }
    missing.extend(arch::HOST.describe(kernel, &mut globals));
    // Linux 5.18 and newer keep pointers to the ancestors, older ones their ids.
    if let Some(at) = kernel.offset("cgroup", "ancestors") {
        globals.cgroup_ancestors = at;
    } else if let Some(at) = kernel.offset("cgroup", "ancestor_ids") {
        globals.cgroup_ancestors = at;
        globals.cgroup_ancestors_are_ids = 1;
    } else {
        missing.push("cgroup.ancestors".into());
    }
    resident(kernel, &mut globals, &mut missing);
    globals.memory_subsys = kernel.enumerator("cgroup_subsys_id", "memory_cgrp_id").unwrap_or(MISSING);
    if globals.memcg_memory != MISSING {
        globals.memcg_memory -= kernel.offset("mem_cgroup", "css").unwrap_or(0);
    }
    // A pointer to the completion, or its fields one by one.
    globals.uring_flat = u32::from(kernel.tracepoint_arguments("io_uring_complete").is_some_and(|n| n > 3));
    if globals.uring_flat == 0 {
        for (slot, field) in [(&mut globals.cqe_res, "res"), (&mut globals.cqe_flags, "flags")] {
            *slot = kernel.offset("io_uring_cqe", field).unwrap_or_else(|| {
                missing.push(format!("io_uring_cqe.{field}"));
                MISSING
            });
        }
    }
    globals.sock_by_call = u32::from(hooks::traffic_by_call(kernel));
    Offsets {
        globals,
        missing,
        kprobes: hooks::uses_kprobes(kernel),
        rdonly_cast: kernel.function("bpf_rdonly_cast"),
        block_flags: block_flags(kernel),
    }
}

/// The places of these bits differ between versions (`enum req_flag_bits`, `include/linux/blk_types.h`).
fn block_flags(kernel: &Kernel) -> Vec<(u32, u8)> {
    [
        ("__REQ_SYNC", Block::SYNC),
        ("__REQ_META", Block::META),
        ("__REQ_FUA", Block::FUA),
        ("__REQ_PREFLUSH", Block::FLUSH),
        ("__REQ_RAHEAD", Block::READ_AHEAD),
    ]
    .into_iter()
    .filter_map(|(name, flag)| Some((1_u32.checked_shl(kernel.enumerator("req_flag_bits", name)?)?, flag)))
    .collect()
}

/// The counters of resident pages: an array of `percpu_counter` since Linux 6.2, of plain numbers before.
fn resident(kernel: &Kernel, globals: &mut Globals, missing: &mut Vec<String>) {
    if let Some(at) = kernel.offset("mm_struct", "rss_stat.count") {
        (globals.mm_rss, globals.mm_rss_stride) = (at, 8);
    } else if let (Some(at), Some(count), Some(size)) = (
        kernel.offset("mm_struct", "rss_stat"),
        kernel.offset("percpu_counter", "count"),
        kernel.size("percpu_counter"),
    ) {
        (globals.mm_rss, globals.mm_rss_stride) = (at + count, size);
    } else {
        missing.push("mm_struct.rss_stat".into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_running_kernel_has_the_fields_that_pairing_needs() {
        let Ok(kernel) = Kernel::open() else {
            eprintln!("skipped: no readable BTF");
            return;
        };
        let offsets = offsets(&kernel);
        assert_ne!(offsets.globals.task_pid, MISSING);
        assert_ne!(offsets.globals.task_start, MISSING);
        assert_eq!(kernel.offset("task_struct", "no_such_field"), None);
        assert!(kernel.has_tracepoint("sys_enter"));
        assert!(!kernel.has_tracepoint("no_such_tracepoint"));
        eprintln!("missing: {:?}", offsets.missing);
    }
}
