// Shared by the test programs: a check that ends the program, loading a model, and inputs.
#pragma once

#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <random>
#include <string>
#include <vector>

#include "multires.h"

#define CHECK(condition)                                                   \
  do {                                                                     \
    if (!(condition)) {                                                    \
      std::fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition); \
      std::exit(1);                                                        \
    }                                                                      \
  } while (0)

inline std::string read_file(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) {
    std::fprintf(stderr, "%s: cannot be read\n", path.c_str());
    std::exit(1);
  }
  return std::string((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
}

inline multires_model* load_model(const char* path) {
  multires_model* model = nullptr;
  char message[300];
  if (multires_model_load(path, &model, message, sizeof message) != MULTIRES_OK) {
    std::fprintf(stderr, "%s\n", message);
    std::exit(1);
  }
  return model;
}

inline multires_state* new_state(const multires_model* model, int batch) {
  multires_state* state = nullptr;
  CHECK(multires_state_new(model, batch, MULTIRES_DEFAULT_WINDOW, &state, nullptr, 0) == MULTIRES_OK);
  return state;
}

// Samples (steps, batch, d_input) of unit variance or tokens (steps, batch), whichever the model takes.
struct Inputs {
  std::vector<float> x;
  std::vector<int64_t> tokens;
};

inline Inputs random_inputs(const multires_info& info, int batch, int steps, unsigned seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> noise;
  Inputs inputs;
  const size_t rows = static_cast<size_t>(batch) * static_cast<size_t>(steps);
  for (size_t i = 0; i < rows * static_cast<size_t>(info.d_input); ++i) inputs.x.push_back(noise(random));
  if (info.n_tokens > 0)
    for (size_t i = 0; i < rows; ++i)
      inputs.tokens.push_back(static_cast<int64_t>(random() % static_cast<unsigned>(info.n_tokens)));
  return inputs;
}

// Steps `from` to `from + steps` of the inputs, to y (steps, batch, d_output).
inline multires_status feed(multires_state* state, const multires_info& info, const Inputs& inputs, int batch, int from,
                            int steps, float* y) {
  const size_t row = static_cast<size_t>(from) * static_cast<size_t>(batch);
  if (info.n_tokens > 0) return multires_run_tokens(state, inputs.tokens.data() + row, steps, y);
  return multires_run(state, inputs.x.data() + row * static_cast<size_t>(info.d_input), steps, y);
}
