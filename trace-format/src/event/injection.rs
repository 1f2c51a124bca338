//! Faults of a plan that hit calls of a replay.

use super::{StrId, Sysno, TaskId};

/// A rule of a fault plan hit a call of a replay. Told when the task gets to the call, before what is done to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Injection {
    /// When.
    pub t_ns: u64,
    /// The task that makes the call.
    pub task: TaskId,
    /// The rule: its index in the plan, from 0 on.
    pub rule: u32,
    /// Its id in the plan; without one, the rule as it was written.
    pub name: StrId,
    /// The call.
    pub sysno: Sysno,
    /// Its number, from 1 on, among those that the rule counts together.
    pub nth: u64,
    /// The change to the call.
    pub fault: Fault,
}

/// The effects of a fault on a call. Every one that is present takes place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Fault {
    /// It gets this result: −errno, or a value.
    pub result: Option<i32>,
    /// It does its work all the same.
    pub after: bool,
    /// It moves so many millionths of the bytes that it moved.
    pub keeps_millionths: Option<u32>,
    /// Its caller gets this signal.
    pub signal: Option<u8>,
    /// It begins so much later, ns.
    pub enter_ns: u64,
    /// It returns so much later, ns.
    pub exit_ns: u64,
}

/// A note of the replay to its recorder that a rule hits: the five arguments of a call that the sandbox's filter answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InjectionNote {
    /// As [`Injection::rule`].
    pub rule: u32,
    /// The number of the call.
    pub nr: u32,
    /// As [`Injection::nth`].
    pub nth: u64,
    /// As [`Injection::fault`].
    pub fault: Fault,
}

const RESULT: u64 = 1 << 62;
const AFTER: u64 = 1 << 63;
const SIGNAL_AT: u32 = 53;
const PART_AT: u32 = 32;
const PART_BITS: u64 = (1 << 21) - 1;
const SIGNAL_BITS: u64 = (1 << 7) - 1;

impl InjectionNote {
    /// As arguments of a call.
    pub fn arguments(&self) -> [u64; 5] {
        let Fault { result, after, keeps_millionths, signal, enter_ns, exit_ns } = self.fault;
        // No part, and no signal, is 0.
        let done = u64::from(result.unwrap_or(0).cast_unsigned())
            | (u64::from(keeps_millionths.unwrap_or(0)) & PART_BITS) << PART_AT
            | (u64::from(signal.unwrap_or(0)) & SIGNAL_BITS) << SIGNAL_AT
            | if result.is_some() { RESULT } else { 0 }
            | if after { AFTER } else { 0 };
        [u64::from(self.rule) | u64::from(self.nr) << 32, self.nth, done, enter_ns, exit_ns]
    }

    /// The note that these arguments make.
    pub fn of_arguments(args: [u64; 5]) -> Self {
        let [which, nth, done, enter_ns, exit_ns] = args;
        let part = (done >> PART_AT & PART_BITS) as u32;
        let signal = (done >> SIGNAL_AT & SIGNAL_BITS) as u8;
        let fault = Fault {
            result: (done & RESULT != 0).then_some((done as u32).cast_signed()),
            after: done & AFTER != 0,
            keeps_millionths: (part != 0).then_some(part),
            signal: (signal != 0).then_some(signal),
            enter_ns,
            exit_ns,
        };
        Self { rule: which as u32, nr: (which >> 32) as u32, nth, fault }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_say_what_they_were_made_of() {
        let faults = [
            Fault { result: Some(-111), ..Fault::default() },
            Fault { result: Some(0), after: true, ..Fault::default() },
            Fault { result: Some((1 << 30) - 1), exit_ns: u64::MAX, ..Fault::default() },
            Fault { keeps_millionths: Some(1_000_000), signal: Some(64), ..Fault::default() },
            Fault { enter_ns: 1, exit_ns: 300_000_000, ..Fault::default() },
        ];
        for fault in faults {
            let note = InjectionNote { rule: u32::MAX, nr: 42, nth: 1 << 40, fault };
            assert_eq!(InjectionNote::of_arguments(note.arguments()), note);
        }
    }
}
