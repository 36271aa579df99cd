/* Names, numbers, constants and state that a parameter cannot have. */
#include "harness.h"

static struct world world, undisturbed;

static void names_are_unique_and_text(void) {
  static const struct {
    const char *name, *what, *text;
  } rows[] = {
      {"", "empty", "name"},
      {"w1", "taken", "w1"},
      {"w3", "taken by an array", "w3"},
      {"\xff\xfe", "not UTF-8", "UTF-8"},
      {"ab\xc3", "cut in a character", "UTF-8"},
      {"\xed\xa0\x80", "a surrogate", "UTF-8"},
      {"\xc0\x80", "an overlong NUL", "UTF-8"},
  };
  for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
    struct candidate candidate;
    describe_candidate(&world, NEW, &candidate);
    candidate.config.name = rows[i].name;
    row("a name that is %s", rows[i].what);
    refused(adamw_add_param(world.optimizer, &candidate.config, &world.outputs.number),
            ADAMW_STATUS_INVALID_ARGUMENT, rows[i].text);
    refused(adamw_add_array(world.optimizer, rows[i].name, world.memory[NEW][PARAM], N,
                            ADAMW_DTYPE_F32, &world.outputs.number),
            ADAMW_STATUS_INVALID_ARGUMENT, rows[i].text);
  }
}

static void state_that_does_not_belong(void) {
  /* A handle that is neither amsgrad nor multi_precision. */
  adamw_optimizer *plain;
  struct candidate candidate;
  accepted(adamw_create(NULL, &plain));
  describe_candidate(&world, NEW, &candidate);
  candidate.config.max_exp_avg_sq = NULL;
  row("a master without multi_precision");
  refused(adamw_add_param(plain, &candidate.config, &world.outputs.number),
          ADAMW_STATUS_INVALID_ARGUMENT, "new", "master", "multi_precision");
  describe_candidate(&world, NEW, &candidate);
  candidate.config.master = NULL;
  row("max_exp_avg_sq without amsgrad");
  refused(adamw_add_param(plain, &candidate.config, &world.outputs.number),
          ADAMW_STATUS_INVALID_ARGUMENT, "new", "max_exp_avg_sq", "amsgrad");
  accepted(adamw_destroy(plain));

  row("a master for an f32 parameter");
  describe_candidate(&world, NEW, &candidate);
  describe(&world, NEW, GRAD, &candidate.at[PARAM]);
  candidate.at[PARAM].tensor.dtype = (adamw_data_type){2, 32, 1};
  refused(adamw_add_param(world.optimizer, &candidate.config, &world.outputs.number),
          ADAMW_STATUS_INVALID_ARGUMENT, "new", "master");

  for (int role = MASTER; role < ROLES; role++) {
    describe_candidate(&world, NEW, &candidate);
    candidate.config.step = 3;
    *tensor_in(&candidate.config, (enum role)role) = NULL;
    row("3 steps taken without a %s", role_names[role]);
    refused(adamw_add_param(world.optimizer, &candidate.config, &world.outputs.number),
            ADAMW_STATUS_INVALID_ARGUMENT, "new", role_names[role], "3");
  }
  static const uint64_t too_many[] = {(1ull << 32) + 1, UINT64_MAX};
  for (int i = 0; i < 2; i++) {
    describe_candidate(&world, NEW, &candidate);
    candidate.config.step = too_many[i];
    row("%llu steps taken", (unsigned long long)too_many[i]);
    refused(adamw_add_param(world.optimizer, &candidate.config, &world.outputs.number),
            ADAMW_STATUS_INVALID_ARGUMENT, "step");
  }
  row("no_clip is 2");
  describe_candidate(&world, NEW, &candidate);
  candidate.config.no_clip = 2;
  refused(adamw_add_param(world.optimizer, &candidate.config, &world.outputs.number),
          ADAMW_STATUS_INVALID_ARGUMENT, "no_clip", "2");
}

