/* What the Python side of the comparison leaves to C: a configuration, whose fields a C compiler places. */
#include <adamw.h>
#include <string.h>

adamw_optimizer *create(int threads, const char *name) {
  adamw_config config;
  adamw_optimizer *optimizer;
  if (adamw_config_init(&config, sizeof config)) return NULL;
  config.num_threads = (uint32_t)threads;
  if (!strcmp(name, "clip-clear")) {
    config.clip = ADAMW_CLIP_GLOBAL_NORM;
    config.clip_norm = 1.0;
    config.clear_grads = 1;
  }
  if (!strcmp(name, "bf16-master")) config.precision = ADAMW_PRECISION_SPLIT;
  if (!strcmp(name, "f16-master")) config.multi_precision = 1;
  if (!strcmp(name, "8-bit")) config.moments = ADAMW_MOMENTS_8BIT;
  return adamw_create(&config, &optimizer) ? NULL : optimizer;
}
