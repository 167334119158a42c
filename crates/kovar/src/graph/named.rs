//! Buffers of a graph that go by a name, and others that take their places.

use std::ops::Range;
use std::sync::Arc;

use smallvec::SmallVec;

use super::executable::Bound;
use super::{Executable, Graph};
use crate::encoder::{NodeGrid, Work};
use crate::flight::Used;
use crate::hazard::ResourceId;
use crate::hold::Held;
use crate::poison::{Effect, hull};
use crate::{Buffer, Error, Result, Unbindable};

/// A buffer with the name that it was given.
#[derive(Debug, Clone)]
pub(crate) struct Named {
    pub(crate) name: Box<str>,
    resource: ResourceId,
    /// Where the captured buffer begins in its allocation.
    origin: u64,
    /// What goes by the name now.
    buffer: Buffer,
}

impl Graph {
    /// Gives a buffer that the commands use a name, by which an [`Executable`] puts others in its place: see
    /// [`Executable::rebind`].
    ///
    /// It may be a view, if the commands use no other bytes of its allocation.
    ///
    /// # Errors
    /// [`Error::Binding`] for a name or buffer that has one, a buffer that the commands do not use, more of whose allocation
    /// they use, or that is scratch of the capture.
    pub fn name(&mut self, name: &str, buffer: &Buffer) -> Result<()> {
        let wrong = |reason| Err(Error::Binding { label: self.label.clone(), name: name.into(), reason });
        let label = || buffer.label().to_string();
        let taken = |named: &&Named| *named.name == *name || named.buffer.same_allocation(buffer);
        if let Some(Named { name, buffer, .. }) = self.named.iter().find(taken) {
            return wrong(Unbindable::Taken { name: name.to_string(), buffer: buffer.label().into() });
        }
        if buffer.allocation.transient {
            return wrong(Unbindable::Transient { buffer: label() });
        }
        let is_it = |used: &Used| Arc::ptr_eq(&used.allocation, &buffer.allocation);
        let resource = self.used.iter().position(is_it).map(|number| ResourceId(number as u32));
        let used = resource.map(|resource| (resource, self.hull(resource))).filter(|(_, hull)| !hull.is_empty());
        let Some((resource, hull)) = used else {
            return wrong(Unbindable::Unused { buffer: label() });
        };
        let start = buffer.offset;
        let end = buffer.offset + buffer.byte_len().next_multiple_of(4);
        if hull.start < start || hull.end > end {
            return wrong(Unbindable::Beyond { buffer: label(), start, end, first: hull.start, last: hull.end });
        }
        self.named.push(Named { name: name.into(), resource, origin: start, buffer: buffer.clone() });
        Ok(())
    }

    /// The names, in the order in which they were given, with the buffers that they were given to.
    pub fn names(&self) -> impl Iterator<Item = (&str, &Buffer)> {
        self.named.iter().map(|named| (named.name.as_ref(), &named.buffer))
    }

    fn known(&self) -> Vec<String> {
        self.named.iter().map(|named| named.name.to_string()).collect()
    }

    /// What the commands use of each named buffer.
    pub(super) fn hulls(&self) -> Vec<Range<u64>> {
        self.named.iter().map(|named| self.hull(named.resource)).collect()
    }

    /// From the first byte to the last that the commands bind, copy, fill or take a grid from.
    fn hull(&self, resource: ResourceId) -> Range<u64> {
        let mut all = 0..0;
        for node in &self.nodes {
            let accesses = node.accesses.iter().filter(|access| access.resource == resource);
            accesses.for_each(|access| all = hull(&all, &access.range));
            let Work::Dispatch(work) = &node.work else { continue };
            let grid = if let NodeGrid::Indirect(part) = &work.grid { Some(part) } else { None };
            let parts = work.parts.iter().chain(grid).filter(|part| part.resource == resource);
            parts.for_each(|part| all = hull(&all, &(part.offset..part.offset + part.len)));
        }
        all
    }
}

