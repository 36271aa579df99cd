//! The least that a step in cache takes: its arithmetic, the correctly rounded root and division
//! included, in one bare loop.

use super::Streams;

/// The constants are those of no particular step.
#[inline(always)]
fn bare_loop(param: &mut [f32], grad: &[f32], exp_avg: &mut [f32], exp_avg_sq: &mut [f32]) {
    let n = param.len();
    let (grad, exp_avg, exp_avg_sq) = (&grad[..n], &mut exp_avg[..n], &mut exp_avg_sq[..n]);
    for i in 0..n {
        let m = exp_avg[i] + 0.1 * (grad[i] - exp_avg[i]);
        let v = exp_avg_sq[i] + 0.001 * (grad[i] * grad[i] - exp_avg_sq[i]);
        param[i] -= 1e-5 * param[i] + 1e-3 * (m / (v.sqrt() * 1.5 + 1e-8));
        (exp_avg[i], exp_avg_sq[i]) = (m, v);
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
fn bare_avx512(param: &mut [f32], grad: &[f32], exp_avg: &mut [f32], exp_avg_sq: &mut [f32]) {
    bare_loop(param, grad, exp_avg, exp_avg_sq)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn bare_avx2(param: &mut [f32], grad: &[f32], exp_avg: &mut [f32], exp_avg_sq: &mut [f32]) {
    bare_loop(param, grad, exp_avg, exp_avg_sq)
}

impl Streams<f32> {
    /// The bare loop over these streams, on one thread.
    pub fn bare(&mut self) {
        let (param, grad) = (self.param.slice(), self.grad.slice());
        let (exp_avg, exp_avg_sq) = (self.exp_avg.slice(), self.exp_avg_sq.slice());
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the features were detected.
        unsafe {
            if is_x86_feature_detected!("avx512f") {
                return bare_avx512(param, grad, exp_avg, exp_avg_sq);
            }
            if is_x86_feature_detected!("avx2") {
                return bare_avx2(param, grad, exp_avg, exp_avg_sq);
            }
        }
        bare_loop(param, grad, exp_avg, exp_avg_sq)
    }
}
