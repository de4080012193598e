// The one-read CPU kernel, compiled once per instruction set. The build names each copy with
// FORESHOCK_NAMESPACE, FORESHOCK_KERNEL and FORESHOCK_KERNEL_NAME.
//
// A tensor is read from memory once, in tiles that stay in the second-level cache: the moments with
// the exponents, the per-unit sums, and whatever has to look at a tile again.
#include "cpu_kernel.h"
#include "doubles.h"
#include "moments.h"
#include "units.h"

namespace FORESHOCK_NAMESPACE {
namespace {

constexpr i64 kTile = 1 << 14;          // elements: 64 KB as float32
constexpr i64 kTileRows = 32;           // rows of a tile where one row of units is too long
constexpr i64 kTileColumns = kTile / kTileRows;

inline void count_tensor(Record& record, const ForeshockJob& job) {
  record.elements += (u64)job.numel;
  record.measured += 1;
}

// The first tensor of a step sets the shift of each unit to its first element.
template <class Source>
ForeshockUnits* begin_units(ForeshockUnits& units, const ForeshockJob& job, const Source& source) {
  if (job.units == 0 || units.inconsistent) return nullptr;
  if (units.units != job.units) {
    units.inconsistent = 1;
    return nullptr;
  }
  if (units.expected == 0.0 && job.numel > 0) {
    units.largest_shift = 0.0;
    for (i64 u = 0; u < job.units; ++u) {
      const double first = (double)source.one(u * job.inner);
      const double shift = is_finite(first) ? first : 0.0;
      const double size = shift < 0.0 ? -shift : shift;
      units.largest_shift = size > units.largest_shift ? size : units.largest_shift;
      units.shift[u] = shift;
      units.s1[u] = units.s2[u] = units.non_finite[u] = 0.0;
      units.active[u] = 0.0f;
    }
  }
  units.expected += (double)job.outer * (double)job.inner;
  return &units;
}

// Calls `use` with tiles that cover a tensor. Where the units are innermost, a tile holds several
// elements of each of its units.
template <class Use> inline void each_tile(const ForeshockJob& job, bool by_units, const Use& use) {
  if (!by_units) {
    for (i64 at = 0; at < job.numel; at += kTile) {
      const i64 rest = job.numel - at, n = rest < kTile ? rest : kTile;
      use(Tile{at, 1, n, n});
    }
    return;
  }
  const bool narrow = job.units <= kTileColumns;
  const i64 most_rows = narrow ? kTile / job.units : kTileRows;
  const i64 most_columns = narrow ? job.units : kTileColumns;
  for (i64 row = 0; row < job.outer; row += most_rows) {
    const i64 rows = job.outer - row < most_rows ? job.outer - row : most_rows;
    for (i64 u = 0; u < job.units; u += most_columns) {
      const i64 columns = job.units - u < most_columns ? job.units - u : most_columns;
      use(Tile{row * job.units + u, rows, columns, job.units});
    }
  }
}

template <class Source>
void measure_part(const Source& source, const Tile& tile, Progress& progress, ForeshockTable& table,
                  i64 row) {
  Record& record = ((Record*)table.records)[row];
  u64* exponents = table.exponents + row * kForeshockExponents;
  if constexpr (sizeof(typename Source::Real) == sizeof(double)) {
    measure_doubles(source, tile, record, exponents);
  } else {
    measure_tile(source, tile, progress, record, exponents);
  }
}

template <class Source>
void measure_values(ForeshockTable& table, const ForeshockJob& job, const Source& source) {
  ForeshockUnits* units = begin_units(table.units[job.row], job, source);
  Progress progress{};
  count_tensor(((Record*)table.records)[job.row], job);
  each_tile(job, units != nullptr && job.inner == 1, [&](const Tile& tile) {
    measure_part(source, tile, progress, table, job.row);
    if (units != nullptr) add_tile_units(*units, job.inner, source, tile, progress);
  });
}

template <class Source, class Change>
void measure_update(ForeshockTable& table, const ForeshockJob& job, const Source& source,
                    const Change& change) {
  Record* records = (Record*)table.records;
  Progress weights{}, updates{};
  if (job.row >= 0) count_tensor(records[job.row], job);
  if (job.update_row >= 0) count_tensor(records[job.update_row], job);
  each_tile(job, false, [&](const Tile& tile) {
    if (job.row >= 0) measure_part(source, tile, weights, table, job.row);
    if (job.update_row >= 0) measure_part(change, tile, updates, table, job.update_row);
    change.remember(tile);
  });
}

template <int D> void run(ForeshockTable& table, const ForeshockJob& job, double scale) {
  using Stored = typename Element<D>::Stored;
  const auto* data = (const Stored*)job.data;
  if (job.previous != 0) {
    measure_update(table, job, Values<D>{data}, Changes<D>{data, (Stored*)job.previous});
  } else if (scale == 1.0) {
    measure_values(table, job, Values<D>{data});
  } else {
    measure_values(table, job, ScaledValues<D>{data, (typename Element<D>::Real)scale});
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
