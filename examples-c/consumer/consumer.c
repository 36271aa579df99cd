#include <adamw.h>
#include <stdio.h>

int main(void) {
  adamw_optimizer *optimizer;
  if (adamw_create(NULL, &optimizer) || adamw_destroy(optimizer)) {
    fprintf(stderr, "%s\n", adamw_last_error());
    return 1;
  }
  printf("adamw %s\n", adamw_version());
  return 0;
}
