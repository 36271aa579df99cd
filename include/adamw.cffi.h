/* include/adamw.h for cffi, without its comments: python/generate_abi.py makes it. */
#define ADAMW_VERSION_MAJOR 0
#define ADAMW_VERSION_MINOR 1
#define ADAMW_VERSION_PATCH 0
typedef int32_t adamw_status;
enum adamw_status_code {
  ADAMW_STATUS_OK = 0,
  ADAMW_STATUS_INVALID_ARGUMENT = 1,
  ADAMW_STATUS_UNSUPPORTED = 2,
  ADAMW_STATUS_OUT_OF_MEMORY = 3,
  ADAMW_STATUS_NOT_FOUND = 5,
  ADAMW_STATUS_BAD_HANDLE = 7,
  ADAMW_STATUS_BUSY = 8,
  ADAMW_STATUS_POISONED = 9,
  ADAMW_STATUS_CALLBACK = 10,
  ADAMW_STATUS_LR_CONFLICT = 11,
  ADAMW_STATUS_NONFINITE = 12,
  ADAMW_STATUS_CLIP_CONFLICT = 13,
  ADAMW_STATUS_DEVICE = 14,
  ADAMW_STATUS_IO = 15,
  ADAMW_STATUS_CORRUPT = 16,
  ADAMW_STATUS_MISMATCH = 17,
  ADAMW_STATUS_INTERNAL = 99,
};
const char *adamw_last_error(void);
const char *adamw_status_name(int32_t status);
const char *adamw_version(void);
typedef uint32_t adamw_isa;
#define ADAMW_ISA_BEST 0
#define ADAMW_ISA_PORTABLE 1
#define ADAMW_ISA_AVX2 2
#define ADAMW_ISA_AVX512 3
typedef struct adamw_capabilities {
  size_t struct_size;
  uint32_t isas;
  adamw_isa best_isa;
  uint32_t devices;
  uint32_t dtypes;
  uint32_t num_cpus;
  uint32_t reserved;
} adamw_capabilities;
adamw_status adamw_get_capabilities(struct adamw_capabilities *out_capabilities,
                                    size_t struct_size);
typedef struct adamw_team adamw_team;
adamw_status adamw_team_create(uint32_t num_threads, adamw_team **out_team);
adamw_status adamw_team_destroy(adamw_team *team);
typedef int32_t (*adamw_device_alloc)(size_t num_bytes,
                                      int32_t device,
                                      void *stream,
                                      void **out_address,
                                      void *user_data);
typedef int32_t (*adamw_device_free)(void *address,
                                     size_t num_bytes,
                                     int32_t device,
                                     void *stream,
                                     void *user_data);
typedef void (*adamw_task)(void *task_data, size_t index);
typedef int32_t (*adamw_parallel_for)(size_t num_tasks,
                                      adamw_task task,
                                      void *task_data,
                                      void *user_data);
