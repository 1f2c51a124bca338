//! The names that programs read: none may change within a `schema`.
#![allow(clippy::unwrap_used, reason = "a test")]

use ctrace_analysis::{DivergenceKind, Doubt, Kind, Level, OpClass, Profile, Verdict};
use ctrace_format::{
    Abi, BlockOp, Class, DumpReason, FidelityLevel, LossCause, Metric, Origin, Pod, Scope, State, TcpState,
    WaitKind,
};
use ctrace_report::text;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Variants, each with its name.
macro_rules! pinned {
    ($kind:ident { $($variant:ident $name:literal,)* }) => {
        $(assert_eq!($kind::$variant.name(), $name);)*
    };
}

#[test]
fn names_of_events_stay() {
    pinned!(Class { Syscall "syscall", Process "process", Connection "connection", Signal "signal", Resource "resource", Loss "loss", Marker "marker", Anchor "anchor", Usage "usage", Socket "socket", Dns "dns", Block "block", Uring "uring", Injection "injection", Aggregate "aggregate", });
    pinned!(LossCause { RingFull "ring_full", MapFull "map_full", WriteFailed "write_failed", Skipped "skipped", Malformed "malformed", AggregateFull "aggregate_full", });
    pinned!(FidelityLevel { Full "full", NoArguments "no_arguments", Aggregated "aggregated", });
    pinned!(Abi { X86_64 "x86_64", I386 "i386", X32 "x32", Aarch64 "aarch64", Arm "arm", });
    pinned!(BlockOp { Read "read", Write "write", Flush "flush", Discard "discard", WriteZeroes "write_zeroes", Other "other", });
    pinned!(TcpState { Established "ESTABLISHED", SynSent "SYN_SENT", SynRecv "SYN_RECV", FinWait1 "FIN_WAIT1", FinWait2 "FIN_WAIT2", TimeWait "TIME_WAIT", Close "CLOSE", CloseWait "CLOSE_WAIT", LastAck "LAST_ACK", Listen "LISTEN", Closing "CLOSING", NewSynRecv "NEW_SYN_RECV", });
    pinned!(WaitKind { Futex "futex", Flock "flock", PosixLock "posix-lock", Pipe "pipe", Socket "socket", Child "child", });
    pinned!(Origin { Runtime "runtime", Outside "outside", });
    pinned!(Metric { CpuNs "cpu_ns", CpuUserNs "cpu_user_ns", CpuSystemNs "cpu_system_ns", CpuThrottledNs "cpu_throttled_ns", CpuThrottledPeriods "cpu_throttled_periods", CpuPeriods "cpu_periods", CpuQuotaNs "cpu_quota_ns", CpuPeriodNs "cpu_period_ns", MemoryBytes "memory_bytes", MemoryLimitBytes "memory_limit_bytes", MemoryAnonBytes "memory_anon_bytes", MemoryFileBytes "memory_file_bytes", SwapBytes "swap_bytes", MemoryMaxEvents "memory_max_events", OomKills "oom_kills", MemoryLowEvents "memory_low_events", MemoryHighEvents "memory_high_events", MemoryOomEvents "memory_oom_events", IoReadBytes "io_read_bytes", IoWriteBytes "io_write_bytes", IoReadOps "io_read_ops", IoWriteOps "io_write_ops", PsiCpuSomeUs "psi_cpu_some_us", PsiMemorySomeUs "psi_memory_some_us", PsiMemoryFullUs "psi_memory_full_us", PsiIoSomeUs "psi_io_some_us", PsiIoFullUs "psi_io_full_us", PsiCpuFullUs "psi_cpu_full_us", Pids "pids", PidsLimit "pids_limit", OpenFds "open_fds", TcpEstablished "tcp_established", TcpTimeWait "tcp_time_wait", TcpListen "tcp_listen", TcpOther "tcp_other", TcpCloseWait "tcp_close_wait", AcceptQueue "accept_queue", ListenOverflows "listen_overflows", NetReceivedBytes "net_received_bytes", NetSentBytes "net_sent_bytes", NetDropped "net_dropped", TcpRetransmits "tcp_retransmits", ListenDrops "listen_drops", UdpBufferErrors "udp_buffer_errors", MinorFaults "minor_faults", MajorFaults "major_faults", RssBytes "rss_bytes", BesideCpuNs "beside_cpu_ns", BesideCpuWaitNs "beside_cpu_wait_ns", });
    assert_eq!([State::Complete, State::Live, State::Torn].map(text::state), ["complete", "live", "torn"]);
}

