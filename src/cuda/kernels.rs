//! Which kernel steps which format.
#![forbid(unsafe_code)]

use crate::dtype::Dtype;
use crate::format::{Format, Kept, MomentFormat};
use core::ffi::CStr;

/// The kernels, NUL-terminated, which a driver compiles when a handle first needs them.
#[cfg(feature = "cuda")]
pub const PTX: &str = concat!(include_str!("kernels/kernels.ptx"), "\0");

/// Of each format. Where moments are codes, one kernel serves all ways to keep a type.
const STEPS: [(Dtype, Kept, MomentFormat, &CStr); 25] = {
    use Dtype::*;
    use Kept::*;
    use MomentFormat::{Bf16 as Half, Bytes, Full, Nibbles};
    [
        (F64, Itself, Full, c"step_f64"),
        (F32, Itself, Full, c"step_f32"),
        (F32, Itself, Half, c"step_f32_bf16"),
        (F32, Itself, Bytes, c"step_f32_8bit"),
        (F32, Itself, Nibbles, c"step_f32_4bit"),
        (F16, Itself, Full, c"step_f16"),
        (F16, Itself, Half, c"step_f16_bf16"),
        (F16, Itself, Bytes, c"step_f16_8bit"),
        (F16, Itself, Nibbles, c"step_f16_4bit"),
        (F16, Master, Full, c"step_f16_master"),
        (F16, Master, Half, c"step_f16_master_bf16"),
        (F16, Kahan, Full, c"step_f16_kahan"),
        (F16, Kahan, Half, c"step_f16_kahan_bf16"),
        (Bf16, Itself, Full, c"step_bf16"),
        (Bf16, Itself, Half, c"step_bf16_bf16"),
        (Bf16, Itself, Bytes, c"step_bf16_8bit"),
        (Bf16, Itself, Nibbles, c"step_bf16_4bit"),
        (Bf16, Master, Full, c"step_bf16_master"),
        (Bf16, Master, Half, c"step_bf16_master_bf16"),
        (Bf16, Split, Full, c"step_bf16_split"),
        (Bf16, Split, Half, c"step_bf16_split_bf16"),
        (Bf16, Kahan, Full, c"step_bf16_kahan"),
        (Bf16, Kahan, Half, c"step_bf16_kahan_bf16"),
        (Bf16, Stochastic, Full, c"step_bf16_stochastic"),
        (Bf16, Stochastic, Half, c"step_bf16_stochastic_bf16"),
    ]
};

/// The same for the rows that a sparse gradient lists. One kernel serves all ways to keep a type.
const ROWS: [(Dtype, MomentFormat, &CStr); 7] = {
    use Dtype::*;
    use MomentFormat::{Bf16 as Half, Full};
    [
        (F64, Full, c"rows_f64"),
        (F32, Full, c"rows_f32"),
        (F32, Half, c"rows_f32_bf16"),
        (F16, Full, c"rows_f16"),
        (F16, Half, c"rows_f16_bf16"),
        (Bf16, Full, c"rows_bf16"),
        (Bf16, Half, c"rows_bf16_bf16"),
    ]
};

/// What brings those up to date that lag, in the order of `ROWS`.
#[cfg(feature = "cuda")]
const CATCH_UPS: [&CStr; ROWS.len()] = [
    c"catch_up_f64",
    c"catch_up_f32",
    c"catch_up_f32_bf16",
    c"catch_up_f16",
    c"catch_up_f16_bf16",
    c"catch_up_bf16",
    c"catch_up_bf16_bf16",
];

/// A kernel, by its place among `STEPS`, the others, `ROWS` and what brings up to date.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Kernel(pub usize);

#[cfg(feature = "cuda")]
const OTHERS: [&CStr; N_OTHERS] = [
    c"prepare",
    c"decide",
    c"join_sums",
    c"clear_skipped",
    c"tally_f32",
    c"tally_f64",
    c"tally_f16",
    c"tally_bf16",
    c"accumulate_f32_f32",
    c"accumulate_f32_f16",
    c"accumulate_f32_bf16",
    c"accumulate_f64_f64",
    c"accumulate_f64_f32",
    c"keep_f32",
    c"keep_f64",
    c"keep_f16",
    c"keep_bf16",
    c"change_f32",
    c"change_f64",
    c"change_f16",
    c"change_bf16",
    c"check_master_f16",
    c"check_master_bf16",
    c"list_rows",
    c"count_digits",
    c"sort_rows",
    c"gather_rows",
    c"log_step",
];
/// Of `OTHERS`, which only a driver is asked for.
const N_OTHERS: usize = 28;

#[cfg(feature = "cuda")]
pub const COUNT: usize = STEPS.len() + N_OTHERS + 2 * ROWS.len();

impl Kernel {
    pub const PREPARE: Kernel = Kernel(STEPS.len());
    pub const DECIDE: Kernel = Kernel(STEPS.len() + 1);
    pub const JOIN_SUMS: Kernel = Kernel(STEPS.len() + 2);
    pub const CLEAR_SKIPPED: Kernel = Kernel(STEPS.len() + 3);
    pub const LIST_ROWS: Kernel = Kernel(STEPS.len() + 23);
    pub const COUNT_DIGITS: Kernel = Kernel(STEPS.len() + 24);
    pub const SORT_ROWS: Kernel = Kernel(STEPS.len() + 25);
    pub const GATHER_ROWS: Kernel = Kernel(STEPS.len() + 26);
    pub const LOG_STEP: Kernel = Kernel(STEPS.len() + 27);

