// A CUDA driver whose device is the host's processor: kernels are the library's own sources, which
// translate.py makes C++ of. It knows nothing of PTX, and nothing of tests/cuda-standin.
//
// Memory of the device lies between pages that nobody may touch, begins with what nobody wrote, and
// is kept, now and then, from all but kernels and copies. Work on a stream is done late: when somebody waits for
// it, or when chance has another stream's work done before.
#include "kernel.h"
#include <chrono>
#include <cstdio>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <sys/mman.h>
#include <vector>

namespace {

enum Result {
  SUCCESS = 0,
  INVALID_VALUE = 1,
  OUT_OF_MEMORY = 2,
  INVALID_DEVICE = 101,
  INVALID_CONTEXT = 201,
  INVALID_HANDLE = 400,
  NOT_FOUND = 500,
  CAPTURE_UNSUPPORTED = 900,
  CAPTURE_INVALIDATED = 901,
};
enum { GLOBAL, THREAD_LOCAL, RELAXED }; // modes of a capture

typedef std::function<void()> Work;

struct Event {
  uint64_t recorded = 0, done = 0; // numbers of records
  std::chrono::steady_clock::time_point when;
  struct Graph *graph = nullptr; // that has recorded it last
};

struct Operation {
  Work work;
  Event *waits = nullptr; // for this event's record of this number
  uint64_t record = 0;

  bool is_ready() const { return !waits || waits->done >= record; }
};

struct Graph {
  std::vector<Operation> operations;
  int mode;
  const void *thread; // that began the capture
  bool is_invalid = false;
};

struct Stream {
  std::deque<Operation> queue;
  Graph *graph = nullptr; // that records it
};

struct Range {
  char *start; // of the mapping
  size_t mapped, num_bytes;
  bool is_pooled = false;
};

std::recursive_mutex lock;
std::map<uint64_t, Range> device_memory; // by the address
std::map<uint64_t, size_t> pinned;
Stream legacy;
std::set<Stream *> streams{&legacy};
uint64_t num_records;
thread_local std::vector<void *> contexts;
thread_local int thread_mode = GLOBAL;
char primary;

const size_t PAGE = 4096, ALIGNMENT = 256;

Stream *stream_of(void *stream) { return stream ? (Stream *)stream : &legacy; }

// Lets the device's memory be touched, or nobody.
void open_memory(bool is_open) {
  for (auto &[at, range] : device_memory)
    mprotect(range.start + PAGE, range.mapped - 2 * PAGE, is_open ? PROT_READ | PROT_WRITE : PROT_NONE);
}

// While it lives, the device's memory may be touched; it may be for a while afterwards, because it
// takes long to protect all of it.
struct Opened {
  static inline bool is_open = true;
  Opened() {
    if (!is_open) open_memory(true);
    is_open = true;
  }
  ~Opened() {
    if (random_below(256) == 0) open_memory(is_open = false);
  }
};

// Does work of any stream, as chance has it, while there is need for it.
template <class Need> void work_while(const Need &is_needed) {
  if (!is_needed()) return;
  Opened opened;
  while (is_needed()) {
    std::vector<Stream *> ready;
    for (Stream *stream : streams)
      if (!stream->queue.empty() && stream->queue.front().is_ready()) ready.push_back(stream);
    if (ready.empty()) stop("nothing can go on");
    Stream *next = ready[random_below(ready.size())];
    Operation operation = std::move(next->queue.front());
    next->queue.pop_front();
    operation.work();
  }
}

void drain(Stream *stream) {
  work_while([=] { return !stream->queue.empty(); });
}

void drain_all() {
  for (Stream *stream : streams) drain(stream);
}

// Breaks the captures that mind what this thread does now, and says whether there are any.
bool breaks_a_capture() {
  bool is_broken = false;
  if (thread_mode == RELAXED) return false;
  for (Stream *stream : streams) {
    if (!stream->graph || stream->graph->mode == RELAXED) continue;
    if (stream->graph->mode == THREAD_LOCAL && stream->graph->thread != &thread_mode) continue;
    stream->graph->is_invalid = is_broken = true;
  }
  return is_broken;
}

#define ENTER                                                                                      \
  std::lock_guard<std::recursive_mutex> guard(lock);                                               \
  if (contexts.empty() || !contexts.back()) return INVALID_CONTEXT
// For calls that a capture does not bear.
#define ENTER_UNSAFE                                                                               \
  ENTER;                                                                                           \
  if (breaks_a_capture()) return CAPTURE_UNSUPPORTED

// Queues work up, or records it.
Result queue(Stream *stream, Operation operation) {
  if (!stream->graph) {
    stream->queue.push_back(std::move(operation));
    return SUCCESS;
  }
  if (stream->graph->is_invalid) return CAPTURE_INVALIDATED;
  stream->graph->operations.push_back(std::move(operation));
  return SUCCESS;
}

// The memory of the device that an address is in, or the end.
std::map<uint64_t, Range>::iterator memory_at(uint64_t at) {
  auto found = device_memory.upper_bound(at);
  if (found == device_memory.begin()) return device_memory.end();
  --found;
  return at < found->first + found->second.num_bytes ? found : device_memory.end();
}

void check_range(uint64_t at, size_t num_bytes) {
  auto found = memory_at(at);
  if (num_bytes && (found == device_memory.end() || at + num_bytes > found->first + found->second.num_bytes))
    stop("a copy outside of the device's memory");
}

bool is_pinned(const void *start, size_t num_bytes) {
  auto found = pinned.upper_bound((uint64_t)start);
  if (found == pinned.begin()) return false;
  --found;
  return (uint64_t)start + num_bytes <= found->first + found->second;
}

} // namespace

