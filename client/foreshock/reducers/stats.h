// The arithmetic of Foreshock's statistics, shared by the CPU reducer (g++), the CUDA kernels
// (NVRTC) and their emulation in the tests. It includes nothing, because NVRTC has no headers.
//
// What is measured, and the rules, are those of `foreshock.wire.names.STATISTICS`:
//   1. Power sums are taken of d = x - shift in double precision, where `shift` is close to the
//      mean of the chunk. No float32 overflows there ((2 * 3.4e38)^4 is 2e155), and a mean of 1e4
//      with a deviation of 1e-2 keeps twelve digits.
//   2. Chunks merge as central moments (Pebay 2008, SAND2008-6212, equations 2.1, 3.1).
//   3. NaN and Inf are counted and kept out of every sum.
//   4. Underflow, overflow and Inf are read from one histogram of float32 exponents.
#ifndef FORESHOCK_STATS_H
#define FORESHOCK_STATS_H

#if defined(__CUDACC__)
#define FS_FN __host__ __device__ inline
#else
#define FS_FN inline
#endif

// The CPU library holds one copy per instruction set; separate namespaces keep the linker from
// folding an AVX2 copy of an inline function into the portable one.
#ifndef FORESHOCK_NAMESPACE
#define FORESHOCK_NAMESPACE foreshock
#endif

namespace FORESHOCK_NAMESPACE {

using u8 = unsigned char;
using u16 = unsigned short;
using u32 = unsigned int;
using u64 = unsigned long long;
using i64 = long long;

constexpr int kExponents = 256;       // float32 exponent fields, 255 is Inf and NaN
constexpr int kHistogramBins = 64;    // of 4 exponents each, the form that travels
constexpr int kStatistics = 13;       // len(STATISTICS)
constexpr int kUnderflowField = 103;  // |x| < 2^-24 has an exponent field below 127 - 24
constexpr int kOverflowField = 143;   // |x| >= 2^16 has an exponent field from 127 + 16 on
constexpr float kFloatMax = 3.402823466e+38f;

enum Dtype { kF32 = 0, kBF16 = 1, kF16 = 2, kF64 = 3 };

FS_FN u32 bits_of(float x) {
  union { float real; u32 bits; } pun;
  pun.real = x;
  return pun.bits;
}

FS_FN u64 bits_of(double x) {
  union { double real; u64 bits; } pun;
  pun.real = x;
  return pun.bits;
}

FS_FN float float_of(u32 bits) {
  union { u32 bits; float real; } pun;
  pun.bits = bits;
  return pun.real;
}

FS_FN float quiet_nan() { return float_of(0x7fc00000u); }
FS_FN float infinity() { return float_of(0x7f800000u); }

FS_FN bool is_finite(float x) { return (bits_of(x) & 0x7f800000u) != 0x7f800000u; }
FS_FN bool is_finite(double x) { return ((bits_of(x) >> 52) & 0x7ffu) != 0x7ffu; }

// float64 elements are measured in double, but what travels is float32: a finite one beyond
// float32's range counts as the largest float32, never as Inf.
FS_FN float held(float x) { return x; }
FS_FN double held(double x) {
  if (!is_finite(x)) return x;
  return x > kFloatMax ? kFloatMax : (x < -kFloatMax ? -kFloatMax : x);
}

FS_FN u32 exponent_field(float x) { return (bits_of(x) >> 23) & 255u; }
FS_FN u32 exponent_field(double x) {
  const int field = (int)((bits_of(x) >> 52) & 0x7ffu);
  if (field == 0x7ff) return 255u;
  const int moved = field - 1023 + 127;
  return (u32)(moved < 0 ? 0 : (moved > 254 ? 254 : moved));
}

// fp16 to fp32 without a branch: put exponent and mantissa where fp32 has them, repair the bias
// (2^112) by a multiplication that also normalises subnormals, and put Inf and NaN back.
FS_FN float half_to_float(u16 half) {
  const float magnitude = float_of((u32)(half & 0x7fffu) << 13) * 5.192296858534828e+33f;
  const u32 special = (half & 0x7c00u) == 0x7c00u ? 0x7f800000u : 0u;
  return float_of(bits_of(magnitude) | special | ((u32)(half & 0x8000u) << 16));
}

template <int D> struct Element;
template <> struct Element<kF32> {
  using Stored = float;
  using Real = float;
  static FS_FN float decode(float x) { return x; }
};
template <> struct Element<kBF16> {
  using Stored = u16;
  using Real = float;
  static FS_FN float decode(u16 x) { return float_of((u32)x << 16); }
};
template <> struct Element<kF16> {
  using Stored = u16;
  using Real = float;
  static FS_FN float decode(u16 x) { return half_to_float(x); }
};
template <> struct Element<kF64> {
  using Stored = double;
  using Real = double;
  static FS_FN double decode(double x) { return x; }
};

// Sums over one chunk, around one shift. Accumulators of the same shift combine by addition.
struct Accumulator {
  double s1, s2, s3, s4;
  double lowest, highest;
  u64 finite, zeros, nans;

