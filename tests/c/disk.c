/* A save is durable in the right order, and where the system fails it, at whichever call: an error, what
   was there before, no other file, and a handle that saves again. */
#define _GNU_SOURCE
#include "fail_alloc.h"
#include <adamw.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

/* ---- the system calls, taken here before they reach the system */

enum call { OPEN, WRITE, FSYNC, RENAME, UNLINK, TRUNCATE, READ, LOCK, CHMOD, CHOWN, STAT, CALLS };
static const char *const call_names[CALLS] = {"open", "write", "fsync", "rename", "unlink", "truncate",
                                              "read", "flock", "chmod", "chown",  "stat"};

static struct {
  enum call call;
  int fd; /* that was opened or used */
  bool creates;
} trace[4096];
static int n_calls, n_of[CALLS];

static enum call fault_in;
static int fault_at = -1, fault_errno; /* the number of the call that fails; -1: none, -2: all do */
static size_t longest_write = SIZE_MAX;
static int interrupted; /* every second write is */

static bool fails(enum call call, int fd, bool creates) {
  if (n_calls < 4096) {
    trace[n_calls].call = call;
    trace[n_calls].fd = fd;
    trace[n_calls++].creates = creates;
  }
  if ((n_of[call]++ != fault_at && fault_at != -2) || call != fault_in)
    return false;
  errno = fault_errno;
  return true;
}

int openat(int folder, const char *path, int flags, ...) {
  va_list arguments;
  va_start(arguments, flags);
  unsigned mode = flags & O_CREAT ? va_arg(arguments, unsigned) : 0;
  va_end(arguments);
  if (fails(OPEN, -1, flags & O_CREAT))
    return -1;
  int fd = (int)syscall(SYS_openat, folder, path, flags, mode);
  if (n_calls > 0 && n_calls < 4096)
    trace[n_calls - 1].fd = fd;
  return fd;
}

ssize_t pwrite64(int fd, const void *data, size_t bytes, off_t offset) {
  if (interrupted && (interrupted ^= 3) == 1) {
    errno = EINTR;
    return -1;
  }
  if (fails(WRITE, fd, false))
    return -1;
  return syscall(SYS_pwrite64, fd, data, bytes < longest_write ? bytes : longest_write, offset);
}

ssize_t pread64(int fd, void *data, size_t bytes, off_t offset) {
  return fails(READ, fd, false) ? -1 : syscall(SYS_pread64, fd, data, bytes, offset);
}

int fsync(int fd) { return fails(FSYNC, fd, false) ? -1 : (int)syscall(SYS_fsync, fd); }

int renameat(int from, const char *old, int to, const char *new) {
  return fails(RENAME, from, false) ? -1 : (int)syscall(SYS_renameat, from, old, to, new);
}

int unlinkat(int folder, const char *path, int flags) {
  return fails(UNLINK, folder, false) ? -1 : (int)syscall(SYS_unlinkat, folder, path, flags);
}

int ftruncate64(int fd, off_t length) {
  return fails(TRUNCATE, fd, false) ? -1 : (int)syscall(SYS_ftruncate, fd, length);
}

int flock(int fd, int operation) {
  return fails(LOCK, fd, false) ? -1 : (int)syscall(SYS_flock, fd, operation);
}

int fchmod(int fd, mode_t mode) {
  return fails(CHMOD, fd, false) ? -1 : (int)syscall(SYS_fchmod, fd, mode);
}

int fchown(int fd, uid_t user, gid_t group) {
  return fails(CHOWN, fd, false) ? -1 : (int)syscall(SYS_fchown, fd, user, group);
}

int statx(int folder, const char *path, int flags, unsigned mask, struct statx *to) {
  return fails(STAT, folder, false) ? -1 : (int)syscall(SYS_statx, folder, path, flags, mask, to);
}

/* Who calls, if not who new files belong to. */
static uid_t stranger;

uid_t geteuid(void) { return stranger ? stranger : (uid_t)syscall(SYS_geteuid); }

static void forget(void) {
  n_calls = 0;
  memset(n_of, 0, sizeof n_of);
  fault_at = -1;
}

/* ---- checks */

static int n_failed;

static void check(int line, bool holds, const char *what) {
  if (!holds) {
    printf("line %d: %s (%s)\n", line, what, adamw_last_error());
    n_failed++;
  }
}
#define holds(condition) check(__LINE__, (condition), #condition)

enum { N = 800000 };
static float param[N], grad[N];
static adamw_optimizer *optimizer;
static char folder[] = "disk-XXXXXX", path[64];

