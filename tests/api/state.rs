//! The state of a parameter: the same in the host's memory as in the library's, enough to go on
//! from in another handle, and free to move.

use crate::common::array::{Array, Dtype};
use crate::common::handle::{Handle, Param, config};
use crate::common::kind::Kind;
use crate::common::oracle::{Hyper, Oracle};
use crate::common::random::Random;
use crate::common::tensors::Tensors;
use adamw::ffi::{self, Status};

pub const N: usize = 1037;
pub const STEPS: usize = 5;

/// A parameter at the start of its training, and its gradients.
pub struct Training {
    kind: Kind,
    pub start: Array,
    pub grads: Vec<Array>,
}

impl Training {
    pub fn new(kind: Kind) -> Training {
        let mut random = Random::new(7);
        Training {
            kind,
            start: Array::ordinary(kind.param, N, &mut random),
            grads: (0..STEPS).map(|_| Array::ordinary(kind.grad, N, &mut random)).collect(),
        }
    }

    pub fn handle(&self) -> Handle {
        let mut config = config();
        config.lr = 0.1;
        config.amsgrad = self.kind.amsgrad.into();
        config.maximize = self.kind.maximize.into();
        config.multi_precision = self.kind.master.into();
        Handle::new(&config)
    }

    pub fn step(&self, handle: &Handle, number: u32, steps: core::ops::Range<usize>) {
        for grad in &self.grads[steps] {
            handle.set_grad(number, grad);
            handle.step();
        }
    }

    /// All the steps in one handle, with the host's state.
    pub fn uninterrupted(&self) -> Tensors {
        let (tensors, handle) = (Tensors::fresh(self.kind, &self.start), self.handle());
        let number = tensors.add_to(&handle, "w", 0);
        self.step(&handle, number, 0..STEPS);
        tensors
    }
}

#[test]
fn state_of_the_librarys_gives_the_same_bits_as_the_hosts() {
    for kind in Kind::all() {
        let training = Training::new(kind);
        let (handle, param) = (training.handle(), training.start.duplicate());
        let number = handle.add_array("w", &param);
        training.step(&handle, number, 0..STEPS);
        assert_eq!(param.first_difference(&training.uninterrupted().param), None, "{kind:?}");
    }
}

#[test]
fn training_goes_on_in_another_handle_as_if_uninterrupted() {
    for kind in Kind::all() {
        let training = Training::new(kind);
        for pause in [1, 3] {
            let (before, first) = (Tensors::fresh(kind, &training.start), training.handle());
            let number = before.add_to(&first, "w", 0);
            training.step(&first, number, 0..pause);
            let taken = first.info(number).step;
            drop(first);

            let (after, second) = (before.duplicate(), training.handle());
            let number = after.add_to(&second, "w", taken);
            training.step(&second, number, pause..STEPS);
            assert_eq!(second.info(number).step, STEPS as u64);
            after.assert_same(&training.uninterrupted(), || format!("{kind:?} {pause}"));
        }
    }
}

#[test]
fn steps_taken_need_all_of_their_state() {
    let kind = Kind { master: true, amsgrad: true, ..Kind::plain(Dtype::F16) };
    let training = Training::new(kind);
    let tensors = Tensors::fresh(kind, &training.start);
    let handle = training.handle();
    let whole = Param {
        master: tensors.master.as_ref(),
        exp_avg: Some(&tensors.exp_avg),
        exp_avg_sq: Some(&tensors.exp_avg_sq),
        max_exp_avg_sq: tensors.max_exp_avg_sq.as_ref(),
        step: 1,
        ..Param::new("w", &tensors.param)
    };
    for (missing, param) in [
        ("master", Param { master: None, ..whole }),
        ("exp_avg", Param { exp_avg: None, ..whole }),
        ("exp_avg_sq", Param { exp_avg_sq: None, ..whole }),
        ("max_exp_avg_sq", Param { max_exp_avg_sq: None, ..whole }),
    ] {
        let refused = handle.try_add(&param).unwrap_err();
        assert_eq!(refused.status, Status::InvalidArgument);
        assert!(refused.text.contains(missing), "{}", refused.text);
    }
    assert_eq!(handle.add(&whole), 0);
}

