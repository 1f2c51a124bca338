//! Names: what a path argument stands for, and what calls do to the tree.

use super::super::CompileError;
use super::super::calls::{Known, Sc};
use super::super::fsmodel::{InodeIx, NodeKind};
use super::super::links::Observed;
use super::super::overlaps::Overlaps;
use super::super::paths::PathId;
use super::super::source::Source;
use super::{
    AT_FDCWD, O_CREAT, O_DIRECTORY, O_EXCL, O_TMPFILE, O_TRUNC, OfdIx, OfdKind, Target, TaskIx, World,
    detail_addr, detail_str, is_told_to_create, open_flags,
};
use ctrace_format::syscalls::{self, Family, Follow, Kind};
use ctrace_format::{Detail, Object, SockAddr, Syscall};

impl World {
    /// What the path argument `arg` of a call means; `dirfd` is the descriptor it is relative to.
    pub(crate) fn target(
        &mut self,
        source: &dyn Source,
        task: TaskIx,
        call: &Syscall,
        arg: u8,
        dirfd: Option<i32>,
    ) -> Option<Target> {
        let id = detail_str(call, arg)?;
        let text = source.str(id);
        let relative = text.first() != Some(&b'/');
        let (base, directory) = match dirfd {
            Some(fd) if fd != AT_FDCWD && relative => match self.ofd_of(task, fd) {
                Some(ofd) => match self.ofds[ofd as usize].kind {
                    OfdKind::Node { path, inode } => (path, Some(inode)),
                    _ => return None,
                },
                None => return None,
            },
            _ => {
                let state = self.fs_of(task);
                (state.cwd, state.directory)
            }
        };
        let root = self.fs_of(task).root;
        let by_fd = text.is_empty();
        let base = match directory.filter(|ix| relative && !by_fd && self.fs.node(*ix).removed) {
            Some(ix) => self.fs.grave(&mut self.paths, base, ix),
            None => base,
        };
        let path = if let Some(path) = self.targets.get(&(root, base, id)) {
            *path
        } else {
            let path = self.paths.joined(root, base, text);
            let path = self.paths.intern(&path);
            self.targets.insert((root, base, id), path);
            path
        };
        let sc = self.calls.get(call.sysno).sc;
        Some(Target { path: self.resolve(path, follows(sc, call, text)), by_fd })
    }

    /// The names that a call is about.
    pub(crate) fn names_of(
        &mut self,
        source: &dyn Source,
        task: TaskIx,
        call: &Syscall,
        known: &Known,
    ) -> Vec<PathId> {
        let Some(args) = known.args else { return Vec::new() };
        let mut out = Vec::new();
        let mut dirfd = None;
        for (i, (_, kind)) in args.iter().enumerate() {
            match kind {
                Kind::DirFd => dirfd = Some(call.args[i] as i32),
                Kind::Path => {
                    let target = self.target(source, task, call, i as u8, dirfd);
                    out.extend(target.filter(|target| !target.by_fd).map(|target| target.path));
                    dirfd = None;
                }
                Kind::SockAddr => {
                    // The name of a socket is one of a file.
                    if let Some(SockAddr::Unix(path)) =
                        detail_addr(call, i as u8).map(|addr| self.absolute(task, addr))
                        && path.first() == Some(&b'/')
                    {
                        let path = self.paths.intern(&path);
                        out.push(self.resolve(path, true));
                    }
                }
                _ => {}
            }
        }
        out
    }

    /// A call is about to be looked at: the changes of names that it comes after are made by then, though they return later.
    pub(crate) fn catch_up(&mut self, source: &dyn Source, task: TaskIx) -> Result<(), CompileError> {
        let id = (task, self.tasks[task as usize].ops);
        for change in self.seed.overlaps.before(id).to_vec() {
            if !self.took_effect.insert(change.id) {
                continue;
            }
            let (by, call) = (change.id.0, &change.call);
            let known = self.calls.get(call.sysno);
            if known.row().family != Family::Open {
                self.apply_names(source, by, call, &known)?;
            } else if let Some(path) = self.names_of(source, by, call, &known).first().copied() {
                self.room_for(path);
                self.fs.create(&self.paths, path, NodeKind::File, Some(open_flags(call, known.sc).1));
            }
        }
        Ok(())
    }

