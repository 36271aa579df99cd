/* What memory allows: the streams of an f32 step, four read and three written, with one bit operation for arithmetic. */
#include <stddef.h>
#include <stdint.h>

void traffic(uint32_t *param, const uint32_t *grad, uint32_t *exp_avg, uint32_t *exp_avg_sq, ptrdiff_t n, int threads,
             uint32_t zero) {
#pragma omp parallel for num_threads(threads) schedule(static)
  for (ptrdiff_t block = 0; block < (n + 4095) / 4096; block++) {
    ptrdiff_t end = block * 4096 + 4096 < n ? block * 4096 + 4096 : n;
    for (ptrdiff_t i = block * 4096; i < end; i++) {
      uint32_t g = grad[i] & zero;
      param[i] |= g;
      exp_avg[i] |= g;
      exp_avg_sq[i] |= g;
    }
  }
}
