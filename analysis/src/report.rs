//! The result of a comparison, as DESIGN's `diff --json` has it.

use crate::gates::Profile;
use crate::model::Missing;
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

/// What the comparison says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Every gate was passed.
    Match,
    /// A gate was missed.
    Deviated,
    /// It cannot be said: see the reasons.
    Inconclusive,
}

impl Verdict {
    /// Its name, as JSON output has it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Match => "match",
            Self::Deviated => "deviated",
            Self::Inconclusive => "inconclusive",
        }
    }
}

/// One metric.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Metric {
    /// Its name.
    #[serde(skip)]
    pub name: &'static str,
    /// Its value; `None` when there was nothing to compare.
    pub value: Option<f64>,
    /// What it must reach; `None` when it only informs.
    pub gate: Option<f64>,
    /// Whether it does; `None` without value or gate.
    pub pass: Option<bool>,
    /// Over how many operations, pairs or connections it was taken.
    pub n: u64,
    /// Unit of value and gate, empty for ratios.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub unit: &'static str,
    /// What a person wants to know beside the value.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub note: String,
}

/// How two runs part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum DivergenceKind {
    /// The same operation had another outcome.
    Outcome,
    /// The other run lacks the operation.
    Missing,
    /// The other run has an operation more.
    Extra,
    /// The same operation at another time.
    Late,
    /// An operation that was over before what it depends on began.
    Order,
}

impl DivergenceKind {
    /// Its name, as JSON output has it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Outcome => "outcome",
            Self::Missing => "missing",
            Self::Extra => "extra",
            Self::Late => "late",
            Self::Order => "order",
        }
    }
}

/// A line of a contextual diff.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Line {
    /// `' '`: in both; `'-'`: only in the recording; `'+'`: only in the other run.
    pub mark: char,
    /// Time in the recording, ns since its start.
    pub a_ns: Option<u64>,
    /// Time in the other run, ns since its start.
    pub b_ns: Option<u64>,
    /// The operation.
    pub text: String,
}

/// The first event in which the runs differ.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Divergence {
    /// How.
    pub kind: DivergenceKind,
    /// Of which task, by role, or on which stream.
    pub role: String,
    /// The operation: as recorded for an outcome or a missing one, as in the other run for an extra one.
    pub operation: String,
    /// What the other run has in its place, when it has something.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instead: Option<String>,
    /// When in the recording, ns since its start.
    pub a_ns: Option<u64>,
    /// When in the other run, ns since its start.
    pub b_ns: Option<u64>,
    /// The operations around it.
    pub context: Vec<Line>,
}

/// What was compared.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SideInfo {
    /// Calls in the trace, without the engine's own.
    pub calls: u64,
    /// Operations compared one by one.
    pub compared: u64,
    /// Calls counted only: locks, readiness, retries, memory.
    pub counted: u64,
    /// The replay engine's own calls, left out of everything.
    pub engine: u64,
    /// Calls that the sandbox of a replay answered as recorded: compared like any other.
    pub emulated: u64,
    /// Processes.
    pub processes: u64,
    /// Threads.
    pub threads: u64,
    /// Streams.
    pub streams: u64,
    /// First operation to last, ns.
    pub makespan_ns: u64,
    /// Events that are missing.
    pub missing: Missing,
}

/// How much of something there was in a run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Amount {
    /// How often it took place.
    pub count: u64,
    /// How long it took in all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub total_ns: Option<u64>,
    /// Half of them took no longer, to about 4 %.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub p50_ns: Option<u64>,
    /// All but a hundredth of them took no longer, to about 4 %.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub p99_ns: Option<u64>,
    /// The longest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_ns: Option<u64>,
    /// The highest level of memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
}

impl Amount {
    pub(crate) fn times(count: u64) -> Self {
        Self { count, ..Self::default() }
    }
}

/// Something that explains a part of the difference.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Cause {
    /// `failure`, `name` (it was not found), `exit`, `crash`, `oom`, `descriptors` (they are not closed), `memory`; or what time went on: `answer`, `lookup`, `connect`, `lock`, `file`, `room`,
    /// `input`, `call`, `cpu`, `cpu_wait`, `page_fault`, `inside`, `child`, `thread`, `service`, `sleep`.
    pub kind: &'static str,
    /// The call, when it is about one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub call: Option<String>,
    /// The errno's name, when it is about one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub errno: Option<String>,
    /// Whose it is.
    pub role: String,
    /// What it is about: a path, a peer, a lock.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub object: Option<String>,
    /// In the recording.
    pub before: Amount,
    /// In the other run.
    pub after: Amount,
    /// Of time: the part of all that was added or saved, from 0 to 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub share: Option<f64>,
    /// The sentence.
    pub text: String,
}

/// Operations that failed, other than by design, in two runs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Failures {
    /// In the recording.
    pub recorded: u64,
    /// Of those, how many have no counterpart in the other run.
    pub missing: u64,
    /// In the other run.
    pub other: u64,
    /// Of those, how many the sandbox of a replay answered as recorded.
    pub emulated: u64,
}

/// The result of a comparison.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// Version of this structure.
    pub schema: u32,
    /// The verdict.
    pub verdict: Verdict,
    /// Why it is not `match`: the causes, the one that explains most first, then the gates that were missed, worst first.
    pub reasons: Vec<String>,
    /// The causes one by one, as far as they are known; the first reasons are their sentences.
    pub causes: Vec<Cause>,
    /// What weakens the verdict without deciding it.
    pub warnings: Vec<String>,
    /// Which gates were used.
    pub profile: Profile,
    /// The metric that missed its gate by most.
    pub worst: Option<&'static str>,
    /// All metrics.
    #[serde(serialize_with = "as_map")]
    pub metrics: Vec<Metric>,
    /// How far apart what both used of the machine is, counter by counter.
    pub resources: Vec<ResourceDistance>,
    /// Where the runs part first, if they do.
    pub first_divergence: Option<Divergence>,
    /// The first operation of the recording that the other run has, too: when it was over in both, ns since their starts.
    #[serde(skip)]
    pub first_match: Option<(u64, u64)>,
    /// Operations that failed, other than by design.
    pub failures: Failures,
    /// The recording.
    pub a: SideInfo,
    /// The other run.
    pub b: SideInfo,
}

/// A resource of both runs over time, by bins of 100 ms. Errors are of the recorded sum: 0.1 is a tenth of it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct ResourceDistance {
    /// The name of the resource, for people.
    pub name: &'static str,
    /// All differences of bins, of the recorded sum.
    pub error: f64,
    /// The difference of the peaks, of the recorded one.
    pub peak_error: f64,
    /// As `error`, when each run may be ahead of the other for a while (dynamic time warping). `None`: nothing was recorded.
    pub warped_error: Option<f64>,
    /// The recorded peak: ns in a bin, bytes, or descriptors.
    pub recorded_peak: f64,
    /// The other run's.
    pub other_peak: f64,
}

fn as_map<S: Serializer>(metrics: &[Metric], serializer: S) -> Result<S::Ok, S::Error> {
    let mut map = serializer.serialize_map(Some(metrics.len()))?;
    for metric in metrics {
        map.serialize_entry(metric.name, metric)?;
    }
    map.end()
}

impl Report {
    /// A metric by name.
    pub fn metric(&self, name: &str) -> Option<&Metric> {
        self.metrics.iter().find(|m| m.name == name)
    }
}
