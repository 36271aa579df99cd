-- As examples/c/train.c, with LuaJIT's ffi. usage: luajit train.lua <libadamw.so> <checkpoint>
local ffi = require("ffi")

ffi.cdef [[
typedef struct adamw_optimizer adamw_optimizer;
typedef int32_t (*adamw_decay_filter)(const char *name, void *user_data);
const char *adamw_last_error(void);
int32_t adamw_create(const void *config, adamw_optimizer **out_optimizer);
int32_t adamw_destroy(adamw_optimizer *optimizer);
int32_t adamw_set_lr(adamw_optimizer *optimizer, double lr);
int32_t adamw_set_decay_filter(adamw_optimizer *optimizer, adamw_decay_filter filter, void *user_data);
int32_t adamw_add_array(adamw_optimizer *optimizer, const char *name, void *data, uint64_t n, uint32_t dtype, uint32_t *out_param);
int32_t adamw_set_grad_array(adamw_optimizer *optimizer, uint32_t param, const void *data, uint64_t n, uint32_t dtype);
int32_t adamw_step(adamw_optimizer *optimizer);
int32_t adamw_save(adamw_optimizer *optimizer, const char *path);
int32_t adamw_load(adamw_optimizer *optimizer, const char *path, const void *options);
]]

local N, NUM_STEPS, F32 = 64, 50, 1
local adamw = ffi.load(arg[1])

-- Memory of ffi.new stays where it is as long as something refers to it.
local weight, bias = ffi.new("float[?]", N), ffi.new("float[?]", N)
local weight_grad, bias_grad = ffi.new("float[?]", N), ffi.new("float[?]", N)

-- Calls that call back must not be compiled: `jit.off` for the function that makes them.
local decays = ffi.cast("adamw_decay_filter", function(name)
  return ffi.string(name) == "bias" and 0 or 1
end)

local function check(status)
  if status ~= 0 then error(ffi.string(adamw.adamw_last_error())) end
end

local function add(optimizer, name, param, grad)
  local number = ffi.new("uint32_t[1]")
  check(adamw.adamw_add_array(optimizer, name, param, N, F32, number))
  check(adamw.adamw_set_grad_array(optimizer, number[0], grad, N, F32))
end
jit.off(add)

local function new_optimizer()
  local out = ffi.new("adamw_optimizer *[1]")
  check(adamw.adamw_create(nil, out))
  check(adamw.adamw_set_lr(out[0], 0.05))
  check(adamw.adamw_set_decay_filter(out[0], decays, nil))
  add(out[0], "weight", weight, weight_grad)
  add(out[0], "bias", bias, bias_grad)
  return out[0]
end

local function train(optimizer)
  for _ = 1, NUM_STEPS do
    for i = 0, N - 1 do
      weight_grad[i] = weight[i] - i / 16
      bias_grad[i] = bias[i] + i / 16
    end
    check(adamw.adamw_step(optimizer))
  end
end

local optimizer = new_optimizer()
train(optimizer)
check(adamw.adamw_save(optimizer, arg[2]))
check(adamw.adamw_destroy(optimizer))

optimizer = new_optimizer()
check(adamw.adamw_load(optimizer, arg[2], nil))
train(optimizer)
check(adamw.adamw_destroy(optimizer))

local a, b = 1, 0
for byte in (ffi.string(weight, 4 * N) .. ffi.string(bias, 4 * N)):gmatch(".") do
  a = (a + byte:byte()) % 65521
  b = (b + a) % 65521
end
print(string.format("%04X%04X", b, a))