static void set_up(void) {
  uint32_t number;
  for (int i = 0; i < N; i++)
    grad[i] = (float)(i % 97) / 50 - 1;
  holds(!adamw_create(NULL, &optimizer));
  holds(!adamw_add_array(optimizer, "w", param, N, ADAMW_DTYPE_F32, &number));
  holds(!adamw_set_grad_array(optimizer, number, grad, N, ADAMW_DTYPE_F32));
  holds(mkdtemp(folder) != NULL);
  snprintf(path, sizeof path, "%s/state", folder);
}

/* The only file in the folder is the target, or there is none. */
static bool is_alone(bool there) {
  DIR *entries = opendir(folder);
  int n = 0;
  for (struct dirent *entry; (entry = readdir(entries));)
    n += entry->d_name[0] != '.' || (entry->d_name[1] && strcmp(entry->d_name, ".."));
  closedir(entries);
  return n == there && (access(path, F_OK) == 0) == there;
}

struct file {
  char *bytes;
  size_t n;
};

static struct file file(void) {
  struct file file = {NULL, 0};
  struct stat status;
  FILE *from = fopen(path, "rb");
  if (from && !fstat(fileno(from), &status)) {
    file.n = (size_t)status.st_size;
    file.bytes = malloc(file.n);
    holds(fread(file.bytes, 1, file.n, from) == file.n);
  }
  if (from)
    fclose(from);
  return file;
}

static bool same(struct file a, struct file b) { return a.n == b.n && !memcmp(a.bytes, b.bytes, a.n); }

static struct file in_memory(void) {
  adamw_save_args args = {.struct_size = sizeof args, .size_only = 1};
  uint64_t n;
  holds(!adamw_save_to(optimizer, &args, &n));
  args.size_only = 0;
  struct file file = {malloc(n), n};
  args.data = file.bytes;
  args.capacity = n;
  holds(!adamw_save_to(optimizer, &args, &n));
  return file;
}

/* ---- promises */

/* Saves are begun, and written by a thread of the handle. Nothing else runs meanwhile. */
static bool begins;

static adamw_status save_to_path(uint32_t *out_durable) {
  adamw_save_args args = {.struct_size = sizeof args, .path = path};
  if (!begins) {
    args.out_durable = out_durable;
    return adamw_save_to(optimizer, &args, NULL);
  }
  adamw_status begun = adamw_save_begin(optimizer, &args);
  return begun ? begun : adamw_save_wait(optimizer, NULL, out_durable);
}

/* Every write goes to the file that was made; it is synced after the last of them, renamed after that,
   and then its directory is synced. */
static void the_order_is_that_of_a_durable_file(void) {
  forget();
  holds(!save_to_path(NULL));
  int created = -1, last_write = -1, synced = -1, renamed = -1, synced_folder = -1;
  for (int i = 0; i < n_calls; i++) {
    if (trace[i].call == OPEN && trace[i].creates)
      created = i;
    if (trace[i].call == WRITE) {
      holds(created >= 0 && trace[i].fd == trace[created].fd);
      last_write = i;
    }
    if (trace[i].call == RENAME)
      renamed = i;
    if (trace[i].call == FSYNC && renamed < 0) {
      holds(created >= 0 && trace[i].fd == trace[created].fd);
      synced = i;
    }
    if (trace[i].call == FSYNC && renamed >= 0) {
      holds(trace[i].fd == trace[renamed].fd);
      synced_folder = i;
    }
  }
  holds(created >= 0 && created < last_write && last_write < synced && synced < renamed &&
        renamed < synced_folder && synced_folder == n_calls - 1);
  holds(n_of[WRITE] > 3 && n_of[FSYNC] == 2 && n_of[RENAME] == 1 && n_of[UNLINK] == 0);
  holds(n_of[TRUNCATE] == 0);
}

static void a_failing_call_leaves_the_old_file(bool there) {
  static const enum call calls[] = {OPEN, WRITE, FSYNC, RENAME};
  static const int errors[] = {EIO, ENOSPC};
  struct file expected = in_memory();
  for (size_t c = 0; c < sizeof calls / sizeof calls[0]; c++)
    for (size_t e = 0; e < 2; e++)
      for (int number = 0;; number++) {
        if (!there)
          unlink(path);
        struct file before = file();
        forget();
        fault_in = calls[c];
        fault_at = number;
        fault_errno = errors[e];
        adamw_status status = save_to_path(NULL);
        bool hit = n_of[calls[c]] > number;
        bool is_last_fsync = calls[c] == FSYNC && number == 1;
        int n_fsyncs = n_of[FSYNC];
        forget();
        if (!hit)
          break;
        if (status != ADAMW_STATUS_IO) {
          printf("%s number %d with error %d: ", call_names[calls[c]], number, errors[e]);
          holds(status == ADAMW_STATUS_IO);
        }
        if (calls[c] == FSYNC) /* a failed one is not tried again */
          holds(n_fsyncs == number + 1);
        struct file after = file();
        if (is_last_fsync)
          holds(same(after, expected));
        else
          holds(same(after, before));
        holds(is_alone(there || is_last_fsync));
        holds(!save_to_path(NULL));
        struct file again = file();
        holds(same(again, expected));
        free(before.bytes);
        free(after.bytes);
        free(again.bytes);
      }
  free(expected.bytes);
}

