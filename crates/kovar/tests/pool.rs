//! The pool: whatever is taken and given back in whatever order, no two buffers share bytes, and the statistics add up.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::{cpu, null};
use kovar::{Arena, Buffer, DType, Device, DeviceOptions, Error, PoolStats, Submission};
use proptest::collection::vec;
use proptest::prelude::*;

/// Below this size a block may be wasted by more than a quarter.
const SMALLEST: u64 = 256;

#[derive(Debug, Clone)]
enum Step {
    /// A buffer of so many words.
    Take(usize),
    /// Drop one of those that are held.
    Give(usize),
    /// Fill all that are held by one submission, of which nobody waits for the end.
    Use,
    /// So many buffers of an arena, used by one submission or two, and back at once.
    Arena(Vec<usize>, bool),
    /// Empty the pool.
    Trim,
}

/// Miri takes its time with each word.
const MIRI: bool = cfg!(miri);

fn words() -> impl Strategy<Value = usize> {
    prop_oneof![1usize..80, 80usize..if MIRI { 90 } else { 5000 }, Just(64), Just(if MIRI { 65 } else { 1025 })]
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => words().prop_map(Step::Take),
        3 => any::<usize>().prop_map(Step::Give),
        2 => Just(Step::Use),
        1 => (vec(words(), 0..6), any::<bool>()).prop_map(|(words, twice)| Step::Arena(words, twice)),
        1 => Just(Step::Trim),
    ];
    vec(step, 1..if MIRI { 12 } else { 40 })
}

fn use_all<'a>(device: &Device, buffers: impl IntoIterator<Item = &'a (Buffer, u32)>) -> Submission {
    let mut encoder = device.encoder().unwrap();
    for (buffer, word) in buffers {
        encoder.fill(buffer, *word).unwrap();
    }
    encoder.commit().unwrap()
}

fn addresses(buffer: &Buffer) -> std::ops::Range<usize> {
    let start = buffer.map::<u32>().unwrap().as_ptr() as usize;
    start..start + buffer.byte_len() as usize
}

/// The pool as it should be.
#[derive(Default)]
struct Model {
    peak: u64,
    seen: PoolStats,
}

impl Model {
    fn check(&mut self, device: &Device, held: &[(Buffer, u32)]) {
        let stats = device.pool_stats();
        let asked: u64 = held.iter().map(|(buffer, _)| buffer.byte_len()).sum();
        assert_eq!(stats.asked, asked);
        let small = held.iter().filter(|(buffer, _)| buffer.byte_len() < SMALLEST).count() as u64;
        let wasted = stats.live - stats.asked;
        assert!(4 * wasted.saturating_sub(small * SMALLEST) <= stats.live, "{stats:?}");
        self.peak = self.peak.max(stats.live + stats.free);
        assert!(stats.peak >= self.peak && stats.peak >= self.seen.peak && stats.reused >= self.seen.reused);
        self.seen = stats;
    }
}

/// Runs the steps. `device` executes fills if `runs`.
fn run(device: &Device, steps: &[Step], runs: bool) {
    let (mut held, mut model): (Vec<(Buffer, u32)>, Model) = Default::default();
    for (step, number) in steps.iter().zip(1u32..) {
        match step {
            Step::Take(words) => {
                let buffer = device.scratch(DType::U32, &[*words]).unwrap();
                let bytes = addresses(&buffer);
                for (other, _) in &held {
                    let other = addresses(other);
                    assert!(bytes.end <= other.start || other.end <= bytes.start, "{bytes:?} and {other:?}");
                }
                buffer.write(&vec![number; *words]).unwrap();
                held.push((buffer, number));
            }
            Step::Give(which) if !held.is_empty() => drop(held.swap_remove(which % held.len())),
            Step::Give(_) => {}
            Step::Use => {
                held.iter_mut().for_each(|(_, word)| *word += 1000);
                drop(use_all(device, &held));
            }
            Step::Arena(sizes, twice) => {
                let mut arena = device.arena();
                let taken = |words: &usize, arena: &mut Arena| (arena.buffer(DType::U32, &[*words]).unwrap(), 7);
                let buffers: Vec<_> = sizes.iter().map(|words| taken(words, &mut arena)).collect();
                let times = 1 + usize::from(*twice);
                let submissions: Vec<_> = (0..times).map(|_| use_all(device, &buffers)).collect();
                drop(buffers);
                let live = device.pool_stats().live;
                assert_eq!(arena.end(submissions).unwrap().len(), times);
                assert!(sizes.is_empty() || device.pool_stats().live < live);
            }
            Step::Trim => {
                device.trim_pool();
                assert_eq!(device.pool_stats().free, 0);
            }
        }
        // What was dropped comes back when the submissions that used it are known to have ended.
        device.wait_idle().unwrap();
        model.check(device, &held);
        for (buffer, word) in held.iter().filter(|_| runs) {
            assert!(buffer.map::<u32>().unwrap().iter().all(|value| value == word), "somebody else wrote there");
        }
    }
    drop(held);
    device.wait_idle().unwrap();
    let end = device.pool_stats();
    assert_eq!((end.live, end.asked), (0, 0));
    assert!(end.free <= end.peak);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if MIRI { 2 } else { 150 }))]

    #[test]
    fn any_order_on_the_cpu(steps in steps()) {
        run(&cpu(), &steps, true);
    }

    #[test]
    fn any_order_on_the_null_device(steps in steps()) {
        run(&null(), &steps, false);
    }
}