extern "C" {

Result cuInit(unsigned) { return SUCCESS; }
Result cuDriverGetVersion(int *version) { return *version = 12080, SUCCESS; }
Result cuDeviceGet(int *device, int ordinal) { return *device = 0, ordinal == 0 ? SUCCESS : INVALID_DEVICE; }
Result cuDeviceTotalMem_v2(size_t *num_bytes, int) { return *num_bytes = (size_t)1 << 30, SUCCESS; }
Result cuDeviceGetName(char *name, int capacity, int) {
  snprintf(name, capacity, "kernels compiled for the host");
  return SUCCESS;
}
Result cuDeviceGetAttribute(int *value, int attribute, int) {
  enum { MULTIPROCESSORS = 16, CAPABILITY_MAJOR = 75, POOLS = 115 };
  *value = attribute == MULTIPROCESSORS ? 2 : attribute == CAPABILITY_MAJOR ? 7 : attribute == POOLS;
  return SUCCESS;
}
Result cuGetErrorName(int, const char **name) { return *name = "CUDA_ERROR_ON_THE_HOST", SUCCESS; }
Result cuGetErrorString(int, const char **text) { return *text = "an error of the driver on the host", SUCCESS; }

Result cuDevicePrimaryCtxRetain(void **context, int) { return *context = &primary, SUCCESS; }
Result cuDevicePrimaryCtxRelease_v2(int) { return SUCCESS; }
Result cuCtxGetCurrent(void **context) {
  return *context = contexts.empty() ? nullptr : contexts.back(), SUCCESS;
}
Result cuCtxSetCurrent(void *context) {
  if (contexts.empty()) contexts.push_back(nullptr);
  return contexts.back() = context, SUCCESS;
}
Result cuCtxPushCurrent_v2(void *context) { return contexts.push_back(context), SUCCESS; }
Result cuCtxPopCurrent_v2(void **context) {
  if (contexts.empty()) return INVALID_CONTEXT;
  *context = contexts.back();
  return contexts.pop_back(), SUCCESS;
}
Result cuCtxSynchronize() {
  ENTER_UNSAFE;
  return drain_all(), SUCCESS;
}

Result cuModuleLoadDataEx(void **module, const void *, unsigned, int *, void **) {
  ENTER_UNSAFE;
  return *module = (void *)kernels, SUCCESS;
}
Result cuModuleUnload(void *) {
  ENTER_UNSAFE;
  for (Stream *stream : streams)
    if (!stream->queue.empty()) stop("kernels are unloaded, and there is work left");
  return SUCCESS;
}
Result cuModuleGetFunction(void **function, void *, const char *name) {
  for (size_t i = 0; i < num_kernels; i++)
    if (!strcmp(kernels[i].name, name)) return *function = (void *)&kernels[i], SUCCESS;
  return NOT_FOUND;
}
Result cuOccupancyMaxActiveBlocksPerMultiprocessor(int *blocks, void *, int, size_t) {
  return *blocks = 2, SUCCESS;
}
Result cuLaunchKernel(void *function, unsigned blocks, unsigned y, unsigned z, unsigned threads, unsigned block_y,
                      unsigned block_z, unsigned dynamic, void *stream, void **arguments, void **) {
  ENTER;
  if (!blocks || y != 1 || z != 1 || block_y != 1 || block_z != 1 || dynamic) return INVALID_VALUE;
  Work bound = ((const Kernel *)function)->bind(arguments);
  return queue(stream_of(stream), {[=] { run_grid(blocks, threads, bound); }});
}

Result cuMemAlloc_v2(uint64_t *address, size_t num_bytes) {
  ENTER_UNSAFE;
  if (!num_bytes) return INVALID_VALUE;
  const size_t aligned = (num_bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
  const size_t mapped = (aligned + PAGE - 1) / PAGE * PAGE + 2 * PAGE;
  char *start = (char *)mmap(nullptr, mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (start == MAP_FAILED) return OUT_OF_MEMORY;
  memset(start, 0xff, mapped);
  mprotect(start, PAGE, PROT_NONE);
  mprotect(start + mapped - PAGE, PAGE, PROT_NONE);
  if (!Opened::is_open) mprotect(start + PAGE, mapped - 2 * PAGE, PROT_NONE);
  *address = (uint64_t)(start + mapped - PAGE - aligned);
  device_memory[*address] = {start, mapped, num_bytes};
  return SUCCESS;
}
Result cuMemAllocAsync(uint64_t *address, size_t num_bytes, void *stream) {
  ENTER;
  if (stream_of(stream)->graph) return CAPTURE_UNSUPPORTED; // the driver's own would become part of the graph
  const Result result = cuMemAlloc_v2(address, num_bytes);
  if (result == SUCCESS) device_memory[*address].is_pooled = true;
  return result;
}
Result cuMemFree_v2(uint64_t address) {
  ENTER_UNSAFE;
  auto found = device_memory.find(address);
  if (found == device_memory.end()) return INVALID_VALUE;
  if (!found->second.is_pooled) drain_all();
  munmap(found->second.start, found->second.mapped);
  return device_memory.erase(found), SUCCESS;
}
Result cuMemHostAlloc(void **start, size_t num_bytes, unsigned) {
  ENTER_UNSAFE;
  if (posix_memalign(start, PAGE, num_bytes)) return OUT_OF_MEMORY;
  memset(*start, 0xff, num_bytes);
  return pinned[(uint64_t)*start] = num_bytes, SUCCESS;
}
Result cuMemFreeHost(void *start) {
  ENTER_UNSAFE;
  drain_all();
  if (!pinned.erase((uint64_t)start)) return INVALID_VALUE;
  return free(start), SUCCESS;
}
Result cuPointerGetAttribute(void *value, int, uint64_t address) {
  ENTER;
  if (memory_at(address) == device_memory.end()) return INVALID_VALUE;
  return *(int *)value = 0, SUCCESS;
}

// What is not pinned is read before the call returns, and written before it does.
Result cuMemcpyHtoDAsync_v2(uint64_t to, const void *from, size_t num_bytes, void *stream) {
  ENTER;
  check_range(to, num_bytes);
  if (is_pinned(from, num_bytes)) return queue(stream_of(stream), {[=] { memcpy((void *)to, from, num_bytes); }});
  if (stream_of(stream)->graph) return CAPTURE_UNSUPPORTED;
  auto kept = std::make_shared<std::string>((const char *)from, num_bytes);
  return queue(stream_of(stream), {[=] { memcpy((void *)to, kept->data(), num_bytes); }});
}
Result cuMemcpyDtoHAsync_v2(void *to, uint64_t from, size_t num_bytes, void *stream) {
  ENTER;
  check_range(from, num_bytes);
  const bool waits = !is_pinned(to, num_bytes);
  if (waits && stream_of(stream)->graph) return CAPTURE_UNSUPPORTED;
  const Result result = queue(stream_of(stream), {[=] { memcpy(to, (void *)from, num_bytes); }});
  if (waits) drain(stream_of(stream));
  return result;
}
Result cuMemcpyDtoDAsync_v2(uint64_t to, uint64_t from, size_t num_bytes, void *stream) {
  ENTER;
  check_range(to, num_bytes), check_range(from, num_bytes);
  return queue(stream_of(stream), {[=] { memmove((void *)to, (void *)from, num_bytes); }});
}
Result cuMemsetD8Async(uint64_t to, unsigned char value, size_t num_bytes, void *stream) {
  ENTER;
  check_range(to, num_bytes);
  return queue(stream_of(stream), {[=] { memset((void *)to, value, num_bytes); }});
}
Result cuMemcpyHtoD_v2(uint64_t to, const void *from, size_t num_bytes) {
  ENTER_UNSAFE;
  cuMemcpyHtoDAsync_v2(to, from, num_bytes, nullptr);
  return drain(&legacy), SUCCESS;
}
Result cuMemcpyDtoH_v2(void *to, uint64_t from, size_t num_bytes) {
  ENTER_UNSAFE;
  cuMemcpyDtoHAsync_v2(to, from, num_bytes, nullptr);
  return drain(&legacy), SUCCESS;
}

Result cuStreamCreate(void **stream, unsigned) {
  ENTER;
  return *stream = *streams.insert(new Stream).first, SUCCESS;
}
Result cuStreamDestroy_v2(void *stream) {
  ENTER;
  if (!streams.count((Stream *)stream)) return INVALID_HANDLE;
  drain((Stream *)stream);
  streams.erase((Stream *)stream);
  return delete (Stream *)stream, SUCCESS;
}
Result cuStreamSynchronize(void *stream) {
  ENTER;
  if (Graph *graph = stream_of(stream)->graph) return graph->is_invalid = true, CAPTURE_UNSUPPORTED;
  return drain(stream_of(stream)), SUCCESS;
}
Result cuStreamWaitEvent(void *stream, void *event, unsigned) {
  ENTER;
  Event *waited = (Event *)event;
  if (waited->graph) return stream_of(stream)->graph = waited->graph, SUCCESS; // joins the capture
  return queue(stream_of(stream), {[] {}, waited, waited->recorded});
}

Result cuEventCreate(void **event, unsigned) { return *event = new Event, SUCCESS; }
Result cuEventDestroy_v2(void *event) {
  ENTER;
  drain_all();
  return delete (Event *)event, SUCCESS;
}
Result cuEventRecord(void *event, void *stream) {
  ENTER;
  Event *recorded = (Event *)event;
  recorded->graph = stream_of(stream)->graph;
  if (recorded->graph) return SUCCESS; // what a graph has recorded happens in that order
  const uint64_t number = recorded->recorded = ++num_records;
  return queue(stream_of(stream), {[=] {
                 recorded->done = number;
                 recorded->when = std::chrono::steady_clock::now();
               }});
}
Result cuEventSynchronize(void *event) {
  ENTER;
  Event *waited = (Event *)event;
  if (waited->graph) return waited->graph->is_invalid = true, CAPTURE_UNSUPPORTED;
  work_while([=] { return waited->done < waited->recorded; });
  return SUCCESS;
}
Result cuEventElapsedTime(float *milliseconds, void *start, void *end) {
  ENTER;
  const auto elapsed = ((Event *)end)->when - ((Event *)start)->when;
  return *milliseconds = std::chrono::duration<float, std::milli>(elapsed).count(), SUCCESS;
}

Result cuStreamIsCapturing(void *stream, int *status) {
  ENTER;
  const Graph *graph = stream_of(stream)->graph;
  return *status = !graph ? 0 : graph->is_invalid ? 2 : 1, SUCCESS;
}
Result cuThreadExchangeStreamCaptureMode(int *mode) { return std::swap(*mode, thread_mode), SUCCESS; }
Result cuStreamBeginCapture_v2(void *stream, int mode) {
  ENTER;
  if (stream_of(stream)->graph) return INVALID_VALUE;
  Graph *graph = new Graph;
  graph->mode = mode, graph->thread = &thread_mode;
  return stream_of(stream)->graph = graph, SUCCESS;
}
Result cuStreamEndCapture(void *stream, void **out) {
  ENTER;
  Graph *graph = stream_of(stream)->graph;
  if (!graph) return INVALID_VALUE;
  for (Stream *other : streams)
    if (other->graph == graph) other->graph = nullptr;
  *out = graph->is_invalid ? nullptr : graph;
  return graph->is_invalid ? CAPTURE_INVALIDATED : SUCCESS;
}
Result cuGraphInstantiateWithFlags(void **executable, void *graph, unsigned long long) {
  return *executable = new std::vector<Operation>(((Graph *)graph)->operations), SUCCESS;
}
Result cuGraphLaunch(void *executable, void *stream) {
  ENTER;
  for (const Operation &operation : *(std::vector<Operation> *)executable) queue(stream_of(stream), operation);
  return SUCCESS;
}
Result cuGraphExecDestroy(void *executable) {
  return delete (std::vector<Operation> *)executable, SUCCESS;
}
Result cuGraphDestroy(void *graph) { return delete (Graph *)graph, SUCCESS; }
}
