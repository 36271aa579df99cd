#!/bin/sh
# What the pages say of building and installing works as it stands there, where `libadamw` is the source: the commands of
# docs/embedding.md, staged by DESTDIR, and the README's program, with its lines of CMake, and with a compiler alone.
# usage: pages.sh <source> <build folder> <lib>
set -eu
source=$1 build=$2 lib=$3
rm -rf "$build"
mkdir -p "$build/program"
cd "$build"
ln -s "$source" libadamw
ln -s "$source" program/libadamw
# All blocks of a page in a language.
blocks() { awk -v fence='```'"$2" '$0 == fence { on = 1; next } /^```/ { on = 0 } on' "$source/$1"; }

blocks README.md c >program/program.c
cat >program/CMakeLists.txt <<END
cmake_minimum_required(VERSION 3.21)
project(program LANGUAGES C)
add_executable(my_program program.c)
$(blocks README.md cmake)
target_link_libraries(my_program PRIVATE m)
END
cmake -S program -B program/build
cmake --build program/build
program/build/my_program | grep -x 'slope 2.0000, intercept -1.0000'

blocks docs/embedding.md sh >install.sh
DESTDIR=$build/stage sh -e install.sh
ls "stage/opt/adamw/$lib/libadamw.so" "stage/opt/adamw/$lib/libadamw.a" stage/opt/adamw/include/adamw.h

cd program
ln -s "$source/include" "$source/target" .
cp program.c my_program.c
sh -e -c "$(sed -n 's/.*`\(cc my_program.c -I.*\)`.*/\1/p' "$source/README.md")"
./a.out | grep -x 'slope 2.0000, intercept -1.0000'
