//! Tensors whose dimensions lie in any order in memory, and rows of the width that a parameter has.

use crate::common::array::{Array, Dtype};
use crate::common::checkpoint::load_options;
use crate::common::device::{Device, OnDevice};
use crate::common::handle::{Answer, Handle, Param, config};
use crate::common::random::Random;
use crate::common::rows::Rows;
use crate::common::state::state;
use adamw::ffi::*;

/// A shape, and the strides of an order of its dimensions in memory.
struct Layout {
    shape: Vec<i64>,
    strides: Vec<i64>,
}

impl Layout {
    /// `order` has all dimensions, the outermost first.
    fn new(shape: &[i64], order: &[usize]) -> Layout {
        let mut strides = vec![0; shape.len()];
        order.iter().rev().fold(1, |stride, &dimension| {
            strides[dimension] = stride;
            stride * shape[dimension]
        });
        Layout { shape: shape.to_vec(), strides }
    }

    /// An array's memory under this layout.
    fn of(&self, tensor: adamw_tensor) -> adamw_tensor {
        adamw_tensor {
            ndim: self.shape.len() as i32,
            shape: self.shape.as_ptr().cast_mut(),
            strides: self.strides.as_ptr().cast_mut(),
            ..tensor
        }
    }
}

const SHAPE: [i64; 4] = [16, 3, 1, 100];
const N: usize = 4800;
const ORDERS: [[usize; 4]; 3] = [[0, 2, 3, 1], [3, 1, 0, 2], [1, 0, 2, 3]];

fn add(handle: &Handle, param: &Param, tensor: adamw_tensor) -> Answer<u32> {
    let mut tensors = [None; 9];
    tensors[0] = Some(tensor);
    handle.try_add_tensors(param, tensors)
}

/// Where a parameter is.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Place {
    Here,
    There,
    Offloaded,
}

/// A parameter after some steps, and its state, under a layout or as a plain array.
fn trained(
    edit: fn(&mut adamw_config),
    dtype: Dtype,
    layout: Option<&Layout>,
    place: Place,
) -> Vec<Array> {
    let mut config = adamw_config { lr: 0.1, ..config() };
    edit(&mut config);
    let (handle, random) = (Handle::new(&config), &mut Random::new(5));
    let (param, grad) = (Array::ordinary(dtype, N, random), Array::ordinary(dtype, N, random));
    let there = (place != Place::Here).then(|| [&param, &grad].map(|array| OnDevice::of(array, 0)));
    let of = |which: usize| {
        let tensor = match &there {
            Some(there) => there[which].tensor(),
            None => [&param, &grad][which].tensor(),
        };
        layout.map_or(tensor, |layout| layout.of(tensor))
    };
    let offload = place == Place::Offloaded;
    add(&handle, &Param { offload, ..Param::new("w", &param) }, of(0)).unwrap();
    handle.set_grad_tensor(0, &of(1)).unwrap();
    handle.step();
    handle.forget_grad(0);
    handle.accumulate_tensor(0, &of(1)).unwrap();
    handle.step();
    handle.apply_gradient_tensors(&[(0, of(1))]).unwrap();
    handle.rebind_tensors(&[(0, ADAMW_BUFFER_PARAM, of(0))]).unwrap();
    // A plain array is the memory as it is.
    if place == Place::Here {
        handle.set_grad_data(None, &[grad.data()]).unwrap();
        handle.step();
        handle.set_grad_array(0, &grad);
    } else {
        handle.set_grad_tensor(0, &there.as_ref().unwrap()[1].tensor()).unwrap();
        handle.step();
    }
    handle.step();
    let itself = there.as_ref().map(|there| there[0].array().unwrap());
    let parts = state(&handle, 0, "w").into_iter().map(|(_, array)| array);
    [itself.unwrap_or(param)].into_iter().chain(parts).collect()
}

