//! The state of a parameter, all of it.

use super::array::{Array, Dtype};
use super::handle::Handle;
use adamw::ffi::*;

/// Every buffer that a parameter may have, and what its name ends with.
pub const STATE: [(adamw_buffer, &str); 8] = [
    (ADAMW_BUFFER_MASTER, "master"),
    (ADAMW_BUFFER_REMAINDER, "remainder"),
    (ADAMW_BUFFER_EXP_AVG, "exp_avg"),
    (ADAMW_BUFFER_EXP_AVG_SQ, "exp_avg_sq"),
    (ADAMW_BUFFER_MAX_EXP_AVG_SQ, "max_exp_avg_sq"),
    (ADAMW_BUFFER_EXP_AVG_SCALE, "exp_avg_scale"),
    (ADAMW_BUFFER_EXP_AVG_SQ_SCALE, "exp_avg_sq_scale"),
    (ADAMW_BUFFER_MAX_EXP_AVG_SQ_SCALE, "max_exp_avg_sq_scale"),
];

const DTYPES: [Dtype; 6] = [Dtype::F32, Dtype::F64, Dtype::F16, Dtype::Bf16, Dtype::I16, Dtype::U8];

/// Copies of all the state tensors of a parameter.
pub fn state(handle: &Handle, number: u32, name: &str) -> Vec<(&'static str, Array)> {
    let there = STATE.iter().filter_map(|&(buffer, part)| {
        let info = handle.state_info(number, buffer).ok()?;
        let dtype = DTYPES.into_iter().find(|dtype| dtype.code() == info.dtype).unwrap();
        let copy = Array::zeros(dtype, info.n_elements as usize);
        handle.get_state(&format!("state.{name}.{part}"), &copy).unwrap();
        Some((part, copy))
    });
    there.collect()
}
