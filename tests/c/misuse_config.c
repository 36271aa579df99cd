/* A configuration outside its domain is refused with the field and the value, and one that is
   shorter, longer or less aligned than ours is read as far as it goes and no further. */
#include "harness.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define HALF_OPEN_ONE 0x1.fffffffffffffp-1 /* the largest double below 1 */

static struct world world;

struct number {
  const char *field;
  size_t offset;
};

/* Where the doubles of adamw_config are, and where those of adamw_group_config. */
static const struct number config_numbers[] = {
    {"lr", offsetof(adamw_config, lr)},
    {"beta1", offsetof(adamw_config, beta1)},
    {"beta2", offsetof(adamw_config, beta2)},
    {"eps", offsetof(adamw_config, eps)},
    {"weight_decay", offsetof(adamw_config, weight_decay)},
    {NULL, 0},
};
static const struct number group_numbers[] = {
    {"lr_scale", offsetof(adamw_group_config, lr_scale)},
    {"beta1", offsetof(adamw_group_config, beta1)},
    {"beta2", offsetof(adamw_group_config, beta2)},
    {"eps", offsetof(adamw_group_config, eps)},
    {"weight_decay", offsetof(adamw_group_config, weight_decay)},
    {NULL, 0},
};

static const struct {
  double value;
  const char *text;
  const char *legal_for; /* fields for which this value is in the domain */
} values[] = {
    {NAN, "nan", ""},
    {INFINITY, "inf", ""},
    {-INFINITY, "-inf", ""},
    {-0.5, "-0.5", "weight_decay"},
    {-5e-324, "-", "weight_decay"}, /* the largest negative number */
    {5e-324, "", "lr lr_scale beta1 beta2 eps weight_decay"},
    {-0.0, "", "lr lr_scale beta1 beta2 eps weight_decay"},
    {0.0, "", "lr lr_scale beta1 beta2 eps weight_decay"},
    {HALF_OPEN_ONE, "", "lr lr_scale beta1 beta2 eps weight_decay"},
    {1.0, "1", "lr lr_scale eps weight_decay"},
    {1.5, "1.5", "lr lr_scale eps weight_decay"},
    {1e308, "", "lr lr_scale eps weight_decay"},
};
enum { N_VALUES = sizeof values / sizeof values[0] };

static bool is_legal(const char *field, int value) {
  const char *at = strstr(values[value].legal_for, field);
  return at && (at[strlen(field)] == ' ' || at[strlen(field)] == '\0');
}

static void set_double(void *config, size_t offset, double value) {
  memcpy((char *)config + offset, &value, sizeof value);
}

static adamw_status create_and_destroy(const adamw_config *config) {
  adamw_optimizer *optimizer;
  adamw_status status = adamw_create(config, &optimizer);
  return status == ADAMW_STATUS_OK ? adamw_destroy(optimizer) : status;
}

static void hyper_parameters_outside_their_domain(void) {
  for (const struct number *number = config_numbers; number->field; number++)
    for (int i = 0; i < N_VALUES; i++) {
      adamw_config config;
      adamw_config_init(&config, sizeof config);
      set_double(&config, number->offset, values[i].value);
      row("config.%s = %g", number->field, values[i].value);
      if (is_legal(number->field, i))
        accepted(create_and_destroy(&config));
      else
        refused(adamw_create(&config, &world.outputs.optimizer), ADAMW_STATUS_INVALID_ARGUMENT,
                number->field, values[i].text);
    }
  for (const struct number *number = group_numbers; number->field; number++)
    for (int i = 0; i < N_VALUES; i++) {
      adamw_group_config group;
      adamw_group_config_init(world.optimizer, &group, sizeof group);
      set_double(&group, number->offset, values[i].value);
      row("group.%s = %g", number->field, values[i].value);
      uint32_t added;
      if (is_legal(number->field, i))
        accepted(adamw_add_group(world.optimizer, &group, &added));
      else
        refused(adamw_add_group(world.optimizer, &group, &world.outputs.number),
                ADAMW_STATUS_INVALID_ARGUMENT, number->field, values[i].text);
    }
  for (int i = 0; i < N_VALUES; i++) {
    row("adamw_set_lr %g", values[i].value);
    if (is_legal("lr", i))
      accepted(adamw_set_lr(world.optimizer, values[i].value));
    else
      refused(adamw_set_lr(world.optimizer, values[i].value), ADAMW_STATUS_INVALID_ARGUMENT, "lr",
              values[i].text);
  }
}

