//! Reading a trace: opening, what is known without reading events, lookups.

use crate::archive::{self, NoTrace, Place};
use crate::dictionary::Dictionaries;
use crate::index::{Index, IndexEntry};
use crate::layout::{self, HEADER_LEN, PREAMBLE_LEN, TRAILER_LEN, kind};
use crate::merge::{Events, class_of};
use crate::open::{Loader, Rest, check_preamble};
use crate::positioned::{Content, Positioned};
use crate::source::{self, ChunkProblem, Source};
use crate::spool::{self, Refused};
use crate::{
    Account, Class, ClockAnchor, Container, Header, Object, ObjectId, Snapshot, SockCookie, StrId, Summary,
    TaskDef, TaskId, Window, outfile, scan,
};
use std::collections::BTreeMap;
use std::fs::{File, Metadata};
use std::io::{self, Read as _};
use std::ops::Range;
use std::path::{Path, PathBuf};

/// Why a trace, or a part of it, could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The file system refused.
    #[error("reading {}: {source}", path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// The file does not exist, but an unfinished one of that name does.
    #[error("{} does not exist; {}", path.display(), unfinished(partial, *live))]
    Unfinished {
        /// Which file was asked for.
        path: PathBuf,
        /// Which one exists.
        partial: PathBuf,
        /// Its recording still runs.
        live: bool,
    },
    /// A directory, device, FIFO or socket.
    #[error("{} is {what}, not a file", path.display())]
    NotAFile {
        /// Which path.
        path: PathBuf,
        /// What it is.
        what: &'static str,
    },
    /// It unpacks to more than anything that was recorded.
    #[error("{} unpacks to more than a trace of its length holds. Unpack it yourself if you trust it", path.display())]
    Bomb {
        /// Which file.
        path: PathBuf,
    },
    /// A ZIP archive without a trace that can be read.
    #[error("{} is a ZIP archive, and {what}", path.display())]
    Archive {
        /// Which file.
        path: PathBuf,
        /// Why not, and what to do.
        what: String,
    },
    /// Nothing was written.
    #[error("{} is empty: its recording ended before the header was written, or the disk was full. Record again",
        path.display())]
    Empty {
        /// Which file.
        path: PathBuf,
    },
    /// Not a ctrace trace.
    #[error("{} is not a ctrace trace: it looks like {what}", path.display())]
    Foreign {
        /// Which file.
        path: PathBuf,
        /// What its first bytes look like.
        what: &'static str,
    },
    /// Written by a newer ctrace.
    #[error("{} has format version {found}; this ctrace reads up to {newest}. Update ctrace", path.display())]
    Newer {
        /// Which file.
        path: PathBuf,
        /// Its version.
        found: u16,
        /// The newest this crate reads.
        newest: u16,
    },
    /// Needs features that this version does not have.
    #[error("{} needs format features that this ctrace does not have (bits {bits:#x}). Update ctrace", path.display())]
    UnknownFeatures {
        /// Which file.
        path: PathBuf,
        /// The bits that are not understood.
        bits: u64,
    },
    /// Its header cannot be read, so nothing in it has a meaning.
    #[error("{} is damaged at offset {}: {}. {}", path.display(), damage.offset, damage.what, advice)]
    HeaderDamaged {
        /// Which file.
        path: PathBuf,
        /// Where and what.
        damage: Damage,
        /// What to do.
        advice: &'static str,
    },
    /// A part of it cannot be read. The others can.
    #[error("{} is damaged at offset {} ({} bytes): {}", path.display(), damage.offset, damage.bytes, damage.what)]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// Where and what.
        damage: Damage,
    },
    /// It holds more than a recording of its length can: it was made to exhaust whoever reads it. [`crate::allow_dense`]
    /// lets it be read.
    #[error("{} has {count} {what} in {bytes} bytes; a recording of that length has at most {most}. It was made to \
        exhaust whoever reads it; --allow-dense reads it nevertheless", path.display())]
    TooDense {
        /// Which file.
        path: PathBuf,
        /// Of what it has too many.
        what: &'static str,
        /// How many, as far as they were counted.
        count: u64,
        /// The most there can be.
        most: u64,
        /// Length of the file.
        bytes: u64,
    },
    /// So many chunks overlap in time that events are no longer in order from here on. No writer makes such files
    /// of a recording.
    #[error("{}: too many chunks overlap in time at offset {offset}; events are no longer in order from here on",
        path.display())]
    Disordered {
        /// Which file.
        path: PathBuf,
        /// The first chunk that could not be taken into account.
        offset: u64,
    },
}

