//! The kernels, each declared once.
//!
//! `kernels!` lists every kernel under the name that the PTX gives it. A kernel that there is only
//! one of stands alone; the others stand in groups, beside the types and the format that they are
//! for. The list makes the enumeration `Kernel`, whose order is the driver's (`NAMES`), and a table
//! for each group. So a kernel comes and goes with one line.
//!
//! `Kernel::step` and the other functions return the kernel of a group for a type and a format.
//! `driver/loaded.rs` loads all of them by name, and `launch.rs` launches one.
//!
//! Launches are sorted by the order of the list (`plan.rs`).
#![forbid(unsafe_code)]

use crate::dtype::Dtype;
use crate::format::{Format, Kept, MomentFormat};
#[cfg(feature = "cuda")]
use core::ffi::CStr;

/// The PTX of all kernels, NUL-terminated. A driver compiles it, and keeps the result on disk.
#[cfg(feature = "cuda")]
pub const PTX: &str = concat!(include_str!("kernels/kernels.ptx"), "\0");

/// Declares the kernels that stand alone, and those of each group with their keys.
macro_rules! kernels {
    (
        alone = { $($alone:ident)* }
        $($(#[$about:meta])* $group:ident: $key:ty = { $($($types:ident)+ => $kernel:ident)* })*
    ) => {
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
        #[allow(non_camel_case_types, reason = "the names are those of the PTX")]
        pub enum Kernel {
            $($alone,)*
            $($($kernel,)*)*
        }

        /// The names of the kernels in the PTX, in the order of `Kernel`.
        #[cfg(feature = "cuda")]
        pub const NAMES: &[&CStr] = &[
            $(name(concat!(stringify!($alone), "\0")),)*
            $($(name(concat!(stringify!($kernel), "\0")),)*)*
        ];

        $($(#[$about])* const $group: &[($key, Kernel)] = {
            #[allow(unused_imports, reason = "not every group has every type")]
            use {Dtype::*, Kept::*, MomentFormat::{Bf16 as Half, Bytes, Full, Nibbles}};
            &[$((($($types),+), Kernel::$kernel),)*]
        };)*
    };
}

kernels! {
    alone = {
        prepare
        decide
        put_sums
        set_scale
        adapt_scale
        advance_lr
        join_sums
        clear_skipped
        list_rows
        count_digits
        scan_counts
        sort_rows
        gather_rows
        join_rows
        log_step
    }

    /// Steps all elements. Where moments are codes, one kernel serves all ways to keep a type.
    STEPS: (Dtype, Kept, MomentFormat) = {
        F64 Itself Full => step_f64
        F32 Itself Full => step_f32
        F32 Itself Half => step_f32_bf16
        F32 Itself Bytes => step_f32_8bit
        F32 Itself Nibbles => step_f32_4bit
        F16 Itself Full => step_f16
        F16 Itself Half => step_f16_bf16
        F16 Itself Bytes => step_f16_8bit
        F16 Itself Nibbles => step_f16_4bit
        F16 Master Full => step_f16_master
        F16 Master Half => step_f16_master_bf16
        F16 Kahan Full => step_f16_kahan
        F16 Kahan Half => step_f16_kahan_bf16
        Bf16 Itself Full => step_bf16
        Bf16 Itself Half => step_bf16_bf16
        Bf16 Itself Bytes => step_bf16_8bit
        Bf16 Itself Nibbles => step_bf16_4bit
        Bf16 Master Full => step_bf16_master
        Bf16 Master Half => step_bf16_master_bf16
        Bf16 Split Full => step_bf16_split
        Bf16 Split Half => step_bf16_split_bf16
        Bf16 Kahan Full => step_bf16_kahan
        Bf16 Kahan Half => step_bf16_kahan_bf16
        Bf16 Stochastic Full => step_bf16_stochastic
        Bf16 Stochastic Half => step_bf16_stochastic_bf16
    }

    /// Steps the rows that a sparse gradient lists. One kernel serves all ways to keep a type.
    ROWS: (Dtype, MomentFormat) = {
        F64 Full => rows_f64
        F32 Full => rows_f32
        F32 Half => rows_f32_bf16
        F16 Full => rows_f16
        F16 Half => rows_f16_bf16
        Bf16 Full => rows_bf16
        Bf16 Half => rows_bf16_bf16
    }

    /// Steps the rows that lag until they are up to date.
    CATCH_UPS: (Dtype, MomentFormat) = {
        F64 Full => catch_up_f64
        F32 Full => catch_up_f32
        F32 Half => catch_up_f32_bf16
        F16 Full => catch_up_f16
        F16 Half => catch_up_f16_bf16
        Bf16 Full => catch_up_bf16
        Bf16 Half => catch_up_bf16_bf16
    }

    /// Sums the squares of gradients of a type.
    TALLIES: Dtype = {
        F32 => tally_f32
        F64 => tally_f64
        F16 => tally_f16
        Bf16 => tally_bf16
    }

    /// Adds gradients of the second type to a sum of the first.
    ACCUMULATES: (Dtype, Dtype) = {
        F32 F32 => accumulate_f32_f32
        F32 F16 => accumulate_f32_f16
        F32 Bf16 => accumulate_f32_bf16
        F64 F64 => accumulate_f64_f64
        F64 F32 => accumulate_f64_f32
    }

    /// Keeps the weights of parameters of a type.
    KEEPS: Dtype = {
        F32 => keep_f32
        F64 => keep_f64
        F16 => keep_f16
        Bf16 => keep_bf16
    }

    /// Sums the squares of what has changed of the kept weights.
    CHANGES: Dtype = {
        F32 => change_f32
        F64 => change_f64
        F16 => change_f16
        Bf16 => change_bf16
    }

    /// Compares masters with parameters of a type.
    MASTER_CHECKS: Dtype = {
        F16 => check_master_f16
        Bf16 => check_master_bf16
    }
}

/// Returns a name that ends with its NUL, or fails to compile.
#[cfg(feature = "cuda")]
const fn name(text: &str) -> &CStr {
    match CStr::from_bytes_with_nul(text.as_bytes()) {
        Ok(name) => name,
        Err(_) => panic!("a name ends with its only NUL"),
    }
}

/// Returns the kernel of a group that has this key.
fn find<K: PartialEq>(group: &[(K, Kernel)], key: K) -> Kernel {
    let found = group.iter().find(|(of, _)| *of == key);
    found.expect("Format::new and the checks of tensors let no other types in").1
}

impl Kernel {
    /// Returns the kernel that steps parameters of this type and format.
    pub fn step(param: Dtype, format: &Format) -> Kernel {
        let moments = format.moments();
        let kept = if moments.block().is_some() { Kept::Itself } else { format.kept() };
        find(STEPS, (param, kept, moments))
    }

    /// Returns the kernel that steps the listed rows of parameters of this type, whose moments are
    /// no codes.
    pub fn rows(param: Dtype, format: &Format) -> Kernel {
        find(ROWS, (param, format.moments()))
    }

    /// Returns the kernel that brings such rows up to date.
    pub fn catch_up(param: Dtype, format: &Format) -> Kernel {
        find(CATCH_UPS, (param, format.moments()))
    }

    /// Returns the kernel that sums the squares of gradients.
    pub fn tally(grad: Dtype) -> Kernel {
        find(TALLIES, grad)
    }

    /// Returns the kernel that keeps weights before a step.
    pub fn keep(param: Dtype) -> Kernel {
        find(KEEPS, param)
    }

    /// Returns the kernel that sums what a step has changed of the weights.
    pub fn change(param: Dtype) -> Kernel {
        find(CHANGES, param)
    }

    /// Returns the kernel that compares a master with its parameter.
    pub fn check_master(param: Dtype) -> Kernel {
        find(MASTER_CHECKS, param)
    }

    /// Returns the kernel that adds a gradient to a sum in the compute type.
    pub fn accumulate(sum: Dtype, grad: Dtype) -> Kernel {
        find(ACCUMULATES, (sum, grad))
    }
}

#[cfg(all(test, feature = "cuda"))]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn name(kernel: Kernel) -> &'static str {
        NAMES[kernel as usize].to_str().unwrap()
    }

    #[test]
    fn the_ptx_has_the_kernels_and_no_others() {
        let entries = PTX.split(".visible .entry ").skip(1);
        let entries: BTreeSet<_> = entries.filter_map(|entry| entry.split('(').next()).collect();
        let names: BTreeSet<_> = NAMES.iter().map(|name| name.to_str().unwrap()).collect();
        assert_eq!(names, entries);
        assert_eq!(names.len(), NAMES.len());
    }

    #[test]
    fn a_kernel_is_named_after_its_types() {
        assert_eq!(name(Kernel::prepare), "prepare");
        assert_eq!(name(Kernel::log_step), "log_step");
        for ((param, kept, moments), kernel) in STEPS {
            let kept = match kept {
                Kept::Itself => "",
                Kept::Master => "_master",
                Kept::Split => "_split",
                Kept::Kahan => "_kahan",
                Kept::Stochastic => "_stochastic",
            };
            assert_eq!(name(*kernel), format!("step_{param}{kept}{}", suffix(*moments)));
        }
        for (what, group) in [("rows", ROWS), ("catch_up", CATCH_UPS)] {
            for ((param, moments), kernel) in group {
                assert_eq!(name(*kernel), format!("{what}_{param}{}", suffix(*moments)));
            }
        }
        let of_a_type = [
            ("tally", TALLIES),
            ("keep", KEEPS),
            ("change", CHANGES),
            ("check_master", MASTER_CHECKS),
        ];
        for (what, group) in of_a_type {
            for (dtype, kernel) in group {
                assert_eq!(name(*kernel), format!("{what}_{dtype}"));
            }
        }
        for ((sum, grad), kernel) in ACCUMULATES {
            assert_eq!(name(*kernel), format!("accumulate_{sum}_{grad}"));
        }
    }

    fn suffix(moments: MomentFormat) -> &'static str {
        match moments {
            MomentFormat::Full => "",
            MomentFormat::Bf16 => "_bf16",
            MomentFormat::Bytes => "_8bit",
            MomentFormat::Nibbles => "_4bit",
        }
    }

    #[test]
    fn every_type_has_its_kernels() {
        for dtype in Dtype::FLOATS {
            let format = Format::plain(dtype);
            assert_eq!(name(Kernel::step(dtype, &format)), format!("step_{dtype}"));
            assert_eq!(name(Kernel::rows(dtype, &format)), format!("rows_{dtype}"));
            assert_eq!(name(Kernel::catch_up(dtype, &format)), format!("catch_up_{dtype}"));
            assert_eq!(name(Kernel::tally(dtype)), format!("tally_{dtype}"));
            assert_eq!(name(Kernel::keep(dtype)), format!("keep_{dtype}"));
            assert_eq!(name(Kernel::change(dtype)), format!("change_{dtype}"));
            let sum = dtype.compute();
            assert_eq!(name(Kernel::accumulate(sum, dtype)), format!("accumulate_{sum}_{dtype}"));
        }
        assert_eq!(name(Kernel::accumulate(Dtype::F64, Dtype::F32)), "accumulate_f64_f32");
        assert_eq!(name(Kernel::check_master(Dtype::F16)), "check_master_f16");
        assert_eq!(name(Kernel::check_master(Dtype::Bf16)), "check_master_bf16");
    }
}
