//! Ops that do the work of two or three: as those do it, one after the other.

use half::{bf16, f16};
use kovar::{Buffer, DType, Device};
use kovar_ops::attention::{HeadNorms, NewRow, attention, attention_parts, combine, turned_parts};
use kovar_ops::norm_rotary::{HeadTurn, norm_rotary};
use kovar_ops::{add_norm, cache, elementwise, norm, rotary};

use super::harness::{near, run, widen};
use super::sample::Random;

/// The same numbers as f32, f16 and bf16.
fn weights(device: &Device, seed: u64, width: usize) -> [Buffer; 3] {
    let wide = Random(seed).normals(width);
    let f16s: Vec<f16> = wide.iter().map(|w| f16::from_f32(*w)).collect();
    let bf16s: Vec<bf16> = wide.iter().map(|w| bf16::from_f32(*w)).collect();
    [
        device.upload(&wide, &[width]).unwrap(),
        device.upload(&f16s, &[width]).unwrap(),
        device.upload(&bf16s, &[width]).unwrap(),
    ]
}

pub(super) fn add_norm_is_add_and_norm(device: &Device) {
    for (rows, width) in [(1, 384), (3, 64), (17, 1024), (2, 7)] {
        let random = |seed| device.upload(&Random(seed).normals(rows * width), &[rows, width]).unwrap();
        let empty = || device.buffer(DType::F32, &[rows, width]).unwrap();
        let (a, b) = (random(1), random(2));
        for weight in weights(device, 3, width) {
            let ([sum, y], [sum_apart, y_apart]) = ([empty(), empty()], [empty(), empty()]);
            run(device, |enc| add_norm::add_norm(enc, [&a, &b], &weight, &sum, &y, 1e-6));
            run(device, |enc| elementwise::add(enc, &a, &b, &sum_apart));
            run(device, |enc| norm::rms_norm(enc, &sum_apart, &weight, &y_apart, 1e-6));
            let read = |buffer: &Buffer| buffer.read::<f32>().unwrap();
            let case = format!("{device:?} [{rows}, {width}] {}", weight.dtype());
            assert_eq!(read(&sum), read(&sum_apart), "{case}");
            // The compiler of a GPU may contract products and sums differently in the two forms.
            near(&case, &read(&y), &widen(&read(&y_apart)), 2e-6);
        }
    }
}

pub(super) fn norm_rotary_is_norm_and_rotary_and_cache_write(device: &Device) {
    for (rows, heads, size, place) in [(1, 6, 64, 0u32), (1, 2, 64, 9), (5, 3, 128, 6), (2, 1, 10, 0)] {
        let (shape, capacity) = ([rows, heads, size], 10);
        let x = device.upload(&Random(1).normals(rows * heads * size), &shape).unwrap();
        let freqs: Vec<f32> = (0..size / 2).map(|i| 1e4f32.powf(-2.0 * i as f32 / size as f32)).collect();
        let freqs = device.upload(&freqs, &[size / 2]).unwrap();
        let position = device.upload(&[place], &[1]).unwrap();
        for weight in weights(device, 2, size) {
            let empty = |rows| device.buffer(DType::F32, &[rows, heads, size]).unwrap();
            let (normed, turned, kept) = (empty(rows), empty(rows), empty(capacity));
            run(device, |enc| norm::rms_norm(enc, &x, &weight, &normed, 1e-5));
            run(device, |enc| rotary::rotary(enc, &normed, &freqs, &position, &turned));
            run(device, |enc| cache::write(enc, &turned, &position, &kept));
            let (y, row_cache) = (empty(rows), empty(capacity));
            let turn = HeadTurn { weight: &weight, eps: 1e-5, freqs: &freqs, position: &position };
            run(device, |enc| norm_rotary(enc, &x, &turn, &y, false));
            run(device, |enc| norm_rotary(enc, &x, &turn, &row_cache, true));
            let read = |buffer: &Buffer| buffer.read::<f32>().unwrap();
            let case = format!("{device:?} {shape:?} at {place} {}", weight.dtype());
            near(&case, &read(&y), &widen(&read(&turned)), 5e-6);
            // Rows beyond the cache are dropped.
            near(&case, &read(&row_cache), &widen(&read(&kept)), 5e-6);
        }
    }
}

/// Query heads, key-value heads, head size, capacity, position, parts: with parts that have nothing, sizes with and without
/// a rest of a subgroup, the first and the last place of a cache, and a position beyond it.
const ATTENTIONS: [(usize, usize, usize, usize, u32, usize); 7] = [
    (4, 2, 64, 40, 0, 3),
    (4, 2, 64, 40, 39, 1),
    (6, 2, 128, 700, 513, 8),
    (2, 1, 100, 300, 299, 4),
    (3, 3, 256, 64, 17, 2),
    (1, 1, 4, 33, 40, 5),
    (8, 1, 64, 300, 130, 16),
];

