//! Saving and loading through the C API, and files to do it in.

use super::handle::{Answer, Handle, answer, call};
use super::host::{from_user_data, user_data};
use adamw::ffi::{self, *};
use core::cell::Cell;
use core::ffi::c_void;
use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A directory that is removed with its owner.
pub struct Folder(PathBuf);

impl Folder {
    pub fn new() -> Folder {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("adamw-test-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir(&path).unwrap();
        Folder(path)
    }

    pub fn join(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The names of all files in it.
    pub fn names(&self) -> Vec<String> {
        let entries = std::fs::read_dir(&self.0).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

pub fn c_path(path: &Path) -> CString {
    CString::new(path.as_os_str().as_bytes()).unwrap()
}

pub fn save_args() -> adamw_save_args {
    // SAFETY: a struct of numbers and nullable pointers.
    let zeros: adamw_save_args = unsafe { core::mem::zeroed() };
    adamw_save_args { struct_size: size_of_val(&zeros), ..zeros }
}

pub fn load_options() -> adamw_load_options {
    // SAFETY: a struct of numbers and nullable pointers.
    let zeros: adamw_load_options = unsafe { core::mem::zeroed() };
    adamw_load_options { struct_size: size_of_val(&zeros), ..zeros }
}

pub fn source() -> adamw_source {
    // SAFETY: a struct of numbers and nullable pointers.
    let zeros: adamw_source = unsafe { core::mem::zeroed() };
    adamw_source { struct_size: size_of_val(&zeros), ..zeros }
}

pub fn in_memory(bytes: &[u8]) -> adamw_source {
    adamw_source { data: bytes.as_ptr().cast(), num_bytes: bytes.len() as u64, ..source() }
}

/// Bytes of a checkpoint that the host reads, and how many of them have been asked for.
pub struct Read<'a> {
    bytes: &'a [u8],
    n_read: Cell<u64>,
}

impl Read<'_> {
    pub fn new(bytes: &[u8]) -> Read<'_> {
        Read { bytes, n_read: Cell::new(0) }
    }

    /// It outlives what is loaded from here.
    pub fn source(&self) -> adamw_source {
        let num_bytes = self.bytes.len() as u64;
        adamw_source { read: Some(read), read_data: user_data(self), num_bytes, ..source() }
    }

    /// How often all bytes have been asked for.
    pub fn times(&self) -> f64 {
        self.n_read.get() as f64 / self.bytes.len() as f64
    }
}

unsafe extern "C" fn read(
    offset: u64,
    out_data: *mut c_void,
    num_bytes: usize,
    from: *mut c_void,
) -> i32 {
    // SAFETY: `source`'s own, and the library's buffer.
    unsafe {
        let from = from_user_data::<Read>(from);
        from.n_read.set(from.n_read.get() + num_bytes as u64);
        let bytes = &from.bytes[offset as usize..][..num_bytes];
        out_data.cast::<u8>().copy_from_nonoverlapping(bytes.as_ptr(), num_bytes);
    }
    0
}

/// The bytes that a save gives to a function of the host's, on whichever thread.
#[derive(Default)]
pub struct Gathered(Mutex<Vec<u8>>);

impl Gathered {
    /// It outlives the save.
    pub fn args(&self) -> adamw_save_args {
        adamw_save_args { write: Some(gather), write_data: user_data(self), ..save_args() }
    }

    pub fn take(&self) -> Vec<u8> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

unsafe extern "C" fn gather(data: *const c_void, num_bytes: usize, to: *mut c_void) -> i32 {
    // SAFETY: `args`' own, and the library's bytes.
    let (to, bytes) = unsafe {
        let bytes = core::slice::from_raw_parts(data.cast::<u8>(), num_bytes);
        (from_user_data::<Gathered>(to), bytes)
    };
    to.0.lock().unwrap().extend_from_slice(bytes);
    0
}

impl Handle {
    pub fn save_begin(&self, args: &adamw_save_args) -> Answer {
        call!(adamw_save_begin(self.raw(), args))
    }

    /// The number of bytes, and whether they are durable.
    pub fn save_wait(&self) -> Answer<(u64, u32)> {
        let (mut n_bytes, mut durable) = (u64::MAX, u32::MAX);
        call!(adamw_save_wait(self.raw(), &mut n_bytes, &mut durable))?;
        Ok((n_bytes, durable))
    }

