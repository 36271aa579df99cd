//! Every way to step, on the processor and on the device with the same numbers.

use super::array::{Array, Dtype};
use super::device::{Device, OnDevice};
use super::handle::{Handle, Param, config, with_clip};
use super::random::Random;
use super::state::{STATE, state};
use adamw::ffi::*;

pub const CHUNK: usize = 16_384;

/// How parameters of a type are kept between steps.
#[derive(Clone, Copy, Debug)]
pub struct Kept {
    pub param: Dtype,
    /// In the kernel's name.
    pub name: &'static str,
    pub multi_precision: u32,
    pub precision: adamw_precision,
}

const fn kept(
    param: Dtype,
    name: &'static str,
    multi_precision: u32,
    precision: adamw_precision,
) -> Kept {
    Kept { param, name, multi_precision, precision }
}

const KEPT: [Kept; 10] = [
    kept(Dtype::F32, "f32", 0, ADAMW_PRECISION_DEFAULT),
    kept(Dtype::F64, "f64", 0, ADAMW_PRECISION_DEFAULT),
    kept(Dtype::F16, "f16", 0, ADAMW_PRECISION_DEFAULT),
    kept(Dtype::F16, "f16_master", 1, ADAMW_PRECISION_DEFAULT),
    kept(Dtype::F16, "f16_kahan", 0, ADAMW_PRECISION_KAHAN),
    kept(Dtype::Bf16, "bf16", 0, ADAMW_PRECISION_DEFAULT),
    kept(Dtype::Bf16, "bf16_master", 1, ADAMW_PRECISION_DEFAULT),
    kept(Dtype::Bf16, "bf16_split", 0, ADAMW_PRECISION_SPLIT),
    kept(Dtype::Bf16, "bf16_kahan", 0, ADAMW_PRECISION_KAHAN),
    kept(Dtype::Bf16, "bf16_stochastic", 0, ADAMW_PRECISION_STOCHASTIC),
];

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

    /// One of each format.
    pub fn formats() -> Vec<Case> {
        let mut cases = Case::all();
        cases.dedup_by_key(|case| (case.kept.name, case.f32_grad, case.moments, case.amsgrad));
        cases
    }

    pub fn config(&self) -> adamw_config {
        let clip = if self.clip_by_value { ADAMW_CLIP_VALUE } else { ADAMW_CLIP_NONE };
        let config = adamw_config {
            lr: 0.01,
            weight_decay: 0.1,
            eps: 1e-6,
            seed: 77,
            num_threads: 1,
            clear_grads: self.clear_grads.into(),
            multi_precision: self.kept.multi_precision,
            precision: self.kept.precision,
            moments: self.moments,
            amsgrad: self.amsgrad.into(),
            maximize: self.maximize.into(),
            clip_min: -0.5,
            clip_max: 0.25,
            ..config()
        };
        with_clip(clip, config)
    }

    pub fn grad(&self) -> Dtype {
        if self.f32_grad { Dtype::F32 } else { self.kept.param }
    }

    /// Extreme values among others; where moments are codes, only in the first block: the largest of
    /// a block decides about all of it.
    fn values(&self, dtype: Dtype, n: usize, random: &mut Random) -> Array {
        if !matches!(self.moments, ADAMW_MOMENTS_8BIT | ADAMW_MOMENTS_4BIT) {
            return Array::random(dtype, n, random);
        }
        let values = Array::ordinary(dtype, n, random);
        for i in 0..n.min(256) {
            values.set_bits(i, random.bits(dtype));
        }
        values
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
}

/// The state in the order in which a parameter is given it.
const GIVEN: [&str; 8] = [
    "master",
    "exp_avg",
    "exp_avg_sq",
    "max_exp_avg_sq",
    "remainder",
    "exp_avg_scale",
    "exp_avg_sq_scale",
    "max_exp_avg_sq_scale",
];

/// Steps parameters of these lengths on the processor and on the device, and compares every bit.
/// `offset` is how many elements each operand, by its place, starts past an aligned address.
pub fn compare(
    _: &Device,
    case: &Case,
    lengths: &[usize],
    offset: impl Fn(usize) -> usize,
) -> Result<(), String> {
    let random = &mut Random::new(11);
    let (host, device) = (Handle::new(&case.config()), Handle::new(&case.config()));
    let mut params = Vec::new();
    for (i, n) in lengths.iter().enumerate() {
        let param = case.values(case.kept.param, *n, random);
        let name = format!("w{i}");
        let added = Param { regularizer: (case.regularizer, 0.125), ..Param::new(&name, &param) };
        let number = host.add(&added);
        let on_device = OnDevice::of(&param, offset(0));
        let mut given: Vec<(&str, OnDevice)> = Vec::new();
        for (part, state) in state(&host, number, &name) {
            let place = 1 + STATE.iter().position(|(_, name)| *name == part).unwrap();
            if part == "master" {
                // The library fills its own at the first step.
                param.values().iter().enumerate().for_each(|(i, value)| state.set(i, *value));
            }
            given.push((part, OnDevice::of(&state, offset(place))));
        }
        let tensor = |part: &str| {
            let found = given.iter().find(|(name, _)| *name == part);
            found.map(|(_, state)| state.tensor())
        };
        let [master, exp_avg, exp_avg_sq, max, remainder, scales @ ..] = GIVEN.map(tensor);
        let [scale0, scale1, scale2] = scales;
        let tensors = [
            Some(on_device.tensor()),
            master,
            exp_avg,
            exp_avg_sq,
            max,
            remainder,
            scale0,
            scale1,
            scale2,
        ];
        device.try_add_tensors(&added, tensors).map_err(|failure| failure.text)?;
        params.push((name, param, on_device, given));
    }
    // After the second step, moments that are too small become 0.
    let taken = vec![62; lengths.len()];
    host.set_steps(None, &taken).unwrap();
    device.set_steps(None, &taken).unwrap();
    for _ in 0..2 {
        let grads: Vec<Array> =
            lengths.iter().map(|n| case.values(case.grad(), *n, random)).collect();
        let on_device: Vec<OnDevice> =
            grads.iter().map(|grad| OnDevice::of(grad, offset(9))).collect();
        for (i, (grad, on_device)) in grads.iter().zip(&on_device).enumerate() {
            host.set_grad(i as u32, grad);
            device.set_grad_tensor(i as u32, &on_device.tensor()).unwrap();
        }
        host.step();
        device.try_step().map_err(|failure| failure.text)?;
        for (grad, on_device) in grads.iter().zip(&on_device) {
            if let Some(difference) = on_device.array()?.first_difference(grad) {
                return Err(format!("grad: {difference}"));
            }
        }
    }
    for (i, (name, param, on_device, _)) in params.iter().enumerate() {
        let n = param.len();
        if let Some(difference) = on_device.array()?.first_difference(param) {
            return Err(format!("param of {n} elements: {difference}"));
        }
        let (expected, seen) = (state(&host, i as u32, name), state(&device, i as u32, name));
        for ((part, expected), (_, seen)) in expected.iter().zip(&seen) {
            if let Some(difference) = seen.first_difference(expected) {
                return Err(format!("{part} of {n} elements: {difference}"));
            }
        }
        if host.info(i as u32) != device.info(i as u32) {
            return Err(format!("{:?} and {:?}", host.info(i as u32), device.info(i as u32)));
        }
    }
    Ok(())
}
