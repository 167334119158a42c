// Tiles of 128 x 64, where wider ones would be too few.
enable f16;
enable wgpu_cooperative_matrix;
const DOWN: u32 = 4;
const ALONG: u32 = 1;
const DEPTH: u32 = 32;