/* A save to the file; 1: it is durable, 0: it is not, -1: it failed. */
static int save(void) {
  uint32_t durable = 7;
  adamw_status status = save_to_path(&durable);
  holds(status == ADAMW_STATUS_OK ? durable < 2 : durable == 7);
  return status == ADAMW_STATUS_OK ? (int)durable : -1;
}

/* What a file system does not have is no failure; where it is needed to outlive a power cut, the save
   says so. Nothing is left behind. */
static void a_file_system_that_does_less_takes_a_checkpoint(void) {
  static const struct {
    enum call call;
    int at, error, durable;
  } cases[] = {
      {TRUNCATE, -2, EINVAL, 1},  {TRUNCATE, -2, EIO, 1},    {LOCK, -2, ENOLCK, 1},
      {LOCK, -2, EOPNOTSUPP, 1},  {CHMOD, -2, EPERM, 1},     {CHOWN, -2, EPERM, 1},
      {FSYNC, 1, EINVAL, 0},      {FSYNC, 1, EBADF, 0},      {FSYNC, 1, EOPNOTSUPP, 0},
      {FSYNC, 1, ENOSYS, 0},      {FSYNC, 0, EINVAL, 0},     {FSYNC, 0, EOPNOTSUPP, 0},
      {FSYNC, -2, ENOSYS, 0},     {FSYNC, 0, EBADF, -1},     {FSYNC, 1, EIO, -1},
  };
  struct file expected = in_memory();
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
    for (int there = 0; there < 2; there++) {
      if (!there)
        unlink(path);
      forget();
      fault_in = cases[i].call;
      fault_at = cases[i].at;
      fault_errno = cases[i].error;
      int durable = save();
      forget();
      if (durable != cases[i].durable)
        printf("%s with error %d: %d\n", call_names[cases[i].call], cases[i].error, durable);
      holds(durable == cases[i].durable);
      holds(is_alone(durable >= 0 || there || cases[i].error == EIO));
      struct file seen = file();
      holds(durable < 0 || same(seen, expected));
      free(seen.bytes);
      holds(save() == 1);
    }
  /* Where new files belong to another than who makes them. */
  stranger = geteuid() + 1000;
  for (int i = 0; i < 3; i++) {
    holds(save() == 1 && is_alone(true));
    if (i == 1)
      unlink(path);
  }
  stranger = 0;
  free(expected.bytes);
}

/* Whatever fails of what looks at the new file: no other file is left. */
static void no_file_is_left_whatever_fails(void) {
  static const enum call calls[] = {LOCK, CHMOD, CHOWN, STAT, TRUNCATE};
  for (size_t c = 0; c < sizeof calls / sizeof calls[0]; c++)
    for (int number = -2; number < 8; number++)
      for (int there = 0; there < 2; there++) {
        if (!there)
          unlink(path);
        forget();
        fault_in = calls[c];
        fault_at = number;
        fault_errno = EIO;
        int saved = save();
        forget();
        if (!is_alone(there || saved >= 0))
          printf("%s number %d: \n", call_names[calls[c]], number);
        holds(is_alone(there || saved >= 0));
        holds(save() == 1);
      }
}

static void short_and_interrupted_writes_go_on(void) {
  struct file expected = in_memory();
  static const size_t most[] = {SIZE_MAX, 100000, 4097};
  for (int i = 0; i < 3; i++)
    for (int interrupts = 0; interrupts < 2; interrupts++) {
      longest_write = most[i];
      interrupted = interrupts;
      holds(!save_to_path(NULL));
      struct file seen = file();
      holds(same(seen, expected));
      free(seen.bytes);
    }
  longest_write = SIZE_MAX;
  interrupted = 0;
  free(expected.bytes);
}

/* A load whose first pass fails has changed nothing. One whose second pass fails leaves a handle that
   can only be loaded again or destroyed. */
