//! What is alive, what the device uses, and what broke the contract.

use std::collections::HashMap;

use crate::{Binding, RawBuffer};

/// Resources that are alive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Live {
    /// Devices.
    pub devices: usize,
    /// Buffers.
    pub buffers: usize,
    /// Their bytes.
    pub bytes: u64,
    /// Pipelines.
    pub pipelines: usize,
    /// Events.
    pub events: usize,
    /// Recorders that have not been finished.
    pub recorders: usize,
    /// Command buffers.
    pub commands: usize,
}

/// A handle of some kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Handle {
    Buffer(usize),
    Pipeline(usize),
    Event(usize),
}

/// The kind and address of a handle, for messages.
impl std::fmt::Display for Handle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Handle::Buffer(id) => write!(f, "buffer {id:x}"),
            Handle::Pipeline(id) => write!(f, "pipeline {id:x}"),
            Handle::Event(id) => write!(f, "event {id:x}"),
        }
    }
}

/// Something alive.
struct Entry {
    label: String,
    bytes: u64,
}

#[derive(Default)]
pub(super) struct Ledger {
    alive: HashMap<Handle, Entry>,
    pub(super) devices: usize,
    pub(super) recorders: usize,
    pub(super) commands: usize,
    pub(super) misuse: Vec<String>,
}

impl Ledger {
    pub(super) fn live(&self) -> Live {
        let count = |kind: fn(&Handle) -> bool| self.alive.keys().filter(|handle| kind(handle)).count();
        Live {
            devices: self.devices,
            buffers: count(|handle| matches!(handle, Handle::Buffer(_))),
            bytes: self.alive.values().map(|entry| entry.bytes).sum(),
            pipelines: count(|handle| matches!(handle, Handle::Pipeline(_))),
            events: count(|handle| matches!(handle, Handle::Event(_))),
            recorders: self.recorders,
            commands: self.commands,
        }
    }

    pub(super) fn born(&mut self, handle: Handle, label: &str, bytes: u64) {
        self.alive.insert(handle, Entry { label: label.into(), bytes });
    }

    /// Whether the handle was alive: if not, it must not be passed on.
    pub(super) fn died(&mut self, handle: Handle) -> bool {
        let known = self.alive.remove(&handle).is_some();
        if !known {
            self.misuse.push(format!("{handle} is destroyed, but not alive"));
        }
        known
    }

    pub(super) fn name(&self, handle: Handle) -> String {
        match self.alive.get(&handle) {
            Some(entry) => format!("{handle} {:?}", entry.label),
            None => handle.to_string(),
        }
    }

    /// Checks that a handle can be used by `what`.
    pub(super) fn check(&mut self, handle: Handle, what: &str) {
        if !self.alive.contains_key(&handle) {
            self.misuse.push(format!("{what} uses {handle}, which is not alive"));
        }
    }

    /// Checks that a range lies in its buffer.
    pub(super) fn check_range(&mut self, buffer: RawBuffer, offset: u64, len: u64, what: &str) {
        self.check(Handle::Buffer(buffer.id), what);
        if offset.checked_add(len).is_none_or(|end| end > buffer.len) {
            let name = self.name(Handle::Buffer(buffer.id));
            self.misuse.push(format!("{what} uses {len} bytes at {offset} of {name}, which has {}", buffer.len));
        }
    }

    pub(super) fn check_binding(&mut self, binding: &Binding, what: &str) {
        self.check_range(binding.buffer, binding.offset, binding.len, what);
    }
}
