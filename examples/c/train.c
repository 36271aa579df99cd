/* Trains two parameters, one of them without weight decay, saves the optimizer, goes on with a new one, and prints a checksum of
 * the weights. The other folders have the same program in other languages, which prints the same.
 *
 * usage: train <checkpoint> */
#include <adamw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { N = 64, NUM_STEPS = 50 };

static float weight[N], bias[N], weight_grad[N], bias_grad[N];

static void check(adamw_status status) {
  if (status == ADAMW_STATUS_OK) return;
  fprintf(stderr, "%s: %s\n", adamw_status_name(status), adamw_last_error());
  exit(1);
}

static int32_t decays(const char *name, void *user_data) {
  (void)user_data;
  return strcmp(name, "bias") != 0;
}

static adamw_optimizer *new_optimizer(void) {
  adamw_optimizer *optimizer;
  uint32_t w, b;
  check(adamw_create(NULL, &optimizer));
  check(adamw_set_lr(optimizer, 0.05));
  check(adamw_set_decay_filter(optimizer, decays, NULL));
  check(adamw_add_array(optimizer, "weight", weight, N, ADAMW_DTYPE_F32, &w));
  check(adamw_add_array(optimizer, "bias", bias, N, ADAMW_DTYPE_F32, &b));
  check(adamw_set_grad_array(optimizer, w, weight_grad, N, ADAMW_DTYPE_F32));
  check(adamw_set_grad_array(optimizer, b, bias_grad, N, ADAMW_DTYPE_F32));
  return optimizer;
}

/* Each element goes towards a value of its own. */
static void train(adamw_optimizer *optimizer) {
  for (int step = 0; step < NUM_STEPS; step++) {
    for (int i = 0; i < N; i++) {
      weight_grad[i] = weight[i] - (float)i / 16;
      bias_grad[i] = bias[i] + (float)i / 16;
    }
    check(adamw_step(optimizer));
  }
}

static unsigned adler32(unsigned sum, const void *data, size_t num_bytes) {
  unsigned a = sum & 0xffff, b = sum >> 16;
  for (size_t i = 0; i < num_bytes; i++) {
    a = (a + ((const unsigned char *)data)[i]) % 65521;
    b = (b + a) % 65521;
  }
  return b << 16 | a;
}

int main(int argc, char **argv) {
  if (argc != 2) {
    fprintf(stderr, "usage: %s <checkpoint>\n", argv[0]);
    return 2;
  }
  adamw_optimizer *optimizer = new_optimizer();
  train(optimizer);
  check(adamw_save(optimizer, argv[1]));
  check(adamw_destroy(optimizer));

  optimizer = new_optimizer();
  check(adamw_load(optimizer, argv[1], NULL));
  train(optimizer);
  check(adamw_destroy(optimizer));

  printf("%08X\n", adler32(adler32(1, weight, sizeof weight), bias, sizeof bias));
  return 0;
}
