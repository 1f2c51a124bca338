//! What several threads change of one epoll instance.

use super::*;

const THREAD: u64 = 0x5_0f00;
const ADD: u64 = 1;
const DEL: u64 = 2;

impl Mem {
    fn registers(&mut self, task: TaskId, what: u64, ret: i64) {
        let watched = vec![EpollEntry { data: 7, events: 1 }];
        let call = self.call(task, "epoll_ctl", [5, what, 6, 0, 0, 0], ret);
        call.details.push(Detail::Epoll { arg: 3, entries: watched });
    }

    /// Two threads with an epoll instance 5 and an eventfd 6.
    fn two_threads(&mut self) -> [TaskId; 2] {
        let (a, b) = (self.add_task(10, 10), self.add_task(11, 10));
        self.call(a, "epoll_create1", [0; 6], 5);
        self.call(a, "eventfd2", [0; 6], 6);
        self.fork(a, b);
        self.call(a, "clone", [THREAD, 0, 0, 0, 0, 0], 11);
        [a, b]
    }
}

/// The place of a task's calls of a name, and what they wait for.
fn calls(plan: &Plan, task: u32, name: &str) -> Vec<(u32, Vec<Wait>)> {
    let program = Program::open(plan.program.try_clone().unwrap()).unwrap();
    let steps = steps(plan, task);
    let named = steps.iter().enumerate().filter(|(_, step)| step.nr == named(name));
    named.map(|(at, step)| (at as u32, program.waits(step).unwrap())).collect()
}

#[test]
fn threads_that_take_turns_to_watch_find_what_the_other_left() {
    let mut t = Mem::new();
    let [a, b] = t.two_threads();
    t.registers(a, ADD, 0);
    t.registers(b, DEL, 0);
    t.registers(a, ADD, 0);
    t.registers(b, ADD, -17);
    let plan = t.plan();
    let (of_a, of_b) = (calls(&plan, 0, "epoll_ctl"), calls(&plan, 1, "epoll_ctl"));
    assert_eq!(of_b[0].1, [Wait::completed(0, of_a[0].0)]);
    assert_eq!(of_a[1].1, [Wait::completed(1, of_b[0].0)]);
    assert_eq!(of_b[1].1, [Wait::completed(0, of_a[1].0)]);
}

#[test]
fn what_somebody_is_told_of_is_watched_until_then() {
    let mut t = Mem::new();
    let [a, b] = t.two_threads();
    t.registers(a, ADD, 0);
    let entries = vec![EpollEntry { data: 7, events: 1 }];
    t.call(b, "epoll_wait", [5, 0, 8, 100, 0, 0], 1).details.push(Detail::Epoll { arg: 1, entries });
    t.registers(a, DEL, 0);
    let plan = t.plan();
    let wait = calls(&plan, 1, "epoll_wait")[0].0;
    assert_eq!(calls(&plan, 0, "epoll_ctl")[1].1, [Wait::completed(1, wait)]);
}

#[test]
fn what_is_ready_is_watched_only_after_somebody_waited_for_nothing() {
    let mut t = Mem::new();
    let [a, b] = t.two_threads();
    t.call(b, "epoll_wait", [5, 0, 8, 1, 0, 0], 0);
    t.registers(a, ADD, 0);
    let plan = t.plan();
    let wait = calls(&plan, 1, "epoll_wait")[0].0;
    assert_eq!(calls(&plan, 0, "epoll_ctl")[0].1, [Wait::completed(1, wait)]);
}
