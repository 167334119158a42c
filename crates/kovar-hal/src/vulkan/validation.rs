use std::ffi::{CStr, c_void};
use std::sync::{Arc, Mutex, PoisonError};

use ash::vk;

use super::instance::unavailable;
use crate::Result;

pub(crate) const LAYER: &CStr = c"VK_LAYER_KHRONOS_validation";

/// A message that is dropped.
struct Noise {
    id: &'static str,
    /// What the text holds besides.
    text: &'static str,
    /// Why it says nothing about the program.
    #[allow(dead_code, reason = "for the reader")]
    reason: &'static str,
}

const NOISE: &[Noise] = &[Noise {
    id: "VUID-StandaloneSpirv-None-10684",
    text: "Workgroup storage class has an explicit layout",
    reason: "naga 30 decorates the types of workgroup variables with strides and offsets; drivers ignore these there",
}];

/// Settings of the layer. Synchronisation validation is off by default, and without the heuristic it takes storage
/// buffers that a shader could access, but need not, for untouched: a missing barrier between dispatches goes unseen.
const SETTINGS: [&CStr; 2] = [c"validate_sync", c"syncval_shader_accesses_heuristic"];

static TRUE: vk::Bool32 = vk::TRUE;

/// An error if the layer is not installed.
pub(crate) fn find_layer(entry: &ash::Entry) -> Result<()> {
    // SAFETY: the entry is loaded.
    let layers = unsafe { entry.enumerate_instance_layer_properties() }.unwrap_or_default();
    match layers.iter().any(|layer| layer.layer_name_as_c_str() == Ok(LAYER)) {
        true => Ok(()),
        false => Err(unavailable("validation was asked for and VK_LAYER_KHRONOS_validation is not installed")),
    }
}

pub(crate) fn settings() -> [vk::LayerSettingEXT<'static>; 2] {
    SETTINGS.map(|name| {
        let mut setting =
            vk::LayerSettingEXT::default().layer_name(LAYER).setting_name(name).ty(vk::LayerSettingTypeEXT::BOOL32);
        // The builder counts bytes; the layer counts values.
        setting.value_count = 1;
        setting.p_values = (&raw const TRUE).cast();
        setting
    })
}

/// Where messages are kept until somebody asks.
#[derive(Default)]
pub(crate) struct Sink(Mutex<Vec<String>>);

impl Sink {
    pub(crate) fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Describes a messenger that writes here. The sink must outlive it.
    pub(crate) fn messenger_info(self: &Arc<Self>) -> vk::DebugUtilsMessengerCreateInfoEXT<'static> {
        vk::DebugUtilsMessengerCreateInfoEXT::default()
            .message_severity(
                vk::DebugUtilsMessageSeverityFlagsEXT::WARNING | vk::DebugUtilsMessageSeverityFlagsEXT::ERROR,
            )
            .message_type(vk::DebugUtilsMessageTypeFlagsEXT::VALIDATION)
            .pfn_user_callback(Some(callback))
            .user_data(Arc::as_ptr(self).cast::<c_void>().cast_mut())
    }
}

unsafe extern "system" fn callback(
    _: vk::DebugUtilsMessageSeverityFlagsEXT,
    _: vk::DebugUtilsMessageTypeFlagsEXT,
    data: *const vk::DebugUtilsMessengerCallbackDataEXT<'_>,
    sink: *mut c_void,
) -> vk::Bool32 {
    // SAFETY: the layer passes valid data for the time of the call, and `messenger_info` put the sink there, which
    // outlives the messenger.
    let (data, sink) = unsafe { (&*data, &*sink.cast::<Sink>()) };
    let text = |at: *const std::ffi::c_char| {
        // SAFETY: the strings of the data are null or end with a zero.
        if at.is_null() { String::new() } else { unsafe { CStr::from_ptr(at) }.to_string_lossy().into_owned() }
    };
    let (id, message) = (text(data.p_message_id_name), text(data.p_message));
    if !NOISE.iter().any(|noise| id == noise.id && message.contains(noise.text)) {
        sink.0.lock().unwrap_or_else(PoisonError::into_inner).push(format!("{id}: {message}"));
    }
    vk::FALSE
}
