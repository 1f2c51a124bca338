//! Reading `/proc`.

use std::fs;

/// What `/proc/TGID/task/TID/stat` says.
pub(crate) struct Stat {
    pub(crate) comm: Vec<u8>,
    /// The scheduler's letter.
    pub(crate) letter: u8,
    /// Dead, a zombie, or on the way there (`PF_EXITING`, set before `sched_process_exit` fires, kernel/exit.c).
    pub(crate) exiting: bool,
    pub(crate) parent: u32,
    pub(crate) pgid: u32,
    pub(crate) sid: u32,
    /// Minor and major faults, user and system time in clock ticks.
    pub(crate) counters: [u64; 4],
    /// Number of threads.
    pub(crate) threads: u64,
    /// Resident pages. The kernel adds up what CPUs count by themselves: a small process may have none.
    pub(crate) rss_pages: u64,
    /// Its address space, bytes; none: it has given up its memory.
    pub(crate) mapped_bytes: u64,
    /// When it began, clock ticks since boot.
    pub(crate) start_ticks: u64,
    /// The CPU that it ran on last.
    pub(crate) cpu: u32,
}

const PF_EXITING: u64 = 4;

/// Reads the state of a thread. `None`: there is none.
pub(crate) fn stat(tgid: u32, tid: u32) -> Option<Stat> {
    parse_stat(&fs::read(format!("/proc/{tgid}/task/{tid}/stat")).ok()?)
}

/// Reads the state of a process (counters summed over its threads).
pub(crate) fn process_stat(tgid: u32) -> Option<Stat> {
    parse_stat(&fs::read(format!("/proc/{tgid}/stat")).ok()?)
}

pub(crate) fn parse_stat(text: &[u8]) -> Option<Stat> {
    // The name may contain anything, parentheses and spaces included: it ends at the last ')'.
    let open = text.iter().position(|b| *b == b'(')?;
    let close = text.iter().rposition(|b| *b == b')')?;
    let rest = std::str::from_utf8(text.get(close + 2..)?).ok()?;
    let f: Vec<&str> = rest.split_ascii_whitespace().collect();
    let number = |i: usize| f.get(i).and_then(|v| v.parse::<u64>().ok()).unwrap_or(0);
    // Field numbers as in proc(5), less 3.
    Some(Stat {
        comm: text.get(open + 1..close)?.to_vec(),
        letter: f.first().and_then(|f| f.bytes().next()).unwrap_or(0),
        exiting: matches!(f.first(), Some(&("Z" | "X" | "x"))) || number(6) & PF_EXITING != 0,
        parent: number(1) as u32,
        pgid: number(2) as u32,
        sid: number(3) as u32,
        counters: [number(7), number(9), number(11), number(12)],
        threads: number(17),
        rss_pages: number(21),
        mapped_bytes: number(20),
        start_ticks: number(19),
        cpu: number(36) as u32,
    })
}

/// The thread ids of a process; empty when it is gone.
pub(crate) fn threads(tgid: u32) -> Vec<u32> {
    numbers(&format!("/proc/{tgid}/task"))
}

/// The numeric names in a folder, ascending.
pub(crate) fn numbers(folder: &str) -> Vec<u32> {
    let mut out: Vec<u32> = fs::read_dir(folder)
        .into_iter()
        .flatten()
        .filter_map(|e| e.ok()?.file_name().to_str()?.parse().ok())
        .collect();
    out.sort_unstable();
    out
}

/// A line of `/proc/PID/status`.
pub(crate) fn status_field(pid: u32, name: &str) -> Option<String> {
    // The name in it need not be text.
    let bytes = fs::read(format!("/proc/{pid}/status")).ok()?;
    let text = String::from_utf8_lossy(&bytes);
    text.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(':').map(|v| v.trim().to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_does_not_shift_the_fields() {
        let line = b"7 (a) b (c) S 1 2 3 0 -1 4194304 10 0 11 0 12 13 0 0 20 0 1 0 99 1000 55 0";
        let stat = parse_stat(line).unwrap();
        assert_eq!(stat.comm, b"a) b (c");
        assert_eq!((stat.parent, stat.pgid, stat.sid), (1, 2, 3));
        assert_eq!(stat.counters, [10, 11, 12, 13]);
        assert_eq!((stat.rss_pages, stat.start_ticks), (55, 99));
        assert!(!stat.exiting);
    }

    #[test]
    fn own_threads_are_found() {
        let pid = std::process::id();
        assert!(threads(pid).contains(&pid));
        assert!(!stat(pid, pid).unwrap().exiting);
        assert!(numbers("/proc").contains(&pid));
    }
}
