/* The API as tables: the functions that take a handle, and those that take a tensor. */
#include "harness.h"

static float array[N], grad[N];
static int64_t shape[1] = {N};
static const adamw_tensor tensor = {array, {1, 0}, 1, {2, 32, 1}, shape, NULL, 0};
static const adamw_tensor *const tensors[1] = {&tensor};
static const uint32_t params[1] = {W1};
static const adamw_buffer buffers[1] = {ADAMW_BUFFER_PARAM};

static adamw_status group_config_init(adamw_optimizer *optimizer) {
  adamw_group_config group;
  return adamw_group_config_init(optimizer, &group, sizeof group);
}

static adamw_status add_group(adamw_optimizer *optimizer) {
  adamw_group_config group = {.struct_size = sizeof group,
                              .lr_scale = 1,
                              .beta1 = 0.9,
                              .beta2 = 0.999,
                              .eps = 1e-8};
  uint32_t number;
  return adamw_add_group(optimizer, &group, &number);
}

static adamw_status add_param(adamw_optimizer *optimizer) {
  adamw_param_config param = {.struct_size = sizeof param, .name = "added", .param = &tensor};
  uint32_t number;
  return adamw_add_param(optimizer, &param, &number);
}

static adamw_status add_array(adamw_optimizer *optimizer) {
  uint32_t number;
  return adamw_add_array(optimizer, "added", array, N, ADAMW_DTYPE_F32, &number);
}

static adamw_status add_array_to_group(adamw_optimizer *optimizer) {
  uint32_t number;
  return adamw_add_array_to_group(optimizer, 0, "added too", grad, N, ADAMW_DTYPE_F32, &number);
}

static adamw_status get_pinned_bytes(adamw_optimizer *optimizer) {
  uint64_t num_bytes;
  return adamw_get_pinned_bytes(optimizer, &num_bytes);
}

static adamw_status get_offload_info(adamw_optimizer *optimizer) {
  adamw_offload_info info;
  return adamw_get_offload_info(optimizer, &info, sizeof info);
}

static adamw_status num_groups(adamw_optimizer *optimizer) {
  uint32_t count;
  return adamw_num_groups(optimizer, &count);
}

static adamw_status accumulate_grad_array(adamw_optimizer *optimizer) {
  return adamw_accumulate_grad_array(optimizer, W1, grad, N, ADAMW_DTYPE_F32);
}

static adamw_status rebind(adamw_optimizer *optimizer) {
  return adamw_rebind(optimizer, params, buffers, tensors, 1);
}

static adamw_status set_grad(adamw_optimizer *optimizer) {
  return adamw_set_grad(optimizer, W1, &tensor);
}

static adamw_status set_grad_array(adamw_optimizer *optimizer) {
  return adamw_set_grad_array(optimizer, W1, grad, N, ADAMW_DTYPE_F32);
}

static adamw_status set_grads(adamw_optimizer *optimizer) {
  return adamw_set_grads(optimizer, params, tensors, 1);
}

static adamw_status set_grad_data(adamw_optimizer *optimizer) {
  const void *const data[1] = {grad};
  return adamw_set_grad_data(optimizer, params, data, 1);
}

static const int64_t row_numbers[1] = {0};
static int64_t one[1] = {1};
static const adamw_tensor rows = {(void *)row_numbers, {1, 0}, 1, {0, 64, 1}, one, NULL, 0};

static adamw_status set_sparse_grad(adamw_optimizer *optimizer) {
  return adamw_set_sparse_grad(optimizer, W1, &rows, &tensor);
}

static adamw_status sparse_prepare(adamw_optimizer *optimizer) {
  return adamw_sparse_prepare(optimizer, W1, &rows);
}

static adamw_status clear_grad(adamw_optimizer *optimizer) {
  return adamw_clear_grad(optimizer, ADAMW_CLEAR_FORGET);
}

static adamw_status sync_master(adamw_optimizer *optimizer) {
  return adamw_sync_master(optimizer, W1);
}

static adamw_status set_lr(adamw_optimizer *optimizer) { return adamw_set_lr(optimizer, 0.5); }

