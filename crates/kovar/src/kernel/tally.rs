use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use super::Kernel;

/// The kernels of a recording, each once, and how often it was dispatched.
#[derive(Default)]
pub(crate) struct Tally {
    kernels: Vec<Kernel>,
    counts: Vec<u64>,
}

impl Tally {
    pub(crate) fn add(&mut self, kernel: &Kernel, dispatches: u64) {
        // A forward pass uses a dozen kernels; the one used last is the likeliest.
        match self.kernels.iter().rposition(|kept| Arc::ptr_eq(&kept.0, &kernel.0)) {
            Some(at) => self.counts[at] += dispatches,
            None => {
                self.kernels.push(kernel.clone());
                self.counts.push(dispatches);
            }
        }
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
