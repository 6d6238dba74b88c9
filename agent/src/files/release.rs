//! Giving memory back after a large transfer.

/// Transfers below this size leave too little behind to be worth a call.
const WORTH_BYTES: u64 = 1024 * 1024;

/// Returns the allocator's free pages to the system after a transfer of `bytes`. The allocator
/// keeps freed chunks for reuse, which in an agent that is idle most of the time is waste.
pub fn after_transfer(bytes: u64) {
    if bytes >= WORTH_BYTES {
        #[cfg(target_env = "gnu")]
        // SAFETY: takes no pointers and may be called at any time from any thread.
        unsafe {
            libc::malloc_trim(0);
        }
    }
}
