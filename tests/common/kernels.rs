//! A step on the processor and on the device, with the same numbers.

use super::array::{Array, Dtype};
use super::device::{Arg, Device, Memory, OnDevice};
use super::handle::{Handle, Param, config};
use super::random::Random;
use super::rounding;
use super::state::{STATE, state};
use super::sums::sum_squares;
use adamw::ffi::*;

pub const CHUNK: usize = 16_384;

/// How parameters of a type are kept between steps.
#[derive(Clone, Copy, Debug)]
pub struct Kept {
    pub param: Dtype,
    /// In the kernel's name.
    pub name: &'static str,
    pub number: u32,
    pub multi_precision: u32,
    pub precision: adamw_precision,
}

const fn kept(
    param: Dtype,
    name: &'static str,
    number: u32,
    multi_precision: u32,
    precision: adamw_precision,
) -> Kept {
    Kept { param, name, number, multi_precision, precision }
}

const KEPT: [Kept; 10] = [
    kept(Dtype::F32, "f32", 0, 0, ADAMW_PRECISION_DEFAULT),
    kept(Dtype::F64, "f64", 0, 0, ADAMW_PRECISION_DEFAULT),
    kept(Dtype::F16, "f16", 0, 0, ADAMW_PRECISION_DEFAULT),
    kept(Dtype::F16, "f16_master", 1, 1, ADAMW_PRECISION_DEFAULT),
    kept(Dtype::F16, "f16_kahan", 3, 0, ADAMW_PRECISION_KAHAN),
    kept(Dtype::Bf16, "bf16", 0, 0, ADAMW_PRECISION_DEFAULT),
    kept(Dtype::Bf16, "bf16_master", 1, 1, ADAMW_PRECISION_DEFAULT),
    kept(Dtype::Bf16, "bf16_split", 2, 0, ADAMW_PRECISION_SPLIT),
    kept(Dtype::Bf16, "bf16_kahan", 3, 0, ADAMW_PRECISION_KAHAN),
    kept(Dtype::Bf16, "bf16_stochastic", 4, 0, ADAMW_PRECISION_STOCHASTIC),
];

/// `Tensor` of src/cuda/table.cuh.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Tensor {
    pub param: u64,
    pub grad: u64,
    pub exp_avg: u64,
    pub exp_avg_sq: u64,
    pub max_exp_avg_sq: u64,
    pub rest: u64,
    pub scales: [u64; 3],
    pub n_elements: u64,
    pub first_element: u64,
    pub key: [u32; 2],
    pub scalars: u32,
    pub kept: u32,
}

impl Tensor {
    pub const NONE: Tensor = Tensor {
        param: 0,
        grad: 0,
        exp_avg: 0,
        exp_avg_sq: 0,
        max_exp_avg_sq: 0,
        rest: 0,
        scales: [0; 3],
        n_elements: 0,
        first_element: 0,
        key: [0; 2],
        scalars: 0,
        kept: 0,
    };
}

/// `Chunk` of src/cuda/table.cuh.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Chunk {
    pub tensor: u32,
    pub number: u32,
}

/// `Step` of src/cuda/math.cuh.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Step {
    lr: f64,
    beta1: f64,
    beta2: f64,
    eps: f64,
    weight_decay: f64,
    grad_scale: f64,
    min: f64,
    max: f64,
    coefficient: f64,
    number: u64,
    beta1_power: f64,
    beta2_power: f64,
    regularizer: u32,
    limited: u32,
    maximize: u32,
    reserved: u32,
}

const SCALARS_BYTES: usize = 160;

/// A way to step: types, formats and options.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    pub kept: Kept,
    pub f32_grad: bool,
    pub moments: adamw_moments,
    pub amsgrad: bool,
    pub clip_by_value: bool,
    pub regularizer: adamw_regularizer,
    pub maximize: bool,
    pub clear_grads: bool,
}

