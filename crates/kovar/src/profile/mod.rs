//! Measured times, summed up.

mod summary;

pub use summary::Summary;
