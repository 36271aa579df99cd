#!/usr/bin/env bash
# Makes a folder that holds all that run.sh, which is in it, needs on a machine with a GPU: NVIDIA's driver and python3 are enough there.
# Needs Rust and cc.
#
# usage: tests/gpu/bundle.sh [folder, build/gpu if none is given]
set -euo pipefail
cd "$(dirname "$0")/../.."
out=${1:-build/gpu}
most_mib=40
rm -rf "$out"
mkdir -p "$out"

cargo build --release --locked --lib --target-dir target
cc="${CC:-cc} -std=c99 -O2 -D_POSIX_C_SOURCE=199309L -Wall -Wextra -Werror -pedantic -Iinclude -Iexamples-c"
libraries="target/release/libadamw.a -lpthread -ldl -lm -lgcc_s -Wl,--gc-sections"
for source in examples-c/cuda_stream.c tests/gpu/bandwidth.c; do
  $cc "$source" examples-c/cuda_driver.c $libraries -o "$out/$(basename "$source" .c)"
done
cp target/release/libadamw.so "$out/"
tests=$(cargo test --locked --no-run --target-dir target --test cuda 2>&1 | tee >(cat >&2) | sed -n 's/.*Executable.*(\(.*\))$/\1/p')
cp "$tests" "$out/tests"
strip "$out"/{cuda_stream,bandwidth,libadamw.so,tests}
cp tests/gpu/{run.sh,machine.py,pytorch.py} "$out/"
git describe --always --dirty >"$out/version"

# Nothing is needed there but the C library, which may be older than the one here.
for program in "$out"/{cuda_stream,bandwidth,libadamw.so,tests}; do
  ldd "$program" | grep -vE 'linux-vdso|ld-linux|lib(c|m|dl|gcc_s|pthread)\.so' && { echo "$program needs more than the C library"; exit 1; }
  echo "$program needs $(objdump -T "$program" | grep -oE 'GLIBC_[0-9.]+' | sort -uV | tail -1)"
done
mib=$(du -sm "$out" | cut -f1)
echo "$out: $mib MiB of at most $most_mib"
((mib <= most_mib))
