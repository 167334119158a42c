//! What Metal tells of a device, as the description that the layer above reads, and what a kernel must keep of it.

use super::call::{ARGUMENTS, BYTES};
use crate::{
    Backend, CooperativeShape, DeviceInfo, DeviceKind, Features, HalError, Limits, MemoryInfo, PipelineDesc,
    ShaderFormat, Subgroup,
};

/// Answers of `MTLDevice` and of the system.
#[derive(Debug, Clone)]
pub(crate) struct Facts {
    pub(crate) name: String,
    /// The operating system's name for its version.
    pub(crate) system: String,
    /// Number of the newest Apple family that the GPU supports: 7 is M1.
    pub(crate) family: u8,
    /// The newest shading language that the system compiles.
    pub(crate) language: (u8, u8),
    pub(crate) unified: bool,
    pub(crate) working_set: u64,
    pub(crate) allocated: u64,
    pub(crate) largest_buffer: u64,
    pub(crate) group_size: [u32; 3],
    pub(crate) group_memory: u32,
    /// Whether counters are sampled where passes begin and end.
    pub(crate) timestamps: bool,
    pub(crate) page: u64,
}

impl Facts {
    /// Numbers that Metal does not tell come from Apple's "Metal feature set tables".
    pub(crate) fn describe(&self) -> DeviceInfo {
        let (major, minor) = self.language;
        DeviceInfo {
            backend: Backend::Metal,
            name: self.name.clone(),
            driver: format!("Metal {major}.{minor}, Apple{}, {}", self.family, self.system),
            kind: if self.unified { DeviceKind::Integrated } else { DeviceKind::Discrete },
            memory: MemoryInfo {
                unified: self.unified,
                total: self.working_set,
                budget: Some(self.working_set.saturating_sub(self.allocated)),
            },
            // Every Apple GPU executes 32 threads together; `create_pipeline` checks it.
            subgroup: Subgroup { size: 32, min: 32, max: 32, selectable: false },
            features: self.features(),
            limits: self.limits(),
            shader: ShaderFormat::Msl(major, minor),
        }
    }

    fn features(&self) -> Features {
        let shape = |input, output| CooperativeShape { m: 8, n: 8, k: 8, input, output };
        Features {
            f16: true,
            // `bfloat` is of Metal 3.1; before Apple9 its arithmetic is that of f32.
            bf16: self.language >= (3, 1) && self.family >= 9,
            int_dot: false,
            subgroups: true,
            cooperative_matrix: vec![shape("f16", "f16"), shape("f16", "f32"), shape("f32", "f32")],
            host_import: true,
            // A tick of the GPU's clock, in which counter samples are, is a nanosecond on Apple silicon.
            timestamp_ns: self.timestamps.then_some(1.0),
        }
    }

    fn limits(&self) -> Limits {
        Limits {
            // Metal names no limit. `thread_position_in_grid` is 32 bits wide, and a workgroup has 1024 threads at most.
            groups: [u32::MAX / 1024; 3],
            group_size: self.group_size,
            // Of the device; `create_pipeline` refuses a kernel whose registers do not allow its workgroup.
            group_threads: 1024,
            group_memory: self.group_memory,
            // Less than that, in whole words.
            constants: BYTES as u32 - 4,
            // Buffer arguments of a kernel, less one for inline constants and one for sizes.
            bindings: ARGUMENTS as u32 - 2,
            // "Align the offset to the data type", at most 16, says Apple of the device address space; 4 is the table's
            // least. A kernel that reads vectors wants the alignment of its vectors, which only its own source tells.
            storage_alignment: 4,
            // The table has 4 for Apple GPUs and up to 256 for others on macOS.
            uniform_alignment: 256,
            buffer: self.largest_buffer,
            binding: self.largest_buffer,
            import_alignment: self.page,
        }
    }
}

/// Refuses a pipeline.
pub(crate) fn refuse(desc: &PipelineDesc<'_>, reason: impl Into<String>) -> HalError {
    HalError::Pipeline { label: desc.label.into(), reason: reason.into() }
}

/// Bytes of the threadgroup arguments of a kernel, as Metal takes them: multiples of 16.
pub(crate) fn group_memory(desc: &PipelineDesc<'_>) -> Vec<u32> {
    desc.group_memory.iter().map(|len| len.next_multiple_of(16)).collect()
}

