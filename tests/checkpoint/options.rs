//! The ways to save and load: files of every kind, the host's functions, other names, other types, parts.

use crate::common::array::{Array, Dtype};
use crate::common::checkpoint::{Folder, Read, c_path, load_options, save_args, source};
use crate::common::handle::{Handle, config};
use crate::common::host::{from_user_data, user_data};
use crate::common::random::Random;
use adamw::ffi::*;
use core::cell::{Cell, RefCell};
use core::ffi::{CStr, c_char, c_void};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

/// A handle with parameters of these names that have taken three steps.
fn trained(config: &adamw_config, names: &[&str], params: &[Array]) -> Handle {
    let handle = Handle::new(config);
    let numbers: Vec<_> = names.iter().zip(params).map(|(n, p)| handle.add_array(n, p)).collect();
    let mut random = Random::new(3);
    for _ in 0..3 {
        for (number, param) in numbers.iter().zip(params) {
            let grad = Array::ordinary(param.dtype(), param.len(), &mut random);
            handle.set_grad(*number, &grad);
            handle.step();
            handle.clear_grad(ADAMW_CLEAR_FORGET);
        }
    }
    handle
}

fn arrays(dtype: Dtype) -> [Array; 2] {
    let mut random = Random::new(1);
    [700_000, 3].map(|n| Array::ordinary(dtype, n, &mut random))
}

const NAMES: [&str; 2] = ["w", "b"];

// ---------------------------------------------------------------------------------- files

#[test]
fn a_symbolic_link_stays_and_what_it_leads_to_is_replaced() {
    let (folder, params) = (Folder::new(), arrays(Dtype::F32));
    let handle = trained(&config(), &NAMES, &params);
    std::fs::create_dir_all(folder.join("far/away")).unwrap();
    for (name, link, target) in [
        ("relative", "far/away/real", "far/away/real"),
        ("twice", "relative", "far/away/real"),
        ("dangling", "far/new", "far/new"),
    ] {
        symlink(link, folder.join(name)).unwrap();
        handle.save(&folder.join(name)).unwrap();
        assert!(folder.join(name).is_symlink(), "{name}");
        assert!(!folder.join(target).is_symlink(), "{name}");
        handle.load(&folder.join(target), &load_options()).unwrap();
    }
    symlink(folder.join("far/absolute"), folder.join("absolute")).unwrap();
    handle.save(&folder.join("absolute")).unwrap();
    handle.load(&folder.join("far/absolute"), &load_options()).unwrap();
    symlink("circle", folder.join("circle")).unwrap();
    let failure = handle.save(&folder.join("circle")).unwrap_err();
    assert!(failure.text.ends_with("Too many levels of symbolic links"), "{}", failure.text);
    let there = ["absolute", "circle", "dangling", "far", "relative", "twice"];
    assert_eq!(folder.names(), there);
}

#[test]
fn a_link_to_another_device_is_followed() {
    let (folder, params) = (Folder::new(), arrays(Dtype::F32));
    let handle = trained(&config(), &NAMES, &params);
    let device = |path: &std::path::Path| std::fs::metadata(path).map(|found| found.dev());
    let far = std::path::PathBuf::from(format!("/dev/shm/adamw-test-{}", std::process::id()));
    if device(std::path::Path::new("/dev/shm")).is_ok_and(|it| it != device(folder.path()).unwrap())
    {
        symlink(&far, folder.join("link")).unwrap();
        let saved = handle.save(&folder.join("link"));
        let bytes = std::fs::read(&far);
        let _ = std::fs::remove_file(&far);
        saved.unwrap();
        assert_eq!(bytes.unwrap(), handle.saved(false));
    }
}

