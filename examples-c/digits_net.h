/* A network of three layers, 64-1024-256-10, with ReLU between them and softmax cross-entropy at the end.
 *
 * The same weights on every machine: sums run in a fixed order, nothing may be contracted to fused multiply-add
 * (-ffp-contract=off), and the only transcendental function on the way to the gradients, exp, is its own. */
#ifndef DIGITS_NET_H
#define DIGITS_NET_H
#include "digits_data.h"

#include <stddef.h>
#include <stdint.h>

enum { NET_LAYERS = 3, NET_WIDEST = 1024 };

typedef struct net_layer {
  size_t inputs, outputs;
  float *weight, *weight_grad; /* [inputs, outputs] */
  float *bias, *bias_grad;     /* [outputs] */
} net_layer;

typedef struct net {
  net_layer layers[NET_LAYERS];
  float *memory; /* everything above, one after another: all parameters, then all gradients */
  size_t num_weights;
} net;

typedef struct net_score {
  double loss; /* mean cross-entropy, nats */
  int correct;
} net_score;

/* 0: fine; otherwise out of memory. Weights and biases are drawn from `random`, gradients are zero. */
int net_init(net *model, uint64_t *random);
void net_free(net *model);

/* Adds `scale` times the gradient of the loss of one image to the gradients, and returns `scale` times that loss. */
double net_backward(net *model, const float *pixels, int label, float scale);

net_score net_evaluate(const net *model, const digits *set);

/* FNV-1a (64 bits) of the bytes of all weights and biases. */
uint64_t net_hash(const net *model);

#endif
