//! Products with what surrounds them in one command: what does not fit, and what a fusion rule may do.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::{Command, KEPT, Op, World};
use kovar::{Backend, Buffer, CommandEncoder, DType, Device, Graph};
use kovar_checks::ops::harness::cpu;
use kovar_checks::ops::sample::{Random, Sample};
use kovar_ops::linear::{Normed, add_linear, gated_linear, linear, norm_linear};
use kovar_ops::{
    AffineMatrix, Matrix, Precision, activation, attention, cache, elementwise, fusion_rules, norm, rotary,
};

fn affine(device: &Device, random: &mut Random, shape: [usize; 2], form: (u32, u32), dtype: DType) -> AffineMatrix {
    match Sample::affine(device, random, shape, form, dtype).matrix {
        Matrix::Affine(w) => w,
        Matrix::Dense(_) => panic!("not quantised"),
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let device = cpu();
    let random = &mut Random(1);
    let four = affine(&device, random, [8, 64], (4, 64), DType::F32);
    let eight = affine(&device, random, [8, 64], (8, 64), DType::F32);
    let buffer = |shape: &[usize]| device.buffer(DType::F32, shape).unwrap();
    let (x, y, weight) = (buffer(&[1, 64]), buffer(&[1, 8]), buffer(&[64]));
    let norm = Normed { weight: &weight, eps: 0.0 };
    let mut enc = device.encoder().unwrap();
    let refused = |result: kovar::Result<()>| result.unwrap_err().to_string();
    let message = refused(gated_linear(&mut enc, norm, [&four, &eight], &x, &y));
    assert!(message.contains("not quantised alike"), "{message}");
    let message = refused(norm_linear(&mut enc, norm, &[&four, &four], &x, &[&y, &y]));
    assert_eq!(message, "fused linear: takes one matrix or three, not 2");
    let message = refused(norm_linear(&mut enc, Normed { weight: &y, eps: 0.0 }, &[&four], &x, &[&y]));
    assert!(message.contains("the norm's weight is [1, 8] f32, not [64]"), "{message}");
    let message = refused(add_linear(&mut enc, &four, &x, &x, &y));
    assert!(message.contains("other is [1, 64]"), "{message}");
}

/// What a rule may and may not do, as names of the commands that are left.
fn fused(bits: [u32; 3], normed_is_kept: bool) -> Vec<String> {
    let device = Device::open(&kovar::DeviceOptions::of(Backend::Null)).unwrap();
    let random = &mut Random(2);
    let w = bits.map(|bits| affine(&device, random, [64, 64], (bits, 64), DType::F32));
    let [x, out, kept] = [(); 3].map(|()| device.buffer(DType::F32, &[1, 64]).unwrap());
    let weight = device.buffer(DType::F32, &[64]).unwrap();
    let mut graph = Graph::capture(&device, "part of a layer", |enc| {
        let scratch = |enc: &CommandEncoder| enc.scratch(DType::F32, &[1, 64]);
        let (normed, g, u, a, d) = (scratch(enc)?, scratch(enc)?, scratch(enc)?, scratch(enc)?, scratch(enc)?);
        norm::rms_norm(enc, &x, &weight, &normed, 1e-5)?;
        linear(enc, &Matrix::Affine(w[0].clone()), &normed, &g, Precision::Fast)?;
        linear(enc, &Matrix::Affine(w[1].clone()), &normed, &u, Precision::Fast)?;
        activation::silu_mul(enc, &g, &u, &a)?;
        linear(enc, &Matrix::Affine(w[2].clone()), &a, &d, Precision::Fast)?;
        elementwise::add(enc, &x, &d, &out)?;
        if normed_is_kept { elementwise::add(enc, &normed, &x, &kept) } else { Ok(()) }
    })
    .unwrap();
    graph.fuse(fusion_rules()).unwrap();
    graph.commands().map(|(label, _)| label.to_string()).collect()
}

#[test]
fn rules_lose_nothing() {
    assert_eq!(fused([4, 4, 8], false), ["norm + gate and up + activation", "product + add"]);
    assert_eq!(
        fused([4, 8, 4], false),
        ["rms_norm", "affine_vec_fast", "affine_vec_fast", "silu_mul", "product + add"],
        "matrices stored differently"
    );
    let kept = fused([4, 4, 4], true);
    assert_eq!(kept[0], "rms_norm", "the norm is read elsewhere: {kept:?}");
}

/// A rule, commands that it takes together, and the buffers that are lost.
type Case = (&'static str, Vec<Command>, &'static [usize]);

/// The pattern of each rule at its simplest. Inputs and outputs are kept, everything between is scratch.
fn cases() -> Vec<Case> {
    let [s, t, u, v] = [0, 1, 2, 3].map(|at| KEPT + at);
    let command = |op, [a, b]: [usize; 2], y| Command { op, a, b, y, narrow: false, which: 0 };
    let one = |op, a, y| command(op, [a, a], y);
    vec![
        (
            "norm + gate and up + activation",
            vec![one(Op::Norm, 0, s), one(Op::Product, s, t), one(Op::Product, s, u), command(Op::Silu, [t, u], 1)],
            &[KEPT, KEPT + 1, KEPT + 2],
        ),
        (
            "norm + three products",
            vec![one(Op::Norm, 0, s), one(Op::Product, s, t), one(Op::Product, s, u), one(Op::Product, s, v)],
            &[KEPT],
        ),
        ("norm + product", vec![one(Op::Norm, 0, s), one(Op::Product, s, 1)], &[KEPT]),
        ("product + add", vec![one(Op::Product, 0, s), command(Op::Add, [1, s], 2)], &[KEPT]),
        (
            "head norm + rotary + cache write",
            vec![one(Op::HeadNorm, 0, s), one(Op::Rotary, s, t), one(Op::Write, t, 1)],
            &[KEPT, KEPT + 1],
        ),
        ("head norm + rotary", vec![one(Op::HeadNorm, 0, s), one(Op::Rotary, s, 1)], &[KEPT]),
        // The sum stays: it goes on to the next addition.
        ("add + norm", vec![command(Op::Add, [0, 1], s), one(Op::Norm, s, 2)], &[]),
    ]
}

/// How often a rule is applied to these commands.
fn applied(world: &World, rule: &str, commands: &[Command]) -> usize {
    let rule = fusion_rules().iter().find(|known| known.name == rule).unwrap();
    let mut graph = world.capture(commands);
    let [(_, times)] = graph.fuse(&[*rule]).unwrap()[..] else { panic!("one rule") };
    assert!(graph.verify().is_proved());
    assert_eq!(graph.len() + times * (rule.commands.len() - 1), commands.len());
    times
}

fn null_world() -> World {
    World::new(Device::open(&kovar::DeviceOptions::of(Backend::Null)).unwrap(), 1)
}

#[test]
fn each_rule_applies() {
    let names: Vec<_> = fusion_rules().iter().map(|rule| rule.name).collect();
    for (rule, commands, _) in cases() {
        assert!(names.contains(&rule));
        assert_eq!(applied(&null_world(), rule, &commands), 1, "{rule}");
    }
    // Those of attention have cases of their own, below.
    let others = names.iter().filter(|name| !name.contains("attention")).count();
    assert_eq!(cases().len(), others, "a case for each of {names:?}");
}

#[test]
fn what_another_command_touches_is_not_lost() {
    let world = null_world();
    for (rule, commands, lost) in cases() {
        for buffer in lost {
            let reader = Command { op: Op::Add, a: *buffer, b: 0, y: 3, narrow: false, which: 0 };
            // Writing a row of a cache leaves the others as they are.
            let writer = Command { op: Op::Write, a: 0, b: 0, y: *buffer, narrow: false, which: 0 };
            for at in 1..=commands.len() {
                for other in [reader, writer] {
                    let mut commands = commands.clone();
                    // Before it is written, too: it may be what an earlier submission left there.
                    commands.insert(at, other);
                    assert_eq!(applied(&world, rule, &commands), 0, "{rule}: {other:?} at {at}");
                }
            }
        }
        let other = Command { op: Op::Add, a: 0, b: 1, y: 3, narrow: false, which: 0 };
        assert_eq!(applied(&world, rule, &[&commands[..], &[other]].concat()), 1, "{rule}: it is no reader");
    }
}

/// The host can read it, and so can a later submission.
#[test]
fn what_the_caller_keeps_is_not_lost() {
    let world = null_world();
    for (rule, commands, lost) in cases() {
        for buffer in lost {
            let kept = |number: usize| if number == *buffer { 3 } else { number };
            let with = |c: &Command| Command { a: kept(c.a), b: kept(c.b), y: kept(c.y), ..*c };
            let commands: Vec<_> = commands.iter().map(with).collect();
            assert_eq!(applied(&world, rule, &commands), 0, "{rule}: buffer {buffer} is kept");
        }
    }
}

#[test]
fn the_same_bytes_in_other_rows_are_not_the_same() {
    let world = null_world();
    for (rule, commands, _) in cases() {
        // What works on single numbers, or on each head alone, does not care for rows.
        let cares = |c: &Command| !matches!(c.op, Op::Silu | Op::Add | Op::HeadNorm);
        let caring: Vec<_> = (0..commands.len()).filter(|at| cares(&commands[*at])).collect();
        for at in caring.iter().filter(|_| caring.len() > 1) {
            let mut commands = commands.clone();
            commands[*at].narrow = true;
            assert_eq!(applied(&world, rule, &commands), 0, "{rule}: command {at} sees two rows");
        }
    }
}

/// The attention of one row and its product: norms of heads or none, and whether somebody reads the turned queries. Graphs
/// as recorded and fused, with what they write.
fn attended(device: &Device, normed: bool, turned_is_kept: bool) -> ([Graph; 2], [Buffer; 3]) {
    attended_with(device, normed, turned_is_kept, [1, 4, 64], 123)
}

/// The same, with new values seen in some shape when they are written into their cache, at a position.
fn attended_with(
    device: &Device,
    normed: bool,
    turned_is_kept: bool,
    row: [usize; 3],
    position: u32,
) -> ([Graph; 2], [Buffer; 3]) {
    let random = &mut Random(3);
    let output = Matrix::Affine(affine(device, random, [64, 512], (4, 64), DType::F32));
    let mut float = |shape: &[usize]| device.upload(&random.normals(shape.iter().product()), shape).unwrap();
    let (q, k, v) = (float(&[1, 8, 64]), float(&[1, 4, 64]), float(&[1, 4, 64]));
    let (keys, values) = (float(&[300, 4, 64]), float(&[300, 4, 64]));
    let (weight, freqs, x, out, kept) =
        (float(&[64]), float(&[32]), float(&[1, 64]), float(&[1, 64]), float(&[1, 8, 64]));
    let position = device.upload(&[position], &[1]).unwrap();
    let capture = || {
        Graph::capture::<kovar::Error>(device, "attention of a layer", |enc| {
            let scratch = |enc: &CommandEncoder, shape: &[usize]| enc.scratch(DType::F32, shape);
            let (mut raw_q, mut raw_k) = (q.clone(), k.clone());
            if normed {
                (raw_q, raw_k) = (scratch(enc, q.shape())?, scratch(enc, k.shape())?);
                norm::rms_norm(enc, &q, &weight, &raw_q, 1e-5)?;
                norm::rms_norm(enc, &k, &weight, &raw_k, 1e-5)?;
            }
            let (turned_q, turned_k) = (scratch(enc, q.shape())?, scratch(enc, k.shape())?);
            rotary::rotary(enc, &raw_q, &freqs, &position, &turned_q)?;
            rotary::rotary(enc, &raw_k, &freqs, &position, &turned_k)?;
            cache::write(enc, &turned_k, &position, &keys)?;
            let seen = values.reshape(&[300 * row[0], row[1], row[2]])?;
            cache::write(enc, &v.reshape(&row)?, &position, &seen)?;
            let (parts, y) = (scratch(enc, &[1, 8, 3, 68])?, scratch(enc, &[1, 512])?);
            attention::attention_parts(enc, &turned_q, &keys, &values, &position, &parts, 0.125)?;
            attention::combine(enc, &parts, &y.reshape(&[1, 8, 64])?)?;
            let block = scratch(enc, &[1, 64])?;
            linear(enc, &output, &y, &block, Precision::Fast)?;
            elementwise::add(enc, &x, &block, &out)?;
            if turned_is_kept { elementwise::add(enc, &turned_q, &q, &kept) } else { Ok(()) }
        })
        .unwrap()
    };
    let mut fused = capture();
    fused.fuse(fusion_rules()).unwrap();
    assert!(fused.verify().is_proved());
    ([capture(), fused], [out, keys, values])
}

fn labels(graph: &Graph) -> Vec<String> {
    graph.commands().map(|(label, _)| label.to_string()).collect()
}

#[test]
fn attention_of_one_row_is_two_commands() {
    let device = Device::open(&kovar::DeviceOptions::of(Backend::Null)).unwrap();
    for normed in [true, false] {
        let ([_, fused], _) = attended(&device, normed, false);
        assert_eq!(labels(&fused), ["heads, cache and attention", "combined attention + product + add"]);
        let ([_, fused], _) = attended(&device, normed, true);
        let last = ["attention_parts", "combined attention + product + add", "add"];
        assert_eq!(labels(&fused)[labels(&fused).len() - 3..], last, "the queries are read elsewhere");
    }
}

#[test]
fn values_written_as_two_rows_are_not_one() {
    let device = Device::open(&kovar::DeviceOptions::of(Backend::Null)).unwrap();
    for normed in [true, false] {
        let ([_, fused], _) = attended_with(&device, normed, false, [2, 2, 64], 123);
        let labels = labels(&fused);
        assert!(labels.contains(&"attention_parts".into()) && labels.contains(&"write_cache".into()), "{labels:?}");
    }
}

#[test]
fn attention_computes_the_same_in_two_commands() {
    let device = cpu();
    // The new key alone; in a part that is not the last; after a block; in the last place; beyond it.
    for (normed, position) in [0, 3, 64, 123, 299, 300].into_iter().flat_map(|at| [(true, at), (false, at)]) {
        let [apart, together] = [0, 1].map(|which| {
            let (graphs, written) = attended_with(&device, normed, false, [1, 4, 64], position);
            let graph = graphs.into_iter().nth(which).unwrap();
            graph.compile(&kovar::ExecutableOptions::default()).unwrap().submit().unwrap().wait().unwrap();
            written.map(|buffer| buffer.read::<f32>().unwrap())
        });
        assert_eq!(apart, together, "norm {normed}, at {position}");
    }
}
