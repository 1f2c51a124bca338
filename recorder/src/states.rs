//! What each thread of the scope is doing at a moment, above all those that do nothing: the call that a thread has been
//! in since before the recording began is seen by no program, and may be the incident. `/proc` tells of it.

use crate::arch::HOST;
use crate::clock;
use crate::in_flight::{self, CUT, UNREAD, item};
use crate::look::{self, Look, Looker, Seen, words};
use crate::proc;
use crate::snapshot::{self, UnderWay};
use crate::specs;
use crate::table::Thread;
use crate::unix_diag;
use crate::waits::{self, Wait, Waiting};
use ctrace_abi::{Call, MAX_ITEMS, Op, Spec, abi, call_flag, op, progress, spec_flag, when};
use ctrace_format::{FdTarget, Sysno, syscalls};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;
use std::collections::{BTreeMap, BTreeSet};

/// What a thread is doing.
pub(crate) struct State {
    pub(crate) tid: u32,
    pub(crate) tgid: u32,
    /// The scheduler's letter.
    pub(crate) letter: u8,
    /// The function of the kernel that it sleeps in; empty: none, or not known.
    pub(crate) wchan: Vec<u8>,
    /// Since when, `CLOCK_BOOTTIME`.
    pub(crate) since_ns: Option<u64>,
    /// The call that it was in, where no program has seen its entry.
    pub(crate) entered: Option<Entered>,
}

/// A call whose entry no program has seen.
pub(crate) struct Entered {
    /// Its number, its arguments, and its time limit; instead of files, [`file`] of `objects`.
    pub(crate) call: Call,
    /// What its arguments point to, as the kernel half would have copied it.
    pub(crate) tail: Vec<u8>,
    /// What its descriptors refer to.
    pub(crate) objects: Vec<FdTarget>,
}

/// What stands for the address of the file that is `objects[index]`.
pub(crate) const fn file(index: usize) -> u64 {
    index as u64 + 1
}

/// The threads of the scope at a moment.
#[derive(Default)]
pub(crate) struct States {
    pub(crate) at_boottime_ns: u64,
    pub(crate) threads: Vec<State>,
    /// Who waits for whom.
    pub(crate) waits: Vec<Wait>,
}

/// Threads that are looked at at once.
const AT_ONCE: usize = 256;

/// Looks at all threads, and at the calls that they are in. `step` is called often: it takes its time where there are many.
pub(crate) fn take(threads: &[Thread], at_boottime_ns: u64, looker: &Looker, step: &dyn Fn()) -> States {
    let mut states = Vec::with_capacity(threads.len());
    let mut unswitched = Vec::new();
    let mut waiting = Vec::new();
    let mut peers = None;
    for threads in threads.chunks(AT_ONCE) {
        step();
        let looks: Vec<Look> = threads.iter().flat_map(looks).collect();
        let mut seen = looker.look_at(&looks).into_iter();
        for thread in threads {
            let (about, called) = (seen.next(), seen.next());
            let known = |seen: Option<Seen>| seen.and_then(Seen::known).unwrap_or_default();
            let Some((mut state, asleep)) = state(thread, &known(about)) else { continue };
            unswitched.extend(asleep.map(|(cpu, last_ran_ns)| Unswitched {
                index: states.len(),
                cpu,
                last_ran_ns,
            }));
            // A thread that has made no call yet makes its first one now.
            let unseen = thread.busy == progress::UNSEEN && thread.fresh == 0;
            if let Some(under_way) = snapshot::under_way(&known(called)).filter(|_| unseen) {
                let peers = peers.get_or_insert_with(unix_diag::peers);
                state.entered = Some(enter(state.tgid, state.tid, &under_way, peers, looker));
            }
            let call = match &state.entered {
                Some(entered) => Some(&entered.call),
                None => Some(&thread.call).filter(|_| thread.busy == progress::IN_CALL),
            };
            let sleeps = call.filter(|call| call.abi == abi::NATIVE && state.letter != b'R');
            if let Some(call) = sleeps
                && let Some(name) = syscalls::name(Sysno { abi: HOST.native, nr: call.nr })
            {
                waiting.push(Waiting { tid: state.tid, tgid: state.tgid, name, args: call.args });
            }
            states.push(state);
        }
    }
    since(&mut states, &unswitched);
    let scope: Vec<(u32, u32)> = states.iter().map(|state| (state.tgid, state.tid)).collect();
    let waits = waits::find(&waiting, &scope, looker, step);
    States { at_boottime_ns, threads: states, waits }
}