    /// The changes of names that returned after others had found them made.
    pub(crate) fn overlaps(&self) -> &Overlaps {
        &self.seed.overlaps
    }

    /// The workload gave `from` the name `to`: who is in a directory goes with it.
    fn renamed(&mut self, from: PathId, to: PathId, exchange: bool) {
        let is_directory = self.paths.has_below(from) || exchange && self.paths.has_below(to);
        self.fs.rename(&mut self.paths, from, to, exchange);
        if !is_directory || !self.fs.may_look_at(self.fs_states.len() + self.ofds.len()) {
            return;
        }
        let paths = &mut self.paths;
        let mut follow = |path: &mut PathId| {
            if let Some(moved) = paths.moved(*path, from, to) {
                *path = moved;
            } else if exchange && let Some(moved) = paths.moved(*path, to, from) {
                *path = moved;
            }
        };
        for state in &mut self.fs_states {
            follow(&mut state.cwd);
            follow(&mut state.root);
        }
        for ofd in &mut self.ofds {
            if let OfdKind::Node { path, .. } = &mut ofd.kind {
                follow(path);
            }
        }
    }

    /// A path led a task to what the kernel calls `found`: links that were there at the start may have led it there.
    pub(crate) fn observed(&mut self, links: &mut Observed, task: TaskIx, path: PathId, found: &[u8]) {
        let found = self.seen(task, found);
        let found = self.paths.intern(&found);
        let at_start = |world: &mut Self, path| world.fs.at_start(&mut world.paths, path);
        if let (Some(path), Some(found)) = (at_start(self, path), at_start(self, found)) {
            links.observe(self.paths.get(path), self.paths.get(found));
        }
    }

    /// The path behind links, the last component's only when `follow`.
    pub(crate) fn resolve(&mut self, path: PathId, follow: bool) -> PathId {
        if self.seed.links.is_empty() && !self.fs.has_links() {
            return path;
        }
        if self.fs.links_changed() {
            self.resolved.clear();
        }
        if let Some(known) = self.resolved.get(&(path, follow)) {
            return *known;
        }
        let (fs, paths) = (&self.fs, &self.paths);
        let made = |beginning: &[u8]| fs.led(paths, beginning);
        let lengths = |len: usize| fs.has_link_of(len);
        let to = self.seed.links.resolve_beside(paths.get(path), follow, &lengths, &made);
        let to = self.paths.intern(&to);
        self.resolved.insert((path, follow), to);
        to
    }

    /// The descriptor that a path argument names, as `/dev/fd/3` and `/proc/self/fd/3` do, and what it refers to.
    pub(crate) fn named_descriptor(
        &self,
        source: &dyn Source,
        task: TaskIx,
        call: &Syscall,
        arg: u8,
    ) -> Option<(i32, OfdKind)> {
        let fd = syscalls::descriptor_named(source.str(detail_str(call, arg)?))?;
        let ofd = self.ofd_of(task, fd)?;
        Some((fd, self.ofds[ofd as usize].kind))
    }

    /// Whether a description is of a file that has no name any more.
    pub(crate) fn is_nameless_file(&self, ofd: OfdIx) -> bool {
        match self.ofds[ofd as usize].kind {
            OfdKind::Node { path, inode } => {
                self.fs.node(inode).kind == NodeKind::File && self.fs.lookup(path) != Some(inode)
            }
            OfdKind::Mem { .. } => true,
            _ => false,
        }
    }

