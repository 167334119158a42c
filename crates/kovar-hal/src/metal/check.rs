//! Apple's rules for command buffers, held against the calls of a submission.
//!
//! Runs in tests on every platform, and on a Mac at each submission of a device that was opened with validation.

use std::collections::HashSet;
use std::fmt;
use std::sync::{Mutex, PoisonError};

use super::call::{ARGUMENTS, BYTES, Call, Pass, SAMPLES, Samples};
use super::list::{Bound, Object};
use super::script::{Plan, write};

/// A rule, in Apple's words where there are any.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rule {
    /// `commit`: "You can't commit a command buffer if the command buffer has an active command encoder."
    OpenEncoderAtCommit,
    /// `MTLCommandEncoder`: one encoder of a command buffer is active at a time; its methods need one.
    OneEncoder,
    /// A call of a compute encoder went to a blit encoder, or the other way round.
    WrongEncoder,
    /// `encodeWaitForEvent:value:`: what was encoded before the wait does not wait.
    WaitsFirst,
    /// `encodeSignalEvent:value:`: what is encoded after the signal may come after it.
    SignalsLast,
    /// `encodeWaitForEvent:value:`: "may only be called if there is no current command encoder".
    EventInEncoder,
    /// `commandBufferWithUnretainedReferences`: every object is alive until the command buffer has ended, and memory is
    /// resident: it is bound directly, or in the residency set, or held by the command buffer.
    Kept,
    /// `setBytes:length:atIndex:` is for less than 4 KiB, and not for nothing.
    Bytes,
    /// A sample that is taken twice in a submission overwrites the first.
    SampleReused,
    /// A counter sample buffer holds at most 4,096 samples on Apple silicon.
    SampleIndex,
    /// "Synchronizing passes with a fence": untracked passes wait first and update last, both once.
    Fence,
    /// `pushDebugGroup:` and `popDebugGroup` balance within an encoder.
    Groups,
    /// A dispatch needs a pipeline.
    Pipeline,
    /// Argument indices are 0 to 30.
    Index,
    /// `setThreadgroupMemoryLength:atIndex:` takes multiples of 16.
    GroupMemory,
    /// Grids and threadgroups of no threads, copies and fills of no bytes are not commands.
    Empty,
    /// Copies, fills and indirect arguments: offsets and lengths are multiples of 4 on macOS.
    Alignment,
    /// `setBufferOffset:atIndex:` needs a buffer there; "don't rebind a buffer if you're only updating its offset".
    Rebinding,
    /// "Once you commit a command buffer, you may not encode additional commands into it", and all are committed.
    Committed,
}

#[cfg(test)]
impl Rule {
    pub(crate) const ALL: [Rule; 19] = [
        Rule::OpenEncoderAtCommit,
        Rule::OneEncoder,
        Rule::WrongEncoder,
        Rule::WaitsFirst,
        Rule::SignalsLast,
        Rule::EventInEncoder,
        Rule::Kept,
        Rule::Bytes,
        Rule::SampleReused,
        Rule::SampleIndex,
        Rule::Fence,
        Rule::Groups,
        Rule::Pipeline,
        Rule::Index,
        Rule::GroupMemory,
        Rule::Empty,
        Rule::Alignment,
        Rule::Rebinding,
        Rule::Committed,
    ];
}

/// A call that broke a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Breach {
    pub(crate) rule: Rule,
    /// Number of the call.
    pub(crate) at: usize,
    /// The call.
    pub(crate) call: String,
}

impl fmt::Display for Breach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "call {} breaks the rule {:?}: {}", self.at, self.rule, self.call)
    }
}

