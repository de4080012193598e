// Statistics of any number of tensors in two launches.
//
// `foreshock_segments` reads: one block a chunk of a tensor, one read from memory, one partial
// result a chunk. `foreshock_rows` merges: one block a tensor, in a fixed order, so that the same
// tensors give the same bits, into the row's record; and it writes the row's statistics. A launch
// boundary stands between them instead of a "last block done" counter, whose memory order only
// hardware could test. All arithmetic is that of stats.h, the header of the CPU reducer.
//
// The tables are built by tables.py, field by field: every field is 8 bytes.
#include "stats.h"

using namespace FORESHOCK_NAMESPACE;

namespace {

constexpr int kThreads = 256;
constexpr int kCopies = 8;       // of the shared histogram, to spread colliding increments
constexpr int kInFlight = 2;     // packs a thread loads before it uses the first: 16 KB a block
constexpr int kSamples = 32;
constexpr int kOutputWords = kStatistics + 1 + kHistogramBins;

struct Tensor {
  u64 data, previous;      // previous: 0, or what is compared with data and then overwritten
  i64 numel, dtype;
  i64 rows[2];             // of the tensor itself, of data - previous; -1: not wanted
  double scale;
  u64 scale_address;       // 0, or a float32 on the device that replaces `scale`
  i64 first_chunk, num_chunks;
  i64 units, inner;        // units 0: no unit view; -1: tensors of the step disagree about it
  i64 lanes;               // threads that share a unit, 1 or 32
  u64 unit_partials;       // UnitMoments [slices, units]
  u64 unit_table;          // UnitMoments [units] of the row, over the step
  i64 num_slices;
  i64 fresh_units;         // 1: the table holds nothing of this step yet
};

struct Chunk {
  i64 tensor, kind;        // kind 0: elements; 1: units
  i64 start, count;        // first element and elements; first unit and units
  i64 slice, outer_start, outer_count;
};

struct Partial {
  Moments moments;
  double lowest, highest;
  u64 zeros, nans;

