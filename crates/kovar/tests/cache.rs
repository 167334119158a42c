//! The disk cache: the second start translates nothing, and no damage to it does any.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use common::{AXPY, AxpyParams};
use kovar::{Backend, Device, DeviceOptions, Dispatch, Kernel, KernelSource, Stats};
use kovar_testing::subjects;
use proptest::prelude::*;

const N: usize = 100;

/// y = x · a + b with both burned in.
static AFFINE: KernelSource = KernelSource::wgsl(
    "affine",
    "override A: f32 = 1.0;
     override B: f32 = 0.0;
     @group(0) @binding(0) var<storage, read> x: array<f32>;
     @group(0) @binding(1) var<storage, read_write> y: array<f32>;
     @compute @workgroup_size(64)
     fn main(@builtin(global_invocation_id) id: vec3<u32>) {
         if (id.x < arrayLength(&y)) { y[id.x] = x[id.x] * A + B; }
     }",
);

const FORMS: [&[(&str, f64)]; 3] = [&[("A", 2.0), ("B", 1.0)], &[("A", 1.0), ("B", 2.0)], &[("B", 2.0)]];

fn open(choice: &str, folder: &Path) -> Device {
    let device = Some(choice.parse().unwrap());
    Device::open(&DeviceOptions { device, cache: Some(folder.into()), ..DeviceOptions::default() }).unwrap()
}

fn has_wgsl(device: &Device) -> bool {
    matches!(device.info().backend, Backend::Vulkan | Backend::Metal)
}

/// Compiles what the device can run, and runs it: the right results, or a panic.
fn work(device: &Device) {
    let x: Vec<f32> = (0..N).map(|i| i as f32).collect();
    let run = |kernel: &Kernel, params: Option<AxpyParams>| {
        let (x, y) = (device.upload(&x, &[N]).unwrap(), device.upload(&x, &[N]).unwrap());
        let mut encoder = device.encoder().unwrap();
        let dispatch = Dispatch::new(kernel).bind(0, &x).bind(1, &y).threads([N as u32, 1, 1]);
        match &params {
            Some(params) => encoder.dispatch(dispatch.constants(params)).unwrap(),
            None => encoder.dispatch(dispatch).unwrap(),
        }
        encoder.commit().unwrap().wait().unwrap();
        y.read::<f32>().unwrap()
    };
    let axpy = device.kernel(&AXPY, &[]).unwrap();
    assert_eq!(axpy.reflection().slots[1].name, "y");
    let y = run(&axpy, Some(AxpyParams { n: N as u32, a: 2.0 }));
    if device.info().backend != Backend::Null {
        assert_eq!(y, x.iter().map(|x| 3.0 * x).collect::<Vec<_>>());
    }
    for form in FORMS {
        if has_wgsl(device) {
            let value = |name, default| form.iter().find(|(n, _)| *n == name).map_or(default, |(_, v)| *v as f32);
            let (a, b) = (value("A", 1.0), value("B", 0.0));
            let y = run(&device.kernel(&AFFINE, form).unwrap(), None);
            assert_eq!(y, x.iter().map(|x| a * x + b).collect::<Vec<_>>(), "{form:?}");
        }
    }
}

/// Kernels that `work` compiles.
fn kernels(device: &Device) -> u64 {
    if has_wgsl(device) { 1 + FORMS.len() as u64 } else { 1 }
}

fn start(choice: &str, folder: &Path) -> Stats {
    let device = open(choice, folder);
    work(&device);
    assert_eq!(device.stats().kernels_compiled, kernels(&device));
    device.stats()
}

/// Every device here, and the null device.
fn choices(test: &str) -> Vec<String> {
    subjects(test).into_iter().map(|subject| subject.name).chain(["null".into()]).collect()
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

#[test]
fn the_second_start_translates_nothing() {
    for choice in choices("the_second_start_translates_nothing") {
        let folder = tempfile::tempdir().unwrap();
        let first = start(&choice, folder.path());
        assert_eq!((first.kernels_translated, first.cache_hits), (first.kernels_compiled, 0), "{choice}");
        let second = start(&choice, folder.path());
        assert_eq!((second.kernels_translated, second.cache_hits), (0, second.kernels_compiled), "{choice}");
        assert_eq!((second.cache_rejected, second.cache_unwritten), (0, 0), "{choice}");
        if choice.starts_with("vulkan") {
            let pipelines = files(folder.path()).into_iter().filter(|f| f.extension().unwrap() == "pipelines");
            assert_eq!(pipelines.count(), 1, "the driver's pipelines are kept");
        }
    }
}

#[test]
fn without_a_folder_nothing_is_kept() {
    let device = common::null();
    work(&device);
    let stats = device.stats();
    assert_eq!((stats.kernels_translated, stats.cache_hits, stats.cache_unwritten), (1, 0, 0));
    device.save_cache();
}

#[test]
fn devices_and_constants_share_a_folder_and_keep_apart() {
    let folder = tempfile::tempdir().unwrap();
    let choices = choices("devices_and_constants_share_a_folder_and_keep_apart");
    for _ in 0..2 {
        for choice in &choices {
            start(choice, folder.path());
        }
    }
    for choice in &choices {
        assert_eq!(start(choice, folder.path()).kernels_translated, 0, "{choice}");
    }
}

#[test]
fn a_folder_that_cannot_be_written_slows_down_and_breaks_nothing() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let stats = start("cpu", &file.path().join("below a file"));
    assert_eq!((stats.kernels_translated, stats.cache_unwritten), (1, 1));
}

