//! Records a replay.

use super::conditions::Conditions;
use super::observer::{Note, Observer};
use super::{Options, sum};
use crate::exit::Failure;
use ctrace_analysis::{FAULTS, REPLAY_OF};
use ctrace_format::{Policy, Taken, Trace};
use ctrace_recorder::{Beside, Config, Lookers, RecordError, Recorder, Recording, Target};
use ctrace_replayer::Running;
use ctrace_replayer::plan::PlanSummary;
use std::fs::File;
use std::sync::Arc;

/// Records a replay, which is held at its gate. Without the privilege it goes unobserved.
pub(super) fn start(
    trace: &Trace,
    plan: &PlanSummary,
    running: &Running,
    options: &Options,
    conditions: &Conditions,
    observer: &mut dyn Observer,
) -> Result<Option<Recording>, Failure> {
    let mut config = Config::new(Target::Pid(running.root_pid()), &options.output);
    config.taken = options.taken.clone();
    let (helpers, memory) = running.beside();
    let ids = |all: &[i32]| all.iter().filter_map(|pid| u32::try_from(*pid).ok()).collect();
    config.beside =
        Beside { holders: ids(helpers.ballast.as_slice()), spinners: ids(&helpers.spinners), memory };
    config.ring_bytes = ring_bytes(plan).max(config.ring_bytes);
    // Its processes are ours: they can become nobody else's, having no way to gain a privilege.
    config.facts.insert(REPLAY_OF.to_owned(), identity(trace));
    if let Some(faults) = &options.faults {
        config.facts.insert(FAULTS.to_owned(), faults.plan.clone());
        config.rules.clone_from(&faults.rules);
    }
    // The replay does what the trace says: what is masked in one must be in the other.
    config.redact = Policy::of_header(&trace.header().redaction).min(Policy::Default);
    let lookers = Lookers { observer: conditions.observer(), ..Lookers::default() };
    match Recorder::start_observed(config, lookers) {
        Ok(recording) => {
            for remark in recording.remarks() {
                observer.note(&Note::Recorder(remark.clone()));
            }
            Ok(Some(recording))
        }
        Err(RecordError::NoPrivilege { .. } | RecordError::KernelLacks { .. }) => {
            observer.note(&Note::Unrecorded);
            Ok(None)
        }
        Err(error) => Err(crate::record::failure(error)),
    }
}

/// Rings that hold all calls of a replay if they can: unlike a recorder in production, that of a replay shares the CPUs with
/// a load that may want all of them, and what is only counted cannot be judged.
fn ring_bytes(plan: &PlanSummary) -> u64 {
    /// A record with what most calls have beside their arguments, and the beginnings of segments that stay empty.
    const RECORD_BYTES: u64 = 128;
    const MAX: u64 = 128 << 20;
    // The rings are halved between calls with and without such things.
    (2 * RECORD_BYTES).saturating_mul(sum(&plan.calls)).min(MAX).next_power_of_two()
}

/// As [`REPLAY_OF`] has it of a replay.
pub(crate) fn identity(trace: &Trace) -> String {
    format!("{:016x}", trace.identity())
}

/// A name that the recording of an earlier replay of this trace has is taken over; any other file stays.
pub(crate) fn replaces_replays_of(trace: &Trace) -> Taken {
    let of = identity(trace);
    Taken::ReplaceIf(Arc::new(move |file| is_replay_of(file, &of)))
}

/// Whether a file is the recording of a replay of this trace.
fn is_replay_of(file: File, of: &str) -> bool {
    Trace::from_file(file)
        .is_ok_and(|trace| trace.header().host.facts.get(REPLAY_OF).is_some_and(|it| it == of))
}