static void the_most_steps_that_state_may_bring(void) {
  struct candidate candidate;
  adamw_optimizer *optimizer;
  adamw_config config;
  adamw_param_info info;
  uint32_t number;
  row("2^32 steps taken");
  adamw_config_init(&config, sizeof config);
  config.amsgrad = config.multi_precision = 1;
  accepted(adamw_create(&config, &optimizer));
  describe_candidate(&world, NEW, &candidate);
  candidate.config.step = 1ull << 32;
  accepted(adamw_add_param(optimizer, &candidate.config, &number));
  accepted(adamw_get_param_info(optimizer, number, &info, sizeof info));
  holds(info.step == 1ull << 32);
  accepted(adamw_destroy(optimizer));
}

static void numbers_and_constants_that_do_not_exist(void) {
  static const uint32_t numbers[] = {NEW, UINT32_MAX};
  static const char *const texts[] = {"3", "4294967295"};
  struct described grad, other;
  describe(&world, NEW, EXP_AVG, &grad);
  describe(&world, NEW, EXP_AVG_SQ, &other);
  for (int i = 0; i < 2; i++) {
    const uint32_t params[2] = {W1, numbers[i]};
    const adamw_buffer buffers[2] = {ADAMW_BUFFER_PARAM, ADAMW_BUFFER_PARAM};
    const adamw_tensor *tensors[2] = {&grad.tensor, &other.tensor};
    adamw_optimizer *optimizer = world.optimizer;
    row("param %u", numbers[i]);
    refused(adamw_set_grad(optimizer, numbers[i], &grad.tensor), ADAMW_STATUS_NOT_FOUND, texts[i]);
    refused(adamw_set_grad(optimizer, numbers[i], NULL), ADAMW_STATUS_NOT_FOUND, texts[i]);
    refused(
        adamw_set_grad_array(optimizer, numbers[i], world.memory[NEW][GRAD], N, ADAMW_DTYPE_F32),
        ADAMW_STATUS_NOT_FOUND, texts[i]);
    refused(adamw_set_grads(optimizer, params, tensors, 2), ADAMW_STATUS_NOT_FOUND, texts[i]);
    refused(adamw_rebind(optimizer, params, buffers, tensors, 2), ADAMW_STATUS_NOT_FOUND, texts[i]);
    refused(adamw_sync_master(optimizer, numbers[i]), ADAMW_STATUS_NOT_FOUND, texts[i]);
    refused(
        adamw_get_param_info(optimizer, numbers[i], &world.outputs.info, sizeof world.outputs.info),
        ADAMW_STATUS_NOT_FOUND, texts[i]);
    struct candidate candidate;
    describe_candidate(&world, NEW, &candidate);
    candidate.config.group = numbers[i];
    row("group %u", numbers[i]);
    refused(adamw_add_param(optimizer, &candidate.config, &world.outputs.number),
            ADAMW_STATUS_NOT_FOUND, "group", texts[i]);
  }
  static const uint32_t unknown[] = {0, 6, UINT32_MAX};
  static const char *const constants[] = {"0", "6", "4294967295"};
  for (int i = 0; i < 3; i++) {
    const uint32_t params[2] = {W1, W2};
    const adamw_buffer buffers[2] = {ADAMW_BUFFER_PARAM, unknown[i]};
    const adamw_tensor *tensors[2] = {&grad.tensor, &other.tensor};
    row("buffer constant %u", unknown[i]);
    refused(adamw_rebind(world.optimizer, params, buffers, tensors, 2),
            ADAMW_STATUS_INVALID_ARGUMENT, "buffer", constants[i]);
  }
  row("clear constant 2");
  refused(adamw_clear_grad(world.optimizer, 2), ADAMW_STATUS_INVALID_ARGUMENT, "2");
  refused(adamw_clear_grad(world.optimizer, UINT32_MAX), ADAMW_STATUS_INVALID_ARGUMENT,
          "4294967295");
}

int main(void) {
  start();
  set_up(&undisturbed);
  set_up(&world);
  watch(&world);
  names_are_unique_and_text();
  state_that_does_not_belong();
  the_most_steps_that_state_may_bring();
  numbers_and_constants_that_do_not_exist();
  same_as_undisturbed(&world, &undisturbed);
  return finish("misuse_param");
}
