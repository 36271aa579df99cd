#!/bin/sh
# Builds examples-c/consumer/consumer.c with a compiler alone, or as pkg-config or Meson say, over an installed library.
# usage: CC=cc consumer.sh <way> <prefix> <lib> <folder of consumer.c> <build folder>
set -eu
way=$1 lib=$2/$3 include=-I$2/include source=$4 build=$5
export PKG_CONFIG_PATH="$lib/pkgconfig"
rm -rf "$build"
mkdir -p "$build"
cd "$build"
compile() { "${CC:-cc}" -Wall -Werror "$source/consumer.c" -o consumer "$@"; }
case $way in
cc-shared) compile "$include" "-L$lib" -ladamw "-Wl,-rpath,$lib" ;;
cc-static) compile "$include" "$lib/libadamw.a" -lpthread -ldl -lm ;;
pkg-config-shared) compile $(pkg-config --cflags --libs adamw) "-Wl,-rpath,$(pkg-config --variable=libdir adamw)" ;;
pkg-config-static) compile -static $(pkg-config --static --cflags --libs adamw) ;;
*)
  meson setup build "$source" $([ "$way" = meson-shared ] || echo -Dprefer_static=true)
  meson test -C build --print-errorlogs
  cp build/consumer .
  ;;
esac
./consumer
# A program has the library in it, or asks for it.
case $way in
*static) ! readelf --dynamic consumer | grep libadamw ;;
*) readelf --dynamic consumer | grep 'NEEDED.*libadamw\.so\.0' ;;
esac
