//! What is drawn: how a handle is made, and the calls that follow.
//!
//! A number of a parameter or of a group is drawn as a byte, which is taken modulo how many there are.

use crate::begun::To;
use crate::common::random::Random;
use crate::given::Given;
use crate::graph::keeps_graph;
use crate::hosts::Numbers;
use adamw::ffi::*;

/// Where the twin has its parameters.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Places {
    /// In the host's memory, as the other handle has.
    Processor,
    /// On the device.
    Device,
    /// On the device, stepped by the processor.
    Offloaded,
    /// Each in another of these places.
    Mixed,
}

/// How both handles are made.
#[derive(Clone, Debug)]
pub struct Setup {
    pub places: Places,
    pub multi_precision: bool,
    pub average_grads: bool,
    pub clear_grads: bool,
    pub nonfinite: adamw_nonfinite,
    pub clip_scope: adamw_clip_scope,
    /// Of the one and of the other, modulo how many there are.
    pub isas: [usize; 2],
    pub threads: u32,
    /// The learning rate is read where the host keeps it.
    pub reads_lr: bool,
    pub group: Hyper,
    /// So many small parameters come first.
    pub n_first: usize,
}

impl Setup {
    pub fn draw(random: &mut Random, places: &[Places]) -> Setup {
        let group = Hyper::draw(random);
        Setup {
            places: random.one_of(places),
            multi_precision: random.once_in(2),
            average_grads: random.once_in(2),
            clear_grads: random.once_in(3),
            nonfinite: random.one_of(&[
                ADAMW_NONFINITE_PROPAGATE,
                ADAMW_NONFINITE_SKIP,
                ADAMW_NONFINITE_FAIL,
            ]),
            clip_scope: random.one_of(&[ADAMW_CLIP_SCOPE_GROUP, ADAMW_CLIP_SCOPE_HANDLE]),
            isas: [random.below(3) as usize, random.below(3) as usize],
            threads: random.below(3) as u32 + 1,
            reads_lr: random.once_in(6),
            n_first: 0,
            group: Hyper { beta2: group.beta2.min(0.999), clip: group.clip.min(3), ..group },
        }
    }
}

/// The numbers of a group, some of which no library would take.
#[derive(Clone, Debug)]
pub struct Hyper {
    pub lr_scale: f64,
    pub weight_decay: f64,
    pub beta1: f64,
    pub beta2: f64,
    pub eps: f64,
    pub clip: adamw_clip,
    pub clip_norm: f64,
    pub lazy: adamw_lazy,
    pub precision: adamw_precision,
    pub moments: adamw_moments,
    pub independent_weight_decay: bool,
    pub maximize: bool,
    pub amsgrad: bool,
    pub bias_correction: adamw_bias_correction,
    pub formula: adamw_formula,
    /// By bit, whether beta1, beta2, weight_decay and lr_scale are read where the host keeps them.
    pub reads: u8,
}

impl Hyper {
    pub fn draw(random: &mut Random) -> Hyper {
        let mut number = |low, high| match random.once_in(6) {
            true => 0.0,
            false => random.between(low, high),
        };
        Hyper {
            lr_scale: number(0.0, 3.0),
            weight_decay: number(-0.2, 0.5),
            beta1: number(0.0, 1.0),
            beta2: if random.once_in(40) { 1.5 } else { random.between(0.1, 1.0) },
            eps: random.between(1e-9, 1e-2),
            clip: if random.once_in(40) { 4 } else { random.below(4) as u32 },
            clip_norm: random.between(0.01, 4.0),
            lazy: random.below(3) as u32,
            precision: random.below(4) as u32,
            moments: random.one_of(&[0, 0, 0, 1, 1, 2, 3]),
            independent_weight_decay: random.once_in(4),
            maximize: random.once_in(3),
            amsgrad: random.once_in(2),
            bias_correction: random.below(3) as u32,
            formula: if random.once_in(2) { random.below(4) as u32 } else { 0 },
            reads: if random.once_in(6) { byte(random) } else { 0 },
        }
    }

