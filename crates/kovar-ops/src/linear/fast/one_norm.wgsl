@group(0) @binding(5) var<storage, read> weight: array<u32>;