/// Checks the calls of one submission: command buffers that each end with [`Call::Commit`]. `kept` are the objects that
/// live until the submission has ended.
pub(crate) fn check(calls: &[Call<'_>], kept: &HashSet<Object>) -> Vec<Breach> {
    let mut checker = Checker { kept, samples: HashSet::new(), found: Vec::new(), buffer: Buffer::default() };
    for (at, call) in calls.iter().enumerate() {
        let mut broken = Vec::new();
        checker.call(call, &mut broken);
        checker.found.extend(broken.into_iter().map(|rule| Breach { rule, at, call: format!("{call:?}") }));
    }
    if checker.buffer != Buffer::default() || calls.is_empty() {
        let call = "the end of the submission".into();
        checker.found.push(Breach { rule: Rule::Committed, at: calls.len(), call });
    }
    checker.found
}

/// Checks a submission that is about to be made. `live` are the objects that exist; events hold their Metal object and the
/// submission its events, and the device holds the scratch bytes.
pub(crate) fn validate(plans: &[Plan<'_>], mut live: HashSet<Object>) -> Vec<String> {
    let mut calls = Vec::new();
    for plan in plans {
        write(plan, &mut calls);
        live.extend(plan.waits.iter().chain(plan.signals).map(|(event, _)| *event));
        live.insert(plan.scratch);
    }
    let label = plans.iter().find_map(|plan| plan.list).map_or("", |list| &list.label);
    check(&calls, &live).iter().map(|breach| format!("{label}: {breach}")).collect()
}

/// The objects that exist.
#[derive(Debug, Default)]
pub(crate) struct Live(Mutex<HashSet<Object>>);

impl Live {
    /// Notes that objects begin or end to exist.
    pub(crate) fn note(&self, objects: &[Object], exist: bool) {
        let mut live = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for object in objects {
            match exist {
                true => live.insert(*object),
                false => live.remove(object),
            };
        }
    }

    pub(crate) fn objects(&self) -> HashSet<Object> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// State of the command buffer that is being encoded.
#[derive(Default, PartialEq, Eq)]
struct Buffer {
    encoder: Option<Encoder>,
    encoded: bool,
    signalled: bool,
}

#[derive(PartialEq, Eq)]
struct Encoder {
    pass: Pass,
    waited: bool,
    updated: bool,
    worked: bool,
    groups: usize,
    pipeline: bool,
    arguments: [Option<Bound>; ARGUMENTS],
}

struct Checker<'k> {
    kept: &'k HashSet<Object>,
    samples: HashSet<(Object, u32)>,
    found: Vec<Breach>,
    buffer: Buffer,
}

impl Checker<'_> {
    fn call(&mut self, call: &Call<'_>, broken: &mut Vec<Rule>) {
        let mut require = |holds: bool, rule| {
            if !holds {
                broken.push(rule);
            }
        };
        match call {
            Call::WaitEvent(event, _) => {
                require(self.buffer.encoder.is_none(), Rule::EventInEncoder);
                require(!self.buffer.encoded && !self.buffer.signalled, Rule::WaitsFirst);
                require(self.kept.contains(event), Rule::Kept);
            }
            Call::SignalEvent(event, _) => {
                require(self.buffer.encoder.is_none(), Rule::EventInEncoder);
                require(self.kept.contains(event), Rule::Kept);
                self.buffer.signalled = true;
            }
            Call::Commit => {
                require(self.buffer.encoder.is_none(), Rule::OpenEncoderAtCommit);
                self.buffer = Buffer::default();
            }
            Call::Open { pass, samples, .. } => {
                require(self.buffer.encoder.is_none(), Rule::OneEncoder);
                require(!self.buffer.signalled, Rule::SignalsLast);
                if let Some(samples) = samples {
                    self.sample(samples, &mut require);
                }
                self.buffer.encoded = true;
                self.buffer.encoder = Some(Encoder::new(*pass));
            }
            Call::End => match self.buffer.encoder.take() {
                None => require(false, Rule::OneEncoder),
                Some(encoder) => {
                    require(encoder.groups == 0, Rule::Groups);
                    require(encoder.waited && encoder.updated, Rule::Fence);
                }
            },
            _ => match &mut self.buffer.encoder {
                None => require(false, Rule::OneEncoder),
                Some(encoder) => encoder.call(call, self.kept, &mut require),
            },
        }
    }

    fn sample(&mut self, samples: &Samples, require: &mut impl FnMut(bool, Rule)) {
        require(self.kept.contains(&samples.buffer), Rule::Kept);
        for index in [samples.start, samples.end] {
            require(index < SAMPLES, Rule::SampleIndex);
            require(self.samples.insert((samples.buffer, index)), Rule::SampleReused);
        }
    }
}

impl Encoder {
    fn new(pass: Pass) -> Encoder {
        let (waited, updated, worked, pipeline) = (false, false, false, false);
        Encoder { pass, waited, updated, worked, groups: 0, pipeline, arguments: [None; ARGUMENTS] }
    }

    fn call(&mut self, call: &Call<'_>, kept: &HashSet<Object>, require: &mut impl FnMut(bool, Rule)) {
        let pass = match call {
            Call::Copy { .. } | Call::Fill { .. } => Some(Pass::Blit),
            Call::WaitFence | Call::UpdateFence | Call::PushGroup(_) | Call::PopGroup => None,
            _ => Some(Pass::Compute),
        };
        require(pass.is_none_or(|pass| pass == self.pass), Rule::WrongEncoder);
        match call {
            Call::WaitFence => {
                require(!self.waited && !self.updated && !self.worked, Rule::Fence);
                self.waited = true;
            }
            Call::UpdateFence => {
                require(self.waited && !self.updated, Rule::Fence);
                self.updated = true;
            }
            Call::PushGroup(_) => self.groups += 1,
            Call::PopGroup => {
                require(self.groups > 0, Rule::Groups);
                self.groups = self.groups.saturating_sub(1);
            }
            Call::SetPipeline(state) => {
                require(kept.contains(state), Rule::Kept);
                self.pipeline = true;
            }
            Call::SetBuffer(bound, index) => {
                require(kept.contains(&bound.buffer), Rule::Kept);
                let old = self.argument(*index, Some(*bound), require);
                require(old.is_none_or(|old| old.buffer != bound.buffer), Rule::Rebinding);
            }
            Call::SetOffset(offset, index) => {
                let old = self.arguments.get(*index as usize).copied().flatten();
                require(old.is_some(), Rule::Rebinding);
                self.argument(*index, old.map(|old| Bound { offset: *offset, ..old }), require);
            }
            Call::SetBytes(bytes, index) => {
                require(!bytes.is_empty() && bytes.len() < BYTES, Rule::Bytes);
                self.argument(*index, None, require);
            }
            Call::SetGroupMemory(len, index) => {
                require(len % 16 == 0 && *len > 0, Rule::GroupMemory);
                require((*index as usize) < ARGUMENTS, Rule::Index);
            }
            _ => self.work(call, kept, require),
        }
    }

    /// Calls that make the device do something.
    fn work(&mut self, call: &Call<'_>, kept: &HashSet<Object>, require: &mut impl FnMut(bool, Rule)) {
        require(self.waited && !self.updated, Rule::Fence);
        self.worked = true;
        match call {
            Call::Dispatch { groups, group_size } => {
                require(self.pipeline, Rule::Pipeline);
                require(!groups.contains(&0) && !group_size.contains(&0), Rule::Empty);
            }
            Call::DispatchIndirect { at, group_size } => {
                require(self.pipeline, Rule::Pipeline);
                require(!group_size.contains(&0), Rule::Empty);
                require(at.offset % 4 == 0, Rule::Alignment);
                require(kept.contains(&at.buffer), Rule::Kept);
            }
            Call::Copy { from, to, len } => {
                require(*len > 0, Rule::Empty);
                require((from.offset | to.offset | len) % 4 == 0, Rule::Alignment);
                require(kept.contains(&from.buffer) && kept.contains(&to.buffer), Rule::Kept);
            }
            Call::Fill { to, len, .. } => {
                require(*len > 0, Rule::Empty);
                require((to.offset | len) % 4 == 0, Rule::Alignment);
                require(kept.contains(&to.buffer), Rule::Kept);
            }
            _ => {}
        }
    }

    fn argument(&mut self, index: u32, bound: Option<Bound>, require: &mut impl FnMut(bool, Rule)) -> Option<Bound> {
        require((index as usize) < ARGUMENTS, Rule::Index);
        self.arguments.get_mut(index as usize).and_then(|slot| std::mem::replace(slot, bound))
    }
}
