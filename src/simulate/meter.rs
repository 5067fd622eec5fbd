//! An allocator that counts while it is asked to: how much a parser takes for a given input.
//!
//! Off, it costs one relaxed load per allocation.

use std::alloc::{GlobalAlloc, Layout};
use std::cell::Cell;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

static ON: AtomicBool = AtomicBool::new(false);

thread_local! {
    /// (live bytes, their peak, largest single allocation) of this thread since `measure` began.
    static SEEN: Cell<(i64, i64, usize)> = const { Cell::new((0, 0, 0)) };
}

/// The program's allocator, metered.
pub struct Metered<A>(pub A);

#[inline]
fn note(taken: usize, given: usize) {
    if ON.load(Relaxed) {
        let _ = SEEN.try_with(|seen| {
            let (live, peak, largest) = seen.get();
            let live = live + taken as i64 - given as i64;
            seen.set((live, peak.max(live), largest.max(taken)));
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
}

/// Counts the allocations of `work` on this thread.
pub fn measure<T>(work: impl FnOnce() -> T) -> (T, Allocated) {
    ON.store(true, Relaxed);
    SEEN.set((0, 0, 0));
    let done = work();
    let (_, peak, largest) = SEEN.get();
    (done, Allocated { peak: u64::try_from(peak).unwrap_or(0), largest: largest as u64 })
}
