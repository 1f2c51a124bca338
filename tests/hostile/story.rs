//! Makes traces: anything that the format can hold, sensible or not.
//!
//! A [`Story`] is written as it is told: tasks, then what they did. Time goes on by itself; every default can be
//! overridden, so that an attempt is a few lines about what is wrong with it.

use ctrace_format::{
    Abi, Container, Detail, Event, Header, Host, Object, ObjectId, Process, ProcessKind, Scope, Snapshot,
    SockAddr, SockCookie, Summary, Syscall, SyscallFlags, Sysno, TaskDef, TaskId, Tgid, Tid, TraceWriter,
    WriteOptions, syscalls,
};
use std::path::Path;

/// `AT_FDCWD` (linux/fcntl.h).
pub(crate) const CWD: i64 = -100;
/// First descriptor that [`Story::open`] and its like hand out: 0 to 2 are there from the start.
const FIRST_FD: i64 = 3;
/// First thread id.
const FIRST_TID: u32 = 1000;

/// A task of a story.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Task {
    pub(crate) id: TaskId,
    pub(crate) tid: u32,
    tgid: u32,
}

/// A trace that is being told.
pub(crate) struct Story {
    writer: TraceWriter,
    /// The task whose calls are told when nobody else is named.
    pub(crate) root: Task,
    /// What the recorder knew at the end. A duration of 0 becomes the time that was told.
    pub(crate) summary: Summary,
    /// When the next call begins, ns.
    pub(crate) now: u64,
    /// From the end of one call to the start of the next, ns.
    pub(crate) pause: u64,
    next_tid: u32,
    next_fd: i64,
    next_object: u64,
    next_address: u64,
}

/// A header that nothing is wrong with.
pub(crate) fn header() -> Header {
    Header {
        tick_ns: 100,
        start_boottime_ns: 5_000_000_000,
        start_realtime_ns: 1_700_000_000_000_000_000,
        abi: Abi::X86_64,
        scope: Scope::Command { argv: vec!["hostile".into()] },
        host: Host { cpus: 2, hostname: "elsewhere".into(), ..Host::default() },
        writer: "0.1.0".into(),
        blind: vec![],
        redaction: "default".into(),
    }
}

impl Story {
    /// Begins a trace at `path`, with a process called `comm`.
    pub(crate) fn begin(path: &Path, header: &Header, comm: &[u8]) -> Self {
        let mut options = WriteOptions::default();
        // What is told is what is written.
        options.redact = None;
        let writer = TraceWriter::create_with(path, header, options).expect("the trace can be written");
        let nobody = Task { id: TaskId(0), tid: 0, tgid: 0 };
        let mut story = Self {
            writer,
            root: nobody,
            summary: Summary { ended: "target exited".into(), command_status: Some(0), ..Summary::default() },
            now: 1_000_000,
            pause: 5_000,
            next_tid: FIRST_TID,
            next_fd: FIRST_FD,
            next_object: 1,
            next_address: 0x7000_0000_0000,
        };
        story.root = story.process(comm);
        story
    }

    /// Ends the trace.
    pub(crate) fn end(mut self) {
        if self.summary.duration_ns == 0 {
            self.summary.duration_ns = self.now;
        }
        self.writer.finish(&self.summary).expect("the trace can be finished");
    }

    /// A process without a parent in the trace.
    pub(crate) fn process(&mut self, comm: impl AsRef<[u8]>) -> Task {
        let tid = self.next_tid;
        self.task(tid, tid, comm)
    }

    /// A task with these ids.
    pub(crate) fn task(&mut self, tid: u32, tgid: u32, comm: impl AsRef<[u8]>) -> Task {
        self.next_tid = self.next_tid.max(tid).wrapping_add(1);
        let comm = self.writer.comm(comm.as_ref());
        let id = self.writer.task(&TaskDef { tid: Tid(tid), tgid: Tgid(tgid), comm, start_ns: self.now });
        Task { id, tid, tgid }
    }

