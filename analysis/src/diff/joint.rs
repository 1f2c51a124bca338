//! One vocabulary for two models: names made equal, symbols renumbered.

use super::both::{Both, Run};
use crate::model::Model;
use crate::names::NameId;
use crate::seq::Op;
use crate::symbol::{OpClass, Outcome};
use rustc_hash::FxHashMap;

/// A symbol without size, common to both runs.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Base {
    /// Call, object and qualifier, without the outcome: what was attempted.
    pub(crate) identity: u32,
    pub(crate) call: u32,
    pub(crate) object: u32,
    pub(crate) outcome: Outcome,
    pub(crate) class: OpClass,
    /// Its arguments are not known: a filter failed the call before it was seen. It stands for any call of its name
    /// with its outcome.
    pub(crate) wild: bool,
    /// It learns of a failure that another operation tells.
    pub(crate) learns: bool,
}

/// Where a symbol of one model is in the joint vocabulary.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Entry {
    pub(crate) base: u32,
    pub(crate) size: u8,
}

pub(crate) struct Joint<'a> {
    pub(crate) strings: Vec<&'a str>,
    pub(crate) bases: Vec<Base>,
    /// By symbol of each model.
    pub(crate) entries: Both<Vec<Entry>>,
}

#[derive(Default)]
struct Interner<'a> {
    index: FxHashMap<&'a str, u32>,
    strings: Vec<&'a str>,
}

impl<'a> Interner<'a> {
    fn id(&mut self, s: &'a str) -> u32 {
        *self.index.entry(s).or_insert_with(|| {
            self.strings.push(s);
            self.strings.len() as u32 - 1
        })
    }
}

impl<'a> Joint<'a> {
    pub(crate) fn new(models: Both<&'a Model>) -> Self {
        let mut strings = Interner::default();
        let mut identities = FxHashMap::default();
        let mut index = FxHashMap::default();
        let mut bases = Vec::new();
        let entries = Both::each(|run| {
            let (model, opposite) = (*models.of(run), *models.of(run.opposite()));
            model
                .symbols
                .iter()
                .map(|s| {
                    let call = strings.id(model.name(s.call));
                    let object = strings.id(canonical(model, opposite, s.object));
                    let next = identities.len() as u32;
                    let identity = *identities.entry((call, object, s.qualifier)).or_insert(next);
                    let base = *index.entry((identity, s.outcome)).or_insert_with(|| {
                        bases.push(Base {
                            identity,
                            call,
                            object,
                            outcome: s.outcome,
                            class: s.class,
                            wild: s.qualifier == u32::MAX,
                            learns: s.learns(),
                        });
                        bases.len() as u32 - 1
                    });
                    Entry { base, size: s.size }
                })
                .collect::<Vec<_>>()
        });
        Self { strings: strings.strings, bases, entries }
    }

    /// The symbol of a run's operation.
    pub(crate) fn entry(&self, run: Run, op: Op) -> Entry {
        self.entries.of(run)[op.symbol as usize]
    }

    /// The same without its size.
    pub(crate) fn base(&self, run: Run, op: Op) -> u32 {
        self.entry(run, op).base
    }

    pub(crate) fn text(&self, base: u32) -> String {
        let b = &self.bases[base as usize];
        let object = crate::names::shorten(self.strings[b.object as usize], 80);
        let call = self.strings[b.call as usize];
        match b.outcome {
            Outcome::Ok => format!("{call}({object})"),
            other => format!("{call}({object}) → {}", crate::symbol::outcome_text(other)),
        }
    }
}

/// A name of a model as the other run would have it.
pub(crate) fn canonical<'a>(model: &'a Model, opposite: &Model, name: NameId) -> &'a str {
    model.names.canonical(name, &opposite.names)
}