pub(super) fn attention_in_parts_is_attention(device: &Device) {
    for (heads, kv_heads, size, capacity, position, splits) in ATTENTIONS {
        let random =
            |seed, shape: [usize; 3]| device.upload(&Random(seed).normals(shape.iter().product()), &shape).unwrap();
        let q = random(1, [1, heads, size]);
        let (keys, values) = (random(2, [capacity, kv_heads, size]), random(3, [capacity, kv_heads, size]));
        let position = device.upload(&[position], &[1]).unwrap();
        let parts = device.buffer(DType::F32, &[1, heads, splits, size + 4]).unwrap();
        let [y, whole] = [(); 2].map(|()| device.buffer(DType::F32, q.shape()).unwrap());
        run(device, |enc| {
            attention_parts(enc, &q, &keys, &values, &position, &parts, 0.2)?;
            combine(enc, &parts, &y)?;
            attention(enc, &q, &keys, &values, &position, &whole, 0.2)
        });
        let case = format!("{device:?} {heads}/{kv_heads} heads of {size} at {position:?} in {splits} parts");
        near(&case, &y.read::<f32>().unwrap(), &widen(&whole.read::<f32>().unwrap()), 5e-6);
    }
}

pub(super) fn attention_turns_heads_and_writes_the_cache(device: &Device) {
    for (heads, kv_heads, size, capacity, place, splits) in ATTENTIONS {
        let random =
            |seed, shape: [usize; 3]| device.upload(&Random(seed).normals(shape.iter().product()), &shape).unwrap();
        let [q, k, v] = [(1, heads), (2, kv_heads), (3, kv_heads)].map(|(seed, heads)| random(seed, [1, heads, size]));
        let freqs: Vec<f32> = (0..size / 2).map(|i| 1e4f32.powf(-2.0 * i as f32 / size as f32)).collect();
        let freqs = &device.upload(&freqs, &[size / 2]).unwrap();
        let position = &device.upload(&[place], &[1]).unwrap();
        let empty = |heads| device.buffer(DType::F32, &[1, heads, size]).unwrap();
        let parts = device.buffer(DType::F32, &[1, heads, splits, size + 4]).unwrap();
        let queries_weights = weights(device, 6, size).into_iter().map(Some).chain([None]);
        for (q_weight, k_weight) in queries_weights.zip(weights(device, 7, size).into_iter().map(Some).chain([None])) {
            let cache = || [random(4, [capacity, kv_heads, size]), random(5, [capacity, kv_heads, size])];
            let (one, apart) = (cache(), cache());
            let [y, whole, turned_q, turned_k] = [empty(heads), empty(heads), empty(heads), empty(kv_heads)];
            let norms = q_weight.as_ref().zip(k_weight.as_ref());
            let row = NewRow {
                queries: &q,
                keys: &k,
                values: &v,
                norms: norms.map(|(queries, keys)| HeadNorms { queries, keys, eps: 1e-5 }),
                freqs,
            };
            run(device, |enc| {
                turned_parts(enc, &row, one.each_ref(), position, &parts, 0.1)?;
                combine(enc, &parts, &y)
            });
            run(device, |enc| {
                match norms {
                    None => {
                        rotary::rotary(enc, &q, freqs, position, &turned_q)?;
                        rotary::rotary(enc, &k, freqs, position, &turned_k)?;
                    }
                    Some((q_weight, k_weight)) => {
                        let turn = HeadTurn { weight: q_weight, eps: 1e-5, freqs, position };
                        norm_rotary(enc, &q, &turn, &turned_q, false)?;
                        norm_rotary(enc, &k, &HeadTurn { weight: k_weight, ..turn }, &turned_k, false)?;
                    }
                }
                cache::write(enc, &turned_k, position, &apart[0])?;
                cache::write(enc, &v, position, &apart[1])?;
                attention(enc, &turned_q, &apart[0], &apart[1], position, &whole, 0.1)
            });
            let read = |buffer: &Buffer| buffer.read::<f32>().unwrap();
            let case = format!("{device:?} {heads}/{kv_heads} heads of {size} at {place} in {splits} parts");
            near(&case, &read(&y), &widen(&read(&whole)), 1e-5);
            near(&case, &read(&one[0]), &widen(&read(&apart[0])), 5e-6);
            assert_eq!(read(&one[1]), read(&apart[1]), "{case}");
        }
    }
}
