#include "digits_data.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_INK = 16, TEST_EVERY = 5 };

static int append(digits *set, const float *pixels, int label) {
  size_t rows = (size_t)set->count + 1;
  float *all_pixels = realloc(set->pixels, rows * DIGITS_PIXELS * sizeof *all_pixels);
  if (!all_pixels) return 1;
  set->pixels = all_pixels;
  int *labels = realloc(set->labels, rows * sizeof *labels);
  if (!labels) return 1;
  set->labels = labels;

  memcpy(all_pixels + (rows - 1) * DIGITS_PIXELS, pixels, DIGITS_PIXELS * sizeof *pixels);
  labels[set->count++] = label;
  return 0;
}

/* An integer from 0 to `max`, followed by `separator`. */
static int read_number(FILE *file, int max, int separator, int *out_number) {
  return fscanf(file, "%d", out_number) == 1 && *out_number >= 0 && *out_number <= max && fgetc(file) == separator;
}

static int read_row(FILE *file, float *pixels, int *out_label) {
  for (int i = 0; i < DIGITS_PIXELS; i++) {
    int ink;
    if (!read_number(file, MAX_INK, ',', &ink)) return 0;
    pixels[i] = (float)ink / MAX_INK;
  }
  return read_number(file, DIGITS_CLASSES - 1, '\n', out_label);
}

static int at_end(FILE *file) {
  int next = fgetc(file);
  if (next == EOF) return 1;
  ungetc(next, file);
  return 0;
}

static int read_rows(FILE *file, const char *path, digits *train, digits *test) {
  float pixels[DIGITS_PIXELS];
  int label;
  int row = 0;
  for (; !at_end(file); row++) {
    if (!read_row(file, pixels, &label)) {
      fprintf(stderr, "%s: line %d is not %d pixels from 0 to %d and a label\n", path, row + 1, DIGITS_PIXELS, MAX_INK);
      return 1;
    }
    if (append(row % TEST_EVERY == 0 ? test : train, pixels, label)) {
      fprintf(stderr, "%s: out of memory\n", path);
      return 1;
    }
  }
  if (row < TEST_EVERY) fprintf(stderr, "%s: %d rows are too few\n", path, row);
  return row < TEST_EVERY;
}

int digits_read(const char *path, digits *out_train, digits *out_test) {
  const digits empty = {0, NULL, NULL};
  *out_train = *out_test = empty;
  FILE *file = fopen(path, "r");
  if (!file) {
    fprintf(stderr, "%s: %s\n", path, strerror(errno));
    return 1;
  }
  int failed = read_rows(file, path, out_train, out_test);
  fclose(file);
  if (failed) {
    digits_free(out_train);
    digits_free(out_test);
  }
  return failed;
}

void digits_free(digits *set) {
  free(set->pixels);
  free(set->labels);
}
