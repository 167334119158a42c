//! What every backend must do, run against each device that the machine has: one test for each check of
//! [`kovar_testing::conformance`], and what no single device can show.

// A test fails by panicking, and so do its helpers.
#![allow(clippy::panic, clippy::expect_used, clippy::unwrap_used)]

mod null;
mod processes;

macro_rules! tests {
    ($($module:ident { $($name:ident($body:ident, $on:ident))* })*) => {
        $(mod $module {
            $(#[test]
            fn $name() {
                let name = concat!(stringify!($module), "::", stringify!($name));
                kovar_testing::conformance::Check::find(name).run_on_each();
            })*
        })*
    };
}
kovar_testing::conformance_checks!(tests);
