//! The one table of what each call does. A call is added by a row.
//!
//! A row is: the variant of [`Call`], the kernel's name, the machines that have it (`everywhere`, `x86_64` only, `compat`:
//! 32-bit tables only), the arguments (`?`: not described), and what else is to be known, see [`Row`].

use super::row::{Cloexec as C, Family as F, Follow, Limit, List as L, On, Replay as R, Row, Topic as T};
use super::{Arg, Kind};
use crate::event::{Abi, Sysno};
use rustc_hash::FxHashMap;
use std::sync::LazyLock;

/// `memfd_create`: the new descriptor is closed by exec.
const MFD_CLOEXEC: u64 = 1;

macro_rules! described {
    (?) => {
        None
    };
    ([$($arg:ident: $kind:ident),*]) => {{
        const ARGS: &[Arg] = &[$((stringify!($arg), Kind::$kind)),*];
        Some(ARGS)
    }};
}

/// The number of a call on `$machine` (a module of the `syscalls` crate).
macro_rules! number {
    (everywhere $machine:ident $name:ident) => {
        Some(syscalls::$machine::Sysno::$name as u32)
    };
    (x86_64 x86_64 $name:ident) => {
        Some(syscalls::x86_64::Sysno::$name as u32)
    };
    ($where:ident $machine:ident $name:ident) => {
        None
    };
}

/// The constant of a call that every machine has.
macro_rules! constant {
    (everywhere $name:ident) => {
        #[doc = concat!("`", stringify!($name), "`.")]
        pub const $name: u32 = if cfg!(target_arch = "aarch64") {
            syscalls::aarch64::Sysno::$name as u32
        } else {
            syscalls::x86_64::Sysno::$name as u32
        };
    };
    ($where:ident $name:ident) => {};
}

macro_rules! table {
    ($($variant:ident $name:ident $where:ident $args:tt $(.$about:ident($($what:expr),*))*;)*) => {
        /// A system call, whatever number a machine gives it.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[non_exhaustive]
        pub enum Call {
            $(#[doc = concat!("`", stringify!($name), "`.")] $variant,)*
            /// A call that the table does not have: known by its name or number only.
            Unlisted,
        }

        impl Call {
            /// Every call of the table, by name.
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            /// Its number in the table of a 64-bit machine that has it.
            pub const fn number(self, abi: Abi) -> Option<Sysno> {
                let nr = match (self, abi) {
                    $(
                        (Self::$variant, Abi::X86_64) => number!($where x86_64 $name),
                        (Self::$variant, Abi::Aarch64) => number!($where aarch64 $name),
                    )*
                    _ => None,
                };
                match nr {
                    Some(nr) => Some(Sysno { abi, nr }),
                    None => None,
                }
            }
        }

        static ROWS: &[Row] = &[
            $(Row::new(stringify!($name), described!($args))$(.$about($($what),*))*,)*
            Row::new("", None),
        ];

        /// The numbers, on the machine that this is built for, of the calls that every machine has. A call that one of
        /// them lacks has none, and [`Call::number`] tells.
        #[allow(non_upper_case_globals, reason = "the kernel's own names")]
        pub mod nr {
            $(constant!($where $name);)*
        }
    };
}

impl Call {
    /// The call of this name; [`Call::Unlisted`] when the table does not have it.
    pub fn named(name: &str) -> Self {
        static NAMES: LazyLock<FxHashMap<&str, Call>> =
            LazyLock::new(|| Call::ALL.iter().map(|call| (call.row().name, *call)).collect());
        NAMES.get(name).copied().unwrap_or(Self::Unlisted)
    }

    /// The call of this number; [`Call::Unlisted`] when the table does not have it.
    pub fn of(sysno: Sysno) -> Self {
        /// Numbers below this are looked up in a table: a reader asks for each of millions of events.
        const NUMBERS: u32 = 1024;
        type Numbers = [Call; NUMBERS as usize];
        static KNOWN: LazyLock<[Numbers; 4]> = LazyLock::new(|| {
            TABLES.map(|abi| std::array::from_fn(|nr| Call::by_name(Sysno { abi, nr: nr as u32 })))
        });
        /// One of each kind: x32 has the numbers of x86-64, its mark taken away.
        const TABLES: [Abi; 4] = [Abi::X86_64, Abi::I386, Abi::Aarch64, Abi::Arm];
        let table = match sysno.abi {
            Abi::X86_64 | Abi::X32 => 0,
            Abi::I386 => 1,
            Abi::Aarch64 => 2,
            Abi::Arm => 3,
        };
        KNOWN[table].get(sysno.nr as usize).copied().unwrap_or_else(|| Self::by_name(sysno))
    }

    fn by_name(sysno: Sysno) -> Self {
        super::name(sysno).map_or(Self::Unlisted, Self::named)
    }

    /// What is known of it.
    pub fn row(self) -> &'static Row {
        &ROWS[self as usize]
    }

    /// Its name; empty for [`Call::Unlisted`].
    pub fn name(self) -> &'static str {
        self.row().name
    }
}

