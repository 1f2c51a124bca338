//! Interned absolute paths, as a tree: what is above a path and what is below it.

use rustc_hash::FxHashMap;
use std::sync::Arc;

/// An interned absolute path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct PathId(pub(crate) u32);

/// Longest path that is kept, as the kernel's `PATH_MAX`.
pub(crate) const PATH_MAX: usize = 4096;
/// Most components of a path that are kept. Real trees are a few dozen deep; what goes up a path costs their square.
const COMPONENTS_MAX: usize = 256;

/// Interned, lexically normalised absolute paths. With a path, all directories above it are interned.
#[derive(Debug, Default)]
pub(crate) struct Paths {
    ids: FxHashMap<Arc<[u8]>, PathId>,
    all: Vec<Node>,
    bytes: u64,
}

/// A path in the tree.
#[derive(Debug)]
struct Node {
    path: Arc<[u8]>,
    parent: PathId,
    /// The last one of those directly below it, and the one before this one directly below its parent.
    child: Option<PathId>,
    sibling: Option<PathId>,
}

impl Paths {
    /// The id of an already absolute path, normalised.
    pub(crate) fn intern(&mut self, path: &[u8]) -> PathId {
        let normal = normalise(path);
        if let Some(id) = self.ids.get(normal.as_slice()) {
            return *id;
        }
        let mut missing = vec![normal.as_slice()];
        let mut at = parent_of(&normal);
        let mut above = None;
        while above.is_none() && at != missing.last().copied().unwrap_or_default() {
            above = self.find(at);
            if above.is_none() {
                missing.push(at);
                at = parent_of(at);
            }
        }
        for path in missing.into_iter().rev() {
            above = Some(self.add(path, above));
        }
        above.unwrap_or(PathId(0))
    }

    fn add(&mut self, path: &[u8], parent: Option<PathId>) -> PathId {
        let id = PathId(u32::try_from(self.all.len()).unwrap_or(u32::MAX));
        self.bytes += path.len() as u64;
        let shared: Arc<[u8]> = path.into();
        let above = parent.and_then(|parent| self.all.get_mut(parent.0 as usize));
        let sibling = above.and_then(|above| above.child.replace(id));
        self.all.push(Node { path: Arc::clone(&shared), parent: parent.unwrap_or(id), child: None, sibling });
        self.ids.insert(shared, id);
        id
    }

    /// The directory above a path; `/` is its own.
    pub(crate) fn parent(&self, id: PathId) -> PathId {
        self.all.get(id.0 as usize).map_or(id, |node| node.parent)
    }

    /// Whether paths below this one are known.
    pub(crate) fn has_below(&self, id: PathId) -> bool {
        self.all.get(id.0 as usize).is_some_and(|node| node.child.is_some())
    }

    /// All known paths below this one.
    pub(crate) fn below(&self, dir: PathId) -> impl Iterator<Item = PathId> {
        let child = |id: PathId| self.all.get(id.0 as usize).and_then(|node| node.child);
        let mut left: Vec<PathId> = child(dir).into_iter().collect();
        std::iter::from_fn(move || {
            let id = left.pop()?;
            left.extend(self.all.get(id.0 as usize).and_then(|node| node.sibling));
            left.extend(child(id));
            Some(id)
        })
    }

    /// What `path`, which is `from` or below it, is called when `from` is called `to`; `None` when it is not below.
    pub(crate) fn moved(&mut self, path: PathId, from: PathId, to: PathId) -> Option<PathId> {
        if path == from {
            return Some(to);
        }
        let rest = self.get(path).strip_prefix(self.get(from))?;
        let rest = if self.get(from) == b"/" { rest } else { rest.strip_prefix(b"/")? };
        let moved = [self.get(to), b"/", rest].concat();
        Some(self.intern(&moved))
    }

