/* A text as numbers of characters, cut into windows: the last tenth is for validation. */
#ifndef CHARGPT_DATA_H
#define CHARGPT_DATA_H
#include "chargpt_net.h"

typedef struct corpus {
  unsigned char *text;
  size_t length, vocabulary;
  char characters[GPT_MAX_VOCABULARY + 8];
} corpus;

/* 0: fine, and it is to be given to corpus_free; otherwise it has said on stderr what is wrong, and there is nothing to
 * free. */
int corpus_read(const char *path, corpus *out_read);
void corpus_free(corpus *read);

/* A window to train with: GPT_CONTEXT characters and one more. */
const unsigned char *corpus_draw(const corpus *read, uint64_t *random);

/* The mean loss over the windows of the last tenth of the text, so many sequences at once. */
double corpus_validate(const corpus *read, const gpt *model, gpt_pass *pass, size_t sequences);

#endif
