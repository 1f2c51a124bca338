//! Roles: names of processes and threads that are the same in another run.
//!
//! Ids differ and siblings start in another order; the program, its name and its place in the tree do not. A role's
//! *label* is the program with the task's own name where that says more; siblings of one label get ordinals in order of
//! start. Which of several siblings of one label belong together in two runs is the diff engine's question
//! ([`pair`]): it compares what they did, and falls back on the ordinal.
//!
//! A single run needs no ordinals: those who do the same are one role, named after their pool ([`of_thread`]), and are told
//! from others by the letters of their name ([`letters`]).

use crate::model::{Model, Process};
use rustc_hash::{FxBuildHasher, FxHashMap};
use std::hash::BuildHasher as _;

/// Longest comm the kernel keeps (`TASK_COMM_LEN` − 1).
const COMM_MAX: usize = 15;

/// Longest role that is the beginning of others. What descends from further down begins with a sum of that.
const PREFIX_MAX: usize = 256;

/// The beginning of the roles of children of a process with this role. Without a bound, a chain of forks would cost its
/// length squared.
pub(crate) fn prefix(role: &str) -> String {
    if role.len() <= PREFIX_MAX {
        return format!("{role}/");
    }
    let sum = FxBuildHasher.hash_one(role);
    format!("…{sum:016x}/")
}

/// Names all processes and threads.
pub(crate) fn assign(model: &mut Model) {
    // Parents come before children: a child is made when its fork is seen.
    let mut seen: FxHashMap<(Option<usize>, String), u32> = FxHashMap::default();
    for i in 0..model.processes.len() {
        let label = label(&model.processes[i]);
        let parent = model.processes[i].parent;
        let ordinal = seen.entry((parent, label.clone())).or_default();
        *ordinal += 1;
        let prefix = parent.map_or(String::new(), |p| prefix(&model.processes[p].role));
        model.processes[i].ordinal = *ordinal;
        model.processes[i].role =
            if *ordinal == 1 { format!("{prefix}{label}") } else { format!("{prefix}{label}#{ordinal}") };
    }
    let mut seen: FxHashMap<(usize, String), u32> = FxHashMap::default();
    for p in 0..model.processes.len() {
        for t in model.processes[p].threads.clone() {
            let thread = &mut model.threads[t];
            let process = &model.processes[p];
            if thread.tid == process.tgid {
                thread.role.clone_from(&process.role);
                continue;
            }
            let name = stable(&thread.comm);
            let ordinal = seen.entry((p, name.clone())).or_default();
            *ordinal += 1;
            thread.ordinal = *ordinal;
            thread.role = if *ordinal == 1 {
                format!("{}:{name}", process.role)
            } else {
                format!("{}:{name}#{ordinal}", process.role)
            };
        }
    }
}

/// The label of a process: its program, and its own name where that differs.
pub(crate) fn label(process: &Process) -> String {
    let program = process.exe.rsplit('/').next().unwrap_or("");
    let comm = stable(&process.comm);
    if program.is_empty() {
        return if comm.is_empty() { "?".to_owned() } else { comm };
    }
    let short: String = program.chars().take(COMM_MAX).collect();
    let program = stable(program);
    if comm.is_empty() || comm == stable(&short) { program } else { format!("{program}({comm})") }
}

/// The role of a thread in its process, by their names, among those of one run.
pub(crate) fn of_thread(process: &str, thread: &str) -> String {
    let (owner, thread) = (pool(process), pool(thread));
    if owner.is_empty() || thread.starts_with(&owner) { thread } else { format!("{owner}/{thread}") }
}

/// A task's name without the number that tells siblings apart: `worker-12` is `worker-N`.
fn pool(name: &str) -> String {
    let base = name.trim_end_matches(|c: char| c.is_ascii_digit());
    if base.len() == name.len() || base.is_empty() {
        return name.to_owned();
    }
    // `python3` and `grpc_v2` are names; `pool-3` and `worker#12` are numbered.
    if base.ends_with(['-', '_', '#', ':', '/', ' ', '.']) { format!("{base}N") } else { name.to_owned() }
}

