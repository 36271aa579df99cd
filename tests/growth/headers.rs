//! What a hostile header takes of memory is bounded by its length: its text, and two lists that are
//! reserved for as many entries and pairs as it has room for, most of which is never touched.

use crate::common::checkpoint::{load_options, sealed};
use crate::common::handle::{Handle, config};
use crate::{alone, most_bytes};
use adamw::ffi::*;

#[test]
fn a_header_of_nothing_but_entries_takes_no_more_memory_than_the_file() {
    let _alone = alone();
    // A header of 24 MB.
    let name = |i: usize| {
        format!(",\"{i}\":{{\"dtype\":\"U8\",\"shape\":[],\"data_offsets\":[{i},{}]}}", i + 1)
    };
    let entries: String = (0..300_000).map(name).collect();
    let sums = "00000000".repeat(300_000);
    let start =
        "{\"__metadata__\":{\"adamw_checkpoint\":\"1\",\"header_crc32\":\"00000000\",\"crc32\":\"";
    let bytes = sealed(format!("{start}{sums}\"}}{entries}}}"), &vec![0; 300_000]);
    let handle = Handle::new(&config());
    let (failure, most) = most_bytes(|| handle.load_bytes(&bytes, &load_options()).unwrap_err());
    assert_eq!(failure.status, Status::Corrupt, "{failure:?}");
    assert!(most < 3 * bytes.len(), "{most} of {}", bytes.len());
    // Texts shorter than what they take here.
    let texts: String = (0..1_000_000).map(|i| format!(",\"{i:x}\":\"\"")).collect();
    let failure = handle.load_bytes(&sealed(format!("{start}\"{texts}}}}}"), &[]), &load_options());
    let text = failure.unwrap_err().text;
    assert!(text.ends_with("more entries than its header has room for"), "{text}");
    // Of numbers and of keys alone.
    for filler in ["0,", "\"\":\"\",", "[[[[", "{\"\":"] {
        let text =
            format!("{start}\"}},\"a\":{{\"shape\":[{}", filler.repeat(8_000_000 / filler.len()));
        let bytes = sealed(text, &[]);
        let load = || handle.load_bytes(&bytes, &load_options()).unwrap_err();
        let (failure, most) = most_bytes(load);
        assert_eq!(failure.status, Status::Corrupt, "{failure:?}");
        assert!(most < 3 * bytes.len() + 4_096, "{filler}: {most} of {}", bytes.len());
    }
}
