//! Barriers between the commands of a recording.
//!
//! A barrier is asked for before it is known what follows. One towards every kind of command makes kernels wait for more
//! than they need: indirect grids are read by another part of the device, which costs 1.7 µs a barrier on an H100. So what
//! a barrier owes to each kind is kept, and paid when a command of that kind comes.

use ash::vk;

use super::device::Gpu;

/// What a command does: the stage in which it runs, and how it reads there.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Work {
    Kernel,
    /// Reads a grid, before the kernel.
    Indirect,
    Transfer,
}

const ALL: [Work; 3] = [Work::Kernel, Work::Indirect, Work::Transfer];

impl Work {
    fn stage(self) -> vk::PipelineStageFlags {
        match self {
            Work::Kernel => vk::PipelineStageFlags::COMPUTE_SHADER,
            Work::Indirect => vk::PipelineStageFlags::DRAW_INDIRECT,
            Work::Transfer => vk::PipelineStageFlags::TRANSFER,
        }
    }

    fn reads(self) -> vk::AccessFlags {
        match self {
            Work::Kernel => vk::AccessFlags::SHADER_READ | vk::AccessFlags::UNIFORM_READ,
            Work::Indirect => vk::AccessFlags::INDIRECT_COMMAND_READ,
            Work::Transfer => vk::AccessFlags::TRANSFER_READ,
        }
    }

    fn writes(self) -> vk::AccessFlags {
        match self {
            Work::Kernel => vk::AccessFlags::SHADER_WRITE,
            Work::Indirect => vk::AccessFlags::empty(),
            Work::Transfer => vk::AccessFlags::TRANSFER_WRITE,
        }
    }
}

/// Kinds of work.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Kinds([bool; ALL.len()]);

impl Kinds {
    fn each(self) -> impl Iterator<Item = Work> {
        ALL.into_iter().filter(move |work| self.0[*work as usize])
    }

    fn add(&mut self, other: Kinds) {
        self.0.iter_mut().zip(other.0).for_each(|(own, other)| *own |= other);
    }

    fn stages(self) -> vk::PipelineStageFlags {
        self.each().fold(vk::PipelineStageFlags::empty(), |all, work| all | work.stage())
    }

    fn reads(self) -> vk::AccessFlags {
        self.each().fold(vk::AccessFlags::empty(), |all, work| all | work.reads())
    }

    fn writes(self) -> vk::AccessFlags {
        self.each().fold(vk::AccessFlags::empty(), |all, work| all | work.writes())
    }
}

const EVERY: Kinds = Kinds([true; ALL.len()]);

/// What was recorded since the last barrier, and what barriers owe to each kind of work.
#[derive(Debug, Default)]
pub(crate) struct Order {
    open: Kinds,
    owed: [Kinds; ALL.len()],
}

impl Order {
    /// Records a barrier between everything before and everything after, whatever its kind.
    pub(crate) fn full_barrier(&mut self, gpu: &Gpu, commands: vk::CommandBuffer) {
        *self = Order::default();
        let (reads, writes) = (EVERY.reads(), EVERY.writes());
        record(gpu, commands, [EVERY.stages(); 2], [writes, reads | writes]);
    }

    /// What comes waits for what was recorded.
    pub(crate) fn barrier(&mut self) {
        let open = std::mem::take(&mut self.open);
        self.owed.iter_mut().for_each(|owed| owed.add(open));
    }

    /// Notes a command about to be recorded, and records the barrier that it needs.
    pub(crate) fn before(&mut self, gpu: &Gpu, commands: vk::CommandBuffer, kind: &[Work]) {
        for work in kind {
            let owed = std::mem::take(&mut self.owed[*work as usize]);
            self.open.0[*work as usize] = true;
            if owed == Kinds::default() {
                continue;
            }
            record(gpu, commands, [owed.stages(), work.stage()], [owed.writes(), work.reads() | work.writes()]);
        }
    }
}

/// Orders everything before against what the host does once it knows that the submission has ended.
pub(crate) fn host_barrier(gpu: &Gpu, commands: vk::CommandBuffer) {
    let host = vk::AccessFlags::HOST_READ | vk::AccessFlags::HOST_WRITE;
    record(gpu, commands, [EVERY.stages(), vk::PipelineStageFlags::HOST], [EVERY.writes(), host]);
}

/// A memory barrier from the first stages and accesses to the second.
fn record(
    gpu: &Gpu,
    commands: vk::CommandBuffer,
    [before, after]: [vk::PipelineStageFlags; 2],
    [made, seen]: [vk::AccessFlags; 2],
) {
    let memory = [vk::MemoryBarrier::default().src_access_mask(made).dst_access_mask(seen)];
    // SAFETY: the command buffer is being recorded by this thread.
    unsafe { gpu.raw.cmd_pipeline_barrier(commands, before, after, vk::DependencyFlags::empty(), &memory, &[], &[]) };
}
