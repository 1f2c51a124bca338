//! How much a replay may take: the flags, what they come to on this host, and what is said when it is not enough.

use crate::units;
use ctrace_replayer::plan::need::Need;
use ctrace_replayer::{Flags, Free, Limits, Resource};

/// Limits on a replay.
#[derive(Debug, Clone, Copy, Default, clap::Args)]
#[expect(clippy::struct_field_names, reason = "named as the flags are")]
#[command(next_help_heading = "Limits (see --dry-run for what they are here)")]
pub(crate) struct Args {
    /// Memory of all processes, files, memfds and shared memory together [default: twice the need, at most half of what
    /// is free]
    #[arg(long, value_name = "SIZE", value_parser = units::parse_size)]
    max_memory: Option<u64>,
    /// Processes and threads at a time, peers included [default: as for memory]
    #[arg(long, value_name = "N")]
    max_tasks: Option<u64>,
    /// What the files may occupy, which are in memory [default: twice the need]
    #[arg(long, value_name = "SIZE", value_parser = units::parse_size)]
    max_disk: Option<u64>,
    /// Files, directories and links [default: twice the need]
    #[arg(long, value_name = "N")]
    max_files: Option<u64>,
    /// Descriptors of one process [default: twice the need]
    #[arg(long, value_name = "N")]
    max_descriptors: Option<u64>,
    /// Addresses of peers [default: twice the need]
    #[arg(long, value_name = "N")]
    max_addresses: Option<u64>,
    /// End the replay after this time [default: four times the recording and 30 s, at most a day]
    #[arg(long, value_name = "TIME", value_parser = units::parse_duration)]
    max_duration: Option<u64>,
    /// The compiled trace, in the directory for temporary files (TMPDIR) [default: 64 MiB and 256 for each byte of the
    /// trace, at most half of what is free there]
    #[arg(long, value_name = "SIZE", value_parser = units::parse_size)]
    pub(super) max_program: Option<u64>,
}

impl Args {
    /// The limits that are given.
    pub(super) fn flags(&self) -> Flags {
        Flags::default()
            .with(Resource::Memory, self.max_memory)
            .with(Resource::Tasks, self.max_tasks)
            .with(Resource::Disk, self.max_disk)
            .with(Resource::Files, self.max_files)
            .with(Resource::Descriptors, self.max_descriptors)
            .with(Resource::Addresses, self.max_addresses)
            .with(Resource::Duration, self.max_duration)
    }

    /// What they come to for this trace on this host, now.
    pub(crate) fn resolve(&self, need: &Need, speed: f64) -> Limits {
        Limits::resolve(need, &Free::now(), &self.flags(), speed)
    }
}
