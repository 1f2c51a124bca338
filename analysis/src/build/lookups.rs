//! Questions for names, by what they came to.

use super::Builder;
use crate::names::NameId;
use ctrace_format::Dns;
use rustc_hash::FxHashMap;

/// Questions that are told apart; what comes beyond that is not told by name.
const MAX_LOOKUPS: usize = 65_536;
/// Times of a trace are rounded to ticks: a moment and a length are off by one each.
const ROUNDED_TICKS: u64 = 2;

/// What became of a question for a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Answer {
    /// The response code (RFC 1035).
    Code(u8),
    /// There was none.
    Nothing,
}

impl Answer {
    pub(crate) const FOUND: Self = Self::Code(0);

    pub(crate) fn text(self) -> String {
        let name = match self {
            Self::Nothing => "no answer",
            Self::Code(0) => "NOERROR",
            Self::Code(1) => "FORMERR",
            Self::Code(2) => "SERVFAIL",
            Self::Code(3) => "NXDOMAIN",
            Self::Code(4) => "NOTIMP",
            Self::Code(5) => "REFUSED",
            Self::Code(code) => return format!("code {code}"),
        };
        name.to_owned()
    }
}

/// Questions of one process for one name that came to the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Lookup {
    pub(crate) process: usize,
    /// `db.test at 10.0.0.2:53`
    pub(crate) object: NameId,
    pub(crate) answer: Answer,
}

/// All questions for names.
#[derive(Debug, Default)]
pub(super) struct Lookups {
    counts: FxHashMap<Lookup, u64>,
    /// The last question of a thread, by type, that had no answer when the recording ended.
    open: FxHashMap<(usize, u16), (u64, Lookup)>,
}

impl Builder<'_> {
    pub(super) fn looked_up(&mut self, d: &Dns, thread: usize, object: NameId) {
        let process = self.threads[thread].process;
        let answer = d.answer.map_or(Answer::Nothing, |(code, _)| Answer::Code(code));
        let mut lookup = Lookup { process, object, answer };
        if self.lookups.counts.len() >= MAX_LOOKUPS && !self.lookups.counts.contains_key(&lookup) {
            lookup.object = NameId::default();
        }
        *self.lookups.counts.entry(lookup).or_default() += 1;
        let rounded_ns = ROUNDED_TICKS * u64::from(self.trace.header().tick_ns);
        let end_ns = d.t_ns.saturating_add(d.duration_ns).saturating_add(rounded_ns);
        if d.answer.is_none() && end_ns >= self.trace.end_ns() {
            let open = self.lookups.open.entry((thread, d.qtype)).or_insert((d.t_ns, lookup));
            if d.t_ns >= open.0 {
                *open = (d.t_ns, lookup);
            }
        }
    }

    /// How often what was asked, in order. What a task that goes on asked last may still be answered: it is left out.
    pub(super) fn lookups(&mut self) -> Vec<(Lookup, u64)> {
        let Lookups { mut counts, open } = std::mem::take(&mut self.lookups);
        for ((thread, _), (_, lookup)) in open {
            let goes_on = self.processes[lookup.process].exit.is_none() && !self.ended.contains_key(&thread);
            if let Some(n) = counts.get_mut(&lookup).filter(|_| goes_on) {
                *n -= 1;
            }
        }
        let mut all: Vec<_> = counts.into_iter().filter(|(_, n)| *n > 0).collect();
        all.sort_unstable();
        all
    }
}
