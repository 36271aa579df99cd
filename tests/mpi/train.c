/* Trains the model on the ranks of MPI in every format, and saves it into <directory>/<number of the format>.
 *
 * usage: train <steps> <directory> [directory to go on from]
 *        train at-once <steps> <directory>   without rounds: each rank has one part
 *        train on-device ...   the same with parameters and gradients on device 0, of which MPI says that it reads them
 *        train on-device half <where>    has each call of the driver fail on the last rank that a step makes, one a step:
 *                                         whatever comes of it, all ranks are told the same. <where>: "all" ranks have
 *                                         their parameters on the device, or the "last" alone
 *        train killed <directory>   trains and saves the f32 model until somebody ends it; prints the number of
 *                                   each process, and of each step that is saved
 *        train dies <directory> <stage> <call>    saves at step 2, then goes through the stages. At that of its calls of
 *                                            MPI from that stage on the last rank is killed. The others print the
 *                                            error that MPI gives them, if it does, and "ended"
 *        train fails <directory> <stage> <call>   the same, but the call returns an error, and none is killed */
#define _POSIX_C_SOURCE 200809L
#include "../../examples-c/cuda_driver.h"
#include "calls.h"
#include "model.h"

#include <adamw_mpi.h>
#include <dlfcn.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

static adamw_mpi ranks;
static int at_once, on_device;

/* What it says of itself depends on how an MPI was built; what it does with an address does not, where the memory of the
 * driver that stands in for a device is the host's. */
int MPIX_Query_cuda_support(void) { return on_device; }

/* An error is one on all ranks. */
static void need(adamw_status status) {
  if (!status) return;
  fprintf(stderr, "rank %d: %s\n", ranks.rank, ranks.error);
  exit(3);
}

static void start_device(void) {
  CUdevice device;
  CUcontext context;
  const char *reason = cuda_driver_start();
  if (reason) {
    fprintf(stderr, "%s\n", reason);
    exit(2);
  }
  CUDA(cuDeviceGet(&device, 0));
  CUDA(cuDevicePrimaryCtxRetain(&context, device));
  CUDA(cuCtxSetCurrent(context));
}

static void copy(void *to, const void *from, size_t n_bytes) {
  CUDA(cuMemcpyHtoDAsync((CUdeviceptr)(uintptr_t)to, from, n_bytes, NULL));
  CUDA(cuStreamSynchronize(NULL));
}

/* Where MPI and the optimizer find what the model has at `host`. */
static void *place(void *host, size_t n_bytes) {
  CUdeviceptr there;
  if (!on_device || n_bytes == 0) return host;
  CUDA(cuMemAlloc(&there, n_bytes));
  copy((void *)(uintptr_t)there, host, n_bytes);
  return (void *)(uintptr_t)there;
}

static void compute_grads(model *m, uint64_t number, int part) {
  model_compute_grads(m, number, part);
  for (int i = 0; on_device && i < PARAMS; i++)
    if (lengths[i])
      copy((void *)(uintptr_t)ranks.params[i].grad, m->grads[i], lengths[i] * size_of(m->format->grad_dtype));
}

static adamw_optimizer *start(model *m, const format *format) {
  adamw_optimizer *optimizer = create(format, ADAMW_NONFINITE_SKIP);
  adamw_mpi_param params[PARAMS];
  /* Buckets that do not divide what is exchanged. */
  const adamw_mpi_options options = {.bucket_bytes = 20000};
  model_new(m, format);
  memset(params, 0, sizeof params);
  for (int i = 0; i < PARAMS; i++) {
    params[i].name = names[i];
    params[i].data = place(m->values[i], lengths[i] * size_of(format->dtype));
    params[i].grad = place(m->grads[i], lengths[i] * size_of(format->grad_dtype));
    params[i].device.device_type = on_device ? ADAMW_DEVICE_CUDA : ADAMW_DEVICE_CPU;
    params[i].n_elements = lengths[i];
    params[i].dtype = format->dtype;
    params[i].grad_dtype = format->grad_dtype;
    params[i].group = group_of(i);
  }
  need(adamw_mpi_init(&ranks, MPI_COMM_WORLD, optimizer, params, PARAMS, &options));
  return optimizer;
}

