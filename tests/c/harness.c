#define _GNU_SOURCE
#include "harness.h"
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

const char *const role_names[ROLES] = {"param",   "grad",       "master",
                                       "exp_avg", "exp_avg_sq", "max_exp_avg_sq"};
const char *const param_names[PARAMS] = {"w1", "w2", "w3", "new"};

/* All that can be seen of a world from outside. */
struct observed {
  float memory[PARAMS][ROLES][ROOM];
  struct outputs outputs;
  adamw_param_info infos[NEW];
  char names[NEW][8];
  adamw_status beyond; /* of asking for one parameter more than there are */
  adamw_group_config group;
  double lr;
};

static struct world *watched;
static struct observed before;
static char row_text[256] = "";
static int n_checks, n_failures;
static int report; /* where stderr went before `start` */
static FILE *printed;

static void observe(struct world *world, struct observed *seen) {
  memset(seen, 0, sizeof *seen);
  memcpy(seen->memory, world->memory, sizeof seen->memory);
  memcpy(&seen->outputs, &world->outputs, sizeof seen->outputs);
  for (uint32_t param = W1; param < NEW; param++) {
    adamw_param_info *info = &seen->infos[param];
    if (adamw_get_param_info(world->optimizer, param, info, sizeof *info) == ADAMW_STATUS_OK)
      strncpy(seen->names[param], info->name, sizeof seen->names[param] - 1);
  }
  adamw_param_info none;
  seen->beyond = adamw_get_param_info(world->optimizer, NEW, &none, sizeof none);
  adamw_group_config_init(world->optimizer, &seen->group, sizeof seen->group);
  adamw_get_lr(world->optimizer, &seen->lr);
}

void watch(struct world *world) {
  watched = world;
  observe(world, &before);
}

void row(const char *format, ...) {
  va_list values;
  va_start(values, format);
  vsnprintf(row_text, sizeof row_text, format, values);
  va_end(values);
}

static void failed(int line, const char *what, const char *format, ...) {
  va_list values;
  va_start(values, format);
  n_failures++;
  dprintf(report, "line %d, row \"%s\": %s: ", line, row_text, what);
  vdprintf(report, format, values);
  dprintf(report, "\n");
  va_end(values);
}

void check_holds(int line, const char *what, bool holds) {
  n_checks++;
  if (!holds)
    failed(line, what, "does not hold");
}

void check_returns(int line, const char *call, adamw_status got, adamw_status expected,
                   const char *const *texts) {
  char error[1024];
  snprintf(error, sizeof error, "%s", adamw_last_error());
  n_checks++;
  if (got != expected)
    failed(line, call, "expected %s, got %s (%s)", adamw_status_name(expected),
           adamw_status_name(got), got == ADAMW_STATUS_OK ? "" : error);
  else
    for (; got != ADAMW_STATUS_OK && *texts; texts++)
      if (!strcasestr(error, *texts))
        failed(line, call, "the error must contain \"%s\": %s", *texts, error);
}

void check_refused(int line, const char *call, adamw_status got, adamw_status expected,
                   const char *const *texts) {
  struct observed after;
  check_returns(line, call, got, expected, texts);
  observe(watched, &after);
  if (memcmp(&before, &after, sizeof after) != 0) {
    failed(line, call, "a refused call changed something that can be seen");
    before = after;
  }
}

void check_accepted(int line, const char *call, adamw_status got) {
  check_returns(line, call, got, ADAMW_STATUS_OK, (const char *const[]){NULL});
  if (watched)
    observe(watched, &before);
}

/* What the process printed is in a file, so a crash would not even say where. */
static void crashed(int signal_number) {
  dprintf(report, "signal %d after row \"%s\"\n", signal_number, row_text);
  signal(signal_number, SIG_DFL);
  raise(signal_number);
}

void start(void) {
  report = dup(STDERR_FILENO);
  printed = tmpfile();
  if (!printed) {
    dprintf(report, "no temporary file\n");
    exit(1);
  }
  dup2(fileno(printed), STDOUT_FILENO);
  dup2(fileno(printed), STDERR_FILENO);
  signal(SIGABRT, crashed);
#ifndef __SANITIZE_ADDRESS__ /* which has a better handler */
  signal(SIGSEGV, crashed);
  signal(SIGBUS, crashed);
#endif
}

