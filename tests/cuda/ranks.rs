//! Ranks whose parameters are on a device, where the processor steps them, have the bits of one
//! handle in the host's memory. (Those that the device steps are refused: `tests/texts/ranks.rs`.)

use crate::common::array::{Array, Dtype};
use crate::common::device::{self, Device, take_log};
use crate::common::handle::{Handle, Param, config};
use crate::common::place::Place;
use crate::common::random::Random;
use crate::common::rows::Rows;
use crate::meeting::on_ranks;
use adamw::ffi::*;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};

const LENGTHS: [usize; 3] = [40_000, 0, 9_001];
const N_RANKS: usize = 2;
const STEPS: u64 = 5;

#[derive(Clone, Copy, Debug)]
struct Mode {
    dtype: Dtype,
    precision: adamw_precision,
    moments: adamw_moments,
    nonfinite: adamw_nonfinite,
    /// Gradients are on the device, too.
    grads_there: bool,
    /// The second rank lists rows of the last parameter, and the first none.
    lists: bool,
}

const PLAIN: Mode = Mode {
    dtype: Dtype::F32,
    precision: ADAMW_PRECISION_DEFAULT,
    moments: ADAMW_MOMENTS_F32,
    nonfinite: ADAMW_NONFINITE_PROPAGATE,
    grads_there: true,
    lists: false,
};

const MODES: [Mode; 5] = [
    PLAIN,
    Mode { nonfinite: ADAMW_NONFINITE_SKIP, grads_there: false, ..PLAIN },
    Mode { lists: true, nonfinite: ADAMW_NONFINITE_FAIL, ..PLAIN },
    Mode { dtype: Dtype::Bf16, precision: ADAMW_PRECISION_SPLIT, ..PLAIN },
    Mode { moments: ADAMW_MOMENTS_8BIT, nonfinite: ADAMW_NONFINITE_SKIP, ..PLAIN },
];

/// What a step says of itself, in bits, and whether it failed.
type Seen = (bool, u32, u64, u64);

impl Mode {
    /// Trains the part of a rank, after `join`, and returns its parameters.
    fn train(
        self,
        (rank, of): (usize, usize),
        on_device: bool,
        join: impl Fn(&Handle),
    ) -> (Vec<Seen>, Vec<Vec<u8>>) {
        let Mode { dtype, precision, moments, nonfinite, .. } = self;
        let (clip, clip_norm) = (ADAMW_CLIP_GLOBAL_NORM, 0.75);
        let limits = adamw_config { clip, clip_norm, nonfinite, ..config() };
        let handle = Handle::new(&adamw_config { precision, moments, ..limits });
        // The middle is no multiple of a block of the norm, but one of a block of codes.
        let range = |n: usize| {
            let middle = n / 3 / 256 * 256;
            if of == 1 { 0..n } else { [0..middle, middle..n][rank].clone() }
        };
        let values = |seed: u64| {
            let mut random = Random::new(seed);
            LENGTHS.map(|n| Array::ordinary(dtype, n, &mut random))
        };
        let place = |(i, whole): (usize, Array)| {
            let array = whole.copy(range(whole.len()), 0);
            let place = Place::of(&array, on_device);
            let (name, mut tensors) = (format!("layer.{i}"), [None; 9]);
            tensors[0] = Some(place.tensor());
            let param = Param {
                first_element: range(LENGTHS[i]).start as u64,
                whole_elements: LENGTHS[i] as u64,
                offload: on_device,
                ..Param::new(&name, &array)
            };
            handle.try_add_tensors(&param, tensors).unwrap();
            place
        };
        let params = values(1).into_iter().enumerate().map(place).collect::<Vec<_>>();
        join(&handle);
        let mut seen = Vec::new();
        for step in 0..STEPS {
            let wholes = values(100 + step);
            if step == 2 && nonfinite != ADAMW_NONFINITE_PROPAGATE {
                wholes[0].set(100, f64::NAN);
            }
            let cut = |whole: &Array| {
                let part = whole.copy(range(whole.len()), 0);
                Place::of(&part, on_device && self.grads_there)
            };
            let grads: Vec<_> = wholes.iter().map(cut).collect();
            // Two of the rows of one element at the end.
            let listed = rank == of - 1;
            let (end, rows) = (range(LENGTHS[2]).len(), if listed { 2 } else { 0 });
            let numbers: Vec<_> = (end - rows..end).collect();
            let list = Rows::i64(&numbers);
            let listed = wholes[2].copy(LENGTHS[2] - rows..LENGTHS[2], 0);
            for (number, grad) in (0..).zip(&grads) {
                match number == 2 && self.lists {
                    true => handle.set_sparse_grad(number, &list, &listed),
                    false => handle.set_grad_tensor(number, &grad.tensor()).unwrap(),
                }
            }
            let failed = handle.try_step().is_err();
            let info = handle.step_info();
            let bits = [info.grad_norm, info.clip_factor].map(|x| x.max(0.0).to_bits());
            seen.push((failed, info.skipped, bits[0], bits[1]));
        }
        (seen, params.iter().map(|place| place.array().bytes()).collect())
    }
}

