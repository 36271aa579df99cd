/* The time of each phase of a step on the ranks of MPI, and of what they are made of: the medians of some rounds, on the
 * rank that takes longest.
 *
 * usage: mpirun -n N step <elements> <f32|split|8bit> [unclipped]
 *
 * It prints: ranks, format, elements, clipped or unclipped, and in milliseconds add_grads, step, all_gather, and
 * adamw_mpi_step, which does the three at once; what that saves, as a share of add_grads and all_gather, by rounds: the
 * median and the quartiles; the bytes that a rank sends in each direction of a phase; and, in GB/s for each rank, what it
 * receives while it sends as much, and the step from main memory that MPI has no part in. */
#define _POSIX_C_SOURCE 200809L
#include <adamw_mpi.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ROUNDS = 11, MESSAGE = 256 << 10, ON_THE_WAY = 8 };
enum { GRADS, STEP, GATHER, WHOLE, LINK, LOCAL, PHASES };

static adamw_mpi ranks;

static void need(adamw_status status, const char *text) {
  if (!status) return;
  fprintf(stderr, "%s\n", text);
  MPI_Abort(MPI_COMM_WORLD, 2);
}

static int ascending(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

/* All ranks send `bytes` to every other and receive as much, some messages at a time. */
static void exchange(char *from, char *to, size_t bytes) {
  MPI_Request requests[ON_THE_WAY][2];
  for (int i = 0; i < ON_THE_WAY; i++) requests[i][0] = requests[i][1] = MPI_REQUEST_NULL;
  for (int i = 1; i < ranks.num_ranks; i++)
    for (size_t at = 0; at < bytes; at += MESSAGE) {
      MPI_Request *next = requests[at / MESSAGE % ON_THE_WAY];
      int n = (int)(bytes - at < MESSAGE ? bytes - at : MESSAGE);
      MPI_Waitall(2, next, MPI_STATUSES_IGNORE);
      MPI_Irecv(to + at, n, MPI_BYTE, (ranks.rank + ranks.num_ranks - i) % ranks.num_ranks, 9, ranks.comm, &next[0]);
      MPI_Isend(from + at, n, MPI_BYTE, (ranks.rank + i) % ranks.num_ranks, 9, ranks.comm, &next[1]);
    }
  for (int i = 0; i < ON_THE_WAY; i++) MPI_Waitall(2, requests[i], MPI_STATUSES_IGNORE);
}

/* The seconds of a phase, on the rank that takes longest. */
static double measure(int phase, adamw_optimizer *optimizer, char *grads, char *received, size_t share) {
  double taken, longest;
  MPI_Barrier(ranks.comm);
  taken = MPI_Wtime();
  if (phase == GRADS) need(adamw_mpi_add_grads(&ranks, ranks.num_ranks), ranks.error);
  if (phase == STEP || phase == LOCAL) need(adamw_step(optimizer), adamw_last_error());
  if (phase == GATHER) need(adamw_mpi_all_gather(&ranks), ranks.error);
  if (phase == WHOLE) need(adamw_mpi_step(&ranks), ranks.error);
  if (phase == LINK) exchange(grads, received, share);
  taken = MPI_Wtime() - taken;
  ranks.has_sums = 0;
  MPI_Allreduce(&taken, &longest, 1, MPI_DOUBLE, MPI_MAX, ranks.comm);
  return longest;
}

int main(int argc, char **argv) {
  MPI_Init(&argc, &argv);
  if (argc < 3) return 2;
  const uint64_t n = strtoull(argv[1], NULL, 10);
  const int is_clipped = argc < 4, in_bf16 = strcmp(argv[2], "f32") != 0;
  const size_t size = in_bf16 ? 2 : 4;
  adamw_config config;
  adamw_optimizer *optimizer;
  need(adamw_config_init(&config, sizeof config), "config");
  config.num_threads = 1;
  config.multi_precision = (uint32_t)in_bf16;
  config.precision = in_bf16 ? ADAMW_PRECISION_SPLIT : ADAMW_PRECISION_DEFAULT;
  config.moments = strcmp(argv[2], "8bit") == 0 ? ADAMW_MOMENTS_8BIT : ADAMW_MOMENTS_F32;
  config.clip = is_clipped ? ADAMW_CLIP_GLOBAL_NORM : ADAMW_CLIP_NONE;
  config.clip_norm = is_clipped ? 1 : 0;
  need(adamw_create(&config, &optimizer), "create");
  char *values = malloc(n * size), *grads = malloc(n * size), *received = malloc(n * size);
  if (!values || !grads || !received) return 2;
  for (uint64_t i = 0; i < n; i++) { /* of all magnitudes, none subnormal */
    float value = (float)(i % 1009 + 1) / 512;
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    uint16_t half = (uint16_t)(bits >> 16);
    memcpy(values + i * size, in_bf16 ? (void *)&half : (void *)&value, size);
    memcpy(grads + i * size, in_bf16 ? (void *)&half : (void *)&value, size);
  }
  memset(received, 1, n * size);
  adamw_mpi_param param;
  memset(&param, 0, sizeof param);
  param.name = "weights";
  param.data = values;
  param.grad = grads;
  param.n_elements = n;
  param.dtype = in_bf16 ? ADAMW_DTYPE_BF16 : ADAMW_DTYPE_F32;
  need(adamw_mpi_init(&ranks, MPI_COMM_WORLD, optimizer, &param, 1, NULL), ranks.error);

  double times[PHASES][ROUNDS + 1], hidden[ROUNDS + 1], medians[PHASES];
  const size_t share = n / (size_t)ranks.num_ranks * size;
  for (int round = 0; round < ROUNDS + 1; round++) /* the first warms up */
    for (int phase = 0; phase < LOCAL; phase++) times[phase][round] = measure(phase, optimizer, grads, received, share);
  /* Not before: without it, steps do not go on piece by piece any more, either. */
  need(adamw_set_all_reduce(optimizer, NULL, NULL), "all_reduce");
  for (int round = 0; round < ROUNDS + 1; round++) times[LOCAL][round] = measure(LOCAL, optimizer, grads, received, share);
  for (int round = 1; round <= ROUNDS; round++) {
    double moving = times[GRADS][round] + times[GATHER][round];
    hidden[round] = (moving + times[STEP][round] - times[WHOLE][round]) / moving;
  }
  qsort(hidden + 1, ROUNDS, sizeof(double), ascending);
  for (int phase = 0; phase < PHASES; phase++) {
    qsort(times[phase] + 1, ROUNDS, sizeof(double), ascending);
    medians[phase] = times[phase][1 + ROUNDS / 2];
  }
  double sent = (double)share * (ranks.num_ranks - 1);
  double moved = (in_bf16 ? config.moments == ADAMW_MOMENTS_8BIT ? 20 : 32 : 32) * (double)n / ranks.num_ranks;
  if (ranks.rank == 0)
    printf("%d %s %llu %s %.1f %.1f %.1f %.1f %.3f %.3f %.3f %.0f %.3f %.2f\n", ranks.num_ranks, argv[2],
           (unsigned long long)n, is_clipped ? "clipped" : "unclipped", 1e3 * medians[GRADS], 1e3 * medians[STEP],
           1e3 * medians[GATHER], 1e3 * medians[WHOLE], hidden[1 + ROUNDS / 2], hidden[1 + ROUNDS / 4],
           hidden[ROUNDS - ROUNDS / 4], sent, sent / medians[LINK] / 1e9, moved / medians[LOCAL] / 1e9);
  adamw_mpi_free(&ranks);
  adamw_destroy(optimizer);
  free(values);
  free(grads);
  free(received);
  MPI_Finalize();
  return 0;
}
