//! Parameters on a device that have no memory for a while, stepped there or by the processor.

use crate::common::array::{Array, Dtype};
use crate::common::checkpoint::{load_options, save_args};
use crate::common::device::{Device, OnDevice};
use crate::common::handle::{Handle, Param, config};
use crate::common::random::Random;
use crate::common::rows::{Rows, RowsOnDevice};
use adamw::ffi::*;

const N: usize = 5000;

/// A parameter on the device that is parked after the first of three steps, and one beside it.
fn stepped(dtype: Dtype, offload: bool, is_parked: bool) -> [Array; 2] {
    let handle = Handle::new(&adamw_config { lr: 0.1, multi_precision: 1, ..config() });
    let random = &mut Random::new(3);
    let arrays = [(); 2].map(|()| Array::ordinary(dtype, N, random));
    let mut places = arrays.each_ref().map(|array| OnDevice::of(array, 0));
    let grad = OnDevice::of(&Array::ordinary(Dtype::F32, N, random), 0);
    for (name, place) in ["w", "v"].iter().zip(&places) {
        let mut tensors = [None; 9];
        tensors[0] = Some(place.tensor());
        let param = Param { offload, ..Param::new(name, &arrays[0]) };
        handle.try_add_tensors(&param, tensors).unwrap();
    }
    for step in 0..3 {
        (0..2).for_each(|number| handle.set_grad_tensor(number, &grad.tensor()).unwrap());
        handle.step();
        if step > 0 || !is_parked {
            continue;
        }
        let values = places[0].array().unwrap();
        let whole = handle.saved(true);
        handle.park(&[(0, ADAMW_BUFFER_PARAM)]).unwrap();
        // What it had may be anything now, and be freed.
        let noise = Array::ordinary(dtype, N, random);
        places[0].set(&noise);
        assert!(handle.set_grad_tensor(0, &grad.tensor()).is_err());
        let args = adamw_save_args { params: 1, size_only: 1, ..save_args() };
        assert!(handle.save_to(&args).unwrap_err().text.contains("has no memory now"));
        assert!(handle.try_sync_master(0).is_err() && handle.try_reset(0).is_err());
        handle.sparse_flush();
        let state = adamw_load_options { scope: ADAMW_LOAD_SHARED, ..load_options() };
        handle.load_bytes(&handle.saved(false), &state).unwrap();
        let params = adamw_load_options { params: 1, ..state };
        assert!(handle.load_bytes(&whole, &params).is_err());
        handle.forget_grad(1);
        handle.step();
        assert_eq!(places[0].array().unwrap().first_difference(&noise), None);
        places[0] = OnDevice::of(&values, 0);
        handle.rebind_tensors(&[(0, ADAMW_BUFFER_PARAM, places[0].tensor())]).unwrap();
    }
    assert_eq!(handle.info(0).step, 3);
    places.map(|place| place.array().unwrap())
}

#[test]
fn a_parameter_on_a_device_goes_on_where_it_gets_memory_again() {
    let _device = Device::new();
    for dtype in Dtype::ALL {
        for offload in [false, true] {
            let [parked, plain] = [true, false].map(|is_parked| stepped(dtype, offload, is_parked));
            for (parked, plain) in parked.iter().zip(&plain) {
                assert_eq!(parked.first_difference(plain), None, "{dtype:?} {offload}");
            }
        }
    }
}

#[test]
fn rows_that_may_lag_on_the_device_keep_their_memory() {
    let _device = Device::new();
    let handle = Handle::new(&adamw_config { lazy_mode: ADAMW_LAZY_EXACT, ..config() });
    let at_once = handle.add_group(|group| group.lazy_mode = ADAMW_LAZY_OFF);
    let array = Array::zeros(Dtype::F32, 12);
    let place = OnDevice::of(&array, 0);
    let mut tensors = [None; 9];
    tensors[0] = Some(place.tensor());
    handle.try_add_tensors(&Param::new("w", &array), tensors).unwrap();
    let (rows, values) =
        (RowsOnDevice::of(&Rows::i32(&[1])), OnDevice::of(&Array::of(Dtype::F32, &[1.0; 4]), 0));
    handle.set_sparse_grad_tensors(0, &rows.tensor(), &values.tensor()).unwrap();
    handle.step();
    let refused = handle.park(&[(0, ADAMW_BUFFER_PARAM)]).unwrap_err();
    assert!(refused.text.contains("rows that may have steps to take yet"), "{}", refused.text);
    handle.edit_options(0, |options| options.group = at_once);
    handle.park(&[(0, ADAMW_BUFFER_PARAM)]).unwrap();
    handle.step();
    handle.sparse_flush();
    assert_eq!(handle.info(0).step, 1);
}
