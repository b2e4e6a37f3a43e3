/* A matrix times a vector, the matrix as it is: each number of it is read once. */
#include "kernels/families.h"

/* Rows of the matrix that are read at once: more, and a processor no longer foresees where they go on. */
#define ROWS 8

/* Some rows times a number each, added to the sums. */
INLINE void add_rows(int rows, const kernel_vector *job, int64_t first, real *sums) {
  const real *matrix = (const real *)job->matrix + first * job->row_stride;
  vec x[ROWS];
#pragma GCC unroll 8
  for (int i = 0; i < rows; i++)
    x[i] = vec_set(((const real *)job->vector)[(first + i) * job->vector_stride]);
  for (int64_t j = 0; j + LANES <= job->columns; j += LANES) {
    vec sum = vec_load(sums + j);
#pragma GCC unroll 8
    for (int i = 0; i < rows; i++)
      sum = vec_fma(x[i], vec_load(matrix + i * job->row_stride + j), sum);
    vec_store(sums + j, sum);
  }
}

/* Columns are no multiple of the lanes: the last vector overlaps the one before, and is computed for itself. */
static void add_last(const kernel_vector *job, real *sums) {
  const real *matrix = job->matrix, *vector = job->vector;
  vec sum = vec_zero();
  for (int64_t i = 0; i < job->rows; i++, matrix += job->row_stride, vector += job->vector_stride)
    sum = vec_fma(vec_set(*vector), vec_load(matrix + job->columns - LANES), sum);
  vec_store(sums + job->columns - LANES, sum);
}

void NAME(vector_sums)(const kernel_vector *job, void *sums, void *output, int64_t stride) {
  real *sum = memset(sums, 0, (size_t)job->columns * sizeof(real)), *to = output;
  int64_t row = 0;
  for (; row + ROWS <= job->rows; row += ROWS)
    add_rows(ROWS, job, row, sum);
  for (; row < job->rows; row++)
    add_rows(1, job, row, sum);
  if (job->columns % LANES != 0) add_last(job, sum);
  for (int64_t j = 0; j < job->columns; j++)
    to[j * stride] = sum[j] + 0;
}

/* Sums that not all rows have a part in. */
static void sum_edge(const kernel_sums *job, const real *rows, int64_t from, int64_t end, real *to) {
  for (int64_t j = from; j < end; j++) {
    real sum = 0;
    for (int64_t i = 0; i < job->count; i++) {
      int64_t at = job->first[i] + j;
      if (at >= 0 && at < job->width) sum += rows[job->offsets[i] + at];
    }
    to[j] = sum;
  }
}

void NAME(row_sums)(const kernel_sums *job, const void *rows, void *to) {
  int64_t from = 0, end = job->columns;
  for (int64_t i = 0; i < job->count; i++) {
    from = most(from, -job->first[i]);
    end = least(end, job->width - job->first[i]);
  }
  from = least(from, job->columns);
  end = most(from, end);
  sum_edge(job, rows, 0, from, to);
  for (int64_t j = from; j < end; j += LANES) {
    vec sum = vec_zero();
    for (int64_t i = 0; i < job->count; i++)
      sum += vec_load((const real *)rows + job->offsets[i] + job->first[i] + j);
    vec_store_part((real *)to + j, sum, least(LANES, end - j));
  }
  sum_edge(job, rows, end, job->columns, to);
}
