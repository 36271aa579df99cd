/* Every error is one on all ranks, names its reason, changes nothing and leaks nothing; a NaN on one rank makes all skip;
 * where memory runs out on one rank, all say so; and a step allocates nothing here. Run it on 2 ranks or more. */
#define _POSIX_C_SOURCE 200809L
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What adamw_mpi.h allocates is counted, and can fail. */
static long live, allocated, fails_at = -1;
static int may_allocate(void) { return allocated++ != fails_at; }
static void *counted(void *memory) {
  live += memory != NULL;
  return memory;
}
static void *counted_malloc(size_t n) { return may_allocate() ? counted(malloc(n)) : NULL; }
static void *counted_calloc(size_t n, size_t of) { return may_allocate() ? counted(calloc(n, of)) : NULL; }
static void *counted_realloc(void *old, size_t n) {
  if (!may_allocate()) return NULL;
  live -= old != NULL;
  return counted(realloc(old, n));
}
static void counted_free(void *memory) {
  live -= memory != NULL;
  free(memory);
}
#define malloc counted_malloc
#define calloc counted_calloc
#define realloc counted_realloc
#define free counted_free
#include <adamw_mpi.h>
#undef malloc
#undef calloc
#undef realloc
#undef free

#include "model.h"
#include <math.h>

static int rank, num_ranks;
static const char *row;

static void holds(int line, bool condition, const char *what, const char *text) {
  if (condition) return;
  fprintf(stderr, "refusals.c:%d: rank %d, %s: not so: %s (%s)\n", line, rank, row, what, text);
  MPI_Abort(MPI_COMM_WORLD, 1);
}
#define HOLDS(condition) holds(__LINE__, (condition), #condition, ranks.error)

typedef struct world {
  model m;
  adamw_optimizer *optimizer;
  adamw_mpi_param params[PARAMS];
  size_t num_params;
  adamw_mpi_options options;
} world;
static adamw_mpi ranks;

static void world_new(world *w, adamw_nonfinite nonfinite) {
  memset(w, 0, sizeof *w);
  w->optimizer = create(formats, nonfinite);
  w->num_params = PARAMS;
  model_new(&w->m, formats);
  for (int i = 0; i < PARAMS; i++) {
    w->params[i].name = names[i];
    w->params[i].data = w->m.values[i];
    w->params[i].grad = w->m.grads[i];
    w->params[i].n_elements = lengths[i];
    w->params[i].group = group_of(i);
  }
  model_compute_grads(&w->m, 0, rank);
}

static void world_end(world *w) {
  adamw_mpi_free(&ranks);
  check(adamw_destroy(w->optimizer));
  model_free(&w->m);
  HOLDS(live == 0);
}

static adamw_status init(world *w) {
  return adamw_mpi_init(&ranks, MPI_COMM_WORLD, w->optimizer, w->params, w->num_params, &w->options);
}

/* What one rank, the last, is given. */
static void null_name(world *w) { w->params[2].name = NULL; }
static void null_data(world *w) { w->params[2].data = NULL; }
static void null_grad(world *w) { w->params[2].grad = NULL; }
static void bad_dtype(world *w) { w->params[2].dtype = ADAMW_DTYPE_U8; }
static void bad_grad_dtype(world *w) { w->params[2].grad_dtype = ADAMW_DTYPE_BF16; }
static void bad_sum(world *w) { w->options.sum = 2; }
static void bad_group(world *w) { w->params[2].group = 9; }
static void same_name(world *w) { w->params[2].name = names[0]; }
static void on_device(world *w) { w->params[2].device.device_type = ADAMW_DEVICE_CUDA; }
static void other_name(world *w) { w->params[2].name = "other"; }
static void other_length(world *w) { w->params[2].n_elements--; }
static void other_group(world *w) { w->params[2].group = 1; }
static void other_regularizer(world *w) { w->params[2].regularizer = ADAMW_REGULARIZER_L2; }
static void other_number(world *w) { w->num_params--; }
static void other_align(world *w) { w->options.align = 256; }
static void other_bucket(world *w) { w->options.bucket_bytes = 256; }
static void other_sum(world *w) { w->options.sum = ADAMW_MPI_SUM_REDUCE; }
static void has_params(world *w) {
  static float x;
  uint32_t number;
  check(adamw_add_array(w->optimizer, "x", &x, 1, ADAMW_DTYPE_F32, &number));
}
static void no_optimizer(world *w) {
  check(adamw_destroy(w->optimizer));
  w->optimizer = NULL;
}

