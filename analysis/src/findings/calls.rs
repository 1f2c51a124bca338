//! Which call a number is, without looking its name up each time.

use ctrace_format::Sysno;
use ctrace_format::syscalls::Call;
use rustc_hash::FxHashMap;

/// Calls that were seen.
#[derive(Debug, Default)]
pub(super) struct Calls {
    last: Option<(Sysno, Call)>,
    known: FxHashMap<Sysno, Call>,
}

impl Calls {
    pub(super) fn of(&mut self, sysno: Sysno) -> Call {
        if let Some((last, call)) = self.last
            && last == sysno
        {
            return call;
        }
        let call = *self.known.entry(sysno).or_insert_with(|| Call::of(sysno));
        self.last = Some((sysno, call));
        call
    }
}
