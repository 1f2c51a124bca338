//! Places for the ends of a service map: columns from those that connect to those that accept, and in each column an order
//! with few crossings (Sugiyama's method: ranks without circles, barycentres).

use petgraph::algo::greedy_feedback_arc_set;
use petgraph::stable_graph::StableDiGraph;
use petgraph::visit::EdgeRef;

/// Passes over the columns, there and back.
const PASSES: usize = 12;

/// Sizes of a map.
pub(super) const BOX_WIDTH: f64 = 156.0;
pub(super) const BOX_HEIGHT: f64 = 46.0;
const COLUMN: f64 = BOX_WIDTH + 138.0;
const ROW: f64 = BOX_HEIGHT + 26.0;
/// Room that a line which passes through a column takes.
const THREAD: f64 = 22.0;
pub(super) const MARGIN: f64 = 14.0;

/// Where everything is.
#[derive(Debug, Default)]
pub(super) struct Layout {
    pub(super) width: f64,
    pub(super) height: f64,
    /// The left upper corner of each node.
    pub(super) nodes: Vec<(f64, f64)>,
    /// Middles of the columns that each edge passes, from the end that connects on.
    pub(super) bends: Vec<Vec<(f64, f64)>>,
}

/// What stands in a column: a node, or an edge that passes.
struct Item {
    rank: usize,
    is_node: bool,
    y: f64,
}

struct Grid {
    items: Vec<Item>,
    /// Items of the columns beside an item: left, right.
    beside: Vec<[Vec<usize>; 2]>,
    columns: Vec<Vec<usize>>,
}

/// Works out places for so many nodes and these edges.
pub(super) fn layout(nodes: usize, edges: &[(usize, usize)]) -> Layout {
    let ranks = ranks(nodes, edges);
    let mut all = Grid {
        items: ranks.iter().map(|rank| Item { rank: *rank, is_node: true, y: 0.0 }).collect(),
        beside: vec![[Vec::new(), Vec::new()]; nodes],
        columns: vec![Vec::new(); ranks.iter().max().map_or(0, |most| most + 1)],
    };
    let passing: Vec<Vec<usize>> = edges.iter().map(|edge| all.connect(*edge)).collect();
    for at in 0..all.items.len() {
        all.columns[all.items[at].rank].push(at);
    }
    all.order();
    all.place();
    let lowest = all.items.iter().map(|item| item.y - item.height() / 2.0).fold(f64::MAX, f64::min);
    let x = |at: usize| MARGIN + all.items[at].rank as f64 * COLUMN;
    let y = |at: usize| all.items[at].y - lowest + MARGIN;
    let highest = (0..all.items.len()).map(|at| y(at) + all.items[at].height() / 2.0).fold(0.0, f64::max);
    Layout {
        width: MARGIN * 2.0 + BOX_WIDTH + COLUMN * all.columns.len().saturating_sub(1) as f64,
        height: highest + MARGIN,
        nodes: (0..nodes).map(|at| (x(at), y(at) - BOX_HEIGHT / 2.0)).collect(),
        bends: passing
            .iter()
            .map(|items| items.iter().map(|at| (x(*at) + BOX_WIDTH / 2.0, y(*at))).collect())
            .collect(),
    }
}

/// A column for each node, from 0 on: right of everything that connects to it, where there is no circle.
fn ranks(nodes: usize, edges: &[(usize, usize)]) -> Vec<usize> {
    let mut graph: StableDiGraph<usize, ()> = StableDiGraph::new();
    let indices: Vec<_> = (0..nodes).map(|n| graph.add_node(n)).collect();
    for (from, to) in edges {
        if from != to {
            graph.add_edge(indices[*from], indices[*to], ());
        }
    }
    let circles: Vec<_> = greedy_feedback_arc_set(&graph).map(|edge| edge.id()).collect();
    for edge in circles {
        graph.remove_edge(edge);
    }
    let order = petgraph::algo::toposort(&graph, None).unwrap_or_default();
    let mut ranks = vec![0_usize; nodes];
    for index in &order {
        for edge in graph.edges(*index) {
            let (from, to) = (graph[*index], graph[edge.target()]);
            ranks[to] = ranks[to].max(ranks[from] + 1);
        }
    }
    // An end to which nobody connects stands directly in front of the first one that it connects to.
    for index in &order {
        let is_source = graph.edges_directed(*index, petgraph::Direction::Incoming).next().is_none();
        let next = graph.edges(*index).map(|edge| ranks[graph[edge.target()]]).min();
        if let (true, Some(next)) = (is_source, next) {
            ranks[graph[*index]] = next.saturating_sub(1);
        }
    }
    ranks
}