static adamw_status get_lr(adamw_optimizer *optimizer) {
  double lr;
  return adamw_get_lr(optimizer, &lr);
}

static adamw_status get_param_lr(adamw_optimizer *optimizer) {
  double lr;
  return adamw_get_param_lr(optimizer, W1, &lr);
}

static adamw_status get_group(adamw_optimizer *optimizer) {
  adamw_group_config group;
  return adamw_get_group(optimizer, 0, &group, sizeof group);
}

static adamw_status set_group(adamw_optimizer *optimizer) {
  const adamw_group_config group = {.struct_size = sizeof group, .lr_scale = 1, .eps = 1};
  return adamw_set_group(optimizer, 0, &group);
}

static adamw_status get_param_options(adamw_optimizer *optimizer) {
  adamw_param_options options;
  return adamw_get_param_options(optimizer, W1, &options, sizeof options);
}

static adamw_status set_param_options(adamw_optimizer *optimizer) {
  const adamw_param_options options = {.struct_size = sizeof options, .lr_scale = 1};
  return adamw_set_param_options(optimizer, W1, &options);
}

static adamw_status reset_param(adamw_optimizer *optimizer) {
  return adamw_reset_param(optimizer, W1);
}

static adamw_status remove_param(adamw_optimizer *optimizer) {
  return adamw_remove_param(optimizer, W3);
}

static adamw_status get_grad_scale(adamw_optimizer *optimizer) {
  double scale;
  return adamw_get_grad_scale(optimizer, &scale);
}

static adamw_status set_loss_scaler(adamw_optimizer *optimizer) {
  return adamw_set_loss_scaler(optimizer, NULL);
}

static adamw_status get_loss_scaler_state(adamw_optimizer *optimizer) {
  adamw_loss_scaler_state state;
  return adamw_get_loss_scaler_state(optimizer, &state, sizeof state);
}

static adamw_status set_loss_scaler_state(adamw_optimizer *optimizer) {
  const adamw_loss_scaler_state state = {.struct_size = sizeof state, .scale = 1};
  return adamw_set_loss_scaler_state(optimizer, &state);
}

static adamw_status set_found_inf(adamw_optimizer *optimizer) {
  return adamw_set_found_inf(optimizer, NULL, NULL);
}

static adamw_status set_decay_filter(adamw_optimizer *optimizer) {
  return adamw_set_decay_filter(optimizer, NULL, NULL);
}

static adamw_status set_lr_ratio(adamw_optimizer *optimizer) {
  return adamw_set_lr_ratio(optimizer, NULL, NULL);
}

static adamw_status set_all_reduce(adamw_optimizer *optimizer) {
  return adamw_set_all_reduce(optimizer, NULL, NULL);
}

static adamw_status set_next_piece(adamw_optimizer *optimizer) {
  return adamw_set_next_piece(optimizer, 0, NULL, NULL);
}

static adamw_status set_grad_scale(adamw_optimizer *optimizer) {
  return adamw_set_grad_scale(optimizer, 1);
}

static adamw_status get_step_info(adamw_optimizer *optimizer) {
  adamw_step_info info;
  return adamw_get_step_info(optimizer, &info, sizeof info);
}

static adamw_status set_lr_schedule(adamw_optimizer *optimizer) {
  return adamw_set_lr_schedule(optimizer, NULL);
}

static adamw_status schedule_advance_with_metric(adamw_optimizer *optimizer) {
  return adamw_schedule_advance_with_metric(optimizer, 1);
}

static adamw_status get_schedule_state(adamw_optimizer *optimizer) {
  adamw_schedule_state state;
  return adamw_get_schedule_state(optimizer, &state, sizeof state);
}

static adamw_status set_schedule_index(adamw_optimizer *optimizer) {
  return adamw_set_schedule_index(optimizer, 1);
}

static adamw_status set_schedule_state(adamw_optimizer *optimizer) {
  const adamw_schedule_state state = {.struct_size = sizeof state, .lr = 1};
  return adamw_set_schedule_state(optimizer, &state);
}

static adamw_status get_param_info(adamw_optimizer *optimizer) {
  adamw_param_info info;
  return adamw_get_param_info(optimizer, W1, &info, sizeof info);
}

