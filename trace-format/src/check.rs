//! Checking every byte of a trace, and rescuing what is intact in a damaged one.

use crate::codec::{self, Remap};
use crate::density::Density;
use crate::layout::PREAMBLE_LEN;
use crate::redact::Gate;
use crate::source::{ChunkProblem, Source};
use crate::{
    Class, Damage, Detail, Event, Filter, Finished, Loss, LossCause, Object, ObjectId, OutFile, Policy,
    ProcessKind, ReadError, State, StrId, Summary, TaskDef, TaskId, Trace, TraceFile, TraceWriter,
    WriteError,
};
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};

/// What [`verify`] found.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct VerifyReport {
    /// Finished, live or torn.
    pub state: State,
    /// Length of the file, bytes.
    pub bytes: u64,
    /// Chunks that were found.
    pub chunks: u64,
    /// Events that were decoded, by class.
    pub events: BTreeMap<Class, u64>,
    /// SHA-256 of the content, as the footer has it. `None`: the file has no footer.
    pub sha256: Option<[u8; 32]>,
    /// Everything that is wrong. Empty for an intact file.
    pub damage: Vec<Damage>,
}

impl VerifyReport {
    /// Whether nothing is wrong. A torn file can be intact as far as it goes.
    pub fn is_intact(&self) -> bool {
        self.damage.is_empty()
    }
    /// Events known to be lost by damage.
    pub fn lost_events(&self) -> u64 {
        self.damage.iter().filter_map(|d| d.lost).map(|l| l.count).sum()
    }
}

/// Reads and checks every byte: all check sums, all events, the index and the content's SHA-256.
///
/// # Errors
/// When it is no trace, or nothing of it can be read.
pub fn verify(path: &Path) -> Result<VerifyReport, ReadError> {
    verify_trace(&Trace::open(path)?)
}

/// As [`verify`], of an open trace.
///
/// # Errors
/// When the device refuses.
pub fn verify_trace(trace: &Trace) -> Result<VerifyReport, ReadError> {
    let io = |source| ReadError::Io { path: trace.path().into(), source };
    let mut damage = trace.damage().to_vec();
    let mut events = BTreeMap::new();
    for event in trace.events(&Filter::default()) {
        match event {
            Ok(event) => *events.entry(event.class()).or_insert(0) += 1,
            Err(ReadError::Damaged { damage: d, .. }) => damage.push(d),
            Err(ReadError::Disordered { offset, .. }) => {
                let what = "too many chunks overlap in time from here on".into();
                damage.push(Damage { offset, bytes: 0, what, lost: None });
            }
            Err(error) => return Err(error),
        }
    }
    let mut more = other_chunks(trace, &damage).map_err(io)?;
    let mut sha256 = None;
    if let Some((offset, index)) = trace.index() {
        sha256 = Some(index.sha256);
        let hash = hash(trace.source(), *offset).map_err(io)?;
        if hash != index.sha256 && damage.is_empty() && more.is_empty() {
            let what = "the content is not what was written (SHA-256), though every chunk is intact".into();
            more.push(Damage { offset: 0, bytes: *offset, what, lost: None });
        }
    }
    damage.extend(more);
    damage.sort_by_key(|d| d.offset);
    let chunks = trace.entries().len() as u64;
    Ok(VerifyReport { state: trace.state(), bytes: trace.file_bytes(), chunks, events, sha256, damage })
}

/// Damage of what no event comes from: dictionaries repeated, the schema, chunk types of newer versions, gaps.
fn other_chunks(trace: &Trace, known: &[Damage]) -> std::io::Result<Vec<Damage>> {
    let known: HashSet<u64> = known.iter().map(|d| d.offset).collect();
    let mut found = Vec::new();
    let mut end = PREAMBLE_LEN as u64;
    for entry in trace.entries() {
        if entry.offset > end && trace.index().is_some() {
            let what = "bytes that belong to no chunk".into();
            found.push(Damage { offset: end, bytes: entry.offset - end, what, lost: None });
        }
        end = entry.offset + entry.total_len();
        if crate::merge::class_of(entry).is_some() || known.contains(&entry.offset) {
            continue;
        }
        let problem = match trace.source().header_at(entry.offset)? {
            Ok(header) if entry.agrees(&header) => match trace.source().stored_payload(entry.offset, &header)
            {
                Ok(_) => continue,
                Err(ChunkProblem::Io(e)) => return Err(e),
                Err(ChunkProblem::Bad(what)) => what,
            },
            Ok(_) => "it is not the chunk that the index says".into(),
            Err(e) => e.to_string(),
        };
        found.push(Damage { offset: entry.offset, bytes: entry.total_len(), what: problem, lost: None });
    }
    Ok(found)
}

