#!/usr/bin/env bash
# Everything that only a GPU can show: the tests of bits on it, the memory's speed, graphs, PyTorch beside it, and
# compute-sanitizer. Its last output belongs into docs/gpu.md.
#
#   tests/gpu/run.sh              on a machine with a GPU and its driver
#   tests/gpu/run.sh --stand-in   on the driver that interprets: small sizes, to see that the script itself works
set -euo pipefail
cd "$(dirname "$0")/../.."

step() { printf '\n== %s\n' "$*"; }

elements="1e6 1e7 1e8 1e9"
if [[ ${1:-} == --stand-in ]]; then
  cargo build --locked -p cuda-standin
  export LD_LIBRARY_PATH=$PWD/target/debug
  elements="3e4"
else
  export ADAMW_TEST_GPU=1 # the tests take the driver that is there
  step machine
  nvidia-smi --query-gpu=name,driver_version,memory.total,clocks.max.memory --format=csv || {
    echo "no GPU here: tests/gpu/run.sh --stand-in tries the script" >&2
    exit 1
  }
fi
cargo build --release --locked --lib

step "bits: every format, length and alignment, options, offload, checkpoints"
cargo test --locked --test cuda_kernels --test cuda --test checkpoint_cuda -- --test-threads=1
cargo test --locked --test cuda_offload the_processors_steps_have_the_same_bits

step "a stream, and a graph"
mkdir -p build
cc -std=c99 -O2 -ffp-contract=off -Iinclude examples-c/cuda_stream.c target/release/libadamw.a -lpthread -ldl -lm -lgcc_s -o build/cuda_stream
build/cuda_stream | tee build/cuda_stream.txt
grep -q "the bits of the processor's steps" build/cuda_stream.txt

step "the memory's speed"
# shellcheck disable=SC2086 # one argument a size
python3 tests/gpu/bandwidth.py target/release/libadamw.so $elements

if command -v compute-sanitizer >/dev/null && [[ ${1:-} != --stand-in ]]; then
  for tool in memcheck racecheck initcheck; do
    step "compute-sanitizer $tool"
    compute-sanitizer --tool "$tool" --error-exitcode 1 build/cuda_stream
  done
fi