#[test]
fn what_cannot_be_replaced_is_a_clear_error() {
    let (folder, params) = (Folder::new(), arrays(Dtype::F32));
    let handle = trained(&config(), &NAMES, &params);
    std::fs::create_dir(folder.join("directory")).unwrap();
    let fifo = c_path(&folder.join("fifo"));
    // SAFETY: the path is NUL-terminated.
    assert_eq!(unsafe { libc::mkfifo(fifo.as_ptr(), 0o600) }, 0);
    std::fs::write(folder.join("file"), "x").unwrap();
    let long = "n".repeat(256);
    for (name, text) in [
        ("directory", "open failed: Is a directory"),
        ("directory/", "open failed: Is a directory"),
        ("", "open failed: Is a directory"),
        ("missing/file", "open failed: No such file or directory"),
        ("file/below", "open failed: Not a directory"),
        ("fifo", "is not a regular file, as a checkpoint is"),
        (&long, "open failed: File name too long"),
    ] {
        let failure = handle.save(&folder.join(name)).unwrap_err();
        assert_eq!(failure.status, Status::Io, "{name}: {failure:?}");
        assert!(failure.text.ends_with(text), "{name}: {}", failure.text);
    }
    let null = handle.save(std::path::Path::new("/dev/null")).unwrap_err();
    assert_eq!(null.text, "file \"/dev/null\" is not a regular file, as a checkpoint is");
    assert_eq!(folder.names(), ["directory", "fifo", "file"]);
    assert_eq!(std::fs::read(folder.join("file")).unwrap(), b"x");
}

#[test]
fn a_file_and_a_directory_that_are_read_only_stay_as_they_are() {
    // SAFETY: no precondition.
    if unsafe { libc::geteuid() } == 0 {
        return as_another_user();
    }
    let (folder, params) = (Folder::new(), arrays(Dtype::F32));
    let handle = trained(&config(), &NAMES, &params);
    let mode = |name: &str, mode| {
        let permissions = std::fs::Permissions::from_mode(mode);
        std::fs::set_permissions(folder.join(name), permissions).unwrap();
    };
    std::fs::write(folder.join("file"), "x").unwrap();
    std::fs::create_dir(folder.join("directory")).unwrap();
    mode("file", 0o444);
    mode("directory", 0o555);
    for name in ["file", "directory/file"] {
        let failure = handle.save(&folder.join(name)).unwrap_err();
        assert_eq!(failure.status, Status::Io);
        assert!(failure.text.ends_with("Permission denied"), "{}", failure.text);
    }
    assert_eq!(std::fs::read(folder.join("file")).unwrap(), b"x");
    mode("directory", 0o755);
    assert_eq!(folder.names(), ["directory", "file"]);
}

/// Root may write everything: this test again as nobody.
fn as_another_user() {
    use std::os::unix::process::CommandExt;
    let folder = Folder::new();
    let copy = folder.join("test");
    std::fs::copy(std::env::current_exe().unwrap(), &copy).unwrap();
    for path in [folder.path(), &copy] {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o777)).unwrap();
    }
    let output = std::process::Command::new(&copy)
        .args(["--exact", "options::a_file_and_a_directory_that_are_read_only_stay_as_they_are"])
        .env("TMPDIR", folder.path())
        .uid(65534)
        .gid(65534)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    assert!(String::from_utf8(output.stdout).unwrap().contains("1 passed"));
}

#[test]
fn the_mode_is_what_the_umask_leaves() {
    let (folder, params) = (Folder::new(), arrays(Dtype::F32));
    let handle = trained(&config(), &NAMES, &params);
    let mode = |name: &str| std::fs::metadata(folder.join(name)).unwrap().mode() & 0o777;
    std::fs::write(folder.join("plain"), "").unwrap();
    handle.save(&folder.join("state")).unwrap();
    assert_eq!(mode("state"), mode("plain"));
}

#[test]
fn several_handles_save_to_one_path_at_once() {
    let folder = Folder::new();
    let path = folder.join("state");
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let params = arrays(Dtype::F32);
                let handle = trained(&config(), &NAMES, &params);
                for _ in 0..10 {
                    handle.save(&path).unwrap();
                    handle.load(&path, &load_options()).unwrap();
                }
            });
        }
    });
    assert_eq!(folder.names(), ["state"]);
}

// ---------------------------------------------------------------------------------- callbacks

