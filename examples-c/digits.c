/* Trains a small network on 1,797 handwritten digits with libadamw and reports what came of it: the loss curve, the
 * accuracy, the time spent in adamw_step, and a hash of the final weights, which is the same for every number of
 * threads and every instruction set. */
#define _POSIX_C_SOURCE 200809L
#include "command_line.h"
#include "digits_data.h"
#include "digits_net.h"
#include "digits_plot.h"
#include "precision.h"
#include "random.h"

#include <adamw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { BATCH = 32, MAX_EPOCHS = 1000, WANTED_PERCENT = 97 };
enum { EXIT_INACCURATE = 1 };

static const double LR = 1e-3, WEIGHT_DECAY = 0.1;

typedef struct options {
  const char *data, *svg;
  uint32_t threads;
  adamw_isa isa;
  int epochs;
  const precision *precision;
  const moments *moments;
  uint64_t seed;
} options;

static const char *const ISA_NAMES[] = {"best", "portable", "avx2", "avx512"}; /* in the order of ADAMW_ISA_* */
enum { NUM_ISAS = sizeof ISA_NAMES / sizeof *ISA_NAMES };

const char PROGRAM[] = "digits";
const char USAGE[] =
    "usage: digits [options]\n"
    "  --data FILE       the digits, CSV (default: " ADAMW_EXAMPLES_DATA "/digits.csv)\n"
    "  --threads N       threads for adamw_step; 0: as many as there are processors (default: 0)\n"
    "  --isa NAME        use nothing above portable, avx2 or avx512 (default: best)\n"
    "  --epochs N        passes over the training images (default: 16)\n"
    "  --precision NAME  " PRECISION_NAMES " (default: f32)\n"
    "  --moments NAME    " MOMENTS_NAMES " (default: f32)\n"
    "  --seed N          of the first weights, the order and the rounding (default: 1)\n"
    "  --svg FILE        where to draw the loss curve (default: digits-loss.svg)\n"
    "  --help            this text\n";

static adamw_isa parse_isa(const char *text) {
  for (adamw_isa isa = 0; isa < NUM_ISAS; isa++)
    if (strcmp(text, ISA_NAMES[isa]) == 0) return isa;
  die_usage("--isa is none of portable, avx2, avx512, best", text);
  return ADAMW_ISA_BEST;
}

static options parse_options(int argc, char **argv) {
  options opts = {ADAMW_EXAMPLES_DATA "/digits.csv", "digits-loss.svg", 0, ADAMW_ISA_BEST, 16,
                  precision_find(NULL),              moments_find(NULL), 1};
  for (int i = 1; i < argc; i += 2) {
    const char *option = argv[i], *value = argv[i + 1]; /* argv[argc] is NULL */
    if (strcmp(option, "--help") == 0) {
      printf("%s", USAGE);
      exit(EXIT_SUCCESS);
    }
    if (!value) die_usage("unknown option, or one without its value", option);
    if (strcmp(option, "--data") == 0)
      opts.data = value;
    else if (strcmp(option, "--svg") == 0)
      opts.svg = value;
    else if (strcmp(option, "--isa") == 0)
      opts.isa = parse_isa(value);
    else if (strcmp(option, "--threads") == 0)
      opts.threads = (uint32_t)parse_number("--threads is not 0 to 1024", value, 0, 1024);
    else if (strcmp(option, "--epochs") == 0)
      opts.epochs = (int)parse_number("--epochs is not 1 to 1000", value, 1, MAX_EPOCHS);
    else if (strcmp(option, "--seed") == 0)
      opts.seed = (uint64_t)parse_number("--seed is not 0 to 1000000", value, 0, 1000000);
    else if (strcmp(option, "--precision") == 0)
      opts.precision = precision_find(value);
    else if (strcmp(option, "--moments") == 0)
      opts.moments = moments_find(value);
    else
      die_usage("unknown option", option);
    if (!opts.precision) die_usage("--precision is none of " PRECISION_NAMES, value);
    if (!opts.moments) die_usage("--moments is none of " MOMENTS_NAMES, value);
  }
  return opts;
}

