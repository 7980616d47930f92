/* Classify a stream of samples as they come; see USAGE. The program in C++ (examples/cpp/main.cpp) does the same. */

#define _POSIX_C_SOURCE 200809L /* getline; NOLINT(bugprone-reserved-identifier) */

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include <multires.h>

#include "high_pass.h"

static const char USAGE[] =
    "usage: classify_csv BUNDLE < samples.csv\n"
    "\n"
    "Print a line of probabilities for every sample. BUNDLE is the folder of a bundle, or its weights file. A line of\n"
    "the input is a sample of all channels, in the unit of the bundle's card. The first line may name the leads; "
    "without\n"
    "names they are the card's channels, in its order. Without a card, samples are taken as normalized, and the "
    "logits\n"
    "are printed. Bad input is an error that names the line, and exit code 2.\n";

/* Say what is wrong with a line of the input; 0 if it is not about a line. */
static int fail(long line, const char* what) {
  if (line) {
    fprintf(stderr, "error: line %ld: %s\n", line, what);
  } else {
    fprintf(stderr, "error: %s\n", what);
  }
  return 2;
}

/* Fill `values`, one number per channel, from a text of the weights file: one number for all channels, or one per
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

typedef struct reader {
  char* text;     /* the line, in which commas become ends of fields */
  size_t size;    /* of its buffer */
  char** fields;  /* its fields, without blanks around them */
  int count, room; /* of the fields */
  long line;      /* number of the line */
} reader;

/* Read a line: 1, 0 at the end, -1 without memory. */
static int read_line(reader* r) {
  if (getline(&r->text, &r->size, stdin) < 0) return 0;
  ++r->line;
  r->count = 0;
  for (char* at = r->text; at;) {
    if (r->count == r->room) {
      r->room = 2 * r->room + 16;
      char** larger = realloc(r->fields, (size_t)r->room * sizeof *larger);
      if (!larger) return -1;
      r->fields = larger;
    }
    char* comma = strchr(at, ',');
    if (comma) *comma = '\0';
    at += strspn(at, " \t\r\n");
    for (char* end = at + strlen(at); end > at && strchr(" \t\r\n", end[-1]); --end) end[-1] = '\0';
    r->fields[r->count++] = at;
    at = comma ? comma + 1 : NULL;
  }
  return 1;
}

/* A header has no number in any field. */
static int is_header(const reader* r) {
  for (int i = 0; i < r->count; ++i) {
    char* end;
    strtod(r->fields[i], &end);
    if (end != r->fields[i]) return 0;
  }
  return 1;
}

/* The column of each channel in a header; returns NULL, or what is wrong with it. */
static const char* find_channels(const reader* r, const char* names, int* places, int channels) {
  if (!names) return r->count == channels ? NULL : "not as many leads as the model has channels";
  for (int i = 0; i < channels; ++i) {
    const size_t length = strcspn(names, "\n");
    places[i] = -1;
    for (int k = 0; k < r->count; ++k)
      if (strlen(r->fields[k]) == length && strncasecmp(r->fields[k], names, length) == 0) {
        if (places[i] >= 0) return "names a lead twice";
        places[i] = k;
      }
    if (places[i] < 0) return "lacks a lead of the model";
    names += length + (names[length] == '\n');
  }
  return NULL;
}

typedef struct classifier {
  multires_state* state;
  const char *names, *output;     /* of the card, or NULL; output is "sigmoid" or "softmax" */
  int channels, d_output, columns; /* columns of a line */
  int* places;                     /* (channels): their columns */
  high_pass filter;                /* of the card */
  double *sample, *mean, *std;     /* (channels) */
  float *x, *y;                    /* (channels), (d_output) */
} classifier;

