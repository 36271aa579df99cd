/* A training loop as most have it: two groups, gradients added up over micro-batches, clipping by the norm of the whole
 * model, a warmup and a cosine, and a checkpoint from which a second process could go on. docs/pytorch.md shows the same
 * loop in PyTorch.
 *
 * The network learns handwritten digits twice: once in one go, and once broken off in the middle, saved, and continued
 * by another handle over other memory. The program exits 1 if it has not learned, if the last step was not clipped as its
 * norm asks for, if the schedule has not come to its end, or if one bit of the weights differs.
 *
 * usage: training [where to save] */
#include "digits_data.h"
#include "digits_net.h"

#include <adamw.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { STEPS = 40, WARMUP = 4, MICRO_BATCHES = 4, MICRO_SIZE = 16, NUM_PARAMS = 2 * NET_LAYERS, WANTED_PERCENT = 90 };

/* A model, what trains it, and where its parameters and their gradients are. */
typedef struct run {
  net model;
  adamw_optimizer *optimizer;
  uint32_t params[NUM_PARAMS];
  float *values[NUM_PARAMS], *grads[NUM_PARAMS];
  size_t lengths[NUM_PARAMS];
} run;

static void check(adamw_status status) {
  if (status == ADAMW_STATUS_OK) return;
  fprintf(stderr, "training: %s: %s\n", adamw_status_name(status), adamw_last_error());
  exit(2);
}

static void find_arrays(run *r) {
  for (int l = 0; l < NET_LAYERS; l++) {
    net_layer *layer = &r->model.layers[l];
    r->values[2 * l] = layer->weight, r->grads[2 * l] = layer->weight_grad;
    r->values[2 * l + 1] = layer->bias, r->grads[2 * l + 1] = layer->bias_grad;
    r->lengths[2 * l] = layer->inputs * layer->outputs, r->lengths[2 * l + 1] = layer->outputs;
  }
}

static adamw_optimizer *create_optimizer(run *r) {
  adamw_optimizer *optimizer;
  adamw_config config;
  check(adamw_config_init(&config, sizeof config));
  config.weight_decay = 0.1;
  config.clip = ADAMW_CLIP_GLOBAL_NORM; /* over all groups of the handle */
  config.clip_norm = 1;
  config.average_grads = 1; /* a step takes the mean over the micro-batches */
  check(adamw_create(&config, &optimizer));

  uint32_t biases;
  adamw_group_config group;
  check(adamw_group_config_init(optimizer, &group, sizeof group)); /* as the handle */
  group.weight_decay = 0;
  group.lr_scale = 2; /* twice the handle's learning rate */
  check(adamw_add_group(optimizer, &group, &biases));

  for (int i = 0; i < NUM_PARAMS; i++) {
    char name[32];
    snprintf(name, sizeof name, "layer%d.%s", i / 2, i % 2 ? "bias" : "weight");
    check(adamw_add_array_to_group(optimizer, i % 2 ? biases : 0, name, r->values[i], r->lengths[i], ADAMW_DTYPE_F32,
                                   &r->params[i]));
  }

  const adamw_schedule schedule = {
      .struct_size = sizeof schedule,
      .kind = ADAMW_SCHEDULE_COSINE_WITH_WARMUP,
      .lr = 3e-3,
      .warmup_steps = WARMUP,
      .total_steps = STEPS,
  };
  check(adamw_set_lr_schedule(optimizer, &schedule));
  check(adamw_set_accumulation_window(optimizer, MICRO_BATCHES));
  return optimizer;
}

static void start(run *r) {
  uint64_t random = 1;
  if (net_init(&r->model, &random)) exit(2);
  find_arrays(r);
  r->optimizer = create_optimizer(r);
}

static void end(run *r) {
  check(adamw_destroy(r->optimizer));
  net_free(&r->model);
}

/* Which images a micro-batch has is a function of the step: a run that is continued sees what the other one saw. */
static void compute_grads(run *r, const digits *set, int step, int micro) {
  int first = (step * MICRO_BATCHES + micro) * MICRO_SIZE;
  for (int i = 0; i < NUM_PARAMS; i++) memset(r->grads[i], 0, r->lengths[i] * sizeof(float));
  for (int i = first; i < first + MICRO_SIZE; i++) {
    int image = i % set->count;
    net_backward(&r->model, set->pixels + image * DIGITS_PIXELS, set->labels[image], 1.0f / MICRO_SIZE);
  }
}

static void train(run *r, const digits *set, int from, int to) {
  adamw_optimizer *optimizer = r->optimizer;
  for (int step = from; step < to; step++) {
    for (int micro = 0; micro < MICRO_BATCHES; micro++) {
      compute_grads(r, set, step, micro);
      for (int i = 0; i < NUM_PARAMS; i++)
        check(adamw_accumulate_grad_array(optimizer, r->params[i], r->grads[i], r->lengths[i],
                                          ADAMW_DTYPE_F32));
    }
    check(adamw_step(optimizer)); /* clips, steps, ends the window, advances the schedule */
  }
}

int main(int argc, char **argv) {
  const char *path = argc > 1 ? argv[1] : "training.safetensors";
  digits train_set, test_set;
  if (digits_read(ADAMW_EXAMPLES_DATA "/digits.csv", &train_set, &test_set)) return 2;

  run whole, first, second;
  start(&whole);
  train(&whole, &train_set, 0, STEPS);

  start(&first);
  train(&first, &train_set, 0, STEPS / 2);
  /* The weights too: without `params` they are the host's to save. */
  const adamw_save_args save = {.struct_size = sizeof save, .path = path, .params = 1};
  check(adamw_save_to(first.optimizer, &save, NULL));
  end(&first);

  start(&second); /* the same groups, parameters and schedule; the file brings their values */
  const adamw_load_options load = {.struct_size = sizeof load, .params = 1};
  check(adamw_load(second.optimizer, path, &load));
  adamw_param_info info;
  check(adamw_get_param_info(second.optimizer, second.params[0], &info, sizeof info));
  train(&second, &train_set, (int)info.step, STEPS);

  adamw_step_info last;
  double lr;
  check(adamw_get_lr(second.optimizer, &lr));
  check(adamw_get_step_info(second.optimizer, &last, sizeof last));
  int clipped = fabs(last.clip_factor * fmax(last.grad_norm, 1) - 1) < 1e-6; /* clip_norm is 1 */
  int percent = 100 * net_evaluate(&second.model, &test_set).correct / test_set.count;
  int same = net_hash(&whole.model) == net_hash(&second.model);
  printf("%d %% of the test images, last gradient norm %.3f, continued at step %llu with %s\n", percent, last.grad_norm,
         (unsigned long long)info.step, same ? "the same bits" : "OTHER BITS");

  end(&whole);
  end(&second);
  digits_free(&train_set);
  digits_free(&test_set);
  return same && clipped && lr == 0 && percent >= WANTED_PERCENT ? 0 : 1;
}
