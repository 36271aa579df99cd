#!/usr/bin/env bash
# That aarch64 has the bits of this machine: under qemu, programs print the same there.
# Rust's standard library for aarch64 and the compiler that it belongs to are Debian's, unpacked under build/.
#
# usage: tests/aarch64.sh [arguments of cargo test, such as --test bits: runs these tests there, too]
#
# The loops of the library must be as wide as NEON, and fuse nothing.
set -euo pipefail
cd "$(dirname "$0")/.."
triple=aarch64-unknown-linux-gnu
out=$PWD/build/aarch64
for tool in aarch64-linux-gnu-gcc qemu-aarch64; do
  command -v $tool >/dev/null || { echo "$tool is missing: apt-get install gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user"; exit 1; }
done

if ! [[ -x $out/rustc ]]; then
  mkdir -p "$out"/{lists,cache/archives}/partial "$out/debs"
  # Lists of its own, so that the system's packages stay those of one architecture.
  apt=(-qq -o Dir::State::lists="$out/lists" -o Dir::Cache="$out/cache" -o APT::Architectures::=amd64 -o APT::Architectures::=arm64)
  apt-get "${apt[@]}" update
  depends() { apt-cache "${apt[@]}" depends "$1" | sed -n "s/.*Depends: \($2[^ :]*\).*/\1/p"; }
  std=$(depends libstd-rust-web-dev libstd-rust-web)
  llvm=$(depends "$std" libllvm)
  (cd "$out/debs" && apt-get "${apt[@]}" download rustc-web {libstd-rust-web-dev,"$std"}:{amd64,arm64} "$llvm")
  for package in "$out"/debs/*.deb; do dpkg -x "$package" "$out/rust"; done
  printf '#!/bin/sh\nLD_LIBRARY_PATH=%s exec %s "$@"\n' "$out/rust/usr/lib/x86_64-linux-gnu" "$out/rust/usr/bin/rustc" >"$out/rustc"
  chmod +x "$out/rustc"
fi

# What programs print, some of them every bit of what they have trained.
programs() { # the compiler, the folder of libadamw.a, the folder for the programs, what runs them...
  local cc=$1 library=$2 into=$3
  shift 3
  mkdir -p "$into"
  for source in examples/c/train.c examples-c/{minimal,param_groups,bf16_master,embedding,resume}.c; do
    local program=$into/$(basename "$source" .c)
    $cc -O2 -ffp-contract=off -Iinclude "$source" "$library/libadamw.a" -lpthread -ldl -lm -o "$program"
    rm -f "$program.safetensors"
    echo "$source"
    "$@" "$program" "$program.safetensors"
  done
  $cc -O3 -ffp-contract=off -Iinclude -DADAMW_EXAMPLES_DATA='"examples-c/data"' \
    examples-c/digits*.c examples-c/precision.c examples-c/command_line.c "$library/libadamw.a" \
    -lpthread -ldl -lm -lgcc_s -o "$into/demo"
  echo "the demo, a fifth of its epochs"
  "$@" "$into/demo" --epochs 6 --svg "$into/demo.svg" | grep hash
}
cargo build --release --locked --lib --target-dir target
programs "${CC:-cc}" target/release "$out/here" env >"$out/here.txt"

export RUSTC=$out/rustc
export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc
export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER="qemu-aarch64 -L /usr/aarch64-linux-gnu"
cargo build --release --locked --lib --target $triple --target-dir "$out/target"
programs aarch64-linux-gnu-gcc "$out/target/$triple/release" "$out/there" $CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER >"$out/there.txt" &
if (($#)); then # beside the emulator, which has one thread
  cargo test --locked --target $triple --target-dir "$out/target" --no-run "$@"
fi
wait $!
diff "$out/here.txt" "$out/there.txt"
cat "$out/there.txt"
env -u RUSTC ADAMW_AARCH64="$out/target/$triple/release/libadamw.so" \
  cargo test --locked --test house of_aarch64_is_as_wide_as_neon -- --ignored

if (($#)); then
  cargo test --locked --target $triple --target-dir "$out/target" "$@"
fi
