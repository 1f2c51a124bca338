//! Names and the metadata behind them.

use super::super::CompileError;
use super::super::calls::{Sc, nr};
use super::super::emit::Lowered;
use super::super::fsmodel::{NodeKind, SIZE_MAX};
use super::super::lower::Lower;
use super::super::model::Cx;
use super::super::paths::{PATH_MAX, PathId};
use super::super::world::{O_CLOEXEC, O_CREAT, OfdKind, detail_str, open_flags, positional};
use super::AT_FDCWD;
use ctrace_format::{Object, StrId};
use ctrace_program::{Sel, Step, flags};

impl Lower<'_> {
    /// A blob with the path of an argument; an empty one when it was not recorded.
    pub(crate) fn path(&mut self, cx: &Cx<'_>, arg: u8) -> Result<u64, CompileError> {
        self.text(cx, arg, b"")
    }

    pub(crate) fn text(&mut self, cx: &Cx<'_>, arg: u8, default: &[u8]) -> Result<u64, CompileError> {
        match detail_str(cx.call, arg) {
            Some(id) => self.argument(cx, id),
            None => Ok(self.emit.cstr(default)?),
        }
    }

    /// A string of the recording as an argument. Of a path that was too long for the kernel the recorder has the beginning,
    /// which may not be too long.
    pub(crate) fn argument(&mut self, cx: &Cx<'_>, id: StrId) -> Result<u64, CompileError> {
        const ENAMETOOLONG: i64 = -36;
        const NAME_MAX: usize = 255;
        let text = self.source.str(id);
        let fits = text.len() < PATH_MAX && text.split(|b| *b == b'/').all(|name| name.len() <= NAME_MAX);
        if cx.call.ret != ENAMETOOLONG || !fits {
            return self.emit.string(self.source, id);
        }
        let mut longer = text.to_vec();
        while longer.len() < PATH_MAX {
            longer.extend_from_slice(b"/...");
        }
        self.emit.cstr(&longer)
    }

    pub(crate) fn open(&mut self, cx: &Cx<'_>) -> Result<Lowered, CompileError> {
        let (open, mode) = open_flags(cx.call, cx.known.sc);
        let mut pre = Vec::new();
        if cx.call.ret >= 0 {
            self.conjure(cx, open, &mut pre)?;
        }
        let step = match cx.known.sc {
            Sc::Open => {
                let path = self.path(cx, 0)?;
                self.plain(cx, &[1, 2]).arg(0, Sel::Data, path)
            }
            Sc::Creat => {
                let path = self.path(cx, 0)?;
                self.plain(cx, &[1]).arg(0, Sel::Data, path)
            }
            Sc::Openat => {
                let path = self.path(cx, 1)?;
                self.plain(cx, &[0, 2, 3]).arg(1, Sel::Data, path)
            }
            _ => {
                let path = self.path(cx, 1)?;
                let mode = if open & O_CREAT != 0 { u64::from(mode) } else { 0 };
                let how = self.emit.words(&[u64::from(open), mode, 0])?;
                self.plain(cx, &[0]).arg(1, Sel::Data, path).arg(2, Sel::Data, how).imm(3, 24)
            }
        };
        let step = self.new_fd(cx, step, open & O_CLOEXEC != 0);
        self.reopen(cx, open, Lowered::after(pre, step))
    }

    /// An open of what a descriptor of one's own refers to: there is no such name here. A file is opened by its own name; of
    /// anything else a copy of the descriptor takes the place of what was opened.
    fn reopen(&mut self, cx: &Cx<'_>, open: u32, mut lowered: Lowered) -> Result<Lowered, CompileError> {
        let arg = usize::from(matches!(cx.known.sc, Sc::Openat | Sc::Openat2));
        if cx.call.ret < 0 || cx.unfinished() {
            return Ok(lowered);
        }
        let Some((fd, kind)) = self.world.named_descriptor(self.source, cx.task, cx.call, arg as u8) else {
            return Ok(lowered);
        };
        match kind {
            OfdKind::Node { path, inode }
                if self.world.fs.lookup(path) == Some(inode)
                    && self.world.fs.node(inode).kind != NodeKind::Device =>
            {
                let text = self.world.paths.get(path).to_vec();
                let blob = self.emit.cstr(&text)?;
                lowered.step = lowered.step.arg(arg, Sel::Data, blob);
            }
            OfdKind::Node { .. } | OfdKind::Mem { .. } | OfdKind::Pipe { .. } => {
                if let Some(text) = detail_str(cx.call, arg as u8).map(|id| self.source.str(id).to_vec()) {
                    self.surroundings.stand_in(text);
                }
                let dup = Step::call(nr::dup3).with(flags::ENGINE);
                let dup = dup.imm(0, fd as u64).imm(1, cx.call.ret as u64);
                lowered.then.push(dup.imm(2, u64::from(open & O_CLOEXEC)));
            }
            _ => {}
        }
        Ok(lowered)
    }

    /// Descriptions that have one offset here and had one each: it is set to the one that the call found.
    pub(crate) fn set_offsets(&self, cx: &Cx<'_>, lowered: &mut Lowered) {
        if positional(cx.known.sc, cx.call).is_some() {
            return;
        }
        let seeks = (cx.known.sc == Sc::Lseek).then(|| cx.fd(0));
        for fd in cx.reads().chain(cx.writes()).chain(seeks) {
            let ofd = self.world.ofd_of(cx.task, fd).map(|ofd| &self.world.ofds[ofd as usize]);
            if let Some(ofd) = ofd.filter(|ofd| ofd.has_twin) {
                let seek = Step::call(nr::lseek).with(flags::ENGINE);
                lowered.pre.push(seek.imm(0, fd as u64).imm(1, ofd.pos).imm(2, 0));
            }
        }
    }

    /// A file that somebody outside made meanwhile is made by the engine before the workload finds it.
    pub(crate) fn conjure(
        &mut self,
        cx: &Cx<'_>,
        open: u32,
        pre: &mut Vec<Step>,
    ) -> Result<(), CompileError> {
        if open & O_CREAT != 0 {
            return Ok(());
        }
        for path in cx.paths {
            if !self.world.fs.is_absent(&self.world.paths, *path) {
                continue;
            }
            let mut above = Vec::new();
            let (mut below, mut at) = (*path, self.world.paths.parent(*path));
            while at != below && self.world.fs.is_absent(&self.world.paths, at) {
                above.push(at);
                (below, at) = (at, self.world.paths.parent(at));
            }
            for directory in above.into_iter().rev() {
                self.conjure_one(directory, NodeKind::Dir, 0, pre)?;
            }
            let (mut kind, mut bytes) = (NodeKind::File, 0);
            if let Some(Object::File { mode, size, .. }) = cx.call.object.map(|o| self.source.object(o)) {
                (kind, bytes) = (NodeKind::of_mode(*mode), *size);
            }
            if open & super::super::world::O_DIRECTORY != 0 {
                kind = NodeKind::Dir;
            }
            self.conjure_one(*path, kind, bytes, pre)?;
        }
        Ok(())
    }

    /// A directory, or a file of so many bytes.
    fn conjure_one(
        &mut self,
        path: PathId,
        kind: NodeKind,
        bytes: u64,
        pre: &mut Vec<Step>,
    ) -> Result<(), CompileError> {
        let text = self.world.paths.get(path).to_vec();
        let blob = self.emit.cstr(&text)?;
        let step = if kind == NodeKind::Dir {
            Step::call(nr::mkdirat).imm(0, AT_FDCWD).arg(1, Sel::Data, blob).imm(2, 0o755)
        } else {
            Step::call(nr::mknodat).imm(0, AT_FDCWD).arg(1, Sel::Data, blob).imm(2, 0o100_644).imm(3, 0)
        };
        pre.push(step.with(flags::ENGINE));
        if kind == NodeKind::File && bytes > 0 {
            let step = Step::call(nr::truncate).arg(0, Sel::Data, blob).imm(1, bytes.min(SIZE_MAX));
            pre.push(step.with(flags::ENGINE));
        }
        Ok(())
    }

    pub(crate) fn times(&mut self, cx: &Cx<'_>) -> Result<Lowered, CompileError> {
        // Which times is not recorded: now.
        Ok(match cx.known.sc {
            Sc::Utime | Sc::Utimes => {
                let path = self.path(cx, 0)?;
                self.call_step(cx).arg(0, Sel::Data, path).imm(1, 0).into()
            }
            Sc::Futimesat => {
                let path = self.path(cx, 1)?;
                self.plain(cx, &[0]).arg(1, Sel::Data, path).imm(2, 0).into()
            }
            _ => match detail_str(cx.call, 1) {
                Some(_) => {
                    let path = self.path(cx, 1)?;
                    self.plain(cx, &[0, 3]).arg(1, Sel::Data, path).imm(2, 0).into()
                }
                None => self.plain(cx, &[0, 3]).imm(1, 0).imm(2, 0).into(),
            },
        })
    }

    /// An extended attribute is set to something of the same length; an access control list to one with as many entries.
    pub(crate) fn set_attribute(&mut self, cx: &Cx<'_>) -> Result<Lowered, CompileError> {
        let name = detail_str(cx.call, 1).map_or(&b""[..], |id| self.source.str(id)).to_vec();
        if !name.starts_with(b"system.") || cx.call.ret < 0 {
            return self.generic(cx);
        }
        let Some(list) = access_list(cx.call.args[3]) else { return Ok(self.surrogate(cx)) };
        let list = self.emit.data(&list)?;
        let mut lowered = self.generic(cx)?;
        lowered.step = lowered.step.arg(2, Sel::Data, list);
        Ok(lowered)
    }

    pub(crate) fn mknod(&mut self, cx: &Cx<'_>) -> Result<Lowered, CompileError> {
        let at = usize::from(cx.known.sc == Sc::Mknodat);
        let path = self.path(cx, at as u8)?;
        let mode = cx.call.args[at + 1];
        // Device nodes are not made in a sandbox; a plain file is.
        let safe =
            if matches!(mode & 0o170_000, 0o020_000 | 0o060_000) { mode & 0o7777 | 0o100_000 } else { mode };
        let step = if at == 1 { self.plain(cx, &[0]) } else { self.call_step(cx) };
        Ok(step.arg(at, Sel::Data, path).imm(at + 1, safe).imm(at + 2, 0).into())
    }
}

