//! Reads programs back: for `--dry-run`, for messages about a stuck task, for tests.

use crate::stored::{self, CHUNK_HEAD_BYTES, ChunkHead};
use crate::{
    CHUNK_STEPS, Expect, Kind, LAYOUT_VERSION, MAX_TASKS, PROGRAM_MAGIC, PROGRAM_MAX_BYTES, Post,
    ProgramHeader, RESERVED_BYTES, Sel, Step, TaskEntry, Wait, clock_parts, fds_parts, flags, value_parts,
};
use std::fmt;
use std::fmt::Write as _;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// Why a program could not be read.
#[derive(Debug)]
#[non_exhaustive]
pub enum DecodeError {
    /// The file could not be read.
    Io {
        /// Offset in the program.
        offset: u64,
        /// The cause.
        source: io::Error,
    },
    /// It is not a program of this version, or damaged.
    Invalid {
        /// What is wrong.
        what: &'static str,
        /// The offending value.
        value: u64,
    },
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io { offset, .. } => write!(f, "read the replay program at offset {offset}"),
            Self::Invalid { what, value } => write!(f, "not a valid replay program: {what} ({value})"),
        }
    }
}

impl std::error::Error for DecodeError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io { source, .. } => Some(source),
            Self::Invalid { .. } => None,
        }
    }
}

/// A sealed program.
#[derive(Debug)]
pub struct Program {
    file: File,
    /// Its header.
    pub header: ProgramHeader,
    /// Its tasks.
    pub tasks: Vec<TaskEntry>,
}

/// Reads consecutive little pieces.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn take<const N: usize>(&mut self) -> [u8; N] {
        let mut out = [0; N];
        let n = N.min(self.0.len());
        out[..n].copy_from_slice(&self.0[..n]);
        self.0 = &self.0[n..];
        out
    }
    fn u32(&mut self) -> u32 {
        u32::from_ne_bytes(self.take())
    }
    fn u64(&mut self) -> u64 {
        u64::from_ne_bytes(self.take())
    }
}

impl Program {
    /// Opens a sealed program.
    ///
    /// # Errors
    /// When it cannot be read or is not one.
    pub fn open(file: File) -> Result<Self, DecodeError> {
        let mut bytes = [0; size_of::<ProgramHeader>()];
        file.read_exact_at(&mut bytes, RESERVED_BYTES)
            .map_err(|source| DecodeError::Io { offset: 0, source })?;
        let mut f = Fields(&bytes);
        let header = ProgramHeader {
            magic: f.u64(),
            version: f.u32(),
            tasks: f.u32(),
            len: f.u64(),
            task_table: f.u64(),
            steps: f.u64(),
            value_slots: f.u32(),
            futex_slots: f.u32(),
            pool_bytes: f.u64(),
            arena_bytes: f.u64(),
            flags: f.u64(),
        };
        let check =
            |ok: bool, what, value| if ok { Ok(()) } else { Err(DecodeError::Invalid { what, value }) };
        check(header.magic == PROGRAM_MAGIC, "magic", header.magic)?;
        check(header.version == LAYOUT_VERSION, "version", u64::from(header.version))?;
        check(header.tasks <= MAX_TASKS, "tasks", u64::from(header.tasks))?;
        check(header.len <= PROGRAM_MAX_BYTES, "length", header.len)?;
        let mut program = Self { file, header, tasks: Vec::new() };
        let mut table = vec![0; header.tasks as usize * size_of::<TaskEntry>()];
        program.read(header.task_table, &mut table)?;
        for entry in table.chunks_exact(size_of::<TaskEntry>()) {
            let mut f = Fields(entry);
            program.tasks.push(TaskEntry {
                steps: f.u32(),
                flags: f.u32(),
                chunks: f.u64(),
                arena_offset: f.u64(),
                arena_bytes: f.u64(),
                tid: f.u32(),
                tgid: f.u32(),
                parent: f.u32(),
                leader: f.u32(),
                name: f.u64(),
            });
        }
        Ok(program)
    }

    /// The file it lies in, [`RESERVED_BYTES`] in.
    pub fn file(&self) -> &File {
        &self.file
    }

    pub(crate) fn read(&self, offset: u64, bytes: &mut [u8]) -> Result<(), DecodeError> {
        if offset.saturating_add(bytes.len() as u64) > self.header.len {
            return Err(DecodeError::Invalid { what: "offset beyond the end", value: offset });
        }
        self.file
            .read_exact_at(bytes, RESERVED_BYTES + offset)
            .map_err(|source| DecodeError::Io { offset, source })
    }

    /// A task's name.
    pub fn task_name(&self, task: u32) -> String {
        self.tasks.get(task as usize).map_or_else(String::new, |entry| {
            let name = if entry.name == 0 { Vec::new() } else { self.blob(entry.name).unwrap_or_default() };
            let name = name.strip_suffix(&[0]).unwrap_or(&name);
            format!("{}[{}]", String::from_utf8_lossy(name), entry.tid)
        })
    }