/// Whether a file was finished.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Finished: it has its footer.
    Complete,
    /// Its writer is still running.
    Live,
    /// Its writer died, or the file was cut.
    Torn,
}

/// A part of a file that could not be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// Where it begins.
    pub offset: u64,
    /// How many bytes were skipped.
    pub bytes: u64,
    /// What is wrong, for a person.
    pub what: String,
    /// The events that are lost by it, where that is known.
    pub lost: Option<LostEvents>,
}

/// Events that are lost by damage to the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LostEvents {
    /// Their class.
    pub class: Class,
    /// How many.
    pub count: u64,
    /// Not before this time, ns since the start of the trace.
    pub from_ns: u64,
    /// Not after this time.
    pub to_ns: u64,
}

/// Events of one class that lie together in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stretch {
    /// Their class.
    pub class: Class,
    /// When the first of them ended, ns since the start of the trace.
    pub from_ns: u64,
    /// When the last of them ended.
    pub to_ns: u64,
    /// How many there are.
    pub events: u64,
}

/// Which events to read. All conditions hold together.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// Only these classes; empty: all.
    pub classes: Vec<Class>,
    /// Only events that overlap this time, ns since the start of the trace; both ends belong to it.
    pub from_ns: Option<u64>,
    /// See `from_ns`.
    pub to_ns: Option<u64>,
    /// Only events of these tasks; empty: all. Events without a task do not match.
    pub tasks: Vec<TaskId>,
    /// Only events of these sockets: connection events, and calls whose object is the socket; empty: all.
    pub cookies: Vec<SockCookie>,
}

/// An open trace: header, snapshot, dictionaries and counts in memory, events streamed.
///
/// ```
/// use ctrace_format::{Event, Filter, Trace};
///
/// fn slowest_call(path: &std::path::Path) -> Result<Option<(u64, String)>, ctrace_format::ReadError> {
///     let trace = Trace::open(path)?;
///     let mut slowest = None;
///     for event in trace.events(&Filter::default()) {
///         if let Event::Syscall(call) = event? {
///             let comm = trace.str(trace.task(call.task).comm);
///             slowest = slowest.max(Some((call.duration_ns, String::from_utf8_lossy(comm).into_owned())));
///         }
///     }
///     Ok(slowest)
/// }
/// # let missing = slowest_call("/nonexistent/x.ctr".as_ref()).unwrap_err();
/// # assert!(missing.to_string().contains("/nonexistent/x.ctr"));
/// ```
pub struct Trace {
    path: PathBuf,
    source: Source,
    id: u32,
    header: Header,
    snapshot: Snapshot,
    containers: Vec<Container>,
    unlearnt: Vec<String>,
    summary: Option<Summary>,
    account: Option<Account>,
    window: Option<Window>,
    state: State,
    damage: Vec<Damage>,
    dictionaries: Dictionaries,
    entries: Vec<IndexEntry>,
    index: Option<(u64, Index)>,
    counts: BTreeMap<Class, u64>,
    lost: u64,
    anchor: Option<ClockAnchor>,
    /// The time in the file that is 0.
    origin_ns: u64,
}

/// What became of the recording that an unfinished file is of.
fn unfinished(partial: &Path, live: bool) -> String {
    let partial = partial.display();
    if live {
        format!("its recording still runs, and is {partial} until then: that can be read so far")
    } else {
        format!("its recording died and left {partial}: that can be read as far as it goes")
    }
}

/// A file that was opened, and of which nothing was read yet: privileges that only the opening takes can be given up
/// in between.
///
/// A clone is the same file; each of them is read from its first byte on.
#[derive(Debug, Clone)]
pub struct TraceFile {
    path: PathBuf,
    /// The file of that name.
    named: Positioned,
    /// The file that has the trace: the same, or what was unpacked.
    holder: Positioned,
    /// The part of it that is the trace; `None`: all of it, as long as it is.
    part: Option<Range<u64>>,
}