typedef uint32_t adamw_clip;
#define ADAMW_CLIP_NONE 0
#define ADAMW_CLIP_NORM 1
#define ADAMW_CLIP_GLOBAL_NORM 2
#define ADAMW_CLIP_VALUE 3
typedef uint32_t adamw_clip_scope;
#define ADAMW_CLIP_SCOPE_HANDLE 0
#define ADAMW_CLIP_SCOPE_GROUP 1
typedef uint32_t adamw_nonfinite;
#define ADAMW_NONFINITE_PROPAGATE 0
#define ADAMW_NONFINITE_SKIP 1
#define ADAMW_NONFINITE_FAIL 2
typedef uint32_t adamw_lazy;
#define ADAMW_LAZY_OFF 0
#define ADAMW_LAZY_ROWS 1
#define ADAMW_LAZY_EXACT 2
typedef uint32_t adamw_bias_correction;
#define ADAMW_BIAS_CORRECTION_PRODUCTS 0
#define ADAMW_BIAS_CORRECTION_CURRENT 1
#define ADAMW_BIAS_CORRECTION_NONE 2
typedef uint32_t adamw_formula;
#define ADAMW_FORMULA_EPS_BEFORE_CORRECTION 1
#define ADAMW_FORMULA_DECAYS_NEW_VALUE 2
typedef uint32_t adamw_precision;
#define ADAMW_PRECISION_DEFAULT 0
#define ADAMW_PRECISION_SPLIT 1
#define ADAMW_PRECISION_STOCHASTIC 2
#define ADAMW_PRECISION_KAHAN 3
typedef uint32_t adamw_moments;
#define ADAMW_MOMENTS_F32 0
#define ADAMW_MOMENTS_BF16 1
#define ADAMW_MOMENTS_8BIT 2
#define ADAMW_MOMENTS_4BIT 3
typedef uint32_t adamw_device_memory;
#define ADAMW_DEVICE_MEMORY_DEFAULT 0
#define ADAMW_DEVICE_MEMORY_POOL 1
typedef struct adamw_config {
  size_t struct_size;
  double lr;
  double beta1;
  double beta2;
  double eps;
  double weight_decay;
  uint32_t amsgrad;
  uint32_t maximize;
  uint32_t multi_precision;
  uint32_t num_threads;
  adamw_isa isa;
  adamw_nonfinite nonfinite;
  adamw_parallel_for parallel_for;
  void *parallel_for_data;
  double clip_norm;
  double clip_min;
  double clip_max;
  adamw_clip clip;
  adamw_clip_scope clip_scope;
  adamw_lazy lazy_mode;
  uint32_t average_grads;
  const float *lr_ptr;
  const float *beta1_ptr;
  const float *beta2_ptr;
  const float *weight_decay_ptr;
  adamw_precision precision;
  adamw_moments moments;
  uint64_t seed;
  uint32_t clear_grads;
  uint32_t independent_weight_decay;
  adamw_bias_correction bias_correction;
  adamw_formula formula;
  adamw_team *team;
  adamw_device_alloc device_alloc;
  adamw_device_free device_free;
  void *device_memory_data;
  adamw_device_memory device_memory;
  uint32_t reserved;
  uint64_t pinned_bytes;
} adamw_config;
adamw_status adamw_config_init(struct adamw_config *config, size_t struct_size);
typedef struct adamw_optimizer adamw_optimizer;
adamw_status adamw_create(const struct adamw_config *config, adamw_optimizer **out_optimizer);
adamw_status adamw_destroy(adamw_optimizer *optimizer);
typedef uint32_t adamw_dtype;
#define ADAMW_DTYPE_F32 1
#define ADAMW_DTYPE_F64 2
#define ADAMW_DTYPE_F16 3
#define ADAMW_DTYPE_BF16 4
#define ADAMW_DTYPE_I16 5
#define ADAMW_DTYPE_U8 6
typedef int32_t adamw_device_type;
#define ADAMW_DEVICE_CPU 1
#define ADAMW_DEVICE_CUDA 2
#define ADAMW_DEVICE_CUDA_HOST 3
#define ADAMW_DEVICE_ROCM_HOST 11
#define ADAMW_DEVICE_CUDA_MANAGED 13
typedef uint8_t adamw_type_code;
#define ADAMW_CODE_INT 0
#define ADAMW_CODE_UINT 1
#define ADAMW_CODE_FLOAT 2
#define ADAMW_CODE_BFLOAT 4
typedef struct adamw_device {
  int32_t device_type;
  int32_t device_id;
} adamw_device;
typedef struct adamw_data_type {
  uint8_t code;
  uint8_t bits;
  uint16_t lanes;
} adamw_data_type;
typedef struct adamw_tensor {
  void *data;
  struct adamw_device device;
  int32_t ndim;
  struct adamw_data_type dtype;
  int64_t *shape;
  int64_t *strides;
  uint64_t byte_offset;
} adamw_tensor;
typedef uint32_t adamw_regularizer;
#define ADAMW_REGULARIZER_NONE 0
#define ADAMW_REGULARIZER_L1 1
#define ADAMW_REGULARIZER_L2 2
typedef struct adamw_param_config {
  size_t struct_size;
  const char *name;
  const struct adamw_tensor *param;
  const struct adamw_tensor *master;
  const struct adamw_tensor *exp_avg;
  const struct adamw_tensor *exp_avg_sq;
  const struct adamw_tensor *max_exp_avg_sq;
  uint64_t step;
  uint32_t group;
  uint32_t no_clip;
  double regularizer_coeff;
  adamw_regularizer regularizer;
  uint32_t reserved;
  const struct adamw_tensor *remainder;
  const struct adamw_tensor *exp_avg_scale;
  const struct adamw_tensor *exp_avg_sq_scale;
  const struct adamw_tensor *max_exp_avg_sq_scale;
  uint64_t first_element;
  uint64_t whole_elements;
  uint32_t offload;
  uint32_t reserved_2;
} adamw_param_config;
adamw_status adamw_add_param(adamw_optimizer *optimizer,
                             const struct adamw_param_config *param,
                             uint32_t *out_param);
