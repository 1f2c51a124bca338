//! What a worker may not do: capabilities, system calls, resource limits. Applied after everything is built, last thing
//! before the worker's image starts.

use super::SandboxError;
use crate::plan::environment::Environment;
use ctrace_program::{FAULT_TAG, TAG_VALUE};
use nix::sys::resource::{Resource, getrlimit};
use std::io;

/// Kept in the sandbox's user namespace, so that recorded calls of a privileged program have the outcome they had: they
/// reach objects of the sandbox only. (linux/capability.h)
const KEPT_CAPABILITIES: [u32; 10] = [
    0,  // CAP_CHOWN
    1,  // CAP_DAC_OVERRIDE
    3,  // CAP_FOWNER
    4,  // CAP_FSETID
    5,  // CAP_KILL
    6,  // CAP_SETGID
    7,  // CAP_SETUID
    10, // CAP_NET_BIND_SERVICE
    18, // CAP_SYS_CHROOT
    23, // CAP_SYS_NICE
];
/// The kernel stops at the last capability it knows.
const CAPABILITIES_END: u32 = 64;

/// The newest call that was looked at when the lists below were made: `file_setattr` (Linux 6.17). A newer one is answered
/// with ENOSYS, as a kernel of that time does: what it reaches is not known. All architectures share these numbers
/// (scripts/syscall.tbl), and calls with their own, of old, are lower.
const NEWEST_REVIEWED: u32 = 469;

/// Calls that fail with EPERM in every replay: they reach out of namespaces, into other processes, or into parts of the
/// kernel that are not namespaced.
const DENIED: &[i64] = &[
    libc::SYS_acct,
    libc::SYS_add_key,
    libc::SYS_adjtimex,
    libc::SYS_bpf,
    libc::SYS_clock_adjtime,
    libc::SYS_clock_settime,
    libc::SYS_delete_module,
    libc::SYS_fanotify_init,
    libc::SYS_finit_module,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fsopen,
    libc::SYS_fspick,
    libc::SYS_init_module,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_io_uring_setup,
    libc::SYS_kcmp,
    libc::SYS_kexec_file_load,
    libc::SYS_kexec_load,
    libc::SYS_keyctl,
    SYS_LISTMOUNT,
    libc::SYS_lookup_dcookie,
    SYS_LSM_SET_SELF_ATTR,
    SYS_MAP_SHADOW_STACK,
    libc::SYS_memfd_secret,
    libc::SYS_mount,
    libc::SYS_mount_setattr,
    libc::SYS_move_mount,
    libc::SYS_name_to_handle_at,
    libc::SYS_nfsservctl,
    libc::SYS_open_by_handle_at,
    libc::SYS_open_tree,
    SYS_OPEN_TREE_ATTR,
    libc::SYS_perf_event_open,
    libc::SYS_personality,
    libc::SYS_pidfd_getfd,
    libc::SYS_pivot_root,
    libc::SYS_process_madvise,
    libc::SYS_process_mrelease,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_ptrace,
    libc::SYS_quotactl,
    libc::SYS_quotactl_fd,
    libc::SYS_reboot,
    libc::SYS_request_key,
    libc::SYS_setdomainname,
    libc::SYS_sethostname,
    libc::SYS_setns,
    libc::SYS_settimeofday,
    SYS_STATMOUNT,
    libc::SYS_swapoff,
    libc::SYS_swapon,
    libc::SYS_syslog,
    libc::SYS_umount2,
    libc::SYS_userfaultfd,
    libc::SYS_vhangup,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_ioperm,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_iopl,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_modify_ldt,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_sysfs,
    #[cfg(target_arch = "x86_64")]
    SYS_URETPROBE,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_uselib,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_ustat,
];

// Numbers that the libc crate does not have (scripts/syscall.tbl, arch/x86/entry/syscalls/syscall_64.tbl).
const SYS_MAP_SHADOW_STACK: i64 = 453;
const SYS_STATMOUNT: i64 = 457;
const SYS_LISTMOUNT: i64 = 458;
const SYS_LSM_SET_SELF_ATTR: i64 = 460;
const SYS_OPEN_TREE_ATTR: i64 = 467;
#[cfg(target_arch = "x86_64")]
const SYS_URETPROBE: i64 = 335;
#[cfg(target_arch = "x86_64")]
const SYS_SETRLIMIT: i64 = libc::SYS_setrlimit;
#[cfg(target_arch = "aarch64")]
const SYS_SETRLIMIT: i64 = 164;