/// What can be said against a kernel without compiling it. `indices` are buffer indices beside those of its bindings.
pub(crate) fn require(desc: &PipelineDesc<'_>, indices: &[u32], info: &DeviceInfo) -> Result<(), HalError> {
    let (limits, width) = (&info.limits, info.subgroup.size);
    let threads: u64 = desc.group_size.iter().map(|n| u64::from(*n)).product();
    if threads == 0 || threads > u64::from(limits.group_threads) {
        return Err(refuse(desc, format!("a workgroup has 1 to {} threads, not {threads}", limits.group_threads)));
    }
    let memory: u64 = group_memory(desc).iter().map(|len| u64::from(*len)).sum();
    if memory > u64::from(limits.group_memory) {
        return Err(refuse(desc, format!("it takes {memory} bytes of workgroup memory of {}", limits.group_memory)));
    }
    let arguments = desc.bindings.len().max(desc.group_memory.len());
    if arguments > ARGUMENTS || indices.iter().any(|index| *index as usize >= ARGUMENTS) {
        return Err(refuse(desc, format!("argument indices are 0 to {}; bind fewer buffers", ARGUMENTS - 1)));
    }
    match desc.subgroup {
        Some(wanted) if wanted != width => {
            Err(refuse(desc, format!("a subgroup has {width} threads on this device, not {wanted}")))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{BindingKind, Code};

    fn m1() -> DeviceInfo {
        let facts = Facts {
            name: "Apple M1".into(),
            system: "Version 15.1".into(),
            family: 7,
            language: (3, 2),
            unified: true,
            working_set: 10 << 30,
            allocated: 1 << 30,
            largest_buffer: 8 << 30,
            group_size: [1024; 3],
            group_memory: 32 << 10,
            timestamps: true,
            page: 16 << 10,
        };
        assert!(!facts.describe().features.bf16);
        assert!(Facts { family: 9, ..facts.clone() }.describe().features.bf16);
        facts.describe()
    }

    #[test]
    fn a_device_is_described_by_what_metal_tells() {
        let info = m1();
        assert_eq!(info.driver, "Metal 3.2, Apple7, Version 15.1");
        assert_eq!(info.memory.budget, Some(9 << 30));
        assert_eq!((info.kind, info.shader), (DeviceKind::Integrated, ShaderFormat::Msl(3, 2)));
        assert_eq!((info.limits.import_alignment, info.limits.bindings), (16 << 10, 29));
    }

    #[test]
    fn what_metal_would_refuse_is_refused_with_a_reason() {
        let (info, bindings) = (m1(), [BindingKind::Read; 32]);
        let desc = |group_size, group_memory, bindings: usize, subgroup| PipelineDesc {
            label: "kernel",
            code: Code::None,
            entry: "main_",
            bindings: &[BindingKind::Read; 32][..bindings],
            constants: 0,
            group_size,
            group_memory,
            subgroup,
        };
        let reason = |desc: PipelineDesc<'_>, indices: &[u32]| match require(&desc, indices, &info) {
            Err(error) => error.to_string(),
            Ok(()) => String::new(),
        };
        assert_eq!(bindings.len(), 32);
        assert_eq!(reason(desc([256, 4, 1], &[32 << 10], 29, Some(32)), &[29, 30]), "");
        assert!(reason(desc([256, 8, 1], &[], 1, None), &[]).contains("not 2048"));
        assert!(reason(desc([32, 0, 1], &[], 1, None), &[]).contains("not 0"));
        assert!(reason(desc([32, 1, 1], &[32 << 10, 1], 1, None), &[]).contains("32784 bytes"));
        assert!(reason(desc([32, 1, 1], &[], 32, None), &[]).contains("0 to 30"));
        assert!(reason(desc([32, 1, 1], &[], 1, None), &[31]).contains("0 to 30"));
        assert!(reason(desc([32, 1, 1], &[], 1, Some(16)), &[]).contains("not 16"));
        assert_eq!(group_memory(&desc([1; 3], &[1, 16, 17], 0, None)), [16, 16, 32]);
    }
}
