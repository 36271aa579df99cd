#!/bin/sh
# Generates bindings of the header, without a warning, and calls the library through them.
# usage: CC=cc PYTHON=python3 CTYPESGEN=ctypesgen generators.sh <generator> <folder of libadamw.so> <folder of adamw.h> <build folder>
set -eu
generator=$1 lib=$2 include=$3 build=$4
rm -rf "$build"
mkdir -p "$build"
cd "$build"

python_says() { # module
  "$PYTHON" -c "import $1 as a; print(a.adamw_version(), a.ADAMW_STATUS_BUSY, a.ADAMW_MOMENTS_8BIT)" | tee said.txt
  grep "0\.1\.0'\? 8 2" said.txt
}

case $generator in
bindgen-*)
  kind=${generator#bindgen-}
  option=
  [ "$kind" = consts ] || option="--$kind adamw_.*"
  bindgen "$include/adamw.h" -o bindings.rs $option \
    --allowlist-function 'adamw_.*' --allowlist-type 'adamw_.*' --allowlist-var 'ADAMW_.*'
  cat >main.rs <<END
#[allow(non_camel_case_types, non_upper_case_globals, dead_code)]
mod bindings { include!("bindings.rs"); }
fn main() {
    let version = unsafe { std::ffi::CStr::from_ptr(bindings::adamw_version()) };
    println!("{version:?}");
    assert_eq!(bindings::ADAMW_MOMENTS_8BIT, 2);
    assert_eq!(unsafe { bindings::adamw_step(std::ptr::null_mut()) }, 7);
}
END
  rustc --edition 2021 -Dwarnings main.rs -L "$lib" -l adamw -C "link-arg=-Wl,-rpath,$lib"
  ./main
  grep -q 'doc = " Returns the version of the running library' bindings.rs
  ;;
swig)
  printf '%%module adamw\n%%{\n#include <adamw.h>\n%%}\n%%include <stdint.i>\n%%include <adamw.h>\n' >adamw.i
  # 451: who frees the old text of a char * that is assigned is not for a header to say.
  swig -python -Wextra -Werror -w451 "-I$include" adamw.i
  headers=$("$PYTHON" -c 'import sysconfig; print(sysconfig.get_path("include"))')
  "$CC" -shared -fPIC "-I$headers" "-I$include" adamw_wrap.c "-L$lib" -ladamw "-Wl,-rpath,$lib" -o _adamw.so
  python_says adamw
  ;;
ctypesgen)
  "$CTYPESGEN" "-I$include" "$include/adamw.h" -L "$lib" -l adamw -o adamw.py 2>said.txt
  ! grep -E "(ERROR|WARNING).*$include" said.txt
  python_says adamw
  ;;
esac