table! {
    Accept accept everywhere [fd: Fd, addr: SockAddrOut, addrlen: Ptr] .is(F::Accept, T::Network).makes(C::Unset).waits(On::Connection).own();
    Accept4 accept4 everywhere [fd: Fd, addr: SockAddrOut, addrlen: Ptr, flags: SockType] .is(F::Accept, T::Network).makes(C::By(3)).waits(On::Connection).own();
    Access access x86_64 [path: Path, mode: Mode] .replayed(R::Same);
    Adjtimex adjtimex everywhere ? .replayed(R::Surrogate);
    Alarm alarm x86_64 [seconds: UInt] .replayed(R::Same);
    ArchPrctl arch_prctl x86_64 [code: Flags, addr: Addr] .listed(L::Process).own();
    Bind bind everywhere [fd: Fd, addr: SockAddr, addrlen: UInt] .is(F::Bind, T::Network).own();
    Brk brk everywhere [addr: Addr] .is(F::Memory, T::Memory).listed(L::Memory).own();
    Capget capget everywhere [header: Ptr, data: Ptr] .own();
    Capset capset everywhere [header: Ptr, data: Ptr] .replayed(R::Granted);
    Chdir chdir everywhere [path: Path] .replayed(R::Same);
    Chmod chmod x86_64 [path: Path, mode: Mode] .replayed(R::Same);
    Chown chown x86_64 [path: Path, uid: Int, gid: Int] .own();
    Chroot chroot everywhere [path: Path] .own();
    ClockAdjtime clock_adjtime everywhere ? .replayed(R::Surrogate);
    ClockGetres clock_getres everywhere [clock: Clock, res: Ptr] .replayed(R::Same);
    ClockGettime clock_gettime everywhere [clock: Clock, tp: Ptr] .is(F::Noise, T::Noise).replayed(R::Same);
    ClockNanosleep clock_nanosleep everywhere [clock: Clock, flags: Flags, request: Timespec, remain: Ptr] .waits(On::Time).own();
    Clone clone everywhere [flags: CloneFlags, stack: Addr, parent_tid: Ptr, child_tid: Ptr, tls: Ptr] .is(F::Clone, T::Process).listed(L::Process).own();
    Clone3 clone3 everywhere [args: CloneArgs, size: Size] .is(F::Clone, T::Process).listed(L::Process).own();
    Close close everywhere [fd: Fd] .is(F::Close, T::File).own();
    CloseRange close_range everywhere [first: UInt, last: UInt, flags: Flags] .own();
    Connect connect everywhere [fd: Fd, addr: SockAddr, addrlen: UInt] .is(F::Connect, T::Network).waits(On::Connection).own();
    CopyFileRange copy_file_range everywhere [fd_in: Fd, off_in: U64Ptr, fd_out: Fd, off_out: U64Ptr, len: Size, flags: Flags] .is(F::Transfer, T::File).reads(0).writes(2).own();
    Creat creat x86_64 [path: Path, mode: Mode] .is(F::Open, T::Metadata).makes(C::Unset).own();
    Dup dup everywhere [fd: Fd] .is(F::Fd, T::File).makes(C::Unset).own();
    Dup2 dup2 x86_64 [fd: Fd, newfd: Fd] .is(F::Fd, T::File).makes(C::Unset).own();
    Dup3 dup3 everywhere [fd: Fd, newfd: Fd, flags: OpenFlags] .is(F::Fd, T::File).makes(C::By(2)).own();
    EpollCreate epoll_create x86_64 [size: Int] .makes(C::Unset).listed(L::Poll).own();
    EpollCreate1 epoll_create1 everywhere [flags: OpenFlags] .makes(C::By(0)).listed(L::Poll).own();
    EpollCtl epoll_ctl everywhere [epfd: Fd, op: EpollOp, fd: Fd, event: EpollEvent] .is(F::EpollCtl, T::Network).listed(L::Poll).own();
    EpollPwait epoll_pwait everywhere [epfd: Fd, events: EpollEvents, maxevents: Int, timeout: Millis, sigmask: Ptr, sigsetsize: Size] .is(F::Readiness, T::Readiness).waits(On::Readiness).limit(Limit::Millis(3)).listed(L::Poll).own();
    EpollPwait2 epoll_pwait2 everywhere [epfd: Fd, events: EpollEvents, maxevents: Int, timeout: Timespec, sigmask: Ptr, sigsetsize: Size] .is(F::Readiness, T::Readiness).waits(On::Readiness).limit(Limit::Pointer(3)).listed(L::Poll).own();
    EpollWait epoll_wait x86_64 [epfd: Fd, events: EpollEvents, maxevents: Int, timeout: Millis] .is(F::Readiness, T::Readiness).waits(On::Readiness).limit(Limit::Millis(3)).listed(L::Poll).own();
    Eventfd eventfd x86_64 [count: UInt] .makes(C::Unset).own();
    Eventfd2 eventfd2 everywhere [count: UInt, flags: OpenFlags] .makes(C::By(1)).own();
    Execve execve everywhere [path: Path, argv: Argv, envp: Ptr] .is(F::Exec, T::Process).listed(L::Process).own();
    Execveat execveat everywhere [dirfd: DirFd, path: Path, argv: Argv, envp: Ptr, flags: AtFlags] .is(F::Exec, T::Process).listed(L::Process).own();
    Exit exit everywhere [status: Int] .is(F::Exit, T::Process).listed(L::Process).own();
    ExitGroup exit_group everywhere [status: Int] .is(F::Exit, T::Process).listed(L::Process).own();
    Faccessat faccessat everywhere [dirfd: DirFd, path: Path, mode: Mode] .replayed(R::Same);
    Faccessat2 faccessat2 everywhere [dirfd: DirFd, path: Path, mode: Mode, flags: AtFlags] .replayed(R::Same);
    Fadvise64 fadvise64 everywhere [fd: Fd, offset: Off, len: Size, advice: Int] .is(F::Fd, T::File).replayed(R::Same);
    Fallocate fallocate everywhere [fd: Fd, mode: Flags, offset: Off, len: Off] .is(F::Fd, T::File).writes(0).replayed(R::Same);
    FanotifyInit fanotify_init everywhere ? .makes(C::Unset);
    FanotifyMark fanotify_mark everywhere ? .replayed(R::Granted);
    Fchdir fchdir everywhere [fd: Fd] .is(F::Fd, T::Metadata).replayed(R::Same);
    Fchmod fchmod everywhere [fd: Fd, mode: Mode] .is(F::Fd, T::Metadata).replayed(R::Same);
    Fchmodat fchmodat everywhere [dirfd: DirFd, path: Path, mode: Mode] .replayed(R::Same);
    Fchmodat2 fchmodat2 everywhere [dirfd: DirFd, path: Path, mode: Mode, flags: AtFlags];
    Fchown fchown everywhere [fd: Fd, uid: Int, gid: Int] .is(F::Fd, T::Metadata).own();
    Fchownat fchownat everywhere [dirfd: DirFd, path: Path, uid: Int, gid: Int, flags: AtFlags] .follows(Follow::Unless(4)).own();
    Fcntl fcntl everywhere [fd: Fd, cmd: FcntlCmd, arg: Int] .is(F::Fd, T::File).own();
    Fdatasync fdatasync everywhere [fd: Fd] .is(F::Fd, T::File).waits(On::Disk).replayed(R::Same);
    Fgetxattr fgetxattr everywhere [fd: Fd, name: Str, value: Ptr, size: Size] .is(F::Fd, T::Metadata).replayed(R::Same);
    Flistxattr flistxattr everywhere [fd: Fd, list: Ptr, size: Size] .is(F::Fd, T::Metadata).replayed(R::Same);
    Flock flock everywhere [fd: Fd, operation: Int] .is(F::Fd, T::File).waits(On::Lock).replayed(R::Same);
    Fork fork x86_64 [] .is(F::Clone, T::Process).listed(L::Process).own();
    Fremovexattr fremovexattr everywhere [fd: Fd, name: Str] .replayed(R::Same);
    Fsetxattr fsetxattr everywhere [fd: Fd, name: Str, value: Ptr, size: Size, flags: Flags] .is(F::Fd, T::Metadata).own();
    Fsmount fsmount everywhere ? .makes(C::Unset);
    Fsopen fsopen everywhere ? .makes(C::Unset);
    Fspick fspick everywhere ? .makes(C::Unset);
    Fstat fstat everywhere [fd: Fd, stat: Stat] .is(F::Fd, T::Metadata).reads(0).replayed(R::Same);
    Fstatfs fstatfs everywhere [fd: Fd, buf: Ptr] .is(F::Fd, T::Metadata).replayed(R::Same);
    Fsync fsync everywhere [fd: Fd] .is(F::Fd, T::File).waits(On::Disk).replayed(R::Same);
    Ftruncate ftruncate everywhere [fd: Fd, length: Off] .is(F::Fd, T::File).writes(0).replayed(R::Same);
    Futex futex everywhere [uaddr: Addr, op: FutexOp, val: UInt, timeout: Timespec, uaddr2: Addr, val3: UInt] .is(F::Noise, T::Noise).waits(On::Lock).own();
    FutexRequeue futex_requeue everywhere ? .is(F::Noise, T::Noise);
    FutexWait futex_wait everywhere [uaddr: Addr, val: UInt, mask: Flags, flags: Flags, timeout: Timespec, clock: Clock] .is(F::Noise, T::Noise).waits(On::Lock).own();
    FutexWaitv futex_waitv everywhere [waiters: Ptr, count: UInt, flags: Flags, timeout: Timespec, clock: Clock] .is(F::Noise, T::Noise).waits(On::Lock).replayed(R::Surrogate);
    FutexWake futex_wake everywhere [uaddr: Addr, mask: Flags, count: Int, flags: Flags] .is(F::Noise, T::Noise).own();
    Futimesat futimesat x86_64 [dirfd: DirFd, path: Path, times: Ptr] .own();
    GetMempolicy get_mempolicy everywhere ? .replayed(R::Granted);
    Getcpu getcpu everywhere [cpu: Ptr, node: Ptr, cache: Ptr] .is(F::Noise, T::Noise).replayed(R::Same);
    Getcwd getcwd everywhere [buf: Ptr, size: Size] .replayed(R::Same);
    Getdents getdents x86_64 [fd: Fd, dirp: Ptr, count: Size] .is(F::Fd, T::Metadata).reads(0).own();
    Getdents64 getdents64 everywhere [fd: Fd, dirp: Ptr, count: Size] .is(F::Fd, T::Metadata).reads(0).own();
    Getegid getegid everywhere [] .replayed(R::Same);
    Geteuid geteuid everywhere [] .replayed(R::Same);
    Getgid getgid everywhere [] .replayed(R::Same);
    Getgroups getgroups everywhere [size: Int, list: Ptr] .replayed(R::Same);
    Getitimer getitimer everywhere [which: Int, value: Ptr] .replayed(R::Same);
    Getpeername getpeername everywhere [fd: Fd, addr: SockAddrOut, addrlen: Ptr] .is(F::Fd, T::Network).own();
    Getpgid getpgid everywhere [pid: Pid] .replayed(R::Identity);
    Getpgrp getpgrp x86_64 [] .replayed(R::Same);
    Getpid getpid everywhere [] .replayed(R::Identity);
    Getppid getppid everywhere [] .replayed(R::Identity);
    Getpriority getpriority everywhere [which: Int, who: Int] .replayed(R::Same);
    Getrandom getrandom everywhere [buf: Ptr, count: Size, flags: Flags] .is(F::Noise, T::Noise).replayed(R::Same);
    Getresgid getresgid everywhere [rgid: Ptr, egid: Ptr, sgid: Ptr] .replayed(R::Same);
    Getresuid getresuid everywhere [ruid: Ptr, euid: Ptr, suid: Ptr] .replayed(R::Same);
    Getrlimit getrlimit everywhere [resource: Int, rlim: Ptr] .replayed(R::Same);
    Getrusage getrusage everywhere [who: Int, usage: Ptr] .replayed(R::Same);
    Getsid getsid everywhere [pid: Pid] .replayed(R::Same);
    Getsockname getsockname everywhere [fd: Fd, addr: SockAddrOut, addrlen: Ptr] .is(F::Fd, T::Network).own();
    Getsockopt getsockopt everywhere [fd: Fd, level: Int, optname: Int, optval: U32Ptr, optlen: Ptr] .is(F::Fd, T::Network).own();
    Gettid gettid everywhere [] .replayed(R::Identity);
    Gettimeofday gettimeofday everywhere [tv: Ptr, tz: Ptr] .is(F::Noise, T::Noise).replayed(R::Same);
    Getuid getuid everywhere [] .replayed(R::Same);
    Getxattr getxattr everywhere [path: Path, name: Str, value: Ptr, size: Size] .replayed(R::Same);
    InotifyAddWatch inotify_add_watch everywhere [fd: Fd, path: Path, mask: Flags] .own();
    InotifyInit inotify_init x86_64 [] .makes(C::Unset).own();
    InotifyInit1 inotify_init1 everywhere [flags: OpenFlags] .makes(C::By(0)).own();
    InotifyRmWatch inotify_rm_watch everywhere [fd: Fd, wd: Int] .replayed(R::Same);
    IoCancel io_cancel everywhere [ctx: Addr, iocb: Ptr, result: Ptr];
    IoDestroy io_destroy everywhere [ctx: Addr] .replayed(R::Surrogate);
    IoGetevents io_getevents everywhere [ctx: Addr, min_nr: Int, nr: Int, events: Ptr, timeout: Timespec] .is(F::Readiness, T::Readiness).waits(On::Readiness).replayed(R::Surrogate);
    IoPgetevents io_pgetevents everywhere ? .is(F::Readiness, T::Readiness).waits(On::Readiness).replayed(R::Surrogate);
    IoSetup io_setup everywhere [nr: UInt, ctx: U64Ptr] .replayed(R::Surrogate);
    IoSubmit io_submit everywhere [ctx: Addr, nr: Int, iocbs: Ptr] .replayed(R::Surrogate);
    IoUringEnter io_uring_enter everywhere [fd: Fd, to_submit: UInt, min_complete: UInt, flags: Flags, arg: Ptr, argsz: Size] .is(F::Noise, T::Noise).waits(On::Readiness);
    IoUringRegister io_uring_register everywhere [fd: Fd, opcode: UInt, arg: Ptr, nr_args: UInt];
    IoUringSetup io_uring_setup everywhere [entries: UInt, params: Ptr] .makes(C::Always);
    Ioctl ioctl everywhere [fd: Fd, cmd: IoctlCmd, arg: Flags] .is(F::Fd, T::File).own();
    IoprioGet ioprio_get everywhere [which: Int, who: Int] .replayed(R::Same);
    IoprioSet ioprio_set everywhere [which: Int, who: Int, ioprio: Flags] .replayed(R::Granted);
    Kcmp kcmp everywhere ? .replayed(R::Granted);
    Kill kill everywhere [pid: Pid, sig: Signal] .is(F::Kill, T::Signal).listed(L::Process).own();
    LandlockAddRule landlock_add_rule everywhere ? .replayed(R::Granted);
    LandlockCreateRuleset landlock_create_ruleset everywhere ? .makes(C::Unset).replayed(R::Granted);
    LandlockRestrictSelf landlock_restrict_self everywhere ? .replayed(R::Granted);
    Lchown lchown x86_64 [path: Path, uid: Int, gid: Int] .follows(Follow::Never).own();
    Lgetxattr lgetxattr everywhere [path: Path, name: Str, value: Ptr, size: Size] .follows(Follow::Never).replayed(R::Same);
    Link link x86_64 [oldpath: Path, newpath: Path] .renames().follows(Follow::Never).replayed(R::Same);
    Linkat linkat everywhere [olddirfd: DirFd, oldpath: Path, newdirfd: DirFd, newpath: Path, flags: AtFlags] .renames().follows(Follow::Never).replayed(R::Same);
    Listen listen everywhere [fd: Fd, backlog: Int] .is(F::Listen, T::Network).own();
    Listxattr listxattr everywhere [path: Path, list: Ptr, size: Size] .replayed(R::Same);
    Llistxattr llistxattr everywhere [path: Path, list: Ptr, size: Size] .follows(Follow::Never).replayed(R::Same);
    Lremovexattr lremovexattr everywhere [path: Path, name: Str] .replayed(R::Same);
    Lseek lseek everywhere [fd: Fd, offset: Off, whence: Whence] .is(F::Fd, T::File).reads(0).own();
    Lsetxattr lsetxattr everywhere [path: Path, name: Str, value: Ptr, size: Size, flags: Flags] .own();
    Lstat lstat x86_64 [path: Path, stat: Stat] .follows(Follow::Never).replayed(R::Same);
    Madvise madvise everywhere [addr: Addr, length: Size, advice: Int] .is(F::Memory, T::Memory).listed(L::Memory).own();
    Mbind mbind everywhere ? .listed(L::Memory).replayed(R::Granted);
    Membarrier membarrier everywhere [cmd: Int, flags: Flags, cpu: Int] .is(F::Noise, T::Noise).listed(L::Memory).replayed(R::Same);
    MemfdCreate memfd_create everywhere [name: Str, flags: Flags] .makes(C::ByBit(1, MFD_CLOEXEC)).own();
    MemfdSecret memfd_secret everywhere ? .makes(C::Unset);
    MigratePages migrate_pages everywhere ? .replayed(R::Granted);
    Mincore mincore everywhere [addr: Addr, length: Size, vec: Ptr] .is(F::Memory, T::Memory).listed(L::Memory).replayed(R::Surrogate);
    Mkdir mkdir x86_64 [path: Path, mode: Mode] .renames().follows(Follow::Never).replayed(R::Same);
    Mkdirat mkdirat everywhere [dirfd: DirFd, path: Path, mode: Mode] .renames().follows(Follow::Never).replayed(R::Same);
    Mknod mknod x86_64 [path: Path, mode: Mode, dev: UInt] .renames().follows(Follow::Never).own();
    Mknodat mknodat everywhere [dirfd: DirFd, path: Path, mode: Mode, dev: UInt] .renames().follows(Follow::Never).own();
    Mlock mlock everywhere [addr: Addr, length: Size] .is(F::Memory, T::Memory).listed(L::Memory).own();
    Mlock2 mlock2 everywhere [addr: Addr, length: Size, flags: Flags] .is(F::Memory, T::Memory).listed(L::Memory).replayed(R::Surrogate);
    Mlockall mlockall everywhere [flags: Flags] .listed(L::Memory).replayed(R::Granted);
    Mmap mmap everywhere [addr: Addr, length: Size, prot: Prot, flags: MapFlags, fd: Fd, offset: Off] .is(F::Mmap, T::Memory).listed(L::Memory).own();
    Mount mount everywhere [source: Path, target: Path, fstype: Str, flags: Flags, data: Ptr];
    MovePages move_pages everywhere ? .replayed(R::Granted);
    Mprotect mprotect everywhere [addr: Addr, length: Size, prot: Prot] .is(F::Memory, T::Memory).listed(L::Memory).own();
    MqOpen mq_open everywhere ? .makes(C::Unset).replayed(R::Surrogate);
    MqTimedreceive mq_timedreceive everywhere ? .waits(On::Input).replayed(R::Surrogate);
    MqTimedsend mq_timedsend everywhere ? .waits(On::Room).replayed(R::Surrogate);
    Mremap mremap everywhere [addr: Addr, old_length: Size, new_length: Size, flags: Flags, new_addr: Addr] .is(F::Memory, T::Memory).listed(L::Memory).own();
    Msgctl msgctl everywhere ? .replayed(R::Surrogate);
    Msgget msgget everywhere ? .replayed(R::Surrogate);
    Msgrcv msgrcv everywhere ? .waits(On::Input).replayed(R::Surrogate);
    Msgsnd msgsnd everywhere ? .waits(On::Room).replayed(R::Surrogate);
    Msync msync everywhere [addr: Addr, length: Size, flags: Flags] .is(F::Memory, T::Memory).waits(On::Disk).listed(L::Memory).own();
    Munlock munlock everywhere [addr: Addr, length: Size] .is(F::Memory, T::Memory).listed(L::Memory).own();
    Munlockall munlockall everywhere [] .listed(L::Memory).replayed(R::Same);
    Munmap munmap everywhere [addr: Addr, length: Size] .is(F::Memory, T::Memory).listed(L::Memory).own();
    Nanosleep nanosleep everywhere [request: Timespec, remain: Ptr] .waits(On::Time).own();
    Newfstatat newfstatat x86_64 [dirfd: DirFd, path: Path, stat: Stat, flags: AtFlags] .follows(Follow::Unless(3)).replayed(R::Same);
    Open open x86_64 [path: Path, flags: OpenFlags, mode: Mode] .is(F::Open, T::Metadata).makes(C::By(1)).follows(Follow::ByOpenFlags).own();
    OpenByHandleAt open_by_handle_at everywhere ? .is(F::Open, T::Metadata).makes(C::Unset);
    OpenTree open_tree everywhere ? .makes(C::Unset);
    Openat openat everywhere [dirfd: DirFd, path: Path, flags: OpenFlags, mode: Mode] .is(F::Open, T::Metadata).makes(C::By(2)).follows(Follow::ByOpenFlags).own();
    Openat2 openat2 everywhere [dirfd: DirFd, path: Path, how: OpenHow, size: Size] .is(F::Open, T::Metadata).makes(C::Unset).follows(Follow::ByOpenFlags).own();
    Pause pause x86_64 [] .is(F::Readiness, T::Readiness).waits(On::Signal).own();
    PerfEventOpen perf_event_open everywhere ? .makes(C::Unset);
    Personality personality everywhere [persona: Flags] .replayed(R::Granted);
    PidfdGetfd pidfd_getfd everywhere [pidfd: Fd, fd: Int, flags: Flags] .makes(C::Always);
    PidfdOpen pidfd_open everywhere [pid: Pid, flags: OpenFlags] .makes(C::Always).listed(L::Process).own();
    PidfdSendSignal pidfd_send_signal everywhere [pidfd: Fd, sig: Signal, info: Ptr, flags: Flags] .is(F::Kill, T::Signal).listed(L::Process).replayed(R::Same);
    Pipe pipe x86_64 [fds: NewFds] .is(F::Pipe, T::Network).makes_two().own();
    Pipe2 pipe2 everywhere [fds: NewFds, flags: OpenFlags] .is(F::Pipe, T::Network).makes_two().own();
    PivotRoot pivot_root everywhere [new_root: Path, put_old: Path];
    PkeyAlloc pkey_alloc everywhere [flags: Flags, access_rights: Flags] .replayed(R::Same);
    PkeyFree pkey_free everywhere [pkey: Int] .replayed(R::Same);
    Poll poll x86_64 [fds: PollFds, nfds: UInt, timeout: Millis] .is(F::Readiness, T::Readiness).waits(On::Readiness).limit(Limit::Millis(2)).listed(L::Poll).own();
    Ppoll ppoll everywhere [fds: PollFds, nfds: UInt, timeout: Timespec, sigmask: Ptr, sigsetsize: Size] .is(F::Readiness, T::Readiness).waits(On::Readiness).limit(Limit::Pointer(2)).listed(L::Poll).own();
    Prctl prctl everywhere [option: Int, arg2: Addr, arg3: Addr, arg4: Addr, arg5: Addr] .listed(L::Process).own();
    Pread64 pread64 everywhere [fd: Fd, buf: Ptr, count: Size, offset: Off] .is(F::Receive, T::File).reads(0).own();
    Preadv preadv everywhere [fd: Fd, iov: Iov, iovcnt: UInt, offset: Off] .is(F::Receive, T::File).reads(0).own();
    Preadv2 preadv2 everywhere [fd: Fd, iov: Iov, iovcnt: UInt, offset: Off, offset_high: UInt, flags: Flags] .is(F::Receive, T::File).reads(0).waits(On::Input).own();
    Prlimit64 prlimit64 everywhere [pid: Pid, resource: Int, new_limit: Rlimit, old_limit: Ptr] .own();
    Pselect6 pselect6 everywhere [nfds: Int, readfds: FdSet, writefds: FdSet, exceptfds: FdSet, timeout: Timespec, sigmask: Ptr] .is(F::Readiness, T::Readiness).waits(On::Readiness).limit(Limit::Pointer(4)).listed(L::Poll).own();
    Pwrite64 pwrite64 everywhere [fd: Fd, buf: Ptr, count: Size, offset: Off] .is(F::Send, T::File).writes(0).own();
    Pwritev pwritev everywhere [fd: Fd, iov: Iov, iovcnt: UInt, offset: Off] .is(F::Send, T::File).writes(0).own();
    Pwritev2 pwritev2 everywhere [fd: Fd, iov: Iov, iovcnt: UInt, offset: Off, offset_high: UInt, flags: Flags] .is(F::Send, T::File).writes(0).waits(On::Room).own();
    Read read everywhere [fd: Fd, buf: Ptr, count: Size] .is(F::Receive, T::File).reads(0).waits(On::Input).own();
    Readahead readahead everywhere [fd: Fd, offset: Off, count: Size] .is(F::Fd, T::File).replayed(R::Same);
    Readlink readlink x86_64 [path: Path, buf: Ptr, bufsiz: Size] .follows(Follow::Never).replayed(R::Same);
    Readlinkat readlinkat everywhere [dirfd: DirFd, path: Path, buf: Ptr, bufsiz: Size] .follows(Follow::Never).replayed(R::Same);
    Readv readv everywhere [fd: Fd, iov: Iov, iovcnt: UInt] .is(F::Receive, T::File).reads(0).waits(On::Input).own();
    Recvfrom recvfrom everywhere [fd: Fd, buf: Ptr, len: Size, flags: MsgFlags, addr: SockAddrOut, addrlen: Ptr] .is(F::Receive, T::Stream).reads(0).waits(On::Input).own();
    Recvmmsg recvmmsg everywhere [fd: Fd, msgvec: Msgs, vlen: UInt, flags: MsgFlags, timeout: Timespec] .is(F::Receive, T::Stream).reads(0).waits(On::Input).own();
    Recvmsg recvmsg everywhere [fd: Fd, msg: Msg, flags: MsgFlags] .is(F::Receive, T::Stream).reads(0).waits(On::Input).own();
    Removexattr removexattr everywhere [path: Path, name: Str] .replayed(R::Same);
    Rename rename x86_64 [oldpath: Path, newpath: Path] .renames().follows(Follow::Never).replayed(R::Same);
    Renameat renameat everywhere [olddirfd: DirFd, oldpath: Path, newdirfd: DirFd, newpath: Path] .renames().follows(Follow::Never).replayed(R::Same);
    Renameat2 renameat2 everywhere [olddirfd: DirFd, oldpath: Path, newdirfd: DirFd, newpath: Path, flags: Flags] .renames().follows(Follow::Never).replayed(R::Same);
    RestartSyscall restart_syscall everywhere [] .is(F::Noise, T::Noise).own();
    Rmdir rmdir x86_64 [path: Path] .renames().follows(Follow::Never).replayed(R::Same);
    Rseq rseq everywhere [rseq: Addr, len: UInt, flags: Flags, sig: Flags] .is(F::Noise, T::Noise).own();
    RtSigaction rt_sigaction everywhere [signum: Signal, act: SigAction, oldact: Ptr, sigsetsize: Size] .is(F::Other, T::Signal).own();
    RtSigpending rt_sigpending everywhere [set: Ptr, sigsetsize: Size] .is(F::Other, T::Signal).replayed(R::Same);
    RtSigprocmask rt_sigprocmask everywhere [how: Int, set: SigSet, oldset: Ptr, sigsetsize: Size] .is(F::Other, T::Signal).own();
    RtSigqueueinfo rt_sigqueueinfo everywhere [pid: Pid, sig: Signal, info: Ptr] .is(F::Kill, T::Signal).listed(L::Process).replayed(R::Surrogate);
    RtSigreturn rt_sigreturn everywhere [] .is(F::Noise, T::Noise).own();
    RtSigsuspend rt_sigsuspend everywhere [mask: SigSet, sigsetsize: Size] .is(F::Readiness, T::Readiness).waits(On::Signal).own();
    RtSigtimedwait rt_sigtimedwait everywhere [set: SigSet, info: Ptr, timeout: Timespec, sigsetsize: Size] .is(F::Other, T::Signal).waits(On::Signal).own();
    RtTgsigqueueinfo rt_tgsigqueueinfo everywhere [tgid: Pid, tid: Pid, sig: Signal, info: Ptr] .is(F::Kill, T::Signal).replayed(R::Surrogate);
    SchedGetPriorityMax sched_get_priority_max everywhere [policy: Int] .replayed(R::Same);
    SchedGetPriorityMin sched_get_priority_min everywhere [policy: Int] .replayed(R::Same);
    SchedGetaffinity sched_getaffinity everywhere [pid: Pid, cpusetsize: Size, mask: Ptr] .replayed(R::Identity);
    SchedGetattr sched_getattr everywhere [pid: Pid, attr: Ptr, size: Size, flags: Flags] .replayed(R::Identity);
    SchedGetparam sched_getparam everywhere [pid: Pid, param: Ptr] .replayed(R::Identity);
    SchedGetscheduler sched_getscheduler everywhere [pid: Pid] .replayed(R::Identity);
    SchedRrGetInterval sched_rr_get_interval everywhere ? .replayed(R::Identity);
    SchedSetaffinity sched_setaffinity everywhere [pid: Pid, cpusetsize: Size, mask: U64Ptr] .own();
    SchedSetattr sched_setattr everywhere ? .replayed(R::Granted);
    SchedSetparam sched_setparam everywhere [pid: Pid, param: U32Ptr] .replayed(R::Granted);
    SchedSetscheduler sched_setscheduler everywhere [pid: Pid, policy: Int, param: U32Ptr] .replayed(R::Granted);
    SchedYield sched_yield everywhere [] .is(F::Noise, T::Noise).replayed(R::Same);
    Seccomp seccomp everywhere ? .replayed(R::Granted);
    Select select x86_64 [nfds: Int, readfds: FdSet, writefds: FdSet, exceptfds: FdSet, timeout: Timeval] .is(F::Readiness, T::Readiness).waits(On::Readiness).limit(Limit::Pointer(4)).listed(L::Poll).own();
    Semctl semctl everywhere ? .replayed(R::Surrogate);
    Semget semget everywhere ? .replayed(R::Surrogate);
    Semop semop everywhere ? .waits(On::Lock).replayed(R::Surrogate);
    Semtimedop semtimedop everywhere ? .waits(On::Lock).replayed(R::Surrogate);
    Sendfile sendfile everywhere [out_fd: Fd, in_fd: Fd, offset: U64Ptr, count: Size] .is(F::Transfer, T::File).reads(1).writes(0).waits(On::Room).own();
    Sendmmsg sendmmsg everywhere [fd: Fd, msgvec: Msgs, vlen: UInt, flags: MsgFlags] .is(F::Send, T::Stream).writes(0).waits(On::Room).own();
    Sendmsg sendmsg everywhere [fd: Fd, msg: Msg, flags: MsgFlags] .is(F::Send, T::Stream).writes(0).waits(On::Room).own();
    Sendto sendto everywhere [fd: Fd, buf: Ptr, len: Size, flags: MsgFlags, addr: SockAddr, addrlen: UInt] .is(F::Send, T::Stream).writes(0).waits(On::Room).own();
    SetMempolicy set_mempolicy everywhere ? .listed(L::Memory).replayed(R::Granted);
    SetRobustList set_robust_list everywhere [head: Addr, len: Size] .own();
    SetTidAddress set_tid_address everywhere [tidptr: Addr] .own();
    Setdomainname setdomainname everywhere ? .replayed(R::Granted);
    Setfsgid setfsgid everywhere [gid: Int] .replayed(R::Granted);
    Setfsuid setfsuid everywhere [uid: Int] .replayed(R::Granted);
    Setgid setgid everywhere [gid: Int] .replayed(R::Granted);
    Setgroups setgroups everywhere [size: Int, list: Ptr] .replayed(R::Granted);
    Sethostname sethostname everywhere [name: Str, len: Size] .replayed(R::Granted);
    Setitimer setitimer everywhere [which: Int, new_value: Ptr, old_value: Ptr] .own();
    Setns setns everywhere [fd: Fd, nstype: Flags] .listed(L::Process);
    Setpgid setpgid everywhere [pid: Pid, pgid: Pid] .listed(L::Process).replayed(R::Identity);
    Setpriority setpriority everywhere [which: Int, who: Int, prio: Int] .replayed(R::Granted);
    Setregid setregid everywhere [rgid: Int, egid: Int] .own();
    Setresgid setresgid everywhere [rgid: Int, egid: Int, sgid: Int] .own();
    Setresuid setresuid everywhere [ruid: Int, euid: Int, suid: Int] .own();
    Setreuid setreuid everywhere [ruid: Int, euid: Int] .own();
    Setrlimit setrlimit everywhere [resource: Int, rlim: Rlimit] .own();
    Setsid setsid everywhere [] .listed(L::Process).replayed(R::Same);
    Setsockopt setsockopt everywhere [fd: Fd, level: Int, optname: Int, optval: OptVal, optlen: UInt] .is(F::Fd, T::Network).own();
    Setuid setuid everywhere [uid: Int] .replayed(R::Granted);
    Setxattr setxattr everywhere [path: Path, name: Str, value: Ptr, size: Size, flags: Flags] .own();
    Shmat shmat everywhere [shmid: Int, addr: Addr, flags: Flags] .own();
    Shmctl shmctl everywhere [shmid: Int, cmd: Int, buf: Ptr] .own();
    Shmdt shmdt everywhere [addr: Addr] .own();
    Shmget shmget everywhere [key: Int, size: Size, flags: Flags] .own();
    Shutdown shutdown everywhere [fd: Fd, how: How] .is(F::Shutdown, T::Network).own();
    Sigaltstack sigaltstack everywhere [ss: Addr, old_ss: Ptr] .is(F::Other, T::Signal).own();
    Signalfd signalfd x86_64 [fd: Fd, mask: SigSet, sizemask: Size] .makes(C::Unset).own();
    Signalfd4 signalfd4 everywhere [fd: Fd, mask: SigSet, sizemask: Size, flags: OpenFlags] .makes(C::By(3)).own();
    Sigreturn sigreturn compat ? .is(F::Noise, T::Noise);
    Socket socket everywhere [domain: Domain, type: SockType, protocol: Int] .is(F::Socket, T::Network).makes(C::By(1)).own();
    Socketpair socketpair everywhere [domain: Domain, type: SockType, protocol: Int, fds: NewFds] .is(F::Pipe, T::Network).makes_two().own();
    Splice splice everywhere [fd_in: Fd, off_in: U64Ptr, fd_out: Fd, off_out: U64Ptr, len: Size, flags: Flags] .is(F::Transfer, T::File).reads(0).writes(2).waits(On::Room).own();
    Stat stat x86_64 [path: Path, stat: Stat] .replayed(R::Same);
    Statfs statfs everywhere [path: Path, buf: Ptr] .replayed(R::Same);
    Statx statx everywhere [dirfd: DirFd, path: Path, flags: AtFlags, mask: Flags, statx: Statx] .follows(Follow::Unless(2)).replayed(R::Same);
    Symlink symlink x86_64 [target: Path, linkpath: Path] .renames().follows(Follow::Never).replayed(R::Same);
    Symlinkat symlinkat everywhere [target: Path, newdirfd: DirFd, linkpath: Path] .renames().follows(Follow::Never).replayed(R::Same);
    Sync sync everywhere [] .waits(On::Disk).replayed(R::Same);
    SyncFileRange sync_file_range everywhere [fd: Fd, offset: Off, nbytes: Off, flags: Flags] .is(F::Fd, T::File).waits(On::Disk).replayed(R::Same);
    Syncfs syncfs everywhere [fd: Fd] .waits(On::Disk).replayed(R::Same);
    Sysinfo sysinfo everywhere [info: Ptr] .replayed(R::Same);
    Tee tee everywhere [fd_in: Fd, fd_out: Fd, len: Size, flags: Flags] .is(F::Transfer, T::File).reads(0).writes(1).waits(On::Room).own();
    Tgkill tgkill everywhere [tgid: Pid, tid: Pid, sig: Signal] .is(F::Kill, T::Signal).listed(L::Process).own();
    Time time x86_64 [tloc: Ptr] .is(F::Noise, T::Noise).replayed(R::Same);
    TimerCreate timer_create everywhere [clock: Clock, sevp: Ptr, timerid: U32Ptr] .own();
    TimerDelete timer_delete everywhere [timerid: Int] .own();
    TimerSettime timer_settime everywhere [timerid: Int, flags: Flags, new_value: Itimerspec, old_value: Ptr] .own();
    TimerfdCreate timerfd_create everywhere [clock: Clock, flags: OpenFlags] .makes(C::By(1)).own();
    TimerfdGettime timerfd_gettime everywhere [fd: Fd, value: Ptr] .replayed(R::Same);
    TimerfdSettime timerfd_settime everywhere [fd: Fd, flags: Flags, new_value: Itimerspec, old_value: Ptr] .own();
    Times times everywhere [buf: Ptr] .replayed(R::Same);
    Tkill tkill everywhere [tid: Pid, sig: Signal] .is(F::Kill, T::Signal).listed(L::Process).own();
    Truncate truncate everywhere [path: Path, length: Off] .replayed(R::Same);
    Umask umask everywhere [mask: Mode] .replayed(R::Same);
    Umount2 umount2 everywhere [target: Path, flags: Flags];
    Uname uname everywhere [buf: Ptr] .replayed(R::Same);
    Unlink unlink x86_64 [path: Path] .renames().follows(Follow::Never).replayed(R::Same);
    Unlinkat unlinkat everywhere [dirfd: DirFd, path: Path, flags: AtFlags] .renames().follows(Follow::Never).replayed(R::Same);
    Unshare unshare everywhere [flags: CloneFlags] .listed(L::Process).own();
    Userfaultfd userfaultfd everywhere ? .makes(C::Unset);
    Utime utime x86_64 [path: Path, times: Ptr] .own();
    Utimensat utimensat everywhere [dirfd: DirFd, path: Path, times: Ptr, flags: AtFlags] .follows(Follow::Unless(3)).own();
    Utimes utimes x86_64 [path: Path, times: Ptr] .own();
    Vfork vfork x86_64 [] .is(F::Clone, T::Process).waits(On::Child).listed(L::Process).own();
    Vmsplice vmsplice everywhere [fd: Fd, iov: Iov, iovcnt: UInt, flags: Flags] .is(F::Transfer, T::File).waits(On::Room).own();
    Wait4 wait4 everywhere [pid: Pid, status: U32Ptr, options: Flags, rusage: Ptr] .is(F::Wait, T::Process).waits(On::Child).listed(L::Process).own();
    Waitid waitid everywhere [idtype: Int, id: Pid, info: Ptr, options: Flags, rusage: Ptr] .is(F::Wait, T::Process).waits(On::Child).listed(L::Process).own();
    Waitpid waitpid compat ? .is(F::Wait, T::Process).waits(On::Child);
    Write write everywhere [fd: Fd, buf: Ptr, count: Size] .is(F::Send, T::File).writes(0).waits(On::Room).own();
    Writev writev everywhere [fd: Fd, iov: Iov, iovcnt: UInt] .is(F::Send, T::File).writes(0).waits(On::Room).own();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::syscalls::number;

    #[test]
    fn a_number_is_the_call_of_its_name() {
        for abi in [Abi::X86_64, Abi::X32, Abi::I386, Abi::Aarch64, Abi::Arm] {
            for nr in (0..1100).chain([0x000f_0001, 0x000f_0005, u32::MAX]) {
                let sysno = Sysno { abi, nr };
                assert_eq!(Call::of(sysno), Call::by_name(sysno), "{sysno:?}");
            }
        }
    }

    #[test]
    fn the_table_is_sorted_and_names_real_calls() {
        assert_eq!(ROWS.len(), Call::ALL.len() + 1);
        assert!(ROWS[..Call::ALL.len()].windows(2).all(|w| w[0].name < w[1].name));
        for call in Call::ALL {
            let row = call.row();
            let is_named = [Abi::X86_64, Abi::I386].into_iter().any(|abi| number(abi, row.name).is_some());
            assert!(is_named, "{} is no call", row.name);
            let args = row.args.unwrap_or_default();
            assert!(args.len() <= 6, "{}", row.name);
            assert_eq!(Call::named(row.name), *call);
            for arg in (0..8).filter(|i| (row.reads | row.writes) & 1 << i != 0) {
                assert_eq!(args[arg].1, Kind::Fd, "{}: argument {arg} is no descriptor", row.name);
            }
            if let Follow::Unless(arg) = row.follow {
                assert_eq!(args[arg].1, Kind::AtFlags, "{}", row.name);
            }
            if let Some(limit) = row.limit {
                let kind = args[limit.arg()].1;
                let fits = match limit {
                    Limit::Millis(_) => kind == Kind::Millis,
                    Limit::Pointer(_) => matches!(kind, Kind::Timespec | Kind::Timeval),
                };
                assert!(fits && row.waits.is_some(), "{}: {limit:?} is a {kind:?}", row.name);
            }
        }
    }

    #[test]
    fn numbers_are_those_of_the_kernels_headers() {
        for abi in [Abi::X86_64, Abi::Aarch64] {
            for call in Call::ALL {
                assert_eq!(call.number(abi), number(abi, call.name()), "{call:?}");
            }
        }
        assert_eq!(Call::Fork.number(Abi::Aarch64), None);
        assert_eq!(Call::of(Sysno { abi: Abi::I386, nr: 20 }), Call::Getpid);
        assert_eq!(Call::named("coffee"), Call::Unlisted);
        let here = if cfg!(target_arch = "aarch64") { Abi::Aarch64 } else { Abi::X86_64 };
        assert_eq!(number(here, "close_range").map(|s| s.nr), Some(nr::close_range));
    }
}
