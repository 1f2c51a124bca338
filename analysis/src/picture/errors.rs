//! Calls that failed: a table, and the curves of the timeline.

use super::calls::{Calls, Info};
use super::{ErrorRow, Grid, Panel, PanelKind, Ranked};
use crate::findings::attempts;
use crate::findings::people::{People, RoleId};
use crate::findings::words;
use crate::overview::On;
use crate::overview::calls::{on, rank, says};
use crate::{EventId, picture::Curve};
use ctrace_format::syscalls::Failing;
use ctrace_format::{Detail, Object, ObjectId, Trace, errno};
use rustc_hash::FxHashMap;
use std::cmp::Reverse;

/// Kinds of failures that are told apart: there are about 500 calls and 133 errors.
const MAX_ROWS: usize = 4_096;
/// Their targets, of all kinds together.
const MAX_TARGETS: usize = 8_192;
const MAX_ROLES: usize = 64;
/// Errors that have a curve of their own in memory; more than a kernel has.
const MAX_CURVES: usize = 192;
/// Of those, how many are shown.
const CURVES: usize = 8;
/// Rows that are shown.
const SHOWN: usize = 200;
const NAMED: usize = 5;
const SPARKS: usize = 60;

#[derive(Debug)]
struct Row {
    name: &'static str,
    errno: u32,
    count: u64,
    /// Of those, failures by the policy.
    failures: u64,
    first_ns: u64,
    last_ns: u64,
    event: EventId,
    roles: FxHashMap<RoleId, u64>,
    spark: Box<[u32]>,
}

#[derive(Debug)]
struct Target {
    row: u32,
    count: u64,
    says: Failing,
}

#[derive(Debug, Default)]
struct Series {
    failures: u64,
    count: f64,
    bins: Vec<f64>,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Errors {
    rows: Vec<Row>,
    index: FxHashMap<(u32, u32), u32>,
    /// Kinds that found no room.
    unkept: u64,
    targets: Vec<Target>,
    by_target: FxHashMap<(u32, On), u32>,
    /// The target of a call that is about nothing but the object behind its descriptor.
    by_object: FxHashMap<(u32, Option<ObjectId>), u32>,
    curves: FxHashMap<u32, Series>,
}

/// A failure, or several that are alike.
#[derive(Debug, Clone, Copy)]
pub(super) struct Failure<'a> {
    pub(super) info: &'a Info,
    pub(super) errno: u32,
    pub(super) count: u64,
    pub(super) details: &'a [Detail],
    pub(super) object: Option<ObjectId>,
    pub(super) role: RoleId,
    /// When it began, and was over.
    pub(super) from_ns: u64,
    pub(super) to_ns: u64,
    pub(super) tid: u32,
}

/// What a failure says, and whether it is the first of its kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Told {
    pub(super) says: Failing,
    pub(super) nth: u64,
}

impl Errors {
    pub(super) fn add(&mut self, grid: &Grid, trace: &Trace, failure: &Failure<'_>) -> Told {
        let Failure { info, errno, count, role, from_ns, to_ns, tid, .. } = *failure;
        let Some(at) = self.row(grid, failure) else {
            self.unkept += count;
            let on = on(trace, failure.details, failure.object);
            let says = says(trace, info.name, errno, &on);
            self.curve(grid, failure, says);
            return Told { says, nth: u64::MAX };
        };
        let says = self.target(trace, at, failure);
        self.curve(grid, failure, says);
        let row = &mut self.rows[at as usize];
        let nth = row.count;
        if from_ns < row.first_ns {
            (row.first_ns, row.event) = (from_ns, EventId { end_ns: to_ns, tid });
        }
        row.last_ns = row.last_ns.max(from_ns);
        row.count += count;
        row.failures += if says == Failing::Failure { count } else { 0 };
        if row.roles.len() < MAX_ROLES || row.roles.contains_key(&role) {
            *row.roles.entry(role).or_default() += count;
        }
        let part = grid.bin(to_ns) * row.spark.len() / grid.bins;
        row.spark[part] = row.spark[part].saturating_add(u32::try_from(count).unwrap_or(u32::MAX));
        Told { says, nth }
    }

