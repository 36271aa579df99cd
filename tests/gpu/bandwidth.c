/* How fast a step is on a device: the bytes that it must move over its time, as queued up call by call and as a graph, beside a copy
 * in the device's memory that moves as many. Prints how long the first and the second handle take to open the device, and a Markdown
 * table if there are numbers of elements; behind it how much of the copies an offloaded step hides. (tests/gpu/bundle.sh builds it, tests/gpu/run.sh runs it.)
 * usage: bandwidth [elements]... */
#include "cuda_driver.h"
#include <adamw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { ROUNDS = 11, STEPS = 10 }; /* of a round, each after the other */

/* What a step is asked to do. */
typedef enum task { DENSE, ZEROS, CLIPPED, SPARSE, OFFLOADED } task;
enum { WIDTH = 64, LISTED = 8 }; /* of the rows of a sparse gradient's parameter; one row in so many is listed */

typedef struct format {
  const char *name;
  uint8_t code, bits; /* DLPack's, of parameters and gradients */
  uint32_t multi_precision;
  adamw_precision precision;
  adamw_moments moments;
  double traffic; /* bytes that a step reads and writes for an element: docs/performance.md */
  task task;
} format;

#define F32 2, 32, 0, ADAMW_PRECISION_DEFAULT
#define BF16(precision) 4, 16, 0, precision
static const format formats[] = {
    {"f32", F32, ADAMW_MOMENTS_F32, 28, DENSE},
    {"bf16, master", 4, 16, 1, ADAMW_PRECISION_DEFAULT, ADAMW_MOMENTS_F32, 28, DENSE},
    {"bf16, remainder", BF16(ADAMW_PRECISION_SPLIT), ADAMW_MOMENTS_F32, 26, DENSE},
    {"bf16, stochastic", BF16(ADAMW_PRECISION_STOCHASTIC), ADAMW_MOMENTS_F32, 22, DENSE},
    {"f32, bf16 moments", F32, ADAMW_MOMENTS_BF16, 20, DENSE},
    {"bf16, stochastic, bf16 moments", BF16(ADAMW_PRECISION_STOCHASTIC), ADAMW_MOMENTS_BF16, 14, DENSE},
    {"f32, 8-bit moments", F32, ADAMW_MOMENTS_8BIT, 16, DENSE},
    {"bf16, remainder, 8-bit moments", BF16(ADAMW_PRECISION_SPLIT), ADAMW_MOMENTS_8BIT, 14, DENSE},
    {"f32, 4-bit moments", F32, ADAMW_MOMENTS_4BIT, 14, DENSE},
    {"bf16, remainder, 4-bit moments", BF16(ADAMW_PRECISION_SPLIT), ADAMW_MOMENTS_4BIT, 12, DENSE},
    {"f32, gradients of zero", F32, ADAMW_MOMENTS_F32, 28, ZEROS},
    {"f32, global norm", F32, ADAMW_MOMENTS_F32, 32, CLIPPED},
    {"f32, one row of 64 in 8", F32, ADAMW_MOMENTS_F32, 28. / LISTED, SPARSE},
    {"f32, offloaded", F32, ADAMW_MOMENTS_F32, 28, OFFLOADED},
};
static const int64_t many[] = {1000, 10000}; /* tensors, of the first format */

static CUstream stream;
static CUevent start, end;

static void check(adamw_status status) {
  if (status == ADAMW_STATUS_OK) return;
  fprintf(stderr, "%s: %s\n", adamw_status_name(status), adamw_last_error());
  exit(1);
}

static void *pointer(CUdeviceptr address) { return (void *)(uintptr_t)address; }

/* 0: there is not as much memory. Every byte is 0x3c, which makes f32 and bf16 0.0115. */
static CUdeviceptr allocate(size_t n_bytes) {
  CUdeviceptr address;
  if (cuMemAlloc(&address, n_bytes)) return 0;
  CUDA(cuMemsetD8Async(address, 0x3c, n_bytes, stream));
  return address;
}

/* What is timed. */
typedef struct work {
  adamw_optimizer *optimizer;
  CUgraphExec graph;
  CUdeviceptr from, to;
  size_t n_bytes;
  void *host;
} work;

