//! Calls: completed, in flight, counted.

use super::programs::{self, Program};
use super::states::lasted;
use super::{Decoder, timeline};
use crate::arch;
use crate::details::{self, Context, Item};
use crate::meaning::{Meaning, Rule, kept, time_counts};
use ctrace_abi::{
    ANSWER_INJECTED, ANSWER_NOTE, ANSWER_VALUE, AggregateRecord, Call, CallArgs, LevelChange, Slot,
    WINDOW_NS, call_flag, is_answer, kind, level, op,
};
use ctrace_format::{
    Aggregate, Detail, Event, Fidelity, FidelityLevel, Injection, InjectionNote, Syscall, SyscallFlags,
    Sysno, TaskId, TraceWriter,
};

/// A task that wakes up waits this long on an idle machine too.
const NOTABLE_WAIT_NS: u64 = 50_000;
/// `PROT_EXEC`, include/uapi/asm-generic/mman-common.h.
const PROT_EXEC: u64 = 4;

impl Decoder {
    /// Calls in flight at the time of a dump, with what else is told of them. They are counted when they return.
    pub(crate) fn in_flight_now(
        &mut self,
        w: &mut TraceWriter,
        slots: &[(Slot, Vec<u8>)],
        now_boottime_ns: u64,
        push: &mut dyn FnMut(&mut TraceWriter, &Event),
    ) {
        let counts = (self.calls, self.engine_calls);
        for (slot, copies) in slots {
            self.in_flight(w, slot, copies, now_boottime_ns, push);
        }
        (self.calls, self.engine_calls) = counts;
    }

    /// Decodes a record of something that was complete after the recorder was told to stop, while it detached its programs
    /// one by one. It did not happen, as far as the trace tells: a call that began before is under way at the end.
    pub(super) fn after_stop(
        &mut self,
        w: &mut TraceWriter,
        record: &[u8],
        stop_ns: u64,
        push: &mut dyn FnMut(&mut TraceWriter, &Event),
    ) -> Option<()> {
        let (call, tail) = match record.first() {
            Some(&kind::SHORT) => crate::raw::long(record)?,
            Some(&kind::CALL) => (crate::raw::read(record)?, &record[size_of::<Call>()..]),
            // The files that calls before the stop are about, and their arguments.
            Some(&kind::FILE) => return self.file(w, record),
            Some(&kind::SOCK) => return self.socket(w, record),
            Some(&kind::ARGS) => return self.args(record),
            Some(&kind::AGGREGATE) => return self.aggregate_until(w, record, stop_ns, push),
            _ => return Some(()),
        };
        // The time of a call that was under way when the recording began is that of its exit.
        let began_ns = if lasted(call.flags) { self.came_ns(call.tid) } else { call.t_ns };
        if began_ns < stop_ns {
            let sysno = Sysno { abi: arch::HOST.table(call.abi), nr: call.nr };
            let made = crate::specs::makes_file(sysno, arch::HOST);
            let call = Call {
                flags: call.flags & !call_flag::CREATED | call_flag::NO_EXIT,
                t_ns: began_ns,
                dur_ns: stop_ns - began_ns,
                ret: 0,
                run_wait_ns: 0,
                file: if made { 0 } else { call.file },
                ..call
            };
            self.finish_call(w, &call, &details::at_entry(tail), push);
        }
        Some(())
    }

    /// Counts of a window in which the recording ended: those that are of it end with it.
    fn aggregate_until(
        &mut self,
        w: &mut TraceWriter,
        record: &[u8],
        stop_ns: u64,
        push: &mut dyn FnMut(&mut TraceWriter, &Event),
    ) -> Option<()> {
        let AggregateRecord { key, .. } = crate::raw::read(record)?;
        if u64::from(key.window) * WINDOW_NS >= stop_ns {
            return Some(());
        }
        let end_ns = self.rel(stop_ns);
        self.aggregate(w, record, &mut |w, event| match event {
            Event::Aggregate(counts) => {
                push(w, &Event::Aggregate(Aggregate { t_ns: counts.t_ns.min(end_ns), ..counts.clone() }));
            }
            other => push(w, other),
        })
    }

    pub(super) fn args(&mut self, record: &[u8]) -> Option<()> {
        let head: CallArgs = crate::raw::read(record)?;
        let entry = self.entry.entry(head.tid).or_default();
        entry.clear();
        entry.extend_from_slice(&record[size_of::<CallArgs>()..]);
        Some(())
    }