static void check(adamw_status status) {
  if (status == ADAMW_STATUS_OK) return;
  fprintf(stderr, "digits: %s: %s\n", adamw_status_name(status), adamw_last_error());
  exit(EXIT_FAILURE);
}

/* What adamw_step will use. best_isa is the processor's, capped by ADAMW_ISA; --isa can only lower it. */
static void print_setup(const options *opts) {
  adamw_capabilities capabilities;
  check(adamw_get_capabilities(&capabilities, sizeof capabilities));
  adamw_isa isa = capabilities.best_isa;
  if (opts->isa != ADAMW_ISA_BEST && opts->isa < isa) isa = opts->isa;
  printf("adamw %s: isa %s, threads %u\n", adamw_version(), ISA_NAMES[isa],
         (unsigned)(opts->threads ? opts->threads : capabilities.num_cpus));
}

/* 1: decay. Weight decay is for weights; a bias has nothing to overfit with. */
static int32_t decay_weights_only(const char *name, void *user_data) {
  (void)user_data;
  return strstr(name, "bias") == NULL;
}

/* The optimizer steps the arrays of `model`, or bf16 ones beside them, and reads the gradients that net_backward leaves
 * there. */
static adamw_optimizer *create_optimizer(const options *opts, net *model, weights *stepped) {
  adamw_optimizer *optimizer;
  adamw_config config;
  check(adamw_config_init(&config, sizeof config));
  config.lr = LR;
  config.weight_decay = WEIGHT_DECAY;
  config.num_threads = opts->threads;
  config.isa = opts->isa;
  config.multi_precision = opts->precision->multi_precision;
  config.precision = opts->precision->precision;
  config.moments = opts->moments->moments;
  config.seed = opts->seed;
  check(adamw_create(&config, &optimizer));
  check(adamw_set_decay_filter(optimizer, decay_weights_only, NULL));

  for (int l = 0; l < NET_LAYERS; l++) {
    net_layer *layer = &model->layers[l];
    char name[32];
    snprintf(name, sizeof name, "layer%d.weight", l);
    check(weights_add(stepped, optimizer, name, layer->weight, layer->weight_grad, layer->inputs * layer->outputs));
    snprintf(name, sizeof name, "layer%d.bias", l);
    check(weights_add(stepped, optimizer, name, layer->bias, layer->bias_grad, layer->outputs));
  }
  return optimizer;
}