static adamw_status accumulate_grad(adamw_optimizer *optimizer) {
  return adamw_accumulate_grad(optimizer, W1, &tensor);
}

static int32_t no_loss(double *out_loss, void *user_data) {
  (void)user_data;
  *out_loss = 0;
  return 0;
}

static adamw_status minimize(adamw_optimizer *optimizer) {
  const adamw_minimize_args args = {.struct_size = sizeof args, .closure = no_loss};
  return adamw_minimize(optimizer, &args, NULL, NULL);
}

static adamw_status apply_gradients(adamw_optimizer *optimizer) {
  return adamw_apply_gradients(optimizer, params, tensors, 1);
}

static adamw_status num_params(adamw_optimizer *optimizer) {
  uint32_t number;
  return adamw_num_params(optimizer, &number);
}

static adamw_status find_param(adamw_optimizer *optimizer) {
  uint32_t number;
  return adamw_find_param(optimizer, "w1", &number);
}

static adamw_status get_state_info(adamw_optimizer *optimizer) {
  adamw_state_info info;
  return adamw_get_state_info(optimizer, W1, ADAMW_BUFFER_EXP_AVG, &info, sizeof info);
}

static adamw_status get_state_name(adamw_optimizer *optimizer) {
  size_t length;
  return adamw_get_state_name(optimizer, W1, ADAMW_BUFFER_EXP_AVG, ADAMW_NAMES_NEUTRAL, NULL, 0,
                              &length);
}

static adamw_status find_state(adamw_optimizer *optimizer) {
  uint32_t number;
  adamw_buffer buffer;
  return adamw_find_state(optimizer, "state.w1.exp_avg", &number, &buffer);
}

static adamw_status get_steps(adamw_optimizer *optimizer) {
  uint64_t step;
  return adamw_get_steps(optimizer, params, &step, 1);
}

static adamw_status set_steps(adamw_optimizer *optimizer) {
  const uint64_t step = 1;
  return adamw_set_steps(optimizer, params, &step, 1);
}

static adamw_status get_state(adamw_optimizer *optimizer) {
  double step;
  return adamw_get_state(optimizer, "state.w1.step", &step, 1, ADAMW_DTYPE_F64);
}

static adamw_status set_state(adamw_optimizer *optimizer) {
  const double step = 1;
  return adamw_set_state(optimizer, "state.w1.step", &step, 1, ADAMW_DTYPE_F64);
}

static adamw_status memory_plan(adamw_optimizer *optimizer) {
  adamw_memory memory;
  return adamw_memory_plan(optimizer, 0, ADAMW_DTYPE_F32, N, 0, &memory, sizeof memory);
}

static adamw_status set_statistics(adamw_optimizer *optimizer) {
  return adamw_set_statistics(optimizer, 1);
}

static adamw_status set_accumulation_window(adamw_optimizer *optimizer) {
  return adamw_set_accumulation_window(optimizer, 1);
}

static adamw_status grad_ready(adamw_optimizer *optimizer) {
  return adamw_grad_ready(optimizer, 0);
}

static double sums[2 * 64];

static adamw_status measure_grads(adamw_optimizer *optimizer) {
  uint32_t count = 0;
  adamw_num_params(optimizer, &count);
  int64_t pairs[2] = {count, 2};
  const adamw_tensor of_sums = {sums, {1, 0}, 2, {2, 64, 1}, pairs, NULL, 0};
  return adamw_measure_grads(optimizer, &of_sums);
}

static adamw_status set_grad_sums(adamw_optimizer *optimizer) {
  return adamw_set_grad_sums(optimizer, NULL);
}

static adamw_status get_grad_norm(adamw_optimizer *optimizer) {
  double norm;
  uint64_t n_nonfinite;
  return adamw_get_grad_norm(optimizer, &norm, &n_nonfinite);
}

static adamw_status step_param(adamw_optimizer *optimizer) {
  return adamw_step_param(optimizer, 0);
}

static char saved[1 << 16];

static adamw_status save(adamw_optimizer *optimizer) {
  return adamw_save(optimizer, "calls.safetensors");
}

