//! The Metal source of every kernel, for review: what a change of a kernel or of the translator does to it is seen in the
//! difference. `INSTA_UPDATE=always cargo test -p kovar-ops --test msl_snapshots` writes them anew.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeSet;

use kovar::{Backend, Device, DeviceOptions, Error, Trap};
use kovar_ops::{KernelForm, all_kernels};

/// Metal 3.2, the language of macOS 15.
const VERSION: (u8, u8) = (3, 2);
/// Lanes of a subgroup on Apple's GPUs.
const SUBGROUP: u32 = 32;

/// The kernel's name with its constants: `rms_norm-DTYPE2-SPAN1`.
fn name(form: &KernelForm) -> String {
    let constants: String = form.constants.iter().map(|(name, value)| format!("-{name}{value}")).collect();
    format!("{}{constants}", form.source.name())
}

/// The Metal source, but of kernels whose matrices are larger than Metal's: those are for Vulkan.
fn msl(form: &KernelForm) -> Option<String> {
    match kovar::to_msl(form.source, &form.constants, SUBGROUP, VERSION) {
        Ok(source) => Some(source),
        Err(Error::Trap { kernel, trap: Trap::MatrixSize { .. }, .. }) if kernel.contains("coop16") => None,
        Err(error) => panic!("{}: {error}", name(form)),
    }
}

#[test]
fn every_kernel() {
    let mut settings = insta::Settings::clone_current();
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    let mut names = BTreeSet::new();
    for form in all_kernels() {
        let (name, Some(msl)) = (name(&form), msl(&form)) else { continue };
        settings.bind(|| insta::assert_snapshot!(name.as_str(), msl));
        assert!(names.insert(name.clone()), "{name} is listed twice");
    }
    // Snapshots of kernels that are gone would mislead.
    for file in std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/snapshots")).unwrap() {
        let file = file.unwrap().file_name().into_string().unwrap();
        let known = file.strip_suffix(".snap").is_some_and(|name| names.contains(name));
        assert!(known || file.ends_with(".snap.new"), "{file} belongs to no kernel");
    }
}

/// The translator's traps, those that Metal alone has included.
#[test]
fn no_kernel_steps_into_a_trap() {
    let device = Device::open(&DeviceOptions::of(Backend::Null)).unwrap();
    for form in all_kernels() {
        device.kernel(form.source, &form.constants).unwrap_or_else(|error| panic!("{}: {error}", name(&form)));
        msl(&form);
    }
}
