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

#define EXPORTED __attribute__((visibility("default")))

extern "C" {
EXPORTED extern const char* const multires_kernels[];
const char* const multires_kernels[] = {"multires_step", nullptr};

EXPORTED void multires_release(Launch* launch) { delete launch; }

EXPORTED Launch* multires_bind(const char*, void** parameters) {
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

EXPORTED const char* multires_run(const Launch* launch, int x, int y, int threads, unsigned seed) {
  const Launch& l = *launch;
  if (threads != kThreads || y != 1 || x != (l.batch + kRows - 1) / kRows) return "another grid than the plan's";
  seed_order(seed);
  run_grid(x, threads, [&l] { multires_step(l.weights, l.states, l.samples, l.outputs, l.scratch, l.batch, l.steps); });
  return nullptr;
}
}