/// Kinds of sockets of these families. Of another the kernel looks for a module on the host.
const SOCKET_KINDS: [i32; 4] = [libc::SOCK_STREAM, libc::SOCK_DGRAM, libc::SOCK_RAW, libc::SOCK_SEQPACKET];
/// The protocol of `AF_NETLINK` at whose other end is no part of the kernel: it stands for all others. Its ports are those of
/// one network namespace.
const NETLINK_PROTOCOLS: [i32; 1] = [libc::NETLINK_USERSOCK];
/// Protocols of the Internet families that are part of every kernel; for another it looks for a module on the host.
const INTERNET_PROTOCOLS: [i32; 8] = [
    libc::IPPROTO_IP,
    libc::IPPROTO_ICMP,
    libc::IPPROTO_TCP,
    libc::IPPROTO_UDP,
    libc::IPPROTO_ICMPV6,
    libc::IPPROTO_UDPLITE,
    libc::IPPROTO_RAW,
    libc::IPPROTO_MPTCP,
];
/// Bits of a socket's type that say its kind (linux/net.h).
const SOCKET_KIND_MASK: u32 = 0xf;

/// What `unshare` may be asked for: a table of descriptors, a working directory and a semaphore undo list of the task's own.
pub(crate) const UNSHARED_TABLES: u64 = (libc::CLONE_FILES | libc::CLONE_FS | libc::CLONE_SYSVSEM) as u64;

/// Whether the filter refuses a socket, or a pair of sockets: it is of a family that no network namespace confines (vsock,
/// for one, reaches the host of a virtual machine), or of a kind or protocol that reaches out.
pub(crate) fn is_denied_socket(family: i32, kind: i32, protocol: i32) -> bool {
    let protocols = match family {
        libc::AF_INET | libc::AF_INET6 => &INTERNET_PROTOCOLS[..],
        libc::AF_NETLINK => &NETLINK_PROTOCOLS[..],
        // One protocol only, which the kernel checks itself.
        libc::AF_UNIX => return !SOCKET_KINDS.contains(&(kind & SOCKET_KIND_MASK as i32)),
        _ => return true,
    };
    !SOCKET_KINDS.contains(&(kind & SOCKET_KIND_MASK as i32)) || !protocols.contains(&protocol)
}

#[cfg(target_arch = "x86_64")]
const AUDIT_ARCH: u32 = 0xC000_003E;
#[cfg(target_arch = "aarch64")]
const AUDIT_ARCH: u32 = 0xC000_00B7;

const OFFSET_NR: u32 = 0;
const OFFSET_ARCH: u32 = 4;
/// Of the low word of argument `n` in `struct seccomp_data` (little-endian); the high word follows.
const fn offset_arg(n: u32) -> u32 {
    16 + 8 * n
}

fn statement(code: u32, k: u32) -> libc::sock_filter {
    libc::sock_filter { code: code as u16, jt: 0, jf: 0, k }
}

fn jump(code: u32, k: u32, jt: u8, jf: u8) -> libc::sock_filter {
    libc::sock_filter { code: code as u16, jt, jf, k }
}

