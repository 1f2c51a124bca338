//! A sorted map whose copies share what they have in common.
//!
//! A forked process has a copy of its parent's descriptors, mappings and signal actions. Copying whole tables would let a
//! trace of a few bytes per fork cost the size of the table each time. A copy of a [`SharedMap`] costs one reference; a
//! change copies the path to what it changes, as long as another map has that path as well.
//!
//! The tree is an AVL tree with joins (Blelloch, Ferizovic and Sun, "Just Join for Parallel Ordered Sets", 2016), so that
//! a range goes in logarithmic time, too: what it held is dropped by whoever holds it last.

use std::cmp::Ordering;
use std::sync::Arc;

/// A value that can be looked for by a mark that it carries (see [`SharedMap::first_marked`]).
pub trait Marked {
    /// Whether it is marked.
    fn is_marked(&self) -> bool {
        false
    }
}

impl Marked for () {}
impl Marked for u32 {}

#[derive(Debug, Clone)]
struct Node<K, V> {
    key: K,
    value: V,
    left: Link<K, V>,
    right: Link<K, V>,
    /// Nodes below and this one.
    len: u32,
    height: u8,
    /// Whether a value at or below this node is marked.
    marked: bool,
}

type Link<K, V> = Option<Arc<Node<K, V>>>;

/// See the module.
#[derive(Debug, Clone)]
pub struct SharedMap<K, V> {
    root: Link<K, V>,
}

impl<K, V> Default for SharedMap<K, V> {
    fn default() -> Self {
        Self { root: None }
    }
}

fn height<K, V>(link: &Link<K, V>) -> u8 {
    link.as_ref().map_or(0, |node| node.height)
}

fn len<K, V>(link: &Link<K, V>) -> u32 {
    link.as_ref().map_or(0, |node| node.len)
}

fn is_marked<K, V>(link: &Link<K, V>) -> bool {
    link.as_ref().is_some_and(|node| node.marked)
}

impl<K, V: Marked> Node<K, V> {
    /// Recomputes what it knows of those below it.
    fn update(&mut self) {
        self.len = 1 + len(&self.left) + len(&self.right);
        self.height = 1 + height(&self.left).max(height(&self.right));
        self.marked = self.value.is_marked() || is_marked(&self.left) || is_marked(&self.right);
    }
}

fn node<K, V: Marked>(left: Link<K, V>, key: K, value: V, right: Link<K, V>) -> Arc<Node<K, V>> {
    let mut node = Node { key, value, left, right, len: 1, height: 1, marked: false };
    node.update();
    Arc::new(node)
}

/// Takes the left child up: it becomes the parent.
fn rotate_right<K: Clone, V: Clone + Marked>(link: &mut Link<K, V>) {
    let Some(mut top) = link.take() else { return };
    let upper = Arc::make_mut(&mut top);
    let Some(mut pivot) = upper.left.take() else {
        *link = Some(top);
        return;
    };
    let lower = Arc::make_mut(&mut pivot);
    upper.left = lower.right.take();
    upper.update();
    lower.right = Some(top);
    lower.update();
    *link = Some(pivot);
}

/// Takes the right child up.
fn rotate_left<K: Clone, V: Clone + Marked>(link: &mut Link<K, V>) {
    let Some(mut top) = link.take() else { return };
    let upper = Arc::make_mut(&mut top);
    let Some(mut pivot) = upper.right.take() else {
        *link = Some(top);
        return;
    };
    let lower = Arc::make_mut(&mut pivot);
    upper.right = lower.left.take();
    upper.update();
    lower.left = Some(top);
    lower.update();
    *link = Some(pivot);
}

/// Restores the balance at `link`, whose children are balanced and differ by at most 2, and what it knows of them.
fn balance<K: Clone, V: Clone + Marked>(link: &mut Link<K, V>) {
    let Some(top) = link.as_mut() else { return };
    let upper = Arc::make_mut(top);
    let (left, right) = (height(&upper.left), height(&upper.right));
    if left > right + 1 {
        let inner = upper.left.as_ref().is_some_and(|node| height(&node.right) > height(&node.left));
        if inner {
            rotate_left(&mut upper.left);
        }
        rotate_right(link);
    } else if right > left + 1 {
        let inner = upper.right.as_ref().is_some_and(|node| height(&node.left) > height(&node.right));
        if inner {
            rotate_right(&mut upper.right);
        }
        rotate_left(link);
    } else {
        upper.update();
    }
}

fn insert<K: Clone + Ord, V: Clone + Marked>(link: &mut Link<K, V>, key: K, value: V) -> Option<V> {
    let Some(top) = link else {
        *link = Some(node(None, key, value, None));
        return None;
    };
    let upper = Arc::make_mut(top);
    let old = match key.cmp(&upper.key) {
        Ordering::Less => insert(&mut upper.left, key, value),
        Ordering::Greater => insert(&mut upper.right, key, value),
        Ordering::Equal => Some(std::mem::replace(&mut upper.value, value)),
    };
    balance(link);
    old
}

