//! DNS messages: which names were asked for, and what became of the questions. Nothing else of a message is kept.

use rustc_hash::FxHashMap;

/// Questions that wait for their answers; more are given up, the oldest first.
const MAX_PENDING: usize = 4096;

/// The part of a message that is looked at (RFC 1035, 4.1).
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Message {
    /// Its id.
    pub(super) id: u16,
    /// Response code and number of answers of a response.
    pub(super) answer: Option<(u8, u16)>,
    /// The name asked for, without the final dot.
    pub(super) name: Vec<u8>,
    /// The type asked for.
    pub(super) qtype: u16,
}

/// Reads a message, which over TCP has its length in front. `None`: it is none, or none about one question.
pub(super) fn parse(bytes: &[u8], stream: bool) -> Option<Message> {
    if stream
        && let Some(([a, b], rest)) = bytes.split_first_chunk::<2>()
        && rest.len() >= 12
        && usize::from(u16::from_be_bytes([*a, *b])) >= rest.len()
    {
        return read(rest).or_else(|| read(bytes));
    }
    read(bytes)
}

fn read(bytes: &[u8]) -> Option<Message> {
    let word = |at: usize| Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?));
    let (id, flags, questions, answers) = (word(0)?, word(2)?, word(4)?, word(6)?);
    // Opcode 0 is a query; others (update, notify) ask for no name.
    if questions != 1 || flags >> 11 & 0xf != 0 {
        return None;
    }
    let mut name = Vec::new();
    let mut at = 12;
    loop {
        let len = usize::from(*bytes.get(at)?);
        at += 1;
        match len {
            0 => break,
            // The first name of a message refers to no other.
            64.. => return None,
            _ => {}
        }
        if !name.is_empty() {
            name.push(b'.');
        }
        name.extend_from_slice(bytes.get(at..at + len)?);
        at += len;
        if name.len() > 255 {
            return None;
        }
    }
    let answer = (flags & 0x8000 != 0).then_some(((flags & 0xf) as u8, answers));
    Some(Message { id, answer, name, qtype: word(at)? })
}

/// A question that was sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Question<T> {
    pub(super) sent_ns: u64,
    pub(super) what: T,
}

/// What identifies a question: socket, id, name and type.
type Key = (u64, u16, Vec<u8>, u16);

/// Questions and their answers.
#[derive(Debug)]
pub(super) struct Pending<T>(FxHashMap<Key, Question<T>>);

impl<T> Default for Pending<T> {
    fn default() -> Self {
        Self(FxHashMap::default())
    }
}

impl<T> Pending<T> {
    /// A question is sent. What is returned was asked before and stays without an answer.
    pub(super) fn ask(&mut self, sk: u64, m: Message, sent_ns: u64, what: T) -> Option<(Question<T>, u64)> {
        let again = self.0.insert((sk, m.id, m.name, m.qtype), Question { sent_ns, what });
        if let Some(before) = again {
            return Some((before, sent_ns));
        }
        if self.0.len() > MAX_PENDING {
            let oldest = self.0.iter().min_by_key(|(_, q)| q.sent_ns).map(|(key, _)| key.clone())?;
            return self.0.remove(&oldest).map(|q| (q, sent_ns));
        }
        None
    }

    /// An answer is read: the question that it belongs to.
    pub(super) fn answer(&mut self, sk: u64, m: &Message) -> Option<Question<T>> {
        self.0.remove(&(sk, m.id, m.name.clone(), m.qtype))
    }

    /// What waits for an answer.
    pub(super) fn waiting(&self) -> impl Iterator<Item = &T> {
        self.0.values().map(|question| &question.what)
    }

    /// What has no answer, in the order in which it was asked.
    pub(super) fn rest(&mut self) -> Vec<Question<T>> {
        let mut rest: Vec<_> = self.0.drain().map(|(_, q)| q).collect();
        rest.sort_by_key(|q| q.sent_ns);
        rest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(id: u16, flags: u16, name: &[u8], qtype: u16) -> Vec<u8> {
        let mut out = Vec::new();
        for word in [id, flags, 1, 2, 0, 0] {
            out.extend(word.to_be_bytes());
        }
        for label in name.split(|b| *b == b'.') {
            out.push(label.len() as u8);
            out.extend(label);
        }
        out.push(0);
        out.extend(qtype.to_be_bytes());
        out.extend([0, 1]);
        out
    }

    #[test]
    fn names_types_and_codes_are_read() {
        let query = message(7, 0x0100, b"db.example.org", 28);
        let m = parse(&query, false).unwrap();
        assert_eq!((m.id, m.answer, m.qtype), (7, None, 28));
        assert_eq!(m.name, b"db.example.org");
        assert_eq!(parse(&message(7, 0x8183, b"x", 1), false).unwrap().answer, Some((3, 2)));
        let framed = [&(query.len() as u16).to_be_bytes()[..], &query].concat();
        assert_eq!(parse(&framed, true).unwrap().id, 7);
        // glibc reads the length and the message one by one.
        assert_eq!(parse(&query, true).unwrap().id, 7);
        assert_eq!(parse(&framed[..2], true), None);
    }

    #[test]
    fn nonsense_is_refused_at_every_length() {
        let query = message(7, 0x0100, b"a.b", 1);
        for end in 0..query.len() - 2 {
            assert_eq!(parse(&query[..end], false), None, "{end}");
        }
        let mut loops = query.clone();
        loops[12] = 0xc0;
        assert_eq!(parse(&loops, false), None);
        assert_eq!(parse(&message(1, 0x2800, b"a", 6), false), None);
    }

    #[test]
    fn a_question_that_is_asked_again_had_no_answer() {
        let ask = || parse(&message(9, 0x0100, b"a", 1), false).unwrap();
        let mut pending = Pending::default();
        assert_eq!(pending.ask(5, ask(), 10, ()), None);
        assert_eq!(pending.ask(5, ask(), 20, ()), Some((Question { sent_ns: 10, what: () }, 20)));
        assert_eq!(pending.answer(5, &ask()), Some(Question { sent_ns: 20, what: () }));
        assert_eq!(pending.answer(5, &ask()), None);
        for id in 0..=MAX_PENDING as u16 {
            let m = Message { id, ..ask() };
            assert_eq!(pending.ask(5, m, 100 + u64::from(id), ()).is_some(), usize::from(id) == MAX_PENDING);
        }
        assert_eq!(pending.rest().len(), MAX_PENDING);
    }
}
