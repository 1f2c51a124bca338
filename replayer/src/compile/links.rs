//! Symbolic links, deduced from where the kernel ended up when a path was opened.

use super::fsmodel::Led;
use super::paths::{normalise, parent_of};
use rustc_hash::{FxHashMap, FxHashSet};
use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};

/// Most links that are followed for one path, as in the kernel.
const DEPTH_MAX: usize = 40;
/// Most different paths that are looked at, and bytes of them.
const OBSERVED_MAX: usize = 200_000;
const OBSERVED_BYTES: usize = 16 << 20;
/// Most links that are tried as the way another one leads.
const OTHERS_MAX: usize = 256;
/// Bytes of names that are looked up in all; beyond, paths are taken as they are.
const WORK_MAX: u64 = 2 << 30;

/// Paths as opened, and as found.
#[derive(Debug, Default)]
pub(crate) struct Observed {
    pairs: BTreeMap<Vec<u8>, Vec<u8>>,
    /// Every directory above something found: the kernel's own paths have no links in them.
    real: FxHashSet<Vec<u8>>,
    bytes: usize,
}

/// Names that calls told to be links, and how long their texts are; 0: not known.
pub(crate) type ToldLinks = FxHashMap<Vec<u8>, usize>;

/// A link that was there at the start.
#[derive(Debug, Clone)]
struct Link {
    /// The absolute path that it led to.
    target: Vec<u8>,
    text: Vec<u8>,
}

/// Links, by path.
#[derive(Debug, Default, Clone)]
pub(crate) struct Links {
    by_path: BTreeMap<Vec<u8>, Link>,
    /// How long their paths are: no other beginning of a path is one.
    lengths: BTreeSet<usize>,
    /// Bytes of names looked up.
    work: Cell<u64>,
}

impl Observed {
    /// `opened` (absolute, normalised) turned out to be `found`.
    pub(crate) fn observe(&mut self, opened: &[u8], found: &[u8]) {
        let mut at = found;
        while at.len() > 1 && self.has_room() && self.real.insert(at.to_vec()) {
            self.bytes += at.len();
            at = parent_of(at);
        }
        let plausible = found.first() == Some(&b'/')
            && opened != found
            && !found.ends_with(b" (deleted)")
            && !is_below(opened, found)
            && !is_below(found, opened)
            && !opened.starts_with(b"/proc/")
            && !opened.starts_with(b"/dev/");
        // At the start a path led to where it leads first.
        if plausible && self.has_room() && !self.pairs.contains_key(opened) {
            self.bytes += opened.len() + found.len();
            self.pairs.insert(opened.to_vec(), found.to_vec());
        }
    }

    fn has_room(&self) -> bool {
        self.real.len().max(self.pairs.len()) < OBSERVED_MAX && self.bytes < OBSERVED_BYTES
    }

    /// The links that explain what was found. A name that is told to be a link is one, if it can lead there with a text of
    /// the length that was told. A directory is a link when several paths say so; otherwise the whole path is one.
    pub(crate) fn solve(self, told: &ToldLinks) -> Links {
        let mut links = Links::default();
        for _ in 0..DEPTH_MAX {
            let mut found_one = false;
            for (opened, found) in &self.pairs {
                let reached = links.resolve(opened, true);
                let fits = |(link, target): &(&[u8], &[u8])| {
                    let len = told.get(*link).copied();
                    let is_free = !links.by_path.contains_key(*link) && !self.real.contains(*link);
                    is_free && len.is_some_and(|len| len == 0 || text_of(link, target, len).is_some())
                };
                if reached != *found
                    && let Some((link, target)) = directory_links(&reached, found).filter(fits).last()
                {
                    found_one |= links.insert(link, target);
                }
            }
            if !found_one {
                break;
            }
        }
        let pairs: Vec<(Vec<u8>, &[u8])> = self
            .pairs
            .iter()
            .map(|(opened, found)| (links.resolve(opened, true), found.as_slice()))
            .filter(|(reached, found)| reached != found)
            .collect();
        let mut votes: FxHashMap<(&[u8], &[u8]), u32> = FxHashMap::default();
        for (opened, found) in &pairs {
            for candidate in directory_links(opened, found) {
                *votes.entry(candidate).or_default() += 1;
            }
        }
        for (opened, found) in &pairs {
            let likely = directory_links(opened, found)
                .filter(|c| votes.get(c).is_some_and(|n| *n > 1) && !self.real.contains(c.0))
                .last();
            if let Some((link, target)) = likely
                && links.resolve(opened, true) != *found
            {
                links.insert(link, target);
            }
        }
        for (opened, found) in &pairs {
            let reached = links.resolve(opened, true);
            if reached != *found && !self.real.contains(&reached) {
                links.insert(&reached, found);
            }
        }
        links.spell(told);
        links
    }
}