fn hash(source: &Source, end: u64) -> std::io::Result<[u8; 32]> {
    let mut sha256 = Sha256::new();
    let mut buffer = vec![0; 256 << 10];
    let mut at = 0;
    while at < end {
        let wanted = usize::try_from(end - at).unwrap_or(usize::MAX).min(buffer.len());
        let n = source.read_at(at, &mut buffer[..wanted])?;
        if n == 0 {
            break;
        }
        sha256.update(&buffer[..n]);
        at += n as u64;
    }
    Ok(sha256.finalize().into())
}

/// Why [`repair`] or [`redact`] failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RepairError {
    /// Nothing can be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The new file cannot be written.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// Input and output are one file.
    #[error("{} cannot be replaced by its own copy; name another file", path.display())]
    SameFile {
        /// The file.
        path: PathBuf,
    },
    /// What is gone from a trace cannot be brought back.
    #[error("{} is redacted by the policy {found} already, which tells less than {wanted}", path.display())]
    Laxer {
        /// The file.
        path: PathBuf,
        /// Its policy.
        found: Policy,
        /// The one that was asked for.
        wanted: Policy,
    },
}

/// What [`repair`] or [`redact`] did.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct RepairReport {
    /// The new file.
    pub finished: Finished,
    /// Events in it that come from the damaged one, by class.
    pub events: BTreeMap<Class, u64>,
    /// What could not be taken over. Where the number of lost events is known, the new file has a [`Loss`] that says
    /// so.
    pub damage: Vec<Damage>,
    /// State of the damaged file.
    pub state: State,
    /// What was redacted, by rule.
    pub redacted: BTreeMap<String, u64>,
}

/// Writes what is intact in a file to a new, complete one.
///
/// # Errors
/// When nothing can be read, or `out` cannot be written.
pub fn repair(file: TraceFile, out: OutFile) -> Result<RepairReport, RepairError> {
    copy(file, out, None)
}

/// Writes what is intact in a file to a new, complete one that tells no more than `policy` allows. The pseudonyms in
/// it are its own.
///
/// # Errors
/// As [`repair`]; and when the trace tells less than the policy allows.
pub fn redact(file: TraceFile, out: OutFile, policy: Policy) -> Result<RepairReport, RepairError> {
    Redaction::new(policy)?.redact(file, out)
}

/// Redacts several traces with the same pseudonyms: a name in one is the same name in the others.
pub struct Redaction {
    policy: Policy,
    gate: Gate,
}

impl Redaction {
    /// With a fresh key, which dies with it.
    ///
    /// # Errors
    /// When the system gives no random numbers.
    pub fn new(policy: Policy) -> Result<Self, RepairError> {
        let gate = Gate::new(policy).map_err(|error| {
            let source = std::io::Error::other(error);
            WriteError::Io { action: "making a key for", path: "pseudonyms".into(), source }
        })?;
        Ok(Self { policy, gate })
    }

    /// As [`redact`].
    ///
    /// # Errors
    /// As [`redact`].
    pub fn redact(&self, file: TraceFile, out: OutFile) -> Result<RepairReport, RepairError> {
        copy(file, out, Some(self))
    }
}

