/* The functions of the CUDA driver that these programs call, looked up when they run: nothing of CUDA is needed to build them.
 * A program that has cuda.h includes that; the names are the same. */
#ifndef CUDA_DRIVER_H
#define CUDA_DRIVER_H
#include <stddef.h>
#include <stdint.h>

typedef int CUresult; /* 0: done */
typedef int CUdevice;
typedef uint64_t CUdeviceptr;
typedef struct CUctx_st *CUcontext;
typedef struct CUstream_st *CUstream;
typedef struct CUevent_st *CUevent;
typedef struct CUgraph_st *CUgraph;
typedef struct CUgraphExec_st *CUgraphExec;

enum { CU_STREAM_NON_BLOCKING = 1, CU_STREAM_CAPTURE_MODE_GLOBAL = 0 };

extern CUresult (*cuInit)(unsigned flags);
extern CUresult (*cuDeviceGet)(CUdevice *device, int ordinal);
extern CUresult (*cuDeviceGetName)(char *name, int capacity, CUdevice device);
extern CUresult (*cuDevicePrimaryCtxRetain)(CUcontext *context, CUdevice device);
extern CUresult (*cuDevicePrimaryCtxRelease)(CUdevice device);
extern CUresult (*cuCtxSetCurrent)(CUcontext context);
extern CUresult (*cuMemAlloc)(CUdeviceptr *address, size_t n_bytes);
extern CUresult (*cuMemFree)(CUdeviceptr address);
extern CUresult (*cuMemHostAlloc)(void **start, size_t n_bytes, unsigned flags);
extern CUresult (*cuMemFreeHost)(void *start);
extern CUresult (*cuMemcpyHtoDAsync)(CUdeviceptr to, const void *from, size_t n_bytes, CUstream stream);
extern CUresult (*cuMemcpyDtoHAsync)(void *to, CUdeviceptr from, size_t n_bytes, CUstream stream);
extern CUresult (*cuMemcpyDtoDAsync)(CUdeviceptr to, CUdeviceptr from, size_t n_bytes, CUstream stream);
extern CUresult (*cuMemsetD8Async)(CUdeviceptr to, unsigned char value, size_t n_bytes, CUstream stream);
extern CUresult (*cuStreamCreate)(CUstream *stream, unsigned flags);
extern CUresult (*cuStreamSynchronize)(CUstream stream);
extern CUresult (*cuStreamDestroy)(CUstream stream);
extern CUresult (*cuEventCreate)(CUevent *event, unsigned flags);
extern CUresult (*cuEventRecord)(CUevent event, CUstream stream);
extern CUresult (*cuEventElapsedTime)(float *milliseconds, CUevent start, CUevent end);
extern CUresult (*cuEventDestroy)(CUevent event);
extern CUresult (*cuStreamBeginCapture)(CUstream stream, int mode);
extern CUresult (*cuStreamEndCapture)(CUstream stream, CUgraph *graph);
extern CUresult (*cuGraphInstantiateWithFlags)(CUgraphExec *executable, CUgraph graph, unsigned long long flags);
extern CUresult (*cuGraphLaunch)(CUgraphExec executable, CUstream stream);
extern CUresult (*cuGraphExecDestroy)(CUgraphExec executable);
extern CUresult (*cuGraphDestroy)(CUgraph graph);

/* Looks them all up, and a device. NULL, or why there is none. */
const char *cuda_driver_start(void);

/* Says which call failed, and ends the program. */
#define CUDA(call) cuda_driver_check(call, #call)
void cuda_driver_check(CUresult result, const char *call);

#endif
