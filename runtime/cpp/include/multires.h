/* multires.h: run a trained MultiresNet, one sample at a time, from C or any language that speaks C.
 * C++ programs may prefer multires.hpp, which wraps it.
 *
 * Ownership: what a *_load or *_new function gives, the caller frees with the matching *_free function,
 * once. A model is constant and may be shared by any number of states and threads. A state belongs to
 * one thread at a time, and keeps what it needs of its model: the two may be freed in any order. Strings
 * that the library returns live as long as the object they come from (those without one, for ever);
 * nothing else that it returns is to be freed. Buffers that the caller gives stay the caller's.
 *
 * Real time: multires_step, multires_run, their token forms and multires_reset allocate nothing, take no
 * lock, make no system call and throw nothing; their time depends on the batch and the number of steps,
 * not on what has gone before. multires_snapshot_save and _load do not allocate either, but walk over the
 * whole state. All other functions may do anything; call them outside the real-time thread.
 *
 * Errors: every function that can fail returns a multires_status. With a message buffer, one line of
 * text is written to it, cut to its size and always terminated; message may be NULL. Floats are not
 * looked at: a NaN that is fed in stays in the queues, and for ever in the mean of everything so far,
 * until the row is reset. The rounding mode of the calling thread changes no result, and stays as it is.
 *
 * @code
 *   char why[256];
 *   multires_model* model;
 *   if (multires_model_load("out/demo.bundle", &model, why, sizeof why)) return fail(why);
 *   multires_state* state;
 *   if (multires_state_new(model, 1, MULTIRES_DEFAULT_WINDOW, &state, why, sizeof why)) return fail(why);
 *   float sample[12], logits[5];
 *   while (read_sample(sample)) {
 *     multires_step(state, sample, logits);
 *     show(logits);
 *   }
 *   multires_state_free(state);
 *   multires_model_free(model);
 * @endcode
 */
#ifndef MULTIRES_H
#define MULTIRES_H

#include <stddef.h>
#include <stdint.h>

#if defined(_WIN32)
#define MULTIRES_API
#else
#define MULTIRES_API __attribute__((visibility("default")))
#endif

