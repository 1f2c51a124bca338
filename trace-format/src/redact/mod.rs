//! What a trace may tell: the gate that every string and address passes on its way into a file.
//!
//! [`crate::TraceWriter`] owns the gate, and is the only way into a file: its dictionaries, its metadata structures and
//! the bytes inside events all go through here, before anything is encoded. Structures and events are taken apart
//! without `..`, so that a field or kind that is added later does not compile until somebody decided what it may tell.
//!
//! | policy | what is written |
//! |---|---|
//! | `off` | everything as seen |
//! | `default` | everything but what looks secret: passwords, tokens, keys, credentials in URLs, headers and JSON, labels that nobody knows (`secrets`) |
//! | `strict` | pseudonyms for names, paths, words and addresses; only what `known` lists stays readable (`names`) |
//!
//! Pseudonyms are keyed. The key is random, is made with the writer and dies with it: nobody can test guesses against
//! a file, and two files do not share pseudonyms. Equal names have equal pseudonyms within a file, path component by
//! path component, whether a path is absolute or relative; so a replay of such a trace still finds its files.

mod event;
mod known;
mod meta;
mod names;
mod secrets;

use names::Key;
use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::str::FromStr;

/// How much a trace may tell. Ordered: a greater policy tells less.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Policy {
    /// Nothing is masked.
    Off,
    /// What looks secret is masked.
    #[default]
    Default,
    /// Names, paths, words and addresses are pseudonyms.
    Strict,
}

impl Policy {
    /// Its name, as the command line has it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Default => "default",
            Self::Strict => "strict",
        }
    }

    /// The policy that [`crate::Header::redaction`] names. A trace that does not say was written without one.
    pub fn of_header(text: &str) -> Self {
        text.split(' ').next().and_then(|word| word.parse().ok()).unwrap_or(Self::Off)
    }
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Policy {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        [Self::Off, Self::Default, Self::Strict]
            .into_iter()
            .find(|policy| policy.name() == text)
            .ok_or_else(|| format!("{text:?} is none of off, default, strict"))
    }
}

/// What a string is, as far as its pseudonym depends on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Text {
    /// A path, a word, a name: its shape tells.
    Any,
    /// The name of a task: one component, however it looks, of at most 15 bytes.
    Comm,
    /// A host name: label by label.
    Host,
    /// A name that the kernel gives to things of a kind.
    Kernel,
}

/// What came through the gate. Only the gate makes it, and nothing else is encoded.
#[derive(Debug, serde::Serialize)]
#[serde(transparent)]
pub(crate) struct Gated<T>(T);

impl<T: serde::Serialize> crate::metadata::Told for Gated<T> {}

impl<T> Gated<T> {
    /// What came through.
    pub(crate) const fn get(&self) -> &T {
        &self.0
    }
}

type Bytes = Box<[u8]>;

/// Bytes that remembered pseudonyms may take.
const MEMO_BYTES: usize = 8 << 20;

/// The gate. See the module.
pub(crate) struct Gate {
    /// `None`: what comes was redacted before, as its header says.
    policy: Option<Policy>,
    key: Key,
    counts: BTreeMap<&'static str, u64>,
    /// Pseudonyms made before: each costs a hash per component.
    memo: [HashMap<Bytes, Bytes>; 4],
    memo_bytes: usize,
}

impl Gate {
    /// A gate with a fresh key.
    pub(crate) fn new(policy: Policy) -> Result<Self, getrandom::Error> {
        // Without redaction there are no pseudonyms.
        let key = if policy == Policy::Off { Key::from([0; 32]) } else { Key::random()? };
        Ok(Self::with(Some(policy), key))
    }

    /// A gate that lets everything through: for copies of what is redacted.
    pub(crate) fn open() -> Self {
        Self::with(None, Key::from([0; 32]))
    }

    /// A gate that gives the same pseudonyms and has counted the same.
    pub(crate) fn again(&self) -> Self {
        Self { counts: self.counts.clone(), ..self.anew() }
    }

    /// A gate that gives the same pseudonyms and has counted nothing.
    pub(crate) fn anew(&self) -> Self {
        Self::with(self.policy, self.key.again())
    }

    fn with(policy: Option<Policy>, key: Key) -> Self {
        Self { policy, key, counts: BTreeMap::new(), memo: Default::default(), memo_bytes: 0 }
    }

    /// Whether strings pass as they are.
    pub(crate) fn is_open(&self) -> bool {
        matches!(self.policy, None | Some(Policy::Off))
    }

    /// Whether a string that is in the dictionary passes as it is: what looks secret is no more there.
    pub(crate) fn keeps_what_it_let_through(&self) -> bool {
        self.policy != Some(Policy::Strict)
    }

