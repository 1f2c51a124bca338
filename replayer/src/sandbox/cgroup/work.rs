//! The workload in a group of its own within the replay's: what presses the workload must not press the engine, nor what
//! plays its peers.
//!
//! In version 2 processes are in leaves only: the engine has a group beside the workload's. Both are of a replay that is
//! pressed, and go with it.

use super::super::disk::Device;
use super::{Cgroup, Directory, counter, writes};
use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::fd::{AsRawFd, RawFd};
use std::path::PathBuf;

/// The workload's group.
pub(super) const WORK: &str = "work";
/// Version 2: the engine's group.
pub(super) const ENGINE: &str = "engine";
/// Controllers of version 2 that the groups within are given.
const CONTROLLERS: [&str; 4] = ["+memory", "+pids", "+cpu", "+io"];

impl Directory {
    /// The groups within, whether they are there or not.
    pub(super) fn within(&self) -> [PathBuf; 2] {
        [WORK, ENGINE].map(|name| self.at.join(name))
    }

    /// Where the engine's processes are.
    pub(super) fn engine(&self, parted: bool) -> PathBuf {
        if parted && self.controller.is_none() { self.at.join(ENGINE) } else { self.at.clone() }
    }

    /// The groups that have processes.
    pub(super) fn populated(&self) -> impl Iterator<Item = PathBuf> {
        std::iter::once(self.at.clone()).chain(self.within())
    }
}

impl Cgroup {
    /// The directories of the workload's group.
    pub(super) fn work(&self, controller: &str) -> Option<PathBuf> {
        self.of(controller).map(|at| at.join(WORK))
    }

    /// Makes the groups within.
    pub(super) fn part(&self) -> io::Result<()> {
        for directory in &self.directories {
            let [work, engine] = directory.within();
            let mut made = vec![work];
            if directory.controller.is_none() {
                made.push(engine);
                for controller in CONTROLLERS {
                    // Without one of them there is less to press with.
                    let _ = fs::write(directory.at.join("cgroup.subtree_control"), controller);
                }
            }
            for at in made {
                fs::create_dir(&at).map_err(|error| super::at(&at, &error))?;
            }
        }
        Ok(())
    }

    /// OOM kills in the workload's group. In version 2 they count for the replay's as well.
    pub(super) fn oom_kills_of_work(&self) -> u64 {
        if !self.parted || self.version() == 1 {
            return 0;
        }
        self.work("memory").map_or(0, |at| counter(&at.join("memory.events"), "oom_kill"))
    }

    /// The directory of the workload's group that counts memory; `None`: it has no group of its own.
    pub(crate) fn work_memory(&self) -> Option<PathBuf> {
        self.parted.then(|| self.work("memory")).flatten()
    }
}

/// Files of the workload's group, opened before the host's are out of sight.
#[derive(Debug)]
pub(crate) struct Controls {
    version: u8,
    /// To be in it: one for each hierarchy.
    enter: Vec<File>,
    /// Version 2 has both numbers in one file.
    quota: Option<(File, Option<File>)>,
    cpu_stat: Option<File>,
    /// CPU time, ns; version 2 has it in the file above.
    cpu_usage: Option<File>,
    memory_stat: Option<File>,
    memory_max: Option<File>,
    /// Memory charged to the group, and to all of the replay.
    memory: Option<File>,
    whole_memory: Option<File>,
    pids_max: Option<File>,
    /// What the group may write to each device.
    writes: Option<File>,
}

impl Controls {
    /// Opens them.
    ///
    /// # Errors
    /// When the group cannot be entered; without the others there is less to press with.
    pub(crate) fn open(cgroup: &Cgroup) -> io::Result<Self> {
        let version = cgroup.version();
        let enter = cgroup.directories.iter().map(|directory| {
            let at = directory.at.join(WORK).join("cgroup.procs");
            File::options().read(true).write(true).open(&at).map_err(|error| super::at(&at, &error))
        });
        let enter = enter.collect::<io::Result<Vec<File>>>()?;
        let work = |controller: &str, file: &str| {
            let at = cgroup.work(controller)?.join(file);
            File::options().read(true).write(true).open(&at).or_else(|_| File::open(&at)).ok()
        };
        let one = version == 1;
        let quota = if one {
            work("cpu", "cpu.cfs_quota_us").map(|quota| (quota, work("cpu", "cpu.cfs_period_us")))
        } else {
            work("cpu", "cpu.max").map(|quota| (quota, None))
        };
        let (now, max) = if one {
            ("memory.usage_in_bytes", "memory.limit_in_bytes")
        } else {
            ("memory.current", "memory.max")
        };
        let whole = cgroup.of("memory").and_then(|at| File::open(at.join(now)).ok());
        Ok(Self {
            version,
            enter,
            quota,
            cpu_stat: work("cpu", "cpu.stat"),
            cpu_usage: work("cpuacct", "cpuacct.usage").or_else(|| work("cpu", "cpuacct.usage")),
            memory_stat: work("memory", "memory.stat"),
            memory_max: work("memory", max),
            memory: work("memory", now),
            whole_memory: whole,
            pids_max: work("pids", "pids.max"),
            writes: work("blkio", writes::file(version)).or_else(|| work("io", writes::file(version))),
        })
    }

