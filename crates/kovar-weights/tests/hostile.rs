//! Damaged and made-up files: an error or a model, never a panic or a read out of bounds.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::{Folder, Tensors, file};
use kovar_weights::{ModelDir, WeightsError, reference};
use proptest::prelude::*;
use serde_json::{Value, json};

/// A small model with everything in it: quantised, dense, a bias, a norm.
fn model() -> (Value, Tensors) {
    let config = json!({"quantization": {
        "group_size": 32, "bits": 4, "b": {"group_size": 64, "bits": 3, "mode": "affine"}, "c": false
    }});
    let tensors = Tensors::new()
        .affine("a", 3, 64, 4, 32)
        .zeros("a.bias", "BF16", &[3])
        .affine("b", 2, 128, 3, 64)
        .zeros("c.weight", "F16", &[2, 5])
        .f32("norm.weight", &[4], &[1.0, 2.0, 3.0, 4.0]);
    (config, tensors)
}

/// Opens the folder and uses all that it offers.
fn use_all(folder: &Folder) -> Result<u64, WeightsError> {
    let dir = ModelDir::open(folder.path())?;
    let mut sum = 0;
    for tensor in dir.tensors() {
        assert_eq!(tensor.bytes().len(), tensor.byte_len());
        assert_eq!(tensor.len(), tensor.shape().iter().product::<usize>());
        sum += tensor.bytes().iter().map(|&b| u64::from(b)).sum::<u64>();
        one_line(dir.vector(tensor.name(), 4));
        let path = tensor.name().rsplit_once('.').map_or(tensor.name(), |(path, _)| path);
        for weights in [dir.linear(path), dir.embedding(path)].into_iter().filter_map(one_line) {
            let values = reference::dequantize(&weights)?;
            assert_eq!(values.len(), weights.n() * weights.k());
            assert!(reference::dequantize_row(&weights, weights.n()).is_err());
        }
    }
    Ok(sum)
}

/// The result, after its message was looked at: one line that is not endless.
fn one_line<T>(result: Result<T, WeightsError>) -> Option<T> {
    let text = match result {
        Ok(value) => return Some(value),
        Err(e) => e.to_string(),
    };
    assert!(!text.chars().any(char::is_control), "{text:?}");
    assert!(text.len() < 2000 && !text.ends_with('.'), "{text}");
    None
}

fn element_type() -> impl Strategy<Value = String> {
    prop_oneof![
        8 => prop::sample::select(vec!["F32", "F16", "BF16", "U32", "U8", "I64", "BOOL", "F8_E4M3"]).prop_map(String::from),
        1 => ".{0,6}",
    ]
}

/// Numbers where arithmetic goes wrong, and ordinary ones.
fn number() -> impl Strategy<Value = u64> {
    prop_oneof![
        8 => 0..80u64,
        1 => prop::sample::select(vec![u64::MAX, u64::MAX - 7, 1 << 63, 1 << 62, 1 << 32, u64::from(u32::MAX)]),
        1 => any::<u64>(),
    ]
}

fn entry() -> impl Strategy<Value = Value> {
    (element_type(), prop::collection::vec(number(), 0..4), number(), number(), any::<bool>()).prop_map(
        |(dtype, shape, begin, end, honest)| {
            let size = match dtype.as_str() {
                "F32" | "U32" => 4,
                "F16" | "BF16" => 2,
                "I64" => 8,
                _ => 1,
            };
            let length = shape.iter().fold(size, |n: u64, &d| n.wrapping_mul(d));
            let end = if honest { begin.wrapping_add(length) } else { end };
            json!({"dtype": dtype, "shape": shape, "data_offsets": [begin, end]})
        },
    )
}

fn tensor_name() -> impl Strategy<Value = String> {
    prop_oneof![
        prop::sample::select(vec!["a.weight", "a.scales", "a.biases", "a.bias", "b.weight", "norm.weight"])
            .prop_map(String::from),
        ".{0,8}",
    ]
}

