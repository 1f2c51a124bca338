//! Memory does not grow with the number of events, neither writing nor reading. A binary of its own, since it counts
//! every allocation.
#![allow(clippy::unwrap_used, missing_docs, unreachable_pub, reason = "a test that cannot go on fails")]

#[path = "../benches/redis.rs"]
mod redis;

use ctrace_format::{Filter, Summary, Trace, TraceWriter};
use std::alloc::{GlobalAlloc, Layout, System};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

struct Counting;

static NOW: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

// SAFETY: hands every request to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        PEAK.fetch_max(NOW.fetch_add(layout.size(), Relaxed) + layout.size(), Relaxed);
        // SAFETY: the caller keeps the contract of `alloc`, which is the same.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        NOW.fetch_sub(layout.size(), Relaxed);
        // SAFETY: `pointer` came from `System.alloc` with this layout.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Runs, and returns by how much memory rose above what it was, at most.
fn peak<T>(run: impl FnOnce() -> T) -> (T, usize) {
    let before = NOW.load(Relaxed);
    PEAK.store(before, Relaxed);
    let result = run();
    (result, PEAK.load(Relaxed) - before)
}

fn write(path: &Path, events: usize) {
    let mut writer = TraceWriter::create(path, &redis::header()).unwrap();
    let mut redis = redis::Redis::new(&mut writer);
    for _ in 0..events {
        writer.push(&redis.call()).unwrap();
    }
    writer.finish(&Summary::default()).unwrap();
}

#[test]
fn memory_is_that_of_a_chunk_not_of_the_file() {
    const MIB: usize = 1 << 20;
    let dir = tempfile::tempdir().unwrap();
    let (short, long) = (dir.path().join("short.ctr"), dir.path().join("long.ctr"));
    let ((), write_short) = peak(|| write(&short, 140_000));
    let ((), write_long) = peak(|| write(&long, 560_000));
    // The columns of a chunk that has a few more rows of a shape than those before may take twice as much.
    assert!(write_long < write_short + 2 * MIB, "writing: {write_short} bytes, then {write_long}");
    assert!(write_long < 32 * MIB, "writing takes {write_long} bytes");
    let (trace, open) = peak(|| Trace::open(&long).unwrap());
    assert!(open < MIB, "opening takes {open} bytes");
    let (events, stream) = peak(|| trace.events(&Filter::default()).map(Result::unwrap).count());
    assert_eq!(events, 560_000);
    assert!(stream < 8 * MIB, "streaming takes {stream} bytes");
}
