#!/usr/bin/env bash
# What only a GPU can show: that the kernels have the processor's bits there too, how fast a step is, that the checkers of CUDA find
# nothing. It runs in the folder that tests/gpu/bundle.sh makes, and needs NVIDIA's driver and python3; it uses PyTorch and apex (PYTHON
# names the interpreter that has them), compute-sanitizer and ncu where they are installed.
#
# The parts come most wanted first, each within its own time. One that fails or hangs ends itself alone, and the report is written as
# they go: report.md, which becomes docs/gpu.md, and log.txt, with all that they print.
#
# usage: run.sh [--seconds <of all, 540>] [--part <seconds that none may exceed>] [--parts <expression, for those of such a name>]
#               [--out <folder, $OUT or out>] [--small]
set -uo pipefail
cd "$(dirname "$0")"
seconds=540 longest=540 parts= out=${OUT:-out} lengths=(1e6 1e7 1e8 1e9) torch_device=cuda long=(--test-threads 1)
while (($#)); do
  case $1 in
  --seconds) seconds=$2 && shift 2 ;;
  --part) longest=$2 && shift 2 ;;
  --parts) parts=$2 && shift 2 ;;
  --out) out=$2 && shift 2 ;;
  --small) lengths=(5120) torch_device=cpu long=(--list) && shift ;; # on a driver that interprets kernels: long tests are named alone
  *) sed -n '/^# usage/,/^[^#]/s/^# //p' "$0" && exit 2 ;;
  esac
done
mkdir -p "$out"
report=$out/report.md log=$out/log.txt python=${PYTHON:-python3} end=$((SECONDS + seconds)) failures=0
: >"$report" >"$log"
# ADAMW_TEST_GPU has the tests refuse the stand-in. The driver keeps the kernels that it has compiled, and forgets none.
export ADAMW_TEST_GPU=1 PYTHONUNBUFFERED=1 CUDA_CACHE_PATH CUDA_CACHE_MAXSIZE=1073741824
CUDA_CACHE_PATH=$(mktemp -d)

say() { echo "$@" | tee -a "$report"; }
everything() { cat; }
last_lines() { tail -8; }
tests() { sed -n 's/^test \(.*\) \.\.\. \(.*\)/- `\1`: \2/p'; }

# part <name> <seconds at most> <what shows its output> <command...>
part() {
  local name=$1 most=$2 show=$3 left=$((end - SECONDS)) began=$SECONDS status=0
  shift 3
  [[ $name =~ $parts ]] || return 0
  say && say "## $name" && say
  ((most > longest)) && most=$longest
  ((most > left)) && most=$left
  ((most > 0)) || { say "Not run: no time was left." && return; }
  echo "== $name: $*" >>"$log"
  timeout --kill-after 5 "$most" "$@" >"$out/part" 2>&1 || status=$?
  cat "$out/part" >>"$log"
  grep -qE '^(running )?0 tests' "$out/part" && status=1 # a filter that is no test's name
  $show <"$out/part" | tee -a "$report"
  case $status in
  0) say && say "Done within $((SECONDS - began)) s." ;;
  124 | 137) say && say "STOPPED after $most s." ;;
  *)
    say && say "FAILED with $status after $((SECONDS - began)) s:" && say
    tail -25 "$out/part" | sed 's/^/    /' | tee -a "$report"
    ;;
  esac
  ((status == 0)) || ((++failures))
  rm -f "$out/part"
}

absent() { # <name> <why>
  [[ $1 =~ $parts ]] || return 0
  say && say "## $1" && say && say "Not run: $2."
}

bits() { # <name> <seconds at most> <filters of tests...>
  local name=$1 most=$2
  shift 2
  part "Bits: $name" "$most" tests ./tests --test-threads 1 "$@"
}

long_bits() {
  local name=$1 most=$2
  shift 2
  part "Bits: $name" "$most" tests ./tests "${long[@]}" "$@"
}

