mod core;
mod memory;
mod parts;
mod submit;
mod transfer;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use kovar_hal::{DeviceInfo, HalError};

pub(crate) use self::core::Core;
use self::core::lock;
pub(crate) use self::parts::Part;
pub(crate) use self::submit::{Awaits, Work};
pub(crate) use self::transfer::Progress;
use crate::kernel::{DiskCache, Kernel, KernelSource, Registry, Specialization};
use crate::notify::Notifier;
use crate::stats::{KernelStats, Stats};
use crate::{CommandEncoder, DeviceOptions, EncoderOptions, Error, Event, Result, Settings};

/// A device, open: the source of buffers, kernels and encoders. A clone is another handle.
///
/// ```
/// use kovar::{Backend, Device, DeviceOptions, DType};
///
/// let device = Device::open(&DeviceOptions::of(Backend::Cpu))?;
/// let zeros = device.buffer(DType::F32, &[4, 8])?;
/// assert_eq!(zeros.read::<f32>()?, vec![0.0; 32]);
/// # Ok::<(), kovar::Error>(())
/// ```
#[derive(Clone)]
pub struct Device(pub(crate) Arc<Shared>);

pub(crate) struct Shared {
    pub(crate) core: Arc<Core>,
    registry: Registry,
    settings: Settings,
    pub(crate) notifier: Notifier,
}

impl Drop for Shared {
    fn drop(&mut self) {
        let core = &self.core;
        core.closed.store(true, Ordering::SeqCst);
        let last = lock(&core.flights).last().map(|flight| flight.value);
        let ended = last.map_or(Ok(()), |last| core.wait_for(last));
        self.registry.close(core);
        let left = lock(&core.flights).take();
        if matches!(ended, Err(Error::Device(HalError::Timeout { .. }))) {
            // The device still uses all this, and nobody knows until when: it must never be freed.
            std::mem::forget(left);
        }
    }
}

impl Device {
    /// What could be opened, in the order of preference, and why backends are missing.
    pub fn list() -> (Vec<DeviceInfo>, Vec<String>) {
        let (adapters, missing) = kovar_hal::adapters();
        (adapters.iter().map(|a| a.info().clone()).collect(), missing.iter().map(ToString::to_string).collect())
    }

    /// Opens a device.
    ///
    /// # Errors
    /// [`Error::NoDevice`] if it is not here, device errors if it does not open.
    pub fn open(options: &DeviceOptions) -> Result<Device> {
        let Some(choice) = options.device else {
            let (adapters, _) = kovar_hal::adapters();
            let mut last = Error::NoDevice { wanted: "any".into(), reason: "there is none".into() };
            for adapter in adapters {
                match Device::from_adapter(adapter.as_ref(), options) {
                    Ok(device) => return Ok(device),
                    Err(error) => last = error,
                }
            }
            return Err(last);
        };
        let missing = |reason: String| Error::NoDevice { wanted: choice.to_string(), reason };
        match kovar_hal::adapters_of(choice.backend).map_err(|reason| missing(reason.to_string()))?.get(choice.index) {
            Some(adapter) => Device::from_adapter(adapter.as_ref(), options),
            None => Err(missing("this machine has none; `kovar devices` lists what it has".into())),
        }
    }

    /// Opens a device of an adapter: one that [`open`](Device::open) cannot name, such as a backend of your own.
    ///
    /// # Errors
    /// Device errors if it does not open.
    pub fn from_adapter(adapter: &dyn kovar_hal::Adapter, options: &DeviceOptions) -> Result<Device> {
        Device::of(adapter.open(&options.open())?, options)
    }

    /// Opens the device that the variable `KOVAR_DEVICE` names, else the first that opens.
    ///
    /// # Errors
    /// As [`open`](Device::open), and for a name that is none.
    pub fn open_default() -> Result<Device> {
        Device::open(&DeviceOptions::from_environment()?)
    }

    fn of(hal: Arc<dyn kovar_hal::Device>, options: &DeviceOptions) -> Result<Device> {
        let core = Core::open(hal, options)?;
        let cache = options.cache.as_deref().map(|folder| DiskCache::open(folder, &core));
        Ok(Device(Arc::new(Shared {
            core: Arc::new(core),
            registry: Registry::new(cache),
            settings: options.settings.clone(),
            notifier: Notifier::default(),
        })))
    }

    pub(crate) fn is(&self, other: &Device) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// What it is and can do.
    pub fn info(&self) -> &DeviceInfo {
        self.0.core.hal.info()
    }

    /// What it was opened with for the libraries above.
    pub fn settings(&self) -> &Settings {
        &self.0.settings
    }

    /// What it has done so far.
    pub fn stats(&self) -> Stats {
        self.0.core.counters.read()
    }

    /// What its kernels have done so far, the busiest first.
    ///
    /// ```
    /// # use kovar::{Backend, Device, DeviceOptions, DType, Dispatch, KernelSource};
    /// # static CLEAR: KernelSource = KernelSource::wgsl("clear",
    /// #     "@group(0) @binding(0) var<storage, read_write> x: array<f32>;
    /// #      @compute @workgroup_size(64) fn main(@builtin(global_invocation_id) id: vec3<u32>) { x[id.x] = 0.0; }");
    /// let device = Device::open(&DeviceOptions::of(Backend::Null))?;
    /// let (clear, x) = (device.kernel(&CLEAR, &[])?, device.buffer(DType::F32, &[64])?);
    /// let mut encoder = device.encoder()?;
    /// encoder.dispatch(Dispatch::new(&clear).bind(0, &x).groups([1, 1, 1]))?;
    /// encoder.commit()?.wait()?;
    /// let busiest = &device.kernel_stats()[0];
    /// assert_eq!((busiest.name.as_str(), busiest.dispatches), ("clear", 1));
    /// # Ok::<(), kovar::Error>(())
    /// ```
    pub fn kernel_stats(&self) -> Vec<KernelStats> {
        self.0.registry.stats()
    }

    /// Messages of the vendor's validation since the last call, if it was turned on.
    pub fn validation_messages(&self) -> Vec<String> {
        self.0.core.hal.validation_messages()
    }

    /// The kernel of a source with these constants, compiled when first asked for.
    ///
    /// # Errors
    /// [`Error::Kernel`] with the source line, [`Error::NoForm`] if it has none for this device.
    pub fn kernel(&self, source: &KernelSource, constants: Specialization<'_>) -> Result<Kernel> {
        self.0.registry.get(&self.0.core, source, constants)
    }

    /// Writes the driver's compiled pipelines to the disk cache, if there is one. A device does that by itself when it is
    /// dropped, but on Metal, which has such a cache of its own; translated kernels are written as they are made.
    pub fn save_cache(&self) {
        self.0.registry.save(&self.0.core);
    }

    /// An encoder with automatic barriers.
    ///
    /// # Errors
    /// Device errors.
    pub fn encoder(&self) -> Result<CommandEncoder> {
        self.encoder_with(EncoderOptions::default())
    }

    /// An encoder.
    ///
    /// # Errors
    /// Device errors.
    pub fn encoder_with(&self, options: EncoderOptions) -> Result<CommandEncoder> {
        CommandEncoder::new(self.clone(), options)
    }

    /// An event with the value 0.
    ///
    /// # Errors
    /// Device errors.
    pub fn event(&self) -> Result<Event> {
        Event::new(self)
    }
}

impl std::fmt::Debug for Device {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let info = self.info();
        write!(f, "Device({}: {})", info.backend, info.name)
    }
}
