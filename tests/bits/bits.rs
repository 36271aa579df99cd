//! The same bits everywhere: on every instruction set, at every length and alignment, on any
//! number of threads, whole or in shards, the library computes what its portable scalar code
//! computes on one thread, and that is what the formula says.

use crate::common::LONG;
use crate::common::array::{Array, Dtype};
use crate::common::handle::{Handle, config, isas};
use crate::common::host::with_scoped_threads;
use crate::common::kind::Kind;
use crate::common::oracle::{Hyper, Oracle};
use crate::common::random::Random;
use crate::common::tensors::Tensors;
use adamw::ffi;
use std::ops::Range;

const STEPS: usize = 3;

/// Steps that the state has behind it when a case starts: a few, or some after which moments that
/// are too small become 0.
const TAKEN: [u64; 2] = [2, 62];

/// Ordinary and extreme hyper-parameters: some vanish in f32, some are about as large as it holds.
const HYPERS: [Hyper; 9] = [
    Hyper { lr: 1e-3, beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay: 0.01 },
    Hyper { lr: 0.05, beta1: 0.8, beta2: 0.95, eps: 1e-3, weight_decay: -0.1 },
    Hyper { lr: 0.1, beta1: 0.0, beta2: 0.0, eps: 1e-8, weight_decay: 0.3 },
    Hyper { lr: 0.02, beta1: 0.95, beta2: 0.9, eps: 0.0, weight_decay: 0.0 },
    Hyper { lr: 0.0, beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay: 0.01 },
    Hyper { lr: 1e-6, beta1: 0.9, beta2: 0.99, eps: 1e-12, weight_decay: 0.02 },
    Hyper { lr: 1e-44, beta1: 0.5, beta2: 0.5, eps: 1e-42, weight_decay: 1.0 },
    Hyper { lr: 1e37, beta1: 0.9, beta2: 0.999, eps: 1e38, weight_decay: 1e-30 },
    Hyper { lr: 1.0, beta1: 0.9999999, beta2: 0.999999999999, eps: 0.5, weight_decay: 2.0 },
];

/// Where the work of a handle is done.
#[derive(Clone, Copy, Debug)]
struct Setup {
    isa: ffi::adamw_isa,
    /// How many; a reference because the host's loop gets it as its `user_data`.
    threads: &'static usize,
    /// The threads are the host's.
    host_loop: bool,
}

/// What every other setup must agree with.
const PORTABLE: Setup = Setup { isa: ffi::ADAMW_ISA_PORTABLE, threads: &1, host_loop: false };

/// More than one thread, the library's or the host's.
const THREADS: [Setup; 5] = {
    let best = Setup { isa: ffi::ADAMW_ISA_BEST, threads: &1, host_loop: false };
    [
        Setup { threads: &2, ..best },
        Setup { threads: &3, ..best },
        Setup { threads: &7, ..best },
        Setup { threads: &2, host_loop: true, ..best },
        Setup { threads: &7, host_loop: true, ..best },
    ]
};

/// One setup for each instruction set, on one thread.
fn each_isa() -> Vec<Setup> {
    isas().into_iter().map(|isa| Setup { isa, ..PORTABLE }).collect()
}

fn handle(kind: Kind, hyper: Hyper, setup: Setup) -> Handle {
    let mut config = config();
    config.lr = hyper.lr;
    config.beta1 = hyper.beta1;
    config.beta2 = hyper.beta2;
    config.eps = hyper.eps;
    config.weight_decay = hyper.weight_decay;
    config.amsgrad = kind.amsgrad.into();
    config.maximize = kind.maximize.into();
    config.multi_precision = kind.master.into();
    config.isa = setup.isa;
    config.num_threads = *setup.threads as u32;
    if setup.host_loop {
        with_scoped_threads(&mut config, setup.threads);
    }
    Handle::new(&config)
}

/// A parameter with its state, and the gradients that it is going to get.
struct Case {
    kind: Kind,
    hyper: Hyper,
    taken: u64,
    start: Tensors,
    grads: Vec<Array>,
}

