//! Plans of small traces made by hand, and of arbitrary ones.

mod answered;
mod arbitrary;
mod bounds;
mod calls;
mod crowds;
mod ends;
mod faults;
mod files;
mod inherited;
mod listeners;
mod messages;
mod names;
mod order;
mod outcomes;
mod pools;
mod registrations;
mod roots;
mod tracing;
mod waiting;

use super::{CompileError, EdgeKind, Source, compile};
use crate::plan::environment::{FileKind, PreopenedKind};
use crate::plan::{CompileOptions, Plan};
use ctrace_format::{
    Abi, Class, Connection, ConnectionKind, Detail, EpollEntry, Event, Header, Host, Message, Object,
    ObjectId, PassedFd, PollEntry, Process, ProcessKind, ProcessSnapshot, Scope, Signal, Snapshot, SockAddr,
    SockCookie, StrId, Syscall, SyscallFlags, Sysno, TaskDef, TaskId, TcpState, Tgid, ThreadSnapshot, Tid,
    syscalls,
};
use ctrace_program::{Expect, Kind, Post, Program, Sel, Step, Wait, clock_parts, flags};
use proptest::prelude::*;
use std::collections::BTreeMap;

/// A trace in memory.
struct Mem {
    header: Header,
    snapshot: Snapshot,
    strings: Vec<Vec<u8>>,
    tasks: Vec<TaskDef>,
    objects: Vec<Object>,
    events: Vec<Event>,
    now: u64,
    /// The length that it says to have.
    bytes: u64,
}

impl Source for Mem {
    fn header(&self) -> &Header {
        &self.header
    }
    fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }
    fn str(&self, id: StrId) -> &[u8] {
        self.strings.get(id.0 as usize).map_or(b"", Vec::as_slice)
    }
    fn task(&self, id: TaskId) -> &TaskDef {
        &self.tasks[id.0 as usize]
    }
    fn tasks(&self) -> &[TaskDef] {
        &self.tasks
    }
    fn object(&self, id: ObjectId) -> &Object {
        &self.objects[id.0 as usize]
    }
    fn file_bytes(&self) -> u64 {
        self.bytes
    }
    fn end_ns(&self) -> u64 {
        self.events.iter().map(Event::end_ns).max().unwrap_or(0)
    }
    fn for_each(&self, each: &mut dyn FnMut(&Event) -> Result<(), CompileError>) -> Result<(), CompileError> {
        let mut order: Vec<&Event> = self.events.iter().collect();
        order.sort_by_key(|e| e.end_ns());
        order.into_iter().try_for_each(each)
    }
}

impl Mem {
    fn new() -> Self {
        Self {
            header: Header {
                tick_ns: 1,
                start_boottime_ns: 0,
                start_realtime_ns: 0,
                abi: Abi::X86_64,
                scope: Scope::Command { argv: Vec::new() },
                host: Host::default(),
                writer: String::new(),
                blind: Vec::new(),
                redaction: String::new(),
            },
            snapshot: Snapshot::default(),
            strings: Vec::new(),
            tasks: Vec::new(),
            objects: Vec::new(),
            events: Vec::new(),
            now: 1_000,
            bytes: 1 << 20,
        }
    }
    fn add_task(&mut self, tid: u32, tgid: u32) -> TaskId {
        let comm = self.text(b"prog");
        self.tasks.push(TaskDef { tid: Tid(tid), tgid: Tgid(tgid), comm, start_ns: 0 });
        TaskId(self.tasks.len() as u32 - 1)
    }
    fn text(&mut self, bytes: &[u8]) -> StrId {
        self.strings.push(bytes.to_vec());
        StrId(self.strings.len() as u32 - 1)
    }
    fn file(&mut self, path: &[u8], size: u64) -> ObjectId {
        let path = self.text(path);
        self.add_object(Object::File { path, dev: 1, ino: 1, mode: 0o100_644, rdev: 0, size })
    }
    fn add_object(&mut self, object: Object) -> ObjectId {
        self.objects.push(object);
        ObjectId(self.objects.len() as u32 - 1)
    }
    /// A call of 1 µs, 1 µs after the last.
    fn call(&mut self, task: TaskId, name: &str, args: [u64; 6], ret: i64) -> &mut Syscall {
        let t_ns = self.now;
        self.now += 2_000;
        self.events.push(Event::Syscall(Syscall {
            t_ns,
            duration_ns: 1_000,
            task,
            sysno: syscalls::number(super::calls::HOST, name).unwrap(),
            ret,
            flags: SyscallFlags::default(),
            args,
            args_mask: 0x3f,
            object: None,
            details: Vec::new(),
            wait_cpu_ns: 0,
            blocked_ns: 0,
        }));
        match self.events.last_mut() {
            Some(Event::Syscall(call)) => call,
            _ => unreachable!("just pushed"),
        }
    }
    fn open(&mut self, task: TaskId, path: &[u8], open: u64, ret: i64, object: Option<ObjectId>) {
        let value = self.text(path);
        let call = self.call(task, "openat", [AT_FDCWD, 0, open, 0o644, 0, 0], ret);
        call.details.push(Detail::Str { arg: 1, value });
        call.object = object;
    }
    fn fork(&mut self, parent: TaskId, child: TaskId) {
        let t_ns = self.now;
        self.now += 1_000;
        self.events.push(Event::Process(Process { t_ns, task: parent, kind: ProcessKind::Fork { child } }));
    }
    fn plan(&self) -> Plan {
        compile(self, &CompileOptions::default()).unwrap()
    }
}

