#!/bin/sh
# Builds the crate with ThreadSanitizer and runs the programs that use a handle from several threads of their own: no data
# race. (Rust's standard library is not instrumented, so the locks of the library's own threads would give false alarms.) First it
# makes sure that a race is seen at all.
# usage: CARGO=cargo CC=gcc thread_sanitizer.sh <source directory> <build directory> [arguments for cargo build]
set -eu
. "$(dirname "$0")/sanitized.sh"

# gcc's own runtime lacks functions that Rust's compiler calls; the toolchain brings one that has them.
runtime=$(cd "$source" && rustc --print sysroot)/lib/rustlib/$target/lib/librustc-stable_rt.tsan.a
[ -e "$runtime" ] || { echo "this Rust toolchain has no $runtime"; exit 77; }

build_library "-Zsanitizer=thread -Cunsafe-allow-abi-mismatch=sanitizer" __tsan_ "$@"

compile() { # name, sources...
  program=$1
  shift
  "${CC:-cc}" -std=c11 -g -I"$source/include" "$@" -o "$program" -Wl,--whole-archive "$runtime" -Wl,--no-whole-archive -rdynamic \
    -L"$library" -ladamw -Wl,-rpath,"$library" -lpthread -ldl -lm -lrt -lresolv
}

# The programs look at what is printed, so the sanitizer writes to files: report.<process>.
export TSAN_OPTIONS=log_path=$build/report

compile race "$tests/race.c"
for attempt in 1 2 3 4 5; do # whether a race is seen depends on the timing
  rm -f report.*
  ./race shared || break
done
grep -qs "data race" report.* || { echo "the sanitizer does not see a race"; exit 1; }

compile misuse_handle "$tests/misuse_handle.c" "$tests/harness.c" "$tests/calls.c"
for name in race misuse_handle; do
  rm -f report.*
  ./$name || { cat report.* 2>/dev/null; exit 1; }
done
