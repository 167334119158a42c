//! Every decision about a Metal command buffer, in portable code: which encoder is open, where barriers and fences go,
//! what is waited for first and signalled last.
//!
//! **Order within a pass** is `memoryBarrierWithScope:`, put before the next dispatch and only if there was one to order
//! against. **Order between passes** is one `MTLFence` for the whole queue: each pass waits for it before its first
//! command and updates it after its last. Buffers are untracked, so Metal orders nothing by itself, and Apple says of a
//! fence that it "resolves access conflicts between commands in different passes that you submit to the same command
//! queue, including the passes you commit in other command buffers" ("Synchronizing passes with a fence"). An event would
//! do the same between command buffers, but not between passes of one, and costs a round through the scheduler.
//! Waiting first and updating second is the order that Apple asks for when a fence is used again.
//!
//! **A blit pass has no barrier**, so a barrier between two copies ends the pass.
//!
//! **Events are in that order too**: a wait stands before the first pass of its command buffer, and so before all later
//! ones; a signal stands behind the last pass, which has waited for all earlier ones. A command buffer that has events and
//! no pass gets one: a fill of four scratch bytes.

use super::call::{ARGUMENTS, Call, Pass, SAMPLES, Samples, Sink};
use super::list::{Bound, Command, Dispatch, Groups, List, Object, PipelineRecord, Span};
use crate::Timing;

/// One Metal command buffer.
pub(crate) struct Plan<'a> {
    /// The recording; none where a submission only waits and signals.
    pub(crate) list: Option<&'a List>,
    pub(crate) waits: &'a [(Object, u64)],
    pub(crate) signals: &'a [(Object, u64)],
    /// Whether names of regions and dispatches are written.
    pub(crate) labels: bool,
    /// Counter sample buffers of [`SAMPLES`] samples each, for the passes of a timed list in order.
    pub(crate) samples: &'a [Object],
    /// Four bytes that nobody reads.
    pub(crate) scratch: Object,
}

/// Counter sample buffers that so many timed passes need, as numbers of samples.
pub(crate) fn sample_buffers(passes: u32) -> Vec<u32> {
    let mut left = passes * 2;
    let mut sizes = Vec::new();
    while left > 0 {
        sizes.push(left.min(SAMPLES));
        left -= left.min(SAMPLES);
    }
    sizes
}

/// Where the samples of a timed pass are: number of the buffer, and index of the first of the two.
pub(crate) fn sample_place(pass: u32) -> (usize, u32) {
    ((pass * 2 / SAMPLES) as usize, pass * 2 % SAMPLES)
}

/// A submission as Metal command buffers: one for each recording, and one where there is none. `plan` has what they share.
pub(crate) fn plans<'a>(plan: &Plan<'a>, lists: &[(&'a List, &'a [Object])]) -> Vec<Plan<'a>> {
    if lists.is_empty() {
        return vec![Plan { ..*plan }];
    }
    let part = |(number, (list, samples)): (usize, &(&'a List, &'a [Object]))| Plan {
        list: Some(list),
        waits: if number == 0 { plan.waits } else { &[] },
        signals: if number + 1 == lists.len() { plan.signals } else { &[] },
        samples,
        ..*plan
    };
    lists.iter().enumerate().map(part).collect()
}

/// Writes the calls of a command buffer.
pub(crate) fn write<'a>(plan: &Plan<'a>, sink: &mut impl Sink<'a>) {
    for (event, value) in plan.waits {
        sink.call(Call::WaitEvent(*event, *value));
    }
    let mut writer = Writer::new(plan, sink);
    if let Some(list) = plan.list {
        for command in &list.commands {
            writer.command(list, command);
        }
    }
    if !(writer.worked || plan.waits.is_empty() && plan.signals.is_empty()) {
        writer.open(Pass::Blit);
        let to = Bound { buffer: plan.scratch, offset: 0 };
        writer.sink.call(Call::Fill { to, len: 4, byte: 0 });
    }
    writer.close();
    for (event, value) in plan.signals {
        sink.call(Call::SignalEvent(*event, *value));
    }
    sink.call(Call::Commit);
}

/// What an argument index of the open encoder holds.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Slot {
    Empty,
    Buffer(Bound),
    Bytes(Span),
}

struct Writer<'a, 's, S> {
    plan: &'s Plan<'a>,
    sink: &'s mut S,
    timed: bool,
    pass: Option<Pass>,
    /// Whether there was any pass.
    worked: bool,
    timed_passes: u32,
    /// The pass holds commands since the last barrier.
    busy: bool,
    /// A barrier stands before the next command.
    barrier: bool,
    /// Named regions that are open.
    regions: Vec<Span>,
    pipeline: Option<Object>,
    slots: [Slot; ARGUMENTS],
    group_memory: [u32; ARGUMENTS],
}

