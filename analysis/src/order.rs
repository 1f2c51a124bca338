//! What had to come before what in a run: a bounded sample of it.

/// Edges that are kept; of more, every second is forgotten as often as needed.
const MOST: usize = 1 << 18;
/// Bit of a sequence's number: it is that of a stream, not of a thread.
const STREAM: u32 = 1 << 31;

/// An operation: which of which sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    seq: u32,
    at: u32,
}

impl Place {
    /// Of a thread, by its index.
    pub(crate) fn of_thread(thread: usize, at: u32) -> Self {
        Self { seq: thread as u32 & !STREAM, at }
    }

    /// Of a stream, by its index.
    pub(crate) fn of_stream(conn: usize, at: u32) -> Self {
        Self { seq: conn as u32 | STREAM, at }
    }

    /// Which of its sequence.
    pub(crate) fn at(self) -> u32 {
        self.at
    }

    /// The first of its sequence.
    pub(crate) fn first(self) -> Self {
        Self { at: 0, ..self }
    }

    pub(crate) fn is_sibling(self, other: Self) -> bool {
        self.seq == other.seq
    }
}

/// Why one operation cannot come before another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Why {
    /// A task begins after it was made.
    Born,
    /// A process is reaped after its end.
    Reaped,
    /// A descriptor is used after it was made, in the order of its uses: they share an offset.
    Descriptor,
    /// A name is found after it was made.
    Name,
    /// A name is not found before it is made.
    Absent,
    /// Bytes arrive after they were sent.
    Bytes,
}

impl Why {
    /// For people.
    pub(crate) fn text(self) -> &'static str {
        match self {
            Self::Born => "a task before it was made",
            Self::Reaped => "a wait before the end it tells of",
            Self::Descriptor => "uses of a descriptor in another order",
            Self::Name => "a name before it was made",
            Self::Absent => "a name made before it was missed",
            Self::Bytes => "bytes before they were sent",
        }
    }
}

/// `effect` cannot have ended before `cause` began.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Edge {
    pub(crate) cause: Place,
    pub(crate) effect: Place,
    pub(crate) why: Why,
}

/// The edges of a run.
#[derive(Debug, Clone)]
pub(crate) struct Edges {
    list: Vec<Edge>,
    seen: u64,
    stride: u64,
}

impl Default for Edges {
    fn default() -> Self {
        Self { list: Vec::new(), seen: 0, stride: 1 }
    }
}

impl Edges {
    pub(crate) fn push(&mut self, edge: Edge) {
        // What a task or a stream does comes in its own order.
        if edge.cause.is_sibling(edge.effect) {
            return;
        }
        let kept = self.seen.is_multiple_of(self.stride);
        self.seen += 1;
        if !kept {
            return;
        }
        if self.list.len() == MOST {
            let mut at = 0_usize;
            self.list.retain(|_| {
                at += 1;
                at % 2 == 1
            });
            self.stride *= 2;
            if !(self.seen - 1).is_multiple_of(self.stride) {
                return;
            }
        }
        self.list.push(edge);
    }

    pub(crate) fn list(&self) -> &[Edge] {
        &self.list
    }

    /// How many there were.
    pub(crate) fn seen(&self) -> u64 {
        self.seen
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_many_edges_a_sample_is_kept() {
        let mut edges = Edges::default();
        let all = MOST as u32 * 3 + 7;
        for at in 0..all {
            edges.push(Edge {
                cause: Place::of_thread(0, at),
                effect: Place::of_stream(0, at),
                why: Why::Bytes,
            });
        }
        assert_eq!(edges.seen(), u64::from(all));
        assert!((MOST / 2..=MOST).contains(&edges.list().len()), "{}", edges.list().len());
        let step = edges.list()[1].cause.at() - edges.list()[0].cause.at();
        assert!(edges.list().windows(2).all(|w| w[1].cause.at() - w[0].cause.at() == step));
    }

    #[test]
    fn what_one_task_does_needs_no_edge() {
        let mut edges = Edges::default();
        let (cause, effect) = (Place::of_thread(3, 1), Place::of_thread(3, 2));
        edges.push(Edge { cause, effect, why: Why::Descriptor });
        assert!(edges.list().is_empty());
    }
}
