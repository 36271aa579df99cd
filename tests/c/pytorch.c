/* The calls that docs/pytorch.md sets beside PyTorch's, in a program that checks what each comes to. */
#include <adamw.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { N = 8 };

static float weights[N], grad[N];
static adamw_optimizer *optimizer;
static uint32_t param;

static void check(adamw_status status) {
  if (status == ADAMW_STATUS_OK) return;
  fprintf(stderr, "%s: %s\n", adamw_status_name(status), adamw_last_error());
  exit(1);
}

static void expect(int is_so, const char *what) {
  if (is_so) return;
  fprintf(stderr, "not so: %s\n", what);
  exit(1);
}

static void fill(float *values, float value) {
  for (int i = 0; i < N; i++) values[i] = value;
}

static void begin(const adamw_config *config) {
  fill(weights, 1);
  fill(grad, 1);
  check(adamw_create(config, &optimizer));
  check(adamw_add_array(optimizer, "weights", weights, N, ADAMW_DTYPE_F32, &param));
  check(adamw_set_grad_array(optimizer, param, grad, N, ADAMW_DTYPE_F32));
}

static void end(void) { check(adamw_destroy(optimizer)); }

/* A gradient of 1, as a backward pass of a loss that is scaled gives it. */
static void backward(double scale) { fill(grad, (float)scale); }

static void construct(void) {
  adamw_config config;
  check(adamw_config_init(&config, sizeof config)); /* lr 1e-3, betas 0.9 and 0.999, eps 1e-8 */
  config.lr = 3e-4;
  config.weight_decay = 0.1; /* 0.01 if it is not set */
  check(adamw_create(&config, &optimizer));
  check(adamw_add_array(optimizer, "weights", weights, N, ADAMW_DTYPE_F32, &param));
  check(adamw_set_grad_array(optimizer, param, grad, N, ADAMW_DTYPE_F32));
  fill(weights, 1);
  fill(grad, 1);
  check(adamw_step(optimizer));
  expect(fabs(weights[0] - (1 - 3e-4 * 1.1)) < 1e-6, "the first step is lr * (1 + weight_decay)");
  end();
}

static void regroup(void) {
  begin(NULL);
  adamw_group_config group;
  check(adamw_get_group(optimizer, 0, &group, sizeof group));
  group.weight_decay = 0.05;
  group.lr_scale = 0.5; /* of the handle's learning rate */
  check(adamw_set_group(optimizer, 0, &group));
  double lr;
  check(adamw_get_param_lr(optimizer, param, &lr));
  expect(lr == 0.5e-3, "the group's learning rate");
  end();
}

static void freeze(void) {
  begin(NULL);
  adamw_param_options options;
  check(adamw_get_param_options(optimizer, param, &options, sizeof options));
  options.frozen = 1;
  check(adamw_set_param_options(optimizer, param, &options));
  check(adamw_step(optimizer));
  expect(weights[0] == 1, "a frozen parameter stays");
  end();
}

static void clip(void) {
  adamw_config config;
  check(adamw_config_init(&config, sizeof config));
  config.clip = ADAMW_CLIP_VALUE;
  config.clip_min = -0.5, config.clip_max = 0.5;
  begin(&config);
  check(adamw_step(optimizer));
  float exp_avg[N];
  check(adamw_get_state(optimizer, "state.weights.exp_avg", exp_avg, N, ADAMW_DTYPE_F32));
  expect(fabs(exp_avg[0] - 0.05) < 1e-7, "the gradient was 0.5");
  expect(grad[0] == 1, "it was not rewritten");
  end();
}

static void scale_loss(void) {
  begin(NULL);
  const adamw_loss_scaler scaler = {.struct_size = sizeof scaler}; /* GradScaler's defaults */
  check(adamw_set_loss_scaler(optimizer, &scaler));
  for (int step = 0; step < 2; step++) {
    double scale;
    check(adamw_get_grad_scale(optimizer, &scale));
    backward(scale); /* of the loss times scale */
    if (step == 1) grad[0] = INFINITY;
    check(adamw_step(optimizer)); /* unscales, looks for inf and NaN, skips, adapts the scale */
  }
  double scale;
  adamw_step_info info;
  check(adamw_get_step_info(optimizer, &info, sizeof info));
  check(adamw_get_grad_scale(optimizer, &scale));
  expect(info.skipped && info.n_nonfinite == 1 && scale == 32768, "the second step is skipped, the scale halved");
  expect(fabs(weights[0] - (1 - 1e-3 * 1.01)) < 1e-6, "the first step had a gradient of 1");
  end();
}

static double evaluate(void) { return 1; }

static void plateau(void) {
  begin(NULL);
  const adamw_schedule schedule = {
      .struct_size = sizeof schedule,
      .kind = ADAMW_SCHEDULE_REDUCE_ON_PLATEAU,
      .lr = 0.01,
      .factor = 0.1,
      .patience = 1,
      .threshold = 1e-4,
  };
  check(adamw_set_lr_schedule(optimizer, &schedule));
  for (int epoch = 0; epoch < 3; epoch++)
    check(adamw_schedule_advance_with_metric(optimizer, evaluate())); /* scheduler.step(loss) */
  double lr;
  check(adamw_get_lr(optimizer, &lr));
  expect(fabs(lr - 0.001) < 1e-12, "two bad epochs, one more than patience");
  end();
}

static void see_state(void) {
  begin(NULL);
  check(adamw_step(optimizer));
  adamw_state_info state;
  check(adamw_get_state_info(optimizer, param, ADAMW_BUFFER_EXP_AVG, &state, sizeof state));
  float *exp_avg = state.data; /* [state.n_elements], no copy */
  exp_avg[0] *= 0.5f;

  double steps;
  check(adamw_get_state(optimizer, "state.weights.step", &steps, 1, ADAMW_DTYPE_F64));
  expect(steps == 1 && fabs(exp_avg[0] - 0.05) < 1e-7 && fabs(exp_avg[1] - 0.1) < 1e-7, "state after one step");
  end();
}

static void clear(void) {
  begin(NULL);
  check(adamw_clear_grad(optimizer, ADAMW_CLEAR_ZERO));   /* set_to_none=False */
  check(adamw_clear_grad(optimizer, ADAMW_CLEAR_FORGET)); /* set_to_none=True, PyTorch's default */
  check(adamw_step(optimizer));
  expect(grad[0] == 0 && weights[0] == 1, "zeros were written, and nothing is stepped without a gradient");
  end();
}

static void step_in_backward(void) {
  begin(NULL);
  check(adamw_step_param(optimizer, param)); /* in the hook; the gradient's memory is free again */
  expect(weights[0] < 1, "it was stepped");
  end();
}

static int32_t closure(double *out_loss, void *user_data) {
  (void)user_data;
  *out_loss = weights[0];
  backward(1);
  return 0;
}

static void closure_step(void) {
  begin(NULL);
  double loss;
  const adamw_minimize_args args = {.struct_size = sizeof args, .closure = closure};
  check(adamw_minimize(optimizer, &args, &loss, NULL));
  expect(loss == 1 && weights[0] < 1, "the loss is that before the step");
  end();
}

int main(void) {
  construct();
  regroup();
  freeze();
  clip();
  scale_loss();
  plateau();
  see_state();
  clear();
  step_in_backward();
  closure_step();
  return 0;
}
