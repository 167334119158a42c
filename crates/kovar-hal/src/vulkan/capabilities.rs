use ash::{ext, khr, vk};

use super::features::{Extensions, FeatureSet};
use super::instance::Instance;
use super::quirks::Quirks;
use super::timing::Ticks;
use crate::{Backend, CooperativeShape, DeviceInfo, DeviceKind, Features, Limits, MemoryInfo, ShaderFormat, Subgroup};

/// What is known of a physical device before it is opened.
#[derive(Clone)]
pub(crate) struct Capabilities {
    pub(crate) info: DeviceInfo,
    /// See [`OpenOptions::discrete`](crate::OpenOptions).
    pub(crate) discrete: bool,
    pub(crate) version: u32,
    pub(crate) extensions: Extensions,
    pub(crate) features: FeatureSet,
    pub(crate) queue_family: u32,
    pub(crate) queues: u32,
    pub(crate) memory: vk::PhysicalDeviceMemoryProperties,
    pub(crate) ticks: Option<Ticks>,
    pub(crate) quirks: Quirks,
    /// Subgroups that a workgroup may have when a pipeline requires their width.
    pub(crate) group_subgroups: u32,
    /// Vendor, device and cache identifier, as they stand in the header of a pipeline cache.
    pub(crate) cache_identity: (u32, u32, [u8; vk::UUID_SIZE]),
    /// Tells devices of one machine apart, across instances.
    pub(crate) identity: ([u8; vk::UUID_SIZE], [u8; vk::UUID_SIZE], String),
}

/// Properties, read in one call.
#[derive(Default)]
struct Properties {
    core: vk::PhysicalDeviceProperties,
    v11: vk::PhysicalDeviceVulkan11Properties<'static>,
    v12: vk::PhysicalDeviceVulkan12Properties<'static>,
    push: vk::PhysicalDevicePushDescriptorPropertiesKHR<'static>,
    subgroup: vk::PhysicalDeviceSubgroupSizeControlProperties<'static>,
    dot: vk::PhysicalDeviceShaderIntegerDotProductProperties<'static>,
    sizes: vk::PhysicalDeviceMaintenance4Properties<'static>,
    host: vk::PhysicalDeviceExternalMemoryHostPropertiesEXT<'static>,
}

impl Properties {
    fn query(instance: &ash::Instance, device: vk::PhysicalDevice, version: u32, extensions: &Extensions) -> Self {
        let mut p = Properties::default();
        let mut head =
            vk::PhysicalDeviceProperties2::default().push_next(&mut p.v11).push_next(&mut p.v12).push_next(&mut p.push);
        let known = |name| version >= vk::API_VERSION_1_3 || extensions.has(name);
        if known(ext::subgroup_size_control::NAME) {
            head = head.push_next(&mut p.subgroup);
        }
        if known(khr::shader_integer_dot_product::NAME) {
            head = head.push_next(&mut p.dot);
        }
        if known(khr::maintenance4::NAME) {
            head = head.push_next(&mut p.sizes);
        }
        if extensions.has(ext::external_memory_host::NAME) {
            head = head.push_next(&mut p.host);
        }
        // SAFETY: the device belongs to the instance, and the structures linked are known to it.
        unsafe { instance.get_physical_device_properties2(device, &mut head) };
        let core = head.properties;
        p.core = core;
        p
    }
}

fn text(chars: &[std::ffi::c_char]) -> String {
    let bytes: Vec<u8> = chars.iter().take_while(|c| **c != 0).map(|c| *c as u8).collect();
    String::from_utf8_lossy(&bytes).into_owned()
}

