/* Does what the sanitizers must report: a gate that lets this pass sees nothing. */
#include <adamw.h>
#include <stdlib.h>
#include <string.h>

enum { N = 1000 };

static int run(const char *mistake) {
  float *param = calloc(N, sizeof *param), *grad = calloc(N, sizeof *grad);
  adamw_optimizer *optimizer;
  uint32_t number;
  if (adamw_create(NULL, &optimizer) ||
      adamw_add_array(optimizer, "param", param, N, ADAMW_DTYPE_F32, &number) ||
      adamw_set_grad_array(optimizer, number, grad, N, ADAMW_DTYPE_F32))
    return 2;
  if (strcmp(mistake, "freed-param") == 0) /* the step reads and writes it */
    free(param);
  if (strcmp(mistake, "short-grad") == 0) /* the step reads beyond its end */
    grad = realloc(grad, (N - 1) * sizeof *grad);
  if (adamw_set_grad_array(optimizer, number, grad, N, ADAMW_DTYPE_F32) || adamw_step(optimizer) ||
      adamw_destroy(optimizer))
    return 2;
  if (strcmp(mistake, "freed-param") != 0)
    free(param);
  if (strcmp(mistake, "leak") != 0)
    free(grad);
  return 0;
}

int main(int argc, char **argv) {
  const char *mistake = argc > 1 ? argv[1] : "";
  /* What a dead part of the stack still points to counts as no leak: one of many is one. */
  const int times = strcmp(mistake, "leak") == 0 ? 100 : 1;
  int status = 0;
  for (int i = 0; i < times && status == 0; i++)
    status = run(mistake);
  return status;
}