const AT_FDCWD: u64 = -100_i64 as u64;

/// An address of the host.
fn at(port: u16) -> SockAddr {
    SockAddr::Inet(([127, 0, 0, 1], port).into())
}

/// A TCP socket at port 80, connected to a port.
fn tcp(cookie: u64, peer: Option<u16>) -> Object {
    Object::Socket {
        family: 2,
        kind: 1,
        protocol: 6,
        cookie: SockCookie(cookie),
        local: Some(at(80)),
        peer: peer.map(at),
    }
}

fn steps(plan: &Plan, task: u32) -> Vec<Step> {
    let program = Program::open(plan.program.try_clone().unwrap()).unwrap();
    (0..program.tasks[task as usize].steps).map(|i| program.step(task, i).unwrap()).collect()
}

fn named(name: &str) -> u32 {
    syscalls::number(super::calls::HOST, name).unwrap().nr
}

#[test]
fn an_inherited_descriptor_is_there_from_the_start() {
    let mut t = Mem::new();
    let a = t.add_task(10, 10);
    let pipe = t.add_object(Object::Pipe { ino: 7 });
    t.call(a, "write", [1, 0, 5, 0, 0, 0], 5).object = Some(pipe);
    let plan = t.plan();
    let out = plan.environment.preopened.iter().find(|p| p.fd == 1).unwrap();
    assert!(matches!(out.kind, PreopenedKind::Pipe { write: true, .. }));
}

#[test]
fn an_inherited_descriptor_is_for_writing_when_a_copy_of_it_is_written_to() {
    let mut t = Mem::new();
    let a = t.add_task(10, 10);
    let log = t.file(b"/var/log", 0);
    t.call(a, "dup", [2, 0, 0, 0, 0, 0], 9).object = Some(log);
    t.call(a, "write", [9, 0, 5, 0, 0, 0], 5).object = Some(log);
    let plan = t.plan();
    let log = plan.environment.preopened.iter().find(|p| p.fd == 2).unwrap();
    assert!(matches!(log.kind, PreopenedKind::File { flags: 2, .. }), "{:?}", log.kind);
}

#[test]
fn what_a_process_closed_before_the_snapshot_was_taken_it_has_at_the_start() {
    let mut t = Mem::new();
    let process = |tgid, parent| ProcessSnapshot {
        tgid: Tgid(tgid),
        parent: Tgid(parent),
        threads: vec![ThreadSnapshot { tid: Tid(tgid), ..ThreadSnapshot::default() }],
        ..ProcessSnapshot::default()
    };
    t.snapshot.processes = vec![process(10, 1), process(11, 10)];
    let (_, child) = (t.add_task(10, 10), t.add_task(11, 11));
    let file = t.file(b"/var/wal", 100);
    t.call(child, "close", [4, 0, 0, 0, 0, 0], 0).object = Some(file);
    let plan = t.plan();
    assert!(plan.environment.files.iter().any(|f| f.path == b"/var/wal"));
    let puts_it_there = |task: u32| {
        let steps = steps(&plan, task);
        let gate = steps.iter().position(|s| s.kind == Kind::Gate as u8).unwrap();
        steps[..gate].iter().any(|s| s.nr == named("dup3") && s.args[1] == 4)
    };
    let tasks = Program::open(plan.program.try_clone().unwrap()).unwrap().tasks.len() as u32;
    // The child alone: its parent never had it.
    assert_eq!((0..tasks).filter(|task| puts_it_there(*task)).count(), 1);
}

/// `EPOLLIN`, `EPOLLET`.
const IN: u32 = 1;
const EDGE: u32 = 1 << 31;

#[test]
fn a_trace_without_calls_is_said_to_be_empty() {
    assert!(matches!(compile(&Mem::new(), &CompileOptions::default()), Err(CompileError::Empty)));
}

#[test]
fn the_same_trace_gives_the_same_plan() {
    let mut t = Mem::new();
    let a = t.add_task(10, 10);
    let file = t.file(b"/f", 10);
    t.open(a, b"/f", 0, 3, Some(file));
    let figures = |plan: &Plan| serde_json::to_string(&plan.summary).unwrap();
    assert_eq!(figures(&t.plan()), figures(&t.plan()));
}
