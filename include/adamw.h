/*
 * libadamw: AdamW for buffers that the host owns.
 *
 * Generated from src/ffi: do not edit.
 *
 * A TRAINING LOOP
 *
 *   adamw_config_init(&config, sizeof config);           the defaults; change any of them
 *   adamw_create(&config, &optimizer);
 *   adamw_add_array(optimizer, "w", w, n, ADAMW_DTYPE_F32, &param);      once per parameter
 *   adamw_set_grad_array(optimizer, param, grad, n, ADAMW_DTYPE_F32);    the gradient's memory
 *   loop: compute the gradients; adamw_step(optimizer); adamw_set_lr(optimizer, lr) if it changes
 *   adamw_destroy(optimizer);
 *
 * Each call returns an adamw_status. If it is not ADAMW_STATUS_OK, adamw_last_error() returns its
 * text.
 *
 * FUNCTIONS, without the prefix adamw_
 *
 *   Library and errors: last_error, status_name, version, get_capabilities
 *   Handle: team_create, team_destroy, config_init, create, destroy
 *   Parameters and tensors: add_param, add_array, add_array_to_group, num_params, find_param,
 *       get_param_info, get_param_options, set_param_options, reset_param, remove_param, rebind,
 *       sync_master, memory_plan
 *   Gradients: set_grad, set_grad_array, set_grad_data, set_grads, accumulate_grad,
 *       accumulate_grad_array, set_accumulation_window, clear_grad
 *   Step: step, grad_ready, step_param, set_statistics, get_step_info, measure_grads,
 *       set_grad_sums, get_grad_norm, step_begin, step_work, step_end, minimize, apply_gradients
 *   Ranks: shard_ranges, set_all_reduce, set_next_piece
 *   Hyper-parameters and groups: set_lr, get_lr, get_param_lr, set_decay_filter, set_lr_ratio,
 *       group_config_init, add_group, num_groups, get_group, set_group
 *   Schedules: set_lr_schedule, schedule_advance, schedule_advance_with_metric, get_schedule_state,
 *       set_schedule_state, set_schedule_index, schedule_trace
 *   Loss scale: set_grad_scale, get_grad_scale, set_loss_scaler, get_loss_scaler_state,
 *       set_loss_scaler_state, set_found_inf
 *   Sparse gradients: set_sparse_grad, sparse_prepare, sparse_flush
 *   State: get_state_info, get_state_name, find_state, get_state, set_state, get_steps, set_steps
 *   Checkpoints: save, save_to, save_begin, save_poll, save_wait, load, load_from, inspect
 *   CUDA: set_stream, get_pinned_bytes, set_offload_timing, get_offload_info, set_device_inputs,
 *       set_device_scale, prepare
 *
 * CONVENTIONS
 *
 * Statuses. Every function that can fail returns an adamw_status; 0 is success. After a failure
 * nothing has changed and no output has been written. adamw_last_error() returns the text of the
 * failure on this thread, with the names and values in question. If the host's calls move between
 * threads (goroutines, virtual threads, async tasks), ask for the text on the thread of the failed
 * call: pin both calls to one thread, or make them within one foreign call.
 *
 * Parameters come in this order: the object, inputs, outputs. Every pointer is checked for NULL. A
 * callback is a function and its user_data, which is its last parameter; callbacks return an
 * int32_t.
 *
 * Handles. An adamw_optimizer * and an adamw_team * are numbers and never addresses: a destroyed
 * or garbage handle gives ADAMW_STATUS_BAD_HANDLE and no crash. Handles belong to the caller, who
 * destroys them.
 *
 * Memory. Tensors are borrowed and still belong to the host. A parameter, and state that the host
 * gives, must be valid, without gaps, aligned to its elements, and must not overlap any other
 * buffer of the handle, from the call that names it until adamw_remove_param or adamw_destroy, or
 * until adamw_rebind names another place or none. A gradient must be so until it is replaced or
 * forgotten. Forget it before its memory is freed (adamw_set_grad with NULL, or adamw_clear_grad
 * with ADAMW_CLEAR_FORGET), because otherwise the next step reads freed memory. Gradients may
 * overlap each other, because they are only read, except by ADAMW_CLEAR_ZERO and
 * config.clear_grads. Memory that a garbage collector may move or free must be pinned for as long,
 * or allocated outside the collector's heap: the library keeps the address, and no reference that
 * a collector sees. If a new buffer overlaps a gradient that is already set, the next step reports
 * it. Nobody but the library may write any of this memory during a call. Strings that are returned
 * belong to the library.
 *
 * Structs start with struct_size, which the caller sets to the sizeof that it was compiled with.
 * (adamw_tensor, its parts and adamw_param_grad have none.) Structs only grow at the end. A struct
 * may end behind any of its fields but the first, if a host declares it by hand or was compiled
 * with an older version: a field that it lacks has its default, and a struct that the library
 * writes is filled that far. A longer struct is accepted if the part that this library does not
 * know is zero, which the library writes there. Fill adamw_config and adamw_group_config with
 * their _init functions first, because zeros are not their defaults. Enumerations are passed as
 * uint32_t (those of DLPack as DLPack declares them), and so are flags, which are 0 or 1; any
 * other value is an error.
 *
 * Threads. Different handles are independent. If a handle is in use, by another thread or by the
 * call that runs one of its callbacks (except the closure of adamw_minimize), a second call on it
 * is refused with ADAMW_STATUS_BUSY. From the start of a step to its end, and while it writes a
 * save that was begun (adamw_save_begin), the library may use its own threads, which belong to the
 * handle, block all signals, and are joined by adamw_destroy, or those of a team that handles share
 * (adamw_team_create). A forked child steps on the calling thread alone. Threads of the host take a
 * step together by adamw_step_begin. Callbacks must not throw or longjmp. The tasks of parallel_for
 * may run on any thread, and those of adamw_save_begin on a thread of the handle; all other
 * callbacks run on the caller's thread (that of the first adamw_step_work, where threads take a
 * step together), each in the host's own floating-point environment. Cancellation (pthread_cancel)
 * is held off during a call and during a task. Callbacks run with it held off and must not allow it
 * themselves. So a call is never interrupted; a thread that was cancelled ends when the call
 * returns, whatever its cancel type. The library allocates no memory for a thread, except for the
 * text of its first error.
 *
 * Stack. A call takes at most 16 KiB of its thread's stack, and so does a task of parallel_for and
 * each of the library's own threads, on every instruction set. CUDA's driver and the host's
 * callbacks need more on top of that.
 *
 * Quiet. The library never prints, aborts, installs signal handlers, or reads an environment
 * variable other than ADAMW_ISA. adamw_step allocates nothing, except that the first step that is
 * large enough to be shared starts the threads of the handle or of its team.
 *
 * Exact. The same inputs give the same bits on every instruction set and with any number of
 * threads, however tensors are cut, and whatever rounding mode, denormal mode or traps the host has
 * set. Only the sign and the payload of a NaN may differ between instruction sets and devices;
 * whether a value is a NaN does not. Subnormal numbers are exact, but arithmetic on them is slow:
 * so at every 64th step of a parameter an exp_avg below the smallest normal number of the compute
 * type becomes 0, and a second moment below it does where exp_avg is 0 and eps is not.
 *
 * The paragraphs "The caller ensures" say what the library cannot check.
 */

#ifndef ADAMW_H
#define ADAMW_H

#include <stddef.h>
#include <stdint.h>

#define ADAMW_VERSION_MAJOR 0
#define ADAMW_VERSION_MINOR 1
#define ADAMW_VERSION_PATCH 0