    pub fn put(&self, group: &mut adamw_group_config, numbers: &Numbers) {
        group.lr_scale = self.lr_scale;
        group.weight_decay = self.weight_decay;
        group.beta1 = self.beta1;
        group.beta2 = self.beta2;
        group.eps = self.eps;
        group.clip = self.clip;
        let norm = if group.clip == ADAMW_CLIP_NONE { 0.0 } else { self.clip_norm };
        (group.clip_norm, group.clip_min, group.clip_max) = (norm, -norm / 2.0, norm / 4.0);
        group.lazy_mode = self.lazy;
        group.precision = self.precision;
        group.moments = self.moments;
        group.independent_weight_decay = self.independent_weight_decay.into();
        group.maximize = self.maximize.into();
        group.amsgrad = self.amsgrad.into();
        group.bias_correction = self.bias_correction;
        group.formula = self.formula;
        numbers.put(group, self.reads);
    }

    pub fn is_good(&self) -> bool {
        self.beta2 < 1.0 && self.clip <= 3
    }
}

/// What may be wrong with a gradient.
#[derive(Clone, Copy, Debug)]
pub enum Spoiled {
    Not,
    Nan,
    Infinite,
}

#[derive(Clone, Debug)]
pub enum Call {
    AddGroup(Hyper),
    SetGroup(u8, Hyper),
    AddParam {
        dtype: u8,
        n: u16,
        group: u8,
        place: u8,
        seed: u64,
        given: Given,
    },
    Remove(u8),
    Reset(u8),
    Options {
        param: u8,
        group: u8,
        lr_scale: f64,
        frozen: bool,
        no_clip: bool,
        regularizer: u32,
    },

    SetLr(f32),
    SetGradScale(f64),
    SetScaler {
        start: f64,
        growth: u64,
        backoff: u64,
    },
    RemoveScaler,
    SetScalerState {
        scale: f64,
        good: u64,
        bad: u64,
    },
    SetFlag(Option<f32>),
    SetRatio(u8),
    SetFilter(bool),
    SetSchedule(u8),
    SetIndex(u64),
    Advance,
    /// The host writes one of the numbers that it keeps.
    HostNumber {
        which: u8,
        value: f32,
    },
    SetStatistics(bool),
    SetWindow(u64),

    SetGrad {
        param: u8,
        seed: u64,
        spoiled: Spoiled,
    },
    SetRows {
        param: u8,
        rows: Vec<u16>,
        seed: u64,
    },
    Accumulate {
        param: u8,
        seed: u64,
        spoiled: Spoiled,
    },
    Forget(u8),
    ClearGrad {
        zero: bool,
    },

    Step,
    StepParam(u8),
    Minimize {
        params: Option<Vec<u8>>,
        left_out: Vec<u8>,
        grad: u8,
        seed: u64,
    },
    Apply {
        params: Vec<u8>,
        seed: u64,
    },

    Write {
        param: u8,
        seed: u64,
    },
    SyncMaster(u8),
    SetState {
        param: u8,
        part: u8,
        seed: u64,
    },
    SetSteps {
        /// `None`: of those from 0 on.
        params: Option<Vec<u8>>,
        steps: Vec<u64>,
    },
    Save,
    Load {
        params: bool,
        keep: bool,
        /// The loss scale is this before the load, and the device has been told; 0: as things are.
        scale: f64,
    },
    /// One of the handles begins to save.
    Begin {
        twin: bool,
        params: bool,
        to: To,
        /// It does not end before a call that waits for it.
        held: bool,
    },
    EndBegun {
        twin: bool,
        polls: bool,
    },
    /// Goes on in new handles, which may be made with more.
    Restart {
        amsgrad: bool,
        multi_precision: bool,
        params: bool,
        /// Parameters have other types and formats, which are drawn by this number.
        formats: Option<u64>,
        place: u8,
        given: Given,
    },

    Capture {
        /// The number of the schedule that it is to follow; 0: as things are.
        schedule: u8,
    },
    Replay,
    /// A step, or a launch, that reads a number for which it is skipped.
    Spoil {
        which: u8,
        replays: bool,
    },

    /// Of the twin alone.
    Aside(Aside),
    Compare,
}

