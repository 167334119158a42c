//! Rewrite rules: applied where they lose nothing, and there alone.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::ops::Range;
use std::sync::Arc;

use kovar::{
    Backend, Buffer, CommandEncoder, CpuDispatch, CpuKernel, DType, Device, DeviceOptions, Dispatch, Error,
    ExecutableOptions, Flow, Graph, KernelSource, OpKind, Replacement, Rule,
};

const N: usize = 64;

macro_rules! kernel {
    ($name:ident, $text:literal, $body:literal, $constants:ty, |$x:ident, $c:ident| $result:expr) => {
        static $name: KernelSource = KernelSource::wgsl(
            $text,
            concat!(
                "@group(0) @binding(0) var<storage, read> x: array<f32>;
             @group(0) @binding(1) var<storage, read_write> y: array<f32>;",
                $body,
            ),
        )
        .with_cpu(|_| {
            struct Kernel;
            impl CpuKernel for Kernel {
                fn tasks(&self, _: &CpuDispatch<'_>) -> u32 {
                    1
                }
                fn run(&self, dispatch: &CpuDispatch<'_>, _: Range<u32>) {
                    let $c: $constants = dispatch.constants();
                    let input = dispatch.slice::<f32>(0);
                    // SAFETY: there is one task.
                    let y = unsafe { dispatch.slice_mut::<f32>(1, 0..N) };
                    for (y, &$x) in y.iter_mut().zip(input) {
                        *y = $result;
                    }
                }
            }
            Ok(Arc::new(Kernel))
        });
    };
}

kernel!(
    SCALE,
    "scale",
    "var<immediate> a: f32;
    @compute @workgroup_size(64) fn main(@builtin(global_invocation_id) i: vec3<u32>) { y[i.x] = a * x[i.x]; }",
    f32,
    |x, a| a * x
);
kernel!(
    SHIFT,
    "shift",
    "var<immediate> b: f32;
    @compute @workgroup_size(64) fn main(@builtin(global_invocation_id) i: vec3<u32>) { y[i.x] = x[i.x] + b; }",
    f32,
    |x, b| x + b
);
kernel!(
    SCALE_SHIFT,
    "scale_shift",
    "var<immediate> c: vec2<f32>;
    @compute @workgroup_size(64) fn main(@builtin(global_invocation_id) i: vec3<u32>) { y[i.x] = c.x * x[i.x] + c.y; }",
    [f32; 2],
    |x, c| c[0] * x + c[1]
);

const RULE: Rule = Rule {
    name: "scale then shift",
    commands: &["scale", "shift"],
    flows: &[Flow { from: (0, 1), to: (1, 0) }],
    build: |device, found| {
        let [scale, shift] = found.commands[..] else { return Ok(None) };
        let (Some(a), Some(b)) = (scale.constants::<f32>(), shift.constants::<f32>()) else { return Ok(None) };
        let (Some(x), Some(y)) = (scale.slot(0), shift.slot(1)) else { return Ok(None) };
        Ok(Some(Replacement {
            kernel: device.kernel(&SCALE_SHIFT, &[])?,
            slots: vec![x, y],
            constants: bytemuck::bytes_of(&[a, b]).to_vec(),
            groups: [1, 1, 1],
            label: "scale and shift".into(),
            kind: OpKind::Elementwise,
        }))
    },
};

struct Program {
    device: Device,
    x: Buffer,
    y: Buffer,
    z: Buffer,
}

impl Program {
    fn new() -> Program {
        let device = Device::open(&DeviceOptions::of(Backend::Cpu)).unwrap();
        let x = device.upload(&(0..N).map(|i| i as f32).collect::<Vec<_>>(), &[N]).unwrap();
        let (y, z) = (device.buffer(DType::F32, &[N]).unwrap(), device.buffer(DType::F32, &[N]).unwrap());
        Program { device, x, y, z }
    }

    fn run(&self, encoder: &mut CommandEncoder, source: &KernelSource, c: f32, x: &Buffer, y: &Buffer) {
        let kernel = self.device.kernel(source, &[]).unwrap();
        encoder.dispatch(Dispatch::new(&kernel).bind(0, x).bind(1, y).constants(&c).groups([1, 1, 1])).unwrap();
    }