impl TraceFile {
    /// Opens a finished, live or torn file, what gzip or zstd made of one, or one in a ZIP archive (of a bundle with several
    /// the recording; `ARCHIVE/NAME` is a certain one). `-`, and a pipe that this process has open (`/dev/fd/…`), is read to
    /// its end; nothing else is waited for.
    ///
    /// # Errors
    /// When it is not there, or no regular file, or unpacks to more than a trace of its length holds, or is an archive without
    /// a trace.
    pub fn open(path: &Path) -> Result<Self, ReadError> {
        let io = |source| ReadError::Io { path: path.into(), source };
        if path == Path::new("-") {
            let name = PathBuf::from("standard input");
            let file = spool::copy(io::stdin().lock()).map_err(|e| refused(&name, e))?;
            return Self::locate(name, file, None);
        }
        let regular = |found: &Metadata| {
            let what = if found.is_dir() { "a directory" } else { "a device, FIFO or socket" };
            if found.is_file() { Ok(()) } else { Err(ReadError::NotAFile { path: path.into(), what }) }
        };
        match std::fs::metadata(path) {
            Ok(found) if !found.is_file() && !found.is_dir() && spool::is_descriptor(path) => {
                let file = File::open(path).map_err(io)?;
                let file = spool::copy(file).map_err(|e| refused(path, e))?;
                return Self::locate(path.into(), file, None);
            }
            // To open a device does something on some.
            Ok(found) => regular(&found)?,
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                let partial = outfile::partial_path(path);
                return Err(if partial.exists() {
                    let live = File::open(&partial).is_ok_and(|file| outfile::is_live(&file));
                    ReadError::Unfinished { path: path.into(), partial, live }
                } else {
                    io(e)
                });
            }
            Err(e) if e.kind() == io::ErrorKind::NotADirectory => {
                let Some((archive, member)) = archive::member_of(path) else { return Err(io(e)) };
                let file = outfile::open_to_read(&archive).map_err(io)?;
                return if archive::is_archive(&file).map_err(io)? {
                    Self::locate(path.into(), file, Some(&member))
                } else {
                    Err(io(e))
                };
            }
            Err(e) => return Err(io(e)),
        }
        // It may be another by now.
        let file = outfile::open_to_read(path).map_err(io)?;
        regular(&file.metadata().map_err(io)?)?;
        match spool::unpacked(&file).map_err(|e| refused(path, e))? {
            Some(copy) => Ok(Self::unpacked(path.into(), file, copy)),
            None => Self::locate(path.into(), file, None),
        }
    }

    /// Finds the trace in a file that is an archive; any other is the trace itself.
    fn locate(path: PathBuf, file: File, member: Option<&str>) -> Result<Self, ReadError> {
        if !archive::is_archive(&file).map_err(|source| ReadError::Io { path: path.clone(), source })? {
            return Ok(Self::whole(path, file));
        }
        match archive::find(&file, member) {
            Ok(Place::Within(range)) => Ok(Self { part: Some(range), ..Self::whole(path, file) }),
            Ok(Place::Copied(copy)) => Ok(Self::unpacked(path, file, copy)),
            Err(NoTrace::Refused(why)) => Err(refused(&path, why)),
            Err(NoTrace::Archive(what)) => Err(ReadError::Archive { path, what }),
        }
    }

    fn whole(path: PathBuf, file: File) -> Self {
        let named = Positioned::new(file);
        Self { path, holder: named.clone(), named, part: None }
    }

    fn unpacked(path: PathBuf, file: File, copy: File) -> Self {
        Self { holder: Positioned::new(copy), ..Self::whole(path, file) }
    }

    /// Its name.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The bytes of the trace, or of what is no trace, unpacked, from the first on. Every reader has its own position.
    pub fn content(&self) -> Content {
        Content::new(self.holder.clone(), self.part.clone().unwrap_or(0..u64::MAX))
    }

    /// Length of the trace, unpacked, bytes.
    ///
    /// # Errors
    /// When the system does not tell.
    pub fn bytes(&self) -> io::Result<u64> {
        match &self.part {
            None => self.holder.len(),
            Some(range) => Ok(range.end.saturating_sub(range.start)),
        }
    }

    /// Whether this path leads to the same file, by whatever name: an output there would replace it.
    pub fn is_at(&self, path: &Path) -> bool {
        self.named.with(|file| outfile::is_at(file, &self.path, path))
    }

    /// SHA-256 of the trace, unpacked, in hexadecimal digits.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn sha256(&self) -> Result<String, ReadError> {
        use sha2::Digest as _;
        let io = |source| ReadError::Io { path: self.path.clone(), source };
        let mut content = self.content();
        let mut digest = sha2::Sha256::new();
        let mut buffer = vec![0; 1 << 18];
        loop {
            match content.read(&mut buffer) {
                Ok(0) => break,
                Ok(n) => digest.update(&buffer[..n]),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(io(e)),
            }
        }
        let hex = |byte: &u8| {
            [byte >> 4, byte & 15].map(|half| char::from_digit(u32::from(half), 16).unwrap_or('0'))
        };
        Ok(digest.finalize().iter().flat_map(hex).collect())
    }

    /// Reads what is in front of the events. Intact parts of a damaged file can be read, see [`Trace::damage`].
    ///
    /// # Errors
    /// When it is no trace, is of a newer version, or its header is damaged.
    pub fn read(self) -> Result<Trace, ReadError> {
        self.read_as(false)
    }

    /// As [`TraceFile::read`], of a file whose first bytes may be damaged.
    pub(crate) fn salvage(self) -> Result<Trace, ReadError> {
        let again = self.clone();
        match self.read_as(false) {
            Err(ReadError::HeaderDamaged { .. }) => again.read_as(true),
            read => read,
        }
    }

    fn read_as(self, salvage: bool) -> Result<Trace, ReadError> {
        let Self { path, holder, part, .. } = self;
        let is_live = !salvage && part.is_none() && holder.with(outfile::is_live);
        let source = match part {
            None => Source::file(holder).map_err(|source| ReadError::Io { path: path.clone(), source })?,
            Some(range) => Source::part(holder, &range),
        };
        Trace::from_source(&path, source, is_live, salvage)
    }
}

