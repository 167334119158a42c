//! The verifier against brute force on random recordings: what a missing barrier is called, and which are one too many.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;
#[path = "common/mutation.rs"]
mod mutation;

use common::{AXPY, AxpyParams, cpu, null};
use kovar::hazard::Step;
use kovar::{Barriers, Buffer, CommandEncoder, DType, Device, Dispatch, EncoderOptions, ExecutableOptions, Graph};
use mutation::{leave_out_each, serial, unordered};
use proptest::collection::vec;
use proptest::prelude::*;

const N: usize = 256;

/// From buffer to buffer, which half or the whole, and whether it is a dispatch, a copy or a fill.
type Op = (usize, usize, usize, u8);

fn ops(most: usize) -> impl Strategy<Value = Vec<Op>> {
    vec((0usize..5, 1usize..5, 0usize..3, 0u8..6), 1..most)
}

fn record(encoder: &mut CommandEncoder, buffers: &[Buffer], ops: &[Op]) -> kovar::Result<()> {
    let kernel = encoder.device().kernel(&AXPY, &[])?;
    for (from, step, part, what) in ops {
        let range = [0..N / 2, N / 2..N, 0..N][*part].clone();
        let (count, from) = (buffers.len(), from % buffers.len());
        let x = buffers[from].view(range.clone())?;
        let y = buffers[(from + 1 + step % (count - 1)) % count].view(range)?;
        let n = x.len() as u32;
        match what {
            0 => encoder.copy(&x, &y)?,
            1 => encoder.fill(&y, 0)?,
            _ => {
                let params = AxpyParams { n, a: 1.0 };
                let dispatch = Dispatch::new(&kernel).bind(0, &x).bind(1, &y).constants(&params);
                encoder.dispatch(dispatch.threads([n, 1, 1]))?;
            }
        }
    }
    Ok(())
}

fn buffers(device: &Device) -> Vec<Buffer> {
    (0..5).map(|_| device.buffer(DType::F32, &[N]).unwrap()).collect()
}

fn count(steps: &[Step]) -> usize {
    steps.iter().filter(|step| step.ordered).count()
}