static void step(model *m, uint64_t number) {
  if (at_once) {
    compute_grads(m, number, ranks.rank);
    need(adamw_mpi_step(&ranks));
    return;
  }
  for (int part = 0; part < PARTS; part += ranks.num_ranks) {
    int n = PARTS - part < ranks.num_ranks ? PARTS - part : ranks.num_ranks;
    if (ranks.rank < n) compute_grads(m, number, part + ranks.rank);
    need(adamw_mpi_add_grads(&ranks, n));
  }
  need(adamw_mpi_step(&ranks));
}

/* What the device has is the model's again. */
static void bring_back(model *m) {
  for (int i = 0; on_device && i < PARAMS; i++) {
    const CUdeviceptr data = (CUdeviceptr)(uintptr_t)ranks.params[i].data;
    if (lengths[i] == 0) continue;
    CUDA(cuMemcpyDtoHAsync(m->values[i], data, lengths[i] * size_of(m->format->dtype), NULL));
    CUDA(cuStreamSynchronize(NULL));
  }
}

static void end(adamw_optimizer *optimizer, model *m) {
  adamw_mpi_free(&ranks);
  check(adamw_destroy(optimizer));
  model_free(m);
}

static uint64_t steps_taken(adamw_optimizer *optimizer) {
  adamw_param_info info;
  check(adamw_get_param_info(optimizer, 0, &info, sizeof info));
  return info.step;
}

static void train_until_killed(const char *directory) {
  model m;
  adamw_optimizer *optimizer = start(&m, formats);
  char path[1024];
  printf("pid %d\n", (int)getpid());
  fflush(stdout);
  snprintf(path, sizeof path, "%s/checkpoint", directory);
  if (access(path, F_OK) == 0) need(adamw_mpi_load(&ranks, directory));
  for (uint64_t at = steps_taken(optimizer);; at++) {
    step(&m, at);
    need(adamw_mpi_save(&ranks, directory));
    if (ranks.rank == 0) {
      printf("saved %d\n", (int)at + 1);
      fflush(stdout);
    }
  }
}

/* Ends a rank by itself after an error that is MPI's, which every later call then is. */
static void need_mpi(adamw_optimizer *optimizer, model *m, adamw_status status) {
  if (!status) return;
  fprintf(stderr, "rank %d: %s\n", ranks.rank, ranks.error);
  if (status != ADAMW_MPI_STATUS_MPI || adamw_mpi_step(&ranks) != ADAMW_MPI_STATUS_MPI) exit(4);
  const int rank = ranks.rank;
  end(optimizer, m);
  printf("ended %d\n", rank);
  exit(3); /* MPI_Finalize may wait for the dead */
}

static void break_a_call(const char *directory, const char *stage, long call, int then) {
  static const char *const stages[] = {"step", "round", "save", "load", "next step"};
  model m;
  adamw_optimizer *optimizer = start(&m, formats);
  const int is_last = ranks.rank == ranks.num_ranks - 1;
  for (uint64_t at = 0; at < 2; at++) step(&m, at);
  need(adamw_mpi_save(&ranks, directory));
  model_compute_grads(&m, 2, ranks.rank);
  for (int i = 0; i < 5; i++) {
    if (strcmp(stage, stages[i]) == 0) {
      if (is_last) calls_begin(call, then);
      if (ranks.rank == 1) nanosleep(&(struct timespec){.tv_nsec = 500000000}, NULL); /* others have gone on, or want to end */
    }
    need_mpi(optimizer, &m,
             i == 1   ? adamw_mpi_add_grads(&ranks, ranks.num_ranks)
             : i == 2 ? adamw_mpi_save(&ranks, directory)
             : i == 3 ? adamw_mpi_load(&ranks, directory)
                      : adamw_mpi_step(&ranks));
  }
  exit(5); /* nobody has noticed */
}

static int differs(int value) {
  int most = value, least = value;
  MPI_Allreduce(MPI_IN_PLACE, &most, 1, MPI_INT, MPI_MAX, MPI_COMM_WORLD);
  MPI_Allreduce(MPI_IN_PLACE, &least, 1, MPI_INT, MPI_MIN, MPI_COMM_WORLD);
  return most != least;
}