  FS_FN void clear() {
    moments.clear();
    lowest = infinity();
    highest = -infinity();
    zeros = nans = 0;
  }
  FS_FN void merge(const Partial& b) {
    moments.merge(b.moments);
    lowest = b.lowest < lowest ? b.lowest : lowest;
    highest = b.highest > highest ? b.highest : highest;
    zeros += b.zeros;
    nans += b.nans;
  }
};

// Element j of 16 bytes; j is a constant once the loops are unrolled, so nothing is indexed.
__device__ inline u32 word(const uint4& pack, int j) {
  return j == 0 ? pack.x : (j == 1 ? pack.y : (j == 2 ? pack.z : pack.w));
}
__device__ inline void extract(const uint4& pack, int j, float& out) {
  out = float_of(word(pack, j));
}
__device__ inline void extract(const uint4& pack, int j, u16& out) {
  out = (u16)(word(pack, j / 2) >> (16 * (j % 2)));
}
__device__ inline void extract(const uint4& pack, int j, double& out) {
  union { u64 bits; double real; } pun;
  pun.bits = (u64)word(pack, 2 * j) | ((u64)word(pack, 2 * j + 1) << 32);
  out = pun.real;
}

// The histogram is done with when the sums are combined, so they share their memory.
union Scratch {
  u32 exponents[2][kCopies][kExponents];
  Accumulator sums[kThreads];
  UnitMoments units[kThreads];
};

struct Setup {
  double shifts[2];
  double samples[2][kSamples];
};

__device__ double scale_of(const Tensor& tensor) {
  return tensor.scale_address != 0 ? (double)*(const float*)tensor.scale_address : tensor.scale;
}

template <int D>
__device__ typename Element<D>::Real value_of(typename Element<D>::Stored stored,
                                              typename Element<D>::Real scale) {
  return held(Element<D>::decode(stored) * scale);
}

// One element of the tensor, and of the update where there is one.
template <int D> struct Reader {
  using Stored = typename Element<D>::Stored;
  using Real = typename Element<D>::Real;
  Accumulator sums[2];
  double shifts[2];
  Real scale;
  bool wanted[2];
  u32* exponents[2];

  __device__ void take(int target, Real x) {
    sums[target].add(x, shifts[target]);
    atomicAdd(exponents[target] + exponent_field(x), 1u);
  }
  __device__ void add(Stored stored) {
    take(0, value_of<D>(stored, scale));
  }
  __device__ void add(Stored stored, Stored before) {
    const Real now = Element<D>::decode(stored);
    if (wanted[0]) take(0, held(now));
    if (wanted[1]) take(1, held(held(now) - held(Element<D>::decode(before))));
  }
};

template <int D>
__device__ void choose_shifts(const Tensor& tensor, const Chunk& chunk, Setup& setup) {
  using Stored = typename Element<D>::Stored;
  using Real = typename Element<D>::Real;
  const Stored* data = (const Stored*)tensor.data + chunk.start;
  const Stored* previous = (const Stored*)tensor.previous + chunk.start;
  const i64 stride = (chunk.count + kSamples - 1) / kSamples;
  if (threadIdx.x < kSamples) {
    const i64 i = threadIdx.x * stride;
    const bool inside = i < chunk.count;
    Real x = quiet_nan(), change = quiet_nan();
    if (inside) x = value_of<D>(data[i], (Real)scale_of(tensor));
    if (inside && tensor.previous != 0) {
      change = held(x - held(Element<D>::decode(previous[i])));
    }
    setup.samples[0][threadIdx.x] = x;
    setup.samples[1][threadIdx.x] = change;
  }
  __syncthreads();
  if (threadIdx.x < 2) {
    ShiftSample sample;
    sample.clear();
    for (int k = 0; k < kSamples; ++k) sample.add(setup.samples[threadIdx.x][k]);
    setup.shifts[threadIdx.x] = sample.shift();
  }
  __syncthreads();
}

// Reads the chunk: 16 bytes a load where both pointers allow it, element by element elsewhere.
template <int D, bool kUpdate>
__device__ void read_chunk(const Tensor& tensor, const Chunk& chunk, Reader<D>& reader) {
  using Stored = typename Element<D>::Stored;
  constexpr int kWidth = 16 / sizeof(Stored);
  const Stored* data = (const Stored*)tensor.data + chunk.start;
  Stored* previous = (Stored*)tensor.previous + chunk.start;
  i64 done = 0;
  if (((u64)data | (kUpdate ? (u64)previous : 0)) % 16 == 0) {
    const i64 num_packs = chunk.count / kWidth;
    done = num_packs * kWidth;
    constexpr int kAhead = kUpdate ? kInFlight / 2 : kInFlight;  // an update loads two packs
#pragma unroll 1
    for (i64 first = threadIdx.x; first < num_packs; first += kThreads * kAhead) {
      uint4 now[kAhead] = {}, before[kAhead] = {};
#pragma unroll
      for (int k = 0; k < kAhead; ++k) {
        const i64 at = first + k * kThreads;
        if (at < num_packs) {
          now[k] = ((const uint4*)data)[at];
          if (kUpdate) before[k] = ((const uint4*)previous)[at];
        }
      }
#pragma unroll
      for (int k = 0; k < kAhead; ++k) {
        const i64 at = first + k * kThreads;
        if (at < num_packs) {
#pragma unroll
          for (int j = 0; j < kWidth; ++j) {
            Stored stored, old;
            extract(now[k], j, stored);
            if (kUpdate) {
              extract(before[k], j, old);
              reader.add(stored, old);
            } else {
              reader.add(stored);
            }
          }
          if (kUpdate) ((uint4*)previous)[at] = now[k];
        }
      }
    }
  }
#pragma unroll 1
  for (i64 i = done + threadIdx.x; i < chunk.count; i += kThreads) {
    if (kUpdate) {
      reader.add(data[i], previous[i]);
      previous[i] = data[i];
    } else {
      reader.add(data[i]);
    }
  }
}

template <int D>
__device__ void measure_chunk(const Tensor& tensor, const Chunk& chunk, Partial* partials,
                              u64* exponents, Scratch& scratch, Setup& setup) {
  choose_shifts<D>(tensor, chunk, setup);
  Reader<D> reader;
  for (int target = 0; target < 2; ++target) {
    reader.sums[target].clear();
    reader.shifts[target] = setup.shifts[target];
    reader.wanted[target] = tensor.rows[target] >= 0;
    reader.exponents[target] = scratch.exponents[target][threadIdx.x % kCopies];
  }
  reader.scale = (typename Element<D>::Real)scale_of(tensor);
  for (int target = 0; target < 2; ++target) {
    for (int copy = 0; copy < kCopies; ++copy) {
      scratch.exponents[target][copy][threadIdx.x] = 0;
    }
  }
  __syncthreads();
  if (tensor.previous != 0) {
    read_chunk<D, true>(tensor, chunk, reader);
  } else {
    read_chunk<D, false>(tensor, chunk, reader);
  }
  __syncthreads();
  for (int target = 0; target < 2; ++target) {
    u32 count = 0;
    for (int copy = 0; copy < kCopies; ++copy) {
      count += scratch.exponents[target][copy][threadIdx.x];
    }
    if (count != 0) {
      atomicAdd(exponents + tensor.rows[target] * kExponents + threadIdx.x, (u64)count);
    }
  }
  for (int target = 0; target < 2; ++target) {
    __syncthreads();
    scratch.sums[threadIdx.x] = reader.sums[target];
    for (int half = kThreads / 2; half > 0; half /= 2) {
      __syncthreads();
      if (threadIdx.x < half) scratch.sums[threadIdx.x].add(scratch.sums[threadIdx.x + half]);
    }
    if (threadIdx.x == 0) {
      const Accumulator& sums = scratch.sums[0];
      Partial& partial = partials[target];
      partial.moments.from(sums, setup.shifts[target]);
      partial.lowest = sums.lowest;
      partial.highest = sums.highest;
      partial.zeros = sums.zeros;
      partial.nans = sums.nans;
    }
  }
}

// Per-unit moments of a slice of the outer dimension, `lanes` threads a unit.
template <int D>
__device__ void measure_units(const Tensor& tensor, const Chunk& chunk, Scratch& scratch) {
  using Stored = typename Element<D>::Stored;
  using Real = typename Element<D>::Real;
  const int lanes = (int)tensor.lanes;
  const int lane = threadIdx.x % lanes;
  const i64 in_chunk = threadIdx.x / lanes;
  const i64 unit = chunk.start + in_chunk;
  const Real scale = (Real)scale_of(tensor);
  UnitMoments mine;
  mine.clear();
  if (in_chunk < chunk.count) {
    double shift = 0.0, s1 = 0.0, s2 = 0.0;
    const i64 elements = chunk.outer_count * tensor.inner;
    for (i64 j = lane; j < elements; j += lanes) {
      const i64 outer = chunk.outer_start + j / tensor.inner;
      const i64 at = (outer * tensor.units + unit) * tensor.inner + j % tensor.inner;
      const Real x = value_of<D>(((const Stored*)tensor.data)[at], scale);
      if (x != 0) mine.active = 1.0;
      if (!is_finite(x)) continue;
      if (mine.n == 0.0) shift = x;
      const double d = (double)x - shift;
      s1 += d;
      s2 += d * d;
      mine.n += 1.0;
    }
    if (mine.n > 0.0) {
      const double rest = s2 - s1 / mine.n * s1;
      mine.mean = shift + s1 / mine.n;
      mine.m2 = rest > 0.0 ? rest : 0.0;
    }
  }
  scratch.units[threadIdx.x] = mine;
  for (int half = lanes / 2; half > 0; half /= 2) {
    __syncthreads();
    if (lane < half) scratch.units[threadIdx.x].merge(scratch.units[threadIdx.x + half]);
  }
  if (lane == 0 && in_chunk < chunk.count) {
    UnitMoments* partials = (UnitMoments*)tensor.unit_partials;
    partials[chunk.slice * tensor.units + unit] = scratch.units[threadIdx.x];
  }
}

template <int D>
__device__ void run_chunk(const Tensor& tensor, const Chunk& chunk, Partial* partials,
                          u64* exponents, Scratch& scratch, Setup& setup) {
  if (chunk.kind == 0) {
    measure_chunk<D>(tensor, chunk, partials, exponents, scratch, setup);
  } else {
    measure_units<D>(tensor, chunk, scratch);
  }
}

struct UnitTotals {
  double variances, counted, inactive;
};

// Merges the slices of every unit, in order, into the row's table, and sums over the units.
__device__ UnitSummary merge_units(const Tensor& tensor, UnitTotals* shared) {
  UnitTotals mine = {0.0, 0.0, 0.0};
  const UnitMoments* partials = (const UnitMoments*)tensor.unit_partials;
  UnitMoments* table = (UnitMoments*)tensor.unit_table;
  for (i64 unit = threadIdx.x; unit < tensor.units; unit += kThreads) {
    UnitMoments merged;
    merged.clear();
    if (!tensor.fresh_units) merged = table[unit];
    for (i64 slice = 0; slice < tensor.num_slices; ++slice) {
      merged.merge(partials[slice * tensor.units + unit]);
    }
    table[unit] = merged;
    if (merged.n > 0.0) {
      mine.variances += merged.m2 / merged.n;
      mine.counted += 1.0;
    }
    if (merged.active == 0.0) mine.inactive += 1.0;
  }
  shared[threadIdx.x] = mine;
  for (int half = kThreads / 2; half > 0; half /= 2) {
    __syncthreads();
    if (threadIdx.x < half) {
      shared[threadIdx.x].variances += shared[threadIdx.x + half].variances;
      shared[threadIdx.x].counted += shared[threadIdx.x + half].counted;
      shared[threadIdx.x].inactive += shared[threadIdx.x + half].inactive;
    }
  }
  __syncthreads();
  UnitSummary summary = {quiet_nan(), quiet_nan()};
  if (tensor.units > 0) {
    if (shared[0].counted > 0.0) summary.mean_variance = shared[0].variances / shared[0].counted;
    summary.inactive_frac = shared[0].inactive / (double)tensor.units;
  }
  return summary;
}

union RowScratch {
  Partial partials[kThreads];
  ExponentCounts counts[kThreads];
  UnitTotals units[kThreads];
};

}  // namespace