adamw_status adamw_add_array(adamw_optimizer *optimizer,
                             const char *name,
                             void *data,
                             uint64_t n_elements,
                             adamw_dtype dtype,
                             uint32_t *out_param);
adamw_status adamw_add_array_to_group(adamw_optimizer *optimizer,
                                      uint32_t group,
                                      const char *name,
                                      void *data,
                                      uint64_t n_elements,
                                      adamw_dtype dtype,
                                      uint32_t *out_param);
typedef struct adamw_param_info {
  size_t struct_size;
  const char *name;
  uint64_t n_elements;
  uint64_t step;
  uint32_t param;
  uint32_t group;
  uint32_t dtype;
  uint32_t decays;
} adamw_param_info;
adamw_status adamw_num_params(const adamw_optimizer *optimizer, uint32_t *out_num_params);
adamw_status adamw_find_param(const adamw_optimizer *optimizer,
                              const char *name,
                              uint32_t *out_param);
adamw_status adamw_get_param_info(const adamw_optimizer *optimizer,
                                  uint32_t param,
                                  struct adamw_param_info *out_info,
                                  size_t struct_size);
typedef struct adamw_param_options {
  size_t struct_size;
  double lr_scale;
  double regularizer_coeff;
  adamw_regularizer regularizer;
  uint32_t group;
  uint32_t frozen;
  uint32_t no_clip;
} adamw_param_options;
adamw_status adamw_get_param_options(const adamw_optimizer *optimizer,
                                     uint32_t param,
                                     struct adamw_param_options *out_options,
                                     size_t struct_size);
adamw_status adamw_set_param_options(adamw_optimizer *optimizer,
                                     uint32_t param,
                                     const struct adamw_param_options *options);
adamw_status adamw_reset_param(adamw_optimizer *optimizer, uint32_t param);
adamw_status adamw_remove_param(adamw_optimizer *optimizer, uint32_t param);
typedef uint32_t adamw_buffer;
#define ADAMW_BUFFER_PARAM 1
#define ADAMW_BUFFER_MASTER 2
#define ADAMW_BUFFER_EXP_AVG 3
#define ADAMW_BUFFER_EXP_AVG_SQ 4
#define ADAMW_BUFFER_MAX_EXP_AVG_SQ 5
#define ADAMW_BUFFER_STEP 6
#define ADAMW_BUFFER_BETA1_POWER 7
#define ADAMW_BUFFER_BETA2_POWER 8
#define ADAMW_BUFFER_REMAINDER 9
#define ADAMW_BUFFER_EXP_AVG_SCALE 10
#define ADAMW_BUFFER_EXP_AVG_SQ_SCALE 11
#define ADAMW_BUFFER_MAX_EXP_AVG_SQ_SCALE 12
adamw_status adamw_rebind(adamw_optimizer *optimizer,
                          const uint32_t *params,
                          const adamw_buffer *buffers,
                          const struct adamw_tensor *const *tensors,
                          size_t num_buffers);
