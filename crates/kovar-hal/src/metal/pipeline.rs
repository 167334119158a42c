use objc2::available;
use objc2::rc::{Retained, autoreleasepool};
use objc2::runtime::ProtocolObject;
use objc2_foundation::NSString;
use objc2_metal::{
    MTLCompileOptions, MTLComputePipelineDescriptor, MTLComputePipelineState, MTLDevice, MTLFunction,
    MTLLanguageVersion, MTLLibrary, MTLMathFloatingPointFunctions, MTLMathMode, MTLPipelineOption,
};

use super::archive::Archives;
use super::facts::{group_memory, refuse, require};
use super::list::{Object, PipelineRecord};
use super::object::{Metal, leak, release, text};
use crate::{Code, DeviceInfo, PipelineDesc, RawPipeline, Result, ShaderFormat};

/// What makes pipelines.
pub(crate) struct Compiler<'a> {
    pub(crate) device: &'a Metal<dyn MTLDevice>,
    pub(crate) info: &'a DeviceInfo,
    pub(crate) archives: &'a Archives,
}

impl Compiler<'_> {
    pub(crate) fn create(&self, desc: &PipelineDesc<'_>) -> Result<RawPipeline> {
        let Code::Msl { source, constants_index, sizes_index, sized } = &desc.code else {
            return Err(refuse(desc, "Metal takes MSL; translate the kernel to it"));
        };
        let indices = [desc.constants > 0].into_iter().filter(|used| *used).map(|_| *constants_index);
        require(desc, &indices.chain(*sizes_index).collect::<Vec<_>>(), self.info)?;
        let group_memory = group_memory(desc);
        let state = autoreleasepool(|_| {
            let function = self.function(desc, source)?;
            self.state(desc, &function, group_memory.iter().sum())
        })?;
        Ok(RawPipeline(Box::into_raw(Box::new(PipelineRecord {
            state,
            group_size: desc.group_size,
            constants_index: *constants_index,
            sizes_index: *sizes_index,
            sized: sized.clone(),
            group_memory,
        })) as usize))
    }

    /// In a pool.
    fn function(&self, desc: &PipelineDesc<'_>, source: &str) -> Result<Metal<dyn MTLFunction>> {
        let library = self
            .device
            .newLibraryWithSource_options_error(&NSString::from_str(source), Some(&self.options()))
            .map_err(|error| refuse(desc, text(&error)))?;
        library.setLabel(Some(&NSString::from_str(desc.label)));
        library.newFunctionWithName(&NSString::from_str(desc.entry)).ok_or_else(|| {
            let names: Vec<_> = library.functionNames().iter().map(|name| name.to_string()).collect();
            refuse(desc, format!("there is no kernel {:?} in the source, only {names:?}", desc.entry))
        })
    }

    /// IEEE arithmetic with precise functions: what MLX compiles its kernels with (`-fno-fast-math`), so that results agree
    /// with it, infinities of attention masks included. A kernel that wants less says `fast::` itself. In a pool.
    fn options(&self) -> Retained<MTLCompileOptions> {
        let options = MTLCompileOptions::new();
        if let ShaderFormat::Msl(major, minor) = self.info.shader {
            options.setLanguageVersion(MTLLanguageVersion((usize::from(major) << 16) + usize::from(minor)));
        }
        if available!(macos = 15.0, ios = 18.0, tvos = 18.0, visionos = 2.0) {
            options.setMathMode(MTLMathMode::Safe);
            options.setMathFloatingPointFunctions(MTLMathFloatingPointFunctions::Precise);
        } else {
            #[allow(deprecated, reason = "the only way before macOS 15")]
            options.setFastMathEnabled(false);
        }
        options
    }

    /// In a pool.
    fn state(
        &self,
        desc: &PipelineDesc<'_>,
        function: &ProtocolObject<dyn MTLFunction>,
        memory: u32,
    ) -> Result<Object> {
        let threads: u32 = desc.group_size.iter().product();
        let wanted = MTLComputePipelineDescriptor::new();
        wanted.setLabel(Some(&NSString::from_str(desc.label)));
        wanted.setComputeFunction(Some(function));
        wanted.setMaxTotalThreadsPerThreadgroup(threads as usize);
        let whole = threads.is_multiple_of(self.info.subgroup.size);
        // SAFETY: every dispatch uses `group_size`, which is a multiple of the execution width if we say so; that the width
        // is what we think is checked below.
        unsafe { wanted.setThreadGroupSizeIsMultipleOfThreadExecutionWidth(whole) };
        self.archives.offer(&wanted);
        let none = MTLPipelineOption::None;
        let state = self
            .device
            .newComputePipelineStateWithDescriptor_options_reflection_error(&wanted, none, None)
            .map_err(|error| refuse(desc, text(&error)))?;
        let (width, most) = (state.threadExecutionWidth(), state.maxTotalThreadsPerThreadgroup());
        if width != self.info.subgroup.size as usize {
            return Err(refuse(desc, format!("its subgroups have {width} threads, not {}", self.info.subgroup.size)));
        }
        if most < threads as usize {
            return Err(refuse(desc, format!("its workgroups have at most {most} threads, not {threads}")));
        }
        let memory = memory as usize + state.staticThreadgroupMemoryLength();
        if memory > self.info.limits.group_memory as usize {
            let reason = format!("it takes {memory} bytes of workgroup memory of {}", self.info.limits.group_memory);
            return Err(refuse(desc, reason));
        }
        let state = leak(state);
        self.archives.made(state, wanted);
        Ok(state)
    }

    /// # Safety
    /// The pipeline came from `create`, is destroyed once, and nothing uses it.
    pub(crate) unsafe fn destroy(&self, pipeline: RawPipeline) {
        // SAFETY: `create` leaked this box.
        let record = unsafe { Box::from_raw(pipeline.0 as *mut PipelineRecord) };
        self.archives.gone(record.state);
        // SAFETY: `create` leaked this reference into the record.
        autoreleasepool(|_| unsafe { release::<dyn MTLComputePipelineState>(record.state) });
    }
}
