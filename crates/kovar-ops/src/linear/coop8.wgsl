// Tiles of 8 x 8, as Metal's SIMD groups and Mesa's software driver multiply them.
enable f16;
enable wgpu_cooperative_matrix;
alias Left = coop_mat8x8<f16, A>;
alias Right = coop_mat8x8<f16, B>;
alias Sum = coop_mat8x8<f32, C>;
const EDGE: u32 = 8;
// Subgroups of a workgroup, one below the other and side by side; tiles of a subgroup likewise.
const DOWN: u32 = 2;
const ALONG: u32 = 2;
const TALL: u32 = 4;
const WIDE: u32 = 4;