static void step(const work *work) { check(adamw_step(work->optimizer)); }
static void launch(const work *work) { CUDA(cuGraphLaunch(work->graph, stream)); }
static void copy(const work *work) { CUDA(cuMemcpyDtoDAsync(work->to, work->from, work->n_bytes, stream)); }

static int compare(const void *a, const void *b) {
  const float *left = a, *right = b;
  return (*left > *right) - (*left < *right);
}

/* The median over the rounds, after one that is not counted. */
static double seconds(void (*once)(const work *), const work *work) {
  float milliseconds[ROUNDS + 1];
  for (int round = 0; round <= ROUNDS; round++) {
    CUDA(cuEventRecord(start, stream));
    for (int i = 0; i < STEPS; i++) once(work);
    CUDA(cuEventRecord(end, stream));
    CUDA(cuStreamSynchronize(stream));
    CUDA(cuEventElapsedTime(&milliseconds[round], start, end));
  }
  qsort(milliseconds + 1, ROUNDS, sizeof(float), compare);
  return milliseconds[1 + ROUNDS / 2] / 1e3 / STEPS;
}

/* Bytes a second, read and written, of a copy that moves so many; of a smaller one where memory is short. */
static double copy_speed(size_t n_bytes) {
  work work = {.n_bytes = n_bytes / 2};
  while (!(work.to = allocate(2 * work.n_bytes))) work.n_bytes /= 2;
  work.from = work.to + work.n_bytes;
  double speed = 2 * (double)work.n_bytes / seconds(copy, &work);
  CUDA(cuMemFree(work.to));
  return speed;
}

/* Sets the first rows of a parameter, each once. They are listed in the order of a generator that visits all. */
static void set_rows(adamw_optimizer *optimizer, uint32_t number, int64_t n, CUdeviceptr grads, CUdeviceptr rows) {
  int64_t shape[2] = {n / WIDTH / LISTED, WIDTH}, *listed = malloc((size_t)shape[0] * sizeof *listed);
  if (!listed) exit(1);
  for (int64_t i = 0, row = 0; i < shape[0]; i++, row = (row + 7919) % shape[0]) listed[i] = row * LISTED;
  CUDA(cuMemcpyHtoDAsync(rows, listed, (size_t)shape[0] * sizeof *listed, stream));
  CUDA(cuStreamSynchronize(stream));
  free(listed);
  adamw_tensor numbers = {pointer(rows), {2, 0}, 1, {0, 64, 1}, shape, NULL, 0};
  adamw_tensor values = {pointer(grads), {2, 0}, 2, {2, 32, 1}, shape, NULL, 0};
  check(adamw_set_sparse_grad(optimizer, number, &numbers, &values));
}

/* An optimizer of so many tensors, cut from one parameter and one gradient. NULL: they do not fit. */
static adamw_optimizer *create(const format *format, int64_t n_tensors, int64_t n, CUdeviceptr params, CUdeviceptr grads,
                               CUdeviceptr rows) {
  adamw_optimizer *optimizer;
  adamw_config config;
  check(adamw_config_init(&config, sizeof config));
  config.multi_precision = format->multi_precision;
  config.precision = format->precision;
  config.moments = format->moments;
  if (format->task == CLIPPED) config.clip = ADAMW_CLIP_GLOBAL_NORM, config.clip_norm = 1;
  if (format->task == SPARSE) config.lazy_mode = ADAMW_LAZY_ROWS;
  check(adamw_create(&config, &optimizer));
  for (int64_t i = 0; i < n_tensors; i++) {
    char name[32];
    uint32_t number;
    size_t offset = (size_t)(i * n) * format->bits / 8;
    adamw_tensor param = {pointer(params + offset), {2, 0}, 1, {format->code, format->bits, 1}, &n, NULL, 0};
    adamw_tensor grad = {pointer(grads + offset), {2, 0}, 1, {format->code, format->bits, 1}, &n, NULL, 0};
    int64_t shape[2] = {n / WIDTH, WIDTH};
    if (format->task == SPARSE) param.ndim = 2, param.shape = shape;
    adamw_param_config added = {.struct_size = sizeof added, .name = name, .param = &param};
    added.offload = format->task == OFFLOADED;
    snprintf(name, sizeof name, "w%d", (int)i);
    adamw_status status = adamw_add_param(optimizer, &added, &number);
    if (status == ADAMW_STATUS_OUT_OF_MEMORY) {
      check(adamw_destroy(optimizer));
      return NULL;
    }
    check(status);
    if (format->task == SPARSE)
      set_rows(optimizer, number, n, grads, rows);
    else
      check(adamw_set_grad(optimizer, number, &grad));
  }
  check(adamw_set_stream(optimizer, stream));
  return optimizer;
}

