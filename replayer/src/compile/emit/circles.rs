//! Waits that can never hold: tasks that wait for each other in a circle, and waits for a step that nobody gets to.
//!
//! The compiler derives waits from recorded times, so a circle is a bug of its (or a trace that contradicts itself). It is
//! found here, before anything runs, and cut where the recording justifies it least; what was cut is said.
//!
//! The check plays the program through without making a call: each task goes on until it has to wait, and is called again
//! when another gets there. That takes memory for the tasks, not for the steps. When nobody can go on, who waits for whom is
//! a graph of tasks, and its strongly connected components are the circles.

use ctrace_program::{DecodeError, Kind, PlacedStep, PlacedWait, Program, task_flags};
use petgraph::algo::tarjan_scc;
use petgraph::graphmap::DiGraphMap;
use serde::Serialize;
use std::collections::{BTreeMap, VecDeque};

/// Most waits that are cut. A program with more is beyond help: its replay forces the rest.
const CUTS_MAX: usize = 4096;

/// A wait that was cut.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Cut {
    /// The step that waited: task, step, and when it was recorded.
    pub task: u32,
    /// Its index.
    pub step: u32,
    /// When it was recorded, ns.
    pub t_ns: u64,
    /// The task that it waited for.
    pub on: u32,
    /// The tasks of the circle; empty: nobody would have got there.
    pub circle: Vec<u32>,
}

/// A task, on its way through its steps.
struct Walker {
    /// Chunk that is read next.
    chunk: u32,
    /// What is left of the one before: steps that wait or give birth.
    stops: VecDeque<PlacedStep>,
    /// How far it has got: all before this is reached.
    seq: u32,
    /// It exists, and has not come to its end.
    alive: bool,
}

/// Plays a sealed program.
struct Walk<'a> {
    program: &'a Program,
    walkers: Vec<Walker>,
    /// Who waits for a task to get somewhere: by that task and its sequence number.
    waiting: BTreeMap<(u32, u32), Vec<u32>>,
    ready: VecDeque<u32>,
}

/// Finds the waits that can never hold, and takes them back.
pub(super) fn cut(program: &Program) -> Result<Vec<Cut>, DecodeError> {
    let mut walk = Walk::new(program);
    let mut cuts = Vec::new();
    loop {
        walk.run()?;
        if walk.waiting.is_empty() || cuts.len() >= CUTS_MAX {
            return Ok(cuts);
        }
        walk.cut_some(&mut cuts)?;
    }
}

impl<'a> Walk<'a> {
    fn new(program: &'a Program) -> Self {
        let walkers: Vec<Walker> = program
            .tasks
            .iter()
            .map(|entry| {
                let alive = entry.flags & (task_flags::AT_GATE | task_flags::ROOT) != 0;
                Walker { chunk: 0, stops: VecDeque::new(), seq: 0, alive }
            })
            .collect();
        let ready = (0..program.tasks.len() as u32).filter(|task| walkers[*task as usize].alive).collect();
        Self { program, walkers, waiting: BTreeMap::new(), ready }
    }

    /// Lets everybody go on who can.
    fn run(&mut self) -> Result<(), DecodeError> {
        while let Some(task) = self.ready.pop_front() {
            self.advance(task)?;
        }
        Ok(())
    }

    /// The next step of a task that waits or gives birth; `None`: there is none.
    fn next_stop(&mut self, task: u32) -> Result<Option<&PlacedStep>, DecodeError> {
        while self.walkers[task as usize].stops.is_empty() {
            let chunk = self.walkers[task as usize].chunk;
            let steps = self.program.chunk(task, chunk)?;
            if steps.is_empty() {
                return Ok(None);
            }
            let births = |step: &PlacedStep| step.step.kind == Kind::Clone as u8;
            let stops = steps.into_iter().filter(|step| !step.waits.is_empty() || births(step)).collect();
            let walker = &mut self.walkers[task as usize];
            (walker.chunk, walker.stops) = (chunk + 1, stops);
        }
        Ok(self.walkers[task as usize].stops.front())
    }