fn pop_first<K: Clone + Ord, V: Clone + Marked>(link: &mut Link<K, V>) -> Option<(K, V)> {
    let upper = Arc::make_mut(link.as_mut()?);
    if upper.left.is_some() {
        let first = pop_first(&mut upper.left);
        balance(link);
        return first;
    }
    let Node { key, value, right, .. } = Arc::unwrap_or_clone(link.take()?);
    *link = right;
    Some((key, value))
}

/// Removes a key that is there.
fn remove<K: Clone + Ord, V: Clone + Marked>(link: &mut Link<K, V>, key: &K) -> Option<V> {
    let upper = Arc::make_mut(link.as_mut()?);
    let old = match key.cmp(&upper.key) {
        Ordering::Less => remove(&mut upper.left, key),
        Ordering::Greater => remove(&mut upper.right, key),
        Ordering::Equal => {
            let Node { value, left, right, .. } = Arc::unwrap_or_clone(link.take()?);
            *link = join_two(left, right);
            return Some(value);
        }
    };
    balance(link);
    old
}

/// One tree of two and what is between them.
fn join<K: Clone + Ord, V: Clone + Marked>(
    mut left: Link<K, V>,
    key: K,
    value: V,
    mut right: Link<K, V>,
) -> Link<K, V> {
    if height(&left) > height(&right) + 1
        && let Some(top) = left.as_mut()
    {
        let upper = Arc::make_mut(top);
        upper.right = join(upper.right.take(), key, value, right);
        balance(&mut left);
        left
    } else if height(&right) > height(&left) + 1
        && let Some(top) = right.as_mut()
    {
        let upper = Arc::make_mut(top);
        upper.left = join(left, key, value, upper.left.take());
        balance(&mut right);
        right
    } else {
        Some(node(left, key, value, right))
    }
}

fn join_two<K: Clone + Ord, V: Clone + Marked>(left: Link<K, V>, mut right: Link<K, V>) -> Link<K, V> {
    match pop_first(&mut right) {
        Some((key, value)) => join(left, key, value, right),
        None => left,
    }
}

/// Splits into the entries below `key` (`at_or_below`: or at it) and those above.
fn split<K: Clone + Ord, V: Clone + Marked>(
    link: Link<K, V>,
    key: &K,
    at_or_below: bool,
) -> (Link<K, V>, Link<K, V>) {
    let Some(top) = link else { return (None, None) };
    let Node { key: own, value, left, right, .. } = Arc::unwrap_or_clone(top);
    if own < *key || at_or_below && own == *key {
        let (below, above) = split(right, key, at_or_below);
        (join(left, own, value, below), above)
    } else {
        let (below, above) = split(left, key, at_or_below);
        (below, join(above, own, value, right))
    }
}

impl<K: Clone + Ord, V: Clone + Marked> SharedMap<K, V> {
    /// Number of entries.
    pub fn len(&self) -> usize {
        len(&self.root) as usize
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.root.is_none()
    }

    /// The value of a key.
    pub fn get(&self, key: &K) -> Option<&V> {
        self.find(key).map(|(node, _)| &node.value)
    }

    /// Whether a copy of this map has the entry of `key` in common with it. False when there is no such entry.
    pub fn is_shared_at(&self, key: &K) -> bool {
        self.find(key).is_some_and(|(_, shared)| shared)
    }

    /// The node of a key, and whether it or one above it belongs to another map as well.
    fn find(&self, key: &K) -> Option<(&Node<K, V>, bool)> {
        let mut at = self.root.as_ref()?;
        let mut shared = false;
        loop {
            shared |= Arc::strong_count(at) > 1;
            at = match key.cmp(&at.key) {
                Ordering::Less => at.left.as_ref()?,
                Ordering::Greater => at.right.as_ref()?,
                Ordering::Equal => return Some((at, shared)),
            };
        }
    }

    /// Changes the value of a key, if it is there.
    pub fn change(&mut self, key: &K, change: impl FnOnce(&mut V)) {
        fn go<K: Clone + Ord, V: Clone + Marked>(
            link: &mut Link<K, V>,
            key: &K,
            change: impl FnOnce(&mut V),
        ) {
            let Some(top) = link else { return };
            let upper = Arc::make_mut(top);
            match key.cmp(&upper.key) {
                Ordering::Less => go(&mut upper.left, key, change),
                Ordering::Greater => go(&mut upper.right, key, change),
                Ordering::Equal => change(&mut upper.value),
            }
            upper.update();
        }
        if self.find(key).is_some() {
            go(&mut self.root, key, change);
        }
    }

