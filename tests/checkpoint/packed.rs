//! Many parameters, whose state is packed: it is loaded as it would be under names of its own, by whatever
//! handle, and a file that says something else is refused.

use crate::common::array::{Array, Dtype};
use crate::common::checkpoint::{in_memory, load_options, sealed};
use crate::common::handle::{Handle, Param, config};
use crate::common::random::Random;
use crate::hostile::with_tensor;
use adamw::ffi::*;
use safetensors::SafeTensors;

/// More than have names of their own.
const MANY: usize = 4097;

const GROUPS: [(adamw_precision, adamw_moments); 5] = [
    (ADAMW_PRECISION_DEFAULT, ADAMW_MOMENTS_F32),
    (ADAMW_PRECISION_SPLIT, ADAMW_MOMENTS_8BIT),
    (ADAMW_PRECISION_KAHAN, ADAMW_MOMENTS_BF16),
    (ADAMW_PRECISION_STOCHASTIC, ADAMW_MOMENTS_F32),
    (ADAMW_PRECISION_DEFAULT, ADAMW_MOMENTS_4BIT),
];

/// Parameters of every kind, of which a handle has those of some numbers, in this order.
struct World {
    handle: Handle,
    params: Vec<Array>,
    numbers: Vec<usize>,
}

impl World {
    fn new(numbers: impl IntoIterator<Item = usize>) -> World {
        let handle = Handle::new(&adamw_config { multi_precision: 1, seed: 7, ..config() });
        for (precision, moments) in &GROUPS[1..] {
            handle.add_group(|group| {
                (group.precision, group.moments, group.lr_scale) = (*precision, *moments, 0.5);
            });
        }
        let numbers: Vec<_> = numbers.into_iter().collect();
        let params: Vec<_> = numbers.iter().map(|number| World::add(&handle, *number)).collect();
        World { handle, params, numbers }
    }

    fn add(handle: &Handle, number: usize) -> Array {
        const DTYPES: [Dtype; 4] = [Dtype::F32, Dtype::F64, Dtype::Bf16, Dtype::F16];
        let (dtype, group) = match number % 7 {
            of @ 0..4 => (DTYPES[of], 0),
            4 => (Dtype::Bf16, 1 + number % 3),
            5 => (Dtype::F16, 2),
            _ => (Dtype::F32, 4),
        };
        // Moments of few elements are not in codes, and a parameter may have none.
        let length = if number % 512 < 7 { 4096 + number } else { number % 5 };
        let param = Array::ordinary(dtype, length, &mut Random::new(number as u64));
        let name = format!("layer.{number}.ä");
        let id = handle.add(&Param {
            group: group as u32,
            no_clip: number.is_multiple_of(11),
            regularizer: match number % 13 {
                0 => (ADAMW_REGULARIZER_L2, 0.125),
                _ => (ADAMW_REGULARIZER_NONE, 0.0),
            },
            ..Param::new(&name, &param)
        });
        if number.is_multiple_of(17) {
            handle.edit_options(id, |options| options.lr_scale = 1.0 + number as f64);
        }
        param
    }

    /// Takes some steps, in which every third parameter has no gradient at times.
    fn train(&self, steps: core::ops::Range<u64>) {
        for step in steps {
            let grads = self.params.iter().zip(&self.numbers).map(|(param, number)| {
                let mut random = Random::new(step << 32 | *number as u64);
                Array::ordinary(param.dtype(), param.len(), &mut random)
            });
            let grads: Vec<_> = grads.collect();
            for (id, (grad, number)) in (0..).zip(grads.iter().zip(&self.numbers)) {
                if number % 3 != 0 || step % 2 == 0 {
                    self.handle.set_grad(id, grad);
                }
            }
            self.handle.step();
            self.handle.clear_grad(ADAMW_CLEAR_FORGET);
        }
    }
}

fn with_params() -> adamw_load_options {
    adamw_load_options { params: 1, ..load_options() }
}

fn format(bytes: &[u8]) -> char {
    const START: &str = "{\"__metadata__\":{\"adamw_checkpoint\":\"";
    bytes[8 + START.len()].into()
}

#[test]
fn packed_state_goes_on_with_the_same_bits_in_whatever_order_parameters_are_added() {
    let first = World::new(0..MANY);
    first.train(0..2);
    for params in [false, true] {
        let saved = first.handle.saved(params);
        assert_eq!(format(&saved), '2');
        assert!(SafeTensors::deserialize(&saved).is_ok());
        assert!(first.handle.saved_beside(params, || ()) == saved);
    }
    let saved = first.handle.saved(true);
    let same = World::new(0..MANY);
    same.handle.load_bytes(&saved, &with_params()).unwrap();
    assert!(same.handle.saved(true) == saved);
    first.train(2..4);
    same.train(2..4);
    let trained = first.handle.saved(true);
    assert!(same.handle.saved(true) == trained);
    let other_order = World::new((0..MANY).map(|number| number * 1000 % MANY));
    other_order.handle.load_bytes(&saved, &with_params()).unwrap();
    other_order.train(2..4);
    // What it saves has the first order again once the first handle has loaded it.
    same.handle.load_bytes(&other_order.handle.saved(true), &with_params()).unwrap();
    assert!(same.handle.saved(true) == trained);
}

