#include "engine.h"

#include <stdio.h>

int main(void) {
  float slope = engine_slope();
  printf("slope %.3f\n", (double)slope);
  return slope > 1.99f && slope < 2.01f ? 0 : 1;
}
