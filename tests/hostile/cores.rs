//! The host's handler of core dumps, made to tell when it is started for a replay.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

const PATTERN: &str = "/proc/sys/kernel/core_pattern";
/// What the names of hostile tasks begin with.
pub(crate) const COMM: &str = "hs-";

/// The handler, in its place until this is dropped.
pub(crate) struct Handler {
    before: String,
    pattern: String,
    log: PathBuf,
}

impl Handler {
    /// `None`: the host does not let one set it.
    pub(crate) fn install(dir: &Path) -> Option<Self> {
        let (program, log) = (dir.join("core"), dir.join("cores"));
        fs::write(&program, format!("#!/bin/sh\ncat >/dev/null\necho \"$*\" >>{}\n", log.display())).ok()?;
        fs::set_permissions(&program, PermissionsExt::from_mode(0o755)).ok()?;
        let before = fs::read_to_string(PATTERN).ok()?;
        let pattern = format!("|{} %P %s %e", program.display());
        fs::write(PATTERN, &pattern).ok()?;
        Some(Self { before, pattern, log })
    }

    /// Tasks of hostile traces for which it was started since it was asked last.
    pub(crate) fn told(&self) -> Vec<String> {
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        let told: Vec<String> = text
            .lines()
            .filter(|line| line.split(' ').nth(2).is_some_and(|comm| comm.starts_with(COMM)))
            .map(|line| format!("the host's core handler was started: {line}"))
            .collect();
        if !told.is_empty() {
            let _ = fs::remove_file(&self.log);
        }
        told
    }
}

impl Drop for Handler {
    fn drop(&mut self) {
        // Only what we wrote is taken back.
        if fs::read_to_string(PATTERN).is_ok_and(|now| now.trim_end() == self.pattern) {
            let _ = fs::write(PATTERN, &self.before);
        }
    }
}
