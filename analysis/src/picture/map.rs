//! Who talked to whom: roles of the trace, their peers and their clients, as nodes and edges.

use super::edges::{Edge as Traffic, Edges, Far, Protocol, add_failure};
use super::processes::role;
use super::quantiles::Histogram;
use super::{Edge, Map, Node};
use crate::findings::called::Called;
use crate::findings::people::{People, RoleId};
use crate::findings::places::Places;
use crate::findings::words;
use ctrace_format::SockAddr;
use rustc_hash::FxHashMap;
use std::cmp::Reverse;
use std::collections::BTreeMap;

/// Edges that are shown: those that carry least go first.
const MAX_EDGES: usize = 240;

/// An end, before it has a number.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct End {
    kind: &'static str,
    name: String,
}

/// What went between two ends.
#[derive(Debug, Default)]
struct Sum {
    count: u64,
    failed: u64,
    failures: Vec<(&'static str, u64)>,
    sent: u64,
    received: u64,
    answers: Histogram,
    connects: Histogram,
}

impl Sum {
    /// `swapped`: the role accepted.
    fn add(&mut self, traffic: &Traffic, swapped: bool) {
        self.count += traffic.count;
        self.failed += traffic.failed;
        for (why, n) in &traffic.failures {
            add_failure(&mut self.failures, why, *n);
        }
        let (sent, received) =
            if swapped { (traffic.received, traffic.sent) } else { (traffic.sent, traffic.received) };
        self.sent = self.sent.saturating_add(sent);
        self.received = self.received.saturating_add(received);
        self.answers.merge(&traffic.answers);
        self.connects.merge(&traffic.connects);
    }

    fn merge(&mut self, other: &Self) {
        self.count += other.count;
        self.failed += other.failed;
        for (why, n) in &other.failures {
            add_failure(&mut self.failures, why, *n);
        }
        self.sent = self.sent.saturating_add(other.sent);
        self.received = self.received.saturating_add(other.received);
        self.answers.merge(&other.answers);
        self.connects.merge(&other.connects);
    }

    /// How much somebody would miss it.
    fn weight(&self) -> u64 {
        let bytes = self.sent.saturating_add(self.received) / 1_000;
        bytes.saturating_add(self.count).saturating_add(self.failed.saturating_mul(100))
    }
}

/// What went between ends, from the one that connected to the other.
type Sums = BTreeMap<(End, End, Protocol), Sum>;

/// Names ends.
struct Names<'a> {
    edges: &'a Edges,
    called: &'a Called,
    people: &'a People,
    places: &'a Places,
}

impl Names<'_> {
    fn service(&self, of: RoleId) -> End {
        let process = self.people.process(self.people.roles[of.0 as usize].first);
        let name = role(process);
        End { kind: "service", name: if name.is_empty() { format!("pid {}", process.tgid) } else { name } }
    }

    fn far(&self, far: &Far, protocol: Protocol) -> End {
        let (kind, name) = match far {
            Far::Peer(peer) => {
                if let Some(role) = self.edges.listener(peer) {
                    return self.service(role);
                }
                match (peer, protocol) {
                    (SockAddr::Unix(_), _) => ("unix", words::address(peer)),
                    (_, Protocol::Dns) => ("name-server", words::address(peer)),
                    (SockAddr::Inet(at), _) => match self.called.name(at.ip()) {
                        Some(name) => ("peer", format!("{}:{}", self.places.name(name), at.port())),
                        None => ("peer", at.to_string()),
                    },
                    _ => ("peer", words::address(peer)),
                }
            }
            Far::Client(ip) => ("client", ip.to_string()),
            Far::Clients(local) => ("client", format!("clients of {}", words::address(local))),
            Far::Other => ("group", "many others".to_owned()),
        };
        End { kind, name }
    }
}

/// Makes the map.
pub(super) fn map(edges: &Edges, called: &Called, people: &People, places: &Places) -> Map {
    let names = Names { edges, called, people, places };
    let mut sums: Sums = BTreeMap::new();
    for ((role, far, protocol), traffic) in edges.sorted() {
        if traffic.count == 0 && traffic.failed == 0 {
            continue;
        }
        let (near, other) = (names.service(*role), names.far(far, *protocol));
        let accepted = matches!(far, Far::Client(_) | Far::Clients(_));
        let key = if accepted { (other, near, *protocol) } else { (near, other, *protocol) };
        sums.entry(key).or_default().add(traffic, accepted);
    }
    // Clients by a unix socket whose other ends are in the trace tell the same once more.
    let served: Vec<End> =
        sums.keys().filter(|(from, ..)| from.kind == "service").map(|k| k.1.clone()).collect();
    sums.retain(|(from, to, protocol), _| {
        !(*protocol == Protocol::Unix && from.kind == "client" && served.contains(to))
    });
    let (sums, grouped) = folded(sums);
    number(sums, &grouped, people)
}