adamw_status adamw_sync_master(adamw_optimizer *optimizer, uint32_t param);
typedef struct adamw_memory {
  size_t struct_size;
  uint64_t master;
  uint64_t remainder;
  uint64_t exp_avg;
  uint64_t exp_avg_sq;
  uint64_t max_exp_avg_sq;
  uint64_t total;
} adamw_memory;
adamw_status adamw_memory_plan(const adamw_optimizer *optimizer,
                               uint32_t group,
                               adamw_dtype dtype,
                               uint64_t n_elements,
                               uint64_t whole_elements,
                               struct adamw_memory *out_memory,
                               size_t struct_size);
adamw_status adamw_set_grad(adamw_optimizer *optimizer,
                            uint32_t param,
                            const struct adamw_tensor *grad);
adamw_status adamw_set_grad_array(adamw_optimizer *optimizer,
                                  uint32_t param,
                                  const void *data,
                                  uint64_t n_elements,
                                  adamw_dtype dtype);
adamw_status adamw_set_grad_data(adamw_optimizer *optimizer,
                                 const uint32_t *params,
                                 const void *const *data,
                                 size_t num_grads);
adamw_status adamw_set_grads(adamw_optimizer *optimizer,
                             const uint32_t *params,
                             const struct adamw_tensor *const *grads,
                             size_t num_grads);
adamw_status adamw_accumulate_grad(adamw_optimizer *optimizer,
                                   uint32_t param,
                                   const struct adamw_tensor *grad);
adamw_status adamw_accumulate_grad_array(adamw_optimizer *optimizer,
                                         uint32_t param,
                                         const void *data,
                                         uint64_t n_elements,
                                         adamw_dtype dtype);
adamw_status adamw_set_accumulation_window(adamw_optimizer *optimizer, uint64_t n_micro_batches);
typedef uint32_t adamw_clear;
#define ADAMW_CLEAR_ZERO 0
#define ADAMW_CLEAR_FORGET 1
adamw_status adamw_clear_grad(adamw_optimizer *optimizer, adamw_clear mode);
adamw_status adamw_step(adamw_optimizer *optimizer);
adamw_status adamw_grad_ready(adamw_optimizer *optimizer, uint32_t param);
adamw_status adamw_step_param(adamw_optimizer *optimizer, uint32_t param);
adamw_status adamw_set_statistics(adamw_optimizer *optimizer, uint32_t statistics);
typedef struct adamw_step_info {
  size_t struct_size;
  uint64_t n_elements;
  uint64_t n_nonfinite;
  double grad_norm;
  uint32_t measured;
  uint32_t skipped;
  double clip_factor;
  double update_norm;
  double param_norm;
  double seconds;
  uint32_t has_statistics;
  adamw_isa isa;
  uint32_t num_threads;
  uint32_t invalid_inputs;
  uint64_t n_unchanged;
} adamw_step_info;
adamw_status adamw_get_step_info(const adamw_optimizer *optimizer,
                                 struct adamw_step_info *out_info,
                                 size_t struct_size);
adamw_status adamw_measure_grads(adamw_optimizer *optimizer, const struct adamw_tensor *sums);
adamw_status adamw_set_grad_sums(adamw_optimizer *optimizer, const struct adamw_tensor *sums);
adamw_status adamw_get_grad_norm(adamw_optimizer *optimizer,
                                 double *out_norm,
                                 uint64_t *out_n_nonfinite);
