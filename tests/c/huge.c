/* Counts beyond 2^31 elements: the first elements, and those around 2^31 to the last, get the bits
   that a small tensor with the same values gets. Most of the four tensors' 32 GiB are windows on
   the same few pages of zeros. */
#define _GNU_SOURCE
#include <adamw.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { PARAM, GRAD, EXP_AVG, EXP_AVG_SQ, TENSORS };
enum { PAGE_BYTES = 4096, WINDOW_BYTES = 1 << 20 }; /* 2^15 windows, of 65,530 mappings allowed */

/* What is looked at lies on private pages: the first one, and the two around 2^31. */
enum { FIRST = PAGE_BYTES / 4, BEFORE = PAGE_BYTES / 4, AFTER = 1000 };
#define TWO_TO_31 ((size_t)1 << 31)
#define N_ELEMENTS (TWO_TO_31 + AFTER)

static float *huge[TENSORS], small[TENSORS][FIRST + BEFORE + AFTER], seen[FIRST + BEFORE + AFTER];

/* N_ELEMENTS zeros; NULL if the system does not allow it. */
static float *map_zeros(void) {
  size_t n_windows = N_ELEMENTS * sizeof(float) / WINDOW_BYTES + 1;
  int window = memfd_create("window", 0), access = PROT_READ | PROT_WRITE;
  if (window < 0 || ftruncate(window, WINDOW_BYTES) != 0)
    return NULL;
  char *start = mmap(NULL, n_windows * WINDOW_BYTES, PROT_NONE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (start == MAP_FAILED)
    return NULL;
  for (size_t i = 0; i < n_windows; i++)
    if (mmap(start + i * WINDOW_BYTES, WINDOW_BYTES, access, MAP_SHARED | MAP_FIXED, window, 0) ==
        MAP_FAILED)
      return NULL;
  close(window);
  const struct {
    size_t element, bytes;
  } private[] = {{0, PAGE_BYTES}, {TWO_TO_31 - BEFORE, 2 * PAGE_BYTES}};
  for (int i = 0; i < 2; i++)
    if (mmap(start + private[i].element * sizeof(float), private[i].bytes, access,
             MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == MAP_FAILED)
      return NULL;
  return (float *)start;
}

static void fill(void) {
  for (int i = 0; i < FIRST + BEFORE + AFTER; i++) {
    small[PARAM][i] = (float)(i % 113) / 32 - 1;
    small[GRAD][i] = (float)(i % 59) / 16 - 2;
    small[EXP_AVG][i] = (float)(i % 31) / 64;
    small[EXP_AVG_SQ][i] = (float)(i % 17) / 8;
  }
  for (int i = 0; i < TENSORS; i++) {
    memcpy(huge[i], small[i], FIRST * sizeof(float));
    memcpy(huge[i] + TWO_TO_31 - BEFORE, small[i] + FIRST, (BEFORE + AFTER) * sizeof(float));
  }
}

/* One step with the state given, as the fourth. */
static adamw_status step(float *const tensors[TENSORS], int64_t n_elements) {
  adamw_tensor described[TENSORS];
  for (int i = 0; i < TENSORS; i++)
    described[i] = (adamw_tensor){tensors[i], {1, 0}, 1, {2, 32, 1}, &n_elements, NULL, 0};
  const adamw_param_config config = {.struct_size = sizeof config,
                                     .name = "huge",
                                     .param = &described[PARAM],
                                     .exp_avg = &described[EXP_AVG],
                                     .exp_avg_sq = &described[EXP_AVG_SQ],
                                     .step = 3};
  adamw_optimizer *optimizer = NULL;
  uint32_t number;
  adamw_status status = adamw_create(NULL, &optimizer);
  if (!status)
    status = adamw_add_param(optimizer, &config, &number);
  if (!status)
    status = adamw_set_grad(optimizer, number, &described[GRAD]);
  if (!status)
    status = adamw_step(optimizer);
  if (status)
    fprintf(stderr, "%lld elements: %s\n", (long long)n_elements, adamw_last_error());
  adamw_destroy(optimizer);
  return status;
}

int main(void) {
  for (int i = 0; i < TENSORS; i++)
    if (!(huge[i] = map_zeros())) {
      perror("no room in the address space for the tensors");
      return 77; /* skipped */
    }
  fill();
  float first = small[PARAM][0];
  if (step(huge, (int64_t)N_ELEMENTS) ||
      step((float *[]){small[0], small[1], small[2], small[3]}, FIRST + BEFORE + AFTER))
    return 1;
  int n_different = small[PARAM][0] == first;
  for (int i = 0; i < TENSORS; i++) {
    memcpy(seen, huge[i], FIRST * sizeof(float));
    memcpy(seen + FIRST, huge[i] + TWO_TO_31 - BEFORE, (BEFORE + AFTER) * sizeof(float));
    n_different += memcmp(seen, small[i], sizeof seen) != 0;
  }
  if (n_different)
    fprintf(stderr, "%d of the tensors have other bits than small ones\n", n_different);
  return n_different ? 1 : 0;
}
