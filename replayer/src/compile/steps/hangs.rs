//! Calls that lasted through the whole recording: what keeps them began before it, and may be none of it.

use super::super::emit::{As, Lowered};
use super::super::fsmodel::NodeKind;
use super::super::lower::Lower;
use super::super::model::Cx;
use ctrace_format::syscalls::{Family, On, nr};
use ctrace_program::{Expect, Step, flags};

impl Lower<'_> {
    /// Whether what keeps the call is there in a replay, too: nobody writes, reads, wakes, connects or ends. Who has a lock,
    /// which server does not answer and which disk hangs is not.
    pub(super) fn hangs_by_itself(&self, cx: &Cx<'_>) -> bool {
        let row = cx.known.row();
        match row.waits {
            Some(On::Input | On::Room) => !self.is_about_a_file(cx),
            Some(On::Child | On::Time | On::Signal | On::Readiness) => true,
            Some(On::Connection) => row.family == Family::Accept,
            Some(On::Lock) => row.family == Family::Noise,
            Some(On::Disk) => false,
            None => matches!(row.family, Family::Exit | Family::Exec | Family::Clone),
        }
    }

    fn is_about_a_file(&self, cx: &Cx<'_>) -> bool {
        let inode = self.ofd(cx, 0).and_then(|ofd| self.world.inode_of(ofd));
        inode.is_some_and(|inode| self.world.fs.node(inode).kind == NodeKind::File)
    }

    /// Another call that does not return stands for one that would.
    pub(super) fn hang(&mut self, cx: &Cx<'_>) -> Lowered {
        self.emit.count(As::Surrogate, cx.name);
        hanging(flags::SURROGATE)
    }
}

/// Whether neither the beginning nor the end of a call is in the recording.
pub(super) fn lasts(cx: &Cx<'_>) -> bool {
    cx.unfinished() && cx.call.t_ns == 0
}

/// A call that does not return, whatever happens; `why` it is not the recorded one.
pub(super) fn hanging(why: u32) -> Lowered {
    let step = Step::call(nr::ppoll).with(why | flags::BLOCKED);
    (0..5).fold(step, |step, i| step.imm(i, 0)).expect(Expect::Never, 0).into()
}
