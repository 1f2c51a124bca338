//! The effects of a call that returned: on the descriptors of its task, and on the socket that it is about.
//!
//! This is the only place that reads it out of an event: who follows descriptors or sockets asks here and does what is told.

use ctrace_format::syscalls::{Call, Family, Makes};
use ctrace_format::{Detail, ObjectId, SockAddr, Syscall, SyscallFlags};

/// `O_CLOEXEC`, `SOCK_CLOEXEC`, `EFD_CLOEXEC`, … on every architecture ctrace records.
pub const CLOEXEC: u64 = 0o2_000_000;
/// `fcntl` commands, include/uapi/linux/fcntl.h.
const F_DUPFD: u64 = 0;
const F_SETFD: u64 = 2;
const F_DUPFD_CLOEXEC: u64 = 1030;
const FD_CLOEXEC: u64 = 1;
/// `close_range`: in a table of one's own; to be closed by an exec only (`linux/close_range.h`).
const CLOSE_RANGE_UNSHARE: u64 = 2;
const CLOSE_RANGE_CLOEXEC: u64 = 4;
/// `ioctl` commands, asm-generic/ioctls.h. The last one opens the other end of a pseudo terminal.
const FIONCLEX: u32 = 0x5450;
const FIOCLEX: u32 = 0x5451;
const TIOCGPTPEER: u32 = 0x5441;
/// `MSG_CMSG_CLOEXEC`, include/linux/socket.h.
const MSG_CMSG_CLOEXEC: u64 = 0x4000_0000;
/// include/uapi/linux/sched.h.
pub const CLONE_FILES: u64 = 0x400;
const CLONE_VM: u64 = 0x100;
const CLONE_VFORK: u64 = 0x4000;

const EBADF: i64 = -9;
const EINPROGRESS: i64 = -115;

/// A change of a table of descriptors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// A number that was free refers to something new.
    Makes {
        /// The number.
        fd: i32,
        /// The object behind it, when the event names it. An accept may name its listener, so it names none.
        object: Option<ObjectId>,
        /// Closed by exec.
        cloexec: bool,
    },
    /// A number that was free refers to what somebody sent.
    Receives {
        /// The number.
        fd: i32,
        /// The object behind it, when the event names it.
        object: Option<ObjectId>,
        /// Closed by exec.
        cloexec: bool,
    },
    /// A number refers to what another one refers to.
    Copies {
        /// The other one.
        from: i32,
        /// The number.
        to: i32,
        /// Closed by exec.
        cloexec: bool,
        /// Whatever had the number is closed. Else it was free.
        replaces: bool,
    },
    /// A number is free.
    Closes {
        /// The number.
        fd: i32,
    },
    /// All numbers of a range, both ends included, are free.
    ClosesRange {
        /// The first.
        first: i32,
        /// The last.
        last: i32,
    },
    /// An exec closes it, or does not any more.
    Marks {
        /// The number.
        fd: i32,
        /// Closed by exec.
        cloexec: bool,
    },
    /// An exec closes all of a range.
    MarksRange {
        /// The first.
        first: i32,
        /// The last.
        last: i32,
    },
    /// The table is the task's own from now on.
    Unshares,
    /// A task that was made has the table, too: its id, as the call returned it.
    Shares {
        /// The id.
        child: i64,
    },
}

impl Effect {
    /// The number that refers to something because of it.
    pub const fn made(self) -> Option<i32> {
        match self {
            Self::Makes { fd, .. } | Self::Receives { fd, .. } | Self::Copies { to: fd, .. } => Some(fd),
            _ => None,
        }
    }

    /// The number that the kernel gave out, which was free.
    pub const fn taken(self) -> Option<i32> {
        match self {
            Self::Copies { replaces: true, .. } => None,
            other => other.made(),
        }
    }
}

/// The effects of a call on the table of its task, in order.
pub fn effects(call: Call, s: &Syscall) -> impl Iterator<Item = Effect> + '_ {
    let own = own_effects(call, s);
    let cloexec = received_cloexec(call, &s.args);
    let returned = !s.flags.contains(SyscallFlags::NO_EXIT) && s.ret >= 0;
    let receives = returned && matches!(call, Call::Recvmsg | Call::Recvmmsg);
    let details = if receives { s.details.as_slice() } else { &[] };
    let passed = details.iter().filter_map(|detail| match detail {
        Detail::Passed { fds, .. } => Some(fds),
        _ => None,
    });
    let received = passed.flatten().filter(|passed| passed.fd >= 0);
    own.into_iter().flatten().chain(received.map(move |one| Effect::Receives {
        fd: one.fd,
        object: one.object,
        cloexec,
    }))
}