sanitized() { # <tool> <seconds at most> <tests...>
  local tool=$1 most=$2
  shift 2
  part "compute-sanitizer $tool" "$most" last_lines compute-sanitizer --tool "$tool" --error-exitcode 9 ./tests --test-threads 1 --exact "$@"
}

say "# On a GPU"
say
say "What \`tests/gpu/run.sh\` said last. libadamw at $(cat version); $($python machine.py 2>&1)."

part "Opening the device with machine code, with PTX that is new to the driver, and with PTX that it has compiled before" 60 everything \
  bash -c './bandwidth && export CUDA_FORCE_PTX_JIT=1 && ./bandwidth && ./bandwidth'
part "The example" 60 everything ./cuda_stream
bits "steps" 60 steps::
bits "sums over gradients, loss scales, schedules, statistics" 120 sums:: scaler:: schedules:: statistics::
long_bits "gradients of rows" 90 sparse:: --skip a_step_is_launches
# Of the rest those that look at nothing but bits and statuses: others need the stand-in's log.
bits "graphs, streams, offload, memory, checkpoints" 60 --exact $(./tests --list | sed -n 's/^\(graphs::.*\): test$/\1/p') \
  calls::a_graph_that_is_launched_ten_times_is_ten_steps \
  calls::captures_of_other_streams_stay_whole_whatever_a_handle_does \
  calls::nothing_that_waits_or_allocates_breaks_a_capture \
  calls::the_context_that_was_current_is_current_after_every_call \
  calls::what_cannot_be_replayed_is_refused_inside_a_capture_and_changes_nothing \
  calls::work_that_runs_late_and_in_any_allowed_order_has_the_same_bits \
  offload::the_processors_steps_have_the_same_bits \
  offload::what_the_host_writes_into_a_parameter_is_fetched_when_it_says_so \
  memory::memory_from_anywhere_gives_the_same_bits \
  memory::work_is_done_before_memory_is_given_back_also_where_nothing_may_wait_for_its_stream \
  checkpoint::what_a_device_saves_a_host_loads_and_the_other_way_round
long_bits "every format" 90 --exact kernels::every_format_steps_to_the_processors_bits
CUDA_FORCE_PTX_JIT=1 long_bits "every format, of PTX" 90 --exact kernels::every_format_steps_to_the_processors_bits

part "Bandwidth: a step, called ten times in a row and from a graph, beside a copy of as many bytes; medians of 11 rounds" 120 \
  everything ./bandwidth "${lengths[@]}"
if $python -c 'import torch' 2>/dev/null; then
  part "Beside PyTorch" 100 everything $python pytorch.py ./libadamw.so $torch_device "${lengths[@]}"
else
  absent "Beside PyTorch" "$python has no PyTorch"
fi

if command -v compute-sanitizer >/dev/null; then
  checked=(steps::clipping_has_the_same_bits_wherever_norms_are_summed steps::statistics_have_the_same_bits)
  sanitized memcheck 60 "${checked[@]}"
  sanitized racecheck 60 "${checked[@]}"
  sanitized initcheck 40 "${checked[@]}"
else
  absent compute-sanitizer "it is not installed"
fi
if command -v ncu >/dev/null; then
  part "Profile of steps" 60 last_lines ncu --clock-control none --set base --section SpeedOfLight --section Occupancy \
    --section ComputeWorkloadAnalysis --kernel-name 'regex:^step_' --launch-count 5 ./bandwidth "${lengths[-1]}"
else
  absent "Profile of steps" "ncu is not installed"
fi
long_bits "every length" 120 --exact kernels::every_length_steps_to_the_processors_bits
long_bits "every alignment" 400 --exact kernels::every_alignment_of_every_operand_steps_to_the_processors_bits

rm -rf "$CUDA_CACHE_PATH"
say && say "$((SECONDS)) s in all; $failures parts did not end well."
((failures == 0))
