//! One pass over the events: each goes to the parts that make something of it.

use super::calls::{Calls, Group, Info};
use super::errors::{Errors, Failure};
use super::gaps::Gaps;
use super::lanes::Lanes;
use super::machine::Machine;
use super::panels::{Network, Rates};
use super::processes::Processes;
use super::sample::Chooser;
use super::slow::{SLOW_NS, SlowCalls};
use super::sockets::Sockets;
use super::spans::Spans;
use super::{Grid, Panel, Picture, changes, map};
use crate::Account;
use crate::findings::Seen;
use crate::findings::injected::Added;
use crate::findings::people::{Actor, People, ProcessId};
use crate::findings::places::{Place, Places};
use crate::overview;
use ctrace_format::syscalls::{Call, Failing, Family, On};
use ctrace_format::{
    Aggregate, Class, Detail, Event, Process, ProcessKind, ReadError, Syscall, SyscallFlags, TaskId, Trace,
};

/// Works out the [`Picture`] of a trace from its events, in order of their ends, in memory that does not grow with it.
pub struct Painter<'a> {
    trace: &'a Trace,
    account: &'a Account,
    grid: Grid,
    calls: Calls,
    people: People,
    places: Places,
    rates: Rates,
    network: Network,
    errors: Errors,
    machine: Machine,
    processes: Processes,
    sockets: Sockets,
    gaps: Gaps,
    spans: Spans,
    sample: Chooser,
    lanes: Lanes,
    slow: SlowCalls,
    /// Tasks that were met.
    met: Vec<bool>,
}

impl std::fmt::Debug for Painter<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Painter").field("grid", &self.grid).finish_non_exhaustive()
    }
}

impl<'a> Painter<'a> {
    /// Begins with a trace and what it tells.
    pub fn new(trace: &'a Trace, account: &'a Account) -> Self {
        let from_ns = trace.window().map_or(0, |window| window.from_ns);
        let duration_ns = overview::duration_ns(trace).max(trace.end_ns().saturating_sub(from_ns));
        let count = |class| trace.counts().get(&class).copied().unwrap_or(0);
        let silent = [Class::Resource, Class::Usage, Class::Anchor, Class::Aggregate];
        let all: u64 = trace.counts().iter().filter(|(c, _)| !silent.contains(c)).map(|(_, n)| n).sum();
        let mut this = Self {
            trace,
            account,
            grid: Grid::over(from_ns, duration_ns),
            calls: Calls::default(),
            people: People::default(),
            places: Places::default(),
            rates: Rates::default(),
            network: Network::new(count(Class::Connection) > 0),
            errors: Errors::default(),
            machine: Machine::new(trace.header().host.cpus),
            processes: Processes::default(),
            sockets: Sockets::new(count(Class::Dns) > 0),
            gaps: Gaps::default(),
            spans: Spans::default(),
            sample: Chooser::new(account, all),
            lanes: Lanes::new(account, count(Class::Usage) > 0),
            slow: SlowCalls::new(account),
            met: Vec::new(),
        };
        this.people.snapshot(trace.snapshot());
        this.processes.snapshot(trace.snapshot());
        this.sockets.snapshot(trace.snapshot(), &mut this.people);
        this
    }

    /// A part of the trace could not be read.
    pub fn unread(&mut self, error: &ReadError) {
        self.gaps.unread(&self.grid, error);
    }

    fn actor(&mut self, task: TaskId) -> Actor {
        let actor = self.people.of(task, self.trace);
        let at = task.0 as usize;
        if self.met.len() <= at {
            self.met.resize(at + 1, false);
        }
        if !std::mem::replace(&mut self.met[at], true) {
            self.processes.met(actor);
            self.lanes.met(&self.grid, task, actor, &self.people, self.trace);
        }
        actor
    }

    /// Whether something that was over by then lies on the time axis: of what was before the window of a dump, a part is
    /// in the trace.
    const fn is_shown(&self, end_ns: u64) -> bool {
        end_ns >= self.grid.from_ns
    }

