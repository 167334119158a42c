//! Products on matrix units: which of the two tile sizes a device takes, and for which products.

use kovar::{DeviceInfo, KernelSource};

use super::sources::Sources;

/// Rows of `x` from which on tiles pay, although they may be filled in part.
const FROM_ROWS: u32 = 16;
/// Offset that a cooperative store asks of a buffer; see `OpCooperativeMatrixStoreKHR`.
const ALIGNMENT: u64 = 16;

/// A kernel with the tile of `y` that its workgroup makes, as its source says.
pub(super) struct Tiled<'a> {
    pub(super) source: &'a KernelSource,
    rows: u32,
    columns: u32,
}

impl Tiled<'_> {
    pub(super) fn grid(&self, m: u32, n: u32) -> [u32; 3] {
        [n.div_ceil(self.columns), m.div_ceil(self.rows), 1]
    }
}

/// The kernel for a product of `m` rows into a buffer at `offset`, if the device has matrix units for it.
pub(super) fn choose<'a>(sources: &'a Sources, info: &DeviceInfo, m: u32, offset: u64) -> Option<Tiled<'a>> {
    let tiles = [
        (16, Tiled { source: &sources.affine_mat_coop16, rows: 128, columns: 128 }),
        (8, Tiled { source: &sources.affine_mat_coop8, rows: 64, columns: 64 }),
    ];
    if m < FROM_ROWS || !offset.is_multiple_of(ALIGNMENT) || !info.features.f16 {
        return None;
    }
    let offered = |edge: u32| {
        let mut shapes = info.features.cooperative_matrix.iter();
        shapes.any(|s| [s.m, s.n, s.k] == [edge; 3] && (s.input, s.output) == ("f16", "f32"))
    };
    tiles.into_iter().find(|(edge, _)| offered(*edge)).map(|(_, tiled)| tiled)
}