/// What changes nothing that can be seen, and is asked of the twin alone.
#[derive(Clone, Debug)]
pub enum Aside {
    Ready(u8),
    Flush,
    Prepare {
        param: u8,
        rows: Vec<u16>,
    },
    Look {
        param: u8,
        buffer: u8,
    },
    Rebind(u8),
    /// Memory that is taken back, and given anew elsewhere.
    Park(u8),
    SameGroup(u8),
    SameOptions(u8),
    Reload {
        params: bool,
    },
    SaveTwice,
    /// In the device's memory: the learning rate, the loss scale, the flag.
    Read([bool; 3]),
    /// The device writes the loss scale to its memory, or no more.
    TellScale(bool),
    /// Steps take the times of the copies of offloaded parameters, or do not.
    TimeCopies(bool),
    PrepareStep,
    Wrong {
        what: u8,
        param: u8,
    },
}

fn byte(random: &mut Random) -> u8 {
    random.next() as u8
}

fn bytes(random: &mut Random, most: u64) -> Vec<u8> {
    (0..random.below(most)).map(|_| byte(random)).collect()
}

fn rows(random: &mut Random) -> Vec<u16> {
    (0..random.below(6)).map(|_| random.next() as u16).collect()
}

fn spoiled(random: &mut Random) -> Spoiled {
    match random.below(24) {
        0 => Spoiled::Nan,
        1 => Spoiled::Infinite,
        _ => Spoiled::Not,
    }
}

/// So many elements that rows of 1 to 4 elements fit; now and then enough for moments in codes.
fn length(random: &mut Random) -> u16 {
    match random.below(40) {
        0 => 0,
        1 => 4096,
        2 => 4100 + 12 * random.below(20) as u16,
        3 => random.below(50) as u16,
        _ => 12 * (1 + random.below(4) as u16),
    }
}

