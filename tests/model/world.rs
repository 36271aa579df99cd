//! The model and two handles that are told the same: one in the host's memory, and its twin on other
//! instruction sets and threads, perhaps on a device. The twin is asked first: what only a device refuses is
//! told to nobody.

use crate::begun::{GoOn, Saves};
use crate::call::{Call, Places, Setup};
use crate::common::handle::{self, Answer, Failure, Handle, isas};
use crate::common::model::Model;
use crate::counts::Counts;
use crate::graph::Captured;
use crate::hosts::Numbers;
use crate::side::Side;
use crate::state::Checkpoint;
use adamw::ffi::*;
use std::rc::Rc;
use std::sync::OnceLock;

pub struct World {
    /// Before the handles, which wait for saves as they are dropped.
    pub go_on: GoOn,
    pub model: Model,
    pub plain: Side,
    pub twin: Side,
    /// What the host keeps for both handles to read.
    pub numbers: Rc<Numbers>,
    pub counts: Counts,
    pub saved: Option<Checkpoint>,
    /// The schedule that both were given, and the callback.
    pub schedule: Option<adamw_schedule>,
    pub ratio: adamw_lr_ratio,
    pub graph: Option<Captured>,
    /// The numbers of all parameters that graphs have captured.
    pub captured: Vec<u32>,
    /// Whether the last step was a graph's, of which the host knows nothing.
    pub is_replayed: bool,
    /// How many parameters there have been: no two have one name.
    pub n_named: u32,
    /// Behind the handles, whose threads write there.
    pub saves: Saves,
}

/// Two threads for all twins that use a team.
fn shared_team() -> *mut Team {
    static TEAM: OnceLock<usize> = OnceLock::new();
    core::ptr::without_provenance_mut(*TEAM.get_or_init(|| handle::team(2).addr()))
}

/// What only parameters on a device refuse.
const LIMITS: [&str; 3] = [
    "as earlier ones",
    "captur",
    "the device reads found_inf or grad_scale", // where the host has to know
];

impl World {
    pub fn new(setup: &Setup) -> Option<World> {
        let mut group: adamw_group_config = Handle::new(&handle::config()).group(0);
        setup.group.put(&mut group, &Numbers::default());
        let numbers = Rc::new(Numbers::new(0.125, &group));
        setup.group.put(&mut group, &numbers);
        let isa = |which: usize| isas()[setup.isas[which] % isas().len()];
        let config = adamw_config {
            lr: 0.125,
            beta1: group.beta1,
            beta2: group.beta2,
            eps: group.eps,
            weight_decay: group.weight_decay,
            clip: group.clip,
            clip_norm: group.clip_norm,
            clip_min: group.clip_min,
            clip_max: group.clip_max,
            lazy_mode: group.lazy_mode,
            precision: group.precision,
            moments: group.moments,
            independent_weight_decay: group.independent_weight_decay,
            lr_ptr: numbers.lr(setup.reads_lr),
            beta1_ptr: group.beta1_ptr,
            beta2_ptr: group.beta2_ptr,
            weight_decay_ptr: group.weight_decay_ptr,
            seed: 0x1234_5678_9abc_def0,
            amsgrad: group.amsgrad,
            maximize: group.maximize,
            bias_correction: group.bias_correction,
            formula: group.formula,
            multi_precision: setup.multi_precision.into(),
            average_grads: setup.average_grads.into(),
            clear_grads: setup.clear_grads.into(),
            nonfinite: setup.nonfinite,
            clip_scope: setup.clip_scope,
            isa: isa(0),
            num_threads: 1,
            ..handle::config()
        };
        let other = adamw_config { isa: isa(1), ..config };
        let other = match setup.threads {
            2 => adamw_config { num_threads: 0, team: shared_team(), ..other },
            num_threads => adamw_config { num_threads, ..other },
        };
        let plain = Side::new(&config, setup.places, &numbers, false).ok()?;
        let twin = Side::new(&other, setup.places, &numbers, true).unwrap();
        let model = Model::new(config, 0.125, numbers.values(), plain.handle.group(0));
        let counts = Counts { sequences: 1, ..Counts::default() };
        Some(World {
            go_on: GoOn::default(),
            model,
            plain,
            twin,
            numbers,
            counts,
            saved: None,
            schedule: None,
            ratio: None,
            graph: None,
            captured: Vec::new(),
            is_replayed: false,
            n_named: 0,
            saves: Saves::default(),
        })
    }

