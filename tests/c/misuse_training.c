/* Calls that change what is there while training are refused with the cause named, and nothing has
   changed. */
#include "harness.h"
#include <math.h>
#include <string.h>

static struct world world, undisturbed;

static int n_closures;

static int32_t closure(double *out_loss, void *user_data) {
  n_closures++;
  *out_loss = 0;
  return user_data ? *(int32_t *)user_data : 0;
}

static int32_t stepping_closure(double *out_loss, void *user_data) {
  adamw_minimize_args args = {.struct_size = sizeof args, .closure = closure};
  *out_loss = 0;
  return adamw_minimize(user_data, &args, NULL, NULL) == ADAMW_STATUS_OK ? 0 : -1;
}

static void minimizing(void) {
  const uint32_t missing[2] = {W1, 99};
  adamw_param_grad updated[3];
  int32_t failure = 7;
  const adamw_minimize_args good = {.struct_size = sizeof good, .closure = closure};
  adamw_minimize_args args;
  row("adamw_minimize");
  refused(adamw_minimize(world.optimizer, NULL, &world.outputs.lr, NULL),
          ADAMW_STATUS_INVALID_ARGUMENT, "args is NULL");
  args = good, args.closure = NULL;
  refused(adamw_minimize(world.optimizer, &args, &world.outputs.lr, NULL),
          ADAMW_STATUS_INVALID_ARGUMENT, "closure is NULL");
  args = good, args.num_params = 2;
  refused(adamw_minimize(world.optimizer, &args, &world.outputs.lr, NULL),
          ADAMW_STATUS_INVALID_ARGUMENT, "params is NULL");
  args.params = missing;
  refused(adamw_minimize(world.optimizer, &args, &world.outputs.lr, NULL), ADAMW_STATUS_NOT_FOUND,
          "99");
  args = good, args.num_no_grad = 2;
  refused(adamw_minimize(world.optimizer, &args, &world.outputs.lr, NULL),
          ADAMW_STATUS_INVALID_ARGUMENT, "no_grad is NULL");
  args.no_grad = missing;
  refused(adamw_minimize(world.optimizer, &args, &world.outputs.lr, NULL), ADAMW_STATUS_NOT_FOUND,
          "99");
  args = good, args.capacity = 3;
  refused(adamw_minimize(world.optimizer, &args, &world.outputs.lr, NULL),
          ADAMW_STATUS_INVALID_ARGUMENT, "updated is NULL");
  row("a closure is not called where the call is refused");
  holds(n_closures == 0);
  args = good, args.updated = updated, args.capacity = 1;
  refused(adamw_minimize(world.optimizer, &args, &world.outputs.lr, NULL),
          ADAMW_STATUS_INVALID_ARGUMENT, "capacity is 1, expected 3");
  args = good, args.user_data = &failure;
  refused(adamw_minimize(world.optimizer, &args, &world.outputs.lr, NULL), ADAMW_STATUS_CALLBACK,
          "closure returned 7");
  row("a closure may use the handle");
  args = good, args.closure = stepping_closure, args.user_data = world.optimizer;
  accepted(adamw_minimize(world.optimizer, &args, NULL, NULL));
  args.user_data = undisturbed.optimizer;
  accepted(adamw_minimize(undisturbed.optimizer, &args, NULL, NULL));
}