    /// What a failure says about the name it was about.
    pub(crate) fn failed_name(&mut self, source: &dyn Source, task: TaskIx, call: &Syscall, known: &Known) {
        let Some(args) = known.args else { return };
        let Some(arg) = args.iter().position(|(_, kind)| *kind == Kind::Path) else { return };
        let dirfd = (arg > 0 && args[arg - 1].1 == Kind::DirFd).then(|| call.args[arg - 1] as i32);
        let Some(target) = self.target(source, task, call, arg as u8, dirfd) else { return };
        if target.by_fd {
            return;
        }
        let path = target.path;
        match (known.sc, -call.ret) {
            (
                Sc::Link
                | Sc::Linkat
                | Sc::Rename
                | Sc::Renameat
                | Sc::Renameat2
                | Sc::Symlink
                | Sc::Symlinkat,
                _,
            )
            | (Sc::Mkdir | Sc::Mkdirat | Sc::Mknod | Sc::Mknodat, 2) => {}
            (Sc::Open | Sc::Openat | Sc::Openat2 | Sc::Creat, 2)
                if open_flags(call, known.sc).0 & O_CREAT != 0 => {}
            (_, 2) => self.fs.absent(&self.paths, path),
            // EISDIR, ENOTEMPTY; EEXIST
            (_, 21 | 39) | (Sc::Mkdir | Sc::Mkdirat, 17) => {
                self.fs.present(&mut self.paths, path, NodeKind::Dir);
            }
            // EINVAL of readlink: no link. EEXIST, ETXTBSY, ELOOP, EACCES of something that is there.
            (Sc::Readlink | Sc::Readlinkat, 22) | (Sc::Rmdir, 20) | (_, 17 | 26) => {
                self.fs.present(&mut self.paths, path, NodeKind::Unknown);
            }
            // EACCES of a program: a directory, or a file that nobody may execute; of one that nothing else is known of, perhaps
            // a directory above it that this user may not search.
            (Sc::Execve | Sc::Execveat, 13) if self.fs.lookup(path).is_some() => {
                let inode = self.fs.present(&mut self.paths, path, NodeKind::File);
                let node = self.fs.node_mut(inode);
                if node.kind == NodeKind::File && node.mode.is_none() {
                    node.mode = Some(0o644);
                }
            }
            (Sc::Open | Sc::Openat, 40) => {
                self.fs.present(&mut self.paths, path, NodeKind::Symlink);
            }
            (Sc::Open | Sc::Openat, 6) if self.paths.get(path) == b"/dev/tty" => {
                let inode = self.fs.present(&mut self.paths, path, NodeKind::Device);
                self.fs.node_mut(inode).rdev = 0x500;
            }
            _ => {}
        }
    }

    /// A name is about to be made: its directory is there, though no other call may say so.
    fn room_for(&mut self, path: PathId) {
        let parent = self.paths.parent(path);
        if self.fs.lookup(parent).is_none() && !self.fs.is_absent(&self.paths, parent) {
            self.fs.present(&mut self.paths, parent, NodeKind::Dir);
        }
    }

    /// Whether an `open` that succeeds makes the file: the kernel said so, the flags ask for it, or nothing was there.
    pub(crate) fn creates(&self, call: &Syscall, flags: u32, path: PathId) -> bool {
        is_told_to_create(call, flags) || flags & O_CREAT != 0 && self.fs.is_absent(&self.paths, path)
    }

