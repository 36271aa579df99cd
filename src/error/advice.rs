//! Advice about errors of the CUDA driver.
#![forbid(unsafe_code)]

/// Returns advice about an error of the driver whose name does not say what to do.
pub fn advice(code: &u32) -> &'static str {
    match code {
        400 => " (is the stream of adamw_set_stream still there?)",
        700 | 702 | 710 | 714..=719 => {
            " (a kernel before this call failed, perhaps on memory that had been freed; this \
             process can use the device no more)"
        }
        _ => "",
    }
}
