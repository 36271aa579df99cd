//! The learning rate at an index, from that at the index before where a formula is recursive.
//!
//! `Node::lr` matches the kind. Short formulas stand there; the others have a function of their
//! own, with the paper that they are from. `LinearWarmup` and `Chain` go on to an inner node, with
//! the index since it took over, and `Lambda`, `Multiplicative` and `Function` ask the host
//! (`ask`). The result is checked once: it has to be finite and not below 0.
//!
//! Only nodes for which `goes_on` is true read the learning rate at the index before: to jump to an
//! index, they walk through all earlier ones. `between` and `half_cosine` are the two curves of
//! which most formulas are made.
#![forbid(unsafe_code)]

use super::terms::{CyclicMode, Kind, Node, Terms};
use crate::error::Error;
use core::f64::consts::PI;
use libm::{cos, exp, pow};

impl Node {
    /// Returns whether the learning rate depends on the one at the index before.
    pub fn goes_on(&self) -> bool {
        let goes_on = matches!(self.terms.kind, Kind::CosineAnnealing | Kind::Multiplicative);
        goes_on || self.parts.iter().any(Node::goes_on)
    }

    /// Returns whether the learning rate follows from the index and from the one before: neither a
    /// function of the host's nor a metric is asked.
    pub fn is_foreseen(&self) -> bool {
        let asks = matches!(
            self.terms.kind,
            Kind::Lambda | Kind::Multiplicative | Kind::Function | Kind::ReduceOnPlateau
        );
        !asks && self.parts.iter().all(Node::is_foreseen)
    }

    /// Returns the learning rate at `index`; `last` is the one at the index before (anything at
    /// index 0).
    pub fn lr(&self, index: u64, last: f64) -> Result<f64, Error> {
        let t = &self.terms;
        let e = index as f64;
        let lr = match t.kind {
            Kind::Noam => noam(t, e),
            Kind::Piecewise => self.values[self.passed(index)],
            Kind::NaturalExp => t.lr * exp(-t.gamma * e),
            Kind::InverseTime => t.lr / (1.0 + t.gamma * e),
            Kind::Polynomial => polynomial(t, index),
            Kind::LinearWarmup if index < t.warmup_steps => {
                between(t.start_lr, t.end_lr, e / t.warmup_steps as f64)
            }
            Kind::LinearWarmup => match self.parts.first() {
                Some(inner) => return inner.lr(index - t.warmup_steps, last),
                None => t.lr,
            },
            Kind::Exponential => t.lr * pow(t.gamma, e),
            Kind::MultiStep => t.lr * pow(t.gamma, self.passed(index) as f64),
            Kind::Step => t.lr * pow(t.gamma, (index / t.period) as f64),
            Kind::Lambda => t.lr * self.ask(index)?,
            Kind::ReduceOnPlateau if index >= t.warmup_steps => t.lr,
            Kind::CosineAnnealing => cosine_annealing(t, index, last),
            Kind::Multiplicative if index == 0 => t.lr,
            Kind::Multiplicative => last * self.ask(index)?,
            Kind::OneCycle => one_cycle(t, index),
            Kind::Cyclic => cyclic(t, index),
            Kind::Linear => {
                let total = t.total_steps as f64;
                t.lr * between(t.start_factor, t.end_factor, e.min(total) / total)
            }
            Kind::CosineWarmRestarts => cosine_warm_restarts(t, index),
            Kind::ReduceOnPlateau => between(t.start_lr, t.lr, e / t.warmup_steps as f64),
            Kind::ConstantWithWarmup
            | Kind::LinearWithWarmup
            | Kind::CosineWithWarmup
            | Kind::InverseSqrt
            | Kind::WarmupStableDecay
                if index < t.warmup_steps =>
            {
                between(t.start_lr, t.lr, e / t.warmup_steps as f64)
            }
            Kind::ConstantWithWarmup => t.lr,
            Kind::LinearWithWarmup => between(t.lr, t.min_lr, part(index, t.warmup_steps, t)),
            Kind::CosineWithWarmup => half_cosine(t.lr, t.min_lr, part(index, t.warmup_steps, t)),
            Kind::InverseSqrt => t.lr * (t.warmup_steps as f64 / e).sqrt(),
            // 1 - sqrt: Hägele et al., "Scaling Laws and Compute-Optimal Training Beyond Fixed
            // Training Durations" (2024), section 3.
            Kind::WarmupStableDecay => {
                let stable_until = t.total_steps - t.decay_steps;
                between(t.lr, t.min_lr, part(index.max(stable_until), stable_until, t).sqrt())
            }
            Kind::Chain => {
                let number = self.passed(index);
                let start = if number == 0 { 0 } else { self.boundaries[number - 1] };
                return self.parts[number].lr(index - start, last);
            }
            Kind::Function => self.ask(index)?,
        };
        if lr.is_finite() && lr >= 0.0 { Ok(lr) } else { Err(Error::ScheduleLr { index, lr }) }
    }

