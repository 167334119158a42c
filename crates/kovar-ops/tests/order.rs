//! The same bytes, however many threads there are and in whatever order they take the tasks.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use kovar::{Backend, Buffer, CpuChecks, CpuSchedule, DType, Device, DeviceOptions};
use kovar_checks::ops::harness::{product, run};
use kovar_checks::ops::sample::{Random, Sample};
use kovar_ops::attention::{HeadNorms, NewRow};
use kovar_ops::linear::{Normed, add_linear, attended_linear, gated_linear, norm_linear};
use kovar_ops::norm_rotary::{HeadTurn, norm_rotary};
use kovar_ops::{
    AffineMatrix, Matrix, Precision, activation, add_norm, all_kernels, argmax, attention, cache, cast, elementwise,
    embedding, linear, norm, peak, random, rotary, step,
};

/// CPU devices with different numbers of threads and orders of execution; two of them look for races.
fn orders() -> Vec<Device> {
    let threads = [1, 2, 3, 7].map(|n| DeviceOptions { threads: Some(n), ..DeviceOptions::of(Backend::Cpu) });
    let seeds = [1, 2, 3].map(|seed| DeviceOptions {
        schedule: CpuSchedule::Shuffled(seed),
        threads: Some(4),
        ..DeviceOptions::of(Backend::Cpu)
    });
    let watched = [CpuSchedule::Parallel, CpuSchedule::Shuffled(4)].map(|schedule| DeviceOptions {
        checks: CpuChecks { races: true },
        schedule,
        threads: Some(4),
        ..DeviceOptions::of(Backend::Cpu)
    });
    threads.iter().chain(&seeds).chain(&watched).map(|options| Device::open(options).unwrap()).collect()
}

struct Inputs<'a> {
    device: &'a Device,
    random: Random,
}

impl Inputs<'_> {
    fn floats(&mut self, shape: &[usize]) -> Buffer {
        let n = shape.iter().product();
        self.device.upload(&self.random.normals(n), shape).unwrap()
    }

    fn zeros(&self, dtype: DType, shape: &[usize]) -> Buffer {
        self.device.buffer(dtype, shape).unwrap()
    }
}

fn bytes(buffer: &Buffer) -> Vec<u8> {
    let n = buffer.byte_len() as usize;
    buffer.reinterpret(DType::U8, &[n]).unwrap().read::<u8>().unwrap()
}

