//! The rewrite rules find their patterns in the step of each family of models.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;
use std::sync::Arc;

use kovar::{Backend, Device, DeviceOptions};
use kovar_lm::{Config, Model, Precision, Session, SessionOptions, SyntheticWeights, shape};
use kovar_ops::fusion_rules;

const LAYERS: usize = 3;

/// How often each rule is applied to the step of a small model of this shape.
fn applied(shape_name: &str, precision: Precision) -> BTreeMap<&'static str, usize> {
    // The null device: it runs nothing, and all that fits is fused.
    let device = Device::open(&DeviceOptions::of(Backend::Null)).unwrap();
    let config = Config { layers: LAYERS, vocab: 512, ..shape(shape_name).unwrap() };
    let model = Model::synthetic(&device, &config, &SyntheticWeights::default()).unwrap();
    let session = Session::new(Arc::new(model), &SessionOptions { precision, ..SessionOptions::default() }).unwrap();
    let mut graph = session.plain_decode_graph().unwrap();
    let applied = graph.fuse(fusion_rules()).unwrap();
    assert!(graph.verify().is_proved());
    applied.into_iter().collect()
}

#[test]
fn every_layer_of_each_family_is_fused() {
    for (name, heads) in [("qwen3-0.6b", LAYERS), ("llama-1b", 0)] {
        let fast = applied(name, Precision::Fast);
        for rule in ["norm + gate and up + activation", "norm + three products"] {
            assert_eq!(fast[rule], LAYERS, "{name}: {rule}");
        }
        assert_eq!(fast["product + add"], LAYERS, "{name}: down");
        assert_eq!(fast["combined attention + product + add"], LAYERS, "{name}: output");
        assert_eq!(fast["norm + product"], 1, "{name}: the head");
        let exact = applied(name, Precision::Exact);
        assert_eq!(exact["add + norm"], 2 * LAYERS, "{name}: what is not in a product");
        for rule in ["head norm + rotary", "head norm + rotary + cache write"] {
            assert_eq!([fast[rule], exact[rule]], [heads; 2], "{name}: {rule}");
        }
        let attention = ["head norms + rotary + cache write + attention", "rotary + cache write + attention"];
        assert_eq!(attention.map(|rule| fast[rule]), [heads, LAYERS - heads], "{name}");
        assert_eq!(attention.map(|rule| exact[rule]), [heads, LAYERS - heads], "{name}");
    }
}
