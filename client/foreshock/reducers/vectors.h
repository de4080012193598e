// The vectors of one instruction set, and how elements of each dtype become vectors of float32.
//
// GCC's vector types state the vectorisation and the compiler lowers them; intrinsics stand only
// where no operator says the same.
#ifndef FORESHOCK_VECTORS_H
#define FORESHOCK_VECTORS_H

#include "stats.h"

#if defined(__F16C__)
#include <immintrin.h>
#endif

namespace FORESHOCK_NAMESPACE {

#if defined(__AVX512VBMI__)
constexpr int kVectorBytes = 64;
#elif defined(__AVX2__)
constexpr int kVectorBytes = 32;
#else
constexpr int kVectorBytes = 16;
#endif
constexpr int kLanes = kVectorBytes / (int)sizeof(float);
constexpr int kGroup = 4 * kLanes;  // elements whose exponents fill one vector of bytes

typedef float Floats __attribute__((vector_size(kVectorBytes)));
typedef int Ints __attribute__((vector_size(kVectorBytes)));
typedef u32 Words __attribute__((vector_size(kVectorBytes)));
typedef double Doubles __attribute__((vector_size(kVectorBytes)));
typedef u8 Bytes __attribute__((vector_size(kVectorBytes)));
typedef float HalfFloats __attribute__((vector_size(kVectorBytes / 2)));
typedef u16 HalfShorts __attribute__((vector_size(kVectorBytes / 2)));

template <class Vector> inline Vector load(const void* from) {
  Vector vector;
  __builtin_memcpy(&vector, from, sizeof vector);
  return vector;
}

template <class Vector> inline void store(void* to, const Vector& vector) {
  __builtin_memcpy(to, &vector, sizeof vector);
}

inline Floats lesser(Floats a, Floats b) { return a < b ? a : b; }
inline Floats greater(Floats a, Floats b) { return a > b ? a : b; }

union Halves {
  Floats whole;
  HalfFloats half[2];
};

inline Doubles widened(HalfFloats v) {
#if defined(__AVX512VBMI__)
  return (Doubles)_mm512_cvtps_pd((__m256)v);
#else
  return __builtin_convertvector(v, Doubles);
#endif
}

inline Doubles low_half(Floats v) { return widened(Halves{v}.half[0]); }
inline Doubles high_half(Floats v) { return widened(Halves{v}.half[1]); }

template <class Vector> inline double sum_of(const Vector& v) {
  double sum = 0.0;
  for (int k = 0; k < (int)(sizeof(Vector) / sizeof(v[0])); ++k) sum += (double)v[k];
  return sum;
}

inline float least(Floats v) {
  float found = v[0];
  for (int k = 1; k < kLanes; ++k) found = v[k] < found ? v[k] : found;
  return found;
}

inline float greatest(Floats v) {
  float found = v[0];
  for (int k = 1; k < kLanes; ++k) found = v[k] > found ? v[k] : found;
  return found;
}

// The sum of a vector of byte counts, eight bytes at a time.
template <class Vector> inline u64 total(const Vector& counts) {
  u64 pairs = 0;
  for (int k = 0; k < (int)sizeof(Vector) / 8; ++k) {
    u64 eight;
    __builtin_memcpy(&eight, (const u8*)&counts + 8 * k, 8);
    pairs += (eight & 0x00ff00ff00ff00ffu) + ((eight >> 8) & 0x00ff00ff00ff00ffu);
  }
  return (pairs * 0x0001000100010001u) >> 48;
}

// The highest byte of each element of four vectors, in any order: sign and upper exponent bits.
inline Bytes top_bytes(Floats a, Floats b, Floats c, Floats d) {
#if defined(__AVX512VBMI__)
  // Bytes 3, 7, ... of two vectors; the halves of the permuted pair are then joined.
  const __m512i odd = _mm512_set_epi8(
      127, 123, 119, 115, 111, 107, 103, 99, 95, 91, 87, 83, 79, 75, 71, 67,
      63, 59, 55, 51, 47, 43, 39, 35, 31, 27, 23, 19, 15, 11, 7, 3,
      127, 123, 119, 115, 111, 107, 103, 99, 95, 91, 87, 83, 79, 75, 71, 67,
      63, 59, 55, 51, 47, 43, 39, 35, 31, 27, 23, 19, 15, 11, 7, 3);
  const __m512i first = _mm512_permutex2var_epi8((__m512i)a, odd, (__m512i)b);
  const __m512i second = _mm512_permutex2var_epi8((__m512i)c, odd, (__m512i)d);
  return (Bytes)_mm512_mask_mov_epi64(first, 0xf0, second);
#else
  return (Bytes)(((Words)a >> 24) | (((Words)b >> 16) & 0x0000ff00u) |
                 (((Words)c >> 8) & 0x00ff0000u) | ((Words)d & 0xff000000u));
#endif
}

template <int D> inline Floats decode(const typename Element<D>::Stored* from);

template <> inline Floats decode<kF32>(const float* from) { return load<Floats>(from); }

template <> inline Floats decode<kBF16>(const u16* from) {
#if defined(__AVX512VBMI__)
  return (Floats)_mm512_slli_epi32(_mm512_cvtepu16_epi32(load<__m256i>(from)), 16);
#elif defined(__AVX2__)
  return (Floats)_mm256_slli_epi32(_mm256_cvtepu16_epi32(load<__m128i>(from)), 16);
#else
  return (Floats)(__builtin_convertvector(load<HalfShorts>(from), Words) << 16);
#endif
}

// Exactly what half_to_float gives.
template <> inline Floats decode<kF16>(const u16* from) {
#if defined(__AVX512VBMI__)
  return (Floats)_mm512_cvtph_ps(load<__m256i>(from));
#elif defined(__F16C__)
  return (Floats)_mm256_cvtph_ps(load<__m128i>(from));
#else
  const Words half = __builtin_convertvector(load<HalfShorts>(from), Words);
  const Words magnitude = (Words)((Floats)((half & 0x7fffu) << 13) * 5.192296858534828e+33f);
  const Words special = (Words)((half & 0x7c00u) == 0x7c00u) & 0x7f800000u;
  return (Floats)(magnitude | special | ((half & 0x8000u) << 16));
#endif
}

}  // namespace FORESHOCK_NAMESPACE

#endif
