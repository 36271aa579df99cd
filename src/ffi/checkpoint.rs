//! Saving state to files, and loading it.

use super::checkpoint_types::*;
use super::lifecycle::flag;
use super::{Optimizer, Status, entry, guard, handle, name, not_null, sized};
use crate::callback::{HostProgress, HostReader, HostWriter, Rename};
use crate::checkpoint::{Buffers, Checkpoint, Progress, Source, Window, alone, open_all};
use crate::error::Error;
use crate::optimizer::{LoadOptions, Scope, Target};
use crate::sys::files::Reading;
use crate::sys::fp;
use core::ffi::{c_char, c_void};
use core::ptr::null;

/// Saves the state of all parameters to a file, and all that a run needs to go on with the same bits:
/// step counts and beta powers, hyper-parameters, groups, the learning rate, the schedule, the loss
/// scaler, the seed. (Not the parameters: `adamw_save_to` can; nor functions and pointers of the host's. Where
/// `lr_ptr` has a learning rate that no step would take, the one that the last step took is saved.)
///
/// The file is there whole, or what was there before is: it is written beside its place, made durable,
/// and renamed, and the directory is made durable after it. A symbolic link stays, and what it leads to
/// is replaced. A new file has the mode that the umask leaves of 0666. One that takes the place of another
/// has the other's mode (nine bits of it), owner and group, as far as the process may and the file system
/// has them; where the group cannot be had, its members get no more than everybody.
///
/// `ADAMW_STATUS_IO` if the system fails: what was there is still there (if only the directory's fsync
/// failed, the new file is), and no other file is left. A file system that knows no fsync, or none of
/// directories, is no failure: `adamw_save_to` tells, by `out_durable`. A process that is killed may leave
/// `.adamw-000.tmp` in the directory, which the next save there removes.
///
/// Rows that lag (ADAMW_LAZY_EXACT) are brought up to date first. Accumulated gradients are not state:
/// `ADAMW_STATUS_INVALID_ARGUMENT` while there are some, and while some parameters have been stepped alone
/// (`adamw_step_param`) and others still have a gradient.
///
/// # Safety
/// `path` is NULL or NUL-terminated.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn adamw_save(optimizer: *mut Optimizer, path: *const c_char) -> Status {
    guard(|| {
        handle::with(optimizer, |optimizer| {
            // SAFETY: the caller's word.
            let path = unsafe { name(path, "path") }?;
            optimizer.save(Target::File(path), false, None).map(drop)
        })
    })
}

/// Saves to a file, to memory or through a function, and writes how many bytes that takes to
/// `out_num_bytes`, which may be NULL. All three give the same bytes. With `args.size_only` nothing is
/// saved, and only the number is written. Anything else that names none of the three, a path that nobody
/// set, say, is `ADAMW_STATUS_INVALID_ARGUMENT`.
///
/// # Safety
/// `args` is NULL, or readable with all that it points to (`data` and `out_durable`: writable); its
/// functions may be called; `out_num_bytes` is NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn adamw_save_to(
    optimizer: *mut Optimizer,
    args: *const adamw_save_args,
    out_num_bytes: *mut u64,
) -> Status {
    guard(|| {
        // SAFETY: a struct of numbers and nullable pointers.
        let zeros: adamw_save_args = unsafe { core::mem::zeroed() };
        let (written, out_durable) = handle::with(optimizer, |optimizer| {
            // SAFETY: the caller's word.
            let args = unsafe { sized::read(args, zeros) }?;
            let params = flag("args.params", args.params)?;
            // SAFETY: the caller's word.
            let (target, progress) = unsafe {
                (
                    target(&args, out_num_bytes)?,
                    HostProgress::new(args.progress, args.progress_data),
                )
            };
            Ok((optimizer.save(target, params, progress)?, args.out_durable))
        })?;
        if !out_durable.is_null() {
            // SAFETY: not NULL, and the caller's word.
            unsafe { out_durable.write_unaligned(written.is_durable.into()) };
        }
        if !out_num_bytes.is_null() {
            // SAFETY: not NULL, and the caller's word.
            unsafe { out_num_bytes.write_unaligned(written.n_bytes) };
        }
        Ok(())
    })
}

