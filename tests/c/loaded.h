/* The library as a program has it that loads it while it runs. */
#ifndef LOADED_H
#define LOADED_H

#include <adamw.h>

struct loaded {
  void *library;
  adamw_status (*config_init)(adamw_config *, size_t);
  adamw_status (*create)(const adamw_config *, adamw_optimizer **);
  adamw_status (*add_array)(adamw_optimizer *, const char *, void *, uint64_t, adamw_dtype,
                            uint32_t *);
  adamw_status (*set_grad_array)(adamw_optimizer *, uint32_t, void *, uint64_t, adamw_dtype);
  adamw_status (*set_lr_ratio)(adamw_optimizer *, adamw_lr_ratio, void *);
  adamw_status (*step)(adamw_optimizer *);
  adamw_status (*destroy)(adamw_optimizer *);
  const char *(*last_error)(void);
};

/* Loads it from a path. Returns NULL, or what went wrong. */
const char *load(const char *path, struct loaded *out_loaded);

#endif
