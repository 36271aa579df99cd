//! Comparison of checkpoints with the settings of the handle.
#![forbid(unsafe_code)]

use super::problems::Problems;
use super::{LoadOptions, Numbers, Optimizer};
use crate::checkpoint::words::{self, value};
use crate::checkpoint::{Checkpoint, Text};
use crate::config;
use crate::error::{Difference, Error, FileProblem, Label};
use crate::optimizer::saved::settings::{read_scaler_state, read_schedule_state, write_group};
use crate::schedule;
use core::fmt::Write;

/// The differences that are no problem to a load that extends.
const EXTENDS: [words::Word; 2] =
    [("amsgrad", Some("1"), Some("0")), ("multi_precision", Some("1"), Some("0"))];

impl Optimizer {
    /// Compares the settings of the handle with those that were saved, and adds the differences to
    /// the problems.
    pub(super) fn check_settings(
        &self,
        file: &Checkpoint,
        options: &LoadOptions,
        problems: &mut Problems,
    ) -> Result<(), Error> {
        let what = Difference::Settings;
        let (mut text, mut digits) = (Text::default(), Text::default());
        let ours = text.set(|text| self.write_config(text))?;
        let their_config = file.text(&["optimizer"])?;
        problems.differ_unless(what, "optimizer", ours, their_config, |word| {
            options.extend && EXTENDS.contains(word)
        });
        for (number, group) in self.groups.iter().enumerate() {
            let number = digits.set(|text| write!(text, "{number}"))?;
            let theirs = file.header().text(&["groups.", number]).unwrap_or_default();
            let ours = text.set(|text| write_group(text, group, &self.config))?;
            // A group has the handle's amsgrad where it says nothing else.
            let had_amsgrad = [theirs, their_config].iter().find_map(|text| value(text, "amsgrad"));
            let extends = group.amsgrad || had_amsgrad == Some("0");
            let of = format_args!("groups.{number}");
            problems.differ_unless(what, of, ours, theirs, |(name, ..)| {
                options.extend && *name == "amsgrad" && extends
            });
        }
        let next = digits.set(|text| write!(text, "{}", self.groups.len()))?;
        if file.header().text(&["groups.", next]).is_some() {
            problems.add(what, format_args!("groups.{next} (the handle has none)"));
        }
        let ours = match &self.schedule {
            Some(schedule) => text.set(|text| schedule.write_words(text))?,
            None => "",
        };
        let theirs = file.header().text(&["schedule"]).unwrap_or_default();
        if !options.keep_schedule {
            problems.differ(Difference::Schedule, "schedule", ours, theirs);
        }
        let ours = match &self.scaler {
            Some(scaler) => text.set(|text| scaler.write_words(text))?,
            None => "",
        };
        problems.differ(what, "scaler", ours, file.header().text(&["scaler"]).unwrap_or_default());
        Ok(())
    }

    /// Returns what a checkpoint says about the handle as a whole. Its settings have been compared.
    pub(super) fn numbers_of(
        &self,
        file: &Checkpoint,
        options: &LoadOptions,
    ) -> Result<Numbers, Error> {
        let broken = |key: &str| file.problem(FileProblem::Text(Label::new(key.as_bytes())));
        let state = file.text(&["state"])?;
        let (Some(lr), Some(grad_scale)) =
            (words::number(state, "lr"), words::number(state, "grad_scale"))
        else {
            return Err(broken("state"));
        };
        config::learning_rate(lr).map_err(|_| broken("state"))?;
        config::loss_scale("grad_scale", grad_scale).map_err(|_| broken("state"))?;
        let is_saved = file.header().text(&["schedule_state"]).is_some();
        let schedule = match &self.schedule {
            None => None,
            Some(_) if options.keep_schedule && !is_saved => None,
            Some(schedule) => {
                let state = read_schedule_state(file.text(&["schedule_state"])?);
                let state = state.filter(|state| state.validate().is_ok());
                let saved = state.ok_or_else(|| broken("schedule_state"))?;
                Some(if options.keep_schedule { schedule.at(saved.index)? } else { saved })
            }
        };
        let scaler = match &self.scaler {
            None => None,
            Some(_) => {
                let state = read_scaler_state(file.text(&["scaler_state"])?);
                let state = state.filter(|state| state.validate().is_ok());
                Some(state.ok_or_else(|| broken("scaler_state"))?)
            }
        };
        let lr = (!options.keep_schedule).then_some(lr);
        Ok(Numbers { lr, grad_scale, schedule, scaler })
    }
}

impl Numbers {
    /// Compares what parts of one checkpoint have in common, and adds the differences to the
    /// problems.
    pub(super) fn check_parts(&self, other: &Numbers, problems: &mut Problems) {
        let schedule = |numbers: &Numbers| {
            let bits = |s: schedule::State| {
                (s.index, s.lr.to_bits(), s.best.to_bits(), s.num_bad, s.cooldown)
            };
            numbers.schedule.map(bits)
        };
        for (name, is_same) in [
            ("state.lr", self.lr == other.lr),
            ("state.grad_scale", self.grad_scale == other.grad_scale),
            ("schedule_state", schedule(self) == schedule(other)),
            ("scaler_state", self.scaler == other.scaler),
        ] {
            if !is_same {
                problems.add(Difference::Parts, name);
            }
        }
    }
}
