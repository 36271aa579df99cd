#define _GNU_SOURCE
#include "fail_alloc.h"
#include <dlfcn.h>
#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

/* What glibc's own functions are called beside the names that are taken here. */
extern void *__libc_malloc(size_t bytes);
extern void *__libc_calloc(size_t count, size_t bytes);
extern void *__libc_realloc(void *block, size_t bytes);
extern void *__libc_memalign(size_t alignment, size_t bytes);
extern void __libc_free(void *block);

static atomic_long first_to_fail = LONG_MAX, last_to_fail = -1, first_thread_to_fail = LONG_MAX;
static atomic_long n_allocations, n_threads, n_failed, n_live, mapped_bytes;

static bool is_from_libadamw(const void *return_address) {
  Dl_info info;
  return dladdr(return_address, &info) && info.dli_fname && strstr(info.dli_fname, "libadamw");
}

/* Counts an allocation by libadamw; whether it is to fail. */
static bool fails(void) {
  long number = atomic_fetch_add(&n_allocations, 1);
  bool fail = number >= atomic_load(&first_to_fail) && number <= atomic_load(&last_to_fail);
  if (fail) {
    atomic_fetch_add(&n_failed, 1);
    errno = ENOMEM;
  } else {
    atomic_fetch_add(&n_live, 1);
  }
  return fail;
}

#define FAILS (is_from_libadamw(__builtin_return_address(0)) && fails())

void *malloc(size_t bytes) { return FAILS ? NULL : __libc_malloc(bytes); }

void *calloc(size_t count, size_t bytes) { return FAILS ? NULL : __libc_calloc(count, bytes); }

void *realloc(void *block, size_t bytes) {
  bool ours = is_from_libadamw(__builtin_return_address(0));
  if (ours && fails())
    return NULL;
  if (ours && block) /* `fails` counted the block a second time */
    atomic_fetch_sub(&n_live, 1);
  return __libc_realloc(block, bytes);
}

void *memalign(size_t alignment, size_t bytes) {
  return FAILS ? NULL : __libc_memalign(alignment, bytes);
}

void *aligned_alloc(size_t alignment, size_t bytes) {
  return FAILS ? NULL : __libc_memalign(alignment, bytes);
}

int posix_memalign(void **block, size_t alignment, size_t bytes) {
  if (FAILS)
    return ENOMEM;
  *block = __libc_memalign(alignment, bytes);
  return *block ? 0 : ENOMEM;
}

void free(void *block) {
  if (block && is_from_libadamw(__builtin_return_address(0)))
    atomic_fetch_sub(&n_live, 1);
  __libc_free(block);
}

/* Mappings are counted by their bytes, because they are given back in parts. */
void *mmap(void *address, size_t bytes, int access, int kind, int file, off_t offset) {
  if (is_from_libadamw(__builtin_return_address(0))) {
    if (fails())
      return MAP_FAILED;
    atomic_fetch_sub(&n_live, 1);
    atomic_fetch_add(&mapped_bytes, (long)bytes);
  }
  return (void *)syscall(SYS_mmap, address, bytes, access, kind, file, offset);
}

int munmap(void *address, size_t bytes) {
  if (is_from_libadamw(__builtin_return_address(0)))
    atomic_fetch_sub(&mapped_bytes, (long)bytes);
  return (int)syscall(SYS_munmap, address, bytes);
}

int pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*run)(void *),
                   void *data) {
  int (*create)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);
  if (is_from_libadamw(__builtin_return_address(0)) &&
      atomic_fetch_add(&n_threads, 1) >= atomic_load(&first_thread_to_fail)) {
    atomic_fetch_add(&n_failed, 1);
    return EAGAIN;
  }
  *(void **)&create = dlsym(RTLD_NEXT, "pthread_create");
  return create(thread, attributes, run, data);
}

void fail_alloc(long first, bool all_after) {
  atomic_store(&n_allocations, 0);
  atomic_store(&n_failed, 0);
  atomic_store(&last_to_fail, all_after ? LONG_MAX : first);
  atomic_store(&first_to_fail, first);
}

void fail_thread(long first) {
  atomic_store(&n_threads, 0);
  atomic_store(&n_failed, 0);
  atomic_store(&first_thread_to_fail, first);
}

void fail_nothing(void) {
  atomic_store(&first_to_fail, LONG_MAX);
  atomic_store(&first_thread_to_fail, LONG_MAX);
}

long fail_n_allocations(void) { return atomic_load(&n_allocations); }
long fail_n_failed(void) { return atomic_load(&n_failed); }
long fail_n_live(void) { return atomic_load(&n_live) + atomic_load(&mapped_bytes); }
