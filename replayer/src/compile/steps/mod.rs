//! One recorded call → the step that makes it again: dispatch, names, memory, processes, signals, clocks. Input and
//! output are in [`super::io`].

mod causes;
mod files;
mod futexes;
mod hangs;
mod memory;
mod processes;
mod settings;
mod signals;
mod tables;
pub(crate) mod terminals;
mod timers;

use futexes::Futexes;
use memory::Segments;
use signals::Caught;
use timers::Timers;

use super::CompileError;
use super::calls::Sc;
use super::emit::{As, Lowered};
use super::io::{Sockets, Watches};
use super::lower::Lower;
use super::memory::Spaces;
use super::model::Cx;
use super::pools::Own;
use super::world::{OfdIx, ProcIx, detail_addr, detail_iov, detail_str, detail_value};
use crate::sandbox::confine::UNSHARED_TABLES;
use ctrace_format::syscalls::{Kind as K, Replay};
use ctrace_format::{Abi, SyscallFlags};
use ctrace_program::{Expect, Kind, Post, Sel, Step, clock_operand, clock_parts, fd_operand, flags};
use rustc_hash::FxHashMap;

/// `ioctl` commands that ask or set something about the descriptor only.
pub(crate) const IOCTLS: [u32; 15] = [
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
    0x5452,
    0x5429,
    0x8004_6601,
];
/// What stands for a fault of an instruction, as the summary calls it.
pub(crate) const FAULT_SIGNAL: &str = "fault signal";
/// `prctl` options that are as harmless in the worker as they were.
pub(crate) const PRCTLS: [u64; 15] = [1, 2, 3, 7, 15, 16, 21, 23, 25, 27, 29, 30, 36, 37, 39];

/// What the steps keep from call to call, by family.
#[derive(Debug, Default)]
pub(crate) struct Kept {
    pub(crate) spaces: Spaces,
    segments: Segments,
    futexes: Futexes,
    pub(crate) caught: Caught,
    pub(crate) timers: Timers,
    pub(crate) sockets: Sockets,
    pub(crate) watches: Watches,
    /// Epoll instances of single tasks.
    pub(crate) instances: Own,
    /// Whether the terminals echo by now that these descriptions are the masters of.
    echoes: FxHashMap<OfdIx, bool>,
    /// Transfers that move less than they did.
    pub(crate) shortened: u64,
}

impl Kept {
    /// A process executes another program.
    pub(crate) fn executed(&mut self, proc: ProcIx) {
        self.spaces.executed(proc);
        self.caught.executed(proc);
    }

    /// A process made another.
    pub(crate) fn forked(&mut self, from: ProcIx, to: ProcIx) {
        self.spaces.forked(from, to);
        self.caught.forked(from, to);
    }

