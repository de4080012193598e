// Moments in double precision, as stats.h defines them: of float64, and of tiles of other dtypes that
// hold a NaN or an Inf or are too wild for float32 sums.
#ifndef FORESHOCK_DOUBLES_H
#define FORESHOCK_DOUBLES_H

#include "exponents.h"

namespace FORESHOCK_NAMESPACE {

constexpr int kDoubleSamples = 32;  // elements that choose the shift of a tile

typedef i64 Longs __attribute__((vector_size(kVectorBytes)));

template <class Real>
void add_one_by_one(const Real* x, int n, double shift, Accumulator& sums) {
  for (int i = 0; i < n; ++i) sums.add(x[i], shift);
}

inline Doubles load_doubles(const float* from) {
  return widened(load<HalfFloats>(from));
}
inline Doubles load_doubles(const double* from) { return load<Doubles>(from); }

template <class Real> void add_block(const Real* x, int n, double shift, Accumulator& sums) {
  constexpr int kStep = kLanes / 2;
  const int whole = n & ~(2 * kStep - 1);
  Doubles s1[2] = {}, s2[2] = {}, s3[2] = {}, s4[2] = {};
  Doubles lowest = Doubles{} + (double)infinity(), highest = Doubles{} - (double)infinity();
  Longs zeros{};
  for (int i = 0; i < whole; i += 2 * kStep) {
    for (int k = 0; k < 2; ++k) {
      const Doubles v = load_doubles(x + i + k * kStep);
      const Doubles d = v - shift, q = d * d;
      s1[k] += d;
      s2[k] += q;
      s3[k] += q * d;
      s4[k] += q * q;
      lowest = v < lowest ? v : lowest;
      highest = v > highest ? v : highest;
      zeros -= (Longs)(v == 0.0);
    }
  }
  const double fourth = sum_of(s4[0] + s4[1]);
  if (!is_finite(fourth)) {  // no value that is held can do this: there is a NaN or an Inf
    add_one_by_one(x, n, shift, sums);
    return;
  }
  sums.s1 += sum_of(s1[0] + s1[1]);
  sums.s2 += sum_of(s2[0] + s2[1]);
  sums.s3 += sum_of(s3[0] + s3[1]);
  sums.s4 += fourth;
  for (int k = 0; k < kStep; ++k) {
    sums.lowest = lowest[k] < sums.lowest ? lowest[k] : sums.lowest;
    sums.highest = highest[k] > sums.highest ? highest[k] : sums.highest;
    sums.zeros += (u64)zeros[k];
  }
  sums.finite += (u64)whole;
  add_one_by_one(x + whole, n - whole, shift, sums);
}

template <class Source>
void add_tile_exactly(const Source& source, const Tile& tile, double shift, Accumulator& sums) {
  each_block(source, tile, [&](const typename Source::Real* x, int n, i64) {
    add_block(x, n, shift, sums);
  });
}

// A float32 with the same exponent field, and 0 where the double is 0: what the bins are made of.
inline float stand_in(double x) {
  const u32 field = exponent_field(x);
  return float_of(field << 23 | (u32)(field == 0 && x != 0.0));
}

// Reads a tile of float64 and merges it into its row.
template <class Source>
void measure_doubles(const Source& source, const Tile& shaped, Record& record, u64* exponents) {
  const Tile tile = shaped.flat();
  ShiftSample sample;
  sample.clear();
  const i64 stride = (tile.columns + kDoubleSamples - 1) / kDoubleSamples;
  for (i64 i = 0; i < tile.columns; i += stride) sample.add(source.one(tile.at + i));
  const double shift = sample.shift();
  Accumulator sums;
  sums.clear();
  each_block(source, tile, [&](const double* x, int n, i64) {
    alignas(kVectorBytes) float fields[kBlock];
    add_block(x, n, shift, sums);
    for (int i = 0; i < n; ++i) fields[i] = stand_in(x[i]);
    count_exponents(Values<kF32>{fields}, Tile{0, 1, n, n}, exponents);
  });
  record.merge(sums, shift);
}

}  // namespace FORESHOCK_NAMESPACE

#endif
