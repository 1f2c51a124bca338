//! Calls as slices, and how often they are made.

use super::schema::CounterDescriptor;
use super::sheet::{Count, Lane, Name, Note, Value};
use super::{CALLS, Place, Tracks, per_second};
use crate::text::Events;
use crate::text::decode::{self, Arg};
use ctrace_format::{Detail, Syscall, SyscallFlags, Trace};
use std::io::{self, Write};

/// The call as a slice of its thread.
pub(super) fn slice<W: Write>(
    show: &Events<'_>,
    event: &Syscall,
    trace: &Trace,
    tracks: &mut Tracks<W>,
) -> io::Result<()> {
    let call = show.call(event);
    let unknown;
    let name = if call.name.is_empty() {
        unknown = format!("syscall_{}", event.sysno.nr);
        &unknown
    } else {
        call.name
    };
    let marked;
    let name = match decode::abi_mark(event.sysno.abi, trace.header().abi) {
        "" => name,
        mark => {
            marked = format!("{mark}{name}");
            &marked
        }
    };
    let mut notes: Vec<Note> = Vec::with_capacity(4);
    let args: Vec<Note> =
        call.args().into_iter().filter_map(|(name, arg)| Some((name, argument(arg)?))).collect();
    if !args.is_empty() {
        notes.push(("args", Value::Dict(args)));
    }
    if event.flags.contains(SyscallFlags::NO_EXIT) {
        notes.push(("unfinished", Value::Int(1)));
    } else {
        notes.push(("ret", Value::Int(event.ret)));
    }
    if let Some(errno) = event.errno() {
        notes.push(("errno", Value::Often(decode::errno_name(errno))));
    }
    if let Some(object) = event.object {
        notes.push(("object", Value::Often(call.object(object))));
    }
    for (flag, what) in [
        (SyscallFlags::NO_ENTER, "entered before the recording"),
        (SyscallFlags::ENGINE, "replay engine"),
        (SyscallFlags::INJECTED, "injected"),
        (SyscallFlags::FILTERED, "answered by a filter"),
        (SyscallFlags::EMULATED, "emulated"),
        (SyscallFlags::TRUNCATED, "not all of it was recorded"),
    ] {
        if event.flags.contains(flag) {
            notes.push(("note", Value::Often(what.to_owned())));
        }
    }
    let within_ns = event.details.iter().find_map(|detail| match detail {
        Detail::CpuWait { ns } => Some(*ns),
        _ => None,
    });
    for (what, ns) in [
        ("cpu_wait_ns", within_ns.unwrap_or(0)),
        ("cpu_wait_before_ns", event.wait_cpu_ns),
        ("blocked_before_ns", event.blocked_ns),
    ] {
        if ns > 0 {
            notes.push((what, Value::Uint(ns)));
        }
    }
    let time = (event.t_ns, event.t_ns.saturating_add(event.duration_ns));
    let category = match (event.flags.contains(SyscallFlags::ENGINE), event.errno()) {
        (true, _) => "engine",
        (false, Some(_)) => "syscall,failed",
        (false, None) => "syscall",
    };
    let place = Place::Thread(tracks.thread(event.task));
    tracks.slice(place, CALLS, time, (category, Name::Often(name)), notes)
}

fn argument(arg: Arg) -> Option<Value> {
    Some(match arg {
        Arg::Number(n) => Value::Int(n),
        Arg::Fd(fd, _) => Value::Int(i64::from(fd)),
        // Flags and addresses: of the first there are few, and the second are short.
        Arg::Text(text) => Value::Text(text),
        Arg::Bytes(bytes) => Value::Text(decode::plain(&bytes)),
        Arg::Cut(bytes) => Value::Text(format!("{}…", decode::plain(&bytes))),
        Arg::Unknown => return None,
    })
}

/// How often things happen, second by second.
#[derive(Debug, Default)]
pub(super) struct Rates {
    calls: Rate,
    failed: Rate,
    counted: Rate,
}

const SECOND_NS: u64 = 1_000_000_000;

/// Counts of one second after another. Events come in the order of time.
#[derive(Debug, Default)]
struct Rate {
    lane: Option<Lane>,
    second: u64,
    count: u64,
}

impl Rate {
    fn add<W: Write>(
        &mut self,
        t_ns: u64,
        count: u64,
        name: &'static str,
        tracks: &mut Tracks<W>,
    ) -> io::Result<()> {
        let second = t_ns / SECOND_NS;
        if self.lane.is_none() {
            self.lane = Some(tracks.sheet.counter(None, name, CounterDescriptor { ..per_second() })?);
            self.second = second;
        }
        if second > self.second {
            self.flush(tracks)?;
            if second > self.second + 1
                && let Some(lane) = self.lane
            {
                tracks.sheet.count(lane, (self.second + 1) * SECOND_NS, Count::Whole(0))?;
            }
            self.second = second;
        }
        self.count += count;
        Ok(())
    }

    fn flush<W: Write>(&mut self, tracks: &mut Tracks<W>) -> io::Result<()> {
        let count = std::mem::take(&mut self.count);
        match self.lane {
            Some(lane) => tracks.sheet.count(lane, self.second * SECOND_NS, Count::Whole(count as i64)),
            None => Ok(()),
        }
    }
}

impl Rates {
    pub(super) fn call<W: Write>(
        &mut self,
        t_ns: u64,
        failed: bool,
        tracks: &mut Tracks<W>,
    ) -> io::Result<()> {
        self.calls.add(t_ns, 1, "calls/s", tracks)?;
        self.failed.add(t_ns, u64::from(failed), "failed calls/s", tracks)
    }

    pub(super) fn counted<W: Write>(
        &mut self,
        t_ns: u64,
        count: u64,
        tracks: &mut Tracks<W>,
    ) -> io::Result<()> {
        self.counted.add(t_ns, count, "counted calls/s", tracks)
    }

    pub(super) fn finish<W: Write>(&mut self, tracks: &mut Tracks<W>) -> io::Result<()> {
        for rate in [&mut self.calls, &mut self.failed, &mut self.counted] {
            rate.flush(tracks)?;
        }
        Ok(())
    }
}
