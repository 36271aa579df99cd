/* A tensor that does not fit is refused whatever way it comes in, with the parameter, the buffer
   and the value named. */
#include "harness.h"
#include <stdlib.h>
#include <string.h>

static struct world world, undisturbed;

static void negative_dimension(struct described *d) { d->shape[1] = -7; }
static void negative_ndim(struct described *d) { d->tensor.ndim = -1; }
static void smallest_ndim(struct described *d) { d->tensor.ndim = INT32_MIN; }
static void huge_ndim(struct described *d) { d->tensor.ndim = INT32_MAX; }
static void no_shape(struct described *d) { d->tensor.shape = NULL; }
static void too_few(struct described *d) { d->shape[1] = 3; }
static void too_many(struct described *d) { d->shape[1] = 5; }
static void zero_elements(struct described *d) { d->shape[0] = 0; }
static void product_overflows(struct described *d) { d->shape[0] = d->shape[1] = INT64_MAX; }
static void product_wraps_to_12(struct described *d) {
  d->shape[0] = 0x4000000000000003, d->shape[1] = 4;
}
static void quarter_of_memory(struct described *d) { d->shape[0] = INT64_MAX / 4; }
static void column_major(struct described *d) {
  d->tensor.strides = d->strides, d->strides[0] = 1, d->strides[1] = 3;
}
static void padded_rows(struct described *d) { d->tensor.strides = d->strides, d->strides[0] = 5; }
static void broadcast(struct described *d) { d->tensor.strides = d->strides, d->strides[0] = 0; }
static void backwards(struct described *d) { d->tensor.strides = d->strides, d->strides[1] = -1; }
static void offset_overflows(struct described *d) { d->tensor.byte_offset = UINT64_MAX; }
static void offset_to_the_end(struct described *d) {
  d->tensor.byte_offset = UINT64_MAX - 7 - (uintptr_t)d->tensor.data;
}
static void odd_offset(struct described *d) { d->tensor.byte_offset = 1; }
static void odd_data(struct described *d) { d->tensor.data = (char *)d->tensor.data + 1; }
static void no_data(struct described *d) { d->tensor.data = NULL; }
static void two_lanes(struct described *d) { d->tensor.dtype.lanes = 2; }
static void no_lanes(struct described *d) { d->tensor.dtype.lanes = 0; }
static void integers(struct described *d) { d->tensor.dtype = (adamw_data_type){0, 32, 1}; }
static void float8(struct described *d) { d->tensor.dtype.bits = 8; }
static void bfloat32(struct described *d) { d->tensor.dtype = (adamw_data_type){4, 32, 1}; }
static void unknown_code(struct described *d) { d->tensor.dtype.code = 255; }
static void rocm(struct described *d) { d->tensor.device.device_type = 10; }
static void no_device(struct described *d) { d->tensor.device.device_type = 0; }
static void bad_device(struct described *d) { d->tensor.device.device_type = -1; }

