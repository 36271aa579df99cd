//! Schedules as words: two schedules with the same words go through the same learning rates from
//! the same state, except for functions of the host.
#![forbid(unsafe_code)]

use super::{Kind, Node, Schedule};
use core::fmt::{self, Display, Write};

impl Schedule {
    pub fn write_words(&self, to: &mut impl Write) -> fmt::Result {
        write!(to, "advance={}", self.advance.word())?;
        self.node.write_words(to, &"")
    }
}

impl Node {
    /// Writes the words of a node. `prefix` tells them from those of other nodes. A number that is
    /// 0 has no word.
    fn write_words(&self, to: &mut impl Write, prefix: &dyn Display) -> fmt::Result {
        let t = &self.terms;
        write!(to, " {prefix}kind={}", t.kind.word())?;
        for (name, value) in [
            ("lr", t.lr),
            ("start_lr", t.start_lr),
            ("end_lr", t.end_lr),
            ("min_lr", t.min_lr),
            ("max_lr", t.max_lr),
            ("gamma", t.gamma),
            ("power", t.power),
            ("factor", t.factor),
            ("start_factor", t.start_factor),
            ("end_factor", t.end_factor),
            ("divide_factor", t.divide_factor),
            ("phase_fraction", t.phase_fraction),
            ("threshold", t.threshold),
            ("epsilon", t.epsilon),
        ] {
            if value.to_bits() != 0 {
                write!(to, " {prefix}{name}={value:?}")?;
            }
        }
        for (name, value) in [
            ("d_model", t.d_model),
            ("warmup_steps", t.warmup_steps),
            ("total_steps", t.total_steps),
            ("decay_steps", t.decay_steps),
            ("period", t.period),
            ("period_factor", t.period_factor),
            ("steps_up", t.steps_up),
            ("steps_down", t.steps_down),
            ("patience", t.patience.into()),
            ("cooldown", t.cooldown.into()),
            ("cycle", t.cycle.into()),
            ("linear_anneal", t.linear_anneal.into()),
            ("three_phase", t.three_phase.into()),
            ("maximize_metric", t.maximize_metric.into()),
            ("threshold_is_absolute", t.threshold_is_absolute.into()),
        ] {
            if value != 0 {
                write!(to, " {prefix}{name}={value}")?;
            }
        }
        if t.kind == Kind::Cyclic {
            write!(to, " {prefix}cyclic_mode={}", t.cyclic_mode.word())?;
        }
        for (i, boundary) in self.boundaries.iter().enumerate() {
            write!(to, " {prefix}boundaries.{i}={boundary}")?;
        }
        for (i, value) in self.values.iter().enumerate() {
            write!(to, " {prefix}values.{i}={value:?}")?;
        }
        self.parts
            .iter()
            .enumerate()
            .try_for_each(|(i, part)| part.write_words(to, &format_args!("{prefix}schedules.{i}.")))
    }
}
