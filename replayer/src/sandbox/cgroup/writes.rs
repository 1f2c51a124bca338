//! Writes to a disk that wait: a limit of a byte a second is never reached by what one task can wait for, so it holds whatever
//! the group writes until it is lifted (`tg_dispatch_time`, block/blk-throttle.c). Version 1 throttles what tasks write
//! themselves, version 2 also what the kernel writes back for them.

use super::Cgroup;
use std::fs;

/// The file of the rules.
pub(super) const fn file(version: u8) -> &'static str {
    if version == 1 { "blkio.throttle.write_bps_device" } else { "io.max" }
}

/// The rule for a device, as the kernel reads it.
pub(super) fn rule(version: u8, device: &str, hold: bool) -> String {
    match (version, hold) {
        (1, true) => format!("{device} 1"),
        // None.
        (1, false) => format!("{device} 0"),
        (_, true) => format!("{device} wbps=1"),
        (_, false) => format!("{device} wbps=max"),
    }
}

impl Cgroup {
    /// Lets go whatever the workload's group writes.
    pub(super) fn let_writes_go(&self) {
        let version = self.version();
        let Some(at) = self.work(if version == 1 { "blkio" } else { "io" }) else { return };
        let at = at.join(file(version));
        let rules = fs::read_to_string(&at).unwrap_or_default();
        for device in rules.lines().filter_map(|line| line.split_whitespace().next()) {
            // The device may be gone, and its rule with it.
            let _ = fs::write(&at, rule(version, device, false));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Directory;
    use super::*;

    #[test]
    fn rules_are_lifted_in_the_words_of_each_version() {
        let top = tempfile::tempdir().unwrap();
        let cases = [
            (Some("blkio"), "blkio.throttle.write_bps_device", "7:3 1\n", "7:3 0"),
            (None, "io.max", "7:3 rbps=max wbps=1 riops=max wiops=max\n", "7:3 wbps=max"),
        ];
        for (controller, name, held, lifted) in cases {
            let at = top.path().join("work").join(name);
            fs::create_dir_all(at.parent().unwrap()).unwrap();
            fs::write(&at, held).unwrap();
            let directory =
                Directory { controller: controller.map(str::to_owned), at: top.path().to_owned() };
            let cgroup = Cgroup { directories: vec![directory], parted: true };
            assert_eq!(file(cgroup.version()), name);
            cgroup.let_writes_go();
            assert_eq!(fs::read_to_string(&at).unwrap(), lifted);
        }
        assert_eq!([rule(1, "7:3", true), rule(2, "7:3", true)], ["7:3 1", "7:3 wbps=1"]);
    }
}
