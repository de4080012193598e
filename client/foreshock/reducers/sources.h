// Where vectors of float32 come from: a tensor, a scaled tensor, or the change of a tensor.
//
// `at` reads kLanes elements, `part` reads fewer and leaves zeros in the other lanes, `one` reads
// an element. Each value is what the statistics are defined on: rounded to float32.
#ifndef FORESHOCK_SOURCES_H
#define FORESHOCK_SOURCES_H

#include "vectors.h"

namespace FORESHOCK_NAMESPACE {

constexpr int kBlock = 1024;  // elements that are decoded at once where that is needed

// A part of a tensor that is worked on while it is in the second-level cache: `rows` stretches of
// `columns` elements, `stride` apart.
struct Tile {
  i64 at, rows, columns, stride;

  i64 elements() const { return rows * columns; }
  Tile flat() const { return columns == stride ? Tile{at, 1, rows * columns, 0} : *this; }
};

template <int D> inline Floats decode_part(const typename Element<D>::Stored* from, i64 n) {
  typename Element<D>::Stored padded[kLanes] = {};
  if (n > 0) __builtin_memcpy(padded, from, (u64)n * sizeof padded[0]);
  return decode<D>(padded);
}

template <int D> struct Values {
  using Stored = typename Element<D>::Stored;
  using Real = float;
  const Stored* data;

  Floats at(i64 i) const { return decode<D>(data + i); }
  Floats part(i64 i, i64 n) const { return decode_part<D>(data + i, n); }
  float one(i64 i) const { return Element<D>::decode(data[i]); }
};

template <int D> struct ScaledValues {
  using Stored = typename Element<D>::Stored;
  using Real = float;
  const Stored* data;
  float scale;

  Floats at(i64 i) const { return decode<D>(data + i) * scale; }
  Floats part(i64 i, i64 n) const { return decode_part<D>(data + i, n) * scale; }
  float one(i64 i) const { return Element<D>::decode(data[i]) * scale; }
};

template <int D> struct Changes {
  using Stored = typename Element<D>::Stored;
  using Real = float;
  const Stored* data;
  Stored* previous;

  Floats at(i64 i) const { return decode<D>(data + i) - decode<D>(previous + i); }
  Floats part(i64 i, i64 n) const {
    return decode_part<D>(data + i, n) - decode_part<D>(previous + i, n);
  }
  float one(i64 i) const {
    return Element<D>::decode(data[i]) - Element<D>::decode(previous[i]);
  }
  void remember(const Tile& tile) const {
    __builtin_memcpy(previous + tile.at, data + tile.at, (u64)tile.columns * sizeof(Stored));
  }
};

// float64 has no vectors here: its elements are read one by one, each held in float32's range.
template <> struct Values<kF64> {
  using Real = double;
  const double* data;

  double one(i64 i) const { return held(data[i]); }
};

template <> struct ScaledValues<kF64> {
  using Real = double;
  const double* data;
  double scale;

  double one(i64 i) const { return held(data[i] * scale); }
};

template <> struct Changes<kF64> {
  using Real = double;
  const double* data;
  double* previous;

  double one(i64 i) const { return held(held(data[i]) - held(previous[i])); }
  void remember(const Tile& tile) const {
    __builtin_memcpy(previous + tile.at, data + tile.at, (u64)tile.columns * sizeof(double));
  }
};

// Calls `use(v, lanes)` with the vectors of a tile; `lanes` is below kLanes at the end of a row.
template <class Source, class Use> inline void each_vector(const Source& source, const Tile& tile,
                                                           const Use& use) {
  for (i64 row = 0; row < tile.rows; ++row) {
    const i64 begin = tile.at + row * tile.stride;
    i64 i = 0;
    for (; i + kLanes <= tile.columns; i += kLanes) use(source.at(begin + i), (i64)kLanes);
    if (i < tile.columns) use(source.part(begin + i, tile.columns - i), tile.columns - i);
  }
}

// Copies elements [at, at + n); `to` has room for a vector more.
template <class Source> inline void read(const Source& source, i64 at, i64 n, float* to) {
  each_vector(source, Tile{at, 1, n, n}, [&](Floats v, i64) {
    store(to, v);
    to += kLanes;
  });
}
template <class Source> inline void read(const Source& source, i64 at, i64 n, double* to) {
  for (i64 i = 0; i < n; ++i) to[i] = source.one(at + i);
}

// Calls `use(x, n, at)` with the elements of a tile, at most kBlock at a time.
template <class Source, class Use>
inline void each_block(const Source& source, const Tile& tile, const Use& use) {
  alignas(kVectorBytes) typename Source::Real x[kBlock + kLanes];
  for (i64 row = 0; row < tile.rows; ++row) {
    for (i64 done = 0; done < tile.columns; done += kBlock) {
      const i64 at = tile.at + row * tile.stride + done, rest = tile.columns - done;
      const int n = rest < kBlock ? (int)rest : kBlock;
      read(source, at, n, x);
      use(x, n, at);
    }
  }
}

}  // namespace FORESHOCK_NAMESPACE

#endif
