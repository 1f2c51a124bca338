//! Makes traces event by event.

use ctrace_format::{
    Abi, Detail, Event, Header, Host, Object, ObjectId, Process, ProcessKind, Scope, SockAddr, SockCookie,
    StrId, Summary, Syscall, SyscallFlags, Sysno, TaskDef, TaskId, Tgid, Tid, TraceWriter, WriteOptions,
    syscalls,
};
use std::path::Path;

/// A trace that is being made. Time goes on by a microsecond per call.
pub(crate) struct Make {
    pub(crate) w: TraceWriter,
    pub(crate) t_ns: u64,
    end_ns: u64,
}

pub(crate) fn header() -> Header {
    Header {
        tick_ns: 100,
        start_boottime_ns: 5_000_000_000,
        start_realtime_ns: 1_700_000_000_000_000_000,
        abi: Abi::X86_64,
        scope: Scope::Command { argv: vec!["made".into()] },
        host: Host { cpus: 2, hostname: "made".into(), ..Host::default() },
        writer: "0.1.0".into(),
        blind: vec![],
        redaction: "default".into(),
    }
}

/// The number of a call.
pub(crate) fn sysno(name: &str) -> Sysno {
    syscalls::number(Abi::X86_64, name).unwrap()
}

impl Make {
    pub(crate) fn new(path: &Path) -> Self {
        let _ = std::fs::remove_file(path);
        let mut options = WriteOptions::default();
        options.redact = None;
        Self { w: TraceWriter::create_with(path, &header(), options).unwrap(), t_ns: 1_000_000, end_ns: 0 }
    }

    pub(crate) fn task(&mut self, tid: u32, tgid: u32) -> TaskId {
        let comm = self.w.comm(b"made");
        let start_ns = self.t_ns;
        self.w.task(&TaskDef { tid: Tid(tid), tgid: Tgid(tgid), comm, start_ns })
    }

    pub(crate) fn event(&mut self, event: &Event) {
        self.end_ns = self.end_ns.max(event.end_ns());
        self.w.push(event).unwrap();
    }

    pub(crate) fn of(&mut self, task: TaskId, name: &str, args: [u64; 6], ret: i64) -> Syscall {
        self.t_ns += 1000;
        Syscall {
            t_ns: self.t_ns,
            duration_ns: 500,
            task,
            sysno: sysno(name),
            ret,
            flags: SyscallFlags(0),
            args,
            args_mask: 0x3f,
            object: None,
            details: Vec::new(),
            wait_cpu_ns: 0,
            blocked_ns: 0,
        }
    }

    pub(crate) fn call(&mut self, task: TaskId, name: &str, args: [u64; 6], ret: i64, details: Vec<Detail>) {
        let call = Syscall { details, ..self.of(task, name, args, ret) };
        self.event(&Event::Syscall(call));
    }

    pub(crate) fn on(&mut self, task: TaskId, name: &str, args: [u64; 6], ret: i64, object: ObjectId) {
        let call = Syscall { object: Some(object), ..self.of(task, name, args, ret) };
        self.event(&Event::Syscall(call));
    }

    pub(crate) fn str(&mut self, text: &[u8]) -> StrId {
        self.w.str(text)
    }

    pub(crate) fn path(&mut self, arg: u8, text: &[u8]) -> Vec<Detail> {
        vec![Detail::Str { arg, value: self.w.str(text) }]
    }

    pub(crate) fn file(&mut self, path: &[u8], ino: u64) -> ObjectId {
        let path = self.w.str(path);
        self.w.object(&Object::File { path, dev: 1, ino, mode: 0o100_644, rdev: 0, size: 100 })
    }

    pub(crate) fn socket(
        &mut self,
        cookie: u64,
        local: Option<SockAddr>,
        peer: Option<SockAddr>,
    ) -> ObjectId {
        let cookie = SockCookie(cookie);
        self.w.object(&Object::Socket { family: 2, kind: 1, protocol: 6, cookie, local, peer })
    }

    /// `parent` forks; the child's task.
    pub(crate) fn fork(&mut self, parent: TaskId, tid: u32) -> TaskId {
        self.t_ns += 1000;
        let child = self.task(tid, tid);
        let kind = ProcessKind::Fork { child };
        self.event(&Event::Process(Process { t_ns: self.t_ns, task: parent, kind }));
        self.call(parent, "clone", [17, 0, 0, 0, 0, 0], i64::from(tid), Vec::new());
        child
    }

    pub(crate) fn exit(&mut self, task: TaskId) {
        self.call(task, "exit_group", [0; 6], 0, Vec::new());
        let kind = ProcessKind::Exit { status: 0, group_dead: true };
        self.event(&Event::Process(Process { t_ns: self.t_ns, task, kind }));
    }

    pub(crate) fn finish(self) {
        let summary =
            Summary { duration_ns: self.end_ns, ended: "target exited".into(), ..Summary::default() };
        self.w.finish(&summary).unwrap();
    }
}
