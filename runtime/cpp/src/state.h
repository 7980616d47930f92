// The state of one or several streams, in the layout of the step graph's states.
#pragma once

#include <string>
#include <vector>

#include "model.h"
#include "pooling.h"
#include "scratch.h"

namespace multires {

// Where a state is between two steps. Only the first phase has all of it in its parts.
enum class Phase {
  kSettled,
  kPrepared,  // known() has the sums of the taps for the next step
  kAnswered,  // known() has the layers' inputs of the last step, which has not yet been pushed
};

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

  Phase phase = Phase::kSettled;
  // (width) floats of a stream and layer, see Phase.
  float* known(int b, int layer) {
    return known_.data() + (static_cast<size_t>(b) * model.info.n_layers + layer) * model.width;
  }

  // Whether taps are prefetched, because the rings of all streams do not fit into a cache.
  bool fetches = false;
  Scratch scratch;

 private:
  AlignedArray<unsigned char> rings_;  // the queues of all scales, in one piece
  AlignedArray<float> known_;          // (batch, n_layers, width)
  void make_queues();
};

// The description of an array for the C interface; its name must outlive it.
multires_part make_part(const char* name, multires_dtype dtype, void* data, const std::vector<int64_t>& shape);

}  // namespace multires
