//! Plans of small traces made by hand, and of arbitrary ones.

mod messages;

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

mod ends;
mod files;
mod inherited;
mod listeners;
mod names;
mod outcomes;
mod pools;
mod registrations;
mod waiting;

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

fn steps(plan: &Plan, task: u32) -> Vec<Step> {
    let program = Program::open(plan.program.try_clone().unwrap()).unwrap();
    (0..program.tasks[task as usize].steps).map(|i| program.step(task, i).unwrap()).collect()
}

fn named(name: &str) -> u32 {
    syscalls::number(super::calls::HOST, name).unwrap().nr
}

#[test]
fn a_file_that_was_read_exists_with_its_size_and_one_that_was_made_does_not() {
    let mut t = Mem::new();
    let a = t.add_task(10, 10);
    let (old, new) = (t.file(b"/etc/old", 100), t.file(b"/tmp/new", 0));
    t.open(a, b"/etc/old", 0, 3, Some(old));
    t.call(a, "read", [3, 0, 4096, 0, 0, 0], 100);
    t.open(a, b"/tmp/new", 0o102, 4, Some(new));
    if let Some(Event::Syscall(call)) = t.events.last_mut() {
        call.details.push(Detail::Created);
    }
    let plan = t.plan();
    let files: Vec<_> = plan.environment.files.iter().map(|f| (f.path.clone(), f.kind.clone())).collect();
    assert!(files.contains(&(b"/etc/old".to_vec(), FileKind::Regular { size: 100 })));
    assert!(!files.iter().any(|(path, _)| path == b"/tmp/new"));
    let steps = steps(&plan, 0);
    assert_eq!(steps[0].kind, Kind::Gate as u8);
    // The file ends where the recorded one did, so the read is asked as it was.
    assert_eq!((steps[2].nr, steps[2].args[2], steps[2].expect), (named("read"), 4096, 100));
}