impl Case {
    /// Random elements, others for each length and `number`, and one of the `HYPERS`.
    fn new(kind: Kind, n: usize, number: usize) -> Case {
        let mut random = Random::new((n as u64) << 32 | number as u64);
        Case {
            kind,
            hyper: HYPERS[number % HYPERS.len()],
            taken: TAKEN[number % TAKEN.len()],
            start: Tensors::random(kind, n, &mut random),
            grads: (0..STEPS).map(|_| Tensors::random_grad(kind, n, &mut random)).collect(),
        }
    }

    fn handle(&self, setup: Setup) -> Handle {
        handle(self.kind, self.hyper, setup)
    }

    /// The tensors after all the steps, as one parameter of one handle; `offset` as in
    /// `Tensors::copy`.
    fn run(&self, setup: Setup, offset: usize) -> Tensors {
        let handle = self.handle(setup);
        let piece = self.add_to(&handle, 0, 0..self.start.len(), offset);
        let pieces = [piece];
        run(handle, &pieces);
        let [piece] = pieces;
        piece.tensors
    }

    /// Makes some of the elements a parameter of their own; its name is only a number.
    fn add_to(&self, handle: &Handle, name: usize, elements: Range<usize>, offset: usize) -> Piece {
        let tensors = self.start.copy(elements.clone(), offset);
        let number = tensors.add_to(handle, &name.to_string(), self.taken);
        let grads = self.grads.iter();
        let grads = grads.map(|grad| grad.copy(elements.clone(), offset * 11 % 16)).collect();
        Piece { elements, tensors, grads, number }
    }

    #[track_caller]
    fn assert_agrees(&self, reference: &Tensors, setup: Setup, offset: usize) {
        let context = || format!("{:?} {:?} {setup:?} offset {offset}", self.kind, self.hyper);
        self.run(setup, offset).assert_same(reference, context);
    }
}

/// A parameter of some handle: these elements of a case.
struct Piece {
    elements: Range<usize>,
    tensors: Tensors,
    grads: Vec<Array>,
    number: u32,
}

/// Takes all the steps, and destroys the handle.
fn run(handle: Handle, pieces: &[Piece]) {
    for step in 0..STEPS {
        for piece in pieces {
            handle.set_grad(piece.number, &piece.grads[step]);
        }
        handle.step();
    }
}

#[test]
fn portable_code_computes_the_formula() {
    let (mut compared, mut numbers) = (0, 0);
    for (k, kind) in Kind::all().into_iter().enumerate() {
        for number in 0..HYPERS.len() {
            let case = Case::new(kind, 1031 + k, number);
            let expected = case.start.duplicate();
            let mut oracle = Oracle::after(case.hyper, kind, case.taken);
            for grad in &case.grads {
                oracle.step(&expected, grad);
            }
            case.assert_agrees(&expected, PORTABLE, 0);
            compared += expected.len();
            numbers += expected.param.values().iter().filter(|value| value.is_finite()).count();
        }
    }
    assert!(
        numbers > compared / 2,
        "{numbers} of {compared}: most of what is compared is NaN or infinite"
    );
}

#[test]
fn short_lengths_have_the_same_bits_on_every_isa() {
    for (k, kind) in Kind::all().into_iter().enumerate() {
        for n in 0..=130 {
            let case = Case::new(kind, n, k + n);
            let reference = case.run(PORTABLE, 0);
            for setup in each_isa() {
                case.assert_agrees(&reference, setup, n % 16);
            }
        }
    }
}

#[test]
fn lengths_around_every_block_have_the_same_bits_on_every_isa() {
    let blocks = [512, 4096, 16384, 65536];
    for (k, kind) in Kind::all().into_iter().enumerate() {
        for n in blocks.into_iter().flat_map(|block| [block - 1, block, block + 1]) {
            let case = Case::new(kind, n, k + n);
            let reference = case.run(PORTABLE, 0);
            for setup in each_isa() {
                case.assert_agrees(&reference, setup, k % 16);
            }
        }
    }
}

