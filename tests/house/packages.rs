//! What the packages say is what the crate says.

use std::path::Path;

fn read(path: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

#[test]
fn packages_have_the_version_of_the_crate() {
    let version = env!("CARGO_PKG_VERSION");
    let debian = read("packaging/debian/changelog");
    assert!(debian.starts_with(&format!("libadamw ({version}-")), "{debian}");
    let vcpkg: serde_json::Value =
        serde_json::from_str(&read("packaging/vcpkg/libadamw/vcpkg.json")).unwrap();
    assert_eq!(vcpkg["version"], version);
}