static void structs_that_nobody_filled(void) {
  const adamw_config config = {.struct_size = sizeof config, .lr = 0.1};
  const adamw_group_config group = {.struct_size = sizeof group, .lr_scale = 1};
  row("a config of zeros");
  refused(adamw_create(&config, &world.outputs.optimizer), ADAMW_STATUS_INVALID_ARGUMENT, "eps is 0",
          "beta2", "_init");
  row("a group of zeros");
  refused(adamw_add_group(world.optimizer, &group, &world.outputs.number),
          ADAMW_STATUS_INVALID_ARGUMENT, "eps is 0", "beta2", "_init");
}

static void flags_and_constants_that_do_not_exist(void) {
  static const struct {
    const char *field;
    size_t offset;
    uint32_t value;
    const char *text;
  } rows[] = {
      {"amsgrad", offsetof(adamw_config, amsgrad), 2, "2"},
      {"maximize", offsetof(adamw_config, maximize), 2, "2"},
      {"multi_precision", offsetof(adamw_config, multi_precision), 2, "2"},
      {"amsgrad", offsetof(adamw_config, amsgrad), UINT32_MAX, "4294967295"},
      {"maximize", offsetof(adamw_config, maximize), UINT32_MAX, "4294967295"},
      {"multi_precision", offsetof(adamw_config, multi_precision), UINT32_MAX, "4294967295"},
      {"isa", offsetof(adamw_config, isa), 4, "4"},
      {"isa", offsetof(adamw_config, isa), UINT32_MAX, "4294967295"},
      {"nonfinite", offsetof(adamw_config, nonfinite), 3, "3"},
      {"clip", offsetof(adamw_config, clip), 4, "4"},
      {"clip_scope", offsetof(adamw_config, clip_scope), 2, "2"},
  };
  for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
    adamw_config config;
    adamw_config_init(&config, sizeof config);
    memcpy((char *)&config + rows[i].offset, &rows[i].value, sizeof rows[i].value);
    row("config.%s = %u", rows[i].field, rows[i].value);
    refused(adamw_create(&config, &world.outputs.optimizer), ADAMW_STATUS_INVALID_ARGUMENT,
            rows[i].field, rows[i].text);
  }
  for (adamw_isa isa = ADAMW_ISA_BEST; isa <= ADAMW_ISA_AVX512; isa++) {
    adamw_config config;
    adamw_config_init(&config, sizeof config);
    config.isa = isa;
    row("config.isa = %u, a cap that every processor is below or at", isa);
    accepted(create_and_destroy(&config));
  }
  row("any number of threads may be asked for where the work needs none of them");
  adamw_config config;
  adamw_config_init(&config, sizeof config);
  config.num_threads = UINT32_MAX;
  adamw_optimizer *optimizer = NULL;
  uint32_t added;
  accepted(adamw_create(&config, &optimizer));
  accepted(
      adamw_add_array(optimizer, "new", world.memory[NEW][MASTER], N, ADAMW_DTYPE_F32, &added));
  accepted(adamw_set_grad_array(optimizer, added, world.memory[NEW][EXP_AVG], N, ADAMW_DTYPE_F32));
  accepted(adamw_step(optimizer));
  accepted(adamw_destroy(optimizer));
}

/* A struct that the library reads, passed to the function that reads it. */
struct input {
  const char *name;
  size_t size;
  void (*fill)(void *filled);
  adamw_status (*pass)(const void *bytes);
};

static void fill_config(void *config) { adamw_config_init(config, sizeof(adamw_config)); }

static void fill_group(void *group) {
  adamw_group_config_init(world.optimizer, group, sizeof(adamw_group_config));
}

static struct candidate candidate;

static void fill_param(void *param) {
  describe_candidate(&world, NEW, &candidate);
  memcpy(param, &candidate.config, sizeof candidate.config);
}

static adamw_status pass_config(const void *config) {
  return adamw_create(config, &world.outputs.optimizer);
}

static adamw_status pass_group(const void *group) {
  return adamw_add_group(world.optimizer, group, &world.outputs.number);
}