    /// Looks at an event.
    pub fn event(&mut self, event: &Event) {
        let actor = event.task().map(|task| self.actor(task));
        let tid = actor.map_or(0, |actor| actor.tid);
        let grid = self.grid;
        let mut failed = None;
        match (event, actor) {
            (Event::Syscall(s), Some(actor)) => {
                if s.flags.contains(SyscallFlags::ENGINE) {
                    return;
                }
                failed = self.syscall(event, s, actor);
            }
            (Event::Process(p), Some(actor)) => self.process(p, actor),
            (Event::Connection(c), _) => {
                if self.is_shown(c.t_ns) {
                    self.network.connection(&grid, c);
                }
                let told = self.sockets.connection(event, c, self.trace, &mut self.people);
                if let Some(connected) = told.filter(|told| self.is_shown(told.end_ns())) {
                    self.network.connected(&grid, &connected);
                }
            }
            (Event::Dns(dns), Some(actor)) => {
                if self.is_shown(event.end_ns()) {
                    self.network.lookup(&grid, dns);
                }
                let name = self.places.string(dns.name, self.trace);
                self.sockets.lookup(dns, actor, name);
            }
            (Event::Socket(socket), actor) => self.sockets.traffic(socket, actor),
            (Event::Block(block), _) if self.is_shown(event.end_ns()) => self.machine.block(&grid, block),
            (Event::Marker(marker), _) => self.spans.marker(marker, self.trace),
            (Event::Loss(loss), _) => self.gaps.loss(&grid, loss),
            (Event::Aggregate(a), Some(actor)) => return self.aggregate(a, actor),
            (Event::Resource(r), _) => {
                if self.is_shown(r.t_ns) {
                    self.machine.sample(&grid, r);
                }
                return;
            }
            (Event::Usage(u), Some(actor)) => {
                self.processes.usage(actor.process, u);
                if self.is_shown(u.t_ns) {
                    self.lanes.usage(&grid, u);
                    self.machine.usage(&grid, u);
                }
                return;
            }
            (Event::Anchor(anchor), _) => return self.spans.anchor(*anchor),
            (Event::Fidelity(_), _) => return,
            _ => {}
        }
        self.sample.event(&grid, event, tid, failed);
    }

    fn syscall(&mut self, event: &Event, s: &Syscall, actor: Actor) -> Option<(Failing, u64)> {
        const UNMEASURED: [SyscallFlags; 3] =
            [SyscallFlags::NO_ENTER, SyscallFlags::NO_EXIT, SyscallFlags::FILTERED];
        let grid = self.grid;
        let info = self.calls.of(s.sysno);
        let end_ns = s.t_ns.saturating_add(s.duration_ns);
        self.calls.count(&info, 1);
        self.processes.call(actor.process, 1);
        let seen = Seen {
            s,
            t_ns: s.t_ns,
            duration_ns: s.duration_ns,
            added: Added::default(),
            call: info.call,
            actor,
            number: 0,
            behind: Place::NOWHERE,
        };
        if self.is_shown(end_ns) {
            let bin = grid.bin(end_ns);
            let group = info.group(s.object, self.trace);
            self.rates.call(&grid, bin, group);
            if UNMEASURED.iter().all(|flag| !s.flags.contains(*flag)) {
                // Who waits for the next request of a client waits for work.
                let is_idle = group == Group::Network && self.sockets.is_idle(&seen, self.trace);
                let of = if is_idle { Group::Wait } else { group };
                self.rates.duration(&grid, bin, of, s.duration_ns);
                if info.call.row().waits == Some(On::Disk) {
                    self.machine.flush(&grid, bin, s.duration_ns);
                }
            }
        }
        let number = self.sample.next();
        let is_slow = s.duration_ns >= SLOW_NS;
        let place =
            if is_slow || s.duration_ns >= grid.width_ns { self.place(&seen) } else { Place::NOWHERE };
        if is_slow {
            let is_idle = self.sockets.is_idle(&seen, self.trace);
            self.slow.add(&seen, info.name, place, number, is_idle, self.trace);
        } else if info.call == Call::Futex {
            self.slow.wake(&seen);
        }
        let failed = self.failure(&seen, &info);
        let says = failed.map(|told| told.0);
        self.lanes.call(&grid, &seen, info.name, place, says, self.trace);
        let family = info.call.row().family;
        let connected = self.sockets.call(event, s, info.call, actor, self.trace);
        if let Some(connected) = connected.filter(|connected| self.is_shown(connected.end_ns())) {
            self.network.connected(&grid, &connected);
        }
        for (end_ns, took_ns, is_of_peer) in self.sockets.answers() {
            if end_ns >= grid.from_ns {
                self.network.answer(&grid, end_ns, took_ns, is_of_peer);
            }
        }
        if family == Family::Accept && s.ret >= 0 && self.is_shown(end_ns) {
            self.network.called(&grid, end_ns, true, None);
        }
        if let Some(errno) = s.errno().filter(|_| self.is_shown(end_ns)) {
            self.network.called(&grid, end_ns, false, Some(errno));
        }
        failed
    }

    /// Against what a call was; of a socket that had no other end when it was first seen, the one that it has now.
    fn place(&mut self, seen: &Seen<'_>) -> Place {
        let is_named = seen.s.details.iter().any(|d| matches!(d, Detail::Addr { .. } | Detail::Str { .. }));
        match self.sockets.peer(seen.s.object, self.trace).filter(|_| !is_named) {
            Some(peer) => self.places.address(peer),
            None => self.places.of(seen, self.trace),
        }
    }