    /// How often each rule was applied.
    pub(crate) fn counts(&self) -> BTreeMap<String, u64> {
        self.counts.iter().map(|(rule, n)| ((*rule).to_owned(), *n)).collect()
    }

    fn count(&mut self, rule: &'static str) {
        *self.counts.entry(rule).or_default() += 1;
    }

    /// A string.
    pub(crate) fn text<'a>(&mut self, text: Text, bytes: &'a [u8]) -> Cow<'a, [u8]> {
        match self.policy {
            None | Some(Policy::Off) => Cow::Borrowed(bytes),
            Some(Policy::Default) => {
                let (key, counts) = (&self.key, &mut self.counts);
                let masked = secrets::text(bytes, &|secret| key.pseudonym(secret), &mut |rule| {
                    *counts.entry(rule).or_default() += 1;
                });
                masked.map_or(Cow::Borrowed(bytes), Cow::Owned)
            }
            Some(Policy::Strict) => self.pseudonym(text, bytes),
        }
    }

    fn pseudonym<'a>(&mut self, text: Text, bytes: &'a [u8]) -> Cow<'a, [u8]> {
        let rule = match text {
            Text::Any => "strict: path or word",
            Text::Comm => "strict: task name",
            Text::Host => "strict: host name",
            Text::Kernel => "strict: name of an object",
        };
        let known = self.memo[text as usize].get(bytes).map(|known| known.to_vec());
        let new = known.unwrap_or_else(|| {
            let new = match text {
                Text::Any => self.key.path(bytes),
                Text::Comm => self.key.comm(bytes),
                Text::Host => self.key.host(bytes),
                Text::Kernel => self.key.kernel(bytes),
            };
            self.memo_bytes += bytes.len() + new.len() + 64;
            if self.memo_bytes > MEMO_BYTES {
                self.memo.iter_mut().for_each(HashMap::clear);
                self.memo_bytes = bytes.len() + new.len() + 64;
            }
            self.memo[text as usize].insert(bytes.into(), new.as_slice().into());
            new
        });
        if new == bytes {
            return Cow::Borrowed(bytes);
        }
        self.count(rule);
        Cow::Owned(new)
    }

    /// An argument vector: what a word is depends on the one in front of it.
    pub(crate) fn argv(&mut self, words: &mut [Vec<u8>]) {
        match self.policy {
            None | Some(Policy::Off) => {}
            Some(Policy::Default) => {
                let (key, counts) = (&self.key, &mut self.counts);
                secrets::argv(words, &|secret| key.pseudonym(secret), &mut |rule| {
                    *counts.entry(rule).or_default() += 1;
                });
            }
            Some(Policy::Strict) => {
                for word in words {
                    let new = self.key.word(word);
                    if new != *word {
                        self.count("strict: argument");
                        *word = new;
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_are_ordered_and_named() {
        assert!(Policy::Off < Policy::Default && Policy::Default < Policy::Strict);
        for policy in [Policy::Off, Policy::Default, Policy::Strict] {
            assert_eq!(policy.name().parse(), Ok(policy));
        }
        assert_eq!(Policy::of_header("strict (pseudonyms ~abc)"), Policy::Strict);
        assert_eq!(Policy::of_header("default"), Policy::Default);
        assert_eq!(Policy::of_header(""), Policy::Off);
        assert!("lax".parse::<Policy>().is_err());
    }

    #[test]
    fn what_the_default_policy_wrote_passes_again_as_it_is() {
        let mut gate = Gate::new(Policy::Default).unwrap();
        for text in [
            "/tmp/token-4f9a8b7c6d5e",
            "deploy with password=hunter2 to https://me:pw@h/",
            "ghp_abcdefghij0123456789",
        ] {
            let once = gate.text(Text::Any, text.as_bytes()).into_owned();
            assert_ne!(once, text.as_bytes(), "{text}");
            let mut other = Gate::new(Policy::Default).unwrap();
            assert_eq!(other.text(Text::Any, &once), once.as_slice(), "{text}");
        }
    }

    #[test]
    fn pseudonyms_are_equal_within_a_gate_and_differ_between_gates() {
        let (mut a, mut b) = (Gate::new(Policy::Strict).unwrap(), Gate::new(Policy::Strict).unwrap());
        let name = b"/srv/customers/acme.db".as_slice();
        let first = a.text(Text::Any, name).into_owned();
        assert_eq!(a.text(Text::Any, name), first.as_slice());
        assert_ne!(b.text(Text::Any, name), first.as_slice());
        assert_eq!(a.counts().values().sum::<u64>(), 2);
    }
}
