//! Writes small traces, a call at a time, as a program would make them.
#![allow(clippy::unwrap_used, reason = "a test")]
#![allow(dead_code, missing_docs, unreachable_pub, reason = "each test binary uses a part")]

use ctrace_analysis::{Gates, Model, Profile, Report, diff};
use ctrace_format::syscalls::number;
use ctrace_format::{
    Abi, Class, Connection, ConnectionKind, Detail, DumpReason, Event, Header, Host, Loss, LossCause, Object,
    ObjectId, Process, ProcessKind, RingOptions, Scope, SockAddr, SockCookie, Summary, Syscall, SyscallFlags,
    TaskDef, TaskId, TcpState, Tgid, Tid, Trace, TraceWriter,
};

pub const MS: u64 = 1_000_000;

/// A trace in the making. Every call takes 10 µs and begins 100 µs after the one before it, unless told otherwise.
pub struct Run {
    writer: TraceWriter,
    path: tempfile::TempPath,
    pub now: u64,
    pid_base: u32,
    tasks: Vec<(TaskId, TaskDef)>,
}

/// A task of a [`Run`].
#[derive(Clone, Copy)]
pub struct Task(pub usize);

impl Run {
    /// A run whose ids begin at `pid_base`: nothing may depend on it.
    pub fn new(pid_base: u32) -> Self {
        let path = Self::free_path();
        let writer = TraceWriter::create(&path, &Self::header()).unwrap();
        Self { writer, path, now: 1000 * MS, pid_base, tasks: Vec::new() }
    }

    /// A run of which a flight recorder keeps so much.
    pub fn in_flight(pid_base: u32, window_ns: u64) -> Self {
        let writer = TraceWriter::ring(&Self::header(), RingOptions::new(window_ns, 1 << 30)).unwrap();
        Self { writer, path: Self::free_path(), now: 1000 * MS, pid_base, tasks: Vec::new() }
    }

    fn free_path() -> tempfile::TempPath {
        let path = tempfile::Builder::new().suffix(".ctr").tempfile().unwrap().into_temp_path();
        std::fs::remove_file(&path).unwrap();
        path
    }

    fn header() -> Header {
        Header {
            tick_ns: 100,
            start_boottime_ns: 1_000_000_000,
            start_realtime_ns: 1_700_000_000_000_000_000,
            abi: Abi::X86_64,
            scope: Scope::Command { argv: vec!["test".to_owned()] },
            host: Host::default(),
            writer: "test".to_owned(),
            blind: Vec::new(),
            redaction: String::new(),
        }
    }

    pub fn task(&mut self, tid: u32, tgid: u32, comm: &str) -> Task {
        let comm = self.writer.str(comm.as_bytes());
        let def = TaskDef {
            tid: Tid(self.pid_base + tid),
            tgid: Tgid(self.pid_base + tgid),
            comm,
            start_ns: u64::from(tid) * 10,
        };
        let id = self.writer.task(&def);
        self.tasks.push((id, def));
        Task(self.tasks.len() - 1)
    }

    pub fn id(&self, task: Task) -> TaskId {
        self.tasks[task.0].0
    }

    pub fn push(&mut self, event: &Event) {
        self.writer.push(event).unwrap();
    }

    pub fn str(&mut self, s: &str) -> ctrace_format::StrId {
        self.writer.str(s.as_bytes())
    }

    pub fn object(&mut self, object: &Object) -> ObjectId {
        self.writer.object(object)
    }

    pub fn file(&mut self, path: &str) -> ObjectId {
        let path = self.str(path);
        self.object(&Object::File { path, dev: 1, ino: 7, mode: 0o100_644, rdev: 0, size: 0 })
    }

    pub fn pipe(&mut self, ino: u64) -> ObjectId {
        self.object(&Object::Pipe { ino })
    }

    pub fn tcp(&mut self, cookie: u64) -> ObjectId {
        self.object(&Object::Socket {
            family: 2,
            kind: 1,
            protocol: 6,
            cookie: SockCookie(cookie),
            local: None,
            peer: None,
        })
    }

