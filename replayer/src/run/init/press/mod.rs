//! Presses the workload as it was pressed: one process of the engine that follows the replay clock, and its helpers, most of
//! them in the workload's group.

mod board;
mod conductor;
mod disk;
mod helpers;
mod memory;
mod neighbours;
mod throttling;

use super::super::control::Control;
use super::super::pressed::{Effect, Helpers, Pressed};
use super::threads::Threads;
use super::{Setup, exit};
use crate::pressure::{CPUS_MAX, Demand, Pressure, least_memory_limit};
use crate::sandbox::cgroup::{Controls, Switch};
use crate::sandbox::disk::Disk;
use board::{Board, Page, Score};
use conductor::Conductor;
use nix::unistd::{ForkResult, fork};
use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::OwnedFd;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};

/// An effect that is compared with the recorded one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Aim {
    Throttling,
    CpuTime,
    Neighbours,
    Memory,
    Disk,
}

impl Aim {
    const ALL: [Self; 5] = [Self::Throttling, Self::CpuTime, Self::Neighbours, Self::Memory, Self::Disk];

    /// Whether this pressure aims at it.
    fn is_of(self, pressure: &Pressure) -> bool {
        let has =
            |what: fn(&Demand) -> bool| pressure.load.as_ref().is_some_and(|load| load.bins.iter().any(what));
        match self {
            Self::Throttling => pressure.cpu.is_some(),
            Self::CpuTime => has(|bin| bin.used_ns > 0),
            Self::Neighbours => has(|bin| bin.crowding_ns() > 0),
            Self::Memory => pressure.memory.is_some(),
            Self::Disk => pressure.disk.is_some(),
        }
    }

    /// Its name, how it is reached, and the unit of its figures.
    const fn text(self) -> [&'static str; 3] {
        match self {
            Self::Throttling => ["cpu_throttled", "quota of a cgroup, with a burner in it", "ns"],
            Self::CpuTime => ["cpu", "the workload's own tasks, which compute between calls", "ns"],
            Self::Neighbours => ["neighbours", "processes that spin, beside the workload's cgroup", "ns"],
            Self::Memory => ["memory", "ballast in the workload's cgroup", "bytes"],
            Self::Disk => ["disk", "a disk of its own, to which a cgroup's limit holds writes up", "ns"],
        }
    }

    const fn score(self, page: &Page) -> &Score {
        match self {
            Self::Throttling => &page.throttled,
            Self::CpuTime => &page.used,
            Self::Neighbours => &page.crowded,
            Self::Memory => &page.memory,
            Self::Disk => &page.held_up,
        }
    }

    fn effect(self, page: &Page) -> Effect {
        let score = self.score(page);
        let [kind, lane, unit] = self.text();
        let (target, reached, error) = score.sums();
        // Memory is a level: its mean over the bins.
        let bins = if self == Self::Memory { score.bins.load(Relaxed).max(1) } else { 1 };
        Effect {
            kind: kind.to_owned(),
            lane: lane.to_owned(),
            unit: unit.to_owned(),
            target: target / bins,
            reached: reached / bins,
            error,
        }
    }
}

/// The presser as init has it.
#[derive(Debug)]
pub(super) struct Presser {
    pid: i32,
    board: Board,
    died: bool,
    /// Its helpers, as init knows them.
    pub(super) helpers: Helpers,
    aims: Vec<Aim>,
    switch: Option<Switch>,
}