    /// A task goes on until it has to wait, or to its end.
    fn advance(&mut self, task: u32) -> Result<(), DecodeError> {
        loop {
            let Some(stop) = self.next_stop(task)? else {
                self.walkers[task as usize].alive = false;
                let steps = self.program.tasks[task as usize].steps;
                // Everything that it has is done.
                self.reach(task, steps.saturating_mul(2));
                return Ok(());
            };
            let (index, kind, child) = (stop.index, stop.step.kind, stop.step.aux as u32);
            let waits: Vec<PlacedWait> = stop.waits.clone();
            // It has completed what comes before.
            self.reach(task, index * 2);
            if let Some(wait) = waits.iter().find(|wait| !self.holds(wait)) {
                self.waiting.entry((wait.wait.task, wait.wait.seq)).or_default().push(task);
                return Ok(());
            }
            self.walkers[task as usize].stops.pop_front();
            self.reach(task, index * 2 + 2);
            if kind == Kind::Clone as u8
                && let Some(born) = self.walkers.get_mut(child as usize)
                && !born.alive
                && born.seq == 0
            {
                born.alive = true;
                self.ready.push_back(child);
            }
        }
    }

    fn holds(&self, wait: &PlacedWait) -> bool {
        self.walkers.get(wait.wait.task as usize).is_none_or(|walker| walker.seq >= wait.wait.seq)
    }

    /// A task has got to a sequence number: who waited for that goes on.
    fn reach(&mut self, task: u32, seq: u32) {
        let walker = &mut self.walkers[task as usize];
        walker.seq = walker.seq.max(seq);
        let reached = walker.seq;
        while let Some((&at, _)) = self.waiting.range((task, 0)..=(task, reached)).next() {
            self.ready.extend(self.waiting.remove(&at).unwrap_or_default());
        }
    }

    /// Cuts a wait of each circle; where there is none, every wait for somebody who is at an end.
    fn cut_some(&mut self, cuts: &mut Vec<Cut>) -> Result<(), DecodeError> {
        let mut waits_for: DiGraphMap<u32, ()> = DiGraphMap::new();
        for ((on, _), tasks) in &self.waiting {
            for task in tasks {
                waits_for.add_edge(*task, *on, ());
            }
        }
        let circles: Vec<Vec<u32>> = tarjan_scc(&waits_for)
            .into_iter()
            .filter(|tasks| tasks.len() > 1 || tasks.iter().any(|task| waits_for.contains_edge(*task, *task)))
            .collect();
        let blocked: BTreeMap<u32, u32> =
            self.waiting.iter().flat_map(|((on, _), tasks)| tasks.iter().map(|task| (*task, *on))).collect();
        if circles.is_empty() {
            for (task, on) in blocked.iter().filter(|(_, on)| !blocked.contains_key(on)) {
                self.cut_one(*task, *on, Vec::new(), cuts)?;
            }
            return Ok(());
        }
        for mut circle in circles {
            circle.sort_unstable();
            // Whoever waits for what was recorded the longest after its own step has the least reason to.
            let most = circle.iter().filter_map(|task| Some((*task, *blocked.get(task)?))).max_by_key(
                |(task, on)| {
                    let at = |task: &u32| {
                        self.walkers[*task as usize].stops.front().map_or(u64::MAX, |stop| stop.step.t_ns)
                    };
                    at(on).saturating_sub(at(task))
                },
            );
            if let Some((task, on)) = most {
                self.cut_one(task, on, circle, cuts)?;
            }
        }
        Ok(())
    }