#[test]
fn the_need_follows_what_is_there_at_a_time() {
    const MIB: u64 = 1 << 20;
    let mut t = Mem::new();
    let a = t.add_task(10, 10);
    t.call(a, "getuid", [0; 6], 0);
    let before = t.plan().need;
    // One temporary file after the other, written twice at the same place: one at a time.
    for n in 0..10 {
        let path = format!("/tmp/scratch-{n}").into_bytes();
        let file = t.file(&path, 0);
        t.open(a, &path, 0o102, 40, Some(file));
        if let Some(Event::Syscall(call)) = t.events.last_mut() {
            call.details.push(Detail::Created);
        }
        for _ in 0..2 {
            t.call(a, "pwrite64", [40, 0, 8 * MIB, 0, 0, 0], 8 * MIB as i64);
        }
        let value = t.text(&path);
        t.call(a, "unlink", [0; 6], 0).details.push(Detail::Str { arg: 0, value });
        // It is there until nobody has it open.
        t.call(a, "close", [40, 0, 0, 0, 0, 0], 0);
    }
    let files = t.plan().need;
    assert_eq!((files.disk_bytes, files.descriptors), (8 * MIB, 41));
    assert!(files.files <= before.files + 3, "{before:?} {files:?}");
    // A memfd is memory, but not on the disk; what is populated counts until it is unmapped.
    t.call(a, "memfd_create", [0; 6], 40);
    t.call(a, "fallocate", [40, 0, 0, 16 * MIB, 0, 0], 0);
    t.call(a, "fallocate", [40, 1, 32 * MIB, 16 * MIB, 0, 0], 0);
    for n in 0..3 {
        let at = 0x7000_0000_0000_u64 + (n << 30);
        t.call(a, "mmap", [0, 64 * MIB, 3, 0x8022, u64::MAX, 0], at as i64);
        t.call(a, "munmap", [at, 64 * MIB, 0, 0, 0, 0], 0);
    }
    let all = t.plan().need;
    assert_eq!(all.disk_bytes, 8 * MIB);
    let more = all.memory_bytes - before.memory_bytes;
    // 32 of the memfd, 64 of the mapping, 8 of the buffer that is written.
    assert!((104 * MIB..106 * MIB).contains(&more), "{more}");
    // Tasks that live at the same time, and the sandbox's init.
    assert_eq!(all.tasks, 2);
    for tid in 11..16 {
        let child = t.add_task(tid, tid);
        t.fork(a, child);
        t.call(a, "clone", [17, 0, 0, 0, 0, 0], i64::from(tid));
        t.call(child, "exit_group", [0; 6], 0).flags = SyscallFlags::NO_EXIT;
        if tid % 2 == 0 {
            let (t_ns, kind) = (t.now, ProcessKind::Exit { status: 0, group_dead: true });
            t.now += 1_000;
            t.events.push(Event::Process(Process { t_ns, task: child, kind }));
        }
    }
    assert_eq!(t.plan().need.tasks, 5);
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

#[test]
fn think_time_is_split_into_computing_and_idle() {
    let mut t = Mem::new();
    let a = t.add_task(10, 10);
    t.call(a, "getuid", [0; 6], 0);
    t.now += 10_000;
    let call = t.call(a, "getuid", [0; 6], 0);
    (call.wait_cpu_ns, call.blocked_ns) = (3_000, 1_000);
    let steps = steps(&t.plan(), 0);
    assert_eq!((steps[2].think_cpu_ns, steps[2].think_sleep_ns), (7_000, 4_000));
}

#[test]
fn a_sleep_until_a_moment_waits_as_long_as_that_was_away() {
    const MONOTONIC: u64 = 1;
    const TIMER_ABSTIME: u64 = 1;
    let mut t = Mem::new();
    t.header.start_boottime_ns = 5_000_000;
    let a = t.add_task(10, 10);
    // 800 ns after it is called; the timer is 200 ns late.
    let moment = t.header.start_boottime_ns + t.now + 800;
    let sleep = t.call(a, "clock_nanosleep", [MONOTONIC, TIMER_ABSTIME, 0, 0, 0, 0], 0);
    sleep.details.push(Detail::Time { arg: 2, ns: moment });
    // Its clock is another: a time namespace, or one that was set.
    let sleep = t.call(a, "clock_nanosleep", [MONOTONIC, TIMER_ABSTIME, 0, 0, 0, 0], 0);
    sleep.details.push(Detail::Time { arg: 2, ns: moment + 1_000_000_000_000 });
    let steps = steps(&t.plan(), 0);
    let left = |step: &Step| (step.sel[2], clock_parts(step.args[2]));
    let absolute = Sel::AbsTimespec as u8;
    assert_eq!([left(&steps[1]), left(&steps[2])], [(absolute, (1, 800)), (absolute, (1, 1_000))]);
}

#[test]
fn a_call_that_is_taken_for_granted_is_answered_as_it_was() {
    let mut t = Mem::new();
    let a = t.add_task(10, 10);
    t.call(a, "setuid", [33, 0, 0, 0, 0, 0], 0);
    t.call(a, "personality", [0xffff_ffff, 0, 0, 0, 0, 0], 0x4_0000);
    let plan = t.plan();
    let steps = steps(&plan, 0);
    let asked = steps.iter().find(|s| s.nr == named("setuid")).unwrap();
    assert_eq!((asked.kind, asked.flags & flags::FAULT, asked.expect), (Kind::Call as u8, flags::FAULT, 0));
    assert_eq!((asked.flags & flags::SURROGATE, asked.args[0]), (flags::SURROGATE, 33));
    // The filter answers with 0 or an error only; the recorder is told the rest.
    let told = steps.iter().find(|s| s.nr == named("personality")).unwrap();
    assert_eq!(
        (told.kind, told.flags & flags::FAULT, told.expect),
        (Kind::Call as u8, flags::FAULT, 0x4_0000)
    );
    assert_eq!(plan.summary.surrogate.values().sum::<u64>(), 2);
}

#[test]
fn shared_memory_of_system_v_is_made_attached_and_removed() {
    let mut t = Mem::new();
    let a = t.add_task(10, 10);
    t.call(a, "shmget", [0, 4096, 0o1600, 0, 0, 0], 77);
    t.call(a, "shmat", [77, 0, 0, 0, 0, 0], 0x7f00_0000_0000);
    t.call(a, "shmctl", [77, 0, 0, 0, 0, 0], 0);
    t.call(a, "shmdt", [0x7f00_0000_0000, 0, 0, 0, 0, 0], 0);
    t.call(a, "shmdt", [0x7e00_0000_0000, 0, 0, 0, 0, 0], 0);
    let plan = t.plan();
    let steps = steps(&plan, 0);
    let of = |name: &str| steps.iter().filter(move |s| s.nr == named(name)).collect::<Vec<_>>();
    assert_eq!((of("shmget")[0].flags & flags::FAULT, of("shmat")[0].sel[0]), (0, Sel::Value as u8));
    assert_eq!(of("shmctl")[0].args[0], of("shmat")[0].args[0]);
    let detached = of("shmdt");
    assert_eq!((detached[0].sel[0], detached[0].args[0] >> 40), (Sel::Value as u8, of("shmat")[0].post_arg));
    // One that was attached before the recording.
    assert_eq!(detached[1].flags & flags::FAULT, flags::FAULT);
    assert_eq!(plan.summary.surrogate.get("shmdt"), Some(&1));
}

#[test]
fn huge_pages_are_not_taken() {
    let mut t = Mem::new();
    let a = t.add_task(10, 10);
    t.call(a, "memfd_create", [0, 1 | 4 | 21 << 26, 0, 0, 0, 0], 5);
    t.call(a, "mmap", [0, 2 << 20, 3, 0x4_0022 | 21 << 26, u64::MAX, 0], 0x7f00_0000_0000);
    t.call(a, "shmget", [0, 2 << 20, 0o5600 | 21 << 26, 0, 0, 0], 77);
    // Normal pages would be had where huge ones were not.
    t.call(a, "memfd_create", [0, 1 | 4 | 30 << 26, 0, 0, 0, 0], -2);
    t.call(a, "shmget", [0, 2 << 20, 0o5600, 0, 0, 0], -2);
    let steps = steps(&t.plan(), 0);
    let of = |name: &str| steps.iter().filter(move |s| s.nr == named(name)).collect::<Vec<_>>();
    let (memfds, segments) = (of("memfd_create"), of("shmget"));
    assert_eq!(memfds[0].args[1], 1);
    assert_eq!(of("mmap")[0].args[3], 0x22);
    assert_eq!(segments[0].args[2], 0o1600);
    assert_eq!([memfds[1], segments[1]].map(|s| s.flags & flags::FAULT), [flags::FAULT; 2]);
}

#[test]
fn a_program_that_is_reached_through_links_leaves_them_links() {
    let mut t = Mem::new();
    let a = t.add_task(10, 10);
    let path = t.text(b"/d/a");
    t.call(a, "execve", [0; 6], 0).details.push(Detail::Str { arg: 0, value: path });
    let exec = ProcessKind::Exec { path, old_tid: Tid(10), argv: Vec::new(), argc: 0 };
    t.events.push(Event::Process(Process { t_ns: t.now, task: a, kind: exec }));
    for (name, ret) in [("/d/a", 1), ("/d/b", 3), ("/d/ccc", -22), ("/d/x", 1), ("/d/y", 1)] {
        let value = t.text(name.as_bytes());
        t.call(a, "readlink", [0; 6], ret).details.push(Detail::Str { arg: 0, value });
    }
    let environment = t.plan().environment;
    let target = |path: &str| {
        environment.files.iter().find(|f| f.path == path.as_bytes()).and_then(|f| match &f.kind {
            FileKind::Link { target } => Some([b"/d/", target.as_slice()].concat()),
            _ => None,
        })
    };
    for (link, len) in [("/d/a", 4), ("/d/b", 6), ("/d/x", 4), ("/d/y", 4)] {
        assert_eq!(target(link).map(|text| text.len()), Some(len), "{link} {environment:?}");
        // None leads back to where it began.
        let mut at = link.to_owned();
        for step in 0.. {
            let Some(next) = target(&at) else { break };
            assert!(step < 5, "{link} {environment:?}");
            at = String::from_utf8(next).unwrap();
        }
    }
    assert!(!environment.executables.is_empty());
}

#[test]
fn who_is_told_of_input_is_the_task_of_the_replay() {
    let mut t = Mem::new();
    let a = t.add_task(10, 10);
    let socket = t.add_object(Object::Pipe { ino: 7 });
    t.call(a, "fcntl", [0, 8, 10, 0, 0, 0], 0).object = Some(socket);
    let plan = t.plan();
    let steps = steps(&plan, 0);
    let own = steps.iter().find(|s| s.nr == named("fcntl") && s.args[1] == 8).unwrap();
    assert_eq!((own.sel[2], own.args[2], own.flags & flags::FAULT), (Sel::Pid as u8, 0, 0));
}

#[test]
fn a_thread_uses_a_descriptor_only_after_another_made_it() {
    let mut t = Mem::new();
    let (a, b) = (t.add_task(10, 10), t.add_task(11, 10));
    t.call(a, "getuid", [0; 6], 0);
    t.fork(a, b);
    t.call(a, "clone", [0x5_0f00, 0, 0, 0, 0, 0], 11);
    let file = t.file(b"/f", 10);
    t.open(a, b"/f", 0, 3, Some(file));
    t.call(b, "fsync", [3, 0, 0, 0, 0, 0], 0).object = Some(file);
    let plan = t.plan();
    assert_eq!(plan.summary.edges.get(&EdgeKind::Descriptor), Some(&1));
    let sync = steps(&plan, 1)[0];
    assert_eq!((sync.nr, sync.waits_len), (named("fsync"), 1));
}

#[test]
fn an_accept_that_blocks_takes_no_number_from_those_who_got_theirs_before() {
    const NONBLOCK: u64 = 0o4000;
    for (flags, waits) in [(0, 1), (NONBLOCK, 0)] {
        let mut t = Mem::new();
        let (a, b) = (t.add_task(10, 10), t.add_task(11, 10));
        t.call(a, "getuid", [0; 6], 0);
        t.fork(a, b);
        t.call(a, "clone", [0x5_0f00, 0, 0, 0, 0, 0], 11);
        let socket = |cookie| Object::Socket {
            family: 1,
            kind: 1,
            protocol: 0,
            cookie: SockCookie(cookie),
            local: None,
            peer: None,
        };
        let listener = t.add_object(socket(1));
        let other = t.add_object(socket(2));
        t.call(b, "socket", [1, 1 | flags, 0, 0, 0, 0], 5).object = Some(listener);
        t.call(b, "listen", [5, 8, 0, 0, 0, 0], 0).object = Some(listener);
        t.call(a, "socket", [1, 1, 0, 0, 0, 0], 6).object = Some(other);
        t.call(b, "accept4", [5, 0, 0, 0, 0, 0], -103).object = Some(listener);
        let plan = t.plan();
        let accept = steps(&plan, 1).into_iter().find(|s| s.nr == named("accept4")).unwrap();
        assert_eq!(accept.waits_len, waits, "{flags}");
    }
}

#[test]
fn what_had_not_arrived_is_sent_only_after_somebody_looked_in_vain() {
    let mut t = Mem::new();
    let (a, b) = (t.add_task(10, 10), t.add_task(11, 11));
    let pipe = t.add_object(Object::Pipe { ino: 7 });
    let call = t.call(a, "pipe2", [0, 0o4000, 0, 0, 0, 0], 0);
    call.details.push(Detail::NewFds { arg: 0, fds: [3, 4], objects: [Some(pipe); 2] });
    t.fork(a, b);
    t.call(a, "clone", [17, 0, 0, 0, 0, 0], 11);
    t.call(a, "read", [3, 0, 64, 0, 0, 0], -11).object = Some(pipe);
    t.call(b, "write", [4, 0, 9, 0, 0, 0], 9).object = Some(pipe);
    t.call(a, "read", [3, 0, 64, 0, 0, 0], 9).object = Some(pipe);
    let plan = t.plan();
    assert_eq!(plan.summary.edges.get(&EdgeKind::NotYet), Some(&1));
    // The read that found something is asked for that much, and comes after an engine's poll.
    let reader = steps(&plan, 0);
    let last = reader.last().unwrap();
    assert_eq!((last.args[2], last.expect, last.expect_kind), (9, 9, Expect::Bytes as u8));
    assert_eq!(reader[reader.len() - 2].kind, Kind::AwaitReady as u8);
}

#[test]
fn a_write_that_found_no_reader_waits_until_there_is_none() {
    let mut t = Mem::new();
    let a = t.add_task(10, 10);
    let pipe = t.add_object(Object::Pipe { ino: 7 });
    let call = t.call(a, "pipe2", [0, 0, 0, 0, 0, 0], 0);
    call.details.push(Detail::NewFds { arg: 0, fds: [3, 4], objects: [Some(pipe); 2] });
    t.call(a, "write", [4, 0, 9, 0, 0, 0], 9).object = Some(pipe);
    t.call(a, "close", [3, 0, 0, 0, 0, 0], 0).object = Some(pipe);
    t.call(a, "write", [4, 0, 9, 0, 0, 0], -32).object = Some(pipe);
    let steps = steps(&t.plan(), 0);
    let waits: Vec<usize> =
        steps.iter().enumerate().filter(|(_, s)| s.kind == Kind::AwaitReady as u8).map(|(i, _)| i).collect();
    assert_eq!(waits.len(), 1);
    assert_eq!((steps[waits[0] + 1].nr, steps[waits[0] + 1].expect), (named("write"), -32));
}

#[test]
fn a_process_is_killed_only_after_its_parent_dealt_with_the_child_that_ended_before() {
    let mut t = Mem::new();
    let (a, b, c) = (t.add_task(10, 10), t.add_task(11, 11), t.add_task(12, 12));
    for child in [b, c] {
        t.fork(a, child);
        t.call(a, "clone", [17, 0, 0, 0, 0, 0], 11 + i64::from(child.0 - b.0));
    }
    let exit = |t: &mut Mem, task, status| {
        let t_ns = t.now;
        t.now += 1_000;
        let kind = ProcessKind::Exit { status, group_dead: true };
        t.events.push(Event::Process(Process { t_ns, task, kind }));
    };
    t.call(b, "exit_group", [0; 6], 0).flags = SyscallFlags::NO_EXIT;
    exit(&mut t, b, 0);
    t.call(a, "rt_sigreturn", [0; 6], 0);
    t.call(c, "tgkill", [12, 12, 13, 0, 0, 0], 0);
    exit(&mut t, c, 13);
    let plan = t.plan();
    let kill = steps(&plan, 2).into_iter().find(|s| s.nr == named("tgkill")).unwrap();
    assert_eq!((kill.waits_len, plan.summary.edges.get(&EdgeKind::NotEnded)), (1, Some(&1)));
}

#[test]
fn a_signal_is_sent_after_its_target_had_set_its_handler() {
    let mut t = Mem::new();
    let (a, b) = (t.add_task(10, 10), t.add_task(11, 11));
    t.call(a, "getuid", [0; 6], 0);
    t.fork(a, b);
    t.call(a, "clone", [17, 0, 0, 0, 0, 0], 11);
    let action = t.call(b, "rt_sigaction", [10, 0, 0, 8, 0, 0], 0);
    action.details.push(Detail::SigAction { arg: 1, handler: 2, flags: 0, mask: 0 });
    t.call(a, "kill", [11, 10, 0, 0, 0, 0], 0);
    let plan = t.plan();
    assert_eq!(plan.summary.edges.get(&EdgeKind::Signal), Some(&1));
    let kill = steps(&plan, 0).into_iter().find(|s| s.nr == named("kill")).unwrap();
    assert_eq!(kill.waits_len, 1);
}

#[test]
fn a_file_grows_only_after_all_who_asked_for_its_size() {
    let mut t = Mem::new();
    let (a, b, c) = (t.add_task(10, 10), t.add_task(11, 11), t.add_task(12, 12));
    let file = t.file(b"/f", 10);
    t.open(a, b"/f", 2, 3, Some(file));
    for child in [b, c] {
        t.fork(a, child);
        t.call(a, "clone", [17, 0, 0, 0, 0, 0], 11 + i64::from(child.0 - b.0));
    }
    for reader in [b, c] {
        t.call(reader, "lseek", [3, 0, 2, 0, 0, 0], 10).object = Some(file);
    }
    t.call(a, "pwrite64", [3, 0, 10, 10, 0, 0], 10).object = Some(file);
    let write = steps(&t.plan(), 0).into_iter().find(|s| s.nr == named("pwrite64")).unwrap();
    assert_eq!(write.waits_len, 2);
}

/// `EPOLLIN`, `EPOLLET`.
const IN: u32 = 1;
const EDGE: u32 = 1 << 31;

#[test]
fn what_is_reported_once_is_watched_anew_by_the_call_that_is_to_report_it() {
    for (events, anew) in [(IN | EDGE, 1), (IN, 0)] {
        let mut t = Mem::new();
        let a = t.add_task(10, 10);
        t.call(a, "epoll_create1", [0; 6], 3);
        for fd in [4, 5] {
            t.call(a, "eventfd2", [0; 6], fd as i64);
            let add = t.call(a, "epoll_ctl", [3, 1, fd, 0, 0, 0], 0);
            add.details.push(Detail::Epoll { arg: 3, entries: vec![EpollEntry { data: 70 + fd, events }] });
        }
        let wait = t.call(a, "epoll_wait", [3, 0, 8, u64::MAX, 0, 0], 1);
        wait.details.push(Detail::Epoll { arg: 1, entries: vec![EpollEntry { data: 75, events: IN }] });
        let steps = steps(&t.plan(), 0);
        let again: Vec<_> = steps.iter().filter(|s| s.flags & flags::ENGINE != 0).collect();
        assert_eq!(again.len(), anew, "{events:#x}");
        assert!(again.iter().all(|s| (s.nr, s.args[1], s.args[2]) == (named("epoll_ctl"), 3, 5)));
        let waiting = steps.iter().find(|s| s.nr == named("epoll_wait")).unwrap();
        assert_eq!(waiting.post == Post::Delivered as u8, anew == 1);
    }
}

#[test]
fn connections_are_taken_in_the_order_in_which_they_came_about() {
    // The first connection is taken by a call that begins first and returns last, or begins last and returns first.
    for first_is_slow in [true, false] {
        let mut t = Mem::new();
        let (a, b) = (t.add_task(10, 10), t.add_task(11, 11));
        let addr = |port| SockAddr::Inet(([127, 0, 0, 1], port).into());
        let socket = |cookie, peer: Option<u16>| Object::Socket {
            family: 2,
            kind: 1,
            protocol: 6,
            cookie: SockCookie(cookie),
            local: Some(addr(80)),
            peer: peer.map(addr),
        };
        let listener = t.add_object(socket(1, None));
        t.call(a, "socket", [2, 1, 0, 0, 0, 0], 3).object = Some(listener);
        let bind = t.call(a, "bind", [3, 0, 16, 0, 0, 0], 0);
        bind.details.push(Detail::Addr { arg: 1, addr: addr(80) });
        t.call(a, "listen", [3, 8, 0, 0, 0, 0], 0).object = Some(listener);
        t.fork(a, b);
        t.call(a, "clone", [17, 0, 0, 0, 0, 0], 11);
        for (cookie, port) in [(11, 1001), (12, 1002)] {
            let t_ns = t.now;
            t.now += 100;
            t.events.push(Event::Connection(Connection {
                t_ns,
                cookie: SockCookie(cookie),
                task: None,
                local: addr(80),
                peer: addr(port),
                kind: ConnectionKind::State { old: TcpState::SynRecv, new: TcpState::Established, error: 0 },
            }));
        }
        let slow = t.add_object(socket(if first_is_slow { 11 } else { 12 }, Some(1001)));
        let quick = t.add_object(socket(if first_is_slow { 12 } else { 11 }, Some(1002)));
        let call = t.call(a, "accept4", [3, 0, 0, 0, 0, 0], 4);
        (call.object, call.duration_ns) = (Some(slow), 9_000);
        t.call(b, "accept4", [3, 0, 0, 0, 0, 0], 4).object = Some(quick);
        let plan = t.plan();
        let (slow, quick) = (steps(&plan, 0), steps(&plan, 1));
        let accept = |steps: &[Step]| steps.iter().position(|s| s.nr == named("accept4")).unwrap();
        // The waits are those of the call's first step.
        let waits = |steps: &[Step]| steps[..=accept(steps)].iter().rev().take(2).map(|s| s.waits_len).max();
        assert_eq!(
            (waits(&slow), waits(&quick)),
            (Some(u32::from(!first_is_slow)), Some(u32::from(first_is_slow))),
            "{first_is_slow}"
        );
        let program = Program::open(plan.program.try_clone().unwrap()).unwrap();
        let (later, earlier) =
            if first_is_slow { ((1, &quick), (0, &slow)) } else { ((0, &slow), (1, &quick)) };
        let step = later.1[..=accept(later.1)].iter().rev().find(|s| s.waits_len > 0).unwrap();
        let on: Vec<Wait> = program.waits(step).unwrap();
        let is_after = |w: &Wait| *w == Wait::completed(earlier.0, accept(earlier.1) as u32);
        assert!(on.iter().any(is_after), "{} {on:?}", later.0);
    }
}

#[test]
fn a_refused_connect_has_no_listener_and_a_later_one_has() {
    let mut t = Mem::new();
    let a = t.add_task(10, 10);
    let addr = SockAddr::Inet("10.0.0.9:5432".parse().unwrap());
    for (fd, ret, cookie) in [(3, -111, 1), (4, 0, 2)] {
        let sock = t.add_object(Object::Socket {
            family: 2,
            kind: 1,
            protocol: 6,
            cookie: SockCookie(cookie),
            local: None,
            peer: None,
        });
        t.call(a, "socket", [2, 1, 0, 0, 0, 0], fd).object = Some(sock);
        let call = t.call(a, "connect", [fd as u64, 0, 16, 0, 0, 0], ret);
        call.object = Some(sock);
        call.details.push(Detail::Addr { arg: 1, addr: addr.clone() });
        t.call(a, "sendto", [fd as u64, 0, 10, 0, 0, 0], if ret == 0 { 10 } else { -32 }).object = Some(sock);
    }
    t.call(a, "recvfrom", [4, 0, 100, 0, 0, 0], 30);
    let plan = t.plan();
    assert_eq!(plan.summary.peers_served, 1);
    assert_eq!(plan.environment.addresses, ["10.0.0.9".parse::<std::net::IpAddr>().unwrap()]);
    let program = Program::open(plan.program.try_clone().unwrap()).unwrap();
    let sent: Vec<u64> = (1..program.tasks.len() as u32)
        .flat_map(|task| steps(&plan, task))
        .filter(|s| s.nr == named("sendto"))
        .map(|s| s.args[2])
        .collect();
    assert_eq!(sent, [30]);
}

#[test]
fn dangerous_and_unknown_calls_are_refused_by_name() {
    let mut t = Mem::new();
    let a = t.add_task(10, 10);
    t.call(a, "mount", [0; 6], 0);
    t.call(a, "bpf", [0; 6], 3);
    t.call(a, "getuid", [0; 6], 0).sysno = Sysno { abi: Abi::X86_64, nr: 9999 };
    let plan = t.plan();
    let refused: Vec<_> = plan.summary.refused.keys().map(String::as_str).collect();
    assert_eq!(refused, ["bpf", "mount", "unknown call 9999"]);
    let steps = steps(&plan, 0);
    // None of them is carried out: the filter answers, or, where there is no such call here, nobody.
    let made = |s: &&ctrace_program::Step| s.flags & flags::REFUSED != 0 && s.kind == Kind::Call as u8;
    let answers: Vec<_> =
        steps.iter().filter(made).map(|s| (s.nr, s.expect, s.flags & flags::FAULT)).collect();
    assert_eq!(answers, [(named("mount"), 0, flags::FAULT), (named("bpf"), 3, flags::FAULT)]);
    assert_eq!(steps.iter().filter(|s| s.kind == Kind::Skip as u8).count(), 1);
}

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

/// Arguments that tend to mean something, and some that do not.
fn word() -> impl Strategy<Value = u64> {
    prop_oneof![0..8_u64, Just(u64::MAX), Just(AT_FDCWD), any::<u64>(), Just(0x1000), Just(1 << 46)]
}

fn detail() -> impl Strategy<Value = Detail> {
    let arg = 0..6_u8;
    prop_oneof![
        (arg.clone(), 0..6_u32).prop_map(|(arg, s)| Detail::Str { arg, value: StrId(s) }),
        (arg.clone(), 0..3_u16).prop_map(|(arg, port)| Detail::Addr {
            arg,
            addr: SockAddr::Inet(std::net::SocketAddr::from(([127, 0, 0, 1], port)))
        }),
        arg.clone().prop_map(|arg| Detail::Addr { arg, addr: SockAddr::Unix(b"/s".to_vec()) }),
        (arg.clone(), word()).prop_map(|(arg, value)| Detail::Value { arg, value }),
        (arg.clone(), word()).prop_map(|(arg, ns)| Detail::Time { arg, ns }),
        (arg.clone(), -2..9_i32, any::<i32>(), 0..6_u32).prop_map(|(arg, a, b, o)| Detail::NewFds {
            arg,
            fds: [a, b],
            objects: [Some(ObjectId(o)), None]
        }),
        (arg.clone(), word(), any::<u32>()).prop_map(|(arg, bytes, count)| Detail::Iov { arg, bytes, count }),
        (arg.clone(), prop::collection::vec((-2..9_i32, any::<u16>(), any::<u16>()), 0..4)).prop_map(
            |(arg, e)| {
                let entries =
                    e.into_iter().map(|(fd, events, revents)| PollEntry { fd, events, revents }).collect();
                Detail::Poll { arg, entries }
            }
        ),
        (arg.clone(), word(), any::<u32>()).prop_map(|(arg, data, events)| Detail::Epoll {
            arg,
            entries: vec![EpollEntry { data, events }]
        }),
        (0..3_u32, prop::collection::vec((-2..9_i32, 0..6_u32), 0..4)).prop_map(|(message, fds)| {
            let fds = fds.into_iter().map(|(fd, o)| PassedFd { fd, object: Some(ObjectId(o)) }).collect();
            Detail::Passed { arg: 1, message, fds }
        }),
        prop::collection::vec((word(), any::<u32>(), any::<u32>(), 0..3_u16), 0..4).prop_map(|all| {
            let entries = all.into_iter().map(|(bytes, parts, moved, port)| {
                let addr = Some(SockAddr::Inet(([127, 0, 0, 1], port).into()));
                Message { bytes, parts, moved, addr }
            });
            Detail::Messages { arg: 1, entries: entries.collect() }
        }),
        (0..3_u16).prop_map(|port| Detail::Local { addr: SockAddr::Inet(([127, 0, 0, 1], port).into()) }),
        (arg.clone(), any::<u32>(), word()).prop_map(|(arg, mode, size)| Detail::Stat {
            arg,
            mode,
            size,
            ino: 1
        }),
        (arg.clone(), 0..4_u8, word(), word()).prop_map(|(arg, handler, flags, mask)| Detail::SigAction {
            arg,
            handler,
            flags,
            mask
        }),
        (arg, prop::collection::vec(any::<u8>(), 0..64)).prop_map(|(arg, data)| Detail::Bytes { arg, data }),
        Just(Detail::Created),
    ]
}

fn event() -> impl Strategy<Value = Event> {
    let call = (
        0..5_u32,
        0..470_u32,
        prop_oneof![-4095..0_i64, 0..9_i64, any::<i64>()],
        prop::array::uniform6(word()),
        prop::collection::vec(detail(), 0..4),
        prop::option::of(0..6_u32),
        prop_oneof![0..10_000_u64, any::<u64>()],
        prop_oneof![8 => Just(0_u16), 1 => 0..128_u16],
    )
        .prop_map(|(task, nr, ret, args, details, object, t_ns, flags)| {
            Event::Syscall(Syscall {
                t_ns,
                duration_ns: args[5] % 50_000,
                task: TaskId(task),
                sysno: Sysno { abi: Abi::X86_64, nr },
                ret,
                flags: SyscallFlags(flags),
                args,
                args_mask: 0x3f,
                object: object.map(ObjectId),
                details,
                wait_cpu_ns: args[4],
                blocked_ns: args[3],
            })
        });
    let process = (0..5_u32, 0..5_u32, 0..3_u8, 0..10_000_u64, any::<u32>()).prop_map(
        |(task, other, what, t_ns, n)| {
            let kind = match what {
                0 => ProcessKind::Fork { child: TaskId(other) },
                1 => {
                    ProcessKind::Exec { path: StrId(other), old_tid: Tid(n % 14), argv: Vec::new(), argc: n }
                }
                _ => ProcessKind::Exit { status: n, group_dead: n % 2 == 0 },
            };
            Event::Process(Process { t_ns, task: TaskId(task), kind })
        },
    );
    let signal = (0..5_u32, 0..70_u32, any::<bool>(), 0..10_000_u64, -7..2_i32).prop_map(
        |(task, signo, delivered, t_ns, code)| {
            Event::Signal(Signal { t_ns, task: TaskId(task), signo, code, sender: None, delivered })
        },
    );
    prop_oneof![10 => call, 2 => process, 1 => signal]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]
    #[test]
    fn arbitrary_events_give_a_plan_or_an_error(events in prop::collection::vec(event(), 0..120)) {
        let mut t = Mem::new();
        for (tid, tgid) in [(10, 10), (11, 10), (12, 12), (13, 12), (14, 14)] {
            t.add_task(tid, tgid);
        }
        t.strings = [&b"/a"[..], b"/a/b", b"c/../d", b"", b"/dev/null", b"/proc/self/x"].map(<[u8]>::to_vec).into();
        let path = StrId(1);
        t.objects = vec![
            Object::File { path, dev: 1, ino: 1, mode: 0o100_644, rdev: 0, size: u64::MAX },
            Object::File { path: StrId(0), dev: 1, ino: 2, mode: 0o040_755, rdev: 0, size: 0 },
            Object::Pipe { ino: 3 },
            Object::Socket { family: 2, kind: 1, protocol: 0, cookie: SockCookie(4), local: None, peer: None },
            Object::Socket { family: 2, kind: 2, protocol: 0, cookie: SockCookie(5), local: None, peer: None },
            Object::Anon { kind: StrId(3), id: 6 },
        ];
        t.events = events;
        let compiled = compile(&t, &CompileOptions::default());
        // Whatever a call says, it gets a step; only the limits of the whole are errors.
        prop_assert!(!matches!(compiled, Err(CompileError::Build(_) | CompileError::Read(_))), "{compiled:?}");
        if let Ok(plan) = compiled {
            let program = Program::open(plan.program.try_clone().unwrap()).unwrap();
            let mut all = BTreeMap::new();
            for task in 0..program.tasks.len() as u32 {
                for index in 0..program.tasks[task as usize].steps {
                    let step = program.step(task, index).unwrap();
                    // Nobody waits for a task or a step that does not exist.
                    for wait in program.waits(&step).unwrap() {
                        prop_assert!(wait.task != task);
                        all.entry(wait.task).and_modify(|s: &mut u32| *s = (*s).max(wait.seq)).or_insert(wait.seq);
                    }
                }
            }
            for (task, seq) in all {
                let entry = program.tasks.get(task as usize).unwrap();
                prop_assert!(seq <= entry.steps * 2 + 1, "{seq} of {}", entry.steps);
            }
        }
        let _ = Class::Syscall;
    }
}

