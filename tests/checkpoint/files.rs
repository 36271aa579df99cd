//! Files where the system does less than usual: other owners, modes, directories that cannot be read,
//! what a killed process has left, and files that are no checkpoints.
#![cfg(target_os = "linux")]

use crate::common::array::{Array, Dtype};
use crate::common::checkpoint::{Folder, load_options};
use crate::common::handle::{Handle, config};
use adamw::ffi::*;
use std::fs::{OpenOptions, Permissions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;

/// A handle with one parameter.
struct World {
    folder: Folder,
    handle: Handle,
    _param: Array,
}

impl World {
    fn new() -> World {
        let param = Array::of(Dtype::F32, &[1.0, 2.0, 3.0]);
        let handle = Handle::new(&config());
        handle.add_array("w", &param);
        let folder = Folder::new();
        set_mode(folder.path(), 0o777);
        World { folder, handle, _param: param }
    }

    #[track_caller]
    fn saves(&self, name: &str) {
        self.handle.save(&self.folder.join(name)).unwrap();
        assert!(self.bytes(name) == self.handle.saved(false), "{name}");
    }

    fn bytes(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.folder.join(name)).unwrap()
    }

    fn mode(&self, name: &str) -> u32 {
        std::fs::metadata(self.folder.join(name)).unwrap().mode() & 0o7777
    }
}

fn set_mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

fn is_root() -> bool {
    // SAFETY: no precondition.
    unsafe { libc::geteuid() == 0 }
}

const NOBODY: u32 = 65534;

/// Runs `work` while the files that this thread makes belong to nobody, and the process stays who it
/// is: as where a server squashes its users, or a mount has an owner of its own. Only root can.
fn as_nobody(work: impl FnOnce()) {
    if is_root() {
        files_are_of(NOBODY);
        work();
        files_are_of(0);
    }
}

/// Whose the files are that this thread makes.
fn files_are_of(user: u32) {
    // SAFETY: no precondition.
    unsafe { libc::setfsgid(user) };
    // SAFETY: no precondition.
    unsafe { libc::setfsuid(user) };
}

#[test]
fn a_save_works_where_new_files_belong_to_somebody_else() {
    let world = World::new();
    as_nobody(|| {
        for _ in 0..2 {
            world.saves("state");
        }
        assert_eq!(world.folder.names(), ["state"]);
        assert_eq!(std::fs::metadata(world.folder.join("state")).unwrap().uid(), NOBODY);
    });
}

#[test]
fn a_directory_that_may_be_written_but_not_read_takes_a_checkpoint() {
    let world = World::new();
    let inner = world.folder.join("inner");
    std::fs::create_dir(&inner).unwrap();
    let save = || {
        set_mode(&inner, 0o300);
        let saved = world.handle.save(&inner.join("state"));
        set_mode(&inner, 0o700);
        saved.unwrap();
    };
    if is_root() {
        chown(&inner, Some(NOBODY), Some(NOBODY)).unwrap();
        as_nobody(save);
    } else {
        save();
    }
    assert_eq!(world.bytes("inner/state"), world.handle.saved(false));
}

/// A file as a process leaves it that is killed while it saves.
const LEFTOVER: &str = ".adamw-000.tmp";

#[test]
fn a_leftovers_mode_is_not_the_checkpoints_and_who_has_it_open_does_not_write_into_it() {
    let world = World::new();
    world.saves("plain");
    for mode in [0o666, 0o4777, 0o600] {
        let leftover = world.folder.join(LEFTOVER);
        std::fs::write(&leftover, vec![7; 5000]).unwrap();
        set_mode(&leftover, mode);
        let mut open = OpenOptions::new().read(true).write(true).open(&leftover).unwrap();
        world.saves("state");
        assert_eq!(world.mode("state"), world.mode("plain"), "{mode:o}");
        open.seek(SeekFrom::Start(0)).unwrap();
        open.write_all(b"something else").unwrap();
        assert!(world.bytes("state") == world.handle.saved(false));
        let mut text = String::new();
        open.seek(SeekFrom::Start(0)).unwrap();
        Read::by_ref(&mut open).take(14).read_to_string(&mut text).unwrap();
        assert_eq!(text, "something else");
        assert_eq!(world.folder.names(), ["plain", "state"]);
        std::fs::remove_file(world.folder.join("state")).unwrap();
    }
}

#[test]
fn what_has_a_leftovers_name_and_is_none_stays() {
    let world = World::new();
    let names = [0, 1, 2].map(|i| format!(".adamw-00{i}.tmp"));
    std::fs::write(world.folder.join("other"), "x").unwrap();
    std::os::unix::fs::symlink("other", world.folder.join(&names[0])).unwrap();
    std::fs::create_dir(world.folder.join(&names[1])).unwrap();
    let locked = std::fs::File::create(world.folder.join(&names[2])).unwrap();
    locked.try_lock().unwrap();
    world.saves("state");
    let [link, directory, busy] = &names;
    assert_eq!(world.folder.names(), [link, directory, busy, "other", "state"]);
    assert_eq!(world.bytes("other"), b"x");
}