fn copy(file: TraceFile, out: OutFile, redaction: Option<&Redaction>) -> Result<RepairReport, RepairError> {
    let policy = redaction.map(|redaction| redaction.policy);
    let path = file.path().to_path_buf();
    if file.is_at(out.path()) {
        return Err(RepairError::SameFile { path });
    }
    let trace = file.salvage()?;
    let found = Policy::of_header(&trace.header().redaction);
    if let Some(wanted) = policy.filter(|wanted| *wanted < found) {
        return Err(RepairError::Laxer { path, found, wanted });
    }
    let gate = redaction.map_or_else(Gate::open, |redaction| redaction.gate.anew());
    let name = out.partial_path().to_path_buf();
    let mut writer = TraceWriter::over_gated(Box::new(out), &name, trace.header(), gate)?;
    if let Some(window) = trace.window() {
        writer.window(window)?;
    }
    if !trace.snapshot().processes.is_empty() {
        writer.snapshot(trace.snapshot())?;
    }
    if !trace.containers().is_empty() {
        writer.containers(trace.containers())?;
    }
    if !trace.unlearnt().is_empty() {
        writer.unlearnt(trace.unlearnt())?;
    }
    let mut known = Known::default();
    let mut damage = trace.damage().to_vec();
    let mut events = BTreeMap::new();
    let mut density = Density::of(&trace);
    for event in trace.events(&Filter::default()) {
        match event {
            Ok(mut event) => {
                density.text(&trace, looked_at_anew(&trace, &event))?;
                codec::map_refs(
                    &mut event,
                    &mut Ids { trace: &trace, writer: &mut writer, known: &mut known },
                );
                *events.entry(event.class()).or_insert(0) += 1;
                writer.push(&event)?;
            }
            Err(ReadError::Damaged { damage: d, .. }) => damage.push(d),
            Err(ReadError::Disordered { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    for lost in damage.iter().filter_map(|d| d.lost) {
        writer.push(&Event::Loss(Loss {
            t_ns: lost.to_ns,
            from_ns: lost.from_ns,
            cpu: u32::MAX,
            class: lost.class,
            cause: LossCause::Malformed,
            count: lost.count,
        }))?;
    }
    let summary = trace.summary().cloned().unwrap_or_else(|| Summary {
        duration_ns: trace.end_ns(),
        ended: "unknown: the recorder wrote no end; repaired".into(),
        ..Summary::default()
    });
    let redacted = writer.redacted();
    let finished = writer.finish(&summary)?;
    let more = other_chunks(&trace, &damage).map_err(|source| ReadError::Io { path, source })?;
    damage.extend(more);
    damage.sort_by_key(|d| d.offset);
    Ok(RepairReport { finished, events, damage, state: trace.state(), redacted })
}

/// Bytes of the strings of an event that the redaction looks at each time: what a word is depends on those around it.
fn looked_at_anew(trace: &Trace, event: &Event) -> usize {
    let words = |argv: &[StrId]| argv.iter().map(|id| trace.str(*id).len()).sum();
    match event {
        Event::Syscall(call) => call
            .details
            .iter()
            .map(|detail| match detail {
                Detail::Argv { words: argv, .. } => words(argv),
                _ => 0,
            })
            .sum(),
        Event::Process(process) => match &process.kind {
            ProcessKind::Exec { argv, .. } => words(argv),
            _ => 0,
        },
        Event::Dns(dns) => trace.str(dns.name).len(),
        _ => 0,
    }
}

/// Ids of the old file to ids of the new one.
#[derive(Default)]
struct Known {
    strings: BTreeMap<StrId, StrId>,
    tasks: BTreeMap<TaskId, TaskId>,
    objects: BTreeMap<ObjectId, ObjectId>,
}

struct Ids<'a> {
    trace: &'a Trace,
    writer: &'a mut TraceWriter,
    known: &'a mut Known,
}

impl Remap for Ids<'_> {
    fn string(&mut self, id: StrId) -> StrId {
        *self.known.strings.entry(id).or_insert_with(|| self.writer.str(self.trace.str(id)))
    }

    fn host(&mut self, id: StrId) -> StrId {
        self.writer.host(self.trace.str(id))
    }

    fn kernel_name(&mut self, id: StrId) -> StrId {
        self.writer.kernel_name(self.trace.str(id))
    }

    fn argv(&mut self, words: &mut Vec<StrId>) {
        *words = self.writer.argv(words.iter().map(|id| self.trace.str(*id).to_vec()).collect());
    }

    fn task(&mut self, id: TaskId) -> TaskId {
        if let Some(known) = self.known.tasks.get(&id) {
            return *known;
        }
        let old = self.trace.task(id);
        let task = TaskDef { comm: self.writer.comm(self.trace.str(old.comm)), ..old.clone() };
        let new = self.writer.task(&task);
        self.known.tasks.insert(id, new);
        new
    }

    fn object(&mut self, id: ObjectId) -> ObjectId {
        if let Some(known) = self.known.objects.get(&id) {
            return *known;
        }
        let mut object = self.trace.object(id).clone();
        match &mut object {
            Object::File { path, .. } => *path = self.string(*path),
            Object::Anon { kind, .. } => *kind = self.writer.kernel_name(self.trace.str(*kind)),
            Object::Socket { .. } | Object::Pipe { .. } => {}
        }
        let new = self.writer.object(&object);
        self.known.objects.insert(id, new);
        new
    }
}
