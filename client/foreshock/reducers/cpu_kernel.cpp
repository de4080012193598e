// The one-read CPU kernel, compiled once per instruction set. The build names each copy with
// FORESHOCK_NAMESPACE, FORESHOCK_KERNEL and FORESHOCK_KERNEL_NAME.
//
// A tensor is read in blocks that stay in the first-level cache, so that the moments, the
// exponents, the per-unit sums and the fused update all work on one read from memory. GCC's
// vector types state the vectorisation; the compiler lowers them for each instruction set.
#include "cpu_kernel.h"
#include "stats.h"

#if defined(__F16C__)
#include <immintrin.h>
#endif

namespace FORESHOCK_NAMESPACE {
namespace {

constexpr int kBlock = 1024;           // elements: 4 KB as float32, with room for a second block
constexpr i64 kChunk = 16 * kBlock;    // elements that share a shift
constexpr int kSamples = 32;           // elements that choose it
constexpr int kVectorBytes = 32;

typedef float Floats __attribute__((vector_size(32)));
typedef int Masks __attribute__((vector_size(32)));
typedef float HalfFloats __attribute__((vector_size(16)));
typedef double Doubles __attribute__((vector_size(32)));
typedef u8 Bytes __attribute__((vector_size(32)));

template <class Vector, class Scalar> inline Vector load(const Scalar* from) {
  Vector vector;
  __builtin_memcpy(&vector, from, sizeof vector);
  return vector;
}

template <int D>
inline void decode_block(const void* data, i64 at, int n, double scale,
                         typename Element<D>::Real* out) {
  using Real = typename Element<D>::Real;
  const auto* from = (const typename Element<D>::Stored*)data + at;
  if (scale == 1.0) {
    for (int i = 0; i < n; ++i) out[i] = held(Element<D>::decode(from[i]));
  } else {
    const Real factor = (Real)scale;
    for (int i = 0; i < n; ++i) out[i] = held(Element<D>::decode(from[i]) * factor);
  }
}

#if defined(__F16C__)
// One instruction for eight halves; exactly what half_to_float gives.
template <>
inline void decode_block<kF16>(const void* data, i64 at, int n, double scale, float* out) {
  const u16* from = (const u16*)data + at;
  const float factor = (float)scale;
  int i = 0;
  for (; i + 8 <= n; i += 8) {
    const Floats v = _mm256_cvtph_ps(_mm_loadu_si128((const __m128i*)(from + i))) * factor;
    __builtin_memcpy(out + i, &v, sizeof v);
  }
  for (; i < n; ++i) out[i] = half_to_float(from[i]) * factor;
}
#endif

template <class Real>
void add_one_by_one(const Real* x, int n, double shift, Accumulator& sums) {
  for (int i = 0; i < n; ++i) sums.add(x[i], shift);
}

// True where every element was finite.
inline bool add_block(const double* x, int n, double shift, Accumulator& sums) {
  const u64 before = sums.finite;
  add_one_by_one(x, n, shift, sums);
  return sums.finite - before == (u64)n;
}

inline bool add_block(const float* x, int n, double shift, Accumulator& sums) {
  const int whole = n & ~7;
  Doubles a1{}, a2{}, a3{}, a4{}, b1{}, b2{}, b3{}, b4{};
  Floats lowest = Floats{} + infinity(), highest = Floats{} - infinity();
  Masks zeros{};
  for (int i = 0; i < whole; i += 8) {
    const Floats v = load<Floats>(x + i);
    const Doubles a = __builtin_convertvector(load<HalfFloats>(x + i), Doubles) - shift;
    const Doubles b = __builtin_convertvector(load<HalfFloats>(x + i + 4), Doubles) - shift;
    const Doubles qa = a * a, qb = b * b;
    a1 += a;
    b1 += b;
    a2 += qa;
    b2 += qb;
    a3 += qa * a;
    b3 += qb * b;
    a4 += qa * qa;
    b4 += qb * qb;
    lowest = v < lowest ? v : lowest;
    highest = v > highest ? v : highest;
    zeros += v == 0.0f;
  }
  a1 += b1;
  a2 += b2;
  a3 += b3;
  a4 += b4;
  const double fourth = (a4[0] + a4[1]) + (a4[2] + a4[3]);
  const u64 before = sums.finite;
  if (!is_finite(fourth)) {  // no finite float32 can do this: there is a NaN or an Inf
    add_one_by_one(x, n, shift, sums);
    return false;
  }
  sums.s1 += (a1[0] + a1[1]) + (a1[2] + a1[3]);
  sums.s2 += (a2[0] + a2[1]) + (a2[2] + a2[3]);
  sums.s3 += (a3[0] + a3[1]) + (a3[2] + a3[3]);
  sums.s4 += fourth;
  for (int k = 0; k < 8; ++k) {
    sums.lowest = lowest[k] < sums.lowest ? (double)lowest[k] : sums.lowest;
    sums.highest = highest[k] > sums.highest ? (double)highest[k] : sums.highest;
    sums.zeros -= (u64)(i64)zeros[k];
  }
  sums.finite += (u64)whole;
  add_one_by_one(x + whole, n - whole, shift, sums);
  return sums.finite - before == (u64)n;
}

inline u64 total(const Bytes& counts) {
  u64 sum = 0;
  for (int k = 0; k < kVectorBytes; ++k) sum += counts[k];
  return sum;
}

// The exponents of real tensors crowd into a few neighbouring values, and a table increment an
// element costs more than all the moments. So count the highest sixteen by comparing whole vectors
// of exponent bytes, zeros likewise, and only what is left one by one.
template <class Real> void count_exponents(const Real* x, int n, u64* counts) {
  alignas(kVectorBytes) u8 fields[kBlock];
  if (n < 64) {
    for (int i = 0; i < n; ++i) counts[exponent_field(x[i])] += 1;
    return;
  }
  for (int i = 0; i < n; ++i) fields[i] = (u8)exponent_field(x[i]);
  const int padded = (n + kVectorBytes - 1) & ~(kVectorBytes - 1);
  for (int i = n; i < padded; ++i) fields[i] = 0;
  Bytes top{}, none{};
  for (int i = 0; i < padded; i += kVectorBytes) {
    const Bytes v = load<Bytes>(fields + i);
    top = v > top ? v : top;
    none -= (Bytes)(v == (u8)0);
  }
  int highest = 0;
  for (int k = 0; k < kVectorBytes; ++k) highest = top[k] > highest ? top[k] : highest;
  const u64 zeros = total(none) - (u64)(padded - n);
  counts[0] += zeros;
  u64 left = (u64)n - zeros;
  int field = highest;
  for (int pass = 0; pass < 4 && left > 0 && field >= 4; ++pass, field -= 4) {
    Bytes c0{}, c1{}, c2{}, c3{};
    const u8 f0 = (u8)field, f1 = (u8)(field - 1), f2 = (u8)(field - 2), f3 = (u8)(field - 3);
    for (int i = 0; i < padded; i += kVectorBytes) {
      const Bytes v = load<Bytes>(fields + i);
      c0 -= (Bytes)(v == f0);
      c1 -= (Bytes)(v == f1);
      c2 -= (Bytes)(v == f2);
      c3 -= (Bytes)(v == f3);
    }
    const u64 n0 = total(c0), n1 = total(c1), n2 = total(c2), n3 = total(c3);
    counts[f0] += n0;
    counts[f1] += n1;
    counts[f2] += n2;
    counts[f3] += n3;
    left -= n0 + n1 + n2 + n3;
  }
  for (int i = 0; left > 0 && i < n; ++i) {
    if (fields[i] != 0 && fields[i] <= field) {
      counts[fields[i]] += 1;
      left -= 1;
    }
  }
}

// --- per-unit sums ------------------------------------------------------------------------------

template <class Real>
inline void add_unit(ForeshockUnits& units, i64 u, const Real* x, i64 n, bool clean) {
  const double shift = units.shift[u];
  double s1 = 0.0, s2 = 0.0, bad = 0.0;
  float active = units.active[u];
  for (i64 i = 0; i < n; ++i) {
    const bool counted = clean || is_finite(x[i]);
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

template <class Real>
inline void add_units(ForeshockUnits& units, const ForeshockJob& job, const Real* x, int n, i64 at,
                      bool clean) {
  if (job.inner == 1 && clean) {
    while (n > 0) {
      const i64 u = at % units.units;
      const int run = units.units - u < n ? (int)(units.units - u) : n;
      const double* __restrict shift = units.shift + u;
      double* __restrict s1 = units.s1 + u;
      double* __restrict s2 = units.s2 + u;
      float* __restrict active = units.active + u;
      for (int i = 0; i < run; ++i) {
        const double d = (double)x[i] - shift[i];
        s1[i] += d;
        s2[i] += d * d;
      }
      for (int i = 0; i < run; ++i) active[i] = x[i] != 0 ? 1.0f : active[i];
      x += run;
      n -= run;
      at += run;
    }
    return;
  }
  while (n > 0) {
    const i64 u = at / job.inner % units.units;
    const i64 rest = job.inner - at % job.inner;
    const int run = rest < n ? (int)rest : n;
    add_unit(units, u, x, run, clean);
    x += run;
    n -= run;
    at += run;
  }
}

// The first tensor of a step sets the shift of each unit to its first element.
template <int D>
ForeshockUnits* begin_units(ForeshockUnits& units, const ForeshockJob& job, double scale) {
  if (job.units == 0 || units.inconsistent) return nullptr;
  if (units.units != job.units) {
    units.inconsistent = 1;
    return nullptr;
  }
  if (units.expected == 0.0 && job.numel > 0) {
    for (i64 u = 0; u < job.units; ++u) {
      typename Element<D>::Real first;
      decode_block<D>((const void*)job.data, u * job.inner, 1, scale, &first);
      units.shift[u] = is_finite(first) ? (double)first : 0.0;
      units.s1[u] = units.s2[u] = units.non_finite[u] = 0.0;
      units.active[u] = 0.0f;
    }
  }
  units.expected += (double)job.outer * (double)job.inner;
  return &units;
}

// --- one tensor ---------------------------------------------------------------------------------

template <int D> double choose_shift(const void* data, i64 begin, i64 end, double scale) {
  ShiftSample sample;
  sample.clear();
  const i64 stride = (end - begin + kSamples - 1) / kSamples;
  for (i64 i = begin; i < end; i += stride) {
    typename Element<D>::Real x;
    decode_block<D>(data, i, 1, scale, &x);
    sample.add(x);
  }
  return sample.shift();
}

template <int D> double choose_update_shift(const ForeshockJob& job, i64 begin, i64 end) {
  ShiftSample sample;
  sample.clear();
  const i64 stride = (end - begin + kSamples - 1) / kSamples;
  for (i64 i = begin; i < end; i += stride) {
    typename Element<D>::Real now, before;
    decode_block<D>((const void*)job.data, i, 1, 1.0, &now);
    decode_block<D>((const void*)job.previous, i, 1, 1.0, &before);
    sample.add(held(now - before));
  }
  return sample.shift();
}

inline void count_tensor(Record& record, const ForeshockJob& job) {
  record.elements += (u64)job.numel;
  record.measured += 1;
}

template <int D> void measure_tensor(ForeshockTable& table, const ForeshockJob& job, double scale) {
  using Real = typename Element<D>::Real;
  alignas(kVectorBytes) Real buffer[kBlock];
  Record& record = ((Record*)table.records)[job.row];
  u64* exponents = table.exponents + job.row * kExponents;
  ForeshockUnits* units = begin_units<D>(table.units[job.row], job, scale);
  const void* data = (const void*)job.data;
  const bool in_place = D == kF32 && scale == 1.0;
  count_tensor(record, job);
  for (i64 begin = 0; begin < job.numel; begin += kChunk) {
    const i64 end = job.numel - begin < kChunk ? job.numel : begin + kChunk;
    const double shift = choose_shift<D>(data, begin, end, scale);
    Accumulator sums;
    sums.clear();
    for (i64 at = begin; at < end; at += kBlock) {
      const int n = end - at < kBlock ? (int)(end - at) : kBlock;
      const Real* x = buffer;
      if (in_place) {
        x = (const Real*)data + at;
      } else {
        decode_block<D>(data, at, n, scale, buffer);
      }
      const bool clean = add_block(x, n, shift, sums);
      count_exponents(x, n, exponents);
      if (units != nullptr) add_units(*units, job, x, n, at, clean);
    }
    record.merge(sums, shift);
  }
}

template <int D> void measure_update(ForeshockTable& table, const ForeshockJob& job) {
  using Real = typename Element<D>::Real;
  using Stored = typename Element<D>::Stored;
  alignas(kVectorBytes) Real now[kBlock];
  alignas(kVectorBytes) Real change[kBlock];
  Record* records = (Record*)table.records;
  const void* data = (const void*)job.data;
  Stored* previous = (Stored*)job.previous;
  const bool wants_weight = job.row >= 0, wants_update = job.update_row >= 0;
  if (wants_weight) count_tensor(records[job.row], job);
  if (wants_update) count_tensor(records[job.update_row], job);
  for (i64 begin = 0; begin < job.numel; begin += kChunk) {
    const i64 end = job.numel - begin < kChunk ? job.numel : begin + kChunk;
    const double weight_shift = wants_weight ? choose_shift<D>(data, begin, end, 1.0) : 0.0;
    const double update_shift = wants_update ? choose_update_shift<D>(job, begin, end) : 0.0;
    Accumulator weight, update;
    weight.clear();
    update.clear();
    for (i64 at = begin; at < end; at += kBlock) {
      const int n = end - at < kBlock ? (int)(end - at) : kBlock;
      decode_block<D>(data, at, n, 1.0, now);
      if (wants_weight) {
        add_block(now, n, weight_shift, weight);
        count_exponents(now, n, table.exponents + job.row * kExponents);
      }
      if (wants_update) {
        decode_block<D>(previous, at, n, 1.0, change);
        for (int i = 0; i < n; ++i) change[i] = held(now[i] - change[i]);
        add_block(change, n, update_shift, update);
        count_exponents(change, n, table.exponents + job.update_row * kExponents);
      }
      __builtin_memcpy(previous + at, (const Stored*)data + at, (u64)n * sizeof(Stored));
    }
    if (wants_weight) records[job.row].merge(weight, weight_shift);
    if (wants_update) records[job.update_row].merge(update, update_shift);
  }
}

template <int D> void run(ForeshockTable& table, const ForeshockJob& job, double scale) {
  if (job.previous != 0) {
    measure_update<D>(table, job);
  } else {
    measure_tensor<D>(table, job, scale);
  }
}

void measure(ForeshockTable* table, const ForeshockJob* jobs, i64 num_jobs, double scale) {
  for (i64 k = 0; k < num_jobs; ++k) {
    switch (jobs[k].dtype) {
      case kF32: run<kF32>(*table, jobs[k], scale); break;
      case kBF16: run<kBF16>(*table, jobs[k], scale); break;
      case kF16: run<kF16>(*table, jobs[k], scale); break;
      default: run<kF64>(*table, jobs[k], scale); break;
    }
  }
}

}  // namespace
}  // namespace FORESHOCK_NAMESPACE

extern const ForeshockKernel FORESHOCK_KERNEL = {FORESHOCK_KERNEL_NAME,
                                                 FORESHOCK_NAMESPACE::measure};
