//! How much a replay may take: the flags, what they come to on this host, and what is said when it is not enough.

use crate::exit::{Exit, Failure};
use crate::units;
use ctrace_replayer::plan::need::Need;
use ctrace_replayer::{Enforcement, Flags, Free, Hit, Limits, Resource, Source, TooMuch, needed};
use serde_json::{Map, Value, json};

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
    fn flags(&self) -> Flags {
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

/// For a program: by resource, what is needed, the limit, and where that comes from.
pub(crate) fn as_json(need: &Need, limits: &Limits) -> Value {
    let entry = |resource: Resource| {
        let limit = limits.get(resource);
        let value = json!({"need": needed(need, resource), "limit": limit.limit, "source": limit.source});
        (resource.word().to_owned(), value)
    };
    Value::Object(Resource::ALL.into_iter().map(entry).collect::<Map<_, _>>())
}

/// The same for a person: one line each.
pub(crate) fn lines(need: &Need, limits: &Limits) -> Vec<String> {
    Resource::ALL
        .into_iter()
        .map(|resource| {
            let limit = limits.get(resource);
            format!(
                "{:<11} at most {:>9} ({}); needs {}",
                resource.word(),
                resource.text(limit.limit),
                limit.source,
                resource.text(needed(need, resource))
            )
        })
        .collect()
}

/// How the limits on the whole replay are enforced, in a few words.
pub(crate) fn enforcement(by: &Enforcement, limits: &Limits) -> String {
    let (memory, tasks) = (limits.memory.limit, limits.tasks.limit);
    let most = format!("{} of memory, {} tasks", Resource::Memory.text(memory), units::count(tasks));
    match by {
        Enforcement::Cgroup { version } => format!("{most} at most, by a cgroup (v{version})"),
        Enforcement::Sampling { why } => format!("{most} at most, by sampling (no cgroup: {why})"),
        _ => most,
    }
}

/// The refusal of a trace that needs more than it may have.
pub(crate) fn refusal(error: TooMuch) -> Failure {
    let allow = format!("allow it: {}", error.resource.flag(error.need));
    if error.is_dishonest() {
        return Failure::new(Exit::BadTrace, error).fix(
            "do not trust this trace; `ctrace info` and `ctrace events` read it without running anything",
        );
    }
    let (exit, fix) = match error.limit.source {
        Source::Host => (Exit::Host, format!("replay it where more is free, or {allow}")),
        Source::Free => (Exit::Host, "replay it where more is free".to_owned()),
        Source::Own => (Exit::Host, format!("raise the hard limit first: `ulimit -Hn {}`", error.need)),
        _ => (Exit::Usage, allow),
    };
    Failure::new(exit, error).fix(fix)
}

/// A limit that was hit, with the flag that raises it.
pub(crate) fn sentence(hit: &Hit) -> String {
    if hit.host_ran_out || hit.limit.source == Source::Free {
        return format!("{hit}; replay it where more is free");
    }
    let more = hit.had.unwrap_or(0).max(hit.limit.limit.saturating_mul(2));
    format!("{hit}; {} allows more", hit.resource.flag(more))
}
