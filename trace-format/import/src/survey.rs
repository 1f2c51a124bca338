//! A look at the beginning of a log: whether it is one, how it tells who and when, and what it does not tell.

use crate::form::{self, Form};
use crate::leader::{Leader, Stamp};
use crate::lines::{Lines, MAX_LINE};
use crate::value::Value;
use crate::{decode, names, text};
use ctrace_format::syscalls::{self, Call, Family, Kind};
use ctrace_format::{Abi, Lack, Scope};
use rustc_hash::{FxBuildHasher, FxHashMap, FxHashSet};
use std::io::Cursor;

/// Bytes of each log that are looked at.
pub const SAMPLE: usize = 4 << 20;

/// How a log tells the time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Times {
    /// Not at all.
    #[default]
    None,
    /// The pause since the line before (`-r`).
    Relative,
    /// By the time of day (`-t`, `-tt`); the day is not known.
    Day,
    /// Since the epoch (`-ttt`).
    Epoch,
}

/// What is known of logs before they are read.
#[expect(clippy::struct_excessive_bools, reason = "each is something that a log tells or does not")]
#[derive(Debug, Clone)]
pub struct Survey {
    /// The thread of lines that name none.
    pub(crate) main: u32,
    /// How the time is told.
    pub times: Times,
    /// Digits behind its point.
    pub digits: u8,
    /// The earliest time.
    pub(crate) start_ns: u64,
    /// Calls say how long they took (`-T`).
    pub durations: bool,
    /// Lines say whose they are, or each thread has a log of its own.
    pub tids: bool,
    /// They do so as on a terminal: what the program prints may lie between them.
    pub(crate) bracketed: bool,
    /// Descriptors are decorated with paths (`-y`) and with sockets (`-yy`).
    pub paths: bool,
    /// See [`Self::paths`].
    pub sockets: bool,
    /// The log begins with the execution of this program.
    pub command: Option<Vec<Vec<u8>>>,
    /// The machine: x86-64, until a call says otherwise.
    pub(crate) abi: Abi,
    /// Calls that end a task are there, and no line that tells of its end (`-qq`).
    pub(crate) quiet: bool,
    /// Processes of threads, as their calls say.
    processes: FxHashMap<u32, u32>,
    facts: Facts,
}

/// What was counted.
#[derive(Debug, Clone)]
struct Facts {
    calls: u64,
    executed: u64,
    loads: u64,
    children: u64,
    strings: u64,
    addresses: u64,
    several: bool,
    /// Tasks that nobody in the log has made.
    roots: usize,
}

/// Why a file is no log that can be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// What it is instead, or lacks.
    pub why: String,
    /// Its first line, as far as that is text.
    pub first_line: String,
    /// What helps.
    pub fix: Option<&'static str>,
}

/// The beginning of a log.
#[derive(Debug, Clone, Copy)]
pub struct Sample<'a> {
    /// At most [`SAMPLE`] bytes.
    pub bytes: &'a [u8],
    /// Its thread, by the name of its file (`strace -ff`).
    pub tid: Option<u32>,
}

impl Survey {
    const fn new() -> Self {
        Self {
            main: 1,
            times: Times::None,
            digits: 0,
            start_ns: u64::MAX,
            durations: false,
            tids: false,
            bracketed: false,
            paths: false,
            sockets: false,
            command: None,
            abi: Abi::X86_64,
            quiet: false,
            processes: FxHashMap::with_hasher(FxBuildHasher),
            facts: Facts {
                calls: 0,
                executed: 0,
                loads: 0,
                children: 0,
                strings: 0,
                addresses: 0,
                several: false,
                roots: 0,
            },
        }
    }

    /// The machine whose table of calls the log is of.
    pub fn abi(&self) -> Abi {
        self.abi
    }