/// The words for what cannot be unpacked.
fn refused(path: &Path, why: Refused) -> ReadError {
    match why {
        Refused::Io(source) => ReadError::Io { path: path.into(), source },
        Refused::TooMuch => ReadError::Bomb { path: path.into() },
    }
}

impl Trace {
    /// Opens a finished, live or torn file. Intact parts of a damaged file can be read, see [`Trace::damage`].
    ///
    /// # Errors
    /// When it is no trace, is of a newer version, or its header is damaged.
    pub fn open(path: &Path) -> Result<Self, ReadError> {
        TraceFile::open(path)?.read()
    }

    /// Opens a trace that is open already, whatever it is called.
    ///
    /// # Errors
    /// As [`Trace::open`].
    pub fn from_file(file: File) -> Result<Self, ReadError> {
        TraceFile::whole(PathBuf::from("an open file"), file).read()
    }

    /// Opens a trace that is in memory.
    ///
    /// # Errors
    /// As [`Trace::open`].
    pub fn from_bytes(bytes: Vec<u8>) -> Result<Self, ReadError> {
        Self::from_source(Path::new("trace in memory"), Source::memory(bytes), false, false)
    }

    /// A number that is the same for every copy of this recording, and hardly for another.
    pub fn identity(&self) -> u64 {
        u64::from(self.id) << 32 | self.header.start_realtime_ns & 0xffff_ffff
    }

