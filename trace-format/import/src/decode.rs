//! Arguments and results of a call → the registers and details that a recorder keeps of it.

use crate::address;
use crate::names::{self, number as named};
use crate::structures as structs;
use crate::text::unescape;
use crate::value::Value;
use ctrace_format::linux::{POLLIN, POLLOUT, POLLPRI};
use ctrace_format::syscalls::{Call, Kind, Limit};
use ctrace_format::{Detail, EpollEntry, Message, PassedFd, PollEntry, TraceWriter};
use smallvec::SmallVec;
use std::collections::BTreeMap;

/// Words of an argument vector that are kept, as a recorder does.
const MAX_WORDS: usize = 32;
/// Entries of a list that are kept: descriptors of a set, messages of a call.
const MAX_ENTRIES: usize = 1024;

/// What a call returned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Outcome<'a> {
    /// The value, or −errno. `None`: the call did not return.
    pub(crate) ret: Option<i64>,
    /// What lies behind a descriptor that it returned.
    pub(crate) about: Option<&'a [u8]>,
    /// What strace says of it in brackets.
    pub(crate) note: &'a [u8],
}

impl Outcome<'_> {
    pub(crate) fn succeeded(&self) -> bool {
        self.ret.is_some_and(|ret| !(-4095..0).contains(&ret))
    }
}

/// A descriptor, with what strace says lies behind it.
pub(crate) type Decorated<'a> = (i32, Option<&'a [u8]>);

/// A call under construction.
#[derive(Debug, Default)]
pub(crate) struct Draft<'a> {
    pub(crate) args: [u64; 6],
    /// Registers whose number the log tells.
    pub(crate) known: u8,
    pub(crate) details: Vec<Detail>,
    /// What strace says lies behind the descriptors among the arguments.
    pub(crate) about: SmallVec<[(u8, &'a [u8]); 2]>,
    /// Something that a detail was to tell is not in the log as a whole.
    pub(crate) truncated: bool,
    /// Descriptors that a call made or got, with what lies behind them.
    pub(crate) fds: SmallVec<[Decorated<'a>; 2]>,
    /// The address that a call was given or answered.
    pub(crate) path: Option<Vec<u8>>,
}

/// Reads the outcome of a call. `None`: it makes no sense.
pub(crate) fn outcome(text: &[u8]) -> Option<Outcome<'_>> {
    if text.first() == Some(&b'?') {
        let mut words = text[1..].split(|b| *b == b' ').filter(|word| !word.is_empty());
        let ret = match words.next() {
            Some(b"ERESTARTSYS") => Some(-512),
            Some(b"ERESTARTNOINTR") => Some(-513),
            Some(b"ERESTARTNOHAND") => Some(-514),
            Some(b"ERESTART_RESTARTBLOCK") => Some(-516),
            _ => None,
        };
        return Some(Outcome { ret, about: None, note: b"" });
    }
    let len = crate::text::decoration_at(text);
    let value_len = text[len..].iter().position(|b| *b == b' ').map_or(text.len(), |space| len + space);
    let (value, note) = (&text[..value_len], text[value_len..].trim_ascii());
    let value = Value::read(value, &named);
    let number = value.number()?;
    let ret =
        i64::try_from(number).ok().or_else(|| u64::try_from(number).ok().map(|number| number as i64))?;
    let about = if let Value::About(_, about) = value { Some(about) } else { None };
    if ret != -1 {
        return Some(Outcome { ret: Some(ret), about, note });
    }
    // `-1 ENOENT (No such file or directory)`, `-1 (errno 2)`.
    let word = note.split(|b| *b == b' ').next().unwrap_or_default();
    let errno = std::str::from_utf8(word).ok().and_then(ctrace_format::errno::number).or_else(|| {
        let digits = note.strip_prefix(b"(errno ")?.strip_suffix(b")")?;
        u32::try_from(crate::text::number(digits)?).ok().filter(|errno| (1..=4095).contains(errno))
    });
    Some(Outcome { ret: Some(errno.map_or(-1, |errno| -i64::from(errno))), about, note })
}

impl Draft<'_> {
    /// How long a call waited at least that ended with nothing but the time that it was given: of one that sleeps, and of
    /// one that asks whether something is ready, and returned 0.
    pub(crate) fn waited_ns(&self, call: Call) -> u64 {
        /// A log in which somebody sleeps for longer says so by other means.
        const MOST_NS: u64 = 86_400 * 1_000_000_000;
        const MILLISECOND_NS: u64 = 1_000_000;
        let sleeps = call == Call::Nanosleep || call == Call::ClockNanosleep && self.args[1] & 1 == 0;
        let row = call.row();
        let ns = match row.limit {
            Some(Limit::Millis(arg)) => u64::try_from(self.args[arg] as i32).unwrap_or(0) * MILLISECOND_NS,
            None if !sleeps => 0,
            _ => self
                .details
                .iter()
                .find_map(|d| if let Detail::Time { ns, .. } = d { Some(*ns) } else { None })
                .unwrap_or(0),
        };
        if ns > MOST_NS { 0 } else { ns }
    }
}

