//! One recorded call → the step that makes it again: dispatch, names, memory, processes, signals, clocks. Input and
//! output are in [`super::io`].

use super::CompileError;
use super::calls::{Sc, host_nr};
use super::facts::{
    self, CLONE_CHILD_CLEARTID, CLONE_CHILD_SETTID, CLONE_PARENT_SETTID, CLONE_THREAD, CLONE_VFORK, CLONE_VM,
    clone_operands,
};
use super::lower::{Cx, Lower, Lowered, never};
use super::world::{
    O_CLOEXEC, O_CREAT, TaskIx, detail_bytes, detail_iov, detail_str, detail_time, detail_value, le_u64,
    open_flags,
};
use crate::plan::environment::{FileKind, FileSpec};
use ctrace_format::syscalls::Kind as K;
use ctrace_format::{Abi, Detail, SyscallFlags};
use ctrace_program::{
    Expect, Kind, Post, SIG_DEFAULT, SIG_HANDLER, SIG_IGNORE, SIG_QUERY, Sel, Step, clock_operand,
    fd_operand, flags, value_operand,
};

/// Errors that come by themselves when the same call is made in the same state.
const REAL: [i64; 33] = [
    -2, -3, -4, -9, -10, -11, -17, -20, -21, -22, -25, -29, -32, -36, -39, -40, -61, -88, -89, -92, -93, -95,
    -97, -98, -104, -106, -107, -110, -111, -114, -115, -22, -94,
];
/// Calls that would restrict, re-identify or reprioritise the worker; the result is taken for granted.
const TAKEN_FOR_GRANTED: [&str; 27] = [
    "capset",
    "chroot",
    "seccomp",
    "landlock_create_ruleset",
    "landlock_add_rule",
    "landlock_restrict_self",
    "setfsgid",
    "setfsuid",
    "setgid",
    "setgroups",
    "setpriority",
    "setuid",
    "sched_setscheduler",
    "sched_setparam",
    "sched_setattr",
    "ioprio_set",
    "personality",
    "mlockall",
    "set_mempolicy",
    "mbind",
    "migrate_pages",
    "move_pages",
    "sethostname",
    "setdomainname",
    "get_mempolicy",
    "fanotify_mark",
    "kcmp",
];
/// Calls that read something harmless about the caller or the host.
const HARMLESS: [&str; 48] = [
    "capget",
    "clock_getres",
    "clock_gettime",
    "getcpu",
    "getegid",
    "geteuid",
    "getgid",
    "getgroups",
    "getitimer",
    "getpgrp",
    "getpriority",
    "getrandom",
    "getresgid",
    "getresuid",
    "getrlimit",
    "getrusage",
    "gettimeofday",
    "getuid",
    "ioprio_get",
    "sched_get_priority_max",
    "sched_get_priority_min",
    "sched_yield",
    "sysinfo",
    "time",
    "times",
    "uname",
    "munlockall",
    "sync",
    "rt_sigpending",
    "membarrier",
    "timerfd_gettime",
    "fadvise64",
    "flock",
    "inotify_rm_watch",
    "readahead",
    "sync_file_range",
    "fstatfs",
    "flistxattr",
    "fgetxattr",
    "fremovexattr",
    "removexattr",
    "lremovexattr",
    "pidfd_send_signal",
    "getcwd",
    "fchmod",
    "alarm",
    "setsid",
    "getsid",
];
/// `ioctl` commands that ask or set something about the descriptor only.
const IOCTLS: [u32; 14] = [
    0x5401,
    0x5402,
    0x5403,
    0x5404,
    0x540f,
    0x5410,
    0x5413,
    0x5414,
    0x541b,
    0x5421,
    0x5450,
    0x5451,
    0x5429,
    0x8004_6601,
];
/// `prctl` options that are as harmless in the worker as they were.
const PRCTLS: [u64; 14] = [2, 3, 7, 15, 16, 21, 23, 25, 27, 29, 30, 36, 37, 39];

