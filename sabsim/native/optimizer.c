/* Adam over the flat parameter vector, with the clip, the limit on spikes, the schedule and the averaged parameters. */

#include "learner.h"

enum { CONSTANT, INVERSE, RSQRT, LINEAR, COSINE };

#define PI 3.14159265358979323846

static double scheduled(const Adam *a)
{
    const double signals = a->signals[0] / a->decay_updates, cycles = (double)a->updates[0] / a->decay_updates;
    const double share = a->schedule == INVERSE ? 1 / (1 + signals) : 1 / sqrt(1 + signals);
    const double left = cycles < 1 + a->restarts ? 1 - fmod(cycles, 1) : 0;
    switch (a->schedule) {
    case INVERSE:
    case RSQRT: return a->lr * (share > a->lr_floor ? share : a->lr_floor);
    case LINEAR: return a->lr * left;
    case COSINE: return a->lr * (0.5 - 0.5 * cos(PI * left));
    default: return a->lr;
    }
}

static double rate_at(const Adam *a)
{
    const double done = a->warmup_updates ? (double)a->updates[0] / a->warmup_updates : 1;
    return scheduled(a) * (done < 1 ? done : 1);
}

/* What the gradient is multiplied by: the clip and the limit on spikes; keeps the usual norm and counts signals. */
static real shorten(const Adam *a, real norm, int due)
{
    const double mean_square = a->mean_square_norm[0], usual = mean_square > 0 ? sqrt(mean_square) : norm;
    const double least = a->least_usual * sqrt(a->greatest_mean_square[0]), spike = a->spike * (usual > least ? usual : least);
    double limit = a->clip ? a->clip : INFINITY;
    if (a->spike && spike < limit) limit = spike;
    if (due) {
        const double loud = norm / (usual > 1e-30 ? usual : 1e-30), size = norm < a->outlier * usual ? norm : a->outlier * usual;
        a->signals[0] += (loud < 1 ? loud : 1) * (a->counts ? a->counts[0] : 1);
        a->mean_square_norm[0] =
            (real)(mean_square > 0 ? mean_square + (1 - a->usual_decay) * (size * size - mean_square) : size * size);
        if (a->mean_square_norm[0] > a->greatest_mean_square[0]) a->greatest_mean_square[0] = a->mean_square_norm[0];
    }
    const double scale = limit / (norm + 1e-12);
    return scale < 1 ? (real)scale : 1;
}

static real norm_of(int64_t size, const real *g)
{
    vec sums[4] = {{0}, {0}, {0}, {0}};
    int64_t i = 0;
    for (; i + 4 * LANES <= size; i += 4 * LANES)
        for (int64_t j = 0; j < 4; j++) sums[j] += load(g + i + j * LANES) * load(g + i + j * LANES);
    const vec sum = (sums[0] + sums[1]) + (sums[2] + sums[3]);
    double total = 0;
    for (int64_t l = 0; l < LANES; l++) total += sum[l];
    for (; i < size; i++) total += g[i] * g[i];
    return (real)sqrt(total);
}

/* Numbers of the parameter vector that one thread takes at a time. */
#define STRETCH ((int64_t)1 << 16)
/* Multiplications in the time that a parameter takes to be moved. */
#define PARAMETER 48

/* One change of the parameters, as it is shared out. */
typedef struct {
    const Adam *a;
    real scale, step, correction;
    real newest; /* share of the newest parameters in their running mean */
} Change;

/* Both moments, the ceiling and the change of a stretch; `amsgrad` is a constant where this is inlined. */
static inline __attribute__((always_inline)) void move(const Change *change, const int amsgrad, int64_t first)
{
    const Adam *a = change->a;
    const int64_t count = least(STRETCH, a->size - first);
    const real scale = change->scale, step = change->step, correction = change->correction;
    real *restrict flat = a->flat + first, *restrict mean = a->mean + first, *restrict square = a->square + first;
    real *restrict top = amsgrad ? a->ceiling + first : NULL;
    const real *restrict grad = a->grad + first;
    const real fresh_1 = (real)(1 - a->beta_1), keep_2 = (real)a->beta_2, fresh_2 = (real)(1 - a->beta_2);
    const real eps = (real)a->eps;
    for (int64_t i = 0; i < count; i++) {
        const real g = scale == 0 ? 0 : grad[i] * scale;
        mean[i] += fresh_1 * (g - mean[i]);
        real s = square[i] * keep_2 + fresh_2 * g * g;
        square[i] = s;
        if (amsgrad) top[i] = s = s > top[i] ? s : top[i];
        flat[i] -= step * mean[i] / ((real)sqrt(s) * correction + eps);
    }
}

static void move_stretch(const void *task, int64_t which)
{
    const Change *change = task;
    if (change->a->amsgrad)
        move(change, 1, which * STRETCH);
    else
        move(change, 0, which * STRETCH);
}

static void follow_stretch(const void *task, int64_t which)
{
    const Change *change = task;
    const int64_t first = which * STRETCH, count = least(STRETCH, change->a->size - first);
    const real *restrict flat = change->a->flat + first;
    real *restrict average = change->a->average + first;
    for (int64_t i = 0; i < count; i++) average[i] += change->newest * (flat[i] - average[i]);
}

/* The running mean of the parameters is a plain mean at first. */
static real share_of_newest(const Adam *a)
{
    const double count = (double)a->updates[0], lowest = 1 - a->average_decay;
    return (real)(1 / count > lowest ? 1 / count : lowest);
}

/* One step where it is due: `proceed` 1: yes, 0: no, -1: always. Returns whether the gradient was finite. One that is not
   changes no parameter; with `proceed` -1 the moments fade as they would under a gradient of zero. */
int64_t sab_adam(const Adam *a, int64_t proceed)
{
    const real norm = norm_of(a->size, a->grad);
    const int finite = isfinite(norm), due = finite && proceed != 0;
    if (!due && proceed >= 0) return finite;
    if (due) {
        a->updates[0]++;
        a->norm[0] = norm;
    }
    const real scale = finite ? shorten(a, norm, due) : 0;
    const double rate = rate_at(a), count = a->updates[0] > 1 ? (double)a->updates[0] : 1;
    const real step = due ? (real)(rate / (1 - pow(a->beta_1, count))) : 0;
    const real correction = (real)(1 / sqrt(1 - pow(a->beta_2, count)));
    if (due && a->weight_decay != 0)
        for (int64_t i = a->decay_first; i < a->decay_last; i++) a->flat[i] *= (real)(1 - rate * a->weight_decay);
    const Change change = {a, scale, step, correction, share_of_newest(a)};
    const int64_t stretches = (a->size + STRETCH - 1) / STRETCH;
    share(stretches, PARAMETER * a->size, move_stretch, &change);
    if (due && a->average) share(stretches, PARAMETER * a->size, follow_stretch, &change);
    return finite;
}
