/* A step inside a parallel region of the host's. As in ggml, every thread runs every operation of a graph, with its number
 * and the count of all, and they wait for each other after each operation.
 *
 *   before the graph    one thread begins the step; the gradients need not be there yet
 *   in the graph        an operation of all threads works on it
 *   after the graph     one thread ends it, and has its status
 *
 * The same model is trained a second time by adamw_step; the program exits 1 if one bit differs. */
#define _POSIX_C_SOURCE 200809L /* barriers */
#include <adamw.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { N = 1 << 20, THREADS = 4, STEPS = 30 };

struct model {
  float weights[N], grad[N];
  adamw_optimizer *optimizer;
};

static struct model model, plain;

static void check(adamw_status status) {
  if (status == ADAMW_STATUS_OK) return;
  fprintf(stderr, "%s: %s\n", adamw_status_name(status), adamw_last_error());
  exit(1);
}

static float target(int i) { return (float)(i % 1000) / 1000; }

/* The operations. Thread `ith` of `nth` does its part. */

static void backward(struct model *of, int ith, int nth) {
  for (int i = N / nth * ith; i < (ith + 1 == nth ? N : N / nth * (ith + 1)); i++) of->grad[i] = of->weights[i] - target(i);
}

static void step(struct model *of, int ith, int nth) {
  (void)ith, (void)nth; /* the library hands out parts of its own */
  adamw_step_work(of->optimizer);
}

static void (*const graph[])(struct model *of, int ith, int nth) = {backward, step};

/* The threads of the host, and the barrier between operations. */
static pthread_barrier_t all_done;

static void *compute(void *number) {
  for (size_t op = 0; op < sizeof graph / sizeof graph[0]; op++) {
    graph[op](&model, *(int *)number, THREADS);
    pthread_barrier_wait(&all_done);
  }
  return NULL;
}

static void compute_graph(void) {
  pthread_t threads[THREADS];
  int numbers[THREADS];
  for (int i = 0; i < THREADS; i++) {
    numbers[i] = i;
    if (i > 0 && pthread_create(&threads[i], NULL, compute, &numbers[i]) != 0) exit(1);
  }
  compute(&numbers[0]);
  for (int i = 1; i < THREADS; i++) pthread_join(threads[i], NULL);
}

static void create(struct model *of) {
  adamw_config config;
  uint32_t number;
  check(adamw_config_init(&config, sizeof config));
  config.lr = 0.02;
  config.num_threads = 1; /* for adamw_step; a step that threads take together uses theirs */
  config.clip = ADAMW_CLIP_GLOBAL_NORM;
  config.clip_norm = 100;
  check(adamw_create(&config, &of->optimizer));
  check(adamw_add_array(of->optimizer, "weights", of->weights, N, ADAMW_DTYPE_F32, &number));
  check(adamw_set_grad_array(of->optimizer, number, of->grad, N, ADAMW_DTYPE_F32));
}

static double loss(const struct model *of) {
  double sum = 0;
  for (int i = 0; i < N; i++) sum += (of->weights[i] - target(i)) * (of->weights[i] - target(i));
  return sum / N;
}

int main(void) {
  create(&model);
  create(&plain);
  if (pthread_barrier_init(&all_done, NULL, THREADS) != 0) return 1;
  printf("loss before: %.4f\n", loss(&model));
  for (int i = 0; i < STEPS; i++) {
    check(adamw_step_begin(model.optimizer));
    compute_graph();
    check(adamw_step_end(model.optimizer));

    backward(&plain, 0, 1);
    check(adamw_step(plain.optimizer));
  }
  printf("loss after %d steps of %d threads: %.4f\n", STEPS, THREADS, loss(&model));
  int same = memcmp(model.weights, plain.weights, sizeof model.weights) == 0;
  printf("the bits of adamw_step: %s\n", same ? "yes" : "no");
  check(adamw_destroy(model.optimizer));
  check(adamw_destroy(plain.optimizer));
  pthread_barrier_destroy(&all_done);
  return same && loss(&model) < 0.1 ? 0 : 1;
}
