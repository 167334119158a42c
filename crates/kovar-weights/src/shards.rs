//! Which files of a folder hold the weights: named by an index, or found by their names.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs;
use std::path::{Component, Path};

use crate::mapped_file::{is_missing, read_small};
use crate::{Safetensors, WeightsError};

const INDEX: &str = "model.safetensors.index.json";

/// In bytes. Those of the largest models stay under ten megabytes.
const MAX_INDEX: u64 = 64 << 20;

/// Opens the weights files of a folder.
pub(crate) fn open_files(dir: &Path) -> Result<Vec<Safetensors>, WeightsError> {
    match read_index(dir)? {
        Some(index) => open_indexed(dir, &index),
        None => find_files(dir)?.iter().map(|name| Safetensors::open(dir.join(name))).collect(),
    }
}

#[derive(serde::Deserialize)]
struct Index {
    /// File by tensor.
    weight_map: BTreeMap<String, String>,
}

fn read_index(dir: &Path) -> Result<Option<Index>, WeightsError> {
    let file = dir.join(INDEX);
    let bytes = match read_small(&file, MAX_INDEX) {
        Ok(bytes) => bytes,
        Err(e) if is_missing(&e) => return Ok(None),
        Err(e) => return Err(e),
    };
    let index: Index = match serde_json::from_slice(&bytes) {
        Ok(index) => index,
        Err(e) => {
            return Err(WeightsError::InvalidIndex { file, reason: e.to_string() });
        }
    };
    if index.weight_map.is_empty() {
        return Err(WeightsError::InvalidIndex { file, reason: "it names no tensors".into() });
    }
    if let Some(name) = index.weight_map.values().find(|name| !is_plain_name(name)) {
        let reason = format!("it names the file {name}, which is outside the folder");
        return Err(WeightsError::InvalidIndex { file, reason });
    }
    Ok(Some(index))
}

/// Whether this is the name of a file in the folder itself, on any system.
fn is_plain_name(name: &str) -> bool {
    let mut parts = Path::new(name).components();
    matches!((parts.next(), parts.next()), (Some(Component::Normal(_)), None)) && !name.contains(['/', '\\', ':', '\0'])
}

fn open_indexed(dir: &Path, index: &Index) -> Result<Vec<Safetensors>, WeightsError> {
    let names: BTreeSet<&str> = index.weight_map.values().map(String::as_str).collect();
    let mut files = BTreeMap::new();
    for name in names {
        let path = dir.join(name);
        let file = Safetensors::open(&path).map_err(|e| match is_missing(&e) {
            true => WeightsError::MissingShard { file: path, wanted_by: INDEX.into() },
            false => e,
        })?;
        files.insert(name, file);
    }
    for (tensor, name) in &index.weight_map {
        if files.get(name.as_str()).is_none_or(|file| !file.contains(tensor)) {
            return Err(WeightsError::MissingFromShard {
                index: dir.join(INDEX),
                file: dir.join(name),
                tensor: tensor.clone(),
            });
        }
    }
    Ok(files.into_values().collect())
}

/// The weights files of a folder without an index, as MLX looks for them.
fn find_files(dir: &Path) -> Result<BTreeSet<OsString>, WeightsError> {
    let failed = |source| WeightsError::Io { path: dir.into(), source };
    let mut weights = BTreeSet::new();
    let mut others = Vec::new();
    for entry in fs::read_dir(dir).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name();
        // a name that is not UTF-8 can match as well: its ends are what counts
        let text = name.to_string_lossy();
        if text.starts_with("model") && text.ends_with(".safetensors") {
            weights.insert(name);
        } else if [".safetensors", ".gguf", ".bin", ".npz", ".pt", ".pth"].iter().any(|end| text.ends_with(end)) {
            others.push(text.into_owned());
        }
    }
    if weights.is_empty() {
        others.sort();
        return Err(WeightsError::NoWeights { dir: dir.into(), others });
    }
    refuse_gaps(dir, &weights)?;
    Ok(weights)
}

/// Refuses numbered files of which one is missing.
fn refuse_gaps(dir: &Path, names: &BTreeSet<OsString>) -> Result<(), WeightsError> {
    for name in names.iter().filter_map(|name| name.to_str()) {
        let Some(shard) = Shard::from_name(name) else {
            continue;
        };
        // stops at the first gap, so a name that promises millions of files costs nothing
        for number in 1..=shard.count {
            let wanted = shard.sibling(number);
            if !names.contains(&OsString::from(&wanted)) {
                return Err(WeightsError::MissingShard { file: dir.join(wanted), wanted_by: name.into() });
            }
        }
    }
    Ok(())
}

/// The parts of `model-00002-of-00003.safetensors`.
struct Shard<'a> {
    prefix: &'a str,
    digits: usize,
    count: u64,
    count_text: &'a str,
}

impl<'a> Shard<'a> {
    fn from_name(name: &'a str) -> Option<Self> {
        let (rest, count_text) = name.strip_suffix(".safetensors")?.rsplit_once("-of-")?;
        let digits = rest.len() - rest.trim_end_matches(|c: char| c.is_ascii_digit()).len();
        let prefix = &rest[..rest.len() - digits];
        let all_digits = count_text.bytes().all(|b| b.is_ascii_digit());
        let count = count_text.parse().ok().filter(|_| all_digits)?;
        (digits > 0).then_some(Self { prefix, digits, count, count_text })
    }

    fn sibling(&self, number: u64) -> String {
        format!("{}{number:0digits$}-of-{}.safetensors", self.prefix, self.count_text, digits = self.digits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shard_names_are_taken_apart() {
        let shard = Shard::from_name("model-00002-of-00003.safetensors").unwrap();
        assert_eq!(shard.count, 3);
        assert_eq!(shard.sibling(1), "model-00001-of-00003.safetensors");
        let other = Shard::from_name("model.safetensors-1-of-12.safetensors").unwrap();
        assert_eq!(other.sibling(10), "model.safetensors-10-of-12.safetensors");
        for name in
            ["model.safetensors", "model-of-3.safetensors", "model-1-of-+3.safetensors", "model-1-of-.safetensors"]
        {
            assert!(Shard::from_name(name).is_none(), "{name}");
        }
    }

    #[test]
    fn an_index_may_name_only_files_of_its_own_folder() {
        for name in ["model.safetensors", "model-00001-of-00002.safetensors", "..."] {
            assert!(is_plain_name(name), "{name}");
        }
        for name in ["", ".", "..", "../x", "/etc/passwd", "a/b", "a\\b", "C:x", "x/", "./x", "a\0b"] {
            assert!(!is_plain_name(name), "{name}");
        }
    }
}