extern "C" __global__ void __launch_bounds__(256)
    foreshock_segments(const Tensor* tensors, const Chunk* chunks, Partial* partials,
                       u64* exponents) {
  __shared__ __align__(16) unsigned char scratch_bytes[sizeof(Scratch)];
  __shared__ __align__(16) unsigned char setup_bytes[sizeof(Setup)];
  Scratch& scratch = *(Scratch*)scratch_bytes;
  Setup& setup = *(Setup*)setup_bytes;
  const Chunk& chunk = chunks[blockIdx.x];
  const Tensor& tensor = tensors[chunk.tensor];
  Partial* mine = partials + 2 * (i64)blockIdx.x;
  switch (tensor.dtype) {
    case kF32: run_chunk<kF32>(tensor, chunk, mine, exponents, scratch, setup); break;
    case kBF16: run_chunk<kBF16>(tensor, chunk, mine, exponents, scratch, setup); break;
    case kF16: run_chunk<kF16>(tensor, chunk, mine, exponents, scratch, setup); break;
    default: run_chunk<kF64>(tensor, chunk, mine, exponents, scratch, setup); break;
  }
}

extern "C" __global__ void __launch_bounds__(256)
    foreshock_rows(const Tensor* tensors, const Partial* partials, Record* records,
                   const u64* exponents, u32* output) {
  __shared__ __align__(16) unsigned char scratch_bytes[sizeof(RowScratch)];
  RowScratch& scratch = *(RowScratch*)scratch_bytes;
  const Tensor& tensor = tensors[blockIdx.x];
  const UnitSummary units = merge_units(tensor, scratch.units);
  for (int target = 0; target < 2; ++target) {
    const i64 row = tensor.rows[target];
    if (row < 0) continue;
    Partial mine;
    mine.clear();
    for (i64 k = threadIdx.x; k < tensor.num_chunks; k += kThreads) {
      mine.merge(partials[2 * (tensor.first_chunk + k) + target]);
    }
    __syncthreads();  // whatever the scratch held before has been read
    scratch.partials[threadIdx.x] = mine;
    for (int half = kThreads / 2; half > 0; half /= 2) {
      __syncthreads();
      if (threadIdx.x < half) {
        scratch.partials[threadIdx.x].merge(scratch.partials[threadIdx.x + half]);
      }
    }
    if (threadIdx.x == 0) {
      Record& record = records[row];
      const Partial& all = scratch.partials[0];
      if (record.measured == 0) record.clear();  // the table is emptied by zeros
      record.moments.merge(all.moments);
      record.lowest = all.lowest < record.lowest ? all.lowest : record.lowest;
      record.highest = all.highest > record.highest ? all.highest : record.highest;
      record.zeros += all.zeros;
      record.nans += all.nans;
      record.elements += (u64)tensor.numel;
      record.measured += 1;
    }
    __syncthreads();
    const u64* of_row = exponents + row * kExponents;
    ExponentCounts counts;
    counts.clear();
    counts.add((int)threadIdx.x, of_row[threadIdx.x]);
    scratch.counts[threadIdx.x] = counts;
    for (int half = kThreads / 2; half > 0; half /= 2) {
      __syncthreads();
      if (threadIdx.x < half) {
        scratch.counts[threadIdx.x].small += scratch.counts[threadIdx.x + half].small;
        scratch.counts[threadIdx.x].large += scratch.counts[threadIdx.x + half].large;
        scratch.counts[threadIdx.x].special += scratch.counts[threadIdx.x + half].special;
      }
    }
    u32* words = output + row * kOutputWords;
    if (threadIdx.x == 0) {
      float stats[kStatistics];
      finalise(records[row], scratch.counts[0], units, stats);
      // An empty or unviewed tensor after one with units leaves what those gave.
      const bool keep_units = tensor.units == 0 && records[row].measured > 1;
#pragma unroll
      for (int k = 0; k < kStatistics; ++k) {
        if (k < kStatistics - 2 || !keep_units) words[k] = bits_of(stats[k]);
      }
      words[kStatistics] = 1;
    }
    if (threadIdx.x < kHistogramBins) {
      const u64* bin = of_row + 4 * threadIdx.x;
      words[kStatistics + 1 + threadIdx.x] = saturated(bin[0] + bin[1] + bin[2] + bin[3]);
    }
  }
}