impl Item {
    const fn height(&self) -> f64 {
        if self.is_node { ROW } else { THREAD }
    }
}

impl Grid {
    /// Connects two nodes through the columns between them. Returns what passes there, from the first node on.
    fn connect(&mut self, (from, to): (usize, usize)) -> Vec<usize> {
        let (left, right) =
            if self.items[from].rank <= self.items[to].rank { (from, to) } else { (to, from) };
        let mut before = left;
        let mut passing = Vec::new();
        for rank in self.items[left].rank + 1..self.items[right].rank {
            self.items.push(Item { rank, is_node: false, y: 0.0 });
            self.beside.push([Vec::new(), Vec::new()]);
            let at = self.items.len() - 1;
            self.link(before, at);
            passing.push(at);
            before = at;
        }
        if self.items[before].rank < self.items[right].rank {
            self.link(before, right);
        }
        if left == to {
            passing.reverse();
        }
        passing
    }

    fn link(&mut self, left: usize, right: usize) {
        self.beside[left][1].push(right);
        self.beside[right][0].push(left);
    }

    /// Orders each column by the mean place of what its items are connected with in the column beside it; keeps the order with
    /// the fewest crossings.
    fn order(&mut self) {
        let mut best = (self.crossings(), self.columns.clone());
        for pass in 0..PASSES {
            let to_right = pass % 2 == 0;
            let last = self.columns.len().saturating_sub(1);
            for step in 1..self.columns.len() {
                self.sort(if to_right { step } else { last - step }, usize::from(!to_right));
            }
            let crossings = self.crossings();
            if crossings < best.0 {
                best = (crossings, self.columns.clone());
            }
        }
        self.columns = best.1;
    }

    fn sort(&mut self, column: usize, side: usize) {
        let places = self.places();
        let keys: Vec<(f64, usize)> = self.columns[column]
            .iter()
            .map(|at| {
                let beside = &self.beside[*at][side];
                let sum: usize = beside.iter().map(|other| places[*other]).sum();
                let mean =
                    if beside.is_empty() { places[*at] as f64 } else { sum as f64 / beside.len() as f64 };
                (mean, *at)
            })
            .collect();
        let mut keys = keys;
        keys.sort_by(|a, b| a.0.total_cmp(&b.0));
        self.columns[column] = keys.into_iter().map(|(_, at)| at).collect();
    }

    /// The place of each item in its column.
    fn places(&self) -> Vec<usize> {
        let mut places = vec![0; self.items.len()];
        for column in &self.columns {
            for (place, at) in column.iter().enumerate() {
                places[*at] = place;
            }
        }
        places
    }

    fn crossings(&self) -> usize {
        let places = self.places();
        let crossed = |column: &Vec<usize>| {
            let lines: Vec<(usize, usize)> = column
                .iter()
                .flat_map(|at| self.beside[*at][1].iter().map(|to| (places[*at], places[*to])))
                .collect();
            let cross = |a: &(usize, usize), b: &(usize, usize)| a.0 < b.0 && a.1 > b.1;
            lines.iter().map(|a| lines.iter().filter(|b| cross(a, b)).count()).sum::<usize>()
        };
        self.columns.iter().map(crossed).sum()
    }

