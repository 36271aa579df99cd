#!/bin/sh
# What `cargo cinstall` installs is what `cmake --install` installs, but for the package of CMake.
# usage: cargo_c.sh <folder to build in>
set -eu
mkdir -p "$1"
into=$(cd "$1" && pwd)
cd "$(dirname "$0")/../.."
cargo=$into/by-cargo/opt/adamw cmake=$into/by-cmake
rm -rf "$into/by-cargo" "$cmake"

cargo cinstall --release --locked --target-dir "$into/target" --destdir "$into/by-cargo" --prefix /opt/adamw --libdir /opt/adamw/lib
cmake -S . -B "$into/cmake" -DADAMW_BUILD_TESTS=OFF -DADAMW_BUILD_EXAMPLES=OFF -DCMAKE_INSTALL_LIBDIR=lib
cmake --build "$into/cmake"
cmake --install "$into/cmake" --prefix "$cmake"

# Of one installation: its files, what the loader and a linker see in the library, and what pkg-config says.
described() {
  cd "$1"
  find include lib share -name cmake -prune -o -not -type d -print | sort
  readelf --dynamic lib/libadamw.so.0 | grep -oE 'SONAME.*|NODELETE'
  nm --dynamic --defined-only lib/libadamw.so.0 | sed 's/^[0-9a-f]* //'
  grep -E '^(Name|Description|Version):' lib/pkgconfig/adamw.pc
  PKG_CONFIG_PATH=lib/pkgconfig pkg-config --define-variable=prefix=/prefix --cflags --libs adamw
}
(described "$cmake") >"$into/by-cmake.txt"
(described "$cargo") >"$into/by-cargo.txt"
diff "$into/by-cmake.txt" "$into/by-cargo.txt"
diff --recursive "$cmake/include" "$cargo/include"

# (cargo-c names libgcc_s for static programs, too, which has no static kind: they name their libraries by hand.)
for way in cc-shared cc-static pkg-config-shared; do
  PKG_CONFIG_SYSROOT_DIR=$into/by-cargo sh tests/install/consumer.sh $way "$cargo" lib "$PWD/examples-c/consumer" "$into/consumer"
done
