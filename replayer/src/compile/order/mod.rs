//! The causes that a step needs: for each subject, what a call has to wait for, and what those after it have to know of it.
//! Decides from the recorded times and from what was there; knows nothing of how steps are written.

mod arrivals;
mod bytes;
mod descriptors;
mod fifos;
mod files;
mod locks;
mod memory;
mod processes;
mod readiness;
mod registrations;
mod signals;
mod streams;

use super::emit::Needs;
use super::model::{Cx, Model};
use super::world::{Mark, OfdIx, SockIx, TaskIx};
use arrivals::Arriving;
use bytes::Bytes;
pub(crate) use descriptors::{Descriptors, early};
use fifos::Fifos;
use files::Files;
use locks::Locks;
use memory::Memory;
pub(crate) use processes::Processes;
use readiness::Readiness;
use registrations::Registrations;
use signals::Signals;
use std::collections::VecDeque;
use streams::Streams;

/// Calls that are kept of those that read or wrote the same. The last one alone would not do: calls are told in the order in
/// which they ended, and those that began late and were quick hide who is to be waited for.
const RIVALS: usize = 16;

/// The calls so far, by the things that they were about.
#[derive(Debug, Default)]
pub(crate) struct Order {
    pub(crate) descriptors: Descriptors,
    files: Files,
    fifos: Fifos,
    pub(crate) streams: Streams,
    bytes: Bytes,
    pub(crate) arrivals: Arriving,
    readiness: Readiness,
    registrations: Registrations,
    locks: Locks,
    memory: Memory,
    pub(crate) signals: Signals,
    pub(crate) processes: Processes,
}

impl Order {
    /// The needs of a call, as far as others made it possible.
    pub(crate) fn needs(&self, model: &Model<'_>, cx: &Cx<'_>) -> Needs {
        let mut needs = Needs::default();
        self.descriptors.needs(model, cx, &mut needs);
        self.files.needs(model, cx, &mut needs);
        self.fifos.needs(model, cx, &mut needs);
        self.streams.needs(model, cx, &mut needs);
        self.bytes.needs(model, cx, &mut needs);
        self.arrivals.needs(model, cx, &mut needs);
        self.readiness.needs(model, cx, &mut needs);
        self.registrations.needs(model, cx, &mut needs);
        self.locks.needs(model, cx, &mut needs);
        self.memory.needs(model, cx, &mut needs);
        self.signals.needs(model, cx, &self.processes, &mut needs);
        self.streams.ends(model, cx, &mut needs);
        self.processes.needs(model, cx, &mut needs);
        needs
    }

    /// Remembers what a call did, for those that come after it.
    pub(crate) fn remember(&mut self, model: &Model<'_>, cx: &Cx<'_>, mark: Mark) {
        self.descriptors.remember(model, cx, mark);
        self.files.remember(model, cx, mark);
        self.fifos.remember(model, cx, mark);
        self.streams.remember(model, cx, mark);
        self.bytes.remember(model, cx, mark);
        self.arrivals.remember(model, cx, mark);
        self.readiness.remember(model, cx, mark);
        self.registrations.remember(model, cx, mark);
        self.locks.remember(model, cx, mark);
        self.memory.remember(model, cx, mark);
        self.signals.remember(model, cx, mark);
        self.processes.remember(cx, mark);
    }

    /// A description is over; its index will be used again.
    pub(crate) fn forget_description(&mut self, ofd: OfdIx) {
        self.files.forget(ofd);
        self.readiness.forget(ofd);
        self.registrations.forget(ofd);
    }

    /// A socket is over.
    pub(crate) fn forget_socket(&mut self, model: &Model<'_>, sock: SockIx) {
        self.streams.forget(model, sock);
        self.bytes.forget(model, sock);
        self.arrivals.forget(sock);
    }

    /// The sizes of the tables that grow with the number of different things in a trace.
    pub(crate) fn kept(&self) -> [(&'static str, usize); 2] {
        [("descriptor numbers", self.descriptors.kept()), ("names that calls are about", self.files.kept())]
    }
}

/// The last call of each task that began before `start_ns`.
fn before<'a>(
    marks: impl IntoIterator<Item = &'a VecDeque<Mark>>,
    start_ns: u64,
) -> impl Iterator<Item = &'a Mark> {
    let mut met: Vec<TaskIx> = Vec::new();
    let marks = marks.into_iter().flat_map(|marks| marks.iter().rev());
    marks.filter(move |mark| mark.start_ns < start_ns).filter(move |mark| {
        let known = met.contains(&mark.task);
        if !known && mark.end_ns <= start_ns {
            met.push(mark.task);
        }
        !known
    })
}

/// Keeps the last marks.
fn keep(marks: &mut VecDeque<Mark>, mark: Mark) {
    if marks.len() >= RIVALS {
        marks.pop_front();
    }
    marks.push_back(mark);
}

/// Keeps the last mark of each task, and of the tasks the last `most`.
fn keep_latest(marks: &mut Vec<Mark>, mark: Mark, most: usize) {
    marks.retain(|m| m.task != mark.task);
    if marks.len() >= most {
        marks.remove(0);
    }
    marks.push(mark);
}
