/* Memory that a step writes belongs to one buffer alone, and only the host's buffers move. */
#include "harness.h"
#include <string.h>

static struct world world, undisturbed;

/* Two tensors where one begins in the other, at its start, its middle and its last element. */
static char *inside(void *memory, size_t bytes, int where) {
  return (char *)memory + (where == 0 ? 0 : where == 1 ? bytes / 2 : bytes - 4);
}

static size_t bytes_of(int param, int role) {
  bool half = (param == W2 || param == NEW) && (role == PARAM || role == GRAD);
  return half ? 2 * N : 4 * N;
}

static bool is_written(int param, int role) {
  return role != GRAD && (role != MASTER || param == W2 || param == NEW) &&
         (param != W3 || role == PARAM);
}

static void memory_that_a_step_writes_has_one_owner(void) {
  for (int a = PARAM; a < ROLES; a++)
    for (int b = PARAM; b < ROLES; b++)
      for (int where = 0; where < 3; where++) {
        if (a == b || a == GRAD || b == GRAD)
          continue;
        struct described second;
        describe(&world, NEW, (enum role)b, &second);
        second.tensor.data = inside(world.memory[NEW][a], bytes_of(NEW, a), where);
        row("adamw_add_param: %s in %s of the same parameter, %d", role_names[b], role_names[a],
            where);
        refused(ways[ADD].offer(&world, (enum role)b, &second.tensor),
                ADAMW_STATUS_INVALID_ARGUMENT, "new", "overlap", role_names[a], role_names[b]);
      }
  for (int w = 0; w < WAYS; w++)
    for (int role = PARAM; role < ROLES; role++)
      for (int owner = W1; owner <= W3; owner++)
        for (int owned = PARAM; owned < ROLES; owned++)
          for (int where = 0; where < 3; where++) {
            bool moves_to_itself = w == REBIND && owner == W2 && owned == role;
            bool moved_away = w == REBIND && owner == W1 && (owned == PARAM || owned == EXP_AVG);
            if ((role == GRAD) != ways[w].is_grad || !is_written(owner, owned) || moves_to_itself ||
                moved_away)
              continue;
            struct described described;
            describe(&world, ways[w].param, (enum role)role, &described);
            described.tensor.data =
                inside(world.memory[owner][owned], bytes_of(owner, owned), where);
            row("%s: %s in %s of %s, %d", ways[w].name, role_names[role], role_names[owned],
                param_names[owner], where);
            refused(ways[w].offer(&world, (enum role)role, &described.tensor),
                    ADAMW_STATUS_INVALID_ARGUMENT, param_names[ways[w].param], "overlap",
                    role_names[role], role_names[owned], param_names[owner]);
          }
}

/* Whichever of the two calls sees it: no step writes where a gradient lies. */
static void a_parameter_over_a_gradient_never_steps(void) {
  float weight[N] = {1}, grad[N] = {1}, before[N];
  memcpy(before, grad, sizeof grad);
  adamw_optimizer *optimizer;
  uint32_t param;
  row("a parameter added where a gradient is");
  accepted(adamw_create(NULL, &optimizer));
  accepted(adamw_add_array(optimizer, "weight", weight, N, ADAMW_DTYPE_F32, &param));
  accepted(adamw_set_grad_array(optimizer, param, grad, N, ADAMW_DTYPE_F32));
  adamw_status status = adamw_add_array(optimizer, "over", grad, N, ADAMW_DTYPE_F32, &param);
  if (status == ADAMW_STATUS_OK) {
    refused(adamw_step(optimizer), ADAMW_STATUS_INVALID_ARGUMENT, "overlap", "weight", "over");
    refused(adamw_clear_grad(optimizer, ADAMW_CLEAR_ZERO), ADAMW_STATUS_INVALID_ARGUMENT, "overlap",
            "weight", "over");
  } else {
    holds(status == ADAMW_STATUS_INVALID_ARGUMENT);
  }
  holds(memcmp(grad, before, sizeof grad) == 0 && memcmp(weight, before, sizeof weight) == 0);
  accepted(adamw_destroy(optimizer));
}

static void only_the_hosts_buffers_move(void) {
  struct described to, twice;
  describe(&world, NEW, EXP_AVG, &to);
  describe(&world, NEW, EXP_AVG, &twice);
  const adamw_tensor *tensors[2] = {&to.tensor, &twice.tensor};
  static const struct {
    uint32_t param;
    enum role role;
  } rows[] = {{W3, EXP_AVG}, {W3, EXP_AVG_SQ}, {W3, MAX_EXP_AVG_SQ}, {W1, MASTER}, {W3, MASTER}};
  for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
    const uint32_t params[2] = {W1, rows[i].param};
    const adamw_buffer buffers[2] = {ADAMW_BUFFER_PARAM, buffer_of[rows[i].role]};
    struct described other;
    describe(&world, NEW, EXP_AVG_SQ, &other);
    const adamw_tensor *moves[2] = {&to.tensor, &other.tensor};
    row("rebind %s of %s", role_names[rows[i].role], param_names[rows[i].param]);
    refused(adamw_rebind(world.optimizer, params, buffers, moves, 2), ADAMW_STATUS_INVALID_ARGUMENT,
            param_names[rows[i].param], role_names[rows[i].role]);
  }
  const uint32_t params[2] = {W1, W3};
  const adamw_buffer buffers[2] = {ADAMW_BUFFER_PARAM, ADAMW_BUFFER_PARAM};
  row("two buffers moved to one place");
  refused(adamw_rebind(world.optimizer, params, buffers, tensors, 2), ADAMW_STATUS_INVALID_ARGUMENT,
          "overlap", "w1", "w3");

  row("one buffer moved to two places");
  const uint32_t same[2] = {W1, W1};
  describe(&world, NEW, EXP_AVG_SQ, &twice);
  refused(adamw_rebind(world.optimizer, same, buffers, tensors, 2), ADAMW_STATUS_INVALID_ARGUMENT,
          "w1", "param");

  row("two parameters change places, and back");
  describe(&world, W3, PARAM, &to);
  describe(&world, W1, PARAM, &twice);
  accepted(adamw_rebind(world.optimizer, params, buffers, tensors, 2));
  refused(adamw_set_grad(world.optimizer, W1, tensors[0]), ADAMW_STATUS_INVALID_ARGUMENT, "overlap",
          "w1");
  describe(&world, W1, PARAM, &to);
  describe(&world, W3, PARAM, &twice);
  accepted(adamw_rebind(world.optimizer, params, buffers, tensors, 2));
}

int main(void) {
  start();
  set_up(&undisturbed);
  set_up(&world);
  watch(&world);
  memory_that_a_step_writes_has_one_owner();
  a_parameter_over_a_gradient_never_steps();
  only_the_hosts_buffers_move();
  same_as_undisturbed(&world, &undisturbed);
  return finish("misuse_overlap");
}