static const struct {
  const char *name;
  void (*edit)(world *w);
  adamw_status status;
  const char *text;
} lists[] = {
    {"NULL as a name", null_name, ADAMW_STATUS_INVALID_ARGUMENT, "name is NULL"},
    {"NULL as data", null_data, ADAMW_STATUS_INVALID_ARGUMENT, "\"weight\""},
    {"NULL as a gradient", null_grad, ADAMW_STATUS_INVALID_ARGUMENT, "\"weight\""},
    {"a dtype of state", bad_dtype, ADAMW_STATUS_INVALID_ARGUMENT, "dtype is none of"},
    {"a gradient of another type", bad_grad_dtype, ADAMW_STATUS_INVALID_ARGUMENT, "grad_dtype"},
    {"an unknown sum", bad_sum, ADAMW_STATUS_INVALID_ARGUMENT, "options.sum"},
    {"a name that is there", same_name, ADAMW_STATUS_MISMATCH, "params[2]"},
    {"a device", on_device, ADAMW_STATUS_UNSUPPORTED, "not CUDA-aware"},
    {"another name", other_name, ADAMW_STATUS_MISMATCH, "params[2]"},
    {"another length", other_length, ADAMW_STATUS_MISMATCH, "params[2]"},
    {"another group", other_group, ADAMW_STATUS_MISMATCH, "params[2]"},
    {"another regularizer", other_regularizer, ADAMW_STATUS_MISMATCH, "params[2]"},
    {"another number", other_number, ADAMW_STATUS_MISMATCH, "the number of parameters"},
    {"another align", other_align, ADAMW_STATUS_MISMATCH, "options.align"},
    {"another bucket", other_bucket, ADAMW_STATUS_MISMATCH, "options.bucket_bytes"},
    {"another sum", other_sum, ADAMW_STATUS_MISMATCH, "options.sum"},
    {"an optimizer with parameters", has_params, ADAMW_STATUS_INVALID_ARGUMENT, "expected none"},
    {"no optimizer", no_optimizer, ADAMW_STATUS_BAD_HANDLE, "NULL"},
};

static void refuses_lists(void) {
  for (size_t i = 0; i < sizeof lists / sizeof *lists; i++) {
    world w;
    uint32_t num = 0;
    row = lists[i].name;
    world_new(&w, ADAMW_NONFINITE_SKIP);
    uint64_t before = model_hash(&w.m);
    if (rank == num_ranks - 1) lists[i].edit(&w);
    HOLDS(init(&w) == lists[i].status);
    HOLDS(strstr(ranks.error, lists[i].text));
    HOLDS(live == 0);
    HOLDS(model_hash(&w.m) == before);
    HOLDS(rank == num_ranks - 1 || (!adamw_num_params(w.optimizer, &num) && num == 0));
    world_end(&w);
  }
  /* The same on all ranks, and wrong: what was added is taken back. */
  world w;
  uint32_t num = 1;
  row = "a group that is not there";
  world_new(&w, ADAMW_NONFINITE_SKIP);
  bad_group(&w);
  HOLDS(init(&w) == ADAMW_STATUS_NOT_FOUND || init(&w) == ADAMW_STATUS_INVALID_ARGUMENT);
  HOLDS(!adamw_num_params(w.optimizer, &num) && num == 0);
  w.params[2].group = 0;
  HOLDS(init(&w) == 0);
  HOLDS(adamw_mpi_step(&ranks) == 0);
  world_end(&w);
}

