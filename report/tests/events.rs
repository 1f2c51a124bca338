//! Events as objects.
#![allow(clippy::unwrap_used, reason = "a test")]

use ctrace_format::{
    Abi, Detail, Event, Filter, Header, Host, Object, Process, ProcessKind, Scope, SockAddr, SockCookie,
    Summary, Syscall, SyscallFlags, Sysno, TaskDef, Tgid, Tid, Trace, TraceWriter, syscalls,
};
use ctrace_report::text::Events;
use ctrace_report::{Document, Paint, Shape};

#[test]
fn a_call_is_written_as_any_object_its_fields_in_the_order_of_their_names() {
    let header = Header {
        tick_ns: 1,
        start_boottime_ns: 1,
        start_realtime_ns: 1,
        abi: Abi::X86_64,
        scope: Scope::Pid { pid: 7 },
        host: Host::default(),
        writer: "test".to_owned(),
        blind: Vec::new(),
        redaction: "off".to_owned(),
    };
    let dir = tempfile::tempdir().unwrap();
    let mut writer = TraceWriter::create(&dir.path().join("test.ctr"), &header).unwrap();
    let comm = writer.str("na\u{202e}me".as_bytes());
    let task = writer.task(&TaskDef { tid: Tid(8), tgid: Tgid(7), comm, start_ns: 0 });
    let path = writer.str(b"/tmp/\xff\"x");
    let kind = writer.str(b"eventfd");
    let addr = SockAddr::Inet("127.0.0.1:80".parse().unwrap());
    let objects = [
        None,
        Some(Object::File { path, dev: 1, ino: 2, mode: 0o100_644, rdev: 0, size: 3 }),
        Some(Object::Socket {
            family: 2,
            kind: 1,
            protocol: 6,
            cookie: SockCookie(u64::MAX),
            local: None,
            peer: Some(addr.clone()),
        }),
        Some(Object::Pipe { ino: 9 }),
        Some(Object::Anon { kind, id: 4 }),
    ]
    .map(|object| object.map(|object| writer.object(&object)));
    let number = |name| syscalls::number(Abi::X86_64, name).unwrap();
    let calls = [
        (number("read"), 5, SyscallFlags::default(), vec![]),
        (number("openat"), -2, SyscallFlags::TRUNCATED, vec![Detail::Str { arg: 1, value: path }]),
        (number("connect"), -115, SyscallFlags::INJECTED, vec![Detail::Addr { arg: 1, addr: addr.clone() }]),
        (number("bind"), 0, SyscallFlags::default(), vec![Detail::Local { addr }]),
        (number("poll"), 0, SyscallFlags::NO_EXIT.union(SyscallFlags::NO_ENTER), vec![]),
        (number("execve"), 0, SyscallFlags::ENGINE, vec![Detail::Unread { arg: 0, word: None }]),
        (number("write"), 1, SyscallFlags::default(), vec![Detail::Cut { arg: 1, word: None }]),
        (Sysno { abi: Abi::I386, nr: 4_000 }, -22, SyscallFlags::FILTERED, vec![]),
    ];
    let kind = ProcessKind::State { state: b'S', wchan: comm, since_ns: Some(-5) };
    writer.push(&Event::Process(Process { t_ns: 1, task, kind })).unwrap();
    let mut t_ns = 10;
    for object in objects {
        for (sysno, ret, flags, details) in &calls {
            t_ns += 10;
            let call = Syscall {
                t_ns,
                duration_ns: 5,
                task,
                sysno: *sysno,
                ret: *ret,
                flags: *flags,
                args: [3, 2, 1, 0, 0, 0],
                args_mask: 0x3f,
                object,
                details: details.clone(),
                wait_cpu_ns: 0,
                blocked_ns: 0,
            };
            writer.push(&Event::Syscall(call)).unwrap();
        }
    }
    let finished = writer.finish(&Summary::default()).unwrap();
    let trace = Trace::open(&finished.path).unwrap();
    let mut show = Events::new(&trace, Paint::new(false));
    let mut seen = 0;
    for event in trace.events(&Filter::default()) {
        let event = event.unwrap();
        show.learn(&event);
        let (line, value) = (show.json(&event).unwrap(), show.value(&event).unwrap());
        assert_eq!(line.line(), Document::new(Shape::Event, value).line());
        seen += 1;
    }
    assert_eq!(seen, 1 + 5 * 8);
}
