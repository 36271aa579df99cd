//! The driver's codes, with their names.

use std::ffi::{CStr, c_int};

/// What a call returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Code(pub c_int);

/// Each code with its name and meaning.
macro_rules! codes {
    ($($name:ident $number:literal $meaning:literal)*) => {
        impl Code {
            $(#[doc = $meaning] pub const $name: Code = Code($number);)*

            /// The code's name and its meaning; none for a number that this driver never returns.
            pub fn texts(self) -> Option<(&'static CStr, &'static CStr)> {
                $(const $name: (&CStr, &CStr) = (
                    match CStr::from_bytes_with_nul(
                        concat!("CUDA_", codes!(@prefix $number), stringify!($name), "\0").as_bytes(),
                    ) {
                        Ok(name) => name,
                        Err(_) => panic!("a name ends once"),
                    },
                    match CStr::from_bytes_with_nul(concat!($meaning, "\0").as_bytes()) {
                        Ok(meaning) => meaning,
                        Err(_) => panic!("a meaning ends once"),
                    },
                );)*
                Some(match self.0 {
                    $($number => $name,)*
                    _ => return None,
                })
            }
        }
    };
    (@prefix 0) => { "" };
    (@prefix $number:literal) => { "ERROR_" };
}

codes! {
    SUCCESS 0 "no error"
    INVALID_VALUE 1 "an argument is not valid"
    OUT_OF_MEMORY 2 "not enough memory"
    NOT_INITIALIZED 3 "cuInit has not been called"
    STUB_LIBRARY 34 "the library is a stub that only links"
    NO_DEVICE 100 "there is no device"
    INVALID_DEVICE 101 "there is no such device"
    INVALID_IMAGE 200 "the module's image is not known"
    INVALID_CONTEXT 201 "no context is current, or not a valid one"
    NO_BINARY_FOR_GPU 209 "the image has no code for this device"
    INVALID_PTX 218 "the PTX does not compile"
    UNSUPPORTED_PTX_VERSION 222 "the PTX is newer than the driver"
    INVALID_HANDLE 400 "a handle is not valid"
    ILLEGAL_STATE 401 "not allowed in this state"
    NOT_FOUND 500 "no such name"
    NOT_READY 600 "not finished yet"
    ILLEGAL_ADDRESS 700 "a kernel used an address that is not its own"
    LAUNCH_TIMEOUT 702 "a kernel did not end"
    CONTEXT_IS_DESTROYED 709 "the context has been destroyed"
    HOST_MEMORY_ALREADY_REGISTERED 712 "the memory is registered already"
    HOST_MEMORY_NOT_REGISTERED 713 "the memory is not registered"
    MISALIGNED_ADDRESS 716 "a kernel used an address that is misaligned"
    LAUNCH_FAILED 719 "a kernel failed"
    NOT_SUPPORTED 801 "not supported"
    STREAM_CAPTURE_UNSUPPORTED 900 "not allowed while a stream is captured"
    STREAM_CAPTURE_INVALIDATED 901 "the capture was invalidated by an error"
    STREAM_CAPTURE_MERGE 902 "two captures would be merged"
    STREAM_CAPTURE_UNMATCHED 903 "the capture did not begin in this stream"
    STREAM_CAPTURE_UNJOINED 904 "a stream of the capture was not joined to its origin"
    STREAM_CAPTURE_ISOLATION 905 "the capture would depend on work outside it"
    STREAM_CAPTURE_IMPLICIT 906 "the default stream would wait for the capture"
    CAPTURED_EVENT 907 "the event was recorded in a capture"
    STREAM_CAPTURE_WRONG_THREAD 908 "the capture began in another thread"
    UNKNOWN 999 "an unknown error"
}
