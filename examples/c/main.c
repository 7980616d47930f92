/* Classify a stream of samples: CSV on stdin, one line for each sample of all channels; on stdout, one line
 * of probabilities for each.
 *
 *   classify_csv BUNDLE < samples.csv
 *
 * BUNDLE is a bundle's folder, or its weights file. Where it was exported with a card, samples are in the
 * card's unit; without one, samples are taken as normalised, and the logits come out. Bad input is an error
 * that names the line, and exit code 2. */

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <multires.h>

enum { LONGEST_NUMBER = 64 };

static int fail(long line, const char* what) {
  if (line)
    fprintf(stderr, "error: line %ld: %s\n", line, what);
  else
    fprintf(stderr, "error: %s\n", what);
  return 2;
}

/* Fill `values`, one number for each channel, from a text of the weights file: one number for all, or one a
 * line. Without such a text they stay as they are. Returns 0 if the text does not fit. */
static int by_channel(const multires_model* model, const char* key, double* values, int channels) {
  const char* at = multires_model_metadata(model, key);
  if (!at) return 1;
  const int is_list = strchr(at, '\n') != NULL;
  for (int i = 0; i < channels; ++i) {
    char* end;
    values[i] = strtod(at, &end);
    if (end == at) return 0;
    if (is_list) at = end + (*end == '\n');
  }
  return !is_list || *at == '\0';
}

/* Read the numbers of a line, between commas; returns NULL, or what is wrong with it. */
static const char* parse(const char* line, double* values, int channels) {
  for (int i = 0; i < channels; ++i) {
    char* end;
    values[i] = strtod(line, &end);
    if (end == line || !isfinite(values[i])) return "a column is missing, or not a finite number";
    end += strspn(end, " \t\r\n");
    if (*end != (i + 1 < channels ? ',' : '\0')) return "not as many numbers as the model has channels";
    line = end + 1;
  }
  return NULL;
}

static void to_probabilities(const char* output, float* y, int count) {
  if (output && strcmp(output, "sigmoid") == 0) {
    for (int i = 0; i < count; ++i) y[i] = 1 / (1 + expf(-y[i]));
  } else if (output && strcmp(output, "softmax") == 0) {
    float largest = y[0], sum = 0;
    for (int i = 1; i < count; ++i) largest = fmaxf(largest, y[i]);
    for (int i = 0; i < count; ++i) sum += y[i] = expf(y[i] - largest);
    for (int i = 0; i < count; ++i) y[i] /= sum;
  }
}

typedef struct classifier {
  multires_state* state;
  const char* output; /* "sigmoid", "softmax" or NULL */
  int channels, d_output, line_size;
  double *sample, *mean, *std; /* (channels) */
  float *x, *y;                /* (channels), (d_output) */
  char* line;
} classifier;

static int make(classifier* made, const multires_model* model) {
  const multires_info info = multires_model_info(model);
  char why[256] = "not enough memory";
  if (!info.d_input || info.autoregressive)
    return fail(0, "this example runs classifiers of samples, not of tokens, and no autoregressive models");
  made->output = multires_model_metadata(model, "output");
  if (!multires_model_metadata(model, "mean"))
    fprintf(stderr, "note: the bundle has no normalisation, samples are taken as normalised\n");
  if (!made->output) fprintf(stderr, "note: the bundle does not say how to make probabilities, logits come out\n");
  made->channels = info.d_input;
  made->d_output = info.d_output;
  made->line_size = made->channels * LONGEST_NUMBER;
  made->sample = calloc((size_t)made->channels, sizeof *made->sample);
  made->mean = calloc((size_t)made->channels, sizeof *made->mean);
  made->std = calloc((size_t)made->channels, sizeof *made->std);
  made->x = calloc((size_t)made->channels, sizeof *made->x);
  made->y = calloc((size_t)made->d_output, sizeof *made->y);
  made->line = malloc((size_t)made->line_size);
  if (!made->sample || !made->mean || !made->std || !made->x || !made->y || !made->line ||
      multires_state_new(model, 1, MULTIRES_DEFAULT_WINDOW, &made->state, why, sizeof why))
    return fail(0, why);
  for (int i = 0; i < made->channels; ++i) made->std[i] = 1;
  if (!by_channel(model, "mean", made->mean, made->channels) || !by_channel(model, "std", made->std, made->channels))
    return fail(0, "mean or std in the weights file does not fit the channels; export it again");
  return 0;
}

static void release(classifier* made) {
  multires_state_free(made->state);
  free(made->sample);
  free(made->mean);
  free(made->std);
  free(made->x);
  free(made->y);
  free(made->line);
}

static int classify(classifier* c) {
  for (long number = 1; fgets(c->line, c->line_size, stdin); ++number) {
    if (!strchr(c->line, '\n') && !feof(stdin)) return fail(number, "too long");
    const char* wrong = parse(c->line, c->sample, c->channels);
    if (wrong) return fail(number, wrong);
    for (int i = 0; i < c->channels; ++i) c->x[i] = (float)((c->sample[i] - c->mean[i]) / c->std[i]);
    const multires_status status = multires_step(c->state, c->x, c->y);
    if (status) return fail(number, multires_status_text(status));
    for (int i = 0; i < c->d_output; ++i)
      if (!isfinite(c->y[i])) return fail(number, "so large that the output is not finite; check the unit");
    to_probabilities(c->output, c->y, c->d_output);
    for (int i = 0; i < c->d_output; ++i) printf("%s%.9g", i ? "," : "", (double)c->y[i]);
    printf("\n");
    fflush(stdout); /* a stream may be slow, and its reader is waiting */
  }
  return 0;
}

int main(int count, char** arguments) {
  if (count != 2) {
    fprintf(stderr, "usage: classify_csv BUNDLE < samples.csv\n");
    return 2;
  }
  char why[1024];
  multires_model* model;
  if (multires_model_load(arguments[1], &model, why, sizeof why)) return fail(0, why);
  classifier made = {0};
  int code = make(&made, model);
  if (!code) code = classify(&made);
  release(&made);
  multires_model_free(model);
  return code;
}
