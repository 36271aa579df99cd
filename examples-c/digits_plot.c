#include "digits_plot.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

enum { MAX_TICKS = 32 };

/* A logarithmic axis from ticks[0] to ticks[count - 1]; ticks are 1, 2 and 5 times powers of ten. */
typedef struct log_axis {
  double ticks[MAX_TICKS];
  int count;
} log_axis;

static double tick(int n) { /* ..., tick(-1) = 0.5, tick(0) = 1, tick(1) = 2, tick(2) = 5, tick(3) = 10, ... */
  const double steps[3] = {1, 2, 5};
  int decade = (int)floor(n / 3.0);
  return steps[n - 3 * decade] * pow(10, decade);
}

static log_axis axis_of(const loss_curves *curves) {
  double low = curves->test[0], high = curves->test[0];
  for (int i = 0; i <= curves->epochs; i++) {
    low = fmin(low, fmin(curves->train[i], curves->test[i]));
    high = fmax(high, fmax(curves->train[i], curves->test[i]));
  }
  int first = (int)floor(3 * log10(low)) - 1;
  while (tick(first + 1) <= low) first++;
  log_axis axis = {{tick(first)}, 1};
  while (axis.ticks[axis.count - 1] < high && axis.count < MAX_TICKS) {
    axis.ticks[axis.count] = tick(first + axis.count);
    axis.count++;
  }
  return axis;
}

/* 0 at the lower end of the axis, 1 at the upper. */
static double height(const log_axis *axis, double value) {
  double low = axis->ticks[0], high = axis->ticks[axis->count - 1];
  return log(value / low) / log(high / low);
}

/* Between two epochs the curve is a straight line on the logarithmic axis. */
static double height_at(const log_axis *axis, const double *values, double epoch) {
  int before = (int)epoch;
  double part = epoch - before, start = height(axis, values[before]);
  return part > 0 ? start + part * (height(axis, values[before + 1]) - start) : start;
}

void plot_terminal(const loss_curves *curves) {
  enum { ROWS = 14, COLS = 64 };
  const char *grid[ROWS][COLS], *labels[ROWS];
  char texts[ROWS][16];
  log_axis axis = axis_of(curves);

  for (int r = 0; r < ROWS; r++) {
    for (int c = 0; c < COLS; c++) grid[r][c] = " ";
    labels[r] = "";
  }
  for (int c = 0; c < COLS; c++) {
    double epoch = (double)curves->epochs * c / (COLS - 1);
    int train = (int)lround((ROWS - 1) * (1 - height_at(&axis, curves->train, epoch)));
    int test = (int)lround((ROWS - 1) * (1 - height_at(&axis, curves->test, epoch)));
    grid[train][c] = "•";
    grid[test][c] = train == test ? "•" : "∘";
  }
  for (int i = 0; i < axis.count; i++) {
    int r = (int)lround((ROWS - 1) * (1 - height(&axis, axis.ticks[i])));
    snprintf(texts[r], sizeof texts[r], "%g", axis.ticks[i]);
    labels[r] = texts[r];
  }

  printf("\n     loss  • train  ∘ test\n");
  for (int r = 0; r < ROWS; r++) {
    printf("%8s %s", labels[r], labels[r][0] ? "┤" : "│");
    for (int c = 0; c < COLS; c++) printf("%s", grid[r][c]);
    printf("\n");
  }
  printf("         └");
  for (int c = 0; c < COLS; c++) printf("─");
  printf("\n          0%*d epochs\n\n", COLS - 1, curves->epochs);
}

/* The SVG: its size, and the rectangle that the curves have in it. */
enum { WIDTH = 720, HEIGHT = 420, LEFT = 76, RIGHT = 640, TOP = 84, BOTTOM = 356, LINE_HEIGHT = 18 };

static const char TRAIN_COLOUR[] = "#2563eb", TEST_COLOUR[] = "#ea580c";

static double svg_x(const loss_curves *curves, double epoch) { return LEFT + (RIGHT - LEFT) * epoch / curves->epochs; }
static double svg_y(double at_height) { return BOTTOM - (BOTTOM - TOP) * at_height; }

