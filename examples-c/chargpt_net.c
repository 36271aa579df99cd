#include "chargpt_net.h"
#include "random.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { D = GPT_WIDTH, T = GPT_CONTEXT, H = GPT_HEADS, HEAD = D / H };

/* The parameters of a block, from its first on. */
enum { LN1_GAIN, LN1_BIAS, QKV, QKV_BIAS, PROJ, PROJ_BIAS, LN2_GAIN, LN2_BIAS, FC, FC_BIAS, OUT, OUT_BIAS };
enum { TOKENS, POSITIONS, FIRST_BLOCK, LAST_GAIN = GPT_PARAMS - 3, LAST_BIAS, OUTPUT };

/* What a block makes of N = sequences * T rows. */
typedef struct block_pass {
  float *in;                        /* [N, D] */
  float *normed1, *qkv, *mixed;     /* [N, D] [N, 3 D] [N, D] */
  float *attention;                 /* [sequences, H, T, T] */
  float *middle, *normed2;          /* [N, D] [N, D] */
  float *wide, *bent;               /* [N, 4 D] before and after GELU */
  float *stats1, *stats2;           /* [N, 2] mean and reciprocal deviation */
} block_pass;

struct gpt_pass {
  size_t sequences, vocabulary;
  unsigned char *text; /* [sequences, T + 1] */
  block_pass blocks[GPT_BLOCKS];
  float *last, *normed, *stats;     /* [N, D] [N, D] [N, 2] */
  float *probabilities;             /* [N, V] */
  float *memory, *grads[4];         /* room for gradients of rows: [N, 4 D] each */
};

int gpt_init(gpt *model, size_t vocabulary, uint64_t *random) {
  static const struct {
    const char *name;
    size_t count;
  } BLOCK[GPT_BLOCK_PARAMS] = {
      {"ln1.gain", D},         {"ln1.bias", D},      {"qkv.weight", D * 3 * D}, {"qkv.bias", 3 * D},
      {"proj.weight", D * D},  {"proj.bias", D},     {"ln2.gain", D},           {"ln2.bias", D},
      {"fc.weight", D * 4 * D}, {"fc.bias", 4 * D},  {"out.weight", 4 * D * D}, {"out.bias", D},
  };
  gpt_param *params = model->params;
  params[TOKENS] = (gpt_param){"token.embedding", vocabulary * D, NULL, NULL};
  params[POSITIONS] = (gpt_param){"position.embedding", T * D, NULL, NULL};
  for (int i = 0; i < GPT_BLOCKS * GPT_BLOCK_PARAMS; i++) {
    gpt_param *param = &params[FIRST_BLOCK + i];
    snprintf(param->name, sizeof param->name, "block%d.%s", i / GPT_BLOCK_PARAMS, BLOCK[i % GPT_BLOCK_PARAMS].name);
    param->count = BLOCK[i % GPT_BLOCK_PARAMS].count;
  }
  params[LAST_GAIN] = (gpt_param){"last.gain", D, NULL, NULL};
  params[LAST_BIAS] = (gpt_param){"last.bias", D, NULL, NULL};
  params[OUTPUT] = (gpt_param){"head.weight", D * vocabulary, NULL, NULL};

  model->vocabulary = vocabulary;
  model->num_weights = 0;
  for (int i = 0; i < GPT_PARAMS; i++) model->num_weights += params[i].count;
  model->memory = calloc(2 * model->num_weights, sizeof(float));
  if (!model->memory) return 1;
  float *next = model->memory;
  for (int i = 0; i < GPT_PARAMS; i++) {
    gpt_param *param = &params[i];
    param->value = next;
    param->grad = next + model->num_weights;
    next += param->count;
    int is_gain = strstr(param->name, "gain") != NULL, is_bias = strstr(param->name, "bias") != NULL;
    int ends_block = strstr(param->name, "proj") || strstr(param->name, "out");
    double deviation = ends_block ? 0.02 / sqrt(2.0 * GPT_BLOCKS) : 0.02; /* shortcuts add up: Radford et al. 2019 */
    for (size_t k = 0; k < param->count; k++)
      param->value[k] = is_gain ? 1 : is_bias ? 0 : (float)(deviation * sqrt(3) * (2 * random_unit(random) - 1));
  }
  return 0;
}

