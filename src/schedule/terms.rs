//! The numbers of a schedule, and the values that they may have.
//!
//! `ffi/` fills `Terms` from the C struct, makes inner nodes first, and calls `Node::new`, which
//! puts defaults in place of zeros that would mean nothing. `with_lr` puts the handle's learning
//! rate in place of one that was not given. `Schedule::new` calls `validate`, which matches the
//! kind and checks the numbers that the kind uses, and no others; the functions below it check what
//! several kinds share.
//!
//! `Kind` and `CyclicMode` number the kinds as the C interface does.
#![forbid(unsafe_code)]

use crate::callback::ScheduleFunction;
use crate::choice::choice;
use crate::config::{check, not_negative};
use crate::error::Error;

choice! {
    /// The formula. The first seventeen are Paddle's (`paddle.optimizer.lr`).
    pub enum Kind: "an ADAMW_SCHEDULE constant, 1 to 24" {
        Noam = 1, "Noam";
        Piecewise = 2, "Piecewise";
        NaturalExp = 3, "NaturalExp";
        InverseTime = 4, "InverseTime";
        Polynomial = 5, "Polynomial";
        LinearWarmup = 6, "LinearWarmup";
        Exponential = 7, "Exponential";
        MultiStep = 8, "MultiStep";
        Step = 9, "Step";
        Lambda = 10, "Lambda";
        ReduceOnPlateau = 11, "ReduceOnPlateau";
        CosineAnnealing = 12, "CosineAnnealing";
        Multiplicative = 13, "Multiplicative";
        OneCycle = 14, "OneCycle";
        Cyclic = 15, "Cyclic";
        Linear = 16, "Linear";
        CosineWarmRestarts = 17, "CosineWarmRestarts";
        ConstantWithWarmup = 18, "ConstantWithWarmup";
        LinearWithWarmup = 19, "LinearWithWarmup";
        CosineWithWarmup = 20, "CosineWithWarmup";
        InverseSqrt = 21, "InverseSqrt";
        WarmupStableDecay = 22, "WarmupStableDecay";
        Chain = 23, "Chain";
        Function = 24, "Function";
    }
}

choice! {
    /// The change of a cycle's height from cycle to cycle.
    pub enum CyclicMode: "an ADAMW_CYCLIC constant, 0 to 2" {
        Triangular = 0, "Triangular";
        Triangular2 = 1, "Triangular2";
        ExpRange = 2, "ExpRange";
    }
}

/// The numbers of a schedule, under the names that the C struct has. Each kind uses some of them.
#[derive(Clone, Copy)]
pub struct Terms {
    pub kind: Kind,
    pub lr: f64,
    pub start_lr: f64,
    pub end_lr: f64,
    pub min_lr: f64,
    pub max_lr: f64,
    pub gamma: f64,
    pub power: f64,
    pub factor: f64,
    pub start_factor: f64,
    pub end_factor: f64,
    pub divide_factor: f64,
    pub phase_fraction: f64,
    pub threshold: f64,
    pub epsilon: f64,
    pub d_model: u64,
    pub warmup_steps: u64,
    pub total_steps: u64,
    pub decay_steps: u64,
    pub period: u64,
    pub period_factor: u64,
    pub steps_up: u64,
    pub steps_down: u64,
    pub patience: u32,
    pub cooldown: u32,
    pub cyclic_mode: CyclicMode,
    pub cycle: bool,
    pub linear_anneal: bool,
    pub three_phase: bool,
    pub maximize_metric: bool,
    pub threshold_is_absolute: bool,
}

/// A schedule, with the arrays, the inner schedules and the function that it needs.
pub struct Node {
    pub(super) terms: Terms,
    pub(super) boundaries: Vec<u64>,
    pub(super) values: Vec<f64>,
    pub(super) parts: Vec<Node>,
    pub(super) function: Option<ScheduleFunction>,
}

impl Node {
    /// Returns a node, with defaults in place of zeros where 0 itself would mean nothing.
    pub fn new(
        mut terms: Terms,
        boundaries: Vec<u64>,
        values: Vec<f64>,
        parts: Vec<Node>,
        function: Option<ScheduleFunction>,
    ) -> Node {
        let gamma = if matches!(terms.kind, Kind::Step | Kind::MultiStep) { 0.1 } else { 0.0 };
        let lr = if terms.kind == Kind::Noam { 1.0 } else { 0.0 };
        for (value, default) in [
            (&mut terms.lr, lr),
            (&mut terms.gamma, gamma),
            (&mut terms.power, 1.0),
            (&mut terms.factor, 0.1),
            (&mut terms.start_factor, 1.0 / 3.0),
            (&mut terms.divide_factor, 25.0),
            (&mut terms.phase_fraction, 0.3),
        ] {
            if *value == 0.0 {
                *value = default;
            }
        }
        if terms.steps_down == 0 {
            terms.steps_down = terms.steps_up;
        }
        terms.period_factor = terms.period_factor.max(1);
        Node { terms, boundaries, values, parts, function }
    }