    /// Looks at the beginnings of logs.
    ///
    /// # Errors
    /// When one of them is no log of strace's.
    pub fn take(samples: &[Sample<'_>]) -> Result<Self, Box<Refused>> {
        let mut this = Self::new();
        let mut seen = Seen::default();
        for sample in samples {
            let before = this.facts.calls;
            this.look(sample, &mut seen);
            if this.facts.calls == before && seen.ends + seen.signals == 0 {
                return Err(Box::new(refused(sample.bytes)));
            }
        }
        this.facts.several = samples.len() > 1;
        this.tids |= samples.len() > 1;
        if this.start_ns == u64::MAX {
            this.start_ns = 0;
        }
        this.main = seen.main(samples);
        this.quiet = seen.exits > 0 && seen.ends == 0;
        this.facts.roots = seen.roots(samples);
        Ok(this)
    }

    fn look(&mut self, sample: &Sample<'_>, seen: &mut Seen) {
        let mut lines = Lines::new(Cursor::new(sample.bytes));
        // The memory that a cursor reads from does not fail.
        while let Ok(Some(line)) = lines.next() {
            let leader = Leader::read(line.text);
            let form = form::form(leader.rest);
            if matches!(form, Form::Bad(_) | Form::Empty | Form::Remark) {
                continue;
            }
            if let Form::Call(call) = &form
                && !is_call(call.name)
            {
                continue;
            }
            if let Some(stamp) = leader.stamp {
                let (times, ns) = match stamp {
                    Stamp::Epoch(ns) => (Times::Epoch, ns),
                    Stamp::Day(ns) => (Times::Day, ns),
                    Stamp::Since(_) => (Times::Relative, 0),
                };
                if self.times == Times::None {
                    self.times = times;
                    self.digits = leader.digits;
                }
                if times == self.times && (!seen.any || sample.tid.is_some()) {
                    self.start_ns = self.start_ns.min(ns);
                }
            }
            seen.any = true;
            self.tids |= leader.tid.is_some();
            self.bracketed |= leader.bracketed;
            match form {
                Form::Call(call) => self.call(&call, leader.tid.or(sample.tid), seen),
                Form::Unfinished(text) => {
                    let len = text.iter().position(|b| *b == b'(').unwrap_or(0);
                    if is_call(&text[..len]) {
                        self.facts.calls += 1;
                    }
                }
                Form::Resumed { .. } => self.facts.calls += 1,
                Form::Attached(tid) => {
                    seen.children.insert(tid);
                }
                Form::Exited(_) | Form::Killed { .. } => seen.ends += 1,
                Form::Signal { .. } => seen.signals += 1,
                _ => {}
            }
            seen.tid(leader.tid);
        }
    }

    fn call(&mut self, call: &form::CallText<'_>, tid: Option<u32>, seen: &mut Seen) {
        self.facts.calls += 1;
        self.durations |= call.duration_ns.is_some();
        let name = std::str::from_utf8(call.name).unwrap_or_default();
        let known = Call::named(name);
        let row = known.row();
        let Some(outcome) = decode::outcome(call.result) else { return };
        if row.family == Family::Clone
            && let Some(child) = outcome.ret.filter(|child| *child > 0).and_then(|c| u32::try_from(c).ok())
        {
            self.facts.children += 1;
            seen.children.insert(child);
        }
        if matches!(known, Call::Brk | Call::Mmap | Call::ArchPrctl) {
            self.facts.loads += 1;
        }
        if matches!(known, Call::Getpid | Call::Gettid | Call::SetTidAddress) && seen.own.is_none() {
            seen.own = outcome.ret.and_then(|ret| u32::try_from(ret).ok()).filter(|_| tid.is_none());
        }
        if row.family == Family::Exit {
            seen.exits += 1;
        }
        match (known, tid, outcome.ret.map(u32::try_from)) {
            (Call::Getpid, Some(tid), Some(Ok(pid))) => drop(self.processes.insert(tid, pid)),
            (Call::Tgkill, ..) => {
                let number = |at: usize| {
                    let text = call.args.get(at)?;
                    u32::try_from(Value::read(text, &names::number).number()?).ok()
                };
                if let (Some(pid), Some(tid)) = (number(0), number(1)) {
                    self.processes.insert(tid, pid);
                }
            }
            _ => {}
        }
        if row.family == Family::Exec && outcome.succeeded() {
            self.facts.executed += 1;
            if self.facts.calls == 1 {
                self.command = Some(words(call));
            }
        }
        for (text, (_, kind)) in call.args.iter().zip(row.args.unwrap_or_default()) {
            match kind {
                Kind::Fd | Kind::DirFd => {
                    if let Value::About(_, about) = Value::read(text, &names::number) {
                        self.paths = true;
                        self.sockets |= is_detailed(about);
                    }
                }
                Kind::Path if text.first() == Some(&b'"') => self.facts.strings += 1,
                Kind::Path if text.starts_with(b"0x") => self.facts.addresses += 1,
                _ => {}
            }
        }
    }

    /// The name of a thread that is met for the first time.
    pub(crate) fn comm(&self, tid: u32) -> &[u8] {
        // The child of strace that becomes the command has strace's name until then.
        if tid == self.main && self.command.is_some() { b"strace" } else { b"" }
    }

    /// The process of a thread that nobody in the log has made. `strace -f -p PID` attaches to the threads of one process:
    /// those that do not say whose they are belong to that.
    pub(crate) fn process_of(&self, tid: u32) -> u32 {
        match self.processes.get(&tid) {
            Some(process) => *process,
            None if self.command.is_none() => self.processes.get(&self.main).copied().unwrap_or(self.main),
            None => tid,
        }
    }

    /// Whether a line that cannot be read is none of strace's: the program's own words, on the same terminal.
    pub(crate) fn is_foreign(&self, line: &[u8]) -> bool {
        const OWN: [&[u8]; 4] = [b") = ", b" resumed>", b"<unfinished ...", b"+++ "];
        if self.tids && !self.bracketed {
            return false;
        }
        let len = line.iter().take(64).position(|b| *b == b'(').unwrap_or(0);
        !is_call(&line[..len]) && !OWN.iter().any(|own| text::find(line, own).is_some())
    }

    /// The scope of the trace.
    pub fn scope(&self) -> Scope {
        match &self.command {
            Some(argv) => {
                let argv = argv.iter().map(|word| String::from_utf8_lossy(word).into_owned()).collect();
                Scope::Command { argv }
            }
            None => Scope::Pid { pid: self.main },
        }
    }

    /// When the trace began, ns since the epoch; 0: not known. A time of day is one of the first day of the epoch.
    pub fn start_realtime_ns(&self) -> u64 {
        match self.times {
            Times::Epoch | Times::Day => self.start_ns,
            Times::None | Times::Relative => 0,
        }
    }

    /// Whether times are of whole seconds.
    pub(crate) fn is_coarse(&self) -> bool {
        matches!(self.times, Times::Day | Times::Epoch) && self.digits == 0
    }

    /// Length of a tick, ns: what strace prints is no finer.
    pub fn tick_ns(&self) -> u32 {
        if self.digits > 6 { 1 } else { 1_000 }
    }

    /// What the logs lack as a whole, with the option that would have told it.
    pub fn lacks(&self) -> Vec<(Lack, &'static str)> {
        let facts = &self.facts;
        let mut lacks = vec![(
            Lack::Pace,
            "strace stopped the program at each call, which makes it slower: times are those of a traced run",
        )];
        if self.times == Times::None {
            lacks.push((Lack::Times, "the log has no times (strace -ttt tells them); its order is kept"));
        } else if self.is_coarse() {
            lacks.push((
                Lack::Times,
                "the log has whole seconds only (strace -ttt tells more); its order is kept",
            ));
        }
        if !self.durations {
            lacks.push((
                Lack::Durations,
                "the log does not say how long calls took (strace -T tells it), but where other lines came in between",
            ));
        }
        if facts.several && (self.is_coarse() || matches!(self.times, Times::None | Times::Relative)) {
            lacks.push((
                Lack::Order,
                "several logs have no common time (strace -ff with -ttt tells it): which of two tasks was first is not known",
            ));
        }
        if facts.children > 0 && !self.tids {
            lacks
                .push((Lack::Children, "the log is of one task, which made others (strace -f follows them)"));
        }
        if facts.executed > 0 && facts.loads == 0 && facts.calls > 1 {
            lacks.push((
                Lack::Calls,
                "strace was told to leave calls out (-e): a program loads its libraries at least",
            ));
        }
        if facts.addresses > 0 && facts.strings == 0 {
            lacks.push((
                Lack::Arguments,
                "arguments are raw (-e raw): names and structures are not in the log",
            ));
        }
        lacks
    }

    /// The blind spots of the trace, as its header has them.
    pub fn blind(&self) -> Vec<String> {
        let mut blind: Vec<String> = self.lacks().into_iter().map(|(lack, why)| lack.because(why)).collect();
        match self.times {
            Times::Day => blind.push("date: the log has times of day; the day is not known".into()),
            Times::Relative => blind.push("date: the log has pauses only; when it began is not known".into()),
            _ => {}
        }
        if self.command.is_none() && self.facts.roots > 1 {
            blind.push(
                "processes: which of the tasks that were there before belong together is told by some of their calls only; \
                 the others are taken for threads of one process"
                    .into(),
            );
        }
        if !self.paths {
            blind.push(
                "descriptors: the log does not say what lies behind them (strace -yy does); followed from its own calls"
                    .into(),
            );
        } else if !self.sockets {
            blind.push(
                "addresses: the log does not say who sockets are connected to (strace -yy does), but in their own calls"
                    .into(),
            );
        }
        blind.extend(
            [
                "scheduler: when tasks ran, and waited for a CPU, is not in a log of strace",
                "connections: states, round trips and retransmissions of sockets are not in a log of strace",
                "resources: CPU, memory and pressure are not in a log of strace",
                "disks: requests of block devices are not in a log of strace",
                "names: what was asked of name servers is not imported",
                "payload: contents of reads and writes are not imported",
                "vdso: clock reads without a system call are not seen",
                "io_uring: work submitted through rings is not seen",
                "mmap I/O: loads and stores to mapped files are not seen",
                "start: what was open when the log began is not told",
            ]
            .map(str::to_owned),
        );
        blind
    }
}

/// Threads of the sampled lines.
#[derive(Debug, Default)]
struct Seen {
    any: bool,
    ends: u64,
    exits: u64,
    signals: u64,
    first: Option<u32>,
    children: FxHashSet<u32>,
    tids: Vec<u32>,
    own: Option<u32>,
}

impl Seen {
    fn tid(&mut self, tid: Option<u32>) {
        const MANY: usize = 1024;
        if let Some(tid) = tid {
            self.first.get_or_insert(tid);
            if self.tids.len() < MANY && self.tids.last() != Some(&tid) {
                self.tids.push(tid);
            }
        }
    }

