//! Traces for tests.

use ctrace_format::{
    Abi, Connection, ConnectionKind, Detail, Event, Header, Host, Loss, LossCause, Marker, Object, Process,
    ProcessKind, Scope, SockAddr, SockCookie, Summary, Syscall, SyscallFlags, Sysno, TaskDef, TaskId,
    TcpState, Tgid, Tid, Trace, TraceWriter, WriteOptions, syscalls,
};

/// 2026-12-01T18:00:00Z.
pub(super) const START: u64 = 1_796_148_000_000_000_000;
pub(super) const MS: u64 = 1_000_000;

fn header(start_realtime_ns: u64) -> Header {
    Header {
        tick_ns: 100,
        start_boottime_ns: 0,
        start_realtime_ns,
        abi: Abi::X86_64,
        scope: Scope::Pid { pid: 10 },
        host: Host::default(),
        writer: "test".into(),
        blind: vec![],
        redaction: "default".into(),
    }
}

fn number(name: &str) -> Sysno {
    syscalls::number(Abi::X86_64, name).unwrap()
}

pub(super) struct Maker {
    _directory: tempfile::TempDir,
    path: std::path::PathBuf,
    pub(super) writer: TraceWriter,
}

impl Maker {
    pub(super) fn new(start_realtime_ns: u64) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("made.ctr");
        // Small chunks: a page is made of several.
        let mut options = WriteOptions::default();
        options.chunk_events = 8192;
        let writer = TraceWriter::create_with(&path, &header(start_realtime_ns), options).unwrap();
        Self { _directory: directory, path, writer }
    }

    pub(super) fn task(&mut self, tid: u32, comm: &str) -> TaskId {
        let comm = self.writer.comm(comm.as_bytes());
        self.writer.task(&TaskDef { tid: Tid(tid), tgid: Tgid(tid), comm, start_ns: 0 })
    }

    /// A call on a file of this path; an empty path: on nothing.
    pub(super) fn call(&mut self, t_ns: u64, task: TaskId, name: &str, path: &str, ret: i64) {
        let mut details = Vec::new();
        let mut object = None;
        if name == "openat" {
            details.push(Detail::Str { arg: 1, value: self.writer.str(path.as_bytes()) });
        } else if !path.is_empty() {
            let path = self.writer.str(path.as_bytes());
            object = Some(self.writer.object(&Object::File {
                path,
                dev: 1,
                ino: 0,
                mode: 0o100_644,
                rdev: 0,
                size: 0,
            }));
        }
        let call = Syscall {
            t_ns,
            duration_ns: 1_000,
            task,
            sysno: number(name),
            ret,
            flags: SyscallFlags::default(),
            args: [3, 0, 16, 0, 0, 0],
            args_mask: 0b111,
            object,
            details,
            wait_cpu_ns: 0,
            blocked_ns: 0,
        };
        self.writer.push(&Event::Syscall(call)).unwrap();
    }

    pub(super) fn push(&mut self, event: &Event) {
        self.writer.push(event).unwrap();
    }

    pub(super) fn finish(self, duration_ns: u64) -> Trace {
        let summary = Summary { duration_ns, ended: "target exited".into(), ..Summary::default() };
        self.writer.finish(&summary).unwrap();
        Trace::open(&self.path).unwrap()
    }

    /// Only what is on the disk when the writer dies.
    pub(super) fn die(mut self) -> Trace {
        self.writer.flush().unwrap();
        drop(self.writer);
        Trace::open(&self.path.with_extension("ctr.partial")).unwrap()
    }
}

fn addr(port: u16) -> SockAddr {
    SockAddr::Inet(std::net::SocketAddr::from(([127, 0, 0, 1], port)))
}

/// An application that reads a file every millisecond for a second; at half of it a file is missing, a connection is
/// refused, and events are lost; a marker at the end.
pub(super) fn shop(start_realtime_ns: u64) -> Trace {
    let mut maker = Maker::new(start_realtime_ns);
    let (app, helper) = (maker.task(10, "app"), maker.task(11, "helper"));
    for i in 0..1_000_u64 {
        let t_ns = i * MS;
        let (task, path) = if i % 10 == 0 { (helper, "/etc/helper.conf") } else { (app, "/var/lib/data") };
        maker.call(t_ns, task, "read", path, 16);
        if i == 500 {
            maker.call(t_ns + 2_000, app, "openat", "/var/lib/missing", -13);
            let cookie = SockCookie(77);
            let socket = maker.writer.object(&Object::Socket {
                family: 2,
                kind: 1,
                protocol: 6,
                cookie,
                local: None,
                peer: Some(addr(6379)),
            });
            let connect = Syscall {
                t_ns: t_ns + 5_000,
                duration_ns: 1_000,
                task: app,
                sysno: number("connect"),
                ret: -111,
                flags: SyscallFlags::default(),
                args: [4, 0, 16, 0, 0, 0],
                args_mask: 0b111,
                object: Some(socket),
                details: vec![Detail::Addr { arg: 1, addr: addr(6379) }],
                wait_cpu_ns: 0,
                blocked_ns: 0,
            };
            maker.push(&Event::Syscall(connect));
            maker.push(&Event::Connection(Connection {
                t_ns: t_ns + 7_000,
                cookie,
                task: Some(app),
                local: addr(40_000),
                peer: addr(6379),
                kind: ConnectionKind::State { old: TcpState::SynSent, new: TcpState::Close, error: 111 },
            }));
            maker.push(&Event::Loss(Loss {
                t_ns: t_ns + 9_000,
                from_ns: t_ns + 8_000,
                cpu: 0,
                class: ctrace_format::Class::Syscall,
                cause: LossCause::RingFull,
                count: 42,
            }));
        }
    }
    let text = maker.writer.str(b"deploy began");
    maker.push(&Event::Marker(Marker { t_ns: 999 * MS + 500_000, text }));
    let exit = ProcessKind::Exit { status: 3 << 8, group_dead: true };
    maker.push(&Event::Process(Process { t_ns: 999 * MS + 600_000, task: app, kind: exit }));
    maker.finish(1_000 * MS)
}

/// So many calls, a microsecond apart, every thousandth of which fails.
pub(super) fn long(calls: u64) -> Trace {
    let mut maker = Maker::new(START);
    let task = maker.task(10, "app");
    for i in 0..calls {
        let ret = if i % 1_000 == 999 { -13 } else { 1 };
        maker.call(i * 1_000, task, "read", if i % 2 == 0 { "/even" } else { "/odd" }, ret);
    }
    maker.finish(calls * 1_000)
}
