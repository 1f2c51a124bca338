//! Numbers of descriptors: used after they were made, made after they were free, closed after they were used.

use super::super::calls::Sc;
use super::super::emit::{EdgeKind, Needs};
use super::super::model::{Cx, Model};
use super::super::world::{FIONBIO, Mark, TaskIx};
use super::keep_latest;
use ctrace_analysis::fds::{Said, SocketEffect, TableId, socket_effect};
use ctrace_format::syscalls::Family;
use rustc_hash::FxHashMap;

/// Tasks that are kept of those that used a descriptor.
const USERS: usize = 16;
const EBADF: i64 = -9;
const KIND: EdgeKind = EdgeKind::Descriptor;

/// The last users of a number.
#[derive(Debug, Default, Clone)]
struct Number {
    made: Option<Mark>,
    /// The last use by each of those that used it last.
    used: Vec<Mark>,
    freed: Option<Mark>,
    /// When the number was given away last.
    given_ns: u64,
    /// The users of what had the number before, when it was given away before the close of that has returned.
    used_before: Vec<Mark>,
}

impl Number {
    /// Whether somebody has the number again before a close has returned.
    fn is_given_before(&self, model: &Model<'_>, cx: &Cx<'_>) -> bool {
        let closes = cx.known.row().family == Family::Close;
        // The call that has it may have begun before the close, and come to the table after it.
        closes && (self.given_ns > cx.call.t_ns || model.facts.closed_late.contains(&cx.id()))
    }
}

/// Descriptors, by table.
#[derive(Debug, Default)]
pub(crate) struct Descriptors {
    numbers: FxHashMap<(TableId, i32), Number>,
    /// Numbers that nobody gets before the accepts that were under way at the start have taken theirs.
    held: FxHashMap<TableId, Vec<i32>>,
    /// The accepts that were under way at the start, as far as they have returned.
    early: FxHashMap<TaskIx, Mark>,
}

impl Descriptors {
    pub(super) fn needs(&self, model: &Model<'_>, cx: &Cx<'_>, needs: &mut Needs) {
        let files = model.world.procs[cx.proc as usize].files;
        let number = |fd: i32| self.numbers.get(&(files, fd));
        for number in cx.uses().into_iter().filter_map(number) {
            let is_given = number.is_given_before(model, cx);
            needs.recorded(KIND, number.made.iter().filter(|_| !is_given));
            if cx.call.ret == EBADF {
                // Somebody else had closed it by then.
                needs.recorded(KIND, &number.freed);
            }
            if cx.known.row().family == Family::Close {
                needs.recorded(KIND, if is_given { &number.used_before } else { &number.used });
            }
        }
        if cx.call.ret >= 0 {
            for number in cx.makes().into_iter().filter_map(number) {
                // After who found it free.
                needs.recorded(KIND, &number.used);
                // A close gives the number back when it begins, so that another thread may have it before the close returns.
                // Here it has it after that: what came sooner would be what is closed.
                needs.done(KIND, number.freed.iter().filter(|mark| mark.task != cx.task));
            }
        }
        if let Some(close) = model.facts.closed_by_then.get(&cx.id())
            && model.is_next(*close)
        {
            // It has not returned yet: a close is one step, and the next of its task.
            needs.passed(KIND, close.0, 0);
        }
        for number in model.range_closed(cx).into_iter().filter_map(number) {
            needs.recorded(KIND, number.made.iter().chain(&number.used));
        }
    }