#[test]
fn a_kernel_that_does_not_translate_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let device = open("null", folder.path());
    let broken = KernelSource::from_text("broken", "fn main( {");
    for _ in 0..2 {
        device.kernel(&broken, &[]).unwrap_err();
    }
    assert_eq!(device.stats().kernels_translated, 2);
    assert!(files(folder.path()).is_empty());
}

#[derive(Debug, Clone)]
enum Damage {
    Truncate(prop::sample::Index),
    Flip(prop::sample::Index, u8),
    Replace(Vec<u8>),
    /// The file of another key.
    Swap(prop::sample::Index),
    Append(Vec<u8>),
}

fn damage() -> impl Strategy<Value = Damage> {
    let bytes = || prop::collection::vec(any::<u8>(), 1..100);
    prop_oneof![
        any::<prop::sample::Index>().prop_map(Damage::Truncate),
        (any::<prop::sample::Index>(), 1u8..).prop_map(|(at, flip)| Damage::Flip(at, flip)),
        bytes().prop_map(Damage::Replace),
        any::<prop::sample::Index>().prop_map(Damage::Swap),
        bytes().prop_map(Damage::Append),
    ]
}

fn apply(folder: &Path, which: &prop::sample::Index, damage: &Damage) {
    let files = files(folder);
    let path = &files[which.index(files.len())];
    let mut bytes = fs::read(path).unwrap();
    match damage {
        Damage::Truncate(at) => bytes.truncate(at.index(bytes.len() + 1)),
        Damage::Flip(at, flip) => {
            let at = at.index(bytes.len() + 1);
            bytes.get_mut(at).into_iter().for_each(|byte| *byte ^= flip);
        }
        Damage::Replace(with) => bytes.clone_from(with),
        Damage::Swap(with) => bytes = fs::read(&files[with.index(files.len())]).unwrap(),
        Damage::Append(tail) => bytes.extend_from_slice(tail),
    }
    fs::write(path, bytes).unwrap();
}

fn damaged_caches(choice: &str, cases: u32) {
    let whole = tempfile::tempdir().unwrap();
    start(choice, whole.path());
    let config = ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() };
    proptest!(config, |(damages in prop::collection::vec((any::<prop::sample::Index>(), damage()), 1..6))| {
        let folder = tempfile::tempdir().unwrap();
        for file in files(whole.path()) {
            fs::copy(&file, folder.path().join(file.file_name().unwrap())).unwrap();
        }
        for (which, damage) in &damages {
            apply(folder.path(), which, damage);
        }
        // The right results, whatever the files hold; and what was rejected is written anew.
        let stats = start(choice, folder.path());
        prop_assert_eq!(stats.kernels_translated + stats.cache_hits, stats.kernels_compiled);
        prop_assert_eq!(stats.cache_unwritten, 0);
        let stats = start(choice, folder.path());
        prop_assert_eq!((stats.kernels_translated, stats.cache_rejected), (0, 0));
    });
}

#[test]
fn damage_does_none() {
    damaged_caches("null", 200);
    damaged_caches("cpu", 50);
    for choice in choices("damage_does_none").iter().filter(|choice| choice.starts_with("vulkan")) {
        damaged_caches(choice, 30);
    }
}

const FOLDER: &str = "KOVAR_TEST_CACHE_FOLDER";

/// Kernels that every process compiles.
fn many() -> Vec<KernelSource> {
    let source = |i: u32| {
        let text = format!(
            "@group(0) @binding(0) var<storage, read_write> y: array<f32>;
             @compute @workgroup_size(64) fn main(@builtin(global_invocation_id) id: vec3<u32>) {{ y[id.x] = {i}.0; }}"
        );
        KernelSource::from_text(format!("constant {i}"), text)
    };
    (0..24).map(source).collect()
}

/// One of the processes of the test below; on its own it has nothing to do.
#[test]
fn one_process_of_several() {
    let Ok(folder) = std::env::var(FOLDER) else { return };
    for _ in 0..4 {
        let device = open("null", Path::new(&folder));
        for source in many() {
            assert_eq!(device.kernel(&source, &[]).unwrap().reflection().slots[0].name, "y");
        }
        let stats = device.stats();
        assert_eq!((stats.cache_rejected, stats.cache_unwritten), (0, 0));
    }
}

#[test]
fn processes_that_share_a_folder_do_not_disturb_each_other() {
    let folder = tempfile::tempdir().unwrap();
    let program = std::env::current_exe().unwrap();
    let spawn = |_| {
        let mut command = Command::new(&program);
        command.args(["--exact", "one_process_of_several", "--nocapture"]).env(FOLDER, folder.path());
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    for child in (0..4).map(spawn).collect::<Vec<_>>() {
        let output = child.wait_with_output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && text.contains("1 passed"), "{text}");
    }
    let device = open("null", folder.path());
    for source in many() {
        device.kernel(&source, &[]).unwrap();
    }
    let stats = device.stats();
    assert_eq!((stats.kernels_translated, stats.cache_hits, stats.cache_rejected), (0, 24, 0));
    assert_eq!(files(folder.path()).len(), 24, "temporary files are left");
}
