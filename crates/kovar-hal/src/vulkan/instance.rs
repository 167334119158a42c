use std::ffi::CStr;
use std::sync::{Arc, OnceLock};

use ash::{ext, vk};

use super::validation::{self, Sink};
use crate::{Backend, HalError, Result};

pub(crate) fn unavailable(reason: impl Into<String>) -> HalError {
    HalError::Unavailable { backend: Backend::Vulkan, reason: reason.into() }
}

/// A connection to the loader, with or without validation.
pub(crate) struct Instance {
    pub(crate) raw: ash::Instance,
    /// Version of the API that the loader offers.
    pub(crate) version: u32,
    /// Objects can be named and commands labelled.
    pub(crate) debug_utils: bool,
    pub(crate) validation: Option<Validation>,
    // Declared last: the library must stay loaded until everything above is gone.
    pub(crate) entry: ash::Entry,
}

pub(crate) struct Validation {
    pub(crate) sink: Arc<Sink>,
    functions: ext::debug_utils::Instance,
    messenger: vk::DebugUtilsMessengerEXT,
}

/// The system's loader, or one carried next to the executable.
fn load_entry() -> Result<ash::Entry> {
    // SAFETY: the initialisers of the Vulkan loader have no preconditions.
    let system = match unsafe { ash::Entry::load() } {
        Ok(entry) => return Ok(entry),
        Err(reason) => reason,
    };
    let beside = std::env::current_exe().ok().map(|path| path.with_file_name("libvulkan.so.1"));
    if let Some(path) = beside.filter(|path| cfg!(unix) && path.exists()) {
        // SAFETY: as above.
        return unsafe { ash::Entry::load_from(&path) }
            .map_err(|e| unavailable(format!("the loader cannot be used: {system}; nor can {}: {e}", path.display())));
    }
    Err(unavailable(format!("no Vulkan loader: {system}")))
}

/// Keeps the drivers loaded until the process ends: an instance that is never destroyed.
///
/// The loader unloads a driver with the last instance, but drivers leave destructors behind in the threads that have used
/// them. With NVIDIA's 580.159, a process that opened and closed devices on several threads crashed by that.
fn keep_drivers(entry: &ash::Entry) {
    static KEPT: OnceLock<()> = OnceLock::new();
    KEPT.get_or_init(|| {
        let application = vk::ApplicationInfo::default().application_name(c"kovar").api_version(vk::API_VERSION_1_2);
        // SAFETY: the entry is loaded, and all that the description points to is alive.
        let kept =
            unsafe { entry.create_instance(&vk::InstanceCreateInfo::default().application_info(&application), None) };
        if kept.is_ok() {
            // The instance itself has no destructor; the library must stay too.
            std::mem::forget(entry.clone());
        }
    });
}

impl Instance {
    pub(crate) fn load(validate: bool) -> Result<Arc<Instance>> {
        let entry = load_entry()?;
        keep_drivers(&entry);
        // SAFETY: the entry is loaded.
        let version = unsafe { entry.try_enumerate_instance_version() }.ok().flatten().unwrap_or(vk::API_VERSION_1_0);
        if version < vk::API_VERSION_1_2 {
            return Err(unavailable("the loader is older than Vulkan 1.2"));
        }
        if validate {
            validation::find_layer(&entry)?;
        }
        let has = |name: &CStr| {
            // SAFETY: the entry is loaded.
            let list = unsafe { entry.enumerate_instance_extension_properties(None) }.unwrap_or_default();
            list.iter().any(|e| e.extension_name_as_c_str() == Ok(name))
        };
        let debug_utils = validate || has(ext::debug_utils::NAME);
        let extensions: Vec<_> = debug_utils.then_some(ext::debug_utils::NAME.as_ptr()).into_iter().collect();
        let layers: Vec<_> = validate.then_some(validation::LAYER.as_ptr()).into_iter().collect();
        let application = vk::ApplicationInfo::default()
            .application_name(c"kovar")
            .engine_name(c"kovar")
            .api_version(version.min(vk::API_VERSION_1_3));
        let sink = Arc::new(Sink::default());
        let mut messages = sink.messenger_info();
        let settings = validation::settings();
        let mut settings = vk::LayerSettingsCreateInfoEXT::default().settings(&settings);
        let enable = [vk::ValidationFeatureEnableEXT::SYNCHRONIZATION_VALIDATION];
        let mut switches = vk::ValidationFeaturesEXT::default().enabled_validation_features(&enable);
        let mut info = vk::InstanceCreateInfo::default()
            .application_info(&application)
            .enabled_extension_names(&extensions)
            .enabled_layer_names(&layers);
        if validate {
            // The layer reads its settings from here whether or not their extensions are turned on, and loaders refuse
            // extensions that are younger than themselves.
            info = info.push_next(&mut messages).push_next(&mut settings).push_next(&mut switches);
        }
        // SAFETY: all that `info` points to is alive, and layers and extensions were found above.
        let raw = unsafe { entry.create_instance(&info, None) }.map_err(|e| match e {
            vk::Result::ERROR_INCOMPATIBLE_DRIVER => unavailable("no Vulkan driver is installed"),
            e => unavailable(format!("vkCreateInstance: {e}")),
        })?;
        let mut instance = Instance { raw, version, debug_utils, validation: None, entry };
        if validate {
            let functions = ext::debug_utils::Instance::new(&instance.entry, &instance.raw);
            // SAFETY: the instance has the extension; the sink is kept by it and outlives the messenger.
            let messenger = unsafe { functions.create_debug_utils_messenger(&sink.messenger_info(), None) }
                .map_err(|e| unavailable(format!("vkCreateDebugUtilsMessengerEXT: {e}")))?;
            instance.validation = Some(Validation { sink, functions, messenger });
        }
        Ok(Arc::new(instance))
    }

    pub(crate) fn physical_devices(&self) -> Result<Vec<vk::PhysicalDevice>> {
        // SAFETY: the instance is alive.
        unsafe { self.raw.enumerate_physical_devices() }
            .map_err(|e| unavailable(format!("vkEnumeratePhysicalDevices: {e}")))
    }

    /// Whether someone is there to see labels: validation, or a tool that says that it shows them.
    pub(crate) fn wants_labels(&self, device: vk::PhysicalDevice, device_version: u32) -> bool {
        if self.validation.is_some() {
            return true;
        }
        if !self.debug_utils || self.version.min(device_version) < vk::API_VERSION_1_3 {
            return false;
        }
        // SAFETY: instance and device are of version 1.3, in which these calls are core.
        let tools = unsafe {
            let count = self.raw.get_physical_device_tool_properties_len(device).unwrap_or(0);
            let mut tools = vec![vk::PhysicalDeviceToolProperties::default(); count];
            self.raw.get_physical_device_tool_properties(device, &mut tools).map(|()| tools).unwrap_or_default()
        };
        tools.iter().any(|tool| tool.purposes.contains(vk::ToolPurposeFlags::DEBUG_MARKERS_EXT))
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        // SAFETY: whatever was made of this instance holds an `Arc` to it, so all of it is gone.
        unsafe {
            if let Some(validation) = &self.validation {
                validation.functions.destroy_debug_utils_messenger(validation.messenger, None);
            }
            self.raw.destroy_instance(None);
        }
    }
}