#[test]
fn ranks_whose_parameters_are_offloaded_have_the_bits_of_one_handle_in_the_hosts_memory() {
    for settings in [&[][..], &[("lazy", "1"), ("shuffle", "3")]] {
        let _device = Device::with(settings);
        for mode in MODES {
            let (seen, whole) = mode.train((0, 1), false, |_| ());
            let parts = on_ranks(N_RANKS, |rank, meeting| {
                Device::enter();
                mode.train((rank, N_RANKS), true, |handle| meeting.join(handle).unwrap())
            });
            assert!(parts.iter().all(|part| part.0 == seen), "{mode:?}: {seen:?}, {parts:?}");
            for (i, whole) in whole.iter().enumerate() {
                let joined: Vec<u8> = parts.iter().flat_map(|part| part.1[i].clone()).collect();
                assert!(joined == *whole, "{mode:?}: layer.{i}");
            }
        }
    }
}

/// What became of a rank in a step in which a call of the driver failed.
#[derive(Clone, Copy, PartialEq, Debug)]
enum End {
    Stepped,
    Undone,
    Unusable,
}

#[test]
fn where_the_device_of_a_rank_fails_no_rank_has_stepped_or_its_handle_is_unusable() {
    for nonfinite in [ADAMW_NONFINITE_PROPAGATE, ADAMW_NONFINITE_SKIP] {
        fails_at_each_call(nonfinite);
    }
}

fn fails_at_each_call(nonfinite: adamw_nonfinite) {
    let mut ends = Vec::new();
    let is_over = AtomicBool::new(false);
    for nth in 1.. {
        let _device = Device::new();
        let all = Barrier::new(N_RANKS);
        let of_ranks = on_ranks(N_RANKS, |rank, meeting| {
            Device::enter();
            let handle = Handle::new(&adamw_config { nonfinite, ..config() });
            let ones = Array::of(Dtype::F32, &[1.0; 256]);
            let [param, grad] = [(); 2].map(|()| Place::of(&ones, true));
            let mut tensors = [None; 9];
            tensors[0] = Some(param.tensor());
            let first_element = 256 * rank as u64;
            let part = Param { first_element, whole_elements: 512, ..Param::new("w", &ones) };
            handle.try_add_tensors(&Param { offload: true, ..part }, tensors).unwrap();
            meeting.join(&handle).unwrap();
            handle.set_grad_tensor(0, &grad.tensor()).unwrap();
            handle.step();
            if all.wait().is_leader() {
                take_log();
                device::set("fail", &format!("*:{nth}:1"));
            }
            all.wait();
            let stepped = handle.try_step();
            if all.wait().is_leader() {
                device::set("fail", "");
                is_over
                    .store(!take_log().iter().any(|line| line.ends_with("-> 1")), Ordering::SeqCst);
            }
            all.wait();
            let is_unusable =
                handle.try_info(0).is_err_and(|failure| failure.status == Status::Poisoned);
            match (stepped, is_unusable) {
                (Ok(()), false) => End::Stepped,
                (Err(_), false) => End::Undone,
                (Err(failure), true) => {
                    assert!(failure.text.contains("in the middle of a step"), "{failure:?}");
                    End::Unusable
                }
                (Ok(()), true) => panic!("{nth}"),
            }
        });
        if is_over.load(Ordering::SeqCst) {
            break;
        }
        let has = |end| of_ranks.contains(&end);
        assert!(!(has(End::Stepped) && has(End::Undone)), "{nth}: {of_ranks:?}");
        ends.extend(of_ranks);
    }
    for end in [End::Stepped, End::Undone, End::Unusable] {
        assert!(ends.contains(&end), "{end:?}: {ends:?}");
    }
}
