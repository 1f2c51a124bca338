//! What to copy of a call: told by user space, for every call number, before arming.

/// Entries of the call specification table: native numbers first, then those of 32-bit calls.
pub const SPECS: u32 = 1024;
/// Index of the first entry for 32-bit calls.
pub const SPEC_COMPAT: u32 = 512;
/// Most copies that one call can ask for, entry and exit together.
pub const MAX_OPS: usize = 6;
/// Longest string copied from user space, the NUL included (`PATH_MAX`, include/uapi/linux/limits.h).
pub const MAX_STR: usize = 4096;
/// Longest list of fixed-size items copied (pollfd, `epoll_event`).
pub const MAX_ITEMS: usize = 64;
/// Most descriptors that a message can pass along (`SCM_MAX_FD`, include/net/scm.h).
pub const MAX_PASSED: usize = 253;
/// Most words of an argument vector that are copied.
pub const MAX_ARGV: usize = 32;
/// Longest word of an argument vector that is copied, the NUL included.
pub const MAX_WORD: usize = 256;

/// Bits of [`Spec::flags`].
pub mod spec_flag {
    /// `fd_arg` is a descriptor to resolve at entry.
    pub const FD: u8 = 1;
    /// The result is a new descriptor.
    pub const RET_FD: u8 = 1 << 1;
    /// Some op runs at entry.
    pub const AT_ENTRY: u8 = 1 << 2;
    /// Some op runs at exit.
    pub const AT_EXIT: u8 = 1 << 3;
    /// `time_arg` points to a time to read at entry.
    pub const TIME: u8 = 1 << 4;
    /// The call opens a path: look for `FMODE_CREATED`.
    pub const OPENS: u8 = 1 << 5;
    /// The new descriptor is one of a new file, not of one that was there (as `dup` makes): describe it anew.
    pub const NEW_FILE: u8 = 1 << 6;
    /// Copy whatever the level: such calls are rare and tell the most (`execve`).
    pub const ALWAYS: u8 = 1 << 7;
}

/// What [`Op`] copies. The value is also the type of the resulting [`Tlv`].
pub mod op {
    /// Nothing.
    pub const NONE: u8 = 0;
    /// A NUL-terminated string.
    pub const STR: u8 = 1;
    /// A socket address whose length is argument `len`.
    pub const ADDR: u8 = 2;
    /// A socket address whose length is behind argument `len`.
    pub const ADDR_OUT: u8 = 3;
    /// `size` bytes.
    pub const BYTES: u8 = 4;
    /// Bytes whose number is argument `len`, at most 64.
    pub const OPT: u8 = 5;
    /// An iovec array, `len` entries: sum and count (two u64).
    pub const IOV: u8 = 6;
    /// A msghdr: its iovec as an `IOV` item, its name as an `ADDR` item, the descriptors that it passes as a `PASSED` item.
    /// `size` ≠ 0: find out whether the socket has an address of its own, when the message names another.
    pub const MSG: u8 = 7;
    /// pollfd array, `len` entries.
    pub const POLL: u8 = 8;
    /// `epoll_event` array, as many as the call returned.
    pub const EPOLL: u8 = 9;
    /// An argument vector: u32 count, u32 with a bit for each word that could not be read, then NUL-terminated words.
    pub const ARGV: u8 = 10;
    /// Two descriptors, read at exit, with the objects behind them: i32, i32, u64, u64.
    pub const FDS: u8 = 11;
    /// The object behind a further descriptor argument: u64.
    pub const OBJECT: u8 = 12;
    /// An `fd_set` of as many bits as argument 0 says.
    pub const FDSET: u8 = 13;
    /// `mmsghdr` array, `len` entries, or as many as the call returned: for each the items of a `MSG`, with a `MESSAGE` item in
    /// the place of the `IOV`.
    pub const MSGS: u8 = 14;
    /// `size` bytes, if there are any: the argument may be no pointer.
    pub const PEEK: u8 = 15;
    /// Who the task acts as ([`crate::Creds`]); whatever the argument is.
    pub const CREDS: u8 = 16;
    /// Nothing: paths may lead elsewhere from now on.
    pub const MOVES: u8 = 17;
    /// Nothing: find out whether the socket has an address of its own. `size` ≠ 0: one that is complete.
    pub const UNBOUND: u8 = 18;
    /// The address of the socket's own end, as a `struct sockaddr`.
    pub const LOCAL: u8 = 19;
    /// A descriptor that a message passed along: number and object (two u64). No op of its own.
    pub const PASSED: u8 = 20;
    /// One message of several: sum and count of its parts, bytes that were moved (three u64). No op of its own.
    pub const MESSAGE: u8 = 21;
}

/// One copy that a call asks for.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct Op {
    /// What to do: [`op`].
    pub op: u8,
    /// Argument that it belongs to.
    pub arg: u8,
    /// Argument that holds a length or count, where the op needs one.
    pub len: u8,
    /// [`when`].
    pub when: u8,
    /// Fixed size, where the op needs one.
    pub size: u16,
    /// Must be 0.
    pub reserved: u16,
}

/// When an [`Op`] runs.
pub mod when {
    /// At entry.
    pub const ENTRY: u8 = 0;
    /// At exit, if the call succeeded.
    pub const EXIT_OK: u8 = 1;
    /// At exit.
    pub const EXIT: u8 = 2;
    /// At exit, when an [`op::UNBOUND`] said so.
    ///
    /// [`op::UNBOUND`]: super::op::UNBOUND
    pub const CHOSEN: u8 = 3;
}

/// What to do for one call number. Written by user space before arming.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct Spec {
    /// [`spec_flag`].
    pub flags: u8,
    /// Argument that is the first descriptor.
    pub fd_arg: u8,
    /// Argument that points to a time.
    pub time_arg: u8,
    /// 0: `timespec`, 1: `timeval`, 2: `itimerspec` (its `it_value`); bit 2 set: 32-bit layout.
    pub time_kind: u8,
    /// Number of ops used.
    pub ops_len: u8,
    /// Number of arguments that the call has.
    pub nargs: u8,
    /// Where the call's data are, and what its result counts: [`data`].
    pub data: u8,
    /// Number of ops of the call's entry.
    pub entry_len: u8,
    /// The copies: those of its entry first, and those that most calls need before others.
    pub ops: [Op; MAX_OPS],
}

/// Where a call keeps what it sends or receives, for messages that are looked at (DNS). The result of such a call is a
/// number of bytes, that of [`data::MESSAGES`] a number of messages.
pub mod data {
    /// Nowhere.
    pub const NONE: u8 = 0;
    /// Argument 1, of the length in argument 2; an address may be argument 4.
    pub const BUFFER: u8 = 1;
    /// Argument 1 is a `msghdr`.
    pub const MESSAGE: u8 = 2;
    /// Argument 1 is an array of `mmsghdr`.
    pub const MESSAGES: u8 = 3;
    /// Argument 1 is an array of `iovec`, as many as argument 2 says.
    pub const VECTOR: u8 = 4;
}

const _: () = {
    assert!(size_of::<Op>() == 8);
    assert!(size_of::<Spec>() == 8 + 8 * MAX_OPS);
};
