//! Pseudo terminals that the workload makes. A recording keeps no contents: how many bytes went in and came out on either side
//! tells whether a terminal echoes, and how many lines ended in what was written to it.

use super::CompileError;
use super::budget::Budget;
use super::calls::Sc;
use super::steps::terminals::{TIOCGPTN, TIOCSPTLCK};
use super::world::{OfdIx, OfdKind, TaskIx, World, detail_value};
use ctrace_format::Syscall;
use rustc_hash::{FxHashMap, FxHashSet};

/// The call of a task: its number among them.
type Place = (TaskIx, u32);
/// Terminals that are told apart.
const TERMINALS_MAX: usize = 256;
/// Writes to a terminal among which ends of lines are shared out.
const WRITES_MAX: usize = 256;

/// Whether a device is a pseudo terminal, or what makes them (`ptmx`): a sandbox has its own.
pub(crate) fn is_pseudo_terminal(rdev: u64) -> bool {
    const PTMX: (u64, u64) = (5, 2);
    let (major, minor) = (rdev >> 8 & 0xfff, rdev & 0xff);
    (136..144).contains(&major) || (major, minor) == PTMX
}

/// A side of a terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Master,
    Slave,
}

/// The number of the terminal that a description is of, and which side.
fn side_of(world: &World, ofd: OfdIx) -> Option<(u64, Side)> {
    if let Some(number) = world.ptys.get(&ofd) {
        return Some((*number, Side::Master));
    }
    let OfdKind::Node { path, .. } = world.ofds[ofd as usize].kind else { return None };
    let name = world.paths.get(path).strip_prefix(b"/dev/pts/")?;
    let node = world.fs.node(world.inode_of(ofd)?);
    let number =
        is_pseudo_terminal(node.rdev).then(|| std::str::from_utf8(name).ok()?.parse().ok()).flatten()?;
    Some((number, Side::Slave))
}

/// The bytes that went in on one side and came out on the other.
#[derive(Debug, Clone, Copy, Default)]
struct Way {
    /// Bytes, as far as the writes tell.
    written: u64,
    read: u64,
    /// More was read than written, as it seemed, by a terminal that had the number before.
    is_unexplained: bool,
}

impl Way {
    fn is_explained(self) -> bool {
        self.read <= self.written && !self.is_unexplained
    }
}

/// A pseudo terminal.
#[derive(Debug, Default)]
struct Terminal {
    to_master: Way,
    to_slave: Way,
    /// The writes to the terminal whose ends of lines were not seen to be read yet, and those to its master whose echo was not:
    /// where, how many bytes.
    from_within: Vec<(Place, u64)>,
    from_master: Vec<(Place, u64)>,
    /// The calls that unlocked it.
    unlocked: Vec<Place>,
}

/// Collects them over the events of a recording.
#[derive(Debug, Default)]
pub(crate) struct Terminals {
    by_number: FxHashMap<u64, Terminal>,
    /// Calls that unlocked terminals which echo, and writes to masters that were echoed.
    echoing: FxHashSet<Place>,
    echoed: FxHashSet<Place>,
    /// Ends of lines in what was written to a terminal.
    lines: FxHashMap<Place, u64>,
}

impl Terminals {
    /// Whether there are none.
    pub(crate) fn is_empty(&self) -> bool {
        self.by_number.is_empty()
    }

    /// The numbers of those that were made.
    pub(crate) fn numbers(&self) -> impl Iterator<Item = u64> {
        self.by_number.keys().copied()
    }

    /// Whether the terminal echoes that a call of a task unlocks.
    pub(crate) fn echoes(&self, task: TaskIx, seq: u32) -> bool {
        self.echoing.contains(&(task, seq))
    }

    /// Whether a write to a master was echoed.
    pub(crate) fn is_echoed(&self, task: TaskIx, seq: u32) -> bool {
        self.echoed.contains(&(task, seq))
    }

    /// How many ends of lines a write to a terminal had.
    pub(crate) fn lines(&self, task: TaskIx, seq: u32) -> u64 {
        self.lines.get(&(task, seq)).copied().unwrap_or(0)
    }

    /// Whether all that was read from a description, of either side of a terminal, is known to be written here as well.
    pub(crate) fn gives_all(&self, world: &World, ofd: OfdIx) -> bool {
        let Some((number, side)) = side_of(world, ofd) else { return false };
        self.by_number.get(&number).is_some_and(|terminal| match side {
            Side::Master => terminal.to_master.is_explained(),
            Side::Slave => terminal.to_slave.is_explained(),
        })
    }

    /// A call of a task, the so-manieth, on a description.
    pub(crate) fn call(
        &mut self,
        world: &World,
        budget: Budget,
        place: Place,
        call: &Syscall,
        sc: Sc,
    ) -> Result<(), CompileError> {
        if !matches!(sc, Sc::Read | Sc::Readv | Sc::Write | Sc::Writev | Sc::Ioctl) || call.ret < 0 {
            return Ok(());
        }
        let Some(ofd) = world.ofd_of(place.0, call.args[0] as i32) else { return Ok(()) };
        if sc == Sc::Ioctl {
            self.made(world, ofd, call, place);
        } else if !self.by_number.is_empty()
            && call.ret > 0
            && let Some((number, side)) = side_of(world, ofd)
            && let Some(terminal) = self.by_number.get_mut(&number)
        {
            let bytes = call.ret as u64;
            let add = |to: &mut u64| *to = to.saturating_add(bytes);
            // Here, a write of several buffers has no ends of lines.
            match (side, sc) {
                (Side::Master, Sc::Write | Sc::Writev) => {
                    add(&mut terminal.to_slave.written);
                    if sc == Sc::Write {
                        remember(&mut terminal.from_master, (place, bytes));
                    }
                }
                (Side::Master, _) => {
                    add(&mut terminal.to_master.read);
                    self.explain(number);
                }
                (Side::Slave, Sc::Write | Sc::Writev) => {
                    add(&mut terminal.to_master.written);
                    if sc == Sc::Write {
                        remember(&mut terminal.from_within, (place, bytes));
                    }
                }
                (Side::Slave, _) => add(&mut terminal.to_slave.read),
            }
            budget.things("ends of lines", self.lines.len().max(self.echoed.len()))?;
        }
        Ok(())
    }

