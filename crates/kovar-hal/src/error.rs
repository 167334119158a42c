use crate::{Backend, Race};

/// What can go wrong below the safe layer. Each variant is one thing that a caller can act on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HalError {
    /// The backend has no driver, loader or device on this machine.
    #[error("{backend} is not available: {reason}")]
    Unavailable {
        /// The backend asked for.
        backend: Backend,
        /// Why, in the words of the loader or driver.
        reason: String,
    },
    /// An allocation did not fit.
    #[error("out of memory: {bytes} bytes for {label:?} ({reason})")]
    OutOfMemory {
        /// Label of the resource.
        label: String,
        /// Bytes asked for.
        bytes: u64,
        /// The driver's own text.
        reason: String,
    },
    /// Code was refused by the driver's compiler, or is in a format that the backend does not take.
    #[error("pipeline {label:?} could not be made: {reason}")]
    Pipeline {
        /// Label of the pipeline.
        label: String,
        /// The driver's own text.
        reason: String,
    },
    /// The device cannot do what was asked.
    #[error("{what} is not supported by this device: {reason}")]
    Unsupported {
        /// The capability.
        what: &'static str,
        /// Why.
        reason: String,
    },
    /// A kernel faulted while it ran: its results are undefined.
    #[error("fault in {label:?}: {reason}")]
    Fault {
        /// Label of the command buffer or kernel.
        label: String,
        /// The device's own text.
        reason: String,
    },
    /// Work ran longer than the device, or the caller's limit, allows.
    #[error("time limit in {label:?}: {reason}")]
    Timeout {
        /// Label of the command buffer.
        label: String,
        /// The device's own text, or the limit.
        reason: String,
    },
    /// The CPU backend's race detector found two accesses that nothing orders: results are undefined.
    #[error("{0}")]
    Race(Box<Race>),
    /// The device is gone; open it again.
    #[error("device lost in {label:?}: {reason}")]
    DeviceLost {
        /// Label of the command buffer, or the call that noticed.
        label: String,
        /// The device's own text.
        reason: String,
    },
    /// Any other failure of a driver call.
    #[error("{call} failed: {reason}")]
    Driver {
        /// The call.
        call: &'static str,
        /// The driver's own text.
        reason: String,
    },
}