static adamw_status save_to(adamw_optimizer *optimizer) {
  const adamw_save_args args = {
      .struct_size = sizeof args, .data = saved, .capacity = sizeof saved};
  return adamw_save_to(optimizer, &args, NULL);
}

static adamw_status save_begin(adamw_optimizer *optimizer) {
  const adamw_save_args args = {.struct_size = sizeof args, .path = "calls.safetensors"};
  return adamw_save_begin(optimizer, &args);
}

static adamw_status save_poll(adamw_optimizer *optimizer) {
  return adamw_save_poll(optimizer, NULL, NULL, NULL);
}

static adamw_status save_wait(adamw_optimizer *optimizer) {
  return adamw_save_wait(optimizer, NULL, NULL);
}

static adamw_status load(adamw_optimizer *optimizer) {
  return adamw_load(optimizer, "calls.safetensors", NULL);
}

static adamw_status load_from(adamw_optimizer *optimizer) {
  const adamw_source source = {
      .struct_size = sizeof source, .data = saved, .num_bytes = sizeof saved};
  const adamw_source *const sources[1] = {&source};
  return adamw_load_from(optimizer, sources, 1, NULL);
}

const struct call every_call[] = {
    {"adamw_group_config_init", group_config_init},
    {"adamw_add_group", add_group},
    {"adamw_add_param", add_param},
    {"adamw_add_array", add_array},
    {"adamw_rebind", rebind},
    {"adamw_set_grad", set_grad},
    {"adamw_set_grad_array", set_grad_array},
    {"adamw_set_grad_data", set_grad_data},
    {"adamw_set_grads", set_grads},
    {"adamw_set_sparse_grad", set_sparse_grad},
    {"adamw_sparse_prepare", sparse_prepare},
    {"adamw_sparse_flush", adamw_sparse_flush},
    {"adamw_clear_grad", clear_grad},
    {"adamw_sync_master", sync_master},
    {"adamw_step", adamw_step},
    {"adamw_step_begin", adamw_step_begin},
    {"adamw_step_end", adamw_step_end},
    {"adamw_grad_ready", grad_ready},
    {"adamw_measure_grads", measure_grads},
    {"adamw_set_grad_sums", set_grad_sums},
    {"adamw_get_grad_norm", get_grad_norm},
    {"adamw_step_param", step_param},
    {"adamw_set_lr", set_lr},
    {"adamw_get_lr", get_lr},
    {"adamw_get_param_lr", get_param_lr},
    {"adamw_get_group", get_group},
    {"adamw_set_group", set_group},
    {"adamw_get_param_options", get_param_options},
    {"adamw_set_param_options", set_param_options},
    {"adamw_reset_param", reset_param},
    {"adamw_remove_param", remove_param},
    {"adamw_get_grad_scale", get_grad_scale},
    {"adamw_set_loss_scaler", set_loss_scaler},
    {"adamw_get_loss_scaler_state", get_loss_scaler_state},
    {"adamw_set_loss_scaler_state", set_loss_scaler_state},
    {"adamw_set_found_inf", set_found_inf},
    {"adamw_accumulate_grad", accumulate_grad},
    {"adamw_accumulate_grad_array", accumulate_grad_array},
    {"adamw_minimize", minimize},
    {"adamw_apply_gradients", apply_gradients},
    {"adamw_num_params", num_params},
    {"adamw_get_pinned_bytes", get_pinned_bytes},
    {"adamw_get_offload_info", get_offload_info},
    {"adamw_num_groups", num_groups},
    {"adamw_add_array_to_group", add_array_to_group},
    {"adamw_find_param", find_param},
    {"adamw_get_state_info", get_state_info},
    {"adamw_get_state_name", get_state_name},
    {"adamw_find_state", find_state},
    {"adamw_get_state", get_state},
    {"adamw_set_state", set_state},
    {"adamw_get_steps", get_steps},
    {"adamw_set_steps", set_steps},
    {"adamw_set_statistics", set_statistics},
    {"adamw_set_accumulation_window", set_accumulation_window},
    {"adamw_memory_plan", memory_plan},
    {"adamw_set_decay_filter", set_decay_filter},
    {"adamw_set_lr_ratio", set_lr_ratio},
    {"adamw_set_all_reduce", set_all_reduce},
    {"adamw_set_next_piece", set_next_piece},
    {"adamw_set_lr_schedule", set_lr_schedule},
    {"adamw_schedule_advance", adamw_schedule_advance},
    {"adamw_schedule_advance_with_metric", schedule_advance_with_metric},
    {"adamw_get_schedule_state", get_schedule_state},
    {"adamw_set_schedule_index", set_schedule_index},
    {"adamw_set_schedule_state", set_schedule_state},
    {"adamw_get_param_info", get_param_info},
    {"adamw_set_grad_scale", set_grad_scale},
    {"adamw_get_step_info", get_step_info},
    {"adamw_save", save},
    {"adamw_save_to", save_to},
    {"adamw_save_begin", save_begin},
    {"adamw_save_poll", save_poll},
    {"adamw_save_wait", save_wait},
    {"adamw_load", load},
    {"adamw_load_from", load_from},
    {"adamw_destroy", adamw_destroy},
    {NULL, NULL},
};