    /// Another process: `clone(SIGCHLD)`.
    pub(crate) fn fork(&mut self, parent: Task) -> Task {
        self.cloned(parent, "clone", libc::SIGCHLD, false)
    }

    /// Another thread, as `pthread_create` makes it.
    pub(crate) fn thread(&mut self, parent: Task) -> Task {
        let flags = libc::CLONE_VM
            | libc::CLONE_FS
            | libc::CLONE_FILES
            | libc::CLONE_SIGHAND
            | libc::CLONE_THREAD
            | libc::CLONE_SYSVSEM;
        self.cloned(parent, "clone", flags, true)
    }

    /// Another task, by the call of this name with these flags.
    pub(crate) fn cloned(&mut self, parent: Task, call: &str, flags: i32, thread: bool) -> Task {
        let tid = self.next_tid;
        let child = self.task(tid, if thread { parent.tgid } else { tid }, "hs-child");
        let t_ns = self.now;
        self.life(t_ns, parent, ProcessKind::Fork { child: child.id });
        self.call(call, [i64::from(flags)]).by(parent).ret(i64::from(tid));
        child
    }

    /// `execve`, with its event.
    pub(crate) fn exec(&mut self, task: Task, path: &[u8], words: &[&[u8]], count: u32) {
        let path = self.writer.str(path);
        let argv: Vec<_> = words.iter().map(|w| self.writer.str(w)).collect();
        let t_ns = self.now;
        let kind = ProcessKind::Exec { path, old_tid: Tid(task.tid), argv: argv.clone(), argc: count };
        self.life(t_ns, task, kind);
        self.call("execve", []).by(task).detail(Detail::Str { arg: 0, value: path }).detail(Detail::Argv {
            arg: 1,
            words: argv,
            count,
        });
    }

    /// `exit_group`, with its event.
    pub(crate) fn exit(&mut self, task: Task, code: u8) {
        self.call("exit_group", [i64::from(code)]).by(task).flags(SyscallFlags::NO_EXIT);
        let t_ns = self.now;
        self.life(t_ns, task, ProcessKind::Exit { status: u32::from(code) << 8, group_dead: true });
    }

    /// An event of a task's life.
    pub(crate) fn life(&mut self, t_ns: u64, task: Task, kind: ProcessKind) {
        self.push(&Event::Process(Process { t_ns, task: task.id, kind }));
    }

    /// Any event.
    pub(crate) fn push(&mut self, event: &Event) {
        self.writer.push(event).expect("the event can be written");
    }

    /// The state at the start.
    pub(crate) fn snapshot(&mut self, snapshot: &Snapshot) {
        self.writer.snapshot(snapshot).expect("the snapshot can be written");
    }

    /// The containers.
    pub(crate) fn containers(&mut self, containers: &[Container]) {
        self.writer.containers(containers).expect("the containers can be written");
    }

    /// A string's id.
    pub(crate) fn str(&mut self, text: impl AsRef<[u8]>) -> ctrace_format::StrId {
        self.writer.str(text.as_ref())
    }

    /// A host name's id.
    pub(crate) fn host(&mut self, name: impl AsRef<[u8]>) -> ctrace_format::StrId {
        self.writer.host(name.as_ref())
    }

    /// An object's id.
    pub(crate) fn object(&mut self, object: &Object) -> ObjectId {
        self.writer.object(object)
    }

    /// A regular file.
    pub(crate) fn file(&mut self, path: impl AsRef<[u8]>, size: u64) -> ObjectId {
        self.node(path, libc::S_IFREG | 0o644, 0, size)
    }

    /// Anything in a file system, by its mode and device number.
    pub(crate) fn node(&mut self, path: impl AsRef<[u8]>, mode: u32, rdev: u64, size: u64) -> ObjectId {
        let path = self.writer.str(path.as_ref());
        let ino = self.fresh();
        self.object(&Object::File { path, dev: 1, ino, mode, rdev, size })
    }

    /// A number that no other object has.
    pub(crate) fn fresh(&mut self) -> u64 {
        self.next_object += 1;
        self.next_object
    }