impl Executable {
    /// Puts buffers in the places of those that go by these names: each of the same element type and the same number of
    /// bytes, of whatever shape. They may be views. What was submitted before goes on with the buffers of that time.
    ///
    /// All change at once, so that two can change places. A buffer may share bytes with another one of the commands if
    /// they only read both.
    ///
    /// The next submission records its commands anew, and so does each of the others that may be in flight when its turn
    /// comes: at most [`in_flight`](super::ExecutableOptions::in_flight) recordings, however many names changed before them.
    /// A set of buffers that the executable still has, which is the present one unless
    /// [`kept_bindings`](super::ExecutableOptions::kept_bindings) says more, is not recorded again.
    ///
    /// # Errors
    /// [`Error::Binding`] for a name that there is not or that is given twice, and for a buffer that does not fit, is of
    /// another device, is not to be written where the commands write it, or shares bytes with another one where they write
    /// one of the two. Nothing has changed then.
    ///
    /// ```
    /// # use kovar::{Backend, Device, DeviceOptions, ExecutableOptions, Graph};
    /// let device = Device::open(&DeviceOptions::of(Backend::Cpu))?;
    /// let (x, y, z) = (device.upload(&[1u32, 2], &[2])?, device.upload(&[0u32; 2], &[2])?, device.upload(&[0u32; 4], &[4])?);
    /// let mut graph = Graph::capture(&device, "step", |encoder| encoder.copy(&x, &y))?;
    /// graph.name("from", &x)?;
    /// graph.name("to", &y)?;
    /// let mut step = graph.compile(&ExecutableOptions::default())?;
    /// drop(step.submit()?); // runs, and nobody waits for it
    /// step.rebind(&[("from", &y), ("to", &z.view(2..4)?)])?;
    /// drop(step.submit()?);
    /// assert_eq!(z.read::<u32>()?, [0, 0, 1, 2]);
    /// # Ok::<(), kovar::Error>(())
    /// ```
    pub fn rebind(&mut self, buffers: &[(&str, &Buffer)]) -> Result<()> {
        let mut bound = self.bound.buffers.clone();
        for (number, (name, to)) in buffers.iter().enumerate() {
            let wrong = |reason| Err(self.unbindable(name, reason));
            let Some(at) = self.graph.named.iter().position(|named| *named.name == **name) else {
                return wrong(Unbindable::Unknown { known: self.graph.known() });
            };
            if let Some((_, first)) = buffers[..number].iter().find(|(before, _)| before == name) {
                return wrong(Unbindable::Taken { name: (*name).into(), buffer: first.label().into() });
            }
            if let Some(reason) = self.unfit(at, to) {
                return wrong(reason);
            }
            bound[at] = (*to).clone();
        }
        if !same(&self.bound.buffers, &bound) {
            let other = match self.kept.iter().position(|kept| same(&kept.buffers, &bound)) {
                Some(kept) => self.kept.remove(kept),
                None => self.bind(bound)?,
            };
            self.turn_to(other);
        }
        Ok(())
    }

    /// The commands with other buffers that fit, if none of them shares bytes with another.
    fn bind(&self, buffers: Vec<Buffer>) -> Result<Bound> {
        let mut used: Vec<Used> = self.bound.claims.used.iter().cloned().collect();
        let mut places = self.bound.places.clone();
        let mut changed: SmallVec<[usize; 4]> = SmallVec::new();
        for (at, (named, (from, to))) in
            self.graph.named.iter().zip(self.bound.buffers.iter().zip(&buffers)).enumerate()
        {
            if from.same_allocation(to) && from.offset == to.offset {
                continue;
            }
            let place = &mut places[named.resource.0 as usize];
            let own = &mut used[place.used as usize];
            *own =
                Used { allocation: Held::counted(&to.allocation), effect: moved(&own.effect, from.offset, to.offset) };
            place.base = to.offset.wrapping_sub(named.origin);
            changed.push(at);
        }
        for at in changed {
            if let Some(reason) = self.aliased(at, &buffers[at], &used) {
                return Err(self.unbindable(&self.graph.named[at].name, reason));
            }
        }
        Ok(Bound::new(buffers, places, used))
    }

    /// Goes on with another set, and keeps as many of those before as the options say.
    fn turn_to(&mut self, other: Bound) {
        for (named, buffer) in self.graph.named.iter_mut().zip(&other.buffers) {
            let resource = named.resource.0 as usize;
            self.graph.used[resource] = other.claims.used[other.places[resource].used as usize].clone();
            named.buffer = buffer.clone();
        }
        self.kept.push(std::mem::replace(&mut self.bound, other));
        let most = self.options.kept_bindings.saturating_sub(1) as usize;
        self.kept.drain(..self.kept.len().saturating_sub(most));
    }

