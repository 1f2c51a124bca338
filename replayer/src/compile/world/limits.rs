//! Limits of descriptor numbers (`RLIMIT_NOFILE`), and whether a call that was refused a descriptor met one.

use super::super::calls::Sc;
use super::{Inherited, Origin, TaskIx, World, detail_bytes, le_u64};
use ctrace_analysis::fds::lowest_taken;
use ctrace_format::Syscall;

/// What `/proc/PID/limits` calls it.
pub(super) const LIMIT_NAME: &str = "Max open files";
/// Its number (asm-generic/resource.h).
pub(crate) const RLIMIT_NOFILE: u64 = 7;
pub(crate) const EMFILE: i64 = -24;
/// Descriptors that are passed by in all looks for free numbers together, against traces made to exhaust the compiler.
const LOOKED_AT_MAX: u64 = 1 << 28;

/// Numbers below which something unknown is taken to have been inherited.
pub(super) const INHERITED_MAX: i32 = 1024;

impl World {
    /// `prlimit64`, `setrlimit`: a limit was set.
    pub(super) fn limited(&mut self, task: TaskIx, call: &Syscall, sc: Sc) {
        let prlimit = sc == Sc::Prlimit64;
        let (resource, new, pid) =
            if prlimit { (call.args[1], 2, call.args[0]) } else { (call.args[0], 1, 0) };
        let Some(limit) = detail_bytes(call, new).filter(|_| resource == RLIMIT_NOFILE) else { return };
        let soft = le_u64(limit, 0);
        let whose = match pid as u32 {
            0 => Some(task),
            pid => self.live(pid),
        };
        if let Some(whose) = whose {
            let proc = self.tasks[whose as usize].proc;
            self.procs[proc as usize].fd_limit = Some(soft);
        }
    }

    /// A call was refused a descriptor: what the limit is that nobody set.
    pub(super) fn refused_descriptor(&mut self, task: TaskIx, call: &Syscall) {
        let sc = self.calls.get(call.sysno).sc;
        let proc = self.tasks[task as usize].proc;
        if call.ret != EMFILE || self.told_fd_limit.is_some() || lowest_taken(sc) == 0 || self.is_tired() {
            return;
        }
        if self.procs[proc as usize].fd_limit.is_none() {
            let files = self.procs[proc as usize].files;
            let free = self.files[files].lowest_free(&mut self.numbers_looked_at);
            self.told_fd_limit = u64::try_from(free[lowest_taken(sc) - 1]).ok();
        }
    }

    /// A call got a number although a lower one is not known to be in use.
    pub(super) fn judge_lower(&mut self, call: &Syscall, sc: Sc) {
        if lowest_taken(sc) != 1 {
            return;
        }
        let number = i32::try_from(call.ret).unwrap_or(0).min(INHERITED_MAX);
        for lower in self.numbers_judged..number {
            if !self.numbers_known.contains(&lower) {
                self.numbers_unknown.insert(lower);
            }
        }
        self.numbers_judged = self.numbers_judged.max(number);
    }

    /// Descriptors of the first process that nobody ever used, and that others were numbered around: nothing but their
    /// numbers is known.
    pub(crate) fn never_used(&self) -> Vec<Inherited> {
        let Some(root) = self.tasks.first().filter(|root| root.origin == Origin::Root) else {
            return Vec::new();
        };
        let unknown = self.numbers_unknown.difference(&self.numbers_known);
        let (tid, start_ns) = (root.tid, root.start_ns);
        unknown
            .map(|fd| Inherited {
                tid,
                start_ns,
                fd: *fd,
                object: None,
                written: false,
                nonblock: false,
                append: false,
            })
            .collect()
    }

    fn is_tired(&self) -> bool {
        self.numbers_looked_at > LOOKED_AT_MAX
    }

    /// Whether a call of a task meets the limit of descriptors: the numbers that it would take are not below it.
    pub(crate) fn meets_limit(&mut self, task: TaskIx, sc: Sc) -> bool {
        let proc = &self.procs[self.tasks[task as usize].proc as usize];
        let (Some(limit), files) = (proc.fd_limit, proc.files) else { return false };
        // F_DUPFD takes the lowest from some number on: there is none if there is none at all.
        if lowest_taken(sc) == 0 && sc != Sc::Fcntl || self.is_tired() {
            return false;
        }
        let free = self.files[files].lowest_free(&mut self.numbers_looked_at);
        u64::try_from(free[lowest_taken(sc).saturating_sub(1)]).is_ok_and(|number| number >= limit)
    }
}