static const struct spoil {
  void (*spoil)(struct described *described);
  const char *name;
  adamw_status status;
  const char *text;
  bool wrong_as_param; /* also for a parameter itself, which may have any size */
} spoils[] = {
    {negative_dimension, "a negative dimension", ADAMW_STATUS_INVALID_ARGUMENT, "-7", true},
    {negative_ndim, "ndim -1", ADAMW_STATUS_INVALID_ARGUMENT, "ndim -1", true},
    {smallest_ndim, "the smallest ndim", ADAMW_STATUS_INVALID_ARGUMENT, "-2147483648", true},
    {huge_ndim, "a huge ndim", ADAMW_STATUS_INVALID_ARGUMENT, "2147483647", true},
    {no_shape, "shape NULL", ADAMW_STATUS_INVALID_ARGUMENT, "shape", true},
    {too_few, "9 elements", ADAMW_STATUS_INVALID_ARGUMENT, "has 9 elements, param has 12", false},
    {too_many, "15 elements", ADAMW_STATUS_INVALID_ARGUMENT, "has 15 elements, param has 12",
     false},
    {zero_elements, "0 elements", ADAMW_STATUS_INVALID_ARGUMENT, "has 0 elements, param has 12",
     false},
    {product_overflows, "2^126 elements", ADAMW_STATUS_INVALID_ARGUMENT, "elements", true},
    {product_wraps_to_12, "2^64 + 12 elements", ADAMW_STATUS_INVALID_ARGUMENT, "elements", true},
    {quarter_of_memory, "2^63 elements", ADAMW_STATUS_INVALID_ARGUMENT, "9223372036854775804",
     true},
    {column_major, "column-major", ADAMW_STATUS_INVALID_ARGUMENT, "order 1,0", false},
    {padded_rows, "padded rows", ADAMW_STATUS_INVALID_ARGUMENT, "stride 5", true},
    {broadcast, "a broadcast stride", ADAMW_STATUS_INVALID_ARGUMENT, "stride 0", true},
    {backwards, "a negative stride", ADAMW_STATUS_INVALID_ARGUMENT, "stride -1", true},
    {offset_overflows, "byte_offset out of the address space", ADAMW_STATUS_INVALID_ARGUMENT,
     "byte_offset", true},
    {offset_to_the_end, "elements out of the address space", ADAMW_STATUS_INVALID_ARGUMENT,
     "12 elements", true},
    {odd_offset, "an odd byte_offset", ADAMW_STATUS_INVALID_ARGUMENT, "align", true},
    {odd_data, "odd data", ADAMW_STATUS_INVALID_ARGUMENT, "align", true},
    {no_data, "data NULL", ADAMW_STATUS_INVALID_ARGUMENT, "NULL", true},
    {two_lanes, "two lanes", ADAMW_STATUS_INVALID_ARGUMENT, "2 lanes", true},
    {no_lanes, "no lanes", ADAMW_STATUS_INVALID_ARGUMENT, "0 lanes", true},
    {integers, "integers", ADAMW_STATUS_INVALID_ARGUMENT, "code 0", true},
    {float8, "8-bit floats", ADAMW_STATUS_INVALID_ARGUMENT, "8 bits", true},
    {bfloat32, "32-bit bfloat", ADAMW_STATUS_INVALID_ARGUMENT, "32 bits", true},
    {unknown_code, "an unknown type code", ADAMW_STATUS_INVALID_ARGUMENT, "code 255", true},
    {rocm, "ROCm memory", ADAMW_STATUS_UNSUPPORTED, "10", true},
    {no_device, "device type 0", ADAMW_STATUS_UNSUPPORTED, "0", true},
    {bad_device, "device type -1", ADAMW_STATUS_UNSUPPORTED, "-1", true},
};

static void descriptors_that_describe_nothing_usable(void) {
  for (int w = 0; w < WAYS; w++)
    for (int role = PARAM; role < ROLES; role++)
      for (size_t s = 0; s < sizeof spoils / sizeof spoils[0]; s++) {
        if ((role == GRAD) != ways[w].is_grad)
          continue;
        if (w == ADD && role == PARAM && !spoils[s].wrong_as_param)
          continue;
        struct described described;
        describe(&world, ways[w].param, (enum role)role, &described);
        spoils[s].spoil(&described);
        row("%s: %s with %s", ways[w].name, role_names[role], spoils[s].name);
        refused(ways[w].offer(&world, (enum role)role, &described.tensor), spoils[s].status,
                param_names[ways[w].param], role_names[role], spoils[s].text);
      }
}

static void element_types_that_do_not_fit(void) {
  static const adamw_data_type f16 = {2, 16, 1}, f32 = {2, 32, 1}, f64 = {2, 64, 1},
                               bf16 = {4, 16, 1};
  const struct {
    int way;
    enum role role;
    adamw_data_type dtype;
    const char *is, *expected;
  } rows[] = {
      {ADD, MASTER, bf16, "bf16", "f32"},          {ADD, MASTER, f64, "f64", "f32"},
      {ADD, EXP_AVG, f16, "f16", "f32"},           {ADD, EXP_AVG_SQ, bf16, "bf16", "f32"},
      {ADD, MAX_EXP_AVG_SQ, f64, "f64", "f32"},    {REBIND, PARAM, f16, "f16", "bf16"},
      {REBIND, PARAM, f32, "f32", "bf16"},         {REBIND, MASTER, f16, "f16", "f32"},
      {REBIND, EXP_AVG, f64, "f64", "f32"},        {REBIND, EXP_AVG_SQ, bf16, "bf16", "f32"},
      {REBIND, MAX_EXP_AVG_SQ, f16, "f16", "f32"}, {SET_GRAD, GRAD, f16, "f16", "bf16"},
      {SET_GRAD, GRAD, f64, "f64", "bf16"},        {SET_GRADS, GRAD, f16, "f16", "bf16"},
      {SET_GRADS, GRAD, f64, "f64", "bf16"},
  };
  for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
    const struct way *way = &ways[rows[i].way];
    struct described described;
    describe(&world, way->param, rows[i].role, &described);
    described.tensor.dtype = rows[i].dtype;
    row("%s: %s of %s", way->name, role_names[rows[i].role], rows[i].is);
    refused(way->offer(&world, rows[i].role, &described.tensor), ADAMW_STATUS_INVALID_ARGUMENT,
            param_names[way->param], role_names[rows[i].role], rows[i].is, rows[i].expected);
  }
  static const adamw_dtype unknown[] = {0, 7, UINT32_MAX};
  static const char *const texts[] = {"0", "7", "4294967295"};
  for (int i = 0; i < 3; i++) {
    row("dtype constant %u", unknown[i]);
    refused(adamw_add_array(world.optimizer, "new", world.memory[NEW][PARAM], N, unknown[i],
                            &world.outputs.number),
            ADAMW_STATUS_INVALID_ARGUMENT, "new", "dtype", texts[i]);
    refused(adamw_set_grad_array(world.optimizer, W1, world.memory[NEW][GRAD], N, unknown[i]),
            ADAMW_STATUS_INVALID_ARGUMENT, "w1", "dtype", texts[i]);
  }
}