/// Whether exec closes the descriptors that a call receives.
pub const fn received_cloexec(call: Call, args: &[u64; 6]) -> bool {
    let flags = args[if matches!(call, Call::Recvmmsg) { 3 } else { 2 }];
    flags & MSG_CMSG_CLOEXEC != 0
}

/// The flags of a call that makes a task, without the signal that its end sends, as far as they are known.
pub fn clone_flags(call: Call, s: &Syscall) -> Option<u64> {
    match call {
        Call::Clone => Some(s.args[0] & !0xff),
        Call::Clone3 => s.details.iter().find_map(|detail| match detail {
            Detail::Value { arg: 0, value } => Some(*value),
            // struct clone_args begins with them.
            Detail::Bytes { arg: 0, data } => data.first_chunk().map(|flags| u64::from_le_bytes(*flags)),
            _ => None,
        }),
        Call::Fork => Some(0),
        Call::Vfork => Some(CLONE_VM | CLONE_VFORK),
        _ => None,
    }
}

/// How many numbers a call takes that takes the lowest ones that are free, or fails with `EMFILE`; 0: it takes none, or
/// not those.
pub fn lowest_taken(call: Call) -> usize {
    match call.row().makes {
        Makes::Two => 2,
        Makes::Result(_) if !matches!(call, Call::Dup2 | Call::Dup3) => 1,
        _ => 0,
    }
}

/// Whether a call asks for a number, whatever came of it.
pub fn asks_for_number(call: Call, s: &Syscall) -> bool {
    let copies = call == Call::Fcntl && matches!(s.args[1], F_DUPFD | F_DUPFD_CLOEXEC);
    copies || call.row().makes != Makes::Nothing
}

/// The flags that say how a file is opened, by a call that opens one by its name.
pub fn open_flags(call: Call, s: &Syscall) -> Option<u64> {
    /// `O_CREAT`, `O_TRUNC` and `O_WRONLY`.
    const CREAT: u64 = 0o1101;
    match call {
        Call::Open => Some(s.args[1]),
        Call::Openat => Some(s.args[2]),
        Call::Creat => Some(CREAT),
        Call::Openat2 => s.details.iter().find_map(|detail| match detail {
            Detail::Value { arg: 2, value } => Some(*value),
            // struct open_how begins with them.
            Detail::Bytes { arg: 2, data } => data.first_chunk().map(|flags| u64::from_le_bytes(*flags)),
            _ => None,
        }),
        _ => None,
    }
}

/// The numbers between two arguments of `close_range`, which are unsigned ints.
fn range(s: &Syscall) -> Option<(i32, i32)> {
    let number = |arg: u64| i32::try_from(arg as u32).ok();
    let (first, last) = (number(s.args[0])?, number(s.args[1]).unwrap_or(i32::MAX));
    (first <= last).then_some((first, last))
}

fn own_effects(call: Call, s: &Syscall) -> [Option<Effect>; 2] {
    const NONE: [Option<Effect>; 2] = [None, None];
    if s.flags.contains(SyscallFlags::NO_EXIT) {
        return NONE;
    }
    if call == Call::Close && !s.arguments_unknown() {
        // The number is free even when a close reports EINTR or EIO (`filp_flush`, fs/open.c); not when a filter answers it.
        let frees = s.ret >= 0 || s.ret != EBADF && !s.flags.contains(SyscallFlags::FILTERED);
        return [frees.then_some(Effect::Closes { fd: s.args[0] as i32 }), None];
    }
    if s.ret < 0 {
        return NONE;
    }
    let (fd, made) = (s.args[0] as i32, s.ret as i32);
    if s.arguments_unknown() {
        // Whatever it was made of, the number refers to something else now.
        let makes = call.row().makes.is_result();
        let object = if call.row().family == Family::Accept { None } else { s.object };
        return [makes.then_some(Effect::Makes { fd: made, object, cloexec: false }), None];
    }
    let copies = |cloexec, replaces| Effect::Copies { from: fd, to: made, cloexec, replaces };
    match call {
        Call::CloseRange => {
            let unshares = (s.args[2] & CLOSE_RANGE_UNSHARE != 0).then_some(Effect::Unshares);
            let marks = s.args[2] & CLOSE_RANGE_CLOEXEC != 0;
            let changes = range(s).map(|(first, last)| {
                if marks { Effect::MarksRange { first, last } } else { Effect::ClosesRange { first, last } }
            });
            [unshares, changes]
        }
        Call::Dup => [Some(copies(false, false)), None],
        // Numbers that refer to it already stay as they are.
        Call::Dup2 | Call::Dup3 if fd == made => NONE,
        Call::Dup2 => [Some(copies(false, true)), None],
        Call::Dup3 => [Some(copies(s.args[2] & CLOEXEC != 0, true)), None],
        Call::Fcntl => match s.args[1] {
            F_DUPFD => [Some(copies(false, false)), None],
            F_DUPFD_CLOEXEC => [Some(copies(true, false)), None],
            F_SETFD => [Some(Effect::Marks { fd, cloexec: s.args[2] & FD_CLOEXEC != 0 }), None],
            _ => NONE,
        },
        Call::Ioctl => match s.args[1] as u32 {
            FIOCLEX => [Some(Effect::Marks { fd, cloexec: true }), None],
            FIONCLEX => [Some(Effect::Marks { fd, cloexec: false }), None],
            TIOCGPTPEER => {
                let cloexec = s.args[2] & CLOEXEC != 0;
                [Some(Effect::Makes { fd: made, object: None, cloexec }), None]
            }
            _ => NONE,
        },
        Call::Unshare => [(s.args[0] & CLONE_FILES != 0).then_some(Effect::Unshares), None],
        Call::Clone | Call::Clone3 => {
            let shares = s.ret > 0 && clone_flags(call, s).is_some_and(|flags| flags & CLONE_FILES != 0);
            [shares.then_some(Effect::Shares { child: s.ret }), None]
        }
        _ => match call.row().makes {
            Makes::Nothing => NONE,
            Makes::Two => two(call, s),
            // One that is given changes its mask only.
            Makes::Result(_) if matches!(call, Call::Signalfd | Call::Signalfd4) && fd == made => NONE,
            Makes::Result(cloexec) => {
                let object = if call.row().family == Family::Accept { None } else { s.object };
                let cloexec = match call {
                    Call::Openat2 => open_flags(call, s).is_some_and(|flags| flags & CLOEXEC != 0),
                    _ => cloexec.is_set(&s.args),
                };
                [Some(Effect::Makes { fd: made, object, cloexec }), None]
            }
        },
    }
}