/// States alone, of threads that may be in any call: how it was when the recording began.
pub(crate) fn at_start(tids: &[(u32, u32)], at_boottime_ns: u64, looker: &Looker) -> States {
    let looks: Vec<Look> = tids.iter().map(|(tgid, tid)| Look::Thread { tgid: *tgid, tid: *tid }).collect();
    let (mut states, mut unswitched) = (Vec::new(), Vec::new());
    for ((tgid, tid), seen) in tids.iter().zip(looker.look_at(&looks)) {
        let call = Call { tgid: *tgid, tid: *tid, ..Call::default() };
        let thread = Thread { call, busy: progress::UNSEEN, fresh: 0, out_ns: 0, woken_ns: 0, on_ns: 0 };
        let Some((state, asleep)) = seen.known().and_then(|seen| state(&thread, &seen)) else { continue };
        unswitched.extend(asleep.map(|(cpu, last_ran_ns)| Unswitched {
            index: states.len(),
            cpu,
            last_ran_ns,
        }));
        states.push(state);
    }
    since(&mut states, &unswitched);
    States { at_boottime_ns, threads: states, waits: Vec::new() }
}

fn looks(thread: &Thread) -> [Look; 2] {
    let (tgid, tid) = (thread.call.tgid, thread.call.tid);
    [Look::Thread { tgid, tid }, Look::Call { tgid, tid }]
}

/// From the answer to [`Look::Thread`]; `None`: it is gone. With it, of a thread that was not switched while the recording
/// went on, where and when it ran last.
fn state(thread: &Thread, answer: &[u8]) -> Option<(State, Option<(u32, u64)>)> {
    let (tgid, tid) = (thread.call.tgid, thread.call.tid);
    let seen = look::Thread::read(answer)?;
    let stat = proc::parse_stat(seen.stat).filter(|stat| !stat.exiting)?;
    let letter = stat.letter;
    // "0": it sleeps in nothing, or that is not for us.
    let wchan = seen.wchan.trim_ascii().to_vec();
    let wchan = if wchan == b"0" || letter == b'R' { Vec::new() } else { wchan };
    let asleep = letter != b'R';
    let since_ns = match (thread.out_ns, thread.woken_ns, thread.on_ns) {
        (0, _, on_ns) if !asleep && on_ns > 0 => Some(on_ns),
        (out_ns, 0, _) if asleep && out_ns > 0 => Some(out_ns),
        (out_ns, woken_ns, _) if !asleep && out_ns > 0 && woken_ns > 0 => Some(woken_ns),
        _ => None,
    };
    let unswitched = asleep && thread.out_ns == 0 && thread.on_ns == 0;
    let last_ran = last_ran_ns(seen.sched).filter(|_| unswitched).map(|ns| (stat.cpu, ns));
    Some((State { tid, tgid, letter, wchan, since_ns, entered: None }, last_ran))
}

/// A thread that was not switched while the recording went on.
struct Unswitched {
    /// Which of the states it is.
    index: usize,
    /// Where it ran last, and when by the scheduler's clock of that CPU.
    cpu: u32,
    last_ran_ns: u64,
}

/// Tells of such threads since when they sleep: nobody but the scheduler knows.
fn since(states: &mut [State], unswitched: &[Unswitched]) {
    let cpus: BTreeSet<u32> = unswitched.iter().map(|thread| thread.cpu).collect();
    if cpus.is_empty() {
        return;
    }
    // A thread of its own may go where it likes.
    let behind = std::thread::scope(|scope| {
        let ask = || cpus.iter().filter_map(|cpu| Some((*cpu, behind_ns(*cpu)?))).collect();
        scope.spawn(ask).join().unwrap_or_else(|_| BTreeMap::new())
    });
    for thread in unswitched {
        let state = states.get_mut(thread.index);
        if let (Some(state), Some(behind_ns)) = (state, behind.get(&thread.cpu)) {
            state.since_ns = Some(thread.last_ran_ns + behind_ns);
        }
    }
}

/// How far a CPU's clock of the scheduler, which does not count interrupts, is behind `CLOCK_BOOTTIME`: by the time at
/// which this thread was accounted for last, there and just now.
fn behind_ns(cpu: u32) -> Option<u64> {
    let mut cpus = CpuSet::new();
    cpus.set(cpu as usize).ok()?;
    sched_setaffinity(Pid::from_raw(0), &cpus).ok()?;
    std::thread::yield_now();
    let sched = std::fs::read("/proc/thread-self/sched").ok()?;
    clock::boottime_ns().checked_sub(last_ran_ns(&sched)?)
}

