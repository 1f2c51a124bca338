//! Writes programs: streams steps and data to a file in bounded memory.

use crate::stored::{self, CHUNK_HEAD_BYTES, ChunkHead};
use crate::{
    CHUNK_STEPS, Kind, LAYOUT_VERSION, MAX_STEPS, MAX_TASKS, MsgDesc, POOL_MAX_BYTES, POOL_THRESHOLD,
    PROGRAM_BASE, PROGRAM_MAGIC, PROGRAM_MAX_BYTES, PathPid, ProgramHeader, RESERVED_BYTES, Sel, Step,
    TAG_MAX, TaskEntry, Wait, control, flags, header_flags, task_flags,
};
use std::collections::HashMap;
use std::fmt;
use std::fs::File;
use std::hash::{BuildHasher as _, RandomState};
use std::io;
use std::os::unix::fs::FileExt;

/// Bytes of the data buffer that is written at once.
const DATA_BLOCK: u64 = 256 * 1024;
/// Blobs up to this length are remembered as they are, longer ones by a hash.
const INTERN_MAX_BYTES: usize = 512;
/// Most blobs that are remembered, of either kind, so that equal ones are stored once; and most whose needs are.
const INTERN_MAX_ENTRIES: usize = 1 << 16;
/// Steps with their waits take no more than this many bytes each, and [`STEPS_BASE_BYTES`] in all. A step of a recording
/// takes about 30.
const STEP_MAX_BYTES: u64 = 64;
/// See [`STEP_MAX_BYTES`].
const STEPS_BASE_BYTES: u64 = 64 << 20;
/// Sum of all arenas that a program may ask for.
const ARENAS_MAX_BYTES: u64 = 1 << 38;

/// Why a program could not be built.
#[derive(Debug)]
#[non_exhaustive]
pub enum BuildError {
    /// The program file could not be written.
    Io {
        /// Offset in the program.
        offset: u64,
        /// The cause.
        source: io::Error,
    },
    /// The program has become larger than it may be.
    TooLarge {
        /// The bytes that it would have so far.
        bytes: u64,
        /// The most it may have, see [`ProgramBuilder::limit`].
        max: u64,
    },
    /// A limit of the layout was hit.
    Limit {
        /// What.
        what: &'static str,
        /// The value asked for.
        value: u64,
        /// The most there can be.
        max: u64,
    },
    /// A step or a task names something that does not exist.
    Invalid {
        /// Task index.
        task: u32,
        /// Step index.
        step: u32,
        /// What is wrong.
        what: &'static str,
    },
}

impl fmt::Display for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io { offset, .. } => write!(f, "write the replay program at offset {offset}"),
            Self::TooLarge { bytes, max } => {
                write!(f, "the replay program has {bytes} bytes so far, more than it may have ({max})")
            }
            Self::Limit { what, value, max } => {
                write!(f, "{what}: {value} is more than a program can have ({max})")
            }
            Self::Invalid { task, step, what } => write!(f, "task {task}, step {step}: {what}"),
        }
    }
}

impl std::error::Error for BuildError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io { source, .. } => Some(source),
            _ => None,
        }
    }
}

/// Who a task is.
#[derive(Debug, Clone, Default)]
pub struct TaskInfo {
    /// A set of [`task_flags`].
    pub flags: u32,
    /// Recorded thread id.
    pub tid: u32,
    /// Recorded process id.
    pub tgid: u32,
    /// Task index of the creator.
    pub parent: Option<u32>,
    /// Task index of the thread-group leader; `None`: itself.
    pub leader: Option<u32>,
    /// For messages.
    pub name: Vec<u8>,
}

struct Task {
    entry: TaskEntry,
    chunks: Vec<u64>,
    /// The chunk that is being filled: where it counts from, where its steps end, the steps.
    head: ChunkHead,
    ends: Vec<u32>,
    buffer: Vec<u8>,
    /// Handlers nest: their steps need scratch beside that of the call they interrupt.
    handlers: bool,
}