/// Where a call's arguments are read with what belongs to it.
pub(crate) struct Reading<'a, 'w> {
    pub(crate) w: &'w mut TraceWriter,
    pub(crate) call: Call,
    pub(crate) outcome: &'a Outcome<'a>,
    /// The arguments as the line has them.
    pub(crate) texts: &'a [&'a [u8]],
}

impl<'a> Reading<'a, '_> {
    /// Reads all arguments.
    pub(crate) fn read(&mut self) -> Draft<'a> {
        let mut draft = Draft::default();
        let row = self.call.row();
        let kinds = row.args;
        if self.call == Call::Clone {
            self.clone(&mut draft);
            return draft;
        }
        if self.call == Call::RestartSyscall {
            return draft;
        }
        let op = (self.call == Call::Futex)
            .then(|| self.texts.get(1).and_then(|text| Value::read(text, &named).number()))
            .flatten();
        let places = names::places(self.call, op.map(|op| op as u64));
        for (text, place) in self.texts.iter().zip(places) {
            match kinds {
                Some(kinds) => {
                    if let Some((_, kind)) = kinds.get(*place) {
                        self.one(*place as u8, *kind, text, &mut draft);
                    }
                }
                // What the table does not describe is kept raw, as far as it is a number.
                None => self.register(*place as u8, Kind::Flags, text, &mut draft),
            }
        }
        if self.call == Call::Setitimer
            && let Some(bytes) =
                self.texts.get(1).and_then(|text| structs::itimerval(&Value::read(text, &named)))
        {
            draft.details.push(Detail::Bytes { arg: 1, data: bytes });
        }
        if self.call == Call::Prctl
            && let Some(Value::Text { escaped, .. }) = self.texts.get(1).map(|text| Self::value(text))
        {
            draft.path = Some(unescape(escaped));
        }
        if matches!(self.call, Call::Select | Call::Pselect6) {
            self.sets(&mut draft);
        }
        draft.details.sort_by_key(|detail| detail.arg().unwrap_or(u8::MAX));
        draft
    }

    fn value(text: &'a [u8]) -> Value<'a> {
        Value::read(text, &named)
    }

    /// An argument that means itself.
    fn register(&mut self, arg: u8, kind: Kind, text: &'a [u8], draft: &mut Draft<'a>) {
        let value = Self::value(text);
        if let Value::About(_, about) = value {
            draft.about.push((arg, about));
        }
        let Some(number) = value.number() else {
            // A structure stands for its address.
            if let Value::List { parts, .. } = value.after()
                && kind == Kind::Flags
                && self.call == Call::Ioctl
                && self.outcome.succeeded()
                && let Some(number) = parts.first().and_then(|part| part.after().number())
            {
                draft.details.push(Detail::Value { arg, value: u64::from(number as u32) });
            }
            return;
        };
        // Registers of 32-bit arguments have no more bits.
        let is_narrow =
            matches!(kind, Kind::Fd | Kind::DirFd | Kind::Int | Kind::Pid | Kind::Millis | Kind::UInt);
        let number = number as u64;
        draft.args[usize::from(arg)] = if is_narrow { u64::from(number as u32) } else { number };
        draft.known |= 1 << arg;
    }

    fn one(&mut self, arg: u8, kind: Kind, text: &'a [u8], draft: &mut Draft<'a>) {
        let done = match kind {
            Kind::Ptr => return,
            kind if kind.is_raw() => return self.register(arg, kind, text, draft),
            Kind::Path | Kind::Str => self.string(arg, kind, text, draft),
            Kind::Argv => self.argv(arg, text, draft),
            Kind::Timespec | Kind::Timeval => return time(arg, &Self::value(text), draft),
            _ => self.pointed(arg, kind, &Self::value(text), draft),
        };
        if done.is_none() && is_address(text) {
            draft.details.push(Detail::Unread { arg, word: None });
        }
    }

    fn string(&mut self, arg: u8, kind: Kind, text: &'a [u8], draft: &mut Draft<'a>) -> Option<()> {
        let Value::Text { escaped, cut } = Self::value(text) else { return None };
        let bytes = unescape(escaped);
        draft.details.push(Detail::Str { arg, value: self.w.str(&bytes) });
        if cut {
            draft.details.push(Detail::Cut { arg, word: None });
            draft.truncated = true;
        }
        if kind == Kind::Path || draft.path.is_none() {
            draft.path = Some(bytes);
        }
        Some(())
    }

    fn argv(&mut self, arg: u8, text: &'a [u8], draft: &mut Draft<'a>) -> Option<()> {
        let Value::List { parts, cut } = Self::value(text) else { return None };
        let (mut words, mut unread, mut cuts) = (Vec::new(), Vec::new(), Vec::new());
        let count = parts.len() as u32 + u32::from(cut);
        for (at, part) in (0..).zip(parts.iter().take(MAX_WORDS)) {
            let Value::Text { escaped, cut } = part else {
                words.push(Vec::new());
                unread.push(at);
                continue;
            };
            words.push(unescape(escaped));
            if *cut {
                cuts.push(at);
            }
        }
        draft.truncated |= cut || !unread.is_empty() || !cuts.is_empty();
        draft.details.push(Detail::Argv { arg, words: self.w.argv(words), count });
        draft.details.extend(unread.into_iter().map(|word| Detail::Unread { arg, word: Some(word) }));
        draft.details.extend(cuts.into_iter().map(|word| Detail::Cut { arg, word: Some(word) }));
        Some(())
    }

    /// What a pointer points to; `None`: the log does not say.
    fn pointed(&mut self, arg: u8, kind: Kind, value: &Value<'a>, draft: &mut Draft<'a>) -> Option<()> {
        let answers = matches!(
            kind,
            Kind::SockAddrOut
                | Kind::NewFds
                | Kind::EpollEvents
                | Kind::Stat
                | Kind::Statx
                | Kind::U32Ptr
                | Kind::U64Ptr
        ) || kind == Kind::Msg && self.call.name().starts_with("recv");
        if answers && !self.outcome.succeeded() {
            // What a call that failed was to write there is none of its results.
            return Some(());
        }
        let details = &mut draft.details;
        match kind {
            Kind::SockAddr | Kind::SockAddrOut => {
                details.push(Detail::Addr { arg, addr: address::of_struct(value)? });
            }
            Kind::Iov => details.push(self.vector(arg, value)?),
            Kind::Msg => message(arg, value, draft)?,
            Kind::Msgs => self.messages(arg, value, draft)?,
            Kind::NewFds => {
                for part in value.after().parts()?.iter().take(2) {
                    let about = if let Value::About(_, about) = part { Some(*about) } else { None };
                    draft.fds.push((i32::try_from(part.number()?).ok()?, about));
                }
            }
            Kind::PollFds => self.poll(arg, value, draft)?,
            Kind::EpollEvents => {
                let events = value.parts()?.iter().take(MAX_ENTRIES).filter_map(epoll_event).collect();
                details.push(Detail::Epoll { arg, entries: events });
            }
            Kind::EpollEvent => details.push(Detail::Epoll { arg, entries: vec![epoll_event(value)?] }),
            Kind::Stat | Kind::Statx => {
                let field = |of_stat: &[u8], of_statx: &[u8]| {
                    value.number_of(if kind == Kind::Stat { of_stat } else { of_statx })
                };
                details.push(Detail::Stat {
                    arg,
                    mode: field(b"st_mode", b"stx_mode")? as u32,
                    size: field(b"st_size", b"stx_size").unwrap_or(0) as u64,
                    ino: field(b"st_ino", b"stx_ino").unwrap_or(0) as u64,
                });
            }
            Kind::SigAction => {
                let handler = value.number_of(b"sa_handler").or_else(|| value.number_of(b"sa_sigaction"))?;
                details.push(Detail::SigAction {
                    arg,
                    handler: handler.clamp(0, 2) as u8,
                    flags: value.number_of(b"sa_flags").unwrap_or(0) as u64,
                    mask: value.field(b"sa_mask").and_then(structs::signals).unwrap_or(0),
                });
            }
            Kind::SigSet => details.push(Detail::Value { arg, value: structs::signals(value)? }),
            Kind::U32Ptr | Kind::U64Ptr => {
                if let Some(number) = structs::pointed_number(self.call, value) {
                    let number = if kind == Kind::U32Ptr { u64::from(number as u32) } else { number };
                    details.push(Detail::Value { arg, value: number });
                }
            }
            Kind::CloneArgs => {
                let data = structs::clone_args(value.before())?;
                // What the kernel half of a recorder keeps in a register is the address; the flags are in the copy.
                details.push(Detail::Bytes { arg, data });
            }
            Kind::OpenHow => details.push(Detail::Bytes { arg, data: structs::open_how(value)? }),
            Kind::Itimerspec => {
                let (ns, data) = structs::itimerspec(value)?;
                details.push(Detail::Time { arg, ns });
                details.push(Detail::Bytes { arg, data });
            }
            Kind::Rlimit => details.push(Detail::Bytes { arg, data: structs::rlimit(value)? }),
            Kind::OptVal => {
                let room = self.texts.get(usize::from(arg) + 1).and_then(|text| Self::value(text).number());
                details.push(Detail::Bytes { arg, data: structs::option(value, room.unwrap_or(4))? });
            }
            _ => {}
        }
        Some(())
    }

    fn vector(&self, arg: u8, value: &Value<'_>) -> Option<Detail> {
        let Value::List { parts, cut } = value else { return None };
        let bytes = parts.iter().filter_map(|part| part.number_of(b"iov_len")).sum::<i128>() as u64;
        let told = self.texts.get(usize::from(arg) + 1).and_then(|text| Self::value(text).number());
        let count = if *cut { told.unwrap_or(parts.len() as i128) as u32 } else { parts.len() as u32 };
        // Of a vector that strace cut short at least the bytes that were moved are known.
        let bytes = if *cut { bytes.max(self.outcome.ret.unwrap_or(0).max(0) as u64) } else { bytes };
        Some(Detail::Iov { arg, bytes, count })
    }

    fn messages(&mut self, arg: u8, value: &Value<'a>, draft: &mut Draft<'a>) -> Option<()> {
        let parts = value.parts()?;
        let receives = self.call.name().starts_with("recv");
        if receives && !self.outcome.succeeded() {
            return Some(());
        }
        let done = self.outcome.ret.unwrap_or(0).clamp(0, MAX_ENTRIES as i64) as usize;
        let tried = if receives { done } else { parts.len() };
        let mut entries = Vec::new();
        for (at, part) in (0..).zip(parts.iter().take(tried.min(MAX_ENTRIES))) {
            let Some(head) = part.field(b"msg_hdr") else { break };
            let vector = head.field(b"msg_iov").and_then(Value::parts).unwrap_or_default();
            let bytes = vector.iter().filter_map(|part| part.number_of(b"iov_len")).sum::<i128>() as u64;
            let moved = part.number_of(b"msg_len").filter(|_| (at as usize) < done).unwrap_or(0) as u32;
            let addr = head.field(b"msg_name").and_then(address::of_struct);
            entries.push(Message { bytes, parts: vector.len() as u32, moved, addr });
            passed(arg, at, head, draft);
        }
        draft.details.push(Detail::Messages { arg, entries });
        Some(())
    }

    /// The set that a call asked about, with the answers that strace gives behind the result.
    fn poll(&mut self, arg: u8, value: &Value<'_>, draft: &mut Draft<'a>) -> Option<()> {
        let entry = |part: &Value<'_>| -> Option<PollEntry> {
            Some(PollEntry {
                fd: part.number_of(b"fd")? as i32,
                events: part.number_of(b"events").unwrap_or(0) as u16,
                revents: part.number_of(b"revents").unwrap_or(0) as u16,
            })
        };
        let mut entries: Vec<PollEntry> =
            value.before().parts()?.iter().take(MAX_ENTRIES).filter_map(entry).collect();
        let inner = self.outcome.note.strip_prefix(b"(").and_then(|n| n.strip_suffix(b")"));
        let answers = inner.map(|inner| &inner[..crate::text::value_end(inner)]).map(Self::value);
        for answer in answers.iter().filter_map(Value::parts).flatten().filter_map(entry) {
            for entry in entries.iter_mut().filter(|entry| entry.fd == answer.fd) {
                entry.revents = answer.revents;
            }
        }
        draft.details.push(Detail::Poll { arg, entries });
        Some(())
    }

    /// The sets of `select`, with the answers behind the result: `2 (in [3], out [4], left {…})`.
    fn sets(&mut self, draft: &mut Draft<'a>) {
        const BITS: [(u8, &[u8], u32); 3] =
            [(1, b"in", POLLIN), (2, b"out", POLLOUT), (3, b"except", POLLPRI)];
        let mut by_fd: BTreeMap<i32, PollEntry> = BTreeMap::new();
        let mut add = |value: &Value<'_>, bit: u16, answered: bool| {
            for fd in value.parts().unwrap_or_default().iter().filter_map(Value::number).take(MAX_ENTRIES) {
                let fd = fd as i32;
                let entry = by_fd.entry(fd).or_insert(PollEntry { fd, events: 0, revents: 0 });
                if answered {
                    entry.revents |= bit;
                } else {
                    entry.events |= bit;
                }
            }
        };
        for (arg, _, bit) in BITS {
            if let Some(text) = self.texts.get(usize::from(arg)) {
                add(Self::value(text).before(), bit as u16, false);
            }
        }
        let mut rest = self.outcome.note.strip_prefix(b"(").unwrap_or_default();
        while let Some(space) = rest.iter().position(|b| *b == b' ') {
            let end = space + 1 + crate::text::value_end(&rest[space + 1..]);
            if let Some((_, _, bit)) = BITS.iter().find(|(_, name, _)| *name == &rest[..space]) {
                add(&Self::value(&rest[space + 1..end]), *bit as u16, true);
            }
            rest = rest.get(end + 1..).unwrap_or_default().trim_ascii_start();
        }
        if !by_fd.is_empty() {
            draft.details.push(Detail::Poll { arg: 1, entries: by_fd.into_values().collect() });
        }
    }

    /// `clone` names its arguments: `child_stack=NULL, flags=CLONE_VM|SIGCHLD, child_tidptr=0x7f…`.
    fn clone(&mut self, draft: &mut Draft<'a>) {
        for (at, text) in (0_u8..).zip(self.texts) {
            let (name, value) = match text.iter().position(|b| *b == b'=') {
                Some(len) => (&text[..len], &text[len + 1..]),
                // Raw: in the order of x86-64.
                None => (&b""[..], *text),
            };
            let arg = match name {
                b"flags" => 0,
                b"child_stack" => 1,
                b"" if at < 5 => at,
                _ => continue,
            };
            self.register(arg, Kind::CloneFlags, value, draft);
        }
    }
}

