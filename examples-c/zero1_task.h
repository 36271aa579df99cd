/* What zero1_mpi.c trains: a model and its batches, of zero1_digits.c or of zero1_chargpt.c. */
#ifndef ZERO1_TASK_H
#define ZERO1_TASK_H
#include <adamw_mpi.h>

enum { PARTS = 12, MAX_PARAMS = 32 };

/* Makes the model, the same on every process, and lists its parameters: their number. 0: it has said on stderr what is
 * wrong. */
size_t task_begin(adamw_mpi_param params[MAX_PARAMS]);
void task_end(void);

/* Writes the gradients of the mean loss of a step's batch, as far as they come from one of its PARTS, and returns what
 * that part has of the loss. Which examples it has is a function of the step, so that a run that goes on sees what
 * another one saw. */
double task_compute_grads(long step, int part);

/* Says how good the model is. 0: as good as it is to be. */
int task_judge(void);

#endif
