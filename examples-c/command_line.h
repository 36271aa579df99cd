/* What the training programs share of their command lines. Bad usage ends the program with status 2 and says why. */
#ifndef COMMAND_LINE_H
#define COMMAND_LINE_H

enum { EXIT_USAGE = 2 };

/* The program's own: its name, and the text of --help. */
extern const char PROGRAM[], USAGE[];

void die_usage(const char *message, const char *value);

/* A whole number from `min` to `max`; `message` says so if it is not one. */
long parse_number(const char *message, const char *text, long min, long max);

#endif
