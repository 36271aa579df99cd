/* A callback that reports an error, gives nonsense, or calls back into its handle fails the call
   that called it, if at all, before anything is written. */
#include "harness.h"
#include <math.h>
#include <string.h>

static struct world world, undisturbed;

/* What a callback does when it is asked about the parameter of this name. */
struct answer {
  const char *name;
  int32_t returned;
  double ratio;
  bool silent; /* writes no ratio */
  int n_asked; /* about any parameter */
};

static int32_t filter(const char *name, void *user_data) {
  struct answer *answer = user_data;
  answer->n_asked++;
  return strcmp(name, answer->name) == 0 ? answer->returned : 0;
}

static int32_t ratio(const adamw_param_info *param, double *out_ratio, void *user_data) {
  struct answer *answer = user_data;
  answer->n_asked++;
  if (strcmp(param->name, answer->name) != 0) {
    *out_ratio = 0.5;
    return 0;
  }
  if (!answer->silent)
    *out_ratio = answer->ratio;
  return answer->returned;
}

static void a_filter_that_fails(void) {
  static const struct {
    int32_t returned;
    const char *text;
  } rows[] = {{-1, "-1"}, {INT32_MIN, "-2147483648"}, {2, "2"}};
  for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
    for (int param = W1; param < NEW; param++) {
      struct answer answer = {.name = param_names[param], .returned = rows[i].returned};
      row("the filter returns %d for %s", (int)rows[i].returned, param_names[param]);
      refused(adamw_set_decay_filter(world.optimizer, filter, &answer), ADAMW_STATUS_CALLBACK,
              param_names[param], rows[i].text);
      holds(answer.n_asked == param + 1);
    }

  row("the filter in place fails for a parameter that is added");
  struct answer answer = {.name = "new", .returned = -5};
  struct candidate candidate;
  describe_candidate(&world, NEW, &candidate);
  accepted(adamw_set_decay_filter(world.optimizer, filter, &answer));
  refused(adamw_add_param(world.optimizer, &candidate.config, &world.outputs.number),
          ADAMW_STATUS_CALLBACK, "new", "-5");
  refused(adamw_add_array(world.optimizer, "new", world.memory[NEW][MASTER], N, ADAMW_DTYPE_F32,
                          &world.outputs.number),
          ADAMW_STATUS_CALLBACK, "new", "-5");
  accepted(adamw_set_decay_filter(world.optimizer, NULL, NULL));
}

static void a_ratio_that_is_none(void) {
  static const struct {
    int32_t returned;
    double ratio;
    bool silent;
    const char *what, *text;
  } rows[] = {
      {1, 1, false, "returns 1", "1"},     {-1, 1, false, "returns -1", "-1"},
      {0, NAN, false, "gives NaN", "nan"}, {0, INFINITY, false, "gives infinity", "inf"},
      {0, -2, false, "gives -2", "-2"},    {0, 0, true, "gives nothing", ""},
  };
  for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
    for (int param = W1; param < NEW; param++) {
      struct answer answer = {param_names[param], rows[i].returned, rows[i].ratio, rows[i].silent,
                              0};
      row("lr_ratio %s for %s", rows[i].what, param_names[param]);
      accepted(adamw_set_lr_ratio(world.optimizer, ratio, &answer));
      refused(adamw_step(world.optimizer), ADAMW_STATUS_CALLBACK, param_names[param], rows[i].text);
      holds(answer.n_asked == param + 1);
    }
  accepted(adamw_set_lr_ratio(world.optimizer, NULL, NULL));
}

/* From inside a callback of this handle, none of its functions do anything, others do all. */
static int n_reentered;

static void reenter(void) {
  for (const struct call *call = every_call; call->name; call++)
    returns(call->call(world.optimizer), ADAMW_STATUS_BUSY, "in use");
  holds(strstr(adamw_last_error(), "in use") != NULL);

  static float weight[N], grad[N];
  adamw_optimizer *other;
  uint32_t number;
  returns(adamw_create(NULL, &other), ADAMW_STATUS_OK, "");
  returns(adamw_add_array(other, "w", weight, N, ADAMW_DTYPE_F32, &number), ADAMW_STATUS_OK, "");
  returns(adamw_set_grad_array(other, number, grad, N, ADAMW_DTYPE_F32), ADAMW_STATUS_OK, "");
  returns(adamw_step(other), ADAMW_STATUS_OK, "");
  returns(adamw_destroy(other), ADAMW_STATUS_OK, "");
  returns(adamw_destroy(other), ADAMW_STATUS_BAD_HANDLE, "");
  n_reentered++;
}

static int32_t reentrant_filter(const char *name, void *user_data) {
  (void)name, (void)user_data;
  reenter();
  return 1;
}

static int32_t reentrant_ratio(const adamw_param_info *param, double *out_ratio, void *user_data) {
  (void)param, (void)user_data;
  reenter();
  *out_ratio = 1;
  return 0;
}

static int32_t reentrant_ratio_that_fails(const adamw_param_info *param, double *out_ratio,
                                          void *user_data) {
  (void)param, (void)out_ratio, (void)user_data;
  reenter();
  return 77;
}

static void a_callback_that_calls_back(void) {
  row("a filter that calls back");
  accepted(adamw_set_decay_filter(world.optimizer, reentrant_filter, NULL));
  holds(n_reentered == NEW);
  accepted(adamw_set_decay_filter(world.optimizer, NULL, NULL));

  row("an lr_ratio that calls back and fails");
  accepted(adamw_set_lr_ratio(world.optimizer, reentrant_ratio_that_fails, NULL));
  refused(adamw_step(world.optimizer), ADAMW_STATUS_CALLBACK, "w1", "77");
  holds(n_reentered == NEW + 1);

  row("an lr_ratio that calls back");
  accepted(adamw_set_lr_ratio(world.optimizer, reentrant_ratio, NULL));
  accepted(adamw_step(world.optimizer));
  holds(n_reentered == 2 * NEW + 1);
  accepted(adamw_step(undisturbed.optimizer));
  accepted(adamw_set_lr_ratio(world.optimizer, NULL, NULL));
}

int main(void) {
  start();
  set_up(&undisturbed);
  set_up(&world);
  watch(&world);
  a_filter_that_fails();
  a_ratio_that_is_none();
  a_callback_that_calls_back();
  same_as_undisturbed(&world, &undisturbed);
  return finish("misuse_callback");
}
