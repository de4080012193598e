// Counts the binary exponents of a tensor, in bins of four neighbouring float32 exponents.
//
// The exponents of real tensors crowd into a few bins, and a table increment an element costs more
// than all the moments. So the moments' pass leaves a byte an element behind, and here the highest
// bins and the lowest are counted by comparing whole vectors of them, and only the rest otherwise.
#ifndef FORESHOCK_EXPONENTS_H
#define FORESHOCK_EXPONENTS_H

#include "cpu_kernel.h"
#include "sources.h"

namespace FORESHOCK_NAMESPACE {

constexpr int kPeak = 5;            // bins a comparing round counts: a normal tensor has no more
constexpr int kByteBlock = kVectorBytes == 16 ? 2048 : 4096;  // bytes that are counted together

typedef u8 ShortBytes __attribute__((vector_size(kVectorBytes < 32 ? kVectorBytes : 32)));

static_assert(kByteBlock / sizeof(ShortBytes) <= 255, "a count in a byte would wrap");

// Bins of which a part is a statistic of its own: `small` ends and `large` begins inside one.
constexpr int kZeroBin = 0;
constexpr int kSmallBin = kUnderflowField / 4;
constexpr int kLargeBin = kOverflowField / 4;
constexpr int kSpecialBin = kHistogramBins - 1;

inline Bytes exponent_bytes(Floats a, Floats b, Floats c, Floats d) {
  return top_bytes(a, b, c, d) & (u8)0x7e;
}

// The upper bits of the exponents of up to kByteBlock elements. A byte is twice its bin.
struct ByteBlock {
  alignas(kVectorBytes) u8 bytes[kByteBlock];
  Bytes top;
  int used, padding;  // padding: bytes of 0 that stand for no element

  void clear() {
    top = Bytes{};
    used = padding = 0;
  }

