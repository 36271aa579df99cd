//! The schedule of the handle's learning rate, if there is one.
#![forbid(unsafe_code)]

use crate::error::Error;
use crate::optimizer::Optimizer;
use crate::schedule::{Advance, Schedule, State};

impl Optimizer {
    /// Sets or removes the schedule. Without one, the learning rate stays what it is.
    pub fn set_schedule(&mut self, schedule: Option<Schedule>) -> Result<(), Error> {
        self.check_schedule_may_change()?;
        match &schedule {
            Some(schedule) => {
                self.check_lr_is_free()?;
                self.lr = schedule.state().lr;
            }
            None => self.learn_schedule()?,
        }
        self.schedule = schedule;
        self.replace_schedule();
        Ok(())
    }

    /// Returns the state of the schedule. Waits for the device if only the device knows it.
    pub fn schedule_state(&mut self) -> Result<State, Error> {
        self.learn_schedule()?;
        self.schedule.as_ref().map(Schedule::state).ok_or(Error::NoSchedule)
    }

    /// Sets the state of the schedule to one that was saved.
    pub fn set_schedule_state(&mut self, state: State) -> Result<(), Error> {
        if self.schedule.is_none() {
            return Err(Error::NoSchedule);
        }
        state.validate()?;
        self.check_schedule_may_change()?;
        self.go_to(state);
        Ok(())
    }

    /// Sets the state of the schedule to that after so many advances.
    pub fn set_schedule_index(&mut self, index: u64) -> Result<(), Error> {
        let schedule = self.schedule.as_ref().ok_or(Error::NoSchedule)?;
        if schedule.goes_by_metrics() {
            return Err(Error::Schedule(
                "goes by metrics, not by an index: adamw_set_schedule_state puts it anywhere",
            ));
        }
        let state = schedule.at(index)?;
        self.check_schedule_may_change()?;
        self.go_to(state);
        Ok(())
    }

    /// Advances a schedule that the host advances itself.
    pub fn advance_schedule(&mut self, metric: Option<f64>) -> Result<(), Error> {
        let schedule = self.schedule.as_ref().ok_or(Error::NoSchedule)?;
        let uses_metric = metric.is_some() && schedule.goes_by_metrics();
        if schedule.advances() == Advance::OnStep && !uses_metric {
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

    /// Sets the state of the schedule to one that has been found valid.
    pub(in crate::optimizer) fn go_to(&mut self, state: State) {
        if let Some(schedule) = &mut self.schedule {
            schedule.go_to(state);
            self.lr = state.lr;
            self.change_schedule();
        }
    }

    /// Returns the state of a schedule after this step, if it advances with every step.
    pub(in crate::optimizer) fn next_scheduled(&self) -> Result<Option<State>, Error> {
        match &self.schedule {
            Some(schedule) if schedule.advances() == Advance::OnStep => schedule.next().map(Some),
            _ => Ok(None),
        }
    }
}