/// Both paths end alike: where they begin to, a directory may be a link; deepest first. At least one component is left
/// of each.
fn directory_links<'a>(opened: &'a [u8], found: &'a [u8]) -> impl Iterator<Item = (&'a [u8], &'a [u8])> {
    let mut at = Some((opened, found));
    std::iter::from_fn(move || {
        let (a, b) = at.take()?;
        let (up_a, up_b) = (parent_of(a), parent_of(b));
        if last(a) != last(b) || up_a == b"/" || up_b == b"/" {
            return None;
        }
        at = Some((up_a, up_b));
        Some((up_a, up_b))
    })
    .filter(|(a, b)| a != b)
}

/// Where a link with this text leads.
pub(crate) fn reached(link: &[u8], text: &[u8]) -> Vec<u8> {
    if text.first() == Some(&b'/') {
        return text.to_vec();
    }
    [parent_of(link), b"/", text].concat()
}

fn last(path: &[u8]) -> &[u8] {
    path.rsplit(|c| *c == b'/').next().unwrap_or_default()
}

fn is_below(path: &[u8], dir: &[u8]) -> bool {
    path.strip_prefix(dir).is_some_and(|rest| rest.first() == Some(&b'/'))
}

/// How a link can be spelled that leads to `target`, from the shortest way down to the whole path.
fn spellings(link: &[u8], target: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    let parent = parent_of(link);
    let below = if parent == b"/" {
        target.strip_prefix(b"/")
    } else {
        target.strip_prefix(parent).and_then(|rest| rest.strip_prefix(b"/"))
    };
    let mut upward = Vec::new();
    let common = parent.iter().zip(target).take_while(|(a, b)| a == b).count();
    let ends = |path: &[u8]| path.get(common).is_none_or(|next| *next == b'/');
    let cut = if ends(parent) && ends(target) {
        common
    } else {
        parent[..common].iter().rposition(|b| *b == b'/').unwrap_or(0)
    };
    for _ in parent[cut..].split(|b| *b == b'/').filter(|part| !part.is_empty()) {
        upward.extend_from_slice(b"../");
    }
    upward.extend_from_slice(target.get(cut + 1..).unwrap_or_default());
    if upward.ends_with(b"/") {
        upward.pop();
    }
    let all = [below.map(<[u8]>::to_vec), Some(upward), Some(target.to_vec())];
    all.into_iter().flatten().filter(|text| !text.is_empty())
}

/// The text of a link, if there is one of this length.
fn text_of(link: &[u8], target: &[u8], len: usize) -> Option<Vec<u8>> {
    spellings(link, target).find(|text| text.len() == len)
}

/// A link's text: of all ways to say where it leads, the one with the recorded length.
fn spelled(link: &[u8], target: &[u8], len: usize) -> Vec<u8> {
    if let Some(text) = text_of(link, target, len) {
        return text;
    }
    let Some(mut text) = spellings(link, target).next() else { return target.to_vec() };
    // Longer for a reason that is not known: slashes cost nothing.
    if let Some(at) = text.iter().position(|b| *b == b'/') {
        let more = len.min(4095).saturating_sub(text.len());
        text.splice(at..at, std::iter::repeat_n(b'/', more));
    }
    text
}