/// Counts how large the program of a trace is: as many steps as calls, and no data per call.
fn program_bytes(t: &Mem) -> u64 {
    t.plan().program.metadata().unwrap().len()
}

/// 4,096 arguments, executed 2,000 times: the list is there once.
#[test]
fn an_argument_list_is_stored_once() {
    let bytes = |times: u32| {
        let mut t = Mem::new();
        let root = t.add_task(10, 10);
        let (path, word) = (t.text(b"/bin/x"), t.text(b"word"));
        for _ in 0..times {
            let call = t.call(root, "execve", [0; 6], 0);
            call.details.push(Detail::Str { arg: 0, value: path });
            call.details.push(Detail::Argv { arg: 1, words: vec![word], count: 4096 });
        }
        program_bytes(&t)
    };
    let (once, often) = (bytes(1), bytes(2000));
    assert!(often < once + (1 << 20), "{once} bytes for one, {often} for 2,000");
}

/// The parts of I/O vectors, messages and poll sets of the same shape are there once.
#[test]
fn data_of_one_shape_is_stored_once() {
    let bytes = |times: u32| {
        let mut t = Mem::new();
        let root = t.add_task(10, 10);
        let fds = Detail::NewFds { arg: 0, fds: [3, 4], objects: [None, None] };
        t.call(root, "pipe2", [0; 6], 0).details.push(fds);
        for _ in 0..times {
            let iov = Detail::Iov { arg: 1, bytes: 5000, count: 1024 };
            t.call(root, "writev", [4, 0, 1024, 0, 0, 0], 5000).details.push(iov);
            let entries = vec![PollEntry { fd: 3, events: 1, revents: 0 }];
            t.call(root, "ppoll", [0, 4096, 0, 0, 0, 0], 0).details.push(Detail::Poll { arg: 0, entries });
        }
        program_bytes(&t)
    };
    let (once, often) = (bytes(1), bytes(2000));
    assert!(often < once + (1 << 20), "{once} bytes for one, {often} for 2,000");
}