#[test]
fn names_of_findings_and_verdicts_stay() {
    pinned!(OpClass { File "file", Metadata "metadata", Stream "stream", Network "network", Process "process", Memory "memory", Signal "signal", Readiness "readiness", Noise "noise", Other "other", });
    pinned!(Kind { Refused "refused", Unreachable "unreachable", TimedOut "timed-out", Reset "reset", SlowPeer "slow-peer", SlowName "slow-name", NameFailed "name-failed", RetryStorm "retry-storm", BacklogFull "backlog-full", PortsExhausted "ports-exhausted", FdLimit "fd-limit", FdLeak "fd-leak", PidsLimit "pids-limit", DiskFull "disk-full", SlowDisk "slow-disk", LockWait "lock-wait", Deadlock "deadlock", Hang "hang", CpuStarved "cpu-starved", Throttled "throttled", MemoryLimit "memory-limit", Oom "oom", Crash "crash", Exit "exit", MissingFile "missing-file", Permission "permission", SeccompDenied "seccomp-denied", ClockJump "clock-jump", SignalEnded "signal-ended", Entered "entered", Failing "failing", Loss "loss", });
    pinned!(Level { Note "note", Warning "warning", Cause "cause", });
    pinned!(Verdict { Match "match", Deviated "deviated", Inconclusive "inconclusive", });
    pinned!(DivergenceKind { Outcome "outcome", Missing "missing", Extra "extra", Late "late", Order "order", });
    let doubts = [
        (Doubt::Empty, "empty"),
        (Doubt::Cut { after_ns: 1 }, "cut"),
        (Doubt::Damaged { parts: 1, events: 1 }, "damaged"),
        (Doubt::Unwritten { from_ns: 1, events: 1 }, "unwritten"),
    ];
    assert!(doubts.iter().all(|(doubt, name)| doubt.name() == *name));
}

#[test]
fn what_is_serialised_has_the_same_names() {
    let same = |value: Value, name: &str| assert_eq!(value, json!(name));
    for kind in [Kind::TimedOut, Kind::FdLeak, Kind::SeccompDenied, Kind::Oom, Kind::Loss] {
        same(json!(kind), kind.name());
    }
    for level in [Level::Note, Level::Warning, Level::Cause] {
        same(json!(level), level.name());
    }
    for verdict in [Verdict::Match, Verdict::Deviated, Verdict::Inconclusive] {
        same(json!(verdict), verdict.name());
    }
    for how in [
        DivergenceKind::Outcome,
        DivergenceKind::Missing,
        DivergenceKind::Extra,
        DivergenceKind::Late,
        DivergenceKind::Order,
    ] {
        same(json!(how), how.name());
    }
    for class in [Class::Syscall, Class::Dns, Class::Aggregate, Class::Uring] {
        same(json!(class), class.name());
    }
    same(json!(FidelityLevel::NoArguments), FidelityLevel::NoArguments.name());
    same(json!(OpClass::Readiness), OpClass::Readiness.name());
    same(json!(Profile::Synthetic), "synthetic");
    same(json!(Profile::RealBinary), "real-binary");
    same(json!(DumpReason::Signal), "signal");
    same(json!(DumpReason::End), "end");
    let names = |value: Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(json!(DumpReason::Mark { text: String::new() })), ["mark"]);
    let fired = json!(DumpReason::Trigger { text: String::new(), t_ns: 1 });
    assert_eq!(
        (names(fired.clone()), names(fired["trigger"].clone())),
        (vec!["trigger".into()], vec!["t_ns".into(), "text".into()])
    );
    for (scope, name) in [
        (Scope::Pid { pid: 1 }, "pid"),
        (Scope::Cgroup { path: String::new(), version: 2 }, "cgroup"),
        (Scope::Command { argv: vec![] }, "command"),
        (Scope::Container { id: String::new(), labels: BTreeMap::new() }, "container"),
        (Scope::Pod(Pod::default()), "pod"),
    ] {
        assert_eq!(names(json!(scope)), [name]);
    }
}
