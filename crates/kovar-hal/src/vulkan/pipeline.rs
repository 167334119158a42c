use std::ffi::CString;
use std::sync::PoisonError;

use ash::vk;

use super::device::Gpu;
use crate::{BindingKind, Code, HalError, PipelineDesc, RawPipeline, Result};

/// What a `RawPipeline` points to.
#[derive(Clone, Copy)]
pub(crate) struct Pipeline {
    pub(crate) raw: vk::Pipeline,
    pub(crate) layout: vk::PipelineLayout,
    pub(crate) set: vk::DescriptorSetLayout,
    /// Writes all slots from an array of `VkDescriptorBufferInfo`; null if there are no slots.
    pub(crate) template: vk::DescriptorUpdateTemplate,
    pub(crate) slots: u32,
    /// Bytes of push constants.
    pub(crate) constants: u32,
}

impl Pipeline {
    /// # Safety
    /// The pipeline is alive, and stays so while the reference does.
    pub(crate) unsafe fn get<'a>(pipeline: RawPipeline) -> &'a Pipeline {
        // SAFETY: the handle is a box that `create_pipeline` leaked; the caller vouches that it was not taken back.
        unsafe { &*(pipeline.0 as *const Pipeline) }
    }
}

const SPIRV_MAGIC: u32 = 0x0723_0203;
const OP_ENTRY_POINT: u32 = 15;
const OP_FUNCTION: u32 = 54;
const OP_FUNCTION_END: u32 = 56;
const MODEL_GL_COMPUTE: u32 = 5;

/// Reads as much of a SPIR-V module as tells a whole one from garbage: header, instruction lengths, functions that end,
/// the entry point. Drivers, and the validation layer too, trust these and crash.
fn inspect(words: &[u32], version: (u8, u8), entry: &str) -> std::result::Result<(), String> {
    let [SPIRV_MAGIC, stated, _, _, _, ..] = *words else { return Err("this is not SPIR-V".into()) };
    let stated = ((stated >> 16) as u8, (stated >> 8) as u8);
    if stated > version {
        let ((a, b), (c, d)) = (stated, version);
        return Err(format!("it is SPIR-V {a}.{b}, and the device takes up to {c}.{d}"));
    }
    let mut at = 5;
    let (mut found, mut open, mut functions) = (false, false, 0u32);
    while let Some(&first) = words.get(at) {
        let (length, opcode) = ((first >> 16) as usize, first & 0xffff);
        let Some(instruction) = words.get(at..at + length).filter(|i| !i.is_empty()) else {
            return Err(format!("the instruction at word {at} is cut off"));
        };
        if let [_, MODEL_GL_COMPUTE, _, name @ ..] = instruction
            && opcode == OP_ENTRY_POINT
        {
            let bytes: Vec<u8> = name.iter().flat_map(|w| w.to_le_bytes()).take_while(|b| *b != 0).collect();
            found |= bytes == entry.as_bytes();
        }
        if matches!(opcode, OP_FUNCTION | OP_FUNCTION_END) {
            if open == (opcode == OP_FUNCTION) {
                return Err(format!("a function at word {at} is not closed, or closed twice"));
            }
            open = !open;
            functions += 1;
        }
        at += length;
    }
    match (open, found) {
        (true, _) => Err("its last function is cut off".into()),
        _ if functions == 0 => Err("it has no function".into()),
        (false, false) => Err(format!("it has no compute entry point {entry:?}")),
        (false, true) => Ok(()),
    }
}

/// Objects made on the way, destroyed unless all went well.
struct Parts<'a> {
    gpu: &'a Gpu,
    pipeline: Pipeline,
    module: vk::ShaderModule,
    complete: bool,
}

impl<'a> Parts<'a> {
    fn new(gpu: &'a Gpu, pipeline: Pipeline) -> Parts<'a> {
        Parts { gpu, pipeline, module: vk::ShaderModule::null(), complete: false }
    }

    fn finish(mut self) -> Pipeline {
        self.complete = true;
        self.pipeline
    }
}

impl Drop for Parts<'_> {
    fn drop(&mut self) {
        // SAFETY: the module is used by no call any more; null handles are ignored.
        unsafe { self.gpu.raw.destroy_shader_module(self.module, None) };
        if !self.complete {
            self.gpu.free_pipeline(&self.pipeline);
        }
    }
}

