#!/usr/bin/env bash
# burn's optimizers drop the state that they load, where the model was built anew.
#
# Expected: Optimizer::load finds the state of a parameter by its path, which the file has beside each
# tensor; or it refuses a file of which it can use nothing.
# Seen (burn 0.22.1, backend flex, CPU): it goes by the random number that a parameter gets when it is
# made. A model of the same structure that took its weights from elsewhere has other numbers: load
# returns Ok, the state waits for parameters that do not come, and the next step has the bits of a
# fresh optimizer's. With the numbers of the saved model, the same file is used.
#
# So a run of burn is resumed only with a model that took its numbers from burn's own record; a
# converter goes by the path. Needs Rust; burn takes some minutes to build.
set -euo pipefail
here=$(mktemp -d); trap 'rm -rf "$here"' EXIT
mkdir "$here/src"
cat >"$here/Cargo.toml" <<'TOML'
[package]
name = "resumed"
version = "0.0.0"
edition = "2024"

[workspace]

[dependencies]
burn = { version = "=0.22.1", default-features = false, features = ["std", "optim", "autodiff", "flex"] }

[profile.dev]
debug = false
TOML
cat >"$here/src/main.rs" <<'RUST'
use burn::module::{Module, Param, ParamId};
use burn::optim::{AdamWConfig, GradientsParams};
use burn::tensor::{Device, Tensor};

#[derive(Module, Debug)]
struct Model {
    weight: Param<Tensor<1>>,
}

fn weights(model: &Model) -> Vec<f32> {
    model.weight.val().into_data().try_to_vec().unwrap()
}

fn main() {
    let file = std::env::args().nth(1).unwrap();
    let device = Device::default().autodiff();
    let new = || AdamWConfig::new().with_weight_decay(0.0).init();
    let with = |values: &[f32]| Tensor::<1>::from_floats(values, &device);
    macro_rules! step {
        ($optimizer:expr, $model:expr, $grad:expr) => {{
            let model = $model;
            let loss = (model.weight.val() * with(&$grad)).sum();
            let grads = GradientsParams::from_grads(loss.backward(), &model);
            $optimizer.step(0.1, model, grads)
        }};
    }
    let (mut optimizer, id) = (new(), ParamId::new());
    let mut model = Model { weight: Param::initialized(id, with(&[1.0, 1.0]).require_grad()) };
    for _ in 0..5 {
        model = step!(optimizer, model, [1.0, 0.0]);
    }
    optimizer.save(&file).unwrap();
    let saved = weights(&model);
    let after = |id: ParamId, loads: bool| {
        let model = Model { weight: Param::initialized(id, with(&saved).require_grad()) };
        let mut optimizer = new();
        if loads {
            optimizer = optimizer.load(&file).unwrap();
        }
        weights(&step!(optimizer, model, [0.0, 1.0]))
    };
    println!("goes on:         {:?}", weights(&step!(optimizer, model, [0.0, 1.0])));
    println!("the same number: {:?}", after(id, true));
    println!("a new number:    {:?}", after(ParamId::new(), true));
    println!("nothing loaded:  {:?}", after(ParamId::new(), false));
}
RUST
cd "$here"
cargo build --quiet --jobs 2
"${CARGO_TARGET_DIR:-target}/debug/resumed" "$here/state" | tee "$here/said"
of() { sed -n "s/^$1: *//p" "$here/said"; }
[[ $(of "the same number") == "$(of "goes on")" ]] || { echo "the file says less now"; exit 1; }
[[ $(of "a new number") == "$(of "nothing loaded")" ]] || { echo "the state finds its parameter now"; exit 1; }
[[ $(of "a new number") != "$(of "goes on")" ]]
echo "as described"
