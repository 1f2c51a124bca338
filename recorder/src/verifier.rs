//! What the running kernel's verifier makes of each program. The figures of known kernels are kept in
//! `recorder/bpf/verifier.txt`, so that a change that makes a program much harder to verify is seen when it is made.

use crate::error::RecordError;
use crate::load::{self, OBJECT, Programs, RingSizes};
use crate::{arch, specs};
use std::fmt;

/// One loaded program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cost {
    /// The kernel's series and machine, as `6.12 x86_64`: within one, the verifier hardly changes.
    pub kernel: String,
    /// The program.
    pub program: String,
    /// Instructions that the verifier looked at, on all paths together; 0 before Linux 5.16, which does not tell.
    pub verified_insns: u32,
    /// Size after the verifier's rewriting.
    pub translated_bytes: u32,
    /// Size in machine code; 0 when it is not compiled.
    pub machine_bytes: u32,
}

impl Cost {
    /// Reads a line as [`fmt::Display`] writes it.
    #[must_use]
    pub fn parse(line: &str) -> Option<Self> {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [series, machine, program, verified, translated, machine_bytes] = words[..] else { return None };
        Some(Self {
            kernel: format!("{series} {machine}"),
            program: program.to_owned(),
            verified_insns: verified.parse().ok()?,
            translated_bytes: translated.parse().ok()?,
            machine_bytes: machine_bytes.parse().ok()?,
        })
    }
}

impl fmt::Display for Cost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} {} {} {} {}",
            self.kernel, self.program, self.verified_insns, self.translated_bytes, self.machine_bytes
        )
    }
}

/// The running kernel, as in [`Cost::kernel`].
#[must_use]
pub fn kernel() -> String {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let series: Vec<&str> =
        release.split(|c: char| !c.is_ascii_digit()).filter(|n| !n.is_empty()).take(2).collect();
    format!("{} {}", series.join("."), std::env::consts::ARCH)
}

/// Loads every program and asks what it cost, in order of name.
///
/// # Errors
/// When a required program does not load.
pub fn costs() -> Result<Vec<Cost>, RecordError> {
    let (_, offsets) = load::offsets()?;
    let mut programs =
        Programs::load(OBJECT, &offsets, RingSizes::within(1 << 20, 2), &specs::table(arch::HOST))?;
    programs.verify_all()?;
    let kernel = kernel();
    let mut costs = programs.costs(&kernel);
    costs.sort_by(|a, b| a.program.cmp(&b.program));
    Ok(costs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cost_is_read_as_it_is_written() {
        let line = "6.1 x86_64 sys_enter 28182 4160 2800";
        assert_eq!(Cost::parse(line).unwrap().to_string(), line);
        assert_eq!(Cost::parse("# a comment of six words here"), None);
    }

    #[test]
    fn the_kernel_is_named_by_series_and_machine() {
        let name = kernel();
        let (series, machine) = name.split_once(' ').unwrap();
        assert!(
            series.split('.').count() == 2 && series.split('.').all(|n| n.parse::<u32>().is_ok()),
            "{name}"
        );
        assert_eq!(machine, std::env::consts::ARCH);
    }
}
