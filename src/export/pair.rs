//! A recording and its replay on one timeline: a TAR with both and a manifest that says how they belong together.

use super::{BLOCK, Done};
use crate::account;
use crate::diff;
use crate::exit::Failure;
use crate::output::Output;
use ctrace_analysis::edits::Edits;
use ctrace_analysis::{Profile, Report};
use ctrace_format::{DumpReason, Filter, Trace, TraceFile};
use ctrace_report::perfetto::{self, Export, MANIFEST, Moment, Pair, Written};
use ctrace_report::tar;
use serde_json::json;
use std::fs::File;
use std::io::{self, BufWriter, Read, Seek, Write};
use std::path::{Path, PathBuf};

/// The two files of an archive.
const RECORDING: &str = "recording.pftrace";
const REPLAY: &str = "replay.pftrace";

/// One of the two runs.
struct Side {
    path: PathBuf,
    trace: Trace,
    moments: Vec<Moment>,
}

impl Side {
    fn read(path: &Path, file: TraceFile, out: &mut Output) -> Result<Self, Failure> {
        let trace = crate::read(file, out)?;
        // The comparison counts from where the window begins.
        let moments = trace.window().into_iter().filter_map(|window| match &window.reason {
            DumpReason::Trigger { text, t_ns } => Some(Moment {
                track: "triggers",
                t_ns: t_ns.saturating_sub(window.from_ns),
                text: format!("trigger: {}", crate::decode::plain(text.as_bytes())),
                notes: Vec::new(),
            }),
            _ => None,
        });
        let moments = moments.collect();
        Ok(Self { path: path.to_owned(), trace: trace.rebased(), moments })
    }

    /// Its timeline, in a file without a name.
    fn write(&self, directory: &Path) -> Result<(File, Written), Failure> {
        let findings = account::of(&self.path, &self.trace)?.findings;
        let export = Export {
            trace: &self.trace,
            findings: &findings,
            moments: &self.moments,
            filter: Filter::default(),
        };
        let mut sink = BufWriter::with_capacity(BLOCK, tempfile::tempfile_in(directory)?);
        let written = perfetto::write(&export, &mut sink)?;
        let file = sink.into_inner().map_err(io::IntoInnerError::into_error)?;
        Ok((file, written))
    }
}

/// Where the runs part, on both.
fn moments(report: &Report, pair: &Pair) -> [Option<Moment>; 2] {
    let Some(divergence) = &report.first_divergence else { return [None, None] };
    let notes = [
        ("kind", divergence.kind.name().to_owned()),
        ("role", divergence.role.clone()),
        ("operation", divergence.operation.clone()),
        ("instead", divergence.instead.clone().unwrap_or_default()),
    ];
    let notes: Vec<_> = notes.into_iter().filter(|(_, text)| !text.is_empty()).collect();
    let text = format!("{}: {} {}", divergence.kind.name(), divergence.role, divergence.operation);
    let moment = |t_ns| Moment { track: "first divergence", t_ns, text: text.clone(), notes: notes.clone() };
    // An operation that only one run has is marked where the other had the same time.
    let a_ns = divergence.a_ns.or_else(|| divergence.b_ns.map(|b_ns| pair.in_recording(b_ns)));
    let b_ns = divergence.b_ns.or_else(|| divergence.a_ns.map(|a_ns| pair.in_replay(a_ns)));
    [a_ns.map(moment), b_ns.map(moment)]
}

fn member(
    sink: &mut impl Write,
    name: &str,
    size: u64,
    modified_s: u64,
    content: &mut dyn Read,
) -> io::Result<()> {
    sink.write_all(&tar::header(name, size, modified_s))?;
    let copied = io::copy(&mut content.take(size), sink)?;
    if copied != size {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    sink.write_all(&[0; tar::BLOCK][..tar::padding(size)])
}

/// Writes the archive of two runs, each with the path by which it is called; timelines are kept in the directory meanwhile.
pub(super) fn write(
    (recorded, replayed): ((&Path, TraceFile), (&Path, TraceFile)),
    directory: &Path,
    sink: &mut impl Write,
    out: &mut Output,
) -> Result<Done, Failure> {
    let mut sides = [Side::read(recorded.0, recorded.1, out)?, Side::read(replayed.0, replayed.1, out)?];
    let report = {
        let a = diff::model(&sides[0].path, &sides[0].trace, &Edits::default())?;
        let b = diff::model(&sides[1].path, &sides[1].trace, &Edits::default())?;
        let replay = sides[1].trace.summary().is_some_and(|s| s.engine_calls > 0);
        let profile = if replay { Profile::Synthetic } else { Profile::RealBinary };
        let planned = diff::planned(&sides[0].path, &sides[0].trace, sides[1].trace.header(), out)?;
        diff::against(&a, planned.as_ref(), &b, &diff::gates(profile, &[])?)
    };
    let pair = Pair {
        starts_ns: [&sides[0], &sides[1]].map(|side| side.trace.header().start_boottime_ns),
        met_ns: report.first_match,
    };
    if pair.met_ns.is_none() {
        out.warn("the two runs have nothing in common: they are aligned at their starts");
    }
    for (side, moment) in sides.iter_mut().zip(moments(&report, &pair)) {
        side.moments.extend(moment);
    }
    let attributes = json!({
        "ctrace.verdict": report.verdict.name(),
        "ctrace.reason": report.reasons.first().map_or("", String::as_str),
    });
    let manifest = pair.manifest(RECORDING, REPLAY, &attributes);
    let modified_s = |trace: &Trace| trace.header().start_realtime_ns / 1_000_000_000;
    let size = manifest.len() as u64;
    member(sink, MANIFEST, size, modified_s(&sides[1].trace), &mut manifest.as_bytes())?;
    let mut done = Done::default();
    let mut flows = 0;
    for (side, name) in sides.iter().zip([RECORDING, REPLAY]) {
        let (mut file, written) = side.write(directory)?;
        let size = file.seek(io::SeekFrom::End(0))?;
        file.rewind()?;
        member(sink, name, size, modified_s(&side.trace), &mut file)?;
        flows += written.flows;
        done.add(&written);
    }
    sink.write_all(&tar::END)?;
    done.more = vec![
        ("flows", json!(flows)),
        ("verdict", json!(report.verdict.name())),
        ("aligned", json!(pair.met_ns.map(|(a_ns, b_ns)| json!({"a_ns": a_ns, "b_ns": b_ns})))),
        ("offset_ns", json!(pair.offset_ns())),
    ];
    Ok(done)
}
