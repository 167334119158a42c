use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use super::Kernel;

/// The kernels of a recording, each once, and how often it was dispatched.
#[derive(Default)]
pub(crate) struct Tally {
    kernels: Vec<Kernel>,
    counts: Vec<u64>,
    /// Index of the one that was counted last.
    last: usize,
}

impl Tally {
    #[inline]
    pub(crate) fn add(&mut self, kernel: &Kernel, dispatches: u64) {
        if !self.kernels.get(self.last).is_some_and(|last| Arc::ptr_eq(&last.0, &kernel.0)) {
            self.turn_to(kernel);
        }
        self.counts[self.last] += dispatches;
    }

    /// Makes a kernel the last one that was counted.
    fn turn_to(&mut self, kernel: &Kernel) {
        // A forward pass uses a dozen kernels; one used lately is the likeliest.
        self.last = self.kernels.iter().rposition(|kept| Arc::ptr_eq(&kept.0, &kernel.0)).unwrap_or_else(|| {
            self.kernels.push(kernel.clone());
            self.counts.push(0);
            self.kernels.len() - 1
        });
    }

    pub(crate) fn clear(&mut self) {
        self.kernels.clear();
        self.counts.clear();
        self.last = 0;
    }

    /// Adds the counts to those of the kernels.
    pub(crate) fn count(&self) {
        for (kernel, dispatches) in self.kernels.iter().zip(&self.counts) {
            kernel.0.dispatches.fetch_add(*dispatches, Relaxed);
        }
    }

    /// Adds the counts to those of the kernels, and begins again.
    pub(crate) fn count_part(&mut self) {
        self.count();
        self.counts.fill(0);
    }

    /// What keeps the kernels alive.
    pub(crate) fn kernels(&self) -> Arc<[Kernel]> {
        self.kernels.as_slice().into()
    }
}