void gpt_free(gpt *model) { free(model->memory); }

gpt_pass *gpt_pass_new(size_t sequences, size_t vocabulary) {
  size_t rows = sequences * T;
  size_t per_block = rows * (D + D + 3 * D + D + D + D + 4 * D + 4 * D + 4) + sequences * H * T * T;
  size_t total = GPT_BLOCKS * per_block + rows * (D + D + 2 + vocabulary) + 4 * rows * 4 * D;
  gpt_pass *pass = calloc(1, sizeof *pass);
  if (!pass) return NULL;
  pass->text = malloc(sequences * (T + 1));
  pass->memory = calloc(total, sizeof(float));
  if (!pass->text || !pass->memory) {
    gpt_pass_free(pass);
    return NULL;
  }
  pass->sequences = sequences;
  pass->vocabulary = vocabulary;
  float *next = pass->memory;
#define TAKE(count) (next += (count), next - (count))
  for (int b = 0; b < GPT_BLOCKS; b++) {
    block_pass *block = &pass->blocks[b];
    block->in = TAKE(rows * D), block->normed1 = TAKE(rows * D), block->qkv = TAKE(rows * 3 * D);
    block->mixed = TAKE(rows * D), block->middle = TAKE(rows * D), block->normed2 = TAKE(rows * D);
    block->wide = TAKE(rows * 4 * D), block->bent = TAKE(rows * 4 * D);
    block->stats1 = TAKE(rows * 2), block->stats2 = TAKE(rows * 2);
    block->attention = TAKE(sequences * H * T * T);
  }
  pass->last = TAKE(rows * D), pass->normed = TAKE(rows * D), pass->stats = TAKE(rows * 2);
  pass->probabilities = TAKE(rows * vocabulary);
  for (int i = 0; i < 4; i++) pass->grads[i] = TAKE(rows * 4 * D);
#undef TAKE
  return pass;
}

void gpt_pass_free(gpt_pass *pass) {
  free(pass->text);
  free(pass->memory);
  free(pass);
}

/* out [rows, outs] = in [rows, ins] * weight [ins, outs] + bias [outs], which may be NULL. */
static void linear(float *out, const float *in, const float *weight, const float *bias, size_t rows, size_t ins,
                   size_t outs) {
  for (size_t r = 0; r < rows; r++) {
    float *to = out + r * outs;
    for (size_t o = 0; o < outs; o++) to[o] = bias ? bias[o] : 0;
    for (size_t i = 0; i < ins; i++) {
      float x = in[r * ins + i];
      const float *row = weight + i * outs;
      for (size_t o = 0; o < outs; o++) to[o] += x * row[o];
    }
  }
}

/* Writes in_grad, and adds to the gradients of weight and bias. `outs` is a multiple of 8. */
static void linear_backward(float *in_grad, float *weight_grad, float *bias_grad, const float *out_grad,
                            const float *in, const float *weight, size_t rows, size_t ins, size_t outs) {
  for (size_t r = 0; r < rows; r++) {
    const float *from = out_grad + r * outs;
    for (size_t i = 0; i < ins; i++) {
      const float *row = weight + i * outs;
      float *row_grad = weight_grad + i * outs, x = in[r * ins + i], sums[8] = {0};
      for (size_t o = 0; o < outs; o += 8) /* eight sums side by side: the compiler may not reorder one */
        for (size_t lane = 0; lane < 8; lane++) sums[lane] += from[o + lane] * row[o + lane];
      for (size_t o = 0; o < outs; o++) row_grad[o] += x * from[o];
      in_grad[r * ins + i] = (sums[0] + sums[4]) + (sums[1] + sums[5]) + ((sums[2] + sums[6]) + (sums[3] + sums[7]));
    }
    if (bias_grad)
      for (size_t o = 0; o < outs; o++) bias_grad[o] += from[o];
  }
}

