//! Aligning two sequences of symbols: what was kept, what is only in one of them.
//!
//! Greedy O(ND) differences (Myers 1986) over windows, with a cap on the differences of a window and on the work in
//! all. Two long sequences that have little in common therefore cost linear time: beyond the cap the furthest
//! reaching path is taken, and beyond the budget the rest is compared by counts and the result says so.

use rustc_hash::FxHashMap;

/// Elements looked at together.
const WINDOW: usize = 4096;
/// Differences followed within a window before the furthest reaching path is taken.
const MAX_EDITS: usize = 512;

/// Steps that all alignments of one diff may take together.
pub(crate) struct Budget(pub(crate) u64);

impl Default for Budget {
    fn default() -> Self {
        Self(1_500_000_000)
    }
}

/// One step of an alignment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step<T> {
    /// In both.
    Keep(T, T),
    /// Only in the first.
    Delete(T),
    /// Only in the second.
    Insert(T),
}

/// What an alignment found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Aligned {
    pub(crate) kept: u64,
    pub(crate) deleted: u64,
    pub(crate) inserted: u64,
    /// Elements (of both) that were compared by counts only, because the budget was spent.
    pub(crate) by_count: u64,
}

/// Aligns `a` with `b`; elements are equal when `key` says so. `visit` sees the steps in order; elements compared by
/// counts are not visited.
pub(crate) fn align<T: Copy>(
    mut a: impl Iterator<Item = T>,
    mut b: impl Iterator<Item = T>,
    key_a: impl Fn(&T) -> u32,
    key_b: impl Fn(&T) -> u32,
    budget: &mut Budget,
    mut visit: impl FnMut(Step<T>),
) -> Aligned {
    let mut out = Aligned::default();
    let mut wa: Vec<T> = Vec::new();
    let mut wb: Vec<T> = Vec::new();
    loop {
        let end_a = fill(&mut wa, &mut a);
        let end_b = fill(&mut wb, &mut b);
        if wa.is_empty() && wb.is_empty() {
            return out;
        }
        let ka: Vec<u32> = wa.iter().map(&key_a).collect();
        let kb: Vec<u32> = wb.iter().map(&key_b).collect();
        if budget.0 == 0 {
            compare_counts(ka, kb, &mut a, &mut b, key_a, key_b, &mut out);
            return out;
        }
        let (script, complete) = myers(&ka, &kb, budget);
        // Near the end of a window an alignment is forced by the border, so only its first part is taken unless the
        // sequences end there.
        let last = end_a && end_b && complete;
        let limit_a = if last { usize::MAX } else { wa.len().div_ceil(2).max(1) };
        let limit_b = if last { usize::MAX } else { wb.len().div_ceil(2).max(1) };
        let (mut x, mut y) = (0, 0);
        for edit in &script {
            if x >= limit_a || y >= limit_b {
                break;
            }
            match edit {
                Edit::Keep => {
                    visit(Step::Keep(wa[x], wb[y]));
                    out.kept += 1;
                    x += 1;
                    y += 1;
                }
                Edit::Delete => {
                    visit(Step::Delete(wa[x]));
                    out.deleted += 1;
                    x += 1;
                }
                Edit::Insert => {
                    visit(Step::Insert(wb[y]));
                    out.inserted += 1;
                    y += 1;
                }
            }
        }
        wa.drain(..x);
        wb.drain(..y);
    }
}

fn fill<T>(window: &mut Vec<T>, from: &mut impl Iterator<Item = T>) -> bool {
    while window.len() < WINDOW {
        match from.next() {
            Some(item) => window.push(item),
            None => return true,
        }
    }
    false
}

