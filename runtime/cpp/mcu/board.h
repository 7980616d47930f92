/* What the program of a device fills in; see board.c. */
#ifndef BOARD_H
#define BOARD_H

#include <stdbool.h>
#include <stdint.h>

#include "sizes.h"

#if MULTIRES_TOKENS
typedef int64_t multires_sample;
#else
typedef float multires_sample[MULTIRES_INPUTS];
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* Waits for the next sample of the network. false: there is none, and the program ends. */
bool read_sample(multires_sample* sample);

/* Takes the outputs of the network after this sample. */
void use_outputs(const float outputs[MULTIRES_OUTPUTS]);

#ifdef __cplusplus
}
#endif
#endif
