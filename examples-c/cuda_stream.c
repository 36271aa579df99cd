/* AdamW on a CUDA device: a stream of the program's own, gradients in the device's memory, and a graph that steps.
 *
 * It needs no CUDA toolkit: cuda_driver.c looks the few functions of the driver up that it calls. Where there is no
 * driver or no device it says so and does nothing. A second optimizer steps the same numbers on the processor, and ends
 * with the same bits. */
#include "cuda_driver.h"
#include <adamw.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { N = 10000, NUM_STEPS = 200, NUM_REPLAYS = 20, BYTES = N * sizeof(float) };

static void check(adamw_status status) {
  if (status == ADAMW_STATUS_OK) return;
  fprintf(stderr, "%s: %s\n", adamw_status_name(status), adamw_last_error());
  exit(1);
}

/* A tensor of N floats in the memory of device 0, as DLPack describes it. */
static adamw_tensor on_device(CUdeviceptr memory) {
  static int64_t shape[1] = {N};
  const adamw_tensor tensor = {
      .data = (void *)(uintptr_t)memory, .device = {ADAMW_DEVICE_CUDA, 0}, .ndim = 1, .dtype = {ADAMW_CODE_FLOAT, 32, 1}, .shape = shape};
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

/* The library's memory on the device comes from here: a program with a pool of its own takes it from that. */
static int32_t give(size_t num_bytes, int32_t nth, void *on, void **out_address, void *num_held) {
  CUdeviceptr address;
  (void)nth, (void)on; /* cuMemAlloc gives memory of the current context at once */
  if (cuMemAlloc(&address, num_bytes) != 0) return 1;
  *(size_t *)num_held += num_bytes;
  *out_address = (void *)(uintptr_t)address;
  return 0;
}

static int32_t take_back(void *address, size_t num_bytes, int32_t nth, void *on, void *num_held) {
  (void)nth, (void)on;
  *(size_t *)num_held -= num_bytes;
  return cuMemFree((CUdeviceptr)(uintptr_t)address);
}

int main(void) {
  const char *reason = cuda_driver_start();
  if (reason != NULL) {
    printf("SKIP: %s\n", reason);
    return 0;
  }
  static float weights[N], seen[N], grad[N]; /* the processor's weights, the device's as they were read, the gradient */
  CUdevice device;
  CUcontext context;
  CUstream stream;
  CUdeviceptr w, g, at;
  CUDA(cuDeviceGet(&device, 0));
  CUDA(cuDevicePrimaryCtxRetain(&context, device)); /* the context that the library uses, too */
  CUDA(cuCtxSetCurrent(context));
  CUDA(cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING)); /* it does not wait for the default stream */
  CUDA(cuMemAlloc(&w, BYTES));
  CUDA(cuMemAlloc(&g, BYTES));
  CUDA(cuMemAlloc(&at, sizeof(float)));
  CUDA(cuMemcpyHtoDAsync(w, weights, BYTES, stream));

  adamw_config config;
  adamw_config_init(&config, sizeof config);
  config.lr = 0.01;
  config.clip = ADAMW_CLIP_GLOBAL_NORM; /* decided on the device: nobody waits for the norm */
  config.clip_norm = 10;
  size_t num_held = 0;
  config.device_alloc = give;
  config.device_free = take_back;
  config.device_memory_data = &num_held;
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
    CUDA(cuMemcpyDtoHAsync(seen, w, BYTES, stream));
    CUDA(cuStreamSynchronize(stream));
    loss = loss_and_grad(seen, grad);
    CUDA(cuMemcpyHtoDAsync(g, grad, BYTES, stream));
    check(adamw_step(there)); /* queued up behind the copy */
    check(adamw_step(here));
  }
  printf("loss after %d steps: %.1e, with %zu bytes beside the parameter's %d\n", NUM_STEPS, loss, num_held, BYTES);

  /* The same step as a graph: its learning rate is read on the device, so that it can change from launch to launch. */
  CUgraph graph;
  CUgraphExec executable;
  const adamw_device_inputs inputs = {.struct_size = sizeof inputs, .lr = (const float *)(uintptr_t)at};
  check(adamw_set_device_inputs(there, &inputs));
  check(adamw_prepare(there)); /* whatever is not a launch */
  CUDA(cuStreamBeginCapture(stream, CU_STREAM_CAPTURE_MODE_GLOBAL));
  check(adamw_step(there)); /* recorded, not taken */
  CUDA(cuStreamEndCapture(stream, &graph));
  CUDA(cuGraphInstantiateWithFlags(&executable, graph, 0));
  for (int replay = 0; replay < NUM_REPLAYS; replay++) {
    const float lr = 0.01f * (float)(NUM_REPLAYS - replay) / NUM_REPLAYS;
    CUDA(cuMemcpyHtoDAsync(at, &lr, sizeof lr, stream));
    CUDA(cuGraphLaunch(executable, stream));
    CUDA(cuStreamSynchronize(stream)); /* lr is this loop's */
    check(adamw_set_lr(here, lr));
    check(adamw_step(here));
  }
  adamw_param_info info;
  check(adamw_get_param_info(there, param, &info, sizeof info)); /* the device has counted */
  printf("%llu steps, %d of them by launching a graph\n", (unsigned long long)info.step, NUM_REPLAYS);

  CUDA(cuMemcpyDtoHAsync(seen, w, BYTES, stream));
  CUDA(cuStreamSynchronize(stream));
  CUDA(cuGraphExecDestroy(executable));
  CUDA(cuGraphDestroy(graph));
  check(adamw_destroy(there)); /* before the stream and the memory that it knows */
  check(adamw_destroy(here));
  const int same = memcmp(seen, weights, BYTES) == 0 && info.step == NUM_STEPS + NUM_REPLAYS && num_held == 0;
  puts(same ? "the bits of the processor's steps" : "other bits than the processor's steps, or memory was kept");

  CUDA(cuMemFree(at));
  CUDA(cuMemFree(g));
  CUDA(cuMemFree(w));
  CUDA(cuStreamDestroy(stream));
  CUDA(cuDevicePrimaryCtxRelease(device));
  return same ? 0 : 1;
}
