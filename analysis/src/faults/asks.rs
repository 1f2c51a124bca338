//! Faults that are none of calls: as typed values, and why a replay cannot do them yet.

use super::moments::{self, Window};
use super::schema::BASES;
use super::tree::Node;

/// A fault that is none of calls.
#[derive(Debug, Clone, PartialEq)]
pub struct Other {
    /// The fault as a plan file has it.
    pub fault: Node,
    /// What it asks for.
    pub ask: Ask,
    /// Why a replay cannot do it; `None`: it can.
    pub why: Option<&'static str>,
}

/// What a fault asks for.
#[derive(Debug, Clone, PartialEq)]
pub enum Ask {
    /// Processes end, or stop.
    Process {
        /// Their role: a pattern.
        role: String,
        /// `kill`, `stop`, `restart`, `oom`.
        act: String,
        /// How long a stop lasts, ns.
        for_ns: Option<u64>,
        /// When, on the recording's clock, ns.
        at_ns: u64,
    },
    /// Clocks are wrong.
    Clock {
        /// How much later they are, ns.
        offset_ns: i64,
        /// Whose: a pattern.
        role: Option<String>,
        /// Which: `REALTIME`, …
        clocks: Vec<String>,
    },
    /// Something of the network that is none of calls: its key.
    Network(String),
    /// Another answer to questions for names.
    Answer(String),
    /// Resources are short: [`super::Plan::pressure`].
    Pressure,
}

/// Levels of pressure. What is not there is as recorded, or as it is.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Levels {
    /// CPU time.
    pub cpu: Option<Cpu>,
    /// Memory that is used in all, and how long it takes to get there, ns.
    pub memory: Option<Memory>,
    /// The disk.
    pub disk: Option<Disk>,
    /// Descriptors that a process may have.
    pub fds: Option<u64>,
    /// Tasks that there may be.
    pub pids: Option<u64>,
    /// When, on the recording's clock; `None`: all the time.
    pub window: Option<Window>,
}

/// A level of CPU time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Cpu {
    /// As in the recording.
    Recorded,
    /// Nothing may run in this share of the time, 0 to 1.
    Throttled(f64),
    /// So many CPUs may be used.
    Quota(f64),
    /// Neighbours take this share of each CPU, 0 to 1.
    Load(f64),
}

/// An amount of memory.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Amount {
    /// So many bytes.
    Bytes(u64),
    /// A share of the limit, 0 to 1.
    OfLimit(f64),
    /// A share of the node's memory, 0 to 1.
    OfNode(f64),
}

/// A level of memory.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Memory {
    /// As in the recording.
    Recorded,
    /// As said.
    Level {
        /// Memory that is used in all.
        target: Option<Amount>,
        /// The limit.
        limit: Option<Amount>,
        /// How long it takes to get to the target, ns.
        ramp_ns: u64,
    },
}

/// A level of the disk.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Disk {
    /// As in the recording.
    Recorded,
    /// As said.
    Level {
        /// Share that is used, 0 to 1.
        full: Option<f64>,
        /// Bytes a second that may be written.
        write_bps: Option<u64>,
        /// Bytes a second that may be read.
        read_bps: Option<u64>,
        /// How long it takes to flush, ns.
        fsync_ns: Option<u64>,
    },
}

fn time(node: &Node, key: &str) -> Option<u64> {
    moments::time(node.said(key)?).ok()
}

fn share(node: &Node, key: &str) -> Option<f64> {
    moments::share(node.said(key)?).ok()
}

fn bytes(node: &Node, key: &str) -> Option<u64> {
    moments::bytes(node.said(key)?).ok()
}

fn amount(node: &Node, key: &str) -> Option<Amount> {
    let text = node.said(key)?;
    let Some((number, base)) = text.split_once('%') else {
        return moments::bytes(text).ok().map(Amount::Bytes);
    };
    let share = moments::share(&text[..=number.len()]).ok()?;
    Some(if base.trim_start() == BASES[0] { Amount::OfLimit(share) } else { Amount::OfNode(share) })
}

