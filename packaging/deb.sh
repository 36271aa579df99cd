#!/bin/sh
# Builds Debian packages of this source on this machine: libadamw0, libadamw-dev, and libadamw0-dbgsym with line numbers.
# Needs dpkg-dev, debhelper, CMake, and a cargo, which need not be Debian's.
# usage: deb.sh <folder for the packages>
set -eu
source=$(cd "$(dirname "$0")/.." && pwd)
mkdir -p "$1/source"
cd "$1/source"
# What cargo has built is of use for the next time.
find . -mindepth 1 -maxdepth 1 -not -name target -exec rm -rf {} +
tar --create --directory "$source" --exclude=./build --exclude=target --exclude='./.*' . | tar --extract
cp -r packaging/debian .
rm -f ../libadamw*
dpkg-buildpackage --build=binary --no-sign --no-check-builddeps
ls ../*.deb