    pub(super) fn remember(&mut self, model: &Model<'_>, cx: &Cx<'_>, mark: Mark) {
        let files = model.world.procs[cx.proc as usize].files;
        let closes = cx.known.row().family == Family::Close;
        for fd in cx.uses() {
            let number = self.numbers.entry((files, fd)).or_default();
            if number.is_given_before(model, cx) {
                // Somebody had the number again before this returned.
                number.used_before.clear();
            } else if closes && cx.frees() {
                (number.made, number.freed) = (None, Some(mark));
                number.used.clear();
            } else {
                keep_latest(&mut number.used, mark, USERS);
            }
        }
        for fd in model.range_closed(cx) {
            self.numbers.insert((files, fd), Number { freed: Some(mark), ..Number::default() });
        }
        if cx.call.ret >= 0 {
            for fd in cx.makes() {
                let number = self.numbers.entry((files, fd)).or_default();
                let used = std::mem::take(&mut number.used);
                if !used.is_empty() {
                    number.used_before = used;
                }
                (number.made, number.freed, number.given_ns) = (Some(mark), None, mark.start_ns);
            }
        }
        if cx.seq == 0 && cx.accepting().is_some() && model.facts.early_accepts.contains_key(&files) {
            self.early.insert(cx.task, mark);
        }
        if let Some(fd) = changes_description(cx) {
            // Whoever uses it after that finds it connected, or bound, or as it was told to be.
            self.numbers.entry((files, fd)).or_default().made = Some(mark);
        }
    }

    /// Nobody gets these numbers before the accepts that were under way at the start have taken theirs.
    pub(crate) fn hold(&mut self, files: TableId, numbers: Vec<i32>) {
        self.held.insert(files, numbers);
    }

    /// Accepts that were under way when the recording began are made in the order in which they returned, since the one that
    /// has waited longest is given a connection first (`prepare_to_wait_exclusive`, `net/ipv4/inet_connection_sock.c`), and
    /// before anybody else takes a number. Returns what a call waits for because of that, and the numbers that are free from
    /// then on.
    pub(crate) fn after_early_accepts(&mut self, model: &Model<'_>, cx: &Cx<'_>) -> (Needs, Vec<i32>) {
        let mut needs = Needs::default();
        let files = model.world.procs[cx.proc as usize].files;
        let Some(accepts) = model.facts.early_accepts.get(&files) else { return (needs, Vec::new()) };
        let is_one = |task: TaskIx| model.is_next((task, 0));
        let is_early = is_one(cx.task) && accepts.iter().any(|(_, task)| *task == cx.task);
        let makes = self.held.contains_key(&files) && cx.call.ret >= 0 && !cx.makes().is_empty();
        if !is_early && !makes {
            return (needs, Vec::new());
        }
        for (task, fd, held) in early(accepts) {
            if is_early && task == cx.task {
                return (needs, if held { vec![fd] } else { Vec::new() });
            }
            if is_one(task) {
                // It frees the number that it is to take first.
                needs.entered_behind(KIND, task, u32::from(held));
            } else if let Some(mark) = self.early.get(&task).filter(|_| is_early) {
                needs.begun(KIND, *mark);
            }
        }
        let free = self.held.remove(&files);
        (needs, free.unwrap_or_default())
    }

    /// The number that a call takes although the descriptor that had it was closed by nobody who was seen: it is free from
    /// then on.
    pub(crate) fn closed_unseen(model: &Model<'_>, cx: &Cx<'_>) -> Option<i32> {
        model.facts.closed_unseen.contains(&cx.id()).then_some(cx.call.ret as i32)
    }

    pub(super) fn kept(&self) -> usize {
        self.numbers.len()
    }
}

/// Accepts that were under way at the start, in the order in which they began: their tasks, their numbers, and whether
/// something has the number until they begin, because another that began before took a higher one.
pub(crate) fn early(accepts: &[(i32, TaskIx)]) -> impl Iterator<Item = (TaskIx, i32, bool)> {
    accepts.iter().scan(i32::MIN, |highest, (fd, task)| {
        let held = *highest > *fd;
        *highest = (*highest).max(*fd);
        Some((*task, *fd, held))
    })
}

/// The descriptor of a call that makes a description another one for all who use it.
fn changes_description(cx: &Cx<'_>) -> Option<i32> {
    const F_SETFL: u64 = 4;
    let changes = match socket_effect(cx.known.sc, cx.call) {
        Some(SocketEffect::Named(_) | SocketEffect::Connects { said: Said::No, .. }) => false,
        Some(_) => true,
        None => {
            let command = cx.call.args[1];
            let sets = cx.known.sc == Sc::Fcntl && command == F_SETFL
                || cx.known.sc == Sc::Ioctl && command as u32 == FIONBIO;
            cx.call.ret == 0 && sets
        }
    };
    changes.then(|| cx.fd(0))
}
