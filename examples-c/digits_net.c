#include "digits_net.h"
#include "random.h"

#include <math.h>
#include <stdlib.h>

static const size_t SIZES[NET_LAYERS + 1] = {DIGITS_PIXELS, NET_WIDEST, 256, DIGITS_CLASSES};

/* values[0] is the image, values[l + 1] what layer l makes of it; the last one ends as probabilities. */
typedef struct activations {
  float values[NET_LAYERS + 1][NET_WIDEST];
} activations;

int net_init(net *model, uint64_t *random) {
  model->num_weights = 0;
  for (int l = 0; l < NET_LAYERS; l++) model->num_weights += (SIZES[l] + 1) * SIZES[l + 1];
  model->memory = calloc(2 * model->num_weights, sizeof(float));
  if (!model->memory) return 1;

  float *next = model->memory;
  for (int l = 0; l < NET_LAYERS; l++) {
    size_t inputs = SIZES[l], outputs = SIZES[l + 1], weights = inputs * outputs;
    net_layer layer = {.inputs = inputs, .outputs = outputs, .weight = next, .bias = next + weights};
    layer.weight_grad = layer.weight + model->num_weights;
    layer.bias_grad = layer.bias + model->num_weights;
    next += weights + outputs;

    double bound = sqrt(6.0 / (double)inputs); /* He et al. 2015, for ReLU */
    for (size_t i = 0; i < weights; i++) layer.weight[i] = (float)(bound * (2 * random_unit(random) - 1));
    model->layers[l] = layer;
  }
  return 0;
}

void net_free(net *model) { free(model->memory); }

/* e^x for x <= 0. The libraries' exp may differ in the last bit from one machine to the next; this one cannot. */
static double exp_of_negative(double x) {
  const double ln2 = 0.6931471805599453;
  if (x < -700) return 0;
  double n = floor(x / ln2 + 0.5), r = x - n * ln2; /* e^x = 2^n * e^r, |r| <= 0.35 */
  double sum = 1;
  for (int k = 12; k > 0; k--) sum = 1 + r / k * sum; /* the Taylor series */
  return ldexp(sum, (int)n);
}

static void softmax(float *x, size_t n) {
  double largest = x[0], sum = 0, e[DIGITS_CLASSES];
  for (size_t i = 1; i < n; i++) largest = x[i] > largest ? x[i] : largest;
  for (size_t i = 0; i < n; i++) sum += e[i] = exp_of_negative(x[i] - largest);
  for (size_t i = 0; i < n; i++) x[i] = (float)(e[i] / sum);
}

static void forward(const net *model, const float *pixels, activations *act) {
  for (size_t i = 0; i < DIGITS_PIXELS; i++) act->values[0][i] = pixels[i];
  for (int l = 0; l < NET_LAYERS; l++) {
    const net_layer *layer = &model->layers[l];
    const float *in = act->values[l];
    float *out = act->values[l + 1];
    for (size_t o = 0; o < layer->outputs; o++) out[o] = layer->bias[o];
    for (size_t i = 0; i < layer->inputs; i++) {
      if (in[i] == 0) continue; /* paper, or switched off by ReLU: about half of them */
      const float *row = layer->weight + i * layer->outputs;
      for (size_t o = 0; o < layer->outputs; o++) out[o] += in[i] * row[o];
    }
    if (l + 1 < NET_LAYERS)
      for (size_t o = 0; o < layer->outputs; o++) out[o] = out[o] > 0 ? out[o] : 0;
  }
  softmax(act->values[NET_LAYERS], DIGITS_CLASSES);
}

/* Adds to the gradients of one layer, and writes the loss gradient of its input where that is wanted. */
static void backward_layer(const net_layer *layer, const float *in, const float *out_grad, float *in_grad) {
  for (size_t o = 0; o < layer->outputs; o++) layer->bias_grad[o] += out_grad[o];
  for (size_t i = 0; i < layer->inputs; i++) {
    if (in_grad) in_grad[i] = 0;
    if (in[i] == 0) continue; /* neither the weights nor, through ReLU, the layer below had a part in it */
    const float *row = layer->weight + i * layer->outputs;
    float *row_grad = layer->weight_grad + i * layer->outputs;
    for (size_t o = 0; o < layer->outputs; o++) row_grad[o] += in[i] * out_grad[o];
    if (!in_grad) continue;
    float sum = 0;
    for (size_t o = 0; o < layer->outputs; o++) sum += row[o] * out_grad[o];
    in_grad[i] = sum;
  }
}

/* Shown, not learnt from. */
static double loss_of(const float *probabilities, int label) { return -log(fmax(probabilities[label], 1e-30)); }

double net_backward(net *model, const float *pixels, int label, float scale) {
  activations act;
  float grads[2][NET_WIDEST]; /* of the output and of the input of the layer at hand, taking turns */
  forward(model, pixels, &act);
  for (int c = 0; c < DIGITS_CLASSES; c++) {
    float wanted = c == label ? 1 : 0;
    grads[0][c] = scale * (act.values[NET_LAYERS][c] - wanted);
  }

  float *out_grad = grads[0], *in_grad = grads[1];
  for (int l = NET_LAYERS - 1; l >= 0; l--) {
    backward_layer(&model->layers[l], act.values[l], out_grad, l > 0 ? in_grad : NULL);
    float *done = out_grad;
    out_grad = in_grad;
    in_grad = done;
  }
  return scale * loss_of(act.values[NET_LAYERS], label);
}

net_score net_evaluate(const net *model, const digits *set) {
  net_score score = {0, 0};
  for (int row = 0; row < set->count; row++) {
    activations act;
    forward(model, set->pixels + row * DIGITS_PIXELS, &act);
    const float *probability = act.values[NET_LAYERS];
    int best = 0;
    for (int c = 1; c < DIGITS_CLASSES; c++) best = probability[c] > probability[best] ? c : best;
    score.correct += best == set->labels[row];
    score.loss += loss_of(probability, set->labels[row]) / set->count;
  }
  return score;
}

uint64_t net_hash(const net *model) {
  const unsigned char *bytes = (const unsigned char *)model->memory;
  uint64_t hash = 0xCBF29CE484222325u;
  for (size_t i = 0; i < model->num_weights * sizeof(float); i++) hash = (hash ^ bytes[i]) * 0x100000001B3u;
  return hash;
}
