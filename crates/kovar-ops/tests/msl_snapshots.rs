//! The Metal source of every kernel, for review: what a change of a kernel or of the translator does to it is seen in the
//! difference. `INSTA_UPDATE=always cargo test -p kovar-ops --test msl_snapshots` writes them anew.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeSet;

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

fn msl(form: &KernelForm) -> String {
    kovar::to_msl(form.source.source(), &form.constants, SUBGROUP, VERSION)
        .unwrap_or_else(|error| panic!("{}: {error}", name(form)))
}

#[test]
fn every_kernel() {
    let mut settings = insta::Settings::clone_current();
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    let mut names = BTreeSet::new();
    // Metal's matrices are 8 x 8: kernels of larger tiles are for Vulkan.
    for form in all_kernels().iter().filter(|form| !form.source.source().contains("coop_mat16x16")) {
        let name = name(form);
        settings.bind(|| insta::assert_snapshot!(name.as_str(), msl(form)));
        assert!(names.insert(name.clone()), "{name} is listed twice");
    }
    // Snapshots of kernels that are gone would mislead.
    for file in std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/snapshots")).unwrap() {
        let file = file.unwrap().file_name().into_string().unwrap();
        let known = file.strip_suffix(".snap").is_some_and(|name| names.contains(name));
        assert!(known || file.ends_with(".snap.new"), "{file} belongs to no kernel");
    }
}