adamw_status adamw_step_begin(adamw_optimizer *optimizer);
adamw_status adamw_step_work(adamw_optimizer *optimizer);
adamw_status adamw_step_end(adamw_optimizer *optimizer);
typedef int32_t (*adamw_closure)(double *out_loss, void *user_data);
typedef struct adamw_param_grad {
  void *grad;
  uint32_t param;
  uint32_t reserved;
} adamw_param_grad;
typedef struct adamw_minimize_args {
  size_t struct_size;
  adamw_closure closure;
  void *user_data;
  const uint32_t *params;
  size_t num_params;
  const uint32_t *no_grad;
  size_t num_no_grad;
  struct adamw_param_grad *updated;
  size_t capacity;
} adamw_minimize_args;
adamw_status adamw_minimize(adamw_optimizer *optimizer,
                            const struct adamw_minimize_args *args,
                            double *out_loss,
                            size_t *out_num_updated);
adamw_status adamw_apply_gradients(adamw_optimizer *optimizer,
                                   const uint32_t *params,
                                   const struct adamw_tensor *const *grads,
                                   size_t num_grads);
typedef int32_t (*adamw_all_reduce)(double *buffer, size_t count, void *user_data);
typedef int32_t (*adamw_next_piece)(uint64_t done, uint64_t until, void *user_data);
adamw_status adamw_shard_ranges(const uint64_t *n_elements,
                                size_t num_params,
                                uint64_t align,
                                uint32_t rank,
                                uint32_t num_ranks,
                                uint64_t *out_first_elements,
                                uint64_t *out_n_elements);
adamw_status adamw_set_all_reduce(adamw_optimizer *optimizer,
                                  adamw_all_reduce all_reduce,
                                  void *user_data);
adamw_status adamw_set_next_piece(adamw_optimizer *optimizer,
                                  uint64_t n_elements,
                                  adamw_next_piece next_piece,
                                  void *user_data);
adamw_status adamw_set_lr(adamw_optimizer *optimizer, double lr);
adamw_status adamw_get_lr(const adamw_optimizer *optimizer, double *out_lr);
adamw_status adamw_get_param_lr(const adamw_optimizer *optimizer, uint32_t param, double *out_lr);
typedef int32_t (*adamw_decay_filter)(const char *name, void *user_data);
typedef int32_t (*adamw_lr_ratio)(const struct adamw_param_info *param,
                                  double *out_ratio,
                                  void *user_data);
adamw_status adamw_set_decay_filter(adamw_optimizer *optimizer,
                                    adamw_decay_filter filter,
                                    void *user_data);
adamw_status adamw_set_lr_ratio(adamw_optimizer *optimizer,
                                adamw_lr_ratio lr_ratio,
                                void *user_data);
typedef struct adamw_group_config {
  size_t struct_size;
  double lr_scale;
  double weight_decay;
  double beta1;
  double beta2;
  double eps;
  double clip_norm;
  double clip_min;
  double clip_max;
  adamw_clip clip;
  adamw_lazy lazy_mode;
  const float *beta1_ptr;
  const float *beta2_ptr;
  const float *weight_decay_ptr;
  adamw_precision precision;
  adamw_moments moments;
  uint32_t independent_weight_decay;
  uint32_t maximize;
  uint32_t amsgrad;
  adamw_bias_correction bias_correction;
  const float *lr_scale_ptr;
  adamw_formula formula;
  uint32_t reserved;
} adamw_group_config;
adamw_status adamw_group_config_init(const adamw_optimizer *optimizer,
                                     struct adamw_group_config *group,
                                     size_t struct_size);
adamw_status adamw_add_group(adamw_optimizer *optimizer,
                             const struct adamw_group_config *group,
                             uint32_t *out_group);
adamw_status adamw_num_groups(const adamw_optimizer *optimizer, uint32_t *out_num_groups);
adamw_status adamw_get_group(const adamw_optimizer *optimizer,
                             uint32_t group,
                             struct adamw_group_config *out_group,
                             size_t struct_size);
adamw_status adamw_set_group(adamw_optimizer *optimizer,
                             uint32_t group,
                             const struct adamw_group_config *values);