unsafe extern "C" fn append(data: *const c_void, num_bytes: usize, to: *mut c_void) -> i32 {
    // SAFETY: the test's own list, and the library's bytes.
    let (to, bytes) = unsafe {
        let bytes = core::slice::from_raw_parts(data.cast::<u8>(), num_bytes);
        (from_user_data::<RefCell<(Vec<u8>, usize)>>(to), bytes)
    };
    let (to, room) = &mut *to.borrow_mut();
    if to.len() + bytes.len() > *room {
        return 7;
    }
    to.extend(bytes);
    0
}

#[test]
fn the_hosts_functions_see_the_bytes_of_the_file() {
    let params = arrays(Dtype::F32);
    let handle = trained(&config(), &NAMES, &params);
    let expected = handle.saved(true);
    let to = RefCell::new((Vec::<u8>::new(), usize::MAX));
    let args = adamw_save_args {
        write: Some(append),
        write_data: user_data(&to),
        params: 1,
        ..save_args()
    };
    assert_eq!(handle.save_to(&args), Ok(expected.len() as u64));
    let bytes = to.take().0;
    assert_eq!(bytes, expected);
    to.borrow_mut().1 = 1000;
    let failure = handle.save_to(&args).unwrap_err();
    assert_eq!(
        (failure.status, &*failure.text),
        (Status::Callback, "write returned 7, expected 0")
    );

    let fresh = arrays(Dtype::F32);
    let other = trained(&config(), &NAMES, &fresh);
    other.step();
    let from = Read::new(&bytes);
    other.load_from(&[from.source()], &adamw_load_options { params: 1, ..load_options() }).unwrap();
    assert_eq!(other.saved(true), expected);
}

/// How much was told last, and when to say stop.
struct Told {
    calls: Cell<usize>,
    done: Cell<u64>,
    total: Cell<u64>,
    stop_at: Cell<usize>,
}

unsafe extern "C" fn told(done: u64, total: u64, data: *mut c_void) -> i32 {
    // SAFETY: the test's own.
    let told = unsafe { from_user_data::<Told>(data) };
    assert!(done > told.done.get() && done <= total);
    told.done.set(done);
    told.total.set(total);
    told.calls.set(told.calls.get() + 1);
    if told.calls.get() == told.stop_at.get() { -3 } else { 0 }
}

#[test]
fn progress_is_told_and_may_stop_a_save_and_the_check_of_a_load() {
    let (folder, params) = (Folder::new(), arrays(Dtype::F32));
    let handle = trained(&config(), &NAMES, &params);
    let path = c_path(&folder.join("state"));
    let at = Told {
        calls: Cell::new(0),
        done: Cell::new(0),
        total: Cell::new(0),
        stop_at: Cell::new(0),
    };
    let args = adamw_save_args {
        path: path.as_ptr(),
        progress: Some(told),
        progress_data: user_data(&at),
        ..save_args()
    };
    handle.save_to(&args).unwrap();
    assert!(at.calls.get() >= 5 && at.done.get() == at.total.get());
    let before = std::fs::read(folder.join("state")).unwrap();
    handle.step();
    let calls = at.calls.get();
    for stop_at in 1..=calls {
        at.calls.set(0);
        at.done.set(0);
        at.stop_at.set(stop_at);
        let failure = handle.save_to(&args).unwrap_err();
        assert_eq!(failure.text, "progress returned -3, expected 0");
        assert_eq!(std::fs::read(folder.join("state")).unwrap(), before);
        assert_eq!(folder.names(), ["state"]);
    }
    let options = adamw_load_options {
        progress: Some(told),
        progress_data: user_data(&at),
        ..load_options()
    };
    at.calls.set(0);
    at.done.set(0);
    at.stop_at.set(2);
    let now = handle.saved(true);
    assert_eq!(handle.load(&folder.join("state"), &options).unwrap_err().status, Status::Callback);
    assert_eq!(handle.saved(true), now);
    at.calls.set(0);
    at.done.set(0);
    at.stop_at.set(0);
    handle.load(&folder.join("state"), &options).unwrap();
    assert_eq!(at.done.get(), at.total.get());
}

