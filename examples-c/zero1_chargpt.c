/* The transformer of chargpt.c as a task of zero1_mpi.c. */
#define _POSIX_C_SOURCE 200809L
#include "chargpt_data.h"
#include "zero1_task.h"

static const double WANTED_LOSS = 2.5;

static corpus law;
static gpt model;
static gpt_pass *pass;

size_t task_begin(adamw_mpi_param params[MAX_PARAMS]) {
  uint64_t random = 1;
  if (corpus_read(ADAMW_EXAMPLES_DATA "/constitution.txt", &law)) return 0;
  pass = gpt_pass_new(1, law.vocabulary);
  if (!pass || gpt_init(&model, law.vocabulary, &random)) {
    fprintf(stderr, "out of memory\n");
    return 0;
  }
  for (int i = 0; i < GPT_PARAMS; i++) {
    const gpt_param *param = &model.params[i];
    params[i] = (adamw_mpi_param){
        .name = param->name, .data = param->value, .grad = param->grad, .n_elements = param->count};
  }
  return GPT_PARAMS;
}

void task_end(void) {
  gpt_pass_free(pass);
  gpt_free(&model);
  corpus_free(&law);
}

/* A part is one sequence. */
double task_compute_grads(long step, int part) {
  uint64_t random = (uint64_t)(step * PARTS + part);
  const unsigned char *text = corpus_draw(&law, &random);
  float *grads = model.memory + model.num_weights;
  memset(grads, 0, model.num_weights * sizeof *grads);
  double loss = gpt_loss(&model, pass, &text);
  gpt_backward(&model, pass);
  for (size_t i = 0; i < model.num_weights; i++) grads[i] /= PARTS;
  return loss / PARTS;
}

int task_judge(void) {
  double loss = corpus_validate(&law, &model, pass, 1);
  printf("validation loss: %.4f\n", loss);
  return loss > WANTED_LOSS;
}
