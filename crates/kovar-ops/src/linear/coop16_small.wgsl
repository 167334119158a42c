// Tiles of 64 x 64, where larger ones would be too few.
enable f16;
enable wgpu_cooperative_matrix;
const DOWN: u32 = 2;
const ALONG: u32 = 1;
const DEPTH: u32 = 32;