/// The part that the names of siblings share: the name without its number.
pub(crate) fn letters(name: &str) -> String {
    name.chars().filter(|c| !c.is_ascii_digit()).collect()
}

/// A task name without numbers that are likely ids.
fn stable(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    let mut digits = String::new();
    for c in name.chars().chain(std::iter::once('\0')) {
        if c.is_ascii_digit() {
            digits.push(c);
            continue;
        }
        if digits.len() >= 4 {
            out.push('N');
        } else {
            out.push_str(&digits);
        }
        digits.clear();
        if c != '\0' {
            out.push(c);
        }
    }
    out
}

/// What a sibling did, to recognise it in the other run.
#[derive(Debug, Clone, Default)]
pub(crate) struct Deeds {
    /// Compared operations by joint symbol.
    pub(crate) counts: FxHashMap<u32, u32>,
    /// Their sum.
    pub(crate) total: u64,
}

impl Deeds {
    /// 1 − Bray–Curtis.
    pub(crate) fn similarity(&self, other: &Self) -> f64 {
        if self.total + other.total == 0 {
            return 1.0;
        }
        let shared: u64 =
            self.counts.iter().map(|(k, n)| u64::from(*n.min(other.counts.get(k).unwrap_or(&0)))).sum();
        2.0 * shared as f64 / (self.total + other.total) as f64
    }
}

/// Siblings compared each with each; more are paired in order.
const MAX_COMPARED: usize = 48;

/// Equal ones that have the same place, counted from the front or from the back.
fn of_same_rank(a: &[u64], b: &[u64]) -> Vec<(usize, usize)> {
    let short = a.len().min(b.len());
    let front = (0..short).take_while(|i| a[*i] == b[*i]).count();
    let from_back = |k: usize| (a.len() - 1 - k, b.len() - 1 - k);
    let equal = |(i, j): &(usize, usize)| a[*i] == b[*j];
    let mut pairs: Vec<_> = (0..front).map(|i| (i, i)).collect();
    if a.len() == b.len() {
        pairs.extend((front..short).map(|i| (i, i)).filter(equal));
    } else {
        pairs.extend((0..short - front).map(from_back).take_while(equal));
    }
    pairs
}

