/* The handwritten digits: 8x8 pixels and a label each. data/README.md says where they come from. */
#ifndef DIGITS_DATA_H
#define DIGITS_DATA_H

enum { DIGITS_PIXELS = 64, DIGITS_CLASSES = 10 };

typedef struct digits {
  int count;
  float *pixels; /* [count, DIGITS_PIXELS], 0 is paper, 1 is ink */
  int *labels;   /* [count] */
} digits;

/* Reads the CSV file; every fifth row, from the first on, is for testing. 0: fine, and both are to be given to
 * digits_free; otherwise it has said on stderr what is wrong, and there is nothing to free. */
int digits_read(const char *path, digits *out_train, digits *out_test);
void digits_free(digits *set);

#endif
