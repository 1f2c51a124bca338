//! Signals, and how tasks end.

/// `SIGTERM`, `SIGRT_3`.
pub(crate) fn signal(number: u32) -> String {
    const NAMES: [&str; 32] = [
        "0",
        "SIGHUP",
        "SIGINT",
        "SIGQUIT",
        "SIGILL",
        "SIGTRAP",
        "SIGABRT",
        "SIGBUS",
        "SIGFPE",
        "SIGKILL",
        "SIGUSR1",
        "SIGSEGV",
        "SIGUSR2",
        "SIGPIPE",
        "SIGALRM",
        "SIGTERM",
        "SIGSTKFLT",
        "SIGCHLD",
        "SIGCONT",
        "SIGSTOP",
        "SIGTSTP",
        "SIGTTIN",
        "SIGTTOU",
        "SIGURG",
        "SIGXCPU",
        "SIGXFSZ",
        "SIGVTALRM",
        "SIGPROF",
        "SIGWINCH",
        "SIGIO",
        "SIGPWR",
        "SIGSYS",
    ];
    match NAMES.get(number as usize) {
        Some(name) => (*name).to_owned(),
        None if number <= 64 => format!("SIGRT_{}", number - 32),
        None => number.to_string(),
    }
}

/// A set of signals, bit (signo − 1).
pub(crate) fn signal_set(set: u64) -> String {
    // More than half: say what is missing, as strace does.
    let (prefix, shown) = if set.count_ones() > 32 { ("~", !set) } else { ("", set) };
    let names: Vec<String> = (1..=64_u32)
        .filter(|n| shown & (1 << (n - 1)) != 0)
        .map(|n| signal(n).trim_start_matches("SIG").to_owned())
        .collect();
    format!("{prefix}[{}]", names.join(" "))
}

/// The exit code in a status as wait(2) packs it, unless a signal ended the task.
pub const fn exit_code(status: u32) -> Option<u32> {
    match status & 0x7f {
        0 => Some((status >> 8) & 0xff),
        _ => None,
    }
}

/// The signal that ended a task, in a status as wait(2) packs it.
pub(crate) const fn exit_signal(status: u32) -> Option<u32> {
    match status & 0x7f {
        0 => None,
        signal => Some(signal),
    }
}

/// The meaning of the scheduler's letter of a task.
pub(crate) const fn task_state(letter: u8) -> &'static str {
    match letter {
        b'R' => "running",
        b'S' => "sleeping",
        b'D' => "in uninterruptible sleep",
        b'T' => "stopped",
        b't' => "stopped by a tracer",
        b'I' => "idle",
        _ => "in an unknown state",
    }
}

/// An exit status as wait(2) packs it.
pub(crate) fn wait_status(status: u32) -> String {
    match status & 0x7f {
        0 => format!("exited with {}", (status >> 8) & 0xff),
        0x7f if status & 0xff == 0x7f => format!("stopped by {}", signal((status >> 8) & 0xff)),
        number => {
            let core = if status & 0x80 != 0 { " (core dumped)" } else { "" };
            format!("killed by {}{core}", signal(number))
        }
    }
}

/// An exit status as wait(2) packs it, as the rest of a sentence about a command: `exited with 3`, `was killed by SIGKILL`.
pub fn command_status(status: u32) -> String {
    let how = wait_status(status);
    if exit_code(status).is_some() { how } else { format!("was {how}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_and_signals_have_names() {
        assert_eq!(wait_status(0x0300), "exited with 3");
        assert_eq!(wait_status(9), "killed by SIGKILL");
        assert_eq!(
            (command_status(0x0300).as_str(), command_status(9).as_str()),
            ("exited with 3", "was killed by SIGKILL")
        );
        assert_eq!(wait_status(0x8b), "killed by SIGSEGV (core dumped)");
        assert_eq!(signal(34), "SIGRT_2");
        assert_eq!(signal_set(0b100_0000_0000_0010), "[INT TERM]");
    }
}