    /// Gives every item a height at which its lines are short, without moving it past others of its column.
    fn place(&mut self) {
        for column in &self.columns {
            let mut y = 0.0;
            for at in column {
                let height = self.items[*at].height();
                self.items[*at].y = y + height / 2.0;
                y += height;
            }
        }
        for pass in 0..PASSES {
            let to_right = pass % 2 == 0;
            let last = self.columns.len().saturating_sub(1);
            for step in 0..self.columns.len() {
                self.settle(if to_right { step } else { last - step });
            }
        }
    }

    fn settle(&mut self, column: usize) {
        let wanted: Vec<f64> = self.columns[column]
            .iter()
            .map(|at| {
                let beside: Vec<usize> = self.beside[*at].iter().flatten().copied().collect();
                let sum: f64 = beside.iter().map(|other| self.items[*other].y).sum();
                if beside.is_empty() { self.items[*at].y } else { sum / beside.len() as f64 }
            })
            .collect();
        let mut y = f64::MIN;
        let mut placed = Vec::with_capacity(wanted.len());
        for (at, wanted) in self.columns[column].iter().zip(&wanted) {
            let half = self.items[*at].height() / 2.0;
            y = wanted.max(y + half);
            placed.push(y);
            y += half;
        }
        // What was pushed down is lifted by the mean of that.
        let lift = placed.iter().zip(&wanted).map(|(p, w)| p - w).sum::<f64>() / wanted.len().max(1) as f64;
        for (at, y) in self.columns[column].iter().zip(placed) {
            self.items[*at].y = y - lift;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn overlaps(layout: &Layout) -> bool {
        let nodes = &layout.nodes;
        nodes.iter().enumerate().any(|(n, a)| {
            nodes[..n].iter().any(|b| (a.0 - b.0).abs() < BOX_WIDTH && (a.1 - b.1).abs() < BOX_HEIGHT)
        })
    }

    #[test]
    fn ends_stand_right_of_what_connects_to_them() {
        let layout = layout(4, &[(0, 1), (1, 2), (1, 3), (0, 3)]);
        let x: Vec<f64> = layout.nodes.iter().map(|n| n.0).collect();
        assert!(x[0] < x[1] && x[1] < x[2] && x[2].total_cmp(&x[3]).is_eq(), "{x:?}");
        assert_eq!(layout.bends[3].len(), 1, "the long edge passes a column");
        assert!(!overlaps(&layout));
    }

    #[test]
    fn circles_and_hostile_shapes_have_a_place_too() {
        for (nodes, edges) in [
            (0, vec![]),
            (1, vec![(0, 0)]),
            (2, vec![(0, 1), (1, 0)]),
            (3, vec![(0, 1), (1, 2), (2, 0)]),
            (60, (0..60).flat_map(|a| (0..60).map(move |b| (a, b))).collect()),
            (60, (1..60).map(|n| (n, 0)).collect()),
            (60, (1..60).map(|n| (n - 1, n)).collect()),
        ] {
            let layout = layout(nodes, &edges);
            assert_eq!((layout.nodes.len(), layout.bends.len()), (nodes, edges.len()));
            assert!(!overlaps(&layout), "{nodes} {layout:?}");
            let inside =
                |(x, y): &(f64, f64)| *x >= 0.0 && *y >= 0.0 && *x <= layout.width && *y <= layout.height;
            assert!(layout.nodes.iter().chain(layout.bends.iter().flatten()).all(inside), "{nodes}");
        }
    }

    #[test]
    fn lines_that_need_not_cross_do_not() {
        // Two ladders, given crosswise.
        let layout = layout(6, &[(0, 5), (1, 4), (2, 3)]);
        let y = |n: usize| layout.nodes[n].1;
        let left = [y(0), y(1), y(2)];
        let right = [y(5), y(4), y(3)];
        for a in 0..3 {
            for b in 0..3 {
                assert_eq!(left[a] < left[b], right[a] < right[b], "{layout:?}");
            }
        }
    }
}
