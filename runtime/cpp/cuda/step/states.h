// The states of all streams.
#pragma once

#include "network.h"

// Those of the step graph, for all streams; null where the network has none.
struct States {
  long long* position;     // (batch): steps seen
  float* encoder_queue;    // (batch, kEncoderTaps, kInput)
  float *sum, *sum_error;  // (batch, kModel)
  float *block, *block_error;
  float* prefix;           // (batch, kWindow + 1, 2 kModel)
  float* max;              // (batch, kModel): of all steps
  Queue* rings[kDepth];    // (batch, slots, kLayers * kModel)
  float* maxima[kMaxima > 0 ? kMaxima : 1];  // (batch, delay + 1, kModel): of each shorter window
};