/// Builds a program in `file`, front to back; memory is bounded by the number of tasks, not of steps.
///
/// Blob offsets returned by the data methods are operands for the selectors that want blobs. Offset 0 is never a blob.
pub struct ProgramBuilder {
    file: File,
    /// First program offset not yet given away.
    end: u64,
    data: Vec<u8>,
    data_base: u64,
    tasks: Vec<Task>,
    interned: HashMap<Vec<u8>, u64>,
    /// Longer blobs, by a hash of their bytes; whether they are equal is seen by reading them.
    interned_long: HashMap<u64, u64>,
    hasher: RandomState,
    /// Scratch that the operand of a selector needs.
    needs: HashMap<(u8, u64), u64>,
    /// Most bytes that the program may have.
    max_bytes: u64,
    /// Bytes of steps that are not written yet, and of all steps.
    unwritten: u64,
    step_bytes: u64,
    value_slots: u32,
    futex_slots: u32,
    pool_bytes: u64,
    steps: u64,
    flags: u64,
}

fn bytes_of_words(words: &[u64]) -> Vec<u8> {
    words.iter().flat_map(|w| w.to_ne_bytes()).collect()
}

impl ProgramBuilder {
    /// Begins a program in an empty file that can be written and read.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn new(file: File) -> Result<Self, BuildError> {
        let mut builder = Self {
            file,
            end: 4096,
            data: Vec::new(),
            data_base: 0,
            tasks: Vec::new(),
            interned: HashMap::new(),
            interned_long: HashMap::new(),
            hasher: RandomState::new(),
            needs: HashMap::new(),
            max_bytes: PROGRAM_MAX_BYTES,
            unwritten: 0,
            step_bytes: 0,
            value_slots: 0,
            futex_slots: 0,
            pool_bytes: 0,
            steps: 0,
            flags: 0,
        };
        builder.open_data_block()?;
        Ok(builder)
    }

    /// Sets the most bytes that the program may have: whatever is added beyond is refused as soon as that shows.
    pub fn limit(&mut self, bytes: u64) {
        self.max_bytes = bytes.min(PROGRAM_MAX_BYTES);
    }

    /// Bytes of the program so far.
    pub fn bytes(&self) -> u64 {
        self.end.saturating_add(self.unwritten)
    }

    #[cfg(test)]
    pub(crate) fn file_len(&self) -> u64 {
        self.file.metadata().map_or(u64::MAX, |metadata| metadata.len())
    }

    fn allocate(&mut self, len: u64) -> Result<u64, BuildError> {
        let offset = self.end;
        let end = offset.saturating_add(len).next_multiple_of(16);
        let bytes = end.saturating_add(self.unwritten);
        if bytes > self.max_bytes && self.max_bytes < PROGRAM_MAX_BYTES {
            return Err(BuildError::TooLarge { bytes, max: self.max_bytes });
        }
        if end > PROGRAM_MAX_BYTES {
            return Err(BuildError::Limit {
                what: "bytes of the program",
                value: end,
                max: PROGRAM_MAX_BYTES,
            });
        }
        self.end = end;
        Ok(offset)
    }

    fn write(&self, offset: u64, bytes: &[u8]) -> Result<(), BuildError> {
        self.file
            .write_all_at(bytes, RESERVED_BYTES + offset)
            .map_err(|source| BuildError::Io { offset, source })
    }

    fn open_data_block(&mut self) -> Result<(), BuildError> {
        if !self.data.is_empty() {
            self.write(self.data_base, &self.data)?;
            self.data.clear();
        }
        self.data_base = self.allocate(DATA_BLOCK)?;
        Ok(())
    }

    /// Adds a blob: `bytes` behind a length word; 16-byte aligned. Equal blobs are stored once, as long as there are not
    /// too many different ones.
    ///
    /// # Errors
    /// When the file cannot be written or is full.
    pub fn data(&mut self, bytes: &[u8]) -> Result<u64, BuildError> {
        if bytes.len() <= INTERN_MAX_BYTES
            && let Some(&offset) = self.interned.get(bytes)
        {
            return Ok(offset);
        }
        let hash = (bytes.len() > INTERN_MAX_BYTES).then(|| self.hasher.hash_one(bytes));
        if let Some(&offset) = hash.and_then(|hash| self.interned_long.get(&hash))
            && self.blob(offset).is_some_and(|known| known == bytes)
        {
            return Ok(offset);
        }
        let need = (16 + bytes.len() as u64).next_multiple_of(16);
        let offset = if need > DATA_BLOCK / 4 {
            let offset = self.allocate(need)?;
            self.write(offset + 8, &(bytes.len() as u64).to_ne_bytes())?;
            self.write(offset + 16, bytes)?;
            offset + 16
        } else {
            if self.data.len() as u64 + need > DATA_BLOCK {
                self.open_data_block()?;
            }
            let offset = self.data_base + self.data.len() as u64 + 16;
            self.data.extend_from_slice(&[0; 8]);
            self.data.extend_from_slice(&(bytes.len() as u64).to_ne_bytes());
            self.data.extend_from_slice(bytes);
            self.data.resize(self.data.len().next_multiple_of(16), 0);
            offset
        };
        if bytes.len() <= INTERN_MAX_BYTES && self.interned.len() < INTERN_MAX_ENTRIES {
            self.interned.insert(bytes.to_vec(), offset);
        }
        if let Some(hash) = hash
            && self.interned_long.len() < INTERN_MAX_ENTRIES
        {
            self.interned_long.insert(hash, offset);
        }
        Ok(offset)
    }

    /// Adds a NUL-terminated string (interior NULs end it, as for the kernel).
    ///
    /// # Errors
    /// As [`Self::data`].
    pub fn cstr(&mut self, bytes: &[u8]) -> Result<u64, BuildError> {
        let mut with_nul: Vec<u8> = bytes.iter().copied().take_while(|&b| b != 0).collect();
        with_nul.push(0);
        self.data(&with_nul)
    }

    /// Adds a NULL-terminated table of pointers to blobs (an argument vector).
    ///
    /// # Errors
    /// As [`Self::data`].
    pub fn pointers(&mut self, blobs: &[u64]) -> Result<u64, BuildError> {
        let mut words: Vec<u64> = blobs.iter().map(|offset| PROGRAM_BASE + offset).collect();
        words.push(0);
        self.data(&bytes_of_words(&words))
    }

    /// Adds a table of u64 (`Sel::Iov` lengths, timer specifications).
    ///
    /// # Errors
    /// As [`Self::data`].
    pub fn words(&mut self, words: &[u64]) -> Result<u64, BuildError> {
        self.data(&bytes_of_words(words))
    }

    /// Adds messages for `Sel::Msg` (one) or `Sel::Mmsg`: each with its I/O vector lengths.
    ///
    /// # Errors
    /// As [`Self::data`].
    pub fn messages(&mut self, messages: &[(MsgDesc, Vec<u64>)]) -> Result<u64, BuildError> {
        let mut bytes = Vec::new();
        for (message, lens) in messages {
            bytes.extend_from_slice(&message.name.to_ne_bytes());
            bytes.extend_from_slice(&message.name_len.to_ne_bytes());
            bytes.extend_from_slice(&(lens.len() as u32).to_ne_bytes());
            bytes.extend_from_slice(&message.control.to_ne_bytes());
            bytes.extend_from_slice(&message.control_len.to_ne_bytes());
            bytes.extend_from_slice(&0_u32.to_ne_bytes());
            bytes.extend(bytes_of_words(lens));
        }
        self.data(&bytes)
    }

    /// Adds a path with a task's live id between `prefix` and `suffix`, for [`Sel::PathPid`].
    ///
    /// # Errors
    /// As [`Self::data`].
    pub fn path_pid(&mut self, task: u32, prefix: &[u8], suffix: &[u8]) -> Result<u64, BuildError> {
        let clip = |part: &[u8]| part[..part.len().min(2048)].to_vec();
        let (prefix, suffix) = (clip(prefix), clip(suffix));
        let head = PathPid { task, prefix_len: prefix.len() as u16, suffix_len: suffix.len() as u16 };
        let mut bytes = Vec::new();
        bytes.extend_from_slice(&head.task.to_ne_bytes());
        bytes.extend_from_slice(&head.prefix_len.to_ne_bytes());
        bytes.extend_from_slice(&head.suffix_len.to_ne_bytes());
        bytes.extend_from_slice(&prefix);
        bytes.extend_from_slice(&suffix);
        self.data(&bytes)
    }

    /// A new value slot (initially 0).
    pub fn value_slot(&mut self) -> u32 {
        self.value_slots += 1;
        self.value_slots - 1
    }

    /// Number of value slots so far.
    pub fn slots(&self) -> u32 {
        self.value_slots
    }

    /// A new futex slot (initially 0).
    pub fn futex_slot(&mut self) -> u32 {
        self.futex_slots += 1;
        self.futex_slots - 1
    }

    /// Adds a task; indices count from 0 in the order of adding.
    ///
    /// # Errors
    /// When there are too many.
    pub fn task(&mut self, info: &TaskInfo) -> Result<u32, BuildError> {
        let index = self.tasks.len() as u32;
        if index >= MAX_TASKS {
            return Err(BuildError::Limit {
                what: "tasks",
                value: u64::from(index) + 1,
                max: u64::from(MAX_TASKS),
            });
        }
        let name = if info.name.is_empty() { 0 } else { self.cstr(&info.name)? };
        self.tasks.push(Task {
            entry: TaskEntry {
                steps: 0,
                flags: info.flags,
                chunks: 0,
                arena_offset: 0,
                arena_bytes: 0,
                tid: info.tid,
                tgid: info.tgid,
                parent: info.parent.unwrap_or(u32::MAX),
                leader: info.leader.unwrap_or(index),
                name,
            },
            chunks: Vec::new(),
            head: ChunkHead::default(),
            ends: Vec::new(),
            buffer: Vec::new(),
            handlers: false,
        });
        Ok(index)
    }

    /// Number of steps that `task` has so far: the index of the next one.
    pub fn next_step(&self, task: u32) -> u32 {
        self.tasks.get(task as usize).map_or(0, |t| t.entry.steps)
    }

    /// Number of tasks so far.
    pub fn task_count(&self) -> u32 {
        self.tasks.len() as u32
    }

    /// Adds or removes flags of a task later than at its creation.
    pub fn update_task_flags(&mut self, task: u32, set: u32, clear: u32) {
        if let Some(task) = self.tasks.get_mut(task as usize) {
            task.entry.flags = (task.entry.flags | set) & !clear;
        }
    }

    /// Appends a step to a task and returns its index.
    ///
    /// # Errors
    /// When the step names something impossible, a limit is hit, or the file cannot be written.
    pub fn push(&mut self, task: u32, step: &Step) -> Result<u32, BuildError> {
        self.push_after(task, step, &[])
    }

    /// Appends a step that waits for others to a task and returns its index.
    ///
    /// # Errors
    /// As [`Self::push`].
    pub fn push_after(&mut self, task: u32, step: &Step, waits: &[Wait]) -> Result<u32, BuildError> {
        let index = self.next_step(task);
        let invalid = |what| BuildError::Invalid { task, step: index, what };
        if task as usize >= self.tasks.len() {
            return Err(invalid("no such task"));
        }
        if index >= MAX_STEPS {
            return Err(BuildError::Limit {
                what: "steps of a task",
                value: u64::from(index),
                max: u64::from(MAX_STEPS),
            });
        }
        let mut scratch = 0_u64;
        for (&sel, &operand) in step.sel.iter().zip(&step.args) {
            if sel != Sel::Imm as u8 {
                scratch += self.need(sel, operand).ok_or_else(|| invalid("bad argument selector"))??;
            }
        }
        if step.flags & flags::STREAM != 0 && step.len_arg > 6 {
            return Err(invalid("the length argument of a stream call is 0 to 6"));
        }
        if step.flags & (flags::FAULT | flags::NOT_READY) != 0 {
            if step.expect > TAG_MAX || step.expect < -4095 {
                return Err(invalid("an emulated result is an errno or has 31 bits"));
            }
            self.flags |= header_flags::USES_FAULT_LANE;
        }
        if step.kind == Kind::Note as u8 {
            self.flags |= header_flags::USES_FAULT_LANE;
        }
        let task_build = &mut self.tasks[task as usize];
        task_build.entry.arena_bytes = task_build.entry.arena_bytes.max(scratch);
        task_build.handlers |= step.kind == Kind::SignalHandler as u8;
        if task_build.ends.is_empty() {
            task_build.head = ChunkHead { t_ns: step.t_ns, event: step.event, steps: 0 };
        }
        let before = task_build.buffer.len();
        stored::encode(&task_build.head, step, waits, &mut task_build.buffer);
        let bytes = (task_build.buffer.len() - before + size_of::<u32>()) as u64;
        task_build.ends.push(u32::try_from(task_build.buffer.len()).unwrap_or(u32::MAX));
        task_build.entry.steps += 1;
        self.steps += 1;
        self.unwritten += bytes;
        self.step_bytes += bytes;
        let max = self.steps.saturating_mul(STEP_MAX_BYTES).saturating_add(STEPS_BASE_BYTES);
        if self.step_bytes > max && self.max_bytes < PROGRAM_MAX_BYTES {
            return Err(BuildError::TooLarge { bytes: self.step_bytes, max });
        }
        if self.bytes() > self.max_bytes {
            return Err(BuildError::TooLarge { bytes: self.bytes(), max: self.max_bytes });
        }
        if self.tasks[task as usize].ends.len() as u32 == CHUNK_STEPS {
            self.flush(task)?;
        }
        Ok(index)
    }

    /// As [`Self::scratch`], which has to look at a blob only once.
    fn need(&mut self, sel: u8, operand: u64) -> Option<Result<u64, BuildError>> {
        let by_blob =
            matches!(Sel::from_u8(sel)?, Sel::InOut | Sel::PathPid | Sel::Iov | Sel::Msg | Sel::Mmsg);
        if !by_blob {
            return self.scratch(sel, operand);
        }
        if let Some(known) = self.needs.get(&(sel, operand)) {
            return Some(Ok(*known));
        }
        let need = self.scratch(sel, operand)?;
        if let Ok(bytes) = &need
            && self.needs.len() < INTERN_MAX_ENTRIES
        {
            self.needs.insert((sel, operand), *bytes);
        }
        Some(need)
    }

    /// Arena bytes that an argument needs, `None` when the selector is not valid.
    fn scratch(&mut self, sel: u8, operand: u64) -> Option<Result<u64, BuildError>> {
        let sel = Sel::from_u8(sel)?;
        let out = |len: u64, pool: &mut u64| {
            if len > POOL_MAX_BYTES {
                return Err(BuildError::Limit {
                    what: "bytes of one buffer",
                    value: len,
                    max: POOL_MAX_BYTES,
                });
            }
            if len > POOL_THRESHOLD {
                *pool = (*pool).max(len.next_multiple_of(4096));
                return Ok(16);
            }
            Ok(len.next_multiple_of(16) + 16)
        };
        Some(match sel {
            Sel::Imm | Sel::Data | Sel::Pid | Sel::PidNeg | Sel::Keep | Sel::Millis => Ok(0),
            Sel::Value => {
                let (slot, _) = crate::value_parts(operand);
                if slot >= self.value_slots {
                    return None;
                }
                Ok(0)
            }
            Sel::Futex => {
                if operand >= u64::from(self.futex_slots) {
                    return None;
                }
                Ok(0)
            }
            Sel::StandIn => {
                if operand >= control::STAND_IN_BYTES {
                    return None;
                }
                Ok(0)
            }
            Sel::Out => out(operand, &mut self.pool_bytes),
            Sel::InOut | Sel::PathPid => {
                let len = self.blob(operand)?.len() as u64;
                if len > POOL_THRESHOLD * 16 {
                    return None;
                }
                Ok(len.next_multiple_of(16) + 64)
            }
            Sel::Iov => {
                let lens = self.blob(operand)?;
                self.iov_scratch(&lens)?
            }
            Sel::Msg | Sel::Mmsg => {
                let bytes = self.blob(operand)?;
                let mut at = 0;
                let mut total = 0;
                while at + size_of::<MsgDesc>() <= bytes.len() {
                    let u32_at = |o: usize| {
                        bytes[at + o..at + o + 4].try_into().map(u32::from_ne_bytes).unwrap_or_default()
                    };
                    let (name_len, iovs, control_len) = (u32_at(8), u32_at(12), u32_at(24));
                    at += size_of::<MsgDesc>();
                    let lens = bytes.get(at..at + iovs as usize * 8)?.to_vec();
                    at += lens.len();
                    if name_len > 4096 || control_len > 1 << 16 {
                        return None;
                    }
                    match self.iov_scratch(&lens)? {
                        Ok(bytes) => total += bytes + u64::from(name_len) + u64::from(control_len) + 192,
                        Err(error) => return Some(Err(error)),
                    }
                }
                Ok(total)
            }
            Sel::Timespec
            | Sel::Timeval
            | Sel::AbsTimespec
            | Sel::Itimerspec
            | Sel::Itimerval
            | Sel::AbsItimerspec
            | Sel::AltStack
            | Sel::SoftLimit => Ok(64),
        })
    }

    fn iov_scratch(&mut self, lens: &[u8]) -> Option<Result<u64, BuildError>> {
        let count = lens.len() as u64 / 8;
        let mut total = 0_u64;
        for len in lens.chunks_exact(8) {
            total = total.checked_add(u64::from_ne_bytes(len.try_into().ok()?))?;
        }
        if total > POOL_MAX_BYTES {
            return Some(Err(BuildError::Limit {
                what: "bytes of one I/O vector",
                value: total,
                max: POOL_MAX_BYTES,
            }));
        }
        // All parts share one scratch buffer of the longest part's length; their contents do not matter.
        let longest = lens
            .chunks_exact(8)
            .filter_map(|len| Some(u64::from_ne_bytes(len.try_into().ok()?)))
            .max()
            .unwrap_or(0);
        let buffer = if longest > POOL_THRESHOLD {
            self.pool_bytes = self.pool_bytes.max(longest.next_multiple_of(4096));
            0
        } else {
            longest.next_multiple_of(16)
        };
        Some(Ok(count * 16 + buffer + 64))
    }

    /// The bytes of a blob written before.
    pub fn blob(&self, offset: u64) -> Option<Vec<u8>> {
        if offset < 16 {
            return None;
        }
        let read = |at: u64, buf: &mut [u8]| -> Option<()> {
            if at >= self.data_base && at < self.data_base + DATA_BLOCK {
                let start = (at - self.data_base) as usize;
                buf.copy_from_slice(self.data.get(start..start + buf.len())?);
                Some(())
            } else if at + buf.len() as u64 <= self.end {
                self.file.read_exact_at(buf, RESERVED_BYTES + at).ok()
            } else {
                None
            }
        };
        let mut len = [0; 8];
        read(offset - 8, &mut len)?;
        let len = u64::from_ne_bytes(len);
        if len > self.end {
            return None;
        }
        let mut bytes = vec![0; len as usize];
        read(offset, &mut bytes)?;
        Some(bytes)
    }

    fn flush(&mut self, task: u32) -> Result<(), BuildError> {
        let state = &mut self.tasks[task as usize];
        if state.ends.is_empty() {
            return Ok(());
        }
        let mut bytes =
            Vec::with_capacity(CHUNK_HEAD_BYTES as usize + state.ends.len() * 4 + state.buffer.len());
        bytes.extend_from_slice(&state.head.t_ns.to_ne_bytes());
        bytes.extend_from_slice(&state.head.event.to_ne_bytes());
        bytes.extend_from_slice(&(state.ends.len() as u32).to_ne_bytes());
        bytes.extend(state.ends.iter().flat_map(|end| end.to_ne_bytes()));
        bytes.extend_from_slice(&state.buffer);
        self.unwritten -= (state.ends.len() * size_of::<u32>() + state.buffer.len()) as u64;
        state.ends.clear();
        state.buffer.clear();
        let offset = self.allocate(bytes.len() as u64)?;
        self.write(offset, &bytes)?;
        self.tasks[task as usize].chunks.push(offset);
        Ok(())
    }

    /// Writes what is left, the task table and the header, and hands the file back.
    ///
    /// # Errors
    /// When there is not exactly one root, the arenas add up to too much, or the file cannot be written.
    pub fn seal(mut self) -> Result<File, BuildError> {
        for task in 0..self.task_count() {
            self.flush(task)?;
            self.tasks[task as usize].buffer = Vec::new();
            self.tasks[task as usize].ends = Vec::new();
        }
        let roots = self.tasks.iter().filter(|t| t.entry.flags & task_flags::ROOT != 0).count();
        if roots != 1 {
            return Err(BuildError::Invalid { task: 0, step: 0, what: "exactly one task must be the root" });
        }
        let mut arena_bytes = 0;
        let mut arenas = 0_u64;
        for index in 0..self.tasks.len() {
            let words = bytes_of_words(&self.tasks[index].chunks);
            let chunks = if words.is_empty() { 0 } else { self.data_large(&words)? };
            let scratch_parts = if self.tasks[index].handlers { 3 } else { 1 };
            let entry = &mut self.tasks[index].entry;
            entry.chunks = chunks;
            entry.arena_offset = arenas;
            // The scratch of one step, the environment of an exec, room for alignment.
            entry.arena_bytes =
                (control::KEEP_BYTES + (entry.arena_bytes + 1024) * scratch_parts).next_multiple_of(4096);
            arena_bytes = arena_bytes.max(entry.arena_bytes);
            arenas += entry.arena_bytes;
        }
        if arenas > ARENAS_MAX_BYTES {
            return Err(BuildError::Limit { what: "bytes of scratch", value: arenas, max: ARENAS_MAX_BYTES });
        }
        if !self.data.is_empty() {
            self.write(self.data_base, &self.data)?;
        }
        let mut table = Vec::with_capacity(self.tasks.len() * size_of::<TaskEntry>());
        for task in &self.tasks {
            let e = &task.entry;
            for word in [e.steps, e.flags] {
                table.extend_from_slice(&word.to_ne_bytes());
            }
            for word in [e.chunks, e.arena_offset, e.arena_bytes] {
                table.extend_from_slice(&word.to_ne_bytes());
            }
            for word in [e.tid, e.tgid, e.parent, e.leader] {
                table.extend_from_slice(&word.to_ne_bytes());
            }
            table.extend_from_slice(&e.name.to_ne_bytes());
        }
        let task_table = self.allocate(table.len() as u64)?;
        self.write(task_table, &table)?;
        let len = self.end.next_multiple_of(4096);
        let mut header = Vec::with_capacity(80);
        header.extend_from_slice(&PROGRAM_MAGIC.to_ne_bytes());
        header.extend_from_slice(&LAYOUT_VERSION.to_ne_bytes());
        header.extend_from_slice(&self.task_count().to_ne_bytes());
        header.extend_from_slice(&len.to_ne_bytes());
        header.extend_from_slice(&task_table.to_ne_bytes());
        header.extend_from_slice(&self.steps.to_ne_bytes());
        header.extend_from_slice(&self.value_slots.to_ne_bytes());
        header.extend_from_slice(&self.futex_slots.to_ne_bytes());
        for word in [self.pool_bytes, arena_bytes, self.flags] {
            header.extend_from_slice(&word.to_ne_bytes());
        }
        debug_assert_eq!(header.len(), size_of::<ProgramHeader>());
        self.write(0, &header)?;
        self.file.set_len(RESERVED_BYTES + len).map_err(|source| BuildError::Io { offset: len, source })?;
        Ok(self.file)
    }

    fn data_large(&mut self, bytes: &[u8]) -> Result<u64, BuildError> {
        let offset = self.allocate(bytes.len() as u64)?;
        self.write(offset, bytes)?;
        Ok(offset)
    }
}
