#include "loaded.h"
#include <dlfcn.h>

const char *load(const char *path, struct loaded *out_loaded) {
  const struct {
    const char *name;
    void **function;
  } symbols[] = {
      {"adamw_config_init", (void **)&out_loaded->config_init},
      {"adamw_create", (void **)&out_loaded->create},
      {"adamw_add_array", (void **)&out_loaded->add_array},
      {"adamw_set_grad_array", (void **)&out_loaded->set_grad_array},
      {"adamw_set_lr_ratio", (void **)&out_loaded->set_lr_ratio},
      {"adamw_step", (void **)&out_loaded->step},
      {"adamw_destroy", (void **)&out_loaded->destroy},
      {"adamw_last_error", (void **)&out_loaded->last_error},
  };
  out_loaded->library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
  if (!out_loaded->library)
    return dlerror();
  for (size_t i = 0; i < sizeof symbols / sizeof symbols[0]; i++)
    if (!(*symbols[i].function = dlsym(out_loaded->library, symbols[i].name)))
      return symbols[i].name;
  return NULL;
}