static void layer_norm(float *out, float *stats, const float *in, const float *gain, const float *bias, size_t rows) {
  for (size_t r = 0; r < rows; r++) {
    const float *x = in + r * D;
    float mean = 0, variance = 0;
    for (size_t i = 0; i < D; i++) mean += x[i] / D;
    for (size_t i = 0; i < D; i++) variance += (x[i] - mean) * (x[i] - mean) / D;
    float inverse = 1 / sqrtf(variance + 1e-5f);
    for (size_t i = 0; i < D; i++) out[r * D + i] = (x[i] - mean) * inverse * gain[i] + bias[i];
    stats[2 * r] = mean, stats[2 * r + 1] = inverse;
  }
}

/* Adds to in_grad and to the gradients of gain and bias. */
static void layer_norm_backward(float *in_grad, gpt_param *gain, gpt_param *bias, const float *out_grad,
                                const float *in, const float *stats, size_t rows) {
  for (size_t r = 0; r < rows; r++) {
    const float *grad = out_grad + r * D, *x = in + r * D;
    float mean = stats[2 * r], inverse = stats[2 * r + 1], mean_grad = 0, mean_product = 0;
    for (size_t i = 0; i < D; i++) {
      float normal = (x[i] - mean) * inverse, of_normal = grad[i] * gain->value[i];
      mean_grad += of_normal / D;
      mean_product += of_normal * normal / D;
      gain->grad[i] += grad[i] * normal;
      bias->grad[i] += grad[i];
    }
    for (size_t i = 0; i < D; i++) {
      float normal = (x[i] - mean) * inverse;
      in_grad[r * D + i] += (grad[i] * gain->value[i] - mean_grad - normal * mean_product) * inverse;
    }
  }
}

/* For each head of each sequence: attention [T, T], and mixed, its part of [T, D]. */
static void attend(block_pass *block, size_t sequences) {
  float scale = 1 / sqrtf(HEAD);
  for (size_t s = 0; s < sequences; s++)
    for (size_t h = 0; h < H; h++)
      for (size_t t = 0; t < T; t++) {
        const float *first = block->qkv + s * T * 3 * D + h * HEAD, *query = first + t * 3 * D;
        float *weights = block->attention + ((s * H + h) * T + t) * T, largest = -INFINITY, sum = 0;
        for (size_t u = 0; u <= t; u++) {
          const float *key = first + u * 3 * D + D;
          float dot = 0;
          for (size_t i = 0; i < HEAD; i++) dot += query[i] * key[i];
          weights[u] = dot * scale;
          largest = fmaxf(largest, weights[u]);
        }
        for (size_t u = 0; u <= t; u++) sum += weights[u] = expf(weights[u] - largest);
        float *out = block->mixed + (s * T + t) * D + h * HEAD;
        for (size_t i = 0; i < HEAD; i++) out[i] = 0;
        for (size_t u = 0; u <= t; u++) {
          const float *value = first + u * 3 * D + 2 * D;
          weights[u] /= sum;
          for (size_t i = 0; i < HEAD; i++) out[i] += weights[u] * value[i];
        }
      }
}

