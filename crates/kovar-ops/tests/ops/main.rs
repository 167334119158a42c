//! Single operations: against MLX, against f64 arithmetic, and the same bytes in every order of execution.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod argmax;
mod attention;
mod cache;
mod cast;
mod elementwise;
mod fused;
mod harness;
#[path = "../matrices/mod.rs"]
mod matrices;
mod norm;
mod order;
mod peak;
mod random;
mod rotary;
