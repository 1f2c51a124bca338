//! The arguments and the result of one system call, decoded.

use super::{Ends, quoted};
use ctrace_format::syscalls::{self, Failing, Kind};
use ctrace_format::{Detail, Object, ObjectId, SockAddr, Syscall, SyscallFlags, Trace, errno, linux};
use serde::{Serialize, Serializer};

/// One argument, decoded.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Arg {
    /// A number that means itself.
    Number(i64),
    /// A descriptor, with what lies behind it when that is known.
    Fd(i32, Option<String>),
    /// Words.
    Text(String),
    /// A byte string of the program.
    Bytes(Vec<u8>),
    /// The beginning of a longer byte string of the program.
    Cut(Vec<u8>),
    /// Not recorded: a pointer whose target means nothing here, or could not be read.
    Unknown,
}

impl Arg {
    /// As it reads in a line.
    pub(crate) fn text(&self) -> String {
        match self {
            Self::Number(n) => n.to_string(),
            Self::Fd(fd, Some(object)) => format!("{fd}<{object}>"),
            Self::Fd(fd, None) => fd.to_string(),
            Self::Text(t) => t.clone(),
            Self::Bytes(b) => quoted(b),
            Self::Cut(b) => format!("{}…", quoted(b)),
            Self::Unknown => "…".to_owned(),
        }
    }
}

/// As it reads in JSON.
impl Serialize for Arg {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Number(n) => serializer.serialize_i64(*n),
            Self::Fd(fd, _) => serializer.serialize_i32(*fd),
            Self::Text(text) => serializer.serialize_str(text),
            Self::Bytes(bytes) | Self::Cut(bytes) => serializer.serialize_str(&super::json_text(bytes)),
            Self::Unknown => serializer.serialize_none(),
        }
    }
}

/// The unknown part of an argument: these words of it, or (`None`) all of it.
pub(super) struct Missing {
    unread: Vec<Option<u32>>,
    pub(super) cut: Vec<Option<u32>>,
}

impl Missing {
    pub(super) fn of(call: &Syscall, of: u8) -> Self {
        let mut missing = Self { unread: Vec::new(), cut: Vec::new() };
        for detail in &call.details {
            match detail {
                Detail::Unread { arg, word } if *arg == of => missing.unread.push(*word),
                Detail::Cut { arg, word } if *arg == of => missing.cut.push(*word),
                _ => {}
            }
        }
        missing
    }

    /// A word of an argument vector.
    pub(super) fn word(&self, at: u32, text: impl FnOnce() -> String) -> String {
        if self.unread.contains(&Some(at)) {
            "…".to_owned()
        } else if self.cut.contains(&Some(at)) {
            format!("{}…", text())
        } else {
            text()
        }
    }
}

/// A call of a trace, ready to be decoded.
pub(crate) struct Call<'a> {
    pub(crate) trace: &'a Trace,
    pub(crate) event: &'a Syscall,
    pub(crate) name: &'static str,
    pub(crate) ends: &'a Ends,
}

