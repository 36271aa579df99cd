#!/bin/sh
# Runs the program of one language, which it builds first where there is something to build.
# usage: run.sh <language> <folder of libadamw.so> <folder of adamw.h> <build folder> [<file with what it must print>]
set -eu
language=$1 lib=$2 include=$3 build=$4 expected=${5:-}
here=$(cd "$(dirname "$0")" && pwd)
so=$lib/libadamw.so
rm -rf "$build"
mkdir -p "$build"
cd "$build"
rpath=-Wl,-rpath,$lib

case $language in
c) "${CC:-cc}" "$here/c/train.c" "-I$include" "-L$lib" -ladamw "$rpath" -o train ;;
fortran) gfortran -Wall -Wno-unused-dummy-argument "$here/fortran/train.f90" "-L$lib" -ladamw "$rpath" -o train ;;
ocaml)
  cp "$here/ocaml/train.ml" .
  ocamlfind ocamlopt -thread -package threads.posix,ctypes.foreign -linkpkg train.ml -o ocaml_train
  set -- ./ocaml_train "$so"
  ;;
r)
  cp "$here/r/glue.c" .
  PKG_CPPFLAGS=-I$include PKG_LIBS="-L$lib -ladamw $rpath" R CMD SHLIB glue.c
  set -- Rscript "$here/r/train.R" ./glue.so
  ;;
go) GO111MODULE=off CGO_CFLAGS=-I$include CGO_LDFLAGS="-L$lib -ladamw $rpath" go build -o train "$here/go/train.go" ;;
rust)
  bindgen "$include/adamw.h" -o adamw.rs --allowlist-function 'adamw_.*' --allowlist-var 'ADAMW_.*'
  BINDINGS=$PWD rustc --edition 2021 "$here/rust/train.rs" -L "$lib" -l adamw -C "link-arg=$rpath"
  ;;
zig)
  cp "$here/zig/train.zig" .
  ${ZIG:-zig} translate-c "$include/adamw.h" -lc >adamw.zig
  ${ZIG:-zig} build-exe train.zig -lc "-L$lib" -ladamw -rpath "$lib"
  ;;
cffi) set -- "${PYTHON:-python3}" "$here/cffi/train.py" "$so" "$include/adamw.cffi.h" ;;
java) set -- java -cp /usr/share/java/jna.jar "$here/java/Train.java" "$so" ;;
php) set -- php -d ffi.enable=1 "$here/php/train.php" "$so" ;;
luajit) set -- luajit "$here/luajit/train.lua" "$so" ;;
node) set -- node "$here/node/train.js" "$so" ;;
perl) set -- perl "$here/perl/train.pl" "$so" ;;
ruby) set -- ruby "$here/ruby/train.rb" "$so" ;;
*) echo "no such language: $language"; exit 2 ;;
esac
[ ! -e train ] || set -- ./train

"$@" train.safetensors | tee checksum.txt
[ -z "$expected" ] || cmp checksum.txt "$expected"
