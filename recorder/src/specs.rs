//! Which arguments of which call are copied: the table for the kernel half, from the shared syscall descriptions.

use crate::arch::{Arch, is_narrow};
use ctrace_abi::{MAX_OPS, Op, SPEC_COMPAT, SPECS, Spec, data, op, spec_flag, when};
use ctrace_format::syscalls::{self, Kind};
use ctrace_format::{Abi, Sysno};

/// The table of a machine, native numbers first, then those of 32-bit calls.
pub(crate) fn table(arch: &Arch) -> Vec<Spec> {
    // Of what nobody knows, everything is kept.
    let mut table = vec![Spec { nargs: 6, ..Spec::default() }; SPECS as usize];
    for (base, abi) in [(0, arch.native), (SPEC_COMPAT, arch.compat)] {
        for nr in 0..SPEC_COMPAT {
            if let Some(name) = syscalls::name(Sysno { abi, nr }) {
                table[(base + nr) as usize] = spec(name, abi, arch);
            }
        }
    }
    table
}

/// Whether a call makes a descriptor of a file that was not open before: the object of such a call is known at its end.
pub(crate) fn makes_file(sysno: Sysno, arch: &Arch) -> bool {
    const MAKES: u8 = spec_flag::RET_FD | spec_flag::NEW_FILE;
    syscalls::name(sysno).is_some_and(|name| spec(name, sysno.abi, arch).flags & MAKES == MAKES)
}

/// What is copied of a call; `None`: it is in no table.
pub(crate) fn of(sysno: Sysno, arch: &Arch) -> Option<Spec> {
    syscalls::name(sysno).map(|name| spec(name, sysno.abi, arch))
}

/// A call's specification under construction.
struct Builder {
    spec: Spec,
}

impl Builder {
    fn op(&mut self, op: u8, arg: usize, len: usize, size: u16, when: u8) {
        let i = usize::from(self.spec.ops_len);
        // A call with more copies than the table holds loses the last ones; the test below knows of none.
        if i < MAX_OPS {
            self.spec.ops[i] = Op { op, arg: arg as u8, len: len as u8, when, size, reserved: 0 };
            self.spec.ops_len += 1;
            self.spec.flags |= match when {
                when::ENTRY => spec_flag::AT_ENTRY,
                // The entry decides.
                when::CHOSEN => 0,
                _ => spec_flag::AT_EXIT,
            };
        }
    }

    fn fd(&mut self, arg: usize, has_result: bool) {
        if has_result || self.spec.flags & spec_flag::FD != 0 {
            self.op(op::OBJECT, arg, 0, 0, when::ENTRY);
        } else {
            self.spec.flags |= spec_flag::FD;
            self.spec.fd_arg = arg as u8;
        }
    }

    fn time(&mut self, arg: usize, kind: u8) {
        if self.spec.flags & spec_flag::TIME == 0 {
            self.spec.flags |= spec_flag::TIME;
            self.spec.time_arg = arg as u8;
            self.spec.time_kind = kind;
        }
    }
}

/// Whether the new descriptor shares the file of the descriptor argument, which then names the object.
fn duplicates(name: &str) -> bool {
    matches!(name, "dup" | "dup2" | "dup3")
}

