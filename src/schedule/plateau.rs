//! `ReduceOnPlateau`, which lowers the learning rate when a metric stops improving.
#![forbid(unsafe_code)]

use super::{State, Terms};

/// Returns the state after a metric. The order is that of
/// `paddle.optimizer.lr.ReduceOnPlateau.step`.
pub fn next(terms: &Terms, state: State, metric: f64) -> State {
    let mut next = State { index: state.index.saturating_add(1), ..state };
    if state.cooldown > 0 {
        next.cooldown -= 1;
        return next;
    }
    if state.best.is_nan() || is_better(terms, metric, state.best) {
        next.best = metric;
        next.num_bad = 0;
    } else {
        next.num_bad = next.num_bad.saturating_add(1);
    }
    if next.num_bad > terms.patience {
        next.cooldown = terms.cooldown;
        next.num_bad = 0;
        let reduced = (state.lr * terms.factor).max(terms.min_lr);
        if state.lr - reduced > terms.epsilon {
            next.lr = reduced;
        }
    }
    next
}

fn is_better(terms: &Terms, metric: f64, best: f64) -> bool {
    let margin = if terms.threshold_is_absolute { terms.threshold } else { best * terms.threshold };
    if terms.maximize_metric { metric > best + margin } else { metric < best - margin }
}