#[test]
fn an_existing_files_mode_owner_and_group_are_kept() {
    let world = World::new();
    for mode in [0o600, 0o640, 0o644, 0o664, 0o666, 0o620, 0o755] {
        std::fs::write(world.folder.join("state"), "x").unwrap();
        set_mode(&world.folder.join("state"), mode);
        world.saves("state");
        assert_eq!(world.mode("state"), mode, "{mode:o}");
    }
    if is_root() {
        chown(world.folder.join("state"), Some(1234), Some(4321)).unwrap();
        set_mode(&world.folder.join("state"), 0o640);
        world.saves("state");
        let found = std::fs::metadata(world.folder.join("state")).unwrap();
        assert_eq!((found.uid(), found.gid(), found.mode() & 0o7777), (1234, 4321, 0o640));
    }
}

#[test]
fn no_group_reads_what_another_groups_members_read() {
    let world = World::new();
    as_nobody(|| {
        std::fs::write(world.folder.join("state"), "x").unwrap();
        for (mode, expected) in [(0o660, 0o600), (0o666, 0o666), (0o664, 0o644)] {
            set_mode(&world.folder.join("state"), mode);
            // Nobody may give a file to a group that it is not in: root does.
            files_are_of(0);
            chown(world.folder.join("state"), None, Some(4321)).unwrap();
            files_are_of(NOBODY);
            world.saves("state");
            assert_eq!(world.mode("state"), expected, "{mode:o}");
        }
    });
}

#[test]
fn what_the_system_refuses_is_said_in_its_words() {
    let world = World::new();
    std::fs::create_dir(world.folder.join("directory")).unwrap();
    std::fs::write(world.folder.join("file"), "x").unwrap();
    for (name, words) in [
        ("directory", "Is a directory"),
        ("missing/file", "No such file or directory"),
        ("file/below", "Not a directory"),
        (&"n".repeat(256), "File name too long"),
    ] {
        let failure = world.handle.save(&world.folder.join(name)).unwrap_err();
        assert!(failure.text.ends_with(&format!("open failed: {words}")), "{}", failure.text);
    }
    // Every name that a temporary file could have is taken.
    for number in 0..1000 {
        std::fs::create_dir(world.folder.join(&format!(".adamw-{number:03}.tmp"))).unwrap();
    }
    let failure = world.handle.save(&world.folder.join("state")).unwrap_err();
    let words = "create of .adamw-000.tmp to .adamw-999.tmp beside it failed: File exists";
    assert!(failure.text.ends_with(words), "{}", failure.text);
}

/// The start of a file, and what the error calls it.
const OTHERS: &[(&[u8], &str)] = &[
    (b"", "it is empty"),
    (
        b"PK\x03\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x10\0\0\0archive/data.pkl",
        "PyTorch",
    ),
    (b"PK\x03\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x05\0\0\0a.npy", "NumPy's .npz"),
    (b"PK\x03\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x05\0\0\0a.txt", "a zip archive"),
    (b"\x80\x02}q\0X\x05\0\0\0stateq\x01", "a pickle"),
    (b"\x80\x04\x95\x10\0\0\0\0\0\0\0", "a pickle"),
    (b"\x89HDF\r\n\x1a\n\0\0\0\0", "HDF5"),
    (b"\x93NUMPY\x01\0v\0{'descr'", "NumPy's .npy"),
    (b"GGUF\x03\0\0\0\0\0\0\0", "GGUF"),
    (b"\x1f\x8b\x08\0\0\0\0\0\0\0", "compressed by gzip"),
    (b"\x28\xb5\x2f\xfd\0\0\0\0\0\0", "compressed by zstd"),
    (b"\x7fELF\x02\x01\x01\0\0\0", "a program"),
    (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 3\n", "git lfs pull"),
    (b"root:x:0:0:root:/root:/bin/bash\n", "text"),
    ("Gewichte f\u{fc}r alle\n".as_bytes(), "text"),
    (b"{\"lr\": 0.1}\n", "text"),
    (b"\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", "zeros"),
    (b"\x10\0\0\0\0\0\0\0{\"a\":{}}        ", "a safetensors file"),
    (b"\x02\x01\xff\xfe\x80\x81\x82\x83\x84", "its header starts differently"),
    (b"\xff\xfe", "its header starts differently"),
];

#[test]
fn a_file_that_is_no_checkpoint_is_called_what_it_seems_to_be() {
    let world = World::new();
    for (bytes, seems) in OTHERS {
        std::fs::write(world.folder.join("file"), bytes).unwrap();
        let failure = world.handle.load(&world.folder.join("file"), &load_options()).unwrap_err();
        assert_eq!(failure.status, Status::Corrupt);
        assert!(failure.text.contains("is no checkpoint of this library: "), "{}", failure.text);
        assert!(failure.text.contains(seems), "{} lacks {seems}", failure.text);
    }
    let failure = world.handle.load(world.folder.path(), &load_options()).unwrap_err();
    assert!(failure.text.ends_with("open failed: Is a directory"), "{}", failure.text);
    // What begins as a checkpoint is one, and damaged.
    let bytes = world.handle.saved(false);
    for length in [60, 100, bytes.len() - 1] {
        let failure = world.handle.load_bytes(&bytes[..length], &load_options()).unwrap_err();
        assert!(failure.text.contains("is damaged"), "{}", failure.text);
    }
}
