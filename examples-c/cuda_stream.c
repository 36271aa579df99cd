/* AdamW on a CUDA device: a stream of the program's own, gradients in the device's memory, and a graph that steps.
 *
 * It needs no CUDA toolkit: the few functions of the driver that it calls are looked up when it runs. Where there is no
 * driver or no device it says so and does nothing. A second optimizer steps the same numbers on the processor, and ends
 * with the same bits. */
#include <adamw.h>
#include <dlfcn.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { N = 10000, NUM_STEPS = 200, NUM_REPLAYS = 20, BYTES = N * sizeof(float) };

typedef uint64_t device_ptr;
typedef struct stream_ *stream_t;
typedef struct graph_ *graph_t;
typedef struct executable_ *executable_t;

static struct {
  int (*cuInit)(unsigned flags);
  int (*cuDeviceGet)(int *device, int ordinal);
  int (*cuDevicePrimaryCtxRetain)(void **context, int device);
  int (*cuDevicePrimaryCtxRelease_v2)(int device);
  int (*cuCtxSetCurrent)(void *context);
  int (*cuMemAlloc_v2)(device_ptr *memory, size_t bytes);
  int (*cuMemFree_v2)(device_ptr memory);
  int (*cuMemcpyHtoDAsync_v2)(device_ptr to, const void *from, size_t bytes, stream_t stream);
  int (*cuMemcpyDtoHAsync_v2)(void *to, device_ptr from, size_t bytes, stream_t stream);
  int (*cuStreamCreate)(stream_t *stream, unsigned flags);
  int (*cuStreamDestroy_v2)(stream_t stream);
  int (*cuStreamSynchronize)(stream_t stream);
  int (*cuStreamBeginCapture_v2)(stream_t stream, int mode);
  int (*cuStreamEndCapture)(stream_t stream, graph_t *graph);
  int (*cuGraphInstantiateWithFlags)(executable_t *executable, graph_t graph, unsigned long long flags);
  int (*cuGraphLaunch)(executable_t executable, stream_t stream);
  int (*cuGraphExecDestroy)(executable_t executable);
  int (*cuGraphDestroy)(graph_t graph);
} cuda;