    fn unbindable(&self, name: &str, reason: Unbindable) -> Error {
        Error::Binding { label: self.graph.label.clone(), name: name.into(), reason }
    }

    /// What of a buffer does not fit the one that was named.
    fn unfit(&self, at: usize, to: &Buffer) -> Option<Unbindable> {
        let Named { resource, origin, buffer: from, .. } = &self.graph.named[at];
        let buffer = to.label().to_string();
        let (given, wanted, room) = (to.byte_len(), from.byte_len(), to.allocation.raw.len - to.offset);
        // Copies want whole words, whatever the device's kernels want.
        let alignment = self.device.info().limits.storage_alignment.max(4);
        let distance = to.offset.wrapping_sub(*origin) & (alignment - 1);
        if !Arc::ptr_eq(&to.allocation.core, &self.device.0.core) {
            Some(Unbindable::Foreign { buffer })
        } else if to.allocation.transient {
            Some(Unbindable::Transient { buffer })
        } else if to.dtype != from.dtype {
            Some(Unbindable::DType { buffer, given: to.dtype, wanted: from.dtype })
        } else if given != wanted {
            Some(Unbindable::Bytes { buffer, given, wanted })
        } else if self.hulls[at].end.saturating_sub(*origin) > room {
            Some(Unbindable::Bytes { buffer, given: room, wanted: wanted.next_multiple_of(4) })
        } else if distance != 0 {
            Some(Unbindable::Misaligned { buffer, offset: to.offset, distance, alignment })
        } else if self.graph.used[resource.0 as usize].is_written() && to.allocation.read_only {
            Some(Unbindable::ReadOnly { buffer })
        } else {
            None
        }
    }

    /// Another buffer among those that will be used that shares bytes, if one of the two is written.
    fn aliased(&self, at: usize, to: &Buffer, used: &[Used]) -> Option<Unbindable> {
        let place = |named: &Named| self.bound.places[named.resource.0 as usize].used as usize;
        let own = place(&self.graph.named[at]);
        let others = used.iter().enumerate().filter(|(at, _)| *at != own);
        for (at, other) in others.filter(|(_, other)| Arc::ptr_eq(&other.allocation, &to.allocation)) {
            let ([mine, written], [theirs, writes]) = (touched(&used[own].effect), touched(&other.effect));
            let shared = meet(&written, &theirs).or_else(|| meet(&mine, &writes));
            if let Some(Range { start, end }) = shared {
                let named = self.graph.named.iter().find(|named| place(named) == at);
                let other = named.map_or_else(|| other.allocation.label.to_string(), |named| named.name.to_string());
                return Some(Unbindable::Aliased { buffer: to.label().into(), other, start, end });
            }
        }
        None
    }
}

/// Whether these are the same bytes, name by name.
fn same(a: &[Buffer], b: &[Buffer]) -> bool {
    a.iter().zip(b).all(|(a, b)| a.same_allocation(b) && a.offset == b.offset)
}

/// From first to last, the bytes that a recording touches of an allocation, and those that it writes.
fn touched(effect: &Effect) -> [Range<u64>; 2] {
    let Effect { reads, writes, fresh } = effect;
    let of_all = [reads, writes, fresh].into_iter().filter(|range| !range.is_empty());
    [of_all.fold(0..0, |all, range| hull(&all, range)), writes.clone()]
}

fn meet(a: &Range<u64>, b: &Range<u64>) -> Option<Range<u64>> {
    let both = a.start.max(b.start)..a.end.min(b.end);
    (!a.is_empty() && !b.is_empty() && !both.is_empty()).then_some(both)
}

/// What is done to a buffer, when that begins elsewhere.
fn moved(effect: &Effect, from: u64, to: u64) -> Effect {
    let of = |range: &Range<u64>| match range.is_empty() {
        true => range.clone(),
        false => range.start - from + to..range.end - from + to,
    };
    Effect { reads: of(&effect.reads), writes: of(&effect.writes), fresh: of(&effect.fresh) }
}
