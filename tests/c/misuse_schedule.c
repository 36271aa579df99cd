/* A schedule outside its domain is refused with the field and the value, and changes nothing; a
   function that fails does so before anything is written; a step with a schedule is as any other. */
#include "harness.h"
#include <math.h>
#include <string.h>

static struct world world, undisturbed;

static adamw_schedule of_kind(adamw_schedule_kind kind) {
  adamw_schedule schedule;
  memset(&schedule, 0, sizeof schedule);
  schedule.struct_size = sizeof schedule;
  schedule.kind = kind;
  return schedule;
}

static int32_t gives_half(uint64_t index, double *out_value, void *user_data) {
  (void)index, (void)user_data;
  *out_value = 0.5;
  return 0;
}

static const uint64_t boundaries[] = {3, 6};
static const double values[] = {0.1, 0.2, 0.3};

/* Gives every field that any kind uses a value that all of them take. */
static adamw_schedule good(adamw_schedule_kind kind) {
  static adamw_schedule inner[3];
  static const adamw_schedule *const inners[3] = {&inner[0], &inner[1], &inner[2]};
  adamw_schedule schedule = of_kind(kind);
  schedule.lr = 0.2;
  schedule.start_lr = 0.1;
  schedule.end_lr = 0.15;
  schedule.max_lr = 1;
  schedule.gamma = schedule.factor = 0.5;
  schedule.d_model = 64;
  schedule.warmup_steps = schedule.decay_steps = schedule.steps_up = 4;
  schedule.total_steps = 20;
  schedule.period = 5;
  schedule.boundaries = boundaries;
  schedule.n_boundaries = 2;
  schedule.values = values;
  schedule.n_values = 3;
  schedule.schedules = inners;
  schedule.n_schedules = kind == ADAMW_SCHEDULE_CHAIN ? 3 : kind == ADAMW_SCHEDULE_LINEAR_WARMUP;
  schedule.function = gives_half;
  for (int i = 0; i < 3; i++) {
    inner[i] = of_kind(ADAMW_SCHEDULE_CONSTANT_WITH_WARMUP);
    inner[i].lr = 0.1;
  }
  return schedule;
}

static void fields_of_all_kinds(void) {
  double lrs[4] = {-1, -1, -1, -1};
  for (adamw_schedule_kind kind = 1; kind <= ADAMW_SCHEDULE_FUNCTION; kind++) {
    row("a good schedule of kind %d", (int)kind);
    const adamw_schedule schedule = good(kind);
    accepted(adamw_set_lr_schedule(world.optimizer, &schedule));
    accepted(adamw_set_lr_schedule(world.optimizer, NULL));
  }
  row("kinds that are none");
  adamw_schedule schedule = good(0);
  refused(adamw_set_lr_schedule(world.optimizer, &schedule), ADAMW_STATUS_INVALID_ARGUMENT,
          "schedule.kind is 0");
  schedule.kind = ADAMW_SCHEDULE_FUNCTION + 1;
  refused(adamw_set_lr_schedule(world.optimizer, &schedule), ADAMW_STATUS_INVALID_ARGUMENT,
          "schedule.kind is 25");
  refused(adamw_schedule_trace(&schedule, lrs, 4), ADAMW_STATUS_INVALID_ARGUMENT, "kind");
  refused(adamw_schedule_trace(NULL, lrs, 4), ADAMW_STATUS_INVALID_ARGUMENT, "schedule is NULL");
  schedule.kind = ADAMW_SCHEDULE_STEP;
  refused(adamw_schedule_trace(&schedule, NULL, 4), ADAMW_STATUS_INVALID_ARGUMENT, "out_lrs");
  refused(adamw_schedule_trace(&schedule, lrs, SIZE_MAX / 4), ADAMW_STATUS_OUT_OF_MEMORY,
          "the learning rates");
  schedule.kind = ADAMW_SCHEDULE_REDUCE_ON_PLATEAU;
  for (schedule.warmup_steps = 0; schedule.warmup_steps < 3; schedule.warmup_steps++)
    refused(adamw_schedule_trace(&schedule, lrs, 4), ADAMW_STATUS_INVALID_ARGUMENT, "metric");
  holds(lrs[0] == -1 && lrs[3] == -1);

  static const struct {
    const char *field;
    size_t offset;
  } flags[] = {
      {"advance", offsetof(adamw_schedule, advance)},
      {"cyclic_mode", offsetof(adamw_schedule, cyclic_mode)},
      {"cycle", offsetof(adamw_schedule, cycle)},
      {"linear_anneal", offsetof(adamw_schedule, linear_anneal)},
      {"three_phase", offsetof(adamw_schedule, three_phase)},
      {"maximize_metric", offsetof(adamw_schedule, maximize_metric)},
      {"threshold_is_absolute", offsetof(adamw_schedule, threshold_is_absolute)},
  };
  for (size_t i = 0; i < sizeof flags / sizeof flags[0]; i++) {
    row("schedule.%s = 3", flags[i].field);
    schedule = good(ADAMW_SCHEDULE_STEP);
    memcpy((char *)&schedule + flags[i].offset, &(uint32_t){3}, sizeof(uint32_t));
    refused(adamw_set_lr_schedule(world.optimizer, &schedule), ADAMW_STATUS_INVALID_ARGUMENT,
            flags[i].field, "3");
  }
}

