//! Metal objects as addresses and back, and what threads may do with them.

use std::ops::Deref;

use objc2::rc::Retained;
use objc2::runtime::ProtocolObject;
use objc2_foundation::NSError;

use super::fault::Report;
use super::list::Object;

/// A counted reference to a Metal object of this protocol.
pub(crate) type Metal<P> = Retained<ProtocolObject<P>>;

/// Turns a reference into an address that owns it.
pub(crate) fn leak<P: ?Sized>(object: Metal<P>) -> Object {
    Object(Retained::into_raw(object) as usize)
}

/// # Safety
/// The address is of a living object that conforms to the protocol.
pub(crate) unsafe fn borrow<'a, P: ?Sized>(object: Object) -> &'a ProtocolObject<P> {
    // SAFETY: a protocol object is the Objective-C object itself, and it lives (caller).
    unsafe { &*(object.0 as *const ProtocolObject<P>) }
}

/// # Safety
/// The address came from `leak` with this protocol, and is released once.
pub(crate) unsafe fn release<P: ?Sized>(object: Object) {
    // SAFETY: takes back the reference that `leak` gave up.
    drop(unsafe { Retained::from_raw(object.0 as *mut ProtocolObject<P>) });
}

/// An object whose binding does not say that threads may share it, although Apple does: resources, sample buffers,
/// residency sets and archives are "safe to use from multiple threads" where calls that change them do not overlap. Such
/// calls are made under a lock here, by whoever holds the object.
pub(crate) struct Threaded<T>(pub(crate) T);

// SAFETY: Objective-C objects belong to no thread; the type's text says who keeps calls apart.
unsafe impl<T> Send for Threaded<T> {}
// SAFETY: as above.
unsafe impl<T> Sync for Threaded<T> {}

impl<T> Deref for Threaded<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

/// The parts of an error that do not hang on its domain. In a pool.
pub(crate) fn report(error: &NSError) -> Report {
    Report {
        domain: error.domain().to_string(),
        code: error.code(),
        text: error.localizedDescription().to_string(),
        encoders: Vec::new(),
    }
}

/// An error in one line. In a pool.
pub(crate) fn text(error: &NSError) -> String {
    let Report { domain, code, text, .. } = report(error);
    format!("{text} ({domain} {code})")
}
