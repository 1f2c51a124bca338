//! A call of the recording with the state that it meets.

use crate::fds::FdTracker;
use ctrace_format::syscalls::Call;
use ctrace_format::{Syscall, Tgid};

/// A call, its process, that process's descriptors at this moment, and the names that events refer to.
pub(super) struct Seen<'a, K: ?Sized> {
    pub(super) tgid: Tgid,
    pub(super) sc: Call,
    pub(super) call: &'a Syscall,
    pub(super) fds: &'a FdTracker,
    pub(super) words: &'a K,
}
