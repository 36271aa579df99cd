/* The calls that adamw_mpi.h makes of MPI in a step and a save, seen through MPI's interface for profiling. */
#ifndef CALLS_H
#define CALLS_H

enum { CALL_DIES, CALL_FAILS };

/* The call of this number, from 1 on and counted from here, kills the process, or is made and
 * returns an error all the same. */
void calls_begin(long number, int then);

#endif
