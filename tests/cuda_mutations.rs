//! A kernel that is broken is caught: by the driver, which does not load it or sees what it does, or by
//! its bits. So the tests of the kernels look at what they say they do.

mod common;

use common::array::Dtype;
use common::device::{self, Device, PTX};
use common::kernels::{CHUNK, Case, compare, compare_sums};

/// A way to break a kernel: where it says the first, it says the second.
struct Mutation {
    name: &'static str,
    kernel: &'static str,
    /// How often the text has been seen before.
    nth: usize,
    from: &'static str,
    to: &'static str,
}

const fn mutation(
    name: &'static str,
    kernel: &'static str,
    nth: usize,
    from: &'static str,
    to: &'static str,
) -> Mutation {
    Mutation { name, kernel, nth, from, to }
}

/// Each is caught: by the driver, which will not load it or sees what it does, or by the bits.
const MUTATIONS: [Mutation; 22] = [
    mutation("a root that is near", "step_f32", 0, "sqrt.rn.f32", "sqrt.approx.f32"),
    mutation("a quotient that is near", "step_f32", 0, "div.rn.f32", "div.approx.f32"),
    mutation("a product that may be fused", "step_f32", 0, "mul.rn.f32", "mul.f32"),
    mutation("another rounding", "step_f32", 1, "add.rn.f32", "add.rz.f32"),
    mutation("flushed subnormals", "step_f32", 1, "mul.rn.f32", "mul.rn.ftz.f32"),
    mutation("a sum that is a difference", "step_f32", 1, "add.rn.f32", "sub.rn.f32"),
    mutation("one element more", "step_f32", 1, "setp.lt.u32", "setp.le.u32"),
    mutation("a chunk more", "step_f32", 0, "setp.ge.u64", "setp.gt.u64"),
    mutation("a vector that is not written", "step_f32", 1, "st.global.cs.v4.f32", "// "),
    mutation(
        "an element of the rest that is not written",
        "step_f32",
        0,
        "st.global.cs.f32",
        "// ",
    ),
    mutation("every block works on one chunk", "step_f32", 0, "%ctaid.x", "%tid.y"),
    mutation("every thread works on one vector", "step_f32", 0, "%tid.x", "%tid.y"),
    mutation(
        "the smaller of two scales",
        "step_f32_8bit",
        0,
        "shfl.sync.bfly.b32",
        "shfl.sync.down.b32",
    ),
    mutation("half a warp", "step_f32_8bit", 0, "-1;", "65535;"),
    mutation(
        "the other half of a byte",
        "step_f32_4bit",
        0,
        "shfl.sync.down.b32",
        "shfl.sync.up.b32",
    ),
    mutation("nine rounds of ten", "step_bf16_stochastic", 0, ", 10;", ", 9;"),
    mutation("a power that grows", "prepare", 0, "mul.rn.f64", "add.rn.f64"),
    mutation("a step that is not counted", "prepare", 0, "st.global.u64", "// "),
    mutation("a constant that is rounded down", "prepare", 2, "cvt.rn.f32.f64", "cvt.rz.f32.f64"),
    mutation("a sum of other lanes", "tally_f32", 0, "shfl.sync.down.b32", "shfl.sync.up.b32"),
    mutation("a block that is left out", "tally_f32", 0, "st.global.f64", "// "),
    mutation("a level that does not wait", "join_sums", 0, "bar.sync", "// "),
];

impl Mutation {
    fn ptx(&self) -> String {
        let entry = format!(".visible .entry {}(", self.kernel);
        let start = PTX.find(&entry).unwrap();
        let places: Vec<usize> = PTX[start..].match_indices(self.from).map(|(at, _)| at).collect();
        let at = start + places[self.nth];
        assert!(!PTX[start + entry.len()..at].contains(".visible .entry"), "{}", self.name);
        format!("{}{}{}", &PTX[..at], self.to, &PTX[at + self.from.len()..])
    }

    /// What is wrong with the kernel, as far as the tests see it.
    fn caught(&self, ptx: &str) -> Result<(), String> {
        device::reset();
        let device = Device::with_ptx(ptx)?;
        // Whatever is stepped has been prepared, and what takes random bits counts steps.
        let shown_by: &[&str] = match self.kernel {
            "prepare" => &["step_f32", "step_bf16_stochastic"],
            kernel => &[kernel],
        };
        let cases = Case::all();
        for case in cases.iter().filter(|case| shown_by.contains(&&*case.kernel(CHUNK))) {
            // Of lengths that end within a vector some, since an element may be one that nothing changes.
            let lengths = [CHUNK + 77, 2 * CHUNK, 4098, 4099, 4102, 4103, 4107];
            compare(&device, case, &lengths, 2, |_| 0)?;
            compare(&device, case, &[CHUNK + 77], 5, |place| place % 4)?;
        }
        compare_sums(&device, Dtype::F32)
    }
}

#[test]
fn every_mutation_of_a_kernel_is_caught() {
    for mutation in &MUTATIONS {
        assert_eq!(mutation.caught(PTX), Ok(()), "{}", mutation.name);
        let caught = mutation.caught(&mutation.ptx());
        assert!(caught.is_err(), "{} was not caught", mutation.name);
        println!("{}: {}", mutation.name, caught.unwrap_err());
    }
}
