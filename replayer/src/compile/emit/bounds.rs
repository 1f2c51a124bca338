//! Which memory a step hands to the kernel. A recorded address is a number of another process: here it could be one of the
//! engine's. So an address that the kernel is given is of memory that the step was given, and no longer than that.

use ctrace_format::syscalls::{Arg, Kind as K};
use ctrace_program::{Kind, Sel, Step, flags};

/// Whether an argument of this meaning is an address. What is an address in some calls only (of `fcntl`, `ioctl`, `prctl`)
/// is looked at where these are compiled.
pub(crate) const fn is_address(kind: K) -> bool {
    matches!(
        kind,
        K::Path
            | K::Str
            | K::Ptr
            | K::SockAddr
            | K::SockAddrOut
            | K::Iov
            | K::Msg
            | K::Msgs
            | K::NewFds
            | K::Timespec
            | K::Timeval
            | K::PollFds
            | K::FdSet
            | K::EpollEvents
            | K::EpollEvent
            | K::Stat
            | K::Statx
            | K::SigAction
            | K::SigSet
            | K::U32Ptr
            | K::U64Ptr
            | K::Argv
            | K::CloneArgs
            | K::OpenHow
            | K::Itimerspec
            | K::Rlimit
            | K::OptVal
    )
}

/// Whether every address of a step is of its own memory, and every buffer as long as the step says. `bytes_of` tells the
/// length of a blob.
pub(crate) fn keeps_to_its_memory(
    step: &Step,
    name: &str,
    args: &[Arg],
    bytes_of: impl Fn(u64) -> Option<u64>,
) -> bool {
    let made = step.kind == Kind::Call as u8 || step.kind == Kind::FutexWake as u8;
    if !made || step.flags & flags::FAULT != 0 {
        return true;
    }
    args.iter().enumerate().take(6).all(|(i, (_, kind))| {
        if !is_address(*kind) {
            return true;
        }
        let Some(sel) = step.sel.get(i).copied().and_then(Sel::from_u8) else { return false };
        if sel == Sel::Imm {
            // Of a futex, what is a timeout in one operation is a count in another; both are compiled with care.
            return step.args[i] == 0 || name == "futex";
        }
        let room = match sel {
            Sel::Out => step.args[i],
            Sel::Data | Sel::InOut => bytes_of(step.args[i]).unwrap_or(0),
            _ => return true,
        };
        // A number in memory has its own size; a size behind it is of something else (the count of `sendfile`).
        match kind {
            K::U32Ptr => return room >= 4,
            K::U64Ptr => return room >= 8,
            _ => {}
        }
        let Some((_, K::Size)) = args.get(i + 1) else { return true };
        step.sel[i + 1] == Sel::Imm as u8 && step.args[i + 1] <= room
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(step: &Step, name: &str) -> bool {
        keeps_to_its_memory(step, name, ctrace_format::syscalls::args(name).unwrap(), |blob| {
            (blob == 64).then_some(16)
        })
    }

    #[test]
    fn an_address_is_of_the_steps_own_memory() {
        let read = Step::call(0).imm(0, 3);
        assert!(kept(&read.arg(1, Sel::Out, 100).imm(2, 100), "read"));
        assert!(!kept(&read.arg(1, Sel::Out, 100).imm(2, 101), "read"));
        assert!(!kept(&read.imm(1, 0x40_0000_0000).imm(2, 8), "read"));
        assert!(kept(&read.imm(1, 0).imm(2, 8), "read"));
        assert!(kept(&read.arg(1, Sel::Data, 64).imm(2, 16), "read"));
        assert!(!kept(&read.arg(1, Sel::Data, 64).imm(2, 17), "read"));
        assert!(!kept(&read.arg(1, Sel::Data, 80).imm(2, 1), "read"));
        assert!(!kept(&read.arg(1, Sel::Out, 100).arg(2, Sel::Value, 0), "read"));
        let send = Step::call(0).imm(0, 4).imm(1, 3);
        assert!(kept(&send.arg(2, Sel::InOut, 64).imm(3, 20_000), "sendfile"));
        assert!(!kept(&send.arg(2, Sel::InOut, 80).imm(3, 20_000), "sendfile"));
        // A call that the filter answers reads nothing.
        assert!(kept(&read.imm(1, 0x40_0000_0000).with(flags::FAULT), "read"));
        assert!(!kept(&Step::call(0).imm(0, 4096).imm(1, 8), "getrandom"));
    }
}