static adamw_status pass_param(const void *param) {
  return adamw_add_param(world.optimizer, param, &world.outputs.number);
}

static adamw_status pass_values(const void *values) {
  return adamw_set_group(world.optimizer, 0, values);
}

static void fill_options(void *options) {
  adamw_get_param_options(world.optimizer, W1, options, sizeof(adamw_param_options));
}

static adamw_status pass_options(const void *options) {
  return adamw_set_param_options(world.optimizer, W1, options);
}

static void fill_scaler(void *scaler) { memset(scaler, 0, sizeof(adamw_loss_scaler)); }

static adamw_status pass_scaler(const void *scaler) {
  return adamw_set_loss_scaler(world.optimizer, scaler);
}

static int32_t no_loss(double *out_loss, void *user_data) {
  (void)user_data;
  *out_loss = 0;
  return 0;
}

static void fill_args(void *args) {
  const adamw_minimize_args filled = {.closure = no_loss};
  memcpy(args, &filled, sizeof filled);
}

static adamw_status pass_args(const void *args) {
  return adamw_minimize(world.optimizer, args, NULL, NULL);
}

static const struct input inputs[] = {
    {"config", sizeof(adamw_config), fill_config, pass_config},
    {"group", sizeof(adamw_group_config), fill_group, pass_group},
    {"param", sizeof(adamw_param_config), fill_param, pass_param},
    {"values", sizeof(adamw_group_config), fill_group, pass_values},
    {"options", sizeof(adamw_param_options), fill_options, pass_options},
    {"scaler", sizeof(adamw_loss_scaler), fill_scaler, pass_scaler},
    {"args", sizeof(adamw_minimize_args), fill_args, pass_args},
};
enum { N_INPUTS = sizeof inputs / sizeof inputs[0] };

/* A heap block of exactly this size, so that a sanitizer sees a read beyond it. The struct in it
   says that it is `struct_size` bytes long; what lies beyond the known ones is zero. */
static char *cut(const struct input *input, size_t bytes, size_t struct_size) {
  char whole[sizeof(adamw_config) + 64] = {0};
  char *block = malloc(bytes);
  input->fill(whole);
  memcpy(whole, &struct_size, sizeof struct_size);
  memcpy(block, whole, bytes);
  return block;
}

static void struct_sizes_that_no_version_has(void) {
  static const size_t sizes[] = {0, 3, 7, 8, 9, 20, SIZE_MAX}; /* 8: of a pointer */
  for (int i = 0; i < N_INPUTS; i++)
    for (size_t s = 0; s < sizeof sizes / sizeof sizes[0]; s++) {
      size_t bytes = sizes[s] < sizeof(size_t) || sizes[s] == SIZE_MAX ? sizeof(size_t) : sizes[s];
      char *block = cut(&inputs[i], bytes, sizes[s]), text[24];
      row("%s.struct_size = %zu", inputs[i].name, sizes[s]);
      snprintf(text, sizeof text, "%zu", sizes[s]);
      refused(inputs[i].pass(block), ADAMW_STATUS_INVALID_ARGUMENT, "struct_size", text,
              "expected sizeof(adamw_");
      free(block);
    }
}

static void fields_of_a_later_version(void) {
  for (int i = 0; i < N_INPUTS; i++)
    for (size_t extra = 8; extra <= 64; extra += 8) {
      size_t size = inputs[i].size + extra;
      char *block = cut(&inputs[i], size, size);
      row("%s has %zu bytes more than known, the last not zero", inputs[i].name, extra);
      block[size - 1] = 1;
      refused(inputs[i].pass(block), ADAMW_STATUS_UNSUPPORTED, "struct_size");
      free(block);
    }
  for (int i = 0; i < 2; i++) { /* params: see names_are_unique_and_text */
    size_t size = inputs[i].size + 64;
    char *block = cut(&inputs[i], size, size);
    row("%s has 64 bytes more than known, all zero", inputs[i].name);
    accepted(inputs[i].pass(block));
    free(block);
    if (i == 0)
      accepted(adamw_destroy(world.outputs.optimizer));
    memset(&world.outputs, 0xa5, sizeof world.outputs);
    watch(&world);
  }
}

/* A struct may have its first fields only: two of them here. */
enum { FIRST = 16 };

