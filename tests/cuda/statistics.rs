//! What a step has changed, as a device counts it.

use crate::common::array::Array;
use crate::common::device::Device;
use crate::common::kernels::{CHUNK, Case};
use crate::common::twin::Twin;
use adamw::ffi::*;

/// Steps a parameter of so many elements, half of which have a momentum; how many updates are lost.
fn n_unchanged(case: &Case, n: usize, lr: f64) -> u64 {
    let mut twin = Twin::new(&adamw_config { lr, ..case.config() });
    twin.add(case.kept.param, n);
    twin.both(|handle| handle.set_statistics(1).unwrap());
    for _ in 0..2 {
        let grad = Array::ordinary(case.grad(), n, &mut twin.random);
        (0..n).filter(|i| i % 2 == 0).for_each(|i| grad.set(i, 0.0));
        twin.set_grad(0, grad);
        twin.step();
        twin.assert_same();
    }
    twin.device.step_info().n_unchanged
}

#[test]
fn updates_that_rounding_has_lost_are_counted_there_as_on_the_processor_in_every_format() {
    let _device = Device::with(&[("blocks", "2")]);
    for case in Case::formats() {
        for n in [131, 4096 + 77] {
            let lost = n_unchanged(&case, n, 1e-30);
            assert!(lost > 0 && lost <= n as u64, "{lost} of {n}: {case:?}");
            n_unchanged(&case, n, 0.01);
            assert_eq!(n_unchanged(&case, n, 0.0), 0, "{case:?}");
        }
    }
    n_unchanged(&Case::all()[0], 2 * CHUNK + 5, 1e-7);
}
