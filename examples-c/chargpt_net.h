/* A transformer over characters (Radford et al. 2019, in small): embeddings, blocks of causal attention and a
 * perceptron, each after a LayerNorm and beside a shortcut, and a head. All in f32, forwards and backwards by hand. */
#ifndef CHARGPT_NET_H
#define CHARGPT_NET_H
#include <stddef.h>
#include <stdint.h>

enum { GPT_WIDTH = 64, GPT_CONTEXT = 32, GPT_HEADS = 4, GPT_BLOCKS = 2, GPT_MAX_VOCABULARY = 128 };
enum { GPT_BLOCK_PARAMS = 12, GPT_PARAMS = 2 + GPT_BLOCKS * GPT_BLOCK_PARAMS + 3 };

typedef struct gpt_param {
  char name[32];
  size_t count;
  float *value, *grad; /* [count] */
} gpt_param;

typedef struct gpt {
  size_t vocabulary, num_weights;
  gpt_param params[GPT_PARAMS];
  float *memory; /* all values, then all gradients */
} gpt;

/* 0: fine; otherwise out of memory. Weights are drawn from `random`, gradients are zero. `vocabulary` is a multiple
 * of 8: some of the last may stand for nothing. */
int gpt_init(gpt *model, size_t vocabulary, uint64_t *random);
void gpt_free(gpt *model);

/* What one pass over some sequences needs. */
typedef struct gpt_pass gpt_pass;
gpt_pass *gpt_pass_new(size_t sequences, size_t vocabulary); /* NULL: out of memory */
void gpt_pass_free(gpt_pass *pass);

/* The mean cross-entropy, in nats, of the characters that follow: sequence s is text[s], GPT_CONTEXT characters and
 * one more. */
double gpt_loss(const gpt *model, gpt_pass *pass, const unsigned char *const *text);

/* Adds the gradient of the last gpt_loss to the gradients. */
void gpt_backward(gpt *model, gpt_pass *pass);

/* After gpt_loss: the probabilities of the character after this one of the first sequence, [vocabulary]. */
const float *gpt_next(const gpt_pass *pass, size_t position);

#endif