impl Links {
    fn insert(&mut self, link: &[u8], target: &[u8]) -> bool {
        let is_new =
            link != b"/" && link != target && !is_below(target, link) && !self.by_path.contains_key(link);
        if is_new {
            self.lengths.insert(link.len());
            let text = spelled(link, target, 0);
            self.by_path.insert(link.to_vec(), Link { target: target.to_vec(), text });
        }
        is_new
    }

    /// Gives the links texts of the lengths that were told. Where a link does not lead with such a text, it may lead to
    /// another link that leads there.
    fn spell(&mut self, told: &ToldLinks) {
        let lengths: FxHashMap<Vec<u8>, usize> = told
            .iter()
            .filter(|(_, len)| **len > 0)
            .map(|(path, len)| (self.resolve(path, false), *len))
            .collect();
        let mut spelled_so: BTreeMap<Vec<u8>, Link> = BTreeMap::new();
        for (path, link) in &self.by_path {
            let Some(len) = lengths.get(path) else { continue };
            let target = if text_of(path, &link.target, *len).is_some() {
                link.target.clone()
            } else {
                // One that leads where it was found to lead, so that no two lead to each other.
                let leads = |other: &Vec<u8>, to: &Link| {
                    spelled_so.get(other).is_none_or(|so| so.target == to.target)
                };
                let others = self
                    .by_path
                    .iter()
                    .filter(|(other, to)| *other != path && leads(other, to))
                    .take(OTHERS_MAX);
                let behind = others.filter_map(|(other, to)| {
                    let rest = link.target.strip_prefix(to.target.as_slice())?;
                    (rest.is_empty() || rest.first() == Some(&b'/'))
                        .then(|| [other.as_slice(), rest].concat())
                });
                let mut fitting =
                    behind.filter(|target| text_of(path, target, *len).is_some() && !is_below(target, path));
                fitting.next().unwrap_or_else(|| link.target.clone())
            };
            spelled_so.insert(path.clone(), Link { text: spelled(path, &target, *len), target });
        }
        self.by_path.extend(spelled_so);
    }

