//! Which task of one run is which task of the other, and which stream is which.

use super::both::Run;
use super::joint::{Entry, Joint, canonical};
use super::network::{ending, first_turns};
use crate::conn::{Conn, ConnKind, Side};
use crate::model::Model;
use crate::order::Place;
use crate::roles::{self, Deeds};
use crate::seq::Seq;
use rustc_hash::{FxHashMap, FxHashSet};
use std::collections::{BTreeMap, VecDeque};
use std::hash::Hasher as _;

/// Siblings of different labels are taken for one another when at least this much of what they did is the same.
const SIMILAR: f64 = 0.5;

/// Two sequences to compare, or one that has no counterpart.
pub(crate) struct Lane<'a> {
    pub(crate) a: Option<&'a Seq>,
    pub(crate) b: Option<&'a Seq>,
    /// Where the first operation of `a` is.
    pub(crate) place: Option<Place>,
    /// Who: the role of a task, or the name of a stream of the family.
    pub(crate) who: Who<'a>,
    pub(crate) family: u32,
}

/// See [`Pairing::who`].
#[derive(Debug, Clone, Copy)]
pub(crate) enum Who<'a> {
    Task(&'a str),
    Stream(&'a str),
}

/// A pair of streams, or one without counterpart: indices into the models' streams, and the lane of their operations.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ConnPair {
    pub(crate) lane: usize,
    pub(crate) a: Option<usize>,
    pub(crate) b: Option<usize>,
    pub(crate) group: u32,
}

pub(crate) struct Pairing<'a> {
    pub(crate) lanes: Vec<Lane<'a>>,
    pub(crate) conns: Vec<ConnPair>,
    /// Family of each process of both runs.
    pub(crate) family_a: Vec<u32>,
    pub(crate) family_b: Vec<u32>,
    pub(crate) families: Vec<String>,
    /// The names of families in the other run, where it calls them otherwise.
    pub(crate) renamed: FxHashMap<u32, String>,
    /// Processes without counterpart, by role.
    pub(crate) alone_a: Vec<String>,
    pub(crate) alone_b: Vec<String>,
}

impl Pairing<'_> {
    /// What a run calls a family of tasks.
    pub(crate) fn role(&self, family: u32, run: Run) -> &str {
        let renamed = self.renamed.get(&family).filter(|_| run == Run::Other);
        renamed.unwrap_or(&self.families[family as usize])
    }

    /// The name of a lane, for people.
    pub(crate) fn who(&self, lane: usize) -> String {
        let lane = &self.lanes[lane];
        match lane.who {
            Who::Task(role) => role.to_owned(),
            Who::Stream(name) => format!("{} · {name}", self.families[lane.family as usize]),
        }
    }
}

struct Sides<'a> {
    a: &'a Model,
    b: &'a Model,
    joint: &'a Joint<'a>,
    conns_a: Vec<Vec<usize>>,
    conns_b: Vec<Vec<usize>>,
}

fn digest(seqs: &[&Seq], entries: &[Entry]) -> u64 {
    let mut hasher = rustc_hash::FxHasher::default();
    for seq in seqs {
        for op in seq.iter() {
            // Never 0: this hasher makes the same of any number of zeros.
            hasher.write_u32(entries[op.symbol as usize].base + 1);
        }
        hasher.write_u32(u32::MAX);
    }
    hasher.finish()
}

fn deeds(seqs: &[&Seq], entries: &[Entry]) -> Deeds {
    let mut out = Deeds::default();
    for op in seqs.iter().flat_map(|s| s.iter()) {
        *out.counts.entry(entries[op.symbol as usize].base).or_default() += 1;
        out.total += 1;
    }
    out
}

