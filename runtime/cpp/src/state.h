// The state of one or several streams, in the layout of the step graph's states.
#pragma once

#include <string>
#include <vector>

#include "model.h"
#include "pooling.h"

namespace multires {

constexpr int kBlockRows = 32;  // rows (a row is one step of one stream) that share a pass over the weights

struct State {
  // window: steps to pool over, 0 for everything so far. Throws LoadError or std::bad_alloc.
  State(const Model& model, int batch, int window);

  const Model& model;
  const int batch;

  AlignedArray<int64_t> position;             // (batch): steps seen
  AlignedArray<float> encoder_queue;          // (batch, encoder_taps, d_input): the last samples; convolutions only
  std::vector<unsigned char*> queues;         // scale j: (batch, slots, n_layers * d_model) of type Model::queues
  Pool pool;

  std::vector<std::string> names;
  std::vector<multires_part> parts;  // sorted by name

  // position modulo the slots of each scale, (batch, depth), so that a step does not divide.
  AlignedArray<int64_t> heads;
  void find_heads();
  void zero(int row);

  // Scratch for one block of rows; unused between calls.
  AlignedArray<float> x, mixed, gated;
  AlignedArray<float> pooled;
  AlignedArray<float> samples;       // for each row, encoder_taps * d_input inputs of the encoder
  AlignedArray<uint8_t> bytes;       // the quantized inputs of products
  std::vector<unsigned char*> taps;  // for each row, total_taps addresses in the rings

 private:
  AlignedArray<unsigned char> rings_;  // the queues of all scales, in one piece
  void make_queues();
};

// The description of an array for the C interface; its name must outlive it.
multires_part make_part(const char* name, multires_dtype dtype, void* data, const std::vector<int64_t>& shape);

}  // namespace multires