/// Every call, and how often it is drawn.
enum Draw {
    Call(fn(&mut Random) -> Call),
    Aside,
}
use Draw::Call as C;
type Drawn = (u64, Draw);
const STEP: usize = 25;
const CALLS: [Drawn; 43] = [
    (2, C(|r| Call::AddGroup(Hyper::draw(r)))),
    (3, C(|r| Call::SetGroup(byte(r), Hyper::draw(r)))),
    (4, C(Call::add)),
    (2, C(|r| Call::Remove(byte(r)))),
    (2, C(|r| Call::Reset(byte(r)))),
    (
        9,
        C(|r| Call::Options {
            param: byte(r),
            group: byte(r),
            lr_scale: r.one_of(&[1.0, 1.0, 1.0, 0.5, 0.0, 1.75, 1.0, -1.0]),
            frozen: r.once_in(3),
            no_clip: r.once_in(4),
            regularizer: r.one_of(&[0, 0, 0, 1, 1, 2, 2, 3]),
        }),
    ),
    (
        2,
        C(|r| {
            Call::SetLr(r.one_of(&[0.1, 0.03, 0.25, 0.2, 0.5, 0.0, -1.0, f32::NAN, f32::INFINITY]))
        }),
    ),
    (2, C(|r| Call::SetGradScale(r.one_of(&GRAD_SCALES)))),
    (
        1,
        C(|r| Call::SetScaler {
            start: r.one_of(&GRAD_SCALES),
            growth: 1 + r.below(4),
            backoff: 1 + r.below(2),
        }),
    ),
    (1, C(|_| Call::RemoveScaler)),
    (
        1,
        C(|r| Call::SetScalerState {
            scale: r.one_of(&GRAD_SCALES),
            good: r.one_of(&[0, 1, 7, u64::MAX]),
            bad: r.one_of(&[0, 1, 9]),
        }),
    ),
    (2, C(|r| Call::SetFlag(r.one_of(&[None, None, Some(0.0), Some(1.0)])))),
    (6, C(|r| Call::SetRatio(r.one_of(&[0, 0, 0, 0, 1, 1, 1, 1, 2])))),
    (1, C(|r| Call::SetFilter(r.once_in(2)))),
    (2, C(|r| Call::SetSchedule(r.one_of(&[0, 0, 0, 1, 2, 3, 4, 5, 6])))),
    (1, C(|r| Call::SetIndex(r.below(100)))),
    (1, C(|_| Call::Advance)),
    (
        2,
        C(|r| match r.below(5) {
            0 => {
                let value = r.one_of(&[0.125, 0.2, 0.25, 0.03, 0.0, 0.1, -1.0, f32::NAN]);
                Call::HostNumber { which: 0, value }
            }
            1 => Call::HostNumber { which: 1, value: r.one_of(&[0.0, 0.5, 0.9, 0.8, 1.0]) },
            2 => Call::HostNumber { which: 2, value: r.one_of(&[0.1, 0.5, 0.99, 0.999, 1.5]) },
            3 => {
                let value = r.one_of(&[0.0, 0.125, 0.01, -0.1, 0.3, f32::INFINITY]);
                Call::HostNumber { which: 3, value }
            }
            _ => {
                let value = r.one_of(&[0.0, 0.5, 0.7, 1.0, 2.5, -1.0, f32::NAN]);
                Call::HostNumber { which: 4, value }
            }
        }),
    ),
    (2, C(|r| Call::SetStatistics(r.once_in(2)))),
    (2, C(|r| Call::SetWindow(r.one_of(&[0, 0, 1, 2, 4])))),
    (20, C(|r| Call::SetGrad { param: byte(r), seed: r.next(), spoiled: spoiled(r) })),
    (9, C(|r| Call::SetRows { param: byte(r), rows: rows(r), seed: r.next() })),
    (11, C(|r| Call::Accumulate { param: byte(r), seed: r.next(), spoiled: spoiled(r) })),
    (4, C(|r| Call::Forget(byte(r)))),
    (3, C(|r| Call::ClearGrad { zero: !r.once_in(3) })),
    (44, C(|_| Call::Step)),
    (6, C(|r| Call::StepParam(byte(r)))),
    (
        3,
        C(|r| Call::Minimize {
            params: r.once_in(2).then(|| bytes(r, 4)),
            left_out: bytes(r, 3),
            grad: byte(r),
            seed: r.next(),
        }),
    ),
    (2, C(|r| Call::Apply { params: bytes(r, 4), seed: r.next() })),
    (2, C(|r| Call::Write { param: byte(r), seed: r.next() })),
    (2, C(|r| Call::SyncMaster(byte(r)))),
    (2, C(|r| Call::SetState { param: byte(r), part: byte(r), seed: r.next() })),
    (
        2,
        C(|r| {
            // Two counts, of which most parameters of a group share one; one may be too large, or
            // the next step is one after which moments that are too small become 0.
            let more = [(1 << 32) + 1, 63, 127, 191];
            let counts = [r.below(9), if r.once_in(3) { r.one_of(&more) } else { r.below(300) }];
            let steps: Vec<u64> = (0..r.below(5)).map(|_| r.one_of(&counts)).collect();
            let named: Vec<u8> = steps.iter().map(|_| byte(r)).collect();
            Call::SetSteps { params: (!r.once_in(3)).then_some(named), steps }
        }),
    ),
    (4, C(|_| Call::Save)),
    (
        5,
        C(|r| Call::Begin {
            twin: r.once_in(2),
            params: r.once_in(2),
            to: To::draw(r),
            held: !r.once_in(3),
        }),
    ),
    (3, C(|r| Call::EndBegun { twin: r.once_in(2), polls: r.once_in(2) })),
    (
        5,
        C(|r| Call::Load {
            params: r.once_in(2),
            keep: r.once_in(3),
            scale: r.one_of(&[0.0, 0.0, 0.25, 4096.0]),
        }),
    ),
    (
        2,
        C(|r| Call::Restart {
            amsgrad: r.once_in(4),
            multi_precision: r.once_in(4),
            params: r.once_in(2),
            formats: r.once_in(2).then(|| r.next()),
            place: byte(r),
            given: Given::draw_memory(r),
        }),
    ),
    (5, C(|r| Call::Capture { schedule: r.one_of(&[0, 0, 0, 0, 1, 2, 3, 6]) })),
    (24, C(|_| Call::Replay)),
    (12, C(|r| Call::Spoil { which: byte(r), replays: r.once_in(2) })),
    (30, Draw::Aside),
    (8, C(|_| Call::Compare)),
];