static void arrays_that_cannot_be(void) {
  static const struct {
    const char *name;
    size_t misaligned;
    bool null;
    uint64_t n_elements;
    const char *text;
  } rows[] = {
      {"NULL", 0, true, N, "NULL"},
      {"an odd address", 1, false, N, "align"},
      {"two bytes off", 2, false, N, "align"},
      {"SIZE_MAX / 4 elements", 0, false, SIZE_MAX / 4, "4611686018427387903"},
      {"SIZE_MAX / 4 + 4 elements", 0, false, SIZE_MAX / 4 + 4, "4611686018427387907"},
      {"UINT64_MAX elements", 0, false, UINT64_MAX, "18446744073709551615"},
  };
  for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
    char *data = rows[i].null ? NULL : (char *)world.memory[NEW][GRAD] + rows[i].misaligned;
    row("a parameter at %s", rows[i].name);
    refused(adamw_add_array(world.optimizer, "new", data, rows[i].n_elements, ADAMW_DTYPE_F32,
                            &world.outputs.number),
            ADAMW_STATUS_INVALID_ARGUMENT, "new", "param", rows[i].text);
    row("a gradient at %s", rows[i].name);
    refused(adamw_set_grad_array(world.optimizer, W1, data, rows[i].n_elements, ADAMW_DTYPE_F32),
            ADAMW_STATUS_INVALID_ARGUMENT, "w1", "grad", rows[i].text);
  }
  row("a gradient of other length");
  refused(adamw_set_grad_array(world.optimizer, W1, world.memory[NEW][GRAD], 10, ADAMW_DTYPE_F32),
          ADAMW_STATUS_INVALID_ARGUMENT, "param \"w1\": grad has 10 elements, param has 12");
  refused(adamw_set_grad_array(world.optimizer, W1, world.memory[NEW][GRAD], 1ull << 40,
                               ADAMW_DTYPE_F32),
          ADAMW_STATUS_INVALID_ARGUMENT, "w1", "grad", "1099511627776", "12");
  row("state of 2^48 bytes, more than can be mapped");
  void *far_from_all = (void *)((uintptr_t)1 << 50);
  refused(adamw_add_array(world.optimizer, "new", far_from_all, 1ull << 46, ADAMW_DTYPE_F32,
                          &world.outputs.number),
          ADAMW_STATUS_OUT_OF_MEMORY, "out of memory", "281474976710656");
}

/* Whether the system lends 2^42 bytes is its affair, the call comes back in either case. */
static void more_elements_than_there_is_memory(void) {
  adamw_optimizer *optimizer;
  uint32_t number;
  row("2^40 elements");
  accepted(adamw_create(NULL, &optimizer));
  adamw_status status = adamw_add_array(optimizer, "new", (void *)((uintptr_t)1 << 50), 1ull << 40,
                                        ADAMW_DTYPE_F32, &number);
  holds(status == ADAMW_STATUS_OK || status == ADAMW_STATUS_OUT_OF_MEMORY);
  accepted(adamw_step(optimizer));
  accepted(adamw_destroy(optimizer));
}

