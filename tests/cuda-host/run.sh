#!/usr/bin/env bash
# The tests that run on a GPU, on kernels that a C++ compiler has made for this machine: a second opinion beside the interpreter's, which
# knows nothing of PTX. Another CUDA_HOST_SEED has threads, blocks and streams go on in another order.
#
# usage: tests/cuda-host/run.sh [bundle of tests/gpu/bundle.sh, which is made if none is given]
set -euo pipefail
cd "$(dirname "$0")/../.."
out=build/cuda-host
mkdir -p $out
bundle=${1:-build/gpu}
[[ $# == 1 ]] || tests/gpu/bundle.sh "$bundle"

python3 tests/cuda-host/translate.py "${CXX:-c++}" src/cuda/kernels/kernels.cu $out/kernels.cpp
# Every operation rounds once. A fiber's stack is not the one that a fortified longjmp expects.
"${CXX:-c++}" -std=c++17 -O2 -ffp-contract=off -fno-strict-aliasing -fno-math-errno -U_FORTIFY_SOURCE -fPIC -shared -Wl,-z,defs \
  -Wall -Wextra -Werror -Wno-unknown-pragmas -Wno-sign-compare -Wno-clobbered \
  -Itests/cuda-host $out/kernels.cpp tests/cuda-host/{threads,driver}.cpp -o $out/libcuda.so

# One test at a time has the device: two processes have two.
run() { LD_LIBRARY_PATH=$PWD/$out "$bundle/run.sh" --out "$PWD/$out/$1" --parts "$2" >"$out/$1.txt" 2>&1; }
run kernels 'Bits: (every [^,]*$|offload)' &
others=0
run others '^The example|Bits: [^e]' || others=$?
wait $! || { cat $out/kernels.txt && exit 1; }
((others == 0)) || { cat $out/others.txt && exit 1; }
for report in kernels others; do grep -E '^(- `|Done|[0-9]+ s in all)' "$out/$report.txt"; done