fn descriptor(kind: BindingKind) -> vk::DescriptorType {
    match kind {
        BindingKind::Read | BindingKind::Write => vk::DescriptorType::STORAGE_BUFFER,
        BindingKind::Uniform => vk::DescriptorType::UNIFORM_BUFFER,
    }
}

impl Gpu {
    pub(crate) fn create_pipeline(&self, desc: &PipelineDesc<'_>) -> Result<RawPipeline> {
        let refuse = |reason: String| HalError::Pipeline { label: desc.label.into(), reason };
        let Code::Spirv(words) = &desc.code else {
            return Err(refuse("Vulkan takes SPIR-V; translate the kernel to it".into()));
        };
        let crate::ShaderFormat::Spirv(major, minor) = self.capabilities.info.shader else {
            return Err(refuse("the device takes no SPIR-V".into()));
        };
        inspect(words, (major, minor), desc.entry).map_err(refuse)?;
        let entry = CString::new(desc.entry).map_err(|_| refuse("the entry point's name holds a zero".into()))?;
        let fail = |call: &'static str| move |e: vk::Result| self.pipeline_failure(call, e, desc.label);
        let mut parts = Parts::new(self, self.layout(desc)?);
        // SAFETY: the device is alive and the words were looked over, here and below.
        parts.module =
            unsafe { self.raw.create_shader_module(&vk::ShaderModuleCreateInfo::default().code(words), None) }
                .map_err(fail("vkCreateShaderModule"))?;
        let mut width = vk::PipelineShaderStageRequiredSubgroupSizeCreateInfo::default();
        let mut stage = vk::PipelineShaderStageCreateInfo::default()
            .stage(vk::ShaderStageFlags::COMPUTE)
            .module(parts.module)
            .name(&entry);
        if let Some((size, full)) = self.required_width(desc)? {
            width.required_subgroup_size = size;
            stage = stage.push_next(&mut width);
            if full {
                stage = stage.flags(vk::PipelineShaderStageCreateFlags::REQUIRE_FULL_SUBGROUPS);
            }
        }
        let info = [vk::ComputePipelineCreateInfo::default().stage(stage).layout(parts.pipeline.layout)];
        {
            let cache = self.cache.read().unwrap_or_else(PoisonError::into_inner);
            // SAFETY: as above; the cache may be used by several threads at once, but not while it is merged into.
            let made = unsafe { self.raw.create_compute_pipelines(*cache, &info, None) };
            parts.pipeline.raw =
                made.map_err(|(_, e)| fail("vkCreateComputePipelines")(e))?.first().copied().unwrap_or_default();
        }
        self.name(parts.pipeline.raw, desc.label);
        Ok(RawPipeline(Box::into_raw(Box::new(parts.finish())) as usize))
    }

    fn pipeline_failure(&self, call: &'static str, result: vk::Result, label: &str) -> HalError {
        match self.failure(call, result, label) {
            lost @ HalError::DeviceLost { .. } => lost,
            _ => HalError::Pipeline { label: label.into(), reason: format!("{call}: {result}") },
        }
    }

    /// The subgroup width to require, and whether all subgroups must be full, if a width is asked for and selectable.
    fn required_width(&self, desc: &PipelineDesc<'_>) -> Result<Option<(u32, bool)>> {
        let (Some(size), subgroup) = (desc.subgroup, self.capabilities.info.subgroup) else { return Ok(None) };
        if !subgroup.selectable {
            return Ok(None);
        }
        let threads = desc.group_size.iter().product::<u32>();
        let fits = threads.div_ceil(size.max(1)) <= self.capabilities.group_subgroups;
        if !size.is_power_of_two() || !(subgroup.min..=subgroup.max).contains(&size) || !fits {
            let (min, max) = (subgroup.min, subgroup.max);
            return Err(HalError::Unsupported {
                what: "the subgroup width",
                reason: format!("{:?} asks for {size} with {threads} threads; widths are {min} to {max}", desc.label),
            });
        }
        let full = self.capabilities.features.subgroup.compute_full_subgroups == vk::TRUE;
        Ok(Some((size, full && desc.group_size[0].is_multiple_of(size))))
    }