#[test]
fn a_parameter_may_be_older_than_an_f32_counts() {
    let hyper = Hyper { lr: 0.1, beta1: 0.9, beta2: 0.999_999_9, eps: 1e-8, weight_decay: 0.01 };
    let taken = (1 << 24) + 1;
    for dtype in Dtype::ALL {
        let kind = Kind::plain(dtype);
        let training = Training::new(kind);
        let mut config = config();
        config.lr = hyper.lr;
        config.beta2 = hyper.beta2;
        let (tensors, handle) = (Tensors::fresh(kind, &training.start), Handle::new(&config));
        let number = tensors.add_to(&handle, "w", taken);
        training.step(&handle, number, 0..1);
        assert_eq!(handle.info(number).step, taken + 1);

        let expected = Tensors::fresh(kind, &training.start);
        Oracle::after(hyper, kind, taken).step(&expected, &training.grads[0]);
        tensors.assert_same(&expected, || format!("{dtype:?}"));
    }
}

/// Each array of a parameter with the buffer that it is to `adamw_rebind`.
pub fn buffers(tensors: &Tensors) -> impl Iterator<Item = (ffi::adamw_buffer, &Array)> {
    tensors.arrays().map(|(name, array)| {
        let buffer = match name {
            "param" => ffi::ADAMW_BUFFER_PARAM,
            "master" => ffi::ADAMW_BUFFER_MASTER,
            "exp_avg" => ffi::ADAMW_BUFFER_EXP_AVG,
            "exp_avg_sq" => ffi::ADAMW_BUFFER_EXP_AVG_SQ,
            _ => ffi::ADAMW_BUFFER_MAX_EXP_AVG_SQ,
        };
        (buffer, array)
    })
}

#[test]
fn training_goes_on_where_the_host_has_moved_it() {
    for kind in Kind::all() {
        let training = Training::new(kind);
        let (old, handle) = (Tensors::fresh(kind, &training.start), training.handle());
        let number = old.add_to(&handle, "w", 0);
        training.step(&handle, number, 0..2);

        let new = old.copy(0..N, 3);
        let left_behind = old.duplicate();
        let moves: Vec<_> = buffers(&new).map(|(buffer, array)| (number, buffer, array)).collect();
        handle.rebind(&moves).unwrap();
        training.step(&handle, number, 2..STEPS);
        new.assert_same(&training.uninterrupted(), || format!("{kind:?}"));
        old.assert_same(&left_behind, || format!("{kind:?}: written after it was moved"));
        assert_eq!(handle.info(number).step, STEPS as u64);
    }
}

#[test]
fn buffers_move_all_together_or_not_at_all() {
    let kind = Kind::plain(Dtype::F32);
    let training = Training::new(kind);
    let (tensors, handle) = (Tensors::fresh(kind, &training.start), training.handle());
    let own = training.start.duplicate();
    let number = tensors.add_to(&handle, "hosts", 0);
    let librarys = handle.add_array("librarys", &own);
    let (elsewhere, short) = (Array::zeros(Dtype::F32, N), Array::zeros(Dtype::F32, N - 1));
    for (wrong, status) in [
        ((number, ffi::ADAMW_BUFFER_EXP_AVG, &short), Status::InvalidArgument),
        ((number, ffi::ADAMW_BUFFER_MASTER, &elsewhere), Status::InvalidArgument),
        ((librarys, ffi::ADAMW_BUFFER_EXP_AVG, &elsewhere), Status::InvalidArgument),
        ((number, ffi::ADAMW_BUFFER_EXP_AVG, &own), Status::InvalidArgument),
        ((5, ffi::ADAMW_BUFFER_PARAM, &elsewhere), Status::NotFound),
    ] {
        let target = Array::zeros(Dtype::F32, N);
        let moves = [(number, ffi::ADAMW_BUFFER_PARAM, &target), wrong];
        assert_eq!(handle.rebind(&moves).unwrap_err().status, status);
    }
    training.step(&handle, number, 0..STEPS);
    tensors.assert_same(&training.uninterrupted(), || "after refused moves".to_owned());
}

#[test]
fn two_parameters_may_change_places() {
    let kind = Kind::plain(Dtype::F32);
    let training = Training::new(kind);
    let (a, b, handle) =
        (training.start.duplicate(), Array::zeros(Dtype::F32, N), training.handle());
    let (at, bt) = (handle.add_array("a", &a), handle.add_array("b", &b));
    training.step(&handle, at, 0..2);
    let values = a.values();
    (0..N).for_each(|i| b.set(i, values[i]));
    a.fill(0.0);
    handle.rebind(&[(at, ffi::ADAMW_BUFFER_PARAM, &b), (bt, ffi::ADAMW_BUFFER_PARAM, &a)]).unwrap();
    training.step(&handle, at, 2..STEPS);
    assert_eq!(b.first_difference(&training.uninterrupted().param), None);
    assert_eq!(a.first_difference(&Array::zeros(Dtype::F32, N)), None);
}

