// Attention for few query rows: a workgroup takes one query head of one row, and all keys that it may see or a part of them.
//
// LANES lanes of a subgroup share a key and form a stream; stream s takes keys s, s + streams, ..., four at a time, with
// a running maximum (online softmax). The streams of a subgroup are combined at the end, then the subgroups.
override SG: u32 = 32;
override SUBGROUPS: u32 = 8;
// Head size, a multiple of 4 up to 256.
override HD: u32 = 64;
// A power of two, at most SG.
override LANES: u32 = 16;
// Parts of the keys. With PARTS, y takes what each part gives: its sum, then its maximum and the sum of its weights.
override SPLITS: u32 = 1;
override PARTS: bool = false;
// Of norms: whether heads are normed before they are turned, and the type of the weights: 0 f32, 1 f16, 2 bf16.
override NORMED: bool = false;
override DTYPE: u32 = 0;

const MOST_CHUNKS = 16u;
// Below every score, and far enough from infinity to be subtracted.
const NONE = -1e30;

struct Constants {
    rows: u32,
    heads: u32,
    kv_heads: u32,
    capacity: u32,
    // With log2 e inside, as powers are taken of two.
    scale: f32,
    // Of norms.
    eps: f32,
}
var<immediate> c: Constants;
