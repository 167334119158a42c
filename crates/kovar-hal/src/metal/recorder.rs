use std::sync::Arc;

use super::list::{Bound, Command, Dispatch, Groups, List, Object, PipelineRecord, Span};
use crate::{
    BindingKind, Code, CommandBuffer, DispatchCommand, Grid, PipelineDesc, RawBuffer, RawPipeline, Recorder,
    RecorderDesc, Result, Timing,
};

/// Threads of a workgroup of the fill kernel, and its largest grid: beyond it each thread fills several words.
const FILL_THREADS: u32 = 256;
const FILL_GROUPS: u64 = 1 << 14;

/// Metal's blit encoder fills with a byte; a word whose bytes differ takes this kernel.
const FILL_SOURCE: &str = "#include <metal_stdlib>
using namespace metal;
struct Fill { uint word; uint unused; ulong words; };
kernel void kovar_fill(device uint* out [[buffer(0)]], constant Fill& fill [[buffer(1)]],
                       uint at [[thread_position_in_grid]], uint stride [[threads_per_grid]]) {
    for (ulong i = at; i < fill.words; i += stride) { out[i] = fill.word; }
}
";

/// The pipeline that a recorder takes for fills.
pub(crate) fn fill_pipeline() -> PipelineDesc<'static> {
    PipelineDesc {
        label: "fill",
        code: Code::Msl { source: FILL_SOURCE.into(), constants_index: 1, sizes_index: None, sized: Vec::new() },
        entry: "kovar_fill",
        bindings: &[BindingKind::Write],
        constants: 16,
        group_size: [FILL_THREADS, 1, 1],
        group_memory: &[],
        subgroup: None,
    }
}

/// Makes a command buffer of a finished list.
pub(crate) type Finish = Box<dyn FnOnce(List) -> Result<Arc<dyn CommandBuffer>> + Send>;

/// Writes a packed list. Knows nothing of Metal but the rule of fills.
pub(crate) struct ListRecorder {
    list: List,
    fill: RawPipeline,
    finish: Finish,
}

impl ListRecorder {
    pub(crate) fn new(desc: &RecorderDesc<'_>, fill: RawPipeline, finish: Finish) -> ListRecorder {
        let list = List { label: desc.label.into(), timing: desc.timing, ..List::default() };
        ListRecorder { list, fill, finish }
    }

    #[cfg(test)]
    pub(crate) fn into_list(self) -> List {
        self.list
    }

    fn text(&mut self, text: &str) -> Span {
        let first = self.list.text.len() as u32;
        self.list.text.push_str(text);
        Span { first, len: text.len() as u32 }
    }

    fn bytes(&mut self, bytes: &[u8]) -> Span {
        let first = self.list.bytes.len() as u32;
        self.list.bytes.extend_from_slice(bytes);
        Span { first, len: bytes.len() as u32 }
    }

    /// Notes a command for [`List::timed`]; `false` if it has nothing to do, which Metal does not take as a command.
    fn executes(&mut self, work: bool) -> bool {
        if self.list.timing == Timing::Dispatches {
            self.list.timed.push(work.then_some(self.list.timed_passes));
            self.list.timed_passes += u32::from(work);
        }
        work
    }

    /// # Safety
    /// The pipeline of the command is alive.
    unsafe fn write(&mut self, command: &DispatchCommand<'_>) {
        let pipeline = command.pipeline.0 as *const PipelineRecord;
        // SAFETY: `RawPipeline` is the address of a record, which is alive (caller).
        let record = unsafe { &*pipeline };
        let first = self.list.bindings.len() as u32;
        self.list.bindings.extend(command.bindings.iter().map(|b| bound(b.buffer, b.offset)));
        let constants = self.bytes(command.constants);
        let sizes = self.list.bytes.len() as u32;
        if record.sizes_index.is_some() {
            for slot in &record.sized {
                let len = command.bindings.get(*slot as usize).map_or(0, |b| b.len);
                // The kernel counts bytes in 32 bits; a longer binding shows as the longest that it can tell.
                let len = u32::try_from(len).unwrap_or(!15);
                self.list.bytes.extend_from_slice(&len.to_ne_bytes());
            }
        }
        let memory = self.list.group_memory.len() as u32;
        self.list.group_memory.extend(command.group_memory.iter().map(|len| len.next_multiple_of(16)));
        let label = self.text(command.label);
        self.list.commands.push(Command::Dispatch(Dispatch {
            pipeline,
            bindings: Span { first, len: command.bindings.len() as u32 },
            constants,
            sizes: Span { first: sizes, len: self.list.bytes.len() as u32 - sizes },
            group_memory: Span { first: memory, len: command.group_memory.len() as u32 },
            groups: match command.grid {
                Grid::Groups(groups) => Groups::Direct(groups),
                Grid::Indirect { buffer, offset } => Groups::Indirect(bound(buffer, offset)),
            },
            label,
        }));
    }
}

fn bound(buffer: RawBuffer, offset: u64) -> Bound {
    debug_assert!(offset < buffer.len);
    Bound { buffer: Object(buffer.id), offset }
}

impl Recorder for ListRecorder {
    unsafe fn dispatch(&mut self, command: &DispatchCommand<'_>) {
        let work = !matches!(command.grid, Grid::Groups(groups) if groups.contains(&0));
        if self.executes(work) {
            // SAFETY: the pipeline is alive (contract).
            unsafe { self.write(command) }
        }
    }

    unsafe fn copy(&mut self, source: RawBuffer, from: u64, destination: RawBuffer, to: u64, len: u64) {
        if self.executes(len > 0) {
            let (from, to) = (bound(source, from), bound(destination, to));
            self.list.commands.push(Command::Copy { from, to, len });
        }
    }

    unsafe fn fill(&mut self, buffer: RawBuffer, offset: u64, len: u64, word: u32) {
        if !self.executes(len > 0) {
            return;
        }
        let [byte, rest @ ..] = word.to_ne_bytes();
        if rest == [byte; 3] {
            self.list.commands.push(Command::Fill { to: bound(buffer, offset), len, byte });
            return;
        }
        let words = len / 4;
        let mut constants = [0; 16];
        constants[..4].copy_from_slice(&word.to_ne_bytes());
        constants[8..].copy_from_slice(&words.to_ne_bytes());
        let groups = words.div_ceil(u64::from(FILL_THREADS)).min(FILL_GROUPS) as u32;
        let command = DispatchCommand {
            pipeline: self.fill,
            bindings: &[crate::Binding { buffer, offset, len }],
            constants: &constants,
            grid: Grid::Groups([groups, 1, 1]),
            group_memory: &[],
            label: "",
        };
        // SAFETY: the fill pipeline lives as long as the device.
        unsafe { self.write(&command) }
    }

    fn barrier(&mut self) {
        if !matches!(self.list.commands.last(), None | Some(Command::Barrier)) {
            self.list.commands.push(Command::Barrier);
        }
    }

    fn push_label(&mut self, label: &str) {
        let text = self.text(label);
        self.list.commands.push(Command::Push(text));
    }

    fn pop_label(&mut self) {
        self.list.commands.push(Command::Pop);
    }

    fn finish(self: Box<Self>) -> Result<Arc<dyn CommandBuffer>> {
        (self.finish)(self.list)
    }
}
