//! Small kernels in WGSL, each with its twin in Rust.

use std::ops::Range;
use std::sync::Arc;

use kovar_hal::cpu::{CpuDispatch, CpuKernel};
use kovar_hal::{BindingKind, Code, ShaderFormat};

/// One kernel in all forms.
pub struct Kernel {
    /// Its name, and that of its entry point.
    pub name: &'static str,
    /// For GPUs.
    pub wgsl: &'static str,
    /// Its slots.
    pub bindings: &'static [BindingKind],
    /// Bytes of inline constants.
    pub constants: u32,
    /// Threads of a workgroup.
    pub group_size: [u32; 3],
    /// Bytes of each workgroup variable.
    pub group_memory: &'static [u32],
    /// Its twin.
    pub cpu: fn() -> Arc<dyn CpuKernel>,
}

use BindingKind::{Read, Uniform, Write};

/// y\[i\] = a · x\[i\] + y\[i\] for i < n.
pub static AXPY: Kernel = Kernel {
    name: "axpy",
    wgsl: "
struct P { n: u32, a: f32 }
var<immediate> p: P;
@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;
@compute @workgroup_size(64)
fn axpy(@builtin(global_invocation_id) g: vec3<u32>) { if (g.x < p.n) { y[g.x] = p.a * x[g.x] + y[g.x]; } }",
    bindings: &[Read, Write],
    constants: 8,
    group_size: [64, 1, 1],
    group_memory: &[],
    cpu: || {
        threads(|d, [i, _, _]| {
            let [n, a] = d.constants::<[u32; 2]>();
            if i < n {
                let y = element(d, 1, i);
                *y = (f32::from_bits(a) * d.slice::<f32>(0)[i as usize] + f32::from_bits(*y)).to_bits();
            }
        })
    },
};

/// out\[i\] = base + i, where i counts the threads of a three-dimensional grid, x fastest.
pub static IOTA: Kernel = Kernel {
    name: "iota",
    wgsl: "
struct P { base: u32 }
var<immediate> p: P;
@group(0) @binding(0) var<storage, read_write> out: array<u32>;
@compute @workgroup_size(4, 2, 2)
fn iota(@builtin(global_invocation_id) g: vec3<u32>, @builtin(num_workgroups) n: vec3<u32>) {
    let i = (g.z * n.y * 2u + g.y) * n.x * 4u + g.x;
    out[i] = p.base + i;
}",
    bindings: &[Write],
    constants: 4,
    group_size: [4, 2, 2],
    group_memory: &[],
    cpu: || {
        threads(|d, [x, y, z]| {
            let n = d.groups();
            let i = (z * n[1] * 2 + y) * n[0] * 4 + x;
            *element(d, 0, i) = d.constants::<u32>() + i;
        })
    },
};

/// x\[i\] = x\[i\] · mul + add for i < n: a chain of these shows in which order they ran.
pub static STEP: Kernel = Kernel {
    name: "step",
    wgsl: "
struct P { n: u32, mul: u32, add: u32 }
var<immediate> p: P;
@group(0) @binding(0) var<storage, read_write> x: array<u32>;
@compute @workgroup_size(64)
fn step(@builtin(global_invocation_id) g: vec3<u32>) { if (g.x < p.n) { x[g.x] = x[g.x] * p.mul + p.add; } }",
    bindings: &[Write],
    constants: 12,
    group_size: [64, 1, 1],
    group_memory: &[],
    cpu: || {
        threads(|d, [i, _, _]| {
            let [n, mul, add] = d.constants::<[u32; 3]>();
            if i < n {
                let x = element(d, 0, i);
                *x = x.wrapping_mul(mul).wrapping_add(add);
            }
        })
    },
};