type Results = Vec<(&'static str, Vec<u8>)>;

/// Calls of every op on inputs large enough for many tasks.
fn results(device: &Device, rows: usize) -> Results {
    let mut inputs = Inputs { device, random: Random(99) };
    let mut results = Vec::new();
    rows_alone(&mut inputs, rows, &mut results);
    heads(&mut inputs, rows, &mut results);
    products(&mut inputs, rows, &mut results);
    results
}

/// Ops that take each row on its own.
fn rows_alone(inputs: &mut Inputs<'_>, rows: usize, results: &mut Results) {
    let device = inputs.device;
    let (a, b) = (inputs.floats(&[rows * 1000]), inputs.floats(&[rows * 1000]));
    let y = inputs.zeros(DType::F32, &[rows * 1000]);
    run(device, |enc| elementwise::add(enc, &a, &b, &y));
    results.push(("add", bytes(&y)));
    run(device, |enc| activation::silu_mul(enc, &a, &b, &y));
    results.push(("silu_mul", bytes(&y)));
    for dtype in [DType::F16, DType::BF16] {
        let narrow = inputs.zeros(dtype, a.shape());
        run(device, |enc| {
            cast::cast(enc, &a, &narrow)?;
            cast::cast(enc, &narrow, &y)
        });
        results.push(("cast", bytes(&narrow)));
        results.push(("cast", bytes(&y)));
    }
    let weight = inputs.floats(&[125]);
    run(device, |enc| norm::rms_norm(enc, &a, &weight, &y, 1e-6));
    results.push(("rms_norm", bytes(&y)));
    let places = inputs.zeros(DType::U32, &[rows]);
    run(device, |enc| argmax::argmax(enc, &a.reshape(&[rows, 1000])?, &places));
    results.push(("argmax", bytes(&places)));
    let sum = inputs.zeros(DType::F32, a.shape());
    run(device, |enc| add_norm::add_norm(enc, [&a, &b], &weight, &sum, &y, 1e-6));
    results.push(("add_norm, sum", bytes(&sum)));
    results.push(("add_norm", bytes(&y)));

    let [chosen, token, position] = [5u32, 6, 7].map(|n| device.upload(&[n], &[1]).unwrap());
    let history = inputs.zeros(DType::U32, &[16]);
    run(device, |enc| step::advance(enc, &chosen, &token, &position, &history));
    results.push(("advance, token", bytes(&token)));
    results.push(("advance, position", bytes(&position)));
    results.push(("advance, history", bytes(&history)));

    let (threads, words) = (inputs.zeros(DType::F32, &[512]), inputs.zeros(DType::U32, &[512]));
    run(device, |enc| peak::read(enc, &a, &threads));
    results.push(("peak::read", bytes(&threads)));
    run(device, |enc| {
        peak::fma(enc, &threads, 3)?;
        peak::dot(enc, &words, 3)
    });
    results.push(("peak::fma", bytes(&threads)));
    results.push(("peak::dot", bytes(&words)));

    run(device, |enc| {
        random::bits(enc, &places, 3)?;
        random::floats(enc, &y, 1.0, 4)
    });
    results.push(("random::bits", bytes(&places)));
    results.push(("random::floats", bytes(&y)));
}

/// Ops on heads, and the cache.
fn heads(inputs: &mut Inputs<'_>, rows: usize, results: &mut Results) {
    let device = inputs.device;
    let position = device.upload(&[37u32], &[1]).unwrap();
    let (q, freqs) = (inputs.floats(&[rows, 10, 100]), inputs.floats(&[50]));
    let turned = inputs.zeros(DType::F32, q.shape());
    run(device, |enc| rotary::rotary(enc, &q, &freqs, &position, &turned));
    results.push(("rotary", bytes(&turned)));
    let (keys, values) = (inputs.floats(&[90, 2, 100]), inputs.floats(&[90, 2, 100]));
    let new = inputs.floats(&[rows, 2, 100]);
    run(device, |enc| {
        cache::write(enc, &new, &position, &keys)?;
        attention::attention(enc, &q, &keys, &values, &position, &turned, 0.1)
    });
    results.push(("cache::write", bytes(&keys)));
    results.push(("attention", bytes(&turned)));
    let weight = inputs.floats(&[100]);
    let turn = HeadTurn { weight: &weight, eps: 1e-6, freqs: &freqs, position: &position };
    run(device, |enc| {
        norm_rotary(enc, &q, &turn, &turned, false)?;
        norm_rotary(enc, &new, &turn, &keys, true)
    });
    results.push(("norm_rotary", bytes(&turned)));
    results.push(("norm_rotary, cache", bytes(&keys)));
    one_row_in_parts(inputs, &position, results);
}

/// Attention of one row, in parts: with and without the turn of its heads.
fn one_row_in_parts(inputs: &mut Inputs<'_>, position: &Buffer, results: &mut Results) {
    let device = inputs.device;
    let (q, keys, values) = (inputs.floats(&[1, 4, 32]), inputs.floats(&[60, 2, 32]), inputs.floats(&[60, 2, 32]));
    let (new_keys, new_values) = (inputs.floats(&[1, 2, 32]), inputs.floats(&[1, 2, 32]));
    let (freqs, weight) = (inputs.floats(&[16]), inputs.floats(&[32]));
    let (parts, y) = (inputs.zeros(DType::F32, &[1, 4, 3, 36]), inputs.zeros(DType::F32, q.shape()));
    let norms = Some(HeadNorms { queries: &weight, keys: &weight, eps: 1e-6 });
    let row = NewRow { queries: &q, keys: &new_keys, values: &new_values, norms, freqs: &freqs };
    run(device, |enc| attention::turned_parts(enc, &row, [&keys, &values], position, &parts, 0.1));
    results.push(("turned_parts", bytes(&parts)));
    results.push(("turned_parts, keys", bytes(&keys)));
    results.push(("turned_parts, values", bytes(&values)));
    run(device, |enc| {
        attention::attention_parts(enc, &q, &keys, &values, position, &parts, 0.1)?;
        attention::combine(enc, &parts, &y)
    });
    results.push(("attention_parts", bytes(&parts)));
    results.push(("combine", bytes(&y)));
}

/// Products with matrices, and their rows: exact and fast, one row of x and all.
fn products(inputs: &mut Inputs<'_>, rows: usize, results: &mut Results) {
    let device = inputs.device;
    let (n, k) = (200, 256);
    let mut samples = vec![Sample::dense(device, &mut inputs.random, n, k, DType::BF16)];
    for bits in [4, 8] {
        samples.push(Sample::affine(device, &mut inputs.random, [n, k], (bits, 64), DType::F16));
    }
    for Sample { matrix, .. } in &samples {
        if let Matrix::Affine(w) = matrix {
            fused_products(inputs, w, [n, k], results);
        }
        for m in [1, rows.max(2)] {
            let (x, y) = (inputs.floats(&[m, k]), inputs.zeros(DType::F32, &[m, n]));
            for precision in [Precision::Exact, Precision::Fast] {
                run(device, |enc| linear::linear(enc, matrix, &x, &y, precision));
                results.push(("linear", bytes(&y)));
            }
            let tokens: Vec<u32> = (0..m as u32).map(|i| i * 7 % n as u32).collect();
            let tokens = device.upload(&tokens, &[m]).unwrap();
            run(device, |enc| embedding::embed(enc, matrix, &tokens, &x));
            results.push(("embed", bytes(&x)));
        }
    }
}

/// Products of few rows with what stands around them.
fn fused_products(inputs: &mut Inputs<'_>, w: &AffineMatrix, [n, k]: [usize; 2], results: &mut Results) {
    let device = inputs.device;
    let (x, other, weight) = (inputs.floats(&[3, k]), inputs.floats(&[3, n]), inputs.floats(&[k]));
    let parts = inputs.floats(&[3, k / 64, 2, 68]);
    let ys = [(); 7].map(|()| inputs.zeros(DType::F32, &[3, n]));
    let norm = Normed { weight: &weight, eps: 1e-6 };
    run(device, |enc| {
        add_linear(enc, w, &x, &other, &ys[0])?;
        attended_linear(enc, w, &parts, &other, &ys[6])?;
        gated_linear(enc, norm, [w, w], &x, &ys[1])?;
        norm_linear(enc, norm, &[w], &x, &[&ys[2]])?;
        norm_linear(enc, norm, &[w, w, w], &x, &[&ys[3], &ys[4], &ys[5]])
    });
    results.extend(ys.iter().map(|y| ("a fused product", bytes(y))));
}

/// An op that is new cannot escape: it has WGSL, which must be that of a listed kernel, and a listed kernel must run above.
/// Whole prompts may use other kernels than few rows.
#[test]
fn every_kernel_of_the_library_is_among_them() {
    let device = &orders()[0];
    for rows in [1, 5, 50] {
        results(device, rows);
    }
    let used = device.kernel_stats().into_iter().filter(|kernel| kernel.dispatches > 0);
    let ran: BTreeSet<String> = used.map(|kernel| kernel.name).collect();
    let kernels = all_kernels();
    // Those without a form for the CPU are for GPUs alone.
    let on_cpu = kernels.iter().filter(|form| device.kernel(form.source, &form.constants).is_ok());
    let listed: BTreeSet<String> = on_cpu.map(|form| form.source.name().to_string()).collect();
    assert_eq!(ran, listed);

    let files = wgsl_in(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"));
    assert!(files.len() > 10, "{files:?}");
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        let is_listed = kernels.iter().any(|form| form.source.source().contains(&text));
        assert!(is_listed, "{} is in no kernel of all_kernels()", file.display());
    }
}

/// The WGSL files of a folder and those below.
fn wgsl_in(folder: &Path) -> Vec<PathBuf> {
    let paths = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let (folders, files): (Vec<_>, Vec<_>) = paths.partition(|path| path.is_dir());
    let mut found: Vec<_> = folders.iter().flat_map(|folder| wgsl_in(folder)).collect();
    found.extend(files.into_iter().filter(|file| file.extension().is_some_and(|extension| extension == "wgsl")));
    found
}

#[test]
fn same_bytes_in_a_hundred_orders() {
    kovar::check::in_every_order(0..100, |device| {
        Ok::<_, kovar::Error>(results(device, 5).into_iter().flat_map(|(_, bytes)| bytes).collect())
    })
    .unwrap();
}

/// And with any number of threads, and under the race detector, which fails the submission if it finds one.
#[test]
fn same_bytes_on_every_crew() {
    for rows in [1, 5, 50] {
        let devices = orders();
        let first = results(&devices[0], rows);
        for device in &devices[1..] {
            for ((op, wanted), (_, actual)) in first.iter().zip(results(device, rows)) {
                assert!(*wanted == actual, "{op} with {rows} rows");
            }
        }
    }
}

/// Of matrices of all types and sizes of codes, with rows that end within a vector.
#[test]
fn the_same_products_on_every_crew() {
    let run = |device: &Device| {
        let random = &mut Random(3);
        let mut all = Vec::new();
        for m in [1, 3, 40] {
            for dtype in [DType::F32, DType::F16, DType::BF16] {
                for bits in [4, 8] {
                    let sample = Sample::affine(device, random, [301, 704], (bits, 64), dtype);
                    let x = random.normals(m * 704);
                    all.push(product(device, &sample.matrix, &x, Precision::Exact));
                    all.push(product(device, &sample.matrix, &x, Precision::Fast));
                }
                let sample = Sample::dense(device, random, 301, 705, dtype);
                all.push(product(device, &sample.matrix, &random.normals(m * 705), Precision::Exact));
            }
        }
        all
    };
    let devices = orders();
    let wanted = run(&devices[0]);
    for device in &devices[1..] {
        assert!(run(device) == wanted, "{device:?}");
    }
}