impl Case {
    /// All formats with options in turn, and for parameters that compute in either type all options.
    pub fn all() -> Vec<Case> {
        const MOMENTS: [adamw_moments; 4] =
            [ADAMW_MOMENTS_F32, ADAMW_MOMENTS_BF16, ADAMW_MOMENTS_8BIT, ADAMW_MOMENTS_4BIT];
        let mut cases = Vec::new();
        for i in 0..KEPT.len() * 16 {
            let (kept, moments) = (KEPT[i / 16], MOMENTS[i / 4 % 4]);
            let (f32_grad, amsgrad) = (i / 2 % 2 == 1, i % 2 == 1);
            let is_there = (kept.param != Dtype::F32 || !f32_grad)
                && (kept.param != Dtype::F64 || moments == ADAMW_MOMENTS_F32)
                && !(amsgrad && moments == ADAMW_MOMENTS_4BIT);
            if !is_there {
                continue;
            }
            let case = |options: usize| Case {
                kept,
                f32_grad,
                moments,
                amsgrad,
                regularizer: (options % 3) as u32,
                clip_by_value: options / 3 % 2 == 1,
                maximize: options / 6 % 2 == 1,
                clear_grads: options / 12 == 1,
            };
            match (kept.param, moments) {
                (Dtype::F32 | Dtype::F64, ADAMW_MOMENTS_F32) => cases.extend((0..24).map(case)),
                _ => cases.push(case(cases.len() % 24)),
            }
        }
        cases
    }

    fn config(&self) -> adamw_config {
        adamw_config {
            lr: 0.01,
            weight_decay: 0.1,
            eps: 1e-6,
            seed: 77,
            num_threads: 1,
            multi_precision: self.kept.multi_precision,
            precision: self.kept.precision,
            moments: self.moments,
            amsgrad: self.amsgrad.into(),
            maximize: self.maximize.into(),
            clip: if self.clip_by_value { ADAMW_CLIP_VALUE } else { ADAMW_CLIP_NONE },
            clip_min: -0.5,
            clip_max: 0.25,
            ..config()
        }
    }

    fn grad(&self) -> Dtype {
        if self.f32_grad { Dtype::F32 } else { self.kept.param }
    }

    fn flags(&self) -> u32 {
        let is_f32 = self.f32_grad && self.kept.param != Dtype::F32;
        u32::from(self.amsgrad) | u32::from(self.clear_grads) << 1 | u32::from(is_f32) << 2
    }

    /// The kernel for tensors of so many elements.
    pub fn kernel(&self, n: usize) -> String {
        let coded = matches!(self.moments, ADAMW_MOMENTS_8BIT | ADAMW_MOMENTS_4BIT);
        let moments = match self.moments {
            ADAMW_MOMENTS_BF16 => "_bf16",
            ADAMW_MOMENTS_8BIT if n >= 4096 => "_8bit",
            ADAMW_MOMENTS_4BIT if n >= 4096 => "_4bit",
            _ => "",
        };
        // Where moments are codes, one kernel serves all ways to keep a type.
        let kept = match (coded && n >= 4096, self.kept.param) {
            (false, _) => self.kept.name,
            (true, Dtype::F32) => "f32",
            (true, Dtype::F16) => "f16",
            (true, _) => "bf16",
        };
        format!("step_{kept}{moments}")
    }

    fn step(&self) -> Step {
        let config = self.config();
        Step {
            lr: config.lr,
            beta1: config.beta1,
            beta2: config.beta2,
            eps: config.eps,
            weight_decay: config.weight_decay,
            grad_scale: 1.0,
            min: config.clip_min,
            max: config.clip_max,
            coefficient: 0.125,
            number: 0,
            beta1_power: 1.0,
            beta2_power: 1.0,
            regularizer: self.regularizer,
            limited: self.clip_by_value.into(),
            maximize: self.maximize.into(),
            reserved: 0,
        }
    }
}

/// All memory of one parameter on the device, by part.
pub struct Uploaded {
    parts: Vec<(&'static str, OnDevice)>,
    n: usize,
    name: String,
}

impl Uploaded {
    fn address(&self, part: &str) -> u64 {
        let found = self.parts.iter().find(|(name, _)| *name == part);
        found.map_or(0, |(_, array)| array.memory.address)
    }

