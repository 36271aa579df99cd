/* Whatever is passed as a handle or as a pointer, the call comes back with a status; two threads on
   one handle are served one after the other, or refused. */
#include "harness.h"
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

static struct world world, undisturbed;

/* None of the functions takes this handle. */
static void is_no_handle(const char *what, void *handle) {
  for (const struct call *call = every_call; call->name; call++) {
    row("%s(%s)", call->name, what);
    if (call->call == adamw_destroy && !handle)
      accepted(adamw_destroy(NULL));
    else
      refused(call->call(handle), ADAMW_STATUS_BAD_HANDLE, handle ? "handle" : "");
  }
  row("adamw_step_work(%s)", what);
  refused(adamw_step_work(handle), ADAMW_STATUS_BAD_HANDLE, handle ? "handle" : "");
}

static void handles_that_are_none(void) {
  uint64_t zeros[16] = {0};
  char *heap = calloc(1, 4096);
  is_no_handle("NULL", NULL);
  is_no_handle("a pointer to zeros on the stack", zeros);
  is_no_handle("a heap pointer", heap);
  is_no_handle("an odd heap pointer", heap + 1);
  is_no_handle("a pointer into the program", (void *)every_call);
  is_no_handle("(void *)-1", (void *)UINTPTR_MAX);
  is_no_handle("the address of the handle", &world.optimizer);
  for (uintptr_t small = 1; small <= 16; small++) { /* a live handle is no such number */
    row("the number %d", (int)small);
    refused(adamw_set_lr((adamw_optimizer *)small, 0.5), ADAMW_STATUS_BAD_HANDLE, "handle");
    refused(adamw_destroy((adamw_optimizer *)small), ADAMW_STATUS_BAD_HANDLE, "handle");
  }
  for (int bit = 0; bit < 64; bit++) {
    uintptr_t bits = (uintptr_t)world.optimizer ^ (uintptr_t)1 << bit;
    if (bits == (uintptr_t)undisturbed.optimizer)
      continue;
    row("the handle with bit %d flipped", bit);
    refused(adamw_set_lr((adamw_optimizer *)bits, 0.5), ADAMW_STATUS_BAD_HANDLE, "");
  }
  free(heap);
}

/* A destroyed handle stays one, however often its place has been used since. */
static void handles_that_were_destroyed(void) {
  enum { LIVE = 200, ROUNDS = 2000 };
  static adamw_optimizer *live[LIVE];
  adamw_optimizer *stale, *other;
  row("stale handles");
  accepted(adamw_create(NULL, &stale));
  accepted(adamw_destroy(stale));
  is_no_handle("a destroyed handle", stale);
  for (int i = 0; i < ROUNDS; i++) {
    accepted(adamw_create(NULL, &other));
    holds(other != stale);
    accepted(adamw_destroy(other));
    refused(adamw_destroy(other), ADAMW_STATUS_BAD_HANDLE, "handle");
  }
  for (int i = 0; i < LIVE; i++)
    accepted(adamw_create(NULL, &live[i]));
  is_no_handle("a destroyed handle among many live ones", stale);
  for (int i = 0; i < LIVE; i++)
    accepted(adamw_destroy(live[i]));
}

