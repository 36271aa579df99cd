//! Hashes of all that a step depends on and all ranks have alike, by topic.
//!
//! The hashes of the parameters are worked out anew where a revision may have changed one. That of
//! their steps is a sum over the parameters, so that a step that is taken adds the same to it.
#![forbid(unsafe_code)]

use super::Ranks;
use super::hash::{Hash, hash_of};
use crate::config::{GroupConfig, LossScaler};
use crate::math::Regularizer;
use crate::optimizer::params::Param;
use crate::optimizer::params::table::ParamId;
use crate::optimizer::{Optimizer, ScalerState};

/// What has to be the same on all ranks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Topic {
    Count,
    Params,
    Options,
    Steps,
    Gradients,
    Groups,
    Lr,
    LossScale,
    Settings,
    Ratios,
}

impl Topic {
    pub const ALL: [Topic; 10] = [
        Topic::Count,
        Topic::Params,
        Topic::Options,
        Topic::Steps,
        Topic::Gradients,
        Topic::Groups,
        Topic::Lr,
        Topic::LossScale,
        Topic::Settings,
        Topic::Ratios,
    ];

    /// Returns what an error calls it.
    pub fn what(self) -> &'static str {
        match self {
            Topic::Count => "the number of params",
            Topic::Params => "its name, place, whole_elements, type or format",
            Topic::Options => "its group, its other options, or whether it decays",
            Topic::Steps => "the steps that it has taken",
            Topic::Gradients => "whether it has a gradient, or how many it has accumulated",
            Topic::Groups => "the groups",
            Topic::Lr => "lr, or where its schedule is",
            Topic::LossScale => "the loss scale, or the state of the loss scaler",
            Topic::Settings => {
                "what steps measure, clip_scope, nonfinite, average_grads, seed or the \
                 accumulation window"
            }
            Topic::Ratios => "what lr_ratio gave",
        }
    }

    /// Returns whether it is about parameters, of which one can be named.
    pub fn is_of_params(self) -> bool {
        matches!(self, Topic::Params | Topic::Options | Topic::Steps | Topic::Gradients)
    }
}

/// The hashes of the parameters, as they were at a revision.
#[derive(Default)]
pub struct Digests {
    revision: Option<u64>,
    params: u32,
    options: u32,
    gradients: u32,
    /// The sum over the parameters of their steps, each times a number of its own.
    steps: u32,
    /// What a step that is taken adds to `steps`.
    steps_of_one: u32,
}

impl Digests {
    /// Returns whether the parameters have a revision of which these are the hashes.
    pub fn are_of(&self, revision: u64) -> bool {
        self.revision == Some(revision)
    }

    /// Counts a step that has been taken.
    pub fn count_step(&mut self) {
        self.steps = self.steps.wrapping_add(self.steps_of_one);
    }
}

impl Optimizer {
    /// Brings the hashes of the parameters up to date.
    pub(super) fn digest_params(&self, digests: &mut Digests) {
        let revision = self.params.revision();
        if digests.are_of(revision) {
            return;
        }
        *digests = Digests { revision: Some(revision), ..Digests::default() };
        let [mut params, mut options, mut gradients] = [(); 3].map(|()| Hash::default());
        for id in self.params.ids(&self.params.all()) {
            params.add(self.param_hash(id, Topic::Params).into());
            options.add(self.param_hash(id, Topic::Options).into());
            gradients.add(self.param_hash(id, Topic::Gradients).into());
            digests.steps = digests.steps.wrapping_add(self.param_hash(id, Topic::Steps));
            if self.params.operands(id).is_due() {
                digests.steps_of_one = digests.steps_of_one.wrapping_add(factor(id));
            }
        }
        digests.params = params.finish();
        digests.options = options.finish();
        digests.gradients = gradients.finish();
    }

    /// Returns the hash of a topic, where the hashes of the parameters are up to date.
    pub(super) fn digest(&self, topic: Topic, ranks: &Ranks) -> u32 {
        let Ranks { digests, ratios, next, .. } = ranks;
        let mut hash = Hash::default();
        match topic {
            Topic::Count => return self.params.len() as u32,
            Topic::Params => return digests.params,
            Topic::Options => return digests.options,
            Topic::Steps => return digests.steps,
            Topic::Gradients => return digests.gradients,
            Topic::Groups => self.hash_groups(&mut hash, None),
            Topic::Lr => {
                hash.add_f64(self.lr);
                if let Some(next) = next {
                    hash.add(next.index);
                    hash.add_f64(next.lr);
                }
            }
            Topic::LossScale => self.hash_loss_scale(&mut hash),
            Topic::Settings => self.hash_settings(&mut hash),
            Topic::Ratios => ratios.iter().for_each(|ratio| hash.add_f64(*ratio)),
        }
        hash.finish()
    }