int finish(const char *program) {
  char text[512];
  long n_printed = lseek(fileno(printed), 0, SEEK_END);
  row("at the end");
  holds(n_printed == 0);
  ssize_t n_shown = pread(fileno(printed), text, sizeof text, 0);
  if (n_shown > 0)
    dprintf(report, "the library printed %ld bytes: %.*s\n", n_printed, (int)n_shown, text);
  dup2(report, STDERR_FILENO);
  fclose(printed);
  dprintf(report, "%s: %d checks, %d failures\n", program, n_checks, n_failures);
  return n_failures == 0 ? 0 : 1;
}

static bool is_bf16(int param) { return param == W2 || param == NEW; }

void describe(struct world *world, int param, enum role role, struct described *described) {
  bool half = is_bf16(param) && (role == PARAM || role == GRAD);
  *described = (struct described){
      .tensor = {.data = world->memory[param][role],
                 .device = {1, 0},
                 .ndim = 2,
                 .dtype = {half ? 4 : 2, half ? 16 : 32, 1},
                 .shape = described->shape},
      .shape = {3, 4},
      .strides = {4, 1},
  };
}

void describe_candidate(struct world *world, int param, struct candidate *candidate) {
  for (int role = PARAM; role < ROLES; role++)
    describe(world, param, (enum role)role, &candidate->at[role]);
  candidate->config = (adamw_param_config){
      .struct_size = sizeof candidate->config,
      .name = param_names[param],
      .param = &candidate->at[PARAM].tensor,
      .master = is_bf16(param) ? &candidate->at[MASTER].tensor : NULL,
      .exp_avg = &candidate->at[EXP_AVG].tensor,
      .exp_avg_sq = &candidate->at[EXP_AVG_SQ].tensor,
      .max_exp_avg_sq = &candidate->at[MAX_EXP_AVG_SQ].tensor,
  };
}

static uint16_t bf16(float value) {
  uint32_t bits;
  memcpy(&bits, &value, sizeof bits);
  return (uint16_t)(bits >> 16);
}

static void fill(struct world *world) {
  memset(world, 0, sizeof *world);
  memset(&world->outputs, 0xa5, sizeof world->outputs);
  for (int param = W1; param < PARAMS; param++)
    for (int i = 0; i < N; i++) {
      float value = 0.25f * (float)(i - 5) + (float)param, slope = 0.5f - 0.125f * (float)i;
      if (is_bf16(param)) {
        uint16_t bits[2] = {bf16(value), bf16(slope)};
        memcpy((char *)world->memory[param][PARAM] + 2 * i, &bits[0], 2);
        memcpy((char *)world->memory[param][GRAD] + 2 * i, &bits[1], 2);
        world->memory[param][MASTER][i] = value;
      } else {
        world->memory[param][PARAM][i] = value;
        world->memory[param][GRAD][i] = slope;
      }
    }
}

void set_up(struct world *world) {
  fill(world);
  adamw_config config;
  accepted(adamw_config_init(&config, sizeof config));
  config.amsgrad = config.multi_precision = config.num_threads = 1;
  config.lr = 0.01;
  config.weight_decay = 0.1;
  accepted(adamw_create(&config, &world->optimizer));
  uint32_t number;
  struct candidate w1, w2;
  describe_candidate(world, W1, &w1);
  describe_candidate(world, W2, &w2);
  accepted(adamw_add_param(world->optimizer, &w1.config, &number));
  holds(number == W1);
  accepted(adamw_add_param(world->optimizer, &w2.config, &number));
  holds(number == W2);
  accepted(adamw_add_array(world->optimizer, "w3", world->memory[W3][PARAM], N, ADAMW_DTYPE_F32,
                           &number));
  holds(number == W3);
  for (uint32_t param = W1; param < NEW; param++) {
    struct described grad;
    describe(world, (int)param, GRAD, &grad);
    accepted(adamw_set_grad(world->optimizer, param, &grad.tensor));
  }
  accepted(adamw_step(world->optimizer));
}

void same_as_undisturbed(struct world *world, struct world *undisturbed) {
  row("beside a handle that was never misused");
  watched = NULL;
  for (int step = 0; step < 2; step++) {
    accepted(adamw_step(world->optimizer));
    accepted(adamw_step(undisturbed->optimizer));
  }
  holds(memcmp(world->memory, undisturbed->memory, sizeof world->memory) == 0);
  struct candidate candidate;
  uint32_t number = 0;
  describe_candidate(world, NEW, &candidate);
  accepted(adamw_add_param(world->optimizer, &candidate.config, &number));
  holds(number == NEW);
  accepted(adamw_destroy(world->optimizer));
  accepted(adamw_destroy(undisturbed->optimizer));
}
