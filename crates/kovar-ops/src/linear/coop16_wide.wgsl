// Tiles of 128 x 128, for products with many.
enable f16;
enable wgpu_cooperative_matrix;
const DOWN: u32 = 4;
const ALONG: u32 = 2;
const DEPTH: u32 = 64;
