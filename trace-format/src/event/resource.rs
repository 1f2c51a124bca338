//! Samples of resource counters.

use serde::{Deserialize, Serialize};

/// One sample of one resource counter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Resource {
    /// When.
    pub t_ns: u64,
    /// Of what: 0 is the host, 1 the scope (its cgroup, or the sum over its processes or containers), *n* + 1 the
    /// container of number *n*.
    pub subject: u32,
    /// Which counter.
    pub metric: Metric,
    /// Its value: cumulative or instantaneous as the metric says.
    pub value: u64,
}

/// What a [`Resource`] sample measures. Cumulative unless its text says "now".
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[repr(u16)]
#[non_exhaustive]
pub enum Metric {
    /// CPU time used, ns.
    CpuNs = 1,
    /// CPU time in user mode, ns.
    CpuUserNs = 2,
    /// CPU time in kernel mode, ns.
    CpuSystemNs = 3,
    /// Time throttled by a quota, ns.
    CpuThrottledNs = 4,
    /// Periods in which it was throttled.
    CpuThrottledPeriods = 5,
    /// Periods of the quota.
    CpuPeriods = 6,
    /// CPU time that a quota allows in each of its periods now, ns; `u64::MAX` without one.
    CpuQuotaNs = 7,
    /// Length of the quota's periods now, ns.
    CpuPeriodNs = 8,
    /// Memory charged now, bytes.
    MemoryBytes = 10,
    /// Memory limit now, bytes; `u64::MAX` without one.
    MemoryLimitBytes = 11,
    /// Anonymous memory now, bytes.
    MemoryAnonBytes = 12,
    /// Page cache now, bytes.
    MemoryFileBytes = 13,
    /// Swap used now, bytes.
    SwapBytes = 14,
    /// Times the limit was hit.
    MemoryMaxEvents = 15,
    /// OOM kills.
    OomKills = 16,
    /// Times it was reclaimed below its protection (`memory.low`).
    MemoryLowEvents = 17,
    /// Times it was slowed down above `memory.high`.
    MemoryHighEvents = 18,
    /// Times an allocation was about to fail.
    MemoryOomEvents = 19,
    /// Bytes read from block devices.
    IoReadBytes = 20,
    /// Bytes written to block devices.
    IoWriteBytes = 21,
    /// Read operations.
    IoReadOps = 22,
    /// Write operations.
    IoWriteOps = 23,
    /// PSI, some, µs: CPU.
    PsiCpuSomeUs = 30,
    /// PSI, some, µs: memory.
    PsiMemorySomeUs = 31,
    /// PSI, full, µs: memory.
    PsiMemoryFullUs = 32,
    /// PSI, some, µs: I/O.
    PsiIoSomeUs = 33,
    /// PSI, full, µs: I/O.
    PsiIoFullUs = 34,
    /// PSI, full, µs: CPU.
    PsiCpuFullUs = 35,
    /// Tasks now.
    Pids = 40,
    /// Task limit now.
    PidsLimit = 41,
    /// Open file descriptors now.
    OpenFds = 42,
    /// Established TCP sockets now.
    TcpEstablished = 43,
    /// TCP sockets in TIME-WAIT now.
    TcpTimeWait = 44,
    /// Listening TCP sockets now.
    TcpListen = 45,
    /// Other TCP sockets now.
    TcpOther = 46,
    /// TCP sockets now that the peer has closed and the program has not.
    TcpCloseWait = 47,
    /// Longest accept queue now, connections.
    AcceptQueue = 48,
    /// Connections that found an accept queue full.
    ListenOverflows = 49,
    /// Bytes received by the network namespace.
    NetReceivedBytes = 50,
    /// Bytes sent by the network namespace.
    NetSentBytes = 51,
    /// Packets dropped by the network namespace.
    NetDropped = 52,
    /// TCP segments retransmitted by the network namespace.
    TcpRetransmits = 53,
    /// Handshake packets that listeners dropped, for a full queue or otherwise.
    ListenDrops = 54,
    /// Datagrams dropped because a socket's buffer was full.
    UdpBufferErrors = 55,
    /// Minor page faults.
    MinorFaults = 60,
    /// Major page faults.
    MajorFaults = 61,
    /// Resident memory now, bytes.
    RssBytes = 62,
    /// CPU time of processes that count as the scope's without being recorded, ns: those that make the load of a replay.
    BesideCpuNs = 63,
    /// How long these waited for a CPU, ns.
    BesideCpuWaitNs = 64,
}

