use std::alloc::Layout;
use std::ptr::NonNull;

use kovar_hal::{BufferDesc, HalError, MemoryKind, Timing};

use super::kernels::AXPY;
use super::rig::{Rig, dispatch, read, write};
use crate::note;

const KINDS: [MemoryKind; 3] = [MemoryKind::Shared, MemoryKind::Device, MemoryKind::Readback];

pub(super) fn new_buffers_are_zero_even_where_others_lay(rig: &Rig) {
    // Odd sizes, the bound between a host's and a device's clear, and one that gets an allocation of its own.
    for size in [1, 4, 7, 4096, 65537, 1 << 20, 70 << 20] {
        for kind in KINDS {
            for _ in 0..2 {
                let desc = BufferDesc { size, memory: kind, label: "dirty" };
                let buffer = rig.device.create_buffer(&desc).unwrap();
                assert_eq!(buffer.len, size);
                assert!(kind == MemoryKind::Device || !buffer.host.is_null());
                assert!(rig.read(buffer).iter().all(|word| *word == 0), "{kind:?} of {size} bytes is not zero");
                if !buffer.host.is_null() && size <= 65537 {
                    // SAFETY: the host sees so many bytes, and the device does not use them.
                    let bytes = unsafe { std::slice::from_raw_parts_mut(buffer.host, size as usize) };
                    assert!(bytes.iter().all(|byte| *byte == 0), "{kind:?} of {size} bytes is not zero");
                    bytes.fill(0xa5);
                }
                // SAFETY: the range lies within the buffer.
                rig.run(Timing::Off, |r| unsafe { r.fill(buffer, 0, size / 4 * 4, 0x5a5a_5a5a) });
                // SAFETY: nothing uses it any more.
                unsafe { rig.device.destroy_buffer(buffer) };
            }
        }
    }
    let hidden = rig.buffer_of(1 << 20, MemoryKind::Device);
    assert!(rig.read(hidden).iter().all(|word| *word == 0));
}

pub(super) fn host_addresses_suit_any_element(rig: &Rig) {
    for size in [1, 3, 12, 100, 5000] {
        let buffer = rig.buffer_of(size, MemoryKind::Shared);
        assert_eq!(buffer.host as usize % 64, 0);
    }
}

pub(super) fn copy_and_fill_move_exact_ranges(rig: &Rig) {
    let from = rig.words(&(0..1024).collect::<Vec<_>>());
    let to = rig.words(&[7; 1024]);
    let device = rig.buffer_of(4096, MemoryKind::Device);
    rig.run(Timing::Off, |r| {
        // SAFETY: ranges lie within the buffers; barriers stand between what conflicts.
        unsafe {
            r.copy(from, 0, device, 0, 4096);
            r.barrier();
            r.copy(device, 40, to, 400, 80);
            r.fill(to, 0, 12, 0xdead_beef);
            r.fill(to, 2000, 4, 1);
        }
    });
    let mut expected = vec![7; 1024];
    expected[..3].fill(0xdead_beef);
    expected[500] = 1;
    (0..20).for_each(|i| expected[100 + i] = 10 + i as u32);
    assert_eq!(read(to), expected);
}

pub(super) fn too_large_is_an_error_and_harmless(rig: &Rig) {
    for size in [1 << 60, u64::MAX / 2] {
        let desc = BufferDesc { size, memory: MemoryKind::Device, label: "huge" };
        match rig.device.create_buffer(&desc) {
            Err(HalError::OutOfMemory { label, bytes, .. }) => assert_eq!((label.as_str(), bytes), ("huge", size)),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(read(rig.words(&[3])), [3]);
}

pub(super) fn host_memory_becomes_a_buffer(rig: &Rig) {
    let info = rig.device.info();
    let align = (info.limits.import_alignment as usize).max(4096);
    let layout = Layout::from_size_align(align * 2, align).unwrap();
    // SAFETY: the layout has a size.
    let memory = NonNull::new(unsafe { std::alloc::alloc_zeroed(layout) }).unwrap();
    // SAFETY: aligned, and freed after the buffer's end below.
    let imported = unsafe { rig.device.import_buffer(memory, layout.size() as u64, "imported") }.unwrap();
    assert!(imported.is_some() || !info.features.host_import, "the device says that it imports host memory");
    if let Some(x) = imported {
        assert_eq!(x.host, memory.as_ptr());
        write(x, &[1.0f32, 2.0, 3.0, 4.0].map(f32::to_bits));
        let y = rig.words(&[10f32.to_bits(); 4]);
        let axpy = rig.pipeline(&AXPY);
        rig.run(Timing::Off, |r| {
            dispatch(r, axpy, &[x, y], &[4, 2f32.to_bits()], 1);
            r.barrier();
            dispatch(r, axpy, &[y, x], &[4, 1f32.to_bits()], 1);
        });
        assert_eq!(&read(x)[..4], &[13.0f32, 16.0, 19.0, 22.0].map(f32::to_bits));
        // SAFETY: its last use has ended.
        unsafe { rig.device.destroy_buffer(x) };
    } else {
        note("memory::host_memory_becomes_a_buffer", &format!("host memory is not imported by {}", info.name));
    }
    // SAFETY: allocated above with this layout.
    unsafe { std::alloc::dealloc(memory.as_ptr(), layout) };
}

pub(super) fn memory_figures_make_sense(rig: &Rig) {
    // Whoever binds checks offsets with a mask.
    assert!(rig.device.info().limits.storage_alignment.is_power_of_two());
    let memory = rig.device.info().memory;
    assert!(memory.total > 0);
    if let Some(left) = rig.device.memory_left() {
        assert!(left > 0 && left < 1 << 50);
    }
}

pub(super) fn residency_changes_are_taken_with_any_buffers_and_none(rig: &Rig) {
    let buffers: Vec<_> = [64, 5000, 70 << 20]
        .into_iter()
        .flat_map(|size| KINDS.map(|memory| BufferDesc { size, memory, label: "resident" }))
        .map(|desc| rig.device.create_buffer(&desc).unwrap())
        .collect();
    // SAFETY: the buffers are alive, and destroyed once, after their last use.
    unsafe {
        rig.device.update_residency(&[], &[]).unwrap();
        rig.device.update_residency(&buffers[..4], &[]).unwrap();
        rig.device.update_residency(&buffers[4..], &buffers[..2]).unwrap();
        rig.run(Timing::Off, |r| buffers.iter().for_each(|buffer| r.fill(*buffer, 0, 64, 7)));
        rig.device.update_residency(&[], &buffers[2..]).unwrap();
        assert!(buffers.iter().all(|buffer| rig.read(*buffer)[..16] == [7; 16]));
        buffers.iter().for_each(|buffer| rig.device.destroy_buffer(*buffer));
    }
}