/// Two steps, then the host writes the parameter, then one more.
fn written_by_the_host(kind: Kind, sync: bool) -> Tensors {
    let training = Training::new(kind);
    let (tensors, handle) = (Tensors::fresh(kind, &training.start), training.handle());
    let number = tensors.add_to(&handle, "w", 0);
    training.step(&handle, number, 0..2);
    tensors.param.fill(0.75);
    if sync {
        handle.sync_master(number);
        let master = tensors.master.as_ref().unwrap_or(&tensors.param);
        assert!(master.values().iter().all(|value| *value == 0.75));
    }
    training.step(&handle, number, 2..3);
    tensors
}

#[test]
fn a_written_parameter_counts_once_its_master_is_synced() {
    for param in [Dtype::F16, Dtype::Bf16] {
        let kind = Kind { master: true, ..Kind::plain(param) };
        let synced = written_by_the_host(kind, true);
        let overwritten = written_by_the_host(kind, false);
        // One step of lr 0.1 moves an element by little more than that.
        let near = |value: &f64| (value - 0.75).abs() < 0.2;
        assert!(synced.param.values().iter().all(near));
        assert!(!overwritten.param.values().iter().all(near));
    }
}

#[test]
fn where_there_is_no_master_there_is_nothing_to_sync() {
    for dtype in Dtype::ALL {
        let synced = written_by_the_host(Kind::plain(dtype), true);
        let plain = written_by_the_host(Kind::plain(dtype), false);
        synced.assert_same(&plain, || format!("{dtype:?}"));
    }
}

#[test]
fn the_librarys_master_starts_as_the_parameter_is_at_its_first_step() {
    let kind = Kind { master: true, ..Kind::plain(Dtype::Bf16) };
    let training = Training::new(kind);
    let (handle, param) = (training.handle(), Array::zeros(Dtype::Bf16, N));
    let number = handle.add_array("w", &param);
    (0..N).for_each(|i| param.set_bits(i, training.start.bits(i)));
    training.step(&handle, number, 0..STEPS);
    assert_eq!(param.first_difference(&training.uninterrupted().param), None);
}

#[test]
fn a_hosts_master_that_nobody_filled_fails_the_first_step() {
    for dtype in [Dtype::F16, Dtype::Bf16] {
        let kind = Kind { master: true, ..Kind::plain(dtype) };
        let n = 1300;
        let mut random = Random::new(2);
        let param = Array::ordinary(dtype, n, &mut random);
        let grad = Array::ordinary(dtype, n, &mut random);
        let run = |spoil: &dyn Fn(&Tensors), step: u64| {
            let tensors = Tensors::fresh(kind, &param);
            spoil(&tensors);
            let handle = Handle::new(&ffi::adamw_config { multi_precision: 1, ..config() });
            let number = tensors.add_to(&handle, "w", step);
            handle.set_grad(number, &grad);
            let before = tensors.duplicate();
            let stepped = handle.try_step();
            if stepped.is_err() {
                tensors.assert_same(&before, || format!("{dtype:?}"));
                handle.sync_master(number);
                handle.step();
            }
            stepped.map_err(|failure| failure.text)
        };
        let master = |tensors: &Tensors, i: usize, value: f64| {
            tensors.master.as_ref().unwrap().set(i, value);
        };
        let text = |element: usize| {
            Err(format!(
                "param \"w\": element {element} of master does not round to param: \
                 adamw_sync_master fills a master"
            ))
        };
        assert_eq!(run(&|_| (), 0), Ok(()));
        assert_eq!(run(&|tensors| master(tensors, 1299, 7.0), 0), text(1299));
        assert_eq!(run(&|tensors| tensors.master.as_ref().unwrap().fill(0.0), 0), text(0));
        // What was rounded another way is the same number, and steps taken bring what they bring.
        let finer = |tensors: &Tensors| {
            for i in 0..n {
                master(tensors, i, param.get(i) * (1.0 + 0.9 * dtype_epsilon(dtype)));
            }
        };
        assert_eq!(run(&finer, 0), Ok(()));
        assert_eq!(run(&|tensors| master(tensors, 5, 7.0), 3), Ok(()));
    }
}

