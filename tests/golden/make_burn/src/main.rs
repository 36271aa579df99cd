//! Takes the steps of burn's AdamW that stdin describes, saves the optimizer after some of them, and
//! prints what the parameters are then and after all.

use burn::module::{Module, Param};
use burn::optim::{AdamWConfig, GradientsParams};
use burn::tensor::{Device, Tensor, TensorData};
use serde_json::{Value, json};

/// That of Cargo.toml.
const VERSION: &str = "0.22.1";

#[derive(Module, Debug)]
struct First {
    weight: Param<Tensor<2>>,
}

#[derive(Module, Debug)]
struct Second {
    bias: Param<Tensor<1>>,
}

#[derive(Module, Debug)]
struct Model {
    first: First,
    second: Second,
}

fn numbers(value: &Value) -> Vec<f32> {
    match value {
        Value::Array(values) => values.iter().flat_map(numbers).collect(),
        number => vec![number.as_f64().unwrap() as f32],
    }
}

fn tensor<const D: usize>(value: &Value, shape: [usize; D], device: &Device) -> Tensor<D> {
    Tensor::from_data(TensorData::new(numbers(value), shape), device)
}

fn values(model: &Model) -> Value {
    let flat = |data: TensorData| data.try_to_vec::<f32>().unwrap();
    let (rows, bias) =
        (flat(model.first.weight.val().into_data()), flat(model.second.bias.val().into_data()));
    json!([rows.chunks(bias.len()).collect::<Vec<_>>(), bias])
}

fn main() {
    let run: Value = serde_json::from_reader(std::io::stdin()).unwrap();
    let number = |key: &str| run[key].as_f64().unwrap() as f32;
    let device = Device::default().autodiff();
    let columns = run["start"][1].as_array().unwrap().len();
    let rows = run["start"][0].as_array().unwrap().len();
    let mut model = Model {
        first: First {
            weight: Param::from_tensor(tensor(&run["start"][0], [rows, columns], &device)),
        },
        second: Second { bias: Param::from_tensor(tensor(&run["start"][1], [columns], &device)) },
    };
    let mut optimizer = AdamWConfig::new()
        .with_beta_1(run["betas"][0].as_f64().unwrap() as f32)
        .with_beta_2(run["betas"][1].as_f64().unwrap() as f32)
        .with_epsilon(number("eps"))
        .with_weight_decay(number("weight_decay"))
        .with_amsgrad(run["amsgrad"].as_bool().unwrap())
        .init();
    let mut middle = Value::Null;
    for (step, grads) in run["grads"].as_array().unwrap().iter().enumerate() {
        if step as u64 == run["before"].as_u64().unwrap() {
            middle = values(&model);
            optimizer.save(run["file"].as_str().unwrap()).unwrap();
        }
        // The gradient of a sum of products is what the parameter is multiplied by.
        let first = model.first.weight.val() * tensor(&grads[0], [rows, columns], &device);
        let second = model.second.bias.val() * tensor(&grads[1], [columns], &device);
        let grads = (first.sum() + second.sum()).backward();
        let grads = GradientsParams::from_grads(grads, &model);
        model = optimizer.step(run["lr"].as_f64().unwrap(), model, grads);
    }
    println!("{}", json!({ "version": VERSION, "middle": middle, "end": values(&model) }));
}
