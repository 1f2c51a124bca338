//! The values of arguments.

use super::args::Missing;
use super::{Arg, Call, flags, quoted};
use crate::text::units;
use ctrace_format::syscalls::Kind;
use ctrace_format::{Detail, Message, SyscallFlags, linux};

impl Call<'_> {
    /// Flags of `open`, as the architecture of the call has them.
    pub(super) fn open_flags(&self, flags: u64) -> String {
        flags::open(linux::open_flags(flags, self.event.sysno.abi))
    }

    pub(super) fn detail(&self, detail: &Detail, kind: Kind) -> Option<Arg> {
        Some(match detail {
            Detail::Str { value, arg } if Missing::of(self.event, *arg).cut.contains(&None) => {
                Arg::Cut(self.trace.str(*value).to_vec())
            }
            Detail::Str { value, .. } => Arg::Bytes(self.trace.str(*value).to_vec()),
            Detail::Addr { addr, .. } => Arg::Text(super::address(addr)),
            Detail::Object { object, .. } => Arg::Text(format!("<{}>", self.object(*object))),
            Detail::Value { value, .. } => match (self.name, kind) {
                ("wait4", Kind::U32Ptr) => Arg::Text(format!("[{}]", super::wait_status(*value as u32))),
                ("openat2", Kind::OpenHow) => Arg::Text(format!("{{{}}}", self.open_flags(*value))),
                ("getsockopt", Kind::U32Ptr) if self.event.args[2] == u64::from(linux::SO_ERROR) => {
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
            Detail::Time { ns, .. } => Arg::Text(units::duration(*ns)),
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

    pub(super) fn scalar(&self, index: usize, kind: Kind, raw: u64) -> Arg {
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
                "open" | "openat" => self.open_flags(raw),
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
            ("socket", 2) if self.event.args[0] != u64::from(linux::AF_UNIX) => flags::IPPROTO,
            ("flock", 1) => return Some(flags::bits(raw, flags::FLOCK, "0")),
            ("fcntl", 2) => {
                return match self.event.args[1] as u32 {
                    linux::F_SETFD => Some(if raw == 1 { "FD_CLOEXEC".to_owned() } else { raw.to_string() }),
                    linux::F_SETFL => Some(self.open_flags(raw)),
                    linux::F_DUPFD | linux::F_DUPFD_CLOEXEC | linux::F_SETPIPE_SZ | linux::F_SETOWN => None,
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
}

/// The value of a socket option.
fn option_value(level: u64, option: u64, data: &[u8]) -> String {
    let int = |at: usize| data.get(at..at + 4).and_then(|b| b.try_into().ok()).map(i32::from_le_bytes);
    let long = |at: usize| data.get(at..at + 8).and_then(|b| b.try_into().ok()).map(u64::from_le_bytes);
    let socket = level == u64::from(linux::SOL_SOCKET);
    match (option as u32, data.len()) {
        (linux::SO_RCVTIMEO | linux::SO_SNDTIMEO, 16) if socket => {
            let ns = long(0).unwrap_or(0).saturating_mul(1_000_000_000);
            units::duration(ns.saturating_add(long(8).unwrap_or(0).saturating_mul(1_000)))
        }
        (linux::SO_LINGER, 8) if socket => {
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
        units::duration(ns.saturating_add(word(i + 1).saturating_mul(unit_ns)))
    };
    format!("{{interval={} value={}}}", time(0), time(2))
}
