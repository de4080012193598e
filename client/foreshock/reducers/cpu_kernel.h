// The table of the CPU reducer and the entry points that exist once per instruction set.
//
// Plain C layouts of 8-byte fields: `library.py` states them.
#ifndef FORESHOCK_CPU_KERNEL_H
#define FORESHOCK_CPU_KERNEL_H

// Sums per unit of one row: [units] each, in one allocation owned by the table.
struct ForeshockUnits {
  long long units;      // 0: no unit view on this step
  long long capacity;   // units that the allocation holds
  double expected;      // elements per unit so far, finite or not
  double largest_shift; // by magnitude
  int inconsistent;     // two tensors of one step disagreed about the number of units
  double* shift;
  double* s1;
  double* s2;
  double* non_finite;
  float* active;        // 1 where an element was not 0
};

// One tensor. Rows are -1 where a statistic is not wanted.
struct ForeshockJob {
  long long data;
  long long previous;    // 0, or the tensor that is compared and then overwritten
  long long numel;
  long long dtype;
  long long row;         // of the tensor itself
  long long update_row;  // of data - previous
  long long outer, units, inner;  // units is 0 without a unit view
};

// Counts of one row's exponents: 64 bins of four, then the part of a bin that a statistic ends in.
enum {
  kForeshockSmallPart = 64,  // of the bin that underflow ends in: below 2^-24
  kForeshockLargePart,       // of the bin that overflow begins in: from 2^16 on
  kForeshockSpecialPart,     // of the last bin: NaN and Inf
  kForeshockExponents
};

struct ForeshockTable {
  long long num_rows;
  void* records;                  // Record[num_rows]; each instruction set has its own name for it
  unsigned long long* exponents;  // [num_rows, kForeshockExponents]
  ForeshockUnits* units;          // [num_rows]
};

// What one call measures; its jobs follow it in memory. One argument, because each argument of a
// foreign call costs Python as much as a small tensor costs the kernel.
struct ForeshockCall {
  ForeshockTable* table;
  long long num_jobs;
  double scale;
};

struct ForeshockKernel {
  const char* name;
  void (*measure)(ForeshockTable*, const ForeshockJob*, long long num_jobs, double scale);
};

extern const ForeshockKernel foreshock_kernel_portable;
#if defined(FORESHOCK_HAS_AVX2)
extern const ForeshockKernel foreshock_kernel_avx2;
#endif
#if defined(FORESHOCK_HAS_AVX512)
extern const ForeshockKernel foreshock_kernel_avx512;
#endif

#endif