#[test]
fn every_alignment_has_the_same_bits_on_every_isa() {
    for (k, kind) in Kind::all().into_iter().enumerate() {
        for n in [1, 15, 16, 17, 31, 32, 33, 130, 511, 513, 1025] {
            let case = Case::new(kind, n, k + n);
            let reference = case.run(PORTABLE, 0);
            for setup in each_isa() {
                for offset in 0..16 {
                    case.assert_agrees(&reference, setup, offset);
                }
            }
        }
    }
}

#[test]
fn any_number_of_threads_gives_the_same_bits() {
    for (k, kind) in Kind::all().into_iter().enumerate() {
        let case = Case::new(kind, LONG, k);
        let reference = case.run(PORTABLE, 0);
        for setup in THREADS {
            case.assert_agrees(&reference, setup, k % 16);
        }
        for setup in each_isa() {
            case.assert_agrees(&reference, Setup { threads: &3, ..setup }, k % 16);
        }
    }
}

#[test]
fn many_tensors_of_every_type_have_the_same_bits_together_as_alone() {
    for options in Kind::all().into_iter().filter(|kind| kind.grad == Dtype::Bf16) {
        let fits = |kind: &Kind| {
            let Kind { amsgrad, maximize, master, .. } = options;
            let needs_master = kind.param.bytes() == 2 && master;
            *kind == Kind { amsgrad, maximize, master: needs_master, ..*kind }
        };
        let kinds: Vec<Kind> = Kind::all().into_iter().filter(fits).collect();
        let cases: Vec<Case> = (0..600)
            .map(|i| Case {
                hyper: HYPERS[0],
                ..Case::new(kinds[i % kinds.len()], i * i * 31 % 1400, i)
            })
            .collect();
        assert!(cases.iter().map(|case| case.start.len()).sum::<usize>() >= LONG);
        let references: Vec<Tensors> = cases.iter().map(|case| case.run(PORTABLE, 0)).collect();
        for setup in THREADS {
            let handle = handle(options, HYPERS[0], setup);
            let pieces: Vec<Piece> = (0..)
                .zip(&cases)
                .map(|(i, case)| case.add_to(&handle, i, 0..case.start.len(), i % 16))
                .collect();
            run(handle, &pieces);
            for (i, (piece, reference)) in pieces.iter().zip(&references).enumerate() {
                piece
                    .tensors
                    .assert_same(reference, || format!("tensor {i} {options:?} {setup:?}"));
            }
        }
    }
}

#[test]
fn shards_have_the_bits_of_the_whole() {
    for (k, kind) in Kind::all().into_iter().enumerate() {
        let case = Case::new(kind, LONG, k);
        let whole = case.run(PORTABLE, 0);
        let shards: Vec<Range<usize>> =
            (0..LONG).step_by(33_331).map(|start| start..LONG.min(start + 33_331)).collect();
        let setup = THREADS[k % THREADS.len()];

        let together = case.handle(setup);
        let pieces: Vec<Piece> = shards
            .iter()
            .map(|shard| case.add_to(&together, shard.start, shard.clone(), k % 16))
            .collect();
        run(together, &pieces);
        assert_shards_agree(&pieces, &whole, || format!("one handle {kind:?} {setup:?}"));

        let apart = |shard: &Range<usize>| {
            let handle = case.handle(setup);
            let pieces = [case.add_to(&handle, 0, shard.clone(), k % 16)];
            run(handle, &pieces);
            let [piece] = pieces;
            piece
        };
        let pieces: Vec<Piece> = shards.iter().map(apart).collect();
        assert_shards_agree(&pieces, &whole, || format!("handles apart {kind:?} {setup:?}"));
    }
}

fn assert_shards_agree(pieces: &[Piece], whole: &Tensors, context: impl Fn() -> String) {
    for piece in pieces {
        let expected = whole.copy(piece.elements.clone(), 0);
        piece.tensors.assert_same(&expected, || format!("{} {:?}", context(), piece.elements));
    }
}
