//! Which task of one run is which task of the other, and which stream is which.

use super::both::{Both, Run};
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
    pub(crate) seqs: Both<Option<&'a Seq>>,
    /// The place of the recording's first operation.
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
    pub(crate) conns: Both<Option<usize>>,
    pub(crate) group: u32,
}

pub(crate) struct Pairing<'a> {
    pub(crate) lanes: Vec<Lane<'a>>,
    pub(crate) conns: Vec<ConnPair>,
    /// Family of each process.
    pub(crate) family: Both<Vec<u32>>,
    pub(crate) families: Vec<String>,
    /// The names of families in the other run, where it calls them otherwise.
    pub(crate) renamed: FxHashMap<u32, String>,
    /// Processes without counterpart, by role.
    pub(crate) alone: Both<Vec<String>>,
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
    models: Both<&'a Model>,
    joint: &'a Joint<'a>,
    /// Streams of each process.
    conns: Both<Vec<Vec<usize>>>,
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
    fn of_process(&self, run: Run, process: usize) -> Vec<&'a Seq> {
        let model = *self.models.of(run);
        let threads = model.processes[process].threads.iter().map(|t| &model.threads[*t].seq);
        let conns = self.conns.of(run)[process].iter().map(|c| &model.conns[*c].seq);
        threads.chain(conns).collect()
    }

    fn entries(&self, run: Run) -> &'a [Entry] {
        self.joint.entries.of(run)
    }

    fn deeds(&self, run: Run, seqs: &[&Seq]) -> Deeds {
        deeds(seqs, self.entries(run))
    }

    /// Positions of those that belong together, each given by its sequences.
    fn pair(&self, of: &Both<Vec<Vec<&Seq>>>) -> Vec<(usize, usize)> {
        let digests = Both::each(|run| -> Vec<u64> {
            of.of(run).iter().map(|seqs| digest(seqs, self.entries(run))).collect()
        });
        roles::pair(&digests.recorded, &digests.other, |second, i| {
            let run = if second { Run::Other } else { Run::Recorded };
            self.deeds(run, &of.of(run)[i])
        })
    }

    fn pair_processes(&self, of: Both<&[usize]>) -> Vec<Both<usize>> {
        if let ([recorded], [other]) = (of.recorded, of.other) {
            return vec![Both::new(*recorded, *other)];
        }
        let seqs = Both::each(|run| of.of(run).iter().map(|p| self.of_process(run, *p)).collect());
        let found = self.pair(&seqs).into_iter();
        found.map(|(i, j)| Both::new(of.recorded[i], of.other[j])).collect()
    }

    fn pair_seqs(&self, of: &Both<Vec<&Seq>>) -> Vec<(usize, usize)> {
        if of.map(Vec::len) == Both::new(1, 1) {
            return vec![(0, 0)];
        }
        self.pair(&of.map(|seqs| seqs.iter().map(|seq| vec![*seq]).collect()))
    }

    /// Streams of one family, kind and name: what carried the same bytes in the counterpart of its process first, then
    /// what carried the same bytes in another process of the family; the rest by what was done with them. Of those that
    /// carried the same, what went the same way comes first: which of two threads was first to connect is scheduling.
    /// Positions.
    fn pair_streams(&self, of: Both<&[usize]>, partners: &FxHashMap<usize, usize>) -> Vec<(usize, usize)> {
        type Way = Option<((&'static str, Option<u16>), u64, Vec<bool>)>;
        type Carried = (Option<usize>, u64, u64, Way);
        let conn = |run: Run, at: usize| &self.models.of(run).conns[of.of(run)[at]];
        let way = |c: &Conn, exactly: bool| exactly.then(|| (ending(c), c.turn_count(), first_turns(c)));
        let mut found = Vec::new();
        let mut free: Both<Vec<usize>> = of.map(|of| (0..of.len()).collect());
        for (own, exactly) in [(true, true), (true, false), (false, true), (false, false)] {
            let mut waiting: FxHashMap<Carried, VecDeque<usize>> = FxHashMap::default();
            for j in free.other.iter().copied() {
                let c = conn(Run::Other, j);
                let key = (own.then_some(c.process), c.sent, c.received, way(c, exactly));
                waiting.entry(key).or_default().push_back(j);
            }
            let mut taken = FxHashSet::default();
            free.recorded.retain(|i| {
                let c = conn(Run::Recorded, *i);
                let process = match (own, partners.get(&c.process)) {
                    (true, None) => return true,
                    (true, partner) => partner.copied(),
                    (false, _) => None,
                };
                let key = (process, c.sent, c.received, way(c, exactly));
                let same = waiting.get_mut(&key).and_then(VecDeque::pop_front);
                if let Some(j) = same {
                    found.push((*i, j));
                    taken.insert(j);
                }
                same.is_none()
            });
            free.other.retain(|j| !taken.contains(j));
        }
        let seqs = Both::each(|run| free.of(run).iter().map(|at| &conn(run, *at).seq).collect());
        found.extend(self.pair_seqs(&seqs).into_iter().map(|(i, j)| (free.recorded[i], free.other[j])));
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

pub(crate) fn pair<'a>(models: Both<&'a Model>, joint: &'a Joint<'a>) -> Pairing<'a> {
    let sides = Sides { models, joint, conns: models.map(|m| conns_by_process(m)) };
    let kids = models.map(|m| children(m));
    let label = |run: Run, process: usize| roles::label(&models.of(run).processes[process]);
    let mut families = Families::default();
    let mut family_of = models.map(|m| vec![0; m.processes.len()]);
    let mut out = Pairing {
        lanes: Vec::new(),
        conns: Vec::new(),
        family: Both::default(),
        families: Vec::new(),
        renamed: FxHashMap::default(),
        alone: Both::default(),
    };
    let mut partners = FxHashMap::default();
    // Processes whose children are to be paired, and their family; none: the roots.
    let mut todo: Vec<(Both<Option<usize>>, Option<u32>)> = vec![(Both::default(), None)];
    let none = Vec::new();
    while let Some((parents, family)) = todo.pop() {
        let root = parents == Both::default();
        let of = Both::each(|run| {
            let parent = *parents.of(run);
            if parent.is_some() || root { kids.of(run).get(&parent).unwrap_or(&none) } else { &none }
        });
        let mut groups: BTreeMap<String, Both<Vec<usize>>> = BTreeMap::new();
        for run in Run::BOTH {
            for p in *of.of(run) {
                groups.entry(label(run, *p)).or_default().of_mut(run).push(*p);
            }
        }
        let mut pairs = Vec::new();
        let mut left: Both<Vec<usize>> = Both::default();
        for group in groups.values() {
            let found = sides.pair_processes(group.map_ref(Vec::as_slice));
            for run in Run::BOTH {
                let taken: FxHashSet<usize> = found.iter().map(|pair| *pair.of(run)).collect();
                left.of_mut(run).extend(group.of(run).iter().copied().filter(|p| !taken.contains(p)));
            }
            pairs.extend(found);
        }
        // Renamed ones: by what they did; a lone root is the other run's lone root whatever it did.
        for run in Run::BOTH {
            left.of_mut(run).sort_unstable();
        }
        let forced = root && of.map(|of| of.len()) == Both::new(1, 1);
        let mut adopt: Vec<Both<usize>> = Vec::new();
        if !left.recorded.is_empty() && !left.other.is_empty() {
            for pair in sides.pair_processes(left.map_ref(Vec::as_slice)) {
                let alike = forced || {
                    let did = Both::each(|run| sides.deeds(run, &sides.of_process(run, *pair.of(run))));
                    did.recorded.total > 0 && did.recorded.similarity(&did.other) >= SIMILAR
                };
                if alike {
                    adopt.push(pair);
                }
            }
        }
        for run in Run::BOTH {
            let taken: FxHashSet<usize> = adopt.iter().map(|pair| *pair.of(run)).collect();
            left.of_mut(run).retain(|p| !taken.contains(p));
        }
        pairs.extend(adopt);
        for pair in pairs {
            let id = families.id(family, &label(Run::Recorded, pair.recorded));
            for run in Run::BOTH {
                family_of.of_mut(run)[*pair.of(run)] = id;
            }
            let parent = family.map(|f| out.renamed.get(&f).unwrap_or(&families.names[f as usize]));
            let other = label(Run::Other, pair.other);
            let name = parent.map_or_else(|| other.clone(), |p| format!("{}{other}", roles::prefix(p)));
            if name != families.names[id as usize] {
                out.renamed.entry(id).or_insert(name);
            }
            partners.insert(pair.recorded, pair.other);
            todo.push((pair.map(|p| Some(*p)), Some(id)));
        }
        for run in Run::BOTH {
            for p in std::mem::take(left.of_mut(run)) {
                let id = families.id(family, &label(run, p));
                family_of.of_mut(run)[p] = id;
                out.alone.of_mut(run).push(models.of(run).processes[p].role.clone());
                todo.push((Both::only(run, p), Some(id)));
            }
        }
        if !root && let Some(family) = family {
            thread_lanes(&sides, parents, family, &mut out.lanes);
        }
    }
    stream_lanes(&sides, &family_of, &partners, &mut out);
    out.family = family_of;
    out.families = families.names;
    out
}

/// The threads of a process: its first one, and the others by name.
type Threads = (Option<usize>, BTreeMap<String, Vec<usize>>);

fn threads_of(model: &Model, process: Option<usize>) -> Threads {
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
}

fn thread_lanes<'a>(
    sides: &Sides<'a>,
    processes: Both<Option<usize>>,
    family: u32,
    lanes: &mut Vec<Lane<'a>>,
) {
    let mut push = |threads: Both<Option<usize>>| {
        let found = threads.zip(sides.models).map(|(t, model)| t.map(|t| &model.threads[t]));
        let who = Who::Task(found.any().map_or("", |t| t.role.as_str()));
        let place = threads.recorded.map(|t| Place::of_thread(t, 0));
        lanes.push(Lane { seqs: found.map(|t| t.map(|t| &t.seq)), place, who, family });
    };
    let threads = sides.models.zip(processes).map(|(model, process)| threads_of(model, *process));
    let leaders = threads.map(|(leader, _)| *leader);
    if leaders.any().is_some() {
        push(leaders);
    }
    let mut by_name: BTreeMap<String, Both<Vec<usize>>> = BTreeMap::new();
    for run in Run::BOTH {
        for (name, of) in &threads.of(run).1 {
            by_name.entry(name.clone()).or_default().of_mut(run).clone_from(of);
        }
    }
    // Threads without a partner.
    let mut group = |of: &Both<Vec<usize>>| -> Both<Vec<usize>> {
        let seqs =
            Both::each(|run| of.of(run).iter().map(|t| &sides.models.of(run).threads[*t].seq).collect());
        let found = sides.pair_seqs(&seqs);
        for (i, j) in &found {
            push(Both::new(of.recorded[*i], of.other[*j]).map(|t| Some(*t)));
        }
        let taken: (FxHashSet<usize>, FxHashSet<usize>) = found.into_iter().unzip();
        let taken = Both::new(taken.0, taken.1);
        Both::each(|run| {
            let of = of.of(run).iter().enumerate();
            of.filter(|(i, _)| !taken.of(run).contains(i)).map(|(_, t)| *t).collect()
        })
    };
    let mut left: Both<Vec<usize>> = Both::default();
    // Names of the other run alone come after those that the recording has.
    let (named, new): (Vec<_>, Vec<_>) = by_name.into_values().partition(|of| !of.recorded.is_empty());
    for of in named {
        let rest = group(&of);
        left.recorded.extend(rest.recorded);
        left.other.extend(rest.other);
    }
    left.other.extend(new.into_iter().flat_map(|of| of.other));
    // Threads that were named later, or not at all, in one of the runs.
    let rest = group(&left);
    for run in Run::BOTH {
        for t in rest.of(run) {
            push(Both::only(run, *t));
        }
    }
}

