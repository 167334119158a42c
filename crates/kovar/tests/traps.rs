//! Kernels that the translator takes without a word and gets wrong are refused, with the line.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::panic::catch_unwind;

use common::{cpu, null};
use kovar::{Error, KernelSource, Trap, to_msl};
use naga::valid::{Capabilities, ValidationFlags, Validator};

/// A kernel with declarations from its third line on, and a body in lines behind these.
fn kernel(declarations: &str, body: &str) -> KernelSource {
    let head = "enable f16;\nenable wgpu_cooperative_matrix;\n";
    let main = "@compute @workgroup_size(32) fn main(@builtin(local_invocation_index) i: u32)";
    KernelSource::from_text("trapped", format!("{head}{declarations}\n{main} {{\n{body}\n}}"))
}

const BUFFERS: &str = "@group(0) @binding(0) var<storage, read> w: array<u32>;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;";

/// The line and the trap of a kernel that no device takes.
fn trap(source: &KernelSource) -> Option<(u32, Trap)> {
    let metal = to_msl(source, &[], 32, (3, 2)).err();
    for device in [null(), cpu()] {
        let error = device.kernel(source, &[]).err();
        let caught = matches!(error, Some(Error::Trap { .. }));
        assert_eq!(caught, matches!(metal, Some(Error::Trap { .. })), "{error:?}");
    }
    caught(metal)
}

/// The same of one that Metal alone does not take.
fn metal_trap(source: &KernelSource) -> Option<(u32, Trap)> {
    null().kernel(source, &[]).unwrap();
    caught(to_msl(source, &[], 32, (3, 2)).err())
}

/// Whether the translator itself comes to an end with this kernel.
fn becomes_spirv(source: &KernelSource) -> bool {
    let module = naga::front::wgsl::parse_str(source.source()).unwrap();
    let mut validator = Validator::new(ValidationFlags::all(), Capabilities::all());
    let info = validator.validate(&module).unwrap();
    let options = naga::back::spv::Options::default();
    catch_unwind(|| naga::back::spv::write_vec(&module, &info, &options, None).unwrap()).is_ok()
}

fn caught(error: Option<Error>) -> Option<(u32, Trap)> {
    match error? {
        Error::Trap { kernel, line, trap } => {
            assert_eq!(kernel, "trapped");
            Some((line, trap))
        }
        other => panic!("{other}"),
    }
}

#[test]
fn a_bitcast_to_another_width() {
    let of = |ty: &str, value: &str, used: &str| {
        trap(&kernel(BUFFERS, &format!("let a = 1u;\nlet h = bitcast<{ty}>({value}); y[i] = f32({used});")))
    };
    let wanted = |wanted: &str| Some((7, Trap::Bitcast { wanted: wanted.into() }));
    assert_eq!(of("vec2<f16>", "w[i]", "h"), wanted("vec2<f16>"));
    assert_eq!(of("vec2h", "w[i] & 0xffffu", "h"), wanted("vec2h"));
    assert_eq!(of("vec2<f16>", "0x3c003c00u", "h"), wanted("vec2<f16>"));
    assert_eq!(of(" vec4 <f16> ", "vec2<u32>(w[i], w[i + 1u])", "h.x"), wanted(" vec4 <f16> "));
    assert_eq!(of("vec2<f32>", "vec2<u32>(w[i], a)", "h.x"), None);
    assert_eq!(of("u32", "y[i]", "h"), None);
    assert_eq!(of("f32", "w[i] << 16u", "h"), None);
}

#[test]
fn a_bitcast_in_a_function_to_a_type_by_another_name() {
    let half = "alias Pair = vec2<f16>;\nfn low(x: u32) -> f32 { return f32(bitcast<Pair>(x)); }";
    let source = kernel(&format!("{BUFFERS}\n{half}"), "y[i] = low(w[i]);");
    assert_eq!(trap(&source), Some((6, Trap::Bitcast { wanted: "Pair".into() })));
}

const TILE: &str = "@group(0) @binding(0) var<storage, read_write> y: array<f32>;
alias Sum = coop_mat8x8<f32, C>;";

#[test]
fn a_store_whose_operands_are_computed_in_the_call() {
    let of = |lets: &str, store: &str| {
        let body = format!("let sum = coopLoadT<Sum>(&y[i * 4u], i + 8u);\n{lets}\ncoopStoreT({store});");
        let source = kernel(TILE, &body);
        let trap = trap(&source);
        assert_eq!(trap.is_none(), becomes_spirv(&source), "{body}");
        trap
    };
    let late = Some((8, Trap::StoreOperand));
    assert_eq!(of("let s = 8u;", "sum, &y[i * 4u], s"), late);
    assert_eq!(of("", "sum, &y[0], i + 8u"), late);
    assert_eq!(of("let at = i;", "sum, &y[at + 4u], at"), late);
    assert_eq!(of("let s = 8u; if i == 0u { let at = i * 4u; }", "sum, &y[i * 4u], s"), late);
    assert_eq!(of("let at = i * 4u; let stride = i + 8u;", "sum, &y[at], stride"), None);
    assert_eq!(of("", "sum, &y[i], 8u"), None);
    assert_eq!(of("", "sum, &y[64], 8u"), None);
}