    /// One step.
    ///
    /// # Errors
    /// When there is no such step or it cannot be read.
    pub fn step(&self, task: u32, index: u32) -> Result<Step, DecodeError> {
        let entry = self
            .tasks
            .get(task as usize)
            .filter(|entry| index < entry.steps)
            .ok_or(DecodeError::Invalid { what: "no such step", value: u64::from(index) })?;
        let mut chunk = [0; 8];
        self.read(entry.chunks + u64::from(index / CHUNK_STEPS) * 8, &mut chunk)?;
        let chunk = u64::from_ne_bytes(chunk);
        let mut head = [0; CHUNK_HEAD_BYTES as usize];
        self.read(chunk, &mut head)?;
        let mut f = Fields(&head);
        let head = ChunkHead { t_ns: f.u64(), event: f.u32(), steps: f.u32() };
        let invalid = |what, value| DecodeError::Invalid { what, value };
        let within = u64::from(index % CHUNK_STEPS);
        if within >= u64::from(head.steps) {
            return Err(invalid("steps of a chunk", u64::from(head.steps)));
        }
        // Where the step before ends (the first begins at 0), and where this one does.
        let mut ends = [0; 8];
        let table = chunk.saturating_add(CHUNK_HEAD_BYTES);
        match within {
            0 => self.read(table, &mut ends[4..])?,
            _ => self.read(table.saturating_add((within - 1) * 4), &mut ends)?,
        }
        let mut f = Fields(&ends);
        let (begin, end) = (u64::from(f.u32()), u64::from(f.u32()));
        let len = end.checked_sub(begin).filter(|len| *len <= self.header.len);
        let len = len.ok_or_else(|| invalid("end of a step", end))?;
        let offset = table.saturating_add(u64::from(head.steps) * 4).saturating_add(begin);
        let mut bytes = vec![0; len as usize];
        self.read(offset, &mut bytes)?;
        let (mut step, waits) =
            stored::decode(&head, &bytes).ok_or_else(|| invalid("a step that is cut short", offset))?;
        if step.waits_len > 0 {
            step.waits = offset + waits as u64;
        }
        Ok(step)
    }

    /// The bytes of a blob.
    ///
    /// # Errors
    /// When there is none at that offset.
    pub fn blob(&self, offset: u64) -> Result<Vec<u8>, DecodeError> {
        let mut len = [0; 8];
        let at = offset.checked_sub(8).ok_or(DecodeError::Invalid { what: "blob offset", value: offset })?;
        self.read(at, &mut len)?;
        let len = u64::from_ne_bytes(len);
        if len > self.header.len {
            return Err(DecodeError::Invalid { what: "blob length", value: len });
        }
        let mut bytes = vec![0; len as usize];
        self.read(offset, &mut bytes)?;
        Ok(bytes)
    }

    /// What a step waits for.
    ///
    /// # Errors
    /// When the list cannot be read.
    pub fn waits(&self, step: &Step) -> Result<Vec<Wait>, DecodeError> {
        if step.waits_len == 0 {
            return Ok(Vec::new());
        }
        // A number takes at most 10 bytes; the last step's may be followed by nothing.
        let left = self.header.len.saturating_sub(step.waits);
        let mut bytes = vec![0; (u64::from(step.waits_len) * 20).min(left) as usize];
        self.read(step.waits, &mut bytes)?;
        let mut at = 0;
        (0..step.waits_len)
            .map(|_| {
                let short = DecodeError::Invalid { what: "waits that are cut short", value: step.waits };
                stored::decode_wait(&bytes, &mut at).ok_or(short)
            })
            .collect()
    }

