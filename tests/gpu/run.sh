#!/usr/bin/env bash
# What only a GPU can show: that the kernels have the CPU's bits there too, that the checkers of CUDA find nothing, and how fast a step is.
# Needs NVIDIA's driver, Rust, cc and python3; uses compute-sanitizer, PyTorch and apex where they are installed (PYTHON names the
# interpreter that has them). The report is docs/gpu.md, to which docs/cuda.md then links.
#
# usage: tests/gpu/run.sh          on the first device that the driver finds
#        tests/gpu/run.sh --dry    that this script works: all of it once, small, on the driver that interprets kernels
set -euo pipefail
cd "$(dirname "$0")/../.."
python=${PYTHON:-python3}
out=build/gpu
mkdir -p $out

cargo build --release --locked --lib --target-dir target
cc="${CC:-cc} -std=c99 -O2 -Wall -Wextra -pedantic -Iinclude -Iexamples-c"
libraries="target/release/libadamw.a -lpthread -ldl -lm -lgcc_s"
$cc examples-c/cuda_stream.c examples-c/cuda_driver.c $libraries -o $out/cuda_stream
$cc tests/gpu/bandwidth.c examples-c/cuda_driver.c $libraries -o $out/bandwidth

# cargo test would run these beside the stand-in: they are run by themselves. ADAMW_TEST_GPU has them refuse it.
export ADAMW_TEST_GPU=1
cuda=$(cargo test --locked --no-run --target-dir target --test cuda 2>&1 | tee /dev/stderr | sed -n 's/.*Executable.*(\(.*\))$/\1/p')
# Those that look at nothing but bits and statuses; the others need the stand-in's log.
calls=(
  calls::a_graph_that_is_launched_ten_times_is_ten_steps
  calls::captures_of_other_streams_stay_whole_whatever_a_handle_does
  calls::nothing_that_waits_or_allocates_breaks_a_capture
  calls::the_context_that_was_current_is_current_after_every_call
  calls::what_cannot_be_replayed_is_refused_inside_a_capture_and_changes_nothing
  calls::work_that_runs_late_and_in_any_allowed_order_has_the_same_bits
)
offload=(offload::the_processors_steps_have_the_same_bits offload::what_the_host_writes_into_a_parameter_is_fetched_when_it_says_so)
checkpoint=(checkpoint::what_a_device_saves_a_host_loads_and_the_other_way_round)
checked=(steps::clipping_has_the_same_bits_wherever_norms_are_summed steps::statistics_have_the_same_bits)

if [[ ${1:-} == --dry ]]; then
  # Without its name nobody knows it for what it is. It is slow, and has the time for a part of the tests only.
  sed 's/standin_name/standin_mane/' target/debug/deps/libcuda.so >$out/libcuda.so
  export LD_LIBRARY_PATH=$out
  kernels=(--exact kernels::every_alignment_of_every_operand_steps_to_the_processors_bits)
  lengths=(5e3) device=cpu report=$out/dry.md
else
  kernels=(kernels::) lengths=(1e6 1e7 1e8 1e9) device=cuda report=docs/gpu.md
fi
machine=$($python tests/gpu/machine.py)

section() { printf '\n## %s\n\n' "$1"; }

# The lines that say what came of some of the tests; all of them, if one failed.
tests() {
  local said
  if ! said=$("$cuda" --test-threads 1 "$@" 2>&1); then
    echo "$said"
    return 1
  fi
  sed -n 's/^test \(.*\) \.\.\. \(.*\)/- `\1`: \2/p' <<<"$said"
}

sanitized() {
  local tool=$1
  shift
  compute-sanitizer --tool "$tool" --error-exitcode 1 "$@" >$out/$tool.txt 2>&1 || { cat $out/$tool.txt; return 1; }
  echo "- $tool: nothing found"
}

everything() {
  echo "# On a GPU"
  printf '\nWhat `tests/gpu/run.sh` said last. %s; libadamw at %s.\n' "$machine" "$(git describe --always --dirty)"

  section "The example"
  $out/cuda_stream | sed 's/^/    /'

  section "Bits"
  tests steps::
  tests "${kernels[@]}"
  tests sparse:: --skip a_step_is_launches_and_one_upload_where_a_list_has_moved
  tests graphs::
  tests --exact "${calls[@]}" "${offload[@]}" "${checkpoint[@]}"

  section "compute-sanitizer"
  if command -v compute-sanitizer >/dev/null; then
    sanitized memcheck "$cuda" --test-threads 1 --exact "${checked[@]}"
    sanitized initcheck "$cuda" --test-threads 1 --exact "${checked[@]}"
    sanitized racecheck "$cuda" --test-threads 1 --exact "${checked[@]}"
  else
    echo "Not installed: not run."
  fi

  section "Bandwidth"
  echo "A step, called ten times in a row and from a graph, beside a copy in the device's memory that moves as many bytes: medians of 11 rounds."
  echo
  $out/bandwidth "${lengths[@]}"

  section "Beside PyTorch"
  if $python -c 'import torch' 2>/dev/null; then
    $python tests/gpu/pytorch.py target/release/libadamw.so $device "${lengths[@]}"
  else
    echo "Not installed: not run."
  fi
}

# A report is only kept whole. (A function that `if` asks about would go on after a failure.)
set +e
(set -e; everything) 2>&1 | tee $out/report.md
status=${PIPESTATUS[0]}
set -e
[[ $status == 0 ]] || { echo "failed: no report is kept" >&2; exit 1; }
mv $out/report.md $report
