# As examples/c/train.c, with Fiddle. usage: ruby train.rb <libadamw.so> <checkpoint>
require "fiddle/import"
require "zlib"

N = 64
NUM_STEPS = 50
F32 = 1
LIBRARY, CHECKPOINT = ARGV

module Adamw
  extend Fiddle::Importer
  dlload LIBRARY
  extern "const char *adamw_last_error()"
  extern "int adamw_create(const void *config, void **out_optimizer)"
  extern "int adamw_destroy(void *optimizer)"
  extern "int adamw_set_lr(void *optimizer, double lr)"
  extern "int adamw_set_decay_filter(void *optimizer, void *filter, void *user_data)"
  extern "int adamw_add_array(void *optimizer, const char *name, void *data, uint64_t n, uint32_t dtype, void *out_param)"
  extern "int adamw_set_grad_array(void *optimizer, uint32_t param, const void *data, uint64_t n, uint32_t dtype)"
  extern "int adamw_step(void *optimizer)"
  extern "int adamw_save(void *optimizer, const char *path)"
  extern "int adamw_load(void *optimizer, const char *path, const void *options)"
end

def check(status)
  raise Adamw.adamw_last_error.to_s unless status.zero?
end

# The library keeps addresses, so the memory is C's: these pointers do not move, and are kept.
def array = Fiddle::Pointer.malloc(4 * N, Fiddle::RUBY_FREE).tap { |data| data[0, 4 * N] = "\0" * 4 * N }

def floats(data) = data[0, 4 * N].unpack("e*")

def write(data, floats) = data[0, 4 * N] = floats.pack("e*")

WEIGHT, BIAS, WEIGHT_GRAD, BIAS_GRAD = array, array, array, array
DECAYS = Fiddle::Closure::BlockCaller.new(Fiddle::TYPE_INT, [Fiddle::TYPE_VOIDP, Fiddle::TYPE_VOIDP]) do |name, _|
  name.to_s == "bias" ? 0 : 1
end

def add(optimizer, name, param, grad)
  number = Fiddle::Pointer.malloc(4, Fiddle::RUBY_FREE)
  check Adamw.adamw_add_array(optimizer, name, param, N, F32, number)
  check Adamw.adamw_set_grad_array(optimizer, number[0, 4].unpack1("L"), grad, N, F32)
end

def new_optimizer
  out = Fiddle::Pointer.malloc(Fiddle::SIZEOF_VOIDP, Fiddle::RUBY_FREE)
  check Adamw.adamw_create(nil, out)
  optimizer = out.ptr
  check Adamw.adamw_set_lr(optimizer, 0.05)
  check Adamw.adamw_set_decay_filter(optimizer, DECAYS, nil)
  add(optimizer, "weight", WEIGHT, WEIGHT_GRAD)
  add(optimizer, "bias", BIAS, BIAS_GRAD)
  optimizer
end

def train(optimizer)
  NUM_STEPS.times do
    write(WEIGHT_GRAD, floats(WEIGHT).each_with_index.map { |w, i| w - i / 16.0 })
    write(BIAS_GRAD, floats(BIAS).each_with_index.map { |b, i| b + i / 16.0 })
    check Adamw.adamw_step(optimizer)
  end
end

optimizer = new_optimizer
train(optimizer)
check Adamw.adamw_save(optimizer, CHECKPOINT)
check Adamw.adamw_destroy(optimizer)

optimizer = new_optimizer
check Adamw.adamw_load(optimizer, CHECKPOINT, nil)
train(optimizer)
check Adamw.adamw_destroy(optimizer)

puts format("%08X", Zlib.adler32(WEIGHT[0, 4 * N] + BIAS[0, 4 * N]))
