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
