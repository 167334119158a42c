//! A session's own work: chunks, the growing cache, limits, and what a token costs.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::sync::Arc;

use common::{Golden, assert_valid, cpu, devices, greedy, session, shipped, worst_error};
use kovar::Device;
use kovar_lm::{
    Finish, GenerateOptions, LmError, Model, Precision, Sampler, Sampling, Session, SessionOptions, generate,
    perplexity,
};

fn with(device: &Device, options: SessionOptions) -> Session {
    Session::new(Arc::new(Model::load(device, shipped()).unwrap()), &options).unwrap()
}

/// Some tokens of the model's own making, so that the logits are those of a plausible text.
fn long_text(count: usize) -> Vec<u32> {
    let golden = Golden::shipped(2);
    let all = [golden.tokens, golden.greedy].concat();
    all.iter().copied().cycle().take(count).collect()
}

/// Two chunkings differ by rounding only: kernels for one row and for many add in other orders.
const ROUNDING: f64 = 1e-4;

#[test]
fn chunks_and_single_steps_give_the_same_logits() {
    let tokens = long_text(300);
    for device in devices("chunks_and_single_steps_give_the_same_logits") {
        let options = |chunk| SessionOptions { precision: Precision::Exact, chunk, ..SessionOptions::default() };
        let whole = with(&device, options(512)).eval_logits(&tokens).unwrap();
        let vocab = whole.len() / tokens.len();
        let odd = with(&device, options(70)).eval_logits(&tokens).unwrap();
        let error = worst_error(&odd, &whole, vocab);
        assert!(error < ROUNDING, "{device:?}: chunks of 70: {error:.1e}");
        // The cache begins with 256 positions: these steps see it grow.
        let mut session = with(&device, options(512));
        session.eval_logits(&tokens[..250]).unwrap();
        let steps: Vec<f32> =
            tokens[250..270].iter().flat_map(|token| session.eval_logits(&[*token]).unwrap()).collect();
        let error = worst_error(&steps, &whole[250 * vocab..270 * vocab], vocab);
        assert!(error < ROUNDING, "{device:?}: single steps: {error:.1e}");
        assert_valid(&device);
    }
}

#[test]
fn decoding_past_a_grown_cache_is_what_a_new_session_computes() {
    let device = cpu();
    let prompt = long_text(240);
    let mut session = session(&device, &shipped(), Precision::Exact);
    let tokens = greedy(&mut session, &prompt, 40);
    assert_eq!(session.position(), 240 + 39);
    let mut again = common::session(&device, &shipped(), Precision::Exact);
    let path = [&prompt[..], &tokens[..39]].concat();
    let mut sampler = Sampler::new(Sampling::default()).unwrap();
    assert_eq!(again.next_token(&path, &mut sampler).unwrap(), tokens[39]);
    assert_eq!(greedy(&mut session, &prompt, 40), tokens, "after clear");
}

#[test]
fn a_decoded_token_allocates_no_buffer() {
    for device in devices("a_decoded_token_allocates_no_buffer") {
        let mut session = session(&device, &shipped(), Precision::Fast);
        greedy(&mut session, &[0, 5], 4);
        for sampling in [Sampling::default(), Sampling { temperature: 1.0, seed: 3, ..Sampling::default() }] {
            let mut sampler = Sampler::new(sampling).unwrap();
            session.next_token(&[7], &mut sampler).unwrap();
            let before = device.stats();
            for token in 0..20 {
                session.next_token(&[token], &mut sampler).unwrap();
            }
            let cost = device.stats() - before;
            assert_eq!((cost.allocations, cost.kernels_compiled), (0, 0), "{device:?}");
            assert_eq!(cost.submissions, 20, "{device:?}");
        }
    }
}