    /// Its descriptors.
    pub(crate) fn descriptors(&self) -> Vec<RawFd> {
        let quota = self.quota.iter().flat_map(|(quota, period)| std::iter::once(quota).chain(period));
        let others = [
            &self.cpu_stat,
            &self.cpu_usage,
            &self.memory_stat,
            &self.memory_max,
            &self.memory,
            &self.whole_memory,
            &self.pids_max,
            &self.writes,
        ];
        let others = others.into_iter().flatten();
        self.enter.iter().chain(quota).chain(others).map(AsRawFd::as_raw_fd).collect()
    }

    /// Moves this process, which must be single-threaded.
    pub(crate) fn enter(&self) -> io::Result<()> {
        self.enter.iter().try_for_each(|mut file| file.write_all(b"0"))
    }

    /// Whether CPU time can be bounded, and how much it is can be told.
    pub(crate) fn has_cpu(&self) -> bool {
        self.quota.is_some() && self.cpu_stat.is_some()
    }

    /// CPU time that the group has used, ns.
    pub(crate) fn used_ns(&self) -> Option<u64> {
        if self.version == 1 {
            read(self.cpu_usage.as_ref()?)?.trim().parse().ok()
        } else {
            number_of(&read(self.cpu_stat.as_ref()?)?, "usage_usec").map(|us| us.saturating_mul(1000))
        }
    }

    /// Whether CPU time can be told.
    pub(crate) fn has_usage(&self) -> bool {
        self.used_ns().is_some()
    }

    /// Whether memory can be told.
    pub(crate) fn has_memory(&self) -> bool {
        self.memory_stat.is_some() && self.whole_memory.is_some()
    }

    /// Lets the group have so much CPU time in each of its periods, µs.
    pub(crate) fn set_quota(&self, quota_us: u64, period_us: u64) -> io::Result<()> {
        let (quota, period) = self.quota.as_ref().ok_or(io::ErrorKind::Unsupported)?;
        match period {
            Some(_) => write(quota, &quota_us.to_string()),
            None => write(quota, &format!("{quota_us} {period_us}")),
        }
    }

    /// Sets the length of the quota's periods, µs. To be called before there is a quota.
    pub(crate) fn set_period(&self, period_us: u64) -> io::Result<()> {
        match &self.quota {
            Some((_, Some(period))) => write(period, &period_us.to_string()),
            _ => Ok(()),
        }
    }

    /// How long CPUs of the group were throttled so far, added up, ns.
    pub(crate) fn throttled_ns(&self) -> Option<u64> {
        let text = read(self.cpu_stat.as_ref()?)?;
        let field = |name| number_of(&text, name);
        if self.version == 1 {
            field("throttled_time")
        } else {
            field("throttled_usec").map(|us| us.saturating_mul(1000))
        }
    }

    /// Anonymous memory of the group, bytes.
    pub(crate) fn anonymous_bytes(&self) -> Option<u64> {
        let text = read(self.memory_stat.as_ref()?)?;
        number_of(&text, if self.version == 1 { "total_rss" } else { "anon" })
    }

    /// Memory charged to the whole replay, bytes.
    pub(crate) fn whole_memory_bytes(&self) -> Option<u64> {
        read(self.whole_memory.as_ref()?)?.trim().parse().ok()
    }

    /// Memory charged to the group, bytes.
    pub(crate) fn work_memory_bytes(&self) -> Option<u64> {
        read(self.memory.as_ref()?)?.trim().parse().ok()
    }

    /// Bounds the memory of the group.
    pub(crate) fn set_memory_limit(&self, bytes: u64) -> io::Result<()> {
        write(self.memory_max.as_ref().ok_or(io::ErrorKind::Unsupported)?, &bytes.to_string())
    }

    /// Bounds the tasks of the group.
    pub(crate) fn set_tasks(&self, most: u64) -> io::Result<()> {
        write(self.pids_max.as_ref().ok_or(io::ErrorKind::Unsupported)?, &most.to_string())
    }

    /// The switch of what the group writes to a device; `None`: nothing here can hold it up.
    pub(crate) fn switch(&self, device: Device) -> Option<Switch> {
        let file = self.writes.as_ref()?.try_clone().ok()?;
        Some(Switch { file, version: self.version, device })
    }

    /// The processes of the group, as this process knows them.
    pub(crate) fn processes(&self) -> Vec<i32> {
        let text = self.enter.first().and_then(read).unwrap_or_default();
        text.lines().filter_map(|line| line.parse().ok()).filter(|pid| *pid > 0).collect()
    }
}

/// Holds up what the workload's group writes to a device, or lets it go.
#[derive(Debug)]
pub(crate) struct Switch {
    file: File,
    version: u8,
    device: Device,
}

impl Switch {
    pub(crate) fn hold(&self, hold: bool) -> io::Result<()> {
        write(&self.file, &writes::rule(self.version, &self.device.to_string(), hold))
    }

    pub(crate) fn descriptor(&self) -> RawFd {
        self.file.as_raw_fd()
    }
}

/// The number after a name, in lines of both.
fn number_of(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
}

fn write(mut file: &File, text: &str) -> io::Result<()> {
    file.seek(SeekFrom::Start(0))?;
    file.write_all(text.as_bytes())
}

fn read(mut file: &File) -> Option<String> {
    file.seek(SeekFrom::Start(0)).ok()?;
    let mut text = String::new();
    file.read_to_string(&mut text).ok()?;
    Some(text)
}
