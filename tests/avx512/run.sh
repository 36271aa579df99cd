#!/usr/bin/env bash
# Runs a program on an emulated PC whose processor has AVX-512: Bochs, with Debian's kernel and BusyBox.
# The program finds its libraries, the files of tests/golden/ and an empty /tmp. Its output and its status are those here.
#
# usage: tests/avx512/run.sh PROGRAM [ARGUMENT...]
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
program=$(realpath "$1")
shift
for tool in bochs:bochs xorriso:xorriso cpio:cpio busybox:busybox-static; do
  command -v ${tool%:*} >/dev/null || missing+=" ${tool#*:}"
done
for file in /usr/lib/ISOLINUX/isolinux.bin:isolinux /usr/lib/syslinux/modules/bios/ldlinux.c32:syslinux-common \
            /usr/lib/x86_64-linux-gnu/bochs/plugins/libbx_term_gui.so:bochs-term; do
  [[ -e ${file%:*} ]] || missing+=" ${file#*:}"
done
[[ -z ${missing:-} ]] || { echo "apt-get install$missing"; exit 1; }

kernel=$here/../../build/avx512
if ! [[ -e $kernel/boot ]]; then
  mkdir -p "$kernel"
  package=$(apt-cache depends linux-image-cloud-amd64 | sed -n 's/.*Depends: \(linux-image-.*\)/\1/p')
  (cd "$kernel" && apt-get -qq download "$package" 2>/dev/null && dpkg -x ./linux-image-*.deb unpacked && mv unpacked/boot .)
fi
pc=$(mktemp -d)
trap 'rm -rf "$pc"' EXIT
cd "$pc"

mkdir -p root/{bin,dev,proc,sys,tmp,lib64} iso
cp "$(command -v busybox)" root/bin/busybox
cp "$here/init" root/init
strip -o root/program "$program"
cp -Lt root/lib64 $(ldd "$program" "$(command -v busybox)" 2>/dev/null | grep -o '/[^ :]*lib[^ :]*')
mkdir -p "root${here%/*}"
cp -r "${here%/*}/golden" "root${here%/*}"
{ printf ' %q' "$@"; echo; } >root/arguments

cp /usr/lib/ISOLINUX/isolinux.bin /usr/lib/syslinux/modules/bios/ldlinux.c32 "$here/isolinux.cfg" iso
cp "$kernel"/boot/vmlinuz-* iso/vmlinuz
(cd root && find . | cpio --quiet -o -H newc) >iso/initrd
xorriso -as mkisofs -quiet -o pc.iso -b isolinux.bin -c boot.cat -no-emul-boot -boot-load-size 4 -boot-info-table iso 2>xorriso.log \
  || { cat xorriso.log; exit 1; }
cp "$here/bochsrc" .
bochs="bochs -q -f bochsrc"
if [[ $(bochs --help 2>&1) == *" -rc "* ]]; then # Debian's has a debugger, which waits to be told to go on
  echo c >go
  bochs+=" -rc go"
fi
touch serial
TERM=xterm script -qfc "exec $bochs" screen </dev/null >/dev/null &
pc_id=$!
end() { pkill -KILL -P $pc_id || true; }
trap 'end; rm -rf "$pc"' EXIT
set +o pipefail # tail may write once more
tail -f --pid=$pc_id -n +1 serial | {
  while IFS= read -r line; do
    case $line in
      "ended with "*) end; exit "${line#ended with }" ;;
      *) printf '%s\n' "$line" ;;
    esac
  done
  echo "the emulated PC ended before the program"
  exit 1
}
