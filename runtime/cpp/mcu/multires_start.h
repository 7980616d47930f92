/* multires_start.h: the network of this program, on a microcontroller.
 *
 * The weights are constants, and the memory of the one stream is part of the program: there is no heap. Of multires.h
 * there are multires_step, multires_step_tokens, multires_run, multires_run_tokens, multires_prepare, multires_commit,
 * multires_reset and multires_status_text, which keep all that multires.h promises.
 */
#ifndef MULTIRES_START_H
#define MULTIRES_START_H

#include "multires.h"

#ifdef __cplusplus
extern "C" {
#endif

/* The stream, at its start. MULTIRES_MEMORY: network.cpp is of another version of the engine; write it again. */
multires_status multires_start(multires_state** state);

#ifdef __cplusplus
}
#endif
#endif