    /// What the failure of a call says, if it failed, and how many of its kind came before.
    fn failure(&mut self, seen: &Seen<'_>, info: &Info) -> Option<(Failing, u64)> {
        let failure = Failure {
            info,
            errno: seen.s.errno()?,
            count: 1,
            details: &seen.s.details,
            object: seen.s.object,
            role: seen.actor.role,
            from_ns: seen.t_ns,
            to_ns: seen.end_ns(),
            tid: seen.actor.tid,
        };
        let told = self.errors.add(&self.grid, self.trace, &failure);
        if told.says == Failing::Failure {
            self.processes.failure(seen.actor.process, 1);
        }
        Some((told.says, told.nth))
    }

    /// Calls that were counted.
    fn aggregate(&mut self, a: &Aggregate, actor: Actor) {
        if a.flags.contains(SyscallFlags::ENGINE) {
            return;
        }
        let grid = self.grid;
        let info = self.calls.of(a.sysno);
        self.calls.count(&info, a.count);
        self.processes.call(actor.process, a.count);
        self.lanes.counted(a.task, a.count);
        self.gaps.counted(&grid, a);
        if self.is_shown(a.t_ns) {
            self.rates.counted(&grid, info.group(a.object, self.trace), a);
        }
        if a.errno == 0 {
            return;
        }
        let told = self.errors.add(
            &grid,
            self.trace,
            &Failure {
                info: &info,
                errno: a.errno,
                count: a.count,
                details: &[],
                object: a.object,
                role: actor.role,
                from_ns: a.from_ns,
                to_ns: a.t_ns,
                tid: actor.tid,
            },
        );
        if told.says == Failing::Failure {
            self.processes.failure(actor.process, a.count);
        }
    }

    fn process(&mut self, p: &Process, actor: Actor) {
        match &p.kind {
            ProcessKind::Fork { child } => {
                let def = self.trace.task(*child).clone();
                self.people.fork(p.task, &def, self.trace, p.t_ns);
                self.actor(*child);
            }
            ProcessKind::Exec { path, argv, .. } => {
                self.people.exec(p.task, *path, argv, self.trace);
                let process = self.people.of(p.task, self.trace).process;
                self.processes.exec(process, argv);
            }
            ProcessKind::Exit { status, group_dead } => {
                self.lanes.exit(p.task, p.t_ns);
                if *group_dead {
                    self.people.exit(actor.process, p.t_ns, *status);
                }
            }
            ProcessKind::Placed { container } => self.people.placed(p.task, *container, self.trace),
            ProcessKind::Origin { origin } => self.people.came(p.task, *origin, p.t_ns, self.trace),
            _ => {}
        }
        let comm = &self.people.process(actor.process).comm;
        self.spans.process(p, comm, self.trace);
    }

    /// Ends.
    pub fn finish(mut self) -> Picture {
        let (grid, trace) = (self.grid, self.trace);
        let wanted: Vec<u32> = self
            .account
            .findings
            .iter()
            .flat_map(|found| found.evidence.events.iter().map(|id| id.tid))
            .collect();
        for (at, process) in self.people.processes.iter().enumerate() {
            if wanted.contains(&process.tgid) {
                self.processes.want(ProcessId(at as u32));
            }
        }
        let panels = self.panels();
        let (connections, edges, called) = self.sockets.finish(&grid, &self.people, &mut self.places);
        let (slow_calls, events) = self.slow.finish(&self.people, &self.places, &called);
        self.sample.slow(events);
        Picture {
            grid,
            gaps: self.gaps.finish(&grid, trace),
            spans: self.spans.finish(&grid, trace, self.account),
            changes: changes::changes(&grid, &panels, &self.errors.telling(), &self.account.findings),
            panels,
            lanes: self.lanes.finish(&grid, &self.people, &self.places, trace),
            map: map::map(&edges, &called, &self.people, &self.places),
            failures: self.errors.failures(),
            errors: self.errors.table(&self.calls, &self.people, trace),
            slow_calls,
            connections,
            processes: self.processes.rows(&self.people, trace.containers(), trace),
            sample: self.sample.finish(),
        }
    }

    fn panels(&self) -> Vec<Panel> {
        let grid = &self.grid;
        let mut panels = Vec::from(self.rates.panels(grid));
        panels.push(self.errors.panel(grid));
        panels.extend(self.network.panels(grid));
        panels.extend(self.machine.panels(grid, self.trace.containers()));
        panels
    }
}