static int make(classifier* made, const multires_model* model) {
  const multires_info info = multires_model_info(model);
  char why[256] = "not enough memory";
  if (!info.d_input || info.autoregressive)
    return fail(0, "this example runs classifiers of samples, not of tokens, and no autoregressive models");
  made->names = multires_model_metadata(model, "channels");
  made->output = multires_model_metadata(model, "output");
  if (!multires_model_metadata(model, "mean"))
    fprintf(stderr, "note: the bundle has no mean and std: samples are taken as normalized\n");
  if (!made->output) fprintf(stderr, "note: the bundle does not name its output: logits are printed\n");
  made->channels = made->columns = info.d_input;
  made->d_output = info.d_output;
  made->places = calloc((size_t)made->channels, sizeof *made->places);
  made->sample = calloc((size_t)made->channels, sizeof *made->sample);
  made->mean = calloc((size_t)made->channels, sizeof *made->mean);
  made->std = calloc((size_t)made->channels, sizeof *made->std);
  made->x = calloc((size_t)made->channels, sizeof *made->x);
  made->y = calloc((size_t)made->d_output, sizeof *made->y);
  if (!made->places || !made->sample || !made->mean || !made->std || !made->x || !made->y ||
      multires_state_new(model, 1, MULTIRES_DEFAULT_WINDOW, &made->state, why, sizeof why))
    return fail(0, why);
  for (int i = 0; i < made->channels; ++i) {
    made->places[i] = i;
    made->std[i] = 1;
  }
  if (!by_channel(model, "mean", made->mean, made->channels) || !by_channel(model, "std", made->std, made->channels))
    return fail(0, "mean or std in the weights file does not fit the channels; export it again");
  const char* wrong = make_high_pass(&made->filter, model);
  return wrong ? fail(0, wrong) : 0;
}

static void release(classifier* made) {
  multires_state_free(made->state);
  release_high_pass(&made->filter);
  free(made->places);
  free(made->sample);
  free(made->mean);
  free(made->std);
  free(made->x);
  free(made->y);
}

/* Take the sample of a line; returns NULL, or what is wrong with it. */
static const char* read_sample(classifier* c, const reader* r) {
  char* end;
  for (int k = 0; k < r->count; ++k)
    if (!isfinite(strtod(r->fields[k], &end)) || end == r->fields[k] || *end) return "a column is not a finite number";
  if (r->count != c->columns) return "not as many columns as expected";
  for (int i = 0; i < c->channels; ++i) c->sample[i] = strtod(r->fields[c->places[i]], &end);
  return NULL;
}

/* Classify the filtered sample; returns NULL, or what is wrong with it. */
static const char* step(classifier* c) {
  for (int i = 0; i < c->channels; ++i) c->x[i] = (float)((c->sample[i] - c->mean[i]) / c->std[i]);
  const multires_status status = multires_step(c->state, c->x, c->y);
  if (status) return multires_status_text(status);
  for (int i = 0; i < c->d_output; ++i)
    if (!isfinite(c->y[i])) return "the output is not finite; check the unit of the samples";
  return NULL;
}

/* Samples may come slowly: show each line at once. */
static int print(classifier* c) {
  to_probabilities(c->output, c->y, c->d_output);
  for (int i = 0; i < c->d_output; ++i) printf("%s%.9g", i ? "," : "", (double)c->y[i]);
  printf("\n");
  return fflush(stdout) ? fail(0, "standard output cannot be written") : 0;
}

static int classify(classifier* c, reader* r) {
  int state, samples = 0;
  while ((state = read_line(r)) > 0) {
    const int names = r->line == 1 && is_header(r);
    const char* wrong = names ? find_channels(r, c->names, c->places, c->channels) : read_sample(c, r);
    if (wrong) return fail(r->line, wrong);
    if (names) {
      c->columns = r->count;
      continue;
    }
    ++samples;
    const int filtered = filter_sample(&c->filter, c->sample, c->channels);
    if (filtered < 0) return fail(0, "not enough memory");
    if (!filtered) continue;
    wrong = step(c);
    if (wrong) return fail(r->line, wrong);
    if (print(c)) return 2;
  }
  if (state < 0) return fail(0, "not enough memory");
  if (!samples) return fail(0, "no samples on standard input; expected lines of numbers");
  while (finish_filter(&c->filter, c->sample, c->channels)) {
    const char* wrong = step(c);
    if (wrong) return fail(r->line, wrong);
    if (print(c)) return 2;
  }
  return 0;
}

int main(int count, char** arguments) {
  for (int i = 1; i < count; ++i)
    if (!strcmp(arguments[i], "--help") || !strcmp(arguments[i], "-h")) return printf("%s", USAGE) < 0;
  if (count != 2) return fail(0, "expected one argument, the bundle; see --help");
  char why[1024];
  multires_model* model;
  if (multires_model_load(arguments[1], &model, why, sizeof why)) return fail(0, why);
  classifier made = {0};
  reader lines = {0};
  int code = make(&made, model);
  if (!code) code = classify(&made, &lines);
  free(lines.text);
  free(lines.fields);
  release(&made);
  multires_model_free(model);
  return code;
}
