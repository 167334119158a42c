// Eight chains of a = a·factor + summand in each thread: nothing but multiply-adds.
struct Params { rounds: u32, factor: f32, summand: f32 }

@group(0) @binding(0) var<storage, read_write> y: array<f32>;
var<immediate> p: Params;

@compute @workgroup_size(256)
fn peak_fma(@builtin(global_invocation_id) id: vec3<u32>) {
    let start = f32(id.x % 97u) / 97.0;
    var a0 = start;
    var a1 = start + 1.0;
    var a2 = start + 2.0;
    var a3 = start + 3.0;
    var a4 = start + 4.0;
    var a5 = start + 5.0;
    var a6 = start + 6.0;
    var a7 = start + 7.0;
    for (var r = 0u; r < p.rounds; r++) {
        a0 = fma(a0, p.factor, p.summand);
        a1 = fma(a1, p.factor, p.summand);
        a2 = fma(a2, p.factor, p.summand);
        a3 = fma(a3, p.factor, p.summand);
        a4 = fma(a4, p.factor, p.summand);
        a5 = fma(a5, p.factor, p.summand);
        a6 = fma(a6, p.factor, p.summand);
        a7 = fma(a7, p.factor, p.summand);
    }
    y[id.x] = ((a0 + a1) + (a2 + a3)) + ((a4 + a5) + (a6 + a7));
}