  FS_FN void clear() {
    s1 = s2 = s3 = s4 = 0.0;
    lowest = infinity();
    highest = -infinity();
    finite = zeros = nans = 0;
  }

  // One element; its exponent is counted by the caller.
  template <class Real> FS_FN void add(Real x, double shift) {
    if (!is_finite(x)) {
      nans += x != x;
      return;
    }
    const double d = (double)x - shift;
    const double q = d * d;
    s1 += d;
    s2 += q;
    s3 += q * d;
    s4 += q * q;
    lowest = x < lowest ? (double)x : lowest;
    highest = x > highest ? (double)x : highest;
    zeros += x == 0;
    finite += 1;
  }

  FS_FN void add(const Accumulator& other) {
    s1 += other.s1;
    s2 += other.s2;
    s3 += other.s3;
    s4 += other.s4;
    lowest = other.lowest < lowest ? other.lowest : lowest;
    highest = other.highest > highest ? other.highest : highest;
    finite += other.finite;
    zeros += other.zeros;
    nans += other.nans;
  }
};

// Chooses the shift of a chunk from a few of its elements. A constant sample gives exactly its
// value, so that the variance of a constant tensor is exactly 0.
struct ShiftSample {
  double sum, first;
  int seen;
  bool constant;

  FS_FN void clear() {
    sum = first = 0.0;
    seen = 0;
    constant = true;
  }
  FS_FN void add(double x) {
    if (!is_finite(x)) return;
    if (seen == 0) first = x;
    constant = constant && x == first;
    sum += x;
    seen += 1;
  }
  FS_FN double shift() const { return seen == 0 ? 0.0 : (constant ? first : sum / seen); }
};

// Count, mean, and sums of (x - mean)^k.
struct Moments {
  double n, mean, m2, m3, m4;

  FS_FN void clear() { n = mean = m2 = m3 = m4 = 0.0; }

  FS_FN void from(const Accumulator& sums, double shift) {
    clear();
    if (sums.finite == 0) return;
    n = (double)sums.finite;
    const double m = sums.s1 / n;
    mean = shift + m;
    m2 = sums.s2 - m * sums.s1;
    m3 = sums.s3 - m * (3.0 * sums.s2 - 2.0 * m * sums.s1);
    m4 = sums.s4 - m * (4.0 * sums.s3 - m * (6.0 * sums.s2 - 3.0 * m * sums.s1));
    m2 = m2 > 0.0 ? m2 : 0.0;
    m4 = m4 > 0.0 ? m4 : 0.0;
  }

  FS_FN void merge(const Moments& b) {
    if (b.n == 0.0) return;
    if (n == 0.0) {
      *this = b;
      return;
    }
    // Written with the shares of both sides, so that no power of n is ever formed.
    const double total = n + b.n;
    const double p = n / total, q = b.n / total;
    const double d = b.mean - mean, d2 = d * d;
    const double spread = d2 * p * b.n;
    m4 += b.m4 + spread * d2 * (p * p - p * q + q * q) +
          6.0 * d2 * (p * p * b.m2 + q * q * m2) + 4.0 * d * (p * b.m3 - q * m3);
    m3 += b.m3 + spread * d * (p - q) + 3.0 * d * (p * b.m2 - q * m2);
    m2 += b.m2 + spread;
    mean += d * q;
    n = total;
  }
};

// Everything known about one row within a step, except its exponents and its units.
struct Record {
  Moments moments;
  double lowest, highest;
  u64 elements, zeros, nans;
  u64 measured;  // how many tensors were merged; 0: the row does not exist on this step

