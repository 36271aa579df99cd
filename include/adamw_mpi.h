// libadamw on MPI: each rank keeps and steps one part of the optimizer state of parameters that all
// ranks have whole (ZeRO-1). Header only, in C99 and C++11; the library itself knows no MPI.
//
//   adamw_create(&config, &optimizer);                        the same on every rank
//   adamw_mpi_init(&ranks, MPI_COMM_WORLD, optimizer, params, num_params, NULL);
//   loop: compute the gradients of this rank; adamw_mpi_step(&ranks)
//   adamw_mpi_save(&ranks, "checkpoints");                   adamw_mpi_load: on any number of ranks
//   adamw_mpi_free(&ranks); adamw_destroy(optimizer);
//
// All calls but adamw_mpi_set_grad are collective: every rank of the communicator makes them in the
// same order. Each returns 0 on all ranks or an error on all ranks, and ranks.error is its text. An
// error is an adamw_status, or ADAMW_MPI_STATUS_MPI, whose MPI code is ranks.mpi_error; then only
// adamw_mpi_free is of use. Nothing here aborts, prints, or starts a thread, and MPI is called on
// the calling thread alone (MPI_THREAD_FUNNELED).
//
// Where a process dies, launchers end the program by default. Under one that does not
// (`mpirun --with-ft ulfm` of Open MPI 5), a death, or MPI's error on one rank, is an error of MPI
// on all others, which then free, and exit without MPI_Finalize: it may wait for the dead.
//
// Gradients are added up, not averaged: scale the loss by 1 / the size of the whole batch. The sum
// begins at 0 and goes by the order of the ranks, in f32 (f64 for f64 parameters), so that it
// depends on what each rank gives and on nothing else. To get the same bits on any number of ranks,
// divide the batch into the same parts whatever their number, and give part `round * num_ranks +
// rank` by adamw_mpi_add_grads in each round; then step. A round moves as many bytes as a step.
//
// A step without such rounds measures and steps what has come while the rest is on its way, and any
// step sends what it has stepped while it steps the rest, as far as MPI moves bytes by itself.
//
// Parameters on a CUDA device are offloaded (see adamw_param_config), and MPI reads and writes them
// and their gradients there, which must be ready when a call is made. MPI must be CUDA-aware.
//
// It needs POSIX: compile as gnu99 or later, or with _POSIX_C_SOURCE=200809L.
#ifndef ADAMW_MPI_H
#define ADAMW_MPI_H

#include <adamw.h>

#include <mpi.h>
#if defined OPEN_MPI && OPEN_MPI
#include <mpi-ext.h>
#endif

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#if !defined _POSIX_C_SOURCE || _POSIX_C_SOURCE < 200809L
#error "adamw_mpi.h needs POSIX: compile as gnu99 or later, or with -D_POSIX_C_SOURCE=200809L"
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* ---- What programs use ----------------------------------------------------------------------- */

// MPI has failed. Beside the statuses of adamw.h, which go up to 99.
#define ADAMW_MPI_STATUS_MPI 1000

// A parameter, the same on all ranks. Zero it and set the first four fields.
typedef struct adamw_mpi_param {
  const char *name;       // as in adamw_param_config
  void *data;             // [n_elements], whole on every rank; the step writes it
  const void *grad;       // [n_elements], the gradient of this rank
  uint64_t n_elements;    // of the whole
  adamw_dtype dtype;      // of the parameter; 0: f32
  adamw_dtype grad_dtype; // that of the parameter, or f32; 0: that of the parameter
  uint32_t group;         // from adamw_add_group
  uint32_t no_clip;       // as in adamw_param_config
  double regularizer_coeff;
  adamw_regularizer regularizer;
  adamw_device device; // where `data` and `grad` are; 0: the host's memory
} adamw_mpi_param;

// How the gradients of ranks are added up.
typedef uint32_t adamw_mpi_sum;
// By the order of the ranks: each sends its pieces to the rank that steps them.
#define ADAMW_MPI_SUM_ORDERED 0
// By MPI_Ireduce, in the order that MPI chooses, which may depend on the number of ranks. It may be
// faster on many ranks, or where the network adds. Only for gradients in f32 and f64 in the host's
// memory, and rounds in which every rank has a part.
#define ADAMW_MPI_SUM_REDUCE 1

// Zero it, and set what is to be otherwise.
typedef struct adamw_mpi_options {
  adamw_mpi_sum sum;
  uint64_t align;        // as in adamw_shard_ranges
  uint64_t bucket_bytes; // received before they are added up, in 2 such buckets, by which a step
                         // then goes on; 0: 4 MiB, but 64 KiB of each rank at least, and a step
                         // goes on by 262,144 elements
} adamw_mpi_options;

// The ranks: memory of the caller, which must stay where it is from adamw_mpi_init to
// adamw_mpi_free, and whose fields are to be read only.
typedef struct adamw_mpi {
  char error[1024]; // the text of the last failure
  int mpi_error;    // of the last ADAMW_MPI_STATUS_MPI
  int rank, num_ranks;
  MPI_Comm comm; // a duplicate of the caller's
  adamw_optimizer *optimizer;
  adamw_mpi_param *params;
  size_t num_params;
  uint64_t *starts;      // [num_params + 1], of the parameters laid end to end
  uint64_t *bounds;      // [num_ranks + 1], of the ranks' parts of them
  uint64_t bucket;       // elements of a part that are exchanged at once
  size_t wire, sum_size; // bytes of an element: the largest of a gradient, and of a sum
  unsigned char *sums;   // of this rank's part
  unsigned char *received[2];
  MPI_Request *requests[4]; // of 2 buckets of gradients, and of 2 of parameters
  int num_requests[4];
  uint64_t grads_begun, grads_added; // buckets of the last round
  uint64_t params_begun;             // buckets that the step has begun to hand round
  int num_parts;                     // of the last round
  int is_stepping;
  int on_device, sum_any, is_broken;
  int has_sums;     // some round has been added up
  int reads_sums;   // the optimizer's gradients are `sums`, and not those of the one rank
  int checks_grads; // the optimizer has to be told where gradients are
  int is_half;      // this rank has taken a step that another has not
} adamw_mpi;

// Adds each rank's part of the parameters to the optimizer, which has none yet. Parameter i has the
// number i, and is as it is on rank 0 afterwards. Sets the optimizer's all_reduce, so that all
// ranks clip by the same norms, skip the same steps and fail together. `options` may be NULL. What
// `params` points to must stay until adamw_mpi_free. Needs no adamw_mpi_free if it fails.
static inline adamw_status adamw_mpi_init(adamw_mpi *ranks, MPI_Comm comm,
                                          adamw_optimizer *optimizer, const adamw_mpi_param *params,
                                          size_t num_params, const adamw_mpi_options *options);

// Says where the gradient of a parameter is from now on. It concerns this rank alone.
static inline adamw_status adamw_mpi_set_grad(adamw_mpi *ranks, size_t param, const void *grad);

// Adds the gradients of ranks 0 to num_parts - 1 to the sums of this step, and returns when the
// gradients may be overwritten. `num_parts` is the same on all ranks.
static inline adamw_status adamw_mpi_add_grads(adamw_mpi *ranks, int num_parts);

// Steps with the sums of the rounds since the last step, or without any with the gradients of all
// ranks, and hands the parameters round. If it fails, no rank has changed anything but the sums,
// which are used up. (A failure of a device, a full disk, or of MPI may come too late for that. If
// a device has failed in the middle, all later steps are ADAMW_STATUS_POISONED on all ranks.)
static inline adamw_status adamw_mpi_step(adamw_mpi *ranks);

