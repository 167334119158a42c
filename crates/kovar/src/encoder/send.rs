//! The way of a dispatch from its arguments to a recorder or a list.

use std::sync::Arc;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use kovar_hal::{DispatchCommand, Grid, ShaderFormat};

use super::arguments::{self, Context, INDIRECT, STRANGER};
use super::command::{Command, Slots};
use super::effects::{narrow, note};
use super::encoder::{CommandEncoder, LIVING, Sink};
use super::lists::Lists;
use super::node::Node;
use crate::buffer::Allocation;
use crate::flight::Used;
use crate::hazard::{Access, Mode, ResourceId};
use crate::hold::Held;
use crate::kernel::ConstantsKind;
use crate::poison::Effect;
use crate::profile::About;
use crate::{Buffer, Result};

/// Bits of an allocation's number in the hint that it carries, few in tests; the others are the encoder's.
const NUMBER: u32 = if cfg!(test) { 4 } else { 24 };
/// Allocations of one recording that have hints.
const HINTED: u64 = 1 << NUMBER;

/// The number that an encoder has left in an allocation.
#[inline(always)]
fn hinted(allocation: &Allocation, encoder: u64) -> Option<ResourceId> {
    let hint = allocation.hint.load(Acquire);
    (hint >> NUMBER == encoder).then_some(ResourceId((hint & (HINTED - 1)) as u32))
}

