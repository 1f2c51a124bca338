//! The kinds of pressure that are asked for.

use std::fmt;
use std::str::FromStr;

/// A kind of pressure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// CPU time: quota, throttling, and time used.
    Cpu,
    /// Neighbours that want the same CPUs.
    Contention,
    /// Memory.
    Memory,
    /// Waits for a disk.
    Disk,
    /// Tasks.
    Pids,
}

impl Kind {
    /// All kinds.
    pub const ALL: [Self; 5] = [Self::Cpu, Self::Contention, Self::Memory, Self::Disk, Self::Pids];

    /// Its word on the command line.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Contention => "contention",
            Self::Memory => "memory",
            Self::Disk => "disk",
            Self::Pids => "pids",
        }
    }
}

/// A set of kinds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Selection(u8);

impl Selection {
    /// Every kind.
    pub const ALL: Self = Self(u8::MAX);
    /// No kind.
    pub const NONE: Self = Self(0);

    /// Whether a kind is in it.
    pub const fn has(self, kind: Kind) -> bool {
        self.0 & (1 << kind as u8) != 0
    }
}

/// A word that names no kind of pressure.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no pressure {word:?}; there are: recorded, off, {}", words())]
pub struct UnknownKind {
    /// The word.
    pub word: String,
}

/// The words of all kinds.
struct Words;

fn words() -> Words {
    Words
}

impl fmt::Display for Words {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&Kind::ALL.map(Kind::word).join(", "))
    }
}

/// `recorded`, `off`, or kinds with commas between them.
impl FromStr for Selection {
    type Err = UnknownKind;

    fn from_str(text: &str) -> Result<Self, UnknownKind> {
        match text.trim() {
            "recorded" => return Ok(Self::ALL),
            "off" => return Ok(Self::NONE),
            _ => {}
        }
        text.split(',').map(str::trim).try_fold(Self::NONE, |so_far, word| {
            let kind = Kind::ALL.into_iter().find(|kind| kind.word() == word);
            let kind = kind.ok_or_else(|| UnknownKind { word: word.to_owned() })?;
            Ok(Self(so_far.0 | 1 << kind as u8))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_chosen_by_their_words() {
        assert_eq!("recorded".parse(), Ok(Selection::ALL));
        assert_eq!("off".parse(), Ok(Selection::NONE));
        let some: Selection = "cpu, memory".parse().unwrap();
        assert!(some.has(Kind::Cpu) && some.has(Kind::Memory) && !some.has(Kind::Pids));
        for wrong in ["", "cpu,", "recorded,cpu", "disc", "CPU"] {
            let error = wrong.parse::<Selection>().unwrap_err().to_string();
            assert!(
                error.ends_with("there are: recorded, off, cpu, contention, memory, disk, pids"),
                "{error}"
            );
        }
    }
}