// Saves the state and the parameters into a directory that all ranks see: a file of each rank, and
// the file `checkpoint` with their names, one a line, which is replaced when all are durable. So it
// names the whole old checkpoint or the whole new one at any time. Files that it does not name are
// removed afterwards. A program without MPI gives the files to adamw_load_from.
static inline adamw_status adamw_mpi_save(adamw_mpi *ranks, const char *directory);

// Loads what any number of ranks have saved: state, and parameters on all ranks. If it fails on a
// rank, load again, or free and destroy.
static inline adamw_status adamw_mpi_load(adamw_mpi *ranks, const char *directory);

// Frees what the ranks have here, before the optimizer is destroyed or after. The optimizer keeps
// its part of the parameters, and forgets their gradients. Also after an error of MPI all ranks
// that live are to call it.
static inline void adamw_mpi_free(adamw_mpi *ranks);

/* ---- How it is done -------------------------------------------------------------------------- */

enum {
  ADAMW_MPI_TAG_GRADS = 1,
  ADAMW_MPI_TAG_PARAMS = 2,
  ADAMW_MPI_LEAST_BUCKET = 256,
  ADAMW_MPI_MOST_BUCKET = 1 << 20, // elements, so that counts of bytes are an int
  ADAMW_MPI_PATH = 4096
};

static inline adamw_status adamw_mpi_fails(adamw_mpi *ranks, adamw_status status, const char *what,
                                           const char *why) {
  snprintf(ranks->error, sizeof ranks->error, "%s%s%s", what, *why ? ": " : "", why);
  return status;
}

// Whether MPI goes on where a process dies (ULFM). MPICH has the same calls, and aborts in them.
static inline int adamw_mpi_survives(void) {
  int is_set = 0, *survives = NULL;
#if defined OMPI_HAVE_MPI_EXT_FTMPI
  MPI_Comm_get_attr(MPI_COMM_WORLD, MPIX_FT, &survives, &is_set);
#endif
  return is_set && *survives;
}

// What MPI has returned from a call, as a status.
static inline adamw_status adamw_mpi_made(adamw_mpi *ranks, const char *call, int code) {
  char text[MPI_MAX_ERROR_STRING + 1] = "";
  int length = 0;
  if (code == MPI_SUCCESS)
    return ADAMW_STATUS_OK;
  MPI_Error_string(code, text, &length);
  ranks->mpi_error = code;
  ranks->is_broken = 1;
#if defined OMPI_HAVE_MPI_EXT_FTMPI
  // Others may wait for this rank, which goes no further.
  if (ranks->comm != MPI_COMM_NULL && adamw_mpi_survives())
    MPIX_Comm_revoke(ranks->comm);
#endif
  return adamw_mpi_fails(ranks, ADAMW_MPI_STATUS_MPI, call, text);
}

// What the library has returned from a call; its text becomes that of the ranks.
static inline adamw_status adamw_mpi_told(adamw_mpi *ranks, adamw_status status) {
  return status ? adamw_mpi_fails(ranks, status, adamw_last_error(), "") : status;
}

// Returns the same on all ranks: 0, or the status and the text of a rank that has another one. A
// mismatch counts last, because it may only say that another rank has failed.
static inline adamw_status adamw_mpi_agree(adamw_mpi *ranks, adamw_status status) {
  int n = ranks->num_ranks, mine = 2 * n, first = 0, said = (int)status;
  char text[sizeof ranks->error];
  adamw_status made;
  if (ranks->is_broken)
    return ADAMW_MPI_STATUS_MPI;
  if (status)
    mine = status == ADAMW_STATUS_MISMATCH ? n + ranks->rank : ranks->rank;
  made = adamw_mpi_made(ranks, "MPI_Allreduce",
                        MPI_Allreduce(&mine, &first, 1, MPI_INT, MPI_MIN, ranks->comm));
  if (made || first == 2 * n)
    return made;
  first %= n;
  memcpy(text, ranks->error, sizeof text);
  made = adamw_mpi_made(ranks, "MPI_Bcast", MPI_Bcast(&said, 1, MPI_INT, first, ranks->comm));
  if (!made)
    made = adamw_mpi_made(ranks, "MPI_Bcast",
                          MPI_Bcast(text, (int)sizeof text, MPI_CHAR, first, ranks->comm));
  if (made)
    return made;
  if (first == ranks->rank)
    return said;
  snprintf(ranks->error, sizeof ranks->error, "rank %d: %.990s", first, text);
  return said;
}

// The optimizer's callback: adds numbers up over the ranks.
static inline int32_t adamw_mpi_all_reduce(double *numbers, size_t count, void *user_data) {
  adamw_mpi *ranks = (adamw_mpi *)user_data;
  const size_t most = 1 << 20;
  for (size_t i = 0; i < count; i += most) {
    int n = (int)(count - i < most ? count - i : most);
    if (adamw_mpi_made(ranks, "MPI_Allreduce",
                       MPI_Allreduce(MPI_IN_PLACE, numbers + i, n, MPI_DOUBLE, MPI_SUM,
                                     ranks->comm)))
      return 1;
  }
  return 0;
}

static inline size_t adamw_mpi_size(adamw_dtype dtype) {
  return dtype == ADAMW_DTYPE_F64 ? 8 : dtype == ADAMW_DTYPE_F32 ? 4 : 2;
}

static inline adamw_dtype adamw_mpi_sum_dtype(const adamw_mpi_param *param) {
  return param->dtype == ADAMW_DTYPE_F64 ? ADAMW_DTYPE_F64 : ADAMW_DTYPE_F32;
}

static inline int adamw_mpi_has_cuda(void) {
  int has = 0;
#if defined MPIX_CUDA_AWARE_SUPPORT
  has = MPIX_Query_cuda_support();
#elif defined MPIX_GPU_SUPPORT_CUDA
  MPIX_GPU_query_support(MPIX_GPU_SUPPORT_CUDA, &has);
#endif
  return has;
}

static inline uint64_t adamw_mpi_hash(uint64_t hash, const void *data, size_t n) {
  const unsigned char *bytes = (const unsigned char *)data;
  for (size_t i = 0; i < n; i++)
    hash = (hash ^ bytes[i]) * 0x100000001B3u;
  return hash;
}

// A hash of what is to be the same on all ranks about a parameter.
static inline uint64_t adamw_mpi_hash_param(const adamw_mpi_param *param) {
  const uint64_t numbers[] = {param->n_elements, param->dtype,   param->grad_dtype,
                              param->group,      param->no_clip, param->regularizer};
  uint64_t hash = adamw_mpi_hash(0xCBF29CE484222325u, numbers, sizeof numbers);
  hash = adamw_mpi_hash(hash, &param->regularizer_coeff, sizeof param->regularizer_coeff);
  return adamw_mpi_hash(hash, param->name, strlen(param->name));
}

