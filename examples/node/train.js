// As examples/c/train.c, with koffi. usage: node train.js <libadamw.so> <checkpoint>
"use strict";
const koffi = require("koffi");

const N = 64, NUM_STEPS = 50, F32 = 1;
const [library, checkpoint] = process.argv.slice(2);
const lib = koffi.load(library);
koffi.proto("int32_t adamw_decay_filter(const char *name, void *user_data)");
const adamw = Object.fromEntries([
  "int32_t adamw_create(const void *config, _Out_ void **out_optimizer)",
  "int32_t adamw_destroy(void *optimizer)",
  "int32_t adamw_set_lr(void *optimizer, double lr)",
  "int32_t adamw_set_decay_filter(void *optimizer, adamw_decay_filter *filter, void *user_data)",
  "int32_t adamw_add_array(void *optimizer, const char *name, void *data, uint64_t n, uint32_t dtype, _Out_ uint32_t *out_param)",
  "int32_t adamw_set_grad_array(void *optimizer, uint32_t param, const void *data, uint64_t n, uint32_t dtype)",
  "int32_t adamw_step(void *optimizer)",
  "int32_t adamw_save(void *optimizer, const char *path)",
  "int32_t adamw_load(void *optimizer, const char *path, const void *options)",
].map((prototype) => {
  const [, name] = /adamw_(\w+)\(/.exec(prototype);
  const call = lib.func(prototype);
  // Both calls are on this thread, without an await between them.
  return [name, (...args) => {
    if (call(...args) !== 0) throw new Error(lastError());
  }];
}));
const lastError = lib.func("const char *adamw_last_error()");

// The library keeps addresses, so the memory is not the collector's.
function array() {
  const data = koffi.alloc("float", N);
  const floats = new Float32Array(koffi.view(data, 4 * N)).fill(0);
  return { data, floats };
}
const weight = array(), bias = array(), weightGrad = array(), biasGrad = array();

// Registered callbacks stay alive until they are unregistered.
const decays = koffi.register((name) => (name === "bias" ? 0 : 1), "adamw_decay_filter *");

function add(optimizer, name, param, grad) {
  const number = [null];
  adamw.add_array(optimizer, name, param.data, N, F32, number);
  adamw.set_grad_array(optimizer, number[0], grad.data, N, F32);
}

function newOptimizer() {
  const out = [null];
  adamw.create(null, out);
  adamw.set_lr(out[0], 0.05);
  adamw.set_decay_filter(out[0], decays, null);
  add(out[0], "weight", weight, weightGrad);
  add(out[0], "bias", bias, biasGrad);
  return out[0];
}

function train(optimizer) {
  for (let step = 0; step < NUM_STEPS; step++) {
    for (let i = 0; i < N; i++) {
      weightGrad.floats[i] = weight.floats[i] - i / 16;
      biasGrad.floats[i] = bias.floats[i] + i / 16;
    }
    adamw.step(optimizer);
  }
}

let optimizer = newOptimizer();
train(optimizer);
adamw.save(optimizer, checkpoint);
adamw.destroy(optimizer);

optimizer = newOptimizer();
adamw.load(optimizer, checkpoint, null);
train(optimizer);
adamw.destroy(optimizer);

let a = 1, b = 0;
for (const { floats } of [weight, bias]) {
  for (const byte of new Uint8Array(floats.buffer)) {
    a = (a + byte) % 65521;
    b = (b + a) % 65521;
  }
}
console.log((b * 65536 + a).toString(16).toUpperCase().padStart(8, "0"));