/// A trace that says more than its length can hold is refused with the figure.
#[test]
fn what_is_kept_is_bounded_by_the_length_of_the_trace() {
    let mut t = Mem::new();
    let root = t.add_task(10, 10);
    t.bytes = 1000;
    for n in 0..(1 << 18) + 1010 {
        t.call(root, "futex", [n * 4, 1, 1, 0, 0, 0], 1);
    }
    let error = compile(&t, &CompileOptions::default()).unwrap_err();
    assert!(matches!(error, CompileError::TooMany { what: "futex words", .. }), "{error}");
}

/// The program ends where the caller says, and the error says how.
#[test]
fn a_program_that_becomes_too_large_is_refused() {
    let mut t = Mem::new();
    let root = t.add_task(10, 10);
    for _ in 0..50_000 {
        t.call(root, "getppid", [0; 6], 1);
    }
    let options = CompileOptions { max_program: Some(600_000), ..CompileOptions::default() };
    let error = compile(&t, &options).unwrap_err();
    assert!(matches!(error, CompileError::TooLarge { max: 600_000, .. }), "{error}");
    assert!(error.to_string().contains("--max-program"), "{error}");
}

/// Sixty descriptors in a thousand instances: what a wait reports costs what it reports, and those who are not told
/// take the descriptor out once, not with every wait.
#[test]
fn a_watch_that_others_have_is_taken_out_once() {
    let mut t = Mem::new();
    let root = t.add_task(10, 10);
    t.call(root, "eventfd2", [0; 6], 3);
    for ep in [4, 5] {
        t.call(root, "epoll_create1", [0; 6], ep);
        let entries = vec![EpollEntry { data: 3, events: 1 }];
        t.call(root, "epoll_ctl", [ep as u64, 1, 3, 0, 0, 0], 0)
            .details
            .push(Detail::Epoll { arg: 3, entries });
    }
    for _ in 0..50 {
        t.call(root, "epoll_wait", [4, 0, 16, 0, 0, 0], 0);
    }
    let taken_out = |plan: &Plan| {
        let all = steps(plan, 0);
        all.iter().filter(|s| s.nr == named("epoll_ctl") && s.flags & flags::ENGINE != 0).count()
    };
    assert_eq!(taken_out(&t.plan()), 1);
    // Reported once, it is put back for that, and taken out again by the next wait that does not report it.
    let entries = vec![EpollEntry { data: 3, events: 1 }];
    t.call(root, "epoll_wait", [4, 0, 16, 0, 0, 0], 1).details.push(Detail::Epoll { arg: 1, entries });
    for _ in 0..50 {
        t.call(root, "epoll_wait", [4, 0, 16, 0, 0, 0], 0);
    }
    assert_eq!(taken_out(&t.plan()), 3);
}