// Copies and checks what this rank has been given.
static inline adamw_status adamw_mpi_take(adamw_mpi *ranks, const adamw_mpi_param *params,
                                          const adamw_mpi_options *options) {
  const adamw_status refused = ADAMW_STATUS_INVALID_ARGUMENT;
  uint32_t num_old = 0;
  char what[256];
  adamw_status status = adamw_num_params(ranks->optimizer, &num_old);
  if (status)
    return adamw_mpi_told(ranks, status);
  if (num_old)
    return adamw_mpi_fails(ranks, refused, "the optimizer has parameters",
                           "expected none before adamw_mpi_init, which adds all");
  if (!params && ranks->num_params)
    return adamw_mpi_fails(ranks, refused, "params is NULL", "");
  if (options && options->sum > ADAMW_MPI_SUM_REDUCE)
    return adamw_mpi_fails(ranks, refused, "options.sum is no ADAMW_MPI_SUM constant", "");
  ranks->sum_any = options && options->sum == ADAMW_MPI_SUM_REDUCE;
  ranks->starts = (uint64_t *)calloc(ranks->num_params + 1, sizeof *ranks->starts);
  ranks->bounds = (uint64_t *)calloc((size_t)ranks->num_ranks + 1, sizeof *ranks->bounds);
  ranks->params = (adamw_mpi_param *)calloc(ranks->num_params + 1, sizeof *ranks->params);
  if (!ranks->starts || !ranks->bounds || !ranks->params)
    return adamw_mpi_fails(ranks, ADAMW_STATUS_OUT_OF_MEMORY, "the list of parameters", "");
  ranks->wire = 2;
  ranks->sum_size = 4;
  for (size_t i = 0; i < ranks->num_params; i++) {
    adamw_mpi_param *param = &ranks->params[i];
    *param = params[i];
    if (!param->dtype)
      param->dtype = ADAMW_DTYPE_F32;
    if (!param->grad_dtype)
      param->grad_dtype = param->dtype;
    if (!param->device.device_type)
      param->device.device_type = ADAMW_DEVICE_CPU;
    snprintf(what, sizeof what, "params[%zu] (\"%.200s\")", i, param->name ? param->name : "NULL");
    if (!param->name)
      return adamw_mpi_fails(ranks, refused, what, "its name is NULL");
    if (param->n_elements && (!param->data || !param->grad))
      return adamw_mpi_fails(ranks, refused, what, "its data or its grad is NULL");
    if (param->dtype > ADAMW_DTYPE_BF16)
      return adamw_mpi_fails(ranks, refused, what, "its dtype is none of f32, f64, f16 and bf16");
    if (param->grad_dtype != param->dtype && param->grad_dtype != ADAMW_DTYPE_F32)
      return adamw_mpi_fails(ranks, refused, what, "its grad_dtype is neither its dtype nor f32");
    if (param->device.device_type == ADAMW_DEVICE_CUDA ||
        param->device.device_type == ADAMW_DEVICE_CUDA_MANAGED) {
      if (!adamw_mpi_has_cuda())
        return adamw_mpi_fails(ranks, ADAMW_STATUS_UNSUPPORTED, what,
                               "it is on a device, and this MPI is not CUDA-aware: use one that "
                               "is, or keep parameters and gradients in the host's memory");
      ranks->on_device = 1;
    }
    if (ranks->sum_any && (ranks->on_device || adamw_mpi_size(param->grad_dtype) < 4))
      return adamw_mpi_fails(ranks, ADAMW_STATUS_UNSUPPORTED, what,
                             "ADAMW_MPI_SUM_REDUCE is for f32 and f64 in the host's memory");
    if (adamw_mpi_size(param->grad_dtype) > ranks->wire)
      ranks->wire = adamw_mpi_size(param->grad_dtype);
    if (param->dtype == ADAMW_DTYPE_F64)
      ranks->sum_size = 8;
    ranks->starts[i + 1] = ranks->starts[i] + param->n_elements;
  }
  return ADAMW_STATUS_OK;
}

// Whether a number is the same on all ranks.
static inline adamw_status adamw_mpi_is_same(adamw_mpi *ranks, uint64_t number, int *out_same) {
  uint64_t mine[2], both[2];
  mine[0] = number;
  mine[1] = ~number;
  adamw_status status = adamw_mpi_made(ranks, "MPI_Allreduce",
                                       MPI_Allreduce(mine, both, 2, MPI_UINT64_T, MPI_MAX,
                                                     ranks->comm));
  *out_same = both[0] == ~both[1];
  return status;
}

// Whether a rank has parameters on a device, on all ranks.
static inline adamw_status adamw_mpi_share_device(adamw_mpi *ranks) {
  return adamw_mpi_made(ranks, "MPI_Allreduce",
                        MPI_Allreduce(MPI_IN_PLACE, &ranks->on_device, 1, MPI_INT, MPI_MAX,
                                      ranks->comm));
}

// Whether all ranks have been given the same list and options; if not, says where they differ.
static inline adamw_status adamw_mpi_compare(adamw_mpi *ranks, const adamw_mpi_options *options) {
  const uint64_t numbers[] = {ranks->num_params, (uint64_t)ranks->sum_any,
                              options ? options->align : 0, options ? options->bucket_bytes : 0};
  const char *const what[] = {"the number of parameters", "options.sum", "options.align",
                              "options.bucket_bytes"};
  uint64_t hash = 0;
  char text[256];
  int is_same = 1;
  for (size_t i = 0; i < 4; i++) {
    adamw_status status = adamw_mpi_is_same(ranks, numbers[i], &is_same);
    if (status)
      return status;
    if (!is_same)
      return adamw_mpi_fails(ranks, ADAMW_STATUS_MISMATCH, "ranks differ in", what[i]);
  }
  for (size_t i = 0; i < ranks->num_params; i++)
    hash = (hash ^ adamw_mpi_hash_param(&ranks->params[i])) * 0x100000001B3u;
  for (size_t i = 0; i < ranks->num_params + 1; i++) {
    // The hash of all, and only if it differs one after another.
    uint64_t of = i ? adamw_mpi_hash_param(&ranks->params[i - 1]) : hash;
    adamw_status status = adamw_mpi_is_same(ranks, of, &is_same);
    if (status || (i == 0 && is_same))
      return status;
    if (i && !is_same) {
      snprintf(text, sizeof text, "params[%zu] (here \"%.150s\", %llu elements)", i - 1,
               ranks->params[i - 1].name, (unsigned long long)ranks->params[i - 1].n_elements);
      return adamw_mpi_fails(ranks, ADAMW_STATUS_MISMATCH, "ranks differ in", text);
    }
  }
  return ADAMW_STATUS_OK;
}

// Cuts the parameters, and adds this rank's ranges to the optimizer.
static inline adamw_status adamw_mpi_add_params(adamw_mpi *ranks, uint64_t align) {
  const size_t n = ranks->num_params;
  adamw_status status = ADAMW_STATUS_OK;
  uint64_t *memory = (uint64_t *)calloc(n + 1, 3 * sizeof *memory);
  uint64_t *lengths = memory, *firsts = memory + n, *counts = memory + 2 * n;
  if (!memory)
    return adamw_mpi_fails(ranks, ADAMW_STATUS_OUT_OF_MEMORY, "the ranges of parameters", "");
  for (size_t i = 0; i < n; i++)
    lengths[i] = ranks->params[i].n_elements;
  for (int i = 0; i < ranks->num_ranks && !status; i++) {
    // The last is this rank's, whose ranges then stay.
    int rank = (ranks->rank + 1 + i) % ranks->num_ranks;
    status = adamw_shard_ranges(lengths, n, align, (uint32_t)rank, (uint32_t)ranks->num_ranks,
                                firsts, counts);
    for (size_t p = 0; p < n && !status; p++)
      ranks->bounds[rank + 1] += counts[p];
  }
  for (int i = 0; i < ranks->num_ranks; i++)
    ranks->bounds[i + 1] += ranks->bounds[i];
  for (size_t i = 0; i < n && !status; i++) {
    const adamw_mpi_param *from = &ranks->params[i];
    adamw_param_config config;
    adamw_tensor tensor;
    int64_t shape = (int64_t)counts[i];
    uint32_t number;
    memset(&tensor, 0, sizeof tensor);
    tensor.data = from->data;
    tensor.byte_offset = firsts[i] * adamw_mpi_size(from->dtype);
    tensor.device = from->device;
    tensor.ndim = 1;
    tensor.dtype.code = from->dtype == ADAMW_DTYPE_BF16 ? ADAMW_CODE_BFLOAT : ADAMW_CODE_FLOAT;
    tensor.dtype.bits = (uint8_t)(8 * adamw_mpi_size(from->dtype));
    tensor.dtype.lanes = 1;
    tensor.shape = &shape;
    memset(&config, 0, sizeof config);
    config.struct_size = sizeof config;
    config.name = from->name;
    config.param = &tensor;
    config.group = from->group;
    config.no_clip = from->no_clip;
    config.regularizer = from->regularizer;
    config.regularizer_coeff = from->regularizer_coeff;
    config.first_element = firsts[i];
    config.whole_elements = from->n_elements;
    config.offload = from->device.device_type == ADAMW_DEVICE_CUDA ||
                     from->device.device_type == ADAMW_DEVICE_CUDA_MANAGED;
    status = adamw_add_param(ranks->optimizer, &config, &number);
  }
  free(memory);
  return adamw_mpi_told(ranks, status);
}