    fn row(&mut self, grid: &Grid, failure: &Failure<'_>) -> Option<u32> {
        let key = (failure.info.index, failure.errno);
        if let Some(at) = self.index.get(&key) {
            return Some(*at);
        }
        if self.rows.len() >= MAX_ROWS {
            return None;
        }
        let at = self.rows.len() as u32;
        self.rows.push(Row {
            name: failure.info.name,
            errno: failure.errno,
            count: 0,
            failures: 0,
            first_ns: u64::MAX,
            last_ns: 0,
            event: EventId { end_ns: failure.to_ns, tid: failure.tid },
            roles: FxHashMap::default(),
            spark: vec![0; SPARKS.min(grid.bins)].into(),
        });
        self.index.insert(key, at);
        Some(at)
    }

    fn target(&mut self, trace: &Trace, row: u32, failure: &Failure<'_>) -> Failing {
        let named = failure.details.iter().any(|d| matches!(d, Detail::Addr { .. } | Detail::Str { .. }));
        let by_object = (!named).then_some((row, failure.object));
        if let Some(at) = by_object.and_then(|key| self.by_object.get(&key)) {
            let target = &mut self.targets[*at as usize];
            target.count += failure.count;
            return target.says;
        }
        let on = on(trace, failure.details, failure.object);
        let at = match self.by_target.get(&(row, on.clone())) {
            Some(at) => *at,
            None if self.targets.len() >= MAX_TARGETS => {
                return says(trace, failure.info.name, failure.errno, &on);
            }
            None => {
                let says = says(trace, failure.info.name, failure.errno, &on);
                let at = self.targets.len() as u32;
                self.targets.push(Target { row, count: 0, says });
                self.by_target.insert((row, on), at);
                at
            }
        };
        if let Some(key) = by_object.filter(|_| self.by_object.len() < MAX_TARGETS) {
            self.by_object.insert(key, at);
        }
        let target = &mut self.targets[at as usize];
        target.count += failure.count;
        target.says
    }

    fn curve(&mut self, grid: &Grid, failure: &Failure<'_>, says: Failing) {
        let errno = failure.errno;
        let key = if self.curves.len() < MAX_CURVES || self.curves.contains_key(&errno) { errno } else { 0 };
        let series = self.curves.entry(key).or_default();
        if series.bins.is_empty() {
            series.bins = vec![0.0; grid.bins];
        }
        series.count += failure.count as f64;
        series.failures += if says == Failing::Failure { failure.count } else { 0 };
        // One failure is of one moment; those that were counted are of a stretch.
        let from_ns = if failure.count == 1 { failure.to_ns } else { failure.from_ns };
        grid.spread(from_ns, failure.to_ns, failure.count as f64, &mut series.bins);
    }

    /// The curves of the timeline, those that break things first.
    pub(super) fn panel(&self, grid: &Grid) -> Panel {
        let mut all: Vec<(&u32, &Series)> = self.curves.iter().collect();
        all.sort_by(|a, b| {
            let key =
                |(errno, s): &(&u32, &Series)| (**errno == 0, Reverse(s.failures), Reverse(s.count as u64));
            key(a).cmp(&key(b)).then(a.0.cmp(b.0))
        });
        let rest = all.split_off(all.len().min(CURVES));
        let mut series: Vec<Curve> =
            all.iter().map(|(errno, s)| grid.rate(errno_name(**errno), &s.bins)).collect();
        if !rest.is_empty() {
            let mut sum = vec![0.0; grid.bins];
            for (_, one) in rest {
                for (slot, n) in sum.iter_mut().zip(&one.bins) {
                    *slot += n;
                }
            }
            series.push(grid.rate("other", &sum));
        }
        let empty = series.is_empty().then(|| "no call failed".to_owned());
        Panel { kind: PanelKind::Errors, series, empty }
    }

