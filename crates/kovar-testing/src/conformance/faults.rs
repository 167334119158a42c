use std::sync::Arc;
use std::time::Duration;

use kovar_hal::cpu::{CpuDispatch, CpuKernel};
use kovar_hal::{BindingKind, Code, HalError, PipelineDesc, ShaderFormat, Timing};

use super::kernels::{STEP, groups};
use super::rig::{Rig, dispatch, is_pipeline_error, read};

fn desc(code: Code) -> PipelineDesc<'static> {
    PipelineDesc {
        label: "bad",
        code,
        entry: "step",
        bindings: &[BindingKind::Write],
        constants: 12,
        group_size: [64, 1, 1],
        group_memory: &[],
        subgroup: None,
    }
}

fn works(rig: &Rig) {
    let step = rig.pipeline(&STEP);
    let x = rig.zeros(64);
    rig.run(Timing::Off, |r| dispatch(r, step, &[x], &[64, 1, 6], 1));
    assert_eq!(read(x), [6; 64]);
}

pub(super) fn bad_code_is_an_error(rig: &Rig) {
    let mut codes = vec![Code::None];
    match rig.device.info().shader {
        ShaderFormat::Spirv(..) => {
            let (Code::Spirv(good), _) = STEP.code(rig.device.info().shader) else { panic!("not SPIR-V") };
            codes.extend([
                Code::Cpu((STEP.cpu)()),
                Code::Spirv(Vec::new()),
                Code::Spirv(vec![1, 2, 3, 4, 5, 6]),
                Code::Spirv(good[..good.len() - 1].to_vec()),
                Code::Spirv(good[..5].to_vec()),
                Code::Spirv([&good[..], &[0]].concat()),
            ]);
            let other = PipelineDesc { entry: "elsewhere", ..desc(Code::Spirv(good)) };
            assert!(is_pipeline_error(rig.device.create_pipeline(&other), "bad"));
        }
        ShaderFormat::Msl(..) => {
            let msl = |source: &str| Code::Msl {
                source: source.into(),
                constants_index: 1,
                sizes_index: None,
                sized: Vec::new(),
            };
            codes.extend([Code::Cpu((STEP.cpu)()), msl("this is not MSL"), msl("kernel void other() {}")]);
        }
        ShaderFormat::Cpu => codes.push(Code::Spirv(vec![1, 2, 3])),
        ShaderFormat::None => {}
    }
    for code in codes {
        assert!(is_pipeline_error(rig.device.create_pipeline(&desc(code)), "bad"));
    }
    works(rig);
}

pub(super) fn pipeline_caches_survive_and_strange_ones_are_ignored(rig: &Rig) {
    works(rig);
    let cache = rig.device.pipeline_cache();
    rig.device.load_pipeline_cache(&cache).unwrap();
    rig.device.load_pipeline_cache(&[]).unwrap();
    rig.device.load_pipeline_cache(&[7; 100]).unwrap();
    if cache.len() > 16 {
        let mut other = cache.clone();
        other[16] ^= 1;
        rig.device.load_pipeline_cache(&other).unwrap();
        rig.device.load_pipeline_cache(&cache[..16]).unwrap();
    }
    works(rig);
}

struct CountPanics;

impl CpuKernel for CountPanics {
    fn tasks(&self, _: &CpuDispatch<'_>) -> u32 {
        std::panic::resume_unwind(Box::new("the count failed"))
    }

    fn run(&self, _: &CpuDispatch<'_>, _: std::ops::Range<u32>) {}
}

/// A kernel that panics costs its own submission, whose event comes all the same, and nothing else.
pub(super) fn faults_are_told_and_later_work_goes_on(rig: &Rig) {
    let missing_slot = groups(|d, _| {
        d.slice::<u32>(9);
    });
    let panics = groups(|_, [g, _, _]| {
        if g == 3 {
            std::panic::resume_unwind(Box::new("task 3 failed"));
        }
    });
    let kernels: [(Arc<dyn CpuKernel>, &str); 3] =
        [(missing_slot, "slot 9"), (panics, "task 3"), (Arc::new(CountPanics), "the count")];
    for (kernel, text) in kernels {
        let bad = rig.device.create_pipeline(&desc(Code::Cpu(kernel))).unwrap();
        let x = rig.zeros(64);
        let commands = rig.run_anyhow(Timing::Whole, |r| dispatch(r, bad, &[x], &[0, 0, 0], 8));
        match commands.status() {
            Err(HalError::Fault { label, reason }) => {
                assert!(label.contains("bad") && reason.contains(text), "{label}: {reason}");
            }
            other => panic!("{other:?}"),
        }
        works(rig);
        // SAFETY: its submission has ended.
        unsafe { rig.device.destroy_pipeline(bad) };
    }
}

/// A recording that faulted is whole again when it runs again and does not.
pub(super) fn a_fault_does_not_stick(rig: &Rig) {
    let kernel = groups(|d, _| {
        if d.slice::<u32>(0)[0] == 1 {
            std::panic::resume_unwind(Box::new("told to"));
        }
    });
    let pipeline = rig.device.create_pipeline(&desc(Code::Cpu(kernel))).unwrap();
    let x = rig.words(&[1]);
    let commands = rig.record(Timing::Off, true, |r| dispatch(r, pipeline, &[x], &[0, 0, 0], 1));
    let value = rig.submit(&commands, &[]);
    rig.wait(value);
    assert!(commands.status().is_err());
    super::rig::write(x, &[0]);
    let value = rig.submit(&commands, &[]);
    rig.wait(value);
    commands.status().unwrap();
    // SAFETY: its submissions have ended.
    unsafe { rig.device.destroy_pipeline(pipeline) };
}

pub(super) fn waits_that_time_out_leave_the_device_usable(rig: &Rig) {
    let event = rig.event(0);
    // SAFETY: the rig keeps the event.
    assert!(!unsafe { rig.device.wait_event(event, 1, Some(Duration::from_millis(1))) }.unwrap());
    works(rig);
}