    /// Sets the value of a key. Returns what it was.
    pub fn insert(&mut self, key: K, value: V) -> Option<V> {
        insert(&mut self.root, key, value)
    }

    /// Removes a key. Returns what its value was.
    pub fn remove(&mut self, key: &K) -> Option<V> {
        // A path that leads nowhere is not copied.
        self.find(key)?;
        remove(&mut self.root, key)
    }

    /// Removes the entries from `first` to `last`, both included, and returns them.
    #[expect(
        clippy::return_self_not_must_use,
        reason = "removing is the point; what was removed is by the way"
    )]
    pub fn remove_range(&mut self, first: &K, last: &K) -> Self {
        if first > last || self.from(first).next().is_none_or(|(key, _)| key > last) {
            return Self::default();
        }
        let (below, rest) = split(self.root.take(), first, false);
        let (inside, above) = split(rest, last, true);
        self.root = join_two(below, above);
        Self { root: inside }
    }

    /// Removes the entry with the least key.
    pub fn pop_first(&mut self) -> Option<(K, V)> {
        pop_first(&mut self.root)
    }

    /// The entry with the greatest key that is not above `key`.
    pub fn floor(&self, key: &K) -> Option<(&K, &V)> {
        let mut best = None;
        let mut at = self.root.as_ref();
        while let Some(node) = at {
            if node.key <= *key {
                best = Some((&node.key, &node.value));
                at = node.right.as_ref();
            } else {
                at = node.left.as_ref();
            }
        }
        best
    }

    /// The entry with the greatest key.
    pub fn last(&self) -> Option<(&K, &V)> {
        let mut at = self.root.as_ref()?;
        while let Some(right) = &at.right {
            at = right;
        }
        Some((&at.key, &at.value))
    }

    /// The least key whose value is marked.
    pub fn first_marked(&self) -> Option<&K> {
        let mut at = self.root.as_ref().filter(|node| node.marked)?;
        loop {
            if let Some(left) = at.left.as_ref().filter(|node| node.marked) {
                at = left;
            } else if at.value.is_marked() {
                return Some(&at.key);
            } else {
                at = at.right.as_ref()?;
            }
        }
    }

    /// All entries, by ascending key.
    pub fn iter(&self) -> Iter<'_, K, V> {
        let mut iter = Iter { path: Vec::new(), own: false };
        iter.descend(&self.root);
        iter
    }

    /// The entries from `first` on, by ascending key.
    pub fn from(&self, first: &K) -> Iter<'_, K, V> {
        let mut iter = Iter { path: Vec::new(), own: false };
        let mut at = self.root.as_deref();
        while let Some(node) = at {
            if node.key < *first {
                at = node.right.as_deref();
            } else {
                iter.path.push(node);
                at = node.left.as_deref();
            }
        }
        iter
    }

    /// The entries that no copy of this map has in common with it, by ascending key. Takes no longer than there are
    /// such entries.
    pub fn own(&self) -> Iter<'_, K, V> {
        let mut iter = Iter { path: Vec::new(), own: true };
        iter.descend(&self.root);
        iter
    }
}

impl<'a, K: Clone + Ord, V: Clone + Marked> IntoIterator for &'a SharedMap<K, V> {
    type Item = (&'a K, &'a V);
    type IntoIter = Iter<'a, K, V>;

    fn into_iter(self) -> Iter<'a, K, V> {
        self.iter()
    }
}

/// Entries of a [`SharedMap`].
#[derive(Debug)]
pub struct Iter<'a, K, V> {
    path: Vec<&'a Node<K, V>>,
    /// Only what no other map has.
    own: bool,
}

impl<'a, K, V> Iter<'a, K, V> {
    fn descend(&mut self, link: &'a Link<K, V>) {
        let mut at = link;
        while let Some(node) = at {
            if self.own && Arc::strong_count(node) > 1 {
                break;
            }
            self.path.push(node);
            at = &node.left;
        }
    }
}

impl<'a, K, V> Iterator for Iter<'a, K, V> {
    type Item = (&'a K, &'a V);

