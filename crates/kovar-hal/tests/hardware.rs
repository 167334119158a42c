//! Everything that a Mac can show, on its GPU: `cargo test -p kovar-hal --features metal-hardware`. The page that it prints is
//! for a bug report.
#![allow(clippy::unwrap_used)]

use std::io::Write;
use std::path::Path;
use std::process::Command;

#[test]
fn kovar_doctor_passes_on_metal() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut doctor = Command::new(env!("CARGO"));
    doctor.args(["run", "--quiet", "--release", "--package", "kovar-cli", "--", "doctor", "--device", "metal"]);
    let output = doctor.current_dir(root).output().unwrap();
    // Past the runner's capture: the page is to be seen when all is well, too.
    std::io::stderr().write_all(&output.stdout).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