    /// Whether a save is running, and the numbers of bytes that are done and of all.
    pub fn save_poll(&self) -> Answer<(u32, u64, u64)> {
        let (mut running, mut done, mut total) = (u32::MAX, u64::MAX, u64::MAX);
        call!(adamw_save_poll(self.raw(), &mut running, &mut done, &mut total))?;
        Ok((running, done, total))
    }

    /// The checkpoint as the handle's thread writes it while `meanwhile` goes on.
    pub fn saved_beside(&self, params: bool, meanwhile: impl FnOnce()) -> Vec<u8> {
        let gathered = Gathered::default();
        self.save_begin(&adamw_save_args { params: params.into(), ..gathered.args() }).unwrap();
        meanwhile();
        let (n_bytes, durable) = self.save_wait().unwrap();
        let bytes = gathered.take();
        assert_eq!((n_bytes, durable), (bytes.len() as u64, 0));
        bytes
    }

    pub fn save(&self, path: &Path) -> Answer {
        call!(adamw_save(self.raw(), c_path(path).as_ptr()))
    }

    pub fn save_to(&self, args: &adamw_save_args) -> Answer<u64> {
        let mut n_bytes = u64::MAX;
        call!(adamw_save_to(self.raw(), args, &mut n_bytes))?;
        Ok(n_bytes)
    }

    /// The same without asking for the number of bytes.
    pub fn save_nothing(&self, args: &adamw_save_args) -> Answer {
        call!(adamw_save_to(self.raw(), args, core::ptr::null_mut()))
    }

    /// How many bytes a checkpoint takes, or why there is none.
    pub fn saved_or_refused(&self) -> Answer<u64> {
        self.save_to(&adamw_save_args { size_only: 1, ..save_args() })
    }

    /// The checkpoint as bytes.
    pub fn saved(&self, params: bool) -> Vec<u8> {
        let args = adamw_save_args { params: params.into(), ..save_args() };
        let size = self.save_to(&adamw_save_args { size_only: 1, ..args }).unwrap();
        let mut bytes = vec![0x7f; size as usize];
        let (data, capacity) = (bytes.as_mut_ptr().cast(), bytes.len());
        let n_bytes = self.save_to(&adamw_save_args { data, capacity, ..args }).unwrap();
        assert_eq!(n_bytes, capacity as u64);
        bytes
    }

    pub fn load(&self, path: &Path, options: &adamw_load_options) -> Answer {
        call!(adamw_load(self.raw(), c_path(path).as_ptr(), options))
    }

    pub fn load_from(&self, sources: &[adamw_source], options: &adamw_load_options) -> Answer {
        let pointers: Vec<_> = sources.iter().map(|source| &raw const *source).collect();
        call!(adamw_load_from(self.raw(), pointers.as_ptr(), pointers.len(), options))
    }

    pub fn load_bytes(&self, bytes: &[u8], options: &adamw_load_options) -> Answer {
        self.load_from(&[in_memory(bytes)], options)
    }
}

/// The same checkpoint with another text as its header, and the checksum that this header has.
pub fn with_header(bytes: &[u8], edit: impl FnOnce(String) -> String) -> Vec<u8> {
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let text = edit(String::from_utf8(bytes[8..8 + length].to_vec()).unwrap());
    sealed(text, &bytes[8 + length..])
}

/// A file of this header, its checksum put in, and these tensors.
pub fn sealed(text: String, tensors: &[u8]) -> Vec<u8> {
    let mut bytes = (text.len() as u64).to_le_bytes().to_vec();
    bytes.extend(text.into_bytes());
    const KEY: &[u8] = b"\"header_crc32\":\"";
    if let Some(at) = bytes.windows(KEY.len()).position(|window| window == KEY) {
        let digits = at + KEY.len()..at + KEY.len() + 8;
        bytes[digits.clone()].fill(b'0');
        let sum = crc32(&bytes);
        bytes[digits].copy_from_slice(format!("{sum:08x}").as_bytes());
    }
    bytes.extend(tensors);
    bytes
}

/// The checksum of zip and PNG, bit by bit.
pub fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0u32, |sum, byte| {
        (0..8).fold(sum ^ u32::from(*byte), |sum, _| {
            (sum >> 1) ^ (0xedb8_8320 & (sum & 1).wrapping_neg())
        })
    })
}