/* What the last rank does to its handle before a step. */
static void other_lr(world *w) { check(adamw_set_lr(w->optimizer, 0.02)); }
static void other_scale(world *w) { check(adamw_set_grad_scale(w->optimizer, 2)); }
static void freezes(world *w) {
  adamw_param_options options;
  check(adamw_get_param_options(w->optimizer, 2, &options, sizeof options));
  options.frozen = 1;
  check(adamw_set_param_options(w->optimizer, 2, &options));
}
static void other_eps(world *w) {
  adamw_group_config group;
  check(adamw_get_group(w->optimizer, 1, &group, sizeof group));
  group.eps = 1e-7;
  check(adamw_set_group(w->optimizer, 1, &group));
}
static const struct {
  const char *name;
  void (*edit)(world *w);
  const char *text;
} settings[] = {
    {"another lr", other_lr, "lr"},
    {"another loss scale", other_scale, "loss scale"},
    {"a frozen parameter", freezes, "\"weight\""},
    {"another eps", other_eps, "eps"},
};

static void refuses_other_settings(void) {
  for (size_t i = 0; i < sizeof settings / sizeof *settings; i++) {
    world w;
    row = settings[i].name;
    world_new(&w, ADAMW_NONFINITE_SKIP);
    HOLDS(init(&w) == 0);
    HOLDS(adamw_mpi_step(&ranks) == 0);
    uint64_t before = model_hash(&w.m);
    if (rank == num_ranks - 1) settings[i].edit(&w);
    HOLDS(adamw_mpi_step(&ranks) == ADAMW_STATUS_MISMATCH);
    HOLDS(strstr(ranks.error, settings[i].text));
    HOLDS(model_hash(&w.m) == before);
    adamw_param_info info;
    HOLDS(!adamw_get_param_info(w.optimizer, 0, &info, sizeof info) && info.step == 1);
    if (rank != num_ranks - 1) settings[i].edit(&w);
    HOLDS(adamw_mpi_step(&ranks) == 0);
    HOLDS(model_hash(&w.m) != before);
    world_end(&w);
  }
}

static int32_t add_up_alone(double *numbers, size_t count, void *user_data) {
  (void)numbers, (void)count;
  ++*(int *)user_data;
  return 0;
}

/* An init that is refused leaves the optimizer as it was: its gradients, and its all_reduce. */
static void leaves_what_it_refuses(void) {
  static float x[2], grad[2] = {1, 1};
  int n_calls = 0;
  uint32_t number;
  adamw_mpi second;
  world w;
  row = "an optimizer of the host's";
  world_new(&w, ADAMW_NONFINITE_SKIP);
  check(adamw_add_array(w.optimizer, "x", x, 2, ADAMW_DTYPE_F32, &number));
  check(adamw_set_grad_array(w.optimizer, number, grad, 2, ADAMW_DTYPE_F32));
  check(adamw_set_all_reduce(w.optimizer, add_up_alone, &n_calls));
  HOLDS(init(&w) == ADAMW_STATUS_INVALID_ARGUMENT);
  check(adamw_step(w.optimizer));
  HOLDS(n_calls > 0 && x[1] < 0);
  world_end(&w);

  row = "a second init";
  uint64_t hashes[2];
  for (int is_refused = 0; is_refused < 2; is_refused++) {
    world_new(&w, ADAMW_NONFINITE_SKIP);
    HOLDS(init(&w) == 0);
    HOLDS(!is_refused || adamw_mpi_init(&second, MPI_COMM_WORLD, w.optimizer, w.params, w.num_params,
                                        NULL) == ADAMW_STATUS_INVALID_ARGUMENT);
    for (int i = 0; i < 2; i++) HOLDS(adamw_mpi_step(&ranks) == 0);
    hashes[is_refused] = model_hash(&w.m);
    world_end(&w);
  }
  HOLDS(hashes[0] == hashes[1]);
}

