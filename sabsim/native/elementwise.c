/* exp, sigmoid and tanh as straight-line code that a compiler can vectorise, and sums over rows.

   exp(x) = 2^k e^r with k the nearest integer to x / ln 2 and |r| <= ln 2 / 2, e^r by its Taylor polynomial: of degree 7
   (float) and 13 (double) the remainder is below half a unit in the last place. NaN goes through; arguments beyond the
   exponent's range are clamped. */

#include <math.h>
#include <string.h>

#include "learner.h"

#if WIDE
typedef int64_t bits;
#define MAGIC 6755399441055744.0 /* 1.5 * 2^52: adding it rounds to an integer, kept in the lowest bits */
#define MANTISSA 52
#define BIAS 1023
#define EXP_LEAST (-708.0)
#define EXP_MOST 709.0
#define TANH_MOST 20.0
#define LN2_HIGH 0x1.62e42fefa0000p-1 /* trailing zeros, so that k * LN2_HIGH is exact */
#define LN2_LOW 0x1.cf79abc9e3b3ap-40
#else
typedef int32_t bits;
#define MAGIC 12582912.0f /* 1.5 * 2^23 */
#define MANTISSA 23
#define BIAS 127
#define EXP_LEAST (-87.0f)
#define EXP_MOST 88.0f
#define TANH_MOST 10.0f
#define LN2_HIGH 0x1.62e4p-1f
#define LN2_LOW 0x1.7f7d1cp-20f
#endif
#define LOG2_E ((real)1.4426950408889634074)

/* x = k ln 2 + r: returns r, writes 2^k. */
static inline real reduce(real x, real *power)
{
    const real shifted = x * LOG2_E + MAGIC;
    const real k = shifted - MAGIC;
    bits b;
    memcpy(&b, &shifted, sizeof b);
    b = (bits)((b + BIAS) << MANTISSA);
    memcpy(power, &b, sizeof b);
    return (x - k * LN2_HIGH) - k * LN2_LOW;
}

/* (e^r - 1 - r) / r^2 for |r| <= ln 2 / 2. */
static inline real tail(real r)
{
#if WIDE
    real p = (real)(1.0 / 6227020800);
    p = p * r + (real)(1.0 / 479001600);
    p = p * r + (real)(1.0 / 39916800);
    p = p * r + (real)(1.0 / 3628800);
    p = p * r + (real)(1.0 / 362880);
    p = p * r + (real)(1.0 / 40320);
    p = p * r + (real)(1.0 / 5040);
#else
    real p = (real)(1.0 / 5040);
#endif
    p = p * r + (real)(1.0 / 720);
    p = p * r + (real)(1.0 / 120);
    p = p * r + (real)(1.0 / 24);
    p = p * r + (real)(1.0 / 6);
    return p * r + (real)0.5;
}

static inline real exponential(real x)
{
    x = x < EXP_LEAST ? EXP_LEAST : x;
    x = x > EXP_MOST ? EXP_MOST : x;
    real power;
    const real r = reduce(x, &power);
    return power * (1 + (r + r * r * tail(r)));
}

static inline real sigmoid(real x) { return 1 / (1 + exponential(-x)); }

/* By e^(2|x|) - 1, whose relative error stays small where x does. */
static inline real hyperbolic_tangent(real x)
{
    real size = x < 0 ? -x : x;
    size = size > TANH_MOST ? TANH_MOST : size;
    real power;
    const real r = reduce(2 * size, &power);
    const real grown = power * (r + r * r * tail(r)) + (power - 1);
    const real t = grown / (grown + 2);
    return x < 0 ? -t : t;
}

/* The sum of a vector's numbers, by halves: one after the other they would wait for each other. */
static inline real sum_of(vec v)
{
    typedef real half __attribute__((vector_size(VECTOR_BYTES / 2)));
    half low, high;
    memcpy(&low, &v, sizeof low);
    memcpy(&high, (const char *)&v + sizeof low, sizeof high);
    low += high;
#if VECTOR_BYTES > 16
    typedef real quarter __attribute__((vector_size(VECTOR_BYTES / 4)));
    quarter even, odd;
    memcpy(&even, &low, sizeof even);
    memcpy(&odd, (const char *)&low + sizeof even, sizeof odd);
    even += odd;
    const int64_t left = sizeof even / sizeof(real);
#else
    const half even = low;
    const int64_t left = sizeof even / sizeof(real);
#endif
    real total = 0;
    for (int64_t l = 0; l < left; l++) total += even[l];
    return total;
}

/* What no vector is left for. Not inlined, so that it rounds in the same way wherever it is called from: keys of different
   origin are compared to the last bit. */
static __attribute__((noinline)) real dot_rest(int64_t count, const real *a, const real *b)
{
    real total = 0;
    for (int64_t j = 0; j < count; j++) total += a[j] * b[j];
    return total;
}

static inline real dot(int64_t count, const real *a, const real *b)
{
    vec sum = {0};
    int64_t j = 0;
    for (; j + LANES <= count; j += LANES) sum += load(a + j) * load(b + j);
    return sum_of(sum) + (j < count ? dot_rest(count - j, a + j, b + j) : 0);
}

/* y += a x */
static inline void add_scaled(int64_t count, real a, const real *x, real *restrict y)
{
    for (int64_t j = 0; j < count; j++) y[j] += a * x[j];
}

/* Asks for a row that will be read soon: rows that lie here and there in the memory come from the last cache or beyond. */
static inline void fetch_row(int64_t count, const real *x)
{
    for (int64_t j = 0; j < count; j += 64 / (int64_t)sizeof(real)) __builtin_prefetch(x + j);
}

static inline void scale_row(int64_t count, real a, real *x)
{
    for (int64_t j = 0; j < count; j++) x[j] *= a;
}

/* y *= x */
static inline void multiply(int64_t count, const real *x, real *restrict y)
{
    for (int64_t j = 0; j < count; j++) y[j] *= x[j];
}

/* Each of `rows` rows becomes a copy of `row` (columns). */
static inline void fill_rows(int64_t rows, int64_t columns, const real *row, real *to)
{
    for (int64_t i = 0; i < rows; i++) memcpy(to + i * columns, row, sizeof(real) * columns);
}

/* total (columns) += the sum of `rows` rows. */
static inline void add_rows(int64_t rows, int64_t columns, const real *x, real *restrict total)
{
    for (int64_t i = 0; i < rows; i++) add_scaled(columns, 1, x + i * columns, total);
}
