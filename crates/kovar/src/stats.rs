use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! stats {
    ($($(#[doc = $doc:literal])+ $name:ident),* $(,)?) => {
        /// What a device has done so far. Reading costs a few loads; the counts of an encoder arrive at its commit.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
        #[non_exhaustive]
        pub struct Stats { $($(#[doc = $doc])+ pub $name: u64,)* }

        #[derive(Debug, Default)]
        pub(crate) struct Counters { $(pub(crate) $name: AtomicU64,)* }

        impl Counters {
            pub(crate) fn read(&self) -> Stats {
                Stats { $($name: self.$name.load(Ordering::Relaxed),)* }
            }

            pub(crate) fn add(&self, more: &Stats) {
                $(if more.$name != 0 { self.$name.fetch_add(more.$name, Ordering::Relaxed); })*
            }
        }

        impl std::ops::Sub for Stats {
            type Output = Stats;
            fn sub(self, earlier: Stats) -> Stats {
                Stats { $($name: self.$name.wrapping_sub(earlier.$name),)* }
            }
        }
    };
}

stats! {
    /// Kernels dispatched.
    dispatches,
    /// Copies and fills recorded.
    transfers,
    /// Barriers placed by the hazard tracker.
    barriers_placed,
    /// Commands that joined an open group without a barrier.
    barriers_elided,
    /// Barriers forced past the tracker.
    barriers_forced,
    /// Barriers asked for by the caller.
    barriers_manual,
    /// Nanoseconds that the host spent issuing barriers, of encoders that were asked to look:
    /// [`EncoderOptions::time_barriers`](crate::EncoderOptions).
    barrier_ns,
    /// Command buffers recorded.
    command_buffers,
    /// Submissions.
    submissions,
    /// Times the host waited for the device.
    waits,
    /// Nanoseconds of those waits. A CPU device counts them as waits too, though the waiting thread helps.
    wait_ns,
    /// Bytes the host wrote to buffers.
    bytes_uploaded,
    /// Bytes the host read from buffers.
    bytes_downloaded,
    /// Bytes of both that went through the staging ring, because the host does not see the memory.
    bytes_staged,
    /// Times that a transfer found the staging ring full and waited for an older one.
    staging_waits,
    /// Buffers allocated from the device.
    allocations,
    /// Bytes allocated from the device.
    bytes_allocated,
    /// Buffers staged to enter the residency set.
    residency_added,
    /// Buffers staged to leave it: those that were in it, when their last user is gone.
    residency_removed,
    /// Times that staged changes were handed to the device: once at a commit that finds some.
    residency_flushes,
    /// Kernels compiled.
    kernels_compiled,
    /// Kernels translated from WGSL: compiled kernels less those whose translation was found on disk.
    kernels_translated,
    /// Kernels whose translation was found in the disk cache.
    cache_hits,
    /// Files of the disk cache that were damaged or foreign, and therefore ignored.
    cache_rejected,
    /// Files of the disk cache that could not be written.
    cache_unwritten,
}

impl Stats {
    /// All barriers, whoever asked for them.
    pub fn barriers(&self) -> u64 {
        self.barriers_placed + self.barriers_forced + self.barriers_manual
    }
}

/// What a kernel has done, one entry for each set of specialisation constants.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct KernelStats {
    /// Its name.
    pub name: String,
    /// The constants that it was made with.
    pub constants: Vec<(String, f64)>,
    /// Dispatches handed to the device, those of replays among them.
    pub dispatches: u64,
}
