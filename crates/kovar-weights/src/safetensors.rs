//! A mapped safetensors file: eight bytes of header length, a JSON header, then the tensors' bytes.
//!
//! The header is taken as hostile: nothing is allocated on its word, and every number in it is checked against the file
//! before a tensor is handed out.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, Visitor};

use crate::{MappedFile, Tensor, TensorType, WeightsError};

/// Longest header that is read, in bytes. The format's own limit; real ones stay under a few megabytes.
const MAX_HEADER: u64 = 100_000_000;
const LENGTH_BYTES: u64 = 8;
const LFS_MAGIC: &[u8] = b"version https://git-lfs";

/// One safetensors file, mapped and checked.
///
/// ```
/// let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../models/rustdoc-14m-mlx-4bit/model.safetensors");
/// let file = kovar_weights::Safetensors::open(path)?;
/// assert_eq!(file.metadata().get("format").map(String::as_str), Some("mlx"));
/// assert_eq!(file.tensor("model.norm.weight")?.shape(), [384]);
/// # Ok::<(), kovar_weights::WeightsError>(())
/// ```
#[derive(Debug)]
pub struct Safetensors {
    file: Arc<MappedFile>,
    metadata: BTreeMap<String, String>,
    tensors: BTreeMap<Arc<str>, Tensor>,
}

impl Safetensors {
    /// Maps the file and checks its whole header; see [`MappedFile`] about files that change while they are mapped.
    ///
    /// # Errors
    /// Everything that can be wrong with the file, named in [`WeightsError`].
    pub fn open(path: impl AsRef<Path>) -> Result<Self, WeightsError> {
        let file = Arc::new(MappedFile::open(path)?);
        let header = parse(file.path(), file.as_bytes())?;
        let tensors = header
            .entries
            .into_iter()
            .map(|e| (Arc::clone(&e.name), Tensor::new(e.name, e.dtype, e.shape, Arc::clone(&file), e.range)))
            .collect();
        Ok(Self { file, metadata: header.metadata, tensors })
    }

    /// The mapped file.
    pub fn file(&self) -> &Arc<MappedFile> {
        &self.file
    }

    /// The header's `__metadata__`: free text by key. Empty if there is none.
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.metadata
    }

    /// All tensors, in the order of their names.
    pub fn tensors(&self) -> impl ExactSizeIterator<Item = &Tensor> {
        self.tensors.values()
    }

    /// The tensor of this name.
    ///
    /// # Errors
    /// [`WeightsError::MissingTensor`].
    pub fn tensor(&self, name: &str) -> Result<Tensor, WeightsError> {
        self.tensors
            .get(name)
            .cloned()
            .ok_or_else(|| WeightsError::MissingTensor { dir: self.file.path().into(), tensor: name.into() })
    }

    /// Whether it has a tensor of this name.
    pub fn contains(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }
}

/// A header whose every entry lies in the file and agrees with its own shape.
#[derive(Debug)]
struct Header {
    metadata: BTreeMap<String, String>,
    entries: Vec<Located>,
}

#[derive(Debug)]
struct Located {
    name: Arc<str>,
    dtype: TensorType,
    shape: Vec<usize>,
    /// From the start of the file.
    range: Range<usize>,
}

fn parse(path: &Path, bytes: &[u8]) -> Result<Header, WeightsError> {
    let (json, data_start) = header_json(path, bytes)?;
    let raw: RawHeader = serde_json::from_slice(json).map_err(|e| invalid(path, format!("header: {e}")))?;
    if let Some(name) = raw.duplicate {
        return Err(WeightsError::DuplicateTensor { tensor: name, first: path.into(), second: path.into() });
    }
    let mut entries = Vec::with_capacity(raw.tensors.len());
    let mut end = 0;
    for (name, tensor) in raw.tensors {
        end = end.max(tensor.data_offsets.1);
        entries.push(entry(path, name, tensor, data_start)?);
    }
    refuse_overlaps(path, &entries)?;
    let promised = data_start.saturating_add(end);
    let found = bytes.len() as u64;
    if promised > found {
        return Err(WeightsError::Truncated { file: path.into(), promised, found });
    }
    Ok(Header { metadata: raw.metadata, entries })
}