static double seconds_now(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

static void shuffle(int *order, int count, uint64_t *random) {
  for (int i = count - 1; i > 0; i--) { /* Fisher-Yates */
    int j = (int)(random_unit(random) * (i + 1)), held = order[i];
    order[i] = order[j];
    order[j] = held;
  }
}

static void show_progress(int epoch, int epochs, double test_loss) {
  enum { BAR = 30 };
  if (!isatty(STDERR_FILENO)) return;
  fprintf(stderr, "\r  [");
  for (int i = 0; i < BAR; i++) fputc(i * epochs < epoch * BAR ? '#' : '.', stderr);
  fprintf(stderr, "] epoch %d/%d, test loss %.3f ", epoch, epochs, test_loss);
  if (epoch == epochs) fputc('\n', stderr);
}

typedef struct training {
  double train_loss[MAX_EPOCHS + 1], test_loss[MAX_EPOCHS + 1];
  int test_correct; /* after the last epoch */
  int steps;
  double step_seconds; /* spent in adamw_step */
} training;

/* The end of the logarithmic axis: no loss is drawn below it, and none is 0. */
static double drawable(double loss) { return loss > 1e-6 ? loss : 1e-6; }

static void evaluate(training *record, const net *model, const digits *train, const digits *test, int epoch) {
  net_score test_score = net_evaluate(model, test);
  record->train_loss[epoch] = drawable(net_evaluate(model, train).loss);
  record->test_loss[epoch] = drawable(test_score.loss);
  record->test_correct = test_score.correct;
}

static void train_epoch(adamw_optimizer *optimizer, const weights *stepped, net *model, const digits *train,
                        const int *order, int total_steps, training *record) {
  for (int start = 0; start < train->count; start += BATCH) {
    int size = train->count - start < BATCH ? train->count - start : BATCH;
    for (int i = start; i < start + size; i++)
      net_backward(model, train->pixels + order[i] * DIGITS_PIXELS, train->labels[order[i]], 1.0f / (float)size);

    check(adamw_set_lr(optimizer, LR * (total_steps - record->steps) / total_steps)); /* falls in a line towards 0 */
    double before = seconds_now();
    check(adamw_step(optimizer));
    record->step_seconds += seconds_now() - before;
    record->steps++;
    weights_take(stepped);
    check(adamw_clear_grad(optimizer, ADAMW_CLEAR_ZERO));
  }
}

/* 0: fine; otherwise out of memory. */
static int train_network(const options *opts, net *model, uint64_t *random, const digits *train, const digits *test,
                         training *record) {
  int *order = malloc((size_t)train->count * sizeof *order);
  if (!order) return 1;
  for (int i = 0; i < train->count; i++) order[i] = i;
  int total_steps = opts->epochs * ((train->count + BATCH - 1) / BATCH);

  weights stepped = {.kept = opts->precision};
  adamw_optimizer *optimizer = create_optimizer(opts, model, &stepped);
  evaluate(record, model, train, test, 0);
  for (int epoch = 1; epoch <= opts->epochs; epoch++) {
    shuffle(order, train->count, random);
    train_epoch(optimizer, &stepped, model, train, order, total_steps, record);
    evaluate(record, model, train, test, epoch);
    show_progress(epoch, opts->epochs, record->test_loss[epoch]);
  }
  check(adamw_destroy(optimizer));
  weights_free(&stepped);
  free(order);
  return 0;
}

/* The exit status. */
static int report(const options *opts, const net *model, const training *record, int num_tests) {
  loss_curves curves = {record->train_loss, record->test_loss, opts->epochs};
  double accuracy = 100.0 * record->test_correct / num_tests;
  char subtitle[128];
  snprintf(subtitle, sizeof subtitle, "%zu weights, %d steps of AdamW, test accuracy %.1f %%", model->num_weights,
           record->steps, accuracy);

  plot_terminal(&curves);
  if (plot_svg(&curves, "Handwritten digits", subtitle, opts->svg)) return EXIT_USAGE;
  printf("loss curve: %s\n", opts->svg);
  printf("test loss: %.4f\n", record->test_loss[opts->epochs]);
  printf("test accuracy: %.1f %%\n", accuracy);
  printf("adamw_step: %.1f ms in %d steps, %.1f µs per step\n", 1e3 * record->step_seconds, record->steps,
         1e6 * record->step_seconds / record->steps);
  printf("weights hash: %016llx\n", (unsigned long long)net_hash(model));
  if (accuracy >= WANTED_PERCENT) return EXIT_SUCCESS;
  fprintf(stderr, "digits: the accuracy is below %d %%\n", WANTED_PERCENT);
  return EXIT_INACCURATE;
}

int main(int argc, char **argv) {
  options opts = parse_options(argc, argv);
  digits train, test;
  if (digits_read(opts.data, &train, &test)) return EXIT_USAGE;

  int status = EXIT_FAILURE;
  uint64_t random = opts.seed;
  net model;
  static training record; /* all zero */
  if (net_init(&model, &random)) {
    fprintf(stderr, "digits: out of memory\n");
  } else {
    print_setup(&opts);
    printf("digits: %d for training, %d for testing\n", train.count, test.count);
    if (train_network(&opts, &model, &random, &train, &test, &record))
      fprintf(stderr, "digits: out of memory\n");
    else
      status = report(&opts, &model, &record, test.count);
    net_free(&model);
  }
  digits_free(&train);
  digits_free(&test);
  return status;
}
