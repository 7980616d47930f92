/* Fill these in: the device that gives samples, and what the program does with the outputs. */
#include "board.h"

bool read_sample(multires_sample* sample) {
  /* Wait for an interrupt of the converter, then fill in the sample; README.md has its channels, unit and filter. */
  (void)sample;
  return false;
}

void use_outputs(const float outputs[MULTIRES_OUTPUTS]) { (void)outputs; }