    fn tensor(&self, case: &Case, grad: &OnDevice) -> Tensor {
        let part = |part| self.address(part);
        let [key0, key1] = rounding::key(case.config().seed, &self.name);
        Tensor {
            param: part("param"),
            grad: grad.memory.address,
            exp_avg: part("exp_avg"),
            exp_avg_sq: part("exp_avg_sq"),
            max_exp_avg_sq: part("max_exp_avg_sq"),
            rest: part("master").max(part("remainder")),
            scales: ["exp_avg_scale", "exp_avg_sq_scale", "max_exp_avg_sq_scale"].map(part),
            n_elements: self.n as u64,
            key: [key0 as u32, key1 as u32],
            kept: case.kept.number,
            ..Tensor::NONE
        }
    }
}

/// All chunks of tensors of these lengths.
pub fn chunks(lengths: &[usize]) -> Vec<Chunk> {
    let of_tensor = |(tensor, n): (usize, &usize)| {
        (0..n.div_ceil(CHUNK) as u32).map(move |number| Chunk { tensor: tensor as u32, number })
    };
    lengths.iter().enumerate().flat_map(of_tensor).collect()
}

/// Steps parameters of these lengths on the processor and on the device, and compares every bit.
/// `offset` is how many elements each operand, by its place, starts past an aligned address.
pub fn compare(
    device: &Device,
    case: &Case,
    lengths: &[usize],
    blocks: u32,
    offset: impl Fn(usize) -> usize,
) -> Result<(), String> {
    let random = &mut Random::new(11);
    let handle = Handle::new(&adamw_config { clear_grads: 0, ..case.config() });
    let starts: Vec<Array> =
        lengths.iter().map(|n| Array::random(case.kept.param, *n, random)).collect();
    let params: Vec<Array> = starts.iter().map(Array::duplicate).collect();
    let mut uploaded = Vec::new();
    for (i, param) in params.iter().enumerate() {
        let name = format!("w{i}");
        let number = handle
            .add(&Param { regularizer: (case.regularizer, 0.125), ..Param::new(&name, param) });
        let mut parts = vec![("param", OnDevice::of(&starts[i], offset(0)))];
        for (part, state) in state(&handle, number, &name) {
            let place = 1 + STATE.iter().position(|(_, name)| *name == part).unwrap();
            if part == "master" {
                // The library fills its own at the first step.
                starts[i].values().iter().enumerate().for_each(|(i, value)| state.set(i, *value));
            }
            parts.push((part, OnDevice::of(&state, offset(place))));
        }
        uploaded.push(Uploaded { parts, n: lengths[i], name });
    }

    let steps = Memory::of_values(&[case.step()]);
    let scalars = Memory::of(&[0; SCALARS_BYTES], 0);
    let chunks = chunks(lengths);
    let chunk_table = Memory::of_values(&chunks);
    let kernel = case.kernel(lengths[0]);
    for _ in 0..2 {
        let grads: Vec<Array> =
            lengths.iter().map(|n| Array::random(case.grad(), *n, random)).collect();
        let on_device: Vec<OnDevice> =
            grads.iter().map(|grad| OnDevice::of(grad, offset(9))).collect();
        for (i, grad) in grads.iter().enumerate() {
            handle.set_grad(i as u32, grad);
        }
        handle.step();

        let tensors: Vec<Tensor> =
            uploaded.iter().zip(&on_device).map(|(of, grad)| of.tensor(case, grad)).collect();
        let tensors = Memory::of_values(&tensors);
        let mut args = [Arg::U64(steps.address), Arg::U64(scalars.address), Arg::U32(1)];
        device.launch("prepare", 1, &mut args)?;
        let mut args = [
            Arg::U64(tensors.address),
            Arg::U64(chunk_table.address),
            Arg::U64(chunks.len() as u64),
            Arg::U64(scalars.address),
            Arg::U32(case.flags()),
        ];
        if !chunks.is_empty() {
            device.launch(&kernel, blocks, &mut args)?;
        }
        for (grad, before) in on_device.iter().zip(&grads) {
            let expected = match case.clear_grads {
                true => Array::zeros(before.dtype(), before.len()),
                false => before.duplicate(),
            };
            if let Some(difference) = grad.array().first_difference(&expected) {
                return Err(format!("{kernel}, grad: {difference}"));
            }
        }
    }
    for (i, of) in uploaded.iter().enumerate() {
        let mut expected = state(&handle, i as u32, &of.name);
        expected.insert(0, ("param", params[i].duplicate()));
        for ((part, seen), (_, expected)) in of.parts.iter().zip(&expected) {
            if let Some(difference) = seen.array().first_difference(expected) {
                return Err(format!("{kernel}, {part} of {} elements: {difference}", of.n));
            }
        }
    }
    Ok(())
}

/// Adds up gradients on the processor, as the header says, and on the device, and compares every bit.
pub fn compare_sums(device: &Device, dtype: Dtype) -> Result<(), String> {
    // The last has so many blocks that several warps join them.
    const LENGTHS: [usize; 12] =
        [1, 3, 0, 127, 128, 129, 4095, 4096, 4097, CHUNK, 3 * CHUNK + 4096 + 9, 70 * 4096 + 5];
    for is_finite in [true, false] {
        let random = &mut Random::new(3);
        let grads = LENGTHS.map(|n| match is_finite {
            true => Array::ordinary(dtype, n, random),
            false => Array::random(dtype, n, random),
        });
        let on_device: Vec<OnDevice> =
            grads.iter().enumerate().map(|(i, grad)| OnDevice::of(grad, i % 5)).collect();
        let tensors: Vec<Tensor> = on_device
            .iter()
            .zip(LENGTHS)
            .map(|(grad, n)| (grad.memory.address, n as u64))
            .map(|(grad, n_elements)| Tensor { grad, n_elements, ..Tensor::NONE })
            .collect();
        let chunks = chunks(&LENGTHS);
        let first_chunk = |i| chunks.iter().filter(|chunk| chunk.tensor < i).count() as u64;
        let first_chunk: Vec<u64> = (0..LENGTHS.len() as u32).map(first_chunk).collect();
        let tensors = Memory::of_values(&tensors);
        let chunk_table = Memory::of_values(&chunks);
        let first_chunk = Memory::of_values(&first_chunk);
        let sums = Memory::of_values(&vec![0.0f64; 4 * chunks.len()]);
        let counts = Memory::of_values(&vec![0u64; 4 * chunks.len()]);
        let totals = Memory::of_values(&[[0u64; 2]; LENGTHS.len()]);
        let mut args = [
            Arg::U64(tensors.address),
            Arg::U64(chunk_table.address),
            Arg::U64(chunks.len() as u64),
            Arg::U64(sums.address),
            Arg::U64(counts.address),
        ];
        device.launch(&format!("tally_{dtype:?}").to_lowercase(), 2, &mut args)?;
        let mut args = [
            Arg::U64(tensors.address),
            Arg::U64(first_chunk.address),
            Arg::U64(LENGTHS.len() as u64),
            Arg::U64(sums.address),
            Arg::U64(counts.address),
            Arg::U64(totals.address),
        ];
        device.launch("join_sums", 3, &mut args)?;
        let words: Vec<u64> = totals
            .bytes()
            .chunks_exact(8)
            .map(|bytes| u64::from_le_bytes(bytes.try_into().unwrap()))
            .collect();
        for (grad, total) in grads.iter().zip(words.chunks(2)) {
            let values = grad.values();
            let (sum, expected) = (f64::from_bits(total[0]), sum_squares(&values, 4096));
            let same = sum.to_bits() == expected.to_bits() || sum.is_nan() && expected.is_nan();
            let n_nonfinite = values.iter().filter(|value| !value.is_finite()).count() as u64;
            if !same || total[1] != n_nonfinite {
                let (n, seen) = (values.len(), total[1]);
                return Err(format!(
                    "{dtype:?}, {n} elements: {sum} and {seen}, expected {expected} and {n_nonfinite}"
                ));
            }
        }
    }
    Ok(())
}
