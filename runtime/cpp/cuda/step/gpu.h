// What the kernel asks of its platform, on a GPU. The tests have the same for a host.
#pragma once

constexpr int kWarp = 32;  // threads that run in step

#define MULTIRES_DEVICE __device__ __forceinline__
#define MULTIRES_KERNEL extern "C" __global__ void __launch_bounds__(kThreads, 1)
#define MULTIRES_SHARED __shared__
// A structure that is read where the launch has put it.
#define MULTIRES_PARAMETER(type) const __grid_constant__ type
// A table that threads read at any index.
#define MULTIRES_TABLE __constant__ constexpr
#define MULTIRES_PRAGMA(text) _Pragma(#text)
#define MULTIRES_UNROLL(count) MULTIRES_PRAGMA(unroll count)

MULTIRES_DEVICE int thread_index() { return static_cast<int>(threadIdx.x); }
MULTIRES_DEVICE int block_index() { return static_cast<int>(blockIdx.x); }
// All threads of the block arrive before any of them goes on, and see what the others wrote.
MULTIRES_DEVICE void barrier() { __syncthreads(); }
// The value of the lane of this warp whose number differs in the bits of `mask`.
MULTIRES_DEVICE float of_lane(float value, int mask) { return __shfl_xor_sync(0xffffffffu, value, mask); }

// Rounded to nearest, half to even; for values within the range of an int.
MULTIRES_DEVICE int rounded(float value) { return __float2int_rn(value); }
// The bits of a float16, rounded to nearest even, and back. NVRTC has no header for float16 without the toolkit.
MULTIRES_DEVICE unsigned short half_bits(float value) {
  unsigned short bits;
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(value));
  return bits;
}
MULTIRES_DEVICE float float_of_half(unsigned short bits) {
  float value;
  asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(bits));
  return value;
}
// sum plus the products of four bytes each.
MULTIRES_DEVICE int dot(int a, int b, int sum) { return __dp4a(a, b, sum); }