// The elements of the parameters, laid end to end, from `at` to `end`, piece by piece.
typedef struct adamw_mpi_walk {
  const adamw_mpi *ranks;
  uint64_t at, end;
  size_t next;
  // The piece: elements from `first` on of a parameter, which begins `before` elements behind
  // where the walk has begun.
  const adamw_mpi_param *param;
  uint64_t first, n, before;
} adamw_mpi_walk;

// Begins a walk through a bucket of a rank's part.
static inline adamw_mpi_walk adamw_mpi_begin(const adamw_mpi *ranks, int rank, uint64_t bucket) {
  const uint64_t begin = ranks->bounds[rank], end = ranks->bounds[rank + 1];
  const uint64_t skipped = bucket * ranks->bucket;
  adamw_mpi_walk walk;
  size_t low = 0, high = ranks->num_params;
  memset(&walk, 0, sizeof walk);
  walk.ranks = ranks;
  walk.at = skipped < end - begin ? begin + skipped : end;
  walk.end = end - walk.at < ranks->bucket ? end : walk.at + ranks->bucket;
  while (low + 1 < high) {
    size_t middle = low + (high - low) / 2;
    if (ranks->starts[middle] <= walk.at)
      low = middle;
    else
      high = middle;
  }
  walk.next = low;
  return walk;
}

static inline int adamw_mpi_next(adamw_mpi_walk *walk) {
  uint64_t end;
  walk->before += walk->n;
  walk->n = 0;
  if (walk->at == walk->end)
    return 0;
  while (walk->ranks->starts[walk->next + 1] <= walk->at)
    walk->next++; // an empty one
  end = walk->ranks->starts[walk->next + 1];
  walk->param = &walk->ranks->params[walk->next];
  walk->first = walk->at - walk->ranks->starts[walk->next];
  walk->n = (end < walk->end ? end : walk->end) - walk->at;
  walk->at += walk->n;
  return 1;
}

// The number of buckets of the longest part.
static inline uint64_t adamw_mpi_num_buckets(const adamw_mpi *ranks) {
  uint64_t longest = 0;
  for (int i = 0; i < ranks->num_ranks; i++)
    if (ranks->bounds[i + 1] - ranks->bounds[i] > longest)
      longest = ranks->bounds[i + 1] - ranks->bounds[i];
  return longest / ranks->bucket + (longest % ranks->bucket != 0);
}

// Makes room for what is exchanged. Once there is some, it stays.
static inline adamw_status adamw_mpi_reserve(adamw_mpi *ranks, uint64_t bucket_bytes) {
  const uint64_t n = (uint64_t)ranks->num_ranks;
  uint64_t bytes = n < 64 ? (4u << 20) / n : 64u << 10; // of each rank
  uint64_t bucket = (bucket_bytes ? bucket_bytes / n : bytes) / ranks->wire;
  size_t most = 0, first = 0, room;
  if (bucket < ADAMW_MPI_LEAST_BUCKET)
    bucket = ADAMW_MPI_LEAST_BUCKET;
  if (bucket > ADAMW_MPI_MOST_BUCKET)
    bucket = ADAMW_MPI_MOST_BUCKET;
  ranks->bucket = bucket;
  ranks->grads_begun = ranks->grads_added = adamw_mpi_num_buckets(ranks);
  // The most pieces that a bucket can have: parameters that as many elements can touch.
  for (size_t i = 0; i < ranks->num_params; i++) {
    while (ranks->starts[i] > ranks->starts[first + 1] + bucket)
      first++;
    if (i - first + 1 > most)
      most = i - first + 1;
  }
  room = 2 * most * n + 1;
  for (int i = 0; i < 4; i++) {
    ranks->requests[i] = (MPI_Request *)calloc(room, sizeof(MPI_Request));
    if (!ranks->requests[i])
      return adamw_mpi_fails(ranks, ADAMW_STATUS_OUT_OF_MEMORY, "requests of MPI", "");
  }
  for (int i = 0; i < 2; i++) {
    ranks->received[i] =
        (unsigned char *)malloc(n > 1 || ranks->on_device ? n * bucket * ranks->wire : 1);
    if (!ranks->received[i])
      return adamw_mpi_fails(ranks, ADAMW_STATUS_OUT_OF_MEMORY, "a bucket of gradients", "");
  }
  return ADAMW_STATUS_OK;
}

// Makes room for the sums of this rank's part.
static inline adamw_status adamw_mpi_reserve_sums(adamw_mpi *ranks) {
  uint64_t n = ranks->bounds[ranks->rank + 1] - ranks->bounds[ranks->rank];
  if (ranks->sums)
    return ADAMW_STATUS_OK;
  ranks->sums = (unsigned char *)malloc(n ? n * ranks->sum_size : 1);
  if (!ranks->sums)
    return adamw_mpi_fails(ranks, ADAMW_STATUS_OUT_OF_MEMORY, "the sums of gradients", "");
  return ADAMW_STATUS_OK;
}

// Tells the optimizer where its gradients are: `sums`, or those of the one rank itself.
static inline adamw_status adamw_mpi_tell_grads(adamw_mpi *ranks, int sums) {
  adamw_status status = ADAMW_STATUS_OK;
  const uint64_t begin = ranks->bounds[ranks->rank], end = ranks->bounds[ranks->rank + 1];
  if (ranks->reads_sums == sums && !ranks->checks_grads)
    return status;
  for (size_t i = 0; i < ranks->num_params && !status; i++) {
    const adamw_mpi_param *param = &ranks->params[i];
    uint64_t first = ranks->starts[i], last = ranks->starts[i + 1];
    first = first < begin ? begin : first > end ? end : first;
    last = last < first ? first : last > end ? end : last;
    status = sums ? adamw_set_grad_array(ranks->optimizer, (uint32_t)i,
                                         ranks->sums + (first - begin) * ranks->sum_size,
                                         last - first, adamw_mpi_sum_dtype(param))
                  : adamw_set_grad_array(ranks->optimizer, (uint32_t)i, param->grad,
                                         param->n_elements, param->grad_dtype);
  }
  if (!status) {
    ranks->reads_sums = sums;
    ranks->checks_grads = 0;
  }
  return adamw_mpi_told(ranks, status);
}

static inline float adamw_mpi_widened(uint32_t bits, adamw_dtype dtype) {
  float value;
  if (dtype == ADAMW_DTYPE_BF16) {
    bits <<= 16;
  } else {
    uint32_t sign = (bits & 0x8000u) << 16, exponent = bits >> 10 & 31, fraction = bits & 1023;
    if (exponent == 0) {
      value = (float)fraction * 5.9604644775390625e-8f; // 2^-24; exact
      return sign ? -value : value;
    }
    exponent = exponent == 31 ? 255 : exponent + 112;
    bits = sign | exponent << 23 | fraction << 13;
  }
  memcpy(&value, &bits, sizeof value);
  return value;
}