/* A rank whose optimizer no call may enter: all are told, before one waits for it. */
static void tells_of_a_handle_that_cannot_step(void) {
  for (int adds = 0; adds < 2; adds++) {
    world w;
    row = adds ? "a handle that is gone behind a round" : "a handle that is gone";
    world_new(&w, ADAMW_NONFINITE_SKIP);
    HOLDS(init(&w) == 0);
    HOLDS(adamw_mpi_step(&ranks) == 0);
    if (adds) HOLDS(adamw_mpi_add_grads(&ranks, num_ranks) == 0);
    uint64_t before = model_hash(&w.m);
    if (rank == num_ranks - 1) no_optimizer(&w);
    HOLDS(adamw_mpi_step(&ranks) == ADAMW_STATUS_BAD_HANDLE);
    HOLDS(model_hash(&w.m) == before);
    HOLDS(adamw_mpi_add_grads(&ranks, num_ranks) == ADAMW_STATUS_BAD_HANDLE);
    world_end(&w);
  }
}

static void refuses_parts(void) {
  world w;
  row = "num_parts";
  world_new(&w, ADAMW_NONFINITE_SKIP);
  HOLDS(init(&w) == 0);
  HOLDS(adamw_mpi_add_grads(&ranks, 0) == ADAMW_STATUS_INVALID_ARGUMENT);
  HOLDS(adamw_mpi_add_grads(&ranks, num_ranks + 1) == ADAMW_STATUS_INVALID_ARGUMENT);
  HOLDS(adamw_mpi_add_grads(&ranks, rank ? 1 : 2) == ADAMW_STATUS_MISMATCH && strstr(ranks.error, "num_parts"));
  HOLDS(adamw_mpi_set_grad(&ranks, PARAMS, w.m.grads[0]) == ADAMW_STATUS_INVALID_ARGUMENT);
  HOLDS(adamw_mpi_set_grad(&ranks, 0, NULL) == ADAMW_STATUS_INVALID_ARGUMENT);
  HOLDS(adamw_mpi_step(&ranks) == 0);
  world_end(&w);
}

/* A NaN in the gradient of the last rank, in what the first one steps. */
static void skips_and_fails_together(void) {
  for (adamw_nonfinite nonfinite = ADAMW_NONFINITE_SKIP; nonfinite <= ADAMW_NONFINITE_FAIL; nonfinite++) {
    world w;
    adamw_step_info info;
    row = nonfinite == ADAMW_NONFINITE_SKIP ? "a NaN is skipped" : "a NaN fails";
    world_new(&w, nonfinite);
    HOLDS(init(&w) == 0);
    uint64_t before = model_hash(&w.m);
    float *first = w.m.grads[0], kept = *first;
    if (rank == num_ranks - 1) *first = NAN;
    HOLDS(adamw_mpi_step(&ranks) == (nonfinite == ADAMW_NONFINITE_SKIP ? 0 : ADAMW_STATUS_NONFINITE));
    HOLDS(nonfinite == ADAMW_NONFINITE_SKIP || strstr(ranks.error, names[0]));
    check(adamw_get_step_info(w.optimizer, &info, sizeof info));
    HOLDS(nonfinite == ADAMW_NONFINITE_FAIL || (info.skipped && info.n_nonfinite == 1));
    HOLDS(model_hash(&w.m) == before);
    *first = kept;
    HOLDS(adamw_mpi_step(&ranks) == 0);
    HOLDS(model_hash(&w.m) != before);
    world_end(&w);
  }
}

/* MPI_Ireduce may add in another order, which moves each weight by little, and all ranks alike. */
static void sums_in_any_order(void) {
  float last[2] = {0, 0};
  for (uint32_t sum = 0; sum < 2; sum++) {
    world w;
    row = "ADAMW_MPI_SUM_REDUCE";
    world_new(&w, ADAMW_NONFINITE_SKIP);
    w.options.sum = sum;
    HOLDS(init(&w) == 0);
    HOLDS(sum == 0 || num_ranks == 1 || adamw_mpi_add_grads(&ranks, 1) == ADAMW_STATUS_UNSUPPORTED);
    for (int i = 0; i < 3; i++) HOLDS(adamw_mpi_step(&ranks) == 0);
    last[sum] = ((float *)w.m.values[5])[lengths[5] - 1];
    world_end(&w);
  }
  HOLDS(fabsf(last[0] - last[1]) < 1e-5f);
}

