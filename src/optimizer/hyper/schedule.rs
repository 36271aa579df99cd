//! The schedule of the learning rate, if there is one.
#![forbid(unsafe_code)]

use crate::error::Error;
use crate::optimizer::Optimizer;
use crate::schedule::{Advance, Schedule, State};

impl Optimizer {
    /// Sets or removes the schedule; without one, the learning rate stays what it is.
    pub fn set_schedule(&mut self, schedule: Option<Schedule>) -> Result<(), Error> {
        if schedule.is_some() {
            self.check_lr_is_free()?;
        }
        if let Some(schedule) = &schedule {
            self.lr = schedule.state().lr;
        }
        self.schedule = schedule;
        Ok(())
    }

    /// How far the schedule has come.
    pub fn schedule_state(&self) -> Result<State, Error> {
        self.schedule.as_ref().map(Schedule::state).ok_or(Error::NoSchedule)
    }

    /// Puts the schedule where a saved one had come.
    pub fn set_schedule_state(&mut self, state: State) -> Result<(), Error> {
        let schedule = self.schedule.as_mut().ok_or(Error::NoSchedule)?;
        schedule.set_state(state)?;
        self.lr = state.lr;
        Ok(())
    }

    /// Puts the schedule where it is after so many advances.
    pub fn set_schedule_index(&mut self, index: u64) -> Result<(), Error> {
        let schedule = self.schedule.as_ref().ok_or(Error::NoSchedule)?;
        if schedule.goes_by_metrics() {
            return Err(Error::Schedule(
                "goes by metrics, not by an index: adamw_set_schedule_state puts it anywhere",
            ));
        }
        let state = schedule.at(index)?;
        self.go_to(state);
        Ok(())
    }

    /// Takes a schedule that the host advances one further.
    pub fn advance_schedule(&mut self, metric: Option<f64>) -> Result<(), Error> {
        let schedule = self.schedule.as_ref().ok_or(Error::NoSchedule)?;
        let goes_by_it = metric.is_some() && schedule.goes_by_metrics();
        if schedule.advances() == Advance::OnStep && !goes_by_it {
            return Err(Error::Schedule(
                "advances with every step, not by a call: ADAMW_ADVANCE_MANUALLY waits for calls",
            ));
        }
        let state = match metric {
            Some(metric) => schedule.next_with_metric(metric)?,
            None => schedule.next()?,
        };
        self.go_to(state);
        Ok(())
    }

    /// Moves the schedule to a state that it gave itself.
    pub(in crate::optimizer) fn go_to(&mut self, state: State) {
        if let Some(schedule) = &mut self.schedule {
            schedule.go_to(state);
            self.lr = state.lr;
        }
    }

    /// Where a schedule that advances with every step will be after this one.
    pub(in crate::optimizer) fn next_scheduled(&self) -> Result<Option<State>, Error> {
        match &self.schedule {
            Some(schedule) if schedule.advances() == Advance::OnStep => schedule.next().map(Some),
            _ => Ok(None),
        }
    }
}