    /// A parameter that a byte names; a low byte may name one that is not there.
    pub fn param(&self, byte: u8) -> (u32, bool) {
        let n_live = self.model.live().count();
        let number = match byte {
            12.. if n_live > 0 => self.model.live().nth(byte as usize % n_live).unwrap(),
            _ => byte as usize % (self.model.params.len() + 1),
        };
        (number as u32, self.model.params.get(number).is_some_and(|param| !param.removed))
    }

    pub fn group(&self, byte: u8) -> (u32, bool) {
        let n_groups = self.model.groups.len() + usize::from(byte < 12);
        let number = byte as usize % n_groups;
        (number as u32, number < self.model.groups.len())
    }

    /// The parameters of these that are there, each once.
    pub fn params(&self, bytes: &[u8]) -> Vec<u32> {
        let mut numbers: Vec<u32> =
            bytes.iter().map(|byte| self.param(*byte)).filter(|p| p.1).map(|p| p.0).collect();
        numbers.sort_unstable();
        numbers.dedup();
        numbers
    }

    /// Makes one call of both, which must do as they should. What they answered, if they did it.
    #[track_caller]
    pub fn tell<T: PartialEq + core::fmt::Debug>(
        &mut self,
        is_good: bool,
        call: impl Fn(&mut Side) -> Answer<T>,
    ) -> Option<T> {
        self.counts.calls += 1;
        let twin = call(&mut self.twin);
        if let Err(failure) = &twin
            && is_good
            && self.is_limit(failure)
        {
            return None;
        }
        let plain = call(&mut self.plain);
        let text = |answer: &Answer<T>| format!("{:?}", answer.as_ref().map(|_| ()));
        assert_eq!(plain.is_ok(), is_good, "the processor's handle: {}", text(&plain));
        assert_eq!(twin.is_ok(), is_good, "the twin: {}", text(&twin));
        if let (Ok(plain), Ok(twin)) = (&plain, &twin) {
            assert_eq!(plain, twin);
        }
        self.counts.failed += u64::from(!is_good);
        plain.ok()
    }

    pub fn is_limit(&self, failure: &Failure) -> bool {
        self.twin.places != Places::Processor
            && LIMITS.iter().any(|limit| failure.text.contains(limit))
    }

    /// Makes one call of all three. The library refuses exactly what the model says.
    pub fn make(&mut self, call: &Call) {
        self.keep_graph(call);
        self.keep_checkpoint(call);
        self.let_saves_end(call);
        let is_made = match call {
            Call::Aside(aside) => {
                self.aside(aside);
                true
            }
            Call::Compare => {
                self.compare();
                true
            }
            _ => {
                self.change_setting(call)
                    || self.change_schedule(call)
                    || self.write_number(call)
                    || self.change_state(call)
                    || self.restart(call)
                    || self.use_begun(call)
                    || self.give_gradient(call)
                    || self.take_step(call)
                    || self.use_graph(call)
            }
        };
        assert!(is_made, "nobody knows {call:?}");
        self.twin.forget_foreign();
        self.plain.forget_foreign();
    }

    pub fn flush(&mut self) {
        self.plain.handle.sparse_flush();
        self.twin.handle.sparse_flush();
        self.twin.wait();
    }

    /// Destroys the handles; what is the host's stays as it is.
    pub fn end(mut self) -> Counts {
        self.compare();
        self.drop_graph();
        self.go_on.all();
        let World { plain, twin, mut saves, counts, .. } = self;
        twin.end();
        plain.end();
        saves.end();
        counts
    }
}