static void an_older_struct_gets_the_defaults_for_its_tail(void) {
  for (size_t size = FIRST; size < sizeof(adamw_config); size += 8) {
    char *block = cut(&inputs[0], size, size);
    set_double(block, offsetof(adamw_config, lr), 0.5);
    row("config of %zu bytes", size);
    adamw_optimizer *optimizer = NULL;
    adamw_group_config group;
    double lr = 0;
    accepted(adamw_create((const adamw_config *)block, &optimizer));
    accepted(adamw_get_lr(optimizer, &lr));
    holds(lr == 0.5);
    accepted(adamw_group_config_init(optimizer, &group, sizeof group));
    holds(group.lr_scale == 1 && group.weight_decay == 0.01 && group.beta1 == 0.9);
    holds(group.lazy_mode == ADAMW_LAZY_OFF && !group.beta1_ptr && !group.weight_decay_ptr);
    accepted(adamw_destroy(optimizer));
    free(block);
  }

  row("an older group has the handle's values for what it lacks");
  const float kept = 0.5f;
  adamw_config config;
  adamw_optimizer *optimizer = NULL;
  adamw_config_init(&config, sizeof config);
  config.beta2_ptr = &kept;
  accepted(adamw_create(&config, &optimizer));
  adamw_group_config whole, added;
  uint32_t number;
  accepted(adamw_group_config_init(optimizer, &whole, sizeof whole));
  whole.struct_size = FIRST;
  whole.lr_scale = 3;
  void *block = malloc(FIRST);
  memcpy(block, &whole, FIRST);
  accepted(adamw_add_group(optimizer, block, &number));
  accepted(adamw_get_group(optimizer, number, &added, sizeof added));
  holds(added.lr_scale == 3 && added.beta2_ptr == &kept);
  accepted(adamw_destroy(optimizer));
  free(block);
}

/* A struct that the library writes. */
static adamw_status write_config(void *to, size_t size) { return adamw_config_init(to, size); }

static adamw_status write_group(void *to, size_t size) {
  return adamw_group_config_init(world.optimizer, to, size);
}

static adamw_status write_info(void *to, size_t size) {
  return adamw_get_param_info(world.optimizer, W1, to, size);
}

static adamw_status write_capabilities(void *to, size_t size) {
  return adamw_get_capabilities(to, size);
}

static adamw_status write_step_info(void *to, size_t size) {
  return adamw_get_step_info(world.optimizer, to, size);
}

static adamw_status write_offload_info(void *to, size_t size) {
  return adamw_get_offload_info(world.optimizer, to, size);
}

static adamw_status write_values(void *to, size_t size) {
  return adamw_get_group(world.optimizer, 0, to, size);
}

static adamw_status write_options(void *to, size_t size) {
  return adamw_get_param_options(world.optimizer, W1, to, size);
}

static adamw_status write_state_info(void *to, size_t size) {
  return adamw_get_state_info(world.optimizer, W1, ADAMW_BUFFER_EXP_AVG, to, size);
}

static void written_structs_are_as_long_as_the_caller_says(void) {
  static const struct {
    const char *name;
    size_t known;
    adamw_status (*write)(void *to, size_t size);
  } rows[] = {
      {"config", sizeof(adamw_config), write_config},
      {"group", sizeof(adamw_group_config), write_group},
      {"a group of the handle's", sizeof(adamw_group_config), write_values},
      {"info", sizeof(adamw_param_info), write_info},
      {"capabilities", sizeof(adamw_capabilities), write_capabilities},
      {"step info", sizeof(adamw_step_info), write_step_info},
      {"offload info", sizeof(adamw_offload_info), write_offload_info},
      {"options", sizeof(adamw_param_options), write_options},
      {"state info", sizeof(adamw_state_info), write_state_info},
  };
  for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
    char whole[sizeof(adamw_config)], *out = (char *)&world.outputs;
    row("%s into NULL", rows[i].name);
    refused(rows[i].write(NULL, rows[i].known), ADAMW_STATUS_INVALID_ARGUMENT, "NULL");
    row("%s of 0, 3, 8 or SIZE_MAX bytes", rows[i].name);
    refused(rows[i].write(out, 8), ADAMW_STATUS_INVALID_ARGUMENT, "struct_size", "8");
    refused(rows[i].write(out, rows[i].known - 1), ADAMW_STATUS_INVALID_ARGUMENT, "struct_size");
    refused(rows[i].write(out, 0), ADAMW_STATUS_INVALID_ARGUMENT, "struct_size", "0");
    refused(rows[i].write(out, 3), ADAMW_STATUS_INVALID_ARGUMENT, "struct_size", "3");
    refused(rows[i].write(out, SIZE_MAX), ADAMW_STATUS_INVALID_ARGUMENT, "struct_size");
    accepted(rows[i].write(whole, rows[i].known));
    for (size_t size = FIRST; size <= rows[i].known + 16; size += 8) {
      char *block = malloc(size);
      memset(block, 0xa5, size);
      row("%s of %zu bytes", rows[i].name, size);
      accepted(rows[i].write(block, size));
      size_t both = size < rows[i].known ? size : rows[i].known;
      holds(memcmp(block, &size, sizeof size) == 0);
      holds(memcmp(block + 8, whole + 8, both - 8) == 0);
      for (size_t byte = both; byte < size; byte++)
        holds(block[byte] == 0);
      free(block);
    }
  }
}