/* Writes qkv_grad [N, 3 D]. */
static void attend_backward(float *qkv_grad, const float *mixed_grad, const block_pass *block, size_t sequences) {
  float scale = 1 / sqrtf(HEAD);
  memset(qkv_grad, 0, sequences * T * 3 * D * sizeof(float));
  for (size_t s = 0; s < sequences; s++)
    for (size_t h = 0; h < H; h++)
      for (size_t t = 0; t < T; t++) {
        size_t start = s * T * 3 * D + h * HEAD;
        const float *first = block->qkv + start, *query = first + t * 3 * D;
        float *first_grad = qkv_grad + start, *query_grad = first_grad + t * 3 * D;
        const float *weights = block->attention + ((s * H + h) * T + t) * T;
        const float *out_grad = mixed_grad + (s * T + t) * D + h * HEAD;
        float weight_grads[T], mean = 0;
        for (size_t u = 0; u <= t; u++) {
          const float *value = first + u * 3 * D + 2 * D;
          float *value_grad = first_grad + u * 3 * D + 2 * D;
          weight_grads[u] = 0;
          for (size_t i = 0; i < HEAD; i++) {
            weight_grads[u] += out_grad[i] * value[i];
            value_grad[i] += weights[u] * out_grad[i];
          }
          mean += weights[u] * weight_grads[u];
        }
        for (size_t u = 0; u <= t; u++) {
          const float *key = first + u * 3 * D + D;
          float *key_grad = first_grad + u * 3 * D + D, of_dot = weights[u] * (weight_grads[u] - mean) * scale;
          for (size_t i = 0; i < HEAD; i++) {
            query_grad[i] += of_dot * key[i];
            key_grad[i] += of_dot * query[i];
          }
        }
      }
}

static const float GELU_SCALE = 0.7978845608f; /* sqrt(2 / pi); Hendrycks & Gimpel 2016, with tanh */

static float gelu(float x) { return 0.5f * x * (1 + tanhf(GELU_SCALE * (x + 0.044715f * x * x * x))); }

static float gelu_slope(float x) {
  float bend = tanhf(GELU_SCALE * (x + 0.044715f * x * x * x));
  return 0.5f * (1 + bend) + 0.5f * x * (1 - bend * bend) * GELU_SCALE * (1 + 3 * 0.044715f * x * x);
}

/* out [N, D] */
static void block_forward(const gpt_param *params, block_pass *block, float *out, size_t sequences) {
  size_t rows = sequences * T;
  layer_norm(block->normed1, block->stats1, block->in, params[LN1_GAIN].value, params[LN1_BIAS].value, rows);
  linear(block->qkv, block->normed1, params[QKV].value, params[QKV_BIAS].value, rows, D, 3 * D);
  attend(block, sequences);
  linear(block->middle, block->mixed, params[PROJ].value, params[PROJ_BIAS].value, rows, D, D);
  for (size_t i = 0; i < rows * D; i++) block->middle[i] += block->in[i];
  layer_norm(block->normed2, block->stats2, block->middle, params[LN2_GAIN].value, params[LN2_BIAS].value, rows);
  linear(block->wide, block->normed2, params[FC].value, params[FC_BIAS].value, rows, D, 4 * D);
  for (size_t i = 0; i < rows * 4 * D; i++) block->bent[i] = gelu(block->wide[i]);
  linear(out, block->bent, params[OUT].value, params[OUT_BIAS].value, rows, 4 * D, D);
  for (size_t i = 0; i < rows * D; i++) out[i] += block->middle[i];
}

/* Turns the gradient of what the block gives, grad [N, D], into that of what it takes. */
static void block_backward(gpt_param *params, const block_pass *block, float *grad, float *const room[3],
                           size_t sequences) {
  size_t rows = sequences * T;
  float *wide_grad = room[0], *normed_grad = room[1], *mixed_grad = room[2];
  linear_backward(wide_grad, params[OUT].grad, params[OUT_BIAS].grad, grad, block->bent, params[OUT].value, rows, 4 * D,
                  D);
  for (size_t i = 0; i < rows * 4 * D; i++) wide_grad[i] *= gelu_slope(block->wide[i]);
  linear_backward(normed_grad, params[FC].grad, params[FC_BIAS].grad, wide_grad, block->normed2, params[FC].value, rows,
                  D, 4 * D);
  layer_norm_backward(grad, &params[LN2_GAIN], &params[LN2_BIAS], normed_grad, block->middle, block->stats2, rows);
  linear_backward(mixed_grad, params[PROJ].grad, params[PROJ_BIAS].grad, grad, block->mixed, params[PROJ].value, rows,
                  D, D);
  float *qkv_grad = room[0];
  attend_backward(qkv_grad, mixed_grad, block, sequences);
  linear_backward(normed_grad, params[QKV].grad, params[QKV_BIAS].grad, qkv_grad, block->normed1, params[QKV].value,
                  rows, D, 3 * D);
  layer_norm_backward(grad, &params[LN1_GAIN], &params[LN1_BIAS], normed_grad, block->in, block->stats1, rows);
}