fn stream_lanes<'a>(
    sides: &Sides<'a>,
    family_of: &Both<Vec<u32>>,
    partners: &FxHashMap<usize, usize>,
    out: &mut Pairing<'a>,
) {
    type Key<'k> = (u32, ConnKind, Side, &'k str);
    let mut groups: BTreeMap<Key<'_>, Both<Vec<usize>>> = BTreeMap::new();
    for run in Run::BOTH {
        let (model, opposite) = (*sides.models.of(run), *sides.models.of(run.opposite()));
        for (i, c) in model.conns.iter().enumerate() {
            let name = canonical(model, opposite, c.name);
            let key = (family_of.of(run)[c.process], c.kind, c.side, name);
            groups.entry(key).or_default().of_mut(run).push(i);
        }
    }
    for (group, ((family, _, _, name), of)) in groups.into_iter().enumerate() {
        let found = sides.pair_streams(of.map_ref(Vec::as_slice), partners);
        let mut push = |conns: Both<Option<usize>>| {
            out.conns.push(ConnPair { lane: out.lanes.len(), conns, group: group as u32 });
            out.lanes.push(Lane {
                seqs: conns.zip(sides.models).map(|(c, model)| c.map(|c| &model.conns[c].seq)),
                place: conns.recorded.map(|c| Place::of_stream(c, 0)),
                who: Who::Stream(name),
                family,
            });
        };
        let mut used = of.map(|of| vec![false; of.len()]);
        for (i, j) in found {
            used.recorded[i] = true;
            used.other[j] = true;
            push(Both::new(of.recorded[i], of.other[j]).map(|c| Some(*c)));
        }
        for run in Run::BOTH {
            for (c, _) in of.of(run).iter().zip(used.of(run)).filter(|(_, used)| !**used) {
                push(Both::only(run, *c));
            }
        }
    }
}