    /// The next descriptor number.
    pub(crate) fn fd(&mut self) -> i64 {
        self.next_fd += 1;
        self.next_fd - 1
    }

    /// Addresses for this many bytes of memory.
    pub(crate) fn address(&mut self, len: u64) -> i64 {
        let at = self.next_address;
        self.next_address += len.next_multiple_of(1 << 21) + (1 << 21);
        at as i64
    }

    /// A call with these arguments; see [`Call`].
    pub(crate) fn call<const N: usize>(&mut self, name: &str, args: [i64; N]) -> Call<'_> {
        let sysno = syscalls::number(Abi::X86_64, name).unwrap_or_else(|| panic!("there is no call {name}"));
        self.numbered(sysno, args)
    }

    /// A call by its number.
    pub(crate) fn numbered<const N: usize>(&mut self, sysno: Sysno, args: [i64; N]) -> Call<'_> {
        let mut all = [0; 6];
        all[..N].copy_from_slice(&args.map(|a| a as u64));
        let syscall = Syscall {
            t_ns: self.now,
            duration_ns: 10_000,
            task: self.root.id,
            sysno,
            ret: 0,
            flags: SyscallFlags::default(),
            args: all,
            args_mask: 0x3f,
            object: None,
            details: Vec::new(),
            wait_cpu_ns: 0,
            blocked_ns: 0,
        };
        Call { story: self, syscall, count: 1, keeps_time: false }
    }

    /// A successful `openat` of a regular file: its descriptor.
    pub(crate) fn open(&mut self, path: impl AsRef<[u8]>, flags: i32) -> i64 {
        let object = self.file(path.as_ref(), 100);
        self.open_as(path, flags, object)
    }

    /// A successful `openat` of a device node.
    pub(crate) fn open_device(&mut self, path: &str, major: u32, minor: u32) -> i64 {
        let object = self.node(path, libc::S_IFCHR | 0o666, libc::makedev(major, minor), 0);
        self.open_as(path, libc::O_RDWR, object)
    }

    /// A successful `openat` of this object.
    pub(crate) fn open_as(&mut self, path: impl AsRef<[u8]>, flags: i32, object: ObjectId) -> i64 {
        let fd = self.fd();
        self.call("openat", [CWD, 0, i64::from(flags), 0o666]).path(1, path).ret(fd).on(object);
        fd
    }

    /// A successful `socket`: its descriptor and the socket.
    pub(crate) fn socket(&mut self, family: i32, kind: i32, protocol: i32) -> (i64, ObjectId) {
        let (fd, cookie) = (self.fd(), SockCookie(self.fresh()));
        let object = self.object(&Object::Socket {
            family: family as u16,
            kind: kind as u16,
            protocol: protocol as u16,
            cookie,
            local: None,
            peer: None,
        });
        self.call("socket", [i64::from(family), i64::from(kind), i64::from(protocol)]).ret(fd).on(object);
        (fd, object)
    }

    /// A socket that connects to `addr`, and is told to have succeeded or not.
    pub(crate) fn connect(&mut self, family: i32, kind: i32, addr: &SockAddr, ret: i64) -> i64 {
        let (fd, object) = self.socket(family, kind, 0);
        self.call("connect", [fd, 0, 128]).addr(1, addr.clone()).ret(ret).on(object);
        fd
    }

    /// A successful call that makes a descriptor of an anonymous inode.
    pub(crate) fn anon<const N: usize>(&mut self, call: &str, args: [i64; N], kind: &str) -> i64 {
        let (fd, id) = (self.fd(), self.fresh());
        let kind = self.writer.kernel_name(kind.as_bytes());
        let object = self.object(&Object::Anon { kind, id });
        self.call(call, args).ret(fd).on(object);
        fd
    }

    /// A memfd.
    pub(crate) fn memfd(&mut self) -> i64 {
        let (fd, id) = (self.fd(), self.fresh());
        let kind = self.writer.kernel_name(b"memfd:hs");
        let object = self.object(&Object::Anon { kind, id });
        self.call("memfd_create", [0, 0]).path(0, "hs").ret(fd).on(object);
        fd
    }

    /// Anonymous memory: its address.
    pub(crate) fn mmap(&mut self, len: u64, flags: i32) -> i64 {
        let at = self.address(len);
        let prot = libc::PROT_READ | libc::PROT_WRITE;
        let flags = flags | libc::MAP_ANONYMOUS;
        self.call("mmap", [0, len as i64, i64::from(prot), i64::from(flags), -1, 0]).ret(at);
        at
    }

    /// A pipe: its ends.
    pub(crate) fn pipe(&mut self) -> [i64; 2] {
        let (ends, ino) = ([self.fd(), self.fd()], self.fresh());
        let pipe = Some(self.object(&Object::Pipe { ino }));
        let fds = ends.map(|fd| fd as i32);
        self.call("pipe2", [0, 0]).detail(Detail::NewFds { arg: 0, fds, objects: [pipe, pipe] });
        ends
    }
}

