//! Why a program or a map of the kernel half is not there, told for a person.

use crate::error::RecordError;
use aya::EbpfError;
use aya::programs::ProgramError;

pub(super) fn attaching(name: &str) -> String {
    format!("attaching to {name}")
}

pub(super) fn no_program(name: &str) -> RecordError {
    RecordError::KernelLacks {
        what: format!("the program {name} in the eBPF object"),
        fix: "rebuild it with `cargo xtask bpf`".into(),
    }
}

pub(super) fn no_map(name: &str) -> RecordError {
    RecordError::KernelLacks {
        what: format!("the map {name} in the eBPF object"),
        fix: "rebuild it with `cargo xtask bpf`".into(),
    }
}

pub(super) fn is_denied(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(e) = cause {
        if let Some(io) = e.downcast_ref::<std::io::Error>()
            && matches!(io.raw_os_error(), Some(libc::EPERM | libc::EACCES))
        {
            return true;
        }
        cause = e.source();
    }
    false
}

pub(super) fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(e) = cause {
        text.push_str(": ");
        text.push_str(&e.to_string());
        cause = e.source();
    }
    text
}

/// Shortens an error with the verifier's log in it to its begin and the last thing that the verifier said before its
/// statistics.
fn brief(text: &str) -> String {
    let Some((begin, log)) = text.split_once("Verifier output:") else { return text.to_owned() };
    tracing::debug!(log, "the verifier's log");
    let said = log.lines().take_while(|line| !line.starts_with("verification time")).map(str::trim);
    format!(
        "{}: {}",
        begin.trim_end_matches([' ', '.']),
        said.filter(|line| !line.is_empty()).last().unwrap_or("no reason")
    )
}

pub(super) fn denied_or(what: &str, error: &EbpfError) -> RecordError {
    classify(what, error)
}

pub(super) fn denied_or_program(what: &str, error: &ProgramError) -> RecordError {
    classify(what, error)
}

pub(super) fn classify(what: &str, error: &(dyn std::error::Error + 'static)) -> RecordError {
    match crate::caps::missing_to_load() {
        Some(needs) if is_denied(error) => RecordError::NoPrivilege { what: what.to_owned(), needs },
        _ => RecordError::KernelLacks {
            what: format!("what {what} needs ({})", brief(&chain(error))),
            fix: "run `ctrace doctor`".into(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::brief;

    #[test]
    fn of_a_verifiers_log_the_reason_is_told() {
        let text = "the BPF_PROG_LOAD syscall returned EINVAL. Verifier output: 0: R1=ctx\n1: (85) call 160\n\
                    program of this type cannot use helper 160\nverification time 9 usec\nprocessed 2 insns\n: EINVAL";
        let told = "the BPF_PROG_LOAD syscall returned EINVAL: program of this type cannot use helper 160";
        assert_eq!(brief(text), told);
        assert_eq!(brief("no such file"), "no such file");
    }
}