    /// All but the compiled code.
    fn layout(&self, desc: &PipelineDesc<'_>) -> Result<Pipeline> {
        let fail = |call: &'static str| move |e: vk::Result| self.pipeline_failure(call, e, desc.label);
        let pipeline = Pipeline {
            raw: vk::Pipeline::null(),
            layout: vk::PipelineLayout::null(),
            set: vk::DescriptorSetLayout::null(),
            template: vk::DescriptorUpdateTemplate::null(),
            slots: desc.bindings.len() as u32,
            constants: desc.constants,
        };
        let mut parts = Parts::new(self, pipeline);
        let slots: Vec<_> = (0..).zip(desc.bindings).map(|(slot, kind)| slot_binding(slot, *kind)).collect();
        let set = vk::DescriptorSetLayoutCreateInfo::default()
            .flags(vk::DescriptorSetLayoutCreateFlags::PUSH_DESCRIPTOR_KHR)
            .bindings(&slots);
        // SAFETY: the device is alive and all that the structures point to as well, here and below.
        parts.pipeline.set = unsafe { self.raw.create_descriptor_set_layout(&set, None) }
            .map_err(fail("vkCreateDescriptorSetLayout"))?;
        let constants = [vk::PushConstantRange::default()
            .stage_flags(vk::ShaderStageFlags::COMPUTE)
            .size(desc.constants.next_multiple_of(4))];
        let sets = [parts.pipeline.set];
        let layout = vk::PipelineLayoutCreateInfo::default()
            .set_layouts(&sets)
            .push_constant_ranges(if desc.constants > 0 { &constants } else { &[] });
        // SAFETY: as above.
        parts.pipeline.layout =
            unsafe { self.raw.create_pipeline_layout(&layout, None) }.map_err(fail("vkCreatePipelineLayout"))?;
        if !slots.is_empty() {
            parts.pipeline.template = self.template(desc, parts.pipeline.layout)?;
        }
        Ok(parts.finish())
    }

    fn template(&self, desc: &PipelineDesc<'_>, layout: vk::PipelineLayout) -> Result<vk::DescriptorUpdateTemplate> {
        let stride = size_of::<vk::DescriptorBufferInfo>();
        let entries: Vec<_> = (0u32..)
            .zip(desc.bindings)
            .map(|(slot, kind)| {
                vk::DescriptorUpdateTemplateEntry::default()
                    .dst_binding(slot)
                    .descriptor_count(1)
                    .descriptor_type(descriptor(*kind))
                    .offset(slot as usize * stride)
                    .stride(stride)
            })
            .collect();
        let info = vk::DescriptorUpdateTemplateCreateInfo::default()
            .descriptor_update_entries(&entries)
            .template_type(vk::DescriptorUpdateTemplateType::PUSH_DESCRIPTORS_KHR)
            .pipeline_bind_point(vk::PipelineBindPoint::COMPUTE)
            .pipeline_layout(layout)
            .set(0);
        // SAFETY: the layout was just made.
        unsafe { self.raw.create_descriptor_update_template(&info, None) }
            .map_err(|e| self.pipeline_failure("vkCreateDescriptorUpdateTemplate", e, desc.label))
    }

    /// # Safety
    /// As for `Device::destroy_pipeline`.
    pub(crate) unsafe fn destroy_pipeline(&self, pipeline: RawPipeline) {
        // SAFETY: the handle is the box that `create_pipeline` leaked, and this is its only release.
        let pipeline = unsafe { Box::from_raw(pipeline.0 as *mut Pipeline) };
        self.free_pipeline(&pipeline);
    }

