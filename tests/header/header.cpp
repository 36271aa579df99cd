// include/adamw.h in C++: it stands alone, may be included twice, its functions have C linkage, and its tensor is DLPack's
// DLTensor.
#include <adamw.h>
#include <adamw.h>

static_assert(sizeof(adamw_tensor) == 48, "DLTensor");
static_assert(offsetof(adamw_tensor, data) == 0, "DLTensor");
static_assert(offsetof(adamw_tensor, device) == 8, "DLTensor");
static_assert(offsetof(adamw_tensor, ndim) == 16, "DLTensor");
static_assert(offsetof(adamw_tensor, dtype) == 20, "DLTensor");
static_assert(offsetof(adamw_tensor, shape) == 24, "DLTensor");
static_assert(offsetof(adamw_tensor, strides) == 32, "DLTensor");
static_assert(offsetof(adamw_tensor, byte_offset) == 40, "DLTensor");
static_assert(sizeof(adamw_status) == 4, "a status is 32 bits wide, in C as in C++");

static int32_t never_decay(const char *, void *) { return 0; }

int main() {
  adamw_decay_filter filter = never_decay;
  adamw_optimizer *optimizer = nullptr;
  adamw_status status = adamw_create(nullptr, &optimizer);
  if (status == ADAMW_STATUS_OK) status = adamw_set_decay_filter(optimizer, filter, nullptr);
  if (status == ADAMW_STATUS_OK) status = adamw_destroy(optimizer);
  return status == ADAMW_STATUS_OK ? 0 : 1;
}