    /// `salvage`: a damaged preamble is no obstacle.
    pub(crate) fn from_source(
        path: &Path,
        source: Source,
        live: bool,
        salvage: bool,
    ) -> Result<Self, ReadError> {
        let io = |source| ReadError::Io { path: path.into(), source };
        let mut damage = Vec::new();
        if let Err(error) = check_preamble(path, &source) {
            match error {
                ReadError::HeaderDamaged { damage: d, .. } if salvage => damage.push(d),
                error => return Err(error),
            }
        }
        let mut loader = Loader { source: &source, zstd: source::decompressor().map_err(io)?, damage };
        let index = match loader.index() {
            Ok(index) => index,
            Err(ChunkProblem::Io(e)) => return Err(io(e)),
            Err(ChunkProblem::Bad(what)) => {
                let offset = source.len() - TRAILER_LEN as u64;
                let what = format!("the index cannot be used: {what}");
                loader.damage.push(Damage { offset, bytes: TRAILER_LEN as u64, what, lost: None });
                None
            }
        };
        let finished = index.is_some();
        let (entries, id, index) = if let Some((offset, id, mut index)) = index {
            (std::mem::take(&mut index.entries), Some(id), Some((offset, index)))
        } else {
            let scan = scan::scan(&source, live, None).map_err(io)?;
            loader.damage.extend(scan.damage);
            (scan.entries, scan.trace_id, None)
        };
        let Some((header, id)) = loader.header(&entries, id).map_err(io)? else {
            let damage = Damage {
                offset: PREAMBLE_LEN as u64,
                bytes: source.len().saturating_sub(PREAMBLE_LEN as u64),
                what: if source.len() < (PREAMBLE_LEN + HEADER_LEN) as u64 {
                    "the file ends before its header is complete".into()
                } else {
                    "no copy of its header is intact".into()
                },
                lost: None,
            };
            let advice =
                if live { "Its recording has just begun: try again" } else { "Nothing in it can be read" };
            return Err(ReadError::HeaderDamaged { path: path.into(), damage, advice });
        };
        let Rest { snapshot, summary, account, window, dictionaries } =
            loader.rest(&entries, id).map_err(io)?;
        let containers = loader.last_list(&entries, kind::CONTAINERS, id).map_err(io)?;
        let unlearnt = loader.last_list(&entries, kind::UNLEARNT, id).map_err(io)?;
        let mut damage = loader.damage;
        damage.sort_by_key(|d| d.offset);
        let mut counts = BTreeMap::new();
        for entry in &entries {
            if let Some(class) = class_of(entry) {
                *counts.entry(class).or_insert(0) += u64::from(entry.records);
            }
        }
        let state = match (finished, live) {
            (true, _) => State::Complete,
            (false, true) => State::Live,
            (false, false) => State::Torn,
        };
        let last = last_header(&source, &entries).map_err(io)?;
        let lost = match &index {
            Some((_, index)) => index.lost,
            None => last.map_or(0, |h| h.lost),
        };
        // All zero before the first.
        let anchor = last.map(|h| h.anchor()).filter(|a| a.realtime_ns > 0 || a.monotonic_ns > 0);
        let path = path.to_path_buf();
        let snapshot = snapshot.unwrap_or_default();
        Ok(Self {
            path,
            source,
            id,
            header,
            snapshot,
            containers,
            unlearnt,
            summary,
            account,
            window,
            state,
            damage,
            dictionaries,
            entries,
            index,
            counts,
            lost,
            anchor,
            origin_ns: 0,
        })
    }

    /// The trace as if recording had begun where its [`Window`] begins: times count from there, a call that began
    /// before begins there, and what ended before is left out. Other traces stay as they are.
    #[must_use]
    pub fn rebased(mut self) -> Self {
        let Some(origin_ns) = self.window.take().map(|window| window.from_ns).filter(|from| *from > 0) else {
            return self;
        };
        self.origin_ns += origin_ns;
        self.header.start_boottime_ns += origin_ns;
        self.header.start_realtime_ns += origin_ns;
        if let Some(summary) = &mut self.summary {
            summary.duration_ns = summary.duration_ns.saturating_sub(origin_ns);
        }
        if let Some(anchor) = &mut self.anchor {
            anchor.t_ns = anchor.t_ns.saturating_sub(origin_ns);
        }
        for container in &mut self.containers {
            container.from_ns = container.from_ns.saturating_sub(origin_ns);
            container.to_ns = container.to_ns.map(|to_ns| to_ns.saturating_sub(origin_ns));
        }
        self.dictionaries.rebase(origin_ns);
        self
    }