/// sums\[g\] = sum of the 64 elements of workgroup g, added up in workgroup memory.
pub static REDUCE: Kernel = Kernel {
    name: "reduce",
    wgsl: "
@group(0) @binding(0) var<storage, read> x: array<u32>;
@group(0) @binding(1) var<storage, read_write> sums: array<u32>;
var<workgroup> part: array<u32, 64>;
@compute @workgroup_size(64)
fn reduce(
    @builtin(global_invocation_id) g: vec3<u32>,
    @builtin(local_invocation_index) l: u32,
    @builtin(workgroup_id) w: vec3<u32>,
) {
    part[l] = x[g.x];
    for (var half = 32u; half > 0u; half = half / 2u) {
        workgroupBarrier();
        if (l < half) { part[l] = part[l] + part[l + half]; }
    }
    if (l == 0u) { sums[w.x] = part[0]; }
}",
    bindings: &[Read, Write],
    constants: 0,
    group_size: [64, 1, 1],
    group_memory: &[256],
    cpu: || {
        groups(|d, [g, _, _]| {
            let of = g as usize * 64..(g as usize + 1) * 64;
            *element(d, 1, g) = d.slice::<u32>(0)[of].iter().sum();
        })
    },
};

/// Writes the grid \[n, 1, 1\] for an indirect dispatch.
pub static WRITE_GRID: Kernel = Kernel {
    name: "write_grid",
    wgsl: "
struct P { n: u32 }
var<immediate> p: P;
@group(0) @binding(0) var<storage, read_write> grid: array<u32>;
@compute @workgroup_size(1)
fn write_grid() { grid[0] = p.n; grid[1] = 1u; grid[2] = 1u; }",
    bindings: &[Write],
    constants: 4,
    group_size: [1, 1, 1],
    group_memory: &[],
    cpu: || {
        groups(|d, _| {
            *element(d, 0, 0) = d.constants::<u32>();
            *element(d, 0, 1) = 1;
            *element(d, 0, 2) = 1;
        })
    },
};

/// out\[i\] = table\[i % 4\], the table in a uniform block.
pub static LOOK_UP: Kernel = Kernel {
    name: "look_up",
    wgsl: "
struct Table { row: vec4<u32> }
@group(0) @binding(0) var<uniform> table: Table;
@group(0) @binding(1) var<storage, read_write> out: array<u32>;
@compute @workgroup_size(64)
fn look_up(@builtin(global_invocation_id) g: vec3<u32>) { out[g.x] = table.row[g.x % 4u]; }",
    bindings: &[Uniform, Write],
    constants: 0,
    group_size: [64, 1, 1],
    group_memory: &[],
    cpu: || threads(|d, [i, _, _]| *element(d, 1, i) = d.slice::<u32>(0)[i as usize % 4]),
};

/// out\[0\] = width of a subgroup.
pub static WIDTH: Kernel = Kernel {
    name: "width",
    wgsl: "
@group(0) @binding(0) var<storage, read_write> out: array<u32>;
@compute @workgroup_size(64)
fn width(@builtin(local_invocation_index) l: u32, @builtin(subgroup_size) size: u32) { if (l == 0u) { out[0] = size; } }",
    bindings: &[Write],
    constants: 0,
    group_size: [64, 1, 1],
    group_memory: &[],
    cpu: || groups(|d, _| *element(d, 0, 0) = 1),
};

/// y\[i\] = 2 · x\[i\] + 1 in 16-bit floats, two in a word.
pub static HALVES: Kernel = Kernel {
    name: "halves",
    wgsl: "
enable f16;
@group(0) @binding(0) var<storage, read> x: array<f16>;
@group(0) @binding(1) var<storage, read_write> y: array<f16>;
@compute @workgroup_size(64)
fn halves(@builtin(global_invocation_id) g: vec3<u32>) { y[g.x] = 2.0h * x[g.x] + 1.0h; }",
    bindings: &[Read, Write],
    constants: 0,
    group_size: [64, 1, 1],
    group_memory: &[],
    // The case below stores 1 and expects 3.
    cpu: || groups(|d, _| (0..32).for_each(|i| *element(d, 1, i) = 0x4200_4200)),
};

