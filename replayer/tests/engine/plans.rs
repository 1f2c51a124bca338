//! Plans whose waits are wrong: a replay of each ends, and says what it forced.

use crate::support::{Script, call, returns};
use ctrace_program::{Expect, Kind, Post, Sel, Step, Wait, fds_operand};
use ctrace_replayer::{Ended, Outcome};

const CHILDREN: u32 = 4;
const ROUNDS: u32 = 6;
/// How many plans are tried; `CTRACE_FUZZ_PLANS=1000` tries more.
const PLANS: u64 = 30;
/// Time between two recorded steps, ns.
const TICK_NS: u64 = 200_000;

/// Numbers that follow from a seed (splitmix64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, most: u32) -> u32 {
        (self.next() % u64::from(most)) as u32
    }

    fn one_in(&mut self, n: u32) -> bool {
        self.below(n) == 0
    }
}

/// A program as the compiler would write it: children pass bytes to each other through pipes, round and round, each read
/// after the write that it takes, and their parent waits for them.
struct Plan {
    script: Script,
    random: Random,
    t_ns: u64,
    changed: u32,
}

impl Plan {
    fn new(seed: u64) -> Self {
        Self { script: Script::new(), random: Random(seed), t_ns: 0, changed: 0 }
    }

    /// Pushes the next recorded step, with waits that may have been spoilt.
    fn push(&mut self, task: u32, step: Step, waits: &[Wait]) -> u32 {
        self.t_ns += TICK_NS;
        let mut waits = waits.to_vec();
        if self.random.one_in(3) && waits.pop().is_some() {
            self.changed += 1;
        }
        if self.random.one_in(8) {
            let on = self.random.below(CHILDREN + 1);
            // Anywhere in its program, or beyond its end.
            let seq = 1 + self.random.below(2 * (3 * ROUNDS + 8));
            waits.push(Wait { task: on, seq });
            self.changed += 1;
        }
        if self.random.one_in(10)
            && let Some(wait) = waits.first_mut()
        {
            // The other way round: it waits for what comes after.
            wait.seq += 2;
            self.changed += 1;
        }
        self.script.push_after(task, Step { t_ns: self.t_ns, duration_ns: TICK_NS / 2, ..step }, &waits)
    }

    fn build(mut self) -> (Script, u32) {
        let children: Vec<u32> = (0..CHILDREN).map(|n| self.script.task(0, 2000 + n, None)).collect();
        for n in 0..CHILDREN {
            let ends = fds_operand(40 + 2 * n, 41 + 2 * n, 0, false);
            let pipe = returns(libc::SYS_pipe2, 0).arg(0, Sel::Out, 8).post(Post::Fds, ends);
            self.push(0, pipe, &[]);
        }
        for &child in &children {
            let fork = Step { kind: Kind::Clone as u8, ..call(libc::SYS_clone) }
                .imm(0, libc::SIGCHLD as u64)
                .aux(u64::from(child))
                .expect(Expect::Pid, i64::from(child));
            self.push(0, fork, &[]);
        }
        let mut written = None;
        for _ in 0..ROUNDS {
            for (n, &child) in children.iter().enumerate() {
                let (from, to) = (40 + 2 * n as u64, 41 + 2 * ((n as u64 + 1) % u64::from(CHILDREN)));
                if let Some(wait) = written {
                    let read = returns(libc::SYS_read, 1).imm(0, from).arg(1, Sel::Out, 1).imm(2, 1);
                    self.push(child, read, &[wait]);
                }
                let write = returns(libc::SYS_write, 1).imm(0, to).arg(1, Sel::Out, 1).imm(2, 1);
                written = Some(Wait::completed(child, self.push(child, write, &[])));
            }
        }
        for &child in &children {
            let exit = Step { kind: Kind::Exit as u8, ..call(libc::SYS_exit_group) };
            self.push(child, exit, &[]);
        }
        for &child in &children {
            let wait = call(libc::SYS_wait4)
                .arg(0, Sel::Pid, u64::from(child))
                .arg(1, Sel::Out, 4)
                .expect(Expect::Pid, i64::from(child));
            self.push(0, wait, &[]);
        }
        let exit = Step { kind: Kind::Exit as u8, ..call(libc::SYS_exit_group) };
        self.push(0, exit, &[]);
        self.script.recorded_ns = self.t_ns;
        (self.script, self.changed)
    }
}

fn check(seed: u64, changed: u32, outcome: &Outcome) {
    let story = || format!("seed {seed}, {changed} waits changed: {outcome:#?}");
    // Neither the limit on its time nor a signal had to end it.
    assert!(matches!(outcome.ended, Ended::Completed | Ended::Stalled), "{}", story());
    assert_eq!(outcome.leftovers, [""; 0], "{}", story());
    let forced: u64 = outcome.forced.values().sum();
    assert!(forced as usize >= outcome.forced_ends.len(), "{}", story());
    let said = outcome.divergences.iter().filter(|d| d.cause.ends_with("forced to end")).count() as u64;
    assert!(said <= forced, "every forced end is counted: {}", story());
    if outcome.ended == Ended::Stalled {
        assert!(!outcome.stuck.is_empty(), "{}", story());
    }
}

#[test]
fn a_plan_with_wrong_waits_ends_in_time_and_says_what_was_forced() {
    let plans = std::env::var("CTRACE_FUZZ_PLANS").ok().and_then(|n| n.parse().ok()).unwrap_or(PLANS);
    let mut forced = 0;
    for seed in 0..plans {
        let (script, changed) = Plan::new(seed).build();
        let Some(outcome) = script.run() else { return };
        check(seed, changed, &outcome);
        forced += outcome.forced.values().sum::<u64>();
    }
    assert!(forced > 0, "some of those waits cannot hold");
    println!("{plans} plans, {forced} ends forced");
}