fn spec(name: &str, abi: Abi, arch: &Arch) -> Spec {
    let mut b = Builder { spec: Spec { data: data_of(name), ..Spec::default() } };
    let Some(args) = syscalls::args(name) else { return Spec { nargs: 6, ..b.spec } };
    // Structures with pointers or longs in them have another layout in 32-bit programs; those are kept raw.
    let wide = !is_narrow(abi);
    let returns_fd = syscalls::returns_fd(name) && !duplicates(name);
    b.spec.nargs = args.len() as u8;
    if returns_fd {
        b.spec.flags |= spec_flag::RET_FD | spec_flag::NEW_FILE;
    }
    if matches!(name, "open" | "openat" | "openat2" | "creat") {
        b.spec.flags |= spec_flag::OPENS;
    }
    let receives = name.starts_with("recv");
    for (i, (_, kind)) in args.iter().enumerate() {
        match kind {
            Kind::Fd | Kind::DirFd => b.fd(i, returns_fd),
            Kind::Path | Kind::Str => b.op(op::STR, i, 0, 0, when::ENTRY),
            Kind::SockAddr => b.op(op::ADDR, i, i + 1, 0, when::ENTRY),
            Kind::SockAddrOut => {
                // The kernel tells the address's own length, and writes no more than it is given room for. Most who receive
                // leave no room; the others are too many to be looked at twice.
                if name != "recvfrom" {
                    b.op(op::PEEK, i + 1, 0, 4, when::ENTRY);
                }
                b.op(op::ADDR_OUT, i, i + 1, 0, when::EXIT_OK);
            }
            Kind::NewFds => b.op(op::FDS, i, 0, 0, when::EXIT_OK),
            Kind::PollFds => b.op(op::POLL, i, i + 1, 0, when::EXIT),
            Kind::EpollEvents => b.op(op::EPOLL, i, 0, 0, when::EXIT_OK),
            Kind::EpollEvent => b.op(op::BYTES, i, 0, arch.epoll_event[0] as u16, when::ENTRY),
            Kind::U32Ptr => b.op(op::BYTES, i, 0, 4, when::EXIT_OK),
            Kind::SigSet => b.op(op::BYTES, i, 0, 8, when::ENTRY),
            Kind::OpenHow => b.op(op::BYTES, i, 0, 24, when::ENTRY),
            Kind::CloneArgs => b.op(op::BYTES, i, 0, 64, when::ENTRY),
            Kind::OptVal => b.op(op::OPT, i, i + 1, 0, when::ENTRY),
            Kind::Iov if wide => b.op(op::IOV, i, i + 1, 0, when::ENTRY),
            Kind::Msg if wide => {
                let when = if receives { when::EXIT_OK } else { when::ENTRY };
                b.op(op::MSG, i, 0, u16::from(!receives), when);
            }
            Kind::Msgs if wide => b.op(op::MSGS, i, 2, 0, if receives { when::EXIT_OK } else { when::EXIT }),
            Kind::FdSet if wide => {
                b.op(op::FDSET, i, 0, 0, when::ENTRY);
                b.op(op::FDSET, i, 0, 0, when::EXIT_OK);
            }
            Kind::Stat | Kind::Statx if wide => b.op(op::BYTES, i, 0, 64, when::EXIT_OK),
            Kind::SigAction | Kind::Itimerspec if wide => b.op(op::BYTES, i, 0, 32, when::ENTRY),
            Kind::U64Ptr if wide => b.op(op::BYTES, i, 0, 8, when::EXIT_OK),
            Kind::Argv if wide => b.op(op::ARGV, i, 0, 0, when::ENTRY),
            Kind::Rlimit if wide => b.op(op::BYTES, i, 0, 16, when::ENTRY),
            Kind::Timespec if wide => b.time(i, 0),
            Kind::Timeval if wide => b.time(i, 1),
            _ => {}
        }
    }
    if is_identity(name) {
        b.op(op::CREDS, 0, 0, 0, when::ENTRY);
        b.op(op::CREDS, 0, 0, 0, when::EXIT);
    }
    if matches!(
        name,
        "rename" | "renameat" | "renameat2" | "mount" | "umount2" | "move_mount" | "pivot_root" | "chroot"
    ) {
        b.op(op::MOVES, 0, 0, 0, when::EXIT);
    }
    // Who sends, connects, listens or binds to no address in particular gets one that the kernel chooses.
    let unbound = match name {
        "connect" => Some((1, 1)),
        "bind" | "sendmmsg" => Some((1, 0)),
        "listen" => Some((0, 0)),
        "sendto" => Some((4, 0)),
        _ => None,
    };
    if let Some((arg, wholly)) = unbound {
        b.op(op::UNBOUND, arg, 0, wholly, when::ENTRY);
    }
    if unbound.is_some() || name == "sendmsg" && wide {
        b.op(op::LOCAL, 0, 0, 0, when::CHOSEN);
    }
    match name {
        // struct itimerval.
        "setitimer" if wide => b.op(op::BYTES, 1, 0, 32, when::ENTRY),
        // Many commands take or return an int behind the pointer (FIONBIO, FIONREAD); others take no pointer.
        "ioctl" => b.op(op::PEEK, 2, 0, 4, when::EXIT_OK),
        "execve" | "execveat" => b.spec.flags |= spec_flag::ALWAYS,
        // They have no argument, but a replay's engine makes them, and is told by its mark in the sixth.
        "getpid" | "gettid" => b.spec.nargs = 6,
        _ => {}
    }
    arrange(&mut b.spec);
    b.spec
}

/// Puts the ops of the entry first, and of them those last that often have nothing to do: the first of each phase is
/// cheaper than others.
fn arrange(spec: &mut Spec) {
    let ops = &mut spec.ops[..usize::from(spec.ops_len)];
    ops.sort_by_key(|o| (o.when != when::ENTRY, matches!(o.op, op::OBJECT | op::UNBOUND)));
    spec.entry_len = ops.iter().filter(|o| o.when == when::ENTRY).count() as u8;
}

/// Where the data of a call are that may carry a DNS message, and with that what its result counts: bytes, or messages.
fn data_of(name: &str) -> u8 {
    match name {
        "read" | "write" | "send" | "recv" | "sendto" | "recvfrom" => data::BUFFER,
        "sendmsg" | "recvmsg" => data::MESSAGE,
        "sendmmsg" | "recvmmsg" | "recvmmsg_time64" => data::MESSAGES,
        "readv" | "writev" | "preadv2" | "pwritev2" => data::VECTOR,
        _ => data::NONE,
    }
}