/// y\[i\] = sum of the products of the four signed bytes of x\[i\] with 1, 2, 3, 4.
pub static BYTE_DOTS: Kernel = Kernel {
    name: "byte_dots",
    wgsl: "
@group(0) @binding(0) var<storage, read> x: array<u32>;
@group(0) @binding(1) var<storage, read_write> y: array<i32>;
@compute @workgroup_size(64)
fn byte_dots(@builtin(global_invocation_id) g: vec3<u32>) { y[g.x] = dot4I8Packed(x[g.x], 0x04030201u); }",
    bindings: &[Read, Write],
    constants: 0,
    group_size: [64, 1, 1],
    group_memory: &[],
    cpu: || {
        threads(|d, [i, _, _]| {
            let bytes = d.slice::<u32>(0)[i as usize].to_le_bytes();
            *element(d, 1, i) =
                (1i32..).zip(bytes).map(|(factor, byte)| factor * i32::from(byte as i8)).sum::<i32>() as u32;
        })
    },
};

/// y\[0\] = sum of x over the subgroups of a workgroup of 64, added up atomically.
pub static SUBGROUP_SUM: Kernel = Kernel {
    name: "subgroup_sum",
    wgsl: "
@group(0) @binding(0) var<storage, read> x: array<u32>;
@group(0) @binding(1) var<storage, read_write> y: atomic<u32>;
@compute @workgroup_size(64)
fn subgroup_sum(@builtin(local_invocation_index) l: u32, @builtin(subgroup_invocation_id) lane: u32) {
    let sum = subgroupAdd(x[l]) + subgroupBroadcastFirst(0u) + subgroupShuffleXor(0u, 1u);
    if (lane == 0u) { atomicAdd(&y, sum); }
}",
    bindings: &[Read, Write],
    constants: 0,
    group_size: [64, 1, 1],
    group_memory: &[],
    cpu: || groups(|d, _| *element(d, 1, 0) = d.slice::<u32>(0).iter().fold(0, |a, b| a.wrapping_add(*b))),
};

/// y\[i\] = high word of x\[i\]², through 64-bit integers.
pub static WIDE: Kernel = Kernel {
    name: "wide",
    wgsl: "
@group(0) @binding(0) var<storage, read> x: array<u32>;
@group(0) @binding(1) var<storage, read_write> y: array<u32>;
@compute @workgroup_size(64)
fn wide(@builtin(global_invocation_id) g: vec3<u32>) {
    let v = u64(x[g.x]);
    y[g.x] = u32((v * v) >> 32u);
}",
    bindings: &[Read, Write],
    constants: 0,
    group_size: [64, 1, 1],
    group_memory: &[],
    cpu: || {
        threads(|d, [i, _, _]| {
            let v = u64::from(d.slice::<u32>(0)[i as usize]);
            *element(d, 1, i) = ((v * v) >> 32) as u32;
        })
    },
};

/// An element of a writable slot.
pub fn element<'a>(d: &CpuDispatch<'a>, slot: usize, index: u32) -> &'a mut u32 {
    let index = index as usize;
    // SAFETY: each thread of the kernels above writes elements of its own, through this reference alone.
    let one = unsafe { d.slice_mut::<u32>(slot, index..index + 1) };
    &mut one[0]
}

struct Groups<F>(F);

impl<F: Fn(&CpuDispatch<'_>, [u32; 3]) + Send + Sync> CpuKernel for Groups<F> {
    fn tasks(&self, d: &CpuDispatch<'_>) -> u32 {
        d.groups().iter().product()
    }

    fn run(&self, d: &CpuDispatch<'_>, tasks: Range<u32>) {
        let [x, y, _] = d.groups();
        tasks.for_each(|task| (self.0)(d, [task % x, task / x % y, task / x / y]));
    }
}

