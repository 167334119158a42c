//! Every way of decoding writes the same text: recorded, handed over in parts, and replayed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::collections::HashSet;
use std::sync::Arc;

use common::{Golden, assert_valid, devices, shipped};
use kovar::Backend;
use kovar_lm::{Decode, Model, Precision, Sampler, Sampling, Session, SessionOptions};

/// Positions that a new cache has room for; it doubles.
const ROOM: usize = 256;
/// Tokens that are decoded.
const COUNT: usize = 40;

/// Decodes past the first growth of the cache, by the way that these options say.
fn written(model: &Arc<Model>, prompt: &[u32], options: &SessionOptions) -> Vec<u32> {
    let mut session = Session::new(model.clone(), options).unwrap();
    session.skip(ROOM - prompt.len() - 20).unwrap();
    let first = session.next_token(prompt, &mut Sampler::new(Sampling::default()).unwrap()).unwrap();
    let mut tokens = vec![first];
    while tokens.len() < COUNT {
        assert!(session.position() >= ROOM - 20, "the cache grows between two tokens");
        let more = session.likeliest(tokens[tokens.len() - 1], COUNT - tokens.len()).unwrap();
        tokens.extend(more);
    }
    assert!(session.position() > ROOM);
    tokens
}

#[test]
fn every_way_writes_the_same_text_through_a_growing_cache() {
    for device in devices("every_way_writes_the_same_text_through_a_growing_cache") {
        let model = Arc::new(Model::load(&device, shipped()).unwrap());
        let prompt = Golden::shipped(2).tokens;
        let prompt = &prompt[..prompt.len().min(16)];
        for precision in [Precision::Exact, Precision::Fast] {
            let options = |decode, split| SessionOptions { precision, decode, split, ..SessionOptions::default() };
            let eager = written(&model, prompt, &options(Decode::Eager, false));
            let distinct: HashSet<_> = eager.iter().collect();
            assert!(distinct.len() > 5, "a text that says something: {eager:?}");
            let replayed = |tokens| written(&model, prompt, &options(Decode::Replay { tokens }, false));
            // Rounded, what is fused on a GPU rounds a code at a tie otherwise, and the text may part.
            let same = precision == Precision::Exact || device.info().backend == Backend::Cpu;
            let wanted = if same { eager.clone() } else { replayed(1) };
            for tokens in if same { &[1, 3, 8][..] } else { &[3, 8] } {
                assert_eq!(replayed(*tokens), wanted, "{device:?}, {precision:?}: {tokens} tokens a submission");
            }
            let split = written(&model, prompt, &options(Decode::Eager, true));
            assert_eq!(split, eager, "{device:?}, {precision:?}: handed over in parts");
        }
        assert_valid(&device);
    }
}

#[test]
fn a_replayed_step_has_the_logits_of_a_recorded_one() {
    for device in devices("a_replayed_step_has_the_logits_of_a_recorded_one") {
        let model = Arc::new(Model::load(&device, shipped()).unwrap());
        let prompt = Golden::shipped(2).tokens;
        for (precision, most) in [(Precision::Exact, 1e-5), (Precision::Fast, 1e-2)] {
            let [recorded, replayed] = [Decode::Eager, Decode::Replay { tokens: 1 }].map(|decode| {
                let options = SessionOptions { precision, decode, ..SessionOptions::default() };
                let mut session = Session::new(model.clone(), &options).unwrap();
                session.eval_logits(&prompt[..12]).unwrap();
                session.eval_logits(&prompt[12..13]).unwrap()
            });
            let largest = recorded.iter().fold(0.0f32, |largest, logit| largest.max(logit.abs()));
            let apart = recorded.iter().zip(&replayed).fold(0.0f32, |apart, (a, b)| apart.max((a - b).abs()));
            assert!(largest > 1.0 && apart <= most * largest, "{device:?}, {precision:?}: {apart} of {largest}");
        }
        assert_valid(&device);
    }
}

#[test]
fn the_room_of_the_cache_changes_no_bit() {
    for device in devices("the_room_of_the_cache_changes_no_bit") {
        let model = Arc::new(Model::load(&device, shipped()).unwrap());
        let prompt = Golden::shipped(2).tokens;
        for precision in [Precision::Exact, Precision::Fast] {
            let options = SessionOptions { precision, ..SessionOptions::default() };
            let logits = [0, ROOM + 1, 4 * ROOM].map(|grown| {
                let mut session = Session::new(model.clone(), &options).unwrap();
                session.skip(grown).unwrap();
                session.clear();
                session.eval_logits(&prompt[..12]).unwrap();
                session.eval_logits(&prompt[12..13]).unwrap()
            });
            assert!(logits[0].iter().any(|logit| *logit != logits[0][0]), "{device:?}, {precision:?}");
            for (more, room) in logits[1..].iter().zip([2, 4]) {
                assert!(*more == logits[0], "{device:?}, {precision:?}: {room} times the room");
            }
        }
        assert_valid(&device);
    }
}

#[test]
fn a_step_in_parts_has_two_submissions() {
    for device in devices("a_step_in_parts_has_two_submissions") {
        let model = Arc::new(Model::load(&device, shipped()).unwrap());
        for (split, submissions) in [(false, 1), (true, 2)] {
            let options = SessionOptions { decode: Decode::Eager, split, ..SessionOptions::default() };
            let mut session = Session::new(model.clone(), &options).unwrap();
            for tokens in [&[0u32, 5, 9][..], &[7]] {
                let before = device.stats();
                session.eval_logits(tokens).unwrap();
                // The head is a recording of its own there.
                assert_eq!((device.stats() - before).submissions, submissions + 1, "{device:?}, split: {split}");
            }
        }
        assert_valid(&device);
    }
}