#[test]
fn a_store_in_a_loop() {
    let of = |store: &str| {
        let body = format!("let sum = coopLoadT<Sum>(&y[0], 8u);\nfor (var j = 0u; j < 4u; j++) {{\n{store}\n}}");
        trap(&kernel(TILE, &body))
    };
    assert_eq!(of("coopStoreT(sum, &y[j * 64u], i);"), Some((8, Trap::StoreOperand)));
    assert_eq!(of("let at = j * 64u;\ncoopStoreT(sum, &y[at], 8u);"), None);
}

#[test]
fn matrices_in_arrays_of_vectors() {
    let vectors = "@group(0) @binding(0) var<storage, read_write> y: array<vec4<f16>>;
alias Left = coop_mat8x8<f16, A>;";
    let load = kernel(vectors, "let m = coopLoadT<Left>(&y[i], 8u);");
    assert_eq!(metal_trap(&load), Some((6, Trap::MatrixOfVectors)));
    let both = vectors.replace("vec4<f16>>", "vec4<f16>>;\nvar<workgroup> s: array<f16, 64>");
    let store = kernel(&both, "let m = coopLoadT<Left>(&s[0], 8u);\ncoopStoreT(m, &y[i], 8u);");
    assert_eq!(metal_trap(&store), Some((8, Trap::MatrixOfVectors)));
    let scalars = vectors.replace("vec4<f16>", "f16");
    assert_eq!(metal_trap(&kernel(&scalars, "let m = coopLoadT<Left>(&y[i], 8u);\ncoopStoreT(m, &y[i], 8u);")), None);
}

#[test]
fn matrices_of_16_by_16_on_metal() {
    let of = |size: &str| {
        let declared = TILE.replace("8x8", size);
        metal_trap(&kernel(&declared, "let sum = coopLoadT<Sum>(&y[0], 16u);\ncoopStoreT(sum, &y[0], 16u);"))
    };
    assert_eq!(of("16x16"), Some((4, Trap::MatrixSize { columns: 16, rows: 16 })));
    let unnamed = "let sum = coopLoadT<coop_mat16x16<f32, C>>(&y[0], 16u);";
    assert_eq!(metal_trap(&kernel(BUFFERS, unnamed)), Some((6, Trap::MatrixSize { columns: 16, rows: 16 })));
    assert_eq!(of("8x8"), None);
}

#[test]
fn an_override_behind_an_array_of_overrides() {
    let of = |declarations: &str| trap(&kernel(declarations, "s[i] = 0u;\nt[i] = 0u;"));
    let late = "override A: u32 = 8;
var<workgroup> s: array<u32, A * 2>;
override B: u32 = 4;
var<workgroup> t: array<u32, B>;";
    assert_eq!(of(late), Some((5, Trap::LateOverride { name: "B".into() })));
    let early = "override A: u32 = 8;
override B: u32 = 4;
var<workgroup> s: array<u32, A * 2>;
var<workgroup> t: array<u32, B>;";
    assert_eq!(of(early), None);
}

#[test]
fn an_operand_of_two_packed_products_on_metal() {
    let of = |body: &str| metal_trap(&kernel(&format!("{BUFFERS}\nconst ONES = 0x01010101u;"), body));
    let twice = Some((8, Trap::RepeatedOperand));
    assert_eq!(of("let a = w[i];\ny[i] = f32(dot4I8Packed(a, w[0]) + dot4I8Packed(a, w[1]));"), twice);
    assert_eq!(of("let a = w[i];\ny[i] = f32(dot4U8Packed(a, a));"), twice);
    assert_eq!(
        of(
            "let a = w[i];\nlet b = w[i + 1u]; y[i] = f32(dot4I8Packed(a, b));\nif i > 3u { y[i] += f32(dot4I8Packed(a, b)); }"
        ),
        None
    );
    assert_eq!(of("let a = w[i];\ny[i] = f32(dot4I8Packed(a, 3u) + dot4I8Packed(w[1], ONES));"), None);
    let same = "let a = w[i];\nlet b = 3u; y[i] = f32(dot4I8Packed(a, b) + dot4I8Packed(w[1], b));";
    assert_eq!(of(same), twice);
    let apart = "y[i] = f32(dot4I8Packed(w[0], ONES) + dot4I8Packed(w[1], ONES));";
    assert_eq!(of(apart), None);
}