impl Lower<'_> {
    /// The steps of one call.
    pub(crate) fn lower(&mut self, cx: &Cx<'_>) -> Result<Lowered, CompileError> {
        if !matches!(cx.call.sysno.abi, Abi::X86_64 | Abi::Aarch64) || cx.known.native.is_none() {
            return Ok(self.refused(cx));
        }
        Self::count(&mut self.summary.calls, cx.name);
        let unfinished = cx.call.flags.contains(SyscallFlags::NO_EXIT);
        if !unfinished && cx.call.ret < -4095 && !is_address(cx.known.sc) {
            return Ok(self.missing(cx));
        }
        if !unfinished && cx.call.ret < 0 && cx.call.ret >= -4095 && !self.rebuilds(cx) {
            return self.fault(cx);
        }
        let mut lowered = match cx.known.sc {
            Sc::Exit | Sc::ExitGroup => {
                self.ended(cx.task);
                let mut step = Step::of(Kind::Exit).imm(0, cx.call.args[0]);
                step.nr = cx.nr;
                return Ok(step.into());
            }
            Sc::Clone | Sc::Clone3 | Sc::Fork | Sc::Vfork => self.clone(cx)?,
            Sc::Execve | Sc::Execveat => self.exec(cx)?,
            Sc::RtSigaction => return Ok(self.sigaction(cx).into()),
            Sc::RtSigreturn => return self.sigreturn(cx),
            Sc::RtSigprocmask | Sc::RtSigsuspend | Sc::RtSigtimedwait => self.sigmask(cx)?,
            Sc::Sigaltstack => self.call_step(cx).arg(0, Sel::AltStack, 8192).imm(1, 0).into(),
            Sc::Futex | Sc::FutexWait | Sc::FutexWake => self.futex(cx)?,
            Sc::Open | Sc::Openat | Sc::Openat2 | Sc::Creat => self.open(cx)?,
            Sc::Mmap => self.mmap(cx)?,
            Sc::Munmap | Sc::Mprotect | Sc::Madvise | Sc::Msync | Sc::Mlock | Sc::Munlock | Sc::Mremap => {
                self.mapped(cx)?
            }
            Sc::Brk => self.brk(cx),
            Sc::Wait4 | Sc::Waitid => self.wait(cx)?,
            Sc::Kill | Sc::Tkill | Sc::Tgkill => self.kill(cx),
            Sc::Nanosleep | Sc::ClockNanosleep => self.sleep(cx),
            Sc::TimerfdSettime | Sc::TimerSettime | Sc::TimerCreate | Sc::TimerDelete | Sc::Setitimer => {
                self.timer(cx)?
            }
            Sc::SetTidAddress => {
                let me = self.prog(cx.task);
                self.call_step(cx).arg(0, Sel::Keep, 64).expect(Expect::Pid, i64::from(me)).into()
            }
            Sc::SetRobustList => self.call_step(cx).arg(0, Sel::Keep, 128).imm(1, 24).into(),
            Sc::Rseq => self.plain(cx, &[1, 2, 3]).arg(0, Sel::Keep, 256).into(),
            Sc::ArchPrctl => self.arch_prctl(cx),
            Sc::Prctl => self.prctl(cx)?,
            Sc::Prlimit64 | Sc::Setrlimit => self.limit(cx)?,
            Sc::Ioctl => self.ioctl(cx)?,
            Sc::Fcntl => self.fcntl(cx)?,
            Sc::Chown | Sc::Lchown => {
                // Owners are not mapped in the sandbox; -1 leaves them.
                let path = self.path(cx, 0)?;
                let none = u64::from(u32::MAX);
                self.call_step(cx).arg(0, Sel::Data, path).imm(1, none).imm(2, none).into()
            }
            Sc::Fchownat => {
                let path = self.path(cx, 1)?;
                let none = u64::from(u32::MAX);
                self.plain(cx, &[0, 4]).arg(1, Sel::Data, path).imm(2, none).imm(3, none).into()
            }
            Sc::Other if cx.name == "fchown" => {
                let none = u64::from(u32::MAX);
                self.plain(cx, &[0]).imm(1, none).imm(2, none).into()
            }
            Sc::InotifyAddWatch => {
                let path = self.path(cx, 1)?;
                self.plain(cx, &[0, 2]).arg(1, Sel::Data, path).expect(Expect::Success, 0).into()
            }
            Sc::Utime | Sc::Utimes | Sc::Utimensat | Sc::Futimesat => self.times(cx)?,
            Sc::Mknod | Sc::Mknodat => self.mknod(cx)?,
            Sc::PidfdOpen => self.pidfd_open(cx),
            Sc::MemfdCreate => {
                let name = self.text(cx, 0, b"replay")?;
                self.new_fd(cx, self.plain(cx, &[1]).arg(0, Sel::Data, name), cx.call.args[1] & 1 != 0).into()
            }
            Sc::Pause | Sc::RestartSyscall => self.call_step(cx).into(),
            _ => match self.io(cx)? {
                Some(lowered) => lowered,
                None => self.other(cx)?,
            },
        };
        if unfinished {
            lowered.step = never(lowered.step);
        }
        if cx.call.duration_ns >= super::world::BLOCKED_NS {
            lowered.step.flags |= flags::BLOCKED;
        }
        Ok(lowered)
    }

    /// Whether the recorded error comes by itself.
    fn rebuilds(&mut self, cx: &Cx<'_>) -> bool {
        let errno = cx.call.ret;
        if (-516..=-512).contains(&errno) {
            return true;
        }
        if errno == -6 && self.named_paths(cx).iter().any(|(p, _)| self.world.paths.get(*p) == b"/dev/tty") {
            // There is no controlling terminal in the sandbox either.
            return true;
        }
        if !REAL.contains(&errno) {
            return false;
        }
        match cx.known.sc {
            Sc::Connect => self.connect_rebuilds(cx),
            Sc::Write | Sc::Writev | Sc::Sendto | Sc::Sendmsg | Sc::Sendmmsg => {
                // A full buffer is not rebuilt: how much fits depends on the host.
                errno != -11
            }
            Sc::Fcntl | Sc::Prctl | Sc::Prlimit64 | Sc::Setrlimit | Sc::Bind | Sc::Setsockopt => errno == -9,
            Sc::Ioctl if cx.call.args[1] as u32 == FICLONE => matches!(errno, -95 | -9),
            Sc::Ioctl => errno == -9 || (errno == -25 && self.not_a_terminal(cx)),
            Sc::Getxattr | Sc::Lgetxattr => matches!(errno, -2 | -61),
            Sc::Listxattr | Sc::Llistxattr => errno == -2,
            Sc::Mmap
            | Sc::Munmap
            | Sc::Mprotect
            | Sc::Madvise
            | Sc::Mremap
            | Sc::Brk
            | Sc::Clone
            | Sc::Clone3
            | Sc::Fork
            | Sc::Vfork
            | Sc::Kill
            | Sc::Tkill
            | Sc::Tgkill => false,
            Sc::Read | Sc::Readv | Sc::Recvfrom | Sc::Recvmsg | Sc::Accept | Sc::Accept4 => errno != -22,
            Sc::Futex => matches!(errno, -11 | -110 | -4),
            _ => {
                // A name that the model has, but the call did not find, was somebody else's doing (and vice versa).
                if errno == -2 {
                    return self.named_paths(cx).iter().all(|(p, _)| !self.exists(*p))
                        || cx.known.args.is_none();
                }
                if errno == -17 {
                    return self.named_paths(cx).last().is_some_and(|(p, _)| self.exists(*p));
                }
                !TAKEN_FOR_GRANTED.contains(&cx.name)
            }
        }
    }

    fn exists(&self, path: super::fsmodel::PathId) -> bool {
        self.world.fs.lookup(path).is_some()
    }

    fn not_a_terminal(&self, cx: &Cx<'_>) -> bool {
        let Some(ofd) = self.world.ofd_of(cx.task, cx.call.args[0] as i32) else { return false };
        IOCTLS.contains(&(cx.call.args[1] as u32)) && !self.is_tty(ofd)
    }

    /// The recorded error, made by the sandbox instead of its cause.
    pub(crate) fn fault(&mut self, cx: &Cx<'_>) -> Result<Lowered, CompileError> {
        let errno = ctrace_format::errno::name(cx.call.ret.unsigned_abs() as u32).unwrap_or("unknown");
        Self::count(&mut self.summary.emulated, &format!("{} {errno}", cx.name));
        let mut step = Step::call(cx.nr).with(flags::FAULT).expect(Expect::Exact, cx.call.ret);
        // The call is not carried out, but a recorder sees its arguments.
        let Some(args) = cx.known.args else { return Ok(step.into()) };
        for (i, (_, kind)) in args.iter().enumerate().take(5) {
            match kind {
                K::Path | K::Str => {
                    if let Some(text) = detail_str(cx.call, i as u8) {
                        let text = self.source.str(text).to_vec();
                        let blob = self.b.cstr(&text)?;
                        step = step.arg(i, Sel::Data, blob);
                    }
                }
                K::SockAddr => {
                    if let Some(addr) = super::world::detail_addr(cx.call, i as u8) {
                        let bytes = super::wire::sockaddr(addr);
                        let blob = self.b.data(&bytes)?;
                        step = step.arg(i, Sel::Data, blob);
                    }
                }
                K::Fd
                | K::DirFd
                | K::Int
                | K::UInt
                | K::Flags
                | K::Mode
                | K::OpenFlags
                | K::AtFlags
                | K::IoctlCmd
                | K::FcntlCmd
                | K::Size
                | K::Off
                | K::MsgFlags => step = step.imm(i, cx.call.args[i]),
                _ => {}
            }
        }
        if cx.call.duration_ns > 1_000_000 {
            // The sandbox answers at once: the time it took is spent before.
            let mut pause = Step::of(Kind::Sync);
            pause.think_sleep_ns = u32::try_from(cx.call.duration_ns).unwrap_or(u32::MAX);
            return Ok(Lowered { pre: vec![Step::of(Kind::Sync), pause], step });
        }
        Ok(step.into())
    }

    /// A call that is not made.
    pub(crate) fn refused(&mut self, cx: &Cx<'_>) -> Lowered {
        let name = match cx.call.sysno.abi {
            Abi::I386 | Abi::X32 | Abi::Arm => format!("{} (32-bit)", cx.name),
            _ if cx.known.name.is_none() => format!("unknown call {}", cx.call.sysno.nr),
            _ => cx.name.to_owned(),
        };
        Self::count(&mut self.summary.refused, &name);
        Self::lasting(cx, flags::REFUSED)
    }

    /// Something else stands for a call: the time it took.
    pub(crate) fn surrogate(&mut self, cx: &Cx<'_>) -> Lowered {
        Self::count(&mut self.summary.surrogate, cx.name);
        Self::lasting(cx, flags::SURROGATE)
    }

    /// A call that cannot be rebuilt.
    pub(crate) fn missing(&mut self, cx: &Cx<'_>) -> Lowered {
        Self::count(&mut self.summary.missing, cx.name);
        Self::lasting(cx, flags::MISSING)
    }

    /// No call, but its time.
    fn lasting(cx: &Cx<'_>, why: u32) -> Lowered {
        let mut pause = Step::of(Kind::Sync);
        if !cx.call.flags.contains(SyscallFlags::NO_EXIT) {
            pause.think_sleep_ns = u32::try_from(cx.call.duration_ns).unwrap_or(u32::MAX);
        }
        let mut step = Step::of(Kind::Skip).with(why);
        step.nr = cx.nr;
        Lowered { pre: vec![Step::of(Kind::Sync), pause], step }
    }

    /// The call without arguments, with the plainest expectation.
    #[expect(clippy::unused_self, reason = "alike its siblings, which need it")]
    pub(crate) fn call_step(&self, cx: &Cx<'_>) -> Step {
        let step = Step::call(cx.nr);
        match cx.call.ret {
            -516..=-512 => step.expect(Expect::Any, 0),
            r if r < 0 => step.expect(Expect::Exact, r),
            0 => step.expect(Expect::Exact, 0),
            _ => step.expect(Expect::Success, 0),
        }
    }

    /// The call with these arguments as recorded.
    pub(crate) fn plain(&self, cx: &Cx<'_>, args: &[usize]) -> Step {
        args.iter().fold(self.call_step(cx), |step, i| step.imm(*i, cx.call.args[*i]))
    }

    /// The call makes a descriptor.
    #[expect(clippy::unused_self, reason = "alike its siblings, which need it")]
    pub(crate) fn new_fd(&self, cx: &Cx<'_>, step: Step, cloexec: bool) -> Step {
        if cx.call.ret < 0 || cx.call.flags.contains(SyscallFlags::NO_EXIT) {
            return step;
        }
        step.expect(Expect::Success, 0).post(Post::Fd, fd_operand(cx.call.ret as u32, cloexec))
    }

    /// A blob with the path of an argument; an empty one when it was not recorded.
    pub(crate) fn path(&mut self, cx: &Cx<'_>, arg: u8) -> Result<u64, CompileError> {
        self.text(cx, arg, b"")
    }

    fn text(&mut self, cx: &Cx<'_>, arg: u8, default: &[u8]) -> Result<u64, CompileError> {
        let text = detail_str(cx.call, arg).map_or(default, |id| self.source.str(id)).to_vec();
        Ok(self.b.cstr(&text)?)
    }

    /// Calls by the meaning of their arguments.
    fn other(&mut self, cx: &Cx<'_>) -> Result<Lowered, CompileError> {
        if TAKEN_FOR_GRANTED.contains(&cx.name) {
            return Ok(self.surrogate(cx));
        }
        let named = matches!(
            cx.known.sc,
            Sc::Access
                | Sc::Faccessat
                | Sc::Faccessat2
                | Sc::Chdir
                | Sc::Fchdir
                | Sc::Chmod
                | Sc::Fchmod
                | Sc::Fchmodat
                | Sc::Stat
                | Sc::Lstat
                | Sc::Newfstatat
                | Sc::Statx
                | Sc::Fstat
                | Sc::Statfs
                | Sc::Readlink
                | Sc::Readlinkat
                | Sc::Mkdir
                | Sc::Mkdirat
                | Sc::Rmdir
                | Sc::Unlink
                | Sc::Unlinkat
                | Sc::Rename
                | Sc::Renameat
                | Sc::Renameat2
                | Sc::Link
                | Sc::Linkat
                | Sc::Symlink
                | Sc::Symlinkat
                | Sc::Truncate
                | Sc::Ftruncate
                | Sc::Fallocate
                | Sc::Getxattr
                | Sc::Lgetxattr
                | Sc::Listxattr
                | Sc::Llistxattr
                | Sc::Umask
                | Sc::Sync
                | Sc::Syncfs
                | Sc::Fsync
                | Sc::Fdatasync
                | Sc::Getcwd
        );
        if named || HARMLESS.contains(&cx.name) {
            return self.generic(cx);
        }
        match cx.name {
            "getpid"
            | "gettid"
            | "getppid"
            | "getpgid"
            | "setpgid"
            | "sched_getaffinity"
            | "sched_getparam"
            | "sched_getscheduler"
            | "sched_getattr"
            | "sched_rr_get_interval" => self.ids(cx),
            // The identity stays; setting nothing is as good a call.
            "setresuid" | "setresgid" | "setreuid" | "setregid" => {
                let none = u64::from(u32::MAX);
                Ok(self.call_step(cx).imm(0, none).imm(1, none).imm(2, none).into())
            }
            "setxattr" | "lsetxattr" | "fsetxattr" => self.set_attribute(cx),
            "sched_setaffinity" => match detail_value(cx.call, 2) {
                Some(mask) if cx.call.args[0] == 0 => {
                    let blob = self.b.data(&mask.to_ne_bytes())?;
                    Ok(self.plain(cx, &[0]).imm(1, 8).arg(2, Sel::Data, blob).into())
                }
                _ => Ok(self.surrogate(cx)),
            },
            "shmget" | "shmat" | "shmdt" | "shmctl" | "semget" | "semop" | "semctl" | "semtimedop"
            | "msgget" | "msgsnd" | "msgrcv" | "msgctl" | "mq_open" | "mq_timedsend" | "mq_timedreceive"
            | "io_setup" | "io_submit" | "io_getevents" | "io_destroy" | "mincore" | "getdents"
            | "futex_waitv" | "rt_sigqueueinfo" | "rt_tgsigqueueinfo" | "recvmmsg" | "mlock2"
            | "clock_adjtime" | "adjtimex" | "io_pgetevents" => Ok(self.surrogate(cx)),
            _ => Ok(self.refused(cx)),
        }
    }

    /// Arguments by their kinds.
    fn generic(&mut self, cx: &Cx<'_>) -> Result<Lowered, CompileError> {
        let Some(args) = cx.known.args else { return Ok(self.refused(cx)) };
        let mut step = self.call_step(cx);
        for (i, (arg_name, kind)) in args.iter().enumerate() {
            step = match kind {
                K::Path | K::Str => match detail_str(cx.call, i as u8) {
                    Some(text) => {
                        let text = self.source.str(text).to_vec();
                        let blob = self.b.cstr(&text)?;
                        step.arg(i, Sel::Data, blob)
                    }
                    None => step.imm(i, 0),
                },
                K::Stat | K::Statx => step.arg(i, Sel::Out, 256),
                K::Ptr => match *arg_name {
                    // Optional outputs that nobody needs.
                    "cache" | "tz" | "remain" | "node" => step.imm(i, 0),
                    _ => {
                        let len = out_len(cx, args, i);
                        step.arg(i, Sel::Out, len)
                    }
                },
                K::U32Ptr | K::U64Ptr => step.arg(i, Sel::Out, 64),
                K::Iov => self.iov(cx, step, i, false)?,
                _ => step.imm(i, cx.call.args[i]),
            };
        }
        Ok(match cx.known.sc {
            Sc::Readlink | Sc::Readlinkat | Sc::Umask | Sc::Getxattr | Sc::Listxattr | Sc::Getcwd => {
                if cx.call.ret >= 0 { step.expect(Expect::Success, 0) } else { step }
            }
            _ => step,
        }
        .into())
    }

    pub(crate) fn iov(
        &mut self,
        cx: &Cx<'_>,
        step: Step,
        arg: usize,
        exact: bool,
    ) -> Result<Step, CompileError> {
        let (bytes, count) = detail_iov(cx.call).unwrap_or((cx.call.ret.max(0) as u64, 1));
        let bytes = if exact { cx.call.ret.max(0) as u64 } else { bytes };
        let lens = super::io::split(bytes, u64::from(count.clamp(1, 1024)));
        let blob = self.b.words(&lens)?;
        Ok(step.arg(arg, Sel::Iov, blob).imm(arg + 1, lens.len() as u64))
    }

    fn open(&mut self, cx: &Cx<'_>) -> Result<Lowered, CompileError> {
        let (open, mode) = open_flags(cx.call, cx.known.sc);
        let mut pre = Vec::new();
        if cx.call.ret >= 0 {
            self.conjure(cx, open, &mut pre)?;
        }
        let step = match cx.known.sc {
            Sc::Open => {
                let path = self.path(cx, 0)?;
                self.plain(cx, &[1, 2]).arg(0, Sel::Data, path)
            }
            Sc::Creat => {
                let path = self.path(cx, 0)?;
                self.plain(cx, &[1]).arg(0, Sel::Data, path)
            }
            Sc::Openat => {
                let path = self.path(cx, 1)?;
                self.plain(cx, &[0, 2, 3]).arg(1, Sel::Data, path)
            }
            _ => {
                let path = self.path(cx, 1)?;
                let mode = if open & O_CREAT != 0 { u64::from(mode) } else { 0 };
                let how = self.b.words(&[u64::from(open), mode, 0])?;
                self.plain(cx, &[0]).arg(1, Sel::Data, path).arg(2, Sel::Data, how).imm(3, 24)
            }
        };
        let step = self.new_fd(cx, step, open & O_CLOEXEC != 0);
        Ok(Lowered { pre, step })
    }

    /// A file that somebody outside made meanwhile is made by the engine before the workload finds it.
    fn conjure(&mut self, cx: &Cx<'_>, open: u32, pre: &mut Vec<Step>) -> Result<(), CompileError> {
        if open & O_CREAT != 0 {
            return Ok(());
        }
        for (path, _) in self.named_paths(cx) {
            if !self.world.fs.is_absent(path) {
                continue;
            }
            let text = self.world.paths.get(path).to_vec();
            let blob = self.b.cstr(&text)?;
            let dir = open & super::world::O_DIRECTORY != 0;
            let step = if dir {
                Step::call(host_nr("mkdirat").unwrap_or(0))
                    .imm(0, AT_FDCWD)
                    .arg(1, Sel::Data, blob)
                    .imm(2, 0o755)
            } else {
                Step::call(host_nr("mknodat").unwrap_or(0))
                    .imm(0, AT_FDCWD)
                    .arg(1, Sel::Data, blob)
                    .imm(2, 0o100_644)
                    .imm(3, 0)
            };
            pre.push(step.with(flags::ENGINE));
        }
        Ok(())
    }

    #[expect(clippy::unnecessary_wraps, reason = "alike its siblings, which can fail")]
    fn clone(&mut self, cx: &Cx<'_>) -> Result<Lowered, CompileError> {
        // Namespaces are the sandbox's; pidfds and tid words of the recorded memory do not exist.
        const KEEP: u64 = 0xff
            | CLONE_VM
            | 0x200
            | 0x400
            | 0x800
            | CLONE_VFORK
            | 0x8000
            | CLONE_THREAD
            | 0x4_0000
            | 0x80_0000;
        let Some((mut clone_flags, ..)) = clone_operands(cx.call, cx.known.sc) else {
            return Ok(self.missing(cx));
        };
        let child = self.world.child_of_clone(cx.task, cx.call.ret);
        let Some(child) = child.filter(|c| (*c as usize) < self.states.len()) else {
            return Ok(self.missing(cx));
        };
        clone_flags &= KEEP;
        let mut step = Step { nr: cx.nr, ..Step::of(Kind::Clone) }
            .expect(Expect::Pid, i64::from(self.prog(child)))
            .aux(u64::from(self.prog(child)));
        if let Some(word) = self.join_word(child) {
            clone_flags |= CLONE_PARENT_SETTID | CLONE_CHILD_CLEARTID;
            let slot = u64::from(self.futex_slot(word, None));
            step = step.arg(2, Sel::Futex, slot).arg(3, Sel::Futex, slot);
        }
        let _ = CLONE_CHILD_SETTID;
        Ok(step.imm(0, clone_flags).into())
    }

    /// The word that the kernel clears when this thread ends, if somebody waits for that.
    fn join_word(&self, child: TaskIx) -> Option<super::futexes::Word> {
        self.joins.get(&child)?;
        self.facts
            .tid_words
            .iter()
            .find(|(word, tasks)| tasks.contains(&child) && self.facts.futexes.by_word.contains_key(*word))
            .map(|(word, _)| *word)
    }

    /// The slot that stands for a word during its `ordinal`th wake; `None`: for the end of a thread.
    fn futex_slot(&mut self, word: super::futexes::Word, ordinal: Option<u32>) -> u32 {
        /// More wakes of one word are hardly ever under way at once.
        const TURNS: u32 = 32;
        let turn = ordinal.map_or(u32::MAX, |n| n % TURNS);
        if let Some(slot) = self.futex_slots.get(&(word, turn)) {
            return *slot;
        }
        let slot = self.b.futex_slot();
        self.futex_slots.insert((word, turn), slot);
        slot
    }

    /// A word that nobody ever wakes.
    fn quiet(&mut self) -> u32 {
        *self.quiet_futex.get_or_insert_with(|| self.b.futex_slot())
    }
    /// A word that nobody ever waits on.
    fn deserted(&mut self) -> u32 {
        *self.deserted_futex.get_or_insert_with(|| self.b.futex_slot())
    }

    fn futex(&mut self, cx: &Cx<'_>) -> Result<Lowered, CompileError> {
        if cx.known.sc != Sc::Futex {
            return Ok(self.surrogate(cx));
        }
        let (op, private) = facts::futex_op(cx.call);
        let word = facts::futex_word(&self.world, cx.task, cx.call.args[0], private);
        let unfinished = cx.call.flags.contains(SyscallFlags::NO_EXIT);
        let ret = cx.call.ret;
        let base = self.plain(cx, &[1, 5]);
        match op {
            // FUTEX_WAIT, FUTEX_WAIT_BITSET
            0 | 9 => {
                let timeout = detail_time(cx.call, 3);
                if !unfinished && ret == 0 {
                    let seq = self.world.tasks[cx.task as usize].ops;
                    if self.facts.futexes.waits.contains(&(cx.task, seq)) {
                        let join = self.joins.iter().find(|(_, w)| **w == (cx.task, seq)).map(|(c, _)| *c);
                        let Some(child) = join else { return Ok(self.surrogate(cx)) };
                        let slot = u64::from(self.futex_slot(word, None));
                        let child = u64::from(self.prog(child));
                        return Ok(base
                            .arg(0, Sel::Futex, slot)
                            .arg(2, Sel::Pid, child)
                            .imm(3, 0)
                            .imm(5, u64::from(u32::MAX))
                            .into());
                    }
                    let ordinal = self.facts.futexes.ended_by.get(&(cx.task, seq)).copied().unwrap_or(0);
                    let slot = u64::from(self.futex_slot(word, Some(ordinal)));
                    let step = base.arg(0, Sel::Futex, slot).imm(2, 0).imm(3, 0).imm(5, u64::from(u32::MAX));
                    return Ok(step.with(flags::BLOCKED).into());
                }
                let slot = u64::from(self.quiet());
                let mut step = base.arg(0, Sel::Futex, slot).imm(2, 0).imm(3, 0);
                if ret == -11 {
                    return Ok(step.imm(2, 1).into());
                }
                if let Some(ns) = timeout.filter(|_| ret == -110 || !unfinished) {
                    // Plain waits count from now, bitset waits name a moment.
                    let left = if op == 9 { cx.call.duration_ns } else { ns };
                    step = if op == 9 {
                        let clock = u8::from(cx.call.args[1] & 0x100 == 0);
                        step.arg(3, Sel::AbsTimespec, clock_operand(clock, left))
                    } else {
                        step.arg(3, Sel::Timespec, left)
                    };
                } else if ret == -110 {
                    return self.fault(cx);
                }
                Ok(step.into())
            }
            // FUTEX_WAKE, FUTEX_WAKE_BITSET
            1 | 10 => {
                if ret > 0 {
                    let count = self.wakes.entry(word).or_default();
                    let ordinal = *count;
                    *count = count.wrapping_add(1);
                    let slot = u64::from(self.futex_slot(word, Some(ordinal)));
                    let mut step = Step { kind: Kind::FutexWake as u8, ..base }
                        .arg(0, Sel::Futex, slot)
                        .imm(2, cx.call.args[2].min(ret as u64))
                        .imm(5, u64::from(u32::MAX))
                        .expect(Expect::Exact, ret);
                    step.aux = WAITERS_NS;
                    return Ok(step.into());
                }
                let slot = u64::from(self.deserted());
                Ok(base.arg(0, Sel::Futex, slot).imm(2, cx.call.args[2]).imm(5, u64::from(u32::MAX)).into())
            }
            _ => {
                if matches!(op, 3..=5) && ret > 0 {
                    *self.wakes.entry(word).or_default() += 1;
                }
                Ok(self.surrogate(cx))
            }
        }
    }

    fn exec(&mut self, cx: &Cx<'_>) -> Result<Lowered, CompileError> {
        let at = cx.known.sc == Sc::Execveat;
        let (path_arg, argv_arg) = if at { (1, 2) } else { (0, 1) };
        let argv = cx.call.details.iter().find_map(|d| match d {
            Detail::Argv { words, count, .. } => Some((words.clone(), *count)),
            _ => None,
        });
        let path = self.path(cx, path_arg)?;
        let (words, count) = argv.unwrap_or_default();
        let mut blobs = Vec::new();
        for word in words.iter().take(256) {
            let text = self.source.str(*word).to_vec();
            blobs.push(self.b.cstr(&text)?);
        }
        let empty = self.b.cstr(b"")?;
        while blobs.len() < (count as usize).clamp(1, 4096) {
            blobs.push(empty);
        }
        let argv = self.b.pointers(&blobs)?;
        let step = if at { self.plain(cx, &[0, 4]) } else { self.call_step(cx) };
        let step = step
            .arg(usize::from(path_arg), Sel::Data, path)
            .arg(argv_arg, Sel::Data, argv)
            .imm(argv_arg + 1, 0);
        if cx.call.ret < 0 {
            return Ok(step.into());
        }
        if let Some(target) =
            self.world.target(self.source, cx.task, cx.call, path_arg, at.then_some(cx.call.args[0] as i32))
        {
            let text = self.world.paths.get(target.path).to_vec();
            // What the workload made itself, the worker makes a worker when it is executed.
            let made = self.world.fs.lookup(target.path).is_some_and(|ix| {
                let node = self.world.fs.node(ix);
                node.initial.is_none() && !node.external
            });
            if !made && !target.by_fd && !self.environment.executables.contains(&text) && !self.is_link(&text)
            {
                self.environment.executables.push(text.clone());
                self.environment.files.retain(|f| f.path != text);
            }
        }
        let me = self.prog(cx.task);
        let next = self.b.next_step(me) + 1;
        Ok(Step { kind: Kind::Exec as u8, ..step }
            .aux(u64::from(me))
            .post(Post::None, u64::from(next))
            .into())
    }

    /// Whether the sandbox has a link by this name, which leads to the program.
    pub(crate) fn is_link(&self, path: &[u8]) -> bool {
        let made = |f: &FileSpec| f.path == path && matches!(f.kind, FileKind::Link { .. });
        self.environment.files.iter().any(made)
    }

    fn sigaction(&mut self, cx: &Cx<'_>) -> Step {
        let signo = cx.call.args[0];
        let action = cx.call.details.iter().find_map(|d| match d {
            Detail::SigAction { handler, flags, mask, .. } => Some((*handler, *flags, *mask)),
            _ => None,
        });
        let mut step = Step { nr: cx.nr, ..Step::of(Kind::Sigaction) }.imm(0, signo);
        step.expect_kind = Expect::Exact as u8;
        step.expect = cx.call.ret;
        let Some((handler, sa_flags, mask)) = action else { return step.aux(SIG_QUERY) };
        if cx.call.ret == 0 {
            const SA_RESTART: u64 = 0x1000_0000;
            self.dispositions.insert((cx.proc, signo as u32), (handler, sa_flags & SA_RESTART != 0));
        }
        let kind = match handler {
            0 => SIG_DEFAULT,
            1 => SIG_IGNORE,
            _ => SIG_HANDLER,
        };
        step.imm(1, sa_flags).imm(2, mask).aux(kind)
    }

    #[expect(clippy::unnecessary_wraps, reason = "alike its siblings, which can fail")]
    fn sigreturn(&mut self, cx: &Cx<'_>) -> Result<Lowered, CompileError> {
        let mut step = Step::of(Kind::SignalReturn);
        step.nr = cx.nr;
        let state = &mut self.states[cx.task as usize];
        if state.depth > 0 {
            state.depth -= 1;
            return Ok(step.into());
        }
        // The delivery was not recorded. One signal that has a handler is the one, SIGCHLD before others.
        let caught = |signo: &u32| self.dispositions.get(&(cx.proc, *signo)).is_some_and(|d| d.0 == 2);
        let Some(signo) = [17].into_iter().chain(1..=64).find(caught) else { return Ok(self.missing(cx)) };
        let mut handler = Step::of(Kind::SignalHandler);
        handler.nr = signo;
        Ok(Lowered { pre: vec![handler], step: step.with(flags::IN_HANDLER) })
    }

    fn sigmask(&mut self, cx: &Cx<'_>) -> Result<Lowered, CompileError> {
        let (arg, size_arg) = match cx.known.sc {
            Sc::RtSigprocmask => (1, 3),
            Sc::RtSigsuspend => (0, 1),
            _ => (0, 3),
        };
        let mut step = self.plain(cx, &[0]);
        step = match detail_value(cx.call, arg as u8) {
            Some(mask) => {
                let blob = self.b.data(&mask.to_ne_bytes())?;
                step.arg(arg, Sel::Data, blob)
            }
            None => step.imm(arg, 0),
        };
        step = step.imm(size_arg, 8);
        match cx.known.sc {
            Sc::RtSigprocmask => step = step.arg(2, Sel::Out, 8),
            Sc::RtSigtimedwait => {
                step = step.arg(1, Sel::Out, 128);
                step = match detail_time(cx.call, 2) {
                    Some(ns) => step.arg(2, Sel::Timespec, ns),
                    None => step.imm(2, 0),
                };
            }
            _ => {}
        }
        Ok(step.into())
    }

    #[expect(clippy::unnecessary_wraps, reason = "alike its siblings, which can fail")]
    fn mmap(&mut self, cx: &Cx<'_>) -> Result<Lowered, CompileError> {
        const MAP_FIXED: u64 = 0x10;
        const MAP_ANONYMOUS: u64 = 0x20;
        const DROP: u64 = 0x10_0000 | 0x4_0000 | 0x2000;
        let [addr, len, prot, map_flags, ..] = cx.call.args;
        if len > 1 << 46 {
            return Ok(self.surrogate(cx));
        }
        let at = cx.call.ret as u64;
        let maps = self.maps.entry(cx.proc).or_default();
        let inside = (map_flags & (MAP_FIXED | 0x10_0000) != 0).then(|| maps.find(addr)).flatten();
        let mut step = self
            .plain(cx, &[1, 2, 4, 5])
            .imm(3, map_flags & !DROP & !MAP_FIXED)
            .imm(0, 0)
            .expect(Expect::Success, 0);
        if map_flags & MAP_ANONYMOUS == 0 {
            let fd = cx.call.args[4] as i32;
            if self.world.ofd_of(cx.task, fd).is_none_or(|o| self.world.inode_of(o).is_none()) {
                // Memory of a device or of something unknown: anonymous memory stands for it.
                step =
                    step.imm(3, (map_flags & !DROP & !MAP_FIXED) | MAP_ANONYMOUS).imm(4, u64::MAX).imm(5, 0);
            }
        }
        let _ = prot;
        let maps = self.maps.entry(cx.proc).or_default();
        if let Some((slot, offset)) = inside {
            let (sel, operand) = if maps.is_stand_in(addr) {
                (Sel::StandIn, offset)
            } else {
                (Sel::Value, value_operand(slot, offset as i64))
            };
            step = step.arg(0, sel, operand).imm(3, (map_flags & !DROP) | MAP_FIXED);
            maps.insert(at, len, slot, offset);
            return Ok(step.into());
        }
        let slot = maps.reusable(at);
        let slot = match slot {
            Some(slot) => slot,
            None => self.b.value_slot(),
        };
        self.maps.entry(cx.proc).or_default().insert(at, len, slot, 0);
        Ok(step.post(Post::StoreValue, u64::from(slot)).into())
    }

    /// Where a recorded address is in the replay. For memory that no recorded call mapped (of the program itself, the
    /// stack) a part of the worker's region stands in.
    fn address(&mut self, cx: &Cx<'_>, addr: u64, len: u64) -> Option<(Sel, u64)> {
        let maps = self.maps.entry(cx.proc).or_default();
        if let Some((slot, offset)) = maps.find(addr) {
            return Some(if maps.is_stand_in(addr) {
                (Sel::StandIn, offset)
            } else {
                (Sel::Value, value_operand(slot, offset as i64))
            });
        }
        if let Some((start, slot)) = maps.heap
            && addr >= start
            && addr < start.saturating_add(1 << 36)
        {
            return Some((Sel::Value, value_operand(slot, (addr - start) as i64)));
        }
        maps.stand_in(addr, len).map(|offset| (Sel::StandIn, offset))
    }

    #[expect(clippy::unnecessary_wraps, reason = "alike its siblings, which can fail")]
    fn mapped(&mut self, cx: &Cx<'_>) -> Result<Lowered, CompileError> {
        let [addr, len, ..] = cx.call.args;
        let Some((sel, operand)) = self.address(cx, addr, len) else { return Ok(self.surrogate(cx)) };
        let mut step = self.plain(cx, &[1, 2, 3, 4]).arg(0, sel, operand);
        match cx.known.sc {
            // Advice that discards would discard what stands in.
            Sc::Madvise | Sc::Msync if self.maps.entry(cx.proc).or_default().is_stand_in(addr) => {
                return Ok(self.surrogate(cx));
            }
            Sc::Munmap => self.maps.entry(cx.proc).or_default().remove(addr, len),
            Sc::Mremap => {
                const MREMAP_FIXED: u64 = 2;
                let new_slot = self.b.value_slot();
                step = step
                    .imm(3, cx.call.args[3] & !MREMAP_FIXED)
                    .imm(4, 0)
                    .expect(Expect::Success, 0)
                    .post(Post::StoreValue, u64::from(new_slot));
                let maps = self.maps.entry(cx.proc).or_default();
                maps.remove(addr, len);
                maps.insert(cx.call.ret as u64, cx.call.args[2], new_slot, 0);
            }
            _ => {}
        }
        Ok(step.into())
    }

    fn brk(&mut self, cx: &Cx<'_>) -> Lowered {
        let ret = cx.call.ret as u64;
        let heap = self.maps.entry(cx.proc).or_default().heap;
        let step = self.call_step(cx).expect(Expect::Success, 0);
        match heap {
            Some((start, slot)) if cx.call.args[0] >= start && cx.call.args[0] - start < 1 << 36 => {
                step.arg(0, Sel::Value, value_operand(slot, (cx.call.args[0] - start) as i64)).into()
            }
            Some(_) => step.imm(0, 0).into(),
            None => {
                let slot = self.b.value_slot();
                if cx.call.args[0] == 0 || cx.call.args[0] != ret {
                    self.maps.entry(cx.proc).or_default().heap = Some((ret, slot));
                    return step.imm(0, 0).post(Post::StoreValue, u64::from(slot)).into();
                }
                // The first question came before the recording.
                self.maps.entry(cx.proc).or_default().heap = Some((ret, slot));
                let ask =
                    Step::call(cx.nr).with(flags::ENGINE).imm(0, 0).post(Post::StoreValue, u64::from(slot));
                Lowered { pre: vec![ask], step: step.arg(0, Sel::Value, value_operand(slot, 0)) }
            }
        }
    }

    /// The task that a recorded process or thread id names.
    fn task_by_pid(&self, pid: u64) -> Option<u32> {
        let pid = u64::from(pid as u32);
        let task = self.by_pid.get(&pid).copied().or_else(|| self.world.live(pid as u32))?;
        ((task as usize) < self.states.len()).then(|| self.prog(task))
    }

    #[expect(clippy::unnecessary_wraps, reason = "alike its siblings, which can fail")]
    fn wait(&mut self, cx: &Cx<'_>) -> Result<Lowered, CompileError> {
        const WNOHANG: u64 = 1;
        const P_PID: u64 = 1;
        let waitid = cx.known.sc == Sc::Waitid;
        let mut pre = Vec::new();
        let mut step = if waitid {
            self.plain(cx, &[0, 1, 3]).arg(2, Sel::Out, 128).imm(4, 0)
        } else {
            self.plain(cx, &[0, 2]).arg(1, Sel::Out, 64).imm(3, 0)
        };
        let target = if waitid { cx.call.args[1] } else { cx.call.args[0] };
        let number = target as u32 as i32;
        let child = if !waitid && cx.call.ret > 0 { self.task_by_pid(cx.call.ret as u64) } else { None };
        if let Some(child) = child {
            // Whoever ended first here: the one that did in the recording is taken.
            step = step.arg(0, Sel::Pid, u64::from(child)).expect(Expect::Pid, i64::from(child));
            if cx.call.args[2] & WNOHANG != 0 {
                let ended = Step::call(host_nr("waitid").unwrap_or(0))
                    .with(flags::ENGINE)
                    .imm(0, P_PID)
                    .arg(1, Sel::Pid, u64::from(child))
                    .arg(2, Sel::Out, 128)
                    .imm(3, 4 | 2 | 0x0100_0000)
                    .imm(4, 0);
                pre.push(ended);
            }
        } else if waitid && cx.call.args[0] == P_PID || !waitid && number > 0 {
            if let Some(child) = self.task_by_pid(target) {
                step = step.arg(usize::from(waitid), Sel::Pid, u64::from(child));
            } else if cx.call.ret >= 0 {
                return Ok(self.surrogate(cx));
            }
        } else if !waitid && number < -1 {
            match self.task_by_pid(number.unsigned_abs().into()) {
                Some(leader) => step = step.arg(0, Sel::PidNeg, u64::from(leader)),
                None => step = step.imm(0, u64::MAX),
            }
        }
        Ok(Lowered { pre, step })
    }

    fn kill(&mut self, cx: &Cx<'_>) -> Lowered {
        let (pid, sig_arg) = match cx.known.sc {
            Sc::Tgkill => (cx.call.args[1], 2),
            _ => (cx.call.args[0], 1),
        };
        let mut step = self.plain(cx, &[sig_arg]);
        let number = pid as i32;
        match cx.known.sc {
            Sc::Tgkill => {
                let (Some(group), Some(thread)) =
                    (self.task_by_pid(cx.call.args[0]), self.task_by_pid(cx.call.args[1]))
                else {
                    return self.surrogate(cx);
                };
                step = step.arg(0, Sel::Pid, u64::from(group)).arg(1, Sel::Pid, u64::from(thread));
            }
            _ if number == 0 || number == -1 => return self.surrogate(cx),
            _ if number < -1 => match self.task_by_pid(number.unsigned_abs().into()) {
                Some(leader) => step = step.arg(0, Sel::PidNeg, u64::from(leader)),
                None => return self.surrogate(cx),
            },
            _ => match self.task_by_pid(pid) {
                Some(task) => step = step.arg(0, Sel::Pid, u64::from(task)),
                None => return self.surrogate(cx),
            },
        }
        step.into()
    }

    fn ids(&mut self, cx: &Cx<'_>) -> Result<Lowered, CompileError> {
        let mut lowered = self.generic(cx)?;
        let step = lowered.step;
        lowered.step = match cx.name {
            "getpid" => {
                let leader = self.world.procs[cx.proc as usize].first;
                step.expect(Expect::Pid, i64::from(self.prog(leader)))
            }
            "gettid" => step.expect(Expect::Pid, i64::from(self.prog(cx.task))),
            "getppid" => step.expect(Expect::Any, 0),
            "setpgid" | "getpgid" => {
                let args = if cx.name == "setpgid" { 2 } else { 1 };
                let mut step = step.expect(Expect::Success, 0);
                for i in 0..args {
                    if cx.call.args[i] != 0 {
                        match self.task_by_pid(cx.call.args[i]) {
                            Some(task) => step = step.arg(i, Sel::Pid, u64::from(task)),
                            None => return Ok(self.surrogate(cx)),
                        }
                    }
                }
                step
            }
            _ if cx.call.args[0] != 0 => match self.task_by_pid(cx.call.args[0]) {
                Some(task) => step.arg(0, Sel::Pid, u64::from(task)).expect(Expect::Success, 0),
                None => step.imm(0, 0).expect(Expect::Success, 0),
            },
            _ => step.expect(Expect::Success, 0),
        };
        Ok(lowered)
    }

    fn sleep(&mut self, cx: &Cx<'_>) -> Lowered {
        const TIMER_ABSTIME: u64 = 1;
        if cx.known.sc == Sc::Nanosleep {
            let ns = detail_time(cx.call, 0).unwrap_or(cx.call.duration_ns);
            return self.call_step(cx).arg(0, Sel::Timespec, ns).imm(1, 0).into();
        }
        let step = self.plain(cx, &[0, 1]).imm(3, 0);
        if cx.call.args[1] & TIMER_ABSTIME != 0 {
            let clock = (cx.call.args[0] as u8).min(11);
            return step.arg(2, Sel::AbsTimespec, clock_operand(clock, cx.call.duration_ns)).into();
        }
        let ns = detail_time(cx.call, 2).unwrap_or(cx.call.duration_ns);
        step.arg(2, Sel::Timespec, ns).into()
    }

    fn timer(&mut self, cx: &Cx<'_>) -> Result<Lowered, CompileError> {
        const TIMERS: u8 = 1;
        let spec = detail_bytes(cx.call, 2).or_else(|| detail_bytes(cx.call, 1));
        let ns = |sec: u64, rest: u64| sec.saturating_mul(1_000_000_000).saturating_add(rest);
        let (interval, value) = spec.map_or_else(
            || (0, detail_time(cx.call, 2).unwrap_or(0)),
            |s| {
                let unit = if cx.known.sc == Sc::Setitimer { 1000 } else { 1 };
                let part = |at: usize| ns(le_u64(s, at), le_u64(s, at + 8).saturating_mul(unit));
                (part(0), part(16))
            },
        );
        match cx.known.sc {
            Sc::Setitimer => {
                let blob = self.b.words(&[interval, value])?;
                Ok(self.plain(cx, &[0]).arg(1, Sel::Itimerval, blob).imm(2, 0).into())
            }
            Sc::TimerfdSettime => {
                // TFD_TIMER_ABSTIME: the moment is as far away as its expiry was in the recording, which is not known
                // here; a second from now is never early.
                let absolute = cx.call.args[1] & 1 != 0;
                let step = self.plain(cx, &[0, 1]).imm(3, 0);
                if absolute && value != 0 {
                    let clock = self.timer_clock(cx);
                    let left = self.until(value, cx.call.t_ns, clock);
                    let blob = self.b.words(&[interval, left, u64::from(clock)])?;
                    return Ok(step.arg(2, Sel::AbsItimerspec, blob).into());
                }
                let blob = self.b.words(&[interval, value])?;
                Ok(step.arg(2, Sel::Itimerspec, blob).into())
            }
            Sc::TimerCreate => {
                let id = detail_value(cx.call, 2).unwrap_or(0);
                let slot = self.b.value_slot();
                self.handles.insert((cx.proc, TIMERS, id), slot);
                let step = self
                    .plain(cx, &[0])
                    .imm(1, 0)
                    .arg(2, Sel::Out, 64)
                    .post(Post::StoreOut, u64::from(slot))
                    .aux(2);
                Ok(step.into())
            }
            _ => {
                let id = cx.call.args[0];
                let Some(slot) = self.handles.get(&(cx.proc, TIMERS, id)).copied() else {
                    return Ok(self.surrogate(cx));
                };
                let step = self.plain(cx, &[1]).arg(0, Sel::Value, value_operand(slot, 0));
                if cx.known.sc == Sc::TimerDelete {
                    return Ok(step.imm(1, 0).into());
                }
                if cx.call.args[1] & 1 != 0 {
                    let left = self.until(value, cx.call.t_ns, 1);
                    let blob = self.b.words(&[interval, left, 1])?;
                    return Ok(step.arg(2, Sel::AbsItimerspec, blob).imm(3, 0).into());
                }
                let blob = self.b.words(&[interval, value])?;
                Ok(step.arg(2, Sel::Itimerspec, blob).imm(3, 0).into())
            }
        }
    }

    fn timer_clock(&self, cx: &Cx<'_>) -> u8 {
        self.timer_clocks.get(&(cx.proc, cx.call.args[0] as i32)).copied().unwrap_or(1)
    }

    /// How far a recorded moment of a clock was away at `t_ns`.
    fn until(&self, value_ns: u64, t_ns: u64, clock: u8) -> u64 {
        let header = self.source.header();
        let now = match clock {
            0 | 8 | 11 => header.start_realtime_ns.saturating_add(t_ns),
            _ => header.start_boottime_ns.saturating_add(t_ns),
        };
        value_ns.saturating_sub(now).clamp(1, 1 << 55)
    }

    fn arch_prctl(&mut self, cx: &Cx<'_>) -> Lowered {
        match cx.call.args[0] {
            // ARCH_SET_GS, ARCH_SET_FS: the worker uses neither.
            0x1001 | 0x1002 => self.plain(cx, &[0]).arg(1, Sel::Keep, 512).into(),
            0x1003 | 0x1004 => self.plain(cx, &[0]).arg(1, Sel::Out, 64).into(),
            // ARCH_CET_STATUS, ARCH_SHSTK_*: asked by every libc start, and answered with an error or not.
            _ => self.plain(cx, &[0]).arg(1, Sel::Out, 64).expect(Expect::Any, 0).into(),
        }
    }

    fn prctl(&mut self, cx: &Cx<'_>) -> Result<Lowered, CompileError> {
        let option = cx.call.args[0];
        if !PRCTLS.contains(&option) {
            return Ok(
                if matches!(option, 1 | 4 | 8 | 22 | 24 | 28 | 38 | 47 | 53 | 54 | 59 | 0x5356_4d41) {
                    self.surrogate(cx)
                } else {
                    self.refused(cx)
                },
            );
        }
        Ok(match option {
            15 => {
                // The name that its own record carries is the new one.
                let comm = self.world.tasks[cx.task as usize].comm.clone();
                let blob = self.b.cstr(&comm[..comm.len().min(15)])?;
                self.plain(cx, &[0]).arg(1, Sel::Data, blob).into()
            }
            2 | 16 | 25 | 37 => self.plain(cx, &[0]).arg(1, Sel::Out, 64).into(),
            _ => self.plain(cx, &[0, 1, 2, 3, 4]).into(),
        })
    }

    fn limit(&mut self, cx: &Cx<'_>) -> Result<Lowered, CompileError> {
        let prlimit = cx.known.sc == Sc::Prlimit64;
        let (resource, new_arg) = if prlimit { (cx.call.args[1], 2) } else { (cx.call.args[0], 1) };
        let step = if prlimit {
            if cx.call.args[0] != 0 && self.task_by_pid(cx.call.args[0]).is_none() {
                return Ok(self.surrogate(cx));
            }
            self.plain(cx, &[1]).imm(0, 0).arg(3, Sel::Out, 16)
        } else {
            self.plain(cx, &[0])
        };
        match detail_bytes(cx.call, new_arg as u8) {
            // Limits on what the worker itself needs.
            Some(_) if matches!(resource, 0 | 1 | 2 | 5 | 6 | 8 | 9) => Ok(self.surrogate(cx)),
            Some(new) if resource == 7 && le_u64(new, 0) < 256 => Ok(self.surrogate(cx)),
            Some(new) => {
                let blob = self.b.data(&new[..new.len().min(16)])?;
                Ok(step.arg(new_arg, Sel::Data, blob).into())
            }
            None if prlimit => Ok(step.imm(new_arg, 0).into()),
            None => Ok(self.surrogate(cx)),
        }
    }

    fn ioctl(&mut self, cx: &Cx<'_>) -> Result<Lowered, CompileError> {
        let command = cx.call.args[1] as u32;
        if command == FICLONE && cx.call.ret == -95 {
            // Cloning extents is not for the sandbox's file system either.
            return Ok(self.plain(cx, &[0, 1, 2]).into());
        }
        if !IOCTLS.contains(&command) {
            return Ok(self.refused(cx));
        }
        if self.world.ofd_of(cx.task, cx.call.args[0] as i32).is_none() && cx.call.ret >= 0 {
            return Ok(self.missing(cx));
        }
        let step = self.plain(cx, &[0, 1]);
        Ok(match command {
            0x5421 => {
                let value = detail_value(cx.call, 2).unwrap_or(1) as u32;
                let blob = self.b.data(&value.to_ne_bytes())?;
                step.arg(2, Sel::Data, blob).into()
            }
            0x5450 | 0x5451 => step.imm(2, 0).into(),
            // Settings of a terminal: what is set is not recorded; setting something arbitrary would not be harmless.
            0x5402..=0x5404 | 0x5410 | 0x5414 if cx.call.ret >= 0 => self.surrogate(cx),
            _ => step.arg(2, Sel::Out, 256).into(),
        })
    }

    fn fcntl(&mut self, cx: &Cx<'_>) -> Result<Lowered, CompileError> {
        let step = self.plain(cx, &[0, 1, 2]);
        Ok(match cx.call.args[1] {
            // F_DUPFD, F_DUPFD_CLOEXEC
            0 | 1030 => {
                // The least number is kept: the result is then the recorded number without being moved.
                self.new_fd(cx, step, cx.call.args[1] == 1030).into()
            }
            // F_GETFD, F_SETFD, F_GETFL, F_SETFL
            1..=4 => {
                step.expect(if cx.call.ret < 0 { Expect::Exact } else { Expect::Success }, cx.call.ret).into()
            }
            // Record locks: which ranges is not recorded. Asking for nothing to be locked always succeeds.
            5..=7 | 36..=38 => {
                let mut lock = [0_u8; 32];
                lock[0] = 2;
                let blob = self.b.data(&lock)?;
                Self::count(&mut self.summary.surrogate, "fcntl lock");
                step.arg(2, Sel::InOut, blob).into()
            }
            // F_SETOWN, F_GETOWN, F_SETSIG, F_GETSIG, leases, pipe sizes, seals
            1031..=1034 => step.expect(Expect::Success, 0).into(),
            _ => self.surrogate(cx),
        })
    }

    fn times(&mut self, cx: &Cx<'_>) -> Result<Lowered, CompileError> {
        // Which times is not recorded: now.
        Ok(match cx.known.sc {
            Sc::Utime | Sc::Utimes => {
                let path = self.path(cx, 0)?;
                self.call_step(cx).arg(0, Sel::Data, path).imm(1, 0).into()
            }
            Sc::Futimesat => {
                let path = self.path(cx, 1)?;
                self.plain(cx, &[0]).arg(1, Sel::Data, path).imm(2, 0).into()
            }
            _ => match detail_str(cx.call, 1) {
                Some(_) => {
                    let path = self.path(cx, 1)?;
                    self.plain(cx, &[0, 3]).arg(1, Sel::Data, path).imm(2, 0).into()
                }
                None => self.plain(cx, &[0, 3]).imm(1, 0).imm(2, 0).into(),
            },
        })
    }

    /// An extended attribute is set to something of the same length; an access control list to a plain one.
    fn set_attribute(&mut self, cx: &Cx<'_>) -> Result<Lowered, CompileError> {
        let name = detail_str(cx.call, 1).map_or(&b""[..], |id| self.source.str(id)).to_vec();
        if !name.starts_with(b"system.") || cx.call.ret < 0 {
            return self.generic(cx);
        }
        if cx.call.args[3] != 28 {
            return Ok(self.surrogate(cx));
        }
        // Version 2, then tag, permissions and id of the owner, the group and the others (linux/posix_acl_xattr.h).
        let mut list = 2_u32.to_ne_bytes().to_vec();
        for (tag, permissions) in [(1_u16, 6_u16), (4, 4), (32, 4)] {
            list.extend_from_slice(&tag.to_ne_bytes());
            list.extend_from_slice(&permissions.to_ne_bytes());
            list.extend_from_slice(&u32::MAX.to_ne_bytes());
        }
        let list = self.b.data(&list)?;
        let mut lowered = self.generic(cx)?;
        lowered.step = lowered.step.arg(2, Sel::Data, list);
        Ok(lowered)
    }

    fn mknod(&mut self, cx: &Cx<'_>) -> Result<Lowered, CompileError> {
        let at = usize::from(cx.known.sc == Sc::Mknodat);
        let path = self.path(cx, at as u8)?;
        let mode = cx.call.args[at + 1];
        // Device nodes are not made in a sandbox; a plain file is.
        let safe =
            if matches!(mode & 0o170_000, 0o020_000 | 0o060_000) { mode & 0o7777 | 0o100_000 } else { mode };
        let step = if at == 1 { self.plain(cx, &[0]) } else { self.call_step(cx) };
        Ok(step.arg(at, Sel::Data, path).imm(at + 1, safe).imm(at + 2, 0).into())
    }

    fn pidfd_open(&mut self, cx: &Cx<'_>) -> Lowered {
        match self.task_by_pid(cx.call.args[0]) {
            Some(task) => {
                let step = self.plain(cx, &[1]).arg(0, Sel::Pid, u64::from(task));
                self.new_fd(cx, step, true).into()
            }
            None if cx.call.ret < 0 => self.plain(cx, &[1]).imm(0, 0x3fff_ffff).into(),
            None => self.missing(cx),
        }
    }
}

/// `ioctl` that shares the extents of another file.
const FICLONE: u32 = 0x4004_9409;
/// How long a wake waits for those it is to wake.
const WAITERS_NS: u64 = 2_000_000_000;
const AT_FDCWD: u64 = -100_i64 as u64;

/// Bytes of scratch that an output pointer needs: what the size argument says, within reason.
fn out_len(cx: &Cx<'_>, args: &[ctrace_format::syscalls::Arg], at: usize) -> u64 {
    args.iter()
        .zip(cx.call.args)
        .skip(at + 1)
        .find(|((_, kind), _)| matches!(kind, K::Size))
        .map_or(4096, |(_, len)| len.clamp(64, 1 << 20))
}

/// Calls that return addresses.
const fn is_address(sc: Sc) -> bool {
    matches!(sc, Sc::Mmap | Sc::Mremap | Sc::Brk)
}