/// Half the distance from 1 to the next number.
fn dtype_epsilon(dtype: Dtype) -> f64 {
    if dtype == Dtype::F16 { 2f64.powi(-11) } else { 2f64.powi(-8) }
}

#[test]
fn means_of_squares_that_are_negative_are_refused_by_name_and_element() {
    for (dtype, moments) in [
        (Dtype::F32, ffi::ADAMW_MOMENTS_F32),
        (Dtype::F64, ffi::ADAMW_MOMENTS_F32),
        (Dtype::F32, ffi::ADAMW_MOMENTS_BF16),
    ] {
        let handle = Handle::new(&ffi::adamw_config { amsgrad: 1, moments, ..config() });
        let param = Array::of(dtype, &[1.0; 5]);
        handle.add_array("w", &param);
        let kept = if moments == ffi::ADAMW_MOMENTS_BF16 { Dtype::Bf16 } else { dtype };
        for (name, is_refused) in
            [("exp_avg", false), ("exp_avg_sq", true), ("max_exp_avg_sq", true)]
        {
            let name = format!("state.w.{name}");
            let before = Array::of(kept, &[0.5; 5]);
            handle.set_state(&name, &before).unwrap();
            for value in [-1.0, f64::NEG_INFINITY, -1e-38] {
                let set = handle.set_state(&name, &Array::of(kept, &[0.0, 1.0, -0.0, value, -2.0]));
                let now = Array::zeros(kept, 5);
                handle.get_state(&name, &now).unwrap();
                if !is_refused {
                    assert_eq!((set, now.get(3)), (Ok(()), Array::of(kept, &[value]).get(0)));
                    continue;
                }
                let failure = set.unwrap_err();
                assert_eq!(failure.status, Status::InvalidArgument);
                let value = format!("{:?}", Array::of(kept, &[value]).get(0));
                let value = value.strip_suffix(".0").unwrap_or(&value);
                let text = format!("element 3 is {value}, expected >= 0, as means of squares are");
                assert_eq!(failure.text, format!("state \"{name}\": {text}"));
                assert_eq!(now.first_difference(&before), None);
            }
            // What a checkpoint may hold too.
            let odd = Array::of(kept, &[0.0, -0.0, f64::INFINITY, f64::NAN, -f64::NAN]);
            handle.set_state(&name, &odd).unwrap();
        }
    }
}

#[test]
fn steps_that_would_take_long_to_multiply_up_are_refused_at_once() {
    let slow = 1.0 - 1e-9;
    for (beta, step, is_taken) in [
        (0.999, (1u64 << 32) as f64, true),
        (slow, 1e6, true),
        (slow, (1u64 << 25) as f64, true),
        (slow, (1u64 << 25) as f64 + 1.0, false),
        (slow, (1u64 << 32) as f64, false),
    ] {
        let handle = Handle::new(&ffi::adamw_config { beta1: beta, beta2: beta, ..config() });
        let [param, m, v] = [0; 3].map(|_| Array::zeros(Dtype::F32, 1));
        handle.add_array("w", &param);
        let set = handle.set_state("state.w.step", &Array::of(Dtype::F64, &[step]));
        let other = Array::zeros(Dtype::F32, 1);
        let new = Param {
            exp_avg: Some(&m),
            exp_avg_sq: Some(&v),
            step: step as u64,
            ..Param::new("v", &other)
        };
        let added = handle.try_add(&new);
        let expected = "expected at most 2^25 with a beta whose power still falls then \
                        (adamw_set_state sets powers by themselves)";
        assert_eq!((set.is_ok(), added.is_ok()), (is_taken, is_taken), "{beta} {step}");
        if let Err(failure) = set {
            assert!(failure.text.ends_with(expected), "{}", failure.text);
            assert!(added.unwrap_err().text.ends_with(expected));
            assert_eq!(handle.info(0).step, 0);
            continue;
        }
        // The bits of one multiplication a step.
        let (mut product, to) = (1.0, Array::zeros(Dtype::F64, 1));
        (0..step as u64).take(1 << 25).for_each(|_| product *= beta);
        for name in ["state.w.beta1_power", "state.v.beta2_power"] {
            handle.get_state(name, &to).unwrap();
            assert_eq!(to.get(0).to_bits(), product.to_bits(), "{beta} {step}");
        }
    }
}