static void pointers_that_are_null(void) {
  adamw_optimizer *optimizer = world.optimizer;
  struct outputs *out = &world.outputs;
  struct candidate candidate;
  struct described grad;
  adamw_group_config group;
  describe_candidate(&world, NEW, &candidate);
  describe(&world, NEW, GRAD, &grad);
  adamw_group_config_init(optimizer, &group, sizeof group);
  const uint32_t params[1] = {W2};
  const adamw_buffer buffers[1] = {ADAMW_BUFFER_PARAM};
  const adamw_tensor *const tensors[1] = {&grad.tensor}, *const null_tensors[1] = {NULL};

  row("pointers that are NULL");
  refused(adamw_create(NULL, NULL), ADAMW_STATUS_INVALID_ARGUMENT, "out_optimizer", "NULL");
  refused(adamw_add_group(optimizer, NULL, &out->number), ADAMW_STATUS_INVALID_ARGUMENT, "group",
          "NULL");
  refused(adamw_add_group(optimizer, &group, NULL), ADAMW_STATUS_INVALID_ARGUMENT, "out_group",
          "NULL");
  refused(adamw_add_param(optimizer, NULL, &out->number), ADAMW_STATUS_INVALID_ARGUMENT, "param",
          "NULL");
  refused(adamw_add_param(optimizer, &candidate.config, NULL), ADAMW_STATUS_INVALID_ARGUMENT,
          "out_param", "NULL");
  candidate.config.param = NULL;
  refused(adamw_add_param(optimizer, &candidate.config, &out->number),
          ADAMW_STATUS_INVALID_ARGUMENT, "new", "param", "NULL");
  refused(adamw_add_array(optimizer, "new", world.memory[NEW][PARAM], N, ADAMW_DTYPE_F32, NULL),
          ADAMW_STATUS_INVALID_ARGUMENT, "out_param", "NULL");
  refused(adamw_rebind(optimizer, NULL, buffers, tensors, 1), ADAMW_STATUS_INVALID_ARGUMENT,
          "params", "NULL");
  refused(adamw_rebind(optimizer, params, NULL, tensors, 1), ADAMW_STATUS_INVALID_ARGUMENT,
          "buffers", "NULL");
  refused(adamw_rebind(optimizer, params, buffers, NULL, 1), ADAMW_STATUS_INVALID_ARGUMENT,
          "tensors", "NULL");
  refused(adamw_rebind(optimizer, NULL, NULL, NULL, SIZE_MAX), ADAMW_STATUS_INVALID_ARGUMENT,
          "NULL");
  refused(adamw_set_grads(optimizer, NULL, tensors, 1), ADAMW_STATUS_INVALID_ARGUMENT, "params",
          "NULL");
  refused(adamw_set_grads(optimizer, params, NULL, 1), ADAMW_STATUS_INVALID_ARGUMENT, "grads",
          "NULL");
  refused(adamw_set_grads(optimizer, NULL, NULL, SIZE_MAX), ADAMW_STATUS_INVALID_ARGUMENT, "NULL");
  refused(adamw_get_lr(optimizer, NULL), ADAMW_STATUS_INVALID_ARGUMENT, "out_lr", "NULL");
  refused(adamw_set_grad_data(optimizer, params, NULL, 1), ADAMW_STATUS_INVALID_ARGUMENT, "data");
  refused(adamw_set_steps(optimizer, params, NULL, 1), ADAMW_STATUS_INVALID_ARGUMENT, "steps");
  refused(adamw_get_steps(optimizer, params, NULL, 1), ADAMW_STATUS_INVALID_ARGUMENT, "out_steps");

  row("pointers that may be NULL");
  accepted(adamw_rebind(optimizer, NULL, NULL, NULL, 0));
  accepted(adamw_set_grads(optimizer, NULL, NULL, 0));
  accepted(adamw_set_grad_data(optimizer, NULL, NULL, 0));
  accepted(adamw_set_decay_filter(optimizer, NULL, NULL));
  accepted(adamw_set_lr_ratio(optimizer, NULL, NULL));
  accepted(adamw_set_all_reduce(optimizer, NULL, NULL));
  accepted(adamw_set_next_piece(optimizer, 0, NULL, NULL));

  row("a NULL buffer parks");
  struct described param;
  describe(&world, W2, PARAM, &param);
  const adamw_tensor *const param_again[1] = {&param.tensor};
  accepted(adamw_rebind(optimizer, params, buffers, null_tensors, 1));
  refused(adamw_set_grad(optimizer, W2, &grad.tensor), ADAMW_STATUS_INVALID_ARGUMENT, "w2",
          "adamw_rebind");
  accepted(adamw_rebind(optimizer, params, buffers, param_again, 1));
  describe(&world, W2, GRAD, &grad);
  accepted(adamw_set_grad(optimizer, W2, &grad.tensor));

  row("a NULL gradient forgets");
  adamw_param_info info[2];
  describe(&world, W2, GRAD, &grad);
  accepted(adamw_set_grads(undisturbed.optimizer, params, null_tensors, 1));
  accepted(adamw_set_grad(optimizer, W2, NULL));
  accepted(adamw_get_param_info(optimizer, W2, &info[0], sizeof info[0]));
  accepted(adamw_step(undisturbed.optimizer));
  accepted(adamw_step(optimizer));
  accepted(adamw_get_param_info(optimizer, W2, &info[1], sizeof info[1]));
  holds(info[0].step == info[1].step);
  accepted(adamw_set_grad(optimizer, W2, &grad.tensor));
  describe(&undisturbed, W2, GRAD, &grad);
  accepted(adamw_set_grad(undisturbed.optimizer, W2, &grad.tensor));
}