/* Finds the driver; NULL, or why it cannot be used. */
static const char *find_driver(void) {
  void *library = dlopen("libcuda.so.1", RTLD_NOW);
  if (library == NULL) library = dlopen("libcuda.so", RTLD_NOW);
  if (library == NULL) return "no CUDA driver is installed";
#define FIND(name) \
  if ((*(void **)&cuda.name = dlsym(library, #name)) == NULL) return "the CUDA driver lacks " #name
  FIND(cuInit);
  FIND(cuDeviceGet);
  FIND(cuDevicePrimaryCtxRetain);
  FIND(cuDevicePrimaryCtxRelease_v2);
  FIND(cuCtxSetCurrent);
  FIND(cuMemAlloc_v2);
  FIND(cuMemFree_v2);
  FIND(cuMemcpyHtoDAsync_v2);
  FIND(cuMemcpyDtoHAsync_v2);
  FIND(cuStreamCreate);
  FIND(cuStreamDestroy_v2);
  FIND(cuStreamSynchronize);
  FIND(cuStreamBeginCapture_v2);
  FIND(cuStreamEndCapture);
  FIND(cuGraphInstantiateWithFlags);
  FIND(cuGraphLaunch);
  FIND(cuGraphExecDestroy);
  FIND(cuGraphDestroy);
#undef FIND
  return cuda.cuInit(0) == 0 ? NULL : "the CUDA driver finds no device";
}

static void check_cuda(int error, const char *call) {
  if (error == 0) return;
  fprintf(stderr, "%s: CUDA error %d\n", call, error);
  exit(1);
}
#define CUDA(function, ...) check_cuda(cuda.function(__VA_ARGS__), #function)

static void check(adamw_status status) {
  if (status == ADAMW_STATUS_OK) return;
  fprintf(stderr, "%s: %s\n", adamw_status_name(status), adamw_last_error());
  exit(1);
}

/* A tensor of N floats in the memory of device 0, as DLPack describes it. */
static adamw_tensor on_device(device_ptr memory) {
  static int64_t shape[1] = {N};
  const adamw_tensor tensor = {
      .data = (void *)(uintptr_t)memory, .device = {2, 0}, .ndim = 1, .dtype = {2, 32, 1}, .shape = shape};
  return tensor;
}

/* Half the squared distance to sin(i), and its gradient. */
static double loss_and_grad(const float *weights, float *grad) {
  double loss = 0;
  for (int i = 0; i < N; i++) {
    grad[i] = weights[i] - (float)sin(i);
    loss += 0.5 * grad[i] * grad[i];
  }
  return loss / N;
}

int main(void) {
  const char *reason = find_driver();
  if (reason != NULL) {
    printf("SKIP: %s\n", reason);
    return 0;
  }
  static float weights[N], seen[N], grad[N]; /* the processor's weights, the device's as they were read, the gradient */
  int device;
  void *context;
  stream_t stream;
  device_ptr w, g, at;
  CUDA(cuDeviceGet, &device, 0);
  CUDA(cuDevicePrimaryCtxRetain, &context, device); /* the context that the library uses, too */
  CUDA(cuCtxSetCurrent, context);
  CUDA(cuStreamCreate, &stream, 1); /* it does not wait for the default stream */
  CUDA(cuMemAlloc_v2, &w, BYTES);
  CUDA(cuMemAlloc_v2, &g, BYTES);
  CUDA(cuMemAlloc_v2, &at, sizeof(float));
  CUDA(cuMemcpyHtoDAsync_v2, w, weights, BYTES, stream);

  adamw_config config;
  adamw_config_init(&config, sizeof config);
  config.lr = 0.01;
  config.clip = ADAMW_CLIP_GLOBAL_NORM; /* decided on the device: nobody waits for the norm */
  config.clip_norm = 10;
  adamw_optimizer *there, *here;
  uint32_t param;
  check(adamw_create(&config, &there));
  check(adamw_create(&config, &here));
  check(adamw_add_array(here, "weights", weights, N, ADAMW_DTYPE_F32, &param));
  check(adamw_set_grad_array(here, param, grad, N, ADAMW_DTYPE_F32));

  const adamw_tensor w_tensor = on_device(w), g_tensor = on_device(g);
  adamw_param_config added = {.struct_size = sizeof added, .name = "weights", .param = &w_tensor};
  check(adamw_add_param(there, &added, &param)); /* opens the device; its state is made there */
  check(adamw_set_stream(there, stream));
  check(adamw_set_grad(there, param, &g_tensor));

  double loss = 0;
  for (int step = 0; step < NUM_STEPS; step++) {
    CUDA(cuMemcpyDtoHAsync_v2, seen, w, BYTES, stream);
    CUDA(cuStreamSynchronize, stream);
    loss = loss_and_grad(seen, grad);
    CUDA(cuMemcpyHtoDAsync_v2, g, grad, BYTES, stream);
    check(adamw_step(there)); /* queued up behind the copy */
    check(adamw_step(here));
  }
  printf("loss after %d steps: %.1e\n", NUM_STEPS, loss);

  /* The same step as a graph: its learning rate is read on the device, so that it can change from launch to launch. */
  graph_t graph;
  executable_t executable;
  const adamw_device_inputs inputs = {.struct_size = sizeof inputs, .lr = (const float *)(uintptr_t)at};
  check(adamw_set_device_inputs(there, &inputs));
  check(adamw_prepare(there)); /* whatever is not a launch */
  CUDA(cuStreamBeginCapture_v2, stream, 0);
  check(adamw_step(there)); /* recorded, not taken */
  CUDA(cuStreamEndCapture, stream, &graph);
  CUDA(cuGraphInstantiateWithFlags, &executable, graph, 0);
  for (int replay = 0; replay < NUM_REPLAYS; replay++) {
    const float lr = 0.01f * (float)(NUM_REPLAYS - replay) / NUM_REPLAYS;
    CUDA(cuMemcpyHtoDAsync_v2, at, &lr, sizeof lr, stream);
    CUDA(cuGraphLaunch, executable, stream);
    CUDA(cuStreamSynchronize, stream); /* lr is this loop's */
    check(adamw_set_lr(here, lr));
    check(adamw_step(here));
  }
  adamw_param_info info;
  check(adamw_get_param_info(there, param, &info, sizeof info)); /* the device has counted */
  printf("%llu steps, %d of them by launching a graph\n", (unsigned long long)info.step, NUM_REPLAYS);

  CUDA(cuMemcpyDtoHAsync_v2, seen, w, BYTES, stream);
  CUDA(cuStreamSynchronize, stream);
  const int same = memcmp(seen, weights, BYTES) == 0 && info.step == NUM_STEPS + NUM_REPLAYS;
  puts(same ? "the bits of the processor's steps" : "other bits than the processor's steps");

  CUDA(cuGraphExecDestroy, executable);
  CUDA(cuGraphDestroy, graph);
  check(adamw_destroy(there)); /* before the stream and the memory that it knows */
  check(adamw_destroy(here));
  CUDA(cuMemFree_v2, at);
  CUDA(cuMemFree_v2, g);
  CUDA(cuMemFree_v2, w);
  CUDA(cuStreamDestroy_v2, stream);
  CUDA(cuDevicePrimaryCtxRelease_v2, device);
  return same ? 0 : 1;
}