    fn next(&mut self) -> Option<Self::Item> {
        let node = self.path.pop()?;
        self.descend(&node.right);
        Some((&node.key, &node.value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

    /// A value that counts how often it is copied and dropped.
    #[derive(Debug)]
    struct Counted<'a> {
        value: u32,
        marked: bool,
        alive: &'a AtomicUsize,
        made: &'a AtomicUsize,
    }

    impl<'a> Counted<'a> {
        fn new(value: u32, marked: bool, alive: &'a AtomicUsize, made: &'a AtomicUsize) -> Self {
            alive.fetch_add(1, Relaxed);
            made.fetch_add(1, Relaxed);
            Self { value, marked, alive, made }
        }
    }
    impl Clone for Counted<'_> {
        fn clone(&self) -> Self {
            Self::new(self.value, self.marked, self.alive, self.made)
        }
    }
    impl Drop for Counted<'_> {
        fn drop(&mut self) {
            self.alive.fetch_sub(1, Relaxed);
        }
    }
    impl Marked for Counted<'_> {
        fn is_marked(&self) -> bool {
            self.marked
        }
    }

    /// The value and the mark of each key.
    type Model = BTreeMap<u32, (u32, bool)>;

    fn check<K: Ord + Clone + std::fmt::Debug, V: Marked>(link: &Link<K, V>) -> (u8, u32, bool) {
        let Some(node) = link else { return (0, 0, false) };
        let (left, right) = (check(&node.left), check(&node.right));
        assert!(left.0.abs_diff(right.0) <= 1, "balanced at {:?}", node.key);
        let marked = node.value.is_marked() || left.2 || right.2;
        let seen = (1 + left.0.max(right.0), 1 + left.1 + right.1, marked);
        assert_eq!((node.height, node.len, node.marked), seen, "at {:?}", node.key);
        seen
    }

    #[test]
    fn it_does_what_a_sorted_map_does_and_copies_stay_as_they_were() {
        let (alive, made) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let mut state = 88_172_645_463_325_252_u64;
        let mut random = move |below: u64| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state % below
        };
        let mut maps: Vec<(SharedMap<u32, Counted<'_>>, Model)> = vec![(SharedMap::default(), Model::new())];
        for round in 0..20_000_u32 {
            let at = random(maps.len() as u64) as usize;
            let key = random(200) as u32;
            let (map, model) = &mut maps[at];
            match random(10) {
                0..=4 => {
                    let marked = random(8) == 0;
                    let old = map.insert(key, Counted::new(round, marked, &alive, &made));
                    assert_eq!(old.map(|c| c.value), model.insert(key, (round, marked)).map(|m| m.0));
                }
                5 | 6 => assert_eq!(map.remove(&key).map(|c| c.value), model.remove(&key).map(|m| m.0)),
                7 => {
                    let last = key + random(20) as u32;
                    let gone = map.remove_range(&key, &last);
                    check(&gone.root);
                    let keys: Vec<u32> = model.range(key..=last).map(|(k, _)| *k).collect();
                    assert_eq!(gone.iter().map(|(k, _)| *k).collect::<Vec<_>>(), keys);
                    model.retain(|k, _| !(key..=last).contains(k));
                }
                8 => {
                    map.change(&key, |c| c.marked = true);
                    model.entry(key).and_modify(|m| m.1 = true);
                }
                _ => {
                    let copy = maps[at].clone();
                    let to = random(8) as usize;
                    if to < maps.len() {
                        maps[to] = copy;
                    } else {
                        maps.push(copy);
                    }
                }
            }
            for (map, model) in &maps {
                check(&map.root);
                assert!(
                    map.iter()
                        .map(|(k, c)| (*k, (c.value, c.marked)))
                        .eq(model.iter().map(|(k, m)| (*k, *m)))
                );
                assert_eq!(
                    map.floor(&key).map(|(k, _)| *k),
                    model.range(..=key).next_back().map(|(k, _)| *k)
                );
                assert_eq!(
                    map.from(&key).next().map(|(k, _)| *k),
                    model.range(key..).next().map(|(k, _)| *k)
                );
                assert_eq!(map.last().map(|(k, _)| *k), model.keys().next_back().copied());
                assert_eq!(map.first_marked(), model.iter().find(|(_, m)| m.1).map(|(k, _)| k));
            }
        }
        drop(maps);
        assert_eq!(alive.load(Relaxed), 0, "nothing outlives the maps");
    }

    #[test]
    fn a_copy_and_a_change_of_it_cost_a_path_not_the_table() {
        let (alive, made) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let mut parent = SharedMap::default();
        for key in 0..100_000_u32 {
            parent.insert(key, Counted::new(key, false, &alive, &made));
        }
        made.store(0, Relaxed);
        let mut child = parent.clone();
        assert_eq!(made.load(Relaxed), 0);
        assert!(parent.is_shared_at(&50_000) && child.is_shared_at(&50_000));
        child.remove(&50_000);
        assert!(made.load(Relaxed) < 60, "{} values were copied", made.load(Relaxed));
        assert!(!parent.is_shared_at(&50_000), "only the parent has it now");
        assert!(parent.is_shared_at(&7), "the others are still of both");
        made.store(0, Relaxed);
        child.remove_range(&1, &99_998);
        assert_eq!(child.len(), 2);
        assert!(made.load(Relaxed) < 200, "{} values were copied", made.load(Relaxed));
        assert_eq!(parent.len(), 100_000);
        assert!(!parent.is_shared_at(&7));
        let own = child.own().count();
        drop(child);
        assert_eq!(parent.own().count(), 100_000, "{own} were the child's own");
    }
}
