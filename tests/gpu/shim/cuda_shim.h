// Enough of CUDA to run foreshock_gpu's kernels on the CPU: one fiber a CUDA thread, one block at
// a time, in an order shuffled by a seed. It stops the process with a message when a barrier is not
// reached by every thread of the block, and fills shared memory with NaN bytes before each block.
#ifndef FORESHOCK_CUDA_SHIM_H
#define FORESHOCK_CUDA_SHIM_H

struct Dim {
  unsigned x;
};

struct alignas(16) uint4 {
  unsigned x, y, z, w;
};

namespace shim {
extern Dim thread, block;
void barrier();
}  // namespace shim

#define threadIdx (shim::thread)
#define blockIdx (shim::block)
#define __syncthreads() shim::barrier()
#define __global__
#define __device__
#define __launch_bounds__(threads)
#define __align__(bytes) __attribute__((aligned(bytes)))
#define __shared__ static __attribute__((section("cuda_shared")))

// Fibers change hands only at barriers, so plain additions are atomic.
template <class T> inline T atomicAdd(T* address, T value) {
  const T before = *address;
  *address = before + value;
  return before;
}

#endif