static void allocates_in_no_step(void) {
  world w;
  row = "allocations in a step";
  world_new(&w, ADAMW_NONFINITE_SKIP);
  HOLDS(init(&w) == 0);
  HOLDS(adamw_mpi_step(&ranks) == 0);
  long before = allocated;
  for (int i = 0; i < 3; i++) {
    HOLDS(adamw_mpi_add_grads(&ranks, num_ranks) == 0);
    HOLDS(adamw_mpi_add_grads(&ranks, 1) == 0);
    HOLDS(adamw_mpi_step(&ranks) == 0);
  }
  HOLDS(num_ranks == 1 || allocated == before);
  world_end(&w);
}

/* One rank runs out of memory at each allocation in turn, until there is none left to fail. */
static void runs_out_of_memory(const char *directory) {
  row = "out of memory";
  for (long at = 0, more = 1; more; at++) {
    world w;
    world_new(&w, ADAMW_NONFINITE_SKIP);
    allocated = 0;
    fails_at = rank == num_ranks - 1 ? at : -1;
    adamw_status status = init(&w);
    if (!status) status = adamw_mpi_add_grads(&ranks, num_ranks);
    if (!status) status = adamw_mpi_step(&ranks);
    if (!status) status = adamw_mpi_save(&ranks, directory);
    if (!status) status = adamw_mpi_load(&ranks, directory);
    more = status != 0;
    HOLDS(!status || status == ADAMW_STATUS_OUT_OF_MEMORY);
    HOLDS(status || at > 5);
    fails_at = -1;
    world_end(&w);
  }
}

static void refuses_directories(const char *directory) {
  world w;
  char path[1024];
  row = "directories";
  world_new(&w, ADAMW_NONFINITE_SKIP);
  HOLDS(init(&w) == 0);
  HOLDS(adamw_mpi_step(&ranks) == 0);
  HOLDS(adamw_mpi_save(&ranks, rank ? directory : NULL) == ADAMW_STATUS_INVALID_ARGUMENT);
  HOLDS(adamw_mpi_load(&ranks, NULL) == ADAMW_STATUS_INVALID_ARGUMENT);
  HOLDS(adamw_mpi_save(&ranks, "no/such/folder") == ADAMW_STATUS_IO && strstr(ranks.error, "no/such/folder"));
  HOLDS(adamw_mpi_load(&ranks, "no-such-folder") == ADAMW_STATUS_IO && strstr(ranks.error, "no file `checkpoint`"));
  HOLDS(adamw_mpi_save(&ranks, directory) == 0);
  /* A save that fails on one rank leaves the one before. */
  snprintf(path, sizeof path, "%s/missing", directory);
  HOLDS(adamw_mpi_save(&ranks, rank == num_ranks - 1 ? path : directory) != 0 || num_ranks == 1);
  HOLDS(adamw_mpi_load(&ranks, directory) == 0);
  world_end(&w);
}

int main(int argc, char **argv) {
  MPI_Init(&argc, &argv);
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  MPI_Comm_size(MPI_COMM_WORLD, &num_ranks);
  if (argc < 2) return 2;
  refuses_lists();
  refuses_other_settings();
  leaves_what_it_refuses();
  tells_of_a_handle_that_cannot_step();
  refuses_parts();
  skips_and_fails_together();
  sums_in_any_order();
  allocates_in_no_step();
  refuses_directories(argv[1]);
  runs_out_of_memory(argv[1]);
  if (rank == 0) printf("refused as expected\n");
  MPI_Finalize();
  return 0;
}
