//! Against what: paths, addresses, names, as small numbers.

use super::words;
use super::{Dictionary, Seen};
use ctrace_format::{Detail, Object, ObjectId, SockAddr, StrId};
use rustc_hash::FxHashMap;

/// An index into [`Places`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Place(pub(crate) u32);

impl Place {
    /// Nothing, or nothing known.
    pub(crate) const NOWHERE: Self = Self(0);
    /// One of too many to tell apart.
    pub(crate) const ELSEWHERE: Self = Self(1);
}

/// Places that are told apart.
const MAX_PLACES: usize = 32_768;

/// The places of a trace.
#[derive(Debug)]
pub(crate) struct Places {
    names: Vec<String>,
    index: FxHashMap<String, Place>,
    objects: FxHashMap<ObjectId, Place>,
    strings: FxHashMap<StrId, Place>,
    addresses: FxHashMap<SockAddr, Place>,
}

impl Default for Places {
    fn default() -> Self {
        Self {
            names: vec![String::new(), "many others".to_owned()],
            index: FxHashMap::default(),
            objects: FxHashMap::default(),
            strings: FxHashMap::default(),
            addresses: FxHashMap::default(),
        }
    }
}

impl Places {
    pub(crate) fn name(&self, place: Place) -> &str {
        &self.names[place.0 as usize]
    }

    pub(crate) fn named(&mut self, name: &str) -> Place {
        if name.is_empty() {
            return Place::NOWHERE;
        }
        if let Some(place) = self.index.get(name) {
            return *place;
        }
        if self.names.len() >= MAX_PLACES {
            return Place::ELSEWHERE;
        }
        let place = Place(self.names.len() as u32);
        self.names.push(name.to_owned());
        self.index.insert(name.to_owned(), place);
        place
    }

    /// The place of a name that is known already.
    pub(crate) fn find(&self, name: &str) -> Option<Place> {
        self.index.get(name).copied()
    }

    pub(crate) fn address(&mut self, addr: &SockAddr) -> Place {
        if let Some(place) = self.addresses.get(addr) {
            return *place;
        }
        let place = self.named(&words::address(addr));
        if place != Place::ELSEWHERE {
            self.addresses.insert(addr.clone(), place);
        }
        place
    }

    pub(crate) fn object(&mut self, id: ObjectId, words: &(impl Dictionary + ?Sized)) -> Place {
        if let Some(place) = self.objects.get(&id) {
            return *place;
        }
        let name = words::object(words.object(id), |id| words.str(id));
        let place = self.named(&name);
        if self.objects.len() < MAX_PLACES {
            self.objects.insert(id, place);
        }
        place
    }

    pub(crate) fn string(&mut self, id: StrId, words: &(impl Dictionary + ?Sized)) -> Place {
        if let Some(place) = self.strings.get(&id) {
            return *place;
        }
        let place = self.named(&words::text(words.str(id)));
        if self.strings.len() < MAX_PLACES {
            self.strings.insert(id, place);
        }
        place
    }

    /// The place that a call was about: the address or path that it was given, else what is behind its descriptor.
    pub(crate) fn of(&mut self, seen: &Seen<'_>, words: &(impl Dictionary + ?Sized)) -> Place {
        for detail in &seen.s.details {
            match detail {
                Detail::Addr { addr, .. } => return self.address(addr),
                Detail::Str { value, .. } => return self.string(*value, words),
                _ => {}
            }
        }
        seen.s.object.map_or(seen.behind, |object| self.object(object, words))
    }
}

/// The cookie of a socket.
pub(crate) fn cookie(object: Option<ObjectId>, words: &(impl Dictionary + ?Sized)) -> Option<u64> {
    match words.object(object?) {
        Object::Socket { cookie, .. } if cookie.0 != 0 => Some(cookie.0),
        _ => None,
    }
}
