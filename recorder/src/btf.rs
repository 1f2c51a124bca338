//! Where the running kernel keeps what the programs read: structure offsets from its BTF.
//!
//! Rust eBPF has no CO-RE relocations, so user space looks the offsets up before the programs are loaded. A field
//! that this kernel does not have disables what needs it, by name: see [`Offsets::missing`].

use crate::arch;
use crate::error::RecordError;
use btf_rs::{Btf, BtfType, Type};
use ctrace_abi::{Globals, MISSING};
use std::path::Path;

/// Where the kernel publishes its types.
pub(crate) const VMLINUX: &str = "/sys/kernel/btf/vmlinux";

/// The kernel's type information.
pub(crate) struct Kernel {
    btf: Btf,
}

impl Kernel {
    /// Reads the running kernel's BTF.
    pub(crate) fn open() -> Result<Self, RecordError> {
        let btf = Btf::from_file(Path::new(VMLINUX)).map_err(|e| RecordError::KernelLacks {
            what: format!("readable type information in {VMLINUX} ({e})"),
            fix: "use a kernel built with CONFIG_DEBUG_INFO_BTF=y".into(),
        })?;
        Ok(Self { btf })
    }

    /// Byte offset of a field, named as in C: `offset("task_struct", "thread_info.status")`. Members of anonymous
    /// structures and unions belong to their parent.
    pub(crate) fn offset(&self, structure: &str, field: &str) -> Option<u32> {
        self.bit_offset(structure, field).map(|(bits, _)| bits / 8)
    }

    /// Offset in bits, and the field's width when it is a bit field.
    fn bit_offset(&self, structure: &str, field: &str) -> Option<(u32, u32)> {
        let mut ty = self
            .btf
            .resolve_types_by_name(structure)
            .ok()?
            .into_iter()
            .find(|t| matches!(t, Type::Struct(_) | Type::Union(_)))?;
        let mut at = (0, 0);
        for part in field.split('.') {
            let (bits, width, next) = self.member(&ty, part)?;
            at = (at.0 + bits, width);
            ty = next;
        }
        Some(at)
    }

    fn member(&self, ty: &Type, name: &str) -> Option<(u32, u32, Type)> {
        let (Type::Struct(s) | Type::Union(s)) = ty else { return None };
        for member in &s.members {
            let found = self.btf.resolve_name(member).unwrap_or_default();
            let inner = self.strip(member)?;
            if found == name {
                return Some((member.bit_offset(), member.bitfield_size().unwrap_or(0), inner));
            }
            if found.is_empty()
                && let Some((bits, width, next)) = self.member(&inner, name)
            {
                return Some((member.bit_offset() + bits, width, next));
            }
        }
        None
    }

    /// The type behind typedefs and qualifiers.
    fn strip(&self, of: &dyn BtfType) -> Option<Type> {
        let mut ty = self.btf.resolve_type_by_id(of.get_type_id()?).ok()?;
        loop {
            ty = match &ty {
                Type::Typedef(_) | Type::Const(_) | Type::Volatile(_) | Type::TypeTag(_) => {
                    self.btf.resolve_type_by_id(ty.as_btf_type()?.get_type_id()?).ok()?
                }
                _ => return Some(ty),
            };
        }
    }

    /// Whether the kernel has a raw tracepoint of this name (`btf_trace_NAME`, `include/trace/bpf_probe.h`).
    pub(crate) fn has_tracepoint(&self, name: &str) -> bool {
        self.btf.resolve_types_by_name(&format!("btf_trace_{name}")).is_ok_and(|t| !t.is_empty())
    }

    /// Value of an enumerator, to find a controller's index (`enum cgroup_subsys_id`).
    pub(crate) fn enumerator(&self, enumeration: &str, name: &str) -> Option<u32> {
        for ty in self.btf.resolve_types_by_name(enumeration).ok()? {
            if let Type::Enum(e) = ty {
                for member in &e.members {
                    if self.btf.resolve_name(member).is_ok_and(|n| n == name) {
                        return Some(member.val());
                    }
                }
            }
        }
        None
    }
}

/// Offsets, and the names of those that the kernel does not have.
pub(crate) struct Offsets {
    /// For the programs.
    pub(crate) globals: Globals,
    /// `structure.field` of every one that is missing.
    pub(crate) missing: Vec<String>,
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
        kn_id = "kernfs_node" "id";
        bprm_filename = "linux_binprm" "filename";
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
    Offsets { globals, missing }
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
