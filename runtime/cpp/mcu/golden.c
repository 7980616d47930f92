/* The golden test: the program of main.c reads recorded inputs, and this file compares its outputs with those of
 * PyTorch in float64. It runs under qemu, or on a device with a debugger, because it prints through semihosting.
 * Instructions are those that qemu counts (-icount shift=0: one in a nanosecond). */
#include <math.h>

#include "board.h"
#include "golden_data.h"

extern unsigned char __stack_bottom[], __stack_top[];

#define SYSTICK ((volatile uint32_t*)0xE000E010) /* control, reload, value: counts down */
#define FULL 0xFFFFFFu
#define UNUSED 0xA5

static int row, step = -1;
static uint32_t began;
static double ticks, largest, total, reference_total;

/* The stack below this function, in a pattern, so that its use can be seen. */
static void paint_stack(void) {
  unsigned char* const here = __builtin_frame_address(0);
  for (unsigned char* byte = __stack_bottom; byte < here - 256; ++byte) *byte = UNUSED;
}

static long used_stack(void) {
  const unsigned char* byte = __stack_bottom;
  while (*byte == UNUSED) ++byte;
  return (long)(__stack_top - byte);
}

static long stack;

bool read_sample(multires_sample* sample) {
  if (step < 0) {
    SYSTICK[1] = FULL;
    SYSTICK[2] = 0;
    SYSTICK[0] = 5; /* on, of the clock of the CPU */
    paint_stack();
  } else {
    /* prepare and commit belong to a step. */
    ticks += (began - SYSTICK[2]) & FULL;
    stack = used_stack();
  }
  if (++step == GOLDEN_STEPS) return false;
#if MULTIRES_TOKENS
  *sample = golden_inputs[row][step][0];
#else
  for (int i = 0; i < MULTIRES_INPUTS; ++i) (*sample)[i] = golden_inputs[row][step][i];
#endif
  began = SYSTICK[2];
  return true;
}

void use_outputs(const float outputs[MULTIRES_OUTPUTS]) {
  const uint32_t stopped = SYSTICK[2];
  for (int i = 0; i < MULTIRES_OUTPUTS; ++i) {
    const double reference = golden_outputs[row][step][i], error = fabs((double)outputs[i] - reference);
    const double size = fmax(1.0, fabs(reference));
    if (!(error / size <= largest)) largest = error / size; /* NaN too */
    total += error;
    reference_total += fabs(reference);
  }
  began += SYSTICK[2] - stopped; /* this comparison is not part of a step */
}

/* Calls of the debugger, or of qemu in its place. */
static int semihost(int call, const void* argument) {
  register int r0 __asm("r0") = call;
  register const void* r1 __asm("r1") = argument;
  __asm volatile("bkpt 0xAB" : "+r"(r0) : "r"(r1) : "memory");
  return r0;
}

static void print(const char* text) { semihost(0x04, text); }

static void print_number(double number, int decimals) {
  char digits[24], *first = digits + sizeof digits - 1;
  for (int i = 0; i < decimals; ++i) number *= 10;
  uint64_t rest = number < 1e18 ? (uint64_t)(number + 0.5) : UINT64_MAX;
  *first = 0;
  for (int i = 0; i <= decimals || rest; ++i, rest /= 10) {
    if (decimals && i == decimals) *--first = '.';
    *--first = (char)('0' + rest % 10);
  }
  print(first);
}

/* Each recorded stream runs main anew. */
bool runs_again(int status) {
  const bool complete = status == 0 && step == GOLDEN_STEPS;
  step = -1;
  if (complete && ++row < GOLDEN_ROWS) return true;
  const double error = GOLDEN_MEAN ? (reference_total > 0 ? total / reference_total : total) : largest;
  const bool passed = complete && error <= GOLDEN_LIMIT && stack < __stack_top - __stack_bottom;
  print(passed ? "passed: " : "FAILED: ");
  print_number(GOLDEN_ROWS * GOLDEN_STEPS, 0);
  print(GOLDEN_MEAN ? " steps, mean error " : " steps, max error ");
  print_number(error, 9);
  print(", limit ");
  print_number(GOLDEN_LIMIT, 9);
  print("\n");
  print_number(ticks * NANOSECONDS_A_TICK / (GOLDEN_ROWS * GOLDEN_STEPS), 0);
  print(" instructions a step, ");
  print_number(stack, 0);
  print(" bytes of stack\n");
  const uint32_t reason[2] = {0x20026, passed ? 0 : 1}; /* the end of the application, and its exit code */
  semihost(0x20, reason);
  return false;
}
