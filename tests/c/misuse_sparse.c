/* Rows and values that do not fit are refused with the parameter and the value named. */
#include "harness.h"
#include <string.h>

static struct world world, undisturbed;

enum { ROWS = 3 };
static int64_t numbers[ROWS] = {0, 2, 0};

static void describe_rows(struct described *rows) {
  *rows = (struct described){
      .tensor = {numbers, {1, 0}, 1, {0, 64, 1}, rows->shape, NULL, 0},
      .shape = {ROWS, 0},
      .strides = {1, 0},
  };
}

static void floats(struct described *rows) { rows->tensor.dtype = (adamw_data_type){2, 64, 1}; }
static void unsigned_ones(struct described *rows) { rows->tensor.dtype.code = 1; }
static void bytes(struct described *rows) { rows->tensor.dtype.bits = 8; }
static void two_lanes(struct described *rows) { rows->tensor.dtype.lanes = 2; }
static void no_shape(struct described *rows) { rows->tensor.shape = NULL; }
static void no_data(struct described *rows) { rows->tensor.data = NULL; }
static void odd(struct described *rows) { rows->tensor.byte_offset = 4; }
static void cuda(struct described *rows) { rows->tensor.device.device_type = 2; }
static void too_many(struct described *rows) { rows->shape[0] = INT64_MAX; }
static void negative(struct described *rows) { rows->shape[0] = -3; }
static void backwards(struct described *rows) {
  rows->tensor.strides = rows->strides, rows->strides[0] = -1;
}
static void one_too_few(struct described *rows) { rows->shape[0] = ROWS - 1; }

static const struct {
  const char *name;
  void (*spoil)(struct described *rows);
  adamw_status status;
  const char *text;
  bool only_beside_values; /* wrong for a gradient, and fine to prepare */
} spoils[] = {
    {"floats", floats, ADAMW_STATUS_INVALID_ARGUMENT, "code 2, 64 bits", false},
    {"unsigned numbers", unsigned_ones, ADAMW_STATUS_INVALID_ARGUMENT, "code 1, 64 bits", false},
    {"bytes", bytes, ADAMW_STATUS_INVALID_ARGUMENT, "code 0, 8 bits", false},
    {"two lanes", two_lanes, ADAMW_STATUS_INVALID_ARGUMENT, "2 lanes", false},
    {"no shape", no_shape, ADAMW_STATUS_INVALID_ARGUMENT, "shape NULL", false},
    {"no data", no_data, ADAMW_STATUS_INVALID_ARGUMENT, "data NULL and 3 elements", false},
    {"not aligned", odd, ADAMW_STATUS_INVALID_ARGUMENT, "8-byte elements", false},
    {"on a GPU", cuda, ADAMW_STATUS_INVALID_ARGUMENT, "in the memory of CUDA device 0", false},
    {"more than there is memory", too_many, ADAMW_STATUS_INVALID_ARGUMENT, "elements", false},
    {"a negative number of them", negative, ADAMW_STATUS_INVALID_ARGUMENT, "-3", false},
    {"backwards", backwards, ADAMW_STATUS_INVALID_ARGUMENT, "stride -1", false},
    {"fewer than values", one_too_few, ADAMW_STATUS_INVALID_ARGUMENT, "do not divide", true},
};

static void rows_that_are_none(void) {
  struct described values, rows;
  describe(&world, NEW, EXP_AVG, &values);
  for (size_t i = 0; i < sizeof spoils / sizeof spoils[0]; i++) {
    row("rows: %s", spoils[i].name);
    describe_rows(&rows);
    spoils[i].spoil(&rows);
    if (spoils[i].only_beside_values) {
      values.shape[0] = 2, values.shape[1] = 5;
    } else
      refused(adamw_sparse_prepare(world.optimizer, W1, &rows.tensor), spoils[i].status, "\"w1\"",
              "rows", spoils[i].text);
    refused(adamw_set_sparse_grad(world.optimizer, W1, &rows.tensor, &values.tensor),
            spoils[i].status, "\"w1\"", spoils[i].text);
  }
}

static void pointers_that_are_null_and_numbers_of_no_parameter(void) {
  struct described values, rows;
  describe(&world, NEW, EXP_AVG, &values);
  describe_rows(&rows);
  row("NULL");
  refused(adamw_set_sparse_grad(world.optimizer, W1, NULL, &values.tensor),
          ADAMW_STATUS_INVALID_ARGUMENT, "rows is NULL");
  refused(adamw_set_sparse_grad(world.optimizer, W1, &rows.tensor, NULL),
          ADAMW_STATUS_INVALID_ARGUMENT, "grad is NULL");
  refused(adamw_sparse_prepare(world.optimizer, W1, NULL), ADAMW_STATUS_INVALID_ARGUMENT,
          "rows is NULL");
  row("parameter 99");
  refused(adamw_set_sparse_grad(world.optimizer, 99, &rows.tensor, &values.tensor),
          ADAMW_STATUS_NOT_FOUND, "99");
  refused(adamw_sparse_prepare(world.optimizer, 99, &rows.tensor), ADAMW_STATUS_NOT_FOUND, "99");
}

static void modes_that_do_not_exist(void) {
  adamw_config config;
  adamw_group_config group;
  adamw_config_init(&config, sizeof config);
  adamw_group_config_init(world.optimizer, &group, sizeof group);
  row("lazy_mode 3");
  config.lazy_mode = group.lazy_mode = 3;
  refused(adamw_create(&config, &world.outputs.optimizer), ADAMW_STATUS_INVALID_ARGUMENT,
          "lazy_mode", "3");
  refused(adamw_add_group(world.optimizer, &group, &world.outputs.number),
          ADAMW_STATUS_INVALID_ARGUMENT, "lazy_mode", "3");
}

static void a_row_that_the_parameter_does_not_have(void) {
  static const int64_t wrong[] = {3, -1, INT64_MIN, INT64_MAX};
  struct described values, rows;
  describe(&world, NEW, EXP_AVG, &values);
  describe_rows(&rows);
  accepted(adamw_set_sparse_grad(world.optimizer, W1, &rows.tensor, &values.tensor));
  for (int i = 0; i < 4; i++) {
    row("row %lld", (long long)wrong[i]);
    numbers[1] = wrong[i];
    refused(adamw_step(world.optimizer), ADAMW_STATUS_INVALID_ARGUMENT, "\"w1\"", "rows[1]",
            "expected 0 to 2");
    numbers[1] = 2;
  }
  describe(&world, W1, GRAD, &values);
  accepted(adamw_set_grad(world.optimizer, W1, &values.tensor));
}

int main(void) {
  start();
  set_up(&world);
  set_up(&undisturbed);
  watch(&world);
  rows_that_are_none();
  pointers_that_are_null_and_numbers_of_no_parameter();
  modes_that_do_not_exist();
  a_row_that_the_parameter_does_not_have();
  same_as_undisturbed(&world, &undisturbed);
  return finish("misuse_sparse");
}
