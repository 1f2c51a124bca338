//! What the kernel half copied for a call → decoded arguments.

use crate::arch::{Arch, HOST};
use crate::objects::{Objects, sockaddr};
use crate::raw;
use ctrace_abi::{MAX_ARGV, MAX_ITEMS, MAX_WORD, Tlv, op};
use ctrace_format::syscalls::Kind;
use ctrace_format::{Detail, EpollEntry, Message, ObjectId, PassedFd, PollEntry, TraceWriter};
use smallvec::SmallVec;
use std::collections::BTreeMap;

/// One item of a tail.
#[derive(Clone, Copy)]
pub(crate) struct Item<'a> {
    pub(crate) head: Tlv,
    pub(crate) data: &'a [u8],
}

impl Item<'_> {
    /// Which of the call's messages it is about.
    fn message(&self) -> usize {
        usize::from(self.head.aux >> 1)
    }
}

/// Bit of [`Tlv::aux`]: copied at the exit of the call.
const EXIT: u16 = 1;
/// Bits of [`Tlv::fault`].
const CUT: u16 = 1;
const UNREAD: u16 = 2;

/// Items of a call: few, and made for every call.
pub(crate) type Items<'a> = SmallVec<[Item<'a>; 8]>;

/// Takes a tail apart. What does not fit its own lengths ends it.
pub(crate) fn items(tail: &[u8]) -> Items<'_> {
    let mut out = Items::new();
    more_items(tail, &mut out);
    out
}

/// As [`items`], behind others.
pub(crate) fn more_items<'a>(mut tail: &'a [u8], out: &mut Items<'a>) {
    while let Some(head) = raw::read::<Tlv>(tail) {
        let len = usize::from(head.len);
        let Some(data) = tail.get(8..8 + len) else { break };
        out.push(Item { head, data });
        tail = tail.get(8 + len.next_multiple_of(8)..).unwrap_or_default();
    }
}

/// The items of a tail that tell what a call was made with, as a tail: without what its end told.
pub(crate) fn at_entry(tail: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    for item in items(tail) {
        let Tlv { op, arg, len, fault, aux } = item.head;
        let at = out.len();
        match (aux & EXIT, op) {
            (0, _) => out.extend_from_slice(item.data),
            // Copied at the end, and asked for by the call all the same.
            (_, op::POLL) => {
                for entry in item.data.chunks_exact(8) {
                    out.extend_from_slice(&entry[..6]);
                    out.extend_from_slice(&[0, 0]);
                }
            }
            _ => continue,
        }
        let head = [op, arg].into_iter().chain(len.to_ne_bytes()).chain(fault.to_ne_bytes());
        out.splice(at..at, head.chain(aux.to_ne_bytes()));
        out.resize(out.len().next_multiple_of(8), 0);
    }
    out
}

/// Puts items of entry and then of exit in argument order; an entry item that could not be read yields to its second
/// attempt.
pub(crate) fn merge(all: &mut Items<'_>) {
    let unread = |i: &Item<'_>| i.head.fault & UNREAD != 0;
    let mut kept = 0;
    for i in 0..all.len() {
        let item = all[i];
        if item.message() > 0 {
            // Of several messages, each is told once.
            all[kept] = item;
            kept += 1;
            continue;
        }
        let same = |o: &&mut Item<'_>| {
            o.head.op == item.head.op
                && o.head.arg == item.head.arg
                && !matches!(o.head.op, op::FDSET | op::PASSED)
                && o.message() == 0
        };
        match all[..kept].iter_mut().find(same) {
            Some(old) if unread(old) || !unread(&item) => *old = item,
            Some(_) => {}
            None => {
                all[kept] = item;
                kept += 1;
            }
        }
    }
    all.truncate(kept);
    // Tried again at exit, all of them were.
    if all.iter().any(|i| i.head.op == op::PASSED && i.head.aux & 1 == 1) {
        all.retain(|i| i.head.op != op::PASSED || i.head.aux & 1 == 1);
    }
    all.sort_by_key(|i| i.head.arg);
}

/// Cuts an address that was copied without knowing its length down to the length that its family gives it.
pub(crate) fn measure(item: &mut Item<'_>) {
    let len = match item.data {
        // sockaddr_un: up to the NUL behind its name, which itself may begin with one.
        [1, 0, name @ ..] => 2 + name.iter().skip(1).position(|b| *b == 0).map_or(name.len(), |n| n + 1),
        [2, 0, ..] => 16,
        [10, 0, ..] => 28,
        // sockaddr_nl.
        [16, 0, ..] => 12,
        _ => return,
    };
    if len <= item.data.len() {
        item.data = &item.data[..len];
        item.head.fault = 0;
    }
}

