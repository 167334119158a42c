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
    name: &'t str,
    comment: String,
    text: &'t str,
}

/// The functions of a file. rustfmt ends each at its own indentation.
fn functions(text: &str) -> Vec<Function<'_>> {
    let mut found = Vec::new();
    let mut comment = String::new();
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        let code = line.trim_start();
        let indentation = &line[..line.len() - code.len()];
        let head = ["pub(crate) ", "unsafe ", "extern "]
            .iter()
            .fold(code, |code, word| code.strip_prefix(word).unwrap_or(code));
        if let Some(name) = head.strip_prefix("fn ").and_then(|rest| rest.split(['(', '<']).next()) {
            let end = text[at..].find(&format!("\n{indentation}}}\n")).map_or(text.len(), |end| at + end);
            found.push(Function { name, comment: std::mem::take(&mut comment), text: &text[at..end] });
        } else if code.starts_with("//") {
            comment += code;
        } else if !code.starts_with("#[") {
            comment.clear();
        }
        at += line.len();
    }
    found
}

fn calls(text: &str, name: &str) -> bool {
    let is_name = |letter: char| letter.is_alphanumeric() || letter == '_';
    text.match_indices(name).any(|(at, _)| {
        let before = text[..at].chars().next_back().is_some_and(is_name);
        let declared = text[..at].ends_with("fn ");
        !before && !declared && text[at + name.len()..].starts_with(['(', ':'])
    })
}

#[test]
fn what_makes_objects_does_so_in_a_pool() {
    let files = files();
    let (modules, _) = mac_part(&files);
    let all: Vec<(&String, Function<'_>)> = modules
        .iter()
        .flat_map(|name| functions(&files[name]).into_iter().map(move |function| (name, function)))
        .collect();
    let pooled = |function: &Function<'_>| function.text.contains(POOL) || function.comment.contains(IN_A_POOL);
    let mut makers = 0;
    for (file, function) in &all {
        let makes = FACTORIES.iter().find(|factory| function.text.contains(*factory));
        makers += usize::from(makes.is_some());
        assert!(makes.is_none() || pooled(function), "{file}: {} calls {makes:?} without a pool", function.name);
    }
    assert!(makers > 20, "only {makers} functions make objects");
    let relying = all.iter().filter(|(_, f)| f.comment.contains(IN_A_POOL) && f.name != "new");
    for (file, function) in relying {
        let mut callers = 0;
        for (from, caller) in all.iter().filter(|(_, caller)| calls(caller.text, function.name)) {
            callers += 1;
            assert!(pooled(caller), "{from}: {} calls {} of {file} without a pool", caller.name, function.name);
        }
        assert!(callers > 0 || function.name == "call", "{file}: nobody calls {}", function.name);
    }
}