    /// Whether there are none.
    pub(crate) fn is_empty(&self) -> bool {
        self.by_path.is_empty()
    }
    /// Where a path leads if it is a link.
    pub(crate) fn target(&self, path: &[u8]) -> Option<&[u8]> {
        self.by_path.get(path).map(|link| link.target.as_slice())
    }
    /// All links and their texts.
    pub(crate) fn all(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.by_path.iter().map(|(path, link)| (path.as_slice(), link.text.as_slice()))
    }
    /// The path that an absolute, normalised path leads to.
    pub(crate) fn resolve(&self, path: &[u8], follow_last: bool) -> Vec<u8> {
        self.resolve_beside(path, follow_last, &|_| false, &|_| Led::Unknown)
    }
    /// As [`Self::resolve`], beside links that came meanwhile: `made` says where a beginning of a path leads now, and
    /// `lengths` how long it may be.
    pub(crate) fn resolve_beside<'a>(
        &self,
        path: &[u8],
        follow_last: bool,
        lengths: &dyn Fn(usize) -> bool,
        made: &dyn Fn(&[u8]) -> Led<'a>,
    ) -> Vec<u8> {
        let mut path = path.to_vec();
        for _ in 0..DEPTH_MAX {
            if self.work.get() > WORK_MAX {
                break;
            }
            let mut end = 0;
            let mut changed = None;
            while end < path.len() {
                let from = end + 1;
                end = path[from..].iter().position(|c| *c == b'/').map_or(path.len(), |i| from + i);
                if end == path.len() && !follow_last {
                    break;
                }
                let known = self.lengths.contains(&end);
                if !known && !lengths(end) {
                    continue;
                }
                // A lookup compares about as much as it has to, a dozen times.
                self.work.set(self.work.get() + end as u64 + 64);
                let link = &path[..end];
                let target = match made(link) {
                    Led::To(text) => Some(reached(link, text)),
                    Led::Nowhere => None,
                    Led::Unknown => self.by_path.get(link).map(|at_start| at_start.target.clone()),
                    Led::Was(before) => {
                        self.by_path.get(&before).map(|at_start| reached(link, &at_start.text))
                    }
                };
                if let Some(mut next) = target {
                    next.extend_from_slice(&path[end..]);
                    changed = Some(normalise(&next));
                    break;
                }
            }
            match changed {
                Some(next) if next.len() <= 4096 => path = next,
                _ => break,
            }
        }
        path
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_explain_where_paths_led() {
        let mut seen = Observed::default();
        seen.observe(b"/lib/x/libc.so.6", b"/usr/lib/x/libc.so.6");
        seen.observe(b"/lib/x/libm.so.6", b"/usr/lib/x/libm.so.6");
        seen.observe(b"/usr/lib/ssl/openssl.cnf", b"/etc/ssl/openssl.cnf");
        seen.observe(b"/usr/lib/ssl/other.cnf", b"/etc/ssl/other.cnf");
        seen.observe(b"/var/run/b.pid", b"/run/b.pid");
        seen.observe(b"/lib/x/libz.so.1", b"/usr/lib/x/libz.so.1.3");
        seen.observe(b"/etc/localtime", b"/usr/share/zoneinfo/UTC");
        seen.observe(b"/var/run/a.pid", b"/run/a.pid");
        let links = seen.solve(&ToldLinks::default());
        let all: Vec<_> = links.all().collect();
        assert_eq!(
            all,
            [
                (b"/etc/localtime".as_slice(), b"../usr/share/zoneinfo/UTC".as_slice()),
                (b"/lib", b"usr/lib"),
                (b"/usr/lib/ssl", b"../../etc/ssl"),
                (b"/usr/lib/x/libz.so.1", b"libz.so.1.3"),
                (b"/var/run", b"../run"),
            ]
        );
        assert_eq!(links.resolve(b"/lib/x/libz.so.1", true), b"/usr/lib/x/libz.so.1.3");
        assert_eq!(links.resolve(b"/lib/x/libz.so.1", false), b"/usr/lib/x/libz.so.1");
    }

    #[test]
    fn a_loop_ends() {
        let mut links = Links::default();
        links.insert(b"/a", b"/b");
        links.insert(b"/b", b"/a");
        links.resolve(b"/a/x", true);
    }

    #[test]
    fn a_link_is_spelled_with_its_recorded_length() {
        assert_eq!(spelled(b"/bin", b"/usr/bin", 7), b"usr/bin");
        assert_eq!(spelled(b"/bin", b"/usr/bin", 8), b"/usr/bin");
        assert_eq!(spelled(b"/var/run", b"/run", 6), b"../run");
        assert_eq!(spelled(b"/a/b/x", b"/a/c/y", 0), b"../c/y");
        assert_eq!(spelled(b"/usr/bin/sh", b"/usr/bin/dash", 4), b"dash");
        assert_eq!(spelled(b"/a/b/x", b"/a", 2), b"..");
    }

    #[test]
    fn one_path_tells_of_a_link_that_a_call_told_to_be_one() {
        let mut seen = Observed::default();
        seen.observe(b"/w/app/current/data/f", b"/w/data/f");
        seen.observe(b"/w/app/current/v", b"/w/app/rel.1/v");
        seen.observe(b"/w/app/v", b"/w/app/rel.1/v");
        let told =
            [(b"/w/app/current".to_vec(), 5), (b"/w/app/rel.1/data".to_vec(), 0), (b"/w/app/v".to_vec(), 9)];
        let links = seen.solve(&told.into_iter().collect());
        let all: Vec<_> = links.all().collect();
        assert_eq!(
            all,
            [
                (b"/w/app/current".as_slice(), b"rel.1".as_slice()),
                (b"/w/app/rel.1/data", b"../../data"),
                (b"/w/app/v", b"current/v"),
            ]
        );
    }
}
