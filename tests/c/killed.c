/* However a process that saves is killed: the file is whole, and the last save that returned or a newer
   one. Its leftovers do not pile up. */
#define _GNU_SOURCE
#include <adamw.h>
#include <dirent.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { N = 100000 };
static float param[N], grad[N];

static adamw_optimizer *handle(uint32_t *number) {
  adamw_optimizer *optimizer = NULL;
  adamw_config config;
  adamw_config_init(&config, sizeof config);
  config.num_threads = 1;
  if (adamw_create(&config, &optimizer) ||
      adamw_add_array(optimizer, "w", param, N, ADAMW_DTYPE_F32, number) ||
      adamw_set_grad_array(optimizer, *number, grad, N, ADAMW_DTYPE_F32))
    exit(3);
  return optimizer;
}

static adamw_status save(adamw_optimizer *optimizer, const char *path, bool begins) {
  const adamw_save_args args = {.struct_size = sizeof args, .path = path};
  if (!begins)
    return adamw_save(optimizer, path);
  /* Another step is taken while the file is written, and taken again by who goes on from that. */
  adamw_status begun = adamw_save_begin(optimizer, &args);
  if (begun || adamw_step(optimizer))
    return begun ? begun : ADAMW_STATUS_INTERNAL;
  return adamw_save_wait(optimizer, NULL, NULL);
}

/* Goes on from the file, if there is one; tells the parent after every save which step it was. */
static void train_until_killed(const char *path, int acknowledge, bool begins) {
  uint32_t number;
  adamw_optimizer *optimizer = handle(&number);
  if (access(path, F_OK) == 0 && adamw_load(optimizer, path, NULL))
    exit(4);
  for (;;) {
    adamw_param_info info;
    if (adamw_step(optimizer) ||
        adamw_get_param_info(optimizer, number, &info, sizeof info) ||
        save(optimizer, path, begins) ||
        write(acknowledge, &info.step, sizeof info.step) != sizeof info.step)
      exit(5);
  }
}

static int n_files(const char *folder) {
  int n = 0;
  DIR *entries = opendir(folder);
  while (readdir(entries))
    n++;
  closedir(entries);
  return n - 2;
}

/* What the rounds must have seen: on a busy machine it takes more of them. */
enum { MIN_STEPS = 20, MIN_LEFTOVERS = 5, MOST_ROUNDS = 5000 };

static int dies_in(int n_rounds, bool begins) {
  char folder[] = "killed-XXXXXX", path[64], leftover[64];
  if (!mkdtemp(folder))
    return 2;
  snprintf(path, sizeof path, "%s/state", folder);
  snprintf(leftover, sizeof leftover, "%s/.adamw-000.tmp", folder);
  for (int i = 0; i < N; i++)
    grad[i] = (float)(i % 89) / 40 - 1;
  uint32_t number;
  adamw_optimizer *optimizer = handle(&number);
  uint64_t acknowledged = 0;
  int n_leftovers = 0, round = 0;
  srand(7);
  for (; round < n_rounds || ((acknowledged < MIN_STEPS || n_leftovers < MIN_LEFTOVERS) && round < MOST_ROUNDS);
       round++) {
    int ends[2];
    if (pipe(ends))
      return 2;
    pid_t child = fork();
    if (child == 0) {
      close(ends[0]);
      train_until_killed(path, ends[1], begins);
    }
    close(ends[1]);
    const struct timespec wait = {0, rand() % 20000 * 1000L};
    nanosleep(&wait, NULL);
    kill(child, SIGKILL);
    int status;
    waitpid(child, &status, 0);
    if (!WIFSIGNALED(status)) {
      printf("round %d: the child ended with status %d\n", round, status);
      return 1;
    }
    for (uint64_t step; read(ends[0], &step, sizeof step) == sizeof step;)
      acknowledged = step;
    close(ends[0]);
    n_leftovers += access(leftover, F_OK) == 0;
    if (access(path, F_OK) && acknowledged == 0)
      continue; /* killed before the first save */
    adamw_param_info info;
    if (adamw_load(optimizer, path, NULL) ||
        adamw_get_param_info(optimizer, number, &info, sizeof info)) {
      printf("round %d: %s\n", round, adamw_last_error());
      return 1;
    }
    if (info.step < acknowledged) {
      printf("round %d: step %d of %d\n", round, (int)info.step, (int)acknowledged);
      return 1;
    }
    if (n_files(folder) > 2) {
      printf("round %d: %d files\n", round, n_files(folder));
      return 1;
    }
  }
  printf("%d rounds, %d steps, %d killed while saving\n", round, (int)acknowledged, n_leftovers);
  unlink(leftover);
  unlink(path);
  rmdir(folder);
  adamw_destroy(optimizer);
  return acknowledged < MIN_STEPS || n_leftovers < MIN_LEFTOVERS;
}

int main(void) {
  const int dies = dies_in(200, false);
  return dies ? dies : dies_in(50, true);
}