/// The header's text, and where the data after it begins.
fn header_json<'a>(path: &Path, bytes: &'a [u8]) -> Result<(&'a [u8], u64), WeightsError> {
    if bytes.starts_with(LFS_MAGIC) {
        return Err(WeightsError::LfsPointer { file: path.into() });
    }
    let Some((length, rest)) = bytes.split_first_chunk::<8>() else {
        return Err(WeightsError::Truncated { file: path.into(), promised: LENGTH_BYTES, found: bytes.len() as u64 });
    };
    let length = u64::from_le_bytes(*length);
    if length > MAX_HEADER {
        return Err(invalid(path, format!("its header would have {length} bytes")));
    }
    let data_start = LENGTH_BYTES + length;
    match usize::try_from(length).ok().and_then(|n| rest.get(..n)) {
        Some(json) => Ok((json, data_start)),
        None => Err(WeightsError::Truncated { file: path.into(), promised: data_start, found: bytes.len() as u64 }),
    }
}

/// Checks one entry by itself. That it ends inside the file is left to the caller, who knows how to call it.
fn entry(path: &Path, name: String, raw: RawTensor, data_start: u64) -> Result<Located, WeightsError> {
    let Some(dtype) = TensorType::from_name(&raw.dtype) else {
        return Err(WeightsError::UnknownType { file: path.into(), tensor: name, dtype: raw.dtype });
    };
    let bad = |reason: String| WeightsError::InvalidTensor { file: path.into(), tensor: name.clone(), reason };
    let (begin, end) = raw.data_offsets;
    let Some(length) = end.checked_sub(begin) else {
        return Err(bad(format!("ends at byte {end} before it begins at {begin}")));
    };
    let bytes = byte_len(dtype, &raw.shape);
    if bytes != Some(length) {
        return Err(bad(format!("has {length} bytes, but {dtype} {:?} takes {}", raw.shape, size_text(bytes))));
    }
    let address = |offset: u64| data_start.checked_add(offset).and_then(|a| usize::try_from(a).ok());
    let (Some(start), Some(stop)) = (address(begin), address(end)) else {
        return Err(bad(format!("lies at bytes {begin} to {end}, beyond what memory can address")));
    };
    let shape = raw.shape.iter().map(|&d| usize::try_from(d)).collect::<Result<Vec<_>, _>>();
    let Ok(shape) = shape else {
        return Err(bad(format!("has shape {:?}, more than memory can address", raw.shape)));
    };
    Ok(Located { name: name.into(), dtype, shape, range: start..stop })
}

/// Bytes of a tensor of this shape. `None` also where only an axis of 0 would keep the product small: whoever multiplies
/// in another order would overflow.
fn byte_len(dtype: TensorType, shape: &[u64]) -> Option<u64> {
    let whole = shape.iter().try_fold(dtype.size() as u64, |n, &d| n.checked_mul(d.max(1)))?;
    Some(if shape.contains(&0) { 0 } else { whole })
}

fn size_text(bytes: Option<u64>) -> String {
    bytes.map_or_else(|| "more than any file".into(), |n| n.to_string())
}

fn refuse_overlaps(path: &Path, entries: &[Located]) -> Result<(), WeightsError> {
    let mut order: Vec<&Located> = entries.iter().filter(|e| !e.range.is_empty()).collect();
    order.sort_unstable_by_key(|e| e.range.start);
    for pair in order.windows(2) {
        if let [a, b] = pair
            && b.range.start < a.range.end
        {
            let reason = format!("shares bytes with tensor {}", a.name);
            return Err(WeightsError::InvalidTensor { file: path.into(), tensor: b.name.to_string(), reason });
        }
    }
    Ok(())
}

fn invalid(path: &Path, reason: String) -> WeightsError {
    WeightsError::InvalidHeader { file: path.into(), reason }
}

#[derive(Debug, serde::Deserialize)]
struct RawTensor {
    dtype: String,
    shape: Vec<u64>,
    data_offsets: (u64, u64),
}

#[derive(Debug, Default)]
struct RawHeader {
    metadata: BTreeMap<String, String>,
    tensors: BTreeMap<String, RawTensor>,
    /// The first name that came twice, which a plain map would hide.
    duplicate: Option<String>,
}

impl<'de> Deserialize<'de> for RawHeader {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(HeaderVisitor)
    }
}

struct HeaderVisitor;

impl<'de> Visitor<'de> for HeaderVisitor {
    type Value = RawHeader;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of tensors by name")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<RawHeader, A::Error> {
        let mut header = RawHeader::default();
        let mut has_metadata = false;
        while let Some(name) = map.next_key::<String>()? {
            if name == "__metadata__" {
                if has_metadata {
                    return Err(A::Error::custom("__metadata__ comes twice"));
                }
                has_metadata = true;
                header.metadata = map.next_value()?;
                continue;
            }
            let tensor = map.next_value()?;
            match header.tensors.entry(name) {
                Entry::Vacant(slot) => {
                    slot.insert(tensor);
                }
                Entry::Occupied(slot) => {
                    header.duplicate.get_or_insert_with(|| slot.key().clone());
                }
            }
        }
        Ok(header)
    }
}