typedef int32_t (*adamw_schedule_function)(uint64_t index, double *out_value, void *user_data);
typedef uint32_t adamw_schedule_kind;
#define ADAMW_SCHEDULE_NOAM 1
#define ADAMW_SCHEDULE_PIECEWISE 2
#define ADAMW_SCHEDULE_NATURAL_EXP 3
#define ADAMW_SCHEDULE_INVERSE_TIME 4
#define ADAMW_SCHEDULE_POLYNOMIAL 5
#define ADAMW_SCHEDULE_LINEAR_WARMUP 6
#define ADAMW_SCHEDULE_EXPONENTIAL 7
#define ADAMW_SCHEDULE_MULTI_STEP 8
#define ADAMW_SCHEDULE_STEP 9
#define ADAMW_SCHEDULE_LAMBDA 10
#define ADAMW_SCHEDULE_REDUCE_ON_PLATEAU 11
#define ADAMW_SCHEDULE_COSINE_ANNEALING 12
#define ADAMW_SCHEDULE_MULTIPLICATIVE 13
#define ADAMW_SCHEDULE_ONE_CYCLE 14
#define ADAMW_SCHEDULE_CYCLIC 15
#define ADAMW_SCHEDULE_LINEAR 16
#define ADAMW_SCHEDULE_COSINE_WARM_RESTARTS 17
#define ADAMW_SCHEDULE_CONSTANT_WITH_WARMUP 18
#define ADAMW_SCHEDULE_LINEAR_WITH_WARMUP 19
#define ADAMW_SCHEDULE_COSINE_WITH_WARMUP 20
#define ADAMW_SCHEDULE_INVERSE_SQRT 21
#define ADAMW_SCHEDULE_WARMUP_STABLE_DECAY 22
#define ADAMW_SCHEDULE_CHAIN 23
#define ADAMW_SCHEDULE_FUNCTION 24
typedef uint32_t adamw_cyclic_mode;
#define ADAMW_CYCLIC_TRIANGULAR 0
#define ADAMW_CYCLIC_TRIANGULAR2 1
#define ADAMW_CYCLIC_EXP_RANGE 2
typedef uint32_t adamw_schedule_advances;
#define ADAMW_ADVANCE_ON_STEP 0
#define ADAMW_ADVANCE_MANUALLY 1
typedef struct adamw_schedule {
  size_t struct_size;
  adamw_schedule_kind kind;
  adamw_schedule_advances advance;
  double lr;
  double start_lr;
  double end_lr;
  double min_lr;
  double max_lr;
  double gamma;
  double power;
  double factor;
  double start_factor;
  double end_factor;
  double divide_factor;
  double phase_fraction;
  double threshold;
  double epsilon;
  uint64_t d_model;
  uint64_t warmup_steps;
  uint64_t total_steps;
  uint64_t decay_steps;
  uint64_t period;
  uint64_t period_factor;
  uint64_t steps_up;
  uint64_t steps_down;
  const uint64_t *boundaries;
  size_t n_boundaries;
  const double *values;
  size_t n_values;
  const struct adamw_schedule *const *schedules;
  size_t n_schedules;
  adamw_schedule_function function;
  void *user_data;
  uint32_t patience;
  uint32_t cooldown;
  adamw_cyclic_mode cyclic_mode;
  uint32_t cycle;
  uint32_t linear_anneal;
  uint32_t three_phase;
  uint32_t maximize_metric;
  uint32_t threshold_is_absolute;
} adamw_schedule;
adamw_status adamw_set_lr_schedule(adamw_optimizer *optimizer,
                                   const struct adamw_schedule *schedule);
adamw_status adamw_schedule_advance(adamw_optimizer *optimizer);
adamw_status adamw_schedule_advance_with_metric(adamw_optimizer *optimizer, double metric);
typedef struct adamw_schedule_state {
  size_t struct_size;
  uint64_t index;
  double lr;
  double best;
  uint32_t num_bad;
  uint32_t cooldown;
} adamw_schedule_state;
adamw_status adamw_get_schedule_state(const adamw_optimizer *optimizer,
                                      struct adamw_schedule_state *out_state,
                                      size_t struct_size);
