//! All that reports and bundles are made of: traces, what was worked out of them, and how they compare.

use crate::diff::{self, ProfileName};
use crate::exit::{Exit, Failure};
use crate::output::Output;
use crate::{account, read};
use anyhow::Context;
use ctrace_analysis::edits::Edits;
use ctrace_analysis::picture::Picture;
use ctrace_analysis::{Account, Overview, REPLAY_OF, Report};
use ctrace_format::{State, Trace, TraceFile};
use ctrace_report::incident::{Compared, Incident, Role, Traced};
use ctrace_report::text::when::Zone;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// The traces of a report or a bundle, as arguments of the command.
#[derive(Debug, clap::Args)]
pub(crate) struct About {
    /// The trace
    pub(crate) file: PathBuf,
    /// Compare it with this run, and show both; may be given several times
    #[arg(long, value_name = "FILE")]
    pub(crate) diff: Vec<PathBuf>,
    /// The title of the report [default: the trace's name]
    #[arg(long, value_name = "TEXT")]
    pub(crate) title: Option<String>,
    /// The kind of the other run: a replay must do everything again, a real program the same on the whole
    #[arg(long, value_name = "KIND", default_value = "auto")]
    pub(crate) profile: ProfileName,
}

impl About {
    /// Opens the traces, the recording first, each with the path by which it is called.
    pub(crate) fn open(&self) -> Result<Vec<(PathBuf, TraceFile)>, Failure> {
        let paths = std::iter::once(&self.file).chain(&self.diff);
        paths.map(|path| Ok((path.clone(), TraceFile::open(path)?))).collect()
    }
}

/// Traces that were read, the recording first, and the comparisons of the others with it.
pub(crate) struct Gathered {
    pub(crate) traces: Vec<Read>,
    pub(crate) reports: Vec<Report>,
}

/// A trace that was read, and what was worked out of it.
pub(crate) struct Read {
    pub(crate) name: String,
    pub(crate) path: PathBuf,
    sha256: Option<String>,
    pub(crate) trace: Trace,
    pub(crate) overview: Overview,
    pub(crate) account: Account,
    picture: Picture,
    pub(crate) role: Role,
}

impl Gathered {
    /// Reads open files, each with the path by which it is called.
    pub(crate) fn of(
        files: Vec<(PathBuf, TraceFile)>,
        profile: ProfileName,
        out: &mut Output,
    ) -> Result<Self, Failure> {
        let reports = compare(&files, profile, out)?;
        let mut traces = Vec::new();
        for (path, file) in files {
            traces.push(Read::new(path, file, traces.is_empty(), out)?);
        }
        Ok(Self { traces, reports })
    }

    /// Shows it as an incident. The title is the recording's name unless there is another.
    pub(crate) fn show<T>(&self, title: Option<&str>, zone: Zone, show: impl FnOnce(&Incident) -> T) -> T {
        let traced: Vec<Traced> = self.traces.iter().map(Read::traced).collect();
        let compared: Vec<Compared> =
            self.reports.iter().enumerate().map(|(at, report)| Compared { b: at + 1, report }).collect();
        let title = title.unwrap_or_else(|| traced.first().map_or("", |first| first.name));
        show(&Incident {
            title,
            traces: &traced,
            compared: &compared,
            zone,
            version: env!("CARGO_PKG_VERSION"),
        })
    }

    /// Which traces it is about, for programs.
    pub(crate) fn json(&self) -> Vec<Value> {
        let one = |read: &Read| json!({"path": read.path, "sha256": read.sha256, "role": read.role.name()});
        self.traces.iter().map(one).collect()
    }
}

/// Compares the first file with each of the others.
fn compare(
    files: &[(PathBuf, TraceFile)],
    profile: ProfileName,
    out: &mut Output,
) -> Result<Vec<Report>, Failure> {
    let [(path, first), others @ ..] = files else { return Ok(Vec::new()) };
    if others.is_empty() {
        return Ok(Vec::new());
    }
    // Said when they are read for the report: what is wrong with them.
    let first = first.clone().read()?;
    let redaction = first.header().redaction.clone();
    let first = first.rebased();
    let a = diff::model(path, &first, &Edits::default())?;
    let mut reports = Vec::new();
    for (path, file) in others {
        let trace = file.clone().read()?;
        if diff::strangers(&redaction, &trace.header().redaction) {
            out.warn(diff::STRANGERS);
        }
        let is_replay = trace.summary().is_some_and(|s| s.engine_calls > 0);
        let planned = diff::planned(&files[0].0, &first, trace.header(), out)?;
        let b = diff::model(path, &trace.rebased(), &Edits::default())?;
        let gates = diff::gates(profile.of(is_replay), &[])?;
        reports.push(diff::against(&a, planned.as_ref(), &b, &gates));
    }
    Ok(reports)
}

impl Read {
    /// Reads a file and works out everything that is shown of it.
    fn new(path: PathBuf, file: TraceFile, is_first: bool, out: &mut Output) -> Result<Self, Failure> {
        let sha256 = file.sha256()?;
        let trace = read(file, out)?;
        let overview = Overview::of(&trace);
        let account = account::of(&path, &trace)?;
        let picture = Picture::of(&trace, &account)
            .with_context(|| format!("drawing {}", path.display()))
            .map_err(|e| Failure::new(Exit::BadTrace, e))?;
        let is_replay = trace.header().host.facts.contains_key(REPLAY_OF);
        let role = match (is_first, is_replay) {
            (_, true) => Role::Replay,
            (true, false) => Role::Recording,
            (false, false) => Role::Other,
        };
        let name = path.file_name().map_or_else(|| path.to_string_lossy(), |name| name.to_string_lossy());
        let name = if path == Path::new("-") { "standard input".to_owned() } else { name.into_owned() };
        // A file that still grows has no hash that anybody could check.
        let sha256 = Some(sha256).filter(|_| trace.state() != State::Live);
        Ok(Self { name, path, sha256, trace, overview, account, picture, role })
    }

    fn traced(&self) -> Traced<'_> {
        Traced {
            name: &self.name,
            path: &self.path,
            sha256: self.sha256.as_deref(),
            trace: &self.trace,
            overview: &self.overview,
            account: &self.account,
            picture: &self.picture,
            role: self.role,
        }
    }
}
