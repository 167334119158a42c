use std::sync::Arc;

use super::kernel::CpuKernel;
use crate::{BindingKind, Code, HalError, PipelineDesc, Result};

pub(crate) struct CpuPipeline {
    pub(crate) kernel: Arc<dyn CpuKernel>,
    pub(crate) label: String,
    pub(crate) group_size: [u32; 3],
    pub(crate) writable: Vec<bool>,
}

impl CpuPipeline {
    pub(crate) fn new(desc: &PipelineDesc<'_>) -> Result<CpuPipeline> {
        let Code::Cpu(kernel) = &desc.code else {
            return Err(HalError::Pipeline {
                label: desc.label.into(),
                reason: "the CPU runs Rust functions; give the kernel one".into(),
            });
        };
        Ok(CpuPipeline {
            kernel: kernel.clone(),
            label: desc.label.into(),
            group_size: desc.group_size,
            writable: desc.bindings.iter().map(|kind| *kind == BindingKind::Write).collect(),
        })
    }
}