    fn made(&mut self, world: &World, ofd: OfdIx, call: &Syscall, place: Place) {
        match call.args[1] as u32 {
            // Asked for the first time of this master: one of a number that may have been used before.
            TIOCGPTN if !world.ptys.contains_key(&ofd) && self.by_number.len() < TERMINALS_MAX => {
                let Some(number) = detail_value(call, 2) else { return };
                let terminal = self.by_number.entry(number).or_default();
                let next = |way: Way| Way { is_unexplained: !way.is_explained(), ..Way::default() };
                let (to_master, to_slave) = (next(terminal.to_master), next(terminal.to_slave));
                *terminal = Terminal { to_master, to_slave, ..Terminal::default() };
            }
            TIOCSPTLCK => {
                if let Some(terminal) = world.ptys.get(&ofd).and_then(|n| self.by_number.get_mut(n)) {
                    terminal.unlocked.push(place);
                }
            }
            _ => {}
        }
    }

    /// More came out of a terminal than was written to it: ends of lines have become two characters, or what was typed was
    /// echoed.
    fn explain(&mut self, number: u64) {
        let Some(terminal) = self.by_number.get_mut(&number) else { return };
        let way = &mut terminal.to_master;
        let surplus = way.read.saturating_sub(way.written);
        if surplus == 0 {
            if way.read == way.written {
                terminal.from_within.clear();
            }
            return;
        }
        let room = terminal.from_within.iter().fold(0_u64, |sum, (_, bytes)| sum.saturating_add(*bytes));
        let (ends, writes) = if surplus <= room {
            (surplus, std::mem::take(&mut terminal.from_within))
        } else if let Some((typed, first)) = typed_last(&terminal.from_master, surplus) {
            let mut all = std::mem::take(&mut terminal.from_master);
            let writes = all.split_off(first);
            self.echoing.extend(terminal.unlocked.iter().copied());
            self.echoed.extend(writes.iter().map(|(place, _)| *place));
            (surplus - typed, writes)
        } else {
            return;
        };
        let shares = shared_out(ends, writes.iter().map(|(_, bytes)| *bytes));
        let places = writes.iter().map(|(place, _)| *place);
        self.lines.extend(places.zip(shares).filter(|(_, lines)| *lines > 0));
        way.written += surplus;
    }
}

/// Remembers one more write, of the last so many.
fn remember(writes: &mut Vec<(Place, u64)>, write: (Place, u64)) {
    if writes.len() >= WRITES_MAX {
        writes.remove(0);
    }
    writes.push(write);
}

/// As few of the last writes as have so many bytes when they are echoed, perhaps with ends of lines that become two characters:
/// how many bytes they are, and which is the first.
fn typed_last(writes: &[(Place, u64)], echo: u64) -> Option<(u64, usize)> {
    let mut typed = 0_u64;
    for (first, (_, bytes)) in writes.iter().enumerate().rev() {
        typed = typed.saturating_add(*bytes);
        if (typed..=typed.saturating_mul(2)).contains(&echo) {
            return Some((typed, first));
        }
    }
    None
}

/// Shares out so many ends of lines among writes of so many bytes, as evenly as those allow it.
fn shared_out(lines: u64, writes: impl ExactSizeIterator<Item = u64> + Clone) -> Vec<u64> {
    let (mut left, mut to_come) = (lines, writes.len() as u64);
    let mut shares: Vec<u64> = Vec::with_capacity(writes.len());
    for bytes in writes.clone() {
        let share = left.div_ceil(to_come).min(bytes);
        shares.push(share);
        left -= share;
        to_come -= 1;
    }
    for (share, bytes) in shares.iter_mut().zip(writes) {
        let more = left.min(bytes - *share);
        *share += more;
        left -= more;
    }
    shares
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_writes_are_the_ones_that_were_echoed() {
        let typed = |bytes: &[u64], echo| {
            let writes: Vec<(Place, u64)> = bytes.iter().map(|bytes| ((0, 0), *bytes)).collect();
            typed_last(&writes, echo)
        };
        assert_eq!(typed(&[5], 6), Some((5, 0)));
        assert_eq!(typed(&[1, 2], 3), Some((2, 1)));
        assert_eq!(typed(&[4, 1, 1], 7), Some((6, 0)));
        assert_eq!(typed(&[4], 9), None);
        assert_eq!(typed(&[], 1), None);
    }

    #[test]
    fn ends_of_lines_are_shared_out_among_writes() {
        let share = |lines, writes: &[u64]| shared_out(lines, writes.iter().copied());
        assert_eq!(share(5, &[54, 44, 55, 53, 3]), [1; 5]);
        assert_eq!(share(7, &[1, 9, 2]), [1, 4, 2]);
        assert_eq!(share(9, &[9, 1, 1]), [7, 1, 1]);
        assert_eq!(share(0, &[3]), [0]);
        assert_eq!(share(u64::MAX, &[1, u64::MAX - 1]), [1, u64::MAX - 1]);
    }
}