/// Loads what `adamw_save` saved into a handle that has the same parameters and settings: it goes on
/// with the same bits, whatever its instruction set and threads. `options` may be NULL. The host loads
/// the parameters themselves, unless they were saved and `options` says so: rows that lag
/// (ADAMW_LAZY_EXACT) are brought up to date first, so that it does so after the load, or calls
/// `adamw_sparse_flush` before. What was accumulated or measured (`adamw_grad_ready`) of a parameter that is
/// loaded is forgotten; gradients that are set stay.
///
/// Groups, parameters, the schedule and the loss scaler are there before, as they were in the handle that
/// was saved: a load adds none. What it takes are values: state and steps of each parameter, how far
/// the schedule and the scaler have come, and the learning rate. The saved learning rate wins over
/// `adamw_config.lr`, over `adamw_set_lr` and over the schedule's first, but not over `lr_ptr`, which is the
/// host's; with ADAMW_LOAD_SHARED or `keep_schedule` the handle's stays. Do not call `adamw_sync_master`
/// after it: masters and remainders are loaded.
///
/// All is checked before anything is changed: `ADAMW_STATUS_CORRUPT` if the file is damaged or none of
/// this library's, `ADAMW_STATUS_MISMATCH` if it is another handle's, with a list of what
/// differs, both values, and what can be done, `ADAMW_STATUS_UNSUPPORTED` if its format is newer. Only if the file fails or changes between
/// the check and the copy is the handle `ADAMW_STATUS_POISONED` from then on: it can be loaded again or
/// destroyed.
///
/// # Safety
/// `path` is NULL or NUL-terminated; `options` is NULL or readable, and its functions may be called.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn adamw_load(
    optimizer: *mut Optimizer,
    path: *const c_char,
    options: *const adamw_load_options,
) -> Status {
    let source = adamw_source {
        struct_size: size_of::<adamw_source>(),
        path,
        data: null(),
        num_bytes: 0,
        read: None,
        read_data: core::ptr::null_mut(),
    };
    guard(|| {
        handle::load(optimizer, |optimizer| {
            if path.is_null() {
                return Err(Error::Null("path"));
            }
            // SAFETY: the caller's word, and the source lives through the call.
            unsafe { load(optimizer, &(&raw const source), 1, options) }
        })
    })
}

/// Loads one checkpoint from several sources, `[num_sources]`: the files of all ranks, say. Each
/// parameter of the handle takes its elements from wherever they are, so that what was saved on some
/// number of ranks can be loaded on any other. (A parameter that is a part of a larger one says so by
/// `first_element` and `whole_elements`. Moments in codes can be cut only where a block of 256, or of
/// 128, ends.)
///
/// Half as many files are open at once as the process may have open (RLIMIT_NOFILE), and fewer where the
/// host has more; the others are closed and opened again, and have to be the same files then.
///
/// # Safety
/// The pointers of `sources` are NULL or readable with all that they point to; `options` as for
/// `adamw_load`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn adamw_load_from(
    optimizer: *mut Optimizer,
    sources: *const *const adamw_source,
    num_sources: usize,
    options: *const adamw_load_options,
) -> Status {
    guard(|| {
        // SAFETY: the caller's word.
        handle::load(optimizer, |optimizer| unsafe {
            load(optimizer, sources, num_sources, options)
        })
    })
}

/// Checks a checkpoint and shows `visit` what is in it: first the texts, then the tensors, in the order
/// of their names. It needs no handle.
///
/// # Safety
/// `source` is NULL or readable with all that it points to; `visit` may be called with `user_data`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn adamw_inspect(
    source: *const adamw_source,
    visit: adamw_visit,
    user_data: *mut c_void,
) -> Status {
    guard(|| {
        let visit = visit.ok_or(Error::Null("visit"))?;
        // SAFETY: the caller's word.
        let mut checkpoint = Checkpoint::open(unsafe { self::source(source) }?)?;
        let mut window = Window::new()?;
        let (buffers, mut progress) = (Buffers::default(), Progress::new(None, 0));
        checkpoint.verify(&mut window, &buffers, &mut progress, &mut alone)?;
        let show = |entry: &adamw_entry| {
            // SAFETY: the caller's word; the entry lives through the call.
            match fp::as_host(|| unsafe { visit(entry, user_data) }) {
                0 => Ok(()),
                returned => Err(Error::Transfer { name: "visit", returned }),
            }
        };
        let none = adamw_entry {
            struct_size: size_of::<adamw_entry>(),
            name: null(),
            text: null(),
            dtype: null(),
            n_elements: 0,
            offset: 0,
            value: f64::NAN,
        };
        for (name, text) in checkpoint.header().texts() {
            show(&adamw_entry { name: name.as_ptr().cast(), text: text.as_ptr().cast(), ..none })?;
        }
        for found in checkpoint.header().entries() {
            show(&adamw_entry {
                name: checkpoint.header().name_with_nul(found).as_ptr().cast(),
                dtype: found.dtype_c().as_ptr(),
                n_elements: found.n_elements(),
                offset: checkpoint.offset(found),
                value: window.number(&checkpoint, found)?,
                ..none
            })?;
        }
        Ok(())
    })
}