    fn free_pipeline(&self, pipeline: &Pipeline) {
        // SAFETY: whoever gives the pipeline up vouches that nothing uses it; null handles are ignored.
        unsafe {
            self.raw.destroy_pipeline(pipeline.raw, None);
            self.raw.destroy_descriptor_update_template(pipeline.template, None);
            self.raw.destroy_pipeline_layout(pipeline.layout, None);
            self.raw.destroy_descriptor_set_layout(pipeline.set, None);
        }
    }

    pub(crate) fn pipeline_cache(&self) -> Vec<u8> {
        let cache = self.cache.read().unwrap_or_else(PoisonError::into_inner);
        // SAFETY: the cache is alive.
        unsafe { self.raw.get_pipeline_cache_data(*cache) }.unwrap_or_default()
    }

    pub(crate) fn load_pipeline_cache(&self, bytes: &[u8]) -> Result<()> {
        if !self.is_own_cache(bytes) {
            return Ok(());
        }
        let cache = self.cache.write().unwrap_or_else(PoisonError::into_inner);
        let info = vk::PipelineCacheCreateInfo::default().initial_data(bytes);
        // SAFETY: the device is alive, and the lock keeps every other user of the cache out.
        let merged = unsafe {
            self.raw.create_pipeline_cache(&info, None).and_then(|loaded| {
                let merged = self.raw.merge_pipeline_caches(*cache, &[loaded]);
                self.raw.destroy_pipeline_cache(loaded, None);
                merged
            })
        };
        merged.map_err(|e| self.failure("vkMergePipelineCaches", e, "pipeline cache"))
    }

    /// Compares the header: length, version 1, vendor, device, cache identifier. Drivers ought to, and some crash.
    fn is_own_cache(&self, bytes: &[u8]) -> bool {
        let word = |at: usize| bytes.get(at..at + 4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]));
        let (vendor, device, identifier) = &self.capabilities.cache_identity;
        word(0).is_some_and(|n| n as usize >= 32)
            && word(4) == Some(vk::PipelineCacheHeaderVersion::ONE.as_raw() as u32)
            && word(8) == Some(*vendor)
            && word(12) == Some(*device)
            && bytes.get(16..32) == Some(identifier.as_slice())
    }
}

fn slot_binding(slot: u32, kind: BindingKind) -> vk::DescriptorSetLayoutBinding<'static> {
    vk::DescriptorSetLayoutBinding::default()
        .binding(slot)
        .descriptor_type(descriptor(kind))
        .descriptor_count(1)
        .stage_flags(vk::ShaderStageFlags::COMPUTE)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Header, an entry point `main`, a function.
    const WHOLE: [u32; 18] = [
        SPIRV_MAGIC,
        0x0001_0300,
        0,
        9,
        0,
        (5 << 16) | OP_ENTRY_POINT,
        MODEL_GL_COMPUTE,
        1,
        u32::from_le_bytes(*b"main"),
        0,
        (5 << 16) | OP_FUNCTION,
        2,
        1,
        0,
        3,
        (2 << 16) | 248,
        4,
        (1 << 16) | OP_FUNCTION_END,
    ];

    #[test]
    fn a_whole_module_passes() {
        assert_eq!(inspect(&WHOLE, (1, 3), "main"), Ok(()));
        assert!(inspect(&WHOLE, (1, 2), "main").is_err_and(|reason| reason.contains("1.3")));
        assert!(inspect(&WHOLE, (1, 3), "mai").is_err_and(|reason| reason.contains("entry point")));
    }

    #[test]
    fn no_part_of_a_module_passes() {
        for length in 0..WHOLE.len() {
            assert!(inspect(&WHOLE[..length], (1, 3), "main").is_err(), "{length} words");
        }
        let mut swapped = WHOLE;
        swapped.iter_mut().for_each(|word| *word = word.swap_bytes());
        assert!(inspect(&swapped, (1, 3), "main").is_err());
        let mut endless = WHOLE;
        endless[5] = OP_ENTRY_POINT;
        assert!(inspect(&endless, (1, 3), "main").is_err_and(|reason| reason.contains("word 5")));
    }
}
