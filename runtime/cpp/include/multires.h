/* multires.h: run a trained MultiresNet, one sample at a time, from C or any language that can call C.
 * C++ programs may prefer multires.hpp, which wraps it.
 *
 * Ownership: the caller frees the object that a *_load or *_new function returns, once, with the matching
 * *_free function. A model is constant; any number of states and threads may share it. A state belongs to
 * one thread at a time, and keeps the parts of its model that it needs: the two may be freed in any order.
 * A string that the library returns lives as long as the object it comes from; a string without an object
 * lives as long as the program. Free no strings. Buffers from the caller remain the caller's.
 *
 * Real time: multires_step, multires_run, their token forms, multires_prepare, multires_commit and multires_reset
 * allocate nothing, take no lock, make no system call and throw nothing. Their time depends on the batch and the number
 * of steps, and not on earlier samples. multires_snapshot_save and _load do not allocate either, but read or write the
 * whole state. All other functions may do anything; call them outside the real-time thread.
 *
 * Errors: every function that can fail returns a multires_status. If a message buffer is given, the function
 * writes one line of text to it, cut to its size and always terminated; message may be NULL. Samples are not
 * checked: a NaN stays in the queues, and in the mean of everything so far, until the row is reset. The
 * rounding mode of the calling thread changes no result, and is restored.
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

#if defined(_WIN32) && defined(MULTIRES_DLL) /* while a library is built that programs load */
#define MULTIRES_API __declspec(dllexport)
#elif defined(_WIN32)
#define MULTIRES_API
#else
#define MULTIRES_API __attribute__((visibility("default")))
#endif