/// The filter. Checks that need arguments are made for their calls only, so that the kernel can cache "allowed" per call
/// number (since 5.11) when there is no fault lane, and a replayed call pays nothing.
fn filter(fault_lane: bool) -> Vec<libc::sock_filter> {
    const LOAD: u32 = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
    const EQUAL: u32 = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
    const GREATER: u32 = libc::BPF_JMP | libc::BPF_JGT | libc::BPF_K;
    const HAS: u32 = libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K;
    const RETURN: u32 = libc::BPF_RET | libc::BPF_K;
    let deny = statement(RETURN, libc::SECCOMP_RET_ERRNO | libc::EPERM as u32);
    let absent = statement(RETURN, libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32);
    let allow = statement(RETURN, libc::SECCOMP_RET_ALLOW);

    let mut out = vec![statement(LOAD, OFFSET_ARCH), jump(EQUAL, AUDIT_ARCH, 1, 0), absent];
    if fault_lane {
        out.extend([
            statement(LOAD, offset_arg(5) + 4),
            jump(EQUAL, (FAULT_TAG >> 32) as u32, 0, 6),
            statement(LOAD, offset_arg(5)),
            // A result ≥ 0 is told to the recorder; a filter can only say that all went well.
            jump(HAS, TAG_VALUE as u32, 0, 1),
            statement(RETURN, libc::SECCOMP_RET_ERRNO),
            statement(libc::BPF_ALU | libc::BPF_AND | libc::BPF_K, 0xfff),
            statement(libc::BPF_ALU | libc::BPF_OR | libc::BPF_K, libc::SECCOMP_RET_ERRNO),
            statement(libc::BPF_RET | libc::BPF_A, 0),
        ]);
    }
    out.push(statement(LOAD, OFFSET_NR));
    // Calls that nobody has looked at, x32 calls on x86-64, and anything else that is no call.
    out.extend([jump(GREATER, NEWEST_REVIEWED, 0, 1), absent]);
    let mut numbers: Vec<u32> = DENIED.iter().filter_map(|&nr| u32::try_from(nr).ok()).collect();
    numbers.sort_unstable();
    numbers.dedup();
    search(&numbers, &mut out);
    // ioctl: pushing input into terminals.
    let ioctl = [
        statement(LOAD, offset_arg(1)),
        jump(EQUAL, libc::TIOCSTI as u32, 1, 0),
        jump(EQUAL, libc::TIOCLINUX as u32, 0, 1),
        deny,
        allow,
    ];
    out.push(jump(EQUAL, libc::SYS_ioctl as u32, 0, ioctl.len() as u8));
    out.extend(ioctl);
    let check = sockets();
    for nr in [libc::SYS_socket, libc::SYS_socketpair] {
        out.push(jump(EQUAL, nr as u32, 0, check.len() as u8));
        out.extend(&check);
    }
    // Of core dumps: a limit of 1 byte is what keeps the host's core handler from being started (see `forbid_core_dumps`).
    let limit = |resource: u32, new: u32| {
        [
            statement(LOAD, offset_arg(resource)),
            jump(EQUAL, libc::RLIMIT_CORE, 1, 0),
            allow,
            // A question, without a new limit, may be asked.
            statement(LOAD, offset_arg(new)),
            jump(EQUAL, 0, 0, 2),
            statement(LOAD, offset_arg(new) + 4),
            jump(EQUAL, 0, 1, 0),
            deny,
            allow,
        ]
    };
    for (nr, check) in [(libc::SYS_prlimit64, limit(1, 2)), (SYS_SETRLIMIT, limit(0, 1))] {
        out.push(jump(EQUAL, nr as u32, 0, check.len() as u8));
        out.extend(check);
    }
    let dumpable = [
        statement(LOAD, offset_arg(0)),
        jump(EQUAL, libc::PR_SET_DUMPABLE as u32, 0, 2),
        statement(LOAD, offset_arg(1)),
        jump(EQUAL, 0, 0, 1),
        allow,
        deny,
    ];
    out.push(jump(EQUAL, libc::SYS_prctl as u32, 0, dumpable.len() as u8));
    out.extend(dumpable);
    // No pages that the host keeps aside: what a replay holds of them is not counted as its memory.
    for (nr, arg, huge) in [
        (libc::SYS_mmap, 3, libc::MAP_HUGETLB as u32),
        (libc::SYS_memfd_create, 1, libc::MFD_HUGETLB),
        (libc::SYS_shmget, 2, libc::SHM_HUGETLB as u32),
    ] {
        let check = [statement(LOAD, offset_arg(arg)), jump(HAS, huge, 0, 1), deny, allow];
        out.push(jump(EQUAL, nr as u32, 0, check.len() as u8));
        out.extend(check);
    }
    // clone: no namespaces (clone3 cannot be inspected; user.max_user_namespaces = 0 stops it there).
    let namespaces = (libc::CLONE_NEWUSER
        | libc::CLONE_NEWNS
        | libc::CLONE_NEWPID
        | libc::CLONE_NEWNET
        | libc::CLONE_NEWIPC
        | libc::CLONE_NEWUTS
        | libc::CLONE_NEWCGROUP) as u32;
    let clone = [statement(LOAD, offset_arg(0)), jump(HAS, namespaces, 0, 1), deny, allow];
    out.push(jump(EQUAL, libc::SYS_clone as u32, 0, clone.len() as u8));
    out.extend(clone);
    // unshare: what a process has of its own anyway, no namespaces.
    let unshare = [
        statement(LOAD, offset_arg(0) + 4),
        jump(EQUAL, 0, 0, 3),
        statement(LOAD, offset_arg(0)),
        jump(HAS, !(UNSHARED_TABLES as u32), 1, 0),
        allow,
        deny,
    ];
    out.push(jump(EQUAL, libc::SYS_unshare as u32, 0, unshare.len() as u8));
    out.extend(unshare);
    out.push(allow);
    out
}

