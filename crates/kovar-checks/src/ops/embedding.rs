//! Lookup of rows: the very values that MLX gives, and nothing outside the table.
use super::golden::Golden;
use super::harness::run;
use super::sample::{Random, Sample};
use kovar::{DType, Device};
use kovar_ops::{Matrix, embedding};

fn lookup(device: &Device, table: &Matrix, tokens: &[u32]) -> Vec<f32> {
    let (t, k) = (tokens.len(), table.k());
    let tokens = device.upload(tokens, &[t]).unwrap();
    let y = device.upload(&vec![f32::NAN; t * k], &[t, k]).unwrap();
    run(device, |enc| embedding::embed(enc, table, &tokens, &y));
    y.read().unwrap()
}

pub(super) fn agrees_with_mlx(device: &Device) {
    Golden::open("embedding").each(|case| {
        let tokens = case.tensor(device, "ids").read::<u32>().unwrap();
        let got = lookup(device, &case.matrix(device), &tokens);
        for (wanted, got) in case.f32("y").iter().zip(&got) {
            // A driver may fuse the product with the sum: one rounding less.
            assert!((wanted - got).abs() <= 3e-7 * wanted.abs().max(1.0), "{}: {got}, not {wanted}", case.info);
        }
    });
}

pub(super) fn a_token_outside_the_table_gives_the_last_row(device: &Device) {
    let random = &mut Random(1);
    for table in [
        Sample::dense(device, random, 5, 37, DType::BF16),
        Sample::affine(device, random, [5, 64], (4, 32), DType::F16),
    ] {
        let k = table.matrix.k();
        let got = lookup(device, &table.matrix, &[4, 5, u32::MAX, 0]);
        assert_eq!(got[..k], got[k..2 * k]);
        assert_eq!(got[..k], got[2 * k..3 * k]);
        assert!(got.iter().zip(&table.values[4 * k..]).all(|(got, wanted)| (f64::from(*got) - wanted).abs() < 1e-5));
    }
}

pub(super) fn many_tokens(device: &Device) {
    let table = Sample::affine(device, &mut Random(2), [11, 64], (8, 64), DType::F32);
    let tokens: Vec<u32> = (0..70_000).map(|i| i * 7 % 11).collect();
    let got = lookup(device, &table.matrix, &tokens);
    for (token, row) in tokens.iter().zip(got.chunks_exact(64)) {
        let wanted = &table.values[*token as usize * 64..][..64];
        assert!(row.iter().zip(wanted).all(|(got, wanted)| (f64::from(*got) - wanted).abs() < 1e-5));
    }
}