#[test]
fn the_context_is_a_limit_and_says_so() {
    let device = cpu();
    let mut session = with(&device, SessionOptions { context: Some(12), ..SessionOptions::default() });
    assert_eq!(session.context(), 12);
    let error = session.eval_logits(&long_text(13)).unwrap_err();
    assert!(matches!(error, LmError::ContextFull { wanted: 13, limit: 12 }));
    assert_eq!(error.to_string(), "13 tokens do not fit the context of 12; shorten the prompt or ask for fewer tokens");
    assert_eq!(session.position(), 0);
    session.eval_logits(&long_text(12)).unwrap();
    assert!(matches!(session.eval_logits(&[1]), Err(LmError::ContextFull { .. })));

    let options = GenerateOptions { max_tokens: 100, ..GenerateOptions::default() };
    let tokens: Vec<_> = generate(&mut session, "A lifetime is", &options).unwrap().map(Result::unwrap).collect();
    // Four tokens of prompt, eight that were appended, and one that the last of them predicts.
    assert_eq!((tokens.len(), tokens.last().unwrap().finish), (9, Some(Finish::Context)));

    let long = "text ".repeat(20);
    assert!(matches!(generate(&mut session, &long, &options), Err(LmError::ContextFull { .. })));
    let model = session.model().clone();
    let none = SessionOptions { context: Some(0), ..SessionOptions::default() };
    assert_eq!(Session::new(model, &none).unwrap_err().to_string(), "context is 0; it must be at least 1");
}

#[test]
fn tokens_that_do_not_exist_are_refused() {
    let mut session = session(&cpu(), &shipped(), Precision::Fast);
    let error = session.eval_logits(&[1, 4096]).unwrap_err();
    assert_eq!(error.to_string(), "token 4096 is not in the model's vocabulary of 4096; check the token ids");
    assert!(matches!(session.eval_logits(&[]), Err(LmError::EmptyPrompt)));
    assert_eq!(session.position(), 0);
}

#[test]
fn generation_writes_the_golden_text() {
    let mut session = session(&cpu(), &shipped(), Precision::Exact);
    for prompt in 0..3 {
        let golden = Golden::shipped(prompt);
        let options = GenerateOptions { max_tokens: 64, ..GenerateOptions::default() };
        let mut generation = generate(&mut session, golden.text.as_deref().unwrap(), &options).unwrap();
        let tokens: Vec<_> = generation.by_ref().map(Result::unwrap).collect();
        let text: String = tokens.iter().map(|token| token.text.as_str()).collect();
        assert_eq!(text, golden.greedy_text.unwrap());
        assert!(tokens[..63].iter().all(|token| token.finish.is_none()));
        assert_eq!(tokens[63].finish, Some(Finish::MaxTokens));
        let timing = generation.timing();
        assert_eq!((timing.prompt_tokens, timing.decode_steps), (golden.tokens.len(), 63));
        assert!(timing.decode_dispatches > 63 && timing.decode_barriers > 63);
    }
}

#[test]
fn a_seed_makes_a_text() {
    let mut session = session(&cpu(), &shipped(), Precision::Fast);
    let mut write = |seed| -> String {
        let sampling = Sampling { temperature: 0.9, top_k: 50, top_p: 0.95, seed };
        let options = GenerateOptions { max_tokens: 24, sampling };
        generate(&mut session, "## Smart pointers", &options).unwrap().map(|token| token.unwrap().text).collect()
    };
    let first = write(1);
    assert_eq!(first, write(1));
    assert_ne!(first, write(2));
}

#[test]
fn perplexity_is_that_of_the_logits() {
    let tokens = long_text(100);
    let mut whole = session(&cpu(), &shipped(), Precision::Exact);
    let logits = whole.eval_logits(&tokens).unwrap();
    let nll = |row: &[f32], token: u32| {
        let sum: f64 = row.iter().map(|logit| f64::from(*logit).exp()).sum();
        sum.ln() - f64::from(row[token as usize])
    };
    let expected: f64 = logits.chunks_exact(4096).zip(&tokens[1..]).map(|(row, token)| nll(row, *token)).sum();
    let result = perplexity(&mut whole, &tokens).unwrap();
    assert_eq!((result.tokens, result.predicted), (100, 99));
    assert!((result.nll - expected / 99.0).abs() < 1e-4, "{} against {}", result.nll, expected / 99.0);

    // Windows of 32: every token but the first is predicted once.
    let options = SessionOptions { context: Some(32), precision: Precision::Exact, ..SessionOptions::default() };
    let windows = perplexity(&mut with(&cpu(), options), &tokens).unwrap();
    assert_eq!(windows.predicted, 99);
    assert!(windows.nll > result.nll, "{} against {}", windows.nll, result.nll);
    assert!(matches!(perplexity(&mut whole, &[1]), Err(LmError::TextTooShort { tokens: 1 })));
}
