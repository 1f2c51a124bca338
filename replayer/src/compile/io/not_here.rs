//! Descriptors of what no sandbox has: devices, and the memory of processes.

use super::super::calls::Sc;
use super::super::fsmodel::NodeKind;
use super::super::lower::Lower;
use super::super::model::Cx;
use super::super::terminals::is_pseudo_terminal;
use super::super::world::{OfdIx, OfdKind};
use crate::sandbox::devices;
use ctrace_format::syscalls::Family;

impl Lower<'_> {
    /// Names a call on a descriptor of something that no sandbox has: an empty file stands for that, and the call is given the
    /// answer that it had.
    pub(crate) fn not_here(&self, cx: &Cx<'_>) -> Option<&'static str> {
        let asks = matches!(cx.known.row().family, Family::Receive | Family::Send)
            || matches!(cx.known.sc, Sc::Ioctl | Sc::Lseek | Sc::Fsync | Sc::Fdatasync);
        let ofd = self.ofd(cx, 0).filter(|_| asks && !cx.unfinished())?;
        if self.is_foreign_device(ofd) {
            return Some("call on a device");
        }
        let OfdKind::Node { path, .. } = self.world.ofds[ofd as usize].kind else { return None };
        let path = self.world.paths.get(path);
        (path.starts_with(b"/proc/") && path.ends_with(b"/mem")).then_some("call on the memory of a process")
    }

    /// Whether a description is of a device that no sandbox has. A terminal that was there from the start is another one here.
    fn is_foreign_device(&self, ofd: OfdIx) -> bool {
        let state = &self.world.ofds[ofd as usize];
        let OfdKind::Node { inode, .. } = state.kind else { return false };
        let node = self.world.fs.node(inode);
        let has_terminal = state.inherited || is_pseudo_terminal(node.rdev);
        node.kind == NodeKind::Device
            && node.rdev != 0
            && !(has_terminal && self.is_tty(ofd))
            && devices::node_of(node.rdev).is_none()
    }
}
