/* A stream on a microcontroller. The program of the device has the functions of board.h. */
#include "board.h"
#include "multires_start.h"

int main(void) {
  multires_state* state;
  const multires_status status = multires_start(&state);
  if (status != MULTIRES_OK) return status;
  static float outputs[MULTIRES_OUTPUTS];
  static multires_sample sample;
  for (;;) {
    multires_prepare(state); /* all that does not need the sample, while it is awaited */
    if (!read_sample(&sample)) return 0;
#if MULTIRES_TOKENS
    multires_step_tokens(state, &sample, outputs);
#else
    multires_step(state, sample, outputs);
#endif
    use_outputs(outputs);
    multires_commit(state);
  }
}
