//! The same bytes, however many threads there are and in whatever order they take the tasks.

use kovar::{Buffer, DType, Device};
use kovar_ops::{activation, argmax, attention, cache, cast, elementwise, norm, rotary};

use crate::harness::{orders, run};
use crate::matrices::Random;

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

/// One call of each op on inputs large enough for many tasks.
fn results(device: &Device, rows: usize) -> Vec<(&'static str, Vec<u8>)> {
    let mut inputs = Inputs { device, random: Random(99) };
    let mut results = Vec::new();
    let position = device.upload(&[37u32], &[1]).unwrap();

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
    results
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
