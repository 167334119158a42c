//! What rounding activations to 8 bits costs: the perplexity of the shipped model on prose of its own field.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::{cpu, session, shipped};
use kovar_lm::{Perplexity, Precision, perplexity};

/// Tokens of the text that are looked at here. `docs/performance.md` has the figure of the whole.
const PREFIX: usize = 768;

/// Relative difference of the perplexities.
const ALLOWED: f64 = 5e-3;

#[test]
fn fast_products_keep_the_perplexity_of_the_shipped_model() {
    let text = std::fs::read_to_string(common::prose()).unwrap();
    let device = cpu();
    let of = |precision: Precision| -> Perplexity {
        let mut session = session(&device, &shipped(), precision);
        let mut tokens = session.model().tokenizer().unwrap().encode(&text).unwrap();
        assert!(tokens.len() >= 8000, "the text has shrunk to {} tokens", tokens.len());
        tokens.truncate(PREFIX);
        perplexity(&mut session, &tokens).unwrap()
    };
    let (exact, fast) = (of(Precision::Exact).perplexity(), of(Precision::Fast).perplexity());
    let difference = fast / exact - 1.0;
    println!("perplexity: exact {exact:.4}, fast {fast:.4}, {:+.3} %", difference * 100.0);
    assert!(fast != exact, "the two precisions are one");
    assert!(difference.abs() <= ALLOWED, "exact {exact}, fast {fast}");
}