/* What one thread saw. */
struct tally {
  adamw_optimizer *optimizer;
  uint64_t n_steps, n_other; /* taken; neither OK nor BUSY */
};
enum { CALLS = 20000 };

static void *hammer(void *data) {
  struct tally *tally = data;
  for (int i = 0; i < CALLS; i++) {
    double lr;
    bool steps = i % 2 == 0;
    adamw_status status = steps        ? adamw_step(tally->optimizer)
                          : i % 4 == 1 ? adamw_get_lr(tally->optimizer, &lr)
                                       : adamw_set_lr(tally->optimizer, 0.01);
    tally->n_steps += status == ADAMW_STATUS_OK && steps;
    tally->n_other += status != ADAMW_STATUS_OK && status != ADAMW_STATUS_BUSY;
  }
  return NULL;
}

static void two_threads_on_one_handle_take_turns(void) {
  struct tally tallies[2] = {{world.optimizer, 0, 0}, {world.optimizer, 0, 0}};
  pthread_t thread;
  adamw_param_info info;
  row("two threads");
  holds(pthread_create(&thread, NULL, hammer, &tallies[1]) == 0);
  hammer(&tallies[0]);
  pthread_join(thread, NULL);
  holds(tallies[0].n_other == 0 && tallies[1].n_other == 0);
  uint64_t n_steps = tallies[0].n_steps + tallies[1].n_steps;
  accepted(adamw_get_param_info(undisturbed.optimizer, W1, &info, sizeof info));
  uint64_t n_before = info.step;
  accepted(adamw_get_param_info(world.optimizer, W1, &info, sizeof info));
  holds(n_steps > 0 && info.step == n_before + n_steps);
  for (uint64_t i = 0; i < n_steps; i++)
    accepted(adamw_step(undisturbed.optimizer));
}

static _Atomic(adamw_optimizer *) prey;
static atomic_int n_destroyed;

static void *destroy(void *unused) {
  (void)unused;
  adamw_status status;
  while ((status = adamw_destroy(atomic_load(&prey))) == ADAMW_STATUS_BUSY) {
  }
  if (status != ADAMW_STATUS_BAD_HANDLE)
    atomic_fetch_add(&n_destroyed, status == ADAMW_STATUS_OK ? 1 : 1000);
  return NULL;
}

static void two_threads_destroy_a_handle_once(void) {
  enum { ROUNDS = 500 };
  for (int i = 0; i < ROUNDS; i++) {
    adamw_optimizer *optimizer;
    pthread_t thread;
    row("two threads destroy, round %d", i);
    accepted(adamw_create(NULL, &optimizer));
    atomic_store(&prey, optimizer);
    atomic_store(&n_destroyed, 0);
    holds(pthread_create(&thread, NULL, destroy, NULL) == 0);
    destroy(NULL);
    pthread_join(thread, NULL);
    holds(atomic_load(&n_destroyed) == 1);
  }
}

static void *fails_on_its_own_thread(void *result) {
  bool *right = result;
  right[0] = strcmp(adamw_last_error(), "") == 0;
  right[1] = adamw_set_lr(world.optimizer, -2) == ADAMW_STATUS_INVALID_ARGUMENT;
  right[2] = strstr(adamw_last_error(), "-2") != NULL;
  return NULL;
}

static void each_thread_has_its_own_last_error(void) {
  bool right[3] = {false, false, false};
  pthread_t thread;
  row("the last error of two threads");
  refused(adamw_set_lr(world.optimizer, -1), ADAMW_STATUS_INVALID_ARGUMENT, "-1");
  returns(adamw_set_lr(world.optimizer, -1), ADAMW_STATUS_INVALID_ARGUMENT, "-1");
  holds(pthread_create(&thread, NULL, fails_on_its_own_thread, right) == 0);
  pthread_join(thread, NULL);
  holds(strstr(adamw_last_error(), "-1") != NULL);
  holds(right[0] && right[1] && right[2]);
}

int main(void) {
  start();
  set_up(&undisturbed);
  set_up(&world);
  watch(&world);
  handles_that_are_none();
  handles_that_were_destroyed();
  pointers_that_are_null();
  each_thread_has_its_own_last_error();
  two_threads_destroy_a_handle_once();
  two_threads_on_one_handle_take_turns();
  same_as_undisturbed(&world, &undisturbed);
  return finish("misuse_handle");
}
