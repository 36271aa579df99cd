//! The schedule of the learning rate where captured steps follow it.
//!
//! A graph asks nobody, so that `adamw_prepare` gives the device the learning rates of the coming
//! steps (`prepare_schedule`). Each launch takes the next one. `learn_schedule` reads back how far
//! the device has come, and `change_schedule` has it follow wherever the host puts the schedule.
#![forbid(unsafe_code)]

use crate::cuda::MOST_RATES;
use crate::error::Error;
use crate::optimizer::Optimizer;
use crate::optimizer::device::DeviceStep;
use crate::schedule::{Schedule, State};
use crate::sys::memory::reserve;

/// What the host knows of the learning rates on the device.
#[derive(Default)]
pub struct Timetable {
    /// Those on the device, and the one after the last of them; empty if there are none.
    rates: Vec<f64>,
    /// The index of the schedule at the first.
    first: u64,
    /// A captured step follows the schedule.
    pub is_followed: bool,
    /// The device has the schedule where the host has it, or is further.
    pub is_set: bool,
}

impl Timetable {
    /// Returns the place of a state of the schedule among the learning rates on the device.
    fn place(&self, state: &State) -> Option<u64> {
        let place = state.index.checked_sub(self.first)?;
        let is_one = (place as usize) < self.rates.len().saturating_sub(1);
        (is_one && self.rates[place as usize].to_bits() == state.lr.to_bits()).then_some(place)
    }
}

impl Optimizer {
    /// Has the device know the learning rates of the coming steps, if they can be foreseen and no
    /// other is read there.
    pub(in crate::optimizer) fn prepare_schedule(&mut self) -> Result<(), Error> {
        let is_foreseen = self.schedule.as_ref().is_some_and(Schedule::is_foreseen);
        if !is_foreseen || self.on_device.inputs.lr != 0 || self.backend.cuda().is_none() {
            return Ok(());
        }
        self.learn_schedule()?;
        self.cuda()?.reserve_timetable()?;
        let rates = &mut self.on_device.timetable.rates;
        let missing = (MOST_RATES + 1).saturating_sub(rates.len());
        reserve(rates, missing, "the learning rates of coming steps")?;
        self.upload_rates()
    }

    /// Learns where the schedule is, if the device alone knows it. Waits for the device.
    pub(in crate::optimizer) fn learn_schedule(&mut self) -> Result<(), Error> {
        let Timetable { is_followed, is_set, ref rates, first } = self.on_device.timetable;
        if !is_followed || !is_set || rates.is_empty() {
            return Ok(());
        }
        let next = self.cuda()?.read_timetable()?.next;
        let lr = self.on_device.timetable.rates[next as usize];
        if let Some(schedule) = &mut self.schedule {
            schedule.go_to(State { index: first + next, lr, ..schedule.state() });
            self.lr = lr;
        }
        Ok(())
    }

    /// Learns where the schedule is before a step, unless that is captured.
    pub(in crate::optimizer) fn learn_schedule_for_step(&mut self) -> Result<(), Error> {
        if self.on_device.timetable.is_followed && !self.cuda()?.is_capturing()? {
            self.learn_schedule()?;
        }
        Ok(())
    }

    /// Checks that the schedule may change: a graph would follow it.
    pub(in crate::optimizer) fn check_schedule_may_change(&mut self) -> Result<(), Error> {
        if self.on_device.timetable.is_followed && self.cuda()?.is_capturing()? {
            return Err(Error::Capturing("a change of a schedule that a graph follows"));
        }
        Ok(())
    }

    /// Has the device follow the schedule, which the host has put elsewhere: now, if a graph may be
    /// launched before the next step.
    pub(in crate::optimizer) fn change_schedule(&mut self) {
        self.on_device.timetable.is_set = false;
        if self.on_device.timetable.is_followed {
            let _ = self.push_schedule();
        }
    }

    /// Has the device follow the schedule, which is now another one, or none.
    pub(in crate::optimizer) fn replace_schedule(&mut self) {
        self.on_device.timetable.rates.clear();
        self.change_schedule();
    }

    /// Sets the state of the schedule after a step that has been taken. One that is captured has
    /// not been taken yet, and advances there.
    pub(in crate::optimizer) fn go_on(&mut self, state: State, step: Option<&DeviceStep>) {
        if !step.is_some_and(|step| step.follows) {
            self.go_to(state);
        }
    }

    fn push_schedule(&mut self) -> Result<(), Error> {
        let state = self.schedule.as_ref().map(Schedule::state);
        match state.and_then(|state| self.on_device.timetable.place(&state)) {
            Some(place) => {
                self.cuda()?.set_next_rate(place)?;
                self.on_device.timetable.is_set = true;
                Ok(())
            }
            None => self.upload_rates(),
        }
    }

    /// Uploads the learning rates from where the schedule is; none if they cannot be foreseen.
    fn upload_rates(&mut self) -> Result<(), Error> {
        let timetable = &mut self.on_device.timetable;
        timetable.rates.clear();
        timetable.is_set = false;
        if let Some(schedule) = self.schedule.as_ref().filter(|schedule| schedule.is_foreseen()) {
            timetable.first = schedule.state().index;
            schedule.foresee(MOST_RATES + 1, &mut timetable.rates);
        }
        let cuda = self.backend.cuda().ok_or(Error::NoDeviceYet)?;
        cuda.set_timetable(&timetable.rates[..timetable.rates.len().saturating_sub(1)])?;
        timetable.is_set = true;
        Ok(())
    }

    /// Returns an error if launches have found no learning rate since this was last asked. Waits
    /// for the device.
    pub(in crate::optimizer) fn check_missed_rates(&mut self) -> Result<(), Error> {
        if !self.on_device.timetable.is_followed {
            return Ok(());
        }
        let cuda = self.cuda()?;
        let missed = cuda.read_timetable()?.missed;
        if missed == 0 {
            return Ok(());
        }
        cuda.forget_missed()?;
        Err(Error::NoRatesLeft(missed))
    }
}
