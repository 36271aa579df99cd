/* What the misuse programs share: a handle whose memory is all known, and checks that a refused
   call changed nothing, wrote no output, printed nothing and named the cause. */
#ifndef HARNESS_H
#define HARNESS_H

#include <adamw.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum role { PARAM, GRAD, MASTER, EXP_AVG, EXP_AVG_SQ, MAX_EXP_AVG_SQ, ROLES };
extern const char *const role_names[ROLES]; /* as an error text must call them */

/* The parameters of a world by number. NEW is in no handle: rows try to add it. */
enum { W1, W2, W3, NEW, PARAMS };
extern const char *const param_names[PARAMS];
enum { N = 12, ROOM = 32 }; /* elements of every parameter; floats from one buffer to the next */

/* Every output argument of the API, filled with a pattern that a refused call must leave. */
struct outputs {
  adamw_optimizer *optimizer;
  double lr;
  adamw_param_info info;
  adamw_config config;
  adamw_group_config group;
  adamw_capabilities capabilities;
  uint32_t number;
};

/* An amsgrad, multi_precision handle. W1 is f32 and W2 bf16, both with all their state in the
   host's memory; W3 is f32 with the library's state; NEW is described like W2. */
struct world {
  adamw_optimizer *optimizer;
  float memory[PARAMS][ROLES][ROOM];
  struct outputs outputs;
};

/* A tensor descriptor together with the arrays that it points to. */
struct described {
  adamw_tensor tensor;
  int64_t shape[2];
  int64_t strides[2]; /* what they would be; tensor.strides is NULL */
};

/* A complete adamw_param_config, everything in the host's memory. */
struct candidate {
  adamw_param_config config;
  struct described at[ROLES];
};

/* A function of the API that takes a handle, called with otherwise good arguments. */
struct call {
  const char *name;
  adamw_status (*call)(adamw_optimizer *optimizer);
};
extern const struct call every_call[]; /* adamw_destroy is the last before {NULL, NULL} */

/* A way for a tensor to come in: as the buffer in a role of `param`, between others that are good.
   A gradient comes in where `is_grad`, any other role elsewhere. */
enum { ADD, REBIND, SET_GRAD, SET_GRADS, WAYS };
struct way {
  const char *name;
  adamw_status (*offer)(struct world *world, enum role role, const adamw_tensor *tensor);
  int param;
  bool is_grad;
};
extern const struct way ways[WAYS];
extern const adamw_buffer buffer_of[ROLES]; /* 0 for GRAD, which has none */
const adamw_tensor **tensor_in(adamw_param_config *config, enum role role);

void describe(struct world *world, int param, enum role role, struct described *described);
void describe_candidate(struct world *world, int param, struct candidate *candidate);

/* Fills the memory, creates the handle, adds W1 to W3, sets their gradients and steps once. */
void set_up(struct world *world);

/* The handle of the first world behaves as that of the second, which was never misused: after two
   more steps of both all their memory is the same. Ends both. */
void same_as_undisturbed(struct world *world, struct world *undisturbed);

/* From now on `refused` compares this world with what it is now. */
void watch(struct world *world);

/* Sends what the process prints to a file, until `finish` looks at it. */
void start(void);
/* Checks that nothing was printed; returns the exit code of the program. */
int finish(const char *program);

/* Names the row of a table that the next checks belong to, in printf's manner. */
void row(const char *format, ...);

/* The call fails with the status, changes nothing, and the error has each of the texts in it. */
#define refused(call, status, ...)                                                                 \
  check_refused(__LINE__, #call, (call), (status), (const char *const[]){__VA_ARGS__, NULL})
/* The same without looking at the world, for calls that it cannot be seen from. */
#define returns(call, status, ...)                                                                 \
  check_returns(__LINE__, #call, (call), (status), (const char *const[]){__VA_ARGS__, NULL})
/* The call succeeds; the world is watched as it is afterwards. */
#define accepted(call) check_accepted(__LINE__, #call, (call))
#define holds(condition) check_holds(__LINE__, #condition, (condition))

void check_refused(int line, const char *call, adamw_status got, adamw_status expected,
                   const char *const *texts);
void check_returns(int line, const char *call, adamw_status got, adamw_status expected,
                   const char *const *texts);
void check_accepted(int line, const char *call, adamw_status got);
void check_holds(int line, const char *what, bool holds);

#endif