// A few of these are inlined always: a dispatch is a few hundred instructions, and handing its parts from call to call would
// be a fifth of them.
impl CommandEncoder {
    /// Checks the buffers of a dispatch and sends it on its way.
    #[inline(always)]
    pub(super) fn send<'b>(&mut self, command: &impl Command<'b>) -> Result<()> {
        let (kernel, touches) = (command.kernel(), command.touches());
        let (context, id) = (Context { limits: &self.limits, capturing: self.is_capturing() }, self.id);
        let lists = (&mut self.lists.bindings, &mut self.lists.accesses);
        let strangers = arguments::buffers(kernel, command, context, |allocation| hinted(allocation, id), lists)?;
        if !touches.is_empty() {
            arguments::touches(kernel, command, touches)?;
        }
        if strangers {
            self.meet_all(command);
        }
        if !touches.is_empty() {
            narrow(command, touches, &mut self.lists.accesses);
        }
        if let Some(buffer) = command.indirect() {
            let range = buffer.offset..buffer.offset + INDIRECT;
            let resource = self.resource(buffer);
            self.lists.accesses.push(Access::new(resource, range, Mode::Read));
        }
        self.emit(command)
    }

    /// Gives numbers to the allocations of a dispatch that have none.
    #[cold]
    fn meet_all<'b>(&mut self, slots: &impl Slots<'b>) {
        for slot in 0..self.lists.accesses.len() {
            if let Some(buffer) = slots.get(slot).filter(|_| self.lists.accesses[slot].resource == STRANGER) {
                self.lists.accesses[slot].resource = self.resource(buffer);
            }
        }
    }

    #[inline(always)]
    fn emit<'b>(&mut self, command: &impl Command<'b>) -> Result<()> {
        let (kernel, mut constants) = (command.kernel(), command.constants());
        self.split();
        let mut ring = None;
        if let ConstantsKind::Uniform { .. } = kernel.0.reflection.constants {
            ring = Some(self.place(constants)?);
            // A Rust function reads its constants from the dispatch, however large they are.
            if self.device.info().shader != ShaderFormat::Cpu {
                constants = &[];
            }
        }
        let Sink::Live(issuer) = &mut self.sink else {
            self.list(command, ring, constants);
            return Ok(());
        };
        let Lists { bindings, accesses, used, tally, .. } = &mut self.lists;
        let (grid, label) = (command.grid(), command.name());
        let about = || {
            let groups = if let Grid::Groups(groups) = grid { Some(groups) } else { None };
            About { label, kernel: Some(kernel), kind: command.kind(), groups, cost: command.cost() }
        };
        let (pipeline, group_memory) = (kernel.0.pipeline, command.memory());
        // Their number is known: loading it beside their address, a moment after it was stored, would wait for the store.
        let bound = kernel.0.reflection.slots.len() + usize::from(ring.is_some());
        let bindings = bindings.get(..bound).unwrap_or(bindings);
        let recorded = DispatchCommand { pipeline, bindings, constants, grid, group_memory, label };
        // SAFETY: the bindings were checked against buffers and limits; `used` and `tally` keep everything alive until the
        // submission has ended; the issuer puts a barrier before what conflicts.
        issuer.issue(about, accesses, |recorder| unsafe { recorder.dispatch(&recorded) })?;
        issuer.stats.dispatches += 1;
        note(used, kernel, accesses, !command.touches().is_empty());
        tally.add(kernel, 1);
        Ok(())
    }

    /// Adds a dispatch to the list of a graph.
    #[cold]
    fn list<'b>(&mut self, command: &impl Command<'b>, ring: Option<ResourceId>, constants: &[u8]) {
        let Sink::Capture(nodes) = &mut self.sink else { return };
        let Lists { bindings, accesses, used, .. } = &mut self.lists;
        let kernel = command.kernel();
        note(used, kernel, accesses, !command.touches().is_empty());
        let (accesses, memory) = (accesses.drain(..).collect(), command.memory());
        let node = Node::dispatch(kernel, bindings, accesses, ring, constants, command.grid(), memory);
        let (label, cost) = (command.name().into(), command.cost().copied().unwrap_or_default());
        nodes.push(Node { label, kind: command.kind(), cost, opaque: command.opaque(), ..node });
    }

    /// Puts constants into the ring and binds them after the last slot.
    #[cold]
    fn place(&mut self, constants: &[u8]) -> Result<ResourceId> {
        let (binding, block) = self.ring.place(&self.device, constants)?;
        self.lists.bindings.push(binding);
        // The block is nobody's but the recording's.
        Ok(self.number(&block, true))
    }

    /// The number of an allocation, which is kept alive from now on.
    #[inline(always)]
    pub(super) fn resource(&mut self, buffer: &Buffer) -> ResourceId {
        self.number(buffer, self.retains)
    }

    #[inline(always)]
    fn number(&mut self, buffer: &Buffer, retain: bool) -> ResourceId {
        let allocation = &buffer.allocation;
        hinted(allocation, self.id).unwrap_or_else(|| ResourceId(self.meet(allocation, retain)))
    }

    /// The number of an allocation that this encoder meets for the first time, or that another one has met since.
    #[cold]
    fn meet(&mut self, allocation: &Arc<Allocation>, retain: bool) -> u32 {
        let Lists { known, used, .. } = &mut self.lists;
        let next = used.len() as u32;
        // An encoder that has been alone so far would see its number in what it has met.
        let newest = self.device.0.core.encoders.load(Relaxed) >> LIVING;
        let hinted = u64::from(next) < HINTED;
        let id = match hinted && self.alone && newest == self.id + 1 {
            true => next,
            false => {
                let unknown = used[known.len()..].iter().zip(known.len() as u32..);
                known.extend(unknown.map(|(used, id)| (used.allocation.id, id)));
                *known.entry(allocation.id).or_insert(next)
            }
        };
        if id == next {
            let kept = self.kept.as_ref().is_some_and(|kept| kept.has(allocation));
            let held = match retain && !kept {
                true => Held::counted(allocation),
                // SAFETY: the set keeps it, and lives as long as this encoder and each flight of its parts; or the caller of
                // `retain_nothing` has promised.
                false => unsafe { Held::uncounted(allocation) },
            };
            used.push(Used { allocation: held, effect: Effect::default() });
        }
        if u64::from(id) < HINTED {
            allocation.hint.store(self.id << NUMBER | u64::from(id), Release);
        }
        id
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Backend, DType, Device, DeviceOptions};

    #[test]
    fn each_allocation_has_one_number_with_a_hint_and_without() {
        let device = Device::open(&DeviceOptions::of(Backend::Null)).unwrap();
        let count = 3 * HINTED as usize;
        let buffers: Vec<_> = (0..count).map(|_| device.buffer(DType::U32, &[16]).unwrap()).collect();
        let chain = |encoder: &mut CommandEncoder| {
            buffers.windows(2).for_each(|pair| encoder.copy(&pair[0], &pair[1]).unwrap());
            (encoder.lists.used.len(), encoder.stats().barriers())
        };
        let mut alone = device.encoder().unwrap();
        assert_eq!(chain(&mut alone), (count, count as u64 - 2));
        assert_eq!(chain(&mut alone), (count, 2 * (count as u64 - 2)));
        // Another one takes the hints away.
        let mut other = device.encoder().unwrap();
        assert_eq!(chain(&mut other), (count, count as u64 - 2));
        assert_eq!(chain(&mut alone), (count, 3 * (count as u64 - 2)));
    }
}
