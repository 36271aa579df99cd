//! Guesses the kind of a file that is not a checkpoint, by its first bytes.
#![forbid(unsafe_code)]

/// The number of first bytes that tell the kind of a file.
pub(super) const ENOUGH: usize = 512;

/// The starts of files of other kinds.
const STARTS: [(&[u8], &str); 14] = [
    (b"PK\x03\x04", "it is a zip archive"),
    (b"PK\x05\x06", "it is an empty zip archive"),
    (b"\x80\x02", PICKLE),
    (b"\x80\x03", PICKLE),
    (b"\x80\x04\x95", PICKLE),
    (b"\x80\x05\x95", PICKLE),
    (b"\x89HDF\r\n\x1a\n", "it is HDF5, as Keras' .h5 is"),
    (b"\x93NUMPY", "it is NumPy's .npy"),
    (b"GGUF", "it is GGUF, as llama.cpp has it"),
    (b"\x1f\x8b", "it is compressed by gzip"),
    (b"\x28\xb5\x2f\xfd", "it is compressed by zstd"),
    (b"\xfd7zXZ\0", "it is compressed by xz"),
    (b"\x7fELF", "it is a program or a library"),
    (
        b"version https://git-lfs.github.com",
        "it is a pointer of Git LFS: git lfs pull fetches the file itself",
    ),
];

const PICKLE: &str =
    "it is a pickle, as .pt and .pdopt are: python/convert.py makes a checkpoint of it";
const PYTORCH: &str = "it is PyTorch's .pt: python/convert.py makes a checkpoint of it";

/// The place of the name of the first file in a zip archive.
const ZIP_NAME: usize = 30;

/// Returns the kind of a file that starts with these bytes.
pub fn seems(start: &[u8]) -> &'static str {
    if start.is_empty() {
        return "it is empty";
    }
    if let Some((_, name)) = start.strip_prefix(b"PK\x03\x04").and(start.split_at_checked(ZIP_NAME))
    {
        let first = &name[..name.len().min(start[ZIP_NAME - 4] as usize)];
        if first.ends_with(b"/data.pkl") {
            return PYTORCH;
        }
        if first.ends_with(b".npy") {
            return "it is NumPy's .npz";
        }
    }
    if let Some((_, kind)) = STARTS.iter().find(|(bytes, _)| start.starts_with(bytes)) {
        return kind;
    }
    if start.get(257..262) == Some(b"ustar") {
        return "it is a tar archive";
    }
    if start.iter().all(|&byte| byte == 0) {
        return "it starts with zeros";
    }
    if is_text(start) {
        return "it is text";
    }
    match start.get(8..10) {
        Some(b"{\"" | b"{ ") => {
            "it seems to be a safetensors file, but its header starts differently from a \
             checkpoint's"
        }
        _ => "its header starts differently",
    }
}

/// Returns whether bytes are UTF-8, perhaps cut off, without control characters other than those of
/// text.
fn is_text(start: &[u8]) -> bool {
    let is_utf8 = match core::str::from_utf8(start) {
        Ok(_) => true,
        Err(error) => error.error_len().is_none() && error.valid_up_to() > 0,
    };
    let controls = |&byte: &u8| byte >= b' ' || matches!(byte, b'\t'..=b'\r' | 0x1b);
    is_utf8 && start.iter().all(controls)
}
