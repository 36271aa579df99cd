//! The macro by which kernels are launched.

/// Queues up a kernel: `launch!(device, kernel, blocks; arguments)`, each argument a variable of
/// the type that the kernel takes. It is as unsafe as `Entered::launch`, which it calls.
macro_rules! launch {
    ($device:expr, $kernel:expr, $blocks:expr; $($argument:expr),+) => {
        // The driver copies the arguments before it returns, and only reads them.
        $device.launch($kernel, $blocks, [$((&raw const *&$argument).cast_mut().cast()),+])
    };
}
pub(super) use launch;