static CUgraphExec capture(adamw_optimizer *optimizer, CUdeviceptr lr) {
  CUgraph graph;
  CUgraphExec executable;
  adamw_device_inputs inputs = {.struct_size = sizeof inputs, .lr = pointer(lr)};
  check(adamw_set_device_inputs(optimizer, &inputs));
  check(adamw_prepare(optimizer));
  CUDA(cuStreamBeginCapture(stream, CU_STREAM_CAPTURE_MODE_GLOBAL));
  check(adamw_step(optimizer));
  CUDA(cuStreamEndCapture(stream, &graph));
  CUDA(cuGraphInstantiateWithFlags(&executable, graph, 0));
  CUDA(cuGraphDestroy(graph));
  return executable;
}

static void measure(const format *format, int64_t n_elements, int64_t n_tensors) {
  size_t n_bytes = (size_t)n_elements * format->bits / 8, row_bytes = (size_t)(n_elements / WIDTH / LISTED * 8 + 8);
  double moved = (double)n_elements * format->traffic;
  printf("| %s | %lld | %lld | ", format->name, (long long)n_elements, (long long)n_tensors);
  double copied = copy_speed((size_t)moved);
  CUdeviceptr params = allocate(n_bytes), grads = params ? allocate(n_bytes) : 0, lr = grads ? allocate(4) : 0;
  CUdeviceptr rows = lr ? allocate(row_bytes) : 0;
  work work = {0};
  if (rows && format->task == ZEROS) CUDA(cuMemsetD8Async(grads, 0, n_bytes, stream));
  if (rows) work.optimizer = create(format, n_tensors, n_elements / n_tensors, params, grads, rows);
  if (work.optimizer) {
    double called = seconds(step, &work);
    printf("%.4f | %.1f | ", called * 1e3, moved / called / 1e9);
    if (format->task == OFFLOADED) { /* the processor's part cannot be captured */
      printf("- ");
    } else {
      work.graph = capture(work.optimizer, lr);
      printf("%.4f ", seconds(launch, &work) * 1e3);
      CUDA(cuGraphExecDestroy(work.graph)); /* before what it launches is unloaded */
    }
    printf("| %.1f | %.2f |\n", copied / 1e9, moved / called / copied);
    check(adamw_destroy(work.optimizer));
  } else {
    printf("does not fit | - | - | %.1f | - |\n", copied / 1e9);
  }
  CUdeviceptr all[] = {params, grads, lr, rows};
  for (size_t i = 0; i < sizeof all / sizeof *all; i++) CUDA(cuMemFree(all[i]));
  fflush(stdout);
}

static double now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

/* The median of three, after one that is not counted, until the stream is idle. */
static double seconds_of_both(void (*once)(const work *), const work *work) {
  float times[4];
  for (int i = 0; i < 4; i++) {
    double began = now();
    once(work);
    CUDA(cuStreamSynchronize(stream));
    times[i] = (float)(now() - began);
  }
  qsort(times + 1, 3, sizeof(float), compare);
  return times[2];
}

/* A gradient comes down, and a parameter goes up. */
static void copy_both(const work *work) {
  CUDA(cuMemcpyDtoHAsync(work->host, work->from, work->n_bytes, stream));
  CUDA(cuMemcpyHtoDAsync(work->to, work->host, work->n_bytes, stream));
}