/// Both ends of a pipe, or of a pair of sockets.
fn two(call: Call, s: &Syscall) -> [Option<Effect>; 2] {
    let cloexec = call != Call::Pipe && s.args[1] & CLOEXEC != 0;
    let made = s.details.iter().find_map(|detail| match detail {
        Detail::NewFds { fds, objects, .. } => Some((fds, objects)),
        _ => None,
    });
    let Some(([a, b], [of_a, of_b])) = made else { return [None, None] };
    [(a, of_a), (b, of_b)].map(|(fd, object)| Some(Effect::Makes { fd: *fd, object: *object, cloexec }))
}

/// The effect of a call on the socket that it is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SocketEffect<'a> {
    /// It has an address of its own: the one that was asked for, and the one that the kernel made of it, when that is told.
    Bound {
        /// Asked for.
        asked: &'a SockAddr,
        /// Got.
        got: Option<&'a SockAddr>,
    },
    /// It was asked for its own address, which is this.
    Named(&'a SockAddr),
    /// It listens.
    Listens,
    /// It was to be connected.
    Connects {
        /// Whereto, when that is known.
        to: Option<&'a SockAddr>,
        /// The call's answer.
        said: Said,
    },
}

/// A connect returned this. [`crate::connects`] tells the outcome of the attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Said {
    /// There is a connection, or it was sent for.
    Yes,
    /// It is under way from now on.
    Later,
    /// It failed, or was under way already.
    No,
}