unsafe extern "C" fn old_name(
    name: *const c_char,
    out_name: *mut *const c_char,
    n_asked: *mut c_void,
) -> i32 {
    // SAFETY: the library's text, and its output; registered with a `Cell`.
    unsafe {
        let n_asked = &*n_asked.cast::<Cell<usize>>();
        n_asked.set(n_asked.get() + 1);
        match CStr::from_ptr(name).to_bytes() {
            b"new" => *out_name = c"w".as_ptr(),
            b"none" => return 9,
            _ => {}
        }
    }
    0
}

#[test]
fn parameters_may_have_had_other_names() {
    let (params, fresh) = (arrays(Dtype::F32), arrays(Dtype::F32));
    let saved = trained(&config(), &NAMES, &params);
    let other = Handle::new(&config());
    other.add_array("new", &fresh[0]);
    other.add_array("b", &fresh[1]);
    let bytes = saved.saved(true);
    let failure = other.load_bytes(&bytes, &load_options()).unwrap_err();
    assert!(failure.text.contains("no state of these params: new; "), "{}", failure.text);
    let n_asked = Cell::new(0usize);
    let (rename, rename_data) = (Some(old_name as _), (&raw const n_asked).cast_mut().cast());
    let options = adamw_load_options { rename, rename_data, params: 1, ..load_options() };
    other.load_bytes(&bytes, &options).unwrap();
    assert_eq!(n_asked.get(), 2); // once about each
    for (seen, expected) in fresh.iter().zip(&params) {
        assert_eq!(seen.first_difference(expected), None);
    }
    let moment = Array::zeros(Dtype::F32, 700_000);
    let expected = moment.duplicate();
    other.get_state("state.new.exp_avg_sq", &moment).unwrap();
    saved.get_state("state.w.exp_avg_sq", &expected).unwrap();
    assert_eq!(moment.first_difference(&expected), None);
    let none = Array::zeros(Dtype::F32, 1);
    other.add_array("none", &none);
    assert_eq!(
        other.load_bytes(&bytes, &options).unwrap_err().text,
        "rename returned 9, expected 0"
    );
}

// ---------------------------------------------------------------------------------- parts and types

#[test]
fn what_both_have_is_loaded_and_nothing_else_changes() {
    let (params, fresh) = (arrays(Dtype::F32), arrays(Dtype::F32));
    let bytes = trained(&adamw_config { lr: 0.5, ..config() }, &["w", "x"], &params).saved(false);
    let other = trained(&adamw_config { beta1: 0.5, lr: 0.25, ..config() }, &["w", "y"], &fresh);
    other.step();
    let before = Array::zeros(Dtype::F32, 3);
    other.get_state("state.y.exp_avg", &before).unwrap();
    let shared = adamw_load_options { scope: ADAMW_LOAD_SHARED, ..load_options() };
    other.load_bytes(&bytes, &shared).unwrap();
    assert_eq!((other.lr(), other.group(0).beta1), (0.25, 0.5));
    let after = Array::zeros(Dtype::F32, 3);
    other.get_state("state.y.exp_avg", &after).unwrap();
    assert_eq!(after.first_difference(&before), None);
    let power = Array::zeros(Dtype::F64, 1);
    other.get_state("state.w.beta1_power", &power).unwrap();
    assert_eq!(power.get(0), 0.9 * 0.9 * 0.9);
}

