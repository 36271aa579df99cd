//! Long tensors are read by several threads at once, and what is damaged is found wherever it is; so are long headers.

use crate::common::array::{Array, Dtype};
use crate::common::checkpoint::{Folder, load_options, save_args};
use crate::common::handle::{Handle, config};
use crate::common::random::Random;
use adamw::ffi::*;
use core::cell::Cell;
use core::ffi::c_void;

fn handle(config: &adamw_config, params: &[Array; 2]) -> Handle {
    let handle = Handle::new(config);
    for (name, param) in ["w", "b"].iter().zip(params) {
        handle.add_array(name, param);
    }
    handle
}

/// What is saved of parameters that have taken a step.
fn saved(params: &[Array; 2]) -> Vec<u8> {
    let (handle, mut random) = (handle(&config(), params), Random::new(3));
    let grads = params.each_ref().map(|p| Array::ordinary(p.dtype(), p.len(), &mut random));
    (0..).zip(&grads).for_each(|(number, grad)| handle.set_grad(number, grad));
    handle.step();
    handle.saved(false)
}

/// A loop of the host's that does nothing, and says so.
unsafe extern "C" fn refuses(_: usize, _: adamw_task, _: *mut c_void, asked: *mut c_void) -> i32 {
    // SAFETY: registered with a `Cell`.
    let asked = unsafe { &*asked.cast::<Cell<usize>>() };
    asked.set(asked.get() + 1);
    1
}

/// Handles whose long tensors are read by this thread alone, by several, and by a host's loop.
fn readers(asked: &Cell<usize>) -> [adamw_config; 3] {
    let parallel_for_data = core::ptr::from_ref(asked).cast_mut().cast();
    let parallel_for: adamw_parallel_for = Some(refuses);
    [
        adamw_config { num_threads: 1, ..config() },
        adamw_config { num_threads: 3, ..config() },
        adamw_config { num_threads: 3, parallel_for, parallel_for_data, ..config() },
    ]
}

#[test]
fn long_tensors_are_looked_at_everywhere_whoever_reads_them() {
    let mut random = Random::new(2);
    let params = [4_500_007, 700_000].map(|n| Array::ordinary(Dtype::F32, n, &mut random));
    let asked = Cell::new(0);
    for config in readers(&asked) {
        let saved = saved(&params);
        let (handle, mut bytes) = (handle(&config, &params), saved.clone());
        handle.load_bytes(&bytes, &load_options()).unwrap();
        assert_eq!(asked.get() > 0, config.parallel_for.is_some());
        for at in (5_000..bytes.len()).step_by(1_700_003).chain([bytes.len() - 1]) {
            bytes[at] ^= 0x10;
            let failure = handle.load_bytes(&bytes, &load_options()).unwrap_err();
            assert_eq!(failure.status, Status::Corrupt, "{at}: {failure:?}");
            assert!(failure.text.contains(".w") || failure.text.contains(".b"), "{}", failure.text);
            bytes[at] ^= 0x10;
        }
        assert!(handle.saved(false) == saved);
    }
}

unsafe extern "C" fn counts(_: u64, _: u64, calls: *mut c_void) -> i32 {
    // SAFETY: registered with a `Cell`.
    let calls = unsafe { &*calls.cast::<Cell<usize>>() };
    calls.set(calls.get() + 1);
    0
}

#[test]
fn progress_is_told_as_often_as_its_comment_says() {
    let params = [33 << 18, 4].map(|n| Array::zeros(Dtype::F32, n));
    let (handle, calls) = (handle(&config(), &params), Cell::new(0_usize));
    let (progress, progress_data): (adamw_progress, _) =
        (Some(counts), core::ptr::from_ref(&calls).cast_mut().cast());
    let bytes = handle.saved(false);
    let mut copy = vec![0; bytes.len()];
    let (data, capacity) = (copy.as_mut_ptr().cast(), copy.len());
    let args = adamw_save_args { data, capacity, progress, progress_data, ..save_args() };
    handle.save_to(&args).unwrap();
    let saving = calls.replace(0);
    let options = adamw_load_options { progress, progress_data, ..load_options() };
    handle.load_bytes(&bytes, &options).unwrap();
    // Two moments are long: 33 pieces of each are saved; two are checked, and a copy is made.
    let loading = calls.get();
    assert!((2 * 33..2 * 35).contains(&saving) && (2 * 3..2 * 6).contains(&loading), "{loading}");
}

/// A file, and which of its bytes another process changes once it has been checked.
struct Changed {
    path: std::path::PathBuf,
    at: Cell<Option<u64>>,
}

unsafe extern "C" fn changes(done: u64, total: u64, changed: *mut c_void) -> i32 {
    // SAFETY: registered with a `Changed`.
    let changed = unsafe { &*changed.cast::<Changed>() };
    if let Some(at) = changed.at.get().filter(|_| 2 * done + 100_000 >= total) {
        use std::os::unix::fs::FileExt;
        changed.at.set(None);
        let file = std::fs::File::options().read(true).write(true).open(&changed.path).unwrap();
        let mut byte = [0];
        file.read_exact_at(&mut byte, at).unwrap();
        file.write_all_at(&[byte[0] ^ 1], at).unwrap();
    }
    0
}

#[test]
fn a_file_that_changes_between_the_two_passes_is_never_taken_for_what_was_checked() {
    let (mut random, folder) = (Random::new(2), Folder::new());
    let params = [5_000_003, 300].map(|n| Array::ordinary(Dtype::F32, n, &mut random));
    let asked = Cell::new(0);
    for config in readers(&asked) {
        let (saved, path) = (saved(&params), folder.join("checkpoint"));
        let handle = handle(&config, &params);
        std::fs::write(&path, &saved).unwrap();
        let n_bytes = saved.len() as u64;
        for at in [n_bytes / 3, n_bytes / 2, n_bytes - 2_000_000] {
            let changed = Changed { path: path.clone(), at: Cell::new(Some(at)) };
            let progress: adamw_progress = Some(changes);
            let progress_data = (&raw const changed).cast_mut().cast();
            let options = adamw_load_options { progress, progress_data, ..load_options() };
            let failure = handle.load(&path, &options).expect_err(&at.to_string());
            assert_eq!(failure.status, Status::Corrupt, "{at}: {failure:?}");
            assert_eq!(handle.try_step().unwrap_err().status, Status::Poisoned);
            handle.load_bytes(&saved, &load_options()).unwrap();
            assert!(handle.saved(false) == saved);
            handle.save(&path).unwrap();
        }
    }
}

#[test]
fn the_header_does_not_grow_with_the_number_of_parameters() {
    let mut random = Random::new(4);
    let params: Vec<_> =
        (0..200_000).map(|_| Array::ordinary(Dtype::F32, 1, &mut random)).collect();
    let many = || {
        let handle = Handle::new(&config());
        for (i, param) in params.iter().enumerate() {
            handle.add_array(&format!("model.layers.{i}.mlp.down_proj.weight"), param);
        }
        handle
    };
    let (trained, grad) = (many(), Array::of(Dtype::F32, &[0.5]));
    (0..params.len() as u32).for_each(|number| trained.set_grad(number, &grad));
    trained.step();
    let saved = trained.saved(false);
    let header = u64::from_le_bytes(saved[..8].try_into().unwrap());
    assert!(header < 10_000, "{header}");
    let other = many();
    other.load_bytes(&saved, &load_options()).unwrap();
    assert!(other.saved(false) == saved);
}