impl Capabilities {
    /// `Err` says why the backend cannot use the device.
    pub(crate) fn query(instance: &Instance, device: vk::PhysicalDevice) -> Result<Capabilities, String> {
        // SAFETY: the device belongs to the instance, here and below.
        let version = unsafe { instance.raw.get_physical_device_properties(device) }.api_version.min(instance.version);
        if version < vk::API_VERSION_1_2 {
            return Err("it is older than Vulkan 1.2".into());
        }
        // SAFETY: as above.
        let offered = unsafe { instance.raw.enumerate_device_extension_properties(device) }.unwrap_or_default();
        let extensions = Extensions::choose(&offered)?;
        let features = FeatureSet::query(&instance.raw, device, version, &extensions);
        if features.v12.timeline_semaphore == vk::FALSE {
            return Err("it lacks timeline semaphores".into());
        }
        let p = Properties::query(&instance.raw, device, version, &extensions);
        // SAFETY: as above.
        let families = unsafe { instance.raw.get_physical_device_queue_family_properties(device) };
        let computes = |family: &vk::QueueFamilyProperties| family.queue_flags.contains(vk::QueueFlags::COMPUTE);
        let queue_family = families
            .iter()
            .position(|family| computes(family) && family.timestamp_valid_bits > 0)
            .or_else(|| families.iter().position(computes))
            .ok_or("it has no compute queue")?;
        let ticks = Ticks::new(p.core.limits.timestamp_period, families[queue_family].timestamp_valid_bits);
        // SAFETY: as above.
        let memory = unsafe { instance.raw.get_physical_device_memory_properties(device) };
        let matrices = cooperative_shapes(instance, device, &features, &extensions);
        let name = text(&p.core.device_name);
        let kind = kind(p.core.device_type);
        let info = DeviceInfo {
            backend: Backend::Vulkan,
            driver: format!("{} {}", text(&p.v12.driver_name), text(&p.v12.driver_info)).trim().to_string(),
            kind,
            memory: memory_info(instance, device, &memory, kind, &extensions),
            subgroup: subgroup(&p, &features),
            features: features_of(&p, &features, &extensions, ticks, matrices),
            limits: limits(&p),
            shader: ShaderFormat::Spirv(1, 3),
            name: name.clone(),
        };
        Ok(Capabilities {
            info,
            discrete: false,
            version,
            extensions,
            features,
            queue_family: queue_family as u32,
            queues: families[queue_family].queue_count,
            memory,
            ticks,
            quirks: Quirks::of(p.v12.driver_id),
            group_subgroups: p.subgroup.max_compute_workgroup_subgroups,
            cache_identity: (p.core.vendor_id, p.core.device_id, p.core.pipeline_cache_uuid),
            identity: (p.v11.device_uuid, p.v11.driver_uuid, name),
        })
    }
}

impl Capabilities {
    /// The same device with memory that the host does not see.
    pub(crate) fn discrete(self) -> Capabilities {
        Capabilities { info: self.info.discrete(), discrete: true, ..self }
    }
}

fn kind(device: vk::PhysicalDeviceType) -> DeviceKind {
    match device {
        vk::PhysicalDeviceType::DISCRETE_GPU => DeviceKind::Discrete,
        vk::PhysicalDeviceType::INTEGRATED_GPU => DeviceKind::Integrated,
        vk::PhysicalDeviceType::CPU => DeviceKind::Cpu,
        _ => DeviceKind::Virtual,
    }
}

/// The largest heap that the device calls its own.
pub(crate) fn main_heap(memory: &vk::PhysicalDeviceMemoryProperties) -> u32 {
    let heaps = memory.memory_heaps_as_slice().iter().enumerate();
    let local = heaps.filter(|(_, heap)| heap.flags.contains(vk::MemoryHeapFlags::DEVICE_LOCAL));
    local.max_by_key(|(_, heap)| heap.size).map_or(0, |(index, _)| index as u32)
}

/// Budget and use of a heap by this process, in bytes.
pub(crate) fn budget(instance: &Instance, device: vk::PhysicalDevice, heap: u32) -> (u64, u64) {
    let mut budget = vk::PhysicalDeviceMemoryBudgetPropertiesEXT::default();
    let mut head = vk::PhysicalDeviceMemoryProperties2::default().push_next(&mut budget);
    // SAFETY: the device belongs to the instance and has the extension (callers look).
    unsafe { instance.raw.get_physical_device_memory_properties2(device, &mut head) };
    (budget.heap_budget[heap as usize], budget.heap_usage[heap as usize])
}

fn memory_info(
    instance: &Instance,
    device: vk::PhysicalDevice,
    memory: &vk::PhysicalDeviceMemoryProperties,
    kind: DeviceKind,
    extensions: &Extensions,
) -> MemoryInfo {
    use vk::MemoryPropertyFlags as F;
    let heap = main_heap(memory);
    let both = F::DEVICE_LOCAL | F::HOST_VISIBLE | F::HOST_COHERENT;
    let reachable =
        memory.memory_types_as_slice().iter().any(|t| t.heap_index == heap && t.property_flags.contains(both));
    MemoryInfo {
        unified: matches!(kind, DeviceKind::Integrated | DeviceKind::Cpu) && reachable,
        total: memory.memory_heaps[heap as usize].size,
        budget: extensions.has(ext::memory_budget::NAME).then(|| budget(instance, device, heap).0),
    }
}