static inline void adamw_mpi_add(void *sums, adamw_dtype sum, const void *grad, adamw_dtype dtype,
                                 uint64_t n) {
  if (sum == ADAMW_DTYPE_F64 && dtype == ADAMW_DTYPE_F64) {
    for (uint64_t i = 0; i < n; i++)
      ((double *)sums)[i] += ((const double *)grad)[i];
  } else if (sum == ADAMW_DTYPE_F64) {
    for (uint64_t i = 0; i < n; i++)
      ((double *)sums)[i] += (double)((const float *)grad)[i];
  } else if (dtype == ADAMW_DTYPE_F32) {
    for (uint64_t i = 0; i < n; i++)
      ((float *)sums)[i] += ((const float *)grad)[i];
  } else {
    for (uint64_t i = 0; i < n; i++)
      ((float *)sums)[i] += adamw_mpi_widened(((const uint16_t *)grad)[i], dtype);
  }
}

static inline const unsigned char *adamw_mpi_grad_at(const adamw_mpi_walk *walk) {
  return (const unsigned char *)walk->param->grad +
         walk->first * adamw_mpi_size(walk->param->grad_dtype);
}

static inline unsigned char *adamw_mpi_param_at(const adamw_mpi_walk *walk) {
  return (unsigned char *)walk->param->data + walk->first * adamw_mpi_size(walk->param->dtype);
}

// Where the sum of a piece of this rank's part is.
static inline unsigned char *adamw_mpi_sum_at(const adamw_mpi_walk *walk) {
  const adamw_mpi *ranks = walk->ranks;
  const uint64_t begin = ranks->bounds[ranks->rank];
  const uint64_t start = ranks->starts[walk->param - ranks->params];
  const uint64_t first = start < begin ? begin : start; // of this rank's range
  return ranks->sums + (first - begin) * ranks->sum_size +
         (start + walk->first - first) * adamw_mpi_size(adamw_mpi_sum_dtype(walk->param));
}

// Where a piece of a bucket goes that a rank has sent.
static inline unsigned char *adamw_mpi_place(const adamw_mpi_walk *walk, int slot, int from) {
  const adamw_mpi *ranks = walk->ranks;
  return ranks->received[slot] +
         ((uint64_t)from * ranks->bucket + walk->before) * ranks->wire;
}

// A request of the slot, to be filled by a call of MPI.
static inline MPI_Request *adamw_mpi_request(adamw_mpi *ranks, int slot) {
  return &ranks->requests[slot][ranks->num_requests[slot]++];
}

// Waits for all that the slot has begun.
static inline adamw_status adamw_mpi_wait(adamw_mpi *ranks, int slot) {
  adamw_status status = ADAMW_STATUS_OK;
  for (int i = 0; i < ranks->num_requests[slot] && !status; i++)
    status = adamw_mpi_made(ranks, "MPI_Wait",
                            MPI_Wait(&ranks->requests[slot][i], MPI_STATUS_IGNORE));
  if (!status)
    ranks->num_requests[slot] = 0;
  return status;
}

// Lets MPI move what is on its way.
static inline adamw_status adamw_mpi_poll(adamw_mpi *ranks) {
  adamw_status status = ADAMW_STATUS_OK;
  for (int slot = 0; slot < 4 && !status; slot++) {
    int all_done = 1;
    for (int i = 0; i < ranks->num_requests[slot] && !status; i++) {
      int is_done = 0;
      status = adamw_mpi_made(ranks, "MPI_Test",
                              MPI_Test(&ranks->requests[slot][i], &is_done, MPI_STATUS_IGNORE));
      all_done = all_done && is_done;
    }
    if (all_done && !status)
      ranks->num_requests[slot] = 0;
  }
  return status;
}

// Whether a rank's own gradients travel, too: from its device to its host.
static inline int adamw_mpi_sends_to(const adamw_mpi *ranks, int rank) {
  return rank != ranks->rank || ranks->on_device;
}

// Begins to exchange one bucket of gradients of every rank.
static inline adamw_status adamw_mpi_begin_grads(adamw_mpi *ranks, uint64_t bucket) {
  const int slot = (int)(bucket & 1), n = ranks->num_ranks, num_parts = ranks->num_parts;
  adamw_status status = ADAMW_STATUS_OK;
  for (int from = 0; from < num_parts && !ranks->sum_any; from++) {
    adamw_mpi_walk walk = adamw_mpi_begin(ranks, ranks->rank, bucket);
    while (adamw_mpi_sends_to(ranks, from) && !status && adamw_mpi_next(&walk))
      status = adamw_mpi_made(
          ranks, "MPI_Irecv",
          MPI_Irecv(adamw_mpi_place(&walk, slot, from),
                    (int)(walk.n * adamw_mpi_size(walk.param->grad_dtype)), MPI_BYTE, from,
                    ADAMW_MPI_TAG_GRADS, ranks->comm, adamw_mpi_request(ranks, slot)));
  }
  for (int i = 0; i < n; i++) {
    // Each begins with another, so that they do not all send to one.
    const int to = ranks->sum_any ? i : (ranks->rank + 1 + i) % n;
    adamw_mpi_walk walk = adamw_mpi_begin(ranks, to, bucket);
    while (!status && adamw_mpi_next(&walk)) {
      const adamw_dtype dtype = walk.param->grad_dtype;
      if (ranks->sum_any)
        status = adamw_mpi_made(
            ranks, "MPI_Ireduce",
            MPI_Ireduce(adamw_mpi_grad_at(&walk), adamw_mpi_place(&walk, slot, 0),
                        (int)walk.n, dtype == ADAMW_DTYPE_F64 ? MPI_DOUBLE : MPI_FLOAT, MPI_SUM, to,
                        ranks->comm, adamw_mpi_request(ranks, slot)));
      else if (ranks->rank < num_parts && adamw_mpi_sends_to(ranks, to))
        status = adamw_mpi_made(
            ranks, "MPI_Isend",
            MPI_Isend(adamw_mpi_grad_at(&walk), (int)(walk.n * adamw_mpi_size(dtype)),
                      MPI_BYTE, to, ADAMW_MPI_TAG_GRADS, ranks->comm,
                      adamw_mpi_request(ranks, slot)));
    }
  }
  return status;
}

// Adds up what has come of one bucket, by the order of the ranks.
static inline void adamw_mpi_add_bucket(adamw_mpi *ranks, uint64_t bucket) {
  const int slot = (int)(bucket & 1), num_parts = ranks->num_parts;
  adamw_mpi_walk walk = adamw_mpi_begin(ranks, ranks->rank, bucket);
  while (adamw_mpi_next(&walk)) {
    const adamw_dtype sum = adamw_mpi_sum_dtype(walk.param);
    unsigned char *sums = adamw_mpi_sum_at(&walk);
    if (!ranks->has_sums)
      memset(sums, 0, walk.n * adamw_mpi_size(sum));
    for (int from = 0; from < (ranks->sum_any ? 1 : num_parts); from++) {
      const int is_here = !ranks->sum_any && !adamw_mpi_sends_to(ranks, from);
      const void *grad = is_here ? adamw_mpi_grad_at(&walk) : adamw_mpi_place(&walk, slot, from);
      adamw_mpi_add(sums, sum, grad, walk.param->grad_dtype, walk.n);
    }
  }
}

// Begins to exchange as many buckets of gradients as there is room for.
static inline adamw_status adamw_mpi_begin_next(adamw_mpi *ranks) {
  const uint64_t n = adamw_mpi_num_buckets(ranks);
  adamw_status status = ADAMW_STATUS_OK;
  while (!status && ranks->grads_begun < n && ranks->grads_begun < ranks->grads_added + 2)
    status = adamw_mpi_begin_grads(ranks, ranks->grads_begun++);
  return status;
}