    /// Fuses a recording, checks that it computes the same, and says how many commands were left.
    fn fused(&self, record: impl Fn(&Program, &mut CommandEncoder)) -> usize {
        let capture = || {
            Graph::capture(&self.device, "test", |encoder| {
                record(self, encoder);
                Ok::<_, Error>(())
            })
            .unwrap()
        };
        let result = |graph: Graph| {
            self.y.write(&[0.0f32; N]).unwrap();
            self.z.write(&[0.0f32; N]).unwrap();
            graph.compile(&ExecutableOptions::default()).unwrap().submit().unwrap().wait().unwrap();
            (self.y.read::<f32>().unwrap(), self.z.read::<f32>().unwrap())
        };
        let mut graph = capture();
        graph.fuse(&[RULE]).unwrap();
        assert!(graph.verify().is_proved());
        let left = graph.len();
        assert_eq!(result(graph), result(capture()));
        left
    }
}

#[test]
fn a_pair_becomes_one_command() {
    let program = Program::new();
    let left = program.fused(|p, e| {
        let between = e.scratch(DType::F32, &[N]).unwrap();
        p.run(e, &SCALE, 2.0, &p.x, &between);
        p.run(e, &SHIFT, 1.0, &between, &p.y);
    });
    assert_eq!(left, 1);
}

#[test]
fn pairs_are_found_with_others_between() {
    let program = Program::new();
    let left = program.fused(|p, e| {
        let (a, b) = (e.scratch(DType::F32, &[N]).unwrap(), e.scratch(DType::F32, &[N]).unwrap());
        p.run(e, &SCALE, 2.0, &p.x, &a);
        p.run(e, &SCALE, 3.0, &p.x, &b);
        p.run(e, &SHIFT, 1.0, &a, &p.y);
        p.run(e, &SHIFT, 5.0, &b, &p.z);
    });
    assert_eq!(left, 2);
}

#[test]
fn a_value_that_is_read_elsewhere_is_not_lost() {
    let program = Program::new();
    let left = program.fused(|p, e| {
        let between = e.scratch(DType::F32, &[N]).unwrap();
        p.run(e, &SCALE, 2.0, &p.x, &between);
        p.run(e, &SHIFT, 1.0, &between, &p.y);
        p.run(e, &SHIFT, 7.0, &between, &p.z);
    });
    assert_eq!(left, 3);
}

#[test]
fn a_value_that_the_host_can_read_is_not_lost() {
    let program = Program::new();
    let left = program.fused(|p, e| {
        p.run(e, &SCALE, 2.0, &p.x, &p.z);
        p.run(e, &SHIFT, 1.0, &p.z, &p.y);
    });
    assert_eq!(left, 2);
}

#[test]
fn commands_do_not_move_past_what_conflicts() {
    let program = Program::new();
    let left = program.fused(|p, e| {
        let between = e.scratch(DType::F32, &[N]).unwrap();
        p.run(e, &SCALE, 2.0, &p.z, &between);
        // Overwrites what the first has read: fused, the pair would read the new value.
        p.run(e, &SCALE, 4.0, &p.x, &p.z);
        p.run(e, &SHIFT, 1.0, &between, &p.y);
    });
    assert_eq!(left, 3);
}

#[test]
fn nothing_is_fused_across_a_forced_barrier() {
    let program = Program::new();
    let left = program.fused(|p, e| {
        let between = e.scratch(DType::F32, &[N]).unwrap();
        p.run(e, &SCALE, 2.0, &p.x, &between);
        e.force_barrier();
        p.run(e, &SHIFT, 1.0, &between, &p.y);
    });
    assert_eq!(left, 3);
}

#[test]
fn a_replacement_that_does_not_fit_its_kernel_is_an_error() {
    let program = Program::new();
    let mut graph = Graph::capture(&program.device, "test", |e| {
        let between = e.scratch(DType::F32, &[N])?;
        program.run(e, &SCALE, 2.0, &program.x, &between);
        program.run(e, &SHIFT, 1.0, &between, &program.y);
        Ok::<_, Error>(())
    })
    .unwrap();
    let wrong = Rule {
        build: |device, found| {
            let good = (RULE.build)(device, found)?;
            Ok(good.map(|r| Replacement { constants: vec![0; 4], ..r }))
        },
        ..RULE
    };
    assert!(matches!(graph.fuse(&[wrong]), Err(Error::Dispatch { .. })));
    assert_eq!(graph.len(), 2);
}