static void explicit_gradients(void) {
  struct described grad, wrong;
  describe(&world, NEW, EXP_AVG, &grad);
  describe(&world, NEW, EXP_AVG, &wrong);
  wrong.shape[0] = 2;
  const adamw_tensor *const tensors[2] = {&grad.tensor, &grad.tensor};
  const adamw_tensor *const with_null[2] = {&grad.tensor, NULL};
  const adamw_tensor *const with_wrong[2] = {&grad.tensor, &wrong.tensor};
  const uint32_t both[2] = {W1, W3}, twice[2] = {W1, W1}, missing[2] = {W1, 99};
  row("adamw_apply_gradients");
  refused(adamw_apply_gradients(world.optimizer, NULL, tensors, 2), ADAMW_STATUS_INVALID_ARGUMENT,
          "params is NULL");
  refused(adamw_apply_gradients(world.optimizer, both, NULL, 2), ADAMW_STATUS_INVALID_ARGUMENT,
          "grads is NULL");
  refused(adamw_apply_gradients(world.optimizer, both, with_null, 2), ADAMW_STATUS_INVALID_ARGUMENT,
          "\"w3\"", "grad is NULL");
  refused(adamw_apply_gradients(world.optimizer, both, with_wrong, 2),
          ADAMW_STATUS_INVALID_ARGUMENT, "\"w3\"", "has 8 elements");
  refused(adamw_apply_gradients(world.optimizer, twice, tensors, 2), ADAMW_STATUS_INVALID_ARGUMENT,
          "\"w1\"", "twice");
  refused(adamw_apply_gradients(world.optimizer, missing, tensors, 2), ADAMW_STATUS_NOT_FOUND,
          "99");
  row("adamw_accumulate_grad");
  refused(adamw_accumulate_grad(world.optimizer, W1, NULL), ADAMW_STATUS_INVALID_ARGUMENT, "\"w1\"",
          "grad is NULL");
  refused(adamw_accumulate_grad(world.optimizer, W1, &wrong.tensor), ADAMW_STATUS_INVALID_ARGUMENT,
          "\"w1\"", "has 8 elements");
  refused(adamw_accumulate_grad(world.optimizer, 99, &grad.tensor), ADAMW_STATUS_NOT_FOUND, "99");
}

static void groups_and_options(void) {
  adamw_group_config group;
  adamw_param_options options;
  accepted(adamw_get_group(world.optimizer, 0, &group, sizeof group));
  accepted(adamw_get_param_options(world.optimizer, W1, &options, sizeof options));
  row("groups");
  refused(adamw_get_group(world.optimizer, 9, &world.outputs.group, sizeof group),
          ADAMW_STATUS_NOT_FOUND, "no group 9", "has 1");
  refused(adamw_set_group(world.optimizer, 9, &group), ADAMW_STATUS_NOT_FOUND, "no group 9");
  refused(adamw_set_group(world.optimizer, 0, NULL), ADAMW_STATUS_INVALID_ARGUMENT, "NULL");
  group.eps = NAN;
  refused(adamw_set_group(world.optimizer, 0, &group), ADAMW_STATUS_INVALID_ARGUMENT, "eps is NaN");
  row("options");
  refused(adamw_set_param_options(world.optimizer, W1, NULL), ADAMW_STATUS_INVALID_ARGUMENT,
          "options is NULL");
  refused(adamw_set_param_options(world.optimizer, 99, &options), ADAMW_STATUS_NOT_FOUND, "99");
  options.lr_scale = INFINITY;
  refused(adamw_set_param_options(world.optimizer, W1, &options), ADAMW_STATUS_INVALID_ARGUMENT,
          "lr_scale is inf");
  row("parameters that are not there");
  refused(adamw_reset_param(world.optimizer, 99), ADAMW_STATUS_NOT_FOUND, "99");
  refused(adamw_remove_param(world.optimizer, 99), ADAMW_STATUS_NOT_FOUND, "99");
  refused(adamw_get_param_lr(world.optimizer, 99, &world.outputs.lr), ADAMW_STATUS_NOT_FOUND, "99");
  refused(adamw_get_param_lr(world.optimizer, W1, NULL), ADAMW_STATUS_INVALID_ARGUMENT, "out_lr");
  refused(adamw_num_params(world.optimizer, NULL), ADAMW_STATUS_INVALID_ARGUMENT,
          "out_num_params is NULL");
  refused(adamw_find_param(world.optimizer, NULL, &world.outputs.number),
          ADAMW_STATUS_INVALID_ARGUMENT, "name is NULL");
  refused(adamw_find_param(world.optimizer, "w1", NULL), ADAMW_STATUS_INVALID_ARGUMENT,
          "out_param is NULL");
  refused(adamw_find_param(world.optimizer, "w", &world.outputs.number), ADAMW_STATUS_NOT_FOUND,
          "\"w\"");
}