// Adds up the buckets of gradients before `end`. One travels while the one before is added up.
static inline adamw_status adamw_mpi_add_until(adamw_mpi *ranks, uint64_t end) {
  adamw_status status = ADAMW_STATUS_OK;
  while (!status && ranks->grads_added < end) {
    status = adamw_mpi_begin_next(ranks);
    if (!status)
      status = adamw_mpi_wait(ranks, (int)(ranks->grads_added & 1));
    if (!status)
      adamw_mpi_add_bucket(ranks, ranks->grads_added++);
  }
  return status ? status : adamw_mpi_begin_next(ranks);
}

// Begins to hand round one bucket of the parameters of every rank.
static inline adamw_status adamw_mpi_begin_params(adamw_mpi *ranks, uint64_t bucket) {
  const int slot = 2 + (int)(bucket & 1), n = ranks->num_ranks;
  adamw_status status = ADAMW_STATUS_OK;
  for (int i = 1; i < n; i++) {
    const int from = (ranks->rank + n - i) % n;
    adamw_mpi_walk walk = adamw_mpi_begin(ranks, from, bucket);
    while (!status && adamw_mpi_next(&walk))
      status = adamw_mpi_made(
          ranks, "MPI_Irecv",
          MPI_Irecv(adamw_mpi_param_at(&walk), (int)(walk.n * adamw_mpi_size(walk.param->dtype)),
                    MPI_BYTE, from, ADAMW_MPI_TAG_PARAMS, ranks->comm,
                    adamw_mpi_request(ranks, slot)));
  }
  for (int i = 1; i < n; i++) {
    const int to = (ranks->rank + i) % n;
    adamw_mpi_walk walk = adamw_mpi_begin(ranks, ranks->rank, bucket);
    while (!status && adamw_mpi_next(&walk))
      status = adamw_mpi_made(
          ranks, "MPI_Isend",
          MPI_Isend(adamw_mpi_param_at(&walk), (int)(walk.n * adamw_mpi_size(walk.param->dtype)),
                    MPI_BYTE, to, ADAMW_MPI_TAG_PARAMS, ranks->comm,
                    adamw_mpi_request(ranks, slot)));
  }
  return status;
}

// Gives all ranks the parameters that each has stepped, as far as a step has not begun to. One
// bucket travels while the next begins.
static inline adamw_status adamw_mpi_all_gather(adamw_mpi *ranks) {
  const uint64_t n = adamw_mpi_num_buckets(ranks);
  adamw_status status = ADAMW_STATUS_OK;
  for (uint64_t i = ranks->params_begun; i < n + 2 && !status; i++) {
    status = adamw_mpi_wait(ranks, 2 + (int)(i & 1));
    if (i < n && !status)
      status = adamw_mpi_begin_params(ranks, i);
  }
  ranks->params_begun = 0;
  return status;
}

// The optimizer's callback: waits for the gradients of a piece of this rank's part, and begins to
// hand round what has been stepped, unless a device may still fail where other ranks wait for it.
static inline int32_t adamw_mpi_next_piece(uint64_t done, uint64_t until, void *user_data) {
  adamw_mpi *ranks = (adamw_mpi *)user_data;
  const uint64_t n = ranks->bounds[ranks->rank + 1] - ranks->bounds[ranks->rank];
  const uint64_t bucket = ranks->bucket;
  adamw_status status;
  if (!ranks->is_stepping)
    return 0;
  // With its last piece a rank sends all that others still lack.
  status = adamw_mpi_add_until(ranks, until == n ? adamw_mpi_num_buckets(ranks)
                                                 : until / bucket + (until % bucket != 0));
  if (!status)
    status = adamw_mpi_poll(ranks);
  while (!status && !ranks->on_device && ranks->params_begun < done / bucket &&
         !ranks->num_requests[2 + (ranks->params_begun & 1)])
    status = adamw_mpi_begin_params(ranks, ranks->params_begun++);
  return status != ADAMW_STATUS_OK;
}

// Gives all ranks the parameters of rank 0.
static inline adamw_status adamw_mpi_broadcast(adamw_mpi *ranks) {
  adamw_status status = ADAMW_STATUS_OK;
  for (size_t i = 0; i < ranks->num_params; i++) {
    const adamw_mpi_param *param = &ranks->params[i];
    const uint64_t size = param->n_elements * adamw_mpi_size(param->dtype), most = 1 << 24;
    for (uint64_t at = 0; at < size && !status; at += most)
      status = adamw_mpi_made(ranks, "MPI_Bcast",
                              MPI_Bcast((unsigned char *)param->data + at,
                                        (int)(size - at < most ? size - at : most), MPI_BYTE, 0,
                                        ranks->comm));
  }
  return status;
}

static inline void adamw_mpi_free(adamw_mpi *ranks) {
#if defined OMPI_HAVE_MPI_EXT_FTMPI
  int all = 1;
  // No rank leaves before all that live have noticed the error.
  if (ranks->comm != MPI_COMM_NULL && adamw_mpi_survives())
    MPIX_Comm_agree(ranks->comm, &all);
#endif
  // Nothing may arrive in memory that is freed.
  for (int slot = 0; slot < 4; slot++) {
    for (int i = 0; ranks->is_broken && i < ranks->num_requests[slot]; i++) {
      MPI_Request *request = &ranks->requests[slot][i];
      if (*request == MPI_REQUEST_NULL || MPI_Cancel(request) != MPI_SUCCESS)
        continue;
      MPI_Request_free(request);
    }
    free(ranks->requests[slot]);
    ranks->requests[slot] = NULL;
  }
  for (int slot = 0; slot < 2; slot++) {
    free(ranks->received[slot]);
    ranks->received[slot] = NULL;
  }
  if (ranks->optimizer && ranks->comm != MPI_COMM_NULL) {
    adamw_set_all_reduce(ranks->optimizer, NULL, NULL);
    adamw_clear_grad(ranks->optimizer, ADAMW_CLEAR_FORGET);
  }
  free(ranks->sums);
  free(ranks->params);
  free(ranks->starts);
  free(ranks->bounds);
  ranks->sums = NULL;
  ranks->params = NULL;
  ranks->starts = ranks->bounds = NULL;
  // It is collective, and others may have died.
  if (ranks->comm != MPI_COMM_NULL && !ranks->is_broken)
    MPI_Comm_free(&ranks->comm);
  ranks->comm = MPI_COMM_NULL;
  ranks->optimizer = NULL;
}

static inline adamw_status adamw_mpi_init(adamw_mpi *ranks, MPI_Comm comm,
                                          adamw_optimizer *optimizer, const adamw_mpi_param *params,
                                          size_t num_params, const adamw_mpi_options *options) {
  adamw_status status;
  memset(ranks, 0, sizeof *ranks);
  ranks->comm = MPI_COMM_NULL;
  ranks->optimizer = optimizer;
  ranks->num_params = num_params;
  ranks->checks_grads = 1;
  status = adamw_mpi_made(ranks, "MPI_Comm_dup", MPI_Comm_dup(comm, &ranks->comm));
  if (status) {
    ranks->comm = MPI_COMM_NULL;
    return status;
  }
  MPI_Comm_set_errhandler(ranks->comm, MPI_ERRORS_RETURN);
  MPI_Comm_rank(ranks->comm, &ranks->rank);
  MPI_Comm_size(ranks->comm, &ranks->num_ranks);
  status = adamw_mpi_agree(ranks, adamw_mpi_take(ranks, params, options));
  if (!status)
    status = adamw_mpi_compare(ranks, options);
  if (!status)
    status = adamw_mpi_share_device(ranks);
  if (!status) {
    status = adamw_mpi_add_params(ranks, options ? options->align : 0);
    if (!status)
      status = adamw_mpi_reserve(ranks, options ? options->bucket_bytes : 0);
    if (!status && ranks->num_ranks > 1)
      status = adamw_mpi_reserve_sums(ranks);
    if (!status)
      status = adamw_mpi_told(
          ranks, adamw_set_all_reduce(ranks->optimizer, adamw_mpi_all_reduce, ranks));
    if (!status && (ranks->num_ranks > 1 || ranks->on_device))
      status = adamw_mpi_told(
          ranks, adamw_set_next_piece(ranks->optimizer,
                                      options && options->bucket_bytes ? ranks->bucket : 0,
                                      adamw_mpi_next_piece, ranks));
    status = adamw_mpi_agree(ranks, status);
    if (!status)
      status = adamw_mpi_broadcast(ranks);
    for (uint32_t i = (uint32_t)num_params; status && i > 0; i--)
      adamw_remove_param(ranks->optimizer, i - 1);
  } else {
    ranks->optimizer = NULL; // whose gradients and all_reduce may be the host's
  }
  if (status)
    adamw_mpi_free(ranks);
  return status;
}