    /// Returns the number of boundaries that lie behind.
    fn passed(&self, index: u64) -> usize {
        self.boundaries.partition_point(|&boundary| boundary <= index)
    }

    fn ask(&self, index: u64) -> Result<f64, Error> {
        self.function.ok_or(Error::Null("schedule.function"))?.value(index)
    }
}

/// Goes from `start` at 0 to `end` at 1 in a straight line, exact at both ends.
fn between(start: f64, end: f64, at: f64) -> f64 {
    if at == 1.0 { end } else { (end - start) * at + start }
}

/// Goes from `start` at 0 to `end` at 1 along half a cosine.
fn half_cosine(start: f64, end: f64, at: f64) -> f64 {
    end + (start - end) * (1.0 + cos(PI * at)) / 2.0
}

/// Returns the part of the way from `start` to `total_steps` that is done: 0 to 1.
fn part(index: u64, start: u64, t: &Terms) -> f64 {
    (index.min(t.total_steps) - start) as f64 / (t.total_steps - start) as f64
}

/// Vaswani et al., "Attention Is All You Need" (2017), equation 3.
fn noam(t: &Terms, e: f64) -> f64 {
    let warmup = t.warmup_steps as f64;
    let falling = if e == 0.0 { 1.0 } else { 1.0 / e.sqrt() };
    t.lr / (t.d_model as f64).sqrt() * falling.min(e / (warmup * warmup.sqrt()))
}

fn polynomial(t: &Terms, index: u64) -> f64 {
    let cycles = if t.cycle { index.div_ceil(t.total_steps).max(1) } else { 1 };
    let length = t.total_steps as f64 * cycles as f64;
    let done = (index as f64).min(length) / length;
    (t.lr - t.end_lr) * pow(1.0 - done, t.power) + t.end_lr
}

/// The longest period of the recursive form: for longer ones it divides by a number that f64 cannot
/// tell from 0.
const LONGEST_RECURSION: u64 = 1 << 26;

/// Paddle's recursive form, which goes on from whatever learning rate it is given; long periods use
/// the closed form.
fn cosine_annealing(t: &Terms, index: u64, last: f64) -> f64 {
    let (e, period) = (index as f64, t.period as f64);
    if index == 0 {
        t.lr
    } else if t.period > LONGEST_RECURSION {
        half_cosine(t.lr, t.min_lr, (index % (2 * t.period)) as f64 / period)
    } else if index > t.period && (index - 1 - t.period).is_multiple_of(2 * t.period) {
        last + (t.lr - t.min_lr) * (1.0 - cos(PI / period)) / 2.0
    } else {
        (1.0 + cos(PI * e / period)) / (1.0 + cos(PI * (e - 1.0) / period)) * (last - t.min_lr)
            + t.min_lr
    }
}

/// Smith & Topin, "Super-Convergence" (2017). The end is held from `total_steps` - 1 on.
fn one_cycle(t: &Terms, index: u64) -> f64 {
    let last = t.total_steps - 1;
    if index >= last {
        return t.end_lr;
    }
    let (e, last) = (index as f64, last as f64);
    let initial = t.max_lr / t.divide_factor;
    let top = t.phase_fraction * t.total_steps as f64 - 1.0;
    let (from, to, start, end) = match e {
        _ if e <= top => (initial, t.max_lr, 0.0, top),
        _ if !t.three_phase => (t.max_lr, t.end_lr, top, last),
        _ if e <= 2.0 * top => (t.max_lr, initial, top, 2.0 * top),
        _ => (initial, t.end_lr, 2.0 * top, last),
    };
    let at = (e - start) / (end - start);
    if t.linear_anneal { between(from, to, at) } else { half_cosine(from, to, at) }
}

/// Smith, "Cyclical Learning Rates for Training Neural Networks" (2017).
fn cyclic(t: &Terms, index: u64) -> f64 {
    let length = t.steps_up + t.steps_down;
    let (cycle, at) = (index / length, index % length);
    let height = if at <= t.steps_up {
        at as f64 / t.steps_up as f64
    } else {
        (length - at) as f64 / t.steps_down as f64
    };
    let scale = match t.cyclic_mode {
        CyclicMode::Triangular => 1.0,
        CyclicMode::Triangular2 => pow(0.5, cycle as f64),
        CyclicMode::ExpRange => pow(t.gamma, index as f64),
    };
    t.lr + (t.max_lr - t.lr) * height * scale
}

/// Loshchilov & Hutter, "SGDR" (2017). The cycle is found from the index, so that it needs no
/// state.
fn cosine_warm_restarts(t: &Terms, index: u64) -> f64 {
    let (mut at, mut period) = (index, t.period);
    if t.period_factor == 1 {
        at %= period;
    }
    while at >= period {
        at -= period;
        period = period.saturating_mul(t.period_factor);
    }
    half_cosine(t.lr, t.min_lr, at as f64 / period as f64)
}
