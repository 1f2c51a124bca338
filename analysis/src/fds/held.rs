//! References to descriptions: by the descriptors of all tables, and by messages that carry some.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

/// Counts descriptors, and remembers the descriptions whose last reference went.
#[derive(Debug)]
pub struct Registry<D> {
    descriptors: Cell<usize>,
    gone: RefCell<Vec<D>>,
}

impl<D> Default for Registry<D> {
    fn default() -> Self {
        Self { descriptors: Cell::new(0), gone: RefCell::default() }
    }
}

impl<D> Registry<D> {
    /// Descriptors in all tables; one that tables have in common counts once.
    pub fn descriptors(&self) -> usize {
        self.descriptors.get()
    }

    /// Takes out a description whose last reference went.
    pub fn gone(&self) -> Option<D> {
        self.gone.borrow_mut().pop()
    }
}

/// A description, as all who refer to it share it: when the last of them goes, it is over, and its registry knows.
#[derive(Debug)]
pub struct Description<D: Copy> {
    id: D,
    registry: Rc<Registry<D>>,
}

impl<D: Copy> Description<D> {
    /// A description to which nobody refers yet.
    pub fn new(id: D, registry: &Rc<Registry<D>>) -> Rc<Self> {
        Rc::new(Self { id, registry: Rc::clone(registry) })
    }

    /// Its id.
    pub const fn id(&self) -> D {
        self.id
    }
}

impl<D: Copy> Drop for Description<D> {
    fn drop(&mut self) {
        self.registry.gone.borrow_mut().push(self.id);
    }
}

/// The reference of a descriptor to its description.
#[derive(Debug)]
pub struct Held<D: Copy> {
    of: Rc<Description<D>>,
}

impl<D: Copy> Held<D> {
    /// One reference more.
    pub fn new(of: Rc<Description<D>>) -> Self {
        of.registry.descriptors.set(of.registry.descriptors.get() + 1);
        Self { of }
    }

    /// The id of the description.
    pub fn id(&self) -> D {
        self.of.id
    }
}

impl<D: Copy> Clone for Held<D> {
    fn clone(&self) -> Self {
        Self::new(Rc::clone(&self.of))
    }
}

impl<D: Copy> Drop for Held<D> {
    fn drop(&mut self) {
        self.of.registry.descriptors.set(self.of.registry.descriptors.get() - 1);
    }
}

impl<D: Copy> super::Stands for Held<D> {
    /// References are counted across tables: no table is asked.
    type Key = ();
    /// A description whose number another call was given is over.
    type Past = ();

    fn key(&self) -> Option<()> {
        None
    }

    fn past(self) {}
}

#[cfg(test)]
mod tests {
    use super::super::{Slot, Tables};
    use super::*;

    #[test]
    fn a_description_is_over_when_nobody_refers_to_it() {
        let registry = Rc::new(Registry::default());
        let mut tables = Tables::default();
        let parent = tables.fresh();
        let description = Description::new(7, &registry);
        for fd in [3, 4] {
            let what = Held::new(Rc::clone(&description));
            tables[parent].put(fd, Slot { what, cloexec: false, since_ns: 0 });
        }
        let message = description;
        let child = tables.copy(parent);
        assert_eq!(registry.descriptors(), 2, "the copy has both in common with its original");
        tables[child].remove(3);
        tables[parent].remove_range(0, 9);
        assert_eq!(registry.gone(), None);
        tables.leave(child);
        assert_eq!((registry.descriptors(), registry.gone()), (0, None), "on its way");
        drop(message);
        assert_eq!((registry.gone(), registry.gone()), (Some(7), None));
    }
}
