//! Memory of the kernel's that is mapped here: maps and rings.

use std::num::NonZeroUsize;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::OnceLock;

/// An `mmap` of a map.
pub(crate) struct Mapping {
    start: NonNull<u8>,
    len: usize,
}

// SAFETY: the memory is shared with the kernel, and is only accessed through atomics or while the protocol gives it
// to the reader; a thread is no different from another here.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Maps `len` bytes of a map.
    pub(crate) fn new(
        fd: BorrowedFd<'_>,
        len: usize,
        offset: usize,
        writable: bool,
    ) -> Result<Self, std::io::Error> {
        use nix::sys::mman::{MapFlags, ProtFlags, mmap};
        let len_nz = NonZeroUsize::new(len).ok_or(std::io::ErrorKind::InvalidInput)?;
        let prot = if writable { ProtFlags::PROT_READ | ProtFlags::PROT_WRITE } else { ProtFlags::PROT_READ };
        // SAFETY: a new mapping at an address of the kernel's choice.
        let start = unsafe { mmap(None, len_nz, prot, MapFlags::MAP_SHARED, fd.as_fd(), offset as i64) }
            .map_err(std::io::Error::from)?;
        Ok(Self { start: start.cast(), len })
    }

    /// Where it begins.
    pub(crate) const fn start(&self) -> NonNull<u8> {
        self.start
    }

    /// Address of the element at byte `offset`, checked to lie inside.
    pub(crate) fn element<T>(&self, offset: usize) -> Option<NonNull<T>> {
        if offset.checked_add(size_of::<T>())? > self.len || !offset.is_multiple_of(align_of::<T>()) {
            return None;
        }
        // SAFETY: inside the mapping, checked above.
        Some(unsafe { self.start.add(offset) }.cast())
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: mapped by `new`, and nothing borrows from it any more.
        let _ = unsafe { nix::sys::mman::munmap(self.start.cast(), self.len) };
    }
}

/// A large array map, mapped where it is used: the kernel maps all pages of a window at once
/// (`remap_vmalloc_range`, kernel/bpf/arraymap.c), so that what is mapped counts as resident, used or not.
pub(crate) struct Windows {
    fd: OwnedFd,
    /// Bytes of all.
    len: usize,
    /// Bytes of one: whole pages, and whole elements.
    window: usize,
    mapped: Vec<OnceLock<Option<Mapping>>>,
}

impl Windows {
    /// The array of `count` elements of `size` bytes. Nothing is mapped yet.
    pub(crate) fn new(fd: BorrowedFd<'_>, size: usize, count: usize) -> Result<Self, std::io::Error> {
        /// About so much at once.
        const ENOUGH: usize = 256 << 10;
        let page = page_size();
        let len = (size * count).next_multiple_of(page);
        // Pages are a power of two: the size's part of it need not be multiplied in again.
        let least = size * (page >> size.trailing_zeros().min(page.trailing_zeros()));
        let window = ENOUGH.next_multiple_of(least);
        let mapped = (0..len.div_ceil(window)).map(|_| OnceLock::new()).collect();
        Ok(Self { fd: fd.try_clone_to_owned()?, len, window, mapped })
    }

    /// Address of the `T` at byte `offset`, as [`Mapping::element`]; also `None` when the kernel does not map it.
    pub(crate) fn element<T>(&self, offset: usize) -> Option<NonNull<T>> {
        let (number, within) = (offset / self.window, offset % self.window);
        let window = self.mapped.get(number)?.get_or_init(|| {
            let start = number * self.window;
            let result = Mapping::new(self.fd.as_fd(), self.window.min(self.len - start), start, true);
            result.inspect_err(|error| tracing::warn!(%error, "part of a table cannot be mapped")).ok()
        });
        window.as_ref()?.element(within)
    }
}

/// Size of a memory page.
pub(crate) fn page_size() -> usize {
    // SAFETY: no preconditions.
    let size = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    usize::try_from(size).unwrap_or(4096)
}
