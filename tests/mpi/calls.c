#define _POSIX_C_SOURCE 200809L
#include "calls.h"

#include <mpi.h>
#include <signal.h>
#include <time.h>

static long left;
static int then_what;

void calls_begin(long number, int then) {
  left = number;
  then_what = then;
}

/* Whether this is the call. */
static int fails(void) {
  if (left == 0 || --left > 0) return 0;
  if (then_what == CALL_DIES) raise(SIGKILL);
  return 1;
}

/* What a call that was made returns. Where it is an error, others have gone on meanwhile. */
static int returned(int failed, int made) {
  if (failed) nanosleep(&(struct timespec){.tv_nsec = 300000000}, NULL);
  return failed ? MPI_ERR_OTHER : made;
}

int MPI_Allreduce(const void *from, void *to, int n, MPI_Datatype type, MPI_Op op, MPI_Comm comm) {
  const int failed = fails(), made = PMPI_Allreduce(from, to, n, type, op, comm);
  return returned(failed, made);
}

int MPI_Bcast(void *data, int n, MPI_Datatype type, int root, MPI_Comm comm) {
  const int failed = fails(), made = PMPI_Bcast(data, n, type, root, comm);
  return returned(failed, made);
}

int MPI_Isend(const void *from, int n, MPI_Datatype type, int to, int tag, MPI_Comm comm, MPI_Request *request) {
  const int failed = fails(), made = PMPI_Isend(from, n, type, to, tag, comm, request);
  return returned(failed, made);
}

int MPI_Irecv(void *to, int n, MPI_Datatype type, int from, int tag, MPI_Comm comm, MPI_Request *request) {
  const int failed = fails(), made = PMPI_Irecv(to, n, type, from, tag, comm, request);
  return returned(failed, made);
}

int MPI_Wait(MPI_Request *request, MPI_Status *status) {
  const int failed = fails(), made = PMPI_Wait(request, status);
  return returned(failed, made);
}

int MPI_Test(MPI_Request *request, int *is_done, MPI_Status *status) {
  const int failed = fails(), made = PMPI_Test(request, is_done, status);
  return returned(failed, made);
}