static inline adamw_status adamw_mpi_set_grad(adamw_mpi *ranks, size_t param, const void *grad) {
  if (param >= ranks->num_params || (!grad && ranks->params[param].n_elements))
    return adamw_mpi_fails(ranks, ADAMW_STATUS_INVALID_ARGUMENT, "adamw_mpi_set_grad",
                           grad ? "there is no such parameter" : "grad is NULL");
  ranks->params[param].grad = grad;
  ranks->checks_grads = 1;
  return ADAMW_STATUS_OK;
}

// Whether calls may enter the optimizer. A step that is refused at once would not meet the others.
static inline adamw_status adamw_mpi_enters(adamw_mpi *ranks) {
  uint32_t num_params = 0;
  if (ranks->is_half)
    return adamw_mpi_fails(ranks, ADAMW_STATUS_POISONED,
                           "not all ranks have taken the last step, which cannot be undone",
                           "free, and destroy the optimizers");
  return adamw_mpi_told(ranks, adamw_num_params(ranks->optimizer, &num_params));
}

// Begins to add up the gradients of ranks 0 to num_parts - 1.
static inline adamw_status adamw_mpi_begin_round(adamw_mpi *ranks, int num_parts) {
  int is_same = 0;
  adamw_status status = adamw_mpi_reserve_sums(ranks);
  if (num_parts < 1 || num_parts > ranks->num_ranks)
    status = adamw_mpi_fails(ranks, ADAMW_STATUS_INVALID_ARGUMENT, "num_parts",
                             "expected 1 to the number of ranks");
  else if (ranks->sum_any && num_parts < ranks->num_ranks)
    status = adamw_mpi_fails(ranks, ADAMW_STATUS_UNSUPPORTED, "num_parts",
                             "ADAMW_MPI_SUM_REDUCE needs a part of every rank");
  if (!status)
    status = adamw_mpi_enters(ranks);
  if (!status)
    status = adamw_mpi_tell_grads(ranks, 1);
  status = adamw_mpi_agree(ranks, status);
  if (!status)
    status = adamw_mpi_is_same(ranks, (uint64_t)num_parts, &is_same);
  if (!status && !is_same)
    status = adamw_mpi_fails(ranks, ADAMW_STATUS_MISMATCH, "ranks differ in", "num_parts");
  if (status)
    return status;
  ranks->num_parts = num_parts;
  ranks->grads_begun = ranks->grads_added = 0;
  return adamw_mpi_begin_next(ranks);
}

static inline adamw_status adamw_mpi_add_grads(adamw_mpi *ranks, int num_parts) {
  adamw_status status;
  if (ranks->is_broken)
    return ADAMW_MPI_STATUS_MPI;
  status = adamw_mpi_begin_round(ranks, num_parts);
  if (!status)
    status = adamw_mpi_add_until(ranks, adamw_mpi_num_buckets(ranks));
  ranks->has_sums = ranks->has_sums || !status;
  return status;
}

static inline adamw_status adamw_mpi_step(adamw_mpi *ranks) {
  adamw_step_info info;
  adamw_status status = ADAMW_STATUS_OK;
  int is_taken;
  if (ranks->is_broken)
    return ADAMW_MPI_STATUS_MPI;
  if (ranks->has_sums)
    status = adamw_mpi_agree(ranks, adamw_mpi_enters(ranks));
  else if (ranks->num_ranks == 1 && !ranks->on_device)
    status = adamw_mpi_tell_grads(ranks, 0);
  else
    status = adamw_mpi_begin_round(ranks, ranks->num_ranks);
  if (status) {
    ranks->has_sums = 0;
    return status;
  }
  // A rank with parameters on a device waits for all gradients before the ranks agree.
  if (ranks->on_device && adamw_mpi_add_until(ranks, adamw_mpi_num_buckets(ranks)))
    return ADAMW_MPI_STATUS_MPI;
  memset(&info, 0, sizeof info);
  ranks->is_stepping = 1;
  status = adamw_step(ranks->optimizer);
  ranks->is_stepping = 0;
  ranks->has_sums = 0;
  // Where a step fails or is skipped, others send what it has not waited for all the same.
  if (ranks->is_broken || adamw_mpi_add_until(ranks, adamw_mpi_num_buckets(ranks)))
    return ADAMW_MPI_STATUS_MPI; // whose text the callback may have left
  is_taken = !status;
  status = adamw_mpi_told(ranks, status);
  if (!status)
    status = adamw_mpi_told(ranks,
                            adamw_get_step_info(ranks->optimizer, &info, sizeof info));
  status = adamw_mpi_agree(ranks, status);
  ranks->is_half = status && is_taken && !info.skipped;
  return status || info.skipped ? status : adamw_mpi_all_gather(ranks);
}

/* ---- Checkpoints ----------------------------------------------------------------------------- */

static inline adamw_status adamw_mpi_path_fails(adamw_mpi *ranks, const char *path) {
  char what[256];
  snprintf(what, sizeof what, "file \"%.200s\"", path);
  return adamw_mpi_fails(ranks, ADAMW_STATUS_IO, what, strerror(errno));
}

static inline adamw_status adamw_mpi_join(adamw_mpi *ranks, char *path, const char *directory,
                                          const char *name) {
  int n = snprintf(path, ADAMW_MPI_PATH, "%s/%s", directory, name);
  if (n < 0 || n >= ADAMW_MPI_PATH)
    return adamw_mpi_fails(ranks, ADAMW_STATUS_INVALID_ARGUMENT, "directory", "it is too long");
  return ADAMW_STATUS_OK;
}

// Reads the file `checkpoint`: its text, which the caller frees. NULL: there is none.
static inline adamw_status adamw_mpi_read(adamw_mpi *ranks, const char *directory,
                                          char **out_text) {
  char path[ADAMW_MPI_PATH];
  size_t length = 0, room = 0;
  adamw_status status = adamw_mpi_join(ranks, path, directory, "checkpoint");
  FILE *file;
  *out_text = NULL;
  if (status)
    return status;
  file = fopen(path, "rb");
  if (!file)
    return errno == ENOENT ? ADAMW_STATUS_OK : adamw_mpi_path_fails(ranks, path);
  do {
    char *longer = (char *)realloc(*out_text, room += 4096);
    if (!longer) {
      status = adamw_mpi_fails(ranks, ADAMW_STATUS_OUT_OF_MEMORY, "the names of files", "");
      break;
    }
    *out_text = longer;
    length += fread(longer + length, 1, room - length - 1, file);
    longer[length] = 0;
  } while (length + 1 == room);
  if (!status && ferror(file))
    status = adamw_mpi_path_fails(ranks, path);
  fclose(file);
  if (status) {
    free(*out_text);
    *out_text = NULL;
  }
  return status;
}

