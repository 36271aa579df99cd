//! The files of many ranks: what loading them costs, how many are open at once, and texts that are
//! made to cost.
#![cfg(target_os = "linux")]

use crate::common::array::{Array, Dtype};
use crate::common::checkpoint::{
    Folder, Read, c_path, in_memory, load_options, source, with_header,
};
use crate::common::cpu_time::seconds;
use crate::common::handle::{Handle, Param, config};
use crate::common::random::Random;
use adamw::ffi::*;
use core::ffi::{c_char, c_void};
use core::ops::Range;

/// A parameter of each rank, of so many elements, in the whole of all ranks.
const EACH: usize = 4;

/// A handle and its parameters.
struct Rank {
    handle: Handle,
    params: Vec<Array>,
}

impl Rank {
    /// The handle of one rank, or of several together, with so many parameters.
    fn new(n_params: usize, ranks: Range<usize>, of: usize) -> Rank {
        let (handle, mut random) = (Handle::new(&config()), Random::new(ranks.start as u64 + 1));
        let n = ranks.len() * EACH;
        let param = |_| Array::ordinary(Dtype::F32, n, &mut random);
        let params: Vec<_> = (0..n_params).map(param).collect();
        for (i, param) in params.iter().enumerate() {
            let (first_element, whole_elements) = ((ranks.start * EACH) as u64, (of * EACH) as u64);
            let name = format!("layer.{i}.weight");
            handle.add(&Param { first_element, whole_elements, ..Param::new(&name, param) });
        }
        Rank { handle, params }
    }
}

/// What every rank saves.
fn saved(n_params: usize, n_ranks: usize) -> Vec<Vec<u8>> {
    let rank = |rank| Rank::new(n_params, rank..rank + 1, n_ranks).handle.saved(true);
    (0..n_ranks).map(rank).collect()
}

#[test]
fn loading_is_linear_in_the_number_of_ranks() {
    for (n_params, n_ranks) in [(10, 512), (300, 64)] {
        let files = saved(n_params, n_ranks);
        let sources: Vec<_> = files.iter().map(|file| in_memory(file)).collect();
        let whole = Rank::new(n_params, 0..n_ranks, n_ranks);
        let options = load_options();
        let took = seconds(|| whole.handle.load_from(&sources, &options).unwrap());
        println!("{n_params} parameters, {n_ranks} ranks: {took:.3} s");
        assert!(took < 1.0, "{n_params} parameters, {n_ranks} ranks: {took} s");
    }
}

#[test]
fn what_many_ranks_saved_is_read_some_times_whatever_their_number() {
    let files = saved(100, 16);
    let reads: Vec<_> = files.iter().map(|file| Read::new(file)).collect();
    let sources: Vec<_> = reads.iter().map(Read::source).collect();
    let whole = Rank::new(100, 0..16, 16);
    whole.handle.load_from(&sources, &load_options()).unwrap();
    for from in &reads {
        assert!(from.times() < 3.0, "{} times", from.times());
    }
}

#[test]
fn a_thousand_ranks_load_where_64_files_may_be_open() {
    let folder = Folder::new();
    let (n_ranks, files) = (1000, saved(2, 1000));
    let path = |rank: usize| folder.join(&format!("rank-{rank}"));
    files.iter().enumerate().for_each(|(rank, file)| std::fs::write(path(rank), file).unwrap());
    let paths: Vec<_> = (0..n_ranks).map(|rank| c_path(&path(rank))).collect();
    let sources: Vec<_> =
        paths.iter().map(|path| adamw_source { path: path.as_ptr(), ..source() }).collect();
    // SAFETY: plain numbers.
    let mut limit: libc::rlimit = unsafe { core::mem::zeroed() };
    // SAFETY: the pointer is to the limit.
    assert_eq!(unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) }, 0);
    let low = libc::rlimit { rlim_cur: 64, ..limit };
    // SAFETY: the pointer is to a limit; no other test here opens files.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &low) }, 0);
    let whole = Rank::new(2, 0..n_ranks, n_ranks);
    let options = adamw_load_options { params: 1, ..load_options() };
    let loaded = whole.handle.load_from(&sources, &options);
    // The host may have most of them open itself.
    let others: Vec<_> = (0..48).map_while(|_| std::fs::File::open("/dev/null").ok()).collect();
    let again = whole.handle.load_from(&sources, &options);
    drop(others);
    // SAFETY: as above.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) }, 0);
    loaded.unwrap();
    again.unwrap();
    for rank in 0..n_ranks {
        let expected = Rank::new(2, rank..rank + 1, n_ranks);
        for (whole, part) in whole.params.iter().zip(&expected.params) {
            assert!((0..EACH).all(|i| whole.bits(rank * EACH + i) == part.bits(i)), "{rank}");
        }
    }
}

#[test]
fn texts_of_many_words_cost_what_their_length_is() {
    let Rank { handle, params: _params } = Rank::new(1, 0..1, 2);
    let words = |start: char| {
        let words: String = (0..40_000).map(|i| format!(" {start}{i}")).collect();
        with_header(&handle.saved(false), |text| {
            text.replacen("\"state\":\"lr=", &format!("\"state\":\"{} lr=", words.trim()), 1)
        })
    };
    let files = [words('a'), words('b')];
    let sources = [in_memory(&files[0]), in_memory(&files[1])];
    let options = load_options();
    let took = seconds(|| {
        let _ = handle.load_from(&sources, &options);
    });
    println!("{} bytes: {took:.3} s", files[0].len());
    assert!(took < 1.0, "{took} s");
}

unsafe extern "C" fn no_name(
    _name: *const c_char,
    out_name: *mut *const c_char,
    _data: *mut c_void,
) -> i32 {
    // SAFETY: the library's output.
    unsafe { *out_name = c"".as_ptr() };
    0
}

#[test]
fn a_parameter_that_is_called_nothing_is_refused() {
    let Rank { handle, params: _params } = Rank::new(1, 0..1, 2);
    let bytes = handle.saved(true);
    for scope in [ADAMW_LOAD_ALL, ADAMW_LOAD_SUBSET, ADAMW_LOAD_SHARED] {
        let options = adamw_load_options { rename: Some(no_name), scope, ..load_options() };
        let failure = handle.load_bytes(&bytes, &options).unwrap_err();
        assert_eq!(failure.status, Status::InvalidArgument);
        let text = "rename gave an empty name for param \"layer.0.weight\"";
        assert!(failure.text.contains(text), "{}", failure.text);
    }
    // A step of a parameter without a name is one that the handle lacks.
    let more = with_header(&bytes, |text| {
        let n_bytes =
            "\"state.layer.0.weight.step\":{\"dtype\":\"U64\",\"shape\":[],\"data_offsets\":[0,8]}";
        let none = "\"state..step\":{\"dtype\":\"U64\",\"shape\":[0],\"data_offsets\":[0,0]}";
        assert!(text.contains(n_bytes), "{text}");
        let text = text.replacen("\"crc32\":\"", "\"crc32\":\"00000000", 1);
        text.replacen(n_bytes, &format!("{none},{n_bytes}"), 1)
    });
    let failure = handle.load_bytes(&more, &load_options()).unwrap_err();
    assert_eq!(failure.status, Status::Mismatch);
    assert!(failure.text.contains("that the handle lacks: \"\""), "{}", failure.text);
}
