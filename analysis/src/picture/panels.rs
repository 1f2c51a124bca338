//! The panels that calls and connections fill.

use super::calls::Group;
use super::quantiles::Quantiles;
use super::{Curve, Grid, Panel, PanelKind};
use crate::connects::Connected;
use crate::resets::{Reset, Resets};
use ctrace_format::errno::ECONNREFUSED;
use ctrace_format::{Aggregate, Connection, ConnectionKind, Dns, TcpState};

const GROUPS: usize = Group::ALL.len();

/// Calls and their durations, by class.
#[derive(Debug, Default)]
pub(super) struct Rates {
    counts: [Vec<f64>; GROUPS],
    durations: [Quantiles; GROUPS],
    /// Durations say nothing: none was recorded.
    any_duration: bool,
}

impl Rates {
    pub(super) fn call(&mut self, grid: &Grid, bin: usize, group: Group) {
        let counts = &mut self.counts[group as usize];
        if counts.is_empty() {
            *counts = vec![0.0; grid.bins];
        }
        counts[bin] += 1.0;
    }

    pub(super) fn duration(&mut self, grid: &Grid, bin: usize, group: Group, ns: u64) {
        self.any_duration |= ns > 0;
        self.durations[group as usize].add(grid.bins, bin, ns);
    }

    /// Calls that were counted: as many in every part of their stretch.
    pub(super) fn counted(&mut self, grid: &Grid, group: Group, a: &Aggregate) {
        let counts = &mut self.counts[group as usize];
        if counts.is_empty() {
            *counts = vec![0.0; grid.bins];
        }
        grid.spread(a.from_ns, a.t_ns, a.count as f64, counts);
        let (first, last) = (grid.bin(a.from_ns), grid.bin(a.t_ns));
        let parts = (last - first + 1) as u64;
        for (octave, n) in a.histogram.iter().enumerate().take(64).filter(|(_, n)| **n > 0) {
            // The middle of an octave.
            let ns = (1_u64 << octave).saturating_add((1_u64 << octave) / 2);
            self.any_duration = true;
            for part in 0..parts {
                let here = n / parts + u64::from(part < n % parts);
                if here > 0 {
                    self.durations[group as usize].add_all(grid.bins, first + part as usize, ns, here);
                }
            }
        }
    }

    pub(super) fn panels(&self, grid: &Grid) -> [Panel; 2] {
        let classes = || Group::ALL.iter().map(|group| (group.name(), *group as usize));
        let seen = classes().filter(|(_, at)| !self.counts[*at].is_empty());
        let calls: Vec<Curve> = seen.map(|(name, at)| grid.rate(name, &self.counts[at])).collect();
        let mut latency = Vec::new();
        for (name, at) in classes().filter(|(_, at)| self.any_duration && !self.durations[*at].is_empty()) {
            latency.push(self.durations[at].curve(format!("p50 {name}"), 500));
            latency.push(self.durations[at].curve(format!("p99 {name}"), 990));
        }
        let no_calls = "no calls were recorded";
        let why = if calls.is_empty() { no_calls } else { "the trace does not tell how long calls took" };
        [panel(PanelKind::Calls, calls, no_calls), panel(PanelKind::Latency, latency, why)]
    }
}

/// A panel, with the reason why it is empty if it is.
pub(super) fn panel(kind: PanelKind, series: Vec<Curve>, why: &str) -> Panel {
    let empty = series.is_empty().then(|| why.to_owned());
    Panel { kind, series, empty }
}

/// Connections opened, refused, reset, closed, timed out; round trips, retransmits, and name lookups.
#[derive(Debug)]
pub(super) struct Network {
    /// The kernel told of connections: then calls say nothing more.
    is_told: bool,
    /// In the order of [`EVENTS`].
    counts: [Vec<f64>; EVENTS.len()],
    resets: Resets,
    retransmits: Vec<f64>,
    round_trips: Quantiles,
    /// Of peers, and to clients.
    answers: [Quantiles; 2],
    lookups: Quantiles,
}

const EVENTS: [&str; 5] = ["opened", "refused", "reset", "timed out", "closed"];
const OPENED: usize = 0;
const REFUSED: usize = 1;
const RESET: usize = 2;
const TIMED_OUT: usize = 3;
const CLOSED: usize = 4;
const ETIMEDOUT: u16 = 110;
const ECONNRESET: u16 = 104;

impl Network {
    pub(super) fn new(is_told: bool) -> Self {
        Self {
            is_told,
            counts: Default::default(),
            resets: Resets::default(),
            retransmits: Vec::new(),
            round_trips: Quantiles::default(),
            answers: Default::default(),
            lookups: Quantiles::default(),
        }
    }

