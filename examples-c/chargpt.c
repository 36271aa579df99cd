/* Trains a small transformer on the characters of a text with libadamw, as such models are trained: a decay filter,
 * clipping by the global norm, a warmup and a cosine. --precision and --moments choose in how many bytes. */
#include "chargpt_data.h"
#include "command_line.h"
#include "precision.h"
#include "random.h"

#include <adamw.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BATCH = 8, WARMUP = 20, SAMPLE = 200 };
enum { EXIT_UNTRAINED = 1 };

static const double LR = 3e-3, WEIGHT_DECAY = 0.1, WANTED_LOSS = 2.2;

typedef struct options {
  const char *data, *losses, *dump;
  const precision *precision;
  const moments *moments;
  long steps, seed, threads;
} options;

const char PROGRAM[] = "chargpt";
const char USAGE[] =
    "usage: chargpt [options]\n"
    "  --data FILE       the text (default: " ADAMW_EXAMPLES_DATA "/constitution.txt)\n"
    "  --steps N         steps of training, 20 of them to warm up (default: 400)\n"
    "  --seed N          of the first weights, the batches and the rounding (default: 1)\n"
    "  --threads N       threads for adamw_step; 0: as many as there are processors (default: 0)\n"
    "  --precision NAME  " PRECISION_NAMES " (default: f32)\n"
    "  --moments NAME    " MOMENTS_NAMES " (default: f32)\n"
    "  --losses FILE     where to write the losses as CSV\n"
    "  --dump FILE       where to write the moments of all larger weights: a count, exp_avg and exp_avg_sq of each\n"
    "  --help            this text\n";

static options parse_options(int argc, char **argv) {
  options opts = {.data = ADAMW_EXAMPLES_DATA "/constitution.txt", .precision = precision_find(NULL),
                  .moments = moments_find(NULL), .steps = 400, .seed = 1};
  for (int i = 1; i < argc; i += 2) {
    const char *option = argv[i], *value = argv[i + 1]; /* argv[argc] is NULL */
    if (strcmp(option, "--help") == 0) {
      printf("%s", USAGE);
      exit(EXIT_SUCCESS);
    }
    if (!value) die_usage("unknown option, or one without its value", option);
    if (strcmp(option, "--data") == 0)
      opts.data = value;
    else if (strcmp(option, "--losses") == 0)
      opts.losses = value;
    else if (strcmp(option, "--dump") == 0)
      opts.dump = value;
    else if (strcmp(option, "--steps") == 0)
      opts.steps = parse_number("--steps is not 20 to 100000", value, WARMUP, 100000);
    else if (strcmp(option, "--seed") == 0)
      opts.seed = parse_number("--seed is not 0 to 1000000", value, 0, 1000000);
    else if (strcmp(option, "--threads") == 0)
      opts.threads = parse_number("--threads is not 0 to 1024", value, 0, 1024);
    else if (strcmp(option, "--precision") == 0)
      opts.precision = precision_find(value);
    else if (strcmp(option, "--moments") == 0)
      opts.moments = moments_find(value);
    else
      die_usage("unknown option", option);
    if (!opts.precision) die_usage("--precision is none of " PRECISION_NAMES, value);
    if (!opts.moments) die_usage("--moments is none of " MOMENTS_NAMES, value);
  }
  if (opts.dump && opts.moments->moments != ADAMW_MOMENTS_F32)
    die_usage("--dump needs --moments f32, not", opts.moments->name);
  return opts;
}

static void check(adamw_status status) {
  if (status == ADAMW_STATUS_OK) return;
  fprintf(stderr, "chargpt: %s: %s\n", adamw_status_name(status), adamw_last_error());
  exit(EXIT_FAILURE);
}

static FILE *open_file(const char *path, const char *mode) {
  FILE *file = fopen(path, mode);
  if (!file) {
    perror(path);
    exit(EXIT_USAGE);
  }
  return file;
}

static void close_file(FILE *file, const char *path) {
  int failed = ferror(file);
  if (fclose(file) || failed) die_usage("could not be written", path);
}

/* 1: decay. Weight decay is for matrices; gains, biases and embeddings are left alone. */
static int32_t decay_matrices_only(const char *name, void *user_data) {
  (void)user_data;
  return strstr(name, ".weight") != NULL;
}

static adamw_optimizer *create_optimizer(const options *opts, gpt *model, weights *stepped) {
  adamw_optimizer *optimizer;
  adamw_config config;
  check(adamw_config_init(&config, sizeof config));
  config.beta2 = 0.99;
  config.weight_decay = WEIGHT_DECAY;
  config.clip = ADAMW_CLIP_GLOBAL_NORM;
  config.clip_norm = 1.0;
  config.num_threads = (uint32_t)opts->threads;
  config.multi_precision = opts->precision->multi_precision;
  config.precision = opts->precision->precision;
  config.moments = opts->moments->moments;
  config.seed = (uint64_t)opts->seed;
  config.clear_grads = 1; /* gpt_backward adds to them */
  check(adamw_create(&config, &optimizer));
  check(adamw_set_decay_filter(optimizer, decay_matrices_only, NULL));
  adamw_schedule schedule = {.struct_size = sizeof schedule,
                             .kind = ADAMW_SCHEDULE_COSINE_WITH_WARMUP,
                             .lr = LR,
                             .warmup_steps = WARMUP,
                             .total_steps = (uint64_t)opts->steps + 1};
  check(adamw_set_lr_schedule(optimizer, &schedule));
  for (int i = 0; i < GPT_PARAMS; i++) {
    gpt_param *param = &model->params[i];
    check(weights_add(stepped, optimizer, param->name, param->value, param->grad, param->count));
  }
  return optimizer;
}