/// A child ends with what it has by the fork: its parent's descriptors are not looked at.
#[test]
fn forks_of_a_large_table_share_it() {
    let mut t = Mem::new();
    let root = t.add_task(10, 10);
    for fd in 3..3000 {
        t.call(root, "eventfd2", [0; 6], fd);
    }
    let children: Vec<TaskId> = (0..500).map(|i| t.add_task(100 + i, 100 + i)).collect();
    for (i, child) in children.iter().enumerate() {
        t.fork(root, *child);
        t.call(root, "clone", [17, 0, 0, 0, 0, 0], 100 + i as i64);
        t.call(*child, "close", [7, 0, 0, 0, 0, 0], 0);
    }
    let mut world = super::world::World::new(
        super::budget::Budget::of(&t),
        super::world::Seed::default(),
        super::paths::Paths::default(),
        super::fsmodel::FsModel::default(),
    );
    for event in &t.events {
        match event {
            Event::Syscall(call) => {
                let task = world.task_of(&t, call.task).unwrap();
                let known = world.calls.get(call.sysno);
                world.apply_call(&t, task, call, &known).unwrap();
            }
            other => world.apply_other(&t, other).unwrap(),
        }
    }
    let slots = world.slots();
    assert!(slots < 3000 + 500 * 40, "{slots} descriptors for 501 tables of 3,000");
}

mod answered;