#[test]
fn few_and_many_parameters_load_from_each_other() {
    let (many, few) = (World::new(0..MANY), World::new(1000..1020));
    many.train(0..2);
    let (packed, named) = (many.handle.saved(true), few.handle.saved(true));
    assert_eq!((format(&packed), format(&named)), ('2', '1'));
    let subset = adamw_load_options { scope: ADAMW_LOAD_SUBSET, ..with_params() };
    few.handle.load_bytes(&packed, &subset).unwrap();
    let some = World::new(1000..1020);
    some.train(0..2);
    assert!(few.handle.saved(true) == some.handle.saved(true));
    // Files of both kinds together are one checkpoint.
    let [left, right] = [World::new(0..10), World::new(10..MANY + 20)];
    left.train(0..1);
    right.train(0..1);
    let all = World::new(0..MANY + 20);
    let parts = [&left, &right].map(|world| world.handle.saved(true));
    all.handle.load_from(&parts.each_ref().map(|part| in_memory(part)), &with_params()).unwrap();
    let whole = World::new(0..MANY + 20);
    whole.train(0..1);
    assert!(all.handle.saved(true) == whole.handle.saved(true));
    let failure = few.handle.load_bytes(&packed, &with_params()).unwrap_err();
    assert_eq!(failure.status, Status::Mismatch);
    assert!(failure.text.contains("layer.0.ä"), "{}", failure.text);
    let failure = whole.handle.load_bytes(&packed, &with_params()).unwrap_err();
    assert!(failure.text.contains(&format!("layer.{MANY}.ä")), "{}", failure.text);
}

#[test]
fn ranges_of_many_parameters_are_put_together() {
    let lengths = |number: usize| 2 + number % 3;
    let world = |cut: &dyn Fn(usize) -> core::ops::Range<usize>| {
        let handle = Handle::new(&config());
        let arrays = (0..MANY).map(|number| {
            let whole =
                Array::ordinary(Dtype::F32, lengths(number), &mut Random::new(number as u64));
            let range = cut(number);
            let part = Array::zeros(Dtype::F32, range.len());
            range.clone().enumerate().for_each(|(to, from)| part.set(to, whole.get(from)));
            let name = format!("p{number}");
            handle.add(&Param {
                first_element: range.start as u64,
                whole_elements: lengths(number) as u64,
                ..Param::new(&name, &part)
            });
            let grad = Array::of(Dtype::F32, &vec![0.5 + number as f64; range.len()]);
            handle.set_grad(number as u32, &grad);
            (part, grad)
        });
        let arrays: Vec<_> = arrays.collect();
        handle.step();
        (handle, arrays)
    };
    let left = world(&|_| 0..1);
    let right = world(&|number| 1..lengths(number));
    let whole = world(&|number| 0..lengths(number));
    let expected = whole.0.saved(true);
    let sources = [left.0.saved(true), right.0.saved(true)];
    whole.0.step();
    whole.0.load_from(&sources.each_ref().map(|part| in_memory(part)), &with_params()).unwrap();
    assert!(whole.0.saved(true) == expected);
}

#[test]
fn settings_of_packed_parameters_are_compared() {
    let saved = World::new(0..MANY).handle.saved(false);
    let other = World::new(0..MANY);
    other.handle.edit_options(4000, |options| options.lr_scale = 3.0);
    let failure = other.handle.load_bytes(&saved, &load_options()).unwrap_err();
    let text = "param_groups.layer.4000.ä.lr_scale is 3.0 (saved: unset)";
    assert!(failure.text.contains(text), "{}", failure.text);
}

/// A file, and what a load of it into the handle that saved it says.
type Change<'a> = (Vec<u8>, &'a str);

#[test]
fn columns_that_say_something_else_are_refused() {
    let world = World::new(0..MANY);
    let bytes = world.handle.saved(true);
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let edited = |name: &str, edit: &dyn Fn(&mut Vec<u8>)| {
        let mut value = tensors.tensor(name).unwrap().data().to_vec();
        edit(&mut value);
        with_tensor(&bytes, name, &value)
    };
    let set = |at: usize, word: u64| {
        move |value: &mut Vec<u8>| value[at..at + 8].copy_from_slice(&word.to_le_bytes())
    };
    let renamed = |from: &str, to: &str| {
        let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        let text = String::from_utf8(bytes[8..8 + length].to_vec()).unwrap();
        assert!(text.contains(from), "{from}");
        sealed(text.replacen(from, to, 1), &bytes[8 + length..])
    };
    let twice = |names: &mut Vec<u8>| names.copy_within(0..10, 11);
    let changes: Vec<Change> = vec![
        (edited("params.n_elements", &set(8 * 9, 1)), "a packed tensor is too long"),
        (edited("params.n_elements", &set(8 * 9, 5)), "a packed tensor is too short"),
        (edited("params.n_elements", &set(8 * 9, u64::MAX)), "a packed tensor is too short"),
        (edited("params.kind", &|kind| kind[..4].fill(0xff)), "of an unknown kind"),
        (edited("params.kinds", &|words| words[0] = 0xff), "the kinds of its parameters"),
        (edited("params.kinds", &|words| *words.last_mut().unwrap() = b'x'), "the kinds of its"),
        (edited("params.name", &|names| names[3] = 0), "its names are not those"),
        (edited("params.name", &|names| names[3] = 0xff), "its names are not those"),
        (edited("params.name", &|names| *names.last_mut().unwrap() = b'x'), "its names are not"),
        (edited("params.name", &twice), "\"layer.0.ä\" is there twice"),
        (edited("params.beta1_power", &set(0, f64::NAN.to_bits())), "\"layer.0.ä\" is missing or"),
        (renamed("params.step", "params.stop"), "\"step\" is missing or not"),
        (renamed("state.exp_avg.F32", "state.exp_avg.F3x"), "the kinds of its parameters"),
        (renamed("adamw_checkpoint\":\"2", "adamw_checkpoint\":\"1"), "no state of these params"),
    ];
    for (file, text) in changes {
        let failure = world.handle.load_bytes(&file, &with_params()).expect_err(text);
        assert!(failure.text.contains(text), "{text}: {}", failure.text);
        assert!(world.handle.saved(true) == bytes, "{text}");
    }
}
