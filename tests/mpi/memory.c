/* Prints how many bytes this process has taken for each element of a model of 16 Mi f32 elements, beyond the parameters and
 * the gradients: on the rank that has taken most. */
#define _POSIX_C_SOURCE 200809L
#include <adamw_mpi.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { N = 16 << 20 };

static double resident(void) {
  long pages = 0, all;
  FILE *file = fopen("/proc/self/statm", "r");
  if (!file || fscanf(file, "%ld %ld", &all, &pages) != 2) exit(2);
  fclose(file);
  return (double)pages * (double)sysconf(_SC_PAGESIZE);
}

int main(int argc, char **argv) {
  MPI_Init(&argc, &argv);
  float *values = malloc(N * sizeof *values), *grads = malloc(N * sizeof *grads);
  if (!values || !grads) return 2;
  for (int i = 0; i < N; i++) values[i] = grads[i] = 1.0f / (float)(i + 1);
  adamw_optimizer *optimizer;
  adamw_config config;
  adamw_mpi ranks;
  if (adamw_config_init(&config, sizeof config)) return 2;
  config.num_threads = 1;
  adamw_mpi_param param;
  memset(&param, 0, sizeof param);
  param.name = "weights";
  param.data = values;
  param.grad = grads;
  param.n_elements = N;
  if (adamw_create(&config, &optimizer)) return 2;
  MPI_Barrier(MPI_COMM_WORLD); /* what MPI takes for itself at first is not counted */
  double before = resident();
  if (adamw_mpi_init(&ranks, MPI_COMM_WORLD, optimizer, &param, 1, NULL) || adamw_mpi_step(&ranks) ||
      adamw_mpi_step(&ranks)) {
    fprintf(stderr, "%s\n", ranks.error);
    return 2;
  }
  double taken = (resident() - before) / N, most = 0;
  MPI_Reduce(&taken, &most, 1, MPI_DOUBLE, MPI_MAX, 0, MPI_COMM_WORLD);
  if (ranks.rank == 0) printf("%.3f\n", most);
  adamw_mpi_free(&ranks);
  adamw_destroy(optimizer);
  free(values);
  free(grads);
  MPI_Finalize();
  return 0;
}