/// Whether a call changes who its task acts as.
fn is_identity(name: &str) -> bool {
    let base = name.strip_suffix("32").unwrap_or(name);
    matches!(
        base,
        "setuid" | "setgid" | "setreuid" | "setregid" | "setresuid" | "setresgid" | "setfsuid" | "setfsgid"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arch::{AARCH64, X86_64};

    fn native(name: &str) -> Spec {
        spec(name, Abi::X86_64, &X86_64)
    }

    #[test]
    fn no_described_call_needs_more_copies_than_the_table_holds() {
        for nr in 0..SPEC_COMPAT {
            let Some(name) = syscalls::name(Sysno { abi: Abi::X86_64, nr }) else { continue };
            let wanted: usize = syscalls::args(name)
                .unwrap_or_default()
                .iter()
                .map(|(_, k)| match k {
                    Kind::FdSet => 2,
                    k if k.is_raw() && !matches!(k, Kind::Fd | Kind::DirFd) => 0,
                    _ => 1,
                })
                .sum();
            assert!(wanted <= MAX_OPS + 2, "{name} wants {wanted}");
        }
    }

    #[test]
    fn calls_are_described_as_they_are_used() {
        let openat = native("openat");
        assert_ne!(openat.flags & spec_flag::RET_FD, 0);
        assert_eq!(openat.flags & spec_flag::FD, 0);
        assert_eq!((openat.ops[0].op, openat.ops[0].arg), (op::STR, 1));
        assert_eq!((openat.ops[1].op, openat.ops[1].arg), (op::OBJECT, 0));
        assert_eq!((openat.entry_len, openat.ops_len), (2, 2));
        let read = native("read");
        assert_eq!((read.flags, read.fd_arg, read.ops_len), (spec_flag::FD, 0, 0));
        assert_eq!(native("mmap").fd_arg, 4);
        assert_eq!(native("dup2").flags & spec_flag::RET_FD, 0);
        assert_eq!(native("getppid").flags, 0);
    }

    #[test]
    fn the_ops_of_the_entry_come_first() {
        for arch in [&X86_64, &AARCH64] {
            for spec in table(arch) {
                let (entry, exit) =
                    spec.ops[..usize::from(spec.ops_len)].split_at(usize::from(spec.entry_len));
                assert!(
                    entry.iter().all(|o| o.when == when::ENTRY) && exit.iter().all(|o| o.when != when::ENTRY)
                );
            }
        }
        let select = native("select");
        assert_eq!((select.entry_len, select.ops_len), (3, 6));
    }

    #[test]
    fn each_machine_has_its_own_numbers_and_layouts() {
        let find = |arch: &Arch, name| {
            let nr = syscalls::number(arch.native, name).unwrap().nr;
            table(arch)[nr as usize]
        };
        for arch in [&X86_64, &AARCH64] {
            assert_eq!(find(arch, "openat").ops[0].op, op::STR);
            assert_eq!(find(arch, "read").fd_arg, 0);
        }
        assert_eq!(find(&X86_64, "epoll_ctl").ops.map(|o| o.size).into_iter().max(), Some(12));
        assert_eq!(find(&AARCH64, "epoll_ctl").ops.map(|o| o.size).into_iter().max(), Some(16));
        // Number 56 of the 32-bit tables is not `openat`.
        let compat = syscalls::number(Abi::Arm, "openat").unwrap().nr;
        assert_eq!(table(&AARCH64)[(SPEC_COMPAT + compat) as usize].ops[0].op, op::STR);
    }

    #[test]
    fn what_a_result_counts_is_known_of_32_bit_calls_too() {
        for (arch, name, data) in [
            (&X86_64, "sendto", data::BUFFER),
            (&X86_64, "recvmmsg", data::MESSAGES),
            (&X86_64, "recvmmsg_time64", data::MESSAGES),
            (&AARCH64, "send", data::BUFFER),
            (&AARCH64, "readv", data::VECTOR),
            (&AARCH64, "socketpair", data::NONE),
        ] {
            let nr = syscalls::number(arch.compat, name).unwrap().nr;
            assert_eq!(table(arch)[(SPEC_COMPAT + nr) as usize].data, data, "{name}");
        }
    }

    #[test]
    fn buffers_are_not_kept_and_sizes_are() {
        assert_eq!(syscalls::kept_args("read"), 0b101);
        assert_eq!(syscalls::kept_args("getppid"), 0);
        assert_eq!(syscalls::kept_args("no_such_call"), 0x3f);
    }
}