fn u32_at(data: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(data.get(at..at + 4)?.try_into().ok()?))
}

fn u64_at(data: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_ne_bytes(data.get(at..at + 8)?.try_into().ok()?))
}

/// Where decoding needs the rest of the recording.
pub(crate) struct Context<'a> {
    pub(crate) writer: &'a mut TraceWriter,
    pub(crate) objects: &'a Objects,
}

/// Decodes items into `out`. `kinds` are the meanings of the call's arguments.
pub(crate) fn decode(
    items: &[Item<'_>],
    kinds: &[(&'static str, Kind)],
    c: &mut Context<'_>,
    out: &mut Vec<Detail>,
) {
    let mut sets: Vec<Item<'_>> = Vec::new();
    let mut messages: Vec<Message> = Vec::new();
    let kind_of = |arg: u8| kinds.get(usize::from(arg)).map(|k| k.1);
    let is_room = |item: &Item<'_>| {
        item.head.op == op::PEEK && kind_of(item.head.arg.wrapping_sub(1)) == Some(Kind::SockAddrOut)
    };
    let room = items.iter().find(|item| is_room(item) && item.head.aux & EXIT == 0);
    let room = room.and_then(|item| u32_at(item.data, 0));
    for item in items {
        let mut item = *item;
        if is_room(&item) {
            continue;
        }
        if matches!(item.head.op, op::ADDR | op::ADDR_OUT)
            && kind_of(item.head.arg) == Some(Kind::SockAddrOut)
        {
            match room {
                Some(room) => item.data = &item.data[..item.data.len().min(room as usize)],
                // The kernel wrote nothing behind the address.
                None => measure(&mut item),
            }
        }
        let item = &item;
        let kind = kind_of(item.head.arg);
        if kind == Some(Kind::Msgs) && matches!(item.head.op, op::MESSAGE | op::ADDR) {
            one_of_several(item, &mut messages);
            continue;
        }
        if item.head.fault == UNREAD && item.data.is_empty() {
            if out.last().is_none_or(|d| !matches!(d, Detail::Unread { arg, .. } if *arg == item.head.arg)) {
                out.push(Detail::Unread { arg: item.head.arg, word: None });
            }
            continue;
        }
        if item.head.op == op::FDSET {
            sets.push(*item);
            continue;
        }
        one(item, kind, c, out);
    }
    if let Some(arg) = kinds.iter().position(|k| k.1 == Kind::Msgs).filter(|_| !messages.is_empty()) {
        let at =
            out.iter().position(|d| d.arg().is_none_or(|of| usize::from(of) >= arg)).unwrap_or(out.len());
        out.insert(at, Detail::Messages { arg: arg as u8, entries: messages });
    }
    if !sets.is_empty() {
        out.push(Detail::Poll { arg: 1, entries: select_sets(&sets) });
    }
}

/// Adds what an item tells of one of several messages. The number of messages is bounded by that of their items.
fn one_of_several(item: &Item<'_>, messages: &mut Vec<Message>) {
    let index = item.message();
    if index >= MAX_ITEMS {
        return;
    }
    while messages.len() <= index {
        messages.push(Message { bytes: 0, parts: 0, moved: 0, addr: None });
    }
    let message = &mut messages[index];
    if item.head.op == op::ADDR {
        message.addr = sockaddr(item.data);
    } else if let (Some(bytes), Some(parts), Some(moved)) =
        (u64_at(item.data, 0), u64_at(item.data, 8), u64_at(item.data, 16))
    {
        (message.bytes, message.parts, message.moved) = (bytes, parts as u32, moved as u32);
    }
}

/// Drops the address that a socket has got when it is the one that the call named.
pub(crate) fn drop_named(details: &mut Vec<Detail>) {
    let named =
        details.iter().find_map(|d| if let Detail::Addr { addr, .. } = d { Some(addr) } else { None });
    let Some(named) = named.cloned() else { return };
    details.retain(|d| !matches!(d, Detail::Local { addr } if *addr == named));
}

/// Decodes one item; `None` when it is shorter than its kind.
fn one(item: &Item<'_>, kind: Option<Kind>, c: &mut Context<'_>, out: &mut Vec<Detail>) -> Option<()> {
    let arg = item.head.arg;
    let data = item.data;
    match item.head.op {
        op::STR => {
            out.push(Detail::Str { arg, value: c.writer.str(data) });
            if item.head.fault & CUT != 0 {
                out.push(Detail::Cut { arg, word: None });
            }
        }
        op::ADDR | op::ADDR_OUT => out.push(Detail::Addr { arg, addr: sockaddr(data)? }),
        op::OBJECT => out.push(Detail::Object { arg, object: c.objects.get(u64_at(data, 0)?)? }),
        op::IOV => {
            out.push(Detail::Iov { arg, bytes: u64_at(data, 0)?, count: u64_at(data, 8)? as u32 });
        }
        op::FDS => {
            let object = |at| -> Option<ObjectId> { c.objects.get(u64_at(data, at)?) };
            let fds = [u32_at(data, 0)? as i32, u32_at(data, 4)? as i32];
            out.push(Detail::NewFds { arg, fds, objects: [object(8), object(16)] });
        }
        op::PASSED => {
            let passed = PassedFd { fd: u32_at(data, 0)? as i32, object: c.objects.get(u64_at(data, 8)?) };
            let of = item.message() as u32;
            match out.last_mut() {
                Some(Detail::Passed { message, fds, .. }) if *message == of => fds.push(passed),
                _ => out.push(Detail::Passed { arg, message: of, fds: vec![passed] }),
            }
        }
        op::LOCAL => out.push(Detail::Local { addr: sockaddr(data)? }),
        op::POLL => {
            let entries = data
                .chunks_exact(8)
                .map(|p| PollEntry {
                    fd: i32::from_ne_bytes([p[0], p[1], p[2], p[3]]),
                    events: u16::from_ne_bytes([p[4], p[5]]),
                    revents: u16::from_ne_bytes([p[6], p[7]]),
                })
                .collect();
            out.push(Detail::Poll { arg, entries });
        }
        op::EPOLL => out.push(Detail::Epoll { arg, entries: epoll(data, HOST) }),
        op::ARGV => {
            let words = words(item)?;
            tell_words(c.writer, arg, words, out);
        }
        op::PEEK => out.push(Detail::Value { arg, value: u64::from(u32_at(data, 0)?) }),
        op::BYTES => bytes(item, kind, out)?,
        _ => return None,
    }
    Some(())
}

fn epoll(data: &[u8], arch: &Arch) -> Vec<EpollEntry> {
    let [size, at] = arch.epoll_event;
    data.chunks_exact(size)
        .filter_map(|e| Some(EpollEntry { events: u32_at(e, 0)?, data: u64_at(e, at)? }))
        .collect()
}

/// Words of an argument vector, as far as they are known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Words {
    /// The first of them. One that could not be read is empty.
    pub(crate) known: Vec<Vec<u8>>,
    /// How many there are.
    pub(crate) count: u32,
    /// A bit for each that could not be read.
    pub(crate) unread: u32,
    /// The vector itself could not be read further: there may be more than `count`.
    pub(crate) ends_early: bool,
    /// Those that are longer than what is known of them.
    pub(crate) cut: Vec<u32>,
}

impl Words {
    /// Whether nothing of them is missing.
    pub(crate) fn is_whole(&self) -> bool {
        let is_all = self.known.len() as u64 >= u64::from(self.count);
        is_all && self.unread == 0 && !self.ends_early && self.cut.is_empty()
    }

    pub(crate) fn is_unread(&self, word: usize) -> bool {
        u32::try_from(word)
            .ok()
            .and_then(|word| self.unread.checked_shr(word))
            .is_some_and(|bits| bits & 1 != 0)
    }
}

/// The words of an item.
pub(crate) fn words(item: &Item<'_>) -> Option<Words> {
    let count = u32_at(item.data, 0)?;
    let unread = u32_at(item.data, 4)?;
    let mut words: Vec<Vec<u8>> = item.data[8..].split(|b| *b == 0).map(<[u8]>::to_vec).collect();
    // What follows the last NUL is no word.
    words.pop();
    let is_cut = |word: &Vec<u8>| word.len() + 1 >= MAX_WORD;
    let cut = (0..).zip(&words).filter(|(_, word)| is_cut(word)).map(|(at, _)| at).collect();
    Some(Words { known: words, count, unread, ends_early: item.head.fault & UNREAD != 0, cut })
}

/// Adds what is known of an argument vector, and what is not. One of which nothing is known is left out.
pub(crate) fn tell_words(w: &mut TraceWriter, arg: u8, mut words: Words, out: &mut Vec<Detail>) {
    if words.ends_early {
        if words.known.is_empty() {
            out.push(Detail::Unread { arg, word: None });
            return;
        }
        if words.known.len() < MAX_ARGV {
            // There is one more at least.
            words.unread |= 1 << words.known.len();
            words.known.push(Vec::new());
            words.count += 1;
        }
    }
    let unread: Vec<u32> =
        (0..words.known.len()).filter(|at| words.is_unread(*at)).map(|at| at as u32).collect();
    out.push(Detail::Argv { arg, words: w.argv(words.known), count: words.count });
    out.extend(unread.into_iter().map(|word| Detail::Unread { arg, word: Some(word) }));
    out.extend(words.cut.into_iter().map(|word| Detail::Cut { arg, word: Some(word) }));
}

/// Fixed structures, by the meaning of the argument.
fn bytes(item: &Item<'_>, kind: Option<Kind>, out: &mut Vec<Detail>) -> Option<()> {
    let arg = item.head.arg;
    let data = item.data;
    match kind {
        Some(Kind::U32Ptr) => out.push(Detail::Value { arg, value: u64::from(u32_at(data, 0)?) }),
        Some(Kind::U64Ptr | Kind::SigSet) => out.push(Detail::Value { arg, value: u64_at(data, 0)? }),
        Some(Kind::EpollEvent) => out.push(Detail::Epoll { arg, entries: epoll(data, HOST) }),
        Some(Kind::Stat) => out.push(Detail::Stat {
            arg,
            mode: u32_at(data, HOST.stat_mode)?,
            size: u64_at(data, 48)?,
            ino: u64_at(data, 8)?,
        }),
        // struct statx, include/uapi/linux/stat.h: mode is 16 bits.
        Some(Kind::Statx) => out.push(Detail::Stat {
            arg,
            mode: u32_at(data, 28)? & 0xffff,
            size: u64_at(data, 40)?,
            ino: u64_at(data, 32)?,
        }),
        // struct sigaction as the kernel has it: handler, flags, restorer, mask.
        Some(Kind::SigAction) => {
            let handler = u64_at(data, 0)?;
            out.push(Detail::SigAction {
                arg,
                handler: handler.min(2) as u8,
                flags: u64_at(data, 8)?,
                mask: u64_at(data, 24)?,
            });
        }
        Some(Kind::Itimerspec) => {
            let ns = u64_at(data, 16)?.wrapping_mul(1_000_000_000).wrapping_add(u64_at(data, 24)?);
            out.push(Detail::Time { arg, ns });
            out.push(Detail::Bytes { arg, data: data.to_vec() });
        }
        _ => out.push(Detail::Bytes { arg, data: data.to_vec() }),
    }
    Some(())
}

/// The sets of `select`, asked (aux 0) and answered (aux 1), as poll entries.
fn select_sets(sets: &[Item<'_>]) -> Vec<PollEntry> {
    // Arguments 1, 2, 3 are the read, write and exception sets: POLLIN, POLLOUT, POLLPRI.
    let bit = |arg: u8| match arg {
        1 => 1_u16,
        2 => 4,
        _ => 2,
    };
    let mut by_fd: BTreeMap<i32, PollEntry> = BTreeMap::new();
    for item in sets {
        for (i, byte) in item.data.iter().enumerate() {
            for b in 0..8 {
                if byte & (1 << b) == 0 {
                    continue;
                }
                let fd = (i * 8 + b) as i32;
                let entry = by_fd.entry(fd).or_insert(PollEntry { fd, events: 0, revents: 0 });
                if item.head.aux == 0 {
                    entry.events |= bit(item.head.arg);
                } else {
                    entry.revents |= bit(item.head.arg);
                }
            }
        }
    }
    by_fd.into_values().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arch::{AARCH64, X86_64};
    use ctrace_format::SockAddr;

    fn tlv(op: u8, arg: u8, fault: u16, aux: u16, data: &[u8]) -> Vec<u8> {
        let mut v = vec![op, arg];
        v.extend((data.len() as u16).to_ne_bytes());
        v.extend(fault.to_ne_bytes());
        v.extend(aux.to_ne_bytes());
        v.extend(data);
        v.resize(8 + data.len().next_multiple_of(8), 0);
        v
    }

    #[test]
    fn a_tail_without_its_exit_tells_what_was_asked_alone() {
        let asked = tlv(op::BYTES, 2, 0, 0, &[1, 2, 3]);
        let polled = |revents: u8| tlv(op::POLL, 0, 0, 1, &[7, 0, 0, 0, 1, 0, revents, 0]);
        let found = tlv(op::ADDR_OUT, 1, 0, 1, &[5; 16]);
        assert_eq!(at_entry(&[&asked[..], &polled(9), &found].concat()), [asked, polled(0)].concat());
    }

    #[test]
    fn a_tail_is_taken_apart_and_a_cut_one_ends() {
        let tail = [tlv(op::STR, 1, 0, 0, b"abc"), tlv(op::BYTES, 2, 0, 0, &[1; 8])].concat();
        let all = items(&tail);
        assert_eq!(all.iter().map(|i| i.data.len()).collect::<Vec<_>>(), [3, 8]);
        assert_eq!(items(&tail[..20]).len(), 1);
        assert!(items(&[1, 2, 3]).is_empty());
    }

    #[test]
    fn a_second_attempt_replaces_what_could_not_be_read() {
        let first = tlv(op::STR, 1, 2, 0, b"");
        let second = tlv(op::STR, 1, 0, 1, b"/x");
        let tail = [first, second].concat();
        let mut merged = items(&tail);
        merge(&mut merged);
        assert_eq!(merged.len(), 1);
        assert_eq!(merged[0].data, b"/x");
    }

    #[test]
    fn messages_of_a_call_are_told_apart() {
        let words = |words: [u64; 3]| words.map(u64::to_ne_bytes).concat();
        let to = [2, 0, 0, 53, 127, 0, 0, 1];
        let tail = [
            tlv(op::MESSAGE, 1, 0, 1, &words([50, 1, 50])),
            tlv(op::ADDR, 1, 0, 1, &to),
            tlv(op::MESSAGE, 1, 0, 1 | 1 << 1, &words([30, 2, 0])),
        ]
        .concat();
        let mut items = items(&tail);
        merge(&mut items);
        let mut messages = Vec::new();
        items.iter().for_each(|item| one_of_several(item, &mut messages));
        let addr = Some(SockAddr::Inet("127.0.0.1:53".parse().unwrap()));
        let all = [
            Message { bytes: 50, parts: 1, moved: 50, addr },
            Message { bytes: 30, parts: 2, moved: 0, addr: None },
        ];
        assert_eq!(messages, all);
        // A hostile index makes no list longer than there can be messages.
        one_of_several(&Item { head: Tlv { aux: u16::MAX, ..items[0].head }, data: &[] }, &mut messages);
        assert_eq!(messages.len(), 2);
    }

    #[test]
    fn an_address_that_a_bind_named_is_told_once() {
        let addr = |port: u16| SockAddr::Inet(([127, 0, 0, 1], port).into());
        let mut details = vec![Detail::Addr { arg: 1, addr: addr(0) }, Detail::Local { addr: addr(7) }];
        drop_named(&mut details);
        assert_eq!(details.len(), 2);
        details[0] = Detail::Addr { arg: 1, addr: addr(7) };
        drop_named(&mut details);
        assert_eq!(details, [Detail::Addr { arg: 1, addr: addr(7) }]);
    }

    #[test]
    fn events_of_epoll_are_packed_on_one_machine_only() {
        let entries = vec![EpollEntry { events: 1, data: 7 }, EpollEntry { events: 4, data: u64::MAX }];
        let word = |n: u64| n.to_ne_bytes();
        let tight = [&word(1)[..4], &word(7), &word(4)[..4], &word(u64::MAX)].concat();
        assert_eq!(epoll(&tight, &X86_64), entries);
        let loose = [word(1), word(7), word(4), word(u64::MAX)].concat();
        assert_eq!(epoll(&loose, &AARCH64), entries);
    }

    #[test]
    fn an_address_is_as_long_as_its_family_says() {
        for (name, len) in [
            (&b"\x02\0\x1f\x90\x7f\0\0\x01"[..], 16),
            (b"\x0a\0\x1f\x90", 28),
            (b"\x10\0", 12),
            (b"\x01\0/run/x", 8),
            (b"\x01\0\0abstract", 11),
            (b"\x63\0", 128),
        ] {
            let mut data = name.to_vec();
            data.resize(128, 0);
            let tail = tlv(op::ADDR, 4, 1, 0, &data);
            let mut item = items(&tail)[0];
            measure(&mut item);
            assert_eq!(item.data.len(), len, "{name:?}");
            // Of what nobody knows it is not said that it is complete.
            assert_eq!(item.head.fault, u16::from(len == 128));
        }
    }

    #[test]
    fn select_sets_become_poll_entries() {
        let asked = tlv(op::FDSET, 1, 0, 0, &[0b1001, 0, 0, 0, 0, 0, 0, 0]);
        let answered = tlv(op::FDSET, 1, 0, 1, &[0b1000, 0, 0, 0, 0, 0, 0, 0]);
        let sets = [items(&asked), items(&answered)].concat();
        let entries = select_sets(&sets);
        assert_eq!(entries[0], PollEntry { fd: 0, events: 1, revents: 0 });
        assert_eq!(entries[1], PollEntry { fd: 3, events: 1, revents: 1 });
    }
}