fn is_address(text: &[u8]) -> bool {
    text.starts_with(b"0x")
}

fn time(arg: u8, value: &Value<'_>, draft: &mut Draft<'_>) {
    match structs::time_ns(value.before()) {
        Some(ns) => draft.details.push(Detail::Time { arg, ns }),
        // A futex that wakes has a number there.
        None => {
            if let Some(number) = value.number() {
                draft.args[usize::from(arg)] = number as u64;
                draft.known |= 1 << arg;
            }
        }
    }
}

fn epoll_event(value: &Value<'_>) -> Option<EpollEntry> {
    let data =
        value.field(b"data").map_or(Some(0), |data| data.number_of(b"u64").or_else(|| data.number()))?;
    Some(EpollEntry { events: value.number_of(b"events")? as u32, data: data as u64 })
}

/// Descriptors that went with a message.
fn passed<'a>(arg: u8, message: u32, head: &Value<'a>, draft: &mut Draft<'a>) {
    let controls = head.field(b"msg_control").and_then(Value::parts).unwrap_or_default();
    let mut fds = Vec::new();
    for control in controls {
        let is_rights = control.field(b"cmsg_type").is_some_and(|kind| match kind {
            Value::Name(name) => *name == b"SCM_RIGHTS",
            kind => kind.number() == Some(1),
        });
        for part in control.field(b"cmsg_data").and_then(Value::parts).unwrap_or_default() {
            if let (true, Some(fd)) = (is_rights, part.number()) {
                let about = if let Value::About(_, about) = part { Some(*about) } else { None };
                fds.push(PassedFd { fd: fd as i32, object: None });
                draft.fds.push((fd as i32, about));
            }
        }
    }
    if !fds.is_empty() {
        draft.details.push(Detail::Passed { arg, message, fds });
    }
}

/// A `msghdr`.
fn message<'a>(arg: u8, value: &Value<'a>, draft: &mut Draft<'a>) -> Option<()> {
    if !matches!(value, Value::Struct(_)) {
        return None;
    }
    if let Some(addr) = value.field(b"msg_name").and_then(address::of_struct) {
        draft.details.push(Detail::Addr { arg, addr });
    }
    if let Some(Value::List { parts, .. }) = value.field(b"msg_iov") {
        let bytes = parts.iter().filter_map(|part| part.number_of(b"iov_len")).sum::<i128>() as u64;
        let count = value.number_of(b"msg_iovlen").unwrap_or(parts.len() as i128) as u32;
        draft.details.push(Detail::Iov { arg, bytes, count });
    }
    passed(arg, 0, value, draft);
    Some(())
}
