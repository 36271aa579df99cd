/* Makes allocations fail that libadamw.so makes, and counts them. Linked into a program, the
   functions in fail_alloc.c take the place of the C library's for the whole process; calls that do
   not come from libadamw.so always succeed. Needs glibc. */
#ifndef FAIL_ALLOC_H
#define FAIL_ALLOC_H

#include <stdbool.h>

/* From now on the allocation number `first` (0: the next) fails, and `all_after` the later ones
   too; counting starts again. */
void fail_alloc(long first, bool all_after);
/* The same for threads that are started. */
void fail_thread(long first);
/* Nothing fails any more. */
void fail_nothing(void);

long fail_n_allocations(void); /* since the last `fail_alloc` */
long fail_n_failed(void);      /* how many of them, and of the threads, were made to fail */
long fail_n_live(void);        /* blocks and mapped bytes that libadamw.so has not given back */

#endif