    #[expect(clippy::too_many_arguments, reason = "the parts of an open call")]
    pub(crate) fn opened(
        &mut self,
        source: &dyn Source,
        task: TaskIx,
        call: &Syscall,
        path_arg: u8,
        dirfd: Option<i32>,
        flags: u32,
        mode: u32,
    ) -> OfdKind {
        match self.named_descriptor(source, task, call, path_arg) {
            Some((_, OfdKind::Node { path, inode })) => {
                if flags & O_TRUNC != 0 {
                    self.fs.truncated(inode, 0);
                }
                return OfdKind::Node { path, inode };
            }
            Some((_, OfdKind::Pipe { pipe, .. })) => return OfdKind::Pipe { pipe, write: flags & 3 != 0 },
            Some((_, kind @ OfdKind::Mem { .. })) => return kind,
            _ => {}
        }
        let object = call.object.map(|o| source.object(o));
        let target = self.target(source, task, call, path_arg, dirfd);
        let Some(Target { path, .. }) = target else {
            return object.map_or(OfdKind::Other, |o| self.kind_of_object(source, o, false));
        };
        if flags & O_TMPFILE == O_TMPFILE {
            let scratch = self.paths.join(path, b"#tmpfile");
            self.fs.present(&mut self.paths, path, NodeKind::Dir);
            let inode = self.fs.create(&self.paths, scratch, NodeKind::File, Some(mode));
            return OfdKind::Node { path: scratch, inode };
        }
        let (kind, size, rdev, file_mode) = match object {
            Some(Object::File { mode, size, rdev, .. }) => (NodeKind::of_mode(*mode), *size, *rdev, *mode),
            _ if flags & O_DIRECTORY != 0 => (NodeKind::Dir, 0, 0, 0),
            _ => (NodeKind::Unknown, 0, 0, 0),
        };
        let known_present = self.fs.lookup(path).is_some();
        let made_before = self.took_effect.remove(&(task, self.tasks[task as usize].ops.saturating_sub(1)));
        let inode = if !made_before && self.creates(call, flags, path) {
            self.room_for(path);
            self.fs.create(
                &self.paths,
                path,
                if kind == NodeKind::Unknown { NodeKind::File } else { kind },
                Some(mode),
            )
        } else {
            let inode = self.fs.present(&mut self.paths, path, kind);
            if flags & O_TRUNC == 0 || known_present {
                self.tell(inode, file_mode, rdev, if flags & O_TRUNC == 0 { size } else { 0 });
            } else {
                self.tell(inode, file_mode, rdev, 0);
            }
            inode
        };
        if flags & O_TRUNC != 0 {
            self.fs.truncated(inode, 0);
        }
        if let Some(Object::File { dev, .. }) = object {
            self.fs.placed(inode, *dev, self.paths.get(path));
        }
        OfdKind::Node { path, inode }
    }

    pub(crate) fn told_stat(&mut self, inode: InodeIx, call: &Syscall) {
        for detail in &call.details {
            if let Detail::Stat { mode, size, .. } = detail {
                self.correct(inode, *mode, *size);
                self.tell(inode, *mode, 0, *size);
                if NodeKind::of_mode(*mode) == NodeKind::Symlink {
                    let node = self.fs.node_mut(inode);
                    node.link_len = (*size).min(4095) as u32;
                }
            }
        }
    }

