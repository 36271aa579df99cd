//! What the dynamic library tells the loader.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    if std::env::var("CARGO_CFG_TARGET_OS").is_ok_and(|os| os == "linux") {
        // cargo gives a cdylib no SONAME.
        println!("cargo:rustc-cdylib-link-arg=-Wl,-soname,libadamw.so.0");
        // Rust's thread-locals keep the library mapped once they are used: say so from the start.
        println!("cargo:rustc-cdylib-link-arg=-Wl,-z,nodelete");
    }
}