    /// Replaces a learning rate of 0 by `lr`, in all nodes that use it.
    pub fn with_lr(mut self, lr: f64) -> Node {
        // Cyclic may start from 0; the others do not use the number.
        let has_none = match self.kind() {
            Kind::Piecewise | Kind::OneCycle | Kind::Cyclic | Kind::Chain | Kind::Function => true,
            Kind::LinearWarmup => !self.parts.is_empty(),
            _ => false,
        };
        if self.terms.lr == 0.0 && !has_none {
            self.terms.lr = lr;
        }
        self.parts = self.parts.into_iter().map(|part| part.with_lr(lr)).collect();
        self
    }

    pub fn kind(&self) -> Kind {
        self.terms.kind
    }

    /// Returns whether metrics decide the learning rate from this index on.
    pub fn is_past_warmup(&self, index: u64) -> bool {
        self.kind() == Kind::ReduceOnPlateau && index >= self.terms.warmup_steps
    }

    pub fn terms(&self) -> &Terms {
        &self.terms
    }

    /// Checks that every number that the kind uses has a value that it may have.
    pub fn validate(&self) -> Result<(), Error> {
        let t = &self.terms;
        match t.kind {
            Kind::Noam => {
                not_negative("schedule.lr", t.lr)?;
                steps("schedule.d_model", t.d_model)?;
                steps("schedule.warmup_steps", t.warmup_steps)
            }
            Kind::Piecewise => {
                self.boundaries_increase()?;
                count("schedule.n_values", self.values.len(), self.boundaries.len() + 1)?;
                self.values
                    .iter()
                    .try_for_each(|&value| not_negative("an entry of schedule.values", value))
            }
            Kind::NaturalExp | Kind::InverseTime => {
                not_negative("schedule.lr", t.lr)?;
                positive("schedule.gamma", t.gamma)
            }
            Kind::Polynomial => {
                not_negative("schedule.lr", t.lr)?;
                not_negative("schedule.end_lr", t.end_lr)?;
                positive("schedule.power", t.power)?;
                steps("schedule.total_steps", t.total_steps)
            }
            Kind::LinearWarmup => {
                not_negative("schedule.lr", t.lr)?;
                not_negative("schedule.start_lr", t.start_lr)?;
                not_negative("schedule.end_lr", t.end_lr)?;
                steps("schedule.warmup_steps", t.warmup_steps)?;
                let rises = t.end_lr > t.start_lr;
                check("schedule.end_lr", t.end_lr, rises, "more than schedule.start_lr")?;
                if self.parts.len() > 1 {
                    count("schedule.n_schedules", self.parts.len(), 1)?;
                }
                self.parts_are_valid()
            }
            Kind::Exponential | Kind::MultiStep | Kind::Step => {
                not_negative("schedule.lr", t.lr)?;
                check("schedule.gamma", t.gamma, t.gamma > 0.0 && t.gamma < 1.0, "0 < gamma < 1")?;
                match t.kind {
                    Kind::MultiStep => self.boundaries_increase(),
                    Kind::Step => steps("schedule.period", t.period),
                    _ => Ok(()),
                }
            }
            Kind::Lambda | Kind::Multiplicative => {
                not_negative("schedule.lr", t.lr)?;
                self.function_is_there()
            }
            Kind::Function => self.function_is_there(),
            Kind::ReduceOnPlateau => {
                self.warmup()?;
                not_negative("schedule.min_lr", t.min_lr)?;
                check(
                    "schedule.factor",
                    t.factor,
                    t.factor > 0.0 && t.factor < 1.0,
                    "0 < factor < 1",
                )?;
                not_negative("schedule.threshold", t.threshold)?;
                not_negative("schedule.epsilon", t.epsilon)
            }
            Kind::CosineAnnealing | Kind::CosineWarmRestarts => {
                not_negative("schedule.lr", t.lr)?;
                not_negative("schedule.min_lr", t.min_lr)?;
                steps("schedule.period", t.period)
            }
            Kind::OneCycle => {
                not_negative("schedule.max_lr", t.max_lr)?;
                not_negative("schedule.end_lr", t.end_lr)?;
                positive("schedule.divide_factor", t.divide_factor)?;
                steps("schedule.total_steps", t.total_steps)?;
                let (fraction, three) = (t.phase_fraction, t.three_phase);
                let ok = fraction > 0.0 && if three { fraction < 0.5 } else { fraction <= 1.0 };
                let expected = "above 0 and at most 1 (with three_phase: below 0.5)";
                check("schedule.phase_fraction", fraction, ok, expected)?;
                let rise = fraction * t.total_steps as f64;
                check("schedule.phase_fraction * total_steps", rise, rise > 1.0, "more than 1")
            }
            Kind::Cyclic => {
                not_negative("schedule.lr", t.lr)?;
                not_negative("schedule.max_lr", t.max_lr)?;
                steps("schedule.steps_up", t.steps_up)?;
                steps("schedule.steps_down", t.steps_down)?;
                match t.cyclic_mode {
                    CyclicMode::ExpRange => positive("schedule.gamma", t.gamma),
                    _ => Ok(()),
                }
            }
            Kind::Linear => {
                not_negative("schedule.lr", t.lr)?;
                steps("schedule.total_steps", t.total_steps)?;
                let fraction = |x: f64| (0.0..=1.0).contains(&x);
                check("schedule.start_factor", t.start_factor, fraction(t.start_factor), "0 to 1")?;
                check("schedule.end_factor", t.end_factor, fraction(t.end_factor), "0 to 1")
            }
            Kind::ConstantWithWarmup => self.warmup(),
            Kind::LinearWithWarmup | Kind::CosineWithWarmup => {
                self.warmup()?;
                self.decays_after(t.warmup_steps, "more than schedule.warmup_steps")
            }
            Kind::InverseSqrt => {
                self.warmup()?;
                steps("schedule.warmup_steps", t.warmup_steps)
            }
            Kind::WarmupStableDecay => {
                self.warmup()?;
                steps("schedule.decay_steps", t.decay_steps)?;
                let before = t.warmup_steps.saturating_add(t.decay_steps).saturating_sub(1);
                self.decays_after(before, "at least schedule.warmup_steps + decay_steps")
            }
            Kind::Chain => {
                self.boundaries_increase()?;
                count("schedule.n_schedules", self.parts.len(), self.boundaries.len() + 1)?;
                self.parts_are_valid()
            }
        }
    }

