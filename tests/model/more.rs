//! Calls that other tests do not make, or never expect to fail.

use crate::common::checkpoint::save_args;
use crate::common::handle::{Answer, Handle, answer, call};
use crate::common::host::{from_user_data, user_data};
use adamw::ffi::{self, *};
use core::cell::RefCell;
use core::ffi::c_void;

/// Takes bytes of a checkpoint.
extern "C" fn append(data: *const c_void, num_bytes: usize, bytes: *mut c_void) -> i32 {
    // SAFETY: the library's bytes, and the `Vec` of `try_saved`.
    let (data, bytes) = unsafe {
        let data = core::slice::from_raw_parts(data.cast::<u8>(), num_bytes);
        (data, from_user_data::<RefCell<Vec<u8>>>(bytes))
    };
    bytes.borrow_mut().extend_from_slice(data);
    0
}

pub trait More {
    /// The checkpoint as bytes, by one call.
    fn try_saved(&self, params: bool) -> Answer<Vec<u8>>;
    fn apply_tensors(&self, grads: &[(u32, adamw_tensor)]) -> Answer;
    /// Says that a parameter has moved.
    fn rebind_param(&self, param: u32, tensor: &adamw_tensor) -> Answer;
}

impl More for Handle {
    fn try_saved(&self, params: bool) -> Answer<Vec<u8>> {
        let bytes = RefCell::new(Vec::new());
        let (write, write_data): (adamw_write, _) = (Some(append), user_data(&bytes));
        let params = params.into();
        self.save_to(&adamw_save_args { params, write, write_data, ..save_args() })?;
        let bytes = bytes.take();
        Ok(bytes)
    }

    fn apply_tensors(&self, grads: &[(u32, adamw_tensor)]) -> Answer {
        let params: Vec<_> = grads.iter().map(|(param, _)| *param).collect();
        let pointers: Vec<_> = grads.iter().map(|(_, grad)| &raw const *grad).collect();
        call!(adamw_apply_gradients(self.raw(), params.as_ptr(), pointers.as_ptr(), grads.len()))
    }

    fn rebind_param(&self, param: u32, tensor: &adamw_tensor) -> Answer {
        let buffer = ADAMW_BUFFER_PARAM;
        call!(adamw_rebind(self.raw(), &param, &buffer, &(&raw const *tensor), 1))
    }
}
