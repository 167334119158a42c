//! A device that fails when it is told to, around one that works.
//!
//! [`Faulty`] wraps an adapter. What its devices do is what the wrapped ones do, until a [`Fault`] comes up: one call
//! fails, the device is lost from a call on, a kernel faults, or a submission hangs. Meanwhile the wrapper counts the
//! resources that are alive and takes note of what breaks the contract of this crate: something destroyed twice, or
//! destroyed, dropped or recorded anew while the device uses it. [`Faults`] is the handle to all that.
//!
//! ```
//! use kovar_hal::faulty::{At, Call, Fault, Failure, Faulty};
//! use kovar_hal::{Adapter, BufferDesc, HalError, MemoryKind, OpenOptions};
//!
//! let (adapter, faults) = Faulty::new(kovar_hal::cpu::adapter());
//! faults.inject(Fault { at: At::Nth(Call::CreateBuffer, 1), failure: Failure::OutOfMemory });
//! let device = adapter.open(&OpenOptions::default())?;
//! let desc = BufferDesc { size: 64, memory: MemoryKind::Shared, label: "x" };
//! let buffer = device.create_buffer(&desc)?;
//! assert!(matches!(device.create_buffer(&desc), Err(HalError::OutOfMemory { .. })));
//! assert_eq!(faults.live().buffers, 1);
//! // SAFETY: nothing uses it.
//! unsafe { device.destroy_buffer(buffer) };
//! assert_eq!((faults.live().buffers, faults.misuse()), (0, vec![]));
//! # Ok::<(), HalError>(())
//! ```

mod device;
mod gate;
mod ledger;
mod plan;
mod recorder;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use crate::{Adapter, Device, DeviceInfo, OpenOptions, Result};
use gate::Gate;
use ledger::Ledger;
use plan::Plan;

pub use ledger::Live;
pub use plan::{At, Call, Failure, Fault};

/// What all devices of an adapter share.
#[derive(Default)]
struct Book {
    plan: Mutex<Plan>,
    ledger: Mutex<Ledger>,
    /// The device opened last.
    latest: Mutex<Weak<Gate>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// An adapter whose devices fail on demand.
pub struct Faulty {
    inner: Box<dyn Adapter>,
    book: Arc<Book>,
}

/// The handle to the faults of an adapter. A clone is another handle.
#[derive(Clone)]
pub struct Faults(Arc<Book>);

impl Faulty {
    /// Wraps an adapter. Without faults its devices do what those of the adapter do.
    pub fn new(inner: Box<dyn Adapter>) -> (Faulty, Faults) {
        let book = Arc::new(Book::default());
        (Faulty { inner, book: book.clone() }, Faults(book))
    }
}

impl Adapter for Faulty {
    fn info(&self) -> &DeviceInfo {
        self.inner.info()
    }

    fn open(&self, options: &OpenOptions) -> Result<Arc<dyn Device>> {
        if let Some(error) = lock(&self.book.plan).enter(Call::Open).and_then(|f| f.error(Call::Open, "open", 0)) {
            return Err(error);
        }
        let gate = Arc::new(Gate::new(self.inner.open(options)?, self.book.clone())?);
        *lock(&self.book.latest) = Arc::downgrade(&gate);
        Ok(Arc::new(device::FaultyDevice::new(gate)))
    }
}

impl Faults {
    /// Adds a fault to what is to come. Calls are counted from the first of the adapter.
    pub fn inject(&self, fault: Fault) {
        lock(&self.0.plan).faults.push(fault);
    }

    /// The fallible calls so far, in order.
    pub fn calls(&self) -> Vec<Call> {
        lock(&self.0.plan).calls.clone()
    }

    /// Faults that have come up.
    pub fn fired(&self) -> usize {
        lock(&self.0.plan).fired
    }

    /// What is alive now.
    pub fn live(&self) -> Live {
        lock(&self.0.ledger).live()
    }

    /// What broke the contract of this crate so far.
    pub fn misuse(&self) -> Vec<String> {
        lock(&self.0.ledger).misuse.clone()
    }

    /// Loses the device that was opened last, as [`Failure::Lost`] does.
    pub fn lose(&self) {
        if let Some(gate) = lock(&self.0.latest).upgrade() {
            gate.lose("host");
        }
    }

    /// Ends a hang: what was held back goes to the device.
    ///
    /// # Errors
    /// Those of the wrapped device.
    pub fn release(&self) -> Result<()> {
        let gate = lock(&self.0.latest).upgrade();
        gate.map_or(Ok(()), |gate| gate.release())
    }
}