    fn warmup(&self) -> Result<(), Error> {
        not_negative("schedule.lr", self.terms.lr)?;
        not_negative("schedule.start_lr", self.terms.start_lr)?;
        if self.terms.warmup_steps == 0 {
            Ok(())
        } else {
            steps("schedule.warmup_steps", self.terms.warmup_steps)
        }
    }

    fn decays_after(&self, before: u64, expected: &'static str) -> Result<(), Error> {
        let t = &self.terms;
        not_negative("schedule.min_lr", t.min_lr)?;
        steps("schedule.total_steps", t.total_steps)?;
        check("schedule.total_steps", t.total_steps as f64, t.total_steps > before, expected)
    }

    fn boundaries_increase(&self) -> Result<(), Error> {
        if self.boundaries.is_empty() {
            return Err(Error::Number {
                name: "schedule.n_boundaries",
                value: 0.0,
                expected: "at least 1",
            });
        }
        let mut last = 0;
        for &boundary in &self.boundaries {
            let expected = "more than 0 and than the one before";
            check("an entry of schedule.boundaries", boundary as f64, boundary > last, expected)?;
            last = boundary;
        }
        Ok(())
    }

    fn parts_are_valid(&self) -> Result<(), Error> {
        for part in &self.parts {
            if part.kind() == Kind::ReduceOnPlateau {
                return Err(Error::Schedule(
                    "has REDUCE_ON_PLATEAU inside it, which goes by metrics: set it by itself, \
                     with warmup_steps",
                ));
            }
            part.validate()?;
        }
        Ok(())
    }

    fn function_is_there(&self) -> Result<(), Error> {
        self.function.map(drop).ok_or(Error::Null("schedule.function"))
    }
}

/// The largest number of steps, up to which f64 has every whole number.
const MOST_STEPS: u64 = 1 << 53;

fn steps(name: &'static str, value: u64) -> Result<(), Error> {
    check(name, value as f64, (1..=MOST_STEPS).contains(&value), "1 to 2^53")
}

fn positive(name: &'static str, value: f64) -> Result<(), Error> {
    check(name, value, value.is_finite() && value > 0.0, "a finite number > 0")
}

fn count(name: &'static str, count: usize, wanted: usize) -> Result<(), Error> {
    if count == wanted { Ok(()) } else { Err(Error::Count { name, count, wanted }) }
}
