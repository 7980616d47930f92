/* The CUDA runtime's functions that the kit calls, on host memory: a stream runs at once, and what is
 * enqueued during a capture is kept and run at each launch. Memory is full of rubbish at first. */
#include <stdlib.h>
#include <string.h>

typedef void (*host_function)(long);
struct op {
  int kind;
  void* to;
  const void* from;
  size_t size;
  int value;
  host_function function;
  long argument;
};
struct graph {
  struct op ops[64];
  int count;
};
enum { COPY, SET, CALL };

static struct graph* capturing = NULL;
static int live = 0, launches = 0, devices = 1;

static int run(const struct op* op) {
  if (op->kind == COPY) memcpy(op->to, op->from, op->size);
  if (op->kind == SET) memset(op->to, op->value, op->size);
  if (op->kind == CALL) op->function(op->argument);
  return 0;
}

static int enqueue(struct op op) {
  if (!capturing) return run(&op);
  if (capturing->count == 64) return 2;
  capturing->ops[capturing->count++] = op;
  return 0;
}

static int take(void** address, size_t size) {
  if (!(*address = malloc(size))) return 2;
  memset(*address, 0xCD, size);
  ++live;
  return 0;
}

static int give_back(void* address) {
  free(address);
  --live;
  return 0;
}

const char* cudaGetErrorString(int status) {
  return status == 100 ? "no CUDA-capable device is detected" : "out of memory";
}
int cudaGetDeviceCount(int* count) {
  *count = devices;
  return devices ? 0 : 100;
}
int cudaDeviceGetAttribute(int* value, int which, int device) {
  *value = which == 75 ? 8 : 7;
  return device;
}
int cudaRuntimeGetVersion(int* version) {
  *version = 12060;
  return 0;
}
int cudaDriverGetVersion(int* version) {
  *version = 12060;
  return 0;
}
int cudaMalloc(void** address, size_t size) { return take(address, size); }
int cudaFree(void* address) { return give_back(address); }
int cudaHostAlloc(void** address, size_t size, unsigned flags) { return flags ? 1 : take(address, size); }
int cudaFreeHost(void* address) { return give_back(address); }
int cudaMemsetAsync(void* to, int value, size_t size, void* stream) {
  return stream ? enqueue((struct op){SET, to, NULL, size, value, NULL, 0}) : 1;
}
int cudaMemcpyAsync(void* to, const void* from, size_t size, int kind, void* stream) {
  return stream && (kind == 1 || kind == 2) ? enqueue((struct op){COPY, to, from, size, 0, NULL, 0}) : 1;
}
int cudaStreamCreate(void** stream) {
  *stream = &live;
  return 0;
}
int cudaStreamSynchronize(void* stream) { return stream && !capturing ? 0 : 1; }
int cudaStreamBeginCapture(void* stream, int mode) {
  if (!stream || capturing || mode != 1) return 1;
  capturing = calloc(1, sizeof *capturing);
  ++live;
  return 0;
}
int cudaStreamEndCapture(void* stream, void** graph) {
  *graph = capturing;
  capturing = NULL;
  return stream ? 0 : 1;
}
int cudaGraphInstantiateWithFlags(void** ready, void* graph, unsigned long long flags) {
  *ready = malloc(sizeof(struct graph));
  memcpy(*ready, graph, sizeof(struct graph));
  ++live;
  return flags ? 1 : 0;
}
int cudaGraphDestroy(void* graph) { return give_back(graph); }
int cudaGraphExecDestroy(void* ready) { return give_back(ready); }
int cudaGraphLaunch(void* ready, void* stream) {
  const struct graph* graph = ready;
  ++launches;
  for (int i = 0; i < graph->count; ++i) run(&graph->ops[i]);
  return stream ? 0 : 1;
}

/* For the tests. */
int fake_enqueue(host_function function, long argument) {
  return enqueue((struct op){CALL, NULL, NULL, 0, 0, function, argument});
}
int fake_live(void) { return live; }
int fake_launches(void) { return launches; }
void fake_devices(int count) { devices = count; }
