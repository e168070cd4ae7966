/* Retention by novelty: scores of the states that the finished block offers, and the usual input they are compared with. */

#include "learner.h"

/* Whether stream b's state of the block's step t is offered: of the sequence it is in now, at every k_att-th step. */
static int is_offered(const Learner *l, int64_t t, int64_t b, int64_t k_att)
{
    const int64_t local = l->local[(l->history + t) * l->streams + b];
    return local + l->block - 1 - t == l->age[b] - 1 && l->age[b] > 0 && local % k_att == k_att - 1;
}

/* The usual input's mean follows the inputs of the finished block, at a rate of at least block / memory. */
void sab_follow(const Learner *l, double memory)
{
    const int64_t d = l->d_in, wide = d + l->n, rows = l->block * l->streams;
    l->usual_steps[0] += l->block;
    double rate = (double)l->block / (double)l->usual_steps[0];
    if (rate < l->block / memory) rate = l->block / memory;
    if (rate > 1) rate = 1;
    for (int64_t j = 0; j < d; j++) {
        double sum = 0;
        for (int64_t i = 0; i < rows; i++) sum += l->xh[(l->history * l->streams + i) * wide + j];
        l->usual_mean[j] += (real)(rate * (sum / rows - l->usual_mean[j]));
    }
}

static real distance(int64_t count, const real *a, const real *b)
{
    vec sum = {0};
    int64_t j = 0;
    for (; j + LANES <= count; j += LANES) {
        const vec apart = load(a + j) - load(b + j);
        sum += apart * apart;
    }
    real total = sum_of(sum);
    for (; j < count; j++) total += (a[j] - b[j]) * (a[j] - b[j]);
    return (real)sqrt((double)total);
}

/* Writes to `offered` |h_hat_t - h_hat_{t-1}| + effect |h_hat_t - h_hat_t(usual input)| of the states that are offered, -inf
   for the others. With an effect, those are stepped to anew in one batch; the others would cost as much and tell nothing. */
void sab_novelty(const Learner *l, int64_t k_att, double effect)
{
    const int64_t n = l->n, d = l->d_in, wide = d + n, streams = l->streams;
    int64_t rows = 0;
    for (int64_t t = 0; t < l->block; t++)
        for (int64_t b = 0; b < streams; b++) {
            const int64_t row = (l->history + t) * streams + b;
            double *score = l->offered + t * streams + b;
            *score = -INFINITY;
            if (!is_offered(l, t, b, k_att)) continue;
            const real *now = l->h_hat + row * n;
            *score = l->local[row] > 0 ? distance(n, now, now - streams * n) : (real)sqrt((double)dot(n, now, now));
            if (effect == 0) continue;
            memcpy(l->usual_xh + rows * wide, l->usual_mean, sizeof(real) * d);
            memcpy(l->usual_xh + rows * wide + d, l->xh + row * wide + d, sizeof(real) * n);
            memcpy(l->usual_before + rows * n, l->c + row * n, sizeof(real) * n);
            l->usual_place[rows++] = t * streams + b;
        }
    if (!rows) return;
    cell_step(l, rows, l->usual_xh, l->usual_before, l->usual_gates, l->usual_c, l->usual_tanh_c, l->usual_h);
    for (int64_t i = 0; i < rows; i++) {
        const int64_t place = l->usual_place[i];
        l->offered[place] += effect * distance(n, l->h_hat + (l->history * streams + place) * n, l->usual_h + i * n);
    }
}