double gpt_loss(const gpt *model, gpt_pass *pass, const unsigned char *const *text) {
  const gpt_param *params = model->params;
  size_t rows = pass->sequences * T, V = pass->vocabulary;
  for (size_t s = 0; s < pass->sequences; s++) memcpy(pass->text + s * (T + 1), text[s], T + 1);
  for (size_t r = 0; r < rows; r++) {
    const float *token = params[TOKENS].value + pass->text[r / T * (T + 1) + r % T] * D;
    const float *position = params[POSITIONS].value + r % T * D;
    for (size_t i = 0; i < D; i++) pass->blocks[0].in[r * D + i] = token[i] + position[i];
  }
  for (int b = 0; b < GPT_BLOCKS; b++) {
    float *out = b + 1 < GPT_BLOCKS ? pass->blocks[b + 1].in : pass->last;
    block_forward(params + FIRST_BLOCK + b * GPT_BLOCK_PARAMS, &pass->blocks[b], out, pass->sequences);
  }
  layer_norm(pass->normed, pass->stats, pass->last, params[LAST_GAIN].value, params[LAST_BIAS].value, rows);
  linear(pass->probabilities, pass->normed, params[OUTPUT].value, NULL, rows, D, V);

  double loss = 0;
  for (size_t r = 0; r < rows; r++) {
    float *p = pass->probabilities + r * V, largest = p[0], sum = 0;
    for (size_t v = 1; v < V; v++) largest = fmaxf(largest, p[v]);
    for (size_t v = 0; v < V; v++) sum += p[v] = expf(p[v] - largest);
    for (size_t v = 0; v < V; v++) p[v] /= sum;
    loss -= log(fmax(p[pass->text[r / T * (T + 1) + r % T + 1]], 1e-30));
  }
  return loss / (double)rows;
}

void gpt_backward(gpt *model, gpt_pass *pass) {
  gpt_param *params = model->params;
  size_t rows = pass->sequences * T, V = pass->vocabulary;
  float *grad = pass->grads[0], *normed_grad = pass->grads[1];
  for (size_t r = 0; r < rows; r++) {
    float *p = pass->probabilities + r * V;
    p[pass->text[r / T * (T + 1) + r % T + 1]] -= 1;
    for (size_t v = 0; v < V; v++) p[v] /= (float)rows;
  }
  linear_backward(normed_grad, params[OUTPUT].grad, NULL, pass->probabilities, pass->normed, params[OUTPUT].value, rows,
                  D, V);
  memset(grad, 0, rows * D * sizeof(float));
  layer_norm_backward(grad, &params[LAST_GAIN], &params[LAST_BIAS], normed_grad, pass->last, pass->stats, rows);
  for (int b = GPT_BLOCKS - 1; b >= 0; b--)
    block_backward(params + FIRST_BLOCK + b * GPT_BLOCK_PARAMS, &pass->blocks[b], grad, pass->grads + 1,
                   pass->sequences);
  for (size_t r = 0; r < rows; r++) {
    float *token = params[TOKENS].grad + pass->text[r / T * (T + 1) + r % T] * D;
    float *position = params[POSITIONS].grad + r % T * D;
    for (size_t i = 0; i < D; i++) token[i] += grad[r * D + i], position[i] += grad[r * D + i];
  }
}

const float *gpt_next(const gpt_pass *pass, size_t position) {
  return pass->probabilities + position * pass->vocabulary;
}
