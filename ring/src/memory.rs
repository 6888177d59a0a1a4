//! Giving memory back: mimalloc keeps what a thread has freed until the thread frees more.

/// Returns free memory of the calling thread to the system, as far as whole pages are free. Costs
/// from microseconds to milliseconds, so it is for quiet moments after many connections have gone.
/// Does nothing where mimalloc is not the allocator.
pub fn release_unused() {
    // SAFETY: mimalloc's crate has no safe way to say so. The call takes no pointer, may be made
    // on any thread at any time, and frees only what is already free.
    unsafe { libmimalloc_sys::mi_collect(true) };
}