    /// The sizes of the tables that grow with the number of different things in a trace.
    pub(crate) fn kept(&self) -> [(&'static str, usize); 3] {
        [
            ("timers, watches and terminals", self.timers.len() + self.watches.len() + self.echoes.len()),
            ("futex words", self.futexes.len()),
            ("address spaces", self.spaces.len()),
        ]
    }
}

impl Lower<'_> {
    /// The steps of one call.
    pub(crate) fn lower(&mut self, cx: &Cx<'_>) -> Result<Lowered, CompileError> {
        if !matches!(cx.call.sysno.abi, Abi::X86_64 | Abi::Aarch64) || cx.known.native.is_none() {
            return Ok(self.refused(cx));
        }
        let unfinished = cx.unfinished();
        if hangs::lasts(cx) && !self.hangs_by_itself(cx) {
            return Ok(self.hang(cx));
        }
        self.emit.count(As::Step, cx.name);
        if !unfinished && cx.call.ret < -4095 && !is_address(cx.known.sc) {
            return Ok(self.missing(cx));
        }
        let failed = cx.call.ret < 0 && cx.call.ret >= -4095;
        if let Some(what) = self.not_here(cx) {
            return Ok(if failed { self.fault(cx) } else { self.answered_in_its_time(cx, what) });
        }
        // What a filter answered has no other cause.
        let filtered = failed && cx.call.flags.contains(SyscallFlags::FILTERED)
            || cx.call.flags.contains(SyscallFlags::EMULATED);
        if !unfinished && (filtered || failed && !self.rebuilds(cx)) {
            return Ok(self.fault(cx));
        }
        self.kept.timers.note(cx);
        let mut lowered = match cx.known.sc {
            Sc::Exit | Sc::ExitGroup => {
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
            Sc::Futex | Sc::FutexWait | Sc::FutexWake => self.futex(cx),
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
                let me = self.emit.prog(cx.task);
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
            Sc::Fchown => {
                let none = u64::from(u32::MAX);
                self.plain(cx, &[0]).imm(1, none).imm(2, none).into()
            }
            Sc::InotifyAddWatch => {
                let path = self.path(cx, 1)?;
                self.plain(cx, &[0, 2]).arg(1, Sel::Data, path).expect(Expect::Success, 0).into()
            }
            Sc::Chroot => {
                if let Some(path) = cx.paths.first().filter(|_| cx.call.ret == 0) {
                    self.surroundings.root(self.world.paths.get(*path));
                }
                self.generic(cx)?
            }
            Sc::Utime | Sc::Utimes | Sc::Utimensat | Sc::Futimesat => self.times(cx)?,
            Sc::Mknod | Sc::Mknodat => self.mknod(cx)?,
            Sc::PidfdOpen => self.pidfd_open(cx),
            Sc::MemfdCreate => {
                let name = self.text(cx, 0, b"replay")?;
                let memfd =
                    self.plain(cx, &[]).arg(0, Sel::Data, name).imm(1, memory::memfd_flags(cx.call.args[1]));
                self.new_fd(cx, memfd, cx.call.args[1] & 1 != 0).into()
            }
            Sc::Pause | Sc::RestartSyscall => self.call_step(cx).into(),
            _ => match self.io(cx)? {
                Some(lowered) => lowered,
                None => self.other(cx)?,
            },
        };
        if unfinished {
            lowered.step = endless(lowered.step.expect(Expect::Never, 0));
        }
        if cx.call.duration_ns >= super::world::BLOCKED_NS {
            lowered.step.flags |= flags::BLOCKED;
        }
        Ok(lowered)
    }

    /// The recorded result, given by the sandbox instead of its cause.
    pub(crate) fn fault(&mut self, cx: &Cx<'_>) -> Lowered {
        self.emit.count(As::Emulated, &Self::with_errno(cx));
        self.answered(cx).into()
    }

    /// A result that a fault gives.
    pub(crate) fn injected(&mut self, cx: &Cx<'_>) -> Lowered {
        self.emit.count(As::Step, cx.name);
        self.emit.count(As::Injected, &Self::with_errno(cx));
        self.answered(cx).with(flags::INJECTED).into()
    }

    /// `connect ECONNREFUSED`.
    fn with_errno(cx: &Cx<'_>) -> String {
        let errno = match cx.call.ret {
            0.. => "0",
            ret => ctrace_format::errno::name(ret.unsigned_abs() as u32).unwrap_or("unknown"),
        };
        format!("{} {errno}", cx.name)
    }

    /// A call that the sandbox's filter answers as it was answered in the recording. It is not carried out, but a recorder
    /// sees what it was asked: numbers, paths and addresses.
    fn answered(&mut self, cx: &Cx<'_>) -> Step {
        // A tag has no room for an address, and none is needed: whoever got it asked for memory that is not there.
        let result = if cx.call.ret > ctrace_program::TAG_MAX { 0 } else { cx.call.ret };
        let mut step = Step::call(cx.nr).with(flags::FAULT).expect(Expect::Exact, result);
        let Some(args) = cx.known.args else {
            // Nothing is known of what they are; nobody follows them.
            return (0..5).fold(step, |step, i| step.imm(i, cx.call.args[i]));
        };
        for (i, (_, kind)) in args.iter().enumerate().take(5) {
            let blob = match kind {
                K::Path | K::Str => {
                    detail_str(cx.call, i as u8).map(|text| self.emit.string(self.source, text))
                }
                K::SockAddr => detail_addr(cx.call, i as u8).map(|addr| {
                    let mut bytes = super::wire::sockaddr(addr);
                    let len = bytes.len();
                    // Where the length is the sixth argument, which is the tag, the recorder takes all that it has room for.
                    bytes.resize(len.max(SOCKADDR_BYTES), 0);
                    if i < 4 {
                        step = step.imm(i + 1, len as u64);
                    }
                    self.emit.data(&bytes)
                }),
                kind => {
                    if !super::emit::is_address(*kind) {
                        step = step.imm(i, cx.call.args[i]);
                    }
                    None
                }
            };
            // What is too long to be kept is not needed either.
            if let Some(Ok(blob)) = blob {
                step = step.arg(i, Sel::Data, blob);
            }
        }
        step
    }

    /// Whether the filter can give the answer that the recorded call had: it was made and has returned.
    fn is_whole(cx: &Cx<'_>) -> bool {
        let native = matches!(cx.call.sysno.abi, Abi::X86_64 | Abi::Aarch64) && cx.known.native.is_some();
        native && cx.call.t_ns > 0 && !cx.unfinished() && cx.call.ret >= -4095
    }

    /// What stands for the call takes no time: what the call took longer is spent before.
    pub(crate) fn in_its_time(cx: &Cx<'_>, step: Step) -> Lowered {
        if cx.call.duration_ns <= 1_000_000 {
            return step.into();
        }
        Self::after_its_time(cx, step)
    }

    fn after_its_time(cx: &Cx<'_>, step: Step) -> Lowered {
        let mut pause = Step::of(Kind::Sync);
        pause.think_sleep_ns = cx.call.duration_ns;
        // It ends when the call did: from an earlier time on, a replay would be late, and leave it out.
        pause.t_ns = cx.call.t_ns.saturating_add(cx.call.duration_ns);
        Lowered::spent(vec![Step::of(Kind::Sync), pause], step)
    }

    /// A call that is not made, by policy: it gets the answer that it had.
    pub(crate) fn refused(&mut self, cx: &Cx<'_>) -> Lowered {
        let name = match cx.call.sysno.abi {
            Abi::I386 | Abi::X32 | Abi::Arm => format!("{} (32-bit)", cx.name),
            _ if cx.known.name.is_none() => format!("unknown call {}", cx.call.sysno.nr),
            _ => cx.name.to_owned(),
        };
        self.emit.count(As::Refused, &name);
        if Self::is_whole(cx) {
            return self.answered(cx).with(flags::REFUSED).into();
        }
        Self::lasting(cx, flags::REFUSED)
    }

    /// Something else stands for a call: the answer it had, where the sandbox's filter can give it, or the time it took.
    pub(crate) fn surrogate(&mut self, cx: &Cx<'_>) -> Lowered {
        self.emit.count(As::Surrogate, cx.name);
        if Self::is_whole(cx) {
            return self.answered(cx).with(flags::SURROGATE).into();
        }
        Self::lasting(cx, flags::SURROGATE)
    }

    /// A stand-in for a call about something that cannot be had here (`what`): the recorded answer, at its recorded time.
    pub(crate) fn answered_in_its_time(&mut self, cx: &Cx<'_>, what: &str) -> Lowered {
        self.emit.count(As::Surrogate, what);
        if Self::is_whole(cx) {
            let step = self.answered(cx).with(flags::SURROGATE);
            return Self::in_its_time(cx, step);
        }
        Self::lasting(cx, flags::SURROGATE)
    }

    /// A call that cannot be rebuilt.
    pub(crate) fn missing(&mut self, cx: &Cx<'_>) -> Lowered {
        self.emit.count(As::Missing, cx.name);
        Self::lasting(cx, flags::MISSING)
    }

    /// No call, but its time.
    pub(crate) fn lasting(cx: &Cx<'_>, why: u32) -> Lowered {
        if hangs::lasts(cx) {
            return hangs::hanging(why);
        }
        let mut step = Step::of(Kind::Skip).with(why);
        step.nr = cx.nr;
        // Under way when the recording began, or when it ended: what comes next has its own time.
        if cx.call.t_ns == 0 || cx.unfinished() {
            return step.into();
        }
        Self::after_its_time(cx, step)
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
        if cx.call.ret < 0 || cx.unfinished() {
            return step;
        }
        step.expect(Expect::Success, 0).post(Post::Fd, fd_operand(cx.call.ret as u32, cloexec))
    }

    /// Calls by the meaning of their arguments.
    pub(crate) fn other(&mut self, cx: &Cx<'_>) -> Result<Lowered, CompileError> {
        match cx.known.row().replay {
            Replay::Granted | Replay::Surrogate => return Ok(self.surrogate(cx)),
            Replay::Same => return self.generic(cx),
            Replay::Identity => return self.ids(cx),
            _ => {}
        }
        match cx.known.sc {
            // The identity stays; setting nothing is as good a call.
            Sc::Setresuid | Sc::Setresgid | Sc::Setreuid | Sc::Setregid => {
                let none = u64::from(u32::MAX);
                Ok(self.call_step(cx).imm(0, none).imm(1, none).imm(2, none).into())
            }
            Sc::Capget => {
                // struct __user_cap_header_struct: what was asked is not recorded. Version 3 of oneself is what every libc
                // and libcap ask; version 0 is how one learns which version there is, by EINVAL.
                const VERSION_3: u32 = 0x2008_0522;
                let version = if cx.call.ret == 0 { VERSION_3 } else { 0 };
                let blob = self.emit.words(&[u64::from(version)])?;
                Ok(self.call_step(cx).arg(0, Sel::InOut, blob).arg(1, Sel::Out, 24).into())
            }
            Sc::Unshare if cx.call.args[0] & !UNSHARED_TABLES == 0 => Ok(self.plain(cx, &[0]).into()),
            Sc::Setxattr | Sc::Lsetxattr | Sc::Fsetxattr => self.set_attribute(cx),
            Sc::SchedSetaffinity => match detail_value(cx.call, 2) {
                Some(mask) if cx.call.args[0] == 0 => {
                    let blob = self.emit.data(&mask.to_ne_bytes())?;
                    Ok(self.plain(cx, &[0]).imm(1, 8).arg(2, Sel::Data, blob).into())
                }
                _ => Ok(self.surrogate(cx)),
            },
            Sc::Shmget | Sc::Shmat | Sc::Shmdt | Sc::Shmctl => Ok(self.shared_memory(cx)),
            // Not made, and yet it is known how it failed.
            _ if (-4095..0).contains(&cx.call.ret) && cx.known.native.is_some() => Ok(self.fault(cx)),
            // What a container is made of (mounts, namespaces) is the sandbox's here.
            _ => Ok(self.refused(cx)),
        }
    }

    /// Arguments by their kinds.
    pub(crate) fn generic(&mut self, cx: &Cx<'_>) -> Result<Lowered, CompileError> {
        let Some(args) = cx.known.args else { return Ok(self.refused(cx)) };
        let mut step = self.call_step(cx);
        for (i, (arg_name, kind)) in args.iter().enumerate() {
            step = match kind {
                K::Clock => step.imm(i, own_clock(cx.call.args[i])),
                K::Path | K::Str => match detail_str(cx.call, i as u8) {
                    Some(text) => {
                        let blob = self.argument(cx, text)?;
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
                // What does not fit into the buffer is not asked for.
                K::Size if i > 0 && matches!(args[i - 1].1, K::Ptr) => {
                    step.imm(i, cx.call.args[i].min(out_len(cx, args, i - 1)))
                }
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
        let parts = u64::from(count.clamp(1, 1024));
        let blob = self.emit.vector(bytes, parts)?;
        Ok(step.arg(arg, Sel::Iov, blob).imm(arg + 1, parts))
    }
}

/// The most that an address of a socket takes (`struct sockaddr_storage`).
const SOCKADDR_BYTES: usize = 128;
/// `ioctl` that shares the extents of another file.
pub(crate) const FICLONE: u32 = 0x4004_9409;
pub(crate) const AT_FDCWD: u64 = -100_i64 as u64;

/// A clock id as the worker can use it: those of a process or thread by number become the caller's own
/// (`MAKE_PROCESS_CPUCLOCK`, include/linux/posix-timers_types.h: the complement of the id above three bits of kind).
pub(crate) const fn own_clock(id: u64) -> u64 {
    let clock = id as u32 as i32;
    if clock >= 0 { id } else { (!0_u32 << 3 | clock as u32 & 7) as u64 }
}

/// Bytes of scratch that an output pointer needs: what the size argument says, within reason.
pub(crate) fn out_len(cx: &Cx<'_>, args: &[ctrace_format::syscalls::Arg], at: usize) -> u64 {
    args.iter()
        .zip(cx.call.args)
        .skip(at + 1)
        .find(|((_, kind), _)| matches!(kind, K::Size))
        .map_or(4096, |(_, len)| len.clamp(64, 1 << 20))
}

/// A call that had not returned when the recording ended does not return here: whatever limits it is far away.
fn endless(mut step: Step) -> Step {
    const FAR_NS: u64 = 1_000_000_000_000_000;
    for (sel, operand) in step.sel.iter().zip(&mut step.args) {
        match Sel::from_u8(*sel) {
            Some(Sel::Timespec | Sel::Timeval) => *operand = FAR_NS,
            Some(Sel::Millis) if *operand > 0 => *operand = FAR_NS,
            Some(Sel::AbsTimespec) => *operand = clock_operand(clock_parts(*operand).0, FAR_NS),
            _ => {}
        }
    }
    step
}

/// Calls that return addresses.
pub(crate) const fn is_address(sc: Sc) -> bool {
    matches!(sc, Sc::Mmap | Sc::Mremap | Sc::Brk)
}
