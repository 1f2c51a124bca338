//! The arguments and the result of one system call, decoded.

use super::{flags, quoted};
use ctrace_format::syscalls::{self, Failing, Kind};
use ctrace_format::{Detail, Message, Object, ObjectId, SockAddr, SockCookie, Syscall, SyscallFlags, Trace};
use serde_json::{Value, json};
use std::collections::HashMap;

/// Ends of sockets, learned from the events so far: a socket's dictionary entry is from when it was first seen,
/// which is before it was connected.
#[derive(Debug, Default)]
pub(crate) struct Ends(HashMap<SockCookie, (SockAddr, SockAddr)>);

impl Ends {
    /// So many sockets are remembered: memory stays bounded.
    const MAX: usize = 65_536;

    /// Remembers both ends of a socket.
    pub(crate) fn learn(&mut self, cookie: SockCookie, local: &SockAddr, peer: &SockAddr) {
        let unspecified = |a: &SockAddr| matches!(a, SockAddr::Inet(a) if a.port() == 0);
        if unspecified(peer) || unspecified(local) {
            return;
        }
        if self.0.len() >= Self::MAX && !self.0.contains_key(&cookie) {
            // Old sockets are closed by now, mostly; the ones in use are learned again with their next change.
            self.0.clear();
        }
        self.0.insert(cookie, (local.clone(), peer.clone()));
    }

    fn of(&self, object: &Object) -> Option<&(SockAddr, SockAddr)> {
        match object {
            Object::Socket { cookie, .. } => self.0.get(cookie),
            _ => None,
        }
    }
}

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

    /// As it reads in JSON.
    pub(crate) fn json(&self) -> Value {
        match self {
            Self::Number(n) => json!(n),
            Self::Fd(fd, _) => json!(fd),
            Self::Text(t) => json!(t),
            Self::Bytes(b) | Self::Cut(b) => json!(super::json_text(b)),
            Self::Unknown => Value::Null,
        }
    }
}

/// What is not known of an argument: of these words of it, or (`None`) of all of it.
struct Missing {
    unread: Vec<Option<u32>>,
    cut: Vec<Option<u32>>,
}

