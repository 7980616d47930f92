/* The causal high-pass filter that a card may name, as multires-edge has it: it removes the offsets of electrodes.
 * The filter starts settled: the first sample gives zeros. */
#pragma once

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <multires.h>

typedef struct section {
  double gain, a1, a2;
} section;

typedef struct high_pass {
  section sections[2];
  int count;    /* of the sections; 0 without a filter: samples pass unchanged */
  double* past; /* (channels, sections, 4): the last two inputs and outputs; NULL before the first sample */
} high_pass;

/* Read the filter of a weights file. Returns NULL, or what is wrong with it. */
static const char* make_high_pass(high_pass* made, const multires_model* model) {
  static const char kind[] = "butterworth\n";
  const char* card = multires_model_metadata(model, "high_pass");
  const char* rate = multires_model_metadata(model, "sampling_rate");
  if (!card) return NULL;
  if (strncmp(card, kind, strlen(kind)) != 0)
    return "the card's high-pass filter is linear-phase, which only the examples in C++ apply";
  char* end;
  const double corner = strtod(card + strlen(kind), &end);
  const long order = strtol(end, NULL, 10);
  if (!rate || !(corner > 0) || order < 1 || order > 4)
    return "the high-pass filter in the weights file is unknown; export it again";
  const double pi = 3.14159265358979323846, k = tan(pi * corner / strtod(rate, NULL));
  if (order % 2) made->sections[made->count++] = (section){1 / (1 + k), (k - 1) / (k + 1), 0};
  for (int i = 0; i < order / 2; ++i) {
    const double damping = 2 * sin(pi * (2 * i + 1) / (2.0 * (double)order));
    const double scale = 1 / (1 + damping * k + k * k);
    made->sections[made->count++] = (section){scale, 2 * (k * k - 1) * scale, (1 - damping * k + k * k) * scale};
  }
  return NULL;
}

/* Filter a sample (channels) in place. Returns 0 without memory. */
static int filter_sample(high_pass* filter, double* sample, int channels) {
  if (!filter->count) return 1;
  const int settled = filter->past == NULL;
  if (settled) filter->past = calloc((size_t)channels * (size_t)filter->count * 4, sizeof *filter->past);
  if (!filter->past) return 0;
  for (int c = 0; c < channels; ++c) {
    double* past = filter->past + 4 * c * filter->count;
    if (settled) past[0] = past[1] = sample[c];
    for (int i = 0; i < filter->count; ++i, past += 4) {
      const section s = filter->sections[i];
      const double x = sample[c];
      double y = s.a2 != 0 ? (x - 2 * past[0] + past[1]) * s.gain : (x - past[0]) * s.gain;
      y -= s.a1 * past[2] + s.a2 * past[3];
      past[1] = past[0];
      past[0] = x;
      past[3] = past[2];
      past[2] = sample[c] = y;
    }
  }
  return 1;
}
