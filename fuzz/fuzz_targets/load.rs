//! Whatever is loaded: no crash, and after an error nothing has changed. What is taken for a checkpoint, the
//! `safetensors` crate reads too.
//!
//! An input is a byte that says how it is meant, and a file. 0: as it is. Otherwise its checksums are put
//! right first, so that what comes behind them is reached, too.
#![no_main]

use adamw::ffi::*;
use core::ptr::{null, null_mut};
use libfuzzer_sys::fuzz_target;
use safetensors::SafeTensors;
use std::cell::RefCell;

struct World {
    optimizer: *mut Optimizer,
    _memory: Box<[[f32; 8]; 2]>,
}

thread_local! {
    static WORLD: RefCell<World> = RefCell::new(World::new());
}

fn ok(status: Status) {
    assert_eq!(status, Status::Ok);
}

impl World {
    /// The parameters of the files in the corpus: w `[5] f32` and b `[3] bf16` with a master.
    fn new() -> World {
        let mut memory = Box::new([[0f32; 8]; 2]);
        let mut optimizer = null_mut();
        let mut number = 0;
        // SAFETY: the memory lives as long as the optimizer.
        unsafe {
            let mut config = core::mem::zeroed();
            ok(adamw_config_init(&mut config, size_of_val(&config)));
            (config.num_threads, config.multi_precision) = (1, 1);
            config.clip_scope = ADAMW_CLIP_SCOPE_GROUP; // as in the files of the corpus
            ok(adamw_create(&config, &mut optimizer));
            let [w, b] = memory.each_mut().map(|array| array.as_mut_ptr().cast());
            ok(adamw_add_array(optimizer, c"w".as_ptr(), w, 5, ADAMW_DTYPE_F32, &mut number));
            ok(adamw_add_array(optimizer, c"b".as_ptr(), b, 3, ADAMW_DTYPE_BF16, &mut number));
        }
        World { optimizer, _memory: memory }
    }

    fn saved(&self) -> Vec<u8> {
        let mut bytes = vec![0; 1 << 16];
        let mut n = 0;
        // SAFETY: a struct of numbers and nullable pointers, and memory that lives through the call.
        unsafe {
            let mut args: adamw_save_args = core::mem::zeroed();
            args.struct_size = size_of_val(&args);
            (args.data, args.capacity) = (bytes.as_mut_ptr().cast(), bytes.len());
            ok(adamw_save_to(self.optimizer, &args, &mut n));
        }
        bytes.truncate(n as usize);
        bytes
    }

    fn load(&self, bytes: &[u8], scope: adamw_load_scope) -> Status {
        // SAFETY: as above.
        unsafe {
            let mut source: adamw_source = core::mem::zeroed();
            source.struct_size = size_of_val(&source);
            (source.data, source.num_bytes) = (bytes.as_ptr().cast(), bytes.len() as u64);
            let mut options: adamw_load_options = core::mem::zeroed();
            options.struct_size = size_of_val(&options);
            (options.scope, options.convert) = (scope, 1);
            let source: *const adamw_source = if bytes.is_empty() { null() } else { &source };
            adamw_load_from(self.optimizer, &source, 1, &options)
        }
    }
}

/// Puts the checksums right, where there are places for them.
fn seal(bytes: &mut [u8]) {
    let find = |bytes: &[u8], key: &[u8]| bytes.windows(key.len()).position(|at| at == key);
    if let Ok((length, metadata)) = SafeTensors::read_metadata(bytes)
        && let Some(at) = find(bytes, b"\"crc32\":\"")
    {
        let mut tensors: Vec<_> = metadata.tensors().into_values().map(|t| t.data_offsets).collect();
        tensors.sort();
        for (i, (start, end)) in tensors.into_iter().enumerate() {
            let sum = crc32fast::hash(&bytes[8 + length + start..8 + length + end]);
            if let Some(digits) = bytes.get_mut(at + 9 + 8 * i..at + 17 + 8 * i) {
                digits.copy_from_slice(format!("{sum:08x}").as_bytes());
            }
        }
    }
    const KEY: &[u8] = b"\"header_crc32\":\"";
    let length = bytes.get(..8).map(|bytes| u64::from_le_bytes(bytes.try_into().unwrap()));
    let header = length.and_then(|length| usize::try_from(length).ok()?.checked_add(8));
    if let (Some(at), Some(end)) = (find(bytes, KEY), header)
        && at + KEY.len() + 8 <= end
        && end <= bytes.len()
    {
        bytes[at + KEY.len()..][..8].fill(b'0');
        let sum = crc32fast::hash(&bytes[..end]);
        bytes[at + KEY.len()..][..8].copy_from_slice(format!("{sum:08x}").as_bytes());
    }
}

fuzz_target!(|data: &[u8]| {
    let Some((how, file)) = data.split_first() else { return };
    let mut bytes = file.to_vec();
    if *how != 0 {
        seal(&mut bytes);
    }
    WORLD.with_borrow(|world| {
        let before = world.saved();
        let status = world.load(&bytes, u32::from(how % 3));
        assert_ne!(status, Status::Internal);
        match status {
            Status::Ok | Status::Mismatch => assert!(SafeTensors::deserialize(&bytes).is_ok()),
            _ => {}
        }
        if status == Status::Ok {
            let saved = world.saved();
            ok(world.load(&saved, ADAMW_LOAD_ALL));
            assert_eq!(world.saved(), saved);
        } else {
            assert_eq!(world.saved(), before);
        }
    });
});
