//! Time that tasks waited for a CPU: what a run is late by that is the machine's doing and not the program's.

use ctrace_format::{Detail, Syscall};

/// Waiting for a CPU, summed up per thread and for the whole run.
#[derive(Debug, Default)]
pub(super) struct Waits {
    run: u64,
    threads: Vec<Thread>,
}

#[derive(Debug, Clone, Copy)]
struct Thread {
    /// What this thread waited, and what others did while it waited for something in a call.
    waited: u64,
    /// The sum of the run at its last record.
    run: u64,
}

impl Waits {
    /// All that was waited in the run so far.
    pub(super) fn of_run(&self) -> u64 {
        self.run
    }

    /// What may have delayed a thread so far.
    pub(super) fn of_thread(&self, thread: usize) -> u64 {
        self.threads.get(thread).map_or(self.run, |t| t.waited)
    }

    /// A call of a thread begins. Calls arrive in the order in which they end.
    pub(super) fn before(&mut self, thread: usize, s: &Syscall) {
        // Whatever delayed the run so far has delayed the start of a new thread.
        let run = self.run;
        if self.threads.len() <= thread {
            self.threads.resize(thread + 1, Thread { waited: run, run });
        }
        self.threads[thread].waited = self.threads[thread].waited.saturating_add(s.wait_cpu_ns);
        self.add(thread, s.wait_cpu_ns);
    }

    /// The call ends. While it lasted its thread waited for a CPU itself, or for somebody who did.
    pub(super) fn within(&mut self, thread: usize, s: &Syscall) {
        let own = s.details.iter().map(|d| if let Detail::CpuWait { ns } = d { *ns } else { 0 }).sum::<u64>();
        let t = &mut self.threads[thread];
        let others = self.run.saturating_sub(t.run).min(s.duration_ns.saturating_sub(own));
        t.waited = t.waited.saturating_add(own).saturating_add(others);
        self.add(thread, own);
        self.threads[thread].run = self.run;
    }

    /// What a thread waits itself is no wait of others.
    fn add(&mut self, thread: usize, ns: u64) {
        self.run = self.run.saturating_add(ns);
        let t = &mut self.threads[thread];
        t.run = t.run.saturating_add(ns);
    }
}
