#include "command_line.h"

#include <stdio.h>
#include <stdlib.h>

void die_usage(const char *message, const char *value) {
  fprintf(stderr, "%s: %s: %s\n%s", PROGRAM, message, value, USAGE);
  exit(EXIT_USAGE);
}

long parse_number(const char *message, const char *text, long min, long max) {
  char *end;
  long number = strtol(text, &end, 10);
  if (end == text || *end || number < min || number > max) die_usage(message, text);
  return number;
}