/// `se.exec_start` in `/proc/TID/sched`, milliseconds with six decimals. 0 after a migration: not known.
fn last_ran_ns(sched: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(sched).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("se.exec_start"))?;
    let (ms, ns) = line.trim_start_matches([' ', ':']).split_once('.')?;
    let ns: u64 = ms.parse::<u64>().ok()?.checked_mul(1_000_000)?.checked_add(ns.trim().parse().ok()?)?;
    (ns > 0).then_some(ns)
}

/// Describes a call as the kernel half would have.
fn enter(tgid: u32, tid: u32, under_way: &UnderWay, peers: &BTreeMap<u64, u64>, looker: &Looker) -> Entered {
    // No program of 64 bits has its stack there: mmap_min_addr aside, it lies at the top or where mmap puts it.
    let narrow = under_way.stack < 1 << 32;
    let (nr, how) = match HOST.without_x32(under_way.nr) {
        _ if narrow => (under_way.nr, abi::COMPAT),
        Some(nr) => (nr, abi::X32),
        None => (under_way.nr, abi::NATIVE),
    };
    let flags = call_flag::NO_ENTER | call_flag::NO_EXIT;
    let mut call = Call { tid, tgid, nr, abi: how, flags, args: under_way.args, ..Call::default() };
    let mut objects = Vec::new();
    let mut tail = Vec::new();
    let Some(spec) = specs::of(Sysno { abi: HOST.table(how), nr }, HOST) else {
        return Entered { call, tail, objects };
    };
    let mut object = |arg: u8| {
        let fd = u32::try_from(call.args[usize::from(arg)] as i32).ok()?;
        objects.push(snapshot::descriptor(tgid, fd, peers, looker)?.target);
        Some(file(objects.len() - 1))
    };
    if spec.flags & spec_flag::FD != 0 {
        call.file = object(spec.fd_arg).unwrap_or(0);
    }
    let memory = Memory { tid, looker };
    for op in &spec.ops[..usize::from(spec.ops_len)] {
        if op.op == op::OBJECT {
            if let Some(number) = object(op.arg) {
                tail.extend(item(op::OBJECT, op.arg, 0, 0, &number.to_ne_bytes()));
            }
        } else if op.op == op::POLL {
            let seen = in_flight::look(&call).map(|look| looker.look_at(&[look]).pop());
            tail.extend(seen.flatten().map(|seen| in_flight::descriptors(&call, seen)).unwrap_or_default());
        } else if op.when == when::ENTRY {
            tail.extend(memory.item(*op, &call.args));
        }
    }
    if let Some(ns) = memory.time(&spec, &call.args) {
        call.time_ns = ns;
        call.flags |= call_flag::HAS_TIME;
    }
    Entered { call, tail, objects }
}

/// The memory of a thread that sits in a call: as it was when it made the call, but for what the call writes.
struct Memory<'a> {
    tid: u32,
    looker: &'a Looker,
}