/// Allows what [`is_denied_socket`] allows, denies the rest.
fn sockets() -> Vec<libc::sock_filter> {
    const LOAD: u32 = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
    const EQUAL: u32 = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
    const RETURN: u32 = libc::BPF_RET | libc::BPF_K;
    let deny = statement(RETURN, libc::SECCOMP_RET_ERRNO | libc::EPERM as u32);
    let allow = statement(RETURN, libc::SECCOMP_RET_ALLOW);
    // One of `values` goes on behind this, anything else is denied.
    let one_of = |values: &[i32]| {
        let n = values.len() as u8;
        let mut part: Vec<_> =
            (0..n).zip(values).map(|(i, &value)| jump(EQUAL, value as u32, n - i, 0)).collect();
        part.push(deny);
        part
    };
    let protocols = |values: &[i32]| {
        let mut part = vec![statement(LOAD, offset_arg(2))];
        part.extend(one_of(values));
        part.push(allow);
        part
    };
    let mut out = vec![
        statement(LOAD, offset_arg(1)),
        statement(libc::BPF_ALU | libc::BPF_AND | libc::BPF_K, SOCKET_KIND_MASK),
    ];
    out.extend(one_of(&SOCKET_KINDS));
    out.push(statement(LOAD, offset_arg(0)));
    let (internet, netlink) = (protocols(&INTERNET_PROTOCOLS), protocols(&NETLINK_PROTOCOLS));
    out.extend([jump(EQUAL, libc::AF_UNIX as u32, 0, 1), allow]);
    out.push(jump(EQUAL, libc::AF_NETLINK as u32, 0, netlink.len() as u8));
    out.extend(netlink);
    out.extend([
        jump(EQUAL, libc::AF_INET as u32, 1, 0),
        jump(EQUAL, libc::AF_INET6 as u32, 0, internet.len() as u8),
    ]);
    out.extend(internet);
    out.push(deny);
    out
}

/// Denies `numbers` (sorted): blocks of eight comparisons, each block skipped by one.
fn search(numbers: &[u32], out: &mut Vec<libc::sock_filter>) {
    const EQUAL: u32 = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
    const GREATER: u32 = libc::BPF_JMP | libc::BPF_JGT | libc::BPF_K;
    for block in numbers.chunks(8) {
        let Some(&last) = block.last() else { continue };
        let n = block.len() as u8;
        // Above this block: on to the next one.
        out.push(jump(GREATER, last, n + 2, 0));
        for (index, &number) in (0_u8..).zip(block) {
            out.push(jump(EQUAL, number, n - index, 0));
        }
        // In the block's range but none of it: skip the denial, and run through the (failing) rest.
        out.push(jump(libc::BPF_JMP | libc::BPF_JA, 1, 0, 0));
        out.push(statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ERRNO | libc::EPERM as u32));
    }
}

