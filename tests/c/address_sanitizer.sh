#!/bin/sh
# Builds the crate and the C programs with AddressSanitizer (the programs with the undefined-behaviour sanitizer too) and runs
# them: no bad access, no undefined behaviour, no leak. First it makes sure that the sanitizers see a mistake at all.
# usage: CARGO=cargo CC=gcc address_sanitizer.sh <source directory> <build directory> [arguments for cargo build]
set -eu
. "$(dirname "$0")/sanitized.sh"

build_library "-Zsanitizer=address" __asan_ "$@"

compile() { # name, sources...
  program=$1
  shift
  "${CC:-cc}" -std=c11 -g -O1 -fsanitize=address,undefined -fno-sanitize-recover=all -I"$source/include" "$@" -o "$program" \
    -L"$library" -ladamw -Wl,-rpath,"$library" -lpthread -ldl -lm
}

# The programs look at what is printed, so the sanitizers write to files: report.<process>.
export ASAN_OPTIONS=detect_leaks=1:allocator_may_return_null=1:log_path=$build/report
export UBSAN_OPTIONS=print_stacktrace=1:log_path=$build/report

compile control "$tests/sanitizer_control.c"
./control || { echo "the control fails without a mistake"; cat report.*; exit 1; }
for mistake in freed-param:heap-use-after-free short-grad:heap-buffer-overflow leak:LeakSanitizer; do
  rm -f report.*
  if ./control "${mistake%:*}"; then
    echo "the sanitizers do not see the mistake ${mistake%:*}"
    exit 1
  fi
  grep -qs "${mistake#*:}" report.* || { echo "expected ${mistake#*:}"; cat report.*; exit 1; }
done

failed=
check() { # name, arguments...
  rm -f report.*
  if ! "./$@"; then
    failed="$failed $1"
    cat report.* 2>/dev/null || true
  fi
}
for name in misuse_config misuse_tensor misuse_overlap misuse_param misuse_handle misuse_callback misuse_schedule misuse_sparse \
            misuse_training host_parallel_for; do
  compile $name "$tests/$name.c" "$tests/harness.c" "$tests/calls.c" "$tests/large.c"
  check $name
done
compile fork_child "$tests/fork_child.c" "$tests/large.c" "$tests/process.c"
check fork_child
compile team "$tests/team.c" "$tests/harness.c" "$tests/large.c" "$tests/process.c"
check team
compile together "$tests/together.c" "$tests/harness.c" "$tests/calls.c" "$tests/large.c"
check together
for name in minimal param_groups bf16_master embedding; do
  compile $name "$source/examples-c/$name.c"
  check $name
done
[ -z "$failed" ] || { echo "failed:$failed"; exit 1; }