impl Levels {
    /// Of a map that is as the table of keys has it.
    pub(super) fn of(node: &Node, window: Option<&str>) -> Self {
        let is_recorded = |key: &str| node.said(key).is_some();
        Self {
            cpu: node.get("cpu").and_then(|cpu| {
                let quota = || cpu.said("quota").and_then(|quota| quota.parse().ok()).map(Cpu::Quota);
                let level = share(cpu, "throttled").map(Cpu::Throttled).or_else(quota);
                let level = level.or_else(|| share(cpu, "load").map(Cpu::Load));
                if is_recorded("cpu") { Some(Cpu::Recorded) } else { level }
            }),
            memory: node.get("memory").map(|memory| {
                let level = Memory::Level {
                    target: amount(memory, "target"),
                    limit: amount(memory, "limit"),
                    ramp_ns: time(memory, "ramp").unwrap_or(0),
                };
                if is_recorded("memory") { Memory::Recorded } else { level }
            }),
            disk: node.get("disk").map(|disk| {
                let level = Disk::Level {
                    full: share(disk, "full"),
                    write_bps: bytes(disk, "write_bps"),
                    read_bps: bytes(disk, "read_bps"),
                    fsync_ns: time(disk, "fsync"),
                };
                if is_recorded("disk") { Disk::Recorded } else { level }
            }),
            fds: node.said("fds").and_then(|fds| fds.parse().ok()),
            pids: node.said("pids").and_then(|pids| pids.parse().ok()),
            window: window.and_then(|window| Window::parse(window).ok()),
        }
    }

    /// Why a replay cannot press to them.
    fn why(&self) -> Option<&'static str> {
        match self {
            Self { disk: Some(_), .. } => Some(
                "a replay's files are in memory: no disk of it can be made slow or full; inject ENOSPC, or delays, into write and fsync",
            ),
            Self { cpu: Some(Cpu::Quota(_)), .. } => Some(
                "a quota holds back a workload that uses more, and how much it would use is not known; say throttled: 60%",
            ),
            Self { fds: Some(_), .. } => Some(
                "a level of descriptors is not followed through a recording yet; inject EMFILE into the calls that make them",
            ),
            Self { pids: Some(_), .. } => Some(
                "a level of tasks is not followed through a recording yet; inject EAGAIN into clone, clone3 and fork",
            ),
            _ => None,
        }
    }
}

impl Other {
    /// A part of a fault, at its key.
    pub(super) fn new(fault: &Node, key: &'static str, part: Node, ask: Ask, why: &'static str) -> Self {
        let kept = fault.get("id").map(|id| ("id", id.clone())).into_iter().chain([(key, part)]);
        Self { fault: Node::map(kept), ask, why: Some(why) }
    }

    pub(super) fn pressure(fault: &Node, pressure: &Node, levels: &Levels) -> Self {
        Self { why: levels.why(), ..Self::new(fault, "pressure", pressure.clone(), Ask::Pressure, "") }
    }

    pub(super) fn process(fault: &Node, process: &Node) -> Self {
        let said = |key: &str| process.said(key).unwrap_or_default().to_owned();
        let ask = Ask::Process {
            role: said("role"),
            act: said("do"),
            for_ns: time(process, "for"),
            at_ns: time(process, "at").unwrap_or(0),
        };
        let why = "a replay cannot end or stop processes otherwise than recorded yet";
        Self::new(fault, "process", process.clone(), ask, why)
    }

    pub(super) fn clock(fault: &Node, clock: &Node) -> Self {
        let text = clock.said("offset").unwrap_or_default();
        let ns = moments::time(text.trim_start_matches(['-', '+'])).unwrap_or(0).cast_signed();
        let ask = Ask::Clock {
            offset_ns: if text.starts_with('-') { -ns } else { ns },
            role: clock.said("role").map(str::to_owned),
            clocks: clock
                .get("clocks")
                .map(Node::items)
                .unwrap_or_default()
                .iter()
                .filter_map(Node::scalar)
                .map(str::to_owned)
                .collect(),
        };
        let why = "a replay makes the calls that read clocks, and does not look at what they say: a wrong clock changes nothing in it";
        Self::new(fault, "time", clock.clone(), ask, why)
    }

    /// The fault in one line.
    pub fn text(&self) -> String {
        self.fault.json()
    }
}