/// Puts ends together beyond what a map can show: those that talked least, by their kind.
fn folded(sums: Sums) -> (Sums, BTreeMap<End, u64>) {
    /// Kinds that a group can be of.
    const GROUPS: usize = 6;
    let mut weights: BTreeMap<End, u64> = BTreeMap::new();
    for ((from, to, _), sum) in &sums {
        for end in [from, to] {
            let weight = weights.entry(end.clone()).or_default();
            *weight = weight.saturating_add(sum.weight());
        }
    }
    if weights.len() <= Map::MAX_NODES {
        return (sums, BTreeMap::new());
    }
    let mut order: Vec<(&End, u64)> = weights.iter().map(|(end, weight)| (end, *weight)).collect();
    order.sort_by_key(|(end, weight)| (end.kind != "service", Reverse(*weight), *end));
    // Services come first, and still leave room for those that they talked to.
    let services = order.iter().filter(|(end, _)| end.kind == "service").count().min(Map::MAX_NODES / 2);
    let mut kept: Vec<&End> = order[..services].iter().map(|(end, _)| *end).collect();
    let mut rest: Vec<(&End, u64)> = order[services..].to_vec();
    rest.sort_by_key(|(end, weight)| (Reverse(*weight), *end));
    kept.extend(rest.iter().take(Map::MAX_NODES - GROUPS - services).map(|(end, _)| *end));
    let kept: rustc_hash::FxHashSet<&End> = kept.into_iter().collect();
    let mut of_kind: BTreeMap<&'static str, u64> = BTreeMap::new();
    for end in weights.keys().filter(|end| !kept.contains(end)) {
        *of_kind.entry(end.kind).or_default() += 1;
    }
    let group = |kind: &'static str| {
        let n = of_kind[kind];
        let what = match kind {
            "service" => "more service",
            "client" => "more client",
            "name-server" => "more name server",
            "unix" => "more unix socket",
            _ => "more peer",
        };
        End { kind: "group", name: words::plural(n, what) }
    };
    let members = of_kind.iter().map(|(kind, n)| (group(kind), *n)).collect();
    let mut out: Sums = BTreeMap::new();
    for ((from, to, protocol), sum) in &sums {
        let place = |end: &End| if kept.contains(end) { end.clone() } else { group(end.kind) };
        out.entry((place(from), place(to), *protocol)).or_default().merge(sum);
    }
    (out, members)
}

fn number(sums: Sums, groups: &BTreeMap<End, u64>, people: &People) -> Map {
    let mut of_role: FxHashMap<String, (u32, u64)> = FxHashMap::default();
    for process in &people.processes {
        of_role.entry(role(process)).or_insert((process.tgid, 0)).1 += 1;
    }
    let mut kept: Vec<((End, End, Protocol), Sum)> = sums.into_iter().collect();
    kept.sort_by(|a, b| b.1.weight().cmp(&a.1.weight()).then_with(|| a.0.cmp(&b.0)));
    kept.truncate(MAX_EDGES);
    let mut index: BTreeMap<End, usize> = BTreeMap::new();
    for ((from, to, _), _) in &kept {
        for end in [from, to] {
            index.entry(end.clone()).or_default();
        }
    }
    let mut nodes = Vec::with_capacity(index.len());
    for (at, (end, number)) in index.iter_mut().enumerate() {
        *number = at;
        let role = (end.kind == "service").then(|| of_role.get(&end.name)).flatten();
        let members = groups.get(end).copied().or_else(|| role.map(|role| role.1));
        nodes.push(Node {
            name: end.name.clone(),
            kind: end.kind,
            tgid: role.map(|role| role.0),
            members: members.unwrap_or(1),
        });
    }
    let edge = |((from, to, protocol), sum): ((End, End, Protocol), Sum)| {
        let times = if sum.answers.count > 0 { &sum.answers } else { &sum.connects };
        let commonest = sum.failures.iter().max_by_key(|(why, n)| (*n, Reverse(*why)));
        Edge {
            from: index[&from],
            to: index[&to],
            protocol: protocol.name(),
            count: sum.count,
            failed: sum.failed,
            failure: commonest.map(|(why, _)| (*why).to_owned()),
            sent_bytes: sum.sent,
            received_bytes: sum.received,
            p50_ns: times.quantile(500),
            p99_ns: times.quantile(990),
        }
    };
    let edges = kept.into_iter().map(edge).collect();
    Map { nodes, edges, grouped: groups.values().sum() }
}
