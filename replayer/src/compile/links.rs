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

/// Links: path → absolute target.
#[derive(Debug, Default, Clone)]
pub(crate) struct Links {
    by_path: BTreeMap<Vec<u8>, Vec<u8>>,
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
        // What a path led to first, it led to at the start.
        if plausible && self.has_room() && !self.pairs.contains_key(opened) {
            self.bytes += opened.len() + found.len();
            self.pairs.insert(opened.to_vec(), found.to_vec());
        }
    }

    fn has_room(&self) -> bool {
        self.real.len().max(self.pairs.len()) < OBSERVED_MAX && self.bytes < OBSERVED_BYTES
    }

    /// The links that explain what was found. A directory is a link when several paths say so; otherwise the whole path
    /// is one.
    pub(crate) fn solve(self) -> Links {
        let mut votes: FxHashMap<(&[u8], &[u8]), u32> = FxHashMap::default();
        for (opened, found) in &self.pairs {
            for candidate in directory_links(opened, found) {
                *votes.entry(candidate).or_default() += 1;
            }
        }
        let mut links = Links::default();
        for (opened, found) in &self.pairs {
            let likely = directory_links(opened, found)
                .filter(|c| votes.get(c).is_some_and(|n| *n > 1) && !self.real.contains(c.0))
                .last();
            if let Some((link, target)) = likely
                && links.resolve(opened, true) != *found
            {
                links.insert(link, target);
            }
        }
        for (opened, found) in &self.pairs {
            let reached = links.resolve(opened, true);
            if reached != *found && !self.real.contains(&reached) {
                links.insert(&reached, found);
            }
        }
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

impl Links {
    fn insert(&mut self, link: &[u8], target: &[u8]) {
        if link != b"/" && link != target && !is_below(target, link) {
            self.lengths.insert(link.len());
            self.by_path.entry(link.to_vec()).or_insert_with(|| target.to_vec());
        }
    }
    /// Whether there are none.
    pub(crate) fn is_empty(&self) -> bool {
        self.by_path.is_empty()
    }
    /// Where a path leads if it is a link.
    pub(crate) fn target(&self, path: &[u8]) -> Option<&[u8]> {
        self.by_path.get(path).map(Vec::as_slice)
    }
    /// All links and their targets.
    pub(crate) fn all(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.by_path.iter().map(|(path, target)| (path.as_slice(), target.as_slice()))
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
                    Led::Unknown => self.by_path.get(link).cloned(),
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
        let links = seen.solve();
        let all: Vec<_> = links.all().collect();
        assert_eq!(
            all,
            [
                (b"/etc/localtime".as_slice(), b"/usr/share/zoneinfo/UTC".as_slice()),
                (b"/lib", b"/usr/lib"),
                (b"/usr/lib/ssl", b"/etc/ssl"),
                (b"/usr/lib/x/libz.so.1", b"/usr/lib/x/libz.so.1.3"),
                (b"/var/run", b"/run"),
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
}
