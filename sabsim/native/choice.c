/* The choice of what is recalled: the k_top slots of greatest cosine with the query. */

#include "learner.h"

/* The best so far in a choice of `reads` slots: greatest `choice` first, of equal ones the first that came. */
typedef struct {
    int64_t reads;
    int64_t held;
    int64_t *index;
    real *score;
    real *choice;
} Best;

static inline void consider(Best *best, int64_t i, real a, real choice)
{
    const int64_t last = best->reads - 1;
    if (best->held == best->reads && !(choice > best->choice[last])) return;
    int64_t k = best->held < best->reads ? best->held++ : last;
    for (; k > 0 && choice > best->choice[k - 1]; k--) {
        best->choice[k] = best->choice[k - 1];
        best->score[k] = best->score[k - 1];
        best->index[k] = best->index[k - 1];
    }
    best->choice[k] = choice;
    best->score[k] = a;
    best->index[k] = i;
}

/* Fills `bound` with what no slot's choice exceeds; returns what the choice of the last one to be read is at least. */
static real bound_choices(const Learner *l, int64_t b, const real *q, real sharpness, const real *noise, Best *best)
{
    const int64_t n = l->n, filled = l->filled[b];
    const real *key = l->keys + b * l->slots * n, *stretch = l->stretch + b * l->slots;
    const double rounding = 4 * n * UNIT_ROUNDING, size = fabs((double)sharpness * l->key_sharpness[0]);
    const real g = sharpness * l->key_sharpness[0], near = (real)(FAR / (l->drift[0] + 1e-30));
    const real slope = (real)(size * (8. / 7 * l->drift[0] + rounding * l->drift[1]) * (1 + 1e-6));
    const real least_slack = (real)(size * rounding + 8 * UNIT_ROUNDING * (size + 100)), most_slack = (real)(2.1 * size);
    best->held = 0;
    for (int64_t i = 0; i < filled; i++, key += n) {
        const real by = g * dot(n, key, q) + (noise ? noise[i] : 0);
        const real slack = least_slack + (stretch[i] < near ? slope * stretch[i] : most_slack);
        l->bound[i] = by + slack;
        consider(best, i, 0, by - slack);
    }
    return best->choice[best->held - 1];
}

/* `score` (rows) becomes the keys' (rows, n) product with q, four keys at a time: alone, each sum would wait for the one
   before. */
static void dot_rows(int64_t rows, int64_t n, const real *key, const real *q, real *score)
{
    int64_t i = 0;
    for (; i + 4 <= rows; i += 4, key += 4 * n) {
        vec sum[4] = {{0}, {0}, {0}, {0}};
        int64_t j = 0;
        for (; j + LANES <= n; j += LANES) {
            const vec right = load(q + j);
            for (int64_t r = 0; r < 4; r++) sum[r] += load(key + r * n + j) * right;
        }
        for (int64_t r = 0; r < 4; r++)
            score[i + r] = sum_of(sum[r]) + (j < n ? dot_rest(n - j, key + r * n + j, q + j) : 0);
    }
    for (; i < rows; i++, key += n) score[i] = dot(n, key, q);
}

/* The K slots of stream b that score highest against the unit query q: `index` and their scores `score` (K), which has room
   for K numbers more. `noise` (S), unless NULL, is added for the choice alone. Empty slots, which all lie behind the filled
   ones, take the places that are left. */
static void choose_slots(
    const Learner *l, int64_t b, const real *q, real sharpness, const real *noise, int64_t *index, real *score)
{
    const int64_t n = l->n, filled = l->filled[b];
    const real *key = l->keys + b * l->slots * n;
    Best best = {l->reads, 0, index, score, score + l->reads};
    real threshold = 0;
    if (by_base(l, b) && filled) {
        threshold = bound_choices(l, b, q, sharpness, noise, &best);
        int64_t in_doubt = 0;
        for (int64_t i = 0; i < filled; i++) in_doubt += !(l->bound[i] < threshold);
        if (in_doubt > l->room) become_plain(l, b);
    }
    const int base = by_base(l, b);
    const real g = sharpness * l->key_sharpness[0];
    best.held = 0;
    if (!base) dot_rows(filled, n, key, q, l->bound);
    for (int64_t i = 0; i < filled; i++) {
        if (base && l->bound[i] < threshold) continue;
        const real a = g * (base ? dot(n, exact_key(l, b, i), q) : l->bound[i]);
        consider(&best, i, a, noise ? a + noise[i] : a);
    }
    for (int64_t i = filled; best.held < best.reads; i++) consider(&best, i, EMPTY, EMPTY);
}