    /// Effects of successful calls on names.
    pub(crate) fn apply_names(
        &mut self,
        source: &dyn Source,
        task: TaskIx,
        call: &Syscall,
        known: &Known,
    ) -> Result<(), CompileError> {
        let fd = |i: usize| Some(call.args[i] as i32);
        match known.sc {
            Sc::Stat | Sc::Lstat | Sc::Newfstatat | Sc::Statx => {
                let (arg, dir, flags) = match known.sc {
                    Sc::Newfstatat => (1, fd(0), call.args[3]),
                    Sc::Statx => (1, fd(0), call.args[2]),
                    _ => (0, None, 0),
                };
                if let Some(target) = self.target(source, task, call, arg, dir) {
                    let inode = if target.by_fd && flags & 0x1000 != 0 {
                        let ofd = self.ensure_fd(source, task, call.args[0] as i32, call.object, false)?;
                        ofd.and_then(|o| self.inode_of(o))
                    } else {
                        let mode = call.details.iter().find_map(|d| match d {
                            Detail::Stat { mode, .. } => Some(*mode),
                            _ => None,
                        });
                        Some(self.fs.present(
                            &mut self.paths,
                            target.path,
                            mode.map_or(NodeKind::Unknown, NodeKind::of_mode),
                        ))
                    };
                    if let Some(inode) = inode {
                        self.told_stat(inode, call);
                    }
                }
            }
            Sc::Access
            | Sc::Chmod
            | Sc::Chown
            | Sc::Lchown
            | Sc::Statfs
            | Sc::Getxattr
            | Sc::Lgetxattr
            | Sc::Listxattr
            | Sc::Llistxattr
            | Sc::Utime
            | Sc::Utimes => {
                if let Some(target) = self.target(source, task, call, 0, None) {
                    let inode = self.fs.present(&mut self.paths, target.path, kind_by_name(source, call, 0));
                    self.got_xattr(source, call, known.sc, inode);
                    if known.sc == Sc::Access {
                        self.accessible(inode, call.args[1]);
                    }
                }
            }
            Sc::Faccessat | Sc::Faccessat2 | Sc::Fchmodat | Sc::Fchownat | Sc::Utimensat | Sc::Futimesat => {
                if let Some(target) = self.target(source, task, call, 1, fd(0))
                    && !target.by_fd
                {
                    let inode = self.fs.present(&mut self.paths, target.path, kind_by_name(source, call, 1));
                    if matches!(known.sc, Sc::Faccessat | Sc::Faccessat2) {
                        self.accessible(inode, call.args[2]);
                    }
                }
            }
            Sc::Truncate => {
                if let Some(target) = self.target(source, task, call, 0, None) {
                    let inode = self.fs.present(&mut self.paths, target.path, NodeKind::File);
                    self.fs.truncated(inode, call.args[1]);
                }
            }
            Sc::Readlink | Sc::Readlinkat => {
                let (arg, dir) = if known.sc == Sc::Readlinkat { (1, fd(0)) } else { (0, None) };
                if let Some(target) = self.target(source, task, call, arg, dir) {
                    let inode = self.fs.present(&mut self.paths, target.path, NodeKind::Symlink);
                    let node = self.fs.node_mut(inode);
                    node.kind = NodeKind::Symlink;
                    node.link_len = node.link_len.max(call.ret.clamp(0, 4095) as u32);
                }
            }
            Sc::Mkdir | Sc::Mkdirat => {
                let (arg, dir) = if known.sc == Sc::Mkdirat { (1, fd(0)) } else { (0, None) };
                let mode = call.args[usize::from(arg) + 1] as u32;
                if let Some(target) = self.target(source, task, call, arg, dir) {
                    self.room_for(target.path);
                    self.fs.create(&self.paths, target.path, NodeKind::Dir, Some(mode));
                }
            }
            Sc::Mknod | Sc::Mknodat => {
                let (arg, dir) = if known.sc == Sc::Mknodat { (1, fd(0)) } else { (0, None) };
                let mode = call.args[usize::from(arg) + 1] as u32;
                if let Some(target) = self.target(source, task, call, arg, dir) {
                    let kind = if mode & 0o170_000 == 0 { NodeKind::File } else { NodeKind::of_mode(mode) };
                    self.room_for(target.path);
                    self.fs.create(&self.paths, target.path, kind, Some(mode & 0o7777));
                }
            }
            Sc::Symlink | Sc::Symlinkat => {
                let (arg, dir) = if known.sc == Sc::Symlinkat { (2, fd(1)) } else { (1, None) };
                if let Some(target) = self.target(source, task, call, arg, dir) {
                    self.room_for(target.path);
                    let text = detail_str(call, 0).map_or(&b""[..], |id| source.str(id));
                    self.fs.symlink(&self.paths, target.path, text);
                }
            }
            Sc::Unlink | Sc::Rmdir | Sc::Unlinkat => {
                let (arg, dir) = if known.sc == Sc::Unlinkat { (1, fd(0)) } else { (0, None) };
                let is_dir = known.sc == Sc::Rmdir || (known.sc == Sc::Unlinkat && call.args[2] & 0x200 != 0);
                if let Some(target) = self.target(source, task, call, arg, dir) {
                    let kind = if is_dir { NodeKind::Dir } else { NodeKind::Unknown };
                    self.fs.remove(&mut self.paths, target.path, kind);
                }
            }
            Sc::Rename | Sc::Renameat | Sc::Renameat2 | Sc::Link | Sc::Linkat => {
                let at = !matches!(known.sc, Sc::Rename | Sc::Link);
                let (a, b) = if at { (1, 3) } else { (0, 1) };
                let from = self.target(source, task, call, a, at.then_some(call.args[0] as i32));
                let to = self.target(source, task, call, b, at.then_some(call.args[2] as i32));
                if let (Some(from), Some(to)) = (from, to) {
                    self.room_for(to.path);
                    self.fs.same_device(&self.paths, from.path, to.path);
                    if matches!(known.sc, Sc::Link | Sc::Linkat) {
                        if from.by_fd {
                            self.fs.create(&self.paths, to.path, NodeKind::File, None);
                        } else {
                            self.fs.link(&mut self.paths, from.path, to.path);
                        }
                    } else {
                        let exchange = known.sc == Sc::Renameat2 && call.args[4] & 2 != 0;
                        self.renamed(from.path, to.path, exchange);
                    }
                    self.socket_named(to.path);
                }
            }
            Sc::Execve | Sc::Execveat => {
                let proc = self.tasks[task as usize].proc;
                self.exec(proc)?;
            }
            _ => {}
        }
        Ok(())
    }