adamw_status adamw_set_schedule_state(adamw_optimizer *optimizer,
                                      const struct adamw_schedule_state *state);
adamw_status adamw_set_schedule_index(adamw_optimizer *optimizer, uint64_t index);
adamw_status adamw_schedule_trace(const struct adamw_schedule *schedule, double *out_lrs, size_t n);
adamw_status adamw_set_grad_scale(adamw_optimizer *optimizer, double scale);
adamw_status adamw_get_grad_scale(const adamw_optimizer *optimizer, double *out_scale);
typedef struct adamw_loss_scaler {
  size_t struct_size;
  double scale;
  double growth_factor;
  double backoff_factor;
  uint64_t growth_interval;
  uint64_t backoff_interval;
} adamw_loss_scaler;
adamw_status adamw_set_loss_scaler(adamw_optimizer *optimizer,
                                   const struct adamw_loss_scaler *scaler);
typedef struct adamw_loss_scaler_state {
  size_t struct_size;
  double scale;
  uint64_t good_steps;
  uint64_t bad_steps;
} adamw_loss_scaler_state;
adamw_status adamw_get_loss_scaler_state(const adamw_optimizer *optimizer,
                                         struct adamw_loss_scaler_state *out_state,
                                         size_t struct_size);
adamw_status adamw_set_loss_scaler_state(adamw_optimizer *optimizer,
                                         const struct adamw_loss_scaler_state *state);
adamw_status adamw_set_found_inf(adamw_optimizer *optimizer,
                                 const float *found_inf,
                                 float *out_found_inf);
adamw_status adamw_set_sparse_grad(adamw_optimizer *optimizer,
                                   uint32_t param,
                                   const struct adamw_tensor *rows,
                                   const struct adamw_tensor *values);
adamw_status adamw_sparse_prepare(adamw_optimizer *optimizer,
                                  uint32_t param,
                                  const struct adamw_tensor *rows);
adamw_status adamw_sparse_flush(adamw_optimizer *optimizer);
typedef uint32_t adamw_names;
#define ADAMW_NAMES_NEUTRAL 0
#define ADAMW_NAMES_PADDLE 1
typedef struct adamw_state_info {
  size_t struct_size;
  void *data;
  uint64_t n_elements;
  uint32_t param;
  adamw_buffer buffer;
  adamw_dtype dtype;
  uint32_t is_hosts;
} adamw_state_info;
adamw_status adamw_get_state_info(adamw_optimizer *optimizer,
                                  uint32_t param,
                                  adamw_buffer buffer,
                                  struct adamw_state_info *out_info,
                                  size_t struct_size);
adamw_status adamw_get_state_name(const adamw_optimizer *optimizer,
                                  uint32_t param,
                                  adamw_buffer buffer,
                                  adamw_names names,
                                  char *out_name,
                                  size_t capacity,
                                  size_t *out_length);
adamw_status adamw_find_state(const adamw_optimizer *optimizer,
                              const char *name,
                              uint32_t *out_param,
                              adamw_buffer *out_buffer);
adamw_status adamw_get_state(adamw_optimizer *optimizer,
                             const char *name,
                             void *out_data,
                             uint64_t n_elements,
                             adamw_dtype dtype);
adamw_status adamw_set_state(adamw_optimizer *optimizer,
                             const char *name,
                             const void *data,
                             uint64_t n_elements,
                             adamw_dtype dtype);
adamw_status adamw_get_steps(adamw_optimizer *optimizer,
                             const uint32_t *params,
                             uint64_t *out_steps,
                             size_t num_params);
adamw_status adamw_set_steps(adamw_optimizer *optimizer,
                             const uint32_t *params,
                             const uint64_t *steps,
                             size_t num_params);
