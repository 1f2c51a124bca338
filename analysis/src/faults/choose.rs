//! The choice among the calls that a rule is about, by time and by how often an error came.

use super::moments::Window;
use super::plan::Rule;
use crate::findings::account;
use ctrace_format::{ReadError, Syscall, Trace};

/// What a rule chooses by, on one recording.
#[derive(Debug, Default)]
pub(super) struct Chosen {
    /// While the finding lasts that the rule names.
    during: Option<Window>,
    /// Why there is nothing to choose from.
    pub(super) why: Option<String>,
    /// How many calls got the error in the recording already.
    natural: u64,
    /// The chances of the others; after [`Self::settle`] none.
    draws: Vec<u64>,
    /// Those with at most this chance get it, too.
    highest: Option<u64>,
    settled: bool,
}

impl Chosen {
    /// Looks up the finding.
    pub(super) fn of(rule: &Rule, trace: &Trace) -> Result<Self, ReadError> {
        let Some(rank) = rule.when.during else { return Ok(Self::default()) };
        let findings = account(trace)?.findings;
        let Some(finding) = findings.iter().find(|finding| finding.rank == rank) else {
            let why = match findings.len() {
                0 => "the recording has no findings".to_owned(),
                count => format!("the recording has findings 1 to {count} (ctrace info), and none is {rank}"),
            };
            return Ok(Self { why: Some(why), ..Self::default() });
        };
        let origin_ns = trace.origin_ns();
        let to_ns = finding.to_ns.max(finding.from_ns) + origin_ns;
        let window = Window { from_ns: finding.from_ns + origin_ns, to_ns: Some(to_ns.saturating_add(1)) };
        Ok(Self { during: Some(window), ..Self::default() })
    }

    /// Whether a call that begins at this time, on the recording's clock, may be hit.
    pub(super) fn has_time(&self, rule: &Rule, t_ns: u64) -> bool {
        (rule.when.during.is_none() || self.during.is_some_and(|window| window.has(t_ns)))
            && rule.when.window.is_none_or(|window| window.has(t_ns))
            && rule.when.burst.is_none_or(|burst| burst.has(t_ns))
    }

    /// Whether a call of this chance is one of those that get the error beside the recorded ones.
    pub(super) fn draws(&mut self, rule: &Rule, call: &Syscall, draw: u64) -> bool {
        if rule.when.rate.is_none() {
            return true;
        }
        let has_it = Some(call.ret) == rule.act.result;
        if !self.settled {
            if has_it {
                self.natural += 1;
            } else {
                self.draws.push(draw);
            }
            return false;
        }
        !has_it && self.highest.is_some_and(|highest| draw <= highest)
    }

    /// Knows all calls, and how many more are to get the error.
    pub(super) fn settle(&mut self, rule: &Rule) {
        let Some(rate) = rule.when.rate else { return };
        let mut draws = std::mem::take(&mut self.draws);
        self.settled = true;
        let more = (self.natural as f64 * (rate - 1.0)).round() as usize;
        if self.natural == 0 {
            let what =
                "no such call got this error in the recording: there is no rate to multiply; say prob=";
            self.why.get_or_insert_with(|| what.to_owned());
        } else if draws.len() < more {
            self.why.get_or_insert_with(|| {
                format!(
                    "{} such calls got this error in the recording; {rate} times as many are more than there are",
                    self.natural
                )
            });
        } else if more == 0 {
            self.why.get_or_insert_with(|| format!("{rate} times as often is no more than in the recording"));
        } else {
            self.highest = Some(*draws.select_nth_unstable(more - 1).1);
        }
    }
}
