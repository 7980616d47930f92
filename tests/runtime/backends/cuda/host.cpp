// step.cu for a host, as a library: its one function takes the parameters of a launch as the driver does.
#include "step.cu"

extern "C" __attribute__((visibility("default"))) void multires_launch(void** parameters, int blocks, int threads,
                                                                       unsigned seed) {
  const auto weights = *static_cast<const unsigned char**>(parameters[0]);
  const States& states = *static_cast<States*>(parameters[1]);
  const auto samples = *static_cast<const void**>(parameters[2]);
  const auto outputs = *static_cast<float**>(parameters[3]);
  const auto scratch = *static_cast<unsigned char**>(parameters[4]);
  const int batch = *static_cast<int*>(parameters[5]), steps = *static_cast<int*>(parameters[6]);
  if (threads != kThreads || blocks != (batch + kRows - 1) / kRows) std::abort();
  seed_order(seed);
  run_grid(blocks, threads, [&] { multires_step(weights, states, samples, outputs, scratch, batch, steps); });
}
