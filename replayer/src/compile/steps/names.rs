//! Names and the metadata behind them.

use super::super::CompileError;
use super::super::calls::{Sc, nr};
use super::super::emit::Lowered;
use super::super::fsmodel::{NodeKind, PATH_MAX};
use super::super::model::Cx;
use super::super::world::{O_CLOEXEC, O_CREAT, OfdKind, detail_str, open_flags};
use super::AT_FDCWD;
use super::Steps;
use ctrace_format::StrId;
use ctrace_program::{Sel, Step, flags};

impl Steps<'_> {
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
            if !self.world.fs.is_absent(*path) {
                continue;
            }
            let text = self.world.paths.get(*path).to_vec();
            let blob = self.emit.cstr(&text)?;
            let dir = open & super::super::world::O_DIRECTORY != 0;
            let step = if dir {
                Step::call(nr::mkdirat).imm(0, AT_FDCWD).arg(1, Sel::Data, blob).imm(2, 0o755)
            } else {
                Step::call(nr::mknodat).imm(0, AT_FDCWD).arg(1, Sel::Data, blob).imm(2, 0o100_644).imm(3, 0)
            };
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

    /// An extended attribute is set to something of the same length; an access control list to a plain one.
    pub(crate) fn set_attribute(&mut self, cx: &Cx<'_>) -> Result<Lowered, CompileError> {
        let name = detail_str(cx.call, 1).map_or(&b""[..], |id| self.source.str(id)).to_vec();
        if !name.starts_with(b"system.") || cx.call.ret < 0 {
            return self.generic(cx);
        }
        if cx.call.args[3] != 28 {
            return Ok(self.surrogate(cx));
        }
        // Version 2, then tag, permissions and id of the owner, the group and the others (linux/posix_acl_xattr.h).
        let mut list = 2_u32.to_ne_bytes().to_vec();
        for (tag, permissions) in [(1_u16, 6_u16), (4, 4), (32, 4)] {
            list.extend_from_slice(&tag.to_ne_bytes());
            list.extend_from_slice(&permissions.to_ne_bytes());
            list.extend_from_slice(&u32::MAX.to_ne_bytes());
        }
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
