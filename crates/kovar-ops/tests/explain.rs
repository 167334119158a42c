//! The explanation of a whole decode step: a model of eight layers, recorded for the null device.
#![allow(clippy::unwrap_used)]

use kovar::{Backend, Buffer, CommandEncoder, DType, Device, DeviceOptions, Graph, MemoryKind, Result};
use kovar_ops::{AffineMatrix, Matrix, Precision};

const LAYERS: usize = 8;
const HIDDEN: usize = 384;
const INTERMEDIATE: usize = 1024;
const VOCAB: usize = 4096;
const HEAD: usize = 64;
const HEADS: usize = 6;
const KV_HEADS: usize = 2;
const CONTEXT: usize = 256;

struct Maker(Device);

impl Maker {
    fn float(&self, label: &str, shape: &[usize]) -> Buffer {
        self.0.buffer_in(MemoryKind::Device, DType::F32, shape, label).unwrap()
    }

    fn matrix(&self, label: &str, n: usize, k: usize) -> Matrix {
        let buffer = |dtype, width, part: &str| {
            self.0.buffer_in(MemoryKind::Device, dtype, &[n, width], &format!("{label}.{part}")).unwrap()
        };
        let (codes, scales) = (buffer(DType::U32, k / 8, "weight"), buffer(DType::BF16, k / 64, "scales"));
        Matrix::Affine(AffineMatrix::new(codes, scales, buffer(DType::BF16, k / 64, "biases"), 4, 64).unwrap())
    }
}

fn layer(
    maker: &Maker,
    index: usize,
    encoder: &mut CommandEncoder,
    position: &Buffer,
    stream: &Buffer,
) -> Result<Buffer> {
    let name = |rest: &str| format!("layers.{index}.{rest}");
    let linear = |encoder: &mut CommandEncoder, weight: &str, x: &Buffer, n: usize, label: &str| {
        let y = maker.float(label, &[1, n]);
        kovar_ops::linear::linear(encoder, &maker.matrix(&name(weight), n, x.len()), x, &y, Precision::Exact)?;
        Ok::<_, kovar::Error>(y)
    };
    let norm = |encoder: &mut CommandEncoder, weight: &str, x: &Buffer, label: &str| {
        let y = maker.float(label, x.shape());
        let width = x.shape()[x.shape().len() - 1];
        kovar_ops::norm::rms_norm(encoder, x, &maker.float(&name(weight), &[width]), &y, 1e-6)?;
        Ok::<_, kovar::Error>(y)
    };
    let normed = norm(encoder, "input_layernorm", stream, "normed")?;
    let q = linear(encoder, "q_proj", &normed, HEADS * HEAD, "queries")?.reshape(&[1, HEADS, HEAD])?;
    let k = linear(encoder, "k_proj", &normed, KV_HEADS * HEAD, "keys")?.reshape(&[1, KV_HEADS, HEAD])?;
    let v = linear(encoder, "v_proj", &normed, KV_HEADS * HEAD, "values")?.reshape(&[1, KV_HEADS, HEAD])?;
    let q = norm(encoder, "q_norm", &q, "queries, normed")?;
    let k = norm(encoder, "k_norm", &k, "keys, normed")?;
    let frequencies = maker.float("frequencies", &[HEAD / 2]);
    let (turned_q, turned_k) = (maker.float("queries, turned", q.shape()), maker.float("keys, turned", k.shape()));
    kovar_ops::rotary::rotary(encoder, &q, &frequencies, position, &turned_q)?;
    kovar_ops::rotary::rotary(encoder, &k, &frequencies, position, &turned_k)?;
    let cache = |what: &str| maker.float(&format!("{what} of layer {index}"), &[CONTEXT, KV_HEADS, HEAD]);
    let (keys, values) = (cache("keys"), cache("values"));
    kovar_ops::cache::write(encoder, &turned_k, position, &keys)?;
    kovar_ops::cache::write(encoder, &v, position, &values)?;
    let mixed = maker.float("mixed", &[1, HEADS, HEAD]);
    kovar_ops::attention::attention(encoder, &turned_q, &keys, &values, position, &mixed, 0.125)?;
    let block = linear(encoder, "o_proj", &mixed.reshape(&[1, HEADS * HEAD])?, HIDDEN, "block")?;
    let middle = maker.float("stream", &[1, HIDDEN]);
    kovar_ops::elementwise::add(encoder, stream, &block, &middle)?;
    let normed = norm(encoder, "post_attention_layernorm", &middle, "normed")?;
    let gate = linear(encoder, "gate_proj", &normed, INTERMEDIATE, "gate")?;
    let up = linear(encoder, "up_proj", &normed, INTERMEDIATE, "up")?;
    let activated = maker.float("activated", &[1, INTERMEDIATE]);
    kovar_ops::activation::silu_mul(encoder, &gate, &up, &activated)?;
    let block = linear(encoder, "down_proj", &activated, HIDDEN, "block")?;
    let after = maker.float("stream", &[1, HIDDEN]);
    kovar_ops::elementwise::add(encoder, &middle, &block, &after)?;
    Ok(after)
}

fn decode_step() -> Graph {
    let device = Device::open(&DeviceOptions::of(Backend::Null)).unwrap();
    let maker = Maker(device.clone());
    let buffer = |label: &str| device.buffer_in(MemoryKind::Shared, DType::U32, &[1], label).unwrap();
    let (tokens, position, largest) = (buffer("tokens"), buffer("position"), buffer("largest"));
    Graph::capture::<kovar::Error>(&device, "decode step of a Qwen3 model, 8 layers", |encoder| {
        let table = maker.matrix("embed_tokens", VOCAB, HIDDEN);
        let mut stream = maker.float("stream", &[1, HIDDEN]);
        kovar_ops::embedding::embed(encoder, &table, &tokens, &stream)?;
        for index in 0..LAYERS {
            stream = layer(&maker, index, encoder, &position, &stream)?;
        }
        let normed = maker.float("normed", &[1, HIDDEN]);
        kovar_ops::norm::rms_norm(encoder, &stream, &maker.float("norm", &[HIDDEN]), &normed, 1e-6)?;
        let logits = maker.float("logits", &[1, VOCAB]);
        kovar_ops::linear::linear(encoder, &table, &normed, &logits, Precision::Exact)?;
        kovar_ops::argmax::argmax(encoder, &logits, &largest)
    })
    .unwrap()
}

#[test]
fn a_decode_step_is_explained() {
    let mut graph = decode_step();
    graph.reorder(64);
    let explanation = graph.explain();
    assert!(graph.verify().is_proved() && explanation.missing.is_empty());
    assert_eq!(explanation.commands.len(), graph.len());
    // Nothing can run in fewer steps than the longest chain, and after reordering nothing needs more.
    assert_eq!(explanation.critical_path.len(), explanation.groups.len());
    let svg = explanation.to_svg();
    assert!(svg.contains("repeat 8 of 8"), "a row a layer");
    // To look at: target/tmp/decode.svg, .txt, .json, .dot.
    let folder = std::path::Path::new(env!("CARGO_TARGET_TMPDIR"));
    std::fs::write(folder.join("decode.svg"), svg).unwrap();
    std::fs::write(folder.join("decode.txt"), explanation.to_text()).unwrap();
    std::fs::write(folder.join("decode.json"), explanation.to_json()).unwrap();
    std::fs::write(folder.join("decode.dot"), explanation.to_dot()).unwrap();
}
