//! What the source itself keeps: short files, a small part that needs a Mac, and a pool around all that makes objects.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

const LONGEST_FILE: usize = 500;
/// Lines in all of what can be run on a Mac alone.
const MAC_PART: usize = 1500;
const MAC: &str = "#[cfg(target_vendor = \"apple\")]";

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src/metal")
}

/// Every file of the backend, by its path in there.
fn files() -> BTreeMap<String, String> {
    let mut files = BTreeMap::new();
    let mut folders = vec![folder()];
    while let Some(next) = folders.pop() {
        for entry in std::fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let name = path.strip_prefix(folder()).unwrap().display().to_string();
                files.insert(name, std::fs::read_to_string(path).unwrap());
            }
        }
    }
    files
}

/// What `mod.rs` compiles for Apple's systems alone: files, and the lines of items that are in no file of their own.
fn mac_part(files: &BTreeMap<String, String>) -> (Vec<String>, usize) {
    let (mut modules, mut lines) = (Vec::new(), 0);
    let mut rest = files["mod.rs"].lines();
    while let Some(line) = rest.next() {
        if line != MAC {
            continue;
        }
        let first = rest.next().unwrap_or_default();
        if let Some(module) = first.strip_prefix("mod ").and_then(|name| name.strip_suffix(';')) {
            modules.push(format!("{module}.rs"));
            continue;
        }
        lines += 2;
        if first.ends_with('{') {
            lines += 1 + rest.by_ref().take_while(|line| *line != "}").count();
        }
    }
    (modules, lines)
}

#[test]
fn files_are_short_and_what_needs_a_mac_is_little() {
    let files = files();
    for (name, text) in &files {
        assert!(text.lines().count() <= LONGEST_FILE, "{name} has {} lines", text.lines().count());
    }
    let (modules, own) = mac_part(&files);
    assert!(modules.len() > 10, "{modules:?}");
    let lines: usize = modules.iter().map(|name| files[name].lines().count()).sum::<usize>() + own;
    assert!(lines < MAC_PART, "{lines} lines can be run on a Mac alone");
    // Nothing hides elsewhere.
    for (name, text) in files.iter().filter(|(name, _)| *name != "mod.rs" && *name != "tests/source.rs") {
        assert!(!text.contains("target_vendor"), "{name} decides itself where it is compiled");
    }
}

/// Calls by which Metal and Foundation hand out objects.
const FACTORIES: &[&str] = &[
    ".newBuffer",
    ".newCommandQueue",
    ".newFence",
    ".newSharedEvent",
    ".newLibrary",
    ".newFunction",
    ".newComputePipeline",
    ".newCounterSample",
    ".newResidencySet",
    ".newBinaryArchive",
    ".commandBuffer",
    "ommandEncoder()",
    "ommandEncoderWith",
    "Descriptor::new()",
    "PassDescriptor()",
    "CompileOptions::new()",
    "NSString::from_str",
    "NSURL::",
    "NSArray::",
    "sharedCaptureManager()",
    "MTLCopyAllDevices()",
    ".counterSets()",
    ".resolveCounterRange",
    ".functionNames()",
    ".localizedDescription()",
    ".userInfo()",
];
const POOL: &str = "autoreleasepool(";
/// In the comment of a function whose callers have a pool.
const IN_A_POOL: &str = "In a pool.";

/// A function: its name, its comment, and its text from the name on.
struct Function<'t> {
    file: &'t str,
    name: &'t str,
    public: bool,
    comment: String,
    text: &'t str,
}

impl Function<'_> {
    fn has_a_pool(&self) -> bool {
        self.text.contains(POOL) || self.comment.contains(IN_A_POOL)
    }

    fn calls(&self, name: &str) -> bool {
        let is_name = |letter: char| letter.is_alphanumeric() || letter == '_';
        self.text.match_indices(name).any(|(at, _)| {
            let before = self.text[..at].chars().next_back().is_some_and(is_name);
            let behind = &self.text[at + name.len()..];
            !before && !self.text[..at].ends_with("fn ") && (behind.starts_with('(') || behind.starts_with("::<"))
        })
    }
}

/// The functions of a file. rustfmt ends each at its own indentation.
fn functions<'t>(file: &'t str, text: &'t str) -> Vec<Function<'t>> {
    let mut found = Vec::new();
    let mut comment = String::new();
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        let code = line.trim_start();
        let indentation = &line[..line.len() - code.len()];
        let words = ["pub(crate) ", "unsafe "];
        let head = words.iter().fold(code, |code, word| code.strip_prefix(word).unwrap_or(code));
        if let Some(name) = head.strip_prefix("fn ").and_then(|rest| rest.split(['(', '<']).next()) {
            let end = text[at..].find(&format!("\n{indentation}}}\n")).map_or(text.len(), |end| at + end);
            let (comment, public) = (std::mem::take(&mut comment), code.starts_with("pub"));
            found.push(Function { file, name, public, comment, text: &text[at..end] });
        } else if code.starts_with("//") {
            comment += code;
        } else if !code.starts_with("#[") {
            comment.clear();
        }
        at += line.len();
    }
    found
}

/// What makes objects without a pool, or calls such a function without one; and how many functions make objects.
fn without_a_pool(files: &[(&str, &str)]) -> (Vec<String>, usize) {
    let all: Vec<Function<'_>> = files.iter().flat_map(|(file, text)| functions(file, text)).collect();
    let makers = all.iter().filter(|function| FACTORIES.iter().any(|factory| function.text.contains(factory)));
    let makers: Vec<&Function<'_>> = makers.collect();
    let mut found: Vec<String> = Vec::new();
    for function in makers.iter().filter(|function| !function.has_a_pool()) {
        found.push(format!("{}: {} makes objects", function.file, function.name));
    }
    // `new` is the name of many, and `call` is the script's.
    for function in all.iter().filter(|f| f.comment.contains(IN_A_POOL) && !["new", "call"].contains(&f.name)) {
        let callers = all.iter().filter(|caller| function.public || caller.file == function.file);
        let callers: Vec<_> = callers.filter(|caller| caller.calls(function.name)).collect();
        if callers.is_empty() {
            found.push(format!("{}: nobody calls {}", function.file, function.name));
        }
        for caller in callers.iter().filter(|caller| !caller.has_a_pool()) {
            found.push(format!("{}: {} calls {}", caller.file, caller.name, function.name));
        }
    }
    (found, makers.len())
}

#[test]
fn what_makes_objects_does_so_in_a_pool() {
    let files = files();
    let (modules, _) = mac_part(&files);
    let mac: Vec<(&str, &str)> = modules.iter().map(|name| (name.as_str(), files[name].as_str())).collect();
    let (found, makers) = without_a_pool(&mac);
    assert_eq!(found, [] as [String; 0]);
    assert!(makers > 20, "only {makers} functions make objects");
}

#[test]
fn a_missing_pool_is_found() {
    let planted = "fn good() {
    autoreleasepool(|_| helper());
}

/// Makes one. In a pool.
fn helper() {
    device.newFence();
}

fn maker() {
    device.newFence();
}

fn caller() {
    helper();
}
";
    let (found, makers) = without_a_pool(&[("planted.rs", planted)]);
    assert_eq!(found, ["planted.rs: maker makes objects", "planted.rs: caller calls helper"]);
    assert_eq!(makers, 2);
}
