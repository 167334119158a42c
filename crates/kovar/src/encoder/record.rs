use super::arguments::{self, Context};
use super::dispatch::{Dispatch, GridSize, OpKind};
use super::touch::Touch;
use crate::profile::Cost;
use crate::{Error, Kernel, Misuse, Result};

/// A dispatch whose kernel, grid and constants were checked and packed once. Only buffers are given when it is recorded.
///
/// ```
/// # use kovar::{Backend, Device, DeviceOptions, DType, Dispatch, DispatchRecord, KernelSource};
/// # static CLEAR: KernelSource = KernelSource::wgsl("clear",
/// #     "@group(0) @binding(0) var<storage, read_write> x: array<f32>; var<immediate> n: u32;
/// #      @compute @workgroup_size(64) fn main(@builtin(global_invocation_id) id: vec3<u32>) { if (id.x < n) { x[id.x] = 0.0; } }");
/// let device = Device::open(&DeviceOptions::of(Backend::Null))?;
/// let clear = device.kernel(&CLEAR, &[])?;
/// let record = DispatchRecord::bake(&Dispatch::new(&clear).constants(&64u32).threads([64, 1, 1]))?;
/// let (x, y) = (device.buffer(DType::F32, &[64])?, device.buffer(DType::F32, &[64])?);
/// let mut encoder = device.encoder()?;
/// encoder.dispatch_record(&record, &[&x])?;
/// encoder.dispatch_record(&record, &[&y])?;
/// encoder.commit()?.wait()?;
/// # Ok::<(), kovar::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct DispatchRecord {
    pub(crate) kernel: Kernel,
    pub(crate) constants: Box<[u8]>,
    pub(crate) groups: [u32; 3],
    pub(crate) group_memory: Box<[u32]>,
    pub(crate) label: Box<str>,
    pub(crate) kind: OpKind,
    pub(crate) cost: Cost,
    pub(crate) opaque: bool,
    pub(crate) touches: Box<[Touch]>,
}

impl DispatchRecord {
    /// Packs a dispatch; what it binds is left out, what it touches of its slots is kept.
    ///
    /// # Errors
    /// [`Error::Dispatch`] if constants or grid do not fit, or the grid is read from a buffer.
    pub fn bake(dispatch: &Dispatch<'_>) -> Result<DispatchRecord> {
        let kernel = dispatch.kernel.clone();
        arguments::constants(dispatch)?;
        if let GridSize::Indirect(_) = dispatch.grid {
            let misuse = Misuse::Transfer("the grid of a record is fixed, not read from a buffer".into());
            return Err(Error::Dispatch { kernel: kernel.name().into(), misuse });
        }
        let limits = &kernel.0.core.hal.info().limits;
        arguments::group_memory(dispatch, limits)?;
        let groups = match arguments::grid(dispatch, Context { limits, capturing: false })? {
            kovar_hal::Grid::Groups(groups) => groups,
            kovar_hal::Grid::Indirect { .. } => [0; 3],
        };
        Ok(DispatchRecord {
            constants: dispatch.constants.into(),
            groups,
            group_memory: dispatch.group_memory.into(),
            label: dispatch.label.into(),
            kind: dispatch.kind,
            cost: dispatch.cost.copied().unwrap_or_default(),
            opaque: dispatch.opaque,
            touches: dispatch.touches.into(),
            kernel,
        })
    }

    /// The kernel that it runs.
    pub fn kernel(&self) -> &Kernel {
        &self.kernel
    }
}
