//! Whether checkpoints are those of a handle like this.
#![forbid(unsafe_code)]

use super::super::settings::{read_scaler_state, read_schedule_state, write_group};
use super::{Numbers, Optimizer};
use crate::checkpoint::{Checkpoint, Text, words};
use crate::config;
use crate::error::{Error, FileProblem, Label, Names};
use core::fmt::{Display, Write};

/// Texts that say how far a handle has come; parts of one checkpoint have the same.
const HOW_FAR: [&str; 3] = ["state", "schedule_state", "scaler_state"];

impl Optimizer {
    /// That the handle was made as the one that was saved, and is used with the same values.
    pub(super) fn check_settings(&self, files: &[Checkpoint]) -> Result<(), Error> {
        let mut names = Names::NONE;
        let (mut text, mut digits) = (Text::default(), Text::default());
        for file in files {
            let ours = text.set(|text| self.write_config(text))?;
            differ(&mut names, "optimizer", ours, file.text(&["optimizer"])?);
            for (number, group) in self.groups.iter().enumerate() {
                let number = digits.set(|text| write!(text, "{number}"))?;
                let Some(theirs) = file.header().text(&["groups.", number]) else {
                    names.add(format_args!("groups.{number} (the checkpoint lacks it)"));
                    continue;
                };
                let ours = text.set(|text| write_group(text, group))?;
                differ(&mut names, format_args!("groups.{number}"), ours, theirs);
            }
            let next = digits.set(|text| write!(text, "{}", self.groups.len()))?;
            if file.header().text(&["groups.", next]).is_some() {
                names.add(format_args!("groups.{next} (the handle lacks it)"));
            }
            let ours = match &self.schedule {
                Some(schedule) => text.set(|text| schedule.write_words(text))?,
                None => "",
            };
            differ(
                &mut names,
                "schedule",
                ours,
                file.header().text(&["schedule"]).unwrap_or_default(),
            );
            let ours = match &self.scaler {
                Some(scaler) => text.set(|text| scaler.write_words(text))?,
                None => "",
            };
            differ(&mut names, "scaler", ours, file.header().text(&["scaler"]).unwrap_or_default());
        }
        if names.is_empty() {
            return Ok(());
        }
        let what = "the handle has other settings than the checkpoint";
        Err(Error::Mismatch { what, names })
    }

    /// What the checkpoints say about the handle as a whole.
    pub(super) fn check_numbers_of(&self, files: &[Checkpoint]) -> Result<Numbers, Error> {
        let Some(first) = files.first() else { return Err(Error::Null("sources")) };
        let mut names = Names::NONE;
        for file in &files[1..] {
            for key in HOW_FAR {
                let (a, b) = (first.header().text(&[key]), file.header().text(&[key]));
                differ(&mut names, key, a.unwrap_or_default(), b.unwrap_or_default());
            }
        }
        if !names.is_empty() {
            let what = "the checkpoints are not parts of one";
            return Err(Error::Mismatch { what, names });
        }
        let broken = |key: &str| first.problem(FileProblem::Text(Label::new(key.as_bytes())));
        let state = first.text(&["state"])?;
        let (Some(lr), Some(grad_scale)) =
            (words::number(state, "lr"), words::number(state, "grad_scale"))
        else {
            return Err(broken("state"));
        };
        config::learning_rate(lr).map_err(|_| broken("state"))?;
        config::loss_scale("grad_scale", grad_scale).map_err(|_| broken("state"))?;
        let schedule = match &self.schedule {
            None => None,
            Some(_) => {
                let state = read_schedule_state(first.text(&["schedule_state"])?);
                Some(
                    state
                        .filter(|s| s.validate().is_ok())
                        .ok_or_else(|| broken("schedule_state"))?,
                )
            }
        };
        let scaler = match &self.scaler {
            None => None,
            Some(_) => {
                let state = read_scaler_state(first.text(&["scaler_state"])?);
                Some(state.filter(|s| s.validate().is_ok()).ok_or_else(|| broken("scaler_state"))?)
            }
        };
        Ok(Numbers { lr, grad_scale, schedule, scaler })
    }
}

/// Lists the names of words that differ, each once.
pub fn differ(names: &mut Names, what: impl Display, ours: &str, theirs: &str) {
    for name in words::differences(ours, theirs) {
        names.add(format_args!("{what}.{name}"));
    }
}
