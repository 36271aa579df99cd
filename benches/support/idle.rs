//! A parameter whose gradient has been 0 for many steps: its moments have fallen as far as they do.

use super::*;

/// The elements that take the steps; the state of more is theirs over and over.
const TAKEN_BY: usize = 16 << 10;

const MOMENTS: [adamw_buffer; 4] = [
    ADAMW_BUFFER_EXP_AVG,
    ADAMW_BUFFER_EXP_AVG_SQ,
    ADAMW_BUFFER_EXP_AVG_SCALE,
    ADAMW_BUFFER_EXP_AVG_SQ_SCALE,
];

/// The bytes from a multiple of 4 KiB to each of the moments.
const APART: usize = 576;

impl Optimizer {
    /// A part of the first parameter's state, if it has that part.
    fn info(&self, buffer: adamw_buffer) -> Option<adamw_state_info> {
        // SAFETY: a struct of numbers and a nullable pointer, which the call fills.
        unsafe {
            let mut info: adamw_state_info = std::mem::zeroed();
            let bytes = size_of::<adamw_state_info>();
            let status = adamw_get_state_info(self.0, 0, buffer, &mut info, bytes);
            (status == Status::Ok).then_some(info)
        }
    }

    /// The memory of that part.
    fn state(&mut self, buffer: adamw_buffer) -> &mut [u8] {
        let Some(info) = self.info(buffer) else { return &mut [] };
        // SAFETY: the memory is alive as long as the handle, which is borrowed.
        unsafe { std::slice::from_raw_parts_mut(info.data.cast(), bytes_of(&info)) }
    }
}

/// An optimizer whose moments are at places that are always the same, because the time of a step in
/// cache depends on them.
pub struct InPlace {
    optimizer: Optimizer,
    #[allow(dead_code, reason = "the optimizer uses it by address")]
    memory: Vec<Elements<u8>>,
}

impl InPlace {
    pub fn new(owned: &mut Owned<f32>, config: &adamw_config) -> InPlace {
        let like = owned.optimizer(config);
        let mut memory = Vec::new();
        let moments = MOMENTS.map(|buffer| {
            let info = like.info(buffer)?;
            let skipped = (1 + memory.len()) * APART;
            let mut place = Elements::new(skipped + bytes_of(&info), 0u8);
            let data = place.slice()[skipped..].as_mut_ptr();
            memory.push(place);
            let (code, bytes) = code_and_bytes(info.dtype);
            let dtype = adamw_data_type { code, bits: 8 * bytes as u8, lanes: 1 };
            Some((data, dtype, info.n_elements as i64))
        });
        drop(like);
        let mut shapes = moments.map(|moment| moment.map_or(0, |(.., n)| n));
        let tensors: [Option<adamw_tensor>; 4] = std::array::from_fn(|i| {
            let (data, dtype, _) = moments[i]?;
            Some(adamw_tensor { dtype, ..tensor(data, 0, &mut shapes[i]) })
        });
        let [exp_avg, exp_avg_sq, exp_avg_scale, exp_avg_sq_scale] =
            tensors.each_ref().map(|tensor| tensor.as_ref().map_or(null(), from_ref));
        let state = adamw_param_config {
            exp_avg,
            exp_avg_sq,
            exp_avg_scale,
            exp_avg_sq_scale,
            ..adamw_param_config::DEFAULT
        };
        InPlace { optimizer: owned.optimizer_with(config, &state), memory }
    }

    pub fn step(&mut self) {
        self.optimizer.step();
    }
}

fn code_and_bytes(dtype: adamw_dtype) -> (u8, usize) {
    match dtype {
        ADAMW_DTYPE_U8 => (1, 1),
        ADAMW_DTYPE_BF16 => (4, 2),
        _ => (2, 4),
    }
}

fn bytes_of(info: &adamw_state_info) -> usize {
    info.n_elements as usize * code_and_bytes(info.dtype).1
}

/// An optimizer of `owned`, a multiple of 16 Ki elements, as it is after one step with its gradient
/// and so many with one of zeros.
pub fn optimizer(owned: &mut Owned<f32>, config: &adamw_config, steps: u64) -> InPlace {
    let mut few = Owned::<f32>::new(TAKEN_BY);
    let mut taker = few.optimizer(config);
    taker.step();
    few.grad.slice().fill(0.0);
    (0..steps).for_each(|_| taker.step());

    owned.grad.slice().fill(0.0);
    let mut idle = InPlace::new(owned, config);
    for buffer in MOMENTS {
        let from = taker.state(buffer);
        let to = idle.optimizer.state(buffer);
        to.chunks_exact_mut(from.len().max(1)).for_each(|to| to.copy_from_slice(from));
    }
    // SAFETY: one number.
    check(unsafe { adamw_set_steps(idle.optimizer.0, null(), &(1 + steps), 1) });
    idle
}
