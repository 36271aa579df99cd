/* Trains the network of digits.c on the processes of MPI, each of which keeps one part of the optimizer's state
 * (ZeRO-1). The weights end with the same bits on any number of processes: a batch is always the same twelve parts,
 * whose gradients are added up in their order. A run that is killed goes on from its last checkpoint, on another number
 * of processes if need be.
 *
 * usage: mpirun -n 4 zero1_mpi [directory of checkpoints [step after which to be killed]] */
#define _POSIX_C_SOURCE 200809L
#include "digits_data.h"
#include "digits_net.h"

#include <adamw_mpi.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { STEPS = 120, WARMUP = 10, PARTS = 12, PART_SIZE = 4, SAVE_EVERY = 40, WANTED_PERCENT = 95 };
enum { NUM_PARAMS = 2 * NET_LAYERS };

static void check(adamw_mpi *ranks, adamw_status status) {
  if (status == ADAMW_STATUS_OK) return;
  fprintf(stderr, "zero1_mpi: %s\n", ranks ? ranks->error : adamw_last_error());
  MPI_Abort(MPI_COMM_WORLD, 2);
}

/* The same on every process. */
static adamw_optimizer *create_optimizer(void) {
  adamw_optimizer *optimizer;
  adamw_config config;
  check(NULL, adamw_config_init(&config, sizeof config));
  config.weight_decay = 0.1;
  config.clip = ADAMW_CLIP_GLOBAL_NORM; /* of all gradients on all processes */
  config.clip_norm = 1;
  config.num_threads = 1; /* the processes share the processors */
  check(NULL, adamw_create(&config, &optimizer));
  const adamw_schedule schedule = {.struct_size = sizeof schedule,
                                   .kind = ADAMW_SCHEDULE_COSINE_WITH_WARMUP,
                                   .lr = 3e-3,
                                   .warmup_steps = WARMUP,
                                   .total_steps = STEPS};
  check(NULL, adamw_set_lr_schedule(optimizer, &schedule));
  return optimizer;
}

static void list_params(net *model, adamw_mpi_param *params, char names[NUM_PARAMS][32]) {
  for (int i = 0; i < NUM_PARAMS; i++) {
    net_layer *layer = &model->layers[i / 2];
    snprintf(names[i], sizeof names[i], "layer%d.%s", i / 2, i % 2 ? "bias" : "weight");
    params[i] = (adamw_mpi_param){.name = names[i],
                                  .data = i % 2 ? layer->bias : layer->weight,
                                  .grad = i % 2 ? layer->bias_grad : layer->weight_grad,
                                  .n_elements = i % 2 ? layer->outputs : layer->inputs * layer->outputs};
  }
}

/* Which images a part has is a function of the step, so that a run that goes on sees what the other one saw. */
static void compute_grads(net *model, const digits *set, long step, int part) {
  memset(model->memory + model->num_weights, 0, model->num_weights * sizeof(float));
  for (int i = 0; i < PART_SIZE; i++) {
    long image = ((step * PARTS + part) * PART_SIZE + i) % set->count;
    net_backward(model, set->pixels + image * DIGITS_PIXELS, set->labels[image], 1.0f / (PARTS * PART_SIZE));
  }
}

static void train(adamw_mpi *ranks, net *model, const digits *set, long first, const char *directory, long last) {
  for (long step = first; step < STEPS; step++) {
    for (int part = 0; part < PARTS; part += ranks->num_ranks) {
      int num_parts = PARTS - part < ranks->num_ranks ? PARTS - part : ranks->num_ranks;
      if (ranks->rank < num_parts) compute_grads(model, set, step, part + ranks->rank);
      check(ranks, adamw_mpi_add_grads(ranks, num_parts));
    }
    check(ranks, adamw_mpi_step(ranks));
    if (directory && (step + 1) % SAVE_EVERY == 0) check(ranks, adamw_mpi_save(ranks, directory));
    if (ranks->rank == 0 && isatty(STDERR_FILENO))
      fprintf(stderr, "\r  step %ld of %d%s", step + 1, STEPS, step + 1 == STEPS ? "\n" : "");
    if (step == last && ranks->rank == ranks->num_ranks - 1) raise(SIGKILL);
  }
}

int main(int argc, char **argv) {
  int threads;
  MPI_Init_thread(&argc, &argv, MPI_THREAD_FUNNELED, &threads); /* only this thread calls MPI */
  const char *directory = argc > 1 ? argv[1] : NULL;
  const long last = argc > 2 ? atol(argv[2]) : -1;
  digits train_set, test_set;
  uint64_t random = 1;
  net model;
  if (digits_read(ADAMW_EXAMPLES_DATA "/digits.csv", &train_set, &test_set) || net_init(&model, &random))
    MPI_Abort(MPI_COMM_WORLD, 2);

  char names[NUM_PARAMS][32];
  adamw_mpi_param params[NUM_PARAMS];
  adamw_optimizer *optimizer = create_optimizer();
  adamw_mpi ranks;
  list_params(&model, params, names);
  check(&ranks, adamw_mpi_init(&ranks, MPI_COMM_WORLD, optimizer, params, NUM_PARAMS, NULL));

  char path[4096];
  snprintf(path, sizeof path, "%s/checkpoint", directory ? directory : ".");
  if (directory && access(path, F_OK) == 0) check(&ranks, adamw_mpi_load(&ranks, directory));
  adamw_param_info info;
  check(NULL, adamw_get_param_info(optimizer, 0, &info, sizeof info));
  train(&ranks, &model, &train_set, (long)info.step, directory, last);

  int percent = 100 * net_evaluate(&model, &test_set).correct / test_set.count;
  if (ranks.rank == 0) {
    printf("%d processes, continued at step %llu: %d %% of the test images\n", ranks.num_ranks,
           (unsigned long long)info.step, percent);
    printf("weights hash: %016llx\n", (unsigned long long)net_hash(&model));
  }
  adamw_mpi_free(&ranks);
  check(NULL, adamw_destroy(optimizer));
  net_free(&model);
  digits_free(&train_set);
  digits_free(&test_set);
  MPI_Finalize();
  return percent >= WANTED_PERCENT ? 0 : 1;
}
