//! Registers of a call that say something.

use super::{Kind, args};

/// Calls whose arguments depend on each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "named as the calls are")]
pub enum Rule {
    /// None of these.
    None,
    Open,
    Openat,
    Fcntl,
    Mremap,
    Futex,
    Mmap,
    Bind,
    Execve,
    Execveat,
}

impl Rule {
    /// The rule of the call of this name.
    pub fn of(name: &str) -> Self {
        match name {
            "open" => Self::Open,
            "openat" => Self::Openat,
            "fcntl" => Self::Fcntl,
            "mremap" => Self::Mremap,
            "futex" => Self::Futex,
            "mmap" => Self::Mmap,
            "bind" => Self::Bind,
            "execve" => Self::Execve,
            "execveat" => Self::Execveat,
            _ => Self::None,
        }
    }

    /// Whether the time argument is one for these arguments: `futex` uses the register for something else in most
    /// operations.
    pub fn time_counts(self, args: &[u64; 6]) -> bool {
        // WAIT, LOCK_PI, WAIT_BITSET, WAIT_REQUEUE_PI, LOCK_PI2.
        self != Self::Futex || matches!(futex_op(args), 0 | 6 | 9 | 11 | 13)
    }

    /// The arguments to keep of those in `mask`, and which these are. Registers that a call ignores for these arguments
    /// hold left-overs of the program, and are dropped.
    pub fn kept(self, mut mask: u8, args: &[u64; 6]) -> ([u64; 6], u8) {
        match self {
            // A mode counts with O_CREAT and O_TMPFILE only.
            Self::Open if args[1] & (0o100 | 0o20_000_000) == 0 => mask &= !(1 << 2),
            Self::Openat if args[2] & (0o100 | 0o20_000_000) == 0 => mask &= !(1 << 3),
            // F_GETFD, F_GETFL, F_GETOWN, F_GETSIG, F_GETLEASE, F_GETPIPE_SZ, F_GET_SEALS take no argument.
            Self::Fcntl if matches!(args[1], 1 | 3 | 9 | 11 | 1025 | 1032 | 1034) => mask &= !(1 << 2),
            // MREMAP_FIXED.
            Self::Mremap if args[3] & 2 == 0 => mask &= !(1 << 4),
            Self::Futex => {
                mask = match futex_op(args) {
                    // WAIT, WAKE.
                    0 | 1 => 0b00_0111,
                    // REQUEUE: the time register is a count.
                    3 => 0b01_1111,
                    // CMP_REQUEUE, WAKE_OP, CMP_REQUEUE_PI.
                    4 | 5 | 12 => 0b11_1111,
                    // LOCK_PI, UNLOCK_PI, TRYLOCK_PI, LOCK_PI2.
                    6..=8 | 13 => 0b00_0011,
                    // WAIT_BITSET, WAKE_BITSET.
                    9 | 10 => 0b10_0111,
                    _ => mask,
                }
            }
            _ => {}
        }
        let mut out = [0; 6];
        for (i, arg) in args.iter().enumerate() {
            if mask & (1 << i) != 0 {
                out[i] = *arg;
            }
        }
        (out, mask)
    }
}

/// `FUTEX_CMD_MASK`, include/uapi/linux/futex.h.
const fn futex_op(args: &[u64; 6]) -> u64 {
    args[1] & !(128 | 256)
}

/// Arguments worth keeping raw: those that are no bare pointer, and whose meaning is not in a detail.
pub fn kept_args(name: &str) -> u8 {
    let Some(args) = args(name) else { return 0x3f };
    let raw = args.iter().enumerate().filter(|(_, (_, kind))| kind.is_raw());
    raw.fold(0, |mask, (i, _)| mask | 1 << i)
}

impl Kind {
    /// Whether the register itself says something.
    pub const fn is_raw(self) -> bool {
        !matches!(
            self,
            Self::Path
                | Self::Str
                | Self::Ptr
                | Self::SockAddr
                | Self::SockAddrOut
                | Self::Iov
                | Self::Msg
                | Self::Msgs
                | Self::NewFds
                | Self::Timespec
                | Self::Timeval
                | Self::PollFds
                | Self::FdSet
                | Self::EpollEvents
                | Self::EpollEvent
                | Self::Stat
                | Self::Statx
                | Self::SigAction
                | Self::SigSet
                | Self::U32Ptr
                | Self::U64Ptr
                | Self::Argv
                | Self::CloneArgs
                | Self::OpenHow
                | Self::Itimerspec
                | Self::Rlimit
                | Self::OptVal
        )
    }
}