/// One call (or many alike); it is written when this is dropped.
pub(crate) struct Call<'a> {
    story: &'a mut Story,
    syscall: Syscall,
    count: u64,
    keeps_time: bool,
}

impl Call<'_> {
    /// Who calls.
    pub(crate) fn by(mut self, task: Task) -> Self {
        self.syscall.task = task.id;
        self
    }
    /// What the kernel returned.
    pub(crate) fn ret(mut self, ret: i64) -> Self {
        self.syscall.ret = ret;
        self
    }
    /// What it failed with.
    pub(crate) fn fails(self, errno: i32) -> Self {
        self.ret(-i64::from(errno))
    }
    /// How long it took, ns.
    pub(crate) fn takes(mut self, ns: u64) -> Self {
        self.syscall.duration_ns = ns;
        self
    }
    /// When it began; the story's time stays where it is.
    pub(crate) fn at(mut self, t_ns: u64) -> Self {
        self.syscall.t_ns = t_ns;
        self.keeps_time = true;
        self
    }
    /// The story's time stays where it is: others go on meanwhile.
    pub(crate) fn aside(self) -> Self {
        self.later(0)
    }
    /// It began so much later; the story's time stays where it is.
    pub(crate) fn later(self, ns: u64) -> Self {
        let t_ns = self.story.now.saturating_add(ns);
        self.at(t_ns)
    }
    /// How often it was made, one after the other.
    pub(crate) fn times(mut self, count: u64) -> Self {
        self.count = count;
        self
    }
    /// How it was observed.
    pub(crate) fn flags(mut self, flags: SyscallFlags) -> Self {
        self.syscall.flags = flags;
        self
    }
    /// The object behind its descriptor.
    pub(crate) fn on(mut self, object: ObjectId) -> Self {
        self.syscall.object = Some(object);
        self
    }
    /// A path or another string.
    pub(crate) fn path(self, arg: u8, text: impl AsRef<[u8]>) -> Self {
        let value = self.story.writer.str(text.as_ref());
        self.detail(Detail::Str { arg, value })
    }
    /// A socket address.
    pub(crate) fn addr(self, arg: u8, addr: SockAddr) -> Self {
        self.detail(Detail::Addr { arg, addr })
    }
    /// A number behind a pointer.
    pub(crate) fn value(self, arg: u8, value: u64) -> Self {
        self.detail(Detail::Value { arg, value })
    }
    /// A small structure.
    pub(crate) fn bytes(self, arg: u8, data: &[u8]) -> Self {
        self.detail(Detail::Bytes { arg, data: data.to_vec() })
    }
    /// Anything decoded.
    pub(crate) fn detail(mut self, detail: Detail) -> Self {
        self.syscall.details.push(detail);
        self
    }
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        let mut syscall = self.syscall.clone();
        for _ in 0..self.count {
            self.story.push(&Event::Syscall(syscall.clone()));
            let step = syscall.duration_ns.min(1 << 62) + self.story.pause;
            syscall.t_ns = syscall.t_ns.saturating_add(step);
        }
        if !self.keeps_time {
            self.story.now = syscall.t_ns;
        }
    }
}
