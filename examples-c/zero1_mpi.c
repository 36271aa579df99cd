/* Trains a model on the processes of MPI, each of which keeps one part of the optimizer's state (ZeRO-1): the network
 * of digits.c or the transformer of chargpt.c, whichever it is linked with. The weights end with the same bits on any
 * number of processes: a batch is always the same twelve parts, whose gradients are added up in their order. A run that
 * is killed goes on from its last checkpoint, on another number of processes if need be.
 *
 * usage: mpirun -n 4 zero1_digits [directory of checkpoints [step after which to be killed]]
 *        mpirun -n 4 zero1_chargpt [the same] */
#define _POSIX_C_SOURCE 200809L
#include "zero1_task.h"

#include <signal.h>

enum { STEPS = 120, WARMUP = 10, SAY_EVERY = 20, SAVE_EVERY = 40 };

static void check(adamw_mpi *ranks, adamw_status status) {
  if (status == ADAMW_STATUS_OK) return;
  fprintf(stderr, "zero1_mpi: %s\n", ranks ? ranks->error : adamw_last_error());
  MPI_Abort(MPI_COMM_WORLD, 2);
}

/* 1: decay. Weight decay is for matrices; gains, biases and embeddings are left alone. */
static int32_t decay_matrices_only(const char *name, void *user_data) {
  (void)user_data;
  return strstr(name, ".weight") != NULL;
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
  check(NULL, adamw_set_decay_filter(optimizer, decay_matrices_only, NULL));
  const adamw_schedule schedule = {.struct_size = sizeof schedule,
                                   .kind = ADAMW_SCHEDULE_COSINE_WITH_WARMUP,
                                   .lr = 3e-3,
                                   .warmup_steps = WARMUP,
                                   .total_steps = STEPS};
  check(NULL, adamw_set_lr_schedule(optimizer, &schedule));
  return optimizer;
}

static void train(adamw_mpi *ranks, long first, const char *directory, long last) {
  for (long step = first; step < STEPS; step++) {
    double mine = 0, loss = 0;
    for (int part = 0; part < PARTS; part += ranks->num_ranks) {
      int num_parts = PARTS - part < ranks->num_ranks ? PARTS - part : ranks->num_ranks;
      if (ranks->rank < num_parts) mine += task_compute_grads(step, part + ranks->rank);
      check(ranks, adamw_mpi_add_grads(ranks, num_parts));
    }
    check(ranks, adamw_mpi_step(ranks));
    if (directory && (step + 1) % SAVE_EVERY == 0) check(ranks, adamw_mpi_save(ranks, directory));
    if ((step + 1) % SAY_EVERY == 0) {
      MPI_Reduce(&mine, &loss, 1, MPI_DOUBLE, MPI_SUM, 0, MPI_COMM_WORLD);
      if (ranks->rank == 0) fprintf(stderr, "step %ld of %d: loss %.3f\n", step + 1, STEPS, loss);
    }
    if (step == last && ranks->rank == ranks->num_ranks - 1) raise(SIGKILL);
  }
}

/* FNV-1a of the bytes of all weights. */
static uint64_t hash_of(const adamw_mpi_param *params, size_t num_params) {
  uint64_t hash = 0xCBF29CE484222325u;
  for (size_t i = 0; i < num_params; i++)
    for (size_t at = 0; at < params[i].n_elements * sizeof(float); at++)
      hash = (hash ^ ((const unsigned char *)params[i].data)[at]) * 0x100000001B3u;
  return hash;
}

int main(int argc, char **argv) {
  int threads, failed = 0;
  MPI_Init_thread(&argc, &argv, MPI_THREAD_FUNNELED, &threads); /* only this thread calls MPI */
  const char *directory = argc > 1 ? argv[1] : NULL;
  const long last = argc > 2 ? atol(argv[2]) : -1;
  adamw_mpi_param params[MAX_PARAMS];
  size_t num_params = task_begin(params);
  if (num_params == 0) MPI_Abort(MPI_COMM_WORLD, 2);

  adamw_optimizer *optimizer = create_optimizer();
  adamw_mpi ranks;
  check(&ranks, adamw_mpi_init(&ranks, MPI_COMM_WORLD, optimizer, params, num_params, NULL));

  char path[4096];
  snprintf(path, sizeof path, "%s/checkpoint", directory ? directory : ".");
  if (directory && access(path, F_OK) == 0) check(&ranks, adamw_mpi_load(&ranks, directory));
  adamw_param_info info;
  check(NULL, adamw_get_param_info(optimizer, 0, &info, sizeof info));
  train(&ranks, (long)info.step, directory, last);

  if (ranks.rank == 0) {
    printf("%d processes, continued at step %llu\n", ranks.num_ranks, (unsigned long long)info.step);
    failed = task_judge();
    printf("weights hash: %016llx\n", (unsigned long long)hash_of(params, num_params));
  }
  adamw_mpi_free(&ranks);
  check(NULL, adamw_destroy(optimizer));
  task_end();
  MPI_Finalize();
  return failed;
}