    /// What the trace says about itself.
    pub fn header(&self) -> &Header {
        &self.header
    }
    /// The state at the start; empty when the trace has none.
    pub fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }
    /// What the recorder tried to learn of the scope and did not, because what it asked did not answer in time: sentences.
    /// What they name is empty or 0 in the snapshot, and means nothing there.
    pub fn unlearnt(&self) -> &[String] {
        &self.unlearnt
    }

    /// The containers of the scope, those that appeared during the recording included; empty for another scope.
    pub fn containers(&self) -> &[Container] {
        &self.containers
    }
    /// The recorder's summary, in a finished file.
    pub fn summary(&self) -> Option<&Summary> {
        self.summary.as_ref()
    }
    /// What the recorder worked out about the events while it wrote them, in a finished file that lacks nothing of it.
    pub fn account(&self) -> Option<&Account> {
        self.account.as_ref().filter(|_| self.damage.is_empty() && self.origin_ns == 0)
    }
    /// Of a trace that a flight recorder dumped: what part of the recording it is.
    pub fn window(&self) -> Option<&Window> {
        self.window.as_ref()
    }
    /// Whether it was finished.
    pub fn state(&self) -> State {
        self.state
    }
    /// What could not be read. Event chunks of a finished file are not looked at before they are streamed: what is
    /// wrong with them is an `Err` item of [`Trace::events`], or in the report of [`crate::verify`].
    pub fn damage(&self) -> &[Damage] {
        &self.damage
    }
    /// Number of events by class, without reading them.
    pub fn counts(&self) -> &BTreeMap<Class, u64> {
        &self.counts
    }
    /// Events that were seen and not recorded, all classes and causes, without reading them.
    pub fn lost_events(&self) -> u64 {
        self.lost
    }
    /// The latest clock readings, without reading events.
    pub fn anchor(&self) -> Option<ClockAnchor> {
        self.anchor
    }
    /// Time of the last event's end, ns since the start of the trace.
    pub fn end_ns(&self) -> u64 {
        let ends = self.entries.iter().filter(|e| class_of(e).is_some()).map(|e| e.max_end);
        ends.max().unwrap_or(0).saturating_mul(self.header.tick_ns.into()).saturating_sub(self.origin_ns)
    }
    /// The events as they lie in the file, without reading them.
    pub fn stretches(&self) -> impl Iterator<Item = Stretch> + '_ {
        let ns = |ticks: u64| ticks.saturating_mul(self.header.tick_ns.into()).saturating_sub(self.origin_ns);
        self.entries.iter().filter_map(move |entry| {
            let (from_ns, to_ns) = (ns(entry.min_end), ns(entry.max_end));
            Some(Stretch { class: class_of(entry)?, from_ns, to_ns, events: entry.records.into() })
        })
    }
    /// Length of the file, bytes.
    pub fn file_bytes(&self) -> u64 {
        self.source.len()
    }
    /// Length of all chunks decoded, bytes.
    pub fn decoded_bytes(&self) -> u64 {
        self.entries.iter().map(|e| u64::from(e.decoded)).sum()
    }
    /// A string of the dictionary; empty for an id that is not in it.
    pub fn str(&self, id: StrId) -> &[u8] {
        self.dictionaries.str(id.0)
    }
    /// A task of the dictionary. Events never carry an id that is not in it (the reader checks); another id gives an
    /// entry with tid 0.
    pub fn task(&self, id: TaskId) -> &TaskDef {
        self.dictionaries.task(id.0)
    }
    /// An object of the dictionary. Events never carry an id that is not in it (the reader checks); another id gives
    /// an anonymous object without a kind.
    pub fn object(&self, id: ObjectId) -> &Object {
        self.dictionaries.object(id.0)
    }
    /// All tasks, in id order. In a damaged trace, lost entries have tid 0.
    pub fn tasks(&self) -> &[TaskDef] {
        self.dictionaries.tasks()
    }
    /// All objects, in id order. In a damaged trace, lost entries are anonymous objects without a kind.
    pub fn objects(&self) -> &[Object] {
        self.dictionaries.objects()
    }
    /// Streams the events that match, in order of [`crate::Event::end_ns`]. Memory is O(chunk). A damaged chunk was
    /// reported by [`Trace::damage`] or is an `Err` item; events after it follow.
    pub fn events(&self, filter: &Filter) -> Events<'_> {
        Events::new(self, filter)
    }

    /// The time in the file that is 0: other than 0 in a trace that is [rebased](Self::rebased).
    pub fn origin_ns(&self) -> u64 {
        self.origin_ns
    }
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
    pub(crate) fn source(&self) -> &Source {
        &self.source
    }
    pub(crate) fn id(&self) -> u32 {
        self.id
    }
    pub(crate) fn entries(&self) -> &[IndexEntry] {
        &self.entries
    }
    pub(crate) fn dictionaries(&self) -> &Dictionaries {
        &self.dictionaries
    }
    /// Offset of the index and its content without the entries.
    pub(crate) fn index(&self) -> Option<&(u64, Index)> {
        self.index.as_ref()
    }
}

fn last_header(source: &Source, entries: &[IndexEntry]) -> io::Result<Option<layout::ChunkHeader>> {
    entries.last().map_or(Ok(None), |entry| source.header_at(entry.offset).map(Result::ok))
}