/// The effect of a call on the socket that it is about.
pub fn socket_effect(call: Call, s: &Syscall) -> Option<SocketEffect<'_>> {
    if s.flags.contains(SyscallFlags::NO_EXIT) {
        return None;
    }
    let addr = s.details.iter().find_map(|detail| match detail {
        Detail::Addr { arg: 1, addr } => Some(addr),
        _ => None,
    });
    let got = || {
        s.details.iter().find_map(|detail| match detail {
            Detail::Local { addr } => Some(addr),
            _ => None,
        })
    };
    match call {
        Call::Bind if s.ret >= 0 => addr.map(|asked| SocketEffect::Bound { asked, got: got() }),
        Call::Getsockname if s.ret >= 0 => addr.map(SocketEffect::Named),
        Call::Listen if s.ret >= 0 => Some(SocketEffect::Listens),
        Call::Connect => {
            let said = match s.ret {
                0.. => Said::Yes,
                EINPROGRESS => Said::Later,
                _ => Said::No,
            };
            Some(SocketEffect::Connects { to: addr, said })
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::call as completed;
    use super::*;
    use ctrace_format::PassedFd;

    /// asm-generic/signal.h: in the low byte of the flags, the signal of the child's end.
    const SIGCHLD: u64 = 17;

    fn of(call: Call, args: [u64; 6], ret: i64) -> Vec<Effect> {
        effects(call, &completed(args, ret)).collect()
    }

    #[test]
    fn what_each_call_does_to_a_table() {
        let makes = |fd, cloexec| vec![Effect::Makes { fd, object: None, cloexec }];
        assert_eq!(of(Call::Openat, [0, 0, CLOEXEC, 0, 0, 0], 3), makes(3, true));
        assert_eq!(of(Call::Accept4, [9, 0, 0, CLOEXEC, 0, 0], 4), makes(4, true));
        assert_eq!(of(Call::Ioctl, [5, u64::from(TIOCGPTPEER), 2, 0, 0, 0], 6), makes(6, false));
        assert_eq!(of(Call::Ioctl, [5, 0x5401, 0, 0, 0, 0], 0), []);
        assert_eq!(
            of(Call::Ioctl, [5, u64::from(FIOCLEX), 0, 0, 0, 0], 0),
            [Effect::Marks { fd: 5, cloexec: true }]
        );
        assert_eq!(of(Call::Signalfd4, [7, 0, 8, 0, 0, 0], 7), []);
        assert_eq!(of(Call::Signalfd4, [u64::MAX, 0, 8, 0, 0, 0], 7), makes(7, false));
        assert_eq!(of(Call::Dup2, [3, 3, 0, 0, 0, 0], 3), []);
        let copy = |replaces| Effect::Copies { from: 3, to: 9, cloexec: false, replaces };
        assert_eq!(of(Call::Dup2, [3, 9, 0, 0, 0, 0], 9), [copy(true)]);
        assert_eq!((copy(true).made(), copy(true).taken(), copy(false).taken()), (Some(9), None, Some(9)));
        assert_eq!(of(Call::Fcntl, [3, F_DUPFD, 0, 0, 0, 0], 9), [copy(false)]);
        assert_eq!(of(Call::Unshare, [CLONE_FILES, 0, 0, 0, 0, 0], 0), [Effect::Unshares]);
        assert_eq!(
            of(Call::Clone, [CLONE_FILES | SIGCHLD, 0, 0, 0, 0, 0], 77),
            [Effect::Shares { child: 77 }]
        );
        let whole = Effect::ClosesRange { first: 3, last: i32::MAX };
        assert_eq!(of(Call::CloseRange, [3, u64::MAX, 2, 0, 0, 0], 0), [Effect::Unshares, whole]);
        assert_eq!(of(Call::Openat, [0; 6], -2), []);
        let mut unknown = completed([0; 6], 4);
        (unknown.flags, unknown.args_mask) = (SyscallFlags::NO_ENTER, 0);
        assert_eq!(effects(Call::Dup, &unknown).collect::<Vec<_>>(), makes(4, false));
        assert_eq!(effects(Call::Close, &unknown).count(), 0);
    }

    #[test]
    fn a_close_frees_the_number_unless_there_was_none_or_a_filter_answered() {
        let freed = [Effect::Closes { fd: 3 }];
        for (ret, frees) in [(0, true), (-4, true), (-5, true), (EBADF, false)] {
            assert_eq!(of(Call::Close, [3, 0, 0, 0, 0, 0], ret), freed[..usize::from(frees)], "{ret}");
        }
        let mut filtered = completed([3, 0, 0, 0, 0, 0], -1);
        filtered.flags = SyscallFlags::FILTERED;
        assert_eq!(effects(Call::Close, &filtered).count(), 0);
    }

    #[test]
    fn what_an_open_is_told_by_a_pointer_is_read_there() {
        let mut open = completed([0; 6], 3);
        open.details.push(Detail::Bytes { arg: 2, data: CLOEXEC.to_le_bytes().to_vec() });
        let made = Effect::Makes { fd: 3, object: None, cloexec: true };
        assert_eq!(effects(Call::Openat2, &open).collect::<Vec<_>>(), [made]);
        let mut clone = completed([0; 6], 5);
        clone.details.push(Detail::Bytes { arg: 0, data: CLONE_FILES.to_le_bytes().to_vec() });
        assert_eq!(effects(Call::Clone3, &clone).collect::<Vec<_>>(), [Effect::Shares { child: 5 }]);
    }

    #[test]
    fn received_descriptors_are_told_one_by_one() {
        let mut receive = completed([4, 0, MSG_CMSG_CLOEXEC, 0, 0, 0], 1);
        let fds = [5, -1, 6].map(|fd| PassedFd { fd, object: None }).to_vec();
        receive.details.push(Detail::Passed { arg: 1, message: 0, fds });
        let got: Vec<_> = effects(Call::Recvmsg, &receive).map(Effect::taken).collect();
        assert_eq!(got, [Some(5), Some(6)]);
        let cloexec = |e: Effect| matches!(e, Effect::Receives { cloexec: true, .. });
        assert!(effects(Call::Recvmsg, &receive).all(cloexec));
    }
}
