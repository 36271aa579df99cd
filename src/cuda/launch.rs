//! Launches of kernels, in one form.

/// Queues up a kernel: `launch!(device, kernel, blocks; arguments)`, each argument of the type that the
/// kernel takes. To be called as `Entered::launch`, whose safety it has.
macro_rules! launch {
    ($device:expr, $kernel:expr, $blocks:expr; $($argument:expr),+) => {
        // The driver copies the arguments before it returns, and only reads them.
        $device.launch($kernel, $blocks, [$((&raw const *&$argument).cast_mut().cast()),+])
    };
}
pub(super) use launch;
