// Runs the kernels of moments.cu over a grid, by name, with device addresses as arguments.
#include "cuda_shim.h"

#include "kernels.cu"

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <algorithm>
#include <functional>
#include <numeric>
#include <random>
#include <vector>

#include <ucontext.h>

extern "C" unsigned char __start_cuda_shared[], __stop_cuda_shared[];

namespace shim {

Dim thread, block;

namespace {

constexpr unsigned kBlockThreads = 256;
constexpr size_t kStackBytes = 128 << 10;

enum class State { kReady, kWaiting, kDone };

struct Fiber {
  ucontext_t context;
  State state;
  std::vector<char> stack;
};

std::vector<Fiber> fibers;
ucontext_t scheduler;
std::function<void()> body;

void fail(const char* why) {
  std::fprintf(stderr, "cuda shim: %s in block %u\n", why, block.x);
  std::abort();
}

void enter() {
  body();
  fibers[thread.x].state = State::kDone;
  swapcontext(&fibers[thread.x].context, &scheduler);
}

void start(Fiber& fiber) {
  fiber.state = State::kReady;
  getcontext(&fiber.context);
  fiber.context.uc_stack.ss_sp = fiber.stack.data();
  fiber.context.uc_stack.ss_size = fiber.stack.size();
  fiber.context.uc_link = nullptr;
  makecontext(&fiber.context, enter, 0);
}

void run_block(std::mt19937& random) {
  std::memset(__start_cuda_shared, 0xff, (size_t)(__stop_cuda_shared - __start_cuda_shared));
  std::vector<unsigned> order(kBlockThreads);
  std::iota(order.begin(), order.end(), 0u);
  for (Fiber& fiber : fibers) start(fiber);
  for (;;) {
    std::shuffle(order.begin(), order.end(), random);
    unsigned waiting = 0;
    for (unsigned index : order) {
      if (fibers[index].state == State::kDone) continue;
      thread.x = index;
      swapcontext(&scheduler, &fibers[index].context);
      waiting += fibers[index].state == State::kWaiting;
    }
    if (waiting == 0) return;
    if (waiting != kBlockThreads) fail("a barrier was not reached by every thread");
    for (Fiber& fiber : fibers) fiber.state = State::kReady;
  }
}

void run_grid(unsigned num_blocks, unsigned seed, std::function<void()> kernel) {
  body = std::move(kernel);
  fibers.resize(kBlockThreads);
  for (Fiber& fiber : fibers) fiber.stack.resize(kStackBytes);
  std::mt19937 random(seed);
  std::vector<unsigned> blocks(num_blocks);
  std::iota(blocks.begin(), blocks.end(), 0u);
  std::shuffle(blocks.begin(), blocks.end(), random);
  for (unsigned index : blocks) {
    block.x = index;
    run_block(random);
  }
}

}  // namespace

void barrier() {
  const unsigned mine = thread.x;
  fibers[mine].state = State::kWaiting;
  swapcontext(&fibers[mine].context, &scheduler);
}

}  // namespace shim

extern "C" int shim_launch(const char* kernel, unsigned num_blocks, const u64* a, unsigned seed) {
  if (std::strcmp(kernel, "foreshock_segments") == 0) {
    shim::run_grid(num_blocks, seed, [a] {
      foreshock_segments((const Tensor*)a[0], (const Chunk*)a[1], (Partial*)a[2], (u64*)a[3]);
    });
    return 0;
  }
  if (std::strcmp(kernel, "foreshock_rows") == 0) {
    shim::run_grid(num_blocks, seed, [a] {
      foreshock_rows((const Tensor*)a[0], (const Partial*)a[1], (Record*)a[2], (const u64*)a[3],
                     (u32*)a[4]);
    });
    return 0;
  }
  return 1;
}

extern "C" void shim_sizes(u64* out) {
  out[0] = sizeof(Tensor);
  out[1] = sizeof(Chunk);
  out[2] = 2 * sizeof(Partial);
  out[3] = sizeof(Record);
  out[4] = sizeof(UnitMoments);
  out[5] = kOutputWords;
}