/* What an odd address holds is read right, or refused; it never traps. */
static void misaligned_descriptors_are_read_right_or_refused(void) {
  enum { SHAPE = 1, TENSOR = 32, POINTERS = 128, NUMBERS = 160, BUFFERS = 192, BYTES = 256 };
  char *odd = (char *)malloc(BYTES + 1) + 1;
  struct described described;
  const uint32_t number = W2;
  const adamw_buffer buffer = ADAMW_BUFFER_PARAM;
  const adamw_tensor *const *pointers = (const adamw_tensor *const *)(odd + POINTERS);
  char *tensor = odd + TENSOR;
  memcpy(odd + POINTERS, &tensor, sizeof tensor);
  memcpy(odd + NUMBERS, &number, sizeof number);
  memcpy(odd + BUFFERS, &buffer, sizeof buffer);
  for (int elements = N - 4; elements <= N; elements += 4) { /* too few, and as many as it has */
    for (int role = PARAM; role <= GRAD; role++) {
      describe(&world, W2, (enum role)role, &described);
      described.shape[0] = elements / 4;
      described.tensor.shape = (int64_t *)(odd + SHAPE);
      described.tensor.strides = (int64_t *)(odd + SHAPE); /* read as {elements / 4, 4} */
      memcpy(odd + SHAPE, described.shape, sizeof described.shape);
      if (elements == N)
        described.tensor.strides = NULL;
      memcpy(tensor, &described.tensor, sizeof described.tensor);
      row("a misaligned descriptor of the %s, %d elements", role_names[role], elements);
      adamw_status status =
          role == PARAM
              ? adamw_rebind(world.optimizer, (const uint32_t *)(odd + NUMBERS),
                             (const adamw_buffer *)(odd + BUFFERS), pointers, 1)
              : adamw_set_grads(world.optimizer, (const uint32_t *)(odd + NUMBERS), pointers, 1);
      holds(status == ADAMW_STATUS_INVALID_ARGUMENT ||
            (status == ADAMW_STATUS_OK && elements == N));
    }
  }
  free(odd - 1);
}

static void legal_extremes(void) {
  enum { LENGTH = 1 << 20 };
  char *long_name = malloc(LENGTH + 1);
  memset(long_name, 'x', LENGTH);
  long_name[LENGTH] = '\0';
  int64_t zero_by_many[2] = {0, INT64_MAX};
  int64_t strides[2] = {7, 7};
  float scalar = 1, grad = 2;
  adamw_tensor none = {NULL, {1, 0}, 2, {2, 32, 1}, zero_by_many, NULL, 0};
  adamw_tensor dimensionless = {&scalar, {1, 0}, 0, {2, 32, 1}, NULL, NULL, 0};
  adamw_tensor dimensionless_grad = {&grad, {1, 0}, 0, {2, 32, 1}, NULL, strides, 0};
  adamw_param_config config = {.struct_size = sizeof config};
  adamw_param_info info;
  adamw_optimizer *optimizer;
  uint32_t number;
  row("no elements, no dimensions, NULL data where there are none, a name of 2^20 bytes");
  accepted(adamw_create(NULL, &optimizer));
  config.name = "none", config.param = &none;
  accepted(adamw_add_param(optimizer, &config, &number));
  none.strides = strides;
  accepted(adamw_set_grad(optimizer, number, &none));
  accepted(adamw_add_array(optimizer, "empty", NULL, 0, ADAMW_DTYPE_F64, &number));
  accepted(adamw_set_grad_array(optimizer, number, NULL, 0, ADAMW_DTYPE_F64));
  config.name = long_name, config.param = &dimensionless;
  accepted(adamw_add_param(optimizer, &config, &number));
  accepted(adamw_set_grad(optimizer, number, &dimensionless_grad));
  accepted(adamw_get_param_info(optimizer, number, &info, sizeof info));
  holds(info.n_elements == 1 && strcmp(info.name, long_name) == 0);
  accepted(adamw_step(optimizer));
  accepted(adamw_clear_grad(optimizer, ADAMW_CLEAR_ZERO));
  holds(scalar < 1 && grad == 0);
  returns(adamw_add_param(optimizer, &config, &number), ADAMW_STATUS_INVALID_ARGUMENT, "xxx");
  accepted(adamw_destroy(optimizer));
  free(long_name);
}

int main(void) {
  start();
  set_up(&undisturbed);
  set_up(&world);
  watch(&world);
  descriptors_that_describe_nothing_usable();
  element_types_that_do_not_fit();
  arrays_that_cannot_be();
  more_elements_than_there_is_memory();
  misaligned_descriptors_are_read_right_or_refused();
  legal_extremes();
  same_as_undisturbed(&world, &undisturbed);
  return finish("misuse_tensor");
}