/* What the optimizer keeps for each weight, in bytes. */
static double bytes_of_state(adamw_optimizer *optimizer, const weights *stepped) {
  double bytes = 0, count = 0;
  for (int i = 0; i < stepped->count; i++) {
    adamw_memory memory;
    adamw_dtype dtype = stepped->arrays[i].half ? ADAMW_DTYPE_BF16 : ADAMW_DTYPE_F32;
    check(adamw_memory_plan(optimizer, 0, dtype, stepped->arrays[i].count, 0, &memory, sizeof memory));
    bytes += (double)memory.total;
    count += (double)stepped->arrays[i].count;
  }
  return bytes / count;
}

static void train(const options *opts, adamw_optimizer *optimizer, const weights *stepped, gpt *model, gpt_pass *pass,
                  const corpus *read, uint64_t *random) {
  FILE *losses = opts->losses ? open_file(opts->losses, "w") : NULL;
  const unsigned char *windows[BATCH];
  for (long step = 0; step < opts->steps; step++) {
    for (int s = 0; s < BATCH; s++) windows[s] = corpus_draw(read, random);
    double loss = gpt_loss(model, pass, windows);
    gpt_backward(model, pass);
    check(adamw_step(optimizer));
    weights_take(stepped);
    if (losses && step % 10 == 0) fprintf(losses, "%ld,%.6f\n", step, loss);
    if (step % 50 == 0) fprintf(stderr, "step %ld of %ld: loss %.3f\n", step, opts->steps, loss);
  }
  if (losses) {
    fprintf(losses, "validation,%.6f\n", corpus_validate(read, model, pass, BATCH));
    close_file(losses, opts->losses);
  }
}

static void dump_moments(const char *path, adamw_optimizer *optimizer, const weights *stepped) {
  FILE *file = open_file(path, "wb");
  for (int i = 0; i < GPT_PARAMS; i++) {
    adamw_state_info m, v;
    uint32_t number = stepped->arrays[i].number;
    check(adamw_get_state_info(optimizer, number, ADAMW_BUFFER_EXP_AVG, &m, sizeof m));
    check(adamw_get_state_info(optimizer, number, ADAMW_BUFFER_EXP_AVG_SQ, &v, sizeof v));
    if (m.n_elements < 4096) continue; /* what 8 bits are for */
    fwrite(&m.n_elements, sizeof m.n_elements, 1, file);
    fwrite(m.data, sizeof(float), m.n_elements, file);
    fwrite(v.data, sizeof(float), v.n_elements, file);
  }
  close_file(file, path);
}

/* Writes what the model would go on with, character by character. */
static void write_sample(const gpt *model, gpt_pass *pass, const corpus *read, uint64_t *random) {
  unsigned char window[GPT_CONTEXT + 1];
  const unsigned char *windows[BATCH];
  memcpy(window, read->text, sizeof window);
  for (int s = 0; s < BATCH; s++) windows[s] = window;
  for (int i = 0; i < SAMPLE; i++) {
    gpt_loss(model, pass, windows);
    const float *next = gpt_next(pass, GPT_CONTEXT - 1);
    double left = random_unit(random);
    size_t chosen = 0;
    while (chosen + 1 < read->vocabulary && (left -= next[chosen]) > 0) chosen++;
    memmove(window, window + 1, GPT_CONTEXT - 1);
    window[GPT_CONTEXT - 1] = (unsigned char)chosen;
    putchar(read->characters[chosen] ? read->characters[chosen] : ' ');
  }
  putchar('\n');
}

int main(int argc, char **argv) {
  options opts = parse_options(argc, argv);
  corpus read;
  if (corpus_read(opts.data, &read)) return EXIT_USAGE;
  uint64_t random = (uint64_t)opts.seed;
  gpt model;
  gpt_pass *pass = gpt_pass_new(BATCH, read.vocabulary);
  if (gpt_init(&model, read.vocabulary, &random) || !pass) {
    fprintf(stderr, "chargpt: out of memory\n");
    return EXIT_FAILURE;
  }
  weights stepped = {.kept = opts.precision};
  adamw_optimizer *optimizer = create_optimizer(&opts, &model, &stepped);
  printf("%zu characters; %zu weights: %s, moments: %s, %.2f bytes of state for each\n", read.length, model.num_weights,
         opts.precision->name, opts.moments->name, bytes_of_state(optimizer, &stepped));
  train(&opts, optimizer, &stepped, &model, pass, &read, &random);
  double loss = corpus_validate(&read, &model, pass, BATCH);
  if (opts.dump) dump_moments(opts.dump, optimizer, &stepped);
  write_sample(&model, pass, &read, &random);
  printf("validation loss: %.4f\n", loss);
  check(adamw_destroy(optimizer));
  weights_free(&stepped);
  gpt_pass_free(pass);
  gpt_free(&model);
  corpus_free(&read);
  return loss <= WANTED_LOSS ? EXIT_SUCCESS : EXIT_UNTRAINED;
}