    #[cfg(feature = "cuda")]
    pub fn all() -> impl Iterator<Item = (Kernel, &'static CStr)> {
        let rows = ROWS.iter().map(|rows| rows.2);
        let names = STEPS.iter().map(|step| step.3).chain(OTHERS).chain(rows).chain(CATCH_UPS);
        names.enumerate().map(|(place, name)| (Kernel(place), name))
    }

    /// Steps a parameter of this type and format.
    pub fn step(param: Dtype, format: &Format) -> Kernel {
        let moments = format.moments();
        let kept = if moments.block().is_some() { Kept::Itself } else { format.kept() };
        let wanted = (param, kept, moments);
        let place =
            STEPS.iter().position(|&(param, kept, moments, _)| (param, kept, moments) == wanted);
        Kernel(place.expect("Format::new makes no other format"))
    }

    /// Steps the rows that are listed of a parameter of this type, whose moments are no codes.
    pub fn rows(param: Dtype, format: &Format) -> Kernel {
        let wanted = (param, format.moments());
        let place = ROWS.iter().position(|&(param, moments, _)| (param, moments) == wanted);
        Kernel(STEPS.len() + N_OTHERS + place.expect("codes are not stepped by rows"))
    }

    /// Brings rows of the same up to date.
    pub fn catch_up(param: Dtype, format: &Format) -> Kernel {
        Kernel(Kernel::rows(param, format).0 + ROWS.len())
    }

    /// Adds up the squares of a gradient.
    pub fn tally(grad: Dtype) -> Kernel {
        Kernel(STEPS.len() + 4 + of_type(grad))
    }

    /// Keeps what parameters of a type weigh.
    pub fn keep(param: Dtype) -> Kernel {
        Kernel(STEPS.len() + 13 + of_type(param))
    }

    /// Adds up what has changed of them since.
    pub fn change(param: Dtype) -> Kernel {
        Kernel(STEPS.len() + 17 + of_type(param))
    }

    /// Holds a master against its parameter.
    pub fn check_master(param: Dtype) -> Kernel {
        Kernel(STEPS.len() + 21 + usize::from(param == Dtype::Bf16))
    }

    /// Adds a gradient to a sum in the compute type.
    pub fn accumulate(sum: Dtype, grad: Dtype) -> Kernel {
        Kernel(
            STEPS.len()
                + 8
                + match (sum, grad) {
                    (Dtype::F64, Dtype::F64) => 3,
                    (Dtype::F64, _) => 4,
                    (_, Dtype::F16) => 1,
                    (_, Dtype::Bf16) => 2,
                    _ => 0,
                },
        )
    }
}

/// The place of a type among kernels that there is one of for each.
fn of_type(dtype: Dtype) -> usize {
    match dtype {
        Dtype::F32 => 0,
        Dtype::F64 => 1,
        Dtype::F16 => 2,
        _ => 3,
    }
}

#[cfg(all(test, feature = "cuda"))]
mod tests {
    use super::*;

    #[test]
    fn kernels_have_the_names_that_their_places_say() {
        let name = |kernel: Kernel| Kernel::all().find(|(at, _)| *at == kernel).unwrap().1;
        assert_eq!(name(Kernel::PREPARE), c"prepare");
        assert_eq!(name(Kernel::DECIDE), c"decide");
        assert_eq!(name(Kernel::JOIN_SUMS), c"join_sums");
        assert_eq!(name(Kernel::CLEAR_SKIPPED), c"clear_skipped");
        assert_eq!(name(Kernel::LIST_ROWS), c"list_rows");
        assert_eq!(name(Kernel::COUNT_DIGITS), c"count_digits");
        assert_eq!(name(Kernel::SORT_ROWS), c"sort_rows");
        assert_eq!(name(Kernel::GATHER_ROWS), c"gather_rows");
        assert_eq!(name(Kernel::LOG_STEP), c"log_step");
        for param in Dtype::FLOATS {
            let rows = format!("rows_{param}");
            let format = Format::plain(param);
            assert_eq!(name(Kernel::rows(param, &format)).to_str().unwrap(), rows);
            let catch_up = format!("catch_up_{param}");
            assert_eq!(name(Kernel::catch_up(param, &format)).to_str().unwrap(), catch_up);
        }
        for grad in Dtype::FLOATS {
            for (kernel, what) in [
                (Kernel::tally(grad), "tally"),
                (Kernel::keep(grad), "keep"),
                (Kernel::change(grad), "change"),
            ] {
                assert_eq!(name(kernel).to_str().unwrap(), format!("{what}_{grad}"));
            }
            let sum = grad.compute();
            let accumulate = format!("accumulate_{sum}_{grad}");
            assert_eq!(name(Kernel::accumulate(sum, grad)).to_str().unwrap(), accumulate);
        }
        assert_eq!(name(Kernel::accumulate(Dtype::F64, Dtype::F32)), c"accumulate_f64_f32");
        for param in [Dtype::F16, Dtype::Bf16] {
            let check = format!("check_master_{param}");
            assert_eq!(name(Kernel::check_master(param)).to_str().unwrap(), check);
        }
        assert_eq!(Kernel::all().count(), COUNT);
    }
}
