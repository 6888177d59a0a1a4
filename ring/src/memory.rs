//! Giving memory back: mimalloc keeps what a thread has freed until the thread frees more.

/// Returns free memory of the calling thread to the system, as far as whole pages are free. Costs
/// from microseconds to milliseconds, so it is for quiet moments after many connections have gone.
/// Does nothing where mimalloc is not the allocator.
pub fn release_unused() {
    // SAFETY: mimalloc's crate has no safe way to say so. The call takes no pointer, may be made
    // on any thread at any time, and frees only what is already free.
    unsafe { libmimalloc_sys::mi_collect(true) };
}

/// Keeps this process to pages of the usual size. A huge page is resident as a whole from its first
/// byte on, and stays while any byte of it is in use; where every shard's allocator has arenas of
/// its own, that is megabytes per shard and memory that never comes back. Nothing on the hot path
/// was measured to gain by them. Does nothing where the system does not know the call.
pub fn refuse_huge_pages() {
    const ON: libc::c_ulong = 1;
    const UNUSED: libc::c_ulong = 0;
    // SAFETY: std and libc have no safe way to say so. The call takes no pointer and changes only
    // how later page faults of this process are served.
    unsafe { libc::prctl(libc::PR_SET_THP_DISABLE, ON, UNUSED, UNUSED, UNUSED) };
}
