//! Memory in programs so small that Miri runs them: buffers, views, maps, the staging ring, pool, arenas, imports and
//! residency on the CPU and null devices. No kernel is translated and no foreign code called.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::sync::Arc;

use kovar::{
    Backend, Buffer, CpuPaging, CpuSchedule, DType, Device, DeviceOptions, ExecutableOptions, Graph, MemoryKind,
};

/// The CPU device with its own schedule and a shuffled one, and the null device; each as it is and as a discrete one.
fn each(check: impl Fn(&Device, bool)) {
    for discrete in [false, true] {
        for schedule in [CpuSchedule::Parallel, CpuSchedule::Shuffled(1)] {
            let options = DeviceOptions { threads: Some(2), schedule, discrete, ..DeviceOptions::of(Backend::Cpu) };
            check(&Device::open(&options).unwrap(), true);
        }
        check(&Device::open(&DeviceOptions { discrete, ..DeviceOptions::of(Backend::Null) }).unwrap(), false);
    }
}

fn words(device: &Device, kind: MemoryKind, len: usize) -> Buffer {
    device.buffer_in(kind, DType::U32, &[len], "words").unwrap()
}

#[test]
fn what_is_written_is_read_in_every_kind_of_memory() {
    each(|device, runs| {
        for kind in [MemoryKind::Shared, MemoryKind::Device, MemoryKind::Readback] {
            let buffer = words(device, kind, 100);
            let data: Vec<u32> = (0..100).collect();
            buffer.write(&data).unwrap();
            buffer.view(10..20).unwrap().write(&[7u32; 10]).unwrap();
            let read = buffer.view(5..25).unwrap().read::<u32>().unwrap();
            // The null device copies nothing out of memory that the host does not see.
            if runs {
                assert_eq!((&read[..5], &read[5..15], &read[15..]), (&data[5..10], &[7; 10][..], &data[20..25]));
            }
            let bytes = device.buffer_in(kind, DType::U8, &[7], "bytes").unwrap();
            bytes.write(&[1u8, 2, 3, 4, 5, 6, 7]).unwrap();
            assert!(!runs || bytes.view(3..6).unwrap().read::<u8>().unwrap() == [4, 5, 6]);
        }
    });
}

#[test]
fn commands_move_what_they_say_and_maps_show_it() {
    each(|device, runs| {
        let (x, y) = (words(device, MemoryKind::Shared, 64), words(device, MemoryKind::Device, 64));
        x.map_mut::<u32>().unwrap().iter_mut().zip(0..).for_each(|(word, i)| *word = i);
        let mut encoder = device.encoder().unwrap();
        encoder.copy(&x.view(0..32).unwrap(), &y.view(32..64).unwrap()).unwrap();
        encoder.fill(&y.view(0..32).unwrap(), 9).unwrap();
        encoder.copy(&y, &x).unwrap();
        encoder.commit().unwrap().wait().unwrap();
        let (shown, other) = (x.map::<u32>().unwrap(), x.map::<u32>().unwrap());
        assert_eq!(*shown, *other);
        if runs {
            assert_eq!((shown[0], shown[31], shown[32], shown[63]), (9, 9, 0, 31));
        }
        drop((shown, other));
        let mut replay =
            Graph::capture(device, "step", |encoder| encoder.copy(&x.view(32..64).unwrap(), &x.view(0..32).unwrap()))
                .unwrap()
                .compile(&ExecutableOptions::default())
                .unwrap();
        for _ in 0..2 {
            replay.submit().unwrap().wait().unwrap();
        }
        let part = x.view(0..2).unwrap();
        assert!(!runs || *part.map::<u32>().unwrap() == [0, 1]);
    });
}

#[test]
fn memory_goes_where_it_came_from() {
    each(|device, runs| {
        let owner = Arc::new(vec![5u8; 64]);
        let (imported, _) = device.import(owner.clone(), DType::U8, &[64], "imported").unwrap();
        assert!(!runs || imported.read::<u8>().unwrap() == *owner);
        for round in 0..3 {
            let mut arena = device.arena();
            let [a, b] = [(); 2].map(|()| arena.buffer(DType::U32, &[100]).unwrap());
            let single = device.scratch(DType::U32, &[70]).unwrap();
            let mut encoder = device.encoder().unwrap();
            encoder.fill(&a, round).unwrap();
            encoder.fill(&single, round).unwrap();
            encoder.copy(&a, &b).unwrap();
            let submission = encoder.commit().unwrap();
            drop((a, b, single));
            arena.end([submission]).unwrap();
        }
        device.trim_pool();
        assert_eq!(device.pool_stats().live, 0);
        drop(imported);
    });
}

#[test]
fn buffers_outlive_their_device() {
    each(|device, runs| {
        let other = DeviceOptions { discrete: true, paging: CpuPaging::Prefault, ..DeviceOptions::of(Backend::Cpu) };
        let buffer = words(&Device::open(&other).unwrap(), MemoryKind::Device, 10);
        buffer.write(&[3u32; 10]).unwrap();
        assert_eq!(buffer.read::<u32>().unwrap(), [3; 10]);
        let here = words(&device.clone(), MemoryKind::Device, 10);
        here.write(&[4u32; 10]).unwrap();
        assert!(!runs || here.read::<u32>().unwrap() == [4; 10]);
    });
}

#[test]
fn a_graph_is_reordered_planned_proved_and_replayed_with_other_buffers() {
    each(|device, runs| {
        let [x, y, z] = [(); 3].map(|()| words(device, MemoryKind::Shared, 64));
        for (buffer, value) in [(&x, 7u32), (&z, 8)] {
            buffer.write(&[value; 64]).unwrap();
        }
        let mut graph = Graph::capture::<kovar::Error>(device, "step", |encoder| {
            let scratch = || encoder.scratch(DType::U32, &[64]);
            let [a, b, c, d] = [scratch()?, scratch()?, scratch()?, scratch()?];
            encoder.copy(&x, &a)?;
            encoder.copy(&a, &b)?;
            encoder.copy(&b.view(0..32)?, &y.view(32..64)?)?;
            encoder.fill(&c, 5)?;
            encoder.copy(&c, &d)?;
            encoder.copy(&d.view(0..32)?, &y.view(0..32)?)
        })
        .unwrap();
        graph.name("input", &x).unwrap();
        assert_eq!(graph.schedule().groups.len(), 5);
        graph.reorder(8);
        // Both chains run beside each other, so that two of four scratch buffers live at a time.
        assert_eq!((graph.schedule().groups.len(), graph.len()), (3, 6));
        assert!(graph.verify().is_proved() && graph.explain().to_json().contains("step"));
        assert_eq!((graph.plan().buffers(), graph.plan().sum), (4, 1024));
        for share_memory in [true, false] {
            let options = ExecutableOptions { repeat: 2, share_memory, ..ExecutableOptions::default() };
            let mut step = graph.clone().compile(&options).unwrap();
            assert!(step.trace().unwrap().verify().is_proved());
            for (input, value) in [(&x, 7), (&z, 8)] {
                step.rebind(&[("input", input)]).unwrap();
                let submissions = [step.submit().unwrap(), step.submit().unwrap(), step.submit().unwrap()];
                submissions.into_iter().for_each(|submission| drop(submission.wait().unwrap()));
                let shown = y.map::<u32>().unwrap();
                assert!(!runs || (&shown[..32], &shown[32..]) == (&[5; 32][..], &[value; 32][..]));
            }
        }
    });
}
