/* Different settings for different parameters of one model:
 *
 *   groups          the head learns ten times faster and has its own weight decay
 *   decay filter    biases are not decayed, whatever their group says
 *   lr ratio        layer-wise decay: each layer below the head learns half as fast as the one above
 *   adamw_set_lr    the learning rate falls while training goes on
 *
 * The gradient is held at a constant 1, for which AdamW's step is known in closed form:
 * param -= lr * (weight_decay * param + 1). The program compares every step with it and exits 1 if one differs. */
#include <adamw.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { NUM_PARAMS = 6, NUM_LAYERS = 3, HEAD = NUM_LAYERS - 1, NUM_STEPS = 3 };

typedef struct parameter {
  const char *name;
  int layer;
  float value, grad;
} parameter;

static const double BODY_WEIGHT_DECAY = 0.1, HEAD_WEIGHT_DECAY = 0.5, HEAD_LR_SCALE = 10;
static const double LAYER_DECAY = 0.5;
static const double LR[NUM_STEPS] = {1e-3, 1e-3, 1e-4};

static void check(adamw_status status) {
  if (status == ADAMW_STATUS_OK) return;
  fprintf(stderr, "%s: %s\n", adamw_status_name(status), adamw_last_error());
  exit(1);
}

static int is_bias(const char *name) {
  const char *dot = strrchr(name, '.');
  return dot && strcmp(dot, ".bias") == 0;
}

/* 1: decay this parameter, 0: do not. */
static int32_t decay_all_but_biases(const char *name, void *user_data) {
  (void)user_data;
  return !is_bias(name);
}

static double ratio_of_layer(int layer) { return pow(LAYER_DECAY, HEAD - layer); }

/* 0: fine. The parameters were added in the order of the array, so info->param is an index into it. */
static int32_t layerwise_lr(const adamw_param_info *info, double *out_ratio, void *user_data) {
  const parameter *model = user_data;
  *out_ratio = ratio_of_layer(model[info->param].layer);
  return 0;
}

static uint32_t add_head_group(adamw_optimizer *optimizer) {
  adamw_group_config group;
  uint32_t number;
  check(adamw_group_config_init(optimizer, &group, sizeof group));
  group.lr_scale = HEAD_LR_SCALE;
  group.weight_decay = HEAD_WEIGHT_DECAY;
  check(adamw_add_group(optimizer, &group, &number));
  return number;
}

static void add_parameter(adamw_optimizer *optimizer, parameter *p, uint32_t group) {
  int64_t shape[1] = {1};
  adamw_tensor tensor = {.data = &p->value, .device = {ADAMW_DEVICE_CPU, 0}, .ndim = 1, .dtype = {ADAMW_CODE_FLOAT, 32, 1}, .shape = shape};
  adamw_param_config config = {.struct_size = sizeof config, .name = p->name, .param = &tensor, .group = group};
  uint32_t param;
  check(adamw_add_param(optimizer, &config, &param));
  check(adamw_set_grad_array(optimizer, param, &p->grad, 1, ADAMW_DTYPE_F32));
}

/* What one step must subtract from the parameter. */
static double expected_update(const parameter *p, double lr) {
  int in_head = p->layer == HEAD;
  double weight_decay = in_head ? HEAD_WEIGHT_DECAY : BODY_WEIGHT_DECAY;
  if (is_bias(p->name)) weight_decay = 0;
  return lr * (in_head ? HEAD_LR_SCALE : 1) * ratio_of_layer(p->layer) * (weight_decay * p->value + 1);
}

int main(void) {
  parameter model[NUM_PARAMS] = {
      {"layer0.weight", 0, 2, 1}, {"layer0.bias", 0, 2, 1}, {"layer1.weight", 1, 2, 1},
      {"layer1.bias", 1, 2, 1},   {"head.weight", 2, 2, 1}, {"head.bias", 2, 2, 1},
  };
  double updates[NUM_PARAMS][NUM_STEPS];
  int wrong = 0;
  adamw_optimizer *optimizer;
  adamw_config config;

  check(adamw_config_init(&config, sizeof config));
  config.weight_decay = BODY_WEIGHT_DECAY; /* group 0 is made of the handle's own values */
  check(adamw_create(&config, &optimizer));
  check(adamw_set_decay_filter(optimizer, decay_all_but_biases, NULL));
  check(adamw_set_lr_ratio(optimizer, layerwise_lr, model));

  uint32_t head_group = add_head_group(optimizer);
  for (int i = 0; i < NUM_PARAMS; i++) add_parameter(optimizer, &model[i], model[i].layer == HEAD ? head_group : 0);

  for (int step = 0; step < NUM_STEPS; step++) {
    double before[NUM_PARAMS], expected[NUM_PARAMS];
    for (int i = 0; i < NUM_PARAMS; i++) {
      before[i] = model[i].value;
      expected[i] = expected_update(&model[i], LR[step]);
    }
    check(adamw_set_lr(optimizer, LR[step]));
    check(adamw_step(optimizer));
    for (int i = 0; i < NUM_PARAMS; i++) {
      updates[i][step] = before[i] - model[i].value;
      if (fabs(updates[i][step] - expected[i]) > 1e-6) wrong++; /* the rounding of a float near 2 is 2.4e-7 */
    }
  }

  printf("%-14s %5s  %-6s  %s\n", "parameter", "group", "decays", "update at lr = 1e-3, 1e-3, 1e-4");
  for (int i = 0; i < NUM_PARAMS; i++) {
    adamw_param_info info;
    check(adamw_get_param_info(optimizer, (uint32_t)i, &info, sizeof info));
    printf("%-14s %5u  %-6s", info.name, (unsigned)info.group, info.decays ? "yes" : "no");
    for (int step = 0; step < NUM_STEPS; step++) printf("  %.6f", updates[i][step]);
    printf("\n");
  }
  check(adamw_destroy(optimizer));

  if (wrong) fprintf(stderr, "%d updates are not what the settings ask for\n", wrong);
  return wrong ? 1 : 0;
}
