//! Rows of a quantised matrix in whole vectors.
use std::ops::Range;

use crate::simd::{LANES, Stored};

/// Bytes of codes that are worked on together.
pub(super) const CHUNK: usize = 64;

/// A chunk of bytes on a cache line: a load that straddles two takes twice as long.
#[derive(Clone, Copy)]
#[repr(align(64))]
pub(super) struct Line(pub(super) [u8; CHUNK]);

/// A number for each lane, on a cache line.
#[derive(Clone, Copy)]
#[repr(align(64))]
pub(super) struct Lanes(pub(super) [f32; LANES]);

/// Sizes of a quantised matrix.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shape {
    pub(super) n: usize,
    pub(super) k: usize,
    pub(super) bits: usize,
    pub(super) group: usize,
}

impl Shape {
    /// Bytes of codes in a row.
    pub(super) fn row_bytes(&self) -> usize {
        self.k * self.bits / 8
    }

    /// Chunks of codes in a row, the last perhaps reaching beyond it.
    pub(super) fn chunks(&self) -> usize {
        self.row_bytes().div_ceil(CHUNK)
    }

    /// Elements of a chunk.
    pub(super) fn per_chunk(&self) -> usize {
        CHUNK * 8 / self.bits
    }

    /// Scales in a row.
    pub(super) fn groups(&self) -> usize {
        // A power of two: no division for each row.
        self.k >> self.group.trailing_zeros()
    }

    /// Vectors of scales in a row, the last perhaps reaching beyond it.
    pub(super) fn scale_vectors(&self) -> usize {
        self.groups().div_ceil(LANES)
    }

    /// Lanes of a chunk that have one scale; more than there are if chunks share it. As many chunks have one vector of
    /// scales.
    pub(super) fn lanes_per_scale(&self) -> usize {
        self.group * LANES / self.per_chunk()
    }
}

/// One row. What lies beyond its end is whatever follows in memory.
#[derive(Clone, Copy)]
pub(super) struct Row<'a, T> {
    pub(super) codes: &'a [[u8; CHUNK]],
    pub(super) scales: &'a [[T; LANES]],
    pub(super) biases: &'a [[T; LANES]],
}

impl<'a, T> Row<'a, T> {
    /// `count` chunks that have vector `number` of the scales; full vectors belong to `full` chunks.
    #[inline(always)]
    pub(super) fn block(&self, number: usize, full: usize, count: usize) -> Row<'a, T> {
        Row {
            codes: &self.codes[number * full..][..count],
            scales: &self.scales[number..][..1],
            biases: &self.biases[number..][..1],
        }
    }
}

/// Consecutive rows, which may overlap by what lies beyond their ends.
pub(super) struct Strip<'a, T> {
    codes: &'a [u8],
    scales: &'a [T],
    biases: &'a [T],
    /// Bytes and scales from one row to the next.
    pitch: [usize; 2],
    /// Chunks and vectors of scales of a row.
    len: [usize; 2],
}

impl<'a, T> Strip<'a, T> {
    /// Found by its number alone: an iterator over rows was seen to take longer than a short row.
    #[inline(always)]
    pub(super) fn row(&self, row: usize) -> Row<'a, T> {
        let Strip { pitch: [bytes, groups], len: [chunks, vectors], .. } = *self;
        Row {
            codes: self.codes[row * bytes..][..chunks * CHUNK].as_chunks().0,
            scales: self.scales[row * groups..][..vectors * LANES].as_chunks().0,
            biases: self.biases[row * groups..][..vectors * LANES].as_chunks().0,
        }
    }
}

/// The rows of a matrix. The last few, whose vectors would reach beyond the end of the memory, are copied.
pub(super) struct Rows<'a, T> {
    shape: Shape,
    codes: &'a [u8],
    scales: &'a [T],
    biases: &'a [T],
    /// First row that is copied.
    copied: usize,
    tail_codes: Vec<[u8; CHUNK]>,
    tail_scales: Vec<[T; LANES]>,
    tail_biases: Vec<[T; LANES]>,
}

/// Appends `row` in whole vectors, padded with zeros.
fn pad<T: bytemuck::Pod, const N: usize>(row: &[T], to: &mut Vec<[T; N]>) {
    for part in row.chunks(N) {
        let mut vector = [T::zeroed(); N];
        vector[..part.len()].copy_from_slice(part);
        to.push(vector);
    }
}

impl<'a, T: Stored> Rows<'a, T> {
    /// Rows of which those in `range` will be asked for.
    pub(super) fn new(
        shape: Shape,
        range: Range<usize>,
        codes: &'a [u8],
        scales: &'a [T],
        biases: &'a [T],
    ) -> Rows<'a, T> {
        let (bytes, groups) = (shape.row_bytes(), shape.groups());
        let (codes, scales) = (&codes[..shape.n * bytes], &scales[..shape.n * groups]);
        let biases = &biases[..shape.n * groups];
        // Row r is whole in memory if r·length + padded length is at most the length of all.
        let whole = |len: usize, row: usize, padded: usize| len.checked_sub(padded).map_or(0, |space| space / row + 1);
        let copied = whole(codes.len(), bytes, shape.chunks() * CHUNK);
        let copied = copied.min(whole(scales.len(), groups, shape.scale_vectors() * LANES));
        let mut rows = Rows {
            shape,
            codes,
            scales,
            biases,
            copied,
            tail_codes: Vec::new(),
            tail_scales: Vec::new(),
            tail_biases: Vec::new(),
        };
        for row in copied..range.end {
            pad(&codes[row * bytes..][..bytes], &mut rows.tail_codes);
            pad(&scales[row * groups..][..groups], &mut rows.tail_scales);
            pad(&biases[row * groups..][..groups], &mut rows.tail_biases);
        }
        rows
    }

    pub(super) fn shape(&self) -> &Shape {
        &self.shape
    }

    /// The rows that are read where they are.
    #[inline(always)]
    fn there(&self) -> Strip<'_, T> {
        let Rows { shape, codes, scales, biases, .. } = self;
        let len = [shape.chunks(), shape.scale_vectors()];
        Strip { codes, scales, biases, pitch: [shape.row_bytes(), shape.groups()], len }
    }

    /// Those that were copied.
    #[inline(always)]
    fn tail(&self) -> Strip<'_, T> {
        let len = [self.shape.chunks(), self.shape.scale_vectors()];
        Strip {
            codes: self.tail_codes.as_flattened(),
            scales: self.tail_scales.as_flattened(),
            biases: self.tail_biases.as_flattened(),
            pitch: [len[0] * CHUNK, len[1] * LANES],
            len,
        }
    }

    /// The rows of a range: first those that are read where they are.
    pub(super) fn strips(&self, range: Range<usize>) -> [(Strip<'_, T>, Range<usize>); 2] {
        let there = |row: usize| row.min(self.copied);
        let tail = |row: usize| row - there(row);
        [(self.there(), there(range.start)..there(range.end)), (self.tail(), tail(range.start)..tail(range.end))]
    }

    #[inline(always)]
    pub(super) fn row(&self, row: usize) -> Row<'_, T> {
        match row.checked_sub(self.copied) {
            None => self.there().row(row),
            Some(copied) => self.tail().row(copied),
        }
    }
}
