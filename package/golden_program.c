/* Run a model by the library of a wheel, which this program loads: LIBRARY WEIGHTS SAMPLES OUTPUTS. SAMPLES are float32
 * (steps, d_input), OUTPUTS float32 (steps, d_output). */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#if defined(_WIN32)
#include <windows.h>
#else
#include <dlfcn.h>
#endif

#include "multires.h"

static void* library;

static void fail(const char* what) {
  fprintf(stderr, "%s\n", what);
  exit(1);
}

static void load_library(const char* path) {
#if defined(_WIN32)
  library = (void*)LoadLibraryA(path);
#else
  library = dlopen(path, RTLD_NOW);
#endif
  if (!library) fail(path);
}

static void* find(const char* name) {
#if defined(_WIN32)
  void* found = (void*)GetProcAddress((HMODULE)library, name);
#else
  void* found = dlsym(library, name);
#endif
  if (!found) fail(name);
  return found;
}

static void* read_file(const char* path, size_t* size) {
  FILE* file = fopen(path, "rb");
  if (!file || fseek(file, 0, SEEK_END)) fail(path);
  *size = (size_t)ftell(file);
  rewind(file);
  void* data = malloc(*size);
  if (!data || fread(data, 1, *size, file) != *size || fclose(file)) fail(path);
  return data;
}

int main(int count, char** arguments) {
  char message[512] = "";
  size_t weights_size, samples_size;
  multires_model* model = NULL;
  multires_state* state = NULL;
  if (count != 5) fail("expected LIBRARY WEIGHTS SAMPLES OUTPUTS");
  load_library(arguments[1]);
  multires_status (*load)(const void*, size_t, multires_model**, char*, size_t);
  multires_status (*create)(const multires_model*, int32_t, int32_t, multires_state**, char*, size_t);
  multires_status (*run)(multires_state*, const float*, int64_t, float*);
  multires_info (*info_of)(const multires_model*);
  const char* (*isa_of)(const multires_model*);
  *(void**)&load = find("multires_model_load_buffer");
  *(void**)&create = find("multires_state_new");
  *(void**)&run = find("multires_run");
  *(void**)&info_of = find("multires_model_info");
  *(void**)&isa_of = find("multires_model_isa");

  void* weights = read_file(arguments[2], &weights_size);
  float* samples = read_file(arguments[3], &samples_size);
  if (load(weights, weights_size, &model, message, sizeof message)) fail(message);
  if (create(model, 1, MULTIRES_DEFAULT_WINDOW, &state, message, sizeof message)) fail(message);
  const multires_info info = info_of(model);
  const size_t steps = samples_size / sizeof(float) / (size_t)info.d_input;
  float* outputs = malloc(steps * (size_t)info.d_output * sizeof(float));
  if (!outputs || run(state, samples, (int64_t)steps, outputs)) fail("the stream failed");
  FILE* file = fopen(arguments[4], "wb");
  if (!file || fwrite(outputs, sizeof(float) * (size_t)info.d_output, steps, file) != steps || fclose(file))
    fail(arguments[4]);
  puts(isa_of(model));
  return 0;
}