    /// How many of the threads nobody has made.
    fn roots(&self, samples: &[Sample<'_>]) -> usize {
        let logs = samples.iter().filter_map(|sample| sample.tid);
        let named: FxHashSet<u32> = logs.chain(self.tids.iter().copied()).collect();
        named.difference(&self.children).count()
    }

    /// The thread of lines that name none: of those that are named one that nobody made, or what a call told it of itself.
    fn main(&self, samples: &[Sample<'_>]) -> u32 {
        let logs = samples.iter().filter_map(|sample| sample.tid);
        let named = logs.chain(self.tids.iter().copied());
        // The first thread of a process has the lowest id of them, unless ids have begun anew meanwhile.
        let parentless = named.filter(|tid| !self.children.contains(tid)).min();
        parentless.or(self.own).or(self.first).unwrap_or(1)
    }
}

/// Whether a decoration is one of `-yy`: `TCP:[…]`, `UNIX-STREAM:[…]`, `/dev/null<char 1:3>`.
fn is_detailed(about: &[u8]) -> bool {
    let protocol = text::find(about, b":[").map(|len| &about[..len]);
    let is_protocol =
        |name: &[u8]| name.iter().all(|b| b.is_ascii_uppercase() || matches!(b, b'-' | b'v' | b'6'));
    protocol.is_some_and(is_protocol) || about.starts_with(b"/") && about.ends_with(b">")
}

fn words(call: &form::CallText<'_>) -> Vec<Vec<u8>> {
    let lists = call.args.iter().map(|text| Value::read(text, &names::number));
    let list = lists.into_iter().find_map(|value| match value {
        Value::List { parts, .. } => Some(parts),
        _ => None,
    });
    let texts = list.unwrap_or_default();
    texts
        .iter()
        .map(|part| match part {
            Value::Text { escaped, .. } => text::unescape(escaped),
            _ => Vec::new(),
        })
        .collect()
}

/// Whether a call has this name on any machine.
pub(crate) fn is_call(name: &[u8]) -> bool {
    let Ok(name) = std::str::from_utf8(name) else { return false };
    if name.is_empty() {
        return false;
    }
    name.starts_with("syscall_0x")
        || [Abi::X86_64, Abi::I386, Abi::Aarch64, Abi::Arm]
            .into_iter()
            .any(|abi| syscalls::number(abi, name).is_some())
}

/// How to unpack what begins with the mark of another packer.
fn packed(bytes: &[u8]) -> Option<&'static str> {
    const PACKERS: [(&[u8], &str); 4] = [
        (b"\xfd7zXZ\0", "unpack it first: xz -dc LOG | ctrace import - -o OUT.ctr"),
        (b"BZh", "unpack it first: bzip2 -dc LOG | ctrace import - -o OUT.ctr"),
        (b"\x04\x22\x4d\x18", "unpack it first: lz4 -dc LOG | ctrace import - -o OUT.ctr"),
        (b"PK\x03\x04", "unpack it first: unzip -p LOG | ctrace import - -o OUT.ctr"),
    ];
    PACKERS.iter().find(|(mark, _)| bytes.starts_with(mark)).map(|(_, fix)| *fix)
}

/// Whether no whole line is short enough to be read.
fn is_too_long(bytes: &[u8]) -> bool {
    let whole = bytes.iter().rposition(|b| *b == b'\n').map_or(bytes, |end| &bytes[..end]);
    whole.split(|b| *b == b'\n').all(|line| line.is_empty() || line.len() >= MAX_LINE)
}

fn refused(bytes: &[u8]) -> Refused {
    const SUMMARY: &[u8] = b"% time ";
    let first = bytes.split(|b| *b == b'\n').find(|line| !line.trim_ascii().is_empty()).unwrap_or_default();
    let shown = String::from_utf8_lossy(&first[..first.len().min(80)]).into_owned();
    let is_text = !bytes.iter().take(4096).any(|b| matches!(b, 0..=8 | 14..=26));
    let is_summary =
        bytes.split(|b| *b == b'\n').take(200).any(|line| line.trim_ascii_start().starts_with(SUMMARY));
    let (why, fix) = if bytes.iter().all(u8::is_ascii_whitespace) {
        ("it is empty", None)
    } else if bytes.starts_with(b"\x89CTR") {
        ("it is a trace of ctrace already", Some("give it to `ctrace info`, `diff` or `replay` as it is"))
    } else if is_summary {
        (
            "it is a summary (strace -c), which counts calls and has none of them",
            Some("record with strace -f -ttt -T -yy -o FILE, without -c (or with -C)"),
        )
    } else if let Some(fix) = packed(bytes) {
        ("it is packed in a way that ctrace does not unpack", Some(fix))
    } else if bytes.starts_with(b"\xff\xfe") || bytes.starts_with(b"\xfe\xff") {
        (
            "it is text in UTF-16",
            Some("convert it first: iconv -f UTF-16 -t UTF-8 LOG | ctrace import - -o OUT.ctr"),
        )
    } else if !is_text {
        ("it is no text", None)
    } else if is_too_long(bytes) {
        (
            "every line of it is longer than 1 MiB",
            Some("record with a smaller -s: strace -s 4096 prints enough"),
        )
    } else {
        (
            "no line of it is one that strace writes",
            Some("a log is what strace -f -ttt -T -yy -o FILE writes"),
        )
    };
    Refused { why: why.to_owned(), first_line: if is_text { shown } else { String::new() }, fix }
}