static void svg_head(FILE *svg, const char *title, const char *subtitle) {
  fprintf(svg,
          "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %d %d\" width=\"%d\" height=\"%d\" "
          "font-family=\"system-ui, 'Segoe UI', Helvetica, Arial, sans-serif\" font-size=\"13\" fill=\"#475569\">\n"
          "<rect width=\"100%%\" height=\"100%%\" rx=\"8\" fill=\"#ffffff\"/>\n"
          "<text x=\"%d\" y=\"36\" font-size=\"18\" font-weight=\"600\" fill=\"#0f172a\">%s</text>\n"
          "<text x=\"%d\" y=\"58\">%s</text>\n",
          WIDTH, HEIGHT, WIDTH, HEIGHT, LEFT, title, LEFT, subtitle);
}

static void svg_axes(FILE *svg, const loss_curves *curves, const log_axis *axis) {
  for (int i = 0; i < axis->count; i++) {
    double y = svg_y(height(axis, axis->ticks[i]));
    fprintf(svg, "<path d=\"M%d %.1fH%d\" stroke=\"#e2e8f0\"/>", LEFT, y, RIGHT);
    fprintf(svg, "<text x=\"%d\" y=\"%.1f\" text-anchor=\"end\">%g</text>\n", LEFT - 10, y + 4.5, axis->ticks[i]);
  }
  int every = (curves->epochs + 11) / 12; /* at most twelve labels */
  for (int epoch = 0; epoch <= curves->epochs; epoch += every) {
    double x = svg_x(curves, epoch);
    fprintf(svg, "<path d=\"M%.1f %dv6\" stroke=\"#94a3b8\"/>", x, BOTTOM);
    fprintf(svg, "<text x=\"%.1f\" y=\"%d\" text-anchor=\"middle\">%d</text>\n", x, BOTTOM + 22, epoch);
  }
  fprintf(svg, "<path d=\"M%d %dH%d\" stroke=\"#94a3b8\"/>\n", LEFT, BOTTOM, RIGHT);
  fprintf(svg, "<text x=\"%d\" y=\"%d\" text-anchor=\"middle\">epoch</text>\n", (LEFT + RIGHT) / 2, BOTTOM + 46);
  fprintf(svg, "<text transform=\"translate(24 %d) rotate(-90)\" text-anchor=\"middle\">cross-entropy loss</text>\n",
          (TOP + BOTTOM) / 2);
}

/* The name stands at the end of the curve, moved down by `name_shift`. */
static void svg_curve(FILE *svg, const loss_curves *curves, const log_axis *axis, const double *values,
                      const char *name, const char *colour, double name_shift) {
  fprintf(svg, "<polyline fill=\"none\" stroke=\"%s\" stroke-width=\"2.5\" points=\"", colour);
  for (int epoch = 0; epoch <= curves->epochs; epoch++)
    fprintf(svg, "%s%.1f,%.1f", epoch ? " " : "", svg_x(curves, epoch), svg_y(height(axis, values[epoch])));
  double last_y = svg_y(height(axis, values[curves->epochs]));
  fprintf(svg, "\"/>\n<circle cx=\"%d\" cy=\"%.1f\" r=\"4\" fill=\"%s\"/>", RIGHT, last_y, colour);
  fprintf(svg, "<text x=\"%d\" y=\"%.1f\" font-weight=\"600\" fill=\"%s\">%s</text>\n", RIGHT + 12,
          last_y + 4.5 + name_shift, colour, name);
}

int plot_svg(const loss_curves *curves, const char *title, const char *subtitle, const char *path) {
  log_axis axis = axis_of(curves);
  FILE *svg = fopen(path, "w");
  if (!svg) {
    fprintf(stderr, "%s: %s\n", path, strerror(errno));
    return 1;
  }
  double train_y = svg_y(height(&axis, curves->train[curves->epochs]));
  double test_y = svg_y(height(&axis, curves->test[curves->epochs]));
  double missing = fmax(0, LINE_HEIGHT - fabs(train_y - test_y)); /* room between the names */
  double shift = train_y < test_y ? -missing / 2 : missing / 2;

  svg_head(svg, title, subtitle);
  svg_axes(svg, curves, &axis);
  svg_curve(svg, curves, &axis, curves->train, "train", TRAIN_COLOUR, shift);
  svg_curve(svg, curves, &axis, curves->test, "test", TEST_COLOUR, -shift);
  fprintf(svg, "</svg>\n");
  int failed = ferror(svg);
  if (fclose(svg) || failed) {
    fprintf(stderr, "%s: could not be written\n", path);
    return 1;
  }
  return 0;
}
