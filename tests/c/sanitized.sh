# What the scripts of both sanitizers share; sourced with their arguments: <source directory> <build directory> [arguments for
# cargo build].
source=$1
build=$2
shift 2
mkdir -p "$build"
cd "$build"
tests=$source/tests/c
target=x86_64-unknown-linux-gnu
library=$build/cargo/$target/debug

# Builds the crate into $library and makes sure that it is instrumented.
build_library() { # RUSTFLAGS, how the sanitizer's symbols start, arguments for cargo build...
  flags=$1
  symbols=$2
  shift 2
  (cd "$source" && RUSTC_BOOTSTRAP=1 RUSTFLAGS=$flags \
    "${CARGO:-cargo}" build --quiet --locked --lib --target $target --target-dir "$build/cargo" "$@")
  nm --dynamic --undefined-only "$library/libadamw.so" >symbols.txt
  grep -q "$symbols" symbols.txt || { echo "libadamw.so is not instrumented"; exit 1; }
  ln -sf libadamw.so "$library/libadamw.so.0"
}