impl<'a> Sides<'a> {
    /// All sequences of a process.
    fn of_process(&self, second: bool, process: usize) -> Vec<&'a Seq> {
        let (model, conns) = if second { (self.b, &self.conns_b) } else { (self.a, &self.conns_a) };
        let threads = model.processes[process].threads.iter().map(|t| &model.threads[*t].seq);
        threads.chain(conns[process].iter().map(|c| &model.conns[*c].seq)).collect()
    }

    fn entries(&self, second: bool) -> &'a [Entry] {
        if second { &self.joint.b } else { &self.joint.a }
    }

    fn pair_processes(&self, a: &[usize], b: &[usize]) -> Vec<(usize, usize)> {
        if let ([x], [y]) = (a, b) {
            return vec![(*x, *y)];
        }
        let digests = |second: bool, of: &[usize]| -> Vec<u64> {
            of.iter().map(|p| digest(&self.of_process(second, *p), self.entries(second))).collect()
        };
        roles::pair(&digests(false, a), &digests(true, b), |second, i| {
            let process = if second { b[i] } else { a[i] };
            deeds(&self.of_process(second, process), self.entries(second))
        })
        .into_iter()
        .map(|(i, j)| (a[i], b[j]))
        .collect()
    }

    fn pair_seqs(&self, a: &[&Seq], b: &[&Seq]) -> Vec<(usize, usize)> {
        if a.len() == 1 && b.len() == 1 {
            return vec![(0, 0)];
        }
        let digests = |second: bool, of: &[&Seq]| -> Vec<u64> {
            of.iter().map(|s| digest(&[s], self.entries(second))).collect()
        };
        roles::pair(&digests(false, a), &digests(true, b), |second, i| {
            deeds(&[if second { b[i] } else { a[i] }], self.entries(second))
        })
    }

    /// Streams of one family, kind and name: what carried the same bytes in the counterpart of its process first, then
    /// what carried the same bytes in another process of the family; the rest by what was done with them. Of those that
    /// carried the same, what went the same way comes first: which of two threads was first to connect is scheduling.
    /// Positions.
    fn pair_streams(
        &self,
        a: &[usize],
        b: &[usize],
        partners: &FxHashMap<usize, usize>,
    ) -> Vec<(usize, usize)> {
        type Way = Option<((&'static str, Option<u16>), u64, Vec<bool>)>;
        type Carried = (Option<usize>, u64, u64, Way);
        let (of_a, of_b) = (|c: usize| &self.a.conns[c], |c: usize| &self.b.conns[c]);
        let way = |c: &Conn, exactly: bool| exactly.then(|| (ending(c), c.turn_count(), first_turns(c)));
        let mut found = Vec::new();
        let (mut free_a, mut free_b): (Vec<usize>, Vec<usize>) =
            ((0..a.len()).collect(), (0..b.len()).collect());
        for (own, exactly) in [(true, true), (true, false), (false, true), (false, false)] {
            let mut waiting: FxHashMap<Carried, VecDeque<usize>> = FxHashMap::default();
            for j in free_b.iter().copied() {
                let y = of_b(b[j]);
                let key = (own.then_some(y.process), y.sent, y.received, way(y, exactly));
                waiting.entry(key).or_default().push_back(j);
            }
            let mut taken = FxHashSet::default();
            free_a.retain(|i| {
                let x = of_a(a[*i]);
                let process = match (own, partners.get(&x.process)) {
                    (true, None) => return true,
                    (true, partner) => partner.copied(),
                    (false, _) => None,
                };
                let key = (process, x.sent, x.received, way(x, exactly));
                let same = waiting.get_mut(&key).and_then(VecDeque::pop_front);
                if let Some(j) = same {
                    found.push((*i, j));
                    taken.insert(j);
                }
                same.is_none()
            });
            free_b.retain(|j| !taken.contains(j));
        }
        let sa: Vec<&Seq> = free_a.iter().map(|i| &of_a(a[*i]).seq).collect();
        let sb: Vec<&Seq> = free_b.iter().map(|j| &of_b(b[*j]).seq).collect();
        found.extend(self.pair_seqs(&sa, &sb).into_iter().map(|(i, j)| (free_a[i], free_b[j])));
        found.sort_unstable();
        found
    }
}

/// The process tree without processes that did nothing: the replay engine's own, and those that only slept.
fn children(model: &Model) -> FxHashMap<Option<usize>, Vec<usize>> {
    let silent: Vec<bool> =
        model.processes.iter().map(|p| p.threads.iter().all(|t| model.threads[*t].calls == 0)).collect();
    // Each gets the next above that did something. Parents come before children.
    let mut above: Vec<Option<usize>> = Vec::with_capacity(model.processes.len());
    for (i, p) in model.processes.iter().enumerate() {
        let parent = p.parent.filter(|parent| *parent < i);
        above.push(parent.and_then(|parent| if silent[parent] { above[parent] } else { Some(parent) }));
    }
    let mut out: FxHashMap<Option<usize>, Vec<usize>> = FxHashMap::default();
    for i in 0..model.processes.len() {
        if silent[i] {
            continue;
        }
        out.entry(above[i]).or_default().push(i);
    }
    out
}

fn conns_by_process(model: &Model) -> Vec<Vec<usize>> {
    let mut out = vec![Vec::new(); model.processes.len()];
    for (i, c) in model.conns.iter().enumerate() {
        out[c.process].push(i);
    }
    out
}

#[derive(Default)]
struct Families {
    index: FxHashMap<String, u32>,
    names: Vec<String>,
}

impl Families {
    fn id(&mut self, parent: Option<u32>, label: &str) -> u32 {
        let name = parent.map_or_else(
            || label.to_owned(),
            |p| format!("{}{label}", roles::prefix(&self.names[p as usize])),
        );
        *self.index.entry(name).or_insert_with_key(|name| {
            self.names.push(name.clone());
            self.names.len() as u32 - 1
        })
    }
}

pub(crate) fn pair<'a>(a: &'a Model, b: &'a Model, joint: &'a Joint<'a>) -> Pairing<'a> {
    let sides = Sides { a, b, joint, conns_a: conns_by_process(a), conns_b: conns_by_process(b) };
    let (kids_a, kids_b) = (children(a), children(b));
    let mut families = Families::default();
    let mut family_a = vec![0; a.processes.len()];
    let mut family_b = vec![0; b.processes.len()];
    let mut out = Pairing {
        lanes: Vec::new(),
        conns: Vec::new(),
        family_a: Vec::new(),
        family_b: Vec::new(),
        families: Vec::new(),
        renamed: FxHashMap::default(),
        alone_a: Vec::new(),
        alone_b: Vec::new(),
    };
    let mut partners = FxHashMap::default();
    let mut todo: Vec<(Option<usize>, Option<usize>, Option<u32>)> = vec![(None, None, None)];
    let none = Vec::new();
    while let Some((pa, pb, family)) = todo.pop() {
        let root = pa.is_none() && pb.is_none();
        let of_a = if pa.is_some() || root { kids_a.get(&pa).unwrap_or(&none) } else { &none };
        let of_b = if pb.is_some() || root { kids_b.get(&pb).unwrap_or(&none) } else { &none };
        let mut groups: BTreeMap<String, (Vec<usize>, Vec<usize>)> = BTreeMap::new();
        for p in of_a {
            groups.entry(roles::label(&a.processes[*p])).or_default().0.push(*p);
        }
        for p in of_b {
            groups.entry(roles::label(&b.processes[*p])).or_default().1.push(*p);
        }
        let mut pairs = Vec::new();
        let (mut left_a, mut left_b) = (Vec::new(), Vec::new());
        for (xs, ys) in groups.values() {
            let found = sides.pair_processes(xs, ys);
            let taken: (FxHashSet<usize>, FxHashSet<usize>) = found.iter().copied().unzip();
            left_a.extend(xs.iter().copied().filter(|x| !taken.0.contains(x)));
            left_b.extend(ys.iter().copied().filter(|y| !taken.1.contains(y)));
            pairs.extend(found);
        }
        // Renamed ones: by what they did; a lone root is the other run's lone root whatever it did.
        left_a.sort_unstable();
        left_b.sort_unstable();
        let forced = root && of_a.len() == 1 && of_b.len() == 1;
        let mut adopt: Vec<(usize, usize)> = Vec::new();
        if !left_a.is_empty() && !left_b.is_empty() {
            for (x, y) in sides.pair_processes(&left_a, &left_b) {
                let alike = forced || {
                    let da = deeds(&sides.of_process(false, x), &joint.a);
                    let db = deeds(&sides.of_process(true, y), &joint.b);
                    da.total > 0 && da.similarity(&db) >= SIMILAR
                };
                if alike {
                    adopt.push((x, y));
                }
            }
        }
        let taken: (FxHashSet<usize>, FxHashSet<usize>) = adopt.iter().copied().unzip();
        left_a.retain(|x| !taken.0.contains(x));
        left_b.retain(|y| !taken.1.contains(y));
        pairs.extend(adopt);
        for (x, y) in pairs {
            let id = families.id(family, &roles::label(&a.processes[x]));
            family_a[x] = id;
            family_b[y] = id;
            let parent = family.map(|f| out.renamed.get(&f).unwrap_or(&families.names[f as usize]));
            let label = roles::label(&b.processes[y]);
            let name = parent.map_or_else(|| label.clone(), |p| format!("{}{label}", roles::prefix(p)));
            if name != families.names[id as usize] {
                out.renamed.entry(id).or_insert(name);
            }
            partners.insert(x, y);
            todo.push((Some(x), Some(y), Some(id)));
        }
        for x in left_a {
            let id = families.id(family, &roles::label(&a.processes[x]));
            family_a[x] = id;
            out.alone_a.push(a.processes[x].role.clone());
            todo.push((Some(x), None, Some(id)));
        }
        for y in left_b {
            let id = families.id(family, &roles::label(&b.processes[y]));
            family_b[y] = id;
            out.alone_b.push(b.processes[y].role.clone());
            todo.push((None, Some(y), Some(id)));
        }
        if !root && let Some(family) = family {
            thread_lanes(&sides, pa, pb, family, &mut out.lanes);
        }
    }
    stream_lanes(&sides, &family_a, &family_b, &partners, &mut out);
    out.family_a = family_a;
    out.family_b = family_b;
    out.families = families.names;
    out
}

fn thread_lanes<'a>(
    sides: &Sides<'a>,
    pa: Option<usize>,
    pb: Option<usize>,
    family: u32,
    lanes: &mut Vec<Lane<'a>>,
) {
    let split = |model: &'a Model, process: Option<usize>| {
        let mut leader = None;
        let mut others: BTreeMap<String, Vec<usize>> = BTreeMap::new();
        if let Some(p) = process {
            let process = &model.processes[p];
            for t in &process.threads {
                let thread = &model.threads[*t];
                if thread.tid == process.tgid && leader.is_none() {
                    leader = Some(*t);
                } else if thread.seq.iter().next().is_some() {
                    // One that did nothing is nobody's counterpart: who did something there may be called otherwise.
                    // The role's last part, without its ordinal, is the stable name.
                    let name = thread.role.strip_prefix(process.role.as_str()).unwrap_or(&thread.role);
                    let name = name.rsplit_once('#').map_or(name, |(n, _)| n);
                    others.entry(name.to_owned()).or_default().push(*t);
                }
            }
        }
        (leader, others)
    };
    let (leader_a, others_a) = split(sides.a, pa);
    let (leader_b, mut others_b) = split(sides.b, pb);
    let mut push = |x: Option<usize>, y: Option<usize>| {
        let (ta, tb) = (x.map(|t| &sides.a.threads[t]), y.map(|t| &sides.b.threads[t]));
        let who = Who::Task(ta.or(tb).map_or("", |t| t.role.as_str()));
        let place = x.map(|t| Place::of_thread(t, 0));
        lanes.push(Lane { a: ta.map(|t| &t.seq), b: tb.map(|t| &t.seq), place, who, family });
    };
    if leader_a.is_some() || leader_b.is_some() {
        push(leader_a, leader_b);
    }
    let mut left_a: Vec<usize> = Vec::new();
    let mut group = |xs: Vec<usize>, ys: Vec<usize>| -> (Vec<usize>, Vec<usize>) {
        let sa: Vec<&Seq> = xs.iter().map(|t| &sides.a.threads[*t].seq).collect();
        let sb: Vec<&Seq> = ys.iter().map(|t| &sides.b.threads[*t].seq).collect();
        let found = sides.pair_seqs(&sa, &sb);
        for (i, j) in &found {
            push(Some(xs[*i]), Some(ys[*j]));
        }
        let taken: (FxHashSet<usize>, FxHashSet<usize>) = found.into_iter().unzip();
        let rest = |of: &[usize], taken: &FxHashSet<usize>| {
            of.iter().enumerate().filter(|(i, _)| !taken.contains(i)).map(|(_, t)| *t).collect()
        };
        (rest(&xs, &taken.0), rest(&ys, &taken.1))
    };
    let mut left_b: Vec<usize> = Vec::new();
    for (name, xs) in others_a {
        let ys = others_b.remove(&name).unwrap_or_default();
        let (x, y) = group(xs, ys);
        left_a.extend(x);
        left_b.extend(y);
    }
    left_b.extend(others_b.into_values().flatten());
    // Threads that were named later, or not at all, in one of the runs.
    let (x, y) = group(left_a, left_b);
    for t in x {
        push(Some(t), None);
    }
    for t in y {
        push(None, Some(t));
    }
}

