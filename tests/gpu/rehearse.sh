#!/usr/bin/env bash
# That the day with a GPU can come: bundle.sh's folder, moved elsewhere, runs small on the driver that interprets kernels, whose times
# mean nothing. It finds neither Rust nor this repository, and stubs, which know their options, in place of CUDA's checkers.
# Then parts of it fail and hang, which must cost nobody else anything.
set -euo pipefail
cd "$(dirname "$0")/../.."
repository=$PWD
python=$(${PYTHON:-python3} -c 'import sys; print(sys.executable)')
away=$(mktemp -d)
trap 'rm -rf "$away"' EXIT

tests/gpu/bundle.sh
cp -r build/gpu "$away/bundle"
mkdir "$away"/{bin,driver}
# Without its name nobody knows it for what it is.
sed 's/standin_name/standin_mane/' target/debug/deps/libcuda.so >"$away/driver/libcuda.so"
for program in bash sh timeout tee sed cat tail grep rm mkdir mktemp dirname; do
  ln -s "$(command -v "$program")" "$away/bin/"
done
stub() { # <name> <options that take a value...>: it refuses others, and runs the program that comes after them
  local name=$1 known
  shift
  known=$(IFS='|' && echo "$*")
  cat >"$away/bin/$name" <<STUB
#!/bin/bash
while ((\$#)); do
  case \$1 in
  $known) shift 2 ;;
  -*) echo "$name has no option \$1" && exit 64 ;;
  *) echo "stub of $name" && exec "\$@" ;;
  esac
done
STUB
  chmod +x "$away/bin/$name"
}
stub compute-sanitizer --tool --error-exitcode
stub ncu --clock-control --set --section --kernel-name --launch-count

run() { # <folder of the bundle> <arguments...>
  local bundle=$1
  shift
  (cd / && env -i PATH="$away/bin" LD_LIBRARY_PATH="$away/driver" PYTHON="$python" \
    "$(command -v strace)" --follow-forks --seccomp-bpf --quiet=all --trace=%file,execve --output="$away/opened" "$away/bin/bash" "$bundle/run.sh" --small "$@")
}
wrong() { echo "$*" >&2 && exit 1; }

run "$away/bundle" --out "$away/out" || wrong "a part failed"
grep -c '^- `.*`: ok$' "$away/out/report.md"
! grep -F "$repository" "$away/opened" || wrong "the bundle needs the repository"
! grep '^Not run' "$away/out/report.md" | grep -v PyTorch || wrong "a part was not run"

cp -r build/gpu "$away/broken"
printf '#!/bin/sh\necho broken\nexit 7\n' >"$away/broken/cuda_stream"
printf '#!/bin/sh\nread forever <"%s"\n' "$away/fifo" >"$away/broken/bandwidth"
printf '#!/bin/sh\necho "test one ... ok"\n' >"$away/broken/tests"
mkfifo "$away/fifo"
! run "$away/broken" --out "$away/broken-out" --part 3 || wrong "failures went unnoticed"
report=$away/broken-out/report.md
grep -q '^FAILED with 7' "$report" || wrong "a part that failed is not in the report"
grep -q '^STOPPED after 3 s' "$report" || wrong "a part that hung is not in the report"
tail -1 "$report" | grep '4 parts did not end well' || wrong "other parts failed, too"
! grep -q 'Bits: every alignment' "$report" && wrong "the parts after them are not in the report"
run "$away/broken" --out "$away/late" --seconds 0 >/dev/null
grep -c '^Not run: no time was left' "$away/late/report.md"
