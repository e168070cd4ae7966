/* Centring: sabsim/centring.py says what it is. */

#include "learner.h"

/* The mean (n) follows the h_hat of the finished block's steps by a share `rate`; `direction` (n) becomes its own. Entries that
   are not finite leave it where it is. */
void sab_usual_state(const Learner *l, double rate, real *mean, real *direction)
{
    const int64_t n = l->n, rows = l->block * l->streams;
    const real *h_hat = l->h_hat + l->history * l->streams * n;
    memset(direction, 0, sizeof(real) * n);
    for (int64_t i = 0; i < rows; i++) add_scaled(n, 1 / (real)rows, h_hat + i * n, direction);
    for (int64_t j = 0; j < n; j++)
        if (isfinite(direction[j])) mean[j] += (real)rate * (direction[j] - mean[j]);
    const real length = length_of(n, mean);
    for (int64_t j = 0; j < n; j++) direction[j] = mean[j] / length;
}

/* Makes every one of the `rows` (count, n) orthogonal to the direction (n), a unit vector or 0. */
void sab_take_out(int64_t count, int64_t n, const real *direction, real *rows)
{
    for (int64_t i = 0; i < count; i++, rows += n) add_scaled(n, -dot(n, rows, direction), direction, rows);
}