/// Drops what the worker must not have and installs the filter. The last thing before its image starts.
///
/// # Errors
/// When the kernel refuses a restriction.
pub(crate) fn apply(
    environment: &Environment,
    many_users: bool,
    fault_lane: bool,
) -> Result<(), SandboxError> {
    let fail = |what: &'static str, error: io::Error| SandboxError::build("confine the worker", what, error);
    forbid_core_dumps();
    nix::sys::prctl::set_no_new_privs().map_err(|errno| fail("no_new_privs", errno.into()))?;
    for capability in (0..CAPABILITIES_END).filter(|c| !KEPT_CAPABILITIES.contains(c)) {
        // SAFETY: prctl with integers only.
        let dropped = unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) };
        if dropped != 0 {
            break;
        }
    }
    let keeps = environment.uid == 0;
    set_capabilities(true).map_err(|error| fail("capabilities", error))?;
    if many_users && (environment.uid != 0 || environment.gid != 0) {
        let clamp = |id: u32| if id < 65_536 { id } else { 65_534 };
        let (uid, gid) = (clamp(environment.uid), clamp(environment.gid));
        let (uid, gid) = (nix::unistd::Uid::from_raw(uid), nix::unistd::Gid::from_raw(gid));
        nix::unistd::setresgid(gid, gid, gid).map_err(|errno| fail("setresgid", errno.into()))?;
        nix::unistd::setresuid(uid, uid, uid).map_err(|errno| fail("setresuid", errno.into()))?;
    }
    if !keeps {
        set_capabilities(false).map_err(|error| fail("capabilities", error))?;
    }
    install_filter(fault_lane).map_err(|error| fail("system call filter", error))
}

/// A crash of a worker starts nothing on the host. The kernel starts a piped core handler whatever the limit is, but 1
/// (fs/coredump.c: `cprm.limit == 1`), and connects to a core socket whatever it is: for that, each image of the worker makes
/// itself undumpable before its first step.
fn forbid_core_dumps() {
    let one = libc::rlimit { rlim_cur: 1, rlim_max: 1 };
    // SAFETY: reads one structure.
    if unsafe { libc::setrlimit(libc::RLIMIT_CORE, &raw const one) } != 0 {
        // Not raised above a hard limit of 0: a file is not written then, and the rest is as for sockets.
        let none = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        // SAFETY: as above.
        let _ = unsafe { libc::setrlimit(libc::RLIMIT_CORE, &raw const none) };
    }
}

/// Gives up every capability of this process.
///
/// # Errors
/// When the kernel refuses, which it does not for giving up.
pub(crate) fn drop_capabilities() -> io::Result<()> {
    set_capabilities(false)
}

fn set_capabilities(keep: bool) -> io::Result<()> {
    let mask = if keep { KEPT_CAPABILITIES.iter().fold(0_u64, |mask, c| mask | 1 << c) } else { 0 };
    // struct __user_cap_header_struct { version, pid } and two __user_cap_data_struct { effective, permitted, inheritable }.
    let header: [u32; 2] = [0x2008_0522, 0];
    let (low, high) = (mask as u32, (mask >> 32) as u32);
    let data: [u32; 6] = [low, low, 0, high, high, 0];
    // SAFETY: both structures have the layout of _LINUX_CAPABILITY_VERSION_3 and live across the call.
    let ret = unsafe { libc::syscall(libc::SYS_capset, header.as_ptr(), data.as_ptr()) };
    if ret == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn install_filter(fault_lane: bool) -> io::Result<()> {
    let mut filter = filter(fault_lane);
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
    // SAFETY: `program` points to `filter`, which lives across the call; the kernel copies it.
    let ret = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW,
            &raw const program,
        )
    };
    if ret == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// The open-file limit a replay can have at most.
