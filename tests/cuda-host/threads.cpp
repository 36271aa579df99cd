#include "threads.h"
#include <csetjmp>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <sys/mman.h>
#include <ucontext.h>
#include <vector>

Place threadIdx, blockIdx, gridDim;

namespace {

const size_t STACK_BYTES = 64 << 10;
const unsigned BLOCKS_AT_ONCE = 2, MOST_THREADS = 256;
// One access in so many lets others go on before.
const unsigned ACCESSES = 64;

struct Warp {
  unsigned arrived = 0;
  unsigned turn = 0;
  uint64_t brought[2][WARP_SIZE]; // in turn: the last may still be read
};

struct Block;

struct Fiber {
  enum { READY, AT_WARP, AT_BARRIER, DONE } state;
  Block *block;
  unsigned number;
  jmp_buf left;
};

struct Block {
  unsigned number, at_barrier = 0, done = 0;
  std::vector<Fiber *> fibers;
  Warp warps[MOST_THREADS / WARP_SIZE];
  std::map<size_t, std::unique_ptr<char[]>> shared;
};

jmp_buf scheduler;
ucontext_t beginning;
Fiber *current;
const std::function<void()> *running;
std::vector<Fiber *> idle, ready;

void yield() {
  if (!_setjmp(current->left)) _longjmp(scheduler, 1);
}

// Runs a thread of a kernel, and then of another, whenever the fiber is taken again.
void body() {
  for (;;) {
    yield();
    (*running)();
    current->state = Fiber::DONE;
  }
}

Fiber *new_fiber() {
  if (!idle.empty()) {
    Fiber *fiber = idle.back();
    idle.pop_back();
    return fiber;
  }
  void *stack = mmap(nullptr, STACK_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (stack == MAP_FAILED || mprotect(stack, 4096, PROT_NONE)) stop("no memory for stacks");
  current = new Fiber;
  if (!_setjmp(scheduler)) {
    getcontext(&beginning);
    beginning.uc_stack = {stack, 0, STACK_BYTES};
    makecontext(&beginning, body, 0);
    setcontext(&beginning);
  }
  return current;
}

// Goes on with a fiber until it yields.
void resume(Fiber &fiber) {
  current = &fiber;
  threadIdx = {fiber.number, 0, 0};
  blockIdx = {fiber.block->number, 0, 0};
  if (!_setjmp(scheduler)) _longjmp(fiber.left, 1);
}

void make_ready(Fiber *fiber) {
  fiber->state = Fiber::READY;
  ready.push_back(fiber);
}

std::unique_ptr<Block> new_block(unsigned number, unsigned threads) {
  auto block = std::make_unique<Block>();
  block->number = number;
  for (unsigned i = 0; i < threads; i++) {
    Fiber *fiber = new_fiber();
    fiber->block = block.get(), fiber->number = i;
    block->fibers.push_back(fiber);
    make_ready(fiber);
  }
  return block;
}

} // namespace

void run_grid(unsigned blocks, unsigned threads, const std::function<void()> &kernel) {
  if (threads == 0 || threads > MOST_THREADS || threads % WARP_SIZE) stop("a block of so many threads");
  gridDim = {blocks, 1, 1};
  running = &kernel;
  std::vector<unsigned> waiting(blocks);
  for (unsigned i = 0; i < blocks; i++) waiting[i] = i;
  std::vector<std::unique_ptr<Block>> alive;
  while (!waiting.empty() || !alive.empty()) {
    if (!waiting.empty() && alive.size() < BLOCKS_AT_ONCE) {
      std::swap(waiting[random_below(waiting.size())], waiting.back());
      alive.push_back(new_block(waiting.back(), threads));
      waiting.pop_back();
      continue;
    }
    if (ready.empty()) stop("threads wait for others that do not come");
    std::swap(ready[random_below(ready.size())], ready.back());
    Fiber &fiber = *ready.back();
    ready.pop_back();
    resume(fiber);
    Block &block = *fiber.block;
    if (fiber.state == Fiber::READY) {
      ready.push_back(&fiber);
    } else if (fiber.state == Fiber::AT_BARRIER) {
      if (++block.at_barrier < threads) continue;
      block.at_barrier = 0;
      for (Fiber *other : block.fibers) make_ready(other);
    } else if (fiber.state == Fiber::DONE) {
      idle.push_back(&fiber);
      if (++block.done < threads) continue;
      for (size_t i = 0; i < alive.size(); i++)
        if (alive[i].get() == &block) {
          alive.erase(alive.begin() + i);
          break;
        }
    }
  }
}

void wait_for_block() {
  current->state = Fiber::AT_BARRIER;
  yield();
}

uint64_t exchanged(uint64_t bits, unsigned lane) {
  Warp &warp = current->block->warps[current->number / WARP_SIZE];
  uint64_t *brought = warp.brought[warp.turn % 2];
  brought[current->number % WARP_SIZE] = bits;
  if (++warp.arrived < WARP_SIZE) {
    current->state = Fiber::AT_WARP;
    yield();
  } else {
    warp.arrived = 0, warp.turn++;
    Fiber *const *lanes = &current->block->fibers[current->number / WARP_SIZE * WARP_SIZE];
    for (unsigned i = 0; i < WARP_SIZE; i++)
      if (lanes[i] != current) make_ready(lanes[i]);
  }
  return brought[lane];
}

void *shared(size_t number, size_t num_bytes) {
  auto &memory = current->block->shared[number];
  if (!memory) {
    memory.reset(new char[num_bytes]);
    memset(memory.get(), 0xff, num_bytes);
  }
  return memory.get();
}

uint64_t access(uint64_t at, size_t num_bytes) {
  if (at % num_bytes) stop("an access that is not aligned");
  if (random_below(ACCESSES) == 0) yield();
  return at;
}

uint32_t random_below(uint32_t n) {
  static uint64_t state = getenv("CUDA_HOST_SEED") ? strtoull(getenv("CUDA_HOST_SEED"), nullptr, 0) : 1;
  state = state * 6364136223846793005u + 1442695040888963407u;
  return (uint32_t)((state >> 32) * n >> 32);
}

void stop(const char *why) {
  fprintf(stderr, "device on the host: %s\n", why);
  abort();
}