    /// A call that was in flight when the programs were detached; `tail` is what was copied of its arguments until then.
    pub(crate) fn in_flight(
        &mut self,
        w: &mut TraceWriter,
        slot: &Slot,
        tail: &[u8],
        now_boottime_ns: u64,
        push: &mut dyn FnMut(&mut TraceWriter, &Event),
    ) {
        let mut call = slot.call;
        call.wait_cpu_ns = slot.wait_cpu_ns;
        call.blocked_ns = slot.blocked_ns;
        call.flags |= call_flag::NO_EXIT;
        // The slot still has the result of the call before.
        call.ret = 0;
        call.dur_ns = now_boottime_ns.saturating_sub(call.t_ns);
        self.finish_call(w, &call, tail, push);
        self.tell_placed(w, self.rel(now_boottime_ns), push);
    }

    pub(super) fn call(
        &mut self,
        w: &mut TraceWriter,
        record: &[u8],
        push: &mut dyn FnMut(&mut TraceWriter, &Event),
    ) -> Option<()> {
        let call: Call = crate::raw::read(record)?;
        self.finish_call(w, &call, &record[size_of::<Call>()..], push);
        Some(())
    }

    pub(super) fn finish_call(
        &mut self,
        w: &mut TraceWriter,
        call: &Call,
        tail: &[u8],
        push: &mut dyn FnMut(&mut TraceWriter, &Event),
    ) {
        self.calls += 1;
        let task = self.task(w, call.tid, call.tgid);
        let sysno = Sysno { abi: arch::HOST.table(call.abi), nr: call.nr };
        let unknown = Meaning::unknown();
        let meaning = self.meanings.get(sysno).unwrap_or(&unknown);
        let mut flags = call_flags(call.flags);
        // The tag of the replay's sandbox is where a sixth argument would be.
        let emulated = flags.contains(SyscallFlags::FILTERED) && is_answer(call.args[5]);
        let is_note = emulated && call.args[5] & (ANSWER_VALUE | ANSWER_NOTE) == ANSWER_NOTE;
        if is_note {
            self.injection(w, call, task, push);
            flags = flags.union(SyscallFlags::ENGINE);
        }
        if flags.contains(SyscallFlags::ENGINE) {
            self.engine_calls += 1;
        }
        if emulated && !is_note {
            let injected = call.args[5] & ANSWER_INJECTED != 0;
            flags = flags.union(if injected { SyscallFlags::INJECTED } else { SyscallFlags::EMULATED });
        }
        // The bit that says that it is injected is none of the result.
        let ret = if emulated && call.ret > 0 { call.ret & (ANSWER_INJECTED as i64 - 1) } else { call.ret };
        let program = Program::of(meaning.rule, call, self.executed.remove(&call.tid));
        if program.is_some() {
            // The kernel knows more of it than could be copied when it began.
            flags = flags.without(SyscallFlags::TRUNCATED);
        }
        let mut details = std::mem::take(&mut self.details);
        let mut creds = [None; 2];
        let mut passed = None;
        let entry = if call.flags & call_flag::HAS_ARGS == 0 { None } else { self.entry.get(&call.tid) };
        if entry.is_some() || !tail.is_empty() {
            let mut items = details::Items::new();
            details::more_items(entry.map_or(&[], Vec::as_slice), &mut items);
            let late = items.len();
            details::more_items(tail, &mut items);
            if program.is_some() {
                programs::drop_foreign(&mut items, late);
            }
            creds = [timeline::creds(&items, 0), timeline::creds(&items, 1)];
            details::merge(&mut items);
            if program.is_some() {
                passed = Program::take_words(&mut items);
            }
            if emulated {
                for item in items.iter_mut().filter(|i| i.head.op == op::ADDR) {
                    details::measure(item);
                }
            }
            // A copy that failed at entry and was not made good at exit, or was cut.
            let given = |i: &Item<'_>| program.as_ref().is_some_and(|p| p.tells(i.head.op, i.head.arg));
            if items.iter().any(|i| i.head.fault != 0 && !given(i)) {
                flags = flags.union(SyscallFlags::TRUNCATED);
            }
            let mut context = Context { writer: w, objects: &self.objects };
            details::decode(&items, meaning.args, &mut context, &mut details);
            if meaning.rule == Rule::Bind {
                details::drop_named(&mut details);
            }
        }
        if let Some(program) = &program {
            if !program.complete(w, passed, &mut details) {
                flags = flags.union(SyscallFlags::TRUNCATED);
            }
        } else if call.flags & call_flag::HAS_ARGS != 0 && entry.is_none() {
            // The record with the entry's copies was lost.
            flags = flags.union(SyscallFlags::TRUNCATED);
        }
        if let Some(arg) = meaning.time_arg
            && call.flags & call_flag::HAS_TIME != 0
            && time_counts(meaning, &call.args)
        {
            let at = details.partition_point(|d| d.arg().is_some_and(|of| of < arg));
            details.insert(at, Detail::Time { arg, ns: call.time_ns });
        }
        if call.flags & call_flag::CREATED != 0 {
            details.push(Detail::Created);
        }
        if call.run_wait_ns >= NOTABLE_WAIT_NS {
            details.push(Detail::CpuWait { ns: call.run_wait_ns });
        }
        let (mut args, mut args_mask) = kept(meaning, &call.args);
        if emulated {
            args[5] = 0;
            args_mask &= !(1 << 5);
        }
        let object = self.objects.get(call.file);
        let loads = call.args[2] & PROT_EXEC != 0
            && ret >= 0
            && call.flags & call_flag::NO_EXIT == 0
            && meaning.rule == Rule::Mmap;
        let event = Event::Syscall(Syscall {
            t_ns: self.rel(call.t_ns),
            duration_ns: call.dur_ns,
            task,
            sysno,
            ret,
            flags,
            args,
            args_mask,
            object,
            details,
            wait_cpu_ns: call.wait_cpu_ns,
            blocked_ns: call.blocked_ns,
        });
        push(w, &event);
        if let Event::Syscall(Syscall { mut details, .. }) = event {
            details.clear();
            self.details = details;
        }
        if let [Some(old), Some(new)] = creds {
            self.identity(w, call, task, old, new, push);
        }
        if loads && let Some(object) = object {
            self.load(w, call, task, object, push);
        }
    }

