/* What header.c and header.cpp compile: every function, and a step on one process. */
#include <adamw_mpi.h>

static int step_alone(int *argc, char ***argv) {
  float weights[3] = {1, 2, 3}, grads[3] = {1, -1, 0}, others[3] = {0, 1, 0};
  adamw_optimizer *optimizer = NULL;
  adamw_mpi_param param;
  adamw_mpi ranks;
  adamw_status status;
  memset(&param, 0, sizeof param);
  param.name = "weights";
  param.data = weights;
  param.grad = grads;
  param.n_elements = 3;
  MPI_Init(argc, argv);
  status = adamw_create(NULL, &optimizer);
  if (!status)
    status = adamw_mpi_init(&ranks, MPI_COMM_WORLD, optimizer, &param, 1, NULL);
  if (!status)
    status = adamw_mpi_step(&ranks);
  if (!status)
    status = adamw_mpi_add_grads(&ranks, 1);
  if (!status)
    status = adamw_mpi_set_grad(&ranks, 0, others);
  if (!status)
    status = adamw_mpi_step(&ranks);
  if (!status)
    status = adamw_mpi_save(&ranks, "header.checkpoint");
  if (!status)
    status = adamw_mpi_load(&ranks, "header.checkpoint");
  if (status)
    fprintf(stderr, "%s\n", ranks.error);
  adamw_mpi_free(&ranks);
  adamw_destroy(optimizer);
  MPI_Finalize();
  return status != 0 || !(weights[0] < 1);
}