impl<'a, 's, S: Sink<'a>> Writer<'a, 's, S> {
    fn new(plan: &'s Plan<'a>, sink: &'s mut S) -> Self {
        Writer {
            plan,
            sink,
            timed: plan.list.is_some_and(|list| list.timing == Timing::Dispatches),
            pass: None,
            worked: false,
            timed_passes: 0,
            busy: false,
            barrier: false,
            regions: Vec::new(),
            pipeline: None,
            slots: [Slot::Empty; ARGUMENTS],
            group_memory: [0; ARGUMENTS],
        }
    }

    fn command(&mut self, list: &'a List, command: &Command) {
        match command {
            Command::Barrier => self.barrier = true,
            Command::Push(label) => self.push(list, *label),
            Command::Pop => self.pop(),
            Command::Dispatch(dispatch) => {
                self.enter(Pass::Compute);
                self.dispatch(list, dispatch);
                self.leave();
            }
            Command::Copy { from, to, len } => {
                self.enter(Pass::Blit);
                self.sink.call(Call::Copy { from: *from, to: *to, len: *len });
                self.leave();
            }
            Command::Fill { to, len, byte } => {
                self.enter(Pass::Blit);
                self.sink.call(Call::Fill { to: *to, len: *len, byte: *byte });
                self.leave();
            }
        }
    }

    /// Makes a pass of this kind the open one, with the barrier that the next command needs.
    fn enter(&mut self, pass: Pass) {
        if self.pass != Some(pass) || (pass == Pass::Blit && self.barrier && self.busy) {
            self.close();
            self.open(pass);
        }
        if self.barrier && self.busy {
            self.sink.call(Call::Barrier);
        }
        self.barrier = false;
        self.busy = true;
    }

    /// After a command: a timed one has its pass for itself.
    fn leave(&mut self) {
        if self.timed {
            self.close();
        }
    }

    fn open(&mut self, pass: Pass) {
        let samples = self.timed.then(|| {
            let (buffer, start) = sample_place(self.timed_passes);
            self.plan.samples.get(buffer).map(|buffer| Samples { buffer: *buffer, start, end: start + 1 })
        });
        self.timed_passes += 1;
        let list = self.plan.list;
        let label = list.filter(|_| self.plan.labels).map_or("", |list| &list.label);
        self.sink.call(Call::Open { pass, samples: samples.flatten(), label });
        self.sink.call(Call::WaitFence);
        if let Some(list) = list {
            for region in &self.regions {
                self.sink.call(Call::PushGroup(list.text(*region)));
            }
        }
        self.pass = Some(pass);
        self.worked = true;
        self.busy = false;
        self.pipeline = None;
        self.slots = [Slot::Empty; ARGUMENTS];
        self.group_memory = [0; ARGUMENTS];
    }

    /// Ends the open pass. Regions that go on are opened again in the next one: an encoder's groups end with it.
    fn close(&mut self) {
        if self.pass.take().is_some() {
            for _ in &self.regions {
                self.sink.call(Call::PopGroup);
            }
            self.sink.call(Call::UpdateFence);
            self.sink.call(Call::End);
        }
    }

    fn push(&mut self, list: &'a List, label: Span) {
        if self.plan.labels {
            self.regions.push(label);
            if self.pass.is_some() {
                self.sink.call(Call::PushGroup(list.text(label)));
            }
        }
    }

    fn pop(&mut self) {
        if self.regions.pop().is_some() && self.pass.is_some() {
            self.sink.call(Call::PopGroup);
        }
    }

    fn dispatch(&mut self, list: &'a List, dispatch: &Dispatch) {
        // SAFETY: pipelines of a list are alive for as long as it can be submitted (contract of `Recorder::dispatch`).
        let record: &PipelineRecord = unsafe { &*dispatch.pipeline };
        let named = self.plan.labels && dispatch.label.len > 0;
        if named {
            self.sink.call(Call::PushGroup(list.text(dispatch.label)));
        }
        if self.pipeline != Some(record.state) {
            self.sink.call(Call::SetPipeline(record.state));
            self.pipeline = Some(record.state);
        }
        for (index, bound) in list.bindings[dispatch.bindings.range()].iter().enumerate() {
            self.bind(*bound, index as u32);
        }
        self.bytes(list, dispatch.constants, record.constants_index);
        if let Some(index) = record.sizes_index {
            self.bytes(list, dispatch.sizes, index);
        }
        let own = &list.group_memory[dispatch.group_memory.range()];
        for (index, len) in if own.is_empty() { &record.group_memory } else { own }.iter().enumerate() {
            if self.group_memory[index] != *len {
                self.sink.call(Call::SetGroupMemory(*len, index as u32));
                self.group_memory[index] = *len;
            }
        }
        let group_size = record.group_size;
        self.sink.call(match dispatch.groups {
            Groups::Direct(groups) => Call::Dispatch { groups, group_size },
            Groups::Indirect(at) => Call::DispatchIndirect { at, group_size },
        });
        if named {
            self.sink.call(Call::PopGroup);
        }
    }

    /// Binds a buffer, or moves its offset, or does nothing: Apple asks not to bind what is bound.
    fn bind(&mut self, bound: Bound, index: u32) {
        let slot = &mut self.slots[index as usize];
        match slot {
            Slot::Buffer(old) if *old == bound => return,
            Slot::Buffer(old) if old.buffer == bound.buffer => self.sink.call(Call::SetOffset(bound.offset, index)),
            _ => self.sink.call(Call::SetBuffer(bound, index)),
        }
        *slot = Slot::Buffer(bound);
    }

    fn bytes(&mut self, list: &'a List, span: Span, index: u32) {
        let bytes = &list.bytes[span.range()];
        let slot = &mut self.slots[index as usize];
        let same = matches!(slot, Slot::Bytes(old) if list.bytes[old.range()] == *bytes);
        if !bytes.is_empty() && !same {
            self.sink.call(Call::SetBytes(bytes, index));
            *slot = Slot::Bytes(span);
        }
    }
}