  void add(Floats a, Floats b, Floats c, Floats d) {
    const Bytes v = exponent_bytes(a, b, c, d);
    store(bytes + used, v);
    top = v > top ? v : top;
    used += kVectorBytes;
  }
};

inline bool any(Bytes v) {
#if defined(__AVX512VBMI__)
  return _mm512_test_epi8_mask((__m512i)v, (__m512i)v) != 0;
#else
  u64 found = 0;
  for (int k = 0; k < kVectorBytes / 8; ++k) found |= load<u64>((const u8*)&v + 8 * k);
  return found != 0;
#endif
}

// How many bytes equal each of N values. Compares of 32 bytes, even where there are longer vectors:
// their comparisons give masks, which cost more to count than bytes of 255 to subtract.
template <int N> inline void count_equal(const ByteBlock& block, const u8* values, u64* counts) {
  ShortBytes found[N] = {};
  for (int i = 0; i < block.used; i += (int)sizeof(ShortBytes)) {
    const ShortBytes v = load<ShortBytes>(block.bytes + i);
    for (int k = 0; k < N; ++k) found[k] -= (ShortBytes)(v == values[k]);
  }
  for (int k = 0; k < N; ++k) counts[k] = total(found[k]);
}

// Adds the bytes below `limit`, except 0, to the bins; they are known to be few.
inline void count_stragglers(const ByteBlock& block, u8 limit, u64 left, u64* bins) {
  for (int i = 0; i < block.used && left > 0; i += kVectorBytes) {
    const Bytes v = load<Bytes>(block.bytes + i);
    if (!any((Bytes)(v < limit) & v)) continue;
    for (int k = 0; k < kVectorBytes; ++k) {
      const u8 byte = block.bytes[i + k];
      if (byte != 0 && byte < limit) {
        bins[byte / 2] += 1;
        left -= 1;
      }
    }
  }
}

inline void count_bytes(const ByteBlock& block, u64* bins) {
  int highest = 0;
  for (int k = 0; k < kVectorBytes; ++k) highest = block.top[k] > highest ? block.top[k] : highest;
  u8 values[kPeak + 1];
  u64 counts[kPeak + 1];
  for (int k = 0; k < kPeak; ++k) {
    const int value = highest - 2 * k;
    values[k] = (u8)(value >= 2 ? value : 1);  // 1 is no byte's value
  }
  values[kPeak] = 0;
  count_equal<kPeak + 1>(block, values, counts);
  u64 left = (u64)block.used;
  for (int k = 0; k <= kPeak; ++k) {
    bins[values[k] / 2] += counts[k];
    left -= counts[k];
  }
  bins[kZeroBin] -= (u64)block.padding;
  for (int value = highest - 2 * kPeak; left > 0 && value >= 2; value -= 2 * kPeak) {
    if (left <= (u64)kVectorBytes) {
      count_stragglers(block, (u8)(value + 2), left, bins);
      return;
    }
    for (int k = 0; k < kPeak; ++k) {
      values[k] = (u8)(value - 2 * k >= 2 ? value - 2 * k : 1);
    }
    count_equal<kPeak>(block, values, counts);
    for (int k = 0; k < kPeak; ++k) {
      bins[values[k] / 2] += counts[k];
      left -= counts[k];
    }
  }
}

// Elements of a tile whose magnitude, as bits, lies in [begin, end).
template <class Source>
u64 count_between(const Source& source, const Tile& tile, u32 begin, u32 end) {
  Ints found{};
  const int first = (int)begin, last = (int)(end - 1);
  each_vector(source, tile, [&](Floats v, i64 lanes) {
    const Ints bits = (Ints)v & 0x7fffffff;
    Ints inside = (bits >= first) & (bits <= last);
    for (int k = (int)lanes; k < kLanes; ++k) inside[k] = 0;
    found -= inside;
  });
  return (u64)sum_of(found);
}

template <class Source> u64 count_zeros(const Source& source, const Tile& tile) {
  Ints found{};
  i64 padding = 0;
  each_vector(source, tile, [&](Floats v, i64 lanes) {
    found -= (Ints)(v == 0.0f);
    padding += kLanes - lanes;
  });
  return (u64)((i64)sum_of(found) - padding);
}

// What the bins alone do not tell, counted only where a bin that it divides is not empty.
template <class Source>
void split_bins(const Source& source, const Tile& tile, const u64* before, u64* exponents) {
  if (exponents[kSmallBin] != before[0]) {
    exponents[kForeshockSmallPart] +=
        count_between(source, tile, 4u * kSmallBin << 23, (u32)kUnderflowField << 23);
  }
  if (exponents[kLargeBin] != before[1]) {
    exponents[kForeshockLargePart] +=
        count_between(source, tile, (u32)kOverflowField << 23, (kLargeBin + 1u) * 4u << 23);
  }
  if (exponents[kSpecialBin] != before[2]) {
    exponents[kForeshockSpecialPart] += count_between(source, tile, 0x7f800000u, 0x80000000u);
  }
}

// Counts a tile without its moments.
template <class Source>
void count_exponents(const Source& source, const Tile& tile, u64* exponents) {
  const u64 before[] = {exponents[kSmallBin], exponents[kLargeBin], exponents[kSpecialBin]};
  ByteBlock block;
  block.clear();
  Floats v[4];
  int filled = 0;
  const auto flush = [&] {
    block.add(v[0], v[1], v[2], v[3]);
    filled = 0;
    if (block.used == kByteBlock) {
      count_bytes(block, exponents);
      block.clear();
    }
  };
  each_vector(source, tile, [&](Floats each, i64 lanes) {
    v[filled++] = each;
    block.padding += (int)(kLanes - lanes);
    if (filled == 4) flush();
  });
  if (filled > 0) {
    block.padding += (4 - filled) * kLanes;
    while (filled < 4) v[filled++] = Floats{};
    flush();
  }
  if (block.used > 0) count_bytes(block, exponents);
  split_bins(source, tile, before, exponents);
}

}  // namespace FORESHOCK_NAMESPACE

#endif