    /// The id of `path` as seen from `base`.
    pub(crate) fn join(&mut self, base: PathId, path: &[u8]) -> PathId {
        if path.first() == Some(&b'/') {
            self.intern(path)
        } else {
            self.intern(&self.in_directory(base, path))
        }
    }
    /// The bytes of `path` as seen from `base` by somebody whose root directory is `root`, normalised. Nothing leads above a
    /// root; who is outside of it (a working directory may be) goes from there.
    pub(crate) fn joined(&self, root: PathId, base: PathId, path: &[u8]) -> Vec<u8> {
        let absolute = path.first() == Some(&b'/');
        let within = if absolute { Some(&b""[..]) } else { self.within(root, base) };
        match within {
            Some(base) => {
                let below = normalise(&[base, b"/", path].concat());
                normalise(&[self.get(root), &below].concat())
            }
            None => normalise(&self.in_directory(base, path)),
        }
    }
    /// What `path` is called below `root`: nothing for the root itself.
    fn within(&self, root: PathId, path: PathId) -> Option<&[u8]> {
        let root = self.get(root);
        let rest = self.get(path).strip_prefix(if root == b"/" { &[][..] } else { root })?;
        (rest.is_empty() || rest.first() == Some(&b'/')).then_some(rest)
    }
    fn in_directory(&self, base: PathId, path: &[u8]) -> Vec<u8> {
        [self.get(base), b"/", path].concat()
    }
    /// Number of paths.
    pub(crate) fn len(&self) -> usize {
        self.all.len()
    }
    /// Bytes of all paths.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }
    /// The id of a path that is already known.
    pub(crate) fn find(&self, path: &[u8]) -> Option<PathId> {
        self.ids.get(path).copied()
    }
    /// The bytes of a path.
    pub(crate) fn get(&self, id: PathId) -> &[u8] {
        self.all.get(id.0 as usize).map_or(b"/", |node| &node.path)
    }
}

/// Removes `.`, `..`, doubled and trailing slashes, and bounds the length.
pub(crate) fn normalise(path: &[u8]) -> Vec<u8> {
    let mut parts: Vec<&[u8]> = Vec::new();
    for part in path[..path.len().min(PATH_MAX)].split(|b| *b == b'/') {
        match part {
            b"" | b"." => {}
            b".." => {
                parts.pop();
            }
            _ if parts.len() < COMPONENTS_MAX => parts.push(part),
            _ => {}
        }
    }
    let mut out = Vec::with_capacity(path.len().min(PATH_MAX));
    for part in parts {
        out.push(b'/');
        out.extend_from_slice(part);
    }
    if out.is_empty() {
        out.push(b'/');
    }
    out
}

/// The directory part of an absolute path; `/` is its own parent.
pub(crate) fn parent_of(path: &[u8]) -> &[u8] {
    match path.iter().rposition(|b| *b == b'/') {
        Some(0) | None => b"/",
        Some(i) => &path[..i],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_normalised_lexically() {
        let mut paths = Paths::default();
        let cwd = paths.intern(b"/srv//app/./");
        assert_eq!(paths.get(cwd), b"/srv/app");
        let up = paths.join(cwd, b"../../../etc/x");
        assert_eq!(paths.get(up), b"/etc/x");
        assert_eq!(paths.join(up, b"/srv/app/"), cwd);
        assert_eq!(parent_of(b"/etc/x"), b"/etc");
        assert_eq!(parent_of(b"/etc"), b"/");
    }

    #[test]
    fn nothing_leads_above_a_root_directory() {
        let mut paths = Paths::default();
        let (all, root) = (paths.intern(b"/"), paths.intern(b"/srv/jail"));
        let (inside, beside) = (paths.intern(b"/srv/jail/etc"), paths.intern(b"/srv/jailer"));
        assert_eq!(paths.joined(root, inside, b"/etc/x"), b"/srv/jail/etc/x");
        assert_eq!(paths.joined(root, inside, b"/../../x"), b"/srv/jail/x");
        assert_eq!(paths.joined(root, inside, b"../../../x"), b"/srv/jail/x");
        assert_eq!(paths.joined(root, root, b"."), b"/srv/jail");
        assert_eq!(paths.joined(root, beside, b"../x"), b"/srv/x");
        assert_eq!(paths.joined(all, inside, b"/etc/x"), b"/etc/x");
        assert_eq!(paths.joined(all, inside, b"../../../../x"), b"/x");
    }

    #[test]
    fn a_path_comes_with_what_is_above_it() {
        let mut paths = Paths::default();
        let (b, other) = (paths.intern(b"/a/b"), paths.intern(b"/ab"));
        let a = paths.find(b"/a").unwrap();
        let root = paths.find(b"/").unwrap();
        assert_eq!((paths.parent(b), paths.parent(a), paths.parent(root)), (a, root, root));
        let c = paths.intern(b"/a/b/c");
        let mut below: Vec<_> = paths.below(a).collect();
        below.sort_unstable();
        assert_eq!(below, [b, c]);
        assert_eq!(paths.below(root).count(), 4);
        let moved = paths.moved(c, a, other).unwrap();
        assert_eq!(paths.get(moved), b"/ab/b/c");
        assert_eq!(paths.moved(other, a, b), None);
        let moved = paths.moved(c, root, other).unwrap();
        assert_eq!(paths.get(moved), b"/ab/a/b/c");
    }
}