/* The ways for a tensor to come in. Each offers it as the buffer in this role of `param`, which is
   NEW or W2, between others that are good: none of those may be taken if this one is not. */
const adamw_buffer buffer_of[ROLES] = {[PARAM] = ADAMW_BUFFER_PARAM,
                                       [MASTER] = ADAMW_BUFFER_MASTER,
                                       [EXP_AVG] = ADAMW_BUFFER_EXP_AVG,
                                       [EXP_AVG_SQ] = ADAMW_BUFFER_EXP_AVG_SQ,
                                       [MAX_EXP_AVG_SQ] = ADAMW_BUFFER_MAX_EXP_AVG_SQ};

const adamw_tensor **tensor_in(adamw_param_config *config, enum role role) {
  const adamw_tensor **tensors[ROLES] = {[PARAM] = &config->param,
                                         [MASTER] = &config->master,
                                         [EXP_AVG] = &config->exp_avg,
                                         [EXP_AVG_SQ] = &config->exp_avg_sq,
                                         [MAX_EXP_AVG_SQ] = &config->max_exp_avg_sq};
  return tensors[role];
}

static adamw_status offer_to_add(struct world *world, enum role role, const adamw_tensor *tensor) {
  struct candidate candidate;
  describe_candidate(world, NEW, &candidate);
  *tensor_in(&candidate.config, role) = tensor;
  return adamw_add_param(world->optimizer, &candidate.config, &world->outputs.number);
}

static adamw_status offer_to_rebind(struct world *world, enum role role,
                                    const adamw_tensor *tensor) {
  struct described first, last;
  describe(world, NEW, EXP_AVG, &first);
  describe(world, NEW, EXP_AVG_SQ, &last);
  const uint32_t numbers[3] = {W1, W2, W1};
  const adamw_buffer roles[3] = {ADAMW_BUFFER_PARAM, buffer_of[role], ADAMW_BUFFER_EXP_AVG};
  const adamw_tensor *const moved[3] = {&first.tensor, tensor, &last.tensor};
  return adamw_rebind(world->optimizer, numbers, roles, moved, 3);
}

static adamw_status offer_to_set_grad(struct world *world, enum role role,
                                      const adamw_tensor *tensor) {
  (void)role;
  return adamw_set_grad(world->optimizer, W2, tensor);
}

static adamw_status offer_to_set_grads(struct world *world, enum role role,
                                       const adamw_tensor *tensor) {
  struct described other;
  describe(world, NEW, EXP_AVG, &other);
  const uint32_t numbers[3] = {W1, W2, W3};
  const adamw_tensor *const grads[3] = {&other.tensor, tensor, &other.tensor};
  (void)role;
  return adamw_set_grads(world->optimizer, numbers, grads, 3);
}

const struct way ways[WAYS] = {
    [ADD] = {"adamw_add_param", offer_to_add, NEW, false},
    [REBIND] = {"adamw_rebind", offer_to_rebind, W2, false},
    [SET_GRAD] = {"adamw_set_grad", offer_to_set_grad, W2, true},
    [SET_GRADS] = {"adamw_set_grads", offer_to_set_grads, W2, true},
};
