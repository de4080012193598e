// The C interface of the CPU reducer: owns the table, checks what it is given, and chooses the
// instruction set once. No C++ runtime is needed, so the library loads beside any libstdc++.
#include "cpu_kernel.h"
#include "stats.h"

#include <stdlib.h>

using namespace FORESHOCK_NAMESPACE;

namespace {

// The copies that this machine can run, best first. AVX-512 counts from the processors that have
// VBMI (Ice Lake, Zen 4) on: older ones slow the whole core down for it.
int runnable(const ForeshockKernel* found[3]) {
  int count = 0;
#if defined(FORESHOCK_HAS_AVX2)
  __builtin_cpu_init();
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
                    __builtin_cpu_supports("f16c");
  if (avx2 && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
      __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512vbmi")) {
    found[count++] = &foreshock_kernel_avx512;
  }
  if (avx2) found[count++] = &foreshock_kernel_avx2;
#endif
  found[count++] = &foreshock_kernel_portable;
  return count;
}

const ForeshockKernel* best() {
  const ForeshockKernel* found[3];
  runnable(found);
  return found[0];
}

const ForeshockKernel* kernel = best();

void clear_row(ForeshockTable& table, i64 row) {
  ((Record*)table.records)[row].clear();
  for (int k = 0; k < kForeshockExponents; ++k) table.exponents[row * kForeshockExponents + k] = 0;
  table.units[row].units = 0;
  table.units[row].expected = 0.0;
  table.units[row].inconsistent = 0;
}

// Four columns of doubles and one of floats; 16 extra bytes a unit are not worth a second call.
bool reserve_units(ForeshockUnits& units, i64 count) {
  if (units.capacity >= count) return true;
  double* columns = (double*)malloc((u64)count * (4 * sizeof(double) + sizeof(float)));
  if (columns == nullptr) return false;
  free(units.shift);
  units.capacity = count;
  units.shift = columns;
  units.s1 = columns + count;
  units.s2 = columns + 2 * count;
  units.non_finite = columns + 3 * count;
  units.active = (float*)(columns + 4 * count);
  return true;
}

UnitSummary summarise(const ForeshockUnits& units) {
  UnitSummary summary = {quiet_nan(), quiet_nan()};
  if (units.units == 0 || units.inconsistent || units.expected == 0.0) return summary;
  double variances = 0.0, counted = 0.0, inactive = 0.0;
  for (i64 u = 0; u < units.units; ++u) {
    const double n = units.expected - units.non_finite[u];
    if (n > 0.0) {
      const double sum = units.s2[u] - units.s1[u] / n * units.s1[u];
      variances += sum > 0.0 ? sum / n : 0.0;
      counted += 1.0;
    }
    inactive += units.active[u] == 0.0f ? 1.0 : 0.0;
  }
  if (counted > 0.0) summary.mean_variance = variances / counted;
  summary.inactive_frac = inactive / (double)units.units;
  return summary;
}

}  // namespace

#pragma GCC visibility push(default)
extern "C" {

enum { kOk = 0, kNoMemory = 1, kBadRow = 2 };

int foreshock_interface() { return 2; }

const char* foreshock_instruction_set() { return kernel->name; }

// The copies that this machine can run: number 0 is the one in use at first; null beyond the last.
const char* foreshock_runnable(int number) {
  const ForeshockKernel* found[3];
  return number >= 0 && number < runnable(found) ? found[number]->name : nullptr;
}

// For the tests: every copy must get the same statistics on the same machine.
void foreshock_use(int number) {
  const ForeshockKernel* found[3];
  if (number >= 0 && number < runnable(found)) kernel = found[number];
}

ForeshockTable* foreshock_table_new() { return (ForeshockTable*)calloc(1, sizeof(ForeshockTable)); }

// Keeps the rows that are there; new rows are empty. Fewer rows are never asked for.
int foreshock_table_resize(ForeshockTable* table, long long num_rows) {
  if (num_rows <= table->num_rows) return kOk;
  const u64 rows = (u64)num_rows;
  void* records = realloc(table->records, rows * sizeof(Record));
  if (records != nullptr) table->records = records;
  auto* exponents = (u64*)realloc(table->exponents, rows * kForeshockExponents * sizeof(u64));
  if (exponents != nullptr) table->exponents = exponents;
  auto* units = (ForeshockUnits*)realloc(table->units, rows * sizeof(ForeshockUnits));
  if (units != nullptr) table->units = units;
  if (records == nullptr || exponents == nullptr || units == nullptr) return kNoMemory;
  for (i64 row = table->num_rows; row < num_rows; ++row) {
    units[row] = ForeshockUnits{};
    clear_row(*table, row);
  }
  table->num_rows = num_rows;
  return kOk;
}

void foreshock_table_free(ForeshockTable* table) {
  for (i64 row = 0; row < table->num_rows; ++row) free(table->units[row].shift);
  free(table->units);
  free(table->exponents);
  free(table->records);
  free(table);
}

// All or nothing: a bad row or a lack of memory leaves the table as it was.
int foreshock_measure(const ForeshockCall* call) {
  ForeshockTable* table = call->table;
  const auto* jobs = (const ForeshockJob*)(call + 1);
  const i64 num_jobs = call->num_jobs;
  for (i64 k = 0; k < num_jobs; ++k) {
    const ForeshockJob& job = jobs[k];
    const i64 least = job.previous != 0 ? -1 : 0;
    if (job.row < least || job.row >= table->num_rows || job.update_row < -1 ||
        job.update_row >= table->num_rows) {
      return kBadRow;
    }
  }
  for (i64 k = 0; k < num_jobs; ++k) {
    if (jobs[k].units == 0) continue;
    ForeshockUnits& units = table->units[jobs[k].row];
    if (units.units != 0) continue;  // a second tensor of the step; the kernel compares them
    if (!reserve_units(units, jobs[k].units)) return kNoMemory;
    units.units = jobs[k].units;
  }
  kernel->measure(table, jobs, num_jobs, call->scale);
  return kOk;
}

// Writes `stats` [rows, 13] and `histogram` [rows, 64], and empties the table.
void foreshock_finish(ForeshockTable* table, float* stats, unsigned int* histogram) {
  for (i64 row = 0; row < table->num_rows; ++row) {
    const u64* exponents = table->exponents + row * kForeshockExponents;
    const u64* bins = exponents;
    ExponentCounts counts;
    counts.small = exponents[kForeshockSmallPart];
    counts.large = exponents[kForeshockLargePart];
    counts.special = exponents[kForeshockSpecialPart];
    for (int bin = 0; bin < kHistogramBins; ++bin) {
      if (4 * bin + 3 < kUnderflowField) counts.small += bins[bin];
      if (4 * bin >= kOverflowField) counts.large += bins[bin];
      histogram[row * kHistogramBins + bin] = saturated(bins[bin]);
    }
    counts.large -= counts.special;
    finalise(((const Record*)table->records)[row], counts, summarise(table->units[row]),
             stats + row * kStatistics);
    clear_row(*table, row);
  }
}

}  // extern "C"
#pragma GCC visibility pop
