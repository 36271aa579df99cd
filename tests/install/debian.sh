#!/bin/sh
# Builds Debian's packages, and installs them into an empty root, in which there is nothing but what they say that they need.
# usage: debian.sh <source> <folder for the packages> <root>
set -eu
source=$1 packages=$2 root=$3
PATH=$PATH:/usr/sbin:/sbin

"$source/packaging/deb.sh" "$packages"
lintian --allow-root --fail-on error,warning "$packages"/libadamw_*.changes

rm -rf "$root"
mkdir -p "$root/var/lib/dpkg/info" "$root/var/lib/dpkg/updates" "$root/var/log"
dpkg-query --status libc6 libgcc-s1 >"$root/var/lib/dpkg/status"
files() { (cd "$root" && find . -path ./var -prune -o -not -type d -print); }
installer() { dpkg --root="$root" --log="$root/var/log/dpkg.log" --force-not-root --force-unsafe-io "$@"; }

# What was installed is removed, and nothing else. (It is there again afterwards, for others.)
installer --install "$packages"/*.deb
installer --purge libadamw0 libadamw-dev libadamw0-dbgsym
test -z "$(files)"
installer --install "$packages"/*.deb
files

# An address in the stripped library leads to a line.
library=$(echo "$root"/usr/lib/*/libadamw.so.0)
address=$(nm --dynamic "$library" | sed -n 's/ T adamw_step$//p')
addr2line -e "$root"/usr/lib/debug/.build-id/*/*.debug "0x$address" | grep 'src/ffi/.*:[0-9]'

# Compilers search /usr anyway: pkg-config names the library only.
test "$(PKG_CONFIG_PATH=$(dirname "$library")/pkgconfig pkg-config --cflags --libs adamw)" = "-ladamw "

# The copyright file names every crate of which something is in the libraries.
cargo tree --manifest-path "$source/Cargo.toml" --locked --edges normal,no-proc-macro --prefix none | sed 's/ .*//' | sort -u |
  while read -r crate; do
    test "$crate" = adamw || grep -qF "Files: crates/$crate/*" "$root/usr/share/doc/libadamw0/copyright" ||
      { echo "packaging/debian/copyright does not name $crate"; exit 1; }
  done