fn compare_counts<T>(
    ka: Vec<u32>,
    kb: Vec<u32>,
    a: &mut impl Iterator<Item = T>,
    b: &mut impl Iterator<Item = T>,
    key_a: impl Fn(&T) -> u32,
    key_b: impl Fn(&T) -> u32,
    out: &mut Aligned,
) {
    let mut counts: FxHashMap<u32, (u64, u64)> = FxHashMap::default();
    for k in ka.into_iter().chain(a.map(|t| key_a(&t))) {
        counts.entry(k).or_default().0 += 1;
    }
    for k in kb.into_iter().chain(b.map(|t| key_b(&t))) {
        counts.entry(k).or_default().1 += 1;
    }
    for (x, y) in counts.into_values() {
        out.kept += x.min(y);
        out.deleted += x - x.min(y);
        out.inserted += y - x.min(y);
        out.by_count += x + y;
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Edit {
    Keep,
    Delete,
    Insert,
}

/// The shortest edit script, or the furthest reaching one of [`MAX_EDITS`] edits (then the flag is false and the script
/// covers a prefix of both).
#[expect(clippy::many_single_char_names, reason = "the paper's names")]
fn myers(a: &[u32], b: &[u32], budget: &mut Budget) -> (Vec<Edit>, bool) {
    let prefix = a.iter().zip(b).take_while(|(x, y)| x == y).count();
    let (a_rest, b_rest) = (&a[prefix..], &b[prefix..]);
    let mut script = vec![Edit::Keep; prefix];
    budget.0 = budget.0.saturating_sub(prefix as u64 + 1);
    if a_rest.is_empty() || b_rest.is_empty() {
        script.extend(std::iter::repeat_n(Edit::Delete, a_rest.len()));
        script.extend(std::iter::repeat_n(Edit::Insert, b_rest.len()));
        return (script, true);
    }
    let (n, m) = (a_rest.len() as isize, b_rest.len() as isize);
    let max = MAX_EDITS.min((n + m) as usize) as isize;
    // The furthest x on diagonal k after d edits, for each d: row d has 2d + 1 entries.
    let mut rows: Vec<Vec<i32>> = Vec::new();
    let mut best = (0_isize, 0_isize, 0_isize); // x + y, d, k
    let mut reached = None;
    'search: for d in 0..=max {
        let mut row = vec![-1_i32; (2 * d + 1) as usize];
        for k in (-d..=d).step_by(2) {
            let start = if d == 0 { Some((0, false)) } else { enter(&rows[(d - 1) as usize], d, k, n, m) };
            let Some((mut x, _)) = start else { continue };
            let mut y = x - k;
            let from = x;
            while x < n && y < m && a_rest[x as usize] == b_rest[y as usize] {
                x += 1;
                y += 1;
            }
            budget.0 = budget.0.saturating_sub((x - from) as u64 + 1);
            row[(k + d) as usize] = x as i32;
            if x + y > best.0 {
                best = (x + y, d, k);
            }
            if x == n && y == m {
                reached = Some((d, k));
                rows.push(row);
                break 'search;
            }
        }
        rows.push(row);
    }
    let complete = reached.is_some();
    let (mut d, mut k) = reached.unwrap_or((best.1, best.2));
    let mut back = Vec::new();
    let mut x = rows[d as usize][(k + d) as usize] as isize;
    while d > 0 {
        let Some((start, insert)) = enter(&rows[(d - 1) as usize], d, k, n, m) else { break };
        for _ in start..x {
            back.push(Edit::Keep);
        }
        if insert {
            back.push(Edit::Insert);
            k += 1;
            x = start;
        } else {
            back.push(Edit::Delete);
            k -= 1;
            x = start - 1;
        }
        d -= 1;
    }
    for _ in 0..x {
        back.push(Edit::Keep);
    }
    script.extend(back.into_iter().rev());
    (script, complete)
}

/// How diagonal `k` is entered with the `d`th edit: the x after it and whether it is an insertion; `None` when the
/// border forbids both.
#[expect(clippy::many_single_char_names, reason = "the paper's names")]
fn enter(prev: &[i32], d: isize, k: isize, n: isize, m: isize) -> Option<(isize, bool)> {
    let at = |k: isize| usize::try_from(k + d - 1).ok().and_then(|i| prev.get(i)).map_or(-1, |x| *x as isize);
    let (down, right) = (at(k + 1), at(k - 1));
    let insert = (down >= 0 && down - k <= m).then_some((down, true));
    let delete = (right >= 0 && right < n).then_some((right + 1, false));
    match (insert, delete) {
        (Some(i), Some(x)) => Some(if i.0 > x.0 { i } else { x }),
        (one, other) => one.or(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(a: &[u32], b: &[u32], budget: u64) -> (Aligned, Vec<Step<u32>>) {
        let mut steps = Vec::new();
        let out = align(
            a.iter().copied(),
            b.iter().copied(),
            |x| *x,
            |x| *x,
            &mut Budget(budget),
            |s| steps.push(s),
        );
        (out, steps)
    }

    fn rebuild(steps: &[Step<u32>]) -> (Vec<u32>, Vec<u32>) {
        let (mut a, mut b) = (Vec::new(), Vec::new());
        for s in steps {
            match *s {
                Step::Keep(x, y) => {
                    assert_eq!(x, y);
                    a.push(x);
                    b.push(y);
                }
                Step::Delete(x) => a.push(x),
                Step::Insert(y) => b.push(y),
            }
        }
        (a, b)
    }

    #[test]
    fn known_scripts() {
        let (out, steps) = run(&[1, 2, 3, 4], &[1, 3, 4, 5], 1 << 30);
        assert_eq!((out.kept, out.deleted, out.inserted), (3, 1, 1));
        assert_eq!(
            steps,
            [Step::Keep(1, 1), Step::Delete(2), Step::Keep(3, 3), Step::Keep(4, 4), Step::Insert(5)]
        );
        assert_eq!(run(&[], &[], 1).0, Aligned::default());
        assert_eq!(run(&[1], &[], 1 << 30).0.deleted, 1);
    }

    #[test]
    fn long_sequences_with_scattered_differences_align_across_windows() {
        let a: Vec<u32> = (0..100_000).map(|i| i % 37).collect();
        let mut b = a.clone();
        for i in (500..90_000).step_by(1000).rev() {
            b.remove(i);
        }
        let (out, steps) = run(&a, &b, 1 << 40);
        assert_eq!((out.deleted, out.inserted), (90, 0));
        assert_eq!(rebuild(&steps), (a, b));
    }

    #[test]
    fn nothing_in_common_costs_linear_work() {
        let a = vec![1_u32; 50_000];
        let b = vec![2_u32; 50_000];
        let mut budget = Budget(1 << 40);
        let out = align(a.iter(), b.iter(), |x| **x, |x| **x, &mut budget, |_| {});
        assert_eq!((out.kept, out.deleted, out.inserted), (0, 50_000, 50_000));
        assert!((1 << 40) - budget.0 < 100_000 * MAX_EDITS as u64, "{}", (1_u64 << 40) - budget.0);
    }

    #[test]
    fn a_spent_budget_falls_back_to_counts_and_says_so() {
        let a: Vec<u32> = (0..20_000).collect();
        let b: Vec<u32> = (0..20_000).rev().collect();
        let (out, _) = run(&a, &b, 10_000);
        assert!(out.by_count > 0);
        assert_eq!(out.kept + out.deleted, 20_000);
        assert_eq!(out.kept + out.inserted, 20_000);
    }

    proptest::proptest! {
        #[test]
        fn any_alignment_is_a_script_from_one_to_the_other(
            a in proptest::collection::vec(0_u32..6, 0..300),
            b in proptest::collection::vec(0_u32..6, 0..300),
        ) {
            let (out, steps) = run(&a, &b, 1 << 40);
            proptest::prop_assert_eq!(rebuild(&steps), (a.clone(), b.clone()));
            proptest::prop_assert_eq!((out.kept + out.deleted) as usize, a.len());
            proptest::prop_assert_eq!((out.kept + out.inserted) as usize, b.len());
        }
    }
}