static void loss_scales(void) {
  const adamw_loss_scaler_state state = {.struct_size = sizeof state, .scale = 1};
  const adamw_loss_scaler bad = {.struct_size = sizeof bad, .growth_factor = 0.5};
  row("one parameter alone");
  refused(adamw_grad_ready(world.optimizer, 99), ADAMW_STATUS_NOT_FOUND, "no param 99");
  refused(adamw_step_param(world.optimizer, 99), ADAMW_STATUS_NOT_FOUND, "no param 99");
  row("the loss scale");
  refused(adamw_get_grad_scale(world.optimizer, NULL), ADAMW_STATUS_INVALID_ARGUMENT, "out_scale");
  refused(adamw_set_loss_scaler(world.optimizer, &bad), ADAMW_STATUS_INVALID_ARGUMENT,
          "growth_factor is 0.5");
  refused(adamw_set_loss_scaler_state(world.optimizer, &state), ADAMW_STATUS_NOT_FOUND, "scaler");
  refused(adamw_set_statistics(world.optimizer, 2), ADAMW_STATUS_INVALID_ARGUMENT,
          "statistics is 2");
}

static void state_by_name(void) {
  float data[N];
  double step = 3, nan = NAN;
  char name[8];
  size_t length;
  adamw_buffer buffer;
  adamw_memory memory;
  row("plain arrays");
  refused(adamw_add_array_to_group(world.optimizer, 9, "added", data, N, ADAMW_DTYPE_F32,
                                   &world.outputs.number),
          ADAMW_STATUS_NOT_FOUND, "no group 9");
  refused(adamw_add_array_to_group(world.optimizer, 0, "added", NULL, N, ADAMW_DTYPE_F32,
                                   &world.outputs.number),
          ADAMW_STATUS_INVALID_ARGUMENT, "param \"added\": param has data NULL");
  refused(adamw_accumulate_grad_array(world.optimizer, W1, NULL, N, ADAMW_DTYPE_F32),
          ADAMW_STATUS_INVALID_ARGUMENT, "\"w1\": grad has data NULL and 12 elements");
  refused(adamw_accumulate_grad_array(world.optimizer, W1, data, N - 1, ADAMW_DTYPE_F32),
          ADAMW_STATUS_INVALID_ARGUMENT, "grad has 11 elements, param has 12");
  refused(adamw_num_groups(world.optimizer, NULL), ADAMW_STATUS_INVALID_ARGUMENT,
          "out_num_groups is NULL");
  row("adamw_memory_plan");
  refused(adamw_memory_plan(world.optimizer, 0, ADAMW_DTYPE_F32, N, 0, NULL, sizeof memory),
          ADAMW_STATUS_INVALID_ARGUMENT, "out_memory is NULL");
  refused(adamw_memory_plan(world.optimizer, 0, ADAMW_DTYPE_F32, N, 0, &memory, 8),
          ADAMW_STATUS_INVALID_ARGUMENT, "struct_size is 8");
  refused(adamw_memory_plan(world.optimizer, 9, ADAMW_DTYPE_F32, N, 0, &memory, sizeof memory),
          ADAMW_STATUS_NOT_FOUND, "no group 9");
  refused(adamw_memory_plan(world.optimizer, 0, 9, N, 0, &memory, sizeof memory),
          ADAMW_STATUS_INVALID_ARGUMENT, "dtype 9");
  refused(adamw_memory_plan(world.optimizer, 0, ADAMW_DTYPE_I16, N, 0, &memory, sizeof memory),
          ADAMW_STATUS_INVALID_ARGUMENT, "i16");
  refused(adamw_memory_plan(world.optimizer, 0, ADAMW_DTYPE_F32, N, N - 1, &memory, sizeof memory),
          ADAMW_STATUS_INVALID_ARGUMENT, "of whole_elements");
  row("adamw_shard_ranges");
  uint64_t lengths[2] = {N, UINT64_MAX}, firsts[2], counts[2];
  refused(adamw_shard_ranges(NULL, 1, 0, 0, 1, firsts, counts), ADAMW_STATUS_INVALID_ARGUMENT,
          "n_elements is NULL");
  refused(adamw_shard_ranges(lengths, 1, 0, 0, 1, NULL, counts), ADAMW_STATUS_INVALID_ARGUMENT,
          "out_first_elements is NULL");
  refused(adamw_shard_ranges(lengths, 1, 0, 0, 1, firsts, NULL), ADAMW_STATUS_INVALID_ARGUMENT,
          "out_n_elements is NULL");
  refused(adamw_shard_ranges(lengths, 1, 0, 2, 2, firsts, counts), ADAMW_STATUS_INVALID_ARGUMENT,
          "rank is 2, expected less than num_ranks");
  refused(adamw_shard_ranges(lengths, 1, 0, 0, 0, firsts, counts), ADAMW_STATUS_INVALID_ARGUMENT,
          "rank is 0, expected less than num_ranks");
  refused(adamw_shard_ranges(lengths, 2, 0, 0, 1, firsts, counts), ADAMW_STATUS_INVALID_ARGUMENT,
          "the sum of n_elements is inf, expected less than 2^64");
  row("state");
  refused(adamw_get_state_name(world.optimizer, W1, ADAMW_BUFFER_EXP_AVG, 0, name, sizeof name,
                               &length),
          ADAMW_STATUS_INVALID_ARGUMENT, "capacity is 8, expected 17");
  refused(adamw_get_state_name(world.optimizer, W1, ADAMW_BUFFER_EXP_AVG, 0, NULL, 9, &length),
          ADAMW_STATUS_INVALID_ARGUMENT, "out_name is NULL");
  refused(adamw_get_state_name(world.optimizer, W1, ADAMW_BUFFER_EXP_AVG, 0, NULL, 0, NULL),
          ADAMW_STATUS_INVALID_ARGUMENT, "out_length is NULL");
  refused(adamw_get_state_name(world.optimizer, W1, ADAMW_BUFFER_MASTER, 0, NULL, 0, &length),
          ADAMW_STATUS_NOT_FOUND, "\"w1\" has no master");
  refused(adamw_get_state_name(world.optimizer, W1, 13, 0, NULL, 0, &length),
          ADAMW_STATUS_INVALID_ARGUMENT, "buffer is 13");
  refused(adamw_find_state(world.optimizer, NULL, &world.outputs.number, &buffer),
          ADAMW_STATUS_INVALID_ARGUMENT, "name is NULL");
  refused(adamw_find_state(world.optimizer, "state.w1.step", NULL, &buffer),
          ADAMW_STATUS_INVALID_ARGUMENT, "out_param is NULL");
  refused(adamw_find_state(world.optimizer, "state.w1.step", &world.outputs.number, NULL),
          ADAMW_STATUS_INVALID_ARGUMENT, "out_buffer is NULL");
  refused(adamw_find_state(world.optimizer, "\xff", &world.outputs.number, &buffer),
          ADAMW_STATUS_NOT_FOUND, "no state");
  refused(adamw_get_state(world.optimizer, "state.w1.exp_avg", NULL, N, ADAMW_DTYPE_F32),
          ADAMW_STATUS_INVALID_ARGUMENT, "data NULL");
  refused(adamw_get_state(world.optimizer, "state.w1.exp_avg", data, N - 1, ADAMW_DTYPE_F32),
          ADAMW_STATUS_INVALID_ARGUMENT, "has 11 elements");
  refused(adamw_set_state(world.optimizer, "state.w1.exp_avg", data, N, ADAMW_DTYPE_F16),
          ADAMW_STATUS_INVALID_ARGUMENT, "is f16, expected f32");
  refused(adamw_set_state(world.optimizer, "state.w1.exp_avg", data, N, 9),
          ADAMW_STATUS_INVALID_ARGUMENT, "dtype 9");
  refused(adamw_set_state(world.optimizer, "state.w9.step", &step, 1, ADAMW_DTYPE_F64),
          ADAMW_STATUS_NOT_FOUND, "state.w9.step");
  refused(adamw_set_state(world.optimizer, "state.w1.step", &nan, 1, ADAMW_DTYPE_F64),
          ADAMW_STATUS_INVALID_ARGUMENT, "NaN");
  refused(adamw_set_state(world.optimizer, "state.w1.beta2_power", &step, 1, ADAMW_DTYPE_F64),
          ADAMW_STATUS_INVALID_ARGUMENT, "3", "0 to 1");
}

int main(void) {
  start();
  set_up(&world);
  set_up(&undisturbed);
  watch(&world);
  minimizing();
  explicit_gradients();
  groups_and_options();
  loss_scales();
  state_by_name();
  same_as_undisturbed(&world, &undisturbed);
  return finish("misuse_training");
}
