//! A model whose parameters lie end to end, whole or in the parts of ranks.

use crate::common::array::{Array, Dtype};
use crate::common::handle::{Handle, Param, answer};
use crate::common::random::Random;
use adamw::ffi::*;
use core::ops::Range;

/// The ranges that a rank has of parameters of these lengths, as the library cuts them.
pub fn shard_ranges(lengths: &[usize], align: u64, rank: u32, of: u32) -> Vec<Range<usize>> {
    let n = lengths.len();
    let lengths: Vec<u64> = lengths.iter().map(|&length| length as u64).collect();
    let (mut firsts, mut counts) = (vec![u64::MAX; n], vec![u64::MAX; n]);
    let (to, counts_to) = (firsts.as_mut_ptr(), counts.as_mut_ptr());
    // SAFETY: arrays of n numbers.
    let status = unsafe { adamw_shard_ranges(lengths.as_ptr(), n, align, rank, of, to, counts_to) };
    answer(status).unwrap();
    firsts.iter().zip(&counts).map(|(&first, &n)| first as usize..(first + n) as usize).collect()
}

/// Parameters of one element type.
#[derive(Clone, Copy)]
pub struct Model<'a> {
    pub dtype: Dtype,
    pub lengths: &'a [usize],
}

impl Model<'_> {
    /// Values for all elements of all parameters, the same for a seed.
    pub fn values(&self, seed: u64) -> Vec<Array> {
        let mut random = Random::new(seed);
        self.lengths.iter().map(|&n| Array::ordinary(self.dtype, n, &mut random)).collect()
    }
}

/// What one rank has of a model: its ranges, side by side in one array.
pub struct Part {
    pub handle: Handle,
    pub ranges: Vec<Range<usize>>,
    pub flat: Array,
    shapes: Vec<[i64; 1]>,
}

impl Part {
    /// Parameters of the `handle`, which start as they do in the model. `edit` chooses about each,
    /// by its number.
    pub fn new(
        handle: Handle,
        model: Model,
        ranges: Vec<Range<usize>>,
        edit: impl Fn(u32, &mut Param),
    ) -> Part {
        let flat = flat(model.dtype, &model.values(1), &ranges);
        let shapes = ranges.iter().map(|range| [range.len() as i64]).collect();
        let part = Part { handle, ranges, flat, shapes };
        for (i, length) in model.lengths.iter().enumerate() {
            let name = format!("layer.{i}");
            let mut param = Param {
                first_element: part.ranges[i].start as u64,
                whole_elements: *length as u64,
                ..Param::new(&name, &part.flat)
            };
            edit(i as u32, &mut param);
            let tensors =
                [Some(part.tensor(&part.flat, i)), None, None, None, None, None, None, None, None];
            let number = part.handle.try_add_tensors(&param, tensors).unwrap();
            assert_eq!(number as usize, i);
        }
        part
    }

    /// The elements of the i-th parameter in an array like the flat one.
    fn tensor(&self, flat: &Array, i: usize) -> adamw_tensor {
        let before: usize = self.ranges[..i].iter().map(|range| range.len()).sum();
        let data = flat.data().wrapping_byte_add(before * flat.dtype().bytes());
        let shape = self.shapes[i].as_ptr().cast_mut();
        adamw_tensor { data, ndim: 1, shape, ..flat.tensor() }
    }

    /// Sets these gradients, whose memory has to stay.
    pub fn set_grads(&self, grads: &Array) {
        for i in 0..self.ranges.len() {
            self.handle.set_grad_tensor(i as u32, &self.tensor(grads, i)).unwrap();
        }
    }
}

/// The ranges of some arrays, side by side in one.
pub fn flat(dtype: Dtype, whole: &[Array], ranges: &[Range<usize>]) -> Array {
    let flat = Array::zeros(dtype, ranges.iter().map(|range| range.len()).sum());
    let elements = whole.iter().zip(ranges);
    let bits = elements.flat_map(|(array, range)| range.clone().map(|i| array.bits(i)));
    bits.enumerate().for_each(|(i, bits)| flat.set_bits(i, bits));
    flat
}
