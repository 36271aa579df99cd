//! An older build of the library, beside which the newer one takes turns: `make bench` gives its
//! path.

use super::library::Library;
use super::*;
use core::ffi::c_void;

type Handle = *mut c_void;

/// The functions of the older build that are called here.
pub struct Before {
    create: unsafe extern "C" fn(*const adamw_config, *mut Handle) -> i32,
    destroy: unsafe extern "C" fn(Handle) -> i32,
    add: unsafe extern "C" fn(Handle, *const adamw_param_config, *mut u32) -> i32,
    set_grad: unsafe extern "C" fn(Handle, u32, *const adamw_tensor) -> i32,
    step: unsafe extern "C" fn(Handle) -> i32,
}

impl Before {
    pub fn load(path: &str) -> Before {
        let library = Library::load(path);
        // SAFETY: every build of this project has these functions with these types.
        unsafe {
            Before {
                create: library.function(c"adamw_create"),
                destroy: library.function(c"adamw_destroy"),
                add: library.function(c"adamw_add_param"),
                set_grad: library.function(c"adamw_set_grad"),
                step: library.function(c"adamw_step"),
            }
        }
    }

    /// An optimizer of the older build. What a newer config has more is 0, which older builds take.
    pub fn optimizer<P: Param>(&self, owned: &mut Owned<P>, config: &adamw_config) -> Older<'_> {
        let (mut handle, mut number) = (null_mut(), 0);
        let mut n = owned.param.count as i64;
        let param = tensor(owned.param.slice().as_mut_ptr(), P::CODE, &mut n);
        let grad = tensor(owned.grad.slice().as_mut_ptr(), P::CODE, &mut n);
        let param = adamw_param_config {
            struct_size: size_of::<adamw_param_config>(),
            name: c"param".as_ptr(),
            param: &param,
            ..adamw_param_config::DEFAULT
        };
        // SAFETY: structs that outlive the calls, and memory that outlives the optimizer.
        unsafe {
            assert_eq!((self.create)(config, &mut handle), 0);
            assert_eq!((self.add)(handle, &param, &mut number), 0);
            assert_eq!((self.set_grad)(handle, number, &grad), 0);
        }
        Older { build: self, handle }
    }
}

/// A handle of the older build.
pub struct Older<'a> {
    build: &'a Before,
    handle: Handle,
}

impl Older<'_> {
    pub fn step(&mut self) {
        // SAFETY: a handle of that build, whose memory is alive.
        assert_eq!(unsafe { (self.build.step)(self.handle) }, 0);
    }
}

impl Drop for Older<'_> {
    fn drop(&mut self) {
        // SAFETY: created by that build, and dropped once.
        unsafe { (self.build.destroy)(self.handle) };
    }
}