fn json_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        number().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "affine|mxfp4|.{0,6}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 24, 6, |inner| {
        let key = prop_oneof![
            prop::sample::select(vec!["group_size", "bits", "mode", "a", "b", "quant_method"]).prop_map(String::from),
            ".{0,6}",
        ];
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(key, inner, 0..6).prop_map(|m| Value::Object(m.into_iter().collect())),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn a_file_cut_anywhere_is_truncated(keep in any::<prop::sample::Index>()) {
        let (config, tensors) = model();
        let whole = tensors.file();
        let keep = keep.index(whole.len());
        let folder = Folder::with(config, &tensors).write("model.safetensors", &whole[..keep]);
        let refused = matches!(use_all(&folder), Err(WeightsError::Truncated { found, .. }) if found == keep as u64);
        prop_assert!(refused, "cut to {keep} of {}", whole.len());
    }

    #[test]
    fn flipped_bytes_do_no_harm(
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        only_header in any::<bool>(),
    ) {
        let (config, tensors) = model();
        let mut bytes = tensors.file();
        let header = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        for (at, value) in flips {
            let at = at.index(if only_header { header } else { bytes.len() });
            bytes[at] = value;
        }
        one_line(use_all(&Folder::with(config, &tensors).write("model.safetensors", bytes)));
    }

    #[test]
    fn digits_of_the_header_may_lie(
        lies in prop::collection::vec((any::<prop::sample::Index>(), b'0'..=b'9'), 1..4),
    ) {
        let (config, tensors) = model();
        let mut bytes = tensors.file();
        let header = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        let digits: Vec<usize> = (8..header).filter(|&i| bytes[i].is_ascii_digit()).collect();
        for (at, digit) in lies {
            bytes[*at.get(&digits)] = digit;
        }
        one_line(use_all(&Folder::with(config, &tensors).write("model.safetensors", bytes)));
    }

    #[test]
    fn made_up_headers_do_no_harm(
        entries in prop::collection::vec((tensor_name(), entry()), 0..6),
        data in 0..256usize,
        length in prop::option::weighted(0.1, any::<u64>()),
    ) {
        let (config, tensors) = model();
        // written by hand, so that names may come twice
        let fields: Vec<String> = entries.iter().map(|(name, e)| format!("{}:{e}", json!(name))).collect();
        let mut bytes = file(&format!("{{{}}}", fields.join(",")), &vec![0x5A; data]);
        if let Some(length) = length {
            bytes[..8].copy_from_slice(&length.to_le_bytes());
        }
        one_line(use_all(&Folder::with(config, &tensors).write("model.safetensors", bytes)));
    }

    #[test]
    fn arbitrary_bytes_are_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let folder = Folder::new().write("config.json", "{}").write("model.safetensors", bytes);
        prop_assert!(one_line(use_all(&folder)).is_none());
    }

    #[test]
    fn made_up_settings_do_no_harm(value in json_value(), legacy in any::<bool>()) {
        let key = if legacy { "quantization_config" } else { "quantization" };
        let (_, tensors) = model();
        one_line(use_all(&Folder::with(json!({ key: value }), &tensors)));
    }

    #[test]
    fn damaged_configs_and_indices_do_no_harm(
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        which in any::<bool>(),
    ) {
        let (config, tensors) = model();
        let index = json!({"weight_map": {"a.weight": "model.safetensors", "norm.weight": "model.safetensors"}});
        let mut texts = [config.to_string().into_bytes(), index.to_string().into_bytes()];
        let text = &mut texts[usize::from(which)];
        for (at, value) in flips {
            let at = at.index(text.len());
            text[at] = value;
        }
        let folder = Folder::new()
            .write("model.safetensors", tensors.file())
            .write("config.json", &texts[0])
            .write("model.safetensors.index.json", &texts[1]);
        one_line(use_all(&folder));
    }
}

#[test]
fn the_model_of_these_tests_is_whole() {
    let (config, tensors) = model();
    assert!(use_all(&Folder::with(config, &tensors)).unwrap() > 0);
}