/// A valid access control list of a size (`include/uapi/linux/posix_acl_xattr.h`): a version, then entries of a tag,
/// permissions and an id, in the order that `posix_acl_valid` (`fs/posix_acl.c`) asks for.
fn access_list(size: u64) -> Option<Vec<u8>> {
    const VERSION: u32 = 2;
    const ENTRIES_MAX: u64 = 8192;
    const OWNER: u16 = 1;
    const USER: u16 = 2;
    const GROUP: u16 = 4;
    const MASK: u16 = 16;
    const OTHERS: u16 = 32;
    let entries = size.checked_sub(4).filter(|rest| rest % 8 == 0)? / 8;
    let mut tags = match entries {
        0 => Vec::new(),
        3 => vec![OWNER, GROUP, OTHERS],
        4..=ENTRIES_MAX => vec![OWNER, GROUP, MASK, OTHERS],
        _ => return None,
    };
    for _ in 4..entries {
        tags.insert(1, USER);
    }
    let mut list = VERSION.to_ne_bytes().to_vec();
    for tag in tags {
        let permissions: u16 = if tag == OWNER { 6 } else { 4 };
        let id = if tag == USER { 0 } else { u32::MAX };
        list.extend_from_slice(&tag.to_ne_bytes());
        list.extend_from_slice(&permissions.to_ne_bytes());
        list.extend_from_slice(&id.to_ne_bytes());
    }
    Some(list)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_access_control_list_is_as_long_as_the_recorded_one() {
        for size in [4, 28, 36, 44, 60, 4 + 8 * 25] {
            assert_eq!(access_list(size).map(|list| list.len() as u64), Some(size));
        }
        for size in [0, 3, 12, 29, u64::MAX] {
            assert_eq!(access_list(size), None);
        }
        let list = access_list(44).unwrap();
        let tags: Vec<u16> = list[4..].chunks(8).map(|e| u16::from_ne_bytes([e[0], e[1]])).collect();
        assert_eq!(tags, [1, 2, 4, 16, 32]);
    }
}
