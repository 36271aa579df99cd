/* include/adamw.h in C: it stands alone, may be included twice, and its tensor is DLPack's DLTensor. */
#include <adamw.h>
#include <adamw.h>

/* C99 has no _Static_assert: an array of -1 elements does not compile either. */
#define CHECK(name, condition) typedef char name[(condition) ? 1 : -1]

CHECK(tensor_size, sizeof(adamw_tensor) == 48);
CHECK(tensor_data, offsetof(adamw_tensor, data) == 0);
CHECK(tensor_device, offsetof(adamw_tensor, device) == 8);
CHECK(tensor_ndim, offsetof(adamw_tensor, ndim) == 16);
CHECK(tensor_dtype, offsetof(adamw_tensor, dtype) == 20);
CHECK(tensor_shape, offsetof(adamw_tensor, shape) == 24);
CHECK(tensor_strides, offsetof(adamw_tensor, strides) == 32);
CHECK(tensor_byte_offset, offsetof(adamw_tensor, byte_offset) == 40);

/* Every struct begins with its size; a status is 32 bits wide, whatever enums are. */
CHECK(config_size_first, offsetof(adamw_config, struct_size) == 0);
CHECK(group_config_size_first, offsetof(adamw_group_config, struct_size) == 0);
CHECK(param_config_size_first, offsetof(adamw_param_config, struct_size) == 0);
CHECK(param_info_size_first, offsetof(adamw_param_info, struct_size) == 0);
CHECK(schedule_size_first, offsetof(adamw_schedule, struct_size) == 0);
CHECK(schedule_state_size_first, offsetof(adamw_schedule_state, struct_size) == 0);
CHECK(capabilities_size_first, offsetof(adamw_capabilities, struct_size) == 0);
CHECK(status_width, sizeof(adamw_status) == 4);

static int32_t never_decay(const char *name, void *user_data) {
  (void)name;
  (void)user_data;
  return 0;
}

int main(void) {
  adamw_decay_filter filter = never_decay;
  adamw_optimizer *optimizer = NULL;
  adamw_status status = adamw_create(NULL, &optimizer);
  if (status == ADAMW_STATUS_OK) status = adamw_set_decay_filter(optimizer, filter, NULL);
  if (status == ADAMW_STATUS_OK) status = adamw_destroy(optimizer);
  return status == ADAMW_STATUS_OK ? 0 : 1;
}
