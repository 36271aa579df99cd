#include "chargpt_data.h"
#include "random.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_TEXT = 1 << 22, MAX_SEQUENCES = 64 };

/* Turns the text into numbers of characters. */
static const char *number_characters(corpus *read) {
  int number_of[256], seen = 0;
  for (int c = 0; c < 256; c++) number_of[c] = -1;
  for (size_t i = 0; i < read->length; i++) {
    int c = read->text[i];
    if (number_of[c] < 0) {
      if (seen == GPT_MAX_VOCABULARY) return "more than 128 kinds of characters";
      read->characters[number_of[c] = seen++] = (char)c;
    }
    read->text[i] = (unsigned char)number_of[c];
  }
  read->vocabulary = (size_t)(seen + 7) / 8 * 8;
  return read->length < 20 * (GPT_CONTEXT + 1) ? "too short a text" : NULL;
}

int corpus_read(const char *path, corpus *out_read) {
  const corpus empty = {0};
  const char *wrong = NULL;
  *out_read = empty;
  FILE *file = fopen(path, "rb");
  if (!file) {
    wrong = strerror(errno);
  } else if (!(out_read->text = malloc(MAX_TEXT))) {
    wrong = "out of memory";
  } else {
    out_read->length = fread(out_read->text, 1, MAX_TEXT, file);
    wrong = number_characters(out_read);
  }
  if (file) fclose(file);
  if (!wrong) return 0;
  fprintf(stderr, "%s: %s\n", path, wrong);
  corpus_free(out_read);
  return 1;
}

void corpus_free(corpus *read) { free(read->text); }

const unsigned char *corpus_draw(const corpus *read, uint64_t *random) {
  size_t starts = read->length / 10 * 9 - GPT_CONTEXT - 1;
  return read->text + (size_t)(random_unit(random) * (double)starts);
}

double corpus_validate(const corpus *read, const gpt *model, gpt_pass *pass, size_t sequences) {
  const unsigned char *windows[MAX_SEQUENCES];
  double sum = 0;
  int batches = 0;
  size_t at = read->length / 10 * 9;
  for (; at + sequences * GPT_CONTEXT < read->length; at += sequences * GPT_CONTEXT, batches++) {
    for (size_t s = 0; s < sequences; s++) windows[s] = read->text + at + s * GPT_CONTEXT;
    sum += gpt_loss(model, pass, windows);
  }
  return sum / batches;
}