#[test]
fn memory_in_any_order_is_stepped_as_a_plain_array_is() {
    let _device = Device::new();
    let edits: [fn(&mut adamw_config); 4] = [
        |_| (),
        |config| (config.multi_precision, config.amsgrad) = (1, 1),
        |config| config.moments = ADAMW_MOMENTS_8BIT,
        |config| (config.clip, config.clip_norm) = (ADAMW_CLIP_GLOBAL_NORM, 0.5),
    ];
    for dtype in [Dtype::F32, Dtype::Bf16] {
        for edit in edits {
            for place in [Place::Here, Place::There, Place::Offloaded] {
                let plain = trained(edit, dtype, None, place);
                for order in ORDERS {
                    let layout = Layout::new(&SHAPE, &order);
                    let strided = trained(edit, dtype, Some(&layout), place);
                    assert_eq!(strided.len(), plain.len());
                    for (strided, plain) in strided.iter().zip(&plain) {
                        let difference = strided.first_difference(plain);
                        assert_eq!(difference, None, "{dtype:?} {place:?} {order:?}");
                    }
                }
            }
        }
    }
}

#[test]
fn state_of_the_hosts_lies_as_its_parameter() {
    let layout = Layout::new(&SHAPE, &ORDERS[1]);
    let [param, first, second] = [(); 3].map(|()| Array::zeros(Dtype::F32, N));
    let handle = Handle::new(&config());
    let mut tensors = [None; 9];
    tensors[0] = Some(layout.of(param.tensor()));
    tensors[2] = Some(layout.of(first.tensor()));
    for (squares, is_good) in [
        (Layout::new(&SHAPE, &ORDERS[0]).of(second.tensor()), false),
        (Layout::new(&SHAPE, &ORDERS[2]).of(second.tensor()), false),
        (layout.of(second.tensor()), true),
        (second.tensor(), true), // a plain array
    ] {
        tensors[3] = Some(squares);
        let added = handle.try_add_tensors(&Param::new("w", &param), tensors);
        assert_eq!(added.is_ok(), is_good);
        if is_good {
            handle.remove(0).unwrap();
        }
    }
}

#[test]
fn what_lies_in_another_order_is_refused_and_changes_nothing() {
    let (param, grad) = (Array::zeros(Dtype::F32, N), Array::of(Dtype::F32, &[1.0; N]));
    let layouts = ORDERS.map(|order| Layout::new(&SHAPE, &order));
    let row_major = Layout::new(&SHAPE, &[0, 1, 2, 3]);
    let handle = Handle::new(&config());
    add(&handle, &Param::new("w", &param), layouts[1].of(param.tensor())).unwrap();
    for other in [&layouts[0], &layouts[2], &row_major] {
        let grad = other.of(grad.tensor());
        let elsewhere = [(0, ADAMW_BUFFER_PARAM, grad)];
        for answer in [
            handle.set_grad_tensor(0, &grad),
            handle.accumulate_tensor(0, &grad),
            handle.apply_gradient_tensors(&[(0, grad)]),
            handle.rebind_tensors(&elsewhere),
        ] {
            let text = answer.unwrap_err().text;
            assert!(text.contains("in memory, expected 2,1,0: copy it"), "{text}");
        }
    }
    handle.step();
    assert_eq!(handle.info(0).step, 0);
    // Memory that it moves to as a plain array has its order.
    let elsewhere = Array::zeros(Dtype::F32, N);
    handle.rebind(&[(0, ADAMW_BUFFER_PARAM, &elsewhere)]).unwrap();
    handle.set_grad_tensor(0, &row_major.of(grad.tensor())).unwrap_err();
    handle.set_grad_tensor(0, &layouts[1].of(grad.tensor())).unwrap();
    // Of a plain array nobody knows the order: what has one is refused.
    let plain = Array::zeros(Dtype::F32, N);
    handle.add_array("plain", &plain);
    handle.set_grad_tensor(1, &row_major.of(grad.tensor())).unwrap();
    handle.set_grad_tensor(1, &layouts[1].of(grad.tensor())).unwrap_err();
    // Dimensions of one element lie anywhere.
    let flat = Layout { shape: vec![1, N as i64, 1], strides: vec![7, 1, -3] };
    handle.set_grad_tensor(0, &flat.of(grad.tensor())).unwrap();
}