#define REAL(kind, field, value, text)                                                             \
  {ADAMW_SCHEDULE_##kind, #field, offsetof(adamw_schedule, field), false, {.real = value}, text}
#define WHOLE(kind, field, value, text)                                                            \
  {ADAMW_SCHEDULE_##kind, #field, offsetof(adamw_schedule, field), true, {.whole = value}, text}
#define MANY ((UINT64_C(1) << 53) + 2)

static void fields_outside_their_domain(void) {
  static const struct {
    adamw_schedule_kind kind;
    const char *field;
    size_t offset;
    bool is_whole;
    union {
      double real;
      uint64_t whole;
    } value;
    const char *text;
  } rows[] = {
      REAL(NOAM, lr, -1, "-1"),
      WHOLE(NOAM, d_model, 0, "0"),
      WHOLE(NOAM, warmup_steps, 0, "0"),
      WHOLE(NOAM, warmup_steps, MANY, "2^53"),
      WHOLE(PIECEWISE, n_boundaries, 0, "0"),
      WHOLE(PIECEWISE, n_boundaries, 1, "expected 2"),
      WHOLE(PIECEWISE, n_values, 2, "2"),
      WHOLE(PIECEWISE, n_values, 0, "0"),
      REAL(NATURAL_EXP, lr, NAN, "NaN"),
      REAL(NATURAL_EXP, gamma, 0, "is 0,"),
      REAL(NATURAL_EXP, gamma, INFINITY, "inf"),
      REAL(INVERSE_TIME, lr, INFINITY, "inf"),
      REAL(INVERSE_TIME, gamma, -0.5, "-0.5"),
      REAL(POLYNOMIAL, lr, -1, "-1"),
      REAL(POLYNOMIAL, end_lr, -1, "-1"),
      REAL(POLYNOMIAL, power, -1, "-1"),
      WHOLE(POLYNOMIAL, total_steps, 0, "0"),
      REAL(LINEAR_WARMUP, lr, -1, "-1"),
      REAL(LINEAR_WARMUP, start_lr, -1, "-1"),
      REAL(LINEAR_WARMUP, end_lr, NAN, "NaN"),
      REAL(LINEAR_WARMUP, end_lr, 0.1, "start_lr"),
      WHOLE(LINEAR_WARMUP, warmup_steps, 0, "0"),
      WHOLE(LINEAR_WARMUP, n_schedules, 2, "2"),
      REAL(EXPONENTIAL, lr, -1, "-1"),
      REAL(EXPONENTIAL, gamma, 0, "is 0,"),
      REAL(EXPONENTIAL, gamma, 1, "1"),
      REAL(MULTI_STEP, lr, -1, "-1"),
      REAL(MULTI_STEP, gamma, 1, "1"),
      WHOLE(MULTI_STEP, n_boundaries, 0, "0"),
      REAL(STEP, lr, -1, "-1"),
      REAL(STEP, gamma, -0.5, "-0.5"),
      WHOLE(STEP, period, 0, "0"),
      REAL(LAMBDA, lr, -1, "-1"),
      REAL(REDUCE_ON_PLATEAU, lr, -1, "-1"),
      REAL(REDUCE_ON_PLATEAU, min_lr, -1, "-1"),
      REAL(REDUCE_ON_PLATEAU, factor, 1, "1"),
      REAL(REDUCE_ON_PLATEAU, threshold, -1, "-1"),
      REAL(REDUCE_ON_PLATEAU, epsilon, NAN, "NaN"),
      REAL(COSINE_ANNEALING, lr, -1, "-1"),
      REAL(COSINE_ANNEALING, min_lr, NAN, "NaN"),
      WHOLE(COSINE_ANNEALING, period, 0, "0"),
      REAL(MULTIPLICATIVE, lr, -1, "-1"),
      REAL(ONE_CYCLE, max_lr, -1, "-1"),
      REAL(ONE_CYCLE, end_lr, -1, "-1"),
      REAL(ONE_CYCLE, divide_factor, -1, "-1"),
      REAL(ONE_CYCLE, phase_fraction, 1.5, "1.5"),
      REAL(ONE_CYCLE, phase_fraction, -0.5, "-0.5"),
      WHOLE(ONE_CYCLE, total_steps, 0, "0"),
      WHOLE(ONE_CYCLE, total_steps, 3, "more than 1"),
      REAL(CYCLIC, lr, -1, "-1"),
      REAL(CYCLIC, max_lr, -1, "-1"),
      WHOLE(CYCLIC, steps_up, 0, "0"),
      WHOLE(CYCLIC, steps_down, MANY, "2^53"),
      REAL(LINEAR, lr, -1, "-1"),
      REAL(LINEAR, start_factor, 1.5, "1.5"),
      REAL(LINEAR, end_factor, -0.5, "-0.5"),
      WHOLE(LINEAR, total_steps, 0, "0"),
      REAL(COSINE_WARM_RESTARTS, lr, -1, "-1"),
      WHOLE(COSINE_WARM_RESTARTS, period, 0, "0"),
      REAL(CONSTANT_WITH_WARMUP, lr, -1, "-1"),
      REAL(CONSTANT_WITH_WARMUP, start_lr, -1, "-1"),
      WHOLE(CONSTANT_WITH_WARMUP, warmup_steps, MANY, "2^53"),
      REAL(LINEAR_WITH_WARMUP, min_lr, -1, "-1"),
      WHOLE(LINEAR_WITH_WARMUP, total_steps, 4, "4"),
      WHOLE(COSINE_WITH_WARMUP, total_steps, 0, "0"),
      WHOLE(INVERSE_SQRT, warmup_steps, 0, "0"),
      WHOLE(WARMUP_STABLE_DECAY, decay_steps, 0, "0"),
      WHOLE(WARMUP_STABLE_DECAY, total_steps, 7, "decay_steps"),
      WHOLE(CHAIN, n_boundaries, 0, "0"),
      WHOLE(CHAIN, n_schedules, 2, "expected 3"),
      WHOLE(LAMBDA, function, 0, "NULL"),
      WHOLE(MULTIPLICATIVE, function, 0, "NULL"),
      WHOLE(FUNCTION, function, 0, "NULL"),
      WHOLE(PIECEWISE, boundaries, 0, "NULL"),
      WHOLE(PIECEWISE, values, 0, "NULL"),
      WHOLE(CHAIN, schedules, 0, "NULL"),
  };
  for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
    row("schedule.%s, row %d", rows[i].field, (int)i);
    adamw_schedule schedule = good(rows[i].kind);
    memcpy((char *)&schedule + rows[i].offset, &rows[i].value, 8);
    const char *field = strcmp(rows[i].text, "expected 2") == 0 ? "n_values" : rows[i].field;
    refused(adamw_set_lr_schedule(world.optimizer, &schedule), ADAMW_STATUS_INVALID_ARGUMENT,
            field, rows[i].text);
  }
  row("three phases in more than half of the steps");
  adamw_schedule schedule = good(ADAMW_SCHEDULE_ONE_CYCLE);
  schedule.three_phase = 1;
  schedule.phase_fraction = 0.5;
  refused(adamw_set_lr_schedule(world.optimizer, &schedule), ADAMW_STATUS_INVALID_ARGUMENT,
          "phase_fraction", "0.5");
}

static void arrays_and_inner_schedules(void) {
  row("boundaries that do not increase");
  adamw_schedule schedule = good(ADAMW_SCHEDULE_MULTI_STEP);
  schedule.boundaries = (const uint64_t[]){6, 6};
  refused(adamw_set_lr_schedule(world.optimizer, &schedule), ADAMW_STATUS_INVALID_ARGUMENT,
          "boundaries", "6");
  schedule.boundaries = (const uint64_t[]){0, 6};
  refused(adamw_set_lr_schedule(world.optimizer, &schedule), ADAMW_STATUS_INVALID_ARGUMENT,
          "boundaries", "0");

  row("a value that is no learning rate");
  schedule = good(ADAMW_SCHEDULE_PIECEWISE);
  schedule.values = (const double[]){0.1, NAN, 0.1};
  refused(adamw_set_lr_schedule(world.optimizer, &schedule), ADAMW_STATUS_INVALID_ARGUMENT,
          "values", "NaN");

  row("a schedule that contains itself");
  schedule = good(ADAMW_SCHEDULE_LINEAR_WARMUP);
  const adamw_schedule *const itself = &schedule;
  schedule.schedules = &itself;
  refused(adamw_set_lr_schedule(world.optimizer, &schedule), ADAMW_STATUS_INVALID_ARGUMENT,
          "8 deep");

  row("inner schedules that cannot be one");
  adamw_schedule inner = good(ADAMW_SCHEDULE_REDUCE_ON_PLATEAU);
  const adamw_schedule *inner_pointer = &inner;
  schedule.schedules = &inner_pointer;
  refused(adamw_set_lr_schedule(world.optimizer, &schedule), ADAMW_STATUS_INVALID_ARGUMENT,
          "REDUCE_ON_PLATEAU");
  inner = good(ADAMW_SCHEDULE_STEP);
  inner.period = 0;
  refused(adamw_set_lr_schedule(world.optimizer, &schedule), ADAMW_STATUS_INVALID_ARGUMENT,
          "period");
  inner_pointer = NULL;
  refused(adamw_set_lr_schedule(world.optimizer, &schedule), ADAMW_STATUS_INVALID_ARGUMENT,
          "schedule is NULL");
}

static int32_t fails_at_first(uint64_t index, double *out_value, void *user_data) {
  (void)index, (void)user_data;
  *out_value = 0.5;
  return 42;
}

static int n_reentered;

static int32_t reenters(uint64_t index, double *out_value, void *user_data) {
  (void)index, (void)user_data;
  for (const struct call *call = every_call; call->name; call++)
    returns(call->call(world.optimizer), ADAMW_STATUS_BUSY, "in use");
  n_reentered++;
  *out_value = NAN;
  return 0;
}

static void calls_in_the_wrong_place(void) {
  const adamw_schedule_state state = {.struct_size = sizeof state, .lr = 1};
  row("a handle without a schedule");
  refused(adamw_schedule_advance(world.optimizer), ADAMW_STATUS_NOT_FOUND, "schedule");
  refused(adamw_schedule_advance_with_metric(world.optimizer, 1), ADAMW_STATUS_NOT_FOUND,
          "schedule");
  adamw_schedule_state out = {.lr = -1};
  refused(adamw_get_schedule_state(world.optimizer, &out, sizeof out), ADAMW_STATUS_NOT_FOUND,
          "schedule");
  refused(adamw_set_schedule_state(world.optimizer, &state), ADAMW_STATUS_NOT_FOUND, "schedule");

  row("functions that fail at once");
  adamw_schedule schedule = good(ADAMW_SCHEDULE_FUNCTION);
  schedule.function = fails_at_first;
  refused(adamw_set_lr_schedule(world.optimizer, &schedule), ADAMW_STATUS_CALLBACK, "42",
          "index 0");
  schedule.function = reenters;
  refused(adamw_set_lr_schedule(world.optimizer, &schedule), ADAMW_STATUS_CALLBACK, "NaN",
          "index 0");
  holds(n_reentered == 1);

  row("a handle with a schedule");
  double lr;
  accepted(adamw_get_lr(world.optimizer, &lr));
  schedule = good(ADAMW_SCHEDULE_EXPONENTIAL);
  accepted(adamw_set_lr_schedule(world.optimizer, &schedule));
  refused(adamw_set_lr(world.optimizer, 1), ADAMW_STATUS_LR_CONFLICT, "schedule");
  refused(adamw_schedule_advance(world.optimizer), ADAMW_STATUS_INVALID_ARGUMENT, "every step");
  refused(adamw_get_schedule_state(world.optimizer, NULL, sizeof out),
          ADAMW_STATUS_INVALID_ARGUMENT, "NULL");
  refused(adamw_get_schedule_state(world.optimizer, &out, 9), ADAMW_STATUS_INVALID_ARGUMENT, "9");
  refused(adamw_set_schedule_state(world.optimizer, NULL), ADAMW_STATUS_INVALID_ARGUMENT, "NULL");
  holds(out.lr == -1);
  accepted(adamw_set_lr_schedule(world.optimizer, NULL));
  accepted(adamw_set_lr(world.optimizer, lr));
}

int main(void) {
  start();
  set_up(&undisturbed);
  set_up(&world);
  double lr;
  adamw_get_lr(world.optimizer, &lr);
  watch(&world);
  fields_of_all_kinds();
  accepted(adamw_set_lr(world.optimizer, lr));
  fields_outside_their_domain();
  arrays_and_inner_schedules();
  calls_in_the_wrong_place();
  same_as_undisturbed(&world, &undisturbed);
  return finish("misuse_schedule");
}
