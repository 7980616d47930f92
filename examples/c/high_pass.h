/* The high-pass filter that a card may name, as multires-edge has it: it removes the offsets of electrodes.
 * It starts settled: the first sample gives zeros. */
#pragma once

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <multires.h>

typedef struct section {
  double gain, a1, a2;
} section;

/* Without sections and without taps, samples pass unchanged. */
typedef struct high_pass {
  section sections[2];
  int count;      /* of the sections */
  double* taps;   /* (length) of a linear-phase filter */
  int length;     /* of the taps: twice the delay, and one */
  int due;        /* outputs that are due at the end */
  long received;  /* samples, those before the first one included */
  double* past;   /* (channels, sections, 4): inputs and outputs, or (length, channels); NULL before a sample */
} high_pass;

/* Read the filter of a weights file. Returns NULL, or what is wrong with it. */
static const char* make_high_pass(high_pass* made, const multires_model* model) {
  const double pi = 3.14159265358979323846;
  const char* card = multires_model_metadata(model, "high_pass");
  const char* rate = multires_model_metadata(model, "sampling_rate");
  if (!card) return NULL;
  const int causal = strncmp(card, "butterworth\n", 12) == 0, late = strncmp(card, "linear-phase\n", 13) == 0;
  char* end;
  const double corner = strtod(causal ? card + 12 : late ? card + 13 : "", &end);
  const double last = strtod(end, NULL), most = causal ? 4 : 60;
  if (!rate || strtod(rate, NULL) > 1e6 || !(corner > 0) || !(last > 0) || last > most)
    return "the high-pass filter in the weights file is unknown; export it again";
  const double k = tan(pi * corner / strtod(rate, NULL));
  if (causal) {
    const int order = (int)last;
    made->count = 0;
    if (order % 2) made->sections[made->count++] = (section){1 / (1 + k), (k - 1) / (k + 1), 0};
    for (int i = 0; i < order / 2 && made->count < 2; ++i) {
      const double damping = 2 * sin(pi * (2 * i + 1) / (2.0 * order)), scale = 1 / (1 + damping * k + k * k);
      made->sections[made->count++] = (section){scale, 2 * (k * k - 1) * scale, (1 - damping * k + k * k) * scale};
    }
    return NULL;
  }
  /* The sample of `due` ago, less a mean of the samples around it: a sinc under a Hann window. */
  made->due = (int)fmax(1, rint(last * strtod(rate, NULL)));
  made->length = 2 * made->due + 1;
  made->taps = calloc((size_t)made->length, sizeof *made->taps);
  if (!made->taps) return "not enough memory";
  double sum = 0;
  for (int i = 0; i < made->length; ++i) {
    const double n = i - made->due, at = 2 * pi * corner / strtod(rate, NULL) * n;
    const double window = cos(pi / 2 * n / (made->due + 1));
    made->taps[i] = (i == made->due ? 1 : sin(at) / at) * window * window;
    sum += made->taps[i];
  }
  for (int i = 0; i < made->length; ++i) made->taps[i] = (i == made->due) - made->taps[i] / sum;
  return NULL;
}

static void release_high_pass(high_pass* made) {
  free(made->taps);
  free(made->past);
}

static void run_sections(high_pass* filter, double* sample, int channels) {
  for (int c = 0; c < channels; ++c) {
    double* past = filter->past + 4 * c * filter->count;
    if (!filter->received) past[0] = past[1] = sample[c];
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
  filter->received = 1;
}

/* Filter a sample (channels) in place. Returns 1, 0 if there is no output yet, or -1 without memory. */
static int filter_sample(high_pass* filter, double* sample, int channels) {
  if (!filter->count && !filter->taps) return 1;
  const size_t row = (size_t)channels, rows = (size_t)(filter->taps ? filter->length : 4 * filter->count);
  if (!filter->past) filter->past = calloc(row * rows, sizeof *filter->past);
  if (!filter->past) return -1;
  if (!filter->taps) {
    run_sections(filter, sample, channels);
    return 1;
  }
  if (!filter->received)
    for (; filter->received < filter->due; ++filter->received)
      memcpy(filter->past + (size_t)filter->received * row, sample, row * sizeof *sample);
  memcpy(filter->past + (size_t)(filter->received++ % filter->length) * row, sample, row * sizeof *sample);
  if (filter->received < filter->length) return 0;
  memset(sample, 0, row * sizeof *sample);
  for (int k = 0; k < filter->length; ++k) { /* the oldest sample first */
    const double* past = filter->past + (size_t)((filter->received + k) % filter->length) * row;
    for (int c = 0; c < channels; ++c) sample[c] += filter->taps[k] * past[c];
  }
  return 1;
}

/* The recording has ended: give the next output that is due, from holding the last sample. Returns 0 after the last. */
static int finish_filter(high_pass* filter, double* sample, int channels) {
  const size_t row = (size_t)channels;
  while (filter->taps && filter->past && filter->due) {
    --filter->due;
    memcpy(sample, filter->past + (size_t)((filter->received - 1) % filter->length) * row, row * sizeof *sample);
    if (filter_sample(filter, sample, channels)) return 1;
  }
  return 0;
}