/// The fewest barriers that order every conflict, of all ways to place them.
fn fewest(steps: &[Step]) -> Option<u32> {
    let gaps = steps.len() - 1;
    let mut tried = steps.to_vec();
    let mut is_enough = |set: &u32| {
        tried.iter_mut().enumerate().for_each(|(at, step)| step.ordered = at > 0 && set >> (at - 1) & 1 == 1);
        unordered(&tried).is_empty()
    };
    (0u32..1 << gaps).filter(|set| is_enough(set)).map(u32::count_ones).min()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    /// Captured, live and serial.
    #[test]
    fn each_barrier_in_turn(ops in ops(30)) {
        let device = null();
        let buffers = buffers(&device);
        let graph = Graph::capture(&device, "random", |e| record(e, &buffers, &ops)).unwrap();
        let captured = graph.steps();
        let of_graph = leave_out_each(&captured, |r| graph.buffer_name(r));
        prop_assert_eq!((of_graph.needed, of_graph.redundant), (count(&captured), 0));

        for barriers in [Barriers::Auto, Barriers::Serial] {
            let options = EncoderOptions { barriers, trace: true, ..EncoderOptions::default() };
            let mut encoder = device.encoder_with(options).unwrap();
            record(&mut encoder, &buffers, &ops).unwrap();
            let trace = encoder.commit().unwrap().wait().unwrap().trace.unwrap();
            let live = leave_out_each(trace.steps(), |r| trace.buffer_name(r));
            match barriers {
                Barriers::Serial => prop_assert_eq!(live.needed + live.redundant, ops.len() - 1),
                _ => prop_assert_eq!(live, of_graph),
            }
        }
        leave_out_each(&serial(&captured), |r| graph.buffer_name(r));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn no_other_placement_has_fewer_barriers(ops in ops(9)) {
        let device = null();
        let buffers = buffers(&device);
        let options = EncoderOptions { trace: true, ..EncoderOptions::default() };
        let mut encoder = device.encoder_with(options).unwrap();
        record(&mut encoder, &buffers, &ops).unwrap();
        let trace = encoder.commit().unwrap().wait().unwrap().trace.unwrap();
        prop_assert_eq!(Some(count(trace.steps()) as u32), fewest(trace.steps()));
    }

    /// Also where a submission repeats the commands, so that the end of one pass may run beside the start of the next.
    /// Narrow: the scratch buffers follow each other. Wide: all of them live from start to end.
    #[test]
    fn shared_scratch_costs_no_group_and_changes_no_result(
        ops in ops(24), width in 1usize..8, repeat in 1u32..4, look_ahead in 0usize..12,
    ) {
        let device = cpu();
        let run = |share_memory| {
            let real: Vec<Buffer> = (0..2)
                .map(|i| device.upload(&(0..N).map(|j| ((i + j) % 13) as f32).collect::<Vec<_>>(), &[N]).unwrap())
                .collect();
            let mut graph = Graph::capture::<kovar::Error>(&device, "scratch", |encoder| {
                let scratch: Vec<Buffer> =
                    (0..8).map(|_| encoder.scratch(DType::F32, &[N])).collect::<kovar::Result<_>>()?;
                let mut is_filled = [false; 8];
                for (at, op) in ops.iter().enumerate() {
                    let (from, step, part, what) = op;
                    let first = at * scratch.len() / ops.len();
                    let near = [*from, from + step].map(|n| (first + n % width) % scratch.len());
                    // Written before it is read.
                    for place in near {
                        if !std::mem::replace(&mut is_filled[place], true) {
                            encoder.fill(&scratch[place], 0x3f80_0000)?;
                        }
                    }
                    // Sums go from one to the other; of a single one to a buffer that stays, and seldom back.
                    let (x, y) = (&scratch[near[0]], &scratch[near[1]]);
                    let y = if near[0] == near[1] { &real[at % 2] } else { y };
                    record(encoder, &[x.clone(), y.clone()], &[(usize::from(*part == 0 && *what == 5), 1, *part, *what)])?;
                }
                Ok(())
            })
            .unwrap();
            graph.reorder(look_ahead);
            let options = ExecutableOptions { share_memory, repeat, ..ExecutableOptions::default() };
            let mut executable = graph.compile(&options).unwrap();
            let barriers = executable.stats().barriers_placed;
            let trace = executable.trace().unwrap();
            assert!(trace.verify().is_proved());
            executable.submit().unwrap().wait().unwrap();
            let bits: Vec<u32> = real.iter().flat_map(|b| b.read::<f32>().unwrap()).map(f32::to_bits).collect();
            (barriers, bits)
        };
        prop_assert_eq!(run(true), run(false));
    }

    /// Whatever else moves, each other command stays on its side of one whose access is unknown.
    #[test]
    fn nothing_passes_an_unknown_access(
        ops in vec((0usize..5, 1usize..5, any::<bool>()), 1..30), look_ahead in 0usize..20,
    ) {
        let device = null();
        let kernel = device.kernel(&AXPY, &[]).unwrap();
        let buffers = buffers(&device);
        let mut graph = Graph::capture::<kovar::Error>(&device, "opaque", |encoder| {
            for (at, (from, step, is_opaque)) in ops.iter().enumerate() {
                let (label, params) = (at.to_string(), AxpyParams { n: N as u32, a: 1.0 });
                let (x, y) = (&buffers[*from], &buffers[(from + step) % 5]);
                let dispatch = Dispatch::new(&kernel).bind(0, x).bind(1, y).constants(&params).groups([4, 1, 1]);
                let dispatch = dispatch.label(&label);
                encoder.dispatch(if *is_opaque && at % 3 == 0 { dispatch.opaque() } else { dispatch })?;
            }
            Ok(())
        })
        .unwrap();
        graph.reorder(look_ahead);
        let order: Vec<usize> = graph.commands().map(|(label, _)| label.parse().unwrap()).collect();
        prop_assert_eq!(order.len(), ops.len());
        for (place, at) in order.iter().enumerate().filter(|(_, at)| ops[**at].2 && **at % 3 == 0) {
            prop_assert_eq!(place, *at);
            prop_assert!(order[..place].iter().all(|before| before < at), "{:?}", order);
        }
    }
}