static bool ok_or_invalid(adamw_status status) {
  return status == ADAMW_STATUS_OK || status == ADAMW_STATUS_INVALID_ARGUMENT;
}

/* What an odd address holds is read and written right, or refused; it never traps. */
static void misaligned_structs_are_read_right_or_refused(void) {
  char odd[sizeof(adamw_config) + 1], *at = odd + 1;
  row("a misaligned config");
  adamw_config config;
  adamw_config_init(&config, sizeof config);
  config.lr = 0.25;
  memcpy(at, &config, sizeof config);
  adamw_optimizer *optimizer = NULL;
  adamw_status status = adamw_create((const adamw_config *)at, &optimizer);
  holds(ok_or_invalid(status));
  if (status == ADAMW_STATUS_OK) {
    double lr = 0;
    accepted(adamw_get_lr(optimizer, &lr));
    holds(lr == 0.25);
    accepted(adamw_destroy(optimizer));
  }
  row("misaligned outputs");
  holds(ok_or_invalid(adamw_config_init((adamw_config *)at, sizeof config)));
  status = adamw_get_lr(world.optimizer, (double *)at);
  holds(ok_or_invalid(status));
  if (status == ADAMW_STATUS_OK) {
    double lr, same;
    memcpy(&lr, at, sizeof lr);
    accepted(adamw_get_lr(world.optimizer, &same));
    holds(lr == same);
  }
  status = adamw_create(NULL, (adamw_optimizer **)at);
  holds(ok_or_invalid(status));
  if (status == ADAMW_STATUS_OK) {
    memcpy(&optimizer, at, sizeof optimizer);
    accepted(adamw_destroy(optimizer));
  }
}

static void strings_that_the_library_gives(void) {
  static const adamw_status statuses[] = {0, 1, 2, 3, 5, 7, 8, 9, 10, 99};
  for (size_t i = 0; i < sizeof statuses / sizeof statuses[0]; i++) {
    row("the name of status %d", (int)statuses[i]);
    holds(strncmp(adamw_status_name(statuses[i]), "ADAMW_STATUS_", 13) == 0);
  }
  row("the name of a status that does not exist");
  holds(adamw_status_name((adamw_status)4242)[0] != '\0');
  holds(adamw_status_name((adamw_status)-1)[0] != '\0');
  holds(strcmp(adamw_version(), "0.1.0") == 0);
}

int main(void) {
  start();
  row("before any call");
  holds(strcmp(adamw_last_error(), "") == 0);
  set_up(&world);
  watch(&world);
  hyper_parameters_outside_their_domain();
  structs_that_nobody_filled();
  flags_and_constants_that_do_not_exist();
  struct_sizes_that_no_version_has();
  fields_of_a_later_version();
  an_older_struct_gets_the_defaults_for_its_tail();
  written_structs_are_as_long_as_the_caller_says();
  misaligned_structs_are_read_right_or_refused();
  strings_that_the_library_gives();
  row("the end");
  accepted(adamw_create(NULL, &world.outputs.optimizer)); /* NULL: the defaults */
  accepted(adamw_destroy(world.outputs.optimizer));
  returns(adamw_destroy(world.optimizer), ADAMW_STATUS_OK, "");
  return finish("misuse_config");
}
