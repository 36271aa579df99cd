//! What the host gives with a new parameter: memory for its state, and of which whole it is a part.

use crate::common::array::{Array, Dtype};
use crate::common::model::Param;
use crate::common::model::layout::BUFFERS;
use crate::common::model::param::{Layout, Shard};
use crate::common::random::Random;
use crate::common::rounding::nearest;
use crate::world::World;

#[derive(Clone, Debug)]
pub struct Given {
    /// By bit, which buffers; all that there are where steps have been taken.
    which: u8,
    /// One that the parameter does not have, too.
    stray: bool,
    /// Steps that the state has taken.
    steps: u64,
    /// One of the ways to cut a whole.
    cut: u8,
    /// Its name is its number.
    pub is_unnamed: bool,
    /// 0: of one dimension; 1: of rows; 2: of columns.
    layout: u8,
    seed: u64,
}

/// The state that the host gives, in the order of `BUFFERS`.
pub type State = [Option<Array>; BUFFERS.len()];

impl Given {
    pub fn draw(random: &mut Random) -> Given {
        Given {
            which: match random.below(4) {
                0 => random.next() as u8,
                1 => 0xff,
                _ => 0,
            },
            stray: random.once_in(40),
            steps: random.one_of(&[0, 0, 0, 1, 4]),
            cut: random.one_of(&[0, 0, 0, 0, 1, 2, 3, 4, 5]),
            is_unnamed: random.once_in(6),
            layout: random.one_of(&[0, 0, 0, 1, 2]),
            seed: random.next(),
        }
    }

    /// All the state of a parameter that has taken steps.
    pub fn all(seed: u64) -> Given {
        let (which, stray, steps, cut, is_unnamed, layout) = (0xff, false, 4, 0, false, 0);
        Given { which, stray, steps, cut, is_unnamed, layout, seed }
    }

    pub fn steps(&self) -> u64 {
        if self.which == 0 { 0 } else { self.steps }
    }

    /// Where a parameter of so many elements lies, and whether there is such a place.
    pub fn shard(&self, n: usize) -> (Shard, bool) {
        let (n, block) = (n as u64, 256 * (self.seed % 3));
        let (first, whole) = match self.cut {
            0 => (0, 0),
            1 => (0, n),
            2 => (block, block + n + 5000),
            3 if self.stray => (13, 13 + n + 4096),
            3 => (256, 256 + n),
            4 => (block + 8, 0),
            _ => (block + 8, block + 7 + n),
        };
        (Shard { first, whole }, self.cut < 5)
    }

    /// The dimensions of a parameter of so many elements and of this number, whose rows are given.
    pub fn layout(&self, n: usize, row: usize) -> Layout {
        match self.layout {
            1 | 2 if row == 1 || n <= row || !n.is_multiple_of(row) => Layout::Plain,
            1 => Layout::Rows(row),
            2 => Layout::Turned(row),
            _ => Layout::Plain,
        }
    }

    /// Memory for new state, all that there is.
    pub fn draw_memory(random: &mut Random) -> Given {
        Given { stray: false, steps: 0, ..Given::draw(random) }
    }

    /// The state that is given for a new parameter, which the model's then has, and whether it is taken.
    pub fn state(&self, param: &mut Param) -> (State, bool) {
        let layout = param.layout();
        let random = &mut Random::new(self.seed);
        let has_steps = self.steps() > 0;
        let mut is_good = true;
        let state = core::array::from_fn(|i| {
            let is_given = self.which >> i & 1 == 1;
            is_good &= is_given || !has_steps || layout[i].is_none();
            match layout[i] {
                Some((dtype, n)) if is_given => Some(part(i, param, (dtype, n), has_steps, random)),
                None if self.stray => {
                    is_good = false;
                    Some(Array::zeros(Dtype::F32, param.param.len()))
                }
                _ => None,
            }
        });
        (state, is_good)
    }
}

/// One buffer, which the model's parameter goes on with. Codes are zeros.
fn part(
    i: usize,
    param: &mut Param,
    (dtype, n): (Dtype, usize),
    has_steps: bool,
    random: &mut Random,
) -> Array {
    let moments = [&mut param.exp_avg, &mut param.exp_avg_sq, &mut param.max_exp_avg_sq];
    match i {
        0 => {
            // What has taken steps need not be what the parameter was rounded to.
            let factor = if has_steps { 1.0 + 1.0 / 1024.0 } else { 1.0 };
            let values: Vec<f64> = param.param.iter().map(|value| value * factor).collect();
            let master = Array::of(Dtype::F32, &values);
            param.master = Some(master.values());
            master
        }
        1..=3 if dtype != Dtype::U8 => {
            let values = Array::ordinary(dtype, n, random);
            if i > 1 {
                (0..n).for_each(|at| values.set(at, values.get(at).abs()));
            }
            *moments[i - 1] = values.values();
            values
        }
        4 if has_steps => {
            let (values, master) = (Array::zeros(dtype, n), param.master.as_mut().unwrap());
            for (at, value) in param.param.iter().enumerate() {
                let (rest, whole) = match dtype {
                    Dtype::I16 => {
                        let rest = random.below(0x8000) as u32;
                        (rest.into(), f32::from_bits((*value as f32).to_bits() + rest).into())
                    }
                    _ => {
                        let rest = nearest(dtype, value / 1024.0);
                        (rest, nearest(Dtype::F32, value + rest))
                    }
                };
                values.set(at, rest);
                master[at] = whole;
            }
            values
        }
        _ => Array::zeros(dtype, n),
    }
}

impl World {
    /// State that the host has given lies where it was put, and is what the handles say.
    pub fn compare_given(&self, number: u32) {
        let name = &self.model.params[number as usize].name;
        for side in [&self.plain, &self.twin] {
            for (buffer, place) in side.state_of(number) {
                let info = side.handle.state_info(number, buffer).unwrap();
                let there = (info.is_hosts, info.data, info.n_elements);
                let tensor = place.tensor();
                let n = place.array().len() as u64;
                assert_eq!(there, (1, tensor.data, n), "buffer {buffer} of {name}");
                let seen = Array::zeros(place.array().dtype(), n as usize);
                let part = side.handle.state_name(number, buffer, 0).unwrap();
                side.handle.get_state(&part, &seen).unwrap();
                let difference = place.array().first_difference(&seen);
                assert_eq!(difference, None, "buffer {buffer} of {name} in the host's memory");
            }
        }
    }
}
