//! What a file claims must not be allocated before it is checked. This binary counts what is allocated.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

use common::{Folder, SHIPPED, file};
use kovar_weights::ModelDir;

/// The largest single request so far.
static LARGEST: AtomicUsize = AtomicUsize::new(0);

struct Counting;

// SAFETY: every call is passed on unchanged to the system's allocator, which keeps the contract.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        LARGEST.fetch_max(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promise about `layout` is the one that `System` asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        // SAFETY: `ptr` came from `System` by way of `alloc` or `realloc`, with this layout.
        unsafe { System.dealloc(ptr, layout) }
    }

    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        LARGEST.fetch_max(size, Ordering::Relaxed);
        // SAFETY: `ptr` came from `System` with this layout, and `size` is the caller's promise.
        unsafe { System.realloc(ptr, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn largest_while_opening(path: &std::path::Path) -> (usize, bool) {
    LARGEST.store(0, Ordering::Relaxed);
    let opened = ModelDir::open(path).is_ok();
    (LARGEST.load(Ordering::Relaxed), opened)
}

// one test, because the count is the whole program's
#[test]
fn nothing_large_is_allocated_on_a_files_word() {
    let entry = |shape: &str, end: u64| {
        format!(r#"{{"a":{{"dtype":"F32","shape":{shape},"data_offsets":[0,{end}]}}}}"#).into_bytes()
    };
    let header = |text: Vec<u8>| file(&String::from_utf8_lossy(&text), &[0; 64]);
    let absurd = [
        [&99_999_999u64.to_le_bytes()[..], b"{}"].concat(),
        [&u64::MAX.to_le_bytes()[..], b"{}"].concat(),
        header(entry("[1099511627776]", 4_398_046_511_104)),
        header(entry("[4611686018427387904]", 0)),
        header(entry("[0,18446744073709551615]", 0)),
        header(entry("[16]", 64)),
    ];
    for (i, bytes) in absurd.iter().enumerate() {
        let folder = Folder::new().write("config.json", "{}").write("model.safetensors", bytes);
        let (largest, opened) = largest_while_opening(folder.path());
        assert!(largest < 64 << 10, "file {i}: {largest} bytes at once");
        assert_eq!(opened, i == 5, "file {i}");
    }

    // names that promise many files stop at the first that is missing
    let name = "model-00000000000000000001-of-18446744073709551615.safetensors";
    let folder = Folder::new().write("config.json", "{}").write(name, header(entry("[16]", 64)));
    let (largest, opened) = largest_while_opening(folder.path());
    assert!(largest < 64 << 10 && !opened, "{largest} bytes at once");

    // 8 MB of weights are mapped, not read
    let (largest, opened) = largest_while_opening(SHIPPED.as_ref());
    assert!(largest < 256 << 10 && opened, "{largest} bytes at once");
}
