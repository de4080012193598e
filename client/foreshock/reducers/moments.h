// The moments of a tile: in float32 where that loses nothing that is reported, else in double.
//
// The fast pass guesses a frame, which is a power of two and a shift, so that d = x * scale - shift
// is of the order of 1; sums d to d^4 in float32 over at most kRun elements a lane; and adds those
// to double sums. Afterwards the sums tell whether the guess was good enough. Where it was not, and
// where an element is NaN or Inf, the tile is read again in double precision, as stats.h defines.
#ifndef FORESHOCK_MOMENTS_H
#define FORESHOCK_MOMENTS_H

#include "doubles.h"

namespace FORESHOCK_NAMESPACE {

constexpr int kSamples = 16;  // elements that make the first frame of a tensor
constexpr int kRun = 32;      // float32 additions an accumulator takes before it is emptied

// d = x * scale - shift; the scale is a power of two, so nothing is rounded but the difference.
struct Frame {
  float scale, shift;
};

// A spread of 1 to 2 in the frame. The shift is a multiple of 1/64 where the spread allows it, and
// 0 where the mean is small beside the spread: the fewer bits it has, the less d is rounded, and a
// shift with all its bits would round equal elements in the same direction.
inline Frame make_frame(double mean, double spread, Frame before) {
  const double size = spread > 0.0 ? spread : (mean < 0.0 ? -mean : mean);
  if (size == 0.0) return Frame{before.scale, 0.0f};
  int power = (int)((bits_of(size) >> 52) & 0x7ffu) - 1023;
  power = power < -127 ? -127 : (power > 126 ? 126 : power);
  Frame frame;
  frame.scale = float_of((u32)(127 - power) << 23);
  const double shift = mean * (double)frame.scale;
  if (spread == 0.0) {
    frame.shift = (float)shift;
  } else {
    const double rounder = 6755399441055744.0 / 64.0;  // 1.5 * 2^52 leaves 6 bits of fraction
    frame.shift = shift < 0.25 && shift > -0.25 ? 0.0f : (float)((shift + rounder) - rounder);
  }
  return frame;
}

template <class Source> Frame sample_frame(const Source& source, const Tile& tile) {
  const i64 n = tile.columns;
  const i64 stride = (n + kSamples - 1) / kSamples;
  double sum = 0.0, seen = 0.0;
  float lowest = infinity(), highest = -infinity();
  for (i64 i = 0; i < n; i += stride) {
    const float x = source.one(tile.at + i);
    if (!is_finite(x)) continue;
    sum += x;
    seen += 1.0;
    lowest = x < lowest ? x : lowest;
    highest = x > highest ? x : highest;
  }
  const Frame plain = {1.0f, 0.0f};
  if (seen == 0.0) return plain;
  if (lowest == highest) return make_frame(lowest, 0.0, plain);
  const double mean = sum / seen;
  const double above = highest - mean, below = mean - lowest;
  return make_frame(mean, above > below ? above : below, plain);
}

// Double sums by lane, in the frame.
struct LaneSums {
  Doubles s1, s2, s3, s4;
  Floats lowest, highest;

  void clear() {
    s1 = s2 = s3 = s4 = Doubles{};
    lowest = Floats{} + infinity();
    highest = Floats{} - infinity();
  }
};

// float32 sums of at most kRun values a lane.
struct Run {
  Floats s1, s2, s3, s4;

