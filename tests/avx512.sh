#!/usr/bin/env bash
# That the loops of AVX-512 have the bits of the others, on a processor without it: tests run on an emulated PC.
#
# usage: tests/avx512.sh [arguments of cargo test, such as --test bits]
set -euo pipefail
cd "$(dirname "$0")/.."
export CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER=$PWD/tests/avx512/run.sh
cargo test --release --locked "$@"
