use kovar_hal::{Binding, Grid, MemoryKind, Timing};

use super::kernels::{AXPY, BYTE_DOTS, HALVES, IOTA, LOOK_UP, REDUCE, STEP, SUBGROUP_SUM, WIDE, WIDTH, WRITE_GRID};
use super::rig::{Rig, dispatch, dispatch_grid, read, whole};
use crate::note;

pub(super) fn grids_of_all_shapes(rig: &Rig) {
    let iota = rig.pipeline(&IOTA);
    for groups in [[1, 1, 1], [7, 1, 1], [1, 5, 1], [1, 1, 9], [3, 4, 5], [65, 3, 2]] {
        let threads = groups.iter().product::<u32>() * 16;
        let out = rig.zeros(threads as usize);
        rig.run(Timing::Off, |r| dispatch_grid(r, iota, &[whole(out)], &[100], Grid::Groups(groups)));
        assert_eq!(read(out), (100..100 + threads).collect::<Vec<_>>(), "{groups:?}");
    }
}

pub(super) fn an_empty_grid_does_nothing(rig: &Rig) {
    let step = rig.pipeline(&STEP);
    let x = rig.words(&[5]);
    rig.run(Timing::Off, |r| {
        dispatch_grid(r, step, &[whole(x)], &[1, 2, 3], Grid::Groups([0, 1, 1]));
        r.barrier();
        dispatch(r, step, &[x], &[1, 1, 1], 1);
    });
    assert_eq!(read(x), [6]);
}

pub(super) fn constants_and_bindings_belong_to_their_dispatch(rig: &Rig) {
    let (step, iota) = (rig.pipeline(&STEP), rig.pipeline(&IOTA));
    let buffers: Vec<_> = (0..8).map(|i| rig.words(&[i; 16])).collect();
    rig.run(Timing::Off, |r| {
        // The same pipeline with new constants, then new buffers, then both as before, another pipeline between.
        for (i, buffer) in buffers.iter().enumerate() {
            dispatch(r, step, &[*buffer], &[16, 10, i as u32], 1);
        }
        r.barrier();
        dispatch(r, iota, &[buffers[0]], &[1000], 1);
        r.barrier();
        dispatch(r, step, &[buffers[0]], &[1, 1, 7], 1);
        dispatch(r, step, &[buffers[7]], &[1, 1, 7], 1);
        r.barrier();
        dispatch(r, step, &[buffers[7]], &[1, 1, 7], 1);
    });
    assert_eq!(read(buffers[0])[..3], [1007, 1001, 1002]);
    for (i, buffer) in (0..).zip(&buffers).take(7).skip(1) {
        assert_eq!(read(*buffer), [i * 11; 16]);
    }
    assert_eq!(read(buffers[7])[..2], [77 + 14, 77]);
}

pub(super) fn bindings_at_offsets(rig: &Rig) {
    let axpy = rig.pipeline(&AXPY);
    let words = rig.device.info().limits.storage_alignment.max(64) / 4;
    let n = words as usize;
    let x = rig.words(&(0..4 * n).map(|i| (i as f32).to_bits()).collect::<Vec<_>>());
    let y = rig.zeros(4 * n);
    let at = |buffer, part: u64| Binding { buffer, offset: part * words * 4, len: words * 4 };
    rig.run(Timing::Off, |r| {
        let grid = Grid::Groups([words.div_ceil(64) as u32, 1, 1]);
        dispatch_grid(r, axpy, &[at(x, 3), at(y, 1)], &[words as u32, 2f32.to_bits()], grid);
    });
    let got = read(y);
    for (i, word) in got.iter().enumerate() {
        let expected = if i / n == 1 { 2.0 * (i + 2 * n) as f32 } else { 0.0 };
        assert_eq!(f32::from_bits(*word), expected, "element {i}");
    }
}

