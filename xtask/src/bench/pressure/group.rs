//! Cgroups, file systems and neighbours that the benchmark makes, and removes whatever happens.

use super::PYTHON;
use crate::bench::process::Owned;
use anyhow::{Context, Result, ensure};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Where cgroups are.
const MOUNTED: &str = "/sys/fs/cgroup";
/// The period of a quota on CPU time, µs.
const PERIOD_US: u64 = 100_000;

/// A limit of a cgroup.
#[derive(Debug, Clone, Copy)]
pub(super) enum Limit {
    /// CPU time in each period of 100 ms, µs.
    CpuQuota(u64),
    /// Memory, bytes.
    Memory(u64),
    /// Tasks.
    Pids(u64),
    /// Bytes a second that reach the slow disk.
    WriteBps(u64),
}

impl Limit {
    /// The controller, and what is written to which of its files: in version 1, and in version 2.
    fn settings(self, device: &str) -> (&'static str, Vec<(&'static str, String)>, (&'static str, String)) {
        match self {
            Self::CpuQuota(us) => (
                "cpu",
                vec![("cpu.cfs_period_us", PERIOD_US.to_string()), ("cpu.cfs_quota_us", us.to_string())],
                ("cpu.max", format!("{us} {PERIOD_US}")),
            ),
            Self::Memory(bytes) => (
                "memory",
                vec![("memory.limit_in_bytes", bytes.to_string())],
                ("memory.max", bytes.to_string()),
            ),
            Self::Pids(most) => {
                ("pids", vec![("pids.max", most.to_string())], ("pids.max", most.to_string()))
            }
            Self::WriteBps(bps) => (
                "blkio",
                vec![("blkio.throttle.write_bps_device", format!("{device} {bps}"))],
                ("io.max", format!("{device} wbps={bps}")),
            ),
        }
    }
}

/// A cgroup in each hierarchy that has one of the limits.
pub(super) struct Group {
    directories: Vec<PathBuf>,
}

impl Group {
    /// `device`: of the slow disk, as MAJOR:MINOR.
    pub(super) fn make(limits: &[Limit], device: &str) -> Result<Self> {
        let name = format!("bench-pressure-{}", std::process::id());
        let mut group = Self { directories: Vec::new() };
        let unified = Path::new(MOUNTED).join("cgroup.controllers").exists();
        for limit in limits {
            let (controller, first, second) = limit.settings(device);
            let (at, settings) = if unified {
                let word = if controller == "blkio" { "io" } else { controller };
                let all = Path::new(MOUNTED).join("cgroup.subtree_control");
                fs::write(&all, format!("+{word}")).with_context(|| format!("the controller {word}"))?;
                (Path::new(MOUNTED).join(&name), vec![second])
            } else {
                (Path::new(MOUNTED).join(controller).join(&name), first)
            };
            fs::create_dir_all(&at).with_context(|| format!("making {}", at.display()))?;
            if !group.directories.contains(&at) {
                group.directories.push(at.clone());
            }
            for (file, value) in settings {
                fs::write(at.join(file), &value).with_context(|| format!("writing {value} to {file}"))?;
            }
        }
        Ok(group)
    }

    /// A shell's words by which it enters it.
    pub(super) fn enter(&self) -> String {
        let enter = |at: &PathBuf| format!("echo $$ > {}/cgroup.procs && ", at.display());
        self.directories.iter().map(enter).collect()
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let until = Instant::now() + Duration::from_secs(5);
        for at in &self.directories {
            while fs::remove_dir(at).is_err() && at.exists() && Instant::now() < until {
                std::thread::sleep(Duration::from_millis(10));
            }
        }
    }
}

/// Runs a command that has to succeed; what it printed.
fn must(program: &str, args: &[&str]) -> Result<String> {
    let said = Command::new(program).args(args).stdin(Stdio::null()).output();
    let said = said.with_context(|| format!("starting {program}"))?;
    ensure!(said.status.success(), "{program}: {}", String::from_utf8_lossy(&said.stderr).trim());
    Ok(String::from_utf8_lossy(&said.stdout).trim().to_owned())
}

/// An ext4 on a loop device, so that a limit on that device is nobody else's.
pub(super) struct Disk {
    pub(super) at: PathBuf,
    loop_device: String,
    /// MAJOR:MINOR.
    pub(super) device: String,
}

impl Disk {
    pub(super) fn make(dir: &Path) -> Result<Self> {
        let (image, at) = (dir.join("disk.img"), dir.join("disk"));
        fs::File::create(&image)?.set_len(64 << 20)?;
        let image = image.to_str().context("a path that is text")?;
        // Without a journal: its thread would wait in place of the program.
        must("/sbin/mkfs.ext4", &["-q", "-O", "^has_journal", image])?;
        fs::create_dir_all(&at)?;
        let loop_device = must("/sbin/losetup", &["-f", "--show", image])?;
        let mut disk = Self { at, loop_device, device: String::new() };
        let name = disk.loop_device.rsplit('/').next().unwrap_or_default();
        let device = fs::read_to_string(format!("/sys/block/{name}/dev"))?;
        device.trim().clone_into(&mut disk.device);
        must("/bin/mount", &[disk.loop_device.as_str(), disk.at.to_str().unwrap_or_default()])?;
        Ok(disk)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = must("/bin/umount", &[self.at.to_str().unwrap_or_default()]);
        let _ = must("/sbin/losetup", &["-d", &self.loop_device]);
    }
}

/// A small file system in memory.
pub(super) struct Small(pub(super) PathBuf);

impl Small {
    pub(super) fn make(dir: &Path) -> Result<Self> {
        let at = dir.join("small");
        fs::create_dir_all(&at)?;
        must("/bin/mount", &["-t", "tmpfs", "-o", "size=4m", "bench", at.to_str().unwrap_or_default()])?;
        Ok(Self(at))
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = must("/bin/umount", &[self.0.to_str().unwrap_or_default()]);
    }
}

/// Processes that want a CPU all the time.
pub(super) fn neighbours(count: u32) -> Result<Vec<Owned>> {
    let one = |_| {
        let mut command = Command::new(PYTHON);
        command.args(["-S", "-E", "-c", "while True: pass"]);
        Ok(Owned::spawn(&mut command)?)
    };
    (0..count).map(one).collect()
}
