//! Files that are no checkpoints, and headers that say what cannot be. (That nothing changes is for
//! `checkpoint_hostile.rs`, and what else a file may be for `checkpoint_files.rs`.)

use crate::Refusals;
use crate::common::array::{Array, Dtype};
use crate::common::checkpoint::{load_options, source, with_header};
use crate::common::handle::{Handle, config};
use crate::common::host::user_data;
use adamw::ffi::Status::Corrupt;
use adamw::ffi::adamw_source;
use core::ffi::c_void;

pub fn refusals(rows: &mut Refusals) {
    let param = Array::of(Dtype::F32, &[1.0; 2]);
    let handle = Handle::new(&config());
    handle.add_array("w", &param);
    others(rows, &handle);
    edited(rows, &handle);
    long(rows, &handle);
}

const PICKLE: &str =
    "it is a pickle, as .pt and .pdopt are: python/convert.py makes a checkpoint of it";
const PYTORCH: &str = "it is PyTorch's .pt: python/convert.py makes a checkpoint of it";
const GIT_LFS: &str = "it is a pointer of Git LFS: git lfs pull fetches the file itself";
const SAFETENSORS: &str =
    "it seems to be a safetensors file, but its header starts differently from a checkpoint's";

/// The start of a file, and what it is called.
const OTHERS: [(&[u8], &str); 20] = [
    (b"", "it is empty"),
    (b"PK\x03\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x10\0\0\0archive/data.pkl", PYTORCH),
    (
        b"PK\x03\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x05\0\0\0a.npy",
        "it is NumPy's .npz",
    ),
    (
        b"PK\x03\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x05\0\0\0a.txt",
        "it is a zip archive",
    ),
    (b"PK\x05\x06\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", "it is an empty zip archive"),
    (b"\x80\x02}q\0X\x05\0\0\0stateq\x01", PICKLE),
    (b"\x89HDF\r\n\x1a\n\0\0\0\0", "it is HDF5, as Keras' .h5 is"),
    (b"\x93NUMPY\x01\0v\0{'descr'", "it is NumPy's .npy"),
    (b"GGUF\x03\0\0\0\0\0\0\0", "it is GGUF, as llama.cpp has it"),
    (b"\x1f\x8b\x08\0\0\0\0\0\0\0", "it is compressed by gzip"),
    (b"\x28\xb5\x2f\xfd\0\0\0\0\0\0", "it is compressed by zstd"),
    (b"\xfd7zXZ\0\0\0\0\0\0", "it is compressed by xz"),
    (b"\x7fELF\x02\x01\x01\0\0\0", "it is a program or a library"),
    (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 3\n", GIT_LFS),
    (TAR, "it is a tar archive"),
    (b"root:x:0:0:root:/root:/bin/bash\n", "it is text"),
    (b"\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", "it starts with zeros"),
    (b"\x10\0\0\0\0\0\0\0{\"a\":{}}        ", SAFETENSORS),
    (b"\x02\x01\xff\xfe\x80\x81\x82\x83\x84", "its header starts differently"),
    (b"\xff\xfe", "its header starts differently"),
];

const TAR: &[u8] = &{
    let (mut bytes, magic) = ([0; 512], *b"ustar");
    bytes[0] = b'a';
    let mut i = 0;
    while i < magic.len() {
        bytes[257 + i] = magic[i];
        i += 1;
    }
    bytes
};

fn others(rows: &mut Refusals, handle: &Handle) {
    for (bytes, seems) in OTHERS {
        let text = format!("checkpoint \"in memory\" is no checkpoint of this library: {seems}");
        rows.row(handle.load_bytes(bytes, &load_options()), Corrupt, &text);
    }
}

/// A change to the text of a header, and what is damaged then.
const EDITS: [(&str, &str, &str); 28] = [
    ("\"state.w.exp_avg\":{", "\"state.w.exp_avg\":[", "an object does not start with {"),
    ("\"F32\",\"shape\"", "\"F32\";\"shape\"", "an object does not end with }"),
    ("\"optimizer\":", "\"optimizer\";", "a key has no : behind it"),
    ("\"shape\":[2]", "\"shape\":2", "an array does not start with ["),
    ("\"shape\":[2]", "\"shape\":[2.0]", "an array does not end with ]"),
    ("\"shape\":[2]", "\"shape\":[-2]", "a number is not written in digits alone"),
    ("\"shape\":[2]", "\"shape\":[18446744073709551616]", "a number is larger than 64 bits hold"),
    ("\"dtype\":\"F32\"", "\"dtype\":F32", "a string does not start with a quote"),
    ("\"optimizer\":\"", "\"optimizer\":\"\u{1}", "a string has a control character in it"),
    ("\"optimizer\":\"", "\"optimizer\":\"\\u0000", "a string is not UTF-8, or has a NUL in it"),
    ("\"optimizer\":\"", "\"optimizer\":\"\\x", "a string has an unknown escape in it"),
    ("\"optimizer\":\"", "\"optimizer\":\"\\ud83d", "a string has half a character in it"),
    ("\"optimizer\":\"", "\"optimizer\":\"\\u12g4", "an escape has no four digits"),
    (END, ",\"a", "a string does not end"),
    (END, "}}{", "there is text behind the header"),
    (END, "},\"__metadata__\":{\"x\":\"y\"}}", "its metadata is there twice"),
    ("\"dtype\":\"F32\"", "\"dtype\":\"F31\"", "a tensor is of an unknown type"),
    ("\"shape\":[2]", "\"shape\":[4294967296,4294967296]", "a shape has too many elements"),
    ("\"shape\":[2]", "\"shape\":[2],\"shape\":[2]", "a tensor has a property twice"),
    ("\"dtype\":\"F32\"", "\"type\":\"F32\"", "a tensor has an unknown property"),
    (",\"shape\":[2]", "", "a tensor lacks its type, its shape or its offsets"),
    ("\"data_offsets\":[0,8]", "\"data_offsets\":[0]", "a tensor has fewer than two offsets"),
    ("\"data_offsets\":[0,8]", "\"data_offsets\":[0,8,16]", "a tensor has more than two offsets"),
    (
        "\"data_offsets\":[0,8]",
        "\"data_offsets\":[8,8]",
        "the offsets of a tensor are not what its shape takes",
    ),
    ("\"data_offsets\":[0,8]", "\"data_offsets\":[8,16]", "its tensors overlap, or leave a hole"),
    ("\"data_offsets\":[0,8]", "\"data_offsets\":[1,9]", "its tensors overlap, or leave a hole"),
    ("\"optimizer\":\"", "\"crc32\":\"\",\"optimizer\":\"", "\"crc32\" is there twice"),
    ("\"crc32\":\"", "\"crc32\":\"0", "\"crc32\" is missing or not what it should be"),
];

/// The end of a header.
const END: &str = "}}";

fn edited(rows: &mut Refusals, handle: &Handle) {
    let bytes = handle.saved(true);
    let mut damaged = |bytes: &[u8], text: &str| {
        let text = format!("checkpoint \"in memory\" is damaged: {text}");
        rows.row(handle.load_bytes(bytes, &load_options()), Corrupt, &text);
    };
    for (from, to, text) in EDITS {
        let edited = with_header(&bytes, |header| match from {
            END => header.trim_end().strip_suffix(END).unwrap().to_owned() + to,
            _ => header.replacen(from, to, 1),
        });
        damaged(&edited, text);
    }
    let crowded: String = (0..999).map(|i| format!(",\"{i}\":\"\"")).collect();
    let edited = with_header(&bytes, |header| {
        header.replacen(",\"optimizer\"", &format!("{crowded},\"optimizer\""), 1)
    });
    damaged(&edited, "it has more entries than its header has room for");
    damaged(&[&bytes[..], &[0]].concat(), "its tensors end before or after the file");
}

/// The start of a file that says that it is a long one.
unsafe extern "C" fn read(_: u64, to: *mut c_void, n: usize, start: *mut c_void) -> i32 {
    // SAFETY: what the test gave, of more bytes than are asked for, and the library's buffer.
    unsafe { to.cast::<u8>().copy_from_nonoverlapping(start.cast::<[u8; 1024]>().cast(), n) };
    0
}

fn long(rows: &mut Refusals, handle: &Handle) {
    let mut start = [0u8; 1024];
    start.copy_from_slice(&[&handle.saved(true)[..], &[0; 1024]].concat()[..1024]);
    start[..8].copy_from_slice(&100_000_001u64.to_le_bytes());
    let from = adamw_source {
        read: Some(read),
        read_data: user_data(&start),
        num_bytes: 1 << 40,
        ..source()
    };
    rows.row(
        handle.load_from(&[from], &load_options()),
        Corrupt,
        "checkpoint \"from the host\" is damaged: its header is longer than 100,000,000 bytes",
    );
}

#[test]
fn a_file_that_is_refused_is_called_what_it_is_and_what_is_wrong_with_it() {
    crate::said(refusals);
}