#ifdef __cplusplus
extern "C" {
#endif

typedef enum multires_status {
  MULTIRES_OK = 0,
  MULTIRES_IO = 1,          /* the file cannot be opened or read */
  MULTIRES_MALFORMED = 2,   /* not a complete, consistent weights file or snapshot */
  MULTIRES_UNSUPPORTED = 3, /* a version, size or kind that this release does not run */
  MULTIRES_ARGUMENT = 4,    /* a null pointer, a row or a token out of range, the wrong kind of input */
  MULTIRES_MEMORY = 5,      /* not enough memory */
  MULTIRES_MISMATCH = 6,    /* a valid snapshot or engine, but of another model, batch or window */
  MULTIRES_DEVICE = 7       /* no GPU, or an error of the GPU; only with multires_tensorrt.hpp */
} multires_status;

/* The meaning of a status, in a few words. */
MULTIRES_API const char* multires_status_text(multires_status status);

/* The library's version, such as "0.1.0". */
MULTIRES_API const char* multires_version(void);

/* ---- Models ---- */

typedef struct multires_model multires_model;

/* The sizes of a model. d_input is 0 for token models, n_tokens is 0 for others. */
typedef struct multires_info {
  int32_t d_input, n_tokens, d_output, d_model, n_layers, kernel_size, depth;
  int32_t autoregressive; /* 1: outputs are the parameters of the next input's distribution; 0: logits */
  int32_t takes_window;   /* 1: outputs depend on a mean or maximum over time, which can be that of a window */
  int32_t window;         /* steps to take the mean over, from the weights file; 0: everything so far */
} multires_info;

/* Read a weights file once, check all of it, and convert it to the layout for this CPU. The file may change or go
 * afterwards. path is the file, or a bundle's folder, which means its native/weights.safetensors. That folder has
 * the other precisions too. */
MULTIRES_API multires_status multires_model_load(const char* path, multires_model** model, char* message,
                                                 size_t message_size);

/* The same from memory, for weights that are part of the program, or come from flash or a network. The
 * weights are copied: the buffer may be freed afterwards. It may have any alignment. */
MULTIRES_API multires_status multires_model_load_buffer(const void* data, size_t size, multires_model** model,
                                                        char* message, size_t message_size);
MULTIRES_API void multires_model_free(multires_model* model);
MULTIRES_API multires_info multires_model_info(const multires_model* model);

/* The instruction set of the kernels: "avx512vnni", "avx512", "avx2" or "baseline" (SSE2) on x86-64, "neondot" or
 * "neon" on aarch64, "baseline" elsewhere. It is the best that the CPU has, unless the environment variable
 * MULTIRES_ISA names another one while a model is loaded. An unknown name, or an instruction set that the CPU lacks,
 * means the baseline. */
MULTIRES_API const char* multires_model_isa(const multires_model* model);

/* The bytes that one step of one stream reads and writes, and its multiply-adds. With the rates of a CPU they
 * give the least time of a step. Several steps or streams in one call share a pass over the weights. */
typedef struct multires_cost {
  int64_t weight_bytes;  /* weights, filters and biases that are read, padding included */
  int64_t tap_bytes;     /* read from the queues */
  int64_t push_bytes;    /* written to the queues */
  int64_t multiply_adds; /* of matrices and filters in float32, without padding, activations, norm and pooling */
  int64_t int8_multiply_adds; /* of matrices in int8 */
} multires_cost;

MULTIRES_API multires_cost multires_model_cost(const multires_model* model);

/* A text of the weights file's metadata, in UTF-8; NULL if the key is missing. A network that was exported with
 * a card has: "labels" (one per line, by output), "output" ("sigmoid" or "softmax" turns logits into
 * probabilities; "probabilities" if the outputs are these), "channels" (one per line, by input), "unit",
 * "sampling_rate" in Hz, and "mean" and "std" in that unit (one number, or one line per channel):
 * x = (sample - mean) / std. */
MULTIRES_API const char* multires_model_metadata(const multires_model* model, const char* key);

/* ---- Streams ---- */

typedef struct multires_state multires_state;

#define MULTIRES_DEFAULT_WINDOW (-1)

/* Create `batch` independent streams in lockstep, at their start. A classifier takes the mean or the maximum of its
 * features over the last `window` steps, 1 to 2^24; 0 means everything so far, MULTIRES_DEFAULT_WINDOW the window of
 * the weights file. A model that does neither (takes_window is 0), such as one with an output at every step, takes 0 or
 * the default. A state that needs more memory than the system has available is refused with MULTIRES_MEMORY before
 * anything is allocated. */
MULTIRES_API multires_status multires_state_new(const multires_model* model, int32_t batch, int32_t window,
                                                multires_state** state, char* message, size_t message_size);
MULTIRES_API void multires_state_free(multires_state* state);
MULTIRES_API int32_t multires_state_batch(const multires_state* state);
MULTIRES_API int32_t multires_state_window(const multires_state* state); /* 0: everything so far */

/* One step: x (batch, d_input) to y (batch, d_output), both row-major and dense. */
MULTIRES_API multires_status multires_step(multires_state* state, const float* x, float* y);

/* One step of a token model: tokens (batch) to y (batch, d_output). A token out of range is an error, and the
 * state does not change. */
MULTIRES_API multires_status multires_step_tokens(multires_state* state, const int64_t* tokens, float* y);

/* Look-ahead, for the least time from a sample to its outputs. While a program waits for the next sample,
 * multires_prepare does all of the next step that does not depend on it: it sums what is in the queues, and brings the
 * weights and the code of a step into the caches. The step after it leaves out what its outputs do not need: it writes
 * nothing into the queues. multires_commit does this afterwards; so do the next multires_prepare, step, run, reset and
 * snapshot, if it was not called. Without multires_prepare, a step does everything. Outputs and states are the same to
 * the last bit. A second call of either function does nothing.
 *
 * @code
 *   for (;;) {
 *     multires_prepare(state);
 *     wait_for_sample(x);
 *     multires_step(state, x, y);
 *     use(y);
 *   }
 * @endcode
 */
MULTIRES_API multires_status multires_prepare(multires_state* state);
MULTIRES_API multires_status multires_commit(multires_state* state);

/* `steps` steps at once: x (steps, batch, d_input) to y (steps, batch, d_output). The result equals that many
 * calls of multires_step, which take longer. */
MULTIRES_API multires_status multires_run(multires_state* state, const float* x, int64_t steps, float* y);
MULTIRES_API multires_status multires_run_tokens(multires_state* state, const int64_t* tokens, int64_t steps, float* y);

/* Restart one row of the batch, or all rows with row -1. Other rows are not affected. */
MULTIRES_API multires_status multires_reset(multires_state* state, int32_t row);

/* ---- Snapshots: a state as bytes, to continue elsewhere or after a restart ---- */

/* The size of a snapshot in bytes; constant for one model, batch and window. */
MULTIRES_API size_t multires_snapshot_size(const multires_state* state);

/* Write a snapshot to buffer, of at least multires_snapshot_size bytes. */
MULTIRES_API multires_status multires_snapshot_save(multires_state* state, void* buffer, size_t size);

/* Continue from a snapshot of `size` bytes. A snapshot that is damaged (MULTIRES_MALFORMED), of a later version
 * (MULTIRES_UNSUPPORTED), or of another model, batch or window (MULTIRES_MISMATCH) changes nothing. Snapshots
 * are equal on all CPUs and instruction sets. */
MULTIRES_API multires_status multires_snapshot_load(multires_state* state, const void* buffer, size_t size);

/* ---- The parts of a state ----
 * They have the names and the layout of the step graph's states, so a state can move between this engine and
 * an ONNX runtime. `data` stays valid until the state is freed. Before reading or writing
 * a part, call multires_commit; after writing to it, multires_state_changed. It refuses positions outside 0 to 2^62;
 * then correct them and call it again, or reset, before the next step. */
typedef enum multires_dtype {
  MULTIRES_FLOAT32 = 0,
  MULTIRES_INT64 = 1,
  MULTIRES_FLOAT16 = 2, /* IEEE 754 binary16, in two bytes */
  MULTIRES_INT8 = 3     /* quantized queues; their scales are in the weights file */
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
