#include "cuda_driver.h"
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

CUresult (*cuInit)(unsigned);
CUresult (*cuDeviceGet)(CUdevice *, int);
CUresult (*cuDeviceGetName)(char *, int, CUdevice);
CUresult (*cuDevicePrimaryCtxRetain)(CUcontext *, CUdevice);
CUresult (*cuDevicePrimaryCtxRelease)(CUdevice);
CUresult (*cuCtxSetCurrent)(CUcontext);
CUresult (*cuMemAlloc)(CUdeviceptr *, size_t);
CUresult (*cuMemFree)(CUdeviceptr);
CUresult (*cuMemHostAlloc)(void **, size_t, unsigned);
CUresult (*cuMemFreeHost)(void *);
CUresult (*cuMemcpyHtoDAsync)(CUdeviceptr, const void *, size_t, CUstream);
CUresult (*cuMemcpyDtoHAsync)(void *, CUdeviceptr, size_t, CUstream);
CUresult (*cuMemcpyDtoDAsync)(CUdeviceptr, CUdeviceptr, size_t, CUstream);
CUresult (*cuMemsetD8Async)(CUdeviceptr, unsigned char, size_t, CUstream);
CUresult (*cuStreamCreate)(CUstream *, unsigned);
CUresult (*cuStreamSynchronize)(CUstream);
CUresult (*cuStreamDestroy)(CUstream);
CUresult (*cuEventCreate)(CUevent *, unsigned);
CUresult (*cuEventRecord)(CUevent, CUstream);
CUresult (*cuEventElapsedTime)(float *, CUevent, CUevent);
CUresult (*cuEventDestroy)(CUevent);
CUresult (*cuStreamBeginCapture)(CUstream, int);
CUresult (*cuStreamEndCapture)(CUstream, CUgraph *);
CUresult (*cuGraphInstantiateWithFlags)(CUgraphExec *, CUgraph, unsigned long long);
CUresult (*cuGraphLaunch)(CUgraphExec, CUstream);
CUresult (*cuGraphExecDestroy)(CUgraphExec);
CUresult (*cuGraphDestroy)(CUgraph);

/* Under the names that the driver exports, which are not all those that cuda.h gives them. */
static const struct {
  const char *name;
  void *to;
} entries[] = {
    {"cuInit", &cuInit},
    {"cuDeviceGet", &cuDeviceGet},
    {"cuDeviceGetName", &cuDeviceGetName},
    {"cuDevicePrimaryCtxRetain", &cuDevicePrimaryCtxRetain},
    {"cuDevicePrimaryCtxRelease_v2", &cuDevicePrimaryCtxRelease},
    {"cuCtxSetCurrent", &cuCtxSetCurrent},
    {"cuMemAlloc_v2", &cuMemAlloc},
    {"cuMemFree_v2", &cuMemFree},
    {"cuMemHostAlloc", &cuMemHostAlloc},
    {"cuMemFreeHost", &cuMemFreeHost},
    {"cuMemcpyHtoDAsync_v2", &cuMemcpyHtoDAsync},
    {"cuMemcpyDtoHAsync_v2", &cuMemcpyDtoHAsync},
    {"cuMemcpyDtoDAsync_v2", &cuMemcpyDtoDAsync},
    {"cuMemsetD8Async", &cuMemsetD8Async},
    {"cuStreamCreate", &cuStreamCreate},
    {"cuStreamSynchronize", &cuStreamSynchronize},
    {"cuStreamDestroy_v2", &cuStreamDestroy},
    {"cuEventCreate", &cuEventCreate},
    {"cuEventRecord", &cuEventRecord},
    {"cuEventElapsedTime", &cuEventElapsedTime},
    {"cuEventDestroy_v2", &cuEventDestroy},
    {"cuStreamBeginCapture_v2", &cuStreamBeginCapture},
    {"cuStreamEndCapture", &cuStreamEndCapture},
    {"cuGraphInstantiateWithFlags", &cuGraphInstantiateWithFlags},
    {"cuGraphLaunch", &cuGraphLaunch},
    {"cuGraphExecDestroy", &cuGraphExecDestroy},
    {"cuGraphDestroy", &cuGraphDestroy},
};

const char *cuda_driver_start(void) {
  CUdevice device;
  void *library = dlopen("libcuda.so", RTLD_NOW); /* in the order in which libadamw looks */
  if (!library) library = dlopen("libcuda.so.1", RTLD_NOW);
  if (!library) return "no CUDA driver is installed";
  for (size_t i = 0; i < sizeof entries / sizeof *entries; i++) {
    void *entry = dlsym(library, entries[i].name);
    if (!entry) return "the CUDA driver is too old";
    memcpy(entries[i].to, &entry, sizeof entry); /* C99 has no cast from an address to a function */
  }
  return cuInit(0) || cuDeviceGet(&device, 0) ? "the CUDA driver finds no device" : NULL;
}

void cuda_driver_check(CUresult result, const char *call) {
  if (result == 0) return;
  fprintf(stderr, "%s: CUDA error %d\n", call, result);
  exit(1);
}