typedef int32_t (*adamw_write)(const void *data, size_t num_bytes, void *user_data);
typedef int32_t (*adamw_progress)(uint64_t done, uint64_t total, void *user_data);
typedef struct adamw_save_args {
  size_t struct_size;
  const char *path;
  void *data;
  size_t capacity;
  adamw_write write;
  void *write_data;
  adamw_progress progress;
  void *progress_data;
  uint32_t params;
  uint32_t size_only;
  uint32_t *out_durable;
} adamw_save_args;
adamw_status adamw_save(adamw_optimizer *optimizer, const char *path);
adamw_status adamw_save_to(adamw_optimizer *optimizer,
                           const struct adamw_save_args *args,
                           uint64_t *out_num_bytes);
adamw_status adamw_save_begin(adamw_optimizer *optimizer, const struct adamw_save_args *args);
adamw_status adamw_save_poll(adamw_optimizer *optimizer,
                             uint32_t *out_running,
                             uint64_t *out_done,
                             uint64_t *out_total);
adamw_status adamw_save_wait(adamw_optimizer *optimizer,
                             uint64_t *out_num_bytes,
                             uint32_t *out_durable);
typedef int32_t (*adamw_rename)(const char *name, const char **out_name, void *user_data);
typedef int32_t (*adamw_read)(uint64_t offset, void *out_data, size_t num_bytes, void *user_data);
typedef struct adamw_source {
  size_t struct_size;
  const char *path;
  const void *data;
  uint64_t num_bytes;
  adamw_read read;
  void *read_data;
} adamw_source;
typedef uint32_t adamw_load_scope;
#define ADAMW_LOAD_ALL 0
#define ADAMW_LOAD_SUBSET 1
#define ADAMW_LOAD_SHARED 2
typedef struct adamw_load_options {
  size_t struct_size;
  adamw_rename rename;
  void *rename_data;
  adamw_progress progress;
  void *progress_data;
  adamw_load_scope scope;
  uint32_t params;
  uint32_t convert;
  uint32_t keep_schedule;
  uint32_t extend;
  uint32_t reserved;
} adamw_load_options;
adamw_status adamw_load(adamw_optimizer *optimizer,
                        const char *path,
                        const struct adamw_load_options *options);
adamw_status adamw_load_from(adamw_optimizer *optimizer,
                             const struct adamw_source *const *sources,
                             size_t num_sources,
                             const struct adamw_load_options *options);
typedef struct adamw_entry {
  size_t struct_size;
  const char *name;
  const char *text;
  const char *dtype;
  uint64_t n_elements;
  uint64_t offset;
  double value;
} adamw_entry;
typedef int32_t (*adamw_visit)(const struct adamw_entry *entry, void *user_data);
adamw_status adamw_inspect(const struct adamw_source *source, adamw_visit visit, void *user_data);
typedef struct adamw_device_inputs {
  size_t struct_size;
  const float *lr;
  const float *grad_scale;
  const float *found_inf;
} adamw_device_inputs;
adamw_status adamw_set_stream(adamw_optimizer *optimizer, void *stream);
adamw_status adamw_get_pinned_bytes(const adamw_optimizer *optimizer, uint64_t *out_num_bytes);
adamw_status adamw_set_offload_timing(adamw_optimizer *optimizer, uint32_t timing);
typedef struct adamw_offload_info {
  size_t struct_size;
  uint64_t n_bytes_down;
  uint64_t n_bytes_up;
  double seconds_down;
  double seconds_up;
  double seconds_worked;
  double seconds_waited;
  double hidden;
} adamw_offload_info;
adamw_status adamw_get_offload_info(const adamw_optimizer *optimizer,
                                    struct adamw_offload_info *out_info,
                                    size_t struct_size);
adamw_status adamw_set_device_inputs(adamw_optimizer *optimizer,
                                     const struct adamw_device_inputs *inputs);
adamw_status adamw_set_device_scale(adamw_optimizer *optimizer, float *out_scale);
adamw_status adamw_prepare(adamw_optimizer *optimizer);
