#!/usr/bin/env bash
# The PC emulator Bochs rounds an f32 half-way between two f16s away from 0, where processors take the
# even one.
#
# Expected: vcvtps2ph with the rounding "to nearest, even" in its immediate gives 3c00 for 1 + 2^-11,
# which lies half-way between 3c00 and 3c01, as every processor with F16C does.
# Seen (Bochs 2.7, Debian 2.7+dfsg-4+deb12u1, as Skylake-X and as Haswell): it gives 3c01; 3c03 for
# 1 + 5 * 2^-11, in place of 3c02; and 0001 for half of the smallest f16, in place of 0000. What is not
# half-way is right, and so are additions, products, roots and quotients in f32.
#
# So a program whose bits depend on f16s does not have them in this emulator; AVX-512 in f32 and bf16
# has. Needs Debian 12's packages and binutils; a boot sector of 32 bits is all that runs.
set -euo pipefail
here=$(mktemp -d); trap 'rm -rf "$here"' EXIT
cd "$here"
# With the libraries that they need, as if nothing were installed; the C library is the system's.
mkdir -p debs/partial
touch status
apt-get -qq -y -d --no-install-recommends -o Dir::State::status="$here/status" -o Dir::Cache::archives="$here/debs" \
  -o Debug::NoLocking=1 install {bochs,bochs-term,bochsbios}=2.7+dfsg-4+deb12u1 vgabios >apt.log 2>&1 || { cat apt.log; exit 1; }
rm -f debs/libc6_* debs/libc-bin_*
for package in debs/*.deb; do dpkg -x "$package" unpacked; done

cat >boot.s <<'S'
.globl start
.code16
start:
  cli
  xor %ax, %ax
  mov %ax, %ds
  lgdtl descriptor
  mov %cr0, %eax
  or $1, %eax
  mov %eax, %cr0
  ljmp $8, $protected
.code32
protected:
  mov $16, %ax
  mov %ax, %ds
  mov $0x7000, %esp
  mov %ax, %ss
  mov %cr4, %eax
  or $0x40600, %eax # SSE and XSAVE
  mov %eax, %cr4
  xor %ecx, %ecx
  xor %edx, %edx
  mov $7, %eax # x87, SSE and AVX
  xsetbv
  mov $numbers, %esi
next:
  vmovss (%esi), %xmm0
  vcvtps2ph $0, %xmm0, %xmm1
  vmovd %xmm1, %ebx
  mov $4, %cl
digit:
  rol $4, %bx
  mov %ebx, %eax
  and $15, %eax
  mov digits(%eax), %al
  out %al, $0xe9
  dec %cl
  jnz digit
  mov $10, %al
  out %al, $0xe9
  add $4, %esi
  cmp $end, %esi
  jne next
  mov $off, %esi
  mov $8, %ecx
  mov $0x8900, %dx
  rep outsb
  hlt
digits: .ascii "0123456789abcdef"
off: .ascii "Shutdown"
.align 4
numbers: .long 0x3f801000, 0x3f805000, 0x33000000, 0x3f803000, 0x3f801001, 0x3f800fff
end:
table: .quad 0, 0x00cf9a000000ffff, 0x00cf92000000ffff
descriptor: .word 23
  .long table
.org 510
.word 0xaa55
S
as --32 boot.s -o boot.o
ld -m elf_i386 -e start -Ttext 0x7c00 --oformat binary boot.o -o floppy.img
truncate -s 1474560 floppy.img
export LTDL_LIBRARY_PATH=$here/unpacked/usr/lib/x86_64-linux-gnu/bochs/plugins BXSHARE=$here/unpacked/usr/share/bochs
echo c >go
for model in corei7_skylake_x corei7_haswell_4770; do
  cat >bochsrc <<C
cpu: model=$model
megs: 32
floppya: 1_44=floppy.img, status=inserted
boot: floppy
vgaromimage: file=$here/unpacked/usr/share/vgabios/vgabios.bin
port_e9_hack: enabled=1
display_library: term
sound: waveoutdrv=dummy, waveindrv=dummy, midioutdrv=dummy
log: log
C
  LD_LIBRARY_PATH=$(find "$here/unpacked" -name '*.so*' -printf '%h\n' | grep -v plugins | sort -u | paste -sd:) \
    TERM=xterm timeout 60 script -qfc "unpacked/usr/bin/bochs-bin -q -f bochsrc -rc go" screen </dev/null >/dev/null || true
  seen=$(tr -d '\r' <screen | grep -aoE '^[0-9a-f]{4}$' | paste -sd' ')
  echo "$model: $seen (to nearest, even: 3c00 3c02 0000 3c02 3c01 3c00)"
  [[ $seen = "3c01 3c03 0001 3c02 3c01 3c00" ]]
done
echo "Bochs 2.7 rounds f16s that lie half-way away from 0"
