//! Checks of a program that need no GPU.
//!
//! A recording is right when its result does not depend on the order in which the device runs what it may run at the same
//! time. [`in_every_order`] tries many orders; a device opened with [`CpuChecks::races`](crate::CpuChecks) looks at the
//! bytes that are touched, and finds a missing order in one run.

use std::ops::Range;

use crate::{Backend, CpuSchedule, Device, DeviceOptions, Error};

/// Why a program is not the same in every order.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OrderError<E> {
    /// The program itself failed.
    #[error("with seed {seed:?}: {source}")]
    Program {
        /// The seed of the order, `None` for the order of recording.
        seed: Option<u64>,
        /// What it said.
        #[source]
        source: E,
    },
    /// Its result depends on the order of execution.
    #[error("with seed {seed}, byte {byte} of {bytes} differs from the result in the order of recording ({expected})")]
    Differs {
        /// The seed of the order: `CpuSchedule::Shuffled(seed)` shows it again.
        seed: u64,
        /// The first byte that differs, or the length of the shorter result.
        byte: usize,
        /// Bytes of this result.
        bytes: usize,
        /// Bytes of the expected one.
        expected: usize,
    },
}

/// Runs a program on one CPU device a seed, each of which runs the dispatches of a group, and the tasks of a dispatch, in
/// an order of its own, and compares the bytes that it returns with those of the order of recording, which come back.
///
/// ```
/// # use kovar::{DType, Error, check};
/// let bytes = check::in_every_order(0..100, |device| {
///     let x = device.buffer(DType::U8, &[4])?;
///     let mut encoder = device.encoder()?;
///     encoder.fill(&x, 0x0101_0101)?;
///     encoder.commit()?.wait()?;
///     x.read::<u8>()
/// })
/// .unwrap();
/// assert_eq!(bytes, [1; 4]);
/// ```
///
/// # Errors
/// [`OrderError`] with the seed: that of the program, or the first byte that differs.
pub fn in_every_order<E: From<Error>>(
    seeds: Range<u64>,
    program: impl Fn(&Device) -> Result<Vec<u8>, E>,
) -> Result<Vec<u8>, OrderError<E>> {
    let run = |seed: Option<u64>| {
        let threads = if seed.is_none() { Some(1) } else { None };
        let schedule = seed.map_or(CpuSchedule::Parallel, CpuSchedule::Shuffled);
        let options = DeviceOptions { threads, schedule, ..DeviceOptions::of(Backend::Cpu) };
        let bytes = Device::open(&options).map_err(E::from).and_then(|device| program(&device));
        bytes.map_err(|source| OrderError::Program { seed, source })
    };
    let expected = run(None)?;
    for seed in seeds {
        let bytes = run(Some(seed))?;
        if bytes != expected {
            let differs = expected.iter().zip(&bytes).position(|(a, b)| a != b);
            let byte = differs.unwrap_or(expected.len().min(bytes.len()));
            return Err(OrderError::Differs { seed, byte, bytes: bytes.len(), expected: expected.len() });
        }
    }
    Ok(expected)
}