/* How much of its copies an offloaded step hides behind the processor's work and behind each other. */
static void measure_hidden(const format *format, int64_t n) {
  size_t n_bytes = (size_t)n * sizeof(float);
  work offloaded = {0}, host = {0}, copies = {.n_bytes = n_bytes};
  float *param = malloc(n_bytes), *grad = malloc(n_bytes);
  copies.to = allocate(n_bytes), copies.from = copies.to ? allocate(n_bytes) : 0;
  int fits = param && grad && copies.from && !cuMemHostAlloc(&copies.host, n_bytes, 0);
  if (fits) offloaded.optimizer = create(format, 1, n, copies.to, copies.from, 0);
  if (offloaded.optimizer) {
    uint32_t number;
    adamw_offload_info info;
    double copied = seconds_of_both(copy_both, &copies), step_time = seconds_of_both(step, &offloaded);
    check(adamw_set_offload_timing(offloaded.optimizer, 1));
    step(&offloaded);
    check(adamw_get_offload_info(offloaded.optimizer, &info, sizeof info));
    check(adamw_destroy(offloaded.optimizer));
    memset(param, 0x3c, n_bytes), memset(grad, 0x3c, n_bytes); /* as on the device */
    check(adamw_create(NULL, &host.optimizer));
    check(adamw_add_array(host.optimizer, "w", param, (uint64_t)n, ADAMW_DTYPE_F32, &number));
    check(adamw_set_grad_array(host.optimizer, number, grad, (uint64_t)n, ADAMW_DTYPE_F32));
    double stepped = seconds_of_both(step, &host);
    check(adamw_destroy(host.optimizer));
    printf("Offloaded, %lld elements: %.3f ms a step. The processor's work alone takes %.3f, the copies alone, one after the other, %.3f: "
           "%.0f %% of them are hidden.\n",
           (long long)n, step_time * 1e3, stepped * 1e3, copied * 1e3, 100 * (1 - (step_time - stepped) / copied));
    printf("The library's own times of one more step: gradients came down in %.3f ms, parameters went up in %.3f, the processor worked for "
           "%.3f, and nothing was stepped for %.3f: %.0f %% are hidden.\n",
           info.seconds_down * 1e3, info.seconds_up * 1e3, info.seconds_worked * 1e3, info.seconds_waited * 1e3, 100 * info.hidden);
  } else {
    printf("Offloaded, %lld elements: does not fit.\n", (long long)n);
  }
  if (copies.host) CUDA(cuMemFreeHost(copies.host));
  CUDA(cuMemFree(copies.from));
  CUDA(cuMemFree(copies.to));
  free(param), free(grad);
  fflush(stdout);
}

/* Milliseconds until a handle has its first parameter on the device. */
static double opening(adamw_optimizer **optimizer, CUdeviceptr memory) {
  double began = now();
  *optimizer = create(&formats[0], 1, 1, memory, memory + 4, 0);
  return (now() - began) * 1e3;
}

static void measure_opening(void) {
  adamw_optimizer *first, *second;
  CUdeviceptr memory = allocate(8);
  double cold = opening(&first, memory), warm = opening(&second, memory);
  printf("The first handle of the process opened the device within %.1f ms, the second within %.1f ms.\n\n", cold, warm);
  check(adamw_destroy(first));
  check(adamw_destroy(second));
  CUDA(cuMemFree(memory));
}

int main(int argc, char **argv) {
  CUdevice device;
  CUcontext context;
  const char *missing = cuda_driver_start();
  if (missing) {
    fprintf(stderr, "%s\n", missing);
    return 1;
  }
  CUDA(cuDeviceGet(&device, 0));
  CUDA(cuDevicePrimaryCtxRetain(&context, device));
  CUDA(cuCtxSetCurrent(context));
  CUDA(cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING));
  CUDA(cuEventCreate(&start, 0));
  CUDA(cuEventCreate(&end, 0));
  measure_opening();
  if (argc > 1)
    printf("| parameters | elements | tensors | step, ms | GB/s | from a graph, ms | copy, GB/s | of the copy |\n|---|---|---|---|---|---|---|---|\n");
  for (int i = 1; i < argc; i++) {
    int64_t n_elements = (int64_t)strtod(argv[i], NULL); /* 1e9 is one of the ways to write it */
    for (size_t k = 0; k < sizeof formats / sizeof *formats; k++) measure(&formats[k], n_elements, 1);
    for (size_t k = 0; k < sizeof many / sizeof *many && many[k] <= n_elements; k++) measure(&formats[0], n_elements, many[k]);
  }
  if (argc > 1) printf("\n");
  for (int i = 1; i < argc; i++)
    for (size_t k = 0; k < sizeof formats / sizeof *formats; k++)
      if (formats[k].task == OFFLOADED) measure_hidden(&formats[k], (int64_t)strtod(argv[i], NULL));
  CUDA(cuEventDestroy(start));
  CUDA(cuEventDestroy(end));
  CUDA(cuStreamDestroy(stream));
  CUDA(cuDevicePrimaryCtxRelease(device));
  return 0;
}
