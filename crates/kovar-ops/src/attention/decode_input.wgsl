@group(0) @binding(0) var<storage, read> q: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> keys: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> values: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> position: u32;
@group(0) @binding(4) var<storage, read_write> y: array<vec4<f32>>;

// The cache has every key.
const FRESH = false;

fn cached(row: u32) -> u32 {
    return min(min(position, c.capacity) + row + 1u, c.capacity);
}

// Queries are turned.
alias Raw = f32;

fn raw_heads(head: u32, kv_head: u32, subgroup: u32, lane: u32) -> Raw {
    return 0.0;
}

fn turn(raw: Raw, head: u32, kv_head: u32, subgroup: u32, lane: u32) {}

fn query_at(row: u32, head: u32, column: u32) -> vec4<f32> {
    return q[(row * c.heads + head) * (HD / 4u) + column];
}

fn fresh_key(column: u32) -> vec4<f32> {
    return vec4(0.0);
}

fn fresh_value(kv_head: u32, column: u32) -> vec4<f32> {
    return vec4(0.0);
}

fn keep(head: u32, kv_head: u32, thread: u32) {}
