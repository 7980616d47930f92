// How a network is laid out for the kernel: its constants as network.h, and its weights in one piece.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

struct multires_model;

namespace multires {
inline namespace v0 {
namespace cuda {

constexpr std::size_t kSharedBytes = 48 << 10;  // what every GPU gives a block without being asked

// A network for blocks of `rows` streams and `threads` threads.
struct Plan {
  std::string header;                  // network.h
  std::vector<unsigned char> weights;  // which the header describes
  int threads, rows;
  std::size_t scratch;  // bytes of global memory for each block; 0 if its values fit into shared memory
};

// The streams of a block: as many as leave every multiprocessor two blocks.
int rows_for(int batch, int multiprocessors);

// For blocks of at most `rows` streams, which is 1, 2 or 4. `window` is that of the streams. With `threads` 0, a block
// has as many as the network keeps busy. Throws LoadError (MULTIRES_UNSUPPORTED) for a network that is too large.
Plan make_plan(const multires_model& model, int window, int rows, int threads = 0);

// The folder engines of the bundle that a model was loaded from; empty for a model from memory or another folder.
std::string engines_of(const multires_model* model);

}  // namespace cuda
}  // namespace v0
}  // namespace multires