#ifdef __cplusplus
extern "C" {
#endif

typedef enum multires_status {
  MULTIRES_OK = 0,
  MULTIRES_IO = 1,          /* the file cannot be opened, mapped or read */
  MULTIRES_MALFORMED = 2,   /* not a whole, consistent weights file or snapshot */
  MULTIRES_UNSUPPORTED = 3, /* a version, size or kind that this release does not run */
  MULTIRES_ARGUMENT = 4,    /* a null pointer, a row or a token out of range, the wrong kind of input */
  MULTIRES_MEMORY = 5,      /* not enough memory */
  MULTIRES_MISMATCH = 6,    /* a whole snapshot or engine, but of another model, batch or window */
  MULTIRES_DEVICE = 7       /* a GPU that is not there, refuses or fails; only with multires_tensorrt.hpp */
} multires_status;

/* What a status means, in a few words. */
MULTIRES_API const char* multires_status_text(multires_status status);

/* The library's version, such as "0.1.0". */
MULTIRES_API const char* multires_version(void);

/* ---- Models ---- */

typedef struct multires_model multires_model;

/* What a program needs to know of a model. d_input is 0 for token models, n_tokens 0 for others. */
typedef struct multires_info {
  int32_t d_input, n_tokens, d_output, d_model, n_layers, kernel_size, depth;
  int32_t autoregressive; /* 1: outputs are parameters of each step; 0: logits, pooled over time */
  int32_t window;         /* steps that the weights say to pool over; 0: everything so far */
} multires_info;

/* Map a weights file, check it whole, and lay it out for this CPU. path is the file, or a bundle's folder,
 * of which native/weights.safetensors is loaded. Files in other precisions lie beside it. */
MULTIRES_API multires_status multires_model_load(const char* path, multires_model** model, char* message,
                                                 size_t message_size);

/* The same from memory, for weights that are part of the program, or come from flash or a network. All
 * that is needed is copied: the buffer may be freed afterwards. Any alignment will do. */
MULTIRES_API multires_status multires_model_load_buffer(const void* data, size_t size, multires_model** model,
                                                        char* message, size_t message_size);
MULTIRES_API void multires_model_free(multires_model* model);
MULTIRES_API multires_info multires_model_info(const multires_model* model);

/* The instruction set that the kernels were chosen for: "avx512vnni", "avx512", "avx2" or "baseline" (SSE2) on x86-64,
 * "neon" on aarch64, "baseline" elsewhere. The best that the CPU has; where the environment variable
 * MULTIRES_ISA is set while a model is loaded, the one that it names. A name that is unknown, or of
 * something that the CPU lacks, means the baseline. */
MULTIRES_API const char* multires_model_isa(const multires_model* model);

/* What one step of one stream reads and computes, from which the least time that it can take follows.
 * Several steps or streams in one call share a pass over the weights. */
typedef struct multires_cost {
  int64_t weight_bytes;  /* weights, filters and biases that are read, as they lie in memory, padding included */
  int64_t tap_bytes;     /* read from the queues */
  int64_t push_bytes;    /* written to the queues */
  int64_t multiply_adds; /* of matrices and filters in float32, without padding, activations, norm and pooling */
  int64_t int8_multiply_adds; /* of matrices in int8 */
} multires_cost;

MULTIRES_API multires_cost multires_model_cost(const multires_model* model);

/* A text of the weights file's metadata, in UTF-8; NULL if there is none of that name. A network that was
 * exported with a card has: "labels" (one a line, by output), "output" ("sigmoid" or "softmax" makes
 * logits probabilities), "channels" (one a line, by input), "unit", "sampling_rate" in Hz, and "mean" and
 * "std" in that unit (one number, or one a line and channel): x = (sample - mean) / std. */
MULTIRES_API const char* multires_model_metadata(const multires_model* model, const char* key);

/* ---- Streams ---- */

typedef struct multires_state multires_state;

#define MULTIRES_DEFAULT_WINDOW (-1)

/* `batch` independent streams in lockstep, at their start. window says what a classifier's logits are of:
 * the last n steps for n from 1 to 2^24, everything so far for 0, MULTIRES_DEFAULT_WINDOW for what the
 * weights say. An autoregressive model does not pool, and takes 0 or the default. */
MULTIRES_API multires_status multires_state_new(const multires_model* model, int32_t batch, int32_t window,
                                                multires_state** state, char* message, size_t message_size);
MULTIRES_API void multires_state_free(multires_state* state);
MULTIRES_API int32_t multires_state_batch(const multires_state* state);
MULTIRES_API int32_t multires_state_window(const multires_state* state); /* 0: everything so far */

/* One step: x (batch, d_input) to y (batch, d_output), both row-major and dense. */
MULTIRES_API multires_status multires_step(multires_state* state, const float* x, float* y);

/* One step of a token model: tokens (batch) to y (batch, d_output). A token out of range is an error
 * that leaves the state as it was. */
MULTIRES_API multires_status multires_step_tokens(multires_state* state, const int64_t* tokens, float* y);

/* `steps` steps at once: x (steps, batch, d_input) to y (steps, batch, d_output); the state is carried
 * on. The same as that many calls of multires_step, and faster. */
MULTIRES_API multires_status multires_run(multires_state* state, const float* x, int64_t steps, float* y);
MULTIRES_API multires_status multires_run_tokens(multires_state* state, const int64_t* tokens, int64_t steps, float* y);

/* Start one row of the batch over, or all of them with row -1. The others see nothing. */
MULTIRES_API multires_status multires_reset(multires_state* state, int32_t row);

/* ---- Snapshots: a state as bytes, to go on from elsewhere or after a restart ---- */

/* Bytes that a snapshot of this state takes; always the same for one model, batch and window. */
MULTIRES_API size_t multires_snapshot_size(const multires_state* state);

/* Write a snapshot to buffer, of at least multires_snapshot_size bytes. */
MULTIRES_API multires_status multires_snapshot_save(const multires_state* state, void* buffer, size_t size);

/* Go on from a snapshot of `size` bytes. One that is damaged (MULTIRES_MALFORMED), of a later version
 * (MULTIRES_UNSUPPORTED), or of another model, batch or window (MULTIRES_MISMATCH) leaves the state as it
 * was. Any CPU's snapshot will do: the instruction set plays no part. */
MULTIRES_API multires_status multires_snapshot_load(multires_state* state, const void* buffer, size_t size);

/* ---- A state's parts ----
 * By the names and in the layout of the step graph's states, so that a state moves between this engine
 * and an ONNX runtime. `data` stays valid until the state is freed. After writing to a part, call
 * multires_state_changed; it refuses positions outside of 0 to 2^62, and then wants to be called again
 * with better ones, or a reset, before the next step. */
typedef enum multires_dtype {
  MULTIRES_FLOAT32 = 0,
  MULTIRES_INT64 = 1,
  MULTIRES_FLOAT16 = 2, /* IEEE 754 binary16, in two bytes */
  MULTIRES_INT8 = 3     /* of queues: whole numbers of what a level is worth, which the weights say */
} multires_dtype;

typedef struct multires_part {
  const char* name;
  void* data;
  size_t bytes;
  multires_dtype dtype;
  int32_t rank;
  int64_t shape[4];
} multires_part;

MULTIRES_API int32_t multires_state_parts(const multires_state* state);
MULTIRES_API multires_status multires_state_part(const multires_state* state, int32_t index, multires_part* part);
MULTIRES_API multires_status multires_state_changed(multires_state* state);

#ifdef __cplusplus
}
#endif
#endif