/// Pairs siblings of one label: those that did exactly the same first, then the most similar. Of those that did the same,
/// the first, the last and those of the same rank go together before others: one that did something else takes nobody's
/// counterpart away. `deeds` is asked only for the few that need it: the flag is true for siblings of the second run. Returns pairs of positions.
pub(crate) fn pair(a: &[u64], b: &[u64], deeds: impl Fn(bool, usize) -> Deeds) -> Vec<(usize, usize)> {
    let mut pairs = of_same_rank(a, b);
    let (mut used_a, mut used_b) = (vec![false; a.len()], vec![false; b.len()]);
    for (i, j) in &pairs {
        (used_a[*i], used_b[*j]) = (true, true);
    }
    let mut free_a: Vec<usize> = (0..a.len()).filter(|i| !used_a[*i]).collect();
    let mut by_digest: FxHashMap<u64, Vec<usize>> = FxHashMap::default();
    for (j, digest) in b.iter().enumerate().filter(|(j, _)| !used_b[*j]).rev() {
        by_digest.entry(*digest).or_default().push(j);
    }
    free_a.retain(|&i| match by_digest.get_mut(&a[i]).and_then(Vec::pop) {
        Some(j) => {
            pairs.push((i, j));
            used_b[j] = true;
            false
        }
        None => true,
    });
    let free_b: Vec<usize> = (0..b.len()).filter(|j| !used_b[*j]).collect();
    if free_a.len() <= MAX_COMPARED && free_b.len() <= MAX_COMPARED && free_a.len() + free_b.len() > 2 {
        let deeds_a: Vec<Deeds> = free_a.iter().map(|i| deeds(false, *i)).collect();
        let deeds_b: Vec<Deeds> = free_b.iter().map(|j| deeds(true, *j)).collect();
        let mut scored: Vec<(f64, usize, usize)> = Vec::new();
        for (i, x) in deeds_a.iter().enumerate() {
            for (j, y) in deeds_b.iter().enumerate() {
                scored.push((x.similarity(y), i, j));
            }
        }
        scored.sort_by(|x, y| {
            y.0.total_cmp(&x.0).then(x.1.abs_diff(x.2).cmp(&y.1.abs_diff(y.2))).then(x.1.cmp(&y.1))
        });
        let (mut done_a, mut done_b) = (vec![false; free_a.len()], vec![false; free_b.len()]);
        for (_, i, j) in scored {
            if !done_a[i] && !done_b[j] {
                pairs.push((free_a[i], free_b[j]));
                done_a[i] = true;
                done_b[j] = true;
            }
        }
    } else {
        pairs.extend(free_a.into_iter().zip(free_b));
    }
    pairs.sort_unstable();
    pairs
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(a: &[&[(u32, u32)]], b: &[&[(u32, u32)]]) -> Vec<(usize, usize)> {
        let digest = |counts: &&[(u32, u32)]| {
            counts.iter().fold(7, |h: u64, c| h.wrapping_mul(31).wrapping_add(u64::from(c.0 * 1000 + c.1)))
        };
        let digests = |side: &[&[(u32, u32)]]| side.iter().map(digest).collect::<Vec<_>>();
        pair(&digests(a), &digests(b), |second, i| {
            let counts = if second { b[i] } else { a[i] };
            let total = counts.iter().map(|c| u64::from(c.1)).sum();
            Deeds { counts: counts.iter().copied().collect(), total }
        })
    }

    #[test]
    fn siblings_are_recognised_by_what_they_did() {
        let (reader, writer, idle) = (&[(1, 100)][..], &[(2, 50), (3, 1)][..], &[(9, 1)][..]);
        let other_writer = &[(2, 55), (3, 1)][..];
        assert_eq!(run(&[reader, writer, idle], &[idle, other_writer, reader]), [(0, 2), (1, 1), (2, 0)]);
    }

    #[test]
    fn one_that_did_something_else_takes_no_counterpart_from_those_after_it() {
        let (same, cut) = (&[(1, 3), (2, 1)][..], &[(1, 3)][..]);
        let in_order = [(0, 0), (1, 1), (2, 2), (3, 3)];
        assert_eq!(run(&[same, same, same, same], &[same, cut, same, same]), in_order);
        let first_stays_alone = [(1, 0), (2, 1)];
        assert_eq!(run(&[cut, same, cut], &[same, cut]), first_stays_alone);
    }

    #[test]
    fn equal_siblings_pair_in_order_and_extra_ones_stay_alone() {
        let same = &[(1, 3)][..];
        assert_eq!(run(&[same, same], &[same, same, same]), [(0, 0), (1, 1)]);
        assert!(run(&[], &[same]).is_empty());
    }

    #[test]
    fn a_long_line_of_ancestors_is_summed_up() {
        let mut role = "a".to_owned();
        for _ in 0..10_000 {
            role = format!("{}sh", prefix(&role));
            assert!(role.len() <= PREFIX_MAX + 8, "{role}");
        }
        assert_ne!(prefix(&"a/".repeat(300)), prefix(&"b/".repeat(300)));
    }

    #[test]
    fn threads_of_one_pool_are_one_role() {
        assert_eq!(of_thread("nginx", "nginx"), "nginx");
        assert_eq!(of_thread("redis-server", "bio-3"), "redis-server/bio-N");
        assert_eq!(of_thread("python3", "python3"), "python3");
        assert_eq!(of_thread("", "worker#12"), "worker#N");
        let names = ["worker-12", "python3", "pool#3", "checkout-1", "7", "ThreadPoolExecu"].map(pool);
        assert_eq!(names, ["worker-N", "python3", "pool#N", "checkout-N", "7", "ThreadPoolExecu"]);
        assert_eq!(letters("conn-17"), letters("conn-4"));
    }

    #[test]
    fn ids_in_names_are_not_part_of_the_label() {
        assert_eq!(stable("iou-wrk-48213"), "iou-wrk-N");
        assert_eq!(stable("bio_aof_1"), "bio_aof_1");
    }
}
