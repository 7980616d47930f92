// Counts the instructions of an int8 product on a microcontroller. Replaces test/golden.c in a program that
// `multires-edge mcu` wrote, and is compiled with the kernels of any network, which have the product alone. Prints
// instructions, as qemu counts them with -icount shift=0, and multiply-adds.
#include "board.h"
#include "golden_data.h"
#include "kernels.h"
#include "one_network.h"

namespace {

volatile uint32_t* const kTimer = reinterpret_cast<volatile uint32_t*>(0xE000E010);  // counts down
constexpr uint32_t kFull = 0xFFFFFF;
constexpr int kTimes = 200;

void semihost(int call, const void* argument) {
  register int r0 __asm("r0") = call;
  register const void* r1 __asm("r1") = argument;
  asm volatile("bkpt 0xAB" : "+r"(r0) : "r"(r1) : "memory");
}

void print(double number, const char* text) {
  char digits[12] = "          ";
  unsigned rest = static_cast<unsigned>(number + 0.5);
  for (int i = 9; rest > 0; rest /= 10) digits[i--] = static_cast<char>('0' + rest % 10);
  semihost(0x04, digits);
  semihost(0x04, text);
}

}  // namespace

extern "C" bool read_sample(multires_sample*) {
  using namespace multires;
  const Panels& panels = kNetwork.layers[0].mixing;
  if (panels.dtype != MULTIRES_INT8) return false;
  static float inputs[2 * kPanel], outputs[2 * kPanel];
  static uint8_t bytes[2 * kPanel];
  for (int i = 0; i < panels.inputs; ++i) inputs[i] = 0.01f * static_cast<float>(i % 17 - 8);
  kTimer[1] = kFull;
  kTimer[2] = 0;
  kTimer[0] = 5;  // on, of the clock of the CPU
  const uint32_t began = kTimer[2];
  for (int i = 0; i < kTimes; ++i)
    kNetwork.kernels->parts->multiply(panels, inputs, 2 * kPanel, 1, ProductScratch{bytes, nullptr}, outputs);
  const double ticks = (began - kTimer[2]) & kFull;
  print(ticks * NANOSECONDS_A_TICK / kTimes, " instructions");
  print(panels.inputs * panels.last, " multiply-adds\n");
  return false;
}

extern "C" void use_outputs(const float*) {}

extern "C" bool runs_again(int) {
  static const uint32_t reason[2] = {0x20026, 0};
  semihost(0x20, reason);
  return false;
}