static inline void adamw_mpi_name(char *name, unsigned long long generation, int rank,
                                  int num_ranks) {
  sprintf(name, "%llu-%05d-of-%05d.safetensors", generation, rank, num_ranks);
}

// Replaces the file `checkpoint` by one that names the files of this generation.
static inline adamw_status adamw_mpi_commit(adamw_mpi *ranks, const char *directory,
                                            unsigned long long generation) {
  char path[ADAMW_MPI_PATH], temporary[ADAMW_MPI_PATH], name[64];
  adamw_status status = adamw_mpi_join(ranks, path, directory, "checkpoint");
  int folder = -1, failed = 0;
  FILE *file;
  if (!status)
    status = adamw_mpi_join(ranks, temporary, directory, ".checkpoint.tmp");
  if (status)
    return status;
  file = fopen(temporary, "wb");
  if (!file)
    return adamw_mpi_path_fails(ranks, temporary);
  for (int i = 0; i < ranks->num_ranks; i++) {
    adamw_mpi_name(name, generation, i, ranks->num_ranks);
    failed |= fprintf(file, "%s\n", name) < 0;
  }
  failed |= fflush(file) != 0 || fsync(fileno(file)) != 0;
  failed |= fclose(file) != 0;
  if (failed || rename(temporary, path)) {
    status = adamw_mpi_path_fails(ranks, failed ? temporary : path);
    unlink(temporary);
    return status;
  }
  folder = open(directory, O_RDONLY);
  if (folder >= 0) {
    fsync(folder); // not every file system has it
    close(folder);
  }
  return status;
}

// Removes the files of other generations, as far as possible.
static inline void adamw_mpi_tidy(const adamw_mpi *ranks, const char *directory,
                                  unsigned long long generation) {
  DIR *folder = opendir(directory);
  struct dirent *entry;
  while (folder && (entry = readdir(folder)) != NULL) {
    unsigned long long of;
    int rank, num_ranks;
    char name[64], path[ADAMW_MPI_PATH];
    if (sscanf(entry->d_name, "%llu-%5d-of-%5d", &of, &rank, &num_ranks) != 3)
      continue;
    adamw_mpi_name(name, of, rank, num_ranks);
    if (strcmp(name, entry->d_name) == 0 &&
        (of != generation || num_ranks != ranks->num_ranks) &&
        snprintf(path, sizeof path, "%s/%s", directory, name) < (int)sizeof path)
      unlink(path);
  }
  if (folder)
    closedir(folder);
}

static inline adamw_status adamw_mpi_save(adamw_mpi *ranks, const char *directory) {
  unsigned long long generation = 0;
  char name[64], path[ADAMW_MPI_PATH] = "", *old = NULL;
  adamw_save_args args;
  adamw_status status = ADAMW_STATUS_OK;
  if (ranks->is_broken)
    return ADAMW_MPI_STATUS_MPI;
  if (!directory)
    status = adamw_mpi_fails(ranks, ADAMW_STATUS_INVALID_ARGUMENT, "directory is NULL", "");
  if (!status)
    status = adamw_mpi_enters(ranks);
  if (!status && ranks->rank == 0) {
    if (mkdir(directory, 0777) && errno != EEXIST)
      status = adamw_mpi_path_fails(ranks, directory);
    else
      status = adamw_mpi_read(ranks, directory, &old);
    generation = (old ? strtoull(old, NULL, 10) : 0) + 1;
    free(old);
  }
  status = adamw_mpi_agree(ranks, status);
  if (!status)
    status = adamw_mpi_made(ranks, "MPI_Bcast",
                            MPI_Bcast(&generation, 1, MPI_UNSIGNED_LONG_LONG, 0, ranks->comm));
  if (status)
    return status;
  adamw_mpi_name(name, generation, ranks->rank, ranks->num_ranks);
  status = adamw_mpi_join(ranks, path, directory, name);
  if (!status) {
    memset(&args, 0, sizeof args);
    args.struct_size = sizeof args;
    args.path = path;
    args.params = 1;
    status = adamw_mpi_told(ranks, adamw_save_to(ranks->optimizer, &args, NULL));
  }
  status = adamw_mpi_agree(ranks, status);
  if (!status)
    status = adamw_mpi_agree(
        ranks, ranks->rank ? ADAMW_STATUS_OK : adamw_mpi_commit(ranks, directory, generation));
  else if (!ranks->is_broken) // otherwise others may have agreed, and name the file
    unlink(path);
  if (!status && ranks->rank == 0)
    adamw_mpi_tidy(ranks, directory, generation);
  return status;
}

// Loads the files of which rank 0 has read the names.
static inline adamw_status adamw_mpi_load_files(adamw_mpi *ranks, const char *directory,
                                                char *names) {
  size_t n = 0, i = 0;
  adamw_source *sources;
  const adamw_source **list;
  char *paths;
  adamw_load_options options;
  adamw_status status = ADAMW_STATUS_OK;
  for (const char *at = strchr(names, '\n'); at; at = strchr(at + 1, '\n'))
    n++;
  sources = (adamw_source *)calloc(n + 1, sizeof *sources);
  list = (const adamw_source **)calloc(n + 1, sizeof *list);
  paths = (char *)malloc((strlen(directory) + 2) * (n + 1) + strlen(names));
  if (sources && list && paths) {
    char *to = paths, *name = names;
    for (char *end = strchr(name, '\n'); end; name = end + 1, end = strchr(name, '\n'), i++) {
      sources[i].struct_size = sizeof *sources;
      sources[i].path = to;
      list[i] = &sources[i];
      *end = 0;
      to += sprintf(to, "%s/%s", directory, name) + 1;
    }
    memset(&options, 0, sizeof options);
    options.struct_size = sizeof options;
    options.params = 1;
    status = adamw_mpi_told(ranks, adamw_load_from(ranks->optimizer, list, n, &options));
  } else {
    status = adamw_mpi_fails(ranks, ADAMW_STATUS_OUT_OF_MEMORY, "the names of files", "");
  }
  free(sources);
  free((void *)list);
  free(paths);
  return status;
}

static inline adamw_status adamw_mpi_load(adamw_mpi *ranks, const char *directory) {
  char *names = NULL;
  int length = 0;
  adamw_status status = ADAMW_STATUS_OK;
  if (ranks->is_broken)
    return ADAMW_MPI_STATUS_MPI;
  if (!directory)
    status = adamw_mpi_fails(ranks, ADAMW_STATUS_INVALID_ARGUMENT, "directory is NULL", "");
  if (!status && ranks->rank == 0) {
    status = adamw_mpi_read(ranks, directory, &names);
    if (!status && !names)
      status = adamw_mpi_fails(ranks, ADAMW_STATUS_IO, directory, "it has no file `checkpoint`");
    length = names ? (int)strlen(names) + 1 : 0;
  }
  status = adamw_mpi_agree(ranks, status);
  if (!status)
    status = adamw_mpi_made(ranks, "MPI_Bcast",
                            MPI_Bcast(&length, 1, MPI_INT, 0, ranks->comm));
  if (!status && ranks->rank) {
    names = (char *)malloc((size_t)length);
    if (!names)
      status = adamw_mpi_fails(ranks, ADAMW_STATUS_OUT_OF_MEMORY, "the names of files", "");
  }
  if (!ranks->is_broken)
    status = adamw_mpi_agree(ranks, status);
  if (!status)
    status = adamw_mpi_made(ranks, "MPI_Bcast",
                            MPI_Bcast(names, length, MPI_CHAR, 0, ranks->comm));
  if (!status)
    status = adamw_mpi_agree(ranks, adamw_mpi_load_files(ranks, directory, names));
  free(names);
  ranks->has_sums = 0;
  return status ? status : adamw_mpi_all_gather(ranks);
}

#ifdef __cplusplus
} // extern "C"
#endif

#endif