impl Call<'_> {
    /// The error that the call told of as its answer: how a program learns what became of a connect (`SO_ERROR`).
    pub(crate) fn told_error(&self) -> Option<u32> {
        /// `SOL_SOCKET`, `SO_ERROR`, include/uapi/asm-generic/socket.h.
        const LEVEL_AND_NAME: [u64; 2] = [1, 4];
        if self.name != "getsockopt" || self.event.args[1..3] != LEVEL_AND_NAME || self.event.ret != 0 {
            return None;
        }
        let value = self.details(3).find_map(|detail| match detail {
            Detail::Value { value, .. } => u32::try_from(*value).ok(),
            _ => None,
        });
        value.filter(|errno| *errno > 0)
    }

    /// The meaning of its failure, if it failed.
    pub(crate) fn failing(&self) -> Option<Failing> {
        if self.told_error().is_some() {
            return Some(Failing::Failure);
        }
        let errno = self.event.errno().and_then(|errno| u16::try_from(errno).ok())?;
        let peer = self.event.details.iter().find_map(|detail| match detail {
            Detail::Addr { addr: SockAddr::Unix(path), .. } => Some(path.as_slice()),
            _ => None,
        });
        let object = self.event.object.map(|object| self.trace.object(object));
        let about = syscalls::About {
            name: self.paths().next().or(peer).unwrap_or_default(),
            datagram: matches!(object, Some(Object::Socket { kind: 2, family: 2 | 10, .. })),
        };
        Some(syscalls::failing_on(syscalls::Call::of(self.event.sysno), errno, about))
    }

    pub(crate) fn object(&self, id: ObjectId) -> String {
        let object = self.trace.object(id);
        super::object(self.trace, object, self.ends.of(object))
    }

    /// Whether [`Syscall::object`] describes the result rather than an argument.
    pub(super) fn object_is_result(&self) -> bool {
        syscalls::returns_fd(self.name)
            && self.event.ret >= 0
            && !self.event.flags.contains(SyscallFlags::NO_EXIT)
    }

    pub(super) fn kept(&self, index: usize) -> bool {
        self.event.args_mask & (1 << index) != 0
    }

    /// The arguments, and words of them, that could not be read, and those that are longer than what is recorded of them.
    pub(crate) fn missing(&self) -> [Vec<String>; 2] {
        let table = syscalls::args(self.name).unwrap_or_default();
        let mut missing = [Vec::new(), Vec::new()];
        for detail in &self.event.details {
            let (which, arg, word) = match detail {
                Detail::Unread { arg, word } => (0, *arg, *word),
                Detail::Cut { arg, word } => (1, *arg, *word),
                _ => continue,
            };
            let name = table.get(usize::from(arg)).map_or_else(|| format!("arg{arg}"), |a| a.0.to_owned());
            missing[which].push(word.map_or_else(|| name.clone(), |word| format!("{name}[{word}]")));
        }
        missing
    }

    pub(super) fn details(&self, index: usize) -> impl Iterator<Item = &Detail> {
        self.event.details.iter().filter(move |d| d.arg().map(usize::from) == Some(index))
    }

    /// Name and value of every argument.
    pub(crate) fn args(&self) -> Vec<(&'static str, Arg)> {
        if self.event.arguments_unknown() {
            return Vec::new();
        }
        let Some(table) = syscalls::args(self.name) else {
            const NAMES: [&str; 6] = ["arg0", "arg1", "arg2", "arg3", "arg4", "arg5"];
            return (0..6)
                .filter(|i| self.kept(*i))
                .map(|i| (NAMES[i], Arg::Text(format!("{:#x}", self.event.args[i]))))
                .collect();
        };
        let mut first_fd = true;
        let mut out = Vec::with_capacity(table.len());
        for (index, (name, kind)) in table.iter().enumerate() {
            if matches!(self.name, "open" | "openat") && *name == "mode" && !self.creates() {
                continue;
            }
            let arg = self.arg(index, *kind, &mut first_fd);
            out.push((*name, arg));
        }
        out
    }

    /// Whether an `open` asks for a new file, so that its mode means something.
    fn creates(&self) -> bool {
        let flags = self.event.args[if self.name == "open" { 1 } else { 2 }];
        flags & u64::from(linux::O_CREAT | linux::O_TMPFILE & !linux::O_DIRECTORY) != 0
    }

    fn arg(&self, index: usize, kind: Kind, first_fd: &mut bool) -> Arg {
        let raw = self.event.args[index];
        if matches!(kind, Kind::Fd | Kind::DirFd) && self.kept(index) {
            let fd = raw as i32;
            if fd == linux::AT_FDCWD {
                return Arg::Text("AT_FDCWD".to_owned());
            }
            let own = self.details(index).find_map(|d| match d {
                Detail::Object { object, .. } => Some(*object),
                _ => None,
            });
            let object = own.or_else(|| {
                let take = *first_fd && fd >= 0 && !self.object_is_result();
                *first_fd &= fd < 0;
                self.event.object.filter(|_| take)
            });
            return Arg::Fd(fd, object.map(|object| self.object(object)));
        }
        let mut details = self.details(index).filter_map(|d| self.detail(d, kind)).peekable();
        if details.peek().is_some() {
            let first = details.next();
            let rest: Vec<String> = details.map(|d| d.text()).collect();
            return match first {
                Some(first) if rest.is_empty() => first,
                Some(first) => Arg::Text(format!("{} {}", first.text(), rest.join(" "))),
                None => Arg::Unknown,
            };
        }
        if !self.kept(index) {
            return Arg::Unknown;
        }
        self.scalar(index, kind, raw)
    }

    /// The other end of what the call talks to: the address that it names, else that of its socket.
    pub(crate) fn peer(&self) -> Option<String> {
        let named = self.event.details.iter().find_map(|detail| match detail {
            Detail::Addr { addr, .. } => Some(addr),
            _ => None,
        });
        let object = self.event.object.map(|object| self.trace.object(object));
        let connected = match object {
            Some(object @ Object::Socket { peer, .. }) => {
                peer.as_ref().or_else(|| self.ends.of(object).map(|ends| &ends.1))
            }
            _ => None,
        };
        named.or(connected).map(super::address)
    }

    /// The address of its own end that the call's socket has got, where the call did not say which.
    pub(crate) fn local(&self) -> Option<String> {
        self.event.details.iter().find_map(|d| match d {
            Detail::Local { addr } => Some(super::address(addr)),
            _ => None,
        })
    }

    /// `= 3</etc/passwd>`, `= -1 ENOENT (No such file or directory)`, `= ?`, `= 0 (from 127.0.0.1:40212)`.
    pub(crate) fn result(&self) -> String {
        match self.local() {
            Some(local) => format!("{} (from {local})", self.outcome()),
            None => self.outcome(),
        }
    }

    fn outcome(&self) -> String {
        let call = self.event;
        if call.flags.contains(SyscallFlags::NO_EXIT) {
            return "?".to_owned();
        }
        if let Some(errno) = call.errno() {
            return match errno::restart(errno) {
                Some(name) => format!("? {name} (interrupted by a signal)"),
                None => format!("-1 {} ({})", super::errno_name(errno), super::errno_text(errno)),
            };
        }
        if self.object_is_result()
            && let Some(object) = call.object
        {
            return format!("{}<{}>", call.ret, self.object(object));
        }
        match (self.name, self.event.args[1] as u32) {
            ("fcntl", linux::F_GETFL) => format!("{:#x} ({})", call.ret, self.open_flags(call.ret as u64)),
            // The same file under another number.
            ("fcntl", linux::F_DUPFD | linux::F_DUPFD_CLOEXEC) if call.object.is_some() => {
                format!(
                    "{}{}",
                    call.ret,
                    call.object.map_or_else(String::new, |o| format!("<{}>", self.object(o)))
                )
            }
            ("fcntl", linux::F_GETFD) if call.ret == 1 => "0x1 (FD_CLOEXEC)".to_owned(),
            ("mmap" | "brk" | "mremap" | "shmat", _) => format!("{:#x}", call.ret),
            ("umask", _) => format!("0{:o}", call.ret),
            ("poll" | "ppoll" | "select" | "pselect6" | "epoll_wait" | "epoll_pwait" | "epoll_pwait2", _)
                if call.ret == 0 =>
            {
                "0 (timeout)".to_owned()
            }
            _ => call.ret.to_string(),
        }
    }

    /// The paths that the call names or works on.
    pub(crate) fn paths(&self) -> impl Iterator<Item = &[u8]> {
        let named = self.event.details.iter().filter_map(|d| match d {
            Detail::Str { value, .. } => Some(self.trace.str(*value)),
            Detail::Object { object, .. } => file_path(self.trace, *object),
            _ => None,
        });
        let passed = self.event.details.iter().flat_map(|d| match d {
            Detail::Passed { fds, .. } => fds.as_slice(),
            _ => &[],
        });
        let named = named.chain(passed.filter_map(|p| file_path(self.trace, p.object?)));
        named.chain(self.event.object.and_then(|o| file_path(self.trace, o)))
    }
}

fn file_path(trace: &Trace, object: ObjectId) -> Option<&[u8]> {
    match trace.object(object) {
        Object::File { path, .. } => Some(trace.str(*path)),
        _ => None,
    }
}