    /// Returns the hash of what a topic is of one parameter.
    pub(super) fn param_hash(&self, id: ParamId, topic: Topic) -> u32 {
        let (param, operands) = (&self.params[id], self.params.operands(id));
        if param.removed {
            return 0;
        }
        let mut hash = Hash::default();
        match topic {
            Topic::Params => {
                let name = param.name.to_bytes();
                hash.add(name.len() as u64);
                let (words, rest) = name.as_chunks::<8>();
                words.iter().for_each(|word| hash.add(u64::from_le_bytes(*word)));
                rest.iter().for_each(|byte| hash.add((*byte).into()));
                hash.add(self.whole_elements(id));
                hash.add(operands.param().dtype() as u64);
                let format = operands.format();
                hash.add(format.kept() as u64);
                hash.add(format.moments() as u64);
                hash.add(format.amsgrad().into());
            }
            Topic::Options => hash_options(&mut hash, param),
            Topic::Steps => return factor(id).wrapping_mul(self.params.clock(id).step as u32),
            Topic::Gradients if operands.is_due() => hash.add(1 + operands.n_accumulated()),
            _ => {}
        }
        hash.finish()
    }

    /// Returns the hash of one of `GROUP_FIELDS`, over all groups.
    pub(super) fn group_hash(&self, field: usize) -> u32 {
        let mut hash = Hash::default();
        self.hash_groups(&mut hash, Some(field));
        hash.finish()
    }

    fn hash_groups(&self, hash: &mut Hash, field: Option<usize>) {
        for group in &self.groups {
            let fields = group_fields(group);
            match field {
                Some(field) => fields[field].iter().for_each(|word| hash.add(*word)),
                None => fields.iter().flatten().for_each(|word| hash.add(*word)),
            }
        }
    }

    fn hash_loss_scale(&self, hash: &mut Hash) {
        hash.add_f64(self.loss_scale());
        if let Some(scaler) = &self.scaler {
            let LossScaler {
                scale: _, // the first one, which the state follows
                growth_factor,
                backoff_factor,
                growth_interval,
                backoff_interval,
            } = *scaler.config();
            let ScalerState { scale: _, good_steps, bad_steps } = scaler.state();
            hash.add_f64(growth_factor);
            hash.add_f64(backoff_factor);
            let counts = [growth_interval, backoff_interval, good_steps, bad_steps];
            counts.into_iter().for_each(|count| hash.add(count));
        }
    }

    fn hash_settings(&self, hash: &mut Hash) {
        hash.add(self.measures().into());
        hash.add(self.config.clip_scope as u64);
        hash.add(self.nonfinite() as u64);
        hash.add(self.config.seed);
        hash.add(self.config.average_grads.into());
        if self.config.average_grads {
            self.window.numbers().into_iter().for_each(|number| hash.add(number));
        }
    }
}

/// Returns an odd number for each parameter.
fn factor(id: ParamId) -> u32 {
    hash_of(id.number().into()) | 1
}

fn hash_options(hash: &mut Hash, param: &Param) {
    hash.add(param.group.into());
    hash.add_f64(param.lr_scale);
    let flags = [param.decays, param.frozen, param.no_clip];
    flags.into_iter().for_each(|flag| hash.add(flag.into()));
    let (kind, coeff) = match param.regularizer {
        Regularizer::None => (0, 0.0),
        Regularizer::L1(coeff) => (1, coeff),
        Regularizer::L2(coeff) => (2, coeff),
    };
    hash.add(kind);
    hash.add_f64(coeff);
}

/// What an error calls the fields of groups.
pub const GROUP_FIELDS: [&str; 8] = [
    "lr_scale",
    "beta1 or beta2",
    "eps",
    "weight_decay or how it decays",
    "maximize",
    "clip, clip_norm, clip_min or clip_max",
    "bias_correction or the formula",
    "lazy_mode",
];

/// The words of the fields of a group that steps use. Formats are those of the parameters.
fn group_fields(group: &GroupConfig) -> [[u64; 4]; GROUP_FIELDS.len()] {
    let number = |number: f64| number.to_bits();
    let clip = group.clip.numbers();
    [
        [number(group.lr_scale), 0, 0, 0],
        [number(group.beta1), number(group.beta2), 0, 0],
        [number(group.eps), 0, 0, 0],
        [
            number(group.weight_decay),
            group.independent_weight_decay.into(),
            group.decays_new_value.into(),
            0,
        ],
        [group.maximize.into(), 0, 0, 0],
        [group.clip.kind() as u64, number(clip.norm), number(clip.min), number(clip.max)],
        [group.bias_correction as u64, group.eps_before_correction.into(), 0, 0],
        [group.lazy as u64, 0, 0, 0],
    ]
}