impl Metric {
    /// Its name, as JSON output has it. It ends in the unit, where there is one.
    pub const fn name(self) -> &'static str {
        match self {
            Self::CpuNs => "cpu_ns",
            Self::CpuUserNs => "cpu_user_ns",
            Self::CpuSystemNs => "cpu_system_ns",
            Self::CpuThrottledNs => "cpu_throttled_ns",
            Self::CpuThrottledPeriods => "cpu_throttled_periods",
            Self::CpuPeriods => "cpu_periods",
            Self::CpuQuotaNs => "cpu_quota_ns",
            Self::CpuPeriodNs => "cpu_period_ns",
            Self::MemoryBytes => "memory_bytes",
            Self::MemoryLimitBytes => "memory_limit_bytes",
            Self::MemoryAnonBytes => "memory_anon_bytes",
            Self::MemoryFileBytes => "memory_file_bytes",
            Self::SwapBytes => "swap_bytes",
            Self::MemoryMaxEvents => "memory_max_events",
            Self::OomKills => "oom_kills",
            Self::MemoryLowEvents => "memory_low_events",
            Self::MemoryHighEvents => "memory_high_events",
            Self::MemoryOomEvents => "memory_oom_events",
            Self::IoReadBytes => "io_read_bytes",
            Self::IoWriteBytes => "io_write_bytes",
            Self::IoReadOps => "io_read_ops",
            Self::IoWriteOps => "io_write_ops",
            Self::PsiCpuSomeUs => "psi_cpu_some_us",
            Self::PsiMemorySomeUs => "psi_memory_some_us",
            Self::PsiMemoryFullUs => "psi_memory_full_us",
            Self::PsiIoSomeUs => "psi_io_some_us",
            Self::PsiIoFullUs => "psi_io_full_us",
            Self::PsiCpuFullUs => "psi_cpu_full_us",
            Self::Pids => "pids",
            Self::PidsLimit => "pids_limit",
            Self::OpenFds => "open_fds",
            Self::TcpEstablished => "tcp_established",
            Self::TcpTimeWait => "tcp_time_wait",
            Self::TcpListen => "tcp_listen",
            Self::TcpOther => "tcp_other",
            Self::TcpCloseWait => "tcp_close_wait",
            Self::AcceptQueue => "accept_queue",
            Self::ListenOverflows => "listen_overflows",
            Self::NetReceivedBytes => "net_received_bytes",
            Self::NetSentBytes => "net_sent_bytes",
            Self::NetDropped => "net_dropped",
            Self::TcpRetransmits => "tcp_retransmits",
            Self::ListenDrops => "listen_drops",
            Self::UdpBufferErrors => "udp_buffer_errors",
            Self::MinorFaults => "minor_faults",
            Self::MajorFaults => "major_faults",
            Self::RssBytes => "rss_bytes",
            Self::BesideCpuNs => "beside_cpu_ns",
            Self::BesideCpuWaitNs => "beside_cpu_wait_ns",
        }
    }

    /// Whether it counts what has been, not what is now.
    pub const fn is_cumulative(self) -> bool {
        !matches!(
            self,
            Self::CpuQuotaNs
                | Self::CpuPeriodNs
                | Self::MemoryBytes
                | Self::MemoryLimitBytes
                | Self::MemoryAnonBytes
                | Self::MemoryFileBytes
                | Self::SwapBytes
                | Self::Pids
                | Self::PidsLimit
                | Self::OpenFds
                | Self::TcpEstablished
                | Self::TcpTimeWait
                | Self::TcpListen
                | Self::TcpOther
                | Self::TcpCloseWait
                | Self::AcceptQueue
                | Self::RssBytes
        )
    }
}
