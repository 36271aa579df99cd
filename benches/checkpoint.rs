//! Saving and loading beside what the disk does with the same bytes, in the same run: `dd` with fsync for a
//! save, reading the file twice for a load (which checks all of it before it takes any).
//!
//! `cargo bench --bench checkpoint [-- <MB of state>]`; the file is in `ADAMW_BENCH_FOLDER`, or in the
//! folder for temporary files.

use adamw::ffi::{self, Status};
use core::ptr::{null, null_mut};
use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;
use std::time::Instant;

const ROUNDS: usize = 5;

fn ok(status: Status) {
    assert_eq!(status, Status::Ok);
}

fn seconds(work: impl FnOnce()) -> f64 {
    let start = Instant::now();
    work();
    start.elapsed().as_secs_f64()
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// What `dd` does with bs=1M and conv=fsync, from bytes that are in memory as the state is.
fn plain_write(path: &Path, bytes: &[u8]) {
    let temporary = path.with_extension("tmp");
    let mut file = File::create(&temporary).unwrap();
    bytes.chunks(1 << 20).for_each(|piece| file.write_all(piece).unwrap());
    file.sync_all().unwrap();
    std::fs::rename(temporary, path).unwrap();
}

fn plain_read(path: &Path, buffer: &mut [u8]) {
    let mut file = File::open(path).unwrap();
    while file.read(buffer).unwrap() > 0 {}
}

fn peak_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024
}

fn main() {
    let mut numbers = std::env::args().filter_map(|argument| argument.parse::<usize>().ok());
    let n = numbers.next_back().unwrap_or(1500) * 1_000_000 / 8;
    let folder = std::env::var_os("ADAMW_BENCH_FOLDER").map_or(std::env::temp_dir(), Into::into);
    let path = folder.join(format!("adamw-bench-{}", std::process::id()));
    let c_path = std::ffi::CString::new(path.to_str().unwrap()).unwrap();

    let (mut param, grad) = (vec![1f32; n], vec![0.5f32; n]);
    let (mut optimizer, mut number) = (null_mut(), 0);
    // SAFETY: what is passed outlives the calls, the two arrays the optimizer.
    unsafe {
        ok(ffi::adamw_create(null(), &mut optimizer));
        let name = c"w".as_ptr();
        let data = param.as_mut_ptr().cast();
        ok(ffi::adamw_add_array(optimizer, name, data, n as u64, 1, &mut number));
        ok(ffi::adamw_set_grad_array(
            optimizer,
            number,
            grad.as_ptr().cast_mut().cast(),
            n as u64,
            1,
        ));
    }
    ok(ffi::adamw_step(optimizer));
    let (bytes, mut buffer) = (vec![7u8; 8 * n], vec![0u8; 1 << 20]);
    let before = peak_mib();
    let (mut saves, mut writes, mut loads, mut reads) = (vec![], vec![], vec![], vec![]);
    for _ in 0..ROUNDS {
        writes.push(seconds(|| plain_write(&path, &bytes)));
        // SAFETY: the path is NUL-terminated.
        saves.push(seconds(|| ok(unsafe { ffi::adamw_save(optimizer, c_path.as_ptr()) })));
        reads.push(seconds(|| (0..2).for_each(|_| plain_read(&path, &mut buffer))));
        // SAFETY: as above.
        loads.push(seconds(|| ok(unsafe { ffi::adamw_load(optimizer, c_path.as_ptr(), null()) })));
    }
    let grown = peak_mib() - before;
    ok(ffi::adamw_destroy(optimizer));
    std::fs::remove_file(&path).unwrap();
    for (what, ours, theirs) in
        [("save / plain write and fsync", saves, writes), ("load / reading twice", loads, reads)]
    {
        let (ours, theirs) = (median(ours), median(theirs));
        let megabytes = 8.0 * n as f64 / 1e6;
        println!(
            "{what}: {:.0} MB/s, {:.0} MB/s, {:.2} of its speed",
            megabytes / ours,
            megabytes / theirs,
            theirs / ours
        );
    }
    println!("more memory than before: {grown} MiB, for {} MB of state", 8 * n / 1_000_000);
}
