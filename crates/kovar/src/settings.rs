use std::any::Any;
use std::fmt;
use std::sync::Arc;

/// What libraries above want to know of a device, one value a type: how kernels are cut for it, say.
///
/// ```
/// use kovar::{Backend, Device, DeviceOptions, Settings};
///
/// struct Quality(u32);
/// let settings = Settings::default().with(Quality(7));
/// let device = Device::open(&DeviceOptions { settings, ..DeviceOptions::of(Backend::Cpu) })?;
/// assert_eq!(device.settings().get::<Quality>().map(|quality| quality.0), Some(7));
/// # Ok::<(), kovar::Error>(())
/// ```
#[derive(Clone, Default)]
pub struct Settings(Vec<Arc<dyn Any + Send + Sync>>);

impl Settings {
    /// With a value, in the place of one of its type.
    #[must_use]
    pub fn with<T: Any + Send + Sync>(mut self, value: T) -> Settings {
        self.0.retain(|known| !known.as_ref().is::<T>());
        self.0.push(Arc::new(value));
        self
    }

    /// The value of a type.
    pub fn get<T: Any>(&self) -> Option<&T> {
        self.0.iter().find_map(|known| known.as_ref().downcast_ref())
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Settings({})", self.0.len())
    }
}
