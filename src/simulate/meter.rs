//! An allocator that counts while it is asked to: how much a parser takes for a given input.
//!
//! Off, it costs one relaxed load per allocation.

use std::alloc::{GlobalAlloc, Layout};
use std::cell::Cell;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

static ON: AtomicBool = AtomicBool::new(false);

thread_local! {
    /// Of this thread since `begin`.
    static SEEN: Cell<Seen> = const { Cell::new(Seen { live: 0, peak: 0, largest: 0, calls: 0 }) };
}

#[derive(Clone, Copy)]
struct Seen {
    live: i64,
    peak: i64,
    largest: usize,
    calls: u64,
}

/// The program's allocator, metered.
pub struct Metered<A>(pub A);

#[inline]
fn note(taken: usize, given: usize) {
    if ON.load(Relaxed) {
        let _ = SEEN.try_with(|seen| {
            let s = seen.get();
            let live = s.live + taken as i64 - given as i64;
            let calls = s.calls + u64::from(taken > 0);
            seen.set(Seen { live, peak: s.peak.max(live), largest: s.largest.max(taken), calls });
        });
    }
}

#[allow(unsafe_code)]
// SAFETY: every call goes to the inner allocator unchanged; the counting neither allocates nor touches the memory.
unsafe impl<A: GlobalAlloc> GlobalAlloc for Metered<A> {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note(layout.size(), 0);
        // SAFETY: as the caller promised.
        unsafe { self.0.alloc(layout) }
    }
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        note(layout.size(), 0);
        // SAFETY: as the caller promised.
        unsafe { self.0.alloc_zeroed(layout) }
    }
    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        note(0, layout.size());
        // SAFETY: as the caller promised.
        unsafe { self.0.dealloc(at, layout) }
    }
    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        note(size, layout.size());
        // SAFETY: as the caller promised.
        unsafe { self.0.realloc(at, layout, size) }
    }
}

/// What a piece of work allocated, in bytes; zeros in a program without the metered allocator.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Allocated {
    /// Most that was held at once.
    pub peak: u64,
    /// Largest single allocation.
    pub largest: u64,
    /// Allocations, reallocations among them.
    pub calls: u64,
}

/// Counts from here on, on this thread.
pub fn begin() {
    ON.store(true, Relaxed);
    SEEN.set(Seen { live: 0, peak: 0, largest: 0, calls: 0 });
}

/// What this thread allocated since `begin`.
pub fn seen() -> Allocated {
    let s = SEEN.get();
    Allocated { peak: u64::try_from(s.peak).unwrap_or(0), largest: s.largest as u64, calls: s.calls }
}

/// Counts the allocations of `work` on this thread.
pub fn measure<T>(work: impl FnOnce() -> T) -> (T, Allocated) {
    begin();
    let done = work();
    (done, seen())
}
