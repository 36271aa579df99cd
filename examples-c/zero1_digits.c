/* The network of digits.c as a task of zero1_mpi.c. */
#define _POSIX_C_SOURCE 200809L
#include "digits_data.h"
#include "digits_net.h"
#include "zero1_task.h"

enum { PART_SIZE = 4, WANTED_PERCENT = 95 };

static digits train_set, test_set;
static net model;

size_t task_begin(adamw_mpi_param params[MAX_PARAMS]) {
  static char names[2 * NET_LAYERS][32];
  uint64_t random = 1;
  if (digits_read(ADAMW_EXAMPLES_DATA "/digits.csv", &train_set, &test_set)) return 0;
  if (net_init(&model, &random)) {
    fprintf(stderr, "out of memory\n");
    return 0;
  }
  for (int i = 0; i < 2 * NET_LAYERS; i++) {
    net_layer *layer = &model.layers[i / 2];
    snprintf(names[i], sizeof names[i], "layer%d.%s", i / 2, i % 2 ? "bias" : "weight");
    params[i] = (adamw_mpi_param){.name = names[i],
                                  .data = i % 2 ? layer->bias : layer->weight,
                                  .grad = i % 2 ? layer->bias_grad : layer->weight_grad,
                                  .n_elements = i % 2 ? layer->outputs : layer->inputs * layer->outputs};
  }
  return 2 * NET_LAYERS;
}

void task_end(void) {
  net_free(&model);
  digits_free(&train_set);
  digits_free(&test_set);
}

double task_compute_grads(long step, int part) {
  double loss = 0;
  memset(model.memory + model.num_weights, 0, model.num_weights * sizeof(float));
  for (int i = 0; i < PART_SIZE; i++) {
    long image = ((step * PARTS + part) * PART_SIZE + i) % train_set.count;
    loss += net_backward(&model, train_set.pixels + image * DIGITS_PIXELS, train_set.labels[image],
                         1.0f / (PARTS * PART_SIZE));
  }
  return loss;
}

int task_judge(void) {
  int percent = 100 * net_evaluate(&model, &test_set).correct / test_set.count;
  printf("%d %% of the test images\n", percent);
  return percent < WANTED_PERCENT;
}