fn stream_lanes<'a>(
    sides: &Sides<'a>,
    family_a: &[u32],
    family_b: &[u32],
    partners: &FxHashMap<usize, usize>,
    out: &mut Pairing<'a>,
) {
    type Key<'k> = (u32, ConnKind, Side, &'k str);
    let mut groups: BTreeMap<Key<'_>, (Vec<usize>, Vec<usize>)> = BTreeMap::new();
    for (i, c) in sides.a.conns.iter().enumerate() {
        let name = canonical(sides.a, sides.b, c.name);
        groups.entry((family_a[c.process], c.kind, c.side, name)).or_default().0.push(i);
    }
    for (i, c) in sides.b.conns.iter().enumerate() {
        let name = canonical(sides.b, sides.a, c.name);
        groups.entry((family_b[c.process], c.kind, c.side, name)).or_default().1.push(i);
    }
    for (group, ((family, _, _, name), (xs, ys))) in groups.into_iter().enumerate() {
        let found = sides.pair_streams(&xs, &ys, partners);
        let mut used_a = vec![false; xs.len()];
        let mut used_b = vec![false; ys.len()];
        let mut push = |x: Option<usize>, y: Option<usize>| {
            out.conns.push(ConnPair { lane: out.lanes.len(), a: x, b: y, group: group as u32 });
            out.lanes.push(Lane {
                a: x.map(|c| &sides.a.conns[c].seq),
                b: y.map(|c| &sides.b.conns[c].seq),
                place: x.map(|c| Place::of_stream(c, 0)),
                who: Who::Stream(name),
                family,
            });
        };
        for (i, j) in found {
            used_a[i] = true;
            used_b[j] = true;
            push(Some(xs[i]), Some(ys[j]));
        }
        for (i, x) in xs.iter().enumerate().filter(|(i, _)| !used_a[*i]) {
            let _ = i;
            push(Some(*x), None);
        }
        for (_, y) in ys.iter().enumerate().filter(|(j, _)| !used_b[*j]) {
            push(None, Some(*y));
        }
    }
}
