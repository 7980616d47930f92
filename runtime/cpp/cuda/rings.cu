// The rings around a taps graph: gather the taps of a step, and push its results.
//
// A ring is (batch, slots, row): the row of step t is in slot t mod slots, as in the step graph's queues. The kernels
// only copy rows, so the type does not matter: they copy in the widest words that divide a row, which is 16 bytes for
// all but odd widths.
//
// rings.ptx is this file compiled by NVRTC 12.6 for compute_75. Drivers of CUDA 12.5 and later translate it for any GPU
// since Turing. A C++ compiler also compiles this file, with loops for the grid; the tests use that.
#if defined(__CUDACC__)
#define MULTIRES_FUNCTION __device__ static inline
#define MULTIRES_KERNEL extern "C" __global__ void
#define MULTIRES_FIRST_THREAD (threadIdx.x == 0)
// One block per row of the batch and access.
#define MULTIRES_EACH_ROW(b, i) for (int b = blockIdx.x, i = blockIdx.y; b < batch; b = batch)
#define MULTIRES_EACH_WORD(w) for (int w = threadIdx.x; w < words; w += blockDim.x)
#else
#define MULTIRES_FUNCTION static inline
#define MULTIRES_KERNEL extern "C" void
#define MULTIRES_FIRST_THREAD true
#define MULTIRES_EACH_ROW(b, i)   \
  for (int b = 0; b < batch; ++b) \
    for (int i = 0; i < count; ++i)
#define MULTIRES_EACH_WORD(w) for (int w = 0; w < words; ++w)
#endif

// One read or write by every row of the batch, with 0 <= delay < slots.
struct RingAccess {
  void* ring;
  int slots, delay;
};

struct alignas(16) Word16 {
  unsigned int part[4];
};

// The address of the row of step position - delay of one stream.
template <typename Word>
MULTIRES_FUNCTION Word* ring_row(const RingAccess& access, long long position, int b, int words) {
  int slot = static_cast<int>(position % access.slots) - access.delay;
  if (slot < 0) slot += access.slots;
  return static_cast<Word*>(access.ring) + (static_cast<long long>(b) * access.slots + slot) * words;
}

template <typename Word>
MULTIRES_FUNCTION void copy_row(Word* to, const Word* from, int words) {
  MULTIRES_EACH_WORD(w) to[w] = from[w];
}

// rows is (batch, count, words), position and next_position (batch); next_position may be null.
#define MULTIRES_KERNELS(bytes, Word)                                                                               \
  MULTIRES_KERNEL gather_taps_##bytes(const RingAccess* accesses, int count, const long long* position, Word* rows, \
                                      int batch, int words) {                                                       \
    MULTIRES_EACH_ROW(b, i)                                                                                         \
      copy_row<Word>(rows + (static_cast<long long>(b) * count + i) * words,                                        \
                     ring_row<Word>(accesses[i], position[b], b, words), words);                                    \
  }                                                                                                                 \
  MULTIRES_KERNEL push_rows_##bytes(const RingAccess* accesses, int count, const long long* position,               \
                                    const Word* rows, int batch, int words, long long* next_position) {             \
    MULTIRES_EACH_ROW(b, i) {                                                                                       \
      copy_row<Word>(ring_row<Word>(accesses[i], position[b], b, words),                                            \
                     rows + (static_cast<long long>(b) * count + i) * words, words);                                \
      if (next_position && i == 0 && MULTIRES_FIRST_THREAD) next_position[b] = position[b] + 1;                     \
    }                                                                                                               \
  }

MULTIRES_KERNELS(16, Word16)
MULTIRES_KERNELS(4, unsigned int)
MULTIRES_KERNELS(2, unsigned short)
MULTIRES_KERNELS(1, unsigned char)
