// Per-unit sums: the variance of each unit over everything else, and whether it was ever not 0.
//
// Each unit has a shift of its own, its first element of the step, because units differ in their
// means by far more than they vary. Sums run in float32 over at most kUnitRun elements of a unit.
#ifndef FORESHOCK_UNITS_H
#define FORESHOCK_UNITS_H

#include "moments.h"

namespace FORESHOCK_NAMESPACE {

constexpr int kUnitRun = 64;  // rows of one flush

// --- in double precision ------------------------------------------------------------------------

template <class Real>
inline void add_unit(ForeshockUnits& units, i64 u, const Real* x, i64 n) {
  const double shift = units.shift[u];
  double s1 = 0.0, s2 = 0.0, bad = 0.0;
  float active = units.active[u];
  for (i64 i = 0; i < n; ++i) {
    const bool counted = is_finite(x[i]);
    const double d = counted ? (double)x[i] - shift : 0.0;
    s1 += d;
    s2 += d * d;
    bad += counted ? 0.0 : 1.0;
    active = x[i] != 0 ? 1.0f : active;
  }
  units.s1[u] += s1;
  units.s2[u] += s2;
  units.non_finite[u] += bad;
  units.active[u] = active;
}

// One element of each of n neighbouring units, without a branch, so that it is vectorised.
template <class Real>
inline void add_neighbours(ForeshockUnits& units, i64 u, const Real* __restrict x, i64 n) {
  const double* __restrict shift = units.shift + u;
  double* __restrict s1 = units.s1 + u;
  double* __restrict s2 = units.s2 + u;
  double* __restrict bad = units.non_finite + u;
  float* __restrict active = units.active + u;
  for (i64 i = 0; i < n; ++i) {
    const bool counted = is_finite(x[i]);
    const double d = counted ? (double)x[i] - shift[i] : 0.0;
    s1[i] += d;
    s2[i] += d * d;
    bad[i] += counted ? 0.0 : 1.0;
  }
  for (i64 i = 0; i < n; ++i) active[i] = x[i] != 0 ? 1.0f : active[i];
}

// Elements [at, at + n) of a tensor whose unit is at / inner % units.
template <class Real>
void add_units_exactly(ForeshockUnits& units, i64 inner, const Real* x, i64 n, i64 at) {
  while (n > 0 && inner == 1) {
    const i64 u = at % units.units, rest = units.units - u;
    const i64 run = rest < n ? rest : n;
    add_neighbours(units, u, x, run);
    x += run;
    n -= run;
    at += run;
  }
  while (n > 0) {
    const i64 u = at / inner % units.units;
    const i64 rest = inner - at % inner;
    const i64 run = rest < n ? rest : n;
    add_unit(units, u, x, run);
    x += run;
    n -= run;
    at += run;
  }
}

template <class Source>
void add_tile_units_exactly(ForeshockUnits& units, i64 inner, const Source& source,
                            const Tile& tile) {
  each_block(source, tile.flat(), [&](const typename Source::Real* x, int n, i64 at) {
    add_units_exactly(units, inner, x, n, at);
  });
}

// --- in float32 ---------------------------------------------------------------------------------

// Whether squares of differences to the shifts neither overflow nor underflow in float32.
inline bool fits(const ForeshockUnits& units, const Progress& tile) {
  if (!tile.finite) return false;
  const double up = tile.highest, down = -tile.lowest, shift = units.largest_shift;
  const double largest = up > down ? up : down;
  const double reach = largest > shift ? largest : shift;
  return reach == 0.0 || (reach >= 0x1p-30 && reach <= 0x1p50);
}

inline Floats shifts_at(const double* from) {
  Halves both;
  both.half[0] = __builtin_convertvector(load<Doubles>(from), HalfFloats);
  both.half[1] = __builtin_convertvector(load<Doubles>(from + kLanes / 2), HalfFloats);
  return both.whole;
}

inline void accumulate(double* to, Floats sums) {
  store(to, load<Doubles>(to) + low_half(sums));
  store(to + kLanes / 2, load<Doubles>(to + kLanes / 2) + high_half(sums));
}

// Sums of N vectors of neighbouring units over the rows of a stretch, held in registers.
template <int N, class Source>
inline void add_columns(ForeshockUnits& units, const Source& source, i64 at, i64 rows, i64 stride,
                        i64 u) {
  Floats shift[N], s1[N] = {}, s2[N] = {};
  Ints active[N] = {};
  for (int k = 0; k < N; ++k) shift[k] = shifts_at(units.shift + u + k * kLanes);
  for (i64 row = 0; row < rows; ++row, at += stride) {
    for (int k = 0; k < N; ++k) {
      const Floats v = source.at(at + k * kLanes), d = v - shift[k];
      s1[k] += d;
      s2[k] += d * d;
      active[k] |= (Ints)v;
    }
  }
  for (int k = 0; k < N; ++k) {
    const i64 first = u + k * kLanes;
    accumulate(units.s1 + first, s1[k]);
    accumulate(units.s2 + first, s2[k]);
    const Floats ones = Floats{} + 1.0f, seen = load<Floats>(units.active + first);
    store(units.active + first, (active[k] & 0x7fffffff) != 0 ? ones : seen);
  }
}

template <class Source>
void add_rows(ForeshockUnits& units, const Source& source, const Tile& tile) {
  const i64 rows = tile.rows, columns = tile.columns, stride = tile.stride;
  const i64 u = tile.at % units.units;
  for (i64 begin = 0; begin < rows; begin += kUnitRun) {
    const i64 from = tile.at + begin * stride;
    const i64 some = rows - begin < kUnitRun ? rows - begin : kUnitRun;
    i64 c = 0;
    for (; c + 4 * kLanes <= columns; c += 4 * kLanes) {
      add_columns<4>(units, source, from + c, some, stride, u + c);
    }
    for (; c + kLanes <= columns; c += kLanes) {
      add_columns<1>(units, source, from + c, some, stride, u + c);
    }
    for (; c < columns; ++c) {
      const float shift = (float)units.shift[u + c];
      float s1 = 0.0f, s2 = 0.0f, active = units.active[u + c];
      for (i64 row = 0; row < some; ++row) {
        const float x = source.one(from + c + row * stride), d = x - shift;
        s1 += d;
        s2 += d * d;
        active = x != 0.0f ? 1.0f : active;
      }
      units.s1[u + c] += s1;
      units.s2[u + c] += s2;
      units.active[u + c] = active;
    }
  }
}

// Elements [at, at + n) that follow one another within units of `inner` elements.
template <class Source>
void add_runs(ForeshockUnits& units, i64 inner, const Source& source, i64 at, i64 n) {
  while (n > 0) {
    const i64 u = at / inner % units.units;
    const i64 rest = inner - at % inner, most = (i64)kUnitRun * kLanes;
    i64 run = rest < n ? rest : n;
    run = run < most ? run : most;
    const float shift = (float)units.shift[u];
    Floats s1{}, s2{};
    Ints active{};
    i64 i = 0;
    for (; i + kLanes <= run; i += kLanes) {
      const Floats v = source.at(at + i), d = v - shift;
      s1 += d;
      s2 += d * d;
      active |= (Ints)v;
    }
    double first = sum_of(s1), second = sum_of(s2);
    int bits = 0;
    for (int k = 0; k < kLanes; ++k) bits |= active[k];
    for (; i < run; ++i) {
      const float x = source.one(at + i), d = x - shift;
      first += d;
      second += d * d;
      bits |= (int)bits_of(x);
    }
    units.s1[u] += first;
    units.s2[u] += second;
    if ((bits & 0x7fffffff) != 0) units.active[u] = 1.0f;
    n -= run;
    at += run;
  }
}

// Adds a tile that `measure_tile` has just read; one row of it where `inner` is not 1.
template <class Source>
void add_tile_units(ForeshockUnits& units, i64 inner, const Source& source, const Tile& tile,
                    const Progress& progress) {
  if constexpr (sizeof(typename Source::Real) == sizeof(double)) {
    add_tile_units_exactly(units, inner, source, tile);
  } else if (!fits(units, progress)) {
    add_tile_units_exactly(units, inner, source, tile);
  } else if (inner == 1) {
    add_rows(units, source, tile);
  } else {
    add_runs(units, inner, source, tile.at, tile.columns);
  }
}

}  // namespace FORESHOCK_NAMESPACE

#endif
