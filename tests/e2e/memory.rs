//! Reading a large trace takes little memory.

use crate::host::has;
use ctrace_format::{
    Abi, Event, Header, Host, Object, Scope, SockCookie, Summary, Syscall, SyscallFlags, Sysno, TaskDef,
    Tgid, Tid, TraceWriter,
};
use std::path::Path;
use std::process::{Command, Stdio};

const EVENTS: u64 = 10_000_000;
const LIMIT_KIB: i64 = 64 * 1024;

/// A trace of a server's loop (`epoll_wait`, `read`, `write`) over 50 connections.
fn write_large(path: &Path) {
    let header = Header {
        tick_ns: 100,
        start_boottime_ns: 1,
        start_realtime_ns: 1,
        abi: Abi::X86_64,
        scope: Scope::Pid { pid: 1 },
        host: Host::default(),
        writer: "test".into(),
        blind: vec![],
        redaction: "default".into(),
    };
    let mut writer = TraceWriter::create(path, &header).unwrap();
    let comm = writer.str(b"server");
    let task = writer.task(&TaskDef { tid: Tid(1), tgid: Tgid(1), comm, start_ns: 0 });
    let sockets: Vec<_> = (0..50)
        .map(|i| {
            writer.object(&Object::Socket {
                family: 2,
                kind: 1,
                protocol: 6,
                cookie: SockCookie(i + 1),
                local: None,
                peer: None,
            })
        })
        .collect();
    let mut noise = 1u64;
    for i in 0..EVENTS {
        noise = noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let (nr, ret) = [(232, 1), (0, 40), (1, 5)][(i % 3) as usize];
        let fd = 8 + (noise >> 40) % 50;
        writer
            .push(&Event::Syscall(Syscall {
                t_ns: i * 5_000 + (noise >> 52),
                duration_ns: 500 + (noise >> 54),
                task,
                sysno: Sysno { abi: Abi::X86_64, nr },
                ret,
                flags: SyscallFlags::default(),
                args: [fd, 0, 16_384, 0, 0, 0],
                args_mask: 0b101,
                object: Some(sockets[(fd - 8) as usize]),
                details: vec![],
                wait_cpu_ns: 0,
                blocked_ns: 0,
            }))
            .unwrap();
    }
    writer.finish(&Summary::default()).unwrap();
}

/// Peak memory of a run, KiB. Asked of a process of its own: the peak of a child counts from its fork or `vfork`, with
/// the memory of the test program, which other tests share (`exec_mmap`, fs/exec.c, keeps the old peak).
fn peak_kib(args: &[&str], file: &Path) -> i64 {
    let out = Command::new("/usr/bin/time")
        .args(["-f", "%M", env!("CARGO_BIN_EXE_ctrace")])
        .args(args)
        .arg(file)
        .stdout(Stdio::null())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "{args:?}: {} {said}", out.status);
    said.trim().rsplit('\n').next().and_then(|kib| kib.parse().ok()).unwrap_or_else(|| panic!("{said}"))
}

#[test]
fn ten_million_events_are_read_within_64_mib() {
    if !has(&["time"]) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("large.ctr");
    write_large(&file);
    for args in [
        &["info"][..],
        &["info", "--json"],
        &["verify"],
        &["events"],
        &["events", "--json", "--limit", "1000000"],
    ] {
        let kib = peak_kib(args, &file);
        println!("{args:?}: {kib} KiB at the peak for {EVENTS} events");
        assert!(kib <= LIMIT_KIB, "{args:?}: {kib} KiB");
    }
}