#[test]
fn a_checkpoint_goes_on_with_the_order_that_was_saved() {
    let layouts = ORDERS.map(|order| Layout::new(&SHAPE, &order));
    let array = Array::zeros(Dtype::F32, N);
    let grad = Array::ordinary(Dtype::F32, N, &mut Random::new(3));
    let handle_of = |layout: Option<&Layout>, array: &Array| {
        let handle = Handle::new(&config());
        let tensor = layout.map_or(array.tensor(), |layout| layout.of(array.tensor()));
        add(&handle, &Param::new("w", array), tensor).unwrap();
        handle
    };
    let row_major = Layout::new(&SHAPE, &[0, 1, 2, 3]);
    let saved = |layout: Option<&Layout>| {
        let array = array.duplicate();
        let handle = handle_of(layout, &array);
        handle.set_grad_array(0, &grad);
        handle.step();
        handle.saved(true)
    };
    let plain = saved(None);
    assert_eq!(saved(Some(&row_major)), plain);
    let turned = saved(Some(&layouts[1]));
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(text(&turned).contains(" order=2,1,0 ") && !text(&plain).contains("order="));
    for scope in [ADAMW_LOAD_ALL, ADAMW_LOAD_SHARED] {
        let options = adamw_load_options { params: 1, scope, ..load_options() };
        for (bytes, layout, is_good) in [
            (&turned, Some(&layouts[1]), true),
            (&turned, None, true),
            (&turned, Some(&row_major), false),
            (&turned, Some(&layouts[2]), false),
            (&plain, Some(&layouts[1]), false),
            (&plain, Some(&row_major), true),
        ] {
            let own = array.duplicate();
            let handle = handle_of(layout, &own);
            let loaded = handle.load_bytes(bytes, &options);
            assert_eq!(loaded.is_ok(), is_good, "{loaded:?}");
            let status = loaded.map_err(|failure| failure.status);
            assert!(is_good || status == Err(Status::Mismatch));
            assert_eq!(handle.info(0).step, is_good.into());
        }
    }
}

#[test]
fn rows_have_the_width_that_the_shape_of_their_parameter_says() {
    let table = Array::zeros(Dtype::F32, 180);
    let (two, values) = (Rows::i32(&[0, 4]), Array::of(Dtype::F32, &[1.0; 12]));
    for (shape, width) in [(vec![30, 6], 6), (vec![30, 2, 3], 6), (vec![6, 30], 30), (vec![180], 0)]
    {
        let handle = Handle::new(&config());
        let layout = Layout::new(&shape, &(0..shape.len()).collect::<Vec<_>>());
        add(&handle, &Param::new("t", &table), layout.of(table.tensor())).unwrap();
        for (n, row) in [(12, 6), (6, 3), (2, 1)] {
            let values = values.copy(0..n, 0);
            let set = handle.try_set_sparse_grad(0, &two, &values);
            assert_eq!(set.is_ok(), width == 0 || row == width, "{shape:?} {row}");
        }
        // No row is of any width.
        handle.set_sparse_grad(0, &Rows::i32(&[]), &Array::zeros(Dtype::F32, 0));
        handle.step();
    }
    // Rows of one element, as many as a table of rows has, are no gradient of it.
    let handle = Handle::new(&config());
    let layout = Layout::new(&[30, 6], &[0, 1]);
    add(&handle, &Param::new("t", &table), layout.of(table.tensor())).unwrap();
    let (six, values) = (Rows::i64(&[0, 1, 2, 3, 4, 5]), Array::zeros(Dtype::F32, 6));
    let refused = handle.try_set_sparse_grad(0, &six, &values).unwrap_err();
    assert!(refused.text.contains("rows of 1 elements, expected 6"), "{}", refused.text);
    // A removed parameter's width is not the next one's.
    handle.remove(0).unwrap();
    handle.add_array("t", &table);
    handle.set_sparse_grad(0, &six, &values);
}
