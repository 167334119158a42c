//! Keys and values of the positions seen so far.

use kovar::{Buffer, DType, Device, MemoryKind};

use crate::{Config, LmError, Result};

/// Positions that a new cache has room for.
const FIRST: usize = 256;

/// Keys and values of one layer: f32 [capacity, kv_heads, head_dim] each.
#[derive(Debug, Clone)]
pub(crate) struct LayerCache {
    pub(crate) keys: Buffer,
    pub(crate) values: Buffer,
}

/// Keys and values of all layers. It grows by doubling, up to the limit of the context.
#[derive(Debug)]
pub(crate) struct Cache {
    device: Device,
    layers: Vec<LayerCache>,
    capacity: usize,
    limit: usize,
    shape: [usize; 2],
}

impl Cache {
    pub(crate) fn new(device: &Device, config: &Config, limit: usize) -> Result<Cache> {
        let shape = [config.kv_heads, config.head_dim];
        let capacity = FIRST.min(limit);
        let layers = (0..config.layers).map(|_| layer(device, capacity, shape)).collect::<Result<_>>()?;
        Ok(Cache { device: device.clone(), layers, capacity, limit, shape })
    }

    pub(crate) fn layer(&self, index: usize) -> Option<&LayerCache> {
        self.layers.get(index)
    }

    /// Positions that it has room for without growing.
    pub(crate) fn capacity(&self) -> usize {
        self.capacity
    }

    /// Positions that it can have room for.
    pub(crate) fn limit(&self) -> usize {
        self.limit
    }

    /// Bytes of keys and values of one position, over all layers.
    pub(crate) fn position_bytes(&self) -> u64 {
        let each = |layer: &LayerCache| (layer.keys.byte_len() + layer.values.byte_len()) / self.capacity as u64;
        self.layers.iter().map(each).sum()
    }

    /// Refuses a number of positions over the limit.
    pub(crate) fn check(&self, wanted: usize) -> Result<()> {
        if wanted > self.limit { Err(LmError::ContextFull { wanted, limit: self.limit }) } else { Ok(()) }
    }

    /// Makes room for `wanted` positions; the first `used` keep their contents, copied by the device.
    ///
    /// Says whether it grew: the buffers of a recording made before are then those of the past.
    pub(crate) fn grow(&mut self, used: usize, wanted: usize) -> Result<bool> {
        self.check(wanted)?;
        if wanted <= self.capacity {
            return Ok(false);
        }
        let capacity = wanted.max(self.capacity.saturating_mul(2)).min(self.limit);
        let grown: Vec<LayerCache> =
            self.layers.iter().map(|_| layer(&self.device, capacity, self.shape)).collect::<Result<_>>()?;
        let kept = used * self.shape[0] * self.shape[1];
        if kept > 0 {
            let mut encoder = self.device.encoder()?;
            for (old, new) in self.layers.iter().zip(&grown) {
                encoder.copy(&old.keys.view(0..kept)?, &new.keys.view(0..kept)?)?;
                encoder.copy(&old.values.view(0..kept)?, &new.values.view(0..kept)?)?;
            }
            // What runs later waits for it by itself.
            let _ = encoder.commit()?;
        }
        self.layers = grown;
        self.capacity = capacity;
        Ok(true)
    }
}

fn layer(device: &Device, capacity: usize, [heads, dim]: [usize; 2]) -> Result<LayerCache> {
    let buffer = |label| device.buffer_in(MemoryKind::Device, DType::F32, &[capacity, heads, dim], label);
    Ok(LayerCache { keys: buffer("keys")?, values: buffer("values")? })
}