/// # Safety
/// As `adamw_load_from`.
unsafe fn load(
    optimizer: &mut Optimizer,
    sources: *const *const adamw_source,
    num_sources: usize,
    options: *const adamw_load_options,
) -> Result<(), Error> {
    // SAFETY: a struct of numbers and nullable pointers.
    let zeros: adamw_load_options = unsafe { core::mem::zeroed() };
    let options = match options.is_null() {
        true => zeros,
        // SAFETY: the caller's word.
        false => unsafe { sized::read(options, zeros) }?,
    };
    zero("options.reserved", options.reserved)?;
    let options = LoadOptions {
        scope: Scope::of("options.scope", options.scope)?,
        params: flag("options.params", options.params)?,
        convert: flag("options.convert", options.convert)?,
        keep_schedule: flag("options.keep_schedule", options.keep_schedule)?,
        extend: flag("options.extend", options.extend)?,
        // SAFETY: the caller's word.
        rename: unsafe { Rename::new(options.rename, options.rename_data) },
        // SAFETY: the caller's word.
        progress: unsafe { HostProgress::new(options.progress, options.progress_data) },
    };
    not_null("sources", sources, num_sources)?;
    // SAFETY: there are `num_sources`, and the caller's word.
    let opened = open_all(num_sources, |i| unsafe { source(entry(sources, i)) })?;
    optimizer.load(opened, &options)
}

/// # Safety
/// `from` is NULL, or readable for as long as the source lives, with all that it points to.
unsafe fn source<'a>(from: *const adamw_source) -> Result<Source<'a>, Error> {
    // SAFETY: a struct of numbers and nullable pointers.
    let zeros: adamw_source = unsafe { core::mem::zeroed() };
    // SAFETY: the caller's word.
    let from = unsafe { sized::read(from, zeros) }?;
    let is_memory = !from.data.is_null() || from.path.is_null() && from.read.is_none();
    let is = [!from.path.is_null(), is_memory, from.read.is_some()];
    one_of("source", "path, data and read", &is)?;
    if is_memory {
        let n = usize::try_from(from.num_bytes).ok().filter(|&n| n <= isize::MAX as usize);
        let n = n.ok_or(Error::Null("source.data for so many bytes"))?;
        not_null("source.data", from.data, n)?;
        let data = if n == 0 { core::ptr::dangling() } else { from.data.cast::<u8>() };
        // SAFETY: the caller's word; no bytes may be anywhere.
        return Ok(Source::Memory(unsafe { core::slice::from_raw_parts(data, n) }));
    }
    // SAFETY: the caller's word.
    if let Some(reader) = unsafe { HostReader::new(from.read, from.read_data, from.num_bytes) } {
        return Ok(Source::Host(reader));
    }
    // SAFETY: the caller's word.
    Ok(Source::File(Reading::open(unsafe { name(from.path, "source.path") }?)?))
}

/// # Safety
/// As `adamw_save_to`.
unsafe fn target<'a>(args: &adamw_save_args, out_num_bytes: *mut u64) -> Result<Target<'a>, Error> {
    let size_only = flag("args.size_only", args.size_only)?;
    let is = [!args.path.is_null(), !args.data.is_null(), args.write.is_some(), size_only];
    one_of("args", "path, data, write and size_only", &is)?;
    if size_only {
        return match out_num_bytes.is_null() {
            true => Err(Error::Null("out_num_bytes, where size_only asks for it,")),
            false => Ok(Target::Size),
        };
    }
    if !args.data.is_null() {
        let n = args.capacity.min(isize::MAX as usize);
        // SAFETY: the caller's word. Bytes that nobody wrote yet are only written.
        let data = unsafe { core::slice::from_raw_parts_mut(args.data.cast::<u8>(), n) };
        return Ok(Target::Memory(data));
    }
    // SAFETY: the caller's word.
    if let Some(writer) = unsafe { HostWriter::new(args.write, args.write_data) } {
        return Ok(Target::Host(writer));
    }
    // SAFETY: the caller's word.
    Ok(Target::File(unsafe { name(args.path, "args.path") }?))
}

fn one_of(name: &'static str, of: &'static str, given: &[bool]) -> Result<(), Error> {
    match given.iter().filter(|&&given| given).count() {
        1 => Ok(()),
        count => Err(Error::OneOf { name, count, of }),
    }
}

fn zero(name: &'static str, value: u32) -> Result<(), Error> {
    if value == 0 { Ok(()) } else { Err(Error::Constant { name, value, expected: "0" }) }
}
