//! The machine as tests see it: which devices it has, what a test does when something is missing, and what every device
//! must do ([`conformance`]).
//!
//! `KOVAR_REQUIRE` is a list, separated by commas, of what must be there: `cpu`, `vulkan`, `metal`, `validation` (the
//! Khronos validation layer), `coop` (a device with cooperative matrices). A test that misses one of these fails. A test that
//! misses anything else says `skipped: ...` and returns. Tests alone read the variable; `kovar doctor` does not.

// A test fails by panicking, and so does what it is made of.
#![allow(clippy::panic, clippy::expect_used, clippy::unwrap_used)]

pub mod conformance;

use std::io::Write;
use std::sync::Arc;

use kovar_hal::{Adapter, Backend, Device, HalError, OpenOptions};

const NAMES: [&str; 5] = ["cpu", "vulkan", "metal", "validation", "coop"];

/// Whether `KOVAR_REQUIRE` names this. Panics if it names something unknown.
pub fn is_required(name: &str) -> bool {
    debug_assert!(NAMES.contains(&name));
    let list = std::env::var("KOVAR_REQUIRE").unwrap_or_default();
    let mut names = list.split(',').map(str::trim).filter(|name| !name.is_empty());
    names.clone().for_each(|name| assert!(NAMES.contains(&name), "KOVAR_REQUIRE names {name:?}; it knows {NAMES:?}"));
    names.any(|required| required == name)
}

/// Says that a test, or the part of it that needs `missing`, does not run. Panics if `missing` is required.
pub fn skip(test: &str, missing: &str, reason: &str) {
    assert!(!is_required(missing), "{test}: {missing} is required (KOVAR_REQUIRE) and missing: {reason}");
    note(test, &format!("no {missing}: {reason}"));
}

/// Says that a test, or a part of it, does not run for a reason that no requirement covers.
pub fn note(test: &str, reason: &str) {
    // The stream itself: `eprintln!` is held back by the test runner when the test passes. In one write, because other
    // tests write too.
    let line = format!("skipped: {test}: {reason}\n");
    let _ = std::io::stderr().write_all(line.as_bytes());
}

/// A device to test.
pub struct Subject {
    /// `cpu`, `vulkan`, `metal`, with a number where there are several.
    pub name: String,
    /// How to open it.
    pub adapter: Box<dyn Adapter>,
    /// The Khronos validation layer is there, and on in [`Subject::open`].
    pub validation: bool,
}

impl Subject {
    /// Adapters with their names, which tell several of one backend apart.
    pub fn all(adapters: Vec<Box<dyn Adapter>>) -> Vec<Subject> {
        let mut subjects: Vec<Subject> = Vec::new();
        for adapter in adapters {
            let backend = adapter.info().backend;
            let twins = subjects.iter().filter(|s| s.adapter.info().backend == backend).count();
            let name = if twins == 0 { backend.to_string() } else { format!("{backend}:{twins}") };
            let validation = backend == Backend::Vulkan && validated(adapter.as_ref()).is_ok();
            subjects.push(Subject { name, adapter, validation });
        }
        subjects
    }

    /// Whether what it does is watched: by the Khronos layer, or on Metal by the rules that Kovar itself knows of.
    pub fn validates(&self) -> bool {
        self.validation || self.adapter.info().backend == Backend::Metal
    }

    /// Opens the device, with validation where there is some.
    pub fn open(&self) -> Arc<dyn Device> {
        self.open_with(&OpenOptions { validation: self.validates(), ..OpenOptions::default() })
    }

    /// Opens the device. Panics if that fails.
    pub fn open_with(&self, options: &OpenOptions) -> Arc<dyn Device> {
        self.adapter.open(options).unwrap_or_else(|e| panic!("{} cannot be opened: {e}", self.name))
    }
}

/// Fails if the vendor's validation has said anything since it was last asked.
#[track_caller]
pub fn assert_valid(device: &dyn Device) {
    let messages = device.validation_messages();
    assert!(messages.is_empty(), "{}: {}", device.info().name, messages.join("\n"));
}

/// Every device of every backend that the machine has; what is missing is said, in the name of `test`.
pub fn subjects(test: &str) -> Vec<Subject> {
    let (adapters, missing) = kovar_hal::adapters();
    let subjects = Subject::all(adapters);
    for subject in subjects.iter().filter(|s| s.adapter.info().backend == Backend::Vulkan && !s.validation) {
        match validated(subject.adapter.as_ref()) {
            Err(HalError::Unavailable { reason, .. }) => skip(test, "validation", &reason),
            Err(other) => panic!("{test}: {other}"),
            Ok(_) => {}
        }
    }
    for reason in missing {
        match &reason {
            HalError::Unavailable { backend, reason } => skip(test, &backend.to_string(), reason),
            other => panic!("{test}: {other}"),
        }
    }
    for name in NAMES {
        let found = subjects.iter().any(|s| s.adapter.info().backend.to_string() == name);
        assert!(
            matches!(name, "validation" | "coop") || found || !is_required(name),
            "{test}: {name} is required and not there"
        );
    }
    assert!(!is_required("validation") || subjects.iter().any(|s| s.validation), "{test}: validation is required");
    subjects
}

/// Opens a device under the vendor's validation.
fn validated(adapter: &dyn Adapter) -> Result<Arc<dyn Device>, HalError> {
    adapter.open(&OpenOptions { validation: true, ..OpenOptions::default() })
}