/// A kernel from a function of a workgroup.
pub fn groups(body: impl Fn(&CpuDispatch<'_>, [u32; 3]) + Send + Sync + 'static) -> Arc<dyn CpuKernel> {
    Arc::new(Groups(body))
}

/// A kernel from a function of a thread, given its place in the grid.
pub fn threads(body: impl Fn(&CpuDispatch<'_>, [u32; 3]) + Send + Sync + 'static) -> Arc<dyn CpuKernel> {
    groups(move |d, group| {
        let size = d.group_size();
        let at = |axis: usize, local: u32| group[axis] * size[axis] + local;
        for z in 0..size[2] {
            for y in 0..size[1] {
                (0..size[0]).for_each(|x| body(d, [at(0, x), at(1, y), at(2, z)]));
            }
        }
    })
}

impl Kernel {
    /// The code in the device's form, and the name of its entry point there.
    pub fn code(&self, format: ShaderFormat) -> (Code, String) {
        match format {
            ShaderFormat::Spirv(major, minor) => (Code::Spirv(self.spirv((major, minor))), self.name.into()),
            ShaderFormat::Msl(major, minor) => self.msl((major, minor)),
            ShaderFormat::Cpu => (Code::Cpu((self.cpu)()), self.name.into()),
            ShaderFormat::None => (Code::None, self.name.into()),
        }
    }

    fn parse(&self) -> (naga::Module, naga::valid::ModuleInfo) {
        let module =
            naga::front::wgsl::parse_str(self.wgsl).unwrap_or_else(|e| panic!("{}", e.emit_to_string(self.wgsl)));
        let mut validator =
            naga::valid::Validator::new(naga::valid::ValidationFlags::all(), naga::valid::Capabilities::all());
        validator.subgroup_stages(naga::valid::ShaderStages::COMPUTE);
        validator.subgroup_operations(naga::valid::SubgroupOperationSet::all());
        let info = validator.validate(&module).unwrap_or_else(|e| panic!("{}", e.emit_to_string(self.wgsl)));
        (module, info)
    }

    fn spirv(&self, lang_version: (u8, u8)) -> Vec<u32> {
        let (module, info) = self.parse();
        let options = naga::back::spv::Options {
            lang_version,
            flags: naga::back::spv::WriterFlags::empty(),
            bounds_check_policies: UNCHECKED,
            use_storage_input_output_16: false,
            ..Default::default()
        };
        naga::back::spv::write_vec(&module, &info, &options, None).unwrap()
    }

    fn msl(&self, lang_version: (u8, u8)) -> (Code, String) {
        let (module, info) = self.parse();
        let slots = self.bindings.len() as u8;
        let mut resources = naga::back::msl::EntryPointResources {
            immediates_buffer: Some(slots),
            sizes_buffer: Some(slots + 1),
            ..Default::default()
        };
        let mut sized = Vec::new();
        for (_, global) in module.global_variables.iter() {
            let Some(binding) = global.binding else { continue };
            let target = naga::back::msl::BindTarget {
                buffer: Some(binding.binding as u8),
                mutable: true,
                ..Default::default()
            };
            resources.resources.insert(binding, target);
            if matches!(module.types[global.ty].inner, naga::TypeInner::Array { size: naga::ArraySize::Dynamic, .. }) {
                sized.push(binding.binding);
            }
        }
        let options = naga::back::msl::Options {
            lang_version,
            bounds_check_policies: UNCHECKED,
            fake_missing_bindings: false,
            per_entry_point_map: [(self.name.to_string(), resources)].into_iter().collect(),
            ..Default::default()
        };
        let (source, names) = naga::back::msl::write_string(&module, &info, &options, &Default::default()).unwrap();
        let entry = names.entry_point_names[0].clone().unwrap();
        let code = Code::Msl {
            source,
            constants_index: u32::from(slots),
            sizes_index: (!sized.is_empty()).then_some(u32::from(slots) + 1),
            sized,
        };
        (code, entry)
    }
}

const UNCHECKED: naga::proc::BoundsCheckPolicies = naga::proc::BoundsCheckPolicies {
    index: naga::proc::BoundsCheckPolicy::Unchecked,
    buffer: naga::proc::BoundsCheckPolicy::Unchecked,
    image_load: naga::proc::BoundsCheckPolicy::Unchecked,
    binding_array: naga::proc::BoundsCheckPolicy::Unchecked,
};
