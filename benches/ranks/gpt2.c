/* One rank of MPI with the parameters of GPT-2 124M: for each byte that it reads, it takes a step with adamw_mpi.h.
 *
 * usage: mpirun -n N gpt2 DIRECTORY LENGTH...
 *
 * It reads from the FIFO DIRECTORY/<rank>, so that it sleeps meanwhile. `s`: a whole step, whose seconds it prints, on the
 * rank that takes longest. `p`: the same in phases, one after the other, of which each ends on all ranks before the next:
 * the seconds of add_grads, of the step, and of all_gather. `q`: the end. */
#define _POSIX_C_SOURCE 200809L
#include <adamw_mpi.h>

enum { MOST = 200 };
static adamw_mpi ranks;
static adamw_mpi_param params[MOST];
static char names[MOST][8];

static void need(int is_so, const char *text) {
  if (is_so) return;
  fprintf(stderr, "%s\n", text);
  MPI_Abort(MPI_COMM_WORLD, 2);
}

static float *filled(uint64_t n, float value) {
  float *values = malloc(n * sizeof *values);
  need(values != NULL, "out of memory");
  for (uint64_t i = 0; i < n; i++) values[i] = value;
  return values;
}

static double since(double *before) {
  double now = MPI_Wtime(), taken = now - *before, longest = 0;
  MPI_Allreduce(&taken, &longest, 1, MPI_DOUBLE, MPI_MAX, ranks.comm);
  *before = MPI_Wtime();
  return longest;
}

int main(int argc, char **argv) {
  char path[4096], command;
  adamw_config config;
  adamw_optimizer *optimizer;
  MPI_Init(&argc, &argv);
  MPI_Comm_rank(MPI_COMM_WORLD, &ranks.rank);
  need(argc > 2 && argc - 2 <= MOST, "usage");
  snprintf(path, sizeof path, "%s/%d", argv[1], ranks.rank);
  const int num_params = argc - 2;
  for (int i = 0; i < num_params; i++) {
    params[i].n_elements = strtoull(argv[2 + i], NULL, 10);
    snprintf(names[i], sizeof names[i], "p%d", i);
    params[i].name = names[i];
    params[i].data = filled(params[i].n_elements, 0.5f);
    params[i].grad = filled(params[i].n_elements, 0.01f * (float)(1 + ranks.rank));
  }
  need(adamw_config_init(&config, sizeof config) == 0, "config");
  config.num_threads = 1;
  config.lr = 1e-3;
  config.weight_decay = 0.01;
  need(adamw_create(&config, &optimizer) == 0, adamw_last_error());
  need(adamw_mpi_init(&ranks, MPI_COMM_WORLD, optimizer, params, (size_t)num_params, NULL) == 0, ranks.error);
  int commands = open(path, O_RDONLY);
  need(commands >= 0, path);
  while (read(commands, &command, 1) == 1 && command != 'q') {
    MPI_Barrier(ranks.comm);
    double before = MPI_Wtime(), grads = 0, step = 0, gather = 0;
    if (command == 's') {
      need(adamw_mpi_step(&ranks) == 0, ranks.error);
      step = since(&before);
    } else {
      need(adamw_mpi_add_grads(&ranks, ranks.num_ranks) == 0, ranks.error);
      grads = since(&before);
      need(adamw_step(optimizer) == 0, adamw_last_error());
      step = since(&before);
      ranks.has_sums = 0;
      need(adamw_mpi_all_gather(&ranks) == 0, ranks.error);
      gather = since(&before);
    }
    if (ranks.rank == 0) {
      printf("%.6f %.6f %.6f\n", grads, step, gather);
      fflush(stdout);
    }
  }
  adamw_mpi_free(&ranks);
  adamw_destroy(optimizer);
  for (int i = 0; i < num_params; i++) {
    free(params[i].data);
    free((void *)params[i].grad);
  }
  MPI_Finalize();
  return 0;
}