#ifdef __cplusplus
extern "C" {
#endif

/* ---- Library and errors ---------------------------------------------------------------------- */

/// The result of a call. Zero is success. A number is never reused for another meaning.
/// `adamw_last_error()` returns the text of the calling thread's last failure.
typedef int32_t adamw_status;
enum adamw_status_code {
  /// The call did what its comment says.
  ADAMW_STATUS_OK = 0,
  /// A pointer is NULL, or a value is outside its range.
  ADAMW_STATUS_INVALID_ARGUMENT = 1,
  /// The request is well formed, but this build, version or machine cannot do it.
  ADAMW_STATUS_UNSUPPORTED = 2,
  /// Memory or threads could not be allocated.
  ADAMW_STATUS_OUT_OF_MEMORY = 3,
  /// The handle does not have what was asked for, such as a parameter of this number, state of
  /// this name, a schedule, or a loss scaler.
  ADAMW_STATUS_NOT_FOUND = 5,
  /// The handle (of an optimizer or a team) is NULL, was destroyed, or never was a handle.
  ADAMW_STATUS_BAD_HANDLE = 7,
  /// The handle is in use by another thread, by the call that is running this callback, or by a
  /// step that has begun and not ended.
  ADAMW_STATUS_BUSY = 8,
  /// An earlier call failed in the middle of its writes. The handle can only be destroyed or, if
  /// that call was a load, loaded again.
  ADAMW_STATUS_POISONED = 9,
  /// A callback of the host reported an error.
  ADAMW_STATUS_CALLBACK = 10,
  /// The learning rate already comes from a schedule or from `config.lr_ptr`.
  ADAMW_STATUS_LR_CONFLICT = 11,
  /// A gradient is not finite, and the handle was created with ADAMW_NONFINITE_FAIL.
  ADAMW_STATUS_NONFINITE = 12,
  /// The parameter cannot be stepped alone, because its step depends on the gradients of others.
  ADAMW_STATUS_CLIP_CONFLICT = 13,
  /// A CUDA device or its driver failed.
  ADAMW_STATUS_DEVICE = 14,
  /// A file could not be read or written. The text includes the reason that the system gave.
  ADAMW_STATUS_IO = 15,
  /// The data is damaged, truncated, or not a checkpoint.
  ADAMW_STATUS_CORRUPT = 16,
  /// The checkpoint is intact, but does not match this handle, or ranks differ. The text lists
  /// the differences.
  ADAMW_STATUS_MISMATCH = 17,
  /// The library caught a panic at its boundary, which is a bug in this library.
  ADAMW_STATUS_INTERNAL = 99,
};

/// Returns the text of the last call that failed on this thread, with the names and values in
/// question, or an empty string if no call has failed. The string belongs to the library and is
/// valid until the next failure on this thread. The first failure of a thread allocates memory for
/// its texts; if that fails, the text says so, and only the status tells what went wrong.
const char *adamw_last_error(void);

/// Returns the name of a status, such as `ADAMW_STATUS_OK`, or `unknown status` for any number that
/// is not a status.
const char *adamw_status_name(int32_t status);

/// Returns the version of the running library, such as `0.1.0`. The version of this header is in
/// `ADAMW_VERSION_MAJOR`, `_MINOR` and `_PATCH`.
const char *adamw_version(void);

/// An instruction set, given as an upper limit: the library uses the highest available one that is
/// not above it. All of them give the same bits, except for the sign and the payload of a NaN.
typedef uint32_t adamw_isa;
/// The highest that the processor has. The environment variable `ADAMW_ISA` (`portable`, `avx2` or
/// `avx512`) limits this choice and every other one; with another value in it, no optimizer can be
/// created.
#define ADAMW_ISA_BEST 0
/// The baseline of the target: SSE2 on x86-64, NEON on aarch64.
#define ADAMW_ISA_PORTABLE 1
/// AVX2.
#define ADAMW_ISA_AVX2 2
/// AVX-512 F, BW, DQ and VL.
#define ADAMW_ISA_AVX512 3

/// The capabilities of this build on this machine.
typedef struct adamw_capabilities {
  /// `sizeof(adamw_capabilities)`.
  size_t struct_size;
  /// Bit `1 << ADAMW_ISA_x` is set for each instruction set that is built in and runs here.
  uint32_t isas;
  /// The instruction set that `ADAMW_ISA_BEST` selects now.
  adamw_isa best_isa;
  /// Bit `1 << device_type` (DLPack's numbers) is set for each kind of memory in which parameters
  /// can be stepped. The bits for CUDA are set if CUDA is built in and a driver is installed. The
  /// driver is not started to find out.
  uint32_t devices;
  /// Bit `1 << ADAMW_DTYPE_x` is set for each element type that a parameter can have.
  uint32_t dtypes;
  /// The number of processors in the affinity mask of this process.
  uint32_t num_cpus;
  /// 0.
  uint32_t reserved;
} adamw_capabilities;

/// Writes the capabilities of this build on this machine to `out_capabilities`. `struct_size` is
/// the caller's `sizeof(adamw_capabilities)`.
///
/// The caller ensures:
/// `out_capabilities` is NULL, or writable for `struct_size` bytes.
adamw_status adamw_get_capabilities(struct adamw_capabilities *out_capabilities,
                                    size_t struct_size);

/* ---- Handle ---------------------------------------------------------------------------------- */

/// Threads that handles share: a handle from `adamw_team_create`.
typedef struct adamw_team adamw_team;

/// Creates a team of threads for the handles that name it in `config.team`, and writes its handle
/// to `out_team`. `num_threads` counts the thread that calls a step: 1 is that thread alone, and 0
/// stands for as many as there are processors in the affinity mask of the process. Any other number
/// is used as given.
///
/// The first step that is shared starts the other threads; they wait between steps and block all
/// signals. Handles may step at the same time: the threads work for the one that came first, and
/// the other steps run on their callers' threads alone. No step waits for another one, and the bits
/// are the same.
///
/// The team belongs to the caller, who ends it with `adamw_team_destroy`, and to the handles that
/// name it. The threads are joined when neither is left.
///
/// The caller ensures:
/// `out_team` is NULL or writable.
adamw_status adamw_team_create(uint32_t num_threads, adamw_team **out_team);

/// Ends the caller's part in a team: its handle cannot be used any more. The handles of optimizers
/// that name it keep the threads until the last of them is destroyed, so that the order does not
/// matter; if there is none, the threads are joined before this returns. NULL does nothing.
adamw_status adamw_team_destroy(adamw_team *team);

/// Writes the address of `num_bytes` (> 0) bytes of memory of this device to `out_address` and
/// returns 0. The address is a multiple of 256, as `cudaMalloc` and PyTorch's caching allocator
/// give them; what the memory holds does not matter. Any other return value, or NULL, fails the
/// call of the library with `ADAMW_STATUS_OUT_OF_MEMORY`, and nothing changes. An address that is
/// no multiple of 256, or not the device's, fails it with `ADAMW_STATUS_CALLBACK`, and is given to
/// `config.device_free` at once.
///
/// The memory may be ready only when `stream` gets to what is queued on it from now on, as that of
/// `cudaMallocAsync` is: the library waits for the stream before it uses it. The stream is that of
/// the handle, and is never being captured; the device's primary context is current.
typedef int32_t (*adamw_device_alloc)(size_t num_bytes,
                                      int32_t device,
                                      void *stream,
                                      void **out_address,
                                      void *user_data);

/// Takes back memory that `config.device_alloc` gave, with the number of bytes that it was asked
/// for, and returns 0; any other return value is ignored. The device has done all work of the
/// library's with it. `stream` is that of the handle now, and may be being captured if it is so in
/// the call of the library, `adamw_destroy` for one.
typedef int32_t (*adamw_device_free)(void *address,
                                     size_t num_bytes,
                                     int32_t device,
                                     void *stream,
                                     void *user_data);

/// A piece of the library's work, which the threads of the host run.
typedef void (*adamw_task)(void *task_data, size_t index);

/// Calls `task(task_data, index)` for every index from 0 to `num_tasks` - 1, on any threads and in
/// any order, and returns 0 when all of these calls have returned. The calling thread does the work
/// that is left undone.
///
/// If it returns anything but 0 before any task has run, the call that uses it fails with
/// `ADAMW_STATUS_CALLBACK`, and nothing changes. Once a task has run, or once the call has written
/// anything (in the second use within one step, or in a load), the return value is ignored.
///
/// A step of fewer than 262,144 elements does not use it. A step that measures norms or finiteness
/// uses it once more, and so does a step that first has to bring rows up to date
/// (ADAMW_LAZY_EXACT). `adamw_load` uses it for tensors of 2 MiB and more.
typedef int32_t (*adamw_parallel_for)(size_t num_tasks,
                                      adamw_task task,
                                      void *task_data,
                                      void *user_data);

/// How gradients are clipped. Gradients are not rewritten: the step clips them as it reads them.
/// Norms are summed in f64 in one fixed order, so that they have the same bits everywhere. Under
/// ADAMW_NONFINITE_PROPAGATE, a norm of NaN makes every parameter that it clips NaN, and an
/// infinite norm makes the factor 0, which turns finite gradients into 0 and infinite ones into
/// NaN.
typedef uint32_t adamw_clip;
/// No clipping.
#define ADAMW_CLIP_NONE 0
/// Scales each tensor to a norm of at most `clip_norm`.
#define ADAMW_CLIP_NORM 1
/// Scales all tensors of the scope together to a norm of at most `clip_norm`: multiplies each by
/// clip_norm / max(norm, clip_norm).
#define ADAMW_CLIP_GLOBAL_NORM 2
/// Limits each element to the range from `clip_min` to `clip_max`. A NaN stays NaN.
#define ADAMW_CLIP_VALUE 3

/// Which gradients a global norm is computed over.
typedef uint32_t adamw_clip_scope;
/// All groups of the handle that clip by global norm, as in torch.nn.utils.clip_grad_norm_.
#define ADAMW_CLIP_SCOPE_HANDLE 0
/// One group, as in Paddle's ClipGradByGlobalNorm.
#define ADAMW_CLIP_SCOPE_GROUP 1

/// How a step handles gradients that are not finite. It decides before it writes anything.
typedef uint32_t adamw_nonfinite;
/// The step computes with them, as IEEE 754 defines.
#define ADAMW_NONFINITE_PROPAGATE 0
/// The step is skipped for every parameter: nothing changes, no counter advances, and
/// `adamw_get_step_info` reports it.
#define ADAMW_NONFINITE_SKIP 1
/// The step fails with `ADAMW_STATUS_NONFINITE`, and the text names the first such parameter.
#define ADAMW_NONFINITE_FAIL 2

/// How a step with a sparse gradient handles the rows that the gradient does not list. Dense
/// gradients are not affected.
typedef uint32_t adamw_lazy;
/// Steps these rows with a gradient of zero. The result has the same bits as with the dense
/// gradient, and the step costs as much.
#define ADAMW_LAZY_OFF 0
/// Skips these rows, their state and their weight decay. The step still counts for the whole
/// parameter. This is Paddle's `lazy_mode`.
#define ADAMW_LAZY_ROWS 1
/// Defers these rows. Call `adamw_sparse_prepare` before the host reads rows: it gives them the
/// bits that the dense gradient would have given. `adamw_sparse_flush` does so for all rows. Each
/// step also brings 1/1,024 of the rows up to date, in turn.
#define ADAMW_LAZY_EXACT 2

/// Which powers of beta1 and beta2 correct the bias of the moments in step t of a parameter.
typedef uint32_t adamw_bias_correction;
/// The products of the betas that its steps have had, as Paddle computes them.
#define ADAMW_BIAS_CORRECTION_PRODUCTS 0
/// beta1^t and beta2^t with the betas of this step, as PyTorch, ggml and llm.c compute them. With
/// betas that never change, both choices give the same value up to rounding.
#define ADAMW_BIAS_CORRECTION_CURRENT 1
/// None: the first steps are larger, by up to (1 - beta1) / sqrt(1 - beta2). MLX does so by
/// default, and MindSpore's AdamWeightDecay. The state keeps the powers of
/// ADAMW_BIAS_CORRECTION_PRODUCTS.
#define ADAMW_BIAS_CORRECTION_NONE 2

/// In what the update differs from the formula of this header: 0, or ADAMW_FORMULA constants added
/// up, for runs that another library has begun. Each changes numbers of a step, not its work.
typedef uint32_t adamw_formula;
/// `eps` is added before the correction: the step divides by
/// `(sqrt(exp_avg_sq) + eps) / sqrt(1 - beta2^t)`, as Keras, ONNX Runtime and the algorithm with
/// "epsilon hat" of Kingma & Ba (2015, section 2) do.
#define ADAMW_FORMULA_EPS_BEFORE_CORRECTION 1
/// The parameter decays after it has moved, `(param - step) * (1 - lr * weight_decay)`, as ONNX
/// Runtime and thinc do.
#define ADAMW_FORMULA_DECAYS_NEW_VALUE 2

/// How the precision of 16-bit parameters that are added to a group is kept.
typedef uint32_t adamw_precision;
/// An f32 master with multi_precision, otherwise nothing: updates that are small relative to a
/// 16-bit parameter are then lost in rounding (see `multi_precision`). Each of the other values
/// keeps them.
#define ADAMW_PRECISION_DEFAULT 0
/// A bf16 parameter and a remainder `[n] i16` that together are the exact f32 master. The step has
/// the bits of ADAMW_PRECISION_DEFAULT with multi_precision, in 4 bytes per element instead of 6.
/// The parameter is the master rounded half away from zero. f16 cannot be split in this way:
/// `ADAMW_STATUS_UNSUPPORTED`.
#define ADAMW_PRECISION_SPLIT 1
/// No master. A bf16 parameter is rounded up or down at random, with the probability of each
/// proportional to how near it is, so that nothing is lost on average. The random bits are a
/// function of `seed`, of the parameter's name, of its step count and of the element's index. Not
/// for f16: `ADAMW_STATUS_UNSUPPORTED`.
#define ADAMW_PRECISION_STOCHASTIC 2
/// Kahan summation: an f16 or bf16 parameter and a remainder `[n]` of its type, which holds the
/// last rounding error and which the next step adds first. (For bf16, ADAMW_PRECISION_SPLIT takes
/// the same memory and is exact. An f16 remainder resolves at best 6e-8, the smallest f16.)
#define ADAMW_PRECISION_KAHAN 3

/// How the moments of f32, f16 and bf16 parameters that are added to a group are stored. f64
/// parameters have f64 moments.
typedef uint32_t adamw_moments;
/// f32.
#define ADAMW_MOMENTS_F32 0
/// bf16. exp_avg is rounded to nearest. exp_avg_sq is rounded at random, as in
/// ADAMW_PRECISION_STOCHASTIC, because rounding to nearest would lose its small changes.
#define ADAMW_MOMENTS_BF16 1
/// 8 bits: a code for each element, `[n] u8`, and an f32 scale for each block of 256 elements,
/// which is the largest magnitude in the block. A code counts down from the scale. exp_avg has a
/// sign; its codes cover 4 octaves with 16 values each, then 8 octaves with 8 values each; what is
/// smaller is 0. exp_avg_sq is rounded at random and never to 0; its codes cover 8 octaves with 16
/// values each, then 16 octaves with 8 values each.
///
/// Tensors of fewer than 4,096 elements have f32 moments; for a shard, the length of the whole
/// decides (`whole_elements`). An element that is not finite affects the other elements of its
/// block. Sparse gradients need ADAMW_LAZY_OFF.
#define ADAMW_MOMENTS_8BIT 2
/// 4 bits: for each block of 128 elements, the last of which may be shorter, 64 bytes of codes and
/// an f32 scale, which is the largest magnitude in the block. Byte i has the code of element i in
/// its low half and the code of element i + 64 in its high half. A code is a whole number of
/// octaves below the scale: up to 6 for exp_avg, whose codes also have a sign and a 0, and up to 14
/// for exp_avg_sq, which is never 0. Both are rounded at random.
///
/// The second paragraph of ADAMW_MOMENTS_8BIT holds here too. amsgrad is not possible, because its
/// maximum would collect the values that were rounded up.
#define ADAMW_MOMENTS_4BIT 3

/// Which of the driver's allocators the library's memory on a device comes from, unless
/// `device_alloc` gives it.
typedef uint32_t adamw_device_memory;
/// `cuMemAlloc`: memory that is the handle's alone, and the system's again once it is freed.
#define ADAMW_DEVICE_MEMORY_DEFAULT 0
/// `cuMemAllocAsync` on the handle's stream: memory of the device's current pool, which all of the
/// process share that use it, and which keeps as much of what is freed as the host lets it
/// (`cuDeviceSetMemPool`, CU_MEMPOOL_ATTR_RELEASE_THRESHOLD). `ADAMW_STATUS_UNSUPPORTED` from
/// `adamw_add_param` if the device has none.
#define ADAMW_DEVICE_MEMORY_POOL 1

/// The configuration of an optimizer. `adamw_config_init` fills in the defaults, which are given in
/// brackets here. The hyper-parameters are those of group 0 and the defaults of the other groups.
typedef struct adamw_config {
  /// `sizeof(adamw_config)`.
  size_t struct_size;
  /// `[0.001]` Learning rate; finite, >= 0.
  double lr;
  /// `[0.9]` Decay rate of the mean of the gradient; 0 <= beta1 < 1.
  double beta1;
  /// `[0.999]` Decay rate of the mean of the squared gradient; 0 <= beta2 < 1. Below 0.01, f32
  /// is too coarse: where a gradient falls by 1e4 from one step to the next, exp_avg_sq cancels
  /// to 0, and the step is as large as eps allows.
  double beta2;
  /// `[1e-8]` Added to the root of the bias-corrected second moment; finite, >= 0, also in f32,
  /// in which all parameters but f64 ones compute. The same holds for the numbers below. With 0,
  /// an element whose gradients have all been 0 becomes NaN; not 0 if beta2 is 0.
  double eps;
  /// `[0.01]` Decoupled weight decay: a step subtracts lr * weight_decay times the parameter.
  /// Finite; a negative value makes the parameter grow.
  double weight_decay;
  /// `[0]` 1: divide by the largest second moment so far.
  uint32_t amsgrad;
  /// `[0]` 1: ascend the gradient, which is clipped first and then negated. Weight decay and
  /// regularizers still shrink the parameter.
  uint32_t maximize;
  /// `[0]` 1: each f16 and bf16 parameter gets an f32 master, which is stepped and then rounded
  /// to the parameter. With 0 and no other `precision`, an update smaller than half a unit in the
  /// last place of a parameter (1/256 of its value for bf16) is lost without notice: a learning
  /// rate of 1e-5 does not move a bf16 weight of 1 at all. `n_unchanged` of adamw_step_info
  /// counts such elements.
  uint32_t multi_precision;
  /// `[0]` Number of threads that work in a step, the caller's included. 0: as many as there are
  /// processors in the affinity mask of the process. Any other number is used as given. The first
  /// step that is shared starts the other threads. A step of fewer than 262,144 elements runs on
  /// the caller's thread alone.
  uint32_t num_threads;
  /// `[ADAMW_ISA_BEST]` The highest instruction set to use.
  adamw_isa isa;
  /// `[ADAMW_NONFINITE_PROPAGATE]` How a step handles gradients that are not finite.
  adamw_nonfinite nonfinite;
  /// `[NULL]` The host's loop over tasks, which replaces the library's own threads. It is called
  /// with at most `num_threads` tasks.
  adamw_parallel_for parallel_for;
  /// Passed to `parallel_for`.
  void *parallel_for_data;
  /// `[0]` The largest norm, if `clip` is one of the norms; finite, > 0. This field, `clip_min`
  /// and `clip_max` must be 0 if `clip` is ADAMW_CLIP_NONE. A kind of clipping ignores those that
  /// it does not use.
  double clip_norm;
  /// `[0]` The smallest value, if `clip` is ADAMW_CLIP_VALUE; finite.
  double clip_min;
  /// `[0]` The largest value, if `clip` is ADAMW_CLIP_VALUE; finite, > clip_min.
  double clip_max;
  /// `[ADAMW_CLIP_NONE]` How gradients are clipped.
  adamw_clip clip;
  /// `[ADAMW_CLIP_SCOPE_HANDLE]` Which gradients a global norm is computed over.
  adamw_clip_scope clip_scope;
  /// `[ADAMW_LAZY_OFF]` How a step handles the rows that a sparse gradient does not list.
  adamw_lazy lazy_mode;
  /// `[0]` 1: a step uses the mean of the gradients added up by `adamw_accumulate_grad`, not
  /// their sum. The divisor is the number of micro-batches of the window, see
  /// `adamw_set_accumulation_window`.
  uint32_t average_grads;
  /// `[NULL]` Address of one f32 in the host's memory: the learning rate, which each step reads
  /// and checks, in place of `lr`. It must stay valid as long as the handle.
  const float *lr_ptr;
  /// `[NULL]` Address of one f32 in place of `beta1`, under the rules of `lr_ptr`.
  const float *beta1_ptr;
  /// `[NULL]` Address of one f32 in place of `beta2`, under the rules of `lr_ptr`.
  const float *beta2_ptr;
  /// `[NULL]` Address of one f32 in place of `weight_decay`, under the rules of `lr_ptr`.
  const float *weight_decay_ptr;
  /// `[ADAMW_PRECISION_DEFAULT]` How the precision of 16-bit parameters is kept.
  adamw_precision precision;
  /// `[ADAMW_MOMENTS_F32]` How moments are stored.
  adamw_moments moments;
  /// `[0]` Seed of the random bits for stochastic rounding.
  uint64_t seed;
  /// `[0]` 1: a step, taken or skipped, writes zeros over the gradients that it has used, while
  /// they are in cache. The effect is that of `adamw_clear_grad` after the step, for frozen
  /// parameters too. The gradients must be writable, and no two parameters may share gradient
  /// memory.
  uint32_t clear_grads;
  /// `[0]` 1: a step subtracts weight_decay times the parameter, whatever the learning rate is,
  /// as TensorFlow Addons' AdamW and pytorch_optimizer's `fixed_decay` do. PyTorch, Paddle and
  /// Optax multiply by lr. `weight_decay_ptr` can schedule it.
  uint32_t independent_weight_decay;
  /// `[ADAMW_BIAS_CORRECTION_PRODUCTS]` How the bias of the moments is corrected. It matters
  /// where betas change: OneCycleLR of PyTorch changes beta1 by default.
  adamw_bias_correction bias_correction;
  /// `[0]` In what the update differs from the formula of this header.
  adamw_formula formula;
  /// `[NULL]` A team of threads that other handles use, too, in place of threads of this handle's
  /// own. `num_threads` must then be 0, because the team has its number, and `parallel_for` NULL.
  /// The handle keeps the threads until it is destroyed, also if the team is destroyed before.
  adamw_team *team;
  /// `[NULL]` Gives the handle its memory on a device, all of it: state, tables, and what sums
  /// and sparse gradients need. (Page-locked memory of the host's is the driver's.) It is called
  /// where the library allocates, so never by `adamw_step`, nor by a call while its stream is
  /// being captured.
  adamw_device_alloc device_alloc;
  /// `[NULL]` Takes back what `device_alloc` gave, where the library frees it, and the rest in
  /// `adamw_destroy`. Both are set, or neither.
  adamw_device_free device_free;
  /// Passed to `device_alloc` and `device_free`.
  void *device_memory_data;
  /// `[ADAMW_DEVICE_MEMORY_DEFAULT]` Where memory on a device comes from without `device_alloc`;
  /// with it, this must be the default.
  adamw_device_memory device_memory;
  /// 0.
  uint32_t reserved;
  /// `[0]` The most bytes of page-locked memory of the host's that the handle takes; 0: as many
  /// as it needs, otherwise at least 65,536. Copies of offloaded parameters and of their
  /// gradients are page-locked, first come, as far as three quarters of the limit go. The others
  /// pass through a few page-locked slots, which take a quarter of it at most. The bits are the
  /// same. The tables of steps on the device are page-locked, too, and grow with the number of
  /// parameters: where they do not fit, `adamw_add_param` is `ADAMW_STATUS_OUT_OF_MEMORY`.
  /// `adamw_get_pinned_bytes` tells how many bytes the handle has taken.
  uint64_t pinned_bytes;
} adamw_config;

/// Fills `config` with the defaults. `struct_size` is the caller's `sizeof(adamw_config)`.
///
/// The caller ensures:
/// `config` is NULL, or writable for `struct_size` bytes.
adamw_status adamw_config_init(struct adamw_config *config, size_t struct_size);

/// An optimizer: a handle from `adamw_create`, opaque to the host.
typedef struct adamw_optimizer adamw_optimizer;

/// Creates an optimizer without parameters and writes its handle to `out_optimizer`. If `config` is
/// NULL, the optimizer has the defaults. The handle belongs to the caller, who ends it with
/// `adamw_destroy`.
///
/// The caller ensures:
/// `config` is NULL or readable; `out_optimizer` is NULL or writable.
adamw_status adamw_create(const struct adamw_config *config, adamw_optimizer **out_optimizer);

/// Destroys an optimizer. Its threads are joined, if no other handle has a part in them, and its
/// own memory is freed before this returns; the host's buffers stay as they are. NULL does nothing.
/// Any further use of the handle is `ADAMW_STATUS_BAD_HANDLE`.
adamw_status adamw_destroy(adamw_optimizer *optimizer);

/* ---- Parameters and tensors ------------------------------------------------------------------ */

/// The element type of a plain array.
typedef uint32_t adamw_dtype;
/// IEEE 754 binary32.
#define ADAMW_DTYPE_F32 1
/// IEEE 754 binary64.
#define ADAMW_DTYPE_F64 2
/// IEEE 754 binary16.
#define ADAMW_DTYPE_F16 3
/// bfloat16: the upper 16 bits of a binary32.
#define ADAMW_DTYPE_BF16 4
/// int16, for remainders only.
#define ADAMW_DTYPE_I16 5
/// uint8, for 8-bit and 4-bit moments only.
#define ADAMW_DTYPE_U8 6

/// The kind of memory that a tensor is in, as DLPack numbers it: `device_type` of its device.
typedef int32_t adamw_device_type;
/// Memory of the host.
#define ADAMW_DEVICE_CPU 1
/// Memory of a CUDA device.
#define ADAMW_DEVICE_CUDA 2
/// Memory of the host, page-locked by CUDA.
#define ADAMW_DEVICE_CUDA_HOST 3
/// Memory of the host, page-locked by ROCm.
#define ADAMW_DEVICE_ROCM_HOST 11
/// Managed memory of CUDA.
#define ADAMW_DEVICE_CUDA_MANAGED 13

/// The kind of an element type, as DLPack numbers it: `code` of a tensor's type.
typedef uint8_t adamw_type_code;
/// Signed integers.
#define ADAMW_CODE_INT 0
/// Unsigned integers.
#define ADAMW_CODE_UINT 1
/// IEEE 754: f16, f32 and f64.
#define ADAMW_CODE_FLOAT 2
/// bf16.
#define ADAMW_CODE_BFLOAT 4

/// The device whose memory a tensor is in. Binary-identical to DLPack's `DLDevice`.
typedef struct adamw_device {
  /// An ADAMW_DEVICE constant, which is DLPack's number: 1 CPU, 3 CUDA host memory, 11 ROCm host
  /// memory, 2 CUDA, 13 CUDA managed memory.
  int32_t device_type;
  /// The number of the device, as the CUDA driver counts them; 0 for the CPU.
  int32_t device_id;
} adamw_device;

/// An element type. Binary-identical to DLPack's `DLDataType`.
typedef struct adamw_data_type {
  /// An ADAMW_CODE constant: 2 IEEE float, 4 bfloat, 0 integer (rows and remainders), 1 unsigned
  /// integer (moments in codes).
  uint8_t code;
  /// 8, 16, 32 or 64.
  uint8_t bits;
  /// 1.
  uint16_t lanes;
} adamw_data_type;

/// A tensor. Binary-identical to DLPack's `DLTensor`, so that a pointer to any producer's tensor
/// can be passed. It must have no gaps and be aligned to its elements. All tensors of a parameter
/// are in the host's memory, or on the device where the parameter is. The library keeps only the
/// address in `data`; it reads the struct, its shape and strides during the call.
///
/// A parameter may have its dimensions in any order in memory (row-major, transposed, channels
/// last), up to 8 of more than one element if they are not row-major. Its gradients and its state
/// have the same order, or one dimension, which stands for the elements as they are in memory, as a
/// plain array does. Whatever depends on the order of elements goes by memory: blocks of codes,
/// random bits, norms, `first_element`, and checkpoints. Rows of sparse gradients are of row-major
/// parameters.
typedef struct adamw_tensor {
  /// The address of the first element, less `byte_offset`. May be NULL if there are no elements.
  void *data;
  /// The device whose memory `data` is in.
  struct adamw_device device;
  /// The number of dimensions; 0: one element.
  int32_t ndim;
  /// The element type.
  struct adamw_data_type dtype;
  /// `[ndim]` The number of elements in each dimension.
  int64_t *shape;
  /// `[ndim]` The number of elements from one index to the next. NULL: row-major.
  int64_t *strides;
  /// The number of bytes from `data` to the first element.
  uint64_t byte_offset;
} adamw_tensor;

/// A penalty whose gradient is added to the gradient of a parameter, after clipping. Unlike
/// decoupled weight decay, it passes through the moments.
typedef uint32_t adamw_regularizer;
/// No penalty.
#define ADAMW_REGULARIZER_NONE 0
/// Adds regularizer_coeff * sign(param).
#define ADAMW_REGULARIZER_L1 1
/// Adds regularizer_coeff * param.
#define ADAMW_REGULARIZER_L2 2

/// The configuration of a new parameter. Zero it, then set `struct_size`, `name` and `param`; the
/// other fields may stay 0.
///
/// State that is NULL here is allocated by the library and starts as zeros; a master starts as a
/// copy of the parameter at its first step. State that is given belongs to the host, is borrowed
/// like the parameter, and is used as it is: the host must have zeroed the moments, or must have
/// filled them from earlier steps. `adamw_sync_master` fills a master.
typedef struct adamw_param_config {
  /// `sizeof(adamw_param_config)`.
  size_t struct_size;
  /// UTF-8, NUL-terminated, not empty, unique in the handle. The library copies it. NULL: the
  /// name is the number of the parameter, in decimal digits. Checkpoints go by names.
  const char *name;
  /// The parameter `[...] f32|f64|f16|bf16`, which is stepped in place.
  const struct adamw_tensor *param;
  /// `[NULL]` As many elements as the parameter, f32; only for f16 and bf16 with multi_precision.
  /// If `step` is 0, the first step checks that the master rounds to the parameter, and fails
  /// otherwise.
  const struct adamw_tensor *master;
  /// `[NULL]` As many elements as the parameter, in f32 (f64 for an f64 parameter) or in the type
  /// of the group's `moments`. With ADAMW_MOMENTS_4BIT, as many bytes as that constant says.
  const struct adamw_tensor *exp_avg;
  /// `[NULL]` Like exp_avg; never negative, which the host ensures: a step makes NaN of a
  /// negative one.
  const struct adamw_tensor *exp_avg_sq;
  /// `[NULL]` Like exp_avg_sq; only with amsgrad.
  const struct adamw_tensor *max_exp_avg_sq;
  /// `[0]` The number of steps that the given state has taken, at most 2^32 (2^25 if a beta is
  /// above 0.99997). If it is not 0, all the state that the parameter needs must be given.
  uint64_t step;
  /// `[0]` The number of its group, from `adamw_add_group`.
  uint32_t group;
  /// `[0]` 1: the gradient is not clipped and does not count in a global norm.
  uint32_t no_clip;
  /// `[0]` The coefficient of the regularizer; finite.
  double regularizer_coeff;
  /// `[ADAMW_REGULARIZER_NONE]` The penalty whose gradient is added to that of the parameter.
  adamw_regularizer regularizer;
  /// 0.
  uint32_t reserved;
  /// `[NULL]` As many elements as the parameter: int16 with ADAMW_PRECISION_SPLIT, the
  /// parameter's type with ADAMW_PRECISION_KAHAN. The host must have zeroed it, or filled it from
  /// earlier steps.
  const struct adamw_tensor *remainder;
  /// `[NULL]` One f32 for each block of 256 elements of 8-bit moments, or of 128 elements of
  /// 4-bit moments; the last block may be shorter. Only for those. The host must have zeroed it,
  /// or filled it from earlier steps.
  const struct adamw_tensor *exp_avg_scale;
  /// `[NULL]` Like exp_avg_scale.
  const struct adamw_tensor *exp_avg_sq_scale;
  /// `[NULL]` Like exp_avg_scale; only with amsgrad.
  const struct adamw_tensor *max_exp_avg_sq_scale;
  /// `[0]` For a host that has cut a parameter into shards of one name: the index in the whole of
  /// this shard's first element, which gives the shard the random bits of the whole. Where
  /// moments are codes, the whole is cut at multiples of 256 elements, or of 128 for 4 bits, so
  /// that they have the bits of the whole; anything else is an error.
  uint64_t first_element;
  /// `[0]` The number of elements of the whole, which is recorded in checkpoints; 0: not
  /// recorded. It decides whether moments are codes, and so which state must be given: give the
  /// same number for all shards. With 0, the length of each shard decides.
  uint64_t whole_elements;
  /// `[0]` 1: the parameter is on a CUDA device, and the processor steps it. Its state is in the
  /// host's memory, and so are the state tensors given here. A step copies the gradient (on the
  /// device or in the host's memory) in and the parameter back, while it steps other parameters.
  /// The processor works on a copy of the parameter, which is filled at the first step: call
  /// `adamw_sync_master` after the host has written the parameter. Such a step waits for the
  /// device and cannot be captured. Offloading allocates memory for the copy and for the
  /// gradient, page-locked as far as `config.pinned_bytes` lets it.
  uint32_t offload;
  /// 0.
  uint32_t reserved_2;
} adamw_param_config;

/// Adds a parameter and writes its number to `*out_param`, by which other calls refer to it. The
/// memory still belongs to the host: it must be valid until `adamw_remove_param` or
/// `adamw_destroy`, or until `adamw_rebind` names another place or none, and must not overlap any
/// buffer of the handle.
///
/// The number is the lowest that no parameter has: 0, 1, 2, ... until a parameter is removed, whose
/// number is then used again. Sums over parameters, such as a global norm, are in the order of the
/// numbers. To continue a run with the same bits after it had removed parameters, add the
/// parameters in the order of the numbers that they had.
///
/// The caller ensures:
/// All pointers are NULL, or readable (`out_param`: writable) for what they describe. Tensors meet
/// the conventions of the header.
adamw_status adamw_add_param(adamw_optimizer *optimizer,
                             const struct adamw_param_config *param,
                             uint32_t *out_param);

/// Adds a plain array `data [n_elements]` in the host's memory as a parameter of group 0, with
/// state allocated by the library. It is the short form of `adamw_add_param`.
///
/// The caller ensures:
/// The requirements of `adamw_add_param` hold.
adamw_status adamw_add_array(adamw_optimizer *optimizer,
                             const char *name,
                             void *data,
                             uint64_t n_elements,
                             adamw_dtype dtype,
                             uint32_t *out_param);

/// Does what `adamw_add_array` does, for a group from `adamw_add_group`.
///
/// The caller ensures:
/// The requirements of `adamw_add_param` hold.
adamw_status adamw_add_array_to_group(adamw_optimizer *optimizer,
                                      uint32_t group,
                                      const char *name,
                                      void *data,
                                      uint64_t n_elements,
                                      adamw_dtype dtype,
                                      uint32_t *out_param);

/// A description of one parameter, for callbacks and `adamw_get_param_info`. In a callback it is
/// valid until the callback returns. The name belongs to the library and lives as long as the
/// parameter.
typedef struct adamw_param_info {
  /// `sizeof(adamw_param_info)`.
  size_t struct_size;
  /// The name that it was added with, NUL-terminated.
  const char *name;
  /// The number of elements.
  uint64_t n_elements;
  /// The number of steps that this parameter has taken. A step without a gradient for it does not
  /// count.
  uint64_t step;
  /// Its number, from `adamw_add_param`.
  uint32_t param;
  /// The number of its group.
  uint32_t group;
  /// Its element type, an `adamw_dtype`.
  uint32_t dtype;
  /// 1 if weight decay applies to it, 0 if the decay filter has excluded it.
  uint32_t decays;
} adamw_param_info;

/// Writes the highest number of a parameter plus 1 to `out_num_params`, or 0 if there is no
/// parameter. All parameters have numbers below it. A number below it that no parameter has (after
/// `adamw_remove_param`) is `ADAMW_STATUS_NOT_FOUND` in other calls.
///
/// The caller ensures:
/// `out_num_params` is NULL or writable.
adamw_status adamw_num_params(const adamw_optimizer *optimizer, uint32_t *out_num_params);

/// Writes the number of the parameter of this name to `out_param`. A name that no parameter has is
/// `ADAMW_STATUS_NOT_FOUND`.
///
/// The caller ensures:
/// `name` is NULL or NUL-terminated; `out_param` is NULL or writable.
adamw_status adamw_find_param(const adamw_optimizer *optimizer,
                              const char *name,
                              uint32_t *out_param);

/// Writes a description of a parameter to `out_info`. `struct_size` is the caller's
/// `sizeof(adamw_param_info)`. The name belongs to the library and lives as long as the parameter.
///
/// The caller ensures:
/// `out_info` is NULL, or writable for `struct_size` bytes.
adamw_status adamw_get_param_info(const adamw_optimizer *optimizer,
                                  uint32_t param,
                                  struct adamw_param_info *out_info,
                                  size_t struct_size);

/// The options of a parameter that can be changed later. Read them with `adamw_get_param_options`,
/// edit them, and write them with `adamw_set_param_options`.
typedef struct adamw_param_options {
  /// `sizeof(adamw_param_options)`.
  size_t struct_size;
  /// `[1]` The factor for the learning rate of its group; finite, >= 0. With 0, the moments still
  /// change, and a gradient that is not finite still changes the parameter: see `frozen`.
  double lr_scale;
  /// As in `adamw_param_config`.
  double regularizer_coeff;
  /// As in `adamw_param_config`.
  adamw_regularizer regularizer;
  /// The number of its group. A new number moves the parameter there, with its state and step
  /// count.
  uint32_t group;
  /// `[0]` 1: no step changes the parameter, whatever gradient it has, and its gradient does not
  /// count in any norm. Its state and its step count stay.
  uint32_t frozen;
  /// As in `adamw_param_config`.
  uint32_t no_clip;
} adamw_param_options;

/// Writes the options of a parameter to `out_options`. `struct_size` is the caller's
/// `sizeof(adamw_param_options)`.
///
/// The caller ensures:
/// `out_options` is NULL, or writable for `struct_size` bytes.
adamw_status adamw_get_param_options(const adamw_optimizer *optimizer,
                                     uint32_t param,
                                     struct adamw_param_options *out_options,
                                     size_t struct_size);

/// Sets the options of a parameter, from the next step on: the factor for its learning rate, its
/// group, and whether it is frozen, clipped or regularized. Options that a shorter struct lacks
/// stay as they are.
///
/// The caller ensures:
/// `options` is NULL or readable.
adamw_status adamw_set_param_options(adamw_optimizer *optimizer,
                                     uint32_t param,
                                     const struct adamw_param_options *options);

/// Restarts the training of a parameter: its step count and its moments become 0, and its master
/// becomes a copy of the parameter at its next step, or now if a captured graph steps it. The
/// parameter, its gradient and its options stay.
adamw_status adamw_reset_param(adamw_optimizer *optimizer, uint32_t param);

/// Removes a parameter: the library no longer uses its memory, and frees the state that it has
/// allocated for it. The name and the number are free. The number is `ADAMW_STATUS_NOT_FOUND` until
/// `adamw_add_param` gives it to another parameter, which is what an old copy of the number then
/// refers to. (The number of a parameter in a captured step is not used again, because the graph
/// continues to step that parameter.)
adamw_status adamw_remove_param(adamw_optimizer *optimizer, uint32_t param);

/// A buffer of a parameter, or a counter of its state.
typedef uint32_t adamw_buffer;
/// The parameter itself.
#define ADAMW_BUFFER_PARAM 1
/// The f32 master of a 16-bit parameter.
#define ADAMW_BUFFER_MASTER 2
/// The running mean of the gradient.
#define ADAMW_BUFFER_EXP_AVG 3
/// The running mean of the squared gradient.
#define ADAMW_BUFFER_EXP_AVG_SQ 4
/// The largest exp_avg_sq so far, with amsgrad.
#define ADAMW_BUFFER_MAX_EXP_AVG_SQ 5
/// A counter, one f64: the steps that the parameter has taken.
#define ADAMW_BUFFER_STEP 6
/// A counter, one f64: the product of beta1 over the steps that the parameter has taken.
#define ADAMW_BUFFER_BETA1_POWER 7
/// A counter, one f64: the product of beta2 over the steps that the parameter has taken.
#define ADAMW_BUFFER_BETA2_POWER 8
/// The rounding error of a parameter. With ADAMW_PRECISION_SPLIT it is int16: the bits of the f32
/// master are those of the parameter, shifted up by 16, plus this number. With
/// ADAMW_PRECISION_KAHAN it has the parameter's type: the sum of the two is the more precise
/// parameter.
#define ADAMW_BUFFER_REMAINDER 9
/// The scales of exp_avg: `[n / 256, rounded up] f32` for 8 bits, `[n / 128, rounded up] f32` for 4
/// bits.
#define ADAMW_BUFFER_EXP_AVG_SCALE 10
/// The scales of exp_avg_sq, of the shape of ADAMW_BUFFER_EXP_AVG_SCALE.
#define ADAMW_BUFFER_EXP_AVG_SQ_SCALE 11
/// The scales of an 8-bit max_exp_avg_sq, of the shape of ADAMW_BUFFER_EXP_AVG_SCALE.
#define ADAMW_BUFFER_MAX_EXP_AVG_SQ_SCALE 12

/// Tells the library where `num_buffers` of the host's buffers are now: `buffers[i]` of parameter
/// `params[i]` is at `tensors[i]`, with the same elements and the same values. Only the places
/// after the call count, so buffers may change places with each other. All three arrays have
/// `num_buffers` entries. On an error, none is moved. Buffers that the library has allocated cannot
/// be moved; for gradients, call `adamw_set_grad` again.
///
/// NULL in `tensors`: the buffer has no memory from now on. The library no longer touches what it
/// had, which may belong to other buffers at once, or be freed (on a device, after the work that is
/// queued up). The parameter is parked until all its buffers have memory again: it keeps its
/// number, its name, its options, its step count and the state that has memory, but its gradient is
/// forgotten, also a sum, and none can be set, so that every step passes over it. A buffer that
/// gets memory again has the values that it had; but where there is an f32 master, the parameter
/// may have any, because the next step writes it.
///
/// A parked parameter is saved without itself (`params` 0 in adamw_save_args) if all of its state
/// has memory. (A master of the library's needs the parameter until the first step has filled it.)
/// `ADAMW_STATUS_INVALID_ARGUMENT` from whatever would touch missing memory: to save or load it,
/// `adamw_sync_master`, `adamw_reset_param`, and a look at it. The same if a parameter is to be
/// parked whose rows may lag, because it has had a sparse gradient under `ADAMW_LAZY_EXACT`.
///
/// The caller ensures:
/// The arrays are readable for `num_buffers` entries. Tensors meet the conventions of the header.
adamw_status adamw_rebind(adamw_optimizer *optimizer,
                          const uint32_t *params,
                          const adamw_buffer *buffers,
                          const struct adamw_tensor *const *tensors,
                          size_t num_buffers);

/// Copies a parameter into its f32 master. Call it after the host has written the parameter itself
/// (other weights, an average, a clamp), because otherwise the next step overwrites it from the
/// master. A remainder (ADAMW_PRECISION_SPLIT, ADAMW_PRECISION_KAHAN) becomes zero. A parameter
/// without either is left as it is.
///
/// The precision that the master or the remainder had beyond the parameter is lost. So do not call
/// it after `adamw_load` or `adamw_set_state`, which restore both.
///
/// Deferred rows (ADAMW_LAZY_EXACT) are brought up to date first: call `adamw_sparse_flush` before
/// you write a parameter that has such rows.
adamw_status adamw_sync_master(adamw_optimizer *optimizer, uint32_t param);

/// The memory that the state of one parameter takes, in bytes.
typedef struct adamw_memory {
  /// `sizeof(adamw_memory)`.
  size_t struct_size;
  /// 4 per element of f16 and bf16 with multi_precision.
  uint64_t master;
  /// 2 per element of bf16 with ADAMW_PRECISION_SPLIT, and of f16 and bf16 with
  /// ADAMW_PRECISION_KAHAN.
  uint64_t remainder;
  /// 4 per element, or 8 for f64; 2 with ADAMW_MOMENTS_BF16; 1, plus 4 per 256 elements, with
  /// ADAMW_MOMENTS_8BIT; 68 per 128 elements with ADAMW_MOMENTS_4BIT.
  uint64_t exp_avg;
  /// As much as exp_avg.
  uint64_t exp_avg_sq;
  /// As much as exp_avg, with amsgrad.
  uint64_t max_exp_avg_sq;
  /// The sum of all of them.
  uint64_t total;
} adamw_memory;

/// Writes to `out_memory` how much memory the state of a parameter of this type and length would
/// take if it were added to this group now, whether the library or the host allocates it.
/// `whole_elements` is the number of elements of the whole if the parameter is a shard, as in
/// `adamw_param_config`, and 0 otherwise. `struct_size` is the caller's `sizeof(adamw_memory)`.
///
/// The caller ensures:
/// `out_memory` is NULL, or writable for `struct_size` bytes.
adamw_status adamw_memory_plan(const adamw_optimizer *optimizer,
                               uint32_t group,
                               adamw_dtype dtype,
                               uint64_t n_elements,
                               uint64_t whole_elements,
                               struct adamw_memory *out_memory,
                               size_t struct_size);

/* ---- Gradients ------------------------------------------------------------------------------- */

/// Sets the gradient of a parameter: a tensor of as many elements, in the parameter's type or f32,
/// with the dimensions in the parameter's order in memory. Every step reads it until it is replaced
/// or forgotten. NULL forgets it; a step skips a parameter that has no gradient.
///
/// The gradient is in the host's memory, or on the device, where the parameter is; for an offloaded
/// parameter it may be in either. It must not overlap anything that a step writes.
///
/// The caller ensures:
/// `grad` is NULL or readable. Its memory meets the conventions of the header.
adamw_status adamw_set_grad(adamw_optimizer *optimizer,
                            uint32_t param,
                            const struct adamw_tensor *grad);

/// Sets the gradient of a parameter to a plain array `data [n_elements]` in the host's memory. It
/// is the short form of `adamw_set_grad`.
///
/// The caller ensures:
/// The requirements of `adamw_set_grad` hold.
adamw_status adamw_set_grad_array(adamw_optimizer *optimizer,
                                  uint32_t param,
                                  const void *data,
                                  uint64_t n_elements,
                                  adamw_dtype dtype);

/// Sets the gradients of `num_grads` parameters to plain arrays: `data[i]` for `params[i]`, or for
/// parameter i if `params` is NULL. Each array has the length and the type of its parameter, and
/// lies in the memory where the parameter is stepped (in the host's, if it is offloaded). NULL: the
/// parameter has no gradient from now on. On an error, none is set, and the text begins with the
/// entry that caused it, `data[i]`.
///
/// It is made for hosts whose gradients are elsewhere at each step: an array costs little more than
/// the reading of its address, if the parameter had such a gradient before. `adamw_set_grads` takes
/// gradients of any kind.
///
/// The caller ensures:
/// The arrays are NULL, or readable for `num_grads` entries. The gradients meet the requirements of
/// `adamw_set_grad`.
adamw_status adamw_set_grad_data(adamw_optimizer *optimizer,
                                 const uint32_t *params,
                                 const void *const *data,
                                 size_t num_grads);

/// Sets the gradients of `num_grads` parameters in one call, `grads[i]` for `params[i]`, as
/// `adamw_set_grad` does. On an error, none is set, and the text begins with the entry that caused
/// it, `grads[i]`.
///
/// The caller ensures:
/// The arrays are readable for `num_grads` entries, and the requirements of `adamw_set_grad` hold
/// for each tensor.
adamw_status adamw_set_grads(adamw_optimizer *optimizer,
                             const uint32_t *params,
                             const struct adamw_tensor *const *grads,
                             size_t num_grads);

/// Adds the gradient of a micro-batch to the sum for this parameter since its last step. The sum is
/// in f32 (f64 for an f64 parameter), in memory of the library. `grad` is a tensor as for
/// `adamw_set_grad`, but is read during this call only.
///
/// The next step uses the sum as the gradient, or the mean if `config.average_grads` is set, in
/// place of any gradient that was set. A step, taken or skipped, uses the sum up: the parameter
/// then has no gradient. This includes a step that passes over the parameter because it is frozen,
/// but not a step of other parameters (`adamw_minimize`, `adamw_apply_gradients`,
/// `adamw_step_param`).
///
/// The caller ensures:
/// The requirements of `adamw_set_grad` hold.
adamw_status adamw_accumulate_grad(adamw_optimizer *optimizer,
                                   uint32_t param,
                                   const struct adamw_tensor *grad);

/// Adds a plain array `data [n_elements]` in the host's memory to the sum for this parameter. It is
/// the short form of `adamw_accumulate_grad`.
///
/// The caller ensures:
/// The requirements of `adamw_set_grad` hold.
adamw_status adamw_accumulate_grad_array(adamw_optimizer *optimizer,
                                         uint32_t param,
                                         const void *data,
                                         uint64_t n_elements,
                                         adamw_dtype dtype);

/// Sets the number of micro-batches in a window. `config.average_grads` divides every sum by it,
/// also the sum of a parameter that only some micro-batches have reached (an expert, for example).
/// A step of a parameter that has accumulated more gradients is `ADAMW_STATUS_INVALID_ARGUMENT`.
/// The number is not saved in checkpoints.
///
/// With 0, the initial value, the divisor is the largest number of gradients that any parameter has
/// accumulated in this window. A window then begins when a parameter accumulates its first gradient
/// while no other parameter holds a sum. The divisor is too small only if no parameter has
/// accumulated a gradient in every micro-batch.
adamw_status adamw_set_accumulation_window(adamw_optimizer *optimizer, uint64_t n_micro_batches);

/// How `adamw_clear_grad` clears gradients.
typedef uint32_t adamw_clear;
/// Writes zeros over every gradient, which must be in writable memory. The gradients stay set: a
/// step with them decays the parameter and moves it by its momentum.
#define ADAMW_CLEAR_ZERO 0
/// Forgets every gradient. A step skips a parameter until it has a gradient again.
#define ADAMW_CLEAR_FORGET 1

/// Clears every gradient, in the way that an `ADAMW_CLEAR` constant selects. A sum of accumulated
/// gradients is forgotten in either way.
adamw_status adamw_clear_grad(adamw_optimizer *optimizer, adamw_clear mode);

/* ---- Step ------------------------------------------------------------------------------------ */

/// Steps every parameter that has a gradient, in place, and counts the step for it:
///
///     exp_avg    += (1 - beta1) * (grad - exp_avg)
///     exp_avg_sq += (1 - beta2) * (grad * grad - exp_avg_sq)
///     denom       = sqrt(exp_avg_sq) / sqrt(1 - beta2^step) + eps
///     param      -= lr * weight_decay * param + lr / (1 - beta1^step) * exp_avg / denom
///
/// The bits of the result do not depend on the instruction set, the number of threads, or how
/// tensors are cut (except for the bits of a NaN). Gradients are only read. If no parameter has a
/// gradient, it does nothing.
adamw_status adamw_step(adamw_optimizer *optimizer);

/// Tells the library that the gradient of a parameter is complete. If the next step needs its norm,
/// or needs to know whether it is finite, the gradient is measured now, while it is in cache, and
/// the step does not measure it again. Otherwise the call does nothing. The step has the same bits
/// with or without it.
///
/// The host must not change the gradient until the next step. (An `adamw_step_param` of another
/// parameter does not count as one.)
adamw_status adamw_grad_ready(adamw_optimizer *optimizer, uint32_t param);

/// Steps one parameter now, if it has a gradient, with the bits that `adamw_step` would give it,
/// and forgets the gradient. A host can so step inside its backward pass and reuse the memory.
///
/// A schedule does not advance until `adamw_step`, which steps the remaining parameters. Until
/// then, or until no other parameter has a gradient, the handle cannot be saved, because the state
/// would belong to two different steps.
///
/// `ADAMW_STATUS_CLIP_CONFLICT` if the step depends on all gradients: with clipping by global norm
/// (unless the parameter is excluded from it), a loss scaler, ADAMW_NONFINITE_SKIP or found_inf
/// flags.
adamw_status adamw_step_param(adamw_optimizer *optimizer, uint32_t param);

/// Turns statistics for `adamw_get_step_info` on (1) or off (0). With them, each step adds up the
/// norms of its update and of the parameters, and counts the updates that rounding has lost. It
/// does so while the elements are in cache, in the fixed order of norms: there is no second pass
/// over memory, and the bits are the same everywhere.
adamw_status adamw_set_statistics(adamw_optimizer *optimizer, uint32_t statistics);

/// The report of the last successful step.
typedef struct adamw_step_info {
  /// `sizeof(adamw_step_info)`.
  size_t struct_size;
  /// The number of elements of the parameters that had a gradient.
  uint64_t n_elements;
  /// The number of gradient elements that are not finite, if the gradients were measured. A
  /// finite gradient whose norm is too large for the compute type, once the loss scale is taken
  /// out, counts as one such element.
  uint64_t n_nonfinite;
  /// The norm of all gradients together, unscaled and before clipping, if they were measured.
  double grad_norm;
  /// 1 if the gradients were measured, for clipping by norm or because the step needed to know
  /// whether they are finite.
  uint32_t measured;
  /// 1 if the step was skipped.
  uint32_t skipped;
  /// The smallest factor by which a gradient was multiplied to clip it by norm; 1 if none was.
  double clip_factor;
  /// With `adamw_set_statistics`: the norm of the change of all elements that the step has
  /// visited, including decay, after rounding. Of parameters with lazy rows, these are the listed
  /// rows.
  double update_norm;
  /// With `adamw_set_statistics`: the norm of those elements after the step, taken from the
  /// master where there is one.
  double param_norm;
  /// With `adamw_set_statistics`: the duration of the step, in seconds. It leaves out what a
  /// device does after the call, which need not wait for that.
  double seconds;
  /// 1 if the step was taken with `adamw_set_statistics`.
  uint32_t has_statistics;
  /// The instruction set that the handle uses.
  adamw_isa isa;
  /// The number of threads that work in a step that is large enough.
  uint32_t num_threads;
  /// 1 if the step was skipped for a number in the device's memory that no step can use (see
  /// `adamw_device_inputs`).
  uint32_t invalid_inputs;
  /// With `adamw_set_statistics`: the number of elements (of the master where there is one) whose
  /// momentum, exp_avg, is not 0 and whose value is the same as before the step: their updates
  /// were lost in rounding. A large number means that 16 bits are too few for this learning rate;
  /// see `adamw_precision`.
  uint64_t n_unchanged;
} adamw_step_info;

/// Writes the report of the last successful step to `out_info`, whichever call has taken it; before
/// the first, that of a step without gradients. `struct_size` is the caller's
/// `sizeof(adamw_step_info)`.
///
/// The caller ensures:
/// `out_info` is NULL, or writable for `struct_size` bytes.
adamw_status adamw_get_step_info(const adamw_optimizer *optimizer,
                                 struct adamw_step_info *out_info,
                                 size_t struct_size);

/// Measures the gradients that the next step would use, and steps nothing. It writes to `sums`, a
/// tensor `[num_params, 2] f64`, the two numbers that a step measures of each parameter: the sum
/// of the squares of its gradient (or of the mean, if the handle averages accumulated ones), with
/// the loss scale in it, and the number of elements that are not finite. Both are 0 for a parameter
/// that the step would not step. num_params is what `adamw_num_params` returns.
///
/// Hosts that have parts of a model each add up their sums, element by element, as an all-reduce
/// does, and give the result to `adamw_set_grad_sums`. Then all of them clip by the same factor and
/// skip the same steps.
///
/// `sums` is in the host's memory, or on the device of the handle. If it is there, and so are all
/// parameters with a gradient, the call waits for nothing: the sums are written in the order of the
/// stream, and the call can be captured into a graph as a step can, after `adamw_prepare`. It must
/// have memory of its own: what overlaps a parameter or its state is an error, and a gradient would
/// be overwritten.
///
/// The caller ensures:
/// `sums` is NULL, or a tensor that meets the conventions of the header and is writable; on a
/// device, until the stream has reached the call, or as long as a graph that has captured it is
/// launched.
adamw_status adamw_measure_grads(adamw_optimizer *optimizer, const struct adamw_tensor *sums);

/// Gives the sums by which the next steps clip and decide what to skip: a tensor as for
/// `adamw_measure_grads`. These steps measure nothing, and read `sums` instead, whose numbers count
/// for all parameters, also for those that are not stepped. If they are what `adamw_measure_grads`
/// has written, the step has the same bits as one that measures. NULL: steps measure again.
///
/// Only the norms of the sums count that a step needs. So a host that knows the norm of all
/// gradients alone, and clips by global norm, can give its square for one parameter and zeros for
/// all others. A count that is NaN or below 0 stands for one element that is not finite, and so do
/// squares that are, beside a count of 0.
///
/// On the device of the handle they are read there in the order of the stream, and the step waits
/// for nothing that a step that measures does not wait for. In the host's memory they are read
/// during the call, and the step need not wait for norms at all. When `adamw_num_params` has
/// changed, steps that need sums fail until a tensor of the new length is given.
///
/// The caller ensures:
/// `sums` is NULL, or a tensor that meets the conventions of the header and stays readable until
/// another one is given or the handle is destroyed, and on a device as long as work that reads it
/// is queued up or captured.
adamw_status adamw_set_grad_sums(adamw_optimizer *optimizer, const struct adamw_tensor *sums);

/// Writes the norm of all gradients that the next step would use, unscaled and before clipping, and
/// the number of their elements that are not finite, as `adamw_step_info` has them, and steps
/// nothing. They are those of the sums of `adamw_set_grad_sums`, if there are any; otherwise the
/// gradients are measured now. Waits for the device.
///
/// The caller ensures:
/// `out_norm` and `out_n_nonfinite` are NULL or writable.
adamw_status adamw_get_grad_norm(adamw_optimizer *optimizer,
                                 double *out_norm,
                                 uint64_t *out_n_nonfinite);

/// Begins a step that threads of the host take together, inside a parallel region of theirs, in
/// place of one `adamw_step` that would start threads of its own:
///
///     one thread:   adamw_step_begin(optimizer)
///     all threads:  adamw_step_work(optimizer)
///     one thread:   adamw_step_end(optimizer)
///
/// The step has the bits of `adamw_step`, and uses none of the threads that `adamw_config` names.
/// This call looks at no gradient and at no number that the host keeps: they may be written until
/// the first `adamw_step_work` or `adamw_step_end`. From this call to `adamw_step_end`, every other
/// call on the handle is `ADAMW_STATUS_BUSY`.
adamw_status adamw_step_begin(adamw_optimizer *optimizer);

/// Works on the step that has begun, and returns when it is over. Any number of threads call it, at
/// the same time or one after the other, each as often as it likes. The first one to come leads: it
/// does what one thread has to do, calls the host's callbacks, and hands out the rest to those that
/// are there. It waits for no thread that has not come; the others wait, asleep, for the leader.
///
/// If no step has begun, or the last one is over, it does nothing: a thread that comes late does no
/// harm. How the step ended is what `adamw_step_end` returns. The status here is
/// `ADAMW_STATUS_BAD_HANDLE`, or `ADAMW_STATUS_BUSY` in a callback of the step itself.
adamw_status adamw_step_work(adamw_optimizer *optimizer);

/// Ends the step that has begun, and returns what `adamw_step` would have returned. If the step is
/// not over yet, the thread first works on it as in `adamw_step_work`; alone, if no other has come.
/// So a step that has begun is always taken whole, or fails and changes nothing.
///
/// `ADAMW_STATUS_NOT_FOUND` if no step has begun.
adamw_status adamw_step_end(adamw_optimizer *optimizer);

/// Computes the loss and the gradients, writes the loss to `out_loss` and returns 0. The gradients
/// go into the memory that the handle knows, or are set by calls on the handle. Any other return
/// value fails the call with `ADAMW_STATUS_CALLBACK`, and no step is taken.
typedef int32_t (*adamw_closure)(double *out_loss, void *user_data);

/// A parameter that was stepped, and its gradient.
typedef struct adamw_param_grad {
  /// The address of the gradient's first element; of the values if the gradient is sparse. A sum
  /// of accumulated gradients belongs to the library.
  void *grad;
  /// The number of the parameter.
  uint32_t param;
  /// 0.
  uint32_t reserved;
} adamw_param_grad;

/// The arguments of `adamw_minimize`. Zero it, then set `struct_size` and `closure`; the other
/// fields may stay 0.
typedef struct adamw_minimize_args {
  /// `sizeof(adamw_minimize_args)`.
  size_t struct_size;
  /// Computes the loss and the gradients.
  adamw_closure closure;
  /// Passed to `closure`.
  void *user_data;
  /// `[NULL]` The numbers of the parameters to step, `[num_params]`. NULL: all parameters.
  const uint32_t *params;
  /// The number of entries of `params`.
  size_t num_params;
  /// `[NULL]` The numbers of parameters to leave out, `[num_no_grad]`.
  const uint32_t *no_grad;
  /// The number of entries of `no_grad`.
  size_t num_no_grad;
  /// `[NULL]` Receives the parameters that were stepped, in the order of their numbers,
  /// `[capacity]`. NULL: they are not listed.
  struct adamw_param_grad *updated;
  /// The number of entries that `updated` has room for. If it is too small, no step is taken.
  size_t capacity;
} adamw_minimize_args;

/// Calls the closure, then steps the parameters that have a gradient as `adamw_step` does: all of
/// them, or the subset that `args` selects. Writes the loss to `out_loss`, and the number of
/// stepped parameters, which is 0 if the step was skipped, to `out_num_updated`. Either may be
/// NULL.
///
/// The handle is free while the closure runs, so the closure may set gradients. Gradients are not
/// cleared, neither before nor after.
///
/// The caller ensures:
/// `args` is NULL, or readable with all that it points to (`updated`: writable). The outputs are
/// NULL or writable. The closure may be called with its `user_data`.
adamw_status adamw_minimize(adamw_optimizer *optimizer,
                            const struct adamw_minimize_args *args,
                            double *out_loss,
                            size_t *out_num_updated);

/// Steps the parameters of `num_grads` pairs, `params[i]` with `grads[i]`, and no others, as
/// `adamw_step` does. Norms are those of these gradients. Gradients that were set before are set
/// again afterwards. Each parameter may be given once only.
///
/// The caller ensures:
/// The requirements of `adamw_set_grads` hold; the gradients are read during the call only.
adamw_status adamw_apply_gradients(adamw_optimizer *optimizer,
                                   const uint32_t *params,
                                   const struct adamw_tensor *const *grads,
                                   size_t num_grads);

/* ---- Ranks ----------------------------------------------------------------------------------- */

/// Replaces each of the `count` numbers of `buffer` by its sum over all ranks, as `MPI_Allreduce`
/// does in place with `MPI_DOUBLE` and `MPI_SUM`, and returns 0 when every rank has the sums. Any
/// other return value fails the step with `ADAMW_STATUS_CALLBACK`, and nothing changes. All ranks
/// get the same calls, in one order, on the threads that step. The numbers may be added up in any
/// order.
typedef int32_t (*adamw_all_reduce)(double *buffer, size_t count, void *user_data);

/// Called while a step goes on, and returns 0 when the step may read the gradients of the first
/// `until` elements. It has written the first `done`, whose parameters it does not touch any more.
/// Both count the elements that this handle has of its parameters, laid end to end by their
/// numbers.
///
/// A step that measures the gradients calls it for all of them with `done` 0 before the ranks tell
/// each other what they have measured; then, or without that, it calls it again from the first
/// element on while it writes. Each time, the last call has all elements as `until`, also where
/// this rank has none. (Where parameters are offloaded, it is called once before that, with all of
/// them, and not while the step writes.)
///
/// Any other return value fails the step on this rank with `ADAMW_STATUS_CALLBACK`. If the step has
/// begun to write, that cannot be undone, and the handle can only be destroyed. The other ranks
/// are not told.
typedef int32_t (*adamw_next_piece)(uint64_t done, uint64_t until, void *user_data);

/// Cuts a list of parameters into a range of each for every rank, and writes those of one rank. It
/// needs no handle, and all ranks get the same cut.
///
/// `n_elements [num_params]` are the lengths of the parameters. `out_first_elements [num_params]`
/// and `out_n_elements [num_params]` get the range of each parameter that rank `rank` of
/// `num_ranks` has; they are `first_element` of `adamw_param_config` and the length of its `param`,
/// with the whole length as `whole_elements`. A range may be empty: 0 elements from 0 on.
///
/// The parameters are laid end to end, so that the ranges of a rank lie side by side, too, and
/// those of rank 0 come first. The ranks have about as many elements: `align` more than the
/// num_ranks-th part of all, rounded up, is the most. Parameters are cut only at multiples of
/// `align`. 0 stands for 4,096, which suits every format and every norm; moments in codes need
/// multiples of 256, or of 128 for 4 bits. To keep every parameter on one rank, give UINT64_MAX.
///
/// The caller ensures:
/// `n_elements` is readable, and `out_first_elements` and `out_n_elements` are writable, for
/// `num_params` values, or any of them NULL.
adamw_status adamw_shard_ranges(const uint64_t *n_elements,
                                size_t num_params,
                                uint64_t align,
                                uint32_t rank,
                                uint32_t num_ranks,
                                uint64_t *out_first_elements,
                                uint64_t *out_n_elements);

/// Sets the callback by which ranks that each have ranges of the same parameters agree before every
/// step. Then all of them clip by the same norms, skip the same steps, have the same loss scale,
/// and fail together, with the bits of one handle that has the whole parameters. NULL: the handle
/// steps by itself again.
///
/// Every rank sets a callback, adds every parameter in the same order and under the same name, with
/// `first_element` and `whole_elements`, and gives a gradient to the same parameters: to those of
/// which it has nothing, one of 0 elements. A sparse gradient may list rows on some ranks alone:
/// the others, with n = 0, step their rows as `lazy_mode` says. It is none if no rank lists a row.
/// Each element is on one rank. The ranges can begin anywhere; where they cut a block of 4,096
/// elements, every step exchanges 4,096 numbers for it, so `adamw_shard_ranges` does not.
///
/// A step calls `all_reduce` once with 45 numbers; if a sparse gradient lists no row on some rank,
/// once more, with a number for each parameter; and if it measures the gradients, once more when it
/// has, with two or more numbers for each parameter. The first step after a parameter was added or
/// removed calls it some more times, and allocates. If ranks differ in what a step depends on
/// (parameters, steps taken, groups, learning rate, loss scale, seed and the like), the step is
/// `ADAMW_STATUS_MISMATCH` on all of them and says in what; if one fails before it has told the
/// others, it is that on the others. No rank has then changed anything. What a `parallel_for`
/// refuses once they have agreed is done on the calling thread. All calls that step take part, on
/// all ranks alike. An `adamw_minimize` whose closure fails does not get so far.
///
/// Parameters on a device are `ADAMW_STATUS_UNSUPPORTED`, unless they are offloaded.
/// `adamw_step_param` is `ADAMW_STATUS_CLIP_CONFLICT`, and `adamw_grad_ready` does nothing.
/// `adamw_measure_grads`, `adamw_get_grad_norm` and `adamw_set_grad_sums` are for hosts that add up
/// by themselves: they are `ADAMW_STATUS_INVALID_ARGUMENT`, and so is this call while sums are set.
/// The report of a step has the norm of all ranks; its statistics and its number of elements are of
/// this rank alone.
///
/// The caller ensures:
/// `all_reduce` may be called with `user_data` until it is replaced or the handle is destroyed.
adamw_status adamw_set_all_reduce(adamw_optimizer *optimizer,
                                  adamw_all_reduce all_reduce,
                                  void *user_data);

/// Sets a callback by which steps of ranks go on piece by piece: it waits for the gradients of each
/// piece, and learns which elements have been stepped. So gradients can travel while the pieces
/// before them are measured and stepped, and stepped parameters while others are. The step has the
/// same bits. NULL: all gradients are there when a step begins.
///
/// `n_elements` is about the number of elements in a piece. 0 stands for 262,144; shorter pieces
/// are stepped on one thread. The rows that sparse gradients list are read before the first call.
///
/// It goes with an `all_reduce`, which has to be there, and takes it away when it is set anew.
/// `ADAMW_STATUS_INVALID_ARGUMENT` without one.
///
/// The caller ensures:
/// `next_piece` may be called with `user_data` until it or the `all_reduce` is replaced, or the
/// handle is destroyed.
adamw_status adamw_set_next_piece(adamw_optimizer *optimizer,
                                  uint64_t n_elements,
                                  adamw_next_piece next_piece,
                                  void *user_data);

/* ---- Hyper-parameters and groups ------------------------------------------------------------- */

/// Sets the learning rate of the next steps; finite, >= 0. It is multiplied by the lr_scale of the
/// group, by the lr_scale of the parameter, and by the result of the lr_ratio callback.
/// `ADAMW_STATUS_LR_CONFLICT` if the learning rate comes from a schedule or from `config.lr_ptr`.
adamw_status adamw_set_lr(adamw_optimizer *optimizer, double lr);

/// Writes the learning rate to `out_lr`.
///
/// The caller ensures:
/// `out_lr` is NULL or writable.
adamw_status adamw_get_lr(const adamw_optimizer *optimizer, double *out_lr);

/// Writes to `out_lr` the learning rate with which a step would step this parameter now: lr times
/// the lr_scale of the group, the lr_scale of the parameter, and the result of the lr_ratio
/// callback, which is called.
///
/// The caller ensures:
/// `out_lr` is NULL or writable.
adamw_status adamw_get_param_lr(const adamw_optimizer *optimizer, uint32_t param, double *out_lr);

/// Tells whether weight decay applies to the parameter of this name. Returns 1 for yes, 0 for no,
/// and a negative number for an error, which fails the call with `ADAMW_STATUS_CALLBACK`.
typedef int32_t (*adamw_decay_filter)(const char *name, void *user_data);

/// Writes the factor for the learning rate of this parameter (finite, >= 0) to `out_ratio` and
/// returns 0. Any other return value fails the step with `ADAMW_STATUS_CALLBACK`, and nothing
/// changes.
typedef int32_t (*adamw_lr_ratio)(const struct adamw_param_info *param,
                                  double *out_ratio,
                                  void *user_data);

/// Sets the callback that selects the parameters to which weight decay applies. NULL: it applies to
/// all. The filter is called now for every existing parameter, and for each new one when it is
/// added. If it reports an error, the previous filter stays.
///
/// The caller ensures:
/// `filter` may be called with `user_data` until another is set or the handle is destroyed.
adamw_status adamw_set_decay_filter(adamw_optimizer *optimizer,
                                    adamw_decay_filter filter,
                                    void *user_data);

/// Sets the callback that gives a factor for the learning rate of each parameter, such as for
/// layer-wise learning-rate decay. NULL: no factor. Each step calls it for every parameter that has
/// a gradient, before the step writes anything.
///
/// With a factor of 0, a finite gradient changes no bit of the parameter (independent weight decay
/// does), while moments and step counts advance. A gradient that is not finite still makes the
/// parameter NaN. To leave everything unchanged, use `frozen` of `adamw_param_options`.
///
/// The caller ensures:
/// `lr_ratio` may be called with `user_data` until another is set or the handle is destroyed.
adamw_status adamw_set_lr_ratio(adamw_optimizer *optimizer,
                                adamw_lr_ratio lr_ratio,
                                void *user_data);

/// The hyper-parameters of a group. `adamw_group_config_init` fills in those of the handle, which
/// are also the defaults of the fields that a shorter struct lacks.
typedef struct adamw_group_config {
  /// `sizeof(adamw_group_config)`.
  size_t struct_size;
  /// `[1]` The factor for the learning rate of the handle; finite, >= 0.
  double lr_scale;
  /// As in `adamw_config`.
  double weight_decay;
  /// As in `adamw_config`.
  double beta1;
  /// As in `adamw_config`.
  double beta2;
  /// As in `adamw_config`.
  double eps;
  /// As in `adamw_config`.
  double clip_norm;
  /// As in `adamw_config`.
  double clip_min;
  /// As in `adamw_config`.
  double clip_max;
  /// As in `adamw_config`.
  adamw_clip clip;
  /// As in `adamw_config`.
  adamw_lazy lazy_mode;
  /// As in `adamw_config`.
  const float *beta1_ptr;
  /// As in `adamw_config`.
  const float *beta2_ptr;
  /// As in `adamw_config`.
  const float *weight_decay_ptr;
  /// As in `adamw_config`, for parameters that are added later.
  adamw_precision precision;
  /// As in `adamw_config`, for parameters that are added later.
  adamw_moments moments;
  /// As in `adamw_config`.
  uint32_t independent_weight_decay;
  /// As in `adamw_config`.
  uint32_t maximize;
  /// As in `adamw_config`, for parameters that are added later.
  uint32_t amsgrad;
  /// As in `adamw_config`.
  adamw_bias_correction bias_correction;
  /// `[NULL]` Address of one f32 in place of `lr_scale`, under the rules of `lr_ptr` of
  /// `adamw_config`. With a handle whose `lr` is 1 it is the learning rate of the group.
  const float *lr_scale_ptr;
  /// As in `adamw_config`.
  adamw_formula formula;
  /// 0.
  uint32_t reserved;
} adamw_group_config;

/// Fills `group` with the hyper-parameters of the handle, which are those of group 0, with an
/// lr_scale of 1 and without `lr_scale_ptr`. `struct_size` is the caller's
/// `sizeof(adamw_group_config)`.
///
/// The caller ensures:
/// `group` is NULL, or writable for `struct_size` bytes.
adamw_status adamw_group_config_init(const adamw_optimizer *optimizer,
                                     struct adamw_group_config *group,
                                     size_t struct_size);

/// Adds a group with its own hyper-parameters and writes its number, for `adamw_param_config`, to
/// `*out_group`. Group 0 exists from the start and has the values of the handle.
///
/// The caller ensures:
/// `group` is NULL or readable; `out_group` is NULL or writable. The addresses in `group` meet the
/// requirements of `adamw_config`.
adamw_status adamw_add_group(adamw_optimizer *optimizer,
                             const struct adamw_group_config *group,
                             uint32_t *out_group);

/// Writes the number of groups to `out_num_groups`. All groups have numbers below it, because
/// groups are never removed.
///
/// The caller ensures:
/// `out_num_groups` is NULL or writable.
adamw_status adamw_num_groups(const adamw_optimizer *optimizer, uint32_t *out_num_groups);

/// Writes the hyper-parameters of a group to `out_group`. A value that the host keeps
/// (`lr_scale_ptr`, `beta1_ptr`, `beta2_ptr`, `weight_decay_ptr`) is read now, and is what it is
/// even if no step can be taken with it. `struct_size` is the caller's
/// `sizeof(adamw_group_config)`.
///
/// The caller ensures:
/// `out_group` is NULL, or writable for `struct_size` bytes.
adamw_status adamw_get_group(const adamw_optimizer *optimizer,
                             uint32_t group,
                             struct adamw_group_config *out_group,
                             size_t struct_size);

/// Sets the hyper-parameters of a group, from the next step on. Its parameters keep their state and
/// their step counts; with ADAMW_BIAS_CORRECTION_PRODUCTS the powers of beta1 and beta2 continue as
/// products of the value in each step.
/// Fields that a shorter struct lacks stay as they are.
///
/// The caller ensures:
/// The requirements of `adamw_add_group` hold.
adamw_status adamw_set_group(adamw_optimizer *optimizer,
                             uint32_t group,
                             const struct adamw_group_config *values);

/* ---- Schedules ------------------------------------------------------------------------------- */

/// Writes the value of a schedule at this index (finite, >= 0) to `out_value` and returns 0. Any
/// other return value fails the call with `ADAMW_STATUS_CALLBACK`, and nothing changes. The same
/// index may be asked for again, if the step that asked for it failed for another reason.
typedef int32_t (*adamw_schedule_function)(uint64_t index, double *out_value, void *user_data);

/// A formula for the learning rate as a function of the index i, the number of times that the
/// schedule has advanced. A field that is zero means zero, except where another default is given.
typedef uint32_t adamw_schedule_kind;
/// lr / sqrt(d_model) * min(1 / sqrt(i), i / warmup_steps^1.5). A `lr` of 0 means 1.
#define ADAMW_SCHEDULE_NOAM 1
/// `values[k]`, where k is the number of boundaries at or before i. There is one value more than
/// there are boundaries.
#define ADAMW_SCHEDULE_PIECEWISE 2
/// lr * exp(-gamma * i).
#define ADAMW_SCHEDULE_NATURAL_EXP 3
/// lr / (1 + gamma * i).
#define ADAMW_SCHEDULE_INVERSE_TIME 4
/// From lr to end_lr in `total_steps`, as (1 - i / total_steps)^power. With `cycle`, total_steps
/// grows to its next multiple instead of ending. A `power` of 0 means 1.
#define ADAMW_SCHEDULE_POLYNOMIAL 5
/// Linear from start_lr to end_lr in `warmup_steps`, then the inner schedule from its start, or lr
/// if there is no inner schedule.
#define ADAMW_SCHEDULE_LINEAR_WARMUP 6
/// lr * gamma^i.
#define ADAMW_SCHEDULE_EXPONENTIAL 7
/// lr * gamma^(number of boundaries at or before i). A `gamma` of 0 means 0.1.
#define ADAMW_SCHEDULE_MULTI_STEP 8
/// lr * gamma^floor(i / period). A `gamma` of 0 means 0.1.
#define ADAMW_SCHEDULE_STEP 9
/// lr * function(i).
#define ADAMW_SCHEDULE_LAMBDA 10
/// Multiplies the learning rate by `factor` (0 means 0.1) when a metric has not improved for more
/// than `patience` calls of `adamw_schedule_advance_with_metric`. The result is not below min_lr,
/// and a reduction of at most `epsilon` is not made. With `warmup_steps`, the schedule begins with
/// a line from start_lr to lr, which advances as other schedules do; during it, metrics only count
/// for the best.
#define ADAMW_SCHEDULE_REDUCE_ON_PLATEAU 11
/// From lr to min_lr along half a cosine in `period`, then back, and so on. Each value is computed
/// from the one before.
#define ADAMW_SCHEDULE_COSINE_ANNEALING 12
/// lr * function(1) * ... * function(i).
#define ADAMW_SCHEDULE_MULTIPLICATIVE 13
/// Up from max_lr / divide_factor to max_lr in `phase_fraction` of `total_steps`, then down to
/// end_lr, where it stays. With `three_phase`, it first goes down to its initial value. The phases
/// are half cosines, or lines with `linear_anneal`. A `divide_factor` of 0 means 25, a
/// `phase_fraction` of 0 means 0.3.
#define ADAMW_SCHEDULE_ONE_CYCLE 14
/// Up from lr to max_lr in `steps_up` and down in `steps_down` (0 means as many), again and again.
/// `cyclic_mode` scales the amplitude of later cycles.
#define ADAMW_SCHEDULE_CYCLIC 15
/// lr times a factor that goes from start_factor (0 means 1/3) to end_factor in `total_steps`.
#define ADAMW_SCHEDULE_LINEAR 16
/// From lr to min_lr along half a cosine in `period`, then again from lr in a period that is
/// `period_factor` times as long, and so on. A `period_factor` of 0 means 1.
#define ADAMW_SCHEDULE_COSINE_WARM_RESTARTS 17
/// Linear from start_lr to lr in `warmup_steps`, then lr.
#define ADAMW_SCHEDULE_CONSTANT_WITH_WARMUP 18
/// Linear from start_lr to lr in `warmup_steps`, then linear to min_lr at `total_steps`, where it
/// stays.
#define ADAMW_SCHEDULE_LINEAR_WITH_WARMUP 19
/// Linear from start_lr to lr in `warmup_steps`, then half a cosine to min_lr at `total_steps`,
/// where it stays.
#define ADAMW_SCHEDULE_COSINE_WITH_WARMUP 20
/// Linear from start_lr to lr in `warmup_steps`, then lr * sqrt(warmup_steps / i).
#define ADAMW_SCHEDULE_INVERSE_SQRT 21
/// Linear from start_lr to lr in `warmup_steps`, then lr; in the last `decay_steps` of
/// `total_steps` down to min_lr by 1 - sqrt(part of the decay that is done), where it stays.
#define ADAMW_SCHEDULE_WARMUP_STABLE_DECAY 22
/// The inner schedules one after another, each from its own start. The next one begins at each of
/// `boundaries`, so there is one schedule more than there are boundaries.
#define ADAMW_SCHEDULE_CHAIN 23
/// function(i).
#define ADAMW_SCHEDULE_FUNCTION 24

/// How CYCLIC scales its amplitude from cycle to cycle.
typedef uint32_t adamw_cyclic_mode;
/// Every cycle has the amplitude of the first.
#define ADAMW_CYCLIC_TRIANGULAR 0
/// Every cycle has half the amplitude of the one before.
#define ADAMW_CYCLIC_TRIANGULAR2 1
/// The amplitude is multiplied by gamma^i.
#define ADAMW_CYCLIC_EXP_RANGE 2

/// When a schedule advances.
typedef uint32_t adamw_schedule_advances;
/// After every `adamw_step` that was taken. A step that fails or is skipped does not count.
#define ADAMW_ADVANCE_ON_STEP 0
/// Only by `adamw_schedule_advance`.
#define ADAMW_ADVANCE_MANUALLY 1

/// A schedule of the learning rate. Zero it, then set `struct_size`, `kind` and the fields that
/// this kind uses; the others are ignored. All learning rates are finite and >= 0. Arrays and inner
/// schedules are copied during the call; `function` is kept.
typedef struct adamw_schedule {
  /// `sizeof(adamw_schedule)`.
  size_t struct_size;
  /// The formula, an ADAMW_SCHEDULE constant.
  adamw_schedule_kind kind;
  /// `[ADAMW_ADVANCE_ON_STEP]` When the schedule advances. Only that of the outermost schedule is
  /// used. REDUCE_ON_PLATEAU advances by its own call, except during its warmup.
  adamw_schedule_advances advance;
  /// The initial learning rate, or the one that a warmup leads to. 0 means that of the handle,
  /// except for CYCLIC, which may start from 0, and for NOAM. (`adamw_schedule_trace` has no
  /// handle, so that 0 stays 0.)
  double lr;
  /// The learning rate at which a warmup starts.
  double start_lr;
  /// The last learning rate of POLYNOMIAL and ONE_CYCLE, and of the warmup of LINEAR_WARMUP
  /// (where it must be > start_lr).
  double end_lr;
  /// The lowest learning rate, where a formula has one.
  double min_lr;
  /// The highest learning rate of ONE_CYCLE and CYCLIC.
  double max_lr;
  /// > 0; for EXPONENTIAL, MULTI_STEP and STEP also < 1.
  double gamma;
  /// > 0.
  double power;
  /// 0 < factor < 1.
  double factor;
  /// 0 < start_factor <= 1.
  double start_factor;
  /// 0 to 1.
  double end_factor;
  /// > 0.
  double divide_factor;
  /// 0 < phase_fraction <= 1, with three_phase < 0.5; phase_fraction * total_steps must be > 1.
  double phase_fraction;
  /// The improvement over the best metric that counts, as a fraction of that metric.
  double threshold;
  /// A reduction of the learning rate by at most this much is not made.
  double epsilon;
  /// The width of the model.
  uint64_t d_model;
  /// The length of the warmup. All numbers of steps are 1 to 2^53; a warmup may be 0 if its line
  /// leads to lr.
  uint64_t warmup_steps;
  /// The total number of steps, including a warmup.
  uint64_t total_steps;
  /// The number of last steps in which WARMUP_STABLE_DECAY decays.
  uint64_t decay_steps;
  /// The number of steps from one change, or one turn, to the next.
  uint64_t period;
  /// The factor from one period to the next.
  uint64_t period_factor;
  /// The number of steps in which a cycle rises.
  uint64_t steps_up;
  /// The number of steps in which a cycle falls.
  uint64_t steps_down;
  /// `[n_boundaries]` Indices, > 0 and increasing.
  const uint64_t *boundaries;
  /// The number of entries of `boundaries`.
  size_t n_boundaries;
  /// `[n_values]` Learning rates.
  const double *values;
  /// The number of entries of `values`.
  size_t n_values;
  /// `[n_schedules]` Inner schedules, at most 8 deep. None may be REDUCE_ON_PLATEAU.
  const struct adamw_schedule *const *schedules;
  /// The number of entries of `schedules`.
  size_t n_schedules;
  /// The function of LAMBDA, MULTIPLICATIVE and FUNCTION.
  adamw_schedule_function function;
  /// Passed to `function`.
  void *user_data;
  /// The number of metrics without an improvement that are tolerated before a reduction.
  uint32_t patience;
  /// The number of metrics that are ignored after a reduction.
  uint32_t cooldown;
  /// How CYCLIC scales its amplitude from cycle to cycle.
  adamw_cyclic_mode cyclic_mode;
  /// 1: POLYNOMIAL starts again.
  uint32_t cycle;
  /// 1: the phases of ONE_CYCLE are lines.
  uint32_t linear_anneal;
  /// 1: ONE_CYCLE has three phases.
  uint32_t three_phase;
  /// 1: a larger metric is better.
  uint32_t maximize_metric;
  /// 1: `threshold` is a difference, not a fraction.
  uint32_t threshold_is_absolute;
} adamw_schedule;

/// Sets a schedule that gives the learning rate from now on. Where its `lr` is 0, it uses that of
/// the handle (`config.lr`, or the last `adamw_set_lr`). NULL removes the schedule, and the
/// learning rate stays at its last value.
///
/// With a schedule, `adamw_get_lr` returns its learning rate for the next step, and `adamw_set_lr`
/// is `ADAMW_STATUS_LR_CONFLICT`; so is this call, if the learning rate comes from `config.lr_ptr`.
/// The function of a schedule is called for index 0 now, and in each step for the index after it,
/// before the step writes anything.
///
/// The caller ensures:
/// `schedule` is NULL or readable, with what it points to. Its function may be called with its
/// user_data until another schedule is set or the handle is destroyed.
adamw_status adamw_set_lr_schedule(adamw_optimizer *optimizer,
                                   const struct adamw_schedule *schedule);

/// Advances a schedule that was set with `ADAMW_ADVANCE_MANUALLY` by one, after an epoch for
/// example.
adamw_status adamw_schedule_advance(adamw_optimizer *optimizer);

/// Advances REDUCE_ON_PLATEAU with the metric (finite) of the time since the last call.
adamw_status adamw_schedule_advance_with_metric(adamw_optimizer *optimizer, double metric);

/// The state of a schedule: all that has to be saved in addition to the values that it was set
/// with.
typedef struct adamw_schedule_state {
  /// `sizeof(adamw_schedule_state)`.
  size_t struct_size;
  /// The number of times that it has advanced.
  uint64_t index;
  /// The current learning rate.
  double lr;
  /// REDUCE_ON_PLATEAU: the best metric, or NaN before the first.
  double best;
  /// REDUCE_ON_PLATEAU: the number of metrics since the best.
  uint32_t num_bad;
  /// REDUCE_ON_PLATEAU: the number of metrics that are still to be ignored.
  uint32_t cooldown;
} adamw_schedule_state;

/// Writes the state of the handle's schedule to `out_state`. `struct_size` is the caller's
/// `sizeof(adamw_schedule_state)`.
///
/// The caller ensures:
/// `out_state` is NULL, or writable for `struct_size` bytes.
adamw_status adamw_get_schedule_state(const adamw_optimizer *optimizer,
                                      struct adamw_schedule_state *out_state,
                                      size_t struct_size);

/// Sets the state of the handle's schedule to that of another schedule with the same values. It
/// then continues with the same bits.
///
/// The caller ensures:
/// `state` is NULL or readable.
adamw_status adamw_set_schedule_state(adamw_optimizer *optimizer,
                                      const struct adamw_schedule_state *state);

/// Sets the handle's schedule to its state after `index` advances from its start, with the same
/// bits, for a run that continues under another schedule. For COSINE_ANNEALING and MULTIPLICATIVE
/// this computes every learning rate up to there, so that `index` is at most 2^24. Not for
/// REDUCE_ON_PLATEAU, whose state does not follow from the index.
adamw_status adamw_set_schedule_index(adamw_optimizer *optimizer, uint64_t index);

/// Writes the first `n` learning rates of a schedule to `out_lrs` `[n]`. It needs no optimizer: use
/// it for a plot, or in a host that sets the learning rate itself. REDUCE_ON_PLATEAU has those of
/// its warmup only.
///
/// The caller ensures:
/// `schedule` is NULL or readable, with what it points to. `out_lrs` is NULL, or writable for `n`
/// numbers.
adamw_status adamw_schedule_trace(const struct adamw_schedule *schedule, double *out_lrs, size_t n);

/* ---- Loss scale ------------------------------------------------------------------------------ */

/// Sets the factor by which the gradients are too large because the loss was scaled. Each step
/// multiplies them by 1 / scale, together with the clip factor. The scale is 2^-126 to 2^126, so
/// that f32 can represent it and its inverse; the initial value is 1. With a loss scaler, which
/// sets the scale itself, this is `ADAMW_STATUS_INVALID_ARGUMENT`.
adamw_status adamw_set_grad_scale(adamw_optimizer *optimizer, double scale);

/// Writes the scale of the next gradients to `out_scale`: the factor by which the host multiplies
/// its loss.
///
/// The caller ensures:
/// `out_scale` is NULL or writable.
adamw_status adamw_get_grad_scale(const adamw_optimizer *optimizer, double *out_scale);

/// A loss scale that adapts: it grows after a number of steps that were taken in a row, and shrinks
/// when gradients are not finite. Whatever the factors are, it stays between 1 (or the first scale,
/// if that is smaller) and 2^126. 0 in any field means its default, which is given in brackets.
typedef struct adamw_loss_scaler {
  /// `sizeof(adamw_loss_scaler)`.
  size_t struct_size;
  /// `[65536]` The first scale; 2^-126 to 2^126.
  double scale;
  /// `[2]` The factor by which the scale grows; finite, >= 1.
  double growth_factor;
  /// `[0.5]` The factor by which the scale shrinks; > 0, <= 1.
  double backoff_factor;
  /// `[2000]` The number of steps taken in a row after which the scale grows.
  uint64_t growth_interval;
  /// `[1]` The number of steps skipped in a row after which the scale shrinks.
  uint64_t backoff_interval;
} adamw_loss_scaler;

/// Sets a loss scaler: a step whose gradients are not finite is skipped, whatever
/// `config.nonfinite` is, and the scale changes after steps as `scaler` defines. The host must call
/// `adamw_get_grad_scale` before each backward pass. NULL removes the loss scaler, and the scale
/// stays at its last value.
///
/// The caller ensures:
/// `scaler` is NULL or readable.
adamw_status adamw_set_loss_scaler(adamw_optimizer *optimizer,
                                   const struct adamw_loss_scaler *scaler);

/// The state of a loss scaler.
typedef struct adamw_loss_scaler_state {
  /// `sizeof(adamw_loss_scaler_state)`.
  size_t struct_size;
  /// The scale of the next step; 2^-126 to 2^126.
  double scale;
  /// The number of steps taken in a row since the scale last changed. If it is at least the
  /// growth_interval, the next step taken changes the scale.
  uint64_t good_steps;
  /// The number of steps skipped in a row since the scale last changed. If it is at least the
  /// backoff_interval, the next step skipped changes the scale.
  uint64_t bad_steps;
} adamw_loss_scaler_state;

/// Writes the state of the loss scaler to `out_state`, to be saved. `struct_size` is the caller's
/// `sizeof(adamw_loss_scaler_state)`. `ADAMW_STATUS_NOT_FOUND` if there is no loss scaler.
///
/// The caller ensures:
/// `out_state` is NULL, or writable for `struct_size` bytes.
adamw_status adamw_get_loss_scaler_state(const adamw_optimizer *optimizer,
                                         struct adamw_loss_scaler_state *out_state,
                                         size_t struct_size);

/// Sets the state of the loss scaler to a saved one. `ADAMW_STATUS_NOT_FOUND` if there is no loss
/// scaler.
///
/// The caller ensures:
/// `state` is NULL or readable.
adamw_status adamw_set_loss_scaler_state(adamw_optimizer *optimizer,
                                         const struct adamw_loss_scaler_state *state);

/// Sets flags in the host's memory that are shared with other optimizers, processes or devices.
/// `found_inf` is the address of one f32 that each step reads: if it is not 0, a gradient elsewhere
/// is not finite, and the step is skipped. `out_found_inf` is the address of one f32 that each
/// successful step writes: 1 if it found such a gradient in this handle or `found_inf` was not 0,
/// and 0 otherwise.
///
/// Either may be NULL, and both may be the same address. Both must stay valid as long as the
/// handle, or until others are set.
///
/// The caller ensures:
/// The pointers are NULL, or readable (`out_found_inf`: writable) for that time.
adamw_status adamw_set_found_inf(adamw_optimizer *optimizer,
                                 const float *found_inf,
                                 float *out_found_inf);

/* ---- Sparse gradients ------------------------------------------------------------------------ */

/// Sets a sparse gradient of a parameter `[height, ...]`, such as an embedding table. `rows [n]`
/// has row numbers, int32 or int64 (DLPack type code 0), in any order; `values [n, ...]` has one
/// row of the parameter for each, in the parameter's type or f32. A row is as wide as the shape of
/// the parameter says; that of a plain array, or of one dimension, as the values say. The values of
/// a row that is listed more than once are added up, in the compute type and in the order of the
/// list. The group's `lazy_mode` defines what happens to rows that are not listed.
///
/// Both tensors still belong to the host. Every step reads them until they are replaced or
/// forgotten, like those of `adamw_set_grad`. The step checks the row numbers: a number that is
/// negative or not below height fails it with `ADAMW_STATUS_INVALID_ARGUMENT`, and nothing changes.
/// With n = 0 the parameter is skipped, as if it had no gradient.
///
/// For a parameter on a device, both tensors are on that device, and this call allocates the memory
/// that a step needs there: the first time, a dense gradient in f32 (f64 for f64); whenever more
/// rows are listed than before, 17 bytes per row; and under `ADAMW_LAZY_EXACT`, 160 KiB and 8 bytes
/// per row of the parameter. The step sorts and adds up on the device and does not wait. So a graph
/// that has captured it reads the list anew each time; a graph that was captured before a longer
/// list is set continues with its own list.
///
/// A step that waits for the device anyway (see the introduction of the section about CUDA) fails
/// as above. Any other step leaves out a row that does not exist, with its values, and steps the
/// rest. The next `adamw_get_step_info`, or the next step that waits, then fails once with
/// `ADAMW_STATUS_INVALID_ARGUMENT`, and the text names the first such parameter, the place in its
/// list and the row.
///
/// `ADAMW_STATUS_UNSUPPORTED` for a parameter on a device with 2^32 rows or a list of that length,
/// and inside a capture for a list for which no memory has been allocated yet.
///
/// The caller ensures:
/// The tensors are NULL or readable. Their memory meets the conventions of the header.
adamw_status adamw_set_sparse_grad(adamw_optimizer *optimizer,
                                   uint32_t param,
                                   const struct adamw_tensor *rows,
                                   const struct adamw_tensor *values);

/// Brings the listed rows of a parameter up to date, before the host reads them. Under
/// `ADAMW_LAZY_EXACT`, a row that no gradient has listed for k steps takes these k steps now. A
/// parameter that has had no sparse gradient under that mode is left as it is. `rows` is a tensor
/// as in `adamw_set_sparse_grad`, and is read during the call only.
///
/// For a parameter on a device, the rows are on that device and are brought up to date there, in
/// the order of its stream. The row numbers are read when the stream reaches the call, and numbers
/// that are out of range are ignored. A graph that has captured the call does this whenever it is
/// launched.
///
/// The caller ensures:
/// The requirements of `adamw_set_sparse_grad` hold.
adamw_status adamw_sparse_prepare(adamw_optimizer *optimizer,
                                  uint32_t param,
                                  const struct adamw_tensor *rows);

/// Brings every row of every parameter up to date. Call it before the host evaluates, copies or
/// writes parameters or state. Saving does so itself.
adamw_status adamw_sparse_flush(adamw_optimizer *optimizer);

/* ---- State ----------------------------------------------------------------------------------- */

/// The scheme of the names of state.
typedef uint32_t adamw_names;
/// `state.<param>.exp_avg`, `.exp_avg_sq`, `.max_exp_avg_sq`, `.master`, `.remainder`,
/// `.exp_avg_scale`, `.exp_avg_sq_scale`, `.max_exp_avg_sq_scale`, `.step`, `.beta1_power`,
/// `.beta2_power`.
#define ADAMW_NAMES_NEUTRAL 0
/// Paddle's names: `<param>_moment1_0`, `_moment2_0`, `_moment2_max_0`, `_fp32_master_0`,
/// `_beta1_pow_acc_0`, `_beta2_pow_acc_0`. For a parameter that has a master,
/// `<param>_fp32_master_0` takes the place of `<param>` in the names of its other state. The powers
/// are one step ahead, as in Paddle.
#define ADAMW_NAMES_PADDLE 1

/// The location of a part of a parameter's state.
typedef struct adamw_state_info {
  /// `sizeof(adamw_state_info)`.
  size_t struct_size;
  /// The address of the first element, which the host may read and write between calls. It is an
  /// address on the device if the parameter is stepped there. It stays the same until the
  /// parameter is removed or the buffer is moved. NULL for a counter.
  void *data;
  /// The number of elements; 1 for a counter.
  uint64_t n_elements;
  /// The number of the parameter.
  uint32_t param;
  /// The part of the state.
  adamw_buffer buffer;
  /// The element type.
  adamw_dtype dtype;
  /// 1: the memory belongs to the host. 0: it belongs to the library.
  uint32_t is_hosts;
} adamw_state_info;

/// Writes the location of a part of a parameter's state to `out_info`, without a copy. The state is
/// up to date when this returns. `struct_size` is the caller's `sizeof(adamw_state_info)`.
/// `ADAMW_STATUS_NOT_FOUND` if the parameter has no such part.
///
/// A host that writes the master must write the parameter too, because otherwise the next step
/// does.
///
/// The caller ensures:
/// `out_info` is NULL, or writable for `struct_size` bytes.
adamw_status adamw_get_state_info(adamw_optimizer *optimizer,
                                  uint32_t param,
                                  adamw_buffer buffer,
                                  struct adamw_state_info *out_info,
                                  size_t struct_size);

/// Writes the name of a part of a parameter's state to `out_name` `[capacity]`, NUL-terminated, and
/// its length without the NUL to `out_length`. With a `capacity` of 0, `out_name` may be NULL, and
/// only the length is written. `ADAMW_STATUS_NOT_FOUND` if the scheme has no name for the part:
/// Paddle's has none for `ADAMW_BUFFER_STEP`, remainders and scales.
///
/// The caller ensures:
/// `out_name` is NULL or writable for `capacity` bytes; `out_length` is NULL or writable.
adamw_status adamw_get_state_name(const adamw_optimizer *optimizer,
                                  uint32_t param,
                                  adamw_buffer buffer,
                                  adamw_names names,
                                  char *out_name,
                                  size_t capacity,
                                  size_t *out_length);

/// Writes the parameter and the part of its state that have this name, in either scheme, to
/// `out_param` and `out_buffer`.
///
/// The caller ensures:
/// `name` is NULL or NUL-terminated; the outputs are NULL or writable.
adamw_status adamw_find_state(const adamw_optimizer *optimizer,
                              const char *name,
                              uint32_t *out_param,
                              adamw_buffer *out_buffer);

/// Copies the part of the state that has this name, in either scheme, to `out_data [n_elements]`.
/// The number and the type of the elements must be those of the state; a counter is one f64.
///
/// The caller ensures:
/// `name` is NULL or NUL-terminated; `out_data` is NULL or writable for `n_elements`.
adamw_status adamw_get_state(adamw_optimizer *optimizer,
                             const char *name,
                             void *out_data,
                             uint64_t n_elements,
                             adamw_dtype dtype);

/// Copies `data [n_elements]` to the part of the state that has this name, in either scheme. The
/// number and the type of the elements must be those of the state; a counter is one f64. Setting
/// the step also sets the powers to those of the group's betas (their current values, where the
/// host keeps them), so set the powers after it.
/// Negative means of squares are refused. (They are not looked for in memory of the host's, nor in
/// checkpoints, which give back whatever was saved.)
///
/// The caller ensures:
/// `name` is NULL or NUL-terminated; `data` is NULL or readable for `n_elements`.
adamw_status adamw_set_state(adamw_optimizer *optimizer,
                             const char *name,
                             const void *data,
                             uint64_t n_elements,
                             adamw_dtype dtype);

/// Copies the step counts of `num_params` parameters to `out_steps`, that of `params[i]`, or of
/// parameter i if `params` is NULL, to `out_steps[i]`.
///
/// The caller ensures:
/// `params` is NULL or readable, `out_steps` NULL or writable, for `num_params` entries.
adamw_status adamw_get_steps(adamw_optimizer *optimizer,
                             const uint32_t *params,
                             uint64_t *out_steps,
                             size_t num_params);

/// Sets the step counts of `num_params` parameters: that of `params[i]`, or of parameter i if
/// `params` is NULL, to `steps[i]`, 0 to 2^32. It also sets their powers of beta1 and beta2 to
/// those of their groups' betas. On an error, none is set.
///
/// The caller ensures:
/// The arrays are NULL, or readable for `num_params` entries.
adamw_status adamw_set_steps(adamw_optimizer *optimizer,
                             const uint32_t *params,
                             const uint64_t *steps,
                             size_t num_params);

/* ---- Checkpoints ----------------------------------------------------------------------------- */

/// Takes the next `num_bytes` bytes of a checkpoint and returns 0. Any other return value fails the
/// call with `ADAMW_STATUS_CALLBACK`.
typedef int32_t (*adamw_write)(const void *data, size_t num_bytes, void *user_data);

/// Called with the number of bytes done and the total, about once per MiB; returns 0. Any other
/// return value ends the call with `ADAMW_STATUS_CALLBACK`, and nothing changes. A load calls it
/// less often for long tensors: once per 32 MiB while it checks one, once when it has copied one.
/// Once it has copied one, it goes on to its end whatever is returned.
typedef int32_t (*adamw_progress)(uint64_t done, uint64_t total, void *user_data);

/// The arguments of `adamw_save_to`. Zero it, then set `struct_size` and one of `path`, `data`,
/// `write` and `size_only`; the other fields may stay 0.
typedef struct adamw_save_args {
  /// `sizeof(adamw_save_args)`.
  size_t struct_size;
  /// The file to write, as `adamw_save` does.
  const char *path;
  /// The memory to write to, `[capacity]` bytes.
  void *data;
  /// The number of bytes that `data` has room for.
  size_t capacity;
  /// Called with the bytes of the checkpoint, one piece after another. The tensors are read
  /// twice, because their checksums come first.
  adamw_write write;
  /// Passed to `write`.
  void *write_data;
  /// `[NULL]` Called while the save proceeds.
  adamw_progress progress;
  /// Passed to `progress`.
  void *progress_data;
  /// `[0]` 1: the parameters themselves are saved too.
  uint32_t params;
  /// `[0]` 1: nothing is saved, and only the number of bytes is computed. `path`, `data` and
  /// `write` must be NULL.
  uint32_t size_only;
  /// `[NULL]` Receives 1 after a save to a file if the file and its name survive a power failure,
  /// and 0 if the file system has no way to ensure that: it does not support fsync, or fsync of a
  /// directory, or the directory can be written but not read. The file is there and complete in
  /// either case. Receives 0 after any other save. Not written if the call fails.
  uint32_t *out_durable;
} adamw_save_args;

/// Saves the state of all parameters to a file, with all that a run needs to continue with the same
/// bits: step counts and beta powers, hyper-parameters, groups, the learning rate, the schedule,
/// the loss scaler, the seed. The parameters themselves are not saved (`adamw_save_to` can save
/// them), nor are the host's functions and pointers. If `lr_ptr` holds a learning rate that no step
/// would take, the last one that a call has read for a step is saved.
///
/// At any time the path names the complete new file, or what it named before: the library writes a
/// new file in the same directory, makes it durable, renames it, and then makes the directory
/// durable. A symbolic link stays, and its target is replaced. A file that did not exist gets mode
/// 0666 less the umask. A file that replaces another gets the other's mode (nine bits of it), owner
/// and group, as far as the process may set them and the file system has them. If the group cannot
/// be set, its members get no more permissions than everybody.
///
/// `ADAMW_STATUS_IO` if the system fails: the old file is still there (if only the fsync of the
/// directory has failed, the new one is), and no other file is left. A file system that does not
/// support fsync, or fsync of a directory, is not a failure; `out_durable` of `adamw_save_to`
/// reports it. A process that is killed may leave `.adamw-000.tmp` in the directory, which the next
/// save there removes.
///
/// Deferred rows (ADAMW_LAZY_EXACT) are brought up to date first. Accumulated gradients are not
/// part of the state: `ADAMW_STATUS_INVALID_ARGUMENT` while there are any, and while some
/// parameters have been stepped alone (`adamw_step_param`) and others still have a gradient.
///
/// The caller ensures:
/// `path` is NULL or NUL-terminated.
adamw_status adamw_save(adamw_optimizer *optimizer, const char *path);

/// Saves what `adamw_save` saves to a file, to memory or through a function, and writes the size in
/// bytes to `out_num_bytes`, which may be NULL. All three give the same bytes. With
/// `args.size_only`, nothing is saved, and only the size is written.
/// `ADAMW_STATUS_INVALID_ARGUMENT` if `args` names none of the targets, for example because a path
/// was not set, or more than one.
///
/// The caller ensures:
/// `args` is NULL, or readable with all that it points to (`data` and `out_durable`: writable). Its
/// functions may be called. `out_num_bytes` is NULL or writable.
adamw_status adamw_save_to(adamw_optimizer *optimizer,
                           const struct adamw_save_args *args,
                           uint64_t *out_num_bytes);

/// Begins to save what `adamw_save_to` saves, and returns while it is being written. It takes a
/// snapshot, which takes as long as a copy of what is saved; a thread of the handle writes from
/// that. Steps and all other calls go on meanwhile. The file has the bytes that `adamw_save_to`
/// would have given in place of this call, whatever happens after it, and is whole or not there as
/// with `adamw_save`.
///
/// `args` names a `path` or a `write` function. The path is opened here, so that most mistakes are
/// an error of this call. `write` and `progress` are called on the handle's thread, with all
/// signals blocked and in the default floating-point environment, and their `user_data` must live
/// until the save is over: until `adamw_save_wait`, `adamw_destroy` or another call that waits for
/// it has returned. A progress function that does not return 0 ends the save. In these functions,
/// calls that wait for the save are `ADAMW_STATUS_BUSY`.
///
/// One save is written at a time: this call waits for the one that was begun before, and so do
/// `adamw_save`, `adamw_save_to`, the loads and `adamw_destroy`. If that save has failed and
/// neither `adamw_save_wait` nor `adamw_save_poll` has told, its error is returned here, the text
/// says so, and nothing is begun: call again.
///
/// The snapshot takes as much memory as the file, and is kept for the next one until
/// `adamw_destroy`, because memory that was used before takes copies faster.
/// `ADAMW_STATUS_OUT_OF_MEMORY` if there is not enough of it: nothing has changed, and `adamw_save`
/// needs none. State on a device is copied down on the stream, which is waited for.
///
/// A forked child does not have the thread: its parent goes on writing. In the child
/// `adamw_save_wait` and `adamw_save_poll` are `ADAMW_STATUS_NOT_FOUND`, and every other call does
/// what it does if nothing was begun.
///
/// The caller ensures:
/// `args` is NULL, or readable with all that it points to. Its functions may be called on another
/// thread until the save is over.
adamw_status adamw_save_begin(adamw_optimizer *optimizer, const struct adamw_save_args *args);

/// Tells how far the save that was begun last has come, without waiting: writes 1 to `out_running`
/// while it is being written and 0 when it has ended, and the number of bytes of tensors that are
/// done and their total (twice what is saved, where a function takes it) to `out_done` and
/// `out_total`. Any of them may be NULL. If it has failed, its error is returned, as
/// `adamw_save_wait` would. If none was begun, all three are 0.
///
/// The caller ensures:
/// The outputs are NULL or writable.
adamw_status adamw_save_poll(adamw_optimizer *optimizer,
                             uint32_t *out_running,
                             uint64_t *out_done,
                             uint64_t *out_total);

/// Waits until the save that was begun last has been written, and returns its result. Writes the
/// size of the checkpoint in bytes to `out_num_bytes`, and to `out_durable` what
/// `adamw_save_args.out_durable` receives; both may be NULL. It may be called again, and returns
/// the same until the next save is begun. If none was begun, it returns at once, and writes 0.
///
/// The caller ensures:
/// The outputs are NULL or writable.
adamw_status adamw_save_wait(adamw_optimizer *optimizer,
                             uint64_t *out_num_bytes,
                             uint32_t *out_durable);

/// Gives the name of a parameter in the checkpoint: writes a NUL-terminated name to `out_name`,
/// which holds the parameter's own name on entry, and returns 0. Any other return value fails the
/// call with `ADAMW_STATUS_CALLBACK`, and an empty name fails it with
/// `ADAMW_STATUS_INVALID_ARGUMENT`. It is called once for each parameter, before anything changes.
/// The name must live until the next call.
typedef int32_t (*adamw_rename)(const char *name, const char **out_name, void *user_data);

/// Copies the `num_bytes` bytes of a checkpoint that start at `offset` to `out_data` and returns 0.
/// Any other return value fails the call with `ADAMW_STATUS_CALLBACK`. The same bytes are asked for
/// more than once.
typedef int32_t (*adamw_read)(uint64_t offset, void *out_data, size_t num_bytes, void *user_data);

/// The location of a checkpoint. Zero it, then set `struct_size` and one of `path`, `data` and
/// `read`.
typedef struct adamw_source {
  /// `sizeof(adamw_source)`.
  size_t struct_size;
  /// The file to read.
  const char *path;
  /// The memory to read, `[num_bytes]` bytes.
  const void *data;
  /// The number of bytes of a checkpoint that is in memory or that `read` gives.
  uint64_t num_bytes;
  /// Called for bytes at any offset.
  adamw_read read;
  /// Passed to `read`.
  void *read_data;
} adamw_source;

/// Which parameters the handle and the checkpoint must have in common.
typedef uint32_t adamw_load_scope;
/// The handle and the checkpoint must have the same parameters.
#define ADAMW_LOAD_ALL 0
/// The checkpoint must have all parameters of the handle. Its other parameters are ignored.
#define ADAMW_LOAD_SUBSET 1
/// No parameter is required: the state of those that both have is loaded, and nothing else. The
/// settings of the handle may differ, and its learning rate, schedule and loss scale stay.
#define ADAMW_LOAD_SHARED 2

/// The options of a load. Zero it and set `struct_size`; the other fields may stay 0.
typedef struct adamw_load_options {
  /// `sizeof(adamw_load_options)`.
  size_t struct_size;
  /// `[NULL]` Gives the name of each parameter in the checkpoint.
  adamw_rename rename;
  /// Passed to `rename`.
  void *rename_data;
  /// `[NULL]` Called while the load proceeds. Its return value is ignored once the state is being
  /// written.
  adamw_progress progress;
  /// Passed to `progress`.
  void *progress_data;
  /// `[ADAMW_LOAD_ALL]` Which parameters the handle and the checkpoint must have in common.
  adamw_load_scope scope;
  /// `[0]` 1: the parameters themselves are loaded too, into the host's memory.
  uint32_t params;
  /// `[0]` 1: where the checkpoint has f32, f64, f16 or bf16 and the handle has another of these
  /// types, elements are converted, exactly if the new type can represent them and otherwise by
  /// rounding to nearest (from f64 to 16 bits by way of f32). Where it has moments of these types
  /// and the handle codes, codes are made, the nearest, out of whole blocks. Where it has an f32
  /// master and no remainder, and the handle a master that is split, the master is split, and
  /// writes the parameter too, whatever `params` is. 0: such a difference is an error.
  uint32_t convert;
  /// `[0]` 1: the schedule and the learning rate of the handle stay, and may differ from the
  /// saved ones. The schedule continues at the saved index as if the run had used it from the
  /// start (for example with a longer `total_steps`). A REDUCE_ON_PLATEAU schedule keeps its
  /// state, and so does any schedule if the checkpoint has none. 0: the learning rate of the
  /// checkpoint is used, and the schedule must be the saved one.
  uint32_t keep_schedule;
  /// `[0]` 1: the handle may have `amsgrad` or `multi_precision` although the saved one had not,
  /// and so may a group have `amsgrad`. `max_exp_avg_sq` then starts as `exp_avg_sq`, so that it
  /// is the maximum since the last saved step: earlier values are not known. The master is the
  /// exactly widened parameter, as it is at the next step or save. 0: such a difference is an
  /// error. An option that was on cannot be turned off.
  uint32_t extend;
  /// 0.
  uint32_t reserved;
} adamw_load_options;

/// Loads a file that `adamw_save` has written into a handle with the same parameters and settings.
/// The run continues with the same bits, whatever instruction set and threads the handle uses.
/// `options` may be NULL.
///
/// The host loads the parameters themselves, unless they were saved and `options` requests them.
/// Deferred rows (ADAMW_LAZY_EXACT) are brought up to date first, which writes parameters. So load
/// the parameters after this call, or call `adamw_sparse_flush` before you load them. For a
/// parameter that is loaded, accumulated gradients and measurements (`adamw_grad_ready`) are
/// discarded; gradients that are set stay.
///
/// The groups, parameters, schedule and loss scaler of the saved handle must exist in this one
/// before the load, which adds none. It loads values: the state and step count of each parameter,
/// the state of the schedule and of the loss scaler, and the learning rate. The saved learning rate
/// replaces that of `adamw_config.lr`, of `adamw_set_lr` and of the start of the schedule, but not
/// that of `lr_ptr`, which belongs to the host. With ADAMW_LOAD_SHARED or `keep_schedule`, the
/// learning rate of the handle stays. Do not call `adamw_sync_master` after a load, because masters
/// and remainders are loaded.
///
/// Everything is checked before anything changes: `ADAMW_STATUS_CORRUPT` if the file is damaged or
/// not a checkpoint of this library; `ADAMW_STATUS_MISMATCH` if it does not match this handle, with
/// a list of the differences, both values, and what can be done; `ADAMW_STATUS_UNSUPPORTED` if its
/// format is newer. Only if the file fails or changes between the check and the copy does the
/// handle become `ADAMW_STATUS_POISONED`: it can then be loaded again or destroyed.
///
/// The caller ensures:
/// `path` is NULL or NUL-terminated. `options` is NULL or readable, and its functions may be
/// called.
adamw_status adamw_load(adamw_optimizer *optimizer,
                        const char *path,
                        const struct adamw_load_options *options);

/// Loads one checkpoint from several sources, `[num_sources]`, such as the files of all ranks. Each
/// parameter of the handle takes its elements from the sources that have them, so that a checkpoint
/// saved on any number of ranks can be loaded on any other number. (A parameter that is a shard
/// says so by `first_element` and `whole_elements`. Moments in codes can be divided only at the end
/// of a block of 256 elements, or of 128 for 4 bits.)
///
/// The library opens at most half as many files at once as the process may have open
/// (RLIMIT_NOFILE), and fewer if the host has more open. It closes and reopens the others, which
/// must then still be the same files.
///
/// The caller ensures:
/// The pointers in `sources` are NULL, or readable with all that they point to. `options` is as for
/// `adamw_load`.
adamw_status adamw_load_from(adamw_optimizer *optimizer,
                             const struct adamw_source *const *sources,
                             size_t num_sources,
                             const struct adamw_load_options *options);

/// An entry of a checkpoint, which is a text or a tensor. Valid during the callback.
typedef struct adamw_entry {
  /// `sizeof(adamw_entry)`.
  size_t struct_size;
  /// The name of the entry, NUL-terminated.
  const char *name;
  /// The text, NUL-terminated. NULL: the entry is a tensor.
  const char *text;
  /// The element type of a tensor, as safetensors names it ("F32", "BF16", ...). NULL: the entry
  /// is a text.
  const char *dtype;
  /// The number of elements of a tensor.
  uint64_t n_elements;
  /// The offset in the file of the first byte of a tensor.
  uint64_t offset;
  /// The value, if it is one number of 64 bits, such as a counter; otherwise NaN.
  double value;
} adamw_entry;

/// Receives one entry of a checkpoint and returns 0. Any other return value ends the call with
/// `ADAMW_STATUS_CALLBACK`.
typedef int32_t (*adamw_visit)(const struct adamw_entry *entry, void *user_data);

/// Checks a checkpoint and calls `visit` for each of its entries: first the texts, then the
/// tensors, ordered by name. It needs no handle.
///
/// The caller ensures:
/// `source` is NULL, or readable with all that it points to. `visit` may be called with
/// `user_data`.
adamw_status adamw_inspect(const struct adamw_source *source, adamw_visit visit, void *user_data);

/* ---- CUDA ------------------------------------------------------------------------------------ */

// Tensors whose device_type is ADAMW_DEVICE_CUDA or ADAMW_DEVICE_CUDA_MANAGED are in the memory of
// that device, and their parameters are stepped there, with the same bits. One handle uses one
// device.
//
// Order. All work is queued on one stream, which adamw_set_stream sets, in the primary context of
// the device. The current context is the same after a call as before it. Device memory that a call
// reads is read when the stream reaches the call: free or overwrite it after that, or by work that
// is queued behind the call on the same stream.
//
// Waiting. adamw_step does not wait for the device, unless the host has to know what the device
// finds. It waits with ADAMW_NONFINITE_FAIL, with found_inf flags, with a norm or a finiteness
// check that includes parameters in the host's memory, and with ADAMW_NONFINITE_SKIP, a loss scaler
// or adamw_set_device_inputs together with a schedule, a callback or parameters in the host's
// memory. Otherwise a loss scaler adapts on the device. Calls that read state, step counts or the
// loss scale wait, and so do adamw_get_step_info, which reads statistics too, and
// adamw_get_offload_info. Once a captured step follows a schedule, plain steps wait, and so do
// calls that read or set where it is.
//
// Memory. An address that the driver does not know as memory of this device is refused by the call
// that gives it. Numbers that a handle reads through a pointer (lr_ptr, the flags of
// adamw_set_found_inf) are in the host's memory; adamw_set_device_inputs gives those in the
// device's memory.
//
// Failures. If the driver fails in the middle of a step, the call is ADAMW_STATUS_DEVICE, its text
// says so, and every later one with that handle is ADAMW_STATUS_POISONED. Do not use a handle
// that has parameters on a device in a forked child: CUDA does not work there.
//
// Captures. No call breaks a capture of another stream, whatever its mode and its thread. The
// library allocates, frees, copies and waits in CUDA's relaxed mode, and never waits for the whole
// context.

/// Addresses of scalars in device memory, one f32 each, that steps read. Kernels before the step
/// may write them, so that they may differ in each launch of a captured graph. NULL: the step uses
/// the scalar of the host.
///
/// The device checks the scalars in each step. A step that reads an invalid one is skipped, as with
/// `found_inf`: parameters, state and step counts do not change, and the gradients are cleared if
/// `clear_grads` is set. `skipped` and `invalid_inputs` of `adamw_step_info` are 1 then, and
/// `grad_norm` is NaN if the gradients were measured and `grad_scale` is invalid. A step for which
/// the host waits (see "Waiting" above) fails with `ADAMW_STATUS_INVALID_ARGUMENT` if `lr` is
/// invalid, and changes nothing.
typedef struct adamw_device_inputs {
  /// `sizeof(adamw_device_inputs)`.
  size_t struct_size;
  /// `[NULL]` The learning rate, in place of that of the handle, which `adamw_set_lr` and
  /// `adamw_get_lr` still refer to. It is valid if it is finite, >= 0, and small enough that a
  /// step of each parameter is finite in the type that the parameter computes in.
  const float *lr;
  /// `[NULL]` The scale of the gradients, in place of `adamw_set_grad_scale`. It is valid from
  /// 2^-126 to 2^126.
  const float *grad_scale;
  /// `[NULL]` If it is not 0, a gradient is not finite, and the step is skipped.
  const float *found_inf;
} adamw_device_inputs;

/// Sets the stream on which the work of parameters on the device is queued from now on: a
/// `CUstream` or `cudaStream_t`; NULL is the legacy default stream. `ADAMW_STATUS_NOT_FOUND` before
/// the first parameter on a device.
///
/// The stream belongs to the host and must exist during every call; the previous stream must still
/// exist during this one. The library does not order streams. The host must order, by events as for
/// its own kernels, what precedes a step on other streams and what reads the results of a step
/// there.
///
/// The caller ensures:
/// `stream` is NULL or a stream of the device's primary context.
adamw_status adamw_set_stream(adamw_optimizer *optimizer, void *stream);

/// Writes to `out_num_bytes` the bytes of page-locked memory that the handle has taken: for copies
/// of offloaded parameters and their gradients, and for the tables of steps on the device. See
/// `config.pinned_bytes`.
///
/// The caller ensures:
/// `out_num_bytes` is NULL or writable.
adamw_status adamw_get_pinned_bytes(const adamw_optimizer *optimizer, uint64_t *out_num_bytes);

/// Has steps take the times of the copies of offloaded parameters (1), for
/// `adamw_get_offload_info`, or not (0, as it is at first). Two marks on a stream for each copy are
/// what it costs: a step with them waits for nothing else, and has the same bits.
///
/// `ADAMW_STATUS_NOT_FOUND` before the first parameter on a device.
adamw_status adamw_set_offload_timing(adamw_optimizer *optimizer, uint32_t timing);

/// What a step has copied for the parameters that the processor steps, and how long nothing was
/// stepped meanwhile.
typedef struct adamw_offload_info {
  /// `sizeof(adamw_offload_info)`.
  size_t struct_size;
  /// The bytes of gradients that have come down.
  uint64_t n_bytes_down;
  /// The bytes of parameters that have gone up.
  uint64_t n_bytes_up;
  /// The time that gradients took to come down, in seconds: the sum over the copies, each as its
  /// stream has timed it.
  double seconds_down;
  /// The time that parameters took to go up, in seconds, summed up in the same way. Some of it
  /// may be the same time.
  double seconds_up;
  /// The time that the processor worked, in seconds: from the arrival of the first part of a
  /// gradient until all was stepped, without its waits.
  double seconds_worked;
  /// The time that nothing was stepped because of copies, in seconds: the waits of the processor
  /// for them, once the gradients were complete on the device, and the time from the end of its
  /// work until the last part had gone up.
  double seconds_waited;
  /// The share of the copies that is hidden behind the processor's work and behind each other,
  /// from 0 to 1: 1 - `seconds_waited` / (`seconds_down` + `seconds_up`). 0 without copies.
  double hidden;
} adamw_offload_info;

/// Writes to `out_info` what the last step has copied for offloaded parameters, whichever call has
/// taken it. Waits until the last part has gone up. `struct_size` is the caller's
/// `sizeof(adamw_offload_info)`.
///
/// All is 0 if no step has been taken with `adamw_set_offload_timing`, or if the last one failed or
/// was skipped. What is copied outside of steps is left out: gradients for `adamw_grad_ready`, and
/// parameters that the host has written.
///
/// The caller ensures:
/// `out_info` is NULL, or writable for `struct_size` bytes.
adamw_status adamw_get_offload_info(const adamw_optimizer *optimizer,
                                    struct adamw_offload_info *out_info,
                                    size_t struct_size);

/// Makes steps of parameters on the device read these scalars from device memory. NULL: all of them
/// come from the host. `ADAMW_STATUS_NOT_FOUND` before the first parameter on a device.
/// `ADAMW_STATUS_INVALID_ARGUMENT` for an address that is not aligned to 4 bytes or is not memory
/// of the device.
///
/// The caller ensures:
/// `inputs` is NULL or readable. What it points to is memory of the device until it is replaced.
adamw_status adamw_set_device_inputs(adamw_optimizer *optimizer,
                                     const struct adamw_device_inputs *inputs);

/// Has the device write the scale of the next gradients, as `adamw_get_grad_scale` returns it, to
/// `out_scale`, one f32 in its memory: now, when the host changes the scale, and behind each step
/// on which the loss scaler adapts it. A backward pass that multiplies its loss by this number, and
/// a loss scaler that adapts on the device (see "Waiting" above), need no wait. A graph that has
/// captured a step goes on writing where it wrote then. NULL: it is written no more.
///
/// `ADAMW_STATUS_NOT_FOUND` before the first parameter on a device. `ADAMW_STATUS_INVALID_ARGUMENT`
/// for an address that is not aligned to 4 bytes or is not memory of the device.
///
/// The caller ensures:
/// `out_scale` is NULL, or memory of the device that is writable until another one is set, and as
/// long as work that writes it is queued up or captured.
adamw_status adamw_set_device_scale(adamw_optimizer *optimizer, float *out_scale);

/// Prepares the next step for a capture: uploads what it reads, and fills masters. After that, a
/// step of the same parameters with the same gradients consists of kernel launches alone, and can
/// be captured into a graph:
///
///     adamw_set_stream(optimizer, stream);       the stream that will be captured
///     adamw_set_device_inputs(optimizer, &at);   lr comes from there, or from a schedule
///     adamw_prepare(optimizer);                  before the capture begins
///     cudaStreamBeginCapture(stream, ...);
///     adamw_step(optimizer);                     recorded; each launch of the graph is a step
///     cudaStreamEndCapture(stream, &graph);
///
/// The device counts the steps that the graph takes; `adamw_get_param_info` and the state by name
/// read these counts. `adamw_get_step_info` reports the last launch, until the next plain step.
///
/// A captured step of a handle with a schedule follows it: each launch takes the learning rate of
/// its own step, and advances the schedule unless it is skipped. This call gives the device the
/// learning rates of the next 65,536 steps, from where the schedule is. A launch for which none is
/// left is skipped, as for an invalid device input, and the next `adamw_get_step_info` is once
/// `ADAMW_STATUS_INVALID_ARGUMENT` and says how many were: call `adamw_prepare` again in time.
/// Wherever the host puts the schedule, and whichever it sets in its place, the launches after that
/// follow; without one, they are skipped. A plain step waits for the device then, as do the calls
/// that read where the schedule is. The schedule advances with every step, has no function, is not
/// REDUCE_ON_PLATEAU, and is not combined with `lr` of `adamw_set_device_inputs`.
///
/// A graph continues as it was recorded, whatever else is set on the handle afterwards: every
/// launch is a step of the parameters of the captured step, with its gradients, options and device
/// inputs. Plain steps and other captures may follow in between; they use the current settings of
/// the handle and the same step counts.
///
/// Memory of the library that a graph uses stays where it is until `adamw_destroy`: state, step
/// counts, and what sparse gradients and statistics need, also for removed parameters; and for each
/// capture that was prepared anew, the tables of its step (about 0.5 KiB per parameter and 136
/// bytes per 16,384 elements). Memory of the host must stay where it was as long as the graph is
/// launched: parameters, their gradients and lists of rows, state that the host gave, and the
/// device inputs. `adamw_rebind` moves none of them in a graph.
///
/// With `config.clear_grads`, a launch writes zeros over every gradient on the device that was set,
/// including those of frozen parameters, whose memory must stay as well. A graph whose step used
/// accumulated gradients reads their sums in each launch. A launch does not end their window: call
/// `adamw_clear_grad` with `ADAMW_CLEAR_FORGET` before the next window begins. Nor does a
/// launch complete a step that `adamw_step_param` has begun: saving is refused as before.
///
/// A launch fills no master. The master of a parameter that a captured graph steps is filled by
/// `adamw_reset_param`, or by a load with `extend` that adds it, and not by the next step; call
/// `adamw_sync_master` if the host writes the parameter after that.
///
/// Destroy graphs before the handle, and let their launches finish. No graph may be launched after
/// `adamw_destroy`, which frees what it reads and may unload its kernels.
///
/// `ADAMW_STATUS_UNSUPPORTED` from a step inside a capture if `adamw_prepare` was not called before
/// it, or if the step cannot be replayed: if the learning rate is neither a device input nor of a
/// schedule that can be followed, if there is an lr_ratio callback, if parameters in the host's
/// memory are stepped, or if the host has to know about the gradients. It is
/// `ADAMW_STATUS_UNSUPPORTED`, too, to do to a parameter what a captured graph that steps it could
/// not follow: to set its first sparse gradient under `ADAMW_LAZY_EXACT`, or to leave that mode.
adamw_status adamw_prepare(adamw_optimizer *optimizer);

#ifdef __cplusplus
} /* extern "C" */
#endif

#endif /* ADAMW_H */
