/* What Linux says about this process. */
#ifndef PROCESS_H
#define PROCESS_H

int process_threads(void);
long process_resident_bytes(void);

#endif