    /// A call, as general as it gets.
    pub fn call_with(
        &mut self,
        task: Task,
        name: &str,
        args: [u64; 6],
        ret: i64,
        object: Option<ObjectId>,
        details: Vec<Detail>,
    ) {
        let event = Event::Syscall(Syscall {
            t_ns: self.now,
            duration_ns: 10_000,
            task: self.tasks[task.0].0,
            sysno: number(Abi::X86_64, name).unwrap_or_else(|| panic!("{name}")),
            ret,
            flags: SyscallFlags::default(),
            args,
            args_mask: 0x3f,
            object,
            details,
            wait_cpu_ns: 0,
            blocked_ns: 0,
        });
        self.push(&event);
        self.now += 100_000;
    }

    pub fn call(&mut self, task: Task, name: &str, args: [u64; 6], ret: i64) {
        self.call_with(task, name, args, ret, None, Vec::new());
    }

    pub fn flagged(&mut self, task: Task, name: &str, flags: SyscallFlags, duration_ns: u64) {
        let event = Event::Syscall(Syscall {
            t_ns: self.now,
            duration_ns,
            task: self.tasks[task.0].0,
            sysno: number(Abi::X86_64, name).unwrap(),
            ret: 0,
            flags,
            args: [3, 0, 0, 0, 0, 0],
            args_mask: 0x3f,
            object: None,
            details: Vec::new(),
            wait_cpu_ns: 0,
            blocked_ns: 0,
        });
        self.push(&event);
    }

    /// A successful call of the replay engine itself.
    pub fn marked(&mut self, task: Task, name: &str, args: [u64; 6], ret: i64) {
        let event = Event::Syscall(Syscall {
            t_ns: self.now,
            duration_ns: 100,
            task: self.tasks[task.0].0,
            sysno: number(Abi::X86_64, name).unwrap(),
            ret,
            flags: SyscallFlags::ENGINE,
            args,
            args_mask: 0x3f,
            object: None,
            details: Vec::new(),
            wait_cpu_ns: 0,
            blocked_ns: 0,
        });
        self.push(&event);
        self.now += 1000;
    }

    /// A call that a seccomp filter failed: seen at its exit only.
    pub fn failed_unseen(&mut self, task: Task, name: &str, errno: i64) {
        let event = Event::Syscall(Syscall {
            t_ns: self.now,
            duration_ns: 0,
            task: self.tasks[task.0].0,
            sysno: number(Abi::X86_64, name).unwrap(),
            ret: -errno,
            flags: SyscallFlags::NO_ENTER,
            args: [0; 6],
            args_mask: 0,
            object: None,
            details: Vec::new(),
            wait_cpu_ns: 0,
            blocked_ns: 0,
        });
        self.push(&event);
        self.now += 100_000;
    }

    /// `open` a path: a descriptor, or −errno.
    pub fn open(&mut self, task: Task, path: &str, ret: i64) {
        let value = self.str(path);
        let object = (ret >= 0).then(|| self.file(path));
        self.call_with(
            task,
            "openat",
            [u64::MAX - 99, 0, 0, 0, 0, 0],
            ret,
            object,
            vec![Detail::Str { arg: 1, value }],
        );
    }

    pub fn io(&mut self, task: Task, name: &str, fd: i32, object: ObjectId, ret: i64) {
        let asked = ret.max(4096) as u64;
        self.call_with(task, name, [fd as u64, 0, asked, 0, 0, 0], ret, Some(object), Vec::new());
    }

    pub fn close(&mut self, task: Task, fd: i32, object: ObjectId) {
        self.call_with(task, "close", [fd as u64, 0, 0, 0, 0, 0], 0, Some(object), Vec::new());
    }

    /// `socket`, `connect`: the object of the socket.
    pub fn connect(&mut self, task: Task, fd: i32, cookie: u64, to: &str, ret: i64) -> ObjectId {
        let object = self.tcp(cookie);
        self.call_with(task, "socket", [2, 1, 0, 0, 0, 0], i64::from(fd), Some(object), Vec::new());
        let addr = SockAddr::Inet(to.parse().unwrap());
        let details = vec![Detail::Addr { arg: 1, addr }];
        self.call_with(task, "connect", [fd as u64, 0, 16, 0, 0, 0], ret, Some(object), details);
        object
    }