/// Some of which f32 cannot multiply by or cannot invert.
const GRAD_SCALES: [f64; 12] =
    [1.0, 2.0, 64.0, 1024.0, 65536.0, 0.5, 1.0 / 1024.0, 0.0, 1e-39, 1e-300, 1e39, f64::NAN];

type DrawnAside = (u64, fn(&mut Random) -> Aside);
const ASIDES: [DrawnAside; 15] = [
    (8, |r| Aside::Ready(byte(r))),
    (2, |_| Aside::Flush),
    (3, |r| Aside::Prepare { param: byte(r), rows: rows(r) }),
    (3, |r| Aside::Look { param: byte(r), buffer: 2 + byte(r) % 11 }),
    (3, |r| Aside::Rebind(byte(r))),
    (3, |r| Aside::Park(byte(r))),
    (2, |r| Aside::SameGroup(byte(r))),
    (2, |r| Aside::SameOptions(byte(r))),
    (3, |r| Aside::Reload { params: r.once_in(2) }),
    (1, |_| Aside::SaveTwice),
    (3, |r| Aside::Read([!r.once_in(3), r.once_in(3), r.once_in(3)])),
    (2, |r| Aside::TellScale(!r.once_in(3))),
    (1, |r| Aside::TimeCopies(!r.once_in(3))),
    (2, |_| Aside::PrepareStep),
    (5, |r| Aside::Wrong { what: byte(r), param: byte(r) }),
];

/// How often each is drawn in one sequence: some never, some more often than others. (Groce et al., "Swarm
/// Testing", ISSTA 2012: what is left out gives the rest room to meet.)
pub struct Weights {
    calls: Vec<u64>,
    asides: Vec<u64>,
}

impl Weights {
    pub fn draw(random: &mut Random) -> Weights {
        let mut of = |weight: u64| weight * random.one_of(&[0, 1, 1, 4]);
        let mut calls: Vec<u64> = CALLS.iter().map(|(weight, _)| of(*weight)).collect();
        let asides = ASIDES.iter().map(|(weight, _)| of(*weight)).collect();
        calls[STEP] = CALLS[STEP].0; // without which the rest comes to nothing
        Weights { calls, asides }
    }
}

/// The place of one of these, each as often as it says.
fn place(random: &mut Random, weights: &[u64]) -> Option<usize> {
    let sum: u64 = weights.iter().sum();
    let mut at = if sum > 0 { random.below(sum) } else { return None };
    weights.iter().position(|weight| match at.checked_sub(*weight) {
        Some(rest) => {
            at = rest;
            false
        }
        None => true,
    })
}

impl Call {
    /// A parameter more.
    pub fn add(random: &mut Random) -> Call {
        Call::AddParam {
            dtype: byte(random),
            n: length(random),
            group: byte(random),
            place: byte(random),
            seed: random.next(),
            given: Given::draw(random),
        }
    }

    pub fn draw(random: &mut Random, weights: &Weights) -> Call {
        let place = place(random, &weights.calls).expect("a step has a weight");
        match CALLS[place].1 {
            Draw::Call(draw) => draw(random),
            Draw::Aside => Call::Aside(Aside::draw(random, weights)),
        }
    }

    /// One that a graph outlives. `follows`: it takes its learning rates from a schedule, which is
    /// put elsewhere now and then.
    pub fn draw_beside_graph(random: &mut Random, weights: &Weights, follows: bool) -> Call {
        if follows && random.once_in(6) {
            return match random.once_in(2) {
                true => Call::SetIndex(random.below(100)),
                false => Call::SetSchedule(random.one_of(&[1, 2, 3, 4, 6])),
            };
        }
        loop {
            let call = Call::draw(random, weights);
            if keeps_graph(&call) {
                return call;
            }
        }
    }
}

impl Aside {
    fn draw(random: &mut Random, weights: &Weights) -> Aside {
        match place(random, &weights.asides) {
            Some(place) => ASIDES[place].1(random),
            None => Aside::Flush,
        }
    }
}
