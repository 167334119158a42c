//! Products on matrix units: which of the tile sizes a device takes, and for which products.

use kovar::{DType, DeviceInfo, KernelSource};

use super::Params;
use super::sources::Sources;

/// Rows of `x` from which on tiles pay, although they may be filled in part.
const FROM_ROWS: u32 = 16;
/// Offset that a cooperative store asks of a buffer; see `OpCooperativeMatrixStoreKHR`.
const ALIGNMENT: u64 = 16;
/// Workgroups from which on tiles keep a large device busy: about one for each of 132 processors of an H100.
const ENOUGH: u32 = 120;

/// Bytes of workgroup memory of a wide tile.
const GROUP_MEMORY: u32 = 45_056;

/// A kernel with the type of `x` that it takes and the tile of `y` that its workgroup makes, as its source says.
pub(super) struct Tiled<'a> {
    pub(super) source: &'a KernelSource,
    pub(super) input: DType,
    rows: u32,
    columns: u32,
}

impl Tiled<'_> {
    pub(super) fn grid(&self, m: u32, n: u32) -> [u32; 3] {
        [n.div_ceil(self.columns), m.div_ceil(self.rows), 1]
    }
}

/// The kernel for a product into a buffer at `offset`, if the device has matrix units for it.
pub(super) fn choose<'a>(sources: &'a Sources, info: &DeviceInfo, p: Params, offset: u64) -> Option<Tiled<'a>> {
    if p.m < FROM_ROWS || !offset.is_multiple_of(ALIGNMENT) || !info.features.f16 {
        return None;
    }
    let offered = |edge: u32| {
        let mut shapes = info.features.cooperative_matrix.iter();
        shapes.any(|s| [s.m, s.n, s.k] == [edge; 3] && (s.input, s.output) == ("f16", "f32"))
    };
    let wide = Tiled { source: &sources.affine_mat_coop16_wide, input: DType::F16, rows: 128, columns: 128 };
    let narrow = Tiled { source: &sources.affine_mat_coop16_narrow, columns: 64, ..wide };
    let small = Tiled { source: &sources.affine_mat_coop16_small, rows: 64, columns: 64, ..wide };
    if offered(16) && info.subgroup.size == 32 && info.limits.group_memory >= GROUP_MEMORY {
        let enough = |tiled: &Tiled<'_>| tiled.grid(p.m, p.n).iter().product::<u32>() >= ENOUGH;
        return [wide, narrow].into_iter().find(enough).or(Some(small));
    }
    offered(8).then_some(Tiled { source: &sources.affine_mat_coop8, input: DType::F32, rows: 64, columns: 64 })
}
