/* Threads of the host run the tasks of a step; ThreadSanitizer watches. With the argument "shared"
   two handles step one parameter at once, which is the mistake that it must report. */
#define _POSIX_C_SOURCE 200809L /* barriers */
#include <adamw.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

enum { N = 600011, THREADS = 3, STEPS = 20 };

struct loop {
  size_t num_tasks;
  adamw_task task;
  void *task_data;
  pthread_barrier_t all_here; /* or one thread might do all the work before the next one starts */
};

struct worker {
  struct loop *loop;
  size_t index;
};

static void *work(void *data) {
  struct worker *worker = data;
  pthread_barrier_wait(&worker->loop->all_here);
  worker->loop->task(worker->loop->task_data, worker->index);
  return NULL;
}

static atomic_int n_loops;

static int32_t parallel_for(size_t num_tasks, adamw_task task, void *task_data, void *user_data) {
  struct loop loop = {.num_tasks = num_tasks, .task = task, .task_data = task_data};
  struct worker workers[THREADS];
  pthread_t threads[THREADS];
  (void)user_data;
  atomic_fetch_add(&n_loops, 1);
  if (num_tasks > THREADS || pthread_barrier_init(&loop.all_here, NULL, (unsigned)num_tasks) != 0)
    return 1;
  for (size_t i = 0; i < num_tasks; i++) {
    workers[i] = (struct worker){&loop, i};
    if (pthread_create(&threads[i], NULL, work, &workers[i]) != 0)
      return 2; /* the others wait for good, and the test fails by its time limit */
  }
  for (size_t i = 0; i < num_tasks; i++)
    pthread_join(threads[i], NULL);
  pthread_barrier_destroy(&loop.all_here);
  return 0;
}

static float params[2][N], grads[2][N];
static pthread_barrier_t both_here;

/* Steps a handle of its own; NULL if all went well. */
static void *step(void *data) {
  float *param = data, *grad = param == params[1] ? grads[1] : grads[0];
  adamw_config config;
  adamw_optimizer *optimizer;
  uint32_t number;
  adamw_config_init(&config, sizeof config);
  config.num_threads = THREADS;
  config.parallel_for = parallel_for;
  bool failed = adamw_create(&config, &optimizer) ||
                adamw_add_array(optimizer, "param", param, N, ADAMW_DTYPE_F32, &number) ||
                adamw_set_grad_array(optimizer, number, grad, N, ADAMW_DTYPE_F32);
  pthread_barrier_wait(&both_here);
  for (int i = 0; i < STEPS && !failed; i++)
    failed = adamw_step(optimizer);
  if (failed)
    fprintf(stderr, "%s\n", adamw_last_error());
  return adamw_destroy(optimizer) || failed ? data : NULL;
}

int main(int argc, char **argv) {
  bool shared = argc > 1 && strcmp(argv[1], "shared") == 0;
  pthread_t other;
  void *failed;
  pthread_barrier_init(&both_here, NULL, 2);
  if (pthread_create(&other, NULL, step, shared ? params[0] : params[1]) != 0)
    return 1;
  bool wrong = step(params[0]);
  pthread_join(other, &failed);
  return wrong || failed || atomic_load(&n_loops) != 2 * STEPS;
}
