// step.cu for a host, as a library. A launch copies its parameters, as the driver does, and runs later.
#include "step.cu"

struct Launch {
  const unsigned char* weights;
  States states;
  const void* samples;
  float* outputs;
  unsigned char* scratch;
  int batch, steps;
};

extern "C" {
__attribute__((visibility("default"))) void multires_release(Launch* launch) { delete launch; }

__attribute__((visibility("default"))) Launch* multires_bind(void** parameters) {
  const auto pointer = [&](int i) { return *static_cast<void**>(parameters[i]); };
  return new Launch{
      static_cast<unsigned char*>(pointer(0)),
      *static_cast<States*>(parameters[1]),
      pointer(2),
      static_cast<float*>(pointer(3)),
      static_cast<unsigned char*>(pointer(4)),
      *static_cast<int*>(parameters[5]),
      *static_cast<int*>(parameters[6]),
  };
}

__attribute__((visibility("default"))) void multires_run(const Launch* launch, int blocks, int threads, unsigned seed) {
  const Launch& l = *launch;
  if (threads != kThreads || blocks != (l.batch + kRows - 1) / kRows) std::abort();
  seed_order(seed);
  run_grid(blocks, threads,
           [&l] { multires_step(l.weights, l.states, l.samples, l.outputs, l.scratch, l.batch, l.steps); });
}
}
