/* An embedding table trained with sparse gradients: each step sees a few of its rows.
 *
 *   sparse gradient    rows and their values, duplicates added up; no gradient of the table's size
 *   exact laziness     rows that a step does not list catch up when they are needed, to the bits of dense steps
 *   schedule           a warmup, then half a cosine
 *   clipping           by the global norm
 *
 * The same table is trained a second time with dense gradients; the program exits 1 if one bit differs. */
#include <adamw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { WORDS = 1000, DIM = 16, BATCH = 8, STEPS = 300 };

static float table[WORDS][DIM], dense_table[WORDS][DIM], target[WORDS][DIM];

static void check(adamw_status status) {
  if (status == ADAMW_STATUS_OK) return;
  fprintf(stderr, "%s: %s\n", adamw_status_name(status), adamw_last_error());
  exit(1);
}

static uint32_t random_number(void) {
  static uint32_t state = 1;
  return (state = state * 1664525 + 1013904223) >> 8;
}

static adamw_optimizer *create(adamw_lazy lazy_mode, float *data, uint32_t *param) {
  adamw_optimizer *optimizer;
  adamw_config config;
  check(adamw_config_init(&config, sizeof config));
  config.clip = ADAMW_CLIP_GLOBAL_NORM;
  config.clip_norm = 1;
  config.lazy_mode = lazy_mode;
  check(adamw_create(&config, &optimizer));
  check(adamw_add_array(optimizer, "embedding", data, WORDS * DIM, ADAMW_DTYPE_F32, param));

  const adamw_schedule schedule = {
      .struct_size = sizeof schedule,
      .kind = ADAMW_SCHEDULE_COSINE_WITH_WARMUP,
      .lr = 0.05,
      .warmup_steps = 20,
      .total_steps = STEPS,
  };
  check(adamw_set_lr_schedule(optimizer, &schedule)); /* goes on after every step */
  return optimizer;
}

/* The gradient of the squared distance between the rows of a batch and what they should be. */
static void gradient(float from[WORDS][DIM], const int32_t *rows, float *values) {
  for (int i = 0; i < BATCH; i++)
    for (int k = 0; k < DIM; k++) values[i * DIM + k] = 2 * (from[rows[i]][k] - target[rows[i]][k]);
}

int main(void) {
  int32_t rows[BATCH];
  float values[BATCH * DIM], dense[WORDS][DIM];
  int64_t rows_shape[1] = {BATCH}, values_shape[2] = {BATCH, DIM};
  adamw_tensor batch_rows = {rows, {ADAMW_DEVICE_CPU, 0}, 1, {ADAMW_CODE_INT, 32, 1}, rows_shape, NULL, 0};
  adamw_tensor batch_values = {values, {ADAMW_DEVICE_CPU, 0}, 2, {ADAMW_CODE_FLOAT, 32, 1}, values_shape, NULL, 0};
  uint32_t sparse_param, dense_param;

  for (int i = 0; i < WORDS; i++)
    for (int k = 0; k < DIM; k++) target[i][k] = (float)(random_number() % 2001) / 1000 - 1;
  adamw_optimizer *sparse = create(ADAMW_LAZY_EXACT, table[0], &sparse_param);
  adamw_optimizer *plain = create(ADAMW_LAZY_OFF, dense_table[0], &dense_param);

  for (int step = 0; step < STEPS; step++) {
    for (int i = 0; i < BATCH; i++) rows[i] = (int32_t)(random_number() % 50 * (random_number() % 20)); /* some often */

    check(adamw_sparse_prepare(sparse, sparse_param, &batch_rows)); /* now these rows may be read */
    gradient(table, rows, values);
    check(adamw_set_sparse_grad(sparse, sparse_param, &batch_rows, &batch_values));
    check(adamw_step(sparse));

    gradient(dense_table, rows, values);
    memset(dense, 0, sizeof dense);
    for (int i = 0; i < BATCH; i++)
      for (int k = 0; k < DIM; k++) dense[rows[i]][k] += values[i * DIM + k];
    check(adamw_set_grad_array(plain, dense_param, dense, WORDS * DIM, ADAMW_DTYPE_F32));
    check(adamw_step(plain));
  }
  check(adamw_sparse_flush(sparse)); /* now all rows may be read */

  int same = memcmp(table, dense_table, sizeof table) == 0;
  printf("%d steps over %d of %d rows each: %s\n", STEPS, BATCH, WORDS, same ? "the bits of dense steps" : "other bits");
  check(adamw_destroy(sparse));
  check(adamw_destroy(plain));
  return same ? 0 : 1;
}