#[test]
#[cfg_attr(miri, ignore = "foreign code")]
fn any_order_on_every_device() {
    use proptest::strategy::ValueTree;
    use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
    let mut runner = TestRunner::new_with_rng(Config::default(), TestRng::deterministic_rng(RngAlgorithm::ChaCha));
    let programs: Vec<_> = (0..12).map(|_| steps().new_tree(&mut runner).unwrap().current()).collect();
    for subject in kovar_testing::subjects("any_order_on_every_device") {
        let device = Some(subject.name.parse().unwrap());
        let options = DeviceOptions { device, validation: subject.validation, ..DeviceOptions::default() };
        for steps in &programs {
            let device = Device::open(&options).unwrap();
            run(&device, steps, true);
            let messages = device.validation_messages();
            assert!(messages.is_empty(), "{}: {}", subject.name, messages.join("\n"));
        }
    }
}

#[test]
fn an_arena_ends_with_the_submissions_that_used_it_and_no_earlier() {
    let device = null();
    let mut arena = device.arena();
    let buffers = [arena.buffer(DType::U32, &[64]).unwrap(), arena.buffer(DType::F32, &[8, 4]).unwrap()];
    assert_eq!((arena.len(), arena.is_empty()), (2, false));
    let held: Vec<_> = buffers.into_iter().map(|buffer| (buffer, 1)).collect();
    let (first, second) = (use_all(&device, &held), use_all(&device, &held[1..]));
    drop(held);
    let number = second.number();
    match arena.end([first]) {
        Err(Error::ArenaUsed { shape, submission }) => assert_eq!((shape, submission), (vec![8, 4], number)),
        other => panic!("{other:?}"),
    }
    second.wait().unwrap();
    assert_eq!(device.pool_stats().live, 0, "what was refused comes back by itself");
    // A submission of another device says nothing.
    let other = null();
    let mut arena = device.arena();
    let held = [(arena.buffer(DType::U32, &[64]).unwrap(), 1)];
    drop(use_all(&device, &held));
    let foreign: Vec<_> = (0..9).map(|_| other.encoder().unwrap().commit().unwrap()).collect();
    assert!(matches!(arena.end(foreign), Err(Error::ArenaUsed { .. })));
}

#[test]
fn a_handle_that_outlives_its_arena_keeps_its_memory() {
    let device = cpu();
    let mut arena = device.arena();
    let [kept, other] = [(); 2].map(|()| arena.buffer(DType::U32, &[100]).unwrap());
    let view = kept.view(10..20).unwrap();
    let submission = use_all(&device, &[(kept.clone(), 5), (other, 6)]);
    drop(kept);
    assert!(matches!(arena.end([submission]), Err(Error::ArenaHeld { buffers: 1 })));
    assert_eq!(device.pool_stats().asked, 400);
    let (again, another) = (device.scratch(DType::U32, &[100]).unwrap(), device.scratch(DType::U32, &[100]).unwrap());
    use_all(&device, &[(again, 8), (another, 9)]).wait().unwrap();
    assert_eq!(view.read::<u32>().unwrap(), [5; 10]);
    drop(view);
    assert_eq!(device.pool_stats().live, 0);
}

#[test]
fn a_dropped_arena_gives_its_buffers_back() {
    let device = null();
    let mut arena = device.arena();
    arena.buffer(DType::U32, &[1000]).unwrap();
    assert_ne!(device.pool_stats().live, 0);
    drop(arena);
    assert_eq!(device.pool_stats().live, 0);
    assert!(device.arena().end([]).unwrap().is_empty());
}
