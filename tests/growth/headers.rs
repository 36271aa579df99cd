//! What a hostile checkpoint takes of memory is bounded by its length: the text of its header, and two lists
//! that are reserved for as many entries and pairs as it has room for, most of which is never touched; and
//! what it says of packed parameters.

use crate::common::checkpoint::{crc32, load_options, sealed};
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

/// A checkpoint of so many packed parameters without elements, all of the first of these kinds.
fn packed(n: usize, kinds: &[u8]) -> Vec<u8> {
    let names: String = (0..n).map(|i| format!("{i}\0")).collect();
    let columns: [(&str, &str, usize, Vec<u8>); 9] = [
        ("params.step", "U64", 8, vec![0; 8 * n]),
        ("params.beta1_power", "F64", 8, vec![0; 8 * n]),
        ("params.beta2_power", "F64", 8, vec![0; 8 * n]),
        ("params.n_elements", "U64", 8, vec![0; 8 * n]),
        ("params.kind", "U32", 4, vec![0; 4 * n]),
        ("state.exp_avg.F32", "F32", 4, Vec::new()),
        ("state.exp_avg_sq.F32", "F32", 4, Vec::new()),
        ("params.name", "U8", 1, names.into_bytes()),
        ("params.kinds", "U8", 1, kinds.to_vec()),
    ];
    let (mut sums, mut entries, mut tensors) = (String::new(), String::new(), Vec::new());
    for (name, dtype, element_bytes, bytes) in columns {
        let (start, n_elements) = (tensors.len(), bytes.len() / element_bytes);
        sums += &format!("{:08x}", crc32(&bytes));
        tensors.extend(bytes);
        let end = tensors.len();
        entries += &format!(
            ",\"{name}\":{{\"dtype\":\"{dtype}\",\"shape\":[{n_elements}],\"data_offsets\":[{start},{end}]}}"
        );
    }
    let start = "{\"__metadata__\":{\"adamw_checkpoint\":\"2\",\"header_crc32\":\"00000000\"";
    sealed(format!("{start},\"crc32\":\"{sums}\"}}{entries}}}"), &tensors)
}

#[test]
fn packed_parameters_take_no_more_memory_than_several_times_the_file() {
    let _alone = alone();
    let kind = |tensors: &str, more: &str| format!("dtype=F32{more} tensors={tensors}\0");
    let ordinary = kind("exp_avg:F32,exp_avg_sq:F32", "");
    let cases = [
        (ordinary.clone(), "\"optimizer\" is missing"), // which comes after them
        (kind(&"exp_avg:F32,".repeat(300), ""), "the kinds of its parameters"),
        (ordinary.clone() + &"\0".repeat(400_000), "the kinds of its parameters"),
        (kind("exp_avg:F32", &" x=1".repeat(100_000)), "the kinds of its parameters"),
    ];
    for (kinds, problem) in cases {
        let bytes = packed(10_000, kinds.as_bytes());
        let handle = Handle::new(&config());
        let (failure, most) =
            most_bytes(|| handle.load_bytes(&bytes, &load_options()).unwrap_err());
        let case = format!("{:?}", &kinds[..kinds.len().min(80)]);
        assert!(most < 4 * bytes.len() + (2 << 20), "{case}: {most} of {}", bytes.len());
        assert!(failure.text.contains(problem), "{case}: {}", failure.text);
    }
}