impl Memory<'_> {
    fn read(&self, base: u64, len: usize) -> Option<Vec<u8>> {
        let look = Look::Memory { tid: self.tid, base, len: len as u32 };
        self.looker.look_at(&[look]).pop()?.known()
    }

    /// A string, without its NUL: as far as it can be read, and whether that is all of it.
    fn string(&self, base: u64) -> Option<(Vec<u8>, bool)> {
        /// `PATH_MAX`, include/uapi/linux/limits.h.
        const MAX: usize = 4096;
        const PAGE: u64 = 4096;
        let mut string = Vec::new();
        while string.len() < MAX {
            let at = base.checked_add(string.len() as u64)?;
            // What lies in one page can be read, or none of it.
            let part = self.read(at, (PAGE - at % PAGE) as usize);
            let Some(part) = part else { break };
            match part.iter().position(|byte| *byte == 0) {
                Some(end) => {
                    string.extend_from_slice(&part[..end]);
                    return Some((string, true));
                }
                None => string.extend(part),
            }
        }
        (!string.is_empty()).then_some((string, false))
    }

    /// What the kernel half copies at the entry of a call, of the kinds that a call may wait with.
    fn item(&self, what: Op, args: &[u64; 6]) -> Vec<u8> {
        let argument = |index: u8| args.get(usize::from(index)).copied().unwrap_or(0);
        let base = argument(what.arg);
        if base == 0 {
            return Vec::new();
        }
        let plain = |len: usize| (self.read(base, len), 0);
        let (data, fault) = match what.op {
            op::STR => match self.string(base) {
                Some((string, whole)) => (Some(string), if whole { 0 } else { CUT }),
                None => (None, 0),
            },
            // sizeof(struct sockaddr_storage).
            op::ADDR => plain((argument(what.len) as usize).min(128)),
            op::BYTES => plain(usize::from(what.size)),
            op::FDSET => plain((args[0] as usize).min(1024).div_ceil(64) * 8),
            op::IOV => {
                let count = argument(what.len);
                let some = (count as usize).min(MAX_ITEMS);
                let vector = self.read(base, some * 16);
                let bytes = vector.map(|vector| vector.chunks_exact(16).filter_map(length).sum::<u64>());
                let data = bytes.map(|bytes| [bytes.to_ne_bytes(), count.to_ne_bytes()].concat());
                (data, if some as u64 == count { 0 } else { CUT })
            }
            // Rooms for what comes.
            op::PEEK | op::CREDS | op::MOVES | op::UNBOUND | op::LOCAL => return Vec::new(),
            // Not told: the call is marked as one of which something is missing.
            _ => (None, 0),
        };
        match data {
            Some(data) => item(what.op, what.arg, fault, 0, &data),
            None => item(what.op, what.arg, UNREAD, 0, &[]),
        }
    }

    /// The time limit of a call.
    fn time(&self, spec: &Spec, args: &[u64; 6]) -> Option<u64> {
        let base = *args.get(usize::from(spec.time_arg))?;
        if spec.flags & spec_flag::TIME == 0 || base == 0 {
            return None;
        }
        let [seconds, rest] = words(&self.read(base, 16)?)?;
        // A `timeval` has microseconds.
        let ns = if spec.time_kind == 1 { rest.checked_mul(1_000)? } else { rest };
        seconds.checked_mul(1_000_000_000)?.checked_add(ns)
    }
}

/// `iov_len` of a `struct iovec`.
fn length(vector: &[u8]) -> Option<u64> {
    let [_, len] = words(vector)?;
    Some(len)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsRawFd as _;

    #[test]
    fn the_last_time_that_a_thread_ran_is_told_in_milliseconds() {
        let text = b"cat (7, #threads: 1)\n---\nse.exec_start   :      25946581.023063\nse.vruntime : 1.2\n";
        assert_eq!(last_ran_ns(text), Some(25_946_581_023_063));
        assert_eq!(last_ran_ns(b"se.exec_start : 0.000000\n"), None);
        assert_eq!(last_ran_ns(b""), None);
    }

    #[test]
    fn a_call_that_is_under_way_is_described_from_its_registers_and_memory() {
        let looker = Looker::start().unwrap();
        let tgid = std::process::id();
        let file = std::fs::File::open(std::env::current_exe().unwrap()).unwrap();
        let limit = libc::timespec { tv_sec: 3, tv_nsec: 5 };
        let polled = [libc::pollfd { fd: 7, events: 1, revents: 0 }];
        let describe = |name, args| {
            let under_way = UnderWay { nr: HOST.number(name), args, stack: 1 << 40 };
            enter(tgid, tgid, &under_way, &BTreeMap::new(), &looker)
        };
        let reads = describe("read", [file.as_raw_fd() as u64, 0, 9, 0, 0, 0]);
        assert_eq!(reads.call.file, super::file(0));
        assert!(matches!(&reads.objects[..], [FdTarget::File { ino, .. }] if *ino > 0));
        let polls = describe("ppoll", [polled.as_ptr() as u64, 1, (&raw const limit) as u64, 0, 0, 0]);
        assert_eq!((polls.call.time_ns, polls.call.flags & call_flag::HAS_TIME != 0), (3_000_000_005, true));
        let items = crate::details::items(&polls.tail);
        assert_eq!((items[0].head.op, items[0].data[0]), (op::POLL, 7));
        let path = c"/a/fifo";
        let opens = describe("openat", [(-100_i64) as u64, path.as_ptr() as u64, 0, 0, 0, 0]);
        let items = crate::details::items(&opens.tail);
        assert_eq!(
            (items[0].head.op, items[0].head.fault, items[0].data),
            (op::STR, 0, b"/a/fifo".as_slice())
        );
        let gone = describe("openat", [(-100_i64) as u64, 8, 0, 0, 0, 0]);
        assert_eq!(crate::details::items(&gone.tail)[0].head.fault, UNREAD);
    }
}
