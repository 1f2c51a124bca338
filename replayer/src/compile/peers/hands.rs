//! Tasks that play the clients: a lane of its own for each connection while there are few, and hands for many.
//!
//! A program that opens thousands of connections a second is one task, or few, and not a task for each connection. It goes
//! from one connection to the next without sleeping when it is late, and connects in one order without a word to anybody.
//! When lanes run short and some of them are free, new clients are *shared*: each act of such a client (a connect, a
//! message, an end) is played by the task that is free by then and was busy last. The steps of each task stay in the order
//! of the recording, so a task that is held up by one connection holds up only what came later, and no waits go in circles.

use super::{Conn, LANES, Lane, Leaving, Peers, REST_NS, Turn};
use crate::compile::CompileError;
use crate::compile::emit::{EdgeKind, Emit};
use crate::compile::firsts::First;
use crate::compile::world::SockIx;
use ctrace_program::{Kind, Step, Wait};

/// So many shared clients may be there that the workload has left.
pub(super) const LEFT: usize = 32;

/// One act of a connection: who plays it, and what its first step waits for.
#[derive(Debug)]
pub(super) struct Act {
    pub(super) task: u32,
    waits: Vec<Wait>,
    /// Recorded time of what the task does before it.
    pub(super) before_ns: u64,
}

impl Act {
    /// Adds what the next step waits for.
    pub(super) fn wait(&mut self, emit: &mut Emit, kind: EdgeKind, wait: Wait) {
        emit.wait(self.task, kind, wait, &mut self.waits);
    }

    /// Appends a step.
    pub(super) fn put(&mut self, emit: &mut Emit, step: &Step) -> Result<Wait, CompileError> {
        let index = emit.put_after(self.task, step, &std::mem::take(&mut self.waits))?;
        Ok(Wait::completed(self.task, index))
    }
}

impl Peers {
    /// A lane that was free before `at_ns`, for a connection alone.
    pub(super) fn lane(&mut self, emit: &mut Emit, at_ns: u64) -> Result<usize, CompileError> {
        // One that was free for a while, so that what is late in the replay does not hold up what comes next; when there
        // are many, any.
        let rest_ns = if self.lanes.len() < LANES { REST_NS } else { 0 };
        if let Some(&(free_ns, ix)) = self.free.first()
            && free_ns.saturating_add(rest_ns) <= at_ns
        {
            self.free.pop_first();
            return Ok(ix);
        }
        self.new_lane(emit)
    }

    fn new_lane(&mut self, emit: &mut Emit) -> Result<usize, CompileError> {
        let name = format!("peer {}", self.lanes.len());
        let task = self.thread(emit, name)?;
        emit.put(task, &Step::of(Kind::Gate))?;
        let fd = self.new_fd();
        self.lanes.push(Lane { task, fd });
        Ok(self.lanes.len() - 1)
    }

    /// The task that is to play a client that comes at `at_ns`. None: whoever is free at each of its acts.
    pub(super) fn lane_of_client(
        &mut self,
        emit: &mut Emit,
        at_ns: u64,
    ) -> Result<Option<usize>, CompileError> {
        let rested = self.free.first().is_some_and(|(free_ns, _)| free_ns.saturating_add(REST_NS) <= at_ns);
        let crowded = self.lanes.len() >= LANES && !rested;
        if crowded && self.hand(at_ns).is_some() {
            return Ok(None);
        }
        self.lane(emit, at_ns).map(Some)
    }

    /// The task that was busy last of those that are free by `at_ns`.
    fn hand(&self, at_ns: u64) -> Option<(u64, usize)> {
        self.free.range(..=(at_ns, usize::MAX)).next_back().copied()
    }

    /// Begins an act of nobody's connection so far.
    pub(super) fn act_at(
        &mut self,
        emit: &mut Emit,
        lane: Option<usize>,
        at_ns: u64,
    ) -> Result<(Act, usize), CompileError> {
        let (before_ns, lane) = if let Some(lane) = lane {
            (0, lane)
        } else {
            let (before_ns, hand) = match self.hand(at_ns) {
                Some(hand) => hand,
                None => (0, self.new_lane(emit)?),
            };
            self.free.remove(&(before_ns, hand));
            self.free.insert((at_ns, hand));
            (before_ns, hand)
        };
        Ok((Act { task: self.lanes[lane].task, waits: Vec::new(), before_ns }, lane))
    }

    /// Begins an act of a connection at `at_ns`: after those before it.
    pub(super) fn act(&mut self, emit: &mut Emit, conn: &mut Conn, at_ns: u64) -> Result<Act, CompileError> {
        conn.last_act_ns = conn.last_act_ns.max(at_ns);
        let own = (!conn.shared).then_some(conn.lane);
        let (mut act, lane) = self.act_at(emit, own, conn.last_act_ns)?;
        conn.lane = lane;
        if let Some(done) = conn.done {
            act.wait(emit, EdgeKind::Connection, done);
        }
        Ok(act)
    }

    /// A shared client will say this first.
    pub(crate) fn speaks(&mut self, sock: SockIx, first: First) {
        if let Some(conn) = self.conns.get(&sock).filter(|conn| conn.shared) {
            let at_ns = first.at_ns.map_or(conn.last_act_ns, |at_ns| at_ns.max(conn.last_act_ns));
            self.firsts.insert((at_ns, sock), first.bytes);
        }
    }

    /// Shared clients say what they said first up to `at_ns`.
    pub(super) fn catch_up(&mut self, emit: &mut Emit, at_ns: u64) -> Result<(), CompileError> {
        while let Some(first) = self.firsts.first_entry().filter(|first| first.key().0 <= at_ns) {
            let ((at_ns, sock), bytes) = first.remove_entry();
            let turn = Turn { after_sent: 0, at_ns, last_send_ns: 0 };
            self.say(emit, sock, bytes, turn, None, &[])?;
            if let Some(conn) = self.conns.get_mut(&sock) {
                conn.said = bytes;
            }
        }
        Ok(())
    }

    /// All but the last few shared clients leave that the workload has left by `at_ns`. Nobody sees when they do: to wait a
    /// little lets a task that plays many go on while the workload is still about to close.
    pub(super) fn all_leave(&mut self, emit: &mut Emit, but: usize, at_ns: u64) -> Result<(), CompileError> {
        while self.left.len() > but
            && let Some((mut conn, leaving)) = self.left.pop_front()
        {
            let act = self.act(emit, &mut conn, at_ns)?;
            self.part(emit, act, &mut conn, Leaving { at_ns, ..leaving })?;
            self.free(&conn, at_ns);
        }
        Ok(())
    }

    /// The last step so far of who plays the other end of a socket.
    pub(crate) fn last_step(&self, emit: &Emit, sock: SockIx) -> Option<Wait> {
        let conn = self.conns.get(&sock)?;
        if conn.shared {
            return conn.done;
        }
        let task = self.lanes[conn.lane].task;
        emit.next_step(task).checked_sub(1).map(|step| Wait::completed(task, step))
    }

    /// A descriptor for a client that is played by whoever is free, and the close that gave it back.
    pub(super) fn fd_of_shared(&mut self) -> (u32, Option<Wait>) {
        match self.free_fds.pop_front() {
            Some((fd, closed)) => (fd, Some(closed)),
            None => (self.new_fd(), None),
        }
    }

    /// A connection is over: its task, or its descriptor, is free.
    pub(super) fn free(&mut self, conn: &Conn, at_ns: u64) {
        if !conn.shared {
            self.free.insert((at_ns, conn.lane));
        } else if let Some(closed) = conn.done {
            self.free_fds.push_back((conn.fd, closed));
        }
    }
}