pub(crate) fn max_open_files() -> u64 {
    getrlimit(Resource::RLIMIT_NOFILE).map_or(1024, |(_, hard)| hard)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs the filter as the kernel would.
    fn verdict(filter: &[libc::sock_filter], nr: u32, args: [u64; 6]) -> u32 {
        let mut data = Vec::new();
        data.extend_from_slice(&nr.to_le_bytes());
        data.extend_from_slice(&AUDIT_ARCH.to_le_bytes());
        data.extend_from_slice(&0_u64.to_le_bytes());
        for arg in args {
            data.extend_from_slice(&arg.to_le_bytes());
        }
        let (mut at, mut a) = (0_usize, 0_u32);
        loop {
            let i = filter[at];
            at += 1;
            let code = u32::from(i.code);
            match code {
                _ if code == libc::BPF_LD | libc::BPF_W | libc::BPF_ABS => {
                    let o = i.k as usize;
                    a = u32::from_le_bytes(data[o..o + 4].try_into().unwrap());
                }
                _ if code == libc::BPF_RET | libc::BPF_K => return i.k,
                _ if code == libc::BPF_RET | libc::BPF_A => return a,
                _ if code == libc::BPF_ALU | libc::BPF_AND | libc::BPF_K => a &= i.k,
                _ if code == libc::BPF_ALU | libc::BPF_OR | libc::BPF_K => a |= i.k,
                _ if code == libc::BPF_JMP | libc::BPF_JA => at += i.k as usize,
                _ => {
                    let hit = match code & 0xf0 {
                        libc::BPF_JEQ => a == i.k,
                        libc::BPF_JGT => a > i.k,
                        libc::BPF_JGE => a >= i.k,
                        libc::BPF_JSET => a & i.k != 0,
                        other => panic!("unknown jump {other:#x}"),
                    };
                    at += usize::from(if hit { i.jt } else { i.jf });
                }
            }
        }
    }

    #[test]
    fn the_filter_denies_the_listed_calls_and_no_other() {
        for lane in [false, true] {
            let filter = filter(lane);
            for nr in (0..500_u32).chain([0x4000_0001, u32::MAX]) {
                if [libc::SYS_socket, libc::SYS_socketpair].contains(&i64::from(nr)) {
                    continue;
                }
                let expected = if nr > NEWEST_REVIEWED {
                    libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32
                } else if DENIED.contains(&i64::from(nr)) {
                    libc::SECCOMP_RET_ERRNO | libc::EPERM as u32
                } else {
                    libc::SECCOMP_RET_ALLOW
                };
                assert_eq!(verdict(&filter, nr, [0; 6]), expected, "call {nr}, lane {lane}");
            }
        }
    }

    #[test]
    fn the_filter_looks_at_the_arguments_of_some_calls() {
        let filter = filter(false);
        let eperm = libc::SECCOMP_RET_ERRNO | libc::EPERM as u32;
        let ioctl = libc::SYS_ioctl as u32;
        assert_eq!(verdict(&filter, ioctl, [0, libc::TIOCSTI, 0, 0, 0, 0]), eperm);
        assert_eq!(verdict(&filter, ioctl, [0, libc::TCGETS, 0, 0, 0, 0]), libc::SECCOMP_RET_ALLOW);
        for nr in [libc::SYS_socket as u32, libc::SYS_socketpair as u32] {
            for family in 0..50 {
                for kind in [0, 1, 2, 3, 4, 5, 6, 7, 10, libc::SOCK_STREAM | libc::SOCK_CLOEXEC] {
                    for protocol in (0..40).chain([132, 136, 255, 262]) {
                        let allowed = !is_denied_socket(family, kind, protocol);
                        let expected = if allowed { libc::SECCOMP_RET_ALLOW } else { eperm };
                        let args = [family as u64, kind as u64, protocol as u64, 0, 0, 0];
                        assert_eq!(verdict(&filter, nr, args), expected, "{family} {kind} {protocol}");
                    }
                }
            }
        }
        for (family, kind, protocol, denied) in [
            (libc::AF_VSOCK, 1, 0, true),
            (libc::AF_ALG, 5, 0, true),
            (libc::AF_INET, 5, 132, true),
            (libc::AF_INET, 6, 0, true),
            (libc::AF_NETLINK, 3, libc::NETLINK_AUDIT, true),
            (libc::AF_NETLINK, 3, libc::NETLINK_NETFILTER, true),
            (libc::AF_NETLINK, 3, libc::NETLINK_USERSOCK, false),
            (libc::AF_NETLINK, 3, libc::NETLINK_SELINUX, true),
            (libc::AF_NETLINK, 3, libc::NETLINK_CONNECTOR, true),
            (libc::AF_NETLINK, 3, libc::NETLINK_ROUTE, true),
            (libc::AF_UNIX, libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC, 0, false),
            (libc::AF_INET6, libc::SOCK_DGRAM | libc::SOCK_NONBLOCK, 17, false),
        ] {
            assert_eq!(is_denied_socket(family, kind, protocol), denied, "{family} {kind} {protocol}");
        }
        let unshare = libc::SYS_unshare as u32;
        for (asked, expected) in [
            (UNSHARED_TABLES, libc::SECCOMP_RET_ALLOW),
            (libc::CLONE_NEWNS as u64, eperm),
            (libc::CLONE_NEWUSER as u64 | UNSHARED_TABLES, eperm),
            (libc::CLONE_NEWTIME as u64, eperm),
            (UNSHARED_TABLES | 1 << 40, eperm),
        ] {
            assert_eq!(verdict(&filter, unshare, [asked, 0, 0, 0, 0, 0]), expected, "unshare {asked:#x}");
        }
        let core = u64::from(libc::RLIMIT_CORE);
        let prlimit = libc::SYS_prlimit64 as u32;
        assert_eq!(verdict(&filter, prlimit, [0, core, 0, 4096, 0, 0]), libc::SECCOMP_RET_ALLOW);
        assert_eq!(verdict(&filter, prlimit, [0, core, 4096, 0, 0, 0]), eperm);
        assert_eq!(verdict(&filter, prlimit, [0, core, 1 << 40, 0, 0, 0]), eperm);
        assert_eq!(verdict(&filter, prlimit, [0, core + 1, 4096, 0, 0, 0]), libc::SECCOMP_RET_ALLOW);
        assert_eq!(verdict(&filter, SYS_SETRLIMIT as u32, [core, 4096, 0, 0, 0, 0]), eperm);
        assert_eq!(verdict(&filter, SYS_SETRLIMIT as u32, [3, 4096, 0, 0, 0, 0]), libc::SECCOMP_RET_ALLOW);
        let prctl = libc::SYS_prctl as u32;
        assert_eq!(verdict(&filter, prctl, [libc::PR_SET_DUMPABLE as u64, 1, 0, 0, 0, 0]), eperm);
        assert_eq!(verdict(&filter, prctl, [4, 0, 0, 0, 0, 0]), libc::SECCOMP_RET_ALLOW);
        assert_eq!(verdict(&filter, prctl, [1, 9, 0, 0, 0, 0]), libc::SECCOMP_RET_ALLOW);
        for (nr, arg, flag, size) in [
            (libc::SYS_memfd_create, 1, u64::from(libc::MFD_HUGETLB), 21 << 26),
            (libc::SYS_mmap, 3, libc::MAP_HUGETLB as u64, 30 << 26),
            (libc::SYS_shmget, 2, libc::SHM_HUGETLB as u64, 0),
        ] {
            let mut args = [0, 4096, 3, 0, 0, 0];
            args[arg] = size;
            assert_eq!(verdict(&filter, nr as u32, args), libc::SECCOMP_RET_ALLOW, "{nr}");
            args[arg] |= flag | size;
            assert_eq!(verdict(&filter, nr as u32, args), eperm, "{nr}");
        }
        let clone = libc::SYS_clone as u32;
        assert_eq!(verdict(&filter, clone, [libc::CLONE_NEWUSER as u64, 0, 0, 0, 0, 0]), eperm);
        assert_eq!(verdict(&filter, clone, [17, 0, 0, 0, 0, 0]), libc::SECCOMP_RET_ALLOW);
    }

    #[test]
    fn a_tagged_call_with_a_result_is_answered_with_0() {
        let args = [0, 0, 0, 0, 0, ctrace_program::fault_tag(70_000)];
        for nr in [libc::SYS_write, libc::SYS_mount, libc::SYS_ptrace] {
            assert_eq!(verdict(&filter(true), nr as u32, args), libc::SECCOMP_RET_ERRNO);
        }
        assert_eq!(ctrace_program::fault_tag(0), FAULT_TAG);
    }

    #[test]
    fn a_tagged_call_fails_with_the_errno_of_its_tag() {
        let args = [0, 0, 0, 0, 0, FAULT_TAG | libc::ENOSPC as u64];
        assert_eq!(
            verdict(&filter(true), libc::SYS_write as u32, args),
            libc::SECCOMP_RET_ERRNO | libc::ENOSPC as u32
        );
        assert_eq!(verdict(&filter(false), libc::SYS_write as u32, args), libc::SECCOMP_RET_ALLOW);
    }
}