    /// `access` allowed what it was asked for. To execute a file, somebody has to be allowed to; even root may not otherwise
    /// (`generic_permission`, fs/namei.c).
    fn accessible(&mut self, inode: InodeIx, asked: u64) {
        const X_OK: u64 = 1;
        let node = self.fs.node_mut(inode);
        if asked & X_OK != 0 && node.mode.is_none() && node.initial.is_some() {
            node.mode = Some(0o755);
        }
    }

    pub(crate) fn got_xattr(&mut self, source: &dyn Source, call: &Syscall, sc: Sc, inode: InodeIx) {
        if matches!(sc, Sc::Getxattr | Sc::Lgetxattr)
            && let Some(name) = detail_str(call, 1)
        {
            let node = self.fs.node_mut(inode);
            let name = source.str(name);
            let name = &name[..name.len().min(XATTR_NAME_MAX)];
            if !node.written && node.xattrs.len() < 16 && !node.xattrs.iter().any(|(n, _)| &**n == name) {
                node.xattrs.push((name.into(), call.ret.clamp(0, 65_536) as u32));
            }
        }
    }
}

/// Longest name of an extended attribute (include/uapi/linux/limits.h).
const XATTR_NAME_MAX: usize = 255;

/// Whether a call follows a link in the last component of its path. A slash at the end makes it, unless it is the name that
/// matters (`link_path_walk` and `walk_component`, fs/namei.c).
fn follows(sc: Sc, call: &Syscall, text: &[u8]) -> bool {
    const AT_SYMLINK_NOFOLLOW: u64 = 0x100;
    if text.ends_with(b"/") && !sc.row().renames {
        return true;
    }
    match sc.row().follow {
        Follow::Never => false,
        Follow::Unless(arg) => call.args[arg] & AT_SYMLINK_NOFOLLOW == 0,
        Follow::ByOpenFlags => {
            let flags = open_flags(call, sc).0;
            flags & O_NOFOLLOW == 0 && flags & (O_CREAT | O_EXCL) != O_CREAT | O_EXCL
        }
        Follow::Always => true,
    }
}

#[cfg(target_arch = "aarch64")]
const O_NOFOLLOW: u32 = 0o100_000;
#[cfg(not(target_arch = "aarch64"))]
const O_NOFOLLOW: u32 = 0o400_000;

/// What is known of what a call found by its name alone: a slash at the end is for directories.
fn kind_by_name(source: &dyn Source, call: &Syscall, arg: u8) -> NodeKind {
    let name = detail_str(call, arg).map(|name| source.str(name));
    if name.is_some_and(|name| name.ends_with(b"/")) { NodeKind::Dir } else { NodeKind::Unknown }
}