  FS_FN void clear() {
    moments.clear();
    lowest = infinity();
    highest = -infinity();
    elements = zeros = nans = measured = 0;
  }

  FS_FN void merge(const Accumulator& sums, double shift) {
    Moments chunk;
    chunk.from(sums, shift);
    moments.merge(chunk);
    lowest = sums.lowest < lowest ? sums.lowest : lowest;
    highest = sums.highest > highest ? sums.highest : highest;
    zeros += sums.zeros;
    nans += sums.nans;
  }
};

// The mean over the units of their variance, and the share of units that are 0 throughout; NaN
// where a row has no units.
struct UnitSummary {
  double mean_variance, inactive_frac;
};

FS_FN float to_float(double x) {
  return x > kFloatMax ? kFloatMax : (x < -kFloatMax ? -kFloatMax : (float)x);
}

#if defined(__CUDA_ARCH__)
FS_FN double square_root(double x) { return sqrt(x); }
#else
FS_FN double square_root(double x) { return __builtin_sqrt(x); }
#endif

// Sums over `exponents` that `finalise` needs; a kernel may gather them in parallel.
struct ExponentCounts {
  u64 small, large, special;  // below kUnderflowField, from kOverflowField to 254, at 255

  FS_FN void clear() { small = large = special = 0; }
  FS_FN void add(int field, u64 count) {
    if (field < kUnderflowField) small += count;
    if (field >= kOverflowField && field < 255) large += count;
    if (field == 255) special += count;
  }
};

// Writes the statistics in the order of STATISTICS.
FS_FN void finalise(const Record& record, const ExponentCounts& counts, const UnitSummary& units,
                    float* out) {
  const float absent = quiet_nan();
  for (int k = 0; k < kStatistics; ++k) out[k] = absent;
  if (record.measured == 0) return;
  const Moments& m = record.moments;
  out[0] = (float)record.elements;
  out[6] = (float)record.nans;
  out[7] = (float)(counts.special - record.nans);
  if (m.n > 0.0) {
    const double variance = m.m2 / m.n;
    const double nonzero = m.n - (double)record.zeros;
    // Where the variance squared underflows, the tensor is constant for every purpose.
    const double fourth = variance * variance;
    out[1] = to_float(m.mean);
    out[2] = to_float(square_root(variance));
    out[3] = to_float(record.lowest);
    out[4] = to_float(record.highest);
    out[5] = (float)((double)record.zeros / m.n);
    out[8] = fourth > 1e-300 ? to_float(m.m4 / m.n / fourth - 3.0) : 0.0f;
    out[9] = nonzero > 0.0 ? (float)((double)(counts.small - record.zeros) / nonzero) : 0.0f;
    out[10] = (float)((double)counts.large / m.n);
  }
  if (units.mean_variance == units.mean_variance) {
    out[11] = to_float(square_root(units.mean_variance));
  }
  if (units.inactive_frac == units.inactive_frac) out[12] = (float)units.inactive_frac;
}

// Moments of one unit; `active` is 1 where one of its elements was not 0.
struct UnitMoments {
  double n, mean, m2, active;

  FS_FN void clear() { n = mean = m2 = active = 0.0; }

  FS_FN void merge(const UnitMoments& b) {
    active = b.active > active ? b.active : active;
    if (b.n == 0.0) return;
    const double total = n + b.n, d = b.mean - mean, q = b.n / total;
    m2 += b.m2 + d * d * n * q;
    mean += d * q;
    n = total;
  }
};

FS_FN u32 saturated(u64 count) { return count > 0xffffffffu ? 0xffffffffu : (u32)count; }

}  // namespace FORESHOCK_NAMESPACE

#endif