fn subgroup(p: &Properties, features: &FeatureSet) -> Subgroup {
    let size = p.v11.subgroup_size;
    let selectable = features.subgroup.subgroup_size_control == vk::TRUE
        && p.subgroup.required_subgroup_size_stages.contains(vk::ShaderStageFlags::COMPUTE);
    match selectable {
        true => {
            Subgroup { size, min: p.subgroup.min_subgroup_size, max: p.subgroup.max_subgroup_size, selectable: true }
        }
        false => Subgroup { size, min: size, max: size, selectable: false },
    }
}

fn features_of(
    p: &Properties,
    features: &FeatureSet,
    extensions: &Extensions,
    ticks: Option<Ticks>,
    cooperative_matrix: Vec<CooperativeShape>,
) -> Features {
    use vk::SubgroupFeatureFlags as S;
    // What WGSL's subgroup built-ins become, less the quad operations, which compute kernels do without.
    let operations = S::BASIC | S::VOTE | S::ARITHMETIC | S::BALLOT | S::SHUFFLE | S::SHUFFLE_RELATIVE;
    Features {
        f16: features.v12.shader_float16 == vk::TRUE && features.v11.storage_buffer16_bit_access == vk::TRUE,
        bf16: false,
        int_dot: features.dot.shader_integer_dot_product == vk::TRUE
            && p.dot.integer_dot_product4x8_bit_packed_signed_accelerated == vk::TRUE,
        subgroups: p.v11.subgroup_supported_stages.contains(vk::ShaderStageFlags::COMPUTE)
            && p.v11.subgroup_supported_operations.contains(operations),
        cooperative_matrix,
        host_import: extensions.has(ext::external_memory_host::NAME),
        timestamp_ns: ticks.map(|_| f64::from(p.core.limits.timestamp_period)),
    }
}

fn limits(p: &Properties) -> Limits {
    let l = &p.core.limits;
    // 0 stands for "not told".
    let told = |n: u64| if n == 0 { u64::MAX } else { n };
    Limits {
        groups: l.max_compute_work_group_count,
        group_size: l.max_compute_work_group_size,
        group_threads: l.max_compute_work_group_invocations,
        group_memory: l.max_compute_shared_memory_size,
        constants: l.max_push_constants_size,
        bindings: p
            .push
            .max_push_descriptors
            .min(l.max_per_stage_descriptor_storage_buffers)
            .min(l.max_per_stage_resources),
        storage_alignment: l.min_storage_buffer_offset_alignment,
        uniform_alignment: l.min_uniform_buffer_offset_alignment,
        buffer: told(p.sizes.max_buffer_size).min(told(p.v11.max_memory_allocation_size)),
        binding: u64::from(l.max_storage_buffer_range),
        import_alignment: p.host.min_imported_host_pointer_alignment.max(1),
    }
}

fn component(kind: vk::ComponentTypeKHR) -> Option<&'static str> {
    Some(match kind {
        vk::ComponentTypeKHR::FLOAT16 => "f16",
        vk::ComponentTypeKHR::FLOAT32 => "f32",
        vk::ComponentTypeKHR::FLOAT64 => "f64",
        vk::ComponentTypeKHR::SINT8 => "i8",
        vk::ComponentTypeKHR::UINT8 => "u8",
        vk::ComponentTypeKHR::SINT32 => "i32",
        vk::ComponentTypeKHR::UINT32 => "u32",
        _ => return None,
    })
}

fn cooperative_shapes(
    instance: &Instance,
    device: vk::PhysicalDevice,
    features: &FeatureSet,
    extensions: &Extensions,
) -> Vec<CooperativeShape> {
    if !extensions.has(khr::cooperative_matrix::NAME) || features.matrix.cooperative_matrix == vk::FALSE {
        return Vec::new();
    }
    let functions = khr::cooperative_matrix::Instance::new(&instance.entry, &instance.raw);
    // SAFETY: the device belongs to the instance and has the extension.
    let list = unsafe { functions.get_physical_device_cooperative_matrix_properties(device) }.unwrap_or_default();
    let mut shapes: Vec<CooperativeShape> = Vec::new();
    for shape in list {
        if shape.scope != vk::ScopeKHR::SUBGROUP || shape.a_type != shape.b_type || shape.c_type != shape.result_type {
            continue;
        }
        let (Some(input), Some(output)) = (component(shape.a_type), component(shape.c_type)) else { continue };
        let shape = CooperativeShape { m: shape.m_size, n: shape.n_size, k: shape.k_size, input, output };
        if !shapes.contains(&shape) {
            shapes.push(shape);
        }
    }
    shapes
}