    /// One line about a step, in the manner of strace. `name` gives a call's name.
    pub fn describe(&self, step: &Step, name: &dyn Fn(u32) -> String) -> String {
        let mut out = String::new();
        let _ = write!(out, "{:>13.6} ", step.t_ns as f64 / 1e9);
        match Kind::from_u8(step.kind) {
            Some(Kind::Call) => {}
            Some(kind) => {
                let _ = write!(out, "{kind:?} ");
            }
            None => {
                let _ = write!(out, "kind {}? ", step.kind);
            }
        }
        if step.kind == Kind::SignalHandler as u8 {
            let _ = write!(out, "signal {}", step.nr);
        } else if step.nr != 0 || step.kind <= Kind::Exit as u8 {
            out.push_str(&name(step.nr));
        }
        out.push('(');
        let last =
            (0..6).rev().find(|&i| step.args[i] != 0 || step.sel[i] != 0).map_or(0, |highest| highest + 1);
        for index in 0..last {
            if index > 0 {
                out.push_str(", ");
            }
            self.describe_argument(&mut out, step.sel[index], step.args[index]);
        }
        out.push(')');
        match Expect::from_u8(step.expect_kind) {
            Some(Expect::Any) => {}
            Some(Expect::Exact) => {
                let _ = write!(out, " = {}", step.expect);
            }
            Some(Expect::Bytes) => {
                let _ = write!(out, " = {} bytes", step.expect);
            }
            Some(Expect::Pid) => {
                let _ = write!(out, " = pid of {}", self.task_name(step.expect as u32));
            }
            Some(Expect::Success) => out.push_str(" = ok"),
            Some(Expect::Ready) => {
                let _ = write!(out, " = ready like {}", step.expect);
            }
            Some(Expect::Never) => out.push_str(" = never"),
            None => {
                let _ = write!(out, " = expect {}?", step.expect_kind);
            }
        }
        match Post::from_u8(step.post) {
            None | Some(Post::None) => {}
            Some(Post::Fd) => {
                let _ = write!(out, " → fd {}", step.post_arg as u32);
            }
            Some(Post::Fds) => {
                let (first, second, _, _) = fds_parts(step.post_arg);
                let _ = write!(out, " → fds {first} {second}");
            }
            Some(post) => {
                let _ = write!(out, " → {post:?} {}", step.post_arg);
            }
        }
        for (flag, word) in [
            (flags::ENGINE, "engine"),
            (flags::FAULT, "emulated"),
            (flags::STREAM, "stream"),
            (flags::AT, "at"),
            (flags::REFUSED, "refused"),
            (flags::SURROGATE, "surrogate"),
            (flags::MISSING, "missing"),
            (flags::BLOCKED, "blocked"),
            (flags::IN_HANDLER, "in handler"),
            (flags::INTERRUPTED, "interrupted"),
            (flags::EXTRA, "extra"),
            (flags::NOT_READY, "not ready"),
            (flags::OPEN_LOOP, "open loop"),
            (flags::WRITTEN, "written"),
            (flags::TO_PROCESS, "to the process"),
            (flags::HOLDS_NUMBER, "holds its number"),
            (flags::SHARES_NUMBERS, "shares numbers"),
            (flags::WAITS_FOR_DISK, "waits for the disk"),
        ] {
            if step.flags & flag != 0 {
                let _ = write!(out, " [{word}]");
            }
        }
        if step.think_cpu_ns > 0 {
            let _ = write!(out, " think {}ns", step.think_cpu_ns);
        }
        if step.think_sleep_ns > 0 {
            let _ = write!(out, " idle {}ns", step.think_sleep_ns);
        }
        for wait in self.waits(step).unwrap_or_default() {
            let verb = if wait.seq % 2 == 1 { "entered" } else { "completed" };
            let _ = write!(
                out,
                " after {} has {verb} step {}",
                self.task_name(wait.task),
                wait.seq.saturating_sub(1) / 2
            );
        }
        out
    }

    fn describe_argument(&self, out: &mut String, sel: u8, operand: u64) {
        let _ = match Sel::from_u8(sel) {
            Some(Sel::Imm) if operand > 0xffff => write!(out, "{operand:#x}"),
            Some(Sel::Imm) => write!(out, "{operand}"),
            Some(sel @ (Sel::Data | Sel::InOut)) => {
                let bytes = self.blob(operand).unwrap_or_default();
                let text = bytes.strip_suffix(&[0]).filter(|text| {
                    !text.is_empty() && text.len() < 256 && text.iter().all(|&b| (0x20..0x7f).contains(&b))
                });
                let mark = if sel == Sel::InOut { "&" } else { "" };
                match text {
                    Some(text) => write!(out, "{mark}{:?}", String::from_utf8_lossy(text)),
                    None => write!(out, "{mark}<{} bytes>", bytes.len()),
                }
            }
            Some(Sel::Out) => write!(out, "[{operand}]"),
            Some(Sel::Pid) => write!(out, "pid of {}", self.task_name(operand as u32)),
            Some(Sel::PidNeg) => write!(out, "group of {}", self.task_name(operand as u32)),
            Some(Sel::Value) => {
                let (slot, offset) = value_parts(operand);
                write!(out, "v{slot}{offset:+#x}")
            }
            Some(Sel::Futex) => write!(out, "futex{operand}"),
            Some(Sel::AbsTimespec) => {
                let (clock, ns) = clock_parts(operand);
                write!(out, "now of clock {clock} + {ns}ns")
            }
            Some(sel @ (Sel::Timespec | Sel::Timeval | Sel::Millis)) => write!(out, "{sel:?} {operand}ns"),
            Some(sel) => write!(out, "{sel:?} {operand}"),
            None => write!(out, "sel {sel}? {operand}"),
        };
    }
}