pub(super) fn uniform_blocks(rig: &Rig) {
    let look_up = rig.pipeline(&LOOK_UP);
    let step = rig.device.info().limits.uniform_alignment.max(16);
    let table = rig.zeros(step as usize / 2);
    // SAFETY: the second block lies within the table.
    unsafe { std::ptr::copy_nonoverlapping([9u32, 8, 7, 6].as_ptr(), table.host.add(step as usize).cast(), 4) };
    let out = rig.zeros(64);
    rig.run(Timing::Off, |r| {
        let block = Binding { buffer: table, offset: step, len: 16 };
        dispatch_grid(r, look_up, &[block, whole(out)], &[], Grid::Groups([1, 1, 1]));
    });
    assert_eq!(read(out)[..5], [9, 8, 7, 6, 9]);
}

pub(super) fn workgroup_memory(rig: &Rig) {
    let reduce = rig.pipeline(&REDUCE);
    let x = rig.words(&(0..64 * 50).collect::<Vec<_>>());
    let sums = rig.zeros(50);
    rig.run(Timing::Off, |r| dispatch(r, reduce, &[x, sums], &[], 50));
    assert_eq!(read(sums), (0..50).map(|g| 64 * 64 * g + 63 * 32).collect::<Vec<u32>>());
}

pub(super) fn grids_from_a_buffer(rig: &Rig) {
    let (write_grid, step) = (rig.pipeline(&WRITE_GRID), rig.pipeline(&STEP));
    let align = rig.device.info().limits.storage_alignment.max(16);
    let grid = rig.buffer_of(align + 12, MemoryKind::Device);
    let x = rig.zeros(64 * 10);
    for groups in [10, 3, 0] {
        rig.run(Timing::Off, |r| {
            let there = Binding { buffer: grid, offset: align, len: 12 };
            dispatch_grid(r, write_grid, &[there], &[groups], Grid::Groups([1, 1, 1]));
            r.barrier();
            let indirect = Grid::Indirect { buffer: grid, offset: align };
            dispatch_grid(r, step, &[whole(x)], &[640, 1, 1], indirect);
        });
    }
    let got = read(x);
    assert!(got[..192].iter().all(|word| *word == 2) && got[192..].iter().all(|word| *word == 1));
}

pub(super) fn subgroup_widths_can_be_required(rig: &Rig) {
    let info = rig.device.info();
    if !info.subgroup.selectable || !info.features.subgroups {
        note("dispatch::subgroup_widths_can_be_required", &format!("the subgroup width of {} is fixed", info.name));
        return;
    }
    let mut size = info.subgroup.min;
    while size <= info.subgroup.max {
        let width = rig.try_pipeline(&WIDTH, Some(size)).unwrap();
        let out = rig.zeros(1);
        rig.run(Timing::Off, |r| dispatch(r, width, &[out], &[], 1));
        assert_eq!(read(out), [size]);
        size *= 2;
    }
    assert!(rig.try_pipeline(&WIDTH, Some(info.subgroup.max * 2)).is_err());
}

/// What the device says that it can do, it does; validation says whether the backend turned it on.
pub(super) fn features_work(rig: &Rig) {
    let features = &rig.device.info().features;
    let words: Vec<u32> = (0..64).map(|i| 0x0102_fe00 + i * 0x0400_0001).collect();
    let x = rig.words(&words);
    let run = |kernel, x, length| {
        let (pipeline, y) = (rig.pipeline(kernel), rig.zeros(length));
        rig.run(Timing::Off, |r| dispatch(r, pipeline, &[x, y], &[], 1));
        read(y)
    };
    if features.f16 {
        assert_eq!(run(&HALVES, rig.words(&[0x3c00_3c00; 32]), 32), [0x4200_4200; 32]);
    }
    if features.subgroups {
        assert_eq!(run(&SUBGROUP_SUM, x, 1), [words.iter().fold(0, |a: u32, b| a.wrapping_add(*b))]);
    }
    // Not every device is fast at these; all that are in use can do them.
    let dot =
        |word: &u32| (1i32..).zip(word.to_le_bytes()).map(|(f, byte)| f * i32::from(byte as i8)).sum::<i32>() as u32;
    assert_eq!(run(&BYTE_DOTS, x, 64), words.iter().map(dot).collect::<Vec<_>>());
    let high = |word: &u32| ((u64::from(*word) * u64::from(*word)) >> 32) as u32;
    assert_eq!(run(&WIDE, x, 64), words.iter().map(high).collect::<Vec<_>>());
}
