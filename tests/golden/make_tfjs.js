// What make_others.py runs for TensorFlow.js, whose packages are beside it: takes the steps that stdin describes, saves the model
// with its optimizer after some of them, and prints what the parameters are then and after all.

"use strict";

const fs = require("fs");
const path = require("path");
const tf = require("@tensorflow/tfjs-core");
const layers = require("@tensorflow/tfjs-layers");
require("@tensorflow/tfjs-backend-cpu");

const run = JSON.parse(fs.readFileSync(0));

/** Writes the files that TensorFlow.js sends to a server. */
async function write(url, { body }) {
  for (const [, file] of body) {
    fs.writeFileSync(path.join(path.dirname(run.file), file.name), Buffer.from(await file.arrayBuffer()));
  }
  return { ok: true, status: 200 };
}

async function main() {
  const dense = layers.layers.dense({ units: run.start[1].length, inputShape: [run.start[0].length], name: "first" });
  const model = layers.sequential({ layers: [dense] });
  const optimizer = tf.train.adam(run.lr, ...run.betas, run.eps);
  model.compile({ optimizer, loss: "meanSquaredError" });
  model.setWeights(run.start.map((value) => tf.tensor(value)));
  const names = model.trainableWeights.map((weight) => weight.name);
  const values = () => model.getWeights().map((weight) => weight.arraySync());
  let middle;
  for (const [number, grads] of run.grads.entries()) {
    if (number === run.before) {
      middle = values();
      await model.save(tf.io.http("http://localhost", { fetchFunc: write }), { includeOptimizer: true });
    }
    optimizer.applyGradients(names.map((name, i) => ({ name, tensor: tf.tensor(grads[i]) })));
  }
  console.log(JSON.stringify({ version: tf.version_core, names, middle, end: values() }));
}

main();
