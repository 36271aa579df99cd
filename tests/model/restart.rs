//! A run that ends and goes on in new handles, which load what it has saved.

use crate::call::Call;
use crate::common::array::{Array, Dtype};
use crate::common::checkpoint::load_options;
use crate::common::handle::Param;
use crate::common::model::param::Format;
use crate::common::random::Random;
use crate::given::Given;
use crate::more::More;
use crate::side::Side;
use crate::world::World;
use crate::written::Written;
use adamw::ffi::*;

impl World {
    pub fn restart(&mut self, call: &Call) -> bool {
        let Call::Restart { amsgrad, multi_precision, params, formats, place, given } = call else {
            return false;
        };
        let are_read = self.model.groups.iter().all(|group| self.model.current(group).is_some());
        if !self.model.can_save() || self.model.live().count() == 0 || !are_read {
            return true;
        }
        self.drop_graph();
        let n_named = self.n_named;
        if let Some(seed) = formats {
            self.add_what_codes_can_be_made_of(*seed, *place);
        }
        let live: Vec<usize> = self.model.live().collect();
        let saved = [&self.plain, &self.twin].map(|side| side.handle.try_saved(true).map(Written));
        assert_eq!(saved[0], saved[1], "the checkpoints differ");
        let [Ok(Written(bytes)), Ok(_)] = saved else { panic!("saved before, refused now") };
        self.plain.assert_untouched();
        self.twin.assert_untouched();
        let (convert, written) =
            self.become_new(&live, [*amsgrad, *multi_precision, *params], *formats);
        self.make_sides(*place, given, &written);
        self.saves.end();
        let options = adamw_load_options { params: (*params).into(), extend: 1, ..load_options() };
        self.counts.reloads += 1;
        if convert {
            self.tell(false, |side| side.handle.load_bytes(&bytes, &options));
        }
        let options = adamw_load_options { convert: formats.is_some().into(), ..options };
        self.tell(true, |side| side.handle.load_bytes(&bytes, &options));
        let name = format!("w{n_named}");
        if let Some(number) = self.model.params.iter().position(|param| param.name == name) {
            self.compare();
            self.remove(number as u32); // which would make all steps long
        }
        true
    }

    /// Adds a parameter that has taken steps, long enough for moments in codes.
    fn add_what_codes_can_be_made_of(&mut self, seed: u64, place: u8) {
        let n = 4100 + 12 * (seed % 20) as u16;
        let dtype = (seed >> 8) as u8;
        let given = Given::all(seed);
        self.make(&Call::AddParam { dtype, n, group: u8::MAX, place, seed, given });
    }

    /// The model is that of new handles that have loaded. What a load turns on starts from what there is.
    /// Whether the load has to convert, and by parameter whether it writes the weights.
    fn become_new(
        &mut self,
        live: &[usize],
        [amsgrad, multi_precision, params]: [bool; 3],
        formats: Option<u64>,
    ) -> (bool, Vec<bool>) {
        let model = &mut self.model;
        model.params = live.iter().map(|i| model.params[*i].clone()).collect();
        let is_half_a_byte =
            |param: &crate::common::model::Param| param.format.moments == ADAMW_MOMENTS_4BIT;
        let extends = amsgrad && !model.params.iter().any(is_half_a_byte);
        if extends {
            model.config.amsgrad = 1;
            model.groups.iter_mut().for_each(|group| group.amsgrad = 1);
            for param in model.params.iter_mut().filter(|param| !param.format.amsgrad) {
                param.format.amsgrad = true;
                param.max_exp_avg_sq = param.exp_avg_sq.clone();
            }
            self.saved = None;
        }
        let begins = multi_precision && model.config.multi_precision == 0;
        if begins {
            model.config.multi_precision = 1;
            self.saved = None;
        }
        let (mut differs, mut written) = (false, vec![params; model.params.len()]);
        let random = &mut Random::new(formats.unwrap_or_default());
        for (param, is_written) in model.params.iter_mut().zip(&mut written) {
            let mut format = param.format;
            format.multi_precision = model.config.multi_precision == 1;
            let dtype = random.one_of(&Dtype::ALL);
            format.moments = random.one_of(&[ADAMW_MOMENTS_F32, ADAMW_MOMENTS_BF16, 2, 3]);
            format.precision = random.below(4) as u32;
            match param.converted(dtype, format).filter(|_| formats.is_some()) {
                Some(new) => {
                    differs |= param.differs_in_type(&new, params);
                    *is_written |= param.is_halved(&new);
                    *param = new;
                    self.saved = None;
                }
                None if begins => param.begin_master(),
                None => {}
            }
        }
        for param in &mut model.params {
            (param.grad, param.alone) = (None, false);
        }
        (model.n_unchanged, model.config.lr) = (0, model.given_lr);
        (self.is_replayed, self.captured) = (false, Vec::new());
        (differs, written)
    }

    /// Makes new handles, tells them what the old ones were told, and destroys those.
    /// Weights that a load writes are 0 until then.
    fn make_sides(&mut self, place: u8, given: &Given, written: &[bool]) {
        for is_twin in [false, true] {
            let old = if is_twin { &self.twin } else { &self.plain };
            let config = adamw_config {
                isa: old.config.isa,
                num_threads: old.config.num_threads,
                team: old.config.team,
                ..self.model.config
            };
            let mut side = Side::new(&config, old.places, &self.numbers, is_twin).unwrap();
            self.tell_all(&mut side, place, given, written);
            let old = if is_twin { &mut self.twin } else { &mut self.plain };
            core::mem::replace(old, side).end();
        }
    }

    fn tell_all(&self, side: &mut Side, place: u8, given: &Given, written: &[bool]) {
        let model = &self.model;
        for (number, group) in (0..).zip(&model.groups) {
            match number {
                0 => side.handle.set_group(0, group).unwrap(),
                _ => assert_eq!(side.handle.try_add_group(group), Ok(number)),
            }
        }
        let filter: adamw_decay_filter =
            model.filters.then_some(crate::functions::tell_decays as _);
        side.handle.set_decay_filter(filter, &()).unwrap();
        for (number, param) in (0..).zip(&model.params) {
            // The group may have had other formats when the parameter was added.
            let group = param.options.group;
            let now = model.groups[group as usize];
            let Format { amsgrad, precision, moments, .. } = param.format;
            let then = adamw_group_config { amsgrad: amsgrad.into(), precision, moments, ..now };
            side.handle.set_group(group, &then).unwrap();
            let (state, _) = given.state(&mut param.clone());
            let array = match written[number as usize] {
                true => Array::zeros(param.dtype, param.param.len()),
                false => Array::of(param.dtype, &param.param),
            };
            let shard = param.format.shard;
            let new = Param {
                group,
                first_element: shard.first,
                whole_elements: shard.whole,
                ..Param::new(&param.name, &array)
            };
            let place = place.wrapping_add(number as u8);
            assert_eq!(side.add(&new, param.layout, place, &state), Ok(number));
            side.handle.set_group(group, &now).unwrap();
            side.handle.set_options(number, &param.options).unwrap();
        }
        if let Some(schedule) = &self.schedule {
            side.handle.set_schedule(schedule).unwrap();
        }
        if let Some(scaler) = &model.scaler {
            side.handle.set_scaler(&scaler.config).unwrap();
        }
        side.handle.set_lr_ratio(self.ratio, &());
        side.handle.set_statistics(model.statistics.into()).unwrap();
        side.handle.set_accumulation_window(model.window);
        side.set_flag(model.flag);
    }
}