impl Missing {
    fn of(call: &Syscall, of: u8) -> Self {
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
    fn word(&self, at: u32, text: impl FnOnce() -> String) -> String {
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

    /// What its failure says, if it failed.
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

    fn object(&self, id: ObjectId) -> String {
        let object = self.trace.object(id);
        super::object(self.trace, object, self.ends.of(object))
    }

    /// Whether [`Syscall::object`] describes the result rather than an argument.
    fn object_is_result(&self) -> bool {
        syscalls::returns_fd(self.name)
            && self.event.ret >= 0
            && !self.event.flags.contains(SyscallFlags::NO_EXIT)
    }

    fn kept(&self, index: usize) -> bool {
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

    fn details(&self, index: usize) -> impl Iterator<Item = &Detail> {
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
        flags & (libc::O_CREAT | libc::O_TMPFILE & !libc::O_DIRECTORY) as u64 != 0
    }

    fn arg(&self, index: usize, kind: Kind, first_fd: &mut bool) -> Arg {
        let raw = self.event.args[index];
        if matches!(kind, Kind::Fd | Kind::DirFd) && self.kept(index) {
            let fd = raw as i32;
            if fd == libc::AT_FDCWD {
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

    fn detail(&self, detail: &Detail, kind: Kind) -> Option<Arg> {
        Some(match detail {
            Detail::Str { value, arg } if Missing::of(self.event, *arg).cut.contains(&None) => {
                Arg::Cut(self.trace.str(*value).to_vec())
            }
            Detail::Str { value, .. } => Arg::Bytes(self.trace.str(*value).to_vec()),
            Detail::Addr { addr, .. } => Arg::Text(super::address(addr)),
            Detail::Object { object, .. } => Arg::Text(format!("<{}>", self.object(*object))),
            Detail::Value { value, .. } => match (self.name, kind) {
                ("wait4", Kind::U32Ptr) => Arg::Text(format!("[{}]", super::wait_status(*value as u32))),
                ("openat2", Kind::OpenHow) => Arg::Text(format!("{{{}}}", flags::open(*value))),
                ("getsockopt", Kind::U32Ptr) if self.event.args[2] == libc::SO_ERROR as u64 => {
                    let error = *value as u32;
                    Arg::Text(if error == 0 {
                        "[0]".to_owned()
                    } else {
                        format!("[{}]", super::errno_name(error))
                    })
                }
                (_, Kind::SigSet) => Arg::Text(super::signal_set(*value)),
                (_, Kind::CloneArgs) => Arg::Text(format!("{{{}}}", flags::clone(*value))),
                _ => Arg::Text(format!("[{value}]")),
            },
            Detail::NewFds { fds, objects, .. } => {
                let one = |i: usize| match objects[i] {
                    Some(object) => format!("{}<{}>", fds[i], self.object(object)),
                    None => fds[i].to_string(),
                };
                Arg::Text(format!("[{}, {}]", one(0), one(1)))
            }
            Detail::Passed { message, fds, .. } => {
                let fds: Vec<String> = fds
                    .iter()
                    .map(|p| match p.object {
                        Some(object) => format!("{}<{}>", p.fd, self.object(object)),
                        None => p.fd.to_string(),
                    })
                    .collect();
                let of = if kind == Kind::Msgs { format!(" of message {message}") } else { String::new() };
                Arg::Text(format!("SCM_RIGHTS[{}{}]{of}", fds.join(", "), self.cut()))
            }
            Detail::Messages { entries, .. } => {
                let one = |m: &Message| {
                    let addr =
                        m.addr.as_ref().map_or_else(String::new, |a| format!(" {}", super::address(a)));
                    format!("{{{} parts, {} bytes{addr} → {}}}", m.parts, m.bytes, m.moved)
                };
                let entries: Vec<String> = entries.iter().map(one).collect();
                Arg::Text(format!("[{}{}]", entries.join(", "), self.cut()))
            }
            Detail::Iov { bytes, count, .. } => Arg::Text(format!("[{count} parts, {bytes} bytes]")),
            Detail::Time { ns, .. } => Arg::Text(crate::units::duration(*ns)),
            Detail::Poll { entries, .. } => {
                let entries: Vec<String> = entries
                    .iter()
                    .map(|e| {
                        let asked = flags::bits(u64::from(e.events), flags::POLL, "0");
                        let answer = match e.revents {
                            0 => String::new(),
                            r => format!(" → {}", flags::bits(u64::from(r), flags::POLL, "0")),
                        };
                        format!("{{{} {asked}{answer}}}", e.fd)
                    })
                    .collect();
                Arg::Text(format!("[{}{}]", entries.join(", "), self.cut()))
            }
            Detail::Epoll { entries, .. } => {
                let entries: Vec<String> = entries
                    .iter()
                    .map(|e| {
                        format!(
                            "{{{} data={:#x}}}",
                            flags::bits(u64::from(e.events), flags::EPOLL, "0"),
                            e.data
                        )
                    })
                    .collect();
                Arg::Text(format!("[{}{}]", entries.join(", "), self.cut()))
            }
            Detail::Stat { mode, size, .. } => {
                Arg::Text(format!("{{{} size={size}}}", flags::file_mode(*mode)))
            }
            Detail::SigAction { handler, flags: bits, mask, .. } => {
                let handler = ["SIG_DFL", "SIG_IGN", "handler"].get(usize::from(*handler)).unwrap_or(&"?");
                let bits = flags::bits(*bits, flags::SA, "0");
                Arg::Text(format!("{{{handler} {bits} mask={}}}", super::signal_set(*mask)))
            }
            Detail::Argv { arg, words, count } => {
                let missing = Missing::of(self.event, *arg);
                let mut shown: Vec<String> =
                    (0..).zip(words).map(|(at, w)| missing.word(at, || quoted(self.trace.str(*w)))).collect();
                if (words.len() as u64) < u64::from(*count) {
                    shown.push(format!("… {count} in all"));
                }
                Arg::Text(format!("[{}]", shown.join(", ")))
            }
            Detail::Bytes { data, .. } if kind == Kind::OptVal => {
                Arg::Text(option_value(self.event.args[1], self.event.args[2], data))
            }
            Detail::Bytes { data, .. } if self.name == "setitimer" => Arg::Text(timer(data, 1_000)),
            Detail::Bytes { data, .. } => Arg::Text(bytes(data, kind)),
            _ => return None,
        })
    }

    fn cut(&self) -> &'static str {
        if self.event.flags.contains(SyscallFlags::TRUNCATED) { ", …" } else { "" }
    }

    fn scalar(&self, index: usize, kind: Kind, raw: u64) -> Arg {
        let text = match kind {
            Kind::Int | Kind::Pid => match self.named_int(index, raw) {
                Some(text) => text,
                None => return Arg::Number(i64::from(raw as i32)),
            },
            Kind::UInt => return Arg::Number(i64::from(raw as u32)),
            Kind::Millis if (raw as i32).is_negative() => "no timeout".to_owned(),
            Kind::Millis => format!("{}ms", raw as i32),
            Kind::Size | Kind::Off => return Arg::Number(raw as i64),
            Kind::Mode if matches!(self.name, "access" | "faccessat" | "faccessat2") => {
                flags::bits(raw & 0xffff_ffff, flags::ACCESS, "F_OK")
            }
            Kind::Mode => format!("0{:o}", raw & 0o177_777),
            Kind::OpenFlags => match self.name {
                "eventfd2" => flags::bits(raw, flags::EVENTFD, "0"),
                "open" | "openat" => flags::open(raw),
                "epoll_create1" => flags::bits(raw, flags::EPOLL_CREATE, "0"),
                _ => flags::bits(raw, flags::FD, "0"),
            },
            Kind::AtFlags => match self.name {
                "unlinkat" => flags::bits(raw, flags::AT_UNLINK, "0"),
                "faccessat2" => flags::bits(raw, flags::AT_ACCESS, "0"),
                _ => flags::bits(raw, flags::AT, "0"),
            },
            Kind::Prot => flags::bits(raw, flags::PROT, "PROT_NONE"),
            Kind::MapFlags => flags::map(raw),
            Kind::MsgFlags => flags::bits(raw & 0xffff_ffff, flags::MSG, "0"),
            Kind::SockType => flags::sock_type(raw),
            Kind::Domain => flags::one(raw, flags::DOMAIN),
            Kind::CloneFlags => flags::clone(raw),
            Kind::FutexOp => flags::futex(raw),
            Kind::FcntlCmd => flags::one(raw, flags::FCNTL),
            Kind::IoctlCmd => flags::ioctl(raw),
            Kind::EpollOp => flags::one(raw, flags::EPOLL_OP),
            Kind::Whence => flags::one(raw, flags::WHENCE),
            Kind::How => flags::one(raw, flags::SHUT),
            Kind::Signal => super::signal(raw as u32),
            Kind::Clock => flags::one(raw, flags::CLOCK),
            Kind::Flags => self.flag_set(index, raw),
            _ if raw == 0 => "NULL".to_owned(),
            _ => format!("{raw:#x}"),
        };
        Arg::Text(text)
    }

    /// Plain numbers that have names at this place of this call.
    fn named_int(&self, index: usize, raw: u64) -> Option<String> {
        let names = match (self.name, index) {
            ("madvise", 2) => flags::MADVISE,
            ("fadvise64", 3) => flags::FADVISE,
            ("prlimit64", 1) | ("getrlimit" | "setrlimit", 0) => flags::RLIMIT,
            ("rt_sigprocmask", 0) => flags::SIG_HOW,
            ("waitid", 0) => flags::ID_TYPE,
            ("prctl", 0) => flags::PRCTL,
            ("getitimer" | "setitimer", 0) => flags::ITIMER,
            ("getpriority" | "setpriority", 0) => flags::PRIO,
            ("membarrier", 0) => flags::MEMBARRIER,
            ("getsockopt" | "setsockopt", 1) => flags::LEVEL,
            ("getsockopt" | "setsockopt", 2) => return Some(flags::socket_option(self.event.args[1], raw)),
            ("socket", 2) if self.event.args[0] != libc::AF_UNIX as u64 => flags::IPPROTO,
            ("flock", 1) => return Some(flags::bits(raw, flags::FLOCK, "0")),
            ("fcntl", 2) => {
                return match self.event.args[1] as i32 {
                    libc::F_SETFD => Some(if raw == 1 { "FD_CLOEXEC".to_owned() } else { raw.to_string() }),
                    libc::F_SETFL => Some(flags::open(raw)),
                    libc::F_DUPFD | libc::F_DUPFD_CLOEXEC | libc::F_SETPIPE_SZ | libc::F_SETOWN => None,
                    _ => Some("…".to_owned()),
                };
            }
            _ => return None,
        };
        flags::find(raw, names).map(str::to_owned)
    }

    fn flag_set(&self, index: usize, raw: u64) -> String {
        let names = match (self.name, index) {
            ("getrandom", _) => flags::GETRANDOM,
            ("mremap", _) => flags::MREMAP,
            ("msync", _) => flags::MSYNC,
            ("fallocate", _) => flags::FALLOCATE,
            ("renameat2", _) => flags::RENAME,
            ("memfd_create", _) => flags::MEMFD,
            ("splice" | "tee" | "vmsplice", _) => flags::SPLICE,
            ("clock_nanosleep" | "timerfd_settime" | "timer_settime", _) => flags::TIMER,
            ("inotify_add_watch", _) => flags::INOTIFY,
            ("mount", _) => flags::MOUNT,
            ("umount2", _) => flags::UMOUNT,
            ("close_range", _) => flags::CLOSE_RANGE,
            ("mlockall", _) => flags::MLOCKALL,
            ("wait4" | "waitid", _) => flags::WAIT,
            ("statx", 3) => flags::STATX,
            ("setns", _) => flags::CLONE,
            ("arch_prctl", 0) => return flags::one(raw, flags::ARCH_PRCTL),
            _ => return format!("{raw:#x}"),
        };
        flags::bits(raw & 0xffff_ffff, names, "0")
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
            return match super::restart(errno) {
                Some(name) => format!("? {name} (interrupted by a signal)"),
                None => format!("-1 {} ({})", super::errno_name(errno), super::errno_text(errno)),
            };
        }
        if self.object_is_result()
            && let Some(object) = call.object
        {
            return format!("{}<{}>", call.ret, self.object(object));
        }
        match (self.name, self.event.args[1] as i32) {
            ("fcntl", libc::F_GETFL) => format!("{:#x} ({})", call.ret, flags::open(call.ret as u64)),
            // The same file under another number.
            ("fcntl", libc::F_DUPFD | libc::F_DUPFD_CLOEXEC) if call.object.is_some() => {
                format!(
                    "{}{}",
                    call.ret,
                    call.object.map_or_else(String::new, |o| format!("<{}>", self.object(o)))
                )
            }
            ("fcntl", libc::F_GETFD) if call.ret == 1 => "0x1 (FD_CLOEXEC)".to_owned(),
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

    /// The descriptor that the call is about, with what lies behind it.
    pub(crate) fn fd_json(&self) -> Value {
        let Some(id) = self.event.object else { return Value::Null };
        let fd = if self.object_is_result() {
            Some(self.event.ret)
        } else {
            let index = syscalls::args(self.name)
                .and_then(|t| t.iter().position(|(_, k)| matches!(k, Kind::Fd | Kind::DirFd)));
            index.filter(|i| self.kept(*i)).map(|i| i64::from(self.event.args[i] as i32))
        };
        let object = self.trace.object(id);
        let text = self.object(id);
        let text_of = |a: &Option<SockAddr>| a.as_ref().map(super::address);
        match object {
            Object::File { path, dev, ino, mode, size, .. } => json!({
                "fd": fd, "kind": "file", "text": text, "path": super::json_text(self.trace.str(*path)),
                "dev": dev, "ino": ino, "mode": mode, "size": size,
            }),
            Object::Socket { family, kind, protocol, cookie, local, peer } => {
                let known = self.ends.of(object);
                json!({
                    "fd": fd, "kind": "socket", "text": text,
                    "protocol": super::socket_kind(*family, *kind, *protocol), "cookie": cookie.0,
                    "local": text_of(local).or_else(|| known.map(|k| super::address(&k.0))),
                    "peer": text_of(peer).or_else(|| known.map(|k| super::address(&k.1))),
                })
            }
            Object::Pipe { ino } => json!({"fd": fd, "kind": "pipe", "text": text, "ino": ino}),
            Object::Anon { kind, id } => json!({
                "fd": fd, "kind": "anon", "text": text, "name": super::json_text(self.trace.str(*kind)),
                "id": id,
            }),
            _ => json!({"fd": fd, "kind": "other", "text": text}),
        }
    }

    /// The descriptors that went with the call's messages.
    pub(crate) fn passed_json(&self) -> Vec<Value> {
        let passed = self.event.details.iter().filter_map(|d| match d {
            Detail::Passed { message, fds, .. } => Some((message, fds)),
            _ => None,
        });
        passed
            .flat_map(|(message, fds)| fds.iter().map(move |p| (message, p)))
            .map(|(message, p)| {
                json!({"message": message, "fd": p.fd, "object": p.object.map(|o| self.object(o))})
            })
            .collect()
    }

    /// The messages of a call that takes several.
    pub(crate) fn messages_json(&self) -> Vec<Value> {
        let messages = self.event.details.iter().filter_map(|d| match d {
            Detail::Messages { entries, .. } => Some(entries),
            _ => None,
        });
        messages
            .flatten()
            .map(|m| {
                let addr = m.addr.as_ref().map(super::address);
                json!({"bytes": m.bytes, "parts": m.parts, "moved": m.moved, "addr": addr})
            })
            .collect()
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

/// The value of a socket option.
fn option_value(level: u64, option: u64, data: &[u8]) -> String {
    let int = |at: usize| data.get(at..at + 4).and_then(|b| b.try_into().ok()).map(i32::from_le_bytes);
    let long = |at: usize| data.get(at..at + 8).and_then(|b| b.try_into().ok()).map(u64::from_le_bytes);
    let socket = level == libc::SOL_SOCKET as u64;
    match (option as i32, data.len()) {
        (libc::SO_RCVTIMEO | libc::SO_SNDTIMEO, 16) if socket => {
            let ns = long(0).unwrap_or(0).saturating_mul(1_000_000_000);
            crate::units::duration(ns.saturating_add(long(8).unwrap_or(0).saturating_mul(1_000)))
        }
        (libc::SO_LINGER, 8) if socket => {
            let state = if int(0) == Some(0) { "off" } else { "on" };
            format!("{{{state}, {}s}}", int(4).unwrap_or(0))
        }
        (_, 4) => format!("[{}]", int(0).unwrap_or(0)),
        _ => bytes(data, Kind::OptVal),
    }
}

/// A small structure: words where its kind says how to read it, else hexadecimal.
fn bytes(data: &[u8], kind: Kind) -> String {
    let word = |i: usize| data.get(i * 8..i * 8 + 8).and_then(|b| b.try_into().ok()).map(u64::from_le_bytes);
    match (kind, data.len()) {
        (Kind::Rlimit, 16) => {
            let limit = |v: Option<u64>| match v {
                Some(u64::MAX) => "RLIM_INFINITY".to_owned(),
                Some(v) => v.to_string(),
                None => "?".to_owned(),
            };
            format!("{{soft={} hard={}}}", limit(word(0)), limit(word(1)))
        }
        (Kind::Itimerspec, 32) => timer(data, 1),
        _ => {
            format!("0x{}", super::hex(data))
        }
    }
}

/// An interval timer: two times of seconds and a fraction, counted in `unit_ns`.
fn timer(data: &[u8], unit_ns: u64) -> String {
    let word =
        |i: usize| data.get(i * 8..i * 8 + 8).and_then(|b| b.try_into().ok()).map_or(0, u64::from_le_bytes);
    let time = |i: usize| {
        let ns = word(i).saturating_mul(1_000_000_000);
        crate::units::duration(ns.saturating_add(word(i + 1).saturating_mul(unit_ns)))
    };
    format!("{{interval={} value={}}}", time(0), time(2))
}