static void fail_each_call(int only_last) {
  int rank, num_ranks;
  int (*set)(const char *, const char *) = NULL;
  size_t (*take_log)(char *, size_t) = NULL;
  void *driver = dlopen("libcuda.so", RTLD_NOW);
  static char log[1 << 20];
  char fails[64];
  int ends[3] = {0}, is_over = 0;
  if (driver) *(void **)&set = dlsym(driver, "standin_set");
  if (driver) *(void **)&take_log = dlsym(driver, "standin_log_take");
  if (!set || !take_log) exit(2);
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  MPI_Comm_size(MPI_COMM_WORLD, &num_ranks);
  const int is_last = rank == num_ranks - 1;
  on_device = is_last || !only_last;
  for (int nth = 1; !is_over; nth++) {
    model m;
    adamw_optimizer *optimizer = start(&m, formats);
    step(&m, 0);
    compute_grads(&m, 1, ranks.rank);
    take_log(log, sizeof log);
    snprintf(fails, sizeof fails, "*:%d:1", nth);
    if (is_last) set("fail", fails);
    const adamw_status stepped = adamw_mpi_step(&ranks);
    set("fail", "");
    take_log(log, sizeof log);
    is_over = is_last && !strstr(log, "-> 1\n");
    MPI_Bcast(&is_over, 1, MPI_INT, num_ranks - 1, MPI_COMM_WORLD);
    const adamw_status again = adamw_mpi_step(&ranks);
    if (differs((int)stepped) || differs((int)again) || (again && (!stepped || again != ADAMW_STATUS_POISONED))) {
      fprintf(stderr, "rank %d, call %d: %d, then %d: %s\n", ranks.rank, nth, (int)stepped, (int)again, ranks.error);
      MPI_Abort(MPI_COMM_WORLD, 1);
    }
    if (again && adamw_mpi_save(&ranks, "half") != ADAMW_STATUS_POISONED) MPI_Abort(MPI_COMM_WORLD, 1);
    bring_back(&m);
    uint64_t hash = model_hash(&m);
    if (!again && differs((int)(hash & 0x7fffffff))) {
      fprintf(stderr, "rank %d, call %d: other parameters\n", ranks.rank, nth);
      MPI_Abort(MPI_COMM_WORLD, 1);
    }
    ends[again ? 2 : stepped ? 1 : 0]++;
    end(optimizer, &m);
  }
  if (ranks.rank == 0) printf("%d stepped, %d undone, %d half\n", ends[0], ends[1], ends[2]);
  MPI_Finalize();
  exit(0);
}

int main(int argc, char **argv) {
  MPI_Init(&argc, &argv);
  if (argc < 3) return 2;
  if (strcmp(argv[1], "killed") == 0) train_until_killed(argv[2]);
  if (strcmp(argv[1], "dies") == 0 && argc > 4) break_a_call(argv[2], argv[3], atol(argv[4]), CALL_DIES);
  if (strcmp(argv[1], "fails") == 0 && argc > 4) break_a_call(argv[2], argv[3], atol(argv[4]), CALL_FAILS);
  on_device = strcmp(argv[1], "on-device") == 0;
  if (on_device) start_device();
  argv += on_device;
  argc -= on_device;
  if (on_device && strcmp(argv[1], "half") == 0) fail_each_call(strcmp(argv[2], "last") == 0);
  at_once = strcmp(argv[1], "at-once") == 0;
  argv += at_once;
  argc -= at_once;
  mkdir(argv[2], 0777);
  for (size_t f = 0; f < num_formats; f++) {
    model m;
    adamw_optimizer *optimizer = start(&m, &formats[f]);
    char directory[512];
    snprintf(directory, sizeof directory, "%s/%d", argc > 3 ? argv[3] : "", (int)f);
    if (argc > 3) need(adamw_mpi_load(&ranks, directory));
    for (uint64_t at = steps_taken(optimizer); at < strtoull(argv[1], NULL, 10); at++) step(&m, at);
    snprintf(directory, sizeof directory, "%s/%d", argv[2], (int)f);
    need(adamw_mpi_save(&ranks, directory));
    bring_back(&m);
    /* Every rank has all parameters. */
    uint64_t hash = model_hash(&m), all[2], mine[2] = {hash, ~hash};
    MPI_Allreduce(mine, all, 2, MPI_UINT64_T, MPI_MAX, MPI_COMM_WORLD);
    if (all[0] != ~all[1]) {
      fprintf(stderr, "%s: rank %d has other parameters\n", m.format->name, ranks.rank);
      MPI_Abort(MPI_COMM_WORLD, 1);
    }
    end(optimizer, &m);
  }
  MPI_Finalize();
  return 0;
}