    /// Failures by the policy, in all.
    pub(super) fn failures(&self) -> u64 {
        self.curves.values().map(|series| series.failures).sum()
    }

    /// Names of errors that were failures by the policy: the others say nothing about an incident.
    pub(super) fn telling(&self) -> Vec<String> {
        let telling = self.curves.iter().filter(|(_, series)| series.failures > 0);
        telling.map(|(errno, _)| errno_name(*errno)).collect()
    }

    /// The table.
    pub(super) fn table(self, calls: &Calls, people: &People, trace: &Trace) -> Ranked<ErrorRow> {
        let mut on: FxHashMap<u32, Vec<(&On, u64)>> = FxHashMap::default();
        for ((row, what), at) in &self.by_target {
            on.entry(*row).or_default().push((what, self.targets[*at as usize].count));
        }
        debug_assert!(self.by_target.iter().all(|((row, _), at)| self.targets[*at as usize].row == *row));
        let mut order: Vec<usize> = (0..self.rows.len()).collect();
        order.sort_by_key(|at| {
            let row = &self.rows[*at];
            (row.failures == 0, rank(row.name, row.errno), Reverse(row.count), row.name, row.errno)
        });
        let left_out = order.len().saturating_sub(SHOWN) as u64 + self.unkept;
        let shown = order.into_iter().take(SHOWN).map(|at| {
            let row = &self.rows[at];
            let mut named: FxHashMap<String, u64> = FxHashMap::default();
            for (what, count) in on.remove(&(at as u32)).unwrap_or_default() {
                *named.entry(text(what, trace)).or_default() += count;
            }
            named.remove("");
            let roles = row.roles.iter().map(|(role, n)| (people.role_name(*role).to_owned(), *n));
            ErrorRow {
                call: row.name.to_owned(),
                errno: errno_name(row.errno),
                meaning: meaning(row.errno),
                count: row.count,
                calls: calls.counted(row.name),
                failures: row.failures,
                first_ns: row.first_ns,
                last_ns: row.last_ns,
                on: commonest(named.into_iter().collect()),
                roles: commonest(roles.collect()),
                spark: row.spark.to_vec(),
                event: row.event,
            }
        });
        Ranked { rows: shown.collect(), left_out }
    }
}

fn commonest(mut all: Vec<(String, u64)>) -> Vec<(String, u64)> {
    all.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    all.truncate(NAMED);
    all
}

/// The name of an error, as people see it.
pub(super) fn errno_name(errno: u32) -> String {
    if errno == 0 {
        return "other".to_owned();
    }
    let known = errno::name(errno).or_else(|| errno::restart(errno));
    known.map_or_else(|| format!("errno {errno}"), str::to_owned)
}

fn meaning(errno: u32) -> String {
    if errno::restart(errno).is_some() {
        return "a signal interrupted it, and it is made again".to_owned();
    }
    let said = u16::try_from(errno).ok().and_then(attempts::meaning);
    said.or_else(|| errno::meaning(errno)).unwrap_or_default().to_owned()
}

/// The target of a call, as people call it; empty: nothing that is known.
fn text(on: &On, trace: &Trace) -> String {
    match on {
        On::Nothing => String::new(),
        On::Address(address) => words::address(address),
        On::Text(id) => words::text(trace.str(*id)),
        On::Socket { peer: Some(peer), .. } => words::address(peer),
        On::Socket { local: Some(local), .. } => format!("socket {}", words::address(local)),
        On::Socket { .. } => "socket".to_owned(),
        On::Object(Object::Pipe { .. }) => "pipe".to_owned(),
        On::Object(object) => words::object(object, |id| trace.str(id)),
    }
}
