//! Of which buffers the state of a parameter is made.

use super::Param;
use crate::common::array::Dtype;
use adamw::ffi::*;

/// The buffers, in the order in which `adamw_param_config` would be given them.
pub const BUFFERS: [adamw_buffer; 8] = [
    ADAMW_BUFFER_MASTER,
    ADAMW_BUFFER_EXP_AVG,
    ADAMW_BUFFER_EXP_AVG_SQ,
    ADAMW_BUFFER_MAX_EXP_AVG_SQ,
    ADAMW_BUFFER_REMAINDER,
    ADAMW_BUFFER_EXP_AVG_SCALE,
    ADAMW_BUFFER_EXP_AVG_SQ_SCALE,
    ADAMW_BUFFER_MAX_EXP_AVG_SQ_SCALE,
];

impl Param {
    /// The type and the length of each; `None`: there is none.
    pub fn layout(&self) -> [Option<(Dtype, usize)>; 8] {
        let n = self.param.len();
        let is_short = self.dtype.bytes() == 2;
        let precision = self.format.precision;
        let has_master =
            is_short && precision == ADAMW_PRECISION_DEFAULT && self.format.multi_precision;
        let master = has_master.then_some((Dtype::F32, n));
        let remainder = match precision {
            ADAMW_PRECISION_SPLIT if is_short => Some((Dtype::I16, n)),
            ADAMW_PRECISION_KAHAN if is_short => Some((self.dtype, n)),
            _ => None,
        };
        let (moment, scale) = match self.format.moments {
            ADAMW_MOMENTS_BF16 => ((Dtype::Bf16, n), None),
            ADAMW_MOMENTS_8BIT => ((Dtype::U8, n), Some((Dtype::F32, n.div_ceil(256)))),
            ADAMW_MOMENTS_4BIT => {
                let blocks = n.div_ceil(128);
                ((Dtype::U8, 64 * blocks), Some((Dtype::F32, blocks)))
            }
            _ => ((self.dtype.compute(), n), None),
        };
        let moment = Some(moment);
        let largest = |part: Option<(Dtype, usize)>| part.filter(|_| self.format.amsgrad);
        [master, moment, moment, largest(moment), remainder, scale, scale, largest(scale)]
    }
}