    fn count(&mut self, grid: &Grid, t_ns: u64, what: usize) {
        let counts = &mut self.counts[what];
        if counts.is_empty() {
            *counts = vec![0.0; grid.bins];
        }
        counts[grid.bin(t_ns)] += 1.0;
    }

    pub(super) fn connection(&mut self, grid: &Grid, change: &Connection) {
        let t_ns = change.t_ns;
        match self.resets.observe(change) {
            Some(Reset::Seen) => self.count(grid, t_ns, RESET),
            Some(Reset::Refused { seen_ns }) => self.counts[RESET][grid.bin(seen_ns)] -= 1.0,
            None => {}
        }
        match change.kind {
            ConnectionKind::State { error: ECONNREFUSED, .. } => self.count(grid, t_ns, REFUSED),
            ConnectionKind::State { error: ETIMEDOUT, new: TcpState::Close, .. } => {
                self.count(grid, t_ns, TIMED_OUT);
            }
            ConnectionKind::State { old, new: TcpState::Established, .. } if old != TcpState::Established => {
                self.count(grid, t_ns, OPENED);
            }
            ConnectionKind::Retransmit => {
                if self.retransmits.is_empty() {
                    self.retransmits = vec![0.0; grid.bins];
                }
                self.retransmits[grid.bin(t_ns)] += 1.0;
            }
            ConnectionKind::Closed { srtt_us, .. } => {
                self.count(grid, t_ns, CLOSED);
                self.round_trip(grid, t_ns, srtt_us);
            }
            ConnectionKind::Sample { srtt_us, .. } => self.round_trip(grid, t_ns, srtt_us),
            _ => {}
        }
    }

    fn round_trip(&mut self, grid: &Grid, t_ns: u64, srtt_us: u32) {
        if srtt_us > 0 {
            self.round_trips.add(grid.bins, grid.bin(t_ns), u64::from(srtt_us) * 1_000);
        }
    }

    /// An attempt to connect came to an end.
    pub(super) fn connected(&mut self, grid: &Grid, connected: &Connected) {
        if self.is_told {
            return;
        }
        let what = match connected.error {
            None => OPENED,
            Some(ECONNREFUSED) => REFUSED,
            Some(ETIMEDOUT) => TIMED_OUT,
            Some(ECONNRESET) => RESET,
            Some(_) => return,
        };
        self.count(grid, connected.end_ns(), what);
    }

    /// A call accepted a connection, or met a reset.
    pub(super) fn called(&mut self, grid: &Grid, t_ns: u64, is_accept: bool, errno: Option<u32>) {
        match errno {
            _ if self.is_told => {}
            None if is_accept => self.count(grid, t_ns, OPENED),
            Some(errno) if errno == u32::from(ECONNRESET) => self.count(grid, t_ns, RESET),
            _ => {}
        }
    }

    /// A peer answered, or this end did.
    pub(super) fn answer(&mut self, grid: &Grid, end_ns: u64, took_ns: u64, is_of_peer: bool) {
        self.answers[usize::from(!is_of_peer)].add(grid.bins, grid.bin(end_ns), took_ns);
    }

    pub(super) fn lookup(&mut self, grid: &Grid, dns: &Dns) {
        let end_ns = dns.t_ns.saturating_add(dns.duration_ns);
        self.lookups.add(grid.bins, grid.bin(end_ns), dns.duration_ns);
    }

    pub(super) fn panels(&self, grid: &Grid) -> [Panel; 2] {
        let seen = EVENTS.iter().zip(&self.counts).filter(|(_, counts)| !counts.is_empty());
        let connections: Vec<Curve> = seen.map(|(name, counts)| grid.rate(*name, counts)).collect();
        let mut network = Vec::new();
        for (answers, whose) in self.answers.iter().zip(["of peers", "to clients"]) {
            if !answers.is_empty() {
                network.push(answers.curve(format!("p50 answer {whose}"), 500));
                network.push(answers.curve(format!("p99 answer {whose}"), 990));
            }
        }
        if !self.round_trips.is_empty() {
            network.push(self.round_trips.curve("p50 round trip".to_owned(), 500));
            network.push(self.round_trips.longest("longest round trip".to_owned(), grid));
        }
        if !self.retransmits.is_empty() {
            network.push(grid.rate("retransmits", &self.retransmits));
        }
        if !self.lookups.is_empty() {
            network.push(self.lookups.longest("longest name lookup".to_owned(), grid));
        }
        let why = if self.is_told {
            "no round trip was measured, nothing was sent again, and no name was looked up"
        } else {
            "the trace has no events of TCP connections: round trips and retransmits are not known"
        };
        [
            panel(PanelKind::Connections, connections, "no connection was opened, refused, reset or closed"),
            panel(PanelKind::Network, network, why),
        ]
    }
}