  void clear() { s1 = s2 = s3 = s4 = Floats{}; }
  void add(Floats d) {
    const Floats q = d * d;
    s1 += d;
    s2 += q;
    s3 += q * d;
    s4 += q * q;
  }
  void flush(LaneSums& sums) const {
    sums.s1 += low_half(s1) + high_half(s1);
    sums.s2 += low_half(s2) + high_half(s2);
    sums.s3 += low_half(s3) + high_half(s3);
    sums.s4 += low_half(s4) + high_half(s4);
  }
};

// One stretch of at most kByteBlock elements: its sums, and the bytes of its exponents.
template <class Source>
inline void add_stretch(const Source& source, i64 at, int n, Frame frame, LaneSums& sums,
                        ByteBlock& block) {
  const float scale = frame.scale, shift = frame.shift;
  // Locals, because the compiler cannot know that storing the bytes leaves the block's fields alone.
  Floats lowest = sums.lowest, highest = sums.highest;
  Bytes top = block.top;
  u8* to = block.bytes + block.used;
  int i = 0;
  while (i + kGroup <= n) {
    const int rest = n - i, full = kRun / 2 * kGroup;
    const int end = i + (rest < full ? rest & ~(kGroup - 1) : full);
    Run even, odd;
    even.clear();
    odd.clear();
    for (; i < end; i += kGroup) {
      const Floats a = source.at(at + i), b = source.at(at + i + kLanes);
      const Floats c = source.at(at + i + 2 * kLanes), d = source.at(at + i + 3 * kLanes);
      even.add(a * scale - shift);
      odd.add(b * scale - shift);
      even.add(c * scale - shift);
      odd.add(d * scale - shift);
      lowest = lesser(lesser(a, b), lesser(lesser(c, d), lowest));
      highest = greater(greater(a, b), greater(greater(c, d), highest));
      const Bytes exponents = exponent_bytes(a, b, c, d);
      store(to, exponents);
      top = exponents > top ? exponents : top;
      to += kVectorBytes;
    }
    even.flush(sums);
    odd.flush(sums);
  }
  block.top = top;
  block.used = (int)(to - block.bytes);
  if (i < n) {
    Run run;
    run.clear();
    Floats v[4];
    for (int k = 0; k < 4; ++k, i += kLanes) {
      const int lanes = n - i < kLanes ? n - i : kLanes;
      if (lanes <= 0) {
        v[k] = Floats{};
        continue;
      }
      v[k] = source.part(at + i, lanes);
      Ints inside;
      for (int lane = 0; lane < kLanes; ++lane) inside[lane] = lane < lanes ? -1 : 0;
      const Floats none{};
      run.add(inside ? v[k] * scale - shift : none);
      lowest = lesser(inside ? v[k] : none + infinity(), lowest);
      highest = greater(inside ? v[k] : none - infinity(), highest);
    }
    run.flush(sums);
    block.add(v[0], v[1], v[2], v[3]);
    block.padding += i - n;
  }
  sums.lowest = lowest;
  sums.highest = highest;
}

// --- a tile -------------------------------------------------------------------------------------

// How far the mean lies off the frame's shift, as a square in units of the variance; NaN where the
// float32 sums are not as good as sums in double, to the digits that are reported:
//   - A NaN or an Inf makes the sums NaN or Inf.
//   - The largest |d| must be within 2^-25 and 2^28: its fourth powers, summed, neither overflow
//     nor come near the underflow, below which smaller elements have no fourth power left.
inline double is_off(const Accumulator& sums, Frame frame) {
  const double scale = (double)frame.scale, shift = (double)frame.shift;
  const double above = sums.highest * scale - shift, below = shift - sums.lowest * scale;
  const double largest = above > below ? above : below;
  if (largest == 0.0 && sums.s1 == 0.0) return 0.0;
  if (!(largest >= 0x1p-25 && largest <= 0x1p28)) return (double)quiet_nan();
  const double n = (double)sums.finite, mean = sums.s1 / n;
  return mean * mean / (sums.s2 / n - mean * mean);
}

// Beyond this the moments around the mean are small differences of large sums: read again.
constexpr double kFarOff = 2.0;
// Beyond this the next tile gets a better shift.
constexpr double kNearlyOff = 0.5;

// What the tiles of a tensor hand on: the frame of the next one, and what this one held.
struct Progress {
  Frame frame;
  bool framed, finite;
  double lowest, highest;
};

// The sums of float32 in a frame as sums around the frame's shift.
inline Accumulator unframed(const LaneSums& lanes, Frame frame, i64 n, u64 zeros) {
  const double unit = 1.0 / (double)frame.scale, square = unit * unit;
  Accumulator sums;
  sums.s1 = sum_of(lanes.s1) * unit;
  sums.s2 = sum_of(lanes.s2) * square;
  sums.s3 = sum_of(lanes.s3) * (square * unit);
  sums.s4 = sum_of(lanes.s4) * (square * square);
  sums.lowest = least(lanes.lowest);
  sums.highest = greatest(lanes.highest);
  sums.finite = (u64)n;
  sums.zeros = zeros;
  sums.nans = 0;
  return sums;
}

template <class Source>
void count_tile(const Source& source, const Tile& tile, Frame frame, LaneSums& lanes,
                u64* exponents) {
  ByteBlock block;
  block.clear();
  for (i64 row = 0; row < tile.rows; ++row) {
    const i64 begin = tile.at + row * tile.stride;
    for (i64 done = 0; done < tile.columns;) {
      const i64 rest = tile.columns - done;
      const int room = kByteBlock - block.used;
      const int n = rest < room ? (int)rest : room;
      add_stretch(source, begin + done, n, frame, lanes, block);
      done += n;
      if (block.used == kByteBlock) {
        count_bytes(block, exponents);
        block.clear();
      }
    }
  }
  if (block.used > 0) count_bytes(block, exponents);
}

// Reads a tile and merges it into its row.
template <class Source>
void measure_tile(const Source& source, const Tile& shaped, Progress& progress, Record& record,
                  u64* exponents) {
  const Tile tile = shaped.flat();
  if (!progress.framed) progress.frame = sample_frame(source, tile);
  progress.framed = true;
  const Frame frame = progress.frame;
  const u64 before[] = {exponents[kZeroBin], exponents[kSmallBin], exponents[kLargeBin],
                        exponents[kSpecialBin]};
  LaneSums lanes;
  lanes.clear();
  count_tile(source, tile, frame, lanes, exponents);
  split_bins(source, tile, before + 1, exponents);
  const double shift = (double)frame.shift / (double)frame.scale;
  const u64 zeros = exponents[kZeroBin] == before[0] ? 0 : count_zeros(source, tile);
  Accumulator sums = unframed(lanes, frame, tile.elements(), zeros);
  double off = is_off(sums, frame);
  if (!(off <= kFarOff)) {
    sums.clear();
    add_tile_exactly(source, tile, shift, sums);
  }
  record.merge(sums, shift);
  progress.finite = sums.finite == (u64)tile.elements();
  progress.lowest = sums.lowest;
  progress.highest = sums.highest;
  if (!(off <= kNearlyOff) && sums.finite > 0) {
    const double mean = shift + sums.s1 / (double)sums.finite;
    const double above = sums.highest - mean, below = mean - sums.lowest;
    progress.frame = make_frame(mean, above > below ? above : below, frame);
  }
}

}  // namespace FORESHOCK_NAMESPACE

#endif
