//! Which system call an event is, resolved once per number: its row of the table of calls, and its number here.

use ctrace_format::syscalls::{self, Limit, Row};
use ctrace_format::{Abi, Sysno};
use rustc_hash::FxHashMap;

pub(crate) use ctrace_format::syscalls::{Call as Sc, nr};

/// A call by number, resolved.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Known {
    /// What the passes match on.
    pub(crate) sc: Sc,
    /// Its name, when its table has the number.
    pub(crate) name: Option<&'static str>,
    /// The number of the call of that name on the replaying host, if it has one.
    pub(crate) native: Option<u32>,
    /// What its arguments mean.
    pub(crate) args: Option<&'static [syscalls::Arg]>,
}

/// The system call table of the host this was built for.
pub(crate) const HOST: Abi = if cfg!(target_arch = "aarch64") { Abi::Aarch64 } else { Abi::X86_64 };

impl Known {
    /// What the table of calls knows of it.
    pub(crate) fn row(&self) -> &'static Row {
        self.sc.row()
    }
    /// Whether it waits on an epoll instance.
    pub(crate) fn asks_epoll(&self) -> bool {
        matches!(self.sc, Sc::EpollWait | Sc::EpollPwait | Sc::EpollPwait2)
    }
    /// Whether it asks about the descriptors that it names.
    pub(crate) fn polls(&self) -> bool {
        matches!(self.sc, Sc::Poll | Sc::Ppoll | Sc::Select | Sc::Pselect6)
    }
    /// Whether it sends a signal by the number of a task.
    pub(crate) fn kills(&self) -> bool {
        matches!(self.sc, Sc::Kill | Sc::Tkill | Sc::Tgkill)
    }
}

/// Numbers seen so far, resolved.
#[derive(Debug, Default)]
pub(crate) struct Calls {
    known: FxHashMap<Sysno, Known>,
}

impl Calls {
    /// Resolves a number.
    pub(crate) fn get(&mut self, sysno: Sysno) -> Known {
        *self.known.entry(sysno).or_insert_with(|| {
            let name = syscalls::name(sysno);
            Known {
                sc: name.map_or(Sc::Unlisted, Sc::named),
                name,
                native: name.and_then(|n| syscalls::number(HOST, n)).map(|s| s.nr),
                args: name.and_then(syscalls::args),
            }
        })
    }
}

/// Index of a call's argument that points to a limit of its wait.
pub(crate) fn limit_arg(sysno: Sysno) -> Option<u8> {
    match Sc::of(sysno).row().limit? {
        Limit::Pointer(arg) => Some(arg as u8),
        Limit::Millis(_) => None,
    }
}

/// Index of a call's argument that limits its wait in milliseconds.
pub(crate) fn milliseconds_arg(sysno: Sysno) -> Option<usize> {
    match Sc::of(sysno).row().limit? {
        Limit::Millis(arg) => Some(arg),
        Limit::Pointer(_) => None,
    }
}
