use std::ffi::{CStr, CString};

use ash::{ext, khr, vk};

/// Extensions that are turned on wherever they are offered.
const OPTIONAL: [&CStr; 10] = [
    ext::memory_budget::NAME,
    ext::external_memory_host::NAME,
    ext::memory_priority::NAME,
    ext::pageable_device_local_memory::NAME,
    khr::calibrated_timestamps::NAME,
    ext::calibrated_timestamps::NAME,
    khr::cooperative_matrix::NAME,
    // Part of Vulkan 1.3:
    ext::subgroup_size_control::NAME,
    khr::shader_integer_dot_product::NAME,
    khr::maintenance4::NAME,
];

/// The extensions of a device that this backend turns on.
#[derive(Clone)]
pub(crate) struct Extensions(Vec<&'static CStr>);

impl Extensions {
    /// `Err` names a required extension that is missing.
    pub(crate) fn choose(offered: &[vk::ExtensionProperties]) -> Result<Extensions, String> {
        let offered: Vec<CString> =
            offered.iter().filter_map(|e| e.extension_name_as_c_str().ok().map(CString::from)).collect();
        let has = |name: &CStr| offered.iter().any(|offer| offer.as_c_str() == name);
        let required = khr::push_descriptor::NAME;
        if !has(required) {
            return Err(format!("it lacks {}", required.to_string_lossy()));
        }
        let both = has(khr::calibrated_timestamps::NAME);
        let wanted = |name: &&CStr| has(name) && !(both && *name == ext::calibrated_timestamps::NAME);
        Ok(Extensions(std::iter::once(required).chain(OPTIONAL.into_iter().filter(wanted)).collect()))
    }

    pub(crate) fn has(&self, name: &CStr) -> bool {
        self.0.contains(&name)
    }

    pub(crate) fn pointers(&self) -> Vec<*const std::ffi::c_char> {
        self.0.iter().map(|name| name.as_ptr()).collect()
    }
}

/// The driver's features, as far as kernels or this backend use them.
#[derive(Default, Clone)]
pub(crate) struct FeatureSet {
    pub(crate) core: vk::PhysicalDeviceFeatures,
    pub(crate) v11: vk::PhysicalDeviceVulkan11Features<'static>,
    pub(crate) v12: vk::PhysicalDeviceVulkan12Features<'static>,
    pub(crate) subgroup: vk::PhysicalDeviceSubgroupSizeControlFeatures<'static>,
    pub(crate) dot: vk::PhysicalDeviceShaderIntegerDotProductFeatures<'static>,
    pub(crate) matrix: vk::PhysicalDeviceCooperativeMatrixFeaturesKHR<'static>,
    pub(crate) priority: vk::PhysicalDeviceMemoryPriorityFeaturesEXT<'static>,
    pub(crate) pageable: vk::PhysicalDevicePageableDeviceLocalMemoryFeaturesEXT<'static>,
}

impl FeatureSet {
    /// Links the structures that the device knows. The links are valid as long as the borrow.
    pub(crate) fn link(&mut self, version: u32, extensions: &Extensions) -> vk::PhysicalDeviceFeatures2<'_> {
        let mut head = vk::PhysicalDeviceFeatures2::default().features(self.core);
        head = head.push_next(&mut self.v11).push_next(&mut self.v12);
        let known = |name| version >= vk::API_VERSION_1_3 || extensions.has(name);
        if known(ext::subgroup_size_control::NAME) {
            head = head.push_next(&mut self.subgroup);
        }
        if known(khr::shader_integer_dot_product::NAME) {
            head = head.push_next(&mut self.dot);
        }
        if extensions.has(khr::cooperative_matrix::NAME) {
            head = head.push_next(&mut self.matrix);
        }
        if extensions.has(ext::memory_priority::NAME) {
            head = head.push_next(&mut self.priority);
        }
        if extensions.has(ext::pageable_device_local_memory::NAME) {
            head = head.push_next(&mut self.pageable);
        }
        head
    }

    pub(crate) fn query(
        instance: &ash::Instance,
        device: vk::PhysicalDevice,
        version: u32,
        extensions: &Extensions,
    ) -> FeatureSet {
        let mut offered = FeatureSet::default();
        let mut head = offered.link(version, extensions);
        // SAFETY: the device belongs to the instance, and the structures linked are known to it.
        unsafe { instance.get_physical_device_features2(device, &mut head) };
        let core = head.features;
        offered.core = core;
        offered.used()
    }

    /// What is offered and used, in fresh structures.
    fn used(&self) -> FeatureSet {
        FeatureSet {
            core: vk::PhysicalDeviceFeatures {
                shader_int16: self.core.shader_int16,
                shader_int64: self.core.shader_int64,
                ..Default::default()
            },
            v11: vk::PhysicalDeviceVulkan11Features {
                storage_buffer16_bit_access: self.v11.storage_buffer16_bit_access,
                uniform_and_storage_buffer16_bit_access: self.v11.uniform_and_storage_buffer16_bit_access,
                ..Default::default()
            },
            v12: vk::PhysicalDeviceVulkan12Features {
                timeline_semaphore: self.v12.timeline_semaphore,
                shader_float16: self.v12.shader_float16,
                shader_int8: self.v12.shader_int8,
                storage_buffer8_bit_access: self.v12.storage_buffer8_bit_access,
                uniform_and_storage_buffer8_bit_access: self.v12.uniform_and_storage_buffer8_bit_access,
                shader_buffer_int64_atomics: self.v12.shader_buffer_int64_atomics,
                shader_subgroup_extended_types: self.v12.shader_subgroup_extended_types,
                vulkan_memory_model: self.v12.vulkan_memory_model,
                vulkan_memory_model_device_scope: self.v12.vulkan_memory_model_device_scope,
                ..Default::default()
            },
            subgroup: vk::PhysicalDeviceSubgroupSizeControlFeatures {
                subgroup_size_control: self.subgroup.subgroup_size_control,
                compute_full_subgroups: self.subgroup.compute_full_subgroups,
                ..Default::default()
            },
            dot: vk::PhysicalDeviceShaderIntegerDotProductFeatures {
                shader_integer_dot_product: self.dot.shader_integer_dot_product,
                ..Default::default()
            },
            matrix: vk::PhysicalDeviceCooperativeMatrixFeaturesKHR {
                cooperative_matrix: self.matrix.cooperative_matrix,
                ..Default::default()
            },
            priority: vk::PhysicalDeviceMemoryPriorityFeaturesEXT {
                memory_priority: self.priority.memory_priority,
                ..Default::default()
            },
            pageable: vk::PhysicalDevicePageableDeviceLocalMemoryFeaturesEXT {
                pageable_device_local_memory: self.pageable.pageable_device_local_memory,
                ..Default::default()
            },
        }
    }
}
