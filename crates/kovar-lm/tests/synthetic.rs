//! Models with made-up weights run like others.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::sync::Arc;

use kovar_lm::{Config, Model, SHAPES, Session, SessionOptions, SyntheticWeights, shape};

#[test]
fn logits_are_finite_in_every_shape() {
    for device in common::devices("logits_are_finite_in_every_shape") {
        for (name, bits) in SHAPES.into_iter().zip([4, 8, 16].into_iter().cycle()) {
            let whole = shape(name).unwrap();
            let config = Config {
                layers: 2,
                vocab: 640,
                hidden: whole.hidden / 8,
                intermediate: whole.intermediate / 8,
                ..whole
            };
            let weights = SyntheticWeights { bits, ..SyntheticWeights::default() };
            let model = Arc::new(Model::synthetic(&device, &config, &weights).unwrap());
            let mut session = Session::new(model, &SessionOptions::default()).unwrap();
            session.skip(300).unwrap();
            let logits = session.eval_logits(&[1, 2, 3]).unwrap();
            assert_eq!(session.position(), 303);
            assert!(logits.iter().all(|logit| logit.is_finite()), "{name} {device:?}");
            assert!(logits.iter().any(|logit| *logit != logits[0]), "{name} {device:?}");
        }
    }
}

#[test]
fn unknown_names_and_forms_are_refused() {
    assert!(shape("qwen3").is_none());
    let device = &common::devices("unknown_names_and_forms_are_refused")[0];
    for (bits, group) in [(0, 64), (4, 0), (9, 64), (4, 7)] {
        let weights = SyntheticWeights { bits, group, seed: 0 };
        assert!(Model::synthetic(device, &shape("qwen3-0.6b").unwrap(), &weights).is_err(), "{bits} {group}");
    }
}

/// A small model of a published shape.
fn small(name: &str) -> Config {
    let whole = shape(name).unwrap();
    Config { layers: 2, vocab: 640, hidden: whole.hidden / 8, intermediate: whole.intermediate / 8, ..whole }
}

#[test]
fn a_model_that_was_written_is_the_one_that_is_made() {
    let device = common::cpu();
    for (name, bits, ragged) in [("qwen3-0.6b", 4, false), ("llama-8b", 8, true), ("llama-1b", 16, true)] {
        let (config, weights) = (small(name), SyntheticWeights { bits, ..SyntheticWeights::default() });
        let folder = tempfile::tempdir().unwrap();
        let bytes = Model::write_synthetic(folder.path(), &config, &weights, ragged).unwrap();
        let loaded = Model::load(&device, folder.path()).unwrap();
        assert_eq!((loaded.loaded().total, loaded.config()), (bytes, &config));
        assert_eq!(loaded.loaded().copied, 0);
        let logits = |model| Session::new(Arc::new(model), &SessionOptions::default()).unwrap().eval_logits(&[1, 2, 3]);
        let made = Model::synthetic(&device, &config, &weights).unwrap();
        assert_eq!(logits(loaded).unwrap(), logits(made).unwrap(), "{name}");
        // What is there is not written over.
        let error = Model::write_synthetic(folder.path(), &config, &weights, ragged).unwrap_err().to_string();
        assert!(error.contains("model.safetensors"), "{error}");
    }
}
