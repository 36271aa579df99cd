//! Calls that give the learning rate to a schedule, and have it go on.

use crate::call::Call;
use crate::common::handle;
use crate::common::model::Schedule;
use crate::functions;
use crate::world::World;
use adamw::ffi::*;

/// How many learning rates of a schedule the model knows: more than a sequence has steps.
const N_LRS: usize = 300;

impl World {
    pub fn change_schedule(&mut self, call: &Call) -> bool {
        match call {
            Call::SetSchedule(number) => self.set_schedule(*number),
            Call::SetIndex(index) => {
                let is_good = self.model.schedule.is_some();
                let set = self.tell(is_good, |side| side.handle.set_schedule_index(*index));
                if let (Some(()), Some(schedule)) = (set, &mut self.model.schedule) {
                    schedule.index = *index as usize;
                }
            }
            Call::Advance => {
                let is_good = self.model.schedule.as_ref().is_some_and(|schedule| schedule.manual);
                let set = self.tell(is_good, |side| side.handle.advance_schedule());
                if let (Some(()), Some(schedule)) = (set, &mut self.model.schedule) {
                    schedule.index += 1;
                }
            }
            _ => return false,
        }
        true
    }

    fn set_schedule(&mut self, number: u8) {
        let Some(schedule) = functions::schedule(number) else {
            self.tell(true, |side| {
                side.handle.remove_schedule();
                Ok(())
            });
            self.model.lr = self.model.lr();
            (self.model.schedule, self.schedule) = (None, None);
            return;
        };
        self.twin.read_lr_there(false);
        let is_good = self.model.config.lr_ptr.is_null();
        if self.tell(is_good, |side| side.handle.set_schedule(&schedule)).is_none() {
            return;
        }
        let lr = if schedule.lr == 0.0 { self.model.given_lr } else { schedule.lr };
        let schedule = adamw_schedule { lr, ..schedule };
        let lrs = match lr {
            0.0 => vec![0.0; N_LRS],
            _ => handle::schedule_trace(&schedule, N_LRS).unwrap(),
        };
        self.schedule = Some(schedule);
        let manual = schedule.advance == ADAMW_ADVANCE_MANUALLY;
        self.model.schedule = Some(Schedule { lrs, index: 0, manual });
    }
}
