//! Resources that a replay takes, with their words and flags.

use serde::Serialize;

/// Something that a replay takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Resource {
    /// Memory of all its processes, its memfds, shared memory and files (which are in memory) together, bytes.
    Memory,
    /// Processes and threads at a time, peers included.
    Tasks,
    /// Bytes that the files of the private root occupy; holes do not count.
    Disk,
    /// Files, directories and links of the private root.
    Files,
    /// Descriptors of one process.
    Descriptors,
    /// Addresses on the private loopback.
    Addresses,
    /// Time from the opening of the gate, ns.
    Duration,
}

impl Resource {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Memory,
        Self::Tasks,
        Self::Disk,
        Self::Files,
        Self::Descriptors,
        Self::Addresses,
        Self::Duration,
    ];

    /// Its word: `--max-WORD` sets the limit.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Tasks => "tasks",
            Self::Disk => "disk",
            Self::Files => "files",
            Self::Descriptors => "descriptors",
            Self::Addresses => "addresses",
            Self::Duration => "duration",
        }
    }

    /// A figure of it as people read it.
    pub fn text(self, value: u64) -> String {
        const UNITS: [(u64, &str); 4] =
            [(1 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
        match self {
            Self::Memory | Self::Disk => UNITS.iter().find(|(size, _)| value >= *size).map_or_else(
                || format!("{value} B"),
                |(size, unit)| format!("{:.1} {unit}", value as f64 / *size as f64),
            ),
            Self::Duration => match value / 1_000_000_000 {
                seconds @ 0..=299 => format!("{seconds} s"),
                seconds @ 300..=17_999 => format!("{} min", seconds.div_ceil(60)),
                seconds @ 18_000..=431_999 => format!("{} h", seconds.div_ceil(3600)),
                seconds => format!("{} days", seconds.div_ceil(86_400)),
            },
            _ => value.to_string(),
        }
    }

    /// So much of it, in words: `2.0 GiB of memory`, `40 tasks`.
    pub fn phrase(self, value: u64) -> String {
        match self {
            Self::Memory | Self::Disk => format!("{} of {}", self.text(value), self.word()),
            Self::Duration => self.text(value),
            _ => format!("{} {}", self.text(value), self.word()),
        }
    }

    /// The value of the flag that allows `value`.
    pub fn flag(self, value: u64) -> String {
        let word = self.word();
        match self {
            Self::Memory | Self::Disk => format!("--max-{word} {}M", value.div_ceil(1 << 20)),
            Self::Duration => format!("--max-{word} {}s", value.div_ceil(1_000_000_000)),
            _ => format!("--max-{word} {value}"),
        }
    }
}
