use std::ops::Range;
use std::sync::Arc;

use kovar::{CpuDispatch, CpuKernel, Specialization};

struct Advance;

pub(super) fn advance(_: Specialization<'_>) -> Result<Arc<dyn CpuKernel>, String> {
    Ok(Arc::new(Advance))
}

impl CpuKernel for Advance {
    fn tasks(&self, _: &CpuDispatch<'_>) -> u32 {
        1
    }

    fn run(&self, dispatch: &CpuDispatch<'_>, _: Range<u32>) {
        let chosen = dispatch.slice::<u32>(0)[0];
        let capacity: u32 = dispatch.constants();
        // SAFETY: there is one task, and the slots do not overlap.
        let [token, position] = unsafe { [dispatch.slice_mut::<u32>(1, 0..1), dispatch.slice_mut::<u32>(2, 0..1)] };
        let place = position[0];
        if place < capacity {
            let place = place as usize;
            // SAFETY: as above.
            let kept = unsafe { dispatch.slice_mut::<u32>(3, place..place + 1) };
            kept[0] = chosen;
        }
        token[0] = chosen;
        position[0] = place.wrapping_add(1);
    }
}