impl Presser {
    /// Starts it. Until the gate opens nothing is pressed.
    ///
    /// # Errors
    /// A sentence that says why nothing will be.
    pub(super) fn start(
        setup: &Setup,
        controls: &Controls,
        control: &Control,
        view: Option<&OwnedFd>,
        disk: Option<&Disk>,
        problems: &mut Vec<String>,
    ) -> Result<Option<Self>, String> {
        let mut pressure = setup.pressure.clone();
        let fail = |error: io::Error| format!("recorded pressure is not replayed: {error}");
        if pressure.cpu.is_some() && !controls.has_cpu() {
            pressure.cpu = None;
            problems.push(
                "CPU throttling is not replayed: the cpu controller is not handed down to where ctrace runs"
                    .to_owned(),
            );
        }
        if pressure.memory.is_some() && !(controls.has_memory() && view.is_some()) {
            pressure.memory = None;
            problems.push("memory is not replayed: nothing here tells how much the workload has".to_owned());
        }
        if pressure.load.is_some() && !(controls.has_usage() && view.is_some()) {
            pressure.load = None;
            problems.push(
                "CPU time is not replayed: nothing here tells how much of it the workload's group has"
                    .to_owned(),
            );
        }
        let disk = disk.filter(|_| pressure.disk.is_some());
        let switch = disk.and_then(|disk| controls.switch(disk.device));
        if switch.is_none() {
            pressure.disk = None;
        }
        if disk.is_some() && switch.is_none() {
            problems.push(
                "waits for a disk are not replayed: the blkio controller (io in version 2) is not handed down to \
                 where ctrace runs"
                    .to_owned(),
            );
        }
        let memory_limit = bound(&pressure, setup, controls, problems);
        let aims: Vec<Aim> = Aim::ALL.into_iter().filter(|aim| aim.is_of(&pressure)).collect();
        if aims.is_empty() {
            return Ok(None);
        }
        let board = Board::new().map_err(fail)?;
        let (heard, told) =
            nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).map_err(|errno| fail(errno.into()))?;
        // SAFETY: as in `launch`; we are single-threaded.
        match unsafe { fork() }.map_err(|errno| fail(errno.into()))? {
            ForkResult::Parent { child } => {
                drop(told);
                let mut text = String::new();
                File::from(heard).read_to_string(&mut text).map_err(fail)?;
                match text.parse() {
                    Ok(helpers) => {
                        let pid = child.as_raw();
                        Ok(Some(Self { pid, board, died: false, helpers, aims, switch }))
                    }
                    Err(()) => Err(fail(io::Error::other(text))),
                }
            }
            ForkResult::Child => {
                let mut told = File::from(told);
                let threads = Threads::new(view.and_then(|view| view.try_clone().ok()));
                let conductor = Conductor {
                    pressure,
                    controls,
                    control,
                    board: &board,
                    threads,
                    limits: setup.options.limits,
                    speed: setup.options.speed,
                    helpers: Helpers::default(),
                    burners: 0,
                    neighbours: Vec::new(),
                    others: 0,
                    switch: switch.as_ref(),
                    memory_limit,
                };
                let status = conductor.live(&mut told);
                exit(status)
            }
        }
    }

    /// Takes note of a process that has ended. True: it was the presser.
    pub(super) fn reaped(&mut self, pid: i32, control: &Control) -> bool {
        let is_ours = pid == self.pid;
        self.died |= is_ours && self.board.over.load(SeqCst) == 0;
        if let Some(switch) = self.switch.as_ref().filter(|_| is_ours) {
            // When the device is gone there is nothing to let go.
            let _ = disk::let_go(control, switch);
        }
        is_ours
    }

    /// It has died before its time.
    pub(super) fn has_died(&self) -> bool {
        self.died
    }

    /// The workload is kept from running now, on purpose.
    pub(super) fn is_pressing(&self) -> bool {
        let flags = [&self.board.pressing, &self.board.crowding];
        !self.died && flags.iter().any(|flag| flag.load(SeqCst) != 0)
    }

    /// Ends it; the effects that it had.
    pub(super) fn end(&self) -> Pressed {
        self.board.over.store(1, SeqCst);
        let page = &*self.board;
        let mut notes = Vec::new();
        let refused = page.refused.load(Relaxed);
        if refused > 0 {
            notes.push(format!(
                "{} MiB of memory were left out: there is no room for them below the limit",
                refused >> 20
            ));
        }
        Pressed {
            effects: self.aims.iter().map(|aim| aim.effect(page)).collect(),
            died: self.died,
            notes,
            ballast_cpu_ns: page.ballast_cpu_ns.load(Relaxed),
        }
    }
}

/// Sets the limits that stay. Returns the limit on the group's memory, if it has one.
fn bound(pressure: &Pressure, setup: &Setup, controls: &Controls, problems: &mut Vec<String>) -> Option<u64> {
    let mut memory_limit = None;
    if let Some(limit) = pressure.memory.as_ref().and_then(|memory| memory.limit_bytes) {
        // The memory that the replay needs itself has to fit.
        let least = least_memory_limit(&setup.need);
        let most = setup.options.limits.memory.limit;
        let bytes = limit.max(least);
        if limit < least {
            problems.push(format!(
                "the recorded memory limit of {} MiB is less than the replay needs: it has {} MiB",
                limit >> 20,
                bytes >> 20
            ));
        }
        if bytes < most {
            match controls.set_memory_limit(bytes) {
                Ok(()) => memory_limit = Some(bytes),
                Err(error) => problems.push(format!("the recorded memory limit is not set: {error}")),
            }
        }
    }
    if let Some(most) = pressure.pids {
        let need = setup.need.tasks;
        if most < need {
            problems.push(format!(
                "the recorded limit of {most} tasks is less than the replay needs: it has {need}"
            ));
        }
        // The helpers count as well: on each CPU one that burns a quota, and the ballast.
        let tasks = most.max(need).saturating_add(u64::from(CPUS_MAX) + 1);
        if tasks < setup.options.limits.tasks.limit
            && let Err(error) = controls.set_tasks(tasks)
        {
            problems.push(format!("the recorded limit of tasks is not set: {error}"));
        }
    }
    memory_limit
}
