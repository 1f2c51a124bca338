//! Room in a table of descriptors, before several tasks have it.

use super::super::calls::nr;
use super::super::lower::Lower;
use super::super::model::Cx;
use super::super::world::ProcIx;
use ctrace_analysis::fds::CLONE_FILES;
use ctrace_program::{Step, flags};

const F_DUPFD_CLOEXEC: u64 = 1030;

impl Lower<'_> {
    /// Lets the table of a process have room for the numbers that the engine uses, before a clone shares it. A table that
    /// several tasks have grows only after a grace period of RCU, of up to 20 ms, in which none of them gets a descriptor
    /// (`expand_fdtable`, fs/file.c). That of a single task grows at once.
    pub(crate) fn room_for_parked(&mut self, proc: ProcIx, mark: u32) -> Option<[Step; 2]> {
        let (files, last) = (self.world.procs[proc as usize].files, self.facts.pools.top() - 1);
        if !self.world.roomy.insert(files) {
            return None;
        }
        let files = &self.world.files[files];
        let (highest, _) = files.slots().last()?;
        let (any, _) = files.slots().iter().next()?;
        if *any < 0 || *highest as u64 >= last {
            return None;
        }
        let grow = Step::call(nr::fcntl).with(mark).imm(0, *any as u64).imm(1, F_DUPFD_CLOEXEC).imm(2, last);
        Some([grow, Step::call(nr::close).with(mark).imm(0, last)])
    }

    /// The same, before a recorded clone.
    pub(super) fn before_sharing(&mut self, cx: &Cx<'_>, clone_flags: u64, pre: &mut Vec<Step>) {
        if clone_flags & CLONE_FILES != 0 {
            pre.extend(self.room_for_parked(cx.proc, flags::ENGINE).into_iter().flatten());
        }
    }
}
