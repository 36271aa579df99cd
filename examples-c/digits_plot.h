/* Loss curves over epochs, on a logarithmic axis: in the terminal and as an SVG file. */
#ifndef DIGITS_PLOT_H
#define DIGITS_PLOT_H

typedef struct loss_curves {
  const double *train, *test; /* [epochs + 1], all > 0; the first is from before training */
  int epochs;                 /* at least 1 */
} loss_curves;

void plot_terminal(const loss_curves *curves);

/* 0: fine; otherwise it has said on stderr why the file could not be written. */
int plot_svg(const loss_curves *curves, const char *title, const char *subtitle, const char *path);

#endif