    /// A rule of a fault plan hits.
    fn injection(
        &self,
        w: &mut TraceWriter,
        call: &Call,
        task: TaskId,
        push: &mut dyn FnMut(&mut TraceWriter, &Event),
    ) {
        let [which, nth, done, enter_ns, exit_ns, _] = call.args;
        let note = InjectionNote::of_arguments([which, nth, done, enter_ns, exit_ns]);
        let InjectionNote { rule, nr, nth, fault } = note;
        let name = self.rules.get(rule as usize).map_or("", String::as_str);
        let event = Injection {
            t_ns: self.rel(call.t_ns),
            task,
            rule,
            name: w.str(name.as_bytes()),
            sysno: Sysno { abi: arch::HOST.native, nr },
            nth,
            fault,
        };
        push(w, &Event::Injection(event));
    }

    /// Calls that were counted.
    pub(super) fn aggregate(
        &mut self,
        w: &mut TraceWriter,
        record: &[u8],
        push: &mut dyn FnMut(&mut TraceWriter, &Event),
    ) -> Option<()> {
        let AggregateRecord { key, value, .. } = crate::raw::read(record)?;
        let task = self.task(w, key.tid, key.tgid);
        let flags = call_flags(u16::from(key.flags));
        if flags.contains(SyscallFlags::ENGINE) {
            self.engine_calls += value.count;
        }
        self.aggregated += value.count;
        let from_ns = u64::from(key.window) * WINDOW_NS;
        let used = value.buckets.iter().rposition(|n| *n != 0).map_or(0, |last| last + 1);
        let event = Aggregate {
            t_ns: self.rel(from_ns + WINDOW_NS),
            from_ns: self.rel(from_ns),
            cpu: u32::from(key.cpu),
            task,
            sysno: Sysno { abi: arch::HOST.table(key.abi), nr: key.nr },
            flags,
            fd: (key.fd >= 0).then_some(key.fd),
            object: self.objects.get(key.file),
            errno: u32::from(key.errno),
            count: value.count,
            duration_ns: value.dur_ns,
            histogram: value.buckets[..used].iter().map(|n| u64::from(*n)).collect(),
        };
        push(w, &Event::Aggregate(event));
        Some(())
    }

    pub(super) fn level(
        &mut self,
        w: &mut TraceWriter,
        record: &[u8],
        push: &mut dyn FnMut(&mut TraceWriter, &Event),
    ) -> Option<()> {
        let change: LevelChange = crate::raw::read(record)?;
        let (from, to) = (fidelity(change.from)?, fidelity(change.to)?);
        push(w, &Event::Fidelity(Fidelity { t_ns: self.rel(change.t_ns), cpu: change.cpu, from, to }));
        Some(())
    }
}

fn call_flags(raw: u16) -> SyscallFlags {
    [
        (call_flag::NO_ENTER, SyscallFlags::NO_ENTER),
        (call_flag::NO_EXIT, SyscallFlags::NO_EXIT),
        (call_flag::ENGINE, SyscallFlags::ENGINE),
        (call_flag::TRUNCATED, SyscallFlags::TRUNCATED),
        (call_flag::FILTERED, SyscallFlags::FILTERED),
    ]
    .into_iter()
    .filter(|(bit, _)| raw & bit != 0)
    .fold(SyscallFlags::default(), |set, (_, flag)| set.union(flag))
}

fn fidelity(level: u8) -> Option<FidelityLevel> {
    Some(match u32::from(level) {
        level::FULL => FidelityLevel::Full,
        level::NO_ARGUMENTS => FidelityLevel::NoArguments,
        level::AGGREGATED => FidelityLevel::Aggregated,
        _ => return None,
    })
}