static void a_failing_read_is_an_error(void) {
  struct file expected = in_memory();
  holds(!save_to_path(NULL));
  forget();
  holds(!adamw_load(optimizer, path, NULL));
  int n_reads = n_of[READ], n_poisoned = 0;
  holds(n_reads > 6);
  for (int number = 0; number < n_reads; number++) {
    forget();
    fault_in = READ;
    fault_at = number;
    fault_errno = EIO;
    holds(adamw_load(optimizer, path, NULL) == ADAMW_STATUS_IO);
    forget();
    double lr;
    adamw_status status = adamw_get_lr(optimizer, &lr);
    if (status == ADAMW_STATUS_POISONED) {
      n_poisoned++;
      adamw_load_options shared = {.struct_size = sizeof shared, .scope = ADAMW_LOAD_SHARED};
      holds(adamw_step(optimizer) == ADAMW_STATUS_POISONED);
      holds(adamw_save(optimizer, path) == ADAMW_STATUS_POISONED);
      holds(adamw_load(optimizer, "no/such", NULL) == ADAMW_STATUS_IO);
      holds(adamw_load(optimizer, path, &shared) == ADAMW_STATUS_POISONED);
      holds(adamw_step(optimizer) == ADAMW_STATUS_POISONED);
      holds(!adamw_load(optimizer, path, NULL));
    } else {
      holds(status == ADAMW_STATUS_OK && n_poisoned == 0);
    }
    struct file seen = in_memory();
    holds(same(seen, expected));
    free(seen.bytes);
  }
  holds(n_poisoned > 2 && n_poisoned < n_reads - 2);
  free(expected.bytes);
}

/* The process may write files of so many bytes only; by default the system ends one that writes more. */
static void a_limit_on_files_is_an_error(void) {
  struct file expected = file();
  struct rlimit limit, low;
  holds(!getrlimit(RLIMIT_FSIZE, &limit));
  low = limit;
  for (rlim_t bytes = 0; bytes < expected.n; bytes += 1000003) {
    low.rlim_cur = bytes;
    holds(!setrlimit(RLIMIT_FSIZE, &low));
    adamw_status status = save_to_path(NULL);
    holds(status == ADAMW_STATUS_IO && strstr(adamw_last_error(), "File too large"));
    holds(!setrlimit(RLIMIT_FSIZE, &limit));
    struct file seen = file();
    holds(same(seen, expected) && is_alone(true));
    free(seen.bytes);
  }
  holds(!save_to_path(NULL));
  /* The host's own signal is still its own. */
  sigset_t pending;
  holds(!sigpending(&pending) && !sigismember(&pending, SIGXFSZ));
  free(expected.bytes);
}

static void a_failing_allocation_or_thread_changes_nothing(void) {
  struct file expected = in_memory();
  long failed = 1;
  if (begins) {
    fail_thread(0);
    holds(save_to_path(NULL) == ADAMW_STATUS_OUT_OF_MEMORY && is_alone(true));
    fail_nothing();
    holds(!adamw_step(optimizer) && !save_to_path(NULL));
    free(expected.bytes);
    expected = in_memory();
  }
  for (long number = 0; failed; number++) {
    fail_alloc(number, false);
    adamw_status saved = save_to_path(NULL);
    failed = fail_n_failed();
    fail_nothing();
    holds(saved == (failed ? ADAMW_STATUS_OUT_OF_MEMORY : ADAMW_STATUS_OK));
    holds(is_alone(true));
  }
  failed = 1;
  for (long number = 0; failed; number++) {
    fail_alloc(number, false);
    adamw_status loaded = adamw_load(optimizer, path, NULL);
    failed = fail_n_failed();
    fail_nothing();
    holds(failed ? loaded != ADAMW_STATUS_OK : loaded == ADAMW_STATUS_OK);
    struct file seen = in_memory();
    holds(same(seen, expected));
    free(seen.bytes);
  }
  free(expected.bytes);
}

static void a_save_is_whole_or_not_there(void) {
  the_order_is_that_of_a_durable_file();
  holds(!adamw_step(optimizer));
  a_failing_call_leaves_the_old_file(true);
  a_failing_call_leaves_the_old_file(false);
  a_file_system_that_does_less_takes_a_checkpoint();
  no_file_is_left_whatever_fails();
  short_and_interrupted_writes_go_on();
  a_limit_on_files_is_an_error();
  a_failing_allocation_or_thread_changes_nothing();
}

int main(void) {
  set_up();
  holds(!adamw_step(optimizer));
  a_save_is_whole_or_not_there();
  a_failing_read_is_an_error();
  begins = true;
  a_save_is_whole_or_not_there();
  holds(!adamw_step(optimizer));
  holds(!adamw_destroy(optimizer));
  unlink(path);
  holds(!rmdir(folder));
  printf("%d checks failed\n", n_failed);
  return n_failed != 0;
}