    /// Connects, sends a request, reads the answer, closes.
    pub fn request(&mut self, task: Task, cookie: u64, to: &str, bytes: (i64, i64)) {
        let socket = self.connect(task, 5, cookie, to, 0);
        self.io(task, "sendto", 5, socket, bytes.0);
        self.io(task, "recvfrom", 5, socket, bytes.1);
        self.close(task, 5, socket);
    }

    /// The kernel's view of a connection.
    pub fn tcp_state(&mut self, cookie: u64, peer: &str, old: TcpState, new: TcpState, error: u16) {
        self.tcp_event(cookie, peer, ConnectionKind::State { old, new, error });
    }

    pub fn tcp_event(&mut self, cookie: u64, peer: &str, kind: ConnectionKind) {
        let event = Event::Connection(Connection {
            t_ns: self.now,
            cookie: SockCookie(cookie),
            task: None,
            local: SockAddr::Inet("127.0.0.1:45000".parse().unwrap()),
            peer: SockAddr::Inet(peer.parse().unwrap()),
            kind,
        });
        self.push(&event);
    }

    pub fn life(&mut self, task: Task, kind: ProcessKind) {
        let event = Event::Process(Process { t_ns: self.now, task: self.tasks[task.0].0, kind });
        self.push(&event);
        self.now += 1000;
    }

    pub fn fork(&mut self, parent: Task, child: Task) {
        let child = self.tasks[child.0].0;
        self.life(parent, ProcessKind::Fork { child });
    }

    pub fn exec(&mut self, task: Task, path: &str) {
        let path = self.str(path);
        let old_tid = self.tasks[task.0].1.tid;
        self.life(task, ProcessKind::Exec { path, old_tid, argv: Vec::new(), argc: 0 });
    }

    pub fn exit(&mut self, task: Task, status: u32) {
        self.life(task, ProcessKind::Exit { status, group_dead: true });
    }

    pub fn lose(&mut self, count: u64) {
        let t_ns = self.now;
        self.push(&Event::Loss(Loss {
            t_ns,
            from_ns: 0,
            cpu: 0,
            class: Class::Syscall,
            cause: LossCause::RingFull,
            count,
        }));
    }

    pub fn finish(self) -> Trace {
        self.writer.finish(&Summary { duration_ns: self.now, ..Summary::default() }).unwrap();
        Trace::open(&self.path).unwrap()
    }

    /// The trace without the end of its file: `tenths` of it are there.
    pub fn torn(self, tenths: u64) -> Trace {
        self.writer.finish(&Summary { duration_ns: self.now, ..Summary::default() }).unwrap();
        let file = std::fs::OpenOptions::new().write(true).open(&self.path).unwrap();
        file.set_len(file.metadata().unwrap().len() * tenths / 10).unwrap();
        Trace::open(&self.path).unwrap()
    }

    /// Lets the flight recorder leave out what is older than its window.
    pub fn turn(&mut self) {
        self.writer.turn(self.now).unwrap();
    }

    /// A dump of the flight recorder, now.
    pub fn dump(mut self) -> Trace {
        let summary = Summary { duration_ns: self.now, ..Summary::default() };
        let dump = self.writer.dump(self.now, &[]).unwrap();
        dump.write(&self.path, &Self::header(), 1, DumpReason::Signal, &summary).unwrap();
        Trace::open(&self.path).unwrap()
    }

    pub fn model(self) -> Model {
        Model::build(&self.finish()).unwrap()
    }
}

pub fn compare(a: Run, b: Run) -> Report {
    diff(&a.model(), &b.model(), &Gates::new(Profile::RealBinary))
}

pub fn replay(a: Run, b: Run) -> Report {
    diff(&a.model(), &b.model(), &Gates::new(Profile::Synthetic))
}

pub fn value(report: &Report, metric: &str) -> Option<f64> {
    report.metric(metric).unwrap_or_else(|| panic!("no metric {metric}")).value
}
