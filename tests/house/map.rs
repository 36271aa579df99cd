//! The map in `src/lib.rs` leaves nothing out: it names every folder of the repository, and every
//! module of the crate.

use std::collections::BTreeSet;
use std::fs::{read_dir, read_to_string};
use std::path::Path;

/// Folders, and files of Rust, without their endings.
fn rooms(folder: &Path) -> BTreeSet<String> {
    let entries = read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let rooms = entries.filter(|path| path.is_dir() || path.extension().is_some_and(|e| e == "rs"));
    rooms.map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned()).collect()
}

/// The rooms that no word of the map begins with, as `name/` or `name.rs`.
fn unnamed<'a>(map: &str, rooms: impl IntoIterator<Item = &'a String>) -> Vec<&'a String> {
    let words: Vec<&str> = map.split_whitespace().collect();
    let is_named = |room: &String| {
        let [folder, file] = [format!("{room}/"), format!("{room}.rs")];
        words.iter().any(|word| word.starts_with(&folder) || word.starts_with(&file))
    };
    rooms.into_iter().filter(|room| !is_named(room)).collect()
}

#[test]
fn the_map_names_every_folder_and_every_module() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let source = read_to_string(root.join("src/lib.rs")).unwrap();
    let map: String = source.lines().take_while(|line| line.starts_with("//!")).collect();
    let ignored = read_to_string(root.join(".gitignore")).unwrap();
    let is_tracked = |room: &String| {
        !room.starts_with('.') && !ignored.lines().any(|line| line == format!("/{room}/"))
    };
    let folders: Vec<String> = rooms(root).into_iter().filter(is_tracked).collect();
    let folders = folders.iter().filter(|room| *room != "build" && *room != "src");
    let modules = rooms(&root.join("src"));
    let modules = modules.iter().filter(|room| *room != "lib");
    assert_eq!(unnamed(&map, folders.chain(modules)), Vec::<&String>::new());
}

#[test]
fn a_room_that_the_map_leaves_out_is_found() {
    let rooms = ["cpu", "math", "c", "steps"].map(str::to_owned);
    assert_eq!(
        unnamed("cpu/  loops; math.rs: a formula, tests/c/, steps of it", &rooms),
        ["c", "steps"]
    );
}
