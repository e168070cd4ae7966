/* The familiar range of c: sabsim/familiar.py says what it is. */

#include "learner.h"

/* Narrows the range by a share `rate` and takes in the states from which the steps of the finished block went on, but for
   those of streams that have explored in it. */
void sab_familiar(const Learner *l, double rate)
{
    const int64_t n = l->n, begin = l->history * l->streams, rows = l->block * l->streams;
    real *restrict low = l->familiar_low, *restrict high = l->familiar_high;
    for (int64_t j = 0; j < n; j++) {
        const real narrow = (real)rate * (high[j] - low[j]);
        if (!isfinite(narrow)) continue; /* there is no range yet: whatever comes is its beginning */
        low[j] += narrow;
        high[j] -= narrow;
    }
    for (int64_t i = 0; i < rows; i++) {
        if (l->strange[i % l->streams] > 0) continue;
        const real *restrict c = l->c + (begin + i) * n;
        for (int64_t j = 0; j < n; j++) {
            low[j] = c[j] < low[j] ? c[j] : low[j];
            high[j] = c[j] > high[j] ? c[j] : high[j];
        }
    }
}
