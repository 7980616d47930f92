// Some steps of the kernel with a thread of the system for each thread of a block, for the thread sanitizer.
// The argument is a file with the weights.
#define MULTIRES_THREADS
#include "step.cu"

#include <fstream>
#include <iterator>

int main(int, char** arguments) {
  constexpr int batch = kRows + 1, steps = 3;
  std::ifstream file(arguments[1], std::ios::binary);
  const std::vector<char> weights{std::istreambuf_iterator<char>(file), {}};
  std::vector<long long> positions(batch), tokens(batch * steps);
  std::vector<std::vector<float>> arrays;
  const auto floats = [&](int count) { return arrays.emplace_back(static_cast<size_t>(batch) * count).data(); };
  States states{};
  states.position = positions.data();
  states.encoder_queue = floats(kEncoderInputs);
  for (float** sums : {&states.sum, &states.sum_error, &states.block, &states.block_error, &states.max})
    *sums = floats(kModel);
  states.prefix = floats((kWindow + 1) * 2 * kModel);
  for (int j = 0; j < kDepth; ++j)
    states.rings[j] = reinterpret_cast<Queue*>(floats(kScales[j].slots * kWidth));  // a float or less
  for (int k = 0; k < kMaxima; ++k) states.maxima[k] = floats((kMaxDelays[k] + 1) * kModel);
  const float* samples = floats(kChannels * steps);
  float* outputs = floats(kOutput * steps);
  unsigned char* scratch = reinterpret_cast<unsigned char*>(floats(kScratch));
  const void* given = kTokens > 0 ? static_cast<const void*>(tokens.data()) : samples;
  const auto* bytes = reinterpret_cast<const unsigned char*>(weights.data());
  for (int launch = 0; launch < 2; ++launch)
    run_grid(2, kThreads, [&] { multires_step(bytes, states, given, outputs, scratch, batch, steps); });
}