#[test]
fn other_types_are_converted_only_if_that_is_asked_for() {
    let dtypes = [Dtype::F32, Dtype::F64, Dtype::Bf16, Dtype::F16];
    for from in dtypes {
        for to in dtypes.into_iter().filter(|to| *to != from) {
            let (params, fresh) = (arrays(from), arrays(to));
            let bytes = trained(&config(), &NAMES, &params).saved(true);
            let other = trained(&config(), &NAMES, &fresh);
            let before = other.saved(true);
            let failure =
                other.load_bytes(&bytes, &adamw_load_options { params: 1, ..load_options() });
            let failure = failure.unwrap_err();
            assert_eq!(failure.status, Status::Mismatch, "{from:?} {to:?}");
            assert_eq!(other.saved(true), before);
            let convert = adamw_load_options { params: 1, convert: 1, ..load_options() };
            other.load_bytes(&bytes, &convert).unwrap();
            for (seen, source) in fresh.iter().zip(&params) {
                // f64 goes by way of f32.
                let expected = |i| match to.bytes() {
                    8 => to.nearest(source.get(i)),
                    _ => to.nearest(f64::from(source.get(i) as f32)),
                };
                assert!((0..seen.len()).all(|i| seen.bits(i) == expected(i)), "{from:?} {to:?}");
            }
        }
    }
    let handle = |moments, param: &Array| {
        trained(&adamw_config { moments, ..config() }, &["w"], core::slice::from_ref(param))
    };
    let [w, _] = arrays(Dtype::F32);
    // Codes are no numbers that another type holds.
    let coded = handle(ADAMW_MOMENTS_8BIT, &w).saved(false);
    let shared = adamw_load_options { scope: ADAMW_LOAD_SHARED, convert: 1, ..load_options() };
    let failure = handle(ADAMW_MOMENTS_F32, &w).load_bytes(&coded, &shared).unwrap_err();
    assert!(
        failure.text.contains("state.w.exp_avg is F32 (saved: U8), state.w.exp_avg_sq is"),
        "{}",
        failure.text
    );
}

#[test]
fn arguments_that_make_no_sense_are_refused() {
    let params = arrays(Dtype::F32);
    let handle = trained(&config(), &NAMES, &params);
    let bytes = handle.saved(false);
    let path = c"x".as_ptr();
    let refused = |failure: crate::common::handle::Failure, text: &str| {
        assert_eq!(failure.status, Status::InvalidArgument, "{}", failure.text);
        assert!(failure.text.contains(text), "{} lacks {text}", failure.text);
    };
    let save = |args: &adamw_save_args, text| refused(handle.save_to(args).unwrap_err(), text);
    let mut small = vec![0u8; 100];
    let data = small.as_mut_ptr().cast();
    // As a path would be that nobody has set.
    save(&save_args(), "args has 0 of path, data, write and size_only, expected one of them");
    save(&adamw_save_args { path, write: Some(append), ..save_args() }, "args has 2 of path, data");
    save(&adamw_save_args { params: 2, ..save_args() }, "args.params is 2");
    save(&adamw_save_args { size_only: 2, ..save_args() }, "args.size_only is 2");
    save(&adamw_save_args { size_only: 1, path, ..save_args() }, "args has 2 of path, data");
    let failure =
        handle.save_nothing(&adamw_save_args { size_only: 1, ..save_args() }).unwrap_err();
    refused(failure, "out_num_bytes, where size_only asks for it, is NULL");
    save(&adamw_save_args { struct_size: 8, ..save_args() }, "struct_size is 8");
    save(&adamw_save_args { data, capacity: 100, ..save_args() }, "capacity is 100, expected");
    assert_eq!(small, [0; 100]);
    let load = |options: &adamw_load_options, text| {
        refused(handle.load_bytes(&bytes, options).unwrap_err(), text);
    };
    load(&adamw_load_options { scope: 3, ..load_options() }, "options.scope is 3");
    load(&adamw_load_options { params: 2, ..load_options() }, "options.params is 2");
    load(&adamw_load_options { convert: 2, ..load_options() }, "options.convert is 2");
    load(&adamw_load_options { reserved: 2, ..load_options() }, "options.reserved is 2");
    let from = |source, text| {
        refused(handle.load_from(&[source], &load_options()).unwrap_err(), text);
    };
    from(
        adamw_source { path, ..Read::new(&[]).source() },
        "source has 2 of path, data and read, expected one of them",
    );
    from(adamw_source { num_bytes: 5, ..source() }, "source.data is NULL");
    from(adamw_source { num_bytes: u64::MAX, ..source() }, "source.num_bytes");
    refused(handle.load_from(&[], &load_options()).unwrap_err(), "sources is NULL");
}