    /// Takes back what a task waits for at its present step.
    fn cut_one(
        &mut self,
        task: u32,
        on: u32,
        circle: Vec<u32>,
        cuts: &mut Vec<Cut>,
    ) -> Result<(), DecodeError> {
        self.waiting.retain(|_, tasks| {
            tasks.retain(|other| *other != task);
            !tasks.is_empty()
        });
        let Some(position) = self.walkers[task as usize]
            .stops
            .front()
            .and_then(|stop| stop.waits.iter().position(|wait| !self.holds(wait)))
        else {
            return Ok(());
        };
        if let Some(stop) = self.walkers[task as usize].stops.front_mut() {
            let wait = stop.waits.remove(position);
            self.program.take_back(&wait)?;
            cuts.push(Cut { task, step: stop.index, t_ns: stop.step.t_ns, on, circle });
        }
        self.ready.push_back(task);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ctrace_program::{ProgramBuilder, Step, TaskInfo, Wait};
    use proptest::prelude::*;

    /// Tasks that all are there from the start, with as many steps each.
    fn program(tasks: u32, steps: u32, waits: &[(u32, u32, Wait)]) -> Program {
        let mut builder = ProgramBuilder::new(tempfile::tempfile().unwrap()).unwrap();
        for task in 0..tasks {
            let root = if task == 0 { task_flags::ROOT } else { 0 };
            builder.task(&TaskInfo { flags: root | task_flags::AT_GATE, ..TaskInfo::default() }).unwrap();
        }
        for task in 0..tasks {
            for step in 0..steps {
                let own: Vec<Wait> =
                    waits.iter().filter(|w| (w.0, w.1) == (task, step)).map(|w| w.2).collect();
                let call = Step { t_ns: u64::from(step) * 100 + u64::from(task), ..Step::call(39) };
                builder.push_after(task, &call, &own).unwrap();
            }
        }
        Program::open(builder.seal().unwrap()).unwrap()
    }

    fn waits_of(program: &Program) -> Vec<(u32, u32, Wait)> {
        let mut out = Vec::new();
        for task in 0..program.header.tasks {
            for index in 0..program.tasks[task as usize].steps {
                let step = program.step(task, index).unwrap();
                out.extend(program.waits(&step).unwrap().into_iter().map(|wait| (task, index, wait)));
            }
        }
        out
    }

    #[test]
    fn waits_that_follow_time_are_left_alone() {
        let waits = [
            (0, 5, Wait::completed(1, 4)),
            (1, 700, Wait::completed(0, 690)),
            (1, 3, Wait::entered(2, 3)),
            (2, 701, Wait::completed(1, 700)),
        ];
        let program = program(3, 800, &waits);
        assert_eq!(cut(&program).unwrap(), []);
        assert_eq!(waits_of(&program).len(), waits.len());
    }

    #[test]
    fn a_circle_is_cut_where_the_recording_justifies_it_least() {
        let circle = [(0, 300, Wait::completed(1, 310)), (1, 305, Wait::completed(0, 302))];
        let program = program(2, 400, &circle);
        let cuts = cut(&program).unwrap();
        assert_eq!(cuts.len(), 1);
        assert_eq!((cuts[0].task, cuts[0].step, cuts[0].on), (0, 300, 1), "five steps ahead of time");
        assert_eq!(cuts[0].circle, [0, 1]);
        assert_eq!(waits_of(&program)[0].2.seq, 0, "it holds always");
        assert_eq!(cut(&program).unwrap(), []);
    }

    #[test]
    fn a_wait_for_a_step_that_nobody_gets_to_is_taken_back() {
        let program = program(2, 10, &[(0, 3, Wait::completed(1, 10))]);
        let cuts = cut(&program).unwrap();
        assert_eq!((cuts.len(), cuts[0].on, cuts[0].circle.is_empty()), (1, 1, true));
    }

    proptest! {
        #[test]
        fn whatever_waits_there_are_none_is_left_that_cannot_hold(
            waits in prop::collection::vec((0_u32..6, 0_u32..40, 0_u32..6, 0_u32..84), 0..120)
        ) {
            let waits: Vec<_> =
                waits.into_iter().map(|(task, step, on, seq)| (task, step, Wait { task: on, seq })).collect();
            let program = program(6, 40, &waits);
            cut(&program).unwrap();
            prop_assert_eq!(cut(&program).unwrap(), []);
        }
    }
}
